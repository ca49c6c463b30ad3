//! The sequencer's rows in SQLite.

use std::borrow::Cow;

use rusqlite::{CachedStatement, OptionalExtension, Params, Row, params};
use stillhere_core::ledger::{Draft, Role, RoomState, StreamId};
use stillhere_core::name::Name;

use super::base::{Each, Ends, Kept, Kind, Letters, Member, RecentRow, RoomRow, Rows, Talk, Trim, User};
use super::messages::{columns, message};
use super::people;
use super::sqlite::Database;

/// A stream as SQLite numbers it: from 1.
pub(super) fn stream_of(id: i64) -> StreamId {
    StreamId(id.unsigned_abs())
}

pub(super) fn number(stream: StreamId) -> i64 {
    stream.0 as i64
}

fn room_row(row: &Row<'_>) -> rusqlite::Result<RoomRow> {
    let state = RoomState { topic: row.get::<_, String>(2)?.into(), public: row.get(3)?, radius: row.get(4)? };
    Ok(RoomRow { stream: stream_of(row.get(0)?), name: Name::of_store(row.get_ref(1)?.as_str()?), state })
}

fn member_row(row: &Row<'_>, at: usize) -> rusqlite::Result<Member> {
    let role = Role::ALL.get(usize::from(row.get::<_, u8>(at)?)).copied().unwrap_or(Role::Guest);
    let moment = |index: usize| row.get::<_, i64>(index).map(|ms| ms as u64);
    Ok(Member { role, muted_until_ms: moment(at + 1)?, removed_until_ms: moment(at + 2)? })
}

pub(super) fn kind_of(number: i64) -> Kind {
    match number {
        0 => Kind::Room,
        1 => Kind::Conversation,
        _ => Kind::Mailbox,
    }
}

impl Database {
    fn statement(&self, sql: &str) -> rusqlite::Result<CachedStatement<'_>> {
        self.connection().prepare_cached(sql)
    }

    fn run(&self, sql: &str, params: impl Params) -> Kept<()> {
        self.statement(sql)?.execute(params)?;
        Ok(())
    }

    fn count(&self, sql: &str, params: impl Params) -> Kept<u64> {
        Ok(self.statement(sql)?.query_row(params, |row| row.get::<_, i64>(0))?.unsigned_abs())
    }

    fn add_stream(&self, kind: i64) -> Kept<StreamId> {
        self.run("INSERT INTO stream (kind) VALUES (?1)", [kind])?;
        Ok(stream_of(self.connection().last_insert_rowid()))
    }
}

impl Rows for Database {
    fn user(&mut self, name: &Name) -> Kept<Option<User>> {
        Ok(self
            .statement("SELECT id, kind, disabled, mailbox FROM user WHERE name = ?1")?
            .query_row([name.as_str()], |row| {
                Ok(User {
                    id: row.get(0)?,
                    account: row.get(1)?,
                    disabled: row.get(2)?,
                    mailbox: stream_of(row.get(3)?),
                })
            })
            .optional()?)
    }

    fn add_claim(&mut self, name: &Name, now_ms: u64) -> Kept<Option<User>> {
        if !people::name_is_free(self.connection(), name, now_ms)? {
            return Ok(None);
        }
        people::add_row(self.connection(), name, false, now_ms)?;
        self.user(name)
    }

    fn banned(&mut self, user: &str, address: &str, now_ms: u64) -> Kept<Option<Option<u64>>> {
        people::banned(self.connection(), Some(user), Some(address), now_ms)
    }

    fn kind(&mut self, stream: StreamId) -> Kept<Option<Kind>> {
        let kind = self
            .statement("SELECT kind FROM stream WHERE id = ?1")?
            .query_row([number(stream)], |row| row.get(0))
            .optional()?;
        Ok(kind.map(kind_of))
    }

    fn ends(&mut self, stream: StreamId) -> Kept<Ends> {
        let (trimmed, head) = self
            .statement("SELECT trimmed, (SELECT max(seq) FROM message WHERE stream = ?1) FROM stream WHERE id = ?1")?
            .query_row([number(stream)], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?)))?;
        Ok(Ends { head: head.unwrap_or(0).max(trimmed) as u64, trimmed: trimmed as u64 })
    }

    fn letters(&mut self, mailbox: StreamId) -> Kept<Letters> {
        let (trimmed, handled, head) = self
            .statement(
                "SELECT trimmed, handled, (SELECT max(position) FROM mail WHERE stream = ?1) FROM stream WHERE id = ?1",
            )?
            .query_row([number(mailbox)], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, Option<i64>>(2)?))
            })?;
        let (trimmed, handled) = (trimmed as u64, handled as u64);
        let head = head.map_or(trimmed, |head| trimmed.max(head as u64));
        let waiting = self.incoming(mailbox, handled, head)?;
        Ok(Letters { ends: Ends { head, trimmed }, handled, waiting })
    }

    fn incoming(&mut self, mailbox: StreamId, after: u64, upto: u64) -> Kept<u64> {
        self.count(
            "SELECT count(*) FROM mail WHERE stream = ?1 AND position > ?2 AND position <= ?3 AND incoming",
            params![number(mailbox), after as i64, upto as i64],
        )
    }

    fn set_handled(&mut self, mailbox: StreamId, position: u64) -> Kept<()> {
        self.run(
            "UPDATE stream SET handled = max(handled, ?2) WHERE id = ?1",
            params![number(mailbox), position as i64],
        )
    }

    fn rooms(&mut self) -> Kept<u64> {
        self.count("SELECT count(*) FROM room", [])
    }

    fn room(&mut self, name: &Name) -> Kept<Option<RoomRow>> {
        Ok(self
            .statement("SELECT stream, name, topic, public, radius FROM room WHERE name = ?1")?
            .query_row([name.as_str()], room_row)
            .optional()?)
    }

    fn room_of(&mut self, stream: StreamId) -> Kept<Option<RoomRow>> {
        Ok(self
            .statement("SELECT stream, name, topic, public, radius FROM room WHERE stream = ?1")?
            .query_row([number(stream)], room_row)
            .optional()?)
    }

    fn add_room(&mut self, name: &Name, now_ms: u64) -> Kept<RoomRow> {
        let stream = self.add_stream(0)?;
        self.run(
            "INSERT INTO room (stream, name, topic, public, created_ms) VALUES (?1, ?2, '', 1, ?3)",
            params![number(stream), name.as_str(), now_ms as i64],
        )?;
        Ok(RoomRow { stream, name: name.clone(), state: RoomState { topic: "".into(), public: true, radius: None } })
    }

    fn set_room(&mut self, stream: StreamId, state: &RoomState) -> Kept<()> {
        self.run(
            "UPDATE room SET topic = ?2, public = ?3, radius = ?4 WHERE stream = ?1",
            params![number(stream), &*state.topic, state.public, state.radius],
        )
    }

    fn member(&mut self, stream: StreamId, user: i64) -> Kept<Member> {
        Ok(self
            .statement("SELECT role, muted_until_ms, removed_until_ms FROM member WHERE stream = ?1 AND user = ?2")?
            .query_row(params![number(stream), user], |row| member_row(row, 0))
            .optional()?
            .unwrap_or(Member::NONE))
    }

    fn barred(&mut self, stream: StreamId, now_ms: u64) -> Kept<Vec<(i64, Member)>> {
        let mut select = self.statement(
            "SELECT user, role, muted_until_ms, removed_until_ms FROM member
             WHERE stream = ?1 AND (muted_until_ms > ?2 OR removed_until_ms > ?2)",
        )?;
        let rows =
            select.query_map(params![number(stream), now_ms as i64], |row| Ok((row.get(0)?, member_row(row, 1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn set_member(&mut self, stream: StreamId, user: i64, member: Member) -> Kept<()> {
        if member == Member::NONE {
            return self.run("DELETE FROM member WHERE stream = ?1 AND user = ?2", params![number(stream), user]);
        }
        self.run(
            "INSERT OR REPLACE INTO member (stream, user, role, muted_until_ms, removed_until_ms)
             VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                number(stream),
                user,
                member.role as i64,
                member.muted_until_ms as i64,
                member.removed_until_ms as i64
            ],
        )
    }

    fn owners(&mut self, stream: StreamId) -> Kept<u64> {
        self.count("SELECT count(*) FROM member WHERE stream = ?1 AND role = 3", [number(stream)])
    }

    fn owned(&mut self, user: i64) -> Kept<u64> {
        self.count("SELECT count(*) FROM member WHERE user = ?1 AND role = 3", [user])
    }

    fn members(&mut self, stream: StreamId) -> Kept<u64> {
        self.count("SELECT count(*) FROM member WHERE stream = ?1", [number(stream)])
    }

    fn talk(&mut self, low: i64, high: i64) -> Kept<Option<Talk>> {
        Ok(self
            .statement("SELECT stream, wrote FROM conversation WHERE low = ?1 AND high = ?2")?
            .query_row([low, high], |row| Ok(Talk { stream: stream_of(row.get(0)?), wrote: row.get(1)? }))
            .optional()?)
    }

    fn add_talk(&mut self, low: i64, high: i64) -> Kept<Talk> {
        let stream = self.add_stream(1)?;
        self.run("INSERT INTO conversation (stream, low, high) VALUES (?1, ?2, ?3)", [number(stream), low, high])?;
        Ok(Talk { stream, wrote: 0 })
    }

    fn set_wrote(&mut self, stream: StreamId, wrote: u8) -> Kept<()> {
        self.run("UPDATE conversation SET wrote = ?2 WHERE stream = ?1", params![number(stream), wrote])
    }

    fn share_room(&mut self, one: i64, other: i64) -> Kept<bool> {
        let shared = self.count(
            "SELECT EXISTS (SELECT 1 FROM member a JOIN member b ON b.stream = a.stream AND b.user = ?2
             WHERE a.user = ?1 AND a.role >= 1 AND b.role >= 1)",
            [one, other],
        )?;
        Ok(shared > 0)
    }

    fn relation(&mut self, user: i64, other: i64) -> Kept<Option<bool>> {
        Ok(self
            .statement("SELECT kind FROM relation WHERE user = ?1 AND other = ?2")?
            .query_row([user, other], |row| row.get(0))
            .optional()?)
    }

    fn set_relation(&mut self, user: i64, other: i64, allowed: Option<bool>) -> Kept<()> {
        match allowed {
            Some(allowed) => self.run(
                "INSERT OR REPLACE INTO relation (user, other, kind) VALUES (?1, ?2, ?3)",
                params![user, other, allowed],
            ),
            None => self.run("DELETE FROM relation WHERE user = ?1 AND other = ?2", [user, other]),
        }
    }

    fn relations(&mut self, user: i64) -> Kept<u64> {
        self.count("SELECT count(*) FROM relation WHERE user = ?1", [user])
    }

    fn post(&mut self, stream: StreamId, seq: u64, sender: i64, time_ms: u64, draft: &Draft) -> Kept<()> {
        self.run(
            "INSERT INTO message (stream, seq, sender, time_ms, mid, text, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                number(stream),
                seq as i64,
                sender,
                time_ms as i64,
                draft.mid.as_deref(),
                &*draft.text,
                draft.data.as_deref()
            ],
        )
    }

    fn mail(&mut self, mailbox: StreamId, position: u64, talk: StreamId, seq: u64, incoming: bool) -> Kept<()> {
        self.run(
            "INSERT INTO mail (stream, position, conversation, seq, incoming) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![number(mailbox), position as i64, number(talk), seq as i64, incoming],
        )
    }

    fn sender(&mut self, stream: StreamId, seq: u64) -> Kept<Option<i64>> {
        let Ok(seq) = i64::try_from(seq) else { return Ok(None) };
        Ok(self
            .statement("SELECT sender FROM message WHERE stream = ?1 AND seq = ?2 AND NOT deleted")?
            .query_row([number(stream), seq], |row| row.get(0))
            .optional()?)
    }

    fn erase(&mut self, stream: StreamId, seq: u64) -> Kept<()> {
        // With zeros over the old cells and pages, which otherwise stay in the file until they are used again.
        self.connection().pragma_update(None, "secure_delete", "ON")?;
        let erased = self.run(
            "UPDATE message SET text = '', data = NULL, deleted = 1 WHERE stream = ?1 AND seq = ?2",
            [number(stream), seq as i64],
        );
        self.connection().pragma_update(None, "secure_delete", "FAST")?;
        erased?;
        self.run("INSERT OR IGNORE INTO unindex (stream, seq) VALUES (?1, ?2)", [number(stream), seq as i64])
    }

    fn recent(&mut self, stream: StreamId, since_ms: u64, max: u32) -> Kept<Vec<RecentRow>> {
        // The newest come first, and the row that is too old ends it: no index by time is needed.
        let mut select = self.statement(
            "SELECT seq, sender, time_ms, mid, text, data FROM message WHERE stream = ?1 ORDER BY seq DESC LIMIT ?2",
        )?;
        let mut rows = select.query(params![number(stream), max])?;
        let mut recent = Vec::new();
        while let Some(row) = rows.next()? {
            let time_ms = row.get::<_, i64>(2)? as u64;
            if time_ms < since_ms {
                break;
            }
            if let Some(mid) = row.get(3)? {
                let seq = row.get::<_, i64>(0)? as u64;
                let (sender, text, data) = (row.get(1)?, row.get(4)?, row.get(5)?);
                recent.push(RecentRow { seq, sender, time_ms, mid, text, data });
            }
        }
        recent.reverse();
        Ok(recent)
    }

    fn room_page(&mut self, stream: StreamId, room: &Name, after: u64, max: u32, each: Each<'_>) -> Kept<()> {
        let mut select = self.statement(concat!(
            "SELECT ",
            columns!(),
            " FROM message m LEFT JOIN user s ON s.id = m.sender
             WHERE m.stream = ?1 AND m.seq > ?2 ORDER BY m.seq LIMIT ?3"
        ))?;
        let mut rows = select.query(params![number(stream), i64::try_from(after).unwrap_or(i64::MAX), max])?;
        while let Some(row) = rows.next()? {
            let mut message = message(row, 0)?;
            message.op = Cow::Borrowed("message");
            message.room = Some(Cow::Borrowed(room.as_str()));
            if !each(message.seq, &message) {
                break;
            }
        }
        Ok(())
    }

    fn mailbox_page(&mut self, stream: StreamId, after: u64, max: u32, each: Each<'_>) -> Kept<()> {
        let mut select = self.statement(concat!(
            "SELECT ",
            columns!(),
            ", l.position, o.name FROM mail l
             JOIN message m ON m.stream = l.conversation AND m.seq = l.seq
             JOIN conversation c ON c.stream = l.conversation
             LEFT JOIN user s ON s.id = m.sender
             LEFT JOIN user o ON o.id = CASE m.sender WHEN c.low THEN c.high ELSE c.low END
             WHERE l.stream = ?1 AND l.position > ?2 ORDER BY l.position LIMIT ?3"
        ))?;
        let mut rows = select.query(params![number(stream), i64::try_from(after).unwrap_or(i64::MAX), max])?;
        while let Some(row) = rows.next()? {
            let position = row.get::<_, i64>(7)? as u64;
            let to: Option<String> = row.get(8)?;
            let mut message = message(row, 0)?;
            message.op = Cow::Borrowed("message");
            message.to = Some(Cow::Owned(to.unwrap_or_else(|| super::messages::DELETED_NAME.to_owned())));
            if !each(position, &message) {
                break;
            }
        }
        Ok(())
    }

    fn mark_read(&mut self, stream: StreamId, user: i64, seq: u64) -> Kept<()> {
        self.run(
            "INSERT INTO read_mark (stream, user, seq) VALUES (?1, ?2, ?3)
             ON CONFLICT (stream, user) DO UPDATE SET seq = max(seq, excluded.seq)",
            params![number(stream), user, seq as i64],
        )
    }

    fn streams_after(&mut self, stream: StreamId, max: u32) -> Kept<Vec<(StreamId, Kind)>> {
        let mut select = self.statement("SELECT id, kind FROM stream WHERE id > ?1 ORDER BY id LIMIT ?2")?;
        let rows =
            select.query_map(params![number(stream), max], |row| Ok((stream_of(row.get(0)?), kind_of(row.get(1)?))))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn trim(&mut self, stream: StreamId, kind: Kind, trim: Trim) -> Kept<(u64, bool)> {
        let Trim { upto, before_ms, rows_max } = trim;
        // A mailbox's entry is as old as its message; one whose message is gone is older than all.
        let (select, delete) = match kind {
            Kind::Room | Kind::Conversation => (
                "SELECT seq, time_ms FROM message WHERE stream = ?1 ORDER BY seq LIMIT ?2",
                "DELETE FROM message WHERE stream = ?1 AND seq <= ?2",
            ),
            Kind::Mailbox => (
                "SELECT l.position, coalesce(m.time_ms, -1) FROM mail l
                 LEFT JOIN message m ON m.stream = l.conversation AND m.seq = l.seq
                 WHERE l.stream = ?1 ORDER BY l.position LIMIT ?2",
                "DELETE FROM mail WHERE stream = ?1 AND position <= ?2",
            ),
        };
        let (mut last, mut looked, mut stopped) = (None, 0, false);
        {
            let mut select = self.statement(select)?;
            let mut rows = select.query(params![number(stream), rows_max as i64])?;
            while let Some(row) = rows.next()? {
                let (position, time_ms) = (row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)?);
                if position > upto && time_ms >= before_ms as i64 {
                    stopped = true;
                    break;
                }
                looked += 1;
                last = Some(position);
            }
        }
        let Some(last) = last else { return Ok((0, false)) };
        self.run(delete, [number(stream), last as i64])?;
        self.run("UPDATE stream SET trimmed = max(trimmed, ?2) WHERE id = ?1", [number(stream), last as i64])?;
        Ok((last, !stopped && looked == rows_max))
    }
}
