//! An asynchronous client for stillhere: it connects, beats, notices a dead link, comes back and resumes.
//!
//! All decisions are made by [`stillhere_core::peer::Peer`], which is pure; this crate puts a socket and a timer
//! around it. There is no task, thread or channel inside: a [`Client`] lives in the calls of [`Client::next_event`],
//! so it works on any tokio runtime (with I/O and time enabled), and its beats tell that *your* loop still turns, not
//! merely that the process exists.
//!
//! ```no_run
//! use std::time::Duration;
//! use stillhere_client::{Client, Event};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut client = Client::builder().user("ada").interval(Duration::from_secs(10)).connect("127.0.0.1:14000").await?;
//! while let Some(event) = client.next_event().await {
//!     match event {
//!         Event::Welcomed(welcomed) => println!("session {}", welcomed.session),
//!         Event::BeatAnswered { rtt, .. } => println!("still here, {rtt:?} away"),
//!         Event::Message(message) => println!("{:?}", message.text),
//!         Event::Lost(loss) => println!("{loss}; I'll be back"),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`Crowd`] runs thousands of clients on one thread, for `stillhere beat --count`.

#![forbid(unsafe_code)]

mod builder;
mod client;
mod crowd;
mod event;
mod files;
mod link;
mod place;
mod said;
mod talk;
mod tls;

pub use stillhere_core::close::Cause;
pub use stillhere_core::detector::Status;
pub use stillhere_core::ledger::Role;
pub use stillhere_core::peer::{
    Continuity, Failed, Loss, PeerEvent, Recovery, Refused, SAY_AGAIN, Stop, Ticket, Welcomed,
};
pub use stillhere_core::wire::message::Resume;
pub use stillhere_core::wire::request::Request;

pub use self::builder::{Builder, ConnectError, Target};
pub use self::client::Client;
pub use self::crowd::{Crowd, Ramp};
pub use self::event::Event;
pub use self::files::{TooFewFiles, allow_files};
pub use self::place::Place;
pub use self::said::{Answer, Message, Notice, Presence, Preview, RoomDigest, Signal};
pub use self::talk::{CallError, EVENTS_KEPT_BYTES_MAX, EVENTS_KEPT_MAX, Range};
pub use self::tls::{Tls, TlsError};
