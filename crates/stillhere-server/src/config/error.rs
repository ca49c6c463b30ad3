//! What is wrong with a configuration, all of it at once.

use std::fmt;

use serde::Serialize;
use stillhere_core::text::{Escaped, clip};

/// One thing that the operator has to change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{}{message}", Place(place))]
pub struct ConfigError {
    /// Where it was written: `stillhere.toml:3`, a name in the environment or a flag; `None` when it is the whole
    /// that doesn't fit together.
    pub place: Option<String>,
    /// The setting it is about, such as `detector.interval`.
    pub key: Option<String>,
    /// What is wrong and what to do, in a sentence or two.
    pub message: String,
}

struct Place<'a>(&'a Option<String>);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(place) => write!(f, "{place}: "),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with a configuration; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    /// One error is one line; several are a heading and a line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [error] = &self.0[..] {
            return write!(f, "{error}");
        }
        write!(f, "{} things to change in the configuration:", self.0.len())?;
        for error in &self.0 {
            write!(f, "\n  {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// What somebody wrote, short and harmless enough for a message.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN_MAX: usize = 60;
    let shown = clip(text, SHOWN_MAX);
    let more = if shown.len() < text.len() { "…" } else { "" };
    format!("{}{more}", Escaped(shown))
}
