//! Names of users and rooms, in the one form in which they are stored, compared and shown.
//!
//! Two names that differ only in case, width or the way an accent is typed are the same name. What can't be seen, or
//! turns text around, is in no name. What this doesn't do: tell apart letters of different scripts that look alike.
//!
//! Who calls it: whoever takes a name from a peer, once, at the border. Inside there are only [`Name`]s.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use unicode_normalization::char::is_combining_mark;

use crate::text::{Escaped, folded, is_folded, is_invisible};

/// Characters of a user's name: wider ones break every table.
pub const USER_CHARS_MAX: usize = 32;
/// Bytes of a user's name: what a label may have, so that a session stays cheap.
pub const USER_BYTES_MAX: usize = 64;
/// Characters of a room's name; programs make them of several parts.
pub const ROOM_CHARS_MAX: usize = 64;
/// Bytes of a room's name.
pub const ROOM_BYTES_MAX: usize = 128;
/// Marks on one letter. Vietnamese needs 2, Hebrew 3, Tibetan 3; heaps of them run over the lines above and below.
pub const MARKS_MAX: usize = 4;
/// Folding makes a text at most so many times shorter, in bytes: mathematical letters of 4 bytes become ASCII. What is
/// longer isn't looked at.
const SHRINKS_TO: usize = 4;

/// The canonical name of a user or a room. A clone is another reference to the same text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing is left of it.
    #[error("a name has at least one character; choose one")]
    Empty,
    /// More than a name of its kind may have.
    #[error("the name is too long; use at most {chars} characters and {bytes} bytes")]
    TooLong {
        /// Characters allowed.
        chars: usize,
        /// Bytes allowed.
        bytes: usize,
    },
    /// A space, a symbol, an emoji, or a sign that has a meaning elsewhere.
    #[error("a name can't contain {}; use letters, digits and {others}", Shown(*.found))]
    Character {
        /// The first one that isn't allowed.
        found: char,
        /// What is allowed beside letters and digits.
        others: &'static str,
    },
    /// A character without a picture, or one that turns text around.
    #[error("the name contains the invisible character {}; type it again without", Shown(*.0))]
    Invisible(char),
    /// A dot at an end, beside another dot or beside a separator.
    #[error("a dot in a name stands between letters or digits; move it")]
    Dot,
    /// An accent without a letter, or more accents on a letter than can be read.
    #[error(
        "an accent or mark in a name needs a letter before it, and a letter has at most {MARKS_MAX}; type it again"
    )]
    Mark,
}

/// What the names of one kind may have.
struct Kind {
    chars_max: usize,
    bytes_max: usize,
    is_room: bool,
}

const USER: Kind = Kind { chars_max: USER_CHARS_MAX, bytes_max: USER_BYTES_MAX, is_room: false };
const ROOM: Kind = Kind { chars_max: ROOM_CHARS_MAX, bytes_max: ROOM_BYTES_MAX, is_room: true };

impl Name {
    /// A user's name: letters and digits of any script, `_`, `-` and, between others, `.`; 1 to [`USER_CHARS_MAX`]
    /// characters and at most [`USER_BYTES_MAX`] bytes after folding.
    pub fn user(text: &str) -> Result<Name, NameError> {
        USER.parse(text)
    }

    /// A room's name: as a user's, and `#`, `/`, `:`, `+`, which people use for channels and programs for parts; 1 to
    /// [`ROOM_CHARS_MAX`] characters and at most [`ROOM_BYTES_MAX`] bytes after folding.
    ///
    /// `@` stays out: it marks a person, so no room can pose as a conversation with one.
    pub fn room(text: &str) -> Result<Name, NameError> {
        ROOM.parse(text)
    }

    /// A name that was checked when it was stored. Nothing is checked here.
    pub fn of_store(text: impl Into<Arc<str>>) -> Name {
        Name(text.into())
    }

    /// Whether `text` is a name of either kind exactly as it stands, so that it can be looked up without making a
    /// [`Name`] of it. Allocates nothing.
    pub fn is_canonical(text: &str) -> bool {
        ROOM.check(text).is_ok() && (is_lower_ascii(text) || is_folded(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Kind {
    fn parse(&self, text: &str) -> Result<Name, NameError> {
        if text.len() > self.bytes_max * SHRINKS_TO {
            return Err(self.too_long());
        }
        if is_lower_ascii(text) || is_folded(text) {
            self.check(text)?;
            return Ok(Name(text.into()));
        }
        let name: String = folded(text).take(self.chars_max + 1).collect();
        self.check(&name)?;
        Ok(Name(name.into()))
    }

    /// Checks a folded text.
    fn check(&self, name: &str) -> Result<(), NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > self.bytes_max || name.chars().count() > self.chars_max {
            return Err(self.too_long());
        }
        let mut last = Sign::Separator;
        for c in name.chars() {
            let sign = self.sign(c)?;
            last = match (last, sign) {
                (Sign::Separator | Sign::Dot, Sign::Dot) | (Sign::Dot, Sign::Separator) => return Err(NameError::Dot),
                (Sign::Letter(marks), Sign::Mark) if marks < MARKS_MAX => Sign::Letter(marks + 1),
                (_, Sign::Mark) => return Err(NameError::Mark),
                (_, sign) => sign,
            };
        }
        if last == Sign::Dot { Err(NameError::Dot) } else { Ok(()) }
    }

    fn sign(&self, c: char) -> Result<Sign, NameError> {
        match c {
            'a'..='z' | '0'..='9' => Ok(Sign::Letter(0)),
            '_' | '-' => Ok(Sign::Line),
            '.' => Ok(Sign::Dot),
            '#' | '/' | ':' | '+' if self.is_room => Ok(Sign::Separator),
            c if is_invisible(c) => Err(NameError::Invisible(c)),
            c if is_symbol(c) => Err(self.character(c)),
            c if is_combining_mark(c) => Ok(Sign::Mark),
            c if c.is_alphanumeric() => Ok(Sign::Letter(0)),
            c => Err(self.character(c)),
        }
    }

    fn too_long(&self) -> NameError {
        NameError::TooLong { chars: self.chars_max, bytes: self.bytes_max }
    }

    fn character(&self, found: char) -> NameError {
        NameError::Character { found, others: if self.is_room { "_ - . # / : +" } else { "_ - ." } }
    }
}

/// What a character is within a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// A letter or digit, and how many marks it has so far.
    Letter(usize),
    /// `_` or `-`.
    Line,
    Dot,
    Mark,
    /// Between the parts of a room's name; a name begins after one.
    Separator,
}

/// Such a text is folded as it stands.
fn is_lower_ascii(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase())
}

/// The blocks of symbols, some of which Unicode counts as letters and digits: 🅰, ➊.
fn is_symbol(c: char) -> bool {
    matches!(c, '\u{2000}'..='\u{2bff}' | '\u{1f000}'..='\u{1faff}')
}

/// One character in a sentence.
struct Shown(char);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ' ' => f.write_str("a space"),
            c if is_invisible(c) || is_combining_mark(c) || c.is_whitespace() => {
                write!(f, "U+{:04X}", u32::from(c))
            }
            c => write!(f, "‘{}’", Escaped(c.encode_utf8(&mut [0; 4]))),
        }
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        *self.0 == **other
    }
}

impl fmt::Display for Name {
    /// Safe for log and terminal, if the store is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(&self.0).fmt(f)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    /// Refuses what is no canonical name.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        let text = String::deserialize(deserializer)?;
        if !Name::is_canonical(&text) {
            return Err(D::Error::custom("this is no canonical name"));
        }
        Ok(Name(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use unicode_normalization::UnicodeNormalization;

    fn check(parsed: Result<Name, NameError>, expected: Result<&str, &str>, text: &str) {
        let parsed = parsed.map_err(|error| error.to_string());
        let shown = match &parsed {
            Ok(name) => Ok(name.as_str()),
            Err(sentence) => Err(sentence.as_str()),
        };
        match (shown, expected) {
            (Err(sentence), Err(part)) => assert!(sentence.contains(part), "{text:?}: {sentence}"),
            (shown, expected) => assert_eq!(shown, expected, "{text:?}"),
        }
    }

    #[test]
    fn users_are_named_in_any_script_and_one_way() {
        for (text, expected) in [
            ("alice", "alice"),
            ("Alice", "alice"),
            ("Ａｌｉｃｅ７", "alice7"),
            ("𝐀𝐥𝐢𝐜𝐞", "alice"),
            ("a.b-c_d", "a.b-c_d"),
            ("-_-", "-_-"),
            ("7", "7"),
            ("小明", "小明"),
            ("々〆〇", "々〆〇"),
            ("ユーザー", "ユーザー"),
            ("ﾕｰｻﾞｰ", "ユーザー"),
            ("한국어", "한국어"),
            ("JOSÉ", "josé"),
            ("jose\u{301}", "josé"),
            ("Straße", "strasse"),
            ("ΟΔΟΣ", "οδοσ"),
            ("İbrahim", "ibrahim"),
            ("Владимир", "владимир"),
            ("हिन्दी", "हिन्दी"),
            ("ภาษาไทย", "ภาษาไทย"),
            ("محمد", "محمد"),
            ("٤٢", "٤٢"),
        ] {
            check(Name::user(text), Ok(expected), text);
            check(Name::room(text), Ok(expected), text);
        }
    }

    #[test]
    fn what_is_no_user_s_name_is_refused_with_a_sentence() {
        for (text, part) in [
            ("", "at least one"),
            (" ", "can't contain a space"),
            ("a b", "a space"),
            ("a\u{3000}b", "a space"),
            ("a@b", "‘@’; use letters, digits and _ - ."),
            ("a/b", "‘/’"),
            ("#a", "‘#’"),
            ("a\nb", "U+000A"),
            ("a\u{1b}[31m", "‘\\u{1b}’"),
            ("a\0", "‘\\u{0}’"),
            ("<b>", "‘<’"),
            ("½", "can't contain ‘⁄’"),
            ("😀", "‘😀’"),
            ("a😀", "‘😀’"),
            ("🅰", "‘🅰’"),
            ("➊", "‘➊’"),
            ("1\u{fe0f}\u{20e3}", "invisible character U+FE0F"),
            ("🇨🇳", "can't contain"),
            ("a\u{202e}b", "invisible character U+202E"),
            ("a\u{2066}b", "U+2066"),
            ("a\u{200f}", "U+200F"),
            ("a\u{200b}b", "U+200B"),
            ("a\u{200d}b", "U+200D"),
            ("\u{feff}a", "U+FEFF"),
            ("a\u{ad}b", "U+00AD"),
            ("\u{3164}", "invisible character U+1160"),
            ("a\u{fe00}", "U+FE00"),
            ("a\u{e0041}", "U+E0041"),
            ("a\u{2028}", "U+2028"),
            ("\u{301}", "needs a letter"),
            ("\u{301}a", "needs a letter"),
            ("_\u{301}", "needs a letter"),
            ("x\u{334}\u{335}\u{336}\u{337}\u{338}", "at most 4"),
            (".", "dot"),
            (".a", "dot"),
            ("a.", "dot"),
            ("a..b", "dot"),
            ("\u{e000}", "can't contain"),
            ("\u{10ffff}", "can't contain"),
        ] {
            check(Name::user(text), Err(part), text);
        }
    }

    #[test]
    fn rooms_have_parts_and_never_look_like_a_person() {
        for (text, expected) in [
            ("#General", Ok("#general")),
            ("game/1:Lobby", Ok("game/1:lobby")),
            ("c++", Ok("c++")),
            ("#闲聊", Ok("#闲聊")),
            ("＃Ａ", Ok("#a")),
            ("@alice", Err("‘@’; use letters, digits and _ - . # / : +")),
            ("a/../b", Err("dot")),
            ("a/.b", Err("dot")),
            ("a./b", Err("dot")),
            ("a/\u{301}", Err("needs a letter")),
            ("a?b", Err("‘?’")),
            ("a b", Err("a space")),
        ] {
            check(Name::room(text), expected, text);
        }
    }

    #[test]
    fn lengths_count_after_folding_and_both_ways() {
        let user = |text: String| Name::user(&text).map(|name| name.len());
        let too_long = Err(NameError::TooLong { chars: 32, bytes: 64 });
        assert_eq!(user("a".repeat(32)), Ok(32));
        assert_eq!(user("a".repeat(33)), too_long);
        assert_eq!(user("Ａ".repeat(32)), Ok(32));
        assert_eq!(user("𝐀".repeat(32)), Ok(32));
        assert_eq!(user("é".repeat(32)), Ok(64));
        assert_eq!(user("e\u{301}".repeat(32)), Ok(64));
        assert_eq!(user("好".repeat(21)), Ok(63));
        assert_eq!(user("好".repeat(22)), too_long);
        // One character that folds to eighteen.
        assert_eq!(user("ﷺ".repeat(2)), too_long);
        assert_eq!(user("a".repeat(100_000)), too_long);
        let room = |text: String| Name::room(&text).map(|name| name.len());
        assert_eq!(room("a".repeat(64)), Ok(64));
        assert_eq!(room("a".repeat(65)), Err(NameError::TooLong { chars: 64, bytes: 128 }));
        assert_eq!(room("好".repeat(42)), Ok(126));
        assert_eq!(room("好".repeat(43)), Err(NameError::TooLong { chars: 64, bytes: 128 }));
    }

    #[test]
    fn a_name_is_looked_up_by_its_text() {
        let mut ages = std::collections::HashMap::new();
        ages.insert(Name::user("Alice").unwrap(), 7);
        assert_eq!(ages.get("alice"), Some(&7));
        assert!(Name::is_canonical("alice") && Name::is_canonical("#闲聊") && Name::is_canonical("josé"));
        for text in ["Alice", "", "jose\u{301}", "ａ", "a b", "@a"] {
            assert!(!Name::is_canonical(text), "{text:?}");
        }
    }

    #[test]
    fn a_name_is_a_string_in_json_and_only_a_canonical_one_is_read() {
        let name = Name::user("小明").unwrap();
        assert_eq!(serde_json::to_string(&name).unwrap(), "\"小明\"");
        assert_eq!(serde_json::from_str::<Name>("\"小明\"").unwrap(), name);
        assert!(serde_json::from_str::<Name>("\"Alice\"").is_err());
        assert_eq!(format!("{name:>4}|{name:?}"), "  小明|\"小明\"");
    }

    #[test]
    fn no_single_character_makes_a_name_that_is_not_canonical() {
        for c in ('\0'..'\u{32400}').chain('\u{e0000}'..'\u{e1000}') {
            let text = format!("a{c}\u{301}b");
            if let Ok(name) = Name::room(&text) {
                assert!(Name::is_canonical(&name), "{text:?} {name:?}");
                assert!(!name.chars().any(is_invisible), "{text:?}");
            }
        }
    }

    /// Mostly letters of many scripts and marks, so that many are names; and anything.
    fn any_text() -> impl Strategy<Value = String> {
        let letters = "[a-zA-Z0-9._#/\\-À-ɏͰ-ϿЀ-ӿ\u{300}-\u{345}א-תا-يก-๙぀-ヿ一-龥가-힣Ａ-ｚﾞ-ﾟᾀ-῾ḀỲ]{0,12}";
        prop_oneof![letters, any::<String>(), "\\PC{0,8}"]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]
        #[test]
        fn parsing_what_was_parsed_changes_nothing(text in any_text()) {
            for parse in [Name::user, Name::room] {
                if let Ok(name) = parse(&text) {
                    prop_assert_eq!(parse(&name), Ok(name.clone()));
                    prop_assert!(Name::is_canonical(&name));
                    // The iota below is a mark in lower case and a letter in upper case; where it stands among other
                    // marks is lost on the way.
                    if !text.nfd().any(|c| c == '\u{345}') {
                        prop_assert_eq!(parse(&text.to_uppercase()), Ok(name.clone()));
                        prop_assert_eq!(parse(&text.to_lowercase()), Ok(name));
                    }
                }
            }
        }
    }
}
