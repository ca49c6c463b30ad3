//! A shard: all links and sessions of one thread, and every decision about them.
//!
//! [`Shard::handle`] takes the time and one [`Input`]; decisions leave as [`Outputs`]. Between inputs nothing happens
//! by itself: [`Shard::next_deadline`] says when the shard wants its next [`Input::Tick`]. One shard knows nothing of
//! others but that it can ask them for a session by [`Output::Claim`].
//!
//! A shard that is woken late takes the blame: its clock stands still for as long as nobody called, so no deadline
//! passes meanwhile (the *stall guard*). All times inside are of that clock.
//!
//! - `links`: what arrives on a link, until it is known what the link speaks
//! - `legacy`, `v1`: the two modes; `resume`: how v1 sessions begin, go on and return;
//!   `waiting`: hellos that others must answer first
//! - `sessions`: what both have in common: signs of life, deadlines, ends
//! - `chat`: users, rooms, messages and presence
//! - `slots`: where links and sessions stand; `wheel`: when to look at what
//! - `remembered`, `suspects`: bounded memories
//! - `view`: what an operator sees

mod chat;
mod legacy;
mod links;
mod remembered;
mod resume;
mod sessions;
mod slots;
mod suspects;
mod unlinked;
mod v1;
mod view;
mod waiting;
mod wheel;

use std::collections::HashMap;
use std::time::Duration;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::close::CloseCode;
use crate::event::{Input, LinkId, Manner, Output, Outputs, Seat, Terms};
use crate::ledger::Told;
use crate::limits::{PULSE, STALL};
use crate::secret::Entropy;
use crate::session::Session;
use crate::stats::Stats;
use crate::time::Time;

use chat::Lobby;
pub use chat::{FarSignal, PresenceNews, Question, Row, Standing, UserView, Word};
use links::Link;
use remembered::Remembered;
use slots::Slots;
use suspects::Suspects;
use unlinked::Unlinked;
pub use view::{Filter, Page, Pid, SessionView};
use waiting::Waiting;
pub use wheel::LOOK_LATE_MAX;
use wheel::{Entry, Wheel};

/// How many entries of the wheel one call works through before input gets its turn; about a millisecond.
const SWEEP_MAX: usize = 8192;
/// How many links one call says goodbye to in a drain.
const DRAIN_STEP: usize = 256;
/// How many remembered identities one call forgets.
const EXPIRE_STEP: usize = 256;

/// The state of one shard.
#[derive(Debug)]
pub struct Shard {
    terms: Terms,
    entropy: Entropy,
    clock: Clock,
    links: Slots<Link>,
    sessions: Slots<Session>,
    /// Keys of legacy sessions by their links' peers; only keys are stored, so an entry costs five bytes.
    by_peer: HashTable<u32>,
    /// Keys of v1 sessions by their names.
    by_id: HashTable<u32>,
    hasher: DefaultHashBuilder,
    waiting: HashMap<LinkId, Box<Waiting>, DefaultHashBuilder>,
    /// Links that are told so with their first frame; for how much longer, as of when they were accepted.
    banned: HashMap<LinkId, Option<Duration>, DefaultHashBuilder>,
    /// v1 sessions without a link, by address.
    retained_by_address: HashMap<crate::event::Peer, u32, DefaultHashBuilder>,
    remembered: Remembered,
    suspects: Suspects,
    wheel: Wheel,
    /// Whether other shards may hold a session that this one doesn't know.
    alone: bool,
    drain: Option<Drain>,
    lobby: Lobby,
    unlinked: Unlinked,
    /// Lent to the parser.
    scratch: String,
    stats: Stats,
}

/// The caller's time, less the time in which the caller didn't call.
#[derive(Debug)]
struct Clock {
    behind: Duration,
    /// The last time told, in the caller's time.
    now: Time,
    /// When the shard asked to be called next, in the caller's time.
    promised: Time,
    /// The wall clock at the origin of the caller's time, in milliseconds.
    wall_origin_ms: u64,
}

impl Clock {
    /// The wall clock now; shown, never counted with.
    fn wall_ms(&self) -> u64 {
        self.wall_origin_ms + self.now.as_micros() / 1000
    }
}

/// A drain under way.
#[derive(Debug)]
struct Drain {
    spread: Duration,
    next_link: usize,
}

impl Shard {
    /// A shard without sessions. `seed` must come from the system's
    /// randomness: session names and secrets are made from it.
    pub fn new(terms: Terms, seed: [u8; 32], seat: Seat, now: Time) -> Shard {
        Shard {
            terms,
            entropy: Entropy::from_seed(seed),
            clock: Clock { behind: Duration::ZERO, now, promised: now + PULSE, wall_origin_ms: 0 },
            links: Slots::new(),
            sessions: Slots::new(),
            by_peer: HashTable::new(),
            by_id: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            waiting: HashMap::default(),
            banned: HashMap::default(),
            retained_by_address: HashMap::default(),
            remembered: Remembered::default(),
            suspects: Suspects::default(),
            wheel: Wheel::new(),
            alone: seat.of <= 1,
            drain: None,
            lobby: Lobby::new(seat),
            unlinked: Unlinked::default(),
            scratch: String::new(),
            stats: Stats::default(),
        }
    }

    /// Takes one input at `now`, which must not go backwards. `out` is appended to.
    pub fn handle(&mut self, now: Time, input: Input<'_>, out: &mut Outputs) {
        let at = self.clock_at(now, out);
        match input {
            Input::Opened { link, peer } => self.link_opened(link, peer, at),
            Input::Banned { link, wait } => drop(self.banned.insert(link, wait)),
            Input::Received { link, bytes } => self.received(link, bytes, at, out),
            Input::Upgraded { link, transport } => self.upgraded(link, transport),
            Input::Heard { link } => self.heard(link, at, out),
            Input::Garbled { link } => self.bad_frame(link, at, out),
            Input::TurnedAway { link, code, reason } => self.turn_away(link, code, reason, at, out),
            Input::Ended { link, end } => self.link_ended(link, end, at, out),
            Input::Failed { link } => self.close_link(link, CloseCode::ServerError, Manner::Abort, at, out),
            Input::Tick { wall_ms } => {
                self.clock.wall_origin_ms = wall_ms.saturating_sub(now.as_micros() / 1000);
                self.drain_some(at, out);
                let expired = |identity| out.list.extend(forget(identity));
                self.remembered.expire(at, self.terms.limits.return_window, EXPIRE_STEP, expired);
            }
            Input::Claimed { ticket, claim } => {
                let answer = self.surrender(&claim, at, out);
                out.list.push(Output::Answer { ticket, answer });
            }
            Input::Answered { link, answer } => self.answered(link, answer, at, out),
            Input::Kick { identity } => self.kick(identity, at, out),
            Input::Drain { spread } => {
                self.drain.get_or_insert(Drain { spread, next_link: 0 });
                self.drain_some(at, out);
            }
            Input::Configure(terms) => self.configure(*terms, at),
            Input::Restore(keepsakes) => self.restore(keepsakes, at, out),
            Input::Choked { link } => self.choke(link, true, at, out),
            Input::Drained { link } => self.choke(link, false, at, out),
            Input::Told(told) => {
                for told in told {
                    match told {
                        Told::Outcome(order, outcome) => self.outcome(order, outcome, at, out),
                        Told::News(news) => self.news(news, at, out),
                    }
                }
            }
            Input::Word { from, word } => self.word(from, word, at, out),
            Input::Announce { place, text } => self.announce(place.as_ref(), text, out),
        }
        self.sweep(at, out);
        self.chat_due(at, out);
        self.clock.promised = self.next_deadline_from(now);
    }

    /// When the shard wants its next [`Input::Tick`], in the caller's time; it may be in the past.
    pub fn next_deadline(&self) -> Time {
        self.clock.promised
    }

    /// What it has counted, with the gauges as of now.
    pub fn stats(&self) -> Stats {
        let mut stats = self.stats.clone();
        stats.remembered = self.remembered.len() as u64;
        stats
    }

    /// How many sessions there are.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// The shard's own time when the caller's is `now`. Times in notes and views are of this clock; their distance
    /// from it is what counts.
    pub fn time_at(&self, now: Time) -> Time {
        now - self.clock.behind
    }

    /// Moves the clock on, or leaves it where it stood if the caller is more than [`STALL`] late.
    fn clock_at(&mut self, now: Time, out: &mut Outputs) -> Time {
        let late = now.since(self.clock.promised);
        self.clock.now = now;
        if late > STALL {
            self.clock.behind += late;
            self.stats.stalls += 1;
            self.stats.stalled += late;
            out.list.push(Output::Note(crate::event::Note::Stalled { late }));
        }
        now - self.clock.behind
    }

    fn next_deadline_from(&self, now: Time) -> Time {
        if self.drain.is_some() {
            return now + Duration::from_millis(1);
        }
        let look = self.wheel.next().map_or(Time::NEVER, |look| look + self.clock.behind);
        let chat = match self.lobby.next_deadline() {
            Time::NEVER => Time::NEVER,
            due => due + self.clock.behind,
        };
        look.min(chat).min(now + PULSE)
    }

    /// Looks at what is due.
    fn sweep(&mut self, at: Time, out: &mut Outputs) {
        for _ in 0..SWEEP_MAX {
            match self.wheel.pop(at) {
                Some((Entry::Session(key), tick)) => {
                    let session = self.sessions.get_mut(key as usize).filter(|session| session.armed == tick);
                    if let Some(session) = session {
                        session.armed = DISARMED;
                        self.catch_up(key, at, out);
                        self.arm_session(key);
                    }
                }
                Some((Entry::Link(id), tick)) => self.look_at_link(LinkId(id), tick, at, out),
                None => return,
            }
        }
    }

    /// Sees to it that a session is looked at when its next deadline has come.
    fn arm_session(&mut self, key: u32) {
        let Some(session) = self.sessions.get_mut(key as usize) else { return };
        let deadline = session.next_deadline(&self.terms);
        if deadline == Time::NEVER {
            return;
        }
        let tick = self.wheel.tick_for(deadline);
        if session.armed == DISARMED || Wheel::is_before(tick, session.armed) {
            session.armed = tick;
            self.wheel.add(Entry::Session(key), tick);
        }
    }

    fn configure(&mut self, terms: Terms, at: Time) {
        let (interval, rule) = (terms.interval, terms.rule);
        let another_rule = rule != self.terms.rule;
        self.terms = terms;
        for session in self.sessions.iter_mut() {
            if another_rule {
                session.restart(&rule);
            }
            if session.v1_part().is_none() {
                session.set_interval(interval);
            }
        }
        let keys: Vec<u32> = self.sessions.iter().map(|(key, _)| key as u32).collect();
        for key in keys {
            self.arm_session(key);
        }
        let links = 0..self.links.places();
        for index in links {
            self.arm_link(LinkId(index as u32), at);
        }
    }

    fn drain_some(&mut self, at: Time, out: &mut Outputs) {
        let Some(Drain { spread, next_link }) = self.drain else { return };
        let end = (next_link + DRAIN_STEP).min(self.links.places());
        for index in next_link..end {
            let retry_ms = self.entropy.below(spread.as_millis() as u64 + 1);
            self.drain_link(LinkId(index as u32), retry_ms, at, out);
        }
        if let Some(drain) = &mut self.drain {
            drain.next_link = if end == self.links.places() { 0 } else { end };
        }
    }

    /// Whether a drain is under way.
    fn draining(&self) -> Option<Duration> {
        self.drain.as_ref().map(|drain| drain.spread)
    }
}

/// The value of `armed` that no tick has: ticks begin at 1.
const DISARMED: u32 = 0;

fn forget(identity: crate::event::Identity) -> Option<Output> {
    match identity {
        crate::event::Identity::V1(id) => Some(Output::Forget(id)),
        crate::event::Identity::Legacy(_) => None,
    }
}

#[cfg(test)]
mod tests;
