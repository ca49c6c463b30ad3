//! Turns: who sends more than anybody needs to waits for one, and so does who has just come; the others come first.
//!
//! A thread serves its links one after the other. With a thousand that are flooded with frames, each well within its
//! limits, a quiet one would wait for all of theirs before its own few bytes are looked at; and with a thousand that
//! have just been accepted it would wait for all their greetings. So each link has an [`Allowance`]: within it, it is
//! read as soon as there is something to read. Beyond it, it queues here, and of those in the queue as many are served
//! between two looks at the sockets as take a moment. Newcomers have a queue of their own, so that no flood keeps the
//! door shut. Nobody is slowed down while there is nobody else: then a look costs a few microseconds.
//!
//! Task: one on each shard, [`Turns::give`]; it ends with the process.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::task::Waker;
use std::time::Duration;

use stillhere_core::event::LinkId;
use stillhere_core::time::Time;
use tokio::sync::Notify;

/// Bytes that a link may send at once out of turn: a greeting and a login, or a few messages.
const ALLOWANCE_BYTES: u32 = 1024;
/// By how much its allowance grows every [`MOMENT_MS`], in bytes, up to [`ALLOWANCE_BYTES`]: five beats a second, or a
/// message. A thousand links that all keep to it are still a thousand that are ready at once, so it is little: with four
/// times as much a thousand that guess passwords kept to it where the machine was slow, and everybody waited for them.
const GROWTH: u32 = 2;
/// In which steps an allowance's clock goes. It has 16 bits and turns over after nine minutes; a link that was silent
/// for just so long has a little less than it could.
const MOMENT_MS: u64 = 8;
/// A link is a newcomer for so many moments and until it has said something, or until that was [`ALLOWANCE_BYTES`]: half
/// a second.
const YOUTH: u16 = 64;
/// Bytes that are read in a turn.
pub(crate) const TURN_BYTES: usize = 16 * 1024;
/// What a look at the sockets and all that comes of it should take at most: a quiet link waits for so long. A turn full
/// of beats takes about half a millisecond, one with a single beat some 15 µs.
pub(crate) const LOOK: Duration = Duration::from_micros(250);
/// Turns between two looks at the sockets, at most: if they are all long once, a quiet link waits for all of them.
const TURNS_MAX: usize = 8;

/// What a link may send out of turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Allowance {
    left: u16,
    /// The moment at which `left` was right.
    at: u16,
}

impl Allowance {
    /// All of it.
    fn new(now: Time) -> Allowance {
        Allowance { left: ALLOWANCE_BYTES as u16, at: moment(now) }
    }

    /// How many bytes are left now.
    fn left(&mut self, now: Time) -> u32 {
        let now = moment(now);
        let grown = u32::from(now.wrapping_sub(self.at)) * GROWTH;
        // Both are far below what sixteen bits hold.
        (self.left, self.at) = ((u32::from(self.left) + grown).min(ALLOWANCE_BYTES) as u16, now);
        self.left.into()
    }

    /// How many moments ago it was counted last.
    fn age(self, now: Time) -> u16 {
        moment(now).wrapping_sub(self.at)
    }

    /// So many were sent.
    fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(u16::try_from(bytes).unwrap_or(u16::MAX));
    }
}

fn moment(now: Time) -> u16 {
    (now.as_micros() / (1000 * MOMENT_MS)) as u16
}

/// Whether a link may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// At once, so many bytes.
    Now(usize),
    /// In its turn: it should queue when there is something to read.
    InTurn,
    /// It is in the queue.
    Queued,
}

/// A place in the queue: its number, counted from 1 and around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turn(NonZeroU32);

/// What a link has of all this: twelve bytes, kept side by side, since a link itself just fits the allocator's place.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Of a newcomer: what it may send as one, from when it came.
    allowance: Allowance,
    is_new: bool,
    /// Its place in the queue of newcomers, if it is one, or of the others.
    turn: Option<Turn>,
}

/// Links that wait, first come first served. Bounded by their number: each is queued once at most.
#[derive(Debug)]
struct Queue {
    waiting: RefCell<VecDeque<Waker>>,
    /// The newest that waits.
    queued: Cell<NonZeroU32>,
    /// Turns up to this one have come.
    come: Cell<NonZeroU32>,
}

/// The queues of a shard, and the paces of its links by number.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    paces: RefCell<Vec<Pace>>,
    newcomers: Queue,
    others: Queue,
    /// Somebody waits.
    wanted: Notify,
}

impl Default for Queue {
    fn default() -> Queue {
        let first = Cell::new(NonZeroU32::MIN);
        Queue { waiting: RefCell::default(), queued: first.clone(), come: first }
    }
}

impl Queue {
    /// Queues a task; it is woken when its turn has come.
    fn wait(&self, task: Waker) -> Turn {
        self.waiting.borrow_mut().push_back(task);
        self.queued.set(after(self.queued.get()));
        Turn(self.queued.get())
    }

    fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// Whether a turn has come.
    fn has_come(&self, turn: Turn) -> bool {
        // There are never so many in the queue that half a circle were not enough.
        self.come.get().get().wrapping_sub(turn.0.get()).cast_signed() >= 0
    }

    /// The turn of so many has come.
    fn give(&self, turns: usize) {
        for _ in 0..turns {
            let Some(task) = self.waiting.borrow_mut().pop_front() else { break };
            self.come.set(after(self.come.get()));
            // A link that has ended meanwhile wakes nobody, and costs the others a moment.
            task.wake();
        }
    }
}

impl Turns {
    /// A new link has this number; links are numbered densely.
    pub(crate) fn open(&self, link: LinkId, now: Time) {
        let pace = Pace { allowance: Allowance::new(now), is_new: true, turn: None };
        let mut paces = self.paces.borrow_mut();
        let place = link.0 as usize;
        if place >= paces.len() {
            paces.resize(place + 1, pace);
        }
        paces[place] = pace;
    }

    /// How many bytes may be read of a link that has some: its allowance at once, a turn's worth when its turn has come,
    /// nothing before that.
    pub(crate) fn may_read(&self, link: LinkId, now: Time) -> Leave {
        let mut paces = self.paces.borrow_mut();
        let Some(pace) = paces.get_mut(link.0 as usize) else { return Leave::Now(TURN_BYTES) };
        if let Some(turn) = pace.turn {
            if !self.queue_of(pace).has_come(turn) {
                return Leave::Queued;
            }
            pace.turn = None;
            let most = if pace.is_new { usize::from(pace.allowance.left) } else { TURN_BYTES };
            return Leave::Now(most);
        }
        if pace.is_new {
            // Who has said nothing yet is as new as at first, however long that was.
            let has_spoken = u32::from(pace.allowance.left) < ALLOWANCE_BYTES;
            pace.is_new = pace.allowance.left > 0 && !(has_spoken && pace.allowance.age(now) >= YOUTH);
            if pace.is_new {
                return Leave::InTurn;
            }
        }
        // Never a crumb: a read costs as much as what it reads.
        match pace.allowance.left(now) {
            left if left >= ALLOWANCE_BYTES / 2 => Leave::Now(left as usize),
            _ => Leave::InTurn,
        }
    }

    /// A link queues for its turn; its task is woken then.
    pub(crate) fn queue(&self, link: LinkId, task: Waker) {
        if let Some(pace) = self.paces.borrow_mut().get_mut(link.0 as usize) {
            pace.turn = Some(self.queue_of(pace).wait(task));
            self.wanted.notify_one();
        }
    }

    /// So much was read of a link.
    pub(crate) fn spend(&self, link: LinkId, bytes: usize) {
        if let Some(pace) = self.paces.borrow_mut().get_mut(link.0 as usize) {
            pace.allowance.spend(bytes);
        }
    }

    fn queue_of(&self, pace: &Pace) -> &Queue {
        if pace.is_new { &self.newcomers } else { &self.others }
    }

    /// Gives turns for ever.
    pub(crate) async fn give(&self, now: impl Fn() -> Time) {
        let mut turns = 1;
        loop {
            self.wanted.notified().await;
            let mut looked = now();
            while !self.newcomers.is_empty() || !self.others.is_empty() {
                // Tasks that yield go on after the sockets were looked at, and after whoever has become ready by that.
                tokio::task::yield_now().await;
                let before = std::mem::replace(&mut looked, now());
                turns = turns_after(turns, looked.since(before));
                self.newcomers.give(turns);
                self.others.give(turns);
            }
        }
    }
}

/// How many turns to give when a look and so many turns took so long.
fn turns_after(turns: usize, took: Duration) -> usize {
    if took <= LOOK { (turns * 2).min(TURNS_MAX) } else { (turns / 2).max(1) }
}

/// The next number.
fn after(number: NonZeroU32) -> NonZeroU32 {
    number.checked_add(1).unwrap_or(NonZeroU32::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1000)
    }

    #[test]
    fn an_allowance_grows_with_time_up_to_its_bound_and_never_below_nothing() {
        let mut allowance = Allowance::new(at(8));
        // A moment is 8 ms, and worth two bytes.
        allowance.spend(1000);
        assert_eq!(allowance.left(at(15)), 24);
        allowance.spend(1 << 40);
        assert_eq!((allowance.left(at(15)), allowance.left(at(16)), allowance.left(at(176))), (0, 2, 2 * 21));
        assert_eq!(allowance.left(at(100_000)), ALLOWANCE_BYTES);
    }

    #[test]
    fn an_allowance_survives_its_clock_turning_over() {
        let over = (u64::from(u16::MAX) + 1) * MOMENT_MS;
        let mut allowance = Allowance::new(at(over - 16));
        allowance.spend(ALLOWANCE_BYTES as usize);
        assert_eq!(allowance.left(at(over + 16)), 4 * 2);
    }

    #[test]
    fn beyond_its_allowance_a_link_is_read_in_its_turn() {
        let (turns, link) = (Turns::default(), LinkId(3));
        settle(&turns, link);
        assert_eq!(turns.may_read(link, at(1000)), Leave::Now(ALLOWANCE_BYTES as usize));
        turns.spend(link, 600);
        assert_eq!(turns.may_read(link, at(1000)), Leave::InTurn);
        turns.queue(link, Waker::noop().clone());
        assert_eq!(turns.may_read(link, at(60_000)), Leave::Queued);
        turns.others.give(1);
        assert_eq!(turns.may_read(link, at(1000)), Leave::Now(TURN_BYTES));
        assert_eq!(turns.may_read(link, at(1000)), Leave::InTurn);
        // The next link with the number begins anew, even if the last one was queued.
        turns.queue(link, Waker::noop().clone());
        settle(&turns, link);
        assert_eq!(turns.may_read(link, at(2000)), Leave::Now(ALLOWANCE_BYTES as usize));
    }

    /// A link that came at 0 and said one byte, so that it is no newcomer from 512 ms on.
    fn settle(turns: &Turns, link: LinkId) {
        turns.open(link, at(0));
        turns.spend(link, 1);
    }

    #[test]
    fn who_has_said_nothing_stays_a_newcomer() {
        let (turns, link) = (Turns::default(), LinkId(0));
        turns.open(link, at(0));
        assert_eq!(turns.may_read(link, at(60_000)), Leave::InTurn);
        turns.queue(link, Waker::noop().clone());
        turns.newcomers.give(1);
        assert_eq!(turns.may_read(link, at(60_000)), Leave::Now(ALLOWANCE_BYTES as usize));
        turns.spend(link, 100);
        assert_eq!(turns.may_read(link, at(60_000)), Leave::Now(ALLOWANCE_BYTES as usize));
    }

    #[test]
    fn a_newcomer_waits_among_newcomers_until_it_has_been_there_or_has_sent_much() {
        let (turns, link) = (Turns::default(), LinkId(0));
        let pass = |sent: usize, read_at: Time| {
            assert_eq!(turns.may_read(link, read_at), Leave::InTurn);
            turns.queue(link, Waker::noop().clone());
            turns.others.give(1);
            assert_eq!(turns.may_read(link, read_at), Leave::Queued);
            turns.newcomers.give(1);
            let Leave::Now(most) = turns.may_read(link, read_at) else { panic!("its turn has come") };
            turns.spend(link, sent);
            most
        };
        turns.open(link, at(0));
        assert_eq!((pass(200, at(0)), pass(100, at(400)), pass(24, at(500))), (1024, 824, 724));
        // Now it is one of the quiet ones, with what it has left and what 64 moments are worth.
        assert_eq!(turns.may_read(link, at(512)), Leave::Now(700 + 64 * 2));
        turns.open(link, at(0));
        assert_eq!(pass(1024, at(8)), 1024);
        assert_eq!(turns.may_read(link, at(8)), Leave::InTurn);
        turns.queue(link, Waker::noop().clone());
        turns.newcomers.give(1);
        assert_eq!(turns.may_read(link, at(8)), Leave::Queued);
        turns.others.give(1);
        assert_eq!(turns.may_read(link, at(8)), Leave::Now(TURN_BYTES));
    }

    #[test]
    fn turns_are_counted_around() {
        let queue = Queue::default();
        queue.queued.set(NonZeroU32::MAX);
        queue.come.set(NonZeroU32::MAX);
        let turn = queue.wait(Waker::noop().clone());
        assert!(!queue.has_come(turn));
        queue.give(1);
        assert!(queue.has_come(turn) && queue.has_come(Turn(NonZeroU32::MAX)));
    }

    #[test]
    fn more_turns_come_while_they_are_short_and_one_at_least() {
        let short = std::iter::successors(Some(1), |turns| Some(turns_after(*turns, LOOK)));
        assert_eq!(short.take(5).collect::<Vec<_>>(), [1, 2, 4, TURNS_MAX, TURNS_MAX]);
        let long = std::iter::successors(Some(TURNS_MAX), |turns| Some(turns_after(*turns, LOOK * 2)));
        assert_eq!(long.take(5).collect::<Vec<_>>(), [TURNS_MAX, 4, 2, 1, 1]);
    }

    #[test]
    fn turns_come_between_looks_and_in_order() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let turns = Turns::default();
            turns.wanted.notify_one();
            let queued: Vec<Turn> = (0..5).map(|_| turns.others.wait(Waker::noop().clone())).collect();
            let come = || queued.iter().take_while(|turn| turns.others.has_come(**turn)).count();
            // The first looks take a millisecond each, later ones no time.
            let clock = Cell::new(0);
            let now = || at(clock.replace((clock.get() + 1).min(3)));
            let mut giving = std::pin::pin!(turns.give(now));
            for after_look in [0, 1, 2, 3, 5] {
                assert!(is_pending(&mut giving).await);
                assert_eq!(come(), after_look);
                assert_eq!(queued.iter().filter(|turn| turns.others.has_come(**turn)).count(), after_look);
            }
            assert!(!turns.others.has_come(turns.others.wait(Waker::noop().clone())));
        });
    }

    /// Lets it go on to its next look; whether it waits for that.
    async fn is_pending(giving: &mut (impl Future<Output = ()> + Unpin)) -> bool {
        let mut giving = std::pin::Pin::new(giving);
        std::future::poll_fn(|context| std::task::Poll::Ready(giving.as_mut().poll(context).is_pending())).await
    }
}
