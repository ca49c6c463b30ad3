//! The summary: for people as text, for programs as one JSON object.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use stillhere_core::close::CloseCode;
use stillhere_core::text::Escaped;

use super::plan::Plan;
use super::tally::Tally;
use crate::output::thousands;

/// Everything a run is worth telling. Its JSON is a promise: fields are added, never renamed.
#[derive(Serialize)]
pub(super) struct Report {
    target: String,
    mode: &'static str,
    clients: usize,
    interval_ms: u64,
    seconds: f64,
    links: Links,
    beats: Beats,
    /// `null` when nothing was answered.
    rtt_us: Option<Rtt>,
    resumes: Resumes,
    pushes: u64,
    closes: Vec<Close>,
    errors: Vec<Trouble>,
}

#[derive(Serialize)]
struct Links {
    opened: u64,
    reconnects: u64,
    zombies: u64,
}

#[derive(Serialize)]
struct Beats {
    sent: u64,
    answered: u64,
}

/// Round trips of beats, in microseconds.
#[derive(Serialize)]
struct Rtt {
    p50: u64,
    p99: u64,
    p99_9: u64,
    max: u64,
}

#[derive(Serialize)]
struct Resumes {
    ok: u64,
    failed: u64,
    /// The server's words for those that failed.
    reasons: Vec<Trouble>,
}

#[derive(Serialize)]
struct Close {
    code: u16,
    name: &'static str,
    reason: String,
    count: u64,
}

#[derive(Serialize)]
struct Trouble {
    what: String,
    count: u64,
}

impl Report {
    pub(super) fn new(plan: &Plan, tally: &Tally, lasted: Duration) -> Report {
        let name = |code| CloseCode::from_number(code).map_or("unknown", CloseCode::name);
        let close = |(code, (reason, count)): (&u16, &(String, u64))| Close {
            code: *code,
            name: name(*code),
            reason: reason.clone(),
            count: *count,
        };
        Report {
            target: Escaped(&plan.target).to_string(),
            mode: plan.mode(),
            clients: tally.clients(),
            interval_ms: plan.interval.as_millis() as u64,
            seconds: (lasted.as_secs_f64() * 1000.0).round() / 1000.0,
            links: Links { opened: tally.links, reconnects: tally.reconnects, zombies: tally.zombies },
            beats: Beats { sent: tally.beats_sent, answered: tally.beats_answered },
            rtt_us: rtt(tally),
            resumes: Resumes {
                ok: tally.resumes_ok,
                failed: tally.resumes_failed,
                reasons: troubles(&tally.resume_failures),
            },
            pushes: tally.pushes,
            closes: tally.closes.iter().map(close).collect(),
            errors: troubles(&tally.troubles),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.clients == 1 { "" } else { "s" };
        let (clients, seconds) = (thousands(self.clients), self.seconds);
        writeln!(f, "{clients} {} client{plural} at {} for {seconds:.1} s", self.mode, self.target)?;
        let Links { opened, reconnects, zombies } = &self.links;
        let (opened, reconnects) = (thousands(opened), thousands(reconnects));
        writeln!(f, "  links    {opened} opened, {reconnects} reconnects, {} zombies", thousands(zombies))?;
        let sent = thousands(self.beats.sent);
        if self.mode == "legacy" {
            writeln!(f, "  beats    {sent} sent; nothing is answered in this mode")?;
        } else {
            writeln!(f, "  beats    {sent} sent, {} answered", thousands(self.beats.answered))?;
            match &self.rtt_us {
                Some(Rtt { p50, p99, p99_9, max }) => {
                    let [p50, p99, p99_9, max] = [p50, p99, p99_9, max].map(|us| millis(*us));
                    writeln!(f, "  RTT      p50 {p50}, p99 {p99}, p99.9 {p99_9}, max {max}")?;
                }
                None => writeln!(f, "  RTT      none measured")?,
            }
            let Resumes { ok, failed, reasons } = &self.resumes;
            writeln!(f, "  resumes  {} ok, {} failed", thousands(ok), thousands(failed))?;
            for Trouble { what, count } in reasons {
                writeln!(f, "           {} × {what}", thousands(count))?;
            }
        }
        if self.closes.is_empty() {
            writeln!(f, "  closes   none")?;
        }
        for Close { code, name, reason, count } in &self.closes {
            writeln!(f, "  closes   {} × {code} {name}: {reason}", thousands(count))?;
        }
        if self.errors.is_empty() {
            writeln!(f, "  errors   none")?;
        }
        for Trouble { what, count } in &self.errors {
            writeln!(f, "  errors   {} × {what}", thousands(count))?;
        }
        Ok(())
    }
}

/// What to try when no client ever got in.
pub(super) fn advice(plan: &Plan, tally: &Tally) -> String {
    let target = Escaped(&plan.target);
    let trouble = tally.last_trouble.as_deref().unwrap_or("not reached yet: the time was over first");
    if tally.links == 0 {
        return format!("{target} is {trouble}; check host and port, or start a gateway with `stillhere serve`");
    }
    if tally.was_turned_away() {
        return format!("{target} turned every client away ({trouble})");
    }
    format!(
        "{target} accepts links but never said welcome ({trouble}): is it a stillhere gateway? For the tutorial's \
         server use --legacy"
    )
}

/// Microseconds as milliseconds, to the microsecond.
pub(super) fn millis(micros: u64) -> String {
    format!("{}.{:03} ms", thousands(micros / 1000), micros % 1000)
}

fn troubles(counts: &BTreeMap<String, u64>) -> Vec<Trouble> {
    counts.iter().map(|(what, count)| Trouble { what: what.clone(), count: *count }).collect()
}

fn rtt(tally: &Tally) -> Option<Rtt> {
    let rtt = &tally.rtt;
    let at = |quantile| rtt.value_at_quantile(quantile).min(rtt.max());
    (!rtt.is_empty()).then(|| Rtt { p50: at(0.5), p99: at(0.99), p99_9: at(0.999), max: rtt.max() })
}
