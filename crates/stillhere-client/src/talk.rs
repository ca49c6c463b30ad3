//! Talking: what a client asks of its server.
//!
//! Two ways. [`Client::say`], [`Client::tell`] and [`Client::ask`] return a [`Ticket`] at once, and the outcome is an
//! [`crate::Event::Replied`]. The `async` methods wait for their answer; other events that come meanwhile are kept for
//! [`Client::next_event`].

use std::time::Duration;

use serde_json::value::RawValue;
use stillhere_core::ledger::Role;
use stillhere_core::peer::{Failed, PeerCommand, PeerEvent, PeerInput, Ticket};
use stillhere_core::wire::request::Request;

use crate::event::answer;
use crate::said::Answer;
use crate::{Client, Place};

/// Events that are kept while a call waits for its answer; a busy room sends some thousand a second.
pub const EVENTS_KEPT_MAX: usize = 16 * 1024;
/// The same in bytes of their bodies.
pub const EVENTS_KEPT_BYTES_MAX: usize = 16 << 20;

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It wasn't served.
    #[error(transparent)]
    Failed(Box<Failed>),
    /// More came meanwhile than is kept. Take events with [`Client::next_event`]; this call's outcome will be among
    /// them, with this ticket.
    #[error("too many events came before the answer; take them first")]
    Behind(Ticket),
}

type Called = Result<Box<Answer>, CallError>;

/// What a `history` is to contain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range<'a> {
    /// Only below this seq.
    pub before: Option<u64>,
    /// Only above this seq.
    pub after: Option<u64>,
    /// At most so many.
    pub limit: Option<u64>,
    /// Only what contains these words.
    pub query: Option<&'a str>,
}

impl Client {
    /// Asks for anything; the outcome is an [`crate::Event::Replied`] with this ticket. (A signal has none.)
    ///
    /// ```no_run
    /// # fn ask(client: &mut stillhere_client::Client) {
    /// use stillhere_client::Request;
    ///
    /// let ticket = client.ask(&Request::Who { room: Some("lobby"), user: None });
    /// # }
    /// ```
    pub fn ask(&mut self, request: &Request<'_>) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.handle(PeerInput::Command(PeerCommand::Request { ticket, request, keep: true }));
        ticket
    }

    /// Asks and waits for the answer. Dropping the future loses nothing: the outcome is then an event.
    ///
    /// ```no_run
    /// # async fn call(client: &mut stillhere_client::Client) -> Result<(), stillhere_client::CallError> {
    /// use stillhere_client::Request;
    ///
    /// let here = client.call(&Request::Who { room: Some("lobby"), user: None }).await?;
    /// println!("{} are here", here.users.len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`CallError`]: refused, lost with its link, or overtaken by more events than are kept.
    pub async fn call(&mut self, request: &Request<'_>) -> Called {
        let ticket = self.ask(request);
        let (mut looked_at, mut bytes) = (0, 0);
        loop {
            while let Some(event) = self.outputs.events.get(looked_at) {
                match event {
                    PeerEvent::Reply { ticket: answered, .. } if *answered == ticket => {
                        let Some(PeerEvent::Reply { result, .. }) = self.outputs.events.remove(looked_at) else {
                            break;
                        };
                        return result.map(|body| answer(&body)).map_err(CallError::Failed);
                    }
                    PeerEvent::Pushed { body, .. } => bytes += body.len(),
                    _ => {}
                }
                looked_at += 1;
            }
            if self.outputs.events.len() > EVENTS_KEPT_MAX || bytes > EVENTS_KEPT_BYTES_MAX {
                return Err(CallError::Behind(ticket));
            }
            self.step().await;
        }
    }

    /// Makes an account and becomes its user. With `remember` the answer has a token for [`Client::token`]. The client
    /// keeps what it needs to log in again by itself after a new session.
    ///
    /// ```no_run
    /// # async fn register(client: &mut stillhere_client::Client) -> Result<(), stillhere_client::CallError> {
    /// let token = client.register("ada", "correct horse", true).await?.token;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn register(&mut self, user: &str, password: &str, remember: bool) -> Called {
        self.call(&Request::Register { user, password, remember }).await
    }

    /// Becomes the user of an account; see [`Client::register`].
    ///
    /// ```no_run
    /// # async fn login(client: &mut stillhere_client::Client) -> Result<(), stillhere_client::CallError> {
    /// client.login("ada", "correct horse", false).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn login(&mut self, user: &str, password: &str, remember: bool) -> Called {
        self.call(&Request::Login { user, password, remember }).await
    }

    /// Becomes a user by the token of an earlier login.
    ///
    /// ```no_run
    /// # async fn token(client: &mut stillhere_client::Client, kept: &str) -> Result<(), stillhere_client::CallError> {
    /// let user = client.token(kept).await?.user;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn token(&mut self, token: &str) -> Called {
        self.call(&Request::Token { token }).await
    }

    /// Changes the password.
    ///
    /// ```no_run
    /// # async fn password(client: &mut stillhere_client::Client) -> Result<(), stillhere_client::CallError> {
    /// client.password("correct horse", "battery staple").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn password(&mut self, old: &str, new: &str) -> Called {
        self.call(&Request::Password { password: old, new }).await
    }

    /// Joins a room, which is made if there is none. With `after` the messages behind that seq are pushed first. The
    /// client joins it again by itself after a new session, and nothing is missed.
    ///
    /// ```no_run
    /// # async fn join(client: &mut stillhere_client::Client) -> Result<(), stillhere_client::CallError> {
    /// let lobby = client.join("lobby", None).await?;
    /// println!("{:?}", lobby.topic);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn join(&mut self, room: &str, after: Option<u64>) -> Called {
        self.call(&Request::Join { room, after, at: None }).await
    }

    /// Joins an area room at a position.
    ///
    /// ```no_run
    /// # async fn join_at(client: &mut stillhere_client::Client) -> Result<(), stillhere_client::CallError> {
    /// client.join_at("meadow", [12.5, -3.0]).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn join_at(&mut self, room: &str, at: [f64; 2]) -> Called {
        self.call(&Request::Join { room, after: None, at: Some(at) }).await
    }

    /// Leaves a room.
    ///
    /// ```no_run
    /// # async fn part(client: &mut stillhere_client::Client) -> Result<(), stillhere_client::CallError> {
    /// client.part("lobby").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn part(&mut self, room: &str) -> Called {
        self.call(&Request::Part { room }).await
    }

    /// Says something in a room. Once it is on the server's disk an [`crate::Event::Replied`] tells its seq. Over lost
    /// links it is said again for up to [`stillhere_core::peer::SAY_AGAIN`], and is in the room at most once.
    ///
    /// ```no_run
    /// # fn say(client: &mut stillhere_client::Client) {
    /// let ticket = client.say("lobby", "good morning");
    /// # }
    /// ```
    pub fn say(&mut self, room: &str, text: &str) -> Ticket {
        let mid = self.next_mid();
        self.ask(&Request::Say { room, text, data: None, mid: Some(&mid) })
    }

    /// Says something to a user, who gets it at the next login if it isn't here. As [`Client::say`] otherwise.
    ///
    /// ```no_run
    /// # fn tell(client: &mut stillhere_client::Client) {
    /// let ticket = client.tell("bob", "are you there?");
    /// # }
    /// ```
    pub fn tell(&mut self, user: &str, text: &str) -> Ticket {
        let mid = self.next_mid();
        self.ask(&Request::Tell { user, text, data: None, mid: Some(&mid) })
    }

    /// Sends volatile data to a room: now or never, and never answered. A later one of the same key supersedes it.
    ///
    /// ```no_run
    /// # fn signal(client: &mut stillhere_client::Client) -> Result<(), serde_json::Error> {
    /// let typing = serde_json::value::to_raw_value(&serde_json::json!({"typing": true}))?;
    /// client.signal("lobby", &typing, Some("typing"), None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn signal(&mut self, room: &str, data: &RawValue, key: Option<&str>, at: Option<[f64; 2]>) {
        self.ask(&Request::Signal { room, data, key, at });
    }

    /// Old messages of a room or conversation, oldest first.
    ///
    /// ```no_run
    /// # async fn history(client: &mut stillhere_client::Client) -> Result<(), stillhere_client::CallError> {
    /// use stillhere_client::{Place, Range};
    ///
    /// let found = client.history(Place::Room("lobby"), Range { query: Some("heartbeat"), ..Range::default() }).await?;
    /// for message in &found.messages {
    ///     println!("{}", message.seq);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn history(&mut self, place: Place<'_>, range: Range<'_>) -> Called {
        let (room, user) = place.parts();
        let Range { before, after, limit, query } = range;
        self.call(&Request::History { room, user, before, after, limit, query }).await
    }

    /// Who is in a room, or how one user is.
    ///
    /// ```no_run
    /// # async fn who(client: &mut stillhere_client::Client) -> Result<(), stillhere_client::CallError> {
    /// use stillhere_client::Place;
    ///
    /// for user in client.who(Place::Room("lobby")).await?.users {
    ///     println!("{:?}", user.status);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn who(&mut self, place: Place<'_>) -> Called {
        let (room, user) = place.parts();
        self.call(&Request::Who { room, user }).await
    }

    /// Asks for these users' presence from now on; at most 100 at once.
    ///
    /// ```no_run
    /// # async fn watch(client: &mut stillhere_client::Client) -> Result<(), stillhere_client::CallError> {
    /// client.watch(&["bob", "eve"]).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn watch(&mut self, users: &[&str]) -> Called {
        self.call(&Request::Watch { users }).await
    }

    /// Ends what [`Client::watch`] began.
    ///
    /// ```no_run
    /// # async fn unwatch(client: &mut stillhere_client::Client) -> Result<(), stillhere_client::CallError> {
    /// client.unwatch(&["bob"]).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn unwatch(&mut self, users: &[&str]) -> Called {
        self.call(&Request::Unwatch { users }).await
    }

    /// Tells how far this user has read; the outcome needn't be waited for.
    ///
    /// ```no_run
    /// # fn read(client: &mut stillhere_client::Client) {
    /// use stillhere_client::Place;
    ///
    /// client.read(Place::User("bob"), 17);
    /// # }
    /// ```
    pub fn read(&mut self, place: Place<'_>, seq: u64) -> Ticket {
        let (room, user) = place.parts();
        self.ask(&Request::Read { room, user, seq })
    }

    /// Changes a room: its topic, whether it is public, how far its signals reach. `None` leaves a setting alone.
    ///
    /// ```no_run
    /// # async fn set(client: &mut stillhere_client::Client) -> Result<(), stillhere_client::CallError> {
    /// client.set_room("lobby", Some("all that beats"), None, None).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn set_room(
        &mut self,
        room: &str,
        topic: Option<&str>,
        public: Option<bool>,
        radius: Option<f64>,
    ) -> Called {
        self.call(&Request::Room { room, topic, public, radius }).await
    }

    /// Gives a user a role in a room.
    ///
    /// ```no_run
    /// # async fn role(client: &mut stillhere_client::Client) -> Result<(), stillhere_client::CallError> {
    /// client.role("lobby", "bob", stillhere_client::Role::Moderator).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn role(&mut self, room: &str, user: &str, role: Role) -> Called {
        self.call(&Request::Role { room, user, role }).await
    }

    /// Lets a user into a room by invitation.
    ///
    /// ```no_run
    /// # async fn invite(client: &mut stillhere_client::Client) -> Result<(), stillhere_client::CallError> {
    /// client.invite("den", "bob").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn invite(&mut self, room: &str, user: &str) -> Called {
        self.call(&Request::Invite { room, user }).await
    }

    /// Lets a user only listen for a time; zero ends it.
    ///
    /// ```no_run
    /// # async fn mute(client: &mut stillhere_client::Client) -> Result<(), stillhere_client::CallError> {
    /// client.mute("lobby", "bob", std::time::Duration::from_secs(600)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn mute(&mut self, room: &str, user: &str, span: Duration) -> Called {
        self.call(&Request::Mute { room, user, for_ms: millis(span) }).await
    }

    /// Puts a user out of a room, for a time if it isn't zero.
    ///
    /// ```no_run
    /// # async fn remove(client: &mut stillhere_client::Client) -> Result<(), stillhere_client::CallError> {
    /// client.remove("lobby", "bob", std::time::Duration::ZERO).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn remove(&mut self, room: &str, user: &str, span: Duration) -> Called {
        self.call(&Request::Remove { room, user, for_ms: millis(span) }).await
    }

    /// Deletes a message; its place stays.
    ///
    /// ```no_run
    /// # async fn delete(client: &mut stillhere_client::Client) -> Result<(), stillhere_client::CallError> {
    /// client.delete(stillhere_client::Place::Room("lobby"), 17).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn delete(&mut self, place: Place<'_>, seq: u64) -> Called {
        let (room, user) = place.parts();
        self.call(&Request::Delete { room, user, seq }).await
    }

    /// Takes no messages from a user any more, and shows it no presence.
    ///
    /// ```no_run
    /// # async fn block(client: &mut stillhere_client::Client) -> Result<(), stillhere_client::CallError> {
    /// client.block("mallory").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn block(&mut self, user: &str) -> Called {
        self.call(&Request::Block { user }).await
    }

    /// Ends what [`Client::block`] began.
    ///
    /// ```no_run
    /// # async fn unblock(client: &mut stillhere_client::Client) -> Result<(), stillhere_client::CallError> {
    /// client.unblock("mallory").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn unblock(&mut self, user: &str) -> Called {
        self.call(&Request::Unblock { user }).await
    }

    /// Lets a user see this one's presence, and write although a stranger.
    ///
    /// ```no_run
    /// # async fn allow(client: &mut stillhere_client::Client) -> Result<(), stillhere_client::CallError> {
    /// client.allow("bob").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn allow(&mut self, user: &str) -> Called {
        self.call(&Request::Allow { user }).await
    }

    /// Ends what [`Client::allow`] began.
    ///
    /// ```no_run
    /// # async fn disallow(client: &mut stillhere_client::Client) -> Result<(), stillhere_client::CallError> {
    /// client.disallow("bob").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn disallow(&mut self, user: &str) -> Called {
        self.call(&Request::Disallow { user }).await
    }

    /// An id that no other message of this user has.
    fn next_mid(&mut self) -> String {
        let nonce = *self.nonce.get_or_insert_with(|| {
            // Without randomness the clock has to tell two runs apart.
            let since = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            getrandom::u64().unwrap_or_else(|_| since().as_nanos() as u64)
        });
        format!("{nonce:016x}-{}", self.tickets + 1)
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
