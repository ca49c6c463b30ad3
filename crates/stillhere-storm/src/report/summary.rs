//! A run in numbers: `summary.json`.
//!
//! Its format is a promise like that of the samples: fields are added, never renamed. `docs/storm-samples.md` describes
//! each.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{figures, units, warnings};
use crate::plan::Threshold;
use crate::sample::{AttackSecond, CrowdSecond, Phase, Recording, Second, Spread};

/// The version of the summary's format.
pub const VERSION: u32 = 1;
/// Files of the attack's connections may take this long to be closed: what is open then is left.
const FILES_SETTLE_MS: u64 = 5_000;

/// A run, added up and judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// [`VERSION`].
    pub version: u32,
    /// The storm's own version.
    pub stillhere: String,
    /// The plan's name.
    pub plan: String,
    /// Whom it met, `HOST:PORT`.
    pub target_address: String,
    /// When it began.
    pub started: jiff::Timestamp,
    /// Of a search: which trial, from 1.
    pub trial: Option<u32>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Why it ended before its time, if it did.
    pub cut: Option<String>,
    /// Whether that was the storm's own fault, so that it tells nothing of the target.
    #[serde(default)]
    pub own_fault: bool,
    /// Whether it came to its end and every threshold held.
    pub passed: bool,
    /// The same in a sentence.
    pub verdict: String,
    /// Each threshold with what was measured.
    pub judged: Vec<Judged>,
    /// What makes the numbers doubtful, in sentences. They don't change the verdict.
    pub warnings: Vec<String>,
    /// Every figure that was measured, by its name: microseconds, bytes or a number.
    pub figures: BTreeMap<String, f64>,
    /// Honest clients of the plan; 0 without a crowd.
    pub clients: u64,
    /// The honest clients before the attack.
    pub before: CrowdSummary,
    /// While it lasted.
    pub during: CrowdSummary,
    /// Afterwards.
    pub after: CrowdSummary,
    /// In the whole run, from the first second on.
    pub whole: CrowdSummary,
    /// The attackers, by the attack's name.
    pub attacks: BTreeMap<String, AttackSummary>,
    /// The load, if there was one.
    pub load: Option<LoadSummary>,
    /// The target, as far as it could be seen.
    pub target: TargetSummary,
    /// The storm itself.
    pub own: OwnSummary,
}

/// A threshold and what was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// What must hold.
    pub threshold: Threshold,
    /// The figure; `None` if it wasn't measured.
    pub value: Option<f64>,
    /// Whether it holds. What wasn't measured doesn't.
    pub holds: bool,
}

/// How times are spread, in microseconds, each within 0.1 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many there are.
    pub count: u64,
    /// The mean, to a tenth.
    pub mean: f64,
    /// The median.
    pub p50: u64,
    /// Nine in ten are at most this.
    pub p90: u64,
    /// 99 in 100.
    pub p99: u64,
    /// 999 in 1,000.
    #[serde(rename = "p99_9")]
    pub p999: u64,
    /// The longest.
    pub max: u64,
}

/// What the honest clients saw in a part of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CrowdSummary {
    /// How long the part was, in seconds.
    pub seconds: f64,
    /// Beats (exchanges) sent.
    pub sent: u64,
    /// Beats answered.
    pub answered: u64,
    /// Beats that were never answered.
    pub unanswered: u64,
    /// Round trips.
    pub rtt_us: Option<Latency>,
    /// Times that a client was put on leave although it beat, as far as clients were told.
    pub false_leaves: u64,
    /// Links that broke or were closed.
    pub links_lost: u64,
    /// Of these, those that broke, by what happened.
    pub losses: BTreeMap<String, u64>,
    /// Of these, those that the target closed, by code.
    pub closes: BTreeMap<u16, u64>,
    /// Links that came back with their session unbroken.
    pub resumed: u64,
    /// Sessions that were lost.
    pub sessions_lost: u64,
    /// Messages that were acknowledged.
    pub said: u64,
    /// Messages that were refused or never acknowledged.
    pub unsaid: u64,
    /// From saying to the acknowledgement.
    pub say_us: Option<Latency>,
    /// Messages received.
    pub messages: u64,
    /// Acknowledged messages that somebody should have got and hasn't.
    pub messages_lost: u64,
    /// Messages received twice.
    pub messages_doubled: u64,
    /// Signals received.
    pub signals: u64,
    /// From a signal to its receiver.
    pub signal_us: Option<Latency>,
    /// New clients that were let in.
    pub newcomers: u64,
    /// New clients that weren't.
    pub newcomers_refused: u64,
    /// From connecting to being let in.
    pub enter_us: Option<Latency>,
}

/// What one attack did, in the whole run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AttackSummary {
    /// How many attackers the plan has.
    pub attackers: u64,
    /// Tries a second that the plan asks for, if it does.
    pub rate: Option<f64>,
    /// Tries begun.
    pub tries: u64,
    /// Tries a second while the attack lasted.
    pub tries_per_second: f64,
    /// Connections that opened.
    pub connected: u64,
    /// Connections that didn't open.
    pub refused: u64,
    /// The most connections open at the end of a second.
    pub open_max: u64,
    /// Connections that the target ended.
    pub ended: u64,
    /// Of these, those with a code, by code.
    pub closes: BTreeMap<u16, u64>,
    /// Attackers that had to become users first, and didn't.
    #[serde(default)]
    pub turned_away: u64,
    /// Connections that the target should have ended by the attack's end and hadn't.
    pub overdue: u64,
    /// What the target answered.
    pub answered: u64,
    /// Requests that it refused with an error, by code.
    pub errors: BTreeMap<u16, u64>,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
}

/// What the load did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadSummary {
    /// Requests that were due.
    pub due: u64,
    /// Requests sent.
    pub sent: u64,
    /// Requests answered.
    pub answered: u64,
    /// Requests refused, or lost with their connection.
    pub failed: u64,
    /// Requests that were due and never answered.
    pub open: u64,
    /// Requests answered a second, while the load lasted.
    pub rate: f64,
    /// From when a request was due to its answer.
    pub latency_us: Option<Latency>,
}

/// What was seen of the target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TargetSummary {
    /// Resident memory before the attack in bytes, median.
    pub rss_before: Option<u64>,
    /// The largest from the attack on.
    pub rss_peak: Option<u64>,
    /// In the last second.
    pub rss_end: Option<u64>,
    /// Cores used before the attack.
    pub cpu_before: Option<f64>,
    /// While it lasted.
    pub cpu_during: Option<f64>,
    /// Afterwards.
    pub cpu_after: Option<f64>,
    /// Open files before the attack, median.
    pub files_before: Option<u64>,
    /// The most from the attack on.
    pub files_peak: Option<u64>,
    /// Five seconds after the attack, or in the last second if that is earlier.
    pub files_left: Option<u64>,
    /// The most threads.
    pub threads_peak: Option<u64>,
    /// False leaves that its metrics counted in the whole run, attackers' among them.
    pub false_leaves: Option<u64>,
}

/// What the storm itself needed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OwnSummary {
    /// Cores that it may use.
    pub cores: u32,
    /// Cores that it used during the attack.
    pub cpu_during: Option<f64>,
    /// Of these, the crowd's thread.
    pub crowd_cpu_during: Option<f64>,
    /// The worst lateness of the crowd's timers during the attack in microseconds, of 99 in 100 seconds.
    pub lag_us_p99: Option<u64>,
    /// The same, of the worst second of the run.
    pub lag_us_max: Option<u64>,
    /// The most resident memory in bytes.
    pub rss_peak: u64,
    /// The most open files.
    pub files_peak: u64,
}

impl Summary {
    /// Adds a run up and judges it.
    pub fn of(recording: &Recording) -> Summary {
        let Recording { run, seconds, end, torn: _ } = recording;
        let part = |phase| CrowdSummary::of(seconds.iter().filter(move |second| second.phase == phase));
        let mut summary = Summary {
            version: VERSION,
            stillhere: run.stillhere.clone(),
            plan: run.plan.name.clone(),
            target_address: run.plan.target.address.clone(),
            started: run.started,
            trial: run.trial,
            took_ms: end.as_ref().map(|end| end.at_ms).or(seconds.last().map(|last| last.at_ms)).unwrap_or(0),
            cut: match end {
                Some(end) => end.cut.clone(),
                None => Some("killed, or still under way".to_owned()),
            },
            own_fault: end.as_ref().is_some_and(|end| end.own_fault),
            passed: false,
            verdict: String::new(),
            judged: Vec::new(),
            warnings: Vec::new(),
            figures: BTreeMap::new(),
            clients: run.plan.crowd.as_ref().map_or(0, |crowd| u64::from(crowd.count)),
            before: part(Phase::Before),
            during: part(Phase::During),
            after: part(Phase::After),
            whole: CrowdSummary::of(seconds.iter()),
            attacks: attacks(recording),
            load: load(seconds),
            target: target(seconds),
            own: own(recording),
        };
        summary.figures = figures::measure(recording, &summary);
        summary.warnings = warnings::of(recording, &summary);
        summary.judge(&run.plan.thresholds);
        summary
    }

    /// A figure of [`plan::figure`](crate::plan::figure); `None` if it wasn't measured.
    pub fn figure(&self, name: &str) -> Option<f64> {
        self.figures.get(name).copied()
    }

    fn judge(&mut self, thresholds: &[Threshold]) {
        let judge = |threshold: &Threshold| {
            let value = self.figure(&threshold.figure);
            Judged { threshold: threshold.clone(), value, holds: threshold.holds(value) }
        };
        self.judged = thresholds.iter().map(judge).collect();
        let broken = self.judged.iter().filter(|judged| !judged.holds).count();
        let unmeasured = self.judged.iter().filter(|judged| judged.value.is_none()).count();
        self.passed = broken == 0 && self.cut.is_none();
        let all = self.judged.len();
        let measured = if unmeasured > 0 { format!(", {unmeasured} of them not measured") } else { String::new() };
        self.verdict = match (&self.cut, broken, all) {
            (None, 0, 0) => "passed: it came to its end, and the plan has no threshold to break".to_owned(),
            (None, 0, 1) => "passed: the threshold holds".to_owned(),
            (None, 0, _) => format!("passed: all {all} thresholds hold"),
            (None, _, _) => format!("failed: {broken} of {} broken{measured}", units::plural(all as u64, "threshold")),
            (Some(cut), 0, _) => format!("failed: the run was cut ({})", units::shown(cut)),
            (Some(cut), _, _) => format!(
                "failed: the run was cut ({}), and {broken} of {} broken{measured}",
                units::shown(cut),
                units::plural(all as u64, "threshold")
            ),
        };
    }
}

impl Latency {
    /// `None` without values.
    pub fn of(spread: &Spread) -> Option<Latency> {
        Some(Latency {
            count: spread.count(),
            mean: (spread.mean()? * 10.0).round() / 10.0,
            p50: spread.quantile(0.5)?,
            p90: spread.quantile(0.9)?,
            p99: spread.quantile(0.99)?,
            p999: spread.quantile(0.999)?,
            max: spread.max()?,
        })
    }
}

impl CrowdSummary {
    fn of<'a>(seconds: impl Iterator<Item = &'a Second> + Clone) -> CrowdSummary {
        let sum = |of: fn(&CrowdSecond) -> u64| {
            seconds.clone().fold(0_u64, |sum, second| sum.saturating_add(of(&second.crowd)))
        };
        let latency =
            |of: fn(&CrowdSecond) -> &Spread| Latency::of(&merged(seconds.clone().map(|second| of(&second.crowd))));
        let losses = added(seconds.clone().flat_map(|second| second.crowd.losses.clone()));
        let closes = added(seconds.clone().flat_map(|second| second.crowd.closes.clone()));
        CrowdSummary {
            seconds: lasted(seconds.clone()),
            sent: sum(|crowd| crowd.sent),
            answered: sum(|crowd| crowd.answered),
            unanswered: sum(|crowd| crowd.unanswered),
            rtt_us: latency(|crowd| &crowd.rtt_us),
            false_leaves: sum(|crowd| crowd.false_leaves),
            links_lost: total(&losses).saturating_add(total(&closes)),
            losses,
            closes,
            resumed: sum(|crowd| crowd.resumed),
            sessions_lost: sum(|crowd| crowd.sessions_lost),
            said: sum(|crowd| crowd.said),
            unsaid: sum(|crowd| crowd.unsaid),
            say_us: latency(|crowd| &crowd.say_us),
            messages: sum(|crowd| crowd.messages),
            messages_lost: sum(|crowd| crowd.messages_lost),
            messages_doubled: sum(|crowd| crowd.messages_doubled),
            signals: sum(|crowd| crowd.signals),
            signal_us: latency(|crowd| &crowd.signal_us),
            newcomers: sum(|crowd| crowd.newcomers),
            newcomers_refused: sum(|crowd| crowd.newcomers_refused),
            enter_us: latency(|crowd| &crowd.enter_us),
        }
    }
}

/// All spreads as one.
pub(super) fn merged<'a>(spreads: impl Iterator<Item = &'a Spread>) -> Spread {
    let mut spreads = spreads.filter(|spread| !spread.is_empty());
    let mut all = spreads.next().cloned().unwrap_or_default();
    spreads.for_each(|spread| all.merge(spread));
    all
}

/// How long these seconds are together.
pub(super) fn lasted<'a>(seconds: impl Iterator<Item = &'a Second>) -> f64 {
    seconds.map(|second| second.for_ms as f64 / 1e3).sum()
}

/// The sum of all counts.
pub(super) fn total<K>(counts: &BTreeMap<K, u64>) -> u64 {
    counts.values().fold(0, |sum, count| sum.saturating_add(*count))
}

fn added<K: Ord>(counts: impl Iterator<Item = (K, u64)>) -> BTreeMap<K, u64> {
    let mut all = BTreeMap::new();
    for (key, count) in counts {
        let sum: &mut u64 = all.entry(key).or_default();
        *sum = sum.saturating_add(count);
    }
    all
}

fn attacks(recording: &Recording) -> BTreeMap<String, AttackSummary> {
    let mut all: BTreeMap<String, AttackSummary> = BTreeMap::new();
    for attack in &recording.run.plan.attacks {
        let summary = all.entry(attack.name.clone()).or_default();
        summary.attackers = summary.attackers.saturating_add(u64::from(attack.count));
        if let Some(rate) = attack.rate {
            summary.rate = Some(summary.rate.unwrap_or(0.0) + rate);
        }
    }
    for second in &recording.seconds {
        for (name, attack) in &second.attacks {
            if !all.contains_key(name) {
                all.insert(name.clone(), AttackSummary::default());
            }
            if let Some(summary) = all.get_mut(name) {
                summary.add(attack);
            }
        }
    }
    let during = lasted(phase(&recording.seconds, Phase::During));
    let last = phase(&recording.seconds, Phase::During).last();
    for (name, summary) in &mut all {
        let tries = phase(&recording.seconds, Phase::During).filter_map(|second| second.attacks.get(name));
        let tries = tries.fold(0_u64, |sum, attack| sum.saturating_add(attack.tries));
        summary.tries_per_second = if during > 0.0 { tries as f64 / during } else { 0.0 };
        summary.overdue = last.and_then(|last| last.attacks.get(name)).map_or(0, |attack| attack.overdue);
    }
    all
}

impl AttackSummary {
    fn add(&mut self, second: &AttackSecond) {
        for (sum, count) in [
            (&mut self.tries, second.tries),
            (&mut self.connected, second.connected),
            (&mut self.refused, second.refused),
            (&mut self.ended, second.ended),
            (&mut self.answered, second.answered),
            (&mut self.sent_bytes, second.sent_bytes),
            (&mut self.turned_away, second.turned_away),
            (&mut self.received_bytes, second.received_bytes),
        ] {
            *sum = sum.saturating_add(count);
        }
        self.open_max = self.open_max.max(second.open);
        for (sums, counts) in [(&mut self.closes, &second.closes), (&mut self.errors, &second.errors)] {
            for (&code, &count) in counts {
                let sum = sums.entry(code).or_default();
                *sum = sum.saturating_add(count);
            }
        }
    }
}

fn load(seconds: &[Second]) -> Option<LoadSummary> {
    let loads = || seconds.iter().filter_map(|second| second.load.as_ref());
    let last = loads().next_back()?;
    let sum = |of: fn(&crate::sample::LoadSecond) -> u64| loads().fold(0_u64, |sum, load| sum.saturating_add(of(load)));
    let during = phase(seconds, Phase::During).filter(|second| second.load.is_some());
    let answered = during.clone().filter_map(|second| second.load.as_ref()).map(|load| load.answered as f64);
    let (answered, seconds) = (answered.sum::<f64>(), lasted(during));
    Some(LoadSummary {
        due: sum(|load| load.due),
        sent: sum(|load| load.sent),
        answered: sum(|load| load.answered),
        failed: sum(|load| load.failed),
        open: last.open,
        rate: if seconds > 0.0 { answered / seconds } else { 0.0 },
        latency_us: Latency::of(&merged(loads().map(|load| &load.latency_us))),
    })
}

/// The seconds of one phase.
pub(super) fn phase(seconds: &[Second], phase: Phase) -> impl Iterator<Item = &Second> + Clone {
    seconds.iter().filter(move |second| second.phase == phase)
}

fn target(seconds: &[Second]) -> TargetSummary {
    use crate::sample::TargetSecond;
    let before = |of: fn(&TargetSecond) -> Option<u64>| {
        let mut values: Vec<u64> =
            phase(seconds, Phase::Before).filter_map(|second| of(second.target.as_ref()?)).collect();
        values.sort_unstable();
        values.get(values.len().saturating_sub(1) / 2).copied()
    };
    let attacked = || seconds.iter().filter(|second| second.phase >= Phase::During);
    let peak = |of: fn(&TargetSecond) -> Option<u64>| attacked().filter_map(|second| of(second.target.as_ref()?)).max();
    let last = seconds.last().and_then(|last| last.target.as_ref());
    let cpu = |of| cores(seconds, of, |second| second.target.as_ref()?.cpu_ms);
    TargetSummary {
        rss_before: before(|target| target.rss),
        rss_peak: peak(|target| target.rss),
        rss_end: last.and_then(|last| last.rss),
        cpu_before: cpu(Phase::Before),
        cpu_during: cpu(Phase::During),
        cpu_after: cpu(Phase::After),
        files_before: before(|target| target.files),
        files_peak: peak(|target| target.files),
        files_left: settled(seconds).and_then(|second| second.target.as_ref()?.files),
        threads_peak: seconds.iter().filter_map(|second| second.target.as_ref()?.threads).max(),
        false_leaves: grown(seconds.iter().filter_map(|second| second.target.as_ref()?.false_leaves)),
    }
}

/// The first second that ends [`FILES_SETTLE_MS`] after the attack, or the last one after it.
fn settled(seconds: &[Second]) -> Option<&Second> {
    let end = phase(seconds, Phase::During).last()?.at_ms;
    let settled = phase(seconds, Phase::After).find(|second| second.at_ms >= end.saturating_add(FILES_SETTLE_MS));
    settled.or_else(|| phase(seconds, Phase::After).last())
}

/// How much a counter has grown; where it falls, it began anew at zero. `None` if it was seen less than twice.
fn grown(values: impl Iterator<Item = u64>) -> Option<u64> {
    let mut last = None;
    let mut sum = None;
    for value in values {
        if let Some(last) = last {
            let step = if value >= last { value - last } else { value };
            sum = Some(sum.unwrap_or(0_u64).saturating_add(step));
        }
        last = Some(value);
    }
    sum
}

/// Cores used in a phase, from a counter of CPU milliseconds at the end of each second.
pub(super) fn cores(seconds: &[Second], of: Phase, cpu_ms: impl Fn(&Second) -> Option<u64>) -> Option<f64> {
    let first = seconds.iter().position(|second| second.phase == of)?;
    let last = seconds.iter().rposition(|second| second.phase == of)?;
    // The counter's value at the phase's beginning is that of the second before.
    let seen: Vec<(u64, u64)> = seconds[first.saturating_sub(1)..=last]
        .iter()
        .filter_map(|second| Some((second.at_ms, cpu_ms(second)?)))
        .collect();
    let for_ms = seen.last()?.0.saturating_sub(seen.first()?.0);
    let used = grown(seen.iter().map(|&(_, cpu)| cpu))?;
    (for_ms > 0).then(|| used as f64 / for_ms as f64)
}

fn own(recording: &Recording) -> OwnSummary {
    let seconds = &recording.seconds;
    let crowd = recording.run.plan.crowd.is_some();
    let lags = |seconds: &mut dyn Iterator<Item = &Second>| {
        let mut spread = Spread::default();
        seconds.for_each(|second| spread.record(second.own.lag_us));
        spread
    };
    OwnSummary {
        cores: recording.run.cores,
        cpu_during: cores(seconds, Phase::During, |second| Some(second.own.cpu_ms)),
        crowd_cpu_during: cores(seconds, Phase::During, |second| Some(second.own.crowd_cpu_ms)).filter(|_| crowd),
        lag_us_p99: lags(&mut phase(seconds, Phase::During)).quantile(0.99).filter(|_| crowd),
        lag_us_max: lags(&mut seconds.iter()).max().filter(|_| crowd),
        rss_peak: seconds.iter().map(|second| second.own.rss).max().unwrap_or(0),
        files_peak: seconds.iter().map(|second| second.own.files).max().unwrap_or(0),
    }
}
