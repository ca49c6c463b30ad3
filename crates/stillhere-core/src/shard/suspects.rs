//! Addresses that showed invalid secrets: after a few in a minute they must wait.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use hashbrown::DefaultHashBuilder;

use crate::event::Peer;
use crate::limits::{REFUSED_RESUMES_PER_MINUTE, SUSPECTS_MAX};
use crate::time::Time;

const MINUTE: Duration = Duration::from_secs(60);

/// A bounded table of addresses.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    counts: HashMap<Peer, Count, DefaultHashBuilder>,
    order: VecDeque<Peer>,
}

#[derive(Debug)]
struct Count {
    refused: u32,
    since: Time,
}

impl Suspects {
    /// How long `address` must wait before its next try; `None` if it needn't.
    pub(super) fn wait(&self, address: Peer, now: Time) -> Option<Duration> {
        let count = self.counts.get(&address.without_port())?;
        let over = count.since + MINUTE;
        (count.refused >= REFUSED_RESUMES_PER_MINUTE && now < over).then(|| over.since(now))
    }

    /// Counts a refused resume.
    pub(super) fn refused(&mut self, address: Peer, now: Time) {
        let address = address.without_port();
        if !self.counts.contains_key(&address) {
            if self.order.len() >= SUSPECTS_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.counts.remove(&oldest);
            }
            self.order.push_back(address);
        }
        let count = self.counts.entry(address).or_insert(Count { refused: 0, since: now });
        if count.since + MINUTE <= now {
            *count = Count { refused: 0, since: now };
        }
        count.refused += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    #[test]
    fn ten_refusals_a_minute_are_enough_for_one_address_and_touch_no_other() {
        let mut suspects = Suspects::default();
        let peer = |address, port| Peer::from(SocketAddr::from(([127, 0, 0, address], port)));
        for n in 0..REFUSED_RESUMES_PER_MINUTE {
            assert_eq!(suspects.wait(peer(1, 9), Time::ZERO), None);
            suspects.refused(peer(1, n as u16), Time::ZERO);
        }
        assert_eq!(suspects.wait(peer(1, 9), Time::from_millis(1000)), Some(Duration::from_secs(59)));
        assert_eq!(suspects.wait(peer(2, 9), Time::from_millis(1000)), None);
        assert_eq!(suspects.wait(peer(1, 9), Time::from_millis(60_000)), None);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut suspects = Suspects::default();
        for n in 0..SUSPECTS_MAX as u32 + 100 {
            let [_, a, b, c] = n.to_be_bytes();
            suspects.refused(Peer::from(SocketAddr::from(([10, a, b, c], 1))), Time::ZERO);
        }
        assert_eq!((suspects.counts.len(), suspects.order.len()), (SUSPECTS_MAX, SUSPECTS_MAX));
    }
}
