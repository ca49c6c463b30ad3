//! What this machine can be asked for, before a storm begins.
//!
//! [`look`] reads limits and measures for less than two seconds; [`conclude`] is pure and turns what was found into
//! numbers and sentences. It changes nothing: what could be changed is said.

mod measure;
mod system;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::plan::{ATTACKERS_MAX, CROWD_MAX, SOCKETS_MAX};

/// What a storm has open beside its sockets: files, the poller, a started target, and some spare.
const FILES_OWN: u64 = 64;
/// What an open connection costs at most, in bytes, its kernel's side and that of a target on the same machine counted
/// in: mostly both sockets' structures and small buffers.
const CONNECTION_BYTES: u64 = 32 * 1024;
/// Of the memory that is available so much may be used.
const MEMORY_SHARE: f64 = 0.5;
/// Of the rate that this machine reaches with nothing else to do so much can be trusted.
const RATE_SHARE: f64 = 0.5;
/// A port rests for a minute when its connection was closed in order.
const PORT_REST_SECONDS: u64 = 60;
/// Timers later than this blur what is measured, in microseconds: a tenth of what a fast target's p99 is.
const LAG_MAX_US: u64 = 5_000;
/// A listener's queue that is shorter refuses bursts that a storm makes.
const SOMAXCONN_MIN: u64 = 1_024;
/// A storm has a thread for the crowd, one for attackers, and its target needs one as well.
const CORES_MIN: f64 = 3.0;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Open files that this process may have; `None` for no limit.
    pub files: Option<u64>,
    /// Up to which it may raise that by itself; `None` for no limit.
    pub files_hard: Option<u64>,
    /// The system's bound on the above.
    pub files_system: Option<u64>,
    /// Ports that outgoing connections of one address may have.
    pub ports: Option<u64>,
    /// Loopback addresses that attackers come from.
    pub sources: u32,
    /// Cores that this process may run on.
    pub cores: u32,
    /// Cores that its control group allows, if fewer.
    pub quota: Option<f64>,
    /// Memory that can be had, in bytes.
    pub memory: Option<u64>,
    /// The longest queue of a listener.
    pub somaxconn: Option<u64>,
    /// `net.ipv4.tcp_tw_reuse`: 0 no, 1 yes, 2 on loopback.
    pub tw_reuse: Option<u64>,
    /// How late a timer of a millisecond was, of 99 in 100, in microseconds.
    pub lag_us: Option<u64>,
    /// Loopback connections a second, opened one after the other and accepted.
    pub connects_per_second: Option<f64>,
    /// Loopback round trips a second over a few connections.
    pub round_trips_per_second: Option<f64>,
}

/// A look at this machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Doctor {
    /// What was found.
    pub facts: Facts,
    /// What follows.
    pub conclusions: Conclusions,
}

/// What follows from the facts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conclusions {
    /// Attackers at most, without a crowd.
    pub attackers_max: u32,
    /// Honest clients at most, without attackers.
    pub crowd_max: u32,
    /// Sockets of both and of a load together.
    pub sockets_max: u64,
    /// Requests or tries a second whose measurement can be trusted; `None` if it couldn't be measured.
    pub rate_max: Option<f64>,
    /// The same, as sentences.
    pub says: Vec<String>,
    /// What to change, if anything; each with the command.
    pub change: Vec<String>,
}

/// Looks at this machine and measures, for less than two seconds.
pub fn look() -> Doctor {
    let mut facts = system::read();
    // What can't be measured isn't concluded from.
    facts.lag_us = measure::timer_lag().ok();
    facts.connects_per_second = measure::connects().ok();
    facts.round_trips_per_second = measure::round_trips().ok();
    let conclusions = conclude(&facts);
    Doctor { facts, conclusions }
}

/// What follows from the facts, and from nothing else.
pub fn conclude(facts: &Facts) -> Conclusions {
    let files = facts.files_hard.unwrap_or(u64::MAX).saturating_sub(FILES_OWN);
    let memory = facts.memory.map_or(u64::MAX, |memory| (memory as f64 * MEMORY_SHARE) as u64 / CONNECTION_BYTES);
    let ports = facts.ports.unwrap_or(u64::MAX).saturating_mul(u64::from(facts.sources.max(1)));
    let sockets = files.min(memory).min(ports);
    let cap = |most: u32| u32::try_from(sockets).unwrap_or(u32::MAX).min(most);
    let rate = facts.round_trips_per_second.map(|rate| rate * RATE_SHARE);
    let mut conclusions = Conclusions {
        attackers_max: cap(ATTACKERS_MAX),
        crowd_max: cap(CROWD_MAX),
        sockets_max: sockets.min(SOCKETS_MAX.into()),
        rate_max: rate,
        says: Vec::new(),
        change: Vec::new(),
    };
    conclusions.says = says(facts, &conclusions, [(files, "open files"), (memory, "memory"), (ports, "ports")]);
    conclusions.change = changes(facts, &conclusions, files);
    conclusions
}

fn says(facts: &Facts, found: &Conclusions, bounds: [(u64, &str); 3]) -> Vec<String> {
    let Conclusions { attackers_max, crowd_max, sockets_max, rate_max, .. } = found;
    let mut says = vec![
        format!("Attackers: at most {attackers_max}."),
        format!("Crowd: at most {crowd_max}."),
        match bounds.iter().find(|(bound, _)| bound == sockets_max) {
            Some((_, what)) => format!("Attackers, crowd and load together: at most {sockets_max}, bounded by {what}."),
            None => format!("Attackers, crowd and load together: at most {sockets_max}, bounded by the storm itself."),
        },
    ];
    if let Some(soft) = facts.files
        && facts.files_hard.is_none_or(|hard| soft < hard)
    {
        says.push(format!("Open files: {soft} now; the storm raises that by itself as far as it may."));
    }
    match rate_max {
        Some(rate) => says.push(format!("Rates: up to {rate:.0} a second; above, the storm measures itself.")),
        None => says.push("Rates: unknown, since loopback couldn't be measured.".to_owned()),
    }
    if let Some(connects) = facts.connects_per_second {
        says.push(format!("New connections: up to {:.0} a second.", connects * RATE_SHARE));
    }
    if let Some(ports) = facts.ports {
        let rate = ports * u64::from(facts.sources.max(1)) / PORT_REST_SECONDS;
        says.push(format!("Connections that are closed in order: up to {rate} a second for long, since ports rest."));
    }
    if let Some(lag) = facts.lag_us {
        says.push(format!("Latencies: what is below {:.1} ms can't be told from late timers.", lag as f64 / 1000.0));
    }
    says
}

fn changes(facts: &Facts, found: &Conclusions, files: u64) -> Vec<String> {
    let mut change = Vec::new();
    let wanted = u64::from(SOCKETS_MAX) + FILES_OWN;
    if files < wanted - FILES_OWN {
        let is_bounded = facts.files_system.is_some_and(|most| most < wanted);
        let first = if is_bounded { format!("`sysctl fs.nr_open={wanted}`, then ") } else { String::new() };
        change.push(format!(
            "Open files bound the storm: {first}`ulimit -Hn {wanted}` as root (or LimitNOFILE= of the service) allows \
             all that a plan may have."
        ));
    }
    if facts.ports.is_some_and(|ports| ports < 20_000) {
        change.push("Few ports: `sysctl net.ipv4.ip_local_port_range=\"10000 65000\"` gives more.".to_owned());
    }
    if facts.tw_reuse == Some(0) {
        change.push("Ports rest for a minute: `sysctl net.ipv4.tcp_tw_reuse=2` shortens that on loopback.".to_owned());
    }
    if facts.somaxconn.is_some_and(|most| most < SOMAXCONN_MIN) {
        change.push(format!(
            "A target on this machine refuses bursts: `sysctl net.core.somaxconn=4096`, instead of {}.",
            facts.somaxconn.unwrap_or_default()
        ));
    }
    let cores = facts.quota.unwrap_or(f64::INFINITY).min(f64::from(facts.cores));
    if cores < CORES_MIN {
        change.push(format!(
            "Cores: {cores} are few for a crowd, attackers and a target on one machine: they take from each other. Let \
             the target run elsewhere, or trust ratios more than numbers."
        ));
    }
    if facts.lag_us.is_some_and(|lag| lag > LAG_MAX_US) {
        change
            .push("Timers are late: something else keeps this machine busy; stop it or measure elsewhere.".to_owned());
    }
    if found.sockets_max < 1_000 && files >= 1_000 {
        change.push("Memory is short: a thousand attackers need about 64 MiB that are free.".to_owned());
    }
    change
}

impl fmt::Display for Doctor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Facts { files, files_hard, ports, sources, cores, quota, memory, somaxconn, tw_reuse, .. } = &self.facts;
        let count = |count: &Option<u64>| count.map_or("unlimited or unknown".to_owned(), |count| count.to_string());
        writeln!(f, "open files          {}, can be raised to {}", count(files), count(files_hard))?;
        writeln!(f, "outgoing ports      {} for each of {sources} addresses on loopback", count(ports))?;
        match quota {
            Some(quota) => writeln!(f, "cores               {cores}, of which {quota:.1} may be used")?,
            None => writeln!(f, "cores               {cores}")?,
        }
        let mib = memory.map(|memory| memory >> 20);
        writeln!(f, "memory available    {} MiB", count(&mib))?;
        writeln!(f, "listener's queue    {}", count(somaxconn))?;
        writeln!(f, "tcp_tw_reuse        {}", count(tw_reuse))?;
        let measured =
            |value: Option<f64>| value.map_or("couldn't be measured".to_owned(), |value| format!("{value:.0}"));
        let lag = self.facts.lag_us.map(|lag| lag as f64);
        writeln!(f, "timer lag           {} us, of 99 in 100", measured(lag))?;
        writeln!(f, "connections         {} a second", measured(self.facts.connects_per_second))?;
        writeln!(f, "round trips         {} a second", measured(self.facts.round_trips_per_second))?;
        writeln!(f)?;
        for says in &self.conclusions.says {
            writeln!(f, "{says}")?;
        }
        if !self.conclusions.change.is_empty() {
            writeln!(f, "\nWhat could be changed:")?;
            for change in &self.conclusions.change {
                writeln!(f, "- {change}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine that lacks nothing.
    fn large() -> Facts {
        Facts {
            files: Some(1 << 20),
            files_hard: Some(1 << 20),
            files_system: Some(1 << 20),
            ports: Some(28_232),
            sources: 200,
            cores: 8,
            quota: None,
            memory: Some(16 << 30),
            somaxconn: Some(4096),
            tw_reuse: Some(2),
            lag_us: Some(1_200),
            connects_per_second: Some(20_000.0),
            round_trips_per_second: Some(100_000.0),
        }
    }

    #[test]
    fn a_large_machine_is_bounded_by_the_storm_and_has_nothing_to_change() {
        let found = conclude(&large());
        assert_eq!((found.attackers_max, found.crowd_max), (ATTACKERS_MAX, CROWD_MAX));
        assert_eq!((found.sockets_max, found.rate_max), (19_000, Some(50_000.0)));
        assert!(found.says.iter().any(|says| says.contains("bounded by the storm itself")), "{:?}", found.says);
        assert_eq!(found.change, Vec::<String>::new());
    }

    #[test]
    fn each_lack_bounds_what_can_be_had_and_has_its_advice() {
        let few_files = Facts { files: Some(1024), files_hard: Some(4096), ..large() };
        let bounded = Facts { files_system: Some(4096), ..few_files.clone() };
        let table: &[(Facts, u64, &str, &str)] = &[
            (few_files, 4032, "bounded by open files", "`ulimit -Hn 19064`"),
            (bounded, 4032, "bounded by open files", "`sysctl fs.nr_open=19064`, then `ulimit"),
            (Facts { files: Some(1024), cores: 1, ..large() }, 19_000, "raises that by itself", "Cores: 1 "),
            (Facts { memory: Some(16 << 20), ..large() }, 256, "bounded by memory", "Memory is short"),
            (Facts { ports: Some(1000), sources: 1, ..large() }, 1000, "bounded by ports", "ip_local_port_range"),
            (Facts { tw_reuse: Some(0), ..large() }, 19_000, "storm itself", "tcp_tw_reuse=2"),
            (Facts { somaxconn: Some(128), ..large() }, 19_000, "storm itself", "instead of 128"),
            (Facts { cores: 2, ..large() }, 19_000, "storm itself", "Cores: 2"),
            (Facts { quota: Some(1.5), ..large() }, 19_000, "storm itself", "Cores: 1.5"),
            (Facts { lag_us: Some(9_000), ..large() }, 19_000, "9.0 ms", "Timers are late"),
        ];
        for (facts, sockets, says, change) in table {
            let found = conclude(facts);
            assert_eq!(found.sockets_max, *sockets, "{facts:?}");
            assert!(found.says.iter().any(|line| line.contains(says)), "{says}: {:?}", found.says);
            assert!(found.change.len() == 1 && found.change[0].contains(change), "{change}: {:?}", found.change);
        }
    }

    #[test]
    fn what_is_unknown_is_said_to_be() {
        let found = conclude(&Facts { cores: 4, ..Facts::default() });
        assert_eq!((found.attackers_max, found.rate_max, found.change.len()), (ATTACKERS_MAX, None, 0));
        assert!(found.says.iter().any(|says| says.contains("couldn't be measured")), "{:?}", found.says);
    }

    #[test]
    fn a_look_finds_something_on_this_machine_and_is_quick() {
        let began = std::time::Instant::now();
        let doctor = look();
        let took = began.elapsed();
        assert!(doctor.facts.connects_per_second > Some(10.0), "{doctor}");
        assert!(doctor.facts.round_trips_per_second > Some(100.0) && doctor.facts.lag_us.is_some(), "{doctor}");
        assert!(took < std::time::Duration::from_secs(4), "{took:?}");
        let text = serde_json::to_string(&doctor).unwrap();
        assert_eq!(serde_json::from_str::<Doctor>(&text).unwrap().conclusions.says, doctor.conclusions.says);
        assert!(doctor.to_string().contains("Attackers: at most"), "{doctor}");
    }
}
