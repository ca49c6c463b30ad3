//! How values are written and shown: one codec for each kind, shared by file, environment and flags.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::network::{Network, ParseNetworkError};

/// What a value looks like, for messages and for what TOML type it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An IP address with a port, in quotes.
    Address,
    /// `true` or `false`.
    Switch,
    /// A whole number.
    Count,
    /// A time with units, in quotes: `"10s"`, `"1h30m"`.
    Span,
    /// A number of bytes with its unit, in quotes: `"64KiB"`.
    Size,
    /// One word of a list, in quotes.
    Word,
    /// A path, in quotes.
    Path,
    /// Texts in quotes, between brackets; with commas between them where there are no brackets.
    List,
}

impl Kind {
    /// The kind in a word or two, for tables.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Address => "address",
            Kind::Switch => "true/false",
            Kind::Count => "number",
            Kind::Span => "duration",
            Kind::Size => "size",
            Kind::Word => "word",
            Kind::Path => "path",
            Kind::List => "list",
        }
    }
}

/// Why a text is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// It isn't written as its kind is; a clause that says how.
    Form(String),
    /// It is beyond what the type can hold, so surely out of the key's range.
    Range,
}

impl Problem {
    pub(super) fn form(what: impl Into<String>) -> Problem {
        Problem::Form(what.into())
    }
}

/// Reads and shows values of type `T`.
pub(super) trait Codec<T> {
    const KIND: Kind;

    fn parse(text: &str) -> Result<T, Problem>;

    /// The value as it would be written; `None` when it isn't set.
    fn show(value: &T) -> Option<String>;
}

/// A setting that may be absent.
pub(super) struct Optional<C>(C);

impl<T, C: Codec<T>> Codec<Option<T>> for Optional<C> {
    const KIND: Kind = C::KIND;

    fn parse(text: &str) -> Result<Option<T>, Problem> {
        C::parse(text).map(Some)
    }

    fn show(value: &Option<T>) -> Option<String> {
        value.as_ref().and_then(C::show)
    }
}

/// `127.0.0.1:14000`
pub(super) struct Address;

impl Codec<SocketAddr> for Address {
    const KIND: Kind = Kind::Address;

    fn parse(text: &str) -> Result<SocketAddr, Problem> {
        text.parse().map_err(|_| {
            Problem::form("an address is an IP address and a port, such as \"127.0.0.1:14000\" or \"[::1]:14000\"")
        })
    }

    fn show(value: &SocketAddr) -> Option<String> {
        Some(value.to_string())
    }
}

/// `true`
pub(super) struct Switch;

impl Codec<bool> for Switch {
    const KIND: Kind = Kind::Switch;

    fn parse(text: &str) -> Result<bool, Problem> {
        text.parse().map_err(|_| Problem::form("this is either true or false"))
    }

    fn show(value: &bool) -> Option<String> {
        Some(value.to_string())
    }
}

/// `1000`
pub(super) struct Count;

impl<T: TryFrom<i128> + fmt::Display> Codec<T> for Count {
    const KIND: Kind = Kind::Count;

    fn parse(text: &str) -> Result<T, Problem> {
        let number: i128 = text.parse().map_err(|_| Problem::form("this must be a whole number, such as 1000"))?;
        T::try_from(number).map_err(|_| Problem::Range)
    }

    fn show(value: &T) -> Option<String> {
        Some(value.to_string())
    }
}

/// `64KiB`
pub(super) struct Size;

const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl<T: TryFrom<u64> + TryInto<u64> + Copy> Codec<T> for Size {
    const KIND: Kind = Kind::Size;

    fn parse(text: &str) -> Result<T, Problem> {
        let (number, unit) = text.split_at(digits(text));
        if number.is_empty() {
            return Err(Problem::form("a size is a whole number and a unit, such as \"64KiB\""));
        }
        let unit = unit.trim_start();
        if unit.is_empty() {
            return Err(Problem::form(format!("a size needs a unit, such as \"{number}B\" or \"64KiB\"")));
        }
        let Some((_, factor)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(Problem::form(format!("`{unit}` is no unit of size: use B, KiB, MiB or GiB")));
        };
        let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor)).ok_or(Problem::Range)?;
        T::try_from(bytes).map_err(|_| Problem::Range)
    }

    fn show(value: &T) -> Option<String> {
        let bytes: u64 = (*value).try_into().ok()?;
        let (unit, factor) = SIZE_UNITS.iter().find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor))?;
        Some(format!("{}{unit}", bytes / factor))
    }
}

/// `1h30m`
pub(super) struct Span;

const SPAN_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl Codec<Duration> for Span {
    const KIND: Kind = Kind::Span;

    fn parse(text: &str) -> Result<Duration, Problem> {
        if text == "0" {
            return Ok(Duration::ZERO);
        }
        let mut rest = text;
        let mut millis = 0_u64;
        let mut last_factor = u64::MAX;
        while !rest.is_empty() || last_factor == u64::MAX {
            let (number, tail) = rest.split_at(digits(rest));
            if number.is_empty() {
                return Err(Problem::form("a duration is whole numbers with units, such as \"10s\" or \"1h30m\""));
            }
            let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
            if unit.is_empty() {
                return Err(Problem::form(format!("a duration needs a unit, such as \"{number}s\"")));
            }
            if unit.starts_with('.') {
                return Err(Problem::form("a duration has whole numbers only: \"1500ms\" instead of \"1.5s\""));
            }
            let Some((_, factor)) = SPAN_UNITS.iter().find(|(name, _)| *name == unit) else {
                return Err(Problem::form(format!("`{unit}` is no unit of time: use ms, s, m or h")));
            };
            if *factor >= last_factor {
                return Err(Problem::form("a duration goes from the largest unit to the smallest, such as \"1h30m\""));
            }
            let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
            millis = part.and_then(|part| part.checked_add(millis)).ok_or(Problem::Range)?;
            last_factor = *factor;
            rest = tail;
        }
        Ok(Duration::from_millis(millis))
    }

    fn show(value: &Duration) -> Option<String> {
        Some(span(*value))
    }
}

/// A duration as it is written in the configuration, to the millisecond: `1h30m`, `65s` as `1m5s`, `500ms`.
pub fn span(value: Duration) -> String {
    let mut millis = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, factor) in SPAN_UNITS {
        if millis >= factor {
            text.push_str(&format!("{}{unit}", millis / factor));
            millis %= factor;
        }
    }
    text
}

fn digits(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len())
}

/// A path of a directory.
pub(super) struct Directory;

impl Codec<PathBuf> for Directory {
    const KIND: Kind = Kind::Path;

    fn parse(text: &str) -> Result<PathBuf, Problem> {
        if text.is_empty() {
            return Err(Problem::form("this must name a directory, such as \"./stillhere-data\""));
        }
        Ok(PathBuf::from(text))
    }

    fn show(value: &PathBuf) -> Option<String> {
        Some(value.display().to_string())
    }
}

/// A path of a file, or nothing.
pub(super) struct OptionalFile;

impl Codec<Option<PathBuf>> for OptionalFile {
    const KIND: Kind = Kind::Path;

    fn parse(text: &str) -> Result<Option<PathBuf>, Problem> {
        let path = PathBuf::from(text);
        if text.is_empty() {
            return Ok(None);
        }
        if path.file_name().is_none() || text.ends_with('/') {
            return Err(Problem::form("this must name a file, such as \"logs/stillhere.log\""));
        }
        Ok(Some(path))
    }

    fn show(value: &Option<PathBuf>) -> Option<String> {
        Some(value.as_ref().map(|path| path.display().to_string()).unwrap_or_default())
    }
}

/// `10.0.0.0/8, ::1`
pub(super) struct Networks;

impl Codec<Vec<Network>> for Networks {
    const KIND: Kind = Kind::List;

    fn parse(text: &str) -> Result<Vec<Network>, Problem> {
        parse_list(text, |text| {
            text.parse().map_err(|error: ParseNetworkError| Problem::form(format!("`{text}`: {error}")))
        })
    }

    fn show(value: &Vec<Network>) -> Option<String> {
        Some(value.iter().map(Network::to_string).collect::<Vec<_>>().join(", "))
    }
}

/// `https://example.com`
pub(super) struct Origins;

impl Codec<Vec<String>> for Origins {
    const KIND: Kind = Kind::List;

    fn parse(text: &str) -> Result<Vec<String>, Problem> {
        parse_list(text, |text| {
            let host = text.split_once("://").filter(|(scheme, _)| !scheme.is_empty()).map(|(_, host)| host);
            match host {
                Some(host) if !host.is_empty() && !host.contains(['/', '*', '@']) => Ok(text.to_ascii_lowercase()),
                Some(_) | None => Err(Problem::form(format!(
                    "`{text}`: an origin is a scheme and a host, with a port unless it is the usual one, such as \
                     \"https://example.com\""
                ))),
            }
        })
    }

    fn show(value: &Vec<String>) -> Option<String> {
        Some(value.join(", "))
    }
}

fn parse_list<T>(text: &str, parse: impl Fn(&str) -> Result<T, Problem>) -> Result<Vec<T>, Problem> {
    text.split(',').map(str::trim).filter(|text| !text.is_empty()).map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_span(text: &str) -> Result<u64, Problem> {
        Span::parse(text).map(|span| span.as_millis() as u64)
    }

    fn form_of<T: fmt::Debug>(result: Result<T, Problem>) -> String {
        match result {
            Err(Problem::Form(what)) => what,
            other => panic!("expected a problem of form, not {other:?}"),
        }
    }

    #[test]
    fn durations_are_read_with_their_units() {
        for (text, millis) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("30m", 1_800_000),
            ("24h", 86_400_000),
            ("1h30m", 5_400_000),
            ("1s500ms", 1500),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(parse_span(text), Ok(millis), "{text}");
        }
    }

    #[test]
    fn a_duration_shown_is_read_back_as_itself() {
        for millis in [0, 1, 999, 1000, 1500, 65_000, 86_400_000, 90_061_001] {
            let shown = span(Duration::from_millis(millis));
            assert_eq!(parse_span(&shown), Ok(millis), "{shown}");
        }
    }

    #[test]
    fn a_wrong_duration_says_how_to_write_it() {
        for (text, clause) in [
            ("10", "a duration needs a unit, such as \"10s\""),
            ("", "such as \"10s\""),
            ("-1s", "whole numbers with units"),
            ("ten", "whole numbers with units"),
            ("1.5s", "\"1500ms\" instead of"),
            ("10sec", "`sec` is no unit of time"),
            ("30m1h", "from the largest unit"),
            ("1s1s", "from the largest unit"),
            ("1h30", "such as \"30s\""),
        ] {
            let form = form_of(Span::parse(text));
            assert!(form.contains(clause), "{text}: {form}");
        }
        assert_eq!(parse_span("99999999999999999999h"), Err(Problem::Range));
    }

    #[test]
    fn sizes_are_read_with_their_units_and_shown_in_the_largest() {
        for (text, bytes, shown) in [
            ("64KiB", 65_536_usize, "64KiB"),
            ("1024 KiB", 1 << 20, "1MiB"),
            ("512B", 512, "512B"),
            ("1536B", 1536, "1536B"),
        ] {
            assert_eq!(Size::parse(text), Ok(bytes), "{text}");
            assert_eq!(Size::show(&bytes).as_deref(), Some(shown));
        }
        assert!(form_of(<Size as Codec<u32>>::parse("65536")).contains("needs a unit, such as \"65536B\""));
        assert!(form_of(<Size as Codec<u32>>::parse("64KB")).contains("use B, KiB, MiB or GiB"));
        assert!(form_of(<Size as Codec<u32>>::parse("KiB")).contains("a whole number and a unit"));
        assert_eq!(<Size as Codec<u32>>::parse("4GiB"), Err(Problem::Range));
    }

    #[test]
    fn lists_are_read_with_commas_and_shown_so() {
        let shown = |text| Networks::parse(text).map(|list| Networks::show(&list).unwrap_or_default());
        assert_eq!(shown("10.0.0.0/8,::1 , 192.0.2.7"), Ok("10.0.0.0/8, ::1/128, 192.0.2.7/32".to_owned()));
        assert_eq!(shown(""), Ok(String::new()));
        assert!(form_of(Networks::parse("10.0.0.1/8")).contains("10.0.0.0/8"));
        assert_eq!(Origins::parse("https://A.example"), Ok(vec!["https://a.example".to_owned()]));
        for wrong in ["example.com", "https://", "https://a/b", "*", "https://*.example.com", "null"] {
            assert!(form_of(Origins::parse(wrong)).contains("such as"), "{wrong}");
        }
    }

    #[test]
    fn numbers_beyond_their_type_are_out_of_range_not_malformed() {
        assert_eq!(<Count as Codec<u16>>::parse("70000"), Err(Problem::Range));
        assert_eq!(<Count as Codec<u16>>::parse("-1"), Err(Problem::Range));
        assert!(form_of(<Count as Codec<u16>>::parse("many")).contains("whole number"));
    }
}
