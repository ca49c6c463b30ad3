//! What a delivery costs the server when the publisher keeps a fixed number of signals in flight.

use std::time::Duration;

use anyhow::Result;

use super::hall::Hall;
use super::load::{self, Kind, Tally};
use super::shape::Shape;
use crate::bench::Bench;
use crate::bench::row::{Figure, Goal, Row};
use crate::bench::target::{Target, Work};

/// One publisher in front of a thousand.
pub(super) const HALL: Shape = Shape { rooms: 1, receivers: 1_000 };
/// A hundred publishers in front of a hundred each.
pub(super) const CLUBS: Shape = Shape { rooms: 100, receivers: 100 };
/// Before each measurement, so that buffers have grown and the server has found its pace.
pub(super) const WARM_UP: Duration = Duration::from_secs(1);
/// A generator that is busy for a larger share of the time, before a server that is not, was the limit.
const BUSY_PERCENT: f64 = 90.0;

/// One in flight: nothing can be gathered.
pub(crate) fn one(bench: &Bench) -> Result<Vec<Row>> {
    let [cpu, rest @ ..] = measure(bench, HALL, 1)?;
    let row = row("fan1", "CPU per delivery, 1 publisher → room of 1,000, one in flight", cpu);
    Ok(with_rates("fan1", row.must(Goal::RatioAtMost(1.3)).aim(Goal::RatioAtMost(1.0)), &rest))
}

/// Sixteen in flight: what gathers may be written together.
pub(crate) fn sixteen(bench: &Bench) -> Result<Vec<Row>> {
    let [cpu, rest @ ..] = measure(bench, HALL, 16)?;
    let row = row("fan16", "CPU per delivery, 1 publisher → room of 1,000, 16 in flight", cpu);
    Ok(with_rates("fan16", row.must(Goal::AtMost(1.0)).aim(Goal::AtMost(0.6)), &rest))
}

/// Many rooms at once.
pub(crate) fn hundred(bench: &Bench) -> Result<Vec<Row>> {
    let [cpu, rest @ ..] = measure(bench, CLUBS, 4)?;
    let row = row("fan100", "CPU per delivery, 100 rooms × 100 members, 4 in flight each", cpu);
    Ok(with_rates("fan100", row.must(Goal::AtMost(4.0)).aim(Goal::AtMost(2.9)), &rest))
}

fn row(name: &'static str, what: &str, cpu: Figure) -> Row {
    Row::new(name, what, cpu, "µs")
}

/// What one run says: CPU in µs per delivery, deliveries a second, p99 in µs, and the shares of their cores that server and
/// generator were busy for, in percent.
type Run = [f64; 5];

fn measure(bench: &Bench, shape: Shape, in_flight: usize) -> Result<[Figure; 5]> {
    let span = bench.span(8, 2);
    bench.pairs(Work::Fan, |target| {
        let mut hall = Hall::open(target, shape)?;
        run(target, &mut hall, in_flight, span)
    })
}

/// Runs with so many in flight, after a warm-up.
pub(super) fn run(target: &Target, hall: &mut Hall, in_flight: usize, span: Duration) -> Result<Run> {
    load::closed(hall, Kind::Signal, in_flight, WARM_UP)?;
    let before = target.cpu()?;
    let tally = load::closed(hall, Kind::Signal, in_flight, span)?;
    let used = target.cpu()?.since(&before);
    let deliveries = tally.deliveries as f64;
    let took = tally.took.as_secs_f64();
    Ok([
        used.as_secs_f64() * 1e6 / deliveries,
        deliveries / took,
        load::micros(&tally.delivery, 0.99),
        used.as_secs_f64() * 100.0 / took,
        tally.generator,
    ])
}

fn with_rates(name: &'static str, cpu: Row, rest: &[Figure; 4]) -> Vec<Row> {
    let [rate, most, server, generator] = *rest;
    vec![
        cpu.note(shares(server, generator)),
        Row::new(name, "the same, deliveries a second by the clock", rate, "/s"),
        Row::new(name, "the same, p99 from writing to delivery", most, "µs"),
    ]
}

/// How busy server and generator were, and who was the limit if not the server.
pub(super) fn shares(server: Figure, generator: Figure) -> String {
    let verdict = |server: f64, generator: f64| {
        if generator > BUSY_PERCENT && server < BUSY_PERCENT { ": the generator was the limit" } else { "" }
    };
    let floor = |figure: Figure| figure.floor.unwrap_or(f64::NAN);
    format!(
        "the server used {:.0} % of its core, the generator was busy for {:.0} % of the time{}; beside the floor {:.0} % and {:.0} %{}",
        server.value,
        generator.value,
        verdict(server.value, generator.value),
        floor(server),
        floor(generator),
        verdict(floor(server), floor(generator)),
    )
}

/// What a load on a schedule has to confess.
pub(super) fn lateness(tally: &Tally) -> f64 {
    tally.late as f64 * 100.0 / tally.published.max(1) as f64
}
