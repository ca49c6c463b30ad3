//! A storm that can't fail is worthless: targets that are bad on purpose, each in one way, and the verdict on them.

use std::path::Path;

use stillhere_storm::plan::{Plan, file, threshold};
use stillhere_storm::report::Summary;
use stillhere_storm::run::{Options, run};

use crate::target::{Fault, Target};

/// A plan that a sound server passes easily, on a slow machine too.
fn plan(target: &Target, during: &str) -> Plan {
    let text = format!(
        r#"
        thresholds = [
            "max < 1s", "p50_ratio < 15", "p50 < 50ms", "sessions_lost = 0", "links_lost = 0", "false_leaves = 0",
            "missing = 0", "newcomers_refused = 0", "rss_growth < 50MiB", "tries > 0",
        ]
        [target]
        address = "{}"
        metrics = "{}"
        [time]
        ramp = "500ms"
        before = "1s"
        during = "{during}"
        after = "500ms"
        [crowd]
        count = 400
        interval = "1s"
        newcomers = "10/s"
        [[attack]]
        name = "silent-death"
        count = 100
        interval = "1s"
        "#,
        target.address, target.metrics
    );
    let mut plan = file::parse(&text, "self-check").unwrap();
    // A file may not ask for this in so short a time: a gateway's own deadlines are longer than this target's.
    plan.thresholds.push(threshold::parse("overdue = 0").unwrap());
    plan
}

/// Runs it against a server with this fault; the figures of the thresholds that broke must be among these, and one of
/// them the first.
#[track_caller]
fn check(fault: Fault, figures: &[&str]) {
    let target = Target::start(fault);
    // The attackers' own patience with a target that keeps the dead is longer.
    let during = if fault == Fault::KeepsTheDead { "12s" } else { "5s" };
    let recording = run(&plan(&target, during), &Options::default(), &mut |_| {}).unwrap();
    let summary = Summary::of(&recording);
    let broken: Vec<&str> =
        summary.judged.iter().filter(|judged| !judged.holds).map(|judged| &*judged.threshold.figure).collect();
    assert_eq!(summary.passed, figures.is_empty(), "{fault:?}: {broken:?} {:#?}", summary.figures);
    if let Some(first) = figures.first() {
        assert!(broken.contains(first), "{fault:?} breaks {first}, not {broken:?}: {:#?}", summary.figures);
    }
    assert!(
        broken.iter().all(|figure| figures.contains(figure)),
        "{fault:?} breaks no more than {figures:?}: {broken:?}"
    );
}

#[test]
fn a_sound_server_passes() {
    check(Fault::None, &[]);
}

#[test]
fn a_server_that_stalls_one_answer_in_a_thousand_fails() {
    check(Fault::Stalls, &["max"]);
}

#[test]
fn a_server_that_answers_late_under_attack_fails() {
    check(Fault::Late, &["p50", "p50_ratio"]);
}

#[test]
fn a_server_that_drops_sessions_fails() {
    check(Fault::Drops, &["sessions_lost", "links_lost", "missing"]);
}

#[test]
fn a_server_that_puts_clients_on_leave_although_they_beat_fails() {
    check(Fault::PutsOnLeave, &["false_leaves"]);
}

#[test]
fn a_server_that_never_ends_the_dead_fails() {
    check(Fault::KeepsTheDead, &["overdue"]);
}

#[test]
fn a_server_that_lets_nobody_in_while_it_is_attacked_fails() {
    check(Fault::ShutsTheDoor, &["newcomers_refused"]);
}

#[test]
fn a_server_that_keeps_memory_for_each_attacker_fails() {
    check(Fault::Leaks, &["rss_growth"]);
}

#[test]
fn a_target_that_nobody_serves_is_unreachable_and_no_verdict() {
    let mut plan = plan(&Target::start(Fault::None), "1s");
    // Nothing listens there: port 1 is for the superuser.
    plan.target.address = "127.0.0.1:1".to_owned();
    let error = run(&plan, &Options::default(), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("nobody answers at 127.0.0.1:1"), "{error}");
    assert!(!Path::new("samples.jsonl").exists());
}
