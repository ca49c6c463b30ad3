//! Peers that are slow, silent, or gone in the middle.

use std::time::Duration;

use serde_json::{Value, json};

use crate::peer::{AT_ONCE, GRAIN, Peer, TUTORIAL, frame};
use crate::trial::Trial;

/// Short time limits, in proportion to the real ones' ten seconds.
const LIMITS: &[(&str, &str)] = &[("limits.first_frame", "500ms"), ("limits.frame_time", "400ms")];
const FIRST_FRAME: Duration = Duration::from_millis(500);
const FRAME_TIME: Duration = Duration::from_millis(400);
/// A tenth of a limit, as a second is of the real ones.
const STEP: Duration = Duration::from_millis(50);

/// More bytes than a dribbler can send before its time is over.
fn long_frame() -> Vec<u8> {
    frame(format!("{TUTORIAL:200}"))
}

#[test]
fn who_connects_and_says_nothing_is_closed_when_the_first_frame_is_due() {
    let mut trial = Trial::begin(LIMITS);
    trial.offend(4007, (FIRST_FRAME, FIRST_FRAME + AT_ONCE), |_| {});
    trial.end();
}

#[test]
fn a_header_without_a_body_is_closed_when_its_time_is_over() {
    let mut trial = Trial::begin(LIMITS);
    trial.offend(4007, (FRAME_TIME, FIRST_FRAME + AT_ONCE), |peer| peer.send(&[0, 0, 0, 64]));
    trial.end();
}

#[test]
fn half_a_header_is_closed_when_its_time_is_over() {
    let mut trial = Trial::begin(LIMITS);
    trial.offend(4007, (FRAME_TIME, FIRST_FRAME + AT_ONCE), |peer| peer.send(&[0, 0]));
    trial.end();
}

#[test]
fn a_first_frame_byte_by_byte_is_closed_when_its_time_is_over() {
    let mut trial = Trial::begin(LIMITS);
    let mut peer = Peer::connect(&trial.gateway);
    let after = peer.dribble(&long_frame(), STEP);
    assert!((FRAME_TIME - GRAIN..FRAME_TIME + AT_ONCE / 2).contains(&after), "closed after {after:?}");
    trial.expect_closed(&peer, Some(4007));
    trial.end();
}

#[test]
fn a_later_frame_byte_by_byte_is_closed_when_its_time_is_over() {
    let mut trial = Trial::begin(LIMITS);
    let mut peer = Peer::legacy(&trial.gateway);
    let after = peer.dribble(&long_frame(), STEP);
    assert!((FRAME_TIME - GRAIN..FRAME_TIME + AT_ONCE / 2).contains(&after), "closed after {after:?}");
    let row = trial.expect_closed(&peer, Some(4002));
    assert_eq!((&row["mode"], &row["bytes_out"]), (&json!("legacy"), &json!(0)), "{row}");
    trial.end();
}

#[test]
fn empty_frames_do_not_give_a_first_frame_more_time() {
    let mut trial = Trial::begin(LIMITS);
    let mut peer = Peer::connect(&trial.gateway);
    let after = peer.dribble(&[0; 400], STEP / 4);
    assert!((FIRST_FRAME - STEP..FIRST_FRAME + AT_ONCE / 2).contains(&after), "closed after {after:?}");
    trial.expect_closed(&peer, Some(4007));
    trial.end();
}

#[test]
fn whole_frames_do_not_give_a_dribbled_one_more_time() {
    let mut trial = Trial::begin(LIMITS);
    let mut peer = Peer::legacy(&trial.gateway);
    let dribbled = frame(TUTORIAL);
    peer.send(&dribbled[..10]);
    for byte in &dribbled[10..16] {
        peer.send(&[*byte]);
        peer.expect_silence(STEP);
    }
    // Its rest and the beginning of another: the clock starts again for that one alone.
    peer.send(&[&dribbled[16..], &dribbled[..10]].concat());
    for byte in &dribbled[10..16] {
        peer.send(&[*byte]);
        peer.expect_silence(STEP);
    }
    peer.expect_closed_within(FRAME_TIME + AT_ONCE);
    let row = trial.expect_closed(&peer, Some(4002));
    assert_eq!((&row["mode"], &row["beats"], &row["cause"]), (&json!("legacy"), &json!(2), &json!("limit")), "{row}");
    trial.end();
}

#[test]
fn a_v1_frame_that_is_never_completed_gets_a_goodbye() {
    let mut trial = Trial::begin(LIMITS);
    for sent in [1, 4, 9] {
        let (mut peer, _) = Peer::v1(&trial.gateway, json!({}));
        peer.send(&frame(r#"{"op":"bye"}"#)[..sent]);
        assert_eq!(peer.read_bye()["code"], 4002);
        trial.expect_closed(&peer, Some(4002));
    }
    trial.end();
}

#[test]
fn ops_without_a_hello_do_not_stop_the_clock() {
    let mut trial = Trial::begin(LIMITS);
    let mut peer = Peer::connect(&trial.gateway);
    for _ in 0..3 {
        peer.say(&json!({"op": "beat"}));
        assert_eq!(peer.read_frame()["name"], "hello_first");
        peer.expect_silence(STEP);
    }
    assert_eq!(peer.read_frame()["code"], 4007);
    peer.expect_closed_between(FIRST_FRAME, AT_ONCE);
    let row = trial.expect_closed(&peer, Some(4007));
    assert_eq!((&row["mode"], &row["id"]), (&json!("v1"), &Value::Null), "{row}");
    trial.end();
}

#[test]
fn who_says_no_more_but_would_listen_is_closed() {
    let mut trial = Trial::begin(&[]);
    let mut peer = Peer::connect(&trial.gateway);
    peer.half_close();
    peer.expect_closed_within(AT_ONCE);
    trial.expect_closed(&peer, None);

    let mut peer = Peer::connect(&trial.gateway);
    peer.send(&frame(TUTORIAL)[..20]);
    peer.half_close();
    peer.expect_closed_within(AT_ONCE);
    trial.expect_closed(&peer, None);

    let mut peer = Peer::legacy(&trial.gateway);
    peer.half_close();
    peer.expect_closed_within(AT_ONCE);
    assert_eq!(trial.expect_closed(&peer, None)["cause"], "dropped");
    trial.end();
}

#[test]
fn a_v1_client_that_half_closes_gets_its_answers_and_keeps_its_session() {
    let mut trial = Trial::begin(&[]);
    let (mut peer, welcome) = Peer::v1(&trial.gateway, json!({}));
    peer.say(&json!({"op": "beat", "t": 7}));
    peer.half_close();
    assert_eq!(peer.answer()["t"], 7);
    trial.expect_closed(&peer, None);
    let (mut back, again) = Peer::resume(&trial.gateway, &welcome);
    assert_eq!(again["resumed"], true);
    back.ask(json!({"op": "bye"}));
    back.expect_closed_within(AT_ONCE);
    trial.expect_closed(&back, None);
    trial.end();
}

#[test]
fn a_reset_in_the_middle_of_a_frame_leaves_nothing_behind() {
    let mut trial = Trial::begin(&[]);
    for sent in [1, 4, 30] {
        let mut peer = Peer::connect(&trial.gateway);
        peer.send(&frame(TUTORIAL)[..sent]);
        trial.gateway.wait_for_metric("partial_bytes", "", sent as u64);
        peer.reset();
        trial.count(None, 1);
        trial.gateway.wait_for_metric("partial_bytes", "", 0);
    }
    let mut peer = Peer::legacy(&trial.gateway);
    peer.send(&frame(TUTORIAL)[..50]);
    trial.gateway.wait_for_metric("partial_bytes", "", 50);
    let address = peer.address;
    peer.reset();
    trial.count(None, 1);
    let row = trial.gateway.closed_row(address);
    assert_eq!((&row["code"], &row["cause"], &row["beats"]), (&Value::Null, &json!("dropped"), &json!(1)), "{row}");
    trial.end();
}
