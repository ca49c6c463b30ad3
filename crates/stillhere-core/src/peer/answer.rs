//! What a v1 peer makes of a server's answers and pushes.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;

use super::event::{Continuity, LinkRequest, Loss, PeerEvent, PeerOutputs, Refused, Stop, Welcomed};
use super::{CLAIM_BYTES_MAX, Live, Peer, Session, State};
use crate::detector::Status;
use crate::limits::{INTERVAL_MAX, INTERVAL_MIN};
use crate::text::clip;
use crate::time::Time;
use crate::wire::message::{ClientMessage, Number, RequestId, Resume, ServerMessage, Welcome, write_message};

/// What a server says without it being a push. All else is one and is counted, known or not.
const ANSWERS: [&str; 5] = ["welcome", "ok", "error", "beat", "bye"];

impl Peer {
    /// Reads one body. What can't be read costs the server its link.
    pub(super) fn body(&mut self, now: Time, body: &[u8], out: &mut PeerOutputs) -> Result<(), Malformed> {
        if let State::Live(live) = &mut self.state {
            live.heard = now;
        }
        if body.is_empty() {
            return Ok(());
        }
        let text = std::str::from_utf8(body).map_err(Malformed::because)?;
        let head: Head<'_> = serde_json::from_str(text).map_err(Malformed::because)?;
        if !ANSWERS.contains(&&*head.op) {
            self.pushed(now, &head.op, text, out);
            return Ok(());
        }
        match serde_json::from_str(text).map_err(Malformed::because)? {
            ServerMessage::Welcome { welcome, .. } => self.welcomed(now, *welcome, out),
            ServerMessage::Beat { id, t, now: asked, detect_ms, interval_ms, .. } => {
                self.answered(now, t, detect_ms, out);
                self.adapt(now, interval_ms, out);
                self.ask(now, asked, id);
                Ok(())
            }
            ServerMessage::Ok { re } => {
                // An answer to what was never asked is nothing.
                if let (Some(RequestId::Number(id)), Some((chat, mut line))) = (re, self.chat(now, out)) {
                    let _ = chat.answered(id, Ok(text), &mut line);
                }
                Ok(())
            }
            ServerMessage::Error { re, code, name, message, temporary, retry_ms } => {
                let retry = retry_ms.map(Duration::from_millis);
                let (name, message) = (name.into_owned(), message.into_owned());
                let refused = Refused { code, name, message, temporary, retry };
                let left = match (re, self.chat(now, out)) {
                    (Some(RequestId::Number(id)), Some((chat, mut line))) => chat.answered(id, Err(refused), &mut line),
                    _ => Err(refused),
                };
                if let Err(refused) = left {
                    self.refused(now, refused, out);
                }
                Ok(())
            }
            ServerMessage::Bye { code, reason, retry_ms } => {
                out.events.push_back(PeerEvent::Closed { code, reason: reason.into() });
                match code {
                    4500.. => self.stop(now, Stop::Told(code), LinkRequest::Drop, out),
                    _ => self.retreat(now, retry_ms.map(Duration::from_millis), out),
                }
                Ok(())
            }
        }
    }

    fn welcomed(&mut self, now: Time, welcome: Welcome, out: &mut PeerOutputs) -> Result<(), Malformed> {
        if !matches!(self.state, State::Greeting { .. }) {
            return Err(Malformed("a second welcome".to_owned()));
        }
        if welcome.session.len().max(welcome.resume.secret.len()) > CLAIM_BYTES_MAX {
            return Err(Malformed("a session name or secret of more than 128 bytes".to_owned()));
        }
        let interval = clamped(welcome.beat.interval_ms);
        let first_beat = now + self.dice.below(interval);
        self.state = State::Live(Live::new(now, interval, first_beat, IpAddr::from([0, 0, 0, 0])));
        let continuity = match self.session.take() {
            Some(held) if welcome.resumed && held.resume.session == welcome.session => {
                self.keep(&welcome, held.resume.count, held.acked);
                Continuity::Resumed
            }
            held => {
                self.keep(&welcome, 0, 0);
                match held {
                    Some(_) => Continuity::Broken { reason: welcome.reason.unwrap_or_default() },
                    None => Continuity::Fresh,
                }
            }
        };
        // A resumed session may have missed the last declaration; a new one only needs to hear of a leave.
        let declared = self.declared.filter(|status| *status == Status::Leave || continuity == Continuity::Resumed);
        let (user, is_resumed) = (welcome.user.clone(), continuity == Continuity::Resumed);
        out.events.push_back(PeerEvent::Welcomed(Box::new(Welcomed {
            session: welcome.session,
            generation: welcome.generation,
            continuity,
            user: welcome.user.clone(),
            interval,
            detect: Duration::from_millis(welcome.beat.detect_ms),
            leave_hold: Duration::from_millis(welcome.beat.leave_hold_ms),
            node: welcome.node,
        })));
        if let Some(status) = declared {
            write_message(&mut out.send, &ClientMessage::Status { status });
        }
        if let Some((chat, mut line)) = self.chat(now, out) {
            chat.welcomed(user.as_deref(), is_resumed, welcome.limits.frame_bytes, &mut line);
        }
        Ok(())
    }

    fn keep(&mut self, welcome: &Welcome, count: u64, acked: u64) {
        let (session, secret) = (welcome.session.clone(), welcome.resume.secret.clone());
        let (resume, user) = (Resume { session, secret, count }, welcome.user.as_deref().map(Into::into));
        let frame_bytes = welcome.limits.frame_bytes;
        self.session = Some(Box::new(Session { resume, acked, unacked_bytes: 0, user, frame_bytes }));
    }

    fn answered(&mut self, now: Time, t: Option<Number>, detect_ms: Option<u64>, out: &mut PeerOutputs) {
        let (State::Live(live), Some(Number::Int(micros))) = (&mut self.state, t) else { return };
        let sent = Time::from_micros(u64::try_from(micros).unwrap_or(0));
        if live.unanswered > 0 && sent >= live.since && sent <= now {
            live.unanswered -= 1;
            let (rtt, detect) = (now.since(sent), detect_ms.map(Duration::from_millis));
            out.events.push_back(PeerEvent::BeatAnswered { rtt, detect });
        }
    }

    fn adapt(&mut self, now: Time, interval_ms: Option<u64>, out: &mut PeerOutputs) {
        let (State::Live(live), Some(interval_ms)) = (&mut self.state, interval_ms) else { return };
        let interval = clamped(interval_ms);
        if interval == live.interval {
            return;
        }
        live.interval = interval;
        live.next_beat = match live.last_beat {
            Some(last) => (last + self.dice.around(interval)).max(now),
            None => live.next_beat.min(now + interval),
        };
        out.events.push_back(PeerEvent::IntervalChanged(interval));
    }

    /// The beat itself is sent when the bytes at hand are all read, so a flood of requests gets one answer a read.
    fn ask(&mut self, now: Time, asked: bool, id: Option<u32>) {
        if let (State::Live(live), true) = (&mut self.state, asked) {
            live.next_beat = now;
            live.asked = id;
        }
    }

    fn pushed(&mut self, now: Time, op: &str, body: &str, out: &mut PeerOutputs) {
        // Before the welcome neither end counts.
        let (State::Live(live), Some(session)) = (&mut self.state, self.session.as_deref_mut()) else { return };
        session.resume.count += 1;
        session.unacked_bytes = session.unacked_bytes.saturating_add(body.len() as u32);
        if session.is_ack_due() {
            live.next_beat = now;
        }
        let count = session.resume.count;
        // What can't be read as a message is the application's to judge.
        if op == "message"
            && let Ok(message) = serde_json::from_str(body)
            && !self.chat_or_new(now, out, |chat, line| chat.pushed(&message, line))
        {
            return;
        }
        out.events.push_back(PeerEvent::Pushed { count, body: body.into() });
    }

    fn refused(&mut self, now: Time, refused: Refused, out: &mut PeerOutputs) {
        let Refused { code, temporary, retry, .. } = refused;
        out.events.push_back(PeerEvent::Refused(Box::new(refused)));
        if !matches!(self.state, State::Greeting { .. }) {
            return;
        }
        if temporary {
            out.events.push_back(PeerEvent::Lost(Loss::HelloRefused));
            self.retreat(now, retry, out);
        } else {
            self.stop(now, Stop::HelloRefused(code), LinkRequest::Drop, out);
        }
    }
}

/// The one field that decides how the rest of a body is read.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    op: Cow<'a, str>,
}

/// What the server sent can't be read, and why.
pub(super) struct Malformed(pub(super) String);

impl Malformed {
    /// A parser's words may quote what it read, so they are clipped.
    pub(super) fn because(error: impl std::fmt::Display) -> Malformed {
        Malformed(clip(&error.to_string(), 200).to_owned())
    }
}

/// An interval as granted, within the contract's bounds: a mad server can't make a client flood it.
fn clamped(interval_ms: u64) -> Duration {
    Duration::from_millis(interval_ms).clamp(INTERVAL_MIN, INTERVAL_MAX)
}
