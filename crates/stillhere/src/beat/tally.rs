//! What the clients saw, counted.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use stillhere_client::{Continuity, Loss, PeerEvent as Event, Stop};
use stillhere_core::text::{Escaped, clip};

/// How many kinds of trouble are told apart. A server can word its errors as it likes; the rest is `other`.
const TROUBLES_MAX: usize = 32;
/// How many close codes are told apart; our table has 20.
const CLOSES_MAX: usize = 64;
/// The longest round trip that is recorded, in microseconds; a longer one counts as this.
const RTT_US_MAX: u64 = 600_000_000;

/// Counts over all clients.
#[derive(Debug)]
pub(super) struct Tally {
    legacy: bool,
    clients: Vec<Client>,
    /// Clients that are in at the moment.
    pub(super) here: u64,
    pub(super) links: u64,
    pub(super) reconnects: u64,
    pub(super) zombies: u64,
    pub(super) beats_sent: u64,
    pub(super) beats_answered: u64,
    pub(super) pushes: u64,
    pub(super) resumes_ok: u64,
    pub(super) resumes_failed: u64,
    /// The server's reasons for those, escaped.
    pub(super) resume_failures: BTreeMap<String, u64>,
    /// Microseconds.
    pub(super) rtt: Histogram<u64>,
    /// By code: the first reason given, escaped, and how often.
    pub(super) closes: BTreeMap<u16, (String, u64)>,
    /// By what happened, escaped.
    pub(super) troubles: BTreeMap<String, u64>,
    pub(super) last_trouble: Option<String>,
}

/// What is known of one client.
#[derive(Clone, Copy, Debug, Default)]
struct Client {
    is_here: bool,
    was_here: bool,
    had_trouble: bool,
    was_sent_away: bool,
}

/// How a run went, as the exit code tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Every client that tried got in, and none was told to stay away.
    Well,
    /// Some never got in or were told to stay away.
    Troubled,
    /// None ever got in.
    Unreached,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally::new(0, false)
    }
}

impl Tally {
    pub(super) fn new(count: u32, legacy: bool) -> Tally {
        Tally {
            legacy,
            clients: vec![Client::default(); count as usize],
            here: 0,
            links: 0,
            reconnects: 0,
            zombies: 0,
            beats_sent: 0,
            beats_answered: 0,
            pushes: 0,
            resumes_ok: 0,
            resumes_failed: 0,
            resume_failures: BTreeMap::new(),
            rtt: Histogram::new_with_max(RTT_US_MAX, 3).expect("the bounds are constants that fit"),
            closes: BTreeMap::new(),
            troubles: BTreeMap::new(),
            last_trouble: None,
        }
    }

    /// Counts one event of the client with that number.
    pub(super) fn count(&mut self, index: u32, event: &Event) {
        match event {
            Event::Linked { nth, .. } => {
                self.links += 1;
                self.reconnects += u64::from(*nth > 1);
                if self.legacy {
                    self.arrived(index);
                }
            }
            Event::Welcomed(welcomed) => {
                self.arrived(index);
                match &welcomed.continuity {
                    Continuity::Fresh => {}
                    Continuity::Resumed => self.resumes_ok += 1,
                    Continuity::Broken { reason } => {
                        self.resumes_failed += 1;
                        add(&mut self.resume_failures, Escaped(clip(reason, 200)).to_string());
                    }
                }
            }
            Event::BeatSent { .. } => self.beats_sent += 1,
            Event::BeatAnswered { rtt, .. } => {
                self.beats_answered += 1;
                self.rtt.saturating_record(u64::try_from(rtt.as_micros()).unwrap_or(RTT_US_MAX));
            }
            Event::Pushed { .. } => self.pushes += 1,
            Event::Refused(refused) => {
                let message = clip(&refused.message, 200);
                self.trouble(index, format!("refused with {}: {message}", refused.code));
            }
            Event::Closed { code, reason } => self.closed(index, *code, reason),
            Event::Lost(loss) => {
                self.left(index);
                match loss {
                    Loss::Zombie => self.zombies += 1,
                    loss => self.trouble(index, loss.to_string()),
                }
            }
            Event::Stopped(Stop::Told(_) | Stop::HelloRefused(_)) => {
                self.left(index);
                self.client(index).was_sent_away = true;
            }
            Event::Stopped(Stop::Goodbye)
            | Event::IntervalChanged(_)
            | Event::Reconnecting { .. }
            | Event::Reply { .. }
            | Event::Recovery(_) => {}
        }
    }

    /// Whether the first news is that nothing can be reached: then there is no point in going on.
    pub(super) fn is_nobody_there(&self) -> bool {
        self.links == 0 && !self.troubles.is_empty()
    }

    pub(super) fn verdict(&self) -> Verdict {
        if !self.clients.iter().any(|client| client.was_here) {
            return Verdict::Unreached;
        }
        let is_bad = |client: &Client| client.was_sent_away || (client.had_trouble && !client.was_here);
        if self.clients.iter().any(is_bad) { Verdict::Troubled } else { Verdict::Well }
    }

    /// Whether a server spoke to us, if only to close or refuse.
    pub(super) fn was_turned_away(&self) -> bool {
        !self.closes.is_empty() || self.clients.iter().any(|client| client.was_sent_away)
    }

    /// How many clients there are to be.
    pub(super) fn clients(&self) -> usize {
        self.clients.len()
    }

    fn client(&mut self, index: u32) -> &mut Client {
        &mut self.clients[index as usize]
    }

    fn arrived(&mut self, index: u32) {
        let client = self.client(index);
        client.was_here = true;
        if !std::mem::replace(&mut client.is_here, true) {
            self.here += 1;
        }
    }

    fn left(&mut self, index: u32) {
        if std::mem::take(&mut self.client(index).is_here) {
            self.here -= 1;
        }
    }

    fn closed(&mut self, index: u32, code: u16, reason: &str) {
        self.left(index);
        self.client(index).had_trouble = true;
        // A server that makes codes up is counted under 0.
        let code = if self.closes.contains_key(&code) || self.closes.len() < CLOSES_MAX { code } else { 0 };
        let reason = Escaped(clip(reason, 200)).to_string();
        self.last_trouble = Some(format!("closed with {code}: {reason}"));
        self.closes.entry(code).or_insert((reason, 0)).1 += 1;
    }

    fn trouble(&mut self, index: u32, what: String) {
        self.client(index).had_trouble = true;
        let what = Escaped(&what).to_string();
        self.last_trouble = Some(what.clone());
        add(&mut self.troubles, what);
    }
}

/// Counts one more of a kind, or of `other` if there are too many kinds.
fn add(counts: &mut BTreeMap<String, u64>, what: String) {
    let is_known = counts.contains_key(&what) || counts.len() < TROUBLES_MAX;
    *counts.entry(if is_known { what } else { "other".to_owned() }).or_insert(0) += 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn linked(nth: u64) -> Event {
        Event::Linked { local: ([127, 0, 0, 1], 1).into(), nth }
    }

    fn lost(loss: Loss) -> Event {
        Event::Lost(loss)
    }

    #[test]
    fn the_verdict_follows_from_who_got_in_and_who_was_sent_away() {
        let table: [(&[(u32, Event)], Verdict); 6] = [
            (&[], Verdict::Unreached),
            (&[(0, lost(Loss::ConnectTimeout))], Verdict::Unreached),
            (&[(0, linked(1))], Verdict::Well),
            (&[(0, linked(1)), (0, lost(Loss::Zombie)), (0, linked(2))], Verdict::Well),
            (&[(0, linked(1)), (1, lost(Loss::ConnectTimeout))], Verdict::Troubled),
            (&[(0, linked(1)), (0, Event::Stopped(Stop::Told(4501)))], Verdict::Troubled),
        ];
        for (events, verdict) in table {
            let mut tally = Tally::new(2, true);
            events.iter().for_each(|(index, event)| tally.count(*index, event));
            assert_eq!(tally.verdict(), verdict, "{events:?}");
        }
    }

    #[test]
    fn who_is_here_is_counted_once() {
        let mut tally = Tally::new(2, true);
        for (event, here) in
            [(linked(1), 1), (lost(Loss::Zombie), 0), (lost(Loss::ConnectTimeout), 0), (linked(2), 1), (linked(3), 1)]
        {
            tally.count(1, &event);
            assert_eq!(tally.here, here, "{event:?}");
        }
        assert_eq!((tally.links, tally.reconnects, tally.zombies), (3, 2, 1));
    }

    #[test]
    fn a_server_that_makes_up_troubles_does_not_fill_the_memory() {
        let mut tally = Tally::new(1, false);
        for n in 0..1000u16 {
            tally.count(0, &lost(Loss::Malformed(format!("\u{1b}{n}").into())));
            tally.count(0, &Event::Closed { code: n, reason: "x".into() });
        }
        assert_eq!((tally.troubles.len(), tally.troubles["other"]), (TROUBLES_MAX + 1, 1000 - TROUBLES_MAX as u64));
        assert!(tally.closes.len() <= CLOSES_MAX);
        assert!(!tally.troubles.keys().any(|what| what.contains('\u{1b}')));
    }

    #[test]
    fn a_round_trip_beyond_the_range_counts_as_the_longest() {
        let mut tally = Tally::new(1, false);
        tally.count(0, &Event::BeatAnswered { rtt: Duration::MAX, detect: None });
        assert_eq!((tally.beats_answered, tally.rtt.len()), (1, 1));
    }
}
