//! A TOML table while a plan is read from it.
//!
//! Whoever reads asks for keys one after the other; what was asked for is what the section has, so that an unknown key
//! needs no list of its own. Nothing stops at the first mistake: each is noted with its line, its value counts as
//! absent, and all are told together.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::PlanError;
use super::check::{Fault, label, told};
use super::value::{nearest, quoted, rate, size, span};

/// The text of a plan, what stands where in it, and what is wrong with it.
pub(super) struct Page<'a> {
    name: &'a str,
    text: &'a str,
    /// By key (`crowd.count`): its line and what is written there.
    written: BTreeMap<String, (usize, String)>,
    /// By line.
    faults: Vec<(usize, String)>,
}

impl<'a> Page<'a> {
    /// A text that is called `name` in messages.
    pub(super) fn new(name: &'a str, text: &'a str) -> Page<'a> {
        Page { name, text, written: BTreeMap::new(), faults: Vec::new() }
    }

    /// Notes what is wrong at an offset of the text.
    pub(super) fn fault(&mut self, offset: usize, says: String) {
        let line = self.line(offset);
        self.faults.push((line, says));
    }

    /// Notes where something stands that is no key by itself.
    pub(super) fn note(&mut self, path: String, offset: usize, written: &str) {
        let line = self.line(offset);
        self.written.insert(path, (line, written.to_owned()));
    }

    /// Notes what is wrong with a key, where it stands; if it was left out, where its section begins.
    pub(super) fn place(&mut self, fault: Fault) {
        let Fault { key, says } = fault;
        if let Some((line, written)) = self.written.get(&key) {
            return self.faults.push((*line, format!("`{written}`: {says}")));
        }
        let section = key.rsplit_once('.').map_or("", |(section, _)| section);
        let line = self.written.get(section).map_or(0, |(line, _)| *line);
        self.faults.push((line, format!("{}: {says}", label(&key))));
    }

    /// Whether nothing is wrong so far.
    pub(super) fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    /// What is wrong, in the order of the text.
    pub(super) fn finish(mut self) -> Result<(), PlanError> {
        self.faults.sort();
        let name = quoted(self.name);
        let place = |(line, says)| match line {
            0 => format!("{name}: {says}"),
            line => format!("{name}:{line}: {says}"),
        };
        told(self.faults.into_iter().map(place).collect())
    }

    /// The number of the line there, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }

    fn slice(&self, value: &Spanned<DeValue<'_>>) -> String {
        quoted(self.text.get(value.span()).unwrap_or_default())
    }
}

/// A table under reading.
pub(super) struct Section<'p, 'a, 't> {
    page: &'p mut Page<'a>,
    /// `crowd`, `attack.0`; empty for the whole plan.
    path: String,
    /// `[crowd]`, `[[attack]]`.
    heading: String,
    table: Option<&'t DeTable<'t>>,
    asked: Vec<&'static str>,
}

impl<'p, 'a, 't> Section<'p, 'a, 't> {
    /// A table, or none: then every key is absent.
    pub(super) fn new(page: &'p mut Page<'a>, path: &str, heading: &str, table: Option<&'t DeTable<'t>>) -> Self {
        Section { page, path: path.to_owned(), heading: heading.to_owned(), table, asked: Vec::new() }
    }

    /// The page, for a section within this one.
    pub(super) fn page(&mut self) -> &mut Page<'a> {
        self.page
    }

    /// A key's value as it stands there.
    pub(super) fn take(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.asked.push(key);
        let (name, value) = self.table?.iter().find(|(name, _)| name.get_ref() == key)?;
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        let slice = self.page.slice(value);
        let has_heading = matches!(value.get_ref(), DeValue::Table(_)) && !slice.starts_with('{');
        let written = if has_heading { format!("[{key}]") } else { format!("{key} = {slice}") };
        self.page.written.insert(path, (self.page.line(name.span().start), written));
        Some(value)
    }

    /// A key's value, read by `read`; absent if it can't be.
    pub(super) fn value<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.take(key)?;
        match read(value.get_ref()) {
            Ok(value) => Some(value),
            Err(says) => {
                let written = self.page.slice(value);
                self.page.fault(value.span().start, format!("`{key} = {written}`: {says}"));
                None
            }
        }
    }

    /// A list of texts, each read by `read`, which says all about an error.
    pub(super) fn list<T>(&mut self, key: &'static str, read: impl Fn(&str) -> Result<T, PlanError>) -> Option<Vec<T>> {
        let value = self.take(key)?;
        let DeValue::Array(elements) = value.get_ref() else {
            let written = self.page.slice(value);
            let says = format!("`{key} = {written}`: write a list, such as [\"one\", \"another\"]");
            self.page.fault(value.span().start, says);
            return None;
        };
        let mut list = Vec::new();
        for (nth, element) in elements.iter().enumerate() {
            let written = self.page.slice(element);
            let DeValue::String(text) = element.get_ref() else {
                self.page.fault(element.span().start, format!("`{written}`: write it in \"quotes\""));
                continue;
            };
            match read(text) {
                Ok(one) => list.push(one),
                Err(error) => self.page.fault(element.span().start, error.0),
            }
            let line = self.page.line(element.span().start);
            self.page.written.insert(format!("{key}.{nth}"), (line, quoted(text)));
        }
        Some(list)
    }

    /// Notes the keys that nobody asked for.
    pub(super) fn end(self) {
        /// What stands above the first heading; TOML takes it for a part of a section that it stands below.
        const TOP: [&str; 4] = ["name", "about", "seed", "thresholds"];
        let Some(table) = self.table else { return };
        for (name, _) in table.iter() {
            let written: &str = name.get_ref();
            if self.asked.contains(&written) {
                continue;
            }
            let nearest = nearest(written, self.asked.iter().copied());
            let (shown, heading) = (quoted(written), &self.heading);
            let says = match self.path.as_str() {
                "" => format!("`{shown}` is no key and no section of a plan; did you mean {}?", top(nearest)),
                _ if TOP.contains(&written) => {
                    format!("`{shown}` is no key of {heading}: write it above the first [section]")
                }
                _ => format!("`{shown}` is no key of {heading}; did you mean `{nearest}`?"),
            };
            self.page.fault(start(name), says);
        }
    }
}

/// A key of the whole plan, as it is written.
fn top(key: &str) -> String {
    match key {
        "attack" => "[[attack]]".to_owned(),
        "target" | "time" | "crowd" | "load" | "search" | "frame" => format!("[{key}]"),
        key => format!("`{key}`"),
    }
}

/// Where a key begins.
fn start(name: &Spanned<DeString<'_>>) -> usize {
    name.span().start
}

/// A text.
pub(super) fn text(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        _ => Err("write it as text in \"quotes\"".to_owned()),
    }
}

/// True or false.
pub(super) fn switch(value: &DeValue<'_>) -> Result<bool, String> {
    match value {
        DeValue::Boolean(value) => Ok(*value),
        _ => Err("write true or false, without quotes".to_owned()),
    }
}

/// A whole number from 0; what is larger than the type can hold comes out as the largest that can.
pub(super) fn whole(value: &DeValue<'_>) -> Result<u64, String> {
    match value {
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => u64::try_from(number.max(-1))
                .or_else(|_| if number < 0 { Err("write a whole number from 0".to_owned()) } else { Ok(u64::MAX) }),
            Err(_) => Ok(u64::MAX),
        },
        DeValue::String(_) => Err("write the number without quotes".to_owned()),
        _ => Err("write a whole number, such as 100".to_owned()),
    }
}

/// The same, of 32 bits.
pub(super) fn count(value: &DeValue<'_>) -> Result<u32, String> {
    whole(value).map(|number| u32::try_from(number).unwrap_or(u32::MAX))
}

/// A number.
pub(super) fn number(value: &DeValue<'_>) -> Result<f64, String> {
    let number = match value {
        DeValue::Integer(_) => return whole(value).map(|number| number as f64),
        DeValue::Float(number) => number.as_str().parse::<f64>().ok(),
        _ => None,
    };
    number.filter(|number| number.is_finite()).ok_or_else(|| "write a number without quotes, such as 0.1".to_owned())
}

/// A duration in quotes.
pub(super) fn duration(value: &DeValue<'_>) -> Result<std::time::Duration, String> {
    match value {
        DeValue::String(text) => span(text),
        DeValue::Integer(number) => span(number.as_str()),
        _ => Err("write a duration in quotes, such as \"10s\"".to_owned()),
    }
}

/// A size in quotes, of 32 bits.
pub(super) fn bytes(value: &DeValue<'_>) -> Result<u32, String> {
    let bytes = match value {
        DeValue::String(text) => size(text)?,
        DeValue::Integer(number) => size(number.as_str())?,
        _ => return Err("write a size in quotes, such as \"64KiB\"".to_owned()),
    };
    Ok(u32::try_from(bytes).unwrap_or(u32::MAX))
}

/// A rate: `"1000/s"`, or a number, which is of one second.
pub(super) fn per_second(value: &DeValue<'_>) -> Result<f64, String> {
    match value {
        DeValue::String(text) => rate(text),
        value => number(value).map_err(|_| "write how many a second, such as \"1000/s\"".to_owned()),
    }
}

/// Something, or `false` for nothing.
pub(super) fn or_false<T>(
    read: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
) -> impl FnOnce(&DeValue<'_>) -> Result<Option<T>, String> {
    |value| match value {
        DeValue::Boolean(false) => Ok(None),
        value => read(value).map(Some),
    }
}

/// One word of a list.
pub(super) fn word<T: Copy>(words: &'static [(&'static str, T)]) -> impl FnOnce(&DeValue<'_>) -> Result<T, String> {
    move |value| {
        let written = text(value)?;
        let found = words.iter().find(|(word, _)| *word == written);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let nearest = nearest(&written, names.iter().copied());
            format!("did you mean \"{nearest}\"? It may be {}", names.join(", "))
        })
    }
}
