//! What must be right about chat's books after every step. For tests.

use std::collections::BTreeMap;

use super::Shard;
use super::room::gets_digests;
use crate::ledger::StreamId;

impl Shard {
    /// Everything that is kept twice is the same in both places.
    pub(in crate::shard) fn check_books(&self) {
        self.check_unlinked();
        let lobby = &self.lobby;
        let mut members = 0;
        for (index, room) in lobby.rooms.iter() {
            assert_eq!(lobby.by_name.get(&room.name), Some(&(index as u32)), "by_name");
            assert_eq!(lobby.by_stream.get(&room.stream), Some(&(index as u32)), "by_stream");
            assert!(!room.members.is_empty(), "a room without members is none");
            assert_eq!(room.digesting, room.members.iter().filter(|m| gets_digests(m.reach)).count(), "digesting");
            assert_eq!(room.gathering, lobby.gathered.contains(&(index as u32)), "gathering");
            assert_eq!(room.gist.listed, lobby.gists.contains(&(index as u32)), "gists");
            assert!(room.batch.is_empty() || (room.gathering && lobby.flush_at < crate::time::Time::NEVER), "flush");
            assert!(room.gist.is_empty() || room.gist.listed, "a gist is listed");
            for (place, member) in room.members.iter().enumerate() {
                let chat = self.chat(member.key).expect("members are users");
                assert_eq!(member.reach, chat.reach, "reach of member and session");
                let here = chat.rooms.iter().filter(|m| m.room == index as u32);
                assert_eq!(here.map(|m| m.place).collect::<Vec<_>>(), [place as u32], "place");
                members += 1;
            }
        }
        assert_eq!(lobby.by_name.len(), lobby.rooms.len());
        assert_eq!(lobby.by_stream.len(), lobby.rooms.len());
        let mut users = 0;
        for (key, session) in self.sessions.iter() {
            let Some(chat) = session.v1_part().and_then(|v1| v1.chat.as_deref()) else { continue };
            let key = key as u32;
            users += 1;
            members -= chat.rooms.len();
            assert_eq!(chat.reach, self.reach_of(key), "reach is what it should be");
            let local = lobby.users.get(&chat.user).expect("a user of the shard");
            assert_eq!(local.sessions.iter().filter(|other| **other == key).count(), 1, "counted once");
            assert_eq!(lobby.by_mailbox.get(&chat.mail.mailbox.stream), Some(&chat.user));
            for watch in &chat.watching {
                assert!(lobby.watchers.get(&watch.user).is_some_and(|keys| keys.contains(&key)), "watchers");
            }
        }
        assert_eq!(members, 0, "every membership has its member");
        assert_eq!(lobby.users.values().map(|local| local.sessions.len()).sum::<usize>(), users, "sessions of users");
        assert!(lobby.users.values().all(|local| !local.sessions.is_empty()), "users are here");
        assert_eq!(lobby.by_mailbox.len(), lobby.users.len(), "mailboxes");
        for (user, keys) in &lobby.watchers {
            assert!(!keys.is_empty());
            for key in keys {
                assert!(self.chat(*key).is_some_and(|chat| chat.watching.iter().any(|w| w.user == *user)), "watching");
            }
        }
        assert!(lobby.touched.is_empty(), "nobody's standing waits");
        for (name, shards) in &lobby.afar {
            assert!(!shards.is_empty() && !lobby.by_name.contains_key(name), "afar is what isn't here");
        }
    }

    /// How often the store must count this shard for each stream, when nothing is under way.
    pub(in crate::shard) fn subscriptions(&self) -> BTreeMap<StreamId, i64> {
        let mut counts = BTreeMap::new();
        for (_, session) in self.sessions.iter() {
            let Some(chat) = session.v1_part().and_then(|v1| v1.chat.as_deref()) else { continue };
            *counts.entry(chat.mail.mailbox.stream).or_default() += i64::from(chat.mail.subscribed);
            for membership in &chat.rooms {
                if let Some(room) = self.room(membership.room) {
                    *counts.entry(room.stream).or_default() += 1;
                }
            }
        }
        counts
    }

    /// Nothing is left.
    pub(in crate::shard) fn check_nobody(&self) {
        let lobby = &self.lobby;
        let left = [
            ("rooms", lobby.rooms.len()),
            ("by_name", lobby.by_name.len()),
            ("by_stream", lobby.by_stream.len()),
            ("afar", lobby.afar.len()),
            ("users", lobby.users.len()),
            ("by_mailbox", lobby.by_mailbox.len()),
            ("homes", lobby.homes.len()),
            ("untold", lobby.untold.len()),
            ("watchers", lobby.watchers.len()),
            ("orders", lobby.orders.len()),
            ("gatherings", lobby.gatherings.len()),
            ("gathered", lobby.gathered.len()),
            ("gists", lobby.gists.len()),
            ("retries", lobby.retries.len()),
            ("choked", lobby.choked.len()),
            ("waiting", self.waiting.len()),
        ];
        assert_eq!(left.iter().filter(|(_, len)| *len > 0).collect::<Vec<_>>(), Vec::<&(&str, usize)>::new());
    }
}
