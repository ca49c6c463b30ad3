//! What a shard counts. Plain numbers: whoever wants them asks the shard's thread for a copy.

use std::time::Duration;

use crate::close::{Cause, CloseCode};
use crate::detector::Status;
use crate::event::{Mode, Transport};
use crate::session::Changed;

/// Why something was turned away before it could become a session's affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The first byte was TLS's, and there is no certificate, no agreement, or no end of the handshake in time.
    Tls,
    /// HTTP, but no request that could become a WebSocket: another method or version, malformed, too long or too slow.
    Http,
    /// An HTTP request for another path than the WebSocket's.
    Path,
    /// An HTTP request that isn't, or not rightly, for a WebSocket.
    Upgrade,
    /// A page of another origin asked for a WebSocket.
    Origin,
    /// A PROXY header from an address that no proxy is expected at.
    Proxy,
    /// What transports hold of incomplete messages would exceed its bound.
    Memory,
    /// The first byte was no protocol's that is spoken here.
    Protocol,
    /// A legacy client, and those aren't served.
    Legacy,
    /// A proven-old secret.
    StaleSecret,
    /// A secret that was never right.
    WrongSecret,
    /// Too many refused resumes from one address.
    ResumeBusy,
    /// A hello over a plain link from beyond loopback.
    Plaintext,
}

impl Refused {
    /// Every reason, in order.
    pub const ALL: [Refused; 13] = [
        Refused::Tls,
        Refused::Http,
        Refused::Path,
        Refused::Upgrade,
        Refused::Origin,
        Refused::Proxy,
        Refused::Memory,
        Refused::Protocol,
        Refused::Legacy,
        Refused::StaleSecret,
        Refused::WrongSecret,
        Refused::ResumeBusy,
        Refused::Plaintext,
    ];

    /// What first bytes that aren't a frame's look like.
    pub fn by_greeting(bytes: &[u8]) -> Refused {
        match bytes {
            [0x16, ..] => Refused::Tls,
            [0x0d, ..] | [b'P', b'R', b'O', b'X', b'Y', b' ', ..] => Refused::Proxy,
            [b'A'..=b'Z', ..] => Refused::Http,
            _ => Refused::Protocol,
        }
    }

    /// The word in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Refused::Tls => "tls",
            Refused::Http => "http",
            Refused::Path => "path",
            Refused::Upgrade => "upgrade",
            Refused::Origin => "origin",
            Refused::Proxy => "proxy",
            Refused::Memory => "memory",
            Refused::Protocol => "protocol",
            Refused::Legacy => "legacy",
            Refused::StaleSecret => "stale_secret",
            Refused::WrongSecret => "wrong_secret",
            Refused::ResumeBusy => "resume_busy",
            Refused::Plaintext => "plaintext",
        }
    }
}

/// How a request to resume ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumed {
    /// Without a gap.
    Whole,
    /// The same session, but pushes may be missing.
    Gap,
    /// The session had been closed; its identity is back.
    Expired,
    /// No such session is known.
    Unknown,
    /// The secret wasn't valid.
    Refused,
}

impl Resumed {
    /// Every result, in order.
    pub const ALL: [Resumed; 5] = [Resumed::Whole, Resumed::Gap, Resumed::Expired, Resumed::Unknown, Resumed::Refused];

    /// The word in metrics; except for `resumed`, also the `reason` in `welcome`.
    pub const fn name(self) -> &'static str {
        match self {
            Resumed::Whole => "resumed",
            Resumed::Gap => "gap",
            Resumed::Expired => "expired",
            Resumed::Unknown => "unknown",
            Resumed::Refused => "refused",
        }
    }
}

/// A histogram with fixed buckets, each twice the one before.
#[derive(Clone, Debug)]
pub struct Histogram {
    first_us: u64,
    counts: [u64; Histogram::BUCKETS],
    sum_us: u64,
}

impl Histogram {
    /// How many buckets with a bound; one without follows.
    pub const BOUNDED: usize = 20;
    const BUCKETS: usize = Histogram::BOUNDED + 1;

    /// Buckets up to `first`, 2 × `first`, 4 × `first`, …
    pub const fn starting_at(first: Duration) -> Histogram {
        Histogram { first_us: first.as_micros() as u64, counts: [0; Histogram::BUCKETS], sum_us: 0 }
    }

    /// Counts one value. A shift and an increment: it is on the path of every beat.
    pub fn record(&mut self, value: Duration) {
        let us = value.as_micros() as u64;
        let steps = us.div_ceil(self.first_us).saturating_sub(1);
        let bucket = (u64::BITS - steps.leading_zeros()) as usize;
        self.counts[bucket.min(Histogram::BOUNDED)] += 1;
        self.sum_us = self.sum_us.wrapping_add(us);
    }

    /// Upper bound of each bounded bucket in seconds, with how many values were at most that.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut total = 0;
        self.counts[..Histogram::BOUNDED].iter().enumerate().map(move |(bucket, count)| {
            total += count;
            ((self.first_us << bucket) as f64 / 1e6, total)
        })
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of all values in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.sum_us as f64 / 1e6
    }

    /// Adds another shard's.
    pub fn add(&mut self, other: &Histogram) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
        self.sum_us = self.sum_us.wrapping_add(other.sum_us);
    }
}

/// Everything a shard counts. Totals since the start, except `links` and `sessions`, which are as of now.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Links by [`Transport`] and [`Mode`].
    pub links: [[u64; Mode::ALL.len()]; Transport::ALL.len()],
    /// Sessions by [`Status`]; none is ever `close`.
    pub sessions: [u64; 3],
    /// v1 sessions without a link.
    pub retained: u64,
    /// Closed identities remembered.
    pub remembered: u64,
    /// Bytes of incomplete frames.
    pub partial_bytes: u64,
    /// Links accepted.
    pub links_opened: u64,
    /// Valid beats by [`Mode`].
    pub beats: [u64; 3],
    /// Beats that came too early to move a cursor.
    pub early_beats: u64,
    /// Intervals without a beat.
    pub misses: u64,
    /// Changes of status by from, to and cause.
    pub transitions: Box<[[[u64; Cause::ALL.len()]; 3]; 3]>,
    /// Peers that the detector put on leave and that were heard again on the same link.
    pub false_leaves: u64,
    /// Links closed by the server, by [`CloseCode::index`].
    pub closes: [u64; CloseCode::COUNT],
    /// Links that ended by themselves or with a goodbye.
    pub ends: u64,
    /// By [`Refused`].
    pub refused: [u64; Refused::ALL.len()],
    /// By [`Resumed`].
    pub resumes: [u64; Resumed::ALL.len()],
    /// Sessions removed by operators.
    pub kicks: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Moments in which the server itself stood still.
    pub stalls: u64,
    /// By how much deadlines were moved for them, in all.
    pub stalled: Duration,
    /// From a silent peer's last frame to the moment its leave was decided.
    pub detection: Histogram,
    /// Between two signs of life of a session.
    pub beat_gap: Histogram,
    /// From the server's request for a beat to the beat.
    pub beat_rtt: Histogram,
}

impl Default for Stats {
    fn default() -> Stats {
        Stats {
            links: Default::default(),
            sessions: [0; 3],
            retained: 0,
            remembered: 0,
            partial_bytes: 0,
            links_opened: 0,
            beats: [0; 3],
            early_beats: 0,
            misses: 0,
            transitions: Box::default(),
            false_leaves: 0,
            closes: [0; CloseCode::COUNT],
            ends: 0,
            refused: [0; Refused::ALL.len()],
            resumes: [0; Resumed::ALL.len()],
            kicks: 0,
            bytes_in: 0,
            bytes_out: 0,
            stalls: 0,
            stalled: Duration::ZERO,
            detection: Histogram::starting_at(Duration::from_millis(250)),
            beat_gap: Histogram::starting_at(Duration::from_millis(8)),
            beat_rtt: Histogram::starting_at(Duration::from_micros(50)),
        }
    }
}

impl Stats {
    pub(crate) fn changed(&mut self, changed: &Changed) {
        let Changed { from, change } = changed;
        self.transitions[*from as usize][change.to as usize][change.cause as usize] += 1;
        self.sessions[*from as usize] -= 1;
        if change.to != Status::Close {
            self.sessions[change.to as usize] += 1;
        }
    }

    /// Links of any kind.
    pub fn links_open(&self) -> u64 {
        self.links.as_flattened().iter().sum()
    }

    pub(crate) fn link_changed(&mut self, from: (Transport, Mode), to: (Transport, Mode)) {
        self.links[from.0 as usize][from.1 as usize] -= 1;
        self.links[to.0 as usize][to.1 as usize] += 1;
    }

    /// Adds another shard's numbers.
    pub fn add(&mut self, other: &Stats) {
        fn add_all(mine: &mut [u64], theirs: &[u64]) {
            for (mine, theirs) in mine.iter_mut().zip(theirs) {
                *mine += theirs;
            }
        }
        add_all(self.links.as_flattened_mut(), other.links.as_flattened());
        add_all(&mut self.sessions, &other.sessions);
        add_all(&mut self.beats, &other.beats);
        add_all(&mut self.closes, &other.closes);
        add_all(&mut self.refused, &other.refused);
        add_all(&mut self.resumes, &other.resumes);
        add_all(
            self.transitions.as_flattened_mut().as_flattened_mut(),
            other.transitions.as_flattened().as_flattened(),
        );
        for (mine, theirs) in [
            (&mut self.retained, other.retained),
            (&mut self.remembered, other.remembered),
            (&mut self.partial_bytes, other.partial_bytes),
            (&mut self.links_opened, other.links_opened),
            (&mut self.early_beats, other.early_beats),
            (&mut self.misses, other.misses),
            (&mut self.false_leaves, other.false_leaves),
            (&mut self.ends, other.ends),
            (&mut self.kicks, other.kicks),
            (&mut self.bytes_in, other.bytes_in),
            (&mut self.bytes_out, other.bytes_out),
            (&mut self.stalls, other.stalls),
        ] {
            *mine += theirs;
        }
        self.stalled += other.stalled;
        self.detection.add(&other.detection);
        self.beat_gap.add(&other.beat_gap);
        self.beat_rtt.add(&other.beat_rtt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_falls_into_the_first_bucket_that_holds_it() {
        for (us, bound_ms) in
            [(0, 1.0), (1, 1.0), (1000, 1.0), (1001, 2.0), (2000, 2.0), (2001, 4.0), (4000, 4.0), (4001, 8.0)]
        {
            let mut histogram = Histogram::starting_at(Duration::from_millis(1));
            histogram.record(Duration::from_micros(us));
            let bucket = histogram.cumulative().find(|(_, count)| *count == 1).map(|(bound, _)| bound * 1e3);
            assert_eq!(bucket, Some(bound_ms), "{us} µs");
        }
        let mut histogram = Histogram::starting_at(Duration::from_millis(1));
        histogram.record(Duration::from_secs(1_000_000));
        assert_eq!((histogram.cumulative().last().map(|last| last.1), histogram.count()), (Some(0), 1));
    }
}
