//! What a peer of the crowd says and what it expects to hear.

use std::io::Write;

use anyhow::{Result, bail, ensure};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::frame;

/// The dialect of one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    /// The tutorial's frames; a single byte in return is a fault.
    Legacy,
    /// v1 with `hello` and numbered beats whose replies must carry the same number.
    V1 {
        /// What `hello` asks for.
        interval_ms: u32,
    },
    /// The frames of v1, spoken to the floor, which answers each with `{}`.
    V1ToFloor,
}

/// What a body from the server meant.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The reply to `hello`.
    Welcome,
    /// The reply to a beat; `t` is the number it carried, absent at the floor and for answers to an ask.
    Beat {
        /// The beat's number as echoed.
        t: Option<u32>,
    },
    /// The server wants a beat at once; the frame in return.
    Ask {
        /// What to write back.
        answer: Vec<u8>,
    },
}

#[derive(Deserialize)]
struct Body<'a> {
    op: &'a str,
    t: Option<u32>,
    now: Option<bool>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    session: Option<&'a RawValue>,
}

impl Speech {
    /// Whether each beat is answered.
    pub(crate) fn is_answered(self) -> bool {
        match self {
            Self::Legacy => false,
            Self::V1 { .. } | Self::V1ToFloor => true,
        }
    }

    /// Appends the frame that opens the conversation; `false` when this dialect has none.
    pub(crate) fn push_hello(self, out: &mut Vec<u8>) -> bool {
        let interval_ms = match self {
            Self::Legacy => return false,
            Self::V1 { interval_ms } => interval_ms,
            Self::V1ToFloor => 10_000,
        };
        let body = format!(r#"{{"op":"hello","v":1,"client":"bench","interval_ms":{interval_ms}}}"#);
        frame::push(out, body.as_bytes());
        true
    }

    /// Appends beat number `t`.
    pub(crate) fn push_beat(self, out: &mut Vec<u8>, t: u32) {
        match self {
            Self::Legacy => frame::push(out, frame::LEGACY_BODY),
            Self::V1 { .. } | Self::V1ToFloor => {
                let start = out.len();
                out.extend_from_slice(&[0; 4]);
                // Writing into a Vec cannot fail.
                let _ = write!(out, r#"{{"op":"beat","t":{t}}}"#);
                let length = (out.len() - start - 4) as u32;
                out[start..start + 4].copy_from_slice(&length.to_be_bytes());
            }
        }
    }

    /// Reads one body; an error is a fault of the server.
    pub(crate) fn hear(self, body: &[u8]) -> Result<Heard> {
        match self {
            Self::Legacy => bail!("a legacy link was written to: {}", shown(body)),
            Self::V1ToFloor => {
                ensure!(body == b"{}", "the floor answered {}", shown(body));
                Ok(Heard::Beat { t: None })
            }
            Self::V1 { .. } => hear_v1(body),
        }
    }
}

fn hear_v1(body: &[u8]) -> Result<Heard> {
    let Ok(parsed) = serde_json::from_slice::<Body<'_>>(body) else {
        bail!("not a frame of v1: {}", shown(body));
    };
    match (parsed.op, parsed.now.unwrap_or(false)) {
        ("beat", false) => Ok(Heard::Beat { t: parsed.t }),
        ("beat", true) => {
            let answer = match parsed.id {
                Some(id) => format!(r#"{{"op":"beat","re":{id}}}"#),
                None => r#"{"op":"beat"}"#.to_owned(),
            };
            let mut out = Vec::new();
            frame::push(&mut out, answer.as_bytes());
            Ok(Heard::Ask { answer: out })
        }
        ("welcome", _) => {
            ensure!(parsed.session.is_some(), "a welcome without a session: {}", shown(body));
            Ok(Heard::Welcome)
        }
        _ => bail!("the server said {}", shown(body)),
    }
}

/// A body as it may appear in an error: escaped and short.
fn shown(body: &[u8]) -> String {
    let short = &body[..body.len().min(160)];
    format!("{:?}", String::from_utf8_lossy(short))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: Speech = Speech::V1 { interval_ms: 10_000 };

    #[test]
    fn a_reply_is_told_from_an_ask_by_the_absence_of_now() {
        let reply = V1.hear(br#"{"op":"beat","t":7,"detect_ms":65000}"#).unwrap();
        assert_eq!(reply, Heard::Beat { t: Some(7) });
        let ask = V1.hear(br#"{"op":"beat","now":true,"id":12}"#).unwrap();
        assert_eq!(ask, Heard::Ask { answer: b"\0\0\0\x15{\"op\":\"beat\",\"re\":12}".to_vec() });
    }

    #[test]
    fn what_the_server_may_not_say_is_a_fault() {
        assert!(V1.hear(b"{}").is_err());
        assert!(V1.hear(br#"{"op":"bye","code":4006}"#).is_err());
        assert!(V1.hear(br#"{"op":"welcome"}"#).is_err());
        assert!(Speech::V1ToFloor.hear(br#"{"op":"beat"}"#).is_err());
        assert!(Speech::Legacy.hear(b"{}").is_err());
    }

    #[test]
    fn beats_carry_their_number_and_length() {
        let mut out = Vec::new();
        V1.push_beat(&mut out, 5);
        V1.push_beat(&mut out, 123);
        assert_eq!(out, b"\0\0\0\x13{\"op\":\"beat\",\"t\":5}\0\0\0\x15{\"op\":\"beat\",\"t\":123}");
    }
}
