//! The page: one file that shows a run, asks nobody for anything, and can be attached to a ticket.
//!
//! No script, no font, no picture from elsewhere; its policy forbids them even if a name in a file tried. Names, codes
//! and plans are other people's text: maud escapes them, and `units::shown` keeps them on their line.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::summary::{CrowdSummary, Judged, Latency, Summary};
use super::{charts, compare, text, units};
use crate::plan::{Asked, Mode, Plan};
use crate::sample::Recording;

/// What a browser may do with the page: apply its style.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";
const STYLE: &str = include_str!("style.css");
/// Attacks that have a row. Names in a file can be many.
const ROWS_MAX: usize = 64;

/// The page of runs, each with its name: one run's report, or several side by side.
pub fn page(recordings: &[(String, Recording)]) -> String {
    match recordings {
        [(_, recording)] => run(recording).into_string(),
        [] => shell("No run", html! { h1 { "No run" } p { "There was nothing to report." } }).into_string(),
        several => compare::page(several).into_string(),
    }
}

fn run(recording: &Recording) -> Markup {
    let summary = Summary::of(recording);
    let plan = &recording.run.plan;
    let name = units::shown(&plan.name);
    let body = html! {
        header {
            p class="kind" { "stillhere storm" @if let Some(trial) = summary.trial { ", trial " (trial) } }
            h1 { (name) }
            p class="quiet" { (units::shown(&plan.about)) }
            (verdict(&summary))
        }
        (doubts(&summary.warnings))
        (tiles(&summary))
        @if !summary.judged.is_empty() { (thresholds(&summary.judged)) }
        @if summary.clients > 0 { (crowd(&summary)) }
        h2 { "Over time" }
        (charts::all(recording, &summary))
        @if !summary.attacks.is_empty() { (attacks(&summary)) }
        (rest(&summary))
        (planned(recording))
        (footer(&summary))
    };
    shell(&format!("{name}: {}", if summary.passed { "passed" } else { "failed" }), body)
}

/// The frame of every page.
pub(super) fn shell(title: &str, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    }
}

/// The verdict in words, with a sign, in colour.
pub(super) fn verdict(summary: &Summary) -> Markup {
    let (class, sign) = if summary.passed { ("verdict passed", "✓") } else { ("verdict failed", "✗") };
    let mut words = summary.verdict.clone();
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let mut facts = vec![format!("{} against {}", units::time(summary.took_ms as f64 * 1e3), shown_target(summary))];
    if summary.clients > 0 {
        facts.push(units::plural(summary.clients, "honest client"));
    }
    let attackers: u64 = summary.attacks.values().map(|attack| attack.attackers).fold(0, u64::saturating_add);
    if attackers > 0 {
        facts.push(units::plural(attackers, "attacker"));
    }
    if !summary.warnings.is_empty() {
        facts.push(format!("read with {}", units::plural(summary.warnings.len() as u64, "warning")));
    }
    html! {
        div class=(class) role="status" {
            span class="sign" aria-hidden="true" { (sign) }
            div { (words) small { (facts.join(" · ")) } }
        }
    }
}

fn shown_target(summary: &Summary) -> String {
    units::shown(&summary.target_address)
}

/// What makes the numbers doubtful.
pub(super) fn doubts(warnings: &[String]) -> Markup {
    html! {
        @if !warnings.is_empty() {
            section class="doubts" {
                b { "⚠ Read with care" }
                ul { @for warning in warnings { li { (with_code(warning)) } } }
            }
        }
    }
}

/// A sentence whose words in backticks are code.
fn with_code(sentence: &str) -> Markup {
    html! {
        @for (at, part) in sentence.split('`').enumerate() {
            @if at % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// The few figures that one looks for first.
fn tiles(summary: &Summary) -> Markup {
    let time = |name| summary.figure(name).map(units::time);
    let number = |name| summary.figure(name).map(units::number);
    let mut tiles: Vec<(&str, String, String)> = Vec::new();
    if let Some(p99) = time("p99") {
        let before = time("before.p99").map_or(String::new(), |before| format!("{before} before"));
        let ratio = summary.figure("p99_ratio").map_or(String::new(), |ratio| format!(", {}", units::ratio(ratio)));
        tiles.push(("p99 during the attack", p99, format!("{before}{ratio}")));
    }
    if let Some(lost) = number("sessions_lost") {
        let links = number("links_lost").map_or(String::new(), |links| format!("{links} links lost"));
        tiles.push(("honest sessions lost", lost, links));
    }
    if let Some(false_leaves) = number("false_leaves") {
        tiles.push(("false leaves", false_leaves, "put on leave although they beat".to_owned()));
    }
    if let Some(lost) = number("messages_lost") {
        tiles.push(("messages lost", lost, format!("of {} said", units::count(summary.whole.said))));
    }
    if let Some(tries) = number("tries") {
        let open = summary.attacks.values().map(|attack| attack.open_max).fold(0, u64::saturating_add);
        tiles.push(("attackers' tries a second", tries, format!("{} connections at most", units::count(open))));
    }
    if let Some(rate) = number("rate") {
        let p99 = time("load_p99").map_or(String::new(), |p99| format!("p99 {p99}"));
        tiles.push(("load answered a second", rate, p99));
    }
    if let Some(growth) = summary.figure("rss_growth").map(units::bytes) {
        let left =
            summary.figure("rss_left").map_or(String::new(), |left| format!("{} left at the end", units::bytes(left)));
        tiles.push(("target's memory grew by", growth, left));
    }
    html! {
        div class="tiles" {
            @for (name, value, note) in tiles {
                div class="tile" { b { (value) } span class="name" { (name) } span { (note) } }
            }
        }
    }
}

/// Each threshold with what was measured.
pub(super) fn thresholds(judged: &[Judged]) -> Markup {
    html! {
        h2 { "Thresholds" }
        div class="scroll" {
            table {
                thead { tr { th { "Must hold" } th class="left" { "Verdict" } th { "Measured" } th class="wide" { "What it is" } } }
                tbody {
                    @for judged in judged {
                        tr class=(if judged.holds { "held" } else { "broken" }) {
                            td { code { (units::shown(&judged.threshold.text)) } }
                            @if judged.holds {
                                td class="left good" { "✓ holds" }
                            } @else {
                                td class="left bad" { "✗ broken" }
                            }
                            td { (text::measured(judged)) }
                            td class="wide quiet" { (about(&judged.threshold.figure)) }
                        }
                    }
                }
            }
        }
    }
}

fn about(figure: &str) -> &'static str {
    crate::plan::figure::find(figure)
        .map_or("This version of stillhere doesn't know the figure.", |figure| figure.about)
}

/// A row of the crowd's tables: its name, and what it shows of a part of the run.
type Row<T> = (&'static str, fn(&CrowdSummary) -> T);

/// The crowd before, during and after.
fn crowd(summary: &Summary) -> Markup {
    let parts: Vec<(&str, &CrowdSummary)> = text::parts(summary)
        .into_iter()
        .filter(|(_, part)| part.seconds > 0.0)
        .chain([("whole run", &summary.whole)])
        .collect();
    let latencies: [Row<Option<Latency>>; 4] = [
        ("Beat, round trip", |part| part.rtt_us),
        ("Message, until acknowledged", |part| part.say_us),
        ("Signal, until received", |part| part.signal_us),
        ("Newcomer, until let in", |part| part.enter_us),
    ];
    let counts: [Row<u64>; 14] = [
        ("Beats sent", |part| part.sent),
        ("Beats answered", |part| part.answered),
        ("Beats never answered", |part| part.unanswered),
        ("False leaves that clients were told", |part| part.false_leaves),
        ("Links lost", |part| part.links_lost),
        ("Links resumed", |part| part.resumed),
        ("Sessions lost", |part| part.sessions_lost),
        ("Messages acknowledged", |part| part.said),
        ("Messages never acknowledged", |part| part.unsaid),
        ("Messages lost", |part| part.messages_lost),
        ("Messages doubled", |part| part.messages_doubled),
        ("Signals received", |part| part.signals),
        ("Newcomers let in", |part| part.newcomers),
        ("Newcomers refused", |part| part.newcomers_refused),
    ];
    let counts = counts.into_iter().filter(|(_, of)| of(&summary.whole) > 0);
    html! {
        h2 { "Honest clients" }
        div class="scroll" {
            table {
                thead {
                    tr {
                        th { "Latency" } th class="left" { "Part" } th { "count" } th { "p50" } th { "p90" } th { "p99" }
                        th { "p99.9" } th { "longest" }
                    }
                }
                tbody {
                    @for (name, of) in latencies {
                        @for (at, (part, latency)) in parts.iter().filter_map(|(part, crowd)| Some((part, of(crowd)?))).enumerate() {
                            tr class=[(at > 0).then_some("more")] {
                                th { @if at == 0 { (name) } }
                                td class="left" { (part) }
                                td { (units::count(latency.count)) }
                                @for us in [latency.p50, latency.p90, latency.p99, latency.p999, latency.max] {
                                    td { (units::time(us as f64)) }
                                }
                            }
                        }
                    }
                }
            }
        }
        br;
        div class="scroll" {
            table {
                thead { tr { th { "Count" } @for (part, crowd) in &parts { th { (part) " (" (units::time(crowd.seconds * 1e6)) ")" } } } }
                tbody {
                    @for (name, of) in counts {
                        tr { th { (name) } @for (_, crowd) in &parts { td { (units::count(of(crowd))) } } }
                    }
                }
            }
        }
    }
}

fn attacks(summary: &Summary) -> Markup {
    html! {
        h2 { "Attacks" }
        div class="scroll" {
            table {
                thead {
                    tr {
                        th { "Attack" } th { "attackers" } th { "tries/s" } th { "tries" } th { "opened" } th { "refused" }
                        th { "open (max)" } th { "ended by target" } th { "overdue" } th { "answered" } th { "sent" } th { "received" }
                    }
                }
                tbody {
                    @for (name, attack) in summary.attacks.iter().take(ROWS_MAX) {
                        tr {
                            th { (units::shown(name)) }
                            td { (units::count(attack.attackers)) }
                            td {
                                (units::number(attack.tries_per_second))
                                @if let Some(rate) = attack.rate { small { "of " (units::number(rate)) " planned" } }
                            }
                            @for count in [attack.tries, attack.connected, attack.refused, attack.open_max, attack.ended, attack.overdue, attack.answered] {
                                td { (units::count(count)) }
                            }
                            td { (units::bytes(attack.sent_bytes as f64)) }
                            td { (units::bytes(attack.received_bytes as f64)) }
                        }
                    }
                }
            }
        }
    }
}

/// Target, load and the storm itself.
fn rest(summary: &Summary) -> Markup {
    let bytes = |bytes: Option<u64>| bytes.map(|bytes| units::bytes(bytes as f64));
    let count = |count: Option<u64>| count.map(units::count);
    let cores = |cores: Option<f64>| cores.map(|cores| format!("{cores:.2}"));
    let (target, own) = (&summary.target, &summary.own);
    let mut rows = vec![
        (
            "Target's memory",
            "before, at most, at the end",
            [bytes(target.rss_before), bytes(target.rss_peak), bytes(target.rss_end)],
        ),
        (
            "Target's cores",
            "before, during, after",
            [cores(target.cpu_before), cores(target.cpu_during), cores(target.cpu_after)],
        ),
        (
            "Target's open files",
            "before, at most, five seconds after",
            [count(target.files_before), count(target.files_peak), count(target.files_left)],
        ),
        (
            "Storm's cores",
            "all, honest clients' thread, may use",
            [cores(own.cpu_during), cores(own.crowd_cpu_during), Some(units::count(own.cores.into()))],
        ),
        (
            "Storm's timers late",
            "99 in 100 seconds of the attack, worst of the run",
            [own.lag_us_p99, own.lag_us_max, None].map(|us| us.map(|us| units::time(us as f64))),
        ),
        ("Storm's memory and files", "at most", [bytes(Some(own.rss_peak)), count(Some(own.files_peak)), None]),
    ];
    if let Some(load) = &summary.load {
        rows.push((
            "Load's requests",
            "due, answered, failed",
            [load.due, load.answered, load.failed].map(|n| count(Some(n))),
        ));
        let latency = load.latency_us.as_ref();
        rows.push((
            "Load's latency",
            "p50, p99, p99.9",
            [latency.map(|l| l.p50), latency.map(|l| l.p99), latency.map(|l| l.p999)]
                .map(|us| us.map(|us| units::time(us as f64))),
        ));
    }
    html! {
        h2 { "Target and storm" }
        div class="scroll" {
            table {
                tbody {
                    @for (name, what, values) in rows {
                        tr {
                            th { (name) }
                            @if values.iter().all(Option::is_none) {
                                td colspan="3" class="quiet" { "couldn't be seen" }
                            } @else {
                                @for value in values { td { (value.unwrap_or_default()) } }
                            }
                            td class="wide quiet" { (what) }
                        }
                    }
                }
            }
        }
    }
}

/// What was to happen. The command of a started target and the addresses of its metrics stay out: pages are passed on,
/// and those may hold secrets.
pub(super) fn planned(recording: &Recording) -> Markup {
    let run = &recording.run;
    html! {
        h2 { "Plan" }
        div class="scroll" {
            table {
                tbody {
                    @for (name, value) in rows(&run.plan) { tr { th { (name) } td class="wide" { (value) } } }
                    tr { th { "Storm" } td class="wide" {
                        (units::plural(run.cores.into(), "core")) ", " (units::count(run.files)) " files, seed " (run.plan.seed)
                    } }
                }
            }
        }
    }
}

fn rows(plan: &Plan) -> Vec<(&'static str, String)> {
    let lasts = |time: std::time::Duration| units::short(&units::time(time.as_secs_f64() * 1e6));
    let time = &plan.time;
    let mut rows = vec![
        ("Target", units::shown(&plan.target.address)),
        (
            "Time",
            format!(
                "ramp {}, before {}, attack {}, after {}",
                lasts(time.ramp),
                lasts(time.before),
                lasts(time.during),
                lasts(time.after)
            ),
        ),
    ];
    if let Some(crowd) = &plan.crowd {
        let speaks = match crowd.mode {
            Mode::V1 => "v1",
            Mode::Legacy => "legacy",
            Mode::Frame => "the plan's frames",
        };
        let mut text = format!(
            "{} ({speaks}), a beat every {}",
            units::plural(crowd.count.into(), "client"),
            lasts(crowd.interval)
        );
        if crowd.rooms > 0 {
            text += &format!(", in {}", units::plural(crowd.rooms.into(), "room"));
        }
        if let Some(every) = crowd.say_every {
            text += &format!(", a message every {}", lasts(every));
        }
        if let Some(every) = crowd.signal_every {
            text += &format!(", a signal every {}", lasts(every));
        }
        if crowd.newcomers_per_second > 0.0 {
            text += &format!(", {} newcomers a second", units::short(&units::number(crowd.newcomers_per_second)));
        }
        rows.push(("Honest clients", text));
    }
    for attack in plan.attacks.iter().take(ROWS_MAX) {
        let pace = attack.rate.map_or("each as fast as it can".to_owned(), |rate| {
            format!("{} tries a second together", units::short(&units::number(rate)))
        });
        rows.push((
            "Attack",
            format!(
                "{}: {}, {pace}, {} at once",
                units::shown(&attack.name),
                units::plural(attack.count.into(), "attacker"),
                units::short(&units::bytes(attack.size.into()))
            ),
        ));
    }
    if let Some(load) = &plan.load {
        let asked = match load.what {
            Asked::Beat => "beats",
            Asked::Say => "messages",
            Asked::Connect => "connections",
            Asked::Frame => "exchanges of the plan's frames",
        };
        let steps = load.steps.iter().take(ROWS_MAX).map(|step| {
            let (from, to) = (units::short(&units::number(step.from)), units::short(&units::number(step.to)));
            let pace = if step.from == step.to { from } else { format!("{from} to {to}") };
            format!("{pace} a second for {}", lasts(step.lasts))
        });
        let steps = steps.collect::<Vec<_>>().join(", then ");
        let closed = if load.closed { ", each after the last one's answer" } else { "" };
        let over = units::plural(load.connections.into(), "connection");
        rows.push(("Load", format!("{asked} over {over}: {steps}{closed}")));
    }
    rows
}

pub(super) fn footer(summary: &Summary) -> Markup {
    html! {
        footer {
            "Made by stillhere storm " (units::shown(&summary.stillhere)) " from the samples of a run that began at "
            (summary.started.to_string()) ". Round trips are counted from when a beat was due, so neither a late target nor a late \
            storm hides anything. Every number can be made again from samples.jsonl."
        }
    }
}
