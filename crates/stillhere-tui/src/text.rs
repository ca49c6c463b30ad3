//! Peers' text, made fit for a terminal: harmless, clipped, and broken into rows by its width on the screen.

use std::fmt::Write;

use stillhere_core::text::{Escaped, clip};
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Bytes of one message that are kept and shown; the rest is told as a number. Some 60 rows of a usual terminal.
pub const TEXT_BYTES_MAX: usize = 4096;
/// Bytes of a name that are shown. The server allows 64.
pub const NAME_BYTES_MAX: usize = 64;
/// Marks that may stand on one character, as real scripts need them; more are shown as escapes, so that no text grows
/// over the lines above it.
const MARKS_MAX: usize = 3;
/// Rows of one message, however many line breaks it has.
const BREAKS_MAX: usize = 40;

/// What doesn't begin a row of Chinese.
const CLOSING: &str = "，。！？；：、）】」』》”’…";

/// A message as it may be shown: of control characters only line breaks are left; escapes, bidirectional marks and
/// what is invisible come out as `\u{…}`.
pub fn harmless(text: &str) -> Box<str> {
    let shown = clip(text, TEXT_BYTES_MAX);
    let mut safe = String::with_capacity(shown.len());
    let (mut marks, mut breaks) = (0, 0);
    for char in shown.replace("\r\n", "\n").chars() {
        let is_mark = !char.is_control() && char.width() == Some(0);
        marks = if is_mark { marks + 1 } else { 0 };
        // Writing to a String can't fail.
        let _ = match char {
            '\n' if breaks < BREAKS_MAX => {
                breaks += 1;
                safe.write_char('\n')
            }
            '\t' => safe.write_str("    "),
            '\\' => safe.write_char('\\'),
            char if is_mark && marks > MARKS_MAX => write!(safe, "{}", char.escape_unicode()),
            char => write!(safe, "{}", Escaped(char.encode_utf8(&mut [0; 4]))),
        };
    }
    let left = text.len() - shown.len();
    if left > 0 {
        let _ = write!(safe, "… ({left} more bytes aren't shown)");
    }
    safe.into()
}

/// The same on one line, for names, topics and reasons.
pub fn harmless_line(text: &str, bytes_max: usize) -> String {
    let shown = clip(text, bytes_max);
    let mark = if shown.len() < text.len() { "…" } else { "" };
    harmless(shown).replace('\n', "⏎") + mark
}

/// The beginning of a text that fits into so many columns, with a mark if something is left out.
pub fn fit(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut fitting = String::new();
    let mut used = 0;
    for grapheme in text.graphemes(true) {
        used += grapheme.width();
        if used + 1 > columns {
            break;
        }
        fitting.push_str(grapheme);
    }
    if columns > 0 {
        fitting.push('…');
    }
    fitting
}

/// The rows that a text takes at this width: broken at line breaks, then between words, and inside what is longer than
/// a row or has no words, such as Chinese. Each row is a part of the text.
pub fn rows(text: &str, columns: usize) -> Vec<&str> {
    let columns = columns.max(2);
    let mut rows = Vec::new();
    for line in text.split('\n') {
        break_line(line, columns, &mut rows);
    }
    rows
}

fn break_line<'a>(line: &'a str, columns: usize, rows: &mut Vec<&'a str>) {
    let (mut start, mut used) = (0, 0);
    // Where the row may end, and where the next one then begins.
    let mut space = None;
    // Where the last wide character stands: a row doesn't begin with what closes a sentence.
    let mut wide = 0;
    for (at, grapheme) in line.grapheme_indices(true) {
        let width = grapheme.width();
        if used + width > columns && grapheme == " " {
            // The blank at a row's end is the break itself.
            rows.push(&line[start..at]);
            (start, used, space) = (at + 1, 0, None);
            continue;
        }
        if used + width > columns {
            let closes = CLOSING.contains(grapheme) && wide > start;
            let (end, next) = match space {
                _ if closes => (wide, wide),
                Some((end, next)) if end > start && width < 2 => (end, next),
                _ => (at, at),
            };
            rows.push(&line[start..end]);
            start = next;
            used = line[start..at].width();
            space = None;
        }
        if grapheme == " " {
            space = Some((at, at + 1));
        } else if width == 2 {
            space = Some((at + grapheme.len(), at + grapheme.len()));
            wide = at;
        }
        used += width;
    }
    rows.push(&line[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_text() {
        let shown = harmless("a\u{1b}[31mb\u{7}\u{202e}c\u{200b}d\u{9b}2J\r\n\te\\n");
        assert_eq!(&*shown, "a\\u{1b}[31mb\\u{7}\\u{202e}c\\u{200b}d\\u{9b}2J\n    e\\n");
        let tower = format!("x{}", "\u{301}".repeat(50));
        assert_eq!(harmless(&tower).matches("\\u{301}").count(), 47);
        assert_eq!(harmless(&"\n".repeat(1000)).matches('\n').count(), BREAKS_MAX);
        let long = "宽".repeat(22_000);
        let shown = harmless(&long);
        assert!(shown.len() < TEXT_BYTES_MAX + 50 && shown.ends_with("(61905 more bytes aren't shown)"), "{shown}");
        assert_eq!(harmless_line("a\nb", 64), "a⏎b");
    }

    #[test]
    fn rows_break_between_words_and_inside_chinese() {
        for (text, columns, wanted) in [
            ("", 5, &[""][..]),
            ("one two three", 7, &["one two", "three"]),
            ("one two three", 8, &["one two", "three"]),
            ("unbreakable", 4, &["unbr", "eaka", "ble"]),
            ("你好世界", 5, &["你好", "世界"]),
            ("你好，世界", 4, &["你", "好，", "世界"]),
            ("ab你好", 4, &["ab你", "好"]),
            ("a\n\nb", 5, &["a", "", "b"]),
            ("trailing  ", 8, &["trailing", " "]),
            ("宽", 1, &["宽"]),
        ] {
            assert_eq!(rows(text, columns), wanted, "{text:?} at {columns}");
        }
    }

    #[test]
    fn no_row_is_wider_than_the_screen_and_no_letter_is_lost() {
        let text = "mixed 中文 and words that are rather long, 一二三四五六七八九十 éé";
        for columns in 2..40 {
            let rows = rows(text, columns);
            assert!(rows.iter().all(|row| row.width() <= columns), "{rows:?}");
            let letters = |text: &str| text.replace(' ', "");
            assert_eq!(letters(&rows.concat()), letters(text));
        }
    }

    #[test]
    fn what_does_not_fit_is_marked() {
        assert_eq!(["abc", "abcd", "你好"].map(|text| fit(text, 3)), ["abc", "ab…", "你…"]);
    }
}
