//! The index: which words and pairs of characters stand in which message.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, params};
use stillhere_core::bigram;
use stillhere_core::ledger::StreamId;
use tracing::warn;

use super::super::base::{Fault, FaultKind, Kept};
use super::super::rows::{number, stream_of};

/// The page cache of the index, and of the messages that are read for it, in KiB each: half of SQLite's own choice. What
/// is read here is read once, and the kernel has it.
pub(super) const CACHE_KIB: i64 = 1 << 10;
/// Messages indexed in one transaction: some 20 ms.
const STEP: u32 = 512;
/// Messages let go in one transaction.
const FORGET_STEP: u32 = 2048;
/// Steps that a search takes before it looks, so that it finds what was said just now.
const STEPS_BEFORE_SEARCH: u32 = 8;
/// Streams looked at in one step of the round that follows a start.
const ROUND_STEP: u32 = 256;
/// How long a search may take. Longer ones are for words that half of a large room's messages have.
const SEARCH_TIME: Duration = Duration::from_millis(500);
/// After how many of SQLite's steps the time is looked at.
const SEARCH_STEPS: i32 = 10_000;
/// The version of the index; another one is made again.
const VERSION: i64 = 1;
/// A message's number in the index has its seq in the lower half.
const SEQ_BITS: u32 = 32;

const SCHEMA: &str = "
    CREATE VIRTUAL TABLE body USING fts5(text, content='', contentless_delete=1, tokenize='unicode61 remove_diacritics 2');
    CREATE TABLE mark (stream INTEGER PRIMARY KEY, upto INTEGER NOT NULL, trimmed INTEGER NOT NULL,
        time_ms INTEGER NOT NULL) STRICT;
    CREATE TABLE source (id BLOB NOT NULL) STRICT;
    PRAGMA user_version = 1;
";

/// What one step has done.
pub(super) struct Step {
    /// Whether there is more to do.
    pub(super) more: bool,
    /// Deleted messages that the index has let go.
    pub(super) unindexed: Vec<(StreamId, u64)>,
}

/// How far a stream is indexed.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    upto: u64,
    trimmed: u64,
    /// When the message `upto` was committed: another time means another history, as after a restored backup.
    time_ms: i64,
}

pub(super) struct Index {
    own: Connection,
    /// Streams to look at.
    pub(super) pending: BTreeSet<StreamId>,
    /// Where the round that follows a start has come to.
    round: Option<StreamId>,
}

impl Index {
    /// Opens the file; one that can't be used, or that belongs to another database, is made again.
    pub(super) fn open(path: &Path, main: &Connection) -> Kept<Index> {
        let source: Vec<u8> = main.query_row("SELECT id FROM identity", [], |row| row.get(0))?;
        let own = match connect(path, &source) {
            Ok(own) => own,
            Err(fault) if fault.kind == FaultKind::Full => return Err(fault),
            Err(fault) => {
                warn!(reason = %fault, "the index of the search is made again");
                for suffix in ["", "-wal", "-shm"] {
                    let mut file = path.as_os_str().to_owned();
                    file.push(suffix);
                    // What isn't there needn't go.
                    let _ = std::fs::remove_file(file);
                }
                connect(path, &source)?
            }
        };
        Ok(Index { own, pending: BTreeSet::new(), round: Some(StreamId(0)) })
    }

    /// Indexes and lets go, a bounded amount.
    pub(super) fn step(&mut self, main: &Connection) -> Kept<Step> {
        self.go_round(main)?;
        let unindexed = self.unindex(main)?;
        let mut room = STEP;
        self.own.execute_batch("BEGIN IMMEDIATE")?;
        let done = (|| {
            // In ascending order, as the index likes it.
            while let Some(stream) = self.pending.first().copied() {
                if self.catch_up(main, stream, &mut room)? {
                    self.pending.remove(&stream);
                }
                if room == 0 {
                    break;
                }
            }
            Ok(self.own.execute_batch("COMMIT")?)
        })();
        if let Err(fault) = done {
            let _ = self.own.execute_batch("ROLLBACK");
            return Err(fault);
        }
        let more = !self.pending.is_empty() || self.round.is_some() || !unindexed.is_empty();
        Ok(Step { more, unindexed })
    }

    /// Indexes what one stream still lacks, if that is quick.
    pub(super) fn prepare_search(&mut self, main: &Connection, stream: StreamId) -> Kept<()> {
        for _ in 0..STEPS_BEFORE_SEARCH {
            let mut room = STEP;
            self.own.execute_batch("BEGIN IMMEDIATE")?;
            let done = self.catch_up(main, stream, &mut room).and_then(|done| {
                self.own.execute_batch("COMMIT")?;
                Ok(done)
            });
            match done {
                Ok(false) => {}
                Ok(true) => break,
                Err(fault) => {
                    let _ = self.own.execute_batch("ROLLBACK");
                    return Err(fault);
                }
            }
        }
        Ok(())
    }

    /// The newest messages of a stream, between two seqs, that contain what is looked for; newest first. `None` if it
    /// would take too long.
    pub(super) fn search(
        &mut self,
        stream: StreamId,
        query: &str,
        (after, before): (u64, u64),
        limit: u32,
    ) -> Kept<Option<Vec<u64>>> {
        let Some(expression) = bigram::query(query) else { return Ok(Some(Vec::new())) };
        let until = Instant::now() + SEARCH_TIME;
        self.own.progress_handler(SEARCH_STEPS, Some(move || Instant::now() >= until))?;
        let found = (|| {
            let mut select = self.own.prepare_cached(
                "SELECT rowid FROM body WHERE body MATCH ?1 AND rowid > ?2 AND rowid < ?3 ORDER BY rowid DESC LIMIT ?4",
            )?;
            let rows = select
                .query_map(params![expression, place(stream, after), place(stream, before), limit], |row| {
                    row.get::<_, i64>(0)
                })?
                .map(|row| row.map(|place| place as u64 & (u64::from(u32::MAX))));
            rows.collect::<rusqlite::Result<Vec<u64>>>()
        })();
        self.own.progress_handler(0, None::<fn() -> bool>)?;
        match found {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// After a start: looks which streams have more than their mark says.
    fn go_round(&mut self, main: &Connection) -> Kept<()> {
        let Some(from) = self.round else { return Ok(()) };
        let mut select =
            main.prepare_cached("SELECT id FROM stream WHERE id > ?1 AND kind < 2 ORDER BY id LIMIT ?2")?;
        let rows = select.query_map(params![number(from), ROUND_STEP], |row| Ok(stream_of(row.get(0)?)))?;
        let streams = rows.collect::<rusqlite::Result<Vec<StreamId>>>()?;
        self.round = streams.last().copied();
        self.pending.extend(streams);
        Ok(())
    }

    /// Lets go of deleted messages.
    fn unindex(&mut self, main: &Connection) -> Kept<Vec<(StreamId, u64)>> {
        let mut select = main.prepare_cached("SELECT stream, seq FROM unindex LIMIT ?1")?;
        let rows = select.query_map([FORGET_STEP], |row| Ok((stream_of(row.get(0)?), row.get::<_, i64>(1)? as u64)))?;
        let gone = rows.collect::<rusqlite::Result<Vec<_>>>()?;
        if gone.is_empty() {
            return Ok(gone);
        }
        let transaction = self.own.transaction()?;
        {
            let mut delete = transaction.prepare_cached("DELETE FROM body WHERE rowid = ?1")?;
            for (stream, seq) in &gone {
                delete.execute([place(*stream, *seq)])?;
            }
        }
        transaction.commit()?;
        Ok(gone)
    }

    /// Brings a stream up to date, as far as `room` allows; whether it is.
    fn catch_up(&self, main: &Connection, stream: StreamId, room: &mut u32) -> Kept<bool> {
        let mut mark = self.mark(stream)?;
        let mut trimmed = main.prepare_cached("SELECT trimmed FROM stream WHERE id = ?1")?;
        let Some(trimmed) = trimmed.query_row([number(stream)], |row| row.get::<_, i64>(0)).optional()? else {
            return Ok(true);
        };
        let trimmed = trimmed as u64;
        let before = mark;
        let mut is_done = true;
        if mark.upto > trimmed && self.is_other(main, stream, mark)? {
            self.forget(stream, 0, u64::from(u32::MAX))?;
            mark = Mark::default();
        }
        if trimmed > mark.trimmed {
            mark.trimmed = trimmed.min(mark.trimmed + u64::from(FORGET_STEP));
            self.forget(stream, before.trimmed, mark.trimmed)?;
            *room = room.saturating_sub(1);
            is_done = mark.trimmed == trimmed;
        }
        let mut select = main.prepare_cached(
            "SELECT seq, time_ms, text, deleted FROM message WHERE stream = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
        )?;
        let mut insert = self.own.prepare_cached("INSERT INTO body (rowid, text) VALUES (?1, ?2)")?;
        let mut rows = select.query(params![number(stream), mark.upto as i64, *room])?;
        let mut read = 0;
        while let Some(row) = rows.next()? {
            mark.upto = row.get::<_, i64>(0)? as u64;
            mark.time_ms = row.get(1)?;
            read += 1;
            if !row.get::<_, bool>(3)? {
                let text = row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?;
                insert.execute(params![place(stream, mark.upto), bigram::index_text(text)])?;
            }
        }
        is_done &= read < *room;
        *room -= read;
        if (mark.upto, mark.trimmed) != (before.upto, before.trimmed) {
            self.own
                .prepare_cached("INSERT OR REPLACE INTO mark (stream, upto, trimmed, time_ms) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![number(stream), mark.upto as i64, mark.trimmed as i64, mark.time_ms])?;
        }
        Ok(is_done)
    }

    fn mark(&self, stream: StreamId) -> Kept<Mark> {
        let mut select = self.own.prepare_cached("SELECT upto, trimmed, time_ms FROM mark WHERE stream = ?1")?;
        let mark = select.query_row([number(stream)], |row| {
            Ok(Mark { upto: row.get::<_, i64>(0)? as u64, trimmed: row.get::<_, i64>(1)? as u64, time_ms: row.get(2)? })
        });
        Ok(mark.optional()?.unwrap_or_default())
    }

    /// Whether the message at the mark is another one than was indexed.
    fn is_other(&self, main: &Connection, stream: StreamId, mark: Mark) -> Kept<bool> {
        let mut select = main.prepare_cached("SELECT time_ms FROM message WHERE stream = ?1 AND seq = ?2")?;
        let time_ms = select.query_row([number(stream), mark.upto as i64], |row| row.get::<_, i64>(0)).optional()?;
        Ok(time_ms != Some(mark.time_ms))
    }

    fn forget(&self, stream: StreamId, after: u64, upto: u64) -> Kept<()> {
        self.own
            .prepare_cached("DELETE FROM body WHERE rowid > ?1 AND rowid <= ?2")?
            .execute([place(stream, after), place(stream, upto)])?;
        Ok(())
    }
}

fn place(stream: StreamId, seq: u64) -> i64 {
    (number(stream) << SEQ_BITS) | seq.min(u64::from(u32::MAX)) as i64
}

fn connect(path: &Path, source: &[u8]) -> Kept<Connection> {
    let unusable = |why: &str| Fault::new(FaultKind::Wrong, why);
    let made = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    made.map_err(|error| Fault::new(FaultKind::Broken, error.to_string()))?;
    let own = Connection::open(path)?;
    own.pragma_update(None, "journal_mode", "WAL")?;
    // A loss of power may take the newest entries with their marks; they are made again.
    own.pragma_update(None, "synchronous", "NORMAL")?;
    own.pragma_update(None, "cache_size", -CACHE_KIB)?;
    match own.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))? {
        0 => {
            own.execute_batch(SCHEMA)?;
            own.execute("INSERT INTO source (id) VALUES (?1)", [source])?;
        }
        VERSION => {
            let known: Vec<u8> = own.query_row("SELECT id FROM source", [], |row| row.get(0))?;
            if known != source {
                return Err(unusable("it belongs to another database"));
            }
        }
        _ => return Err(unusable("another version wrote it")),
    }
    Ok(own)
}
