//! Turns: who sends more than anybody needs to waits for one, so that those who don't come first.
//!
//! A thread serves its links one after the other. With a thousand that are flooded with frames, each well within its
//! limits, a quiet one would wait for all of theirs before its own few bytes are looked at. So each link has an
//! [`Allowance`]: within it, it is read as soon as there is something to read. Beyond it, it queues here, and of those
//! in the queue a few are served between two looks at the sockets. Nobody is slowed down while there is nobody else:
//! then a look costs a microsecond.
//!
//! Task: one on each shard, [`Turns::give`]; it ends with the process.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::task::Waker;

use stillhere_core::event::LinkId;
use stillhere_core::time::Time;
use tokio::sync::Notify;

/// Bytes that a link may send at once out of turn: some fifty beats, or a message of the default limit in two reads.
const ALLOWANCE_BYTES: u32 = 4 * 1024;
/// By how much its allowance grows every [`MOMENT_MS`], in bytes, up to [`ALLOWANCE_BYTES`]: a hundred beats a second,
/// or all that the default rates let a user say.
const GROWTH: u32 = 64;
/// In which steps an allowance's clock goes. It has 16 bits and turns over after nine minutes; a link that was silent
/// for just so long has a little less than it could.
const MOMENT_MS: u64 = 8;
/// Bytes that are read in a turn.
pub(crate) const TURN_BYTES: usize = 16 * 1024;
/// Turns between two looks at the sockets. A turn full of beats takes a shard about half a millisecond, and a quiet
/// link waits for so many at most.
const TURNS_A_LOOK: usize = 1;

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

/// What a link has of all this: eight bytes, kept side by side, since a link itself just fits the allocator's place.
#[derive(Clone, Copy, Debug)]
struct Pace {
    allowance: Allowance,
    turn: Option<Turn>,
}

/// The queue of a shard, and the paces of its links by number. Bounded by its links: each is queued once at most.
#[derive(Debug)]
pub(crate) struct Turns {
    paces: RefCell<Vec<Pace>>,
    waiting: RefCell<VecDeque<Waker>>,
    /// The newest in the queue.
    queued: Cell<NonZeroU32>,
    /// Turns up to this one have come.
    come: Cell<NonZeroU32>,
    /// Somebody waits.
    wanted: Notify,
}

impl Default for Turns {
    fn default() -> Turns {
        let first = Cell::new(NonZeroU32::MIN);
        Turns {
            paces: RefCell::default(),
            waiting: RefCell::default(),
            queued: first.clone(),
            come: first,
            wanted: Notify::new(),
        }
    }
}

impl Turns {
    /// A new link has this number; links are numbered densely.
    pub(crate) fn open(&self, link: LinkId, now: Time) {
        let pace = Pace { allowance: Allowance::new(now), turn: None };
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
            if !self.has_come(turn) {
                return Leave::Queued;
            }
            pace.turn = None;
            return Leave::Now(TURN_BYTES);
        }
        // Never a crumb: a read costs as much as what it reads.
        match pace.allowance.left(now) {
            left if left >= ALLOWANCE_BYTES / 2 => Leave::Now(left as usize),
            _ => Leave::InTurn,
        }
    }

    /// A link queues for its turn; its task is woken then.
    pub(crate) fn queue(&self, link: LinkId, task: Waker) {
        let turn = self.wait(task);
        if let Some(pace) = self.paces.borrow_mut().get_mut(link.0 as usize) {
            pace.turn = Some(turn);
        }
    }

    /// So much was read of a link.
    pub(crate) fn spend(&self, link: LinkId, bytes: usize) {
        if let Some(pace) = self.paces.borrow_mut().get_mut(link.0 as usize) {
            pace.allowance.spend(bytes);
        }
    }

    /// Queues a task; it is woken when its turn has come.
    fn wait(&self, task: Waker) -> Turn {
        self.waiting.borrow_mut().push_back(task);
        self.wanted.notify_one();
        self.queued.set(after(self.queued.get()));
        Turn(self.queued.get())
    }

    /// Whether a turn has come.
    fn has_come(&self, turn: Turn) -> bool {
        // There are never so many in the queue that half a circle were not enough.
        self.come.get().get().wrapping_sub(turn.0.get()).cast_signed() >= 0
    }

    /// Gives turns for ever.
    pub(crate) async fn give(&self) {
        loop {
            self.wanted.notified().await;
            while !self.waiting.borrow().is_empty() {
                // Tasks that yield go on after the sockets were looked at, and after whoever has become ready by that.
                tokio::task::yield_now().await;
                for _ in 0..TURNS_A_LOOK {
                    let Some(task) = self.waiting.borrow_mut().pop_front() else { break };
                    self.come.set(after(self.come.get()));
                    // A link that has ended meanwhile wakes nobody, and costs the others a moment.
                    task.wake();
                }
            }
        }
    }
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
        allowance.spend(4000);
        assert_eq!(allowance.left(at(15)), 96);
        allowance.spend(1 << 40);
        assert_eq!((allowance.left(at(15)), allowance.left(at(16)), allowance.left(at(176))), (0, 64, 64 * 21));
        assert_eq!(allowance.left(at(100_000)), ALLOWANCE_BYTES);
    }

    #[test]
    fn an_allowance_survives_its_clock_turning_over() {
        let over = (u64::from(u16::MAX) + 1) * MOMENT_MS;
        let mut allowance = Allowance::new(at(over - 16));
        allowance.spend(ALLOWANCE_BYTES as usize);
        assert_eq!(allowance.left(at(over + 16)), 4 * 64);
    }

    #[test]
    fn beyond_its_allowance_a_link_is_read_in_its_turn() {
        let (turns, link) = (Turns::default(), LinkId(3));
        turns.open(link, at(0));
        assert_eq!(turns.may_read(link, at(0)), Leave::Now(ALLOWANCE_BYTES as usize));
        turns.spend(link, 3000);
        assert_eq!(turns.may_read(link, at(0)), Leave::InTurn);
        turns.queue(link, Waker::noop().clone());
        assert_eq!(turns.may_read(link, at(60_000)), Leave::Queued);
        turns.come.set(after(turns.come.get()));
        assert_eq!(turns.may_read(link, at(0)), Leave::Now(TURN_BYTES));
        assert_eq!(turns.may_read(link, at(0)), Leave::InTurn);
        // The next link with the number begins anew, even if the last one was queued.
        turns.queue(link, Waker::noop().clone());
        turns.open(link, at(0));
        assert_eq!(turns.may_read(link, at(0)), Leave::Now(ALLOWANCE_BYTES as usize));
    }

    #[test]
    fn turns_are_counted_around() {
        let turns = Turns::default();
        turns.queued.set(NonZeroU32::MAX);
        turns.come.set(NonZeroU32::MAX);
        let turn = turns.wait(Waker::noop().clone());
        assert!(!turns.has_come(turn));
        turns.come.set(after(turns.come.get()));
        assert!(turns.has_come(turn) && turns.has_come(Turn(NonZeroU32::MAX)));
    }

    #[test]
    fn turns_come_one_a_look_and_in_order() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let turns = Turns::default();
            let queued: Vec<Turn> = (0..3).map(|_| turns.wait(Waker::noop().clone())).collect();
            let come = || queued.iter().filter(|turn| turns.has_come(**turn)).count();
            let mut giving = std::pin::pin!(turns.give());
            for nth in 0..4 {
                assert!(is_pending(&mut giving).await);
                assert_eq!(come(), nth, "none before the first look, then one after each");
            }
            assert_eq!((come(), turns.has_come(turns.wait(Waker::noop().clone()))), (3, false));
        });
    }

    /// Lets it go on to its next look; whether it waits for that.
    async fn is_pending(giving: &mut (impl Future<Output = ()> + Unpin)) -> bool {
        let mut giving = std::pin::Pin::new(giving);
        std::future::poll_fn(|context| std::task::Poll::Ready(giving.as_mut().poll(context).is_pending())).await
    }
}
