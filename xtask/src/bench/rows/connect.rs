//! What a newcomer costs: connect, hello, welcome, close.

use anyhow::Result;

use crate::bench::Bench;
use crate::bench::crowd::knock::knock;
use crate::bench::process::Cpu;
use crate::bench::row::{Figure, Goal, Row};

/// Connections under way at once; enough that the server never waits for the generator's next step.
const AT_ONCE: usize = 128;

/// CPU time of the server per connection, and connections a second.
pub(crate) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let span = bench.span(5, 2);
    let [cpu, rate, share, generator] = bench.pairs(true, |target| {
        let speech = target.v1();
        knock(target.address(), speech, AT_ONCE, bench.span(1, 1))?;
        let before = target.cpu()?;
        let own = Cpu::of(std::process::id())?;
        let knocks = knock(target.address(), speech, AT_ONCE, span)?;
        let used = target.cpu()?.since(&before).as_secs_f64();
        let generator = Cpu::of(std::process::id())?.since(&own).as_secs_f64();
        let took = knocks.took.as_secs_f64();
        Ok([
            used * 1e6 / knocks.welcomed as f64,
            knocks.welcomed as f64 / took,
            used * 100.0 / took,
            generator * 100.0 / took,
        ])
    })?;
    let floor = |figure: Figure| figure.floor.unwrap_or(f64::NAN);
    let share = format!(
        "the server used {:.0} % of its core and the generator {:.0} % of the other (floor: {:.0} % and {:.0} %); where only the generator's is near 100 %, it is the limit",
        share.value,
        generator.value,
        floor(share),
        floor(generator)
    );
    Ok(vec![
        Row::new("connect", "connect + hello/welcome + close, CPU each", cpu, "µs")
            .must(Goal::AtMost(25.0))
            .aim(Goal::AtMost(15.0)),
        Row::new("connect", "connect + hello/welcome + close, rate", rate, "/s")
            .must(Goal::AtLeast(40_000.0))
            .aim(Goal::AtLeast(65_000.0))
            .note(share),
    ])
}
