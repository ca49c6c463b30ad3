//! The rows and answers of the HTTP API, as they are written in JSON.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stillhere_core::close::Cause;
use stillhere_core::detector::Status;
use stillhere_core::event::{Change, Mode, Transport};
use stillhere_core::shard::{Pid, SessionView};
use stillhere_core::time::Time;

use crate::clock::{Moment, rfc3339};
use crate::notes::ClosedRow;

/// A list's default and largest length.
pub(crate) const LIMIT_DEFAULT: usize = 1000;
pub(crate) const LIMIT_MAX: usize = 20_000;

/// What `GET /api/v1/sessions` takes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SessionsQuery {
    pub(crate) limit: Option<usize>,
    pub(crate) after: Option<String>,
    pub(crate) status: Option<Status>,
    pub(crate) peer: Option<String>,
    pub(crate) user: Option<String>,
}

/// What `GET /api/v1/closed` takes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClosedQuery {
    pub(crate) limit: Option<usize>,
    pub(crate) after: Option<String>,
}

/// What `POST /api/v1/kick` takes: one of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub(crate) enum KickTarget {
    /// A session, by its id.
    Id(String),
    /// All sessions of a user.
    User(String),
    /// All sessions from an address, or an address and port.
    Peer(String),
}

#[derive(Debug, Serialize)]
pub(crate) struct Sessions {
    pub(crate) sessions: Vec<SessionRow>,
    pub(crate) total: usize,
    pub(crate) next: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ClosedList {
    pub(crate) closed: Vec<ClosedEntry>,
    pub(crate) total: usize,
    pub(crate) next: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Kicked {
    pub(crate) kicked: usize,
}

#[derive(Debug, Serialize)]
pub(crate) struct Draining {
    pub(crate) draining: bool,
    pub(crate) links: usize,
}

/// What a reload did.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Reloaded {
    /// Settings that are in force now.
    pub(crate) applied: Vec<String>,
    /// Settings that differ but wait for a restart.
    pub(crate) needs_restart: Vec<String>,
    /// Why nothing was applied.
    pub(crate) errors: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct SessionRow {
    pub(crate) id: String,
    pub(crate) peer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client: Option<Box<str>>,
    pub(crate) mode: Mode,
    /// Plain TCP's while there is no link.
    pub(crate) transport: Transport,
    pub(crate) linked: bool,
    pub(crate) status: Status,
    pub(crate) cause: Option<Cause>,
    pub(crate) since: String,
    pub(crate) cursor: u8,
    pub(crate) strikes: u8,
    pub(crate) beats: u64,
    pub(crate) last_beat: String,
    pub(crate) last_heard_ms: u64,
    pub(crate) interval_ms: u64,
    pub(crate) rtt_ms: Option<f64>,
    pub(crate) detect_ms: u64,
    pub(crate) leave_in_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pid: Option<PidValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ip: Option<Box<str>>,
    #[serde(rename = "gen", skip_serializing_if = "Option::is_none")]
    pub(crate) generation: Option<u32>,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) history: Vec<HistoryRow>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum PidValue {
    Number(i64),
    Text(Box<str>),
}

#[derive(Debug, Serialize)]
pub(crate) struct HistoryRow {
    pub(crate) to: Status,
    pub(crate) cause: Cause,
    pub(crate) at: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct ClosedEntry {
    pub(crate) id: Option<String>,
    pub(crate) peer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<Box<str>>,
    pub(crate) mode: Mode,
    /// Plain TCP's while there is no link.
    pub(crate) transport: Transport,
    pub(crate) code: Option<u16>,
    pub(crate) name: Option<&'static str>,
    pub(crate) cause: Option<Cause>,
    pub(crate) beats: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) rtt_ms: Option<f64>,
    pub(crate) opened: String,
    pub(crate) closed: String,
}

impl SessionRow {
    /// `moment` is that at which the view was taken.
    pub(crate) fn new(view: SessionView, moment: Moment) -> SessionRow {
        let now = moment.at;
        let wall = |at: Time| rfc3339(moment.wall(at));
        SessionRow {
            id: view.identity.to_string(),
            peer: view.peer.to_string(),
            user: view.user,
            client: view.client,
            mode: view.mode,
            transport: view.transport.unwrap_or_default(),
            linked: view.linked,
            status: view.status,
            cause: view.cause,
            since: wall(view.since),
            cursor: view.cursor,
            strikes: view.strikes,
            beats: view.beats,
            last_beat: wall(view.heard_at),
            last_heard_ms: millis(now.since(view.heard_at)),
            interval_ms: millis(view.interval),
            rtt_ms: view.rtt_us.map(rtt_ms),
            detect_ms: millis(view.detect),
            leave_in_ms: view.leave_due.map(|due| millis(due.since(now))),
            pid: view.pid.map(|pid| match pid {
                Pid::Number(number) => PidValue::Number(number),
                Pid::Text(text) => PidValue::Text(text),
            }),
            // A client that is right about its address needs no label of its own.
            ip: (view.mode == Mode::Legacy)
                .then(|| view.ip.unwrap_or_else(|| view.peer.ip().to_string().into_boxed_str())),
            generation: (view.mode == Mode::V1).then_some(view.generation),
            bytes_in: view.bytes_in,
            bytes_out: view.bytes_out,
            history: view
                .history
                .into_iter()
                .map(|Change { to, cause, at }| HistoryRow { to, cause, at: wall(at) })
                .collect(),
        }
    }
}

impl ClosedEntry {
    pub(crate) fn new(row: ClosedRow) -> ClosedEntry {
        let ClosedRow { closed, opened, at, .. } = row;
        ClosedEntry {
            id: closed.identity.map(|identity| identity.to_string()),
            peer: closed.peer.to_string(),
            user: closed.user,
            mode: closed.mode,
            transport: closed.transport.unwrap_or_default(),
            code: closed.code.map(|code| code.number()),
            name: closed.code.map(|code| code.name()),
            cause: closed.cause,
            beats: closed.beats,
            bytes_in: closed.bytes_in,
            bytes_out: closed.bytes_out,
            rtt_ms: closed.rtt_us.map(rtt_ms),
            opened: rfc3339(opened),
            closed: rfc3339(at),
        }
    }
}

fn millis(span: Duration) -> u64 {
    span.as_millis() as u64
}

fn rtt_ms(us: u32) -> f64 {
    f64::from(us) / 1000.0
}
