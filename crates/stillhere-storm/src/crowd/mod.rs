//! The honest clients, whose experience is the verdict.

mod foreign;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use crate::plan::Plan;
use crate::sample::{Phase, Tally};

/// Runs the plan's honest clients on this thread's runtime, within a `LocalSet`. They come in over the ramp and live
/// until `phase` has become `None`: then nothing new is said, what is under way may arrive for a moment, what was lost
/// is counted, and everybody says goodbye. Dropping it ends them at once.
pub(crate) async fn run(
    plan: Arc<Plan>,
    target: SocketAddr,
    phase: watch::Receiver<Option<Phase>>,
    tally: Arc<Mutex<Tally>>,
) {
    let _ = (plan, target, phase, tally);
}
