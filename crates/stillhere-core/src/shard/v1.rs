//! v1 sessions on their links: beats with replies, declared status, goodbye. `resume` has their beginnings.

use std::time::Duration;

use crate::close::Cause;
use crate::event::{LinkId, Manner, Mode, Output, Outputs};
use crate::session::{Session, V1};
use crate::time::Time;
use crate::wire::body::{Op, Request};
use crate::wire::error::{ErrorCode, Refusal};
use crate::wire::message::{Number, RequestId, ServerMessage};

use super::Shard;
use super::links::{Ending, Fate, Flow, NO_SESSION};

/// After so many steady beats the interval of an adaptive session grows by a step.
const STEADY_BEATS: u8 = 5;
/// A beat in so many asks the client for one more, to measure the round trip from this side.
const RTT_EVERY: u64 = 32;

impl Shard {
    /// One v1 frame.
    pub(super) fn request(&mut self, id: LinkId, request: Request<'_>, at: Time, out: &mut Outputs) -> Flow {
        let Request { id: re, ack, op } = request;
        let Some(key) = self.link(id).map(|link| link.session) else { return Flow::Closed };
        if key == NO_SESSION {
            return match op {
                Ok(Op::Hello(hello)) => self.hello(id, re, *hello, at, out),
                Ok(_) => self.refuse(id, re, ErrorCode::HELLO_FIRST.because("say hello first"), None, out),
                Err(refusal) => self.refuse_hello(id, re, refusal, at, out),
            };
        }
        if self.v1_life(key, at, out) == Flow::Closed {
            return Flow::Closed;
        }
        if let Some(ack) = ack {
            self.acknowledge(key, ack, out);
        }
        if self.terms.identity.required && matches!(op, Ok(Op::Beat { .. } | Op::Status(_))) && !self.is_user(key) {
            return self.refuse(id, re, ErrorCode::LOGIN_FIRST.because("this server serves only users"), None, out);
        }
        match op {
            Ok(Op::Beat { t, re: answer }) => self.beat(id, key, Beat { re, t, answer }, at, out),
            Ok(Op::Status(status)) => {
                let away = status == crate::detector::Status::Leave;
                let session = self.sessions.get_mut(key as usize);
                let (acted, declared) = match session {
                    Some(session) => (session.act(at), session.declare(away, at)),
                    None => (None, None),
                };
                self.report(key, acted, out);
                self.report(key, declared, out);
                self.arm_session(key);
                self.ok(id, re, out)
            }
            Ok(Op::Hello(_)) => self.refuse(id, re, ErrorCode::HELLO_TWICE.because("already said hello"), None, out),
            Ok(Op::Bye) => {
                self.ok(id, re, out);
                let ending = Ending {
                    code: None,
                    cause: Cause::Goodbye,
                    manner: Manner::Gently,
                    retry_ms: None,
                    fate: Fate::Forget,
                };
                self.close(id, ending, at, out);
                Flow::Closed
            }
            Ok(Op::Ask(ask)) => {
                let acted = self.sessions.get_mut(key as usize).and_then(|session| session.act(at));
                self.report(key, acted, out);
                self.arm_session(key);
                self.ask(id, key, re, *ask, at, out)
            }
            Err(refusal) => self.refuse(id, re, refusal, None, out),
        }
    }

    /// Any complete frame is life, and proves that the welcome has arrived.
    fn v1_life(&mut self, key: u32, at: Time, out: &mut Outputs) -> Flow {
        if key == NO_SESSION {
            return Flow::On;
        }
        let Some(heard) = self.hear(key, at, out) else { return Flow::Closed };
        let Some(v1) = self.v1_mut(key) else { return Flow::Closed };
        v1.steady = v1.steady.saturating_add(u8::from(!heard.early));
        if !v1.proven {
            v1.proven = true;
            v1.counts_anew = false;
            self.keep(key, out);
        }
        Flow::On
    }

    /// A frame of length 0: a beat that asks for no reply. Before hello it is nobody's.
    pub(super) fn empty_beat(&mut self, key: u32, at: Time, out: &mut Outputs) -> Flow {
        let flow = self.v1_life(key, at, out);
        if let (Flow::On, Some(session)) = (flow, self.sessions.get_mut(key as usize)) {
            self.stats.beats[Mode::V1 as usize] += 1;
            session.beats += 1;
        }
        flow
    }

    fn beat(&mut self, id: LinkId, key: u32, beat: Beat<'_>, at: Time, out: &mut Outputs) -> Flow {
        self.stats.beats[Mode::V1 as usize] += 1;
        let Shard { sessions, terms, stats, .. } = self;
        let Some(session) = sessions.get_mut(key as usize) else { return Flow::Closed };
        let measure = session.beats % RTT_EVERY == 0;
        session.beats += 1;
        let interval = adapt_interval(session, terms.interval, terms.interval_max);
        let detect_ms = session.watch().detect(&terms.rule).as_millis() as u64;
        let Some(v1) = session.v1_part_mut() else { return Flow::Closed };
        if let (Some((asked, asked_at)), Some(answer)) = (v1.ask, beat.answer)
            && asked == answer
        {
            let rtt = at.since(asked_at);
            v1.ask = None;
            v1.rtt_us = Some(u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX));
            stats.beat_rtt.record(rtt);
        }
        let reply = ServerMessage::Beat {
            re: beat.re,
            id: None,
            t: beat.t,
            now: false,
            detect_ms: Some(detect_ms),
            interval_ms: interval.map(|interval| interval.as_millis() as u64),
        };
        self.say(id, &reply, out);
        if measure && beat.answer.is_none() {
            self.ask_for_beat(key, at, out);
        }
        Flow::On
    }

    /// Asks a v1 client for a beat at once.
    fn ask_for_beat(&mut self, key: u32, at: Time, out: &mut Outputs) {
        let Some(session) = self.sessions.get_mut(key as usize) else { return };
        let Some(link) = session.link() else { return };
        let Some(v1) = session.v1_part_mut() else { return };
        v1.asks = v1.asks.wrapping_add(1);
        v1.ask = Some((v1.asks, at));
        let id = Some(v1.asks);
        let ask = ServerMessage::Beat { re: None, id, t: None, now: true, detect_ms: None, interval_ms: None };
        self.say(link, &ask, out);
    }

    /// A v1 session has missed its `nth` beat in a row.
    pub(super) fn missed(&mut self, key: u32, nth: u32, at: Time, out: &mut Outputs) {
        let Some(v1) = self.v1_mut(key) else { return };
        v1.steady = 0;
        if self.terms.ask_at == Some(nth) {
            self.ask_for_beat(key, at, out);
        }
    }

    /// Answers a request with an error; the link lives.
    pub(super) fn refuse(
        &mut self,
        id: LinkId,
        re: Option<RequestId<'_>>,
        refusal: Refusal,
        retry: Option<Duration>,
        out: &mut Outputs,
    ) -> Flow {
        if let Some(row) = ErrorCode::from_number(refusal.code) {
            let error = ServerMessage::Error {
                re,
                code: row.number,
                name: row.name.into(),
                message: refusal.message.into(),
                temporary: row.temporary,
                retry_ms: retry.map(|retry| retry.as_millis() as u64),
            };
            self.say(id, &error, out);
        }
        Flow::On
    }

    /// Answers a request that asked for an answer.
    fn ok(&mut self, id: LinkId, re: Option<RequestId<'_>>, out: &mut Outputs) -> Flow {
        if re.is_some() {
            self.say(id, &ServerMessage::Ok { re }, out);
        }
        Flow::On
    }

    /// Writes a session down for the next start.
    pub(super) fn keep(&mut self, key: u32, out: &mut Outputs) {
        let keepsake = self.sessions.get(key as usize).and_then(|session| session.keepsake(false));
        out.list.extend(keepsake.map(Output::Keep));
    }

    /// Whether a session's client is a user.
    pub(super) fn is_user(&self, key: u32) -> bool {
        self.sessions.get(key as usize).and_then(|session| session.v1_part()).is_some_and(|v1| v1.chat.is_some())
    }

    pub(super) fn v1_mut(&mut self, key: u32) -> Option<&mut V1> {
        self.sessions.get_mut(key as usize)?.v1_part_mut()
    }
}

/// The fields of a beat.
struct Beat<'a> {
    re: Option<RequestId<'a>>,
    t: Option<Number>,
    answer: Option<u32>,
}

/// Stretches the interval of a session whose beats keep coming, if its profile wants that: by one base interval after
/// [`STEADY_BEATS`]. Returns the new interval.
fn adapt_interval(session: &mut Session, base: Duration, max: Duration) -> Option<Duration> {
    let interval = session.watch().interval();
    let v1 = session.v1_part_mut()?;
    if !v1.adaptive || interval >= max {
        return None;
    }
    if v1.steady < STEADY_BEATS {
        return None;
    }
    v1.steady = 0;
    let interval = (interval + base).min(max);
    session.set_interval(interval);
    Some(interval)
}
