//! Letting input gather: under load, a shard's thread polls at most once a millisecond.
//!
//! Waking up dominates the cost of a beat. A thread that waits a moment before it polls again finds many sockets ready
//! at once, and takes a beat for a fraction of the CPU; the price is up to that moment of latency, so it waits only
//! while there is enough to gather. The hook runs in the thread just before its runtime parks.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Inputs per `gather` from which on waiting pays: below, most turns would gather one or two.
const BUSY_INPUTS: f32 = 4.0;
/// Inputs per `gather` below which it stops paying; lower, so that it doesn't flutter.
const CALM_INPUTS: f32 = 2.0;
/// How much of the estimate of the load is from before the last turn.
const MEMORY: f32 = 0.8;

/// The state of one thread.
struct Pace {
    /// How long input may gather; zero for not at all.
    gather: Cell<Duration>,
    /// When the thread last had nothing left to do.
    parked_at: Cell<Option<Instant>>,
    /// When it last began a turn.
    woken_at: Cell<Option<Instant>>,
    /// Inputs since `parked_at`.
    inputs: Cell<u32>,
    /// Estimated inputs per `gather`.
    load: Cell<f32>,
    busy: Cell<bool>,
    /// Orders that the store hasn't answered.
    orders: Cell<u32>,
}

thread_local! {
    static PACE: Pace = const {
        Pace {
            gather: Cell::new(Duration::ZERO),
            parked_at: Cell::new(None),
            woken_at: Cell::new(None),
            inputs: Cell::new(0),
            load: Cell::new(0.0),
            busy: Cell::new(false),
            orders: Cell::new(0),
        }
    };
}

/// Sets how long this thread may let input gather; zero for not at all.
pub(crate) fn set_gather(gather: Duration) {
    PACE.with(|pace| pace.gather.set(gather));
}

/// Counts one input on this thread.
pub(crate) fn input() {
    PACE.with(|pace| pace.inputs.set(pace.inputs.get() + 1));
}

/// An order has gone to the store on behalf of this thread.
pub(crate) fn ordered() {
    PACE.with(|pace| pace.orders.set(pace.orders.get() + 1));
}

/// So many orders were answered.
pub(crate) fn answered(orders: u32) {
    PACE.with(|pace| pace.orders.set(pace.orders.get().saturating_sub(orders)));
}

/// The hook: called when the thread has nothing left to do but to poll.
pub(crate) fn before_park() {
    PACE.with(|pace| {
        if pace.gather.get().is_zero() {
            return;
        }
        let now = Instant::now();
        if let Some(rest) = pace.rest(now) {
            std::thread::sleep(rest);
            pace.woken_at.set(Some(Instant::now()));
        } else {
            pace.woken_at.set(Some(now));
        }
    });
}

impl Pace {
    /// How long to wait before the next poll, as of `now`; `None` while the load is light or the turn was long.
    fn rest(&self, now: Instant) -> Option<Duration> {
        let gather = self.gather.get();
        if let Some(parked_at) = self.parked_at.replace(Some(now)) {
            self.estimate(now.duration_since(parked_at), gather);
        }
        let turn = now.duration_since(self.woken_at.get()?);
        // While somebody waits for the store, nobody rests: its commits gather already, and its answers would wait.
        (self.orders.get() == 0 && self.busy.get() && turn < gather).then(|| gather - turn)
    }

    fn estimate(&self, period: Duration, gather: Duration) {
        let inputs = self.inputs.replace(0) as f32;
        let per_gather = inputs * gather.as_secs_f32() / period.max(Duration::from_micros(1)).as_secs_f32();
        // A long quiet period outweighs whatever was before.
        let memory = MEMORY.powf((period.as_secs_f32() / gather.as_secs_f32()).max(1.0));
        let load = memory * self.load.get() + (1.0 - memory) * per_gather;
        self.load.set(load);
        self.busy.set(if self.busy.get() { load > CALM_INPUTS } else { load > BUSY_INPUTS });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `per_period` inputs every `period` for a second of made-up time; returns the share of turns that rested.
    fn share_of_rests(per_period: u32, period: Duration) -> f64 {
        PACE.with(|pace| {
            pace.gather.set(Duration::from_millis(1));
            pace.parked_at.set(None);
            pace.woken_at.set(None);
            pace.load.set(0.0);
            pace.busy.set(false);
            let start = Instant::now();
            let turns = (Duration::from_secs(1).as_nanos() / period.as_nanos()) as u32;
            let mut rests = 0;
            for turn in 0..turns {
                let now = start + period * turn;
                pace.inputs.set(per_period);
                rests += u32::from(pace.rest(now).is_some());
                pace.woken_at.set(Some(now + period - Duration::from_micros(50)));
            }
            f64::from(rests) / f64::from(turns)
        })
    }

    #[test]
    fn it_rests_under_load_and_never_when_calm() {
        assert!(share_of_rests(20, Duration::from_millis(1)) > 0.95);
        assert!(share_of_rests(1, Duration::from_micros(100)) > 0.95);
        assert_eq!(share_of_rests(1, Duration::from_millis(5)), 0.0);
        assert_eq!(share_of_rests(1, Duration::from_millis(1)), 0.0);
    }
}
