//! Who is here: asked of all shards, and put together.

use std::collections::BTreeMap;

use crate::chat::Watch;
use crate::close::Cause;
use crate::detector::Status;
use crate::event::Outputs;
use crate::ledger::Place;
use crate::limits::{QUESTION_TIME, QUESTIONS_MAX};
use crate::name::Name;
use crate::session::Session;
use crate::time::Time;
use crate::wire::error::ErrorCode;
use crate::wire::push::{Presence, Reply};

use super::join::JoinDetails;
use super::orders::{Asker, BUSY_RETRY};
use super::{Shard, Word};

/// What is asked of all shards.
#[derive(Clone, Debug)]
pub enum Question {
    /// Everybody in these rooms.
    Rooms(Vec<Name>),
    /// These users, and in which rooms they are.
    Users(Vec<Name>),
}

/// A user in one shard.
#[derive(Clone, Debug)]
pub struct Row {
    user: Name,
    status: Status,
    cause: Option<Cause>,
    since_ms: u64,
    generation: u64,
    version: u64,
    /// Only for [`Question::Users`].
    rooms: Vec<Name>,
}

/// A question that not all shards have answered.
#[derive(Debug)]
pub(super) struct Gathering {
    asker: Asker,
    answering: Answering,
    outstanding: u16,
    rows: BTreeMap<Name, Row>,
}

/// For what the rows are.
#[derive(Debug)]
pub(super) enum Answering {
    Who,
    Watch,
    Join(Name, JoinDetails),
    /// Of these, those who allow it or share a room.
    Seen {
        watch: bool,
        allowed: Vec<Name>,
    },
}

impl Shard {
    /// Asks all shards and answers the asker when they have answered.
    pub(super) fn gather(
        &mut self,
        asker: Asker,
        answering: Answering,
        question: Question,
        at: Time,
        out: &mut Outputs,
    ) {
        let rows = self.rows(&question);
        let mut gathering =
            Gathering { asker, answering, outstanding: self.lobby.seat.of.max(1) - 1, rows: BTreeMap::new() };
        gathering.add(rows);
        if gathering.outstanding == 0 {
            return self.answer_gathering(gathering, out);
        }
        if self.lobby.gatherings.len() >= QUESTIONS_MAX {
            return self.give_up(gathering, "too many questions to other shards are open", out);
        }
        // Those that were answered needn't be looked at when their time is over.
        while let Some((_, ticket)) = self.lobby.gatherings_due.front()
            && !self.lobby.gatherings.contains_key(ticket)
        {
            self.lobby.gatherings_due.pop_front();
        }
        self.lobby.next_ticket += 1;
        let ticket = self.lobby.next_ticket;
        self.lobby.gatherings.insert(ticket, gathering);
        self.lobby.gatherings_due.push_back((at + QUESTION_TIME, ticket));
        self.tell_shards(None, Word::Question { ticket, question }, out);
    }

    /// One of the others has answered.
    pub(super) fn gathered(&mut self, ticket: u64, rows: Vec<Row>, _at: Time, out: &mut Outputs) {
        let Some(gathering) = self.lobby.gatherings.get_mut(&ticket) else { return };
        gathering.add(rows);
        gathering.outstanding -= 1;
        if gathering.outstanding == 0
            && let Some(gathering) = self.lobby.gatherings.remove(&ticket)
        {
            self.answer_gathering(gathering, out);
        }
    }

    /// A shard that hangs must not let its askers wait for ever.
    pub(super) fn give_up_gatherings(&mut self, at: Time, out: &mut Outputs) {
        while let Some((_, ticket)) = self.lobby.gatherings_due.pop_front_if(|(due, _)| *due <= at) {
            if let Some(gathering) = self.lobby.gatherings.remove(&ticket) {
                self.give_up(gathering, "another part of the server doesn't answer", out);
            }
        }
    }

    /// Not all shards will answer. A join has happened all the same, and is answered without saying who is there.
    fn give_up(&mut self, gathering: Gathering, why: &'static str, out: &mut Outputs) {
        let Gathering { asker, answering, .. } = gathering;
        match answering {
            Answering::Join(room, details) => self.answer_join(&asker, &room, Shard::join_reply(&room, &details), out),
            Answering::Who | Answering::Watch | Answering::Seen { .. } => {
                self.refuse_asker(&asker, ErrorCode::BUSY.because(why), Some(BUSY_RETRY), out);
            }
        }
    }

    /// What a session missed in a room comes behind the answer to its join.
    fn answer_join(&mut self, asker: &Asker, room: &Name, reply: Reply<'_>, out: &mut Outputs) {
        let same = |session: &Session| session.v1_part().is_some_and(|v1| v1.id == asker.session);
        if !self.sessions.get(asker.key as usize).is_some_and(same) {
            return;
        }
        if self.membership(asker.key, room.as_str()).is_none() {
            // What it heard of that came before this answer, and must not be contradicted by it.
            let refusal = ErrorCode::NOT_IN_ROOM.because("you left the room again before this was answered");
            self.refuse_asker(asker, refusal, None, out);
            return;
        }
        self.reply_asker(asker, reply, out);
        self.let_go(asker.key, room.as_str(), out);
    }

    fn answer_gathering(&mut self, gathering: Gathering, out: &mut Outputs) {
        let Gathering { asker, answering, rows, .. } = gathering;
        let roster = self.terms.chat.roster;
        let (base, rows) = match &answering {
            Answering::Join(room, details) => (Shard::join_reply(room, details), rows),
            Answering::Who | Answering::Watch => (Reply::default(), rows),
            Answering::Seen { watch, allowed } => {
                let own = self.rooms_of(asker.key);
                let may = |row: &Row| allowed.contains(&row.user) || row.rooms.iter().any(|room| own.contains(room));
                let rows: BTreeMap<Name, Row> = rows.into_iter().filter(|(_, row)| may(row)).collect();
                if *watch {
                    let watch = |user: &Name| Watch { user: user.clone(), allowed: allowed.contains(user) };
                    let mut watched: Vec<Watch> = rows.keys().map(watch).collect();
                    // Who allows it is watched also while it isn't there.
                    watched.extend(allowed.iter().filter(|user| !rows.contains_key(user.as_str())).map(watch));
                    self.watch(asker.key, &watched);
                }
                (Reply::default(), rows)
            }
        };
        let members = rows.len() as u64;
        let alive = rows.values().filter(|row| row.status == Status::Alive).count() as u64;
        let seen = matches!(answering, Answering::Seen { .. });
        let users = (seen || rows.len() <= roster).then(|| rows.values().map(Row::presence).collect());
        let (members, alive) = if seen { (None, None) } else { (Some(members), Some(alive)) };
        let reply = Reply { members, alive, users, ..base };
        match &answering {
            Answering::Join(room, _) => self.answer_join(&asker, room, reply, out),
            Answering::Who | Answering::Watch | Answering::Seen { .. } => self.reply_asker(&asker, reply, out),
        }
    }

    /// The store has said who allows it; who shares a room is found among the shards.
    pub(super) fn may_see(
        &mut self,
        asker: Asker,
        answering: Answering,
        users: Vec<Name>,
        allowed: Vec<Name>,
        at: Time,
        out: &mut Outputs,
    ) {
        let watch = matches!(answering, Answering::Watch);
        self.gather(asker, Answering::Seen { watch, allowed }, Question::Users(users), at, out);
    }

    /// This shard's answer to a question.
    pub(super) fn rows(&self, question: &Question) -> Vec<Row> {
        match question {
            Question::Users(users) => users.iter().filter_map(|user| self.row(user, true)).collect(),
            Question::Rooms(rooms) => {
                let mut users: Vec<Name> = Vec::new();
                for room in rooms {
                    let index = self.lobby.by_name.get(room.as_str());
                    let Some(room) = index.and_then(|index| self.room(*index)) else { continue };
                    users.extend(room.members.iter().filter_map(|m| Some(self.chat(m.key)?.user.clone())));
                }
                users.sort_unstable();
                users.dedup();
                users.iter().filter_map(|user| self.row(user, false)).collect()
            }
        }
    }

    /// For operators: the users in a room, one user, or all, as far as they have sessions in this shard.
    pub fn users_here(&self, place: Option<&Place>) -> Vec<UserView> {
        let users: Vec<Name> = match place {
            None => self.lobby.users.keys().cloned().collect(),
            Some(Place::User(user)) => vec![user.clone()],
            Some(Place::Room(room)) => {
                self.rows(&Question::Rooms(vec![room.clone()])).into_iter().map(|row| row.user).collect()
            }
        };
        let view = |user: Name| {
            let row = self.row(&user, false)?;
            let sessions = self.sessions_of(&user);
            let verified = sessions.iter().any(|key| self.chat(*key).is_some_and(|chat| chat.verified));
            let Row { status, cause, since_ms, .. } = row;
            Some(UserView { user, verified, status, cause, since_ms, sessions: sessions.len() })
        };
        users.into_iter().filter_map(view).collect()
    }

    fn row(&self, user: &Name, with_rooms: bool) -> Option<Row> {
        let local = self.lobby.users.get(user)?;
        let sessions = local.sessions.iter().filter_map(|key| self.sessions.get(*key as usize));
        let best = sessions.min_by_key(|session| session.status())?;
        let (generation, version) = local.published;
        let rooms = match with_rooms {
            true => local.sessions.iter().flat_map(|key| self.rooms_of(*key)).collect(),
            false => Vec::new(),
        };
        Some(Row {
            user: user.clone(),
            status: best.status(),
            cause: best.cause(),
            since_ms: self.since_ms(best),
            generation,
            version,
            rooms,
        })
    }
}

/// A user in one shard, as an operator sees it.
#[derive(Clone, Debug)]
pub struct UserView {
    /// Who.
    pub user: Name,
    /// Whether that was proven.
    pub verified: bool,
    /// The best of its sessions' statuses.
    pub status: Status,
    /// Why; `None` if it never changed.
    pub cause: Option<Cause>,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// How many sessions it has here.
    pub sessions: usize,
}

impl Gathering {
    /// Of a user in several shards the best counts.
    fn add(&mut self, rows: Vec<Row>) {
        for row in rows {
            match self.rows.get_mut(row.user.as_str()) {
                Some(known) => {
                    let mut rooms = std::mem::take(&mut known.rooms);
                    rooms.extend(row.rooms.iter().cloned());
                    let numbers = (known.generation, known.version).max((row.generation, row.version));
                    if row.status < known.status {
                        *known = row;
                    }
                    known.rooms = rooms;
                    (known.generation, known.version) = numbers;
                }
                None => drop(self.rows.insert(row.user.clone(), row)),
            }
        }
    }
}

impl Row {
    fn presence(&self) -> Presence<'_> {
        Presence {
            op: "".into(),
            room: None,
            user: self.user.as_str().into(),
            status: self.status,
            cause: self.cause,
            since_ms: self.since_ms,
            generation: self.generation,
            version: self.version,
        }
    }
}
