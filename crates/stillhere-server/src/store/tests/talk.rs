//! Conversations and mailboxes.

use super::*;
use stillhere_core::ledger::Relation;

#[test]
fn a_message_lies_in_both_mailboxes_and_waits_for_who_is_away() {
    let dir = Dir::new();
    let mut bed = Bed::open(&dir.0, Rules { shards: 2, ..Rules::default() });
    let ann = bed.enter("ann");
    let bob = bed.enter_on(1, "bob");
    assert_eq!(bed.tell("ann", "bob", "hi", Some("a")), 1);
    assert_eq!(bed.tell("bob", "ann", "hello", None), 2);
    assert_eq!(bed.tell("ann", "bob", "hi", Some("a")), 1, "the same again");
    for (shard, mailbox) in [(0, ann.stream), (1, bob.stream)] {
        let news = bed.news(shard);
        let positions: Vec<u64> = news
            .iter()
            .map(|news| match news {
                News::Message { stream, position, frame, .. } => {
                    assert_eq!(*stream, mailbox);
                    assert_eq!(body(frame)["seq"], *position, "one conversation only");
                    *position
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(positions, [1, 2], "shard {shard}");
    }
    let id = bed.send(1, Order::Handled { user: name("bob"), position: 1 });
    let _ = bed.wait(1, id);
    bed.close();
    let mut bed = Bed::open(&dir.0, Rules::default());
    let bob = bed.enter("bob");
    assert_eq!((bob.head, bob.handled), (2, 1));
    let page = bed.page(bob.stream, bob.handled, 10);
    let (position, frame) = &page.messages[0];
    let message = body(frame);
    assert_eq!((*position, &message["from"], &message["to"]), (2, &"bob".into(), &"ann".into()));
    bed.close();
}

#[test]
fn a_full_mailbox_refuses_until_some_is_handled() {
    let dir = Dir::new();
    let mut bed = Bed::open(&dir.0, Rules { mailbox_max: 3, ..Rules::default() });
    bed.enter("ann");
    bed.enter("bob");
    for _ in 0..3 {
        bed.tell("ann", "bob", "hi", None);
    }
    assert_eq!(bed.refused(tell("ann", "bob", "hi", None)), 1208);
    assert_eq!(bed.tell("bob", "ann", "one's own don't count", None), 4);
    bed.ask(Order::Handled { user: name("bob"), position: 1 }).unwrap();
    assert_eq!(bed.tell("ann", "bob", "hi", None), 5);
    assert_eq!(bed.refused(tell("ann", "bob", "hi", None)), 1208);
    bed.close();
    // The counts are those of the rows.
    let mut bed = Bed::open(&dir.0, Rules { mailbox_max: 3, ..Rules::default() });
    assert_eq!(bed.refused(tell("ann", "bob", "hi", None)), 1208);
    bed.ask(Order::Handled { user: name("bob"), position: 9 }).unwrap();
    assert_eq!(bed.tell("ann", "bob", "hi", None), 6);
    bed.close();
}

#[test]
fn blocked_strangers_and_nobody_get_the_same_answer() {
    let dir = Dir::new();
    let mut bed = Bed::open(&dir.0, Rules { strangers_may_write: false, ..Rules::default() });
    for user in ["ann", "bob", "cid"] {
        bed.enter(user);
    }
    let relate = |by: &str, user: &str, relation| Order::Relate { by: name(by), user: name(user), relation };
    assert_eq!(bed.refused(tell("ann", "bob", "hi", None)), 1307);
    assert_eq!(bed.refused(tell("ann", "nobody", "hi", None)), 1307);
    bed.ask(relate("bob", "ann", Relation::Allow)).unwrap();
    assert_eq!(bed.tell("ann", "bob", "hi", Some("m")), 1);
    assert_eq!(bed.tell("bob", "ann", "who has been written to may answer", None), 2);
    bed.ask(relate("bob", "ann", Relation::Disallow)).unwrap();
    assert_eq!(bed.tell("ann", "bob", "bob has written to ann", None), 3);
    bed.ask(relate("bob", "ann", Relation::Block)).unwrap();
    assert_eq!(bed.refused(tell("ann", "bob", "hi", None)), 1307);
    assert_eq!(bed.tell("ann", "bob", "hi", Some("m")), 1, "what was acknowledged stays so");
    let Ok(Outcome::MaySee(seen)) = bed.ask(Order::MaySee { by: name("ann"), users: vec![name("bob")] }) else {
        panic!()
    };
    assert!(seen.is_empty(), "{seen:?}");
    bed.ask(relate("bob", "ann", Relation::Unblock)).unwrap();
    assert_eq!(bed.tell("ann", "bob", "hi", None), 4);
    let stream = bed.join("lobby", "ann").stream;
    bed.join("lobby", "cid");
    assert_eq!(bed.refused(tell("ann", "cid", "hi", None)), 1307, "a public room isn't enough");
    let act = stillhere_core::ledger::Act::Invite { user: name("cid") };
    bed.ask(Order::Govern { by: name("ann"), room: name("lobby"), act }).unwrap();
    assert_eq!(bed.tell("ann", "cid", "hi", None), 1);
    bed.ask(Order::Release { stream }).unwrap();
    bed.store.ledger.set_rules(Rules::default());
    assert_eq!(bed.refused(tell("ann", "nobody", "hi", None)), 1401);
    bed.close();
}

#[test]
fn one_takes_back_one_s_own_message_and_both_hear_of_it() {
    let dir = Dir::new();
    let mut bed = Bed::open(&dir.0, Rules::default());
    let ann = bed.enter("ann");
    let bob = bed.enter("bob");
    bed.tell("ann", "bob", "secret-words", None);
    bed.news(0);
    let unsay = |by: &str, user: &str, seq| Order::Unsay { by: name(by), user: name(user), seq };
    assert_eq!(bed.refused(unsay("bob", "ann", 1)), 1302);
    assert_eq!(bed.refused(unsay("ann", "bob", 9)), 1403);
    bed.ask(unsay("ann", "bob", 1)).unwrap();
    let told: Vec<(StreamId, Value)> = bed
        .news(0)
        .into_iter()
        .map(|news| match news {
            News::Notice { stream, frame } => (stream, body(&frame)["user"].clone()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, [(ann.stream, "bob".into()), (bob.stream, "ann".into())]);
    let tombstone = body(&bed.page(bob.stream, 0, 10).messages[0].1);
    assert_eq!((&tombstone["deleted"], &tombstone["text"]), (&true.into(), &"".into()));
    assert_eq!(bed.refused(unsay("ann", "bob", 1)), 1403);
    bed.close();
}

#[test]
fn one_may_write_to_oneself() {
    let dir = Dir::new();
    let mut bed = Bed::open(&dir.0, Rules { strangers_may_write: false, ..Rules::default() });
    let ann = bed.enter("ann");
    assert_eq!(bed.tell("ann", "ann", "milk", None), 1);
    assert_eq!(bed.page(ann.stream, 0, 10).messages.len(), 1);
    let (messages, _) = bed.history(history("ann", Place::User(name("ann")), None));
    assert_eq!(messages, [(1, "milk".to_owned())]);
    bed.close();
}
