//! How many links there may be: asked before each is let in, told when each is gone.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Notify;
use tracing::warn;

use crate::clock::wall_ms;
use crate::config::Network;
use crate::transport::Rules;

/// What limits the number of links; shared by all shards and the operators' view.
pub(crate) struct Gate {
    max: AtomicUsize,
    per_address_max: AtomicUsize,
    open: AtomicUsize,
    /// Links by address; kept only while there is a limit.
    by_address: Mutex<HashMap<IpAddr, usize>>,
    /// Refused for want of room.
    pub(crate) refused_full: AtomicU64,
    /// Refused because their address had its share.
    pub(crate) refused_address: AtomicU64,
    /// Refused because a shard's queue was full.
    pub(crate) refused_busy: AtomicU64,
    /// Refused because no PROXY header came from where one must.
    pub(crate) refused_proxy: AtomicU64,
    /// Times that file descriptors had run out.
    pub(crate) exhausted: AtomicU64,
    /// What holds for all links of the port.
    rules: RwLock<Arc<Rules>>,
    /// Addresses that are banned, and until when, in milliseconds since 1970.
    bans: RwLock<Vec<(Network, Option<u64>)>>,
    closed: AtomicBool,
    closing: Notify,
}

impl Gate {
    pub(crate) fn new(max: usize, per_address_max: usize, rules: Rules) -> Arc<Gate> {
        Arc::new(Gate {
            max: AtomicUsize::new(max),
            per_address_max: AtomicUsize::new(per_address_max),
            open: AtomicUsize::new(0),
            by_address: Mutex::default(),
            refused_full: AtomicU64::new(0),
            refused_address: AtomicU64::new(0),
            refused_busy: AtomicU64::new(0),
            refused_proxy: AtomicU64::new(0),
            exhausted: AtomicU64::new(0),
            rules: RwLock::new(Arc::new(rules)),
            bans: RwLock::default(),
            closed: AtomicBool::new(false),
            closing: Notify::new(),
        })
    }

    /// Other limits and rules from now on; links that are open stay.
    pub(crate) fn configure(&self, max: usize, per_address_max: usize, rules: Rules) {
        self.max.store(max, Ordering::Relaxed);
        self.per_address_max.store(per_address_max, Ordering::Relaxed);
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    /// Other bans of addresses from now on; links that are open stay.
    pub(crate) fn set_bans(&self, bans: Vec<(Network, Option<u64>)>) {
        *self.bans.write().unwrap_or_else(PoisonError::into_inner) = bans;
    }

    /// What holds for all links of the port.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many sockets of links are open.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// How many may be.
    pub(crate) fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    /// Lets nobody in from now on.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.closing.notify_one();
    }

    /// Whether nobody is let in any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Waits until nobody is let in any more; for the one task that accepts.
    pub(crate) async fn closing(&self) {
        self.closing.notified().await;
    }

    /// A place for one more link; `None`, counted and logged, if there is none.
    pub(crate) fn admit(self: &Arc<Gate>) -> Option<Admission> {
        if self.open() >= self.max() {
            let refused = self.refused_full.fetch_add(1, Ordering::Relaxed) + 1;
            warn!(refused, max = self.max(), "refused a connection: limits.connections is reached");
            return None;
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        Some(Admission { gate: Arc::clone(self), counted: None })
    }
}

/// A link's place; given back when it is dropped.
pub(crate) struct Admission {
    gate: Arc<Gate>,
    /// The address it was counted for, while addresses are limited. Boxed, since usually there is none.
    counted: Option<Box<IpAddr>>,
}

impl Admission {
    /// Counts the link as one of `address`; gives the place back, counted and logged, if that has its share.
    pub(crate) fn count(mut self, address: IpAddr) -> Option<Admission> {
        let per_address_max = self.gate.per_address_max.load(Ordering::Relaxed);
        if per_address_max > 0 {
            let mut by_address = self.gate.by_address.lock().unwrap_or_else(PoisonError::into_inner);
            let count = by_address.entry(address).or_insert(0);
            if *count >= per_address_max {
                drop(by_address);
                let refused = self.gate.refused_address.fetch_add(1, Ordering::Relaxed) + 1;
                warn!(refused, %address, "refused a connection: limits.connections_per_address is reached");
                return None;
            }
            *count += 1;
            self.counted = Some(Box::new(address));
        }
        Some(self)
    }

    /// For how much longer `address` is banned, if it is: `Some(None)` until that is taken back.
    pub(crate) fn ban(&self, address: IpAddr) -> Option<Option<Duration>> {
        let bans = self.gate.bans.read().unwrap_or_else(PoisonError::into_inner);
        if bans.is_empty() {
            return None;
        }
        let now_ms = wall_ms();
        let left =
            |until_ms: Option<u64>| until_ms.map(|until_ms| Duration::from_millis(until_ms.saturating_sub(now_ms)));
        let meant = bans.iter().filter(|(network, _)| network.contains(address)).map(|(_, until_ms)| left(*until_ms));
        let in_force = meant.filter(|left| *left != Some(Duration::ZERO));
        in_force.max_by_key(|left| left.unwrap_or(Duration::MAX))
    }

    /// What holds for all links of the port.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        self.gate.rules()
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.gate.open.fetch_sub(1, Ordering::Relaxed);
        let Some(address) = self.counted.take() else { return };
        let mut by_address = self.gate.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&address);
            }
        }
    }
}
