//! Chat over several shards, with a store in memory and clients that check what they get.

mod crossings;
mod histories;
mod store;
mod tables;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::event::{Answer, Ticket};
use crate::ledger::Told;
use crate::name::Name;
use crate::secret::SessionId;
use store::Store;

/// What a client knows of a room.
#[derive(Clone, Debug, PartialEq)]
enum Standing {
    /// Not in, or not known: what is heard of it isn't looked at.
    Out,
    /// In, with everything up to here.
    In(u64),
}

/// A client that checks what it is told.
#[derive(Default)]
struct Client {
    user: String,
    link: Option<(usize, LinkId)>,
    /// Written to its link, and not read yet.
    unread: Vec<u8>,
    welcome: Option<Value>,
    /// Whether this link's welcome was read.
    welcomed: bool,
    pushes: u64,
    rooms: BTreeMap<String, Standing>,
    /// Joins under way, by id.
    joins: BTreeMap<u64, (String, Option<u64>)>,
    next_id: u64,
    /// The position in the mailbox; `None` when that isn't known.
    mail: Option<u64>,
    /// What it read, in order.
    read: Vec<Value>,
    /// Resumes that were answered with these reasons.
    reasons: Vec<String>,
    ended: bool,
}

struct Cluster {
    shards: Vec<Shard>,
    next_link: Vec<u32>,
    now: Time,
    store: Store,
    words: VecDeque<(usize, usize, Word)>,
    clients: Vec<Client>,
    owners: BTreeMap<(usize, LinkId), usize>,
    ended: BTreeSet<(usize, LinkId)>,
}

impl Cluster {
    fn new(shards: usize, users: &[&str], change: impl Fn(&mut Terms)) -> Cluster {
        let mut terms = terms("seed");
        terms.identity.open = true;
        terms.chat.links_per_minute = 0;
        terms.chat.dry_run = true;
        change(&mut terms);
        let shard = |n: usize| {
            Shard::new(terms.clone(), [n as u8 + 1; 32], Seat { index: n as u16, of: shards as u16 }, Time::ZERO)
        };
        let client = |user: &&str| Client { user: (*user).to_owned(), ..Client::default() };
        let mut cluster = Cluster {
            shards: (0..shards).map(shard).collect(),
            next_link: vec![0; shards],
            now: Time::ZERO,
            store: Store::default(),
            words: VecDeque::new(),
            clients: users.iter().map(client).collect(),
            owners: BTreeMap::new(),
            ended: BTreeSet::new(),
        };
        for shard in 0..shards {
            cluster.input(shard, Input::Tick { wall_ms: 1_000_000 });
        }
        cluster
    }

    fn input(&mut self, shard: usize, input: Input<'_>) {
        let mut out = Outputs::default();
        self.shards[shard].handle(self.now, input, &mut out);
        self.shards[shard].check_books();
        let Outputs { bytes, targets, list } = out;
        for output in list {
            match output {
                Output::Write { link, range } => self.write(shard, link, &bytes[range]),
                Output::Fan { frames, targets: range } => {
                    for link in &targets[range] {
                        self.write(shard, *link, &frames);
                    }
                }
                Output::Order { id, order } => self.store.take(shard, id, order),
                Output::Word { to, word } => {
                    for other in (0..self.shards.len()).filter(|other| *other != shard) {
                        if to.is_none_or(|to| usize::from(to) == other) {
                            self.words.push_back((shard, other, word.clone()));
                        }
                    }
                }
                Output::Close { link, .. } => {
                    assert!(self.ended.insert((shard, link)), "closed once");
                    if let Some(client) = self.owners.get(&(shard, link)).copied()
                        && self.clients[client].link == Some((shard, link))
                    {
                        self.read(client);
                        self.clients[client].lose_link();
                    }
                }
                Output::Claim { link, claim } => {
                    let mut answer = Answer::Unknown;
                    for other in (0..self.shards.len()).filter(|other| *other != shard) {
                        if let Some(found) = self.claim(other, claim) {
                            answer = found;
                        }
                    }
                    self.input(shard, Input::Answered { link, answer });
                }
                Output::Answer { .. } => unreachable!("claims are answered in `claim`"),
                Output::Ping { .. } | Output::Keep(_) | Output::Forget(_) | Output::Note(_) => {}
            }
        }
    }

    fn claim(&mut self, shard: usize, claim: crate::event::Claim) -> Option<Answer> {
        let mut out = Outputs::default();
        self.shards[shard].handle(self.now, Input::Claimed { ticket: Ticket(0), claim }, &mut out);
        self.shards[shard].check_books();
        let mut found = None;
        let Outputs { bytes, targets, list } = out;
        for output in list {
            match output {
                Output::Answer { answer: Answer::Unknown, .. } => {}
                Output::Answer { answer, .. } => found = Some(answer),
                Output::Write { link, range } => self.write(shard, link, &bytes[range]),
                Output::Fan { frames, targets: range } => {
                    targets[range].iter().for_each(|link| self.write(shard, *link, &frames));
                }
                Output::Order { id, order } => self.store.take(shard, id, order),
                Output::Word { to, word } => {
                    for other in (0..self.shards.len()).filter(|other| *other != shard) {
                        if to.is_none_or(|to| usize::from(to) == other) {
                            self.words.push_back((shard, other, word.clone()));
                        }
                    }
                }
                Output::Close { link, .. } => {
                    self.ended.insert((shard, link));
                }
                _ => {}
            }
        }
        found
    }

    fn write(&mut self, shard: usize, link: LinkId, bytes: &[u8]) {
        assert!(!self.ended.contains(&(shard, link)), "nothing is written to a closed link");
        let owner = self.owners[&(shard, link)];
        if self.clients[owner].link == Some((shard, link)) {
            self.clients[owner].unread.extend_from_slice(bytes);
        }
    }

    /// Opens a link and says hello, or comes back with what the client has.
    fn connect(&mut self, client: usize, shard: usize, count: Option<u64>) {
        self.drop_link(client);
        let link = LinkId(self.next_link[shard]);
        self.next_link[shard] += 1;
        self.owners.insert((shard, link), client);
        let known = &mut self.clients[client];
        known.link = Some((shard, link));
        (known.welcomed, known.ended) = (false, false);
        let mut hello = json!({"op": "hello", "v": 1, "user": known.user});
        if let Some(welcome) = &known.welcome {
            let count = count.unwrap_or(known.pushes);
            hello.as_object_mut().unwrap().extend(resume(welcome, count).as_object().unwrap().clone());
        }
        self.input(shard, Input::Opened { link, peer: peer(client as u16 + 1) });
        self.send(client, hello);
    }

    fn drop_link(&mut self, client: usize) {
        if let Some((shard, link)) = self.clients[client].link {
            self.clients[client].lose_link();
            self.ended.insert((shard, link));
            self.input(shard, Input::Ended { link, end: LinkEnd::Reset });
        }
    }

    fn send(&mut self, client: usize, body: Value) {
        if let Some((shard, link)) = self.clients[client].link {
            self.input(shard, Input::Received { link, bytes: &frame(&body.to_string()) });
        }
    }

    /// Sends an op with an id, which is returned.
    fn ask(&mut self, client: usize, mut body: Value) -> u64 {
        let known = &mut self.clients[client];
        known.next_id += 1;
        let id = known.next_id;
        body["id"] = id.into();
        if known.welcomed {
            self.send(client, body);
        }
        id
    }

    fn join(&mut self, client: usize, room: &str, after: Option<u64>) {
        if !self.clients[client].welcomed {
            return;
        }
        let mut body = json!({"op": "join", "room": room});
        if let Some(after) = after {
            body["after"] = after.into();
        }
        let id = self.clients[client].next_id + 1;
        self.clients[client].joins.insert(id, (room.to_owned(), after));
        self.clients[client].rooms.insert(room.to_owned(), Standing::Out);
        self.ask(client, body);
    }

    fn part(&mut self, client: usize, room: &str) {
        if self.clients[client].welcomed {
            self.clients[client].rooms.insert(room.to_owned(), Standing::Out);
            self.clients[client].joins.retain(|_, (known, _)| known != room);
            self.ask(client, json!({"op": "part", "room": room}));
        }
    }

    /// Reads all that was written to a client, and checks it.
    fn read(&mut self, client: usize) {
        let bytes = std::mem::take(&mut self.clients[client].unread);
        let mut decoder = Decoder::default();
        let mut input = &bytes[..];
        while let Some(body) = decoder.next(&mut input, 1 << 20).unwrap() {
            let body: Value = serde_json::from_slice(body).unwrap();
            self.clients[client].hear(&body, &self.store);
            self.clients[client].read.push(body);
        }
        let count = self.clients[client].pushes;
        if self.clients[client].link.is_some() && self.clients[client].welcomed && !bytes.is_empty() {
            self.send(client, json!({"op": "beat", "ack": count}));
        }
    }

    /// The store does one thing, or tells one thing.
    fn store_step(&mut self) {
        self.store.step();
    }

    fn told(&mut self, shard: usize, many: usize) {
        let queue = self.store.outgoing.entry(shard).or_default();
        let told: Vec<Told> = queue.drain(..many.min(queue.len())).collect();
        if !told.is_empty() {
            self.input(shard, Input::Told(told));
        }
    }

    fn word(&mut self) {
        if let Some((from, to, word)) = self.words.pop_front() {
            self.input(to, Input::Word { from: from as u16, word });
        }
    }

    fn pass(&mut self, span: Duration) {
        let until = self.now + span;
        loop {
            let (shard, due) = (0..self.shards.len())
                .map(|n| (n, self.shards[n].next_deadline()))
                .min_by_key(|(_, due)| *due)
                .unwrap();
            if due > until {
                break;
            }
            self.now = due.max(self.now);
            let wall_ms = 1_000_000 + self.now.as_micros() / 1000;
            let before = self.shards[shard].next_deadline();
            self.input(shard, Input::Tick { wall_ms });
            assert!(self.shards[shard].next_deadline() > before, "a tick moves the deadline on");
        }
        self.now = until;
    }

    /// Lets everything that is under way come to its end.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            while self.store.step() {}
            for shard in 0..self.shards.len() {
                self.told(shard, usize::MAX);
            }
            while !self.words.is_empty() {
                self.word();
            }
            for client in 0..self.clients.len() {
                self.read(client);
            }
            if self.store.is_idle() && self.words.is_empty() {
                return;
            }
        }
        panic!("it doesn't come to an end");
    }

    /// What a client has read of an op since the last look.
    fn took(&mut self, client: usize, op: &str) -> Vec<Value> {
        self.read(client);
        std::mem::take(&mut self.clients[client].read).into_iter().filter(|body| body["op"] == op).collect()
    }
}

impl Client {
    fn lose_link(&mut self) {
        self.link = None;
        self.unread.clear();
        self.welcomed = false;
        // Whether these have happened isn't known.
        self.joins.clear();
    }

    fn session(&self) -> Option<SessionId> {
        SessionId::parse(self.welcome.as_ref()?["session"].as_str()?)
    }

    fn hear(&mut self, body: &Value, store: &Store) {
        match body["op"].as_str().unwrap() {
            "welcome" => self.hear_welcome(body),
            "ok" => {
                let joined = body["re"].as_u64().and_then(|id| self.joins.remove(&id));
                // Only the newest join of a room says from where it is to go on.
                if let Some((room, after)) = joined
                    && self.joins.values().all(|(other, _)| *other != room)
                {
                    let from = after.unwrap_or(u64::MAX).min(body["head"].as_u64().unwrap());
                    self.rooms.insert(room, Standing::In(from));
                }
            }
            "error" => drop(body["re"].as_u64().map(|id| self.joins.remove(&id))),
            "beat" => {}
            "bye" => self.ended = body["code"].as_u64().unwrap() >= 4500,
            op => {
                assert!(self.welcomed, "pushes come behind the welcome: {body}");
                self.pushes += 1;
                match op {
                    "message" if body.get("room").is_some() => self.hear_in_room(body, store),
                    "message" => self.hear_tell(body, store),
                    "notice" if body["kind"] == "removed" && body["user"] == self.user.as_str() => {
                        self.rooms.insert(body["room"].as_str().unwrap().to_owned(), Standing::Out);
                    }
                    _ => {}
                }
            }
        }
    }

    fn hear_welcome(&mut self, body: &Value) {
        let reason = body["reason"].as_str().unwrap_or(if body["resumed"] == true { "whole" } else { "new" });
        self.reasons.push(reason.to_owned());
        self.welcomed = true;
        if body["resumed"] != true {
            self.pushes = 0;
            self.mail = None;
            let heads = body["rooms"].as_object().cloned().unwrap_or_default();
            self.rooms.retain(|_, standing| *standing != Standing::Out);
            self.rooms = std::mem::take(&mut self.rooms)
                .into_keys()
                .filter_map(|room| Some((room.clone(), Standing::In(heads.get(&room)?.as_u64()?))))
                .collect();
        }
        self.welcome = Some(body.clone());
    }

    fn hear_in_room(&mut self, body: &Value, store: &Store) {
        let (room, seq) = (body["room"].as_str().unwrap(), body["seq"].as_u64().unwrap());
        let Some(Standing::In(last)) = self.rooms.get(room).cloned() else { return };
        assert!(seq > last, "{}: {room} {seq} again, has {last}", self.user);
        let stream = &store.streams[&store.rooms[&Name::room(room).unwrap()]];
        for missing in last + 1..seq {
            let by = stream.messages[missing as usize - 1].by;
            assert_eq!(Some(by), self.session(), "{}: {room} lacks {missing} before {seq}", self.user);
        }
        self.rooms.insert(room.to_owned(), Standing::In(seq));
    }

    fn hear_tell(&mut self, body: &Value, store: &Store) {
        let position = body["seq"].as_u64().unwrap();
        if let Some(last) = self.mail {
            assert!(position > last, "{}: mail {position} again, has {last}", self.user);
            self.check_mail(last, position, store);
        }
        self.mail = Some(position);
    }

    fn check_mail(&self, last: u64, before: u64, store: &Store) {
        let stream = &store.streams[&store.mailboxes[&Name::user(&self.user).unwrap()]];
        for missing in last + 1..before {
            let by = stream.messages[missing as usize - 1].by;
            assert_eq!(Some(by), self.session(), "{}: mail lacks {missing}", self.user);
        }
    }

    /// Nothing is missing.
    fn check_complete(&self, store: &Store) {
        for (room, standing) in &self.rooms {
            let Standing::In(last) = standing else { continue };
            let stream = &store.streams[&store.rooms[&Name::room(room).unwrap()]];
            for (seq, kept) in (1u64..).zip(&stream.messages).skip(*last as usize) {
                assert_eq!(Some(kept.by), self.session(), "{}: {room} lacks {seq} in the end", self.user);
            }
        }
        if let Some(last) = self.mail {
            let head = store.streams[&store.mailboxes[&Name::user(&self.user).unwrap()]].messages.len() as u64;
            self.check_mail(last, head + 1, store);
        }
    }
}
