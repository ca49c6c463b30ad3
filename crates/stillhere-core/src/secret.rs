//! Session names and resume secrets: how they are made, written and compared.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Where the core's randomness comes from: a generator that the caller seeds from the system, once a shard. With the
/// same seed a run repeats itself, which is how simulations and replays work.
#[derive(Debug)]
pub struct Entropy(StdRng);

impl Entropy {
    /// A generator from 256 bits of the system's randomness (or of a test's choice).
    pub fn from_seed(seed: [u8; 32]) -> Entropy {
        Entropy(StdRng::from_seed(seed))
    }

    /// A new session's name.
    pub fn session_id(&mut self) -> SessionId {
        let mut bytes = [0; 16];
        self.0.fill_bytes(&mut bytes);
        SessionId(bytes)
    }

    /// A new secret.
    pub fn secret(&mut self) -> Secret {
        let mut bytes = [0; 32];
        self.0.fill_bytes(&mut bytes);
        Secret(bytes)
    }

    /// A number below `bound`, or 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.0.next_u64() % bound }
    }
}

/// The name of a v1 session: 128 random bits, 22 characters of base64url.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub [u8; 16]);

impl SessionId {
    /// Reads the 22 characters; `None` if they aren't such a name.
    pub fn parse(text: &str) -> Option<SessionId> {
        decode(text).map(SessionId)
    }
}

impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl std::fmt::Debug for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// A resume secret: 256 random bits, 43 characters of base64url. The server keeps only its hash.
pub struct Secret([u8; 32]);

impl Secret {
    /// Reads the 43 characters; `None` if they aren't a secret.
    pub fn parse(text: &str) -> Option<Secret> {
        decode(text).map(Secret)
    }

    /// What is kept of it. A plain hash is enough: the secret itself is already beyond guessing.
    pub fn hash(&self) -> SecretHash {
        SecretHash(Sha256::digest(self.0).into())
    }

    /// The 43 characters, for `welcome`.
    pub fn reveal(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The SHA-256 of a secret.
#[derive(Clone, Copy)]
pub struct SecretHash(pub [u8; 32]);

impl SecretHash {
    /// Whether both are hashes of the same secret, in a time that doesn't depend on where they differ.
    pub fn matches(&self, other: &SecretHash) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl std::fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    // The longest text that could decode to N bytes; anything longer is refused before it is looked at.
    if text.len() != (N * 4).div_ceil(3) {
        return None;
    }
    let count = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
    (count == N).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_secrets_survive_being_written() {
        let mut entropy = Entropy::from_seed([7; 32]);
        let id = entropy.session_id();
        assert_eq!(SessionId::parse(&id.to_string()), Some(id));
        let secret = entropy.secret();
        let again = Secret::parse(&secret.reveal()).unwrap();
        assert!(again.hash().matches(&secret.hash()));
        assert!(!again.hash().matches(&entropy.secret().hash()));
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        for text in ["", "x", &"A".repeat(42), &"A".repeat(44), &"!".repeat(43), &"A".repeat(100_000)] {
            assert!(Secret::parse(text).is_none(), "{} characters", text.len());
        }
    }

    #[test]
    fn a_secret_never_prints_itself() {
        let secret = Entropy::from_seed([1; 32]).secret();
        assert_eq!(format!("{secret:?} {:?}", secret.hash()), "Secret(…) SecretHash(…)");
    }
}
