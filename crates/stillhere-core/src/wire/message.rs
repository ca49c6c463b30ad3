//! What a server says to a v1 client, written by the shard and read by the peer; and how a client's ops are written.

use serde::{Deserialize, Serialize};

use super::frame::write_frame;

/// A number that is echoed as it came.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Number {
    /// Anything that fits a signed 64-bit integer.
    Int(i64),
    /// A larger positive integer.
    UInt(u64),
    /// Anything else.
    Float(f64),
}

/// A request's `id`, echoed as `re`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RequestId<'a> {
    /// A whole number.
    Number(i64),
    /// Text of at most 64 bytes.
    Text(std::borrow::Cow<'a, str>),
}

/// How a session is to beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeatTerms {
    /// The interval the server counts with, in milliseconds.
    pub interval_ms: u64,
    /// The shortest interval it would grant.
    pub min_ms: u64,
    /// How long after its last frame a silent session is on leave.
    pub detect_ms: u64,
    /// How long it may stay on leave before it is closed.
    pub leave_hold_ms: u64,
}

/// How a session can be taken up again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeTerms {
    /// The secret to show at the next `hello`; base64url, 43 characters.
    pub secret: String,
    /// How long after the link dropped it can be shown.
    pub window_ms: u64,
}

/// What the server accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitTerms {
    /// The largest body, in bytes.
    pub frame_bytes: u32,
    /// Frames a second; 0 for no limit.
    pub frames_per_second: u32,
}

/// The answer to `hello`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The session's name for resuming.
    pub session: String,
    /// How many links the session has had; only the newest may end it.
    #[serde(rename = "gen")]
    pub generation: u32,
    /// Who the server takes the client for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whether the session goes on without a gap.
    pub resumed: bool,
    /// After a gap: the rooms that the session is in, each with its newest seq.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub rooms: std::collections::BTreeMap<String, u64>,
    /// Why it doesn't, if a resume was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How to beat.
    pub beat: BeatTerms,
    /// How to resume.
    pub resume: ResumeTerms,
    /// What is accepted.
    pub limits: LimitTerms,
    /// The server's name.
    pub node: String,
    /// The server's wall clock, in milliseconds since 1970.
    pub time_ms: u64,
}

/// Everything a server says. `op` is the tag on the wire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum ServerMessage<'a> {
    /// The answer to `hello`.
    Welcome {
        /// The request's id.
        #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
        re: Option<RequestId<'a>>,
        /// The terms.
        #[serde(flatten)]
        welcome: Box<Welcome>,
    },
    /// The answer to a beat, or (with `now`) a request for one.
    Beat {
        /// The request's id.
        #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
        re: Option<RequestId<'a>>,
        /// To be echoed as `re` in the beat that answers a request.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u32>,
        /// The client's own time stamp, as it came.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        t: Option<Number>,
        /// The server wants a beat at once.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        now: bool,
        /// How long after its last frame a silent session is on leave, as things stand.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detect_ms: Option<u64>,
        /// A new interval to beat at, when the profile adapts it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        interval_ms: Option<u64>,
    },
    /// Done.
    Ok {
        /// The request's id.
        #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
        re: Option<RequestId<'a>>,
    },
    /// Not done.
    Error {
        /// The request's id.
        #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
        re: Option<RequestId<'a>>,
        /// A row of [`super::error::ErrorCode::ALL`].
        code: u16,
        /// Its name.
        name: std::borrow::Cow<'a, str>,
        /// What is wrong with this request.
        message: std::borrow::Cow<'a, str>,
        /// Whether it may succeed later.
        temporary: bool,
        /// When to try again, in milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_ms: Option<u64>,
    },
    /// The link is about to be closed.
    Bye {
        /// A row of [`crate::close::CloseCode`].
        code: u16,
        /// Its reason in words.
        reason: std::borrow::Cow<'a, str>,
        /// When to come back, in milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_ms: Option<u64>,
    },
}

/// What a client shows to take its session up again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// From `welcome`.
    pub session: String,
    /// From `welcome`.
    pub secret: String,
    /// How many pushes the client has received in this session.
    pub count: u64,
}

/// What a client says, for writing. (A server reads with [`super::body::parse`], which trusts nothing.)
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum ClientMessage<'a> {
    /// The first op of a link.
    Hello {
        /// The version of the protocol: 1.
        v: u32,
        /// What kind of client this is.
        #[serde(skip_serializing_if = "Option::is_none")]
        client: Option<&'a str>,
        /// Who is using it.
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<&'a str>,
        /// The interval it would like to beat at.
        #[serde(skip_serializing_if = "Option::is_none")]
        interval_ms: Option<u64>,
        /// The session to take up again.
        #[serde(skip_serializing_if = "Option::is_none")]
        resume: Option<&'a Resume>,
    },
    /// A sign of life.
    Beat {
        /// The client's time stamp, in its own microseconds.
        t: u64,
        /// The `id` of the server's request that this beat answers.
        #[serde(skip_serializing_if = "Option::is_none")]
        re: Option<u32>,
        /// How many pushes the client has handled.
        #[serde(skip_serializing_if = "Option::is_none")]
        ack: Option<u64>,
    },
    /// A declared status.
    Status {
        /// `alive` or `leave`.
        status: crate::detector::Status,
    },
    /// A goodbye: the session is closed.
    Bye {},
}

/// Appends `message` as a frame.
pub fn write_message(out: &mut Vec<u8>, message: &impl Serialize) {
    write_frame(out, |out| {
        // Writing our own plain structs into memory can't fail.
        let written = serde_json::to_writer(out, message);
        debug_assert!(written.is_ok(), "our own message is serializable");
    });
}
