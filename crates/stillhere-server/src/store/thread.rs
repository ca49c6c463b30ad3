//! The store's thread: takes what has gathered, decides it in one transaction, commits, tells.
//!
//! When the disk fails, everybody in the batch is told `storage` and nothing of it has happened: the transaction is
//! rolled back and the sequencer forgets its copies. A full disk needs no more than that, and the next batch tries
//! again. After any other failure the database is opened again and checked before it is written to (see
//! `Database::recover`); until that succeeds orders are refused at once. Nobody needs to do anything when space is back.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SendError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use stillhere_core::ledger::{Draft, Order, OrderId, Outcome, Proof, Refused, StreamId};
use stillhere_core::name::Name;
use stillhere_core::wire::error::ErrorCode;
use tracing::{error, info, warn};

use super::base::{Base, Fault, FaultKind, Kept};
use super::desk::Desk;
use super::keep::Changes;
use super::ledger::{Ledger, refuse};
use super::search::Search;
use super::sqlite::{Database, write_sessions};
use super::{Counters, Doors, Rules, Tell, Told, fail};
use crate::clock::wall_ms;

/// Orders that may wait; a shard that meets a full queue answers `busy`. At 90,000 a second this is a fifth of one.
const QUEUE_MAX: usize = 16_384;
/// What the waiting orders may weigh together, in bytes.
const QUEUED_BYTES_MAX: usize = 64 << 20;
/// Orders of one transaction: enough that the sync costs each little, few enough that the first doesn't wait long.
const BATCH_MAX: usize = 1024;
/// What the orders of one transaction may weigh together, in bytes.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// What an order weighs besides its texts, in bytes.
const ORDER_BYTES: usize = 256;
/// When a client may try again after the disk failed.
const STORAGE_RETRY: Duration = Duration::from_secs(1);
/// The time between two attempts to open a broken database again.
const RECOVER_EVERY: Duration = Duration::from_millis(250);

/// A visit to the database by operators and accounts. It runs in a transaction of its own.
type Ask = Box<dyn FnOnce(&mut Desk<'_>) + Send>;

enum Task {
    Order(Order),
    Admit { user: Name, verified: bool, token: Option<Box<str>> },
    Answer(Result<Outcome, Refused>),
}

struct Job {
    shard: usize,
    id: OrderId,
    task: Task,
    bytes: usize,
}

enum Request {
    Job(Job),
    Ask(Ask),
    /// Sessions to write; they come back if that fails.
    Keep(Changes, SyncSender<Result<(), Changes>>),
    /// The index has let go of these deleted messages.
    Unindexed(Vec<(StreamId, u64)>),
    Rules(Rules),
    /// Write everything now, close, tell whether it worked, and end.
    Finish(SyncSender<bool>),
}

/// The way to the store's thread; cheap to clone.
#[derive(Clone)]
pub(crate) struct LedgerWriter {
    sender: SyncSender<Request>,
    queued_bytes: Arc<AtomicUsize>,
}

impl LedgerWriter {
    /// Hands an order over without waiting; gives it back when too much waits already.
    pub(crate) fn order(&self, shard: usize, id: OrderId, order: Order) -> Result<(), Order> {
        let bytes = weight(&order);
        if self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > QUEUED_BYTES_MAX {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(order);
        }
        let job = Job { shard, id, task: Task::Order(order), bytes };
        match self.sender.try_send(Request::Job(job)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(request) | TrySendError::Disconnected(request)) => {
                self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
                match request {
                    Request::Job(Job { task: Task::Order(order), .. }) => Err(order),
                    // What comes back is what was sent: an order.
                    _ => Ok(()),
                }
            }
        }
    }

    /// The accounts have found an `Enter` to be right: answers it with [`Outcome::Entered`] and subscribes the shard
    /// to the mailbox. Waits while the queue is full; not for shards.
    pub(crate) fn admit(&self, shard: usize, id: OrderId, user: Name, verified: bool, token: Option<Box<str>>) {
        self.job(shard, id, Task::Admit { user, verified, token });
    }

    /// The accounts have another answer, such as a refusal. Waits while the queue is full; not for shards.
    pub(crate) fn answer(&self, shard: usize, id: OrderId, answer: Result<Outcome, Refused>) {
        self.job(shard, id, Task::Answer(answer));
    }

    /// Has `ask` run on the store's thread, in a transaction of its own. What is to happen only if that is committed it
    /// gives to [`Desk::then`]. While the database is broken, `ask` is dropped unrun. Waits while the queue is full; not
    /// for shards. Whether the thread still runs.
    pub(crate) fn ask(&self, ask: Ask) -> bool {
        self.sender.send(Request::Ask(ask)).is_ok()
    }

    /// Other rules from here on; the number of shards stays.
    pub(crate) fn set_rules(&self, rules: Rules) -> bool {
        self.sender.send(Request::Rules(rules)).is_ok()
    }

    /// Writes sessions and waits for it; gives them back if that fails.
    pub(super) fn keep(&self, changes: Changes) -> Result<(), Changes> {
        let (sender, receiver) = sync_channel(1);
        match self.sender.send(Request::Keep(changes, sender)) {
            Ok(()) => receiver.recv().unwrap_or(Err(Changes::new())),
            Err(SendError(Request::Keep(changes, _))) => Err(changes),
            Err(_) => Err(Changes::new()),
        }
    }

    /// Whether orders wait at this moment.
    pub(super) fn is_busy(&self) -> bool {
        self.queued_bytes.load(Ordering::Relaxed) > 0
    }

    pub(super) fn unindexed(&self, gone: Vec<(StreamId, u64)>) {
        // When nobody listens or the queue is full, the rows stay, and the index lets go of them once more.
        let _ = self.sender.try_send(Request::Unindexed(gone));
    }

    /// Has everything written and the database closed, and waits for it.
    pub(super) fn finish(&self) -> bool {
        let (sender, receiver) = sync_channel(1);
        self.sender.send(Request::Finish(sender)).is_ok() && receiver.recv().unwrap_or(false)
    }

    fn job(&self, shard: usize, id: OrderId, task: Task) {
        self.queued_bytes.fetch_add(ORDER_BYTES, Ordering::Relaxed);
        if self.sender.send(Request::Job(Job { shard, id, task, bytes: ORDER_BYTES })).is_err() {
            self.queued_bytes.fetch_sub(ORDER_BYTES, Ordering::Relaxed);
        }
    }
}

/// What an order takes in the queue, in bytes.
fn weight(order: &Order) -> usize {
    let draft = |draft: &Draft| draft.text.len() + draft.data.as_ref().map_or(0, |data| data.len());
    ORDER_BYTES
        + match order {
            Order::Say { draft: it, .. } | Order::Tell { draft: it, .. } => draft(it),
            Order::MaySee { users, .. } => users.len() * 64,
            Order::History { query, .. } => query.as_ref().map_or(0, |query| query.len()),
            _ => 0,
        }
}

pub(super) fn start(
    database: Database,
    rules: Rules,
    tell: Tell,
    doors: Doors,
    search: Search,
    counters: Arc<Counters>,
) -> anyhow::Result<LedgerWriter> {
    let (sender, receiver) = sync_channel(QUEUE_MAX);
    let writer = LedgerWriter { sender, queued_bytes: Arc::default() };
    search.report_to(&writer);
    let ledger = Ledger::new(rules);
    let queued_bytes = Arc::clone(&writer.queued_bytes);
    let worker =
        Worker { base: database, ledger, tell, doors, search: Some(search), counters, queued_bytes, broken: None };
    std::thread::Builder::new().name("store".to_owned()).spawn(move || worker.run(&receiver))?;
    Ok(writer)
}

/// Since when the database can't be used.
struct Broken {
    tried: Instant,
    /// It must be opened again; otherwise the next transaction is the attempt.
    reopen: bool,
    refused: u64,
}

pub(super) struct Worker<B> {
    pub(super) base: B,
    pub(super) ledger: Ledger,
    pub(super) tell: Tell,
    doors: Doors,
    search: Option<Search>,
    counters: Arc<Counters>,
    queued_bytes: Arc<AtomicUsize>,
    broken: Option<Broken>,
}

impl<B: Base> Worker<B> {
    /// A worker without a search, for tests of a database that fails.
    #[cfg(test)]
    pub(super) fn for_test(base: B, rules: Rules, tell: Tell) -> Worker<B> {
        Worker {
            base,
            ledger: Ledger::new(rules),
            tell,
            doors: Box::new(|_, _, _| {}),
            search: None,
            counters: Arc::default(),
            queued_bytes: Arc::default(),
            broken: None,
        }
    }

    /// Carries orders out as one batch.
    #[cfg(test)]
    pub(super) fn carry_out(&mut self, orders: Vec<(usize, OrderId, Order)>) {
        let mut batch: Vec<Job> = orders
            .into_iter()
            .map(|(shard, id, order)| Job { shard, id, task: Task::Order(order), bytes: 0 })
            .collect();
        self.work(&mut batch);
    }

    fn run(mut self, requests: &Receiver<Request>) {
        let mut batch = Vec::new();
        loop {
            let first = match self.patience() {
                None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(patience) => requests.recv_timeout(patience),
            };
            let mut next = match first {
                Ok(request) => Some(request),
                Err(RecvTimeoutError::Timeout) => {
                    self.work(&mut batch);
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let (mut bytes, mut other) = (0, None);
            while let Some(request) = next.take() {
                match request {
                    Request::Job(job) => {
                        bytes += job.bytes;
                        self.take(job, &mut batch);
                        if batch.len() < BATCH_MAX && bytes < BATCH_BYTES_MAX {
                            next = requests.try_recv().ok();
                        }
                    }
                    request => other = Some(request),
                }
            }
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            if !batch.is_empty() {
                self.work(&mut batch);
            }
            match other {
                None | Some(Request::Job(_)) => {}
                Some(Request::Ask(ask)) => self.ask(ask),
                Some(Request::Keep(changes, done)) => {
                    let kept = self.transact(|base, _| write_sessions(base.connection(), &changes, wall_ms()));
                    // The keeper waits for it.
                    let _ = done.send(kept.map_err(|_| changes));
                }
                Some(Request::Unindexed(gone)) => {
                    // What fails is tried again after the next start.
                    let _ = self.transact(|base, _| {
                        let mut delete =
                            base.connection().prepare_cached("DELETE FROM unindex WHERE stream = ?1 AND seq = ?2")?;
                        for (stream, seq) in &gone {
                            delete.execute([stream.0 as i64, *seq as i64])?;
                        }
                        Ok(())
                    });
                }
                Some(Request::Rules(rules)) => self.ledger.set_rules(rules),
                Some(Request::Finish(done)) => {
                    let written = self.transact(|base, ledger| ledger.write_marks(base.rows())).is_ok();
                    // The last connection to be closed leaves no WAL behind.
                    if let Some(search) = self.search.take() {
                        search.end();
                    }
                    // The accounts still read, so the last connection isn't closed here; but the file is whole.
                    self.empty_wal();
                    drop(self.base);
                    let _ = done.send(written);
                    return;
                }
            }
        }
    }

    /// How long to wait for the next request before looking after other duties.
    fn patience(&self) -> Option<Duration> {
        let due_ms = self.ledger.duty_at()?;
        let wait = Duration::from_millis(due_ms.saturating_sub(wall_ms().max(self.ledger.now_ms())));
        Some(if self.broken.is_some() { wait.max(RECOVER_EVERY) } else { wait })
    }

    /// Into the batch, or to the accounts.
    fn take(&mut self, job: Job, batch: &mut Vec<Job>) {
        match job.task {
            Task::Order(Order::Enter { proof: Proof::Claim, user: Some(_), .. }) => batch.push(job),
            Task::Order(order @ (Order::Enter { .. } | Order::Password { .. })) => {
                (self.doors)(job.shard, job.id, order);
            }
            _ => batch.push(job),
        }
    }

    /// Carries a batch out and empties it. Also without orders, for the duties.
    fn work(&mut self, batch: &mut Vec<Job>) {
        match self.attempt(batch) {
            Ok(()) => self.pass_on(batch),
            // One of them is our fault; the others shall not suffer.
            Err(fault) if fault.kind == FaultKind::Wrong && batch.len() > 1 => {
                for job in batch.drain(..) {
                    self.work(&mut vec![job]);
                }
            }
            Err(fault) => self.refuse(batch, &fault),
        }
        batch.clear();
    }

    /// One transaction with everything in the batch; when it returns, all is committed and told, or nothing.
    fn attempt(&mut self, batch: &[Job]) -> Kept<()> {
        self.transact(|base, ledger| {
            for job in batch {
                match &job.task {
                    Task::Order(order) => ledger.decide(base.rows(), job.shard, job.id, order)?,
                    Task::Admit { user, verified, token } => {
                        ledger.admit(base.rows(), job.shard, job.id, user, *verified, token.as_deref())?;
                    }
                    Task::Answer(_) => {}
                }
            }
            ledger.duties(base.rows())
        })
    }

    /// Runs `act` in a transaction, and tells what it decided once that is committed.
    fn transact<T>(&mut self, act: impl FnOnce(&mut B, &mut Ledger) -> Kept<T>) -> Kept<T> {
        self.mend()?;
        self.ledger.set_now(wall_ms());
        let began = Instant::now();
        let base = &mut self.base;
        let done = base.begin().and_then(|()| act(base, &mut self.ledger)).and_then(|done| {
            fail::pass("before-commit");
            base.commit()?;
            Ok(done)
        });
        match done {
            Ok(done) => {
                fail::pass("after-commit");
                self.counters.committed(began.elapsed());
                self.recovered();
                fail::pass("before-told");
                self.deliver();
                Ok(done)
            }
            Err(fault) => {
                self.base.rollback();
                self.ledger.forget();
                self.failed(&fault);
                Err(fault)
            }
        }
    }

    /// Opens a broken database again, if it is time for it.
    fn mend(&mut self) -> Kept<()> {
        let Some(broken) = self.broken.as_mut().filter(|broken| broken.reopen) else { return Ok(()) };
        let still = || Fault::new(FaultKind::Broken, "the database isn't open again yet");
        if broken.tried.elapsed() < RECOVER_EVERY {
            return Err(still());
        }
        broken.tried = Instant::now();
        match self.base.recover() {
            Ok(()) => {
                broken.reopen = false;
                Ok(())
            }
            Err(error) => Err(Fault::new(FaultKind::Broken, format!("{error:#}"))),
        }
    }

    fn failed(&mut self, fault: &Fault) {
        self.counters.failed.fetch_add(1, Ordering::Relaxed);
        let reopen = fault.kind == FaultKind::Broken;
        match (fault.kind, &mut self.broken) {
            (FaultKind::Wrong, _) => {
                error!(error = %fault, "the store couldn't carry out an order; this is a fault of this program");
            }
            (_, Some(broken)) => broken.reopen |= reopen,
            (_, None) => {
                error!(
                    error = %fault,
                    "can't write to the data dir: messages, logins and rooms are refused, presence and signals go on; \
                     will try again (is the disk full?)"
                );
                self.broken = Some(Broken { tried: Instant::now(), reopen, refused: 0 });
            }
        }
    }

    fn recovered(&mut self) {
        if let Some(broken) = self.broken.take() {
            info!(refused = broken.refused, "the data dir can be written to again");
        }
    }

    /// Writes the WAL back and empties it, as far as nobody reads from it.
    fn empty_wal(&self) {
        let emptied = self.base.connection().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        if let Err(error) = emptied {
            warn!(%error, "the write-ahead log can't be written back now; it will be later");
        }
    }

    fn deliver(&mut self) {
        if self.ledger.has_erased() {
            self.empty_wal();
        }
        let (told, touched) = self.ledger.committed();
        for (shard, told) in told.into_iter().enumerate() {
            if !told.is_empty() {
                (self.tell)(shard, told);
            }
        }
        if let Some(search) = self.search.as_ref().filter(|_| !touched.is_empty()) {
            search.touch(touched);
        }
    }

    /// After the commit: what others answer.
    fn pass_on(&mut self, batch: &mut Vec<Job>) {
        for job in batch.drain(..) {
            match job.task {
                Task::Answer(answer) => (self.tell)(job.shard, vec![Told::Outcome(job.id, answer)]),
                Task::Order(order @ Order::History { .. }) => self.pass_history(job.shard, job.id, order),
                Task::Order(_) | Task::Admit { .. } => {}
            }
        }
    }

    fn pass_history(&mut self, shard: usize, id: OrderId, order: Order) {
        let is_taken = self.search.as_ref().is_some_and(|search| search.history(shard, id, order));
        if !is_taken {
            let busy = Refused { retry: Some(STORAGE_RETRY), ..refuse(ErrorCode::BUSY) };
            (self.tell)(shard, vec![Told::Outcome(id, Err(busy))]);
        }
    }

    /// Nothing of it has happened. What needs no disk happens all the same.
    fn refuse(&mut self, batch: &mut Vec<Job>, fault: &Fault) {
        let code = if fault.kind == FaultKind::Wrong { ErrorCode::INTERNAL } else { ErrorCode::STORAGE };
        let retry = (code == ErrorCode::STORAGE).then_some(STORAGE_RETRY);
        if let Some(broken) = &mut self.broken {
            broken.refused += batch.len() as u64;
        }
        let mut told: Vec<Vec<Told>> = Vec::new();
        let shards: HashSet<usize> = batch.iter().map(|job| job.shard).collect();
        told.resize_with(shards.iter().max().map_or(0, |most| most + 1), Vec::new);
        for job in batch.drain(..) {
            let answer = match job.task {
                Task::Order(Order::Release { stream }) => {
                    self.ledger.release(job.shard, stream);
                    Ok(Outcome::Done)
                }
                Task::Order(order @ Order::History { .. }) => {
                    self.pass_history(job.shard, job.id, order);
                    continue;
                }
                Task::Answer(answer) => answer,
                Task::Order(_) | Task::Admit { .. } => Err(Refused { retry, ..refuse(code) }),
            };
            told[job.shard].push(Told::Outcome(job.id, answer));
        }
        for (shard, told) in told.into_iter().enumerate().filter(|(_, told)| !told.is_empty()) {
            (self.tell)(shard, told);
        }
    }

    fn ask(&mut self, ask: Ask) {
        let mut after = Vec::new();
        let done = self.transact(|base, ledger| {
            let mut desk = Desk::new(base, ledger);
            ask(&mut desk);
            after = desk.take_after();
            match desk.into_fault() {
                Some(fault) => Err(fault),
                None => Ok(()),
            }
        });
        for then in after {
            then(done.is_ok());
        }
    }
}
