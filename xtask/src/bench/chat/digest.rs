//! Presence-aware delivery: how many bytes those on leave get beside those who are alive.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::hall::Hall;
use super::load::{self, Kind};
use super::shape::Shape;
use crate::bench::row::{Figure, Goal, Row, median};
use crate::bench::target::Work;
use crate::bench::{Bench, Missing};

/// As many away as alive.
const ROOM: Shape = Shape { rooms: 1, receivers: 1_000 };
const AWAY: usize = 500;
const PER_SECOND: f64 = 100.0;
/// A digest comes once in five seconds; a little more than that catches the last one.
const PERIOD: Duration = Duration::from_secs(6);

/// The share of bytes, over some digests.
pub(crate) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    if bench.is_floor() {
        bail!(Missing("the floor knows no leave".to_owned()));
    }
    let span = bench.span(30, 10);
    let stray = Cell::new(0);
    let mut shares = Vec::new();
    let mut each = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.pair_count() {
        let mut target = bench.server(Work::Fan)?;
        let mut hall = Hall::open(&mut target, ROOM)?;
        let away = hall.receivers(0).start..hall.receivers(0).start + AWAY;
        let alive = away.end..hall.receivers(0).end;
        hall.send_away(away.clone())?;
        // What those on leave are told of each other's leave comes in their first digest.
        listen_for(&mut hall, PERIOD)?;
        hall.settle()?;
        let bytes = |hall: &Hall| [hall.push_bytes(away.clone()), hall.push_bytes(alive.clone())];
        let (before, digests) = (bytes(&hall), hall.digests);
        load::paced(&mut hall, Kind::Signal, PER_SECOND, (PER_SECOND * span.as_secs_f64()) as u64)?;
        listen_for(&mut hall, PERIOD)?;
        let after = bytes(&hall);
        let (away, alive) = ((after[0] - before[0]) as f64, (after[1] - before[1]) as f64);
        shares.push(away * 100.0 / alive);
        each.0.push(away / AWAY as f64);
        each.1.push(alive / AWAY as f64);
        each.2.push((hall.digests - digests) as f64 / AWAY as f64);
        stray.set(stray.get() + hall.stray);
    }
    let note = format!(
        "{:.0} bytes to each member on leave in {:.1} digests, {:.0} to each who was alive; {} signals reached members on leave",
        median(each.0),
        median(each.2),
        median(each.1),
        stray.get()
    );
    let what = format!("bytes to {AWAY} members on leave beside {AWAY} alive, 100 signals/s over {} s", span.as_secs());
    Ok(vec![Row::new("digest", what, Figure::alone(median(shares)), "%").must(Goal::AtMost(2.0)).note(note)])
}

fn listen_for(hall: &mut Hall, span: Duration) -> Result<()> {
    let end = Instant::now() + span;
    while Instant::now() < end {
        hall.listen(Duration::from_millis(10))?;
    }
    Ok(())
}
