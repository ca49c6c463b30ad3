//! Frames whose bodies can't be read.

use std::time::Duration;

use serde_json::json;

use crate::peer::{AT_ONCE, Peer, frame};
use crate::trial::Trial;

/// Bytes without any pattern; the same for the same seed.
fn noise(mut seed: u64, count: usize) -> Vec<u8> {
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 32) as u8
    };
    (0..count).map(|_| next()).collect()
}

fn check_bodies<B: AsRef<[u8]>>(bodies: impl IntoIterator<Item = B>) {
    Trial::check(4002, bodies.into_iter().map(frame));
}

#[test]
fn random_bytes_of_32_kb_are_closed_at_once() {
    let seeds = (1..).map(|seed| noise(seed * 0x9e37_79b9, 32 * 1024));
    Trial::check(4002, seeds.filter(|bytes| bytes[0] != 0).take(8));
}

#[test]
fn random_bytes_of_32_kb_in_a_right_frame_are_closed_at_once() {
    check_bodies((1..4).map(|seed| noise(seed * 0x9e37_79b9, 32 * 1024)));
}

#[test]
fn random_bytes_behind_a_first_byte_of_0_end_with_the_first_frame_at_the_latest() {
    let first_frame = Duration::from_millis(300);
    let mut trial = Trial::begin(&[("limits.first_frame", "300ms")]);
    // Within the limit, so the gateway waits for a body of 65,280 bytes that never comes.
    trial.offend(4007, (first_frame, first_frame + AT_ONCE), |peer| {
        peer.send(&[&[0, 0, 0xff, 0][..], &noise(7, 32 * 1024)].concat());
    });
    trial.end();
}

#[test]
fn invalid_json_is_closed_at_once() {
    check_bodies(["x", "{", "{}}", "{\"ip\"", "'", "{'", "\"", "\"{", "tru", "{\"ip\":\"a\",}", "\0", "   ", "{}{}"]);
}

#[test]
fn invalid_utf8_is_closed_at_once() {
    check_bodies([
        &b"{\"ip\":\"\xff\",\"status\":\"alive\"}"[..],
        b"{\"ip\":\"a\",\"status\":\"\xed\xa0\x80\"}",
        b"\x80",
        b"{\"op\":\"hello\",\"v\":1,\"client\":\"\xc0\xaf\"}",
    ]);
}

#[test]
fn json_nested_deeper_than_32_is_closed_at_once() {
    let nested = |open: &str, close: &str, depth: usize| {
        format!(r#"{{"ip":"a","status":"alive","x":{}1{}}}"#, open.repeat(depth - 1), close.repeat(depth - 1))
    };
    check_bodies([
        nested("[", "]", 33),
        nested("{\"x\":", "}", 33),
        nested("[", "]", 30_000),
        "[".repeat(60_000),
        "{\"x\":".repeat(12_000),
    ]);
}

#[test]
fn json_nested_32_deep_is_read() {
    let mut trial = Trial::begin(&[]);
    let mut peer = Peer::connect(&trial.gateway);
    peer.send_frame(format!(r#"{{"ip":"a","status":"alive","x":{}{}}}"#, "[".repeat(31), "]".repeat(31)));
    trial.gateway.wait_for_session(peer.address, |session| session["beats"] == 1);
    peer.reset();
    trial.count(None, 1);
    trial.end();
}

#[test]
fn what_is_no_object_is_closed_at_once() {
    check_bodies(["[]", "[{\"ip\":\"a\",\"status\":\"alive\"}]", "1", "-1.5e300", "null", "true", "\"\"", "\"alive\""]);
}

#[test]
fn a_missing_field_is_closed_at_once() {
    check_bodies([r#"{}"#, r#"{"ip":"a"}"#, r#"{"status":"alive"}"#, r#"{"pid":1}"#, r#""{\"ip\":\"a\"}""#]);
}

#[test]
fn a_mistyped_field_is_closed_at_once() {
    check_bodies([
        r#"{"ip":1,"status":"alive"}"#,
        r#"{"ip":"a","status":true}"#,
        r#"{"ip":"","status":"alive"}"#,
        r#"{"ip":"a","status":""}"#,
        r#"{"ip":null,"status":"alive"}"#,
        r#"{"ip":["a"],"status":"alive"}"#,
        r#"{"ip":"a","ip":"b","status":"alive"}"#,
        r#"{"op":1}"#,
        r#"{"op":null,"ip":"a","status":"alive"}"#,
        r#"{"op":["hello"],"v":1}"#,
    ]);
}

#[test]
fn a_body_that_is_encoded_three_times_or_hides_an_op_in_a_string_is_closed_at_once() {
    let beat = json!({"ip": "a", "status": "alive"}).to_string();
    let thrice = json!(json!(beat).to_string()).to_string();
    check_bodies([thrice, json!(json!({"op": "hello", "v": 1}).to_string()).to_string()]);
}

#[test]
fn a_v1_client_that_is_malformed_three_times_is_told_not_to_come_back() {
    let mut trial = Trial::begin(&[]);
    let (mut peer, mut welcome) = Peer::v1(&trial.gateway, json!({}));
    for code in [4002, 4002, 4503] {
        peer.send_frame("{");
        assert_eq!(peer.read_bye()["code"], code);
        trial.expect_closed(&peer, Some(code));
        (peer, welcome) = Peer::resume(&trial.gateway, &welcome);
    }
    peer.say(&json!({"op": "bye"}));
    peer.expect_closed_within(AT_ONCE);
    trial.expect_closed(&peer, None);
    trial.end();
}

#[test]
fn a_malformed_body_before_hello_gets_a_v1_client_its_goodbye() {
    let mut trial = Trial::begin(&[]);
    let mut peer = Peer::connect(&trial.gateway);
    assert_eq!(peer.ask(json!({"op": "beat"}))["name"], "hello_first");
    peer.send_frame(r#"{"ip":"a","status":"alive"}"#);
    assert_eq!(peer.read_bye()["code"], 4002);
    let row = trial.expect_closed(&peer, Some(4002));
    assert_eq!((&row["mode"], row["id"].is_null()), (&json!("v1"), true), "{row}");
    trial.end();
}

#[test]
fn a_malformed_body_ends_a_legacy_session_without_a_word() {
    let mut trial = Trial::begin(&[]);
    let mut peer = Peer::legacy(&trial.gateway);
    peer.send_frame("{");
    peer.expect_closed_within(AT_ONCE);
    let row = trial.expect_closed(&peer, Some(4002));
    assert_eq!((&row["cause"], &row["bytes_out"]), (&json!("limit"), &json!(0)), "{row}");
    assert_eq!(trial.gateway.session(peer.address), None);
    trial.end();
}
