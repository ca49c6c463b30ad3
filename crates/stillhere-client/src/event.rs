//! What happens to a client, typed.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use stillhere_core::peer::{Failed, Loss, PeerEvent, Recovery, Refused, Stop, Ticket, Welcomed};

use crate::said::{Answer, Message, Notice, Presence, RoomDigest, Signal};

/// What an application may want to know.
#[derive(Clone, Debug)]
pub enum Event {
    /// A link is open.
    Linked {
        /// This end's address.
        local: SocketAddr,
        /// How many links this client has had, from 1.
        nth: u64,
    },
    /// The session began or goes on; [`Welcomed::continuity`] tells which, and whether pushes may be missing.
    Welcomed(Box<Welcomed>),
    /// A step on the way back after a new session: logged in again, in a room again.
    Recovery(Box<Recovery>),
    /// A message to a room or to this user. Each comes once, in the order of its room.
    Message(Box<Message>),
    /// Volatile data to a room.
    Signal(Box<Signal>),
    /// What happened while this session is on leave.
    Digest(Vec<RoomDigest>),
    /// A user's status.
    Presence(Box<Presence>),
    /// Something to know.
    Notice(Box<Notice>),
    /// A push that this client doesn't know.
    Unknown {
        /// The body as it came.
        body: Box<str>,
    },
    /// What became of a request that was asked with [`crate::Client::ask`] (or `say` or `tell`).
    Replied {
        /// Which.
        ticket: Ticket,
        /// The answer.
        result: Result<Box<Answer>, Box<Failed>>,
    },
    /// The server refused something that wasn't a request.
    Refused(Box<Refused>),
    /// A beat was sent.
    BeatSent {
        /// How long after it was due; with long pauses between calls of [`crate::Client::next_event`] it grows.
        late: Duration,
    },
    /// A beat was answered.
    BeatAnswered {
        /// From its sending to the answer.
        rtt: Duration,
        /// How long after its last frame this session, if silent, is on leave.
        detect: Option<Duration>,
    },
    /// The server changed the interval to beat at.
    IntervalChanged(Duration),
    /// The server closed the link with a code; `Reconnecting` or `Stopped` follows.
    Closed {
        /// A close code.
        code: u16,
        /// In the server's words; show it with [`stillhere_core::text::Escaped`].
        reason: Box<str>,
    },
    /// The link is gone, or was never opened; `Reconnecting` follows.
    Lost(Loss),
    /// The client will connect again by itself.
    Reconnecting {
        /// After this time; zero for at once.
        after: Duration,
    },
    /// The client won't connect again.
    Stopped(Stop),
}

#[derive(Deserialize)]
struct Digest {
    rooms: Vec<RoomDigest>,
}

#[derive(Deserialize)]
struct Head {
    op: String,
}

impl From<PeerEvent> for Event {
    fn from(event: PeerEvent) -> Event {
        match event {
            PeerEvent::Linked { local, nth } => Event::Linked { local, nth },
            PeerEvent::Welcomed(welcomed) => Event::Welcomed(welcomed),
            PeerEvent::Recovery(recovery) => Event::Recovery(recovery),
            PeerEvent::Pushed { body, .. } => pushed(&body).unwrap_or(Event::Unknown { body }),
            PeerEvent::Reply { ticket, result } => Event::Replied { ticket, result: result.map(|body| answer(&body)) },
            PeerEvent::Refused(refused) => Event::Refused(refused),
            PeerEvent::BeatSent { late } => Event::BeatSent { late },
            PeerEvent::BeatAnswered { rtt, detect } => Event::BeatAnswered { rtt, detect },
            PeerEvent::IntervalChanged(interval) => Event::IntervalChanged(interval),
            PeerEvent::Closed { code, reason } => Event::Closed { code, reason },
            PeerEvent::Lost(loss) => Event::Lost(loss),
            PeerEvent::Reconnecting { after } => Event::Reconnecting { after },
            PeerEvent::Stopped(stop) => Event::Stopped(stop),
        }
    }
}

/// An answer whose fields can't be read is an `ok` all the same.
pub(crate) fn answer(body: &str) -> Box<Answer> {
    serde_json::from_str(body).unwrap_or_default()
}

fn pushed(body: &str) -> Option<Event> {
    let head: Head = serde_json::from_str(body).ok()?;
    Some(match head.op.as_str() {
        "message" => Event::Message(serde_json::from_str(body).ok()?),
        "signal" => Event::Signal(serde_json::from_str(body).ok()?),
        "digest" => Event::Digest(serde_json::from_str::<Digest>(body).ok()?.rooms),
        "presence" => Event::Presence(serde_json::from_str(body).ok()?),
        "notice" => Event::Notice(serde_json::from_str(body).ok()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, shown: &str) {
        let event = Event::from(PeerEvent::Pushed { count: 1, body: body.into() });
        let event = format!("{event:?}");
        assert!(event.contains(shown), "{event}");
    }

    #[test]
    fn pushes_are_typed_and_what_is_unknown_is_kept_as_it_came() {
        check(r#"{"op":"message","room":"r","seq":1,"from":"a","text":"t","data":{"x":1},"time_ms":5}"#, "Message(");
        check(r#"{"op":"signal","room":"r","from":"a","at":[1,2],"data":[1]}"#, "Signal(");
        let presence = r#""user":"a","status":"leave","cause":"idle","since_ms":1,"gen":1,"ver":2}"#;
        check(&format!(r#"{{"op":"presence",{presence}"#), "status: Leave");
        let room = format!(
            r#"{{"room":"r","count":2,"head":9,"previews":[{{"seq":9,"from":"a","text":"t"}}],"signals":[],"presence":[{{{presence}]}}"#
        );
        check(&format!(r#"{{"op":"digest","rooms":[{room}]}}"#), "head: 9");
        check(r#"{"op":"notice","kind":"text","text":"soon"}"#, "soon");
        check(r#"{"op":"message","seq":"x"}"#, "Unknown");
        check(r#"{"op":"of-the-future"}"#, "Unknown");
    }
}
