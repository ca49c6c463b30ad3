//! One session, stepped by hand: the detector and its hold, counted in intervals instead of time.

use stillhere_core::detector::{Detector, Rule, Status};

/// What happens to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A beat: `H`.
    Heard,
    /// An interval without one: `M`.
    Missed,
    /// The link ended, which closes at once: `D`.
    Disconnected,
    /// The same identity on a new link: `R`.
    Returned,
}

impl Event {
    /// The event of that letter.
    pub(super) fn of(letter: char) -> Option<Event> {
        match letter {
            'H' => Some(Event::Heard),
            'M' => Some(Event::Missed),
            'D' => Some(Event::Disconnected),
            'R' => Some(Event::Returned),
            _ => None,
        }
    }

    /// Its letter.
    pub(super) fn letter(self) -> char {
        match self {
            Event::Heard => 'H',
            Event::Missed => 'M',
            Event::Disconnected => 'D',
            Event::Returned => 'R',
        }
    }
}

/// A session that lives from tick to tick; each beat and each miss is one.
pub(super) struct Stepper {
    rule: Rule,
    /// How many ticks a leave may last.
    hold: u64,
    detector: Detector,
    tick: u64,
    /// The tick at which the present leave began; only meaningful on leave.
    leave_since: u64,
}

impl Stepper {
    /// A new session: alive, at tick 0.
    pub(super) fn new(rule: Rule, hold: u64) -> Stepper {
        Stepper { rule, hold, detector: Detector::new(&rule), tick: 0, leave_since: 0 }
    }

    /// Lets one event happen.
    pub(super) fn step(&mut self, event: Event) {
        let before = self.detector.status();
        let rule = &self.rule;
        match event {
            Event::Heard => self.detector.heard(rule),
            Event::Missed => self.detector.missed(rule),
            Event::Disconnected => self.detector.closed(rule),
            Event::Returned => self.detector.returned(rule),
        }
        let ticks = matches!(event, Event::Heard | Event::Missed);
        self.tick += u64::from(ticks);
        if self.detector.status() != Status::Leave {
            return;
        }
        if before != Status::Leave {
            self.leave_since = self.tick;
        }
        // Checked last, so that a recovery in the same tick has won already.
        if ticks && self.tick - self.leave_since >= self.hold {
            self.detector.closed(rule);
        }
    }

    /// The counters after the last event.
    pub(super) fn detector(&self) -> &Detector {
        &self.detector
    }

    /// How many beats and misses there were.
    pub(super) fn tick(&self) -> u64 {
        self.tick
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tick, cursor, strikes and status after these events.
    fn after(hold: u64, events: &str) -> (u64, u32, u32, Status) {
        let mut stepper = Stepper::new(Rule::SEED, hold);
        for letter in events.chars() {
            stepper.step(Event::of(letter).expect("an event"));
        }
        let detector = stepper.detector();
        (stepper.tick(), detector.cursor().into(), detector.strikes().into(), detector.status())
    }

    /// From fresh, the last of these misses puts the session on leave.
    const TO_LEAVE: &str = "MMMMMM";

    #[test]
    fn every_state_has_its_answer_to_every_event() {
        use Status::{Alive, Close, Leave};
        let table = [
            ("alive", "H", (1, 2, 0, Alive)),
            ("alive", "M", (1, 4, 0, Alive)),
            ("alive", "D", (0, 3, 0, Close)),
            ("alive", "R", (0, 3, 0, Alive)),
            ("alive, at zero", "HHHH", (4, 0, 0, Alive)),
            ("alive, at zero", "HHHM", (4, 1, 0, Alive)),
            ("alive, a strike", "MM", (2, 3, 1, Alive)),
            ("alive, a strike forgiven", "MMHHH", (5, 0, 0, Alive)),
            ("alive, the last strike", TO_LEAVE, (6, 3, 3, Leave)),
            ("leave", "MMMMMMH", (7, 2, 3, Leave)),
            ("leave", "MMMMMMM", (7, 4, 3, Leave)),
            ("leave", "MMMMMMD", (6, 3, 0, Close)),
            ("leave", "MMMMMMR", (6, 3, 3, Leave)),
            ("leave, no further strike", "MMMMMMMM", (8, 3, 3, Leave)),
            ("leave, earning alive", "MMMMMMHHH", (9, 0, 0, Alive)),
            ("close", "DH", (1, 3, 0, Close)),
            ("close", "DM", (1, 3, 0, Close)),
            ("close", "DD", (0, 3, 0, Close)),
            ("close", "DR", (0, 3, 0, Leave)),
            ("returned", "DRH", (1, 2, 0, Leave)),
            ("returned", "DRHHH", (3, 0, 0, Alive)),
            ("returned", "DRM", (1, 4, 0, Leave)),
            ("returned", "DRD", (0, 3, 0, Close)),
            ("returned", "DRR", (0, 3, 0, Leave)),
        ];
        for (state, events, answer) in table {
            assert_eq!(after(180, events), answer, "{state}: {events}");
        }
    }

    #[test]
    fn the_hold_counts_beats_and_misses_from_when_leave_began() {
        assert_eq!(after(4, "MMMMMMMHM").3, Status::Leave);
        assert_eq!(after(4, "MMMMMMMHMH"), (10, 3, 0, Status::Close));
        // From a return, the leave begins at the tick of the return.
        assert_eq!(after(4, "DMMRMMM").3, Status::Leave);
        assert_eq!(after(4, "DMMRMMMM"), (6, 3, 0, Status::Close));
    }

    #[test]
    fn a_return_on_leave_restarts_no_hold() {
        assert_eq!(after(4, "MMMMMMMMRMM").3, Status::Close);
        assert_eq!(after(4, "MMMMMMMMRM").3, Status::Leave);
    }

    #[test]
    fn a_recovery_in_the_last_tick_of_the_hold_wins() {
        assert_eq!(after(3, "MMMMMMHHH"), (9, 0, 0, Status::Alive));
        assert_eq!(after(2, "MMMMMMHHH").3, Status::Close);
    }

    #[test]
    fn a_hold_of_nothing_closes_at_once() {
        assert_eq!(after(0, TO_LEAVE).3, Status::Close);
        assert_eq!(after(0, "DR").3, Status::Leave, "a return is no tick");
        assert_eq!(after(0, "DRM").3, Status::Close);
    }
}
