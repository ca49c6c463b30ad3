//! Peers whose network is cut without a word: none may be called away before the bound the daemon prints, each soon after it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;

use super::namespace::{Namespace, SERVER_IP};
use crate::bench::daemon::{Daemon, Session};
use crate::bench::row::{Figure, Goal, Row, median};
use crate::bench::{Bench, progress};

const PEERS: usize = 1_000;
const INTERVAL_MS: u32 = 1_000;
const INTERVAL: &str = "1s";
/// Beats before the cut, so that every session is healthy and its bound is the long one.
const WARM_UP: Duration = Duration::from_secs(6);
const POLL_EVERY: Duration = Duration::from_millis(100);
/// Beyond the longest bound at this interval, 9.5 s, by far.
const LEAVE_WAIT: Duration = Duration::from_secs(30);
/// Timestamps in the API are cut to milliseconds, twice.
const ROUNDING_MS: i64 = 2;
/// How far the daemon's wall clock may shift between two answers without a beat being suspected.
const CLOCK_SHIFT_MS: i64 = 100;

/// How early and how late 1,000 sessions were called away relative to their own bounds.
pub(crate) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let (peers, interval) = (PEERS.to_string(), INTERVAL_MS.to_string());
    let (namespace, mut stdin, stdout) = Namespace::start(&["crowd", "--peers", &peers, "--interval-ms", &interval])?;
    // The namespace is beyond loopback, where hello over plain TCP is refused unless that was accepted.
    let settings = [("STILLHERE_DETECTOR__INTERVAL", INTERVAL), ("STILLHERE_LISTEN__INSECURE", "true")];
    let daemon = bench.daemon_on(IpAddr::V4(SERVER_IP), &settings)?;
    writeln!(stdin, "{}", daemon.address())?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    ensure!(line.trim() == "open", "the crowd in the namespace did not open; what it said is above");
    std::thread::sleep(WARM_UP);
    let stalls = daemon.metric("stillhere_stalls_total", &[])?;
    let sessions = daemon.sessions()?;
    let alive = sessions.iter().filter(|session| session.status == "alive").count();
    ensure!(alive == PEERS, "{alive} of {PEERS} sessions were alive before the cut");
    namespace.cut()?;
    writeln!(stdin, "the network is cut")?;
    progress("the network is cut");
    let watch = watch(&daemon)?;
    let stalls = daemon.metric("stillhere_stalls_total", &[])? - stalls;
    Ok(rows(&watch, stalls))
}

/// What became of the sessions after the cut.
#[derive(Default)]
struct Watch {
    /// What was last printed of each session while it was still alive.
    alive: HashMap<String, Promise>,
    /// Milliseconds from its bound to when it was called away, per session that was.
    late_ms: HashMap<String, i64>,
}

/// The printed bound: away this long after the last beat.
struct Promise {
    last_beat: Timestamp,
    detect_ms: u64,
}

impl Watch {
    fn note(&mut self, session: &Session) -> Result<()> {
        if self.late_ms.contains_key(&session.peer) {
            return Ok(());
        }
        let last_beat = timestamp(session.last_beat.as_deref()).context("last_beat")?;
        if session.status == "alive" {
            let detect_ms = session.detect_ms.context("a session has no detect_ms")?;
            self.alive.insert(session.peer.clone(), Promise { last_beat, detect_ms });
        } else if let Some(promise) = self.alive.get(&session.peer) {
            // The daemon counts in monotonic time and only shows wall time, which may shift by milliseconds between two
            // answers; so the two ends of the silence are taken from the same answer.
            let moved = last_beat.as_millisecond() - promise.last_beat.as_millisecond();
            ensure!(moved.abs() <= CLOCK_SHIFT_MS, "{}: last_beat moved by {moved} ms after the cut", session.peer);
            let since = timestamp(session.since.as_deref()).context("since")?;
            let silence_ms = since.as_millisecond() - last_beat.as_millisecond();
            self.late_ms.insert(session.peer.clone(), silence_ms - i64::try_from(promise.detect_ms)?);
        }
        Ok(())
    }
}

fn timestamp(text: Option<&str>) -> Result<Timestamp> {
    let text = text.context("a session lacks a timestamp")?;
    text.parse().with_context(|| format!("{text:?} is no timestamp"))
}

/// Polls until every session has been called away, or until none can be expected to be any more.
fn watch(daemon: &Daemon) -> Result<Watch> {
    let deadline = Instant::now() + LEAVE_WAIT;
    let mut watch = Watch::default();
    while watch.late_ms.len() < PEERS && Instant::now() < deadline {
        for session in daemon.sessions()? {
            watch.note(&session)?;
        }
        std::thread::sleep(POLL_EVERY);
    }
    Ok(watch)
}

fn rows(watch: &Watch, stalls: f64) -> Vec<Row> {
    let late_ms = || watch.late_ms.values().copied();
    let never = PEERS - watch.late_ms.len();
    let early = late_ms().filter(|late| *late < -ROUNDING_MS).count();
    let late = late_ms().filter(|late| *late > 1_000).count() + never;
    let note = format!(
        "relative to its bound the first left at {:+} ms, the median at {:+.0} ms, the last at {:+} ms; {never} never left; \
         {stalls} stalls of the daemon meanwhile",
        late_ms().min().unwrap_or(0),
        median(late_ms().map(|late| late as f64)),
        late_ms().max().unwrap_or(0),
    );
    let row = |what: &str, count: usize| {
        Row::new("blackhole", what, Figure::alone(count as f64), "peers").must(Goal::AtMost(0.0))
    };
    vec![
        row("of 1,000 blackholed peers, called away before their printed bound", early),
        row("of 1,000 blackholed peers, called away later than 1 s after it", late).note(note),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(peer: usize, status: &str, since: &str) -> Session {
        Session {
            peer: peer.to_string(),
            status: status.to_owned(),
            detect_ms: Some(9_500),
            since: Some(since.to_owned()),
            last_beat: Some("2026-11-22T10:00:00.000Z".to_owned()),
        }
    }

    #[test]
    fn a_session_is_measured_against_the_last_bound_printed_while_it_was_alive() {
        let mut watch = Watch::default();
        for (peer, since) in
            ["2026-11-22T10:00:09.610Z", "2026-11-22T10:00:09.410Z", "2026-11-22T10:00:10.511Z"].iter().enumerate()
        {
            watch.note(&session(peer, "alive", "2026-11-22T09:59:00Z")).unwrap();
            // On leave the bound means something else, and the clock shown may have shifted a little.
            let shifted = Some("2026-11-22T10:00:00.010Z".to_owned());
            watch.note(&Session { detect_ms: Some(1), last_beat: shifted, ..session(peer, "leave", since) }).unwrap();
        }
        assert_eq!(watch.late_ms["0"], 100);
        assert_eq!(watch.late_ms["1"], -100);
        let rows = rows(&watch, 0.0);
        assert_eq!(rows[0].value, Some(1.0), "one was early");
        assert_eq!(rows[1].value, Some((PEERS - 2) as f64), "one was late and the others never left");
    }

    #[test]
    fn a_beat_after_the_cut_spoils_the_measurement() {
        let mut watch = Watch::default();
        watch.note(&session(0, "alive", "2026-11-22T09:59:00Z")).unwrap();
        let later = Some("2026-11-22T10:00:01.000Z".to_owned());
        assert!(watch.note(&Session { last_beat: later, ..session(0, "leave", "2026-11-22T10:00:10Z") }).is_err());
    }
}
