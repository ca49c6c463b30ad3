//! Settings that are one word of a list.

use stillhere_core::profile::PROFILES;

use super::value::{Codec, Kind, Problem};

/// The name of a profile.
pub(super) struct ProfileName;

impl Codec<&'static str> for ProfileName {
    const KIND: Kind = Kind::Word;

    fn parse(text: &str) -> Result<&'static str, Problem> {
        let names = PROFILES.iter().map(|profile| profile.name);
        one_of(text, names.map(|name| (name, name)))
    }

    fn show(value: &&'static str) -> Option<String> {
        Some((*value).to_owned())
    }
}

/// One word of an enum's list.
pub(super) struct Choice;

/// An enum whose variants are written as words.
pub(super) trait Word: Copy + PartialEq + 'static {
    const WORDS: &'static [(&'static str, Self)];
}

impl<T: Word> Codec<T> for Choice {
    const KIND: Kind = Kind::Word;

    fn parse(text: &str) -> Result<T, Problem> {
        one_of(text, T::WORDS.iter().copied())
    }

    fn show(value: &T) -> Option<String> {
        T::WORDS.iter().find(|(_, word)| word == value).map(|(name, _)| (*name).to_owned())
    }
}

fn one_of<T>(text: &str, words: impl Iterator<Item = (&'static str, T)> + Clone) -> Result<T, Problem> {
    if let Some((_, value)) = words.clone().find(|(name, _)| *name == text) {
        return Ok(value);
    }
    let names: Vec<&str> = words.map(|(name, _)| name).collect();
    let nearest = nearest(text, names.iter().copied()).unwrap_or_default();
    Err(Problem::form(format!("did you mean \"{nearest}\"? It may be {}", names.join(", "))))
}

/// The name with the fewest typing mistakes from `text`.
pub(super) fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names.min_by_key(|name| strsim::damerau_levenshtein(text, name))
}

macro_rules! words {
    ($(#[$doc:meta])* $Name:ident { $($(#[$variant_doc:meta])* $Variant:ident $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $Name { $($(#[$variant_doc])* $Variant,)* }

        impl Word for $Name {
            const WORDS: &'static [(&'static str, $Name)] = &[$(($word, $Name::$Variant),)*];
        }
    };
}

words! {
    /// How log lines look.
    Format {
        /// Text on a terminal, JSON otherwise.
        Auto "auto",
        /// Lines for people.
        Text "text",
        /// One JSON object a line.
        Json "json",
    }
}

words! {
    /// The least severe lines that are logged.
    Level {
        /// What is broken and needs someone.
        Error "error",
        /// What may need someone.
        Warn "warn",
        /// What an operator wants to know of a healthy process.
        Info "info",
        /// What one link or session does.
        Debug "debug",
        /// Everything.
        Trace "trace",
    }
}

words! {
    /// When a new log file begins.
    Rotate {
        /// At midnight, UTC.
        Daily "daily",
        /// At every full hour.
        Hourly "hourly",
        /// Never; someone else rotates.
        Never "never",
    }
}

words! {
    /// What a user's name is.
    AuthMode {
        /// Proven by a password or a token.
        Accounts "accounts",
        /// A claim, marked unverified.
        Open "open",
    }
}

words! {
    /// Who makes rooms.
    RoomsBy {
        /// Whoever joins one that isn't there.
        Users "users",
        /// Operators alone.
        Operators "operators",
    }
}

words! {
    /// How many sessions a user may have.
    SessionsPolicy {
        /// As many as it likes.
        Multi "multi",
        /// One; a newer one ends the older.
        Single "single",
    }
}

words! {
    /// Whether users may write to those they share nothing with.
    Strangers {
        /// They may.
        Allow "allow",
        /// They may not.
        Refuse "refuse",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_word_gets_the_nearest() {
        assert_eq!(Choice::parse("json"), Ok(Format::Json));
        let told = "did you mean \"warn\"? It may be error, warn, info, debug, trace";
        assert_eq!(<Choice as Codec<Level>>::parse("wran"), Err(Problem::form(told)));
        let told = "did you mean \"mobile\"? It may be seed, seed-demo, deadline, game, mobile";
        assert_eq!(ProfileName::parse("mobil"), Err(Problem::form(told)));
    }
}
