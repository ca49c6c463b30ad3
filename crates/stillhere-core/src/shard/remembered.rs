//! Identities of sessions that are closed: for a day, a returning client is recognised by them.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::time::Duration;

use hashbrown::DefaultHashBuilder;

use crate::event::{Identity, Keepsake};
use crate::time::Time;

/// A bounded memory of the closed. The oldest is forgotten first.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    known: HashMap<Identity, Memory, DefaultHashBuilder>,
    /// In the order of closing; an identity that returned and closed again stands here twice, the first time in vain.
    order: VecDeque<(Time, Identity)>,
}

#[derive(Debug)]
struct Memory {
    closed_at: Time,
    /// What a v1 client must prove; nothing for a legacy one.
    keepsake: Option<Box<Keepsake>>,
}

impl Remembered {
    /// Remembers a closed session; forgets as many of the oldest as are above `max`, and tells which.
    pub(super) fn insert(
        &mut self,
        identity: Identity,
        keepsake: Option<Keepsake>,
        now: Time,
        max: usize,
        mut forgotten: impl FnMut(Identity),
    ) {
        let memory = Memory { closed_at: now, keepsake: keepsake.map(Box::new) };
        match self.known.entry(identity) {
            Entry::Occupied(mut entry) => drop(entry.insert(memory)),
            Entry::Vacant(entry) => drop(entry.insert(memory)),
        }
        self.order.push_back((now, identity));
        while self.known.len() > max || self.order.len() > 2 * max + 16 {
            if !self.forget_oldest(&mut forgotten) {
                break;
            }
        }
    }

    /// Takes an identity out because it is back.
    pub(super) fn take(&mut self, identity: &Identity) -> Option<Option<Keepsake>> {
        self.known.remove(identity).map(|memory| memory.keepsake.map(|keepsake| *keepsake))
    }

    /// What a v1 client must prove.
    pub(super) fn keepsake(&self, identity: &Identity) -> Option<&Keepsake> {
        self.known.get(identity)?.keepsake.as_deref()
    }

    /// Forgets at most `max` of those closed longer than `window` ago.
    pub(super) fn expire(&mut self, now: Time, window: Duration, max: usize, mut forgotten: impl FnMut(Identity)) {
        for _ in 0..max {
            match self.order.front() {
                Some((closed_at, _)) if *closed_at + window <= now => self.forget_oldest(&mut forgotten),
                Some(_) | None => return,
            };
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    fn forget_oldest(&mut self, forgotten: &mut impl FnMut(Identity)) -> bool {
        let Some((closed_at, identity)) = self.order.pop_front() else { return false };
        if self.known.get(&identity).is_some_and(|memory| memory.closed_at == closed_at) {
            self.known.remove(&identity);
            forgotten(identity);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Peer;
    use std::net::SocketAddr;

    fn identity(port: u16) -> Identity {
        Identity::Legacy(Peer::from(SocketAddr::from(([127, 0, 0, 1], port))))
    }

    #[test]
    fn the_oldest_is_forgotten_first_and_a_second_closing_counts_anew() {
        let mut remembered = Remembered::default();
        let mut forgotten = Vec::new();
        for (second, port) in [(0, 1), (1, 2), (2, 1), (3, 3)] {
            remembered.insert(identity(port), None, Time::from_millis(second * 1000), 2, |id| forgotten.push(id));
        }
        assert_eq!(forgotten, [identity(2)]);
        assert!(remembered.take(&identity(1)).is_some());
        assert!(remembered.take(&identity(1)).is_none());
        remembered.expire(Time::from_millis(3_999), Duration::from_secs(1), 10, |id| forgotten.push(id));
        assert_eq!(remembered.len(), 1);
        remembered.expire(Time::from_millis(4_000), Duration::from_secs(1), 10, |id| forgotten.push(id));
        assert_eq!((remembered.len(), forgotten.len()), (0, 2));
    }
}
