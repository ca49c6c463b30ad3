//! How a client is told what to be.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use stillhere_core::limits::LABEL_BYTES_MAX;
use stillhere_core::peer::{Loss, Mode, Peer, PeerConfig, Stop};
use stillhere_core::wire::message::Resume;

use crate::{Client, Tls};

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The caller's fault: a name that no server would take.
    #[error("{what} must have 1 to 64 bytes, not {bytes}")]
    BadLabel {
        /// Which name.
        what: &'static str,
        /// How long it is.
        bytes: usize,
    },
    /// The system has no randomness to give.
    #[error("no randomness from the system: {0}")]
    NoEntropy(io::Error),
    /// The first link could not be opened, or broke before it was of use.
    #[error("{0}")]
    Lost(Loss),
    /// The server closed the link with a code, see [`stillhere_core::close::CloseCode`].
    #[error("the server closed the link: {reason} ({code})")]
    Closed {
        /// The close code.
        code: u16,
        /// In the server's words.
        reason: Box<str>,
    },
    /// The server refused `hello`.
    #[error("the server refused: {message} ({code})")]
    Refused {
        /// The error's code, see [`stillhere_core::wire::error::ErrorCode`].
        code: u16,
        /// In the server's words.
        message: String,
    },
    /// The client stopped for another reason.
    #[error("stopped: {0:?}")]
    Stopped(Stop),
}

/// Where to connect to.
#[derive(Clone, Debug)]
pub enum Target {
    /// `host:port`, resolved again at each connect, so that a name that moves is followed.
    Name(Arc<str>),
    /// Addresses to try in this order; nothing is resolved.
    Addresses(Arc<[SocketAddr]>),
    /// `host:port` inside TLS, resolved as a name is. The server must prove to be that host.
    Secret(Arc<(Box<str>, Tls)>),
}

impl From<&str> for Target {
    fn from(name: &str) -> Target {
        Target::Name(name.into())
    }
}

impl From<String> for Target {
    fn from(name: String) -> Target {
        Target::Name(name.into())
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Target {
        Target::Addresses([address].into())
    }
}

impl From<Vec<SocketAddr>> for Target {
    fn from(addresses: Vec<SocketAddr>) -> Target {
        Target::Addresses(addresses.into())
    }
}

/// What a client is to be. See [`Client::builder`].
#[derive(Clone, Debug)]
pub struct Builder {
    config: PeerConfig,
    resume: Option<Resume>,
    seed: Option<u64>,
    tls: Option<Tls>,
}

impl Builder {
    pub(crate) fn new() -> Builder {
        let client = Some(format!("stillhere-client/{}", env!("CARGO_PKG_VERSION")));
        let config = PeerConfig { client, pid: std::process::id(), ..PeerConfig::default() };
        Builder { config, resume: None, seed: None, tls: None }
    }

    /// The interval to ask for. The server grants 1 s to 10 min; left out, it decides.
    ///
    /// A legacy client beats exactly at this interval (10 ms to 10 min), every 10 s if it is left out.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Builder {
        self.config.interval = Some(interval);
        self
    }

    /// Who is using it, 1 to 64 bytes. Without one the session is anonymous.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Builder {
        self.config.user = Some(user.into());
        self
    }

    /// What kind of client this is, 1 to 64 bytes, for the operator's lists.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.config.client = Some(name.into());
        self
    }

    /// Speak the tutorial's protocol: beat every interval and read nothing. There is no welcome, no round trip, no
    /// zombie rule and no resume.
    #[must_use]
    pub fn legacy(mut self) -> Builder {
        self.config.mode = Mode::Legacy;
        self
    }

    /// Take up a session of an earlier run, kept by [`Client::resume`].
    #[must_use]
    pub fn resume(mut self, resume: Resume) -> Builder {
        self.resume = Some(resume);
        self
    }

    /// Speak inside TLS, with a server that is trusted so. The target must be a name then, `host:port`; written as
    /// `tls://host:port` it means TLS also without this, with the authorities that browsers trust. Of addresses only the first is tried, and the server must prove to
    /// have it.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Builder {
        self.tls = Some(tls);
        self
    }

    /// What decides the jitter of beats and reconnects. Random if left out; fix it only to repeat a run.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Builder {
        self.seed = Some(seed);
        self
    }

    /// Connects and says hello. A v1 client is returned when it is welcomed, a legacy one when its link is open; from
    /// then on it reconnects by itself. The events so far are still to come from [`Client::next_event`].
    ///
    /// # Errors
    /// When the first attempt fails, and why; it isn't repeated. Use [`Builder::start`] for a client that keeps
    /// trying from the beginning.
    pub async fn connect(self, target: impl Into<Target>) -> Result<Client, ConnectError> {
        let mut client = self.start(target)?;
        client.first_link().await?;
        Ok(client)
    }

    /// A client that begins to connect with the first call of [`Client::next_event`] and tries until it succeeds.
    ///
    /// # Errors
    /// [`ConnectError::BadLabel`] or [`ConnectError::NoEntropy`]; nothing has been sent then.
    pub fn start(self, target: impl Into<Target>) -> Result<Client, ConnectError> {
        self.check()?;
        let target = aim(target.into(), self.tls.as_ref());
        let seed = match self.seed {
            Some(seed) => seed,
            None => getrandom::u64().map_err(|error| ConnectError::NoEntropy(error.into()))?,
        };
        let peer = Peer::new(self.config, seed);
        let peer = match self.resume {
            Some(resume) => peer.with_resume(resume),
            None => peer,
        };
        Ok(Client::new(peer, target))
    }

    /// What many clients share, and the seed of the first.
    pub(crate) fn for_many(self) -> Result<(Arc<PeerConfig>, u64), ConnectError> {
        self.check()?;
        let seed = match self.seed {
            Some(seed) => seed,
            None => getrandom::u64().map_err(|error| ConnectError::NoEntropy(error.into()))?,
        };
        Ok((Arc::new(self.config), seed))
    }

    fn check(&self) -> Result<(), ConnectError> {
        for (what, label) in [("user", &self.config.user), ("name", &self.config.client)] {
            let bytes = label.as_ref().map_or(1, String::len);
            if !(1..=LABEL_BYTES_MAX).contains(&bytes) {
                return Err(ConnectError::BadLabel { what, bytes });
            }
        }
        Ok(())
    }
}

/// The target inside TLS, if that is wanted or its name says so.
fn aim(target: Target, tls: Option<&Tls>) -> Target {
    match (target, tls) {
        (Target::Name(name), tls) if tls.is_some() || name.starts_with(TLS_SCHEME) => {
            let host = name.strip_prefix(TLS_SCHEME).unwrap_or(&name).into();
            Target::Secret(Arc::new((host, tls.cloned().unwrap_or_else(Tls::public))))
        }
        // Whoever gives an address has no name that a certificate could prove, but perhaps one for the address itself.
        (Target::Addresses(addresses), Some(tls)) if !addresses.is_empty() => {
            Target::Secret(Arc::new((addresses[0].to_string().into(), tls.clone())))
        }
        (target, _) => target,
    }
}

/// How a target says that it speaks TLS.
const TLS_SCHEME: &str = "tls://";
