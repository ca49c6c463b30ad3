//! Handshakes that come to nothing.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use tokio::time::Instant;

use super::ground::{Ground, Link};
use super::talk::{Came, Overdue, read};
use super::{Against, Attack, Life};

pub(super) const ATTACK: Attack = Attack {
    name: "tls-flood",
    about: "Begins TLS handshakes with real bytes: a fifth of the attackers completes them and closes, one leaves after \
            the server's costly part, one goes on with noise, one says no more after its hello and one after half of \
            it. A sound server gives a handshake a few seconds, so whoever still sits there after 15 s is overdue, and \
            serves others meanwhile; one without TLS closes at the first byte.",
    against: Against::Any,
    size: 16 * 1024,
    life: |ground, index| -> Life { Box::pin(attacker(ground, index)) },
};

/// A handshake that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Whoever sits there is to be closed within this: ours gives a handshake 5 s.
const DUE: Duration = Duration::from_secs(15);
/// And sits no longer than that; then it begins again.
const SITS: Duration = Duration::from_secs(60);
/// What is read of a handshake at most, in bytes: chains of certificates are shorter.
const FLIGHT_MAX: usize = 128 * 1024;

/// How an attacker ends a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Not: it is completed, and the connection closed.
    Complete,
    /// By a reset, when the server's first bytes are there.
    Abandon,
    /// With noise instead of what is due.
    Noise,
    /// It says no more after its hello.
    Silence,
    /// It says no more after half of its hello.
    Half,
}

const ENDINGS: [Ending; 5] = [Ending::Complete, Ending::Abandon, Ending::Noise, Ending::Silence, Ending::Half];

async fn attacker(ground: Rc<Ground>, index: u32) {
    let Some(config) = config() else { return };
    let ending = ENDINGS[index as usize % ENDINGS.len()];
    let mut noise = vec![0; ground.plan.size as usize];
    ground.rng(index).fill_bytes(&mut noise);
    while ground.turn().await {
        let Some(link) = ground.connect().await else { continue };
        attack(&ground, &config, link, ending, &noise).await;
    }
}

/// A client of today that takes any certificate and remembers nothing, so that each handshake is a full one. `None` if
/// this build has no such client, which isn't so.
fn config() -> Option<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().ok()?;
    let verifier = Arc::new(Trusting(provider));
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.resumption = Resumption::disabled();
    Some(Arc::new(config))
}

async fn attack(ground: &Rc<Ground>, config: &Arc<ClientConfig>, mut link: Link, ending: Ending, noise: &[u8]) {
    let name = ServerName::IpAddress(ground.target.ip().into());
    let Ok(mut tls) = ClientConnection::new(config.clone(), name) else { return };
    let hello = due(&mut tls);
    let said = if ending == Ending::Half { &hello[..hello.len() / 2] } else { &hello[..] };
    if !link.send(said).await {
        return;
    }
    match ending {
        Ending::Silence | Ending::Half => sit(ground, &mut link).await,
        Ending::Noise => {
            if link.send(noise).await {
                sit(ground, &mut link).await;
            }
        }
        Ending::Abandon => {
            if flight(ground, &mut link, &mut tls, Instant::now() + PATIENCE).await.is_some_and(|came| came > 0) {
                ground.count().answered += 1;
                link.reset();
            }
        }
        Ending::Complete => {
            if complete(ground, &mut link, &mut tls).await {
                ground.count().answered += 1;
                tls.send_close_notify();
                link.send(&due(&mut tls)).await;
            }
        }
    }
}

/// What the client has to send now.
fn due(tls: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while tls.wants_write() {
        // A vector takes everything.
        if tls.write_tls(&mut bytes).is_err() {
            break;
        }
    }
    bytes
}

/// Goes through the whole handshake; whether it came to its end.
async fn complete(ground: &Ground, link: &mut Link, tls: &mut ClientConnection) -> bool {
    let end = Instant::now() + PATIENCE;
    let mut all = 0;
    while tls.is_handshaking() || tls.wants_write() {
        if !link.send(&due(tls)).await {
            return false;
        }
        if tls.is_handshaking() {
            match flight(ground, link, tls, end).await {
                Some(came) => all += came,
                None => return false,
            }
        }
        if all > FLIGHT_MAX {
            return false;
        }
    }
    true
}

/// Reads what has come of the server's part and gives it to the client: how many bytes, none if it ended, broke, was
/// wrong or late.
async fn flight(ground: &Ground, link: &mut Link, tls: &mut ClientConnection, end: Instant) -> Option<usize> {
    let mut bytes = [0; 4096];
    let within = end.saturating_duration_since(Instant::now());
    let Came::Bytes(count) = read(ground, link, &mut bytes, within).await else { return None };
    let mut rest = &bytes[..count];
    while !rest.is_empty() {
        tls.read_tls(&mut rest).ok()?;
        tls.process_new_packets().ok()?;
    }
    Some(count)
}

/// Says no more and reads what little comes, until the target ends the link.
async fn sit(ground: &Rc<Ground>, link: &mut Link) {
    let begin = Instant::now();
    let mut overdue = None;
    let mut bytes = [0; 4096];
    while begin.elapsed() < SITS {
        let next = if overdue.is_none() { DUE } else { SITS };
        match read(ground, link, &mut bytes, next.saturating_sub(begin.elapsed())).await {
            Came::Ended => return,
            Came::Bytes(_) => {}
            Came::Silence => {
                overdue.get_or_insert_with(|| Overdue::new(ground));
            }
        }
    }
}

/// Takes any certificate: an attacker doesn't mind whom it attacks.
#[derive(Debug)]
struct Trusting(Arc<CryptoProvider>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Mutex;

    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::{ServerConfig, ServerConnection};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::super::fake::run;
    use super::*;
    use crate::frame::Framing;
    use crate::plan;

    fn server() -> ServerConnection {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = builder.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        ServerConnection::new(Arc::new(config)).unwrap()
    }

    fn ground(target: SocketAddr) -> Rc<Ground> {
        let interval = Duration::from_secs(1);
        let plan = plan::Attack { name: "tls-flood".to_owned(), count: 1, rate: None, size: 2000, interval };
        Ground::new(target, plan, Framing::STILLHERE, 1, Arc::new(Mutex::default()), Rc::default())
    }

    /// What a server saw of one attacker: whether the handshake was complete, and how the connection ended.
    #[derive(Debug, PartialEq)]
    struct Seen {
        complete: bool,
        bytes: usize,
        end: &'static str,
    }

    /// Goes on with a handshake until it ends in one way or the other, or `patience` is over without a byte.
    async fn serve(mut stream: TcpStream, patience: Duration) -> Seen {
        let mut tls = server();
        let mut seen = Seen { complete: false, bytes: 0, end: "silence" };
        let mut buffer = [0; 4096];
        loop {
            match tokio::time::timeout(patience, stream.read(&mut buffer)).await {
                Err(_) => return seen,
                Ok(Ok(0)) => return Seen { end: "close", ..seen },
                Ok(Err(_)) => return Seen { end: "reset", ..seen },
                Ok(Ok(count)) => {
                    seen.bytes += count;
                    let mut rest = &buffer[..count];
                    while !rest.is_empty() {
                        tls.read_tls(&mut rest).unwrap();
                        if tls.process_new_packets().is_err() {
                            return Seen { end: "nonsense", ..seen };
                        }
                    }
                    let mut out = Vec::new();
                    while tls.wants_write() {
                        tls.write_tls(&mut out).unwrap();
                    }
                    seen.complete |= !tls.is_handshaking();
                    if stream.write_all(&out).await.is_err() {
                        return Seen { end: "reset", ..seen };
                    }
                }
            }
        }
    }

    /// What a server sees of the attacker with this ending.
    async fn see(ending: Ending, patience: Duration) -> (Seen, Rc<Ground>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ground = ground(listener.local_addr().unwrap());
        let number = ENDINGS.iter().position(|one| *one == ending).unwrap() as u32;
        let life = tokio::task::spawn_local(attacker(ground.clone(), number));
        let seen = serve(listener.accept().await.unwrap().0, patience).await;
        life.abort();
        (seen, ground)
    }

    #[test]
    fn each_attacker_ends_its_handshake_in_its_own_way() {
        let long = Duration::from_secs(10);
        run(async {
            let (seen, ground) = see(Ending::Complete, long).await;
            assert_eq!((seen.complete, seen.end), (true, "close"), "{seen:?}");
            assert!(ground.count().answered >= 1);
            let (seen, ground) = see(Ending::Abandon, long).await;
            assert_eq!((seen.complete, seen.end), (false, "reset"), "{seen:?}");
            assert!(ground.count().answered >= 1);
            let (seen, _) = see(Ending::Noise, long).await;
            assert_eq!((seen.complete, seen.end), (false, "nonsense"), "{seen:?}");
        });
    }

    #[test]
    fn those_that_sit_have_sent_a_hello_or_half_of_one() {
        let short = Duration::from_millis(100);
        run(async {
            let (whole, _) = see(Ending::Silence, short).await;
            let (half, _) = see(Ending::Half, short).await;
            assert_eq!((whole.complete, whole.end), (false, "silence"));
            assert_eq!((half.complete, half.end), (false, "silence"));
            assert!(whole.bytes > 150 && half.bytes * 2 <= whole.bytes + 1, "{whole:?} {half:?}");
        });
    }
}
