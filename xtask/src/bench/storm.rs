//! `cargo xtask bench storm`: the gateway under every attack of its own tester, beside honest clients.
//!
//! Each attack meets a freshly started gateway. The verdict is the storm's: what is promised to honest clients are
//! thresholds of the plan that is written here, and the figures in the table are read from the run's `summary.json`.
//! Gateway and storm have a core each, so that an attack isn't measured by what it takes from the attacked.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::daemon::{Daemon, Recipe};
use super::machine::Machine;
use super::{build, core, progress, setting};

/// What must hold under every attack.
const PROMISES: &[&str] = &[
    "sessions_lost = 0",
    "links_lost = 0",
    "false_leaves = 0",
    "missing = 0",
    "messages_lost = 0",
    "newcomers_refused = 0",
    "p99_ratio <= 2",
    "rss_growth <= 50MiB",
    "rss_left <= 25MiB",
    "files_left <= 5",
    "tries > 0",
];
/// The figures that are shown, with their headings.
const SHOWN: &[(&str, &str)] = &[
    ("tries", "tries/s"),
    ("before.p99", "p99 before"),
    ("p99", "during"),
    ("p99_ratio", "ratio"),
    ("sessions_lost", "lost"),
    ("false_leaves", "false leaves"),
    ("messages_lost", "messages lost"),
    ("newcomers_refused", "not let in"),
    ("rss_growth", "RSS growth"),
    ("rss_left", "left"),
    ("files_left", "files left"),
    ("cpu", "its cores"),
];

/// What to measure and where to put it.
#[derive(Args)]
pub(crate) struct Options {
    /// Only these attacks, by name.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Attackers.
    #[arg(long, default_value_t = 1000)]
    count: u32,
    /// Honest clients.
    #[arg(long, default_value_t = 2000)]
    crowd: u32,
    /// How long each attack lasts, in seconds; those that need longer by their nature last longer.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Where the runs' folders are kept; a temporary one that is deleted if left out.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Print Markdown instead of a plain table.
    #[arg(long)]
    markdown: bool,
    /// The gateway to measure, instead of building the one of this workspace. The storm is the same binary's.
    #[arg(long)]
    server: Option<PathBuf>,
    /// More configuration for the gateway, as `STILLHERE_SECTION__KEY=VALUE`.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
}

/// One attack's outcome.
struct Row {
    attack: String,
    figures: Map<String, Value>,
    passed: bool,
    broken: Vec<String>,
    warnings: Vec<String>,
}

/// Meets every attack in turn, prints the table and judges: 0 when all promises hold, 3 when not, 4 when a run broke.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let binary = match &options.server {
        Some(path) => path.canonicalize().with_context(|| format!("there is no {}", path.display()))?,
        None => build()?,
    };
    core::pin_load()?;
    let mut machine = Machine::look();
    let attacks = attacks(&binary, &options.only)?;
    let kept = options.out.clone();
    let folder =
        kept.clone().unwrap_or_else(|| std::env::temp_dir().join(format!("bench-storm-{}", std::process::id())));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut rows = Vec::new();
    let mut failed = false;
    for attack in &attacks {
        match meet(&binary, attack, options, &folder) {
            Ok(row) => {
                progress(&format!("{attack}: {}", if row.passed { "held" } else { "broken" }));
                row.broken.iter().chain(&row.warnings).for_each(|line| progress(&format!("  {line}")));
                rows.push(row);
            }
            Err(error) => {
                progress(&format!("{attack}: {error:#}"));
                failed = true;
            }
        }
    }
    machine.finish();
    if kept.is_none() {
        // What is left in the temporary folder hurts nobody.
        let _ = fs::remove_dir_all(&folder);
    }
    let Machine { command, date, cpu, memory, kernel, load, others, .. } = &machine;
    println!(
        "Command: `{command}` · {date} · {cpu}, {memory} of memory, kernel {kernel} · load before: {load} · {others}\n"
    );
    print!("{}", table(&rows, options.markdown));
    Ok(ExitCode::from(match (failed, rows.iter().all(|row| row.passed)) {
        (true, _) => 4,
        (false, false) => 3,
        (false, true) => 0,
    }))
}

#[derive(Deserialize)]
struct Listing {
    attacks: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    name: String,
}

fn attacks(binary: &Path, only: &[String]) -> Result<Vec<String>> {
    let listed = Command::new(binary).args(["storm", "--list", "--json"]).output().context("cannot run the storm")?;
    ensure!(listed.status.success(), "the storm cannot list its attacks");
    let listing: Listing = serde_json::from_slice(&listed.stdout).context("the storm's list cannot be read")?;
    let names: Vec<String> = listing.attacks.into_iter().map(|attack| attack.name).collect();
    if let Some(unknown) = only.iter().find(|name| !names.contains(name)) {
        bail!("there is no attack {unknown}; there are {}", names.join(", "));
    }
    Ok(names.into_iter().filter(|name| only.is_empty() || only.contains(name)).collect())
}

/// Some attacks show what they do only after a while: the target's own deadlines must have passed.
fn lasts(attack: &str, seconds: u64) -> Duration {
    let least = match attack {
        "sit" | "slowloris" | "half-frames" => 25,
        "silent-death" => 40,
        "slow-reader" => 45,
        _ => 0,
    };
    Duration::from_secs(seconds.max(least))
}

fn meet(binary: &Path, attack: &str, options: &Options, folder: &Path) -> Result<Row> {
    let settings = options.settings.clone();
    let daemon = Daemon::start(&Recipe { binary, listen: IpAddr::V4(Ipv4Addr::LOCALHOST), settings })?;
    let plan = folder.join(format!("{attack}.toml"));
    let out = folder.join(attack);
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("cannot empty {}", out.display()))?;
    }
    fs::write(&plan, plan_text(attack, options, &daemon))?;
    let status = Command::new(binary)
        .args(["storm".as_ref(), plan.as_os_str(), "--out".as_ref(), out.as_os_str()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(folder.join(format!("{attack}.err")))?)
        .status()
        .context("cannot run the storm")?;
    ensure!(matches!(status.code(), Some(0 | 3)), "the storm ended with {status}; see {}", folder.display());
    let text = fs::read_to_string(out.join("summary.json")).context("the storm left no summary.json")?;
    let summary: Value = serde_json::from_str(&text).context("summary.json cannot be read")?;
    let words = |list: &Value, word: &dyn Fn(&Value) -> Option<String>| {
        list.as_array().into_iter().flatten().filter_map(word).collect::<Vec<_>>()
    };
    Ok(Row {
        attack: attack.to_owned(),
        figures: summary["figures"].as_object().cloned().context("summary.json has no figures")?,
        passed: status.success(),
        broken: words(&summary["judged"], &|judged| {
            let is_broken = judged["holds"] == false;
            is_broken.then(|| format!("{}: {}", judged["threshold"]["text"].as_str().unwrap_or("?"), judged["value"]))
        }),
        warnings: words(&summary["warnings"], &|warning| warning.as_str().map(str::to_owned)),
    })
}

fn plan_text(attack: &str, options: &Options, daemon: &Daemon) -> String {
    let promises: Vec<String> = PROMISES.iter().map(|promise| format!("{promise:?}")).collect();
    format!(
        "name = {attack:?}\nthresholds = [{}]\n\n[target]\naddress = \"{}\"\nmetrics = \"http://{}/metrics\"\n\n\
         [time]\nramp = \"10s\"\nbefore = \"10s\"\nduring = \"{}s\"\nafter = \"10s\"\n\n\
         [crowd]\ncount = {}\ninterval = \"1s\"\nrooms = 100\nsay_every = \"20s\"\nsignal_every = \"10s\"\n\
         newcomers = \"2/s\"\n\n[[attack]]\nname = {attack:?}\ncount = {}\n",
        promises.join(", "),
        daemon.address(),
        daemon.admin(),
        lasts(attack, options.seconds).as_secs(),
        options.crowd,
        options.count,
    )
}

fn table(rows: &[Row], markdown: bool) -> String {
    let headings = ["attack"].into_iter().chain(SHOWN.iter().map(|(_, heading)| *heading)).chain(["verdict"]);
    let mut lines = vec![headings.map(str::to_owned).collect::<Vec<_>>()];
    for row in rows {
        let figures = SHOWN.iter().map(|(name, _)| shown(name, &row.figures[*name]));
        let verdict = if row.passed { "held" } else { "broken" };
        lines.push([row.attack.clone()].into_iter().chain(figures).chain([verdict.to_owned()]).collect());
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let mut text = String::new();
    for (nth, line) in lines.iter().enumerate() {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        if markdown {
            text += &format!("| {} |\n", line.join(" | "));
            if nth == 0 {
                text += &format!("|{}\n", "---|".repeat(line.len()));
            }
        } else {
            text += cells.join("  ").trim_end();
            text.push('\n');
        }
    }
    text
}

/// A figure in a unit that reads well: times are kept in microseconds, memory in bytes.
fn shown(name: &str, value: &Value) -> String {
    let Some(value) = value.as_f64() else { return "–".to_owned() };
    match name {
        "before.p99" | "p99" => format!("{:.2} ms", value / 1e3),
        "p99_ratio" => format!("{value:.2}×"),
        "rss_growth" | "rss_left" => format!("{:.1} MiB", value / f64::from(1 << 20)),
        "cpu" => format!("{value:.2}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_was_not_measured_is_a_dash_and_no_zero() {
        let figures = serde_json::json!({ "p99": 1234.0, "p99_ratio": 1.5, "rss_growth": -1_048_576.0, "cpu": null });
        let figures = figures.as_object().unwrap();
        let shown = ["p99", "p99_ratio", "rss_growth", "cpu"].map(|name| shown(name, &figures[name]));
        assert_eq!(shown, ["1.23 ms", "1.50×", "-1.0 MiB", "–"]);
    }

    #[test]
    fn a_table_has_a_line_for_each_attack() {
        let figures: Map<String, Value> = SHOWN.iter().map(|(name, _)| ((*name).to_owned(), 1.into())).collect();
        let row = Row { attack: "sit".to_owned(), figures, passed: false, broken: Vec::new(), warnings: Vec::new() };
        let text = table(&[row], true);
        assert_eq!((text.lines().count(), text.contains("| sit |"), text.contains("| broken |")), (3, true, true));
    }
}
