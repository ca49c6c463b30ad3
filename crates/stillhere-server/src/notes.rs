//! What a shard's notes become: lines of the log, rows of the list of the closed, and events for who watches.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use stillhere_core::close::{Cause, CloseCode};
use stillhere_core::detector::Status;
use stillhere_core::event::{Closed, Mode, Note};
use stillhere_core::text::Escaped;
use stillhere_core::time::Time;
use tokio::sync::broadcast;
use tracing::{debug, info, warn};

use crate::clock::{Moment, rfc3339};

/// Events kept for a watcher that is behind; then it is told how many it missed.
const EVENTS_KEPT: usize = 4096;

/// One row of the list of the closed.
#[derive(Clone, Debug)]
pub(crate) struct ClosedRow {
    /// Counts up over all shards.
    pub(crate) seq: u64,
    pub(crate) closed: Closed,
    pub(crate) opened: Timestamp,
    pub(crate) at: Timestamp,
}

/// An event for who watches.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum Event {
    /// A session began.
    Opened { id: String, peer: String, user: Option<Box<str>>, at: String },
    /// A session's client became a user.
    Entered { id: String, user: String, verified: bool, at: String },
    /// A session's status changed.
    Changed { id: String, user: Option<Box<str>>, from: Status, to: Status, cause: Cause, at: String },
    /// A link ended, or a session without one.
    Closed { id: Option<String>, peer: String, mode: Mode, code: Option<u16>, cause: Option<Cause>, at: String },
    /// The server stood still.
    Stalled { late_ms: u64, at: String },
    /// Somebody showed an old secret.
    Alarm { id: String, peer: String, reason: &'static str, at: String },
}

impl Event {
    /// The event's name in the stream.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Event::Opened { .. } => "opened",
            Event::Entered { .. } => "entered",
            Event::Changed { .. } => "changed",
            Event::Closed { .. } => "closed",
            Event::Stalled { .. } => "stalled",
            Event::Alarm { .. } => "alarm",
        }
    }
}

/// The stream of events. While nobody watches, an event costs one load.
#[derive(Clone)]
pub(crate) struct Events {
    sender: broadcast::Sender<Event>,
    watchers: Arc<AtomicUsize>,
}

/// Somebody who watches.
pub(crate) struct Watcher {
    pub(crate) receiver: broadcast::Receiver<Event>,
    watchers: Arc<AtomicUsize>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Events {
    pub(crate) fn new() -> Events {
        Events { sender: broadcast::Sender::new(EVENTS_KEPT), watchers: Arc::default() }
    }

    /// Watches from now on; `None` if `max` watch already.
    pub(crate) fn watch(&self, max: usize) -> Option<Watcher> {
        let before = self.watchers.fetch_add(1, Ordering::Relaxed);
        let watcher = Watcher { receiver: self.sender.subscribe(), watchers: Arc::clone(&self.watchers) };
        (before < max).then_some(watcher)
    }

    fn send(&self, event: impl FnOnce() -> Event) {
        if self.watchers.load(Ordering::Relaxed) > 0 {
            // The last watcher may just have gone.
            let _ = self.sender.send(event());
        }
    }
}

/// Where the notes of one shard go.
pub(crate) struct Notes {
    pub(crate) events: Events,
    /// Oldest first.
    pub(crate) closed: VecDeque<ClosedRow>,
    pub(crate) closed_max: usize,
    /// Shared by all shards, so that "the last 10,000" means those of the whole server.
    pub(crate) closed_seq: Arc<AtomicU64>,
}

impl Notes {
    /// Takes a note.
    pub(crate) fn take(&mut self, note: Note, moment: Moment) {
        let now = moment.at;
        let wall = |at: Time| rfc3339(moment.wall(at));
        match note {
            Note::Opened { identity, peer, user } => {
                let name = user.as_deref().unwrap_or_default();
                debug!(session = %identity, %peer, user = %Escaped(name), "session opened");
                self.events.send(|| Event::Opened {
                    id: identity.to_string(),
                    peer: peer.to_string(),
                    user,
                    at: wall(now),
                });
            }
            Note::Entered { identity, user, verified } => {
                info!(session = %identity, user = %Escaped(user.as_str()), verified, "became a user");
                self.events.send(|| Event::Entered {
                    id: identity.to_string(),
                    user: user.to_string(),
                    verified,
                    at: wall(now),
                });
            }
            Note::Changed { identity, user, from, change } => {
                let name = user.as_deref().unwrap_or_default();
                let (to, cause) = (change.to, change.cause);
                info!(session = %identity, user = %Escaped(name), from = from.name(), to = to.name(), cause = cause.name(), "status changed");
                self.events.send(|| Event::Changed {
                    id: identity.to_string(),
                    user,
                    from,
                    to,
                    cause,
                    at: wall(change.at),
                });
            }
            Note::Closed(closed) => self.closed(*closed, moment),
            Note::Stalled { late } => {
                warn!(late_ms = late.as_millis() as u64, "the server stood still; all deadlines were moved by as much");
                self.events.send(|| Event::Stalled { late_ms: late.as_millis() as u64, at: wall(now) });
            }
            Note::StaleSecret { session, peer } => {
                warn!(%session, %peer, "a resume secret was shown that its client had replaced; somebody may have stolen it");
                let reason = "stale_secret";
                self.events.send(|| Event::Alarm {
                    id: session.to_string(),
                    peer: peer.to_string(),
                    reason,
                    at: wall(now),
                });
            }
        }
    }

    fn closed(&mut self, closed: Closed, moment: Moment) {
        let code = closed.code.map(CloseCode::number);
        match closed.code {
            Some(code) => {
                info!(peer = %closed.peer, code = code.number(), reason = code.name(), mode = closed.mode.name(), "closed");
            }
            None => debug!(peer = %closed.peer, mode = closed.mode.name(), "the peer left"),
        }
        let at = moment.wall(closed.closed_at);
        let opened = moment.wall(closed.opened_at);
        self.events.send(|| Event::Closed {
            id: closed.identity.map(|identity| identity.to_string()),
            peer: closed.peer.to_string(),
            mode: closed.mode,
            code,
            cause: closed.cause,
            at: rfc3339(at),
        });
        while self.closed.len() >= self.closed_max.max(1) {
            self.closed.pop_front();
        }
        let seq = self.closed_seq.fetch_add(1, Ordering::Relaxed) + 1;
        self.closed.push_back(ClosedRow { seq, closed, opened, at });
    }

    /// What the tutorial's reaper said: how many were cleared in this round, and how many remain.
    pub(crate) fn reap(cleared: u64, remaining: u64, interval: Duration) {
        let every = interval.as_secs_f64();
        if cleared == 0 {
            debug!(cleared, remaining, "reaper: nothing to clear in the last {every} s");
        } else {
            info!(cleared, remaining, "reaper: cleared {cleared} links in the last {every} s, {remaining} remain");
        }
    }
}
