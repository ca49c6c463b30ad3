//! Our client stands a hostile server, and bad ones don't.

use std::sync::Arc;
use std::time::Duration;

use stillhere_storm::hostile::{Arrangement, BEHAVIOURS, Hostile, Options, Outcome, Row, Verdict};

use crate::toys::Toy;

/// Is bad, in one way, to one client that is told where.
fn meet(kind: &str, behaviour: &str, seconds: u64) -> Row {
    let options = Options {
        listen: "127.0.0.1:0".parse().unwrap(),
        behaviours: vec![behaviour.to_owned()],
        arrangement: Arrangement::Ports,
        lasts: Duration::from_secs(seconds),
        pid: None,
        frame: None,
    };
    let hostile = Hostile::bind(options).unwrap();
    let address = hostile.addresses().next().unwrap().1;
    let toy = Toy::start(kind, address);
    let Verdict { mut rows, .. } = hostile.run(|_| {}, &Arc::default());
    drop(toy);
    rows.pop().unwrap()
}

/// Many at once: most of the time they wait.
fn meet_all(pairs: &[(&str, &str, u64)]) -> Vec<Row> {
    std::thread::scope(|scope| {
        let meetings: Vec<_> =
            pairs.iter().map(|(kind, name, seconds)| scope.spawn(|| meet(kind, name, *seconds))).collect();
        meetings.into_iter().map(|meeting| meeting.join().unwrap()).collect()
    })
}

#[test]
fn our_client_stands_it_all() {
    let lasts = |name| match name {
        // Each needs its time: ten seconds without a welcome; two waits and an absence.
        "mute" | "refuse" => 12,
        _ => 8,
    };
    let pairs: Vec<_> = BEHAVIOURS.iter().map(|behaviour| ("ours", behaviour.name, lasts(behaviour.name))).collect();
    let rows = meet_all(&pairs);
    let verdict = Verdict { lasted_ms: 0, rows };
    println!("{verdict}");
    for row in &verdict.rows {
        assert_eq!(row.outcome(), Outcome::Passed, "{}\n{verdict}", row.behaviour);
    }
}

#[test]
fn a_legacy_client_of_ours_stands_what_reaches_it() {
    let pairs = ["flood", "cut", "slow", "stall", "garbage"].map(|name| ("ours-legacy", name, 4));
    for row in meet_all(&pairs) {
        let fails: Vec<_> = row.criteria.iter().filter(|criterion| criterion.holds == Some(false)).collect();
        assert!(fails.is_empty() && row.seen.frames > 0, "{}: {fails:?}, {:?}", row.behaviour, row.seen);
    }
}

#[test]
fn bad_clients_fail_for_what_they_do() {
    let bad = [
        ("hasty", "cut", 3, "pauses"),
        ("hasty", "refuse", 3, "stays-away"),
        ("hasty", "refuse", 3, "waits-as-told"),
        ("patient", "stall", 5, "gives-up"),
        ("patient", "half-answer", 5, "gives-up"),
        ("patient", "dribble", 5, "gives-up"),
        ("hoarder", "flood", 5, "memory"),
        ("greedy", "lengths", 5, "memory"),
        ("spinner", "mute", 5, "calm"),
        ("busy", "flood", 5, "beats-on"),
        ("two-handed", "stall", 4, "one-link"),
        ("fragile", "bombs", 4, "still-here"),
    ];
    let rows = meet_all(&bad.map(|(kind, behaviour, seconds, _)| (kind, behaviour, seconds)));
    for ((kind, behaviour, _, criterion), row) in bad.iter().zip(rows) {
        let found = row.criteria.iter().find(|found| found.name == *criterion).unwrap();
        assert_eq!(found.holds, Some(false), "{kind} and {behaviour}: {row:?}");
        assert_eq!(row.outcome(), Outcome::Failed);
    }
}

#[test]
fn a_process_that_is_named_is_watched_and_one_client_meets_all_in_turn() {
    let options = Options {
        listen: "127.0.0.1:0".parse().unwrap(),
        behaviours: ["cut", "half-answer"].map(str::to_owned).to_vec(),
        arrangement: Arrangement::Rotation,
        lasts: Duration::from_secs(6),
        pid: None,
        frame: None,
    };
    let hostile = Hostile::bind(options).unwrap();
    let address = hostile.addresses().next().unwrap().1;
    let toy = Toy::start("ours", address);
    let mut calls = 0;
    let verdict = hostile.run(|_| calls += 1, &Arc::default());
    let pids: Vec<_> = verdict.rows.iter().map(|row| row.seen.pid).collect();
    assert_eq!(pids, [Some(toy.pid()); 2]);
    assert!(verdict.passed() && calls >= 4, "{calls}: {verdict}");
}
