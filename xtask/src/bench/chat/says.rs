//! Durable messages: how many a second, and how long until one is acknowledged, beside a loop that only commits.

use std::time::Duration;

use anyhow::{Result, bail};

use super::fan::{self, WARM_UP};
use super::hall::Hall;
use super::load::{self, Kind};
use super::raw::Raw;
use super::shape::Shape;
use crate::bench::daemon::Folder;
use crate::bench::row::{Figure, Goal, Row};
use crate::bench::target::Work;
use crate::bench::{Bench, Missing, machine};

/// Publishers, each alone in its room, so that nothing but the store is measured.
const ALONE: Shape = Shape { rooms: 256, receivers: 0 };
/// The load at which the acknowledgement's latency is taken.
const PER_SECOND: f64 = 5_000.0;

/// Closed loop with one message under way for each publisher, then the schedule.
pub(crate) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let disk = disk()?;
    let span = bench.span(10, 3);
    let count = |span: Duration| (PER_SECOND * span.as_secs_f64()) as u64;
    let of_gateway = || -> Result<_> {
        let mut target = bench.server(Work::Fan)?;
        let mut hall = Hall::open(&mut target, ALONE)?;
        load::closed(&mut hall, Kind::Say, 1, WARM_UP)?;
        let before = target.cpu()?;
        let burst = load::closed(&mut hall, Kind::Say, 1, span)?;
        let used = target.cpu()?.since(&before).as_secs_f64() * 100.0 / burst.took.as_secs_f64();
        load::paced(&mut hall, Kind::Say, PER_SECOND, count(WARM_UP))?;
        let steady = load::paced(&mut hall, Kind::Say, PER_SECOND, count(span))?;
        Ok(figures(&burst, &steady, used))
    };
    let of_raw_loop = || -> Result<_> {
        let folder = Folder::new()?;
        let mut raw = Raw::start(folder.path(), ALONE.rooms)?;
        raw.closed(WARM_UP)?;
        let burst = raw.closed(span)?;
        raw.paced(PER_SECOND, count(WARM_UP))?;
        let steady = raw.paced(PER_SECOND, count(span))?;
        // It is a thread of the benchmark: its share of the core is not told apart.
        Ok(figures(&burst, &steady, f64::NAN))
    };
    let [rate, full, middle, most, late, server, generator] = bench.each_pair(|| {
        // The floor of fan-out keeps no messages; what stands in for the gateway here is a second raw loop.
        Ok((if bench.is_floor() { of_raw_loop() } else { of_gateway() }?, of_raw_loop()?))
    })?;
    let note = if bench.is_floor() {
        format!("on {disk}; both sides are the raw commit loop")
    } else {
        format!(
            "on {disk}; the floor is the raw commit loop; the server used {:.0} % of its core, the generator was busy for {:.0} % of the time",
            server.value, generator.value
        )
    };
    let late_note = format!(
        "the generator wrote {:.2} % of the messages more than 1 ms late (raw loop: {:.2} %)",
        late.value,
        late.floor.unwrap_or(f64::NAN)
    );
    let row = |what: &str, figure: Figure, unit| Row::new("says", what, figure, unit);
    Ok(vec![
        row("durable says/s, 256 publishers with one under way each", rate, "/s")
            .must(Goal::RatioAtLeast(0.7))
            .aim(Goal::RatioAtLeast(0.85))
            .note(note),
        row("the same, p99 of the acknowledgement", full, "µs"),
        row("acknowledgement p50 at 5,000/s", middle, "µs"),
        row("acknowledgement p99 at 5,000/s", most, "µs").must(Goal::RatioAtMost(1.5)).note(late_note),
    ])
}

fn figures(burst: &load::Tally, steady: &load::Tally, server: f64) -> [f64; 7] {
    [
        burst.published as f64 / burst.took.as_secs_f64(),
        load::micros(&burst.acknowledgement, 0.99),
        load::micros(&steady.acknowledgement, 0.5),
        load::micros(&steady.acknowledgement, 0.99),
        fan::lateness(steady),
        server,
        burst.generator,
    ]
}

/// What the daemons' folders lie on; memory is no disk.
pub(super) fn disk() -> Result<String> {
    let path = std::env::temp_dir();
    let (kind, device) = machine::filesystem(&path)?;
    if ["tmpfs", "ramfs", "overlay"].contains(&kind.as_str()) {
        bail!(Missing(format!(
            "{} is on {kind}, which proves nothing about a disk; point TMPDIR to one",
            path.display()
        )));
    }
    Ok(format!("{kind} ({device})"))
}
