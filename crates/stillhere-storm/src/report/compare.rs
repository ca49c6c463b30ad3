//! The page that shows runs side by side.

use maud::{Markup, html};

use super::plot::{Axis, Band, Chart, Series};
use super::summary::{Summary, merged, phase};
use super::{charts, html as page, units};
use crate::plan::figure::FIGURES;
use crate::sample::{Phase, Recording, Second};

/// Lines of one plot: eight colours, each with four kinds of dashes. Tables have all runs.
const LINES_MAX: usize = 32;

/// A run beside others.
struct Run<'a> {
    name: String,
    recording: &'a Recording,
    summary: Summary,
    /// When the attack began, in seconds since the run did.
    attacked: f64,
}

pub(super) fn page(recordings: &[(String, Recording)]) -> Markup {
    let runs: Vec<Run> = recordings
        .iter()
        .map(|(name, recording)| Run {
            name: units::shown(name),
            recording,
            summary: Summary::of(recording),
            attacked: charts::span(recording, Phase::During).map_or(0.0, |(from, _)| from),
        })
        .collect();
    let passed = runs.iter().filter(|run| run.summary.passed).count() as u64;
    let title = format!("{} compared, {passed} passed", units::plural(runs.len() as u64, "run"));
    let body = html! {
        header {
            p class="kind" { "stillhere storm" }
            h1 { (title) }
            p class="quiet" { "Ratios are to the first run. Plots begin with the attack." }
        }
        (table_of_runs(&runs))
        h2 { "Figures" }
        (table_of_figures(&runs))
        h2 { "Over time" }
        div class="plots" {
            (latency(&runs).draw())
            (spread(&runs).draw())
            (over(&runs, "Target's memory", "What the process holds.", charts::bytes_axis(), "No target's memory could be seen.", |seconds| {
                seconds.iter().filter_map(|second| second.target.as_ref()?.rss).max().map(|rss| rss as f64)
            }).draw())
            (over(&runs, "Tries of attackers", "All attacks together.", charts::number_axis("tries a second"), "No try was made.", tries).draw())
        }
        @if let Some(first) = runs.first() { (page::footer(&first.summary)) }
    };
    page::shell(&title, body)
}

fn table_of_runs(runs: &[Run]) -> Markup {
    html! {
        div class="scroll" {
            table {
                thead {
                    tr {
                        th { "Run" } th class="left" { "Verdict" } th class="left" { "Plan" } th class="left" { "Target" }
                        th class="left" { "Began" } th { "Took" } th { "Warnings" }
                    }
                }
                tbody {
                    @for run in runs {
                        @let summary = &run.summary;
                        tr {
                            th { (run.name) }
                            @if summary.passed {
                                td class="wide good" { "✓ " (summary.verdict) }
                            } @else {
                                td class="wide bad" { "✗ " (summary.verdict) }
                            }
                            td class="left" { (units::shown(&summary.plan)) }
                            td class="left" { (units::shown(&summary.target_address)) }
                            td class="left" { (summary.started.strftime("%Y-%m-%d %H:%M:%SZ").to_string()) }
                            td { (units::time(summary.took_ms as f64 * 1e3)) }
                            td { (summary.warnings.len()) }
                        }
                    }
                }
            }
        }
        @for run in runs.iter().filter(|run| !run.summary.warnings.is_empty()) {
            (page::doubts(&run.summary.warnings.iter().map(|warning| format!("{}: {warning}", run.name)).collect::<Vec<_>>()))
        }
    }
}

/// All figures that any run measured.
fn table_of_figures(runs: &[Run]) -> Markup {
    let rows = FIGURES.iter().filter(|figure| runs.iter().any(|run| run.summary.figure(figure.name).is_some()));
    html! {
        div class="scroll" {
            table {
                thead { tr { th { "Figure" } @for run in runs { th { (run.name) } } th class="wide" { "What it is" } } }
                tbody {
                    @for figure in rows {
                        @let first = runs.first().and_then(|run| run.summary.figure(figure.name));
                        tr {
                            th { code { (figure.name) } }
                            @for (at, run) in runs.iter().enumerate() {
                                td {
                                    @match run.summary.figure(figure.name) {
                                        Some(value) => {
                                            (units::value(figure.unit, value))
                                            @if let Some(ratio) = first.filter(|_| at > 0).and_then(|first| charts::compared(figure.unit, value, first)) {
                                                small { (ratio) }
                                            }
                                        }
                                        None => { span class="quiet" { "–" } }
                                    }
                                }
                            }
                            td class="wide quiet" { (figure.about) }
                        }
                    }
                }
            }
        }
    }
}

fn latency(runs: &[Run]) -> Chart {
    let axis = Axis { label: "p99 (log)".to_owned(), ..charts::latency_axis() };
    let empty = "No run measured a round trip.";
    over(runs, "Latency of honest beats", "p99 of each second.", axis, empty, |seconds| {
        merged(seconds.iter().map(|second| &second.crowd.rtt_us)).quantile(0.99).map(|us| us as f64)
    })
}

fn tries(seconds: &[Second]) -> Option<f64> {
    let attacked = seconds.iter().filter(|second| !second.attacks.is_empty());
    let lasted = super::summary::lasted(attacked.clone());
    let tries: f64 = attacked.flat_map(|second| second.attacks.values()).map(|attack| attack.tries as f64).sum();
    (lasted > 0.0).then(|| tries / lasted)
}

/// A line of each run, all with their attack's beginning at zero.
fn over(
    runs: &[Run],
    title: &str,
    about: &str,
    y: Axis,
    empty: &'static str,
    of: impl Fn(&[Second]) -> Option<f64>,
) -> Chart {
    let series = runs.iter().take(LINES_MAX).enumerate().map(|(look, run)| {
        let points = charts::moments(run.recording);
        let points = points.iter().map(|moment| (moment.at - run.attacked, of(moment.seconds)));
        Series::line(&run.name, look, points.collect())
    });
    let longest = runs.iter().filter_map(|run| run.recording.seconds.last()).map(|last| last.at_ms).max().unwrap_or(0);
    let bands = runs.iter().filter_map(|run| charts::span(run.recording, Phase::During)).map(|(from, to)| to - from);
    let longest_attack = bands.fold(0.0, f64::max);
    let x = charts::time_axis("since the attack began", longest as f64 / 1e3).with(0.0);
    Chart {
        title: title.to_owned(),
        about: about.to_owned(),
        x,
        y,
        bands: vec![Band { from: 0.0, to: longest_attack, name: "attack".to_owned(), shaded: true }],
        levels: Vec::new(),
        series: series.collect(),
        empty,
    }
}

fn spread(runs: &[Run]) -> Chart {
    let series = runs.iter().take(LINES_MAX).enumerate().map(|(look, run)| {
        let all = merged(phase(&run.recording.seconds, Phase::During).map(|second| &second.crowd.rtt_us));
        charts::shares(&run.name, look, &all)
    });
    Chart {
        title: "Round trips during the attack".to_owned(),
        about: "The share of honest beats that were answered within a time, with room for the slowest.".to_owned(),
        series: series.collect(),
        ..charts::distribution()
    }
}
