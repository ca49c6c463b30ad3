//! What a session was pushed and hasn't acknowledged: kept for a resume, bounded.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::limits::REPLAY_ENTRIES_MAX;
use crate::wire::frame::HEADER_BYTES;

/// Pushes that the client may not have, oldest first.
#[derive(Debug, Default)]
pub struct Replay {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// How many pushes were before the first entry.
    before: u64,
}

/// Some frames that were pushed together.
#[derive(Debug)]
struct Entry {
    /// Empty if they were shed.
    frames: Bytes,
    pushes: u64,
    /// The position in the user's mailbox that this brings the client to; 0 for none.
    mail: u64,
}

impl Replay {
    /// Keeps what is pushed; what doesn't fit into `bytes_max` any more goes, the oldest first.
    pub fn push(&mut self, frames: Bytes, pushes: u32, mail: u64, bytes_max: usize) {
        self.bytes += frames.len();
        self.entries.push_back(Entry { frames, pushes: pushes.into(), mail });
        while self.bytes > bytes_max || self.entries.len() > REPLAY_ENTRIES_MAX {
            let Some(oldest) = self.entries.pop_front() else { return };
            self.bytes -= oldest.frames.len();
            self.before += oldest.pushes;
        }
    }

    /// Notes that the client will be at this position of its mailbox with the last push; whether there is one.
    pub fn carry_mail(&mut self, mail: u64) -> bool {
        match self.entries.back_mut() {
            Some(last) => {
                last.mail = last.mail.max(mail);
                true
            }
            None => false,
        }
    }

    /// The client has handled so many pushes. Returns the position in the mailbox that it has reached, if that changed.
    pub fn acknowledged(&mut self, count: u64) -> Option<u64> {
        let mut mail = 0;
        while let Some(oldest) = self.entries.front()
            && self.before + oldest.pushes <= count
        {
            self.before += oldest.pushes;
            self.bytes -= oldest.frames.len();
            mail = mail.max(oldest.mail);
            self.entries.pop_front();
        }
        (mail > 0).then_some(mail)
    }

    /// What a client that has received `count` pushes still lacks; `None` if not all of it is there.
    pub fn after(&self, count: u64) -> Option<Vec<Bytes>> {
        let mut skip = count.checked_sub(self.before)?;
        let mut rest = Vec::new();
        for entry in &self.entries {
            if skip < entry.pushes {
                if entry.frames.is_empty() {
                    return None;
                }
                rest.push(without_first(&entry.frames, skip));
            }
            skip = skip.saturating_sub(entry.pushes);
        }
        (skip == 0).then_some(rest)
    }

    /// What is kept says nothing any more of how far a mailbox was handled: it was another user's.
    pub fn forget_mail(&mut self) {
        for entry in &mut self.entries {
            entry.mail = 0;
        }
    }

    /// Forgets all frames, and goes on counting them: who has all of them can still be told so, and says with that how
    /// far its mailbox was handled.
    pub fn shed(&mut self) {
        let mail = self.entries.iter().map(|entry| entry.mail).max();
        let shed = mail.map(|mail| Entry { frames: Bytes::new(), pushes: self.len(), mail });
        (self.entries, self.bytes) = (shed.into_iter().collect(), 0);
    }

    /// Forgets everything and counts from 0.
    pub fn clear(&mut self) {
        *self = Replay::default();
    }

    /// Bytes kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Pushes kept.
    pub fn len(&self) -> u64 {
        self.entries.iter().map(|entry| entry.pushes).sum()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Whole frames without the first `skip` of them.
fn without_first(frames: &Bytes, skip: u64) -> Bytes {
    let mut from = 0;
    for _ in 0..skip {
        let Some(header) = frames.get(from..).and_then(|rest| rest.first_chunk::<HEADER_BYTES>()) else { break };
        from += HEADER_BYTES + u32::from_be_bytes(*header) as usize;
    }
    frames.slice(from.min(frames.len())..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames(bodies: &[u8]) -> Bytes {
        bodies.iter().flat_map(|body| [0, 0, 0, 1, *body]).collect()
    }

    proptest! {
        #[test]
        fn whoever_says_what_it_has_gets_the_rest_or_hears_that_it_is_gone(
            groups in prop::collection::vec(1u8..5, 0..60),
            acked in 0u64..150,
            has in 0u64..150,
            bytes_max in 20usize..400,
            shed_at in 0usize..120,
        ) {
            let mut replay = Replay::default();
            let (mut all, mut shed) = (Vec::new(), 0);
            for (nth, count) in groups.into_iter().enumerate() {
                if nth == shed_at {
                    let counted = replay.len();
                    replay.shed();
                    prop_assert_eq!((replay.bytes(), replay.len()), (0, counted));
                    shed = all.len() as u64;
                }
                let group: Vec<u8> = (0..count).map(|n| all.len() as u8 + n).collect();
                all.extend_from_slice(&group);
                replay.push(frames(&group), u32::from(count), all.len() as u64, bytes_max);
                prop_assert!(replay.bytes() <= bytes_max);
            }
            let total = all.len() as u64;
            let acked = acked.min(total);
            let mail = replay.acknowledged(acked);
            prop_assert!(mail.is_none_or(|mail| mail <= acked));
            let rest: Option<Vec<u8>> = replay.after(has).map(|rest| rest.concat());
            match rest {
                Some(rest) => {
                    prop_assert!(has <= total);
                    prop_assert_eq!(&rest[..], &frames(&all[has as usize..])[..]);
                }
                // What nobody can have received, what was acknowledged, or what was too much.
                None => prop_assert!(has > total || has < acked || has < total - replay.len() || has < shed),
            }
        }
    }

    #[test]
    fn who_has_all_of_what_was_shed_says_with_it_how_far_its_mailbox_was_handled() {
        let mut replay = Replay::default();
        replay.push(frames(&[1, 2]), 2, 7, 1000);
        replay.push(frames(&[3]), 1, 9, 1000);
        replay.shed();
        replay.push(frames(&[4]), 1, 10, 1000);
        assert_eq!((replay.after(2), replay.after(3)), (None, Some(vec![frames(&[4])])));
        assert_eq!((replay.acknowledged(2), replay.acknowledged(3)), (None, Some(9)));
    }
}
