//! The chat's load generator: rooms full of members in one thread, each delivery checked.
//!
//! It keeps count of the CPU time that it used for more than waiting: a generator that was busy all the time, not the server,
//! was the limit. Signals and messages of a room carry consecutive numbers, and
//! a member that misses one, or hears one twice, ends the measurement with an error.

use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;
use rustix::net::SendFlags;

use super::shape::Shape;
use super::wire::{self, Dialect, Ear, Heard};
use crate::bench::crowd::frame;
use crate::bench::crowd::poll::Poll;
use crate::bench::crowd::socket;
use crate::bench::target::Target;

/// Members opened before their replies are awaited; below the backlog of any listener.
const OPEN_BATCH: usize = 250;
/// A server that needs longer for a reply is broken.
const REPLY_WAIT: Duration = Duration::from_secs(10);
/// Every member beats this often, with the count of pushes it has handled.
const BEAT_EVERY: Duration = Duration::from_secs(10);
/// After so long without a push, the presence of those who came in has been told; it is coalesced to once a second.
const QUIET: Duration = Duration::from_millis(1_500);
/// Presence that does not end by then never will.
const SETTLE_WAIT: Duration = Duration::from_secs(30);
const READ_BYTES_MAX: usize = 64 * 1024;
/// The `id` of requests that are not messages; a message's is its number.
const REQUEST_ID: u32 = u32::MAX;

struct Member {
    socket: OwnedFd,
    /// The number that the next delivery must carry.
    next: u32,
    /// Pushes so far, for the acknowledgement.
    pushes: u64,
    /// What those took on the wire, their headers included.
    push_bytes: u64,
    /// On leave: signals are not expected, digests are.
    away: bool,
    /// The start of a frame whose end has not come yet; owns nothing while empty.
    partial: Vec<u8>,
}

/// What a measurement is told of.
#[derive(Clone, Copy)]
pub(super) enum What {
    /// A signal or a message with its number.
    Delivery(u32),
    /// The acknowledgement of a message with its number.
    Ok(u32),
}

/// Something a member heard, and when.
#[derive(Clone, Copy)]
pub(super) struct Event {
    pub(super) member: usize,
    pub(super) what: What,
    pub(super) at: Instant,
}

/// Many members, one epoll.
pub(super) struct Hall {
    dialect: Dialect,
    pub(super) shape: Shape,
    poll: Poll,
    members: Vec<Member>,
    /// The number of each room's next signal or message.
    numbers: Vec<u32>,
    ear: Ear,
    ready: Vec<usize>,
    buffer: Vec<u8>,
    out: Vec<u8>,
    /// What the last `listen` heard, in order.
    pub(super) events: Vec<Event>,
    welcomes: usize,
    /// Replies to requests that are not messages.
    replies: usize,
    /// Pushes of every kind, to all members.
    pushes: u64,
    pub(super) digests: u64,
    /// Signals that reached members on leave.
    pub(super) stray: u64,
    /// Members on leave.
    away: usize,
    /// Since when members beat, and how many beats were written.
    beating: Instant,
    beaten: u64,
    /// CPU time spent on nothing but waiting for the next moment of a schedule.
    spun: Duration,
}

impl Hall {
    /// Opens every member, lets it join its room and waits until presence has settled.
    pub(super) fn open(target: &mut Target, shape: Shape) -> Result<Self> {
        let hall = Self::open_at(target.dialect(), target.address(), shape)?;
        // The floor says nothing on its own; that everyone is in is asked of it.
        if let Target::Floor(_) = target {
            target.expect_beats(shape.members() as u64)?;
        }
        Ok(hall)
    }

    /// The same by address.
    pub(super) fn open_at(dialect: Dialect, to: SocketAddr, shape: Shape) -> Result<Self> {
        let mut hall = Self::empty(dialect, shape)?;
        hall.fill(to)?;
        hall.settle()?;
        Ok(hall)
    }

    fn empty(dialect: Dialect, shape: Shape) -> Result<Self> {
        let now = Instant::now();
        Ok(Self {
            dialect,
            shape,
            poll: Poll::new()?,
            members: Vec::with_capacity(shape.members()),
            numbers: vec![0; shape.rooms],
            ear: Ear::default(),
            ready: Vec::new(),
            buffer: vec![0; READ_BYTES_MAX],
            out: Vec::new(),
            events: Vec::new(),
            welcomes: 0,
            replies: 0,
            pushes: 0,
            digests: 0,
            stray: 0,
            away: 0,
            beating: now,
            beaten: 0,
            spun: Duration::ZERO,
        })
    }

    fn fill(&mut self, to: SocketAddr) -> Result<()> {
        while self.members.len() < self.shape.members() {
            let batch = self.members.len()..self.shape.members().min(self.members.len() + OPEN_BATCH);
            for index in batch.clone() {
                let socket = socket::connect(to, index)?;
                self.poll.add(&socket, index)?;
                let partial = Vec::new();
                self.members.push(Member { socket, next: 0, pushes: 0, push_bytes: 0, away: false, partial });
                self.out.clear();
                match self.dialect {
                    Dialect::Gateway => frame::push(&mut self.out, wire::hello(index).as_bytes()),
                    Dialect::Floor => wire::push_enter(&mut self.out, self.shape.room(index)),
                }
                self.write(index)?;
            }
            if self.dialect == Dialect::Gateway {
                self.wait_until("welcomes", |hall| hall.welcomes == batch.end)?;
                self.request(batch, |hall, index| wire::join(hall.shape.room(index), REQUEST_ID))?;
            }
        }
        // From here on everyone beats; whoever came first has been here for a few seconds at most.
        self.beating = Instant::now();
        Ok(())
    }

    /// Lets these members ask for something, each once, and waits for every `ok`.
    fn request(&mut self, members: Range<usize>, body: impl Fn(&Self, usize) -> String) -> Result<()> {
        let awaited = self.replies + members.len();
        for index in members {
            let body = body(self, index);
            self.out.clear();
            frame::push(&mut self.out, body.as_bytes());
            self.write(index)?;
        }
        self.wait_until("replies", |hall| hall.replies == awaited)
    }

    fn wait_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + REPLY_WAIT;
        while !done(self) {
            ensure!(
                Instant::now() < deadline,
                "{what} of {} members did not come in {REPLY_WAIT:?}",
                self.members.len()
            );
            self.listen(Duration::from_millis(10))?;
        }
        Ok(())
    }

    /// Waits until nobody has been pushed anything for a while.
    pub(super) fn settle(&mut self) -> Result<()> {
        if self.dialect == Dialect::Floor {
            return Ok(());
        }
        let deadline = Instant::now() + SETTLE_WAIT;
        let mut last = (self.pushes, Instant::now());
        while last.1.elapsed() < QUIET {
            ensure!(Instant::now() < deadline, "pushes did not end within {SETTLE_WAIT:?}");
            self.listen(Duration::from_millis(10))?;
            if self.pushes != last.0 {
                last = (self.pushes, Instant::now());
            }
        }
        Ok(())
    }

    /// Puts the receivers `members` of room 0 on leave.
    pub(super) fn send_away(&mut self, members: Range<usize>) -> Result<()> {
        for index in members.clone() {
            self.members[index].away = true;
        }
        self.away += members.len();
        self.request(members, |_, _| wire::leave(REQUEST_ID))
    }

    /// Writes a room's next signal and returns its number.
    pub(super) fn signal(&mut self, room: usize) -> Result<u32> {
        self.publish(room, wire::push_signal)
    }

    /// Writes a room's next message and returns its number.
    pub(super) fn say(&mut self, room: usize) -> Result<u32> {
        self.publish(room, wire::push_say)
    }

    fn publish(&mut self, room: usize, push: impl Fn(&mut Vec<u8>, usize, u32)) -> Result<u32> {
        let number = self.numbers[room];
        self.numbers[room] += 1;
        self.out.clear();
        push(&mut self.out, room, number);
        self.write(self.shape.publisher(room))?;
        Ok(number)
    }

    /// The number that a room's next signal or message will have.
    pub(super) fn number(&self, room: usize) -> u32 {
        self.numbers[room]
    }

    /// How many members hear what a room's publisher says.
    pub(super) fn listeners(&self) -> usize {
        self.shape.receivers - self.away
    }

    /// Bytes pushed to these members so far.
    pub(super) fn push_bytes(&self, members: Range<usize>) -> u64 {
        self.members[members].iter().map(|member| member.push_bytes).sum()
    }

    /// The receivers of a room.
    pub(super) fn receivers(&self, room: usize) -> Range<usize> {
        self.shape.receivers(room)
    }

    /// CPU time that the generator has used so far for more than waiting.
    pub(super) fn busy(&self) -> Duration {
        cpu_time().saturating_sub(self.spun)
    }

    /// Waits at most `timeout` for what the server says and puts what was heard into `events`.
    pub(super) fn listen(&mut self, timeout: Duration) -> Result<()> {
        self.events.clear();
        self.beat_where_due()?;
        self.poll.wait(timeout, &mut self.ready)?;
        for place in 0..self.ready.len() {
            let index = self.ready[place];
            self.read(index).with_context(|| format!("member {index}"))?;
        }
        Ok(())
    }

    /// The same without sleeping; when there was nothing, it idles on the clock for `pause`, but not beyond `until`.
    ///
    /// A generator that sleeps has to be woken for nearly every delivery, and one that asks its epoll again and again holds up
    /// the core that fills it. Over loopback the server would pay for both, which no server does for peers on other machines,
    /// and how often depends on nothing but luck: it doubled the cost of a delivery in every second run.
    pub(super) fn glance(&mut self, pause: Duration, until: Option<Instant>) -> Result<()> {
        self.listen(Duration::ZERO)?;
        if self.ready.is_empty() {
            let (start, used) = (Instant::now(), cpu_time());
            let end = until.map_or(start + pause, |until| until.min(start + pause));
            while Instant::now() < end {
                std::hint::spin_loop();
            }
            self.spun += cpu_time() - used;
        }
        Ok(())
    }

    fn beat_where_due(&mut self) -> Result<()> {
        if self.dialect == Dialect::Floor || self.members.len() < self.shape.members() {
            return Ok(());
        }
        let count = self.members.len() as u64;
        let due = (self.beating.elapsed().as_nanos() * u128::from(count) / BEAT_EVERY.as_nanos()) as u64;
        while self.beaten < due {
            let index = (self.beaten % count) as usize;
            self.beat(index)?;
            self.beaten += 1;
        }
        Ok(())
    }

    fn beat(&mut self, index: usize) -> Result<()> {
        self.out.clear();
        wire::push_beat(&mut self.out, self.members[index].pushes);
        self.write(index)
    }

    fn read(&mut self, index: usize) -> Result<()> {
        let count = match rustix::io::read(&self.members[index].socket, &mut self.buffer[..]) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(error) => bail!("the connection broke: {error}"),
        };
        let at = Instant::now();
        // The bytes are lent out while what they say is looked at.
        let buffer = std::mem::take(&mut self.buffer);
        let mut partial = std::mem::take(&mut self.members[index].partial);
        let result = if partial.is_empty() {
            self.hear(index, &buffer[..count], at).map(|used| partial.extend_from_slice(&buffer[used..count]))
        } else {
            partial.extend_from_slice(&buffer[..count]);
            self.hear(index, &partial, at).map(|used| drop(partial.drain(..used)))
        };
        self.buffer = buffer;
        self.members[index].partial = partial;
        result
    }

    /// Takes the complete frames of `bytes` and returns how many bytes they were.
    fn hear(&mut self, index: usize, bytes: &[u8], at: Instant) -> Result<usize> {
        frame::split(bytes, |body| {
            let heard = self.ear.hear(body)?;
            let member = &mut self.members[index];
            if heard.is_push() {
                member.pushes += 1;
                member.push_bytes += 4 + body.len() as u64;
                self.pushes += 1;
            }
            match heard {
                Heard::Welcome => self.welcomes += 1,
                Heard::Ok(REQUEST_ID) => self.replies += 1,
                Heard::Ok(number) => self.events.push(Event { member: index, what: What::Ok(number), at }),
                Heard::Delivery(number) => {
                    if member.away {
                        self.stray += 1;
                        return Ok(());
                    }
                    ensure!(number == member.next, "{number} came where {} was due", member.next);
                    member.next = number + 1;
                    self.events.push(Event { member: index, what: What::Delivery(number), at });
                }
                Heard::Digest => self.digests += 1,
                Heard::Ask => self.beat(index)?,
                Heard::Beat | Heard::Push => {}
            }
            Ok(())
        })
    }

    /// Writes all or fails: the generator sends so little at a time that only a server which no longer reads fills a buffer.
    fn write(&self, index: usize) -> Result<()> {
        match rustix::net::send(&self.members[index].socket, &self.out, SendFlags::NOSIGNAL) {
            Ok(count) if count == self.out.len() => Ok(()),
            Ok(_) | Err(Errno::AGAIN) => bail!("member {index}: the server does not read"),
            Err(error) => bail!("member {index}: cannot write: {error}"),
        }
    }
}

/// CPU time of this process: a core that others use too makes waiting longer, but not dearer.
fn cpu_time() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}
