//! The embedded database.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use rusqlite::{Connection, Row, params};
use stillhere_core::event::Keepsake;
use stillhere_core::secret::{SecretHash, SessionId};

/// The version of the schema that this program writes.
const SCHEMA_VERSION: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE session (
        id BLOB PRIMARY KEY,
        secret BLOB NOT NULL,
        previous BLOB,
        generation INTEGER NOT NULL,
        user TEXT,
        client TEXT,
        interval_ms INTEGER NOT NULL,
        closed INTEGER NOT NULL,
        changed_ms INTEGER NOT NULL
    ) WITHOUT ROWID, STRICT;
    PRAGMA user_version = 1;
";

pub(super) struct Database {
    connection: Connection,
}

impl Database {
    pub(super) fn open(path: &Path) -> anyhow::Result<Database> {
        let shown = path.display();
        // Created by us first, so that nobody else can ever read it.
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .with_context(|| format!("can't open {shown}; is the data dir writable?"))?;
        let connection = Connection::open(path).with_context(|| format!("can't open {shown}"))?;
        let database = Database { connection };
        database.prepare().with_context(|| {
            format!("{shown} can't be used; move it aside (mv {shown} {shown}.broken) and start again: clients then get new sessions")
        })?;
        Ok(database)
    }

    fn prepare(&self) -> anyhow::Result<()> {
        let connection = &self.connection;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let check: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if check != "ok" {
            bail!("the database is damaged: {check}");
        }
        match connection.pragma_query_value(None, "user_version", |row| row.get(0))? {
            0 => connection.execute_batch(SCHEMA)?,
            SCHEMA_VERSION => {}
            version => bail!("it was written by a newer stillhere (schema {version}, known is {SCHEMA_VERSION})"),
        }
        Ok(())
    }

    /// Everything that changed since `oldest_ms`; what is older is deleted.
    pub(super) fn load(&mut self, oldest_ms: u64) -> anyhow::Result<Vec<Keepsake>> {
        self.connection.execute("DELETE FROM session WHERE changed_ms < ?1", params![oldest_ms as i64])?;
        let mut select = self.connection.prepare(
            "SELECT id, secret, previous, generation, user, client, interval_ms, closed FROM session ORDER BY changed_ms",
        )?;
        let rows = select.query_map([], read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(super) fn write(&mut self, changes: &HashMap<SessionId, Option<Keepsake>>, now_ms: u64) -> anyhow::Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let mut keep = transaction.prepare_cached(
                "INSERT OR REPLACE INTO session
                 (id, secret, previous, generation, user, client, interval_ms, closed, changed_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?;
            let mut forget = transaction.prepare_cached("DELETE FROM session WHERE id = ?1")?;
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
                    ])?,
                    None => forget.execute(params![&id.0[..]])?,
                };
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<Keepsake> {
    Ok(Keepsake {
        session: SessionId(row.get(0)?),
        secret: SecretHash(row.get(1)?),
        previous: row.get::<_, Option<[u8; 32]>>(2)?.map(SecretHash),
        generation: row.get(3)?,
        user: row.get::<_, Option<String>>(4)?.map(Into::into),
        client: row.get::<_, Option<String>>(5)?.map(Into::into),
        interval: Duration::from_millis(row.get::<_, i64>(6)?.unsigned_abs()),
        closed: row.get(7)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use stillhere_core::secret::Entropy;

    fn keepsake(entropy: &mut Entropy, closed: bool) -> Keepsake {
        Keepsake {
            session: entropy.session_id(),
            secret: entropy.secret().hash(),
            previous: closed.then(|| entropy.secret().hash()),
            generation: 7,
            user: Some("änn'; --".into()),
            client: None,
            interval: Duration::from_secs(10),
            closed,
        }
    }

    #[test]
    fn what_was_written_is_there_after_opening_again_and_what_was_forgotten_is_not() {
        let dir = std::env::temp_dir().join(format!("stillhere-store-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("kept.db");
        let mut entropy = Entropy::from_seed([3; 32]);
        let (one, two, three) =
            (keepsake(&mut entropy, true), keepsake(&mut entropy, false), keepsake(&mut entropy, false));
        {
            let mut database = Database::open(&path).unwrap();
            let write = |database: &mut Database, id: SessionId, kept: Option<&Keepsake>, at| {
                database.write(&HashMap::from([(id, kept.cloned())]), at).unwrap();
            };
            write(&mut database, one.session, Some(&one), 100);
            write(&mut database, two.session, Some(&two), 200);
            write(&mut database, three.session, Some(&three), 300);
            write(&mut database, three.session, None, 400);
        }
        let survivors = Database::open(&path).unwrap().load(150).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        let [survivor] = &survivors[..] else { panic!("{survivors:?}") };
        assert_eq!(survivor.session, two.session);
        assert!(survivor.secret.matches(&two.secret));
        assert_eq!((survivor.user.as_deref(), survivor.closed), (Some("änn'; --"), false));
    }

    #[test]
    fn a_damaged_file_is_refused_with_what_to_do() {
        let dir = std::env::temp_dir().join(format!("stillhere-damaged-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("bad.db");
        std::fs::write(&path, vec![0x5a; 8192]).unwrap();
        let error = Database::open(&path).err().map(|error| format!("{error:#}")).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(error.contains("mv ") && error.contains("start again"), "{error}");
    }
}
