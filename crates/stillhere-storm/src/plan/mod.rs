//! What is to happen in a run, checked and bounded.
//!
//! [`mod@file`] reads it from TOML, [`builtin`] has the named ones. Everything in here is filled in: whoever carries a plan
//! out needs no default of its own.

mod apply;
pub mod builtin;
mod check;
pub mod figure;
pub mod file;
mod section;
#[cfg(test)]
mod tests;
pub mod threshold;
mod value;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::apply::Overrides;
pub use self::check::{SOCKETS_MAX, check};
pub use self::value::span;

/// Attackers of one plan, together. Each is a socket of the storm's process, and 20,000 files is what a process gets
/// on many machines.
pub const ATTACKERS_MAX: u32 = 19_000;
/// Honest clients of one plan.
pub const CROWD_MAX: u32 = 19_000;
/// No phase of a run is longer: a storm stops by itself.
pub const PHASE_MAX: Duration = Duration::from_secs(3600);
/// How long a newcomer is there at worst, in seconds.
const NEWCOMER_SECONDS: u64 = 5;

/// Why there is no plan, in a sentence that says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PlanError(pub String);

/// What is to happen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What it is called: a builtin's name, or the file's.
    pub name: String,
    /// What it is for, in a sentence.
    pub about: String,
    /// Whom it meets.
    pub target: Target,
    /// How long each phase is.
    pub time: Times,
    /// The honest clients; `None` for an attack that nobody watches.
    pub crowd: Option<Crowd>,
    /// What is done to the target, all at once, while the phase `during` lasts.
    pub attacks: Vec<Attack>,
    /// Requests at a given pace, while the phase `during` lasts.
    pub load: Option<Load>,
    /// Run it again and again, to find a bound.
    pub search: Option<Search>,
    /// How to speak with a server that isn't a stillhere; `None` for ours.
    pub frame: Option<Frame>,
    /// What must hold.
    pub thresholds: Vec<Threshold>,
    /// Decides every random choice. Runs with the same seed aren't equal, since the machine isn't, but alike.
    pub seed: u64,
}

/// Whom a plan meets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// `HOST:PORT`.
    pub address: String,
    /// Where its metrics are, `http://…/metrics`; `None` if it has none.
    pub metrics: Option<String>,
    /// Its process, if it runs here: for its memory, CPU time and files. `None` to look for who listens.
    pub pid: Option<u32>,
    /// Started before the run (before each trial of a search) and stopped after it. `{port}` in it becomes the port
    /// of `address`.
    pub command: Vec<String>,
    /// How long a started target may take until it accepts.
    pub ready: Duration,
}

/// How long each phase is; at most [`PHASE_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// The crowd comes in.
    pub ramp: Duration,
    /// The baseline: nobody attacks.
    pub before: Duration,
    /// The attack and the load.
    pub during: Duration,
    /// Nobody attacks any more.
    pub after: Duration,
}

/// What the honest clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The full protocol, with a round trip for each beat.
    V1,
    /// The tutorial's: beats that are never answered.
    Legacy,
    /// What the plan's [`Frame`] says.
    Frame,
}

/// The honest clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Crowd {
    /// How many; 1 to [`CROWD_MAX`].
    pub count: u32,
    /// What they speak.
    pub mode: Mode,
    /// Between two beats (with [`Mode::Frame`]: between two exchanges); 100 ms to 10 min, for v1 from 1 s.
    pub interval: Duration,
    /// v1: they are spread over so many rooms; 0 for no chat.
    pub rooms: u32,
    /// v1, with rooms: each says something so often; `None` for never.
    pub say_every: Option<Duration>,
    /// v1, with rooms: each signals so often; `None` for never.
    pub signal_every: Option<Duration>,
    /// So many new clients a second come, are let in, and go again: whether the door still opens. 0 for none.
    pub newcomers_per_second: f64,
}

/// One attack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attack {
    /// A name of [`crate::attack::ATTACKS`].
    pub name: String,
    /// How many attackers at once; 1 to [`ATTACKERS_MAX`], together with those of other attacks.
    pub count: u32,
    /// How many tries begin a second, all attackers together, whether earlier ones have ended or not; `None`: each
    /// attacker begins the next when the last one has ended.
    pub rate: Option<f64>,
    /// Bytes of what is sent at once, where the attack has a choice; 1 to 16 MiB.
    pub size: u32,
    /// v1 interval that attackers ask for, where the attack says hello; from 1 s.
    pub interval: Duration,
}

/// Requests at a given pace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// What is asked.
    pub what: Asked,
    /// Over so many connections.
    pub connections: u32,
    /// The pace, step by step; together they fill `during` (the last one lasts until its end).
    pub steps: Vec<Step>,
    /// Wait for an answer before the next request of a connection, and don't keep to the schedule: it then measures
    /// what the target lets through, and its latencies flatter.
    pub closed: bool,
}

/// What a load asks of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Asked {
    /// A v1 beat and its reply.
    Beat,
    /// A message to a room, until it is acknowledged.
    Say,
    /// A connection, until it is welcomed; then it goes.
    Connect,
    /// An exchange of the plan's [`Frame`].
    Frame,
}

/// A part of a schedule: from one rate to another, evenly.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Requests a second at its beginning.
    pub from: f64,
    /// And at its end; the same for a step that isn't a ramp.
    pub to: f64,
    /// How long.
    pub lasts: Duration,
}

/// What a search looks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Search {
    /// Which number of the plan is changed from trial to trial.
    pub find: Sought,
    /// The first trial.
    pub from: u64,
    /// No trial is above it.
    pub max: u64,
    /// It ends when the largest that held and the smallest that didn't are this close, as a share of the former;
    /// 0.01 to 1.
    pub precision: f64,
    /// No more trials than this; 1 to 64.
    pub trials: u32,
}

/// The number that a search changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sought {
    /// `count` of the first attack: how many it withstands.
    Attackers,
    /// The load's rate, as one step.
    Rate,
    /// `count` of the crowd.
    Crowd,
}

/// How to speak with somebody else's server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// How a frame says how long it is.
    pub length: Length,
    /// Whether the length counts its own bytes too.
    pub includes_header: bool,
    /// What is exchanged once, when a connection is open.
    pub hello: Vec<Exchange>,
    /// What is exchanged at every interval.
    pub beat: Exchange,
    /// The longest frame that is taken from the target; 1 to 16 MiB.
    pub max: u32,
}

/// How a frame says how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Length {
    /// One byte.
    U8,
    /// Two bytes, the low one first.
    U16Le,
    /// Two bytes, the high one first.
    U16Be,
    /// Four bytes, the low one first.
    U32Le,
    /// Four bytes, the high one first.
    U32Be,
    /// Not at all: a frame ends with a line feed.
    Line,
    /// Not at all: whatever comes is an answer.
    Raw,
}

/// Something to send and what should come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// What is sent, a template of [`crate::frame::Template`].
    pub payload: String,
    /// What an answer must match, a regular expression; anything else that comes is left aside. `None` if there is no
    /// answer to wait for.
    pub reply: Option<String>,
}

/// What must hold, see [`threshold`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// As it was written.
    pub text: String,
    /// Which figure of the summary.
    pub figure: String,
    /// How it is compared.
    pub is: Is,
    /// With what, in the figure's base unit: microseconds, bytes, or a number.
    pub bound: f64,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Is {
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `=`
    Equal,
    /// `>=`
    AtLeast,
    /// `>`
    Above,
}

impl Plan {
    /// Sockets that it needs at once: attackers, honest clients, newcomers and the load's connections.
    pub fn sockets(&self) -> u64 {
        let newcomers = self.crowd.as_ref().map_or(0.0, |crowd| crowd.newcomers_per_second.ceil());
        self.sockets_but(None) + newcomers as u64 * NEWCOMER_SECONDS
    }

    /// The same without newcomers, who come and go, and those whose number is searched.
    fn sockets_but(&self, sought: Option<Sought>) -> u64 {
        let attackers = self.attacks.iter().skip(usize::from(sought == Some(Sought::Attackers)));
        let attackers: u64 = attackers.map(|attack| u64::from(attack.count)).sum();
        let crowd = self.crowd.as_ref().filter(|_| sought != Some(Sought::Crowd));
        attackers
            + crowd.map_or(0, |crowd| u64::from(crowd.count))
            + self.load.as_ref().map_or(0, |load| u64::from(load.connections))
    }
}

/// Where a plan comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A name of [`builtin`].
    Name(String),
    /// A file.
    File(PathBuf),
}

/// The target's address, looked up once.
///
/// # Errors
/// When it is no `HOST:PORT` or isn't found.
pub fn resolve(address: &str) -> Result<SocketAddr, PlanError> {
    use std::net::ToSocketAddrs;
    let shown = stillhere_core::text::Escaped(address);
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    if !matches!(port, Some(Ok(1..))) {
        return Err(PlanError(format!("`{shown}` is no target: write HOST:PORT, for example 127.0.0.1:14000")));
    }
    let found = address.to_socket_addrs().ok().and_then(|mut found| found.next());
    found.ok_or_else(|| PlanError(format!("can't find the host of `{shown}`; check its name")))
}
