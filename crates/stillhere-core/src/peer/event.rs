//! What goes into a peer and what comes out of it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::wire::request::Request;

/// Something that happened to a peer.
#[derive(Clone, Copy, Debug)]
pub enum PeerInput<'a> {
    /// The link that [`LinkRequest::Connect`] asked for is open.
    Connected {
        /// This end's address; a legacy peer puts its IP into every beat.
        local: SocketAddr,
    },
    /// The link could not be opened, and why in the caller's words.
    ConnectFailed(&'a str),
    /// Bytes came in, split and glued as they like.
    Received(&'a [u8]),
    /// The link ended, and why in the caller's words.
    Disconnected(&'a str),
    /// Nothing but the time: [`super::Peer::next_deadline`] has come.
    Tick,
    /// The application wants something.
    Command(PeerCommand<'a>),
}

/// The application's name for a request: 0 or above, another one for each request of a peer's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub i64);

/// What an application can ask of its peer.
#[derive(Clone, Copy, Debug)]
pub enum PeerCommand<'a> {
    /// Ask the server for something. [`PeerEvent::Reply`] with the ticket follows, exactly one, except for a signal,
    /// which is never answered.
    Request {
        /// Its name.
        ticket: Ticket,
        /// What is asked.
        request: &'a Request<'a>,
        /// `register`, `login` and `token`: whether the peer keeps the means to do it again on a new session.
        keep: bool,
    },
    /// Declare leave. It is told again on a new session until [`PeerCommand::Back`].
    Leave,
    /// Declare alive.
    Back,
    /// Say goodbye: the session is closed for good and the peer stops.
    Bye,
}

/// What a peer wants done. The caller sends [`send`](Self::send), then does what [`link`](Self::link) asks, and hands
/// [`events`](Self::events) to the application.
#[derive(Debug, Default)]
pub struct PeerOutputs {
    /// Bytes for the link: whole frames are appended to what it hasn't taken yet, and all goes when the link goes.
    pub send: Vec<u8>,
    /// What to do with the link, after sending.
    pub link: Option<LinkRequest>,
    /// What the application may want to know, oldest first. One call adds at most a few events and one for each
    /// frame in the bytes that it was given.
    pub events: VecDeque<PeerEvent>,
}

/// What a peer wants done with its link. After `Finish` and `Drop` it has no link: nothing more of the old one may be
/// passed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkRequest {
    /// Open one, and answer with `Connected` or `ConnectFailed`.
    Connect,
    /// Close it once everything is sent.
    Finish,
    /// Close it at once, or give up opening it. What is unsent is lost.
    Drop,
}

/// What an application may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// A link is open. A v1 peer has said hello on it.
    Linked {
        /// This end's address.
        local: SocketAddr,
        /// How many links this peer has had, from 1.
        nth: u64,
    },
    /// The server answered `hello`; the session begins or goes on. Never for a legacy peer.
    Welcomed(Box<Welcomed>),
    /// A beat was sent.
    BeatSent {
        /// How long after it was due: because the caller woke the peer late. A round trip counted from when the beat
        /// was due is longer by this.
        late: Duration,
    },
    /// A beat was answered.
    BeatAnswered {
        /// From its sending to the answer.
        rtt: Duration,
        /// How long after its last frame this session, if silent, is on leave; as the server says.
        detect: Option<Duration>,
    },
    /// The server changed the interval to beat at (an adaptive profile); 1 s to 10 min.
    IntervalChanged(Duration),
    /// The server pushed something: a message, a signal, or an op that this peer doesn't know yet.
    Pushed {
        /// Its number in the session, from 1; what `ack` counts.
        count: u64,
        /// The body as it came: one JSON object with an `op`.
        body: Box<str>,
    },
    /// What became of a request.
    Reply {
        /// Which.
        ticket: Ticket,
        /// The `ok` as it came (a [`crate::wire::push::Reply`]), or why there is none.
        result: Result<Box<str>, Box<Failed>>,
    },
    /// A step on the way back after a new session: logging in and joining again.
    Recovery(Box<Recovery>),
    /// The server refused something that wasn't a request with a ticket.
    Refused(Box<Refused>),
    /// The server closed the link with a code; `Reconnecting` or `Stopped` follows.
    Closed {
        /// A [`crate::close::CloseCode`], or a newer one that isn't in its table yet.
        code: u16,
        /// In the server's words; show it with [`crate::text::Escaped`].
        reason: Box<str>,
    },
    /// The link is gone, or was never opened; `Reconnecting` follows.
    Lost(Loss),
    /// The peer will connect again by itself.
    Reconnecting {
        /// After this time; zero for at once.
        after: Duration,
    },
    /// The peer won't connect again.
    Stopped(Stop),
}

/// The server's answer to `hello`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcomed {
    /// The session's name.
    pub session: String,
    /// How many links the session has had.
    pub generation: u32,
    /// Whether this is the session from before.
    pub continuity: Continuity,
    /// Who the server takes the client for.
    pub user: Option<String>,
    /// The interval to beat at; 1 s to 10 min, whatever the server says.
    pub interval: Duration,
    /// How long after its last frame a silent session is on leave.
    pub detect: Duration,
    /// How long it may stay on leave before it is closed.
    pub leave_hold: Duration,
    /// The server's name.
    pub node: String,
}

/// Whether a session goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Continuity {
    /// A new session; none was to be resumed.
    Fresh,
    /// It goes on without a gap: every push was or will be received.
    Resumed,
    /// It couldn't be resumed; pushes may be missing, and counting starts again.
    Broken {
        /// The server's reason: `gap`, `expired`, …
        reason: String,
    },
}

/// A request that the server refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The number of a [`crate::wire::error::ErrorCode`], or a newer one.
    pub code: u16,
    /// Its name.
    pub name: String,
    /// What is wrong, in the server's words.
    pub message: String,
    /// Whether it may succeed later.
    pub temporary: bool,
    /// When to try again.
    pub retry: Option<Duration>,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", crate::text::Escaped(&self.message), self.code)
    }
}

/// Why a request wasn't served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// The server refused it.
    #[error("{0}")]
    Refused(Refused),
    /// The link went before the answer came, or there was none. Whether it was served isn't known.
    #[error("the link was lost; ask again once there is a new one")]
    Lost,
    /// No answer came in time: [`super::SAY_AGAIN`] for `say` and `tell` with a `mid`, else [`super::ANSWER_TIMEOUT`].
    #[error("no answer came in time")]
    Expired,
    /// More than [`super::REQUESTS_MAX`] or [`super::REQUESTS_BYTES_MAX`] would be under way. It wasn't sent.
    #[error("too many requests are under way; wait for some of the answers")]
    TooMany,
    /// It is longer than the server's limit for a frame. It wasn't sent.
    #[error("longer than the server takes; send it in parts")]
    TooLong,
    /// The peer has stopped.
    #[error("the client has stopped")]
    Stopped,
}

/// A step on the way back after a new session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Logged in again.
    Entered {
        /// As.
        user: Box<str>,
    },
    /// Not logged in again, for good; the application must do it.
    NotEntered {
        /// Why.
        refused: Refused,
    },
    /// In a room again; what was missed follows.
    Rejoined {
        /// Which.
        room: Box<str>,
        /// The last seq the peer had.
        after: u64,
        /// The answer to `join`.
        reply: Box<str>,
    },
    /// No longer in a room.
    NotRejoined {
        /// Which.
        room: Box<str>,
        /// Why.
        refused: Refused,
    },
}

/// Why a link is gone without the server having said so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// It couldn't be opened.
    #[error("not reachable: {0}")]
    Unreachable(Box<str>),
    /// It didn't open in [`super::CONNECT_TIMEOUT`].
    #[error("not reachable: no answer to connecting within 10 s")]
    ConnectTimeout,
    /// It ended: end of stream or a reset.
    #[error("disconnected: {0}")]
    Disconnected(Box<str>),
    /// No `welcome` in [`super::WELCOME_TIMEOUT`].
    #[error("no welcome within 10 s of saying hello")]
    NoWelcome,
    /// `hello` was refused for now.
    #[error("hello was refused for now")]
    HelloRefused,
    /// Nothing was heard for 2.5 intervals: the link only looked alive.
    #[error("nothing heard for 2.5 intervals")]
    Zombie,
    /// The server sent what can't be read. Its fault.
    #[error("the server sent a malformed frame: {0}")]
    Malformed(Box<str>),
}

/// Why a peer stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The application said goodbye.
    Goodbye,
    /// The server closed the link with this code, 4500 or above: do not come back.
    Told(u16),
    /// The server refused `hello` for good with this code.
    HelloRefused(u16),
}
