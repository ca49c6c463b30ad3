//! The threads that hash. Each takes one piece of work after the other; how many pieces wait is the desk's business.
//!
//! Threads: `hash-N`, as many as half the cores and at least one, of low priority, so that a flood of logins takes
//! what beats and messages leave over. They end with the process.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use stillhere_core::name::Name;
use tracing::warn;

use super::hash::{Hasher, Verdict};
use super::password::{self, Weak};
use crate::background::step_back;

/// For so long nothing came: the memory of hashes goes back to the system. A flood of logins leaves no such gap.
const IDLE: Duration = Duration::from_secs(1);

/// Something slow to do with a password.
pub(super) enum Work {
    /// Whether it is this user's; hashed anew if it should be.
    Verify { stored: Option<Box<str>>, password: Box<str> },
    /// A new user's.
    Make { user: Name, password: Box<str> },
    /// The old one verified, then the new one hashed.
    Change { user: Name, stored: Option<Box<str>>, old: Box<str>, new: Box<str> },
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Worked {
    /// The password isn't that user's.
    Wrong,
    /// It is; with what to store from now on, if that is something else.
    Right(Option<String>),
    /// What to store for a new user.
    Made(String),
    /// The new password is refused; an old one that was to be shown was right.
    Weak(Weak),
    /// The fault is ours.
    Failed,
}

impl Work {
    /// How many hashes it takes, at most, not counting rare renewals.
    pub(super) fn hashes(&self) -> u32 {
        match self {
            Work::Verify { .. } | Work::Make { .. } => 1,
            Work::Change { .. } => 2,
        }
    }

    /// Does it.
    pub(super) fn run(self, hasher: &Hasher) -> Worked {
        self.try_run(hasher).unwrap_or_else(|error| {
            warn!(error = format!("{error:#}"), "a password can't be hashed; is there enough memory?");
            Worked::Failed
        })
    }

    fn try_run(self, hasher: &Hasher) -> anyhow::Result<Worked> {
        Ok(match self {
            Work::Verify { stored, password } => match hasher.verify(stored.as_deref(), &password) {
                Verdict::Wrong => Worked::Wrong,
                Verdict::Right => Worked::Right(None),
                Verdict::Stale => Worked::Right(Some(hasher.hash(&password)?)),
            },
            Work::Make { user, password } => match password::check(&password, &user) {
                Err(weak) => Worked::Weak(weak),
                Ok(()) => Worked::Made(hasher.hash(&password)?),
            },
            Work::Change { user, stored, old, new } => match hasher.verify(stored.as_deref(), &old) {
                Verdict::Wrong => Worked::Wrong,
                Verdict::Right | Verdict::Stale => match password::check(&new, &user) {
                    Err(weak) => Worked::Weak(weak),
                    Ok(()) => Worked::Right(Some(hasher.hash(&new)?)),
                },
            },
        })
    }
}

/// How many threads hash.
pub(super) fn threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).max(1)
}

/// Starts the threads. Each result goes to `tell` with the work's number and the time it took.
pub(super) fn start(
    threads: usize,
    hasher: &Arc<Hasher>,
    tell: impl Fn(u64, Worked, Duration) + Clone + Send + 'static,
) -> std::io::Result<Sender<(u64, Work)>> {
    let (sender, receiver) = channel();
    let receiver = Arc::new(Mutex::new(receiver));
    for index in 0..threads {
        let (hasher, receiver, tell) = (Arc::clone(hasher), Arc::clone(&receiver), tell.clone());
        std::thread::Builder::new().name(format!("hash-{index}")).spawn(move || {
            step_back("hashing of passwords");
            while let Some((ticket, work)) = next(&receiver, &hasher) {
                let began = Instant::now();
                let worked = catch_unwind(AssertUnwindSafe(|| work.run(&hasher))).unwrap_or(Worked::Failed);
                tell(ticket, worked, began.elapsed());
            }
        })?;
    }
    Ok(sender)
}

/// Waits for work; one thread waits for it, the others for the lock.
fn next(receiver: &Mutex<Receiver<(u64, Work)>>, hasher: &Hasher) -> Option<(u64, Work)> {
    let receiver = receiver.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        match receiver.recv_timeout(IDLE) {
            Ok(work) => return Some(work),
            Err(RecvTimeoutError::Disconnected) => return None,
            // Each time, since another thread may have been at work until now.
            Err(RecvTimeoutError::Timeout) => hasher.rest(),
        }
    }
}
