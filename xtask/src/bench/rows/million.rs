//! A million sessions in one shard, in this process and without sockets: what upkeep costs and how many bytes each takes.

use anyhow::Result;

use crate::bench::row::Row;
use crate::bench::{Bench, Missing};

/// Says that it needs the core, whose shard this benchmark will drive directly.
pub(crate) fn measure(_bench: &Bench) -> Result<Vec<Row>> {
    Err(Missing("needs stillhere-core: its shard is not part of xtask yet".to_owned()).into())
}
