//! The terms and queries of full-text search, in the engine that they are made for.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rusqlite::Connection;
use stillhere_core::bigram::{index_text, query, terms};

/// An index of these texts, numbered from 1.
fn index(texts: &[&str]) -> Connection {
    let db = Connection::open_in_memory().unwrap();
    db.execute_batch("CREATE VIRTUAL TABLE found USING fts5(text, tokenize = \"unicode61 remove_diacritics 2\")")
        .unwrap();
    for text in texts {
        db.execute("INSERT INTO found (text) VALUES (?1)", [index_text(text)]).unwrap();
    }
    db
}

fn search(db: &Connection, text: &str) -> rusqlite::Result<Vec<i64>> {
    let Some(expression) = query(text) else { return Ok(Vec::new()) };
    let mut found = db.prepare_cached("SELECT rowid FROM found WHERE found MATCH ?1 ORDER BY rowid")?;
    found.query_map([expression], |row| row.get(0))?.collect()
}

#[test]
fn chinese_of_any_length_and_words_by_their_beginning_are_found() {
    let db = index(&[
        "今天天气很好，我们去公园吧",
        "明天去公园",
        "Meet me at the Café, STRASSE 7",
        "用Rust写代码 𠮷野家",
        "テストです がぎぐ",
        "안녕하세요",
        "हिन्दी",
    ]);
    for (text, rows) in [
        ("天", &[1, 2][..]),
        ("吧", &[1]),
        ("公园", &[1, 2]),
        ("去公园", &[1, 2]),
        ("我们去公园吧", &[1]),
        ("公园去", &[]),
        ("好我", &[]),
        ("天 园", &[1, 2]),
        ("今天 公园吧", &[1]),
        ("cafe", &[3]),
        ("CAFÉ", &[3]),
        ("straß", &[3]),
        ("ru", &[4]),
        ("写代 rust", &[4]),
        ("𠮷", &[4]),
        ("𠮷野家", &[4]),
        ("ﾃｽﾄ", &[5]),
        ("ｶﾞ", &[]),
        ("がぎ", &[5]),
        ("하", &[6]),
        ("녕하세", &[6]),
        ("हि", &[7]),
        ("\"", &[]),
    ] {
        assert_eq!(search(&db, text).unwrap(), rows, "{text:?} as {:?}", query(text));
    }
}

/// The tokenizer has tables of its own; a character that it doesn't know as a letter would be lost.
#[test]
fn the_engine_knows_every_character_of_the_unspaced_scripts() {
    let ranges = [('\u{2e80}', '\u{9fff}'), ('\u{ac00}', '\u{d7a3}'), ('\u{20000}', '\u{323af}')];
    let all: BTreeSet<String> = ranges
        .into_iter()
        .flat_map(|(from, to)| from..=to)
        .flat_map(|c| terms(&c.to_string()).collect::<Vec<_>>())
        .collect();
    assert!(all.len() > 100_000);
    let text = all.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    let db = index(&[]);
    db.execute("INSERT INTO found (text) VALUES (?1)", [text]).unwrap();
    db.execute_batch("CREATE VIRTUAL TABLE known USING fts5vocab(found, row)").unwrap();
    let mut known = db.prepare("SELECT term FROM known").unwrap();
    let known: BTreeSet<String> = known.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(all.difference(&known).collect::<Vec<_>>(), [""; 0]);
}

proptest! {
    #[test]
    fn nothing_that_is_typed_is_a_syntax_error(text in prop_oneof![any::<String>(), "[\"'*()+:^{}ab -]{0,20}", "\\PC{0,12}"]) {
        let db = index(&[&text, "something else"]);
        let found = search(&db, &text);
        prop_assert!(found.is_ok(), "{:?}: {:?}", query(&text), found);
    }

    #[test]
    fn every_part_of_a_chinese_text_is_found(text in "[一-龥]{1,30}", from in 0usize..30, len in 1usize..30) {
        let chars: Vec<char> = text.chars().collect();
        let from = from % chars.len();
        let part: String = chars[from..chars.len().min(from + len)].iter().collect();
        let db = index(&["别的", &text]);
        prop_assert!(search(&db, &part).unwrap().contains(&2), "{}", part);
    }
}
