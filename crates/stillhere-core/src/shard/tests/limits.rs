//! Hostile links: each ends alone, in time, with its code.

use super::*;

/// Sends `bytes` on a fresh link while a bystander beats; returns the code after at most `within`.
fn check(bytes: &[u8], within: Duration, code: CloseCode) {
    let mut world = World::new();
    let (bystander, _) = world.hello(1, json!({}));
    let link = world.open(2);
    world.send_bytes(link, bytes);
    world.pass(within + LOOK_LATE_MAX);
    let closed = world.closed();
    let last = closed.last().unwrap_or_else(|| panic!("{bytes:?} was not closed"));
    assert_eq!((last.peer, last.code), (peer(2), Some(code)), "{bytes:?}");
    assert!(!world.written.contains_key(&link), "{bytes:?}");
    assert_eq!(world.stats().partial_bytes, 0, "{bytes:?}");
    world.send(bystander, r#"{"op":"beat","t":1}"#);
    assert_eq!(world.said(bystander)[0]["t"], 1);
}

#[test]
fn each_kind_of_nonsense_is_closed_at_once() {
    let now = Duration::ZERO;
    for length in [65_537u32, 1 << 20, (1 << 24) - 1] {
        check(&length.to_be_bytes(), now, CloseCode::BadFrame);
    }
    for bytes in [
        &b"\xff\xff\xff\xff"[..],
        b"\x7f\xff\xff\xff",
        b"\x80\0\0\0",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01",
        b"\x10\x0c\0\x04MQTT",
        b"\0\0\0\x01x",
        b"\0\0\0\x02[]",
        b"\0\0\0\x02{}",
        b"\0\0\0\x02\xff\xfe",
    ] {
        check(bytes, now, CloseCode::BadFrame);
    }
}

#[test]
fn who_says_nothing_or_too_little_is_closed_after_ten_seconds() {
    for bytes in [&b""[..], b"\0", b"\0\0\0\0", b"\0\0\0\0\0\0\0\0", b"\0\0\0\x05", b"\0\0\0\x05{\"a"] {
        check(bytes, SECOND * 10, CloseCode::NoHello);
    }
}

#[test]
fn a_frame_must_be_complete_ten_seconds_after_its_first_byte() {
    let mut world = World::new();
    let link = world.open(1);
    world.send(link, BEAT);
    let dribble = frame(BEAT);
    world.pass_until(100.0);
    for byte in &dribble[..9] {
        world.send_bytes(link, std::slice::from_ref(byte));
        world.pass(SECOND);
    }
    assert!(world.closes.is_empty());
    world.pass(SECOND + LOOK_LATE_MAX);
    assert_eq!(world.closed()[0].code, Some(CloseCode::BadFrame));
    assert_eq!(world.stats().partial_bytes, 0);
}

#[test]
fn frames_that_follow_each_other_each_have_their_ten_seconds() {
    let mut world = World::new();
    let link = world.open(1);
    let stream = frame(BEAT).repeat(20);
    // Always in the middle of a frame, but never in the same one for long.
    for piece in stream.chunks(60) {
        world.send_bytes(link, piece);
        world.pass(SECOND * 4);
    }
    assert!(world.closes.is_empty());
    assert_eq!(world.only().beats, 20);
}

#[test]
fn a_flood_of_frames_is_closed_and_a_burst_is_not() {
    let mut world = World::new();
    let link = world.open(1);
    let burst = frame(BEAT).repeat(2000);
    world.send_bytes(link, &burst);
    assert_eq!(world.only().beats, 2000);
    assert_eq!(world.stats().early_beats, 1999);
    world.pass(SECOND * 10);
    world.send_bytes(link, &frame(BEAT).repeat(2500));
    assert_eq!(world.closed()[0].code, Some(CloseCode::RateLimited));
}

#[test]
fn incomplete_frames_are_bounded_for_all_links_together() {
    let mut terms = terms("seed");
    terms.limits.partial_bytes = 100_000;
    let mut world = World::with(terms);
    let mut half = frame(&"x".repeat(60_000));
    half.truncate(50_000);
    let links: Vec<_> = (0..3).map(|port| world.open(port)).collect();
    for link in &links {
        world.send_bytes(*link, &half);
    }
    assert_eq!(world.closed().len(), 1, "only the one that asked for too much");
    assert!(world.closes.contains_key(&links[2]));
    assert_eq!(world.stats().partial_bytes, 100_000);
}

#[test]
fn a_slow_reader_is_counted_as_such() {
    let mut world = World::new();
    let (link, _) = world.hello(1, json!({}));
    world.input(Input::Ended { link, end: LinkEnd::Slow });
    assert_eq!(world.closed()[0].code, Some(CloseCode::SlowConsumer));
    assert_eq!(world.stats().retained, 1);
}

#[test]
fn a_server_that_stood_still_blames_itself() {
    for stop in [2, 5, 60, 3600] {
        let mut world = World::new();
        let (link, _) = world.hello(1, json!({"interval_ms": 1000}));
        for _ in 0..5 {
            world.pass(SECOND);
            world.send(link, r#"{"op":"beat"}"#);
        }
        // Stopped: nobody calls. Then the timer comes first, before anything is read.
        world.now = world.now + SECOND * stop;
        world.input(Input::Tick { wall_ms: 0 });
        for _ in 0..5 {
            world.pass(SECOND / 2);
            world.send(link, r#"{"op":"beat"}"#);
            world.pass(SECOND / 2);
        }
        assert_eq!(world.turns(), [], "{stop} s");
        let stats = world.stats();
        assert_eq!((stats.misses, stats.stalls), (0, 1), "{stop} s");
        assert!(stats.stalled > SECOND * stop - SECOND, "{stop} s");
    }
}

#[test]
fn being_late_by_less_than_a_second_is_no_excuse() {
    let mut world = World::new();
    let link = world.open(1);
    world.send(link, BEAT);
    while world.now < Time::from_millis(65_000) {
        world.now = world.shard.next_deadline() + SECOND;
        world.input(Input::Tick { wall_ms: 0 });
    }
    assert_eq!(world.turns(), [(65.0, Status::Leave, Cause::Silent)]);
    assert_eq!(world.stats().stalls, 0);
}

#[test]
fn new_numbers_hold_for_running_sessions() {
    let mut world = World::new();
    let link = world.open(1);
    world.send(link, BEAT);
    world.pass(SECOND);
    world.input(Input::Configure(Box::new(terms("game"))));
    world.pass_until(17.6);
    assert_eq!(world.turns(), [(17.5, Status::Leave, Cause::Silent)]);
}
