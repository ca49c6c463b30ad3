//! The screen for talking: tabs, messages, roster, status, input.

use jiff::Timestamp;
use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use stillhere_client::Status;
use unicode_width::UnicodeWidthStr;

use super::{Palette, ROSTER_FROM, link_words, row, span, text};
use crate::model::command::Command;
use crate::model::tab::{self, Kind, NAME_COLUMNS, Said, Tab, WIDE_FROM};
use crate::model::{App, Areas};
use crate::text::{NAME_BYTES_MAX, fit, harmless_line};

const ROSTER_COLUMNS: u16 = 26;
/// From this height on there is a line for the room's topic.
const TOPIC_FROM: u16 = 14;
/// Rows of the list of commands that opens above the input.
const COMMANDS_ROWS_MAX: usize = 8;

pub(super) fn draw(frame: &mut Frame<'_>, app: &App, palette: Palette) -> Areas {
    let area = frame.area();
    let seen = &app.tabs[app.active];
    let mut areas = Areas { tabs: tabs(frame, app, row(area, 0), palette), ..Areas::default() };
    let mut top = 1;
    if area.height >= TOPIC_FROM {
        text(frame, row(area, top), topic(seen, usize::from(area.width), palette));
        top += 1;
    }
    let roster_columns = if area.width >= ROSTER_FROM && seen.kind != Kind::Home { ROSTER_COLUMNS } else { 0 };
    let middle = Rect { y: top, height: area.height - top - 2, ..area };
    let pane = Rect { width: area.width - roster_columns, ..middle };
    (areas.columns, areas.rows) = (usize::from(pane.width), usize::from(pane.height));
    messages(frame, app, seen, pane, palette);
    if roster_columns > 0 {
        let at = Rect { x: pane.width, width: roster_columns, ..middle };
        roster(frame, app, seen, at, palette);
    }
    status(frame, app, row(area, area.height - 2), palette);
    input(frame, app, row(area, area.height - 1), palette);
    commands(frame, app, middle, palette);
    areas
}

/// The tabs' titles with what is unread; collapsed where they don't fit.
fn tabs(frame: &mut Frame<'_>, app: &App, area: Rect, palette: Palette) -> Vec<(u16, u16, u16, usize)> {
    let title = |tab: &Tab| match tab.unread + tab.waiting {
        0 => format!(" {} ", fit(&tab.title(), 20)),
        news => format!(" {} {news} ", fit(&tab.title(), 20)),
    };
    let titles: Vec<String> = app.tabs.iter().map(title).collect();
    let widths: Vec<usize> = titles.iter().map(|title| title.width()).collect();
    let columns = usize::from(area.width);
    if widths.iter().sum::<usize>() > columns {
        let news: u64 = app.tabs.iter().map(|tab| tab.unread + tab.waiting).sum();
        let more = format!(
            " {}/{}{}",
            app.active + 1,
            app.tabs.len(),
            if news > 0 { format!(" · {news} new") } else { String::new() }
        );
        let name = fit(&app.tabs[app.active].title(), columns.saturating_sub(more.width() + 2));
        let style = palette.bold().add_modifier(Modifier::REVERSED);
        text(
            frame,
            area,
            Line::from(vec![
                Span::styled(format!(" {name} "), style),
                Span::styled(more, palette.colour(Color::Yellow)),
            ]),
        );
        return Vec::new();
    }
    let (mut spans, mut places, mut x) = (Vec::new(), Vec::new(), 0);
    for (index, title) in titles.into_iter().enumerate() {
        let tab = &app.tabs[index];
        let style = match () {
            () if index == app.active => palette.bold().add_modifier(Modifier::REVERSED),
            () if tab.unread + tab.waiting > 0 => palette.colour(Color::Yellow).add_modifier(Modifier::BOLD),
            () => palette.dim(),
        };
        let to = x + title.width() as u16;
        places.push((area.y, x, to, index));
        x = to;
        spans.push(Span::styled(title, style));
    }
    text(frame, area, Line::from(spans));
    places
}

fn topic(tab: &Tab, columns: usize, palette: Palette) -> Line<'static> {
    let words = match &tab.kind {
        Kind::Home => "what this client has to say".to_owned(),
        Kind::User => "a conversation between two".to_owned(),
        Kind::Room if tab.topic.is_empty() => "no topic; /topic sets one".to_owned(),
        Kind::Room => tab.topic.clone(),
        Kind::Found(place) => {
            format!("found in {}: ↑ ↓ choose, Enter goes there, Esc back", harmless_line(&place.1, NAME_BYTES_MAX))
        }
    };
    let words = fit(&format!("── {words} "), columns);
    let rest = "─".repeat(columns.saturating_sub(words.width()));
    Line::styled(words + &rest, palette.dim())
}

/// The messages, from the lowest row up, so that only what is seen is laid out.
fn messages(frame: &mut Frame<'_>, app: &App, tab: &Tab, area: Rect, palette: Palette) {
    let columns = usize::from(area.width);
    let mut left = area.height;
    let mut hidden = tab.scroll.rows;
    let last = tab.lines.len().saturating_sub(tab.scroll.lines);
    for (index, line) in tab.lines.iter().enumerate().take(last).rev() {
        let is_chosen = matches!(tab.kind, Kind::Found(_)) && index == tab.chosen;
        let rows = message(app, line, columns, palette, matches!(tab.kind, Kind::Found(_)));
        for mut shown in rows.into_iter().rev().skip(std::mem::take(&mut hidden)) {
            if left == 0 {
                return;
            }
            left -= 1;
            if is_chosen {
                shown = shown.patch_style(Style::new().add_modifier(Modifier::REVERSED));
            }
            text(frame, row(area, left), shown);
        }
    }
    if left > 0 && tab.lines.is_empty() {
        let words = match tab.kind {
            _ if tab.is_loading => "fetching messages …",
            Kind::Room | Kind::User => "nothing was said here yet",
            Kind::Home | Kind::Found(_) => "",
        };
        text(frame, row(area, area.height - 1), Line::styled(words, palette.dim()));
    }
}

fn message(app: &App, line: &tab::Line, columns: usize, palette: Palette, with_seq: bool) -> Vec<Line<'static>> {
    let rows = tab::shown_rows(line, columns);
    let indent = tab::indent(line, columns);
    let is_wide = columns >= WIDE_FROM;
    let (name, mut style) = match &line.said {
        Said::Message { from, failed, seq, .. } => {
            let style = match () {
                () if *failed => palette.trouble(),
                () if *seq == 0 => palette.dim(),
                () => Style::new(),
            };
            (Some(from), style)
        }
        Said::Info => (None, palette.dim()),
        Said::Trouble => (None, palette.trouble()),
    };
    if with_seq {
        style = Style::new();
    }
    let head = |nth: usize| -> Vec<Span<'static>> {
        if nth > 0 {
            let bar =
                if is_wide && name.is_some() { format!("{}│ ", " ".repeat(indent - 2)) } else { " ".repeat(indent) };
            return vec![Span::styled(bar, palette.dim())];
        }
        let mark = if matches!(line.said, Said::Message { failed: true, .. }) { "✗ " } else { "" };
        if !is_wide {
            let mark = match &line.said {
                Said::Message { .. } if mark.is_empty() => "",
                Said::Message { .. } => mark,
                Said::Info | Said::Trouble => "· ",
            };
            return vec![Span::styled(format!("{mark:<2}"), style)];
        }
        let when = match &line.said {
            Said::Message { seq, .. } if with_seq => format!("{:<5} ", fit(&format!("#{seq}"), 5)),
            _ => format!("{} ", clock(app, line.time_ms)),
        };
        let Some(name) = name else { return vec![Span::styled(format!("{when}· "), palette.dim())] };
        let name = fit(&format!("{mark}{name}"), NAME_COLUMNS);
        let padding = " ".repeat(NAME_COLUMNS.saturating_sub(name.width()));
        let colour = palette.name(&name);
        vec![
            Span::styled(when, palette.dim()),
            Span::raw(padding),
            Span::styled(name, colour.add_modifier(Modifier::BOLD)),
            Span::styled(" │ ", palette.dim()),
        ]
    };
    let laid_out = |(nth, row): (usize, String)| {
        let mut spans = head(nth);
        spans.push(Span::styled(row, style));
        Line::from(spans)
    };
    rows.into_iter().enumerate().map(laid_out).collect()
}

fn clock(app: &App, time_ms: u64) -> String {
    let time = i64::try_from(time_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| "--:--".to_owned(), |time| time.to_zoned(app.zone.clone()).strftime("%H:%M").to_string())
}

fn roster(frame: &mut Frame<'_>, app: &App, tab: &Tab, area: Rect, palette: Palette) {
    let columns = usize::from(area.width) - 2;
    let alive = tab.roster.values().filter(|it| it.status == Status::Alive).count() as u64;
    let (members, alive) = match tab.counts {
        Some((members, alive)) if tab.roster.is_empty() => (members, alive),
        _ => (tab.roster.len() as u64, alive),
    };
    let mut users: Vec<_> = tab.roster.values().collect();
    users.sort_by(|a, b| (a.status, &a.user).cmp(&(b.status, &b.user)));
    let mut lines = vec![Line::styled(fit(&format!("{members} here, {alive} alive"), columns), palette.dim())];
    for presence in users {
        let (dot, why) = match presence.status {
            Status::Alive => ("● ", String::new()),
            Status::Leave => ("◐ ", presence.cause.map_or(String::new(), |cause| format!("{} ", cause.name()))),
            Status::Close => ("○ ", String::new()),
        };
        let state = format!("{why}{}", span(app.now_ms.saturating_sub(presence.since_ms)));
        let name = fit(&harmless_line(&presence.user, NAME_BYTES_MAX), columns.saturating_sub(state.width() + 3));
        let gap = " ".repeat(columns.saturating_sub(2 + name.width() + state.width()));
        lines.push(Line::from(vec![
            Span::styled(dot, palette.status(presence.status)),
            Span::raw(name),
            Span::raw(gap),
            Span::styled(state, palette.dim()),
        ]));
    }
    let height = usize::from(area.height);
    if lines.len() > height {
        let more = lines.len() - height + 1;
        lines.truncate(height - 1);
        lines.push(Line::styled(format!("and {more} more"), palette.dim()));
    }
    for nth in 0..area.height {
        let line = lines.get(usize::from(nth)).cloned().unwrap_or_default();
        let mut spans = vec![Span::styled("│ ", palette.dim())];
        spans.extend(line.spans.into_iter().map(|span| span.patch_style(line.style)));
        text(frame, row(area, nth), Line::from(spans));
    }
}

fn status(frame: &mut Frame<'_>, app: &App, area: Rect, palette: Palette) {
    let columns = usize::from(area.width);
    let (dot, words) = link_words(app, palette);
    let tab = &app.tabs[app.active];
    let mut parts = Vec::new();
    if let Some((note, _)) = &app.note {
        parts.push(note.clone());
    } else if tab.waiting > 0 {
        parts.push(format!("{} wait until you are /back", tab.waiting));
    }
    let below = tab.scroll.lines;
    if !tab.is_following() {
        parts.push(if below > 0 {
            format!("{below} more below, End goes there")
        } else {
            "End goes to the newest".to_owned()
        });
    }
    if app.is_away {
        parts.push("you are away".to_owned());
    }
    let me = app.me.as_deref().map_or_else(String::new, |me| harmless_line(me, NAME_BYTES_MAX));
    if matches!(app.link, crate::model::Link::Live) {
        parts.push(me);
        parts.extend(app.rtt.map(|rtt| format!("{:.1} ms", rtt.as_secs_f64() * 1000.0)));
        if columns >= 60 {
            parts.push(words);
        }
    } else {
        parts.insert(0, words);
    }
    let line = fit(&parts.join(" · "), columns - 2);
    text(frame, area, Line::from(vec![dot, Span::styled(line, palette.dim())]));
}

fn input(frame: &mut Frame<'_>, app: &App, area: Rect, palette: Palette) {
    let (shown, column) = app.input.window(usize::from(area.width) - 3);
    let is_empty = shown.is_empty();
    let hint = if is_empty {
        Span::styled(fit("say something, or / for commands", usize::from(area.width) - 3), palette.dim())
    } else {
        Span::raw("")
    };
    text(frame, area, Line::from(vec![Span::styled("> ", palette.bold()), Span::raw(shown), hint]));
    frame.set_cursor_position(Position::new(area.x + 2 + column as u16, area.y));
}

/// The commands that begin as what is typed, above the input.
fn commands(frame: &mut Frame<'_>, app: &App, area: Rect, palette: Palette) {
    let Some(typed) = app.input.text().strip_prefix('/').filter(|typed| !typed.starts_with('/')) else { return };
    let (name, has_more) = typed.split_once(' ').map_or((typed, false), |(name, _)| (name, true));
    let fitting: Vec<_> = Command::matching(name).filter(|command| !has_more || command.row().name == name).collect();
    let count = fitting.len().min(COMMANDS_ROWS_MAX).min(usize::from(area.height));
    let columns = usize::from(area.width);
    for (nth, command) in fitting.into_iter().take(count).enumerate() {
        let command = command.row();
        let usage = format!(" /{} {}", command.name, command.args);
        let line = fit(&format!("{usage:<24} {}", command.help), columns);
        let padding = " ".repeat(columns.saturating_sub(line.width()));
        let at = row(area, area.height - count as u16 + nth as u16);
        text(frame, at, Line::styled(line + &padding, palette.colour(Color::Cyan).add_modifier(Modifier::REVERSED)));
    }
}
