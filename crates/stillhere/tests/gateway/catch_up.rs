//! Rooms over real sockets, with real shards and the store between them.

use serde_json::json;

use crate::gateway::Gateway;
use crate::peer::Peer;

#[test]
fn who_joins_with_after_gets_what_it_missed_although_nobody_says_anything_more() {
    let gateway = Gateway::start(&[("auth.mode", "open")]);
    let (mut ada, _) = Peer::v1(&gateway, json!({"user": "ada"}));
    assert_eq!(ada.ask(json!({"op": "join", "room": "tower"}))["op"], "ok");
    for text in ["one", "two", "three"] {
        assert_eq!(ada.ask(json!({"op": "say", "room": "tower", "text": text}))["op"], "ok");
    }
    drop(ada);
    let (mut bob, _) = Peer::v1(&gateway, json!({"user": "bob"}));
    assert_eq!(bob.ask(json!({"op": "join", "room": "tower", "after": 1}))["head"], 3);
    let mut missed = Vec::new();
    while missed.len() < 2 {
        let push = bob.answer();
        if push["op"] == "message" {
            missed.push(push["text"].clone());
        }
    }
    assert_eq!(missed, ["two", "three"]);
}
