//! CPU and latency of a beat that is answered, at a steady rate over many sessions.

use anyhow::Result;

use super::legacy::{BEATS_PER_SECOND, SESSIONS, WARM_UP, beats_in};
use crate::bench::Bench;
use crate::bench::crowd::Crowd;
use crate::bench::row::{Goal, Row};
use crate::bench::target::Work;

/// CPU time of the server per beat, and the reply's latency counted from when the beat was due.
pub(crate) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let span = bench.span(10, 3);
    let [cpu, half, most, late] = bench.pairs(Work::Reply, |target| {
        let mut crowd = Crowd::new(target.address(), &[target.v1()])?;
        crowd.grow(SESSIONS)?;
        crowd.pace(0..SESSIONS, BEATS_PER_SECOND, beats_in(WARM_UP))?;
        let before = target.cpu()?;
        let tally = crowd.pace(0..SESSIONS, BEATS_PER_SECOND, beats_in(span))?;
        let used = target.cpu()?.since(&before);
        let cpu_us = used.as_secs_f64() * 1e6 / tally.sent as f64;
        Ok([cpu_us, tally.latency_us(0.5), tally.latency_us(0.99), tally.late as f64 * 100.0 / tally.sent as f64])
    })?;
    let late = format!("the generator wrote {:.2} % of the beats more than 1 ms late", late.value);
    Ok(vec![
        Row::new("reply", "CPU per beat, 20,000/s over 10,000 v1 sessions, with reply", cpu, "µs")
            .must(Goal::RatioAtMost(0.6))
            .aim(Goal::AtMost(8.0)),
        Row::new("reply", "reply latency p50 at 20,000/s", half, "µs"),
        Row::new("reply", "reply latency p99 at 20,000/s", most, "µs").must(Goal::AtMost(2_000.0)).note(late),
    ])
}
