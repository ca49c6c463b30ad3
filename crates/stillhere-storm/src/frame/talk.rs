//! Connections on which frames are exchanged, and a plan's exchanges made on them.
//!
//! A [`Wire`] holds a socket, what is written and not taken yet, and what is read and not whole yet. It has no task and
//! no clock: its owner asks it when something is [`ready`](Wire::ready), and gives up on it by dropping it.

use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::StdRng;
use regex_lite::Regex;
use stillhere_core::text::{Escaped, clip};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Decoder, Framing, Template};
use crate::plan::{self, PlanError};

/// Read from a socket at once. Answers are short, and thousands of connections share a thread.
const READ_BYTES: usize = 8 * 1024;
/// A regular expression that is longer isn't one that somebody wrote to recognise an answer.
const REGEX_BYTES_MAX: usize = 4096;

/// Why a connection is of no use any more. Samples count them by [`Lost::name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Nobody listens there, or this machine has nothing left to connect with.
    Unreachable,
    /// Nobody answered in time whether somebody listens.
    ConnectTimeout,
    /// The target ended the connection before the hello was done.
    HelloRefused,
    /// It was there, and ended or broke.
    Disconnected,
    /// It is there, and doesn't answer or doesn't read.
    Silent,
    /// What came can't be frames.
    BadFrame,
}

impl Lost {
    /// What samples call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Lost::Unreachable => "unreachable",
            Lost::ConnectTimeout => "connect timeout",
            Lost::HelloRefused => "hello refused",
            Lost::Disconnected => "disconnected",
            Lost::Silent => "silent",
            Lost::BadFrame => "bad frame",
        }
    }
}

/// Opens a connection that sends at once what it is given.
pub(crate) async fn connect(target: SocketAddr, within: Duration) -> Result<TcpStream, Lost> {
    let stream = match timeout(within, TcpStream::connect(target)).await {
        Err(_) => return Err(Lost::ConnectTimeout),
        Ok(opened) => opened.map_err(|_| Lost::Unreachable)?,
    };
    stream.set_nodelay(true).map_err(|_| Lost::Unreachable)?;
    Ok(stream)
}

/// A connection with frames on it.
pub(crate) struct Wire {
    stream: TcpStream,
    decoder: Decoder,
    /// Frames to be written, from `written` on.
    out: Vec<u8>,
    written: usize,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, framing: Framing) -> Wire {
        Wire { stream, decoder: Decoder::new(framing), out: Vec::new(), written: 0 }
    }

    /// Where frames are appended; [`Wire::flush`] then sends them. The owner bounds what is [`Wire::unsent`].
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Bytes that the kernel hasn't taken yet.
    pub(crate) fn unsent(&self) -> usize {
        self.out.len() - self.written
    }

    /// Writes as much as the kernel takes, without waiting.
    pub(crate) fn flush(&mut self) -> Result<(), Lost> {
        while self.unsent() > 0 {
            match self.stream.try_write(&self.out[self.written..]) {
                Ok(count @ 1..) => self.written += count,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Ok(0) | Err(_) => return Err(Lost::Disconnected),
            }
        }
        if self.unsent() == 0 {
            self.out.clear();
            self.out.shrink_to(super::CAPACITY_KEPT);
            self.written = 0;
        } else if self.written > self.unsent() {
            self.out.drain(..self.written);
            self.written = 0;
        }
        Ok(())
    }

    /// Waits until something came, or until what is unsent can go on. It may be cancelled at any time.
    pub(crate) async fn ready(&self) {
        let both = Interest::READABLE | Interest::WRITABLE;
        let interest = if self.unsent() > 0 { both } else { Interest::READABLE };
        // An error of the socket is met again, and told, by the next read.
        let _ = self.stream.ready(interest).await;
    }

    /// Reads once what came, without waiting. Take all frames before ([`Wire::next`] says `None`).
    pub(crate) fn read(&mut self) -> Result<(), Lost> {
        let mut bytes = [0; READ_BYTES];
        match self.stream.try_read(&mut bytes) {
            Ok(count @ 1..) => self.decoder.feed(&bytes[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => return Err(Lost::Disconnected),
        }
        Ok(())
    }

    /// The body of the next frame that came whole.
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>, Lost> {
        self.decoder.next_body().map_err(|_| Lost::BadFrame)
    }

    /// Waits for the next frame, and sends meanwhile what is unsent.
    pub(crate) async fn hear(&mut self) -> Result<Vec<u8>, Lost> {
        loop {
            self.flush()?;
            if let Some(body) = self.next()? {
                return Ok(body.to_vec());
            }
            self.ready().await;
            self.read()?;
        }
    }

    /// Ends it by a reset: nothing of it stays behind, no port of this machine rests either.
    pub(crate) fn reset(self) {
        // A socket that can't be told so is closed as any other.
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}

/// The exchanges of a plan's `[frame]`, compiled once for all connections.
#[derive(Debug)]
pub(crate) struct Talk {
    /// How frames look.
    pub(crate) framing: Framing,
    /// What is exchanged once.
    pub(crate) hello: Vec<Exchange>,
    /// What is exchanged again and again.
    pub(crate) beat: Exchange,
}

/// Something to send, and what answers it.
#[derive(Debug)]
pub(crate) struct Exchange {
    payload: Template,
    reply: Option<Regex>,
}

/// What makes the exchanges of one connection its own.
#[derive(Debug)]
pub(crate) struct Speaker {
    /// The connection's number.
    pub(crate) n: u32,
    /// Exchanges made so far.
    pub(crate) count: u64,
    /// Its random choices.
    pub(crate) rng: StdRng,
}

impl Talk {
    /// Compiles it.
    pub(crate) fn of(frame: &plan::Frame) -> Result<Talk, PlanError> {
        let framing = Framing::of(frame);
        let hello = frame.hello.iter().map(|exchange| Exchange::of(exchange, framing)).collect::<Result<_, _>>()?;
        Ok(Talk { framing, hello, beat: Exchange::of(&frame.beat, framing)? })
    }

    /// Makes the exchanges of the hello, one after the other. It waits as long as the target lets it: give it an end.
    pub(crate) async fn greet(&self, wire: &mut Wire, speaker: &mut Speaker) -> Result<(), Lost> {
        for exchange in &self.hello {
            self.exchange(exchange, wire, speaker).await.map_err(|lost| match lost {
                Lost::Disconnected => Lost::HelloRefused,
                other => other,
            })?;
        }
        Ok(())
    }

    /// Makes one exchange; without a reply to wait for it is over when the kernel has taken the payload.
    pub(crate) async fn exchange(
        &self,
        exchange: &Exchange,
        wire: &mut Wire,
        speaker: &mut Speaker,
    ) -> Result<(), Lost> {
        self.say(exchange, wire, speaker);
        wire.flush()?;
        while exchange.reply.is_none() && wire.unsent() > 0 {
            wire.ready().await;
            while wire.next()?.is_some() {}
            wire.read()?;
            wire.flush()?;
        }
        while exchange.reply.is_some() && !exchange.is_answered_by(&wire.hear().await?) {}
        Ok(())
    }

    /// Appends the payload's frame to what is to be sent.
    pub(crate) fn say(&self, exchange: &Exchange, wire: &mut Wire, speaker: &mut Speaker) {
        speaker.count += 1;
        let mut body = Vec::new();
        exchange.payload.render(speaker.n, speaker.count, &mut speaker.rng, &mut body);
        self.framing.write(&body, wire.out());
    }
}

impl Exchange {
    fn of(exchange: &plan::Exchange, framing: Framing) -> Result<Exchange, PlanError> {
        let payload = Template::new(&exchange.payload)?;
        let (longest, most) = (payload.longest() as u64, framing.body_max());
        if longest > most {
            let problem = format!("a payload may become {longest} bytes long, and the length can say at most {most}");
            return Err(PlanError(format!("{problem}; write a shorter one, or another `length`")));
        }
        let reply = exchange.reply.as_deref().map(|pattern| {
            let compiled = if pattern.len() <= REGEX_BYTES_MAX { Regex::new(pattern).ok() } else { None };
            let shown = Escaped(clip(pattern, 80));
            let say = "write for example `ok` for any answer that contains it, and a backslash before ( [ { . * + ? |";
            compiled.ok_or_else(|| PlanError(format!("`{shown}` is no regular expression; {say}")))
        });
        Ok(Exchange { payload, reply: reply.transpose()? })
    }

    /// Whether there is an answer to wait for.
    pub(crate) fn wants_reply(&self) -> bool {
        self.reply.is_some()
    }

    /// Whether this body is the answer; what isn't UTF-8 in it is matched as U+FFFD.
    pub(crate) fn is_answered_by(&self, body: &[u8]) -> bool {
        self.reply.as_ref().is_some_and(|reply| reply.is_match(&String::from_utf8_lossy(body)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Length;

    fn frame(length: Length, payload: &str, reply: Option<&str>) -> plan::Frame {
        let beat = plan::Exchange { payload: payload.to_owned(), reply: reply.map(str::to_owned) };
        plan::Frame { length, includes_header: false, hello: vec![beat.clone()], beat, max: 1024 }
    }

    #[test]
    fn what_a_plan_says_of_frames_is_checked_as_a_whole() {
        let long = "x".repeat(256);
        let cases = [
            (frame(Length::U8, "${n}", Some("^ok")), None),
            (frame(Length::U8, &long[1..], None), None),
            (frame(Length::U16Be, &long, None), None),
            (
                frame(Length::U8, &long, None),
                Some("a payload may become 256 bytes long, and the length can say at most 255"),
            ),
            (frame(Length::U8, "${random:200}${int:0-999}", Some("(")), Some("`(` is no regular expression")),
            (frame(Length::U8, "${nn}", None), Some("`${nn}` is no placeholder")),
        ];
        for (frame, wanted) in cases {
            match (super::super::check(&frame), wanted) {
                (Ok(()), None) => {}
                (Err(error), Some(wanted)) => assert!(error.0.starts_with(wanted), "{error}"),
                other => panic!("{other:?}: {frame:?}"),
            }
        }
    }

    #[test]
    fn an_answer_is_recognised_wherever_its_pattern_stands() {
        let talk = Talk::of(&frame(Length::Line, "ping", Some("\"type\": ?\"(pong|ok)\""))).unwrap();
        let cases: [(&[u8], bool); 4] = [
            (br#"{"type":"pong"}"#, true),
            (b"\xff\xfe {\"type\": \"ok\"}", true),
            (br#"{"type":"chat"}"#, false),
            (b"", false),
        ];
        for (body, is_answer) in cases {
            assert_eq!(talk.beat.is_answered_by(body), is_answer, "{body:?}");
        }
        assert!(!Talk::of(&frame(Length::Line, "ping", None)).unwrap().beat.is_answered_by(b""));
    }
}
