//! When to try again, and the dice that spread clients apart.

use std::time::Duration;

/// The widest range that a wait is drawn from.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// The range of the first drawn wait; each further one doubles it.
pub const BACKOFF_BASE: Duration = Duration::from_secs(1);
/// The longest `retry_ms` that is obeyed, so a mad server can't send its clients away for ever.
pub const RETRY_MAX: Duration = Duration::from_secs(3600);

/// SplitMix64: eight bytes of state, good enough to spread clients apart, no use for secrets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A time from zero to just below `bound`, in whole microseconds.
    pub(super) fn below(&mut self, bound: Duration) -> Duration {
        let share = (u128::from(self.roll()) * bound.as_micros()) >> 64;
        Duration::from_micros(share as u64)
    }

    /// `span` ± 10 %.
    pub(super) fn around(&mut self, span: Duration) -> Duration {
        span - span / 10 + self.below(span / 5)
    }
}

/// Counts connects since the last link that proved itself. The first after such a link is made at once, the `n`th
/// after that (from 0) waits U(0, min(30 s, 1 s · 2ⁿ)).
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    tries: u32,
}

impl Backoff {
    /// The state while the very first connect is under way.
    pub(super) fn new() -> Backoff {
        Backoff { tries: 1 }
    }

    /// A link proved itself: the next connect may be made at once.
    pub(super) fn forgive(&mut self) {
        self.tries = 0;
    }

    /// The wait before the next connect.
    pub(super) fn next(&mut self, dice: &mut Dice) -> Duration {
        let tries = self.tries;
        self.tries = tries.saturating_add(1);
        match tries {
            0 => Duration::ZERO,
            // 2^5 s is over the cap already.
            n => dice.below((BACKOFF_BASE * (1 << (n - 1).min(5))).min(BACKOFF_MAX)),
        }
    }

    /// The wait after the server said `bye`: never at once, and not before `retry`.
    pub(super) fn next_after(&mut self, retry: Option<Duration>, dice: &mut Dice) -> Duration {
        self.tries = self.tries.max(1);
        let drawn = self.next(dice);
        let Some(retry) = retry else { return drawn };
        let retry = retry.min(RETRY_MAX);
        drawn.max(retry + dice.below(retry / 10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The widest and the mean of many draws of the `nth` wait after a loss.
    fn draw(nth: usize) -> (Duration, Duration) {
        let (mut widest, mut sum) = (Duration::ZERO, Duration::ZERO);
        for seed in 0..4000 {
            let (mut backoff, mut dice) = (Backoff::new(), Dice(seed));
            backoff.forgive();
            let wait = (0..=nth).map(|_| backoff.next(&mut dice)).last().unwrap();
            widest = widest.max(wait);
            sum += wait;
        }
        (widest, sum / 4000)
    }

    #[test]
    fn the_first_wait_is_none_and_the_rest_double_up_to_the_cap() {
        assert_eq!(draw(0), (Duration::ZERO, Duration::ZERO));
        for (nth, bound) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 30), (7, 30), (40, 30)] {
            let bound = SECOND * bound;
            let (widest, mean) = draw(nth);
            assert!(widest < bound && widest > bound.mul_f64(0.99), "wait {nth}: widest {widest:?} of {bound:?}");
            assert!(mean > bound.mul_f64(0.47) && mean < bound.mul_f64(0.53), "wait {nth}: mean {mean:?} of {bound:?}");
        }
    }

    #[test]
    fn around_is_within_a_tenth_and_reaches_both_ends() {
        let mut dice = Dice(1);
        let drawn: Vec<Duration> = (0..10_000).map(|_| dice.around(SECOND * 10)).collect();
        let (low, high) = (drawn.iter().min().unwrap(), drawn.iter().max().unwrap());
        assert!(*low >= SECOND * 9 && *low < SECOND * 9 + SECOND / 100, "{low:?}");
        assert!(*high < SECOND * 11 && *high > SECOND * 11 - SECOND / 100, "{high:?}");
    }

    #[test]
    fn a_retry_is_waited_for_and_a_mad_one_is_cut() {
        for seed in 0..1000 {
            let mut backoff = Backoff::new();
            let wait = backoff.next_after(Some(SECOND * 20), &mut Dice(seed));
            assert!(wait >= SECOND * 20 && wait < SECOND * 22, "{wait:?}");
            let wait = backoff.next_after(Some(Duration::MAX), &mut Dice(seed));
            assert!(wait >= RETRY_MAX && wait < RETRY_MAX + RETRY_MAX / 10, "{wait:?}");
        }
    }

    #[test]
    fn a_server_that_says_bye_is_not_called_again_at_once() {
        let mut waits = (0..100).map(|seed| {
            let mut backoff = Backoff::new();
            backoff.forgive();
            backoff.next_after(None, &mut Dice(seed))
        });
        assert!(waits.all(|wait| wait > Duration::ZERO && wait < SECOND));
    }
}
