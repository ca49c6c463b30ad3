//! Reading a client's body: an op of v1, or the tutorial's heartbeat.
//!
//! One pass over the JSON fills a flat set of known fields; unknown ones are skipped. What a field must be is decided
//! afterwards, by the op, so an error can name the field. Nothing is allocated for a body without escapes.

use std::borrow::Cow;
use std::fmt;
use std::mem;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::ask::{self, Ask, AskFields, Slot};
use super::error::{ErrorCode, Refusal};
use super::legacy::{self, LegacyBeat};
use super::message::{Number, RequestId};
use crate::detector::Status;
use crate::limits::{JSON_DEPTH_MAX, LABEL_BYTES_MAX, TOKEN_BYTES_MAX};

/// A body that was understood so far that it chooses a mode.
#[derive(Debug)]
pub enum Body<'a> {
    /// Length 0: a beat that chooses no mode.
    Empty,
    /// The tutorial's heartbeat.
    Legacy(LegacyBeat<'a>),
    /// An op of v1.
    V1(Request<'a>),
}

/// A body that can't be read at all. The peer's fault; the link is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Not UTF-8.
    #[error("the body is not UTF-8")]
    NotUtf8,
    /// Deeper than [`JSON_DEPTH_MAX`].
    #[error("the body is nested deeper than {JSON_DEPTH_MAX}")]
    TooDeep,
    /// Not one JSON object, or a known key stands in it twice.
    #[error("the body is not a JSON object with distinct keys")]
    NotAnObject,
    /// An object that is neither an op nor a heartbeat.
    #[error("the body has neither an op nor the fields of a heartbeat")]
    NeitherOpNorBeat,
}

/// A v1 frame: an op and what every frame may carry.
#[derive(Debug)]
pub struct Request<'a> {
    /// To be echoed as `re`; without one there is no reply.
    pub id: Option<RequestId<'a>>,
    /// How many pushes the client has handled.
    pub ack: Option<u64>,
    /// The op, or why it can't be served.
    pub op: Result<Op<'a>, Refusal>,
}

/// What a v1 client asks for.
#[derive(Debug)]
pub enum Op<'a> {
    /// The first op of a link.
    Hello(Box<Hello<'a>>),
    /// A sign of life.
    Beat {
        /// To be echoed.
        t: Option<Number>,
        /// The `id` of the server's request that it answers.
        re: Option<u32>,
    },
    /// A declared status: alive or leave.
    Status(Status),
    /// A goodbye.
    Bye,
    /// An op of chat.
    Ask(Box<Ask<'a>>),
}

/// The fields of `hello`.
#[derive(Debug)]
pub struct Hello<'a> {
    /// What kind of client this is, in at most 64 bytes.
    pub client: Option<Cow<'a, str>>,
    /// Who it claims to be, in at most 64 bytes.
    pub user: Option<Cow<'a, str>>,
    /// The interval it would like, in milliseconds.
    pub interval_ms: Option<u64>,
    /// What an earlier login got for the next time.
    pub token: Option<Cow<'a, str>>,
    /// The session to take up again.
    pub resume: Option<ResumeClaim<'a>>,
}

/// The fields of `resume`.
#[derive(Debug)]
pub struct ResumeClaim<'a> {
    /// The session's name, unchecked.
    pub session: Cow<'a, str>,
    /// The secret, unchecked.
    pub secret: Cow<'a, str>,
    /// How many pushes the client has received.
    pub count: u64,
}

/// Reads one body. `scratch` is overwritten; it lends its memory to a body that must be unescaped first.
pub fn parse<'a>(body: &'a [u8], scratch: &'a mut String) -> Result<Body<'a>, BodyError> {
    if body.is_empty() {
        return Ok(Body::Empty);
    }
    let text = std::str::from_utf8(body).map_err(|_| BodyError::NotUtf8)?;
    if nested_deeper_than(text, JSON_DEPTH_MAX) {
        return Err(BodyError::TooDeep);
    }
    let text = match legacy::unwrap(text, scratch) {
        legacy::Unwrapped::Plain => text,
        legacy::Unwrapped::InScratch => scratch.as_str(),
        legacy::Unwrapped::Neither => return Err(BodyError::NotAnObject),
    };
    let was_wrapped = !std::ptr::eq(text.as_ptr(), body.as_ptr());
    if was_wrapped && nested_deeper_than(text, JSON_DEPTH_MAX) {
        return Err(BodyError::TooDeep);
    }
    let mut fields: Fields<'a> = serde_json::from_str(text).map_err(|_| BodyError::NotAnObject)?;
    match mem::take(&mut fields.op) {
        Field::Absent => legacy::beat(fields).map(Body::Legacy),
        Field::Text(name) if !was_wrapped => Ok(Body::V1(request(&name, fields))),
        _ => Err(BodyError::NeitherOpNorBeat),
    }
}

/// Counts brackets outside strings; the parser itself would recurse. A body too short to be that deep isn't scanned.
fn nested_deeper_than(text: &str, max: usize) -> bool {
    if text.len() <= 2 * max {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in text.bytes() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > max {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

fn request<'a>(name: &str, mut fields: Fields<'a>) -> Request<'a> {
    let id = mem::take(&mut fields.id).request_id("id");
    let ack = mem::take(&mut fields.ack).whole("ack");
    match (id, ack) {
        (Ok(id), Ok(ack)) => Request { id, ack, op: op(name, fields) },
        (Ok(id), Err(refusal)) => Request { id, ack: None, op: Err(refusal) },
        (Err(refusal), _) => Request { id: None, ack: None, op: Err(refusal) },
    }
}

fn op<'a>(name: &str, fields: Fields<'a>) -> Result<Op<'a>, Refusal> {
    match name {
        "beat" => {
            Ok(Op::Beat { t: fields.t.number("t")?, re: fields.re.whole("re")?.and_then(|re| u32::try_from(re).ok()) })
        }
        "hello" => hello(fields).map(|hello| Op::Hello(Box::new(hello))),
        "status" => match fields.status.text("status")?.as_deref() {
            Some("alive") => Ok(Op::Status(Status::Alive)),
            Some("leave") => Ok(Op::Status(Status::Leave)),
            Some(_) => Err(ErrorCode::MISTYPED_FIELD.because("`status` must be \"alive\" or \"leave\"")),
            None => Err(ErrorCode::MISSING_FIELD.because("`status` is missing")),
        },
        "bye" => Ok(Op::Bye),
        _ => match ask::ask(name, fields.user, fields.token, fields.ask) {
            Some(ask) => ask.map(|ask| Op::Ask(Box::new(ask))),
            None => Err(ErrorCode::UNKNOWN_OP.because("this op isn't known here")),
        },
    }
}

fn hello(fields: Fields<'_>) -> Result<Hello<'_>, Refusal> {
    match fields.v.whole("v")? {
        Some(1) => {}
        Some(_) => return Err(ErrorCode::VERSION.because("only v:1 is spoken here")),
        None => return Err(ErrorCode::MISSING_FIELD.because("`v` is missing; say hello with v:1")),
    }
    Ok(Hello {
        client: fields.client.label("client")?,
        user: fields.user.label("user")?,
        interval_ms: fields.interval_ms.whole("interval_ms")?,
        token: fields.token.bounded("token", TOKEN_BYTES_MAX)?,
        resume: fields.resume.claim()?,
    })
}

/// The value of a known field, before anyone asks what it should be.
#[derive(Debug, Default)]
pub(super) enum Field<'a> {
    #[default]
    Absent,
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    Array,
    Object(Box<ResumeFields<'a>>),
}

/// The fields inside `resume`, the only nested object.
#[derive(Debug, Default)]
pub(super) struct ResumeFields<'a> {
    session: Flat<'a>,
    secret: Flat<'a>,
    count: Flat<'a>,
}

#[derive(Debug, Default)]
struct Flat<'a>(Option<Box<Field<'a>>>);

impl<'a> Field<'a> {
    /// Text, or nothing. `null` counts as absent, for clients that write all their fields.
    pub(super) fn text(self, name: &str) -> Result<Option<Cow<'a, str>>, Refusal> {
        match self {
            Field::Absent | Field::Null => Ok(None),
            Field::Text(text) => Ok(Some(text)),
            _ => Err(mistyped(name, "text")),
        }
    }

    fn label(self, name: &str) -> Result<Option<Cow<'a, str>>, Refusal> {
        self.bounded(name, LABEL_BYTES_MAX)
    }

    /// Text of so many bytes at most, and not empty.
    pub(super) fn bounded(self, name: &str, max: usize) -> Result<Option<Cow<'a, str>>, Refusal> {
        match self.text(name)? {
            Some(text) if text.is_empty() || text.len() > max => {
                Err(mistyped(name, &format!("text of 1 to {max} bytes")))
            }
            text => Ok(text),
        }
    }

    pub(super) fn truth(self, name: &str) -> Result<Option<bool>, Refusal> {
        match self {
            Field::Absent | Field::Null => Ok(None),
            Field::Bool(value) => Ok(Some(value)),
            _ => Err(mistyped(name, "true or false")),
        }
    }

    pub(super) fn float(self, name: &str) -> Result<Option<f64>, Refusal> {
        Ok(self.number(name)?.map(|number| match number {
            Number::Int(number) => number as f64,
            Number::UInt(number) => number as f64,
            Number::Float(number) => number,
        }))
    }

    fn number(self, name: &str) -> Result<Option<Number>, Refusal> {
        match self {
            Field::Absent | Field::Null => Ok(None),
            Field::Number(number) => Ok(Some(number)),
            _ => Err(mistyped(name, "a number")),
        }
    }

    pub(super) fn whole(self, name: &str) -> Result<Option<u64>, Refusal> {
        match self {
            Field::Absent | Field::Null => Ok(None),
            Field::Number(Number::Int(number)) if number >= 0 => Ok(Some(number.unsigned_abs())),
            Field::Number(Number::UInt(number)) => Ok(Some(number)),
            _ => Err(mistyped(name, "a whole number, not negative")),
        }
    }

    fn request_id(self, name: &str) -> Result<Option<RequestId<'a>>, Refusal> {
        match self {
            Field::Absent | Field::Null => Ok(None),
            Field::Number(Number::Int(number)) => Ok(Some(RequestId::Number(number))),
            Field::Text(text) if text.len() <= LABEL_BYTES_MAX => Ok(Some(RequestId::Text(text))),
            _ => Err(mistyped(name, "a whole number or text of at most 64 bytes")),
        }
    }

    fn claim(self) -> Result<Option<ResumeClaim<'a>>, Refusal> {
        let fields = match self {
            Field::Absent | Field::Null => return Ok(None),
            Field::Object(fields) => *fields,
            _ => return Err(mistyped("resume", "an object")),
        };
        let missing = |name: &str| ErrorCode::MISSING_FIELD.because(format!("`{name}` is missing"));
        Ok(Some(ResumeClaim {
            session: fields.session.take().text("resume.session")?.ok_or_else(|| missing("resume.session"))?,
            secret: fields.secret.take().text("resume.secret")?.ok_or_else(|| missing("resume.secret"))?,
            count: fields.count.take().whole("resume.count")?.ok_or_else(|| missing("resume.count"))?,
        }))
    }
}

impl<'a> Flat<'a> {
    fn take(self) -> Field<'a> {
        self.0.map_or(Field::Absent, |field| *field)
    }
}

pub(super) fn mistyped(name: &str, wanted: &str) -> Refusal {
    ErrorCode::MISTYPED_FIELD.because(format!("`{name}` must be {wanted}"))
}

/// Every field that some op knows.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    op: Field<'a>,
    id: Field<'a>,
    re: Field<'a>,
    ack: Field<'a>,
    v: Field<'a>,
    client: Field<'a>,
    user: Field<'a>,
    interval_ms: Field<'a>,
    token: Field<'a>,
    resume: Field<'a>,
    t: Field<'a>,
    pub(super) ip: Field<'a>,
    pub(super) status: Field<'a>,
    pub(super) pid: Field<'a>,
    /// Boxed, so that a beat pays a word.
    ask: Option<Box<AskFields<'a>>>,
}

impl<'a> Fields<'a> {
    fn slot(&mut self, key: &str) -> Option<&mut Field<'a>> {
        Some(match key {
            "op" => &mut self.op,
            "id" => &mut self.id,
            "re" => &mut self.re,
            "ack" => &mut self.ack,
            "v" => &mut self.v,
            "client" => &mut self.client,
            "user" => &mut self.user,
            "interval_ms" => &mut self.interval_ms,
            "token" => &mut self.token,
            "resume" => &mut self.resume,
            "t" => &mut self.t,
            "ip" => &mut self.ip,
            "status" => &mut self.status,
            "pid" => &mut self.pid,
            _ => return None,
        })
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Fields::default();
                while let Some(Key(key)) = map.next_key()? {
                    match fields.slot(&key) {
                        Some(slot @ Field::Absent) => *slot = map.next_value()?,
                        Some(_) => return Err(serde::de::Error::custom("a key stands twice")),
                        None if !AskFields::knows(&key) => drop(map.next_value::<IgnoredAny>()?),
                        None => match fields.ask.get_or_insert_default().slot(&key) {
                            Some(Slot::Field(slot @ Field::Absent)) => *slot = map.next_value()?,
                            Some(Slot::Raw(slot @ None)) => *slot = Some(map.next_value()?),
                            _ => return Err(serde::de::Error::custom("a key stands twice")),
                        },
                    }
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// An object's key, borrowed unless it has escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

impl<'de> Deserialize<'de> for Field<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Field<'de>, E> {
        Ok(Field::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Field<'de>, E> {
        Ok(Field::Bool(value))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Field<'de>, E> {
        Ok(Field::Number(Number::Int(number)))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Field<'de>, E> {
        Ok(Field::Number(i64::try_from(number).map_or(Number::UInt(number), Number::Int)))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Field<'de>, E> {
        Ok(Field::Number(Number::Float(number)))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Field<'de>, E> {
        Ok(Field::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Field<'de>, E> {
        Ok(Field::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Field<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Array)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field<'de>, A::Error> {
        let mut fields = Box::new(ResumeFields::default());
        while let Some(Key(key)) = map.next_key()? {
            let slot = match &*key {
                "session" => &mut fields.session,
                "secret" => &mut fields.secret,
                "count" => &mut fields.count,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if slot.0.replace(Box::new(map.next_value()?)).is_some() {
                return Err(serde::de::Error::custom("a key stands twice"));
            }
        }
        Ok(Field::Object(fields))
    }
}

#[cfg(test)]
mod tests;
