//! Rooms: joining, and saying something there.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;
use stillhere_core::ledger::{Draft, News, Outcome, Refused, Role, RoomState, StreamId};
use stillhere_core::name::Name;
use stillhere_core::wire::error::ErrorCode;
use stillhere_core::wire::message::write_message;
use stillhere_core::wire::push;

use super::super::base::{Ends, Kind, Member, Rows};
use super::{Decided, Ledger, refuse, refuse_until};

/// The copy of a room.
pub(super) struct Room {
    pub(super) stream: StreamId,
    pub(super) name: Name,
    pub(super) state: RoomState,
    pub(super) ends: Ends,
    /// Those who may not speak, or not be here. What has run out stays until the room is read again.
    pub(super) barred: HashMap<i64, Member>,
}

/// How the names begin that the server makes up for those who haven't logged in; nobody can register one.
const GUEST_PREFIX: &str = "guest-";

impl Room {
    /// Whether this user may speak now.
    pub(super) fn may_speak(&self, user: i64, now_ms: u64) -> Decided<()> {
        let Some(member) = self.barred.get(&user) else { return Ok(()) };
        if member.removed_until_ms > now_ms {
            return Err(refuse_until(ErrorCode::REMOVED, now_ms, member.removed_until_ms).into());
        }
        if member.muted_until_ms > now_ms {
            return Err(refuse_until(ErrorCode::MUTED, now_ms, member.muted_until_ms).into());
        }
        Ok(())
    }

    /// Whether someone of whom the room remembers this may come in now.
    pub(super) fn may_join(&self, member: Member, now_ms: u64) -> Decided<()> {
        if member.removed_until_ms > now_ms {
            return Err(refuse_until(ErrorCode::REMOVED, now_ms, member.removed_until_ms).into());
        }
        if !self.state.public && member.role < Role::Member {
            return Err(refuse(ErrorCode::INVITED_ONLY).into());
        }
        Ok(())
    }
}

impl Ledger {
    /// The room of a stream.
    pub(super) fn room(&mut self, rows: &mut dyn Rows, stream: StreamId) -> Decided<&mut Room> {
        if !self.rooms.has(&stream) {
            let row = rows.room_of(stream)?.ok_or_else(|| refuse(ErrorCode::NO_SUCH_ROOM))?;
            let ends = rows.ends(stream)?;
            let barred = rows.barred(stream, self.now_ms)?.into_iter().collect();
            self.remember_tail(rows, stream)?;
            self.room_names.insert(row.name.clone(), stream);
            self.rooms.put(stream, Room { stream, name: row.name, state: row.state, ends, barred }, self.turn);
        }
        self.rooms.get(&stream, self.turn).ok_or_else(|| refuse(ErrorCode::NO_SUCH_ROOM).into())
    }

    /// The room of a name.
    pub(super) fn room_by_name(&mut self, rows: &mut dyn Rows, name: &Name) -> Decided<&mut Room> {
        let stream = match self.room_names.get(name) {
            Some(stream) => *stream,
            None => rows.room(name)?.ok_or_else(|| refuse(ErrorCode::NO_SUCH_ROOM))?.stream,
        };
        self.room(rows, stream)
    }

    pub(super) fn join(&mut self, rows: &mut dyn Rows, shard: usize, name: &Name, user: &Name) -> Decided<Outcome> {
        let is_guest = user.as_str().starts_with(GUEST_PREFIX);
        let user = self.user(rows, user)?;
        let known = match self.room_names.get(name) {
            Some(stream) => Some(*stream),
            None => rows.room(name)?.map(|row| row.stream),
        };
        let stream = match known {
            Some(stream) => stream,
            None => {
                // Who hasn't logged in is gone tomorrow, and would leave a room without an owner.
                if !self.rules.rooms_by_users || is_guest {
                    return Err(refuse(ErrorCode::ROOMS_CLOSED).into());
                }
                if rows.owned(user.id)? >= self.rules.rooms_per_user {
                    let says = "you own as many rooms as a user may; make somebody else the owner of one of them first";
                    return Err(Refused::from(ErrorCode::TOO_MANY.because(says)).into());
                }
                self.make_room(rows, name, Some(user.id))?
            }
        };
        let now_ms = self.now_ms;
        let member = rows.member(stream, user.id)?;
        let room = self.room(rows, stream)?;
        room.may_join(member, now_ms)?;
        let (ends, state) = (room.ends, room.state.clone());
        self.subscribe(shard, stream);
        let muted = Duration::from_millis(member.muted_until_ms.saturating_sub(now_ms));
        Ok(Outcome::Joined { stream, head: ends.head, trimmed: ends.trimmed, role: member.role, muted, state })
    }

    /// Makes a room that isn't there.
    pub(in super::super) fn make_room(
        &mut self,
        rows: &mut dyn Rows,
        name: &Name,
        owner: Option<i64>,
    ) -> Decided<StreamId> {
        let count = match self.room_count {
            Some(count) => count,
            None => rows.rooms()?,
        };
        if count >= self.rules.rooms_max {
            return Err(refuse(ErrorCode::ROOMS_FULL).into());
        }
        let row = rows.add_room(name, self.now_ms)?;
        if let Some(owner) = owner {
            rows.set_member(row.stream, owner, Member { role: Role::Owner, ..Member::NONE })?;
        }
        self.room_count = Some(count + 1);
        Ok(row.stream)
    }

    pub(super) fn say(
        &mut self,
        rows: &mut dyn Rows,
        stream: StreamId,
        user: &Name,
        draft: &Draft,
    ) -> Decided<Outcome> {
        let sender = self.user(rows, user)?;
        let print = self.print(stream, sender.id, draft);
        let now_ms = self.now_ms;
        let room = self.room(rows, stream)?;
        room.may_speak(sender.id, now_ms)?;
        let (seq, trimmed) = (room.ends.head + 1, room.ends.trimmed);
        if let Some(earlier) = self.look(print)? {
            return Ok(earlier);
        }
        rows.post(stream, seq, sender.id, now_ms, draft)?;
        self.note(stream, seq, print);
        self.check_length(stream, Kind::Room, seq, trimmed);
        let is_heard = self.joined.contains_key(&stream);
        // Read above, so it is there.
        let Some(room) = self.rooms.get(&stream, self.turn) else {
            return Err(refuse(ErrorCode::NO_SUCH_ROOM).into());
        };
        room.ends.head = seq;
        if is_heard {
            self.scratch.clear();
            write_message(&mut self.scratch, &message(draft, Some(&room.name), None, seq, user, now_ms));
            let frame = Bytes::copy_from_slice(&self.scratch);
            self.spread(stream, News::Message { stream, position: seq, by: draft.by, frame });
        }
        Ok(Outcome::Posted { seq, time_ms: now_ms })
    }
}

/// What is pushed of a message.
pub(super) fn message<'a>(
    draft: &'a Draft,
    room: Option<&'a Name>,
    to: Option<&'a Name>,
    seq: u64,
    from: &'a Name,
    time_ms: u64,
) -> push::Message<'a> {
    push::Message {
        op: Cow::Borrowed("message"),
        room: room.map(|room| Cow::Borrowed(room.as_str())),
        to: to.map(|to| Cow::Borrowed(to.as_str())),
        seq,
        from: Cow::Borrowed(from.as_str()),
        text: Cow::Borrowed(&draft.text),
        // It was read as JSON when it came.
        data: draft.data.as_deref().and_then(|data| serde_json::from_str::<&RawValue>(data).ok()),
        mid: draft.mid.as_deref().map(Cow::Borrowed),
        time_ms,
        deleted: false,
    }
}
