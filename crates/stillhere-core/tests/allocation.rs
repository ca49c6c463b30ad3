//! The path of a beat allocates nothing, and what else must not. In a binary of its own, since it counts through the
//! global allocator.

use std::net::SocketAddr;
use std::time::Duration;

use stillhere_core::area::{Grid, Point};
use stillhere_core::event::{Input, LinkId, Output, Outputs, Seat, Terms};
use stillhere_core::ledger::{Mailbox, Outcome, Role, RoomState, StreamId, Told};
use stillhere_core::name::Name;
use stillhere_core::profile::Profile;
use stillhere_core::shard::Shard;
use stillhere_core::time::Time;
use stillhere_core::wire::frame::write_frame;

const LEGACY: &str = r#""{\"ip\": \"127.0.0.1\", \"status\": \"alive\", \"pid\": 21243}""#;
const V1: &str = r#"{"op":"beat","t":123456,"ack":0,"id":"beat-7"}"#;

fn terms() -> Terms {
    let profile = Profile::default();
    Terms::of(&profile)
}

fn frame(body: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    write_frame(&mut frame, |out| out.extend_from_slice(body.as_bytes()));
    frame
}

/// Allocations during forty beats of a session that has beaten a few times before.
fn allocations(first: &str, beat: &str) -> u64 {
    let mut shard = Shard::new(terms(), [1; 32], Seat::ALONE, Time::ZERO);
    let mut out = Outputs::default();
    let link = LinkId(0);
    let mut now = Time::ZERO;
    shard.handle(now, Input::Opened { link, peer: SocketAddr::from(([127, 0, 0, 1], 4000)).into() }, &mut out);
    shard.handle(now, Input::Received { link, bytes: &frame(first) }, &mut out);
    let bytes = frame(beat);
    let mut beats = |shard: &mut Shard, count: u32| {
        for _ in 0..count {
            now = now + Duration::from_millis(100);
            out.clear();
            shard.handle(now, Input::Received { link, bytes: &bytes }, &mut out);
        }
    };
    beats(&mut shard, 50);
    let before = shard.stats().beats.iter().sum::<u64>();
    let allocated = allocation_counter::measure(|| beats(&mut shard, 40)).count_total;
    assert_eq!(shard.stats().beats.iter().sum::<u64>(), before + 40);
    allocated
}

#[test]
fn a_legacy_beat_allocates_nothing() {
    assert_eq!(allocations(LEGACY, LEGACY), 0);
}

#[test]
fn a_v1_beat_and_its_reply_allocate_nothing() {
    assert_eq!(allocations(r#"{"op":"hello","v":1}"#, V1), 0);
}

/// A user in two rooms, as a store would have let it in.
#[test]
fn a_beat_of_a_user_in_rooms_allocates_nothing() {
    let mut terms = terms();
    terms.identity.open = true;
    let mut shard = Shard::new(terms, [1; 32], Seat::ALONE, Time::ZERO);
    let mut out = Outputs::default();
    let link = LinkId(0);
    let mut now = Time::ZERO;
    shard.handle(now, Input::Opened { link, peer: SocketAddr::from(([127, 0, 0, 1], 4000)).into() }, &mut out);
    let requests = [
        r#"{"op":"hello","v":1,"user":"ann"}"#,
        r#"{"op":"join","room":"red","id":1}"#,
        r#"{"op":"join","room":"blue","id":2}"#,
    ];
    for (nth, request) in requests.iter().enumerate() {
        out.clear();
        shard.handle(now, Input::Received { link, bytes: &frame(request) }, &mut out);
        let id = out.list.iter().find_map(|output| match output {
            Output::Order { id, .. } => Some(*id),
            _ => None,
        });
        let mailbox = Mailbox { stream: StreamId(9), head: 0, handled: 0 };
        let outcome = match nth {
            0 => Outcome::Entered { user: Name::user("ann").unwrap(), verified: true, token: None, mailbox },
            _ => Outcome::Joined {
                stream: StreamId(nth as u64),
                head: 0,
                trimmed: 0,
                role: Role::Member,
                muted: Duration::ZERO,
                state: RoomState { topic: "".into(), public: true, radius: None },
            },
        };
        shard.handle(now, Input::Told(vec![Told::Outcome(id.unwrap(), Ok(outcome))]), &mut out);
    }
    let bytes = frame(V1);
    let mut beats = |shard: &mut Shard, count: u32| {
        for _ in 0..count {
            now = now + Duration::from_millis(100);
            out.clear();
            shard.handle(now, Input::Received { link, bytes: &bytes }, &mut out);
        }
    };
    beats(&mut shard, 50);
    assert_eq!(shard.users_here(None).len(), 1);
    assert_eq!(allocation_counter::measure(|| beats(&mut shard, 40)).count_total, 0);
}

#[test]
fn looking_whether_a_name_is_canonical_allocates_nothing() {
    for text in ["alice", "Alice", "josé", "Jose\u{301}", "小明", "한국어", "#room/1"] {
        let allocated = allocation_counter::measure(|| {
            std::hint::black_box(Name::is_canonical(std::hint::black_box(text)));
        });
        assert_eq!(allocated.count_total, 0, "{text}");
    }
    let made = allocation_counter::measure(|| drop(Name::user(std::hint::black_box("alice"))));
    assert_eq!(made.count_total, 1);
}

#[test]
fn moving_in_an_area_allocates_nothing() {
    let mut grid = Grid::new(1.0).unwrap();
    let at = |x: u32| Point::new(f64::from(x), 0.5).unwrap();
    for member in 0..100 {
        grid.place(member, at(member));
    }
    for step in 0..1000 {
        grid.place(step % 100, at(step % 150));
    }
    let moved = allocation_counter::measure(|| {
        for step in 0..1000 {
            grid.place(step % 100, at(step % 150));
        }
    });
    assert_eq!(moved.count_total, 0);
}
