//! What is shown: lists, summaries, reports, and what this machine can do.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::json;
use stillhere_core::text::Escaped;
use stillhere_storm::attack::{ATTACKS, Against};
use stillhere_storm::doctor;
use stillhere_storm::plan::builtin;
use stillhere_storm::report::text::{self, Style};
use stillhere_storm::report::{self, SearchReport, Summary};
use stillhere_storm::sample::{self, Recording};
use stillhere_storm::search::Found;

use super::{EXIT_BROKEN, EXIT_INTERNAL, EXIT_PASSED, internal};
use crate::output;

/// The page of a run, a comparison or a search.
const PAGE: &str = "report.html";
/// A run in numbers.
const SUMMARY: &str = "summary.json";
/// A search in numbers.
const SEARCH: &str = "search.json";

/// Tell what this machine can generate, before a storm disappoints.
#[derive(clap::Args)]
pub(super) struct DoctorArgs {
    /// Print it as one JSON object
    #[arg(long)]
    json: bool,
}

/// Make the reports of earlier runs again; of several at once, a page that compares them.
#[derive(clap::Args)]
pub(super) struct ReportArgs {
    /// Folders of results, or the files with samples in them
    #[arg(value_name = "DIR", required = true)]
    folders: Vec<PathBuf>,
    /// Where the page goes; report.html in the first folder (comparison.html for several) if left out
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the summaries as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn doctor(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let seen = doctor::look();
    if args.json { output::print_json(&seen) } else { output::print(&seen) }.map_err(internal)?;
    Ok(ExitCode::SUCCESS)
}

/// What can be run.
pub(super) fn list(json: bool) -> anyhow::Result<()> {
    let plans = builtin::list();
    if json {
        let plans: Vec<_> = plans.iter().map(|(name, about)| json!({ "name": name, "about": about })).collect();
        let attacks: Vec<_> = ATTACKS
            .iter()
            .map(|attack| {
                let any = attack.against == Against::Any;
                json!({ "name": attack.name, "about": attack.about, "any_server": any, "size": attack.size })
            })
            .collect();
        return output::print_json(&json!({ "plans": plans, "attacks": attacks })).map_err(internal);
    }
    let columns = output::text_columns();
    let mut page = String::from(
        "Attacks, each a plan of the same name beside honest clients (* any server with frames, else stillhere's):\n\n",
    );
    for attack in ATTACKS {
        let mark = if attack.against == Against::Any { "*" } else { " " };
        let _ = writeln!(page, "  {}{mark}", attack.name);
        page += &output::wrapped(attack.about, "      ", columns);
    }
    page += "\nOther plans:\n\n";
    for (name, about) in plans.iter().filter(|(name, _)| !ATTACKS.iter().any(|attack| attack.name == *name)) {
        let _ = writeln!(page, "  {name}");
        page += &output::wrapped(about, "      ", columns);
    }
    page += "\nBegin with `stillhere storm calm`; write plans of your own as docs/storm-plans.md says.\n";
    output::print(page).map_err(internal)
}

/// Writes what a run has found into its folder and tells it. The exit code that this makes.
///
/// # Errors
/// When the files or standard output can't be written. It is told even if there are no files.
pub(super) fn tell(recording: &Recording, out: &Path, json: bool) -> anyhow::Result<u8> {
    let summary = Summary::of(recording);
    let written = write_json(out, SUMMARY, &summary);
    let page = report::page(&[(recording.run.plan.name.clone(), recording.clone())]);
    let written = written.and(write(out, PAGE, &page));
    let told = if json {
        output::print_verdict_json(&summary)
    } else {
        let place = out.join(PAGE);
        let place = written.is_ok().then(|| place.to_string_lossy());
        output::print_verdict(text::summary(&summary, place.as_deref(), Style { colour: output::coloured() }))
    };
    told.and(written).map_err(internal)?;
    Ok(exit(summary.passed, summary.own_fault))
}

/// The same for a search. It has passed if it came to its end and any number held.
pub(super) fn tell_search(found: &Found, out: &Path, json: bool) -> anyhow::Result<u8> {
    let Found { report, whole, own_fault } = found;
    let mut written = Ok(());
    for (nth, trial) in report.trials.iter().enumerate() {
        written = written.and(write_json(&out.join(format!("trial-{:02}", nth + 1)), SUMMARY, &trial.summary));
    }
    written = written.and(write_json(out, SEARCH, report)).and(write(out, PAGE, &report::search_page(report)));
    let told = if json {
        output::print_verdict_json(report)
    } else {
        output::print_verdict(text::search(report, &out.join(PAGE).to_string_lossy()))
    };
    told.and(written).map_err(internal)?;
    Ok(exit(*whole && report.held.is_some(), *own_fault))
}

/// A storm that failed itself has no verdict on anybody.
fn exit(passed: bool, own_fault: bool) -> u8 {
    match (passed, own_fault) {
        (_, true) => EXIT_INTERNAL,
        (true, false) => EXIT_PASSED,
        (false, false) => EXIT_BROKEN,
    }
}

pub(super) fn report(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let folders: Vec<&Path> = args.folders.iter().map(|path| folder(path)).collect();
    let [first, rest @ ..] = &folders[..] else { bail!("which results? write the folders of earlier runs") };
    if first.join(SEARCH).is_file() {
        if !rest.is_empty() {
            bail!("{} is a search; searches are reported one at a time", shown(first));
        }
        return search_again(first, args);
    }
    let mut recordings = Vec::new();
    for (folder, path) in folders.iter().zip(&args.folders) {
        // A file of samples may have any name.
        let is_ours = [SUMMARY, SEARCH, PAGE].iter().any(|name| path.ends_with(name));
        let recording = sample::read(if is_ours { folder } else { path })?;
        if recording.torn {
            // The reader should know; the report says nothing of what was torn off.
            let _ = writeln!(io::stderr(), "stillhere: the last line in {} was cut off and is left out", shown(folder));
        }
        let name = folder.file_name().map_or_else(|| folder.to_string_lossy(), |name| name.to_string_lossy());
        recordings.push((name.into_owned(), recording));
    }
    let summaries: Vec<Summary> = recordings.iter().map(|(_, recording)| Summary::of(recording)).collect();
    let place = args.out.clone().unwrap_or_else(|| first.join(if rest.is_empty() { PAGE } else { "comparison.html" }));
    fs::write(&place, report::page(&recordings)).with_context(|| format!("can't write {}", shown(&place)))?;
    if args.json {
        output::print_json(&summaries).map_err(internal)?;
    } else {
        let style = Style { colour: output::coloured() };
        let place = place.to_string_lossy();
        for (nth, summary) in summaries.iter().enumerate() {
            let is_last = nth + 1 == summaries.len();
            output::print(text::summary(summary, is_last.then_some(&*place), style)).map_err(internal)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn search_again(folder: &Path, args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let path = folder.join(SEARCH);
    let text = fs::read_to_string(&path).with_context(|| format!("can't read {}", shown(&path)))?;
    let found: SearchReport =
        serde_json::from_str(&text).with_context(|| format!("{} is no search of this version", shown(&path)))?;
    let place = args.out.clone().unwrap_or_else(|| folder.join(PAGE));
    fs::write(&place, report::search_page(&found)).with_context(|| format!("can't write {}", shown(&place)))?;
    if args.json { output::print_json(&found) } else { output::print(text::search(&found, &place.to_string_lossy())) }
        .map_err(internal)?;
    Ok(ExitCode::SUCCESS)
}

/// The folder of results that is meant: also by one of the files in it.
fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if path.is_file() && parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) if path.is_file() => parent,
        _ => path,
    }
}

fn write_json(folder: &Path, name: &str, value: &impl serde::Serialize) -> anyhow::Result<()> {
    write(folder, name, &(serde_json::to_string_pretty(value)? + "\n"))
}

fn write(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| format!("can't write {}", shown(&path)))
}

fn shown(path: &Path) -> String {
    Escaped(&path.to_string_lossy()).to_string()
}
