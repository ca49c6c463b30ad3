//! What a peer does for an application that talks: requests under way, and the way back after a new session.
//!
//! Over a reconnect `say` and `tell` with a `mid` are said again, so each is in the history at most once; all other
//! requests end with [`Failed::Lost`]. On a new session the peer logs in again, if the application let it keep the
//! means, and joins its rooms again behind the last message that it has of each.

use std::time::Duration;

use super::RETRY_MAX;
use super::event::{Failed, PeerEvent, PeerOutputs, Recovery, Refused, Ticket};
use super::places::{Novelty, Places, Standing, Where};
use super::{FRAME_BYTES, Session};
use crate::time::Time;
use crate::wire::error::ErrorCode;
use crate::wire::frame::write_frame;
use crate::wire::push::Reply;
use crate::wire::request::{Envelope, Request};

/// Requests under way. A person needs two, a bot that never waits some dozens.
pub const REQUESTS_MAX: usize = 256;
/// Requests that are sent and not answered; the others wait in order. A server refuses more than it has set itself.
pub const SENT_MAX: usize = 32;
/// The bytes of all requests under way: a message that can't be sent now is kept whole.
pub const REQUESTS_BYTES_MAX: usize = 4 << 20;
/// For how long a `say` or `tell` with a `mid` is tried again. A server remembers a mid for 10 minutes; the minute less
/// is for one that dawdles on its way.
pub const SAY_AGAIN: Duration = Duration::from_secs(9 * 60);
/// For how long an answer to another request is waited for on a link that lives. A hashed password takes seconds at
/// worst.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Signals are left out while more than this is unsent: the next one is newer.
pub const SIGNALS_UNSENT_MAX: usize = 64 * 1024;
/// Joins that are under way at once while rooms are joined again.
const JOINS_MAX: usize = 1;
/// The shortest wait before a refused login or join is tried again.
const RECOVERY_PAUSE: Duration = Duration::from_secs(1);
/// What `,"ack":` and its number add to a body.
const ACK_BYTES: usize = 28;

/// The link as it stands during one call of the peer.
pub(super) struct Line<'a> {
    pub(super) now: Time,
    pub(super) is_live: bool,
    pub(super) session: Option<&'a mut Session>,
    pub(super) out: &'a mut PeerOutputs,
}

impl Line<'_> {
    /// Sends a request, with `ack` if there is something to acknowledge.
    fn say(&mut self, body: &str) {
        let ack = self.session.as_deref_mut().and_then(Session::take_ack);
        write_frame(&mut self.out.send, |out| match (ack, body.strip_suffix('}')) {
            (Some(ack), Some(open)) => {
                out.extend_from_slice(open.as_bytes());
                out.extend_from_slice(format!(",\"ack\":{ack}}}").as_bytes());
            }
            _ => out.extend_from_slice(body.as_bytes()),
        });
    }

    fn event(&mut self, event: PeerEvent) {
        self.out.events.push_back(event);
    }

    fn fail(&mut self, ticket: Ticket, why: Failed) {
        self.event(PeerEvent::Reply { ticket, result: Err(Box::new(why)) });
    }

    fn recovery(&mut self, recovery: Recovery) {
        self.event(PeerEvent::Recovery(Box::new(recovery)));
    }
}

/// The parts of a pushed message that decide whether it is new.
#[derive(serde::Deserialize)]
pub(super) struct Pushed<'a> {
    #[serde(borrow, default)]
    room: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default)]
    to: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    from: std::borrow::Cow<'a, str>,
    seq: u64,
    #[serde(borrow, default)]
    mid: Option<std::borrow::Cow<'a, str>>,
    time_ms: u64,
}

pub(super) struct Chat {
    /// Who the session is, as far as the peer knows.
    user: Option<Box<str>>,
    /// Who it was before; another user's conversations are not this one's.
    last_user: Option<Box<str>>,
    key: Option<Key>,
    /// The id of the peer's own login under way.
    entering: Option<i64>,
    /// Recovering pauses until then.
    pause: Time,
    places: Places,
    requests: Vec<Pending>,
    bytes: usize,
    /// The last id of the peer's own requests; they are negative.
    last_id: i64,
    /// The largest body that the server takes.
    frame_bytes: u32,
    /// Messages of others that were pushed once more.
    pub(super) repeated: u64,
}

/// How the peer logs in again.
#[derive(Clone)]
enum Key {
    Password { user: Box<str>, password: Box<str> },
    Token(Box<str>),
}

struct Pending {
    ticket: Ticket,
    /// The request, without an ack.
    body: Box<str>,
    kind: Kind,
    /// The room it is for, which has to be joined first.
    at: Option<Where>,
    is_sent: bool,
    expires: Time,
}

/// What an answer means to the peer itself.
enum Kind {
    Say { at: Where, mid: Option<Box<str>> },
    Enter { key: Option<Key>, keep: bool },
    Password { new: Box<str> },
    Join { room: Box<str>, after: Option<u64>, again: bool, at: Option<[f64; 2]> },
    Part { room: Box<str> },
    Other,
}

impl Kind {
    fn is_lasting(&self) -> bool {
        matches!(self, Kind::Say { mid: Some(_), .. })
    }
}

impl std::fmt::Debug for Chat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chat({:?}, {} requests)", self.user, self.requests.len())
    }
}

impl Chat {
    pub(super) fn new(session: Option<&Session>) -> Chat {
        let user = session.and_then(|session| session.user.clone());
        Chat {
            last_user: user.clone(),
            user,
            key: None,
            entering: None,
            pause: Time::ZERO,
            places: Places::default(),
            requests: Vec::new(),
            bytes: 0,
            last_id: 0,
            frame_bytes: session.map_or(FRAME_BYTES, |session| session.frame_bytes),
            repeated: 0,
        }
    }

    /// When something here wants to be looked at.
    pub(super) fn deadline(&self, is_live: bool) -> Time {
        let expires = self.requests.iter().map(|pending| pending.expires).min().unwrap_or(Time::NEVER);
        if is_live && self.pause != Time::ZERO { expires.min(self.pause) } else { expires }
    }

    pub(super) fn ask(&mut self, ticket: Ticket, request: &Request<'_>, keep: bool, line: &mut Line<'_>) {
        if let Request::Signal { .. } = request {
            return self.signal(request, line);
        }
        let mut kind = kind(request, keep);
        let Ok(body) = serde_json::to_string(&Envelope { request, id: Some(ticket.0) }) else {
            debug_assert!(false, "our own request is serializable");
            return;
        };
        if body.len() + ACK_BYTES > self.frame_bytes as usize {
            return line.fail(ticket, Failed::TooLong);
        }
        if self.requests.len() >= REQUESTS_MAX || self.bytes + body.len() > REQUESTS_BYTES_MAX {
            return line.fail(ticket, Failed::TooMany);
        }
        if !line.is_live && !kind.is_lasting() {
            return line.fail(ticket, Failed::Lost);
        }
        if let Kind::Join { room, after: Some(after), again, .. } = &mut kind {
            *again = self.places.begin(room, *after);
        }
        let expires = line.now + if kind.is_lasting() { SAY_AGAIN } else { ANSWER_TIMEOUT };
        self.bytes += body.len();
        let at = room_of(request).map(Where::room);
        self.requests.push(Pending { ticket, body: body.into(), kind, at, is_sent: false, expires });
        self.go_on(line);
    }

    /// Volatile: it goes now or never.
    fn signal(&mut self, request: &Request<'_>, line: &mut Line<'_>) {
        if let Request::Signal { room, at: Some(at), .. } = request
            && let Where::Room(room) = Where::room(room)
            && let Some(place) = self.places.rooms.get_mut(&room)
        {
            place.at = Some(*at);
        }
        if !line.is_live || line.out.send.len() > SIGNALS_UNSENT_MAX {
            return;
        }
        if let Ok(body) = serde_json::to_string(request)
            && body.len() + ACK_BYTES <= self.frame_bytes as usize
        {
            line.say(&body);
        }
    }

    /// The server said hello.
    pub(super) fn welcomed(&mut self, user: Option<&str>, is_resumed: bool, frame_bytes: u32, line: &mut Line<'_>) {
        self.frame_bytes = frame_bytes;
        self.pause = Time::ZERO;
        if !is_resumed {
            self.user = None;
            self.places.all_out();
        }
        if let Some(user) = user {
            self.became(user);
        }
        self.go_on(line);
    }

    /// The link is gone.
    pub(super) fn unlink(&mut self, line: &mut Line<'_>) {
        self.entering = None;
        self.places.unlink();
        for pending in std::mem::take(&mut self.requests) {
            if pending.kind.is_lasting() {
                self.requests.push(Pending { is_sent: false, ..pending });
            } else {
                self.bytes -= pending.body.len();
                line.fail(pending.ticket, Failed::Lost);
            }
        }
    }

    /// There won't be another link.
    pub(super) fn stop(&mut self, line: &mut Line<'_>) {
        self.key = None;
        self.bytes = 0;
        for pending in std::mem::take(&mut self.requests) {
            line.fail(pending.ticket, Failed::Stopped);
        }
    }

    /// Time passed.
    pub(super) fn run_due(&mut self, line: &mut Line<'_>) {
        if self.requests.iter().any(|pending| pending.expires <= line.now) {
            let (over, rest) = std::mem::take(&mut self.requests).into_iter().partition(|it| it.expires <= line.now);
            self.requests = rest;
            let over: Vec<Pending> = over;
            for pending in over {
                self.bytes -= pending.body.len();
                line.fail(pending.ticket, Failed::Expired);
            }
        }
        if line.is_live && self.pause != Time::ZERO && self.pause <= line.now {
            self.pause = Time::ZERO;
            self.go_on(line);
        }
    }

    /// Sends whatever can be sent by now.
    fn go_on(&mut self, line: &mut Line<'_>) {
        if !line.is_live {
            return;
        }
        if self.pause == Time::ZERO {
            self.recover(line);
        }
        let is_entering = self.user.is_none() && self.key.is_some();
        let mut under_way = self.requests.iter().filter(|pending| pending.is_sent).count();
        for pending in self.requests.iter_mut().filter(|pending| !pending.is_sent) {
            if under_way >= SENT_MAX {
                break;
            }
            let waits_for_login = is_entering && pending.kind.is_lasting();
            let waits_for_room = pending.at.as_ref().is_some_and(|at| self.places.is_away_from(at));
            if waits_for_login || waits_for_room {
                continue;
            }
            line.say(&pending.body);
            pending.is_sent = true;
            under_way += 1;
        }
    }

    /// Logs in again, and then joins again, one after the other.
    fn recover(&mut self, line: &mut Line<'_>) {
        if self.user.is_none() {
            if let (None, Some(key)) = (self.entering, &self.key) {
                self.last_id -= 1;
                let (user, password);
                let request = match key {
                    Key::Token(token) => Request::Token { token },
                    Key::Password { user: name, password: secret } => {
                        (user, password) = (name, secret);
                        Request::Login { user, password, remember: false }
                    }
                };
                say_own(self.last_id, &request, line);
                self.entering = Some(self.last_id);
            }
            return;
        }
        let mut under_way = usize::from(self.places.is_joining());
        while under_way < JOINS_MAX
            && let Some((room, place)) = self.places.next_out()
        {
            self.last_id -= 1;
            say_own(self.last_id, &Request::Join { room, after: Some(place.have), at: place.at }, line);
            place.standing = Standing::Joining(self.last_id);
            under_way += 1;
        }
    }

    fn became(&mut self, user: &str) {
        if self.last_user.as_deref().is_some_and(|last| last != user) {
            self.places = Places::default();
        }
        (self.user, self.last_user) = (Some(user.into()), Some(user.into()));
    }

    /// A reply or refusal came; gives a refusal back that answers nothing of ours.
    pub(super) fn answered(
        &mut self,
        id: i64,
        answer: Result<&str, Refused>,
        line: &mut Line<'_>,
    ) -> Result<(), Refused> {
        if id < 0 {
            self.own_answered(id, answer, line);
            return Ok(());
        }
        let Some(index) = self.requests.iter().position(|it| it.ticket.0 == id && it.is_sent) else {
            return answer.map(drop);
        };
        let pending = self.take(index);
        match answer {
            Ok(body) => {
                self.served(pending.kind, body);
                line.event(PeerEvent::Reply { ticket: pending.ticket, result: Ok(body.into()) });
            }
            Err(refused) => line.fail(pending.ticket, Failed::Refused(refused)),
        }
        self.go_on(line);
        Ok(())
    }

    /// Takes a request that is over from those under way; without any they need no memory.
    fn take(&mut self, index: usize) -> Pending {
        let pending = self.requests.remove(index);
        self.bytes -= pending.body.len();
        if self.requests.is_empty() {
            self.requests = Vec::new();
        }
        pending
    }

    /// What a served request of the application changes here.
    fn served(&mut self, kind: Kind, body: &str) {
        let reply: Reply<'_> = serde_json::from_str(body).unwrap_or_default();
        match kind {
            Kind::Say { at, .. } => {
                if let Some(seq) = reply.seq {
                    self.places.said(at, seq);
                }
            }
            Kind::Enter { key, keep } => {
                let named = match &key {
                    Some(Key::Password { user, .. }) => Some(user.clone()),
                    Some(Key::Token(_)) | None => None,
                };
                if let Some(user) = reply.user.map(|user| user.as_ref().into()).or(named) {
                    self.became(&user);
                }
                if keep {
                    self.key = reply.token.map(|token| Key::Token(token.as_ref().into())).or(key);
                }
            }
            Kind::Password { new } => {
                if let Some(Key::Password { password, .. }) = &mut self.key {
                    *password = new;
                }
            }
            Kind::Join { room, after, again, at } => {
                let room = reply.room.as_deref().unwrap_or(&room);
                self.places.joined(room, after, again, reply.head.unwrap_or(0), at);
            }
            Kind::Part { room } => self.places.parted(&room),
            Kind::Other => {}
        }
    }

    /// An answer to the peer's own login or join.
    fn own_answered(&mut self, id: i64, answer: Result<&str, Refused>, line: &mut Line<'_>) {
        if self.entering == Some(id) {
            self.entering = None;
            self.login_answered(answer, line);
        } else if let Some(room) = self.places.joining(id) {
            self.join_answered(&room, answer, line);
        }
        self.go_on(line);
    }

    fn login_answered(&mut self, answer: Result<&str, Refused>, line: &mut Line<'_>) {
        match answer {
            Ok(body) => {
                let reply: Reply<'_> = serde_json::from_str(body).unwrap_or_default();
                let user: Box<str> = reply.user.as_deref().or(self.last_user.as_deref()).unwrap_or_default().into();
                self.became(&user);
                line.recovery(Recovery::Entered { user });
            }
            Err(refused) if refused.code == ErrorCode::LOGGED_IN.number => {
                let user = self.last_user.clone().unwrap_or_default();
                self.became(&user);
            }
            Err(refused) if refused.temporary => self.pause(refused.retry, line.now),
            Err(refused) => {
                self.key = None;
                line.recovery(Recovery::NotEntered { refused });
            }
        }
    }

    fn join_answered(&mut self, room: &str, answer: Result<&str, Refused>, line: &mut Line<'_>) {
        let Some(place) = self.places.rooms.get_mut(room) else { return };
        place.standing = Standing::Out;
        match answer {
            Ok(body) => {
                place.standing = Standing::In;
                let (room, after) = (room.into(), place.have);
                line.recovery(Recovery::Rejoined { room, after, reply: body.into() });
            }
            Err(refused) if refused.code == ErrorCode::LOGIN_FIRST.number && self.key.is_some() => {
                self.user = None;
                self.pause(None, line.now);
            }
            // 13xx are decisions of people; they may end, but nobody waits at the door for that.
            Err(refused) if refused.temporary && !(1300..1400).contains(&refused.code) => {
                self.pause(refused.retry, line.now);
            }
            Err(refused) => {
                self.places.parted(room);
                line.recovery(Recovery::NotRejoined { room: room.into(), refused });
            }
        }
    }

    fn pause(&mut self, retry: Option<Duration>, now: Time) {
        self.pause = now + retry.unwrap_or_default().clamp(RECOVERY_PAUSE, RETRY_MAX);
    }

    /// A message was pushed; tells whether the application is to see it. An own one that comes by catching up, before
    /// its reply, is that reply.
    pub(super) fn pushed(&mut self, message: &Pushed<'_>, line: &mut Line<'_>) -> bool {
        let is_own = self.user.as_deref() == Some(&*message.from);
        let at = match (&message.room, &message.to) {
            (Some(room), _) => Where::room(room),
            (None, Some(to)) if is_own => Where::user(to),
            (None, _) => Where::user(&message.from),
        };
        let novelty = self.places.pushed(at.clone(), message.seq);
        let is_new = novelty == Novelty::New;
        self.repeated += u64::from(novelty == Novelty::Repeated && !is_own);
        let (true, Some(mid)) = (is_own && is_new, message.mid.as_deref()) else { return is_new };
        let said = |pending: &Pending| matches!(&pending.kind, Kind::Say { at: there, mid: Some(said) } if *there == at && **said == *mid);
        let Some(index) = self.requests.iter().position(said) else { return is_new };
        let pending = self.take(index);
        let (seq, time_ms) = (message.seq, message.time_ms);
        let body = format!(r#"{{"op":"ok","re":{},"seq":{seq},"time_ms":{time_ms}}}"#, pending.ticket.0);
        line.event(PeerEvent::Reply { ticket: pending.ticket, result: Ok(body.into()) });
        false
    }
}

fn say_own(id: i64, request: &Request<'_>, line: &mut Line<'_>) {
    let body = serde_json::to_string(&Envelope { request, id: Some(id) });
    debug_assert!(body.is_ok(), "our own request is serializable");
    if let Ok(body) = body {
        line.say(&body);
    }
}

fn kind(request: &Request<'_>, keep: bool) -> Kind {
    match request {
        Request::Say { room, mid, .. } => Kind::Say { at: Where::room(room), mid: mid.map(Into::into) },
        Request::Tell { user, mid, .. } => Kind::Say { at: Where::user(user), mid: mid.map(Into::into) },
        Request::Register { user, password, .. } | Request::Login { user, password, .. } => {
            Kind::Enter { key: Some(Key::Password { user: (*user).into(), password: (*password).into() }), keep }
        }
        Request::Token { token } => Kind::Enter { key: Some(Key::Token((*token).into())), keep },
        Request::Password { new, .. } => Kind::Password { new: (*new).into() },
        Request::Join { room, after, at } => Kind::Join { room: (*room).into(), after: *after, again: false, at: *at },
        Request::Part { room } => Kind::Part { room: (*room).into() },
        _ => Kind::Other,
    }
}

/// The room that must have been joined for a request to be served.
fn room_of<'a>(request: &Request<'a>) -> Option<&'a str> {
    match request {
        Request::Say { room, .. }
        | Request::Room { room, .. }
        | Request::Role { room, .. }
        | Request::Invite { room, .. }
        | Request::Mute { room, .. }
        | Request::Remove { room, .. } => Some(room),
        Request::History { room, .. }
        | Request::Who { room, .. }
        | Request::Read { room, .. }
        | Request::Delete { room, .. } => *room,
        Request::Register { .. }
        | Request::Login { .. }
        | Request::Token { .. }
        | Request::Password { .. }
        | Request::Join { .. }
        | Request::Part { .. }
        | Request::Tell { .. }
        | Request::Signal { .. }
        | Request::Watch { .. }
        | Request::Unwatch { .. }
        | Request::Block { .. }
        | Request::Unblock { .. }
        | Request::Allow { .. }
        | Request::Disallow { .. } => None,
    }
}
