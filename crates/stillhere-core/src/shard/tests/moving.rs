//! Two shards, and sessions that go from one to the other.

use super::*;

/// Carries what two shards ask of each other until nothing is left.
fn carry(one: &mut World, other: &mut World) {
    for _ in 0..10 {
        for turn in 0..2 {
            let (from, to): (&mut World, &mut World) = if turn == 0 { (one, other) } else { (other, one) };
            for output in std::mem::take(&mut from.other) {
                match output {
                    Output::Claim { link, claim } => {
                        to.input(Input::Claimed { ticket: Ticket(1), claim });
                        let at = to.other.iter().position(|output| matches!(output, Output::Answer { .. })).unwrap();
                        let Output::Answer { answer, .. } = to.other.remove(at) else { unreachable!() };
                        from.input(Input::Answered { link, answer });
                    }
                    output => drop(output),
                }
            }
        }
    }
}

use crate::event::Ticket;

fn two() -> (World, World) {
    (World::numbered(terms("seed"), 1, false), World::numbered(terms("seed"), 2, false))
}

/// Says hello with a resume, lets the shards talk, and returns what was said.
fn resume_on(world: &mut World, home: &mut World, port: u16, claim: Value) -> (LinkId, Value) {
    let link = world.open(port);
    let mut hello = json!({"op": "hello", "v": 1});
    hello.as_object_mut().unwrap().extend(claim.as_object().unwrap().clone());
    world.send(link, &hello.to_string());
    carry(world, home);
    (link, world.said(link).remove(0))
}

#[test]
fn a_session_moves_to_its_new_links_shard_with_its_old_link_still_open() {
    let (mut one, mut two) = two();
    let (old, welcome) = one.hello(1, json!({"user": "ann"}));
    one.pass(SECOND * 30);
    two.pass(SECOND * 100);
    let (new, again) = resume_on(&mut two, &mut one, 2, resume(&welcome, 0));
    assert_eq!((&again["resumed"], &again["session"]), (&json!(true), &welcome["session"]));
    assert_eq!(one.answer(old)["code"], 4509);
    assert_eq!((one.shard.session_count(), two.shard.session_count()), (0, 1));
    let session = two.only();
    assert_eq!((session.cursor, session.strikes, session.user.as_deref()), (3, 1, Some("ann")));
    two.send(new, r#"{"op":"beat","t":1}"#);
    assert_eq!(two.said(new)[0]["t"], 1);
    two.pass(SECOND * 200);
    assert_eq!(two.turns().first().map(|turn| turn.1), Some(Status::Leave));
}

#[test]
fn a_dropped_session_moves_and_counts_for_one_shard_only() {
    let (mut one, mut two) = two();
    let (link, welcome) = one.hello(1, json!({}));
    one.end(link);
    one.pass(SECOND * 10);
    let (_, again) = resume_on(&mut two, &mut one, 2, resume(&welcome, 0));
    assert_eq!(again["resumed"], true);
    assert_eq!(two.turns().last().map(|turn| (turn.1, turn.2)), Some((Status::Alive, Cause::Resumed)));
    for world in [&one, &two] {
        assert_eq!(world.stats().retained, 0);
    }
}

#[test]
fn a_remembered_identity_moves_too() {
    let (mut one, mut two) = two();
    let (link, welcome) = one.hello(1, json!({}));
    one.end(link);
    one.pass(SECOND * 600);
    let (_, again) = resume_on(&mut two, &mut one, 2, resume(&welcome, 0));
    assert_eq!((&again["reason"], &again["session"]), (&json!("expired"), &welcome["session"]));
    assert_eq!((one.stats().remembered, two.only().status), (0, Status::Leave));
}

#[test]
fn a_wrong_secret_moves_nothing() {
    let (mut one, mut two) = two();
    let (_, welcome) = one.hello(1, json!({}));
    let guess = json!({"resume": {"session": welcome["session"], "secret": "A".repeat(43), "count": 0}});
    let (_, again) = resume_on(&mut two, &mut one, 2, guess);
    assert_eq!(again["reason"], "refused");
    assert_eq!((one.shard.session_count(), two.shard.session_count()), (1, 1));
}

#[test]
fn what_is_sent_behind_a_hello_waits_for_the_welcome() {
    let (mut one, mut two) = two();
    let (_, welcome) = one.hello(1, json!({}));
    let link = two.open(2);
    let mut hello = json!({"op": "hello", "v": 1});
    hello.as_object_mut().unwrap().extend(resume(&welcome, 0).as_object().unwrap().clone());
    let glued = [frame(&hello.to_string()), frame(r#"{"op":"beat","t":1}"#)].concat();
    let (head, tail) = glued.split_at(glued.len() - 5);
    two.send_bytes(link, head);
    two.send_bytes(link, tail);
    assert_eq!(two.said(link), [] as [Value; 0]);
    carry(&mut two, &mut one);
    let said = two.said(link);
    assert_eq!((&said[0]["op"], &said[1]["t"]), (&json!("welcome"), &json!(1)));
}

#[test]
fn a_session_whose_new_link_ended_on_the_way_waits_where_it_arrived() {
    let (mut one, mut two) = two();
    let (_, welcome) = one.hello(1, json!({}));
    let link = two.open(2);
    let mut hello = json!({"op": "hello", "v": 1});
    hello.as_object_mut().unwrap().extend(resume(&welcome, 0).as_object().unwrap().clone());
    two.send(link, &hello.to_string());
    two.end(link);
    carry(&mut two, &mut one);
    assert_eq!((one.shard.session_count(), two.stats().retained), (0, 1));
    let (_, again) = two.hello(3, resume(&welcome, 0));
    assert_eq!(again["resumed"], true);
}
