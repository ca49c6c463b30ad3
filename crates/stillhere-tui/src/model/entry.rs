//! The screen before one is somebody: logging in, or making an account.

use stillhere_client::{Failed, Request};

use super::{App, Link, Purpose, Server};
use crate::editor::Editor;

/// `no_accounts`: names are claims on that server.
const NO_ACCOUNTS: u16 = 1101;
const BAD_CREDENTIALS: u16 = 1105;
const NAME_TAKEN: u16 = 1106;
/// The shortest password that a server takes.
const PASSWORD_CHARS_MIN: usize = 8;

/// What is typed into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The name.
    Name,
    /// The password.
    Password,
}

/// The screen's state.
#[derive(Debug)]
pub struct Entry {
    /// Who one wants to be.
    pub name: Editor,
    /// Never drawn.
    pub password: Editor,
    /// What is typed into.
    pub field: Field,
    /// Whether an account is to be made.
    pub is_new: bool,
    /// Whether the server is being asked.
    pub is_asking: bool,
    /// What the last attempt led to.
    pub trouble: Option<String>,
}

impl Entry {
    pub(super) fn new(name: &str) -> Entry {
        let mut editor = Editor::default();
        editor.insert(name);
        let field = if name.is_empty() { Field::Name } else { Field::Password };
        Entry { name: editor, password: Editor::default(), field, is_new: false, is_asking: false, trouble: None }
    }

    /// The line that is typed on.
    pub fn line(&mut self) -> &mut Editor {
        match self.field {
            Field::Name => &mut self.name,
            Field::Password => &mut self.password,
        }
    }
}

impl App {
    /// Enter was pressed.
    pub(super) fn submit_entry(&mut self, server: &mut impl Server) {
        let (is_live, remember) = (self.link == Link::Live, self.remember);
        let Some(entry) = &mut self.entry else { return };
        let name = entry.name.text().trim().to_owned();
        entry.trouble = None;
        if name.is_empty() {
            entry.field = Field::Name;
            return;
        }
        if entry.field == Field::Name && entry.password.text().is_empty() {
            entry.field = Field::Password;
            return;
        }
        let chars = entry.password.text().chars().count();
        if entry.is_new && chars < PASSWORD_CHARS_MIN {
            entry.trouble =
                Some(format!("a password needs at least {PASSWORD_CHARS_MIN} characters; this one has {chars}"));
            return;
        }
        if entry.is_asking || entry.password.text().is_empty() {
            return;
        }
        if !is_live {
            entry.trouble = Some("there is no connection yet; press Enter again once there is".to_owned());
            return;
        }
        entry.is_asking = true;
        let (user, password, is_new) = (&*name, entry.password.text(), entry.is_new);
        let ticket = server.ask(&match is_new {
            true => Request::Register { user, password, remember },
            false => Request::Login { user, password, remember },
        });
        self.await_answer(ticket, Purpose::Enter { name });
    }

    /// The link is good: whoever has a token need not type.
    pub(super) fn enter_by_token(&mut self, server: &mut impl Server) {
        let Some(token) = self.token.take() else { return };
        let ticket = server.ask(&Request::Token { token: &token });
        if let Some(entry) = &mut self.entry {
            entry.is_asking = true;
        }
        self.await_answer(ticket, Purpose::Enter { name: String::new() });
    }

    pub(super) fn not_entered(&mut self, name: &str, why: &Failed) {
        let Some(entry) = &mut self.entry else { return };
        entry.is_asking = false;
        let code = match why {
            Failed::Refused(refused) => refused.code,
            _ => 0,
        };
        entry.trouble = Some(match code {
            NO_ACCOUNTS => {
                // A new client begins, whose tickets begin anew.
                self.asked.clear();
                self.claim = Some(name.to_owned());
                return;
            }
            BAD_CREDENTIALS if name.is_empty() => {
                "the kept token isn't valid any more; log in with the password".into()
            }
            BAD_CREDENTIALS => {
                entry.password.take_secret();
                "wrong name or password; F2 makes a new account instead".into()
            }
            NAME_TAKEN => {
                entry.is_new = false;
                "there is a user of this name already; log in, or choose another name".into()
            }
            _ => why.to_string(),
        });
    }

    /// One is somebody now.
    pub(super) fn entered(&mut self, user: &str, server: &mut impl Server) {
        let is_first = self.me.as_deref() != Some(user);
        self.me = Some(user.to_owned());
        self.entry = None;
        if !is_first {
            return;
        }
        self.info(&format!("you are {user}; type /help to see what can be typed here"));
        let rooms = std::mem::take(&mut self.rooms);
        for room in &rooms {
            self.ask_join(room, server);
        }
    }

    pub(super) fn ask_join(&mut self, room: &str, server: &mut impl Server) {
        let ticket = server.ask(&Request::Join { room, after: None, at: None });
        self.await_answer(ticket, Purpose::Join);
    }
}
