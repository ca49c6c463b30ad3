//! Our client stands a hostile server, and bad ones don't.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stillhere_storm::hostile::{Arrangement, BEHAVIOURS, Hostile, Options, Outcome, Row, Verdict};

use crate::toys::Toy;

/// Nothing takes longer, even on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// Is bad, in one way, to one client that is told where, until enough was seen of it.
fn meet(kind: &str, behaviour: &str, is_enough: impl Fn(&Row, Duration) -> bool) -> Row {
    let options = Options {
        listen: "127.0.0.1:0".parse().unwrap(),
        behaviours: vec![behaviour.to_owned()],
        arrangement: Arrangement::Ports,
        lasts: PATIENCE,
        pid: None,
        frame: None,
    };
    let hostile = Hostile::bind(options).unwrap();
    let address = hostile.addresses().next().unwrap().1;
    let toy = Toy::start(kind, address);
    let stop = AtomicBool::new(false);
    let look = |verdict: &Verdict| {
        let seen = verdict.rows.iter().all(|row| is_enough(row, Duration::from_millis(verdict.lasted_ms)));
        stop.store(seen, Ordering::Relaxed);
    };
    let Verdict { mut rows, .. } = hostile.run(look, &stop);
    drop(toy);
    rows.pop().unwrap()
}

#[test]
fn our_client_stands_it_all() {
    let least = |name| match name {
        // Each needs its time: ten seconds without a welcome; two waits and an absence.
        "mute" | "refuse" => Duration::from_secs(12),
        _ => Duration::from_secs(8),
    };
    let rows = std::thread::scope(|scope| {
        let meet = |name| {
            move || meet("ours", name, |row, lasted| lasted >= least(name) && row.outcome() != Outcome::Undecided)
        };
        let meetings: Vec<_> = BEHAVIOURS.iter().map(|behaviour| scope.spawn(meet(behaviour.name))).collect();
        meetings.into_iter().map(|meeting| meeting.join().unwrap()).collect()
    });
    let verdict = Verdict { lasted_ms: 0, rows };
    println!("{verdict}");
    for row in &verdict.rows {
        assert_eq!(row.outcome(), Outcome::Passed, "{}\n{verdict}", row.behaviour);
    }
}

#[test]
fn a_legacy_client_of_ours_stands_what_reaches_it() {
    std::thread::scope(|scope| {
        for name in ["flood", "cut", "slow", "stall", "garbage"] {
            scope.spawn(move || {
                let row = meet("ours-legacy", name, |row, lasted| lasted.as_secs() >= 4 && row.seen.frames > 0);
                let fails: Vec<_> = row.criteria.iter().filter(|criterion| criterion.holds == Some(false)).collect();
                assert!(fails.is_empty() && row.seen.frames > 0, "{}: {fails:?}, {:?}", row.behaviour, row.seen);
            });
        }
    });
}

#[test]
fn bad_clients_fail_for_what_they_do() {
    let bad = [
        ("hasty", "cut", "pauses"),
        ("hasty", "refuse", "stays-away"),
        ("hasty", "refuse", "waits-as-told"),
        ("patient", "stall", "gives-up"),
        ("patient", "half-answer", "gives-up"),
        ("patient", "dribble", "gives-up"),
        ("hoarder", "flood", "memory"),
        ("greedy", "lengths", "memory"),
        ("spinner", "mute", "calm"),
        ("busy", "flood", "beats-on"),
        ("two-handed", "stall", "one-link"),
        ("fragile", "bombs", "still-here"),
    ];
    let holds = |row: &Row, name: &str| row.criteria.iter().find(|found| found.name == name).unwrap().holds;
    std::thread::scope(|scope| {
        for (kind, behaviour, criterion) in bad {
            scope.spawn(move || {
                let row = meet(kind, behaviour, |row, _| holds(row, criterion) == Some(false));
                assert_eq!(holds(&row, criterion), Some(false), "{kind} and {behaviour}: {row:?}");
                assert_eq!(row.outcome(), Outcome::Failed);
            });
        }
    });
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
