//! What a newcomer costs: connect, hello, welcome, close.
//!
//! The goals are held against connections that end with a reset, because an orderly close leaves tens of thousands of sockets
//! in TIME_WAIT a second, whose upkeep falls on the server's core and is most of what would be measured. The orderly close
//! stands beside it.

use anyhow::Result;

use crate::bench::Bench;
use crate::bench::crowd::knock::Knocking;
use crate::bench::crowd::socket::Goodbye;
use crate::bench::process::Cpu;
use crate::bench::row::{Figure, Goal, Row};
use crate::bench::target::{Target, Work};

/// Connections under way at once; enough that the server never waits for the generator's next step.
const AT_ONCE: usize = 128;

/// CPU time of the server per connection, and connections a second.
///
/// The rate is judged per second of the server's CPU time: a connection costs the generator's core more than the server's, so
/// by the clock the generator is the limit.
pub(crate) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let reset = bench.pairs(Work::Reply, |target| knock(bench, target, Goodbye::Reset))?;
    let orderly = bench.pairs(Work::Reply, |target| knock(bench, target, Goodbye::Orderly))?;
    Ok(vec![
        Row::new("connect", "connect + hello/welcome + reset, CPU each", reset[0], "µs")
            .must(Goal::AtMost(25.0))
            .aim(Goal::AtMost(15.0)),
        Row::new("connect", "the same per second of the server's CPU time", reset[1], "/s")
            .must(Goal::AtLeast(40_000.0))
            .aim(Goal::AtLeast(65_000.0)),
        Row::new("connect", "the same by the clock", reset[2], "/s").note(shares(reset)),
        Row::new("connect", "with an orderly close, CPU each", orderly[0], "µs").note(shares(orderly)),
    ])
}

/// CPU µs each, connections a second of CPU and of wall time, and the percentage of their cores that server and generator used.
fn knock(bench: &Bench, target: &Target, goodbye: Goodbye) -> Result<[f64; 5]> {
    let knocking = Knocking { to: target.address(), speech: target.v1(), goodbye, at_once: AT_ONCE };
    knocking.run(bench.span(1, 1))?;
    let before = target.cpu()?;
    let own = Cpu::of(std::process::id())?;
    let knocks = knocking.run(bench.span(5, 2))?;
    let used = target.cpu()?.since(&before).as_secs_f64();
    let generator = Cpu::of(std::process::id())?.since(&own).as_secs_f64();
    let (welcomed, took) = (knocks.welcomed as f64, knocks.took.as_secs_f64());
    Ok([used * 1e6 / welcomed, welcomed / used, welcomed / took, used * 100.0 / took, generator * 100.0 / took])
}

fn shares([_, _, _, server, generator]: [Figure; 5]) -> String {
    let floor = |figure: Figure| figure.floor.unwrap_or(f64::NAN);
    format!(
        "the server used {:.0} % of its core and the generator, which spins, {:.0} % of the other (floor: {:.0} % and {:.0} %); a server far below 100 % was waiting for the generator",
        server.value,
        generator.value,
        floor(server),
        floor(generator)
    )
}
