//! What reaches a room or a mailbox: messages from the store, signals from members.

use serde_json::value::RawValue;

use crate::area::Point;
use crate::chat::{Membership, Reach};
use crate::close::Cause;
use crate::event::{Output, Outputs};
use crate::ledger::{News, StreamId};
use crate::limits::PREVIEW_BYTES;
use crate::name::Name;
use crate::secret::SessionId;
use crate::text::clip;
use crate::time::Time;
use crate::wire::frame::HEADER_BYTES;
use crate::wire::message::write_message;
use crate::wire::push::{Message, Signal};

use super::room::{Latest, Preview};
use super::{FarSignal, Shard, Word};
use crate::event::Identity;

impl Shard {
    /// The store tells what was committed or decided.
    pub(in crate::shard) fn news(&mut self, news: News, at: Time, out: &mut Outputs) {
        match news {
            News::Message { stream, position, by, frame } => match self.lobby.by_stream.get(&stream) {
                Some(room) => self.message_in_room(*room, position, by, &frame, at, out),
                None => self.message_in_mailbox(stream, position, by, &frame, out),
            },
            News::Notice { stream, frame } => {
                self.flush_stream(stream, at, out);
                let keys = self.keys_in(stream);
                self.push_at_once(&keys, &frame, out);
            }
            News::Room { stream, state } => {
                if let Some(room) = self.lobby.by_stream.get(&stream) {
                    self.room_changed(*room, state);
                }
            }
            News::Muted { stream, user, span } => {
                let room = self.lobby.by_stream.get(&stream).copied();
                if let Some(room) = room.and_then(|room| self.lobby.rooms.get_mut(room as usize)) {
                    room.mute(&user, span, at);
                }
            }
            News::Removed { stream, user, frame } => self.removed(stream, &user, &frame, at, out),
            News::Ended { user, code } => {
                for key in self.sessions_of(&user) {
                    self.end_session(key, code, Cause::Kicked, at, out);
                }
            }
        }
    }

    fn message_in_room(&mut self, index: u32, seq: u64, by: SessionId, frame: &[u8], at: Time, out: &mut Outputs) {
        let by = self.find(&Identity::V1(by));
        let Some(head) = self.room(index).map(|room| room.head) else { return };
        if seq <= head {
            return;
        }
        if seq > head + 1 {
            // A batch holds consecutive messages; whoever lacks one asks for a page.
            self.flush_room(index, at, out);
        }
        let Some(room) = self.lobby.rooms.get_mut(index as usize) else { return };
        room.head = seq;
        // Who sent it has it, if it has everything before.
        room.batch.add_message(seq, frame, by);
        if room.digesting > 0
            && let Some(preview) = preview(frame)
        {
            room.gist.add_message(preview);
            self.list_gist(index, at);
        }
        self.gathers(index, at);
    }

    fn message_in_mailbox(
        &mut self,
        stream: StreamId,
        position: u64,
        by: SessionId,
        frame: &bytes::Bytes,
        out: &mut Outputs,
    ) {
        let Some(user) = self.lobby.by_mailbox.get(&stream).cloned() else { return };
        let from = out.targets.len();
        for key in self.sessions_of(&user) {
            let Some(v1) = self.v1_mut(key) else { continue };
            let own = v1.id == by;
            let Some(chat) = v1.chat.as_deref_mut() else { continue };
            let reachable = matches!(chat.reach, Reach::Now | Reach::Digest);
            let mail = &mut chat.mail;
            let next = mail.delivered + 1 == position && !mail.fetching;
            mail.mailbox.head = mail.mailbox.head.max(position);
            if own && next {
                mail.delivered = position;
                let carried = v1.replay.as_deref_mut().is_some_and(|replay| replay.carry_mail(position));
                // With nothing left to carry it, the client has all before it, or the replay was too small for that.
                if !carried && v1.acked == v1.pushes {
                    self.mail_handled(key, position, out);
                }
            } else if next && reachable {
                mail.delivered = position;
                out.targets.extend(self.note_push(key, frame, 1, position));
            } else if reachable {
                self.chase_mail(key, out);
            }
        }
        self.fan(frame, from, out);
    }

    /// Pushes to each of these who has a link that takes it.
    pub(super) fn push_at_once(&mut self, keys: &[u32], frame: &bytes::Bytes, out: &mut Outputs) {
        let from = out.targets.len();
        for &key in keys {
            if self.chat(key).is_some_and(|chat| matches!(chat.reach, Reach::Now | Reach::Digest)) {
                out.targets.extend(self.note_push(key, frame, 1, 0));
            }
        }
        self.fan(frame, from, out);
    }

    /// What is told at once must not overtake the messages before it.
    fn flush_stream(&mut self, stream: StreamId, at: Time, out: &mut Outputs) {
        if let Some(index) = self.lobby.by_stream.get(&stream).copied() {
            self.flush_room(index, at, out);
        }
    }

    /// The sessions that a stream's news concern.
    fn keys_in(&self, stream: StreamId) -> Vec<u32> {
        let room = self.lobby.by_stream.get(&stream).and_then(|room| self.room(*room));
        match (room, self.lobby.by_mailbox.get(&stream)) {
            (Some(room), _) => room.members.iter().map(|member| member.key).collect(),
            (None, Some(user)) => self.sessions_of(user),
            (None, None) => Vec::new(),
        }
    }

    fn removed(&mut self, stream: StreamId, user: &Name, frame: &bytes::Bytes, at: Time, out: &mut Outputs) {
        self.flush_stream(stream, at, out);
        let (own, others): (Vec<u32>, Vec<u32>) =
            self.keys_in(stream).into_iter().partition(|key| self.chat(*key).is_some_and(|chat| chat.user == *user));
        self.push_at_once(&others, frame, out);
        for key in own {
            // Who is put out must know, be it when it comes back.
            self.push_to(key, frame, 1, 0, out);
        }
        let Some(index) = self.lobby.by_stream.get(&stream).copied() else { return };
        for key in self.sessions_of(user) {
            let membership = self.chat(key).and_then(|chat| chat.rooms.iter().find(|m| m.room == index).copied());
            if let Some(membership) = membership {
                self.leave_room(key, membership, out);
            }
        }
    }

    /// A member's signal, to all who are to get it, here and in other shards.
    #[expect(clippy::too_many_arguments, reason = "the fields of a signal")]
    pub(super) fn spread_signal(
        &mut self,
        index: u32,
        key: u32,
        user: &Name,
        tag: Option<&str>,
        point: Option<Point>,
        data: &RawValue,
        at: Time,
        out: &mut Outputs,
    ) {
        let Some(room) = self.lobby.rooms.get(index as usize) else { return };
        let signal = Signal {
            op: "signal".into(),
            room: Some(room.name.as_str().into()),
            from: user.as_str().into(),
            key: tag.map(Into::into),
            at: point.map(|point| [point.x(), point.y()]),
            data,
        };
        let mut frame = Vec::with_capacity(HEADER_BYTES + 96 + data.get().len());
        write_message(&mut frame, &signal);
        let elsewhere = room.elsewhere.clone();
        if !elsewhere.is_empty() {
            let far = std::sync::Arc::new(FarSignal {
                room: room.name.clone(),
                from: user.clone(),
                key: tag.map(Into::into),
                at: point,
                data: data.get().into(),
                frame: frame.clone(),
            });
            for shard in elsewhere {
                out.list.push(Output::Word { to: Some(shard), word: Word::Signal(far.clone()) });
            }
        }
        self.signal_here(index, Some(key), Heard { from: user, tag, point, data: data.get(), frame: &frame }, at, out);
    }

    /// A signal from another shard.
    pub(super) fn far_signal(&mut self, signal: &FarSignal, at: Time, out: &mut Outputs) {
        let Some(index) = self.lobby.by_name.get(signal.room.as_str()).copied() else { return };
        let FarSignal { from, key, at: point, data, frame, .. } = signal;
        self.signal_here(index, None, Heard { from, tag: key.as_deref(), point: *point, data, frame }, at, out);
    }

    fn signal_here(&mut self, index: u32, by: Option<u32>, signal: Heard<'_>, at: Time, out: &mut Outputs) {
        let Some(room) = self.lobby.rooms.get_mut(index as usize) else { return };
        let Heard { from, tag, point, data, frame } = signal;
        if room.digesting > 0 {
            room.gist.add_signal(Latest { from: from.clone(), key: tag.map(Into::into), at: point, data: data.into() });
        }
        let digesting = room.digesting > 0;
        match (&room.grid, point) {
            (Some(grid), Some(point)) => {
                let mut near = Vec::new();
                grid.near(point, |key| near.push(key));
                let frames = bytes::Bytes::copy_from_slice(frame);
                room.gist.skipped += if digesting { frame.len() as u64 } else { 0 };
                let start = out.targets.len();
                for key in near.into_iter().filter(|key| Some(*key) != by) {
                    if self.chat(key).is_some_and(|chat| chat.reach == Reach::Now) {
                        out.targets.extend(self.note_push(key, &frames, 1, 0));
                    }
                }
                self.fan(&frames, start, out);
            }
            // It was sent before the room became an area; near whom nobody knows.
            (Some(_), None) => {}
            (None, _) => {
                room.batch.add_volatile(frame, by);
                self.gathers(index, at);
            }
        }
        if digesting {
            self.list_gist(index, at);
        }
    }

    /// The newest a member may hear in digests.
    pub(super) fn members_with(&self, index: u32, reach: Reach) -> Vec<(u32, Membership)> {
        let Some(room) = self.room(index) else { return Vec::new() };
        let members = room.members.iter().enumerate().filter(|(_, member)| member.reach == reach);
        members.map(|(place, member)| (member.key, Membership { room: index, place: place as u32 })).collect()
    }
}

/// A signal, from wherever it comes.
struct Heard<'a> {
    from: &'a Name,
    tag: Option<&'a str>,
    point: Option<Point>,
    data: &'a str,
    frame: &'a [u8],
}

fn preview(frame: &[u8]) -> Option<Preview> {
    let message: Message<'_> = serde_json::from_slice(frame.get(HEADER_BYTES..)?).ok()?;
    Some(Preview {
        seq: message.seq,
        from: message.from.as_ref().into(),
        text: clip(&message.text, PREVIEW_BYTES).into(),
    })
}
