//! Beats as fast as the server answers them: the closed loop that finds what one core can do.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Crowd;

/// A volley that is not answered for this long never will be.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// What a volley achieved.
pub(crate) struct Volley {
    /// Replies received and checked.
    pub(crate) replies: u64,
    /// From the first beat to the last reply.
    pub(crate) took: Duration,
}

struct Fire {
    beats_per_write: u32,
    awaited: u64,
    replies: u64,
}

impl Crowd {
    /// Each peer writes `beats_per_write` beats at once, waits for all their replies, and does so again until `span` is over.
    ///
    /// Peers do not wait for each other, so the server always has work, and one write carries several beats, so that the
    /// generator has less to do than the server.
    pub(crate) fn volley(&mut self, beats_per_write: u32, span: Duration) -> Result<Volley> {
        self.rebase();
        let mut fire = Fire { beats_per_write, awaited: 0, replies: 0 };
        let start = Instant::now();
        for index in 0..self.peers.len() {
            ensure!(self.peers[index].speech.is_answered(), "a volley needs peers that are answered");
            self.beat(index, beats_per_write)?;
            fire.awaited += u64::from(beats_per_write);
            // The first replies are read while the rest is written, or a slow server's buffers would fill.
            if index % 64 == 63 {
                self.return_fire(&mut fire, Duration::ZERO, true)?;
            }
        }
        let mut heard = Instant::now();
        while fire.awaited > 0 {
            let before = fire.replies;
            self.return_fire(&mut fire, Duration::from_millis(100), start.elapsed() < span)?;
            if fire.replies > before {
                heard = Instant::now();
            }
            ensure!(heard.elapsed() < ANSWER_WAIT, "{} replies did not come within {ANSWER_WAIT:?}", fire.awaited);
        }
        Ok(Volley { replies: fire.replies, took: start.elapsed() })
    }

    /// Listens once; each peer that has all its replies writes again.
    fn return_fire(&mut self, fire: &mut Fire, timeout: Duration, goes_on: bool) -> Result<()> {
        self.listen(timeout)?;
        let replied = std::mem::take(&mut self.replied);
        fire.replies += replied.len() as u64;
        fire.awaited -= replied.len() as u64;
        for reply in &replied {
            let index = reply.peer as usize;
            let peer = &self.peers[index];
            if goes_on && peer.answered == peer.sent {
                self.beat(index, fire.beats_per_write)?;
                fire.awaited += u64::from(fire.beats_per_write);
            }
        }
        self.replied = replied;
        Ok(())
    }
}
