//! `cargo xtask bench chat`: what it costs to carry talk, beside a bare fan-out and a bare commit loop.
//!
//! One file a row, as in `rows`; `hall` is the load generator, `wire` what it says, `load` how much and when.

mod digest;
mod fan;
mod hall;
mod idle;
mod load;
mod lone;
mod quiet;
mod raw;
mod says;
mod shape;
mod slow;
#[cfg(test)]
mod standin;
mod steady;
mod wire;

pub(crate) use self::wire::Dialect;
use super::{Benchmark, Suite};

/// `cargo xtask bench chat`.
pub(crate) const CHAT: Suite = Suite { benchmarks: ROWS, settings: SETTINGS };

/// What the measured gateway is started with: names are claims, and no limit is low enough to be what is measured.
const SETTINGS: &[(&str, &str)] = &[
    ("STILLHERE_AUTH__MODE", "open"),
    ("STILLHERE_LIMITS__MESSAGES_PER_SECOND", "0"),
    ("STILLHERE_LIMITS__ADDRESS_MESSAGES_PER_SECOND", "0"),
    ("STILLHERE_LIMITS__ROOM_PER_SECOND", "0"),
    ("STILLHERE_LIMITS__SIGNALS_PER_SECOND", "0"),
    ("STILLHERE_LIMITS__JOINS_PER_SECOND", "0"),
    ("STILLHERE_LIMITS__REQUESTS_PER_SECOND", "0"),
    ("STILLHERE_LIMITS__LINKS_PER_MINUTE", "0"),
    ("STILLHERE_LIMITS__FRAMES_PER_SECOND", "0"),
];

const ROWS: &[Benchmark] = &[
    Benchmark { name: "fan1", what: "signal to a room of 1,000, one in flight", measure: fan::one },
    Benchmark { name: "fan16", what: "signal to a room of 1,000, 16 in flight", measure: fan::sixteen },
    Benchmark { name: "fan100", what: "signals in 100 rooms of 100, 4 in flight each", measure: fan::hundred },
    Benchmark { name: "p99", what: "delivery at half of the floor's saturation", measure: steady::measure },
    Benchmark { name: "quiet", what: "one message in a quiet room", measure: quiet::measure },
    Benchmark { name: "says", what: "durable messages of 256 publishers", measure: says::measure },
    Benchmark { name: "idle", what: "memory per idle session", measure: idle::measure },
    Benchmark { name: "slow", what: "one that reads nothing in a room of 1,000", measure: slow::measure },
    Benchmark { name: "digest", what: "bytes to members on leave", measure: digest::measure },
];
