//! What an operator sees of a shard: copies, made in small steps so that no listing holds a shard up.

use std::net::IpAddr;
use std::time::Duration;

use crate::close::Cause;
use crate::detector::Status;
use crate::event::{Change, Identity, Mode, Peer, Transport};
use crate::session::Session;
use crate::time::Time;

use super::Shard;

/// Which sessions are wanted; all conditions must hold.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only of this status.
    pub status: Option<Status>,
    /// Only from this address (and this port, unless it is 0).
    pub peer: Option<(IpAddr, u16)>,
    /// Only of this user.
    pub user: Option<Box<str>>,
}

/// One step of a listing.
#[derive(Debug, Default)]
pub struct Page {
    /// The sessions found, in the order of their keys.
    pub sessions: Vec<SessionView>,
    /// How many of the places looked at hold a session that is wanted.
    pub matching: usize,
    /// The key to go on from; `None` at the end.
    pub next: Option<usize>,
}

/// A copy of what is to be known of a session. All times are the shard's.
#[derive(Clone, Debug)]
pub struct SessionView {
    /// Its place in the shard, by which a listing goes on.
    pub key: usize,
    /// Who.
    pub identity: Identity,
    /// Where its link comes or came from.
    pub peer: Peer,
    /// Under which name.
    pub user: Option<Box<str>>,
    /// What kind of client.
    pub client: Option<Box<str>>,
    /// What it speaks.
    pub mode: Mode,
    /// Whether it has a link.
    pub linked: bool,
    /// What carries its link.
    pub transport: Option<Transport>,
    /// Its status.
    pub status: Status,
    /// Why.
    pub cause: Option<Cause>,
    /// Since when.
    pub since: Time,
    /// The detector's cursor.
    pub cursor: u8,
    /// The detector's strikes.
    pub strikes: u8,
    /// Valid beats.
    pub beats: u64,
    /// The last sign of life.
    pub heard_at: Time,
    /// The interval.
    pub interval: Duration,
    /// The last round trip measured, in microseconds.
    pub rtt_us: Option<u32>,
    /// How long after its last frame it is on leave if silent.
    pub detect: Duration,
    /// When that will be; `None` if it is on leave already, or without a link.
    pub leave_due: Option<Time>,
    /// A legacy client's process.
    pub pid: Option<Pid>,
    /// What a legacy client takes for its address, if that isn't where it comes from.
    pub ip: Option<Box<str>>,
    /// How many links it has had; 0 for legacy.
    pub generation: u32,
    /// Received on its link.
    pub bytes_in: u64,
    /// Sent on its link.
    pub bytes_out: u64,
    /// Its last changes of status, oldest first.
    pub history: Vec<Change>,
}

/// A process id as a legacy client wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pid {
    /// A number.
    Number(i64),
    /// Text.
    Text(Box<str>),
}

impl Shard {
    /// One step of a listing: looks at up to `look` places from `from` on, copies the sessions wanted, and stops after
    /// `copy` of them. With `copy` 0 it only counts.
    pub fn page(&self, filter: &Filter, from: usize, look: usize, copy: usize) -> Page {
        let mut page = Page::default();
        let places = self.sessions.places();
        let end = from.saturating_add(look).min(places);
        for key in from..end {
            let Some(session) = self.sessions.get(key) else { continue };
            let Some(peer) = self.peer_of_session(session) else { continue };
            if !filter.wants(session, peer) {
                continue;
            }
            page.matching += 1;
            if copy > 0 {
                page.sessions.push(self.view(key, session, peer));
                if page.sessions.len() == copy {
                    page.next = (key + 1 < places).then_some(key + 1);
                    return page;
                }
            }
        }
        page.next = (end < places).then_some(end);
        page
    }

    /// The place of a session in the listing.
    pub fn place(&self, identity: &Identity) -> Option<usize> {
        self.find(identity).map(|key| key as usize)
    }

    fn peer_of_session(&self, session: &Session) -> Option<Peer> {
        match session.v1_part() {
            Some(v1) => Some(v1.peer),
            None => self.peer_of(session.link()?),
        }
    }

    fn view(&self, key: usize, session: &Session, peer: Peer) -> SessionView {
        let rule = &self.terms.rule;
        let watch = session.watch();
        let link = session.link().and_then(|link| self.link(link));
        let v1 = session.v1_part();
        let labels = session.labels();
        let began_at = v1.map(|v1| v1.began_at).or(link.map(|link| link.opened_at)).unwrap_or_default();
        let number = session.pid().map(|pid| Pid::Number(i64::from(pid.get())));
        let text = labels.and_then(|labels| labels.pid.clone()).map(|text| match text.parse() {
            Ok(number) => Pid::Number(number),
            Err(_) => Pid::Text(text),
        });
        SessionView {
            key,
            identity: session.identity(peer),
            peer,
            user: v1.and_then(|v1| v1.user.clone()),
            client: v1.and_then(|v1| v1.client.clone()),
            mode: session.mode(),
            linked: link.is_some(),
            transport: link.map(|link| link.traits.transport()),
            status: session.status(),
            cause: session.cause(),
            since: session.history().last().map_or(began_at, |change| change.at),
            cursor: watch.detector().cursor(),
            strikes: watch.detector().strikes(),
            beats: session.beats,
            heard_at: watch.heard_at(),
            interval: watch.interval(),
            rtt_us: v1.and_then(|v1| v1.rtt_us),
            detect: watch.detect(rule),
            leave_due: link.and_then(|_| watch.leave_due(rule)),
            pid: number.or(text),
            ip: labels.and_then(|labels| labels.ip.clone()),
            generation: v1.map_or(0, |v1| v1.generation),
            bytes_in: link.map_or(0, |link| link.bytes_in),
            bytes_out: link.map_or(0, |link| link.bytes_out),
            history: session.history().to_vec(),
        }
    }
}

impl Filter {
    fn wants(&self, session: &Session, peer: Peer) -> bool {
        let status = self.status.is_none_or(|status| status == session.status());
        let address = self.peer.is_none_or(|(ip, port)| {
            let socket = peer.socket();
            socket.ip() == ip && (port == 0 || socket.port() == port)
        });
        let user = self.user.as_deref();
        let named = user.is_none() || session.v1_part().is_some_and(|v1| v1.user.as_deref() == user);
        status && address && named
    }
}
