//! The honest clients, whose experience is the verdict.
//!
//! Tasks, all on the caller's thread: one for each member ([`member`]), one that opens the door to the rooms
//! ([`door`]), one for newcomers and one for each of them at the door ([`newcomers`]), and one that measures how late
//! timers are. [`run`] holds them all; dropping it ends them, and their links with them.
//!
//! What it deliberately doesn't do: it never slows down because the target does. Beats, messages and newcomers come
//! when they are due, and count from then.

mod common;
mod door;
mod member;
mod newcomers;
mod rooms;
mod talk;

mod foreign;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stillhere_client::Ramp;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep_until};

use self::common::{Common, micros};
use crate::fault;
use crate::plan::{Mode, Plan};
use crate::sample::{Phase, Tally};

/// How often it is looked how late timers are.
const TICK: Duration = Duration::from_millis(10);
/// How long what is under way at the end may take to arrive.
const STRAGGLERS: Duration = Duration::from_secs(3);
/// How often it is looked whether everything has.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs the plan's honest clients on this thread's runtime, within a `LocalSet`. They come in over the ramp and live
/// until `phase` has become `None`: then nothing new is said, what is under way may arrive for a moment, what was lost
/// is counted, and everybody says goodbye. Dropping it ends them at once.
///
/// The gauges stay as they were before the goodbyes.
pub(crate) async fn run(
    plan: Arc<Plan>,
    target: SocketAddr,
    mut phase: watch::Receiver<Option<Phase>>,
    tally: Arc<Mutex<Tally>>,
) {
    let Some(crowd) = plan.crowd.clone() else { return };
    let ramp = Ramp { count: crowd.count, per: plan.time.ramp };
    let common = Rc::new(Common::new(crowd, plan.seed, target, tally.clone()));
    let (mut others, mut members) = (JoinSet::new(), JoinSet::new());
    others.spawn_local(measure_lag(common.clone()));
    if common.crowd.newcomers_per_second > 0.0 {
        others.spawn_local(newcomers::come(common.clone(), plan.clone(), phase.clone()));
    }
    if common.crowd.rooms > 0 && common.crowd.mode == Mode::V1 {
        others.spawn_local(door::open(common.clone()));
    }
    let (phases, began, mut next) = (phase.clone(), Instant::now(), 0);
    loop {
        tokio::select! {
            biased;
            // An error is a phase that nobody sets any more: the end.
            _ = phase.wait_for(Option::is_none) => break,
            () = sleep_until(began + ramp.delay(next)), if next < common.crowd.count => {
                match common.crowd.mode {
                    Mode::V1 | Mode::Legacy => members.spawn_local(member::life(next, common.clone())),
                    Mode::Frame => {
                        let (plan, phase, tally) = (plan.clone(), phases.clone(), tally.clone());
                        members.spawn_local(foreign::member(next, plan, target, phase, tally))
                    }
                };
                next += 1;
            }
        }
    }
    common.hush();
    others.abort_all();
    wait_for_stragglers(&common).await;
    common.close();
    common.over.notify_waiters();
    for tasks in [&mut members, &mut others] {
        while let Some(ended) = tasks.join_next().await {
            fault::resume(ended);
        }
    }
}

async fn wait_for_stragglers(common: &Common) {
    let end = Instant::now() + STRAGGLERS;
    let mut look = interval(LOOK_EVERY);
    while !common.is_settled() && look.tick().await < end {}
}

/// How late a timer of this thread is at worst: what is below that can't be told from the storm's own slowness.
async fn measure_lag(common: Rc<Common>) {
    let mut due = Instant::now();
    loop {
        due += TICK;
        sleep_until(due).await;
        let late = due.elapsed();
        common.count(|tally| tally.lag_us = tally.lag_us.max(micros(late)));
        if late > TICK {
            due = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests;
