//! What sessions without a link keep for a resume, bounded together: many that dropped in busy rooms would otherwise
//! hold the bound of each, thousands of times.

use std::collections::VecDeque;

use super::Shard;
use crate::replay::Replay;
use crate::secret::SessionId;

/// The replays of sessions without a link.
#[derive(Debug, Default)]
pub(super) struct Unlinked {
    /// Bytes of all of them.
    bytes: usize,
    /// Sessions that have some, those that began to wait first at the front, and a few that haven't any more.
    order: VecDeque<(u32, SessionId)>,
}

impl Shard {
    /// A session's replay has changed, or whether it has a link: counts it anew, and bounds all.
    pub(super) fn weigh_replay(&mut self, key: u32) {
        self.count_replay(key);
        while self.unlinked.bytes > self.terms.chat.replay_unlinked
            && let Some((key, id)) = self.unlinked.order.pop_front()
        {
            let Some(v1) = self.v1_mut(key).filter(|v1| v1.id == id) else { continue };
            v1.is_weighed = false;
            if v1.weight > 0 {
                v1.replay.as_deref_mut().map(Replay::shed);
                self.count_replay(key);
            }
        }
    }

    fn count_replay(&mut self, key: u32) {
        let Some(session) = self.sessions.get_mut(key as usize) else { return };
        let is_linked = session.link().is_some();
        let Some(v1) = session.v1_part_mut() else { return };
        let weight = v1.replay.as_deref().filter(|_| !is_linked).map_or(0, Replay::bytes);
        self.unlinked.bytes = self.unlinked.bytes + weight - std::mem::replace(&mut v1.weight, weight);
        if weight > 0 && !std::mem::replace(&mut v1.is_weighed, true) {
            self.unlinked.order.push_back((key, v1.id));
            self.tidy_unlinked();
        }
    }

    /// A session goes, and what it keeps with it.
    pub(super) fn unweigh_replay(&mut self, key: u32) {
        let Some(v1) = self.sessions.get_mut(key as usize).and_then(|session| session.v1_part_mut()) else { return };
        self.unlinked.bytes -= std::mem::take(&mut v1.weight);
        v1.is_weighed = false;
    }

    /// Drops from the order who isn't there any more, once they are the most of it.
    fn tidy_unlinked(&mut self) {
        const SPARE: usize = 64;
        if self.unlinked.order.len() <= 2 * self.stats.retained as usize + SPARE {
            return;
        }
        let mut order = std::mem::take(&mut self.unlinked.order);
        order.retain(|(key, id)| {
            let Some(v1) = self.v1_mut(*key).filter(|v1| v1.id == *id) else { return false };
            v1.is_weighed = v1.weight > 0;
            v1.is_weighed
        });
        self.unlinked.order = order;
    }

    /// Counts again, and compares.
    #[cfg(test)]
    pub(super) fn check_unlinked(&self) {
        let unlinked = self.sessions.iter().filter(|(_, session)| session.link().is_none());
        let replays = unlinked.filter_map(|(_, session)| session.v1_part()?.replay.as_deref());
        let there: usize = replays.map(Replay::bytes).sum();
        assert_eq!(self.unlinked.bytes, there, "bytes kept without a link");
        assert!(there <= self.terms.chat.replay_unlinked, "{there} bytes are too many");
    }
}
