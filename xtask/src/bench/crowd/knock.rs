//! Peers that connect, say hello, are welcomed and close, as fast as the server lets them.
//!
//! A newcomer costs the generator about as much as the server, so the generator does as little as it can: it asks each socket
//! in turn whether the welcome has come, instead of having them watched.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;
use rustix::net::SendFlags;

use super::frame;
use super::socket::{self, Goodbye};
use super::speech::{Heard, Speech};

/// Source addresses 127.0.2.1 and up, each with the ports below; together more than are used up while one is in TIME_WAIT.
const SOURCES: u32 = 32;
const FIRST_PORT: u32 = 10_000;
const PORTS: u32 = 22_000;
/// Pairs of address and port tried for one knock; a pair is only taken when something else uses it.
const TRIES_MAX: u32 = 1_000;
/// A knock that waits this long has been lost.
const WELCOME_WAIT: Duration = Duration::from_secs(5);
/// A welcome fits; one read takes it.
const READ_BYTES_MAX: usize = 4096;

/// Who knocks and how.
#[derive(Clone, Copy)]
pub(crate) struct Knocking {
    /// Where.
    pub(crate) to: SocketAddr,
    /// What is said and expected.
    pub(crate) speech: Speech,
    /// How each connection ends.
    pub(crate) goodbye: Goodbye,
    /// Connections under way at a time.
    pub(crate) at_once: usize,
}

/// What knocking achieved.
pub(crate) struct Knocks {
    /// Welcomes received.
    pub(crate) welcomed: u64,
    /// From the first connect to the last close.
    pub(crate) took: Duration,
}

impl Knocking {
    /// Knocks for `span`, then waits for the last welcomes.
    pub(crate) fn run(self, span: Duration) -> Result<Knocks> {
        let mut hello = Vec::new();
        ensure!(self.speech.push_hello(&mut hello), "this speech has no hello");
        let mut sources = Sources { knocking: self, started: 0 };
        let mut buffer = vec![0; READ_BYTES_MAX];
        let start = Instant::now();
        let mut slots = Vec::new();
        for _ in 0..self.at_once {
            slots.push(Some(Knock::start(&mut sources)?));
        }
        let mut welcomed = 0;
        let mut heard = start;
        while slots.iter().any(Option::is_some) {
            let now = Instant::now();
            ensure!(now - heard < WELCOME_WAIT, "connections were not welcomed in {WELCOME_WAIT:?}");
            for slot in &mut slots {
                let Some(knock) = slot else { continue };
                if knock.advance(self.speech, &hello, &mut buffer)? {
                    welcomed += 1;
                    heard = now;
                    // The old connection is closed before the next one starts.
                    *slot = None;
                    if now - start < span {
                        *slot = Some(Knock::start(&mut sources)?);
                    }
                }
            }
        }
        Ok(Knocks { welcomed, took: start.elapsed() })
    }
}

/// Hands out source addresses and ports.
struct Sources {
    knocking: Knocking,
    /// Connections started so far; it picks the next pair.
    started: u32,
}

impl Sources {
    fn connect(&mut self) -> Result<OwnedFd> {
        for _ in 0..TRIES_MAX {
            let ip = Ipv4Addr::new(127, 0, 2, (1 + self.started % SOURCES) as u8);
            let port = (FIRST_PORT + self.started / SOURCES % PORTS) as u16;
            self.started = self.started.wrapping_add(1);
            let from = SocketAddrV4::new(ip, port);
            if let Some(socket) = socket::start_connect(self.knocking.to, from, self.knocking.goodbye)? {
                return Ok(socket);
            }
        }
        bail!("no free source port was found in {TRIES_MAX} tries")
    }
}

/// One connection under way.
struct Knock {
    socket: OwnedFd,
    /// On loopback the kernel has connected by the time `connect` returns, so the hello leaves at once.
    said: bool,
    partial: Vec<u8>,
}

impl Knock {
    fn start(sources: &mut Sources) -> Result<Self> {
        Ok(Self { socket: sources.connect()?, said: false, partial: Vec::new() })
    }

    /// Moves on without waiting; `true` when the welcome has come.
    fn advance(&mut self, speech: Speech, hello: &[u8], buffer: &mut [u8]) -> Result<bool> {
        if !self.said {
            self.said = say(&self.socket, hello)?;
            return Ok(false);
        }
        match rustix::io::read(&self.socket, &mut *buffer) {
            Ok(0) => bail!("the server closed before it said welcome"),
            Ok(count) => self.partial.extend_from_slice(&buffer[..count]),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            Err(error) => bail!("the connection broke before its welcome: {error}"),
        }
        let mut welcomed = false;
        frame::split(&self.partial, |body| {
            welcomed |= match speech.hear(body)? {
                Heard::Welcome => true,
                Heard::Beat { .. } => speech == Speech::V1ToFloor,
                Heard::Ask { .. } => false,
            };
            Ok(())
        })?;
        Ok(welcomed)
    }
}

fn say(socket: &OwnedFd, hello: &[u8]) -> Result<bool> {
    match rustix::net::send(socket, hello, SendFlags::NOSIGNAL) {
        Ok(count) if count == hello.len() => Ok(true),
        Err(Errno::AGAIN | Errno::NOTCONN) => Ok(false),
        Ok(_) => bail!("a hello was cut"),
        Err(error) => Err(error).context("cannot say hello"),
    }
}
