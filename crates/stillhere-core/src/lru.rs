//! A bounded map that forgets what was not used for longest.
//!
//! It is for tables that peers fill: of addresses, of names. Every operation takes constant time; memory grows with the
//! entries up to the bound, is used again, and isn't given back.

use std::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashTable};

/// At most `limit` entries; a new one beyond that takes the place of the one that was not used for longest.
#[derive(Debug)]
pub struct Lru<K, V> {
    limit: usize,
    hasher: DefaultHashBuilder,
    /// Where in `nodes` each key is.
    places: HashTable<u32>,
    nodes: Vec<Node<K, V>>,
    /// The node used last, or [`NONE`].
    newest: u32,
    /// The node to be forgotten next, or [`NONE`].
    oldest: u32,
}

#[derive(Debug)]
struct Node<K, V> {
    key: K,
    value: V,
    newer: u32,
    older: u32,
}

/// No node.
const NONE: u32 = u32::MAX;

impl<K: Hash + Eq, V> Lru<K, V> {
    /// An empty table for `limit` entries, at least 1 and less than 2³².
    pub fn new(limit: usize) -> Lru<K, V> {
        Lru {
            limit: limit.clamp(1, NONE as usize - 1),
            hasher: DefaultHashBuilder::default(),
            places: HashTable::new(),
            nodes: Vec::new(),
            newest: NONE,
            oldest: NONE,
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The value of `key`; looking is no use.
    pub fn peek(&self, key: &K) -> Option<&V> {
        let place = self.place(key)?;
        Some(&self.nodes[place as usize].value)
    }

    /// The value of `key`, which is the newest now.
    pub fn get(&mut self, key: &K) -> Option<&mut V> {
        let place = self.place(key)?;
        self.touch(place);
        Some(&mut self.nodes[place as usize].value)
    }

    /// The value of `key`, which is the newest now; a key that is new gets the default, and may push out the oldest.
    pub fn get_or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        let place = match self.place(&key) {
            Some(place) => {
                self.touch(place);
                place
            }
            None => self.add(key, V::default()),
        };
        &mut self.nodes[place as usize].value
    }

    /// Forgets `key`, and returns its value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let place = self.place(key)?;
        Some(self.take(place))
    }

    fn place(&self, key: &K) -> Option<u32> {
        self.places.find(self.hasher.hash_one(key), |place| self.nodes[*place as usize].key == *key).copied()
    }

    fn add(&mut self, key: K, value: V) -> u32 {
        if self.nodes.len() >= self.limit {
            self.take(self.oldest);
        }
        let place = self.nodes.len() as u32;
        let hash = self.hasher.hash_one(&key);
        self.nodes.push(Node { key, value, newer: NONE, older: NONE });
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        self.places.insert_unique(hash, place, |place| hasher.hash_one(&nodes[*place as usize].key));
        self.link_newest(place);
        place
    }

    /// Takes a node out; the last one moves into its place, so that the nodes stay dense.
    fn take(&mut self, place: u32) -> V {
        self.unlink(place);
        self.forget_place(place);
        let last = self.nodes.len() as u32 - 1;
        if last != place {
            let hash = self.hasher.hash_one(&self.nodes[last as usize].key);
            if let Some(found) = self.places.find_mut(hash, |found| *found == last) {
                *found = place;
            }
            let (newer, older) = (self.nodes[last as usize].newer, self.nodes[last as usize].older);
            *self.older_of(newer) = place;
            *self.newer_of(older) = place;
        }
        self.nodes.swap_remove(place as usize).value
    }

    fn forget_place(&mut self, place: u32) {
        let hash = self.hasher.hash_one(&self.nodes[place as usize].key);
        if let Ok(found) = self.places.find_entry(hash, |found| *found == place) {
            found.remove();
        }
    }

    fn touch(&mut self, place: u32) {
        if self.newest != place {
            self.unlink(place);
            self.link_newest(place);
        }
    }

    fn link_newest(&mut self, place: u32) {
        let older = self.newest;
        self.nodes[place as usize].newer = NONE;
        self.nodes[place as usize].older = older;
        *self.newer_of(older) = place;
        self.newest = place;
    }

    fn unlink(&mut self, place: u32) {
        let (newer, older) = (self.nodes[place as usize].newer, self.nodes[place as usize].older);
        *self.older_of(newer) = older;
        *self.newer_of(older) = newer;
    }

    /// The link from `place` to the next older; that of no node is the head.
    fn older_of(&mut self, place: u32) -> &mut u32 {
        if place == NONE { &mut self.newest } else { &mut self.nodes[place as usize].older }
    }

    /// The link from `place` to the next newer; that of no node is the tail.
    fn newer_of(&mut self, place: u32) -> &mut u32 {
        if place == NONE { &mut self.oldest } else { &mut self.nodes[place as usize].newer }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug)]
    enum Act {
        Add(u8),
        Get(u8),
        Peek(u8),
        Remove(u8),
    }

    fn any_act() -> impl Strategy<Value = Act> {
        let key = 0u8..12;
        prop_oneof![
            key.clone().prop_map(Act::Add),
            key.clone().prop_map(Act::Get),
            key.clone().prop_map(Act::Peek),
            key.prop_map(Act::Remove),
        ]
    }

    proptest! {
        #[test]
        fn it_forgets_what_a_list_by_last_use_forgets(
            limit in 1usize..8, acts in prop::collection::vec(any_act(), 0..200),
        ) {
            let mut lru = Lru::<u8, u32>::new(limit);
            let mut list: Vec<(u8, u32)> = Vec::new();
            for act in acts {
                let at = |list: &Vec<(u8, u32)>, key| list.iter().position(|(k, _)| *k == key);
                match act {
                    Act::Add(key) => {
                        *lru.get_or_default(key) += 1;
                        let entry = at(&list, key).map_or((key, 0), |at| list.remove(at));
                        if list.len() == limit {
                            list.remove(0);
                        }
                        list.push((key, entry.1 + 1));
                    }
                    Act::Get(key) => {
                        let found = lru.get(&key).copied();
                        let entry = at(&list, key).map(|at| list.remove(at));
                        prop_assert_eq!(found, entry.map(|entry| entry.1));
                        list.extend(entry);
                    }
                    Act::Peek(key) => {
                        prop_assert_eq!(lru.peek(&key).copied(), at(&list, key).map(|at| list[at].1));
                    }
                    Act::Remove(key) => {
                        let entry = at(&list, key).map(|at| list.remove(at));
                        prop_assert_eq!(lru.remove(&key), entry.map(|entry| entry.1));
                    }
                }
                prop_assert_eq!(lru.len(), list.len());
                let (mut order, mut place) = (Vec::new(), lru.oldest);
                while place != NONE {
                    let node = &lru.nodes[place as usize];
                    order.push((node.key, node.value));
                    place = node.newer;
                }
                prop_assert_eq!(&order, &list);
            }
        }
    }
}
