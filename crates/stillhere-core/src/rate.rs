//! Rates: so many a second on average, so many at once.
//!
//! A [`Bucket`] is eight bytes, the theoretical arrival time of GCRA: when the next one would be due if all came evenly
//! at the allowed rate. It admits as long as that moment isn't further ahead than the burst allows. [`Table`] keeps
//! buckets for keys that peers choose, such as addresses.

use std::hash::Hash;
use std::time::Duration;

use crate::lru::Lru;
use crate::time::Time;

/// How much is allowed.
///
/// Times are in whole microseconds, rounded against the peer: what is allowed is never more than said, and below
/// 10,000 a second at most 1 % less. More than a million a second can't be told from a million.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The average a second; 0 for no limit.
    pub per_second: u32,
    /// How many may come at once; 0 counts as 1.
    pub burst: u32,
}

impl Rate {
    /// All is admitted.
    pub const UNLIMITED: Rate = Rate { per_second: 0, burst: 0 };

    /// The time between two that come evenly, in microseconds; `None` without a limit.
    fn spacing_us(&self) -> Option<u64> {
        (self.per_second > 0).then(|| 1_000_000u64.div_ceil(u64::from(self.per_second)))
    }

    fn burst(&self) -> u64 {
        u64::from(self.burst.max(1))
    }
}

/// What one peer has used up of a [`Rate`]. A new one has its whole burst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket(Time);

impl Bucket {
    /// Takes one. An error is the wait until one would be admitted; then nothing is taken.
    pub fn take(&mut self, rate: &Rate, now: Time) -> Result<(), Duration> {
        self.take_n(1, rate, now)
    }

    /// Takes `n` at once or none. An error is the wait until they would be admitted, which is [`Duration::MAX`] for
    /// more than the burst: those never are.
    pub fn take_n(&mut self, n: u32, rate: &Rate, now: Time) -> Result<(), Duration> {
        let Some(spacing) = rate.spacing_us() else { return Ok(()) };
        if u64::from(n) > rate.burst() {
            return Err(Duration::MAX);
        }
        let full = Duration::from_micros(spacing * rate.burst());
        // What was used up under another rate counts at most as a burst of this one.
        self.0 = self.0.min(now + full);
        let due = self.0.max(now) + Duration::from_micros(spacing * u64::from(n));
        let ahead = due.since(now);
        if ahead > full {
            return Err(ahead - full);
        }
        self.0 = due;
        Ok(())
    }

    /// Whether the whole burst is there, so that the bucket can be forgotten.
    pub fn is_full(&self, now: Time) -> bool {
        self.0 <= now
    }
}

/// Buckets for keys that peers choose: at most as many as said, and the one not used for longest is forgotten first.
#[derive(Debug)]
pub struct Table<K>(Lru<K, Bucket>);

impl<K: Hash + Eq> Table<K> {
    /// An empty table of at most `limit` buckets.
    pub fn new(limit: usize) -> Table<K> {
        Table(Lru::new(limit))
    }

    /// Takes one from the bucket of `key`; see [`Bucket::take`].
    pub fn take(&mut self, key: K, rate: &Rate, now: Time) -> Result<(), Duration> {
        self.take_n(key, 1, rate, now)
    }

    /// Takes `n` from the bucket of `key`; see [`Bucket::take_n`].
    pub fn take_n(&mut self, key: K, n: u32, rate: &Rate, now: Time) -> Result<(), Duration> {
        if rate.per_second == 0 {
            return Ok(());
        }
        self.0.get_or_default(key).take_n(n, rate, now)
    }

    /// How many buckets are kept.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn micros(micros: u64) -> Time {
        Time::from_micros(micros)
    }

    #[test]
    fn a_burst_then_one_every_spacing() {
        let rate = Rate { per_second: 10, burst: 3 };
        let mut bucket = Bucket::default();
        let start = Time::from_millis(5000);
        for _ in 0..3 {
            assert_eq!(bucket.take(&rate, start), Ok(()));
        }
        assert_eq!(bucket.take(&rate, start), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(&rate, start + Duration::from_millis(99)), Err(Duration::from_millis(1)));
        assert_eq!(bucket.take(&rate, start + Duration::from_millis(100)), Ok(()));
        assert_eq!(bucket.take_n(2, &rate, start + Duration::from_millis(100)), Err(Duration::from_millis(200)));
        assert!(!bucket.is_full(start + Duration::from_millis(399)));
        assert!(bucket.is_full(start + Duration::from_millis(400)));
    }

    #[test]
    fn the_edges_of_a_rate() {
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take_n(u32::MAX, &Rate::UNLIMITED, Time::ZERO), Ok(()));
        assert_eq!(bucket, Bucket::default());
        let rate = Rate { per_second: 1, burst: 0 };
        assert_eq!(bucket.take(&rate, Time::ZERO), Ok(()));
        assert_eq!(bucket.take(&rate, Time::ZERO), Err(Duration::from_secs(1)));
        assert_eq!(bucket.take_n(2, &rate, Time::ZERO), Err(Duration::MAX));
        let widest = Rate { per_second: u32::MAX, burst: u32::MAX };
        assert_eq!(Bucket::default().take_n(u32::MAX, &widest, Time::ZERO), Ok(()));
        let slowest = Rate { per_second: 1, burst: u32::MAX };
        assert_eq!(Bucket::default().take_n(u32::MAX, &slowest, Time::ZERO), Ok(()));
        assert_eq!(size_of::<Bucket>(), 8);
    }

    #[test]
    fn a_new_rate_forgives_all_but_one_burst() {
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take_n(1000, &Rate { per_second: 1, burst: 1000 }, Time::ZERO), Ok(()));
        let faster = Rate { per_second: 100, burst: 10 };
        assert_eq!(bucket.take(&faster, Time::ZERO), Err(Duration::from_millis(10)));
        assert_eq!(bucket.take(&faster, Time::from_millis(10)), Ok(()));
    }

    #[test]
    fn a_table_is_bounded_and_forgets_the_idle_first() {
        let rate = Rate { per_second: 1, burst: 1 };
        let mut table = Table::new(2);
        assert_eq!(table.take("busy", &rate, Time::ZERO), Ok(()));
        for other in ["a", "b", "c"] {
            assert_eq!(table.take(other, &rate, Time::ZERO), Ok(()));
            assert_eq!(table.take("busy", &rate, Time::ZERO), Err(Duration::from_secs(1)));
        }
        assert_eq!(table.len(), 2);
        assert_eq!(table.take("a", &rate, Time::ZERO), Ok(()));
        assert_eq!(table.take("new", &Rate::UNLIMITED, Time::ZERO), Ok(()));
        assert_eq!(table.len(), 2);
    }

    /// Gaps that are often near the spacings of the rates below.
    fn any_gap() -> impl Strategy<Value = u64> {
        prop_oneof![Just(0), 1u64..20, 0u64..2_000_000, Just(333_334), Just(1_000_000), 9_000_000u64..10_000_000]
    }

    proptest! {
        #[test]
        fn no_window_admits_more_than_a_burst_and_the_rate_and_waiting_helps(
            per_second in prop_oneof![1u32..10, 1u32..2_000_000],
            burst in 0u32..8,
            takes in prop::collection::vec((any_gap(), 1u32..4), 1..120),
        ) {
            let rate = Rate { per_second, burst };
            let mut bucket = Bucket::default();
            let mut now = 0;
            let mut admitted: Vec<(u64, u32)> = Vec::new();
            for (gap, n) in takes {
                now += gap;
                match bucket.take_n(n, &rate, micros(now)) {
                    Ok(()) => admitted.push((now, n)),
                    Err(Duration::MAX) => prop_assert!(n > burst.max(1)),
                    Err(wait) => {
                        // Nothing was taken, a microsecond less is too early, and the wait is enough.
                        let at = micros(now) + wait;
                        let early = at - Duration::from_micros(1);
                        let (mut sooner, mut then) = (bucket, bucket);
                        prop_assert!(sooner.take_n(n, &rate, early).is_err());
                        prop_assert_eq!(then.take_n(n, &rate, at), Ok(()));
                    }
                }
            }
            for first in 0..admitted.len() {
                let mut sum = 0u64;
                for (at, n) in &admitted[first..] {
                    sum += u64::from(*n);
                    let window_us = u128::from(at - admitted[first].0);
                    let allowed = u128::from(burst.max(1)) * 1_000_000 + u128::from(per_second) * window_us;
                    prop_assert!(u128::from(sum) * 1_000_000 <= allowed, "{} in {} us", sum, window_us);
                }
            }
        }

        /// Against the textbook: tokens that drip into a bucket, one every spacing.
        #[test]
        fn it_is_a_bucket_of_tokens(
            spacing_ms in 1u64..1000, burst in 1u32..8, takes in prop::collection::vec((0u64..3000, 1u32..4), 1..80),
        ) {
            let rate = Rate { per_second: (1000 / spacing_ms).max(1) as u32, burst };
            let spacing = 1_000_000u64.div_ceil(u64::from(rate.per_second));
            let mut bucket = Bucket::default();
            // Counted in microseconds of dripping, so that nothing is rounded.
            let (mut level, full, mut now) = (u64::from(burst) * spacing, u64::from(burst) * spacing, 0);
            for (gap_ms, n) in takes {
                now += gap_ms * 1000;
                level = full.min(level + gap_ms * 1000);
                let cost = u64::from(n) * spacing;
                let admits = cost <= level;
                prop_assert_eq!(bucket.take_n(n, &rate, micros(now)).is_ok(), admits);
                if admits {
                    level -= cost;
                }
            }
        }
    }
}
