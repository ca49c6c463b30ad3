//! The shard in virtual time, through one harness: a world that feeds inputs and wakes the shard exactly when it asks.

mod chat;
mod invariants;
mod legacy;
mod limits;
mod moving;
mod resume;
mod transports;
mod v1;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::close::Cause;
use crate::detector::Status;
use crate::event::{Change, Closed, Identity, LinkEnd, Note, Peer, Seat};
use crate::profile::Profile;
use crate::wire::frame::{Decoder, write_frame};

/// The tutorial's heartbeat.
const BEAT: &str = r#""{\"ip\": \"127.0.0.1\", \"status\": \"alive\", \"pid\": 21243}""#;
const SECOND: Duration = Duration::from_secs(1);

/// One shard and what came out of it.
struct World {
    shard: Shard,
    now: Time,
    next_link: u32,
    written: HashMap<LinkId, Vec<u8>>,
    closes: HashMap<LinkId, Manner>,
    notes: VecDeque<Note>,
    other: Vec<Output>,
}

fn terms(profile: &str) -> Terms {
    let profile = Profile::named(profile).unwrap();
    Terms::of(profile)
}

fn peer(port: u16) -> Peer {
    SocketAddr::from(([127, 0, 0, 1], port)).into()
}

fn frame(body: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write_frame(&mut out, |out| out.extend_from_slice(body.as_bytes()));
    out
}

impl World {
    fn new() -> World {
        World::with(terms("seed"))
    }

    fn with(terms: Terms) -> World {
        World::numbered(terms, 1, true)
    }

    fn numbered(terms: Terms, seed: u8, alone: bool) -> World {
        World {
            shard: Shard::new(
                terms,
                [seed; 32],
                if alone { Seat::ALONE } else { Seat { index: 0, of: 2 } },
                Time::ZERO,
            ),
            now: Time::ZERO,
            next_link: 0,
            written: HashMap::new(),
            closes: HashMap::new(),
            notes: VecDeque::new(),
            other: Vec::new(),
        }
    }

    fn input(&mut self, input: Input<'_>) {
        let mut out = Outputs::default();
        self.shard.handle(self.now, input, &mut out);
        for output in out.list {
            match output {
                Output::Write { link, range } => {
                    assert!(!self.closes.contains_key(&link), "nothing is written to a closed link");
                    self.written.entry(link).or_default().extend_from_slice(&out.bytes[range]);
                }
                Output::Close { link, manner, .. } => {
                    assert!(self.closes.insert(link, manner).is_none(), "a link is closed once");
                }
                Output::Fan { frames, targets } => {
                    for link in &out.targets[targets] {
                        assert!(!self.closes.contains_key(link), "nothing is written to a closed link");
                        self.written.entry(*link).or_default().extend_from_slice(&frames);
                    }
                }
                Output::Note(note) => self.notes.push_back(note),
                output => self.other.push(output),
            }
        }
    }

    /// Lets time pass, waking the shard whenever it wants to be.
    fn pass(&mut self, span: Duration) {
        let until = self.now + span;
        while self.shard.next_deadline() <= until {
            self.now = self.shard.next_deadline().max(self.now);
            self.input(Input::Tick { wall_ms: 1_000_000 });
        }
        self.now = until;
    }

    fn pass_until(&mut self, second: f64) {
        let until = Time::from_micros((second * 1e6) as u64);
        self.pass(until.since(self.now));
    }

    fn open(&mut self, port: u16) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        self.input(Input::Opened { link, peer: peer(port) });
        link
    }

    fn send(&mut self, link: LinkId, body: &str) {
        self.send_bytes(link, &frame(body));
    }

    fn send_bytes(&mut self, link: LinkId, bytes: &[u8]) {
        self.input(Input::Received { link, bytes });
    }

    fn end(&mut self, link: LinkId) {
        self.input(Input::Ended { link, end: LinkEnd::Eof });
    }

    /// What was written to a link since the last look, body by body.
    fn said(&mut self, link: LinkId) -> Vec<Value> {
        let bytes = self.written.remove(&link).unwrap_or_default();
        let mut decoder = Decoder::default();
        let mut input = &bytes[..];
        let mut said = Vec::new();
        while let Some(body) = decoder.next(&mut input, 1 << 20).unwrap() {
            said.push(serde_json::from_slice(body).unwrap());
        }
        said
    }

    /// The one thing said since the last look.
    fn answer(&mut self, link: LinkId) -> Value {
        let mut said = self.said(link);
        assert_eq!(said.len(), 1, "{said:?}");
        said.remove(0)
    }

    /// Opens a link and says hello with these further fields; returns the welcome.
    fn hello(&mut self, port: u16, more: Value) -> (LinkId, Value) {
        let link = self.open(port);
        let mut hello = json!({"op": "hello", "v": 1});
        hello.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.send(link, &hello.to_string());
        let welcome = self.answer(link);
        assert_eq!(welcome["op"], "welcome", "{welcome}");
        (link, welcome)
    }

    fn changes(&mut self) -> Vec<(Status, Change)> {
        let notes = std::mem::take(&mut self.notes);
        let (changes, others) = notes.into_iter().partition::<Vec<_>, _>(|note| matches!(note, Note::Changed { .. }));
        self.notes = others.into();
        changes
            .into_iter()
            .filter_map(|note| match note {
                Note::Changed { from, change, .. } => Some((from, change)),
                _ => None,
            })
            .collect()
    }

    /// The changes of status since the last look as `(second, to, cause)`.
    fn turns(&mut self) -> Vec<(f64, Status, Cause)> {
        let changes = self.changes();
        changes.into_iter().map(|(_, Change { to, cause, at })| (at.as_micros() as f64 / 1e6, to, cause)).collect()
    }

    fn closed(&mut self) -> Vec<Closed> {
        let notes = std::mem::take(&mut self.notes);
        notes
            .into_iter()
            .filter_map(|note| match note {
                Note::Closed(closed) => Some(*closed),
                _ => None,
            })
            .collect()
    }

    /// The one session there is.
    fn only(&self) -> SessionView {
        let mut page = self.shard.page(&Filter::default(), 0, usize::MAX, 10);
        assert_eq!(page.sessions.len(), 1, "{:?}", page.sessions);
        page.sessions.remove(0)
    }

    fn stats(&self) -> Stats {
        self.shard.stats()
    }
}

/// How a resume is asked for with what a welcome gave.
fn resume(welcome: &Value, count: u64) -> Value {
    json!({"resume": {"session": welcome["session"], "secret": welcome["resume"]["secret"], "count": count}})
}
