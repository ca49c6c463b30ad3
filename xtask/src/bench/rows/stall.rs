//! A paused daemon kicks nobody: SIGSTOP under sessions that beat honestly.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use rustix::process::Signal;

use crate::bench::crowd::{Crowd, Speech};
use crate::bench::daemon::Daemon;
use crate::bench::row::{Figure, Goal, Row};
use crate::bench::{Bench, progress};

const SESSIONS: usize = 2_000;
const INTERVAL: Duration = Duration::from_secs(1);
/// Beats before the first stall, so that every session is healthy rather than fresh.
const WARM_UP: Duration = Duration::from_secs(4);
/// After each stall three more intervals pass before anyone is counted.
const AFTER: Duration = Duration::from_secs(3);
const STALLS_S: &[u64] = &[2, 5, 10, 60];
const STALLS_QUICK_S: &[u64] = &[2, 5];

/// The number of sessions that left, or ever were away, because the daemon itself had been stopped.
pub(crate) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let daemon = bench.daemon(&[("STILLHERE_DETECTOR__INTERVAL", "1s")])?;
    let mut crowd = Crowd::new(daemon.address(), &[Speech::Legacy, Speech::V1 { interval_ms: 1_000 }])?;
    crowd.grow(SESSIONS)?;
    let stop = AtomicBool::new(false);
    let (stalls, asks) = std::thread::scope(|scope| {
        let beating = scope.spawn(|| {
            crowd.keep_beating(INTERVAL, &stop)?;
            crowd.drain()?;
            Ok(crowd.asks())
        });
        let stalls = stall_all(if bench.quick { STALLS_QUICK_S } else { STALLS_S }, &daemon);
        stop.store(true, Ordering::Relaxed);
        match beating.join() {
            // A fault of the crowd explains whatever was counted meanwhile, so it comes first.
            Ok(asks) => asks.and_then(|asks| Ok((stalls?, asks))),
            Err(_) => bail!("the crowd panicked"),
        }
    })?;
    progress(&format!("the daemon asked {asks} times for a beat out of turn, and each was answered"));
    Ok(stalls.iter().map(Stall::row).collect())
}

/// What one stall did.
struct Stall {
    span_s: u64,
    /// Sessions that were not alive three intervals later.
    away: usize,
    /// Transitions to leave or close that the daemon counted.
    transitions: f64,
    /// Stalls that the daemon noticed.
    noticed: f64,
}

impl Stall {
    fn row(&self) -> Row {
        let figure = Figure::alone((self.away as f64).max(self.transitions));
        let what = format!("leaves among 2,000 sessions after SIGSTOP for {} s", self.span_s);
        let note = format!(
            "{} not alive afterwards, {} transitions to leave or close, {} stalls noticed by the daemon",
            self.away, self.transitions, self.noticed
        );
        Row::new("stall", what, figure, "leaves").must(Goal::AtMost(0.0)).note(note)
    }
}

fn stall_all(spans_s: &[u64], daemon: &Daemon) -> Result<Vec<Stall>> {
    std::thread::sleep(WARM_UP);
    let away = away(daemon)?;
    ensure!(away == 0, "{away} sessions were not alive before the first stall");
    spans_s.iter().map(|span_s| stall(*span_s, daemon)).collect()
}

fn stall(span_s: u64, daemon: &Daemon) -> Result<Stall> {
    let transitions = transitions(daemon);
    let noticed = stalls(daemon)?;
    daemon.signal(Signal::STOP)?;
    std::thread::sleep(Duration::from_secs(span_s));
    daemon.signal(Signal::CONT)?;
    std::thread::sleep(AFTER);
    let stall = Stall {
        span_s,
        away: away(daemon)?,
        transitions: self::transitions(daemon) - transitions,
        noticed: stalls(daemon)? - noticed,
    };
    progress(&format!("stopped for {span_s} s: {} away, {} transitions", stall.away, stall.transitions));
    Ok(stall)
}

/// Sessions that are not alive; one that is missing from the list counts as well.
fn away(daemon: &Daemon) -> Result<usize> {
    let sessions = daemon.sessions()?;
    let alive = sessions.iter().filter(|session| session.status == "alive").count();
    Ok(SESSIONS.saturating_sub(alive))
}

/// Transitions to leave or close so far; a daemon that has had none may not list the metric yet.
fn transitions(daemon: &Daemon) -> f64 {
    let to = |status: &str| daemon.metric("stillhere_transitions_total", &[&format!("to=\"{status}\"")]).unwrap_or(0.0);
    to("leave") + to("close")
}

fn stalls(daemon: &Daemon) -> Result<f64> {
    daemon.metric("stillhere_stalls_total", &[])
}
