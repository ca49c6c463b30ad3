//! What is our own fault.

use std::panic::resume_unwind;

use tokio::task::JoinError;

/// Goes on panicking if a task did. Nothing that a target does may cause that, so it is ours, and a run must not pass
/// for it. A task that was cancelled is none.
pub(crate) fn resume(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        resume_unwind(panic);
    }
}
