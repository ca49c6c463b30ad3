//! Lists of users from elsewhere: the tutorial's JSON file of names and MD5 hashes, in the shapes that its readers made
//! of it. What can't be taken over is named with the reason, and stops nothing else.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use stillhere_core::name::Name;
use stillhere_core::text::{Escaped, clip};

/// What may stand for a name in a list of objects.
const NAMES: [&str; 6] = ["username", "user", "name", "account", "login", "id"];
/// What may stand for the hash.
const HASHES: [&str; 7] = ["password", "passwd", "pwd", "pass", "md5", "hash", "password_md5"];
/// What a list may be wrapped in.
const WRAPPERS: [&str; 3] = ["users", "accounts", "data"];
/// How much of a name that can't be one is repeated, in bytes.
const SHOWN_BYTES: usize = 64;

/// A user to be taken over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The name, in its canonical form.
    pub name: Name,
    /// The MD5 of the password: 32 lower-case hexadecimal digits.
    pub md5: String,
}

/// A row that can't be taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Which: its name as it was written, or its place in the list, made safe to show.
    pub row: String,
    /// Why, and what to do.
    pub why: String,
}

/// A list that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// What can be taken over, each name once.
    pub rows: Vec<Row>,
    /// What can't.
    pub skipped: Vec<Skipped>,
}

/// Why a file is no list of users.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It isn't JSON at all.
    #[error("this is no JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// It is JSON of another shape.
    #[error(
        "this is no list of users; it must be {{\"name\": \"md5\", …}} or \
         [{{\"username\": …, \"password\": \"md5\"}}, …]"
    )]
    Shape,
}

impl Row {
    /// Checks what a program sends as a row.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn new(name: &str, md5: &str) -> Result<Row, String> {
        let name = Name::user(name).map_err(|error| error.to_string())?;
        let md5 = md5.trim().to_ascii_lowercase();
        if md5.len() != 32 || !md5.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err("its password is no MD5 hash of 32 hexadecimal digits; add this user by hand".to_owned());
        }
        Ok(Row { name, md5 })
    }
}

/// Reads a list. It is held in memory; a million users take some 200 MB.
///
/// # Errors
/// When it isn't a list of users at all.
pub fn read(text: &str) -> Result<List, ImportError> {
    let mut list = List::default();
    let mut known = HashSet::new();
    // Byte order marks come from editors of the tutorial's time.
    match serde_json::from_str(text.trim_start_matches('\u{feff}'))? {
        Value::Array(rows) => read_rows(rows, &mut list, &mut known),
        Value::Object(mut map) => {
            let wrapper = WRAPPERS.into_iter().find(|name| matches!(map.get(*name), Some(value) if is_list(value)));
            match wrapper.and_then(|name| map.remove(name)) {
                Some(Value::Array(rows)) => read_rows(rows, &mut list, &mut known),
                Some(Value::Object(map)) => read_map(map, &mut list, &mut known),
                Some(_) | None => read_map(map, &mut list, &mut known),
            }
        }
        _ => return Err(ImportError::Shape),
    }
    Ok(list)
}

fn is_list(value: &Value) -> bool {
    value.is_array() || value.is_object()
}

/// `{"ada": "5d78…", "bob": {"password": "5d78…"}}`
fn read_map(map: Map<String, Value>, list: &mut List, known: &mut HashSet<Name>) {
    for (name, value) in map {
        let hash = match value {
            Value::String(hash) => Some(hash),
            Value::Object(inner) => text_of(&inner, &HASHES),
            _ => None,
        };
        list.add(shown(&name), Some(&name), hash.as_deref(), known);
    }
}

/// `[{"username": "ada", "password": "5d78…"}, ["bob", "5d78…"]]`
fn read_rows(rows: Vec<Value>, list: &mut List, known: &mut HashSet<Name>) {
    for (index, row) in rows.into_iter().enumerate() {
        let (name, hash) = match row {
            Value::Object(map) => (text_of(&map, &NAMES), text_of(&map, &HASHES)),
            Value::Array(pair) => match pair.as_slice() {
                [Value::String(name), Value::String(hash)] => (Some(name.clone()), Some(hash.clone())),
                _ => (None, None),
            },
            _ => (None, None),
        };
        let place = name.as_deref().map_or_else(|| format!("row {}", index + 1), shown);
        list.add(place, name.as_deref(), hash.as_deref(), known);
    }
}

/// The first of these keys that has a text, whatever its case. Numbers count as names.
fn text_of(map: &Map<String, Value>, keys: &[&str]) -> Option<String> {
    keys.iter().find_map(|key| {
        let (_, value) = map.iter().find(|(name, _)| name.trim().eq_ignore_ascii_case(key))?;
        match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    })
}

fn shown(name: &str) -> String {
    Escaped(clip(name, SHOWN_BYTES)).to_string()
}

impl List {
    fn add(&mut self, row: String, name: Option<&str>, hash: Option<&str>, known: &mut HashSet<Name>) {
        let taken = match (name, hash) {
            (None, _) => Err("it has no name".to_owned()),
            (_, None) => Err("it has no password".to_owned()),
            (Some(name), Some(hash)) => Row::new(name.trim(), hash),
        };
        match taken {
            Ok(taken) if known.insert(taken.name.clone()) => self.rows.push(taken),
            Ok(taken) => {
                let why = format!("the list has {} already; the first one counts", taken.name);
                self.skipped.push(Skipped { row, why });
            }
            Err(why) => self.skipped.push(Skipped { row, why }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MD5: &str = "5d7845ac6ee7cfffafc5fe5f35cf666d";

    fn names(text: &str) -> Vec<String> {
        read(&text.replace("MD5", MD5)).unwrap().rows.iter().map(|row| row.name.to_string()).collect()
    }

    fn skipped(text: &str) -> Vec<(String, String)> {
        let list = read(&text.replace("MD5", MD5)).unwrap();
        list.skipped.into_iter().map(|skipped| (skipped.row, skipped.why)).collect()
    }

    #[test]
    fn every_shape_of_the_list_is_read() {
        for text in [
            r#"{"ada": "MD5", "bob": "MD5"}"#,
            r#"{"ada": {"password": "MD5"}, "bob": {"md5": "MD5", "age": 3}}"#,
            r#"[{"username": "ada", "password": "MD5"}, {"user": "bob", "passwd": "MD5"}]"#,
            r#"[{"Username": " ada ", "PWD": " MD5 "}, ["bob", "MD5"]]"#,
            r#"{"users": [{"name": "ada", "hash": "MD5"}, {"login": "bob", "pass": "MD5"}], "version": 1}"#,
            r#"{"users": {"ada": "MD5", "bob": "MD5"}}"#,
            "\u{feff}{\"ada\": \"MD5\", \"bob\": \"MD5\"}",
        ] {
            assert_eq!(names(text), ["ada", "bob"], "{text}");
        }
        assert_eq!(names(r#"[{"id": 7, "password": "MD5"}]"#), ["7"]);
        // A user may be called as a list might be.
        assert_eq!(names(r#"{"users": "MD5"}"#), ["users"]);
    }

    #[test]
    fn a_hash_in_capitals_is_the_same_hash() {
        let list = read(&format!(r#"{{"ada": "{}"}}"#, MD5.to_uppercase())).unwrap();
        assert_eq!(list.rows[0].md5, MD5);
    }

    #[test]
    fn what_cant_be_taken_over_is_named_and_stops_nothing() {
        let text = r#"[{"user": "ada", "password": "secret"}, {"user": "a b", "password": "MD5"}, {"password": "MD5"},
                       {"user": "eve"}, 5, ["x"], {"user": "bob", "password": "MD5"}, {"user": "BOB", "password": "MD5"}]"#;
        assert_eq!(names(text), ["bob"]);
        let told = skipped(text);
        let rows: Vec<&str> = told.iter().map(|(row, _)| row.as_str()).collect();
        assert_eq!(rows, ["ada", "a b", "row 3", "eve", "row 5", "row 6", "BOB"]);
        assert!(told[0].1.contains("no MD5") && !told[0].1.contains("secret"), "{told:?}");
        assert!(told[1].1.contains("can't contain") && told[6].1.contains("already"), "{told:?}");
    }

    #[test]
    fn hostile_names_are_shown_harmlessly() {
        let told = skipped("{\"\\u001b[31mx\\u202e\": \"MD5\"}");
        assert!(told[0].0.is_ascii() && !told[0].0.contains('\u{1b}'), "{told:?}");
    }

    #[test]
    fn what_is_no_list_is_refused_with_what_it_should_be() {
        assert!(matches!(read("{"), Err(ImportError::Json(_))));
        let told = read("7").unwrap_err().to_string();
        assert!(told.contains(r#"{"name": "md5", …}"#), "{told}");
        assert_eq!(read("{}").unwrap(), List::default());
    }
}
