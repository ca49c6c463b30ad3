//! The thread `search`: histories, and the index behind `history{query}`.
//!
//! It only reads the database, beside the store's thread and without holding it up. The index is in a file of its own,
//! made from the messages after their commit: it can be deleted at any time and is made again, and damage to it costs
//! nobody a start. For each stream a mark says how far it is indexed; mark and index are written together, so a crash
//! loses nothing. While orders wait, indexing goes slowly ([`YIELD`]); a stream that is searched is indexed first, as far
//! as that is quick.
//!
//! A message's place in the index is its stream and seq in one number, so that one room is one range of it, in order.

mod history;
mod index;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use stillhere_core::ledger::{Order, OrderId, Outcome, Refused, StreamId};
use stillhere_core::wire::error::ErrorCode;
use tracing::warn;

use super::base::Kept;
use super::ledger::refuse;
use super::thread::LedgerWriter;
use super::{Tell, Told};
use crate::background::step_back;
use index::{CACHE_KIB, Index};

/// Histories that may wait; the next gets `busy`.
const QUEUE_MAX: usize = 1024;
/// After the first new message, how long others gather before they are indexed together.
const GATHER: Duration = Duration::from_millis(250);
/// While orders wait, how long indexing pauses after each step: it then takes a tenth of a core at most. What is left
/// behind is indexed when things are quieter, or when it is searched.
const YIELD: Duration = Duration::from_millis(100);
/// After an error, how long until the next attempt.
const RETRY: Duration = Duration::from_secs(5);
/// When a client may ask again that found the queue full.
const BUSY_RETRY: Duration = Duration::from_secs(1);

enum Work {
    History(usize, OrderId, Order),
    Wake,
    End,
}

/// The way to the thread.
pub(super) struct Search {
    sender: SyncSender<Work>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// Streams with something to index or to let go. Locked for moments, by the store's thread once a commit and by
    /// the search once a step.
    touched: Mutex<BTreeSet<StreamId>>,
    /// Whether a `Wake` is on its way.
    woken: AtomicBool,
    ledger: OnceLock<LedgerWriter>,
}

impl Search {
    /// Answers an [`Order::History`]; `false` if too many wait.
    pub(super) fn history(&self, shard: usize, id: OrderId, order: Order) -> bool {
        !matches!(self.sender.try_send(Work::History(shard, id, order)), Err(TrySendError::Full(_)))
    }

    /// These streams have new, deleted or trimmed messages.
    pub(super) fn touch(&self, streams: BTreeSet<StreamId>) {
        self.shared.touched.lock().unwrap_or_else(PoisonError::into_inner).extend(streams);
        if !self.shared.woken.swap(true, Ordering::AcqRel) && self.sender.try_send(Work::Wake).is_err() {
            // A full queue wakes it as well.
            self.shared.woken.store(false, Ordering::Release);
        }
    }

    /// Whom to tell of deleted messages that the index has let go.
    pub(super) fn report_to(&self, ledger: &LedgerWriter) {
        // It is said once, at the start.
        let _ = self.shared.ledger.set(ledger.clone());
    }

    /// Ends the thread and waits until it has closed its files.
    pub(super) fn end(mut self) {
        let _ = self.sender.send(Work::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Starts the thread. `main` is the database, which is open already; `own` the file of the index.
pub(super) fn start(main: &Path, own: &Path, frame_bytes: usize, tell: Tell) -> anyhow::Result<Search> {
    let (sender, receiver) = sync_channel(QUEUE_MAX);
    let shared = Arc::<Shared>::default();
    let searcher = Searcher {
        main: main.to_owned(),
        own: own.to_owned(),
        open: None,
        frame_bytes,
        tell,
        shared: Arc::clone(&shared),
        due: None,
    };
    let thread = std::thread::Builder::new().name("search".to_owned()).spawn(move || searcher.run(&receiver))?;
    Ok(Search { sender, shared, thread: Some(thread) })
}

/// The open files.
struct Open {
    main: Connection,
    index: Index,
}

struct Searcher {
    main: PathBuf,
    own: PathBuf,
    open: Option<Open>,
    frame_bytes: usize,
    tell: Tell,
    shared: Arc<Shared>,
    /// When to index the next step, if there is any.
    due: Option<Instant>,
}

impl Searcher {
    fn run(mut self, work: &Receiver<Work>) {
        // Of two threads that want the same core, the store's shall have it.
        step_back("search");
        // What a crash has left unindexed is found by looking at every stream once.
        self.due = Some(Instant::now());
        loop {
            let next = match self.due {
                None => work.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => work.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            match next {
                Ok(Work::History(shard, id, order)) => self.history(shard, id, order),
                Ok(Work::Wake) => self.due = self.due.or(Some(Instant::now() + GATHER)),
                Ok(Work::End) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => self.index(),
            }
        }
    }

    fn history(&mut self, shard: usize, id: OrderId, order: Order) {
        let Order::History { user, place, before, after, limit, query } = order else { return };
        let frame_bytes = self.frame_bytes;
        let asked = history::Asked { user, place, before, after, limit, query, frame_bytes };
        let answer = match self.opened().and_then(|open| asked.answer(&open.main, &mut open.index)) {
            Ok(answer) => answer,
            Err(fault) => {
                warn!(error = %fault, "a history can't be read");
                self.open = None;
                Err(Refused { retry: Some(BUSY_RETRY), ..refuse(ErrorCode::STORAGE) })
            }
        };
        let answer: Result<Outcome, Refused> = answer;
        (self.tell)(shard, vec![Told::Outcome(id, answer)]);
    }

    fn opened(&mut self) -> Kept<&mut Open> {
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let main = Connection::open_with_flags(&self.main, flags)?;
                main.pragma_update(None, "query_only", true)?;
                main.pragma_update(None, "cache_size", -CACHE_KIB)?;
                main.busy_timeout(Duration::from_secs(1))?;
                let index = Index::open(&self.own, &main)?;
                Open { main, index }
            }
        };
        Ok(self.open.insert(open))
    }

    /// One step of indexing.
    fn index(&mut self) {
        // Before the look: what is touched from here on wakes again.
        self.shared.woken.store(false, Ordering::Release);
        let shared = Arc::clone(&self.shared);
        let done = self.opened().and_then(|open| {
            let touched = std::mem::take(&mut *shared.touched.lock().unwrap_or_else(PoisonError::into_inner));
            open.index.pending.extend(touched);
            open.index.step(&open.main)
        });
        self.due = match done {
            Ok(step) => {
                if !step.unindexed.is_empty()
                    && let Some(ledger) = shared.ledger.get()
                {
                    ledger.unindexed(step.unindexed);
                }
                // Something waits, or was committed during this very step.
                let is_busy =
                    shared.woken.load(Ordering::Acquire) || shared.ledger.get().is_some_and(LedgerWriter::is_busy);
                step.more.then(|| Instant::now() + if is_busy { YIELD } else { Duration::ZERO })
            }
            Err(fault) => {
                warn!(error = %fault, "the index of the search can't be written; will try again");
                // Opened again, it looks at every stream.
                self.open = None;
                Some(Instant::now() + RETRY)
            }
        };
    }
}
