//! A session: what survives a link, and the status it has at each moment.
//!
//! The status is the worst of three: what the detector says of the peer, whether a link is there, and whether the
//! client is away on purpose or for idleness. The record is 64 bytes, one cache line, so that a beat touches nothing
//! else; what few sessions need stands beside it, apart.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::chat::Chat;
use crate::close::Cause;
use crate::detector::{Rule, Status};
use crate::event::{Change, Identity, Keepsake, LinkId, Mode, Peer, Terms};
use crate::life::{Life, Turn};
use crate::limits::{HISTORY_MAX, INTERVAL_MAX, INTERVAL_MIN};
use crate::replay::Replay;
use crate::secret::{SecretHash, SessionId};
use crate::time::Time;

/// Whether the client is away though its link is fine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Away {
    /// It isn't.
    No,
    /// It said so.
    Declared,
    /// It has only beaten for a long time.
    Idle,
}

/// Whether the session has a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attachment {
    Linked,
    /// The link is gone for so short a time that the client may be back before anyone notices.
    Grace,
    Dropped,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    life: Life,
    /// Valid beats received.
    pub beats: u64,
    /// What few sessions need.
    extra: Option<Box<Extra>>,
    link: u32,
    /// The wheel's tick at which this session is looked at; owned by the shard.
    pub armed: u32,
    /// The legacy client's process, when it is an ordinary number. Others stand in the labels.
    pid: Option<NonZeroU32>,
    /// Why the status is what it is; `None` for a session whose status never changed.
    cause: Option<Cause>,
    /// Why the detector says leave, while it does.
    life_cause: Option<Cause>,
    away: Away,
    attachment: Attachment,
}

/// What stands beside the record of a session that is more than a healthy legacy one.
#[derive(Debug, Default)]
struct Extra {
    /// Apart, since it is large and a legacy session behind an address translator needs labels only.
    v1: Option<Box<V1>>,
    labels: Labels,
    history: Vec<Change>,
}

/// What a legacy client says of itself, beyond an ordinary process id and its own address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// Its `ip`, where that isn't the address it comes from; at most 64 bytes.
    pub ip: Option<Box<str>>,
    /// Its `pid`, where that isn't a positive 32-bit number; at most 64 bytes.
    pub pid: Option<Box<str>>,
}

/// What a v1 session has and a legacy one hasn't.
#[derive(Debug)]
pub struct V1 {
    /// Its name.
    pub id: SessionId,
    /// The current secret's hash.
    pub secret: SecretHash,
    /// The one before: valid until a frame proves that the client has the current one, and known as old thereafter.
    pub previous: Option<SecretHash>,
    /// Whether a frame has come after the newest welcome, or there is no secret before the current.
    pub proven: bool,
    /// How many links it has had; each welcome carries the number, and only the newest link may end the session.
    pub generation: u32,
    /// Who it is, or claims to be.
    pub user: Option<Box<str>>,
    /// What it has as a user; `None` before it is one.
    pub chat: Option<Box<Chat>>,
    /// Pushes that the client may not have.
    pub replay: Option<Box<Replay>>,
    /// Bytes of the replay, if they are counted among those of sessions without a link.
    pub(crate) weight: usize,
    /// Whether it is in the order of those.
    pub(crate) is_weighed: bool,
    /// What kind of client.
    pub client: Option<Box<str>>,
    /// Where its newest link came from.
    pub peer: Peer,
    /// When it began.
    pub began_at: Time,
    /// When its link dropped; meaningful without a link.
    pub(crate) dropped_at: Time,
    /// Its last op that wasn't a beat.
    pub(crate) last_act: Option<Time>,
    /// Pushes sent since its first welcome.
    pub pushes: u64,
    /// Pushes the client has handled.
    pub acked: u64,
    /// Whether counting has begun again with a welcome that may not have arrived: who hasn't got it counts as before.
    pub(crate) counts_anew: bool,
    /// The last round trip measured, in microseconds.
    pub rtt_us: Option<u32>,
    /// The server's last request for a beat that wasn't answered: its id, and when it was sent.
    pub ask: Option<(u32, Time)>,
    /// How many requests for a beat were sent.
    pub asks: u32,
    /// Whether the server may stretch the interval: the client asked for none.
    pub adaptive: bool,
    /// Signs of life in a row that came in time, neither early nor missed, at the present interval; for profiles that
    /// adapt it.
    pub steady: u8,
    /// Malformed frames.
    pub malformed: u8,
    /// Requests that the store or other shards haven't answered.
    pub(crate) under_way: u16,
}

/// A change of status together with what it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The status before.
    pub from: Status,
    /// The change.
    pub change: Change,
}

/// What time alone brings to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A beat is missing.
    Missed {
        /// How many are, by now.
        nth: u32,
        /// How long after its last frame the peer is on leave for this; only at the miss that put it there.
        detected: Option<Duration>,
        /// What it did to the status.
        changed: Option<Changed>,
    },
    /// The link's grace is over, or the client became idle.
    Turned(Option<Changed>),
    /// The link has been silent for twice its bound.
    Cut {
        /// When.
        at: Time,
    },
    /// The session is over.
    Over {
        /// When.
        at: Time,
    },
}

/// What one sign of life did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// It came too early to move the cursor.
    pub early: bool,
    /// The time since the last one.
    pub gap: Duration,
    /// What it did to the status.
    pub changed: Option<Changed>,
    /// The detector had put the peer on leave, but it was here.
    pub false_leave: bool,
}

/// A session on its way to another shard.
#[derive(Debug)]
pub struct Moved {
    pub(crate) session: Session,
    /// Times in `session` count from the shard that it leaves; this is that shard's now.
    pub(crate) now: Time,
}

const NO_LINK: u32 = u32::MAX;

impl Session {
    /// A legacy session that begins with its first beat.
    pub fn legacy(terms: &Terms, link: LinkId, now: Time, returned: bool) -> Session {
        Session::on(Session::life(terms, terms.interval, now, returned), Some(link), None, returned)
    }

    /// A v1 session on its first link.
    pub fn v1(terms: &Terms, link: LinkId, interval: Duration, v1: V1, now: Time, returned: bool) -> Session {
        let extra = Extra { v1: Some(Box::new(v1)), ..Extra::default() };
        Session::on(Session::life(terms, interval, now, returned), Some(link), Some(Box::new(extra)), returned)
    }

    fn life(terms: &Terms, interval: Duration, now: Time, returned: bool) -> Life {
        if returned { Life::returned(&terms.rule, interval, now) } else { Life::new(&terms.rule, interval, now) }
    }

    fn on(life: Life, link: Option<LinkId>, extra: Option<Box<Extra>>, returned: bool) -> Session {
        let cause = returned.then_some(Cause::Returned);
        Session {
            life,
            beats: 0,
            extra,
            link: link.map_or(NO_LINK, |link| link.0),
            armed: 0,
            pid: None,
            cause,
            life_cause: cause,
            away: Away::No,
            attachment: Attachment::Linked,
        }
    }

    /// The worst of detector, link and away.
    pub fn status(&self) -> Status {
        let link = if self.attachment == Attachment::Dropped { Status::Leave } else { Status::Alive };
        let away = if self.away == Away::No { Status::Alive } else { Status::Leave };
        self.life.detector().status().max(link).max(away)
    }

    /// Why the status is what it is; `None` if it never changed.
    pub fn cause(&self) -> Option<Cause> {
        self.cause
    }

    /// The detector and its clock.
    pub fn watch(&self) -> &Life {
        &self.life
    }

    /// Its link, if it has one.
    pub fn link(&self) -> Option<LinkId> {
        (self.link != NO_LINK).then_some(LinkId(self.link))
    }

    /// What a v1 session has; `None` for a legacy one.
    pub fn v1_part(&self) -> Option<&V1> {
        self.extra.as_deref()?.v1.as_deref()
    }

    /// The same, to change.
    pub fn v1_part_mut(&mut self) -> Option<&mut V1> {
        self.extra.as_deref_mut()?.v1.as_deref_mut()
    }

    /// What it speaks.
    pub fn mode(&self) -> Mode {
        if self.v1_part().is_some() { Mode::V1 } else { Mode::Legacy }
    }

    /// The last changes of status, oldest first; at most [`HISTORY_MAX`].
    pub fn history(&self) -> &[Change] {
        self.extra.as_deref().map_or(&[], |extra| &extra.history)
    }

    /// What a legacy client says of itself that isn't ordinary.
    pub fn labels(&self) -> Option<&Labels> {
        self.extra.as_deref().map(|extra| &extra.labels)
    }

    /// The legacy client's process id, when ordinary.
    pub fn pid(&self) -> Option<NonZeroU32> {
        self.pid
    }

    /// Notes what a legacy client says of itself. Allocates only when that is unusual and new.
    pub fn label(&mut self, pid: Option<NonZeroU32>, labels: LabelsRef<'_>) {
        self.pid = pid;
        let known = self.labels();
        let same = match known {
            Some(known) => known.ip.as_deref() == labels.ip && known.pid.as_deref() == labels.pid,
            None => labels.ip.is_none() && labels.pid.is_none(),
        };
        if !same {
            let extra = self.extra.get_or_insert_default();
            extra.labels = Labels { ip: labels.ip.map(Into::into), pid: labels.pid.map(Into::into) };
        }
    }

    /// A sign of life at `now`; whatever time brought before must have been taken from [`Session::advance`].
    pub fn heard(&mut self, terms: &Terms, now: Time) -> Heard {
        let before = self.status();
        let gap = now.since(self.life.heard_at());
        let heard = self.life.heard(&terms.rule, now);
        let mut false_leave = false;
        let mut changed = None;
        if heard.recovered {
            false_leave = matches!(self.life_cause, Some(Cause::Silent | Cause::Lossy));
            self.life_cause = None;
            changed = self.settle(before, Cause::Stable, now);
        }
        Heard { early: heard.early, gap, changed, false_leave }
    }

    /// The next thing that time alone brings by `until` (inclusive); call again until there is none.
    pub fn advance(&mut self, terms: &Terms, until: Time) -> Option<Happening> {
        if self.next_deadline(terms) > until {
            return None;
        }
        let before = self.status();
        match self.attachment {
            Attachment::Linked => self.advance_linked(terms, before, until),
            Attachment::Grace | Attachment::Dropped => self.advance_dropped(terms, before),
        }
    }

    fn advance_linked(&mut self, terms: &Terms, before: Status, until: Time) -> Option<Happening> {
        let (idle_at, cut_at) = (self.idle_at(terms), self.cut_at(terms));
        let life_at = self.life.next_deadline(terms.leave_hold);
        if idle_at < life_at.min(cut_at) {
            self.away = Away::Idle;
            return Some(Happening::Turned(self.settle(before, Cause::Idle, idle_at)));
        }
        if cut_at < life_at {
            return Some(Happening::Cut { at: cut_at });
        }
        let heard_at = self.life.heard_at();
        Some(match self.life.advance(&terms.rule, terms.leave_hold, until)? {
            Turn::Missed { nth, .. } => Happening::Missed { nth, detected: None, changed: None },
            Turn::Left { at, cause } => {
                self.life_cause = Some(cause);
                Happening::Missed {
                    nth: self.life.misses(),
                    detected: Some(at.since(heard_at)),
                    changed: self.settle(before, cause, at),
                }
            }
            Turn::HoldOver { at } => Happening::Over { at },
        })
    }

    fn advance_dropped(&mut self, terms: &Terms, before: Status) -> Option<Happening> {
        let grace_at = self.grace_at(terms);
        if self.attachment == Attachment::Grace && grace_at < self.dropped_hold_at(terms) {
            self.attachment = Attachment::Dropped;
            return Some(Happening::Turned(self.settle(before, Cause::Dropped, grace_at)));
        }
        Some(Happening::Over { at: self.dropped_hold_at(terms) })
    }

    /// When time alone next brings something.
    pub fn next_deadline(&self, terms: &Terms) -> Time {
        match self.attachment {
            Attachment::Linked => {
                self.life.next_deadline(terms.leave_hold).min(self.idle_at(terms)).min(self.cut_at(terms))
            }
            Attachment::Grace => self.grace_at(terms).min(self.dropped_hold_at(terms)),
            Attachment::Dropped => self.dropped_hold_at(terms),
        }
    }

    /// A v1 link that is silent for twice its bound is cut; a legacy one is kept through its hold.
    fn cut_at(&self, terms: &Terms) -> Time {
        if self.life.detector().status() == Status::Alive || self.v1_part().is_none() {
            return Time::NEVER;
        }
        self.life.heard_at() + self.life.detect(&terms.rule) * 2
    }

    fn idle_at(&self, terms: &Terms) -> Time {
        match self.v1_part() {
            Some(V1 { last_act: Some(at), .. }) if self.away == Away::No => *at + terms.limits.idle_after,
            _ => Time::NEVER,
        }
    }

    fn grace_at(&self, terms: &Terms) -> Time {
        self.dropped_at() + terms.limits.drop_grace
    }

    /// The window for resuming; a hold that began on the link isn't prolonged by losing it.
    fn dropped_hold_at(&self, terms: &Terms) -> Time {
        (self.dropped_at() + self.window(terms)).min(self.life.hold_at(terms.leave_hold)).max(self.dropped_at())
    }

    /// How long this session can be resumed after its link dropped.
    pub fn window(&self, terms: &Terms) -> Duration {
        let named = self.v1_part().is_some_and(|v1| v1.user.is_some());
        let limits = &terms.limits;
        if named { limits.dropped_hold } else { limits.dropped_hold.min(limits.dropped_hold_anonymous) }
    }

    fn dropped_at(&self) -> Time {
        self.v1_part().map_or(Time::ZERO, |v1| v1.dropped_at)
    }

    /// The link is gone. Legacy sessions end with theirs, so this is for v1.
    pub fn unlink(&mut self, now: Time) {
        self.link = NO_LINK;
        self.attachment = Attachment::Grace;
        if let Some(v1) = self.v1_part_mut() {
            v1.dropped_at = now;
            v1.ask = None;
        }
    }

    /// A new link takes the session up as it was.
    pub fn relink(&mut self, link: LinkId, now: Time) -> Option<Changed> {
        let before = self.status();
        self.link = link.0;
        // Whether the old link had dropped or still hangs: the hello is life, and misses are timed from it.
        self.life.thaw(now);
        self.attachment = Attachment::Linked;
        self.settle(before, Cause::Resumed, now)
    }

    /// The client says whether it is away.
    pub fn declare(&mut self, away: bool, now: Time) -> Option<Changed> {
        let before = self.status();
        self.away = if away { Away::Declared } else { Away::No };
        self.settle(before, Cause::Declared, now)
    }

    /// Whether the client has declared that it is away.
    pub fn declared(&self) -> bool {
        self.away == Away::Declared
    }

    /// The client did something but beat: it isn't idle.
    pub fn act(&mut self, now: Time) -> Option<Changed> {
        self.v1_part_mut()?.last_act = Some(now);
        if self.away != Away::Idle {
            return None;
        }
        let before = self.status();
        self.away = Away::No;
        self.settle(before, Cause::Idle, now)
    }

    /// Records the last change of a session that ends.
    pub fn close(&mut self, cause: Cause, at: Time) -> Changed {
        let change = Change { to: Status::Close, cause, at };
        // The end of a hold has closed the detector already; what ends is a session on leave.
        let from = self.status().min(Status::Leave);
        self.remember(change);
        Changed { from, change }
    }

    /// Compares with the status `before`; if it differs, that is a change for `cause`.
    fn settle(&mut self, before: Status, cause: Cause, at: Time) -> Option<Changed> {
        let to = self.status();
        let cause = if to == Status::Leave { self.leave_cause() } else { cause };
        if to == before {
            if to == Status::Leave {
                self.cause = Some(cause);
            }
            return None;
        }
        let change = Change { to, cause, at };
        self.remember(change);
        Some(Changed { from: before, change })
    }

    /// The gravest of the reasons for being on leave.
    fn leave_cause(&self) -> Cause {
        match (self.life_cause, self.attachment, self.away) {
            (Some(cause), _, _) => cause,
            (None, Attachment::Dropped, _) => Cause::Dropped,
            (None, _, Away::Idle) => Cause::Idle,
            (None, _, Away::Declared | Away::No) => Cause::Declared,
        }
    }

    fn remember(&mut self, change: Change) {
        self.cause = Some(change.cause);
        let history = &mut self.extra.get_or_insert_default().history;
        if history.len() == HISTORY_MAX {
            history.remove(0);
        }
        history.push(change);
    }

    /// Beats from now on at another interval (within the protocol's range).
    pub fn set_interval(&mut self, interval: Duration) {
        self.life.set_interval(clamp_interval(interval));
    }

    /// Counts by another rule from now on.
    pub fn restart(&mut self, rule: &Rule) {
        self.life.restart(rule);
    }

    /// What a restart of the server would need of it; `None` for a legacy session.
    pub fn keepsake(&self, closed: bool) -> Option<Keepsake> {
        let v1 = self.v1_part()?;
        Some(Keepsake {
            session: v1.id,
            secret: v1.secret,
            previous: if v1.proven { None } else { v1.previous },
            generation: v1.generation,
            user: v1.user.clone(),
            account: v1.chat.as_deref().map(|chat| chat.user.clone()),
            client: v1.client.clone(),
            interval: self.life.interval(),
            closed,
        })
    }

    /// Its identity; `peer` is its link's, by which a legacy session is known.
    pub fn identity(&self, peer: Peer) -> Identity {
        self.v1_part().map_or(Identity::Legacy(peer), |v1| Identity::V1(v1.id))
    }

    /// Rebases its times from one shard's clock to another's.
    pub(crate) fn rebase(&mut self, then: Time, now: Time) {
        let shift = |at: Time| now - then.since(at);
        self.life.rebase(shift);
        if let Some(extra) = &mut self.extra {
            for change in &mut extra.history {
                change.at = shift(change.at);
            }
            if let Some(v1) = &mut extra.v1 {
                v1.began_at = shift(v1.began_at);
                v1.dropped_at = shift(v1.dropped_at);
                v1.last_act = v1.last_act.map(shift);
                if let Some(chat) = &mut v1.chat {
                    chat.rebase();
                }
            }
        }
    }
}

/// Borrowed [`Labels`].
#[derive(Clone, Copy, Debug, Default)]
pub struct LabelsRef<'a> {
    /// See [`Labels::ip`].
    pub ip: Option<&'a str>,
    /// See [`Labels::pid`].
    pub pid: Option<&'a str>,
}

/// The nearest interval that the protocol allows.
pub fn clamp_interval(interval: Duration) -> Duration {
    interval.clamp(INTERVAL_MIN, INTERVAL_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_is_one_cache_line_and_what_few_need_is_small() {
        assert_eq!(size_of::<Session>(), 64);
        assert_eq!(size_of::<Extra>(), 64);
    }
}
