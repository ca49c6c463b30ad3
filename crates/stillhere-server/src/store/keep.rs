//! The identities of v1 sessions, written behind.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use stillhere_core::event::Keepsake;
use stillhere_core::secret::SessionId;
use tracing::warn;

use super::Counters;
use super::thread::LedgerWriter;
use crate::background::step_back;

/// Changes that may wait for the thread; more are dropped and counted.
const QUEUE_MAX: usize = 65_536;
/// Changes coalesced before they are written early.
const BATCH_MAX: usize = 65_536;
/// Changes written in one transaction: about 10 ms, which messages then wait.
const CHUNK: usize = 1024;
/// How long changes are gathered.
const GATHER: Duration = Duration::from_secs(1);
/// How often the queue is emptied meanwhile: a herd of 100,000 sessions a second fills a sixth of it.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What changed of each session; `None`: it is gone.
pub(super) type Changes = HashMap<SessionId, Option<Keepsake>>;

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

    /// Waits until everything is written, sessions and messages, at most `patience`.
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

pub(super) fn start(ledger: LedgerWriter, counters: Arc<Counters>) -> anyhow::Result<StoreWriter> {
    let (sender, receiver) = sync_channel(QUEUE_MAX);
    let writer = StoreWriter { sender, counters: Arc::clone(&counters) };
    std::thread::Builder::new().name("keep".to_owned()).spawn(move || {
        step_back("keeping of sessions");
        write(&ledger, &receiver, &counters);
    })?;
    Ok(writer)
}

fn write(ledger: &LedgerWriter, requests: &Receiver<Request>, counters: &Counters) {
    let mut changes = Changes::new();
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
        let written = hand_over(ledger, &mut changes);
        if changes.len() >= BATCH_MAX {
            counters.dropped.fetch_add(changes.len() as u64, Ordering::Relaxed);
            changes.clear();
        }
        if let Some(told) = finished {
            if written && ledger.finish() {
                // Whoever waits may have lost patience. If it isn't told, it says that the last sessions are lost.
                let _ = told.send(());
            }
            return;
        }
    }
}

/// Takes one request; the sender to tell if it was the last.
fn add(request: Request, changes: &mut Changes) -> Option<SyncSender<()>> {
    match request {
        Request::Keep(keepsake) => drop(changes.insert(keepsake.session, Some(*keepsake))),
        Request::Forget(session) => drop(changes.insert(session, None)),
        Request::Finish(told) => return Some(told),
    }
    None
}

/// Has everything written, piece by piece. What can't be stays, for the next time.
fn hand_over(ledger: &LedgerWriter, changes: &mut Changes) -> bool {
    while !changes.is_empty() {
        let some: Vec<SessionId> = changes.keys().take(CHUNK).copied().collect();
        let chunk: Changes = some.iter().filter_map(|id| changes.remove_entry(id)).collect();
        if let Err(unwritten) = ledger.keep(chunk) {
            changes.extend(unwritten);
            return false;
        }
    }
    true
}
