//! A run as plots.

use maud::{Markup, html};
use stillhere_core::close::CloseCode;

use super::plot::{Axis, Band, Bar, Chart, Scale, Series, bars};
use super::summary::{Summary, merged, phase};
use super::units;
use crate::plan::figure::Unit;
use crate::sample::{CrowdSecond, OwnSecond, Phase, Recording, Second, Spread, TargetSecond};

/// Points of a line over time; longer runs are drawn with several seconds to a point. A plot has some 650 pixels.
const POINTS_MAX: usize = 480;
/// Attacks that are drawn, and codes that have a bar. Names in a file can be many.
const DRAWN_MAX: usize = 16;

/// Looks of the style, by what they stand for.
pub(super) mod look {
    pub(crate) const BLUE: usize = 0;
    pub(crate) const RED: usize = 1;
    pub(crate) const GREEN: usize = 2;
    pub(crate) const ORANGE: usize = 3;
    pub(crate) const PURPLE: usize = 4;
    pub(crate) const GREY: usize = 7;
    /// Added to a colour.
    pub(crate) const DASHED: usize = 8;
}

/// A point of the time axis: one second, or a few of a long run.
pub(super) struct Moment<'a> {
    /// Its end in seconds since the run began.
    pub(super) at: f64,
    /// Never empty.
    pub(super) seconds: &'a [Second],
}

/// The run as at most [`POINTS_MAX`] moments.
pub(super) fn moments(recording: &Recording) -> Vec<Moment<'_>> {
    let each = recording.seconds.len().div_ceil(POINTS_MAX).max(1);
    let chunks = recording.seconds.chunks(each);
    chunks.filter_map(|seconds| Some(Moment { at: seconds.last()?.at_ms as f64 / 1e3, seconds })).collect()
}

/// All plots of a run.
pub(super) fn all(recording: &Recording, summary: &Summary) -> Markup {
    let over = Over { recording, moments: moments(recording) };
    html! {
        div class="plots" {
            @if summary.clients > 0 {
                (over.latency().draw())
                (cdf(recording).draw())
                (over.sessions().draw())
            }
            (closes(summary))
            @if !summary.attacks.is_empty() {
                (over.tries().draw())
                (over.open().draw())
            }
            @if summary.load.is_some() {
                (over.rate().draw())
                (over.load_latency().draw())
            }
            (over.memory().draw())
            (over.cpu().draw())
            (over.files().draw())
            (over.lag().draw())
        }
    }
}

/// What a code is called; foreign ones only have their number.
pub(super) fn code_name(code: u16) -> String {
    CloseCode::from_number(code).map_or_else(|| format!("code {code}"), |known| format!("{code} {}", known.name()))
}

/// A time axis for so many seconds.
pub(super) fn time_axis(label: &str, longest: f64) -> Axis {
    if longest <= 180.0 {
        Axis::new(&format!("seconds {label}"), Scale::Seconds, |seconds| format!("{seconds:.0}").replace('-', "−"))
    } else {
        Axis::new(&format!("minutes {label}"), Scale::Seconds, minutes)
    }
}

fn minutes(seconds: f64) -> String {
    let sign = if seconds < 0.0 { "−" } else { "" };
    let seconds = seconds.abs().round();
    format!("{sign}{:.0}:{:02.0}", (seconds / 60.0).floor(), seconds % 60.0)
}

pub(super) fn latency_axis() -> Axis {
    Axis::new("latency (log)", Scale::Log, |us| units::short(&units::time(us)))
}

pub(super) fn bytes_axis() -> Axis {
    Axis::new("bytes", Scale::Binary, |bytes| units::short(&units::bytes(bytes)))
}

pub(super) fn number_axis(label: &str) -> Axis {
    Axis::new(label, Scale::Linear, |number| units::short(&units::number(number)))
}

/// How round trips are spread: before, during and after the attack.
fn cdf(recording: &Recording) -> Chart {
    let parts = [
        (Phase::Before, "before", look::BLUE),
        (Phase::During, "during", look::RED),
        (Phase::After, "after", look::GREEN + look::DASHED),
    ];
    let series = parts.map(|(of, name, look)| {
        let all = merged(phase(&recording.seconds, of).map(|second| &second.crowd.rtt_us));
        shares(name, look, &all)
    });
    Chart {
        title: "Round trips, how they are spread".to_owned(),
        about: "The share of honest beats that were answered within a time, with room for the slowest.".to_owned(),
        series: series.into_iter().collect(),
        ..distribution()
    }
}

/// A plot of shares over latency without series.
pub(super) fn distribution() -> Chart {
    Chart {
        title: String::new(),
        about: String::new(),
        x: Axis { label: "round trip (log)".to_owned(), ..latency_axis() },
        y: Axis::new("share answered within", Scale::Tail, |share| {
            units::short(&format!("{:.4} %", share * 100.0)).replace(" %", "%")
        }),
        bands: Vec::new(),
        levels: Vec::new(),
        series: Vec::new(),
        empty: "No round trip was measured: this crowd's beats aren't answered, or none was.",
    }
}

/// The share of values at or below each.
pub(super) fn shares(name: &str, look: usize, values: &Spread) -> Series {
    let all = values.count() as f64;
    let mut below = 0_u64;
    let mut points = Vec::new();
    for (value, count) in values.iter() {
        // Up at each value, and level to the next: a stair.
        points.push((value.max(1) as f64, Some(below as f64 / all)));
        below = below.saturating_add(count);
        points.push((value.max(1) as f64, Some((below as f64 / all).min(1.0 - 0.5 / all))));
    }
    Series::line(name, look, points)
}

/// Codes and losses of the honest, then of the attackers.
fn closes(summary: &Summary) -> Markup {
    let mut all = Vec::new();
    let mut add = |mut rows: Vec<(String, u64)>, look| {
        rows.sort_by_key(|row| std::cmp::Reverse(row.1));
        let others = rows.split_off(rows.len().min(DRAWN_MAX));
        if !others.is_empty() {
            rows.push(("others".to_owned(), others.iter().fold(0, |sum, row| row.1.saturating_add(sum))));
        }
        all.extend(rows.into_iter().map(|(name, count)| Bar { name, count, look }));
    };
    let losses = summary.whole.losses.iter().map(|(what, &count)| (clipped(what), count));
    let honest = summary.whole.closes.iter().map(|(&code, &count)| (code_name(code), count));
    add(honest.chain(losses).collect(), look::RED);
    let attackers = super::text::total_closes(summary);
    add(attackers.into_iter().map(|(code, count)| (code_name(code), count)).collect(), look::BLUE);
    bars(
        "Closes by code",
        "Links that the target closed, and honest ones that broke.",
        &all,
        &[(look::RED, "honest clients"), (look::BLUE, "attackers")],
        "No link was closed with a code and no honest one broke.",
    )
}

/// A name that fits beside a bar.
fn clipped(name: &str) -> String {
    let name = units::shown(name);
    if name.chars().count() <= 28 { name } else { name.chars().take(27).chain(['…']).collect() }
}

/// A run's plots over time.
struct Over<'a> {
    recording: &'a Recording,
    moments: Vec<Moment<'a>>,
}

impl Over<'_> {
    fn chart(&self, title: &str, about: &str, y: Axis, series: Vec<Series>, empty: &'static str) -> Chart {
        let longest = self.moments.last().map_or(0.0, |last| last.at);
        Chart {
            title: title.to_owned(),
            about: about.to_owned(),
            x: time_axis("since the run began", longest).with(0.0),
            y,
            bands: bands(self.recording),
            levels: Vec::new(),
            series,
            empty,
        }
    }

    /// A value of each moment.
    fn points(&self, of: impl Fn(&[Second]) -> Option<f64>) -> Vec<(f64, Option<f64>)> {
        self.moments.iter().map(|moment| (moment.at, of(moment.seconds))).collect()
    }

    fn quantile(&self, share: f64, of: impl Fn(&Second) -> Option<&Spread>) -> Vec<(f64, Option<f64>)> {
        self.points(|seconds| merged(seconds.iter().filter_map(&of)).quantile(share).map(|us| us as f64))
    }

    /// Counts of each moment, a second.
    fn per_second(&self, of: impl Fn(&Second) -> Option<u64>) -> Vec<(f64, Option<f64>)> {
        self.points(|seconds| {
            let counted = || seconds.iter().filter_map(|second| Some((second, of(second)?)));
            let lasted = super::summary::lasted(counted().map(|(second, _)| second));
            let sum: f64 = counted().map(|(_, count)| count as f64).sum();
            (lasted > 0.0).then(|| sum / lasted)
        })
    }

    /// The largest of each moment.
    fn peak(&self, of: impl Fn(&Second) -> Option<u64>) -> Vec<(f64, Option<f64>)> {
        self.points(|seconds| seconds.iter().filter_map(&of).max().map(|value| value as f64))
    }

    fn latency(&self) -> Chart {
        let quantile = |share| self.quantile(share, |second| Some(&second.crowd.rtt_us));
        let series = vec![
            Series::line("p50", look::BLUE, quantile(0.5)),
            Series::line("p99", look::ORANGE, quantile(0.99)),
            Series::line("longest", look::RED, quantile(1.0)),
        ];
        let mut chart = self.chart(
            "Latency of honest beats",
            "Round trips of each second, counted from when a beat was due.",
            Axis { label: "round trip (log)".to_owned(), ..latency_axis() },
            series,
            "No round trip was measured: this crowd's beats aren't answered, or none was.",
        );
        let of_rtt = |name: &str| matches!(name, "p50" | "p90" | "p99" | "p99.9" | "max");
        let thresholds = self.recording.run.plan.thresholds.iter().filter(|threshold| of_rtt(&threshold.figure));
        chart.levels = thresholds.map(|threshold| (threshold.bound, units::shown(&threshold.text))).take(3).collect();
        chart
    }

    fn sessions(&self) -> Chart {
        let gauge =
            |of: fn(&CrowdSecond) -> u64| self.points(|seconds| seconds.last().map(|second| of(&second.crowd) as f64));
        let series = vec![
            Series::area("alive", look::GREEN, gauge(|crowd| crowd.alive)),
            Series::area("on leave", look::ORANGE, gauge(|crowd| crowd.leave)),
            Series::area("without a link", look::RED, gauge(|crowd| crowd.out)),
            Series::area("not in yet", look::GREY, gauge(|crowd| crowd.waiting)),
        ];
        let about = "All of them stay alive if the target is sound.";
        self.chart("Honest sessions by state", about, number_axis("sessions"), series, "There was no second.")
    }

    fn tries(&self) -> Chart {
        let series = self.attacks(|name| self.per_second(|second| second.attacks.get(name).map(|attack| attack.tries)));
        let about = "What the attackers began: an attack that isn't carried out proves nothing.";
        self.chart("Tries of attackers", about, number_axis("tries a second"), series, "No try was made.")
    }

    fn open(&self) -> Chart {
        let series = self.attacks(|name| self.peak(|second| second.attacks.get(name).map(|attack| attack.open)));
        let about = "Those that the target holds for them at the end of each second.";
        self.chart("Attackers' open connections", about, number_axis("connections"), series, "None was open.")
    }

    fn attacks(&self, points: impl Fn(&str) -> Vec<(f64, Option<f64>)>) -> Vec<Series> {
        let names: std::collections::BTreeSet<&String> =
            self.recording.seconds.iter().flat_map(|second| second.attacks.keys()).collect();
        let names = names.into_iter().take(DRAWN_MAX).enumerate();
        names.map(|(look, name)| Series::line(&units::shown(name), look, points(name))).collect()
    }

    fn rate(&self) -> Chart {
        let series = vec![
            Series::line("due", look::GREY, self.per_second(|second| second.load.as_ref().map(|load| load.due))),
            Series::line(
                "answered",
                look::BLUE,
                self.per_second(|second| second.load.as_ref().map(|load| load.answered)),
            ),
            Series::line("failed", look::RED, self.per_second(|second| second.load.as_ref().map(|load| load.failed))),
        ];
        let about = "Where fewer are answered than are due, the target can't keep up.";
        self.chart("Load: requests", about, number_axis("requests a second"), series, "Nothing was asked.")
    }

    fn load_latency(&self) -> Chart {
        let quantile = |share| self.quantile(share, |second| second.load.as_ref().map(|load| &load.latency_us));
        let series = vec![
            Series::line("p50", look::BLUE, quantile(0.5)),
            Series::line("p99", look::ORANGE, quantile(0.99)),
            Series::line("longest", look::RED, quantile(1.0)),
        ];
        let about = "From when a request was due to its answer.";
        self.chart("Load: latency", about, latency_axis(), series, "No request was answered.")
    }

    fn memory(&self) -> Chart {
        let series = vec![Series::line("resident memory", look::PURPLE, self.seen(|target| target.rss))];
        let about = "What the process holds; back to where it began is best.";
        self.chart("Target's memory", about, bytes_axis(), series, "The target's memory couldn't be seen.")
    }

    fn cpu(&self) -> Chart {
        let own = |of: fn(&OwnSecond) -> u64| self.used(move |second| Some(of(&second.own)));
        let mut series = vec![
            Series::line("target", look::PURPLE, self.used(|second| second.target.as_ref()?.cpu_ms)),
            Series::line("storm", look::BLUE, own(|own| own.cpu_ms)),
        ];
        if self.recording.run.plan.crowd.is_some() {
            series.push(Series::line(
                "storm's honest clients",
                look::GREEN + look::DASHED,
                own(|own| own.crowd_cpu_ms),
            ));
        }
        let cores = f64::from(self.recording.run.cores);
        let mut chart = self.chart(
            "CPU of target and storm",
            "A storm that uses all of its cores measures itself.",
            number_axis("cores"),
            series,
            "There was no second.",
        );
        chart.levels = vec![(cores, format!("the storm may use {}", units::plural(cores as u64, "core")))];
        chart
    }

    /// Cores used in each moment, from a counter.
    fn used(&self, cpu_ms: impl Fn(&Second) -> Option<u64>) -> Vec<(f64, Option<f64>)> {
        let mut last = None;
        let points = self.moments.iter().map(|moment| {
            let now = moment.seconds.last().and_then(|second| Some((moment.at, cpu_ms(second)?)));
            let before = std::mem::replace(&mut last, now);
            let used = before.zip(now).and_then(|((from, before), (to, now))| {
                (now >= before && to > from).then(|| (now - before) as f64 / 1e3 / (to - from))
            });
            (moment.at, used)
        });
        points.collect()
    }

    fn files(&self) -> Chart {
        let series = vec![
            Series::line("target's open files", look::PURPLE, self.seen(|target| target.files)),
            Series::line("its links, by its metrics", look::GREEN + look::DASHED, self.seen(|target| target.links)),
            Series::line("storm's open files", look::BLUE, self.peak(|second| Some(second.own.files))),
        ];
        let about = "Back to where they began soon after the attack, or something leaks.";
        self.chart("Open files and links", about, number_axis("open"), series, "None were counted.")
    }

    fn seen(&self, of: impl Fn(&TargetSecond) -> Option<u64>) -> Vec<(f64, Option<f64>)> {
        self.peak(|second| of(second.target.as_ref()?))
    }

    fn lag(&self) -> Chart {
        let lag = self.peak(|second| Some(second.own.lag_us.max(1)));
        let has_crowd = self.recording.run.plan.crowd.is_some();
        let series = if has_crowd { vec![Series::line("worst timer", look::BLUE, lag)] } else { Vec::new() };
        let about = "How late the honest clients' worst timer came: shorter times can't be told.";
        let axis = Axis { label: "late by (log)".to_owned(), ..latency_axis() };
        self.chart("The storm's own lateness", about, axis, series, "There was no honest client with a timer.")
    }
}

/// The parts of a run on its time axis.
fn bands(recording: &Recording) -> Vec<Band> {
    let parts = [(Phase::Ramp, "ramp"), (Phase::Before, "before"), (Phase::During, "attack"), (Phase::After, "after")];
    let bands = parts.into_iter().filter_map(|(of, name)| {
        let (from, to) = span(recording, of)?;
        Some(Band { from, to, name: name.to_owned(), shaded: of == Phase::During })
    });
    bands.collect()
}

/// From when to when a phase lasted, in seconds since the run began.
pub(super) fn span(recording: &Recording, of: Phase) -> Option<(f64, f64)> {
    let first = phase(&recording.seconds, of).next()?;
    let last = phase(&recording.seconds, of).last()?;
    Some((first.at_ms.saturating_sub(first.for_ms) as f64 / 1e3, last.at_ms as f64 / 1e3))
}

/// How a figure's ratio to another run's is written, if it makes sense.
pub(super) fn compared(unit: Unit, value: f64, with: f64) -> Option<String> {
    let tells = with > 0.0 && value > 0.0 && (unit != Unit::Bytes || with >= 1024.0);
    tells.then(|| units::ratio(value / with))
}
