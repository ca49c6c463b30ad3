//! Peers that connect, say hello, are welcomed and close, as fast as the server lets them.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;
use rustix::net::SendFlags;

use super::poll::Poll;
use super::speech::{Heard, Speech};
use super::{frame, socket};

/// Source addresses 127.0.2.1 and up, each with the ports below; together more than are used up while one is in TIME_WAIT.
const SOURCES: u32 = 32;
const FIRST_PORT: u32 = 10_000;
const PORTS: u32 = 22_000;
/// Pairs of address and port tried for one knock; pairs are only taken when something else uses them.
const TRIES_MAX: u32 = 1_000;
/// A knock that waits this long has been lost.
const WELCOME_WAIT: Duration = Duration::from_secs(5);
/// A welcome fits; one read takes it.
const READ_BYTES_MAX: usize = 4096;

/// What knocking achieved.
pub(crate) struct Knocks {
    /// Welcomes received.
    pub(crate) welcomed: u64,
    /// From the first connect to the last close.
    pub(crate) took: Duration,
}

/// One connection under way.
struct Knock {
    socket: OwnedFd,
    /// The hello left as soon as the kernel had connected, which on loopback is at once.
    said: bool,
    partial: Vec<u8>,
}

/// Keeps `at_once` connections under way for `span`.
pub(crate) fn knock(to: SocketAddr, speech: Speech, at_once: usize, span: Duration) -> Result<Knocks> {
    let mut door = Door::new(to, speech, at_once)?;
    let start = Instant::now();
    for slot in 0..at_once {
        door.open(slot)?;
    }
    let mut welcomed = 0;
    let mut heard = Instant::now();
    while door.under_way > 0 {
        let done = door.listen()?;
        welcomed += done.len() as u64;
        let goes_on = start.elapsed() < span;
        for slot in done {
            door.close(slot);
            heard = Instant::now();
            if goes_on {
                door.open(slot)?;
            }
        }
        ensure!(heard.elapsed() < WELCOME_WAIT, "{} connections were not welcomed in {WELCOME_WAIT:?}", door.under_way);
    }
    Ok(Knocks { welcomed, took: start.elapsed() })
}

struct Door {
    to: SocketAddr,
    speech: Speech,
    hello: Vec<u8>,
    poll: Poll,
    slots: Vec<Option<Knock>>,
    under_way: usize,
    /// Connections started so far; it picks the next source.
    started: u32,
    ready: Vec<usize>,
    buffer: Vec<u8>,
}

impl Door {
    fn new(to: SocketAddr, speech: Speech, at_once: usize) -> Result<Self> {
        let mut hello = Vec::new();
        ensure!(speech.push_hello(&mut hello), "this speech has no hello");
        Ok(Self {
            to,
            speech,
            hello,
            poll: Poll::new()?,
            slots: (0..at_once).map(|_| None).collect(),
            under_way: 0,
            started: 0,
            ready: Vec::new(),
            buffer: vec![0; READ_BYTES_MAX],
        })
    }

    fn open(&mut self, slot: usize) -> Result<()> {
        let socket = self.start()?;
        let said = self.say(&socket)?;
        self.poll.add(&socket, slot, !said)?;
        self.slots[slot] = Some(Knock { socket, said, partial: Vec::new() });
        self.under_way += 1;
        Ok(())
    }

    fn start(&mut self) -> Result<OwnedFd> {
        for _ in 0..TRIES_MAX {
            let ip = Ipv4Addr::new(127, 0, 2, (1 + self.started % SOURCES) as u8);
            let port = (FIRST_PORT + self.started / SOURCES % PORTS) as u16;
            self.started = self.started.wrapping_add(1);
            if let Some(socket) = socket::start_connect(self.to, SocketAddrV4::new(ip, port))? {
                return Ok(socket);
            }
        }
        bail!("no free source port was found in {TRIES_MAX} tries")
    }

    fn say(&self, socket: &OwnedFd) -> Result<bool> {
        match rustix::net::send(socket, &self.hello, SendFlags::NOSIGNAL) {
            Ok(count) if count == self.hello.len() => Ok(true),
            Err(Errno::AGAIN | Errno::NOTCONN) => Ok(false),
            Ok(_) => bail!("a hello was cut"),
            Err(error) => Err(error).context("cannot say hello"),
        }
    }

    fn close(&mut self, slot: usize) {
        self.under_way -= usize::from(self.slots[slot].take().is_some());
    }

    /// Waits for answers and returns the slots that are welcomed.
    fn listen(&mut self) -> Result<Vec<usize>> {
        self.poll.wait(Duration::from_millis(100), &mut self.ready)?;
        let mut done = Vec::new();
        for place in 0..self.ready.len() {
            let slot = self.ready[place];
            if self.advance(slot)? {
                done.push(slot);
            }
        }
        Ok(done)
    }

    /// Moves one knock on; `true` when its welcome has come.
    fn advance(&mut self, slot: usize) -> Result<bool> {
        let Some(knock) = self.slots[slot].as_ref() else { return Ok(false) };
        if !knock.said {
            if self.say(&knock.socket)? {
                self.poll.modify(&knock.socket, slot, false)?;
                if let Some(knock) = self.slots[slot].as_mut() {
                    knock.said = true;
                }
            }
            return Ok(false);
        }
        let Some(knock) = self.slots[slot].as_mut() else { return Ok(false) };
        match rustix::io::read(&knock.socket, &mut self.buffer[..]) {
            Ok(0) => bail!("the server closed before it said welcome"),
            Ok(count) => knock.partial.extend_from_slice(&self.buffer[..count]),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            Err(error) => bail!("the connection broke before its welcome: {error}"),
        }
        let mut welcomed = false;
        frame::split(&knock.partial, |body| {
            let heard = self.speech.hear(body)?;
            welcomed |= match heard {
                Heard::Welcome => true,
                Heard::Beat { .. } => self.speech == Speech::V1ToFloor,
                Heard::Ask { .. } => false,
            };
            Ok(())
        })?;
        Ok(welcomed)
    }
}
