//! The metrics, from one table: name, kind, help, and where the numbers come from.

use std::fmt::Write;

use serde_json::{Map, Value};
use stillhere_core::close::{Cause, CloseCode};
use stillhere_core::detector::Status;
use stillhere_core::event::{Mode, Transport};
use stillhere_core::stats::{Histogram, Refused, Resumed, Spoken, Stats};

use crate::process::Process;

/// Everything that metrics are made from, as of one moment.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// All shards' numbers added up.
    pub(crate) stats: Stats,
    pub(crate) outbox_bytes: usize,
    pub(crate) open: usize,
    pub(crate) connections_max: usize,
    pub(crate) refused_full: u64,
    pub(crate) refused_address: u64,
    pub(crate) refused_busy: u64,
    pub(crate) refused_proxy: u64,
    pub(crate) exhausted: u64,
    pub(crate) store_commit: Histogram,
    pub(crate) store_failed: u64,
    pub(crate) store_dropped: u64,
    pub(crate) uptime_seconds: f64,
    pub(crate) draining: bool,
    pub(crate) process: Process,
}

/// One row of the table.
pub struct Metric {
    /// Without the prefix `stillhere_`, which all have but those of the process.
    pub name: &'static str,
    /// Prometheus' word.
    pub kind: &'static str,
    /// What it counts, with its unit.
    pub help: &'static str,
    write: fn(&Snapshot, &mut Lines),
}

impl Metric {
    /// As it is exported. What every process has is called as everybody calls it.
    pub fn full_name(&self) -> String {
        if self.name.starts_with("process_") { self.name.to_owned() } else { format!("stillhere_{}", self.name) }
    }
}

/// One number.
struct Sample {
    /// What follows the metric's name: nothing, or a histogram's `_bucket`, `_sum`, `_count`.
    suffix: &'static str,
    /// As Prometheus writes them, without braces.
    labels: String,
    value: f64,
}

/// Collects the samples of one metric.
#[derive(Default)]
struct Lines(Vec<Sample>);

impl Lines {
    fn plain(&mut self, value: impl Number) {
        self.add("", String::new(), value);
    }

    /// A number that the system may not tell.
    fn known(&mut self, value: Option<impl Number>) {
        if let Some(value) = value {
            self.plain(value);
        }
    }

    fn labelled(&mut self, labels: &str, value: impl Number) {
        self.add("", labels.to_owned(), value);
    }

    fn histogram(&mut self, histogram: &Histogram) {
        for (bound, below) in histogram.cumulative() {
            self.add("_bucket", format!("le=\"{bound}\""), below);
        }
        self.add("_bucket", "le=\"+Inf\"".to_owned(), histogram.count());
        self.add("_sum", String::new(), histogram.sum_seconds());
        self.add("_count", String::new(), histogram.count());
    }

    fn add(&mut self, suffix: &'static str, labels: String, value: impl Number) {
        self.0.push(Sample { suffix, labels, value: value.value() });
    }
}

/// What a sample's value is made from. Counts are exact up to 2⁵³, as in Prometheus itself.
trait Number {
    fn value(self) -> f64;
}

impl Number for f64 {
    fn value(self) -> f64 {
        self
    }
}

impl Number for u64 {
    fn value(self) -> f64 {
        self as f64
    }
}

impl Number for usize {
    fn value(self) -> f64 {
        self as f64
    }
}

macro_rules! metrics {
    ($($name:literal $kind:literal $help:literal $write:expr;)*) => {
        /// Every metric, in the order in which they are shown.
        pub const METRICS: &[Metric] = &[$(Metric { name: $name, kind: $kind, help: $help, write: $write },)*];
    };
}

metrics! {
    "links" "gauge" "Links now, by what carries them and what they speak." |now, lines| {
        for transport in Transport::ALL {
            for mode in Mode::ALL {
                let labels = format!("transport=\"{}\",mode=\"{}\"", transport.name(), mode.name());
                lines.labelled(&labels, now.stats.links[transport as usize][mode as usize]);
            }
        }
    };
    "links_opened_total" "counter" "Links accepted." |now, lines| lines.plain(now.stats.links_opened);
    "connections_max" "gauge" "Links that may be open at once." |now, lines| lines.plain(now.connections_max);
    "sockets_open" "gauge" "Sockets of links now, those being closed included." |now, lines| lines.plain(now.open);
    "sessions" "gauge" "Sessions now, by status." |now, lines| {
        for status in [Status::Alive, Status::Leave] {
            lines.labelled(&format!("status=\"{}\"", status.name()), now.stats.sessions[status as usize]);
        }
    };
    "sessions_retained" "gauge" "v1 sessions now that wait for a new link." |now, lines| lines.plain(now.stats.retained);
    "identities_remembered" "gauge" "Closed sessions whose identity is remembered." |now, lines| {
        lines.plain(now.stats.remembered);
    };
    "beats_total" "counter" "Valid beats received, by mode." |now, lines| {
        for mode in [Mode::Legacy, Mode::V1] {
            lines.labelled(&format!("mode=\"{}\"", mode.name()), now.stats.beats[mode as usize]);
        }
    };
    "beats_early_total" "counter" "Signs of life that came too early to move a cursor." |now, lines| {
        lines.plain(now.stats.early_beats);
    };
    "misses_total" "counter" "Intervals without a sign of life." |now, lines| lines.plain(now.stats.misses);
    "transitions_total" "counter" "Changes of status." |now, lines| {
        for from in Status::ALL {
            for to in Status::ALL {
                for cause in Cause::ALL {
                    let count = now.stats.transitions[from as usize][to as usize][*cause as usize];
                    if count > 0 {
                        let (from, to, cause) = (from.name(), to.name(), cause.name());
                        lines.labelled(&format!("from=\"{from}\",to=\"{to}\",cause=\"{cause}\""), count);
                    }
                }
            }
        }
    };
    "detection_seconds" "histogram" "From a silent peer's last frame to its leave." |now, lines| {
        lines.histogram(&now.stats.detection);
    };
    "beat_gap_seconds" "histogram" "Between two signs of life of a session." |now, lines| {
        lines.histogram(&now.stats.beat_gap);
    };
    "beat_rtt_seconds" "histogram" "From the server's request for a beat to the beat." |now, lines| {
        lines.histogram(&now.stats.beat_rtt);
    };
    "false_leaves_total" "counter" "Peers put on leave by the detector and heard again on the same link." |now, lines| {
        lines.plain(now.stats.false_leaves);
    };
    "closes_total" "counter" "Links and sessions ended, by close code; none if the peer left." |now, lines| {
        for code in CloseCode::all() {
            let labels = format!("code=\"{}\",name=\"{}\"", code.number(), code.name());
            lines.labelled(&labels, now.stats.closes[code.index()]);
        }
        lines.labelled("code=\"none\",name=\"peer_left\"", now.stats.ends);
    };
    "resumes_total" "counter" "Requests to resume a session, by result." |now, lines| {
        for result in Resumed::ALL {
            lines.labelled(&format!("result=\"{}\"", result.name()), now.stats.resumes[result as usize]);
        }
    };
    "refused_total" "counter" "What was turned away, by reason." |now, lines| {
        for reason in Refused::ALL {
            lines.labelled(&format!("reason=\"{}\"", reason.name()), now.stats.refused[reason as usize]);
        }
        lines.labelled("reason=\"connections\"", now.refused_full);
        lines.labelled("reason=\"connections_per_address\"", now.refused_address);
        lines.labelled("reason=\"overload\"", now.refused_busy);
        lines.labelled("reason=\"proxy_header\"", now.refused_proxy);
    };
    "fds_exhausted_total" "counter" "Times that no file descriptor was left for a new link." |now, lines| {
        lines.plain(now.exhausted);
    };
    "kicks_total" "counter" "Sessions removed by operators." |now, lines| lines.plain(now.stats.kicks);
    "received_bytes_total" "counter" "Bytes received on links." |now, lines| lines.plain(now.stats.bytes_in);
    "sent_bytes_total" "counter" "Bytes sent on links." |now, lines| lines.plain(now.stats.bytes_out);
    "partial_bytes" "gauge" "Bytes of incomplete frames now." |now, lines| lines.plain(now.stats.partial_bytes);
    "stalls_total" "counter" "Moments in which a shard stood still; a pause of the process counts once for each shard." |now, lines| lines.plain(now.stats.stalls);
    "stalled_seconds_total" "counter" "By how much deadlines were moved for them." |now, lines| {
        lines.plain(now.stats.stalled.as_secs_f64());
    };
    "messages_total" "counter" "What clients sent to rooms and users, by kind." |now, lines| {
        for kind in Spoken::ALL {
            lines.labelled(&format!("kind=\"{}\"", kind.name()), now.stats.spoken[kind as usize]);
        }
    };
    "deliveries_total" "counter" "Pushes written to links." |now, lines| lines.plain(now.stats.deliveries);
    "presence_total" "counter" "Changes of users' presence told, once for each shard." |now, lines| {
        lines.plain(now.stats.presence);
    };
    "digests_total" "counter" "Digests pushed to sessions on leave." |now, lines| lines.plain(now.stats.digests);
    "digest_bytes_total" "counter" "Bytes of those digests." |now, lines| lines.plain(now.stats.digest_bytes);
    "digest_saved_bytes_total" "counter" "Bytes that sessions on leave weren't sent, less those of their digests." |now, lines| {
        lines.plain(now.stats.digest_saved_bytes);
    };
    "chokes_total" "counter" "Times that a peer read more slowly than was written to it." |now, lines| {
        lines.plain(now.stats.chokes);
    };
    "would_refuse_total" "counter" "What the rates of chat would have refused, had they not been told only to count." |now, lines| {
        lines.plain(now.stats.would_refuse);
    };
    "outbox_bytes" "gauge" "Bytes queued now for slow readers." |now, lines| lines.plain(now.outbox_bytes);
    "store_commit_seconds" "histogram" "How long commits of the store took." |now, lines| {
        lines.histogram(&now.store_commit);
    };
    "store_failures_total" "counter" "Commits that failed and were tried again." |now, lines| lines.plain(now.store_failed);
    "store_dropped_total" "counter" "Changes that could not be written." |now, lines| lines.plain(now.store_dropped);
    "draining" "gauge" "1 while the server says goodbye." |now, lines| lines.plain(usize::from(now.draining));
    "uptime_seconds" "gauge" "Since the start." |now, lines| lines.plain(now.uptime_seconds);
    "process_resident_memory_bytes" "gauge" "Resident memory of the process." |now, lines| lines.known(now.process.resident);
    "process_cpu_seconds_total" "counter" "User and system time of the process." |now, lines| {
        lines.known(now.process.cpu_seconds);
    };
    "process_open_fds" "gauge" "Open files of the process." |now, lines| lines.known(now.process.files);
    "process_max_fds" "gauge" "Files that it may have open." |now, lines| lines.known(now.process.files_max);
    "process_threads" "gauge" "Threads of the process." |now, lines| lines.known(now.process.threads);
    "build_info" "gauge" "Always 1; the version is in the label." |_, lines| {
        lines.labelled(concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""), 1usize);
    };
}

fn samples(metric: &Metric, now: &Snapshot) -> Vec<Sample> {
    let mut lines = Lines::default();
    (metric.write)(now, &mut lines);
    lines.0
}

/// The text that Prometheus reads.
pub(crate) fn render(now: &Snapshot) -> String {
    let mut text = String::with_capacity(16 * 1024);
    for metric in METRICS {
        let Metric { kind, help, .. } = metric;
        let name = metric.full_name();
        // Writing to a string can't fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for Sample { suffix, labels, value } in samples(metric, now) {
            let _ = match labels.is_empty() {
                true => writeln!(text, "{name}{suffix} {value}"),
                false => writeln!(text, "{name}{suffix}{{{labels}}} {value}"),
            };
        }
    }
    text
}

/// The same for programs that would rather not parse text: each metric a number, or an object by label value. Of
/// histograms only count and sum.
pub(crate) fn as_json(now: &Snapshot) -> Map<String, Value> {
    let metric = |metric: &Metric| {
        let samples = samples(metric, now);
        let value = match &samples[..] {
            [one] if one.labels.is_empty() => json_number(one.value),
            _ if metric.kind == "histogram" => samples
                .iter()
                .filter(|sample| sample.suffix != "_bucket")
                .map(|sample| (sample.suffix.trim_start_matches('_').to_owned(), json_number(sample.value)))
                .collect(),
            _ => samples.iter().map(|sample| (label_values(&sample.labels), json_number(sample.value))).collect(),
        };
        (metric.name.to_owned(), value)
    };
    METRICS.iter().map(metric).collect()
}

/// `from="alive",to="leave"` as `alive,leave`.
fn label_values(labels: &str) -> String {
    labels.split('"').skip(1).step_by(2).collect::<Vec<_>>().join(",")
}

fn json_number(value: f64) -> Value {
    if value.fract() == 0.0 { Value::from(value as u64) } else { Value::from(value) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn empty() -> Snapshot {
        Snapshot {
            stats: Stats::default(),
            outbox_bytes: 0,
            open: 0,
            connections_max: 0,
            refused_full: 0,
            refused_address: 0,
            refused_busy: 0,
            refused_proxy: 0,
            exhausted: 0,
            store_commit: Histogram::starting_at(Duration::from_millis(1)),
            store_failed: 0,
            store_dropped: 0,
            uptime_seconds: 0.0,
            draining: false,
            process: Process::now(),
        }
    }

    #[test]
    fn every_metric_has_samples_under_its_own_name() {
        let mut now = empty();
        now.stats.transitions[0][1][0] = 3;
        let text = render(&now);
        for metric in METRICS {
            let prefix = metric.full_name();
            let samples = text.lines().filter(|line| line.starts_with(&prefix)).count();
            assert!(samples > 0, "{}", metric.name);
        }
        assert!(text.contains("stillhere_transitions_total{from=\"alive\",to=\"leave\",cause=\"silent\"} 3\n"));
        assert!(text.contains("stillhere_detection_seconds_bucket{le=\"+Inf\"} 0\n"));
    }
}
