//! Newcomers: whether the door still opens. They come by a schedule, whatever becomes of those before.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use stillhere_client::{Client, PeerEvent};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::common::{Common, micros};
use super::foreign;
use crate::pace::Schedule;
use crate::plan::{Mode, Plan};
use crate::sample::Phase;

/// How long a newcomer waits to be let in.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a legacy newcomer looks whether it is put out again: the tutorial's protocol has no welcome.
const LEGACY_LOOK: Duration = Duration::from_millis(200);
/// Newcomers at the door at once, each a socket. One that is due while there are so many isn't let in.
const AT_ONCE_MAX: usize = 1000;

/// Lets newcomers come from the end of the ramp to the end of the run. Dropping it ends those at the door uncounted.
pub(super) async fn come(common: Rc<Common>, plan: Arc<Plan>, mut phase: watch::Receiver<Option<Phase>>) {
    // An error is a phase that nobody sets any more: the end.
    let Ok(now) = phase.wait_for(|phase| *phase != Some(Phase::Ramp)).await.map(|phase| *phase) else { return };
    if now.is_none() {
        return;
    }
    let schedule = Schedule::steady(common.crowd.newcomers_per_second);
    let (began, mut nth, mut at_door) = (Instant::now(), 0, JoinSet::new());
    while let Some(due) = schedule.due(nth).and_then(|due| began.checked_add(due)) {
        tokio::select! {
            biased;
            () = sleep_until(due) => {
                nth += 1;
                if at_door.len() < AT_ONCE_MAX {
                    at_door.spawn_local(newcomer(common.clone(), plan.clone(), due));
                } else {
                    common.count(|tally| tally.crowd.newcomers_refused += 1);
                }
            }
            Some(_) = at_door.join_next() => {}
        }
    }
}

async fn newcomer(common: Rc<Common>, plan: Arc<Plan>, due: Instant) {
    if common.crowd.mode == Mode::Frame {
        match foreign::newcomer(plan, common.target).await {
            Ok(_) => let_in(micros(due.elapsed()), &common),
            Err(_) => common.count(|tally| tally.crowd.newcomers_refused += 1),
        }
        return;
    }
    let entered = timeout_at(due + PATIENCE, enter(&common)).await.ok().flatten();
    let Some(client) = entered else {
        return common.count(|tally| tally.crowd.newcomers_refused += 1);
    };
    let took = micros(due.elapsed());
    if common.crowd.mode == Mode::Legacy {
        return stay_a_moment(client, took, &common).await;
    }
    let_in(took, &common);
    client.bye().await;
}

/// Connects, and is welcomed where there is a welcome.
async fn enter(common: &Common) -> Option<Client> {
    let builder = Client::builder().name("storm-newcomer").interval(common.crowd.interval);
    let builder = if common.crowd.mode == Mode::Legacy { builder.legacy() } else { builder };
    builder.connect(common.target).await.ok()
}

/// Beats once and looks whether the link lasts.
async fn stay_a_moment(mut client: Client, took: u64, common: &Common) {
    let end = Instant::now() + LEGACY_LOOK;
    while let Ok(Some(event)) = timeout_at(end, client.next_peer_event()).await {
        if let PeerEvent::Lost(_) = event {
            return common.count(|tally| tally.crowd.newcomers_refused += 1);
        }
    }
    let_in(took, common);
    client.hang_up().await;
}

fn let_in(took: u64, common: &Common) {
    common.count(|tally| {
        tally.crowd.newcomers += 1;
        tally.crowd.enter_us.record(took);
    });
}
