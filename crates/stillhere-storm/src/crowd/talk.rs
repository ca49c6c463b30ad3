//! What a member says and hears in its room.
//!
//! It becomes a user as the [`super::door`] lets it, joins, and then says and signals by the clock, whether anything
//! comes back or not: what is due while nobody answers is said all the same and waits for its answer. The peer inside
//! the client says again what a lost link swallowed, logs in again and joins again.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use stillhere_client::{Client, Failed, Recovery, Request, Ticket, Welcomed};
use stillhere_core::close::Cause;
use stillhere_core::detector::Status;
use stillhere_core::wire::error::ErrorCode;
use tokio::time::{Sleep, sleep_until};

use super::common::{Common, Standing, micros};
use super::door::Pass;

/// How soon a member looks again whether it may talk.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long it rests after it was refused or its link was lost.
const REST: Duration = Duration::from_secs(1);
/// Nobody rests longer, whatever the target says.
const REST_MAX: Duration = Duration::from_secs(60);
/// How often a member shows that somebody is there, if it says nothing: a session without an act is idle after half an
/// hour, and on leave with every right.
const ACT_EVERY: Duration = Duration::from_secs(600);
/// What is further behind than this isn't said any more: then it is the storm that was late, and a burst of what it
/// owes would only break the target's rates.
const OWED_MAX: Duration = Duration::from_secs(5);

/// The name of a room of the crowd's.
pub(super) fn room_name(room: u32) -> String {
    format!("storm-crowd-{room}")
}

/// One member's part in its room.
pub(super) struct Talk {
    stage: Stage,
    /// Whether it has become a user by a token. The peer then does it again by itself.
    has_entered: bool,
    /// What the welcome called it.
    user: Option<Box<str>>,
    /// On the crowd's clock: when the next step towards the room, the next message, signal and act are due.
    step_due: u64,
    say_due: Option<u64>,
    signal_due: Option<u64>,
    act_due: u64,
    said: u64,
    /// What was said and isn't answered, with when it was due. The client lets no more than 256 be under way.
    under_way: VecDeque<(Ticket, u64)>,
    /// What the client had counted of repeated messages.
    repeated: u64,
    /// The timer, and when it rings.
    alarm: Option<(u64, Pin<Box<Sleep>>)>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Outside,
    Entering(Ticket),
    Joining(Ticket),
    In,
}

/// What came in from a room, as far as it is of interest.
#[derive(Deserialize)]
struct Push<'a> {
    #[serde(borrow)]
    op: Cow<'a, str>,
    #[serde(borrow, default)]
    room: Option<Cow<'a, str>>,
    seq: Option<u64>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    user: Option<Cow<'a, str>>,
    status: Option<Status>,
    cause: Option<Cause>,
    #[serde(rename = "gen")]
    generation: Option<u64>,
    #[serde(rename = "ver")]
    version: Option<u64>,
}

/// The one field of an answer that is of interest.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    head: u64,
    seq: u64,
}

/// What a push tells of how the member itself stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// Only who is alive gets this.
    Alive,
    /// Who is on leave gets this; also who has read too slowly, once.
    Digest,
    /// Anybody gets it.
    None,
}

impl Talk {
    /// A member that hasn't begun.
    pub(super) fn new() -> Talk {
        Talk {
            stage: Stage::Outside,
            has_entered: false,
            user: None,
            step_due: 0,
            say_due: None,
            signal_due: None,
            act_due: u64::MAX,
            said: 0,
            under_way: VecDeque::new(),
            repeated: 0,
            alarm: None,
        }
    }

    /// Rings when [`Talk::act`] is to be called; `None` while there is nothing to wait for. It is kept from one time to
    /// the next, since it is waited for with every event.
    pub(super) fn alarm(&mut self, index: u32, common: &Common) -> Option<Pin<&mut Sleep>> {
        let due = self.due(index, common)?;
        match &mut self.alarm {
            Some((at, _)) if *at == due => {}
            Some((at, sleep)) => {
                *at = due;
                sleep.as_mut().reset(common.instant(due));
            }
            None => self.alarm = Some((due, Box::pin(sleep_until(common.instant(due))))),
        }
        self.alarm.as_mut().map(|(_, sleep)| sleep.as_mut())
    }

    /// When something is due, on the crowd's clock.
    fn due(&self, index: u32, common: &Common) -> Option<u64> {
        if common.is_hushed() {
            return None;
        }
        match self.stage {
            Stage::Outside => is_linked(index, common).then_some(self.step_due),
            Stage::Entering(_) | Stage::Joining(_) => None,
            Stage::In => [self.say_due, self.signal_due, Some(self.act_due)].into_iter().flatten().min(),
        }
    }

    /// Does what is due.
    pub(super) fn act(&mut self, index: u32, client: &mut Client, common: &Common) {
        let now = common.micros();
        if self.due(index, common).is_none_or(|due| due > now) {
            return;
        }
        if self.stage == Stage::Outside {
            return self.step(index, client, common);
        }
        let room = room_name(common.rooms.borrow().room_of(index));
        if let (Some(due), Some(every)) = (self.say_due.filter(|due| *due <= now), common.crowd.say_every) {
            self.say(index, due, &room, client, common);
            self.say_due = Some(next(due, every, common));
        }
        if let (Some(due), Some(every)) = (self.signal_due.filter(|due| *due <= now), common.crowd.signal_every) {
            self.signal_due = Some(next(due, every, common));
            if let Ok(data) = RawValue::from_string(format!("[{},{due}]", common.nonce)) {
                client.signal(&room, &data, Some("storm"), None);
            }
        }
        if self.act_due <= now {
            self.act_due = now + micros(ACT_EVERY);
            client.back();
        }
    }

    /// The next step into the room.
    fn step(&mut self, index: u32, client: &mut Client, common: &Common) {
        let pass = common.door.pass(index);
        self.stage = match (&pass, self.has_entered) {
            (Pass::Wait, false) => return self.rest(LOOK_EVERY, common),
            (Pass::Shut, false) => {
                // It goes on as if it were in, so that what it can't say counts as unsaid.
                return self.begin(common);
            }
            (Pass::Token(token), false) => Stage::Entering(client.ask(&Request::Token { token })),
            (Pass::Free, _) | (_, true) => {
                let rooms = common.rooms.borrow();
                let room = room_name(rooms.room_of(index));
                let after = rooms.last(index);
                Stage::Joining(client.ask(&Request::Join { room: &room, after, at: None }))
            }
        };
    }

    fn rest(&mut self, span: Duration, common: &Common) {
        self.stage = Stage::Outside;
        self.step_due = common.micros() + micros(span.min(REST_MAX));
    }

    /// It is in. The first message and signal come at random moments, or all would speak at once.
    fn begin(&mut self, common: &Common) {
        let now = common.micros();
        let first = |every: Option<Duration>| every.map(|every| now + common.below(micros(every)));
        self.stage = Stage::In;
        self.say_due = self.say_due.or_else(|| first(common.crowd.say_every));
        self.signal_due = self.signal_due.or_else(|| first(common.crowd.signal_every));
        self.act_due = now + micros(ACT_EVERY);
    }

    fn say(&mut self, index: u32, due: u64, room: &str, client: &mut Client, common: &Common) {
        self.said += 1;
        let text = format!("storm {index}: {}", self.said);
        let mid = format!("{:08x}-{index}-{}", common.nonce, self.said);
        let ticket = client.ask(&Request::Say { room, text: &text, data: None, mid: Some(&mid) });
        self.under_way.push_back((ticket, due));
        common.unacknowledged.set(common.unacknowledged.get() + 1);
    }

    /// The server said hello.
    pub(super) fn welcomed(&mut self, welcomed: &Welcomed) {
        self.user = welcomed.user.as_deref().map(Into::into);
    }

    /// A step of the way back that the peer goes by itself.
    pub(super) fn recovered(&mut self, recovery: &Recovery, common: &Common) {
        match recovery {
            Recovery::Entered { .. } | Recovery::Rejoined { .. } => {}
            Recovery::NotEntered { .. } => {
                self.has_entered = false;
                self.rest(REST, common);
            }
            Recovery::NotRejoined { .. } => self.rest(REST, common),
        }
    }

    /// A request was answered.
    pub(super) fn answered(&mut self, index: u32, ticket: Ticket, result: Result<&str, &Failed>, common: &Common) {
        match self.stage {
            Stage::Entering(asked) if asked == ticket => match result {
                Err(Failed::Refused(refused)) if refused.code != ErrorCode::LOGGED_IN.number => {
                    self.rest(refused.retry.unwrap_or(REST).max(REST), common);
                }
                Ok(_) | Err(Failed::Refused(_)) => {
                    self.has_entered = true;
                    self.rest(Duration::ZERO, common);
                }
                Err(_) => self.rest(REST, common),
            },
            Stage::Joining(asked) if asked == ticket => match result {
                Ok(body) => self.joined(index, &read(body), common),
                Err(Failed::Refused(refused)) => self.rest(refused.retry.unwrap_or(REST).max(REST), common),
                Err(_) => self.rest(REST, common),
            },
            _ => self.said_answered(index, ticket, result, common),
        }
    }

    fn joined(&mut self, index: u32, answer: &Answer, common: &Common) {
        common.rooms.borrow_mut().joined(index, answer.head);
        if let (Some(user), false) = (&self.user, self.has_entered) {
            common.door.claimed(user, index);
        }
        self.begin(common);
    }

    fn said_answered(&mut self, index: u32, ticket: Ticket, result: Result<&str, &Failed>, common: &Common) {
        let Some(place) = self.under_way.iter().position(|(asked, _)| *asked == ticket) else { return };
        let Some((_, due)) = self.under_way.remove(place) else { return };
        if self.under_way.is_empty() {
            self.under_way = VecDeque::new();
        }
        common.unacknowledged.set(common.unacknowledged.get().saturating_sub(1));
        match result {
            Ok(body) => {
                let took = common.micros().saturating_sub(due);
                common.rooms.borrow_mut().acknowledged(index, read(body).seq);
                common.count(|tally| {
                    tally.crowd.said += 1;
                    tally.crowd.say_us.record(took);
                });
            }
            Err(_) => common.count(|tally| tally.crowd.unsaid += 1),
        }
    }

    /// Something was pushed; tells what it says of this member.
    pub(super) fn pushed(&mut self, index: u32, body: &str, common: &Common) -> Sign {
        let Ok(push) = serde_json::from_str::<Push<'_>>(body) else { return Sign::None };
        match (&*push.op, &push.room) {
            ("message", Some(room)) => {
                if let (Some(seq), true) = (push.seq, is_ours(room, index, common)) {
                    common.rooms.borrow_mut().received(index, seq);
                    common.count(|tally| tally.crowd.messages += 1);
                }
                Sign::Alive
            }
            ("signal", Some(_)) => {
                if let Some(sent) = push.data.and_then(|data| sent_at(data, common)) {
                    let took = common.micros().saturating_sub(sent);
                    common.count(|tally| {
                        tally.crowd.signals += 1;
                        tally.crowd.signal_us.record(took);
                    });
                }
                Sign::Alive
            }
            ("digest", _) => Sign::Digest,
            ("presence", _) => {
                someone_on_leave(&push, common);
                Sign::None
            }
            _ => Sign::None,
        }
    }

    /// Counts messages that came twice.
    pub(super) fn count_repeated(&mut self, repeated: u64, common: &Common) {
        let more = repeated - self.repeated;
        if more > 0 {
            self.repeated = repeated;
            common.count(|tally| tally.crowd.messages_doubled += more);
        }
    }
}

/// When the next one is due, ± 10 % after the one before was.
fn next(due: u64, every: Duration, common: &Common) -> u64 {
    let next = due + common.around(every).max(1);
    let owed_from = common.micros().saturating_sub(micros(OWED_MAX));
    next.max(owed_from)
}

fn is_linked(index: u32, common: &Common) -> bool {
    matches!(common.standing(index), Standing::Alive | Standing::Leave)
}

fn is_ours(room: &str, index: u32, common: &Common) -> bool {
    let own = common.rooms.borrow().room_of(index);
    room.strip_prefix("storm-crowd-").and_then(|number| number.parse().ok()) == Some(own)
}

/// When a signal was due, if it is of this crowd.
fn sent_at(data: &RawValue, common: &Common) -> Option<u64> {
    let (nonce, sent): (u32, u64) = serde_json::from_str(data.get()).ok()?;
    (nonce == common.nonce).then_some(sent)
}

/// Somebody hears that members of the crowd are on leave although they have a link, and beat.
fn someone_on_leave(push: &Push<'_>, common: &Common) {
    let is_leave = push.status == Some(Status::Leave) && matches!(push.cause, Some(Cause::Silent | Cause::Lossy));
    let (Some(user), Some(generation), Some(version), true) = (&push.user, push.generation, push.version, is_leave)
    else {
        return;
    };
    common.door.members_of(user, (generation, version)).for_each(|member| common.put_on_leave(member));
}

fn read(body: &str) -> Answer {
    serde_json::from_str(body).unwrap_or_default()
}
