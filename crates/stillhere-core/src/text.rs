//! What a peer typed, made safe to show.

use std::fmt;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

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

/// True for what Unicode calls default-ignorable: joiners, fillers, selectors and marks of direction. They leave no
/// trace on the screen, so two texts that differ in them alone look the same.
pub fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}'
        | '\u{16fe4}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Text as it is compared: one form for what differs only in case, width or the way an accent is typed.
///
/// That is compatibility composition (NFKC) of the lower case of the upper case, so that `ß` and `SS`, and the two
/// Greek sigmas, are the same. A dot above `i` or `j` shows nothing and is dropped, which makes the Turkish letters
/// one `i`. Folding what is folded changes nothing. Allocates only for long heaps of marks.
pub fn folded(text: &str) -> impl Iterator<Item = char> {
    let mut has_dot = false;
    let cased = text.nfkd().flat_map(char::to_lowercase).flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    let seen = cased.filter(move |&c| {
        if is_combining_mark(c) {
            return c != COMBINING_DOT_ABOVE || !has_dot;
        }
        has_dot = matches!(c, 'i' | 'j');
        true
    });
    seen.nfkc()
}

const COMBINING_DOT_ABOVE: char = '\u{307}';

/// Whether [`folded`] would change nothing.
pub fn is_folded(text: &str) -> bool {
    folded(text).eq(text.chars())
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

    #[test]
    fn what_differs_in_case_width_or_typing_folds_alike() {
        let fold = |text| folded(text).collect::<String>();
        for (text, expected) in [
            ("Alice", "alice"),
            ("Ａｌｉｃｅ", "alice"),
            ("ﬁn", "fin"),
            ("STRASSE", "strasse"),
            ("straße", "strasse"),
            ("STRAẞE", "strasse"),
            ("ΟΔΟΣ", "οδοσ"),
            ("οδος", "οδοσ"),
            ("Jose\u{301}", "josé"),
            ("İI ıi\u{307}", "ii ii"),
            ("į\u{307}\u{301}", "į\u{301}"),
            ("ｶﾞ", "ガ"),
            ("가", "가"),
            ("你好", "你好"),
        ] {
            assert_eq!(fold(text), expected, "{text}");
        }
    }

    #[test]
    fn every_character_folds_to_what_stays() {
        for c in ('\0'..'\u{32400}').chain('\u{e0000}'..'\u{e1000}') {
            let once: String = folded(c.encode_utf8(&mut [0; 4])).collect();
            assert!(is_folded(&once), "{c:?} {once:?}");
        }
    }
}
