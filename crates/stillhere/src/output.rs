//! What commands print, and how: standard output for what was asked for, standard error for complaints.

use std::fmt::{Display, Write as _};
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anyhow::Context;
use stillhere_core::amount::show_span;
pub(crate) use stillhere_core::amount::thousands;
use stillhere_core::text::Escaped;
use unicode_width::UnicodeWidthStr;

/// Prints text as it is. A reader that has seen enough (`| head`) ends the process quietly.
///
/// # Errors
/// When standard output can't be written for any other reason.
pub(crate) fn print(text: impl Display) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match write!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => written.context("can't write to standard output"),
    }
}

/// Prints text as it is, for commands whose exit code means something: a reader that has seen enough changes nothing.
///
/// # Errors
/// When standard output can't be written for any other reason.
pub(crate) fn print_verdict(text: impl Display) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match write!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("can't write to standard output"),
    }
}

/// Prints a value as indented JSON, as [`print_verdict`] does it.
///
/// # Errors
/// As [`print_verdict`].
pub(crate) fn print_verdict_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print_verdict(harmless_json(&serde_json::to_string_pretty(value)?) + "\n")
}

/// A line on standard error; one that can't be shown is no reason to stop.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Prints a value as indented JSON.
///
/// # Errors
/// As [`print()`].
pub(crate) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print(harmless_json(&serde_json::to_string_pretty(value)?) + "\n")
}

/// Tells what went wrong, in one sentence with its causes.
pub(crate) fn complain(error: &anyhow::Error) {
    // Nothing is left to do when even this can't be said.
    let _ = writeln!(io::stderr().lock(), "stillhere: {error:#}");
}

/// The same JSON with `\u` escapes for what could move a terminal's cursor or reorder its text; JSON itself only
/// demands that for ASCII controls.
fn harmless_json(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() || Escaped(c.encode_utf8(&mut [0; 4])).to_string().chars().eq([c]) {
            safe.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String can't fail.
                let _ = write!(safe, "\\u{unit:04x}");
            }
        }
    }
    safe
}

/// Whether to colour standard output: only a terminal, and unless NO_COLOR says otherwise.
pub(crate) fn coloured() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// The columns of the terminal that standard output is; `None` when it is none, so nothing needs to be left out.
pub(crate) fn columns() -> Option<usize> {
    let (width, _) = terminal_size::terminal_size_of(io::stdout())?;
    Some(usize::from(width.0))
}

/// Text in lines of at most `columns`, broken between words, each with this indent.
pub(crate) fn wrapped(text: &str, indent: &str, columns: usize) -> String {
    let mut page = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        let width = word.width();
        if column > 0 && column + 1 + width <= columns {
            page.push(' ');
            column += 1 + width;
        } else {
            page.push_str(if column > 0 { "\n" } else { "" });
            page.push_str(indent);
            column = indent.width() + width;
        }
        page.push_str(word);
    }
    page.push('\n');
    page
}

/// The lines of the terminal that standard output is.
pub(crate) fn lines() -> Option<usize> {
    let (_, height) = terminal_size::terminal_size_of(io::stdout())?;
    Some(usize::from(height.0))
}

/// How wide running text may be: as wide as is comfortable, or as the terminal is.
pub(crate) fn text_columns() -> usize {
    const COMFORTABLE: usize = 100;
    columns().unwrap_or(COMFORTABLE).min(COMFORTABLE)
}

/// A duration in seconds as the documentation writes it: `65s`, `17.5s`.
pub(crate) fn seconds(time: Duration) -> String {
    let millis = time.as_millis();
    match millis % 1000 {
        0 => format!("{}s", millis / 1000),
        rest => format!("{}.{}s", millis / 1000, format!("{rest:03}").trim_end_matches('0')),
    }
}

/// A duration as one would say it: in seconds up to three minutes, `95s`, in larger units above, `31m5s`.
pub(crate) fn spoken(time: Duration) -> String {
    if time < Duration::from_secs(180) { seconds(time) } else { show_span(time) }
}

/// A duration for a table: the two largest units, `4m07s`, `3h20m`, `2d05h`.
pub(crate) fn rough(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{}ms", time.as_millis()),
        seconds @ 1..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        seconds @ 3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        seconds => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well_at_every_size() {
        let rough_ms = |millis| rough(Duration::from_millis(millis));
        let shown = [0, 999, 1000, 59_999, 60_000, 247_000, 12_000_000, 190_800_000].map(rough_ms);
        assert_eq!(shown, ["0ms", "999ms", "1s", "59s", "1m00s", "4m07s", "3h20m", "2d05h"]);
        assert_eq!(seconds(Duration::from_millis(17_500)), "17.5s");
        assert_eq!(seconds(Duration::from_secs(65)), "65s");
    }

    #[test]
    fn long_times_are_spoken_in_larger_units() {
        assert_eq!(spoken(Duration::from_millis(77_500)), "77.5s");
        assert_eq!(spoken(Duration::from_secs(1865)), "31m5s");
    }

    #[test]
    fn text_is_broken_between_words() {
        assert_eq!(wrapped("one two  three four", "  ", 9), "  one two\n  three\n  four\n");
        assert_eq!(wrapped("unbreakable", " ", 3), " unbreakable\n");
    }

    #[test]
    fn json_can_t_move_the_cursor_and_stays_the_same_json() {
        let value = serde_json::json!({ "a": "\u{9b}2J \u{202e} 你好 \u{e0001}" });
        let shown = harmless_json(&value.to_string());
        assert!(!shown.contains(['\u{9b}', '\u{202e}', '\u{e0001}']) && shown.contains("你好"), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("JSON"), value);
    }
}
