//! v1 from hello to bye.

use serde_json::{Value, json};

use crate::bystanders::LINKS;
use crate::gateway::Gateway;
use crate::peer::{AT_ONCE, Peer, frame, proof};
use crate::trial::Trial;

#[test]
fn a_welcome_has_everything_that_a_client_needs() {
    let gateway = Gateway::start(&[]);
    let hello = json!({"id": "h1", "client": "test/1", "user": "ann", "interval_ms": 5000});
    let (peer, welcome) = Peer::v1(&gateway, hello);
    assert_eq!((&welcome["re"], &welcome["user"], &welcome["gen"]), (&json!("h1"), &json!("ann"), &json!(1)));
    assert_eq!((&welcome["resumed"], &welcome["reason"]), (&json!(false), &Value::Null));
    let beat = json!({"interval_ms": 5000, "min_ms": 1000, "detect_ms": 32_500, "leave_hold_ms": 1_800_000});
    assert_eq!(welcome["beat"], beat);
    assert_eq!(welcome["resume"]["window_ms"], 120_000);
    assert_eq!(welcome["limits"], json!({"frame_bytes": 65_536, "frames_per_second": 1000}));
    assert_eq!(welcome["session"].as_str().map(str::len), Some(22), "{welcome}");
    assert_eq!(welcome["resume"]["secret"].as_str().map(str::len), Some(43), "{welcome}");
    assert!(welcome["node"].is_string() && welcome["time_ms"].as_u64() > Some(1_700_000_000_000), "{welcome}");

    let row = gateway.session(peer.address).expect("listed");
    assert_eq!((&row["id"], &row["mode"], &row["gen"]), (&welcome["session"], &json!("v1"), &json!(1)), "{row}");
    assert_eq!(
        (&row["user"], &row["client"], &row["linked"]),
        (&json!("ann"), &json!("test/1"), &json!(true)),
        "{row}"
    );
    assert_eq!((&row["interval_ms"], &row["detect_ms"], &row["beats"]), (&json!(5000), &json!(32_500), &json!(0)));
    assert!(!gateway.get("/api/v1/sessions").body.contains(welcome["resume"]["secret"].as_str().expect("text")));
}

#[test]
fn an_interval_is_granted_between_a_second_and_ten_minutes() {
    let gateway = Gateway::start(&[]);
    for (asked, granted) in [(0, 1_000), (1_500, 1_500), (u64::MAX, 600_000)] {
        let (_peer, welcome) = Peer::v1(&gateway, json!({"interval_ms": asked}));
        assert_eq!(welcome["beat"]["interval_ms"], granted);
    }
    let (_peer, welcome) = Peer::v1(&gateway, json!({}));
    assert_eq!(welcome["beat"]["interval_ms"], 10_000);
    assert_eq!(welcome["resume"]["window_ms"], 60_000, "nobody knows it by name");
}

#[test]
fn a_beat_is_echoed_with_the_bound_as_it_stands() {
    let gateway = Gateway::start(&[]);
    let (mut peer, _) = Peer::v1(&gateway, json!({}));
    for t in [json!(0), json!(-5), json!(u64::MAX), json!(1.25)] {
        peer.say(&json!({"op": "beat", "t": t, "id": 7}));
        let echo = peer.answer();
        assert_eq!(echo, json!({"op": "beat", "t": t, "re": 7, "detect_ms": 65_000}));
    }
    peer.say(&json!({"op": "beat"}));
    assert_eq!(peer.answer(), json!({"op": "beat", "detect_ms": 65_000}), "a beat always gets its reply");
    let row = gateway.session(peer.address).expect("listed");
    assert_eq!((&row["beats"], &row["cursor"]), (&json!(5), &json!(3)), "{row}");
    assert_eq!(gateway.metric("beats_total", "\"v1\""), 5);
}

#[test]
fn several_ops_in_one_segment_are_answered_in_order() {
    let gateway = Gateway::start(&[]);
    let mut peer = Peer::connect(&gateway);
    let ops = [json!({"op": "hello", "v": 1, "id": 1}), json!({"op": "status", "status": "leave", "id": 2})];
    let beats = (3..10).map(|id| json!({"op": "beat", "id": id, "t": id}));
    peer.send(&ops.into_iter().chain(beats).flat_map(|op| frame(op.to_string())).collect::<Vec<u8>>());
    for (re, op) in [(1, "welcome"), (2, "ok")].into_iter().chain((3..10).map(|re| (re, "beat"))) {
        let answer = peer.answer();
        assert_eq!((&answer["re"], &answer["op"]), (&json!(re), &json!(op)), "{answer}");
    }
}

#[test]
fn a_frame_of_length_0_is_a_beat() {
    let gateway = Gateway::start(&[]);
    let (mut peer, _) = Peer::v1(&gateway, json!({}));
    peer.send(&frame("").repeat(3));
    peer.beat(1);
    let row = gateway.session(peer.address).expect("listed");
    assert_eq!(row["beats"], 4, "{row}");
}

#[test]
fn the_gateway_measures_the_round_trip_by_asking_for_a_beat() {
    let gateway = Gateway::start(&[]);
    let (mut peer, _) = Peer::v1(&gateway, json!({}));
    peer.beat(1);
    let wish = peer.read_frame();
    assert_eq!((&wish["op"], &wish["now"]), (&json!("beat"), &json!(true)), "{wish}");
    peer.say(&json!({"op": "beat", "t": 2, "re": wish["id"]}));
    assert_eq!(peer.answer()["t"], 2);
    let row = gateway.session(peer.address).expect("listed");
    assert!(row["rtt_ms"].as_f64().is_some_and(|ms| ms > 0.0 && ms < 20_000.0), "{row}");
    assert_eq!(gateway.metric("beat_rtt_seconds_count", ""), 1);
}

#[test]
fn what_can_not_be_served_gets_an_error_and_the_link_lives() {
    let gateway = Gateway::start(&[]);
    let (mut peer, _) = Peer::v1(&gateway, json!({}));
    let table = [
        (json!({"op": "dance"}), 1001, "unknown_op"),
        (json!({"op": ""}), 1001, "unknown_op"),
        (json!({"op": "status"}), 1002, "missing_field"),
        (json!({"op": "status", "status": "close"}), 1003, "mistyped_field"),
        (json!({"op": "status", "status": 1}), 1003, "mistyped_field"),
        (json!({"op": "beat", "t": "now"}), 1003, "mistyped_field"),
        (json!({"op": "beat", "ack": -1}), 1003, "mistyped_field"),
        (json!({"op": "hello", "v": 1}), 1005, "hello_twice"),
    ];
    for (request, code, name) in table {
        let error = peer.ask(request.clone());
        assert_eq!(error["op"], "error", "{request}: {error}");
        assert_eq!((&error["code"], &error["name"]), (&json!(code), &json!(name)), "{request}: {error}");
        assert_eq!(error["temporary"], false, "{request}: {error}");
        assert!(error["message"].as_str().is_some_and(|message| message.len() > 5), "{request}: {error}");
    }
    peer.beat(1);
    assert_eq!(gateway.metric("closes_total", ""), 0);
}

#[test]
fn an_op_before_hello_is_refused_and_hello_can_still_be_said() {
    let gateway = Gateway::start(&[]);
    let mut peer = Peer::connect(&gateway);
    for op in ["beat", "bye"] {
        let error = peer.ask(json!({"op": op}));
        assert_eq!((&error["code"], &error["name"]), (&json!(1004), &json!("hello_first")), "{error}");
    }
    let error = peer.ask(json!({"op": "hello"}));
    assert_eq!(error["code"], 1002, "{error}");
    let error = peer.ask(json!({"op": "hello", "v": 1, "interval_ms": -1}));
    assert_eq!(error["code"], 1003, "{error}");
    let error = peer.ask(json!({"op": "hello", "v": 1, "token": "t"}));
    assert_eq!((&error["code"], &error["name"]), (&json!(1105), &json!("bad_credentials")), "{error}");
    assert_eq!(gateway.sessions().len(), 0);
    peer.hello(json!({}));
    peer.beat(1);
}

#[test]
fn another_version_is_refused_for_good() {
    let mut trial = Trial::begin(&[]);
    let mut peer = Peer::connect(&trial.gateway);
    let error = peer.ask(json!({"op": "hello", "v": 2}));
    assert_eq!((&error["code"], &error["name"]), (&json!(1006), &json!("version")), "{error}");
    let bye = peer.read_bye();
    assert_eq!((&bye["code"], &bye["retry_ms"]), (&json!(4502), &Value::Null), "{bye}");
    trial.expect_closed(&peer, Some(4502));
    trial.end();
}

#[test]
fn a_declared_leave_lasts_until_alive_is_declared() {
    let gateway = Gateway::start(&[]);
    let (mut peer, _) = Peer::v1(&gateway, json!({}));
    for status in ["leave", "alive"] {
        assert_eq!(peer.ask(json!({"op": "status", "status": status}))["op"], "ok");
        peer.beat(1);
        let row = gateway.session(peer.address).expect("listed");
        assert_eq!((&row["status"], &row["cause"]), (&json!(status), &json!("declared")), "{row}");
    }
    peer.say(&json!({"op": "status", "status": "leave"}));
    peer.beat(2);
    let row = gateway.session(peer.address).expect("listed");
    assert_eq!(row["status"], "leave", "without an id it is done and not answered");
}

#[test]
fn who_only_beats_for_long_after_an_act_is_idle_until_the_next_act() {
    let gateway = Gateway::start(&[("detector.idle_after", "1s")]);
    let (mut never, _) = Peer::v1(&gateway, json!({}));
    let (mut once, _) = Peer::v1(&gateway, json!({}));
    once.ask(json!({"op": "status", "status": "alive"}));
    let row = gateway.wait_for_session(once.address, |session| session["status"] == "leave");
    assert_eq!(row["cause"], "idle", "{row}");
    once.beat(1);
    never.beat(1);
    assert_eq!(gateway.session(once.address).expect("listed")["status"], "leave", "a beat is no act");
    assert_eq!(gateway.session(never.address).expect("listed")["status"], "alive", "who never acted can't be idle");
    once.ask(json!({"op": "status", "status": "alive"}));
    let row = gateway.session(once.address).expect("listed");
    assert_eq!((&row["status"], &row["cause"]), (&json!("alive"), &json!("idle")), "{row}");
}

#[test]
fn bye_closes_the_session_for_good() {
    let mut trial = Trial::begin(&[]);
    let (mut peer, welcome) = Peer::v1(&trial.gateway, json!({"user": "ann"}));
    assert_eq!(peer.ask(json!({"op": "bye"}))["op"], "ok");
    peer.expect_closed_within(AT_ONCE);
    let row = trial.expect_closed(&peer, None);
    assert_eq!(
        (&row["cause"], &row["id"], &row["user"]),
        (&json!("goodbye"), &welcome["session"], &json!("ann")),
        "{row}"
    );
    assert_eq!(trial.gateway.sessions().len(), LINKS);

    let (mut back, again) = Peer::resume(&trial.gateway, &welcome);
    assert_eq!((&again["resumed"], &again["reason"]), (&json!(false), &json!("unknown")), "{again}");
    assert_ne!(again["session"], welcome["session"]);
    assert_eq!(trial.gateway.metric("resumes_total", "\"unknown\""), 1);
    back.ask(json!({"op": "bye"}));
    back.expect_closed_within(AT_ONCE);
    trial.expect_closed(&back, None);
    trial.end();
}

#[test]
fn a_mistyped_resume_is_refused_and_an_unknown_one_begins_anew() {
    let gateway = Gateway::start(&[]);
    let mut peer = Peer::connect(&gateway);
    for resume in
        [json!(true), json!({"session": 1, "secret": "x", "count": 0}), json!({"session": "s", "secret": "x"})]
    {
        let error = peer.ask(json!({"op": "hello", "v": 1, "resume": resume}));
        assert!(error["code"] == 1002 || error["code"] == 1003, "{error}");
    }
    let nothing = json!({"session": "s", "resume": {"secret": "x"}});
    let welcome = peer.hello(proof(&nothing, 0));
    assert_eq!((&welcome["resumed"], &welcome["reason"]), (&json!(false), &json!("unknown")), "{welcome}");
}
