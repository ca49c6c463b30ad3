//! Links that are carried by something else than plain TCP.

use super::*;
use crate::event::{Mode, Transport};
use crate::stats::Refused;

impl World {
    fn upgrade(&mut self, link: LinkId, transport: Transport) {
        self.input(Input::Upgraded { link, transport });
    }

    /// Pings since the last look.
    fn pings(&mut self) -> usize {
        let other = std::mem::take(&mut self.other);
        let pings = other.iter().filter(|output| matches!(output, Output::Ping { .. })).count();
        self.other = other.into_iter().filter(|output| !matches!(output, Output::Ping { .. })).collect();
        pings
    }
}

#[test]
fn a_link_is_counted_by_what_carries_it() {
    let mut world = World::new();
    let link = world.open(1);
    world.upgrade(link, Transport::Tls);
    world.upgrade(link, Transport::WebSocketTls);
    world.send(link, BEAT);
    assert_eq!(world.stats().links[Transport::WebSocketTls as usize][Mode::Legacy as usize], 1);
    assert_eq!(world.only().transport, Some(Transport::WebSocketTls));
    world.end(link);
    assert_eq!(world.stats().links_open(), 0);
    assert_eq!(world.closed()[0].transport, Some(Transport::WebSocketTls));
}

#[test]
fn only_transports_that_nobody_can_read_carry_a_hello_from_afar() {
    for (transport, first_op) in [
        (Transport::Tcp, "error"),
        (Transport::WebSocket, "error"),
        (Transport::Tls, "welcome"),
        (Transport::WebSocketTls, "welcome"),
    ] {
        let mut world = World::new();
        let link = LinkId(0);
        world.input(Input::Opened { link, peer: SocketAddr::from(([192, 0, 2, 1], 4000)).into() });
        world.upgrade(link, transport);
        world.send(link, r#"{"op":"hello","v":1}"#);
        assert_eq!(world.answer(link)["op"], first_op, "{transport:?}");
    }
}

#[test]
fn a_silent_websocket_is_pinged_every_interval_and_nothing_else_is() {
    for (transport, pings) in [(Transport::WebSocket, 4), (Transport::WebSocketTls, 4), (Transport::Tls, 0)] {
        let mut world = World::new();
        let link = world.open(1);
        world.upgrade(link, transport);
        world.send(link, BEAT);
        world.pass_until(9.9);
        assert_eq!(world.pings(), 0);
        world.pass_until(10.1);
        assert_eq!(world.pings(), usize::from(pings > 0), "after one interval");
        world.pass_until(49.0);
        assert_eq!(world.pings(), pings.max(1) - 1, "{transport:?}");
    }
}

#[test]
fn who_beats_is_never_pinged() {
    let mut world = World::new();
    let link = world.open(1);
    world.upgrade(link, Transport::WebSocket);
    for _ in 0..20 {
        world.send(link, BEAT);
        world.pass(SECOND * 9);
    }
    assert_eq!(world.pings(), 0);
}

#[test]
fn a_websocket_without_a_session_is_never_pinged() {
    let mut world = World::new();
    let link = world.open(1);
    world.upgrade(link, Transport::WebSocket);
    world.pass_until(60.0);
    assert_eq!(world.pings(), 0);
    assert_eq!(world.closed()[0].code, Some(CloseCode::NoHello));
}

#[test]
fn a_pong_is_life_as_an_empty_frame_is() {
    let mut world = World::new();
    let (link, _) = world.hello(1, json!({}));
    world.upgrade(link, Transport::WebSocket);
    for _ in 0..30 {
        world.pass(SECOND * 10);
        world.input(Input::Heard { link });
    }
    let view = world.only();
    assert_eq!((view.beats, view.status, view.cursor), (30, Status::Alive, 0));
    assert!(world.changes().is_empty());
}

#[test]
fn pings_before_hello_stop_no_deadline() {
    let mut world = World::new();
    let link = world.open(1);
    world.upgrade(link, Transport::WebSocket);
    for _ in 0..10 {
        world.input(Input::Heard { link });
        world.pass(SECOND);
    }
    world.pass(SECOND);
    assert_eq!(world.closed()[0].code, Some(CloseCode::NoHello));
}

#[test]
fn a_flood_of_pings_is_too_much() {
    let mut world = World::new();
    let (link, _) = world.hello(1, json!({}));
    world.upgrade(link, Transport::WebSocket);
    for _ in 0..5_002 {
        world.input(Input::Heard { link });
    }
    assert_eq!(world.said(link).last().map(|bye| bye["code"].clone()), Some(json!(4006)));
}

#[test]
fn what_makes_no_frame_is_a_bad_frame() {
    let mut world = World::new();
    let (link, _) = world.hello(1, json!({}));
    world.upgrade(link, Transport::WebSocket);
    world.send_bytes(link, &[0]);
    world.input(Input::Garbled { link });
    assert_eq!(world.answer(link)["code"], 4002);
    world.shard.check_invariants();
}

#[test]
fn who_is_turned_away_is_counted_by_the_reason() {
    let mut world = World::new();
    let link = world.open(1);
    world.input(Input::TurnedAway { link, code: CloseCode::BadFrame, reason: Refused::Origin });
    world.input(Input::TurnedAway { link, code: CloseCode::BadFrame, reason: Refused::Origin });
    assert_eq!(world.stats().refused[Refused::Origin as usize], 1, "once, since the link is gone then");
    assert_eq!(world.closed()[0].code, Some(CloseCode::BadFrame));
}

#[test]
fn first_bytes_that_are_no_frames_are_counted_by_what_they_look_like() {
    let greetings: [(&[u8], Refused); 5] = [
        (b"\x16\x03\x01", Refused::Tls),
        (b"POST / HTTP/1.1\r\n", Refused::Http),
        (b"PROXY TCP4 1.2.3.4", Refused::Proxy),
        (b"\r\n\r\n\0\r\nQUIT\n", Refused::Proxy),
        (b"\x10\x10", Refused::Protocol),
    ];
    for (greeting, reason) in greetings {
        let mut world = World::new();
        let link = world.open(1);
        world.send_bytes(link, greeting);
        assert_eq!(world.stats().refused[reason as usize], 1, "{greeting:?}");
    }
}
