//! `stillhere ctl sessions`: who is here, who is away, and when exactly who will be.

use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use stillhere_core::text::Escaped;

use super::admin::Admin;
use super::pages::{List, Part};
use crate::output::{self, rough};
use crate::table::{Align, Cell, Colour, Column, Table};

/// How often `--watch` asks again.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// List sessions with their status and the exact time left until leave.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  stillhere ctl sessions --status leave\n  stillhere ctl sessions --watch")]
pub(super) struct Args {
    /// Only those who are alive, or on leave
    #[arg(long, value_parser = ["alive", "leave"])]
    status: Option<String>,
    /// Only this user's
    #[arg(long)]
    user: Option<String>,
    /// Only those from this address, or ip:port
    #[arg(long, value_name = "IP")]
    peer: Option<String>,
    #[command(flatten)]
    part: Part,
    /// Show again every second, until Ctrl-C
    #[arg(long, conflicts_with = "json")]
    watch: bool,
}

/// An entry of `GET /api/v1/sessions`, as far as the table shows it. Whatever may be unknown is optional, so that
/// this binary also reads an older or newer gateway.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Session {
    id: String,
    peer: String,
    user: Option<String>,
    client: Option<String>,
    pid: Option<serde_json::Value>,
    mode: String,
    transport: String,
    status: String,
    cause: Option<String>,
    since: Option<Timestamp>,
    cursor: u32,
    strikes: u32,
    beats: u64,
    last_heard_ms: Option<u64>,
    interval_ms: Option<u64>,
    rtt_ms: Option<f64>,
    leave_in_ms: Option<u64>,
    linked: Option<bool>,
}

/// Prints the list, once or every second.
pub(super) fn run(admin: &Admin, args: &Args, as_json: bool) -> anyhow::Result<ExitCode> {
    let filters = [("status", &args.status), ("user", &args.user), ("peer", &args.peer)];
    let filters: Vec<(&str, String)> =
        filters.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect();
    loop {
        let list = List::fetch(admin, "sessions", &filters, args.part)?;
        if as_json {
            output::print_json(&list)?;
        } else {
            let sessions = list.entries::<Session>()?;
            let mut page = render(&sessions, Timestamp::now(), output::columns(), output::coloured());
            page.push_str(&list.summary("session"));
            output::print(if args.watch { in_place(&page) } else { page })?;
        }
        if !args.watch {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(WATCH_INTERVAL);
    }
}

/// The page over the one before, without a flicker and without scrolling, on a terminal; below it elsewhere.
fn in_place(page: &str) -> String {
    let Some(room) = output::lines() else { return format!("{page}\n") };
    let lines: Vec<&str> = page.lines().take(room.saturating_sub(1)).collect();
    format!("\u{1b}[H{}\u{1b}[K\n\u{1b}[J", lines.join("\u{1b}[K\n"))
}

const COLUMNS: [Column; 13] = [
    Column { title: "ID", align: Align::Left, rank: 0 },
    Column { title: "WHO", align: Align::Left, rank: 2 },
    Column { title: "TRANSPORT", align: Align::Left, rank: 9 },
    Column { title: "STATUS", align: Align::Left, rank: 0 },
    Column { title: "CAUSE", align: Align::Left, rank: 3 },
    Column { title: "SINCE", align: Align::Right, rank: 5 },
    Column { title: "CURSOR", align: Align::Right, rank: 6 },
    Column { title: "STRIKES", align: Align::Right, rank: 4 },
    Column { title: "BEATS", align: Align::Right, rank: 10 },
    Column { title: "LAST BEAT", align: Align::Right, rank: 1 },
    Column { title: "INTERVAL", align: Align::Right, rank: 8 },
    Column { title: "RTT", align: Align::Right, rank: 7 },
    Column { title: "LEAVE IN", align: Align::Right, rank: 0 },
];

fn render(sessions: &[Session], now: Timestamp, room: Option<usize>, coloured: bool) -> String {
    let mut table = Table::new(&COLUMNS);
    for session in sessions {
        table.add(cells(session, now));
    }
    if sessions.is_empty() { String::new() } else { table.render(room, coloured) }
}

fn cells(session: &Session, now: Timestamp) -> Vec<Cell> {
    let millis = |millis: Option<u64>| millis.map(Duration::from_millis);
    let ago = |span: Option<Duration>| Cell::new(span.map_or("-".to_owned(), ago));
    let linked = session.linked.unwrap_or(true);
    vec![
        Cell::new(Escaped(&session.id)),
        Cell::new(who(session)),
        Cell::new(Escaped(&format!("{}/{}", session.transport, session.mode))),
        Cell::new(Escaped(&session.status)).coloured(status_colour(&session.status)),
        Cell::new(Escaped(session.cause.as_deref().unwrap_or(if linked { "-" } else { "no link" }))),
        ago(session.since.map(|since| elapsed(since, now))),
        Cell::new(session.cursor),
        Cell::new(session.strikes),
        Cell::new(session.beats),
        ago(millis(session.last_heard_ms)),
        Cell::new(millis(session.interval_ms).map_or("-".to_owned(), output::seconds)),
        Cell::new(session.rtt_ms.map_or("-".to_owned(), |rtt| format!("{rtt:.1}ms"))),
        Cell::new(session.leave_in_ms.map_or("-".to_owned(), |left| format!("{:.1}s", left as f64 / 1000.0))),
    ]
}

/// The user, or what the client calls itself; and where from, unless the id says that already.
fn who(session: &Session) -> String {
    let pid = session.pid.as_ref().map(|pid| format!("pid {}", pid.as_str().map_or(pid.to_string(), str::to_owned)));
    let name = session.user.clone().or_else(|| session.client.clone()).or(pid);
    let peer = (session.peer != session.id).then(|| session.peer.clone());
    let parts: Vec<String> = name.into_iter().chain(peer).map(|part| Escaped(&part).to_string()).collect();
    if parts.is_empty() { "-".to_owned() } else { parts.join(" @ ") }
}

fn status_colour(status: &str) -> Colour {
    match status {
        "alive" => Colour::Good,
        "leave" => Colour::Warning,
        _ => Colour::Bad,
    }
}

/// `4s ago`; a glance is not worth milliseconds.
pub(super) fn ago(span: Duration) -> String {
    if span < Duration::from_secs(1) { "now".to_owned() } else { format!("{} ago", rough(span)) }
}

/// Never negative, even if the clocks of two machines differ.
pub(super) fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-07-01T12:00:00Z";

    fn shown(json: serde_json::Value, room: Option<usize>) -> String {
        let sessions: Vec<Session> = serde_json::from_value(json).expect("sessions");
        render(&sessions, NOW.parse().expect("a time"), room, false)
    }

    fn one() -> serde_json::Value {
        serde_json::json!([{
            "id": "s-7f3a", "peer": "127.0.0.1:50312", "user": "ada\u{1b}[31m", "mode": "v1", "transport": "tcp",
            "status": "leave", "cause": "silent", "since": "2026-07-01T11:56:30Z", "cursor": 3, "strikes": 3,
            "beats": 41, "last_beat": "2026-07-01T11:55:00Z", "last_heard_ms": 300_000, "interval_ms": 10_000,
            "rtt_ms": 0.42, "detect_ms": 0, "leave_in_ms": null, "linked": true, "history": [], "unheard_of": 1,
        }])
    }

    #[test]
    fn a_session_is_a_row_that_nobody_s_name_can_colour() {
        let text = shown(one(), None);
        let row = text.lines().nth(1).expect("a row");
        let words: Vec<&str> = row.split("  ").map(str::trim).filter(|word| !word.is_empty()).collect();
        let expected = [
            "s-7f3a",
            "ada\\u{1b}[31m @ 127.0.0.1:50312",
            "tcp/v1",
            "leave",
            "silent",
            "3m30s ago",
            "3",
            "3",
            "41",
            "5m00s ago",
            "10s",
            "0.4ms",
            "-",
        ];
        assert_eq!(words, expected);
    }

    #[test]
    fn a_narrow_terminal_keeps_what_matters() {
        let text = shown(one(), Some(60));
        assert!(text.lines().take(2).all(|line| line.len() <= 60), "{text}");
        for title in ["ID", "STATUS", "LEAVE IN"] {
            assert!(text.lines().next().is_some_and(|titles| titles.contains(title)), "{text}");
        }
    }

    #[test]
    fn a_legacy_session_shows_its_pid_and_its_exact_time_left() {
        let text = shown(
            serde_json::json!([{
                "id": "127.0.0.1:4000", "peer": "127.0.0.1:4000", "pid": 21243, "mode": "legacy", "transport": "tcp",
                "status": "alive", "cause": null, "leave_in_ms": 64_950,
            }]),
            None,
        );
        assert!(text.contains("pid 21243") && text.contains("65.0s") && !text.contains('@'), "{text}");
    }
}
