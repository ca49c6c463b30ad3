//! Lists of the admin API, which come in pages.

use std::num::NonZeroUsize;

use serde::de::DeserializeOwned;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::admin::Admin;

/// The most sessions, or closed links, that the API gives at once.
const PAGE_MAX: usize = 20_000;
/// The same for lists that the gateway reads from its disk.
const STORED_PAGE_MAX: usize = 999;

/// Which part of a list is wanted.
#[derive(Clone, Copy, clap::Args)]
pub(super) struct Part {
    /// At most so many [default: as many as one page has]
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroUsize>,
    /// Everything, page after page
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

/// One answer of the API. Entries are kept as the gateway wrote them, so that `--json` passes on what this version
/// doesn't know.
#[derive(Deserialize)]
struct Page {
    #[serde(alias = "sessions", alias = "closed", alias = "users", alias = "bans", alias = "rooms", alias = "audit")]
    entries: Vec<Box<RawValue>>,
    /// How many there are, where that is known.
    total: Option<u64>,
    #[serde(default)]
    next: Option<String>,
}

/// Some entries of a list.
pub(super) struct List {
    /// The list's name in the API, such as `sessions`.
    name: &'static str,
    page: Page,
}

impl List {
    /// Fetches `/api/v1/NAME` with these filters.
    ///
    /// # Errors
    /// As [`Admin::get`].
    pub(super) fn fetch(
        admin: &Admin,
        name: &'static str,
        filters: &[(&str, String)],
        part: Part,
    ) -> anyhow::Result<List> {
        let path = format!("/api/v1/{name}");
        let page_max = if matches!(name, "sessions" | "closed") { PAGE_MAX } else { STORED_PAGE_MAX };
        let mut entries = Vec::new();
        let mut after = None;
        loop {
            let mut query = filters.to_vec();
            query.extend(after.map(|after| ("after", after)));
            query.extend(part.next_limit(entries.len(), page_max).map(|limit| ("limit", limit.to_string())));
            let Page { entries: more, total, next } = admin.get(&path, &query)?;
            // A page without entries would otherwise be asked for again for ever.
            let last = more.is_empty() || next.is_none();
            entries.extend(more);
            if last || part.is_full(entries.len()) {
                return Ok(List { name, page: Page { entries, total, next } });
            }
            after = next;
        }
    }

    /// Fetches a list that has no pages.
    ///
    /// # Errors
    /// As [`Admin::get`].
    pub(super) fn fetch_all_at_once(admin: &Admin, name: &'static str) -> anyhow::Result<List> {
        Ok(List { name, page: admin.get(&format!("/api/v1/{name}"), &[])? })
    }

    /// The entries as a type that knows them.
    ///
    /// # Errors
    /// When one isn't of that type.
    pub(super) fn entries<T: DeserializeOwned>(&self) -> anyhow::Result<Vec<T>> {
        self.page.entries.iter().map(|entry| Ok(serde_json::from_str(entry.get())?)).collect()
    }

    /// What to say below a table: how many there are, and how to see the rest.
    pub(super) fn summary(&self, noun: &str) -> String {
        let shown = self.page.entries.len() as u64;
        let Some(total) = self.page.total else {
            return match (shown, self.page.next.is_some()) {
                (0, _) => format!("no {noun}s\n"),
                (1, false) => format!("1 {noun}\n"),
                (shown, false) => format!("{shown} {noun}s\n"),
                (shown, true) => format!("{shown} {noun}s, and there are more; --all for all\n"),
            };
        };
        match (shown, total) {
            (0, 0) => format!("no {noun}s\n"),
            (1, 0..=1) => format!("1 {noun}\n"),
            (shown, total) if shown >= total => format!("{shown} {noun}s\n"),
            (shown, total) => format!("{shown} of {total} {noun}s; --all for all\n"),
        }
    }
}

impl Part {
    /// What to ask for after `so_far` entries; `None` leaves it to the API.
    fn next_limit(self, so_far: usize, page_max: usize) -> Option<usize> {
        if self.all {
            Some(page_max)
        } else {
            self.limit.map(|limit| limit.get().saturating_sub(so_far).clamp(1, page_max))
        }
    }

    fn is_full(self, so_far: usize) -> bool {
        !self.all && self.limit.is_none_or(|limit| so_far >= limit.get())
    }
}

impl Serialize for List {
    /// As the API writes it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(self.name, &self.page.entries)?;
        if let Some(total) = self.page.total {
            map.serialize_entry("total", &total)?;
        }
        map.serialize_entry("next", &self.page.next)?;
        map.end()
    }
}
