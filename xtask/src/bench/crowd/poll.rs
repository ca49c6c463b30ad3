//! The crowd's epoll: which sockets have something to read.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Result, bail};
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

/// Sockets taken in one turn; the rest come in the next.
const EVENTS_MAX: usize = 1024;

/// An epoll whose keys are places in some list.
pub(crate) struct Poll(OwnedFd);

impl Poll {
    /// An empty one.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(epoll::create(CreateFlags::CLOEXEC)?))
    }

    /// Watches a socket for something to read, until it is closed.
    pub(crate) fn add(&self, socket: impl AsFd, place: usize) -> Result<()> {
        Ok(epoll::add(&self.0, socket, EventData::new_u64(place as u64), EventFlags::IN)?)
    }

    /// Waits at most `timeout`, to the next millisecond, and puts the places of the ready sockets into `ready`.
    pub(crate) fn wait(&self, timeout: Duration, ready: &mut Vec<usize>) -> Result<()> {
        ready.clear();
        let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
        let mut events = [MaybeUninit::<Event>::uninit(); EVENTS_MAX];
        match epoll::wait(&self.0, &mut events[..], Some(&timeout)) {
            Ok((events, _)) => ready.extend(events.iter().map(|event| event.data.u64() as usize)),
            Err(Errno::INTR) => {}
            Err(error) => bail!("epoll failed: {error}"),
        }
        Ok(())
    }
}
