//! The certificate for clients: two PEM files, read at the start and at every reload, and never written.

use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::sign::CertifiedKey;

use crate::config::Listen;

/// Tickets given out after a handshake. A client opens one link at a time, and one of its tickets will do for the next.
const TICKETS: usize = 1;

/// A certificate with its chain and private key.
#[derive(Clone, Debug)]
pub struct Certificate {
    chain_and_key: Arc<CertifiedKey>,
    /// Whether others than the owner may read the key's file.
    exposed: Option<PathBuf>,
}

/// Why there is no certificate. The operator's to mend; a gateway that has one goes on with it.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file can't be read.
    #[error("can't read {}: {error}; check `[listen] {key}` and the file's owner", path.display())]
    Read {
        /// The setting that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A file isn't what it should be.
    #[error("{} holds no {what} that can be read ({why}); `[listen] {key}` must name a PEM file with one", path.display())]
    Content {
        /// The setting that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The two files don't belong together.
    #[error("the key in {} doesn't belong to the certificate in {} ({why}); were both renewed?", key.display(), cert.display())]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        why: rustls::Error,
    },
}

impl Certificate {
    /// Reads the certificate that the configuration names; `None` if it names none.
    ///
    /// # Errors
    /// When the files can't be read or don't make a certificate with its key.
    pub fn load(listen: &Listen) -> Result<Option<Certificate>, CertificateError> {
        let (Some(cert), Some(key)) = (&listen.tls_cert, &listen.tls_key) else { return Ok(None) };
        let (chain, _) = read("tls_cert", cert, "certificate", |file| {
            CertificateDer::pem_reader_iter(file).collect::<Result<Vec<_>, _>>()
        })?;
        if chain.is_empty() {
            let why = "there is none".to_owned();
            return Err(CertificateError::Content { key: "tls_cert", path: cert.clone(), what: "certificate", why });
        }
        let (private, mode) = read("tls_key", key, "private key", PrivateKeyDer::from_pem_reader)?;
        let chain_and_key = CertifiedKey::from_der(chain, private, &provider())
            .map_err(|why| CertificateError::Mismatch { cert: cert.clone(), key: key.clone(), why })?;
        Ok(Some(Certificate {
            chain_and_key: Arc::new(chain_and_key),
            exposed: (mode & 0o077 != 0).then(|| key.clone()),
        }))
    }

    /// What works, but perhaps not as intended.
    pub fn warning(&self) -> Option<String> {
        let path = self.exposed.as_deref()?.display();
        Some(format!("others than its owner may read the private key {path}; `chmod 600 {path}`"))
    }

    /// Whether both are the same certificate, chain and all.
    pub(crate) fn is_same(&self, other: &Certificate) -> bool {
        self.chain_and_key.cert == other.chain_and_key.cert
    }

    /// What handshakes work with. Tickets of one ticketer stay good whatever the certificate.
    pub(crate) fn server_config(
        &self,
        ticketer: &Arc<dyn ProducesTickets>,
    ) -> Result<Arc<ServerConfig>, rustls::Error> {
        let resolver = rustls::sign::SingleCertAndKey::from(Arc::clone(&self.chain_and_key));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        config.ticketer = Arc::clone(ticketer);
        // Resumption is in the tickets; a store here would be memory that strangers fill.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = TICKETS;
        Ok(Arc::new(config))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Reads one file, with its mode.
fn read<T>(
    key: &'static str,
    path: &Path,
    what: &'static str,
    parse: impl FnOnce(io::BufReader<File>) -> Result<T, pem::Error>,
) -> Result<(T, u32), CertificateError> {
    let unreadable = |error| CertificateError::Read { key, path: path.to_owned(), error };
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    let value = parse(io::BufReader::new(file)).map_err(|error| CertificateError::Content {
        key,
        path: path.to_owned(),
        what,
        why: error.to_string(),
    })?;
    Ok((value, mode))
}
