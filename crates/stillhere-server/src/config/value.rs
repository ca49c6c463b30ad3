//! How values are written and shown: one codec for each kind, shared by file, environment and flags.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use stillhere_core::amount::{self, AmountError};

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

impl From<AmountError> for Problem {
    fn from(error: AmountError) -> Problem {
        match error {
            AmountError::Form(what) => Problem::Form(what),
            AmountError::TooLarge => Problem::Range,
        }
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

impl<T: TryFrom<u64> + TryInto<u64> + Copy> Codec<T> for Size {
    const KIND: Kind = Kind::Size;

    fn parse(text: &str) -> Result<T, Problem> {
        let bytes = amount::size(text)?;
        T::try_from(bytes).map_err(|_| Problem::Range)
    }

    fn show(value: &T) -> Option<String> {
        Some(amount::show_size((*value).try_into().ok()?))
    }
}

/// `1h30m`
pub(super) struct Span;

impl Codec<Duration> for Span {
    const KIND: Kind = Kind::Span;

    fn parse(text: &str) -> Result<Duration, Problem> {
        Ok(amount::span(text)?)
    }

    fn show(value: &Duration) -> Option<String> {
        Some(amount::show_span(*value))
    }
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

    fn form_of<T: fmt::Debug>(result: Result<T, Problem>) -> String {
        match result {
            Err(Problem::Form(what)) => what,
            other => panic!("expected a problem of form, not {other:?}"),
        }
    }

    #[test]
    fn durations_and_sizes_are_read_and_shown_as_everywhere() {
        assert_eq!(Span::parse("90s").map(|span| Span::show(&span)), Ok(Some("1m30s".to_owned())));
        assert_eq!(<Size as Codec<u32>>::parse("1024 KiB").map(|size| Size::show(&size)), Ok(Some("1MiB".to_owned())));
        assert!(form_of(Span::parse("10")).contains("needs a unit"));
        assert!(form_of(<Size as Codec<u32>>::parse("64KB")).contains("write B, KiB, MiB or GiB"));
        assert_eq!(Span::parse("99999999999999999999h"), Err(Problem::Range));
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
