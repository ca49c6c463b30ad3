//! Requests, and what becomes of a conversation when links and sessions end.

mod model;

use super::*;
use crate::wire::request::Request;

const LOGIN: Request<'static> = Request::Login { user: "ada", password: "secret word", remember: false };
const JOIN: Request<'static> = Request::Join { room: "lobby", after: None, at: None };

fn say(text: &'static str) -> Request<'static> {
    Request::Say { room: "lobby", text, data: None, mid: Some(text) }
}

impl Rig {
    fn ask(&mut self, ticket: i64, request: &Request<'_>) {
        self.command(PeerCommand::Request { ticket: Ticket(ticket), request, keep: true });
    }

    /// A new session on a new link, whatever became of the old one.
    fn new_session(&mut self) {
        self.handle(PeerInput::Disconnected("reset"));
        self.back_again(false);
    }

    fn back_again(&mut self, resumed: bool) {
        while !matches!(self.peer.state, State::Connecting { .. }) {
            self.tick();
        }
        self.handle(PeerInput::Connected { local: LOCAL.parse().unwrap() });
        self.said.clear();
        self.receive(&welcome("s1", "secret2", resumed));
    }

    fn message(&mut self, seq: u64) {
        self.receive(&format!(r#"{{"op":"message","room":"lobby","seq":{seq},"from":"bob","text":"t","time_ms":1}}"#));
    }

    fn outcomes(&mut self) -> Vec<(i64, Result<String, Failed>)> {
        let outcome = |event| match event {
            PeerEvent::Reply { ticket, result } => Some((ticket.0, result.map(Into::into).map_err(|why| *why))),
            _ => None,
        };
        self.take_events().into_iter().filter_map(outcome).collect()
    }

    fn seqs(&mut self) -> Vec<u64> {
        let seq = |event| match event {
            PeerEvent::Pushed { body, .. } => {
                Some(serde_json::from_str::<serde_json::Value>(&body).unwrap()["seq"].as_u64().unwrap())
            }
            _ => None,
        };
        self.take_events().into_iter().filter_map(seq).collect()
    }
}

/// Logged in, in the lobby, whose newest message is 5.
fn in_the_lobby() -> Rig {
    let mut rig = Rig::welcomed(1);
    rig.ask(1, &LOGIN);
    rig.ask(2, &JOIN);
    rig.receive(r#"{"op":"ok","re":1,"user":"ada"}"#);
    rig.receive(r#"{"op":"ok","re":2,"room":"lobby","head":5,"members":1}"#);
    rig.said.clear();
    rig.events.clear();
    rig
}

#[test]
fn a_request_is_sent_with_its_ticket_and_answered_once() {
    let mut rig = in_the_lobby();
    rig.ask(3, &say("hi"));
    check_said(&mut rig, &[r#"{"op":"say","room":"lobby","text":"hi","mid":"hi","id":3}"#]);
    rig.ask(4, &Request::Who { room: Some("lobby"), user: None });
    rig.receive(r#"{"op":"error","re":4,"code":1301,"name":"not_in_room","message":"m","temporary":false}"#);
    rig.receive(r#"{"op":"ok","re":3,"seq":6,"time_ms":9}"#);
    rig.receive(r#"{"op":"ok","re":3,"seq":6,"time_ms":9}"#);
    rig.receive(r#"{"op":"ok","re":99}"#);
    let outcomes = rig.outcomes();
    let [(4, Err(Failed::Refused(refused))), (3, Ok(body))] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!((refused.code, &**body), (1301, r#"{"op":"ok","re":3,"seq":6,"time_ms":9}"#));
}

#[test]
fn requests_under_way_are_bounded_in_number_and_bytes() {
    let mut rig = in_the_lobby();
    for ticket in 0..300 {
        rig.ask(ticket, &Request::Who { room: None, user: None });
    }
    assert_eq!(rig.outcomes().len(), 300 - REQUESTS_MAX);
    assert_eq!(rig.said.len(), SENT_MAX);
    rig.receive(r#"{"op":"ok","re":0}"#);
    assert!(rig.said.len() == SENT_MAX + 1 && rig.said[SENT_MAX].contains(r#""id":32}"#), "one goes, the next comes");
    let mut rig = in_the_lobby();
    let text = "x".repeat(60_000);
    for ticket in 0..100 {
        rig.ask(ticket, &Request::Say { room: "lobby", text: &text, data: None, mid: Some("m") });
    }
    let outcomes = rig.outcomes();
    assert!(outcomes.iter().all(|(_, outcome)| *outcome == Err(Failed::TooMany)));
    assert_eq!(outcomes.len(), 100 - REQUESTS_BYTES_MAX / 60_054);
    let text = "x".repeat(65_500);
    rig.ask(1000, &Request::Say { room: "lobby", text: &text, data: None, mid: None });
    assert_eq!(rig.outcomes(), [(1000, Err(Failed::TooLong))]);
}

#[test]
fn signals_are_sent_now_or_never_and_never_answered() {
    let mut rig = in_the_lobby();
    let data: &serde_json::value::RawValue = serde_json::from_str("[1]").unwrap();
    let signal = Request::Signal { room: "lobby", data, key: None, at: Some([1.0, 2.0]) };
    rig.ask(3, &signal);
    check_said(&mut rig, &[r#"{"op":"signal","room":"lobby","data":[1],"at":[1.0,2.0]}"#]);
    rig.handle(PeerInput::Disconnected("reset"));
    rig.ask(4, &signal);
    assert_eq!(rig.outcomes(), []);
    rig.back_again(false);
    rig.receive(r#"{"op":"ok","re":-1,"user":"ada"}"#);
    let join = r#"{"op":"join","room":"lobby","after":5,"at":[1.0,2.0],"id":-2}"#;
    check_said(&mut rig, &[r#"{"op":"login","user":"ada","password":"secret word","id":-1}"#, join]);
}

#[test]
fn a_lost_link_says_again_what_has_a_mid_and_fails_the_rest() {
    for resumed in [true, false] {
        let mut rig = in_the_lobby();
        rig.ask(3, &say("one"));
        rig.ask(4, &Request::Who { room: None, user: None });
        rig.ask(5, &Request::Say { room: "lobby", text: "no mid", data: None, mid: None });
        rig.handle(PeerInput::Disconnected("reset"));
        assert_eq!(rig.outcomes(), [(4, Err(Failed::Lost)), (5, Err(Failed::Lost))]);
        rig.ask(6, &say("two"));
        rig.ask(7, &JOIN);
        assert_eq!(rig.outcomes(), [(7, Err(Failed::Lost))], "there is no link");
        rig.back_again(resumed);
        if !resumed {
            rig.receive(r#"{"op":"ok","re":-1,"user":"ada"}"#);
            assert_eq!(rig.said.len(), 2, "nothing is said before the room is joined again: {:?}", rig.said);
            rig.receive(r#"{"op":"ok","re":-2,"room":"lobby","head":5}"#);
            rig.said.drain(..2);
        }
        check_said(
            &mut rig,
            &[
                r#"{"op":"say","room":"lobby","text":"one","mid":"one","id":3}"#,
                r#"{"op":"say","room":"lobby","text":"two","mid":"two","id":6}"#,
            ],
        );
    }
}

#[test]
fn what_is_not_answered_in_time_is_given_up() {
    let mut rig = in_the_lobby();
    rig.ask(3, &Request::Who { room: None, user: None });
    let asked = rig.now;
    rig.handle(PeerInput::Disconnected("reset"));
    rig.events.clear();
    rig.ask(4, &say("never heard"));
    while rig.now.since(asked) < SAY_AGAIN {
        assert_eq!(rig.outcomes(), []);
        rig.tick();
        if matches!(rig.peer.state, State::Connecting { .. }) {
            rig.handle(PeerInput::ConnectFailed("refused"));
        }
    }
    assert_eq!(rig.now.since(asked), SAY_AGAIN, "in the very moment");
    assert_eq!(rig.outcomes(), [(4, Err(Failed::Expired))]);

    let mut rig = in_the_lobby();
    rig.ask(3, &Request::Who { room: None, user: None });
    let asked = rig.now;
    while rig.now.since(asked) < ANSWER_TIMEOUT {
        assert_eq!(rig.outcomes(), []);
        rig.tick();
        rig.receive("");
    }
    assert_eq!(rig.outcomes(), [(3, Err(Failed::Expired))]);
}

#[test]
fn a_new_session_is_entered_and_joined_again_behind_the_last_message() {
    let mut rig = in_the_lobby();
    rig.ask(3, &Request::Join { room: "annex", after: Some(2), at: None });
    rig.receive(r#"{"op":"ok","re":3,"room":"annex","head":9}"#);
    rig.message(6);
    rig.new_session();
    check_said(&mut rig, &[r#"{"op":"login","user":"ada","password":"secret word","id":-1}"#]);
    rig.receive(r#"{"op":"ok","re":-1,"user":"ada"}"#);
    check_said(&mut rig, &[r#"{"op":"join","room":"lobby","after":6,"id":-2}"#]);
    rig.events.clear();
    rig.receive(r#"{"op":"ok","re":-2,"room":"lobby","head":8}"#);
    let [PeerEvent::Recovery(step)] = &rig.take_events()[..] else { panic!("a step") };
    assert!(matches!(&**step, Recovery::Rejoined { room, after: 6, .. } if &**room == "lobby"), "{step:?}");
    check_said(&mut rig, &[r#"{"op":"join","room":"annex","after":2,"id":-3}"#]);
    [6, 7, 8, 8].into_iter().for_each(|seq| rig.message(seq));
    assert_eq!(rig.seqs(), [7, 8]);
}

#[test]
fn what_was_missed_may_come_before_the_answer_to_join() {
    let mut rig = in_the_lobby();
    rig.receive(r#"{"op":"ok","re":2}"#);
    rig.ask(3, &Request::Join { room: "annex", after: Some(2), at: None });
    let message = |seq| format!(r#"{{"op":"message","room":"annex","seq":{seq},"from":"bob","text":"t","time_ms":1}}"#);
    rig.receive(&message(3));
    rig.receive(r#"{"op":"ok","re":3,"room":"annex","head":4}"#);
    [3, 4].into_iter().for_each(|seq| rig.receive(&message(seq)));
    assert_eq!(rig.seqs(), [3, 4]);
    rig.ask(4, &Request::Join { room: "annex", after: Some(1), at: None });
    rig.receive(r#"{"op":"ok","re":4,"room":"annex","head":4}"#);
    [2, 3, 4].into_iter().for_each(|seq| rig.receive(&message(seq)));
    assert_eq!(rig.seqs(), [2, 3, 4], "whoever asks to hear it again does");
}

#[test]
fn a_token_is_kept_instead_of_the_password_and_a_refused_one_is_forgotten() {
    let mut rig = Rig::welcomed(1);
    rig.ask(1, &LOGIN);
    rig.receive(r#"{"op":"ok","re":1,"user":"ada","token":"tok"}"#);
    rig.new_session();
    check_said(&mut rig, &[r#"{"op":"token","token":"tok","id":-1}"#]);
    rig.receive(r#"{"op":"error","re":-1,"code":1202,"name":"busy","message":"m","temporary":true,"retry_ms":3000}"#);
    rig.events.clear();
    let asked = rig.now;
    while rig.said.iter().all(|said| said.contains("beat")) {
        rig.tick();
    }
    assert_eq!(rig.now.since(asked), SECOND * 3);
    assert!(rig.said.last().unwrap().contains("token"), "{:?}", rig.said);
    rig.receive(r#"{"op":"error","re":-2,"code":1105,"name":"n","message":"m","temporary":false}"#);
    let events = rig.take_events();
    let refused =
        |event: &PeerEvent| matches!(event, PeerEvent::Recovery(step) if matches!(**step, Recovery::NotEntered { .. }));
    assert!(events.iter().any(refused), "{events:?}");
    rig.new_session();
    check_said(&mut rig, &[]);
}

#[test]
fn a_room_that_does_not_let_it_in_again_is_told_and_left() {
    let mut rig = in_the_lobby();
    rig.new_session();
    rig.receive(r#"{"op":"ok","re":-1,"user":"ada"}"#);
    rig.events.clear();
    rig.receive(r#"{"op":"error","re":-2,"code":1304,"name":"removed","message":"m","temporary":true,"retry_ms":1}"#);
    let [PeerEvent::Recovery(step)] = &rig.take_events()[..] else { panic!("a step") };
    assert!(matches!(**step, Recovery::NotRejoined { .. }));
    rig.new_session();
    rig.receive(r#"{"op":"ok","re":-3,"user":"ada"}"#);
    check_said(&mut rig, &[r#"{"op":"login","user":"ada","password":"secret word","id":-3}"#]);
}

#[test]
fn a_message_that_comes_again_is_counted_and_not_told() {
    let mut rig = in_the_lobby();
    for (seq, told, repeated) in [(6, 1, 0), (7, 1, 0), (7, 0, 1), (6, 0, 2), (8, 1, 2)] {
        rig.message(seq);
        assert_eq!((rig.seqs().len(), rig.peer.repeated()), (told, repeated), "{seq}");
    }
    // It joins once more, since nobody told it that it had. What is still on its way then lies before the head.
    rig.ask(4, &JOIN);
    rig.receive(r#"{"op":"ok","re":4,"room":"lobby","head":10,"members":1}"#);
    for seq in [9, 10, 11] {
        rig.message(seq);
    }
    assert_eq!((rig.seqs(), rig.peer.repeated()), (vec![11], 2));
    rig.ask(3, &say("hi"));
    rig.receive(r#"{"op":"ok","re":3,"seq":12,"time_ms":9}"#);
    let own = r#"{"op":"message","room":"lobby","seq":12,"from":"ada","text":"hi","mid":"hi","time_ms":9}"#;
    rig.receive(own);
    assert_eq!(rig.peer.repeated(), 2, "one's own may come by catching up");
}

#[test]
fn an_own_message_that_catching_up_brings_is_the_answer_to_its_request() {
    let mut rig = in_the_lobby();
    rig.ask(3, &say("hello"));
    rig.new_session();
    rig.receive(r#"{"op":"ok","re":-1,"user":"ada"}"#);
    rig.receive(r#"{"op":"ok","re":-2,"room":"lobby","head":6}"#);
    rig.events.clear();
    rig.receive(r#"{"op":"message","room":"lobby","seq":6,"from":"ada","text":"hello","mid":"hello","time_ms":4}"#);
    rig.receive(r#"{"op":"ok","re":3,"seq":6,"time_ms":4}"#);
    assert_eq!(rig.outcomes(), [(3, Ok(r#"{"op":"ok","re":3,"seq":6,"time_ms":4}"#.to_owned()))]);
}

#[test]
fn many_pushes_are_acknowledged_at_once_and_by_any_request() {
    let mut rig = in_the_lobby();
    (6..6 + UNACKED_MAX - 1).for_each(|seq| rig.message(seq));
    check_said(&mut rig, &[]);
    rig.message(1000);
    let t = micros(&rig);
    check_said(&mut rig, &[&format!(r#"{{"op":"beat","t":{t},"ack":64}}"#)]);
    rig.message(1001);
    rig.ask(3, &say("x"));
    check_said(&mut rig, &[r#"{"op":"say","room":"lobby","text":"x","mid":"x","id":3,"ack":65}"#]);
    let filler = "x".repeat(UNACKED_BYTES_MAX as usize);
    rig.receive(&format!(r#"{{"op":"notice","kind":"text","text":"{filler}"}}"#));
    check_said(&mut rig, &[&format!(r#"{{"op":"beat","t":{t},"ack":66}}"#)]);
}

#[test]
fn a_peer_that_stops_fails_what_is_under_way_and_what_comes_after() {
    let mut rig = in_the_lobby();
    rig.ask(3, &say("x"));
    rig.command(PeerCommand::Bye);
    rig.ask(4, &say("y"));
    assert_eq!(rig.outcomes(), [(3, Err(Failed::Stopped)), (4, Err(Failed::Stopped))]);
    assert!(!format!("{:?}", rig.peer).contains("secret word"), "a peer doesn't print its password");
}
