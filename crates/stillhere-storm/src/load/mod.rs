//! Requests at a given pace.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use crate::plan::Plan;
use crate::sample::{Phase, Tally};

/// Opens the load's connections during the ramp, asks while the phase is [`Phase::During`], and ends when `phase` has
/// become `None` or it is dropped.
pub(crate) async fn run(
    plan: Arc<Plan>,
    target: SocketAddr,
    phase: watch::Receiver<Option<Phase>>,
    tally: Arc<Mutex<Tally>>,
) {
    let _ = (plan, target, phase, tally);
}
