//! What survives the end of the process.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::gateway::{Gateway, Setup};
use crate::peer::Peer;

const ENDED: Duration = Duration::from_secs(10);

fn commits(gateway: &Gateway) -> u64 {
    gateway.metric("store_commit_seconds_count", "")
}

/// Waits until everything that has happened is in the database.
pub(crate) fn wait_for_commit(gateway: &Gateway) {
    // A commit that is counted from now on may have begun before; the one after it has everything.
    let before = commits(gateway);
    let (mut mark, _) = Peer::v1(gateway, json!({"client": "mark"}));
    gateway.wait_until("a commit", || commits(gateway) > before);
    mark.ask(json!({"op": "bye"}));
    let before = commits(gateway);
    gateway.wait_until("another", || commits(gateway) > before);
}

fn expect_gap(before: &Value, after: &Value) {
    assert_eq!((&after["resumed"], &after["reason"]), (&json!(false), &json!("gap")), "{after}");
    assert_eq!(after["session"], before["session"]);
    assert_eq!((&after["user"], &after["beat"]["interval_ms"]), (&json!("ann"), &json!(3000)), "{after}");
    assert_eq!(after["gen"].as_u64(), before["gen"].as_u64().map(|gen_before| gen_before + 1));
}

#[test]
fn identities_survive_kill_9() {
    let gateway = Gateway::start(&[]);
    let (_peer, welcome) = Peer::v1(&gateway, json!({"user": "ann", "interval_ms": 3000}));
    let (mut gone, forgotten) = Peer::v1(&gateway, json!({"user": "bob"}));
    gone.ask(json!({"op": "bye"}));
    wait_for_commit(&gateway);

    let gateway = Setup::new().set("server.shards", "3").scratch(&gateway.kill()).start();
    assert_eq!(gateway.metric("identities_remembered", ""), 1);
    let (mut back, again) = Peer::resume(&gateway, &welcome);
    expect_gap(&welcome, &again);
    back.beat(1);
    let row = gateway.session(back.address).expect("listed");
    assert_eq!((&row["status"], &row["cursor"]), (&json!("alive"), &json!(3)), "{row}");
    assert_eq!(Peer::resume(&gateway, &forgotten).1["reason"], "unknown", "who said bye is forgotten");
    // The secret before the crash is an old one by now.
    let (_thief, refused) = Peer::resume(&gateway, &welcome);
    assert_eq!(refused["reason"], "refused");
    back.beat(2);
}

#[test]
fn a_welcome_that_was_lost_in_a_crash_locks_nobody_out() {
    let gateway = Gateway::start(&[]);
    let (peer, first) = Peer::v1(&gateway, json!({"user": "ann", "interval_ms": 3000}));
    peer.reset();
    let (_lost, second) = Peer::resume(&gateway, &first);
    assert_eq!(second["resumed"], true);
    wait_for_commit(&gateway);
    let gateway = Setup::new().scratch(&gateway.kill()).start();
    let (peer, third) = Peer::resume(&gateway, &first);
    expect_gap(&second, &third);
    peer.reset();
    assert_eq!(Peer::resume(&gateway, &third).1["resumed"], true);
}

#[test]
fn a_clean_end_writes_everything_before_it_ends() {
    let mut gateway = Gateway::start(&[]);
    let (mut peer, welcome) = Peer::v1(&gateway, json!({"user": "ann", "interval_ms": 3000}));
    gateway.signal(Signal::TERM);
    assert_eq!(peer.read_bye()["code"], 4001);
    drop(peer);
    assert!(gateway.ended_within(ENDED).success());
    let gateway = Setup::new().scratch(&gateway.scratch).start();
    expect_gap(&welcome, &Peer::resume(&gateway, &welcome).1);
}

#[test]
fn who_was_closed_before_the_crash_returns_on_leave_after_it() {
    let gateway = Gateway::start(&[("detector.drop_grace", "0s"), ("detector.dropped_hold", "1s")]);
    let (peer, welcome) = Peer::v1(&gateway, json!({"user": "ann"}));
    peer.reset();
    gateway.wait_for_metric("closes_total", "\"4008\"", 1);
    wait_for_commit(&gateway);
    let gateway = Setup::new().scratch(&gateway.kill()).start();
    let (back, again) = Peer::resume(&gateway, &welcome);
    assert_eq!((&again["resumed"], &again["reason"]), (&json!(false), &json!("expired")), "{again}");
    assert_eq!(again["session"], welcome["session"]);
    let row = gateway.session(back.address).expect("listed");
    assert_eq!((&row["status"], &row["cause"]), (&json!("leave"), &json!("returned")), "{row}");
}

#[test]
fn many_sessions_find_their_way_back_over_all_shards() {
    let gateway = Gateway::start(&[]);
    let welcomes: Vec<_> = (0..30).map(|_| Peer::v1(&gateway, json!({"user": "ann", "interval_ms": 3000})).1).collect();
    wait_for_commit(&gateway);
    let gateway = Setup::new().set("server.shards", "4").scratch(&gateway.kill()).start();
    assert_eq!(gateway.metric("identities_remembered", ""), 30);
    let peers: Vec<_> = welcomes
        .iter()
        .map(|welcome| {
            let (peer, again) = Peer::resume(&gateway, welcome);
            expect_gap(welcome, &again);
            peer
        })
        .collect();
    assert_eq!(gateway.sessions().len(), peers.len());
    assert_eq!(gateway.metric("identities_remembered", ""), 0);
}
