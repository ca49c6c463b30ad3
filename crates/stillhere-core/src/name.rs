//! Names of users and rooms.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The canonical name of a user or a room: what differs only in case or width is the same name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Name(Arc<str>);

/// Why a text can't be a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to 32 letters or digits, and inside also _ - .")]
pub struct NameError;

impl Name {
    /// A user's name.
    pub fn user(text: &str) -> Result<Name, NameError> {
        if Name::is_canonical(text) { Ok(Name(text.into())) } else { Err(NameError) }
    }

    /// A room's name.
    pub fn room(text: &str) -> Result<Name, NameError> {
        Name::user(text)
    }

    /// A name that was checked before.
    pub fn of_store(text: &str) -> Name {
        Name(text.into())
    }

    /// Whether the text is a name as it stands.
    pub fn is_canonical(text: &str) -> bool {
        (1..=64).contains(&text.len()) && text.chars().all(|char| char.is_alphanumeric() || "_-.".contains(char))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Name {
    fn from(text: String) -> Name {
        Name(text.into())
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0.to_string()
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
