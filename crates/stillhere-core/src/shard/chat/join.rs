//! Into rooms and out of them.

use crate::area::{Grid, Point};
use crate::chat::{Carried, Membership, Reach};
use crate::close::Cause;
use crate::event::{Output, Outputs};
use crate::ledger::{Order, Outcome, Proof, Refused, RoomState};
use crate::name::Name;
use crate::secret::SessionId;
use crate::time::Time;
use crate::wire::error::{ErrorCode, Refusal};
use crate::wire::push::{Notice, Reply};

use super::orders::{Asker, Pending, Retry, Then};
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
            return self.refuse_asker(&asker, too_many_rooms(max), None, out);
        }
        let order = Order::Join { room: room.clone(), user: user.clone() };
        self.order(asker, Then::Join { room, user, after, at, carried: false }, order, out)
    }

    /// The store has let a session into a room.
    pub(super) fn joined(&mut self, asker: Asker, joining: Joining, joined: Outcome, at: Time, out: &mut Outputs) {
        let Joining { room: name, user, after, point, carried } = joining;
        let Outcome::Joined { stream, head, trimmed, role, muted, state } = joined else { return };
        let rooms_max = self.terms.chat.rooms;
        let Some(chat) = self.chat_mut(asker.key).filter(|chat| chat.user == user) else {
            // It is nobody, or somebody else, by now.
            return out.list.push(self.release_order(stream));
        };
        let was_carried = chat.carried.iter().any(|known| known.room == name);
        chat.carried.retain(|known| known.room != name);
        let too_many = !carried && chat.rooms.len() >= rooms_max;
        let member = self.membership(asker.key, name.as_str());
        if carried && (!was_carried || member.is_some()) {
            // It has parted from it, or has joined it by itself meanwhile.
            return out.list.push(self.release_order(stream));
        }
        if too_many && member.is_none() {
            out.list.push(self.release_order(stream));
            self.refuse_asker(&asker, too_many_rooms(rooms_max), None, out);
            return;
        }
        let index = self.room_for(&name, stream, head, &state, out);
        let Some(room) = self.lobby.rooms.get_mut(index as usize) else { return };
        room.head = room.head.max(head);
        if !muted.is_zero() {
            room.mute(&user, muted, at);
        }
        let full = room.members.len() >= self.terms.chat.members;
        // From where it wants the messages; what retention took isn't waited for.
        let delivered = after.map_or(room.head, |after| after.max(trimmed).min(room.head));
        let now = match member {
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
            if carried {
                return self.tell_removed(asker.key, &name, out);
            }
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
        let mut head = head;
        if let Some(member) = self.member_mut(membership) {
            member.held = member.held.saturating_add(1);
            if after.is_none() {
                // What it still lacks from an earlier join comes, too.
                head = head.min(member.delivered);
            }
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
        let reach = self.chat(key).map_or(Reach::Nowhere, |chat| chat.reach);
        let Some(room) = self.lobby.rooms.get_mut(index as usize) else { return Membership { room: index, place: 0 } };
        let place = room.members.len() as u32;
        room.members.push(Member { key, reach, fetching: false, held: 0, delivered });
        room.digesting += usize::from(gets_digests(reach));
        let membership = Membership { room: index, place };
        if let Some(chat) = self.chat_mut(key) {
            chat.rooms.push(membership);
        }
        membership
    }

    /// The op `part`.
    pub(super) fn part(&mut self, asker: &Asker, room: &str, at: Time, out: &mut Outputs) -> Flow {
        let carried = self.chat(asker.key).is_some_and(|chat| chat.carries(room));
        match self.membership(asker.key, room) {
            Some(membership) => {
                self.flush_room(membership.room, at, out);
                self.leave_room(asker.key, membership, out);
            }
            None if carried => {
                if let Some(chat) = self.chat_mut(asker.key) {
                    chat.carried.retain(|known| known.room.as_str() != room);
                }
            }
            None => {
                let refusal = ErrorCode::NOT_IN_ROOM.because("you aren't in this room");
                return self.refuse_asker(asker, refusal, None, out);
            }
        }
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
            carried.push(Carried {
                room: room.name.clone(),
                delivered: member.delivered,
                head: room.head,
                at,
                asked: false,
            });
        }
        while let Some(membership) = self.chat(key).and_then(|chat| chat.rooms.last().copied()) {
            self.leave_room(key, membership, out);
        }
        let watching = self.chat(key).map(|chat| chat.watching.clone()).unwrap_or_default();
        self.stop_watching(key);
        if let Some(v1) = self.v1_mut(key)
            && let Some(mut chat) = v1.chat.take()
        {
            chat.watching = watching;
            // Some may still be on their way from the shard before this one.
            chat.carried.retain(|before| carried.iter().all(|now| now.room != before.room));
            chat.carried.extend(carried);
            chat.carried.iter_mut().for_each(|carried| carried.asked = false);
            self.remove_from_user(&chat, key, None, out);
            if let Some(v1) = self.v1_mut(key) {
                v1.chat = Some(chat);
            }
        }
    }

    /// A session has come from another shard: the mailbox's news shall come here, and of whom it watches.
    pub(in crate::shard) fn settle_in(&mut self, key: u32, at: Time, out: &mut Outputs) {
        let Some(v1) = self.v1_mut(key) else { return };
        v1.under_way = 0;
        let Some(chat) = v1.chat.as_deref_mut() else { return };
        (chat.mail.fetching, chat.mail.subscribed) = (false, false);
        let watching = std::mem::take(&mut chat.watching);
        self.watch(key, &watching);
        self.add_to_user(key, at, out);
        self.subscribe_mail(key, out);
        self.end_all_but_newest(key, at, out);
    }

    /// Asks for the news of the mailbox of a session that has come from another shard.
    pub(super) fn subscribe_mail(&mut self, key: u32, out: &mut Outputs) {
        let Some(v1) = self.v1_mut(key) else { return };
        let (session, address) = (v1.id, v1.peer.ip());
        let Some(chat) = v1.chat.as_deref().filter(|chat| !chat.mail.subscribed) else { return };
        let order = Order::Enter { user: Some(chat.user.clone()), proof: Proof::Claim, address, remember: false };
        let id = self.next_order(Pending::Moved { key, session });
        out.list.push(Output::Order { id, order });
    }

    /// Joins what the session was in, in the shard that it comes from.
    pub(in crate::shard) fn unpack(&mut self, key: u32, out: &mut Outputs) {
        let Some(session) = self.sessions.get(key as usize) else { return };
        let (Some(link), Some(v1)) = (session.link(), session.v1_part()) else { return };
        let session = v1.id;
        let Some(chat) = self.chat_mut(key) else { return };
        let user = chat.user.clone();
        let mut orders = Vec::new();
        for carried in chat.carried.iter_mut().filter(|carried| !carried.asked) {
            carried.asked = true;
            let Carried { room, delivered, at, .. } = carried.clone();
            let order = Order::Join { room: room.clone(), user: user.clone() };
            orders.push((order, Then::Join { room, user: user.clone(), after: Some(delivered), at, carried: true }));
        }
        for (order, then) in orders {
            // The bound of requests under way is for what clients ask; of these there are at most as many as rooms.
            if let Some(v1) = self.v1_mut(key) {
                v1.under_way = v1.under_way.saturating_add(1);
            }
            let id = self.next_order(Pending::Ask(Asker { key, session, link, re: None }, then));
            out.list.push(Output::Order { id, order });
        }
    }

    /// The store has heard where a session is now.
    pub(super) fn moved(
        &mut self,
        key: u32,
        session: SessionId,
        outcome: Result<Outcome, Refused>,
        at: Time,
        out: &mut Outputs,
    ) {
        let same = self.v1_mut(key).is_some_and(|v1| v1.id == session);
        match outcome {
            Ok(Outcome::Entered { mailbox, .. }) => {
                let chat = self.chat_mut(key).filter(|_| same);
                match chat.filter(|chat| !chat.mail.subscribed && chat.mail.mailbox.stream == mailbox.stream) {
                    Some(chat) => {
                        chat.mail.subscribed = true;
                        chat.mail.mailbox.head = chat.mail.mailbox.head.max(mailbox.head);
                        self.chase_mail(key, out);
                    }
                    None => out.list.push(self.release_order(mailbox.stream)),
                }
            }
            Ok(_) => {}
            Err(Refused { close: Some(code), .. }) if same => self.end_session(key, code, Cause::Limit, at, out),
            Err(_) if same => self.retry(Retry::Settle { key, session }, at),
            Err(_) => {}
        }
    }

    /// A session that moved can't come into a room again: the store has no time, or it was put out meanwhile.
    pub(super) fn carried_in_vain(&mut self, asker: &Asker, room: &Name, again: bool, at: Time, out: &mut Outputs) {
        let Some(chat) = self.chat_mut(asker.key) else { return };
        let Some(carried) = chat.carried.iter_mut().find(|carried| carried.room == *room) else { return };
        if again {
            carried.asked = false;
            return self.retry(Retry::Unpack { key: asker.key, session: asker.session }, at);
        }
        chat.carried.retain(|carried| carried.room != *room);
        self.tell_removed(asker.key, room, out);
    }

    fn tell_removed(&mut self, key: u32, room: &Name, out: &mut Outputs) {
        let Some(chat) = self.chat(key) else { return };
        let notice = Notice {
            op: "notice".into(),
            kind: "removed".into(),
            room: Some(room.as_str().into()),
            user: Some(chat.user.as_str().into()),
            ..Notice::default()
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

fn too_many_rooms(max: usize) -> Refusal {
    ErrorCode::TOO_MANY.because(format!("a session may be in {max} rooms; part from one first"))
}

/// What was asked of the store for a join.
#[derive(Debug)]
pub(super) struct Joining {
    pub(super) room: Name,
    pub(super) user: Name,
    pub(super) after: Option<u64>,
    pub(super) point: Option<Point>,
    pub(super) carried: bool,
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
