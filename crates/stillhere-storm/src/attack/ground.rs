//! What attackers stand on: connections, frames, turns, and counts of it all.

use std::cell::{Cell, OnceCell};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use stillhere_core::wire::frame::Decoder;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::coop;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::talk::Desks;
use crate::frame::Framing;
use crate::pace::Schedule;
use crate::plan;
use crate::sample::AttackSecond;

/// How long an attacker waits for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// After a connection that didn't open an attacker rests so long, or it would only heat its own machine.
const REFUSED_REST: Duration = Duration::from_millis(20);
/// A connection that says nothing, or not all of a frame, should have been ended by then: ours does so after 10 s, and a
/// busy target may be late by half.
pub(super) const DUE: Duration = Duration::from_secs(15);
/// How long one look for an end lasts where there is no other bound; it is looked for again, so the number is free.
const LOOK: Duration = Duration::from_secs(3600);
/// Noise that the attackers of an attack share. More would only be more memory: what is longer repeats itself.
const NOISE_MAX: usize = 64 * 1024;
/// What is read at once, and filled in at once.
const READ_BYTES: usize = 4096;
/// What bodies are stretched with: it is good within a JSON string.
const FILLER: u8 = b'x';
/// What an attacker takes from a target in one frame. Its answers are short; whoever sends more is not believed.
const FRAME_MAX: u32 = 64 << 10;
/// Codes that are counted apart: v1 has some fifty.
const CODES_MAX: usize = 64;
/// Addresses of this machine that attackers come from: a fresh port for each of 2,000 connections a second would be
/// gone after fourteen seconds with one address, since a port rests for a minute.
const SOURCES: u32 = 200;

/// What the attackers of one attack share.
pub(crate) struct Ground {
    /// Whom they attack.
    pub(crate) target: SocketAddr,
    /// What the plan says of this attack.
    pub(crate) plan: plan::Attack,
    /// How frames look, and what a first one may be.
    pub(crate) framing: Framing,
    /// The plan's: decides random choices, and the names of accounts.
    pub(crate) seed: u64,
    /// The accounts that attackers share, also with those of other attacks.
    pub(super) desks: Rc<Desks>,
    counts: Arc<Mutex<AttackSecond>>,
    began: Instant,
    schedule: Option<Schedule>,
    turns: Cell<u64>,
    connects: Cell<u32>,
    noise: OnceCell<Rc<[u8]>>,
}

impl Ground {
    /// The ground of one attack, from now on. `counts` is what it adds to.
    pub(crate) fn new(
        target: SocketAddr,
        plan: plan::Attack,
        framing: Framing,
        seed: u64,
        counts: Arc<Mutex<AttackSecond>>,
        desks: Rc<Desks>,
    ) -> Rc<Ground> {
        let schedule = plan.rate.map(Schedule::steady);
        let (turns, connects, noise) = (Cell::new(0), Cell::new(0), OnceCell::new());
        let began = Instant::now();
        Rc::new(Ground { target, plan, framing, seed, desks, counts, began, schedule, turns, connects, noise })
    }

    /// Whether the target speaks v1.
    pub(crate) fn is_ours(&self) -> bool {
        self.framing.speaks_v1
    }

    /// The plan's `size`, but no more than a body of the target may have.
    pub(crate) fn body_size(&self) -> usize {
        self.plan.size.min(self.framing.max) as usize
    }

    /// What the header of a good frame says whose body has so many bytes.
    pub(crate) fn announced(&self, body: u64) -> u64 {
        if self.framing.includes_header { body + self.framing.header() as u64 } else { body }
    }

    /// Random bytes, the same for all: as many as the plan's `size`, within [`NOISE_MAX`].
    pub(crate) fn noise(&self) -> Rc<[u8]> {
        let make = || {
            let mut noise = vec![0; (self.plan.size as usize).clamp(1, NOISE_MAX)];
            StdRng::seed_from_u64(self.seed).fill_bytes(&mut noise);
            noise.into()
        };
        self.noise.get_or_init(make).clone()
    }

    /// Waits until the next try is due, and counts it; false when there will be none. Without a rate that is at once,
    /// after the others had their turn.
    pub(crate) async fn turn(&self) -> bool {
        if let Some(schedule) = &self.schedule {
            let nth = self.turns.replace(self.turns.get() + 1);
            let Some(due) = schedule.due(nth) else { return false };
            sleep_until(self.began + due).await;
        }
        tokio::task::yield_now().await;
        self.count().tries += 1;
        true
    }

    /// A connection, or none if the target (or this machine) had none to give. It is not a try of its own.
    pub(crate) async fn connect(self: &Rc<Ground>) -> Option<Link> {
        let nth = self.connects.replace(self.connects.get().wrapping_add(1));
        let opened = timeout(CONNECT_TIMEOUT, open(self.target, nth)).await;
        match opened {
            Ok(Ok(stream)) => {
                let mut counts = self.count();
                counts.connected += 1;
                counts.open += 1;
                drop(counts);
                Some(Link {
                    stream,
                    ground: self.clone(),
                    decoder: Some(Decoder::default()).filter(|_| self.is_ours()),
                    buffer: Vec::new(),
                    answers: 0,
                    ended: false,
                    overdue: false,
                })
            }
            Ok(Err(_)) | Err(_) => {
                self.count().refused += 1;
                sleep(REFUSED_REST).await;
                None
            }
        }
    }

    /// Randomness of one attacker.
    pub(crate) fn rng(&self, index: u32) -> StdRng {
        StdRng::seed_from_u64(self.seed ^ (u64::from(index) << 32))
    }

    /// What is counted, for a moment: never hold it over an await.
    pub(crate) fn count(&self) -> MutexGuard<'_, AttackSecond> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets the other attackers have their turn, and the target its chance to close. Whoever only fills a socket keeps this
/// thread busy with megabytes that a target which has long closed never reads.
pub(crate) async fn rest() {
    tokio::task::yield_now().await;
}

/// Opens a connection; on loopback from one of this machine's many addresses there.
async fn open(target: SocketAddr, nth: u32) -> io::Result<TcpStream> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if cfg!(target_os = "linux") && target.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
        let source = Ipv4Addr::new(127, 0, 1, 1 + (nth % SOURCES) as u8);
        socket.bind((source, 0).into())?;
    }
    let stream = socket.connect(target).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// What an attacker heard.
#[derive(Debug, PartialEq)]
pub(crate) enum Heard {
    /// A frame's body. Of a target that doesn't frame as ours does: whatever came.
    Frame(Vec<u8>),
    /// The target ended the connection, or it broke.
    Ended,
    /// Nothing in the given time.
    Silence,
}

/// A connection of an attacker. Dropping it closes it, with unread bytes by a reset as the kernel does.
pub(crate) struct Link {
    stream: TcpStream,
    ground: Rc<Ground>,
    /// `None` for a target whose frames aren't ours, and for one that has said a length which nobody believes.
    decoder: Option<Decoder>,
    /// Read and not decoded yet.
    buffer: Vec<u8>,
    /// How often the target has answered on it.
    answers: u64,
    ended: bool,
    overdue: bool,
}

impl Link {
    /// Sends all of it; false once the target has ended the connection. Waits while the target reads slowly.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.stream.write(rest).await {
                Ok(0) | Err(_) => {
                    self.end();
                    return false;
                }
                Ok(count) => {
                    self.ground.count().sent_bytes += count as u64;
                    rest = &rest[count..];
                }
            }
        }
        true
    }

    /// Sends so many fillers. They are not built: thousands of attackers that send megabytes would own gigabytes.
    pub(crate) async fn fill(&mut self, count: usize) -> bool {
        static FILLERS: [u8; READ_BYTES] = [FILLER; READ_BYTES];
        let mut rest = count;
        while rest > 0 {
            let piece = rest.min(FILLERS.len());
            if !self.send(&FILLERS[..piece]).await {
                return false;
            }
            rest -= piece;
        }
        true
    }

    /// Sends a frame with this body, in the target's framing.
    pub(crate) async fn send_frame(&mut self, body: &[u8]) -> bool {
        let mut frame = Vec::with_capacity(body.len() + 4);
        self.ground.framing.write(body, &mut frame);
        self.send(&frame).await
    }

    /// Sends all of it and reads meanwhile, so that neither side waits for the other; false once the target has ended
    /// the connection or the time is over, with some of it unsent.
    pub(crate) async fn pour(&mut self, bytes: &[u8], end: Instant) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() && !self.ended && Instant::now() < end {
            coop::consume_budget().await;
            let Ok(ready) = timeout_at(end, self.stream.ready(Interest::READABLE | Interest::WRITABLE)).await else {
                return false;
            };
            let Ok(ready) = ready else {
                self.end();
                return false;
            };
            let ended = ready.is_readable() && self.try_read() == Read::Ended;
            self.note_answers();
            if ended {
                return false;
            }
            match self.stream.try_write(rest) {
                Ok(count) if count > 0 => {
                    self.ground.count().sent_bytes += count as u64;
                    rest = &rest[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => {
                    // What it said before it ended is still there to be read.
                    while self.try_read() == Read::Some {
                        self.note_answers();
                    }
                    self.end();
                    return false;
                }
            }
        }
        rest.is_empty()
    }

    /// The next frame of a v1 target. A `bye` and an `error` are counted by their codes.
    pub(crate) async fn hear(&mut self, within: Duration) -> Heard {
        let end = Instant::now() + within;
        loop {
            if let Some(body) = self.decode() {
                return Heard::Frame(body);
            }
            match timeout_at(end, self.read()).await {
                Err(_) => return Heard::Silence,
                Ok(false) => return Heard::Ended,
                Ok(true) => {}
            }
        }
    }

    /// Reads whatever comes, without looking at it, until the target ends the connection (true) or the time is over.
    pub(crate) async fn wait_end(&mut self, within: Duration) -> bool {
        let end = Instant::now() + within;
        loop {
            match self.hear(end.saturating_duration_since(Instant::now())).await {
                // One that never stops talking doesn't stretch the time.
                Heard::Frame(_) if Instant::now() < end => {}
                Heard::Ended => return true,
                Heard::Frame(_) | Heard::Silence => return self.ended,
            }
        }
    }

    /// Reads whatever comes until the target ends the connection, however long that takes. From `due` on it is
    /// overdue.
    pub(crate) async fn outlast(&mut self, due: Instant) {
        if self.wait_end(due.saturating_duration_since(Instant::now())).await {
            return;
        }
        self.overdue();
        while !self.wait_end(LOOK).await {}
    }

    /// Waits until the target has answered so often, counted from when the connection opened; false if it ended before
    /// that, or the time is over.
    pub(crate) async fn answered(&mut self, times: u64, within: Duration) -> bool {
        let end = Instant::now() + within;
        while self.answers < times && Instant::now() < end {
            let Heard::Frame(body) = self.hear(end.saturating_duration_since(Instant::now())).await else { break };
            self.note_answer(&body);
        }
        self.answers >= times
    }

    /// How often the target has answered on it.
    pub(crate) fn answers(&self) -> u64 {
        self.answers
    }

    /// Says hello as a v1 client and waits for the answer: the `welcome`, or nothing.
    pub(crate) async fn hello(&mut self, user: Option<&str>) -> Option<Value> {
        let interval_ms = self.ground.plan.interval.as_millis() as u64;
        let mut hello = serde_json::json!({ "op": "hello", "v": 1, "client": "storm", "interval_ms": interval_ms });
        if let (Some(user), Some(fields)) = (user, hello.as_object_mut()) {
            fields.insert("user".to_owned(), user.into());
        }
        self.ask(&hello).await.filter(|reply| reply["op"] == "welcome")
    }

    /// Sends a v1 request and waits for what answers it: an `ok`, `error`, `welcome` or `beat`; pushes in between are
    /// left aside. A request without an `id` gets one: without it there is no `ok`.
    pub(crate) async fn ask(&mut self, request: &Value) -> Option<Value> {
        /// An attacker that isn't answered goes on.
        const PATIENCE: Duration = Duration::from_secs(10);
        let mut request = request.clone();
        let op = request["op"].as_str();
        if let (false, Some(fields)) = (matches!(op, Some("hello" | "beat")), request.as_object_mut()) {
            // One is asked at a time, so that they may all have the same.
            fields.entry("id").or_insert(1.into());
        }
        if !self.send_frame(request.to_string().as_bytes()).await {
            return None;
        }
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let Heard::Frame(body) = self.hear(end.saturating_duration_since(Instant::now())).await else {
                return None;
            };
            let Ok(reply) = serde_json::from_slice::<Value>(&body) else { continue };
            if matches!(reply["op"].as_str(), Some("ok" | "error" | "welcome" | "beat")) {
                self.note_answer(&body);
                return Some(reply);
            }
        }
        None
    }

    /// Ends it by a reset, so that the target learns of it at once and no port rests.
    pub(crate) fn reset(self) {
        // A socket that can't be told so is closed as any other.
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// The socket, for attacks with more on their mind.
    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Notes that the target has ended it; once.
    pub(crate) fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            self.ground.count().ended += 1;
        }
        self.settle();
    }

    /// Whether the target has ended it, as far as was noticed.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Notes that the target should have ended it by now; until it does so, or the attacker drops it.
    pub(crate) fn overdue(&mut self) {
        if !self.ended && !std::mem::replace(&mut self.overdue, true) {
            self.ground.count().overdue += 1;
        }
    }

    /// It is overdue no longer.
    fn settle(&mut self) {
        if std::mem::replace(&mut self.overdue, false) {
            let mut counts = self.ground.count();
            counts.overdue = counts.overdue.saturating_sub(1);
        }
    }

    /// Whether something came; false at the end.
    async fn read(&mut self) -> bool {
        loop {
            coop::consume_budget().await;
            if self.stream.readable().await.is_err() {
                self.end();
                return false;
            }
            match self.try_read() {
                Read::Some => return true,
                Read::Ended => return false,
                Read::None => {}
            }
        }
    }

    /// Reads what is there. The bytes are on the stack only for this moment: an attacker that waits owns no buffer.
    fn try_read(&mut self) -> Read {
        let mut bytes = [0; READ_BYTES];
        match self.stream.try_read(&mut bytes) {
            Ok(count) if count > 0 => {
                self.ground.count().received_bytes += count as u64;
                self.buffer.extend_from_slice(&bytes[..count]);
                Read::Some
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Read::None,
            Ok(_) | Err(_) => {
                self.end();
                Read::Ended
            }
        }
    }

    /// The next body of what was read.
    fn decode(&mut self) -> Option<Vec<u8>> {
        if self.buffer.is_empty() {
            return None;
        }
        let Some(decoder) = &mut self.decoder else { return Some(std::mem::take(&mut self.buffer)) };
        let mut rest = &self.buffer[..];
        let Ok(body) = decoder.next(&mut rest, FRAME_MAX) else {
            // It goes on as one whose frames aren't known.
            self.decoder = None;
            return Some(std::mem::take(&mut self.buffer));
        };
        let body = body.map(|body| body.to_vec());
        let used = self.buffer.len() - rest.len();
        self.buffer.drain(..used);
        let body = body?;
        self.note(&body);
        Some(body)
    }

    /// Counts the answers among what was read.
    fn note_answers(&mut self) {
        while let Some(body) = self.decode() {
            self.note_answer(&body);
        }
    }

    /// Counts it if it answers something. A v1 target writes the op first.
    fn note_answer(&mut self, body: &[u8]) {
        let says = |op: &str| body.strip_prefix(b"{\"op\":\"").is_some_and(|rest| rest.starts_with(op.as_bytes()));
        if self.decoder.is_none() || ["beat\"", "ok\"", "error\"", "welcome\""].into_iter().any(says) {
            self.answers += 1;
            self.ground.count().answered += 1;
        }
    }

    /// Counts what the target says of errors and ends.
    fn note(&self, body: &[u8]) {
        // Most frames are neither; a substring tells before they are parsed.
        let says = |op: &[u8]| body.windows(op.len()).any(|part| part == op);
        let (is_bye, is_error) = (says(b"\"bye\""), says(b"\"error\""));
        if !is_bye && !is_error {
            return;
        }
        let Ok(said) = serde_json::from_slice::<Value>(body) else { return };
        let Some(code) = said["code"].as_u64().and_then(|code| u16::try_from(code).ok()) else { return };
        let mut counts = self.ground.count();
        match said["op"].as_str() {
            Some("bye") => count_code(&mut counts.closes, code),
            Some("error") => count_code(&mut counts.errors, code),
            _ => {}
        }
    }
}

/// Counts a code; those of a target that has ever new ones are all 0.
fn count_code(codes: &mut BTreeMap<u16, u64>, code: u16) {
    let code = if codes.len() < CODES_MAX || codes.contains_key(&code) { code } else { 0 };
    *codes.entry(code).or_insert(0) += 1;
}

impl Drop for Link {
    fn drop(&mut self) {
        self.settle();
        let mut counts = self.ground.count();
        counts.open = counts.open.saturating_sub(1);
    }
}

/// What reading brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Some,
    /// Nothing yet.
    None,
    Ended,
}

#[cfg(test)]
mod tests;
