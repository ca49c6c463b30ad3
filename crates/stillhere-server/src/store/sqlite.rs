//! The embedded database: opening, checking, transactions.
//!
//! **Checks at start.** A file is refused whose header or schema can't be read, that a newer program wrote, or in which
//! SQLite's quick check finds damage within [`CHECK_TIME`]. The whole check reads every page, which takes seconds from
//! a million messages on; neither a kill nor a loss of power damages a WAL database, so that whoever fears for the disk
//! under a large one runs the whole check by hand.
//!
//! **Size.** Pages that retention and deletion free are used again; the file doesn't shrink, and with the limits of
//! `[rooms]` it stops growing. (SQLite's incremental vacuum would move pages about on every deletion, and can't be
//! switched on for the files of earlier versions.)

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rusqlite::{Connection, Row, params};
use stillhere_core::event::Keepsake;
use stillhere_core::name::Name;
use stillhere_core::secret::{SecretHash, SessionId};

use super::base::{Base, Kept, Rows};
use super::fail;
use super::schema;

/// How long the quick check at start may take. It covers about 100 MB.
const CHECK_TIME: Duration = Duration::from_millis(500);
/// After how many of SQLite's steps the check's time is looked at.
const CHECK_STEPS: i32 = 10_000;
/// Statements kept compiled; there are about 60.
const STATEMENTS_MAX: usize = 128;
/// The WAL is copied into the file at this many pages of 4 KiB. Larger than SQLite's 1,000: a page that is written in
/// many commits, as the end of a busy room's stream is, is then copied once.
const CHECKPOINT_PAGES: i64 = 4000;
/// What a WAL that had to grow is cut back to, in bytes.
const WAL_BYTES_MAX: i64 = 64 << 20;
/// The page cache, in KiB: hot ends of streams and the inner pages of a database of half a gigabyte or so. What it has no
/// room for costs a read from the kernel's own cache; what it has is memory that an attack that writes much makes it take.
const CACHE_KIB: i64 = 4 << 10;
/// How long a lock of somebody else (a backup, an operator's shell) is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Database {
    /// `None` only while it is opened again.
    connection: Option<Connection>,
    path: PathBuf,
}

impl Database {
    pub(super) fn open(path: &Path) -> anyhow::Result<Database> {
        // Created by us first, so that nobody else can ever read it.
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .with_context(|| format!("can't open {}; is the data dir writable?", path.display()))?;
        Ok(Database { connection: Some(connect(path)?), path: path.to_owned() })
    }

    pub(super) fn connection(&self) -> &Connection {
        // Only `recover` takes it, and puts one back before it returns.
        self.connection.as_ref().expect("a database outside of `recover` is open")
    }

    /// Everything that changed since `oldest_ms`; what is older is deleted.
    pub(super) fn load(&mut self, oldest_ms: u64) -> anyhow::Result<Vec<Keepsake>> {
        self.connection().execute("DELETE FROM session WHERE changed_ms < ?1", params![oldest_ms as i64])?;
        let mut select = self.connection().prepare(
            "SELECT id, secret, previous, generation, user, client, interval_ms, closed, account FROM session
             ORDER BY changed_ms",
        )?;
        let rows = select.query_map([], read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// Writes changed sessions, within a transaction.
pub(super) fn write_sessions(
    connection: &Connection,
    changes: &HashMap<SessionId, Option<Keepsake>>,
    now_ms: u64,
) -> Kept<()> {
    let mut keep = connection.prepare_cached(
        "INSERT OR REPLACE INTO session
         (id, secret, previous, generation, user, client, interval_ms, closed, changed_ms, account)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    let mut forget = connection.prepare_cached("DELETE FROM session WHERE id = ?1")?;
    for (id, change) in changes {
        match change {
            Some(kept) => keep.execute(params![
                &id.0[..],
                &kept.secret.0[..],
                kept.previous.as_ref().map(|previous| &previous.0[..]),
                i64::from(kept.generation),
                kept.user.as_deref(),
                kept.client.as_deref(),
                kept.interval.as_millis() as i64,
                kept.closed,
                now_ms as i64,
                kept.account.as_ref().map(Name::as_str),
            ])?,
            None => forget.execute(params![&id.0[..]])?,
        };
    }
    Ok(())
}

impl Base for Database {
    fn begin(&mut self) -> Kept<()> {
        Ok(self.connection().execute_batch("BEGIN")?)
    }

    fn commit(&mut self) -> Kept<()> {
        fail::may_break("in-commit")?;
        Ok(self.connection().execute_batch("COMMIT")?)
    }

    fn rollback(&mut self) {
        // SQLite rolls some failures back by itself; then there is nothing left to do.
        if !self.connection().is_autocommit() {
            let _ = self.connection().execute_batch("ROLLBACK");
        }
    }

    fn recover(&mut self) -> anyhow::Result<()> {
        fail::may_break("recover")?;
        // First the new connection: if there can't be one, the old one stays, and is broken as before.
        let fresh = connect(&self.path)?;
        self.connection = Some(fresh);
        // What the WAL holds goes into the file, newly written and synced, and the next commit begins a new WAL: no
        // page is relied on whose sync has failed.
        let (is_busy, ..) = self.connection().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
            Ok((row.get::<_, bool>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        })?;
        if is_busy {
            bail!("somebody else holds the database; will try again");
        }
        Ok(())
    }

    fn rows(&mut self) -> &mut dyn Rows {
        self
    }

    fn connection(&self) -> &Connection {
        self.connection()
    }
}

/// Opens and checks; what fails says what to do.
fn connect(path: &Path) -> anyhow::Result<Connection> {
    let shown = path.display();
    let mut connection = Connection::open(path).with_context(|| format!("can't open {shown}"))?;
    match prepare(&mut connection) {
        Ok(()) => Ok(connection),
        Err(error) if error.is::<Newer>() => Err(error.context(format!("can't use {shown}"))),
        Err(error) if is_damage(&error) => {
            let error = error.context(format!("{shown} is damaged. {}", advice(path)));
            Err(error)
        }
        Err(error) => Err(error.context(format!("can't use {shown}; is the disk full, or the file another user's?"))),
    }
}

/// It was written by a program that knows more than this one.
#[derive(Debug, thiserror::Error)]
#[error(
    "a newer stillhere wrote it (schema {found}, known here is {}); start that version, or restore a backup from before",
    schema::VERSION
)]
struct Newer {
    found: i64,
}

#[derive(Debug, thiserror::Error)]
#[error("the check found: {found}")]
struct Damage {
    found: String,
}

fn is_damage(error: &anyhow::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    let code = error.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code);
    error.is::<Damage>() || matches!(code, Some(DatabaseCorrupt | NotADatabase))
}

/// How to get a damaged database back. Nothing is ever deleted.
fn advice(path: &Path) -> String {
    let dir = path.parent().unwrap_or(Path::new(".")).display().to_string().replace('\'', r"'\''");
    format!(
        "It was left as it is. Save what can be read with\n  stillhere repair --data-dir '{dir}'\nand start again; the \
         damaged file is kept beside. Or restore a backup."
    )
}

fn prepare(connection: &mut Connection) -> anyhow::Result<()> {
    connection.busy_timeout(PATIENCE)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version > schema::VERSION {
        return Err(Newer { found: version }.into());
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "secure_delete", "FAST")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES_MAX)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    check(connection)?;
    for (from, step) in (0..).zip(schema::STEPS).skip(version.max(0) as usize) {
        connection.execute_batch(&format!("BEGIN IMMEDIATE; {step} PRAGMA user_version = {}; COMMIT", from + 1))?;
    }
    Ok(())
}

/// The quick check, as far as it comes in [`CHECK_TIME`].
fn check(connection: &mut Connection) -> anyhow::Result<()> {
    let until = Instant::now() + CHECK_TIME;
    connection.progress_handler(CHECK_STEPS, Some(move || Instant::now() >= until))?;
    let found = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    connection.progress_handler(0, None::<fn() -> bool>)?;
    match found {
        Ok(found) if found == "ok" => Ok(()),
        Ok(found) => Err(Damage { found }.into()),
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<Keepsake> {
    Ok(Keepsake {
        session: SessionId(row.get(0)?),
        secret: SecretHash(row.get(1)?),
        previous: row.get::<_, Option<[u8; 32]>>(2)?.map(SecretHash),
        generation: row.get(3)?,
        user: row.get::<_, Option<String>>(4)?.map(Into::into),
        account: row.get::<_, Option<String>>(8)?.map(Name::of_store),
        client: row.get::<_, Option<String>>(5)?.map(Into::into),
        interval: Duration::from_millis(row.get::<_, i64>(6)?.unsigned_abs()),
        closed: row.get(7)?,
    })
}
