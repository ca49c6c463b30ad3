//! The tutorial's heartbeat: `{"ip": …, "status": …, "pid": …}`, as an object, as a JSON string that contains one
//! (that client encodes twice), or as Python prints a dict. A frozen promise: such a client never needs a change.

use std::borrow::Cow;

use super::body::{BodyError, Field, Fields};
use super::message::Number;

/// A heartbeat. Its `ip` and `pid` are what the client says of itself: shown, never trusted.
#[derive(Debug)]
pub struct LegacyBeat<'a> {
    /// What the client takes for its address.
    pub ip: Cow<'a, str>,
    /// What the beat declares.
    pub status: LegacyStatus,
    /// The client's process.
    pub pid: Option<LegacyPid<'a>>,
}

/// What a legacy beat declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegacyStatus {
    /// `alive`, or any other word.
    Alive,
    /// `leave`: away on purpose.
    Leave,
    /// `close`: a clean goodbye.
    Close,
}

/// A process id as a client may write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LegacyPid<'a> {
    /// The usual form.
    Number(i64),
    /// Text, for clients that quote it.
    Text(Cow<'a, str>),
}

/// Where the text of the object is found.
pub(super) enum Unwrapped {
    /// It is the body itself.
    Plain,
    /// It was unescaped or rewritten into the scratch memory.
    InScratch,
    /// There is none.
    Neither,
}

/// Peels one level of JSON string off, and turns Python's quotes into JSON's.
pub(super) fn unwrap(text: &str, scratch: &mut String) -> Unwrapped {
    let trimmed = text.trim_ascii();
    if trimmed.starts_with('{') {
        if !is_python(trimmed) {
            return Unwrapped::Plain;
        }
        python_to_json(trimmed, scratch);
        return Unwrapped::InScratch;
    }
    if !trimmed.starts_with('"') || !unescape(trimmed, scratch) {
        return Unwrapped::Neither;
    }
    let inner = scratch.trim_ascii();
    if is_python(inner) {
        let python = inner.to_owned();
        python_to_json(&python, scratch);
        return Unwrapped::InScratch;
    }
    if inner.starts_with('{') { Unwrapped::InScratch } else { Unwrapped::Neither }
}

/// Reads the fields of a heartbeat.
pub(super) fn beat(fields: Fields<'_>) -> Result<LegacyBeat<'_>, BodyError> {
    let (Field::Text(ip), Field::Text(status)) = (fields.ip, fields.status) else {
        return Err(BodyError::NeitherOpNorBeat);
    };
    if ip.is_empty() || status.is_empty() {
        return Err(BodyError::NeitherOpNorBeat);
    }
    let status = match &*status {
        "leave" => LegacyStatus::Leave,
        "close" => LegacyStatus::Close,
        _ => LegacyStatus::Alive,
    };
    let pid = match fields.pid {
        Field::Number(Number::Int(number)) => Some(LegacyPid::Number(number)),
        Field::Text(text) => Some(LegacyPid::Text(text)),
        _ => None,
    };
    Ok(LegacyBeat { ip, status, pid })
}

/// Reads a JSON string into `scratch`. The escapes that the tutorial's client produces are undone here without an
/// allocation; rarer ones go the long way.
fn unescape(quoted: &str, scratch: &mut String) -> bool {
    scratch.clear();
    let Some(inner) = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return false };
    let mut rest = inner;
    while let Some(at) = rest.find(['\\', '"']) {
        scratch.push_str(&rest[..at]);
        match rest.as_bytes().get(at + 1) {
            Some(&escaped @ (b'"' | b'\\' | b'/')) if rest.as_bytes()[at] == b'\\' => scratch.push(escaped as char),
            _ => return unescape_any(quoted, scratch),
        }
        rest = &rest[at + 2..];
    }
    scratch.push_str(rest);
    true
}

fn unescape_any(quoted: &str, scratch: &mut String) -> bool {
    match serde_json::from_str::<String>(quoted) {
        Ok(text) => {
            *scratch = text;
            true
        }
        Err(_) => false,
    }
}

/// Whether the first key is quoted as Python does it.
fn is_python(object: &str) -> bool {
    object.strip_prefix('{').is_some_and(|rest| rest.trim_ascii_start().starts_with('\''))
}

/// Rewrites the `repr` of a Python dict of plain values as JSON. It needn't refuse bad input: the JSON parser comes
/// next.
fn python_to_json(python: &str, json: &mut String) {
    json.clear();
    let mut chars = python.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' | '"' => python_string(c, &mut chars, json),
            c if c.is_ascii_alphabetic() => {
                let start = json.len();
                json.push(c);
                while let Some(c) = chars.next_if(char::is_ascii_alphabetic) {
                    json.push(c);
                }
                let word = match &json[start..] {
                    "None" => "null",
                    "True" => "true",
                    "False" => "false",
                    _ => continue,
                };
                json.truncate(start);
                json.push_str(word);
            }
            c => json.push(c),
        }
    }
}

/// Copies a Python string literal up to its closing `quote` as a JSON string.
fn python_string(quote: char, chars: &mut std::iter::Peekable<std::str::Chars<'_>>, json: &mut String) {
    json.push('"');
    while let Some(c) = chars.next() {
        match c {
            c if c == quote => break,
            '"' => json.push_str("\\\""),
            '\\' => match chars.next() {
                Some('\'') => json.push('\''),
                Some('x') => json.push_str("\\u00"),
                Some(c) => json.extend(['\\', c]),
                None => break,
            },
            c => json.push(c),
        }
    }
    json.push('"');
}
