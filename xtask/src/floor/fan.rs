//! The floor of fan-out: each frame goes to every other member of the room with one send each.
//!
//! A member's first frame names its room by number and is forwarded to nobody; all later ones are passed on as they are. No
//! body is looked at, nothing is queued and nothing is sent together, not even frames that came in one read: that would be
//! a server's own merit, and the floor is what a delivery costs without it.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result, bail};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{SendFlags, SocketFlags};

use super::{CONTROL, Doorway, EVENTS_MAX, LISTENER, READ_BYTES_MAX};

/// Rooms are numbered from 0; a larger number is a mistake of the generator.
const ROOMS_MAX: usize = 10_000;

struct Member {
    socket: OwnedFd,
    /// `None` until its first frame.
    room: Option<u32>,
    /// The start of a frame whose end has not come yet.
    partial: Vec<u8>,
}

struct Fan {
    doorway: Doorway,
    /// The key of a connection is its place here.
    members: Vec<Option<Member>>,
    /// The keys of a room's members.
    rooms: Vec<Vec<u32>>,
    /// Complete frames received, those that name a room included.
    frames: u64,
    buffer: Vec<u8>,
}

/// Serves until standard input ends; a line there asks how many frames came.
pub(super) fn serve(doorway: Doorway) -> Result<()> {
    let mut fan = Fan { doorway, members: Vec::new(), rooms: Vec::new(), frames: 0, buffer: vec![0; READ_BYTES_MAX] };
    let mut events = Vec::with_capacity(EVENTS_MAX);
    loop {
        fan.doorway.wait(&mut events)?;
        for event in &events {
            match event.data.u64() {
                LISTENER => fan.accept()?,
                CONTROL => {
                    if !super::tell(fan.frames)? {
                        return Ok(());
                    }
                }
                key => fan.read(key as usize)?,
            }
        }
    }
}

impl Fan {
    fn accept(&mut self) -> Result<()> {
        loop {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let socket = match rustix::net::accept_with(&self.doorway.listener, flags) {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::CONNABORTED | Errno::INTR) => continue,
                Err(error) => bail!("the floor cannot accept: {error}"),
            };
            rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
            // Keys are not used again: a benchmark opens its members once.
            let key = EventData::new_u64(self.members.len() as u64);
            epoll::add(&self.doorway.epoll, &socket, key, EventFlags::IN)?;
            self.members.push(Some(Member { socket, room: None, partial: Vec::new() }));
        }
    }

    fn read(&mut self, key: usize) -> Result<()> {
        let Some(member) = self.members[key].as_mut() else { return Ok(()) };
        let count = match rustix::io::read(&member.socket, &mut self.buffer[..]) {
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Ok(0) | Err(_) => {
                self.part(key);
                return Ok(());
            }
            Ok(count) => count,
        };
        if member.partial.is_empty() {
            let (whole, frames) = whole_frames(&self.buffer[..count]);
            self.frames += frames;
            member.partial.extend_from_slice(&self.buffer[whole..count]);
            // The buffer is lent out while the room is written to.
            let buffer = std::mem::take(&mut self.buffer);
            let result = self.pass_on(key, &buffer[..whole]);
            self.buffer = buffer;
            result
        } else {
            let mut bytes = std::mem::take(&mut member.partial);
            bytes.extend_from_slice(&self.buffer[..count]);
            let (whole, frames) = whole_frames(&bytes);
            self.frames += frames;
            member.partial = bytes.split_off(whole);
            self.pass_on(key, &bytes)
        }
    }

    /// Sends whole frames to everyone else in the room, each on its own.
    fn pass_on(&mut self, key: usize, mut frames: &[u8]) -> Result<()> {
        let Some(member) = self.members[key].as_mut() else { return Ok(()) };
        if member.room.is_none() && !frames.is_empty() {
            let (frame, rest) = first_frame(frames)?;
            let room = room_of(frame)?;
            member.room = Some(room as u32);
            if self.rooms.len() <= room {
                self.rooms.resize_with(room + 1, Vec::new);
            }
            self.rooms[room].push(key as u32);
            frames = rest;
        }
        let Some(room) = member.room else { return Ok(()) };
        let mut gone = Vec::new();
        while !frames.is_empty() {
            let (frame, rest) = first_frame(frames)?;
            for other in self.rooms[room as usize].iter().filter(|other| **other as usize != key) {
                let Some(member) = &self.members[*other as usize] else { continue };
                if rustix::net::send(&member.socket, frame, SendFlags::NOSIGNAL) != Ok(frame.len()) {
                    gone.push(*other);
                }
            }
            frames = rest;
        }
        // A member that does not read is cut: the floor queues nothing.
        for other in gone {
            self.part(other as usize);
        }
        Ok(())
    }

    fn part(&mut self, key: usize) {
        let room = self.members[key].take().and_then(|member| member.room);
        if let Some(room) = room {
            self.rooms[room as usize].retain(|other| *other as usize != key);
        }
    }
}

/// How many bytes at the start of `bytes` are complete frames, and how many frames those are.
fn whole_frames(bytes: &[u8]) -> (usize, u64) {
    let mut whole = 0;
    let mut frames = 0;
    while let Some((header, rest)) = bytes[whole..].split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*header) as usize;
        if rest.len() < length {
            break;
        }
        whole += 4 + length;
        frames += 1;
    }
    (whole, frames)
}

/// The first of some whole frames with its header, and the rest.
fn first_frame(frames: &[u8]) -> Result<(&[u8], &[u8])> {
    let header = frames.first_chunk::<4>().context("a frame was cut")?;
    frames.split_at_checked(4 + u32::from_be_bytes(*header) as usize).context("a frame was cut")
}

/// The room that a frame names in decimal.
fn room_of(frame: &[u8]) -> Result<usize> {
    let body = &frame[4..];
    let room = str::from_utf8(body)?.parse().with_context(|| format!("{body:?} names no room"))?;
    if room >= ROOMS_MAX {
        bail!("the floor has no room {room}");
    }
    Ok(room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_frames_are_passed_on() {
        let check =
            |bytes: &[u8], whole: usize, frames: u64| assert_eq!(whole_frames(bytes), (whole, frames), "{bytes:?}");
        check(b"", 0, 0);
        check(b"\0\0\0\x02{", 0, 0);
        check(b"\0\0\0\x02{}", 6, 1);
        check(b"\0\0\0\x02{}\0\0\0\0\0\0", 10, 2);
    }

    #[test]
    fn the_first_frame_names_the_room() {
        let (frame, rest) = first_frame(b"\0\0\0\x0217\0\0\0\x02{}").unwrap();
        assert_eq!(room_of(frame).unwrap(), 17);
        assert_eq!(rest, b"\0\0\0\x02{}");
        assert!(room_of(b"\0\0\0\x02{}").is_err());
        assert!(room_of(b"\0\0\0\x0510000").is_err());
        assert!(first_frame(b"\0\0\0\x02{").is_err());
    }
}
