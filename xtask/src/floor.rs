//! The floor of every benchmark: the least a server can do with a frame, which is what the kernel alone costs.
//!
//! One thread blocks in epoll, reads what is there, finds the frames by their 4-byte length and counts them, or answers each
//! with the six bytes `00 00 00 02 {}`, all answers to one read in one write. It looks at no body, keeps eight bytes a
//! connection and has no time-outs. It runs as its own process; the benchmark asks it for its count over standard input, and
//! the end of standard input ends it, so it never outlives the benchmark. With `--fan` it passes frames on instead: see `fan`.

mod fan;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{SendFlags, SocketFlags};

/// How the floor answers and where it listens.
#[derive(Args)]
pub(crate) struct Options {
    /// Answer every frame with six fixed bytes instead of only counting it.
    #[arg(long)]
    reply: bool,
    /// Pass every frame on to the other members of the sender's room.
    #[arg(long, conflicts_with = "reply")]
    fan: bool,
    /// The port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
}

/// One answer: a length of two and an empty JSON object.
pub(crate) const ANSWER: [u8; 6] = *b"\0\0\0\x02{}";

/// As much as one read takes; a frame of a benchmark is far smaller, so one read empties a socket.
const READ_BYTES_MAX: usize = 64 * 1024;
/// Events taken in one turn; more would only delay the first of them.
const EVENTS_MAX: usize = 1024;
/// Connections whose keys could be mistaken for the two below do not exist: descriptors end long before.
const LISTENER: u64 = u64::MAX;
const CONTROL: u64 = u64::MAX - 1;

/// The whole state of a connection, eight bytes: its socket and where it stands between two frames.
struct Peer {
    socket: OwnedFd,
    position: Position,
}

const _: () = assert!(size_of::<Option<Peer>>() == 8);

/// Where in the stream the next byte falls, packed into 32 bits: the top byte counts the header's bytes already seen (0–3); the
/// rest is the partial length while that is not zero, else the bytes of the body still to come.
#[derive(Clone, Copy, Default)]
struct Position(u32);

impl Position {
    /// Moves over `bytes` and returns how many frames they completed.
    fn advance(&mut self, mut bytes: &[u8]) -> u64 {
        let mut frames = 0;
        while !bytes.is_empty() {
            let seen = self.0 >> 24;
            let rest = self.0 & 0x00ff_ffff;
            if seen == 0 && rest > 0 {
                let step = bytes.len().min(rest as usize);
                bytes = &bytes[step..];
                let left = rest - step as u32;
                frames += u64::from(left == 0);
                self.0 = left;
                continue;
            }
            // The length's first byte is dropped: frames are below 16 MiB, so it is zero.
            let length = (rest << 8 | u32::from(bytes[0])) & 0x00ff_ffff;
            bytes = &bytes[1..];
            if seen == 3 {
                frames += u64::from(length == 0);
                self.0 = length;
            } else {
                self.0 = (seen + 1) << 24 | length;
            }
        }
        frames
    }
}

/// What every floor waits on: its listener, its connections and the questions on standard input.
struct Doorway {
    epoll: OwnedFd,
    listener: TcpListener,
}

impl Doorway {
    /// Listens and says on which port.
    fn open(port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).context("the floor cannot listen")?;
        // The standard library asks for a backlog of 128, which a burst of connects overflows; a second listen raises it.
        rustix::net::listen(&listener, 4096)?;
        listener.set_nonblocking(true)?;
        println!("{}", listener.local_addr()?.port());
        std::io::stdout().flush()?;

        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        epoll::add(&epoll, std::io::stdin().as_fd(), EventData::new_u64(CONTROL), EventFlags::IN)?;
        Ok(Self { epoll, listener })
    }

    /// Blocks until something is ready.
    fn wait(&self, events: &mut Vec<Event>) -> Result<()> {
        events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => bail!("epoll failed: {error}"),
        }
    }
}

struct Floor {
    doorway: Doorway,
    /// The key of a connection is its place here.
    peers: Vec<Option<Peer>>,
    free: Vec<u32>,
    frames: u64,
    /// As many answers as the smallest frames of one read can ask for; empty when the floor only counts.
    answers: Vec<u8>,
    buffer: Vec<u8>,
}

/// Serves until standard input ends.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let doorway = Doorway::open(options.port)?;
    if options.fan {
        fan::serve(doorway)?;
        return Ok(ExitCode::SUCCESS);
    }
    let answers = if options.reply { ANSWER.repeat(READ_BYTES_MAX / 4) } else { Vec::new() };
    let buffer = vec![0; READ_BYTES_MAX];
    let mut floor = Floor { doorway, peers: Vec::new(), free: Vec::new(), frames: 0, answers, buffer };
    floor.serve()?;
    Ok(ExitCode::SUCCESS)
}

impl Floor {
    fn serve(&mut self) -> Result<()> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            self.doorway.wait(&mut events)?;
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    CONTROL => {
                        if !tell(self.frames)? {
                            return Ok(());
                        }
                    }
                    key => self.read(key as usize),
                }
            }
        }
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            let socket =
                match rustix::net::accept_with(&self.doorway.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                    Ok(socket) => socket,
                    Err(Errno::AGAIN) => return Ok(()),
                    Err(Errno::CONNABORTED | Errno::INTR) => continue,
                    Err(error) => bail!("the floor cannot accept: {error}"),
                };
            rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
            let key = self.free.pop().map_or(self.peers.len(), |key| key as usize);
            epoll::add(&self.doorway.epoll, &socket, EventData::new_u64(key as u64), EventFlags::IN)?;
            let peer = Some(Peer { socket, position: Position::default() });
            if key == self.peers.len() {
                self.peers.push(peer);
            } else {
                self.peers[key] = peer;
            }
        }
    }

    fn read(&mut self, key: usize) {
        let Some(peer) = self.peers[key].as_mut() else { return };
        let frames = match rustix::io::read(&peer.socket, &mut self.buffer[..]) {
            Ok(0) => None,
            Ok(count) => Some(peer.position.advance(&self.buffer[..count])),
            Err(Errno::AGAIN | Errno::INTR) => Some(0),
            Err(_) => None,
        };
        self.frames += frames.unwrap_or(0);
        let answer = &self.answers[..self.answers.len().min(frames.unwrap_or(0) as usize * ANSWER.len())];
        // A peer that does not read its answers is cut: the floor queues nothing.
        let sent =
            answer.is_empty() || rustix::net::send(&peer.socket, answer, SendFlags::NOSIGNAL) == Ok(answer.len());
        if frames.is_none() || !sent {
            self.peers[key] = None;
            self.free.push(key as u32);
        }
    }
}

/// Each line of standard input is a question for the count so far; `false` when there are no more.
fn tell(count: u64) -> Result<bool> {
    let mut question = [0; 64];
    let asked = std::io::stdin().lock().read(&mut question)? > 0;
    if asked {
        println!("{count}");
        std::io::stdout().flush()?;
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pieces: &[&[u8]], frames: u64) {
        let mut position = Position::default();
        let counted: u64 = pieces.iter().map(|piece| position.advance(piece)).sum();
        assert_eq!(counted, frames, "{pieces:?}");
    }

    #[test]
    fn frames_are_counted_however_they_are_cut() {
        check(&[b"\0\0\0\x02{}"], 1);
        check(&[b"\0\0\0\x02{}\0\0\0\x01x"], 2);
        check(&[b"\0", b"\0", b"\0", b"\x02", b"{", b"}"], 1);
        check(&[b"\0\0\0\x02{}\0\0", b"\0\x02{", b"}"], 2);
        check(&[b"\0\0\0\0\0\0\0\0"], 2);
        check(&[b"\0\0\0\x02{"], 0);
    }

    #[test]
    fn a_long_length_survives_being_cut_inside_the_header() {
        let body = vec![b'x'; 0x01_02_03];
        check(&[&[0, 1], &[2], &[3], &body], 1);
        check(&[&[0, 1], &[2], &[3], &body[1..]], 0);
    }
}
