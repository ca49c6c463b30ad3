//! The mids of the last minutes: which message was it, if it comes again?

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

use stillhere_core::ledger::StreamId;

/// How long a mid is remembered, in milliseconds (the contract's ten minutes).
pub(super) const REMEMBERED_MS: u64 = 600_000;
/// How many mids are remembered in all, about 72 bytes each. At 800 messages a second they fill ten minutes; above
/// that the oldest are forgotten sooner, but a client that repeats what it isn't sure of does so within seconds.
const MIDS_MAX: usize = 1 << 19;

/// A mid in its stream and of its sender, as a keyed hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(u64);

/// Takes a key, which is a hash already, for its own.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        debug_assert!(false, "a key is one number");
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

#[derive(Clone, Copy)]
struct Known {
    seq: u64,
    time_ms: u64,
    body: u64,
}

/// A message's mid and body as hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Print {
    key: Key,
    body: u64,
}

/// What is known of a mid.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nothing.
    New,
    /// This message.
    Same { seq: u64, time_ms: u64 },
    /// Another message.
    Other,
}

/// A map from mid to message, bounded in number and time. The hashes are keyed with the process's own randomness, so
/// that nobody can look for two that collide.
#[derive(Default)]
pub(super) struct Recent {
    hasher: RandomState,
    known: HashMap<Key, Known, BuildHasherDefault<AsItIs>>,
    order: VecDeque<(u64, Key)>,
}

impl Recent {
    pub(super) fn print(&self, stream: StreamId, sender: i64, mid: &str, text: &str, data: Option<&str>) -> Print {
        let key = Key(self.hasher.hash_one((stream, sender, mid)));
        Print { key, body: self.hasher.hash_one((text, data)) }
    }

    /// Whether this message was there within the last ten minutes.
    pub(super) fn look(&self, print: Print, now_ms: u64) -> Seen {
        match self.known.get(&print.key) {
            Some(known) if known.time_ms.saturating_add(REMEMBERED_MS) > now_ms => {
                if known.body == print.body {
                    Seen::Same { seq: known.seq, time_ms: known.time_ms }
                } else {
                    Seen::Other
                }
            }
            _ => Seen::New,
        }
    }

    pub(super) fn note(&mut self, print: Print, seq: u64, time_ms: u64) {
        let Print { key, body } = print;
        self.known.insert(key, Known { seq, time_ms, body });
        self.order.push_back((time_ms, key));
        while let Some(&(noted_ms, oldest)) = self.order.front() {
            if self.order.len() <= MIDS_MAX && noted_ms.saturating_add(REMEMBERED_MS) > time_ms {
                break;
            }
            self.order.pop_front();
            // The same mid may have been noted again since.
            if self.known.get(&oldest).is_some_and(|known| known.time_ms == noted_ms) {
                self.known.remove(&oldest);
            }
        }
    }

    pub(super) fn knows(&self, print: Print) -> bool {
        self.known.contains_key(&print.key)
    }

    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mid_is_the_same_message_for_ten_minutes_and_not_longer() {
        let mut recent = Recent::default();
        let print = |recent: &Recent, stream, sender, text| recent.print(StreamId(stream), sender, "m", text, None);
        let one = print(&recent, 1, 1, "a");
        assert_eq!(recent.look(one, 0), Seen::New);
        recent.note(one, 5, 1000);
        assert_eq!(recent.look(one, 1000 + REMEMBERED_MS - 1), Seen::Same { seq: 5, time_ms: 1000 });
        assert_eq!(recent.look(one, 1000 + REMEMBERED_MS), Seen::New);
        assert_eq!(recent.look(print(&recent, 1, 1, "b"), 2000), Seen::Other);
        assert_eq!(recent.look(print(&recent, 2, 1, "a"), 2000), Seen::New);
        assert_eq!(recent.look(print(&recent, 1, 2, "a"), 2000), Seen::New);
    }

    #[test]
    fn no_more_are_kept_than_the_bound() {
        let mut recent = Recent::default();
        for number in 0..MIDS_MAX as u64 + 10 {
            recent.note(Print { key: Key(number), body: 0 }, number, 1000);
        }
        assert_eq!((recent.known.len(), recent.order.len()), (MIDS_MAX, MIDS_MAX));
        let knows = |number| recent.knows(Print { key: Key(number), body: 0 });
        assert!(!knows(9) && knows(10));
    }
}
