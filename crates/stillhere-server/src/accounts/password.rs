//! Which passwords are good enough. A rule of length and a guess at how soon somebody else would guess it; no rules of
//! composition, since those only lead to `Password1!`.

use stillhere_core::limits::PASSWORD_BYTES_MAX;
use stillhere_core::name::Name;

/// The shortest password, in characters.
pub(crate) const CHARS_MIN: usize = 8;
/// A password that is found within so many guesses is refused. The soft delays let through a few thousand a day; what
/// takes a million is out of reach without the database.
const GUESSES_MIN: u64 = 1_000_000;
/// What everybody tries here first, besides the user's name.
const PRODUCT: &str = "stillhere";

/// Why a password is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Weak {
    /// Below [`CHARS_MIN`].
    #[error("the password has less than {CHARS_MIN} characters; take a longer one, such as four words")]
    Short,
    /// Above what a client may send.
    #[error("the password has more than {PASSWORD_BYTES_MAX} bytes; take a shorter one")]
    Long,
    /// The user's name or the product's, or hardly more.
    #[error(
        "the password is hardly more than the user's or the server's name; take something else, such as four words"
    )]
    Name,
    /// Guessed too soon.
    #[error("the password is one of those that are tried first, or nearly; take something else, such as four words")]
    Common,
}

/// What can be said at once.
pub(crate) fn check_length(password: &str) -> Result<(), Weak> {
    if password.chars().count() < CHARS_MIN {
        return Err(Weak::Short);
    }
    if password.len() > PASSWORD_BYTES_MAX { Err(Weak::Long) } else { Ok(()) }
}

/// Whether a user may have this password. It takes up to some milliseconds.
pub(crate) fn check(password: &str, user: &Name) -> Result<(), Weak> {
    check_length(password)?;
    let core = letters(password);
    if !core.is_empty() && (core == letters(user.as_str()) || core == PRODUCT) {
        return Err(Weak::Name);
    }
    let guesses = zxcvbn::zxcvbn(password, &[user.as_str(), PRODUCT]).guesses();
    if guesses < GUESSES_MIN { Err(Weak::Common) } else { Ok(()) }
}

/// A text without what people put around a name to make it longer.
fn letters(text: &str) -> String {
    text.trim_matches(|char: char| !char.is_alphabetic()).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(password: &str) -> Result<(), Weak> {
        check(password, &Name::of_store("adalovelace"))
    }

    #[test]
    fn only_length_and_commonness_count() {
        for good in ["correct horse battery", "xkvmqpwz", "ein langer satz", "我們喜歡在雨中散步", "        x        y"]
        {
            assert_eq!(verdict(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn a_length_out_of_bounds_is_told() {
        assert_eq!(verdict("xkvmqpw"), Err(Weak::Short));
        assert_eq!(verdict("我們喜歡在雨中"), Err(Weak::Short));
        assert_eq!(verdict(&"kq".repeat(129)), Err(Weak::Long));
        assert_eq!(check_length(&"k".repeat(PASSWORD_BYTES_MAX)), Ok(()));
    }

    #[test]
    fn what_everybody_tries_first_is_refused() {
        for common in
            ["password", "Password1!", "12345678", "qwertyuiop", "iloveyou1", "aaaaaaaaaaaa", "P@ssw0rd", "abcdefgh"]
        {
            assert_eq!(verdict(common), Err(Weak::Common), "{common}");
        }
    }

    #[test]
    fn names_are_refused_whatever_is_around_them() {
        for name in ["adalovelace", "AdaLovelace99", "stillhere", "!!stillhere!!", "12stillhere34"] {
            assert_eq!(verdict(name), Err(Weak::Name), "{name}");
        }
        assert_eq!(verdict("ecalevolada"), Err(Weak::Common), "backwards");
        assert_eq!(check("1234567890987654321", &Name::of_store("7")), Err(Weak::Common), "a name without letters");
    }

    #[test]
    fn each_reason_is_a_sentence_that_says_what_to_do() {
        for reason in [Weak::Short, Weak::Long, Weak::Name, Weak::Common] {
            assert!(reason.to_string().contains("; take "), "{reason}");
        }
    }
}
