//! One tab: a room, a conversation, or what a search found.

use std::collections::{BTreeMap, VecDeque};

use stillhere_client::{Message, Place, Presence, Status, Ticket};

use crate::text::{NAME_BYTES_MAX, harmless, harmless_line, rows};

/// Lines that a tab keeps while it follows what is said; older ones are fetched again by scrolling up.
pub const LINES_MAX: usize = 5000;
/// Lines that it keeps while one reads what was before.
pub const LINES_READING_MAX: usize = 2 * LINES_MAX;
/// Bytes of text that a tab keeps, by the same rule.
pub const TAB_BYTES_MAX: usize = 8 << 20;
/// Users that are shown in a roster; a larger room shows numbers.
pub const ROSTER_MAX: usize = 500;

/// What a tab shows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// What this client has to say.
    Home,
    /// A room.
    Room,
    /// A conversation with a user.
    User,
    /// What a search found, and where.
    Found(Box<(Kind, String)>),
}

/// What kind of line it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A message.
    Message {
        /// Who said it, made harmless.
        from: Box<str>,
        /// Its position; 0 while the server hasn't acknowledged it.
        seq: u64,
        /// An own one under way.
        under_way: Option<Ticket>,
        /// Whether it couldn't be said.
        failed: bool,
    },
    /// This client's own words.
    Info,
    /// The same about something that went wrong.
    Trouble,
}

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// What it is.
    pub said: Said,
    /// Made harmless.
    pub text: Box<str>,
}

impl Line {
    /// A message as it came.
    pub fn message(message: &Message) -> Line {
        let text = if message.deleted { "(deleted)".into() } else { harmless(&message.text) };
        let from = harmless_line(&message.from, NAME_BYTES_MAX).into();
        let said = Said::Message { from, seq: message.seq, under_way: None, failed: false };
        Line { time_ms: message.time_ms, said, text }
    }

    fn seq(&self) -> Option<u64> {
        match self.said {
            Said::Message { seq, .. } if seq > 0 => Some(seq),
            _ => None,
        }
    }

    fn is_under_way(&self) -> bool {
        matches!(self.said, Said::Message { seq: 0, failed: false, .. })
    }
}

/// How far one has scrolled up: lines below the last one that is seen, and rows of that line that are hidden.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scroll {
    /// Lines hidden below.
    pub lines: usize,
    /// Rows of the next line that are hidden.
    pub rows: usize,
}

/// One tab.
#[derive(Debug)]
pub struct Tab {
    /// What it shows.
    pub kind: Kind,
    /// The room or user, as the server spells it.
    pub name: String,
    /// Oldest first.
    pub lines: VecDeque<Line>,
    bytes: usize,
    /// Messages since it was last looked at.
    pub unread: u64,
    /// What a digest announced and isn't here yet.
    pub waiting: u64,
    /// How far it is scrolled up.
    pub scroll: Scroll,
    /// Who is here.
    pub roster: BTreeMap<String, Presence>,
    /// Members and how many of them are alive, in a room too large for a roster.
    pub counts: Option<(u64, u64)>,
    /// What the room is about.
    pub topic: String,
    /// Whether there may be older messages than the first.
    pub has_older: bool,
    /// Whether older ones were asked for.
    pub is_loading: bool,
    /// The highest seq here.
    pub head: u64,
    /// The last seq that the server was told to be read.
    pub read: u64,
    /// The chosen line of a search.
    pub chosen: usize,
}

impl Tab {
    /// An empty tab.
    pub fn new(kind: Kind, name: &str) -> Tab {
        let has_older = matches!(kind, Kind::Room | Kind::User);
        Tab {
            kind,
            name: name.to_owned(),
            lines: VecDeque::new(),
            bytes: 0,
            unread: 0,
            waiting: 0,
            scroll: Scroll::default(),
            roster: BTreeMap::new(),
            counts: None,
            topic: String::new(),
            has_older,
            is_loading: false,
            head: 0,
            read: 0,
            chosen: 0,
        }
    }

    /// Where its requests go; `None` for what is no place.
    pub fn place(&self) -> Option<Place<'_>> {
        match self.kind {
            Kind::Room => Some(Place::Room(&self.name)),
            Kind::User => Some(Place::User(&self.name)),
            Kind::Home | Kind::Found(_) => None,
        }
    }

    /// Its name as tabs show it.
    pub fn title(&self) -> String {
        let name = harmless_line(&self.name, NAME_BYTES_MAX);
        match self.kind {
            Kind::Home | Kind::Room => name,
            Kind::User => format!("@{name}"),
            Kind::Found(_) => format!("?{name}"),
        }
    }

    /// Whether it shows the newest.
    pub fn is_following(&self) -> bool {
        self.scroll == Scroll::default()
    }

    /// Adds a line at the end, or a message where its seq belongs. Tells whether it wasn't there before.
    pub fn add(&mut self, line: Line) -> bool {
        let at = match line.seq() {
            None => self.lines.len(),
            Some(seq) if seq > self.head => self.lines.len() - self.trailing_under_way(),
            Some(seq) => {
                let before = self.lines.iter().rposition(|line| line.seq().is_some_and(|it| it <= seq));
                if before.is_some_and(|at| self.lines[at].seq() == Some(seq)) {
                    return false;
                }
                before.map_or(0, |at| at + 1)
            }
        };
        self.head = self.head.max(line.seq().unwrap_or(0));
        self.bytes += line.text.len();
        if !self.is_following() && at + self.scroll.lines >= self.lines.len() {
            self.scroll.lines += 1;
        }
        self.lines.insert(at, line);
        self.trim();
        true
    }

    fn trailing_under_way(&self) -> usize {
        self.lines.iter().rev().take_while(|line| line.is_under_way()).count()
    }

    fn trim(&mut self) {
        let lines_max = if self.is_following() { LINES_MAX } else { LINES_READING_MAX };
        while self.lines.len() > lines_max || (self.bytes > TAB_BYTES_MAX && self.lines.len() > 1) {
            let Some(line) = self.lines.pop_front() else { break };
            self.bytes -= line.text.len();
            self.has_older |= line.seq().is_some();
            self.scroll.lines = self.scroll.lines.min(self.lines.len().saturating_sub(1));
        }
    }

    /// The server's say on an own message: it stands here, or it couldn't be said.
    pub fn settle(&mut self, ticket: Ticket, outcome: Option<(u64, u64)>) {
        let is_it = |line: &Line| matches!(line.said, Said::Message { under_way: Some(it), .. } if it == ticket);
        let Some(at) = self.lines.iter().rposition(is_it) else { return };
        let Some(mut line) = self.lines.remove(at) else { return };
        let Said::Message { seq, under_way, failed, .. } = &mut line.said else { return };
        *under_way = None;
        match outcome {
            None => {
                *failed = true;
                self.lines.insert(at, line);
            }
            Some((place, time_ms)) => {
                *seq = place;
                line.time_ms = time_ms;
                self.bytes -= line.text.len();
                self.add(line);
            }
        }
    }

    /// A message was taken back.
    pub fn delete(&mut self, seq: u64) {
        if let Some(line) = self.lines.iter_mut().find(|line| line.seq() == Some(seq)) {
            line.text = "(deleted)".into();
        }
    }

    /// The lowest seq here.
    pub fn first_seq(&self) -> Option<u64> {
        self.lines.iter().find_map(Line::seq)
    }

    /// The index of the message of that seq.
    pub fn find(&self, seq: u64) -> Option<usize> {
        self.lines.iter().position(|line| line.seq() == Some(seq))
    }

    /// Scrolls up by rows; tells whether the top was reached.
    pub fn scroll_up(&mut self, rows: usize, columns: usize, height: usize) -> bool {
        let top = self.top(columns, height);
        let Scroll { lines, rows: hidden } = &mut self.scroll;
        *hidden += rows;
        while *lines < self.lines.len() {
            let index = self.lines.len() - 1 - *lines;
            let of_line = line_rows(&self.lines[index], columns);
            if *hidden < of_line {
                break;
            }
            *hidden -= of_line;
            *lines += 1;
        }
        let is_over = (*lines, *hidden) >= (top.lines, top.rows);
        if is_over {
            self.scroll = top;
        }
        is_over
    }

    /// The furthest that one can scroll up: the first line stands at the top.
    fn top(&self, columns: usize, height: usize) -> Scroll {
        let mut left = height;
        for (index, line) in self.lines.iter().enumerate() {
            let of_line = line_rows(line, columns);
            if of_line >= left {
                return Scroll { lines: self.lines.len() - 1 - index, rows: of_line - left };
            }
            left -= of_line;
        }
        Scroll::default()
    }

    /// Scrolls down by rows.
    pub fn scroll_down(&mut self, rows: usize, columns: usize) {
        let mut left = rows;
        loop {
            let Scroll { lines, rows: hidden } = &mut self.scroll;
            let step = left.min(*hidden);
            *hidden -= step;
            left -= step;
            if left == 0 || *lines == 0 {
                break;
            }
            *lines -= 1;
            *hidden = line_rows(&self.lines[self.lines.len() - 1 - *lines], columns);
        }
        self.trim();
    }

    /// Shows the newest.
    pub fn follow(&mut self) {
        self.scroll = Scroll::default();
        self.trim();
    }

    /// A user's presence; late ones are dropped.
    pub fn presence(&mut self, presence: &Presence) {
        let age = |it: &Presence| (it.generation, it.version);
        if self.roster.get(&presence.user).is_some_and(|known| age(known) > age(presence)) {
            return;
        }
        if presence.status == Status::Close {
            self.roster.remove(&presence.user);
        } else if self.roster.len() < ROSTER_MAX || self.roster.contains_key(&presence.user) {
            self.roster.insert(presence.user.clone(), presence.clone());
        }
    }
}

/// From this width on a pane has columns for time and name.
pub const WIDE_FROM: usize = 48;

/// The columns before a line's text: time and name, where there is room for them.
pub fn indent(line: &Line, columns: usize) -> usize {
    match line.said {
        Said::Message { .. } if columns >= WIDE_FROM => 6 + NAME_COLUMNS + 3,
        Said::Info | Said::Trouble if columns >= WIDE_FROM => 8,
        Said::Message { .. } | Said::Info | Said::Trouble => 2,
    }
}

/// The columns of a name in a wide pane.
pub const NAME_COLUMNS: usize = 12;

/// How many rows a line takes in a pane of so many columns. In a narrow pane the name stands on the first row.
pub fn line_rows(line: &Line, columns: usize) -> usize {
    shown_rows(line, columns).len()
}

/// The rows of its text. In a narrow pane the name is part of it.
pub fn shown_rows(line: &Line, columns: usize) -> Vec<String> {
    let width = columns.saturating_sub(indent(line, columns)).max(2);
    let text = match &line.said {
        Said::Message { from, .. } if columns < WIDE_FROM => format!("{from}: {}", line.text),
        _ => line.text.to_string(),
    };
    rows(&text, width).into_iter().map(str::to_owned).collect()
}
