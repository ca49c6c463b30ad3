//! What shards and the store say to each other: accounts, rooms and durable messages.
//!
//! The store is the one who puts messages in order, since only what it has committed may be acknowledged. A shard sends
//! an [`Order`] and later gets its [`Outcome`]; besides, the store tells each shard the [`News`] of the streams that the
//! shard has joined, in the order of their commits. Both directions keep their order: what is committed after an
//! [`Outcome::Joined`] arrives after it.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::close::CloseCode;
use crate::name::Name;
use crate::secret::SessionId;
use crate::wire::error::Refusal;

/// A row of numbered messages: a room's, or what was sent to and from one user (its mailbox).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// A number that a shard gives an order, to find its way back to who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrderId(pub u64);

/// What a user wants to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The sender's own id for it: the same one again within ten minutes is the same message.
    pub mid: Option<Box<str>>,
    /// What people read.
    pub text: Box<str>,
    /// What programs read: JSON as it came.
    pub data: Option<Box<str>>,
    /// The session that sends it, which gets no echo.
    pub by: SessionId,
}

/// Where messages are found, as a user names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A room.
    Room(Name),
    /// The conversation with another user.
    User(Name),
}

/// A proof of being a user. Its `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Proof {
    /// A new account.
    Register {
        /// At least 8 characters, not a common one.
        password: Box<str>,
    },
    /// An account's password.
    Login {
        /// The password.
        password: Box<str>,
    },
    /// A token that an earlier login asked for.
    Token {
        /// The token.
        token: Box<str>,
    },
    /// None: a claim, where names are claims (`auth.mode = open`), or a session whose secret has proven it.
    Claim,
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Proof::Register { .. } => "Register",
            Proof::Login { .. } => "Login",
            Proof::Token { .. } => "Token",
            Proof::Claim => "Claim",
        })
    }
}

/// What a shard asks of the store.
#[derive(Debug)]
pub enum Order {
    /// Somebody wants to be a user.
    Enter {
        /// Who; `None` with a token, which knows.
        user: Option<Name>,
        /// Why to believe it.
        proof: Proof,
        /// Where the attempt comes from.
        address: IpAddr,
        /// Whether a token is wanted for the next time.
        remember: bool,
    },
    /// A user changes its password.
    Password {
        /// Who.
        user: Name,
        /// The present one.
        old: Box<str>,
        /// The next one.
        new: Box<str>,
        /// Where the attempt comes from.
        address: IpAddr,
    },
    /// A session of this user joins a room; the shard gets the room's news from here on.
    Join {
        /// The room; made if there is none and that is allowed.
        room: Name,
        /// Who.
        user: Name,
    },
    /// A session of this shard has left the stream. The shard gets its news until it has released it as often as it got
    /// [`Outcome::Joined`] or [`Outcome::Entered`] for it.
    Release {
        /// The stream.
        stream: StreamId,
    },
    /// A message to a room.
    Say {
        /// The room's stream, as [`Outcome::Joined`] told it.
        stream: StreamId,
        /// Who.
        user: Name,
        /// What.
        draft: Draft,
    },
    /// A message to a user.
    Tell {
        /// Who.
        user: Name,
        /// To whom.
        to: Name,
        /// What.
        draft: Draft,
    },
    /// The messages after a position, to be pushed to a session that is behind.
    Page {
        /// The stream.
        stream: StreamId,
        /// The last position that the session has.
        after: u64,
        /// At most so many.
        limit: u32,
    },
    /// A client has handled its mailbox up to here; needs no outcome.
    Handled {
        /// Whose.
        user: Name,
        /// The last position handled.
        position: u64,
    },
    /// Old messages, for people.
    History {
        /// Who asks.
        user: Name,
        /// Where.
        place: Place,
        /// Only seqs below.
        before: Option<u64>,
        /// Only seqs above.
        after: Option<u64>,
        /// At most so many.
        limit: u32,
        /// Only those that contain this.
        query: Option<Box<str>>,
    },
    /// A user has read up to here.
    Read {
        /// Who.
        user: Name,
        /// Where.
        place: Place,
        /// The last seq read.
        seq: u64,
    },
    /// Somebody changes a room or what is in it.
    Govern {
        /// Who.
        by: Name,
        /// Which room.
        room: Name,
        /// What.
        act: Act,
    },
    /// Somebody takes back a message to a user.
    Unsay {
        /// Who.
        by: Name,
        /// The other one.
        user: Name,
        /// Which message of their conversation.
        seq: u64,
    },
    /// Somebody says what another user may do.
    Relate {
        /// Who.
        by: Name,
        /// The other one.
        user: Name,
        /// What.
        relation: Relation,
    },
    /// Whether these allow `by` to see their presence.
    MaySee {
        /// Who wants to.
        by: Name,
        /// Whom.
        users: Vec<Name>,
    },
}

/// What can be done to a room.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Change its settings; `None` leaves one as it is.
    Set {
        /// What it is about.
        topic: Option<Box<str>>,
        /// Whether anyone may join.
        public: Option<bool>,
        /// How far a signal reaches in an area room; 0 for a room that is no area.
        radius: Option<f64>,
    },
    /// Give a user a role.
    Role {
        /// Whom.
        user: Name,
        /// Which.
        role: Role,
    },
    /// Let a user join a room that isn't public.
    Invite {
        /// Whom.
        user: Name,
    },
    /// Let a user only listen.
    Mute {
        /// Whom.
        user: Name,
        /// How long; zero ends it.
        span: Duration,
    },
    /// Put a user out.
    Remove {
        /// Whom.
        user: Name,
        /// How long it can't come back; zero: it can at once.
        span: Duration,
    },
    /// Delete a message; a tombstone stays.
    Delete {
        /// Which.
        seq: u64,
    },
}

/// What a user is in a room, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Nothing special: may join while the room is public.
    Guest,
    /// Invited.
    Member,
    /// May delete messages, mute, remove and invite.
    Moderator,
    /// May do everything, and give roles.
    Owner,
}

impl Role {
    /// Every role, the least first.
    pub const ALL: [Role; 4] = [Role::Guest, Role::Member, Role::Moderator, Role::Owner];

    /// The word on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Guest => "guest",
            Role::Member => "member",
            Role::Moderator => "moderator",
            Role::Owner => "owner",
        }
    }

    /// Reads what [`Role::name`] says.
    pub fn parse(text: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == text)
    }
}

/// What one user decides about another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// No messages from it, and it sees no presence.
    Block,
    /// No longer blocked.
    Unblock,
    /// It may see presence without sharing a room, and write although a stranger.
    Allow,
    /// No longer so.
    Disallow,
}

/// A room as everybody in it sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct RoomState {
    /// What it is about.
    pub topic: Box<str>,
    /// Whether anyone may join.
    pub public: bool,
    /// How far a signal reaches, if the room is an area.
    pub radius: Option<f64>,
}

/// A user's mailbox: everything sent to and from it, numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mailbox {
    /// Its stream; the shard gets its news from here on.
    pub stream: StreamId,
    /// The newest position.
    pub head: u64,
    /// The position up to which some client has handled it.
    pub handled: u64,
}

/// What the store answers.
#[derive(Debug)]
pub enum Outcome {
    /// [`Order::Enter`]: it is this user.
    Entered {
        /// Who.
        user: Name,
        /// Whether that was proven.
        verified: bool,
        /// For the next time, if it was wanted.
        token: Option<Box<str>>,
        /// Its mailbox.
        mailbox: Mailbox,
    },
    /// [`Order::Join`].
    Joined {
        /// The room's stream.
        stream: StreamId,
        /// Its newest seq.
        head: u64,
        /// The lowest seq that retention has left, less one: nothing up to it can be had.
        trimmed: u64,
        /// What the user is here.
        role: Role,
        /// How long the user may only listen.
        muted: Duration,
        /// The room.
        state: RoomState,
    },
    /// [`Order::Say`], [`Order::Tell`]: committed.
    Posted {
        /// The seq in its room or conversation.
        seq: u64,
        /// When, in milliseconds since 1970.
        time_ms: u64,
    },
    /// [`Order::Page`].
    Page(Page),
    /// [`Order::History`].
    History {
        /// A JSON array of messages, oldest first.
        messages: Box<str>,
        /// Whether there are more beyond the limit.
        more: bool,
        /// A JSON object: how far who has read.
        read: Box<str>,
    },
    /// [`Order::MaySee`]: those that allow it.
    MaySee(Vec<Name>),
    /// Everything else: done.
    Done,
}

/// Messages of a stream, encoded.
#[derive(Clone, Debug)]
pub struct Page {
    /// Position and push frame of each, ascending.
    pub messages: Vec<(u64, Bytes)>,
    /// The highest position that this page covers. Without messages: nothing is left up to here.
    pub upto: u64,
}

/// Why an order isn't carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What to tell the client.
    pub refusal: Refusal,
    /// When it may try again.
    pub retry: Option<Duration>,
    /// Whether its link is to be closed with this code.
    pub close: Option<CloseCode>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Refused {
        Refused { refusal, retry: None, close: None }
    }
}

/// What the store tells a shard, in the order of its commits.
#[derive(Debug)]
pub enum Told {
    /// The answer to one of its orders.
    Outcome(OrderId, Result<Outcome, Refused>),
    /// What happened in a stream that it has joined.
    News(News),
}

/// What the store tells by itself.
#[derive(Clone, Debug)]
pub enum News {
    /// A message was committed.
    Message {
        /// Where.
        stream: StreamId,
        /// Its position there.
        position: u64,
        /// The session that sent it, which gets no echo.
        by: SessionId,
        /// The push frame.
        frame: Bytes,
    },
    /// Something else that those in a stream are to know, at once or never.
    Notice {
        /// Where.
        stream: StreamId,
        /// The push frame.
        frame: Bytes,
    },
    /// A room has other settings. A notice tells of it.
    Room {
        /// Which.
        stream: StreamId,
        /// As it is now.
        state: RoomState,
    },
    /// A user may only listen, or (zero) may speak again.
    Muted {
        /// Where.
        stream: StreamId,
        /// Who.
        user: Name,
        /// How long.
        span: Duration,
    },
    /// A user was put out of a room.
    Removed {
        /// Where.
        stream: StreamId,
        /// Who.
        user: Name,
        /// The push frame that tells it.
        frame: Bytes,
    },
    /// A user's sessions must end: disabled, deleted, banned.
    Ended {
        /// Who.
        user: Name,
        /// With which code.
        code: CloseCode,
    },
}
