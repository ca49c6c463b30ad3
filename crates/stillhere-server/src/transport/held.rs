//! What transports keep of messages that aren't whole yet, and the one bound on all of it.

use std::cell::Cell;
use std::mem;

thread_local! {
    /// Bytes held by all links of this thread.
    static HELD_BYTES: Cell<usize> = const { Cell::new(0) };
}

/// Bytes of something incomplete; counted for the whole thread while they are here.
#[derive(Debug, Default)]
pub(super) struct Held(Vec<u8>);

/// The thread's links hold too much already.
#[derive(Debug)]
pub(super) struct Full;

impl Held {
    /// Adds bytes, unless all links of this thread would then hold more than `max`.
    pub(super) fn extend(&mut self, bytes: &[u8], max: usize) -> Result<(), Full> {
        let total = HELD_BYTES.get() + bytes.len();
        if total > max {
            return Err(Full);
        }
        HELD_BYTES.set(total);
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// Drops bytes from the front, and all memory with the last of them.
    pub(super) fn discard(&mut self, count: usize) {
        HELD_BYTES.set(HELD_BYTES.get() - count);
        if count == self.0.len() {
            self.0 = Vec::new();
        } else {
            self.0.drain(..count);
        }
    }

    pub(super) fn clear(&mut self) {
        self.discard(self.0.len());
    }

    pub(super) fn take(&mut self) -> Held {
        mem::take(self)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD_BYTES.set(HELD_BYTES.get() - self.0.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_on_all_together_and_what_is_dropped_makes_room() {
        let (mut one, mut other) = (Held::default(), Held::default());
        assert!(one.extend(&[1; 6], 10).is_ok());
        assert!(other.extend(&[2; 5], 10).is_err());
        assert!(other.extend(&[2; 4], 10).is_ok());
        one.discard(2);
        assert!(other.extend(&[2; 2], 10).is_ok() && other.extend(&[2], 10).is_err());
        drop(one);
        assert!(other.extend(&[2; 4], 10).is_ok());
        other.clear();
        assert_eq!((HELD_BYTES.get(), other.0.capacity()), (0, 0));
    }
}
