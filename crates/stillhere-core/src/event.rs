//! What goes into a shard and what comes out of it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

pub use crate::terms::{IdentityTerms, Terms};

use crate::close::{Cause, CloseCode};
use crate::detector::Status;
use crate::ledger::{Order, OrderId, Place, Told};
use crate::name::Name;
use crate::secret::{SecretHash, SessionId};
use crate::session::Moved;
use crate::shard::Word;
use crate::stats::Refused;
use crate::time::Time;

/// A link's number, chosen by whoever owns the socket: small and dense, reused after the link has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u32);

impl LinkId {
    /// The number that no link ever has.
    pub const NONE: LinkId = LinkId(u32::MAX);
}

/// An address and port in 18 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Peer {
    address: [u8; 16],
    port: u16,
}

impl Peer {
    /// The address alone.
    pub fn ip(&self) -> IpAddr {
        Ipv6Addr::from(self.address).to_canonical()
    }

    /// The whole, as the standard library has it.
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.ip(), self.port)
    }

    /// The same address with port 0: what limits count by.
    pub fn without_port(&self) -> Peer {
        Peer { port: 0, ..*self }
    }
}

impl From<SocketAddr> for Peer {
    fn from(socket: SocketAddr) -> Peer {
        let address = match socket.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        Peer { address: address.octets(), port: socket.port() }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket().fmt(f)
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket().fmt(f)
    }
}

/// What a session is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// The tutorial's clients: their address and port.
    Legacy(Peer),
    /// v1 clients: a name that they prove with a secret.
    V1(SessionId),
}

impl Identity {
    /// Reads what [`Identity`] displays as.
    pub fn parse(text: &str) -> Option<Identity> {
        let socket = text.parse::<SocketAddr>().ok().map(|socket| Identity::Legacy(socket.into()));
        socket.or_else(|| SessionId::parse(text).map(Identity::V1))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Legacy(peer) => peer.fmt(f),
            Identity::V1(id) => id.fmt(f),
        }
    }
}

/// What a link speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Nothing yet.
    Unknown,
    /// The tutorial's heartbeat.
    Legacy,
    /// Ops.
    V1,
}

impl Mode {
    /// Every mode, in order.
    pub const ALL: [Mode; 3] = [Mode::Unknown, Mode::Legacy, Mode::V1];

    /// The word in the API and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Unknown => "unknown",
            Mode::Legacy => "legacy",
            Mode::V1 => "v1",
        }
    }
}

/// What carries a link's frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[repr(u8)]
pub enum Transport {
    /// Frames on plain TCP.
    #[default]
    #[serde(rename = "tcp")]
    Tcp,
    /// Frames inside TLS.
    #[serde(rename = "tls")]
    Tls,
    /// A WebSocket on plain TCP.
    #[serde(rename = "ws")]
    WebSocket,
    /// A WebSocket inside TLS.
    #[serde(rename = "wss")]
    WebSocketTls,
}

impl Transport {
    /// Every transport, in order.
    pub const ALL: [Transport; 4] = [Transport::Tcp, Transport::Tls, Transport::WebSocket, Transport::WebSocketTls];

    /// The word in the API and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::WebSocket => "ws",
            Transport::WebSocketTls => "wss",
        }
    }

    /// Whether nobody on the way can read what is said.
    pub const fn is_secret(self) -> bool {
        matches!(self, Transport::Tls | Transport::WebSocketTls)
    }

    /// Whether the peer answers pings, however quiet its program is.
    pub const fn has_pings(self) -> bool {
        matches!(self, Transport::WebSocket | Transport::WebSocketTls)
    }
}

/// What happens to a shard.
#[derive(Debug)]
pub enum Input<'a> {
    /// A link was accepted.
    Opened {
        /// Its number; not in use.
        link: LinkId,
        /// Where it comes from.
        peer: Peer,
    },
    /// A link that was just accepted comes from a banned address: its first words are its last.
    Banned {
        /// The link.
        link: LinkId,
        /// For how much longer; `None`: until the ban is taken back.
        wait: Option<Duration>,
    },
    /// Bytes arrived on a link.
    Received {
        /// The link.
        link: LinkId,
        /// Any number of bytes; frames need not be whole.
        bytes: &'a [u8],
    },
    /// A link is found to be carried by something else than plain TCP, which every link is at first. Comes before its
    /// bytes; from TLS to a WebSocket inside it is a second time.
    Upgraded {
        /// The link.
        link: LinkId,
        /// What carries it from now on.
        transport: Transport,
    },
    /// The transport heard of the peer without a frame, such as a WebSocket's pong: life, as a frame of length 0 is.
    Heard {
        /// The link.
        link: LinkId,
    },
    /// The transport can make no frames of what arrived: dealt with as a bad frame.
    Garbled {
        /// The link.
        link: LinkId,
    },
    /// The transport won't go on with a link; it is closed without a word of ours.
    TurnedAway {
        /// The link.
        link: LinkId,
        /// What it is closed with.
        code: CloseCode,
        /// What it is counted as.
        reason: Refused,
    },
    /// A link ended by itself. (Those that the shard closes end with their [`Output::Close`].)
    Ended {
        /// The link.
        link: LinkId,
        /// How.
        end: LinkEnd,
    },
    /// The caller caught a panic while this shard handled an input of the link: our fault. The link is closed.
    Failed {
        /// The link.
        link: LinkId,
    },
    /// The moment of [`next_deadline`](crate::shard::Shard::next_deadline) has come.
    Tick {
        /// The wall clock, in milliseconds since 1970; shown to clients, never counted with.
        wall_ms: u64,
    },
    /// Another shard asks for a session, whose new link it has.
    Claimed {
        /// To be repeated in [`Output::Answer`].
        ticket: Ticket,
        /// What is asked for.
        claim: Claim,
    },
    /// The other shards' answer to an [`Output::Claim`].
    Answered {
        /// The link that waits; [`LinkId::NONE`] if it has ended meanwhile.
        link: LinkId,
        /// What was found.
        answer: Answer,
    },
    /// An operator removes a session. Nothing happens if there is none of this identity.
    Kick {
        /// Which.
        identity: Identity,
    },
    /// The server leaves: every link gets its goodbye.
    Drain {
        /// Over how long the clients shall spread their return.
        spread: Duration,
    },
    /// New numbers.
    Configure(Box<Terms>),
    /// Identities that survived a restart.
    Restore(Vec<Keepsake>),
    /// A link's outbox has taken something that the kernel didn't: the peer reads more slowly than we write.
    Choked {
        /// The link.
        link: LinkId,
    },
    /// A choked link's outbox is empty again.
    Drained {
        /// The link.
        link: LinkId,
    },
    /// The store has answered [`Output::Order`]s, and tells what was committed.
    Told(Vec<Told>),
    /// Another shard says something.
    Word {
        /// Which shard.
        from: u16,
        /// What.
        word: Word,
    },
    /// An operator has something to say.
    Announce {
        /// To whom; to all without a place.
        place: Option<Place>,
        /// The words.
        text: &'a str,
    },
}

/// Where a shard sits among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Its number, from 0.
    pub index: u16,
    /// How many there are.
    pub of: u16,
}

impl Seat {
    /// The only one.
    pub const ALONE: Seat = Seat { index: 0, of: 1 };
}

/// How a link ended that the server didn't close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkEnd {
    /// The peer sent its last byte.
    Eof,
    /// The connection was reset or failed.
    Reset,
    /// The peer read too slowly: its outbox was full.
    Slow,
}

/// A request between shards, to be handed back with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// A proof of being a session's client.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// The session.
    pub session: SessionId,
    /// The hash of the secret shown.
    pub secret: SecretHash,
}

/// What a shard answers to a [`Claim`].
#[derive(Debug)]
pub enum Answer {
    /// It has no such session.
    Unknown,
    /// It has, but the secret isn't valid (any more).
    Refused(Stale),
    /// Here it is; it has left the shard.
    Live(Box<Moved>),
    /// It is closed; here is what was remembered, and the shard has forgotten it.
    Remembered(Box<Keepsake>),
}

/// Whether a refused secret was once the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// It was never the secret, or so long ago that this isn't known.
    Wrong,
    /// It was the one before the current, which the client has proven to have. Somebody keeps old secrets.
    ProvenOld,
}

/// What a shard wants done.
#[derive(Debug)]
pub enum Output {
    /// Write these bytes of [`Outputs::bytes`] to a link.
    Write {
        /// The link.
        link: LinkId,
        /// Where the bytes stand.
        range: Range<usize>,
    },
    /// Write the same bytes to each of these [`Outputs::targets`].
    Fan {
        /// Whole frames.
        frames: Bytes,
        /// Where the links stand.
        targets: Range<usize>,
    },
    /// Ask the store, and come back with [`Input::Told`]. If it can't be asked now, the outcome is
    /// [`busy`](crate::wire::error::ErrorCode::BUSY).
    Order {
        /// To be repeated.
        id: OrderId,
        /// What.
        order: Order,
    },
    /// Tell other shards, which hear it as [`Input::Word`], in order.
    Word {
        /// Which shard; all others without one.
        to: Option<u16>,
        /// What.
        word: Word,
    },
    /// Close a link; the shard has forgotten it.
    Close {
        /// The link.
        link: LinkId,
        /// How.
        manner: Manner,
        /// Why, if it is the server that ends it.
        code: Option<CloseCode>,
    },
    /// Ask the peer for a sign of life below the frames; only where [`Transport::has_pings`].
    Ping {
        /// The link.
        link: LinkId,
    },
    /// Ask the other shards for a session, and come back with [`Input::Answered`].
    Claim {
        /// The link that waits.
        link: LinkId,
        /// What is asked for.
        claim: Claim,
    },
    /// The answer to [`Input::Claimed`].
    Answer {
        /// The request's ticket.
        ticket: Ticket,
        /// The answer.
        answer: Answer,
    },
    /// Write an identity down for the next start.
    Keep(Keepsake),
    /// Strike an identity off.
    Forget(SessionId),
    /// Something for log, metrics and whoever watches.
    Note(Note),
}

/// How to close a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// At once; whatever is unread may turn into a reset.
    AtOnce,
    /// After what was written has gone out: a goodbye is under way.
    Gently,
    /// With a reset: the peer hasn't been heard for long, and the kernel shall not wait for it either.
    Abort,
}

/// What a shard leaves behind after an input: cleared and used again, so a beat allocates nothing.
#[derive(Debug, Default)]
pub struct Outputs {
    /// The bytes that [`Output::Write`] speaks of.
    pub bytes: Vec<u8>,
    /// The links that [`Output::Fan`] speaks of.
    pub targets: Vec<LinkId>,
    /// In order.
    pub list: Vec<Output>,
}

impl Outputs {
    /// Empties both and gives back memory that only an unusual moment needed.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.targets.clear();
        self.list.clear();
        self.bytes.shrink_to(Outputs::BYTES_KEPT);
        self.targets.shrink_to(Outputs::TARGETS_KEPT);
        self.list.shrink_to(Outputs::LIST_KEPT);
    }

    /// Bytes of memory kept between inputs; a thousand replies.
    const BYTES_KEPT: usize = 128 * 1024;
    /// Targets kept room for; a fan-out to a large room.
    const TARGETS_KEPT: usize = 16 * 1024;
    /// Outputs kept room for; a sweep of a busy slot.
    const LIST_KEPT: usize = 4096;
}

/// What happened, for people: nothing in the server depends on it.
#[derive(Clone, Debug)]
pub enum Note {
    /// A session began.
    Opened {
        /// Who.
        identity: Identity,
        /// From where.
        peer: Peer,
        /// Under which name.
        user: Option<Box<str>>,
    },
    /// A session's status changed.
    Changed {
        /// Who.
        identity: Identity,
        /// Under which name.
        user: Option<Box<str>>,
        /// From what.
        from: Status,
        /// The change.
        change: Change,
    },
    /// A link ended, or a session without one.
    Closed(Box<Closed>),
    /// The server itself stood still; deadlines were moved.
    Stalled {
        /// By how much.
        late: Duration,
    },
    /// Somebody became a user.
    Entered {
        /// Which session.
        identity: Identity,
        /// Who.
        user: Name,
        /// Whether it was proven.
        verified: bool,
    },
    /// Someone showed a secret that its client has proven to have replaced.
    StaleSecret {
        /// Whose.
        session: SessionId,
        /// Where it was shown.
        peer: Peer,
    },
}

/// One change of status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// To what.
    pub to: Status,
    /// Why.
    pub cause: Cause,
    /// When, exactly.
    pub at: Time,
}

/// The end of a link, or of a session without one, for the list of the closed.
#[derive(Clone, Debug)]
pub struct Closed {
    /// The session, if there was one.
    pub identity: Option<Identity>,
    /// Where the link came from.
    pub peer: Peer,
    /// Under which name.
    pub user: Option<Box<str>>,
    /// What was spoken.
    pub mode: Mode,
    /// What carried the link; `None` if there was none.
    pub transport: Option<Transport>,
    /// Why the server closed it; `None` if the peer left.
    pub code: Option<CloseCode>,
    /// Why the session changed with it.
    pub cause: Option<Cause>,
    /// Valid beats of the session.
    pub beats: u64,
    /// Received on this link.
    pub bytes_in: u64,
    /// Sent on this link.
    pub bytes_out: u64,
    /// The last round trip measured, in microseconds.
    pub rtt_us: Option<u32>,
    /// When the link was accepted, or the session without a link began.
    pub opened_at: Time,
    /// When it ended.
    pub closed_at: Time,
}

/// What survives a restart of the server.
#[derive(Clone, Debug)]
pub struct Keepsake {
    /// The session's name.
    pub session: SessionId,
    /// The current secret's hash.
    pub secret: SecretHash,
    /// The one before, while the client may still hold only it.
    pub previous: Option<SecretHash>,
    /// The number of the session's newest link.
    pub generation: u32,
    /// Its user, or what it calls itself.
    pub user: Option<Box<str>>,
    /// The user it is, if it is one.
    pub account: Option<Name>,
    /// What kind of client.
    pub client: Option<Box<str>>,
    /// The session's interval.
    pub interval: Duration,
    /// Whether it had been closed when this was written.
    pub closed: bool,
}
