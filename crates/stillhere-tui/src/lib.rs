//! `stillhere chat`: the terminal client.
//!
//! [`model::App`] is the pure state of the screen, [`view`] draws it, [`run`] puts a terminal and a
//! [`stillhere_client::Client`] around them; [`Options::plain`] speaks lines instead, for pipes.

#![forbid(unsafe_code)]

pub mod editor;
pub mod model;
mod plain;
mod shell;
mod terminal;
pub mod text;
mod token;
pub mod view;

use std::path::PathBuf;

/// What the user asked for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The server, `HOST:PORT`.
    pub target: String,
    /// Who to be.
    pub user: Option<String>,
    /// Where a token is kept, so that the next run needs no password.
    pub token_file: Option<PathBuf>,
    /// Lines instead of a screen.
    pub plain: bool,
    /// Rooms to join; `lobby` if there is none.
    pub rooms: Vec<String>,
    /// Make an account instead of logging in; only asked for by `plain`, where nobody can press a key for it.
    pub register: bool,
    /// The password, if it was given by the environment.
    pub password: Option<String>,
    /// Whether to use colours.
    pub coloured: bool,
}

/// How a run ended, as an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The user ended it, and everything was said.
    Well = 0,
    /// The server was never reached.
    Unreached = 2,
    /// The server refused the login, or told this client to stay away.
    Refused = 3,
    /// Something that was typed couldn't be said.
    Unsaid = 4,
}

/// Runs it until the user ends it.
///
/// # Errors
/// When the arguments or the terminal make it impossible, in a sentence that says what to do instead.
pub fn run(options: &Options) -> anyhow::Result<Outcome> {
    if options.plain { plain::run(options) } else { shell::run(options) }
}
