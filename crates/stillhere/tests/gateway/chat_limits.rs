//! What keeps one talker from hurting another: rates, sizes, slow readers, hostile text.

use std::time::Duration;

use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::peer::Peer;
use crate::talker::{OPEN, Talker, on_one_and_two_shards};

/// Asks until it is refused; then waits as long as it is told to, and must be let in.
fn exceed(talker: &mut Talker, request: &Value, burst: usize) {
    let mut granted = 0;
    let error = loop {
        let answer = talker.ask(request.clone());
        match answer["code"].as_u64() {
            Some(1203) => break answer,
            _ => granted += 1,
        }
        assert!(granted < burst + 50, "{request} was never refused");
    };
    assert!(granted >= burst, "{granted} of {burst}: {request}");
    assert_eq!(error["temporary"], true, "{error}");
    let wait = Duration::from_millis(error["retry_ms"].as_u64().expect("a wait"));
    assert!(wait > Duration::ZERO && wait <= Duration::from_secs(2), "{error}");
    talker.peer.expect_quiet(wait + Duration::from_millis(5));
    assert_ne!(talker.ask(request.clone())["code"], 1203, "{request} after {wait:?}");
}

#[test]
fn every_rate_refuses_for_a_while_and_admits_again() {
    let settings = [
        OPEN,
        ("limits.messages_per_second", "2"),
        ("limits.messages_burst", "3"),
        ("limits.joins_per_second", "2"),
        ("limits.joins_burst", "3"),
        ("limits.requests_per_second", "2"),
        ("limits.requests_burst", "3"),
    ];
    on_one_and_two_shards(&settings, |gateway| {
        let mut ada = Talker::in_rooms(gateway, "ada", &["lobby"]);
        let mut bob = Talker::open(gateway, "bob");
        exceed(&mut ada, &json!({"op": "say", "room": "lobby", "text": "t"}), 3);
        exceed(&mut bob, &json!({"op": "tell", "user": "bob", "text": "t"}), 3);
        let mut eve = Talker::open(gateway, "eve");
        exceed(&mut eve, &json!({"op": "join", "room": "lobby"}), 3);
        exceed(&mut eve, &json!({"op": "history", "room": "lobby"}), 3);
        assert!(gateway.metric("refused_total", "\"rate\"") >= 4);
    });
}

#[test]
fn too_many_signals_are_refused_and_those_of_a_room_as_well() {
    let signals = [OPEN, ("limits.signals_per_second", "2"), ("limits.signals_burst", "3")];
    let room = [OPEN, ("limits.room_per_second", "2"), ("limits.room_burst", "3")];
    for settings in [signals, room] {
        let gateway = Gateway::start(&settings);
        let mut ada = Talker::in_rooms(&gateway, "ada", &["lobby"]);
        let mut bob = Talker::in_rooms(&gateway, "bob", &["lobby"]);
        for n in 0..10 {
            ada.signal("lobby", json!(n));
        }
        let error = ada.next("error");
        assert_eq!((&error["code"], &error["temporary"], &error["re"]), (&json!(1203), &json!(true), &Value::Null));
        for n in 0..3 {
            assert_eq!(bob.next("signal")["data"], n);
        }
    }
}

#[test]
fn an_address_has_a_rate_of_its_own() {
    let settings = [
        OPEN,
        ("limits.address_messages_per_second", "1"),
        ("limits.address_messages_burst", "4"),
        ("server.shards", "1"),
    ];
    let gateway = Gateway::start(&settings);
    let mut crowd: Vec<Talker> = (0..6).map(|n| Talker::open(&gateway, &format!("u{n}"))).collect();
    let note = |talker: &mut Talker| talker.ask(json!({"op": "tell", "user": "u0", "text": "t"}))["code"].clone();
    let codes: Vec<Value> = crowd.iter_mut().map(note).collect();
    assert_eq!(codes.iter().filter(|code| code.is_null()).count(), 4, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == 1203).count(), 2, "{codes:?}");
}

#[test]
fn a_dry_run_only_counts() {
    let settings =
        [OPEN, ("limits.messages_per_second", "1"), ("limits.messages_burst", "1"), ("limits.dry_run", "true")];
    on_one_and_two_shards(&settings, |gateway| {
        let mut ada = Talker::in_rooms(gateway, "ada", &["lobby"]);
        for n in 1..=10 {
            assert_eq!(ada.say("lobby", "t"), n);
        }
        assert!(gateway.metric("would_refuse_total", "") >= 8);
        assert_eq!(gateway.metric("refused_total", "\"rate\""), 0);
    });
}

#[test]
fn a_session_is_in_so_many_rooms_and_a_server_has_so_many() {
    let settings =
        [OPEN, ("limits.rooms_per_session", "2"), ("rooms.max", "3"), ("limits.members", "2"), ("server.shards", "1")];
    let gateway = Gateway::start(&settings);
    let mut ada = Talker::in_rooms(&gateway, "ada", &["one", "two"]);
    let error = ada.refused(json!({"op": "join", "room": "three"}), 1206);
    assert_eq!(error["temporary"], false);
    ada.join("two");
    ada.ok(json!({"op": "part", "room": "one"}));
    ada.join("three");
    let mut bob = Talker::open(&gateway, "bob");
    bob.refused(json!({"op": "join", "room": "four"}), 1209);
    bob.join("two");
    let mut eve = Talker::open(&gateway, "eve");
    assert_eq!(eve.refused(json!({"op": "join", "room": "two"}), 1207)["temporary"], true);
    bob.ok(json!({"op": "part", "room": "two"}));
    eve.join("two");
}

#[test]
fn who_reads_nothing_is_closed_and_costs_the_others_nothing() {
    let settings = [
        OPEN,
        ("limits.slow_time", "1s"),
        ("limits.signals_per_second", "0"),
        ("limits.room_per_second", "0"),
        ("limits.roster", "0"),
    ];
    on_one_and_two_shards(&settings, |gateway| {
        let mut ada = Talker::in_rooms(gateway, "ada", &["lobby"]);
        let enter = |n| Talker::in_rooms(gateway, &format!("r{n}"), &["lobby"]);
        let mut readers: Vec<Talker> = (0..CROWD).map(enter).collect();
        let mut slow = Talker::in_rooms(gateway, "slow", &["lobby"]);
        let before = gateway.resident_kib();
        let data = "x".repeat(4000);
        let mut sent = 0u64;
        let mut burst = |readers: &mut Vec<Talker>| {
            for _ in 0..BURST {
                ada.peer.say(&json!({"op": "signal", "room": "lobby", "data": {"n": sent, "x": data}}));
                sent += 1;
            }
            for reader in readers {
                for n in sent - BURST..sent {
                    assert_eq!(reader.next("signal")["data"]["n"], n, "the others lose nothing");
                }
            }
            sent
        };
        // The kernels hold some of it, then the outbox does. When that is full, it has a second left.
        while gateway.metric("chokes_total", "") == 0 {
            assert!(burst(&mut readers) < 10_000, "never full");
        }
        let grown = gateway.resident_kib().saturating_sub(before);
        assert!(grown < 16 * 1024, "{grown} KiB");
        burst(&mut readers);
        gateway.wait_for_metric("closes_total", "\"4005\"", 1);
        burst(&mut readers);
        // If it reads at last, it learns why.
        let bye = slow.next("bye");
        assert_eq!(bye["code"], 4005, "{bye}");
        assert_eq!((gateway.metric("closes_total", ""), gateway.metric("chokes_total", "")), (1, 1));
        gateway.wait_for_metric("outbox_bytes", "", 0);
    });
}

/// Members who read, besides the one who doesn't.
const CROWD: usize = 40;
/// Signals at a time; less than what the kernel holds for a reader that is busy.
const BURST: u64 = 15;

/// What a terminal, a log or a page could stumble over.
const HOSTILE: [&str; 8] = [
    "\u{0}\u{1}\u{7}\u{8}\u{b}\u{c}\u{1b}\u{7f}",
    "\u{1b}[2J\u{1b}[31mred\u{1b}]0;title\u{7}",
    "a\nb\r\nc\u{2028}d\u{2029}e",
    "\u{202e}\u{2066}txet\u{2069}\u{200b}\u{feff}",
    "<script>alert(1)</script><img src=x onerror=alert(1)>&amp;\"'`",
    "{\"op\":\"bye\"}\\u0000\\\\",
    "e\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}\u{fffd}\u{10ffff}",
    "'; DROP TABLE message; --",
];

#[test]
fn hostile_text_arrives_as_it_was_and_stays_text_in_log_and_api() {
    on_one_and_two_shards(&[OPEN, ("log.format", "json"), ("log.level", "debug")], |gateway| {
        let mut ada = Talker::in_rooms(gateway, "ada", &["lobby"]);
        let mut bob = Talker::in_rooms(gateway, "bob", &["lobby"]);
        let long = HOSTILE.concat().repeat(100);
        let long: String = long.chars().take(2000).collect();
        for text in HOSTILE.into_iter().chain([&*long]) {
            ada.ok(json!({"op": "say", "room": "lobby", "text": text, "data": {text: [text]}}));
            let heard = bob.next("message");
            assert_eq!((&heard["text"], &heard["data"]), (&json!(text), &json!({text: [text]})));
            ada.tell("bob", text);
            assert_eq!(bob.next("message")["text"], text);
            ada.peer.say(&json!({"op": "signal", "room": "lobby", "data": text, "key": "k"}));
            assert_eq!(bob.next("signal")["data"], text);
            ada.ok(json!({"op": "room", "room": "lobby", "topic": text}));
            assert_eq!(bob.next("notice")["topic"], text);
            let rooms = gateway.get("/api/v1/rooms");
            assert_eq!(rooms.json()["rooms"][0]["topic"], text);
            assert!(!rooms.body.chars().any(|c| c < ' '), "{}", rooms.body);
            let mut peer = Peer::connect(gateway);
            peer.hello(json!({"client": text.chars().take(10).collect::<String>()}));
            for user in HOSTILE {
                bob.refused(json!({"op": "tell", "user": user, "text": "hi"}), 1104);
            }
        }
        let old = bob.ok(json!({"op": "history", "room": "lobby"}))["messages"].clone();
        let texts: Vec<&str> = old.as_array().expect("messages").iter().filter_map(|m| m["text"].as_str()).collect();
        assert_eq!(texts, HOSTILE.into_iter().chain([&*long]).collect::<Vec<_>>());
        let sessions = gateway.get("/api/v1/sessions?limit=100");
        assert!(!sessions.body.chars().any(|c| c < ' '), "{}", sessions.body);
        for line in gateway.log().lines() {
            let parsed: Result<Value, _> = serde_json::from_str(line);
            assert!(parsed.is_ok(), "no line of its own: {line:?}");
            let bad = |c: char| {
                c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c)
            };
            assert!(!line.chars().any(bad), "{line:?}");
        }
    });
}
