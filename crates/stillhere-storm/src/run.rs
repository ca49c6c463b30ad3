//! A run: its phases, its threads, its samples.
//!
//! Threads: `storm-crowd`, `storm-load` and `storm-attack`, each with a runtime of its own, and `storm-probe`, which
//! looks at the target. The caller's thread keeps the time: it ends each second with a sample and each phase at its
//! moment. Threads end when they are told that there is no phase any more, and are waited for; a run in which one of
//! them failed is cut, since nobody knows what it left out. The attackers' thread
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
    /// Whom to meet: what the plan's address was resolved to when consent was asked for. Nothing resolves it again, so
    /// nobody else is met. `None` to resolve it once here.
    pub target: Option<SocketAddr>,
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
    let target = options.target(plan)?;
    allow_files(plan)?;
    let mut started = Started::by(&plan.target, target, options)?;
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
    let fault = field.end(END_TIMEOUT);
    keeper.sample(Phase::After, &mut field, &probe);
    let died = started.as_mut().and_then(Started::ended).map(|status| format!("the target's process ended: {status}"));
    let own_fault = fault.is_some() || cut.as_ref().is_some_and(|cut| cut.own_fault);
    let cut = match (fault, died.or(cut.map(|cut| cut.why))) {
        (Some(fault), Some(cut)) => Some(format!("{fault}; {cut}")),
        (fault, cut) => fault.or(cut),
    };
    let end = End { at_ms: keeper.began.elapsed().as_millis() as u64, cut, own_fault };
    let seconds = keeper.finish(&end);
    Ok(Recording { run, seconds, end: Some(end), torn: false })
}

impl Options {
    /// Whom a run of this plan meets.
    pub(crate) fn target(&self, plan: &Plan) -> Result<SocketAddr, PlanError> {
        self.target.map_or_else(|| plan::resolve(&plan.target.address), Ok)
    }

    /// Why whoever watches wants it to end, if so.
    pub(crate) fn unwanted(&self) -> Option<String> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Some("interrupted".to_owned());
        }
        let is_withdrawn = self.withdrawn.load(Ordering::Relaxed);
        is_withdrawn.then(|| "the target's owner has withdrawn consent, or its time is over".to_owned())
    }
}

/// Ends the targets that the storm has started, at once and without asking them: for whoever is about to end the
/// process.
pub fn kill_started() {
    starter::kill_all();
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

/// Why a run ends before its time.
struct Cut {
    why: String,
    own_fault: bool,
}

/// A thread, and why it couldn't do its work.
struct Hand {
    name: &'static str,
    thread: JoinHandle<std::io::Result<()>>,
}

impl Hand {
    /// Waits for it, which takes as long as it takes; tells what went wrong.
    fn fault(self) -> Option<String> {
        let name = self.name;
        match self.thread.join() {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("the storm's own thread `{name}` couldn't begin: {error}")),
            // The panic itself was printed where it happened.
            Err(_) => Some(format!("the storm's own thread `{name}` failed; this is a bug, please report it")),
        }
    }
}

/// Everybody who takes part, each on a thread.
struct Field {
    phase: watch::Sender<Option<Phase>>,
    tally: Arc<Mutex<Tally>>,
    attacks: Vec<(String, Arc<Mutex<AttackSecond>>)>,
    crowd_thread: Arc<AtomicU32>,
    threads: Vec<Hand>,
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
        };
        let plan = Arc::new(plan.clone());
        if plan.crowd.is_some() {
            let (plan, phases, tally) = (plan.clone(), phases.clone(), tally.clone());
            field.spawn("storm-crowd", move || {
                crowd_thread.store(own_thread(), Ordering::Relaxed);
                on_this_thread(crowd::run(plan, target, phases, tally))
            })?;
        }
        if plan.load.is_some() {
            let (plan, phases, tally) = (plan.clone(), phases.clone(), tally.clone());
            field.spawn("storm-load", move || on_this_thread(load::run(plan, target, phases, tally)))?;
        }
        if !plan.attacks.is_empty() {
            field.spawn("storm-attack", move || {
                yield_to_all_others();
                on_this_thread(attack_when_told(plan, target, phases, counts))
            })?;
        }
        Ok(field)
    }

    fn spawn(
        &mut self,
        name: &'static str,
        work: impl FnOnce() -> std::io::Result<()> + Send + 'static,
    ) -> Result<(), StormError> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
        let thread = thread.map_err(|error| StormError::Internal(format!("can't start a thread: {error}")))?;
        self.threads.push(Hand { name, thread });
        Ok(())
    }

    /// Goes through the phases; tells why it didn't come to the end of them.
    fn pass_phases(
        &mut self,
        times: &plan::Times,
        options: &Options,
        probe: &Probe,
        keeper: &mut Keeper<'_>,
    ) -> Option<Cut> {
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
    fn wait(&mut self, until: Instant, options: &Options) -> Option<Cut> {
        loop {
            if let Some(why) = self.fault() {
                return Some(Cut { why, own_fault: true });
            }
            if let Some(why) = options.unwanted() {
                return Some(Cut { why, own_fault: false });
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            std::thread::sleep(left.min(LOOK));
        }
    }

    /// What went wrong with a thread that has ended, if one has.
    fn fault(&mut self) -> Option<String> {
        while let Some(ended) = self.threads.iter().position(|hand| hand.thread.is_finished()) {
            // Some have done their work before the others.
            if let Some(fault) = self.threads.swap_remove(ended).fault() {
                return Some(fault);
            }
        }
        None
    }

    /// Tells everybody that it is over, and waits for them. What was counted by one that failed is still told, but what
    /// it left out isn't known.
    fn end(&mut self, patience: Duration) -> Option<String> {
        let _ = self.phase.send(None);
        let patience = Instant::now() + patience;
        while self.threads.iter().any(|hand| !hand.thread.is_finished()) && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(5));
        }
        let fault = self.fault();
        let late = std::mem::take(&mut self.threads).into_iter().find(|hand| !hand.thread.is_finished());
        fault.or_else(|| {
            let name = late?.name;
            Some(format!("the storm's own thread `{name}` didn't come to its end; this is a bug, please report it"))
        })
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        // Whoever cared has ended it before.
        let _ = self.end(END_TIMEOUT);
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
fn on_this_thread(work: impl Future<Output = ()>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, work);
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::file;

    /// A field of nobody.
    fn field() -> Field {
        let plan = file::parse("[crowd]\ncount = 1\n", "nobody").unwrap();
        let plan = Plan { crowd: None, load: None, attacks: Vec::new(), ..plan };
        Field::new(&plan, SocketAddr::from(([127, 0, 0, 1], 1))).unwrap()
    }

    #[test]
    fn a_name_that_was_resolved_is_not_resolved_again() {
        let text = "[target]\naddress = \"nowhere.invalid:14000\"\n[crowd]\ncount = 1\n";
        let plan = file::parse(text, "named").unwrap();
        let unknown = run(&plan, &Options::default(), &mut |_| {}).unwrap_err();
        assert!(matches!(&unknown, StormError::Plan(error) if error.0.contains("can't find the host")), "{unknown}");
        // Nobody listens at port 1, which is for the superuser: it was gone to, not to what the name means by now.
        let options = Options { target: Some(SocketAddr::from(([127, 0, 0, 1], 1))), ..Options::default() };
        let unreachable = run(&plan, &options, &mut |_| {}).unwrap_err();
        assert!(matches!(unreachable, StormError::Unreachable(_)), "{unreachable}");
    }

    #[test]
    fn a_thread_that_fails_cuts_the_run() {
        let mut field = field();
        field.spawn("storm-load", || Ok(())).unwrap();
        field.spawn("storm-crowd", || panic!("as it should, in this test")).unwrap();
        let soon = Instant::now() + Duration::from_secs(20);
        let cut = field.wait(soon, &Options::default()).expect("it doesn't wait for the end");
        assert_eq!(cut.why, "the storm's own thread `storm-crowd` failed; this is a bug, please report it");
        assert!(cut.own_fault && Instant::now() < soon);
        assert_eq!(field.end(END_TIMEOUT), None, "it is told once");

        field.spawn("storm-attack", || panic!("as it should, in this test")).unwrap();
        let cut = field.end(END_TIMEOUT).expect("it is told at the end too");
        assert!(cut.contains("`storm-attack` failed"), "{cut}");
        field.spawn("storm-load", || Err(std::io::ErrorKind::OutOfMemory.into())).unwrap();
        let cut = field.end(END_TIMEOUT).expect("it is told");
        assert!(cut.contains("`storm-load` couldn't begin: out of memory"), "{cut}");
    }

    #[test]
    fn a_thread_that_does_not_end_cuts_the_run() {
        let mut field = field();
        let (end, ends) = std::sync::mpsc::channel::<()>();
        field
            .spawn("storm-load", move || {
                let _ = ends.recv();
                Ok(())
            })
            .unwrap();
        let cut = field.end(Duration::from_millis(50)).expect("it is told");
        assert!(cut.contains("`storm-load` didn't come to its end"), "{cut}");
        drop(end);
    }
}
