//! Every op of chat said too early, without a field, with a wrong one, too long, and about what isn't there: an error
//! with its code, and the link lives.

use serde_json::{Map, Value, json};

use crate::gateway::Gateway;
use crate::peer::Peer;
use crate::talker::{OPEN, Talker, on_one_and_two_shards};

/// An op with all that it requires, as it would be granted; then the codes when its room and its user aren't there.
struct Row {
    op: Value,
    /// Fields that it may have, with a value of the wrong type or out of range.
    wrong: Value,
    /// Without membership of the room, or with a room that nobody has made.
    not_a_member: Option<u16>,
    unknown_room: Option<u16>,
    unknown_user: Option<u16>,
}

const NAME: &str = "name";

/// The table. `1104` is what a name that can't be one gets.
fn rows() -> Vec<Row> {
    let row = |op: Value, wrong: Value, not_a_member: u16, unknown_room: u16, unknown_user: u16| {
        let code = |code: u16| Some(code).filter(|code| *code > 0);
        let (not_a_member, unknown_room, unknown_user) = (code(not_a_member), code(unknown_room), code(unknown_user));
        Row { op, wrong, not_a_member, unknown_room, unknown_user }
    };
    let (room, user) = ("lobby", "bob");
    vec![
        row(json!({"op": "join", "room": room}), json!({"room": NAME, "after": -1, "at": [1]}), 0, 0, 0),
        row(json!({"op": "part", "room": room}), json!({"room": NAME}), 1301, 1301, 0),
        row(json!({"op": "say", "room": room, "text": "t"}), json!({"room": NAME, "text": 1, "mid": 2}), 1301, 1301, 0),
        row(json!({"op": "tell", "user": user, "text": "t"}), json!({"user": NAME, "text": [], "mid": {}}), 0, 0, 1401),
        row(
            json!({"op": "signal", "room": room, "data": 1}),
            json!({"room": NAME, "key": 1, "at": "x"}),
            1301,
            1301,
            0,
        ),
        row(
            json!({"op": "history", "room": room}),
            json!({"room": NAME, "before": "x", "after": -1, "limit": 1.5, "query": 1, "user": "both"}),
            1301,
            1301,
            0,
        ),
        row(json!({"op": "who", "room": room}), json!({"room": NAME, "user": "both"}), 1301, 1301, 0),
        row(json!({"op": "watch", "users": [user]}), json!({"users": "bob"}), 0, 0, 0),
        row(json!({"op": "unwatch", "users": [user]}), json!({"users": [1]}), 0, 0, 0),
        row(json!({"op": "read", "room": room, "seq": 1}), json!({"room": NAME, "seq": "1"}), 1301, 1301, 0),
        row(json!({"op": "read", "user": user, "seq": 1}), json!({"user": NAME, "seq": -1}), 0, 0, 1401),
        row(
            json!({"op": "room", "room": room}),
            json!({"room": NAME, "topic": 1, "public": "yes", "radius": -1}),
            1302,
            1402,
            0,
        ),
        row(
            json!({"op": "role", "room": room, "user": user, "role": "member"}),
            json!({"room": NAME, "user": NAME, "role": "king"}),
            1302,
            1402,
            1401,
        ),
        row(json!({"op": "invite", "room": room, "user": user}), json!({"room": NAME, "user": NAME}), 1302, 1402, 1401),
        row(
            json!({"op": "mute", "room": room, "user": user, "for_ms": 0}),
            json!({"room": NAME, "user": NAME, "for_ms": "long"}),
            1302,
            1402,
            1401,
        ),
        row(
            json!({"op": "remove", "room": room, "user": user}),
            json!({"room": NAME, "user": NAME, "for_ms": -1}),
            1302,
            1402,
            1401,
        ),
        row(json!({"op": "delete", "room": room, "seq": 1}), json!({"room": NAME, "seq": true}), 1302, 1402, 0),
        row(json!({"op": "delete", "user": user, "seq": 1}), json!({"user": NAME, "seq": true}), 0, 0, 1403),
        row(json!({"op": "block", "user": user}), json!({"user": NAME}), 0, 0, 1401),
        row(json!({"op": "unblock", "user": user}), json!({"user": NAME}), 0, 0, 1401),
        row(json!({"op": "allow", "user": user}), json!({"user": NAME}), 0, 0, 1401),
        row(json!({"op": "disallow", "user": user}), json!({"user": NAME}), 0, 0, 1401),
    ]
}

/// The ops by which one becomes a user.
fn doors() -> Vec<(Value, Value)> {
    vec![
        (
            json!({"op": "register", "user": "a", "password": "p"}),
            json!({"user": NAME, "password": 1, "remember": "yes"}),
        ),
        (json!({"op": "login", "user": "a", "password": "p"}), json!({"user": NAME, "password": [], "remember": 1})),
        (json!({"op": "token", "token": "t"}), json!({"token": 1})),
    ]
}

fn with(op: &Value, key: &str, value: Value) -> Value {
    let mut op = op.clone();
    op[key] = value;
    op
}

fn without(op: &Value, key: &str) -> Value {
    let fields = op.as_object().expect("an object");
    fields
        .iter()
        .filter(|(name, _)| *name != key)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect::<Map<_, _>>()
        .into()
}

fn required(op: &Value) -> Vec<String> {
    op.as_object().expect("an object").keys().filter(|key| *key != "op").cloned().collect()
}

/// A value that no field of this name may have, with its code.
fn wrong_ones(fields: &Value) -> Vec<(String, Value, u16)> {
    let mut all = Vec::new();
    for (key, value) in fields.as_object().expect("an object") {
        if value == NAME {
            all.extend([json!(1), json!([]), json!({})].map(|value| (key.clone(), value, 1003)));
            let names = ["a b", "\u{202e}x", "x\u{7}", "@x", "<x>", &"x".repeat(200)];
            all.extend(names.map(|name| (key.clone(), json!(name), 1104)));
        } else {
            all.push((key.clone(), value.clone(), 1003));
        }
    }
    all
}

#[track_caller]
fn check(peer: &mut Peer, request: &Value, code: u16) {
    let mut asked = request.clone();
    asked["id"] = json!("row");
    peer.say(&asked);
    let answer = loop {
        let answer = peer.answer();
        if answer["re"] == "row" {
            break answer;
        }
    };
    let shown: String = request.to_string().chars().take(200).collect();
    assert_eq!((&answer["op"], &answer["code"]), (&json!("error"), &json!(code)), "{shown}: {answer}");
    assert!(answer["message"].as_str().is_some_and(|message| message.len() > 5), "{shown}: {answer}");
}

#[test]
fn ops_before_hello_and_before_login_are_refused() {
    let gateway = Gateway::start(&[]);
    let mut early = Peer::connect(&gateway);
    let (mut nobody, _) = Peer::v1(&gateway, json!({}));
    for row in rows() {
        check(&mut early, &row.op, 1004);
        check(&mut nobody, &row.op, 1103);
    }
    check(&mut nobody, &json!({"op": "password", "password": "p", "new": "n"}), 1103);
    for (op, wrong) in doors() {
        check(&mut early, &op, 1004);
        for key in required(&op) {
            check(&mut nobody, &without(&op, &key), 1002);
        }
        for (key, value, code) in wrong_ones(&wrong) {
            check(&mut nobody, &with(&op, &key, value), code);
        }
    }
    check(&mut nobody, &json!({"op": "login", "user": "a", "password": "x".repeat(257)}), 1003);
    check(&mut nobody, &json!({"op": "token", "token": "x".repeat(129)}), 1003);
    early.hello(json!({}));
    early.beat(1);
    nobody.beat(1);
    assert_eq!(gateway.metric("closes_total", ""), 0);
}

#[test]
fn ops_with_missing_wrong_or_long_fields_are_refused() {
    let settings = [
        OPEN,
        ("limits.requests_per_second", "0"),
        ("limits.messages_per_second", "0"),
        ("limits.joins_per_second", "0"),
    ];
    on_one_and_two_shards(&settings, |gateway| {
        let mut ada = Talker::in_rooms(gateway, "ada", &["lobby"]);
        let mut bob = Talker::open(gateway, "bob");
        bob.tell("ada", "so that there is something to read");
        for row in rows() {
            for key in required(&row.op) {
                // These two may be asked of nobody in particular.
                if row.op["op"] == "who" && key == "room" {
                    continue;
                }
                check(&mut ada.peer, &without(&row.op, &key), 1002);
                if key != "data" && key != "users" {
                    check(&mut ada.peer, &with(&row.op, &key, Value::Null), 1002);
                }
            }
            for (key, value, code) in wrong_ones(&row.wrong) {
                check(&mut ada.peer, &with(&row.op, &key, value), code);
            }
        }
        let long = "x".repeat(8 * 1024 + 1);
        for request in [
            json!({"op": "say", "room": "lobby", "text": long}),
            json!({"op": "say", "room": "lobby", "text": "t", "data": long}),
            json!({"op": "tell", "user": "bob", "text": long}),
            json!({"op": "tell", "user": "bob", "text": "t", "data": long}),
            json!({"op": "signal", "room": "lobby", "data": long}),
            json!({"op": "room", "room": "lobby", "topic": long}),
        ] {
            check(&mut ada.peer, &request, 1205);
        }
        // What isn't for people is out of range.
        for request in [
            json!({"op": "say", "room": "lobby", "text": "t", "mid": "m".repeat(65)}),
            json!({"op": "tell", "user": "bob", "text": "t", "mid": "m".repeat(65)}),
            json!({"op": "signal", "room": "lobby", "data": 1, "key": "k".repeat(65)}),
        ] {
            check(&mut ada.peer, &request, 1003);
        }
        let crowd: Vec<String> = (0..101).map(|n| format!("u{n}")).collect();
        check(&mut ada.peer, &json!({"op": "watch", "users": crowd}), 1003);
        check(&mut ada.peer, &json!({"op": "hello", "v": 1}), 1005);
        ada.peer.beat(1);
        assert_eq!(gateway.metric("closes_total", ""), 0);
        // As long as it may be.
        ada.say("lobby", &long[1..]);
    });
}

#[test]
fn ops_about_what_is_not_there_or_not_ones_own_are_refused() {
    let settings = [OPEN, ("limits.requests_per_second", "0")];
    on_one_and_two_shards(&settings, |gateway| {
        let mut ada = Talker::in_rooms(gateway, "ada", &["lobby"]);
        let mut eve = Talker::open(gateway, "eve");
        Talker::open(gateway, "bob").ok(json!({"op": "bye"}));
        ada.say("lobby", "one");
        for Row { op, not_a_member, unknown_room, unknown_user, .. } in rows() {
            if let Some(code) = not_a_member {
                check(&mut eve.peer, &op, code);
            }
            if let Some(code) = unknown_room {
                check(&mut ada.peer, &with(&op, "room", json!("nowhere")), code);
            }
            if let Some(code) = unknown_user {
                check(&mut ada.peer, &with(&op, "user", json!("nobody")), code);
            }
        }
        ada.peer.beat(1);
        eve.peer.beat(1);
        assert_eq!(gateway.metric("closes_total", ""), 1, "only the goodbye");
    });
}
