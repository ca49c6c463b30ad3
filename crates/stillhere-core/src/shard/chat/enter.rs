//! Sessions become users, and cease to be.

use crate::chat::{Chat, Reach};
use crate::close::{Cause, CloseCode};
use crate::event::{Identity, LinkId, Manner, Note, Output, Outputs};
use crate::ledger::{Mailbox, Order, OrderId, Outcome, Proof, Refused};
use crate::name::Name;
use crate::rate::Rate;
use crate::secret::SessionId;
use crate::time::Time;
use crate::wire::ask::Door;
use crate::wire::error::{ErrorCode, Refusal};
use crate::wire::message::RequestId;
use crate::wire::push::Reply;

use super::orders::{Asker, Pending, Then};
use super::{Shard, Word};
use crate::shard::links::{Ending, Fate, Flow};

/// Somebody is a user now.
pub(in crate::shard) struct Entrance {
    pub(in crate::shard) user: Name,
    pub(in crate::shard) verified: bool,
    pub(in crate::shard) mailbox: Mailbox,
}

/// How a hello without a login makes a user.
pub(in crate::shard) enum Arrival {
    /// It doesn't.
    Nobody,
    /// The store is to be asked.
    Ask(Option<Name>, Proof),
}

impl Shard {
    /// Whether a hello that begins a session makes a user of it, and how. `account` is what the session was before.
    pub(in crate::shard) fn arrival(
        &mut self,
        user: Option<&str>,
        token: Option<&str>,
        account: Option<Name>,
    ) -> Result<Arrival, Refusal> {
        let identity = self.terms.identity;
        if let Some(account) = account {
            return Ok(Arrival::Ask(Some(account), Proof::Claim));
        }
        match (token, user) {
            (Some(_), _) if identity.open => {
                Err(ErrorCode::NO_ACCOUNTS.because("names are claims on this server; say hello without a token"))
            }
            (Some(token), _) => Ok(Arrival::Ask(None, Proof::Token { token: token.into() })),
            (None, Some(user)) if identity.open => match Name::user(user) {
                Ok(user) => Ok(Arrival::Ask(Some(user), Proof::Claim)),
                Err(error) => Err(ErrorCode::BAD_NAME.because(error.to_string())),
            },
            (None, _) if identity.guests && !identity.open => {
                let name = format!("guest-{:06x}", self.entropy.below(1 << 24));
                Ok(Arrival::Ask(Some(Name::of_store(name)), Proof::Claim))
            }
            (None, _) => Ok(Arrival::Nobody),
        }
    }

    /// The ops `register`, `login` and `token`.
    pub(super) fn enter(
        &mut self,
        asker: Asker,
        by: Door,
        user: Option<Name>,
        secret: &str,
        remember: bool,
        out: &mut Outputs,
    ) -> Flow {
        if self.terms.identity.open {
            let refusal =
                ErrorCode::NO_ACCOUNTS.because("names are claims on this server; there is nothing to log in to");
            return self.refuse_asker(&asker, refusal, None, out);
        }
        if self.is_somebody(asker.key) {
            return self.refuse_asker(&asker, logged_in(), None, out);
        }
        let secret = secret.into();
        let proof = match by {
            Door::Register => Proof::Register { password: secret },
            Door::Login => Proof::Login { password: secret },
            Door::Token => Proof::Token { token: secret },
        };
        let Some(peer) = self.peer_of(asker.link) else { return Flow::Closed };
        let order = Order::Enter { user, proof, address: peer.ip(), remember };
        self.order(asker, Then::Enter, order, out)
    }

    /// The store has answered a hello that makes a user.
    pub(super) fn hello_answered(
        &mut self,
        link: LinkId,
        order: OrderId,
        outcome: Result<Outcome, Refused>,
        at: Time,
        out: &mut Outputs,
    ) {
        match outcome {
            Ok(Outcome::Entered { user, verified, mailbox, .. }) => {
                let entrance = Entrance { user, verified, mailbox };
                if !self.hello_goes_on(link, order, entrance, at, out) {
                    out.list.push(self.release_order(mailbox.stream));
                }
            }
            Ok(_) => {}
            Err(refused) => self.hello_refused(link, order, refused, at, out),
        }
    }

    /// The store has answered `register`, `login` or `token`.
    pub(super) fn entered(
        &mut self,
        asker: &Asker,
        entrance: Entrance,
        token: Option<&str>,
        at: Time,
        out: &mut Outputs,
    ) {
        if self.is_somebody(asker.key) {
            // It asked twice, and this is the second answer.
            out.list.push(self.release_order(entrance.mailbox.stream));
            self.refuse_asker(asker, logged_in(), None, out);
            return;
        }
        let user = entrance.user.clone();
        let choked_at = self.chat(asker.key).and_then(|chat| chat.choked_at);
        self.drop_chat(asker.key, Cause::Parted, out);
        if let Some(replay) = self.v1_mut(asker.key).and_then(|v1| v1.replay.as_deref_mut()) {
            replay.forget_mail();
        }
        self.become_user(asker.key, entrance, at, out);
        if let Some(chat) = self.chat_mut(asker.key).filter(|_| choked_at.is_some()) {
            chat.choked_at = choked_at;
            self.refresh(asker.key, at, out);
        }
        self.keep(asker.key, out);
        let reply = Reply { user: Some(user.as_str().into()), token: token.map(Into::into), ..Reply::default() };
        self.reply_asker(asker, reply, out);
        self.after_entering(asker.key, at, out);
    }

    /// Whether a session's client is a user that it can't be besides another.
    fn is_somebody(&self, key: u32) -> bool {
        self.chat(key).is_some_and(|chat| chat.verified || !self.terms.identity.guests)
    }

    /// Makes a session's client a user. What follows for others is left to [`Shard::after_entering`].
    pub(in crate::shard) fn become_user(&mut self, key: u32, entrance: Entrance, at: Time, out: &mut Outputs) {
        let Entrance { user, verified, mailbox } = entrance;
        let entered_ms = self.clock.wall_ms();
        let Some(v1) = self.v1_mut(key) else { return };
        v1.user = Some(user.as_str().into());
        v1.chat = Some(Box::new(Chat::new(user.clone(), verified, mailbox, entered_ms)));
        let identity = Identity::V1(v1.id);
        self.add_to_user(key, at, out);
        out.list.push(Output::Note(Note::Entered { identity, user, verified }));
    }

    /// Counts a session among its user's in this shard.
    pub(in crate::shard) fn add_to_user(&mut self, key: u32, at: Time, out: &mut Outputs) {
        let Some(chat) = self.chat(key) else { return };
        let (user, stream) = (chat.user.clone(), chat.mail.mailbox.stream);
        let local = self.lobby.users.entry(user.clone()).or_default();
        local.sessions.push(key);
        local.mailbox = Some(stream);
        self.lobby.by_mailbox.insert(stream, user.clone());
        self.lobby.touched.insert(user);
        self.refresh(key, at, out);
    }

    /// What a new session means for older ones, and what waits for it.
    pub(in crate::shard) fn after_entering(&mut self, key: u32, at: Time, out: &mut Outputs) {
        self.end_all_but_newest(key, at, out);
        self.chase_mail(key, out);
    }

    /// Where a user has one session, this one ends the older ones.
    pub(super) fn end_all_but_newest(&mut self, key: u32, at: Time, out: &mut Outputs) {
        let Some(v1) = self.v1_mut(key) else { return };
        let id = v1.id;
        let Some(chat) = v1.chat.as_deref() else { return };
        let (user, entered_ms) = (chat.user.clone(), chat.entered_ms);
        if self.terms.identity.single {
            self.tell_shards(None, Word::Single { user: user.clone(), session: id, entered_ms }, out);
            self.end_older(&user, id, entered_ms, at, out);
        }
    }

    /// Ends this shard's sessions of a user that are older than the one given.
    pub(super) fn end_older(&mut self, user: &Name, newest: SessionId, entered_ms: u64, at: Time, out: &mut Outputs) {
        for key in self.sessions_of(user) {
            let Some(v1) = self.v1_mut(key) else { continue };
            let Some(chat) = v1.chat.as_deref() else { continue };
            if v1.id != newest && (chat.entered_ms, v1.id.0) < (entered_ms, newest.0) {
                self.end_session(key, CloseCode::LoggedInElsewhere, Cause::Replaced, at, out);
            }
        }
    }

    /// If this shard has a newer session of a user than the one that another shard has told of, that shard hears of it:
    /// one of the two was on its way between shards when the other began.
    pub(super) fn answer_newer(&mut self, user: &Name, than: SessionId, entered_ms: u64, to: u16, out: &mut Outputs) {
        if !self.terms.identity.single {
            return;
        }
        let ages = self.sessions_of(user).into_iter().filter_map(|key| {
            let v1 = self.sessions.get(key as usize)?.v1_part()?;
            Some((v1.chat.as_deref()?.entered_ms, v1.id))
        });
        let newest = ages.max_by_key(|(entered_ms, id)| (*entered_ms, id.0));
        if let Some((newer_ms, session)) = newest.filter(|(ms, id)| (*ms, id.0) > (entered_ms, than.0)) {
            let word = Word::Single { user: user.clone(), session, entered_ms: newer_ms };
            self.tell_shards(Some(to), word, out);
        }
    }

    /// Ends a session for good, with a goodbye if it has a link.
    pub(super) fn end_session(&mut self, key: u32, code: CloseCode, cause: Cause, at: Time, out: &mut Outputs) {
        let Some(session) = self.sessions.get(key as usize) else { return };
        match session.link() {
            Some(link) => {
                let ending =
                    Ending { code: Some(code), cause, manner: Manner::Gently, retry_ms: None, fate: Fate::Forget };
                self.close(link, ending, at, out);
            }
            None => self.finish_unlinked(key, code, cause, false, at, out),
        }
    }

    /// A user's sessions here; a copy, since they may end while one goes through them.
    pub(super) fn sessions_of(&self, user: &Name) -> Vec<u32> {
        self.lobby.users.get(user).map(|local| local.sessions.clone()).unwrap_or_default()
    }

    /// A session is nobody's any more: it ends, or its client becomes somebody else.
    pub(in crate::shard) fn drop_chat(&mut self, key: u32, cause: Cause, out: &mut Outputs) {
        while let Some(membership) = self.chat(key).and_then(|chat| chat.rooms.last().copied()) {
            self.leave_room(key, membership, out);
        }
        self.stop_watching(key);
        let Some(chat) = self.v1_mut(key).and_then(|v1| v1.chat.take()) else { return };
        self.remove_from_user(&chat, key, Some(cause), out);
    }

    /// The session isn't counted among its user's in this shard any more.
    pub(in crate::shard) fn remove_from_user(
        &mut self,
        chat: &Chat,
        key: u32,
        cause: Option<Cause>,
        out: &mut Outputs,
    ) {
        // Whoever hasn't been subscribed yet is released when it is.
        if chat.mail.subscribed {
            out.list.push(self.release_order(chat.mail.mailbox.stream));
        }
        if let Some(local) = self.lobby.users.get_mut(&chat.user) {
            local.sessions.retain(|other| *other != key);
            local.ended = cause;
        }
        self.lobby.touched.insert(chat.user.clone());
    }

    /// What a session has as a user.
    pub(super) fn chat(&self, key: u32) -> Option<&Chat> {
        self.sessions.get(key as usize)?.v1_part()?.chat.as_deref()
    }

    /// The same, to change.
    pub(super) fn chat_mut(&mut self, key: u32) -> Option<&mut Chat> {
        self.v1_mut(key)?.chat.as_deref_mut()
    }

    /// Whether a user's links come and go too often; the wait, if so.
    pub(in crate::shard) fn flaps(&mut self, user: &Name, at: Time) -> bool {
        let per_minute = self.terms.chat.links_per_minute;
        // A rate is so many a second. Each link takes a minute's worth of them, so that the minute's number comes out.
        let rate = Rate { per_second: per_minute, burst: per_minute.saturating_mul(60) };
        per_minute > 0 && self.lobby.flappers.take_n(user.clone(), 60, &rate, at).is_err()
    }

    /// How a session can be reached now.
    pub(super) fn reach_of(&self, key: u32) -> Reach {
        let Some(session) = self.sessions.get(key as usize) else { return Reach::Nowhere };
        let choked = session.v1_part().and_then(|v1| v1.chat.as_deref()).is_some_and(|chat| chat.choked_at.is_some());
        match (session.link(), choked, session.status()) {
            (None, _, _) => Reach::Nowhere,
            (Some(_), true, _) => Reach::Choked,
            (Some(_), false, crate::detector::Status::Alive) => Reach::Now,
            (Some(_), false, _) => Reach::Digest,
        }
    }

    /// A request's id, to be answered later.
    pub(super) fn owned(re: Option<RequestId<'_>>) -> Option<RequestId<'static>> {
        re.map(|re| match re {
            RequestId::Number(number) => RequestId::Number(number),
            RequestId::Text(text) => RequestId::Text(text.into_owned().into()),
        })
    }

    /// Asks the store on behalf of a hello, whose link waits.
    pub(in crate::shard) fn order_for_hello(
        &mut self,
        link: LinkId,
        user: Option<Name>,
        proof: Proof,
        out: &mut Outputs,
    ) -> Option<OrderId> {
        let peer = self.peer_of(link)?;
        let order = Order::Enter { user, proof, address: peer.ip(), remember: false };
        let id = self.next_order(Pending::Hello(link));
        out.list.push(Output::Order { id, order });
        Some(id)
    }
}

fn logged_in() -> Refusal {
    ErrorCode::LOGGED_IN.because("this session is a user already")
}
