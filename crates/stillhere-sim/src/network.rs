//! What the network does to bytes on their way.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stillhere_core::time::Time;

/// How bad the network is.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// The least time that bytes travel.
    pub delay_min: Duration,
    /// The most, without loss.
    pub delay_max: Duration,
    /// The probability that a segment is lost, from 0 to 1; each loss costs a retransmission.
    pub loss: f64,
}

impl Weather {
    /// A good network.
    pub const FAIR: Weather =
        Weather { delay_min: Duration::from_millis(1), delay_max: Duration::from_millis(20), loss: 0.0 };
}

/// TCP's first retransmission time-out; it doubles each time.
const RETRANSMIT: Duration = Duration::from_millis(200);
/// After so many losses in a row the segment is let through: the loop must end.
const LOSSES_MAX: u32 = 10;

/// The dice of the network.
#[derive(Debug)]
pub(crate) struct Dice(StdRng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(StdRng::seed_from_u64(seed))
    }

    /// From 0 (inclusive) to 1 (exclusive).
    fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// When a segment sent at `now` arrives, if nothing that was sent before it may be overtaken.
    pub(crate) fn arrival(&mut self, weather: &Weather, now: Time, before: Time) -> Time {
        let mut delay = weather.delay_min + (weather.delay_max - weather.delay_min).mul_f64(self.unit());
        let mut losses = 0;
        while losses < LOSSES_MAX && self.unit() < weather.loss {
            delay += RETRANSMIT * (1 << losses);
            losses += 1;
        }
        (now + delay).max(before)
    }
}
