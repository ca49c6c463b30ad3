//! Too much at once: connects, frames, and answers that nobody reads.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::peer::{AT_ONCE, Peer, TUTORIAL, frame};
use crate::trial::Trial;

#[test]
fn five_thousand_connects_that_close_at_once_leave_nothing_behind() {
    let mut trial = Trial::begin(&[]);
    let (began, resident_kib) = (Instant::now(), trial.gateway.resident_kib());
    for n in 0..5_000u32 {
        // Half of them say goodbye to the kernel, half don't; from a few addresses, so that ports last.
        let address = format!("127.0.0.{}:0", 10 + n % 10).parse().expect("an address");
        let peer = Peer::from(&trial.gateway, address).expect("the clients' port");
        match n % 2 {
            0 => drop(peer),
            _ => peer.reset(),
        }
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "5,000 connects took {took:?}");
    trial.gateway.wait_for_metric("closes_total", "\"none\"", 5_000);
    assert_eq!(trial.gateway.metric("links_opened_total", ""), 5_002);
    assert_eq!(trial.gateway.get("/api/v1/closed?limit=1").json()["total"], 5_000);
    // The list of the closed has them all; that is about a megabyte.
    let grown_kib = trial.gateway.resident_kib().saturating_sub(resident_kib);
    assert!(grown_kib < 32 * 1024, "{grown_kib} KiB more than before");
    trial.count(None, 5_000);
    trial.end();
}

#[test]
fn a_flood_of_frames_is_closed_and_nobody_else() {
    let mut trial = Trial::begin(&[("limits.frames_per_second", "10"), ("limits.frames_burst", "20")]);
    let mut peer = Peer::connect(&trial.gateway);
    peer.send(&frame(TUTORIAL).repeat(100));
    peer.expect_closed_within(AT_ONCE);
    let row = trial.expect_closed(&peer, Some(4006));
    assert_eq!((&row["mode"], &row["bytes_out"]), (&json!("legacy"), &json!(0)), "{row}");
    // The burst, what the average allows meanwhile, and no more.
    assert!((20..40).contains(&row["beats"].as_u64().expect("a number")), "{row}");

    let (mut peer, _) = Peer::v1(&trial.gateway, json!({}));
    peer.send(&frame("").repeat(100));
    assert_eq!(peer.read_bye()["code"], 4006);
    trial.expect_closed(&peer, Some(4006));
    trial.offend(4006, (Duration::ZERO, AT_ONCE), |peer| peer.send(&frame("").repeat(100)));
    trial.end();
}

#[test]
fn within_the_rate_of_frames_early_beats_are_never_a_kick() {
    let mut trial = Trial::begin(&[]);
    let mut peer = Peer::connect(&trial.gateway);
    peer.send(&frame(TUTORIAL).repeat(1_000));
    let row = trial.gateway.wait_for_session(peer.address, |session| session["beats"] == 1_000);
    assert_eq!((&row["status"], &row["cursor"]), (&json!("alive"), &json!(3)), "{row}");
    assert!(trial.gateway.metric("beats_early_total", "") >= 999);
    peer.expect_nothing_heard();
    peer.reset();
    trial.count(None, 1);
    trial.end();
}

#[test]
fn who_asks_and_never_reads_is_closed_as_too_slow() {
    let mut trial =
        Trial::begin(&[("limits.outbox", "4KiB"), ("limits.send_buffer", "4KiB"), ("limits.frames_per_second", "0")]);
    let (mut peer, welcome) = Peer::v1(&trial.gateway, json!({}));
    let request = json!({"op": "beat", "t": 1, "id": "x".repeat(64)}).to_string();
    let burst = frame(request).repeat(1_000);
    // What the kernels on both sides take is some megabytes at most.
    let sent = (0..200).take_while(|_| peer.send_some(&burst)).count();
    assert!(sent < 200, "the gateway never had enough");
    let row = trial.expect_closed(&peer, Some(4005));
    assert_eq!((&row["mode"], &row["cause"]), (&json!("v1"), &json!("limit")), "{row}");
    drop(peer);
    let (mut back, again) = Peer::resume(&trial.gateway, &welcome);
    assert_eq!(again["session"], welcome["session"]);
    back.ask(json!({"op": "bye"}));
    back.expect_closed_within(AT_ONCE);
    trial.expect_closed(&back, None);
    trial.end();
}

#[test]
fn what_incomplete_frames_hold_together_is_bounded() {
    // One shard, so that the bound isn't shared out.
    let mut trial = Trial::begin(&[("limits.partial", "64KiB"), ("server.shards", "1")]);
    let half = [&(60_000u32).to_be_bytes()[..], &[b' '; 40_000]].concat();
    let mut first = Peer::connect(&trial.gateway);
    first.send(&half);
    trial.gateway.wait_for_metric("partial_bytes", "", 40_004);
    trial.offend(4006, (Duration::ZERO, AT_ONCE), |peer| peer.send(&half));
    first.expect_nothing_heard();
    first.send(format!("{:20000}", r#"{"ip":"a","status":"alive"}"#).as_bytes());
    let row = trial.gateway.wait_for_session(first.address, |session| session["beats"] == 1);
    assert_eq!(row["cause"], Value::Null, "{row}");
    first.reset();
    trial.count(None, 1);
    trial.end();
}
