//! What was seen of one connection, and the book of them.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// Connections that one port writes down. Whoever makes more has failed long before, and the port closes.
pub(super) const VISITS_MAX: usize = 1_000;

/// The protocol's time for a welcome.
const WELCOME: Duration = Duration::from_secs(10);
/// What a client may be late without failing: its machine may be busy, not least with the server.
pub(super) const SLACK: Duration = Duration::from_secs(1);
/// What a client of somebody else's server may take to give up; nothing is known of its intervals.
const PATIENCE_OTHER: Duration = Duration::from_secs(60);

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    /// The full protocol: it says hello.
    V1,
    /// The tutorial's: it beats, and never hears anything.
    Legacy,
    /// What the options' frame says.
    Other,
}

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// The client closed it, or broke it off.
    Client,
    /// The server did.
    Server,
}

/// What a client was told of coming back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Not before this time has passed.
    After(Duration),
    /// Never.
    Never,
}

/// One connection. All moments are since the run began.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Visit {
    /// Which behaviour it met, an index into the port's.
    pub(super) behaviour: usize,
    /// When it was accepted.
    pub(super) opened: Duration,
    /// When it ended; `None` while it is open.
    pub(super) ended: Option<Duration>,
    /// Who ended it.
    pub(super) by: Option<By>,
    /// What the client speaks; `None` while it has said nothing.
    pub(super) speaks: Option<Speaks>,
    /// The interval that it was granted; `None` unless it was welcomed.
    pub(super) interval: Option<Duration>,
    /// When the last frame that counts as life was sent; `None` if there was none.
    pub(super) fed: Option<Duration>,
    /// When it was told something of coming back, and what.
    pub(super) told: Option<(Duration, Told)>,
    /// Complete frames from it.
    pub(super) frames: u64,
    /// When the last of them came.
    pub(super) heard: Option<Duration>,
    /// Between the first two of them: a legacy client's interval.
    pub(super) first_gap: Option<Duration>,
    /// The longest time without one, from the first on.
    pub(super) longest_gap: Duration,
    /// Bytes from it.
    pub(super) bytes_in: u64,
    /// Bytes that it was sent, as far as the kernel took them.
    pub(super) bytes_out: u64,
}

impl Visit {
    pub(super) fn new(behaviour: usize, opened: Duration) -> Visit {
        Visit {
            behaviour,
            opened,
            ended: None,
            by: None,
            speaks: None,
            interval: None,
            fed: None,
            told: None,
            frames: 0,
            heard: None,
            first_gap: None,
            longest_gap: Duration::ZERO,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// A complete frame came from the client.
    pub(super) fn hear(&mut self, now: Duration) {
        self.frames += 1;
        if let Some(before) = self.heard.replace(now) {
            let gap = now.saturating_sub(before);
            self.first_gap.get_or_insert(gap);
            self.longest_gap = self.longest_gap.max(gap);
        }
    }

    /// It has ended; only the first word on it counts.
    pub(super) fn end(&mut self, now: Duration, by: By) {
        if self.ended.is_none() {
            (self.ended, self.by) = (Some(now), Some(by));
        }
    }

    /// How long the client has been silent at worst, up to the end of the link or `now`.
    pub(super) fn silence(&self, now: Duration) -> Duration {
        let last = self.heard.unwrap_or(self.opened);
        self.longest_gap.max(self.ended.unwrap_or(now).saturating_sub(last))
    }

    /// Since when the client has heard nothing that it may take for life.
    pub(super) fn silent_since(&self) -> Duration {
        self.fed.unwrap_or(self.opened)
    }

    /// How long the client may hold a link on which it hears nothing.
    pub(super) fn patience(&self) -> Duration {
        match (self.speaks, self.interval) {
            (Some(Speaks::V1), Some(interval)) => interval * 5 / 2 + SLACK,
            (Some(Speaks::V1) | None, _) => WELCOME + SLACK,
            (Some(Speaks::Legacy | Speaks::Other), _) => PATIENCE_OTHER,
        }
    }

    /// Whether the link lasted an interval with its server, so that coming back at once is allowed.
    pub(super) fn is_proven(&self) -> bool {
        let (Some(interval), Some(ended)) = (self.interval, self.ended) else { return false };
        ended.saturating_sub(self.opened) >= interval
    }
}

/// All connections of a port, in the order in which they came.
pub(super) type Book = Rc<RefCell<Vec<Visit>>>;
