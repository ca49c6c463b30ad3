//! A search in numbers and as a page: how much a target withstands.

use maud::{Markup, html};
use serde::{Deserialize, Serialize};

use super::plot::{Axis, Chart, Scale, Series, Shape};
use super::summary::Summary;
use super::{charts, html as page, text, units};
use crate::plan::{Plan, Sought};

/// Trials that a page has. A plan allows 64.
const TRIALS_MAX: usize = 256;

/// A search and its trials: `search.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchReport {
    /// [`VERSION`](super::VERSION).
    pub version: u32,
    /// The plan, as it was before the first trial.
    pub plan: Plan,
    /// The largest number that held; `None` if none did.
    pub held: Option<u64>,
    /// The smallest number that broke; `None` if none did.
    pub broke: Option<u64>,
    /// Why it ended before its time, if it did.
    #[serde(default)]
    pub cut: Option<String>,
    /// All trials, in the order in which they were made.
    pub trials: Vec<Trial>,
}

/// A run with one number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The number that was tried.
    pub number: u64,
    /// Whether all thresholds held.
    pub held: bool,
    /// The run.
    pub summary: Summary,
}

impl SearchReport {
    /// What was found, in a sentence.
    pub fn found(&self) -> String {
        let what = self.sought();
        match (self.held, self.broke) {
            (Some(held), Some(broke)) => {
                format!("withstood {} {what}; {} broke a threshold", units::count(held), units::count(broke))
            }
            // Why it went no further is told beside it.
            (Some(held), None) if self.cut.is_some() => format!("withstood {} {what} so far", units::count(held)),
            (Some(held), None) => format!("withstood {} {what}, and nothing broke it", units::count(held)),
            (None, Some(broke)) => format!("withstood no {what}: {} already broke a threshold", units::count(broke)),
            (None, None) => "no trial came to its end".to_owned(),
        }
    }

    /// What is counted.
    fn sought(&self) -> &'static str {
        match self.plan.search.as_ref().map(|search| search.find) {
            Some(Sought::Attackers) | None => "attackers",
            Some(Sought::Rate) => "requests a second",
            Some(Sought::Crowd) => "honest clients",
        }
    }
}

/// The page of a search.
pub fn search_page(report: &SearchReport) -> String {
    let name = units::shown(&report.plan.name);
    let found = report.found();
    let mut words = found.clone();
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let (class, sign) = if report.held.is_some() { ("verdict passed", "✓") } else { ("verdict failed", "✗") };
    let body = html! {
        header {
            p class="kind" { "stillhere storm, a search" }
            h1 { (name) }
            p class="quiet" { (units::shown(&report.plan.about)) }
            div class=(class) role="status" {
                span class="sign" aria-hidden="true" { (sign) }
                div { (words) small {
                    (units::plural(report.trials.len() as u64, "trial")) " against " (units::shown(&report.plan.target.address))
                    @if let Some(honest) = report.trials.last().map(|trial| trial.summary.clients).filter(|&clients| clients > 0) {
                        " · " (units::plural(honest, "honest client"))
                    }
                } }
            }
        }
        (page::doubts(&doubts(report)))
        h2 { "Withstood" }
        (table(report))
        h2 { "Trials" }
        div class="plots" {
            (chart(report, "p99", "p99 of honest beats", "round trip (log)").draw())
            (chart(report, "tries", "Tries of attackers", "tries a second (log)").draw())
        }
        @if let Some(trial) = report.trials.last() { (page::footer(&trial.summary)) }
    };
    page::shell(&format!("{name}: {found}"), body).into_string()
}

/// Warnings of the trials that decide: the last that held and the first that broke.
fn doubts(report: &SearchReport) -> Vec<String> {
    let decides = |trial: &&Trial| {
        (trial.held && Some(trial.number) == report.held) || (!trial.held && Some(trial.number) == report.broke)
    };
    let trials = report.trials.iter().take(TRIALS_MAX).filter(decides);
    trials
        .flat_map(|trial| {
            let with = units::count(trial.number);
            trial.summary.warnings.iter().map(move |warning| format!("With {with}: {warning}"))
        })
        .collect()
}

fn table(report: &SearchReport) -> Markup {
    let mut trials: Vec<&Trial> = report.trials.iter().take(TRIALS_MAX).collect();
    trials.sort_by_key(|trial| trial.number);
    let time = |trial: &Trial, name| trial.summary.figure(name).map_or("–".to_owned(), units::time);
    let number = |trial: &Trial, name| trial.summary.figure(name).map_or("–".to_owned(), units::number);
    html! {
        div class="scroll" {
            table {
                thead {
                    tr {
                        th { (report.sought()) } th class="left" { "Verdict" } th { "tries/s" }
                        @if report.plan.load.is_some() { th { "load/s" } }
                        th { "p50" } th { "p99" } th { "newcomers in" } th { "refused" } th { "sessions lost" } th class="wide" { "What broke" }
                    }
                }
                tbody {
                    @for trial in trials {
                        tr class=(if trial.held { "held" } else { "broken" }) {
                            th { (units::count(trial.number)) }
                            @if trial.held { td class="left good" { "✓ held" } } @else { td class="left bad" { "✗ broke" } }
                            td { (number(trial, "tries")) }
                            @if report.plan.load.is_some() { td { (number(trial, "rate")) } }
                            td { (time(trial, "p50")) }
                            td { (time(trial, "p99")) }
                            td { (units::count(trial.summary.whole.newcomers)) }
                            td { (units::count(trial.summary.whole.newcomers_refused)) }
                            td { (number(trial, "sessions_lost")) }
                            td class="wide" { (broken(&trial.summary)) }
                        }
                    }
                }
            }
        }
    }
}

/// The thresholds that broke, with what was measured.
pub(super) fn broken(summary: &Summary) -> String {
    let broken = summary.judged.iter().filter(|judged| !judged.holds);
    let broken = broken.map(|judged| format!("{} ({})", units::shown(&judged.threshold.text), text::measured(judged)));
    let cut = summary.cut.iter().map(|cut| format!("cut: {}", units::shown(cut)));
    cut.chain(broken).collect::<Vec<_>>().join(", ")
}

/// A figure of each trial over its number, with what held and what broke.
fn chart(report: &SearchReport, figure: &str, title: &str, label: &str) -> Chart {
    let points = |held: Option<bool>| {
        let trials = report.trials.iter().take(TRIALS_MAX).filter(|trial| held.is_none_or(|held| held == trial.held));
        let points =
            trials.map(|trial| (trial.number.max(1) as f64, trial.summary.figure(figure).map(|y| y.max(1e-3))));
        let mut points: Vec<(f64, Option<f64>)> = points.filter(|(_, y)| y.is_some()).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    };
    let series = |name: &str, look, shape, held| Series { name: name.to_owned(), look, shape, points: points(held) };
    let y = match figure {
        "p99" => Axis { label: label.to_owned(), ..charts::latency_axis() },
        _ => Axis { scale: Scale::Log, ..charts::number_axis(label) },
    };
    let x = Axis { scale: Scale::Log, ..charts::number_axis(&format!("{} (log)", report.sought())) };
    let thresholds = report.plan.thresholds.iter().filter(|threshold| threshold.figure == figure);
    Chart {
        title: title.to_owned(),
        about: "Each trial over its number.".to_owned(),
        x,
        y,
        bands: Vec::new(),
        levels: thresholds.map(|threshold| (threshold.bound, units::shown(&threshold.text))).take(2).collect(),
        series: vec![
            series("all trials", charts::look::GREY, Shape::Line, None),
            series("held", charts::look::GREEN, Shape::Rings, Some(true)),
            series("broke", charts::look::RED, Shape::Crosses, Some(false)),
        ],
        empty: "No trial measured it.",
    }
}
