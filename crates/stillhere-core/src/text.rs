//! What a peer typed, made safe to show.

use std::fmt;

/// Shows peers' text on one line: control characters, escape sequences, line separators and bidirectional marks come
/// out as `\u{…}`, so no name can forge a log line, colour a terminal or turn a table around.
#[derive(Clone, Copy)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                c if is_harmless(c) => f.write_char(c)?,
                c => write!(f, "{}", c.escape_unicode())?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// False for all that moves the cursor, breaks the line, reorders text or is invisible.
fn is_harmless(c: char) -> bool {
    let bidi_or_invisible = matches!(c,
        '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    !c.is_control() && !bidi_or_invisible
}

/// The longest prefix of `text` that has at most `max` bytes and ends between characters.
pub fn clip(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_on_its_line_and_in_its_colour() {
        let hostile = "a\r\nb\u{1b}[31m\u{202e}\u{0}\\x";
        let shown = Escaped(hostile).to_string();
        assert_eq!(shown, r"a\u{d}\u{a}b\u{1b}[31m\u{202e}\u{0}\\x");
    }

    #[test]
    fn people_s_own_scripts_are_left_alone() {
        assert_eq!(Escaped("你好 Ωμέγα").to_string(), "你好 Ωμέγα");
    }

    #[test]
    fn clipping_never_cuts_a_character() {
        assert_eq!(clip("你好", 4), "你");
        assert_eq!(clip("ab", 64), "ab");
    }
}
