//! What an operator does to the gateway: kick, drain, end, reload.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::bystanders::{Bystanders, LINKS};
use crate::gateway::{Gateway, Scratch, Setup};
use crate::peer::{AT_ONCE, Peer};

const ENDED: Duration = Duration::from_secs(10);

#[test]
fn a_kicked_session_is_gone_for_good_and_nobody_else() {
    let gateway = Gateway::start(&[]);
    let mut bystanders = Bystanders::join(&gateway);
    let (mut v1, welcome) = Peer::v1(&gateway, json!({"user": "ann"}));
    assert_eq!(gateway.post("/api/v1/kick", &json!({"id": welcome["session"]})).json(), json!({"kicked": 1}));
    let bye = v1.read_bye();
    assert_eq!((&bye["code"], &bye["retry_ms"]), (&json!(4504), &Value::Null), "{bye}");
    let row = gateway.closed_row(v1.address);
    assert_eq!((&row["code"], &row["cause"], &row["user"]), (&json!(4504), &json!("kicked"), &json!("ann")), "{row}");
    assert_eq!(Peer::resume(&gateway, &welcome).1["reason"], "unknown");

    let mut legacy = Peer::legacy(&gateway);
    let kicked = gateway.post("/api/v1/kick", &json!({"peer": legacy.address.to_string()})).json();
    assert_eq!(kicked, json!({"kicked": 1}));
    legacy.expect_closed_within(AT_ONCE);
    let row = gateway.closed_row(legacy.address);
    assert_eq!((&row["code"], &row["bytes_out"]), (&json!(4504), &json!(0)), "{row}");
    assert_eq!(gateway.metric("kicks_total", ""), 2);
    assert_eq!(gateway.metric("closes_total", "\"4504\""), 2);
    drop(v1);
    gateway.wait_until_calm(LINKS);
    bystanders.expect_unharmed(&gateway);
}

#[test]
fn all_sessions_of_a_user_are_kicked_at_once_linked_or_not() {
    let gateway = Gateway::start(&[]);
    let mut bystanders = Bystanders::join(&gateway);
    let mut linked: Vec<_> = (0..3).map(|_| Peer::v1(&gateway, json!({"user": "ann"})).0).collect();
    let (gone, welcome) = Peer::v1(&gateway, json!({"user": "ann"}));
    gone.reset();
    gateway.wait_for_metric("sessions_retained", "", 1);
    assert_eq!(gateway.post("/api/v1/kick", &json!({"user": "ann"})).json(), json!({"kicked": 4}));
    for peer in &mut linked {
        assert_eq!(peer.read_bye()["code"], 4504);
    }
    assert_eq!(Peer::resume(&gateway, &welcome).1["reason"], "unknown");
    assert_eq!(gateway.get("/api/v1/sessions?user=ann").json()["total"], 0);
    gateway.post("/api/v1/kick", &json!({"user": "ann"})).error(404, "not_found");
    bystanders.expect_unharmed(&gateway);
}

#[test]
fn a_drain_tells_everybody_when_to_come_back_and_ends() {
    for by_signal in [true, false] {
        let mut gateway = Gateway::start(&[("server.drain", "2s")]);
        let mut legacy = Peer::legacy(&gateway);
        let mut unknown = Peer::connect(&gateway);
        gateway.wait_for_metric("links", "tcp", 2);
        let mut v1: Vec<_> = (0..5).map(|_| Peer::v1(&gateway, json!({})).0).collect();
        if by_signal {
            gateway.signal(Signal::TERM);
        } else {
            assert_eq!(gateway.post("/api/v1/drain", &json!({})).json(), json!({"draining": true, "links": 7}));
        }
        let mut retries = Vec::new();
        for peer in &mut v1 {
            let bye = peer.read_bye();
            assert_eq!((&bye["op"], &bye["code"]), (&json!("bye"), &json!(4001)), "{bye}");
            retries.push(bye["retry_ms"].as_u64().expect("a number"));
        }
        assert!(retries.iter().all(|ms| *ms <= 2000) && retries.iter().any(|ms| *ms != retries[0]), "{retries:?}");
        legacy.expect_closed_within(AT_ONCE);
        unknown.expect_closed_within(AT_ONCE);
        let listening = Peer::from(&gateway, "127.0.0.1:0".parse().expect("an address"));
        assert!(listening.is_err(), "nobody new is let in");
        drop(v1);
        assert!(gateway.ended_within(ENDED).success(), "{}", gateway.log());
        assert!(gateway.log().contains("draining"), "{}", gateway.log());
    }
}

#[test]
fn while_it_drains_it_is_alive_but_not_ready() {
    let gateway = Gateway::start(&[]);
    let mut operator = gateway.keeping();
    assert_eq!(operator.get("/readyz").status, 200);
    let (mut lingering, _) = Peer::v1(&gateway, json!({}));
    gateway.signal(Signal::TERM);
    assert_eq!(lingering.read_bye_and_linger()["code"], 4001);
    // This side hasn't closed yet, so the gateway waits for it.
    operator.get("/readyz").error(503, "busy");
    assert_eq!(operator.get("/healthz").status, 200);
    assert!(operator.get("/metrics").body.contains("\nstillhere_draining 1\n"));
}

#[test]
fn told_to_end_twice_it_ends_at_once() {
    let mut gateway = Gateway::start(&[]);
    let (mut lingering, _) = Peer::v1(&gateway, json!({}));
    gateway.signal(Signal::TERM);
    assert_eq!(lingering.read_bye_and_linger()["code"], 4001);
    let again = Instant::now();
    gateway.signal(Signal::TERM);
    assert!(gateway.ended_within(ENDED).success(), "{}", gateway.log());
    assert!(gateway.log().contains("told to end again: ending at once"), "{:?}: {}", again.elapsed(), gateway.log());
}

fn write_config(scratch: &Scratch, text: &str) -> std::path::PathBuf {
    let path = scratch.path().join("stillhere.toml");
    std::fs::write(&path, text).expect("written");
    path
}

fn log_has(path: &Path, text: &str) -> bool {
    std::fs::read_to_string(path.join("log")).expect("a log").contains(text)
}

#[test]
fn a_reload_applies_what_it_can_and_says_what_waits_for_a_restart() {
    let scratch = Scratch::new();
    let config = write_config(&scratch, "[detector]\ninterval = \"10s\"\n[limits]\nconnections = 100\n");
    let gateway = Setup::new().scratch(&scratch).config(config).start();
    let mut bystanders = Bystanders::join(&gateway);
    let mut legacy = Peer::legacy(&gateway);
    assert_eq!(gateway.metric("connections_max", ""), 100);

    write_config(&scratch, "[detector]\ninterval = \"20s\"\n[limits]\nconnections = 50\n[listen]\nlegacy = false\n");
    gateway.signal(Signal::HUP);
    gateway.wait_for_metric("connections_max", "", 50);
    let row = gateway.wait_for_session(legacy.address, |session| session["interval_ms"] == 20_000);
    assert_eq!((&row["detect_ms"], &row["beats"]), (&json!(130_000), &json!(1)), "{row}");
    gateway.wait_until("a line in the log", || log_has(scratch.path(), "configuration reloaded"));
    assert!(gateway.log().contains("listen.legacy"), "{}", gateway.log());
    let (_new, welcome) = Peer::v1(&gateway, json!({}));
    assert_eq!(welcome["beat"]["interval_ms"], 20_000);

    write_config(&scratch, "[detector]\ninterval = \"20s\"\n[limits]\nconnections = 60\n[listen]\nlegacy = false\n");
    let reloaded = gateway.post("/api/v1/reload", &json!({})).json();
    let answer = json!({"applied": ["limits.connections"], "needs_restart": ["listen.legacy"], "errors": []});
    assert_eq!(reloaded, answer);
    legacy.expect_nothing_heard();
    bystanders.expect_unharmed(&gateway);
}

#[test]
fn a_wrong_configuration_keeps_the_old_one_in_force() {
    let scratch = Scratch::new();
    let config = write_config(&scratch, "[limits]\nconnections = 100\n");
    let gateway = Setup::new().scratch(&scratch).config(config).start();
    let mut bystanders = Bystanders::join(&gateway);
    for wrong in
        ["[limits]\nconections = 50\n", "[limits]\nconnections = \"many\"\n", "[limits", "[detector]\nstart = 9\n"]
    {
        write_config(&scratch, wrong);
        let answer = gateway.post("/api/v1/reload", &json!({}));
        assert_eq!(answer.status, 422, "{answer:?}");
        let reloaded: Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!((&reloaded["applied"], &reloaded["needs_restart"]), (&json!([]), &json!([])), "{reloaded}");
        assert!(reloaded["errors"].as_array().is_some_and(|errors| !errors.is_empty()), "{wrong}: {reloaded}");
    }
    write_config(&scratch, "[limits]\nconections = 50\n");
    let told = gateway.log().matches("the old one stays in force").count();
    gateway.signal(Signal::HUP);
    gateway.wait_until("a line in the log", || gateway.log().matches("the old one stays in force").count() > told);
    assert!(gateway.log().contains("did you mean `connections`?"), "{}", gateway.log());
    assert_eq!(gateway.metric("connections_max", ""), 100);
    bystanders.expect_unharmed(&gateway);
}

#[test]
fn the_reaper_announces_itself_and_tells_how_many_were_cleared_and_how_many_remain() {
    let gateway = Gateway::start(&[("log.reaper_interval", "1s")]);
    let mut bystanders = Bystanders::join(&gateway);
    let mut offenders: Vec<_> = (0..3).map(|_| Peer::legacy(&gateway)).collect();
    for offender in &mut offenders {
        offender.send_frame("{");
        offender.expect_closed_within(AT_ONCE);
    }
    // The three may have fallen to both sides of a round.
    let told = || -> Vec<(u64, u64)> {
        let lines = gateway.log();
        let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        lines.filter_map(|line| Some((line["cleared"].as_u64()?, line["remaining"].as_u64()?))).collect()
    };
    gateway.wait_until("the reaper", || told().iter().map(|(cleared, _)| cleared).sum::<u64>() == 3);
    assert_eq!(told().last().map(|(_, remaining)| *remaining), Some(LINKS as u64));
    assert!(told().iter().all(|(cleared, _)| *cleared > 0), "nothing cleared is nothing to tell at this level");
    assert!(
        gateway.log().contains("reports what was cleared at this interval\",\"interval\":\"1s\""),
        "{}",
        gateway.log()
    );
    bystanders.expect_unharmed(&gateway);
}
