//! The load generator: thousands of peers in one thread that sends on a schedule and checks every reply.
//!
//! It keeps no timers: the schedule is a formula (beat `k` is due at `k / rate` and belongs to peer `k mod n`), so a reply's
//! latency is always counted from when its beat was *due*, never from when a late generator got round to it. The crowd does
//! not reconnect and does not adapt: any fault of the server ends the measurement with an error. `pace` sends in an open loop,
//! `volley` in bursts, `knock` connects and closes.

pub(crate) mod frame;
pub(crate) mod knock;
pub(crate) mod pace;
pub(crate) mod poll;
pub(crate) mod socket;
mod speech;
pub(crate) mod volley;

use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use rustix::io::Errno;
use rustix::net::SendFlags;

use self::poll::Poll;
use self::speech::Heard;
pub(crate) use self::speech::Speech;

/// Peers opened before their welcomes are awaited; below the backlog of any listener.
const OPEN_BATCH: usize = 250;
/// A server that needs longer to say welcome is broken.
const WELCOME_WAIT: Duration = Duration::from_secs(10);
const READ_BYTES_MAX: usize = 64 * 1024;

/// One connection of the crowd.
struct Peer {
    socket: OwnedFd,
    speech: Speech,
    /// Beats written; also the number of the next one.
    sent: u32,
    /// Replies to beats; also the number the next reply must carry.
    answered: u32,
    /// `answered` when the running measurement began.
    base: u32,
    /// The start of a frame whose end has not come yet; owns nothing while empty.
    partial: Vec<u8>,
}

/// A reply to a beat.
#[derive(Clone, Copy)]
struct Reply {
    peer: u32,
    /// The beat's number among those this peer sent in the running measurement.
    round: u32,
}

/// Many peers, one epoll.
pub(crate) struct Crowd {
    to: SocketAddr,
    speeches: Vec<Speech>,
    poll: Poll,
    peers: Vec<Peer>,
    ready: Vec<usize>,
    buffer: Vec<u8>,
    out: Vec<u8>,
    /// The replies that the last `listen` heard, in order of arrival.
    replied: Vec<Reply>,
    welcomes: usize,
    asks: u64,
}

impl Crowd {
    /// A crowd without peers; `speeches` are handed out in turn.
    pub(crate) fn new(to: SocketAddr, speeches: &[Speech]) -> Result<Self> {
        ensure!(!speeches.is_empty(), "a crowd needs something to say");
        Ok(Self {
            to,
            speeches: speeches.to_vec(),
            poll: Poll::new()?,
            peers: Vec::new(),
            ready: Vec::new(),
            buffer: vec![0; READ_BYTES_MAX],
            out: Vec::new(),
            replied: Vec::new(),
            welcomes: 0,
            asks: 0,
        })
    }

    /// Opens peers until there are `count`, each welcomed if its speech has a hello.
    pub(crate) fn grow(&mut self, count: usize) -> Result<()> {
        while self.peers.len() < count {
            let batch = self.peers.len()..count.min(self.peers.len() + OPEN_BATCH);
            let awaited = self.welcomes + batch.clone().filter(|index| self.speech(*index).is_answered()).count();
            for index in batch {
                self.open(index)?;
            }
            let deadline = Instant::now() + WELCOME_WAIT;
            while self.welcomes < awaited {
                ensure!(Instant::now() < deadline, "{} of {awaited} welcomes came in {WELCOME_WAIT:?}", self.welcomes);
                self.listen(Duration::from_millis(100))?;
            }
        }
        Ok(())
    }

    /// How often the server asked for a beat out of turn.
    pub(crate) fn asks(&self) -> u64 {
        self.asks
    }

    fn speech(&self, index: usize) -> Speech {
        self.speeches[index % self.speeches.len()]
    }

    fn open(&mut self, index: usize) -> Result<()> {
        let socket = socket::connect(self.to, index)?;
        self.poll.add(&socket, index)?;
        let speech = self.speech(index);
        self.peers.push(Peer { socket, speech, sent: 0, answered: 0, base: 0, partial: Vec::new() });
        self.out.clear();
        if speech.push_hello(&mut self.out) { self.write(index) } else { Ok(()) }
    }

    /// Writes `count` beats of one peer at once.
    fn beat(&mut self, index: usize, count: u32) -> Result<()> {
        self.out.clear();
        let peer = &mut self.peers[index];
        for _ in 0..count {
            peer.speech.push_beat(&mut self.out, peer.sent);
            peer.sent += 1;
        }
        self.write(index)
    }

    fn write(&self, index: usize) -> Result<()> {
        write(&self.peers[index].socket, &self.out).with_context(|| format!("peer {index}"))
    }

    /// Waits at most `timeout` for replies, checks them, answers asks and notes in `replied` who was answered.
    fn listen(&mut self, timeout: Duration) -> Result<()> {
        self.replied.clear();
        self.poll.wait(timeout, &mut self.ready)?;
        for place in 0..self.ready.len() {
            let index = self.ready[place];
            self.read(index).with_context(|| format!("peer {index}"))?;
        }
        Ok(())
    }

    fn read(&mut self, index: usize) -> Result<()> {
        let peer = &mut self.peers[index];
        let count = match rustix::io::read(&peer.socket, &mut self.buffer[..]) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(error) => bail!("the connection broke: {error}"),
        };
        if peer.partial.is_empty() {
            let used =
                peer.hear(index, &self.buffer[..count], &mut self.replied, &mut self.welcomes, &mut self.asks)?;
            peer.partial.extend_from_slice(&self.buffer[used..count]);
        } else {
            let mut bytes = std::mem::take(&mut peer.partial);
            bytes.extend_from_slice(&self.buffer[..count]);
            let used = peer.hear(index, &bytes, &mut self.replied, &mut self.welcomes, &mut self.asks)?;
            peer.partial.extend_from_slice(&bytes[used..]);
        }
        Ok(())
    }
}

impl Peer {
    /// Takes the complete frames of `bytes` and returns how many bytes they were.
    fn hear(
        &mut self,
        index: usize,
        bytes: &[u8],
        replied: &mut Vec<Reply>,
        welcomes: &mut usize,
        asks: &mut u64,
    ) -> Result<usize> {
        let welcomed_by_anything = self.speech == Speech::V1ToFloor;
        frame::split(bytes, |body| {
            match self.speech.hear(body)? {
                Heard::Welcome => *welcomes += 1,
                // The floor answers a hello like everything else; nothing was beaten yet, so this is its welcome.
                Heard::Beat { .. } if welcomed_by_anything && self.sent == 0 => *welcomes += 1,
                Heard::Beat { t: None } if !welcomed_by_anything => {}
                Heard::Beat { t } => {
                    ensure!(self.answered < self.sent, "more replies than beats");
                    let expected = self.answered;
                    ensure!(t.is_none_or(|t| t == expected), "reply {t:?} came where {expected} was due");
                    self.answered += 1;
                    replied.push(Reply { peer: index as u32, round: expected - self.base });
                }
                Heard::Ask { answer } => {
                    *asks += 1;
                    write(&self.socket, &answer)?;
                }
            }
            Ok(())
        })
    }
}

/// Writes all or fails: a socket whose buffer is full of beats belongs to a server that no longer reads.
fn write(socket: &OwnedFd, bytes: &[u8]) -> Result<()> {
    match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL) {
        Ok(count) if count == bytes.len() => Ok(()),
        Ok(count) => bail!("only {count} of {} bytes could be written", bytes.len()),
        Err(Errno::AGAIN) => bail!("the server does not read"),
        Err(error) => bail!("cannot write: {error}"),
    }
}

/// A crowd as its own process, for a network namespace of its own.
#[derive(Args)]
pub(crate) struct Options {
    /// How many peers, legacy and v1 in turn.
    #[arg(long)]
    peers: usize,
    /// The interval of each peer in milliseconds.
    #[arg(long)]
    interval_ms: u32,
}

/// Waits for the server's address on standard input, opens the peers, says `open`, and beats until the next line (the network
/// is cut on purpose, so silence is no fault any more). It then holds its sockets until standard input ends.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let Some(line) = next_line()? else { return Ok(ExitCode::SUCCESS) };
    let to: SocketAddr = line.trim().parse().with_context(|| format!("{line:?} is no address"))?;
    let mut crowd = Crowd::new(to, &[Speech::Legacy, Speech::V1 { interval_ms: options.interval_ms }])?;
    crowd.grow(options.peers)?;
    println!("open");
    std::io::stdout().flush()?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let beating = scope.spawn(|| {
            let result = crowd.keep_beating(Duration::from_millis(options.interval_ms.into()), &stop);
            // The line that ends the beating comes much later; whoever waits for it should know now.
            if let Err(error) = &result {
                eprintln!("xtask crowd: {error:#}");
            }
            result
        });
        let line = next_line();
        stop.store(true, Ordering::Relaxed);
        match beating.join() {
            Ok(result) => result.and(line),
            Err(_) => bail!("the crowd panicked"),
        }
    })?;
    while next_line()?.is_some() {}
    Ok(ExitCode::SUCCESS)
}

fn next_line() -> Result<Option<String>> {
    let mut line = String::new();
    Ok((std::io::stdin().read_line(&mut line)? > 0).then_some(line))
}
