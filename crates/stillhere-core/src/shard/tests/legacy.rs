//! The tutorial's clients.

use super::*;

fn begin(world: &mut World) -> LinkId {
    let link = world.open(4000);
    world.send(link, BEAT);
    link
}

#[test]
fn a_beat_makes_a_session_known_by_its_address() {
    let mut world = World::new();
    begin(&mut world);
    let session = world.only();
    assert_eq!(session.identity.to_string(), "127.0.0.1:4000");
    assert_eq!((session.status, session.cause, session.beats), (Status::Alive, None, 1));
    assert_eq!((session.cursor, session.strikes), (3, 0));
    assert_eq!((session.pid, session.ip), (Some(Pid::Number(21243)), None));
    assert_eq!(session.detect, SECOND * 65);
}

#[test]
fn glued_split_and_sticky_frames_are_each_counted() {
    let mut world = World::new();
    let link = world.open(4000);
    let hundred = format!(r#"{{"ip":"127.0.0.1","status":"alive","x":"{}"}}"#, "y".repeat(60));
    let sticky = [frame(&hundred), frame(&hundred), frame(&hundred)].concat();
    world.send_bytes(link, &sticky);
    assert_eq!(world.only().beats, 3);
    for byte in frame(BEAT) {
        world.send_bytes(link, &[byte]);
    }
    assert_eq!(world.only().beats, 4);
    let (head, tail) = sticky.split_at(150);
    world.send_bytes(link, head);
    assert_eq!(world.only().beats, 5);
    world.send_bytes(link, tail);
    assert_eq!(world.only().beats, 7);
    assert_eq!(world.stats().partial_bytes, 0);
}

#[test]
fn a_silent_fresh_client_is_on_leave_at_65_seconds_and_closed_a_hold_later() {
    let mut world = World::new();
    let link = begin(&mut world);
    world.pass_until(65.0 + 1800.1);
    assert_eq!(world.turns(), [(65.0, Status::Leave, Cause::Silent), (1865.0, Status::Close, Cause::Expired)]);
    assert_eq!(world.closes[&link], Manner::Abort);
    let [closed] = &world.closed()[..] else { panic!() };
    assert_eq!((closed.code, closed.cause, closed.beats), (Some(CloseCode::Silent), Some(Cause::Expired), 1));
    assert!(world.written.is_empty());
}

#[test]
fn a_decision_is_made_at_most_a_tick_after_its_moment() {
    let mut world = World::new();
    begin(&mut world);
    world.pass_until(64.999);
    assert_eq!(world.turns(), []);
    world.pass(Duration::from_millis(1) + LOOK_LATE_MAX);
    assert_eq!(world.turns(), [(65.0, Status::Leave, Cause::Silent)]);
}

#[test]
fn three_beats_in_a_row_bring_it_back_and_that_leave_was_false() {
    let mut world = World::new();
    let link = begin(&mut world);
    world.pass_until(70.0);
    for second in [70.0, 80.0, 90.0] {
        world.pass_until(second);
        world.send(link, BEAT);
    }
    assert_eq!(world.turns(), [(65.0, Status::Leave, Cause::Silent), (90.0, Status::Alive, Cause::Stable)]);
    assert_eq!((world.stats().false_leaves, world.only().strikes), (1, 0));
}

#[test]
fn status_leave_is_a_declared_leave_that_starts_no_hold() {
    let mut world = World::new();
    let link = begin(&mut world);
    let leave = r#"{"ip":"127.0.0.1","status":"leave"}"#;
    for second in 1..400 {
        world.pass_until(f64::from(second) * 10.0);
        world.send(link, leave);
    }
    assert_eq!(world.turns(), [(10.0, Status::Leave, Cause::Declared)]);
    world.send(link, BEAT);
    assert_eq!(world.turns().last().map(|turn| (turn.1, turn.2)), Some((Status::Alive, Cause::Declared)));
}

#[test]
fn status_close_is_a_clean_goodbye_and_the_same_address_returns_on_leave() {
    let mut world = World::new();
    let link = begin(&mut world);
    world.send(link, r#"{"ip":"127.0.0.1","status":"close"}"#);
    assert_eq!(world.turns(), [(0.0, Status::Close, Cause::Goodbye)]);
    assert_eq!(world.closes[&link], Manner::AtOnce);
    let [closed] = &world.closed()[..] else { panic!() };
    assert_eq!((closed.code, closed.beats), (None, 2));

    world.pass(SECOND);
    let link = begin(&mut world);
    let session = world.only();
    assert_eq!((session.status, session.cause, session.cursor), (Status::Leave, Some(Cause::Returned), 3));
    for _ in 0..3 {
        world.pass(SECOND * 10);
        world.send(link, BEAT);
    }
    assert_eq!(world.turns(), [(31.0, Status::Alive, Cause::Stable)]);
    assert_eq!(world.stats().false_leaves, 0);
}

#[test]
fn a_lost_link_ends_the_session_and_after_a_day_it_is_forgotten() {
    let mut world = World::new();
    let link = begin(&mut world);
    world.end(link);
    assert_eq!(world.turns(), [(0.0, Status::Close, Cause::Dropped)]);
    assert_eq!(world.shard.session_count(), 0);
    assert_eq!(world.stats().remembered, 1);
    world.pass(SECOND * 24 * 3600 + SECOND);
    assert_eq!(world.stats().remembered, 0);
    begin(&mut world);
    assert_eq!(world.only().status, Status::Alive);
}

#[test]
fn the_same_address_on_a_new_link_takes_the_session_over_unchanged() {
    let mut world = World::new();
    let old = begin(&mut world);
    world.pass(SECOND * 20);
    let new = begin(&mut world);
    assert_eq!(world.closes.get(&old), Some(&Manner::AtOnce));
    assert_eq!((world.only().beats, world.only().status), (2, Status::Alive));
    world.end(new);
    assert_eq!(world.turns(), [(20.0, Status::Close, Cause::Dropped)]);
}

#[test]
fn hello_turns_a_legacy_link_into_v1_once() {
    let mut world = World::new();
    let link = begin(&mut world);
    world.send(link, r#"{"op":"hello","v":1}"#);
    assert_eq!(world.answer(link)["op"], "welcome");
    assert_eq!(world.turns(), [(0.0, Status::Close, Cause::Replaced)]);
    assert_eq!(world.only().mode, crate::event::Mode::V1);
    world.send(link, BEAT);
    let bye = world.answer(link);
    assert_eq!((&bye["op"], &bye["code"]), (&json!("bye"), &json!(4002)));
}

#[test]
fn a_body_that_is_no_beat_closes_the_link_without_a_word() {
    for body in ["{}", "[]", "x", r#"{"op":"beat"}"#, r#"{"ip":"a"}"#, "\u{0}"] {
        let mut world = World::new();
        let link = begin(&mut world);
        world.send(link, body);
        assert_eq!(world.closes.get(&link), Some(&Manner::AtOnce), "{body}");
        assert_eq!(world.closed()[0].code, Some(CloseCode::BadFrame), "{body}");
        assert!(world.written.is_empty(), "{body}");
    }
}

#[test]
fn legacy_clients_can_be_switched_off() {
    let mut world = World::with(Terms { legacy: false, ..terms("seed") });
    let link = begin(&mut world);
    assert_eq!(world.closed()[0].code, Some(CloseCode::Version));
    assert_eq!(world.closes[&link], Manner::AtOnce);
    assert!(world.written.is_empty());
}

#[test]
fn what_a_client_says_of_itself_is_kept_short_and_never_trusted() {
    let mut world = World::new();
    let link = world.open(4000);
    let body = json!({"ip": "é".repeat(100), "status": "alive", "pid": "p".repeat(100)}).to_string();
    world.send(link, &body);
    let session = world.only();
    assert_eq!(session.ip.as_deref(), Some(&*"é".repeat(32)));
    assert_eq!(session.pid, Some(Pid::Text("p".repeat(64).into())));
    assert_eq!(session.identity, Identity::Legacy(peer(4000)));
}

#[test]
fn history_keeps_the_last_sixteen_changes() {
    let mut world = World::new();
    let link = begin(&mut world);
    for n in 0..40 {
        world.pass(SECOND);
        let status = if n % 2 == 0 { "leave" } else { "alive" };
        world.send(link, &json!({"ip": "h", "status": status}).to_string());
    }
    let history = world.only().history;
    assert_eq!(history.len(), 16);
    assert_eq!(history[15].at, Time::from_millis(40_000));
}
