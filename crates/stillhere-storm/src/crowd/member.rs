//! One honest client: it comes in, beats, comes back when its link is lost, and counts what it sees.

use std::collections::VecDeque;
use std::future::pending;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use stillhere_client::{Client, Continuity, Loss, PeerEvent, Stop};
use tokio::time::Sleep;

use super::common::{Common, Standing, micros};
use super::talk::{Sign, Talk};
use crate::plan::Mode;

/// A timer of the runtime fires up to two milliseconds late, by its grain and the kernel's; a beat that is sent within
/// that is on time, and one that is later counts from when it was due.
const GRAIN: Duration = Duration::from_millis(2);
/// Beats whose answers are awaited. A link without a sign of life is lost after 2.5 intervals, so only a target that
/// says other things and answers no beat gets here; the oldest then counts as unanswered.
const BEATS_MAX: usize = 64;

/// A member's life, from its coming in to its goodbye.
pub(super) async fn life(index: u32, common: Rc<Common>) {
    let crowd = &common.crowd;
    let seed = common.seed.wrapping_add(u64::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let builder = Client::builder().interval(crowd.interval).seed(seed);
    let builder = match crowd.mode {
        Mode::Legacy => builder.legacy(),
        Mode::V1 | Mode::Frame => builder.name("storm").user(format!("storm-{index}")),
    };
    // Only a label that is too long or a missing seed could refuse it.
    let Ok(mut client) = builder.start(common.target) else { return };
    let mut member = Member {
        index,
        is_legacy: crowd.mode == Mode::Legacy,
        is_suspect: false,
        fresh_detect_ms: 0,
        open: VecDeque::new(),
        talk: (crowd.rooms > 0 && crowd.mode == Mode::V1).then(|| Box::new(Talk::new())),
    };
    member.stay(&mut client, &common).await;
    // Boxed: a goodbye is short and needs more room than the life before it.
    match member.is_legacy {
        // The tutorial's client never says goodbye.
        true => Box::pin(client.hang_up()).await,
        false => Box::pin(client.bye()).await,
    }
}

/// A beat that isn't answered, in eight bytes.
struct OpenBeat {
    /// How late it was sent, in microseconds.
    late: u32,
    /// When, in milliseconds by the crowd's clock.
    sent_ms: u32,
}

struct Member {
    index: u32,
    is_legacy: bool,
    /// It got a digest, and the next beat will tell why.
    is_suspect: bool,
    /// How long a session that has just begun, or is on leave, may be silent, in milliseconds.
    fresh_detect_ms: u32,
    /// The beats that aren't answered, in order.
    open: VecDeque<OpenBeat>,
    talk: Option<Box<Talk>>,
}

impl Member {
    /// Lives until the crowd is over, or the client was told to stay away.
    async fn stay(&mut self, client: &mut Client, common: &Common) {
        let over = common.over.notified();
        tokio::pin!(over);
        if common.is_closed() {
            // It was spawned in the last moment and hasn't been woken with the others.
            return;
        }
        loop {
            let alarm = self.talk.as_mut().and_then(|talk| talk.alarm(self.index, common));
            tokio::select! {
                biased;
                () = &mut over => return,
                event = client.next_peer_event() => {
                    let Some(event) = event else { return };
                    self.hear(&event, common);
                    while let Some(event) = client.take_peer_event() {
                        self.hear(&event, common);
                    }
                }
                () = ring(alarm) => {}
            }
            if let Some(talk) = &mut self.talk {
                talk.count_repeated(client.repeated(), common);
                talk.act(self.index, client, common);
            }
        }
    }

    fn hear(&mut self, event: &PeerEvent, common: &Common) {
        match event {
            PeerEvent::Linked { .. } if self.is_legacy => common.stand(self.index, Standing::Alive),
            PeerEvent::Linked { .. } => {}
            PeerEvent::Welcomed(welcomed) => {
                self.fresh_detect_ms = millis(welcomed.detect);
                self.came_in(&welcomed.continuity, common);
                if let Some(talk) = &mut self.talk {
                    talk.welcomed(welcomed);
                }
            }
            PeerEvent::BeatSent { late } => self.beat_sent(*late, common),
            PeerEvent::BeatAnswered { rtt, detect } => self.beat_answered(*rtt, *detect, common),
            PeerEvent::Pushed { body, .. } => self.pushed(body, common),
            PeerEvent::Reply { ticket, result } => {
                if let Some(talk) = &mut self.talk {
                    let result = match result {
                        Ok(body) => Ok(&**body),
                        Err(failed) => Err(&**failed),
                    };
                    talk.answered(self.index, *ticket, result, common);
                }
            }
            PeerEvent::Recovery(recovery) => {
                if let Some(talk) = &mut self.talk {
                    talk.recovered(recovery, common);
                }
            }
            PeerEvent::Closed { code, .. } => {
                common.count_close(*code);
                self.unlinked(common);
            }
            PeerEvent::Lost(loss) => {
                common.count(|tally| *tally.crowd.losses.entry(word(loss).to_owned()).or_insert(0) += 1);
                self.unlinked(common);
            }
            PeerEvent::Stopped(Stop::Told(_) | Stop::HelloRefused(_)) => {
                if common.standing(self.index) != Standing::Waiting {
                    common.count(|tally| tally.crowd.sessions_lost += 1);
                }
                self.unlinked(common);
            }
            PeerEvent::Stopped(Stop::Goodbye)
            | PeerEvent::IntervalChanged(_)
            | PeerEvent::Refused(_)
            | PeerEvent::Reconnecting { .. } => {}
        }
    }

    fn came_in(&mut self, continuity: &Continuity, common: &Common) {
        let mut standing = Standing::Alive;
        match continuity {
            Continuity::Fresh => {}
            Continuity::Resumed => common.count(|tally| tally.crowd.resumed += 1),
            Continuity::Broken { reason } => {
                common.count(|tally| tally.crowd.sessions_lost += 1);
                if reason == "expired" {
                    standing = Standing::Leave;
                }
            }
        }
        self.is_suspect = false;
        common.stand(self.index, standing);
    }

    fn beat_sent(&mut self, late: Duration, common: &Common) {
        common.count(|tally| tally.crowd.sent += 1);
        if self.is_legacy {
            return;
        }
        if self.open.len() >= BEATS_MAX
            && let Some(beat) = self.open.pop_front()
        {
            unanswered([beat], common);
        }
        let late = if late > GRAIN { late } else { Duration::ZERO };
        let sent_ms = (common.micros() / 1000) as u32;
        self.open.push_back(OpenBeat { late: u32::try_from(late.as_micros()).unwrap_or(u32::MAX), sent_ms });
    }

    fn beat_answered(&mut self, rtt: Duration, detect: Option<Duration>, common: &Common) {
        let late = self.open.pop_front().map_or(0, |beat| u64::from(beat.late));
        if self.open.is_empty() {
            self.open = VecDeque::new();
        }
        common.count(|tally| {
            tally.crowd.answered += 1;
            tally.crowd.rtt_us.record(micros(rtt).saturating_add(late));
        });
        let Some(detect_ms) = detect.map(millis) else { return };
        // On leave a session has a fresh one's patience until it has earned to be alive; then it has more.
        if std::mem::take(&mut self.is_suspect) && detect_ms <= self.fresh_detect_ms {
            common.put_on_leave(self.index);
        } else if detect_ms > self.fresh_detect_ms && common.standing(self.index) == Standing::Leave {
            common.stand(self.index, Standing::Alive);
        }
    }

    fn pushed(&mut self, body: &str, common: &Common) {
        let sign = match &mut self.talk {
            Some(talk) => talk.pushed(self.index, body, common),
            // Who doesn't talk is only told of what it was put on leave for.
            None if body.contains("\"digest\"") => Sign::Digest,
            None => Sign::None,
        };
        match sign {
            Sign::None => {}
            Sign::Alive => {
                self.is_suspect = false;
                if common.standing(self.index) == Standing::Leave {
                    common.stand(self.index, Standing::Alive);
                }
            }
            // A second one with nothing else between needs no beat to be believed.
            Sign::Digest if std::mem::replace(&mut self.is_suspect, true) => common.put_on_leave(self.index),
            Sign::Digest => {}
        }
    }

    fn unlinked(&mut self, common: &Common) {
        unanswered(std::mem::take(&mut self.open), common);
        // A legacy session ends with its link.
        let ended = u64::from(self.is_legacy && common.standing(self.index) == Standing::Alive);
        common.stand(self.index, Standing::Out);
        if ended > 0 {
            common.count(|tally| tally.crowd.sessions_lost += ended);
        }
    }
}

/// Counts beats that nobody answers any more. They have waited until now, and a round trip would have been longer still:
/// without them a target that answers nobody would look as fast as before.
fn unanswered(beats: impl IntoIterator<Item = OpenBeat>, common: &Common) {
    let now_ms = (common.micros() / 1000) as u32;
    for OpenBeat { late, sent_ms } in beats {
        let waited = u64::from(now_ms.wrapping_sub(sent_ms)) * 1000;
        common.count(|tally| {
            tally.crowd.unanswered += 1;
            tally.crowd.rtt_us.record(waited.saturating_add(late.into()));
        });
    }
}

async fn ring(alarm: Option<Pin<&mut Sleep>>) {
    match alarm {
        Some(alarm) => alarm.await,
        None => pending().await,
    }
}

fn millis(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}

/// What samples call it.
fn word(loss: &Loss) -> &'static str {
    match loss {
        Loss::Unreachable(_) => "unreachable",
        Loss::ConnectTimeout => "connect timeout",
        Loss::Disconnected(_) => "disconnected",
        Loss::NoWelcome => "no welcome",
        Loss::HelloRefused => "hello refused",
        Loss::Zombie => "zombie",
        Loss::Malformed(_) => "malformed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crowd::tests::{common, crowd};

    #[test]
    fn a_member_fits_into_a_kibibyte_with_its_task() {
        // The task around it has 104 bytes, and comes in steps of 128.
        let size = size_of_val(&life(0, common(crowd(1))));
        assert!(size <= 1024 - 104, "{size} bytes");
    }
}
