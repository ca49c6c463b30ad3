//! Frames that stop in the middle.

use std::rc::Rc;

use tokio::time::{Instant, timeout_at};

use super::ground::{DUE, Ground};
use super::{Against, Attack, Life};

pub(super) const ATTACK: Attack = Attack {
    name: "half-frames",
    about: "Announces a frame, sends half of it and falls silent: half a body, half a header, or half a body in a \
            session after a good hello. A sound server bounds what it keeps of incomplete frames, and closes when one \
            isn't complete in time.",
    against: Against::Any,
    size: 64 * 1024,
    life: |ground, index| -> Life { Box::pin(attacker(ground, index)) },
};

async fn attacker(ground: Rc<Ground>, index: u32) {
    while ground.turn().await {
        let Some(mut link) = ground.connect().await else { continue };
        if index % 3 == 2 && ground.is_ours() && link.hello(None).await.is_none() {
            continue;
        }
        let (beginning, fillers) = half(&ground, index % 3 == 1);
        // Whoever reads slowly is as much overdue as one that reads and waits.
        let due = Instant::now() + DUE;
        let half = async { link.send(&beginning).await && link.fill(fillers).await };
        if timeout_at(due, half).await != Ok(false) {
            link.outlast(due).await;
        }
    }
}

/// Half a frame: its beginning, which is a good one, and how many fillers come then. Or half a header, if there is one.
fn half(ground: &Ground, only_header: bool) -> (Vec<u8>, usize) {
    const BEGINNING: &[u8] = br#"{"op":"hello","v":1,"client":""#;
    let (framing, body) = (ground.framing, ground.body_size());
    let mut beginning = Vec::new();
    framing.write_length(ground.announced(body as u64), &mut beginning);
    let header = beginning.len();
    if only_header && header > 1 {
        beginning.truncate(header / 2);
        return (beginning, 0);
    }
    beginning.extend_from_slice(&BEGINNING[..BEGINNING.len().min(body / 2)]);
    let fillers = body / 2 - (beginning.len() - header);
    (beginning, fillers)
}

#[cfg(test)]
mod tests {
    use super::super::stand::{self, Stand};
    use super::*;

    #[tokio::test]
    async fn exactly_half_is_sent() {
        let stand = Stand::new(stand::record).await;
        stand.answers(vec![stand::frame(&serde_json::json!({ "op": "welcome" }))]);
        let body = ATTACK.size as usize / 2;
        stand
            .attack_while(
                ATTACK.name,
                3,
                stand.heard(|links| {
                    let lengths: Vec<_> = links.iter().map(|link| link.bytes.len()).collect();
                    let hello = links.iter().any(|link| link.bytes.len() > 4 + body && link.bytes.ends_with(b"xx"));
                    lengths.contains(&2) && lengths.contains(&(4 + body)) && hello
                }),
            )
            .await;
        assert_eq!(stand.counts().overdue, 0);
    }

    #[tokio::test]
    async fn a_target_that_has_no_long_frames_gets_half_a_short_one() {
        let mut stand = Stand::new(stand::record).await;
        stand.framing = stand::FOREIGN;
        let (beginning, fillers) = half(&stand.ground(ATTACK.name), false);
        assert_eq!((beginning.len() + fillers, &beginning[..2]), (2 + 500, &1002_u16.to_le_bytes()[..]));
    }
}
