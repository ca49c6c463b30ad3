//! The terminal: taken over at the beginning, and given back on every way out.

use std::io::{self, Stdout, Write};
use std::sync::Once;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{
    DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture, Event, KeyCode, KeyEventKind,
    KeyModifiers, read,
};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use stillhere_core::limits::PASSWORD_BYTES_MAX;

/// The terminal while it is ours. Dropping it gives it back; so does a panic, before it prints its message.
pub(crate) struct Screen(pub(crate) Terminal<CrosstermBackend<Stdout>>);

impl Screen {
    /// Takes the terminal over.
    pub(crate) fn open() -> io::Result<Screen> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                give_back();
                before(panic);
            }));
        });
        enable_raw_mode()?;
        let entered = execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste, EnableMouseCapture);
        match entered.and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout()))) {
            Ok(terminal) => Ok(Screen(terminal)),
            Err(error) => {
                give_back();
                Err(error)
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Nothing is left to do when even this fails.
fn give_back() {
    let mut stdout = io::stdout();
    let _ = execute!(
        stdout,
        DisableMouseCapture,
        DisableBracketedPaste,
        LeaveAlternateScreen,
        ratatui::crossterm::cursor::Show
    );
    let _ = disable_raw_mode();
    let _ = stdout.flush();
}

/// Reads a line that isn't shown. Ctrl-C ends it with an error.
pub(crate) fn read_secret() -> io::Result<String> {
    enable_raw_mode()?;
    let secret = read_hidden();
    disable_raw_mode()?;
    secret
}

fn read_hidden() -> io::Result<String> {
    let mut secret = String::new();
    loop {
        let Event::Key(key) = read()? else { continue };
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            _ if key.kind == KeyEventKind::Release => {}
            KeyCode::Enter => return Ok(secret),
            KeyCode::Char('c' | 'd') if is_control => return Err(io::ErrorKind::Interrupted.into()),
            KeyCode::Backspace => drop(secret.pop()),
            KeyCode::Char(char) if secret.len() < PASSWORD_BYTES_MAX => secret.push(char),
            _ => {}
        }
    }
}
