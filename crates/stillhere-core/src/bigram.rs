//! What full-text search indexes and asks for, so that Chinese of any length is found by SQLite's FTS5.
//!
//! Scripts that are written without spaces (Han, Kana, Hangul, Bopomofo) are cut into pairs: `你好吗` becomes
//! `你好 好吗 吗`. Every character begins exactly one term, so one character is found as a prefix, and two or more as a
//! phrase of pairs, which matches exactly where the text has them. Other scripts are whole words, found by how they
//! begin. All is folded before ([`crate::text::folded`]).
//!
//! The column wants `tokenize = "unicode61 remove_diacritics 2"`, which takes the terms as they are, but for accents.
//! Thai, Lao, Khmer and Burmese are written without spaces too and count as words here: what is between two spaces is
//! found by how it begins.
//!
//! Who calls it: the store, for what goes into the index and for what a user searches.

use std::iter::Peekable;

use unicode_normalization::char::is_combining_mark;

use crate::text::{folded, is_invisible};

/// What is indexed of one word, in characters; the rest doesn't tell words apart, but would fill the index.
pub const WORD_CHARS_MAX: usize = 64;
/// How many terms of a query are looked for; the work grows with each.
pub const QUERY_TERMS_MAX: usize = 16;

/// What of `text` is indexed, in order.
pub fn terms(text: &str) -> impl Iterator<Item = String> {
    cut(text).map(|term| term.text)
}

/// What to store in the column that is searched: the terms, with spaces between.
pub fn index_text(text: &str) -> String {
    let mut joined = String::new();
    for term in cut(text) {
        if !joined.is_empty() {
            joined.push(' ');
        }
        joined.push_str(&term.text);
    }
    joined
}

/// The FTS5 expression that finds what has all of `text` in it, or `None` if nothing of it can be searched for.
///
/// Whatever a user types, it is a valid expression: there are only letters, digits and their marks in quotes. Only the
/// first [`QUERY_TERMS_MAX`] terms count, so a long query may find more than it asks for.
pub fn query(text: &str) -> Option<String> {
    let mut expression = String::new();
    let mut is_in_phrase = false;
    for term in cut(text).take(QUERY_TERMS_MAX) {
        let is_end_of_phrase = is_in_phrase && term.kind == Kind::Last;
        if !is_end_of_phrase {
            expression.push_str(match (is_in_phrase, expression.is_empty()) {
                (true, _) => " ",
                (false, true) => "\"",
                (false, false) => " \"",
            });
            expression.push_str(&term.text);
        }
        match term.kind {
            Kind::Pair => {}
            Kind::Last if is_in_phrase => expression.push('"'),
            Kind::Last | Kind::Word => expression.push_str("\"*"),
        }
        is_in_phrase = term.kind == Kind::Pair;
    }
    if is_in_phrase {
        expression.push('"');
    }
    (!expression.is_empty()).then_some(expression)
}

struct Term {
    text: String,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    /// A character of a script without spaces and the next.
    Pair,
    /// The last character of such a run.
    Last,
}

/// What a character is to the search.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Unspaced,
    Gap,
}

fn cut(text: &str) -> impl Iterator<Item = Term> {
    // A mark goes with its letter; on a character of an unspaced script, or alone, it isn't searched for.
    let mut last = Class::Gap;
    let chars = folded(text).filter(|c| !is_invisible(*c)).filter_map(move |c| {
        if is_combining_mark(c) {
            return (last == Class::Letter).then_some((c, Class::Letter));
        }
        last = class(c);
        Some((c, last))
    });
    Cut(chars.peekable())
}

struct Cut<I: Iterator>(Peekable<I>);

impl<I: Iterator<Item = (char, Class)>> Iterator for Cut<I> {
    type Item = Term;

    fn next(&mut self) -> Option<Term> {
        let (first, class) = self.0.find(|(_, class)| *class != Class::Gap)?;
        let mut text = String::from(first);
        if class == Class::Letter {
            let mut chars = 1;
            while let Some((c, _)) = self.0.next_if(|(_, class)| *class == Class::Letter) {
                if chars < WORD_CHARS_MAX {
                    text.push(c);
                }
                chars += 1;
            }
            return Some(Term { text, kind: Kind::Word });
        }
        let kind = match self.0.peek() {
            Some((next, Class::Unspaced)) => {
                text.push(*next);
                Kind::Pair
            }
            _ => Kind::Last,
        };
        Some(Term { text, kind })
    }
}

fn class(c: char) -> Class {
    match c {
        c if !c.is_alphanumeric() => Class::Gap,
        '\u{1100}'..='\u{11ff}' // Hangul, also the next and the last but three
        | '\u{2e80}'..='\u{9fff}' // Han, Kana, Bopomofo
        | '\u{a960}'..='\u{a97f}'
        | '\u{ac00}'..='\u{d7ff}'
        | '\u{f900}'..='\u{faff}' // Han
        | '\u{ff66}'..='\u{ffdc}' // Kana and Hangul of half width
        | '\u{1aff0}'..='\u{1b16f}' // Kana
        | '\u{20000}'..='\u{3ffff}' // Han
        => Class::Unspaced,
        _ => Class::Letter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn unspaced_scripts_are_pairs_and_others_words() {
        for (text, expected) in [
            ("", ""),
            ("你", "你"),
            ("你好吗", "你好 好吗 吗"),
            ("你好，好吗！", "你好 好 好吗 吗"),
            ("Hello, World", "hello world"),
            ("用C++写Rust代码", "用 c 写 rust 代码 码"),
            ("ＡＢＣ１２３", "abc123"),
            ("Café STRASSE straße", "café strasse strasse"),
            ("ﾃｽﾄ", "テス スト ト"),
            ("テスト・中", "テス スト ト 中"),
            ("한국어", "한국 국어 어"),
            ("он сказал: «да»", "он сказал да"),
            ("हिन्दी में", "हिन्दी में"),
            ("he\u{200b}llo 你\u{200d}好", "hello 你好 好"),
            ("\u{301}a \u{301} 好\u{301}吗", "a 好吗 吗"),
            ("😀 ** \"' \0\n", ""),
        ] {
            assert_eq!(index_text(text), expected, "{text:?}");
            assert_eq!(terms(text).collect::<Vec<_>>().join(" "), expected, "{text:?}");
        }
        assert_eq!(index_text(&"a".repeat(100_000)), "a".repeat(WORD_CHARS_MAX));
    }

    #[test]
    fn queries_are_phrases_of_pairs_and_beginnings_of_words() {
        for (text, expected) in [
            ("", None),
            ("  \"*\" ()", None),
            ("你", Some("\"你\"*")),
            ("你好", Some("\"你好\"")),
            ("你好吗", Some("\"你好 好吗\"")),
            ("你好 吗", Some("\"你好\" \"吗\"*")),
            ("Hel", Some("\"hel\"*")),
            ("a AND b OR NOT NEAR(c)", Some("\"a\"* \"and\"* \"b\"* \"or\"* \"not\"* \"near\"* \"c\"*")),
            ("text:x*\"y", Some("\"text\"* \"x\"* \"y\"*")),
            ("用Rust写代码", Some("\"用\"* \"rust\"* \"写代 代码\"")),
        ] {
            assert_eq!(query(text).as_deref(), expected, "{text:?}");
        }
        let long = query(&"好".repeat(1000)).unwrap();
        assert_eq!(long.matches("好好").count(), QUERY_TERMS_MAX);
        assert_eq!(long.matches('"').count(), 2);
        assert_eq!(query(&"a ".repeat(1000)).unwrap().matches("\"a\"*").count(), QUERY_TERMS_MAX);
    }

    /// What FTS5 does with the expressions that [`query`] makes, read word by word.
    fn matches(expression: &str, text: &str) -> bool {
        let index = index_text(text);
        let tokens: Vec<&str> = index.split_whitespace().collect();
        let mut parts = expression.split('"');
        assert_eq!(parts.next(), Some(""));
        let parts: Vec<&str> = parts.collect();
        parts.chunks(2).all(|part| {
            let [phrase, after] = part else { panic!("an open quote in {expression}") };
            let phrase: Vec<&str> = phrase.split(' ').collect();
            match after.trim_end() {
                "" => tokens.windows(phrase.len()).any(|tokens| tokens == phrase),
                "*" => phrase.len() == 1 && tokens.iter().any(|token| token.starts_with(phrase[0])),
                other => panic!("{other:?} in {expression}"),
            }
        })
    }

    proptest! {
        /// Few characters, so that many pairs are in a text in another order than in the query.
        #[test]
        fn chinese_is_found_exactly_where_it_is(text in "[好吗你]{1,24}(，|a| )?[好吗你]{0,12}", wanted in "[好吗你]{1,4}") {
            prop_assert_eq!(matches(&query(&wanted).unwrap(), &text), text.contains(&wanted), "{}", wanted);
        }

        #[test]
        fn any_part_of_a_text_is_found(text in "[一-龥ぁ-んァ-ヶ가-힣𠀀-𪛖々〇]{1,40}", from in 0usize..40, len in 1usize..40) {
            let chars: Vec<char> = text.chars().collect();
            let from = from % chars.len();
            let part: String = chars[from..chars.len().min(from + len)].iter().collect();
            prop_assert!(matches(&query(&part).unwrap(), &text), "{}", part);
        }

        #[test]
        fn any_beginning_of_a_word_is_found_in_any_case(words in prop::collection::vec("[a-zà-ö]{1,8}", 1..8), len in 1usize..8) {
            let text = words.join("-");
            for word in words {
                let start: String = word.chars().take(len).collect();
                prop_assert!(matches(&query(&start.to_uppercase()).unwrap(), &text));
            }
        }

        #[test]
        fn whatever_is_typed_the_query_is_quoted_and_finds_its_own_text(text in any::<String>()) {
            if let Some(expression) = query(&text) {
                prop_assert!(matches(&expression, &text), "{}", expression);
            } else {
                prop_assert_eq!(index_text(&text), "");
            }
        }
    }
}
