//! One link: a socket that is absent, being opened, or open.

use std::future::{Future, pending};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::Target;

/// How much is read at once. It lies on the stack of a call, so an idle link owns no buffer.
const READ_BYTES: usize = 16 * 1024;

pub(crate) enum Link {
    Absent,
    /// Boxed, because it is large and short-lived.
    Opening(Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>),
    Open(TcpStream),
}

/// What a link is ready for.
pub(crate) enum Ready {
    Opened(io::Result<(TcpStream, SocketAddr)>),
    Read,
    Write,
}

impl Link {
    pub(crate) fn opening(target: &Target) -> Link {
        let target = target.clone();
        Link::Opening(Box::pin(async move {
            match target {
                Target::Name(name) => TcpStream::connect(&*name).await,
                Target::Addresses(addresses) => TcpStream::connect(&*addresses).await,
            }
        }))
    }

    /// Waits until something can be done. Cancelling it loses nothing.
    pub(crate) async fn ready(&mut self, interest: Interest) -> io::Result<Ready> {
        match self {
            Link::Absent => pending().await,
            Link::Opening(opening) => Ok(Ready::Opened(opening.await.and_then(opened))),
            Link::Open(stream) => {
                let ready = stream.ready(interest).await?;
                Ok(if interest.is_writable() && ready.is_writable() { Ready::Write } else { Ready::Read })
            }
        }
    }

    /// Reads what is there and passes it on: `None` if nothing is, an empty slice at the end of the stream.
    pub(crate) fn read<R>(&self, take: impl FnOnce(&[u8]) -> R) -> io::Result<Option<R>> {
        let Link::Open(stream) = self else { return Ok(None) };
        let mut buffer = [0; READ_BYTES];
        match stream.try_read(&mut buffer) {
            Ok(count) => Ok(Some(take(&buffer[..count]))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes as much as the socket takes, and removes it from `unsent`, which gives its memory back once it is empty.
    pub(crate) fn write(&self, unsent: &mut Vec<u8>) -> io::Result<()> {
        let Link::Open(stream) = self else { return Ok(()) };
        let mut sent = 0;
        let written = loop {
            if sent == unsent.len() {
                *unsent = Vec::new();
                return Ok(());
            }
            match stream.try_write(&unsent[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        unsent.drain(..sent);
        written
    }
}

/// Prepares a fresh connection. A connect to a closed local port can, by accident, meet itself; that is no server.
fn opened(stream: TcpStream) -> io::Result<(TcpStream, SocketAddr)> {
    let local = stream.local_addr()?;
    if stream.peer_addr()? == local {
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "nothing listens there"));
    }
    // Only a matter of latency; a socket without it works too.
    let _ = stream.set_nodelay(true);
    Ok((stream, local))
}
