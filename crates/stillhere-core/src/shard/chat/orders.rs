//! What the store was asked, and what its answers mean.

use std::time::Duration;

use crate::area::Point;
use crate::event::{LinkId, Output, Outputs};
use crate::ledger::{Order, OrderId, Outcome, Refused, StreamId};
use crate::limits::UNDER_WAY_MAX;
use crate::name::Name;
use crate::secret::SessionId;
use crate::time::Time;
use crate::wire::error::{ErrorCode, Refusal};
use crate::wire::message::RequestId;
use crate::wire::push::Reply;

use super::Shard;
use super::enter::Entrance;
use super::join::Joining;
use super::roster::Answering;
use crate::shard::links::Flow;

/// Who asked, to be found again when the answer comes.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    pub(super) key: u32,
    pub(super) session: SessionId,
    pub(super) link: LinkId,
    pub(super) re: Option<RequestId<'static>>,
}

/// An order that the store hasn't answered.
#[derive(Debug)]
pub(super) enum Pending {
    /// A hello waits for it.
    Hello(LinkId),
    /// Somebody's request.
    Ask(Asker, Then),
    /// A page for a session that is behind in a room.
    RoomPage { key: u32, session: SessionId, room: Name, after: u64 },
    /// A page for a session that is behind in its mailbox.
    MailPage { key: u32, session: SessionId, after: u64 },
    /// A session has come from another shard, and its mailbox with it.
    Moved { key: u32, session: SessionId },
}

/// What the store had no time for, or answered without sense. It is asked again after [`RETRY_AFTER`]. There is at most
/// one of each membership and mailbox, since it counts as fetching meanwhile.
#[derive(Debug)]
pub(super) enum Retry {
    RoomPage { key: u32, session: SessionId, room: Name },
    MailPage { key: u32, session: SessionId },
    Settle { key: u32, session: SessionId },
    Unpack { key: u32, session: SessionId },
}

/// What an answer is for.
#[derive(Debug)]
pub(super) enum Then {
    Enter,
    Join {
        room: Name,
        /// As whom: the session may have become another user meanwhile.
        user: Name,
        after: Option<u64>,
        at: Option<Point>,
        /// Nobody asked: the session brought the membership from another shard.
        carried: bool,
    },
    Posted,
    History,
    Done,
    /// Which of these may be seen.
    MaySee(Answering, Vec<Name>),
}

impl Shard {
    /// Asks the store for somebody.
    pub(super) fn order(&mut self, asker: Asker, then: Then, order: Order, out: &mut Outputs) -> Flow {
        let under_way = match self.v1_mut(asker.key) {
            Some(v1) if v1.under_way < UNDER_WAY_MAX => &mut v1.under_way,
            Some(_) => {
                let refusal = ErrorCode::TOO_MANY.because("too many requests of this session are under way");
                return self.refuse_asker(&asker, refusal, Some(BUSY_RETRY), out);
            }
            None => return Flow::Closed,
        };
        *under_way += 1;
        let id = self.next_order(Pending::Ask(asker, then));
        out.list.push(Output::Order { id, order });
        Flow::On
    }

    pub(super) fn next_order(&mut self, pending: Pending) -> OrderId {
        self.lobby.next_order += 1;
        let id = OrderId(self.lobby.next_order);
        self.lobby.orders.insert(id, pending);
        id
    }

    /// An order whose answer nobody waits for.
    pub(super) fn order_quietly(&mut self, order: Order) -> Output {
        self.lobby.next_order += 1;
        Output::Order { id: OrderId(self.lobby.next_order), order }
    }

    pub(in crate::shard) fn release_order(&mut self, stream: StreamId) -> Output {
        self.order_quietly(Order::Release { stream })
    }

    /// The store has answered.
    pub(in crate::shard) fn outcome(
        &mut self,
        order: OrderId,
        outcome: Result<Outcome, Refused>,
        at: Time,
        out: &mut Outputs,
    ) {
        match self.lobby.orders.remove(&order) {
            Some(Pending::Hello(link)) => self.hello_answered(link, order, outcome, at, out),
            Some(Pending::Ask(asker, then)) => self.answered_ask(asker, then, outcome, at, out),
            Some(Pending::RoomPage { key, session, room, after }) => {
                self.room_page(key, session, room, after, outcome, at, out);
            }
            Some(Pending::MailPage { key, session, after }) => self.mail_page(key, session, after, outcome, at, out),
            Some(Pending::Moved { key, session }) => self.moved(key, session, outcome, at, out),
            // Nobody waits for it.
            None => {}
        }
    }

    fn answered_ask(
        &mut self,
        asker: Asker,
        then: Then,
        outcome: Result<Outcome, Refused>,
        at: Time,
        out: &mut Outputs,
    ) {
        let still_here = match self.v1_mut(asker.key) {
            Some(v1) if v1.id == asker.session => {
                v1.under_way = v1.under_way.saturating_sub(1);
                true
            }
            Some(_) | None => false,
        };
        let outcome = match outcome {
            Ok(outcome) if still_here => outcome,
            // Nobody is there to be told, but what was joined must be left.
            Ok(Outcome::Joined { stream, .. }) => return out.list.push(self.release_order(stream)),
            Ok(Outcome::Entered { mailbox, .. }) => return out.list.push(self.release_order(mailbox.stream)),
            Ok(_) => return,
            Err(_) if !still_here => return,
            Err(refused) => return self.ask_refused(&asker, &then, refused, at, out),
        };
        match (then, outcome) {
            (Then::Enter, Outcome::Entered { user, verified, token, mailbox }) => {
                self.entered(&asker, Entrance { user, verified, mailbox }, token.as_deref(), at, out);
            }
            (Then::Join { room, user, after, at: point, carried }, joined @ Outcome::Joined { .. }) => {
                self.joined(asker, Joining { room, user, after, point, carried }, joined, at, out);
            }
            (Then::Posted, Outcome::Posted { seq, time_ms }) => {
                let reply = Reply { seq: Some(seq), time_ms: Some(time_ms), ..Reply::default() };
                self.reply_asker(&asker, reply, out);
            }
            (Then::History, Outcome::History { messages, more, read }) => {
                let raw = |text: Box<str>| serde_json::value::RawValue::from_string(text.into()).ok();
                let (messages, read) = (raw(messages), raw(read));
                let reply = Reply {
                    messages: messages.as_deref(),
                    more: Some(more),
                    read: read.as_deref(),
                    ..Reply::default()
                };
                self.reply_asker(&asker, reply, out);
            }
            (Then::MaySee(answering, users), Outcome::MaySee(allowed)) => {
                self.may_see(asker, answering, users, allowed, at, out);
            }
            (Then::Done, _) => self.reply_asker(&asker, Reply::default(), out),
            // The store answers what it was asked; anything else would be its fault, and is told as the server's.
            (Then::Enter | Then::Join { .. } | Then::Posted | Then::History | Then::MaySee(..), _) => {
                self.refuse_asker(&asker, ErrorCode::INTERNAL.because("the store answered something else"), None, out);
            }
        }
    }

    fn ask_refused(&mut self, asker: &Asker, then: &Then, refused: Refused, at: Time, out: &mut Outputs) {
        if let Then::Join { carried: true, room, .. } = then {
            return self.carried_in_vain(asker, room, refused.retry.is_some(), at, out);
        }
        let Refused { refusal, retry, close } = refused;
        self.refuse_asker(asker, refusal, retry, out);
        if let Some(code) = close {
            self.end_session(asker.key, code, crate::close::Cause::Limit, at, out);
        }
    }

    /// Asks the store again in a while.
    pub(super) fn retry(&mut self, retry: Retry, at: Time) {
        self.lobby.retries.push_back((at + RETRY_AFTER, retry));
    }

    /// Asks the store again for what it had no time for.
    pub(super) fn retry_due(&mut self, at: Time, out: &mut Outputs) {
        while let Some((_, retry)) = self.lobby.retries.pop_front_if(|(due, _)| *due <= at) {
            let (Retry::RoomPage { key, session, .. }
            | Retry::MailPage { key, session }
            | Retry::Settle { key, session }
            | Retry::Unpack { key, session }) = retry;
            if self.v1_mut(key).is_none_or(|v1| v1.id != session) {
                continue;
            }
            match retry {
                Retry::RoomPage { room, .. } => self.room_page_again(key, room.as_str(), out),
                Retry::MailPage { .. } => {
                    if let Some(chat) = self.chat_mut(key) {
                        chat.mail.fetching = false;
                        self.chase_mail(key, out);
                    }
                }
                Retry::Settle { .. } => self.subscribe_mail(key, out),
                Retry::Unpack { .. } => self.unpack(key, out),
            }
        }
    }

    /// Answers with `ok` if an answer is wanted and its session still has a link.
    pub(super) fn reply_asker(&mut self, asker: &Asker, reply: Reply<'_>, out: &mut Outputs) {
        let Some(link) = self.link_of_asker(asker) else { return };
        if asker.re.is_some() {
            let reply = Reply { op: "ok".into(), re: asker.re.clone(), ..reply };
            self.say(link, &reply, out);
        }
    }

    /// Answers with an error.
    pub(super) fn refuse_asker(
        &mut self,
        asker: &Asker,
        refusal: Refusal,
        retry: Option<Duration>,
        out: &mut Outputs,
    ) -> Flow {
        match self.link_of_asker(asker) {
            Some(link) => self.refuse(link, asker.re.clone(), refusal, retry, out),
            None => Flow::Closed,
        }
    }

    /// The link on which the request came, if the session still has it: an answer belongs to its link.
    fn link_of_asker(&self, asker: &Asker) -> Option<LinkId> {
        let session = self.sessions.get(asker.key as usize)?;
        let same = session.v1_part().is_some_and(|v1| v1.id == asker.session);
        session.link().filter(|link| same && *link == asker.link)
    }
}

/// When the store is asked again for what it had no time for.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// When to try again what the server had no room for.
pub(super) const BUSY_RETRY: Duration = Duration::from_millis(500);
