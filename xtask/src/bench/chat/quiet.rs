//! One message in a room where nothing else happens: batching can only hurt here.
//!
//! Server and floor are up at the same time and get a signal in turn, a few milliseconds apart, so that whatever disturbs the
//! machine disturbs both.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;

use super::hall::{Hall, What};
use super::load::{self, Tally};
use super::raw::Raw;
use super::says;
use super::shape::Shape;
use crate::bench::Bench;
use crate::bench::daemon::Folder;
use crate::bench::row::{Figure, Goal, Row};
use crate::bench::target::Work;

/// A room of ten besides the publisher.
const ROOM: Shape = Shape { rooms: 1, receivers: 10 };
/// Between two messages to the same room; the other room's comes in the middle.
const EVERY: Duration = Duration::from_millis(10);
/// Looks for the delivery this often; it adds at most this to a latency.
const PAUSE: Duration = Duration::from_micros(5);
const PRACTICE: usize = 100;

/// The delivery's p99 of signals and of messages, the latter beside the time of a commit.
pub(crate) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let turns = bench.span(30, 5).as_millis() as usize / (2 * EVERY.as_millis() as usize);
    let [middle, signal] = bench.each_pair(|| {
        let (mut server, mut floor) = (bench.server(Work::Fan)?, bench.floor(Work::Fan)?);
        let (mut hall, mut bare) = (Hall::open(&mut server, ROOM)?, Hall::open(&mut floor, ROOM)?);
        let both: (Publish, Publish) = (Hall::signal, Hall::signal);
        in_turns(&mut hall, &mut bare, both, PRACTICE)?;
        let (server, floor) = in_turns(&mut hall, &mut bare, both, turns)?;
        Ok((quantiles(&server), quantiles(&floor)))
    })?;
    let mut rows = vec![
        Row::new("quiet", "delivery p50 of a signal in a quiet room of 10", middle, "µs"),
        Row::new("quiet", "delivery p99 of a signal in a quiet room of 10", signal, "µs").must(Goal::RatioAtMost(1.5)),
    ];
    if !bench.is_floor() {
        rows.extend(says(bench, turns)?);
    }
    Ok(rows)
}

fn says(bench: &Bench, turns: usize) -> Result<Vec<Row>> {
    let disk = says::disk()?;
    let [middle, most, commit] = bench.each_pair(|| {
        let (mut server, mut floor) = (bench.server(Work::Fan)?, bench.floor(Work::Fan)?);
        let (mut hall, mut bare) = (Hall::open(&mut server, ROOM)?, Hall::open(&mut floor, ROOM)?);
        // The floor keeps nothing, and knows signals only.
        let both: (Publish, Publish) = (Hall::say, Hall::signal);
        in_turns(&mut hall, &mut bare, both, PRACTICE)?;
        let (server, floor) = in_turns(&mut hall, &mut bare, both, turns)?;
        let folder = Folder::new()?;
        let mut raw = Raw::start(folder.path(), 1)?;
        raw.paced(1.0 / EVERY.as_secs_f64(), PRACTICE as u64)?;
        let commits = raw.paced(1.0 / EVERY.as_secs_f64(), turns as u64)?.acknowledgement;
        let (server, floor, commit) = (quantiles(&server), quantiles(&floor), quantiles(&commits));
        let allowed = |place: usize| 1.5 * floor[place] + commit[place];
        Ok(([server[0], server[1], commit[1]], [allowed(0), allowed(1), floor[1]]))
    })?;
    let allowed = |quantile: &str| {
        format!("delivery {quantile} of a message there, beside 1.5× the floor's {quantile} + a commit's")
    };
    let note =
        format!("a commit's p99 on {disk} is {:.0} µs, the floor's delivery {:.0} µs", commit.value, floor(commit));
    Ok(vec![
        Row::new("quiet", allowed("p50"), middle, "µs"),
        Row::new("quiet", allowed("p99"), most, "µs").must(Goal::RatioAtMost(1.0)).note(note),
    ])
}

fn floor(figure: Figure) -> f64 {
    figure.floor.unwrap_or(f64::NAN)
}

fn quantiles(histogram: &Histogram<u64>) -> [f64; 2] {
    [load::micros(histogram, 0.5), load::micros(histogram, 0.99)]
}

type Publish = fn(&mut Hall, usize) -> Result<u32>;

/// Publishes `turns` times in each hall, one hall after the other, and returns how long deliveries took in each.
fn in_turns(
    hall: &mut Hall,
    bare: &mut Hall,
    (publish, publish_bare): (Publish, Publish),
    turns: usize,
) -> Result<(Histogram<u64>, Histogram<u64>)> {
    let (mut of_hall, mut of_bare) = (Tally::new()?.delivery, Tally::new()?.delivery);
    for _ in 0..turns {
        once(hall, publish, &mut of_hall)?;
        once(bare, publish_bare, &mut of_bare)?;
    }
    Ok((of_hall, of_bare))
}

fn once(hall: &mut Hall, publish: Publish, latency: &mut Histogram<u64>) -> Result<()> {
    let start = Instant::now();
    publish(hall, 0)?;
    let end = start + EVERY;
    let mut heard = 0;
    // It stays until its time is over even when everyone has heard, so that messages are evenly spaced.
    while Instant::now() < end || heard < ROOM.receivers {
        hall.glance(PAUSE, None)?;
        for event in &hall.events {
            if let What::Delivery(_) = event.what {
                latency.saturating_record(event.at.saturating_duration_since(start).as_nanos() as u64);
                heard += 1;
            }
        }
        ensure!(start.elapsed() < Duration::from_secs(5), "a delivery did not come within 5 s");
    }
    Ok(())
}
