//! The tutorial's clients, which know nothing of this gateway.

use std::time::Duration;

use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::peer::{AT_ONCE, Peer, TUTORIAL, frame, proof};

/// Half of the shortest interval: a beat after less than this moves no cursor.
const HALF_INTERVAL: Duration = Duration::from_millis(500);

#[test]
fn the_tutorials_68_bytes_are_a_session_under_the_links_address_and_port() {
    let gateway = Gateway::start(&[]);
    let mut peer = Peer::connect(&gateway);
    let bytes = frame(TUTORIAL);
    assert_eq!((bytes.len(), &bytes[..4]), (68, &[0, 0, 0, 0x40][..]));
    peer.send(&bytes);
    let row = gateway.wait_for_session(peer.address, |_| true);
    let address = json!(peer.address.to_string());
    assert_eq!((&row["id"], &row["peer"], &row["mode"]), (&address, &address, &json!("legacy")));
    assert_eq!((&row["ip"], &row["pid"], &row["beats"]), (&json!("127.0.0.1"), &json!(21243), &json!(1)));
    assert_eq!((&row["status"], &row["cause"], &row["cursor"]), (&json!("alive"), &Value::Null, &json!(3)));
    assert_eq!((&row["detect_ms"], &row["interval_ms"], &row["strikes"]), (&json!(65_000), &json!(10_000), &json!(0)));
    assert_eq!((&row["bytes_in"], &row["bytes_out"], &row["transport"]), (&json!(68), &json!(0), &json!("tcp")));
    let leave_in_ms = row["leave_in_ms"].as_u64().expect("a number");
    assert!((45_000..=65_000).contains(&leave_in_ms), "{row}");
    peer.expect_nothing_heard();
}

#[test]
fn every_form_of_the_tutorials_beat_is_counted() {
    let gateway = Gateway::start(&[]);
    let mut peer = Peer::connect(&gateway);
    let object = r#"{"ip": "127.0.0.1", "status": "alive", "pid": 21243}"#;
    let python = "{'ip': '127.0.0.1', 'status': 'alive', 'pid': 21243}";
    for (beats, body) in (1..).zip([TUTORIAL, object, python, &json!(python).to_string(), ""]) {
        peer.send_frame(body);
        let row = gateway.wait_for_session(peer.address, |session| session["beats"] == beats);
        assert_eq!((&row["pid"], &row["status"]), (&json!(21243), &json!("alive")), "{body}: {row}");
    }
    peer.expect_nothing_heard();
}

#[test]
fn what_a_client_says_of_itself_is_a_label_and_never_an_identity() {
    let gateway = Gateway::start(&[]);
    let mut peer = Peer::connect(&gateway);
    let long = "x".repeat(1_000);
    peer.say(&json!({"ip": "10.9.8.7", "status": "alive", "pid": "worker-7", "more": [1, {"x": 2}]}));
    let row = gateway.wait_for_session(peer.address, |session| session["beats"] == 1);
    assert_eq!((&row["ip"], &row["pid"]), (&json!("10.9.8.7"), &json!("worker-7")), "{row}");
    assert_eq!(row["id"], peer.address.to_string());
    peer.say(&json!({"ip": long, "status": "alive", "pid": long}));
    let row = gateway.wait_for_session(peer.address, |session| session["beats"] == 2);
    assert_eq!((&row["ip"], &row["pid"]), (&json!(&long[..64]), &json!(&long[..64])), "{row}");
    peer.say(&json!({"ip": "127.0.0.1", "status": "alive"}));
    let row = gateway.wait_for_session(peer.address, |session| session["beats"] == 3);
    assert_eq!((&row["ip"], &row["pid"]), (&json!("127.0.0.1"), &Value::Null), "{row}");
}

#[test]
fn several_frames_in_one_segment_are_each_counted() {
    let gateway = Gateway::start(&[]);
    let mut peer = Peer::connect(&gateway);
    peer.send(&frame(TUTORIAL).repeat(7));
    gateway.wait_for_session(peer.address, |session| session["beats"] == 7);
    assert_eq!(gateway.metric("beats_total", "legacy"), 7);
    peer.expect_nothing_heard();
}

#[test]
fn one_frame_byte_by_byte_is_counted_once() {
    let gateway = Gateway::start(&[]);
    let mut peer = Peer::connect(&gateway);
    for byte in frame(TUTORIAL) {
        peer.send(&[byte]);
        peer.expect_nothing_heard();
    }
    let row = gateway.wait_for_session(peer.address, |_| true);
    assert_eq!((&row["beats"], &row["bytes_in"]), (&json!(1), &json!(68)), "{row}");
    assert_eq!(gateway.metric("partial_bytes", ""), 0);
}

#[test]
fn frames_that_are_cut_anywhere_are_each_counted() {
    let gateway = Gateway::start(&[]);
    let mut peer = Peer::connect(&gateway);
    let stream = frame(TUTORIAL).repeat(3);
    for cuts in [[1, 70], [3, 139], [4, 67], [67, 69], [68, 136]] {
        let (rest, last) = stream.split_at(cuts[1]);
        let (first, second) = rest.split_at(cuts[0]);
        for piece in [first, second, last] {
            peer.send(piece);
            peer.expect_silence(Duration::from_millis(5));
        }
    }
    gateway.wait_for_session(peer.address, |session| session["beats"] == 15);
}

#[test]
fn three_times_100_bytes_sent_quickly_are_three_beats() {
    let gateway = Gateway::start(&[]);
    let mut peer = Peer::connect(&gateway);
    let body = format!("{:100}", r#"{"ip": "127.0.0.1", "status": "alive", "pid": 21243}"#);
    for _ in 0..3 {
        peer.send_frame(&body);
    }
    let row = gateway.wait_for_session(peer.address, |session| session["beats"] == 3);
    assert_eq!((&row["bytes_in"], &row["status"]), (&json!(312), &json!("alive")), "{row}");
    assert_eq!(gateway.metric("partial_bytes", ""), 0);
    peer.expect_nothing_heard();
}

#[test]
fn a_declared_leave_lasts_until_a_beat_says_otherwise() {
    let gateway = Gateway::start(&[]);
    let mut peer = Peer::legacy(&gateway);
    for (beats, status, expected) in [(2, "leave", "leave"), (3, "leave", "leave"), (4, "alive", "alive")] {
        peer.say(&json!({"ip": "127.0.0.1", "status": status}));
        let row = gateway.wait_for_session(peer.address, |session| session["beats"] == beats);
        assert_eq!((&row["status"], &row["cause"]), (&json!(expected), &json!("declared")), "{row}");
    }
    let row = gateway.session(peer.address).expect("listed");
    assert_eq!(row["history"].as_array().map(Vec::len), Some(2), "{row}");
    peer.expect_nothing_heard();
}

#[test]
fn a_close_is_a_clean_goodbye() {
    let gateway = Gateway::start(&[]);
    let mut peer = Peer::legacy(&gateway);
    peer.say(&json!({"ip": "127.0.0.1", "status": "close"}));
    peer.expect_closed_within(AT_ONCE);
    let row = gateway.closed_row(peer.address);
    assert_eq!((&row["code"], &row["cause"], &row["beats"]), (&Value::Null, &json!("goodbye"), &json!(2)), "{row}");
    assert_eq!(row["bytes_out"], 0);
    assert_eq!(gateway.session(peer.address), None);
    gateway.wait_until_calm(0);
}

#[test]
fn who_returns_to_its_address_and_port_is_on_leave_and_earns_alive() {
    let rule = [("detector.interval", "1s"), ("detector.start", "2"), ("detector.threshold", "3")];
    let gateway = Gateway::start(&rule);
    let peer = Peer::legacy(&gateway);
    let address = peer.address;
    // A reset, so that this side's port is free at once.
    peer.reset();
    assert_eq!(gateway.closed_row(address)["cause"], "dropped");
    assert_eq!(gateway.metric("identities_remembered", ""), 1);

    let mut peer = Peer::from(&gateway, address).expect("the same port");
    peer.send_frame(TUTORIAL);
    let row = gateway.wait_for_session(address, |_| true);
    assert_eq!((&row["status"], &row["cause"]), (&json!("leave"), &json!("returned")), "{row}");
    assert_eq!((&row["cursor"], &row["strikes"], &row["beats"]), (&json!(2), &json!(0), &json!(1)), "{row}");
    assert_eq!(gateway.metric("identities_remembered", ""), 0);

    peer.expect_silence(HALF_INTERVAL);
    peer.send_frame(TUTORIAL);
    let row = gateway.wait_for_session(address, |session| session["beats"] == 2);
    assert_eq!((&row["status"], &row["cursor"]), (&json!("leave"), &json!(1)), "{row}");
    peer.expect_silence(HALF_INTERVAL);
    peer.send_frame(TUTORIAL);
    let row = gateway.wait_for_session(address, |session| session["beats"] == 3);
    assert_eq!((&row["status"], &row["cause"]), (&json!("alive"), &json!("stable")), "{row}");
    peer.expect_nothing_heard();
}

#[test]
fn a_legacy_link_may_say_hello_once() {
    let gateway = Gateway::start(&[]);
    let mut peer = Peer::legacy(&gateway);
    let mut events = gateway.events();
    let welcome = peer.hello(json!({"id": 1}));
    assert_eq!((&welcome["re"], &welcome["gen"], &welcome["resumed"]), (&json!(1), &json!(1), &json!(false)));
    let ended = events.wait("changed", |change| change["id"] == peer.address.to_string());
    assert_eq!((&ended["to"], &ended["cause"]), (&json!("close"), &json!("replaced")), "{ended}");
    let rows = gateway.sessions();
    assert_eq!((rows.len(), &rows[0]["mode"], &rows[0]["id"]), (1, &json!("v1"), &welcome["session"]), "{rows:?}");
    assert_eq!((gateway.metric("links", "\"legacy\""), gateway.metric("links", "\"v1\"")), (0, 1));
    peer.beat(1);
    // There is no way back.
    peer.send_frame(TUTORIAL);
    assert_eq!(peer.read_bye()["code"], 4002);
}

#[test]
fn a_legacy_link_may_take_up_a_session_with_its_hello() {
    let gateway = Gateway::start(&[("server.shards", "3")]);
    let (peer, welcome) = Peer::v1(&gateway, json!({}));
    peer.reset();
    let mut peer = Peer::legacy(&gateway);
    let again = peer.hello(proof(&welcome, 0));
    assert_eq!((&again["resumed"], &again["session"]), (&json!(true), &welcome["session"]), "{again}");
    peer.beat(1);
    assert_eq!(gateway.sessions().len(), 1);
}

#[test]
fn a_legacy_link_that_says_anything_but_hello_is_closed_without_a_word() {
    let gateway = Gateway::start(&[]);
    for op in [json!({"op": "beat"}), json!({"op": "hello", "v": 2}), json!({"op": "bye"})] {
        let mut peer = Peer::legacy(&gateway);
        peer.say(&op);
        peer.expect_closed_within(AT_ONCE);
        let row = gateway.closed_row(peer.address);
        assert_eq!(
            (&row["code"], &row["mode"], &row["bytes_out"]),
            (&json!(4002), &json!("legacy"), &json!(0)),
            "{row}"
        );
    }
    gateway.wait_until_calm(0);
}

#[test]
fn a_gateway_without_legacy_turns_its_clients_away_silently() {
    let gateway = Gateway::start(&[("listen.legacy", "false")]);
    let mut peer = Peer::connect(&gateway);
    peer.send_frame(TUTORIAL);
    peer.expect_closed_within(AT_ONCE);
    let row = gateway.closed_row(peer.address);
    assert_eq!((&row["code"], &row["name"], &row["bytes_out"]), (&json!(4502), &json!("version"), &json!(0)), "{row}");
    assert_eq!(gateway.metric("refused_total", "\"legacy\""), 1);
    let (mut v1, _) = Peer::v1(&gateway, json!({}));
    v1.beat(1);
}
