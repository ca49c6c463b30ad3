//! A lazy timing wheel: entries are looked at no earlier than they asked for, and put back if their deadline has
//! moved. A beat therefore sets no timer; it only makes the next look a short one.

use std::time::Duration;

use crate::time::Time;

/// How late a look may be, in microseconds. A power of two, small beside the second that the contract allows.
const TICK_US: u64 = 1 << 14;
/// Slots in the wheel: a look further ahead than 33 s is taken in several steps.
const SLOTS: usize = 2048;
const WORDS: usize = SLOTS / 64;

/// What an entry names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A session, by its key.
    Session(u32),
    /// A link, by its number.
    Link(u32),
}

const LINK_BIT: u32 = 1 << 31;

/// The wheel. Each entry costs four bytes.
#[derive(Debug)]
pub(super) struct Wheel {
    slots: Vec<Vec<u32>>,
    occupied: [u64; WORDS],
    /// The tick up to which (inclusive) slots have been taken.
    tick: u64,
    /// The rest of the slot being worked through.
    due: Vec<u32>,
}

impl Wheel {
    pub(super) fn new() -> Wheel {
        Wheel { slots: vec![Vec::new(); SLOTS], occupied: [0; WORDS], tick: 0, due: Vec::new() }
    }

    /// The tick at which an entry for `at` would be looked at: never before `at`, unless `at` is beyond the wheel.
    pub(super) fn tick_for(&self, at: Time) -> u32 {
        let tick = at.as_micros().div_ceil(TICK_US);
        tick.clamp(self.tick + 1, self.tick + SLOTS as u64 - 1) as u32
    }

    /// Whether a look at tick `one` comes before a look at tick `other`.
    pub(super) fn is_before(one: u32, other: u32) -> bool {
        // Ticks wrap after two years; looks are never further apart than the wheel is long.
        one.wrapping_sub(other) as i32 <= -1
    }

    /// Adds an entry to be looked at at `tick`, from [`Wheel::tick_for`].
    pub(super) fn add(&mut self, entry: Entry, tick: u32) {
        let slot = tick as usize % SLOTS;
        self.slots[slot].push(match entry {
            Entry::Session(key) => key,
            Entry::Link(id) => id | LINK_BIT,
        });
        self.occupied[slot / 64] |= 1 << (slot % 64);
    }

    /// The next entry that is due at `now`, with the tick it was added for.
    pub(super) fn pop(&mut self, now: Time) -> Option<(Entry, u32)> {
        while self.due.is_empty() {
            let target = now.as_micros() / TICK_US;
            match self.next_occupied() {
                Some(tick) if tick <= target => {
                    let slot = tick as usize % SLOTS;
                    self.tick = tick;
                    // The slot's memory goes with it: kept in all slots it would add up to far more than is in use.
                    self.due = std::mem::take(&mut self.slots[slot]);
                    self.occupied[slot / 64] &= !(1 << (slot % 64));
                }
                Some(_) | None => {
                    self.tick = self.tick.max(target);
                    return None;
                }
            }
        }
        let entry = self.due.pop()?;
        let entry = if entry & LINK_BIT == 0 { Entry::Session(entry) } else { Entry::Link(entry & !LINK_BIT) };
        Some((entry, self.tick as u32))
    }

    /// When the next entry is due; in the past if some are overdue.
    pub(super) fn next(&self) -> Option<Time> {
        let tick = if self.due.is_empty() { self.next_occupied()? } else { self.tick };
        Some(Time::from_micros(tick * TICK_US))
    }

    /// The first tick after the present one whose slot isn't empty.
    fn next_occupied(&self) -> Option<u64> {
        let start = self.tick + 1;
        let first = start as usize % SLOTS;
        // The first word is seen twice: from `first` upwards now, and the part below after a whole turn.
        for step in 0..=WORDS {
            let index = (first / 64 + step) % WORDS;
            let mut word = self.occupied[index];
            if step == 0 {
                word &= u64::MAX << (first % 64);
            } else if step == WORDS {
                word &= !(u64::MAX << (first % 64));
            }
            if word != 0 {
                let slot = index * 64 + word.trailing_zeros() as usize;
                return Some(start + ((slot + SLOTS - first) % SLOTS) as u64);
            }
        }
        None
    }
}

/// The longest that a look can be later than what it is for.
pub const LOOK_LATE_MAX: Duration = Duration::from_micros(TICK_US);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs a wheel over `deadlines` the way the shard does; returns when each fired.
    fn run(deadlines: &[u64], step_us: u64) -> Vec<u64> {
        let mut wheel = Wheel::new();
        let mut armed = vec![0; deadlines.len()];
        let mut fired = vec![None; deadlines.len()];
        for (key, &deadline) in deadlines.iter().enumerate() {
            armed[key] = wheel.tick_for(Time::from_micros(deadline));
            wheel.add(Entry::Session(key as u32), armed[key]);
        }
        let mut now = 0;
        while let Some(next) = wheel.next() {
            now = next.as_micros().max(now) + step_us;
            while let Some((Entry::Session(key), tick)) = wheel.pop(Time::from_micros(now)) {
                let key = key as usize;
                assert_eq!(tick, armed[key]);
                if deadlines[key] <= now {
                    fired[key] = Some(now);
                } else {
                    armed[key] = wheel.tick_for(Time::from_micros(deadlines[key]));
                    wheel.add(Entry::Session(key as u32), armed[key]);
                }
            }
        }
        fired.into_iter().map(|at| at.unwrap()).collect()
    }

    proptest! {
        #[test]
        fn every_entry_is_looked_at_once_due_and_at_most_a_tick_late(
            deadlines in prop::collection::vec(1u64..200_000_000, 1..50),
        ) {
            for (deadline, fired) in deadlines.iter().zip(run(&deadlines, 0)) {
                prop_assert!(fired >= *deadline && fired < deadline + TICK_US, "{deadline} at {fired}");
            }
        }

        #[test]
        fn a_late_caller_loses_no_entry(
            deadlines in prop::collection::vec(1u64..200_000_000, 1..50), late in 1u64..100_000_000,
        ) {
            for (deadline, fired) in deadlines.iter().zip(run(&deadlines, late)) {
                prop_assert!(fired >= *deadline);
            }
        }
    }
}
