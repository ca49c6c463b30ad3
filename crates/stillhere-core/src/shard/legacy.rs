//! The tutorial's clients: a session begins with the first beat, is known by its link's address, and ends with the
//! link. Not a byte is ever written to them.

use std::num::NonZeroU32;

use crate::close::{Cause, CloseCode};
use crate::event::{Identity, LinkId, Manner, Mode, Outputs};
use crate::limits::LABEL_BYTES_MAX;
use crate::session::{LabelsRef, Session};
use crate::stats::Refused;
use crate::text::clip;
use crate::time::Time;
use crate::wire::legacy::{LegacyBeat, LegacyPid, LegacyStatus};

use super::Shard;
use super::links::{Ending, Fate, Flow};

impl Shard {
    pub(super) fn legacy_begins(&mut self, id: LinkId, beat: &LegacyBeat<'_>, at: Time, out: &mut Outputs) -> Flow {
        if !self.terms.legacy {
            self.stats.refused[Refused::Legacy as usize] += 1;
            self.close_link(id, CloseCode::Version, Manner::AtOnce, at, out);
            return Flow::Closed;
        }
        let Some(peer) = self.peer_of(id) else { return Flow::Closed };
        let identity = Identity::Legacy(peer);
        if let Some(key) = self.find(&identity) {
            return self.legacy_moves(id, key, beat, at, out);
        }
        let returned = self.remembered.take(&identity).is_some();
        self.set_mode(id, Mode::Legacy);
        let session = Session::legacy(&self.terms, id, at, returned);
        let key = self.add_session(id, session, at, out);
        self.after_beat(id, key, Some(beat), at, out)
    }

    /// The same address and port on a new link, while the old one hasn't noticed its end: the new link takes over.
    fn legacy_moves(&mut self, id: LinkId, key: u32, beat: &LegacyBeat<'_>, at: Time, out: &mut Outputs) -> Flow {
        if let Some(old) = self.sessions.get(key as usize).and_then(Session::link) {
            self.close(old, Ending::replaced(), at, out);
        }
        self.set_mode(id, Mode::Legacy);
        let changed = self.sessions.get_mut(key as usize).and_then(|session| session.relink(id, at));
        self.attach(id, key, at);
        self.report(key, changed, out);
        self.legacy_beat(id, key, Some(beat), at, out)
    }

    /// A beat on a legacy link; `None` for one of length 0.
    pub(super) fn legacy_beat(
        &mut self,
        id: LinkId,
        key: u32,
        beat: Option<&LegacyBeat<'_>>,
        at: Time,
        out: &mut Outputs,
    ) -> Flow {
        if self.hear(key, at, out).is_none() {
            return Flow::Closed;
        }
        self.after_beat(id, key, beat, at, out)
    }

    fn after_beat(&mut self, id: LinkId, key: u32, beat: Option<&LegacyBeat<'_>>, at: Time, out: &mut Outputs) -> Flow {
        self.stats.beats[Mode::Legacy as usize] += 1;
        let Some(session) = self.sessions.get_mut(key as usize) else { return Flow::Closed };
        session.beats += 1;
        let Some(beat) = beat else { return Flow::On };
        let away = beat.status == LegacyStatus::Leave;
        let changed = if away != session.declared() { session.declare(away, at) } else { None };
        self.label(id, key, beat);
        self.report(key, changed, out);
        if beat.status == LegacyStatus::Close {
            let ending = Ending {
                code: None,
                cause: Cause::Goodbye,
                manner: Manner::AtOnce,
                retry_ms: None,
                fate: Fate::Remember,
            };
            self.close(id, ending, at, out);
            return Flow::Closed;
        }
        Flow::On
    }

    fn label(&mut self, id: LinkId, key: u32, beat: &LegacyBeat<'_>) {
        let Some(peer) = self.peer_of(id) else { return };
        let Some(session) = self.sessions.get_mut(key as usize) else { return };
        let ip = clip(&beat.ip, LABEL_BYTES_MAX);
        let own_address = ip.parse::<std::net::IpAddr>().is_ok_and(|ip| ip == peer.ip());
        let ip = (!own_address).then_some(ip);
        match &beat.pid {
            None => session.label(None, LabelsRef { ip, pid: None }),
            Some(LegacyPid::Text(text)) => {
                session.label(None, LabelsRef { ip, pid: Some(clip(text, LABEL_BYTES_MAX)) });
            }
            Some(LegacyPid::Number(number)) => match u32::try_from(*number).ok().and_then(NonZeroU32::new) {
                Some(pid) => session.label(Some(pid), LabelsRef { ip, pid: None }),
                None => session.label(None, LabelsRef { ip, pid: Some(&number.to_string()) }),
            },
        }
    }

    /// A legacy link says hello: the old session ends, and the link starts again as v1.
    pub(super) fn legacy_becomes_v1(&mut self, id: LinkId, key: u32, at: Time, out: &mut Outputs) {
        let Some(peer) = self.peer_of(id) else { return };
        if let Some(link) = self.link_mut(id) {
            link.session = super::links::NO_SESSION;
            // The wait for a hello begins anew.
            link.opened_at = at;
        }
        self.set_mode(id, Mode::V1);
        self.finish(key, peer, Cause::Replaced, true, at, out);
        self.arm_link(id, at);
    }
}
