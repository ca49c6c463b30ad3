//! What members of the chat's crowd write and what they hear, kept apart from the project's own codec.
//!
//! Bodies carry their number, so that a lost or doubled one is noticed. Nearly everything that is heard is a signal or a message
//! from a generator that knows what it sent, so those are recognised by a few comparisons; the rest is parsed as JSON.

use std::io::Write;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::bench::crowd::frame;

/// What a signal's `data` and a message's `text` hold: a number of fixed width and padding.
pub(super) const TEXT_BYTES: usize = 128;
const NUMBER_DIGITS: usize = 10;

/// A beat of one who was pushed nothing.
pub(super) const BEAT: &[u8] = br#"{"op":"beat","ack":0}"#;

/// Who is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// The gateway's v1.
    Gateway,
    /// The floor: the first frame is the number of a room, all others come back to its other members as they are.
    Floor,
}

/// What a body from the server meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Welcome,
    /// The reply to the request of this `id`.
    Ok(u32),
    /// The reply to a beat.
    Beat,
    /// The server wants a beat at once.
    Ask,
    /// A signal or a message with the number its publisher gave it.
    Delivery(u32),
    Digest,
    /// A push that the measurement does not look at, such as presence.
    Push,
}

impl Heard {
    /// Whether both ends count it.
    pub(super) fn is_push(&self) -> bool {
        matches!(self, Self::Delivery(_) | Self::Digest | Self::Push)
    }
}

/// Appends one frame with a body that `write` makes.
fn framed(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// The body that opens a session of user `index`.
pub(super) fn hello(index: usize) -> String {
    format!(r#"{{"op":"hello","v":1,"client":"bench","user":"u{index:05}","interval_ms":10000}}"#)
}

/// The body that joins room `room`; its `ok` carries `id`.
pub(super) fn join(room: usize, id: u32) -> String {
    format!(r#"{{"op":"join","room":"r{room:05}","id":{id}}}"#)
}

/// The body that declares a leave.
pub(super) fn leave(id: u32) -> String {
    format!(r#"{{"op":"status","status":"leave","id":{id}}}"#)
}

/// Appends the frame by which a member of the floor enters a room.
pub(super) fn push_enter(out: &mut Vec<u8>, room: usize) {
    frame::push(out, room.to_string().as_bytes());
}

/// Appends a beat that acknowledges `pushes`.
pub(super) fn push_beat(out: &mut Vec<u8>, pushes: u64) {
    // Writing into a Vec cannot fail.
    framed(out, |out| drop(write!(out, r#"{{"op":"beat","ack":{pushes}}}"#)));
}

/// Appends signal `number` to `room`.
pub(super) fn push_signal(out: &mut Vec<u8>, room: usize, number: u32) {
    framed(out, |out| {
        let _ = write!(out, r#"{{"op":"signal","room":"r{room:05}","data":""#);
        push_text(out, number);
        out.extend_from_slice(br#""}"#);
    });
}

/// Appends message `number` to `room`, whose `ok` carries the number as `re`.
pub(super) fn push_say(out: &mut Vec<u8>, room: usize, number: u32) {
    framed(out, |out| {
        let _ = write!(out, r#"{{"op":"say","room":"r{room:05}","text":""#);
        push_text(out, number);
        let _ = write!(out, r#"","mid":"{}","id":{number}}}"#, mid(number));
    });
}

/// The sender's own id of message `number`.
pub(super) fn mid(number: u32) -> String {
    format!("m{number:0NUMBER_DIGITS$}")
}

/// The text of message `number`.
pub(super) fn text(number: u32) -> String {
    format!("{number:0NUMBER_DIGITS$}{:x<1$}", "", TEXT_BYTES - NUMBER_DIGITS)
}

fn push_text(out: &mut Vec<u8>, number: u32) {
    let _ = write!(out, "{number:0NUMBER_DIGITS$}");
    out.extend_from_slice(&[b'x'; TEXT_BYTES - NUMBER_DIGITS]);
}

/// Reads bodies; it remembers where the last number stood, since the next one usually stands there too.
#[derive(Default)]
pub(super) struct Ear {
    place: usize,
}

#[derive(Deserialize)]
struct Body<'a> {
    op: &'a str,
    re: Option<u32>,
    now: Option<bool>,
    #[serde(borrow)]
    session: Option<&'a RawValue>,
    data: Option<&'a RawValue>,
    text: Option<&'a RawValue>,
}

impl Ear {
    /// Reads one body; an error is a fault of the server.
    pub(super) fn hear(&mut self, body: &[u8]) -> Result<Heard> {
        if let Some(number) = self.delivery(body) {
            return Ok(Heard::Delivery(number));
        }
        let Ok(parsed) = serde_json::from_slice::<Body<'_>>(body) else {
            bail!("not a frame of v1: {}", shown(body));
        };
        Ok(match (parsed.op, parsed.now.unwrap_or(false)) {
            ("welcome", _) if parsed.session.is_some() => Heard::Welcome,
            ("ok", _) => Heard::Ok(parsed.re.with_context(|| format!("an ok to nothing: {}", shown(body)))?),
            ("beat", false) => Heard::Beat,
            ("beat", true) => Heard::Ask,
            ("signal", _) => Heard::Delivery(number_in(parsed.data, body)?),
            ("message", _) => Heard::Delivery(number_in(parsed.text, body)?),
            ("digest", _) => Heard::Digest,
            ("presence" | "notice", _) => Heard::Push,
            _ => bail!("the server said {}", shown(body)),
        })
    }

    /// The number of a signal or message whose `op` comes first, as the gateway and the floor write them.
    fn delivery(&mut self, body: &[u8]) -> Option<u32> {
        let key: &[u8] = if body.starts_with(br#"{"op":"signal","#) {
            br#""data":""#
        } else if body.starts_with(br#"{"op":"message","#) {
            br#""text":""#
        } else {
            return None;
        };
        let stands_at = |place: usize| place >= key.len() && body.get(place - key.len()..place) == Some(key);
        if !stands_at(self.place) {
            self.place = body.windows(key.len()).position(|window| window == key)? + key.len();
        }
        let rest = body.get(self.place..self.place + TEXT_BYTES)?;
        digits(&rest[..NUMBER_DIGITS])
    }
}

/// The number inside a JSON string of ours.
fn number_in(text: Option<&RawValue>, body: &[u8]) -> Result<u32> {
    let digits = text.and_then(|text| digits(text.get().as_bytes().get(1..1 + NUMBER_DIGITS)?));
    digits.with_context(|| format!("not what the generator sent: {}", shown(body)))
}

fn digits(bytes: &[u8]) -> Option<u32> {
    bytes.iter().try_fold(0_u32, |number, byte| {
        let digit = u32::from(byte.wrapping_sub(b'0'));
        if digit > 9 { None } else { number.checked_mul(10)?.checked_add(digit) }
    })
}

/// A body as it may appear in an error: escaped and short.
fn shown(body: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(&body[..body.len().min(200)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, heard: Heard) {
        assert_eq!(Ear::default().hear(body.as_bytes()).unwrap(), heard, "{body}");
    }

    #[test]
    fn what_is_sent_is_what_is_heard() {
        let mut out = Vec::new();
        push_signal(&mut out, 7, 1_234_567);
        push_signal(&mut out, 7, 1_234_568);
        let mut ear = Ear::default();
        let mut heard = Vec::new();
        let used = frame::split(&out, |body| {
            heard.push(ear.hear(body)?);
            Ok(())
        });
        assert_eq!(used.unwrap(), out.len());
        assert_eq!(heard, [Heard::Delivery(1_234_567), Heard::Delivery(1_234_568)]);
    }

    #[test]
    fn a_delivery_is_read_wherever_its_text_stands() {
        let text = text(42);
        check(
            &format!(r#"{{"op":"message","room":"r00001","seq":9,"from":"u1","text":"{text}"}}"#),
            Heard::Delivery(42),
        );
        check(&format!(r#"{{"text":"{text}","op":"message"}}"#), Heard::Delivery(42));
        check(&format!(r#"{{"data":"{text}","op":"signal"}}"#), Heard::Delivery(42));
        let mut ear = Ear::default();
        for seq in [9, 10, 100, 99] {
            let body = format!(r#"{{"op":"message","seq":{seq},"text":"{text}"}}"#);
            assert_eq!(ear.hear(body.as_bytes()).unwrap(), Heard::Delivery(42), "{seq}");
        }
    }

    #[test]
    fn replies_are_told_from_pushes() {
        check(r#"{"op":"welcome","session":"s"}"#, Heard::Welcome);
        check(r#"{"op":"ok","re":7,"seq":1}"#, Heard::Ok(7));
        check(r#"{"op":"beat","detect_ms":65000}"#, Heard::Beat);
        check(r#"{"op":"beat","now":true}"#, Heard::Ask);
        check(r#"{"op":"digest","rooms":[]}"#, Heard::Digest);
        check(r#"{"op":"presence","user":"u1"}"#, Heard::Push);
        assert!(Heard::Push.is_push() && !Heard::Beat.is_push());
    }

    #[test]
    fn what_the_server_may_not_say_is_a_fault() {
        for body in [r#"{"op":"error","re":1}"#, r#"{"op":"bye","code":4005}"#, r#"{"op":"signal","data":"x"}"#, "{}"] {
            assert!(Ear::default().hear(body.as_bytes()).is_err(), "{body}");
        }
    }
}
