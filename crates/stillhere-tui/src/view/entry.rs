//! The screen for logging in.

use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::{Palette, link_words, row, text};
use crate::model::{App, Entry, Field, Link};
use crate::text::{fit, rows};

/// The widest that running text is comfortable to read.
const COLUMNS_MAX: u16 = 64;
const LABEL: &str = "password  ";

pub(super) fn draw(frame: &mut Frame<'_>, app: &App, entry: &Entry, palette: Palette) {
    let area = frame.area();
    let width = (area.width - 2).min(COLUMNS_MAX);
    let left = Rect { x: (area.width - width) / 2, y: 0, width, height: area.height };
    let columns = usize::from(width);

    let mut lines: Vec<Line<'_>> = Vec::new();
    let (dot, words) = link_words(app, palette);
    let mut link = rows(&words, columns.saturating_sub(2)).into_iter().map(str::to_owned);
    lines.push(Line::from(vec![dot, Span::raw(link.next().unwrap_or_default())]));
    lines.extend(link.map(|row| Line::raw(format!("  {row}"))));
    let mut below = Vec::new();
    for (words, style) in advice(app, entry, palette) {
        below.push(Line::raw(""));
        below.extend(rows(&words, columns).into_iter().map(|row| Line::styled(row.to_owned(), style)));
    }
    // What matters is typed into the fields; a low window loses the explanations.
    let needed = lines.len() + 6 + below.len();
    let height = usize::from(area.height);
    let spare = height.saturating_sub(needed);
    let mut y = (spare / 3) as u16;
    let put = |frame: &mut Frame<'_>, line: Line<'_>, y: &mut u16| {
        if *y < area.height {
            text(frame, row(left, *y), line);
            *y += 1;
        }
    };
    let title = if entry.is_new { "stillhere · make an account" } else { "stillhere · log in" };
    put(frame, Line::styled(fit(title, columns), palette.bold()), &mut y);
    for line in lines {
        put(frame, line, &mut y);
    }
    if height >= needed {
        y += 1;
    }
    field(frame, left, &mut y, entry, Field::Name, palette);
    field(frame, left, &mut y, entry, Field::Password, palette);
    for line in below {
        put(frame, line, &mut y);
    }
}

fn field(frame: &mut Frame<'_>, area: Rect, y: &mut u16, entry: &Entry, which: Field, palette: Palette) {
    if *y >= frame.area().height {
        return;
    }
    let label = if which == Field::Name { "name      " } else { LABEL };
    let columns = usize::from(area.width).saturating_sub(LABEL.len());
    let (shown, column) = match which {
        Field::Name => entry.name.window(columns - 1),
        // Neither the letters nor, beyond what fits, their number.
        Field::Password => {
            let count = entry.password.text().chars().count().min(columns - 1);
            ("•".repeat(count), count)
        }
    };
    let is_active = entry.field == which;
    let style = if is_active { Style::new().add_modifier(Modifier::UNDERLINED) } else { palette.dim() };
    let padding = " ".repeat(columns.saturating_sub(shown.width()));
    text(frame, row(area, *y), Line::from(vec![Span::raw(label), Span::styled(shown + &padding, style)]));
    if is_active {
        frame.set_cursor_position(Position::new(area.x + LABEL.len() as u16 + column as u16, area.y + *y));
    }
    *y += 1;
}

/// What to know and to do, most urgent first.
fn advice(app: &App, entry: &Entry, palette: Palette) -> Vec<(String, Style)> {
    let mut advice = Vec::new();
    if let Some(trouble) = &entry.trouble {
        advice.push((trouble.clone(), palette.trouble()));
    } else if entry.is_asking {
        advice.push(("asking the server …".to_owned(), palette.dim()));
    }
    if let (Link::Down { .. }, false) = (&app.link, app.was_live) {
        advice.push((
            format!(
                "Is a server running there? In another terminal:\nstillhere serve --listen {}",
                listen(&app.target)
            ),
            palette.bold(),
        ));
    }
    let keys = match entry.is_new {
        false => "Enter logs in · Tab changes the field · F2 makes a new account · Esc ends",
        true => "Enter makes the account · Tab changes the field · F2 back to logging in · Esc ends",
    };
    advice.push((keys.to_owned(), palette.dim()));
    let why = match entry.is_new {
        false => "First time here? F2 makes an account: a name, and a password of at least 8 characters.",
        true => {
            "Choose a name and a password of at least 8 characters. The server keeps only a hash of the password; if it is lost, the operator can set a new one."
        }
    };
    advice.push((why.to_owned(), palette.dim()));
    advice
}

fn listen(target: &str) -> &str {
    target.strip_prefix("tls://").unwrap_or(target)
}
