//! What may lie between a socket and its frames: TLS, a WebSocket, or both.
//!
//! A plain native link has none of this. For others `link` has a [`Wrap`]: it gives it what was read, does step by step
//! what it says, and has it wrap what the shard writes. Nothing here touches a socket, a clock or the shard, and an idle
//! wrap owns no buffer.
//!
//! - `tls`: records; `http`: the request for a WebSocket; `ws`: its frames
//! - `held`: what isn't whole yet, and the bound on it

mod held;
mod http;
mod tls;
mod ws;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use stillhere_core::close::CloseCode;
use stillhere_core::event::Transport;
use stillhere_core::stats::Refused;

use crate::config::Network;
use held::Held;
use http::Verdict;
use tls::{Progress, Tls};
use ws::{Heard, WebSocket};

/// How long a TLS handshake may take; far more than the two round trips that it needs, and short, since it is the most
/// expensive thing a stranger can ask for.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// How long the head of a request may take.
const HEAD_MAX: Duration = Duration::from_secs(10);

/// What holds for all links of the port; replaced as a whole by a reload.
#[derive(Default)]
pub(crate) struct Rules {
    /// What TLS handshakes work with; `None` without a certificate.
    pub(crate) tls: Option<Arc<ServerConfig>>,
    /// Origins that may open a WebSocket besides the host's own, in lower case.
    pub(crate) origins: Vec<String>,
    /// Where proxies stand.
    pub(crate) proxies: Vec<Network>,
    /// How long a proxy may take for its header.
    pub(crate) first_frame: Duration,
    /// The longest message, in bytes.
    pub(crate) message_bytes_max: usize,
    /// What all links of one shard may hold of incomplete messages, in bytes.
    pub(crate) held_bytes_max: usize,
}

/// What a link has to do next: after it has sent [`Work::wire`], given [`Work::frames`] to the shard, and sent the
/// [answer](Wrap::answer).
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Wait for more bytes.
    Wait,
    /// Tell the shard what carries the link now, and go on.
    Upgraded(Transport),
    /// Tell the shard that the peer was heard, and go on.
    Heard,
    /// Tell the shard that no frames can be made of this; it closes the link.
    Garbled,
    /// Tell the shard that this is nobody to speak with; it closes the link.
    TurnedAway(CloseCode, Refused),
    /// The peer has ended the link.
    Ended,
}

/// Who asks for more memory than there is.
const FULL: Step = Step::TurnedAway(CloseCode::RateLimited, Refused::Memory);

/// The buffers of one read: the thread's, so that links have none.
#[derive(Default)]
pub(crate) struct Work {
    /// Bytes inside TLS, or on the wire without it, from `at` on still to be looked at.
    plain: Vec<u8>,
    at: usize,
    /// Answers that still have to be wrapped.
    reply: Vec<u8>,
    /// Bytes of frames for the shard.
    pub(crate) frames: Vec<u8>,
    /// Bytes for the socket.
    pub(crate) wire: Vec<u8>,
}

/// The buffers of one write.
#[derive(Default)]
struct Pack {
    /// Messages of a WebSocket that still have to be encrypted.
    messages: Vec<u8>,
    wire: Vec<u8>,
}

thread_local! {
    static WORK: Cell<Work> = Cell::default();
    // A read makes the shard write, so writing has buffers of its own.
    static PACK: Cell<Pack> = Cell::default();
}

/// What each of the thread's buffers keeps between two uses, in bytes: as much as one read brings.
const BUFFER_KEPT: usize = 64 * 1024;

impl Work {
    /// Lends the thread's buffers for a read, empty.
    pub(crate) fn lend<R>(work: impl FnOnce(&mut Work) -> R) -> R {
        let mut buffers = WORK.take();
        let result = work(&mut buffers);
        let Work { plain, at, reply, frames, wire } = &mut buffers;
        for buffer in [plain, reply, frames, wire] {
            recycle(buffer);
        }
        *at = 0;
        WORK.set(buffers);
        result
    }
}

impl Work {
    /// What the step has to answer isn't said.
    pub(crate) fn drop_answer(&mut self) {
        self.reply.clear();
    }
}

fn recycle(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(BUFFER_KEPT);
}

/// What lies between one socket and its frames.
pub(crate) struct Wrap {
    tls: Option<Box<Tls>>,
    inside: Inside,
}

/// What is inside TLS, or on the wire without it.
enum Inside {
    /// TLS is still being agreed on.
    Nothing,
    /// The first byte will tell.
    Unknown,
    Native,
    Head(Held),
    WebSocket(Box<WebSocket>),
}

impl Wrap {
    /// A wrap for a link that begins with this byte; `None` if it needs none.
    pub(crate) fn for_first(byte: u8, rules: &Rules) -> Option<Wrap> {
        let (tls, inside) = match (byte, &rules.tls) {
            (b'G', _) => (None, Inside::Head(Held::default())),
            (0x16, Some(config)) => (Some(Box::new(Tls::new(Arc::clone(config)).ok()?)), Inside::Nothing),
            _ => return None,
        };
        Some(Wrap { tls, inside })
    }

    /// How long the present stage may take; `None` if the shard has an eye on it.
    pub(crate) fn patience(&self) -> Option<Duration> {
        match self.inside {
            Inside::Nothing => Some(HANDSHAKE_MAX),
            Inside::Head(_) => Some(HEAD_MAX),
            Inside::Unknown | Inside::Native | Inside::WebSocket(_) => None,
        }
    }

    /// What a link is counted as that took longer.
    pub(crate) fn overdue(&self) -> Refused {
        if matches!(self.inside, Inside::Nothing) { Refused::Tls } else { Refused::Http }
    }

    /// Takes bytes as they were read, and destroys them.
    pub(crate) fn open(&mut self, wire: &mut [u8], work: &mut Work, rules: &Rules) -> Step {
        let Some(tls) = &mut self.tls else {
            work.plain.extend_from_slice(wire);
            return self.step(work, rules);
        };
        match tls.open(wire, rules.held_bytes_max, &mut work.plain, &mut work.wire) {
            Progress::On => self.step(work, rules),
            Progress::Opened => {
                self.inside = Inside::Unknown;
                Step::Upgraded(Transport::Tls)
            }
            Progress::NoAgreement => Step::TurnedAway(CloseCode::BadFrame, Refused::Tls),
            Progress::Broken => Step::Garbled,
            Progress::Full => FULL,
        }
    }

    /// What the next bytes of the same read come to.
    pub(crate) fn step(&mut self, work: &mut Work, rules: &Rules) -> Step {
        match self.inner_step(work, rules) {
            Step::Wait if self.tls.as_ref().is_some_and(|tls| tls.peer_left()) => Step::Ended,
            step => step,
        }
    }

    /// Wraps what the step has to answer. Not before the shard got its frames, whose answers come first: what is
    /// encrypted must go out in that order.
    pub(crate) fn answer(&mut self, work: &mut Work) {
        if !work.reply.is_empty() {
            seal(&mut self.tls, &work.reply, &mut work.wire);
            work.reply.clear();
        }
    }

    fn inner_step(&mut self, work: &mut Work, rules: &Rules) -> Step {
        let Work { plain, at, reply, frames, .. } = work;
        let mut rest = &plain[*at..];
        let Some(&first) = rest.first() else { return Step::Wait };
        if let Inside::Unknown = self.inside {
            self.inside = if first == b'G' { Inside::Head(Held::default()) } else { Inside::Native };
        }
        match &mut self.inside {
            Inside::Nothing | Inside::Unknown => Step::Wait,
            Inside::Native => {
                frames.extend_from_slice(rest);
                *at = plain.len();
                Step::Wait
            }
            Inside::Head(head) => {
                let known = head.bytes().len();
                // Never more than a head may be is kept; what follows it is taken from where it was read.
                let more = &rest[..rest.len().min(http::HEAD_BYTES_MAX - known)];
                if head.extend(more, rules.held_bytes_max).is_err() {
                    return FULL;
                }
                *at += more.len();
                match http::judge(head.bytes(), &rules.origins) {
                    Verdict::Incomplete => Step::Wait,
                    Verdict::Accepted { used, response } => {
                        *at -= known + more.len() - used;
                        reply.extend_from_slice(response.as_bytes());
                        self.inside = Inside::WebSocket(Box::default());
                        let secret = self.tls.is_some();
                        Step::Upgraded(if secret { Transport::WebSocketTls } else { Transport::WebSocket })
                    }
                    Verdict::Refused { reason, response } => {
                        reply.extend_from_slice(response.as_bytes());
                        Step::TurnedAway(CloseCode::BadFrame, reason)
                    }
                }
            }
            Inside::WebSocket(socket) => {
                let heard = socket.read(&mut rest, rules.message_bytes_max, rules.held_bytes_max, frames, reply);
                *at = plain.len() - rest.len();
                match heard {
                    Heard::Nothing => Step::Wait,
                    Heard::Life => Step::Heard,
                    Heard::Leave => Step::Ended,
                    Heard::Garbage => Step::Garbled,
                    Heard::Full => FULL,
                }
            }
        }
    }

    /// Wraps whole native frames and hands over the bytes for the socket.
    pub(crate) fn pack<R>(&mut self, frames: &[u8], send: impl FnOnce(&[u8]) -> R) -> R {
        self.write(
            |wrap, messages| match wrap.inside {
                Inside::WebSocket(_) => ws::write_messages(frames, messages),
                Inside::Nothing | Inside::Unknown | Inside::Native | Inside::Head(_) => {
                    messages.extend_from_slice(frames)
                }
            },
            |_, _| {},
            send,
        )
    }

    /// Asks the peer for a sign of life, where that is possible.
    pub(crate) fn ping<R>(&mut self, send: impl FnOnce(&[u8]) -> R) -> R {
        self.write(
            |wrap, messages| {
                if let Inside::WebSocket(_) = wrap.inside {
                    ws::write_ping(messages)
                }
            },
            |_, _| {},
            send,
        )
    }

    /// Takes leave of the peer, layer by layer.
    pub(crate) fn part<R>(&mut self, code: Option<CloseCode>, send: impl FnOnce(&[u8]) -> R) -> R {
        self.write(
            |wrap, messages| {
                if let Inside::WebSocket(socket) = &mut wrap.inside {
                    socket.part(code, messages)
                }
            },
            |wrap, wire| {
                if let Some(tls) = &mut wrap.tls {
                    tls.part(wire)
                }
            },
            send,
        )
    }

    fn write<R>(
        &mut self,
        inside: impl FnOnce(&mut Wrap, &mut Vec<u8>),
        around: impl FnOnce(&mut Wrap, &mut Vec<u8>),
        send: impl FnOnce(&[u8]) -> R,
    ) -> R {
        let Pack { mut messages, mut wire } = PACK.take();
        inside(self, &mut messages);
        if self.tls.is_none() {
            std::mem::swap(&mut messages, &mut wire);
        } else if !messages.is_empty() {
            seal(&mut self.tls, &messages, &mut wire);
        }
        around(self, &mut wire);
        let result = send(&wire);
        recycle(&mut messages);
        recycle(&mut wire);
        PACK.set(Pack { messages, wire });
        result
    }
}

fn seal(tls: &mut Option<Box<Tls>>, plain: &[u8], wire: &mut Vec<u8>) {
    match tls {
        Some(tls) => tls.seal(plain, wire),
        None => wire.extend_from_slice(plain),
    }
}
