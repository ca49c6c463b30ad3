//! `stillhere chat`: talk with others, on a screen or (`--plain`) in lines. All of it is in `stillhere-tui`.

use std::path::PathBuf;
use std::process::ExitCode;

use stillhere_tui::Options;

use crate::output;

/// The password for `--plain`, where nobody may sit there to type it.
const PASSWORD: &str = "STILLHERE_PASSWORD";

/// Talk with others: log in or register, rooms, direct messages, who is here.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  stillhere chat\n  stillhere chat chat.example.org:14000 --user ada --token-file ~/.stillhere-token\n  \
                  echo 'build is green' | STILLHERE_PASSWORD=… stillhere chat --plain --user bot --room builds\n\n\
                  Exit codes: 0 all was said, 1 bad arguments, 2 the server was never reached, 3 the login was refused \
                  or the server ended it, 4 something couldn't be said."
)]
pub(crate) struct Args {
    /// Where the gateway listens
    #[arg(value_name = "HOST:PORT", default_value = "127.0.0.1:14000")]
    target: String,
    /// Who to be
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Keep a token here (only its owner may read it), so that the next run needs no password
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A room to join; may be repeated; the lobby if left out
    #[arg(long = "room", value_name = "ROOM")]
    rooms: Vec<String>,
    /// Lines instead of a screen, for pipes; the password is taken from STILLHERE_PASSWORD
    #[arg(long)]
    plain: bool,
    /// With --plain: make the account
    #[arg(long, requires = "plain")]
    register: bool,
}

/// Talks until the user ends it.
///
/// # Errors
/// When the arguments or the terminal make it impossible, in a sentence that says what to do instead.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { target, user, token_file, rooms, plain, register } = args;
    let (password, coloured) = (std::env::var(PASSWORD).ok(), output::coloured());
    let options = Options { target, user, token_file, plain, rooms, register, password, coloured };
    Ok(ExitCode::from(stillhere_tui::run(&options)? as u8))
}
