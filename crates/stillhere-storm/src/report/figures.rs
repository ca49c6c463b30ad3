//! The figures of a run, each by the name that thresholds call it.

use std::collections::BTreeMap;

use super::summary::{CrowdSummary, Latency, Summary};
use crate::plan::figure::FIGURES;
use crate::plan::{Crowd, Mode, Plan};
use crate::sample::Recording;

/// All that were measured.
pub(super) fn measure(recording: &Recording, summary: &Summary) -> BTreeMap<String, f64> {
    let seen = Seen { recording, summary, plan: &recording.run.plan };
    let all = FIGURES.iter().filter_map(|figure| Some((figure.name.to_owned(), seen.figure(figure.name)?)));
    all.filter(|(_, value)| value.is_finite()).collect()
}

struct Seen<'a> {
    recording: &'a Recording,
    summary: &'a Summary,
    plan: &'a Plan,
}

impl Seen<'_> {
    fn figure(&self, name: &str) -> Option<f64> {
        let Summary { before, during, after, whole, target, own, .. } = self.summary;
        let load = self.summary.load.as_ref();
        let load_us = load.and_then(|load| load.latency_us.as_ref());
        match name {
            "p50" => rtt(during, |rtt| rtt.p50),
            "p90" => rtt(during, |rtt| rtt.p90),
            "p99" => rtt(during, |rtt| rtt.p99),
            "p99.9" => rtt(during, |rtt| rtt.p999),
            "max" => rtt(during, |rtt| rtt.max),
            "before.p50" => rtt(before, |rtt| rtt.p50),
            "before.p99" => rtt(before, |rtt| rtt.p99),
            "before.p99.9" => rtt(before, |rtt| rtt.p999),
            "after.p50" => rtt(after, |rtt| rtt.p50),
            "after.p99" => rtt(after, |rtt| rtt.p99),
            "after.p99.9" => rtt(after, |rtt| rtt.p999),
            "p50_ratio" => ratio(self.figure("p50")?, self.figure("before.p50")?),
            "p99_ratio" => ratio(self.figure("p99")?, self.figure("before.p99")?),
            "p99.9_ratio" => ratio(self.figure("p99.9")?, self.figure("before.p99.9")?),
            "after.p99_ratio" => ratio(self.figure("after.p99")?, self.figure("before.p99")?),
            "false_leaves" => self.false_leaves(),
            "sessions_lost" => self.watched(whole.sessions_lost),
            "links_lost" => self.watched(whole.links_lost),
            "closes" => self.watched(super::summary::total(&whole.closes)),
            "missing" => self.missing(),
            "unanswered" => self.watched(whole.unanswered).filter(|_| self.has_answers()),
            // They are counted when the run ends.
            "messages_lost" => self.said(whole.messages_lost).filter(|_| self.recording.end.is_some()),
            "messages_doubled" => self.said(whole.messages_doubled),
            "unsaid" => self.crowd().filter(|_| whole.said > 0 || whole.unsaid > 0).map(|_| whole.unsaid as f64),
            "say_p99" => during.say_us.map(|say| say.p99 as f64),
            "signal_p99" => during.signal_us.map(|signal| signal.p99 as f64),
            "newcomers_refused" => {
                (whole.newcomers > 0 || whole.newcomers_refused > 0).then_some(whole.newcomers_refused as f64)
            }
            "enter_p99" => during.enter_us.map(|enter| enter.p99 as f64),
            "rate" => load.map(|load| load.rate),
            "load_p50" => load_us.map(|load| load.p50 as f64),
            "load_p99" => load_us.map(|load| load.p99 as f64),
            "load_p99.9" => load_us.map(|load| load.p999 as f64),
            "load_failed" => load.map(|load| load.failed as f64),
            "load_open" => load.map(|load| load.open as f64),
            "tries" => self.attacks(|attack| attack.tries_per_second),
            "overdue" => self.attacks(|attack| attack.overdue as f64),
            "rss_growth" => above(target.rss_peak, target.rss_before),
            "rss_left" => above(target.rss_end, target.rss_before),
            "files_left" => above(target.files_left, target.files_before),
            "cpu" => target.cpu_during,
            "own_cpu" => own.cpu_during,
            "own_lag" => own.lag_us_p99.map(|lag| lag as f64),
            _ => None,
        }
    }

    /// The crowd, if anything was seen of it.
    fn crowd(&self) -> Option<&Crowd> {
        self.plan.crowd.as_ref().filter(|_| !self.recording.seconds.is_empty())
    }

    fn watched(&self, count: u64) -> Option<f64> {
        self.crowd().map(|_| count as f64)
    }

    /// Something about messages: without one, nothing was measured.
    fn said(&self, count: u64) -> Option<f64> {
        self.watched(count).filter(|_| self.summary.whole.said > 0)
    }

    /// Whether beats are answered at all.
    fn has_answers(&self) -> bool {
        match self.plan.crowd.as_ref().map(|crowd| crowd.mode) {
            Some(Mode::V1) => true,
            Some(Mode::Frame) => self.plan.frame.as_ref().is_some_and(|frame| frame.beat.reply.is_some()),
            Some(Mode::Legacy) | None => false,
        }
    }

    /// Clients of v1 who talk are told; of others the target's own metrics know more.
    fn false_leaves(&self) -> Option<f64> {
        let told = self.summary.whole.false_leaves;
        let (crowd, metrics) = (self.crowd()?, self.summary.target.false_leaves);
        let counted = match crowd.mode {
            Mode::V1 if crowd.rooms > 0 => Some(told),
            Mode::V1 | Mode::Legacy => metrics.map(|counted| counted.max(told)),
            Mode::Frame => None,
        };
        counted.or((told > 0).then_some(told)).map(|count| count as f64)
    }

    fn missing(&self) -> Option<f64> {
        let last = &self.recording.seconds.last()?.crowd;
        let is_in = last.alive.saturating_add(last.leave);
        Some(u64::from(self.crowd()?.count).saturating_sub(is_in) as f64)
    }

    /// A sum over the attacks, if there were any and they had time.
    fn attacks(&self, of: fn(&super::AttackSummary) -> f64) -> Option<f64> {
        let attacks = &self.summary.attacks;
        (!attacks.is_empty() && self.summary.during.seconds > 0.0).then(|| attacks.values().map(of).sum())
    }
}

fn rtt(crowd: &CrowdSummary, of: fn(&Latency) -> u64) -> Option<f64> {
    crowd.rtt_us.as_ref().map(|rtt| of(rtt) as f64)
}

fn ratio(value: f64, to: f64) -> Option<f64> {
    (to > 0.0).then(|| value / to)
}

fn above(value: Option<u64>, base: Option<u64>) -> Option<f64> {
    Some(value? as f64 - base? as f64)
}
