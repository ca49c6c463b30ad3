//! Who has which messages, so that a lost one is seen: pure bookkeeping of seqs.
//!
//! A room's seqs have no holes, and messages come in their order; so what a member has is everything from its joining
//! up to the last one, but for a few runs. Own messages aren't echoed: their acknowledgement stands for them.

/// Runs of missing seqs that are kept of a member. Usually there are none; with a few of one's own messages under way
/// there is a run for each. When there are more, the oldest has had time enough to be filled and is judged.
const GAPS_MAX: usize = 64;
/// The same of a room: messages that nobody of the crowd was acknowledged, said by others or without an answer. When
/// there are more, the oldest count as acknowledged.
const FOREIGN_MAX: usize = 1024;

/// Who has what.
pub(super) struct Rooms {
    /// By room: what was acknowledged to the crowd; `None` until somebody is in.
    acknowledged: Vec<Option<Runs>>,
    /// By member; `None` until it has joined.
    members: Vec<Option<Runs>>,
}

/// All seqs above one and up to another, but for some runs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Runs {
    /// Nothing up to here.
    from: u64,
    last: u64,
    /// What is missing in between: the first and the last of each run, ascending.
    gaps: Vec<(u64, u64)>,
    /// What was missing for good when its run had to go.
    lost: u64,
}

impl Rooms {
    /// Members are spread over the rooms by their number.
    pub(super) fn new(members: u32, rooms: u32) -> Rooms {
        let members = if rooms == 0 { 0 } else { members };
        Rooms { acknowledged: vec![None; rooms as usize], members: vec![None; members as usize] }
    }

    /// Which room a member is in.
    pub(super) fn room_of(&self, member: u32) -> u32 {
        member.checked_rem(self.acknowledged.len() as u32).unwrap_or(0)
    }

    /// A member is in its room, whose newest message was `head`. For the first time: coming back it keeps what it had.
    pub(super) fn joined(&mut self, member: u32, head: u64) {
        let room = self.room_of(member);
        if let Some(runs) = self.members.get_mut(member as usize) {
            runs.get_or_insert_with(|| Runs::new(head));
        }
        if let Some(runs) = self.acknowledged.get_mut(room as usize) {
            runs.get_or_insert_with(|| Runs::new(head));
        }
    }

    /// Up to where a member has been told of its room; `None` until it has joined.
    pub(super) fn last(&self, member: u32) -> Option<u64> {
        self.members.get(member as usize)?.as_ref().map(|runs| runs.last)
    }

    /// A message of another reached a member.
    pub(super) fn received(&mut self, member: u32, seq: u64) {
        let room = self.room_of(member);
        let Some(runs) = self.members.get_mut(member as usize).and_then(Option::as_mut) else { return };
        runs.add(seq);
        if runs.gaps.len() > GAPS_MAX {
            let (first, last) = runs.gaps.remove(0);
            let acknowledged = self.acknowledged.get(room as usize).and_then(Option::as_ref);
            runs.lost += acknowledged.map_or(0, |all| all.count(first, last));
        }
    }

    /// A member's own message was acknowledged.
    pub(super) fn acknowledged(&mut self, member: u32, seq: u64) {
        let room = self.room_of(member);
        if let Some(runs) = self.acknowledged.get_mut(room as usize).and_then(Option::as_mut) {
            runs.add(seq);
            if runs.gaps.len() > FOREIGN_MAX {
                runs.gaps.remove(0);
            }
        }
        self.received(member, seq);
    }

    /// How many acknowledged messages those members haven't got that `is_in` says could have.
    pub(super) fn missing(&self, is_in: impl Fn(u32) -> bool) -> u64 {
        let joined = (0..).zip(&self.members).filter_map(|(index, runs)| Some((index, runs.as_ref()?)));
        let missing = joined.filter(|(index, _)| is_in(*index)).map(|(index, runs)| self.missing_of(index, runs));
        missing.fold(0, u64::saturating_add)
    }

    fn missing_of(&self, member: u32, runs: &Runs) -> u64 {
        let Some(Some(all)) = self.acknowledged.get(self.room_of(member) as usize) else { return 0 };
        let between = runs.gaps.iter().map(|(first, last)| all.count(*first, *last)).fold(0, u64::saturating_add);
        let behind = all.count(runs.last.saturating_add(1), all.last);
        runs.lost.saturating_add(between).saturating_add(behind)
    }
}

impl Runs {
    fn new(from: u64) -> Runs {
        Runs { from, last: from, gaps: Vec::new(), lost: 0 }
    }

    fn add(&mut self, seq: u64) {
        if seq > self.last {
            if seq - self.last > 1 {
                self.gaps.push((self.last + 1, seq - 1));
            }
            self.last = seq;
            return;
        }
        let index = self.gaps.partition_point(|(_, last)| *last < seq);
        let Some((first, last)) = self.gaps.get_mut(index).filter(|(first, _)| *first <= seq) else { return };
        match (*first == seq, *last == seq) {
            (true, true) => drop(self.gaps.remove(index)),
            (true, false) => *first += 1,
            (false, true) => *last -= 1,
            (false, false) => {
                let before = (*first, seq - 1);
                *first = seq + 1;
                self.gaps.insert(index, before);
            }
        }
    }

    /// How many of these seqs it has.
    fn count(&self, first: u64, last: u64) -> u64 {
        let (first, last) = (first.max(self.from.saturating_add(1)), last.min(self.last));
        if first > last {
            return 0;
        }
        let overlap = |gap: &(u64, u64)| (gap.1.min(last) + 1).saturating_sub(gap.0.max(first));
        last - first + 1 - self.gaps.iter().map(overlap).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(from: u64, seqs: &[u64]) -> Runs {
        let mut runs = Runs::new(from);
        seqs.iter().for_each(|seq| runs.add(*seq));
        runs
    }

    #[test]
    fn runs_are_what_a_set_would_be() {
        let mut seed = 7_u64;
        for _ in 0..200 {
            let (mut runs, mut set) = (Runs::new(5), std::collections::BTreeSet::new());
            for _ in 0..40 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let seq = 6 + (seed >> 33) % 40;
                runs.add(seq);
                set.insert(seq);
                assert!(runs.gaps.is_sorted() && runs.gaps.iter().all(|(first, last)| first <= last), "{runs:?}");
            }
            for (first, last) in [(0, 100), (6, 45), (10, 20), (20, 10), (17, 17)] {
                let expected = set.iter().filter(|seq| (first..=last).contains(*seq)).count() as u64;
                assert_eq!(runs.count(first, last), expected, "{first} to {last} of {runs:?}");
            }
        }
        assert_eq!(runs(3, &[1, 3, 4, 6]).count(0, u64::MAX), 2);
    }

    /// Two members in one room, from seq 10 on; both say something, in turns.
    fn two() -> Rooms {
        let mut rooms = Rooms::new(2, 1);
        rooms.joined(0, 10);
        rooms.joined(1, 10);
        for seq in [11, 13, 15] {
            rooms.acknowledged(0, seq);
        }
        for seq in [12, 14] {
            rooms.acknowledged(1, seq);
        }
        rooms
    }

    #[test]
    fn what_others_were_acknowledged_and_one_has_not_got_is_missing() {
        let mut rooms = two();
        assert_eq!(rooms.missing(|_| true), 5);
        for seq in [12, 14] {
            rooms.received(0, seq);
        }
        for seq in [11, 15] {
            rooms.received(1, seq);
        }
        assert_eq!(rooms.missing(|_| true), 1, "13 for the second");
        assert_eq!(rooms.missing(|index| index == 0), 0);
        rooms.received(1, 13);
        assert_eq!(rooms.missing(|_| true), 0);
    }

    #[test]
    fn what_nobody_was_acknowledged_is_not_missing() {
        let mut rooms = two();
        rooms.received(0, 12);
        rooms.received(0, 14);
        // 16 and 17 are somebody else's, or were said and not answered.
        rooms.received(0, 17);
        [11, 13, 15].into_iter().for_each(|seq| rooms.received(1, seq));
        assert_eq!(rooms.missing(|_| true), 0);
        rooms.acknowledged(0, 18);
        assert_eq!(rooms.missing(|_| true), 1, "18 for the second, but neither 16 nor 17");
    }

    #[test]
    fn holes_without_end_are_judged_and_forgotten() {
        let mut rooms = Rooms::new(2, 1);
        rooms.joined(0, 0);
        rooms.joined(1, 0);
        for seq in 1..=1000 {
            rooms.acknowledged(0, seq);
            if seq % 2 == 0 {
                rooms.received(1, seq);
            }
        }
        assert_eq!(rooms.members[1].as_ref().map(|runs| runs.gaps.len()), Some(GAPS_MAX));
        assert_eq!(rooms.missing(|_| true), 500);
    }
}
