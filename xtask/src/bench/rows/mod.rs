//! The rows of the table, one file each. Each says how it measures and holds its own goals.

pub(crate) mod blackhole;
pub(crate) mod burst;
pub(crate) mod connect;
pub(crate) mod latency;
pub(crate) mod legacy;
pub(crate) mod million;
mod namespace;
pub(crate) mod reply;
pub(crate) mod rss;
pub(crate) mod stall;
