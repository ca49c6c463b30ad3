//! Beats on a schedule: an open loop that does not wait for replies before it sends the next beat.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;

use super::Crowd;

/// Beats written between two looks at the replies, when the generator has to catch up.
const CATCH_UP_BEATS: u32 = 32;
/// How long after the last beat a reply may still come, and how far behind its schedule the generator may fall.
const DRAIN_WAIT: Duration = Duration::from_secs(5);
/// A latency beyond this would have ended the run; it bounds the histogram.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// A beat written this long after it was due shows that the generator itself was held up.
const LATE: Duration = Duration::from_millis(1);

/// What one run of `pace` saw.
pub(crate) struct Tally {
    /// Beats written; all that were answered at all were answered.
    pub(crate) sent: u64,
    /// Nanoseconds from when a beat was due to its reply.
    pub(crate) latency: Histogram<u64>,
    /// Beats that the generator wrote more than a millisecond late.
    pub(crate) late: u64,
}

impl Tally {
    /// The latency in microseconds below which the share `quantile` of the replies lies.
    pub(crate) fn latency_us(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1_000.0
    }
}

impl Crowd {
    /// Sends `beats` at `per_second`, spread evenly over `peers` in turn, and returns when every reply has come.
    ///
    /// It spins: sleeping between two beats would add the generator's own waking up to every latency.
    pub(crate) fn pace(&mut self, peers: Range<usize>, per_second: u32, beats: u64) -> Result<Tally> {
        ensure!(peers.end <= self.peers.len() && !peers.is_empty(), "there are only {} peers", self.peers.len());
        let schedule = Schedule { per_second, first: peers.start, peers: peers.len() };
        self.rebase();
        let mut tally = Tally { sent: 0, latency: Histogram::new_with_max(LATENCY_NS_MAX, 3)?, late: 0 };
        let awaited: u64 = self.count_answered(&schedule, beats);
        let mut answered = 0;
        let end = schedule.due(beats) + DRAIN_WAIT;
        let start = Instant::now();
        while tally.sent < beats || answered < awaited {
            let now = start.elapsed();
            ensure!(now < end, "{} of {beats} beats were sent, {answered} of {awaited} replies came", tally.sent);
            for _ in 0..CATCH_UP_BEATS {
                let due = schedule.due(tally.sent);
                if tally.sent == beats || due > now {
                    break;
                }
                tally.late += u64::from(now - due > LATE);
                self.beat(schedule.peer(tally.sent), 1)?;
                tally.sent += 1;
            }
            self.listen(Duration::ZERO)?;
            let heard = start.elapsed();
            for reply in &self.replied {
                let latency = heard.saturating_sub(schedule.due(schedule.beat(reply.peer, reply.round)));
                tally.latency.saturating_record(latency.as_nanos() as u64);
                answered += 1;
            }
        }
        Ok(tally)
    }

    /// Lets every peer beat once an interval until told to stop; it sleeps between beats and leaves late replies unread.
    pub(crate) fn keep_beating(&mut self, interval: Duration, stop: &AtomicBool) -> Result<u64> {
        let start = Instant::now();
        let mut sent = 0;
        let count = self.peers.len() as u64;
        while !stop.load(Ordering::Relaxed) {
            let due = interval.mul_f64(sent as f64 / count as f64);
            let now = start.elapsed();
            if due <= now {
                self.beat((sent % count) as usize, 1)?;
                sent += 1;
            }
            self.listen(due.saturating_sub(now).min(Duration::from_millis(100)))?;
        }
        Ok(sent)
    }

    /// Reads on until every beat that is answered at all has been.
    pub(crate) fn drain(&mut self) -> Result<()> {
        let deadline = Instant::now() + DRAIN_WAIT;
        loop {
            let open: u64 = self
                .peers
                .iter()
                .filter(|peer| peer.speech.is_answered())
                .map(|p| u64::from(p.sent - p.answered))
                .sum();
            if open == 0 {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{open} replies did not come within {DRAIN_WAIT:?}");
            self.listen(Duration::from_millis(10))?;
        }
    }

    /// Starts to count rounds anew; every reply has come, so what was answered is what was sent.
    pub(super) fn rebase(&mut self) {
        for peer in &mut self.peers {
            peer.base = peer.answered;
        }
    }

    fn count_answered(&self, schedule: &Schedule, beats: u64) -> u64 {
        let is_answered = |index: usize| self.peers[index].speech.is_answered();
        let a_round = schedule.first..schedule.first + schedule.peers;
        let last_round = schedule.first..schedule.first + (beats % schedule.peers as u64) as usize;
        let count = |range: Range<usize>| range.filter(|index| is_answered(*index)).count() as u64;
        beats / schedule.peers as u64 * count(a_round) + count(last_round)
    }
}

/// Which beat is due when, and whose it is.
struct Schedule {
    per_second: u32,
    first: usize,
    peers: usize,
}

impl Schedule {
    fn due(&self, beat: u64) -> Duration {
        Duration::from_nanos(beat * 1_000_000_000 / u64::from(self.per_second))
    }

    fn peer(&self, beat: u64) -> usize {
        self.first + (beat % self.peers as u64) as usize
    }

    /// The inverse of `peer`: the beat that was `peer`'s in `round`.
    fn beat(&self, peer: u32, round: u32) -> u64 {
        u64::from(round) * self.peers as u64 + (peer as usize - self.first) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_finds_the_moment_its_beat_was_due() {
        let schedule = Schedule { per_second: 200, first: 10, peers: 3 };
        assert_eq!(schedule.due(0), Duration::ZERO);
        assert_eq!(schedule.due(200), Duration::from_secs(1));
        for beat in 0..20 {
            let peer = schedule.peer(beat) as u32;
            let round = (beat / 3) as u32;
            assert_eq!(schedule.beat(peer, round), beat);
        }
    }
}
