//! Bounded copies of rows.

use std::collections::HashMap;
use std::hash::Hash;

/// A copy with the moment of its last use.
struct Copied<T> {
    used: u64,
    it: T,
}

/// Copies of rows. Full, it drops the half that was used longest ago.
pub(super) struct Copies<K, T> {
    map: HashMap<K, Copied<T>>,
}

impl<K: Hash + Eq + Clone, T> Copies<K, T> {
    pub(super) fn new() -> Copies<K, T> {
        Copies { map: HashMap::new() }
    }

    pub(super) fn get(&mut self, key: &K, turn: u64) -> Option<&mut T> {
        self.map.get_mut(key).map(|copied| {
            copied.used = turn;
            &mut copied.it
        })
    }

    pub(super) fn has(&self, key: &K) -> bool {
        self.map.contains_key(key)
    }

    pub(super) fn put(&mut self, key: K, it: T, turn: u64) {
        self.map.insert(key, Copied { used: turn, it });
    }

    pub(super) fn remove(&mut self, key: &K) {
        self.map.remove(key);
    }

    /// Called between transactions only, so that what one of them looks at stays.
    pub(super) fn shrink(&mut self, max: usize) {
        if self.map.len() <= max {
            return;
        }
        let mut uses: Vec<u64> = self.map.values().map(|copied| copied.used).collect();
        let middle = uses.len() / 2;
        let (_, middle, _) = uses.select_nth_unstable(middle);
        let middle = *middle;
        self.map.retain(|_, copied| copied.used > middle);
    }

    pub(super) fn clear(&mut self) {
        self.map.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let mut copies = Copies::new();
        for key in 0..10 {
            copies.put(key, (), key);
        }
        copies.get(&0, 10);
        copies.shrink(10);
        assert!((0..10).all(|key| copies.has(&key)), "they all fit");
        copies.shrink(9);
        let kept: Vec<u64> = (0..10).filter(|key| copies.has(key)).collect();
        assert_eq!(kept, [0, 7, 8, 9]);
    }
}
