//! The stream of events, `/api/v1/events`.

use serde_json::{Value, json};

use crate::admin::Events;
use crate::gateway::Gateway;
use crate::peer::{AT_ONCE, Peer, TUTORIAL};

#[test]
fn the_life_of_a_legacy_session_is_told() {
    let gateway = Gateway::start(&[]);
    let mut events = gateway.events();
    let mut peer = Peer::connect(&gateway);
    let address = json!(peer.address.to_string());
    peer.send_frame(TUTORIAL);
    let opened = events.wait("opened", |_| true);
    assert_eq!((&opened["id"], &opened["peer"], &opened["user"]), (&address, &address, &Value::Null), "{opened}");
    assert!(opened["at"].is_string(), "{opened}");

    peer.say(&json!({"ip": "127.0.0.1", "status": "leave"}));
    let changed = events.wait("changed", |_| true);
    assert_eq!((&changed["id"], &changed["cause"]), (&address, &json!("declared")), "{changed}");
    assert_eq!((&changed["from"], &changed["to"]), (&json!("alive"), &json!("leave")), "{changed}");

    peer.reset();
    let changed = events.wait("changed", |_| true);
    assert_eq!((&changed["from"], &changed["to"]), (&json!("leave"), &json!("close")), "{changed}");
    let closed = events.wait("closed", |_| true);
    assert_eq!((&closed["id"], &closed["peer"], &closed["mode"]), (&address, &address, &json!("legacy")), "{closed}");
    assert_eq!((&closed["code"], &closed["cause"]), (&Value::Null, &json!("dropped")), "{closed}");
}

#[test]
fn the_life_of_a_v1_session_is_told() {
    let gateway = Gateway::start(&[("detector.drop_grace", "0s")]);
    let mut events = gateway.events();
    let (peer, welcome) = Peer::v1(&gateway, json!({"user": "ann"}));
    let opened = events.wait("opened", |_| true);
    assert_eq!((&opened["id"], &opened["user"]), (&welcome["session"], &json!("ann")), "{opened}");

    peer.reset();
    let changed = events.wait("changed", |_| true);
    assert_eq!((&changed["to"], &changed["cause"]), (&json!("leave"), &json!("dropped")), "{changed}");
    let (mut back, _) = Peer::resume(&gateway, &welcome);
    let changed = events.wait("changed", |_| true);
    assert_eq!((&changed["to"], &changed["cause"]), (&json!("alive"), &json!("resumed")), "{changed}");
    assert_eq!((&changed["id"], &changed["user"]), (&welcome["session"], &json!("ann")), "{changed}");

    back.ask(json!({"op": "bye"}));
    back.expect_closed_within(AT_ONCE);
    let changed = events.wait("changed", |_| true);
    assert_eq!((&changed["to"], &changed["cause"]), (&json!("close"), &json!("goodbye")), "{changed}");
    let closed = events.wait("closed", |row| row["peer"] == back.address.to_string());
    assert_eq!((&closed["id"], &closed["cause"]), (&welcome["session"], &json!("goodbye")), "{closed}");
}

#[test]
fn everybody_who_watches_sees_the_same_and_nobody_who_left_costs_anything() {
    let gateway = Gateway::start(&[]);
    let mut watchers: Vec<_> = (0..5).map(|_| gateway.events()).collect();
    let mut peer = Peer::connect(&gateway);
    peer.send_frame("{");
    peer.expect_closed_within(AT_ONCE);
    for events in &mut watchers {
        let closed = events.wait("closed", |_| true);
        assert_eq!((&closed["peer"], &closed["code"]), (&json!(peer.address.to_string()), &json!(4002)), "{closed}");
    }
    drop(watchers);
    gateway.wait_until_calm(0);
}

#[test]
fn only_so_many_may_watch_and_a_place_is_free_when_one_leaves() {
    let gateway = Gateway::start(&[]);
    // The test's own makes 64.
    let mut watchers: Vec<_> = (0..63).map(|_| gateway.events()).collect();
    let message = gateway.get("/api/v1/events").error(503, "busy");
    assert!(message.contains("too many"), "{message}");
    watchers.pop();
    let mut late = gateway.wait("a free place", || Events::try_watch(gateway.admin, &gateway.token));
    let mut peer = Peer::connect(&gateway);
    peer.send_frame("{");
    peer.expect_closed_within(AT_ONCE);
    late.wait("closed", |_| true);
}

#[test]
fn what_a_peer_says_of_itself_is_no_line_of_its_own() {
    let gateway = Gateway::start(&[]);
    let mut events = gateway.events();
    let user = "x\ndata: {}\n\nevent: alarm\u{1b}[31m\u{202e}";
    let (mut peer, _) = Peer::v1(&gateway, json!({"user": user}));
    assert_eq!(events.wait("opened", |_| true)["user"], user);
    peer.ask(json!({"op": "status", "status": "leave"}));
    assert_eq!(events.wait("changed", |_| true)["user"], user);
    gateway.wait_until("a line in the log", || gateway.log().contains("status changed"));
    for line in gateway.log().lines() {
        let line: Value = serde_json::from_str(line).expect("every line is JSON of its own");
        assert!(line["message"].is_string(), "{line}");
    }
    assert!(!gateway.log().contains(['\u{1b}', '\u{202e}']), "{}", gateway.log());
}
