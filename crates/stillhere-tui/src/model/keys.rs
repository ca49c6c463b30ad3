//! What keys, pastes and the mouse do.

use ratatui::crossterm::event::{
    Event as Input, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};

use super::command::Command;
use super::tab::Kind;
use super::{App, End, Field, Server};

/// Rows that the wheel scrolls.
const WHEEL_ROWS: usize = 3;

impl App {
    /// Somebody typed, pasted or clicked. Tells whether the screen has to be drawn anew.
    pub fn input(&mut self, input: &Input, server: &mut impl Server) -> bool {
        match input {
            Input::Key(key) if key.kind != KeyEventKind::Release => self.key(*key, server),
            Input::Paste(text) => match &mut self.entry {
                Some(entry) => entry.line().insert(&text.replace(['\n', '\r'], "")),
                None => self.input.insert(text),
            },
            Input::Mouse(mouse) => return self.mouse(*mouse, server),
            Input::Resize(..) => {}
            _ => return false,
        }
        true
    }

    fn key(&mut self, key: KeyEvent, server: &mut impl Server) {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        if is_control && matches!(key.code, KeyCode::Char('c' | 'd')) {
            self.end = Some(End::Quit);
        } else if self.entry.is_some() {
            self.entry_key(key, is_control, server);
        } else {
            self.talk_key(key, is_control, server);
        }
    }

    fn entry_key(&mut self, key: KeyEvent, is_control: bool, server: &mut impl Server) {
        let Some(entry) = &mut self.entry else { return };
        match key.code {
            KeyCode::Enter => self.submit_entry(server),
            KeyCode::Esc => self.end = Some(End::Quit),
            KeyCode::F(2) => entry.is_new = !entry.is_new,
            KeyCode::Char('r') if is_control => entry.is_new = !entry.is_new,
            KeyCode::Tab | KeyCode::BackTab | KeyCode::Up | KeyCode::Down => {
                entry.field = match entry.field {
                    Field::Name => Field::Password,
                    Field::Password => Field::Name,
                };
            }
            _ => edit(entry.line(), key, is_control),
        }
    }

    fn talk_key(&mut self, key: KeyEvent, is_control: bool, server: &mut impl Server) {
        let is_alt = key.modifiers.contains(KeyModifiers::ALT);
        if key.code != KeyCode::Tab {
            self.completing = None;
        }
        match key.code {
            KeyCode::Enter if is_alt => self.input.insert("\n"),
            KeyCode::Enter => self.submit(server),
            KeyCode::Tab if self.input.text().is_empty() => self.turn(1),
            KeyCode::Tab => self.complete(),
            KeyCode::BackTab => self.turn(-1),
            KeyCode::Char('n') if is_control => self.turn(1),
            KeyCode::Char('p') if is_control => self.turn(-1),
            KeyCode::Char(digit @ '1'..='9') if is_alt => self.show(digit as usize - '1' as usize),
            KeyCode::PageUp => self.scroll_up(self.areas.rows.saturating_sub(1).max(1), server),
            KeyCode::PageDown => self.scroll_down(self.areas.rows.saturating_sub(1).max(1)),
            KeyCode::End if self.input.text().is_empty() => {
                self.tab().follow();
                self.tab().unread = 0;
            }
            KeyCode::Esc => self.escape(),
            KeyCode::Up if matches!(self.tab().kind, Kind::Found(_)) => {
                let tab = self.tab();
                tab.chosen = tab.chosen.saturating_sub(1);
            }
            KeyCode::Down if matches!(self.tab().kind, Kind::Found(_)) => {
                let tab = self.tab();
                tab.chosen = (tab.chosen + 1).min(tab.lines.len().saturating_sub(1));
            }
            KeyCode::Up => self.input.recall_older(),
            KeyCode::Down => self.input.recall_newer(),
            _ => edit(&mut self.input, key, is_control),
        }
    }

    fn escape(&mut self) {
        if let Kind::Found(place) = &self.tab().kind {
            let (kind, name) = (**place).clone();
            self.close(self.active);
            let back = self.index_of(&kind, &name).unwrap_or(0);
            self.show(back);
        } else {
            self.tab().follow();
        }
    }

    fn turn(&mut self, step: isize) {
        let count = self.tabs.len() as isize;
        let next = (self.active as isize + step).rem_euclid(count);
        self.show(next as usize);
    }

    fn scroll_up(&mut self, rows: usize, server: &mut impl Server) {
        let (columns, height) = (self.areas.columns, self.areas.rows);
        if self.tab().scroll_up(rows, columns, height) {
            self.ask_older(self.active, server);
        }
    }

    fn scroll_down(&mut self, rows: usize) {
        let columns = self.areas.columns;
        let tab = self.tab();
        tab.scroll_down(rows, columns);
        if tab.is_following() {
            tab.unread = 0;
        }
    }

    fn mouse(&mut self, mouse: MouseEvent, server: &mut impl Server) -> bool {
        if self.entry.is_some() {
            return false;
        }
        match mouse.kind {
            MouseEventKind::ScrollUp => self.scroll_up(WHEEL_ROWS, server),
            MouseEventKind::ScrollDown => self.scroll_down(WHEEL_ROWS),
            MouseEventKind::Down(MouseButton::Left) => {
                let at = |&&(row, from, to, _): &&(u16, u16, u16, usize)| {
                    row == mouse.row && (from..to).contains(&mouse.column)
                };
                let Some(&(.., tab)) = self.areas.tabs.iter().find(at) else { return false };
                self.show(tab);
            }
            _ => return false,
        }
        true
    }

    /// Completes a command or a name; again for the next one that fits.
    fn complete(&mut self) {
        if let Some((words, nth)) = &mut self.completing {
            *nth = (*nth + 1) % words.len();
            let word = words[*nth].clone();
            let typed = self.input.text().trim_end().to_owned();
            self.input.set(&typed);
            return self.input.replace_word(&word);
        }
        let begun = self.input.word().to_owned();
        let words: Vec<String> = if let (Some(name), true) = (begun.strip_prefix('/'), begun == self.input.text()) {
            Command::matching(name).map(|command| format!("/{} ", command.row().name)).collect()
        } else {
            let name = begun.trim_start_matches('@').to_lowercase();
            let names = self.tabs[self.active].roster.keys().chain(self.tabs.iter().map(|tab| &tab.name));
            let mut names: Vec<&String> =
                names.filter(|it| !name.is_empty() && it.to_lowercase().starts_with(&name)).collect();
            names.sort();
            names.dedup();
            names.into_iter().map(|name| format!("{name} ")).collect()
        };
        if let Some(word) = words.first() {
            self.input.replace_word(word);
            self.completing = Some((words, 0));
        }
    }
}

/// What keys do to a line, as shells do it.
fn edit(line: &mut crate::editor::Editor, key: KeyEvent, is_control: bool) {
    match key.code {
        KeyCode::Char('a') if is_control => line.home(),
        KeyCode::Char('e') if is_control => line.end(),
        KeyCode::Char('u') if is_control => line.delete_line(),
        KeyCode::Char('w') if is_control => line.delete_word(),
        KeyCode::Char('b') if is_control => line.left(),
        KeyCode::Char('f') if is_control => line.right(),
        KeyCode::Char(char) if !is_control => line.insert(char.encode_utf8(&mut [0; 4])),
        KeyCode::Left => line.left(),
        KeyCode::Right => line.right(),
        KeyCode::Home => line.home(),
        KeyCode::End => line.end(),
        KeyCode::Backspace => line.backspace(),
        KeyCode::Delete => line.delete(),
        _ => {}
    }
}
