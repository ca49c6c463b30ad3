//! The latency of a reply when there is little to do, where batching would only hurt.

use anyhow::Result;

use crate::bench::Bench;
use crate::bench::crowd::Crowd;
use crate::bench::row::{Goal, Row};
use crate::bench::target::Work;

const SESSIONS: usize = 100;
const BEATS_PER_SECOND: u32 = 200;

/// The reply's latency beside the floor's, whose share is what the kernel and the machine need.
pub(crate) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let span = bench.span(20, 5);
    let beats = span.as_secs() * u64::from(BEATS_PER_SECOND);
    let [half, most] = bench.pairs(Work::Reply, |target| {
        let mut crowd = Crowd::new(target.address(), &[target.v1()])?;
        crowd.grow(SESSIONS)?;
        crowd.pace(0..SESSIONS, BEATS_PER_SECOND, u64::from(BEATS_PER_SECOND))?;
        let tally = crowd.pace(0..SESSIONS, BEATS_PER_SECOND, beats)?;
        Ok([tally.latency_us(0.5), tally.latency_us(0.99)])
    })?;
    Ok(vec![
        Row::new("latency", "reply latency p50 at 200/s over 100 sessions", half, "µs"),
        Row::new("latency", "reply latency p99 at 200/s over 100 sessions", most, "µs").must(Goal::RatioAtMost(1.5)),
    ])
}
