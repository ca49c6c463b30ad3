//! Who is still here, in real time.

use std::time::Duration;

use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::peer::{AT_ONCE, Peer, TUTORIAL};

/// On leave at the first miss: 1.5 s after the last frame.
const ONE_MISS: &[(&str, &str)] =
    &[("detector.interval", "1s"), ("detector.start", "0"), ("detector.threshold", "1"), ("detector.strikes", "1")];
/// What the API's rounding to milliseconds may hide, twice.
const ROUNDING_MS: i64 = 5;

fn millis_between(row: &Value, earlier: &str, later: &str) -> i64 {
    let at = |name: &str| row[name].as_str().and_then(|at| at.parse::<Timestamp>().ok()).expect("a moment");
    at(later).as_millisecond() - at(earlier).as_millisecond()
}

fn expect_left_in_time(row: &Value, bound_ms: i64) {
    assert_eq!((&row["cause"], &row["detect_ms"]), (&json!("silent"), &json!(bound_ms)), "{row}");
    let after = millis_between(row, "last_beat", "since");
    assert!((after - bound_ms).abs() <= ROUNDING_MS, "on leave after {after} ms, promised {bound_ms}: {row}");
}

#[test]
fn a_silent_peer_is_on_leave_exactly_when_promised_and_closed_after_its_hold() {
    let gateway = Gateway::start(&[ONE_MISS, &[("detector.leave_hold", "1s")]].concat());
    let mut events = gateway.events();
    let mut peer = Peer::legacy(&gateway);
    let row = gateway.session(peer.address).expect("listed");
    assert_eq!((&row["status"], &row["detect_ms"]), (&json!("alive"), &json!(1500)), "{row}");
    assert!(row["leave_in_ms"].as_u64() <= Some(1500), "{row}");

    let row = gateway.wait_for_session(peer.address, |session| session["status"] == "leave");
    expect_left_in_time(&row, 1500);
    assert_eq!(row["leave_in_ms"], Value::Null);
    assert_eq!(gateway.metric("detection_seconds_count", ""), 1);
    let changed = events.wait("changed", |change| change["to"] == "leave");
    assert_eq!(changed["cause"], "silent", "{changed}");
    // Each look at the clocks rounds for itself.
    let apart = millis_between(&json!({"told": changed["at"], "shown": row["since"]}), "told", "shown");
    assert!(apart.abs() <= ROUNDING_MS, "told {changed}, shown {row}");

    peer.expect_closed_within(Duration::from_secs(1) + AT_ONCE);
    let closed = events.wait("changed", |change| change["to"] == "close");
    assert_eq!(closed["cause"], "expired", "{closed}");
    let held = millis_between(&json!({"left": changed["at"], "closed": closed["at"]}), "left", "closed");
    assert!((held - 1000).abs() <= ROUNDING_MS, "closed after {held} ms on leave");
    let row = gateway.closed_row(peer.address);
    assert_eq!((&row["code"], &row["cause"], &row["beats"]), (&json!(4004), &json!("expired"), &json!(1)), "{row}");
    drop(events);
    gateway.wait_until_calm(0);
}

#[test]
fn strikes_are_counted_one_by_one_and_the_bound_shrinks_with_them() {
    let rule =
        [("detector.interval", "1s"), ("detector.start", "1"), ("detector.threshold", "2"), ("detector.strikes", "2")];
    let gateway = Gateway::start(&rule);
    let (mut v1, welcome) = Peer::v1(&gateway, json!({}));
    assert_eq!(welcome["beat"]["detect_ms"], 2500);
    let legacy = Peer::legacy(&gateway);
    for address in [legacy.address, v1.address] {
        let row = gateway.wait_for_session(address, |session| session["strikes"] == 1);
        assert_eq!((&row["status"], &row["cursor"]), (&json!("alive"), &json!(1)), "{row}");
        // Exact to the end: what is left is counted from the last frame, whatever was missed since.
        assert_eq!(row["detect_ms"], 2500, "{row}");
        assert!(row["leave_in_ms"].as_u64() <= Some(1000), "{row}");
    }
    for address in [legacy.address, v1.address] {
        let row = gateway.wait_for_session(address, |session| session["status"] == "leave");
        expect_left_in_time(&row, 2500);
        assert_eq!(row["strikes"], 2, "{row}");
    }
    assert_eq!(gateway.metric("transitions_total", "cause=\"silent\""), 2);
    // Heard again on the same link: one beat is enough for a cursor at 1.
    v1.beat(1);
    let row = gateway.session(v1.address).expect("listed");
    assert_eq!(
        (&row["status"], &row["cause"], &row["strikes"]),
        (&json!("alive"), &json!("stable"), &json!(0)),
        "{row}"
    );
    assert_eq!(gateway.metric("false_leaves_total", ""), 1);
}

#[test]
fn a_silent_v1_link_is_cut_at_twice_its_bound_and_its_session_stays() {
    let gateway = Gateway::start(ONE_MISS);
    let (mut peer, welcome) = Peer::v1(&gateway, json!({"user": "ann"}));
    assert_eq!(peer.read_frame()["code"], 4004);
    peer.expect_closed_between(Duration::from_secs(3), AT_ONCE);
    let closed = gateway.closed_row(peer.address);
    assert_eq!((&closed["code"], &closed["cause"]), (&json!(4004), &json!("silent")), "{closed}");
    let row = gateway.session(peer.address).expect("listed");
    assert_eq!(
        (&row["linked"], &row["status"], &row["cause"]),
        (&json!(false), &json!("leave"), &json!("silent")),
        "{row}"
    );
    expect_left_in_time(&row, 1500);

    let (mut back, again) = Peer::resume(&gateway, &welcome);
    assert_eq!((&again["resumed"], &again["session"]), (&json!(true), &welcome["session"]), "{again}");
    let row = gateway.session(back.address).expect("listed");
    assert_eq!(
        (&row["status"], &row["cause"]),
        (&json!("leave"), &json!("silent")),
        "a resume restores what it was: {row}"
    );
    back.beat(1);
    let row = gateway.session(back.address).expect("listed");
    assert_eq!((&row["status"], &row["cause"]), (&json!("alive"), &json!("stable")), "{row}");
}

#[test]
fn a_server_that_stood_still_puts_nobody_on_leave() {
    let gateway = Gateway::start(ONE_MISS);
    let mut legacy: Vec<_> = (0..10).map(|_| Peer::connect(&gateway)).collect();
    let mut v1: Vec<_> = (0..10).map(|_| Peer::v1(&gateway, json!({})).0).collect();
    let mut beats = 0;
    let mut beat = |legacy: &mut [Peer], v1: &mut [Peer]| {
        beats += 1;
        legacy.iter_mut().for_each(|peer| peer.send_frame(TUTORIAL));
        v1.iter_mut().for_each(|peer| drop(peer.beat(beats)));
        gateway.wait_for_metric("beats_total", "", beats * 20);
    };
    beat(&mut legacy, &mut v1);
    gateway.signal(Signal::STOP);
    // Twice the bound of everybody, and nobody can be heard.
    legacy[0].expect_silence(Duration::from_secs(3));
    gateway.signal(Signal::CONT);
    beat(&mut legacy, &mut v1);
    assert!(gateway.metric("stalls_total", "") >= 1);
    assert!(gateway.metric("stalled_seconds_total", "") >= 2);
    assert_eq!(gateway.metric("transitions_total", ""), 0);
    assert_eq!(gateway.metric("sessions", "alive"), 20);
    assert_eq!(gateway.metric("closes_total", ""), 0);
    for peer in &mut legacy {
        peer.expect_nothing_heard();
    }
}
