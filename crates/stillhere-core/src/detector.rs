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
    pub start: u16,
    /// The cursor that makes a strike.
    pub threshold: u16,
    /// How many strikes put an alive session on leave.
    pub strikes: u16,
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
        start: u16,
        /// The configured threshold.
        threshold: u16,
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

/// The counters of one session: six bytes, moved only by the events of the contract's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detector {
    cursor: u16,
    strikes: u16,
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
        self.cursor += 1;
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

    /// New numbers for a running session: the cursor and strikes are kept where they still make sense.
    pub fn adapt(&mut self, rule: &Rule) {
        self.cursor = self.cursor.min(rule.threshold - 1);
        self.strikes = self.strikes.min(rule.strikes - u16::from(self.status == Status::Alive));
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
    pub fn cursor(&self) -> u16 {
        self.cursor
    }

    /// Strikes since the cursor last was at zero by a beat.
    pub fn strikes(&self) -> u16 {
        self.strikes
    }

    /// What the detector says of the peer.
    pub fn status(&self) -> Status {
        self.status
    }
}
