//! Into rooms and out of them.

use crate::area::{Grid, Point};
use crate::chat::{Carried, Membership};
use crate::event::{Output, Outputs};
use crate::ledger::{Order, Outcome, Proof, RoomState};
use crate::name::Name;
use crate::secret::SessionId;
use crate::time::Time;
use crate::wire::error::ErrorCode;
use crate::wire::push::Reply;

use super::orders::{Asker, Pending, Then};
use super::room::{Member, Room, gets_digests};
use super::roster::Answering;
use super::{Shard, Word};
use crate::shard::links::Flow;

impl Shard {
    /// The op `join`.
    pub(super) fn join(
        &mut self,
        asker: Asker,
        room: Name,
        after: Option<u64>,
        at: Option<Point>,
        out: &mut Outputs,
    ) -> Flow {
        let max = self.terms.chat.rooms;
        let Some(chat) = self.chat(asker.key) else { return Flow::Closed };
        let user = chat.user.clone();
        if chat.rooms.len() >= max && self.membership(asker.key, room.as_str()).is_none() {
            let refusal = ErrorCode::TOO_MANY.because(format!("a session may be in {max} rooms; part from one first"));
            return self.refuse_asker(&asker, refusal, None, out);
        }
        let order = Order::Join { room: room.clone(), user };
        self.order(asker, Then::Join { room, after, at, carried: false }, order, out)
    }

    /// The store has let a session into a room.
    #[expect(clippy::too_many_arguments, reason = "what was asked and what was answered")]
    pub(super) fn joined(
        &mut self,
        asker: Asker,
        name: Name,
        after: Option<u64>,
        point: Option<Point>,
        carried: bool,
        joined: Outcome,
        at: Time,
        out: &mut Outputs,
    ) {
        let Outcome::Joined { stream, head, trimmed, role, muted, state } = joined else { return };
        let Some(user) = self.chat(asker.key).map(|chat| chat.user.clone()) else {
            return out.list.push(self.release_order(stream));
        };
        let index = self.room_for(&name, stream, head, &state, out);
        let Some(room) = self.lobby.rooms.get_mut(index as usize) else { return };
        room.head = room.head.max(head);
        if !muted.is_zero() {
            room.mute(&user, muted, at);
        }
        let full = room.members.len() >= self.terms.chat.members;
        // From where it wants the messages; what retention took isn't waited for.
        let delivered = after.map_or(room.head, |after| after.max(trimmed).min(room.head));
        let now = match self.membership(asker.key, name.as_str()) {
            Some(membership) => {
                // It is in already, and joins again to hear what it missed.
                out.list.push(self.release_order(stream));
                self.flush_room(index, at, out);
                if let (Some(_), Some(member)) = (after, self.member_mut(membership)) {
                    member.delivered = delivered;
                }
                Some(membership)
            }
            None if full => None,
            None => Some(self.add_member(index, asker.key, delivered, at, out)),
        };
        let Some(membership) = now else {
            out.list.push(self.release_order(stream));
            self.drop_room_if_empty(index, out);
            let refusal = ErrorCode::ROOM_FULL.because("the room has as many sessions as it may have");
            self.refuse_asker(&asker, refusal, None, out);
            return;
        };
        if let (Some(point), Some(room)) = (point, self.lobby.rooms.get_mut(index as usize))
            && let Some(grid) = &mut room.grid
        {
            grid.place(asker.key, point);
        }
        self.lobby.touched.insert(user);
        if carried {
            return self.chase_room(membership, out);
        }
        let RoomState { topic, public, radius } = state;
        let details = JoinDetails { head, trimmed, role, topic, public, radius };
        let question = super::Question::Rooms(vec![name.clone()]);
        self.gather(asker, Answering::Join(name, details), question, at, out);
    }

    /// The answer to a join, with the roster.
    pub(super) fn join_reply<'a>(room: &'a Name, details: &'a JoinDetails) -> Reply<'a> {
        let JoinDetails { head, trimmed, role, topic, public, radius } = details;
        Reply {
            room: Some(room.as_str().into()),
            head: Some(*head),
            trimmed: Some(*trimmed).filter(|trimmed| *trimmed > 0),
            role: Some(*role),
            topic: Some(topic.as_ref().into()).filter(|_| !topic.is_empty()),
            public: Some(*public),
            radius: *radius,
            ..Reply::default()
        }
    }

    /// The room's place in this shard; made if this is its first member here.
    fn room_for(
        &mut self,
        name: &Name,
        stream: crate::ledger::StreamId,
        head: u64,
        state: &RoomState,
        out: &mut Outputs,
    ) -> u32 {
        if let Some(index) = self.lobby.by_name.get(name.as_str()) {
            return *index;
        }
        let mut room = Room::new(name.clone(), stream, head, state.clone());
        room.elsewhere = self.lobby.afar.remove(name.as_str()).unwrap_or_default();
        let index = self.lobby.rooms.insert(room) as u32;
        self.lobby.by_name.insert(name.clone(), index);
        self.lobby.by_stream.insert(stream, index);
        self.tell_shards(None, Word::RoomHere { room: name.clone(), here: true }, out);
        index
    }

    fn add_member(&mut self, index: u32, key: u32, delivered: u64, at: Time, out: &mut Outputs) -> Membership {
        // What has gathered was said before the newcomer came.
        self.flush_room(index, at, out);
        let reach = self.chat(key).map_or(crate::chat::Reach::Nowhere, |chat| chat.reach);
        let Some(room) = self.lobby.rooms.get_mut(index as usize) else { return Membership { room: index, place: 0 } };
        let place = room.members.len() as u32;
        room.members.push(Member { key, reach, fetching: false, delivered });
        room.digesting += usize::from(gets_digests(reach));
        let membership = Membership { room: index, place };
        if let Some(chat) = self.chat_mut(key) {
            chat.rooms.push(membership);
        }
        membership
    }

    /// The op `part`.
    pub(super) fn part(&mut self, asker: &Asker, room: &str, at: Time, out: &mut Outputs) -> Flow {
        let Some(membership) = self.membership(asker.key, room) else {
            return self.refuse_asker(asker, ErrorCode::NOT_IN_ROOM.because("you aren't in this room"), None, out);
        };
        self.flush_room(membership.room, at, out);
        self.leave_room(asker.key, membership, out);
        self.reply_asker(asker, Reply::default(), out);
        Flow::On
    }

    /// A session is in a room no more.
    pub(super) fn leave_room(&mut self, key: u32, membership: Membership, out: &mut Outputs) {
        let Membership { room: index, place } = membership;
        let user = match self.chat_mut(key) {
            Some(chat) => {
                chat.rooms.retain(|other| *other != membership);
                chat.user.clone()
            }
            None => return,
        };
        self.lobby.touched.insert(user);
        let Some(room) = self.lobby.rooms.get_mut(index as usize) else { return };
        let stream = room.stream;
        if let Some(grid) = &mut room.grid {
            grid.remove(key);
        }
        let member = room.members.swap_remove(place as usize);
        room.digesting -= usize::from(gets_digests(member.reach));
        room.batch.own.retain(|own| own.key != key);
        // Who was last has the free place now.
        if let Some(moved) = room.members.get(place as usize).map(|moved| moved.key) {
            let last = room.members.len() as u32;
            if let Some(chat) = self.chat_mut(moved) {
                for other in chat.rooms.iter_mut().filter(|other| other.room == index && other.place == last) {
                    other.place = place;
                }
            }
        }
        out.list.push(self.release_order(stream));
        self.drop_room_if_empty(index, out);
    }

    fn drop_room_if_empty(&mut self, index: u32, out: &mut Outputs) {
        if self.lobby.rooms.get(index as usize).is_none_or(|room| !room.members.is_empty()) {
            return;
        }
        let Some(room) = self.lobby.rooms.remove(index as usize) else { return };
        self.lobby.gathered.retain(|other| *other != index);
        self.lobby.gists.retain(|other| *other != index);
        self.lobby.by_name.remove(room.name.as_str());
        self.lobby.by_stream.remove(&room.stream);
        if !room.elsewhere.is_empty() {
            self.lobby.afar.insert(room.name.clone(), room.elsewhere);
        }
        self.tell_shards(None, Word::RoomHere { room: room.name, here: false }, out);
    }

    /// Another shard has members of a room, or none any more. It is told whether we have, when it begins.
    pub(super) fn room_elsewhere(&mut self, from: u16, name: Name, here: bool, out: &mut Outputs) {
        let index = self.lobby.by_name.get(name.as_str()).copied();
        let ours = index.and_then(|index| self.lobby.rooms.get_mut(index as usize));
        let shards = match ours {
            Some(room) => &mut room.elsewhere,
            None => self.lobby.afar.entry(name.clone()).or_default(),
        };
        let known = shards.contains(&from);
        shards.retain(|shard| *shard != from);
        if here {
            shards.push(from);
        }
        let nowhere = shards.is_empty();
        match index {
            // It may have begun before it could hear of us.
            Some(_) if here && !known => {
                self.tell_shards(Some(from), Word::RoomHere { room: name, here: true }, out);
            }
            None if nowhere => drop(self.lobby.afar.remove(name.as_str())),
            _ => {}
        }
    }

    /// A session's place in a room.
    pub(super) fn membership(&self, key: u32, room: &str) -> Option<Membership> {
        let index = *self.lobby.by_name.get(room)?;
        self.chat(key)?.rooms.iter().find(|membership| membership.room == index).copied()
    }

    pub(super) fn member_mut(&mut self, membership: Membership) -> Option<&mut Member> {
        self.lobby.rooms.get_mut(membership.room as usize)?.members.get_mut(membership.place as usize)
    }

    /// Takes a session out of this shard's rooms, to join them again in another shard.
    pub(in crate::shard) fn pack_up(&mut self, key: u32, at: Time, out: &mut Outputs) {
        let Some(chat) = self.chat(key) else { return };
        let memberships = chat.rooms.clone();
        let mut carried = Vec::with_capacity(memberships.len());
        for membership in &memberships {
            self.flush_room(membership.room, at, out);
            let Some(room) = self.lobby.rooms.get(membership.room as usize) else { continue };
            let Some(member) = room.members.get(membership.place as usize) else { continue };
            let at = room.grid.as_ref().and_then(|grid| grid.position(key));
            carried.push(Carried { room: room.name.clone(), delivered: member.delivered, head: room.head, at });
        }
        while let Some(membership) = self.chat(key).and_then(|chat| chat.rooms.last().copied()) {
            self.leave_room(key, membership, out);
        }
        self.stop_watching(key);
        if let Some(v1) = self.v1_mut(key)
            && let Some(mut chat) = v1.chat.take()
        {
            chat.carried.extend(carried);
            self.remove_from_user(&chat, key, None, out);
            if let Some(v1) = self.v1_mut(key) {
                v1.chat = Some(chat);
            }
        }
    }

    /// A session has come from another shard: the mailbox's news shall come here.
    pub(in crate::shard) fn settle_in(&mut self, key: u32, at: Time, out: &mut Outputs) {
        let Some(v1) = self.v1_mut(key) else { return };
        v1.under_way = 0;
        let (session, address) = (v1.id, v1.peer.ip());
        let Some(chat) = v1.chat.as_deref_mut() else { return };
        chat.mail.fetching = false;
        let order = Order::Enter { user: Some(chat.user.clone()), proof: Proof::Claim, address, remember: false };
        self.add_to_user(key, at, out);
        let id = self.next_order(Pending::Moved { key, session });
        out.list.push(Output::Order { id, order });
    }

    /// Joins what the session was in, in the shard that it comes from.
    pub(in crate::shard) fn unpack(&mut self, key: u32, out: &mut Outputs) {
        let Some(session) = self.sessions.get(key as usize) else { return };
        let (Some(link), Some(v1)) = (session.link(), session.v1_part()) else { return };
        let session = v1.id;
        let Some(chat) = self.chat_mut(key) else { return };
        let (carried, user) = (std::mem::take(&mut chat.carried), chat.user.clone());
        for Carried { room, delivered, at, .. } in carried {
            let asker = Asker { key, session, link, re: None };
            let order = Order::Join { room: room.clone(), user: user.clone() };
            self.order(asker, Then::Join { room, after: Some(delivered), at, carried: true }, order, out);
        }
    }

    /// The store has heard where a session is now.
    pub(super) fn moved(
        &mut self,
        key: u32,
        session: SessionId,
        outcome: Result<Outcome, crate::ledger::Refused>,
        at: Time,
        out: &mut Outputs,
    ) {
        let same = self.v1_mut(key).is_some_and(|v1| v1.id == session);
        match outcome {
            Ok(Outcome::Entered { mailbox, .. }) => match self.chat_mut(key).filter(|_| same) {
                Some(chat) => {
                    chat.mail.mailbox.head = chat.mail.mailbox.head.max(mailbox.head);
                    self.chase_mail(key, out);
                }
                None => out.list.push(self.release_order(mailbox.stream)),
            },
            Ok(_) => {}
            Err(refused) => {
                if let Some(code) = refused.close.filter(|_| same) {
                    self.end_session(key, code, crate::close::Cause::Limit, at, out);
                }
            }
        }
    }

    /// A session that moved can't come into a room again: it was put out meanwhile, or the store has no time.
    pub(super) fn carried_in_vain(&mut self, key: u32, room: &Name, out: &mut Outputs) {
        let Some(chat) = self.chat(key) else { return };
        let notice = crate::wire::push::Notice {
            op: "notice".into(),
            kind: "removed".into(),
            room: Some(room.as_str().into()),
            user: Some(chat.user.as_str().into()),
            ..Default::default()
        };
        let frame = super::deliver::frame_of(&notice);
        self.push_to(key, &frame, 1, 0, out);
    }

    /// The room's settings are others now.
    pub(super) fn room_changed(&mut self, index: u32, state: RoomState) {
        let Some(room) = self.lobby.rooms.get_mut(index as usize) else { return };
        if room.state.radius != state.radius {
            // Where everybody is stays known.
            let mut grid = state.radius.and_then(Grid::new);
            if let (Some(new), Some(old)) = (&mut grid, &room.grid) {
                for member in &room.members {
                    if let Some(at) = old.position(member.key) {
                        new.place(member.key, at);
                    }
                }
            }
            room.grid = grid;
        }
        room.state = state;
    }
}

/// What `join` answers of a room.
#[derive(Clone, Debug)]
pub(super) struct JoinDetails {
    head: u64,
    trimmed: u64,
    role: crate::ledger::Role,
    topic: Box<str>,
    public: bool,
    radius: Option<f64>,
}
