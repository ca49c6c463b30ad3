//! Messages as they are read from the database, the same for the pages of the sequencer and for the history.

use std::borrow::Cow;

use rusqlite::Row;
use rusqlite::types::ValueRef;
use serde_json::value::RawValue;
use stillhere_core::wire::push;

use super::base::Kept;

/// What a deleted user's messages stand under; nobody can be called so.
pub(crate) const DELETED_NAME: &str = "deleted";

/// The columns that [`message`] reads, of a message `m` and its sender `s`.
macro_rules! columns {
    () => {
        "m.seq, s.name, m.time_ms, m.mid, m.text, m.data, m.deleted"
    };
}
pub(super) use columns;

/// Reads a message from the columns `at` and following; `room` or `to` are the caller's to know.
pub(super) fn message<'a>(row: &'a Row<'_>, at: usize) -> Kept<push::Message<'a>> {
    let text = |index: usize| -> Kept<Option<&'a str>> {
        match row.get_ref(index)? {
            ValueRef::Null => Ok(None),
            // The columns are TEXT of STRICT tables, written from strings.
            value => Ok(Some(value.as_str().map_err(rusqlite::Error::from)?)),
        }
    };
    Ok(push::Message {
        op: Cow::Borrowed(""),
        room: None,
        to: None,
        seq: row.get::<_, i64>(at)? as u64,
        from: Cow::Borrowed(text(at + 1)?.unwrap_or(DELETED_NAME)),
        time_ms: row.get::<_, i64>(at + 2)? as u64,
        mid: text(at + 3)?.map(Cow::Borrowed),
        text: Cow::Borrowed(text(at + 4)?.unwrap_or_default()),
        // It was checked when it came.
        data: text(at + 5)?.and_then(|data| serde_json::from_str::<&RawValue>(data).ok()),
        deleted: row.get(at + 6)?,
    })
}
