//! The named detectors a user picks from, in one table.

use std::time::Duration;

use crate::detector::{Recovery, Rule};

/// Everything that decides how long silence is tolerated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The name in the configuration.
    pub name: &'static str,
    /// What it is for, in a sentence.
    pub purpose: &'static str,
    /// The interval between beats that a session gets when it asks for none.
    pub interval: Duration,
    /// The interval up to which the server stretches a healthy session's; equal to `interval` when it never does.
    pub interval_max: Duration,
    /// The detector's numbers.
    pub rule: Rule,
    /// How long a session may stay on leave before it is closed.
    pub leave_hold: Duration,
    /// After how many misses the server asks a v1 client for a beat; `None` for never.
    pub ask_at: Option<u32>,
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A rule that only looks at the time since the last frame: leave at the `misses`-th miss, alive at the first beat.
const fn silence_of(misses: u8) -> Rule {
    Rule { start: 0, threshold: misses, strikes: 1, recovery: Recovery::Full }
}

/// Every profile. The first is the default.
pub const PROFILES: [Profile; 5] = [
    Profile {
        name: "seed",
        purpose: "the tutorial's detector: patient with loss, and coming back must be earned",
        interval: SECOND.saturating_mul(10),
        interval_max: SECOND.saturating_mul(10),
        rule: Rule::SEED,
        leave_hold: MINUTE.saturating_mul(30),
        ask_at: None,
    },
    Profile {
        name: "seed-demo",
        purpose: "seed with a hold of 30 s, to watch a whole life in a minute or two",
        interval: SECOND.saturating_mul(10),
        interval_max: SECOND.saturating_mul(10),
        rule: Rule::SEED,
        leave_hold: SECOND.saturating_mul(30),
        ask_at: None,
    },
    Profile {
        name: "deadline",
        purpose: "one number: leave after 6.5 intervals without a frame; the server asks for a beat at 2.5",
        interval: SECOND.saturating_mul(10),
        interval_max: SECOND.saturating_mul(10),
        rule: silence_of(6),
        leave_hold: MINUTE.saturating_mul(30),
        ask_at: Some(2),
    },
    Profile {
        name: "game",
        purpose: "quick: leave after 17.5 s without a frame, closed a minute later",
        interval: SECOND.saturating_mul(5),
        interval_max: SECOND.saturating_mul(5),
        rule: silence_of(3),
        leave_hold: MINUTE,
        ask_at: None,
    },
    Profile {
        name: "mobile",
        purpose: "gentle on batteries: beats from every minute, stretched to 590 s while the network lets them through",
        interval: MINUTE,
        interval_max: SECOND.saturating_mul(590),
        rule: silence_of(2),
        leave_hold: MINUTE.saturating_mul(30),
        ask_at: Some(1),
    },
];

impl Profile {
    /// The profile of that name.
    pub fn named(name: &str) -> Option<&'static Profile> {
        PROFILES.iter().find(|profile| profile.name == name)
    }

    /// How long after its last frame a silent session is on leave, if it has never beaten again (`fresh`: cursor at
    /// `start`).
    pub fn bound_fresh(&self) -> Duration {
        self.bound_from(self.rule.start)
    }

    /// The same for a session that was healthy (cursor at zero).
    pub fn bound_healthy(&self) -> Duration {
        self.bound_from(0)
    }

    fn bound_from(&self, cursor: u8) -> Duration {
        let rule = &self.rule;
        let misses =
            u32::from(rule.threshold - cursor) + u32::from(rule.strikes - 1) * u32::from(rule.threshold - rule.start);
        silence_until_miss(self.interval, misses)
    }
}

/// How long after the last sign of life the `nth` miss (from 1) falls: the first at 1.5 intervals, then one every
/// interval.
pub fn silence_until_miss(interval: Duration, nth: u32) -> Duration {
    interval * nth + interval / 2
}

impl Default for Profile {
    fn default() -> Profile {
        PROFILES[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_profile_keeps_its_promise() {
        let bounds: Vec<_> = PROFILES
            .iter()
            .map(|profile| (profile.name, profile.bound_fresh().as_millis(), profile.bound_healthy().as_millis()))
            .collect();
        assert_eq!(
            bounds,
            [
                ("seed", 65_000, 95_000),
                ("seed-demo", 65_000, 95_000),
                ("deadline", 65_000, 65_000),
                ("game", 17_500, 17_500),
                ("mobile", 150_000, 150_000),
            ]
        );
        for profile in PROFILES {
            assert_eq!(profile.rule.check(), Ok(()), "{}", profile.name);
            assert!(profile.interval <= profile.interval_max, "{}", profile.name);
        }
    }
}
