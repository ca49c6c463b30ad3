//! What a link's kernel didn't take yet, in order.
//!
//! Frames that go to many links are shared by all of them: a thousand readers of a room who don't read hold its frames
//! once.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

/// Frames of fewer bytes are copied: sharing them would take more than they do.
const SHARED_MIN: usize = 256;

/// Bytes that wait to be written.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Before all that is in `tail`.
    pieces: VecDeque<Bytes>,
    /// Small and private bytes.
    tail: Vec<u8>,
    bytes: usize,
}

impl Outbox {
    /// Queues bytes of the link's own.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        self.tail.extend_from_slice(bytes);
    }

    /// Queues bytes that others have as well.
    pub(crate) fn push_shared(&mut self, bytes: Bytes) {
        if bytes.len() < SHARED_MIN {
            return self.push(&bytes);
        }
        self.bytes += bytes.len();
        self.cut_tail();
        self.pieces.push_back(bytes);
    }

    /// How many bytes wait.
    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    /// The bytes to write next; empty if nothing waits.
    pub(crate) fn first(&mut self) -> &[u8] {
        if self.pieces.is_empty() {
            self.cut_tail();
        }
        self.pieces.front().map_or(&[], |piece| piece)
    }

    /// So many of [`Outbox::first`] were written.
    pub(crate) fn written(&mut self, count: usize) {
        let Some(piece) = self.pieces.front_mut() else { return };
        let count = count.min(piece.len());
        self.bytes -= count;
        piece.advance(count);
        if piece.is_empty() {
            self.pieces.pop_front();
        }
    }

    fn cut_tail(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push_back(std::mem::take(&mut self.tail).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_shared_is_not_copied() {
        let frames = Bytes::from(vec![7; SHARED_MIN]);
        let mut outbox = Outbox::default();
        outbox.push(b"own");
        outbox.push_shared(frames.clone());
        outbox.push_shared(frames.slice(..SHARED_MIN - 1));
        assert_eq!(outbox.len(), 3 + 2 * SHARED_MIN - 1);
        assert_eq!(outbox.first(), b"own");
        outbox.written(3);
        assert_eq!(outbox.first().as_ptr(), frames.as_ptr());
        outbox.written(SHARED_MIN);
        assert_ne!(outbox.first().as_ptr(), frames.as_ptr());
    }

    /// Takes so many of the first bytes, if there are as many.
    fn take(outbox: &mut Outbox, got: &mut Vec<u8>, most: Option<usize>) {
        let first = outbox.first();
        let count = most.unwrap_or(1).min(first.len());
        got.extend_from_slice(&first[..count]);
        outbox.written(count);
    }

    proptest! {
        #[test]
        fn all_comes_out_in_order_however_it_is_taken(
            pushes in proptest::collection::vec((any::<bool>(), 0..3 * SHARED_MIN), 0..20),
            takes in proptest::collection::vec(1..2 * SHARED_MIN, 1..20),
        ) {
            let (mut outbox, mut wanted, mut got) = (Outbox::default(), Vec::new(), Vec::new());
            let mut takes = takes.into_iter().cycle();
            for (nth, (is_shared, length)) in pushes.into_iter().enumerate() {
                let bytes = vec![nth as u8; length];
                wanted.extend_from_slice(&bytes);
                if is_shared { outbox.push_shared(bytes.into()) } else { outbox.push(&bytes) }
                if nth % 3 == 0 {
                    take(&mut outbox, &mut got, takes.next());
                }
                prop_assert_eq!(outbox.len(), wanted.len() - got.len());
            }
            while !outbox.first().is_empty() {
                take(&mut outbox, &mut got, takes.next());
            }
            prop_assert_eq!((got, outbox.len()), (wanted, 0));
        }
    }
}
