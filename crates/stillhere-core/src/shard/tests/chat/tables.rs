//! One thing at a time.

use super::*;
use crate::close::CloseCode;
use crate::ledger::News;

/// A cluster whose clients are all connected, in turn to each shard, and in the room `red`.
pub(super) fn in_red(shards: usize, users: &[&str], change: impl Fn(&mut Terms)) -> Cluster {
    let mut cluster = Cluster::new(shards, users, change);
    for client in 0..users.len() {
        cluster.connect(client, client % shards, None);
    }
    cluster.settle();
    for client in 0..users.len() {
        cluster.join(client, "red", None);
        cluster.settle();
    }
    cluster.pass(Duration::from_secs(3));
    cluster.settle();
    (0..users.len()).for_each(|client| cluster.clients[client].read.clear());
    cluster
}

pub(super) fn say(cluster: &mut Cluster, client: usize, text: &str) {
    cluster.ask(client, json!({"op": "say", "room": "red", "text": text}));
    cluster.settle();
    // Even a busy room's batch has gone out after this.
    cluster.pass(crate::limits::GATHER_MAX);
    cluster.settle();
}

#[test]
fn a_join_is_answered_first_and_what_was_missed_follows() {
    for shards in 1..3 {
        let mut cluster = in_red(shards, &["ann", "bob", "cid"], |_| {});
        for n in 0..10 {
            say(&mut cluster, 0, &n.to_string());
        }
        cluster.part(1, "red");
        cluster.settle();
        cluster.clients[1].read.clear();
        cluster.join(1, "red", Some(4));
        cluster.settle();
        let ops: Vec<&str> = cluster.clients[1].read.iter().filter_map(|body| body["op"].as_str()).collect();
        let first = ops.iter().position(|op| *op == "ok");
        assert!(first < ops.iter().position(|op| *op == "message"), "{ops:?}");
        let seqs: Vec<u64> = cluster.took(1, "message").iter().filter_map(|body| body["seq"].as_u64()).collect();
        assert_eq!(seqs, [5, 6, 7, 8, 9, 10]);
        // Again, from further back.
        cluster.join(1, "red", Some(8));
        cluster.settle();
        assert_eq!(cluster.took(1, "message").len(), 2);
    }
}

#[test]
fn a_refused_page_is_asked_for_again() {
    let mut cluster = in_red(1, &["ann", "bob"], |_| {});
    cluster.ask(1, json!({"op": "status", "status": "leave"}));
    say(&mut cluster, 0, "while away");
    cluster.store.refuses = 3;
    cluster.ask(1, json!({"op": "status", "status": "alive"}));
    cluster.settle();
    assert_eq!(cluster.took(1, "message").len(), 0);
    for _ in 0..3 {
        cluster.pass(Duration::from_secs(1));
        cluster.settle();
    }
    assert_eq!(cluster.took(1, "message").len(), 1);
}

#[test]
fn an_answer_of_the_store_is_for_the_hello_that_asked_and_not_for_its_links_next_owner() {
    let mut cluster = Cluster::new(1, &["ann", "eve"], |_| {});
    cluster.connect(0, 0, None);
    cluster.drop_link(0);
    // The link's number is given away again.
    cluster.next_link[0] = 0;
    cluster.ended.clear();
    cluster.connect(1, 0, None);
    cluster.settle();
    assert_eq!(cluster.clients[1].welcome.as_ref().unwrap()["user"], "eve");
    cluster.ask(1, json!({"op": "tell", "user": "eve", "text": "who am I"}));
    cluster.settle();
    let users = cluster.shards[0].users_here(None);
    assert_eq!(users.iter().map(|view| view.user.as_str()).collect::<Vec<_>>(), ["eve"]);
    assert_eq!(cluster.store.subscriptions.values().sum::<i64>(), 1);
}

#[test]
fn a_single_session_is_left_of_two_that_begin_at_once() {
    for shards in 1..4 {
        let mut cluster = Cluster::new(shards, &["ann", "ann", "ann", "bob"], |terms| terms.identity.single = true);
        for client in 0..4 {
            cluster.connect(client, client % shards, None);
        }
        cluster.settle();
        let left: usize = cluster.shards.iter().map(Shard::session_count).sum();
        assert_eq!(left, 2, "{shards} shards");
    }
}

#[test]
fn those_on_leave_get_one_digest_a_period_without_what_they_did_themselves() {
    let mut cluster = in_red(2, &["ann", "bob", "cid", "dan"], |_| {});
    for client in [2, 3] {
        cluster.ask(client, json!({"op": "status", "status": "leave"}));
    }
    cluster.settle();
    cluster.pass(Duration::from_secs(6));
    cluster.settle();
    (0..4).for_each(|client| drop(cluster.took(client, "digest")));
    for n in 0..5 {
        say(&mut cluster, 0, &format!("message {n}"));
        cluster.ask(1, json!({"op": "signal", "room": "red", "data": n, "key": "k"}));
        cluster.settle();
    }
    cluster.ask(2, json!({"op": "signal", "room": "red", "data": "mine"}));
    cluster.settle();
    assert_eq!(cluster.took(1, "message").len(), 5, "those who are here get all");
    cluster.pass(Duration::from_secs(6));
    cluster.settle();
    let digests = |cluster: &mut Cluster, client| cluster.took(client, "digest");
    assert!(digests(&mut cluster, 0).is_empty());
    for (client, senders) in [(2, &["bob"][..]), (3, &["bob", "cid"][..])] {
        let digests = digests(&mut cluster, client);
        assert_eq!(digests.len(), 1, "{digests:?}");
        let room = &digests[0]["rooms"][0];
        assert_eq!((&room["room"], &room["count"], &room["head"]), (&json!("red"), &json!(5), &json!(5)));
        assert_eq!(room["previews"].as_array().unwrap().len(), crate::limits::DIGEST_PREVIEWS);
        let signals: Vec<_> = room["signals"].as_array().unwrap().iter().map(|signal| &signal["from"]).collect();
        assert_eq!(signals, senders, "client {client}");
    }
    // Back, they get the rest one by one.
    cluster.ask(3, json!({"op": "status", "status": "alive"}));
    cluster.settle();
    assert_eq!(cluster.took(3, "message").len(), 5);
}

#[test]
fn presence_is_told_at_most_once_a_second_with_rising_numbers() {
    for shards in 1..4 {
        let mut cluster = in_red(shards, &["ann", "bob"], |_| {});
        let mut told = Vec::new();
        for n in 0..40 {
            let status = ["leave", "alive"][n % 2];
            cluster.ask(0, json!({"op": "status", "status": status}));
            cluster.settle();
            cluster.pass(Duration::from_millis(100));
            cluster.settle();
            told.extend(cluster.took(1, "presence"));
        }
        assert!((1..=5).contains(&told.len()), "{shards}: {}", told.len());
        let number = |body: &Value| (body["gen"].as_u64().unwrap(), body["ver"].as_u64().unwrap());
        assert!(told.windows(2).all(|pair| number(&pair[0]) < number(&pair[1])));
        // In the end what is true was told.
        cluster.pass(Duration::from_secs(2));
        cluster.settle();
        told.extend(cluster.took(1, "presence"));
        assert!(told.last().is_none_or(|last| last["status"] == "alive" && last["user"] == "ann"));
        // Who goes and comes has greater numbers.
        let before = told.last().map(number);
        cluster.ask(0, json!({"op": "bye"}));
        cluster.settle();
        cluster.connect(0, 0, None);
        cluster.settle();
        cluster.join(0, "red", None);
        cluster.settle();
        cluster.pass(Duration::from_secs(4));
        cluster.settle();
        let after = cluster.took(1, "presence");
        assert!(!after.is_empty() && after.iter().all(|body| Some(number(body)) > before), "{before:?} {after:?}");
        assert_eq!(after.last().unwrap()["status"], "alive");
    }
}

#[test]
fn a_session_that_moves_to_another_shard_was_never_gone() {
    for home in 0..6 {
        let user = format!("u{home}");
        let mut cluster = in_red(3, &[&user, "bob"], |_| {});
        say(&mut cluster, 1, "before");
        cluster.ask(0, json!({"op": "watch", "users": ["bob"]}));
        cluster.settle();
        cluster.took(1, "presence");
        cluster.connect(0, 2, None);
        cluster.settle();
        say(&mut cluster, 1, "after");
        cluster.pass(Duration::from_secs(3));
        cluster.settle();
        assert_eq!(cluster.took(1, "presence"), Vec::<Value>::new(), "{user}");
        assert_eq!(cluster.clients[0].reasons.last().unwrap(), "whole");
        // It still watches.
        cluster.took(0, "presence");
        cluster.ask(1, json!({"op": "status", "status": "leave"}));
        cluster.settle();
        cluster.pass(Duration::from_secs(2));
        cluster.settle();
        let told = cluster.took(0, "presence");
        assert!(told.iter().any(|body| body.get("room").is_none() && body["user"] == "bob"), "{told:?}");
    }
}

#[test]
fn watching_needs_a_common_room_or_leave() {
    for (allows, sharing, expected) in [(false, false, 0), (false, true, 1), (true, false, 1)] {
        let mut cluster = Cluster::new(2, &["ann", "bob"], |_| {});
        cluster.store.allows = allows;
        for client in 0..2 {
            cluster.connect(client, client, None);
            cluster.settle();
            cluster.join(client, if sharing { "red" } else { ["red", "blue"][client] }, None);
            cluster.settle();
        }
        cluster.pass(Duration::from_secs(3));
        cluster.settle();
        cluster.ask(0, json!({"op": "watch", "users": ["bob"]}));
        cluster.settle();
        let answer = cluster.took(0, "ok").pop().unwrap();
        assert_eq!(answer["users"].as_array().map_or(0, Vec::len), expected, "{answer}");
        cluster.ask(1, json!({"op": "status", "status": "leave"}));
        cluster.settle();
        cluster.pass(Duration::from_secs(2));
        cluster.settle();
        let told = cluster.took(0, "presence");
        assert_eq!(told.iter().filter(|body| body.get("room").is_none()).count(), expected, "{told:?}");
    }
}

#[test]
fn a_slow_reader_is_closed_in_time_and_a_new_link_isnt_slow() {
    let mut cluster = in_red(1, &["ann", "bob"], |_| {});
    let (shard, link) = cluster.clients[1].link.unwrap();
    cluster.input(shard, Input::Choked { link });
    say(&mut cluster, 0, "one");
    assert!(cluster.took(1, "message").is_empty(), "nothing more is queued for it");
    // The client comes back on another link while the old one still hangs.
    cluster.clients[1].lose_link();
    cluster.connect(1, 0, None);
    cluster.settle();
    assert_eq!(cluster.took(1, "message").len(), 1);
    let (shard, link) = cluster.clients[1].link.unwrap();
    cluster.input(shard, Input::Choked { link });
    cluster.pass(Duration::from_millis(9_900));
    assert!(cluster.clients[1].link.is_some());
    cluster.pass(Duration::from_millis(200));
    assert!(cluster.clients[1].link.is_none());
    let code = cluster.clients[1].read.last().unwrap()["code"].clone();
    assert_eq!(code, CloseCode::SlowConsumer.number());
}

#[test]
fn a_remembered_session_of_a_disabled_account_is_refused_and_one_for_which_there_is_no_time_stays() {
    let mut cluster = in_red(1, &["ann", "bob"], |_| {});
    for client in 0..2 {
        cluster.drop_link(client);
    }
    cluster.pass(Duration::from_secs(130));
    cluster.settle();
    cluster.store.disabled.insert(Name::user("ann").unwrap());
    cluster.connect(0, 0, None);
    cluster.settle();
    assert!(cluster.clients[0].ended && cluster.clients[0].link.is_none());
    let session = cluster.clients[1].session();
    cluster.store.refuses = 1;
    for _ in 0..2 {
        cluster.connect(1, 0, None);
        cluster.settle();
    }
    // Its link went away while the store was being asked.
    cluster.drop_link(1);
    cluster.pass(Duration::from_secs(130));
    cluster.settle();
    cluster.connect(1, 0, None);
    cluster.drop_link(1);
    cluster.settle();
    cluster.connect(1, 0, None);
    cluster.settle();
    assert_eq!((cluster.clients[1].session(), cluster.clients[1].reasons.last()), (session, Some(&"expired".into())));
}

#[test]
fn bytes_behind_a_hello_wait_for_the_store() {
    let mut cluster = Cluster::new(1, &["ann"], |_| {});
    cluster.connect(0, 0, None);
    cluster.send(0, json!({"op": "join", "room": "red", "id": 1}));
    cluster.send(0, json!({"op": "beat", "t": 7}));
    assert!(cluster.clients[0].unread.is_empty());
    cluster.settle();
    let ops: Vec<_> = cluster.clients[0].read.iter().map(|body| body["op"].clone()).collect();
    assert_eq!(&ops[..2], [json!("welcome"), json!("beat")]);
    assert!(cluster.clients[0].read.iter().any(|body| body["op"] == "ok" && body["re"] == 1));
}

#[test]
fn a_batch_goes_out_at_once_when_idle_and_after_four_milliseconds_at_most_under_load() {
    let users: Vec<String> = (0..50).map(|n| format!("u{n}")).collect();
    let names: Vec<&str> = users.iter().map(String::as_str).collect();
    let mut cluster = in_red(1, &names, |_| {});
    let mut due_max = Duration::ZERO;
    for n in 0..200 {
        let before = cluster.clients[1].unread.len();
        cluster.ask(0, json!({"op": "signal", "room": "red", "data": n}));
        let at_once = cluster.clients[1].unread.len() > before;
        assert!(n > 0 || at_once, "idle");
        if !at_once {
            let due = cluster.shards[0].next_deadline();
            due_max = due_max.max(due.since(cluster.now));
        }
        cluster.pass(Duration::from_micros(50));
    }
    assert!(due_max > Duration::ZERO && due_max <= crate::limits::GATHER_MAX, "{due_max:?}");
    cluster.pass(Duration::from_millis(5));
    assert_eq!(cluster.took(1, "signal").len(), 200);
}

#[test]
fn a_notice_doesnt_overtake_the_message_it_is_about() {
    let mut cluster = in_red(1, &["ann", "bob"], |_| {});
    cluster.ask(0, json!({"op": "say", "room": "red", "text": "x"}));
    cluster.store.step();
    let stream = cluster.store.rooms[&Name::room("red").unwrap()];
    let notice = frame(r#"{"op":"notice","kind":"deleted","room":"red","seq":1}"#).into();
    cluster.store.outgoing.entry(0).or_default().push_back(Told::News(News::Notice { stream, frame: notice }));
    cluster.settle();
    let ops: Vec<_> = cluster.clients[1].read.iter().map(|body| body["op"].clone()).collect();
    assert_eq!(ops[ops.len() - 2..], [json!("message"), json!("notice")]);
}

#[test]
fn signals_in_an_area_reach_exactly_those_near() {
    use crate::area::Point;
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let mut cluster = Cluster::new(3, &names, |_| {});
    cluster.store.radius = Some(10.0);
    for client in 0..names.len() {
        cluster.connect(client, client % 3, None);
        cluster.settle();
        cluster.join(client, "red", None);
        cluster.settle();
    }
    let mut places: BTreeMap<usize, Point> = BTreeMap::new();
    let mut seed = 7u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for n in 0..500 {
        let client = random(8) as usize;
        if random(10) == 0 {
            cluster.part(client, "red");
            cluster.settle();
            cluster.join(client, "red", None);
            cluster.settle();
            places.remove(&client);
            continue;
        }
        (0..8).for_each(|client| drop(cluster.took(client, "signal")));
        let (x, y) = (random(40) as f64, random(20) as f64);
        cluster.ask(client, json!({"op": "signal", "room": "red", "data": n, "at": [x, y]}));
        cluster.settle();
        let at = Point::new(x, y).unwrap();
        places.insert(client, at);
        for reader in 0..8 {
            let near = reader != client && places.get(&reader).is_some_and(|place| place.is_within(10.0, at));
            assert_eq!(cluster.took(reader, "signal").len(), usize::from(near), "{n}: {client} to {reader}");
        }
    }
}

#[test]
fn the_roster_counts_over_shards_and_lists_only_small_rooms() {
    for (roster, listed) in [(200, true), (3, false)] {
        let mut cluster = in_red(3, &["ann", "ann", "bob", "cid", "dan"], |terms| terms.chat.roster = roster);
        cluster.ask(4, json!({"op": "status", "status": "leave"}));
        cluster.settle();
        cluster.clients[0].read.clear();
        cluster.ask(0, json!({"op": "who", "room": "red"}));
        cluster.settle();
        let answer = cluster.took(0, "ok").pop().unwrap();
        assert_eq!((&answer["members"], &answer["alive"]), (&json!(4), &json!(3)), "{answer}");
        assert_eq!(answer.get("users").is_some(), listed, "{answer}");
    }
}

#[test]
fn rates_refuse_or_only_count_and_strangers_use_up_nothing_of_a_room() {
    use crate::rate::Rate;
    for dry_run in [false, true] {
        let mut cluster = in_red(1, &["ann", "bob", "eve"], |terms| {
            terms.chat.dry_run = dry_run;
            terms.chat.room_traffic = Rate { per_second: 1, burst: 3 };
        });
        cluster.part(2, "red");
        cluster.settle();
        for _ in 0..10 {
            cluster.ask(2, json!({"op": "signal", "room": "red", "data": 1}));
        }
        (0..3).for_each(|client| drop(cluster.took(client, "signal")));
        for _ in 0..5 {
            cluster.ask(0, json!({"op": "signal", "room": "red", "data": 1}));
        }
        cluster.pass(crate::limits::GATHER_MAX);
        assert_eq!(cluster.took(1, "signal").len(), if dry_run { 5 } else { 3 });
        assert_eq!(cluster.took(0, "error").len(), if dry_run { 0 } else { 2 });
    }
}

#[test]
fn flapping_users_are_told_to_wait() {
    let mut cluster = Cluster::new(1, &["ann"], |terms| terms.chat.links_per_minute = 5);
    for _ in 0..5 {
        cluster.connect(0, 0, None);
        cluster.settle();
        assert!(cluster.clients[0].welcomed);
    }
    cluster.connect(0, 0, None);
    cluster.settle();
    assert!(!cluster.clients[0].welcomed);
    let bye = cluster.clients[0].read.last().unwrap().clone();
    assert_eq!((&bye["op"], &bye["code"]), (&json!("bye"), &json!(CloseCode::Flapping.number())));
    // Its session is still there.
    cluster.pass(Duration::from_secs(30));
    cluster.connect(0, 0, None);
    cluster.settle();
    assert_eq!(cluster.clients[0].reasons.last().unwrap(), "whole");
}

#[test]
fn of_many_that_dropped_the_first_lose_what_is_kept_for_them_and_catch_up_from_the_store() {
    let mut cluster = in_red(1, &["ann", "bob", "cid"], |terms| terms.chat.replay_unlinked = 2000);
    let long = "long ".repeat(60);
    for nth in 0..4 {
        cluster.ask(0, json!({"op": "say", "room": "red", "text": format!("{nth} {long}")}));
        while cluster.store.step() {}
        cluster.told(0, usize::MAX);
        cluster.pass(crate::limits::GATHER_MAX);
    }
    // What one of them has is little enough, what both have is too much.
    (1..3).for_each(|client| cluster.drop_link(client));
    (1..3).for_each(|client| cluster.connect(client, 0, None));
    cluster.settle();
    assert_eq!([1, 2].map(|client| cluster.clients[client].reasons.last().cloned().unwrap()), ["gap", "whole"]);
    for client in &cluster.clients {
        client.check_complete(&cluster.store);
    }
}
