//! The most beats a second that one core answers.

use std::time::Duration;

use anyhow::Result;

use crate::bench::Bench;
use crate::bench::crowd::Crowd;
use crate::bench::process::Cpu;
use crate::bench::row::{Figure, Goal, Row};
use crate::bench::target::Work;

/// Sessions that beat at once, and how many beats each writes before it waits for their replies: enough for the generator to
/// spend less on a beat than the server, few enough to be beats of many sessions rather than a stream of one.
const SESSIONS: usize = 5_000;
const BEATS_PER_WRITE: u32 = 4;
const WARM_UP: Duration = Duration::from_secs(1);

/// Replies a second by the clock and by the server's own CPU time; the two agree when the server, not the generator, is the limit.
pub(crate) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let span = bench.span(5, 2);
    let [wall, saturated, share, generator] = bench.pairs(Work::Reply, |target| {
        let mut crowd = Crowd::new(target.address(), &[target.v1()])?;
        crowd.grow(SESSIONS)?;
        crowd.volley(BEATS_PER_WRITE, WARM_UP)?;
        let before = target.cpu()?;
        let own = Cpu::of(std::process::id())?;
        let volley = crowd.volley(BEATS_PER_WRITE, span)?;
        let used = target.cpu()?.since(&before).as_secs_f64();
        let generator = Cpu::of(std::process::id())?.since(&own).as_secs_f64();
        let took = volley.took.as_secs_f64();
        Ok([volley.replies as f64 / took, volley.replies as f64 / used, used * 100.0 / took, generator * 100.0 / took])
    })?;
    let floor = |figure: Figure| figure.floor.unwrap_or(f64::NAN);
    let shares = format!(
        "{SESSIONS} sessions, {BEATS_PER_WRITE} beats a write; the server used {:.0} % of its core and the generator {:.0} % of the other (floor: {:.0} % and {:.0} %)",
        share.value,
        generator.value,
        floor(share),
        floor(generator)
    );
    Ok(vec![
        Row::new("burst", "most beats/s with reply on one core, by the clock", wall, "/s")
            .must(Goal::AtLeast(100_000.0))
            .aim(Goal::AtLeast(150_000.0))
            .note(shares),
        Row::new("burst", "the same per second of the server's CPU time", saturated, "/s"),
    ])
}
