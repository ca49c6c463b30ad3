//! One connection of the load: what is due goes out, what comes is matched to it.

use std::collections::VecDeque;
use std::rc::Rc;

use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::v1::{self, V1};
use super::{BACKOFF_FIRST, Desk, PATIENCE, Request, Stage, rest};
use crate::frame::Framing;
use crate::frame::talk::{self, Lost, Speaker, Talk, Wire};
use crate::plan::Asked;

/// Requests of a connection that are sent and not answered; the next stay due until some are.
const OPEN_MAX: usize = 1000;
/// Says of a connection that are under way: the gateway takes 256 requests of a session, beats among them.
const SAYS_MAX: usize = 200;
/// Bytes that the target hasn't taken; no further request is written before.
const UNSENT_MAX: usize = 64 * 1024;

/// Why a connection ended.
pub(super) enum End {
    Lost(Lost),
    /// The gateway said goodbye, with this code.
    Closed(u16),
    /// It refused what is needed to be let in, with this code.
    Refused(u16),
}

impl From<Lost> for End {
    fn from(lost: Lost) -> End {
        End::Lost(lost)
    }
}

impl End {
    /// What samples call it.
    pub(super) fn name(&self) -> String {
        match self {
            End::Lost(lost) => lost.name().to_owned(),
            End::Closed(code) => format!("closed {code}"),
            End::Refused(code) => format!("error {code}"),
        }
    }
}

/// Keeps one connection until the load is over.
pub(super) async fn connection(desk: Rc<Desk>, index: u32) {
    desk.turn(index).await;
    let mut rng = desk.rng(index);
    let speaker = Speaker { n: desk.number(index), count: 0, rng: desk.rng(index) };
    let v1 = V1::new(desk.load.what, &desk.tag, index);
    let mut line = Line { desk, index, next: u64::from(index), open: VecDeque::new(), speaker, v1 };
    let mut backoff = BACKOFF_FIRST;
    while line.desk.stage.get() != Stage::Over {
        let end = match line.enter().await {
            Ok(mut wire) => {
                backoff = BACKOFF_FIRST;
                match line.live(&mut wire).await {
                    Ok(()) => return line.leave(wire).await,
                    Err(end) => end,
                }
            }
            Err(end) => end,
        };
        line.desk.lost(end.name());
        line.desk.failed(line.open.len() as u64);
        line.open.clear();
        // It may have been rung for: then the next one that is free takes what it can't.
        line.desk.free.notify_one();
        sleep(rest(&mut backoff, &mut rng)).await;
    }
}

struct Line {
    desk: Rc<Desk>,
    index: u32,
    /// The next request of its own.
    next: u64,
    /// Sent and not answered, in the order in which they were sent, with when that was.
    open: VecDeque<(Request, Instant)>,
    speaker: Speaker,
    v1: V1,
}

impl Line {
    /// Opens the connection and says hello.
    async fn enter(&mut self) -> Result<Wire, End> {
        let stream = talk::connect(self.desk.target, PATIENCE).await?;
        match talk_of(&self.desk) {
            Some(talk) => {
                let mut wire = Wire::new(stream, talk.framing);
                self.speaker.count = 0;
                timeout(PATIENCE, talk.greet(&mut wire, &mut self.speaker)).await.unwrap_or(Err(Lost::Silent))?;
                Ok(wire)
            }
            None => {
                let mut wire = Wire::new(stream, v1::FRAMING);
                timeout(v1::ENTERING, self.v1.enter(&mut wire)).await.unwrap_or(Err(End::Lost(Lost::Silent)))?;
                Ok(wire)
            }
        }
    }

    /// Asks and hears until the load is over or the connection lost.
    async fn live(&mut self, wire: &mut Wire) -> Result<(), End> {
        let mut spoke = Instant::now();
        loop {
            self.hear(wire)?;
            if self.ask(wire) {
                spoke = Instant::now();
            }
            wire.flush()?;
            self.settle(wire);
            if self.desk.stage.get() == Stage::Over {
                return Ok(());
            }
            let alarm = if self.is_v1() { Some(spoke + self.v1.interval) } else { None };
            let patience = self.open.front().filter(|_| self.desk.load.closed).map(|(_, sent)| *sent + PATIENCE);
            tokio::select! {
                () = wire.ready() => wire.read()?,
                () = self.desk.bells[self.index as usize].notified() => {}
                () = self.desk.free.notified(), if self.desk.load.closed && self.open.is_empty() => {}
                () = until(alarm) => {
                    // Whoever asks rarely lives all the same.
                    Framing::STILLHERE.write(b"", wire.out());
                    spoke = Instant::now();
                }
                () = until(patience) => return Err(Lost::Silent.into()),
            }
        }
    }

    /// Writes what is due, as far as it may; whether there was anything.
    fn ask(&mut self, wire: &mut Wire) -> bool {
        let most = match self.desk.load.what {
            _ if self.desk.load.closed => 1,
            Asked::Say => SAYS_MAX,
            Asked::Beat | Asked::Connect | Asked::Frame => OPEN_MAX,
        };
        let mut any = false;
        while self.open.len() < most
            && wire.unsent() < UNSENT_MAX
            && let Some(request) = self.take()
        {
            match talk_of(&self.desk) {
                Some(talk) => talk.say(&talk.beat, wire, &mut self.speaker),
                None => self.v1.ask(request.n, wire.out()),
            }
            self.open.push_back((request, Instant::now()));
            self.desk.sent();
            any = true;
        }
        any
    }

    fn take(&mut self) -> Option<Request> {
        if self.desk.load.closed {
            return self.desk.take();
        }
        if self.desk.stage.get() != Stage::Asking || self.next >= self.desk.released.get() {
            return None;
        }
        let request = Request { n: self.next, due: self.desk.due(self.next)? };
        self.next += u64::from(self.desk.load.connections);
        Some(request)
    }

    /// Takes what came.
    fn hear(&mut self, wire: &mut Wire) -> Result<(), End> {
        let now = Instant::now();
        let mut reply = Vec::new();
        while let Some(body) = wire.next()? {
            match talk_of(&self.desk) {
                Some(talk) => {
                    if talk.beat.is_answered_by(body)
                        && let Some((request, _)) = self.open.pop_front()
                    {
                        self.desk.answered(request, now);
                    }
                }
                None => match self.v1.hear(body, &mut reply) {
                    v1::Heard::Answer(n) => {
                        if let Some(request) = self.close(n) {
                            self.desk.answered(request, now);
                        }
                    }
                    v1::Heard::Refusal(n, code) => {
                        if self.close(n).is_some() {
                            self.desk.failed(1);
                            self.desk.lost(End::Refused(code).name());
                        }
                    }
                    v1::Heard::Bye(code) => return Err(End::Closed(code)),
                    v1::Heard::Aside => {}
                },
            }
        }
        wire.out().append(&mut reply);
        Ok(())
    }

    /// An exchange without a reply is over when the kernel has taken it.
    fn settle(&mut self, wire: &Wire) {
        if wire.unsent() == 0 && talk_of(&self.desk).is_some_and(|talk| !talk.beat.wants_reply()) {
            let now = Instant::now();
            self.open.drain(..).for_each(|(request, _)| self.desk.answered(request, now));
        }
    }

    fn close(&mut self, n: u64) -> Option<Request> {
        let at = self.open.iter().position(|(request, _)| request.n == n)?;
        self.open.remove(at).map(|(request, _)| request)
    }

    async fn leave(mut self, mut wire: Wire) {
        if self.is_v1() {
            self.v1.leave(&mut wire).await;
        }
    }

    fn is_v1(&self) -> bool {
        talk_of(&self.desk).is_none()
    }
}

/// What is exchanged, if it isn't v1.
fn talk_of(desk: &Desk) -> Option<&Talk> {
    desk.talk.as_ref().filter(|_| desk.load.what == Asked::Frame)
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
