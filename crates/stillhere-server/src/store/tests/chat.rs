//! Rooms: joining, saying, catching up.

use super::*;

#[test]
fn a_room_is_made_by_who_joins_first_and_its_messages_survive() {
    let dir = Dir::new();
    let mut bed = Bed::open(&dir.0, Rules::default());
    bed.enter("ann");
    bed.enter("bob");
    let joined = bed.join("lobby", "ann");
    assert_eq!((joined.role, joined.head, joined.state.public), (Role::Owner, 0, true));
    assert_eq!(bed.join("lobby", "bob").role, Role::Guest);
    for number in 1..=5 {
        assert_eq!(bed.say(joined.stream, "bob", &format!("message {number}"), None), number);
    }
    bed.close();
    let mut bed = Bed::open(&dir.0, Rules::default());
    let again = bed.join("lobby", "bob");
    assert_eq!((again.stream, again.head), (joined.stream, 5));
    let page = bed.page(again.stream, 2, 100);
    let seqs: Vec<u64> = page.messages.iter().map(|(seq, _)| *seq).collect();
    assert_eq!((seqs, page.upto), (vec![3, 4, 5], 5));
    let message = body(&page.messages[0].1);
    assert_eq!(message["op"], "message");
    assert_eq!(
        (&message["room"], &message["from"], &message["text"]),
        (&"lobby".into(), &"bob".into(), &"message 3".into())
    );
    assert_eq!(bed.say(again.stream, "ann", "six", None), 6);
    bed.close();
}

#[test]
fn news_reach_every_shard_in_the_room_and_no_other_and_end_with_the_release() {
    let dir = Dir::new();
    let mut bed = Bed::open(&dir.0, Rules { shards: 3, ..Rules::default() });
    bed.enter("ann");
    let stream = bed.join("lobby", "ann").stream;
    bed.join_on(1, "lobby", "ann");
    bed.say(stream, "ann", "hello", Some("m1"));
    for (shard, expected) in [(0, 1), (1, 1), (2, 0)] {
        let news = bed.news(shard);
        assert_eq!(news.len(), expected, "shard {shard}: {news:?}");
        if let Some(News::Message { stream: at, position, frame, .. }) = news.first() {
            assert_eq!((*at, *position), (stream, 1));
            assert_eq!(body(frame)["mid"], "m1");
        }
    }
    let id = bed.send(1, Order::Release { stream });
    assert!(matches!(bed.wait(1, id), Ok(Outcome::Done)));
    bed.say(stream, "ann", "again", None);
    assert_eq!((bed.news(0).len(), bed.news(1).len()), (1, 0));
    bed.close();
}

#[test]
fn a_mid_is_one_message_also_after_a_restart() {
    let dir = Dir::new();
    let mut bed = Bed::open(&dir.0, Rules::default());
    bed.enter("ann");
    let stream = bed.join("lobby", "ann").stream;
    assert_eq!(bed.say(stream, "ann", "hello", Some("m1")), 1);
    assert_eq!(bed.say(stream, "ann", "hello", Some("m1")), 1);
    let reused = Order::Say { stream, user: name("ann"), draft: draft("other", Some("m1")) };
    assert_eq!(bed.refused(reused), 1308);
    bed.close();
    let mut bed = Bed::open(&dir.0, Rules::default());
    bed.enter("ann");
    assert_eq!(bed.say(stream, "ann", "hello", Some("m1")), 1);
    assert_eq!(bed.say(stream, "ann", "next", Some("m2")), 2);
    bed.close();
}

#[test]
fn pages_and_histories_are_bounded_in_bytes_and_say_so() {
    let dir = Dir::new();
    let mut bed = Bed::open(&dir.0, Rules::default());
    bed.enter("ann");
    let stream = bed.join("lobby", "ann").stream;
    let long = "x".repeat(9000);
    for _ in 0..20 {
        bed.say(stream, "ann", &long, None);
    }
    let page = bed.page(stream, 0, 512);
    assert_eq!((page.messages.len(), page.upto), (8, 8));
    let (messages, more) = bed.history(history("ann", room("lobby"), None));
    assert_eq!((messages.len(), more), (5, true));
    assert_eq!(messages.last().unwrap().0, 20, "the newest are shown");
    bed.close();
}

#[test]
fn a_history_is_read_in_both_directions_with_read_marks() {
    let dir = Dir::new();
    let mut bed = Bed::open(&dir.0, Rules::default());
    bed.enter("ann");
    let stream = bed.join("lobby", "ann").stream;
    for number in 1..=10 {
        bed.say(stream, "ann", &format!("{number}"), None);
    }
    let mut look = |before, after, limit| {
        let order = Order::History { user: name("ann"), place: room("lobby"), before, after, limit, query: None };
        let (messages, more) = bed.history(order);
        (messages.into_iter().map(|(seq, _)| seq).collect::<Vec<_>>(), more)
    };
    assert_eq!(look(None, None, 3), (vec![8, 9, 10], true));
    assert_eq!(look(Some(8), None, 3), (vec![5, 6, 7], true));
    assert_eq!(look(None, Some(7), 3), (vec![8, 9, 10], false));
    assert_eq!(look(None, Some(2), 3), (vec![3, 4, 5], true));
    assert_eq!(look(Some(6), Some(3), 3), (vec![4, 5], false));
    for (seq, expected) in [(4, 4), (2, 4), (99, 10)] {
        bed.ask(Order::Read { user: name("ann"), place: room("lobby"), seq }).unwrap();
        let Ok(Outcome::History { read, .. }) = bed.ask(history("ann", room("lobby"), None)) else { panic!() };
        assert_eq!(&*read, format!(r#"{{"ann":{expected}}}"#), "read {seq}");
    }
    bed.close();
}

#[test]
fn retention_keeps_the_newest_and_says_what_is_gone() {
    let dir = Dir::new();
    let mut bed = Bed::open(&dir.0, Rules { keep_messages: 100, ..Rules::default() });
    bed.enter("ann");
    let stream = bed.join("lobby", "ann").stream;
    for number in 0..400 {
        bed.send(0, Order::Say { stream, user: name("ann"), draft: draft("text", Some(&number.to_string())) });
    }
    assert_eq!(bed.say(stream, "ann", "the last", None), 401);
    let trimmed = loop {
        let joined = bed.join("lobby", "ann");
        if joined.trimmed >= 200 {
            break joined.trimmed;
        }
    };
    assert!(trimmed <= 301, "what is to be kept is kept: {trimmed}");
    let first = bed.page(stream, 0, 10).messages[0].0;
    assert_eq!(first, trimmed + 1);
    bed.close();
    let mut bed = Bed::open(&dir.0, Rules { keep_for_ms: 1, ..Rules::default() });
    bed.enter("ann");
    let joined = loop {
        let joined = bed.join("lobby", "ann");
        if joined.trimmed == 401 {
            break joined;
        }
    };
    assert_eq!((joined.head, bed.page(stream, 0, 10).messages.len()), (401, 0), "the head outlives the messages");
    assert_eq!(bed.say(stream, "ann", "new", None), 402);
    bed.close();
}

#[test]
fn an_operator_can_keep_rooms_to_itself_and_few() {
    let dir = Dir::new();
    let mut bed = Bed::open(&dir.0, Rules { rooms_max: 1, ..Rules::default() });
    bed.enter("ann");
    bed.join("one", "ann");
    assert_eq!(bed.refused(Order::Join { room: name("two"), user: name("ann") }), 1209);
    bed.store.ledger.set_rules(Rules { rooms_per_user: 1, ..Rules::default() });
    assert_eq!(bed.refused(Order::Join { room: name("two"), user: name("ann") }), 1206);
    bed.enter("bob");
    bed.join("two", "bob");
    bed.store.ledger.set_rules(Rules { rooms_by_users: false, ..Rules::default() });
    assert_eq!(bed.refused(Order::Join { room: name("three"), user: name("ann") }), 1309);
    bed.join("one", "ann");
    assert_eq!(bed.refused(Order::Join { room: name("one"), user: name("who") }), 1401);
    bed.close();
}
