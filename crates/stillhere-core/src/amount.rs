//! Durations, sizes and numbers as people write them: `1m30s`, `64KiB`, `12,345`.

use std::fmt::Display;
use std::time::Duration;

use crate::text::{Escaped, clip};

const SPAN_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
/// Bytes of a wrong unit that an error repeats.
const UNIT_SHOWN_MAX: usize = 24;

/// Why a text is no amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// It isn't written as amounts are; a clause that says what to write.
    #[error("{0}")]
    Form(String),
    /// It is more than can be counted, so surely more than is wanted.
    #[error("this is more than can be counted")]
    TooLarge,
}

impl AmountError {
    fn form(what: impl Into<String>) -> AmountError {
        AmountError::Form(what.into())
    }
}

/// Reads `10s`, `1m30s`, `500ms`: whole numbers with units, the largest first, each once. `0` needs no unit.
///
/// # Errors
/// [`AmountError`]
pub fn span(text: &str) -> Result<Duration, AmountError> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut millis = 0_u64;
    let mut last = u64::MAX;
    while !rest.is_empty() || last == u64::MAX {
        let (number, tail) = rest.split_at(digits(rest));
        if number.is_empty() {
            return Err(AmountError::form("write whole numbers with units, such as \"10s\" or \"1m30s\""));
        }
        let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        if unit.is_empty() {
            return Err(AmountError::form(format!("a duration needs a unit: write \"{number}s\" or \"{number}ms\"")));
        }
        if unit.starts_with('.') {
            return Err(AmountError::form("a duration has whole numbers only: write \"1500ms\" instead of \"1.5s\""));
        }
        let Some((_, factor)) = SPAN_UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(AmountError::form(format!("`{}` is no unit of time: write ms, s, m or h", quoted(unit))));
        };
        if *factor >= last {
            return Err(AmountError::form("write the largest unit first, each once, such as \"1m30s\""));
        }
        let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
        millis = part.and_then(|part| part.checked_add(millis)).ok_or(AmountError::TooLarge)?;
        last = *factor;
        rest = tail;
    }
    Ok(Duration::from_millis(millis))
}

/// A duration as [`span`] reads it, to the millisecond: `1h30m`, 65 seconds as `1m5s`.
pub fn show_span(value: Duration) -> String {
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

/// Reads `64KiB`: a whole number and a unit. Bytes.
///
/// # Errors
/// [`AmountError`]
pub fn size(text: &str) -> Result<u64, AmountError> {
    let (number, unit) = text.split_at(digits(text));
    if number.is_empty() {
        return Err(AmountError::form("write a whole number and a unit, such as \"64KiB\""));
    }
    let unit = unit.trim_start();
    if unit.is_empty() {
        return Err(AmountError::form(format!("a size needs a unit: write \"{number}B\" or, say, \"64KiB\"")));
    }
    let Some((_, factor)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(AmountError::form(format!("`{}` is no unit of size: write B, KiB, MiB or GiB", quoted(unit))));
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor)).ok_or(AmountError::TooLarge)
}

/// A number of bytes as [`size`] reads it, in the largest unit that keeps it whole.
pub fn show_size(bytes: u64) -> String {
    let whole = SIZE_UNITS.iter().find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor));
    whole.map_or_else(|| "0B".to_owned(), |(unit, factor)| format!("{}{unit}", bytes / factor))
}

/// A whole number, not negative, with its thousands apart: `12,345`.
pub fn thousands(number: impl Display) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How many digits a text begins with.
fn digits(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len())
}

fn quoted(text: &str) -> String {
    Escaped(clip(text, UNIT_SHOWN_MAX)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_units_and_shown_so() {
        for (text, millis, shown) in [
            ("500ms", 500, "500ms"),
            ("10s", 10_000, "10s"),
            ("90s", 90_000, "1m30s"),
            ("24h", 86_400_000, "24h"),
            ("1h30m", 5_400_000, "1h30m"),
            ("1s500ms", 1500, "1s500ms"),
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
        ] {
            let read = Duration::from_millis(millis);
            assert_eq!(span(text), Ok(read), "{text}");
            assert_eq!((show_span(read).as_str(), span(shown)), (shown, Ok(read)));
        }
        assert_eq!(span("99999999999999999999h"), Err(AmountError::TooLarge));
        assert_eq!(span(&format!("{}h59m", u64::MAX / 3_600_000)), Err(AmountError::TooLarge));
    }

    #[test]
    fn a_wrong_duration_says_what_to_write() {
        for (text, says) in [
            ("10", "write \"10s\" or"),
            ("", "such as \"10s\""),
            ("-1s", "whole numbers"),
            ("ten", "whole numbers"),
            ("1.5s", "\"1500ms\" instead"),
            ("10sec", "`sec` is no unit of time"),
            ("30s1m", "largest unit first"),
            ("1s1s", "each once"),
            ("1h30", "write \"30s\" or"),
            ("1\u{1b}[2J", r"`\u{1b}[` is no unit"),
        ] {
            let told = span(text).unwrap_err().to_string();
            assert!(told.contains(says), "{text}: {told}");
        }
    }

    #[test]
    fn sizes_are_read_with_their_units_and_shown_in_the_largest() {
        for (text, bytes, shown) in [
            ("64KiB", 65_536, "64KiB"),
            ("1024 KiB", 1 << 20, "1MiB"),
            ("512B", 512, "512B"),
            ("1536B", 1536, "1536B"),
            ("0B", 0, "0B"),
        ] {
            assert_eq!((size(text), show_size(bytes).as_str()), (Ok(bytes), shown), "{text}");
        }
        assert_eq!(size("99999999999999999999GiB"), Err(AmountError::TooLarge));
    }

    #[test]
    fn a_wrong_size_says_what_to_write() {
        for (text, says) in [
            ("65536", "write \"65536B\""),
            ("64KB", "`KB` is no unit of size"),
            ("KiB", "a whole number"),
            ("-1B", "a whole number"),
        ] {
            let told = size(text).unwrap_err().to_string();
            assert!(told.contains(says), "{text}: {told}");
        }
    }

    #[test]
    fn thousands_are_apart() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
