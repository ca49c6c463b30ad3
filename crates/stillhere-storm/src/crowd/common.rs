//! What the members of one crowd share: the tally, who stands how, and a clock.
//!
//! All of it belongs to the crowd's thread; only the tally is behind a lock, for the sampler.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::door::Door;
use super::rooms::Rooms;
use crate::plan::Crowd;
use crate::sample::{Gauges, Tally};

/// How many close codes are told apart in a second; our table has 20. A server that makes codes up is counted under 0.
const CLOSES_MAX: usize = 64;

/// How a member stands, as far as it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It hasn't been let in yet.
    Waiting,
    /// In, and alive.
    Alive,
    /// In, and on leave.
    Leave,
    /// It was in and has no link now.
    Out,
}

/// See the module.
pub(super) struct Common {
    /// What the members are to do.
    pub(super) crowd: Crowd,
    /// Decides what is random.
    pub(super) seed: u64,
    /// Whom it happens to.
    pub(super) target: SocketAddr,
    /// How members become users.
    pub(super) door: Door,
    /// Who has which messages.
    pub(super) rooms: RefCell<Rooms>,
    /// Messages that were said and are neither acknowledged nor refused.
    pub(super) unacknowledged: Cell<u64>,
    /// Tells this crowd's signals and messages from those of another run.
    pub(super) nonce: u32,
    /// Wakes every member when it is to say goodbye.
    pub(super) over: Notify,
    began: Instant,
    tally: Arc<Mutex<Tally>>,
    standings: RefCell<Vec<Standing>>,
    rng: RefCell<StdRng>,
    /// From then on nothing new is said.
    hushed: Cell<bool>,
    /// From then on nothing is counted.
    closed: Cell<bool>,
}

impl Common {
    /// What a crowd begins with: everybody waits.
    pub(super) fn new(crowd: Crowd, seed: u64, target: SocketAddr, tally: Arc<Mutex<Tally>>) -> Common {
        // The seed decides what is done when; names must differ between runs with the same seed.
        let nonce = getrandom::u32().unwrap_or_else(|_| std::process::id());
        let rng = RefCell::new(StdRng::seed_from_u64(seed));
        let standings = RefCell::new(vec![Standing::Waiting; crowd.count as usize]);
        let common = Common {
            door: Door::new(&crowd),
            rooms: RefCell::new(Rooms::new(crowd.count, crowd.rooms)),
            unacknowledged: Cell::new(0),
            nonce,
            over: Notify::new(),
            began: Instant::now(),
            standings,
            rng,
            hushed: Cell::new(false),
            closed: Cell::new(false),
            crowd,
            seed,
            target,
            tally,
        };
        common.count(|tally| tally.gauges.waiting += u64::from(common.crowd.count));
        common
    }

    /// Counts something, unless counting has ended. The lock is held for this only.
    pub(super) fn count(&self, note: impl FnOnce(&mut Tally)) {
        if !self.closed.get() {
            note(&mut self.lock());
        }
    }

    /// Counts a link that the target closed with a code.
    pub(super) fn count_close(&self, code: u16) {
        self.count(|tally| {
            let closes = &mut tally.crowd.closes;
            let code = if closes.contains_key(&code) || closes.len() < CLOSES_MAX { code } else { 0 };
            *closes.entry(code).or_insert(0) += 1;
        });
    }

    /// How a member stands.
    pub(super) fn standing(&self, index: u32) -> Standing {
        self.standings.borrow().get(index as usize).copied().unwrap_or(Standing::Waiting)
    }

    /// A member stands so from now on; the gauges follow. Who hasn't been let in yet can't be out.
    pub(super) fn stand(&self, index: u32, standing: Standing) {
        if self.closed.get() {
            return;
        }
        let mut standings = self.standings.borrow_mut();
        let Some(place) = standings.get_mut(index as usize) else { return };
        if (*place == Standing::Waiting && standing == Standing::Out) || *place == standing {
            return;
        }
        let before = std::mem::replace(place, standing);
        let gauges = &mut self.lock().gauges;
        *gauge(gauges, before) -= 1;
        *gauge(gauges, standing) += 1;
    }

    /// A member that beats has learned that it is on leave. Once for each time that it is put there.
    pub(super) fn put_on_leave(&self, index: u32) {
        if self.standing(index) == Standing::Alive {
            self.stand(index, Standing::Leave);
            self.count(|tally| tally.crowd.false_leaves += 1);
        }
    }

    /// The crowd's clock.
    pub(super) fn micros(&self) -> u64 {
        micros(self.began.elapsed())
    }

    /// The moment at which the crowd's clock shows this.
    pub(super) fn instant(&self, micros: u64) -> Instant {
        self.began + Duration::from_micros(micros)
    }

    /// A span ± 10 %, in microseconds.
    pub(super) fn around(&self, span: Duration) -> u64 {
        let span = micros(span);
        span - span / 10 + self.below(span / 5)
    }

    /// Something from 0 to just below `bound`; 0 if that is 0.
    pub(super) fn below(&self, bound: u64) -> u64 {
        self.rng.borrow_mut().random_range(0..bound.max(1))
    }

    /// Nothing new is said from now on.
    pub(super) fn hush(&self) {
        self.hushed.set(true);
    }

    /// Whether nothing new is to be said.
    pub(super) fn is_hushed(&self) -> bool {
        self.hushed.get()
    }

    /// Counts what is left of messages, and nothing more from then on: the gauges stay as they are while everybody
    /// says goodbye.
    pub(super) fn close(&self) {
        let lost = self.messages_missing();
        self.count(|tally| {
            tally.crowd.messages_lost += lost;
            tally.crowd.unsaid += self.unacknowledged.get();
        });
        self.closed.set(true);
    }

    /// Whether everybody is to say goodbye.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Whether every message is acknowledged and has reached everybody.
    pub(super) fn is_settled(&self) -> bool {
        self.unacknowledged.get() == 0 && self.messages_missing() == 0
    }

    /// Acknowledged messages that members in a room should have got and haven't. Who is out or on leave gets them when
    /// it comes back, so it misses none yet.
    fn messages_missing(&self) -> u64 {
        let standings = self.standings.borrow();
        let is_in = |index: u32| standings.get(index as usize) == Some(&Standing::Alive);
        self.rooms.borrow().missing(is_in)
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whole microseconds of a span.
pub(super) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn gauge(gauges: &mut Gauges, standing: Standing) -> &mut u64 {
    match standing {
        Standing::Waiting => &mut gauges.waiting,
        Standing::Alive => &mut gauges.alive,
        Standing::Leave => &mut gauges.leave,
        Standing::Out => &mut gauges.out,
    }
}
