//! Digests: what sessions on leave get of their rooms, once a period, instead of everything at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::area::Point;
use crate::chat::{Membership, Reach};
use crate::event::Outputs;
use crate::name::Name;
use crate::time::Time;
use crate::wire::push::{Preview, RoomDigest, Signal};

use super::Shard;
use super::deliver::frame_of;
use super::room::{Latest, Room};

/// A digest whose rooms are encoded already.
#[derive(Serialize)]
struct Encoded<'a> {
    op: &'a str,
    rooms: Vec<&'a RawValue>,
}

impl Shard {
    /// Something happened in a room that those on leave will hear of at the end of the period.
    pub(super) fn list_gist(&mut self, index: u32, at: Time) {
        let Some(room) = self.lobby.rooms.get_mut(index as usize) else { return };
        if !std::mem::replace(&mut room.gist.listed, true) {
            self.lobby.gists.push(index);
        }
        if self.lobby.digest_at == Time::NEVER {
            self.lobby.digest_at = at + self.terms.chat.digest;
        }
    }

    /// Tells all who are on leave, in one push each, what happened in their rooms.
    pub(super) fn tell_digests(&mut self, at: Time, out: &mut Outputs) {
        self.lobby.digest_at = Time::NEVER;
        let mut by_session: BTreeMap<u32, Vec<Arc<RawValue>>> = BTreeMap::new();
        for index in std::mem::take(&mut self.lobby.gists) {
            self.flush_room(index, at, out);
            let readers = self.members_with(index, Reach::Digest);
            let Some(room) = self.lobby.rooms.get_mut(index as usize) else { continue };
            room.gist.listed = false;
            let skipped = room.gist.skipped;
            let Some(room) = self.room(index) else { continue };
            let mut told = 0;
            // In an area everybody hears of what is near; elsewhere all hear the same.
            let shared = if room.grid.is_none() { digest_of(room, None, None) } else { None };
            let named = room.gist.users();
            for (key, _) in &readers {
                let position = room.grid.as_ref().and_then(|grid| grid.position(*key));
                // Nobody is told what it did itself.
                let own = self.chat(*key).map(|chat| &chat.user).filter(|user| named.contains(user));
                let part = match (&room.grid, own) {
                    (None, None) => shared.clone(),
                    _ => digest_of(room, position, own),
                };
                if let Some(part) = part {
                    told += part.get().len() as u64;
                    by_session.entry(*key).or_default().push(part);
                }
            }
            self.stats.digest_saved_bytes += (skipped * readers.len() as u64).saturating_sub(told);
            if let Some(room) = self.lobby.rooms.get_mut(index as usize) {
                room.gist.clear();
            }
        }
        // Most are in one room, and their digests are the same.
        let mut last: Option<(Vec<Arc<RawValue>>, Bytes)> = None;
        let mut from = out.targets.len();
        for (key, parts) in by_session {
            let same = last.as_ref().is_some_and(|(known, _)| same_parts(known, &parts));
            if !same {
                if let Some((_, frame)) = last.take() {
                    self.fan(&frame, from, out);
                    from = out.targets.len();
                }
                let frame = frame_of(&Encoded { op: "digest", rooms: parts.iter().map(|part| &**part).collect() });
                last = Some((parts, frame));
            }
            let Some((_, frame)) = &last else { continue };
            let frame = frame.clone();
            self.stats.digests += 1;
            self.stats.digest_bytes += frame.len() as u64;
            out.targets.extend(self.note_push(key, &frame, 1, 0));
        }
        if let Some((_, frame)) = last {
            self.fan(&frame, from, out);
        }
    }

    /// A session is back: it hears at once what the next digest would have told. Its messages follow one by one.
    pub(super) fn last_digest(&mut self, key: u32, membership: Membership, missed: bool, out: &mut Outputs) {
        let Some(room) = self.room(membership.room).filter(|room| missed && !room.gist.is_empty()) else { return };
        let position = room.grid.as_ref().and_then(|grid| grid.position(key));
        let own = self.chat(key).map(|chat| &chat.user);
        let Some(part) = digest_of(room, position, own) else { return };
        let frame = frame_of(&Encoded { op: "digest", rooms: vec![&part] });
        self.stats.digests += 1;
        self.stats.digest_bytes += frame.len() as u64;
        self.push_to(key, &frame, 1, 0, out);
    }
}

fn same_parts(some: &[Arc<RawValue>], others: &[Arc<RawValue>]) -> bool {
    some.len() == others.len() && some.iter().zip(others).all(|(one, other)| Arc::ptr_eq(one, other))
}

/// What happened in a room, as far as it concerns somebody there; `None` if nothing did. What `own` did is left out.
fn digest_of(room: &Room, reader: Option<Point>, own: Option<&Name>) -> Option<Arc<RawValue>> {
    let near = |at: Option<Point>| match (&room.grid, at, reader) {
        (Some(grid), Some(at), Some(reader)) => reader.is_within(grid.radius(), at),
        // Who hasn't said where it is is near nobody.
        (Some(_), _, _) => false,
        (None, _, _) => true,
    };
    let gist = &room.gist;
    let parsed = |latest: &'_ Latest| RawValue::from_string(latest.data.to_string()).ok();
    let near_signals = gist.signals.iter().filter(|latest| near(latest.at) && Some(&latest.from) != own);
    let signals: Vec<(&Latest, Box<RawValue>)> =
        near_signals.filter_map(|latest| Some((latest, parsed(latest)?))).collect();
    let others = gist.presence.iter().filter(|(user, _)| Some(user) != own);
    let presence: Vec<_> = others.filter_map(|(_, text)| serde_json::from_str(text).ok()).collect();
    let digest = RoomDigest {
        room: room.name.as_str().into(),
        count: gist.count,
        head: room.head,
        previews: gist
            .previews
            .iter()
            .map(|preview| Preview {
                seq: preview.seq,
                from: preview.from.as_ref().into(),
                text: preview.text.as_ref().into(),
            })
            .collect(),
        signals: signals
            .iter()
            .map(|(latest, data)| Signal {
                op: "".into(),
                room: None,
                from: latest.from.as_str().into(),
                key: latest.key.as_deref().map(Into::into),
                at: latest.at.map(|point| [point.x(), point.y()]),
                data,
            })
            .collect(),
        presence,
    };
    if digest.count == 0 && digest.signals.is_empty() && digest.presence.is_empty() {
        return None;
    }
    serde_json::value::to_raw_value(&digest).ok().map(Arc::from)
}
