//! Resume in the middle of a talk: nothing lost, nothing twice, nobody else let in.

use serde_json::{Value, json};

use crate::admin::Request;
use crate::gateway::{Gateway, Setup};
use crate::peer::{Peer, proof};
use crate::restart::wait_for_commit;
use crate::talker::{OPEN, Talker, on_one_and_two_shards};

#[test]
fn a_session_resumes_after_every_push_and_reply() {
    on_one_and_two_shards(&[OPEN, ("limits.digest", "200ms")], |gateway| {
        let mut ada = Talker::in_rooms(gateway, "ada", &["lobby"]);
        let mut bob = Talker::in_rooms(gateway, "bob", &["lobby"]);
        let mut again = |bob: &mut Talker, after: &str| {
            // The old link hangs, and nothing on the new one is lost.
            let count = bob.count;
            let old = bob.resume(gateway, count);
            assert_eq!(bob.welcome["resumed"], true, "after {after}: {}", bob.welcome);
            assert_eq!(bob.welcome["user"], "bob");
            ada.say("lobby", after);
            assert_eq!(bob.next("message")["text"], after);
            drop(old);
        };
        for request in [
            json!({"op": "who"}),
            json!({"op": "say", "room": "lobby", "text": "hi"}),
            json!({"op": "history", "room": "lobby"}),
            json!({"op": "join", "room": "den"}),
            json!({"op": "part", "room": "den"}),
            json!({"op": "tell", "user": "bob", "text": "note"}),
            json!({"op": "watch", "users": ["ada"]}),
            json!({"op": "read", "room": "lobby", "seq": 1}),
            json!({"op": "block", "user": "bob"}),
            json!({"op": "status", "status": "alive"}),
            json!({"op": "beat"}),
            json!({"op": "nonsense"}),
        ] {
            bob.ask(request.clone());
            again(&mut bob, &format!("the answer to {request}"));
        }
        // Asked for, but the answer was never read.
        bob.peer.say(&json!({"op": "join", "room": "den", "id": 77}));
        again(&mut bob, "no answer");
        bob.peer.say(&json!({"op": "signal", "room": "lobby", "data": 1}));
        again(&mut bob, "a signal of one's own");
    });
}

#[test]
fn a_session_resumes_after_each_kind_of_push() {
    on_one_and_two_shards(&[OPEN, ("limits.digest", "200ms")], |gateway| {
        let mut ada = Talker::in_rooms(gateway, "ada", &["lobby"]);
        let mut bob = Talker::in_rooms(gateway, "bob", &["lobby"]);
        for kind in ["message", "signal", "notice", "presence", "digest"] {
            match kind {
                "message" => drop(ada.tell("bob", "psst")),
                "signal" => ada.signal("lobby", json!(1)),
                "notice" => drop(ada.ok(json!({"op": "room", "room": "lobby", "topic": "tea"}))),
                "presence" => drop(ada.ok(json!({"op": "status", "status": "leave"}))),
                _ => {
                    bob.ok(json!({"op": "status", "status": "leave"}));
                    ada.say("lobby", "for the digest");
                }
            }
            bob.next(kind);
            let count = bob.count;
            let _old = bob.resume(gateway, count);
            assert_eq!(bob.welcome["resumed"], true, "after {kind}: {}", bob.welcome);
            // The link may be on another shard, and what is volatile isn't kept for who is on the way there.
            let asking = std::cell::RefCell::new(&mut ada);
            gateway.wait("bob in the room again", || {
                let roster = asking.borrow_mut().ok(json!({"op": "who", "room": "lobby"}));
                (roster["members"] == 2).then_some(())
            });
        }
        bob.ok(json!({"op": "status", "status": "alive"}));
        ada.say("lobby", "end");
        assert_eq!(bob.texts_to("end"), ["for the digest", "end"]);
    });
}

#[test]
fn who_says_how_much_it_has_gets_the_rest_in_order() {
    on_one_and_two_shards(&[OPEN, ("limits.messages_burst", "1000")], |gateway| {
        let mut ada = Talker::in_rooms(gateway, "ada", &["lobby"]);
        let mut bob = Talker::in_rooms(gateway, "bob", &["lobby"]);
        // Several times, so that links land on one shard and on the other.
        for round in 0..6 {
            let before = bob.count;
            for n in 0..10 {
                ada.say("lobby", &format!("{round} {n}"));
            }
            let last = format!("{round} 9");
            bob.texts_to(&last);
            let all = bob.count - before;
            assert!(all >= 10);
            // It handled some, and all came: half of it again. The rest says more while nobody listens.
            let old = bob.resume(gateway, before + 5);
            assert_eq!(bob.welcome["resumed"], true, "{}", bob.welcome);
            let end = format!("{round} end");
            ada.say("lobby", &end);
            let texts = bob.texts_to(&end);
            let others = usize::try_from(all).expect("few") - 10;
            assert!((6 - others..=6 + others).contains(&texts.len()), "{texts:?}, and {others} of presence");
            let expected: Vec<String> = (0..10).map(|n| format!("{round} {n}")).chain([end.clone()]).collect();
            assert_eq!(texts, expected[expected.len() - texts.len()..]);
            assert_eq!(bob.rest("message"), [] as [Value; 0]);
            drop(old);
        }
    });
}

#[test]
fn what_was_said_while_the_link_was_gone_comes_with_the_new_one() {
    on_one_and_two_shards(&[OPEN], |gateway| {
        let mut ada = Talker::in_rooms(gateway, "ada", &["lobby"]);
        for _ in 0..4 {
            let mut bob = Talker::in_rooms(gateway, "bob", &["lobby"]);
            ada.say("lobby", "heard");
            bob.texts_to("heard");
            // The link is gone for good before anything is said.
            let address = bob.peer.address;
            bob.peer.half_close();
            gateway.wait_for_session(address, |session| session["linked"] == false);
            ada.say("lobby", "missed");
            ada.tell("bob", "missed as well");
            let count = bob.count;
            drop(bob.resume(gateway, count));
            assert_eq!(bob.welcome["resumed"], true, "{}", bob.welcome);
            ada.say("lobby", "live");
            let mut texts = bob.texts_to("live");
            if !texts.contains(&"missed as well".to_owned()) {
                texts.insert(0, bob.next("message")["text"].as_str().expect("a text").to_owned());
            }
            texts.retain(|text| text != "missed as well");
            assert_eq!(texts, ["missed", "live"]);
            bob.acknowledge();
            bob.ok(json!({"op": "bye"}));
        }
    });
}

#[test]
fn a_session_resumes_with_nothing_received_at_all() {
    on_one_and_two_shards(&[OPEN], |gateway| {
        let mut ada = Talker::in_rooms(gateway, "ada", &["lobby"]);
        let mut bob = Talker::in_rooms(gateway, "bob", &["lobby"]);
        let first = bob.welcome.clone();
        ada.say("lobby", "one");
        bob.texts_to("one");
        // The welcome of this one never arrives; the secret before it stays good.
        let mut lost = Peer::connect(gateway);
        let mut hello = proof(&first, 0);
        (hello["op"], hello["v"]) = (json!("hello"), json!(1));
        lost.say(&hello);
        lost.read_frame();
        bob.resume(gateway, 0);
        assert_eq!(bob.welcome["resumed"], true, "{}", bob.welcome);
        assert_eq!(bob.next("message")["text"], "one", "it comes again");
        ada.say("lobby", "two");
        assert_eq!(bob.texts_to("two"), ["two"]);
    });
}

#[test]
fn what_can_not_be_replayed_is_a_gap_and_the_rooms_say_where_they_are() {
    for replay in ["0B", "300B"] {
        let settings = [OPEN, ("limits.replay", replay)];
        on_one_and_two_shards(&settings, |gateway| {
            let mut ada = Talker::in_rooms(gateway, "ada", &["lobby"]);
            let mut bob = Talker::in_rooms(gateway, "bob", &["lobby", "den"]);
            for n in 0..10 {
                ada.say("lobby", &format!("{n} {}", "x".repeat(100)));
            }
            bob.next_where("message", |message| message["seq"] == 10);
            let _old = bob.resume(gateway, 1);
            assert_eq!((&bob.welcome["resumed"], &bob.welcome["reason"]), (&json!(false), &json!("gap")));
            assert_eq!(bob.welcome["rooms"], json!({"den": 0, "lobby": 10}), "{}", bob.welcome);
            bob.ok(json!({"op": "join", "room": "lobby", "after": 8}));
            ada.say("lobby", "end");
            let texts = bob.texts_to("end");
            assert_eq!(texts.len(), 3, "{texts:?}");
            // Who has it all needs no replay.
            let count = bob.count;
            let _old = bob.resume(gateway, count);
            assert_eq!(bob.welcome["resumed"], true, "{}", bob.welcome);
        });
    }
}

#[test]
fn an_old_secret_is_refused_counted_and_ends_nothing() {
    on_one_and_two_shards(&[OPEN], |gateway| {
        let mut ada = Talker::in_rooms(gateway, "ada", &["lobby"]);
        let mut bob = Talker::in_rooms(gateway, "bob", &["lobby"]);
        let stolen = bob.welcome.clone();
        let count = bob.count;
        let _old = bob.resume(gateway, count);
        bob.ok(json!({"op": "who"}));
        let (mut thief, welcome) = Peer::resume(gateway, &stolen);
        assert_eq!(
            (&welcome["resumed"], &welcome["reason"], &welcome["user"]),
            (&json!(false), &json!("refused"), &Value::Null)
        );
        assert_ne!(welcome["session"], stolen["session"]);
        assert_eq!(thief.ask(json!({"op": "say", "room": "lobby", "text": "I am bob"}))["code"], 1103);
        ada.say("lobby", "still here?");
        assert_eq!(bob.next("message")["text"], "still here?");
        gateway.wait_for_metric("refused_total", "stale_secret", 1);
    });
}

#[test]
fn after_a_crash_the_secret_still_says_who_one_is() {
    for shards in ["1", "2"] {
        let gateway = Setup::new().set("server.shards", shards).start();
        let mut ada = Talker::register(&gateway, "ada");
        ada.join("lobby");
        ada.say("lobby", "before");
        let mut bob = Talker::register(&gateway, "bob");
        ada.ok(json!({"op": "bye"}));
        bob.tell("ada", "while you were out");
        let mut ada = Talker::login(&gateway, "ada");
        assert_eq!(ada.next("message")["text"], "while you were out");
        ada.join("lobby");
        wait_for_commit(&gateway);
        let gateway = Setup::new().set("server.shards", shards).scratch(&gateway.kill()).start();
        let _old = ada.resume(&gateway, 0);
        assert_eq!((&ada.welcome["resumed"], &ada.welcome["reason"]), (&json!(false), &json!("gap")));
        assert_eq!(ada.welcome["user"], "ada", "still logged in");
        assert_eq!(ada.next("message")["text"], "while you were out", "it was never acknowledged");
        ada.ok(json!({"op": "join", "room": "lobby", "after": 0}));
        assert_eq!(ada.texts_to("before"), ["before"]);
        assert_eq!(ada.say("lobby", "after"), 2);
        gateway.post("/api/v1/bans", &json!({"user": "ada"})).json();
    }
}

#[test]
fn who_was_disabled_while_away_does_not_come_back_by_its_secret() {
    let gateway = Gateway::start(&[]);
    let ada = Talker::register(&gateway, "ada");
    let welcome = ada.welcome.clone();
    let address = ada.peer.address;
    ada.peer.reset();
    gateway.wait_for_session(address, |session| session["linked"] == false);
    let disable = Request::with("PATCH", "/api/v1/users/ada", "{\"disabled\": true}").token(&gateway.token);
    assert_eq!(disable.send(gateway.admin).status, 200);
    gateway.wait_until("its session to end", || gateway.sessions().is_empty());
    let (mut peer, again) = Peer::resume(&gateway, &welcome);
    assert_eq!((&again["resumed"], &again["user"]), (&json!(false), &Value::Null), "{again}");
    assert_eq!(peer.ask(json!({"op": "join", "room": "lobby"}))["code"], 1103);
}
