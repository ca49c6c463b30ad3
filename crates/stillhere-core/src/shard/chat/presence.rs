//! Presence: what a user's status is, over all its sessions in all shards, and who is told when it changes.
//!
//! Each user has a home shard, found by its name. Shards tell a user's home how its sessions are with them; the home
//! takes the best, numbers the changes, lets them out at most once a second, and tells all shards, which tell those of
//! their sessions who share a room with the user or watch it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::chat::{Reach, Watch};
use crate::close::Cause;
use crate::detector::Status;
use crate::event::Outputs;
use crate::ledger::StreamId;
use crate::limits::{PRESENCE_SPACING, WATCHING_MAX};
use crate::name::Name;
use crate::rate::Bucket;
use crate::session::Session;
use crate::time::Time;
use crate::wire::push::Presence;

use super::deliver::frame_of;
use super::{Shard, Word};

/// A user, as far as it has sessions in this shard.
#[derive(Debug, Default)]
pub(super) struct LocalUser {
    pub(super) sessions: Vec<u32>,
    pub(super) mailbox: Option<StreamId>,
    /// What its home was told last.
    told: Option<Standing>,
    /// The newest presence that its home has let out.
    pub(super) published: (u64, u64),
    /// Why the last session ended; `None` if it went to another shard.
    pub(super) ended: Option<Cause>,
    pub(super) messages: Bucket,
}

/// How a user's sessions in one shard are: the best of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    status: Status,
    cause: Option<Cause>,
    /// On the wall clock, in milliseconds since 1970.
    since_ms: u64,
    /// All rooms that a session of it here is in, in order.
    rooms: Arc<[Name]>,
}

/// What a user's home knows.
#[derive(Debug)]
pub(super) struct Home {
    /// By shard.
    standings: Vec<(u16, Standing)>,
    generation: u64,
    version: u64,
    published: Option<Standing>,
    published_at: Time,
    /// Whether that it is gone was the last thing told. It stays for a while, for the spacing and for greater numbers.
    is_gone: bool,
    /// Rooms in which it was since then: who asked for a roster meanwhile has seen it there.
    passed: Vec<Name>,
    /// Whether it stands in the queue of those to be told later.
    queued: bool,
    /// Why its last session ended.
    ended: Option<Cause>,
}

/// A change of a user's presence, on its way to all shards.
#[derive(Clone, Debug)]
pub struct PresenceNews {
    user: Name,
    generation: u64,
    version: u64,
    status: Status,
    cause: Option<Cause>,
    since_ms: u64,
    rooms: Arc<[Name]>,
    /// Rooms in which it was and isn't any more.
    parted: Vec<Name>,
    /// Rooms in which it is new.
    entered: Vec<Name>,
    /// Whether more than its rooms changed.
    changed: bool,
}

impl Shard {
    fn home_of(&self, user: &Name) -> u16 {
        let mut hasher = DefaultHasher::new();
        user.hash(&mut hasher);
        (hasher.finish() % u64::from(self.lobby.seat.of.max(1))) as u16
    }

    /// Tells the homes of users whose sessions have changed.
    pub(super) fn tell_standings(&mut self, at: Time, out: &mut Outputs) {
        if self.lobby.touched.is_empty() {
            return;
        }
        for user in std::mem::take(&mut self.lobby.touched) {
            let standing = self.standing_of(&user);
            let Some(local) = self.lobby.users.get_mut(&user) else { continue };
            let gone = local.sessions.is_empty();
            let ended = local.ended.take();
            if gone {
                if let Some(stream) = local.mailbox {
                    self.lobby.by_mailbox.remove(&stream);
                }
                self.lobby.users.remove(&user);
            } else if same(local.told.as_ref(), standing.as_ref()) {
                continue;
            } else {
                local.told.clone_from(&standing);
            }
            let home = self.home_of(&user);
            if home == self.lobby.seat.index {
                self.home_hears(home, user, standing, ended, at, out);
            } else {
                self.tell_shards(Some(home), Word::Standing { user, standing, ended }, out);
            }
        }
    }

    fn standing_of(&self, user: &Name) -> Option<Standing> {
        let local = self.lobby.users.get(user)?;
        let sessions = local.sessions.iter().filter_map(|key| self.sessions.get(*key as usize));
        let best = sessions.min_by_key(|session| session.status())?;
        let since_ms = self.since_ms(best);
        let mut rooms: Vec<Name> = local.sessions.iter().flat_map(|key| self.rooms_of(*key)).collect();
        rooms.sort_unstable();
        rooms.dedup();
        Some(Standing { status: best.status(), cause: best.cause(), since_ms, rooms: rooms.into() })
    }

    /// Since when a session is as it is, on the wall clock.
    pub(super) fn since_ms(&self, session: &Session) -> u64 {
        let began_at = session.v1_part().map_or(Time::ZERO, |v1| v1.began_at);
        let since = session.history().last().map_or(began_at, |change| change.at);
        let ago = self.time_at(self.clock.now).since(since);
        self.clock.wall_ms().saturating_sub(ago.as_millis() as u64)
    }

    /// This shard is a user's home, and hears how its sessions are in another or in this one.
    pub(super) fn home_hears(
        &mut self,
        from: u16,
        user: Name,
        standing: Option<Standing>,
        ended: Option<Cause>,
        at: Time,
        out: &mut Outputs,
    ) {
        let wall_ms = self.clock.wall_ms();
        if standing.is_none() && !self.lobby.homes.contains_key(&user) {
            return;
        }
        let moved = standing.is_none() && ended.is_none();
        let home = self.lobby.homes.entry(user.clone()).or_insert_with(|| Home {
            standings: Vec::new(),
            generation: wall_ms,
            version: 0,
            published: None,
            is_gone: false,
            published_at: Time::ZERO,
            passed: Vec::new(),
            queued: false,
            ended: None,
        });
        for (_, before) in home.standings.extract_if(.., |(shard, _)| *shard == from) {
            home.passed.extend(before.rooms.iter().cloned());
        }
        home.passed.sort_unstable();
        home.passed.dedup();
        home.standings.extend(standing.map(|standing| (from, standing)));
        home.ended = ended.or(home.ended);
        if home.queued {
            return;
        }
        let mut due = home.published_at + PRESENCE_SPACING;
        if moved && home.standings.is_empty() {
            // Its session is on its way to another shard, which will tell in a moment.
            due = at + PRESENCE_SPACING;
        }
        if home.published.is_none() || due <= at {
            self.publish(&user, at, out);
        } else {
            home.queued = true;
            self.lobby.untold.push_back((due, user));
        }
    }

    /// Lets out what had to wait.
    pub(super) fn tell_presence(&mut self, at: Time, out: &mut Outputs) {
        while let Some((_, user)) = self.lobby.untold.pop_front_if(|(due, _)| *due <= at) {
            let Some(home) = self.lobby.homes.get_mut(&user) else { continue };
            home.queued = false;
            if home.is_gone && home.standings.is_empty() {
                self.lobby.homes.remove(&user);
            } else {
                self.publish(&user, at, out);
            }
        }
    }

    fn publish(&mut self, user: &Name, at: Time, out: &mut Outputs) {
        let wall_ms = self.clock.wall_ms();
        let Some(home) = self.lobby.homes.get_mut(user) else { return };
        let best = home.standings.iter().map(|(_, standing)| standing).min_by_key(|standing| standing.status);
        let gone = best.is_none();
        let mut now = match best {
            Some(best) => best.clone(),
            None => Standing {
                status: Status::Close,
                cause: home.ended.or(Some(Cause::Goodbye)),
                since_ms: wall_ms,
                rooms: Arc::from([]),
            },
        };
        if home.standings.len() > 1 {
            let mut rooms: Vec<Name> =
                home.standings.iter().flat_map(|(_, standing)| standing.rooms.iter().cloned()).collect();
            rooms.sort_unstable();
            rooms.dedup();
            now.rooms = rooms.into();
        }
        let none: Arc<[Name]> = Arc::from([]);
        let before = home.published.as_ref().map_or(&none, |standing| &standing.rooms);
        let passed = std::mem::take(&mut home.passed);
        let mut parted: Vec<Name> =
            before.iter().chain(&passed).filter(|room| !now.rooms.contains(room)).cloned().collect();
        parted.sort_unstable();
        parted.dedup();
        let entered: Vec<Name> = now.rooms.iter().filter(|room| !before.contains(room)).cloned().collect();
        if home.is_gone && !gone {
            (home.generation, home.version) = (wall_ms.max(home.generation + 1), 0);
        }
        let changed = home.published.as_ref().is_none_or(|then| (then.status, then.cause) != (now.status, now.cause))
            || home.is_gone != gone;
        if !changed && parted.is_empty() && entered.is_empty() {
            return;
        }
        home.version += 1;
        home.published_at = at;
        let news = Arc::new(PresenceNews {
            user: user.clone(),
            generation: home.generation,
            version: home.version,
            status: now.status,
            cause: now.cause,
            since_ms: now.since_ms,
            rooms: now.rooms.clone(),
            parted,
            entered,
            changed,
        });
        home.published = Some(now);
        (home.is_gone, home.ended) = (gone, None);
        if gone {
            home.queued = true;
            self.lobby.untold.push_back((at + PRESENCE_SPACING, user.clone()));
        }
        self.tell_shards(None, Word::Presence(Arc::clone(&news)), out);
        self.presence_changed(&news, at, out);
    }

    /// A user's home has let out a change: tells those here whom it concerns.
    pub(super) fn presence_changed(&mut self, news: &PresenceNews, at: Time, out: &mut Outputs) {
        let own = match self.lobby.users.get_mut(&news.user) {
            Some(local) => {
                local.published = (news.generation, news.version);
                local.sessions.clone()
            }
            None => Vec::new(),
        };
        let gone = news.status == Status::Close;
        let told: &[Name] = if news.changed && !gone { &news.rooms } else { &news.entered };
        let rooms = told.iter().map(|room| (room, false)).chain(news.parted.iter().map(|room| (room, true)));
        for (room, parted) in rooms {
            let Some(index) = self.lobby.by_name.get(room.as_str()).copied() else { continue };
            let roster = self.terms.chat.roster;
            let Some(room) = self.lobby.rooms.get_mut(index as usize) else { continue };
            if room.members.len() > roster {
                continue;
            }
            let (status, cause) = match (parted, gone) {
                (true, false) => (Status::Close, Some(Cause::Parted)),
                (false, _) if !news.changed => (news.status, Some(Cause::Joined)),
                _ => (news.status, news.cause),
            };
            let mut presence = Presence {
                op: "presence".into(),
                room: Some(room.name.as_str().into()),
                user: news.user.as_str().into(),
                status,
                cause,
                since_ms: news.since_ms,
                generation: news.generation,
                version: news.version,
            };
            let frame = frame_of(&presence);
            room.batch.add_volatile(&frame, own.iter().copied());
            if room.digesting > 0 {
                (presence.op, presence.room) = ("".into(), None);
                let text = serde_json::to_string(&presence).unwrap_or_default();
                room.gist.add_presence(&news.user, text.into());
                self.list_gist(index, at);
            }
            self.gathers(index, at);
        }
        if news.changed {
            self.tell_watchers(news, out);
        }
        self.stats.presence += 1;
    }

    fn tell_watchers(&mut self, news: &PresenceNews, out: &mut Outputs) {
        let Some(keys) = self.lobby.watchers.get(&news.user).cloned() else { return };
        let frame = frame_of(&Presence {
            op: "presence".into(),
            room: None,
            user: news.user.as_str().into(),
            status: news.status,
            cause: news.cause,
            since_ms: news.since_ms,
            generation: news.generation,
            version: news.version,
        });
        let from = out.targets.len();
        for key in keys {
            let Some(chat) = self.chat(key).filter(|chat| matches!(chat.reach, Reach::Now | Reach::Digest)) else {
                continue;
            };
            let allowed = chat.watching.iter().any(|watch| watch.user == news.user && watch.allowed);
            let shares = |room: &Name| self.membership(key, room.as_str()).is_some();
            if allowed || news.rooms.iter().any(shares) || news.parted.iter().any(shares) {
                out.targets.extend(self.note_push(key, &frame, 1, 0));
            }
        }
        self.fan(&frame, from, out);
    }

    /// A session wants to hear of these from now on.
    pub(super) fn watch(&mut self, key: u32, users: &[Watch]) {
        let Some(chat) = self.chat_mut(key) else { return };
        let mut watched = Vec::new();
        for watch in users {
            chat.watching.retain(|known| known.user != watch.user);
            // Several requests may have been under way.
            if chat.watching.len() < WATCHING_MAX {
                chat.watching.push(watch.clone());
                watched.push(watch);
            }
        }
        for watch in watched {
            let keys = self.lobby.watchers.entry(watch.user.clone()).or_default();
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }

    pub(super) fn unwatch(&mut self, key: u32, users: &[Name]) {
        if let Some(chat) = self.chat_mut(key) {
            chat.watching.retain(|watch| !users.contains(&watch.user));
        }
        for user in users {
            if let Some(keys) = self.lobby.watchers.get_mut(user) {
                keys.retain(|other| *other != key);
                if keys.is_empty() {
                    self.lobby.watchers.remove(user);
                }
            }
        }
    }

    /// A session watches nobody here any more.
    pub(super) fn stop_watching(&mut self, key: u32) {
        let Some(chat) = self.chat(key) else { return };
        let users: Vec<Name> = chat.watching.iter().map(|watch| watch.user.clone()).collect();
        self.unwatch(key, &users);
    }
}

/// Whether a user's home needn't hear of it: the moment of the same change is computed anew each time.
fn same(some: Option<&Standing>, other: Option<&Standing>) -> bool {
    let telling = |standing: &Standing| (standing.status, standing.cause, Arc::clone(&standing.rooms));
    some.map(telling) == other.map(telling)
}
