//! One link: a socket that is absent, being opened, or open.

use std::future::{Future, pending};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;

use crate::Target;
use crate::tls::Secret;

/// How much is read at once. It lies on the stack of a call, so an idle link owns no buffer.
const READ_BYTES: usize = 16 * 1024;

pub(crate) enum Link {
    Absent,
    /// Boxed, because it is large and short-lived.
    Opening(Pin<Box<dyn Future<Output = io::Result<Opened>> + Send>>),
    Open(TcpStream),
    /// Boxed, so that plain links stay as small as they are.
    Secret(Box<(Secret, TcpStream)>),
}

/// A fresh connection, with what lies between it and the frames.
pub(crate) struct Opened {
    stream: TcpStream,
    secret: Option<Secret>,
}

/// What a link is ready for.
pub(crate) enum Ready {
    Opened(io::Result<(Link, SocketAddr)>),
    Read,
    Write,
}

impl Link {
    pub(crate) fn opening(target: &Target) -> Link {
        // A box for each kind: thousands may be opening at once, and one for all would be as large as the largest.
        Link::Opening(match target.clone() {
            Target::Name(name) => Box::pin(async move { plain(TcpStream::connect(&*name).await) }),
            Target::Addresses(addresses) => Box::pin(async move { plain(TcpStream::connect(&*addresses).await) }),
            Target::Secret(target) => Box::pin(async move {
                let (name, tls) = &*target;
                let stream = TcpStream::connect(&**name).await?;
                let (secret, stream) = tls.shake_hands(stream, name).await?;
                Ok(Opened { stream, secret: Some(secret) })
            }),
        })
    }

    /// Waits until something can be done. Cancelling it loses nothing.
    pub(crate) async fn ready(&mut self, interest: Interest) -> io::Result<Ready> {
        match self {
            Link::Absent => pending().await,
            Link::Opening(opening) => Ok(Ready::Opened(opening.await.and_then(opened))),
            Link::Secret(link) => {
                let (secret, stream) = &**link;
                let interest = if secret.wants_write() { interest | Interest::WRITABLE } else { interest };
                let ready = stream.ready(interest).await?;
                Ok(if interest.is_writable() && ready.is_writable() { Ready::Write } else { Ready::Read })
            }
            Link::Open(stream) => {
                let ready = stream.ready(interest).await?;
                Ok(if interest.is_writable() && ready.is_writable() { Ready::Write } else { Ready::Read })
            }
        }
    }

    /// Reads what is there and passes it on: `None` if nothing is, an empty slice at the end of the stream.
    pub(crate) fn read<R>(&mut self, take: impl FnOnce(&[u8]) -> R) -> io::Result<Option<R>> {
        let stream = match self {
            Link::Absent | Link::Opening(_) => return Ok(None),
            Link::Open(stream) => stream,
            Link::Secret(link) => return link.0.read(&link.1, take),
        };
        let mut buffer = [0; READ_BYTES];
        match stream.try_read(&mut buffer) {
            Ok(count) => Ok(Some(take(&buffer[..count]))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes as much as the socket takes, and removes it from `unsent`, which gives its memory back once it is empty.
    pub(crate) fn write(&mut self, unsent: &mut Vec<u8>) -> io::Result<()> {
        let stream = match self {
            Link::Absent | Link::Opening(_) => return Ok(()),
            Link::Open(stream) => stream,
            Link::Secret(link) => return link.0.write(&link.1, unsent),
        };
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

    /// Sends the rest, closes our side, and waits for the server to close its own: a socket that is closed with unread
    /// bytes resets the link, and the goodbye could be lost.
    pub(crate) async fn finish(&mut self, mut rest: Vec<u8>) -> io::Result<()> {
        loop {
            self.write(&mut rest)?;
            match self {
                Link::Absent | Link::Opening(_) => return Ok(()),
                Link::Open(stream) if !rest.is_empty() => stream.writable().await?,
                Link::Secret(link) if !rest.is_empty() || link.0.wants_write() => link.1.writable().await?,
                Link::Open(_) | Link::Secret(_) => break,
            }
        }
        let stream = match self {
            Link::Absent | Link::Opening(_) => return Ok(()),
            Link::Open(stream) => stream,
            Link::Secret(link) => {
                link.0.part(&link.1)?;
                &mut link.1
            }
        };
        stream.shutdown().await?;
        let mut sink = [0; 256];
        while stream.readable().await.is_ok() {
            match stream.try_read(&mut sink) {
                Ok(0) => break,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => break,
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }
}

fn plain(connected: io::Result<TcpStream>) -> io::Result<Opened> {
    connected.map(|stream| Opened { stream, secret: None })
}

/// Prepares a fresh connection. A connect to a closed local port can, by accident, meet itself; that is no server.
fn opened(Opened { stream, secret }: Opened) -> io::Result<(Link, SocketAddr)> {
    let local = stream.local_addr()?;
    if stream.peer_addr()? == local {
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "nothing listens there"));
    }
    // Only a matter of latency; a socket without it works too.
    let _ = stream.set_nodelay(true);
    let link = match secret {
        None => Link::Open(stream),
        Some(secret) => Link::Secret(Box::new((secret, stream))),
    };
    Ok((link, local))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_link_pays_nothing_for_tls() {
        enum WithoutTls {
            _Absent,
            _Opening(Pin<Box<dyn Future<Output = ()> + Send>>),
            _Open(TcpStream),
        }
        assert_eq!(size_of::<Link>(), size_of::<WithoutTls>());
    }
}
