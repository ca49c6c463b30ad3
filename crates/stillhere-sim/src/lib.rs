//! A virtual network in virtual time: many [`Peer`](stillhere_core::peer::Peer)s against the gateway's
//! [`Shard`](stillhere_core::shard::Shard)s.
//!
//! Everything follows from one seed: delays, losses, secrets, the clients' jitter. A run repeats itself exactly, so a
//! failing seed is a failing test. It simulates what TCP makes of a bad network (order is kept, a lost segment comes
//! late, a black hole swallows all), not TCP itself.
//!
//! Who calls it: tests, with a scenario and a seed.

#![forbid(unsafe_code)]

mod network;
mod world;

pub use network::Weather;
pub use world::{Departure, World};
