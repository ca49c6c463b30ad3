//! A room, as far as this shard has sessions in it: who is to get what, and what has gathered for all of them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

use crate::area::{Grid, Point};
use crate::chat::Reach;
use crate::ledger::{RoomState, StreamId};
use crate::limits::{DIGEST_PRESENCE_MAX, DIGEST_PREVIEWS, DIGEST_SIGNALS_MAX};
use crate::name::Name;
use crate::rate::Bucket;
use crate::time::Time;

/// A room of this shard.
#[derive(Debug)]
pub(crate) struct Room {
    pub(super) name: Name,
    pub(super) stream: StreamId,
    pub(super) state: RoomState,
    /// The newest position that the store has told.
    pub(super) head: u64,
    pub(super) members: Vec<Member>,
    /// How many members get digests, or would if they could read.
    pub(super) digesting: usize,
    pub(super) batch: Batch,
    /// Whether the room stands in the list of those that have gathered something.
    pub(super) gathering: bool,
    /// When the last batch went out.
    pub(super) flushed_at: Time,
    /// Other shards that have members.
    pub(super) elsewhere: Vec<u16>,
    /// Where members are, in an area.
    pub(super) grid: Option<Grid>,
    pub(super) gist: Gist,
    /// Users who may only listen.
    pub(super) muted: HashMap<Name, Time>,
    pub(super) traffic: Bucket,
}

/// A session in a room. Small and together, since every fan-out goes over all of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    /// The session's key.
    pub(super) key: u32,
    pub(super) reach: Reach,
    /// Whether a page is under way, or to be asked for again soon.
    pub(super) fetching: bool,
    /// How many `join`s are still to be answered: what it missed comes behind the answers.
    pub(super) held: u16,
    /// The seq up to which everything was pushed.
    pub(super) delivered: u64,
}

/// What has gathered for a room since the last write.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Durable messages, consecutive.
    pub(super) messages: Vec<u8>,
    /// The seq of the first.
    pub(super) first: u64,
    pub(super) message_count: u32,
    /// Signals and presence.
    pub(super) volatile: Vec<u8>,
    pub(super) volatile_count: u32,
    /// Which frames which session doesn't get, because it sent them.
    pub(super) own: Vec<Own>,
}

/// A frame of a batch that one session doesn't get.
#[derive(Clone, Debug)]
pub(super) struct Own {
    pub(super) key: u32,
    pub(super) message: bool,
    pub(super) range: Range<usize>,
}

/// What a batch becomes for those who get it.
pub(super) struct Parcel {
    pub(super) frames: Bytes,
    pub(super) pushes: u32,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.volatile.is_empty()
    }

    pub(super) fn add_message(&mut self, seq: u64, frame: &[u8], by: Option<u32>) {
        if self.messages.is_empty() {
            self.first = seq;
        }
        let from = self.messages.len();
        self.messages.extend_from_slice(frame);
        self.message_count += 1;
        let range = from..self.messages.len();
        self.own.extend(by.map(|key| Own { key, message: true, range }));
    }

    pub(super) fn add_volatile(&mut self, frame: &[u8], by: impl IntoIterator<Item = u32>) {
        let from = self.volatile.len();
        self.volatile.extend_from_slice(frame);
        self.volatile_count += 1;
        let range = from..self.volatile.len();
        self.own.extend(by.into_iter().map(|key| Own { key, message: false, range: range.clone() }));
    }

    /// All of it, or only what is volatile.
    pub(super) fn parcel(&self, with_messages: bool) -> Parcel {
        if with_messages {
            Parcel {
                frames: [&self.messages[..], &self.volatile].concat().into(),
                pushes: self.message_count + self.volatile_count,
            }
        } else {
            Parcel { frames: Bytes::copy_from_slice(&self.volatile), pushes: self.volatile_count }
        }
    }

    /// The same without what this session sent.
    pub(super) fn parcel_for(&self, key: u32, with_messages: bool) -> Parcel {
        let mut parcel = Parcel { frames: Bytes::new(), pushes: 0 };
        let mut frames = Vec::new();
        for (message, bytes, count) in
            [(true, &self.messages, self.message_count), (false, &self.volatile, self.volatile_count)]
        {
            if message && !with_messages {
                continue;
            }
            let (mut from, mut own) = (0, 0);
            for Own { range, .. } in self.own.iter().filter(|own| own.key == key && own.message == message) {
                frames.extend_from_slice(&bytes[from..range.start]);
                from = range.end;
                own += 1;
            }
            frames.extend_from_slice(&bytes[from..]);
            parcel.pushes += count - own;
        }
        parcel.frames = frames.into();
        parcel
    }

    /// Empties it; the memory of an unusual moment is given back.
    pub(super) fn clear(&mut self) {
        for bytes in [&mut self.messages, &mut self.volatile] {
            bytes.clear();
            bytes.shrink_to(Batch::KEPT);
        }
        (self.first, self.message_count, self.volatile_count) = (0, 0, 0);
        self.own.clear();
    }

    /// Bytes of memory that an idle room keeps for its next batch.
    const KEPT: usize = 4 * 1024;
}

/// What those on leave will be told of a room: what happened since the last digest.
#[derive(Debug, Default)]
pub(super) struct Gist {
    pub(super) count: u64,
    pub(super) previews: VecDeque<Preview>,
    /// The latest signal of each sender and key, the oldest first.
    pub(super) signals: VecDeque<Latest>,
    pub(super) presence: VecDeque<(Name, Box<str>)>,
    /// Bytes that each of those on leave would have got.
    pub(super) skipped: u64,
    /// Whether the room stands in the list of those to be looked at.
    pub(super) listed: bool,
}

/// The beginning of a message.
#[derive(Debug)]
pub(super) struct Preview {
    pub(super) seq: u64,
    pub(super) from: Box<str>,
    pub(super) text: Box<str>,
}

/// The latest signal of a sender and key.
#[derive(Debug)]
pub(super) struct Latest {
    pub(super) from: Name,
    pub(super) key: Option<Box<str>>,
    pub(super) at: Option<Point>,
    pub(super) data: Box<str>,
}

impl Gist {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0 && self.signals.is_empty() && self.presence.is_empty()
    }

    /// Whose signals and presence it has.
    pub(super) fn users(&self) -> HashSet<&Name> {
        let senders = self.signals.iter().map(|latest| &latest.from);
        senders.chain(self.presence.iter().map(|(user, _)| user)).collect()
    }

    pub(super) fn add_message(&mut self, preview: Preview) {
        self.count += 1;
        if self.previews.len() == DIGEST_PREVIEWS {
            self.previews.pop_front();
        }
        self.previews.push_back(preview);
    }

    pub(super) fn add_signal(&mut self, latest: Latest) {
        let same = |known: &Latest| known.from == latest.from && known.key == latest.key;
        // The search is short: a digest holds few, and only while somebody is on leave.
        if let Some(place) = self.signals.iter().position(same) {
            self.signals.remove(place);
        } else if self.signals.len() == DIGEST_SIGNALS_MAX {
            self.signals.pop_front();
        }
        self.signals.push_back(latest);
    }

    pub(super) fn add_presence(&mut self, user: &Name, presence: Box<str>) {
        if let Some(place) = self.presence.iter().position(|(known, _)| known == user) {
            self.presence.remove(place);
        } else if self.presence.len() == DIGEST_PRESENCE_MAX {
            self.presence.pop_front();
        }
        self.presence.push_back((user.clone(), presence));
    }

    pub(super) fn clear(&mut self) {
        *self = Gist { listed: self.listed, ..Gist::default() };
    }
}

impl Room {
    pub(super) fn new(name: Name, stream: StreamId, head: u64, state: RoomState) -> Room {
        let grid = state.radius.and_then(Grid::new);
        Room {
            name,
            stream,
            state,
            head,
            members: Vec::new(),
            digesting: 0,
            batch: Batch::default(),
            gathering: false,
            flushed_at: Time::ZERO,
            elsewhere: Vec::new(),
            grid,
            gist: Gist::default(),
            muted: HashMap::default(),
            traffic: Bucket::default(),
        }
    }

    /// Lets a user only listen for so long; zero ends it.
    pub(super) fn mute(&mut self, user: &Name, span: Duration, at: Time) {
        self.muted.retain(|_, until| *until > at);
        if span.is_zero() {
            self.muted.remove(user);
        } else {
            self.muted.insert(user.clone(), at + span);
        }
    }

    /// For how long a user may only listen.
    pub(super) fn muted_for(&self, user: &Name, at: Time) -> Option<Duration> {
        self.muted.get(user).map(|until| until.since(at)).filter(|left| !left.is_zero())
    }
}

/// Whether a member counts among those who get digests.
pub(super) fn gets_digests(reach: Reach) -> bool {
    matches!(reach, Reach::Digest | Reach::Choked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_leaves_out_what_its_reader_sent() {
        let mut batch = Batch::default();
        batch.add_message(7, b"m7", Some(1));
        batch.add_message(8, b"m8", None);
        batch.add_volatile(b"s1", [2]);
        batch.add_volatile(b"s2", [1, 2]);
        let read = |parcel: Parcel| (String::from_utf8(parcel.frames.to_vec()).unwrap(), parcel.pushes);
        assert_eq!(read(batch.parcel(true)), ("m7m8s1s2".to_owned(), 4));
        assert_eq!(read(batch.parcel(false)), ("s1s2".to_owned(), 2));
        assert_eq!(read(batch.parcel_for(1, true)), ("m8s1".to_owned(), 2));
        assert_eq!(read(batch.parcel_for(2, true)), ("m7m8".to_owned(), 2));
        assert_eq!(read(batch.parcel_for(2, false)), (String::new(), 0));
        assert_eq!(batch.first, 7);
    }

    #[test]
    fn a_gist_keeps_the_latest_of_each_and_is_bounded() {
        let mut gist = Gist::default();
        let latest = |from: usize, data: &str| Latest {
            from: Name::of_store(format!("u{from}")),
            key: None,
            at: None,
            data: data.into(),
        };
        for n in 0..DIGEST_SIGNALS_MAX + 5 {
            gist.add_signal(latest(n, "1"));
        }
        gist.add_signal(latest(7, "2"));
        assert_eq!(gist.signals.len(), DIGEST_SIGNALS_MAX);
        assert_eq!(gist.signals.iter().filter(|latest| latest.from.as_str() == "u7").count(), 1);
        assert_eq!(&*gist.signals.back().unwrap().data, "2");
        assert_eq!(gist.signals.front().unwrap().from.as_str(), "u5");
    }
}
