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

/// What the wall showed so long ago, to the millisecond.
pub(crate) fn wall_ago(ago: Duration) -> Timestamp {
    let now_ms = wall_ms() as i64;
    let ago_ms = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(now_ms.saturating_sub(ago_ms)).unwrap_or_default()
}

/// As the API writes moments: UTC to the millisecond.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    format!("{at:.3}")
}
