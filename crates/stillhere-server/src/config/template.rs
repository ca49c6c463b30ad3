//! What `config default` and `config env` print, made from the table of keys.

use super::Config;
use super::keys::{KEYS, Key, SECTIONS};
use super::value::Kind;

/// The width of comments in the generated file.
const COMMENT_COLUMNS: usize = 100;

/// A TOML file with every setting at its default and a comment that explains it. Loading it changes nothing.
pub fn default_toml() -> String {
    let mut page = String::from(
        "# The configuration of stillhere. Every value here is the default, so keep only what you change.\n\
         # A flag beats the environment, which beats this file. `stillhere check` tells whether it is right.\n",
    );
    for (section, about) in SECTIONS {
        page.push('\n');
        comment(&mut page, about);
        page.push_str(&format!("[{section}]\n"));
        for key in KEYS.iter().filter(|key| key.section == *section) {
            page.push('\n');
            comment(&mut page, &explanation(key));
            match key.default {
                Some(default) => page.push_str(&format!("{} = {}\n", key.name, literal(key.kind, default))),
                None => page.push_str(&format!("# {} = {}\n", key.name, literal(key.kind, example(key)))),
            }
        }
    }
    page
}

/// One name that the environment may set.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct EnvRow {
    /// The name, such as `STILLHERE_DETECTOR__INTERVAL`.
    pub name: String,
    /// How its value is written, in a word.
    pub kind: &'static str,
    /// The value in force, from wherever it comes; `None` when the profile has it.
    pub value: Option<String>,
    /// Whether the environment is where it is set.
    pub set: bool,
    /// What it means.
    pub meaning: &'static str,
}

/// Every name that the environment may set, with the values of `config`.
pub fn env_rows(config: &Config, env: impl Iterator<Item = (String, String)>) -> Vec<EnvRow> {
    let set: Vec<String> = env.map(|(name, _)| name).collect();
    let rows = KEYS.iter().zip(config.texts());
    rows.map(|(key, value)| {
        let name = key.env();
        EnvRow { set: set.contains(&name), name, kind: key.kind.name(), value, meaning: key.doc }
    })
    .collect()
}

fn explanation(key: &Key) -> String {
    let mut text = key.doc.to_owned();
    if let Some((low, high)) = key.range {
        text.push_str(&format!(" From {low} to {high}."));
    }
    if key.default.is_none() {
        text.push_str(" Unset: the profile's own.");
    }
    if key.reloadable {
        text.push_str(" Reloadable.");
    }
    text
}

/// What an override has in the default profile, to show how it is written.
fn example(key: &Key) -> &'static str {
    match key.name {
        "interval" => "10s",
        "start" | "strikes" => "3",
        "threshold" => "5",
        _ => "30m",
    }
}

fn literal(kind: Kind, text: &str) -> String {
    match kind {
        Kind::List => toml::Value::Array(
            text.split(',')
                .map(str::trim)
                .filter(|text| !text.is_empty())
                .map(|text| toml::Value::String(text.to_owned()))
                .collect(),
        )
        .to_string(),
        Kind::Switch | Kind::Count => text.to_owned(),
        Kind::Address | Kind::Span | Kind::Size | Kind::Word | Kind::Path => {
            toml::Value::String(text.to_owned()).to_string()
        }
    }
}

fn comment(page: &mut String, text: &str) {
    let mut column = 0;
    for word in text.split(' ') {
        if column == 0 || column + 1 + word.len() > COMMENT_COLUMNS {
            page.push_str(if column == 0 { "#" } else { "\n#" });
            column = 1;
        }
        page.push(' ');
        page.push_str(word);
        column += 1 + word.len();
    }
    page.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;

    #[test]
    fn the_generated_file_loads_to_the_defaults() {
        let page = default_toml();
        let loaded = Config::from_toml("default.toml", &page).expect("the generated file is right");
        assert_eq!(loaded, Config::default());
    }

    #[test]
    fn the_overrides_in_the_generated_file_are_the_default_profile_s() {
        let page = default_toml();
        let uncommented: String = page.lines().map(uncomment).collect::<Vec<_>>().join("\n");
        let loaded = Config::from_toml("default.toml", &uncommented).expect("the examples are right");
        assert_eq!(loaded.detector.interval, Some(std::time::Duration::from_secs(10)));
        assert_eq!(loaded.profile(), Config::default().profile());
    }

    fn uncomment(line: &str) -> &str {
        match line.strip_prefix("# ") {
            Some(rest) if KEYS.iter().any(|key| rest.starts_with(&format!("{} = ", key.name))) => rest,
            _ => line,
        }
    }

    #[test]
    fn comments_are_full_sentences_of_moderate_width() {
        for line in default_toml().lines() {
            assert!(line.chars().count() <= COMMENT_COLUMNS + 15, "{line}");
        }
        for key in KEYS {
            assert!(key.doc.ends_with('.'), "{}", key.path());
        }
    }

    #[test]
    fn env_rows_tell_what_is_set_there() {
        let env = || [("STILLHERE_LIMITS__CLOSED".to_owned(), "5".to_owned())].into_iter();
        let config = Config::load(&Flags::default(), env()).expect("right");
        let rows = env_rows(&config, env());
        let row = rows.iter().find(|row| row.name == "STILLHERE_LIMITS__CLOSED").expect("listed");
        assert_eq!((row.value.as_deref(), row.set), (Some("5"), true));
        assert_eq!(rows.iter().filter(|row| row.set).count(), 1);
        assert_eq!(rows.len(), KEYS.len());
    }
}
