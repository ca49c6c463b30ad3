//! Chat, as far as a shard has part in it: who of its sessions is which user, in which rooms they are, and what reaches
//! them when.
//!
//! The store decides what is durable (`orders` asks it, and takes its news), the shards tell each other what is not
//! (`words`). What reaches a session depends on its status: `reach` has the rules. A session is never waited for: who
//! can't be reached now falls behind, and gets the rest from where it contiguously was, page by page.
//!
//! - `enter`: sessions become users; `asks`: what they ask for
//! - `join`: into rooms and out of them; `orders`: what the store answers
//! - `deliver`: batches, pushes, falling behind and catching up; `digest`: what those on leave get instead
//! - `presence`: users' statuses, gathered at each user's home shard; `roster`: who is here
//! - `room`: a room's data

mod asks;
#[cfg(test)]
mod books;
mod deliver;
mod digest;
mod enter;
mod join;
mod news;
mod orders;
mod presence;
mod room;
mod roster;

pub(super) use enter::{Arrival, Entrance};

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;

use crate::area::Point;
use crate::close::Cause;
use crate::event::{LinkId, Output, Outputs, Peer, Seat};
use crate::ledger::{OrderId, StreamId};
use crate::limits::{FLAPPERS_MAX, TALKERS_MAX};
use crate::name::Name;
use crate::rate::Table;
use crate::secret::SessionId;
use crate::time::Time;

use super::Shard;
use super::slots::Slots;
use orders::{Pending, Retry};
use presence::{Home, LocalUser};
pub use presence::{PresenceNews, Standing};
pub(super) use room::Room;
use roster::Gathering;
pub use roster::{Question, Row, UserView};

type Map<K, V> = HashMap<K, V, DefaultHashBuilder>;

/// What one shard says to another.
#[derive(Clone, Debug)]
pub enum Word {
    /// This shard has members of a room, or none any more.
    RoomHere {
        /// The room.
        room: Name,
        /// Whether it has.
        here: bool,
    },
    /// A signal to those of your members who are to get it.
    Signal(Arc<FarSignal>),
    /// To a user's home: how its sessions are in this shard.
    Standing {
        /// Who.
        user: Name,
        /// The best of its sessions; `None` when it has none here any more.
        standing: Option<Standing>,
        /// Why the last one here ended; `None` if it went to another shard.
        ended: Option<Cause>,
    },
    /// From a user's home to all: its presence has changed.
    Presence(Arc<PresenceNews>),
    /// Who is here?
    Question {
        /// To be repeated.
        ticket: u64,
        /// Of what.
        question: Question,
    },
    /// These are, in this shard.
    Rows {
        /// The question's.
        ticket: u64,
        /// One for each user.
        rows: Vec<Row>,
    },
    /// A user has a newer session; older ones of it end.
    Single {
        /// Who.
        user: Name,
        /// The newer session.
        session: SessionId,
        /// When it became the user's.
        entered_ms: u64,
    },
}

impl Word {
    /// Whether it may be lost when the others are overloaded.
    pub fn is_volatile(&self) -> bool {
        matches!(self, Word::Signal(_))
    }
}

/// A signal on its way to another shard.
#[derive(Debug)]
pub struct FarSignal {
    room: Name,
    from: Name,
    key: Option<Box<str>>,
    at: Option<Point>,
    data: Box<str>,
    frame: Vec<u8>,
}

/// Everything about chat in one shard.
#[derive(Debug)]
pub(super) struct Lobby {
    seat: Seat,
    rooms: Slots<Room>,
    by_name: Map<Name, u32>,
    by_stream: Map<StreamId, u32>,
    /// Rooms that other shards have and this one hasn't (yet): which shards.
    afar: Map<Name, Vec<u16>>,
    users: Map<Name, LocalUser>,
    by_mailbox: Map<StreamId, Name>,
    homes: Map<Name, Home>,
    /// Users whose presence is to be told later, and when.
    untold: VecDeque<(Time, Name)>,
    watchers: Map<Name, Vec<u32>>,
    orders: Map<OrderId, Pending>,
    next_order: u64,
    gatherings: Map<u64, Gathering>,
    gatherings_due: VecDeque<(Time, u64)>,
    next_ticket: u64,
    /// Rooms that have gathered something since the last look.
    gathered: Vec<u32>,
    /// When the first of them is due.
    flush_at: Time,
    /// When what was written so far is taken to be paid for.
    paid_at: Time,
    /// Rooms of which those on leave have something to hear.
    gists: Vec<u32>,
    digest_at: Time,
    /// Choked links in the order in which they choked.
    choked: VecDeque<(Time, LinkId)>,
    talkers: Table<Peer>,
    flappers: Table<Name>,
    /// Users whose standing is to be looked at.
    touched: BTreeSet<Name>,
    /// What the store had no time for and is asked again, and when.
    retries: VecDeque<(Time, Retry)>,
}

impl Lobby {
    pub(super) fn new(seat: Seat) -> Lobby {
        Lobby {
            seat,
            rooms: Slots::new(),
            by_name: Map::default(),
            by_stream: Map::default(),
            afar: Map::default(),
            users: Map::default(),
            by_mailbox: Map::default(),
            homes: Map::default(),
            untold: VecDeque::new(),
            watchers: Map::default(),
            orders: Map::default(),
            next_order: 0,
            gatherings: Map::default(),
            gatherings_due: VecDeque::new(),
            next_ticket: 0,
            gathered: Vec::new(),
            flush_at: Time::NEVER,
            paid_at: Time::ZERO,
            gists: Vec::new(),
            digest_at: Time::NEVER,
            choked: VecDeque::new(),
            talkers: Table::new(TALKERS_MAX),
            flappers: Table::new(FLAPPERS_MAX),
            touched: BTreeSet::new(),
            retries: VecDeque::new(),
        }
    }

    /// When time alone next brings something, in the shard's time.
    pub(super) fn next_deadline(&self) -> Time {
        let first = |queue: Option<Time>| queue.unwrap_or(Time::NEVER);
        self.flush_at
            .min(self.digest_at)
            .min(first(self.untold.front().map(|(at, _)| *at)))
            .min(first(self.gatherings_due.front().map(|(at, _)| *at)))
            .min(first(self.choked.front().map(|(at, _)| *at)))
            .min(first(self.retries.front().map(|(at, _)| *at)))
    }
}

impl Shard {
    /// What is due in chat, at the end of every input.
    pub(super) fn chat_due(&mut self, at: Time, out: &mut Outputs) {
        self.tell_standings(at, out);
        if self.lobby.next_deadline() > at {
            return;
        }
        self.close_choked(at, out);
        self.retry_due(at, out);
        self.tell_standings(at, out);
        self.tell_presence(at, out);
        self.flush_due(at, out);
        if self.lobby.digest_at <= at {
            self.tell_digests(at, out);
        }
        self.give_up_gatherings(at, out);
    }

    /// Says something to one of the other shards, or to all.
    fn tell_shards(&mut self, to: Option<u16>, word: Word, out: &mut Outputs) {
        if self.lobby.seat.of > 1 {
            out.list.push(Output::Word { to, word });
        }
    }

    /// Another shard says something.
    pub(super) fn word(&mut self, from: u16, word: Word, at: Time, out: &mut Outputs) {
        match word {
            Word::RoomHere { room, here } => self.room_elsewhere(from, room, here, out),
            Word::Signal(signal) => self.far_signal(&signal, at, out),
            Word::Standing { user, standing, ended } => self.home_hears(from, user, standing, ended, at, out),
            Word::Presence(news) => self.presence_changed(&news, at, out),
            Word::Question { ticket, question } => {
                let rows = self.rows(&question);
                self.tell_shards(Some(from), Word::Rows { ticket, rows }, out);
            }
            Word::Rows { ticket, rows } => self.gathered(ticket, rows, at, out),
            Word::Single { user, session, entered_ms } => {
                self.end_older(&user, session, entered_ms, at, out);
                self.answer_newer(&user, session, entered_ms, from, out);
            }
        }
    }
}
