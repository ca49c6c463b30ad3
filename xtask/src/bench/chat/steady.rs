//! How long a delivery takes at half of what the floor can do at most.

use anyhow::Result;

use super::fan::{self, CLUBS, HALL, WARM_UP};
use super::hall::Hall;
use super::load::{self, Kind};
use super::shape::Shape;
use crate::bench::row::{Goal, Row};
use crate::bench::target::Work;
use crate::bench::{Bench, progress};

/// One big room and many small ones, at the same share of the floor's core.
pub(crate) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = half(bench, HALL, 16, "1 × 1,000")?;
    rows.extend(half(bench, CLUBS, 4, "100 × 100")?);
    Ok(rows)
}

fn half(bench: &Bench, shape: Shape, in_flight: usize, name: &str) -> Result<Vec<Row>> {
    let deliveries = saturation(bench, shape, in_flight)? / 2.0;
    let per_second = deliveries / shape.receivers as f64;
    progress(&format!("p99: half of the floor's saturation in {name} is {deliveries:.0} deliveries/s"));
    let count = |seconds: f64| (per_second * seconds) as u64;
    let span = bench.span(10, 3);
    let [middle, most, server, generator, late] = bench.pairs(Work::Fan, |target| {
        let mut hall = Hall::open(target, shape)?;
        load::paced(&mut hall, Kind::Signal, per_second, count(WARM_UP.as_secs_f64()))?;
        let before = target.cpu()?;
        let tally = load::paced(&mut hall, Kind::Signal, per_second, count(span.as_secs_f64()))?;
        let used = target.cpu()?.since(&before).as_secs_f64();
        Ok([
            load::micros(&tally.delivery, 0.5),
            load::micros(&tally.delivery, 0.99),
            used * 100.0 / tally.took.as_secs_f64(),
            tally.generator,
            fan::lateness(&tally),
        ])
    })?;
    let what = |quantile: &str| {
        format!("delivery {quantile} at half of the floor's saturation, {name}, {per_second:.0} signals/s")
    };
    let note = format!(
        "{}; the generator wrote {:.2} % of the signals more than 1 ms late (floor: {:.2} %)",
        fan::shares(server, generator),
        late.value,
        late.floor.unwrap_or(f64::NAN)
    );
    Ok(vec![
        Row::new("p99", what("p50"), middle, "µs"),
        Row::new("p99", what("p99"), most, "µs").must(Goal::RatioAtMost(2.0)).aim(Goal::RatioAtMost(1.0)).note(note),
    ])
}

/// Deliveries a second of the floor's CPU time with so many in flight: what it could do if it had its core for itself.
fn saturation(bench: &Bench, shape: Shape, in_flight: usize) -> Result<f64> {
    let mut target = bench.floor(Work::Fan)?;
    let mut hall = Hall::open(&mut target, shape)?;
    let [cpu, ..] = fan::run(&target, &mut hall, in_flight, bench.span(5, 2))?;
    Ok(1e6 / cpu)
}
