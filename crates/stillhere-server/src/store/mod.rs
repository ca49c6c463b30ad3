//! What survives a restart: accounts, rooms and messages, and the identities of v1 sessions.
//!
//! Threads:
//!
//! 1. `store` owns the database. It takes the orders of the shards, decides as many as have gathered in one
//!    transaction, commits, and only then tells outcomes and news (`thread`, `ledger`). It never waits to gather: while
//!    one commit runs, the next batch comes together.
//! 2. `keep` gathers for a second what changed of v1 sessions, and has `store` write it. Shards never wait for it; after a
//!    crash the last second may be missing, and such a client gets a new session.
//! 3. `search` reads: histories, and the index of the search, which has a file of its own and can be made again
//!    (`search`).
//!
//! A shard talks to all of it through [`StoreWriter`] and [`LedgerWriter`], which refuse when a queue is full instead of
//! waiting. The process ends these threads when [`StoreWriter::finish`] returns.

#![allow(
    dead_code,
    unused_imports,
    reason = "the shards' drivers, the accounts and the operators' commands call it next"
)]

mod base;
mod desk;
mod fail;
mod keep;
mod ledger;
mod messages;
pub(crate) mod people;
mod recent;
mod rows;
pub(crate) mod salvage;
mod schema;
mod search;
mod sqlite;
mod thread;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use stillhere_core::event::Keepsake;
pub(crate) use stillhere_core::ledger::Told;
use stillhere_core::ledger::{Order, OrderId};
use stillhere_core::stats::Histogram;

pub(crate) use base::{Fault, FaultKind, Kept};

pub(crate) use desk::{Desk, RoomInfo};
pub(crate) use keep::StoreWriter;
pub(crate) use thread::LedgerWriter;

use crate::clock::wall_ms;
use sqlite::Database;

/// Takes what is told to one shard by one commit, in its order. It must not wait. It is called by `store`, and by
/// `search` for histories.
pub(crate) type Tell = Arc<dyn Fn(usize, Vec<Told>) + Send + Sync>;

/// Takes the orders that the accounts decide: `Enter` with a proof other than a claim, and `Password`. It is called on the
/// store's thread and must not wait; later the accounts say [`LedgerWriter::admit`] or [`LedgerWriter::answer`].
pub(crate) type Doors = Box<dyn Fn(usize, OrderId, Order) + Send>;

/// What operators may set of it (`[rooms]`, `limits.mailbox`, `limits.frame`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// How many shards there are.
    pub(crate) shards: usize,
    /// Whether joining a room that isn't there makes it.
    pub(crate) rooms_by_users: bool,
    /// How many rooms there may be.
    pub(crate) rooms_max: u64,
    /// How many rooms a user may own that wants to make another one.
    pub(crate) rooms_per_user: u64,
    /// Whether users may write to those they share nothing with.
    pub(crate) strangers_may_write: bool,
    /// How many messages of a room, a conversation and a mailbox are kept; 0 for all.
    pub(crate) keep_messages: u64,
    /// How long messages are kept, in milliseconds; 0 for ever.
    pub(crate) keep_for_ms: u64,
    /// Messages from others that a user's clients haven't handled.
    pub(crate) mailbox_max: u64,
    /// The largest frame, in bytes: what a history must fit in.
    pub(crate) frame_bytes: usize,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            shards: 1,
            rooms_by_users: true,
            rooms_max: 10_000,
            rooms_per_user: 100,
            strangers_may_write: true,
            keep_messages: 100_000,
            keep_for_ms: 365 * 24 * 3_600_000,
            mailbox_max: 10_000,
            frame_bytes: 64 << 10,
        }
    }
}

impl Rules {
    /// As the configuration has it.
    pub(crate) fn of(config: &crate::config::Config) -> Rules {
        Rules {
            shards: config.shards(),
            rooms_by_users: config.rooms.create == crate::config::RoomsBy::Users,
            rooms_max: config.rooms.max,
            rooms_per_user: config.rooms.max_per_user,
            strangers_may_write: config.rooms.strangers == crate::config::Strangers::Allow,
            keep_messages: config.rooms.keep_messages,
            keep_for_ms: config.rooms.keep_for.as_millis() as u64,
            mailbox_max: config.limits.mailbox,
            frame_bytes: config.limits.frame as usize,
        }
    }
}

/// What the store counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Changes of sessions dropped because a thread was behind.
    pub(crate) dropped: AtomicU64,
    /// Transactions that failed.
    pub(crate) failed: AtomicU64,
    /// How long commits took. Locked once a commit by the store's thread, and by who reads the metrics.
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

    fn committed(&self, took: Duration) {
        self.commit.lock().unwrap_or_else(PoisonError::into_inner).0.record(took);
    }
}

/// A store that runs.
pub(crate) struct Store {
    /// For sessions.
    pub(crate) sessions: StoreWriter,
    /// For accounts, rooms and messages.
    pub(crate) ledger: LedgerWriter,
    /// The sessions that survived.
    pub(crate) survivors: Vec<Keepsake>,
}

/// Opens the store in `dir` with its threads. What survived are the sessions newer than `window`.
pub(crate) fn start(dir: &Path, window: Duration, rules: Rules, tell: Tell, doors: Doors) -> anyhow::Result<Store> {
    let path = dir.join("stillhere.db");
    let mut database = Database::open(&path)?;
    let oldest_ms = wall_ms().saturating_sub(window.as_millis() as u64);
    let survivors = database.load(oldest_ms).context("can't read the sessions of the last run")?;
    let counters = Arc::<Counters>::default();
    let search = search::start(&path, &dir.join("search.db"), rules.frame_bytes, Arc::clone(&tell))?;
    let ledger = thread::start(database, rules, tell, doors, search, Arc::clone(&counters))?;
    let sessions = keep::start(ledger.clone(), counters)?;
    Ok(Store { sessions, ledger, survivors })
}

/// Opens the store in `dir` for sessions alone, and returns what survived: everything newer than `window`.
pub(crate) fn open(dir: &Path, window: Duration) -> anyhow::Result<(StoreWriter, Vec<Keepsake>)> {
    let store = start(dir, window, Rules::default(), Arc::new(|_, _| {}), Box::new(|_, _, _| {}))?;
    Ok((store.sessions, store.survivors))
}
