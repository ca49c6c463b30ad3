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
use std::task::Waker;

use stillhere_core::time::Time;
use tokio::sync::Notify;

/// Bytes that a link may send at once out of turn: some fifty beats, or a message of the default limit in two reads.
pub(crate) const ALLOWANCE_BYTES: u32 = 4 * 1024;
/// By how much its allowance grows, in bytes a millisecond, up to [`ALLOWANCE_BYTES`]: a hundred beats a second, or
/// all that the default rates let a user say.
const GROWTH: u32 = 8;
/// Bytes that are read in a turn.
pub(crate) const TURN_BYTES: usize = 16 * 1024;
/// Turns between two looks at the sockets. A turn full of beats takes a shard about half a millisecond, and a quiet
/// link waits for so many at most.
const TURNS_A_LOOK: usize = 1;

/// What a link may send out of turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowance {
    left: u32,
    /// Milliseconds of the process's clock when `left` was right; of the low 32 bits, 49 days.
    at_ms: u32,
}

impl Allowance {
    /// All of it.
    pub(crate) fn new(now: Time) -> Allowance {
        Allowance { left: ALLOWANCE_BYTES, at_ms: millis(now) }
    }

    /// How many bytes are left now.
    pub(crate) fn left(&mut self, now: Time) -> u32 {
        let now_ms = millis(now);
        let grown = now_ms.wrapping_sub(self.at_ms).saturating_mul(GROWTH);
        if grown > 0 {
            (self.left, self.at_ms) = (self.left.saturating_add(grown).min(ALLOWANCE_BYTES), now_ms);
        }
        self.left
    }

    /// So many were sent.
    pub(crate) fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
    }
}

fn millis(now: Time) -> u32 {
    (now.as_micros() / 1000) as u32
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn(u64);

/// The queue of a shard. Bounded by its links: each is in it once at most.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    waiting: RefCell<VecDeque<Waker>>,
    /// Turns before this one have come.
    come: Cell<u64>,
    /// Somebody waits.
    wanted: Notify,
}

impl Turns {
    /// Queues a task; it is woken when its turn has come.
    pub(crate) fn wait(&self, task: Waker) -> Turn {
        let mut waiting = self.waiting.borrow_mut();
        waiting.push_back(task);
        self.wanted.notify_one();
        Turn(self.come.get() + waiting.len() as u64 - 1)
    }

    /// Whether a turn has come.
    pub(crate) fn has_come(&self, turn: Turn) -> bool {
        turn.0 < self.come.get()
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
                    self.come.set(self.come.get() + 1);
                    // A link that has ended meanwhile wakes nobody, and costs the others a moment.
                    task.wake();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1000)
    }

    #[test]
    fn an_allowance_grows_with_time_up_to_its_bound_and_never_below_nothing() {
        let mut allowance = Allowance::new(at(5));
        allowance.spend(4000);
        assert_eq!(allowance.left(at(5)), 96);
        allowance.spend(1 << 40);
        assert_eq!((allowance.left(at(5)), allowance.left(at(6)), allowance.left(at(105))), (0, 8, 800));
        assert_eq!(allowance.left(at(1_000_000_000)), ALLOWANCE_BYTES);
    }

    #[test]
    fn an_allowance_survives_the_clock_turning_over() {
        let over = u64::from(u32::MAX) + 1;
        let mut allowance = Allowance::new(at(over - 10));
        allowance.spend(ALLOWANCE_BYTES as usize);
        assert_eq!(allowance.left(at(over + 10)), 160);
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
