//! Any interleaving of messages, cuts and new sessions, against a small server: each message once, in order.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const ROOMS: [&str; 2] = ["lobby", "annex"];

/// A server with one client; other users talk too.
#[derive(Default)]
struct Model {
    /// Of each room: (from, mid) in order; the seq is the index + 1.
    log: BTreeMap<&'static str, Vec<(String, String)>>,
    session: Option<Session>,
    sessions: u64,
    is_linked: bool,
    to_server: VecDeque<String>,
    /// (whether it is a push, body)
    to_client: VecDeque<(bool, String)>,
}

struct Session {
    name: String,
    user: bool,
    rooms: Vec<&'static str>,
    pushes: Vec<String>,
}

impl Model {
    fn reply(&mut self, body: Value, overtakes: bool) {
        let at = match overtakes {
            true => self.to_client.iter().rposition(|(is_push, _)| !is_push).map_or(0, |at| at + 1),
            false => self.to_client.len(),
        };
        self.to_client.insert(at, (false, body.to_string()));
    }

    fn push(&mut self, room: &'static str, seq: usize) {
        let (from, mid) = &self.log[room][seq - 1];
        let body =
            json!({"op": "message", "room": room, "seq": seq, "from": from, "text": "", "mid": mid, "time_ms": 1});
        let Some(session) = &mut self.session else { return };
        session.pushes.push(body.to_string());
        if self.is_linked {
            self.to_client.push_back((true, body.to_string()));
        }
    }

    /// Somebody says something; an own message isn't pushed to the session that said it.
    fn commit(&mut self, room: &'static str, from: &str, mid: String) -> usize {
        let log = self.log.entry(room).or_default();
        log.push((from.to_owned(), mid));
        let seq = log.len();
        if from != "ada" && self.session.as_ref().is_some_and(|session| session.rooms.contains(&room)) {
            self.push(room, seq);
        }
        seq
    }

    fn serve(&mut self) {
        let Some(said) = self.to_server.pop_front() else { return };
        let said: Value = serde_json::from_str(&said).unwrap();
        if let (Some(ack), Some(session)) = (said["ack"].as_u64(), &self.session) {
            assert!(ack <= session.pushes.len() as u64);
        }
        let id = said["id"].clone();
        let room = ROOMS.into_iter().find(|room| said["room"] == *room);
        match said["op"].as_str().unwrap() {
            "hello" => self.welcome(&said["resume"]),
            "beat" => self.reply(json!({"op": "beat", "t": said["t"]}), false),
            "login" => {
                self.session.as_mut().unwrap().user = true;
                self.reply(json!({"op": "ok", "re": id, "user": "ada"}), false);
            }
            "join" => {
                let room = room.unwrap();
                let head = self.log.get(room).map_or(0, Vec::len);
                let session = self.session.as_mut().unwrap();
                assert!(session.user, "it logs in before it joins");
                if !session.rooms.contains(&room) {
                    session.rooms.push(room);
                }
                self.reply(json!({"op": "ok", "re": id, "room": room, "head": head}), false);
                let after = said["after"].as_u64().unwrap() as usize;
                (after + 1..=head).for_each(|seq| self.push(room, seq));
            }
            "say" => {
                let (room, mid) = (room.unwrap(), said["mid"].as_str().unwrap());
                assert!(self.session.as_ref().unwrap().rooms.contains(&room), "it joins before it talks");
                let known = self.log.entry(room).or_default().iter().position(|(_, known)| known == mid);
                let seq = known.map(|at| at + 1).unwrap_or_else(|| self.commit(room, "ada", mid.to_owned()));
                self.reply(json!({"op": "ok", "re": id, "seq": seq, "time_ms": 1}), true);
            }
            other => panic!("{other}"),
        }
    }

    fn welcome(&mut self, resume: &Value) {
        let held = self.session.take().filter(|session| resume["session"] == session.name.as_str());
        let resumed = held.is_some();
        let session = held.unwrap_or_else(|| {
            self.sessions += 1;
            Session { name: format!("s{}", self.sessions), user: false, rooms: vec![], pushes: vec![] }
        });
        self.to_client.push_back((false, super::super::welcome(&session.name, "x", resumed)));
        let count = if resumed { resume["count"].as_u64().unwrap() as usize } else { 0 };
        self.to_client.extend(session.pushes[count..].iter().map(|body| (true, body.clone())));
        self.session = Some(session);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Other(usize),
    Say(usize),
    Serve(usize),
    Deliver(usize),
    Cut,
    Forget,
    Tick,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2usize).prop_map(Step::Other),
        4 => (0..2usize).prop_map(Step::Say),
        6 => (1..4usize).prop_map(Step::Serve),
        6 => (1..6usize).prop_map(Step::Deliver),
        2 => Just(Step::Cut),
        1 => Just(Step::Forget),
        3 => Just(Step::Tick),
    ]
}

struct Play {
    rig: Rig,
    model: Model,
    ticket: i64,
    asked: BTreeMap<i64, &'static str>,
    others: u64,
}

impl Play {
    fn begin() -> Play {
        let mut rig = Rig::v1(1);
        rig.handle(PeerInput::Tick);
        let mut play = Play { rig, model: Model::default(), ticket: 10, asked: BTreeMap::new(), others: 0 };
        play.settle();
        play.rig.ask(1, &LOGIN);
        play.rig.ask(2, &Request::Join { room: ROOMS[0], after: Some(0), at: None });
        play.rig.ask(3, &Request::Join { room: ROOMS[1], after: Some(0), at: None });
        play.settle();
        play
    }

    /// Gives the network what the peer said, and opens links that it asked for.
    fn carry(&mut self) {
        if !self.model.is_linked && matches!(self.rig.peer.state, State::Connecting { .. }) {
            self.rig.said.clear();
            self.model.is_linked = true;
            self.rig.handle(PeerInput::Connected { local: LOCAL.parse().unwrap() });
        }
        if self.model.is_linked && !self.rig.peer.is_linked() {
            self.cut_wires();
        }
        self.model.to_server.extend(self.rig.said.drain(..));
    }

    fn cut_wires(&mut self) {
        self.model.is_linked = false;
        self.model.to_server.clear();
        self.model.to_client.clear();
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Other(room) => {
                self.others += 1;
                self.model.commit(ROOMS[*room], "bob", format!("bob{}", self.others));
            }
            Step::Say(room) => {
                self.ticket += 1;
                let (room, mid) = (ROOMS[*room], format!("m{}", self.ticket));
                self.asked.insert(self.ticket, room);
                self.rig.ask(self.ticket, &Request::Say { room, text: "", data: None, mid: Some(&mid) });
            }
            Step::Serve(count) => (0..*count).for_each(|_| self.model.serve()),
            Step::Deliver(count) => {
                for _ in 0..*count {
                    if let Some((_, body)) = self.model.to_client.pop_front() {
                        self.rig.receive(&body);
                    }
                }
            }
            Step::Cut if self.model.is_linked => {
                self.cut_wires();
                self.rig.handle(PeerInput::Disconnected("cut"));
            }
            Step::Cut => {}
            Step::Forget => self.model.session = self.model.session.take().filter(|_| self.model.is_linked),
            Step::Tick => self.rig.tick(),
        }
        self.carry();
    }

    /// Lets everything arrive.
    fn settle(&mut self) {
        for _ in 0..50 {
            self.carry();
            if matches!(self.rig.peer.state, State::Waiting { .. }) {
                self.rig.tick();
            }
            self.take(&Step::Serve(50));
            self.take(&Step::Deliver(500));
        }
    }

    fn check(&mut self) {
        let (mut seen, mut replied) = (BTreeMap::<String, Vec<usize>>::new(), BTreeMap::new());
        let mut expired = Vec::new();
        for event in self.rig.take_events() {
            match event {
                PeerEvent::Pushed { body, .. } => {
                    let body: Value = serde_json::from_str(&body).unwrap();
                    let seqs = seen.entry(body["room"].as_str().unwrap().to_owned()).or_default();
                    let seq = body["seq"].as_u64().unwrap() as usize;
                    assert!(seqs.last().is_none_or(|last| *last < seq), "in order and once: {seqs:?}, {seq}");
                    seqs.push(seq);
                }
                PeerEvent::Reply { ticket: Ticket(ticket @ 10..), result: Ok(body) } => {
                    let body: Value = serde_json::from_str(&body).unwrap();
                    let seq = body["seq"].as_u64().unwrap() as usize;
                    assert_eq!(replied.insert(ticket, seq), None, "one reply");
                }
                PeerEvent::Reply { ticket: Ticket(ticket @ 10..), result: Err(why) } => {
                    assert_eq!(*why, Failed::Expired);
                    expired.push(format!("m{ticket}"));
                }
                _ => {}
            }
        }
        assert_eq!(replied.len() + expired.len(), self.asked.len(), "every message has an outcome");
        for room in ROOMS {
            let log = self.model.log.get(room).cloned().unwrap_or_default();
            let mut all: Vec<usize> = seen.remove(room).unwrap_or_default();
            for (ticket, seq) in replied.iter().filter(|(ticket, _)| self.asked[*ticket] == room) {
                assert_eq!(log[seq - 1].1, format!("m{ticket}"), "the reply tells where it is");
                all.push(*seq);
            }
            all.sort_unstable();
            let wanted = |seq: &usize| all.contains(seq) || !expired.contains(&log[seq - 1].1);
            assert_eq!(all, (1..=log.len()).filter(wanted).collect::<Vec<_>>(), "{room}: each once");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_interleaving_shows_each_message_once_and_in_order(steps in prop::collection::vec(step(), 0..150)) {
        let mut play = Play::begin();
        for step in &steps {
            play.take(step);
        }
        play.settle();
        play.check();
    }
}
