//! Hellos that wait: for the other shards, which may have the session, or for the store, which knows the user.

use std::borrow::Cow;
use std::time::Duration;

use crate::close::{Cause, CloseCode};
use crate::event::{Answer, Claim, Identity, Keepsake, LinkId, Manner, Outputs};
use crate::ledger::OrderId;
use crate::name::Name;
use crate::secret::{SecretHash, SessionId};
use crate::stats::Resumed;
use crate::time::Time;
use crate::wire::message::RequestId;

use super::Shard;
use super::chat::Entrance;
use super::links::{Ending, Fate, Flow};

/// A hello that waits for the other shards, or for the store.
#[derive(Debug)]
pub(super) struct Waiting {
    greeting: Greeting<'static>,
    stage: Stage,
    /// Bytes that came after the hello.
    backlog: Vec<u8>,
}

/// What a hello waits for.
#[derive(Debug)]
pub(super) enum Stage {
    /// Whether another shard has the session.
    Claimed(Claim),
    /// Who the user is.
    Entering { order: OrderId, origin: Origin, asked: Option<Resumed> },
}

/// What a hello asked for, apart from the proof.
#[derive(Debug)]
pub(super) struct Greeting<'a> {
    pub(super) re: Option<RequestId<'a>>,
    pub(super) client: Option<Cow<'a, str>>,
    pub(super) user: Option<Cow<'a, str>>,
    pub(super) interval: Option<Duration>,
    pub(super) token: Option<Cow<'a, str>>,
    /// How many pushes the client has received in the session it wants back.
    pub(super) count: u64,
}

impl Greeting<'_> {
    fn into_owned(self) -> Greeting<'static> {
        fn owned(text: Cow<'_, str>) -> Cow<'static, str> {
            Cow::Owned(text.into_owned())
        }
        Greeting {
            re: self.re.map(|re| match re {
                RequestId::Number(number) => RequestId::Number(number),
                RequestId::Text(text) => RequestId::Text(owned(text)),
            }),
            client: self.client.map(owned),
            user: self.user.map(owned),
            interval: self.interval,
            token: self.token.map(owned),
            count: self.count,
        }
    }
}

/// What a new session starts from.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) session: SessionId,
    pub(super) generation: u32,
    pub(super) previous: Option<SecretHash>,
    pub(super) user: Option<Box<str>>,
    pub(super) account: Option<Name>,
    pub(super) client: Option<Box<str>>,
    pub(super) returned: bool,
}

impl Shard {
    /// Keeps a hello, and what comes behind it, until somebody has answered.
    pub(super) fn wait_for(&mut self, id: LinkId, greeting: Greeting<'_>, stage: Stage) {
        let waiting = Waiting { greeting: greeting.into_owned(), stage, backlog: Vec::new() };
        self.waiting.insert(id, Box::new(waiting));
        if let Some(link) = self.link_mut(id) {
            link.traits = link.traits.waiting(true);
        }
    }

    /// What waited on a link, which waits no longer.
    fn waited(&mut self, id: LinkId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        if let Some(link) = self.link_mut(id) {
            link.traits = link.traits.waiting(false);
        }
        Some(*waiting)
    }

    /// The other shards have answered.
    pub(super) fn answered(&mut self, id: LinkId, answer: Answer, at: Time, out: &mut Outputs) {
        let claimed = self.waiting.get(&id).is_some_and(|waiting| matches!(waiting.stage, Stage::Claimed(_)));
        let waited = if claimed { self.waited(id) } else { None };
        let Some(Waiting { greeting, stage: Stage::Claimed(claim), backlog }) = waited else {
            return self.answered_in_vain(answer, at, out);
        };
        let flow = match answer {
            // It may have come here while the others were asked.
            Answer::Unknown => {
                let verdict = self.verify(&claim);
                self.conclude(id, greeting, &claim, verdict, at, out)
            }
            Answer::Refused(stale) => self.begin_refused(id, greeting, &claim, stale, at, out),
            Answer::Remembered(keepsake) => self.begin_again(id, greeting, *keepsake, &claim, at, out),
            Answer::Live(moved) => match self.adopt(*moved, at, out) {
                Some(key) => self.take_up(id, greeting, key, &claim, at, out),
                None => Flow::Closed,
            },
        };
        self.go_on(id, flow, &backlog, at, out);
    }

    /// What came behind a hello is handled now, or waits for the next answer.
    fn go_on(&mut self, id: LinkId, flow: Flow, backlog: &[u8], at: Time, out: &mut Outputs) {
        match flow {
            Flow::On => self.frames(id, backlog, at, out),
            Flow::Wait => self.keep_for_later(id, backlog, at, out),
            Flow::Closed => {}
        }
    }

    /// The store has said who the user is; whether the hello still waited for it.
    pub(super) fn hello_goes_on(
        &mut self,
        id: LinkId,
        order: OrderId,
        entrance: Entrance,
        at: Time,
        out: &mut Outputs,
    ) -> bool {
        let Some((greeting, origin, asked, backlog)) = self.waited_for_store(id, order) else { return false };
        let flow = self.settle(id, greeting, origin, asked, Some(entrance), at, out);
        self.go_on(id, flow, &backlog, at, out);
        true
    }

    /// The store has refused who the user claims to be.
    pub(super) fn hello_refused(
        &mut self,
        id: LinkId,
        order: OrderId,
        refused: crate::ledger::Refused,
        at: Time,
        out: &mut Outputs,
    ) {
        let Some((greeting, origin, _, backlog)) = self.waited_for_store(id, order) else { return };
        let crate::ledger::Refused { refusal, retry, close } = refused;
        self.refuse(id, greeting.re, refusal, retry, out);
        if let Some(code) = close {
            let retry_ms = retry.map(|retry| retry.as_millis() as u64);
            let ending =
                Ending { code: Some(code), cause: Cause::Limit, manner: Manner::Gently, retry_ms, fate: Fate::Forget };
            return self.close(id, ending, at, out);
        }
        // Who shall come again must find what it came for.
        if retry.is_some() {
            self.put_back(origin, greeting.interval, at);
        }
        self.frames(id, &backlog, at, out);
    }

    /// What waited for this answer of the store. The link's number may be another link's by now.
    fn waited_for_store(
        &mut self,
        id: LinkId,
        order: OrderId,
    ) -> Option<(Greeting<'static>, Origin, Option<Resumed>, Vec<u8>)> {
        match self.waiting.get(&id)?.stage {
            Stage::Entering { order: awaited, .. } if awaited == order => {}
            Stage::Entering { .. } | Stage::Claimed(_) => return None,
        }
        let Waiting { greeting, stage, backlog } = self.waited(id)?;
        match stage {
            Stage::Entering { origin, asked, .. } => Some((greeting, origin, asked, backlog)),
            Stage::Claimed(_) => None,
        }
    }

    /// A link is gone, and with it its hello that waited.
    pub(super) fn wait_no_more(&mut self, id: LinkId, at: Time) {
        if let Some(waiting) = self.waiting.remove(&id)
            && let Waiting { greeting, stage: Stage::Entering { origin, .. }, .. } = *waiting
        {
            self.put_back(origin, greeting.interval, at);
        }
    }

    /// A session that was remembered hasn't begun again after all: its client shall find it when it comes the next time.
    pub(super) fn put_back(&mut self, origin: Origin, interval: Option<Duration>, at: Time) {
        let Some(secret) = origin.previous else { return };
        let keepsake = Keepsake {
            session: origin.session,
            secret,
            previous: None,
            generation: origin.generation,
            user: origin.user,
            account: origin.account,
            client: origin.client,
            interval: interval.unwrap_or(self.terms.interval),
            closed: origin.returned,
        };
        let max = self.terms.limits.remembered;
        self.remembered.insert(Identity::V1(origin.session), Some(keepsake), at, max, |_| {});
    }

    /// The link ended while the others were asked. What they gave stays here until the client comes again.
    fn answered_in_vain(&mut self, answer: Answer, at: Time, out: &mut Outputs) {
        match answer {
            Answer::Unknown | Answer::Refused(_) => {}
            Answer::Live(moved) => drop(self.adopt(*moved, at, out)),
            Answer::Remembered(keepsake) => {
                let max = self.terms.limits.remembered;
                self.remembered.insert(Identity::V1(keepsake.session), Some(*keepsake), at, max, |_| {});
            }
        }
    }

    /// Bytes that come while a link waits are kept, up to one frame's worth: its client speaks before it was welcomed.
    pub(super) fn keep_for_later(&mut self, id: LinkId, bytes: &[u8], at: Time, out: &mut Outputs) {
        let max = self.terms.limits.frame_bytes as usize;
        let Some(waiting) = self.waiting.get_mut(&id) else { return };
        if waiting.backlog.len() + bytes.len() > max {
            return self.close_link(id, CloseCode::RateLimited, Manner::Gently, at, out);
        }
        waiting.backlog.extend_from_slice(bytes);
    }
}
