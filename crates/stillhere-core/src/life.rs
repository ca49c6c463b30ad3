//! A detector with its clock: when a peer was last heard, how many beats it has missed since, and what follows when.
//!
//! Nothing runs here. [`Life::heard`] and [`Life::advance`] bring the counters up to a moment; whoever calls may be
//! late, the answers carry the exact moments all the same. A beat writes a few words of memory and sets no timer.

use std::time::Duration;

use crate::close::Cause;
use crate::detector::{Detector, Rule, Status};
use crate::profile::silence_until_miss;
use crate::time::Time;

/// What the detector has to say about a peer at an exact moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The `nth` interval since the last sign of life went by without one.
    Missed {
        /// When.
        at: Time,
        /// Counted from 1.
        nth: u32,
    },
    /// The last strike: the peer is on leave.
    Left {
        /// When.
        at: Time,
        /// Silent or lossy.
        cause: Cause,
    },
    /// The hold is over.
    HoldOver {
        /// When.
        at: Time,
    },
}

/// What one sign of life did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// It came within half an interval of the last one that moved the cursor, so it moved nothing.
    pub early: bool,
    /// It made a peer on leave alive again.
    pub recovered: bool,
}

/// The detector of one session and the times it counts with: 32 bytes.
#[derive(Clone, Debug)]
pub struct Life {
    heard_at: Time,
    /// Meaningful on leave only.
    leave_at: Time,
    /// The low 32 bits of the millisecond at which a beat last moved the cursor. They wrap after 49 days; what this can
    /// cost a peer that was silent for just so long is that its first beat moves nothing.
    moved_at_ms: u32,
    interval_ms: u32,
    misses: u32,
    detector: Detector,
    heard_since_strike: bool,
}

impl Life {
    /// A peer heard for the first time at `now`.
    pub fn new(rule: &Rule, interval: Duration, now: Time) -> Life {
        Life {
            heard_at: now,
            leave_at: Time::ZERO,
            moved_at_ms: low_millis(now),
            interval_ms: interval.as_millis() as u32,
            misses: 0,
            detector: Detector::new(rule),
            heard_since_strike: false,
        }
    }

    /// A peer whose closed session came back at `now`: on leave, and the hold starts.
    pub fn returned(rule: &Rule, interval: Duration, now: Time) -> Life {
        let mut life = Life::new(rule, interval, now);
        life.detector.closed(rule);
        life.detector.returned(rule);
        life.leave_at = now;
        life
    }

    /// A sign of life at `now`. Call [`Life::advance`] up to just before `now` first: what was missed comes before what
    /// is heard, and in the same instant life wins.
    pub fn heard(&mut self, rule: &Rule, now: Time) -> Heard {
        self.heard_at = now;
        self.misses = 0;
        self.heard_since_strike = self.detector.strikes() > 0;
        let since_move_ms = low_millis(now).wrapping_sub(self.moved_at_ms);
        if since_move_ms < self.interval_ms / 2 {
            return Heard { early: true, recovered: false };
        }
        self.moved_at_ms = low_millis(now);
        let before = self.detector.status();
        self.detector.heard(rule);
        if self.detector.strikes() == 0 {
            self.heard_since_strike = false;
        }
        Heard { early: false, recovered: before == Status::Leave && self.detector.status() == Status::Alive }
    }

    /// The next thing that time alone brings, if it comes by `until` (inclusive); call again until there is none.
    pub fn advance(&mut self, rule: &Rule, leave_hold: Duration, until: Time) -> Option<Turn> {
        let (miss_at, hold_at) = (self.miss_at(), self.hold_at(leave_hold));
        if self.detector.status() == Status::Close || miss_at.min(hold_at) > until {
            return None;
        }
        if miss_at > hold_at {
            self.detector.closed(rule);
            return Some(Turn::HoldOver { at: hold_at });
        }
        self.misses += 1;
        let (status, strikes) = (self.detector.status(), self.detector.strikes());
        self.detector.missed(rule);
        if strikes == 0 {
            self.heard_since_strike = false;
        }
        if status == self.detector.status() {
            return Some(Turn::Missed { at: miss_at, nth: self.misses });
        }
        self.leave_at = miss_at;
        let cause = if self.heard_since_strike { Cause::Lossy } else { Cause::Silent };
        Some(Turn::Left { at: miss_at, cause })
    }

    /// When time alone will next bring something.
    pub fn next_deadline(&self, leave_hold: Duration) -> Time {
        if self.detector.status() == Status::Close {
            return Time::NEVER;
        }
        self.miss_at().min(self.hold_at(leave_hold))
    }

    /// When the hold is over; never while the peer isn't on leave.
    pub fn hold_at(&self, leave_hold: Duration) -> Time {
        if self.detector.status() == Status::Leave { self.leave_at + leave_hold } else { Time::NEVER }
    }

    /// The link is gone or back: time stands still for the beats in between, so a peer finds its counters as they were.
    pub fn thaw(&mut self, now: Time) {
        self.heard_at = now;
        self.misses = 0;
    }

    /// How long after its last frame the peer is on leave if it stays silent. For one that is on leave already: how
    /// long it had been silent then, or, if it was heard since, the bound of a fresh peer.
    pub fn detect(&self, rule: &Rule) -> Duration {
        match self.detector.status() {
            Status::Alive => silence_until_miss(self.interval(), self.misses + self.detector.misses_left(rule)),
            Status::Leave if self.heard_at < self.leave_at && self.misses > 0 => self.leave_at.since(self.heard_at),
            Status::Leave | Status::Close => silence_until_miss(self.interval(), Detector::new(rule).misses_left(rule)),
        }
    }

    /// When the peer will be on leave if it stays silent; `None` if it is already.
    pub fn leave_due(&self, rule: &Rule) -> Option<Time> {
        (self.detector.status() == Status::Alive).then(|| self.heard_at + self.detect(rule))
    }

    /// Rewrites its times for another clock.
    pub(crate) fn rebase(&mut self, shift: impl Fn(Time) -> Time) {
        self.heard_at = shift(self.heard_at);
        self.leave_at = shift(self.leave_at);
        // Its millisecond can't be shifted; taking the last sign of life instead costs at most one early beat.
        self.moved_at_ms = low_millis(self.heard_at);
    }

    /// Counts with another interval from the last sign of life on.
    pub fn set_interval(&mut self, interval: Duration) {
        self.interval_ms = interval.as_millis() as u32;
    }

    /// Counts by another rule from now on; see [`Detector::restart`].
    pub fn restart(&mut self, rule: &Rule) {
        self.detector.restart(rule);
        self.heard_since_strike = false;
    }

    /// The interval it counts with.
    pub fn interval(&self) -> Duration {
        Duration::from_millis(u64::from(self.interval_ms))
    }

    /// The last sign of life.
    pub fn heard_at(&self) -> Time {
        self.heard_at
    }

    /// Misses since the last sign of life.
    pub fn misses(&self) -> u32 {
        self.misses
    }

    /// The counters.
    pub fn detector(&self) -> &Detector {
        &self.detector
    }

    fn miss_at(&self) -> Time {
        self.heard_at + silence_until_miss(self.interval(), self.misses + 1)
    }
}

fn low_millis(at: Time) -> u32 {
    (at.as_micros() / 1000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{PROFILES, Profile};
    use proptest::prelude::*;

    const HOLD: Duration = Duration::from_secs(30 * 60);
    const TEN: Duration = Duration::from_secs(10);

    fn fresh() -> Life {
        Life::new(&Rule::SEED, TEN, Time::ZERO)
    }

    /// Beats every ten seconds from `life`'s last, `count` times; returns when the last was.
    fn beat(life: &mut Life, count: u64) -> Time {
        let start = life.heard_at();
        for n in 1..=count {
            let now = start + TEN * n as u32;
            assert_eq!(life.advance(&Rule::SEED, HOLD, now - Duration::from_micros(1)), None);
            life.heard(&Rule::SEED, now);
        }
        life.heard_at()
    }

    fn left(life: &mut Life, until: Time) -> Option<(Time, Cause)> {
        while let Some(turn) = life.advance(&Rule::SEED, HOLD, until) {
            if let Turn::Left { at, cause } = turn {
                return Some((at, cause));
            }
        }
        None
    }

    #[test]
    fn it_is_thirty_two_bytes() {
        assert_eq!(size_of::<Life>(), 32);
    }

    #[test]
    fn a_fresh_and_silent_peer_is_on_leave_after_exactly_65_seconds() {
        let mut life = fresh();
        assert_eq!(life.detect(&Rule::SEED), Duration::from_secs(65));
        assert_eq!(left(&mut life, Time::from_micros(64_999_999)), None);
        assert_eq!(left(&mut life, Time::from_millis(65_000)), Some((Time::from_millis(65_000), Cause::Silent)));
    }

    #[test]
    fn a_healthy_peer_is_on_leave_95_seconds_after_its_last_beat() {
        let mut life = fresh();
        let last = beat(&mut life, 5);
        assert_eq!(life.detect(&Rule::SEED), Duration::from_secs(95));
        assert_eq!(left(&mut life, Time::NEVER), Some((last + Duration::from_secs(95), Cause::Silent)));
    }

    #[test]
    fn the_bound_doesnt_move_while_the_peer_is_silent() {
        let mut life = fresh();
        let last = beat(&mut life, 5);
        for miss in 0..8 {
            assert_eq!(life.detect(&Rule::SEED), Duration::from_secs(95), "after {miss} misses");
            assert_eq!(life.leave_due(&Rule::SEED), Some(last + Duration::from_secs(95)));
            assert!(life.advance(&Rule::SEED, HOLD, last + TEN * (miss + 1) + TEN / 2).is_some());
        }
    }

    #[test]
    fn a_beat_between_strikes_makes_it_lossy() {
        let mut life = fresh();
        let mut now = Time::ZERO;
        // Misses until the first strike, one beat, and silence.
        for _ in 0..2 {
            now = life.next_deadline(HOLD);
            life.advance(&Rule::SEED, HOLD, now);
        }
        assert_eq!(life.detector().strikes(), 1);
        life.heard(&Rule::SEED, now + Duration::from_secs(1));
        assert_eq!(left(&mut life, Time::NEVER).map(|(_, cause)| cause), Some(Cause::Lossy));
    }

    #[test]
    fn the_hold_ends_when_it_was_promised_and_beats_dont_restart_it() {
        let mut life = fresh();
        let (left_at, _) = left(&mut life, Time::NEVER).unwrap();
        life.heard(&Rule::SEED, left_at + TEN);
        let mut over = None;
        while let Some(turn) = life.advance(&Rule::SEED, HOLD, Time::NEVER) {
            if let Turn::HoldOver { at } = turn {
                over = Some(at);
            }
        }
        assert_eq!(over, Some(left_at + HOLD));
        assert_eq!(life.detector().status(), Status::Close);
    }

    #[test]
    fn a_recovery_in_the_instant_the_hold_ends_wins() {
        let over = Time::ZERO + HOLD;
        let mut life = fresh();
        for _ in 0..6 {
            life.detector.missed(&Rule::SEED);
        }
        life.detector.heard(&Rule::SEED);
        life.detector.heard(&Rule::SEED);
        assert_eq!((life.detector.status(), life.detector.cursor()), (Status::Leave, 1));
        life.heard_at = over - TEN;
        assert_eq!(life.advance(&Rule::SEED, HOLD, over - Duration::from_micros(1)), None);
        assert!(life.heard(&Rule::SEED, over).recovered);
        assert_eq!(life.advance(&Rule::SEED, HOLD, over), None);
        assert_eq!(life.detector().status(), Status::Alive);
    }

    #[test]
    fn early_beats_rearm_the_deadline_but_move_the_cursor_once_per_half_interval() {
        let mut life = fresh();
        for n in 1..=9 {
            assert!(life.heard(&Rule::SEED, Time::from_millis(n * 500)).early);
        }
        assert_eq!(life.detector().cursor(), 3);
        assert_eq!(life.next_deadline(HOLD), Time::from_millis(4_500 + 15_000));
        assert!(!life.heard(&Rule::SEED, Time::from_millis(5_000)).early);
        assert_eq!(life.detector().cursor(), 2);
    }

    #[test]
    fn a_returned_peer_earns_alive_with_three_beats() {
        let mut life = Life::returned(&Rule::SEED, TEN, Time::ZERO);
        assert_eq!(life.detector().status(), Status::Leave);
        beat(&mut life, 2);
        assert_eq!(life.detector().status(), Status::Leave);
        beat(&mut life, 1);
        assert_eq!(life.detector().status(), Status::Alive);
    }

    fn bound_holds(profile: &Profile, beats: &[bool], late_us: u64) {
        let mut life = Life::new(&profile.rule, profile.interval, Time::ZERO);
        let mut now = Time::ZERO;
        for &heard in beats {
            now = now + profile.interval;
            while life.advance(&profile.rule, profile.leave_hold, now - Duration::from_micros(1)).is_some() {}
            if heard {
                life.heard(&profile.rule, now);
            }
        }
        let Some(due) = life.leave_due(&profile.rule) else { return };
        let mut left_at = None;
        while left_at.is_none() {
            // Woken late every time: the answer's moment must be exact all the same.
            let until = life.next_deadline(profile.leave_hold) + Duration::from_micros(late_us);
            while let Some(turn) = life.advance(&profile.rule, profile.leave_hold, until) {
                if let Turn::Left { at, .. } = turn {
                    left_at = Some(at);
                    break;
                }
            }
        }
        assert_eq!(left_at, Some(due), "{}", profile.name);
    }

    proptest! {
        #[test]
        fn the_printed_bound_is_the_measured_one(
            beats in prop::collection::vec(any::<bool>(), 0..40), late_us in 0u64..5_000_000,
        ) {
            for profile in PROFILES {
                bound_holds(&profile, &beats, late_us);
            }
        }
    }
}
