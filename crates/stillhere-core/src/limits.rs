//! Every bound of the core, by name, with the reason for its number.

use std::time::Duration;

use crate::rate::Rate;

/// The largest frame limit that may be configured: the first byte of a length must stay `0x00`, since it tells a
/// native link from TLS and HTTP.
pub const FRAME_BYTES_CAP: u32 = (1 << 24) - 1;
/// JSON nested deeper is refused before it is parsed. Our own frames need 3.
pub const JSON_DEPTH_MAX: usize = 32;
/// What is kept of a label that a peer gives itself (`ip`, `pid`, `client`, `user`, `id`), in bytes. Enough for an
/// IPv6 address with a zone or a long nickname; a session must stay cheap.
pub const LABEL_BYTES_MAX: usize = 64;
/// How many changes of status are kept of each session.
pub const HISTORY_MAX: usize = 16;
/// The shortest interval a client may ask for. Below a second TCP's own retransmissions decide, not the peer.
pub const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// The longest interval a client may ask for; most address translators forget an idle connection sooner.
pub const INTERVAL_MAX: Duration = Duration::from_secs(600);
/// The shard wants to be woken at least this often, so that it notices when it wasn't.
pub const PULSE: Duration = Duration::from_millis(250);
/// Woken later than this after the moment it asked for, the shard takes the blame and moves all deadlines.
pub const STALL: Duration = Duration::from_secs(1);
/// How many addresses the table of refused resumes remembers; the oldest is forgotten. 4,096 × 48 bytes.
pub const SUSPECTS_MAX: usize = 4096;
/// Refused resumes an address may make a minute before it is told to wait.
pub const REFUSED_RESUMES_PER_MINUTE: u32 = 10;

/// The longest `mid`, in bytes: a UUID in text takes 36.
pub const MID_BYTES_MAX: usize = 64;
/// The longest `key` of a signal, in bytes.
pub const KEY_BYTES_MAX: usize = 64;
/// The longest password, in bytes. Longer ones would only cost time to hash.
pub const PASSWORD_BYTES_MAX: usize = 256;
/// The longest token a client may show, in bytes. Ours have 43.
pub const TOKEN_BYTES_MAX: usize = 128;
/// How many users one `watch` may name.
pub const WATCH_MAX: usize = 100;

/// How many requests of a session may wait for the store or for other shards.
pub const UNDER_WAY_MAX: u16 = 256;
/// Sessions that never beat and have no user are kept for a resume only while fewer than this part of the places for
/// that are taken.
pub const RETAINED_PART_HELLO: usize = 4;
/// Pushes kept for a resume besides the bound in bytes: an entry costs 48 bytes, and a thousand who never read have a
/// list each. Clients acknowledge 64 at the latest.
pub const REPLAY_ENTRIES_MAX: usize = 256;
/// Messages that one page of catching up may hold.
pub const PAGE_MAX: u32 = 64;
/// The most messages that `history` answers with.
pub const HISTORY_PAGE_MAX: u64 = 200;
/// Messages that `history` answers with when it isn't told.
pub const HISTORY_PAGE: u64 = 50;
/// Signals of different senders and keys that a digest of a room may hold; the oldest is dropped.
pub const DIGEST_SIGNALS_MAX: usize = 256;
/// Users whose presence a digest of a room may hold.
pub const DIGEST_PRESENCE_MAX: usize = 256;
/// Messages that a digest previews.
pub const DIGEST_PREVIEWS: usize = 3;
/// Bytes of a message that a digest previews.
pub const PREVIEW_BYTES: usize = 80;
/// Users that a session may watch.
pub const WATCHING_MAX: usize = 1000;
/// Questions to the other shards that may be open; an answer comes within microseconds unless a shard hangs.
pub const QUESTIONS_MAX: usize = 4096;
/// How long the other shards may take for an answer.
pub const QUESTION_TIME: Duration = Duration::from_secs(5);
/// The longest time that a busy room's messages gather.
pub const GATHER_MAX: Duration = Duration::from_millis(4);
/// What one write to a link is taken to cost when it is decided whether a shard is busy: two thirds of what was
/// measured on loopback, so that a room of 1,000 with one signal in flight never waits.
pub const WRITE_COST: Duration = Duration::from_micros(2);
/// A user's presence is told at most once in so long.
pub const PRESENCE_SPACING: Duration = Duration::from_secs(1);
/// Users whose changes of link are counted, against flapping.
pub const FLAPPERS_MAX: usize = 16_384;
/// Addresses whose messages are counted.
pub const TALKERS_MAX: usize = 16_384;

/// The bounds of chat that an operator may set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatLimits {
    /// The longest text of a message, in bytes.
    pub text_bytes: usize,
    /// The longest `data` of a message or signal, in bytes of JSON.
    pub data_bytes: usize,
    /// Rooms that a session may be in.
    pub rooms: usize,
    /// Sessions that may be in a room, in this shard.
    pub members: usize,
    /// Users up to which a room lists and tells who is in it; larger rooms give counts.
    pub roster: usize,
    /// Messages of a user.
    pub messages: Rate,
    /// Messages of an address.
    pub address_messages: Rate,
    /// Messages and signals of a room.
    pub room_traffic: Rate,
    /// Signals of a session.
    pub signals: Rate,
    /// Joins of a session.
    pub joins: Rate,
    /// Other requests of a session that need the store or other shards.
    pub requests: Rate,
    /// New sessions of a user and resumes, a minute; more is flapping. 0 for no limit.
    pub links_per_minute: u32,
    /// Only count what the rates would refuse.
    pub dry_run: bool,
    /// Bytes of pushes kept of each session for a resume.
    pub replay_bytes: usize,
    /// The same of all sessions of a shard without a link, together; beyond it those that dropped first lose theirs,
    /// and catch up from the store when they are back.
    pub replay_unlinked: usize,
    /// How long a slow reader may take for what was queued.
    pub slow_time: Duration,
    /// How often a session on leave gets a digest.
    pub digest: Duration,
}

impl Default for ChatLimits {
    fn default() -> ChatLimits {
        ChatLimits {
            text_bytes: 8 * 1024,
            data_bytes: 8 * 1024,
            rooms: 100,
            members: 100_000,
            roster: 200,
            messages: Rate { per_second: 20, burst: 40 },
            address_messages: Rate { per_second: 1000, burst: 2000 },
            room_traffic: Rate { per_second: 2000, burst: 4000 },
            signals: Rate { per_second: 100, burst: 200 },
            joins: Rate { per_second: 10, burst: 100 },
            requests: Rate { per_second: 20, burst: 100 },
            links_per_minute: 60,
            dry_run: false,
            replay_bytes: 32 * 1024,
            replay_unlinked: 8 << 20,
            slow_time: Duration::from_secs(10),
            digest: Duration::from_secs(5),
        }
    }
}

/// The bounds that an operator may set (`[limits]`, and the spans of `[detector]` that concern links and sessions).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest body of a frame, in bytes.
    pub frame_bytes: u32,
    /// From accept to the first complete frame, and to `hello` for a client that begins with another op.
    pub first_frame: Duration,
    /// From the first byte of a frame to its last.
    pub frame_time: Duration,
    /// Frames a second that one link may send, averaged; 0 for no limit.
    pub frames_per_second: u32,
    /// Frames that one link may send at once on top of the average.
    pub frames_burst: u32,
    /// Bytes of incomplete frames that all links of a shard may hold together.
    pub partial_bytes: usize,
    /// v1 sessions without a link, in all of a shard; while there are so many, one that loses its link is closed.
    pub retained: usize,
    /// v1 sessions without a link of one address.
    pub retained_per_address: usize,
    /// Closed sessions whose identity a shard remembers; the oldest is forgotten first.
    pub remembered: usize,
    /// How long a v1 session without a link stays alive, in case the client is back at once.
    pub drop_grace: Duration,
    /// How long a dropped v1 session can be resumed.
    pub dropped_hold: Duration,
    /// The same for a session without a user.
    pub dropped_hold_anonymous: Duration,
    /// How long a closed session's identity is remembered.
    pub return_window: Duration,
    /// How long after its last act a session that ever acted becomes idle.
    pub idle_after: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            frame_bytes: 64 * 1024,
            first_frame: Duration::from_secs(10),
            frame_time: Duration::from_secs(10),
            frames_per_second: 1000,
            frames_burst: 2000,
            partial_bytes: 32 << 20,
            retained: 20_000,
            retained_per_address: 10_000,
            remembered: 100_000,
            drop_grace: Duration::from_secs(3),
            dropped_hold: Duration::from_secs(120),
            dropped_hold_anonymous: Duration::from_secs(60),
            return_window: Duration::from_secs(24 * 3600),
            idle_after: Duration::from_secs(30 * 60),
        }
    }
}
