//! A run: its phases, its threads, its samples.
//!
//! Threads: `storm-crowd`, `storm-load` and `storm-attack`, each with a runtime of its own, and `storm-probe`, which
//! looks at the target. The caller's thread keeps the time: it ends each second with a sample and each phase at its
//! moment. Threads end when they are told that there is no phase any more, and are waited for. The attackers' thread
//! runs at a lower priority: on a machine that is shared with the target the attack takes what is left over, as if it
//! came from elsewhere, and doesn't delay the clocks of those who measure.

mod starter;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::LocalSet;

use self::starter::Started;
use crate::frame::Framing;
use crate::plan::{self, Plan, PlanError};
use crate::probe::{self, Probe};
use crate::sample::{AttackSecond, End, OwnSecond, Phase, Recording, ReportError, Run, Second, Tally, VERSION, Writer};
use crate::{attack, crowd, load};

/// How long a target may take to accept the first connection.
const REACH_TIMEOUT: Duration = Duration::from_secs(5);
/// A sample is taken so often, and where a phase ends.
const PERIOD: Duration = Duration::from_secs(1);
/// How often the caller's interruption is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long threads may take to end: a crowd waits for stragglers and says goodbye.
const END_TIMEOUT: Duration = Duration::from_secs(15);
/// Files of the storm itself: pollers, samples, metrics, a target's output.
const FILES_OWN: u64 = 64;
/// How much nicer attackers are than all others.
#[cfg(unix)]
const NICER: i32 = 19;

/// Why there is no recording.
#[derive(Debug, thiserror::Error)]
pub enum StormError {
    /// The plan can't be carried out as it is.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Nobody answers at the target, or it didn't start.
    #[error("{0}")]
    Unreachable(String),
    /// The storm's own fault, or its machine's.
    #[error("{0}")]
    Internal(String),
}

/// How a run is carried out.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where samples (and the output of a target that the storm starts) are written; `None` for nowhere.
    pub out: Option<PathBuf>,
    /// Of a search: which trial.
    pub trial: Option<u32>,
    /// Set by whoever wants the run to end early; it then ends in good order.
    pub interrupted: Arc<AtomicBool>,
    /// Set when the owner of the target has withdrawn consent.
    pub withdrawn: Arc<AtomicBool>,
}

/// What a run tells while it goes on.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// It begins.
    Began(&'a Run),
    /// A second is over.
    Second(&'a Second),
    /// Something that whoever watches should know, in a sentence; the run goes on.
    Trouble(&'a str),
}

/// Carries a plan out. Its search, if it has one, is left aside: see [`crate::search`].
///
/// # Errors
/// [`StormError`]; once the run has begun it always ends with a recording, cut short if need be.
pub fn run(plan: &Plan, options: &Options, watch: &mut dyn FnMut(Progress<'_>)) -> Result<Recording, StormError> {
    let target = plan::resolve(&plan.target.address)?;
    allow_files(plan)?;
    let mut started = Started::by(&plan.target, target, options.out.as_deref())?;
    if started.is_none() {
        reach(&plan.target.address, target)?;
    }
    let run = describe(plan, options.trial);
    let writer = options.out.as_deref().map(|out| Writer::create(out, &run)).transpose();
    let writer = writer.map_err(|error| StormError::Internal(error.to_string()))?;
    watch(Progress::Began(&run));
    let probe = Probe::new(&plan.target, target, started.as_ref().map(Started::pid));
    let mut field = Field::new(plan, target)?;
    let mut keeper = Keeper { began: Instant::now(), last: Instant::now(), writer, seconds: Vec::new(), watch };
    let cut = field.pass_phases(&plan.time, options, &probe, &mut keeper);
    field.end();
    keeper.sample(Phase::After, &mut field, &probe);
    let died = started.as_mut().and_then(Started::ended).map(|status| format!("the target's process ended: {status}"));
    let cut = died.or(cut);
    let end = End { at_ms: keeper.began.elapsed().as_millis() as u64, cut };
    let seconds = keeper.finish(&end);
    Ok(Recording { run, seconds, end: Some(end), torn: false })
}

fn describe(plan: &Plan, trial: Option<u32>) -> Run {
    Run {
        version: VERSION,
        stillhere: env!("CARGO_PKG_VERSION").to_owned(),
        plan: plan.clone(),
        started: jiff::Timestamp::now(),
        cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
        files: files_max(),
        trial,
    }
}

fn allow_files(plan: &Plan) -> Result<(), StormError> {
    stillhere_client::allow_files(plan.sockets() + FILES_OWN).map_err(|error| PlanError(error.to_string()).into())
}

#[cfg(unix)]
fn files_max() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(not(unix))]
fn files_max() -> u64 {
    u64::MAX
}

fn reach(name: &str, target: SocketAddr) -> Result<(), StormError> {
    TcpStream::connect_timeout(&target, REACH_TIMEOUT).map(drop).map_err(|error| {
        let shown = stillhere_core::text::Escaped(name);
        StormError::Unreachable(format!(
            "nobody answers at {shown} ({error}); start the target first, or give its address with --target HOST:PORT"
        ))
    })
}

/// Everybody who takes part, each on a thread.
struct Field {
    phase: watch::Sender<Option<Phase>>,
    tally: Arc<Mutex<Tally>>,
    attacks: Vec<(String, Arc<Mutex<AttackSecond>>)>,
    crowd_thread: Arc<AtomicU32>,
    threads: Vec<JoinHandle<()>>,
    ended: bool,
}

impl Field {
    fn new(plan: &Plan, target: SocketAddr) -> Result<Field, StormError> {
        let (phase, phases) = watch::channel(Some(Phase::Ramp));
        let tally = Arc::new(Mutex::new(Tally::default()));
        let crowd_thread = Arc::new(AtomicU32::new(0));
        let counts: Vec<Arc<Mutex<AttackSecond>>> = plan.attacks.iter().map(|_| Arc::default()).collect();
        let mut field = Field {
            phase,
            tally: tally.clone(),
            attacks: numbered(plan).into_iter().zip(counts.iter().cloned()).collect(),
            crowd_thread: crowd_thread.clone(),
            threads: Vec::new(),
            ended: false,
        };
        let plan = Arc::new(plan.clone());
        if plan.crowd.is_some() {
            let (plan, phases, tally) = (plan.clone(), phases.clone(), tally.clone());
            field.spawn("storm-crowd", move || {
                crowd_thread.store(own_thread(), Ordering::Relaxed);
                on_this_thread(crowd::run(plan, target, phases, tally));
            })?;
        }
        if plan.load.is_some() {
            let (plan, phases, tally) = (plan.clone(), phases.clone(), tally.clone());
            field.spawn("storm-load", move || on_this_thread(load::run(plan, target, phases, tally)))?;
        }
        if !plan.attacks.is_empty() {
            field.spawn("storm-attack", move || {
                yield_to_all_others();
                on_this_thread(attack_when_told(plan, target, phases, counts));
            })?;
        }
        Ok(field)
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), StormError> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
        let thread = thread.map_err(|error| StormError::Internal(format!("can't start a thread: {error}")))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Goes through the phases; tells why it didn't come to the end of them.
    fn pass_phases(
        &mut self,
        times: &plan::Times,
        options: &Options,
        probe: &Probe,
        keeper: &mut Keeper<'_>,
    ) -> Option<String> {
        let phases = [
            (Phase::Ramp, times.ramp),
            (Phase::Before, times.before),
            (Phase::During, times.during),
            (Phase::After, times.after),
        ];
        let mut end = keeper.began;
        for (phase, lasts) in phases {
            // Nobody can have gone before the field has.
            let _ = self.phase.send(Some(phase));
            end += lasts;
            while Instant::now() < end {
                let next = (keeper.last + PERIOD).min(end);
                // A sample of a few milliseconds tells nothing; the one before takes them in.
                let next = if end.saturating_duration_since(next) < PERIOD / 4 { end } else { next };
                if let Some(cut) = self.wait(next, options) {
                    keeper.sample(phase, self, probe);
                    return Some(cut);
                }
                keeper.sample(phase, self, probe);
            }
        }
        None
    }

    /// Waits until then, or for a reason to end the run.
    fn wait(&self, until: Instant, options: &Options) -> Option<String> {
        loop {
            if options.interrupted.load(Ordering::Relaxed) {
                return Some("interrupted".to_owned());
            }
            if options.withdrawn.load(Ordering::Relaxed) {
                return Some("the target's owner has withdrawn consent".to_owned());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            std::thread::sleep(left.min(LOOK));
        }
    }

    /// Tells everybody that it is over, and waits for them.
    fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let _ = self.phase.send(None);
        let patience = Instant::now() + END_TIMEOUT;
        for thread in self.threads.drain(..) {
            while !thread.is_finished() && Instant::now() < patience {
                std::thread::sleep(Duration::from_millis(5));
            }
            if thread.is_finished() {
                // A panic was printed where it happened; what was counted until then is still told.
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        self.end();
    }
}

/// Each attack's name; of several of the same kind the later ones have a number.
fn numbered(plan: &Plan) -> Vec<String> {
    let mut seen = BTreeMap::new();
    let name = |attack: &plan::Attack| {
        let nth = seen.entry(attack.name.clone()).and_modify(|nth| *nth += 1).or_insert(1);
        if *nth == 1 { attack.name.clone() } else { format!("{} {nth}", attack.name) }
    };
    plan.attacks.iter().map(name).collect()
}

async fn attack_when_told(
    plan: Arc<Plan>,
    target: SocketAddr,
    mut phases: watch::Receiver<Option<Phase>>,
    counts: Vec<Arc<Mutex<AttackSecond>>>,
) {
    // The sender goes only when the run does.
    let Ok(phase) = phases.wait_for(|phase| *phase == Some(Phase::During) || phase.is_none()).await.map(|phase| *phase)
    else {
        return;
    };
    if phase.is_some() {
        let framing = plan.frame.as_ref().map_or(Framing::STILLHERE, Framing::of);
        tokio::select! {
            () = attack::run(&plan.attacks, target, framing, plan.seed, &counts) => {}
            _ = phases.wait_for(|phase| *phase != Some(Phase::During)) => {}
        }
    }
}

/// Runs it on a runtime of this thread's own.
fn on_this_thread(work: impl Future<Output = ()>) {
    // Without a poller nothing can be done, and the run shows it: nobody comes in.
    if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
        LocalSet::new().block_on(&runtime, work);
    }
}

/// Lets this thread run only while nobody else wants to. Niceness alone isn't enough: a nice thread that runs keeps the
/// core for its slice of some milliseconds while the clocks of those who measure wait.
fn yield_to_all_others() {
    #[cfg(unix)]
    {
        // At equal priority the attack is only stronger, so neither failing is a reason to stop.
        let _ = rustix::process::nice(NICER);
        #[cfg(target_os = "linux")]
        {
            use thread_priority::unix::{
                NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
            };
            let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
            let lowest = thread_priority::ThreadPriority::Min;
            let _ = set_thread_priority_and_policy(thread_native_id(), lowest, idle);
        }
    }
}

#[cfg(unix)]
fn own_thread() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned()
}

#[cfg(not(unix))]
fn own_thread() -> u32 {
    0
}

/// Keeps what was sampled.
struct Keeper<'a> {
    began: Instant,
    last: Instant,
    writer: Option<Writer>,
    seconds: Vec<Second>,
    watch: &'a mut dyn FnMut(Progress<'_>),
}

impl Keeper<'_> {
    /// Ends a second.
    fn sample(&mut self, phase: Phase, field: &mut Field, probe: &Probe) {
        probe.ask();
        let now = Instant::now();
        let (crowd, load, lag_us) = field.tally.lock().unwrap_or_else(PoisonError::into_inner).take();
        let attacks = field.attacks.iter().map(|(name, counts)| (name.clone(), take(counts))).collect();
        let own = probe::own(field.crowd_thread.load(Ordering::Relaxed));
        let second = Second {
            at_ms: (now - self.began).as_millis() as u64,
            for_ms: (now - self.last).as_millis() as u64,
            phase,
            crowd,
            load,
            attacks,
            target: probe.take(),
            own: OwnSecond { lag_us, ..own },
        };
        self.last = now;
        (self.watch)(Progress::Second(&second));
        let written = self.writer.as_mut().map_or(Ok(()), |writer| writer.second(second.clone()));
        self.tell(written);
        self.seconds.push(second);
    }

    fn tell(&mut self, written: Result<(), ReportError>) {
        if let Err(trouble) = written {
            (self.watch)(Progress::Trouble(&trouble.to_string()));
        }
    }

    fn finish(mut self, end: &End) -> Vec<Second> {
        let written = self.writer.take().map_or(Ok(()), |writer| writer.end(end.clone()));
        self.tell(written);
        self.seconds
    }
}

/// What was counted since the last time; gauges stay.
fn take(counts: &Mutex<AttackSecond>) -> AttackSecond {
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    let (open, overdue) = (counts.open, counts.overdue);
    std::mem::replace(&mut *counts, AttackSecond { open, overdue, ..AttackSecond::default() })
}
