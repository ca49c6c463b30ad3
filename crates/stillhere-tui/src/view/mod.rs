//! Draws the state. It decides nothing and keeps nothing.

mod chat;
mod entry;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use stillhere_client::Status;

use crate::model::{App, Areas, Link};

/// The smallest window that can show something of use.
pub const COLUMNS_MIN: u16 = 24;
/// See [`COLUMNS_MIN`].
pub const ROWS_MIN: u16 = 6;
/// From this width on there is a roster.
pub const ROSTER_FROM: u16 = 72;

/// The colours, or their absence.
#[derive(Clone, Copy, Debug)]
pub struct Palette {
    /// Whether there are any.
    pub coloured: bool,
}

impl Palette {
    fn colour(self, colour: Color) -> Style {
        if self.coloured { Style::new().fg(colour) } else { Style::new() }
    }

    fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn bold(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn trouble(self) -> Style {
        self.colour(Color::Red)
    }

    fn status(self, status: Status) -> Style {
        self.colour(match status {
            Status::Alive => Color::Green,
            Status::Leave => Color::Yellow,
            Status::Close => Color::DarkGray,
        })
    }

    /// A name's colour: always the same for the same name.
    fn name(self, name: &str) -> Style {
        const COLOURS: [Color; 6] =
            [Color::Cyan, Color::Magenta, Color::Blue, Color::LightCyan, Color::LightMagenta, Color::LightBlue];
        let sum = name.bytes().fold(5_381_usize, |sum, byte| sum.wrapping_mul(33) ^ usize::from(byte));
        self.colour(COLOURS[sum % COLOURS.len()])
    }
}

/// Draws all of it, and tells where things are.
pub fn draw(frame: &mut Frame<'_>, app: &App, palette: Palette) -> Areas {
    let area = frame.area();
    if area.width < COLUMNS_MIN || area.height < ROWS_MIN {
        let text = format!("{}×{} is too small;\nmake it {COLUMNS_MIN}×{ROWS_MIN}", area.width, area.height);
        frame.render_widget(Paragraph::new(text), area);
        return Areas::default();
    }
    match &app.entry {
        Some(entry) => {
            entry::draw(frame, app, entry, palette);
            Areas::default()
        }
        None => chat::draw(frame, app, palette),
    }
}

/// One row of an area.
fn row(area: Rect, nth: u16) -> Rect {
    Rect { y: area.y + nth, height: 1, ..area }
}

/// How the link is, in one word with its dot, and in a sentence.
fn link_words(app: &App, palette: Palette) -> (Span<'static>, String) {
    match &app.link {
        Link::Live => (Span::styled("● ", palette.status(Status::Alive)), format!("connected to {}", app.target)),
        Link::Connecting => (Span::styled("◌ ", palette.dim()), format!("connecting to {} …", app.target)),
        Link::Down { why, retry_at_ms } => {
            let wait = retry_at_ms.saturating_sub(app.now_ms).div_ceil(1000);
            let when = if wait == 0 { "trying again …".to_owned() } else { format!("trying again in {wait} s") };
            (Span::styled("○ ", palette.trouble()), format!("{why}; {when}"))
        }
    }
}

/// A span of time as a roster shows it: `12s`, `4m`, `3h`, `2d`.
pub fn span(ms: u64) -> String {
    match ms / 1000 {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..86_400 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

fn text(frame: &mut Frame<'_>, area: Rect, line: Line<'_>) {
    frame.render_widget(line, area);
}
