//! One line of the log, from an event to text or JSON.

use std::fmt::{self, Debug, Write};

use jiff::Timestamp;
use stillhere_core::text::{Escaped, clip};
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use super::limiter::Summary;

/// The longest message or field, in bytes; what is longer is cut. The queue of lines is bounded in lines, this bounds
/// it in bytes.
const FIELD_BYTES_MAX: usize = 2048;
/// How much of a message a summary quotes, in bytes.
const SAMPLE_BYTES_MAX: usize = 120;

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// For people, with colours.
    Coloured,
    /// For people.
    Plain,
    /// For programs.
    Json,
}

/// A line before it is written. All text in it is harmless already.
pub(super) struct Line {
    level: Level,
    target: &'static str,
    message: String,
    fields: Vec<(&'static str, Value)>,
}

enum Value {
    Text(String),
    /// A number, `true` or `false`: the same in text and JSON.
    Bare(String),
}

impl Line {
    /// What an event says.
    pub(super) fn of(event: &Event<'_>) -> Line {
        let metadata = event.metadata();
        let mut line = Line::new(*metadata.level(), metadata.target(), String::new());
        event.record(&mut line);
        line
    }

    /// The line that stands for many.
    pub(super) fn suppressed(summary: &Summary) -> Line {
        let Summary { metadata, count, sample } = summary;
        let sample = clip(sample, SAMPLE_BYTES_MAX);
        let lines = if *count == 1 { "line" } else { "lines" };
        let message = format!("{count} more {lines} like \"{sample}\" suppressed");
        let mut line = Line::new(*metadata.level(), metadata.target(), message);
        line.fields.push(("suppressed", Value::Bare(count.to_string())));
        line
    }

    /// The line that tells that others are missing.
    pub(super) fn lost(count: u64) -> Line {
        let message = "log lines were lost: an output is stuck, too slow or full".to_owned();
        let mut line = Line::new(Level::WARN, module_path!(), message);
        line.fields.push(("lost", Value::Bare(count.to_string())));
        line
    }

    fn new(level: Level, target: &'static str, message: String) -> Line {
        Line { level, target, message, fields: Vec::new() }
    }

    /// The message without the fields.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// The line with its line break.
    pub(super) fn format(&self, style: Style, now: Timestamp) -> String {
        let mut out = String::with_capacity(160);
        let written = match style {
            Style::Coloured => self.write_text(&mut out, now, true),
            Style::Plain => self.write_text(&mut out, now, false),
            Style::Json => self.write_json(&mut out, now),
        };
        debug_assert!(written.is_ok(), "writing to a String can't fail");
        out.push('\n');
        out
    }

    fn write_text(&self, out: &mut String, now: Timestamp, coloured: bool) -> fmt::Result {
        let paint = |code: &'static str| if coloured { code } else { "" };
        let (dim, reset) = (paint("\u{1b}[2m"), paint("\u{1b}[0m"));
        let (level, colour) = match self.level {
            Level::ERROR => ("ERROR", "\u{1b}[31m"),
            Level::WARN => ("WARN ", "\u{1b}[33m"),
            Level::INFO => ("INFO ", "\u{1b}[32m"),
            Level::DEBUG => ("DEBUG", "\u{1b}[34m"),
            Level::TRACE => ("TRACE", "\u{1b}[35m"),
        };
        let target = self.target.strip_prefix("stillhere_").unwrap_or(self.target);
        write!(out, "{dim}{now:.3}{reset} {}{level}{reset} {dim}{target}:{reset}", paint(colour))?;
        if !self.message.is_empty() {
            write!(out, " {}", self.message)?;
        }
        for (name, value) in &self.fields {
            write!(out, " {dim}{name}={reset}")?;
            match value {
                Value::Bare(text) => out.push_str(text),
                Value::Text(text) if stands_alone(text) => out.push_str(text),
                Value::Text(text) => write!(out, "\"{}\"", text.replace('"', "\\\""))?,
            }
        }
        Ok(())
    }

    fn write_json(&self, out: &mut String, now: Timestamp) -> fmt::Result {
        let level = self.level.as_str().to_ascii_lowercase();
        write!(out, "{{\"time\":\"{now:.3}\",\"level\":\"{level}\",\"target\":{}", Quoted(self.target))?;
        write!(out, ",\"message\":{}", Quoted(&self.message))?;
        for (name, value) in &self.fields {
            // A field must not repeat one of ours.
            let ours = matches!(*name, "time" | "level" | "target" | "message");
            write!(out, ",\"{}{name}\":", if ours { "field_" } else { "" })?;
            match value {
                Value::Bare(text) => out.push_str(text),
                Value::Text(text) => write!(out, "{}", Quoted(text))?,
            }
        }
        out.push('}');
        Ok(())
    }

    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::Text(text) | Value::Bare(text)) => self.message = text,
            (name, value) => self.fields.push((name.strip_prefix("r#").unwrap_or(name), value)),
        }
    }

    fn add_text(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let mut text = Harmless(String::new());
        // A Display that fails has written what it could.
        let _ = text.write_fmt(value);
        self.add(field, Value::Text(text.0));
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add_text(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add_text(field, format_args!("{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(error) = source {
            text.push_str(&format!(": {error}"));
            source = error.source();
        }
        self.add_text(field, format_args!("{text}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::Bare(value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::Bare(value.to_string()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::Bare(value.to_string()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        let text = value.to_string();
        // JSON has no infinity.
        self.add(field, if value.is_finite() { Value::Bare(text) } else { Value::Text(text) });
    }
}

/// Takes any text and keeps it on its line and in its colour, within [`FIELD_BYTES_MAX`] (and an ellipsis).
///
/// Callers have made peers' text harmless already, so a backslash is left as it is: what was escaped once looks the
/// same afterwards.
struct Harmless(String);

impl Write for Harmless {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() > FIELD_BYTES_MAX {
            return Ok(());
        }
        let kept = clip(text, FIELD_BYTES_MAX - self.0.len().min(FIELD_BYTES_MAX));
        for (index, part) in kept.split('\\').enumerate() {
            if index > 0 {
                self.0.push('\\');
            }
            write!(self.0, "{}", Escaped(part))?;
        }
        if kept.len() < text.len() {
            self.0.push('…');
        }
        Ok(())
    }
}

/// Whether a reader can tell where a value ends without quotes around it; a well-formed quoted string can too.
fn stands_alone(text: &str) -> bool {
    let bare = |text: &str| !text.is_empty() && !text.contains([' ', '"', '=']);
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    bare(text) || inner.is_some_and(|inner| !inner.replace("\\\\", "").replace("\\\"", "").contains(['"', '\\']))
}

/// A JSON string.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self.0).map_err(|_| fmt::Error)?)
    }
}
