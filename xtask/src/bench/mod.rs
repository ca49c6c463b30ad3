//! `cargo xtask bench beats` and `cargo xtask bench chat`: the figures of `docs/performance.md`, measured again.
//!
//! Where the table has a floor, server and floor run in turns and are compared pair by
//! pair, so that a noisy minute falls on both. Nothing is measured through the project's own client or codec. Rows are
//! independent: one that breaks is reported as failed and the next one runs.

pub(crate) mod chat;
pub(crate) mod core;
pub(crate) mod crowd;
mod daemon;
mod http;
mod machine;
mod process;
mod report;
mod row;
mod rows;
pub(crate) mod storm;
mod target;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use self::daemon::{Daemon, Recipe};
use self::machine::Machine;
use self::report::Report;
use self::row::{Figure, Met, Row, median};
use self::target::{Floor, Target, Work};
use crate::workspace::{Workspace, cargo};

/// What to measure and where to put it.
#[derive(Args)]
pub(crate) struct Options {
    /// Only these rows, by name.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Shorter and with one pair: a first look.
    #[arg(long)]
    quick: bool,
    /// Pairs of server and floor; three unless this is a quick run.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=99))]
    pairs: Option<u16>,
    /// Also write the rows to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Print Markdown instead of a plain table.
    #[arg(long)]
    markdown: bool,
    /// The daemon to measure, instead of building the one of this workspace.
    #[arg(long)]
    server: Option<PathBuf>,
    /// Let the server's core halt while the server waits, instead of keeping it awake with a spinner of the idle class.
    #[arg(long)]
    let_halt: bool,
    /// Measure a second floor instead of the gateway: the ratios that come out are what noise alone does.
    #[arg(long)]
    floor: bool,
    /// More configuration for the daemon, as `STILLHERE_SECTION__KEY=VALUE`.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if name.starts_with("STILLHERE_") => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected STILLHERE_SECTION__KEY=VALUE".to_owned()),
    }
}

/// One benchmark; it may fill several rows.
struct Benchmark {
    name: &'static str,
    /// What stands in the table when nothing could be measured.
    what: &'static str,
    measure: fn(&Bench) -> Result<Vec<Row>>,
}

/// What one command measures.
pub(crate) struct Suite {
    benchmarks: &'static [Benchmark],
    /// What its daemons are started with, besides what every daemon is.
    settings: &'static [(&'static str, &'static str)],
}

/// `cargo xtask bench beats`.
pub(crate) const BEATS: Suite = Suite { benchmarks: BEATS_ROWS, settings: &[] };

const BEATS_ROWS: &[Benchmark] = &[
    Benchmark { name: "rss", what: "memory per idle legacy session", measure: rows::rss::measure },
    Benchmark { name: "legacy", what: "CPU per legacy beat at 20,000/s", measure: rows::legacy::measure },
    Benchmark { name: "reply", what: "CPU per v1 beat with reply at 20,000/s", measure: rows::reply::measure },
    Benchmark { name: "burst", what: "most beats/s with reply on one core", measure: rows::burst::measure },
    Benchmark { name: "connect", what: "connect + hello/welcome", measure: rows::connect::measure },
    Benchmark { name: "latency", what: "reply latency at 200/s", measure: rows::latency::measure },
    Benchmark { name: "million", what: "1,000,000 sessions in one shard", measure: rows::million::measure },
    Benchmark { name: "stall", what: "leaves after SIGSTOP", measure: rows::stall::measure },
    Benchmark { name: "blackhole", what: "1,000 blackholed peers", measure: rows::blackhole::measure },
];

/// A row cannot be measured on this machine; the text says what is missing.
#[derive(Debug)]
pub(crate) struct Missing(pub(crate) String);

impl std::fmt::Display for Missing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

/// What every row needs to know.
pub(crate) struct Bench {
    server: Option<PathBuf>,
    suite_settings: &'static [(&'static str, &'static str)],
    floor: bool,
    settings: Vec<(String, String)>,
    /// Whether spans and counts are the short ones.
    pub(crate) quick: bool,
    pairs: usize,
}

/// Measures, prints the table and judges: 0 when all that must be met is met, 3 when not, 4 when a row broke.
pub(crate) fn run(suite: &Suite, options: &Options) -> Result<ExitCode> {
    let chosen = choose(suite.benchmarks, &options.only)?;
    let needs_server = !options.floor && chosen.iter().any(|benchmark| benchmark.name != "million");
    let server = match &options.server {
        Some(path) => Some(path.canonicalize().with_context(|| format!("there is no {}", path.display()))?),
        None if needs_server => Some(build()?),
        None => None,
    };
    core::pin_load()?;
    // After the build, whose noise is over.
    let mut machine = Machine::look();
    let pairs = options.pairs.map_or(if options.quick { 1 } else { 3 }, usize::from);
    let bench = Bench {
        server,
        suite_settings: suite.settings,
        floor: options.floor,
        settings: options.settings.clone(),
        quick: options.quick,
        pairs,
    };
    let awake = if options.let_halt { None } else { Some(core::keep_awake()?) };
    let mut rows = Vec::new();
    for benchmark in chosen {
        let started = Instant::now();
        progress(&format!("{}: {}", benchmark.name, benchmark.what));
        rows.extend(measure(benchmark, &bench));
        progress(&format!("{}: done in {:.0} s", benchmark.name, started.elapsed().as_secs_f64()));
    }
    // Its time counts as ours, not as that of others, once it has been waited for.
    drop(awake);
    machine.finish();
    let report = Report { machine, quick: bench.quick, pairs, rows };
    print!("{}", if options.markdown { report.markdown() } else { report.table() });
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let came = |met: &Met| report.rows.iter().any(|row| row.met == *met);
    Ok(ExitCode::from(if came(&Met::Failed) {
        4
    } else if came(&Met::No) {
        3
    } else {
        0
    }))
}

fn choose(benchmarks: &'static [Benchmark], only: &[String]) -> Result<Vec<&'static Benchmark>> {
    for name in only {
        let names: Vec<&str> = benchmarks.iter().map(|benchmark| benchmark.name).collect();
        ensure!(names.contains(&name.as_str()), "there is no row {name}; there are {}", names.join(", "));
    }
    let is_chosen = |benchmark: &&Benchmark| only.is_empty() || only.iter().any(|name| name == benchmark.name);
    Ok(benchmarks.iter().filter(is_chosen).collect())
}

fn measure(benchmark: &Benchmark, bench: &Bench) -> Vec<Row> {
    match (benchmark.measure)(bench) {
        Ok(rows) => rows,
        Err(error) => {
            let met = if error.is::<Missing>() { Met::Unmeasured } else { Met::Failed };
            progress(&format!("{}: {}: {error:#}", benchmark.name, met.word()));
            vec![Row::absent(benchmark.name, benchmark.what, met, format!("{error:#}"))]
        }
    }
}

/// Builds the daemon as it is shipped.
fn build() -> Result<PathBuf> {
    let workspace = Workspace::find()?;
    progress("building the daemon");
    let status = cargo()
        .args(["build", "--quiet", "--release", "--package", "stillhere"])
        .current_dir(&workspace.root)
        .status()
        .context("cannot run cargo build")?;
    if !status.success() {
        bail!("the daemon does not build; --server PATH measures another one");
    }
    Ok(workspace.target.join("release/stillhere"))
}

/// A line on standard error, so that standard output holds the table alone.
pub(crate) fn progress(text: &str) {
    eprintln!("bench: {text}");
}

impl Bench {
    /// A daemon on loopback with these settings, after those of the command line.
    pub(crate) fn daemon(&self, settings: &[(&str, &str)]) -> Result<Daemon> {
        self.daemon_on(IpAddr::V4(Ipv4Addr::LOCALHOST), settings)
    }

    /// The same, listening elsewhere.
    pub(crate) fn daemon_on(&self, listen: IpAddr, settings: &[(&str, &str)]) -> Result<Daemon> {
        let binary = self.binary()?;
        let own = self.suite_settings.iter().chain(settings);
        let own = own.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings = own.chain(self.settings.iter().cloned()).collect();
        Daemon::start(&Recipe { binary, listen, settings })
    }

    /// What is measured: the gateway, unless the floor stands in for it.
    pub(crate) fn server(&self, work: Work) -> Result<Target> {
        if self.floor { self.floor(work) } else { Ok(Target::Daemon(self.daemon(&[])?)) }
    }

    /// The floor beside it.
    pub(crate) fn floor(&self, work: Work) -> Result<Target> {
        Ok(Target::Floor(Floor::start(work)?))
    }

    /// The gateway's binary, for other commands of it than `serve`.
    pub(crate) fn command(&self) -> Result<Command> {
        Ok(Command::new(self.binary()?))
    }

    fn binary(&self) -> Result<&Path> {
        self.server
            .as_deref()
            .ok_or_else(|| Missing("without the gateway there is nothing to measure".to_owned()).into())
    }

    /// How often everything is measured.
    pub(crate) fn pair_count(&self) -> usize {
        self.pairs
    }

    /// Whether the floor stands in for the gateway.
    pub(crate) fn is_floor(&self) -> bool {
        self.floor
    }

    /// The full span, or the short one of a quick run.
    pub(crate) fn span(&self, full_s: u64, quick_s: u64) -> Duration {
        Duration::from_secs(if self.quick { quick_s } else { full_s })
    }

    /// Measures server and floor in turns, each freshly started, and puts the medians and the ratios of the pairs together.
    pub(crate) fn pairs<const N: usize>(
        &self,
        work: Work,
        measure: impl Fn(&mut Target) -> Result<[f64; N]>,
    ) -> Result<[Figure; N]> {
        self.each_pair(|| {
            let mut server = self.server(work)?;
            let of_server = measure(&mut server).context("the server")?;
            drop(server);
            let of_floor = measure(&mut self.floor(work)?).context("the floor")?;
            Ok((of_server, of_floor))
        })
    }

    /// Runs `pair` as often as there are pairs; it returns what it found for the server and for the floor.
    pub(crate) fn each_pair<const N: usize>(
        &self,
        pair: impl Fn() -> Result<([f64; N], [f64; N])>,
    ) -> Result<[Figure; N]> {
        let mut pairs = Vec::new();
        for number in 1..=self.pairs {
            let (server, floor) = pair()?;
            progress(&format!("pair {number} of {}: {server:.2?}, floor {floor:.2?}", self.pairs));
            pairs.push((server, floor));
        }
        Ok(std::array::from_fn(|place| {
            let pairs = || pairs.iter().map(|(server, floor)| (server[place], floor[place]));
            Figure {
                value: median(pairs().map(|(server, _)| server)),
                floor: Some(median(pairs().map(|(_, floor)| floor))),
                ratio: Some(median(pairs().map(|(server, floor)| server / floor))),
            }
        }))
    }
}
