//! The gateway: sockets, threads, files and HTTP around the pure core.
//!
//! One thread a shard: each runs a `driver` with its own shard and all tasks of its links, so nothing on the path
//! of a beat is shared, locked or sent. One thread accepts nothing but operators (`admin`), one writes to the disk
//! (`store`), and the main thread keeps watch over signals ([`serve`]).
//!
//! Bytes go `listen → link → driver → core` and back; operators go `admin → control → hub → driver`.

pub mod certificate;
pub mod config;
pub mod metrics;
pub mod serve;
pub mod telemetry;

pub use accounts::import;

mod accounts;
mod admin;
mod api;
mod background;
mod clock;
mod coalesce;
mod control;
mod driver;
mod gate;
mod hub;
mod link;
mod listen;
mod notes;
mod office;
mod openapi;
mod outbox;
mod process;
mod store;
mod token;
mod transport;
mod turns;

pub use store::salvage::Saved;
