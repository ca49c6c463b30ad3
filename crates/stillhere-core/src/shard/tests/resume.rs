//! Taking a session up again.

use super::*;
use crate::event::Keepsake;
use crate::limits::RETAINED_PART_HELLO;

#[test]
fn a_dropped_session_is_on_leave_after_its_grace_and_a_resume_restores_it() {
    let mut world = World::new();
    let (link, welcome) = world.hello(1, json!({"user": "ann"}));
    world.pass_until(20.0);
    world.end(link);
    world.pass_until(50.0);
    let (_, again) = world.hello(2, resume(&welcome, 0));
    assert_eq!((&again["resumed"], &again["gen"]), (&json!(true), &json!(2)));
    assert_eq!(again["session"], welcome["session"]);
    assert_ne!(again["resume"]["secret"], welcome["resume"]["secret"]);
    assert_eq!(world.turns(), [(23.0, Status::Leave, Cause::Dropped), (50.0, Status::Alive, Cause::Resumed)]);
    let session = world.only();
    assert_eq!((session.cursor, session.strikes), (4, 0), "one miss before the drop, and frozen since");
}

#[test]
fn within_the_grace_nobody_notices() {
    let mut world = World::new();
    let (link, welcome) = world.hello(1, json!({}));
    world.end(link);
    world.pass(SECOND * 2);
    world.hello(2, resume(&welcome, 0));
    world.pass(SECOND * 5);
    assert_eq!(world.turns(), []);
    assert_eq!(world.stats().retained, 0);
}

#[test]
fn a_resume_works_while_the_old_link_still_hangs_and_that_can_end_nothing_any_more() {
    let mut world = World::new();
    let (old, welcome) = world.hello(1, json!({}));
    let (new, again) = world.hello(2, resume(&welcome, 0));
    assert_eq!(again["resumed"], true);
    assert_eq!(world.answer(old)["code"], 4509);
    world.end(old);
    world.send(new, r#"{"op":"beat","t":1}"#);
    assert_eq!(world.said(new)[0]["t"], 1);
    assert_eq!(world.turns(), []);
}

#[test]
fn a_lost_welcome_does_no_harm() {
    let mut world = World::new();
    let (link, first) = world.hello(1, json!({}));
    world.end(link);
    // The second welcome never arrives: the client comes with the first secret again, and again.
    for port in 2..6 {
        let (link, again) = world.hello(port, resume(&first, 0));
        assert_eq!(again["resumed"], true);
        world.end(link);
    }
    assert_eq!(world.only().generation, 5);
}

#[test]
fn a_proven_old_secret_is_refused_noted_and_ends_nothing() {
    let mut world = World::new();
    let (_, first) = world.hello(1, json!({}));
    let (link, _) = world.hello(2, resume(&first, 0));
    world.send(link, r#"{"op":"beat"}"#);
    world.said(link);
    world.notes.clear();
    let (_, thief) = world.hello(3, resume(&first, 0));
    assert_eq!((&thief["resumed"], &thief["reason"]), (&json!(false), &json!("refused")));
    assert_ne!(thief["session"], first["session"]);
    assert!(world.notes.iter().any(|note| matches!(note, Note::StaleSecret { .. })));
    assert_eq!(world.stats().refused[crate::stats::Refused::StaleSecret as usize], 1);
    world.send(link, r#"{"op":"beat","t":5}"#);
    assert_eq!(world.said(link)[0]["t"], 5, "the session's own link lives");
}

#[test]
fn who_guesses_secrets_must_wait_and_others_need_not() {
    let mut world = World::new();
    let (_, first) = world.hello(1, json!({}));
    let guess = json!({"resume": {"session": first["session"], "secret": "A".repeat(43), "count": 0}});
    for port in 0..10 {
        assert_eq!(world.hello(100 + port, guess.clone()).1["reason"], "refused");
    }
    let link = world.open(200);
    let mut hello = json!({"op": "hello", "v": 1, "id": 1});
    hello.as_object_mut().unwrap().extend(guess.as_object().unwrap().clone());
    world.send(link, &hello.to_string());
    let said = world.said(link);
    assert_eq!((&said[0]["code"], &said[1]["code"]), (&json!(1201), &json!(4006)));
    assert_eq!(said[0]["retry_ms"], 60_000);
    // Without a resume the address is served, and after a minute with one too.
    world.hello(201, json!({}));
    world.pass(SECOND * 60);
    world.hello(202, resume(&first, 0));
}

#[test]
fn pushes_that_may_be_missing_are_a_gap() {
    let mut world = World::new();
    let (link, welcome) = world.hello(1, json!({}));
    world.end(link);
    let (_, again) = world.hello(2, resume(&welcome, 3));
    assert_eq!((&again["resumed"], &again["reason"]), (&json!(false), &json!("gap")));
    assert_eq!(again["session"], welcome["session"]);
}

#[test]
fn an_anonymous_session_waits_a_minute_and_one_with_a_user_two() {
    for (hello, window) in [(json!({}), 60.0), (json!({"user": "ann"}), 120.0)] {
        let mut world = World::new();
        let (link, welcome) = world.hello(1, hello);
        assert_eq!(welcome["resume"]["window_ms"], window * 1000.0);
        world.end(link);
        world.pass_until(window + 1.0);
        assert_eq!(world.turns(), [(3.0, Status::Leave, Cause::Dropped), (window, Status::Close, Cause::Expired)]);
        let last = world.closed().pop().unwrap();
        assert_eq!((last.code, last.cause), (Some(CloseCode::ResumeOver), Some(Cause::Expired)));
    }
}

#[test]
fn who_returns_after_that_is_known_and_earns_alive() {
    let mut world = World::new();
    let (link, welcome) = world.hello(1, json!({"user": "ann"}));
    world.end(link);
    world.pass_until(1000.0);
    world.turns();
    let (link, again) = world.hello(2, resume(&welcome, 0));
    assert_eq!((&again["resumed"], &again["reason"]), (&json!(false), &json!("expired")));
    assert_eq!((&again["session"], &again["gen"], &again["user"]), (&welcome["session"], &json!(2), &json!("ann")));
    assert_eq!((world.only().status, world.only().cause), (Status::Leave, Some(Cause::Returned)));
    for _ in 0..3 {
        world.pass(SECOND * 10);
        world.send(link, r#"{"op":"beat"}"#);
    }
    assert_eq!(world.turns(), [(1030.0, Status::Alive, Cause::Stable)]);
}

#[test]
fn after_a_day_nobody_is_known() {
    let mut world = World::new();
    let (link, welcome) = world.hello(1, json!({}));
    world.end(link);
    world.pass(SECOND * 25 * 3600);
    let (_, again) = world.hello(2, resume(&welcome, 0));
    assert_eq!(again["reason"], "unknown");
    assert!(world.other.iter().any(|output| matches!(output, Output::Forget(_))));
}

#[test]
fn an_identity_survives_a_restart_of_the_server() {
    let mut world = World::new();
    let (_, welcome) = world.hello(1, json!({"user": "ann", "interval_ms": 5000}));
    let kept: Vec<Keepsake> = world
        .other
        .drain(..)
        .filter_map(|output| match output {
            Output::Keep(keepsake) => Some(keepsake),
            _ => None,
        })
        .collect();
    let mut world = World::numbered(terms("seed"), 2, true);
    world.input(Input::Restore(kept));
    let (_, again) = world.hello(1, resume(&welcome, 0));
    assert_eq!((&again["resumed"], &again["reason"], &again["gen"]), (&json!(false), &json!("gap"), &json!(2)));
    assert_eq!((&again["session"], &again["user"]), (&welcome["session"], &json!("ann")));
    assert_eq!(again["beat"]["interval_ms"], 5000);
    assert_eq!(world.only().status, Status::Alive);
}

#[test]
fn sessions_without_a_link_are_bounded_per_address_and_in_all() {
    let mut terms = terms("seed");
    terms.limits.retained = 5;
    terms.limits.retained_per_address = 3;
    let mut world = World::with(terms);
    for port in 0..10 {
        let (link, _) = world.hello(port, json!({}));
        world.send(link, r#"{"op":"beat"}"#);
        world.end(link);
    }
    assert_eq!(world.stats().retained, 3);
    let limited = world.turns().iter().filter(|turn| turn.2 == Cause::Limit).count();
    assert_eq!(limited, 7);
}

#[test]
fn who_only_said_hello_gets_a_part_of_the_places_and_isnt_remembered_without_one() {
    let mut terms = terms("seed");
    terms.limits.retained = 4 * RETAINED_PART_HELLO;
    let mut world = World::with(terms);
    let mut come_and_go = |port, beats| {
        let (link, welcome) = world.hello(port, json!({}));
        if beats {
            world.send(link, r#"{"op":"beat"}"#);
        }
        world.end(link);
        (welcome, world.stats().retained)
    };
    let (first, _) = come_and_go(0, false);
    (1..4).for_each(|port| drop(come_and_go(port, false)));
    let (forgotten, retained) = come_and_go(4, false);
    assert_eq!(retained, 4);
    assert_eq!(come_and_go(5, true).1, 5);
    (6..20).for_each(|port| drop(come_and_go(port, true)));
    let (remembered, retained) = come_and_go(20, true);
    assert_eq!(retained, 4 * RETAINED_PART_HELLO as u64);
    let again = |world: &mut World, port, welcome| world.hello(port, resume(welcome, 0)).1["session"].clone();
    assert_eq!(again(&mut world, 30, &first), first["session"]);
    assert_ne!(again(&mut world, 31, &forgotten), forgotten["session"]);
    assert_eq!(again(&mut world, 32, &remembered), remembered["session"]);
}

#[test]
fn a_hold_that_began_on_the_link_isnt_prolonged_by_losing_it() {
    let mut terms = terms("seed");
    terms.leave_hold = SECOND * 30;
    let mut world = World::with(terms);
    let (link, _) = world.hello(1, json!({"user": "ann"}));
    world.pass_until(90.0);
    world.end(link);
    world.pass_until(100.0);
    assert_eq!(world.turns(), [(65.0, Status::Leave, Cause::Silent), (95.0, Status::Close, Cause::Expired)]);
}

#[test]
fn a_resume_over_a_link_that_hangs_is_life() {
    let mut world = World::new();
    let (_, welcome) = world.hello(1, json!({"interval_ms": 60_000}));
    world.pass_until(360.0);
    let mut claim = resume(&welcome, 0);
    claim["interval_ms"] = json!(1000);
    let (link, again) = world.hello(2, claim);
    assert_eq!((&again["resumed"], world.only().cursor), (&json!(true), 4));
    let due = world.only().leave_due.unwrap().since(world.now);
    assert_eq!(again["beat"]["detect_ms"], due.as_millis() as u64);
    world.pass(Duration::from_millis(1400));
    assert_eq!((world.turns(), world.closes.contains_key(&link)), (vec![], false));
}

#[test]
fn who_returned_and_is_silent_is_cut_at_twice_its_bound() {
    let mut world = World::new();
    let (link, welcome) = world.hello(1, json!({"user": "ann"}));
    world.end(link);
    world.pass_until(1000.0);
    let (link, _) = world.hello(2, resume(&welcome, 0));
    world.pass_until(1129.9);
    assert!(!world.closes.contains_key(&link));
    world.pass_until(1130.1);
    assert!(world.closes.contains_key(&link));
}

#[test]
fn what_comes_in_the_moment_of_the_cut_comes_too_late_and_leaves_nothing_behind() {
    let mut world = World::new();
    let (link, _) = world.hello(1, json!({}));
    world.pass_until(129.99);
    // Past the cut, but before the shard has looked.
    world.now = Time::from_micros(130_000_001);
    let mut half = frame("");
    half.extend_from_slice(b"\0\0\x10\0{");
    world.send_bytes(link, &half);
    assert!(world.closes.contains_key(&link));
    assert_eq!((world.stats().partial_bytes, world.stats().retained), (0, 1));
    world.shard.check_invariants();
}
