//! Tokens, with which a program logs in again without the password.
//!
//! A token is 256 random bits, so its plain SHA-256 is all that has to be kept, and looking it up by that hash gives
//! away nothing about the tokens there are.

use std::time::Duration;

use stillhere_core::secret::{Secret, SecretHash};

/// How long a token is good after it was used last.
const LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// A token used again within this time isn't written again: a herd that returns must not wait for the disk.
const REFRESH_AFTER: Duration = Duration::from_secs(24 * 3600);

/// What a token is worth at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its time is over.
    Expired,
    /// It is good.
    Good,
    /// It is good, and is to be good until this moment from now on, in milliseconds since 1970.
    Refresh(u64),
}

/// What a token that ends at `expires_ms` is worth at `now_ms`.
pub(crate) fn standing(expires_ms: u64, now_ms: u64) -> Standing {
    let next = expiry(now_ms);
    if expires_ms <= now_ms {
        Standing::Expired
    } else if next.saturating_sub(expires_ms) >= millis(REFRESH_AFTER) {
        Standing::Refresh(next)
    } else {
        Standing::Good
    }
}

/// When a token used at `now_ms` ends.
pub(crate) fn expiry(now_ms: u64) -> u64 {
    now_ms.saturating_add(millis(LIFE))
}

/// What is kept of the token that a client shows; `None` if it can't be one.
pub(crate) fn hash(shown: &str) -> Option<SecretHash> {
    Secret::parse(shown).map(|token| token.hash())
}

fn millis(span: Duration) -> u64 {
    span.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use stillhere_core::secret::Entropy;

    const DAY: u64 = 24 * 3600 * 1000;

    #[test]
    fn a_token_lives_thirty_days_from_its_last_use() {
        let expires = expiry(1000);
        assert_eq!(expires, 1000 + 30 * DAY);
        let table = [
            (1000, Standing::Good),
            (1000 + DAY - 1, Standing::Good),
            (1000 + DAY, Standing::Refresh(1000 + 31 * DAY)),
            (expires - 1, Standing::Refresh(expires - 1 + 30 * DAY)),
            (expires, Standing::Expired),
            (expires + DAY, Standing::Expired),
        ];
        for (now, wanted) in table {
            assert_eq!(standing(expires, now), wanted, "at {now}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_ends_no_token() {
        assert_eq!(standing(expiry(100 * DAY), DAY), Standing::Good);
    }

    #[test]
    fn a_token_is_found_by_its_hash_and_nonsense_has_none() {
        let token = Entropy::from_seed([5; 32]).secret();
        let found = hash(&token.reveal()).unwrap();
        assert!(found.matches(&token.hash()));
        for nonsense in ["", "x", &"A".repeat(42), &"A".repeat(44), &"é".repeat(30)] {
            assert!(hash(nonsense).is_none(), "{nonsense}");
        }
    }
}
