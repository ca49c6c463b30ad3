//! Lengths that no frame has.

use std::time::Duration;

use serde_json::json;

use crate::peer::{AT_ONCE, Peer, TUTORIAL, frame};
use crate::trial::Trial;

#[test]
fn a_negative_length_is_closed_at_once() {
    Trial::check(4002, [(-1i32).to_be_bytes(), (-64i32).to_be_bytes(), i32::MIN.to_be_bytes()]);
}

#[test]
fn a_length_of_two_gib_is_closed_at_once() {
    Trial::check(4002, [(2u32 << 30).to_be_bytes(), i32::MAX.to_be_bytes()]);
}

#[test]
fn a_length_of_64_kib_and_one_byte_is_closed_before_its_body() {
    Trial::check(4002, [(64u32 * 1024 + 1).to_be_bytes(), [0x00, 0xff, 0xff, 0xff]]);
}

#[test]
fn a_length_over_the_limit_that_comes_byte_by_byte_is_closed_at_its_last_byte() {
    let mut trial = Trial::begin(&[]);
    trial.offend(4002, (Duration::ZERO, AT_ONCE), |peer| {
        for byte in [0, 1, 0] {
            peer.send(&[byte]);
            peer.expect_nothing_heard();
        }
        peer.send(&[1]);
    });
    trial.end();
}

#[test]
fn a_body_of_exactly_64_kib_is_read() {
    let mut trial = Trial::begin(&[]);
    let mut peer = Peer::connect(&trial.gateway);
    let beat = r#"{"ip": "127.0.0.1", "status": "alive"}"#;
    peer.send_frame(beat.to_owned() + &" ".repeat(64 * 1024 - beat.len()));
    trial.gateway.wait_for_session(peer.address, |session| session["beats"] == 1);
    peer.half_close();
    peer.expect_closed_within(AT_ONCE);
    trial.expect_closed(&peer, None);
    trial.end();
}

#[test]
fn a_smaller_limit_is_kept_to_the_byte_and_told_in_welcome() {
    let mut trial = Trial::begin(&[("limits.frame", "1KiB")]);
    trial.offend(4002, (Duration::ZERO, AT_ONCE), |peer| peer.send(&1025u32.to_be_bytes()));
    let (mut peer, welcome) = Peer::v1(&trial.gateway, json!({}));
    assert_eq!(welcome["limits"]["frame_bytes"], 1024);
    peer.send_frame(format!("{:1024}", r#"{"op":"bye","id":1}"#));
    assert_eq!(peer.answer()["re"], 1);
    peer.expect_closed_within(AT_ONCE);
    trial.expect_closed(&peer, None);
    trial.end();
}

#[test]
fn a_length_over_the_limit_ends_a_legacy_session_without_a_word() {
    let mut trial = Trial::begin(&[]);
    let mut peer = Peer::legacy(&trial.gateway);
    peer.send(&(-1i32).to_be_bytes());
    peer.expect_closed_within(AT_ONCE);
    let row = trial.expect_closed(&peer, Some(4002));
    assert_eq!((&row["mode"], &row["beats"], &row["bytes_out"]), (&json!("legacy"), &json!(1), &json!(0)), "{row}");
    trial.end();
}

#[test]
fn a_length_over_the_limit_gets_a_v1_client_its_goodbye_and_keeps_its_session() {
    let mut trial = Trial::begin(&[]);
    let (mut peer, welcome) = Peer::v1(&trial.gateway, json!({}));
    peer.send(&[frame(r#"{"op":"beat","t":1}"#), (2u32 << 30).to_be_bytes().to_vec()].concat());
    assert_eq!(peer.answer()["t"], 1);
    assert_eq!(peer.read_bye()["code"], 4002);
    trial.expect_closed(&peer, Some(4002));
    let (mut back, again) = Peer::resume(&trial.gateway, &welcome);
    assert_eq!((&again["resumed"], &again["session"]), (&json!(true), &welcome["session"]));
    back.say(&json!({"op": "bye"}));
    back.expect_closed_within(AT_ONCE);
    trial.expect_closed(&back, None);
    trial.end();
}

#[test]
fn a_length_of_0_chooses_no_mode_and_stops_no_deadline() {
    let first_frame = Duration::from_millis(300);
    let mut trial = Trial::begin(&[("limits.first_frame", "300ms")]);
    trial.offend(4007, (first_frame, first_frame + AT_ONCE), |peer| peer.send(&frame("")));
    trial.offend(4007, (first_frame, first_frame + AT_ONCE), |peer| peer.send(&frame("").repeat(100)));
    trial.end();
}

#[test]
fn a_length_of_0_before_a_first_beat_does_no_harm() {
    let mut trial = Trial::begin(&[]);
    let mut peer = Peer::connect(&trial.gateway);
    peer.send(&[frame(""), frame(TUTORIAL), frame("")].concat());
    trial.gateway.wait_for_session(peer.address, |session| session["beats"] == 2);
    peer.reset();
    trial.count(None, 1);
    trial.end();
}
