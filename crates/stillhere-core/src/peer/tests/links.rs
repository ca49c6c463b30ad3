//! Links that die, and sessions that go on.

use super::*;

#[test]
fn a_link_is_a_zombie_at_two_and_a_half_intervals_of_silence_and_not_before() {
    for seed in 0..100 {
        let mut rig = Rig::welcomed(seed);
        let heard = rig.now;
        rig.run_until(heard + SECOND * 25 - Duration::from_micros(1));
        assert_eq!(rig.links.last().unwrap().1, LinkRequest::Connect, "the first link still stands");
        assert!((2..=3).contains(&rig.said.len()), "it goes on beating: {:?}", rig.said);
        rig.events.clear();
        rig.run_until(heard + SECOND * 25);
        assert_eq!(rig.events[..2], [PeerEvent::Lost(Loss::Zombie), PeerEvent::Reconnecting { after: Duration::ZERO }]);
        let [.., dropped, connect] = rig.links[..] else { panic!("it drops the link and connects") };
        assert_eq!(dropped, (rig.now, LinkRequest::Drop));
        assert_eq!(connect, (rig.now, LinkRequest::Connect));
    }
}

#[test]
fn any_whole_frame_is_life_and_half_a_frame_is_not() {
    for (bytes, is_life) in [
        (&b"\0\0\0\0"[..], true),
        (b"\0\0\0\x0a{\"op\":\"x\"}", true),
        (b"\0\0\0\x0b{\"op\":\"ok\"}", true),
        (b"\0\0\0\x0b{\"op\":", false),
    ] {
        let mut rig = Rig::welcomed(1);
        rig.run_until(rig.now + SECOND * 20);
        rig.handle(PeerInput::Received(bytes));
        rig.run_until(rig.now + SECOND * 5);
        assert_eq!(rig.events.contains(&PeerEvent::Lost(Loss::Zombie)), !is_life, "{bytes:?}");
    }
}

#[test]
fn a_peer_that_slept_beats_first_and_blames_the_server_only_later() {
    let mut rig = Rig::welcomed(1);
    rig.now = rig.now + SECOND * 3600;
    rig.handle(PeerInput::Tick);
    let [PeerEvent::BeatSent { late }] = rig.take_events()[..] else { panic!("a beat and nothing else") };
    assert!(late >= SECOND * 3590 && late <= SECOND * 3600, "{late:?}");
    let left = rig.peer.zombie_at(match &rig.peer.state {
        State::Live(live) => live,
        other => panic!("{other:?}"),
    });
    assert!(left.since(rig.now) >= SECOND * 15 && left.since(rig.now) <= SECOND * 25);
}

#[test]
fn a_server_that_gives_no_welcome_is_left_after_ten_seconds() {
    let mut rig = Rig::v1(1);
    rig.open();
    let start = rig.now;
    rig.receive(r#"{"op":"notice"}"#);
    rig.tick();
    assert_eq!(rig.now, start + WELCOME_TIMEOUT);
    assert!(rig.events.contains(&PeerEvent::Lost(Loss::NoWelcome)));
    assert_eq!(rig.links.last().unwrap().1, LinkRequest::Drop);
}

#[test]
fn a_link_that_does_not_open_is_given_up_after_ten_seconds() {
    let mut rig = Rig::v1(1);
    rig.tick();
    let start = rig.now;
    rig.tick();
    assert_eq!(rig.now, start + CONNECT_TIMEOUT);
    assert!(rig.events.contains(&PeerEvent::Lost(Loss::ConnectTimeout)));
    assert_eq!(rig.links.last().unwrap().1, LinkRequest::Drop);
}

#[test]
fn resuming_carries_the_last_secret_and_the_count() {
    let mut rig = Rig::welcomed(1);
    rig.receive(r#"{"op":"message"}"#);
    rig.receive(r#"{"op":"presence"}"#);
    let hello =
        |resume: &str| format!(r#"{{"op":"hello","v":1,"client":"test","interval_ms":10000,"resume":{resume}}}"#);
    // (what to show, then the answer: the session, its new secret, whether it goes on, and a push after it)
    for (shown, session, secret, resumed, pushes) in [
        (r#"{"session":"s1","secret":"secret1","count":2}"#, "s1", "secret2", true, 1),
        (r#"{"session":"s1","secret":"secret2","count":3}"#, "s1", "secret3", true, 0),
        (r#"{"session":"s1","secret":"secret3","count":3}"#, "s1", "secret4", false, 1),
        (r#"{"session":"s1","secret":"secret4","count":1}"#, "s2", "secret5", false, 0),
        (r#"{"session":"s2","secret":"secret5","count":0}"#, "s3", "secret6", true, 0),
        (r#"{"session":"s3","secret":"secret6","count":0}"#, "s3", "secret7", true, 0),
    ] {
        rig.handle(PeerInput::Disconnected("reset"));
        rig.now = rig.now.max(rig.peer.next_deadline());
        rig.said.clear();
        if !matches!(rig.peer.state, State::Connecting { .. }) {
            rig.handle(PeerInput::Tick);
        }
        rig.handle(PeerInput::Connected { local: LOCAL.parse().unwrap() });
        check_said(&mut rig, &[&hello(shown)]);
        rig.events.clear();
        rig.receive(&welcome(session, secret, resumed));
        let [PeerEvent::Welcomed(welcomed)] = &rig.take_events()[..] else { panic!("welcomed") };
        let same = shown.contains(&format!("\"{session}\""));
        let gap = Continuity::Broken { reason: "gap".to_owned() };
        assert_eq!(welcomed.continuity, if resumed && same { Continuity::Resumed } else { gap });
        (0..pushes).for_each(|_| rig.receive(r#"{"op":"message"}"#));
    }
}

#[test]
fn a_session_kept_from_an_earlier_run_is_resumed() {
    let resume = Resume { session: "s9".to_owned(), secret: "x".to_owned(), count: 41 };
    let mut rig = Rig::v1(1);
    rig.peer = Peer::new(PeerConfig::default(), 1).with_resume(resume);
    rig.open();
    check_said(&mut rig, &[r#"{"op":"hello","v":1,"resume":{"session":"s9","secret":"x","count":41}}"#]);
    rig.receive(&welcome("s9", "y", true));
    rig.receive(r#"{"op":"message"}"#);
    assert_eq!(rig.peer.resume(), Some(&Resume { session: "s9".to_owned(), secret: "y".to_owned(), count: 42 }));
    assert!(!format!("{:?}", rig.peer).contains("secret"), "a peer doesn't print its secret");
}

#[test]
fn close_codes_decide_whether_to_come_back() {
    for code in crate::close::CloseCode::all() {
        let mut rig = Rig::welcomed(1);
        rig.receive(&format!(r#"{{"op":"bye","code":{},"reason":"r","retry_ms":5000}}"#, code.number()));
        let closed = PeerEvent::Closed { code: code.number(), reason: "r".into() };
        assert_eq!(rig.events[0], closed);
        assert_eq!(rig.links.last().unwrap().1, LinkRequest::Drop);
        if code.reconnect() {
            let wait = rig.wait();
            assert!(wait >= SECOND * 5 && wait < SECOND * 55 / 10, "{code:?}: {wait:?}");
            assert_eq!(rig.peer.next_deadline(), rig.now + wait);
        } else {
            assert_eq!(rig.events[1..], [PeerEvent::Stopped(Stop::Told(code.number()))], "{code:?}");
            assert_eq!(rig.peer.next_deadline(), Time::NEVER);
        }
    }
}

#[test]
fn a_refused_hello_is_tried_again_only_if_that_can_help() {
    let error = |temporary| {
        format!(r#"{{"op":"error","code":1201,"name":"n","message":"m","temporary":{temporary},"retry_ms":60000}}"#)
    };
    let mut rig = Rig::v1(1);
    rig.open();
    rig.receive(&error(true));
    assert!(rig.events.contains(&PeerEvent::Lost(Loss::HelloRefused)));
    assert!(rig.wait() >= SECOND * 60 && rig.wait() < SECOND * 66, "{:?}", rig.wait());
    let mut rig = Rig::v1(1);
    rig.open();
    rig.receive(&error(false));
    assert_eq!(rig.events.last(), Some(&PeerEvent::Stopped(Stop::HelloRefused(1201))));
    let mut rig = Rig::welcomed(1);
    rig.receive(&error(false));
    assert!(matches!(rig.events[..], [PeerEvent::Refused(_)]), "later errors end nothing: {:?}", rig.events);
}

#[test]
fn a_link_that_lasted_an_interval_earns_the_right_to_return_at_once() {
    for (lived_ms, at_once) in [(9_999, false), (10_000, true)] {
        let mut rig = Rig::welcomed(1);
        rig.run_until(rig.now + Duration::from_millis(lived_ms));
        rig.handle(PeerInput::Disconnected("reset"));
        assert_eq!(rig.wait() == Duration::ZERO, at_once, "{lived_ms} ms");
    }
}
