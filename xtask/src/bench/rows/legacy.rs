//! CPU of a beat that nobody answers, at a steady rate over many sessions.

use std::time::Duration;

use anyhow::Result;

use crate::bench::Bench;
use crate::bench::crowd::{Crowd, Speech};
use crate::bench::row::{Goal, Row};
use crate::bench::target::Work;

/// The load of the table.
pub(super) const SESSIONS: usize = 10_000;
pub(super) const BEATS_PER_SECOND: u32 = 20_000;
/// Beats before the measurement, so that every session has beaten and the server has found its pace.
pub(super) const WARM_UP: Duration = Duration::from_secs(2);

/// CPU time of the server per beat.
pub(crate) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let span = bench.span(10, 3);
    let [cpu] = bench.pairs(Work::Count, |target| {
        let mut crowd = Crowd::new(target.address(), &[Speech::Legacy])?;
        crowd.grow(SESSIONS)?;
        let warm = beats_in(WARM_UP);
        crowd.pace(0..SESSIONS, BEATS_PER_SECOND, warm)?;
        target.expect_beats(warm)?;
        let before = target.cpu()?;
        let tally = crowd.pace(0..SESSIONS, BEATS_PER_SECOND, beats_in(span))?;
        let used = target.cpu()?.since(&before);
        // What was not yet counted when the clock stopped is at most a batch; that all of it arrived is checked here.
        target.expect_beats(warm + tally.sent)?;
        Ok([used.as_secs_f64() * 1e6 / tally.sent as f64])
    })?;
    let row = Row::new("legacy", "CPU per beat, 20,000/s over 10,000 legacy sessions, no reply", cpu, "µs");
    Ok(vec![row.must(Goal::RatioAtMost(0.6)).aim(Goal::AtMost(4.0))])
}

/// Beats that fall into `span` at the rate of the table.
pub(super) fn beats_in(span: Duration) -> u64 {
    span.as_secs() * u64::from(BEATS_PER_SECOND)
}
