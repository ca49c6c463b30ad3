//! The pure core of stillhere: what a frame means, whether a session is still here, and what to do about it.
//!
//! [`shard::Shard`] is the whole server logic of one thread: [`shard::Shard::handle`] takes the time and one
//! [`event::Input`] and leaves its decisions as [`event::Output`]s; [`shard::Shard::next_deadline`] says when it
//! wants to be woken. [`peer::Peer`] is the same for a client. Nothing here reads a clock, sleeps, logs, opens a
//! socket or makes its own randomness (`clippy.toml` bans it), so everything hard can be tested by a table, a
//! property or a simulation in virtual time.
//!
//! Who calls it: `stillhere-server` puts sockets and timers around a shard, `stillhere-client` around a peer.

pub mod amount;
pub mod area;
pub mod bigram;
pub mod chat;
pub mod close;
pub mod detector;
pub mod event;
pub mod ledger;
pub mod life;
pub mod limits;
pub mod lru;
pub mod name;
pub mod peer;
pub mod profile;
pub mod rate;
pub mod replay;
pub mod rights;
pub mod secret;
pub mod session;
pub mod shard;
pub mod stats;
pub mod terms;
pub mod text;
pub mod throttle;
pub mod time;
pub mod wire;
