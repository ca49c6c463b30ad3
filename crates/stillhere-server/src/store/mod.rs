//! What survives a restart: the identities of v1 sessions, written behind.
//!
//! One thread (`store`) owns the database. Shards hand it what changed and never wait for it; it coalesces and commits
//! about once a second. After a crash the last second may be missing: such a client gets a new session.

mod sqlite;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use stillhere_core::event::Keepsake;
use stillhere_core::secret::SessionId;
use stillhere_core::stats::Histogram;
use tracing::{error, warn};

use crate::clock::wall_ms;
use sqlite::Database;

/// Changes that may wait for the thread; more are dropped and counted.
const QUEUE_MAX: usize = 65_536;
/// Changes coalesced before they are written early.
const BATCH_MAX: usize = 65_536;
/// How long changes are gathered.
const GATHER: Duration = Duration::from_secs(1);
/// How often the queue is emptied meanwhile: a herd of 100,000 sessions a second fills a sixth of it.
const LOOK_EVERY: Duration = Duration::from_millis(100);

enum Request {
    Keep(Box<Keepsake>),
    Forget(SessionId),
    /// Write everything now, tell, and end.
    Finish(SyncSender<()>),
}

/// The shards' end.
#[derive(Clone)]
pub(crate) struct StoreWriter {
    sender: SyncSender<Request>,
    counters: Arc<Counters>,
}

/// What the store counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Changes dropped because the thread was behind.
    pub(crate) dropped: AtomicU64,
    /// Commits that failed.
    pub(crate) failed: AtomicU64,
    /// How long commits took. Locked once a second by the store's thread, and by who reads the metrics.
    commit: Mutex<CommitTimes>,
}

#[derive(Debug)]
struct CommitTimes(Histogram);

impl Default for CommitTimes {
    fn default() -> CommitTimes {
        CommitTimes(Histogram::starting_at(Duration::from_micros(250)))
    }
}

impl Counters {
    /// How long commits took.
    pub(crate) fn commit_times(&self) -> Histogram {
        self.commit.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}

impl StoreWriter {
    pub(crate) fn keep(&self, keepsake: Keepsake) {
        self.send(Request::Keep(Box::new(keepsake)));
    }

    pub(crate) fn forget(&self, session: SessionId) {
        self.send(Request::Forget(session));
    }

    /// What was counted so far.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Waits until everything is written, at most `patience`.
    pub(crate) fn finish(&self, patience: Duration) -> bool {
        let (sender, receiver) = sync_channel(1);
        self.sender.send(Request::Finish(sender)).is_ok() && receiver.recv_timeout(patience).is_ok()
    }

    fn send(&self, request: Request) {
        if self.sender.try_send(request).is_err() {
            let dropped = self.counters.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            warn!(dropped, "the store is behind; sessions of this moment can't be resumed after a restart");
        }
    }
}

/// Opens the store in `dir` and returns what survived: everything newer than `window`.
pub(crate) fn open(dir: &Path, window: Duration) -> anyhow::Result<(StoreWriter, Vec<Keepsake>)> {
    let mut database = Database::open(&dir.join("stillhere.db"))?;
    let oldest_ms = wall_ms().saturating_sub(window.as_millis() as u64);
    let survivors = database.load(oldest_ms).context("can't read the sessions of the last run")?;
    let (sender, receiver) = sync_channel(QUEUE_MAX);
    let counters = Arc::<Counters>::default();
    let writer = StoreWriter { sender, counters: Arc::clone(&counters) };
    std::thread::Builder::new().name("store".to_owned()).spawn(move || write(database, &receiver, &counters))?;
    Ok((writer, survivors))
}

fn write(mut database: Database, requests: &Receiver<Request>, counters: &Counters) {
    let mut changes = HashMap::new();
    loop {
        let mut finished = None;
        if changes.is_empty() {
            let Ok(first) = requests.recv() else { return };
            finished = add(first, &mut changes);
        }
        // Asleep rather than waiting for the next request: that would wake this thread for each, and a shard's thread
        // with it would pay several microseconds a session.
        let due = Instant::now() + GATHER;
        while finished.is_none() && changes.len() < BATCH_MAX && Instant::now() < due {
            std::thread::sleep(LOOK_EVERY);
            while let (None, Ok(request)) = (&finished, requests.try_recv()) {
                finished = add(request, &mut changes);
            }
        }
        let written = commit(&mut database, &mut changes, counters);
        if let Some(told) = finished {
            if written {
                // Whoever waits may have lost patience. If it isn't told, it says that the last sessions are lost.
                let _ = told.send(());
            }
            return;
        }
    }
}

/// Takes one request; the sender to tell if it was the last.
fn add(request: Request, changes: &mut HashMap<SessionId, Option<Keepsake>>) -> Option<SyncSender<()>> {
    match request {
        Request::Keep(keepsake) => drop(changes.insert(keepsake.session, Some(*keepsake))),
        Request::Forget(session) => drop(changes.insert(session, None)),
        Request::Finish(told) => return Some(told),
    }
    None
}

/// Writes what has gathered. What can't be written is kept for the next time, up to a bound.
fn commit(database: &mut Database, changes: &mut HashMap<SessionId, Option<Keepsake>>, counters: &Counters) -> bool {
    if changes.is_empty() {
        return true;
    }
    let began = Instant::now();
    match database.write(changes, wall_ms()) {
        Ok(()) => {
            counters.commit.lock().unwrap_or_else(PoisonError::into_inner).0.record(began.elapsed());
            changes.clear();
            true
        }
        Err(error) => {
            counters.failed.fetch_add(1, Ordering::Relaxed);
            error!(
                error = format!("{error:#}"),
                "can't write sessions to the data dir; will try again (is the disk full?)"
            );
            if changes.len() >= BATCH_MAX {
                counters.dropped.fetch_add(changes.len() as u64, Ordering::Relaxed);
                changes.clear();
            }
            false
        }
    }
}
