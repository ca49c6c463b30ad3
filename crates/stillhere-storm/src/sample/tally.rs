//! What counts between two samples.

use std::mem;

use super::{CrowdSecond, LoadSecond};

/// What the crowd and the load have counted since the last sample. It is behind a lock that the crowd's thread holds
/// for one event and the sampler for one swap.
#[derive(Debug, Default)]
pub struct Tally {
    /// The honest clients. Its gauges stay zero: they are in [`Tally::gauges`].
    pub crowd: CrowdSecond,
    /// The load, if the plan has one.
    pub load: Option<LoadSecond>,
    /// What is not counted anew each second.
    pub gauges: Gauges,
    /// The worst lateness of a timer since the last sample, in microseconds.
    pub lag_us: u64,
}

/// What is, rather than what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// See [`CrowdSecond::alive`].
    pub alive: u64,
    /// See [`CrowdSecond::leave`].
    pub leave: u64,
    /// See [`CrowdSecond::out`].
    pub out: u64,
    /// See [`CrowdSecond::waiting`].
    pub waiting: u64,
}

impl Tally {
    /// What was counted, with the gauges as they are; counting begins anew.
    pub fn take(&mut self) -> (CrowdSecond, Option<LoadSecond>, u64) {
        let mut crowd = mem::take(&mut self.crowd);
        let Gauges { alive, leave, out, waiting } = self.gauges;
        (crowd.alive, crowd.leave, crowd.out, crowd.waiting) = (alive, leave, out, waiting);
        let load = self.load.as_mut().map(|load| {
            let open = load.open;
            mem::replace(load, LoadSecond { open, ..LoadSecond::default() })
        });
        (crowd, load, mem::take(&mut self.lag_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stays_and_what_happened_is_taken() {
        let mut tally =
            Tally { load: Some(LoadSecond { open: 3, sent: 9, ..LoadSecond::default() }), ..Tally::default() };
        tally.gauges.alive = 7;
        tally.crowd.sent = 5;
        for (sent, asked) in [(5, 9), (0, 0)] {
            let (crowd, load, _) = tally.take();
            let load = load.unwrap();
            assert_eq!((crowd.alive, crowd.sent, load.open, load.sent), (7, sent, 3, asked));
        }
    }
}
