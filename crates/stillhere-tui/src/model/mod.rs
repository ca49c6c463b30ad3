//! What the screen is about, as a pure state: events, keys and the time go in, a [`Server`] is asked for things, and
//! [`crate::view`] draws it. It opens no socket, reads no clock and writes to no terminal.

mod act;
pub mod command;
mod entry;
mod hear;
mod keys;
pub mod tab;

use std::collections::HashMap;
use std::time::Duration;

use jiff::tz::TimeZone;
use stillhere_client::{Client, Request, Ticket};

pub use self::entry::{Entry, Field};
use self::tab::{Kind, Line, Said, Tab};
use crate::editor::Editor;
use crate::text::harmless;

/// Tabs at once; one more closes the conversation without news that was opened first.
pub const TABS_MAX: usize = 100;
/// How long a passing word stays in the status line.
const NOTE_MS: u64 = 10_000;
/// How often the server is told how far one has read.
const READ_EVERY_MS: u64 = 2000;
/// Messages that are asked for at once.
pub const PAGE: u64 = 50;

/// Whom the screen asks. [`Client`] is one; tests have another.
pub trait Server {
    /// Asks for something; the answer is an event with this ticket.
    fn ask(&mut self, request: &Request<'_>) -> Ticket;
    /// Says something in a room.
    fn say(&mut self, room: &str, text: &str) -> Ticket;
    /// Says something to a user.
    fn tell(&mut self, user: &str, text: &str) -> Ticket;
    /// Declares leave.
    fn leave(&mut self);
    /// Declares alive.
    fn back(&mut self);
}

impl Server for Client {
    fn ask(&mut self, request: &Request<'_>) -> Ticket {
        Client::ask(self, request)
    }

    fn say(&mut self, room: &str, text: &str) -> Ticket {
        Client::say(self, room, text)
    }

    fn tell(&mut self, user: &str, text: &str) -> Ticket {
        Client::tell(self, user, text)
    }

    fn leave(&mut self) {
        Client::leave(self);
    }

    fn back(&mut self) {
        Client::back(self);
    }
}

/// How the link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Never welcomed yet.
    Connecting,
    /// Welcomed.
    Live,
    /// Lost, and when the next one is tried, in milliseconds since 1970.
    Down {
        /// Why.
        why: String,
        /// When it is tried again.
        retry_at_ms: u64,
    },
}

/// Why an answer is awaited.
#[derive(Clone, Debug)]
enum Purpose {
    Enter {
        name: String,
    },
    Join,
    Part {
        room: String,
    },
    Say {
        kind: Kind,
        name: String,
    },
    Older {
        kind: Kind,
        name: String,
    },
    Found {
        tab: Kind,
        query: String,
    },
    Around {
        kind: Kind,
        name: String,
        seq: u64,
    },
    Who,
    Act(&'static str),
    /// Nobody needs to know.
    Quiet,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The user wanted it.
    Quit,
    /// The server doesn't want this client back, and why.
    Told(String),
}

/// Where things were drawn, for the mouse and for scrolling.
#[derive(Clone, Debug, Default)]
pub struct Areas {
    /// Columns of the messages' pane.
    pub columns: usize,
    /// Its rows.
    pub rows: usize,
    /// The row and columns (from, to) of each tab's title.
    pub tabs: Vec<(u16, u16, u16, usize)>,
}

/// Everything.
#[derive(Debug)]
pub struct App {
    /// The server's address, as the user wrote it.
    pub target: String,
    /// Milliseconds since 1970, as the shell said last.
    pub now_ms: u64,
    /// Where the clock on the wall hangs.
    pub zone: TimeZone,
    /// The screen before one is somebody; `None` after.
    pub entry: Option<Entry>,
    /// Who one is.
    pub me: Option<String>,
    /// Rooms to join once one is somebody.
    pub rooms: Vec<String>,
    /// The token to log in with.
    pub token: Option<String>,
    /// Whether to ask for a token at login.
    pub remember: bool,
    /// A new token to be kept; the shell takes it.
    pub new_token: Option<String>,
    /// A name to say hello with, where names are claims; the shell takes it and connects anew.
    pub claim: Option<String>,
    /// From left to right; the first is this client's own.
    pub tabs: Vec<Tab>,
    /// Which one is seen.
    pub active: usize,
    /// The line one types on.
    pub input: Editor,
    /// How the link is.
    pub link: Link,
    /// Whether a link was ever welcomed.
    pub was_live: bool,
    /// The server's name.
    pub node: String,
    /// The last beat's round trip.
    pub rtt: Option<Duration>,
    /// Whether one is on leave by one's own word.
    pub is_away: bool,
    /// A passing word for the status line, and until when.
    pub note: Option<(String, u64)>,
    /// Messages fetched since the last new session.
    fetched: u64,
    /// How it ended.
    pub end: Option<End>,
    /// Where things are, as the view said last.
    pub areas: Areas,
    asked: HashMap<Ticket, Purpose>,
    read_at_ms: u64,
    /// Completions of the word that was begun, and which one stands there.
    completing: Option<(Vec<String>, usize)>,
}

impl App {
    /// A client that isn't anybody yet.
    pub fn new(target: &str, name: &str, zone: TimeZone) -> App {
        App {
            target: target.to_owned(),
            now_ms: 0,
            zone,
            entry: Some(Entry::new(name)),
            me: None,
            rooms: Vec::new(),
            token: None,
            remember: false,
            new_token: None,
            claim: None,
            tabs: vec![Tab::new(Kind::Home, "stillhere")],
            active: 0,
            input: Editor::default(),
            link: Link::Connecting,
            was_live: false,
            node: String::new(),
            rtt: None,
            is_away: false,
            note: None,
            fetched: 0,
            end: None,
            areas: Areas::default(),
            asked: HashMap::new(),
            read_at_ms: 0,
            completing: None,
        }
    }

    /// Time passed.
    pub fn tick(&mut self, now_ms: u64, server: &mut impl Server) {
        self.now_ms = now_ms;
        if self.note.as_ref().is_some_and(|(_, until)| *until <= now_ms) {
            self.note = None;
        }
        if now_ms.saturating_sub(self.read_at_ms) >= READ_EVERY_MS && self.link == Link::Live && self.me.is_some() {
            self.read_at_ms = now_ms;
            self.tell_read(server);
        }
    }

    fn tell_read(&mut self, server: &mut impl Server) {
        let tab = &mut self.tabs[self.active];
        if !tab.is_following() || tab.head <= tab.read {
            return;
        }
        tab.read = tab.head;
        let Some((room, user)) = tab.place().map(stillhere_client::Place::parts) else { return };
        let ticket = server.ask(&Request::Read { room, user, seq: tab.head });
        self.asked.insert(ticket, Purpose::Quiet);
    }

    /// The tab that is seen.
    pub fn tab(&mut self) -> &mut Tab {
        &mut self.tabs[self.active]
    }

    /// Shows another tab.
    pub fn show(&mut self, index: usize) {
        self.active = index.min(self.tabs.len() - 1);
        self.tab().unread = 0;
        self.completing = None;
    }

    fn index_of(&self, kind: &Kind, name: &str) -> Option<usize> {
        self.tabs.iter().position(|tab| tab.kind == *kind && tab.name == name)
    }

    fn tab_of(&mut self, kind: &Kind, name: &str) -> Option<&mut Tab> {
        self.index_of(kind, name).map(|index| &mut self.tabs[index])
    }

    /// The tab of that kind and name, which is made if there is none; and whether it was made.
    fn open(&mut self, kind: Kind, name: &str) -> (usize, bool) {
        if let Some(index) = self.index_of(&kind, name) {
            return (index, false);
        }
        if self.tabs.len() >= TABS_MAX {
            let closable = |(index, tab): (usize, &Tab)| {
                (matches!(tab.kind, Kind::User | Kind::Found(_)) && tab.unread == 0 && index != self.active)
                    .then_some(index)
            };
            // With a hundred rooms the last tab has to go; it can be joined again.
            let close = self.tabs.iter().enumerate().find_map(closable).unwrap_or(self.tabs.len() - 1);
            self.close(close);
        }
        self.tabs.push(Tab::new(kind, name));
        (self.tabs.len() - 1, true)
    }

    fn close(&mut self, index: usize) {
        if index == 0 || index >= self.tabs.len() {
            return;
        }
        self.tabs.remove(index);
        let active = if self.active >= index { self.active.saturating_sub(1) } else { self.active };
        self.show(active);
    }

    /// A word of this client's own in the tab that is seen.
    fn tell_user(&mut self, said: Said, text: &str) {
        let line = Line { time_ms: self.now_ms, said, text: harmless(text) };
        self.tab().add(line);
    }

    fn info(&mut self, text: &str) {
        self.tell_user(Said::Info, text);
    }

    fn trouble(&mut self, text: &str) {
        self.tell_user(Said::Trouble, text);
    }

    fn note(&mut self, text: impl Into<String>) {
        self.note = Some((text.into(), self.now_ms + NOTE_MS));
    }

    fn await_answer(&mut self, ticket: Ticket, purpose: Purpose) {
        self.asked.insert(ticket, purpose);
    }
}
