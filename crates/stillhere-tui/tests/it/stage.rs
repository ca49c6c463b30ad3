//! A screen to play on: a fake server that takes requests down, and a backend that keeps what is drawn.

use jiff::tz::TimeZone;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{Event as Input, KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, json};
use stillhere_client::{Continuity, Event, Message, Presence, Request, Ticket, Welcomed};
use stillhere_tui::model::{App, Server};
use stillhere_tui::view::{Palette, draw};

/// 14:05 on a day in 2026.
pub(crate) const NOW_MS: u64 = 1_795_356_300_000;

/// Takes requests down.
#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) asked: Vec<Value>,
    pub(crate) tickets: i64,
}

impl Server for Fake {
    fn ask(&mut self, request: &Request<'_>) -> Ticket {
        self.tickets += 1;
        self.asked.push(serde_json::to_value(request).unwrap());
        Ticket(self.tickets)
    }

    fn say(&mut self, room: &str, text: &str) -> Ticket {
        self.ask(&Request::Say { room, text, data: None, mid: None })
    }

    fn tell(&mut self, user: &str, text: &str) -> Ticket {
        self.ask(&Request::Tell { user, text, data: None, mid: None })
    }

    fn leave(&mut self) {
        self.asked.push(json!("leave"));
    }

    fn back(&mut self) {
        self.asked.push(json!("back"));
    }
}

pub(crate) struct Stage {
    pub(crate) app: App,
    pub(crate) server: Fake,
    terminal: Terminal<TestBackend>,
}

impl Stage {
    /// Before anybody is anybody.
    pub(crate) fn new(columns: u16, rows: u16) -> Stage {
        let mut app = App::new("127.0.0.1:14000", "", TimeZone::UTC);
        app.now_ms = NOW_MS;
        app.rooms = vec!["lobby".to_owned()];
        Stage { app, server: Fake::default(), terminal: Terminal::new(TestBackend::new(columns, rows)).unwrap() }
    }

    /// As ada in the lobby, with bob and eve, and nothing said yet.
    pub(crate) fn in_the_lobby(columns: u16, rows: u16) -> Stage {
        let mut stage = Stage::new(columns, rows);
        stage.welcome(Continuity::Fresh);
        stage.type_line("ada");
        stage.type_line("correct horse");
        stage.answer(json!({"user": "ada"}));
        let user = |user: &str, status: &str, cause: &str, ago: u64| json!({"user": user, "status": status, "cause": cause, "since_ms": NOW_MS - ago * 1000, "gen": 1, "ver": 1});
        stage.answer(json!({
            "room": "lobby", "head": 0, "members": 4, "alive": 2, "topic": "who is still here?",
            "users": [user("ada", "alive", "joined", 61), user("bob", "leave", "silent", 200),
                user("小明", "alive", "stable", 7300), user("eve", "leave", "declared", 90_000)],
        }));
        stage.answer(json!({"messages": [], "more": false}));
        stage.server.asked.clear();
        stage
    }

    pub(crate) fn welcome(&mut self, continuity: Continuity) {
        let second = std::time::Duration::from_secs(1);
        self.hear(Event::Welcomed(Box::new(Welcomed {
            session: "s".to_owned(),
            generation: 1,
            continuity,
            user: None,
            interval: second,
            detect: second,
            leave_hold: second,
            node: "n1".to_owned(),
        })));
    }

    pub(crate) fn hear(&mut self, event: Event) {
        self.app.hear(event, &mut self.server);
    }

    /// Answers the newest request.
    pub(crate) fn answer(&mut self, answer: Value) {
        let result = Ok(serde_json::from_value(answer).unwrap());
        self.hear(Event::Replied { ticket: Ticket(self.server.tickets), result });
    }

    pub(crate) fn message(&mut self, room: &str, seq: u64, from: &str, text: &str) {
        let message = json!({"room": room, "seq": seq, "from": from, "text": text, "time_ms": NOW_MS - 60_000 + seq});
        let message: Message = serde_json::from_value(message).unwrap();
        self.hear(Event::Message(Box::new(message)));
    }

    pub(crate) fn told(&mut self, from: &str, seq: u64, text: &str) {
        let message = json!({"to": "ada", "seq": seq, "from": from, "text": text, "time_ms": NOW_MS});
        self.hear(Event::Message(Box::new(serde_json::from_value(message).unwrap())));
    }

    pub(crate) fn presence(&mut self, presence: Value) {
        let presence: Presence = serde_json::from_value(presence).unwrap();
        self.hear(Event::Presence(Box::new(presence)));
    }

    pub(crate) fn key(&mut self, code: KeyCode) {
        self.key_with(code, KeyModifiers::NONE);
    }

    pub(crate) fn key_with(&mut self, code: KeyCode, modifiers: KeyModifiers) {
        self.app.input(&Input::Key(KeyEvent::new(code, modifiers)), &mut self.server);
    }

    pub(crate) fn type_text(&mut self, text: &str) {
        text.chars().for_each(|char| self.key(KeyCode::Char(char)));
    }

    pub(crate) fn type_line(&mut self, text: &str) {
        self.type_text(text);
        self.key(KeyCode::Enter);
    }

    /// Draws, and gives back what is seen, without blanks at the ends of lines.
    pub(crate) fn screen(&mut self) -> String {
        let (app, terminal) = (&mut self.app, &mut self.terminal);
        terminal.draw(|frame| app.areas = draw(frame, app, Palette { coloured: true })).unwrap();
        let buffer = terminal.backend().buffer();
        let mut screen = String::new();
        for y in 0..buffer.area.height {
            let mut row = String::new();
            let mut skip = 0;
            for x in 0..buffer.area.width {
                if skip > 0 {
                    skip -= 1;
                    continue;
                }
                let symbol = buffer[(x, y)].symbol();
                skip = unicode_width::UnicodeWidthStr::width(symbol).saturating_sub(1);
                row.push_str(symbol);
            }
            screen.push_str(row.trim_end());
            screen.push('\n');
        }
        screen
    }
}
