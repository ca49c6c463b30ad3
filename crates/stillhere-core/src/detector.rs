//! The detector: a cursor between two marks that decides, from beats heard and beats missed, whether a peer is here.
//!
//! This file is the counting alone, without any clock: [`crate::life`] turns time into *heard* and *missed*.
//! A peer whose beats are merely lossy hovers between the marks; one that is silent reaches the threshold
//! `strikes` times and is on leave. To come back it must walk the cursor down to zero, so a single lucky beat
//! doesn't make a peer `alive`.

use serde::{Deserialize, Serialize};

/// Whether a session is here. The order is from best to worst, so the status of a whole is the `max` of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Here: it gets everything at once.
    Alive,
    /// Away: it gets a digest.
    Leave,
    /// Gone.
    Close,
}

impl Status {
    /// Every status, in order; metrics and tables iterate over it.
    pub const ALL: [Status; 3] = [Status::Alive, Status::Leave, Status::Close];

    /// The word on the wire, in the API and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Status::Alive => "alive",
            Status::Leave => "leave",
            Status::Close => "close",
        }
    }
}

/// How far one beat moves the cursor down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// One step a beat: a peer earns its way back.
    Step,
    /// To zero at once: only the time since the last frame counts.
    Full,
}

/// The numbers that a detector counts with. `start < threshold`, `threshold ≥ 1`, `strikes ≥ 1`; see [`Rule::check`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Where the cursor begins, and where it returns to after each strike.
    pub start: u8,
    /// The cursor that makes a strike.
    pub threshold: u8,
    /// How many strikes put an alive session on leave.
    pub strikes: u8,
    /// What a beat does to the cursor.
    pub recovery: Recovery,
}

/// A rule that can't work, with what to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// A cursor that starts at or above the threshold would never cross it by counting up.
    #[error("start ({start}) must be below threshold ({threshold}): lower start or raise threshold")]
    StartNotBelowThreshold {
        /// The configured start.
        start: u8,
        /// The configured threshold.
        threshold: u8,
    },
    /// Zero strikes would put every session on leave at once.
    #[error("strikes must be at least 1")]
    NoStrikes,
}

impl Rule {
    /// The tutorial's numbers.
    pub const SEED: Rule = Rule { start: 3, threshold: 5, strikes: 3, recovery: Recovery::Step };

    /// Refuses a rule under which the detector couldn't do its work.
    pub fn check(&self) -> Result<(), RuleError> {
        if self.start >= self.threshold {
            return Err(RuleError::StartNotBelowThreshold { start: self.start, threshold: self.threshold });
        }
        if self.strikes == 0 {
            return Err(RuleError::NoStrikes);
        }
        Ok(())
    }
}

/// The counters of one session: three bytes, moved only by the events of the contract's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detector {
    cursor: u8,
    strikes: u8,
    status: Status,
}

impl Detector {
    /// A new session is alive, its cursor at `start`, without a strike.
    pub fn new(rule: &Rule) -> Detector {
        Detector { cursor: rule.start, strikes: 0, status: Status::Alive }
    }

    /// A beat: the cursor goes down. At zero the strikes are forgiven, and a session on leave is alive again.
    pub fn heard(&mut self, rule: &Rule) {
        if self.status == Status::Close {
            return;
        }
        self.cursor = match rule.recovery {
            Recovery::Step => self.cursor.saturating_sub(1),
            Recovery::Full => 0,
        };
        if self.cursor == 0 {
            self.strikes = 0;
            self.status = Status::Alive;
        }
    }

    /// An interval without a beat: the cursor goes up. At the threshold it restarts, and that is a strike against
    /// an alive session; the last strike puts it on leave.
    pub fn missed(&mut self, rule: &Rule) {
        if self.status == Status::Close {
            return;
        }
        self.cursor = self.cursor.saturating_add(1);
        if self.cursor < rule.threshold {
            return;
        }
        self.cursor = rule.start;
        if self.status == Status::Alive {
            self.strikes += 1;
            if self.strikes >= rule.strikes {
                self.status = Status::Leave;
            }
        }
    }

    /// The session ends: its hold on leave is over, or a legacy link disconnected.
    pub fn closed(&mut self, rule: &Rule) {
        *self = Detector { cursor: rule.start, strikes: 0, status: Status::Close };
    }

    /// The same identity is back. After a close it is on leave, since alive must be earned; else nothing changes.
    pub fn returned(&mut self, rule: &Rule) {
        if self.status == Status::Close {
            *self = Detector { cursor: rule.start, strikes: 0, status: Status::Leave };
        }
    }

    /// Counts by another rule from now on: what was counted by the old one means nothing under it, so the cursor is at
    /// `start` and no strike stands. The status stays.
    pub fn restart(&mut self, rule: &Rule) {
        *self = Detector { cursor: rule.start, strikes: 0, status: self.status };
    }

    /// How many misses in a row, from now, put an alive session on leave; 0 when it isn't alive.
    pub fn misses_left(&self, rule: &Rule) -> u32 {
        if self.status != Status::Alive {
            return 0;
        }
        let to_next_strike = u32::from(rule.threshold - self.cursor);
        let strikes_after_it = u32::from(rule.strikes.saturating_sub(self.strikes + 1));
        to_next_strike + strikes_after_it * u32::from(rule.threshold - rule.start)
    }

    /// Between zero and the threshold; lower is healthier.
    pub fn cursor(&self) -> u8 {
        self.cursor
    }

    /// Strikes since the cursor last was at zero by a beat.
    pub fn strikes(&self) -> u8 {
        self.strikes
    }

    /// What the detector says of the peer.
    pub fn status(&self) -> Status {
        self.status
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Status::{Alive, Close, Leave};
    use proptest::prelude::*;

    /// Every event that the counters know.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Heard,
        Missed,
        HoldOver,
        Disconnect,
        Return,
    }
    use Event::{Disconnect, Heard, HoldOver, Missed, Return};

    type State = (u8, u8, Status);

    fn apply((cursor, strikes, status): State, event: Event, rule: &Rule) -> State {
        let mut detector = Detector { cursor, strikes, status };
        match event {
            Heard => detector.heard(rule),
            Missed => detector.missed(rule),
            HoldOver | Disconnect => detector.closed(rule),
            Return => detector.returned(rule),
        }
        (detector.cursor, detector.strikes, detector.status)
    }

    /// The contract's table with the tutorial's numbers: every kind of state against every event.
    #[test]
    fn every_state_answers_every_event_as_the_contract_says() {
        let table: &[(State, Event, State)] = &[
            // Fresh: alive at start.
            ((3, 0, Alive), Heard, (2, 0, Alive)),
            ((3, 0, Alive), Missed, (4, 0, Alive)),
            ((3, 0, Alive), Disconnect, (3, 0, Close)),
            ((3, 0, Alive), Return, (3, 0, Alive)),
            // Healthy: alive at zero.
            ((0, 0, Alive), Heard, (0, 0, Alive)),
            ((0, 0, Alive), Missed, (1, 0, Alive)),
            ((0, 0, Alive), Disconnect, (3, 0, Close)),
            ((0, 0, Alive), Return, (0, 0, Alive)),
            // One below the threshold: the first strike, the second, and the last.
            ((4, 0, Alive), Heard, (3, 0, Alive)),
            ((4, 0, Alive), Missed, (3, 1, Alive)),
            ((4, 1, Alive), Missed, (3, 2, Alive)),
            ((4, 2, Alive), Missed, (3, 3, Leave)),
            ((4, 2, Alive), Heard, (3, 2, Alive)),
            ((4, 2, Alive), Disconnect, (3, 0, Close)),
            ((4, 2, Alive), Return, (4, 2, Alive)),
            // With strikes, one above zero: forgiven.
            ((1, 2, Alive), Heard, (0, 0, Alive)),
            ((1, 2, Alive), Missed, (2, 2, Alive)),
            // On leave: climbing back, falling, touching the threshold without a further strike.
            ((3, 3, Leave), Heard, (2, 3, Leave)),
            ((3, 3, Leave), Missed, (4, 3, Leave)),
            ((4, 3, Leave), Missed, (3, 3, Leave)),
            ((1, 3, Leave), Heard, (0, 0, Alive)),
            ((1, 3, Leave), Missed, (2, 3, Leave)),
            ((3, 3, Leave), HoldOver, (3, 0, Close)),
            ((2, 3, Leave), Disconnect, (3, 0, Close)),
            ((2, 3, Leave), Return, (2, 3, Leave)),
            // Returned: on leave without a strike.
            ((3, 0, Leave), Heard, (2, 0, Leave)),
            ((3, 0, Leave), Missed, (4, 0, Leave)),
            ((4, 0, Leave), Missed, (3, 0, Leave)),
            ((1, 0, Leave), Heard, (0, 0, Alive)),
            ((3, 0, Leave), HoldOver, (3, 0, Close)),
            ((3, 0, Leave), Disconnect, (3, 0, Close)),
            ((3, 0, Leave), Return, (3, 0, Leave)),
            // Closed: only a return counts.
            ((3, 0, Close), Heard, (3, 0, Close)),
            ((3, 0, Close), Missed, (3, 0, Close)),
            ((3, 0, Close), HoldOver, (3, 0, Close)),
            ((3, 0, Close), Disconnect, (3, 0, Close)),
            ((3, 0, Close), Return, (3, 0, Leave)),
        ];
        for &(state, event, answer) in table {
            assert_eq!(apply(state, event, &Rule::SEED), answer, "{state:?} {event:?}");
        }
    }

    /// The table above is a selection; here is every state that can be reached, against the contract read as a
    /// formula.
    #[test]
    fn every_reachable_state_follows_the_formula() {
        let rule = Rule::SEED;
        let mut reached = vec![(rule.start, 0, Alive)];
        let mut next = 0;
        while next < reached.len() {
            let state = reached[next];
            next += 1;
            for event in [Heard, Missed, HoldOver, Disconnect, Return] {
                if matches!(event, HoldOver) && state.2 == Alive {
                    continue;
                }
                let answer = apply(state, event, &rule);
                assert_eq!(answer, formula(state, event, &rule), "{state:?} {event:?}");
                if !reached.contains(&answer) {
                    reached.push(answer);
                }
            }
        }
        let count = |status| reached.iter().filter(|state| state.2 == status).count();
        assert_eq!((count(Alive), count(Leave), count(Close)), (13, 8, 1), "{reached:?}");
    }

    fn formula((cursor, strikes, status): State, event: Event, rule: &Rule) -> State {
        match (status, event) {
            (Close, Return) => (rule.start, 0, Leave),
            (Close, _) | (_, HoldOver | Disconnect) => (rule.start, 0, Close),
            (_, Return) => (cursor, strikes, status),
            (_, Heard) if cursor <= 1 => (0, 0, Alive),
            (_, Heard) => (cursor - 1, strikes, status),
            (_, Missed) if cursor + 1 < rule.threshold => (cursor + 1, strikes, status),
            (Leave, Missed) => (rule.start, strikes, Leave),
            (Alive, Missed) if strikes + 1 < rule.strikes => (rule.start, strikes + 1, Alive),
            (Alive, Missed) => (rule.start, rule.strikes, Leave),
        }
    }

    #[test]
    fn fresh_and_silent_strikes_at_misses_two_four_six_and_healthy_at_five_seven_nine() {
        for (cursor, expected) in [(3, [2, 4, 6]), (0, [5, 7, 9])] {
            let mut detector = Detector { cursor, strikes: 0, status: Alive };
            let mut strikes_at = Vec::new();
            for miss in 1..=9 {
                let before = detector.strikes;
                detector.missed(&Rule::SEED);
                if detector.strikes > before {
                    strikes_at.push(miss);
                }
                if detector.status == Leave {
                    break;
                }
            }
            assert_eq!(strikes_at, expected);
        }
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        (0u8..20, 1u8..20, 1u8..8, prop_oneof![Just(Recovery::Step), Just(Recovery::Full)])
            .prop_map(|(start, above, strikes, recovery)| Rule { start, threshold: start + above, strikes, recovery })
    }

    proptest! {
        #[test]
        fn misses_left_is_exactly_how_many_misses_it_takes(
            rule in any_rule(), beats in prop::collection::vec(any::<bool>(), 0..60),
        ) {
            let mut detector = Detector::new(&rule);
            for heard in beats {
                if heard { detector.heard(&rule) } else { detector.missed(&rule) }
            }
            let left = detector.misses_left(&rule);
            for _ in 0..left {
                prop_assert_eq!(detector.status(), Alive);
                detector.missed(&rule);
            }
            prop_assert_eq!(detector.status(), Leave);
        }

        #[test]
        fn the_cursor_stays_below_the_threshold_under_any_rule_and_any_change_of_rule(
            rules in prop::collection::vec((any_rule(), prop::collection::vec(0u8..4, 0..30)), 1..4),
        ) {
            let mut detector = Detector::new(&rules[0].0);
            for (rule, events) in rules {
                prop_assert!(rule.check().is_ok());
                detector.restart(&rule);
                for event in events {
                    match event {
                        0 | 1 => detector.missed(&rule),
                        2 => detector.heard(&rule),
                        _ => detector.returned(&rule),
                    }
                    prop_assert!(detector.cursor() < rule.threshold);
                    prop_assert!(detector.status() != Alive || detector.strikes() < rule.strikes);
                }
            }
        }
    }
}
