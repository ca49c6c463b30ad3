//! TLS: whom a client trusts, and a link inside it.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::net::TcpStream;

/// Whom a client trusts to be the server. Cheap to clone; clients that share one also share its tickets, so that later
/// links begin with a short handshake.
///
/// ```no_run
/// use stillhere_client::{Client, Tls};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let tls = Tls::trusting("certs/cert.pem")?;
/// let client = Client::builder().tls(tls).connect("play.test:14000").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Tls(Arc<ClientConfig>);

/// Why there is no [`Tls`]. The caller's fault, or that of whoever wrote the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file can't be read as PEM.
    #[error("can't read certificates from {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: pem::Error,
    },
    /// The file has no certificate that can be trusted.
    #[error("{} has no certificate to trust", path.display())]
    Nothing {
        /// The file.
        path: PathBuf,
    },
}

impl Tls {
    /// Trusts the authorities that browsers trust. What a target `tls://host:port` means without anything else.
    #[must_use]
    pub fn public() -> Tls {
        Tls::with(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() })
    }

    /// Trusts the certificates in a PEM file, and nobody else: those of authorities, or a server's own self-signed
    /// one, as `stillhere certs dev` makes it.
    ///
    /// # Errors
    /// When the file can't be read or has no certificate.
    pub fn trusting(path: impl AsRef<Path>) -> Result<Tls, TlsError> {
        let path = path.as_ref();
        let read = |error| TlsError::Read { path: path.to_owned(), error };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(path).map_err(read)? {
            // One that can't be trusted is of no use; whether any can is seen below.
            let _ = roots.add(certificate.map_err(read)?);
        }
        if roots.is_empty() {
            return Err(TlsError::Nothing { path: path.to_owned() });
        }
        Ok(Tls::with(roots))
    }

    fn with(roots: RootCertStore) -> Tls {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for both versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Tls(Arc::new(config))
    }

    /// Makes the handshake on a fresh connection to `target`, a `host:port`.
    pub(crate) async fn shake_hands(&self, stream: TcpStream, target: &str) -> io::Result<(Secret, TcpStream)> {
        let host = target.rsplit_once(':').map_or(target, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::clone(&self.0), name).map_err(io::Error::other)?;
        let mut secret = Secret { connection: Box::new(connection) };
        while secret.connection.is_handshaking() {
            secret.flush(&stream)?;
            if secret.wants_write() {
                stream.writable().await?;
            } else {
                stream.readable().await?;
                if secret.take(&stream)? == Taken::End {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended during the TLS handshake"));
                }
            }
        }
        secret.flush(&stream)?;
        Ok((secret, stream))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// What is between a socket and its frames.
pub(crate) struct Secret {
    connection: Box<ClientConnection>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    Some,
    Nothing,
    End,
}

impl Secret {
    /// Whether something encrypted waits for the socket.
    pub(crate) fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// Reads what is there and passes it on, as [`crate::link::Link::read`] does.
    pub(crate) fn read<R>(&mut self, stream: &TcpStream, take: impl FnOnce(&[u8]) -> R) -> io::Result<Option<R>> {
        let taken = self.take(stream)?;
        let mut plain = Vec::new();
        let ended = match self.connection.reader().read_to_end(&mut plain) {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            // The socket ended without TLS having said so. Frames have lengths, so a cut is seen in any case.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => true,
            Err(error) => return Err(error),
        };
        match plain.is_empty() && !ended && taken != Taken::End {
            true => Ok(None),
            false => Ok(Some(take(&plain))),
        }
    }

    /// Encrypts and writes as much as the socket takes, as [`crate::link::Link::write`] does.
    pub(crate) fn write(&mut self, stream: &TcpStream, unsent: &mut Vec<u8>) -> io::Result<()> {
        loop {
            self.flush(stream)?;
            if unsent.is_empty() || self.wants_write() {
                return Ok(());
            }
            let count = self.connection.writer().write(unsent)?;
            unsent.drain(..count);
            if unsent.is_empty() {
                *unsent = Vec::new();
            }
        }
    }

    /// Takes leave of the server.
    pub(crate) fn part(&mut self, stream: &TcpStream) -> io::Result<()> {
        self.connection.send_close_notify();
        self.flush(stream)
    }

    fn take(&mut self, stream: &TcpStream) -> io::Result<Taken> {
        let taken = match self.connection.read_tls(&mut Socket(stream)) {
            Ok(0) => Taken::End,
            Ok(_) => Taken::Some,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Taken::Nothing,
            Err(error) => return Err(error),
        };
        if let Err(error) = self.connection.process_new_packets() {
            // The alert tells the server why; if it can't be sent, nothing is lost.
            let _ = self.flush(stream);
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        Ok(taken)
    }

    fn flush(&mut self, stream: &TcpStream) -> io::Result<()> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Socket(stream)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A socket as rustls wants it.
struct Socket<'a>(&'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused_by_name() {
        let missing = Tls::trusting("/nowhere/cert.pem").unwrap_err().to_string();
        assert!(missing.contains("/nowhere/cert.pem"), "{missing}");
        let nothing = Tls::trusting("src/tls.rs").unwrap_err();
        assert!(matches!(nothing, TlsError::Nothing { .. }), "{nothing}");
    }
}
