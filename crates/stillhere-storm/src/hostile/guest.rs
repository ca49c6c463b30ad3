//! A client that has connected, in the hands of a behaviour.
//!
//! Whatever a behaviour does, what the client sends is read beside it (unless it reads nothing on purpose) and written
//! down; no more than one read and one incomplete frame of it is kept.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use stillhere_core::wire::frame::Decoder;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};

use super::visit::{Book, By, Speaks, Told, Visit};
use crate::frame::Framing;

/// What is read at once.
const READ_BYTES: usize = 16 * 1024;
/// The largest body that is taken from a client: the protocol's default.
const BODY_MAX: u32 = 64 * 1024;
/// How long a client may take for its first frame; the protocol says the same.
const FIRST_FRAME: Duration = Duration::from_secs(10);
/// How often a link that isn't read is looked at for its end.
const GLANCE: Duration = Duration::from_millis(50);
/// How long a client that was told goodbye may take to close its side.
const GOODBYE: Duration = Duration::from_secs(1);
/// Answers that wait for a client to read them, in bytes; further ones are left out.
const REPLIES_MAX: usize = 64 * 1024;
/// After so many writes in a row the others have their turn.
const TURN: u32 = 16;
/// What is granted when the client asks for no interval.
const INTERVAL: Duration = Duration::from_secs(1);
/// The bounds of what is granted, as the protocol has them.
const INTERVALS: (u64, u64) = (1_000, 600_000);

/// A client that has connected.
pub(super) struct Guest {
    stream: TcpStream,
    book: Book,
    index: usize,
    began: Instant,
    /// When the behaviour has to end at the latest.
    until: Instant,
    /// How long a behaviour without an end lasts, where others are to have their turn.
    turn: Option<Duration>,
    /// The frame of clients that aren't ours.
    framing: Option<Framing>,
    decoder: Decoder,
    /// Whether what it sends still makes frames.
    readable: bool,
    hello: Option<Value>,
    /// Whether beats are answered, and the answers that wait.
    answers: bool,
    replies: Vec<u8>,
    ended: bool,
}

impl Guest {
    pub(super) fn new(
        stream: TcpStream,
        (book, index): (Book, usize),
        (began, until): (Instant, Instant),
        turn: Option<Duration>,
        framing: Option<Framing>,
    ) -> Guest {
        let readable = framing.is_none();
        let guest = Guest {
            stream,
            book,
            index,
            began,
            until,
            turn,
            framing,
            decoder: Decoder::default(),
            readable,
            hello: None,
            answers: false,
            replies: Vec::new(),
            ended: false,
        };
        if framing.is_some() {
            guest.note(|visit, _| visit.speaks = Some(Speaks::Other));
        }
        guest
    }

    /// How frames look for this client.
    pub(super) fn framing(&self) -> Framing {
        self.framing.unwrap_or(Framing::STILLHERE)
    }

    /// What it speaks, as far as it has said something.
    pub(super) fn speaks(&self) -> Option<Speaks> {
        self.book.borrow()[self.index].speaks
    }

    /// Waits for its first frame. False when it has ended, or said nothing.
    pub(super) async fn hear_first(&mut self) -> bool {
        let end = self.until.min(Instant::now() + FIRST_FRAME);
        while self.speaks().is_none() {
            let Ok(Ok(_)) = timeout_at(end, self.stream.readable()).await else { return false };
            if !self.take() {
                return false;
            }
        }
        true
    }

    /// Waits for its first frame and, if that is a hello, welcomes it. Other clients need no welcome.
    pub(super) async fn greet(&mut self) -> bool {
        if !self.hear_first().await {
            return false;
        }
        let Some(hello) = self.hello.take() else { return true };
        let asked = hello["interval_ms"].as_u64().unwrap_or(INTERVAL.as_millis() as u64);
        let interval_ms = asked.clamp(INTERVALS.0, INTERVALS.1);
        let name = format!("hostile-{}", self.index);
        let mut welcome = json!({
            "op": "welcome", "session": name, "gen": 1, "resumed": false,
            "beat": {
                "interval_ms": interval_ms, "min_ms": INTERVALS.0, "detect_ms": interval_ms * 13 / 2,
                "leave_hold_ms": 1_800_000,
            },
            "resume": { "secret": name, "window_ms": 120_000 },
            "limits": { "frame_bytes": BODY_MAX, "frames_per_second": 0 }, "node": "hostile", "time_ms": 0,
        });
        if let Some(fields) = welcome.as_object_mut() {
            if !hello["id"].is_null() {
                fields.insert("re".to_owned(), hello["id"].clone());
            }
            if hello["resume"].is_object() {
                fields.insert("reason".to_owned(), "expired".into());
            }
        }
        self.note(|visit, _| visit.interval = Some(Duration::from_millis(interval_ms)));
        self.send_frame(welcome.to_string().as_bytes()).await
    }

    /// Sends a sound frame: the client may take it for life. False once it has ended or its time is over.
    pub(super) async fn send_frame(&mut self, body: &[u8]) -> bool {
        let mut frame = Vec::with_capacity(body.len() + 4);
        self.framing().write(body, &mut frame);
        self.send_frames(&frame).await
    }

    /// Sends frames that are sound.
    pub(super) async fn send_frames(&mut self, frames: &[u8]) -> bool {
        let sent = self.send(frames).await;
        if sent {
            self.note(|visit, now| visit.fed = Some(now));
        }
        sent
    }

    /// Sends bytes that are no life. Waits while the client reads slowly, and reads meanwhile.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        let mut turns = 0;
        while !rest.is_empty() {
            let Ok(Ok(ready)) =
                timeout_at(self.until, self.stream.ready(Interest::READABLE | Interest::WRITABLE)).await
            else {
                return false;
            };
            if ready.is_readable() && !self.take() {
                return false;
            }
            if ready.is_writable() && !self.write(&mut rest) {
                return false;
            }
            turns += 1;
            if turns % TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
        // A write that always succeeds must not keep everybody else waiting.
        tokio::task::yield_now().await;
        Instant::now() < self.until
    }

    /// Sends a `bye`, or another last word, and writes down what it says of coming back.
    pub(super) async fn dismiss(&mut self, body: &Value, told: Told) {
        // A client counts from when it hears it, which on a busy machine is before this knows that it was sent.
        let sending = self.began.elapsed();
        if self.send_frame(body.to_string().as_bytes()).await {
            self.note(|visit, _| visit.told = Some((sending, told)));
        }
        // Closing with unread bytes would reset the link, and the word could be lost.
        if socket2::SockRef::from(&self.stream).shutdown(std::net::Shutdown::Write).is_ok() {
            self.until = self.until.min(Instant::now() + GOODBYE);
            self.hold().await;
        }
    }

    /// Ends what has no end of its own, where others are to have their turn.
    pub(super) fn take_turn(&mut self) {
        if let Some(turn) = self.turn {
            self.until = self.until.min(Instant::now() + turn);
        }
    }

    /// Reads and says nothing until the client ends, or for twice as long as it may take for that.
    pub(super) async fn hold_out(&mut self) {
        self.be_patient();
        self.hold().await;
    }

    fn be_patient(&mut self) {
        let (since, patience, speaks) = {
            let visit = &self.book.borrow()[self.index];
            (visit.silent_since(), visit.patience(), visit.speaks)
        };
        self.until = self.until.min(self.began + since + patience * 2);
        if matches!(speaks, Some(Speaks::Legacy | Speaks::Other)) {
            self.take_turn();
        }
    }

    /// Reads and says nothing until the client ends or the time is over.
    pub(super) async fn hold(&mut self) {
        while let Ok(Ok(())) = timeout_at(self.until, self.stream.readable()).await {
            if !self.take() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Reads and says nothing for a moment; false once the client has ended or its time is over.
    pub(super) async fn rest(&mut self, span: Duration) -> bool {
        let end = self.until.min(Instant::now() + span);
        while let Ok(Ok(())) = timeout_at(end, self.stream.readable()).await {
            if !self.take() {
                return false;
            }
            tokio::task::yield_now().await;
        }
        Instant::now() < self.until
    }

    /// Doesn't even read, until the client ends, or for twice as long as it may take for that.
    pub(super) async fn ignore(&mut self) {
        self.be_patient();
        while Instant::now() < self.until {
            // Readiness tells of the end of what the client sends without reading up to it.
            match self.stream.ready(Interest::READABLE | Interest::WRITABLE).await {
                Ok(ready) if !ready.is_read_closed() && !ready.is_error() => {}
                Ok(_) | Err(_) => return self.end(By::Client),
            }
            sleep(GLANCE).await;
        }
    }

    /// Sends a sound frame and reads nothing. False once the client has ended or its time is over.
    pub(super) async fn send_unread(&mut self, body: &[u8]) -> bool {
        let mut frame = Vec::with_capacity(body.len() + 4);
        self.framing().write(body, &mut frame);
        let mut rest = &frame[..];
        while !rest.is_empty() {
            let Ok(Ok(ready)) =
                timeout_at(self.until, self.stream.ready(Interest::READABLE | Interest::WRITABLE)).await
            else {
                return false;
            };
            if ready.is_read_closed() || ready.is_error() {
                self.end(By::Client);
                return false;
            }
            let before = rest.len();
            if ready.is_writable() && !self.write(&mut rest) {
                return false;
            }
            if rest.len() == before {
                sleep(GLANCE).await;
            }
        }
        self.note(|visit, now| visit.fed = Some(now));
        tokio::task::yield_now().await;
        Instant::now() < self.until
    }

    /// Is a sound server until the client ends or the time is over.
    pub(super) async fn serve(&mut self) {
        self.answers = true;
        loop {
            let interest =
                if self.replies.is_empty() { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
            let Ok(Ok(ready)) = timeout_at(self.until, self.stream.ready(interest)).await else { return };
            if ready.is_readable() && !self.take() {
                return;
            }
            if !self.replies.is_empty() {
                let replies = std::mem::take(&mut self.replies);
                let mut rest = &replies[..];
                if !self.write(&mut rest) {
                    return;
                }
                if rest.is_empty() {
                    self.note(|visit, now| visit.fed = Some(now));
                }
                self.replies = rest.to_vec();
            }
            tokio::task::yield_now().await;
        }
    }

    /// Lets the kernel keep no more than a few KiB of what the client sends.
    pub(super) fn shrink(&self) {
        // The kernel raises it to its own least, which does as well.
        let _ = socket2::SockRef::from(&self.stream).set_recv_buffer_size(2048);
    }

    /// The link will end by a reset.
    pub(super) fn will_reset(&self) {
        // A socket that can't be told so is closed as any other, which is hostile enough.
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    fn write(&mut self, rest: &mut &[u8]) -> bool {
        match self.stream.try_write(rest) {
            Ok(count) => {
                *rest = &rest[count..];
                self.note(|visit, _| visit.bytes_out += count as u64);
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
            Err(_) => {
                self.end(By::Client);
                false
            }
        }
    }

    /// Reads once what is there; false at the end.
    fn take(&mut self) -> bool {
        let mut buffer = [0; READ_BYTES];
        match self.stream.try_read(&mut buffer) {
            Ok(0) => {
                self.end(By::Client);
                false
            }
            Ok(count) => {
                self.note(|visit, _| visit.bytes_in += count as u64);
                self.hear(&buffer[..count]);
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
            Err(_) => {
                self.end(By::Client);
                false
            }
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        if !self.readable {
            // Of somebody else's frames only this is known: a sign of life.
            return self.note(Visit::hear);
        }
        let mut rest = bytes;
        let mut decoder = std::mem::take(&mut self.decoder);
        loop {
            match decoder.next(&mut rest, BODY_MAX) {
                Ok(Some(body)) => self.frame(body),
                Ok(None) => break,
                Err(_) => {
                    self.readable = false;
                    return;
                }
            }
        }
        self.decoder = decoder;
    }

    fn frame(&mut self, body: &[u8]) {
        self.note(Visit::hear);
        if self.speaks().is_none() && !body.is_empty() {
            let said = serde_json::from_slice::<Value>(body).ok();
            let speaks =
                if said.as_ref().is_some_and(|said| said["op"].is_string()) { Speaks::V1 } else { Speaks::Legacy };
            self.hello = said.filter(|_| speaks == Speaks::V1);
            return self.note(|visit, _| visit.speaks = Some(speaks));
        }
        if self.answers && self.replies.len() < REPLIES_MAX {
            self.answer(body);
        }
    }

    /// What a sound server says to a request.
    fn answer(&mut self, body: &[u8]) {
        let Ok(said) = serde_json::from_slice::<Value>(body) else { return };
        let reply = match said["op"].as_str() {
            Some("beat") => json!({ "op": "beat", "t": said["t"] }),
            Some(_) if !said["id"].is_null() => json!({ "op": "ok", "re": said["id"] }),
            Some(_) | None => return,
        };
        let framing = self.framing();
        framing.write(reply.to_string().as_bytes(), &mut self.replies);
    }

    fn note(&self, note: impl FnOnce(&mut Visit, Duration)) {
        if let Some(visit) = self.book.borrow_mut().get_mut(self.index) {
            note(visit, self.began.elapsed());
        }
    }

    fn end(&mut self, by: By) {
        self.ended = true;
        self.note(|visit, now| visit.end(now, by));
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if !self.ended {
            // A run that is over ends nothing: the link was open when the client was judged.
            self.note(|visit, now| visit.end(now, By::Server));
        }
    }
}
