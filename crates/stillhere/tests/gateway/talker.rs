//! A user's end of a link: asks are answered while pushes come in between, and every push is counted.

use std::collections::VecDeque;

use serde_json::{Value, json};

use crate::gateway::{Gateway, Setup};
use crate::peer::{AT_ONCE, Peer};

/// A password that nobody guesses.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// Names are claims, so that nobody waits for hashes.
pub(crate) const OPEN: (&str, &str) = ("auth.mode", "open");

/// Runs a test at a gateway of one shard, and at one of two.
pub(crate) fn on_one_and_two_shards(settings: &[(&str, &str)], test: impl Fn(&Gateway) + Sync) {
    std::thread::scope(|scope| {
        for shards in ["1", "2"] {
            let test = &test;
            scope.spawn(move || test(&Setup::new().set_all(settings).set("server.shards", shards).start()));
        }
    });
}

/// A v1 client that chats.
pub(crate) struct Talker {
    pub(crate) peer: Peer,
    pub(crate) welcome: Value,
    /// Pushes received since the session began.
    pub(crate) count: u64,
    waiting: VecDeque<Value>,
    asked: u64,
}

impl Talker {
    /// A user of a gateway where names are claims.
    pub(crate) fn open(gateway: &Gateway, user: &str) -> Talker {
        Talker::hello(gateway, json!({"user": user}))
    }

    /// The same, and in these rooms.
    pub(crate) fn in_rooms(gateway: &Gateway, user: &str, rooms: &[&str]) -> Talker {
        let mut talker = Talker::open(gateway, user);
        for room in rooms {
            talker.join(room);
        }
        talker
    }

    /// A client that was welcomed.
    pub(crate) fn hello(gateway: &Gateway, hello: Value) -> Talker {
        let (peer, welcome) = Peer::v1(gateway, hello);
        Talker { peer, welcome, count: 0, waiting: VecDeque::new(), asked: 0 }
    }

    /// A new user of a gateway with accounts.
    pub(crate) fn register(gateway: &Gateway, user: &str) -> Talker {
        let mut talker = Talker::hello(gateway, json!({}));
        talker.ok(json!({"op": "register", "user": user, "password": PASSWORD}));
        talker
    }

    /// The same user with another session.
    pub(crate) fn login(gateway: &Gateway, user: &str) -> Talker {
        let mut talker = Talker::hello(gateway, json!({}));
        talker.ok(json!({"op": "login", "user": user, "password": PASSWORD}));
        talker
    }

    /// Takes up this session on a new link, as one that has received `count` pushes. The old link is given back, open.
    pub(crate) fn resume(&mut self, gateway: &Gateway, count: u64) -> Peer {
        let mut peer = Peer::connect(gateway);
        self.welcome = peer.hello(crate::peer::proof(&self.welcome, count));
        self.waiting.clear();
        self.count = if self.welcome["resumed"] == true { count } else { 0 };
        std::mem::replace(&mut self.peer, peer)
    }

    fn read(&mut self) -> Value {
        let frame = self.peer.answer();
        let pushed = matches!(frame["op"].as_str(), Some("message" | "signal" | "digest" | "presence" | "notice"));
        self.count += u64::from(pushed);
        frame
    }

    /// Asks and gets the answer; what is pushed before it waits to be looked at.
    pub(crate) fn ask(&mut self, mut request: Value) -> Value {
        self.asked += 1;
        request["id"] = json!(self.asked);
        self.peer.say(&request);
        self.answer(self.asked)
    }

    /// The answer to the request of that id.
    pub(crate) fn answer(&mut self, id: u64) -> Value {
        loop {
            let frame = self.read();
            if frame["re"] == id {
                return frame;
            }
            self.waiting.push_back(frame);
        }
    }

    /// Asks for what must be granted.
    #[track_caller]
    pub(crate) fn ok(&mut self, request: Value) -> Value {
        let answer = self.ask(request.clone());
        assert_eq!(answer["op"], "ok", "{request}: {answer}");
        answer
    }

    /// Asks for what must be refused with this code.
    #[track_caller]
    pub(crate) fn refused(&mut self, request: Value, code: u16) -> Value {
        let answer = self.ask(request.clone());
        assert_eq!((&answer["op"], &answer["code"]), (&json!("error"), &json!(code)), "{request}: {answer}");
        answer
    }

    #[track_caller]
    pub(crate) fn join(&mut self, room: &str) -> Value {
        self.ok(json!({"op": "join", "room": room}))
    }

    /// Says something to a room; the message's seq.
    #[track_caller]
    pub(crate) fn say(&mut self, room: &str, text: &str) -> u64 {
        self.ok(json!({"op": "say", "room": room, "text": text}))["seq"].as_u64().expect("a seq")
    }

    /// Writes to a user; the message's seq.
    #[track_caller]
    pub(crate) fn tell(&mut self, user: &str, text: &str) -> u64 {
        self.ok(json!({"op": "tell", "user": user, "text": text}))["seq"].as_u64().expect("a seq")
    }

    /// A signal, which nobody answers.
    pub(crate) fn signal(&mut self, room: &str, data: Value) {
        self.peer.say(&json!({"op": "signal", "room": room, "data": data}));
    }

    /// The next frame of this op; what else comes before it waits.
    pub(crate) fn next(&mut self, op: &str) -> Value {
        self.next_where(op, |_| true)
    }

    /// The next frame of this op that looks like that.
    pub(crate) fn next_where(&mut self, op: &str, looks: impl Fn(&Value) -> bool) -> Value {
        let meant = |frame: &Value| frame["op"] == op && looks(frame);
        if let Some(place) = self.waiting.iter().position(meant) {
            return self.waiting.remove(place).expect("it is there");
        }
        loop {
            let frame = self.read();
            if meant(&frame) {
                return frame;
            }
            self.waiting.push_back(frame);
        }
    }

    /// The texts of the next messages, up to the one with `last`.
    pub(crate) fn texts_to(&mut self, last: &str) -> Vec<String> {
        let mut texts = Vec::new();
        loop {
            texts.push(self.next("message")["text"].as_str().expect("a text").to_owned());
            if texts.last().is_some_and(|text| text == last) {
                return texts;
            }
        }
    }

    /// What has come and wasn't looked at, with all that was written before a beat's echo.
    pub(crate) fn rest(&mut self, op: &str) -> Vec<Value> {
        self.ask(json!({"op": "beat"}));
        let (meant, others) = self.waiting.drain(..).partition(|frame| frame["op"] == op);
        self.waiting = others;
        meant.into()
    }

    /// Tells the gateway how much was handled.
    pub(crate) fn acknowledge(&mut self) {
        self.ask(json!({"op": "beat", "ack": self.count}));
    }

    /// The goodbye with this code, and the end of the link.
    #[track_caller]
    pub(crate) fn bye(mut self, code: u16) -> Value {
        let bye = self.next("bye");
        assert_eq!(bye["code"], code, "{bye}");
        self.peer.expect_closed_within(AT_ONCE);
        bye
    }
}
