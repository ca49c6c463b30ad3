//! The figures that a threshold can be about. `report::Summary` has each of them, if it was measured.

/// What a figure is counted in; a bound is written in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Kept in microseconds; written `50ms`, `2s`.
    Time,
    /// Kept in bytes; written `50MiB`, `2KiB`.
    Bytes,
    /// A number.
    Number,
}

/// A figure of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// What thresholds call it.
    pub name: &'static str,
    /// What it is counted in.
    pub unit: Unit,
    /// What it is, in a sentence.
    pub about: &'static str,
}

macro_rules! figures {
    ($($name:literal $unit:ident $about:literal)*) => {
        &[$(Figure { name: $name, unit: Unit::$unit, about: $about }),*]
    };
}

/// All of them. Those of the crowd are of the phase `during` unless their name says otherwise.
pub const FIGURES: &[Figure] = figures! {
    "p50" Time "Round trip of honest beats during the attack, median."
    "p90" Time "Round trip of honest beats during the attack, of nine in ten."
    "p99" Time "Round trip of honest beats during the attack, of 99 in 100."
    "p99.9" Time "Round trip of honest beats during the attack, of 999 in 1,000."
    "max" Time "The longest round trip during the attack."
    "before.p50" Time "Round trip before the attack, median."
    "before.p99" Time "Round trip before the attack, of 99 in 100."
    "before.p99.9" Time "Round trip before the attack, of 999 in 1,000."
    "after.p50" Time "Round trip after the attack, median."
    "after.p99" Time "Round trip after the attack, of 99 in 100."
    "after.p99.9" Time "Round trip after the attack, of 999 in 1,000."
    "p50_ratio" Number "p50 during the attack over p50 before."
    "p99_ratio" Number "p99 during the attack over p99 before."
    "p99.9_ratio" Number "p99.9 during the attack over p99.9 before."
    "after.p99_ratio" Number "p99 after the attack over p99 before."
    "false_leaves" Number "Honest sessions put on leave although they beat, in the whole run."
    "sessions_lost" Number "Honest sessions that ended, or came back without what they had, in the whole run."
    "links_lost" Number "Honest links that broke or were closed, in the whole run."
    "closes" Number "Honest links that the target closed with a code, in the whole run."
    "missing" Number "Honest clients that aren't in at the end."
    "unanswered" Number "Honest beats that were never answered, in the whole run."
    "messages_lost" Number "Acknowledged messages that somebody should have got and hasn't."
    "messages_doubled" Number "Messages that somebody got twice."
    "unsaid" Number "Messages of honest clients that were never acknowledged."
    "say_p99" Time "From saying to the acknowledgement during the attack, of 99 in 100."
    "signal_p99" Time "From a signal to whom it is for during the attack, of 99 in 100."
    "newcomers_refused" Number "New clients that weren't let in, in the whole run."
    "enter_p99" Time "From connecting to being let in during the attack, of 99 in 100."
    "rate" Number "Requests of the load that were answered, a second."
    "load_p50" Time "From when a request was due to its answer, median."
    "load_p99" Time "From when a request was due to its answer, of 99 in 100."
    "load_p99.9" Time "From when a request was due to its answer, of 999 in 1,000."
    "load_failed" Number "Requests of the load that were refused or lost."
    "load_open" Number "Requests of the load that were due and never answered."
    "tries" Number "Tries of all attackers, a second: an attack that isn't carried out proves nothing."
    "overdue" Number "Connections at the end of the attack that the target should have ended and hasn't."
    "rss_growth" Bytes "The target's largest resident memory from the attack on, above that before it."
    "rss_left" Bytes "The target's resident memory at the end, above that before the attack."
    "files_left" Number "The target's open files five seconds after the attack, above those before it."
    "cpu" Number "Cores that the target used during the attack."
    "own_cpu" Number "Cores that the storm itself used during the attack."
    "own_lag" Time "How late the storm's own timers were at worst, of 99 in 100 seconds: what is below it can't be told."
};

/// The figure of that name.
pub fn find(name: &str) -> Option<&'static Figure> {
    FIGURES.iter().find(|figure| figure.name == name)
}
