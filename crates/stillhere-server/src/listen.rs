//! Accepting: one task on the first shard takes sockets from the kernel and hands them out in turn.
//!
//! What every link needs of its socket is set on the listener, since accepted sockets inherit it. The loop never spins:
//! at the limit of connections it accepts and closes, at the limit of file descriptors it waits until one may be free.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::SocketFlags;
use socket2::{Domain, Protocol, Socket, Type};
use stillhere_core::event::Peer;
use tokio::sync::Notify;
use tracing::{error, warn};

use crate::driver::Driver;
use crate::hub::{Hub, Message};

/// Connections that may wait in the kernel to be accepted; a herd's first moment.
const BACKLOG: i32 = 4096;
/// Sockets accepted in a row before the shard's own links get their turn.
const ACCEPTS_MAX: usize = 64;
/// How long to wait when file descriptors have run out.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

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
    /// Times that file descriptors had run out.
    pub(crate) exhausted: AtomicU64,
    closed: AtomicBool,
    closing: Notify,
}

impl Gate {
    pub(crate) fn new(max: usize, per_address_max: usize) -> Arc<Gate> {
        Arc::new(Gate {
            max: AtomicUsize::new(max),
            per_address_max: AtomicUsize::new(per_address_max),
            open: AtomicUsize::new(0),
            by_address: Mutex::default(),
            refused_full: AtomicU64::new(0),
            refused_address: AtomicU64::new(0),
            refused_busy: AtomicU64::new(0),
            exhausted: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            closing: Notify::new(),
        })
    }

    /// Other limits from now on; links that are open stay.
    pub(crate) fn configure(&self, max: usize, per_address_max: usize) {
        self.max.store(max, Ordering::Relaxed);
        self.per_address_max.store(per_address_max, Ordering::Relaxed);
    }

    /// How many sockets of links are open.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// How many may be.
    pub(crate) fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    /// Accepts nothing from now on.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.closing.notify_one();
    }

    fn admit(self: &Arc<Gate>, address: IpAddr) -> Option<Admission> {
        if self.open() >= self.max() {
            let refused = self.refused_full.fetch_add(1, Ordering::Relaxed) + 1;
            warn!(refused, max = self.max(), "refused a connection: limits.connections is reached");
            return None;
        }
        let per_address_max = self.per_address_max.load(Ordering::Relaxed);
        let counted = if per_address_max > 0 {
            let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
            let count = by_address.entry(address).or_insert(0);
            if *count >= per_address_max {
                let refused = self.refused_address.fetch_add(1, Ordering::Relaxed) + 1;
                warn!(refused, %address, "refused a connection: limits.connections_per_address is reached");
                return None;
            }
            *count += 1;
            Some(Box::new(address))
        } else {
            None
        };
        self.open.fetch_add(1, Ordering::Relaxed);
        Some(Admission { gate: Arc::clone(self), counted })
    }
}

/// A link's place; given back when it is dropped.
pub(crate) struct Admission {
    gate: Arc<Gate>,
    /// The address it was counted for, while addresses are limited. Boxed, since usually there is none.
    counted: Option<Box<IpAddr>>,
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

/// Opens the port for clients. `send_buffer` bounds what the kernel queues for one link, in bytes; `patience` is how
/// long the detector may take at most: the kernel's own timers must not decide before it.
pub(crate) fn bind(address: SocketAddr, send_buffer: usize, patience: Duration) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(send_buffer)?;
    // Unacknowledged data alone would end a connection after about 15 minutes by default.
    socket.set_tcp_user_timeout(Some(patience))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until the gate closes.
pub(crate) async fn accept(listener: TcpListener, gate: Arc<Gate>, hub: Hub, driver: Rc<Driver>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return error!(%error, "can't watch the clients' port; nobody can connect"),
    };
    let mut door = Door { gate, hub, driver, next_shard: 0 };
    while !door.gate.closed.load(Ordering::Relaxed) {
        let first = tokio::select! {
            first = listener.accept() => first,
            () = door.gate.closing.notified() => return,
        };
        let taken = match first {
            Ok((stream, peer)) => stream.into_std().map(|stream| door.hand_out(stream, peer)),
            Err(error) => Err(error),
        };
        // One is rarely alone. The rest need not go through the runtime one by one.
        if taken.and_then(|()| door.accept_some(&listener)).is_err_and(|error| is_exhausted(&error)) {
            let times = door.gate.exhausted.fetch_add(1, Ordering::Relaxed) + 1;
            warn!(times, "no file descriptor or memory for a new connection; waiting for one to be free");
            tokio::time::sleep(EXHAUSTED_PAUSE).await;
        }
        tokio::task::yield_now().await;
    }
}

/// Whether the system has no room for another socket. Any other error concerns only the connection that was to be
/// accepted, which is gone.
fn is_exhausted(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// Where accepted sockets pass.
struct Door {
    gate: Arc<Gate>,
    hub: Hub,
    driver: Rc<Driver>,
    next_shard: usize,
}

impl Door {
    /// Accepts what is waiting, up to a bound.
    fn accept_some(&mut self, listener: &tokio::net::TcpListener) -> io::Result<()> {
        for _ in 0..ACCEPTS_MAX {
            match rustix::net::acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((socket, address)) => {
                    if let Some(peer) = address.and_then(|address| SocketAddr::try_from(address).ok()) {
                        self.hand_out(TcpStream::from(socket), peer);
                    }
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn hand_out(&mut self, stream: TcpStream, peer: SocketAddr) {
        let Some(admission) = self.gate.admit(peer.ip().to_canonical()) else { return };
        let peer = Peer::from(peer);
        let shard = self.next_shard;
        self.next_shard = (shard + 1) % self.hub.len();
        if shard == 0 {
            self.driver.add_link(stream, peer, admission);
        } else if self.hub.send(shard, Message::Link { stream, peer, admission }).is_err() {
            let refused = self.gate.refused_busy.fetch_add(1, Ordering::Relaxed) + 1;
            warn!(refused, shard, "refused a connection: its shard is overloaded");
        }
    }
}
