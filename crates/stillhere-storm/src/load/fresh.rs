//! Connections that are opened for one request: until they are welcomed, then they go.

use std::rc::Rc;

use tokio::time::{Instant, timeout};

use super::link::End;
use super::v1::{self, V1};
use super::{Desk, PATIENCE, Request, Stage};
use crate::frame::talk::{self, Lost, Speaker, Wire};
use crate::plan::Asked;

/// Opens one connection after the other, for whichever request is due; as many as the load has connections do so side
/// by side. When all of them wait for a welcome, the next requests wait too, and that counts.
pub(super) async fn connections(desk: Rc<Desk>, index: u32) {
    let mut speaker = Speaker { n: desk.number(index), count: 0, rng: desk.rng(index) };
    while desk.stage.get() != Stage::Over {
        let Some(request) = desk.take() else {
            tokio::select! {
                () = desk.free.notified() => {}
                () = desk.bells[index as usize].notified() => {}
            }
            continue;
        };
        desk.sent();
        match timeout(PATIENCE, welcome(&desk, index, request, &mut speaker)).await.unwrap_or(Err(Lost::Silent.into()))
        {
            Ok(wire) => leave(&desk, index, wire).await,
            Err(end) => {
                desk.failed(1);
                desk.lost(end.name());
            }
        }
    }
}

async fn welcome(desk: &Desk, index: u32, request: Request, speaker: &mut Speaker) -> Result<Wire, End> {
    let stream = talk::connect(desk.target, PATIENCE).await?;
    let wire = match &desk.talk {
        Some(talk) => {
            let mut wire = Wire::new(stream, talk.framing);
            speaker.count = 0;
            talk.greet(&mut wire, speaker).await?;
            wire
        }
        None => {
            let mut wire = Wire::new(stream, v1::FRAMING);
            V1::new(Asked::Connect, &desk.tag, index).enter(&mut wire).await?;
            wire
        }
    };
    desk.answered(request, Instant::now());
    Ok(wire)
}

/// Says goodbye where there is one, and leaves no port behind: at a thousand connections a second those that rest for
/// a minute would soon be all there are.
async fn leave(desk: &Desk, index: u32, mut wire: Wire) {
    if desk.talk.is_none() {
        V1::new(Asked::Connect, &desk.tag, index).leave(&mut wire).await;
    }
    wire.reset();
}
