//! The floor of durable messages: one thread that commits to SQLite whatever has gathered, and nothing else.
//!
//! It runs inside the benchmark, on the server's core, with a table like the gateway's. Producers are only numbers; what they
//! have to say, and that it is on disk, goes through a channel each way instead of a socket.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rusqlite::{Connection, params};

use super::load::Tally;
use super::wire;
use crate::bench::core;

/// The gateway's messages; a stream is a room.
const SCHEMA: &str = "CREATE TABLE message (
    stream INTEGER NOT NULL, seq INTEGER NOT NULL, sender INTEGER NOT NULL, time_ms INTEGER NOT NULL,
    mid TEXT, text TEXT NOT NULL, data TEXT, deleted INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (stream, seq)) WITHOUT ROWID, STRICT";
const INSERT: &str =
    "INSERT INTO message (stream, seq, sender, time_ms, mid, text, data) VALUES (?1, ?2, ?1, ?3, ?4, ?5, NULL)";
/// A commit that takes longer than this means a broken disk.
const COMMIT_WAIT: Duration = Duration::from_secs(10);
const LATE: Duration = Duration::from_millis(1);

/// One message on its way to the disk.
struct Say {
    producer: usize,
    number: u32,
    since: Instant,
}

/// The writer and the channels to and from it.
pub(super) struct Raw {
    /// Its end is what ends the writer.
    says: Option<Sender<Say>>,
    done: Receiver<Vec<Say>>,
    writer: Option<JoinHandle<Result<()>>>,
    /// The number of each producer's next message.
    numbers: Vec<u32>,
}

impl Raw {
    /// Makes a new database in `folder` and starts the writer.
    pub(super) fn start(folder: &Path, producers: usize) -> Result<Self> {
        let connection = open(&folder.join("raw.db"))?;
        let (says, inbox) = channel();
        let (outbox, done) = channel();
        let writer = thread::Builder::new().name("raw writer".to_owned()).spawn(move || {
            core::pin_to_server_core()?;
            write(connection, &inbox, &outbox)
        })?;
        Ok(Self { says: Some(says), done, writer: Some(writer), numbers: vec![0; producers] })
    }

    fn say(&mut self, producer: usize, since: Instant) -> Result<()> {
        let number = self.numbers[producer];
        self.numbers[producer] += 1;
        let says = self.says.as_ref().context("the writer was ended")?;
        says.send(Say { producer, number, since }).map_err(|_| anyhow!("the writer ended early"))
    }

    /// Every producer keeps one message under way for `span`.
    pub(super) fn closed(&mut self, span: Duration) -> Result<Tally> {
        let mut tally = Tally::new()?;
        let start = Instant::now();
        let producers = self.numbers.len();
        for producer in 0..producers {
            self.say(producer, Instant::now())?;
        }
        tally.published = producers as u64;
        let mut open = producers;
        while open > 0 {
            let done = self.done.recv_timeout(COMMIT_WAIT).context("the raw loop stands still")?;
            let now = Instant::now();
            for say in done {
                tally.acknowledge(now - say.since);
                open -= 1;
                if now - start < span {
                    self.say(say.producer, Instant::now())?;
                    tally.published += 1;
                    open += 1;
                }
            }
        }
        tally.took = start.elapsed();
        Ok(tally)
    }

    /// `count` messages at `per_second`, each of the next producer; latencies count from when each was due.
    pub(super) fn paced(&mut self, per_second: f64, count: u64) -> Result<Tally> {
        let mut tally = Tally::new()?;
        let producers = self.numbers.len() as u64;
        let mut acknowledged = 0;
        let start = Instant::now();
        while acknowledged < count {
            let due = Duration::from_secs_f64(tally.published as f64 / per_second);
            let now = start.elapsed();
            if tally.published < count && due <= now {
                tally.late += u64::from(now - due > LATE);
                self.say((tally.published % producers) as usize, start + due)?;
                tally.published += 1;
            }
            ensure!(due + COMMIT_WAIT > now, "{acknowledged} of {count} messages were committed");
            match self.done.try_recv() {
                Ok(done) => {
                    let now = Instant::now();
                    for say in &done {
                        tally.acknowledge(now.saturating_duration_since(say.since));
                    }
                    acknowledged += done.len() as u64;
                }
                Err(TryRecvError::Empty) => std::hint::spin_loop(),
                Err(TryRecvError::Disconnected) => return Err(anyhow!("the writer ended early")),
            }
        }
        tally.took = start.elapsed();
        Ok(tally)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.says = None;
        if let Some(writer) = self.writer.take()
            && let Ok(Err(error)) = writer.join()
        {
            eprintln!("bench: the raw loop: {error:#}");
        }
    }
}

fn open(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path).with_context(|| format!("cannot make {}", path.display()))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(SCHEMA)?;
    Ok(connection)
}

/// Takes what there is, commits it and says so, until nobody speaks any more.
fn write(mut connection: Connection, inbox: &Receiver<Say>, outbox: &Sender<Vec<Say>>) -> Result<()> {
    while let Ok(first) = inbox.recv() {
        let mut batch = vec![first];
        batch.extend(inbox.try_iter());
        let time_ms = jiff::Timestamp::now().as_millisecond();
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached(INSERT)?;
            for say in &batch {
                let (mid, text) = (wire::mid(say.number), wire::text(say.number));
                insert.execute(params![say.producer as i64, i64::from(say.number) + 1, time_ms, mid, text])?;
            }
        }
        transaction.commit()?;
        if outbox.send(batch).is_err() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::daemon::Folder;

    #[test]
    fn every_message_is_acknowledged_and_on_disk() {
        let folder = Folder::new().unwrap();
        let mut raw = Raw::start(folder.path(), 3).unwrap();
        let closed = raw.closed(Duration::ZERO).unwrap();
        let paced = raw.paced(1e6, 10).unwrap();
        drop(raw);
        let acknowledged = closed.acknowledgement.len() + paced.acknowledgement.len();
        assert_eq!((closed.published, paced.published, acknowledged), (3, 10, 13));
        let connection = Connection::open(folder.path().join("raw.db")).unwrap();
        let count: i64 = connection.query_row("SELECT count(*) FROM message", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 13);
    }
}
