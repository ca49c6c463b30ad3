//! Where settings come from: a TOML file, the environment, the flags. Each leaves texts with their origin; the
//! codecs make values of them afterwards, so all three are read alike and every error names its place.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeInteger, DeString, DeTable, DeValue};

use super::error::{ConfigError, quoted};
use super::keys::{ENV_PREFIX, KEYS, Key, SECTIONS};
use super::value::{Codec, Kind, Problem};
use super::word::nearest;

/// What one source says of one key.
#[derive(Clone, Debug)]
struct Setting {
    text: String,
    /// `stillhere.toml:3`; `None` when `written` already names the place.
    place: Option<String>,
    /// What stands there, such as `[detector] interval = "10"`.
    written: String,
}

/// What all sources say, the strongest for each key, and what was wrong with them.
#[derive(Debug)]
pub(super) struct Settings {
    /// In the order of [`KEYS`].
    settings: Vec<Option<Setting>>,
    pub(super) errors: Vec<ConfigError>,
}

impl Settings {
    pub(super) fn new() -> Settings {
        Settings { settings: vec![None; KEYS.len()], errors: Vec::new() }
    }

    /// Reads a file; a file that can't be read is an error like any other.
    pub(super) fn add_file(&mut self, path: &Path) {
        match std::fs::read_to_string(path) {
            Ok(text) => self.add_toml(&path.display().to_string(), &text),
            Err(error) => self.errors.push(ConfigError {
                place: None,
                key: None,
                message: format!(
                    "can't read the configuration {0}: {error}; `stillhere config default > {0}` writes one to start \
                     from",
                    path.display()
                ),
            }),
        }
    }

    /// Reads the text of a file called `name`.
    pub(super) fn add_toml(&mut self, name: &str, text: &str) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut file = File { name, text, broken: Vec::new() };
        for error in &errors {
            let line = file.line(error.span().map_or(0, |span| span.start));
            let written = text.lines().nth(line - 1).unwrap_or_default().trim();
            let what = error.message().split(", expected").next().unwrap_or_default();
            let message = format!("`{}`: this is not TOML: {}", quoted(written), quoted(what));
            self.refuse(format!("{name}:{line}"), message);
            file.broken.push(line);
        }
        // After a broken heading nobody knows which section the keys belong to.
        let headings_hold = !file
            .broken
            .iter()
            .any(|line| text.lines().nth(line - 1).unwrap_or_default().trim_start().starts_with('['));
        if headings_hold {
            self.add_sections(&file, table.get_ref());
        }
    }

    fn add_sections(&mut self, file: &File<'_>, table: &DeTable<'_>) {
        for (name, value) in file.entries(table) {
            let section: &str = name.get_ref();
            let known = SECTIONS.iter().any(|(known, _)| *known == section);
            match value.get_ref() {
                DeValue::Table(keys) if known => self.add_keys(file, section, keys),
                _ if known => self.refuse(
                    file.place(name.span().start),
                    format!("`{section}` is a section: write [{section}] on a line of its own, then its keys"),
                ),
                DeValue::Table(_) => {
                    let nearest = nearest(section, SECTIONS.iter().map(|(name, _)| *name)).unwrap_or_default();
                    let shown = quoted(section);
                    self.refuse(
                        file.place(name.span().start),
                        format!("there is no section [{shown}]; did you mean [{nearest}]?"),
                    );
                }
                _ => self.refuse_key(file.place(name.span().start), "", section),
            }
        }
    }

    fn add_keys(&mut self, file: &File<'_>, section: &str, keys: &DeTable<'_>) {
        for (name, value) in file.entries(keys) {
            let place = file.place(name.span().start);
            let Some(index) = Key::position(section, name.get_ref()) else {
                self.refuse_key(place, section, name.get_ref());
                continue;
            };
            let key = &KEYS[index];
            let written = format!("[{section}] {} = {}", key.name, quoted(file.slice(value)));
            match toml_text(key.kind, value.get_ref()) {
                Ok(text) => self.settings[index] = Some(Setting { text, place: Some(place), written }),
                Err(clause) => self.errors.push(ConfigError {
                    place: Some(place),
                    key: Some(key.path()),
                    message: format!("`{written}`: {clause}"),
                }),
            }
        }
    }

    /// Reads the names that begin with `STILLHERE_`; others aren't ours.
    pub(super) fn add_env(&mut self, env: impl Iterator<Item = (String, String)>) {
        let names: Vec<String> = KEYS.iter().map(Key::env).collect();
        let mut ours: Vec<(String, String)> = env.filter(|(name, _)| name.starts_with(ENV_PREFIX)).collect();
        ours.sort();
        for (name, text) in ours {
            let Some(index) = names.iter().position(|known| *known == name) else {
                let nearest = nearest(&name, names.iter().map(String::as_str)).unwrap_or_default();
                self.errors.push(ConfigError {
                    place: None,
                    key: None,
                    message: format!(
                        "{} in the environment is no setting; did you mean {nearest}? `stillhere config env` lists all",
                        quoted(&name)
                    ),
                });
                continue;
            };
            let written = format!("{name}=\"{}\"", quoted(&text));
            self.settings[index] = Some(Setting { text, place: None, written });
        }
    }

    /// Reads a flag such as `--listen`, if it was given.
    pub(super) fn add_flag(&mut self, flag: &'static str, text: Option<&str>) {
        let Some(text) = text else { return };
        let index = KEYS.iter().position(|key| key.flag == Some(flag));
        let index = index.expect("every flag of `Flags` stands in the table of keys");
        let written = format!("{flag} {}", quoted(text));
        self.settings[index] = Some(Setting { text: text.to_owned(), place: None, written });
    }

    fn refuse(&mut self, place: String, message: String) {
        self.errors.push(ConfigError { place: Some(place), key: None, message });
    }

    /// An unknown key: the nearest of the same section, unless one elsewhere is much nearer.
    fn refuse_key(&mut self, place: String, section: &str, name: &str) {
        const ELSEWHERE: usize = 2;
        let distance = |key: &&Key| {
            let mistakes = strsim::damerau_levenshtein(name, key.name);
            mistakes + if key.section == section { 0 } else { ELSEWHERE }
        };
        let nearest = KEYS.iter().min_by_key(distance).expect("there are keys");
        let shown = quoted(name);
        let unknown = if section.is_empty() {
            format!("`{shown}` is no key outside of a section")
        } else {
            format!("`{shown}` is no key of [{section}]")
        };
        let meant = if nearest.section == section {
            format!("`{}`", nearest.name)
        } else {
            format!("`{}` of [{}]", nearest.name, nearest.section)
        };
        self.refuse(place, format!("{unknown}; did you mean {meant}?"));
    }
}

/// Makes values of the settings, one key at a time.
pub(super) struct Reader<'a> {
    settings: &'a [Option<Setting>],
    pub(super) errors: Vec<ConfigError>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(settings: &'a Settings) -> Reader<'a> {
        Reader { settings: &settings.settings, errors: Vec::new() }
    }

    /// The value of a key; its default when nobody set it or what was set is wrong.
    pub(super) fn read<C: Codec<T>, T: PartialOrd + Absent>(&mut self, section: &str, name: &str) -> T {
        let index = Key::position(section, name).expect("the table reads its own keys");
        let key = &KEYS[index];
        if let Some(setting) = &self.settings[index] {
            match parse::<C, T>(key, &setting.text) {
                Ok(value) => return value,
                Err(clause) => self.errors.push(ConfigError {
                    place: setting.place.clone(),
                    key: Some(key.path()),
                    message: format!("`{}`: {clause}", setting.written),
                }),
            }
        }
        match key.default {
            Some(default) => parse::<C, T>(key, default).expect("defaults are in range"),
            None => T::absent().expect("only overrides have no default"),
        }
    }
}

/// The value of a setting that nobody set and that has no default.
pub(super) trait Absent: Sized {
    fn absent() -> Option<Self> {
        None
    }
}

impl<T> Absent for Option<T> {
    fn absent() -> Option<Self> {
        Some(None)
    }
}

macro_rules! never_absent {
    ($($type:ty),* $(,)?) => { $(impl Absent for $type {})* };
}

never_absent!(
    bool,
    u32,
    u64,
    usize,
    &'static str,
    std::net::SocketAddr,
    std::path::PathBuf,
    std::time::Duration,
    super::word::AuthMode,
    super::word::Format,
    super::word::Level,
    super::word::RoomsBy,
    super::word::Rotate,
    Vec<String>,
    Vec<super::network::Network>,
    super::word::SessionsPolicy,
    super::word::Strangers,
);

fn parse<C: Codec<T>, T: PartialOrd>(key: &Key, text: &str) -> Result<T, String> {
    let out_of_range = || match key.range {
        Some((low, high)) => format!("this must be from {low} to {high}"),
        None => "this is too large".to_owned(),
    };
    let value = C::parse(text.trim()).map_err(|problem| match problem {
        Problem::Form(clause) => clause,
        Problem::Range => out_of_range(),
    })?;
    if let Some((low, high)) = key.range {
        let bound = |text| C::parse(text).expect("ranges are written as values are");
        if value < bound(low) || value > bound(high) {
            return Err(out_of_range());
        }
    }
    Ok(value)
}

/// The text of a TOML value, as it would stand in the environment; or a clause that says how to write it.
fn toml_text(kind: Kind, value: &DeValue<'_>) -> Result<String, &'static str> {
    match (kind, value) {
        (Kind::Switch, DeValue::Boolean(value)) => Ok(value.to_string()),
        (Kind::Switch, DeValue::String(_)) => Err("write true or false without quotes"),
        (Kind::Switch, _) => Err("this is either true or false"),
        (Kind::Count, DeValue::Integer(value)) => Ok(decimal(value)),
        (Kind::Count, DeValue::String(_)) => Err("write the number without quotes"),
        (Kind::Count, _) => Err("this must be a whole number, such as 1000"),
        (Kind::List, DeValue::Array(values)) => {
            let text = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
                DeValue::String(text) => Ok(text.to_string()),
                _ => Err("every element of this list is written in \"quotes\""),
            };
            Ok(values.iter().map(text).collect::<Result<Vec<_>, _>>()?.join(","))
        }
        (Kind::List, _) => Err("this is a list: [\"one\", \"another\"]"),
        (_, DeValue::String(value)) => Ok(value.to_string()),
        // The codec then asks for the unit, with an example made from the number.
        (Kind::Span | Kind::Size, DeValue::Integer(value)) => Ok(decimal(value)),
        (Kind::Span, _) => Err("a duration is written in quotes, such as \"10s\""),
        (Kind::Size, _) => Err("a size is written in quotes, such as \"64KiB\""),
        (Kind::Address, _) => Err("an address is written in quotes, such as \"127.0.0.1:14000\""),
        (Kind::Word | Kind::Path, _) => Err("this is written as text in \"quotes\""),
    }
}

fn decimal(value: &DeInteger<'_>) -> String {
    match i128::from_str_radix(value.as_str(), value.radix()) {
        Ok(number) => number.to_string(),
        Err(_) => value.to_string(),
    }
}

/// A key or section and its value.
type Entry<'t, 'i> = (&'t Spanned<DeString<'i>>, &'t Spanned<DeValue<'i>>);

struct File<'a> {
    name: &'a str,
    text: &'a str,
    /// Lines that are no TOML; what the parser made of them means nothing.
    broken: Vec<usize>,
}

impl File<'_> {
    /// Entries as they stand in the file, so that errors come in its order.
    fn entries<'t, 'i>(&self, table: &'t DeTable<'i>) -> Vec<Entry<'t, 'i>> {
        let sound = |entry: &Entry<'_, '_>| !self.broken.contains(&self.line(entry.0.span().start));
        let mut entries: Vec<_> = table.iter().filter(sound).collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        entries
    }

    /// The number of the line there, from 1.
    fn line(&self, offset: usize) -> usize {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }

    fn place(&self, offset: usize) -> String {
        format!("{}:{}", self.name, self.line(offset))
    }

    fn slice(&self, value: &Spanned<DeValue<'_>>) -> &str {
        self.text.get(value.span()).unwrap_or_default()
    }
}
