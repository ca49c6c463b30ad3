//! Runs with known answers, hostile names, and the pages.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::synthetic::{self, Shape, threshold};
use super::{SearchReport, Summary, Trial, VERSION, page, search_page};
use crate::plan::figure::{FIGURES, Unit};
use crate::plan::{Is, Mode};
use crate::sample::{End, Line, LoadSecond, Phase, Recording, Second, Spread, TargetSecond};

/// Ten quiet seconds before, ten of attack and ten after, with everything zero.
fn quiet() -> Recording {
    let mut recording = synthetic::run(&Shape { times: [1, 10, 10, 10], ..Shape::default() });
    for second in &mut recording.seconds {
        let (at_ms, phase) = (second.at_ms, second.phase);
        *second = Second { at_ms, for_ms: 1_000, phase, ..Second::default() };
        second.crowd.alive = 2_000;
    }
    recording
}

/// Seconds of a phase.
fn of(recording: &mut Recording, phase: Phase) -> Vec<&mut Second> {
    recording.seconds.iter_mut().filter(|second| second.phase == phase).collect()
}

fn spread(values: &[(u64, u64)]) -> Spread {
    let mut spread = Spread::default();
    values.iter().for_each(|&(value, count)| spread.add(value, count));
    spread
}

#[test]
fn every_figure_follows_from_the_seconds() {
    let mut recording = quiet();
    for second in of(&mut recording, Phase::Before) {
        second.crowd.rtt_us = spread(&[(100, 98), (200, 2)]);
    }
    for (at, second) in of(&mut recording, Phase::During).into_iter().enumerate() {
        // Of 1,000 beats 900 take 150 µs, 91 take 300 µs, 8 take 500 µs and one a millisecond.
        second.crowd.rtt_us = spread(&[(150, 90)]);
        second.crowd.rtt_us.add(300, if at == 0 { 10 } else { 9 });
        second.crowd.rtt_us.add(if at == 9 { 1_000 } else { 500 }, u64::from(at > 0 && at < 9 || at == 9));
        second.crowd.say_us = spread(&[(400, 10)]);
        second.crowd.signal_us = spread(&[(250, 10)]);
        second.crowd.enter_us = spread(&[(700, 10)]);
        (second.crowd.said, second.crowd.unsaid) = (10, 1);
        (second.crowd.newcomers, second.crowd.newcomers_refused) = (4, 2);
        (second.crowd.false_leaves, second.crowd.sessions_lost, second.crowd.unanswered) = (1, 2, 3);
        second.crowd.losses = BTreeMap::from([("reset".to_owned(), 3)]);
        second.crowd.closes = BTreeMap::from([(4005, 1), (4004, 1)]);
        let mut attacks = synthetic::run(&Shape::default()).seconds[20].attacks.clone();
        attacks.retain(|name, _| name == "churn");
        for attack in attacks.values_mut() {
            (attack.tries, attack.overdue) = (700, at as u64);
        }
        second.attacks = attacks;
        second.load = Some(LoadSecond {
            due: 100,
            sent: 100,
            answered: 90,
            failed: 1,
            open: at as u64,
            latency_us: spread(&[(800, 89), (9_000, 1)]),
            ..LoadSecond::default()
        });
    }
    for (at, second) in recording.seconds.iter_mut().enumerate() {
        let rss = match second.phase {
            Phase::Ramp | Phase::Before => 100_000,
            Phase::During => 180_000,
            Phase::After => 130_000,
        };
        let target = TargetSecond {
            rss: Some(rss),
            // Half a core until the attack ends, none later; files fall by one each second after it.
            cpu_ms: Some(500 * at.min(20) as u64),
            files: Some(if second.phase == Phase::After { 60 - at as u64 } else { 20 }),
            ..TargetSecond::default()
        };
        second.target = Some(target);
        (second.own.cpu_ms, second.own.lag_us) = (250 * at as u64, 40);
    }
    for second in of(&mut recording, Phase::After) {
        second.crowd.rtt_us = spread(&[(120, 100)]);
    }
    let last = recording.seconds.last_mut().unwrap();
    (last.crowd.alive, last.crowd.leave, last.crowd.out) = (1_990, 3, 7);
    (last.crowd.messages_lost, last.crowd.messages_doubled) = (5, 6);

    let summary = Summary::of(&recording);
    let wanted = [
        ("p50", 150.0),
        ("p90", 150.0),
        ("p99", 300.0),
        ("p99.9", 500.0),
        ("max", 1_000.0),
        ("before.p50", 100.0),
        ("before.p99", 200.0),
        ("before.p99.9", 200.0),
        ("after.p50", 120.0),
        ("after.p99", 120.0),
        ("after.p99.9", 120.0),
        ("p50_ratio", 1.5),
        ("p99_ratio", 1.5),
        ("p99.9_ratio", 2.5),
        ("after.p99_ratio", 0.6),
        ("false_leaves", 10.0),
        ("sessions_lost", 20.0),
        ("links_lost", 50.0),
        ("closes", 20.0),
        ("missing", 7.0),
        ("unanswered", 30.0),
        ("messages_lost", 5.0),
        ("messages_doubled", 6.0),
        ("unsaid", 10.0),
        ("say_p99", 400.0),
        ("signal_p99", 250.0),
        ("newcomers_refused", 20.0),
        ("enter_p99", 700.0),
        ("rate", 90.0),
        ("load_p50", 800.0),
        ("load_p99", 9_000.0),
        ("load_p99.9", 9_000.0),
        ("load_failed", 10.0),
        ("load_open", 9.0),
        ("tries", 700.0),
        ("overdue", 9.0),
        ("rss_growth", 80_000.0),
        ("rss_left", 30_000.0),
        // The attack ends after second 21, the one five seconds later has number 25 counted from 0.
        ("files_left", 60.0 - 25.0 - 20.0),
        ("cpu", 0.5),
        ("own_cpu", 0.25),
        ("own_lag", 40.0),
    ];
    for (name, wanted) in wanted {
        let found = summary.figure(name).unwrap_or(f64::NAN);
        assert!((found - wanted).abs() <= wanted.abs() * 0.002, "{name} is {found} instead of {wanted}");
    }
    let tested: BTreeSet<&str> = wanted.iter().map(|(name, _)| *name).collect();
    let known: BTreeSet<&str> = FIGURES.iter().map(|figure| figure.name).collect();
    assert_eq!(tested, known, "each figure of the plan is measured, and has a row here");
}

#[test]
fn what_was_not_measured_is_no_figure_and_breaks_its_threshold() {
    let mut recording = quiet();
    recording.run.plan.thresholds = vec![
        threshold("p99 < 1h", "p99", Is::Below, 3.6e9),
        threshold("rss_growth < 1GiB", "rss_growth", Is::Below, 1e9),
        threshold("sessions_lost = 0", "sessions_lost", Is::Equal, 0.0),
        threshold("nonsense = 0", "nonsense", Is::Equal, 0.0),
    ];
    let summary = Summary::of(&recording);
    let held: Vec<bool> = summary.judged.iter().map(|judged| judged.holds).collect();
    assert_eq!((held, summary.passed), (vec![false, false, true, false], false));
    assert_eq!(summary.verdict, "failed: 3 of 4 thresholds broken, 3 of them not measured");

    // Nothing at all was seen.
    recording.seconds.clear();
    recording.run.plan.crowd = None;
    let summary = Summary::of(&recording);
    let measured: Vec<&String> = summary.figures.keys().collect();
    assert!(measured.is_empty(), "{measured:?}");
}

#[test]
fn comparisons_are_what_they_say() {
    for (is, held) in [
        (Is::Below, [true, false, false]),
        (Is::AtMost, [true, true, false]),
        (Is::Equal, [false, true, false]),
        (Is::AtLeast, [false, true, true]),
        (Is::Above, [false, false, true]),
    ] {
        for (bound, held) in [8.0, 7.0, 6.0].into_iter().zip(held) {
            let mut recording = quiet();
            recording.run.plan.thresholds = vec![threshold("", "missing", is, bound)];
            recording.seconds.last_mut().unwrap().crowd.alive = 1_993;
            let summary = Summary::of(&recording);
            assert_eq!(summary.passed, held, "7 {is:?} {bound}: {}", summary.verdict);
        }
    }
}

#[test]
fn false_leaves_of_clients_that_are_never_told_are_the_target_s_own_count() {
    let mut recording = quiet();
    let figure = |recording: &Recording| Summary::of(recording).figure("false_leaves");
    for (mode, told) in [(Mode::V1, Some(0.0)), (Mode::Legacy, None), (Mode::Frame, None)] {
        recording.run.plan.crowd.as_mut().unwrap().mode = mode;
        assert_eq!(figure(&recording), told, "{mode:?}");
    }
    for (at, second) in recording.seconds.iter_mut().enumerate() {
        // It restarts in the middle, and counts from zero again.
        let false_leaves = Some([5, 8, 0, 1][at.min(3)]);
        second.target = Some(TargetSecond { false_leaves, ..Default::default() });
    }
    for (mode, told) in [(Mode::V1, Some(0.0)), (Mode::Legacy, Some(4.0)), (Mode::Frame, None)] {
        recording.run.plan.crowd.as_mut().unwrap().mode = mode;
        assert_eq!(figure(&recording), told, "{mode:?}");
    }
}

#[test]
fn a_run_that_was_cut_has_not_passed() {
    let mut recording = synthetic::run(&Shape::default());
    assert!(Summary::of(&recording).passed);
    recording.end = Some(End { at_ms: 9_000, cut: Some("interrupted".to_owned()), own_fault: false });
    let summary = Summary::of(&recording);
    assert_eq!((summary.passed, summary.verdict.as_str()), (false, "failed: the run was cut (interrupted)"));
    recording.end = None;
    let summary = Summary::of(&recording);
    assert!(!summary.passed && summary.verdict.contains("killed"), "{}", summary.verdict);
    assert_eq!(summary.figure("messages_lost"), None, "they are counted when a run ends");
}

#[test]
fn what_makes_numbers_doubtful_is_said() {
    let warned = |change: fn(&mut Recording)| {
        let mut recording = synthetic::run(&Shape { load: true, ..Shape::default() });
        change(&mut recording);
        Summary::of(&recording).warnings
    };
    assert_eq!(warned(|_| ()), [] as [&str; 0], "a sound run has none");
    type Case = (&'static str, fn(&mut Recording));
    let cases: [Case; 21] = [
        ("The run was cut (killed", |r| r.end = None),
        ("The last line of the samples was cut", |r| r.torn = true),
        ("no honest clients", |r| r.run.plan.crowd = None),
        ("Legacy clients are never answered", |r| {
            r.run.plan.crowd.as_mut().unwrap().mode = Mode::Legacy;
            r.seconds.iter_mut().flat_map(|second| &mut second.target).for_each(|target| target.false_leaves = None);
        }),
        ("Only 1,500 of 2,000 honest clients", |r| {
            for second in of(r, Phase::Before) {
                second.crowd.alive = 1_500;
            }
        }),
        ("no time before the attack", |r| r.seconds.retain(|second| second.phase != Phase::Before)),
        ("timers were up to 6.00 ms late", |r| r.seconds[20].own.lag_us = 6_000),
        ("timers were up to 2.50 ms late", |r| r.seconds[20].own.lag_us = 2_500),
        ("The storm itself used", |r| {
            (0..).zip(&mut r.seconds).for_each(|(at, second)| second.own.cpu_ms = at * 3_700);
        }),
        ("The honest clients' thread used", |r| {
            (0..).zip(&mut r.seconds).for_each(|(at, second)| second.own.crowd_cpu_ms = at * 950);
        }),
        ("The storm had 3,250 of the 3,300 files", |r| r.run.files = 3_300),
        ("1 of the samples took longer", |r| r.seconds[9].for_ms = 2_100),
        ("`garbage` wasn't carried out", |r| {
            r.seconds.iter_mut().for_each(|second| _ = second.attacks.remove("garbage"));
        }),
        ("attackers of `garbage` were connected and not let in", |r| {
            let attacks = r.seconds.iter_mut().flat_map(|s| s.attacks.get_mut("garbage"));
            attacks.for_each(|attack| attack.turned_away = attack.connected);
        }),
        ("connections that `garbage` asked for didn't open", |r| {
            r.seconds.iter_mut().flat_map(|s| s.attacks.get_mut("garbage")).for_each(|attack| attack.refused = 900);
        }),
        ("`churn` made 800 tries a second of the 1,100", |r| r.run.plan.attacks[1].rate = Some(1_100.0)),
        ("of the load that were due only", |r| {
            r.seconds.iter_mut().flat_map(|second| &mut second.load).for_each(|load| load.sent = load.due / 2);
        }),
        ("The load waited for answers", |r| r.run.plan.load.as_mut().unwrap().closed = true),
        ("The load wasn't carried out", |r| r.seconds.iter_mut().for_each(|second| second.load = None)),
        ("memory couldn't be seen", |r| r.seconds.iter_mut().for_each(|second| second.target = None)),
        ("Few round trips were measured (2,000 before the attack): p99.9", |r| {
            of(r, Phase::Before).into_iter().skip(1).for_each(|second| second.crowd.rtt_us = Spread::default());
        }),
    ];
    for (wanted, change) in cases {
        let warnings = warned(change);
        assert!(warnings.iter().any(|warning| warning.contains(wanted)), "no `{wanted}` in {warnings:#?}");
    }
}

/// A search with four trials.
fn searched() -> SearchReport {
    let plan = synthetic::search_plan();
    let trials = [
        (100_u32, 1.1, 0),
        (200, 1.3, 0),
        (400, 1.7, 0),
        (800, 2.6, 0),
        (600, 2.0, 0),
        (500, 1.85, 0),
        (1600, 9.0, 12),
    ];
    let trials = trials.map(|(attackers, slower, closes)| {
        let shape =
            Shape { attackers, slower, closes, times: [2, 5, 8, 5], seed: attackers.into(), ..Shape::default() };
        let mut recording = synthetic::run(&shape);
        for attack in recording.seconds.iter_mut().flat_map(|second| second.attacks.get_mut("garbage")) {
            attack.tries = u64::from(attackers) * 2;
        }
        let summary = Summary::of(&recording);
        Trial { number: attackers.into(), held: summary.passed, summary }
    });
    SearchReport { version: VERSION, plan, held: Some(500), broke: Some(600), cut: None, trials: trials.into() }
}

/// All kinds of pages.
fn pages() -> Vec<(&'static str, String)> {
    let run = |shape: Shape| synthetic::run(&shape);
    let sound = Shape { load: true, times: [5, 20, 60, 20], ..Shape::default() };
    let broken = Shape { closes: 17, slower: 11.0, seed: 3, ..sound.clone() };
    let mut bare = run(Shape::default());
    bare.run.plan.crowd.as_mut().unwrap().mode = Mode::Legacy;
    for second in &mut bare.seconds {
        (second.target, second.crowd.rtt_us) = (None, Spread::default());
    }
    let long = run(Shape { times: [30, 200, 700, 200], seed: 5, ..Shape::default() });
    let named = |name: &str, recording| (name.to_owned(), recording);
    let mild = Shape { slower: 3.0, seed: 9, ..sound.clone() };
    vec![
        ("sound", page(&[named("one", run(sound.clone()))])),
        ("broken", page(&[named("one", run(broken.clone()))])),
        ("bare", page(&[named("one", bare)])),
        ("long", page(&[named("one", long)])),
        (
            "compared",
            page(&[named("before-the-fix", run(broken)), named("half-mended", run(mild)), named("after", run(sound))]),
        ),
        ("search", search_page(&searched())),
        ("none", page(&[])),
    ]
}

#[test]
fn pages_are_whole_and_ask_nobody_for_anything() {
    let written_to = std::env::var_os("STORM_PAGES");
    for (name, page) in pages() {
        if let Some(dir) = &written_to {
            std::fs::write(std::path::Path::new(dir).join(format!("{name}.html")), &page).unwrap();
        }
        assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"), "{name}");
        for load in [
            "http:",
            "https:",
            "src=",
            "@import",
            "url(",
            "<script",
            "<img",
            "<iframe",
            "<form",
            "javascript:",
            "NaN",
            "inf ",
        ] {
            assert!(!page.contains(load), "`{load}` in {name}");
        }
        let hrefs: Vec<&str> = page.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        assert_eq!(hrefs, ["data:,"], "{name}");
        assert!(page.contains("default-src 'none'; style-src 'unsafe-inline'; img-src data:"), "{name}");
        assert!(page.len() < 2 << 20, "{name} has {} bytes", page.len());
    }
}

#[test]
fn the_page_says_what_was_measured() {
    let recording = synthetic::run(&Shape { closes: 9, ..Shape::default() });
    let page = page(&[("run".to_owned(), recording)]);
    for wanted in [
        "Failed: 2 of 8 thresholds broken",
        "sessions_lost = 0",
        "✗ broken",
        "4005 slow_consumer",
        "reset by the target",
        "Latency of honest beats",
        "p99 &lt; 5ms",
        ">attack</text>",
        "1,000 attackers",
    ] {
        assert!(page.contains(wanted), "no `{wanted}`");
    }
    for title in ["how they are spread", "by state", "Target's memory", "Tries of attackers", "own lateness"] {
        assert!(page.contains(title), "no plot `{title}`");
    }
}

#[test]
fn hostile_names_stay_text() {
    const HOSTILE: &str = "<script>alert(1)</script>\"'><img src=x onerror=y>\u{202e}\u{1b}[31m";
    let mut recording = synthetic::run(&Shape { name: HOSTILE.to_owned(), closes: 3, ..Shape::default() });
    let run = &mut recording.run;
    run.stillhere = HOSTILE.to_owned();
    run.plan.about = HOSTILE.to_owned();
    run.plan.target.address = HOSTILE.to_owned();
    run.plan.thresholds.push(threshold(HOSTILE, HOSTILE, Is::Equal, 1.0));
    run.plan.attacks[0].name = HOSTILE.to_owned();
    recording.end = Some(End { at_ms: 1, cut: Some(HOSTILE.to_owned()), own_fault: false });
    for second in &mut recording.seconds {
        second.crowd.losses = BTreeMap::from([(HOSTILE.to_owned(), 1)]);
        if let Some(attack) = second.attacks.remove("garbage") {
            second.attacks.insert(HOSTILE.to_owned(), attack);
        }
    }
    let named = || (HOSTILE.to_owned(), recording.clone());
    let mut search = searched();
    search.plan.name = HOSTILE.to_owned();
    for trial in &mut search.trials {
        trial.summary = Summary::of(&recording);
    }
    for page in [page(&[named()]), page(&[named(), named()]), search_page(&search)] {
        assert!(page.contains("&lt;script&gt;"), "it is shown");
        assert!(!page.contains("<script") && !page.contains("<img"));
        assert!(!page.contains('\u{202e}') && !page.contains('\u{1b}'));
    }
}

#[test]
fn a_hostile_recording_is_reported_all_the_same() {
    let mut recording = synthetic::run(&Shape { closes: 3, load: true, ..Shape::default() });
    recording.run.cores = u32::MAX;
    recording.run.plan.time.during = Duration::MAX;
    for second in &mut recording.seconds {
        (second.for_ms, second.own.cpu_ms, second.own.lag_us) = (u64::MAX, u64::MAX, u64::MAX);
        (second.crowd.alive, second.crowd.leave, second.crowd.said) = (u64::MAX, u64::MAX, u64::MAX);
        (second.crowd.newcomers, second.crowd.unsaid, second.crowd.newcomers_refused) = (u64::MAX, u64::MAX, u64::MAX);
        second.crowd.rtt_us.add(u64::MAX, u64::MAX);
        second.crowd.closes = (0..500).map(|code| (code, u64::MAX)).collect();
        for attack in second.attacks.values_mut() {
            (attack.tries, attack.connected, attack.refused, attack.open) = (u64::MAX, u64::MAX, u64::MAX, u64::MAX);
        }
    }
    let text = page(&[("run".to_owned(), recording.clone())]);
    assert!(text.len() < 1 << 20 && !text.contains("NaN"), "{} bytes", text.len());
    super::text::summary(&Summary::of(&recording), None, super::text::Style::default());
    for phase in [Phase::Ramp, Phase::Before, Phase::During, Phase::After] {
        recording.seconds.iter_mut().for_each(|second| (second.phase, second.at_ms) = (phase, 0));
        page(&[("run".to_owned(), recording.clone())]);
    }
    recording.seconds.clear();
    page(&[("run".to_owned(), recording)]);
}

#[test]
fn a_summary_reads_what_it_wrote() {
    let summary = Summary::of(&synthetic::run(&Shape { closes: 5, load: true, ..Shape::default() }));
    let text = serde_json::to_string_pretty(&summary).unwrap();
    let read: Summary = serde_json::from_str(&text).unwrap();
    assert_eq!((read.figures.len(), &read.judged, &read.attacks), (FIGURES.len(), &summary.judged, &summary.attacks));
    assert_eq!((&read.verdict, &read.warnings, &read.whole), (&summary.verdict, &summary.warnings, &summary.whole));
    let report = searched();
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<SearchReport>(&text).unwrap().trials.len(), report.trials.len());
}

/// The names of all fields, but not the keys of maps, which are names of other things.
fn fields(value: &Value, into: &mut BTreeSet<String>) {
    const MAPS: [&str; 7] = ["attacks", "closes", "losses", "errors", "sessions", "figures", "ended_by"];
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                into.insert(name.clone());
                match value {
                    Value::Object(map) if MAPS.contains(&name.as_str()) => {
                        map.values().for_each(|value| fields(value, into));
                    }
                    value => fields(value, into),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| fields(value, into)),
        _ => {}
    }
}

#[test]
fn every_field_of_the_files_is_described() {
    let docs = include_str!("../../../../docs/storm-samples.md");
    let mut recording = synthetic::run(&Shape { closes: 3, load: true, ..Shape::default() });
    for second in &mut recording.seconds {
        let target = second.target.get_or_insert_default();
        target.closes = BTreeMap::from([(4005, 1)]);
    }
    let summary = Summary::of(&recording);
    let mut all = BTreeSet::new();
    let mut add = |value: Value| fields(&value, &mut all);
    // The plan's fields are described with plans.
    let mut run = serde_json::to_value(Line::Run(Box::new(recording.run.clone()))).unwrap();
    run["plan"] = Value::Null;
    add(run);
    for second in recording.seconds {
        add(serde_json::to_value(Line::Second(Box::new(second))).unwrap());
    }
    add(serde_json::to_value(Line::End(End { at_ms: 1, cut: None, own_fault: false })).unwrap());
    add(serde_json::to_value(&summary).unwrap());
    let mut search = serde_json::to_value(searched()).unwrap();
    (search["plan"], search["trials"]) =
        (Value::Null, serde_json::json!([{ "number": 1, "held": true, "summary": null }]));
    add(search);
    all.retain(|name| !docs.contains(&format!("`{name}`")));
    assert!(all.is_empty(), "docs/storm-samples.md lacks {all:?}");
    for figure in FIGURES {
        let unit = match figure.unit {
            Unit::Time => "µs",
            Unit::Bytes => "bytes",
            Unit::Number => "number",
        };
        let row = format!("| `{}` | {unit} | {} |", figure.name, figure.about);
        assert!(docs.contains(&row), "docs/storm-samples.md lacks the row {row}");
    }
}
