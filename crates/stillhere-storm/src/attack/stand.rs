//! Small targets for the tests of attacks: each is a task on a port of its own, and remembers what it heard.

use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use stillhere_core::wire::frame::Decoder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{LocalSet, yield_now};
use tokio::time::timeout;

use super::find;
use super::ground::Ground;
use crate::frame::Framing;
use crate::plan::{self, Length};
use crate::sample::AttackSecond;

/// Of somebody else: two bytes, the low one first, that count themselves.
pub(super) const FOREIGN: Framing =
    Framing { length: Length::U16Le, includes_header: true, max: 1000, speaks_v1: false };
/// No test waits longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a target does with its connections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Manner {
    Discard,
    Ignore,
    Close,
    Record,
    SpeakV1,
}

/// Reads all and keeps nothing.
pub(super) fn discard() -> Manner {
    Manner::Discard
}

/// Reads nothing at all.
pub(super) fn ignore() -> Manner {
    Manner::Ignore
}

/// Ends each connection at once, by a reset if something was on its way.
pub(super) fn close() -> Manner {
    Manner::Close
}

/// Keeps what it reads, and sends the answers that were given to it, if any, after the first bytes.
pub(super) fn record() -> Manner {
    Manner::Record
}

/// Keeps what it reads, and answers as a gateway: `welcome`, `beat`, and the end after a `bye` or what it can't read.
pub(super) fn speak_v1() -> Manner {
    Manner::SpeakV1
}

/// What came on a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    pub(super) bytes: Vec<u8>,
    /// How many bytes each read brought.
    pub(super) reads: Vec<usize>,
    /// Once the attacker has ended it: whether by a reset.
    pub(super) over: Option<bool>,
}

#[derive(Default)]
struct Memory {
    links: Mutex<Vec<Heard>>,
    answers: Mutex<Vec<Vec<u8>>>,
    end: Notify,
}

/// A target and what is counted of attacks on it.
pub(super) struct Stand {
    address: SocketAddr,
    counts: Arc<Mutex<AttackSecond>>,
    memory: Arc<Memory>,
    pub(super) framing: Framing,
    pub(super) rate: Option<f64>,
    pub(super) size: Option<u32>,
}

impl Stand {
    /// A target of this manner.
    pub(super) async fn new(manner: fn() -> Manner) -> Stand {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stand = Stand::at(listener.local_addr().unwrap());
        let memory = stand.memory.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let nth = {
                    let mut links = memory.links.lock().unwrap();
                    links.push(Heard::default());
                    links.len() - 1
                };
                tokio::spawn(serve(stream, manner(), memory.clone(), nth));
            }
        });
        stand
    }

    /// An address where nobody listens.
    pub(super) fn nobody() -> Stand {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Stand::at(listener.local_addr().unwrap())
    }

    fn at(address: SocketAddr) -> Stand {
        let (counts, memory) = (Arc::default(), Arc::default());
        Stand { address, counts, memory, framing: Framing::STILLHERE, rate: None, size: None }
    }

    fn plan(&self, name: &str, count: u32) -> plan::Attack {
        let size = self.size.unwrap_or(find(name).unwrap().size);
        plan::Attack { name: name.to_owned(), count, rate: self.rate, size, interval: Duration::from_secs(10) }
    }

    /// The ground of an attack on it.
    pub(super) fn ground(&self, name: &str) -> Rc<Ground> {
        Ground::new(self.address, self.plan(name, 1), self.framing, 7, self.counts.clone(), Rc::default())
    }

    /// Lets so many attackers loose until the counts are as wanted.
    pub(super) async fn attack(&self, name: &str, count: u32, until: impl Fn(&AttackSecond) -> bool) {
        self.attack_while(name, count, self.counted(until)).await;
    }

    /// Lets so many attackers loose until this has come about.
    pub(super) async fn attack_while(&self, name: &str, count: u32, until: impl Future<Output = ()>) {
        let (plans, counts) = ([self.plan(name, count)], [self.counts.clone()]);
        let attack = super::run(&plans, self.address, self.framing, 7, &counts);
        let place = LocalSet::new();
        let run = place.run_until(async {
            tokio::select! {
                () = attack => {}
                () = until => {}
            }
            // The attack is dropped, and the place where its attackers lived isn't: they must be gone all the same.
            self.counted(|counts| counts.open == 0).await;
        });
        run.await;
    }

    /// Waits until the counts are as wanted.
    pub(super) async fn counted(&self, wanted: impl Fn(&AttackSecond) -> bool) {
        self.patient(|| wanted(&self.counts.lock().unwrap())).await;
    }

    /// Waits until what it heard is as wanted.
    pub(super) async fn heard(&self, wanted: impl Fn(&[Heard]) -> bool) {
        self.patient(|| wanted(&self.links_now())).await;
    }

    async fn patient(&self, wanted: impl Fn() -> bool) {
        let came = timeout(PATIENCE, async {
            while !wanted() {
                yield_now().await;
            }
        });
        assert!(came.await.is_ok(), "never came: {:?}", self.counts());
    }

    /// What is counted so far.
    pub(super) fn counts(&self) -> AttackSecond {
        self.counts.lock().unwrap().clone()
    }

    fn links_now(&self) -> MutexGuard<'_, Vec<Heard>> {
        self.memory.links.lock().unwrap()
    }

    /// What came so far, by connection.
    pub(super) fn links(&self) -> Vec<Heard> {
        self.links_now().clone()
    }

    /// The complete frames that came so far, by connection.
    pub(super) fn bodies(&self) -> Vec<Vec<Vec<u8>>> {
        let bodies = |link: &Heard| {
            let (mut decoder, mut input, mut bodies) = (Decoder::default(), &link.bytes[..], Vec::new());
            while let Ok(Some(body)) = decoder.next(&mut input, 1 << 20) {
                bodies.push(body.to_vec());
            }
            bodies
        };
        self.links_now().iter().map(bodies).collect()
    }

    /// What a recording target says on each connection after the first bytes of it.
    pub(super) fn answers(&self, frames: Vec<Vec<u8>>) {
        *self.memory.answers.lock().unwrap() = frames;
    }

    /// Ends all connections that are open now.
    pub(super) fn end_all(&self) {
        self.memory.end.notify_waiters();
    }
}

/// A frame of ours.
pub(super) fn frame(body: &Value) -> Vec<u8> {
    let mut frame = Vec::new();
    // As a gateway writes it: the op first.
    let mut text = format!("{{\"op\":{}", body["op"]);
    for (key, value) in body.as_object().unwrap().iter().filter(|(key, _)| *key != "op") {
        text.push_str(&format!(",\"{key}\":{value}"));
    }
    text.push('}');
    Framing::STILLHERE.write(text.as_bytes(), &mut frame);
    frame
}

async fn serve(mut stream: TcpStream, manner: Manner, memory: Arc<Memory>, nth: usize) {
    if manner == Manner::Close {
        return;
    }
    let (mut decoder, mut bytes) = (Decoder::default(), vec![0; 16 * 1024]);
    let (mut answers, end) = (memory.answers.lock().unwrap().clone(), memory.end.notified());
    tokio::pin!(end);
    if manner == Manner::Ignore {
        return end.await;
    }
    loop {
        let read = tokio::select! {
            read = stream.read(&mut bytes) => read,
            () = &mut end => return,
        };
        let count = match read {
            Ok(count) if count > 0 => count,
            ended => {
                memory.links.lock().unwrap()[nth].over = Some(ended.is_err());
                return;
            }
        };
        if manner == Manner::Discard {
            continue;
        }
        {
            let heard = &mut memory.links.lock().unwrap()[nth];
            heard.bytes.extend_from_slice(&bytes[..count]);
            heard.reads.push(count);
        }
        let (says, goes) = match manner {
            Manner::SpeakV1 => reply(&mut decoder, &bytes[..count]),
            _ => (std::mem::take(&mut answers).concat(), false),
        };
        let said = stream.write_all(&says).await;
        if goes || said.is_err() {
            memory.links.lock().unwrap()[nth].over = Some(said.is_err());
            return;
        }
    }
}

/// What a gateway would say, and whether it would close then.
fn reply(decoder: &mut Decoder, mut input: &[u8]) -> (Vec<u8>, bool) {
    let mut says = Vec::new();
    loop {
        let body = match decoder.next(&mut input, 64 * 1024) {
            Ok(Some(body)) => body,
            Ok(None) => return (says, false),
            Err(_) => return (says, true),
        };
        let said: Value = serde_json::from_slice(body).unwrap_or_default();
        match said["op"].as_str() {
            Some("hello") => says.extend(frame(&json!({ "op": "welcome" }))),
            Some("beat") => says.extend(frame(&json!({ "op": "beat", "t": said["t"] }))),
            Some("login" | "say") => says.extend(frame(&json!({ "op": "error", "code": 1105 }))),
            _ => return (says, true),
        }
    }
}
