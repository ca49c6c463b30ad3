//! The ops of chat, one by one: who may ask, how often and how much, and to whom it goes.

use std::time::Duration;

use serde_json::value::RawValue;

use crate::area::Point;
use crate::event::{LinkId, Outputs};
use crate::ledger::{Act, Draft, Order, Place};
use crate::limits::{HISTORY_PAGE, HISTORY_PAGE_MAX, WATCHING_MAX};
use crate::name::Name;
use crate::stats::Spoken;
use crate::time::Time;
use crate::wire::ask::{Ask, Words};
use crate::wire::error::{ErrorCode, Refusal};
use crate::wire::message::RequestId;
use crate::wire::push::Reply;

use super::orders::{Asker, BUSY_RETRY, Then};
use super::roster::Answering;
use super::{Question, Shard};
use crate::shard::links::Flow;

impl Shard {
    /// One op of chat.
    pub(in crate::shard) fn ask(
        &mut self,
        link: LinkId,
        key: u32,
        re: Option<RequestId<'_>>,
        ask: Ask<'_>,
        at: Time,
        out: &mut Outputs,
    ) -> Flow {
        let Some(v1) = self.v1_mut(key) else { return Flow::Closed };
        let asker = Asker { key, session: v1.id, link, re: Shard::owned(re) };
        if let Ask::Enter { by, user, secret, remember } = ask {
            return self.enter(asker, by, user, &secret, remember, out);
        }
        let Some(user) = self.chat(key).map(|chat| chat.user.clone()) else {
            let refusal = match self.terms.identity.open {
                true => ErrorCode::LOGIN_FIRST.because("say hello with a user"),
                false => ErrorCode::LOGIN_FIRST.because("log in or register first"),
            };
            return self.refuse_asker(&asker, refusal, None, out);
        };
        if let Err((refusal, wait)) = self.within_rates(key, &user, link, &ask, at) {
            return self.refuse_asker(&asker, refusal, Some(wait), out);
        }
        match ask {
            Ask::Enter { .. } => Flow::On,
            Ask::Password { old, new } => self.password(asker, user, &old, &new, out),
            Ask::Join { room, after, at: point } => self.join(asker, room, after, point, out),
            Ask::Part { room } => self.part(&asker, &room, at, out),
            Ask::Say { room, words } => self.say_to_room(asker, user, &room, words, at, out),
            Ask::Tell { user: to, words } => self.tell(asker, user, to, words, out),
            Ask::Signal { room, data, key: tag, at: point } => {
                self.signal(&asker, user, &room, data, tag.as_deref(), point, at, out)
            }
            Ask::History { place, before, after, limit, query } => {
                if let Err(flow) = self.may_read(&asker, &place, out) {
                    return flow;
                }
                let limit = limit.unwrap_or(HISTORY_PAGE).clamp(1, HISTORY_PAGE_MAX) as u32;
                let query = query.filter(|query| !query.is_empty()).map(Into::into);
                let order = Order::History { user, place, before, after, limit, query };
                self.order(asker, Then::History, order, out)
            }
            Ask::Who(place) => self.who(asker, user, place, at, out),
            Ask::Watch(users) => {
                let watching = self.chat(key).map_or(0, |chat| chat.watching.len());
                if watching + users.len() > WATCHING_MAX {
                    let refusal = ErrorCode::TOO_MANY.because(format!("a session may watch {WATCHING_MAX} users"));
                    return self.refuse_asker(&asker, refusal, None, out);
                }
                let order = Order::MaySee { by: user, users: users.clone() };
                self.order(asker, Then::MaySee(Answering::Watch, users), order, out)
            }
            Ask::Unwatch(users) => {
                self.unwatch(key, &users);
                self.reply_asker(&asker, Reply::default(), out);
                Flow::On
            }
            Ask::Read { place, seq } => {
                if let Err(flow) = self.may_read(&asker, &place, out) {
                    return flow;
                }
                self.order(asker, Then::Done, Order::Read { user, place, seq }, out)
            }
            Ask::Govern { room, act } => {
                let max = self.terms.chat.text_bytes;
                if let Act::Set { topic: Some(topic), .. } = &act
                    && topic.len() > max
                {
                    return self.refuse_asker(&asker, too_long("topic", max), None, out);
                }
                self.order(asker, Then::Done, Order::Govern { by: user, room, act }, out)
            }
            Ask::Unsay { user: other, seq } => {
                self.order(asker, Then::Done, Order::Unsay { by: user, user: other, seq }, out)
            }
            Ask::Relate { user: other, relation } => {
                self.order(asker, Then::Done, Order::Relate { by: user, user: other, relation }, out)
            }
        }
    }

    fn password(&mut self, asker: Asker, user: Name, old: &str, new: &str, out: &mut Outputs) -> Flow {
        let Some(peer) = self.peer_of(asker.link) else { return Flow::Closed };
        let order = Order::Password { user, old: old.into(), new: new.into(), address: peer.ip() };
        self.order(asker, Then::Done, order, out)
    }

    /// Whether the session's rates, its user's, its address's and the room's allow this.
    fn within_rates(
        &mut self,
        key: u32,
        user: &Name,
        link: LinkId,
        ask: &Ask<'_>,
        at: Time,
    ) -> Result<(), (Refusal, Duration)> {
        let limits = self.terms.chat.clone();
        let wait = match ask {
            Ask::Say { .. } | Ask::Tell { .. } => {
                let address = self.peer_of(link).map(|peer| peer.without_port());
                let of_user =
                    self.lobby.users.get_mut(user).and_then(|local| local.messages.take(&limits.messages, at).err());
                let of_address =
                    address.and_then(|address| self.lobby.talkers.take(address, &limits.address_messages, at).err());
                of_user.max(of_address)
            }
            Ask::Signal { .. } => self.chat_mut(key).and_then(|chat| chat.signals.take(&limits.signals, at).err()),
            Ask::Join { .. } => self.chat_mut(key).and_then(|chat| chat.joins.take(&limits.joins, at).err()),
            Ask::Part { .. } | Ask::Unwatch(_) => None,
            _ => self.chat_mut(key).and_then(|chat| chat.requests.take(&limits.requests, at).err()),
        };
        // Only what its members may send uses up what a room may have.
        let in_room = match ask {
            Ask::Say { room, .. } | Ask::Signal { room, .. } if wait.is_none() || limits.dry_run => {
                let membership = self.membership(key, room);
                let room = membership.and_then(|place| self.lobby.rooms.get_mut(place.room as usize));
                room.and_then(|room| room.traffic.take(&limits.room_traffic, at).err())
            }
            _ => None,
        };
        match wait.max(in_room) {
            None => Ok(()),
            Some(_) if limits.dry_run => {
                self.stats.would_refuse += 1;
                Ok(())
            }
            Some(wait) => {
                self.stats.refused[crate::stats::Refused::Rate as usize] += 1;
                Err((ErrorCode::SLOW_DOWN.because("more than the allowed rate"), wait))
            }
        }
    }

    fn draft(&self, asker: &Asker, words: &Words<'_>) -> Result<Draft, Refusal> {
        let limits = &self.terms.chat;
        if words.text.len() > limits.text_bytes {
            return Err(too_long("text", limits.text_bytes));
        }
        let data = words.data.map(RawValue::get);
        if data.is_some_and(|data| data.len() > limits.data_bytes) {
            return Err(too_long("data", limits.data_bytes));
        }
        Ok(Draft {
            mid: words.mid.as_deref().map(Into::into),
            text: words.text.as_ref().into(),
            data: data.map(Into::into),
            by: asker.session,
        })
    }

    fn say_to_room(
        &mut self,
        asker: Asker,
        user: Name,
        room: &str,
        words: Words<'_>,
        at: Time,
        out: &mut Outputs,
    ) -> Flow {
        let Some(membership) = self.membership(asker.key, room) else {
            return self.refuse_outsider(&asker, room, out);
        };
        let draft = match self.draft(&asker, &words) {
            Ok(draft) => draft,
            Err(refusal) => return self.refuse_asker(&asker, refusal, None, out),
        };
        let Some(room) = self.room(membership.room) else { return Flow::On };
        if let Some(left) = room.muted_for(&user, at) {
            return self.refuse_asker(&asker, ErrorCode::MUTED.because("you may only listen here"), Some(left), out);
        }
        let order = Order::Say { stream: room.stream, user, draft };
        self.stats.spoken[Spoken::Say as usize] += 1;
        self.order(asker, Then::Posted, order, out)
    }

    fn tell(&mut self, asker: Asker, user: Name, to: Name, words: Words<'_>, out: &mut Outputs) -> Flow {
        let draft = match self.draft(&asker, &words) {
            Ok(draft) => draft,
            Err(refusal) => return self.refuse_asker(&asker, refusal, None, out),
        };
        self.stats.spoken[Spoken::Tell as usize] += 1;
        self.order(asker, Then::Posted, Order::Tell { user, to, draft }, out)
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of a signal")]
    fn signal(
        &mut self,
        asker: &Asker,
        user: Name,
        room: &str,
        data: &RawValue,
        tag: Option<&str>,
        point: Option<Point>,
        at: Time,
        out: &mut Outputs,
    ) -> Flow {
        let Some(membership) = self.membership(asker.key, room) else {
            return self.refuse_outsider(asker, room, out);
        };
        let max = self.terms.chat.data_bytes;
        if data.get().len() > max {
            return self.refuse_asker(asker, too_long("data", max), None, out);
        }
        let Some(room) = self.lobby.rooms.get_mut(membership.room as usize) else { return Flow::On };
        if let Some(left) = room.muted_for(&user, at) {
            return self.refuse_asker(asker, ErrorCode::MUTED.because("you may only listen here"), Some(left), out);
        }
        let mut from_where = point;
        if let Some(grid) = &mut room.grid {
            if let Some(point) = point {
                grid.place(asker.key, point);
            }
            from_where = grid.position(asker.key);
            if from_where.is_none() {
                let refusal = ErrorCode::MISSING_FIELD.because("`at` is missing: in an area say where you are, once");
                return self.refuse_asker(asker, refusal, None, out);
            }
        }
        self.stats.spoken[Spoken::Signal as usize] += 1;
        self.spread_signal(membership.room, asker.key, &user, tag, from_where, data, at, out);
        Flow::On
    }

    /// It isn't in the room; perhaps not yet.
    fn refuse_outsider(&mut self, asker: &Asker, room: &str, out: &mut Outputs) -> Flow {
        if self.chat(asker.key).is_some_and(|chat| chat.carries(room)) {
            let refusal = ErrorCode::BUSY.because("the session is still on its way into this room");
            return self.refuse_asker(asker, refusal, Some(BUSY_RETRY), out);
        }
        self.refuse_asker(asker, ErrorCode::NOT_IN_ROOM.because("join the room first"), None, out)
    }

    /// Whether the session may read what was said there: it must be in the room.
    fn may_read(&mut self, asker: &Asker, place: &Place, out: &mut Outputs) -> Result<(), Flow> {
        match place {
            Place::Room(room) if self.membership(asker.key, room.as_str()).is_none() => {
                Err(self.refuse_outsider(asker, room.as_str(), out))
            }
            Place::Room(_) | Place::User(_) => Ok(()),
        }
    }

    fn who(&mut self, asker: Asker, user: Name, place: Option<Place>, at: Time, out: &mut Outputs) -> Flow {
        match place {
            Some(Place::User(other)) => {
                let users = vec![other];
                let order = Order::MaySee { by: user, users: users.clone() };
                self.order(asker, Then::MaySee(Answering::Who, users), order, out)
            }
            Some(Place::Room(room)) => {
                if self.membership(asker.key, room.as_str()).is_none() {
                    return self.refuse_outsider(&asker, room.as_str(), out);
                }
                self.gather(asker, Answering::Who, Question::Rooms(vec![room]), at, out);
                Flow::On
            }
            None => {
                let rooms = self.rooms_of(asker.key);
                self.gather(asker, Answering::Who, Question::Rooms(rooms), at, out);
                Flow::On
            }
        }
    }

    /// The names of the rooms that a session is in.
    pub(super) fn rooms_of(&self, key: u32) -> Vec<Name> {
        let Some(chat) = self.chat(key) else { return Vec::new() };
        let rooms = chat.rooms.iter().filter_map(|membership| self.room(membership.room));
        rooms.map(|room| room.name.clone()).collect()
    }
}

fn too_long(what: &str, max: usize) -> Refusal {
    ErrorCode::TOO_LONG.because(format!("`{what}` is longer than {max} bytes"))
}
