//! How v1 sessions begin, go on with another link, and return: hello, welcome, and the rotating secret.
//!
//! A secret is rotated at every welcome. The one before stays valid until a frame on the new link proves that the
//! welcome has arrived; shown after that, it is refused, counted and noted, but ends nothing.

use std::time::Duration;

use crate::close::{Cause, CloseCode};
use crate::event::{Answer, Claim, Identity, Keepsake, LinkId, Manner, Note, Output, Outputs, Stale};
use crate::limits::INTERVAL_MIN;
use crate::secret::{Secret, SecretHash, SessionId};
use crate::session::{Moved, Session, V1, clamp_interval};
use crate::stats::{Refused, Resumed};
use crate::time::Time;
use crate::wire::body::Hello;
use crate::wire::error::{ErrorCode, Refusal};
use crate::wire::message::{BeatTerms, LimitTerms, RequestId, ResumeTerms, ServerMessage, Welcome};

use super::Shard;
use super::chat::{Arrival, Entrance};
use super::links::{Ending, Fate, Flow, Link};
use super::waiting::{Greeting, Origin, Stage};

impl Shard {
    pub(super) fn hello(
        &mut self,
        id: LinkId,
        re: Option<RequestId<'_>>,
        hello: Hello<'_>,
        at: Time,
        out: &mut Outputs,
    ) -> Flow {
        if let Some(spread) = self.draining() {
            let retry_ms = self.entropy.below(spread.as_millis() as u64 + 1);
            self.drain_link(id, retry_ms, at, out);
            return Flow::Closed;
        }
        let secret = |link: &Link| link.traits.transport().is_secret() || link.peer.ip().is_loopback();
        if !self.terms.insecure && !self.link(id).is_some_and(secret) {
            self.stats.refused[Refused::Plaintext as usize] += 1;
            let refusal = ErrorCode::PLAINTEXT.because("hello over a plain link from beyond loopback is refused here");
            return self.refuse(id, re, refusal, None, out);
        }
        let greeting = Greeting {
            re,
            client: hello.client,
            user: hello.user,
            interval: hello.interval_ms.map(|ms| clamp_interval(Duration::from_millis(ms))),
            token: hello.token,
            count: hello.resume.as_ref().map_or(0, |resume| resume.count),
        };
        let Some(resume) = hello.resume else {
            return self.begin(id, greeting, None, at, out);
        };
        let Some(peer) = self.peer_of(id) else { return Flow::Closed };
        if let Some(wait) = self.suspects.wait(peer, at) {
            return self.refuse_busy(id, greeting.re, wait, at, out);
        }
        match SessionId::parse(&resume.session).zip(Secret::parse(&resume.secret)) {
            Some((session, secret)) => self.resume(id, greeting, Claim { session, secret: secret.hash() }, at, out),
            None => self.begin(id, greeting, Some(Resumed::Unknown), at, out),
        }
    }

    /// Looks for the session here, then among the remembered, then in other shards.
    fn resume(&mut self, id: LinkId, greeting: Greeting<'_>, claim: Claim, at: Time, out: &mut Outputs) -> Flow {
        match self.verify(&claim) {
            Verdict::Unknown if !self.alone => {
                self.wait_for(id, greeting, Stage::Claimed(claim));
                out.list.push(Output::Claim { link: id, claim });
                Flow::Wait
            }
            verdict => self.conclude(id, greeting, &claim, verdict, at, out),
        }
    }

    pub(super) fn conclude(
        &mut self,
        id: LinkId,
        greeting: Greeting<'_>,
        claim: &Claim,
        verdict: Verdict,
        at: Time,
        out: &mut Outputs,
    ) -> Flow {
        match verdict {
            Verdict::Live(key) => self.take_up(id, greeting, key, claim, at, out),
            Verdict::Remembered => self.come_back(id, greeting, claim, at, out),
            Verdict::Refused(stale) => self.begin_refused(id, greeting, claim, stale, at, out),
            Verdict::Unknown => self.begin(id, greeting, Some(Resumed::Unknown), at, out),
        }
    }

    pub(super) fn verify(&mut self, claim: &Claim) -> Verdict {
        let identity = Identity::V1(claim.session);
        if let Some(key) = self.find(&identity)
            && let Some(v1) = self.v1_mut(key)
        {
            return match check(&claim.secret, &v1.secret, v1.previous.as_ref(), v1.proven) {
                Ok(()) => Verdict::Live(key),
                Err(stale) => Verdict::Refused(stale),
            };
        }
        match self.remembered.keepsake(&identity) {
            Some(kept) => match check(&claim.secret, &kept.secret, kept.previous.as_ref(), false) {
                Ok(()) => Verdict::Remembered,
                Err(stale) => Verdict::Refused(stale),
            },
            None => Verdict::Unknown,
        }
    }

    /// Another shard has the link; the session goes there if the proof is right.
    pub(super) fn surrender(&mut self, claim: &Claim, at: Time, out: &mut Outputs) -> Answer {
        match self.verify(claim) {
            Verdict::Unknown => Answer::Unknown,
            Verdict::Refused(stale) => Answer::Refused(stale),
            Verdict::Remembered => match self.remembered.take(&Identity::V1(claim.session)).flatten() {
                Some(keepsake) => Answer::Remembered(Box::new(keepsake)),
                None => Answer::Unknown,
            },
            Verdict::Live(key) => match self.part_with(key, at, out) {
                Some(session) => Answer::Live(Box::new(Moved { session, now: at })),
                None => Answer::Unknown,
            },
        }
    }

    /// Takes a session out, without its link.
    fn part_with(&mut self, key: u32, at: Time, out: &mut Outputs) -> Option<Session> {
        let peer = self.sessions.get(key as usize)?.v1_part()?.peer;
        self.pack_up(key, at, out);
        let session = self.sessions.get(key as usize)?;
        match session.link() {
            Some(link) => self.close(link, Ending::replaced(), at, out),
            None => self.release(peer),
        }
        let mut session = self.take_session(key, peer)?;
        self.stats.sessions[session.status() as usize] -= 1;
        if session.link().is_some() {
            session.unlink(at);
        }
        Some(session)
    }

    /// Takes a session in that comes from another shard; it has no link yet.
    pub(super) fn adopt(&mut self, moved: Moved, at: Time, out: &mut Outputs) -> Option<u32> {
        let Moved { mut session, now } = moved;
        session.rebase(now, at);
        let (identity, peer) = session.v1_part().map(|v1| (Identity::V1(v1.id), v1.peer))?;
        self.stats.sessions[session.status() as usize] += 1;
        self.stats.retained += 1;
        *self.retained_by_address.entry(peer.without_port()).or_insert(0) += 1;
        let key = self.insert_session(identity, session);
        self.arm_session(key);
        self.weigh_replay(key);
        self.settle_in(key, at, out);
        Some(key)
    }

    /// A new session.
    fn begin(
        &mut self,
        id: LinkId,
        greeting: Greeting<'_>,
        asked: Option<Resumed>,
        at: Time,
        out: &mut Outputs,
    ) -> Flow {
        let session = self.entropy.session_id();
        let user = greeting.user.as_deref().map(Into::into);
        let client = greeting.client.as_deref().map(Into::into);
        let origin = Origin { session, generation: 0, previous: None, user, account: None, client, returned: false };
        self.found(id, greeting, origin, asked, at, out)
    }

    /// A session from what was remembered: closed before, or cut off by a restart of the server.
    pub(super) fn begin_again(
        &mut self,
        id: LinkId,
        mut greeting: Greeting<'_>,
        kept: Keepsake,
        claim: &Claim,
        at: Time,
        out: &mut Outputs,
    ) -> Flow {
        let origin = Origin {
            session: kept.session,
            generation: kept.generation,
            previous: Some(claim.secret),
            user: kept.user,
            account: kept.account,
            client: kept.client,
            returned: kept.closed,
        };
        greeting.interval = greeting.interval.or(Some(kept.interval));
        let result = if kept.closed { Resumed::Expired } else { Resumed::Gap };
        self.found(id, greeting, origin, Some(result), at, out)
    }

    fn come_back(&mut self, id: LinkId, greeting: Greeting<'_>, claim: &Claim, at: Time, out: &mut Outputs) -> Flow {
        match self.remembered.take(&Identity::V1(claim.session)).flatten() {
            Some(kept) => self.begin_again(id, greeting, kept, claim, at, out),
            None => self.begin(id, greeting, Some(Resumed::Unknown), at, out),
        }
    }

    /// A session shall begin: at once, or when the store has said who the user is.
    fn found(
        &mut self,
        id: LinkId,
        greeting: Greeting<'_>,
        origin: Origin,
        asked: Option<Resumed>,
        at: Time,
        out: &mut Outputs,
    ) -> Flow {
        match self.arrival(greeting.user.as_deref(), greeting.token.as_deref(), origin.account.clone()) {
            Ok(Arrival::Nobody) => self.settle(id, greeting, origin, asked, None, at, out),
            Ok(Arrival::Ask(user, proof)) => {
                let Some(order) = self.order_for_hello(id, user, proof, out) else { return Flow::Closed };
                self.wait_for(id, greeting, Stage::Entering { order, origin, asked });
                Flow::Wait
            }
            Err(refusal) => self.refuse(id, greeting.re, refusal, None, out),
        }
    }

    /// Puts a session on its first link here and welcomes it.
    #[expect(clippy::too_many_arguments, reason = "what was asked, what is known, and what was answered")]
    pub(super) fn settle(
        &mut self,
        id: LinkId,
        greeting: Greeting<'_>,
        origin: Origin,
        asked: Option<Resumed>,
        entrance: Option<Entrance>,
        at: Time,
        out: &mut Outputs,
    ) -> Flow {
        if let Some(Entrance { user, mailbox, .. }) = &entrance
            && self.flaps(user, at)
        {
            let release = self.release_order(mailbox.stream);
            out.list.push(release);
            self.put_back(origin, greeting.interval, at);
            return self.close_flapping(id, at, out);
        }
        let Some(peer) = self.peer_of(id) else { return Flow::Closed };
        let secret = self.entropy.secret();
        let v1 = V1 {
            id: origin.session,
            secret: secret.hash(),
            proven: origin.previous.is_none(),
            previous: origin.previous,
            generation: origin.generation.wrapping_add(1),
            user: origin.user,
            chat: None,
            replay: None,
            weight: 0,
            is_weighed: false,
            client: origin.client,
            peer,
            began_at: at,
            dropped_at: at,
            last_act: None,
            pushes: 0,
            acked: 0,
            counts_anew: origin.previous.is_some(),
            rtt_us: None,
            ask: None,
            asks: 0,
            adaptive: greeting.interval.is_none() && self.terms.interval < self.terms.interval_max,
            steady: 0,
            malformed: 0,
            under_way: 0,
        };
        let interval = greeting.interval.unwrap_or(self.terms.interval);
        let session = Session::v1(&self.terms, id, interval, v1, at, origin.returned);
        let key = self.add_session(id, session, at, out);
        let enters = entrance.is_some();
        if let Some(entrance) = entrance {
            self.become_user(key, entrance, at, out);
        }
        let flow = self.welcome(id, greeting.re, key, &secret, asked, out);
        if enters {
            self.after_entering(key, at, out);
        }
        flow
    }

    /// A user's links come and go too often.
    fn close_flapping(&mut self, id: LinkId, at: Time, out: &mut Outputs) -> Flow {
        let ending = Ending {
            code: Some(CloseCode::Flapping),
            cause: Cause::Limit,
            manner: Manner::Gently,
            retry_ms: Some(FLAPPING_RETRY.as_millis() as u64),
            fate: Fate::Wait,
        };
        self.close(id, ending, at, out);
        Flow::Closed
    }

    /// A live session goes on with this link; the old one, if it still hangs, is closed and can end nothing any more.
    pub(super) fn take_up(
        &mut self,
        id: LinkId,
        greeting: Greeting<'_>,
        key: u32,
        claim: &Claim,
        at: Time,
        out: &mut Outputs,
    ) -> Flow {
        let Some(peer) = self.peer_of(id) else { return Flow::Closed };
        let user = self.v1_mut(key).and_then(|v1| Some(v1.chat.as_deref()?.user.clone()));
        if user.is_some_and(|user| self.flaps(&user, at)) {
            return self.close_flapping(id, at, out);
        }
        // What has gathered belongs to the old link and its count.
        self.flush_rooms_of(key, at, out);
        match self.sessions.get(key as usize).and_then(Session::link) {
            Some(old) => self.close(old, Ending::replaced(), at, out),
            None => {
                if let Some(retained_for) = self.v1_mut(key).map(|v1| v1.peer) {
                    self.release(retained_for);
                }
            }
        }
        let secret = self.entropy.secret();
        let base = self.terms.interval;
        let Some(session) = self.sessions.get_mut(key as usize) else { return Flow::Closed };
        let stretched = session.watch().interval().saturating_sub(base).max(base);
        let Some(v1) = session.v1_part_mut() else { return Flow::Closed };
        // Whoever shows the secret before the current hasn't got the welcome with which counting began again.
        let other_count = v1.counts_anew && !claim.secret.matches(&v1.secret);
        v1.previous = Some(claim.secret);
        v1.secret = secret.hash();
        v1.proven = false;
        v1.generation = v1.generation.wrapping_add(1);
        v1.peer = peer;
        v1.ask = None;
        v1.steady = 0;
        if let Some(chat) = v1.chat.as_deref_mut() {
            // It was the old link that didn't take what was queued.
            chat.choked_at = None;
        }
        let rest = match v1.replay.as_deref() {
            _ if other_count => None,
            Some(replay) => replay.after(greeting.count),
            None => (greeting.count == v1.pushes).then(Vec::new),
        };
        let result = if rest.is_some() { Resumed::Whole } else { Resumed::Gap };
        if let Some(interval) = greeting.interval {
            v1.adaptive = false;
            session.set_interval(interval);
        } else if v1.adaptive {
            // The link was lost at this interval; an address translator may have forgotten it. One step back.
            session.set_interval(stretched);
        }
        let changed = session.relink(id, at);
        self.attach(id, key, at);
        self.weigh_replay(key);
        match rest {
            Some(_) => self.acknowledge(key, greeting.count, out),
            None => self.count_anew(key, at, out),
        }
        let flow = self.welcome(id, greeting.re, key, &secret, Some(result), out);
        for frames in rest.unwrap_or_default() {
            self.write_again(id, frames, out);
        }
        self.report(key, changed, out);
        self.refresh(key, at, out);
        self.unpack(key, out);
        flow
    }

    fn welcome(
        &mut self,
        id: LinkId,
        re: Option<RequestId<'_>>,
        key: u32,
        secret: &Secret,
        asked: Option<Resumed>,
        out: &mut Outputs,
    ) -> Flow {
        let terms = &self.terms;
        let Some(session) = self.sessions.get(key as usize) else { return Flow::Closed };
        let Some(v1) = session.v1_part() else { return Flow::Closed };
        let resumed = asked == Some(Resumed::Whole);
        let welcome = Welcome {
            session: v1.id.to_string(),
            generation: v1.generation,
            user: v1.user.as_deref().map(Into::into),
            resumed,
            rooms: if asked == Some(Resumed::Gap) { self.heads(key) } else { Default::default() },
            reason: asked.filter(|_| !resumed).map(|result| result.name().to_owned()),
            beat: BeatTerms {
                interval_ms: session.watch().interval().as_millis() as u64,
                min_ms: INTERVAL_MIN.as_millis() as u64,
                detect_ms: session.watch().detect(&terms.rule).as_millis() as u64,
                leave_hold_ms: terms.leave_hold.as_millis() as u64,
            },
            resume: ResumeTerms { secret: secret.reveal(), window_ms: session.window(terms).as_millis() as u64 },
            limits: LimitTerms {
                frame_bytes: terms.limits.frame_bytes,
                frames_per_second: terms.limits.frames_per_second,
            },
            node: terms.node.to_string(),
            time_ms: self.clock.wall_ms(),
        };
        if let Some(result) = asked {
            self.stats.resumes[result as usize] += 1;
        }
        self.say(id, &ServerMessage::Welcome { re, welcome: Box::new(welcome) }, out);
        self.keep(key, out);
        Flow::On
    }

    /// A wrong or proven-old secret: it is counted against the address, and the client gets a session of its own.
    pub(super) fn begin_refused(
        &mut self,
        id: LinkId,
        greeting: Greeting<'_>,
        claim: &Claim,
        stale: Stale,
        at: Time,
        out: &mut Outputs,
    ) -> Flow {
        let Some(peer) = self.peer_of(id) else { return Flow::Closed };
        self.suspects.refused(peer, at);
        let reason = match stale {
            Stale::Wrong => Refused::WrongSecret,
            Stale::ProvenOld => {
                out.list.push(Output::Note(Note::StaleSecret { session: claim.session, peer }));
                Refused::StaleSecret
            }
        };
        self.stats.refused[reason as usize] += 1;
        self.begin(id, greeting, Some(Resumed::Refused), at, out)
    }

    fn refuse_busy(
        &mut self,
        id: LinkId,
        re: Option<RequestId<'_>>,
        wait: Duration,
        at: Time,
        out: &mut Outputs,
    ) -> Flow {
        self.stats.refused[Refused::ResumeBusy as usize] += 1;
        let refusal = ErrorCode::RESUME_BUSY.because("too many refused resumes from this address");
        self.refuse(id, re, refusal, Some(wait), out);
        let ending = Ending {
            code: Some(CloseCode::RateLimited),
            cause: Cause::Limit,
            manner: Manner::Gently,
            retry_ms: Some(wait.as_millis() as u64),
            fate: Fate::Wait,
        };
        self.close(id, ending, at, out);
        Flow::Closed
    }

    /// A hello that can't be served. A wrong version ends the link; the client may mend anything else.
    pub(super) fn refuse_hello(
        &mut self,
        id: LinkId,
        re: Option<RequestId<'_>>,
        refusal: Refusal,
        at: Time,
        out: &mut Outputs,
    ) -> Flow {
        let version = refusal.code == ErrorCode::VERSION.number;
        self.refuse(id, re, refusal, None, out);
        if !version {
            return Flow::On;
        }
        self.close_link(id, CloseCode::Version, Manner::Gently, at, out);
        Flow::Closed
    }

    /// Identities that survived a restart.
    pub(super) fn restore(&mut self, keepsakes: Vec<Keepsake>, at: Time, out: &mut Outputs) {
        let max = self.terms.limits.remembered;
        for keepsake in keepsakes {
            let identity = Identity::V1(keepsake.session);
            let forgotten = |identity| out.list.extend(super::forget(identity));
            self.remembered.insert(identity, Some(keepsake), at, max, forgotten);
        }
    }
}

/// When a user whose links come and go too often may come back.
const FLAPPING_RETRY: Duration = Duration::from_secs(30);

/// What a claim comes to in this shard.
pub(super) enum Verdict {
    Live(u32),
    Remembered,
    Refused(Stale),
    Unknown,
}

fn check(shown: &SecretHash, current: &SecretHash, previous: Option<&SecretHash>, proven: bool) -> Result<(), Stale> {
    if shown.matches(current) {
        return Ok(());
    }
    match previous {
        Some(previous) if shown.matches(previous) && proven => Err(Stale::ProvenOld),
        Some(previous) if shown.matches(previous) => Ok(()),
        Some(_) | None => Err(Stale::Wrong),
    }
}
