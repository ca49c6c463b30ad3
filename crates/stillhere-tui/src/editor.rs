//! The line one types on.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// What one line may hold, in bytes; a server takes some 64 KiB with what is around it.
pub const INPUT_BYTES_MAX: usize = 16 * 1024;
/// Earlier lines that the up key brings back.
const EARLIER_MAX: usize = 50;

/// Text with a cursor that moves by whole characters as people see them.
#[derive(Debug, Default)]
pub struct Editor {
    text: String,
    /// A byte index between graphemes.
    cursor: usize,
    earlier: Vec<String>,
    /// Which of the earlier lines is shown, counted from the newest.
    recalled: Option<usize>,
    /// What stood here before an earlier line was shown.
    draft: String,
}

impl Editor {
    /// What was typed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Replaces all of it and goes to the end.
    pub fn set(&mut self, text: &str) {
        self.text = text.to_owned();
        self.cursor = self.text.len();
    }

    /// Takes what was typed and remembers it.
    pub fn take(&mut self) -> String {
        let text = std::mem::take(&mut self.text);
        (self.cursor, self.recalled) = (0, None);
        if !text.is_empty() && self.earlier.last() != Some(&text) {
            self.earlier.push(text.clone());
            let over = self.earlier.len().saturating_sub(EARLIER_MAX);
            self.earlier.drain(..over);
        }
        text
    }

    /// Takes what was typed and forgets it: a password.
    pub fn take_secret(&mut self) -> String {
        self.cursor = 0;
        std::mem::take(&mut self.text)
    }

    /// Types or pastes. Of control characters only line breaks come in.
    pub fn insert(&mut self, text: &str) {
        let text: String =
            text.replace("\r\n", "\n").replace('\r', "\n").chars().filter(|c| *c == '\n' || !c.is_control()).collect();
        let room = INPUT_BYTES_MAX.saturating_sub(self.text.len());
        let text = stillhere_core::text::clip(&text, room);
        self.text.insert_str(self.cursor, text);
        self.cursor += text.len();
    }

    fn before(&self) -> usize {
        self.text[..self.cursor].grapheme_indices(true).next_back().map_or(0, |(at, _)| at)
    }

    fn after(&self) -> usize {
        self.cursor + self.text[self.cursor..].graphemes(true).next().map_or(0, str::len)
    }

    /// One character back.
    pub fn left(&mut self) {
        self.cursor = self.before();
    }

    /// One character on.
    pub fn right(&mut self) {
        self.cursor = self.after();
    }

    /// To the beginning.
    pub fn home(&mut self) {
        self.cursor = 0;
    }

    /// To the end.
    pub fn end(&mut self) {
        self.cursor = self.text.len();
    }

    /// Deletes the character before the cursor.
    pub fn backspace(&mut self) {
        let start = self.before();
        self.text.drain(start..self.cursor);
        self.cursor = start;
    }

    /// Deletes the character at the cursor.
    pub fn delete(&mut self) {
        let end = self.after();
        self.text.drain(self.cursor..end);
    }

    /// Deletes the word before the cursor.
    pub fn delete_word(&mut self) {
        let before = self.text[..self.cursor].trim_end();
        let start = before.rfind(' ').map_or(0, |at| at + 1);
        self.text.drain(start..self.cursor);
        self.cursor = start;
    }

    /// Deletes all before the cursor.
    pub fn delete_line(&mut self) {
        self.text.drain(..self.cursor);
        self.cursor = 0;
    }

    /// Shows the line typed before.
    pub fn recall_older(&mut self) {
        let next = self.recalled.map_or(0, |nth| nth + 1);
        if next >= self.earlier.len() {
            return;
        }
        if self.recalled.is_none() {
            self.draft = std::mem::take(&mut self.text);
        }
        self.recalled = Some(next);
        let text = self.earlier[self.earlier.len() - 1 - next].clone();
        self.set(&text);
    }

    /// Shows the line typed after that, and at last what was begun.
    pub fn recall_newer(&mut self) {
        let Some(nth) = self.recalled else { return };
        let text = match nth {
            0 => std::mem::take(&mut self.draft),
            nth => self.earlier[self.earlier.len() - nth].clone(),
        };
        self.recalled = nth.checked_sub(1);
        self.set(&text);
    }

    /// The word that the cursor stands behind, for completing it.
    pub fn word(&self) -> &str {
        let before = &self.text[..self.cursor];
        &before[before.rfind([' ', '\n']).map_or(0, |at| at + 1)..]
    }

    /// Replaces that word.
    pub fn replace_word(&mut self, with: &str) {
        let start = self.cursor - self.word().len();
        self.text.replace_range(start..self.cursor, with);
        self.cursor = start + with.len();
    }

    /// The part to show in so many columns, and the column of the cursor in it. Line breaks are shown as `⏎`.
    pub fn window(&self, columns: usize) -> (String, usize) {
        let columns = columns.max(3);
        let shown = |text: &str| text.replace('\n', "⏎");
        let before = shown(&self.text[..self.cursor]);
        let mut skipped = 0;
        let mut start = 0;
        let width = before.width();
        for (at, grapheme) in before.grapheme_indices(true) {
            if width - skipped < columns {
                break;
            }
            skipped += grapheme.width();
            start = at + grapheme.len();
        }
        let column = width - skipped;
        let mut window = before[start..].to_owned();
        let mut used = column;
        for grapheme in shown(&self.text[self.cursor..]).graphemes(true) {
            used += grapheme.width();
            if used > columns {
                break;
            }
            window.push_str(grapheme);
        }
        (window, column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_and_joined_characters_are_one_step() {
        let mut editor = Editor::default();
        editor.insert("a你e\u{301}");
        assert_eq!(editor.window(20), ("a你e\u{301}".to_owned(), 4));
        editor.backspace();
        editor.left();
        assert_eq!(editor.window(20).1, 1);
        editor.delete();
        editor.insert("好");
        assert_eq!((editor.text(), editor.window(20).1), ("a好", 3));
        editor.home();
        editor.left();
        editor.backspace();
        editor.end();
        editor.right();
        editor.delete();
        assert_eq!(editor.text(), "a好");
    }

    #[test]
    fn a_long_line_scrolls_so_that_the_cursor_is_seen() {
        let mut editor = Editor::default();
        editor.insert(&"你好".repeat(50));
        for _ in 0..100 {
            let (window, column) = editor.window(11);
            assert!(window.width() <= 11 && column < 11, "{window} {column}");
            editor.left();
        }
        assert_eq!(editor.window(11), ("你好你好你".to_owned(), 0));
    }

    #[test]
    fn pasted_control_characters_stay_out_and_the_length_is_bounded() {
        let mut editor = Editor::default();
        editor.insert("a\u{1b}[31m\r\nb");
        assert_eq!((editor.text(), &*editor.window(20).0), ("a[31m\nb", "a[31m⏎b"));
        editor.insert(&"你".repeat(INPUT_BYTES_MAX));
        assert!(editor.text().len() <= INPUT_BYTES_MAX);
    }

    #[test]
    fn earlier_lines_come_back_and_the_begun_one_too() {
        let mut editor = Editor::default();
        for text in ["one", "two"] {
            editor.insert(text);
            editor.take();
        }
        editor.insert("begun");
        let mut seen = vec![];
        for older in [true, true, true, false, false, false] {
            if older {
                editor.recall_older()
            } else {
                editor.recall_newer()
            }
            seen.push(editor.text().to_owned());
        }
        assert_eq!(seen, ["two", "one", "one", "two", "begun", "begun"]);
        editor.set("some words");
        editor.delete_word();
        assert_eq!((editor.text(), editor.word()), ("some ", ""));
        editor.insert("al");
        editor.replace_word("alice ");
        assert_eq!(editor.text(), "some alice ");
    }
}
