//! Scenarios of many clients, each under several seeds. A failure names its seed.

use std::collections::HashSet;
use std::time::Duration;

use stillhere_core::close::Cause;
use stillhere_core::detector::Status;
use stillhere_core::event::Terms;
use stillhere_core::peer::{PeerConfig, PeerEvent};
use stillhere_core::profile::Profile;
use stillhere_core::shard::LOOK_LATE_MAX;
use stillhere_sim::{Weather, World};

const SECOND: Duration = Duration::from_secs(1);
const SEEDS: std::ops::Range<u64> = 0..4;

fn terms(profile: &str) -> Terms {
    let profile = Profile::named(profile).unwrap();
    Terms { insecure: true, ..Terms::of(profile) }
}

fn users(clients: usize, shards: usize, seed: u64, profile: &str) -> World {
    let config = PeerConfig { user: Some("ann".to_owned()), ..PeerConfig::default() };
    World::new(seed, &terms(profile), shards, clients, config)
}

/// Each client has exactly the session it thinks it has, alive and on a link, and there are no others.
fn check_all_here(world: &World, clients: usize, seed: u64) {
    let sessions = world.sessions();
    let here: HashSet<String> = sessions.iter().map(|view| view.identity.to_string()).collect();
    let believed: HashSet<String> = (0..clients).filter_map(|client| world.session_of(client)).collect();
    assert_eq!((here.len(), believed.len()), (clients, clients), "seed {seed}: no ghosts, nobody missing");
    assert_eq!(here, believed, "seed {seed}");
    let all_alive = sessions.iter().all(|view| view.linked && view.status == Status::Alive);
    assert!(all_alive, "seed {seed}: {sessions:?}");
}

#[test]
fn five_percent_loss_and_200_ms_of_delay_put_nobody_on_leave() {
    for seed in SEEDS {
        for profile in ["seed", "deadline", "game"] {
            let mut world = users(50, 2, seed, profile);
            world.weather(Weather { delay_min: SECOND / 10, delay_max: SECOND / 5, loss: 0.05 });
            world.run(SECOND * 600);
            assert_eq!(world.changes(), [], "seed {seed}, {profile}");
            check_all_here(&world, 50, seed);
        }
    }
}

#[test]
fn a_black_hole_is_noticed_exactly_at_its_printed_bound_and_the_client_is_back_before_anyone_else_knows() {
    for seed in SEEDS {
        let mut world = users(20, 2, seed, "seed");
        world.run(SECOND * 300);
        world.changes();
        world.client_events();
        world.black_hole(7);
        // The client hears nothing for 2.5 intervals, drops the link and resumes; the old one still hangs.
        world.run(SECOND * 60);
        let events = world.client_events();
        let resumed = events.iter().any(|(client, event)| *client == 7 && matches!(event, PeerEvent::Welcomed(_)));
        assert!(resumed, "seed {seed}: {events:?}");
        assert_eq!(world.changes(), [], "seed {seed}");
        check_all_here(&world, 20, seed);
    }
}

#[test]
fn silent_legacy_clients_leave_at_their_bound_each() {
    for seed in SEEDS {
        let config = PeerConfig { mode: stillhere_core::peer::Mode::Legacy, ..PeerConfig::default() };
        let mut world = World::new(seed, &terms("seed"), 2, 30, config);
        world.run(SECOND * 200);
        for client in 0..30 {
            world.black_hole(client);
        }
        let due: Vec<_> = world.sessions().iter().map(|view| (view.identity, view.leave_due.unwrap())).collect();
        world.run(SECOND * 120);
        let changes = world.changes();
        for (identity, due) in due {
            let left = changes.iter().find(|departure| departure.identity == identity).unwrap();
            assert_eq!((left.change.to, left.change.cause), (Status::Leave, Cause::Silent), "seed {seed}");
            assert_eq!(left.change.at, due, "seed {seed}: not a moment before or after");
        }
        assert!(LOOK_LATE_MAX < SECOND);
    }
}

#[test]
fn a_server_that_stands_still_loses_nobody() {
    for seed in SEEDS {
        for stop in [2, 5, 10, 60, 300] {
            let mut world = users(40, 2, seed, "seed");
            world.run(SECOND * 100);
            world.client_events();
            world.stall(SECOND * stop);
            world.run(SECOND * stop + SECOND * 400);
            let left = world
                .changes()
                .into_iter()
                .filter(|d| d.change.cause == Cause::Silent || d.change.cause == Cause::Lossy);
            assert_eq!(left.count(), 0, "seed {seed}, {stop} s");
            check_all_here(&world, 40, seed);
        }
    }
}

#[test]
fn resets_at_any_moment_end_in_the_same_session_on_whatever_shard() {
    for seed in SEEDS {
        let mut world = users(25, 3, seed, "seed");
        world.weather(Weather { delay_min: SECOND / 100, delay_max: SECOND / 3, loss: 0.02 });
        world.run(SECOND * 30);
        let first: Vec<_> = (0..25).map(|client| world.session_of(client)).collect();
        for round in 0..40u64 {
            world.reset(((seed * 31 + round * 7) % 25) as usize);
            world.run(Duration::from_millis(137 * (round % 11)));
        }
        world.run(SECOND * 120);
        let last: Vec<_> = (0..25).map(|client| world.session_of(client)).collect();
        assert_eq!(first, last, "seed {seed}: nobody lost its session");
        check_all_here(&world, 25, seed);
    }
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let story = |seed: u64| {
        let mut world = users(10, 2, seed, "game");
        world.weather(Weather { delay_min: SECOND / 50, delay_max: SECOND, loss: 0.2 });
        for client in 0..10 {
            world.run(SECOND * 20);
            world.black_hole(client);
        }
        world.run(SECOND * 300);
        let events: Vec<String> = world.client_events().iter().map(|event| format!("{event:?}")).collect();
        (world.changes(), events, world.stats().bytes_in)
    };
    assert_eq!(story(5), story(5));
    assert_ne!(story(5).1, story(6).1);
}
