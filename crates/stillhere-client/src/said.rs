//! What a server pushes and answers, owned, for applications.
//!
//! Texts and names in here were typed by others: show them with [`stillhere_core::text::Escaped`].

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use stillhere_core::close::Cause;
use stillhere_core::detector::Status;
use stillhere_core::ledger::Role;

/// A durable message, in a room or between two users.
#[derive(Clone, Debug, Deserialize)]
pub struct Message {
    /// The room; `None` for a direct message.
    #[serde(default)]
    pub room: Option<String>,
    /// The user that a direct message was sent to.
    #[serde(default)]
    pub to: Option<String>,
    /// Its position in the room or conversation, from 1.
    pub seq: u64,
    /// Who sent it.
    pub from: String,
    /// For people; empty when deleted.
    pub text: String,
    /// For programs.
    #[serde(default)]
    pub data: Option<Box<RawValue>>,
    /// The sender's id for it.
    #[serde(default)]
    pub mid: Option<String>,
    /// When it was committed, in milliseconds since 1970.
    pub time_ms: u64,
    /// Whether it was deleted: only its place is left.
    #[serde(default)]
    pub deleted: bool,
}

/// Volatile data to a room.
#[derive(Clone, Debug, Deserialize)]
pub struct Signal {
    /// The room; `None` inside a digest, whose room it is.
    #[serde(default)]
    pub room: Option<String>,
    /// Who sent it.
    pub from: String,
    /// What it supersedes is of the same sender and key.
    #[serde(default)]
    pub key: Option<String>,
    /// Where the sender is, in an area room.
    #[serde(default)]
    pub at: Option<[f64; 2]>,
    /// The data.
    pub data: Box<RawValue>,
}

/// What a session on leave gets of a room, once a period.
#[derive(Clone, Debug, Deserialize)]
pub struct RoomDigest {
    /// The room.
    pub room: String,
    /// Messages since the last digest. They are pushed when the session is alive again.
    pub count: u64,
    /// The newest seq.
    pub head: u64,
    /// The beginnings of the newest messages, oldest first.
    pub previews: Vec<Preview>,
    /// The latest signal of each sender and key.
    pub signals: Vec<Signal>,
    /// The newest presence of each user that changed.
    pub presence: Vec<Presence>,
}

/// The beginning of a message.
#[derive(Clone, Debug, Deserialize)]
pub struct Preview {
    /// Its seq.
    pub seq: u64,
    /// Who sent it.
    pub from: String,
    /// The beginning of its text.
    pub text: String,
}

/// What a user's status has become.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Presence {
    /// The room in which this is told; `None` for a watched user, or inside a list.
    #[serde(default)]
    pub room: Option<String>,
    /// Who.
    pub user: String,
    /// The best of its sessions' statuses; `close` when it isn't there any more.
    pub status: Status,
    /// Why.
    #[serde(default)]
    pub cause: Option<Cause>,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// With `version`: an event with a lower pair than one seen before is late, and to be dropped.
    #[serde(rename = "gen")]
    pub generation: u64,
    /// See `generation`.
    #[serde(rename = "ver")]
    pub version: u64,
}

/// Something to know: from an operator, or about a room.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Notice {
    /// `text`, `room`, `role`, `muted`, `removed`, `deleted`, or a newer one.
    pub kind: String,
    /// The room it is about.
    #[serde(default)]
    pub room: Option<String>,
    /// An operator's words.
    #[serde(default)]
    pub text: Option<String>,
    /// Who did it.
    #[serde(default)]
    pub by: Option<String>,
    /// To whom it was done.
    #[serde(default)]
    pub user: Option<String>,
    /// `deleted`: which message.
    #[serde(default)]
    pub seq: Option<u64>,
    /// `muted`, `removed`: for how long, in milliseconds; 0 ends it.
    #[serde(default)]
    pub for_ms: Option<u64>,
    /// `role`: which.
    #[serde(default)]
    pub role: Option<Role>,
    /// `room`: what it is about.
    #[serde(default)]
    pub topic: Option<String>,
    /// `room`: whether anyone may join.
    #[serde(default)]
    pub public: Option<bool>,
    /// `room`: how far a signal reaches.
    #[serde(default)]
    pub radius: Option<f64>,
}

/// A server's `ok`, with whatever the op's answer has.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Answer {
    /// `register`, `login`, `token`: who the session is now.
    #[serde(default)]
    pub user: Option<String>,
    /// The same, if asked to remember: what logs in the next time. It is a secret.
    #[serde(default)]
    pub token: Option<String>,
    /// `join`: the room's canonical name.
    #[serde(default)]
    pub room: Option<String>,
    /// `join`: the newest seq.
    #[serde(default)]
    pub head: Option<u64>,
    /// `join`: retention has left nothing up to this seq.
    #[serde(default)]
    pub trimmed: Option<u64>,
    /// `join`: what the user is in the room.
    #[serde(default)]
    pub role: Option<Role>,
    /// `join`: what the room is about.
    #[serde(default)]
    pub topic: Option<String>,
    /// `join`: whether anyone may join.
    #[serde(default)]
    pub public: Option<bool>,
    /// `join`: how far a signal reaches, in an area room.
    #[serde(default)]
    pub radius: Option<f64>,
    /// `join`, `who`: how many users are in the room.
    #[serde(default)]
    pub members: Option<u64>,
    /// `join`, `who`: how many of them are alive.
    #[serde(default)]
    pub alive: Option<u64>,
    /// `join`, `who`, `watch`: each user; empty for a room of more than the server lists.
    #[serde(default)]
    pub users: Vec<Presence>,
    /// `say`, `tell`: the message's position.
    #[serde(default)]
    pub seq: Option<u64>,
    /// `say`, `tell`: when it was committed.
    #[serde(default)]
    pub time_ms: Option<u64>,
    /// `history`: oldest first.
    #[serde(default)]
    pub messages: Vec<Message>,
    /// `history`: whether the limit cut it off.
    #[serde(default)]
    pub more: Option<bool>,
    /// `history`: user → the seq up to which it has read.
    #[serde(default)]
    pub read: BTreeMap<String, u64>,
}
