//! One session at a time, without an epoll: over plain TCP, TLS or WebSocket.
//!
//! For sessions that come in, say hello and are silent from then on. It waits for each reply and is in no hurry.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::wire::{self, Dialect, Ear, Heard};
use crate::bench::crowd::{frame, socket};

/// A server that needs longer for a reply is broken.
const REPLY_WAIT: Duration = Duration::from_secs(10);
/// No reply of a benchmark comes near this.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// The head of the answer to an upgrade.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// The example of RFC 6455, section 1.3: a key, and what a server makes of it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// A client must mask what it writes; that the mask changes matters to proxies only.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What carries the bodies.
#[derive(Clone)]
pub(super) enum Carrier {
    /// Frames on TCP.
    Native,
    /// Frames in TLS, as configured.
    Tls(Arc<ClientConfig>),
    /// Text messages.
    WebSocket,
}

/// A TLS client that trusts one certificate and forgets every server: each handshake is a full one.
pub(super) fn tls(certificate: &Path) -> Result<Carrier> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).context("cannot read the certificate")?)?;
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Carrier::Tls(Arc::new(config)))
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// An open session.
pub(super) struct Lone {
    stream: Box<dyn Stream>,
    web: bool,
    /// Its own port, by which the kernel's tables know it.
    pub(super) port: u16,
    ear: Ear,
}

impl Lone {
    /// Connects as peer `index`; an error means that the server does not speak this.
    pub(super) fn connect(to: SocketAddr, index: usize, carrier: &Carrier) -> Result<Self> {
        let socket = TcpStream::from(socket::connect(to, index)?);
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(REPLY_WAIT))?;
        socket.set_write_timeout(Some(REPLY_WAIT))?;
        let port = socket.local_addr()?.port();
        let stream: Box<dyn Stream> = match carrier {
            Carrier::Native | Carrier::WebSocket => Box::new(socket),
            Carrier::Tls(config) => {
                let connection = ClientConnection::new(config.clone(), ServerName::try_from("localhost")?)?;
                Box::new(StreamOwned::new(connection, socket))
            }
        };
        let mut lone = Self { stream, web: matches!(carrier, Carrier::WebSocket), port, ear: Ear::default() };
        if lone.web {
            lone.upgrade(to)?;
        }
        Ok(lone)
    }

    /// Says hello as user `index` and waits for the welcome.
    pub(super) fn hello(&mut self, index: usize) -> Result<()> {
        self.write(wire::hello(index).as_bytes())?;
        self.wait_for(&Heard::Welcome)
    }

    /// Beats once and waits for the reply.
    pub(super) fn beat(&mut self) -> Result<()> {
        self.write(wire::BEAT)?;
        self.wait_for(&Heard::Beat)
    }

    /// Joins a room; the floor is told its number and answers nothing.
    pub(super) fn join(&mut self, dialect: Dialect, index: usize, room: usize) -> Result<()> {
        match dialect {
            Dialect::Floor => self.write(room.to_string().as_bytes()),
            Dialect::Gateway => {
                self.hello(index)?;
                self.write(wire::join(room, 1).as_bytes())?;
                self.wait_for(&Heard::Ok(1))
            }
        }
    }

    fn upgrade(&mut self, to: SocketAddr) -> Result<()> {
        write!(
            self.stream,
            "GET /ws HTTP/1.1\r\nHost: {to}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )?;
        let mut head = Vec::new();
        // Byte by byte: what follows the head belongs to the first message.
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).context("the upgrade was not answered")?;
            head.push(byte[0]);
            ensure!(head.len() < HEAD_BYTES_MAX, "the answer to the upgrade has no end");
        }
        let head = String::from_utf8_lossy(&head);
        ensure!(head.starts_with("HTTP/1.1 101 "), "the upgrade was answered {:?}", head.lines().next());
        ensure!(head.contains(ACCEPT), "the upgrade was answered without the right key: {head:?}");
        Ok(())
    }

    fn write(&mut self, body: &[u8]) -> Result<()> {
        let mut out = Vec::new();
        if self.web {
            push_masked(&mut out, TEXT, body);
        } else {
            frame::push(&mut out, body);
        }
        self.stream.write_all(&out)?;
        Ok(self.stream.flush()?)
    }

    fn wait_for(&mut self, awaited: &Heard) -> Result<()> {
        loop {
            let body = if self.web { self.read_message()? } else { self.read_frame()? };
            if self.ear.hear(&body)? == *awaited {
                return Ok(());
            }
        }
    }

    fn read_frame(&mut self) -> Result<Vec<u8>> {
        let length = u32::from_be_bytes(self.take()?) as usize;
        self.read_body(length)
    }

    /// The next text message; pings on the way are answered.
    fn read_message(&mut self) -> Result<Vec<u8>> {
        loop {
            let [first, second] = self.take()?;
            let length = match second {
                126 => u16::from_be_bytes(self.take()?) as usize,
                127 => u64::from_be_bytes(self.take()?) as usize,
                short if short < 126 => short as usize,
                _ => bail!("the server masked a message"),
            };
            let body = self.read_body(length)?;
            match first {
                0x81 => return Ok(body),
                0x89 => {
                    let mut out = Vec::new();
                    push_masked(&mut out, PONG, &body);
                    self.stream.write_all(&out)?;
                }
                0x8a => {}
                other => bail!("the server wrote a message of kind {other:#04x}"),
            }
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).context("the server closed the connection or fell silent")?;
        Ok(bytes)
    }

    fn read_body(&mut self, length: usize) -> Result<Vec<u8>> {
        ensure!(length <= BODY_BYTES_MAX, "a body of {length} bytes was announced");
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }
}

const TEXT: u8 = 0x81;
const PONG: u8 = 0x8a;

/// Appends one masked message in one piece; the generator's are short.
fn push_masked(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    out.push(kind);
    match u8::try_from(body.len()) {
        Ok(length) if length < 126 => out.push(0x80 | length),
        _ => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(body.len() as u16).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    out.extend(body.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_message_is_that_of_the_rfc() {
        let mut out = Vec::new();
        push_masked(&mut out, TEXT, b"Hello");
        assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }

    #[test]
    fn a_longer_message_has_its_length_in_two_bytes() {
        let mut out = Vec::new();
        push_masked(&mut out, TEXT, &[b'x'; 300]);
        assert_eq!(out[..4], [0x81, 0xfe, 0x01, 0x2c]);
        assert_eq!(out.len(), 8 + 300);
    }
}
