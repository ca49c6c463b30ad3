//! Memory: how much the daemon grows for each session that beat once and is silent since.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::bench::Bench;
use crate::bench::crowd::{Crowd, Speech};
use crate::bench::process::Memory;
use crate::bench::row::{Goal, Row};
use crate::bench::target::{Target, Work};

/// The growth is taken between these, so that what a process needs for itself does not count.
const FEW: usize = 1_000;
const MANY: usize = 15_000;
/// First beats come at this rate.
const BEATS_PER_SECOND: u32 = 5_000;
/// Memory counts as settled when this many looks in a row differ by less than `SETTLED_BYTES`.
const LOOKS: usize = 5;
const LOOK_EVERY: Duration = Duration::from_millis(200);
const SETTLED_BYTES: u64 = 64 * 1024;
const SETTLE_WAIT: Duration = Duration::from_secs(15);

/// Bytes of resident memory per session from 1,000 to 15,000, and of private dirty memory beside it.
pub(crate) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let [resident, private] = bench.pairs(Work::Count, |target| {
        let mut crowd = Crowd::new(target.address(), &[Speech::Legacy])?;
        let few = hold(&mut crowd, target, 0, FEW)?;
        let many = hold(&mut crowd, target, FEW, MANY)?;
        let per_session = |few: u64, many: u64| (many as f64 - few as f64) / (MANY - FEW) as f64;
        Ok([per_session(few.resident, many.resident), per_session(few.private, many.private)])
    })?;
    let row = Row::new("rss", "growth of RSS per idle legacy session, 1,000 → 15,000", resident, "B");
    Ok(vec![
        row.must(Goal::AtMost(1_300.0)).aim(Goal::AtMost(900.0)),
        Row::new("rss", "the same, private dirty pages only", private, "B"),
    ])
}

/// Grows the crowd, lets each newcomer beat once and waits until memory no longer changes.
fn hold(crowd: &mut Crowd, target: &mut Target, from: usize, to: usize) -> Result<Memory> {
    crowd.grow(to)?;
    crowd.pace(from..to, BEATS_PER_SECOND, (to - from) as u64)?;
    target.expect_beats(to as u64)?;
    settled(|| target.memory(), to)
}

/// Looks until memory no longer changes.
pub(crate) fn settled(look: impl Fn() -> Result<Memory>, sessions: usize) -> Result<Memory> {
    let deadline = Instant::now() + SETTLE_WAIT;
    let mut looks: Vec<Memory> = Vec::new();
    loop {
        looks.push(look()?);
        let last = &looks[looks.len().saturating_sub(LOOKS)..];
        let range = |field: fn(&Memory) -> u64| {
            let values = || last.iter().map(field);
            values().max().unwrap_or(0) - values().min().unwrap_or(0)
        };
        if last.len() == LOOKS && range(|memory| memory.resident).max(range(|memory| memory.private)) < SETTLED_BYTES {
            return Ok(last[LOOKS - 1]);
        }
        ensure!(
            Instant::now() < deadline,
            "memory with {sessions} sessions did not settle in {SETTLE_WAIT:?}: {last:?}"
        );
        std::thread::sleep(LOOK_EVERY);
    }
}
