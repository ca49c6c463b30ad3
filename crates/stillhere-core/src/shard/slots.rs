//! Numbered places that grow without moving anybody: memory comes in chunks, so growth copies nothing and leaves
//! nothing behind. (Doubled vectors left a fifth of a kilobyte a link behind, freed but still resident.)

/// Places in a chunk; about 64 KiB of sessions or links.
const CHUNK: usize = 1024;

/// A table of places. Whoever numbers them keeps the numbers small and uses them again.
#[derive(Debug)]
pub(super) struct Slots<T> {
    chunks: Vec<Box<[Option<T>]>>,
    /// Places that [`Slots::insert`] has given away and got back.
    free: Vec<u32>,
    len: usize,
}

impl<T> Slots<T> {
    pub(super) fn new() -> Slots<T> {
        Slots { chunks: Vec::new(), free: Vec::new(), len: 0 }
    }

    pub(super) fn get(&self, place: usize) -> Option<&T> {
        self.chunks.get(place / CHUNK)?[place % CHUNK].as_ref()
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        self.chunks.get_mut(place / CHUNK)?[place % CHUNK].as_mut()
    }

    /// Puts `value` into a place of the caller's choice. A table filled this way isn't filled by [`Slots::insert`].
    pub(super) fn put(&mut self, place: usize, value: T) {
        while self.places() <= place {
            self.chunks.push((0..CHUNK).map(|_| None).collect());
        }
        let before = self.chunks[place / CHUNK][place % CHUNK].replace(value);
        debug_assert!(before.is_none(), "a place is free when it is filled");
        self.len += usize::from(before.is_none());
    }

    /// Puts `value` into any free place, and tells which.
    pub(super) fn insert(&mut self, value: T) -> usize {
        // Without a place that came back, all below `len` are taken.
        let place = self.free.pop().map_or(self.len, |place| place as usize);
        self.put(place, value);
        place
    }

    /// Empties a place that [`Slots::insert`] filled.
    pub(super) fn remove(&mut self, place: usize) -> Option<T> {
        let value = self.take(place)?;
        self.free.push(place as u32);
        Some(value)
    }

    /// Empties a place that [`Slots::put`] filled.
    pub(super) fn take(&mut self, place: usize) -> Option<T> {
        let value = self.chunks.get_mut(place / CHUNK)?[place % CHUNK].take()?;
        self.len -= 1;
        Some(value)
    }

    /// How many places are taken.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many places there are.
    pub(super) fn places(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    /// Those taken, with their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &T)> + Clone {
        self.chunks.iter().flatten().enumerate().filter_map(|(place, slot)| Some((place, slot.as_ref()?)))
    }

    /// Those taken, to change.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.chunks.iter_mut().flatten().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_is_a_map_whose_keys_are_small_and_used_again(steps in prop::collection::vec((any::<bool>(), 0usize..3000), 1..3000)) {
            let mut slots = Slots::new();
            let mut model = BTreeMap::new();
            let mut most = 0;
            for (insert, n) in steps {
                if insert {
                    prop_assert_eq!(model.insert(slots.insert(n), n), None);
                } else if let Some(&place) = model.keys().nth(n % model.len().max(1)) {
                    prop_assert_eq!(slots.remove(place), model.remove(&place));
                }
                most = most.max(model.len());
                prop_assert_eq!(slots.len(), model.len());
            }
            prop_assert!(slots.iter().eq(model.iter().map(|(place, value)| (*place, value))));
            prop_assert!(slots.places() <= most.next_multiple_of(CHUNK));
        }
    }
}
