//! A shard's thread: its runtime, its shard, and the tasks of its links.
//!
//! Tasks: one per link (`link` has it); the driver's own loop, which takes messages from the hub and wakes the shard
//! when it wants. All run on this thread and are dropped with it, which closes every socket.
//!
//! The shard is borrowed for one input at a time; what it decides is carried out after the borrow has ended.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use slab::Slab;
use stillhere_core::close::CloseCode;
use stillhere_core::event::{
    Answer, Claim, Input, LinkEnd, LinkId, Manner, Output, Outputs, Peer, Seat, Terms, Ticket,
};
use stillhere_core::ledger::{Order, OrderId, Refused, Told};
use stillhere_core::shard::{Shard, Word};
use stillhere_core::time::Time;
use stillhere_core::wire::error::ErrorCode;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::{error, warn};

use crate::clock::{Clock, Moment, wall_ms};
use crate::coalesce;
use crate::gate::Admission;
use crate::hub::{Hub, Inbox, Message, Room};
use crate::notes::Notes;
use crate::store::{LedgerWriter, StoreWriter};
use crate::turns::{LOOK, TURN_BYTES, Turns};

/// How much later than planned the shard may be woken before waiting input is read first: what has arrived in time
/// shall not be missed because the thread was late.
const LATE: Duration = Duration::from_millis(20);
/// Inputs between two polls for new I/O; large, since a turn's work is bounded by the sockets that were ready.
const EVENT_INTERVAL: u32 = 1024;

/// What the store tells is handled in steps of so many: a commit of a thousand messages would keep all links waiting.
const TOLD_STEP: usize = 64;

/// What the driver needs of a link: it calls no other part of it.
pub(crate) trait Socket {
    /// Writes, or queues what can't be written now, up to `outbox_max` bytes. A broken connection is no error here.
    fn write(&self, bytes: &[u8], outbox_max: usize) -> Result<(), TooSlow>;

    /// The same with frames that others get as well: what is queued of them is shared.
    fn write_shared(&self, frames: &Bytes, outbox_max: usize) -> Result<(), TooSlow>;

    /// Bytes queued.
    fn queued(&self) -> usize;

    /// Whether something is queued, and wasn't when this was asked last. The driver is told when nothing is any more.
    fn chokes(&self) -> bool;

    /// Asks the peer for a sign of life below the frames, where the transport can.
    fn ping(&self);

    /// The shard has closed the link, and its number is free. `code` says why, if it is the server that ends it.
    fn close(&self, manner: Manner, code: Option<CloseCode>);
}

/// A link's outbox would exceed its bound: the peer reads too slowly.
pub(crate) struct TooSlow;

/// Puts an accepted socket on a driver; what [`run`] does with those that come through the hub.
pub(crate) type OpenLink = fn(&Rc<Driver>, TcpStream, Peer, Admission);

/// Everything on one shard's thread.
pub(crate) struct Driver {
    index: usize,
    clock: Clock,
    hub: Hub,
    store: StoreWriter,
    ledger: LedgerWriter,
    outbox_max: usize,
    open_link: OpenLink,
    state: RefCell<State>,
    buffer: RefCell<Vec<u8>>,
    /// Where links wait that send much.
    turns: Turns,
    /// The shard wants to be woken sooner than planned.
    sooner: Notify,
}

struct State {
    shard: Shard,
    links: Slab<Rc<dyn Socket>>,
    outputs: Outputs,
    notes: Notes,
    /// Claims that other shards haven't all answered.
    asked: HashMap<Ticket, Asked>,
    next_ticket: u64,
    /// Orders that must reach the store, and for which it had no room.
    unsent: VecDeque<(OrderId, Order)>,
    /// When the driver's loop will next wake the shard.
    planned: Time,
}

struct Asked {
    link: Option<LinkId>,
    claim: Claim,
    outstanding: usize,
    /// How often everybody has said that the session is unknown.
    rounds: u32,
}

/// How often the others are asked before a session counts as unknown. It may be on its way between two of them, and
/// then neither has it; but by the next round the one has taken it in.
const ROUNDS_MAX: u32 = 3;

/// When to try again what the store had no room for.
const STORE_RETRY: Duration = Duration::from_millis(500);

/// What a driver is made of.
pub(crate) struct Parts {
    /// The shard's number.
    pub(crate) index: usize,
    pub(crate) clock: Clock,
    pub(crate) terms: Terms,
    pub(crate) seed: [u8; 32],
    pub(crate) hub: Hub,
    pub(crate) inbox: Inbox,
    pub(crate) store: StoreWriter,
    pub(crate) ledger: LedgerWriter,
    pub(crate) notes: Notes,
    pub(crate) outbox_max: usize,
    pub(crate) open_link: OpenLink,
    pub(crate) gather: Duration,
}

/// Runs a shard on the present thread until every sender of its inbox is gone. `start` is run inside, first.
pub(crate) fn run(parts: Parts, start: impl FnOnce(&Rc<Driver>)) -> std::io::Result<()> {
    coalesce::set_gather(parts.gather);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .on_thread_park(coalesce::before_park)
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(async move {
        let (driver, inbox) = Driver::new(parts);
        start(&driver);
        let giver = Rc::clone(&driver);
        tokio::task::spawn_local(async move { giver.turns.give(|| giver.clock.now()).await });
        driver.run(inbox).await;
    });
    Ok(())
}

impl Driver {
    fn new(parts: Parts) -> (Rc<Driver>, Inbox) {
        let now = parts.clock.now();
        let seat = Seat { index: parts.index as u16, of: parts.hub.len() as u16 };
        let state = State {
            shard: Shard::new(parts.terms, parts.seed, seat, now),
            links: Slab::new(),
            outputs: Outputs::default(),
            notes: parts.notes,
            asked: HashMap::new(),
            next_ticket: 0,
            unsent: VecDeque::new(),
            planned: now,
        };
        let driver = Driver {
            index: parts.index,
            clock: parts.clock,
            hub: parts.hub,
            store: parts.store,
            ledger: parts.ledger,
            outbox_max: parts.outbox_max,
            open_link: parts.open_link,
            state: RefCell::new(state),
            buffer: RefCell::new(vec![0; TURN_BYTES]),
            turns: Turns::default(),
            sooner: Notify::new(),
        };
        (Rc::new(driver), parts.inbox)
    }

    async fn run(self: Rc<Driver>, mut inbox: Inbox) {
        self.handle(Input::Tick { wall_ms: wall_ms() });
        let mut looked = None;
        loop {
            let planned = self.plan();
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(message) => self.take(message, &mut looked).await,
                    None => return,
                },
                () = sleep_until(Instant::from_std(self.clock.instant(planned))) => self.tick(planned).await,
                () = self.sooner.notified() => {}
            }
            if inbox.is_empty() {
                looked = None;
            } else {
                self.look(&mut looked).await;
            }
        }
    }

    /// Lets links be read in between if there is more to take, and it is a while since that was last so: the answers to
    /// a flood of logins or messages shall not go out before anybody else is heard.
    async fn look(&self, looked: &mut Option<Time>) {
        let now = self.clock.now();
        if now.since(*looked.get_or_insert(now)) > LOOK {
            tokio::task::yield_now().await;
            *looked = None;
        }
    }

    /// What the store tells, step by step.
    async fn told(&self, told: Vec<Told>, looked: &mut Option<Time>) {
        let mut told = told.into_iter();
        while told.len() > TOLD_STEP {
            self.told_some(told.by_ref().take(TOLD_STEP).collect());
            self.look(looked).await;
        }
        self.told_some(told.collect());
    }

    fn told_some(&self, told: Vec<Told>) {
        let outcomes = told.iter().filter(|told| matches!(told, Told::Outcome(..))).count();
        coalesce::answered(outcomes as u32);
        self.handle(Input::Told(told));
    }

    fn plan(&self) -> Time {
        let mut state = self.state.borrow_mut();
        state.planned = state.shard.next_deadline();
        state.planned
    }

    async fn tick(&self, planned: Time) {
        if self.clock.now().since(planned) > LATE {
            tokio::task::yield_now().await;
        }
        self.handle(Input::Tick { wall_ms: wall_ms() });
        self.send_again();
    }

    async fn take(self: &Rc<Driver>, message: Message, looked: &mut Option<Time>) {
        match message {
            Message::Told(told) => self.told(told, looked).await,
            Message::Link { stream, peer, admission } => (self.open_link)(self, stream, peer, admission),
            Message::Claim { ticket, claim } => self.handle(Input::Claimed { ticket, claim }),
            Message::Answer { ticket, answer } => self.answered(ticket, answer),
            Message::Word { from, word } => self.handle(Input::Word { from, word }),
            Message::Restore(keepsakes) => self.handle(Input::Restore(keepsakes)),
            Message::Visit(visit) => {
                let mut outputs = {
                    let state = &mut *self.state.borrow_mut();
                    let mut out = std::mem::take(&mut state.outputs);
                    let now = self.clock.now();
                    let outbox_bytes = || state.links.iter().map(|(_, link)| link.queued()).sum();
                    let (shard, closed) = (&mut state.shard, &state.notes.closed);
                    let room = &mut Room { shard, now, out: &mut out, closed, outbox_bytes: &outbox_bytes };
                    if !survives(|| visit(room)) {
                        out.clear();
                        error!("a shard failed at an operator's request; it goes on");
                    }
                    out
                };
                self.carry_out(&mut outputs);
                self.state.borrow_mut().outputs = outputs;
            }
        }
    }

    /// Gives a new link its number, and makes it known to the shard.
    pub(crate) fn add<S: Socket + 'static>(&self, peer: Peer, make: impl FnOnce(LinkId) -> Rc<S>) -> Rc<S> {
        let (id, link) = {
            let mut state = self.state.borrow_mut();
            let entry = state.links.vacant_entry();
            let id = LinkId(entry.key() as u32);
            let link = make(id);
            entry.insert(Rc::clone(&link) as Rc<dyn Socket>);
            (id, link)
        };
        self.turns.open(id, self.clock.now());
        self.handle(Input::Opened { link: id, peer });
        link
    }

    /// A link that was just added comes from a banned address.
    pub(crate) fn banned(&self, link: LinkId, wait: Option<Duration>) {
        self.handle(Input::Banned { link, wait });
    }

    /// What time it is on the process's clock.
    pub(crate) fn now(&self) -> Time {
        self.clock.now()
    }

    /// The queue of links that send much.
    pub(crate) fn turns(&self) -> &Turns {
        &self.turns
    }

    /// Lends the thread's buffer.
    pub(crate) fn with_buffer<R>(&self, read: impl FnOnce(&mut [u8]) -> R) -> R {
        read(&mut self.buffer.borrow_mut())
    }

    /// Bytes arrived.
    pub(crate) fn received(&self, link: LinkId, bytes: &[u8]) {
        coalesce::input();
        self.handle(Input::Received { link, bytes });
    }

    /// A link's transport has something to say besides bytes: one of the inputs that name a link.
    pub(crate) fn tell(&self, input: Input<'_>) {
        coalesce::input();
        self.handle(input);
    }

    /// A link ended by itself.
    pub(crate) fn link_ended(&self, link: LinkId, end: LinkEnd) {
        self.forget(link);
        self.handle(Input::Ended { link, end });
    }

    /// Gives the shard one input and carries out what it decides.
    fn handle(&self, input: Input<'_>) {
        let now = self.clock.now();
        let mut outputs = {
            let state = &mut *self.state.borrow_mut();
            let mut outputs = std::mem::take(&mut state.outputs);
            let link = link_of(&input);
            if !survives(|| state.shard.handle(now, input, &mut outputs)) {
                contain(&mut state.shard, link, now, &mut outputs);
            }
            if state.shard.next_deadline() < state.planned {
                self.sooner.notify_one();
            }
            outputs
        };
        if !outputs.list.is_empty() {
            self.carry_out(&mut outputs);
        }
        self.state.borrow_mut().outputs = outputs;
    }

    fn carry_out(&self, outputs: &mut Outputs) {
        let mut slow = Vec::new();
        let mut choked = Vec::new();
        let mut refused = Vec::new();
        for output in outputs.list.drain(..) {
            match output {
                Output::Write { link: id, range } => {
                    let link = self.state.borrow().links.get(id.0 as usize).cloned();
                    let Some(link) = link else { continue };
                    if link.write(&outputs.bytes[range], self.outbox_max).is_err() {
                        slow.push(id);
                    } else if link.chokes() {
                        choked.push(id);
                    }
                }
                Output::Fan { frames, targets } => {
                    let state = self.state.borrow();
                    for id in &outputs.targets[targets] {
                        let Some(link) = state.links.get(id.0 as usize) else { continue };
                        if link.write_shared(&frames, self.outbox_max).is_err() {
                            slow.push(*id);
                        } else if link.chokes() {
                            choked.push(*id);
                        }
                    }
                }
                Output::Order { id, order } => match self.ledger.order(self.index, id, order) {
                    Ok(()) => coalesce::ordered(),
                    Err(order) => refused.push((id, order)),
                },
                Output::Word { to, word } => self.tell_shards(to, word),
                Output::Close { link, manner, code } => {
                    if let Some(link) = self.forget(link) {
                        link.close(manner, code);
                    }
                }
                Output::Ping { link: id } => {
                    let link = self.state.borrow().links.get(id.0 as usize).cloned();
                    if let Some(link) = link {
                        link.ping();
                    }
                }
                Output::Claim { link, claim } => self.ask_others(link, claim),
                Output::Answer { ticket, answer } => {
                    // A full queue there means that its client waits until its own time-out, and comes again.
                    if self.hub.send(asker(ticket), Message::Answer { ticket, answer }).is_err() {
                        warn!("a shard is overloaded; a session that moves was lost on the way");
                    }
                }
                Output::Keep(keepsake) => self.store.keep(keepsake),
                Output::Forget(session) => self.store.forget(session),
                Output::Note(note) => {
                    let state = &mut *self.state.borrow_mut();
                    let moment = Moment::now(state.shard.time_at(self.clock.now()));
                    state.notes.take(note, moment);
                }
            }
        }
        outputs.clear();
        self.refuse_orders(refused);
        for id in choked {
            self.handle(Input::Choked { link: id });
        }
        for id in slow {
            if let Some(link) = self.forget(id) {
                link.close(Manner::Abort, Some(CloseCode::SlowConsumer));
                self.handle(Input::Ended { link: id, end: LinkEnd::Slow });
            }
        }
    }

    /// The store has no room: whoever asked is told so, except that what it must learn is sent again.
    fn refuse_orders(&self, refused: Vec<(OrderId, Order)>) {
        let mut told = Vec::new();
        for (id, order) in refused {
            if matches!(order, Order::Release { .. } | Order::Handled { .. }) {
                self.state.borrow_mut().unsent.push_back((id, order));
            } else {
                let refusal = ErrorCode::BUSY.because("the store has too much to write at this moment");
                let busy = Refused { refusal, retry: Some(STORE_RETRY), close: None };
                told.push(Told::Outcome(id, Err(busy)));
            }
        }
        if !told.is_empty() {
            self.handle(Input::Told(told));
        }
    }

    /// Tries again what the store had no room for.
    fn send_again(&self) {
        let unsent = std::mem::take(&mut self.state.borrow_mut().unsent);
        for (id, order) in unsent {
            if let Err(order) = self.ledger.order(self.index, id, order).map(|()| coalesce::ordered()) {
                self.state.borrow_mut().unsent.push_back((id, order));
            }
        }
    }

    fn tell_shards(&self, to: Option<u16>, word: Word) {
        let from = self.index as u16;
        let volatile = word.is_volatile();
        let others = (0..self.hub.len()).filter(|shard| *shard != self.index);
        for shard in others.filter(|shard| to.is_none_or(|to| usize::from(to) == *shard)) {
            let message = Message::Word { from, word: word.clone() };
            let sent =
                if volatile { self.hub.send_volatile(shard, message) } else { self.hub.send(shard, message).is_ok() };
            if !sent && !volatile {
                error!(shard, "a shard is overloaded; it doesn't hear of others' users until they change again");
            }
        }
    }

    /// A choked link's outbox is empty again.
    pub(crate) fn drained(&self, link: LinkId) {
        self.handle(Input::Drained { link });
    }

    fn ask_others(&self, link: LinkId, claim: Claim) {
        let ticket = {
            let state = &mut *self.state.borrow_mut();
            state.next_ticket += 1;
            let ticket = Ticket((self.index as u64) << TICKET_BITS | state.next_ticket);
            state.asked.insert(ticket, Asked { link: Some(link), claim, outstanding: 0, rounds: 0 });
            ticket
        };
        self.ask_round(ticket, claim);
    }

    fn ask_round(&self, ticket: Ticket, claim: Claim) {
        if let Some(asked) = self.state.borrow_mut().asked.get_mut(&ticket) {
            asked.outstanding = self.hub.len() - 1;
        }
        for shard in (0..self.hub.len()).filter(|shard| *shard != self.index) {
            if self.hub.send(shard, Message::Claim { ticket, claim }).is_err() {
                self.answered(ticket, Answer::Unknown);
            }
        }
    }

    /// One of the others has answered; the first that knows the session decides.
    fn answered(&self, ticket: Ticket, answer: Answer) {
        let known = self.state.borrow().asked.contains_key(&ticket);
        if !known {
            // Another answer was first. A session that comes all the same waits here until its client comes again.
            return self.handle(Input::Answered { link: LinkId::NONE, answer });
        }
        let again = {
            let state = &mut *self.state.borrow_mut();
            let Some(asked) = state.asked.get_mut(&ticket) else { return };
            asked.outstanding -= 1;
            let unknown = matches!(answer, Answer::Unknown);
            if unknown && asked.outstanding > 0 {
                return;
            }
            asked.rounds += 1;
            (unknown && asked.rounds < ROUNDS_MAX).then_some(asked.claim)
        };
        if let Some(claim) = again {
            return self.ask_round(ticket, claim);
        }
        let link = self.state.borrow_mut().asked.remove(&ticket).and_then(|asked| asked.link);
        self.handle(Input::Answered { link: link.unwrap_or(LinkId::NONE), answer });
    }

    fn forget(&self, id: LinkId) -> Option<Rc<dyn Socket>> {
        let state = &mut *self.state.borrow_mut();
        for asked in state.asked.values_mut().filter(|asked| asked.link == Some(id)) {
            asked.link = None;
        }
        state.links.try_remove(id.0 as usize)
    }
}

/// The link that an input came from.
fn link_of(input: &Input<'_>) -> Option<LinkId> {
    match input {
        Input::Received { link, .. }
        | Input::Upgraded { link, .. }
        | Input::Heard { link }
        | Input::Garbled { link }
        | Input::TurnedAway { link, .. } => Some(*link),
        _ => None,
    }
}

/// Runs `handle`; false if it panicked. The panic is in the log.
fn survives(handle: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(handle)).is_ok()
}

/// A broken invariant costs the link whose input broke it, not the process. What the shard had decided before is
/// dropped, since it may be half done.
fn contain(shard: &mut Shard, link: Option<LinkId>, now: Time, outputs: &mut Outputs) {
    outputs.clear();
    let Some(link) = link else { return error!("a shard failed at something that no link asked for; it goes on") };
    error!(link = link.0, "a shard failed at a link's input; the link is closed with 4003");
    if !survives(|| shard.handle(now, Input::Failed { link }, outputs)) {
        outputs.clear();
        outputs.list.push(Output::Close { link, manner: Manner::Abort, code: Some(CloseCode::ServerError) });
    }
}

/// A ticket's upper bits name the shard that asked.
const TICKET_BITS: u32 = 48;

fn asker(ticket: Ticket) -> usize {
    (ticket.0 >> TICKET_BITS) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use stillhere_core::profile::Profile;

    #[test]
    fn a_failure_costs_its_link_and_nobody_else() {
        let profile = Profile::default();
        let terms = Terms::of(&profile);
        let mut shard = Shard::new(terms, [1; 32], Seat::ALONE, Time::ZERO);
        let mut out = Outputs::default();
        for port in [1, 2] {
            let peer = Peer::from(std::net::SocketAddr::from(([127, 0, 0, 1], port)));
            shard.handle(Time::ZERO, Input::Opened { link: LinkId(u32::from(port)), peer }, &mut out);
        }
        assert!(!survives(|| panic!("a broken invariant")));
        contain(&mut shard, Some(LinkId(1)), Time::ZERO, &mut out);
        let closes = out.list.iter().filter(|output| matches!(output, Output::Close { link: LinkId(1), .. }));
        assert_eq!(closes.count(), 1);
        assert_eq!(shard.stats().links_open(), 1);
    }
}
