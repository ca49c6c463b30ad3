//! What legacy and v1 sessions have in common: signs of life, deadlines, and ends.

use std::hash::BuildHasher;
use std::time::Duration;

use crate::close::{Cause, CloseCode};
use crate::event::{Closed, Identity, LinkId, Manner, Mode, Note, Output, Outputs, Peer};
use crate::limits::RETAINED_PART_HELLO;
use crate::session::{Changed, Happening, Heard, Session};
use crate::time::Time;

use super::links::{Ending, Fate, Link, NO_SESSION};
use super::slots::Slots;
use super::{Shard, forget};

/// The smallest step of the clock.
const MOMENT: Duration = Duration::from_micros(1);

impl Shard {
    /// Adds a session and puts it on its link.
    pub(super) fn add_session(&mut self, link: LinkId, session: Session, at: Time, out: &mut Outputs) -> u32 {
        let Some(peer) = self.peer_of(link) else { return NO_SESSION };
        let identity = session.identity(peer);
        self.stats.sessions[session.status() as usize] += 1;
        let user = session.v1_part().and_then(|v1| v1.user.clone());
        let key = self.insert_session(identity, session);
        self.attach(link, key, at);
        out.list.push(Output::Note(Note::Opened { identity, peer, user }));
        key
    }

    /// Adds a session to the slab and to the index of its identity.
    pub(super) fn insert_session(&mut self, identity: Identity, mut session: Session) -> u32 {
        session.armed = super::DISARMED;
        let key = self.sessions.insert(session) as u32;
        let Shard { sessions, links, hasher, by_peer, by_id, .. } = self;
        let index = match identity {
            Identity::Legacy(_) => by_peer,
            Identity::V1(_) => by_id,
        };
        index.insert_unique(hasher.hash_one(identity), key, |&key| {
            // Every session in an index has an identity: legacy ones leave it before their link does.
            identity_of(sessions, links, key).map_or(0, |identity| hasher.hash_one(identity))
        });
        key
    }

    /// Puts a session on a link.
    pub(super) fn attach(&mut self, link: LinkId, key: u32, at: Time) {
        if let Some(link) = self.link_mut(link) {
            link.session = key;
        }
        self.arm_session(key);
        self.arm_link(link, at);
    }

    /// The key of the session with this identity.
    pub(super) fn find(&self, identity: &Identity) -> Option<u32> {
        let index = match identity {
            Identity::Legacy(_) => &self.by_peer,
            Identity::V1(_) => &self.by_id,
        };
        let hash = self.hasher.hash_one(identity);
        index.find(hash, |&key| identity_of(&self.sessions, &self.links, key) == Some(*identity)).copied()
    }

    /// Takes a session out of the slab and its index. `peer` is its link's.
    pub(super) fn take_session(&mut self, key: u32, peer: Peer) -> Option<Session> {
        self.unweigh_replay(key);
        let identity = self.sessions.get(key as usize)?.identity(peer);
        let index = match identity {
            Identity::Legacy(_) => &mut self.by_peer,
            Identity::V1(_) => &mut self.by_id,
        };
        if let Ok(entry) = index.find_entry(self.hasher.hash_one(identity), |&other| other == key) {
            entry.remove();
        }
        self.sessions.remove(key as usize)
    }

    /// A sign of life on a session's link: what time brought before comes first, and in the same instant life wins.
    /// `None` if time had already ended the session.
    pub(super) fn hear(&mut self, key: u32, at: Time, out: &mut Outputs) -> Option<Heard> {
        self.catch_up(key, at - MOMENT, out);
        let session = self.sessions.get_mut(key as usize)?;
        // Time may have cut the link and kept the session; what came on the link came too late.
        session.link()?;
        let heard = session.heard(&self.terms, at);
        self.stats.beat_gap.record(heard.gap);
        self.stats.early_beats += u64::from(heard.early);
        self.stats.false_leaves += u64::from(heard.false_leave);
        self.report(key, heard.changed, out);
        Some(heard)
    }

    /// Brings a session up to `until`.
    pub(super) fn catch_up(&mut self, key: u32, until: Time, out: &mut Outputs) {
        // Each turn moves a deadline on, so this ends; the bound is for the mind's peace.
        while let Some(session) = self.sessions.get_mut(key as usize) {
            let Some(happening) = session.advance(&self.terms, until) else { return };
            match happening {
                Happening::Missed { nth, detected, changed } => {
                    self.stats.misses += 1;
                    if let Some(detected) = detected {
                        self.stats.detection.record(detected);
                    }
                    self.report(key, changed, out);
                    self.missed(key, nth, until, out);
                }
                Happening::Turned(changed) => self.report(key, changed, out),
                Happening::Cut { at } => match session.link() {
                    Some(link) => self.close_link(link, CloseCode::Silent, Manner::Abort, at, out),
                    None => return,
                },
                Happening::Over { at } => self.session_over(key, at, out),
            }
        }
    }

    /// Tells of a change of status.
    pub(super) fn report(&mut self, key: u32, changed: Option<Changed>, out: &mut Outputs) {
        let Some(changed) = changed else { return };
        self.stats.changed(&changed);
        self.refresh(key, changed.change.at, out);
        let Some(identity) = identity_of(&self.sessions, &self.links, key) else { return };
        let user = self.sessions.get(key as usize).and_then(|session| session.v1_part()?.user.clone());
        let Changed { from, change } = changed;
        out.list.push(Output::Note(Note::Changed { identity, user, from, change }));
    }

    /// A session's hold or window is over.
    fn session_over(&mut self, key: u32, at: Time, out: &mut Outputs) {
        let Some(session) = self.sessions.get(key as usize) else { return };
        match session.link() {
            Some(link) => {
                let ending = Ending {
                    code: Some(CloseCode::Silent),
                    cause: Cause::Expired,
                    manner: Manner::Abort,
                    retry_ms: None,
                    fate: Fate::Remember,
                };
                self.close(link, ending, at, out);
            }
            None => self.finish_unlinked(key, CloseCode::ResumeOver, Cause::Expired, true, at, out),
        }
    }

    /// A v1 session has lost its link and waits to be resumed, if there is room for it.
    pub(super) fn retain(&mut self, key: u32, peer: Peer, at: Time, out: &mut Outputs) {
        let limits = &self.terms.limits;
        let address = peer.without_port();
        let of_address = self.retained_by_address.get(&address).map_or(0, |count| *count as usize);
        // Who only said hello has little to come back to, and a flood of such must not take the room of those who have.
        let session = self.sessions.get(key as usize);
        let has_lived =
            session.is_some_and(|session| session.beats > 0 || session.v1_part().is_some_and(|v1| v1.chat.is_some()));
        let part = if has_lived { 1 } else { RETAINED_PART_HELLO };
        let (most, most_of_address) = (limits.retained.div_ceil(part), limits.retained_per_address.div_ceil(part));
        if self.stats.retained as usize >= most || of_address >= most_of_address {
            return self.finish(key, peer, Cause::Limit, has_lived, at, out);
        }
        *self.retained_by_address.entry(address).or_insert(0) += 1;
        self.stats.retained += 1;
        if let Some(session) = self.sessions.get_mut(key as usize) {
            session.unlink(at);
        }
        if let Some(chat) = self.v1_mut(key).and_then(|v1| v1.chat.as_deref_mut()) {
            chat.choked_at = None;
        }
        self.weigh_replay(key);
        self.refresh(key, at, out);
        self.arm_session(key);
    }

    /// A session that was retained is linked again, or gone.
    pub(super) fn release(&mut self, peer: Peer) {
        self.stats.retained -= 1;
        let address = peer.without_port();
        if let Some(count) = self.retained_by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.retained_by_address.remove(&address);
            }
        }
    }

    /// Ends a v1 session that has no link.
    pub(super) fn finish_unlinked(
        &mut self,
        key: u32,
        code: CloseCode,
        cause: Cause,
        remember: bool,
        at: Time,
        out: &mut Outputs,
    ) {
        let Some(session) = self.sessions.get(key as usize) else { return };
        let Some(v1) = session.v1_part() else { return };
        let peer = v1.peer;
        let closed = Closed {
            identity: Some(Identity::V1(v1.id)),
            peer,
            user: v1.user.clone(),
            mode: Mode::V1,
            transport: None,
            code: Some(code),
            cause: Some(cause),
            beats: session.beats,
            bytes_in: 0,
            bytes_out: 0,
            rtt_us: v1.rtt_us,
            opened_at: v1.began_at,
            closed_at: at,
        };
        self.stats.closes[code.index()] += 1;
        self.release(peer);
        self.finish(key, peer, cause, remember, at, out);
        out.list.push(Output::Note(Note::Closed(Box::new(closed))));
    }

    /// Ends a session; `peer` is where its link comes or came from.
    pub(super) fn finish(&mut self, key: u32, peer: Peer, cause: Cause, remember: bool, at: Time, out: &mut Outputs) {
        let keepsake = self.sessions.get(key as usize).and_then(|session| session.keepsake(true));
        self.drop_chat(key, cause, out);
        let Some(mut session) = self.take_session(key, peer) else { return };
        let identity = session.identity(peer);
        self.ended(identity, &mut session, cause, at, out);
        if !remember {
            out.list.extend(forget(identity));
            return;
        }
        out.list.extend(keepsake.clone().map(Output::Keep));
        let max = self.terms.limits.remembered;
        self.remembered.insert(identity, keepsake, at, max, |identity| out.list.extend(forget(identity)));
    }

    fn ended(&mut self, identity: Identity, session: &mut Session, cause: Cause, at: Time, out: &mut Outputs) {
        let changed = session.close(cause, at);
        self.stats.changed(&changed);
        let user = session.v1_part().and_then(|v1| v1.user.clone());
        let Changed { from, change } = changed;
        out.list.push(Output::Note(Note::Changed { identity, user, from, change }));
    }

    /// An operator removes a session.
    pub(super) fn kick(&mut self, identity: Identity, at: Time, out: &mut Outputs) {
        let Some(key) = self.find(&identity) else { return };
        self.stats.kicks += 1;
        match self.sessions.get(key as usize).and_then(Session::link) {
            Some(link) => {
                let ending = Ending {
                    code: Some(CloseCode::Kicked),
                    cause: Cause::Kicked,
                    manner: Manner::Gently,
                    retry_ms: None,
                    fate: Fate::Forget,
                };
                self.close(link, ending, at, out);
            }
            None => self.finish_unlinked(key, CloseCode::Kicked, Cause::Kicked, false, at, out),
        }
    }
}

/// A session's identity; a legacy one's is its link's address.
fn identity_of(sessions: &Slots<Session>, links: &Slots<Link>, key: u32) -> Option<Identity> {
    let session = sessions.get(key as usize)?;
    if let Some(v1) = session.v1_part() {
        return Some(Identity::V1(v1.id));
    }
    let link = links.get(session.link()?.0 as usize)?;
    Some(Identity::Legacy(link.peer))
}
