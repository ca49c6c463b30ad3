use super::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const MS: fn(u64) -> Duration = Duration::from_millis;

/// A v1 connection with an interval of 1 s that was fed at once.
fn visit(opened: u64, ended: Option<u64>, by: Option<By>) -> Visit {
    Visit {
        speaks: Some(Speaks::V1),
        interval: Some(MS(1000)),
        fed: Some(MS(opened)),
        heard: Some(MS(opened)),
        frames: 1,
        ended: ended.map(MS),
        by,
        ..Visit::new(0, MS(opened))
    }
}

fn client_left(opened: u64, ended: u64) -> Visit {
    visit(opened, Some(ended), Some(By::Client))
}

fn server_cut(opened: u64, ended: u64) -> Visit {
    visit(opened, Some(ended), Some(By::Server))
}

fn told(opened: u64, told: Told) -> Visit {
    Visit { told: Some((MS(opened), told)), ..server_cut(opened, opened + 1) }
}

fn found(judged: Judged, visits: &[Visit], process: Result<&Process, &str>, now: u64) -> Option<bool> {
    let evidence = Evidence { visits, behaviour: 0, process, now: MS(now) };
    let criteria = judge(&[judged], &evidence);
    criteria.first().and_then(|criterion| criterion.holds)
}

fn check(judged: Judged, visits: &[Visit], now: u64, holds: Option<bool>) {
    assert_eq!(found(judged, visits, Err("unknown"), now), holds, "{judged:?} at {now} ms of {visits:#?}");
}

/// Visits of no length with these waits between them, in milliseconds.
fn paused(waits: &[u64]) -> Vec<Visit> {
    let mut at = 0;
    let mut visits = vec![server_cut(0, 1)];
    for wait in waits {
        at += wait + 1;
        visits.push(server_cut(at, at + 1));
    }
    visits
}

#[test]
fn a_silent_link_is_left_in_time_or_not() {
    check(Judged::GivesUp, &[client_left(0, 2600)], 3000, Some(true));
    check(Judged::GivesUp, &[client_left(0, 3600)], 4000, Some(false));
    check(Judged::GivesUp, &[visit(0, None, None)], 3400, None);
    check(Judged::GivesUp, &[visit(0, None, None)], 3600, Some(false));
    check(Judged::GivesUp, &[client_left(0, 2500), visit(2500, None, None)], 4000, Some(true));
    check(Judged::GivesUp, &[client_left(0, 2500), server_cut(2500, 9500)], 9500, Some(false));
    // What was never welcomed has the welcome's ten seconds.
    let mute = |ended| Visit { interval: None, fed: None, ..client_left(0, ended) };
    check(Judged::GivesUp, &[mute(10_100)], 12_000, Some(true));
    check(Judged::GivesUp, &[mute(11_100)], 12_000, Some(false));
}

#[test]
fn coming_back_may_take_as_long_as_the_cap() {
    check(Judged::ComesBack, &[server_cut(0, 1), visit(900, None, None)], 1000, Some(true));
    check(Judged::ComesBack, &[server_cut(0, 1)], 30_000, None);
    check(Judged::ComesBack, &[server_cut(0, 1)], 36_000, Some(false));
    check(Judged::ComesBack, &[visit(0, None, None)], 36_000, None);
    check(Judged::ComesBack, &[told(0, Told::Never)], 36_000, None);
    let gone = Process { is_gone: true, ..Process::default() };
    assert_eq!(found(Judged::ComesBack, &[server_cut(0, 1)], Ok(&gone), 2), Some(false));
}

#[test]
fn who_lives_through_a_bomb_beats_on_or_comes_back() {
    let beats = Visit { frames: 5, heard: Some(MS(4900)), ..visit(0, None, None) };
    check(Judged::StillHere, std::slice::from_ref(&beats), 5000, Some(true));
    check(Judged::StillHere, &[Visit { heard: Some(MS(900)), ..beats }], 5000, None);
    check(Judged::StillHere, &[client_left(0, 10), visit(900, None, None)], 5000, Some(true));
    check(Judged::StillHere, &[client_left(0, 10)], 40_000, Some(false));
}

#[test]
fn a_burst_of_connections_is_seen_wherever_it_stands() {
    check(Judged::Pauses, &paused(&[100; 9]), 2000, Some(true));
    check(Judged::Pauses, &paused(&[100; 10]), 2000, Some(false));
    check(Judged::Pauses, &paused(&[[2000; 10], [10; 10]].concat()), 30_000, Some(false));
    check(Judged::Pauses, &[visit(0, None, None)], 2000, None);
}

#[test]
fn pauses_by_a_formula_or_of_one_length_are_told_from_drawn_ones() {
    let doubling = [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000];
    check(Judged::BacksOff, &paused(&doubling), 200_000, Some(true));
    check(Judged::Jitters, &paused(&doubling[..6]), 200_000, Some(false));
    check(Judged::BacksOff, &paused(&[3000; 10]), 40_000, Some(false));
    check(Judged::Jitters, &paused(&[3000; 10]), 40_000, Some(false));
    let drawn = [700, 300, 2900, 1200, 13_000, 4000, 21_000, 9000];
    check(Judged::BacksOff, &paused(&drawn), 60_000, Some(true));
    check(Judged::Jitters, &paused(&drawn), 60_000, Some(true));
    check(Judged::BacksOff, &paused(&drawn[..7]), 60_000, None);
    check(Judged::Jitters, &paused(&drawn[..4]), 60_000, None);
    // A link that lasted begins the row anew.
    let mut anew = paused(&drawn);
    anew[4] = Visit { opened: anew[4].opened - MS(1000), ..anew[4].clone() };
    check(Judged::BacksOff, &anew, 60_000, None);
}

#[test]
fn full_jitter_is_hardly_ever_taken_for_something_else() {
    const RUNS: u32 = 4_000;
    for count in [8, 12, 24] {
        let mut failures = [0; 3];
        for seed in 0..RUNS {
            let mut rng = StdRng::seed_from_u64(u64::from(seed));
            let drawn = (0..count).map(|nth| rng.random_range(0..30_000.min(1000 << nth.min(5))));
            let waits: Vec<u64> = std::iter::once(0).chain(drawn).collect();
            let visits = paused(&waits);
            for (judged, failed) in [Judged::Pauses, Judged::BacksOff, Judged::Jitters].into_iter().zip(&mut failures) {
                *failed += u32::from(found(judged, &visits, Err(""), 1_000_000) == Some(false));
            }
        }
        let [pauses, growth, jitter] = failures;
        assert!(pauses == 0 && growth <= 4 && jitter <= 1, "of {RUNS} with {count} waits: {failures:?}");
    }
}

#[test]
fn a_wait_that_was_asked_for_is_measured_from_the_word() {
    let wait = Told::After(MS(1500));
    check(Judged::WaitsAsTold, &[told(0, wait), visit(1500, None, None)], 2000, Some(true));
    check(Judged::WaitsAsTold, &[told(0, wait), visit(1499, None, None)], 2000, Some(false));
    check(Judged::WaitsAsTold, &[told(0, wait)], 2000, None);
    check(Judged::WaitsAsTold, &[told(0, Told::After(MS(0))), visit(1, None, None)], 2000, None);
}

#[test]
fn who_is_sent_away_for_good_stays_away() {
    check(Judged::StaysAway, &[told(0, Told::Never)], 4900, None);
    check(Judged::StaysAway, &[told(0, Told::Never)], 5000, Some(true));
    check(Judged::StaysAway, &[told(0, Told::Never), visit(20_000, None, None)], 20_001, Some(false));
    check(Judged::StaysAway, &[server_cut(0, 1)], 9000, None);
}

#[test]
fn beats_go_on_under_a_flood_or_stop() {
    let beats = |heard| [Visit { heard: Some(MS(heard)), ..visit(0, None, None) }];
    check(Judged::BeatsOn, &beats(4000), 5000, Some(true));
    check(Judged::BeatsOn, &beats(4000), 6501, Some(false));
    check(Judged::BeatsOn, &beats(1000), 2000, None);
    let legacy =
        Visit { speaks: Some(Speaks::Legacy), interval: None, first_gap: Some(MS(100)), ..visit(0, None, None) };
    check(Judged::BeatsOn, &[Visit { heard: Some(MS(900)), ..legacy.clone() }], 1000, Some(true));
    check(Judged::BeatsOn, &[legacy], 2000, Some(false));
}

#[test]
fn two_links_at_once_are_too_many() {
    check(Judged::OneLink, &[client_left(0, 2000), visit(1500, None, None)], 9000, Some(true));
    check(Judged::OneLink, &[client_left(0, 5000), visit(1500, None, None)], 9000, Some(false));
    check(Judged::OneLink, &[visit(0, None, None), visit(1500, None, None)], 2000, Some(true));
}

#[test]
fn memory_and_cpu_are_judged_when_the_process_is_known() {
    let process = |growth, cpu, watched| Process {
        rss: 5 << 20,
        rss_max: (5 << 20) + growth,
        busy: MS(cpu),
        watched: MS(watched),
        ..Process::default()
    };
    for (judged, process, holds) in [
        (Judged::Memory, process(RSS_GROWTH_MAX, 0, 3000), Some(true)),
        (Judged::Memory, process(RSS_GROWTH_MAX + 1, 0, 100), Some(false)),
        (Judged::Memory, process(0, 0, 100), None),
        (Judged::Calm, process(0, 1500, 3000), Some(true)),
        (Judged::Calm, process(0, 1600, 3000), Some(false)),
        (Judged::Calm, process(0, 1600, 100), None),
    ] {
        assert_eq!(found(judged, &[visit(0, None, None)], Ok(&process), 3000), holds, "{judged:?} of {process:?}");
    }
    check(Judged::Memory, &[visit(0, None, None)], 3000, None);
}

#[test]
fn what_a_client_can_not_do_is_not_asked_of_it() {
    let asked = |speaks| {
        let visits = [Visit { speaks: Some(speaks), ..visit(0, None, None) }];
        let evidence = Evidence { visits: &visits, behaviour: 0, process: Err(""), now: MS(1) };
        let all = [Judged::GivesUp, Judged::StaysAway, Judged::BeatsOn, Judged::Pauses];
        judge(&all, &evidence).into_iter().map(|criterion| criterion.name).collect::<Vec<_>>()
    };
    assert_eq!(asked(Speaks::V1), ["gives-up", "stays-away", "beats-on", "pauses"]);
    assert_eq!(asked(Speaks::Legacy), ["beats-on", "pauses"]);
    assert_eq!(asked(Speaks::Other), ["gives-up", "pauses"]);
}
