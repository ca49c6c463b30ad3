//! When things are due.
//!
//! Pure: it is told the time. A schedule is a formula, not a timer: arrival `n` is due at a moment that depends on
//! nothing but the plan, so that a late answer, or a late storm, can't thin the arrivals out (coordinated omission).

pub mod search;

use std::time::Duration;

use crate::plan::Step;

/// Arrivals at a given pace.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    steps: Vec<Step>,
}

impl Schedule {
    /// The steps, one after the other.
    pub fn new(steps: Vec<Step>) -> Schedule {
        Schedule { steps }
    }

    /// The same rate, arrivals a second, for as long as anybody asks.
    pub fn steady(rate: f64) -> Schedule {
        Schedule::new(vec![Step { from: rate, to: rate, lasts: Duration::MAX }])
    }

    /// When the `nth` arrival (from 0) is due, after the beginning; `None` if the steps end before it.
    pub fn due(&self, nth: u64) -> Option<Duration> {
        let (mut before, mut earlier) = (0.0, Duration::ZERO);
        let wanted = nth as f64;
        for step in &self.steps {
            let lasts = step.lasts.as_secs_f64();
            let all = (step.from + step.to) / 2.0 * lasts;
            if wanted < before + all {
                let seconds = reached(step, lasts, wanted - before);
                return earlier.checked_add(Duration::try_from_secs_f64(seconds).ok()?);
            }
            before += all;
            earlier = earlier.checked_add(step.lasts)?;
        }
        None
    }

    /// How many have become due within this time of the beginning.
    pub fn count(&self, within: Duration) -> u64 {
        let mut rest = within;
        let (mut count, mut all) = (0.0, 0.0);
        for step in &self.steps {
            let (lasts, seconds) = (step.lasts.as_secs_f64(), rest.min(step.lasts).as_secs_f64());
            let growth = if step.to == step.from { 0.0 } else { (step.to - step.from) / lasts };
            count += step.from * seconds + growth * seconds * seconds / 2.0;
            all += (step.from + step.to) / 2.0 * lasts;
            rest = rest.saturating_sub(step.lasts);
        }
        // Arrival 0 is due at once, and the steps end before their last one would be.
        (count as u64 + 1).min(all.ceil() as u64)
    }
}

/// After how many seconds of a step `count` arrivals are reached: the root of from·t + growth·t²/2 = count.
fn reached(step: &Step, lasts: f64, count: f64) -> f64 {
    if count == 0.0 {
        // Also where nothing is due yet, at the foot of a ramp that begins at 0.
        return 0.0;
    }
    if step.to == step.from {
        return count / step.from;
    }
    let growth = (step.to - step.from) / lasts;
    // This form stays exact when the growth is small.
    2.0 * count / (step.from + (step.from * step.from + 2.0 * growth * count).max(0.0).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(from: f64, to: f64, seconds: u64) -> Step {
        Step { from, to, lasts: Duration::from_secs(seconds) }
    }

    #[test]
    fn a_steady_pace_is_even() {
        let schedule = Schedule::steady(4.0);
        let due: Vec<_> = (0..4).map(|nth| schedule.due(nth).unwrap().as_millis()).collect();
        assert_eq!(due, [0, 250, 500, 750]);
        assert_eq!(schedule.count(Duration::from_secs(10)), 41);
    }

    #[test]
    fn a_ramp_and_a_step_have_the_arrivals_that_their_area_says() {
        // 0 to 10 a second in 10 s are 50 arrivals, then 5 s of 20 are 100.
        let schedule = Schedule::new(vec![step(0.0, 10.0, 10), step(20.0, 20.0, 5)]);
        assert_eq!((schedule.due(0), schedule.due(50)), (Some(Duration::ZERO), Some(Duration::from_secs(10))));
        assert_eq!(schedule.due(51), Some(Duration::from_millis(10_050)));
        assert_eq!((schedule.due(149).is_some(), schedule.due(150)), (true, None));
        let due: Vec<_> = (0..150).map(|nth| schedule.due(nth).unwrap()).collect();
        assert!(due.is_sorted(), "{due:?}");
        for (nth, at) in due.iter().enumerate().skip(1) {
            assert_eq!(schedule.count(*at + Duration::from_micros(1)), nth as u64 + 1, "at {at:?}");
        }
        assert_eq!(schedule.count(Duration::from_secs(60)), 150);
    }

    #[test]
    fn a_pace_that_falls_to_nothing_ends() {
        let schedule = Schedule::new(vec![step(10.0, 0.0, 2)]);
        assert_eq!((schedule.due(9).is_some(), schedule.due(10)), (true, None));
        assert_eq!(Schedule::new(Vec::new()).due(0), None);
        assert_eq!(Schedule::steady(0.0).due(0), None);
    }
}
