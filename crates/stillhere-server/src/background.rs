//! Threads that step back for those that serve links.

use tracing::warn;

/// How much nicer they are: the kernel gives each about a tenth of a core that a shard wants as well.
const NICER: i32 = 10;

/// Lets the present thread step back; on Linux a thread has a niceness of its own. `what` it does is for the log.
pub(crate) fn step_back(what: &str) {
    if let Err(error) = rustix::process::nice(NICER) {
        warn!(%error, "{what} can't be given a low priority; much of it may slow down everybody else");
    }
}
