//! What operators and the accounts find when they visit the store's thread (`LedgerWriter::ask`).

use rusqlite::{Connection, params};
use stillhere_core::close::CloseCode;
use stillhere_core::ledger::{News, Role, StreamId};
use stillhere_core::name::Name;

use super::base::{Base, Fault, FaultKind, Kept, Member};
use super::ledger::{Ledger, Stop};
use super::people::{self, Ban, LIST_MAX};
use super::rows::{number, stream_of};

/// Messages by whose length a room's size is estimated.
const SAMPLE: u32 = 256;

/// What is to happen after the commit; told whether there was one.
type Then = Box<dyn FnOnce(bool) + Send>;

/// A room as operators see it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RoomInfo {
    pub(crate) stream: StreamId,
    pub(crate) name: Name,
    pub(crate) topic: String,
    pub(crate) public: bool,
    /// One of them, if there are several.
    pub(crate) owner: Option<Name>,
    pub(crate) head: u64,
    /// How many messages are kept, tombstones included.
    pub(crate) messages: u64,
    /// What they take, in bytes: an estimate from the newest.
    pub(crate) bytes: u64,
}

/// One transaction's access to everything. If anything in it fails, nothing of the visit is kept.
pub(crate) struct Desk<'a> {
    base: &'a mut dyn Base,
    ledger: &'a mut Ledger,
    after: Vec<Then>,
    fault: Option<Fault>,
}

impl<'a> Desk<'a> {
    pub(super) fn new(base: &'a mut dyn Base, ledger: &'a mut Ledger) -> Desk<'a> {
        Desk { base, ledger, after: Vec::new(), fault: None }
    }

    /// The time, in milliseconds since 1970; never less than a message's.
    pub(crate) fn now_ms(&self) -> u64 {
        self.ledger.now_ms()
    }

    /// Has `then` run when the visit's transaction has ended: with whether it was committed. Who promises something to
    /// somebody does it there.
    pub(crate) fn then(&mut self, then: impl FnOnce(bool) + Send + 'static) {
        self.after.push(Box::new(then));
    }

    /// Runs functions of `people`. What they change of a user's being disabled or deleted goes through the methods below
    /// instead, which end its sessions.
    pub(crate) fn people<T>(&mut self, act: impl FnOnce(&Connection) -> Kept<T>) -> Kept<T> {
        let done = act(self.base.connection());
        self.note(done)
    }

    /// The same for what makes accounts of claims or adds users: the sequencer looks at users anew.
    pub(crate) fn change_people<T>(&mut self, act: impl FnOnce(&Connection) -> Kept<T>) -> Kept<T> {
        self.ledger.forget_people();
        self.people(act)
    }

    /// Disables a user, which ends its sessions and tokens, or enables it. Whether there is such a user.
    pub(crate) fn set_disabled(&mut self, user: &Name, disabled: bool) -> Kept<bool> {
        let done = self.change_people(|db| people::set_disabled(db, user, disabled))?;
        if done && disabled {
            self.end_sessions(user, CloseCode::Disabled);
        }
        Ok(done)
    }

    /// Deletes a user (see `people`), which ends its sessions. Whether there was one.
    pub(crate) fn delete_user(&mut self, user: &Name, purge: bool) -> Kept<bool> {
        let now_ms = self.now_ms();
        let done = self.change_people(|db| people::delete_user(db, user, purge, now_ms))?;
        if done {
            // Roles and mutes went with it.
            self.ledger.forget_rooms();
            self.end_sessions(user, CloseCode::Disabled);
        }
        Ok(done)
    }

    /// Bans; a user's sessions are ended. Those of an address are the gate's to end.
    pub(crate) fn ban(&mut self, ban: &Ban) -> Kept<()> {
        self.people(|db| people::add_ban(db, ban))?;
        if ban.kind == people::BanKind::User {
            self.end_sessions(&Name::of_store(ban.subject.as_str()), CloseCode::Banned);
        }
        Ok(())
    }

    /// Tells every shard, after the commit, that this user's sessions must end.
    pub(crate) fn end_sessions(&mut self, user: &Name, code: CloseCode) {
        self.ledger.tell_all(&News::Ended { user: user.clone(), code });
    }

    /// Rooms by name, those after `after`; at most [`LIST_MAX`].
    pub(crate) fn rooms(&mut self, after: Option<&Name>, limit: u32) -> Kept<Vec<RoomInfo>> {
        let listed = rooms(self.base.connection(), after, limit);
        self.note(listed)
    }

    /// Makes a room, with an owner if there is a user of that name. Whether there was none of the room's name, and room
    /// for one more.
    pub(crate) fn make_room(&mut self, name: &Name, owner: Option<&Name>) -> Kept<bool> {
        let rows = self.base.rows();
        let made = (|| {
            if rows.room(name)?.is_some() {
                return Ok(false);
            }
            let owner = match owner {
                Some(owner) => rows.user(owner)?.map(|user| user.id),
                None => None,
            };
            match self.ledger.make_room(rows, name, owner) {
                Ok(_) => Ok(true),
                Err(Stop::Refused(_)) => Ok(false),
                Err(Stop::Fault(fault)) => Err(fault),
            }
        })();
        self.note(made)
    }

    /// Says what a room is about and whether anyone may join. Whether there is one.
    pub(crate) fn describe_room(&mut self, name: &Name, topic: &str, public: bool) -> Kept<bool> {
        self.ledger.forget_rooms();
        self.people(|db| {
            let params = params![name.as_str(), topic, public];
            Ok(db.execute("UPDATE room SET topic = ?2, public = ?3 WHERE name = ?1", params)? > 0)
        })
    }

    /// Gives a user a role in a room, whatever the rights there say. Whether there are such a room and user.
    pub(crate) fn set_role(&mut self, room: &Name, user: &Name, role: Role) -> Kept<bool> {
        let rows = self.base.rows();
        let done = (|| {
            let (Some(room), Some(user)) = (rows.room(room)?, rows.user(user)?) else { return Ok(false) };
            let member = rows.member(room.stream, user.id)?;
            rows.set_member(room.stream, user.id, Member { role, ..member })?;
            Ok(true)
        })();
        self.note(done)
    }

    /// Deletes a room with its messages. Sessions in it stay there without effect: what they say is refused with 1402.
    /// Whether there was one.
    pub(crate) fn delete_room(&mut self, name: &Name) -> Kept<bool> {
        let Some(row) = self.base.rows().room(name).or_else(|fault| self.note(Err(fault)))? else { return Ok(false) };
        let deleted = delete_room(self.base.connection(), row.stream);
        self.ledger.forget_rooms();
        self.ledger.touch(row.stream);
        self.note(deleted)?;
        Ok(true)
    }

    pub(super) fn take_after(&mut self) -> Vec<Then> {
        std::mem::take(&mut self.after)
    }

    pub(super) fn into_fault(self) -> Option<Fault> {
        self.fault
    }

    fn note<T>(&mut self, done: Kept<T>) -> Kept<T> {
        if let Err(fault) = &done
            && self.fault.is_none()
        {
            self.fault = Some(fault.clone());
        }
        done
    }

    /// Has nothing of this visit kept, for a reason of the visitor's own.
    pub(crate) fn abandon(&mut self, reason: &str) {
        self.fault.get_or_insert_with(|| Fault::new(FaultKind::Wrong, reason));
    }
}

fn rooms(db: &Connection, after: Option<&Name>, limit: u32) -> Kept<Vec<RoomInfo>> {
    let mut select = db.prepare_cached(
        "SELECT r.stream, r.name, r.topic, r.public, t.trimmed,
           (SELECT max(seq) FROM message WHERE stream = r.stream),
           (SELECT u.name FROM member m JOIN user u ON u.id = m.user WHERE m.stream = r.stream AND m.role = 3 LIMIT 1),
           (SELECT avg(octet_length(text) + coalesce(octet_length(data), 0) + 32) FROM
             (SELECT text, data FROM message WHERE stream = r.stream ORDER BY seq DESC LIMIT ?3))
         FROM room r JOIN stream t ON t.id = r.stream WHERE r.name > ?1 ORDER BY r.name LIMIT ?2",
    )?;
    let rows = select.query_map(params![after.map_or("", Name::as_str), limit.min(LIST_MAX), SAMPLE], |row| {
        let trimmed = row.get::<_, i64>(4)?;
        let head = row.get::<_, Option<i64>>(5)?.unwrap_or(0).max(trimmed);
        let messages = (head - trimmed) as u64;
        let mean = row.get::<_, Option<f64>>(7)?.unwrap_or(0.0);
        Ok(RoomInfo {
            stream: stream_of(row.get(0)?),
            name: Name::of_store(row.get_ref(1)?.as_str()?),
            topic: row.get(2)?,
            public: row.get(3)?,
            owner: row.get::<_, Option<String>>(6)?.map(Name::of_store),
            head: head as u64,
            messages,
            bytes: (mean * messages as f64) as u64,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The stream's own row stays, as trimmed to its end, so that the index lets go of it.
fn delete_room(db: &Connection, stream: StreamId) -> Kept<()> {
    let id = number(stream);
    db.execute(
        "UPDATE stream SET trimmed = max(trimmed, coalesce((SELECT max(seq) FROM message WHERE stream = ?1), 0))
         WHERE id = ?1",
        [id],
    )?;
    for table in ["message", "member", "read_mark", "room"] {
        db.execute(&format!("DELETE FROM {table} WHERE stream = ?1"), [id])?;
    }
    Ok(())
}
