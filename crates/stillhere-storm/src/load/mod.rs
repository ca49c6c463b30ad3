//! Requests at a given pace.
//!
//! Request `n` is due at a moment that depends on the plan alone ([`Schedule`]), and belongs to connection `n` modulo
//! their number, which sends it then and waits for no answer (open-loop). Latencies count from when a request was due,
//! so a target that stalls, a connection that has to be opened again, and a storm that is late are all seen in full.
//! With `closed` each connection waits for its answer and then takes the next request that is due, whosever it would
//! have been: what is measured then is what the target lets through.
//!
//! There are no queues: which requests are due and not sent follows from two numbers, so a target that falls behind
//! costs no memory here.
//!
//! Tasks, all on the caller's thread and gone when [`run`] is dropped:
//!
//! 1. the pacer, which is `run` itself: it wakes once a millisecond at most and says how many requests are due;
//! 2. one for each connection ([`link`]), or for each of those that are opened for one request ([`fresh`]).
//!
//! What a load can ask is bounded by its target too: the gateway closes a link with more than 1,000 frames a second after
//! a burst of 2,000 (4006), so spread `beat`s over a connection for each 1,000 a second; and it refuses what a user says
//! beyond 20 a second after 40, and an address beyond 1,000 (1203), so spread `say`s over a connection for each 20.

mod fresh;
mod link;
#[cfg(test)]
mod tests;
mod v1;

use std::cell::{Cell, OnceCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::fault;
use crate::frame::talk::Talk;
use crate::pace::Schedule;
use crate::plan::{self, Asked, Plan, Step};
use crate::sample::{LoadSecond, Phase, Tally};

/// Requests that became due at the last moment get so long to be sent.
const LAST_SENDS: Duration = Duration::from_millis(10);
/// How long answers are waited for when nothing is asked any more; what is unanswered then stays open.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// How long goodbyes may take.
const LEAVING: Duration = Duration::from_millis(500);
/// A connection is had within this, its hello answered, or it is tried again.
const PATIENCE: Duration = Duration::from_secs(10);
/// A connection that was lost or not had is opened again after a random time below this, then twice this …
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// … and no more than this.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Opens the load's connections during the ramp, asks while the phase is [`Phase::During`], waits two seconds for what
/// is still under way, and ends when `phase` has become `None` or it is dropped.
pub(crate) async fn run(
    plan: Arc<Plan>,
    target: SocketAddr,
    mut phase: watch::Receiver<Option<Phase>>,
    tally: Arc<Mutex<Tally>>,
) {
    let Some(desk) = Desk::of(&plan, target, tally) else { return };
    let desk = Rc::new(desk);
    let tasks = LocalSet::new();
    tasks
        .run_until(async {
            let mut connections = JoinSet::new();
            for index in 0..desk.load.connections {
                match desk.load.what {
                    Asked::Connect => connections.spawn_local(fresh::connections(desk.clone(), index)),
                    Asked::Beat | Asked::Say | Asked::Frame => {
                        connections.spawn_local(link::connection(desk.clone(), index))
                    }
                };
            }
            pace(&desk, &mut phase).await;
            desk.pass(Stage::Over);
            let left = async {
                while let Some(ended) = connections.join_next().await {
                    fault::resume(ended);
                }
            };
            // Who takes longer is cut off.
            let _ = timeout(LEAVING, left).await;
        })
        .await;
    drop(tasks);
    let _ = phase.wait_for(Option::is_none).await;
}

/// Says how many requests are due until the attack is over, and waits for the last answers.
async fn pace(desk: &Desk, phase: &mut watch::Receiver<Option<Phase>>) {
    let begins = phase.wait_for(|phase| phase.is_none_or(|phase| phase >= Phase::During)).await;
    if begins.map_or(true, |phase| *phase != Some(Phase::During)) {
        return;
    }
    desk.begin();
    let mut attack = phase.clone();
    let mut over = std::pin::pin!(attack.wait_for(|phase| *phase != Some(Phase::During)));
    loop {
        let next = desk.release();
        let wait = async {
            match next {
                Some(next) => sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = &mut over => {
                if ended.map_or(true, |phase| phase.is_none()) {
                    return;
                }
                break;
            }
            () = wait => {}
        }
    }
    sleep(LAST_SENDS).await;
    desk.pass(Stage::Answers);
    let settled = async {
        while desk.open() > 0 {
            desk.settled.notified().await;
        }
    };
    // When the run is cut off, nobody waits.
    tokio::select! {
        _ = phase.wait_for(Option::is_none) => {}
        () = settled => {}
        () = sleep(LAST_ANSWERS) => {}
    }
}

/// How far the load is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Connections are opened, nothing is asked.
    Opening,
    /// What is due is asked.
    Asking,
    /// Nothing more is asked.
    Answers,
    /// All say goodbye.
    Over,
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Request {
    /// Its number, from 0.
    n: u64,
    /// From when its latency counts.
    due: Instant,
}

/// What the pacer and the connections share.
struct Desk {
    plan: Arc<Plan>,
    load: plan::Load,
    target: SocketAddr,
    /// With a `[frame]` in the plan: what is exchanged.
    talk: Option<Talk>,
    /// Letters that make names of this run its own.
    tag: String,
    schedule: Schedule,
    stage: Cell<Stage>,
    began: OnceCell<Instant>,
    /// How many requests have become due.
    released: Cell<u64>,
    /// How many of them were taken by whoever was free, where they are nobody's own.
    taken: Cell<u64>,
    /// For each connection: rung when one of its own requests is due, and when the stage has changed.
    bells: Vec<Notify>,
    /// Rung for each request that is nobody's own: whoever is free takes it.
    free: Notify,
    /// Rung when nothing is open.
    settled: Notify,
    tally: Arc<Mutex<Tally>>,
}

impl Desk {
    fn of(plan: &Arc<Plan>, target: SocketAddr, tally: Arc<Mutex<Tally>>) -> Option<Desk> {
        let load = plan.load.clone()?;
        // One that can't be compiled was refused when the plan was read.
        let talk = plan.frame.as_ref().map(Talk::of).transpose().ok()?;
        if load.what == Asked::Frame && talk.is_none() {
            return None;
        }
        let mut steps = load.steps.clone();
        // The last rate lasts as long as the attack does.
        let last = steps.last()?.to;
        steps.push(Step { from: last, to: last, lasts: Duration::MAX });
        // Without randomness of the system the plan's will do: then a second run finds the accounts of the first.
        let tag = format!("{:08x}", getrandom::u32().unwrap_or(plan.seed as u32));
        tally.lock().unwrap_or_else(PoisonError::into_inner).load.get_or_insert_default();
        Some(Desk {
            plan: plan.clone(),
            target,
            talk,
            tag,
            schedule: Schedule::new(steps),
            stage: Cell::new(Stage::Opening),
            began: OnceCell::new(),
            released: Cell::new(0),
            taken: Cell::new(0),
            bells: (0..load.connections).map(|_| Notify::new()).collect(),
            free: Notify::new(),
            settled: Notify::new(),
            load,
            tally,
        })
    }

    /// The schedule begins now.
    fn begin(&self) {
        let _ = self.began.set(Instant::now());
        self.pass(Stage::Asking);
    }

    fn pass(&self, stage: Stage) {
        self.stage.set(stage);
        self.bells.iter().for_each(Notify::notify_one);
    }

    /// When a request is due; `None` before the beginning and after the end.
    fn due(&self, n: u64) -> Option<Instant> {
        self.began.get()?.checked_add(self.schedule.due(n)?)
    }

    /// Counts what has become due and rings for it; tells when the next is due.
    fn release(&self) -> Option<Instant> {
        let (now, before) = (Instant::now(), self.released.get());
        let mut n = before;
        let mut next = self.due(n);
        while next.is_some_and(|due| due <= now) {
            n += 1;
            next = self.due(n);
        }
        if n == before {
            return next;
        }
        self.released.set(n);
        if !self.load.closed {
            self.fell_due(n - before);
        }
        let connections = u64::from(self.load.connections);
        // Each connection is rung for once at most, it takes all that there is.
        for n in (before..n).take(self.bells.len()) {
            if self.is_shared() {
                self.free.notify_one();
            } else {
                self.bells[(n % connections) as usize].notify_one();
            }
        }
        next
    }

    /// Whether requests are nobody's own.
    fn is_shared(&self) -> bool {
        self.load.closed || self.load.what == Asked::Connect
    }

    /// The next request of those that anybody may take. Closed, it counts as due from now.
    fn take(&self) -> Option<Request> {
        let n = self.taken.get();
        if self.stage.get() != Stage::Asking || n >= self.released.get() {
            return None;
        }
        let due = self.due(n)?;
        self.taken.set(n + 1);
        if self.load.closed {
            self.fell_due(1);
        }
        Some(Request { n, due: if self.load.closed { Instant::now() } else { due } })
    }

    /// Waits until it is a connection's turn to open: spread over the ramp, or all when the attack begins.
    async fn turn(&self, index: u32) {
        let share = f64::from(index) / f64::from(self.load.connections);
        let turn = Instant::now() + self.plan.time.ramp.mul_f64(share);
        while self.stage.get() == Stage::Opening && Instant::now() < turn {
            tokio::select! {
                () = sleep_until(turn) => {}
                () = self.bells[index as usize].notified() => {}
            }
        }
    }

    /// A connection's random choices, which are the plan's.
    fn rng(&self, index: u32) -> StdRng {
        StdRng::seed_from_u64(self.plan.seed ^ 0x10ad_0000_0000_0000 ^ u64::from(index))
    }

    /// A connection's number for templates: they go on where the crowd's end.
    fn number(&self, index: u32) -> u32 {
        self.plan.crowd.as_ref().map_or(0, |crowd| crowd.count) + index
    }

    fn fell_due(&self, count: u64) {
        self.count(|load| {
            load.due += count;
            load.open += count;
        });
    }

    fn sent(&self) {
        self.count(|load| load.sent += 1);
    }

    fn answered(&self, request: Request, now: Instant) {
        self.count(|load| {
            load.answered += 1;
            load.open = load.open.saturating_sub(1);
            load.latency_us.record(now.saturating_duration_since(request.due).as_micros() as u64);
        });
        self.settle();
    }

    fn failed(&self, count: u64) {
        self.count(|load| {
            load.failed += count;
            load.open = load.open.saturating_sub(count);
        });
        self.settle();
    }

    fn settle(&self) {
        if self.open() == 0 {
            self.settled.notify_one();
        }
    }

    /// Requests that are due and not answered.
    fn open(&self) -> u64 {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).load.as_ref().map_or(0, |load| load.open)
    }

    /// Notes why something failed.
    fn lost(&self, why: String) {
        self.count(|load| *load.losses.entry(why).or_insert(0) += 1);
    }

    fn count(&self, change: impl FnOnce(&mut LoadSecond)) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        change(tally.load.get_or_insert_default());
    }
}

/// How long to rest before the next try, at random; the time doubles.
fn rest(backoff: &mut Duration, rng: &mut StdRng) -> Duration {
    let rest = backoff.mul_f64(rng.random_range(0.0..1.0));
    *backoff = (*backoff * 2).min(BACKOFF_MAX);
    rest
}
