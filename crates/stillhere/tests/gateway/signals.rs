//! Delivery that follows presence: signals at once to those who are alive, digests to those on leave, areas.

use serde_json::{Value, json};

use crate::talker::{OPEN, Talker, on_one_and_two_shards};

const SOON: [(&str, &str); 2] = [OPEN, ("limits.digest", "300ms")];

fn go_on_leave(talker: &mut Talker) {
    talker.ok(json!({"op": "status", "status": "leave"}));
}

fn come_back(talker: &mut Talker) {
    talker.ok(json!({"op": "status", "status": "alive"}));
}

#[test]
fn who_is_alive_gets_every_signal_in_order_and_never_its_own() {
    on_one_and_two_shards(&[OPEN], |gateway| {
        let mut ada = Talker::in_rooms(gateway, "ada", &["lobby"]);
        let mut other_ada = Talker::in_rooms(gateway, "ada", &["lobby"]);
        let mut bobs: Vec<Talker> = (0..3).map(|n| Talker::in_rooms(gateway, &format!("bob{n}"), &["lobby"])).collect();
        for n in 0..100 {
            ada.peer.say(&json!({"op": "signal", "room": "lobby", "data": {"n": n}, "key": "k"}));
        }
        for talker in bobs.iter_mut().chain([&mut other_ada]) {
            for n in 0..100 {
                let heard = talker.next("signal");
                let expected = json!({"op": "signal", "room": "lobby", "from": "ada", "key": "k", "data": {"n": n}});
                assert_eq!(heard, expected);
            }
        }
        assert_eq!(ada.rest("signal"), [] as [Value; 0]);
        assert_eq!(ada.ok(json!({"op": "history", "room": "lobby"}))["messages"], json!([]), "volatile");
    });
}

#[test]
fn who_is_on_leave_gets_digests_and_then_each_message_once_in_order() {
    on_one_and_two_shards(&SOON, |gateway| {
        let mut ada = Talker::in_rooms(gateway, "ada", &["lobby", "den"]);
        let mut bob = Talker::in_rooms(gateway, "bob", &["lobby", "den"]);
        ada.say("lobby", "before");
        assert_eq!(bob.texts_to("before"), ["before"]);
        go_on_leave(&mut bob);
        let long = "x".repeat(500);
        for n in 1..=5 {
            ada.say("lobby", &format!("{n}{long}"));
            for key in ["position", "mood"] {
                ada.peer.say(&json!({"op": "signal", "room": "lobby", "data": n, "key": key}));
            }
        }
        ada.say("den", "elsewhere");
        ada.tell("bob", "for your eyes");
        assert_eq!(bob.next("message")["text"], "for your eyes", "direct messages pass at once");
        let (mut count, mut head, mut den) = (0, 0, 0);
        let mut latest = std::collections::BTreeMap::new();
        let mut previews = Vec::new();
        while head < 6 || den < 1 || latest.values().any(|data| *data != 5) || latest.len() < 2 {
            let digest = bob.next("digest");
            for room in digest["rooms"].as_array().expect("rooms") {
                if room["room"] == "den" {
                    den += room["count"].as_u64().expect("a count");
                    continue;
                }
                count += room["count"].as_u64().expect("a count");
                head = room["head"].as_u64().expect("a head");
                previews.extend(room["previews"].as_array().expect("previews").clone());
                for signal in room["signals"].as_array().expect("signals") {
                    assert_eq!(signal["from"], "ada");
                    latest.insert(signal["key"].to_string(), signal["data"].clone());
                }
            }
        }
        assert_eq!((count, head, den), (5, 6, 1));
        let last = previews.last().expect("a preview");
        assert_eq!((&last["seq"], &last["from"]), (&json!(6), &json!("ada")));
        assert!(last["text"].as_str().is_some_and(|text| text.starts_with('5') && text.len() <= 80), "{last}");
        assert_eq!((bob.rest("message"), bob.rest("signal")), (vec![], vec![]));

        come_back(&mut bob);
        ada.say("lobby", "after");
        let texts: Vec<String> = bob.texts_to("after");
        let in_lobby: Vec<&str> = texts.iter().map(String::as_str).filter(|text| *text != "elsewhere").collect();
        let firsts: Vec<&str> = in_lobby.iter().map(|text| &text[..1]).collect();
        assert_eq!(firsts, ["1", "2", "3", "4", "5", "a"]);
        if !texts.contains(&"elsewhere".to_owned()) {
            assert_eq!(bob.next("message")["text"], "elsewhere");
        }
        bob.ok(json!({"op": "who"}));
        assert_eq!(bob.rest("message"), [] as [Value; 0], "each once");
    });
}

#[test]
fn a_digest_comes_once_a_period_and_saves_bytes() {
    on_one_and_two_shards(&SOON, |gateway| {
        let mut ada = Talker::in_rooms(gateway, "ada", &["lobby"]);
        let mut bobs: Vec<Talker> = (0..3).map(|n| Talker::in_rooms(gateway, &format!("bob{n}"), &["lobby"])).collect();
        bobs.iter_mut().for_each(go_on_leave);
        let data = "x".repeat(200);
        for n in 0..100 {
            ada.peer.say(&json!({"op": "signal", "room": "lobby", "data": {"n": n, "x": data}, "key": "k"}));
        }
        ada.ok(json!({"op": "who"}));
        for bob in &mut bobs {
            let mut digests = 0;
            loop {
                let digest = bob.next("digest");
                digests += 1;
                let room = &digest["rooms"][0];
                assert!(room["signals"].as_array().expect("signals").len() <= 1, "latest per sender and key: {digest}");
                if room["signals"][0]["data"]["n"] == 99 {
                    break;
                }
            }
            assert!(digests <= 5, "{digests} digests for what came within a moment");
        }
        let saved = gateway.metric("digest_saved_bytes_total", "");
        assert!(saved > 3 * 80 * 200, "{saved} of some 3 x 100 x 270 bytes");
    });
}

#[test]
fn a_quiet_room_has_no_digests() {
    on_one_and_two_shards(&[OPEN, ("limits.digest", "100ms")], |gateway| {
        let mut bob = Talker::in_rooms(gateway, "bob", &["lobby"]);
        go_on_leave(&mut bob);
        bob.peer.expect_quiet(std::time::Duration::from_millis(500));
    });
}

#[test]
fn in_an_area_a_signal_reaches_those_within_its_radius() {
    on_one_and_two_shards(&SOON, |gateway| {
        let mut gm = Talker::in_rooms(gateway, "gm", &["plain"]);
        gm.ok(json!({"op": "room", "room": "plain", "radius": 10.0}));
        gm.next("notice");
        let enter = |name: &str, at: Value| {
            let mut talker = Talker::open(gateway, name);
            let joined = talker.ok(json!({"op": "join", "room": "plain", "at": at}));
            assert_eq!(joined["radius"], 10.0, "{joined}");
            talker
        };
        let mut ada = enter("ada", json!([0, 0]));
        let mut near = enter("near", json!([6, 8]));
        let mut far = enter("far", json!([6, 8.1]));
        let mut away = enter("away", json!([-3, 4]));
        let mut nowhere = Talker::in_rooms(gateway, "nowhere", &["plain"]);
        nowhere.refused(json!({"op": "signal", "room": "plain", "data": 0}), 1002);
        go_on_leave(&mut away);
        let step = |talker: &mut Talker, at: Value, data: u64| {
            talker.peer.say(&json!({"op": "signal", "room": "plain", "data": data, "at": at, "key": "p"}));
        };
        step(&mut ada, json!([0, 0]), 1);
        let heard = near.next("signal");
        assert_eq!((&heard["data"], &heard["at"]), (&json!(1), &json!([0.0, 0.0])), "{heard}");
        let digest = away.next_where("digest", |digest| digest["rooms"][0]["signals"] != json!([]));
        assert_eq!(digest["rooms"][0]["signals"][0]["data"], 1, "{digest}");
        // Who moves is heard from where it is now; who says no place is where it was.
        step(&mut ada, json!([1, 0]), 2);
        ada.signal("plain", json!(3));
        assert_eq!(far.next("signal")["data"], 2);
        assert_eq!(far.next("signal")["data"], 3);
        step(&mut far, json!([1000, 1000]), 4);
        ada.signal("plain", json!(5));
        assert_eq!(near.next_where("signal", |heard| heard["from"] == "ada" && heard["data"] == 5)["data"], 5);
        ada.say("plain", "messages reach all");
        for talker in [&mut near, &mut far, &mut nowhere] {
            talker.next("message");
        }
        assert!(far.rest("signal").iter().all(|heard| heard["data"] != 5), "it has gone");
        assert_eq!(nowhere.rest("signal"), [] as [Value; 0]);
        for at in [json!([1]), json!("here"), json!([1, 2, 3]), json!([1e10, 0])] {
            ada.refused(json!({"op": "signal", "room": "plain", "data": 1, "at": at}), 1003);
        }
    });
}
