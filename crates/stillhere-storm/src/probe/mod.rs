//! What can be seen of the target and of the storm itself.
//!
//! The target's process is read from `/proc` when it runs here, its metrics over HTTP when it has them. A thread of its
//! own does it once a second, so that a target too busy to answer delays no sample; what it couldn't see in time is
//! left out of the sample, never carried over from an earlier one.
//!
//! It looks and changes nothing.

mod metrics;
pub(crate) mod process;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use self::process::Seen;
use crate::plan::Target;
use crate::sample::{OwnSecond, TargetSecond};

/// How long the metrics may take to answer. Less than a second, or a sample would tell of the second before.
const METRICS_TIMEOUT: Duration = Duration::from_millis(800);
/// How long a sample waits for what is being looked at.
const LOOK_TIMEOUT: Duration = Duration::from_millis(900);

/// Looks at the target whenever it is asked to.
pub(crate) struct Probe {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// Whether somebody wants to know, and what was seen since.
    desk: Mutex<Desk>,
    changed: Condvar,
    ended: AtomicBool,
}

#[derive(Default)]
struct Desk {
    asked: bool,
    seen: Option<TargetSecond>,
}

impl Probe {
    /// Begins to look. `pid` is the target's process if the storm started it.
    pub(crate) fn new(target: &Target, address: SocketAddr, pid: Option<u32>) -> Probe {
        let shared = Arc::new(Shared::default());
        let (theirs, metrics) = (shared.clone(), target.metrics.clone());
        // A target within this process can't be told apart from the storm.
        let pid = pid.or(target.pid).or_else(|| process::listener(address)).filter(|pid| *pid != std::process::id());
        let thread = std::thread::Builder::new().name("storm-probe".to_owned());
        let thread = thread.spawn(move || look_when_asked(&theirs, pid, metrics.as_deref())).ok();
        Probe { shared, thread }
    }

    /// Asks for the target as it is now. The answer comes with [`Probe::take`].
    pub(crate) fn ask(&self) {
        let mut desk = self.shared.desk.lock().unwrap_or_else(PoisonError::into_inner);
        (desk.asked, desk.seen) = (true, None);
        self.shared.changed.notify_all();
    }

    /// What was seen since it was asked; waits a moment for it. `None` if there is nothing to see.
    pub(crate) fn take(&self) -> Option<TargetSecond> {
        let desk = self.shared.desk.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.shared.changed.wait_timeout_while(desk, LOOK_TIMEOUT, |desk| desk.seen.is_none());
        let (mut desk, _) = waited.unwrap_or_else(PoisonError::into_inner);
        desk.seen.take().filter(|seen| *seen != TargetSecond::default())
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.shared.changed.notify_all();
        // A probe that panicked has nothing more to tell.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn look_when_asked(shared: &Shared, pid: Option<u32>, metrics: Option<&str>) {
    // The page is where the plan says, and nowhere that it or the environment sends to.
    let agent =
        ureq::Agent::config_builder().timeout_global(Some(METRICS_TIMEOUT)).max_redirects(0).proxy(None).build();
    let agent: ureq::Agent = agent.into();
    loop {
        let desk = shared.desk.lock().unwrap_or_else(PoisonError::into_inner);
        let is_idle = |desk: &mut Desk| !desk.asked && !shared.ended.load(Ordering::Relaxed);
        let mut desk = shared.changed.wait_while(desk, is_idle).unwrap_or_else(PoisonError::into_inner);
        if shared.ended.load(Ordering::Relaxed) {
            return;
        }
        desk.asked = false;
        drop(desk);
        let mut seen = metrics.map(|url| metrics::fetch(&agent, url)).unwrap_or_default();
        if let Some(process) = pid.and_then(Seen::of) {
            // The system knows the process better than it knows itself, and isn't held up by its load.
            seen.rss = Some(process.rss);
            seen.cpu_ms = Some(process.cpu_ms);
            seen.files = process.files.or(seen.files);
            seen.threads = Some(process.threads);
        }
        let mut desk = shared.desk.lock().unwrap_or_else(PoisonError::into_inner);
        desk.seen = Some(seen);
        shared.changed.notify_all();
    }
}

/// The storm's own process; `crowd` is the crowd's thread as the system numbers it, 0 for none.
pub(crate) fn own(crowd: u32) -> OwnSecond {
    let seen = Seen::of(std::process::id()).unwrap_or_default();
    let crowd_cpu_ms = process::thread_cpu_ms(crowd).unwrap_or(0);
    let (cpu_ms, rss, files) = (seen.cpu_ms, seen.rss, seen.files.unwrap_or(0));
    OwnSecond { cpu_ms, crowd_cpu_ms, rss, lag_us: 0, files }
}
