//! A client as a pure state machine: it says hello, beats, notices a dead link and comes back.
//!
//! [`Peer::handle`] takes the time and one [`PeerInput`] and leaves what is to be done in [`PeerOutputs`];
//! [`Peer::next_deadline`] says when it wants to be woken. It opens no socket and reads no clock. `stillhere-client`
//! puts a socket and a timer around it; a simulation puts a virtual network around thousands.
//!
//! Contract of the caller:
//! 1. time never goes back;
//! 2. after every call it sends what the link takes (the rest may stay in `send`), then does what is asked of the link;
//! 3. after `Finish` or `Drop` nothing of the old link is passed in any more;
//! 4. bytes may be withheld (to slow a fast server down), but then no life is heard either.

mod answer;
mod backoff;
mod chat;
mod event;
mod legacy;
mod places;

use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use self::answer::Malformed;
pub use self::backoff::{BACKOFF_BASE, BACKOFF_MAX, RETRY_MAX};
use self::backoff::{Backoff, Dice};
pub use self::chat::{ANSWER_TIMEOUT, REQUESTS_BYTES_MAX, REQUESTS_MAX, SAY_AGAIN, SENT_MAX, SIGNALS_UNSENT_MAX};
use self::chat::{Chat, Line};
pub use self::event::{
    Continuity, Failed, LinkRequest, Loss, PeerCommand, PeerEvent, PeerInput, PeerOutputs, Recovery, Refused, Stop,
    Ticket, Welcomed,
};
use crate::detector::Status;
use crate::limits::{INTERVAL_MAX, STALL};
use crate::time::Time;
use crate::wire::frame::Decoder;
use crate::wire::message::{ClientMessage, Resume, write_message};

/// How long a link may take to open. Three SYNs fit into it.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the server may take to answer `hello`; its own deadline for a first frame is the same.
pub const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest body a peer accepts unless it is told otherwise: the server's default limit.
pub const FRAME_BYTES: u32 = 64 * 1024;
/// The longest session name or secret a peer keeps. Ours have 22 and 43 characters.
pub const CLAIM_BYTES_MAX: usize = 128;
/// The shortest interval of a legacy peer; shorter ones are raised to it. No server bounds it, so this does.
pub const LEGACY_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// This many pushes without an acknowledgement are acknowledged at once: what isn't, the server has to keep.
pub const UNACKED_MAX: u64 = 64;
/// The same in bytes of their bodies.
pub const UNACKED_BYTES_MAX: u32 = 32 * 1024;

/// Which of the two protocols a peer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// The full protocol.
    #[default]
    V1,
    /// The tutorial's: the same beat every interval, and nothing is read.
    Legacy,
}

/// What a peer is told once. Many peers may share one.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// The protocol.
    pub mode: Mode,
    /// v1: the interval to ask for; `None` leaves it to the server. Legacy: the interval, 10 s if `None`.
    pub interval: Option<Duration>,
    /// v1: what kind of client this is, 1 to 64 bytes.
    pub client: Option<String>,
    /// v1: who is using it, 1 to 64 bytes.
    pub user: Option<String>,
    /// Legacy: the process id to put into every beat.
    pub pid: u32,
    /// v1: the largest body that is accepted, in bytes; up to [`crate::limits::FRAME_BYTES_CAP`].
    pub frame_bytes: u32,
}

impl Default for PeerConfig {
    fn default() -> PeerConfig {
        PeerConfig { mode: Mode::V1, interval: None, client: None, user: None, pid: 0, frame_bytes: FRAME_BYTES }
    }
}

/// One client. It wants to connect at once; its first call should be a [`PeerInput::Tick`].
#[derive(Debug)]
pub struct Peer {
    config: Arc<PeerConfig>,
    dice: Dice,
    backoff: Backoff,
    links: u64,
    state: State,
    decoder: Decoder,
    session: Option<Box<Session>>,
    /// What the application declared, if it ever did. It outlives sessions.
    declared: Option<Status>,
    /// Of a peer that talks, or is talked to.
    chat: Option<Box<Chat>>,
}

#[derive(Debug)]
enum State {
    /// No link until then.
    Waiting {
        until: Time,
    },
    Connecting {
        give_up: Time,
    },
    /// `hello` is said, no `welcome` yet. v1 only.
    Greeting {
        give_up: Time,
    },
    /// Beating.
    Live(Live),
    /// For good.
    Stopped,
}

/// A link that beats.
#[derive(Debug)]
struct Live {
    /// When it was welcomed (v1) or opened (legacy).
    since: Time,
    /// When the last frame came in.
    heard: Time,
    interval: Duration,
    next_beat: Time,
    last_beat: Option<Time>,
    /// The id of the server's request that the next beat answers.
    asked: Option<u32>,
    /// Beats without an answer; an answer without a beat is not believed.
    unanswered: u32,
    /// Legacy: what the beats say of us.
    ip: IpAddr,
}

/// What is needed to take a session up again.
struct Session {
    /// `count` is what was received so far.
    resume: Resume,
    /// How much of it the server knows.
    acked: u64,
    /// The bytes of the pushes since.
    unacked_bytes: u32,
    /// Who the server took the client for when it welcomed it.
    user: Option<Box<str>>,
    /// The largest body that the server takes.
    frame_bytes: u32,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({:?}, {} of {})", self.resume.session, self.acked, self.resume.count)
    }
}

impl Peer {
    /// A peer that has never connected. `seed` decides its jitter: give each peer another one, or all beat in step.
    pub fn new(config: impl Into<Arc<PeerConfig>>, seed: u64) -> Peer {
        Peer {
            config: config.into(),
            dice: Dice(seed),
            backoff: Backoff::new(),
            links: 0,
            state: State::Waiting { until: Time::ZERO },
            decoder: Decoder::default(),
            session: None,
            declared: None,
            chat: None,
        }
    }

    /// Gives it a session to take up again, kept from an earlier run by [`Peer::resume`].
    pub fn with_resume(mut self, resume: Resume) -> Peer {
        let acked = resume.count;
        self.session =
            Some(Box::new(Session { resume, acked, unacked_bytes: 0, user: None, frame_bytes: FRAME_BYTES }));
        self
    }

    /// What takes the session up again, now or in a later run. It holds a secret.
    pub fn resume(&self) -> Option<&Resume> {
        self.session.as_deref().map(|session| &session.resume)
    }

    /// How many messages of others were pushed to it although it had them. None is told to the application; a sound
    /// server never does it.
    pub fn repeated(&self) -> u64 {
        self.chat.as_deref().map_or(0, |chat| chat.repeated)
    }

    /// The protocol it speaks.
    pub fn mode(&self) -> Mode {
        self.config.mode
    }

    /// Whether it is over: the peer will never ask for a link again.
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, State::Stopped)
    }

    /// When it wants to be called again, with a `Tick` if nothing else happens. May be in the past: then at once.
    pub fn next_deadline(&self) -> Time {
        let is_live = matches!(self.state, State::Live(_));
        let chat = self.chat.as_deref().map_or(Time::NEVER, |chat| chat.deadline(is_live));
        chat.min(self.link_deadline())
    }

    fn link_deadline(&self) -> Time {
        match &self.state {
            State::Waiting { until } => *until,
            State::Connecting { give_up } | State::Greeting { give_up } => *give_up,
            State::Live(live) => live.next_beat.min(self.zombie_at(live)),
            State::Stopped => Time::NEVER,
        }
    }

    /// Takes in what happened and adds what is to be done to `out`. A link request must have been taken out before.
    pub fn handle(&mut self, now: Time, input: PeerInput<'_>, out: &mut PeerOutputs) {
        self.forgive_own_sleep(now);
        match input {
            PeerInput::Connected { local } => self.connected(now, local, out),
            PeerInput::ConnectFailed(reason) => {
                if matches!(self.state, State::Connecting { .. }) {
                    self.lose(now, Loss::Unreachable(reason.into()), out);
                }
            }
            PeerInput::Received(bytes) => self.received(now, bytes, out),
            PeerInput::Disconnected(reason) => {
                if self.is_linked() {
                    self.lose(now, Loss::Disconnected(reason.into()), out);
                }
            }
            PeerInput::Tick => {}
            PeerInput::Command(command) => self.command(now, command, out),
        }
        self.run_due(now, out);
        if let Some((chat, mut line)) = self.chat(now, out) {
            chat.run_due(&mut line);
        }
    }

    /// What there is of chat, with the link as it stands.
    fn chat<'a>(&'a mut self, now: Time, out: &'a mut PeerOutputs) -> Option<(&'a mut Chat, Line<'a>)> {
        let is_live = matches!(self.state, State::Live(_));
        let line = Line { now, is_live, session: self.session.as_deref_mut(), out };
        self.chat.as_deref_mut().map(|chat| (chat, line))
    }

    fn chat_or_new<R>(
        &mut self,
        now: Time,
        out: &mut PeerOutputs,
        act: impl FnOnce(&mut Chat, &mut Line<'_>) -> R,
    ) -> R {
        let is_live = matches!(self.state, State::Live(_));
        let mut line = Line { now, is_live, session: self.session.as_deref_mut(), out };
        let chat = self.chat.get_or_insert_with(|| Box::new(Chat::new(line.session.as_deref())));
        act(chat, &mut line)
    }

    /// The server isn't blamed for the time this process didn't run: like the server's stall guard, its deadlines move
    /// by the lateness.
    fn forgive_own_sleep(&mut self, now: Time) {
        let late = now.since(self.link_deadline());
        if late <= STALL {
            return;
        }
        match &mut self.state {
            State::Connecting { give_up } | State::Greeting { give_up } => *give_up = *give_up + late,
            State::Live(live) => live.heard = live.heard + late,
            State::Waiting { .. } | State::Stopped => {}
        }
    }

    fn run_due(&mut self, now: Time, out: &mut PeerOutputs) {
        match &self.state {
            // A link that is to be closed in this very call comes first; the next tick connects.
            State::Waiting { until } if *until <= now && out.link.is_none() => {
                self.state = State::Connecting { give_up: now + CONNECT_TIMEOUT };
                out.link = Some(LinkRequest::Connect);
            }
            State::Connecting { give_up } if *give_up <= now => self.lose(now, Loss::ConnectTimeout, out),
            State::Greeting { give_up } if *give_up <= now => self.lose(now, Loss::NoWelcome, out),
            State::Live(live) if self.zombie_at(live) <= now => self.lose(now, Loss::Zombie, out),
            State::Live(live) if live.next_beat <= now => self.beat(now, out),
            State::Waiting { .. }
            | State::Connecting { .. }
            | State::Greeting { .. }
            | State::Live(_)
            | State::Stopped => {}
        }
    }

    fn connected(&mut self, now: Time, local: SocketAddr, out: &mut PeerOutputs) {
        if !matches!(self.state, State::Connecting { .. }) {
            out.link = Some(LinkRequest::Drop);
            return;
        }
        self.links += 1;
        out.events.push_back(PeerEvent::Linked { local, nth: self.links });
        self.state = match self.config.mode {
            Mode::V1 => {
                self.hello(out);
                State::Greeting { give_up: now + WELCOME_TIMEOUT }
            }
            Mode::Legacy => {
                let interval = self.config.interval.unwrap_or(Duration::from_secs(10));
                State::Live(Live::new(now, interval.clamp(LEGACY_INTERVAL_MIN, INTERVAL_MAX), now, local.ip()))
            }
        };
    }

    fn hello(&mut self, out: &mut PeerOutputs) {
        let interval_ms = self.config.interval.map(|interval| interval.as_millis() as u64);
        let (client, user) = (self.config.client.as_deref(), self.config.user.as_deref());
        let resume = self.session.as_deref_mut().map(|session| {
            session.acked = session.resume.count;
            &session.resume
        });
        write_message(&mut out.send, &ClientMessage::Hello { v: 1, client, user, interval_ms, resume });
    }

    fn beat(&mut self, now: Time, out: &mut PeerOutputs) {
        let State::Live(live) = &mut self.state else { return };
        let late = now.since(live.next_beat);
        match self.config.mode {
            Mode::V1 => {
                let ack = self.session.as_deref_mut().and_then(Session::take_ack);
                let message = ClientMessage::Beat { t: now.as_micros(), re: live.asked.take(), ack };
                write_message(&mut out.send, &message);
                live.unanswered = live.unanswered.saturating_add(1);
                live.next_beat = now + self.dice.around(live.interval);
            }
            Mode::Legacy => {
                let status = self.declared.unwrap_or(Status::Alive);
                legacy::write_beat(&mut out.send, live.ip, status, self.config.pid);
                let on_time = live.next_beat + live.interval;
                live.next_beat = if on_time > now { on_time } else { now + live.interval };
            }
        }
        live.last_beat = Some(now);
        out.events.push_back(PeerEvent::BeatSent { late });
    }

    fn received(&mut self, now: Time, mut bytes: &[u8], out: &mut PeerOutputs) {
        if self.config.mode == Mode::Legacy || !self.is_linked() {
            return;
        }
        let mut decoder = mem::take(&mut self.decoder);
        loop {
            let read = match decoder.next(&mut bytes, self.config.frame_bytes) {
                Ok(Some(body)) => self.body(now, body, out),
                Ok(None) => break,
                Err(error) => Err(Malformed::because(error)),
            };
            if let Err(Malformed(what)) = read {
                self.lose(now, Loss::Malformed(what.into()), out);
            }
            if !self.is_linked() {
                return;
            }
        }
        self.decoder = decoder;
    }

    fn command(&mut self, now: Time, command: PeerCommand<'_>, out: &mut PeerOutputs) {
        match command {
            PeerCommand::Request { ticket, request, keep } => match self.state {
                State::Stopped => {
                    let result = Err(Box::new(Failed::Stopped));
                    out.events.push_back(PeerEvent::Reply { ticket, result });
                }
                _ => self.chat_or_new(now, out, |chat, line| chat.ask(ticket, request, keep, line)),
            },
            PeerCommand::Leave => self.declare(now, Status::Leave, out),
            PeerCommand::Back => self.declare(now, Status::Alive, out),
            PeerCommand::Bye => self.say_bye(now, out),
        }
    }

    fn declare(&mut self, now: Time, status: Status, out: &mut PeerOutputs) {
        self.declared = Some(status);
        let State::Live(live) = &mut self.state else { return };
        match self.config.mode {
            Mode::V1 => write_message(&mut out.send, &ClientMessage::Status { status }),
            // The beats carry it; the next one comes at once.
            Mode::Legacy => live.next_beat = now,
        }
    }

    fn say_bye(&mut self, now: Time, out: &mut PeerOutputs) {
        let request = match (&self.state, self.config.mode) {
            (State::Stopped, _) => return,
            (State::Live(_), Mode::V1) => {
                write_message(&mut out.send, &ClientMessage::Bye {});
                LinkRequest::Finish
            }
            (State::Live(live), Mode::Legacy) => {
                legacy::write_beat(&mut out.send, live.ip, Status::Close, self.config.pid);
                LinkRequest::Finish
            }
            (State::Waiting { .. } | State::Connecting { .. } | State::Greeting { .. }, _) => LinkRequest::Drop,
        };
        self.stop(now, Stop::Goodbye, request, out);
    }

    fn lose(&mut self, now: Time, loss: Loss, out: &mut PeerOutputs) {
        let was_open = !matches!(loss, Loss::Unreachable(_) | Loss::Disconnected(_));
        out.events.push_back(PeerEvent::Lost(loss));
        self.judge_link(now);
        let after = self.backoff.next(&mut self.dice);
        self.wait(now, after, was_open, out);
    }

    /// The server asked for it: the link is dropped, and the next one waits at least `retry`.
    fn retreat(&mut self, now: Time, retry: Option<Duration>, out: &mut PeerOutputs) {
        self.judge_link(now);
        let after = self.backoff.next_after(retry, &mut self.dice);
        self.wait(now, after, true, out);
    }

    /// A link that lasted an interval proved itself; one that was welcomed and cut at once did not, or a server that
    /// does that would be called without a pause.
    fn judge_link(&mut self, now: Time) {
        if let State::Live(live) = &self.state
            && now.since(live.since) >= live.interval
        {
            self.backoff.forgive();
        }
    }

    fn wait(&mut self, now: Time, after: Duration, drop_link: bool, out: &mut PeerOutputs) {
        self.state = State::Waiting { until: now + after };
        self.decoder = Decoder::default();
        out.send.clear();
        out.link = drop_link.then_some(LinkRequest::Drop);
        if let Some((chat, mut line)) = self.chat(now, out) {
            chat.unlink(&mut line);
        }
        out.events.push_back(PeerEvent::Reconnecting { after });
    }

    fn stop(&mut self, now: Time, why: Stop, request: LinkRequest, out: &mut PeerOutputs) {
        self.state = State::Stopped;
        self.decoder = Decoder::default();
        self.session = None;
        out.link = Some(request);
        if let Some((chat, mut line)) = self.chat(now, out) {
            chat.stop(&mut line);
        }
        out.events.push_back(PeerEvent::Stopped(why));
    }

    fn is_linked(&self) -> bool {
        matches!(self.state, State::Greeting { .. } | State::Live(_))
    }

    /// When silence means that the link is dead. A legacy peer never hears anything.
    fn zombie_at(&self, live: &Live) -> Time {
        match self.config.mode {
            Mode::V1 => live.heard + live.interval * 5 / 2,
            Mode::Legacy => Time::NEVER,
        }
    }
}

impl Live {
    fn new(now: Time, interval: Duration, next_beat: Time, ip: IpAddr) -> Live {
        Live { since: now, heard: now, interval, next_beat, last_beat: None, asked: None, unanswered: 0, ip }
    }
}

impl Session {
    fn is_ack_due(&self) -> bool {
        self.resume.count.saturating_sub(self.acked) >= UNACKED_MAX || self.unacked_bytes >= UNACKED_BYTES_MAX
    }

    fn take_ack(&mut self) -> Option<u64> {
        let count = self.resume.count;
        self.unacked_bytes = 0;
        (mem::replace(&mut self.acked, count) != count).then_some(count)
    }
}

#[cfg(test)]
mod tests;
