//! Passwords as they are kept: Argon2id in PHC strings, and what came from a list of MD5 hashes, wrapped in it.
//!
//! Everything here is slow on purpose and runs on the pool's threads. Whether there is such a user makes no difference:
//! a password is always hashed once, against a hash that nobody's password makes if need be.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, anyhow};
use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use md5::{Digest, Md5};
use tracing::error;
use unicode_normalization::UnicodeNormalization;

/// Memory of one hash, in KiB: 19 MiB, the least that OWASP recommends for two passes. One takes 38 ms here.
const MEMORY_KIB: u32 = 19_456;
/// Passes over it.
const PASSES: u32 = 2;
/// Lanes: one, since a hash has one thread.
const LANES: u32 = 1;
/// Bytes of a salt: what the standard recommends.
const SALT_BYTES: usize = 16;
/// What stands before the PHC string when not the password was hashed but the hexadecimal text of its MD5.
const WRAPPED: &str = "md5:";

/// Makes and checks hashes. Shared by all threads of the pool.
pub(crate) struct Hasher {
    params: Params,
    /// Memory of hashes that are done, for the next ones: given back to the system after each hash and asked for
    /// again, it would be there twice for a moment, and each of its pages would be cleared for nothing.
    spare: Mutex<Vec<Vec<Block>>>,
    /// What unknown users' passwords are compared with.
    dummy: PasswordHash,
    /// How many hashes were computed.
    count: AtomicU64,
}

/// What came of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is another password, or there is no such user.
    Wrong,
    /// It is the password.
    Right,
    /// It is the password, but it should be hashed anew: with today's numbers, or no longer through MD5.
    Stale,
}

impl Hasher {
    /// With the numbers that this version hashes with.
    pub(crate) fn new() -> anyhow::Result<Hasher> {
        Hasher::with_cost(MEMORY_KIB, PASSES)
    }

    /// With other numbers.
    pub(crate) fn with_cost(memory_kib: u32, passes: u32) -> anyhow::Result<Hasher> {
        let params = Params::new(memory_kib, passes, LANES, None).map_err(|error| anyhow!("{error}"))?;
        let nobody = random::<32>()?;
        let (dummy, _) = make(&params, &nobody, Vec::new())?;
        Ok(Hasher { params, spare: Mutex::default(), dummy, count: AtomicU64::new(0) })
    }

    /// What is kept of a password.
    pub(crate) fn hash(&self, password: &str) -> anyhow::Result<String> {
        self.hash_bytes(normal(password).as_bytes())
    }

    /// What is kept of a password of which only the MD5 is known, 32 hexadecimal digits.
    pub(crate) fn wrap(&self, md5: &str) -> anyhow::Result<String> {
        Ok(format!("{WRAPPED}{}", self.hash_bytes(md5.to_ascii_lowercase().as_bytes())?))
    }

    /// Compares a password with what is kept of a user, or with nothing at the same cost.
    pub(crate) fn verify(&self, stored: Option<&str>, password: &str) -> Verdict {
        let (wrapped, phc) = match stored.map(|stored| (stored.strip_prefix(WRAPPED), stored)) {
            Some((Some(phc), _)) => (true, Some(phc)),
            Some((None, phc)) => (false, Some(phc)),
            None => (false, None),
        };
        let parsed = phc.and_then(|phc| match PasswordHash::new(phc) {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                error!(%error, "a user's password is stored in no known form; set it anew with `stillhere ctl users passwd`");
                None
            }
        });
        let text = if wrapped { md5_hex(password) } else { normal(password) };
        let hash = parsed.as_ref().unwrap_or(&self.dummy);
        let right = self.is_of(text.as_bytes(), hash).unwrap_or_else(|error| {
            error!(error = format!("{error:#}"), "a password can't be compared with what is stored of it");
            false
        });
        // Nobody's password makes the dummy, but a promise is better than a probability.
        if !right || parsed.is_none() {
            return Verdict::Wrong;
        }
        if wrapped || self.is_old(hash) { Verdict::Stale } else { Verdict::Right }
    }

    /// How many hashes were computed so far: what tests compare instead of times.
    #[cfg(test)]
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Gives the memory of hashes back to the system: there is nothing to hash.
    pub(crate) fn rest(&self) {
        *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = Vec::new();
    }

    fn hash_bytes(&self, bytes: &[u8]) -> anyhow::Result<String> {
        self.count.fetch_add(1, Ordering::Relaxed);
        let (hash, memory) = make(&self.params, bytes, self.memory())?;
        self.keep(memory);
        Ok(hash.to_string())
    }

    /// Whether this hash is of these bytes. Compares in constant time.
    fn is_of(&self, bytes: &[u8], hash: &PasswordHash) -> anyhow::Result<bool> {
        self.count.fetch_add(1, Ordering::Relaxed);
        let (Some(salt), Some(output)) = (&hash.salt, &hash.hash) else { return Ok(false) };
        let algorithm = Algorithm::try_from(hash.algorithm.as_str()).map_err(|error| anyhow!("{error}"))?;
        let version = hash.version.map_or(Ok(Version::default()), Version::try_from);
        let params = Params::try_from(hash).map_err(|error| anyhow!("{error}"))?;
        let argon2 = Argon2::new(algorithm, version.map_err(|error| anyhow!("{error}"))?, params);
        let (computed, memory) = compute(&argon2, bytes, salt, self.memory())?;
        self.keep(memory);
        Ok(computed == *output)
    }

    fn is_old(&self, hash: &PasswordHash) -> bool {
        hash.algorithm != Algorithm::Argon2id.ident()
            || hash.version != Some(Version::V0x13.into())
            || Params::try_from(hash).map_or(true, |params| numbers(&params) != numbers(&self.params))
    }

    fn memory(&self) -> Vec<Block> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn keep(&self, memory: Vec<Block>) {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
    }
}

/// A new hash of these bytes in the form that is stored, and the memory to keep.
fn make(params: &Params, bytes: &[u8], memory: Vec<Block>) -> anyhow::Result<(PasswordHash, Vec<Block>)> {
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    let salt = Salt::new(&random::<SALT_BYTES>()?).map_err(|error| anyhow!("{error}"))?;
    let (output, memory) = compute(&argon2, bytes, &salt, memory)?;
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(params).map_err(|error| anyhow!("{error}"))?,
        salt: Some(salt),
        hash: Some(output),
    };
    Ok((hash, memory))
}

/// The slow part, in memory that grows as needed and comes back.
fn compute(
    argon2: &Argon2<'_>,
    bytes: &[u8],
    salt: &Salt,
    mut memory: Vec<Block>,
) -> anyhow::Result<(Output, Vec<Block>)> {
    let blocks = argon2.params().block_count();
    memory.try_reserve_exact(blocks.saturating_sub(memory.len())).context("no memory to hash a password")?;
    memory.resize(memory.len().max(blocks), Block::new());
    let mut output = [0; Output::MAX_LENGTH];
    let output = &mut output[..argon2.params().output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN)];
    let hashed = argon2.hash_password_into_with_memory(bytes, salt, output, &mut memory);
    hashed.map_err(|error| anyhow!("can't hash a password: {error}"))?;
    Ok((Output::new(output).map_err(|error| anyhow!("{error}"))?, memory))
}

/// Memory, passes and lanes.
fn numbers(params: &Params) -> [u32; 3] {
    [params.m_cost(), params.t_cost(), params.p_cost()]
}

/// Whether a stored password is an MD5 hash in disguise, because its user hasn't logged in since it was imported.
pub(crate) fn is_wrapped(stored: &str) -> bool {
    stored.starts_with(WRAPPED)
}

/// The same text however a keyboard composes it: an accent may be typed as one character or two.
fn normal(password: &str) -> String {
    password.nfkc().collect()
}

/// Of the bytes as they were typed, since whoever made the list knew of no normal form.
fn md5_hex(password: &str) -> String {
    Md5::digest(password).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).context("the system gives no randomness")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use argon2::{PasswordHasher, PasswordVerifier};

    use super::*;

    fn cheap() -> Hasher {
        Hasher::with_cost(64, 1).unwrap()
    }

    #[test]
    fn a_password_is_kept_as_argon2id_with_the_numbers_of_the_contract() {
        let stored = Hasher::new().unwrap().hash("correct horse").unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
    }

    #[test]
    fn a_password_is_told_from_another_and_never_hashed_to_the_same_twice() {
        let hasher = cheap();
        let stored = hasher.hash("correct horse").unwrap();
        assert_eq!(hasher.verify(Some(&stored), "correct horse"), Verdict::Right);
        for wrong in ["", "correct hors", "Correct horse", "correct horse "] {
            assert_eq!(hasher.verify(Some(&stored), wrong), Verdict::Wrong, "{wrong:?}");
        }
        assert_ne!(stored, hasher.hash("correct horse").unwrap());
    }

    #[test]
    fn an_unknown_user_costs_a_hash_and_so_does_a_broken_record() {
        let hasher = cheap();
        assert_eq!(hasher.verify(None, "anything"), Verdict::Wrong);
        assert_eq!(hasher.count(), 1);
        assert_eq!(hasher.verify(Some("no hash"), "no hash"), Verdict::Wrong);
        assert_eq!(hasher.count(), 2);
    }

    #[test]
    fn an_accent_may_be_typed_either_way() {
        let hasher = cheap();
        let stored = hasher.hash("caf\u{e9} noir").unwrap();
        assert_eq!(hasher.verify(Some(&stored), "cafe\u{301} noir"), Verdict::Right);
    }

    #[test]
    fn an_md5_never_lies_bare_and_asks_to_be_hashed_anew() {
        let hasher = cheap();
        // `printf secret123 | md5sum`, in capitals as some lists have it.
        let stored = hasher.wrap("5D7845AC6EE7CFFFAFC5FE5F35CF666D").unwrap();
        assert!(is_wrapped(&stored) && !stored.to_lowercase().contains("5d7845ac"), "{stored}");
        assert_eq!(hasher.verify(Some(&stored), "secret123"), Verdict::Stale);
        assert_eq!(hasher.verify(Some(&stored), "secret124"), Verdict::Wrong);
        assert_eq!(hasher.verify(Some(&stored), "5d7845ac6ee7cfffafc5fe5f35cf666d"), Verdict::Wrong);
    }

    #[test]
    fn a_password_hashed_with_other_numbers_is_right_but_stale() {
        let old = Hasher::with_cost(32, 1).unwrap().hash("correct horse").unwrap();
        assert_eq!(cheap().verify(Some(&old), "correct horse"), Verdict::Stale);
        assert_eq!(cheap().verify(Some(&old), "wrong horse"), Verdict::Wrong);
    }
    #[test]
    fn the_library_by_itself_says_the_same() {
        let hasher = cheap();
        let stored = hasher.hash("correct horse").unwrap();
        let library = Argon2::default();
        let hash = PasswordHash::new(&stored).unwrap();
        assert!(library.verify_password(b"correct horse", &hash).is_ok());
        assert!(library.verify_password(b"wrong horse", &hash).is_err());
        let theirs = library.hash_password_with_salt(b"correct horse", &[7; SALT_BYTES]).unwrap().to_string();
        assert_eq!(hasher.verify(Some(&theirs), "correct horse"), Verdict::Stale);
    }

    #[test]
    fn memory_is_used_again_whatever_the_next_hash_needs_and_given_back_at_rest() {
        let hasher = cheap();
        let [less, more] = [32, 256].map(|cost| Hasher::with_cost(cost, 1).unwrap().hash("correct horse").unwrap());
        for stored in [&less, &more, &less] {
            assert_eq!(hasher.verify(Some(stored), "correct horse"), Verdict::Stale);
            assert_eq!(hasher.verify(Some(stored), "wrong horse"), Verdict::Wrong);
        }
        let stored = hasher.hash("correct horse").unwrap();
        assert_eq!(hasher.verify(Some(&stored), "correct horse"), Verdict::Right);
        let kept: Vec<usize> = hasher.spare.lock().unwrap().iter().map(Vec::len).collect();
        assert_eq!(kept, [256]);
        hasher.rest();
        assert_eq!(hasher.spare.lock().unwrap().capacity(), 0);
    }
}
