//! Sockets of the crowd: where they come from and how they are opened.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// One source address carries at most this many peers at once, well below the ephemeral ports an address has.
const PEERS_PER_SOURCE: usize = 1_000;

/// The source address of peer `index`: on loopback one of 127.0.1.x, elsewhere whatever the route gives.
fn source(to: SocketAddr, index: usize) -> Option<Ipv4Addr> {
    match to.ip() {
        IpAddr::V4(ip) if ip.is_loopback() => {
            Some(Ipv4Addr::new(127, 0, 1, (1 + index / PEERS_PER_SOURCE % 250) as u8))
        }
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

/// Connects peer `index` and waits until the kernel has; the socket is non-blocking afterwards.
pub(crate) fn connect(to: SocketAddr, index: usize) -> Result<OwnedFd> {
    let socket = open(to, SocketFlags::CLOEXEC)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    if let Some(ip) = source(to, index) {
        rustix::net::bind(&socket, &SocketAddrV4::new(ip, 0)).with_context(|| format!("cannot bind to {ip}"))?;
    }
    rustix::net::connect(&socket, &to).with_context(|| format!("peer {index} cannot connect to {to}"))?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(socket)
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goodbye {
    /// With a FIN, as an honest client does; the generator's side stays in TIME_WAIT.
    Orderly,
    /// With a reset, which leaves nothing behind on either side.
    Reset,
}

/// Starts to connect from an explicit address and port, without waiting; `None` when the two are taken.
///
/// The port is chosen by the caller because the kernel's own search for a free one grows with the ports in TIME_WAIT and
/// would end up being what is measured.
pub(crate) fn start_connect(to: SocketAddr, from: SocketAddrV4, goodbye: Goodbye) -> Result<Option<OwnedFd>> {
    let socket = open(to, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    // A pair that another server's run left in TIME_WAIT is free for this one.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if goodbye == Goodbye::Reset {
        sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
    }
    match rustix::net::bind(&socket, &from) {
        Ok(()) => {}
        Err(Errno::ADDRINUSE) => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot bind to {from}")),
    }
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(Some(socket)),
        Err(Errno::ADDRNOTAVAIL | Errno::ADDRINUSE) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot connect from {from} to {to}")),
    }
}

fn open(to: SocketAddr, flags: SocketFlags) -> Result<OwnedFd> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    rustix::net::socket_with(family, SocketType::STREAM, flags, None)
        .context("cannot open a socket; is the limit of open files below 20,000?")
}
