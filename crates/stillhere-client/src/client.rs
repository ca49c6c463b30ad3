//! One client: a peer with a socket and a timer.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use stillhere_core::peer::{LinkRequest, Mode, Peer, PeerCommand, PeerEvent, PeerInput, PeerOutputs};
use stillhere_core::time::Time;
use stillhere_core::wire::message::Resume;
use tokio::io::Interest;
use tokio::time::{Instant, sleep_until, timeout};

use crate::link::{Link, Ready};
use crate::{Builder, ConnectError, Event, Target};

/// While more than this is unsent the client reads nothing, so a server that asks without listening can't make it
/// grow; if that lasts, the zombie rule ends it.
const UNSENT_MAX: usize = 64 * 1024;
/// Beyond this there is nothing to wake for: a century, which every clock can add.
const SLEEP_US_MAX: u64 = 100 * 365 * 24 * 3600 * 1_000_000;
/// How long a goodbye waits until the server has read it and closed its side.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// A client of stillhere. It lives in the calls of [`Client::next_event`]: call it in a loop.
///
/// ```no_run
/// # async fn run() -> Result<(), stillhere_client::ConnectError> {
/// use stillhere_client::Client;
///
/// let mut client = Client::builder().connect("127.0.0.1:14000").await?;
/// client.leave();
/// while let Some(event) = client.next_event().await {
///     println!("{event:?}");
/// }
/// # Ok(())
/// # }
/// ```
pub struct Client {
    peer: Peer,
    target: Target,
    link: Link,
    /// The origin of the peer's time.
    origin: Instant,
    /// `send` holds what the socket hasn't taken yet, `events` what the application hasn't.
    pub(crate) outputs: PeerOutputs,
    /// The last ticket given out.
    pub(crate) tickets: i64,
    /// What tells this run's mids from another's.
    pub(crate) nonce: Option<u64>,
}

impl Client {
    /// Begins to describe a client.
    ///
    /// ```
    /// use std::time::Duration;
    /// use stillhere_client::Client;
    ///
    /// let builder = Client::builder().user("ada").interval(Duration::from_secs(30));
    /// ```
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn new(peer: Peer, target: Target) -> Client {
        let (link, origin, outputs) = (Link::Absent, Instant::now(), PeerOutputs::default());
        Client { peer, target, link, origin, outputs, tickets: 0, nonce: None }
    }

    /// The next thing that happened; `None` once the client has stopped for good. Between calls nothing is read, sent
    /// or timed. Dropping the future loses nothing, so it may stand in a `select!`.
    ///
    /// Beats are sent in here: with a long pause between two calls a session goes on leave.
    pub async fn next_event(&mut self) -> Option<Event> {
        self.next_peer_event().await.map(Event::from)
    }

    /// An event that has come already, without waiting and without looking at the socket.
    ///
    /// ```no_run
    /// # async fn drain(client: &mut stillhere_client::Client) {
    /// // A screen needs to be drawn once for many events.
    /// let mut event = client.next_event().await;
    /// while let Some(happened) = event {
    ///     println!("{happened:?}");
    ///     event = client.take_event();
    /// }
    /// # }
    /// ```
    pub fn take_event(&mut self) -> Option<Event> {
        self.take_peer_event().map(Event::from)
    }

    /// As [`Client::next_event`], with pushes and answers as they came, for whoever counts them or reads them another
    /// way.
    pub async fn next_peer_event(&mut self) -> Option<PeerEvent> {
        loop {
            if let Some(event) = self.take_peer_event() {
                return Some(event);
            }
            if self.peer.is_stopped() {
                return None;
            }
            self.step().await;
        }
    }

    /// As [`Client::take_event`], with pushes and answers as they came.
    pub fn take_peer_event(&mut self) -> Option<PeerEvent> {
        let event = self.outputs.events.pop_front();
        if self.outputs.events.is_empty() {
            // Most clients wait most of the time: room for events that there aren't is given back.
            self.outputs.events = VecDeque::new();
        }
        event
    }

    /// How many messages of others the server pushed although this client had them. They are no events; a sound
    /// server never does it.
    pub fn repeated(&self) -> u64 {
        self.peer.repeated()
    }

    /// Declares leave: away on purpose. It holds until [`Client::back`], also over a new link or session. It is sent
    /// at once if the socket takes it, else by [`Client::next_event`].
    pub fn leave(&mut self) {
        self.handle(PeerInput::Command(PeerCommand::Leave));
    }

    /// Declares alive again.
    pub fn back(&mut self) {
        self.handle(PeerInput::Command(PeerCommand::Back));
    }

    /// Says goodbye and closes the link: the session ends and can't be resumed. Waits at most a second for the server
    /// to have read it.
    pub async fn bye(mut self) {
        self.handle(PeerInput::Command(PeerCommand::Bye));
        self.finish().await;
    }

    /// Closes the link without a goodbye: the server keeps the session for a while, and [`Client::resume`], kept from
    /// before, takes it up again. Dropping the client does the same without waiting for what is unsent.
    pub async fn hang_up(mut self) {
        self.finish().await;
    }

    /// What takes the session up again in a later run, see [`Builder::resume`]. It holds a secret: keep it as one.
    pub fn resume(&self) -> Option<&Resume> {
        self.peer.resume()
    }

    pub(crate) fn mode(&self) -> Mode {
        self.peer.mode()
    }

    /// Waits for the first welcome (or, without one to wait for, the first link).
    pub(crate) async fn first_link(&mut self) -> Result<(), ConnectError> {
        loop {
            self.step().await;
            if let Some(outcome) = self.outputs.events.iter().find_map(|event| outcome(event, self.peer.mode())) {
                return outcome;
            }
        }
    }

    /// Waits for one thing to happen and lets the peer deal with it.
    pub(crate) async fn step(&mut self) {
        let interest = match self.outputs.send.len() {
            0 => Interest::READABLE,
            1..=UNSENT_MAX => Interest::READABLE | Interest::WRITABLE,
            _ => Interest::WRITABLE,
        };
        let deadline = self.peer.next_deadline();
        let wake = self.origin + Duration::from_micros(deadline.as_micros().min(SLEEP_US_MAX));
        let ready = tokio::select! {
            biased;
            ready = self.link.ready(interest) => Some(ready),
            () = sleep_until(wake), if deadline != Time::NEVER => None,
        };
        match ready {
            None => self.handle(PeerInput::Tick),
            Some(Ok(Ready::Opened(Ok((link, local))))) => {
                self.link = link;
                self.handle(PeerInput::Connected { local });
            }
            Some(Ok(Ready::Opened(Err(error)))) => {
                self.link = Link::Absent;
                self.handle(PeerInput::ConnectFailed(&error.to_string()));
            }
            Some(Ok(Ready::Read)) => self.receive(),
            Some(Ok(Ready::Write)) => {
                self.flush();
                self.receive();
            }
            Some(Err(error)) => self.lost(&error.to_string()),
        }
    }

    fn receive(&mut self) {
        if self.outputs.send.len() > UNSENT_MAX {
            return;
        }
        let now = self.now();
        let read = self.link.read(|bytes| {
            self.peer.handle(now, PeerInput::Received(bytes), &mut self.outputs);
            bytes.len()
        });
        match read {
            Ok(None) => {}
            Ok(Some(0)) => self.lost("end of stream"),
            Ok(Some(_)) => self.carry_out(),
            Err(error) => self.lost(&error.to_string()),
        }
    }

    pub(crate) fn handle(&mut self, input: PeerInput<'_>) {
        self.peer.handle(self.now(), input, &mut self.outputs);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        match self.outputs.link.take() {
            None => {}
            Some(LinkRequest::Connect) => self.link = Link::opening(&self.target),
            Some(LinkRequest::Drop) => {
                self.link = Link::Absent;
                self.outputs.send = Vec::new();
            }
            // Only `bye` leads here, and it finishes the link itself.
            Some(LinkRequest::Finish) => {}
        }
        self.flush();
    }

    fn flush(&mut self) {
        if let Err(error) = self.link.write(&mut self.outputs.send) {
            self.lost(&error.to_string());
        }
    }

    /// The socket is of no more use.
    fn lost(&mut self, why: &str) {
        self.link = Link::Absent;
        self.outputs.send = Vec::new();
        self.handle(PeerInput::Disconnected(why));
    }

    /// Lets the link end in peace.
    async fn finish(&mut self) {
        let rest = std::mem::take(&mut self.outputs.send);
        // The link is gone after this in any case.
        let _ = timeout(GOODBYE_TIMEOUT, self.link.finish(rest)).await;
        self.link = Link::Absent;
    }

    fn now(&self) -> Time {
        Time::from_micros(self.origin.elapsed().as_micros() as u64)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("target", &self.target).field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// What an event says about the first attempt, if that is decided by it.
fn outcome(event: &PeerEvent, mode: Mode) -> Option<Result<(), ConnectError>> {
    match event {
        PeerEvent::Linked { .. } => (mode == Mode::Legacy).then_some(Ok(())),
        PeerEvent::Welcomed(_) => Some(Ok(())),
        PeerEvent::Refused(refused) => {
            Some(Err(ConnectError::Refused { code: refused.code, message: refused.message.clone() }))
        }
        PeerEvent::Closed { code, reason } => Some(Err(ConnectError::Closed { code: *code, reason: reason.clone() })),
        PeerEvent::Lost(loss) => Some(Err(ConnectError::Lost(loss.clone()))),
        PeerEvent::Stopped(stop) => Some(Err(ConnectError::Stopped(*stop))),
        PeerEvent::BeatSent { .. }
        | PeerEvent::BeatAnswered { .. }
        | PeerEvent::IntervalChanged(_)
        | PeerEvent::Pushed { .. }
        | PeerEvent::Reply { .. }
        | PeerEvent::Recovery(_)
        | PeerEvent::Reconnecting { .. } => None,
    }
}
