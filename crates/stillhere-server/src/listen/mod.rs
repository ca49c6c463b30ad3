//! Accepting: one task on the first shard takes sockets from the kernel and hands them out to all.
//!
//! What every link needs of its socket is set on the listener, since accepted sockets inherit it. The loop never spins:
//! at the limit of connections it accepts and closes, at the limit of file descriptors it waits until one may be free.
//!
//! What comes from a network of proxies first tells whose connection it is (`proxy`): a task each, for at most as long
//! as a first frame may take. Cancelling it closes the socket.

mod proxy;

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::SocketFlags;
use socket2::{Domain, Protocol, Socket, Type};
use stillhere_core::event::Peer;
use tracing::{error, warn};

use crate::driver::Driver;
use crate::gate::{Admission, Gate};
use crate::hub::{Hub, Message};
use crate::link;
use crate::transport::Rules;
use proxy::ProxyError;

/// Connections that may wait in the kernel to be accepted; a herd's first moment.
const BACKLOG: i32 = 4096;
/// Sockets accepted in a row before the shard's own links get their turn. Each takes some 30 µs, and as much again for
/// its first frame: who is in shall not wait for a crowd at the door.
const ACCEPTS_MAX: usize = 4;
/// How long to wait when file descriptors have run out.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// What the kernel may queue for one link, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffers {
    /// For a peer that doesn't read.
    pub(crate) send: usize,
    /// From a peer that sends faster than it is read.
    pub(crate) receive: usize,
}

/// Opens the port for clients. `buffers` bounds what the kernel queues for one link, in bytes; `patience` is how
/// long the detector may take at most: the kernel's own timers must not decide before it.
pub(crate) fn bind(address: SocketAddr, buffers: Buffers, patience: Duration) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(buffers.send)?;
    socket.set_recv_buffer_size(buffers.receive)?;
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
    let door = Rc::new(Door { gate, hub, driver, hasher: RandomState::new() });
    while !door.gate.is_closed() {
        let first = tokio::select! {
            first = listener.accept() => first,
            () = door.gate.closing() => return,
        };
        let taken = match first {
            Ok((stream, peer)) => stream.into_std().map(|stream| door.let_in(stream, peer)),
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
    /// Seeded by the system, so that nobody can choose ports that all meet the same shard.
    hasher: RandomState,
}

impl Door {
    /// Accepts what is waiting, up to a bound.
    fn accept_some(self: &Rc<Door>, listener: &tokio::net::TcpListener) -> io::Result<()> {
        for _ in 1..ACCEPTS_MAX {
            match rustix::net::acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((socket, address)) => {
                    if let Some(peer) = address.and_then(|address| SocketAddr::try_from(address).ok()) {
                        self.let_in(TcpStream::from(socket), peer);
                    }
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn let_in(self: &Rc<Door>, stream: TcpStream, peer: SocketAddr) {
        let Some(admission) = self.gate.admit() else { return };
        let rules = self.gate.rules();
        if rules.proxies.iter().any(|network| network.contains(peer.ip())) {
            let door = Rc::clone(self);
            tokio::task::spawn_local(async move { door.introduce(stream, peer, admission, &rules).await });
        } else {
            self.hand_out(stream, peer, admission);
        }
    }

    /// Hears from a proxy whose connection this is.
    async fn introduce(&self, stream: TcpStream, proxy: SocketAddr, admission: Admission, rules: &Rules) {
        let hear = async {
            let mut stream = tokio::net::TcpStream::from_std(stream)?;
            let client = proxy::read_header(&mut stream).await?;
            Ok((stream.into_std()?, client))
        };
        let heard = match tokio::time::timeout(rules.first_frame, hear).await {
            Ok(heard) => heard,
            Err(_) => Err(ProxyError::Missing),
        };
        match heard {
            Ok((stream, client)) if !self.gate.is_closed() => {
                self.hand_out(stream, client.unwrap_or(proxy), admission);
            }
            Ok(_) => {}
            Err(error) => {
                let refused = self.gate.refused_proxy.fetch_add(1, Ordering::Relaxed) + 1;
                warn!(refused, %proxy, %error, "refused a connection from a network of proxies (listen.proxy)");
            }
        }
    }

    fn hand_out(&self, stream: TcpStream, peer: SocketAddr, admission: Admission) {
        let Some(admission) = admission.count(peer.ip().to_canonical()) else { return };
        let peer = Peer::from(peer);
        // The same address and port always meet the same shard, which remembers who it was.
        let shard = (self.hasher.hash_one(peer) % self.hub.len() as u64) as usize;
        if shard == 0 {
            link::open(&self.driver, stream, peer, admission);
        } else if self.hub.send(shard, Message::Link { stream, peer, admission }).is_err() {
            let refused = self.gate.refused_busy.fetch_add(1, Ordering::Relaxed) + 1;
            warn!(refused, shard, "refused a connection: its shard is overloaded");
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_queues_for_a_link_is_bounded_as_it_was_told() {
        let buffers = Buffers { send: 16 << 10, receive: 8 << 10 };
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0)), buffers, Duration::from_secs(10)).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        listener.set_nonblocking(false).unwrap();
        let (link, _) = listener.accept().unwrap();
        let link = socket2::SockRef::from(&link);
        // The kernel doubles what it is told, for its own books.
        assert_eq!((link.send_buffer_size().unwrap(), link.recv_buffer_size().unwrap()), (32 << 10, 16 << 10));
    }
}
