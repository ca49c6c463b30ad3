//! Peers in virtual time: what they say, when, and what they make of the answers.

mod hostile;
mod links;
mod talk;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const LOCAL: &str = "127.0.0.1:50000";

/// A peer, its clock, and everything that it has wanted so far.
struct Rig {
    peer: Peer,
    now: Time,
    /// The bodies sent on the current link, not yet looked at.
    said: Vec<String>,
    links: Vec<(Time, LinkRequest)>,
    events: Vec<PeerEvent>,
}

impl Rig {
    fn new(config: PeerConfig, seed: u64) -> Rig {
        let peer = Peer::new(config, seed);
        Rig { peer, now: Time::from_millis(5000), said: vec![], links: vec![], events: vec![] }
    }

    fn v1(seed: u64) -> Rig {
        let client = Some("test".to_owned());
        Rig::new(PeerConfig { interval: Some(SECOND * 10), client, ..PeerConfig::default() }, seed)
    }

    /// A v1 peer whose session began at this moment.
    fn welcomed(seed: u64) -> Rig {
        let mut rig = Rig::v1(seed);
        rig.open();
        rig.receive(&welcome("s1", "secret1", false));
        rig.said.clear();
        rig.events.clear();
        rig
    }

    fn handle(&mut self, input: PeerInput<'_>) {
        let mut out = PeerOutputs::default();
        self.peer.handle(self.now, input, &mut out);
        self.said.extend(bodies(&out.send));
        self.links.extend(out.link.map(|request| (self.now, request)));
        self.events.extend(out.events);
    }

    /// Lets the peer connect, and the connect succeed.
    fn open(&mut self) {
        self.handle(PeerInput::Tick);
        assert_eq!(self.links.last().map(|link| link.1), Some(LinkRequest::Connect));
        self.handle(PeerInput::Connected { local: LOCAL.parse().unwrap() });
    }

    fn receive(&mut self, body: &str) {
        let mut bytes = (body.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(body.as_bytes());
        self.handle(PeerInput::Received(&bytes));
    }

    fn command(&mut self, command: PeerCommand<'_>) {
        self.handle(PeerInput::Command(command));
    }

    /// Goes to the next deadline and ticks.
    fn tick(&mut self) {
        self.now = self.now.max(self.peer.next_deadline());
        self.handle(PeerInput::Tick);
    }

    /// Ticks at every deadline until `until`, and stands there without a tick of its own.
    fn run_until(&mut self, until: Time) {
        while self.peer.next_deadline() <= until {
            self.tick();
        }
        self.now = until;
    }

    fn take_events(&mut self) -> Vec<PeerEvent> {
        mem::take(&mut self.events)
    }

    /// The wait that was announced last.
    fn wait(&self) -> Duration {
        let wait = |event: &PeerEvent| match event {
            PeerEvent::Reconnecting { after } => Some(*after),
            _ => None,
        };
        self.events.iter().rev().find_map(wait).expect("it announced a wait")
    }
}

fn bodies(mut bytes: &[u8]) -> Vec<String> {
    let (mut decoder, mut bodies) = (Decoder::default(), vec![]);
    while let Some(body) = decoder.next(&mut bytes, FRAME_BYTES).unwrap() {
        bodies.push(String::from_utf8(body.to_vec()).unwrap());
    }
    assert_eq!(decoder.kept_bytes(), 0, "only whole frames are sent");
    bodies
}

fn welcome(session: &str, secret: &str, resumed: bool) -> String {
    format!(
        r#"{{"op":"welcome","session":"{session}","gen":1,"resumed":{resumed},"reason":"gap","beat":{{"interval_ms":10000,"min_ms":1000,"detect_ms":65000,"leave_hold_ms":1800000}},"resume":{{"secret":"{secret}","window_ms":120000}},"limits":{{"frame_bytes":65536,"frames_per_second":1000}},"node":"n1","time_ms":1}}"#
    )
}

fn check_said(rig: &mut Rig, said: &[&str]) {
    assert_eq!(mem::take(&mut rig.said), said);
}

fn micros(rig: &Rig) -> u64 {
    rig.now.as_micros()
}

#[test]
fn a_peer_is_small() {
    assert!(size_of::<Peer>() <= 200, "{} bytes", size_of::<Peer>());
    assert!(size_of::<PeerEvent>() <= 48, "{} bytes", size_of::<PeerEvent>());
}

#[test]
fn it_says_hello_and_waits_for_the_welcome() {
    let mut rig = Rig::v1(1);
    rig.open();
    check_said(&mut rig, &[r#"{"op":"hello","v":1,"client":"test","interval_ms":10000}"#]);
    assert_eq!(rig.take_events(), [PeerEvent::Linked { local: LOCAL.parse().unwrap(), nth: 1 }]);
    rig.now = rig.now + SECOND;
    rig.receive(&welcome("s1", "secret1", false));
    let [PeerEvent::Welcomed(welcomed)] = &rig.take_events()[..] else { panic!("welcomed, and nothing else") };
    assert_eq!((&*welcomed.session, &welcomed.continuity), ("s1", &Continuity::Fresh));
    assert_eq!((welcomed.interval, welcomed.detect), (SECOND * 10, SECOND * 65));
    check_said(&mut rig, &[]);
}

#[test]
fn beats_keep_their_jitter_within_its_ranges_and_use_all_of_it() {
    let (mut firsts, mut gaps) = (vec![], vec![]);
    for seed in 0..1000 {
        let mut rig = Rig::welcomed(seed);
        let mut before = rig.now;
        for nth in 0..4 {
            rig.tick();
            let t = micros(&rig);
            check_said(&mut rig, &[&format!(r#"{{"op":"beat","t":{t}}}"#)]);
            if nth == 0 { &mut firsts } else { &mut gaps }.push(rig.now.since(before));
            before = rig.now;
            rig.receive(&format!(r#"{{"op":"beat","t":{t},"detect_ms":65000}}"#));
        }
    }
    let (low, high) = (firsts.iter().min().unwrap(), firsts.iter().max().unwrap());
    assert!(*low < SECOND / 10 && *high > SECOND * 99 / 10 && *high < SECOND * 10, "{low:?} to {high:?}");
    let (low, high) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
    assert!(*low >= SECOND * 9 && *low < SECOND * 901 / 100, "{low:?}");
    assert!(*high < SECOND * 11 && *high > SECOND * 1099 / 100, "{high:?}");
}

#[test]
fn the_echo_gives_the_round_trip_and_a_forged_one_gives_nothing() {
    let mut rig = Rig::welcomed(1);
    rig.tick();
    let sent = micros(&rig);
    rig.events.clear();
    rig.now = rig.now + Duration::from_micros(1234);
    let late = micros(&rig) + 1;
    for t in ["0", "-5", "1.5", "18446744073709551615", &late.to_string()] {
        rig.receive(&format!(r#"{{"op":"beat","t":{t}}}"#));
        assert_eq!(rig.take_events(), [], "{t}");
    }
    for events in [1, 0] {
        rig.receive(&format!(r#"{{"op":"beat","t":{sent},"detect_ms":95000}}"#));
        let rtt = Duration::from_micros(1234);
        let answered = PeerEvent::BeatAnswered { rtt, detect: Some(SECOND * 95) };
        assert_eq!(rig.take_events(), vec![answered; events], "one answer to one beat");
    }
}

#[test]
fn a_beat_asked_for_is_sent_at_once_and_a_flood_of_requests_gets_one() {
    let mut rig = Rig::welcomed(1);
    rig.receive(r#"{"op":"beat","now":true,"id":7}"#);
    let t = micros(&rig);
    check_said(&mut rig, &[&format!(r#"{{"op":"beat","t":{t},"re":7}}"#)]);
    let gap = rig.peer.next_deadline().since(rig.now);
    assert!(gap >= SECOND * 9 && gap < SECOND * 11, "the rhythm goes on from there: {gap:?}");
    let request = br#"....{"op":"beat","now":true,"id":8}"#;
    let mut flood = request.repeat(1000);
    flood.chunks_mut(request.len()).for_each(|frame| frame[..4].copy_from_slice(&[0, 0, 0, 31]));
    rig.handle(PeerInput::Received(&flood));
    check_said(&mut rig, &[&format!(r#"{{"op":"beat","t":{t},"re":8}}"#)]);
}

#[test]
fn a_beat_tells_how_long_after_it_was_due_it_was_sent() {
    let v1 = PeerConfig { interval: Some(SECOND * 10), ..PeerConfig::default() };
    for config in [v1.clone(), PeerConfig { mode: Mode::Legacy, ..v1 }] {
        let mut rig = Rig::new(config, 1);
        rig.open();
        rig.receive(&welcome("s1", "secret1", false));
        rig.tick();
        rig.events.clear();
        for late in [Duration::ZERO, Duration::from_millis(300), SECOND * 3] {
            rig.now = rig.peer.next_deadline() + late;
            rig.handle(PeerInput::Tick);
            assert_eq!(rig.take_events(), [PeerEvent::BeatSent { late }]);
            rig.receive(r#"{"op":"notice"}"#);
            rig.events.clear();
        }
        if rig.peer.mode() == Mode::V1 {
            rig.receive(r#"{"op":"beat","now":true,"id":1}"#);
            assert_eq!(rig.take_events(), [PeerEvent::BeatSent { late: Duration::ZERO }], "due when it is asked for");
        }
    }
}

#[test]
fn a_new_interval_counts_from_the_last_beat_and_stays_within_bounds() {
    for (granted_ms, seconds) in [(60_000, 60), (2000, 2), (0, 1), (u64::MAX, 600)] {
        let mut rig = Rig::welcomed(1);
        rig.tick();
        let beat = rig.now;
        rig.events.clear();
        rig.receive(&format!(r#"{{"op":"beat","detect_ms":1,"interval_ms":{granted_ms}}}"#));
        let interval = SECOND * seconds;
        assert_eq!(rig.take_events(), [PeerEvent::IntervalChanged(interval)]);
        rig.tick();
        let gap = rig.now.since(beat);
        assert!(gap >= interval * 9 / 10 && gap < interval * 11 / 10, "{granted_ms}: {gap:?}");
    }
}

#[test]
fn pushes_are_counted_known_or_not_and_acknowledged_once() {
    let mut rig = Rig::welcomed(1);
    for body in [
        r#"{"op":"ok","re":1}"#,
        r#"{"op":"message","room":"r"}"#,
        r#"{"op":"thing-of-the-future","deep":[[[{}]]]}"#,
        r#"{"op":"error","code":1001,"name":"unknown_op","message":"m","temporary":false}"#,
        "",
        r#"{"op":"beat"}"#,
    ] {
        rig.receive(body);
    }
    let events = rig.take_events();
    let [PeerEvent::Pushed { count: 1, body }, PeerEvent::Pushed { count: 2, .. }, PeerEvent::Refused(refused)] =
        &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((&**body, refused.code), (r#"{"op":"message","room":"r"}"#, 1001));
    rig.tick();
    let t = micros(&rig);
    check_said(&mut rig, &[&format!(r#"{{"op":"beat","t":{t},"ack":2}}"#)]);
    rig.receive(r#"{"op":"beat"}"#);
    rig.tick();
    let t = micros(&rig);
    check_said(&mut rig, &[&format!(r#"{{"op":"beat","t":{t}}}"#)]);
}

#[test]
fn a_declared_leave_is_told_now_and_again_to_a_new_session() {
    let leave = r#"{"op":"status","status":"leave"}"#;
    let alive = r#"{"op":"status","status":"alive"}"#;
    /// What is declared before and while the link is down; whether the session resumes; what it says after `welcome`.
    type Case<'a> = (Option<PeerCommand<'a>>, Option<PeerCommand<'a>>, bool, &'a [&'a str]);
    let table: [Case<'_>; 6] = [
        (None, None, true, &[]),
        (Some(PeerCommand::Leave), None, true, &[leave]),
        (Some(PeerCommand::Leave), None, false, &[leave]),
        (Some(PeerCommand::Leave), Some(PeerCommand::Back), true, &[alive]),
        (Some(PeerCommand::Leave), Some(PeerCommand::Back), false, &[]),
        (None, Some(PeerCommand::Leave), false, &[leave]),
    ];
    for (before, between, resumed, said) in table {
        let mut rig = Rig::welcomed(1);
        before.into_iter().for_each(|command| rig.command(command));
        assert_eq!(rig.said.len(), usize::from(before.is_some()));
        rig.handle(PeerInput::Disconnected("reset"));
        between.into_iter().for_each(|command| rig.command(command));
        rig.now = rig.peer.next_deadline();
        rig.open();
        rig.said.clear();
        rig.receive(&welcome("s1", "secret2", resumed));
        check_said(&mut rig, said);
    }
}

#[test]
fn goodbye_is_said_on_a_live_link_and_ends_the_peer_in_any_state() {
    let mut rig = Rig::welcomed(1);
    rig.command(PeerCommand::Bye);
    check_said(&mut rig, &[r#"{"op":"bye"}"#]);
    assert_eq!(rig.links.last().unwrap().1, LinkRequest::Finish);
    assert_eq!(rig.take_events(), [PeerEvent::Stopped(Stop::Goodbye)]);
    assert!(rig.peer.is_stopped() && rig.peer.resume().is_none());

    let mut connecting = Rig::v1(1);
    connecting.handle(PeerInput::Tick);
    let mut greeting = Rig::v1(1);
    greeting.open();
    greeting.said.clear();
    for mut rig in [connecting, greeting] {
        rig.command(PeerCommand::Bye);
        check_said(&mut rig, &[]);
        assert_eq!(rig.links.last().unwrap().1, LinkRequest::Drop);
        rig.handle(PeerInput::Connected { local: LOCAL.parse().unwrap() });
        assert_eq!(rig.links.last().unwrap().1, LinkRequest::Drop, "a connect that came too late");
        assert_eq!(rig.peer.next_deadline(), Time::NEVER);
    }
}

#[test]
fn a_legacy_peer_beats_at_once_and_then_every_interval_and_reads_nothing() {
    let config = PeerConfig { mode: Mode::Legacy, interval: Some(SECOND * 10), pid: 21243, ..PeerConfig::default() };
    let mut rig = Rig::new(config, 1);
    rig.open();
    let beat = r#""{\"ip\": \"127.0.0.1\", \"status\": \"alive\", \"pid\": 21243}""#;
    check_said(&mut rig, &[beat]);
    let start = rig.now;
    for nth in 1..5 {
        rig.handle(PeerInput::Received(&[0xff; 1000]));
        check_said(&mut rig, &[]);
        rig.tick();
        assert_eq!(rig.now, start + SECOND * 10 * nth);
        check_said(&mut rig, &[beat]);
    }
    rig.command(PeerCommand::Leave);
    check_said(&mut rig, &[&beat.replace("alive", "leave")]);
    rig.events.clear();
    rig.handle(PeerInput::Disconnected("end of stream"));
    assert_eq!(rig.wait(), Duration::ZERO);
    rig.handle(PeerInput::Connected { local: LOCAL.parse().unwrap() });
    check_said(&mut rig, &[&beat.replace("alive", "leave")]);
    rig.command(PeerCommand::Bye);
    check_said(&mut rig, &[&beat.replace("alive", "close")]);
}
