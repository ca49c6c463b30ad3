//! How often a kind of line may be written: a token bucket for each tracing callsite.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::Metadata;
use tracing::callsite::Identifier;

/// Lets `rate` lines a second through for each callsite, and as many at once; counts the rest.
pub(super) struct Limiter {
    rate: u32,
    /// One bucket for a place in the code that logs, so at most as many as there are such places. The lock is held
    /// for a look-up; no call that could wait happens under it.
    buckets: Mutex<HashMap<Identifier, Bucket>>,
    suppressed: AtomicU64,
}

struct Bucket {
    metadata: &'static Metadata<'static>,
    /// Lines that may still be written now, in billionths.
    credit: u64,
    credited_at: Instant,
    /// Lines left out since the last summary, and the message of the first of them.
    suppressed: u64,
    sample: String,
}

/// What was left out of one kind of line.
pub(super) struct Summary {
    pub(super) metadata: &'static Metadata<'static>,
    pub(super) count: u64,
    /// The message of the first line that was left out.
    pub(super) sample: String,
}

const LINE: u64 = 1_000_000_000;

impl Limiter {
    /// A limiter for `rate` lines a second; 0 lets everything through.
    pub(super) fn new(rate: u32) -> Limiter {
        Limiter { rate, buckets: Mutex::default(), suppressed: AtomicU64::new(0) }
    }

    /// Whether a line may be written now. `sample` makes its message and is asked only for the first that may not.
    pub(super) fn admit(
        &self,
        metadata: &'static Metadata<'static>,
        now: Instant,
        sample: impl FnOnce() -> String,
    ) -> bool {
        if self.rate == 0 {
            return true;
        }
        let full = u64::from(self.rate) * LINE;
        let first = {
            let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
            let bucket = buckets.entry(metadata.callsite()).or_insert_with(|| Bucket::full(metadata, full, now));
            bucket.refill(self.rate, full, now);
            if bucket.credit >= LINE {
                bucket.credit -= LINE;
                return true;
            }
            bucket.suppressed += 1;
            bucket.suppressed == 1
        };
        self.suppressed.fetch_add(1, Ordering::Relaxed);
        if first {
            // Formatting calls foreign code, so it happens outside the lock.
            let sample = sample();
            let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(bucket) = buckets.get_mut(&metadata.callsite()) {
                bucket.sample = sample;
            }
        }
        false
    }

    /// What was left out since the last call, by kind of line.
    pub(super) fn take_summaries(&self) -> Vec<Summary> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let guilty = buckets.values_mut().filter(|bucket| bucket.suppressed > 0);
        guilty
            .map(|bucket| Summary {
                metadata: bucket.metadata,
                count: std::mem::take(&mut bucket.suppressed),
                sample: std::mem::take(&mut bucket.sample),
            })
            .collect()
    }

    /// How many lines were left out since the start.
    pub(super) fn suppressed(&self) -> u64 {
        self.suppressed.load(Ordering::Relaxed)
    }
}

impl Bucket {
    fn full(metadata: &'static Metadata<'static>, credit: u64, now: Instant) -> Bucket {
        Bucket { metadata, credit, credited_at: now, suppressed: 0, sample: String::new() }
    }

    fn refill(&mut self, rate: u32, full: u64, now: Instant) {
        // Longer than a second fills the bucket anyway; the bound keeps the product in range.
        let elapsed = now.saturating_duration_since(self.credited_at).min(Duration::from_secs(1));
        self.credit = (self.credit + elapsed.as_nanos() as u64 * u64::from(rate)).min(full);
        self.credited_at = self.credited_at.max(now);
    }
}
