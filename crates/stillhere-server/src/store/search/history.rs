//! Old messages, for people: by seq, or by what they contain.

use rusqlite::{Connection, OptionalExtension, params};
use stillhere_core::ledger::{Outcome, Place, Refused, StreamId};
use stillhere_core::name::Name;
use stillhere_core::wire::error::ErrorCode;

use super::super::base::Kept;
use super::super::ledger::refuse;
use super::super::messages::{columns, message};
use super::super::rows::{number, stream_of};
use super::index::Index;

/// Messages in one answer when nobody says how many.
const LIMIT_DEFAULT: u32 = 50;
/// The most messages in one answer.
const LIMIT_MAX: u32 = 200;
/// Users whose read marks an answer has; those who have read the furthest.
const READERS_MAX: u32 = 100;
/// What the rest of a frame takes at most, in bytes: 100 names of 64 bytes with their seqs, and the reply around it.
const REST_BYTES: usize = 12 << 10;

/// An `Order::History`.
pub(super) struct Asked {
    pub(super) user: Name,
    pub(super) place: Place,
    pub(super) before: Option<u64>,
    pub(super) after: Option<u64>,
    pub(super) limit: u32,
    pub(super) query: Option<Box<str>>,
    pub(super) frame_bytes: usize,
}

/// Messages as they gather, each encoded.
struct Gathered {
    messages: Vec<String>,
    bytes: usize,
    bytes_max: usize,
}

impl Gathered {
    /// Takes one more, if it fits. The first always does: it came in a frame of its own.
    fn add(&mut self, message: String) -> bool {
        if !self.messages.is_empty() && self.bytes + message.len() + 1 > self.bytes_max {
            return false;
        }
        self.bytes += message.len() + 1;
        self.messages.push(message);
        true
    }
}

impl Asked {
    pub(super) fn answer(&self, main: &Connection, index: &mut Index) -> Kept<Result<Outcome, Refused>> {
        let stream = match self.stream(main)? {
            Ok(Some(stream)) => stream,
            // Two who haven't written to each other.
            Ok(None) => return Ok(Ok(outcome(&[], false, "{}".into()))),
            Err(refused) => return Ok(Err(refused)),
        };
        let limit = if self.limit == 0 { LIMIT_DEFAULT } else { self.limit.min(LIMIT_MAX) };
        let bytes_max = self.frame_bytes.saturating_sub(REST_BYTES);
        let mut gathered = Gathered { messages: Vec::new(), bytes: 0, bytes_max };
        // Forwards only for who says where to begin and not where to end.
        let forwards = self.after.is_some() && self.before.is_none();
        let more = match &self.query {
            None => self.range(main, stream, limit, forwards, &mut gathered)?,
            Some(query) => {
                index.prepare_search(main, stream)?;
                let range = (self.after.unwrap_or(0), self.before.unwrap_or(u64::MAX));
                let Some(found) = index.search(stream, query, range, limit + 1)? else {
                    let too_long = ErrorCode::BUSY.because("too many messages contain this; look for something rarer");
                    return Ok(Err(too_long.into()));
                };
                self.found(main, stream, &found, limit, &mut gathered)?
            }
        };
        if !forwards || self.query.is_some() {
            gathered.messages.reverse();
        }
        Ok(Ok(outcome(&gathered.messages, more, readers(main, stream)?)))
    }

    fn stream(&self, main: &Connection) -> Kept<Result<Option<StreamId>, Refused>> {
        match &self.place {
            Place::Room(name) => {
                let mut select = main.prepare_cached("SELECT stream FROM room WHERE name = ?1")?;
                let stream = select.query_row([name.as_str()], |row| Ok(stream_of(row.get(0)?))).optional()?;
                Ok(stream.map(Some).ok_or_else(|| refuse(ErrorCode::NO_SUCH_ROOM)))
            }
            Place::User(other) => {
                let mut select = main.prepare_cached(
                    "SELECT c.stream FROM user a JOIN user b ON b.name = ?2
                     JOIN conversation c ON c.low = min(a.id, b.id) AND c.high = max(a.id, b.id) WHERE a.name = ?1",
                )?;
                let stream = select
                    .query_row([self.user.as_str(), other.as_str()], |row| Ok(stream_of(row.get(0)?)))
                    .optional()?;
                Ok(Ok(stream))
            }
        }
    }

    fn range(
        &self,
        main: &Connection,
        stream: StreamId,
        limit: u32,
        forwards: bool,
        gathered: &mut Gathered,
    ) -> Kept<bool> {
        macro_rules! select {
            ($order:literal) => {
                concat!(
                    "SELECT ",
                    columns!(),
                    " FROM message m LEFT JOIN user s ON s.id = m.sender
                     WHERE m.stream = ?1 AND m.seq > ?2 AND m.seq < ?3 ORDER BY m.seq ",
                    $order,
                    " LIMIT ?4"
                )
            };
        }
        let mut select = main.prepare_cached(if forwards { select!("ASC") } else { select!("DESC") })?;
        let bound = |seq: Option<u64>, none: i64| seq.map_or(none, |seq| i64::try_from(seq).unwrap_or(i64::MAX));
        let mut rows =
            select.query(params![number(stream), bound(self.after, 0), bound(self.before, i64::MAX), limit + 1])?;
        while let Some(row) = rows.next()? {
            if gathered.messages.len() as u32 == limit || !gathered.add(encode(row)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn found(
        &self,
        main: &Connection,
        stream: StreamId,
        seqs: &[u64],
        limit: u32,
        gathered: &mut Gathered,
    ) -> Kept<bool> {
        let mut select = main.prepare_cached(concat!(
            "SELECT ",
            columns!(),
            " FROM message m LEFT JOIN user s ON s.id = m.sender WHERE m.stream = ?1 AND m.seq = ?2 AND NOT m.deleted"
        ))?;
        for seq in seqs {
            let mut rows = select.query([number(stream), *seq as i64])?;
            // One that isn't there was deleted or trimmed since it was indexed.
            let Some(row) = rows.next()? else { continue };
            if gathered.messages.len() as u32 == limit || !gathered.add(encode(row)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn encode(row: &rusqlite::Row<'_>) -> Kept<String> {
    // Writing our own plain struct into memory can't fail.
    Ok(serde_json::to_string(&message(row, 0)?).unwrap_or_default())
}

fn outcome(messages: &[String], more: bool, read: Box<str>) -> Outcome {
    Outcome::History { messages: format!("[{}]", messages.join(",")).into(), more, read }
}

/// How far who has read, as a JSON object.
fn readers(main: &Connection, stream: StreamId) -> Kept<Box<str>> {
    let mut select = main.prepare_cached(
        "SELECT u.name, r.seq FROM read_mark r JOIN user u ON u.id = r.user
         WHERE r.stream = ?1 AND u.name IS NOT NULL ORDER BY r.seq DESC, u.name LIMIT ?2",
    )?;
    let rows = select.query_map(params![number(stream), READERS_MAX], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?.into()))
    })?;
    let marks: serde_json::Map<String, serde_json::Value> = rows.collect::<Result<_, _>>()?;
    Ok(serde_json::Value::Object(marks).to_string().into())
}
