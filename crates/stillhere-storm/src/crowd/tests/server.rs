//! The other end: a small gateway on the test's own thread, with faults to order.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What it does wrong, and what it has seen.
#[derive(Default)]
pub(super) struct Server {
    /// Nobody is welcomed until this is false again.
    pub(super) is_mute: Cell<bool>,
    /// Newcomers are cut off.
    pub(super) refuses_newcomers: Cell<bool>,
    /// Who isn't a user by an account can't join.
    pub(super) wants_accounts: Cell<bool>,
    /// And nobody can make one.
    pub(super) refuses_accounts: Cell<bool>,
    /// What a resume is answered with: nothing for yes, or why not.
    pub(super) broken: Cell<Option<&'static str>>,
    /// Beats aren't answered until this is false again.
    pub(super) stalls: Cell<bool>,
    /// What beats are answered with.
    pub(super) detect_ms: Cell<u64>,
    /// A message that one member doesn't get, and one that somebody gets twice.
    pub(super) loses: Cell<Option<u64>>,
    pub(super) doubles: Cell<Option<u64>>,
    /// Messages aren't acknowledged.
    pub(super) forgets_to_answer: Cell<bool>,
    pub(super) accounts: Cell<u32>,
    pub(super) goodbyes: Cell<u32>,
    pub(super) beats: Cell<u32>,
    head: Cell<u64>,
    links: RefCell<BTreeMap<u32, Link>>,
    next: Cell<u32>,
    held: RefCell<Vec<(u32, Value)>>,
}

struct Link {
    label: String,
    is_in: bool,
    out: UnboundedSender<Option<Value>>,
}

impl Server {
    pub(super) async fn open() -> (Rc<Server>, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Rc::new(Server::default());
        server.detect_ms.set(9500);
        let accepting = server.clone();
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepting.add(stream);
            }
        });
        (server, address)
    }

    /// Says something to everybody with this label.
    pub(super) fn push(&self, label: &str, body: &Value) {
        for link in self.links.borrow().values().filter(|link| link.label == label) {
            let _ = link.out.send(Some(body.clone()));
        }
    }

    /// Ends the links with this label, after a goodbye with a code if there is one.
    pub(super) fn end(&self, label: &str, code: Option<u16>) {
        for link in self.links.borrow().values().filter(|link| link.label == label) {
            if let Some(code) = code {
                let _ = link.out.send(Some(json!({"op": "bye", "code": code, "reason": "r"})));
            }
            let _ = link.out.send(None);
        }
    }

    /// Answers what was held while it stalled or was mute.
    pub(super) fn go_on(&self) {
        self.stalls.set(false);
        self.is_mute.set(false);
        for (id, body) in self.held.take() {
            self.send(id, body);
        }
    }

    /// How many answers are held.
    pub(super) fn held(&self) -> usize {
        self.held.borrow().len()
    }

    fn add(self: &Rc<Server>, stream: TcpStream) {
        let (reading, writing) = stream.into_split();
        let (out, queue) = unbounded_channel();
        let id = self.next.replace(self.next.get() + 1);
        self.links.borrow_mut().insert(id, Link { label: String::new(), is_in: false, out });
        tokio::task::spawn_local(write(writing, queue));
        tokio::task::spawn_local(read(self.clone(), id, reading));
    }

    fn send(&self, id: u32, body: Value) {
        if let Some(link) = self.links.borrow().get(&id) {
            let _ = link.out.send(Some(body));
        }
    }

    fn hear(&self, id: u32, said: &Value) {
        let re = &said["id"];
        let reply = match said["op"].as_str() {
            Some("hello") => return self.hello(id, said),
            Some("beat") => {
                self.beats.set(self.beats.get() + 1);
                let reply = json!({"op": "beat", "t": said["t"], "detect_ms": self.detect_ms.get()});
                if self.stalls.get() {
                    return self.held.borrow_mut().push((id, reply));
                }
                reply
            }
            Some("register") if self.refuses_accounts.get() => {
                json!({"op": "error", "re": re, "code": 1109, "name": "n", "message": "m", "temporary": false})
            }
            Some("register") => {
                self.accounts.set(self.accounts.get() + 1);
                json!({"op": "ok", "re": re, "user": said["user"], "token": said["user"]})
            }
            Some("token") => {
                self.set_in(id, true);
                json!({"op": "ok", "re": re, "user": said["token"]})
            }
            Some("join") if self.wants_accounts.get() && !self.links.borrow()[&id].is_in => {
                json!({"op": "error", "re": re, "code": 1103, "name": "n", "message": "m", "temporary": false})
            }
            Some("join") => {
                self.set_in(id, true);
                json!({"op": "ok", "re": re, "room": said["room"], "head": self.head.get()})
            }
            Some("say") if !self.links.borrow()[&id].is_in => {
                json!({"op": "error", "re": re, "code": 1301, "name": "n", "message": "m", "temporary": false})
            }
            Some("say") => return self.say(id, said),
            Some("signal") => {
                let push = json!({"op": "signal", "room": said["room"], "from": "x", "data": said["data"]});
                return self.others(id).for_each(|other| self.send(other, push.clone()));
            }
            Some("bye") => {
                self.goodbyes.set(self.goodbyes.get() + u32::from(self.labelled(id).starts_with("storm-")));
                return self.end(&self.labelled(id), None);
            }
            // A legacy beat.
            _ => {
                self.beats.set(self.beats.get() + 1);
                return;
            }
        };
        self.send(id, reply);
    }

    fn hello(&self, id: u32, said: &Value) {
        let label = said["user"].as_str().unwrap_or("somebody").to_owned();
        if let Some(link) = self.links.borrow_mut().get_mut(&id) {
            link.label.clone_from(&label);
        }
        if said["client"] == "storm-newcomer" && self.refuses_newcomers.get() {
            return self.end(&label, None);
        }
        let resumed = said["resume"].is_object() && self.broken.get().is_none();
        let welcome = json!({
            "op": "welcome", "session": format!("session of {label}"), "gen": 1, "user": label,
            "resumed": resumed, "reason": self.broken.get(),
            "beat": {"interval_ms": 1000, "min_ms": 1000, "detect_ms": 6500, "leave_hold_ms": 1_800_000},
            "resume": {"secret": "s", "window_ms": 120_000},
            "limits": {"frame_bytes": 65_536, "frames_per_second": 1000}, "node": "n", "time_ms": 1,
        });
        match self.is_mute.get() {
            true => self.held.borrow_mut().push((id, welcome)),
            false => self.send(id, welcome),
        }
    }

    fn say(&self, id: u32, said: &Value) {
        let seq = self.head.get() + 1;
        self.head.set(seq);
        let (from, text, mid) = (self.labelled(id), &said["text"], &said["mid"]);
        let room = &said["room"];
        let push =
            json!({"op": "message", "room": room, "seq": seq, "from": from, "text": text, "mid": mid, "time_ms": 1});
        for (nth, other) in self.others(id).enumerate() {
            if nth > 0 || self.loses.get() != Some(seq) {
                self.send(other, push.clone());
            }
            if nth == 0 && self.doubles.get() == Some(seq) {
                self.send(other, push.clone());
            }
        }
        if !self.forgets_to_answer.get() {
            self.send(id, json!({"op": "ok", "re": said["id"], "seq": seq, "time_ms": 1}));
        }
    }

    fn set_in(&self, id: u32, is_in: bool) {
        if let Some(link) = self.links.borrow_mut().get_mut(&id) {
            link.is_in = is_in;
        }
    }

    fn labelled(&self, id: u32) -> String {
        self.links.borrow().get(&id).map(|link| link.label.clone()).unwrap_or_default()
    }

    fn others(&self, id: u32) -> impl Iterator<Item = u32> + use<> {
        let links = self.links.borrow();
        let others: Vec<u32> =
            links.iter().filter(|(other, link)| **other != id && link.is_in).map(|(other, _)| *other).collect();
        others.into_iter()
    }
}

async fn read(server: Rc<Server>, id: u32, mut reading: OwnedReadHalf) {
    while let Ok(length) = reading.read_u32().await {
        let mut body = vec![0; length as usize];
        if reading.read_exact(&mut body).await.is_err() {
            break;
        }
        server.hear(id, &serde_json::from_slice(&body).unwrap());
    }
    server.links.borrow_mut().remove(&id);
}

async fn write(mut writing: OwnedWriteHalf, mut queue: UnboundedReceiver<Option<Value>>) {
    while let Some(Some(body)) = queue.recv().await {
        let body = body.to_string();
        let mut frame = (body.len() as u32).to_be_bytes().to_vec();
        frame.extend_from_slice(body.as_bytes());
        if writing.write_all(&frame).await.is_err() {
            return;
        }
    }
}
