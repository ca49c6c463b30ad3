//! Many clients on one thread.
//!
//! Tasks: [`Crowd::run`] spawns one per client on a [`LocalSet`] of its own. Each ends when its client stops, or says
//! goodbye when the run is to end. Cancelling `run` drops them all, and their links with them.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use stillhere_core::peer::{Mode, Peer, PeerConfig, PeerEvent};
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep_until};

use crate::{Builder, Client, ConnectError, Target};

/// How fast clients are added: `count` evenly spread over each `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ramp {
    /// Clients; at least 1.
    pub count: u32,
    /// In this time.
    pub per: Duration,
}

impl Ramp {
    /// How long after the first client the `nth` (from 0) is added.
    pub fn delay(&self, nth: u32) -> Duration {
        let micros = self.per.as_micros() * u128::from(nth) / u128::from(self.count.max(1));
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

/// Many clients with one target, to be run by one thread. A client costs a task, a socket and a few hundred bytes.
#[derive(Clone, Debug)]
pub struct Crowd {
    target: Target,
    config: Arc<PeerConfig>,
    seed: u64,
    count: u32,
    ramp: Option<Ramp>,
}

impl Crowd {
    /// `count` clients as `builder` describes them, each with its own seed. A `resume` in it is ignored. They are
    /// added as `ramp` says, all at once without one. See [`crate::allow_files`] for how many there can be.
    ///
    /// # Errors
    /// As [`Builder::start`].
    pub fn new(
        builder: Builder,
        target: impl Into<Target>,
        count: u32,
        ramp: Option<Ramp>,
    ) -> Result<Crowd, ConnectError> {
        let (config, seed) = builder.for_many()?;
        Ok(Crowd { target: target.into(), config, seed, count, ramp })
    }

    /// Runs them until `stop` is ready or every client has stopped by itself. Then v1 clients say goodbye and legacy
    /// clients close their links, within about a second. `on_event` gets a client's number, from 0, and what happened
    /// to it; it should be quick.
    pub async fn run(self, stop: impl Future<Output = ()>, on_event: impl FnMut(u32, PeerEvent) + 'static) {
        let local = LocalSet::new();
        local.run_until(self.run_here(stop, Rc::new(RefCell::new(on_event)))).await;
    }

    async fn run_here(
        self,
        stop: impl Future<Output = ()>,
        on_event: Rc<RefCell<impl FnMut(u32, PeerEvent) + 'static>>,
    ) {
        let mut members = JoinSet::new();
        let (ending, end) = watch::channel(());
        let started = Instant::now();
        tokio::pin!(stop);
        let mut next = 0;
        loop {
            let due = self.ramp.map_or(started, |ramp| started + ramp.delay(next));
            tokio::select! {
                biased;
                () = &mut stop => break,
                () = sleep_until(due), if next < self.count => {
                    let peer = Peer::new(self.config.clone(), self.seed.wrapping_add(u64::from(next)));
                    let client = Client::new(peer, self.target.clone());
                    members.spawn_local(member(next, client, on_event.clone(), end.clone()));
                    next += 1;
                }
                joined = members.join_next(), if next == self.count => {
                    if joined.is_none() {
                        break;
                    }
                }
            }
        }
        drop(ending);
        while members.join_next().await.is_some() {}
    }
}

/// One client's life. The end of the run is the end of the channel.
async fn member(
    index: u32,
    mut client: Client,
    on_event: Rc<RefCell<impl FnMut(u32, PeerEvent)>>,
    mut end: watch::Receiver<()>,
) {
    loop {
        tokio::select! {
            biased;
            _ = end.changed() => break,
            event = client.next_peer_event() => match event {
                Some(event) => (on_event.borrow_mut())(index, event),
                None => return,
            },
        }
    }
    match client.mode() {
        Mode::V1 => client.bye().await,
        // The tutorial's client never says goodbye, and its server doesn't know the word.
        Mode::Legacy => client.hang_up().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_spreads_clients_evenly() {
        let tutorial = Ramp { count: 1, per: Duration::from_secs(10) };
        assert_eq!([0, 1, 5].map(|nth| tutorial.delay(nth).as_secs()), [0, 10, 50]);
        let fast = Ramp { count: 500, per: Duration::from_secs(1) };
        assert_eq!([0, 1, 250, 14_999].map(|nth| fast.delay(nth).as_millis()), [0, 2, 500, 29_998]);
    }
}
