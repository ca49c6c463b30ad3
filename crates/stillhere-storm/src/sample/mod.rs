//! What is measured: one [`Second`] a second, and the file of them.
//!
//! `samples.jsonl` has one JSON object a line: first a [`Line::Run`], then a [`Line::Second`] for each second, at last
//! a [`Line::End`]. A run that was cut off lacks the end, and can still be reported. Its format is a promise: fields
//! are added, never renamed; [`VERSION`] says which.

mod file;
mod spread;
mod tally;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::file::{FILE, Recording, ReportError, Writer, read};
pub use self::spread::Spread;
pub use self::tally::{Gauges, Tally};
use crate::plan::Plan;

/// The version of the file's format.
pub const VERSION: u32 = 1;

/// A line of `samples.jsonl`, as it is written; [`read`] reads them.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Line {
    /// The first.
    Run(Box<Run>),
    /// One for each second.
    Second(Box<Second>),
    /// The last.
    End(End),
}

/// What is known before it begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// [`VERSION`].
    pub version: u32,
    /// The storm's own version.
    pub stillhere: String,
    /// What was to happen.
    pub plan: Plan,
    /// When it began.
    pub started: jiff::Timestamp,
    /// Cores that the storm may use.
    pub cores: u32,
    /// Open files that it may have.
    pub files: u64,
    /// Of a search: which trial, from 1.
    pub trial: Option<u32>,
}

/// What is known when it has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// How long it took.
    pub at_ms: u64,
    /// Why, if it ended before its time: `interrupted`, `crowd lost`, …
    pub cut: Option<String>,
    /// Whether it was cut because of the storm itself, a thread of which failed: it tells nothing of the target.
    #[serde(default)]
    pub own_fault: bool,
}

/// A part of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The crowd comes in.
    #[default]
    Ramp,
    /// The baseline.
    Before,
    /// The attack.
    During,
    /// What is left of it.
    After,
}

impl Phase {
    /// Its name, as files and plans have it.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Ramp => "ramp",
            Phase::Before => "before",
            Phase::During => "during",
            Phase::After => "after",
        }
    }
}

/// What happened in about one second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Its end, in milliseconds since the run began.
    pub at_ms: u64,
    /// Its length in milliseconds.
    pub for_ms: u64,
    /// The part of the run that it belongs to.
    pub phase: Phase,
    /// The honest clients.
    pub crowd: CrowdSecond,
    /// The load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<LoadSecond>,
    /// The attackers, by the attack's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attacks: BTreeMap<String, AttackSecond>,
    /// The target, as far as it can be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetSecond>,
    /// The storm itself.
    pub own: OwnSecond,
}

/// What the honest clients saw in a second. Counts are of this second, gauges (said so) of its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CrowdSecond {
    /// Gauge: clients that are in and alive.
    pub alive: u64,
    /// Gauge: clients that are in, and on leave as far as they were told.
    pub leave: u64,
    /// Gauge: clients that were in and have no link now.
    pub out: u64,
    /// Gauge: clients that haven't been let in yet.
    pub waiting: u64,
    /// Beats (exchanges) sent.
    pub sent: u64,
    /// Beats answered.
    pub answered: u64,
    /// Beats that were under way when their link was lost: they are never answered.
    pub unanswered: u64,
    /// Round trips in microseconds, counted from when a beat was *due*, so that neither a late target nor a late storm
    /// hides anything (coordinated omission).
    pub rtt_us: Spread,
    /// Times that an honest client was put on leave although it beat all the time.
    pub false_leaves: u64,
    /// Links lost without a word from the target, by what happened.
    pub losses: BTreeMap<String, u64>,
    /// Links that the target closed with a code.
    pub closes: BTreeMap<u16, u64>,
    /// Links that came back with their session unbroken.
    pub resumed: u64,
    /// Sessions that were lost: told to stay away, or back without what they had.
    pub sessions_lost: u64,
    /// Messages that were acknowledged.
    pub said: u64,
    /// Messages that were refused or never acknowledged.
    pub unsaid: u64,
    /// From saying to the acknowledgement, in microseconds.
    pub say_us: Spread,
    /// Messages received.
    pub messages: u64,
    /// Acknowledged messages that a member of the room should have got and hasn't; counted when the run ends.
    pub messages_lost: u64,
    /// Messages received twice.
    pub messages_doubled: u64,
    /// Signals received.
    pub signals: u64,
    /// From signal to its receiver in the same crowd, in microseconds.
    pub signal_us: Spread,
    /// New clients that were let in.
    pub newcomers: u64,
    /// New clients that weren't.
    pub newcomers_refused: u64,
    /// From connecting to being let in, in microseconds.
    pub enter_us: Spread,
}

/// What the load did in a second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadSecond {
    /// Requests that were due.
    pub due: u64,
    /// Requests sent.
    pub sent: u64,
    /// Requests answered.
    pub answered: u64,
    /// Requests refused, or lost with their connection.
    pub failed: u64,
    /// Gauge: requests that are due and not answered.
    pub open: u64,
    /// From when a request was due to its answer, in microseconds.
    pub latency_us: Spread,
    /// Requests refused, and connections lost or not had, by what happened: `error 1203`, `closed 4006`, `unreachable`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub losses: BTreeMap<String, u64>,
}

/// What one attack did in a second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AttackSecond {
    /// Tries begun: mostly connections asked for.
    pub tries: u64,
    /// Connections that opened.
    pub connected: u64,
    /// Connections that didn't open: refused, timed out, out of ports.
    pub refused: u64,
    /// Gauge: connections open now.
    pub open: u64,
    /// Connections that the target ended.
    pub ended: u64,
    /// Of these, those with a code, by code.
    pub closes: BTreeMap<u16, u64>,
    /// Attackers that had to become users first, and didn't.
    #[serde(default)]
    pub turned_away: u64,
    /// Gauge: connections that the target should have ended by now and hasn't.
    pub overdue: u64,
    /// Frames, requests or handshakes that the target answered.
    pub answered: u64,
    /// Requests that it refused with an error, by code.
    pub errors: BTreeMap<u16, u64>,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
}

/// What could be seen of the target at the end of a second; what couldn't is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TargetSecond {
    /// Resident memory in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rss: Option<u64>,
    /// CPU time used since it began, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    /// Open files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// Threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<u64>,
    /// Sessions by status, from its metrics.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sessions: BTreeMap<String, u64>,
    /// Links, from its metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub links: Option<u64>,
    /// False leaves so far, from its metrics: attackers' among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub false_leaves: Option<u64>,
    /// Links closed so far, by code, from its metrics: attackers' among them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub closes: BTreeMap<u16, u64>,
}

/// What the storm itself needed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OwnSecond {
    /// CPU time used since it began, in milliseconds.
    pub cpu_ms: u64,
    /// Of it, the crowd's thread.
    pub crowd_cpu_ms: u64,
    /// Resident memory in bytes.
    pub rss: u64,
    /// The worst lateness of the crowd's timers in this second, in microseconds: how far its numbers can be trusted.
    pub lag_us: u64,
    /// Gauge: open files.
    pub files: u64,
}
