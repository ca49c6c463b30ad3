//! The process's monotonic clock, and how its moments look on the wall.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use stillhere_core::time::Time;

/// A clock that starts with the process; copies agree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock { origin: Instant::now() }
    }

    /// Now, for the core.
    pub(crate) fn now(&self) -> Time {
        Time::from_micros(self.origin.elapsed().as_micros() as u64)
    }

    /// A moment of the core as the runtime's timer wants it.
    pub(crate) fn instant(&self, at: Time) -> Instant {
        self.origin + Duration::from_micros(at.as_micros())
    }
}

/// The wall clock, in milliseconds since 1970.
pub(crate) fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// One moment on both clocks: what turns a shard's times into the wall's. Taken on the shard's thread, so that all
/// that is shown of one look agrees to the millisecond.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// The shard's time.
    pub(crate) at: Time,
    wall_us: i64,
}

impl Moment {
    /// Now, when the shard's time is `at`.
    pub(crate) fn now(at: Time) -> Moment {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Moment { at, wall_us: i64::try_from(wall.as_micros()).unwrap_or(i64::MAX) }
    }

    /// What the wall showed at an earlier time of the shard.
    pub(crate) fn wall(&self, at: Time) -> Timestamp {
        let ago_us = i64::try_from(self.at.since(at).as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_microsecond(self.wall_us.saturating_sub(ago_us)).unwrap_or_default()
    }
}

/// As the API writes moments: UTC to the millisecond.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    format!("{at:.3}")
}
