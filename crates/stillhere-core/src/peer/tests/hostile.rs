//! Servers that want a peer to panic, to grow or to hammer.

use super::*;
use proptest::prelude::*;

/// What a hostile server, network or application does next.
#[derive(Clone, Debug)]
enum Blow {
    Bytes(Vec<u8>),
    Body(String),
    Accept,
    Refuse,
    Cut,
    Wait(u64),
    Command(PeerCommand<'static>),
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<u64>().prop_map(|n| n.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        (0u64..100_000).prop_map(|n| n.to_string()),
        Just("1e308".to_owned()),
        Just("null".to_owned()),
        Just("\"x\"".to_owned()),
    ]
}

/// Bodies that are nearly what a peer expects.
fn body() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<bool>().prop_map(|resumed| welcome("s1", "secret", resumed)),
        (number(), number()).prop_map(|(n, id)| welcome("s1", "x", true).replace("10000", &n).replace("65000", &id)),
        (number(), number(), any::<bool>())
            .prop_map(|(t, n, now)| format!(r#"{{"op":"beat","t":{t},"interval_ms":{n},"now":{now},"id":3}}"#)),
        (4000u16..5000, number())
            .prop_map(|(code, n)| format!(r#"{{"op":"bye","code":{code},"reason":"r","retry_ms":{n}}}"#)),
        any::<bool>().prop_map(|temporary| {
            format!(r#"{{"op":"error","code":1,"name":"n","message":"m","temporary":{temporary},"retry_ms":0}}"#)
        }),
        Just(r#"{"op":"message"}"#.to_owned()),
        Just(r#"{"op":"ok"}"#.to_owned()),
        Just(String::new()),
        (1usize..300).prop_map(|depth| format!(r#"{{"op":"beat","t":{}"#, "[".repeat(depth))),
        "\\PC{0,40}",
    ]
}

fn blow() -> impl Strategy<Value = Blow> {
    prop_oneof![
        2 => prop::collection::vec(any::<u8>(), 0..200).prop_map(Blow::Bytes),
        8 => body().prop_map(Blow::Body),
        4 => Just(Blow::Accept),
        1 => Just(Blow::Refuse),
        2 => Just(Blow::Cut),
        4 => (0u64..30_000).prop_map(Blow::Wait),
        1 => prop_oneof![Just(PeerCommand::Leave), Just(PeerCommand::Back)].prop_map(Blow::Command),
    ]
}

fn strike(rig: &mut Rig, blow: &Blow) {
    match blow {
        Blow::Bytes(bytes) => rig.handle(PeerInput::Received(bytes)),
        Blow::Body(body) => rig.receive(body),
        Blow::Accept => rig.handle(PeerInput::Connected { local: LOCAL.parse().unwrap() }),
        Blow::Refuse => rig.handle(PeerInput::ConnectFailed("refused")),
        Blow::Cut => rig.handle(PeerInput::Disconnected("cut")),
        Blow::Wait(ms) => rig.run_until(rig.now + Duration::from_millis(*ms)),
        Blow::Command(command) => rig.command(*command),
    }
}

/// Every connect but the first was announced, waited for, and made once; only a proven link earns one at once.
fn check_connects(rig: &Rig) {
    let connects = rig.links.iter().filter(|link| link.1 == LinkRequest::Connect).count();
    let waits: Vec<Duration> = rig
        .events
        .iter()
        .filter_map(|event| match event {
            PeerEvent::Reconnecting { after } => Some(*after),
            _ => None,
        })
        .collect();
    assert!(connects <= waits.len() + 1, "{connects} connects, {} waits", waits.len());
    assert!(waits.iter().all(|wait| *wait <= RETRY_MAX + RETRY_MAX / 10));
    let total: Duration = waits.iter().take(connects.saturating_sub(1)).sum();
    let start = rig.links.first().map_or(rig.now, |link| link.0);
    assert!(rig.now.since(start) >= total, "it connected before the waits were over");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_blow_makes_it_panic_grow_or_connect_before_its_time(
        seed in any::<u64>(),
        is_legacy in any::<bool>(),
        blows in prop::collection::vec(blow(), 0..120),
    ) {
        let mode = if is_legacy { Mode::Legacy } else { Mode::V1 };
        let mut rig = Rig::new(PeerConfig { mode, interval: Some(SECOND * 10), ..PeerConfig::default() }, seed);
        rig.handle(PeerInput::Tick);
        for blow in &blows {
            strike(&mut rig, blow);
            prop_assert!(rig.peer.decoder.kept_bytes() <= FRAME_BYTES as usize + 4);
            prop_assert!(rig.peer.is_stopped() || rig.peer.next_deadline() < rig.now + RETRY_MAX * 2);
            rig.said.clear();
        }
        check_connects(&rig);
    }

    #[test]
    fn random_bytes_never_panic_and_never_reach_the_application_as_a_push(
        bytes in prop::collection::vec(any::<u8>(), 0..4000),
        cut in 1usize..500,
    ) {
        let mut rig = Rig::welcomed(1);
        for piece in bytes.chunks(cut) {
            rig.handle(PeerInput::Received(piece));
        }
        let is_push = |event: &PeerEvent| matches!(event, PeerEvent::Pushed { .. });
        prop_assert!(!rig.events.iter().any(is_push));
    }
}

#[test]
fn what_cant_be_read_costs_the_link_and_a_wait() {
    let deep = format!(r#"{{"op":"beat","t":{}}}"#, "[".repeat(300));
    let long = welcome(&"s".repeat(129), "x", false);
    let second = welcome("s1", "x", false);
    for body in ["[]", "{}", "null", "{\"op\":1}", "{\"op\":\"x\"", "\u{0}", "{\"op\":\"bye\"}", &deep, &long, &second]
    {
        let mut rig = Rig::welcomed(1);
        rig.receive(body);
        let [PeerEvent::Lost(Loss::Malformed(_)), PeerEvent::Reconnecting { after }] = &rig.events[..] else {
            panic!("{body}: {:?}", rig.events)
        };
        assert!(*after > Duration::ZERO, "{body}");
        assert_eq!(rig.links.last().unwrap().1, LinkRequest::Drop, "{body}");
    }
    let mut rig = Rig::welcomed(1);
    rig.handle(PeerInput::Received(b"\xff\xff\xff\xff"));
    assert!(matches!(rig.events[0], PeerEvent::Lost(Loss::Malformed(_))));
    let mut rig = Rig::welcomed(1);
    rig.handle(PeerInput::Received(b"\0\0\0\x0b{\"op\":\"\xff\xff\"}"));
    assert!(matches!(rig.events[0], PeerEvent::Lost(Loss::Malformed(_))));
}

/// How often a peer connects in an hour if `answer` is all that a server does with a link.
fn connects_in_an_hour(seed: u64, answer: impl Fn(&mut Rig)) -> usize {
    let mut rig = Rig::v1(seed);
    let end = rig.now + SECOND * 3600;
    while rig.peer.next_deadline() <= end {
        rig.tick();
        while matches!(rig.peer.state, State::Connecting { .. }) {
            answer(&mut rig);
        }
    }
    rig.links.iter().filter(|link| link.1 == LinkRequest::Connect).count()
}

#[test]
fn a_server_can_not_make_it_hammer() {
    let accept = |rig: &mut Rig| rig.handle(PeerInput::Connected { local: LOCAL.parse().unwrap() });
    for seed in 0..20 {
        let refuse = |rig: &mut Rig| rig.handle(PeerInput::ConnectFailed("refused"));
        let cut = |rig: &mut Rig| {
            accept(rig);
            rig.handle(PeerInput::Disconnected("cut"));
        };
        let welcome_and_bye = |rig: &mut Rig| {
            accept(rig);
            rig.receive(&welcome("s1", "x", true));
            rig.receive(r#"{"op":"bye","code":4001,"reason":"drain","retry_ms":0}"#);
        };
        // Once at the cap it waits 15 s on average: 240 an hour.
        let counts = [
            connects_in_an_hour(seed, refuse),
            connects_in_an_hour(seed, cut),
            connects_in_an_hour(seed, welcome_and_bye),
        ];
        assert!(counts.iter().all(|count| (180..320).contains(count)), "{counts:?}");
    }
}
