//! What a server pushes to a v1 client, and what it answers to the ops of chat: written by shard and store, read by the
//! peer.
//!
//! Every struct is one flat object with its `op`. Pushes carry nothing that differs between receivers, so one encoding
//! serves a whole room.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::message::RequestId;
use crate::close::Cause;
use crate::detector::Status;
use crate::ledger::Role;

/// A durable message, in a room (`room`) or to a user (`to`).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Message<'a> {
    /// `message`; absent inside `history`.
    #[serde(borrow, default, skip_serializing_if = "str::is_empty")]
    pub op: Cow<'a, str>,
    /// The room.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub room: Option<Cow<'a, str>>,
    /// The user it was sent to.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Cow<'a, str>>,
    /// Its position in the room or conversation, from 1.
    pub seq: u64,
    /// Who sent it.
    #[serde(borrow)]
    pub from: Cow<'a, str>,
    /// For people; empty when deleted.
    #[serde(borrow)]
    pub text: Cow<'a, str>,
    /// For programs.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub data: Option<&'a RawValue>,
    /// The sender's id for it.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub mid: Option<Cow<'a, str>>,
    /// When it was committed, in milliseconds since 1970.
    pub time_ms: u64,
    /// Whether a moderator or its sender has deleted it: a tombstone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

/// Volatile data.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Signal<'a> {
    /// `signal`; absent inside a digest.
    #[serde(borrow, default, skip_serializing_if = "str::is_empty")]
    pub op: Cow<'a, str>,
    /// The room; absent inside a digest.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub room: Option<Cow<'a, str>>,
    /// Who sent it.
    #[serde(borrow)]
    pub from: Cow<'a, str>,
    /// What it supersedes is of the same sender and key.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Cow<'a, str>>,
    /// Where the sender is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<[f64; 2]>,
    /// The data.
    #[serde(borrow)]
    pub data: &'a RawValue,
}

/// What a session on leave gets instead of messages and signals, once a period.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Digest<'a> {
    /// `digest`.
    #[serde(borrow)]
    pub op: Cow<'a, str>,
    /// The rooms in which something happened.
    #[serde(borrow)]
    pub rooms: Vec<RoomDigest<'a>>,
}

/// One room of a digest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RoomDigest<'a> {
    /// The room.
    #[serde(borrow)]
    pub room: Cow<'a, str>,
    /// Messages since the last digest.
    pub count: u64,
    /// The newest seq.
    pub head: u64,
    /// The beginnings of the newest messages, oldest first.
    #[serde(borrow)]
    pub previews: Vec<Preview<'a>>,
    /// The latest signal of each sender and key, of those since the last digest.
    #[serde(borrow)]
    pub signals: Vec<Signal<'a>>,
    /// The newest presence of each user, of those that changed since the last digest.
    #[serde(borrow)]
    pub presence: Vec<Presence<'a>>,
}

/// The beginning of a message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Preview<'a> {
    /// Its seq.
    pub seq: u64,
    /// Who sent it.
    #[serde(borrow)]
    pub from: Cow<'a, str>,
    /// The beginning of its text.
    #[serde(borrow)]
    pub text: Cow<'a, str>,
}

/// What a user's status has become.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Presence<'a> {
    /// `presence`; absent inside a digest or a list.
    #[serde(borrow, default, skip_serializing_if = "str::is_empty")]
    pub op: Cow<'a, str>,
    /// The room in which this is told; absent for a watched user.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub room: Option<Cow<'a, str>>,
    /// Who.
    #[serde(borrow)]
    pub user: Cow<'a, str>,
    /// The best of its sessions' statuses; `close` when it isn't there (in this room) any more.
    pub status: Status,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// Greater whenever the user came back after all its sessions had ended.
    #[serde(rename = "gen")]
    pub generation: u64,
    /// Greater with every change within a `gen`: an event with a lower (gen, ver) than one seen before is late, and to
    /// be dropped.
    #[serde(rename = "ver")]
    pub version: u64,
}

/// Something to know: by an operator, or of a room.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Notice<'a> {
    /// `notice`.
    #[serde(borrow)]
    pub op: Cow<'a, str>,
    /// `text` (an operator's words), `room` (its settings), `role`, `muted`, `removed`, `deleted`.
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
    /// The room it is about.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub room: Option<Cow<'a, str>>,
    /// An operator's words.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Cow<'a, str>>,
    /// Who did it.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Cow<'a, str>>,
    /// To whom it was done; for `deleted` in a conversation, the other one.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Cow<'a, str>>,
    /// `deleted`: which message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// `muted`, `removed`: for how long, in milliseconds; 0 ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
    /// `role`: which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// `room`: what it is about.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<Cow<'a, str>>,
    /// `room`: whether anyone may join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<bool>,
    /// `room`: how far a signal reaches; absent if the room is no area.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub radius: Option<f64>,
}

/// The answer `ok`, with whatever the op's answer has.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Reply<'a> {
    /// `ok`.
    #[serde(borrow)]
    pub op: Cow<'a, str>,
    /// The request's id.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub re: Option<RequestId<'a>>,
    /// `register`, `login`, `token`: who the session is now.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Cow<'a, str>>,
    /// `register`, `login` with `remember`: for the next time.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Cow<'a, str>>,
    /// `join`: the room's canonical name.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub room: Option<Cow<'a, str>>,
    /// `join`: the newest seq.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<u64>,
    /// `join`: retention has left nothing up to this seq; absent if nothing was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trimmed: Option<u64>,
    /// `join`: what the user is in the room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// `join`: what the room is about.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<Cow<'a, str>>,
    /// `join`: whether anyone may join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<bool>,
    /// `join`: how far a signal reaches, in an area room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub radius: Option<f64>,
    /// `join`, `who` of a room: how many users are in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<u64>,
    /// The same: how many of them are alive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alive: Option<u64>,
    /// `join`, `who`, `watch`: each user's presence; absent for a room of more than the server lists.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub users: Option<Vec<Presence<'a>>>,
    /// `say`, `tell`: the message's position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// `say`, `tell`: when it was committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_ms: Option<u64>,
    /// `history`: [`Message`]s, oldest first.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<&'a RawValue>,
    /// `history`: whether the limit cut it off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<bool>,
    /// `history`: an object, user → the seq up to which it has read.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub read: Option<&'a RawValue>,
}
