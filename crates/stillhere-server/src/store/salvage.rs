//! `stillhere repair`: a new database with everything that can still be read of a damaged one, which is kept.
//!
//! Each table is read from its beginning until the damage, and from its end back to it; of messages and mailboxes each
//! stream by itself. So one damaged page costs what stood on it, and what can't be reached without it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};

use super::schema;
use super::sqlite::Database;

/// What was saved.
#[derive(Debug, PartialEq, Eq)]
pub struct Saved {
    /// By table: rows saved, and whether some may be lost.
    pub tables: Vec<(&'static str, u64, bool)>,
    /// Where the damaged files are now.
    pub kept: PathBuf,
}

/// The tables, those first that say which streams there are; with their keys, and whether they are read by stream.
const TABLES: [(&str, &str, bool); 14] = [
    ("stream", "id", false),
    ("room", "stream", false),
    ("conversation", "stream", false),
    ("user", "id", false),
    ("gone", "name", false),
    ("token", "hash", false),
    ("ban", "kind, subject", false),
    ("relation", "user, other", false),
    ("member", "stream, user", false),
    ("read_mark", "stream, user", false),
    ("audit", "id", false),
    ("session", "id", false),
    ("message", "stream, seq", true),
    ("mail", "stream, position", true),
];
/// Rows written in one transaction.
const CHUNK: u64 = 10_000;

/// Saves what can be read of `stillhere.db` in `dir` and puts it in its place. No gateway may use `dir`; the caller sees
/// to that.
pub(crate) fn repair(dir: &Path) -> anyhow::Result<Saved> {
    let path = dir.join("stillhere.db");
    let saved_path = dir.join("saved.db");
    let kept = (1..1000)
        .map(|number| dir.join(format!("damaged-{number}")))
        .find(|kept| !kept.exists())
        .context("there are too many folders called damaged-…; remove those you don't need")?;
    for suffix in ["", "-wal", "-shm"] {
        // Of an earlier attempt.
        let _ = fs::remove_file(dir.join(format!("saved.db{suffix}")));
    }
    let old = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .with_context(|| format!("can't open {}", path.display()))?;
    let version: rusqlite::Result<i64> = old.pragma_query_value(None, "user_version", |row| row.get(0));
    match version {
        Ok(version) if version > schema::VERSION => {
            bail!("a newer stillhere wrote {} (schema {version}); repair it with that version", path.display())
        }
        Ok(_) => {}
        Err(error) => bail!(
            "nothing of {0} can be read ({error}). Restore a backup, or move it away (mkdir {1} && mv {0}* {1}/) and \
             begin anew",
            path.display(),
            kept.display()
        ),
    }
    let saved = Database::open(&saved_path)?;
    let tables = copy(&old, saved.connection())?;
    drop(old);
    // Closed, it has no WAL any more.
    drop(saved);
    fs::create_dir(&kept).with_context(|| format!("can't make {}", kept.display()))?;
    for suffix in ["", "-wal", "-shm"] {
        let name = format!("stillhere.db{suffix}");
        if dir.join(&name).exists() {
            fs::rename(dir.join(&name), kept.join(&name)).with_context(|| format!("can't move {name}"))?;
        }
    }
    fs::rename(&saved_path, &path).context("can't put what was saved in its place")?;
    Ok(Saved { tables, kept })
}

/// Copies every table; of each how many rows, and whether some may be lost.
fn copy(old: &Connection, new: &Connection) -> anyhow::Result<Vec<(&'static str, u64, bool)>> {
    let mut tables = Vec::new();
    for (table, key, by_stream) in TABLES {
        let mut copy = Copy { old, new, table, key, rows: 0, is_whole: true };
        if by_stream {
            let mut streams = new.prepare("SELECT id FROM stream ORDER BY id")?;
            let streams = streams.query_map([], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
            for stream in streams {
                copy.run(&format!("WHERE stream = {stream}"))?;
            }
        } else {
            copy.run("")?;
        }
        tables.push((table, copy.rows, !copy.is_whole));
        if table == "user" {
            // Streams whose own rows are lost, and those who own them aren't.
            new.execute_batch(
                "INSERT OR IGNORE INTO stream (id, kind) SELECT stream, 0 FROM room;
                 INSERT OR IGNORE INTO stream (id, kind) SELECT stream, 1 FROM conversation;
                 INSERT OR IGNORE INTO stream (id, kind) SELECT mailbox, 2 FROM user;",
            )?;
        }
    }
    Ok(tables)
}

struct Copy<'a> {
    old: &'a Connection,
    new: &'a Connection,
    table: &'static str,
    key: &'static str,
    rows: u64,
    is_whole: bool,
}

impl Copy<'_> {
    fn run(&mut self, filter: &str) -> anyhow::Result<()> {
        if self.read(filter, "ASC")? {
            return Ok(());
        }
        self.is_whole = false;
        // From the other end, until the damage or what is there already.
        self.read(filter, "DESC")?;
        Ok(())
    }

    /// Copies rows until the first that can't be read, or that was copied before; whether all were read. What fails of
    /// the new file fails altogether.
    fn read(&mut self, filter: &str, order: &str) -> anyhow::Result<bool> {
        let by = self.key.split(", ").map(|column| format!("{column} {order}")).collect::<Vec<_>>().join(", ");
        let sql = format!("SELECT * FROM {} {filter} ORDER BY {by}", self.table);
        // The table may not be there: of an earlier version, or lost.
        let Ok(mut select) = self.old.prepare(&sql) else { return Ok(false) };
        let columns: Vec<String> = select.column_names().map(str::to_owned).collect();
        let places = vec!["?"; columns.len()].join(", ");
        let insert = format!("INSERT OR IGNORE INTO {} ({}) VALUES ({places})", self.table, columns.join(", "));
        let mut insert = self.new.prepare(&insert).context("the damaged file has columns that nobody knows")?;
        let Ok(mut rows) = select.query([]) else { return Ok(false) };
        self.new.execute_batch("BEGIN")?;
        let mut is_whole = true;
        loop {
            let row = match rows.next() {
                Ok(Some(row)) => row,
                Ok(None) => break,
                Err(_) => {
                    is_whole = false;
                    break;
                }
            };
            let Ok(values) = (0..columns.len()).map(|at| row.get::<_, Value>(at)).collect::<Result<Vec<_>, _>>() else {
                is_whole = false;
                continue;
            };
            match insert.execute(params_from_iter(values)) {
                Ok(0) if order == "DESC" => break,
                Ok(added) => self.rows += added as u64,
                // Garbage that the table doesn't take.
                Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => {
                    is_whole = false;
                }
                Err(error) => return Err(error).context("can't write what was saved; is the disk full?"),
            }
            if self.rows.is_multiple_of(CHUNK) {
                self.new.execute_batch("COMMIT; BEGIN")?;
            }
        }
        self.new.execute_batch("COMMIT")?;
        Ok(is_whole)
    }
}
