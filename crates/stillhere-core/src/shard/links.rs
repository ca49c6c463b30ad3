//! Links: what arrives, until it is known what a link speaks; and their ends.

use std::mem;
use std::time::Duration;

use crate::close::{Cause, CloseCode};
use crate::event::{Closed, LinkEnd, LinkId, Manner, Mode, Note, Output, Outputs, Peer, Transport};
use crate::rate::{Bucket, Rate};
use crate::stats::Refused;
use crate::time::Time;
use crate::wire::body::{self, Body, Op};
use crate::wire::error::ErrorCode;
use crate::wire::frame::Decoder;
use crate::wire::message::{ServerMessage, write_message};

use super::wheel::{Entry, Wheel};
use super::{DISARMED, Shard};

/// One link: 72 bytes.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) peer: Peer,
    pub(super) mode: Mode,
    pub(super) traits: Traits,
    /// The key of its session, or [`NO_SESSION`].
    pub(super) session: u32,
    armed: u32,
    /// The low 32 bits of the millisecond at which the incomplete frame began; meaningful only while there is one.
    partial_since_ms: u32,
    decoder: Decoder,
    pub(super) opened_at: Time,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    /// What it has used up of the rate of frames.
    frames: Bucket,
}

/// What carries a link and whether it waits, in a byte: one more would make every link larger by eight.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traits(u8);

impl Traits {
    const WAITS: u8 = 1 << 7;

    pub(super) fn transport(self) -> Transport {
        Transport::ALL[usize::from(self.0 & !Traits::WAITS)]
    }

    /// Whether the link has said hello and another shard was asked for its session.
    pub(super) fn waits(self) -> bool {
        self.0 & Traits::WAITS != 0
    }

    pub(super) fn carried_by(self, transport: Transport) -> Traits {
        Traits(self.0 & Traits::WAITS | transport as u8)
    }

    pub(super) fn waiting(self, waits: bool) -> Traits {
        Traits(self.0 & !Traits::WAITS | if waits { Traits::WAITS } else { 0 })
    }
}

/// The session key of a link that has none.
pub(super) const NO_SESSION: u32 = u32::MAX;

impl Link {
    /// Bytes of an incomplete frame.
    pub(super) fn kept_bytes(&self) -> usize {
        self.decoder.kept_bytes()
    }
}

/// How and why a link ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    /// Why the server closes it; `None` if the peer left.
    pub(super) code: Option<CloseCode>,
    /// Why its session's status changes with it.
    pub(super) cause: Cause,
    pub(super) manner: Manner,
    /// When the client may come back.
    pub(super) retry_ms: Option<u64>,
    pub(super) fate: Fate,
}

impl Ending {
    /// A newer link has taken the session over.
    pub(super) fn replaced() -> Ending {
        Ending {
            code: Some(CloseCode::Replaced),
            cause: Cause::Replaced,
            manner: Manner::Gently,
            retry_ms: None,
            fate: Fate::Pass,
        }
    }
}

/// What becomes of a v1 session whose link ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes on, on another link or in another shard.
    Pass,
    /// It can be resumed for a while.
    Wait,
    /// It is closed; who returns is recognised.
    Remember,
    /// It is closed for good.
    Forget,
}

/// What a frame did to its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// The next frame may come.
    On,
    /// The link is closed.
    Closed,
    /// Another shard must answer before the next frame.
    Wait,
}

impl Shard {
    pub(super) fn link_opened(&mut self, id: LinkId, peer: Peer, at: Time) {
        let link = Link {
            peer,
            mode: Mode::Unknown,
            traits: Traits::default(),
            session: NO_SESSION,
            armed: DISARMED,
            partial_since_ms: 0,
            decoder: Decoder::default(),
            opened_at: at,
            bytes_in: 0,
            bytes_out: 0,
            frames: Bucket::default(),
        };
        self.links.put(id.0 as usize, link);
        self.stats.links_opened += 1;
        self.stats.links[Transport::Tcp as usize][Mode::Unknown as usize] += 1;
        self.arm_link(id, at);
    }

    pub(super) fn upgraded(&mut self, id: LinkId, transport: Transport) {
        let Some(link) = self.links.get_mut(id.0 as usize) else { return };
        self.stats.link_changed((link.traits.transport(), link.mode), (transport, link.mode));
        link.traits = link.traits.carried_by(transport);
    }

    /// A sign of life without a frame: what a frame of length 0 does.
    pub(super) fn heard(&mut self, id: LinkId, at: Time, out: &mut Outputs) {
        if !self.pace(id, 0, at) {
            return self.close_link(id, CloseCode::RateLimited, Manner::Gently, at, out);
        }
        self.body(id, Body::Empty, at, out);
    }

    pub(super) fn received(&mut self, id: LinkId, bytes: &[u8], at: Time, out: &mut Outputs) {
        let Some(link) = self.link_mut(id) else { return };
        let first = link.bytes_in == 0;
        link.bytes_in += bytes.len() as u64;
        let waits = link.traits.waits();
        self.stats.bytes_in += bytes.len() as u64;
        if waits {
            return self.keep_for_later(id, bytes, at, out);
        }
        if first && bytes.first().is_some_and(|byte| *byte != 0) {
            let reason = Refused::by_greeting(bytes);
            return self.turn_away(id, CloseCode::BadFrame, reason, at, out);
        }
        self.frames(id, bytes, at, out);
    }

    /// Cuts bytes into frames and handles each.
    pub(super) fn frames(&mut self, id: LinkId, bytes: &[u8], at: Time, out: &mut Outputs) {
        let limit = self.terms.limits.frame_bytes;
        let Some(link) = self.link_mut(id) else { return };
        let mut decoder = mem::take(&mut link.decoder);
        let kept_before = decoder.kept_bytes();
        let mut input = bytes;
        let flow = loop {
            match decoder.next(&mut input, limit) {
                Ok(Some(body)) => match self.frame(id, body, at, out) {
                    Flow::On => {}
                    flow => break flow,
                },
                Ok(None) => break Flow::On,
                Err(_) => {
                    self.bad_frame(id, at, out);
                    break Flow::Closed;
                }
            }
        };
        let kept = if flow == Flow::On { decoder.kept_bytes() } else { 0 };
        self.stats.partial_bytes = self.stats.partial_bytes + kept as u64 - kept_before as u64;
        match flow {
            Flow::On if kept > 0 => self.keep_partial(id, decoder, kept_before, bytes.len(), at, out),
            Flow::On | Flow::Closed => {}
            Flow::Wait => self.keep_for_later(id, input, at, out),
        }
    }

    /// Puts an incomplete frame back, and starts its clock if it has just begun.
    fn keep_partial(
        &mut self,
        id: LinkId,
        decoder: Decoder,
        kept_before: usize,
        arrived: usize,
        at: Time,
        out: &mut Outputs,
    ) {
        let kept = decoder.kept_bytes();
        let Some(link) = self.link_mut(id) else { return };
        // It is the same frame as before if all that arrived was added to it.
        if kept_before == 0 || kept != kept_before + arrived {
            link.partial_since_ms = low_millis(at);
        }
        link.decoder = decoder;
        if self.stats.partial_bytes > self.terms.limits.partial_bytes as u64 {
            return self.close_link(id, CloseCode::RateLimited, Manner::AtOnce, at, out);
        }
        self.arm_link(id, at);
    }

    fn frame(&mut self, id: LinkId, body: &[u8], at: Time, out: &mut Outputs) -> Flow {
        if !self.pace(id, body.len(), at) {
            self.close_link(id, CloseCode::RateLimited, Manner::Gently, at, out);
            return Flow::Closed;
        }
        let mut scratch = mem::take(&mut self.scratch);
        let flow = match body::parse(body, &mut scratch) {
            Ok(body) => self.body(id, body, at, out),
            Err(_) => {
                self.bad_frame(id, at, out);
                Flow::Closed
            }
        };
        scratch.clear();
        scratch.shrink_to(SCRATCH_KEPT);
        self.scratch = scratch;
        flow
    }

    /// Closes the link of a banned address; who can read it is told why.
    fn send_off(&mut self, id: LinkId, body: Body<'_>, wait: Option<Duration>, at: Time, out: &mut Outputs) -> Flow {
        match body {
            Body::Empty => return Flow::On,
            Body::Legacy(_) => {}
            Body::V1(request) => {
                self.set_mode(id, Mode::V1);
                self.refuse(id, request.id, ErrorCode::BANNED.because("this address is banned"), wait, out);
            }
        }
        let code = Some(CloseCode::Banned);
        let retry_ms = wait.map(|wait| wait.as_millis() as u64);
        let ending = Ending { code, cause: Cause::Limit, manner: Manner::Gently, retry_ms, fate: Fate::Wait };
        self.close(id, ending, at, out);
        Flow::Closed
    }

    fn body(&mut self, id: LinkId, body: Body<'_>, at: Time, out: &mut Outputs) -> Flow {
        let Some(Link { mode, session, .. }) = self.link(id) else { return Flow::Closed };
        let (mode, session) = (*mode, *session);
        if mode == Mode::Unknown
            && let Some(wait) = self.banned.get(&id).copied()
        {
            return self.send_off(id, body, wait, at, out);
        }
        match (mode, body) {
            (Mode::Unknown, Body::Empty) => Flow::On,
            (Mode::Unknown, Body::Legacy(beat)) => self.legacy_begins(id, &beat, at, out),
            (Mode::Unknown, Body::V1(request)) => {
                self.set_mode(id, Mode::V1);
                self.request(id, request, at, out)
            }
            (Mode::Legacy, Body::Empty) => self.legacy_beat(id, session, None, at, out),
            (Mode::Legacy, Body::Legacy(beat)) => self.legacy_beat(id, session, Some(&beat), at, out),
            (Mode::Legacy, Body::V1(request)) if matches!(request.op, Ok(Op::Hello(_))) => {
                self.legacy_becomes_v1(id, session, at, out);
                self.request(id, request, at, out)
            }
            (Mode::V1, Body::Empty) => self.empty_beat(session, at, out),
            (Mode::V1, Body::V1(request)) => self.request(id, request, at, out),
            (Mode::Legacy, Body::V1(_)) | (Mode::V1, Body::Legacy(_)) => {
                self.bad_frame(id, at, out);
                Flow::Closed
            }
        }
    }

    /// Whether a link is within its rate of frames. A long one counts as several: reading it takes as long.
    fn pace(&mut self, id: LinkId, bytes: usize, at: Time) -> bool {
        let limits = &self.terms.limits;
        // The burst comes on top of the frame that is due.
        let rate = Rate { per_second: limits.frames_per_second, burst: limits.frames_burst.saturating_add(1) };
        let frames = (1 + bytes / FRAME_UNIT) as u32;
        self.link_mut(id).is_none_or(|link| link.frames.take_n(frames.min(rate.burst), &rate, at).is_ok())
    }

    /// Somebody who isn't spoken with here: closed without a word, and counted.
    pub(super) fn turn_away(&mut self, id: LinkId, code: CloseCode, reason: Refused, at: Time, out: &mut Outputs) {
        if self.link(id).is_none() {
            return;
        }
        self.stats.refused[reason as usize] += 1;
        self.close_link(id, code, Manner::AtOnce, at, out);
    }

    /// Something unreadable: the link is closed; a v1 client that does so again and again shall not come back.
    pub(super) fn bad_frame(&mut self, id: LinkId, at: Time, out: &mut Outputs) {
        let session = self.link(id).map_or(NO_SESSION, |link| link.session);
        let (mut code, mut fate) = (CloseCode::BadFrame, Fate::Wait);
        if let Some(v1) = self.sessions.get_mut(session as usize).and_then(|session| session.v1_part_mut()) {
            v1.malformed = v1.malformed.saturating_add(1);
            if v1.malformed >= MALFORMED_MAX {
                (code, fate) = (CloseCode::Malformed, Fate::Forget);
            }
        }
        let ending = Ending { code: Some(code), cause: Cause::Limit, manner: Manner::Gently, retry_ms: None, fate };
        self.close(id, ending, at, out);
    }

    /// Closes a link with a code; its session, if any, may be resumed (v1) or ends (legacy).
    pub(super) fn close_link(&mut self, id: LinkId, code: CloseCode, manner: Manner, at: Time, out: &mut Outputs) {
        let cause = match code {
            CloseCode::Drain => Cause::Drain,
            CloseCode::Silent => Cause::Silent,
            CloseCode::Replaced => Cause::Replaced,
            _ => Cause::Limit,
        };
        self.close(id, Ending { code: Some(code), cause, manner, retry_ms: None, fate: Fate::Wait }, at, out);
    }

    /// Closes a link. A v1 link hears of it; others are never written to.
    pub(super) fn close(&mut self, id: LinkId, ending: Ending, at: Time, out: &mut Outputs) {
        let Some(link) = self.link(id) else { return };
        let v1 = link.mode == Mode::V1;
        if let (true, Some(code)) = (v1, ending.code) {
            let bye =
                ServerMessage::Bye { code: code.number(), reason: code.reason().into(), retry_ms: ending.retry_ms };
            self.say(id, &bye, out);
        }
        let manner = if v1 || ending.manner == Manner::Abort { ending.manner } else { Manner::AtOnce };
        out.list.push(Output::Close { link: id, manner, code: ending.code });
        self.link_gone(id, ending, at, out);
    }

    /// A link ended by itself.
    pub(super) fn link_ended(&mut self, id: LinkId, end: LinkEnd, at: Time, out: &mut Outputs) {
        let (code, cause) = match end {
            LinkEnd::Eof | LinkEnd::Reset => (None, Cause::Dropped),
            LinkEnd::Slow => (Some(CloseCode::SlowConsumer), Cause::Limit),
        };
        self.link_gone(id, Ending { code, cause, manner: Manner::AtOnce, retry_ms: None, fate: Fate::Wait }, at, out);
    }

    /// Forgets a link, and does to its session what the ending says.
    fn link_gone(&mut self, id: LinkId, ending: Ending, at: Time, out: &mut Outputs) {
        let Some(link) = self.links.take(id.0 as usize) else { return };
        match ending.code {
            Some(code) => self.stats.closes[code.index()] += 1,
            None => self.stats.ends += 1,
        }
        self.stats.links[link.traits.transport() as usize][link.mode as usize] -= 1;
        self.stats.partial_bytes -= link.kept_bytes() as u64;
        self.wait_no_more(id, at);
        self.banned.remove(&id);
        let mut closed = Closed {
            identity: None,
            peer: link.peer,
            user: None,
            mode: link.mode,
            transport: Some(link.traits.transport()),
            code: ending.code,
            cause: None,
            beats: 0,
            bytes_in: link.bytes_in,
            bytes_out: link.bytes_out,
            rtt_us: None,
            opened_at: link.opened_at,
            closed_at: at,
        };
        if let Some(session) = self.sessions.get(link.session as usize) {
            closed.identity = Some(session.identity(link.peer));
            closed.cause = Some(ending.cause);
            closed.beats = session.beats;
            if let Some(v1) = session.v1_part() {
                closed.user = v1.user.clone();
                closed.rtt_us = v1.rtt_us;
            }
            match (link.mode, ending.fate) {
                (_, Fate::Pass) => {}
                (Mode::V1, Fate::Wait) => self.retain(link.session, link.peer, at, out),
                (Mode::V1, Fate::Forget) => self.finish(link.session, link.peer, ending.cause, false, at, out),
                // A legacy session never outlives its link, and is always remembered.
                (Mode::V1, Fate::Remember) | (Mode::Legacy | Mode::Unknown, _) => {
                    self.finish(link.session, link.peer, ending.cause, true, at, out);
                }
            }
        }
        out.list.push(Output::Note(Note::Closed(Box::new(closed))));
    }

    pub(super) fn drain_link(&mut self, id: LinkId, retry_ms: u64, at: Time, out: &mut Outputs) {
        let ending = Ending {
            code: Some(CloseCode::Drain),
            cause: Cause::Drain,
            manner: Manner::Gently,
            retry_ms: Some(retry_ms),
            fate: Fate::Wait,
        };
        self.close(id, ending, at, out);
    }

    /// Writes a message to a v1 link.
    pub(super) fn say(&mut self, id: LinkId, message: &impl serde::Serialize, out: &mut Outputs) {
        let Some(link) = self.links.get_mut(id.0 as usize) else { return };
        debug_assert!(link.mode == Mode::V1, "nothing is ever written to a link that didn't ask for it");
        let start = out.bytes.len();
        write_message(&mut out.bytes, message);
        let range = start..out.bytes.len();
        link.bytes_out += range.len() as u64;
        self.stats.bytes_out += range.len() as u64;
        // What one burst of frames brings forth for a link goes out in one write.
        match out.list.last_mut() {
            Some(Output::Write { link, range: last }) if *link == id && last.end == range.start => last.end = range.end,
            _ => out.list.push(Output::Write { link: id, range }),
        }
    }

    /// Sees to it that a link is looked at when its own deadline has come.
    pub(super) fn arm_link(&mut self, id: LinkId, at: Time) {
        let deadline = self.link_deadline(id, at).min(self.ping_due(id, at));
        let Some(link) = self.links.get_mut(id.0 as usize) else { return };
        if deadline == Time::NEVER {
            return;
        }
        let tick = self.wheel.tick_for(deadline);
        if link.armed == DISARMED || Wheel::is_before(tick, link.armed) {
            link.armed = tick;
            self.wheel.add(Entry::Link(id.0), tick);
        }
    }

    pub(super) fn look_at_link(&mut self, id: LinkId, tick: u32, at: Time, out: &mut Outputs) {
        match self.link_mut(id) {
            Some(link) if link.armed == tick => link.armed = DISARMED,
            Some(_) | None => return,
        }
        if self.link_deadline(id, at) <= at {
            let code = if self.is_nobodys(id) { CloseCode::NoHello } else { CloseCode::BadFrame };
            return self.close_link(id, code, Manner::Gently, at, out);
        }
        if self.quiet(id).is_some_and(|(heard_at, interval)| heard_at + interval <= at) {
            out.list.push(Output::Ping { link: id });
        }
        self.arm_link(id, at);
    }

    /// When the session of a link that can be pinged was last heard of, and its interval.
    fn quiet(&self, id: LinkId) -> Option<(Time, Duration)> {
        let link = self.link(id).filter(|link| link.traits.transport().has_pings())?;
        let life = self.sessions.get(link.session as usize)?.watch();
        Some((life.heard_at(), life.interval()))
    }

    /// When a link is to be pinged: at each whole interval since it was last heard of.
    fn ping_due(&self, id: LinkId, at: Time) -> Time {
        let Some((heard_at, interval)) = self.quiet(id) else { return Time::NEVER };
        let interval_us = interval.as_micros() as u64;
        let passed = at.since(heard_at).as_micros() as u64 / interval_us.max(1);
        heard_at + Duration::from_micros((passed + 1).saturating_mul(interval_us))
    }

    /// When a link must have a session, or must have completed its frame.
    fn link_deadline(&self, id: LinkId, at: Time) -> Time {
        let Some(link) = self.link(id) else { return Time::NEVER };
        let limits = &self.terms.limits;
        let first = if self.is_nobodys(id) { link.opened_at + limits.first_frame } else { Time::NEVER };
        let frame = if link.kept_bytes() > 0 {
            let ago_ms = low_millis(at).wrapping_sub(link.partial_since_ms);
            at - Duration::from_millis(u64::from(ago_ms)) + limits.frame_time
        } else {
            Time::NEVER
        };
        first.min(frame)
    }

    /// Whether a link has no session yet, or one without the user that it needs.
    fn is_nobodys(&self, id: LinkId) -> bool {
        let needs_user = self.terms.identity.required;
        self.link(id).is_none_or(|link| link.session == NO_SESSION || (needs_user && !self.is_user(link.session)))
    }

    pub(super) fn set_mode(&mut self, id: LinkId, mode: Mode) {
        let Some(link) = self.links.get_mut(id.0 as usize) else { return };
        let transport = link.traits.transport();
        self.stats.link_changed((transport, link.mode), (transport, mode));
        link.mode = mode;
    }

    pub(super) fn link(&self, id: LinkId) -> Option<&Link> {
        self.links.get(id.0 as usize)
    }

    pub(super) fn link_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        self.links.get_mut(id.0 as usize)
    }

    /// A link's address; the session that has the link is proof that there is one.
    pub(super) fn peer_of(&self, id: LinkId) -> Option<Peer> {
        self.link(id).map(|link| link.peer)
    }
}

/// After so many malformed frames a session's client is told not to come back.
const MALFORMED_MAX: u8 = 3;
/// Bytes of a frame that count as one more towards the rate of frames: what an ordinary message has.
const FRAME_UNIT: usize = 4 * 1024;
/// Scratch memory kept between frames, in bytes; larger bodies give theirs back.
const SCRATCH_KEPT: usize = 16 * 1024;

fn low_millis(at: Time) -> u32 {
    (at.as_micros() / 1000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_72_bytes() {
        assert_eq!(size_of::<Option<Link>>(), 72);
    }
}
