//! How many files this process may open, and how many of them can be links.

use rustix::process::{Resource, getrlimit};

/// Kept free so that a full gateway can still accept in order to refuse, answer its operator and write its files.
pub const FDS_RESERVED: u64 = 32;
/// What the process has open by itself: the standard streams, two listeners, signals, store, log and admin's own
/// connections.
const FDS_PROCESS: u64 = 32;
/// What a shard has open by itself: its poller, its waker and some spare.
const FDS_SHARD: u64 = 4;

/// The limits of open files (RLIMIT_NOFILE) of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// What holds now; `u64::MAX` when there is no limit.
    pub soft: u64,
    /// Up to what the process may raise it by itself; `u64::MAX` when there is no limit.
    pub hard: u64,
}

impl OpenFiles {
    /// The limits as they are now.
    pub fn now() -> OpenFiles {
        let limit = getrlimit(Resource::Nofile);
        OpenFiles { soft: limit.current.unwrap_or(u64::MAX), hard: limit.maximum.unwrap_or(u64::MAX) }
    }

    /// The same with the soft limit raised to the hard one, as `serve` does at its start.
    pub fn raised(self) -> OpenFiles {
        OpenFiles { soft: self.hard, ..self }
    }

    /// How many links fit below the soft limit beside `shards` shards and the reserve.
    pub fn links(self, shards: usize) -> usize {
        let own = FDS_RESERVED + FDS_PROCESS + FDS_SHARD * shards as u64;
        usize::try_from(self.soft.saturating_sub(own)).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_limit_leaves_room_for_what_the_process_needs() {
        assert_eq!(OpenFiles { soft: 1024, hard: 1024 }.links(2), 1024 - 32 - 32 - 8);
        assert_eq!(OpenFiles { soft: 10, hard: 10 }.links(2), 0);
    }
}
