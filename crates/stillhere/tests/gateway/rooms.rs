//! Rooms and direct messages: order, what is kept, who may do what.

use std::rc::Rc;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::gateway::{Gateway, PATIENCE, Setup};
use crate::talker::{OPEN, Talker, on_one_and_two_shards};

fn seqs(messages: &Value) -> Vec<u64> {
    let messages = messages.as_array().expect("messages");
    messages.iter().map(|message| message["seq"].as_u64().expect("a seq")).collect()
}

#[test]
fn a_room_has_one_order_and_nobody_hears_its_own_session() {
    on_one_and_two_shards(&[OPEN], |gateway| {
        let mut ada = Talker::in_rooms(gateway, "ada", &["lobby"]);
        let mut other_ada = Talker::in_rooms(gateway, "ada", &["lobby"]);
        let mut bob = Talker::in_rooms(gateway, "bob", &["lobby"]);
        let mut reader = Talker::in_rooms(gateway, "eve", &["lobby"]);
        for round in 0..10 {
            for talker in [&mut ada, &mut bob] {
                let request = json!({"op": "say", "room": "lobby", "text": round.to_string(), "id": 1000 + round});
                talker.peer.say(&request);
            }
            assert!(ada.answer(1000 + round)["seq"].is_u64());
            assert!(bob.answer(1000 + round)["seq"].is_u64());
        }
        bob.say("lobby", "end");
        let heard = |talker: &mut Talker, count: usize| -> Vec<(Value, Value, Value)> {
            let next = |_| talker.next("message");
            (0..count).map(next).map(|m| (m["seq"].clone(), m["from"].clone(), m["text"].clone())).collect()
        };
        let all = heard(&mut reader, 21);
        assert_eq!(
            all.iter().map(|(seq, ..)| seq.as_u64()).collect::<Vec<_>>(),
            (1..=21).map(Some).collect::<Vec<_>>()
        );
        assert_eq!(all[20].2, "end");
        assert_eq!(heard(&mut other_ada, 21), all, "the user's other session hears it all");
        let without = |user: &str| all.iter().filter(|(_, from, _)| from != user).cloned().collect::<Vec<_>>();
        assert_eq!(heard(&mut ada, 11), without("ada"));
        assert_eq!(heard(&mut bob, 10), without("bob"));
        for talker in [&mut ada, &mut bob, &mut reader] {
            assert_eq!(talker.rest("message"), [] as [Value; 0]);
        }
    });
}

#[test]
fn the_same_mid_is_the_same_message_and_another_text_an_error() {
    on_one_and_two_shards(&[OPEN], |gateway| {
        let mut reader = Talker::in_rooms(gateway, "eve", &["lobby"]);
        let mut ada = Talker::in_rooms(gateway, "ada", &["lobby"]);
        let say = json!({"op": "say", "room": "lobby", "text": "once", "data": {"n": 1}, "mid": "m1"});
        let first = ada.ok(say.clone());
        // From another session, after a lost answer.
        let mut again = Talker::in_rooms(gateway, "ada", &["lobby"]);
        for talker in [&mut ada, &mut again] {
            let same = talker.ok(say.clone());
            assert_eq!((&same["seq"], &same["time_ms"]), (&first["seq"], &first["time_ms"]));
            talker.refused(json!({"op": "say", "room": "lobby", "text": "twice", "mid": "m1"}), 1308);
        }
        reader.ok(json!({"op": "say", "room": "lobby", "text": "by another", "mid": "m1"}));
        let told = ada.ok(json!({"op": "tell", "user": "eve", "text": "psst", "mid": "m1"}));
        assert_eq!(ada.ok(json!({"op": "tell", "user": "eve", "text": "psst", "mid": "m1"}))["seq"], told["seq"]);
        ada.refused(json!({"op": "tell", "user": "eve", "text": "pssst", "mid": "m1"}), 1308);
        ada.say("lobby", "end");
        let heard = reader.next("message");
        assert_eq!((&heard["mid"], &heard["data"]), (&json!("m1"), &json!({"n": 1})), "{heard}");
        let rest: Vec<Value> = (0..2).map(|_| reader.next("message")["text"].clone()).collect();
        assert!(rest.contains(&json!("psst")) && rest.contains(&json!("end")), "{rest:?}");
        assert_eq!(reader.rest("message"), [] as [Value; 0]);
        assert_eq!(seqs(&reader.ok(json!({"op": "history", "room": "lobby"}))["messages"]), [1, 2, 3]);
    });
}

#[test]
fn who_joins_with_after_gets_what_it_missed_in_order() {
    on_one_and_two_shards(&[OPEN, ("limits.messages_burst", "1000")], |gateway| {
        let mut ada = Talker::in_rooms(gateway, "ada", &["lobby"]);
        for n in 1..=150 {
            ada.peer.say(&json!({"op": "say", "room": "lobby", "text": n.to_string(), "id": 1000 + n}));
            if n % 30 == 0 {
                ada.answer(1000 + n);
                assert_eq!(ada.rest("error"), [] as [Value; 0]);
            }
        }
        let mut bob = Talker::open(gateway, "bob");
        let joined = bob.ok(json!({"op": "join", "room": "lobby", "after": 10}));
        assert_eq!(
            (&joined["head"], &joined["room"], &joined["role"]),
            (&json!(150), &json!("lobby"), &json!("guest"))
        );
        ada.say("lobby", "live");
        let texts = bob.texts_to("live");
        let expected: Vec<String> = (11..=150).map(|n: u64| n.to_string()).chain(["live".to_owned()]).collect();
        assert_eq!(texts, expected);
        // Joining again brings it again from there, and nothing else twice.
        bob.ok(json!({"op": "join", "room": "lobby", "after": 149}));
        assert_eq!(bob.texts_to("live"), ["150", "live"]);
        bob.ok(json!({"op": "join", "room": "lobby"}));
        ada.say("lobby", "end");
        assert_eq!(bob.texts_to("end"), ["end"]);
    });
}

#[test]
fn a_message_to_who_is_away_waits_until_it_was_handled() {
    let scratch = {
        let mut gateway = Gateway::start(&[OPEN]);
        let mut ada = Talker::open(&gateway, "ada");
        ada.refused(json!({"op": "tell", "user": "bob", "text": "who?"}), 1401);
        let mut bob = Talker::open(&gateway, "bob");
        bob.ok(json!({"op": "bye"}));
        assert_eq!((ada.tell("bob", "one"), ada.tell("bob", "two")), (1, 2));
        let mut bob = Talker::open(&gateway, "bob");
        assert_eq!(bob.texts_to("two"), ["one", "two"]);
        // It comes again to who didn't say that it was handled.
        let mut again = Talker::open(&gateway, "bob");
        assert_eq!(again.texts_to("two"), ["one", "two"]);
        again.count = 1;
        again.acknowledge();
        let mut rest = Talker::open(&gateway, "bob");
        assert_eq!(rest.texts_to("two"), ["two"]);
        rest.acknowledge();
        ada.tell("bob", "three");
        assert_eq!(rest.next("message")["text"], "three");
        // A crash may forget the newest marks, and repeat; a clean end doesn't.
        gateway.signal(Signal::TERM);
        drop((ada, bob, again, rest));
        assert!(gateway.ended_within(PATIENCE).success());
        Rc::clone(&gateway.scratch)
    };
    let gateway = Setup::new().set_all(&[OPEN]).scratch(&scratch).start();
    let mut bob = Talker::open(&gateway, "bob");
    assert_eq!(bob.texts_to("three"), ["three"], "what was handled stays so, what wasn't comes again");
    bob.acknowledge();
    let mut bob = Talker::open(&gateway, "bob");
    assert_eq!(bob.rest("message"), [] as [Value; 0]);
}

#[test]
fn both_ends_of_a_conversation_see_it_with_one_order() {
    on_one_and_two_shards(&[OPEN], |gateway| {
        let mut ada = Talker::open(gateway, "ada");
        let mut other_ada = Talker::open(gateway, "ada");
        let mut bob = Talker::open(gateway, "bob");
        assert_eq!((ada.tell("bob", "hi"), bob.tell("ada", "hi back"), ada.tell("bob", "bye")), (1, 2, 3));
        let all: Vec<Value> = (0..3).map(|_| other_ada.next("message")).collect();
        let text = |m: &Value| (m["seq"].clone(), m["from"].clone(), m["to"].clone(), m["text"].clone());
        let expected = [(1, "ada", "bob", "hi"), (2, "bob", "ada", "hi back"), (3, "ada", "bob", "bye")];
        let expected = expected.map(|(seq, from, to, text)| (json!(seq), json!(from), json!(to), json!(text)));
        assert_eq!(all.iter().map(text).collect::<Vec<_>>(), expected);
        assert_eq!(ada.texts_to("hi back"), ["hi back"], "no echo");
        assert_eq!(bob.texts_to("bye"), ["hi", "bye"]);
        for (talker, with) in [(&mut ada, "bob"), (&mut bob, "ada")] {
            let old = talker.ok(json!({"op": "history", "user": with}));
            let old = old["messages"].as_array().expect("messages");
            let of = |m: &Value| (m["seq"].clone(), m["from"].clone(), m["text"].clone());
            let expected = all.iter().map(of).collect::<Vec<_>>();
            assert_eq!(old.iter().map(of).collect::<Vec<_>>(), expected);
        }
        assert_eq!(ada.tell("ada", "a note to myself"), 1);
        assert_eq!(other_ada.next("message")["text"], "a note to myself");
        assert_eq!(ada.rest("message"), [] as [Value; 0]);
    });
}

#[test]
fn history_is_found_by_seq_limit_and_words() {
    on_one_and_two_shards(&[OPEN, ("limits.messages_burst", "1000")], |gateway| {
        let mut ada = Talker::in_rooms(gateway, "ada", &["lobby"]);
        for n in 1..=210 {
            let text = match n {
                7 => "今天天气很好".to_owned(),
                70 => "the Quick brown fox".to_owned(),
                _ => format!("number {n}"),
            };
            ada.peer.say(&json!({"op": "say", "room": "lobby", "text": text, "id": 1000 + n}));
        }
        ada.answer(1210);
        let mut history = |fields: Value| {
            let mut request = json!({"op": "history", "room": "lobby"});
            request.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
            let answer = ada.ok(request);
            (seqs(&answer["messages"]), answer["more"].clone())
        };
        assert_eq!(history(json!({})), ((161..=210).collect(), json!(true)));
        assert_eq!(history(json!({"before": 4})).0, [1, 2, 3]);
        assert_eq!(history(json!({"after": 207})).0, [208, 209, 210]);
        assert_eq!(history(json!({"after": 5, "before": 9})).0, [6, 7, 8]);
        assert_eq!(history(json!({"after": 5, "limit": 2})).0.len(), 2);
        assert_eq!(history(json!({"before": 50, "limit": 3})).0, [47, 48, 49]);
        assert_eq!(history(json!({"limit": 100_000})).0.len(), 200, "the server's own limit");
        assert_eq!(history(json!({"after": 210})).0, [] as [u64; 0]);
        // What was just said is found as well, and one Chinese character is enough.
        for (query, found) in
            [("天", vec![7]), ("天气", vec![7]), ("很好", vec![7]), ("quick", vec![70]), ("BROWN FOX", vec![70])]
        {
            assert_eq!(history(json!({"query": query})).0, found, "{query}");
        }
        assert_eq!(history(json!({"query": "nowhere to be found"})).0, [] as [u64; 0]);
        assert_eq!(history(json!({"query": "\" OR 1=1 --"})).0, [] as [u64; 0]);
        let mut bob = Talker::open(gateway, "bob");
        bob.refused(json!({"op": "history", "room": "lobby"}), 1301);
        bob.refused(json!({"op": "history", "room": "nowhere"}), 1301);
    });
}

#[test]
fn read_marks_stand_in_the_history() {
    on_one_and_two_shards(&[OPEN], |gateway| {
        let mut ada = Talker::in_rooms(gateway, "ada", &["lobby"]);
        let mut bob = Talker::in_rooms(gateway, "bob", &["lobby"]);
        ada.say("lobby", "one");
        ada.say("lobby", "two");
        bob.ok(json!({"op": "read", "room": "lobby", "seq": 2}));
        bob.ok(json!({"op": "read", "room": "lobby", "seq": 1}));
        let read = ada.ok(json!({"op": "history", "room": "lobby"}))["read"].clone();
        assert_eq!(read["bob"], 2, "a mark doesn't go back: {read}");
        ada.tell("bob", "hi");
        bob.ok(json!({"op": "read", "user": "ada", "seq": 1}));
        assert_eq!(ada.ok(json!({"op": "history", "user": "bob"}))["read"]["bob"], 1);
    });
}

#[test]
fn a_roster_names_users_up_to_a_size_and_counts_beyond() {
    on_one_and_two_shards(&[OPEN, ("limits.roster", "4")], |gateway| {
        let mut talkers: Vec<Talker> =
            (0..4).map(|n| Talker::in_rooms(gateway, &format!("user{n}"), &["lobby"])).collect();
        talkers[0].ok(json!({"op": "status", "status": "leave"}));
        let mut again = Talker::in_rooms(gateway, "user1", &[]);
        let joined = again.join("lobby");
        assert_eq!((&joined["members"], &joined["alive"]), (&json!(4), &json!(3)), "users, not sessions: {joined}");
        let users = joined["users"].as_array().expect("few enough");
        let rows: Vec<_> = users.iter().map(|user| (&user["user"], &user["status"], &user["cause"])).collect();
        assert_eq!(rows[0], (&json!("user0"), &json!("leave"), &json!("declared")));
        assert_eq!(rows[1], (&json!("user1"), &json!("alive"), &Value::Null));
        assert!(users.iter().all(|user| user["gen"].is_u64() && user["ver"].is_u64() && user["since_ms"].is_u64()));
        let who = again.ok(json!({"op": "who", "room": "lobby"}));
        assert_eq!(who["users"].as_array().map(Vec::len), Some(4), "{who}");
        talkers.push(Talker::in_rooms(gateway, "user4", &["lobby"]));
        let many = again.ok(json!({"op": "who", "room": "lobby"}));
        assert_eq!((&many["members"], &many["alive"], &many["users"]), (&json!(5), &json!(4), &Value::Null));
        assert_eq!(again.ok(json!({"op": "part", "room": "lobby"}))["op"], "ok");
        again.refused(json!({"op": "who", "room": "lobby"}), 1301);
    });
}

#[test]
fn roles_decide_who_changes_a_room() {
    on_one_and_two_shards(&[OPEN], |gateway| {
        let mut ada = Talker::open(gateway, "ada");
        assert_eq!(ada.join("den")["role"], "owner", "who makes a room owns it");
        let mut bob = Talker::in_rooms(gateway, "bob", &["den"]);
        let mut eve = Talker::in_rooms(gateway, "eve", &["den"]);
        let room = json!({"op": "room", "room": "den", "topic": "tea", "public": false});
        let role = |user: &str, role: &str| json!({"op": "role", "room": "den", "user": user, "role": role});
        let mute = |user: &str, ms: u64| json!({"op": "mute", "room": "den", "user": user, "for_ms": ms});
        bob.refused(room.clone(), 1302);
        bob.refused(role("bob", "owner"), 1302);
        bob.refused(mute("eve", 1000), 1302);
        bob.refused(mute("nobody", 1000), 1302);
        ada.refused(role("nobody", "moderator"), 1401);
        ada.refused(role("ada", "member"), 1302);
        ada.ok(room);
        let told = eve.next("notice");
        assert_eq!(
            (&told["kind"], &told["topic"], &told["public"], &told["by"]),
            (&json!("room"), &json!("tea"), &json!(false), &json!("ada"))
        );
        ada.ok(role("bob", "moderator"));
        let told = eve.next("notice");
        assert_eq!((&told["kind"], &told["user"], &told["role"]), (&json!("role"), &json!("bob"), &json!("moderator")));

        let mut zoe = Talker::open(gateway, "zoe");
        zoe.refused(json!({"op": "join", "room": "den"}), 1305);
        bob.ok(json!({"op": "invite", "room": "den", "user": "zoe"}));
        let joined = zoe.join("den");
        assert_eq!(
            (&joined["role"], &joined["topic"], &joined["public"]),
            (&json!("member"), &json!("tea"), &json!(false))
        );

        bob.refused(mute("ada", 1000), 1302);
        bob.ok(mute("eve", 600_000));
        let told = eve.next_where("notice", |told| told["kind"] == "muted");
        assert_eq!((&told["user"], &told["for_ms"]), (&json!("eve"), &json!(600_000)));
        let error = eve.refused(json!({"op": "say", "room": "den", "text": "let me"}), 1303);
        assert!(error["retry_ms"].as_u64().is_some_and(|ms| (500_000..=600_000).contains(&ms)), "{error}");
        eve.refused(json!({"op": "signal", "room": "den", "data": 1}), 1303);
        bob.ok(mute("eve", 0));
        eve.next_where("notice", |told| told["for_ms"] == 0);
        eve.say("den", "thanks");
        assert_eq!(zoe.next("message")["text"], "thanks");
    });
}

#[test]
fn a_mute_ends_by_itself_and_holds_across_sessions() {
    on_one_and_two_shards(&[OPEN], |gateway| {
        let mut ada = Talker::in_rooms(gateway, "ada", &["den"]);
        let mut eve = Talker::in_rooms(gateway, "eve", &["den"]);
        ada.ok(json!({"op": "mute", "room": "den", "user": "eve", "for_ms": 700}));
        let mut other = Talker::in_rooms(gateway, "eve", &["den"]);
        for talker in [&mut eve, &mut other] {
            let error = talker.ask(json!({"op": "say", "room": "den", "text": "now?"}));
            assert!(error["code"] == 1303 || error["op"] == "ok", "{error}");
        }
        let other = std::cell::RefCell::new(other);
        gateway.wait_until("the mute to end", || {
            other.borrow_mut().ask(json!({"op": "say", "room": "den", "text": "now!"}))["op"] == "ok"
        });
        eve.say("den", "me too");
    });
}

#[test]
fn who_was_removed_is_out_and_comes_back_when_the_span_is_over() {
    on_one_and_two_shards(&[OPEN], |gateway| {
        let mut ada = Talker::in_rooms(gateway, "ada", &["den"]);
        let mut eves = [Talker::in_rooms(gateway, "eve", &["den"]), Talker::in_rooms(gateway, "eve", &["den"])];
        let mut bob = Talker::in_rooms(gateway, "bob", &["den"]);
        ada.ok(json!({"op": "remove", "room": "den", "user": "eve", "for_ms": 1500}));
        let told = bob.next("notice");
        assert_eq!((&told["kind"], &told["user"], &told["by"]), (&json!("removed"), &json!("eve"), &json!("ada")));
        for eve in &mut eves {
            eve.next_where("notice", |told| told["kind"] == "removed");
            eve.refused(json!({"op": "say", "room": "den", "text": "but"}), 1301);
            eve.refused(json!({"op": "signal", "room": "den", "data": 1}), 1301);
        }
        let error = eves[0].ask(json!({"op": "join", "room": "den"}));
        assert!(error["code"] == 1304 && error["retry_ms"].as_u64() <= Some(1500), "{error}");
        ada.say("den", "she is gone");
        let eve = std::cell::RefCell::new(&mut eves[1]);
        gateway.wait_until("the span to be over", || {
            eve.borrow_mut().ask(json!({"op": "join", "room": "den"}))["op"] == "ok"
        });
        ada.say("den", "she is back");
        assert_eq!(eves[1].next("message")["text"], "she is back");
        assert_eq!(eves[0].rest("message"), [] as [Value; 0]);
    });
}

#[test]
fn a_deleted_message_leaves_a_tombstone_everywhere() {
    on_one_and_two_shards(&[OPEN], |gateway| {
        let mut ada = Talker::in_rooms(gateway, "ada", &["den"]);
        let mut bob = Talker::in_rooms(gateway, "bob", &["den"]);
        let mut eve = Talker::in_rooms(gateway, "eve", &["den"]);
        for text in ["one", "secret word", "three"] {
            bob.say("den", text);
        }
        eve.texts_to("three");
        eve.refused(json!({"op": "delete", "room": "den", "seq": 2}), 1302);
        ada.refused(json!({"op": "delete", "room": "den", "seq": 99}), 1403);
        ada.ok(json!({"op": "delete", "room": "den", "seq": 2}));
        bob.ok(json!({"op": "delete", "room": "den", "seq": 3}));
        for (seq, by) in [(2, "ada"), (3, "bob")] {
            let told = eve.next("notice");
            assert_eq!(
                (&told["kind"], &told["seq"], &told["by"], &told["room"]),
                (&json!("deleted"), &json!(seq), &json!(by), &json!("den"))
            );
        }
        let seen = |messages: &[Value]| -> Vec<(Value, Value, Value)> {
            messages.iter().map(|m| (m["seq"].clone(), m["text"].clone(), m["deleted"].clone())).collect()
        };
        let expected = [
            (json!(1), json!("one"), Value::Null),
            (json!(2), json!(""), json!(true)),
            (json!(3), json!(""), json!(true)),
        ];
        let old = eve.ok(json!({"op": "history", "room": "den"}))["messages"].clone();
        assert_eq!(seen(old.as_array().expect("messages")), expected);
        let mut late = Talker::open(gateway, "late");
        late.ok(json!({"op": "join", "room": "den", "after": 0}));
        let caught_up: Vec<Value> = (0..3).map(|_| late.next("message")).collect();
        assert_eq!(seen(&caught_up), expected);
        assert_eq!(late.ok(json!({"op": "history", "room": "den", "query": "secret"}))["messages"], json!([]));

        let mut friend = Talker::open(gateway, "friend");
        ada.tell("friend", "too much");
        friend.next("message");
        friend.refused(json!({"op": "delete", "user": "ada", "seq": 1}), 1302);
        ada.refused(json!({"op": "delete", "user": "friend", "seq": 9}), 1403);
        ada.ok(json!({"op": "delete", "user": "friend", "seq": 1}));
        let told = friend.next("notice");
        assert_eq!((&told["kind"], &told["seq"], &told["user"]), (&json!("deleted"), &json!(1), &json!("ada")));
        let old = friend.ok(json!({"op": "history", "user": "ada"}))["messages"].clone();
        assert_eq!(seen(old.as_array().expect("messages")), [(json!(1), json!(""), json!(true))]);
    });
}

#[test]
fn who_is_blocked_can_not_write_and_does_not_learn_why() {
    on_one_and_two_shards(&[OPEN], |gateway| {
        let (mut ada, mut bob) = (Talker::open(gateway, "ada"), Talker::open(gateway, "bob"));
        bob.tell("ada", "one");
        ada.next("message");
        ada.ok(json!({"op": "block", "user": "bob"}));
        let error = bob.refused(json!({"op": "tell", "user": "ada", "text": "two"}), 1307);
        assert_eq!(error["temporary"], false);
        ada.ok(json!({"op": "unblock", "user": "bob"}));
        bob.tell("ada", "three");
        assert_eq!(ada.next("message")["text"], "three");
        ada.refused(json!({"op": "block", "user": "nobody"}), 1401);
    });
}

#[test]
fn strangers_write_only_when_they_were_allowed_or_written_to() {
    on_one_and_two_shards(&[OPEN, ("rooms.strangers", "refuse")], |gateway| {
        let names = ["ada", "bob", "eve", "zoe"];
        let [mut ada, mut bob, mut eve, mut zoe] = names.map(|name| Talker::open(gateway, name));
        let tell = |user: &str| json!({"op": "tell", "user": user, "text": "hi"});
        for user in ["ada", "nobody"] {
            bob.refused(tell(user), 1307);
        }
        ada.ok(json!({"op": "allow", "user": "bob"}));
        bob.ok(tell("ada"));
        ada.ok(tell("bob"));
        ada.ok(json!({"op": "disallow", "user": "bob"}));
        bob.ok(json!({"op": "tell", "user": "ada", "text": "it wrote to me, so I may answer"}));
        eve.refused(tell("ada"), 1307);
        ada.join("den");
        ada.ok(json!({"op": "invite", "room": "den", "user": "eve"}));
        eve.ok(tell("ada"));
        zoe.join("den");
        zoe.refused(tell("ada"), 1307);
    });
}

#[test]
fn a_full_mailbox_takes_no_more_until_its_user_reads() {
    on_one_and_two_shards(&[OPEN, ("limits.mailbox", "3")], |gateway| {
        Talker::open(gateway, "bob").ok(json!({"op": "bye"}));
        let mut ada = Talker::open(gateway, "ada");
        for n in 0..3 {
            ada.tell("bob", &n.to_string());
        }
        let error = ada.refused(json!({"op": "tell", "user": "bob", "text": "more"}), 1208);
        assert!(error["temporary"] == true && error["retry_ms"].is_u64(), "{error}");
        let mut bob = Talker::open(gateway, "bob");
        bob.texts_to("2");
        bob.acknowledge();
        let ada = std::cell::RefCell::new(ada);
        gateway.wait_until("room in the mailbox", || {
            ada.borrow_mut().ask(json!({"op": "tell", "user": "bob", "text": "3"}))["op"] == "ok"
        });
        assert_eq!(bob.next("message")["text"], "3");
    });
}

#[test]
fn where_operators_make_the_rooms_nobody_else_does() {
    let gateway = Gateway::start(&[OPEN, ("rooms.create", "operators")]);
    let mut ada = Talker::open(&gateway, "ada");
    ada.refused(json!({"op": "join", "room": "den"}), 1309);
    gateway.post("/api/v1/rooms", &json!({"name": "den"})).json();
    assert_eq!(ada.join("den")["role"], "guest");
}

#[test]
fn rooms_outlast_a_crash_with_all_that_was_acknowledged() {
    let gateway = Gateway::start(&[OPEN]);
    let mut ada = Talker::in_rooms(&gateway, "ada", &["den"]);
    ada.ok(json!({"op": "room", "room": "den", "topic": "tea", "public": false}));
    for n in 1..=20 {
        ada.say("den", &n.to_string());
    }
    let scratch = gateway.kill();
    let gateway = Setup::new().set_all(&[OPEN]).scratch(&scratch).start();
    let mut ada = Talker::open(&gateway, "ada");
    let joined = ada.ok(json!({"op": "join", "room": "den", "after": 0}));
    assert_eq!((&joined["head"], &joined["role"], &joined["topic"]), (&json!(20), &json!("owner"), &json!("tea")));
    assert_eq!(ada.texts_to("20"), (1..=20).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(ada.say("den", "21"), 21);
}

#[test]
fn an_operators_words_reach_all_a_room_or_a_user() {
    on_one_and_two_shards(&[OPEN], |gateway| {
        let mut talkers = ["ada", "bob", "eve"].map(|user| Talker::open(gateway, user));
        talkers[0].join("den");
        talkers[1].join("den");
        for notice in [
            json!({"text": "to all"}),
            json!({"text": "to the den", "room": "den"}),
            json!({"text": "to eve", "user": "eve"}),
            json!({"text": "end"}),
        ] {
            gateway.post("/api/v1/notice", &notice).json();
        }
        let mut heard = |n: usize| -> Vec<Value> {
            let mut texts = Vec::new();
            while texts.last() != Some(&json!("end")) {
                texts.push(talkers[n].next("notice")["text"].clone());
            }
            texts
        };
        assert_eq!(
            (heard(0), heard(1)),
            (
                vec![json!("to all"), json!("to the den"), json!("end")],
                vec![json!("to all"), json!("to the den"), json!("end")]
            )
        );
        assert_eq!(heard(2), ["to all", "to eve", "end"]);
    });
}
