//! Pushes: gathered for a room, written once for all who get the same, kept for a resume; and how those who fell behind
//! catch up.

use bytes::Bytes;
use serde::Serialize;

use crate::chat::{Membership, Reach};
use crate::close::{Cause, CloseCode};
use crate::event::{LinkId, Manner, Output, Outputs};
use crate::ledger::{Order, Outcome, Page, Place, Refused};
use crate::limits::{GATHER_MAX, PAGE_MAX, WRITE_COST};
use crate::name::Name;
use crate::secret::SessionId;
use crate::time::Time;
use crate::wire::message::write_message;
use crate::wire::push::Notice;

use super::Shard;
use super::orders::{Pending, Retry};
use super::room::{Parcel, Room, gets_digests};
use crate::shard::links::{Ending, Fate};

/// A push, encoded.
pub(super) fn frame_of(push: &impl Serialize) -> Bytes {
    let mut frame = Vec::with_capacity(256);
    write_message(&mut frame, push);
    frame.into()
}

impl Shard {
    /// Pushes frames to one session: counted and kept even if it has no link now. `mail` is the position in its mailbox
    /// that this brings it to, or 0.
    pub(super) fn push_to(&mut self, key: u32, frames: &Bytes, pushes: u32, mail: u64, out: &mut Outputs) {
        let from = out.targets.len();
        if let Some(link) = self.note_push(key, frames, pushes, mail) {
            out.targets.push(link);
        }
        self.fan(frames, from, out);
    }

    /// Counts a push and keeps it for a resume; the link to write it to.
    pub(super) fn note_push(&mut self, key: u32, frames: &Bytes, pushes: u32, mail: u64) -> Option<LinkId> {
        let bytes_max = self.terms.chat.replay_bytes;
        let session = self.sessions.get_mut(key as usize)?;
        let link = session.link();
        let v1 = session.v1_part_mut()?;
        v1.pushes += u64::from(pushes);
        v1.replay.get_or_insert_default().push(frames.clone(), pushes, mail, bytes_max);
        let Some(link) = link else {
            self.weigh_replay(key);
            return None;
        };
        let bytes = frames.len() as u64;
        if let Some(link) = self.links.get_mut(link.0 as usize) {
            link.bytes_out += bytes;
        }
        self.stats.bytes_out += bytes;
        self.stats.deliveries += u64::from(pushes);
        Some(link)
    }

    /// Writes frames to the targets from `from` on.
    pub(super) fn fan(&mut self, frames: &Bytes, from: usize, out: &mut Outputs) {
        let targets = from..out.targets.len();
        if !targets.is_empty() {
            out.list.push(Output::Fan { frames: frames.clone(), targets });
        }
    }

    /// A room's batch has something in it: when it goes out depends on how busy the shard is.
    pub(super) fn gathers(&mut self, index: u32, at: Time) {
        let Some(room) = self.lobby.rooms.get_mut(index as usize) else { return };
        if !std::mem::replace(&mut room.gathering, true) {
            self.lobby.gathered.push(index);
        }
        let wait = self.lobby.paid_at.since(at).min(GATHER_MAX);
        self.lobby.flush_at = self.lobby.flush_at.min((room.flushed_at + wait).max(at));
    }

    /// Writes the batches whose time has come.
    pub(super) fn flush_due(&mut self, at: Time, out: &mut Outputs) {
        if self.lobby.flush_at > at {
            return;
        }
        self.lobby.flush_at = Time::NEVER;
        for index in std::mem::take(&mut self.lobby.gathered) {
            let wait = self.lobby.paid_at.since(at).min(GATHER_MAX);
            let Some(room) = self.lobby.rooms.get_mut(index as usize) else { continue };
            let due = room.flushed_at + wait;
            if due <= at || room.batch.is_empty() {
                room.gathering = false;
                self.flush_room(index, at, out);
            } else {
                self.lobby.gathered.push(index);
                self.lobby.flush_at = self.lobby.flush_at.min(due);
            }
        }
    }

    /// Writes a room's batch to everybody who gets it now.
    pub(super) fn flush_room(&mut self, index: u32, at: Time, out: &mut Outputs) {
        let Some(room) = self.lobby.rooms.get_mut(index as usize) else { return };
        if room.batch.is_empty() {
            return;
        }
        let mut batch = std::mem::take(&mut room.batch);
        let mut members = std::mem::take(&mut room.members);
        room.flushed_at = at;
        let skipped = (batch.messages.len() + batch.volatile.len()) as u64;
        if room.digesting > 0 {
            room.gist.skipped += skipped;
        }
        let last = batch.first + u64::from(batch.message_count.saturating_sub(1));
        let has_messages = batch.message_count > 0;
        // Most members get the same; the other parcels are made when somebody needs them.
        let all = batch.parcel(true);
        let mut volatile: Option<Parcel> = None;
        let mut targets_all = Vec::new();
        let mut targets_volatile = Vec::new();
        let mut special = Vec::new();
        let mut behind = Vec::new();
        for (place, member) in members.iter_mut().enumerate() {
            if member.reach != Reach::Now {
                continue;
            }
            let fresh = has_messages && member.delivered + 1 == batch.first && !member.fetching && member.held == 0;
            if fresh {
                member.delivered = last;
            } else if has_messages {
                behind.push(place as u32);
            }
            let with_messages = fresh || !has_messages;
            if !batch.own.is_empty() && batch.own.iter().any(|own| own.key == member.key) {
                special.push((member.key, with_messages));
            } else if with_messages {
                targets_all.extend(self.note_push(member.key, &all.frames, all.pushes, 0));
            } else if batch.volatile_count > 0 {
                let parcel = volatile.get_or_insert_with(|| batch.parcel(false));
                let (frames, pushes) = (parcel.frames.clone(), parcel.pushes);
                targets_volatile.extend(self.note_push(member.key, &frames, pushes, 0));
            }
        }
        let writes = (targets_all.len() + targets_volatile.len() + special.len()) as u32;
        self.lobby.paid_at = self.lobby.paid_at.max(at) + WRITE_COST * writes;
        for (targets, parcel) in [(targets_all, Some(all)), (targets_volatile, volatile)] {
            let Some(parcel) = parcel else { continue };
            let from = out.targets.len();
            out.targets.extend(targets);
            self.fan(&parcel.frames, from, out);
        }
        for (key, with_messages) in special {
            let parcel = batch.parcel_for(key, with_messages);
            if parcel.pushes > 0 {
                self.push_to(key, &parcel.frames, parcel.pushes, 0, out);
            }
        }
        batch.clear();
        if let Some(room) = self.lobby.rooms.get_mut(index as usize) {
            room.batch = batch;
            room.members = members;
        }
        for place in behind {
            self.chase_room(Membership { room: index, place }, out);
        }
    }

    /// Something else reaches a session now, or no longer.
    pub(in crate::shard) fn refresh(&mut self, key: u32, at: Time, out: &mut Outputs) {
        let reach = self.reach_of(key);
        let Some(chat) = self.chat_mut(key) else { return };
        let user = chat.user.clone();
        let before = std::mem::replace(&mut chat.reach, reach);
        let memberships = if before == reach { Vec::new() } else { chat.rooms.clone() };
        self.lobby.touched.insert(user);
        for membership in memberships {
            self.flush_room(membership.room, at, out);
            let Some(room) = self.lobby.rooms.get_mut(membership.room as usize) else { continue };
            let Some(member) = room.members.get_mut(membership.place as usize) else { continue };
            room.digesting -= usize::from(gets_digests(member.reach));
            member.reach = reach;
            room.digesting += usize::from(gets_digests(reach));
            if reach == Reach::Now {
                self.last_digest(key, membership, gets_digests(before), out);
                self.chase_room(membership, out);
            }
        }
        if matches!(reach, Reach::Now | Reach::Digest) {
            self.chase_mail(key, out);
        }
    }

    /// Asks for what a member lacks, if it lacks anything and can take it now.
    pub(super) fn chase_room(&mut self, membership: Membership, out: &mut Outputs) {
        let Some(room) = self.lobby.rooms.get_mut(membership.room as usize) else { return };
        let (head, stream, name) = (room.head, room.stream, room.name.clone());
        // What has gathered isn't missing yet.
        let gathered = u64::from(room.batch.message_count);
        let Some(member) = room.members.get_mut(membership.place as usize) else { return };
        if member.reach != Reach::Now
            || member.fetching
            || member.held > 0
            || member.delivered >= head - gathered.min(head)
        {
            return;
        }
        member.fetching = true;
        let (key, after) = (member.key, member.delivered);
        let Some(session) = self.v1_mut(key).map(|v1| v1.id) else { return };
        let id = self.next_order(Pending::RoomPage { key, session, room: name, after });
        out.list.push(Output::Order { id, order: Order::Page { stream, after, limit: PAGE_MAX } });
    }

    /// A page of what a member lacked, asked for behind `after`.
    #[expect(clippy::too_many_arguments, reason = "what was asked and what was answered")]
    pub(super) fn room_page(
        &mut self,
        key: u32,
        session: SessionId,
        room: Name,
        after: u64,
        outcome: Result<Outcome, Refused>,
        at: Time,
        out: &mut Outputs,
    ) {
        let same = self.v1_mut(key).is_some_and(|v1| v1.id == session);
        let Some(membership) = self.membership(key, room.as_str()).filter(|_| same) else { return };
        self.flush_room(membership.room, at, out);
        let Some(member) = self.member_mut(membership) else { return };
        let Some(page) = outcome.ok().and_then(|outcome| Extract::of(outcome, after, member.delivered)) else {
            return self.retry(Retry::RoomPage { key, session, room }, at);
        };
        member.fetching = false;
        // It may have gone on leave meanwhile, or its new join is to be answered first.
        if member.reach != Reach::Now || member.held > 0 {
            return;
        }
        if let Extract::Next { messages, reached } = page {
            member.delivered = reached;
            let frames: Vec<&[u8]> = messages.iter().map(|(_, frame)| &frame[..]).collect();
            if !frames.is_empty() {
                self.push_to(key, &frames.concat().into(), messages.len() as u32, 0, out);
            }
        }
        self.chase_room(membership, out);
    }

    /// It is time to ask again for what a member lacks.
    pub(super) fn room_page_again(&mut self, key: u32, room: &str, out: &mut Outputs) {
        let Some(membership) = self.membership(key, room) else { return };
        if let Some(member) = self.member_mut(membership) {
            member.fetching = false;
            self.chase_room(membership, out);
        }
    }

    /// A member's join has been answered: what it missed may come.
    pub(super) fn let_go(&mut self, key: u32, room: &str, out: &mut Outputs) {
        let Some(membership) = self.membership(key, room) else { return };
        if let Some(member) = self.member_mut(membership) {
            member.held = member.held.saturating_sub(1);
            self.chase_room(membership, out);
        }
    }

    /// Asks for what a session lacks of its mailbox.
    pub(super) fn chase_mail(&mut self, key: u32, out: &mut Outputs) {
        let Some(v1) = self.v1_mut(key) else { return };
        let session = v1.id;
        let Some(chat) = v1.chat.as_deref_mut() else { return };
        let reachable = matches!(chat.reach, Reach::Now | Reach::Digest);
        let mail = &mut chat.mail;
        if !reachable || mail.fetching || mail.delivered >= mail.mailbox.head {
            return;
        }
        mail.fetching = true;
        let (stream, after) = (mail.mailbox.stream, mail.delivered);
        let id = self.next_order(Pending::MailPage { key, session, after });
        out.list.push(Output::Order { id, order: Order::Page { stream, after, limit: PAGE_MAX } });
    }

    /// A page of what a session lacked of its mailbox, asked for behind `after`.
    pub(super) fn mail_page(
        &mut self,
        key: u32,
        session: SessionId,
        after: u64,
        outcome: Result<Outcome, Refused>,
        at: Time,
        out: &mut Outputs,
    ) {
        let same = self.v1_mut(key).is_some_and(|v1| v1.id == session);
        let Some(chat) = self.chat_mut(key).filter(|_| same) else { return };
        let delivered = chat.mail.delivered;
        let Some(page) = outcome.ok().and_then(|outcome| Extract::of(outcome, after, delivered)) else {
            return self.retry(Retry::MailPage { key, session }, at);
        };
        chat.mail.fetching = false;
        if !matches!(chat.reach, Reach::Now | Reach::Digest) {
            return;
        }
        // Written together, but kept one by one: the client may have handled some and not the others.
        if let Extract::Next { messages, reached } = page {
            chat.mail.delivered = reached;
            let (mut link, mut frames) = (None, Vec::new());
            for (position, frame) in messages {
                link = self.note_push(key, &frame, 1, position);
                frames.extend_from_slice(&frame);
            }
            let from = out.targets.len();
            out.targets.extend(link);
            self.fan(&frames.into(), from, out);
        }
        self.chase_mail(key, out);
    }

    /// The client has handled so many pushes.
    pub(in crate::shard) fn acknowledge(&mut self, key: u32, ack: u64, out: &mut Outputs) {
        let Some(v1) = self.v1_mut(key) else { return };
        v1.acked = ack.min(v1.pushes).max(v1.acked);
        let acked = v1.acked;
        let Some(position) = v1.replay.as_deref_mut().and_then(|replay| replay.acknowledged(acked)) else { return };
        self.mail_handled(key, position, out);
    }

    /// A client has handled its mailbox up to here.
    pub(super) fn mail_handled(&mut self, key: u32, position: u64, out: &mut Outputs) {
        let Some(chat) = self.chat_mut(key) else { return };
        if position > chat.mail.mailbox.handled {
            chat.mail.mailbox.handled = position;
            let order = Order::Handled { user: chat.user.clone(), position };
            out.list.push(self.order_quietly(order));
        }
    }

    /// Continuity is lost: counting begins again, rooms go on from now, and the mailbox from what was surely handled.
    pub(in crate::shard) fn count_anew(&mut self, key: u32, at: Time, out: &mut Outputs) {
        // What has gathered goes out by the old count.
        self.flush_rooms_of(key, at, out);
        let Some(v1) = self.v1_mut(key) else { return };
        (v1.pushes, v1.acked, v1.replay, v1.counts_anew) = (0, 0, None, true);
        let Some(chat) = v1.chat.as_deref_mut() else { return };
        chat.mail.delivered = chat.mail.mailbox.handled;
        for carried in &mut chat.carried {
            carried.delivered = carried.head;
        }
        let memberships = chat.rooms.clone();
        for membership in memberships {
            let head = self.room(membership.room).map_or(0, |room| room.head);
            if let Some(member) = self.member_mut(membership) {
                member.delivered = head;
            }
        }
    }

    /// Writes what has gathered in a session's rooms, before something changes about the session.
    pub(in crate::shard) fn flush_rooms_of(&mut self, key: u32, at: Time, out: &mut Outputs) {
        let memberships = self.chat(key).map(|chat| chat.rooms.clone()).unwrap_or_default();
        for membership in memberships {
            self.flush_room(membership.room, at, out);
        }
    }

    /// The rooms that a session is in, with their newest seqs.
    pub(in crate::shard) fn heads(&self, key: u32) -> std::collections::BTreeMap<String, u64> {
        let Some(chat) = self.chat(key) else { return Default::default() };
        let rooms = chat.rooms.iter().filter_map(|membership| self.room(membership.room));
        let rooms = rooms.map(|room| (room.name.to_string(), room.head));
        // Those of a session that has just come from another shard, where it was in them.
        rooms.chain(chat.carried.iter().map(|carried| (carried.room.to_string(), carried.head))).collect()
    }

    /// Writes what was pushed before and didn't arrive.
    pub(in crate::shard) fn write_again(&mut self, link: LinkId, frames: Bytes, out: &mut Outputs) {
        let from = out.targets.len();
        out.targets.push(link);
        if let Some(link) = self.links.get_mut(link.0 as usize) {
            link.bytes_out += frames.len() as u64;
        }
        self.stats.bytes_out += frames.len() as u64;
        self.fan(&frames, from, out);
    }

    /// An operator's words, to all, a room or a user.
    pub(in crate::shard) fn announce(&mut self, place: Option<&Place>, text: &str, out: &mut Outputs) {
        let notice = Notice { op: "notice".into(), kind: "text".into(), text: Some(text.into()), ..Notice::default() };
        let frame = frame_of(&notice);
        let keys: Vec<u32> = match place {
            None => {
                let v1 = self.sessions.iter().filter(|(_, session)| session.v1_part().is_some());
                v1.map(|(key, _)| key as u32).collect()
            }
            Some(Place::User(user)) => self.sessions_of(user),
            Some(Place::Room(room)) => {
                let room = self.lobby.by_name.get(room.as_str()).and_then(|index| self.room(*index));
                room.map(|room| room.members.iter().map(|member| member.key).collect()).unwrap_or_default()
            }
        };
        let from = out.targets.len();
        for key in keys {
            if self.chat(key).is_none_or(|chat| chat.reach != Reach::Choked) {
                out.targets.extend(self.note_push(key, &frame, 1, 0));
            }
        }
        self.fan(&frame, from, out);
    }

    /// A link's outbox has filled, or is empty again.
    pub(in crate::shard) fn choke(&mut self, link: LinkId, choked: bool, at: Time, out: &mut Outputs) {
        let Some(key) = self.link(link).map(|link| link.session) else { return };
        let slow_time = self.terms.chat.slow_time;
        let Some(chat) = self.chat_mut(key) else { return };
        let was = chat.choked_at.is_some();
        if was == choked {
            return;
        }
        chat.choked_at = choked.then_some(at);
        if choked {
            self.stats.chokes += 1;
            self.lobby.choked.push_back((at + slow_time, link));
            // More waits for it in the kernel than is kept for a resume, as these are set by default: a resume could
            // only be with a gap.
            if let Some(replay) = self.v1_mut(key).and_then(|v1| v1.replay.as_deref_mut()) {
                replay.shed();
            }
        }
        self.refresh(key, at, out);
    }

    /// Who didn't take what was queued for so long is closed.
    pub(super) fn close_choked(&mut self, at: Time, out: &mut Outputs) {
        while let Some((_, link)) = self.lobby.choked.pop_front_if(|(due, _)| *due <= at) {
            let Some(key) = self.link(link).map(|link| link.session) else { continue };
            let slow_time = self.terms.chat.slow_time;
            let since = self.chat(key).and_then(|chat| chat.choked_at);
            if since.is_some_and(|since| since + slow_time <= at) {
                let ending = Ending {
                    code: Some(CloseCode::SlowConsumer),
                    cause: Cause::Limit,
                    manner: Manner::Gently,
                    retry_ms: None,
                    fate: Fate::Wait,
                };
                self.close(link, ending, at, out);
            }
        }
    }

    /// The room of that place.
    pub(super) fn room(&self, index: u32) -> Option<&Room> {
        self.lobby.rooms.get(index as usize)
    }
}

/// What of a page is to be pushed.
enum Extract {
    /// These follow what the session has, and bring it there.
    Next { messages: Vec<(u64, Bytes)>, reached: u64 },
    /// The session has gone back behind the place from which the page was asked for.
    TooLate,
}

impl Extract {
    /// `None` if the store hasn't answered with a page that brings the session on.
    fn of(outcome: Outcome, after: u64, delivered: u64) -> Option<Extract> {
        let Outcome::Page(Page { messages, upto }) = outcome else { return None };
        if after > delivered {
            return Some(Extract::TooLate);
        }
        let last = messages.last().map_or(upto, |(position, _)| *position);
        // What was pushed meanwhile may be more than the page has; only a page without anything is a failure.
        if last <= after {
            return None;
        }
        let messages = messages.into_iter().filter(|(position, _)| *position > delivered).collect();
        Some(Extract::Next { messages, reached: last.max(delivered) })
    }
}
