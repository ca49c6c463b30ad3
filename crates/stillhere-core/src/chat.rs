//! What a session has as a user: its rooms, its mailbox, its rates.

use crate::area::Point;
use crate::ledger::Mailbox;
use crate::name::Name;
use crate::rate::Bucket;
use crate::time::Time;

/// How pushes reach a session at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It gets everything at once.
    Now,
    /// It is on leave: direct messages at once, rooms in digests.
    Digest,
    /// It reads too slowly: nothing until it has caught up.
    Choked,
    /// It has no link.
    Nowhere,
}

/// A session's part as a user. Boxed: sessions that only beat have none.
#[derive(Debug)]
pub struct Chat {
    /// Who.
    pub user: Name,
    /// Whether that was proven.
    pub verified: bool,
    /// When it became one, on the wall clock; of two sessions of a user the later is the newer.
    pub(crate) entered_ms: u64,
    /// In which rooms of the shard.
    pub(crate) rooms: Vec<Membership>,
    /// In which rooms it was in the shard that it comes from, until it is in them here.
    pub(crate) carried: Vec<Carried>,
    pub(crate) mail: Mail,
    pub(crate) reach: Reach,
    /// Since when its link has been choked.
    pub(crate) choked_at: Option<Time>,
    pub(crate) signals: Bucket,
    pub(crate) joins: Bucket,
    pub(crate) requests: Bucket,
    pub(crate) watching: Vec<Watch>,
}

/// A place among a room's members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    pub(crate) room: u32,
    pub(crate) place: u32,
}

/// A membership on its way to another shard.
#[derive(Clone, Debug)]
pub(crate) struct Carried {
    pub(crate) room: Name,
    pub(crate) delivered: u64,
    /// The newest seq there when it left.
    pub(crate) head: u64,
    pub(crate) at: Option<Point>,
    /// Whether the store was asked to let it in here.
    pub(crate) asked: bool,
}

/// How far a session has its user's mailbox.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mail {
    pub(crate) mailbox: Mailbox,
    /// The position up to which everything was pushed.
    pub(crate) delivered: u64,
    /// Whether a page is under way, or to be asked for again soon.
    pub(crate) fetching: bool,
    /// Whether the store has told that the mailbox's news come to this shard for this session.
    pub(crate) subscribed: bool,
}

/// A user that this one watches.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub(crate) user: Name,
    /// Whether the user allows it even without a common room.
    pub(crate) allowed: bool,
}

impl Chat {
    /// Of a session that has just become a user.
    pub(crate) fn new(user: Name, verified: bool, mailbox: Mailbox, entered_ms: u64) -> Chat {
        Chat {
            user,
            verified,
            entered_ms,
            rooms: Vec::new(),
            carried: Vec::new(),
            mail: Mail { mailbox, delivered: mailbox.handled, fetching: false, subscribed: true },
            reach: Reach::Now,
            choked_at: None,
            signals: Bucket::default(),
            joins: Bucket::default(),
            requests: Bucket::default(),
            watching: Vec::new(),
        }
    }

    /// Whether it is on its way into this room, which it was in elsewhere.
    pub(crate) fn carries(&self, room: &str) -> bool {
        self.carried.iter().any(|carried| carried.room.as_str() == room)
    }

    /// Rebases its times from one shard's clock to another's. What was used up of rates is forgiven.
    pub(crate) fn rebase(&mut self) {
        self.choked_at = None;
        (self.signals, self.joins, self.requests) = (Bucket::default(), Bucket::default(), Bucket::default());
    }
}
