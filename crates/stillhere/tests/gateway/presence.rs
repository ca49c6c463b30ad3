//! Who hears of whose presence, and how often.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::talker::{OPEN, Talker, on_one_and_two_shards};

/// The next that is told of a user.
fn told_of(talker: &mut Talker, user: &str) -> Value {
    talker.next_where("presence", |told| told["user"] == user)
}

fn numbers(told: &Value) -> (u64, u64) {
    (told["gen"].as_u64().expect("a gen"), told["ver"].as_u64().expect("a ver"))
}

#[test]
fn members_hear_who_comes_is_away_and_goes_with_cause_and_growing_numbers() {
    on_one_and_two_shards(&[OPEN], |gateway| {
        let mut ada = Talker::in_rooms(gateway, "ada", &["lobby"]);
        let mut bob = Talker::open(gateway, "bob");
        let mut last = (0, 0);
        let mut hears = |ada: &mut Talker, status: &str, cause: &str| {
            let told = told_of(ada, "bob");
            assert_eq!(
                (&told["status"], &told["cause"], &told["room"]),
                (&json!(status), &json!(cause), &json!("lobby")),
                "{told}"
            );
            assert!(numbers(&told) > last, "{told} after {last:?}");
            last = numbers(&told);
        };
        bob.join("lobby");
        hears(&mut ada, "alive", "joined");
        bob.ok(json!({"op": "status", "status": "leave"}));
        hears(&mut ada, "leave", "declared");
        bob.ok(json!({"op": "status", "status": "alive"}));
        let told = told_of(&mut ada, "bob");
        assert_eq!(told["status"], "alive", "{told}");
        bob.ok(json!({"op": "part", "room": "lobby"}));
        let told = told_of(&mut ada, "bob");
        assert_eq!((&told["status"], &told["cause"]), (&json!("close"), &json!("parted")), "{told}");
        let before = numbers(&told);
        bob.join("lobby");
        assert_eq!(told_of(&mut ada, "bob")["cause"], "joined");
        bob.ok(json!({"op": "bye"}));
        let told = told_of(&mut ada, "bob");
        assert_eq!((&told["status"], &told["cause"]), (&json!("close"), &json!("goodbye")), "{told}");
        let mut bob = Talker::in_rooms(gateway, "bob", &["lobby"]);
        let told = told_of(&mut ada, "bob");
        assert!(told["status"] == "alive" && numbers(&told).0 > before.0, "a new gen: {told}");
        assert_eq!(bob.rest("presence").iter().filter(|told| told["user"] == "bob").count(), 0, "not of oneself");
    });
}

#[test]
fn a_dropped_link_is_leave_and_then_close() {
    let settings = [OPEN, ("detector.drop_grace", "200ms"), ("detector.dropped_hold", "1s")];
    on_one_and_two_shards(&settings, |gateway| {
        let mut ada = Talker::in_rooms(gateway, "ada", &["lobby"]);
        let bob = Talker::in_rooms(gateway, "bob", &["lobby"]);
        told_of(&mut ada, "bob");
        bob.peer.reset();
        let told = told_of(&mut ada, "bob");
        assert_eq!((&told["status"], &told["cause"]), (&json!("leave"), &json!("dropped")), "{told}");
        let told = told_of(&mut ada, "bob");
        assert_eq!(told["status"], "close", "{told}");
        assert_eq!(ada.ok(json!({"op": "who", "room": "lobby"}))["members"], 1);
    });
}

#[test]
fn changes_are_told_at_most_once_a_second_and_the_last_one_is_right() {
    on_one_and_two_shards(&[OPEN], |gateway| {
        let mut ada = Talker::in_rooms(gateway, "ada", &["lobby"]);
        let mut bob = Talker::in_rooms(gateway, "bob", &["lobby"]);
        told_of(&mut ada, "bob");
        let began = Instant::now();
        for status in ["leave", "alive"].repeat(20) {
            bob.ok(json!({"op": "status", "status": status}));
        }
        bob.ok(json!({"op": "status", "status": "leave"}));
        let mut count = 0;
        while told_of(&mut ada, "bob")["status"] != "leave"
            || count == 0 && began.elapsed() < Duration::from_millis(900)
        {
            count += 1;
        }
        let limit = began.elapsed().as_secs() + 2;
        assert!(count <= limit, "{count} in {:?}", began.elapsed());
        assert_eq!(ada.ok(json!({"op": "who", "user": "bob"}))["users"][0]["status"], "leave");
    });
}

#[test]
fn who_was_seen_in_a_roster_is_told_to_have_gone_however_short_it_stayed() {
    on_one_and_two_shards(&[OPEN], |gateway| {
        let mut bob = Talker::open(gateway, "bob");
        bob.join("lobby");
        let mut ada = Talker::open(gateway, "ada");
        let joined = ada.join("lobby");
        assert!(joined["users"].to_string().contains("\"bob\""), "{joined}");
        bob.ok(json!({"op": "bye"}));
        let told = told_of(&mut ada, "bob");
        let told = if told["status"] == "close" { told } else { told_of(&mut ada, "bob") };
        assert_eq!((&told["status"], &told["room"]), (&json!("close"), &json!("lobby")), "{told}");
    });
}

#[test]
fn the_best_of_a_users_sessions_counts() {
    on_one_and_two_shards(&[OPEN], |gateway| {
        let mut ada = Talker::in_rooms(gateway, "ada", &["lobby"]);
        let mut bobs = [Talker::in_rooms(gateway, "bob", &["lobby"]), Talker::in_rooms(gateway, "bob", &["lobby"])];
        told_of(&mut ada, "bob");
        bobs[0].ok(json!({"op": "status", "status": "leave"}));
        assert_eq!(ada.ok(json!({"op": "who", "room": "lobby"}))["alive"], 2);
        bobs[1].ok(json!({"op": "status", "status": "leave"}));
        let told = told_of(&mut ada, "bob");
        assert_eq!((&told["status"], &told["cause"]), (&json!("leave"), &json!("declared")), "{told}");
    });
}

#[test]
fn a_watcher_hears_of_those_who_allow_it_or_share_a_room_only() {
    on_one_and_two_shards(&[OPEN], |gateway| {
        let mut ada = Talker::open(gateway, "ada");
        let names = ["friend", "neighbour", "stranger", "enemy"];
        let mut others = names.map(|name| Talker::open(gateway, name));
        others[0].ok(json!({"op": "allow", "user": "ada"}));
        others[1].join("street");
        ada.join("street");
        others[3].ok(json!({"op": "block", "user": "ada"}));
        let shown = ada.ok(json!({"op": "watch", "users": ["friend", "neighbour", "stranger", "enemy", "nobody"]}));
        let mut users: Vec<_> =
            shown["users"].as_array().expect("users").iter().map(|user| user["user"].clone()).collect();
        users.sort_by_key(Value::to_string);
        assert_eq!(users, ["friend", "neighbour"], "{shown}");
        for user in ["stranger", "enemy", "nobody"] {
            assert_eq!(ada.ok(json!({"op": "who", "user": user}))["users"], json!([]), "{user}");
        }
        for other in &mut others {
            other.ok(json!({"op": "status", "status": "leave"}));
        }
        let told = ada.next_where("presence", |told| told["user"] == "friend" && told["status"] == "leave");
        assert_eq!((&told["room"], &told["cause"]), (&Value::Null, &json!("declared")), "{told}");
        ada.next_where("presence", |told| told["user"] == "neighbour" && told["status"] == "leave");
        ada.ok(json!({"op": "unwatch", "users": ["friend"]}));
        for other in &mut others {
            other.ok(json!({"op": "bye"}));
        }
        ada.next_where("presence", |told| told["user"] == "neighbour" && told["status"] == "close");
        let heard = ada.rest("presence");
        assert!(heard.iter().all(|told| told["user"] == "neighbour"), "{heard:?}");
    });
}
