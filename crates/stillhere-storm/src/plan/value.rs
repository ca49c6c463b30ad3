//! How values of a plan are written: durations, sizes, rates and steps, and what to say about those that aren't.
//!
//! An error here is a clause that says what to write instead; who reads a file or a flag adds the place.

use std::time::Duration;

use stillhere_core::text::{Escaped, clip};

use super::Step;

const SPAN_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// `10s`, `1m30s`, `500ms`. What is longer than can be counted comes out as the longest that can.
pub fn span(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut millis = 0_u64;
    let mut last = u64::MAX;
    while !rest.is_empty() || last == u64::MAX {
        let (number, tail) = rest.split_at(digits(rest));
        if number.is_empty() {
            return Err("write whole numbers with units, such as \"10s\" or \"1m30s\"".to_owned());
        }
        let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        if unit.is_empty() {
            return Err(format!("a duration needs a unit: write \"{number}s\" or \"{number}ms\""));
        }
        if unit.starts_with('.') {
            return Err("a duration has whole numbers only: write \"1500ms\" instead of \"1.5s\"".to_owned());
        }
        let Some((_, factor)) = SPAN_UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!("`{}` is no unit of time: write ms, s, m or h", quoted(unit)));
        };
        if *factor >= last {
            return Err("write the largest unit first, each once, such as \"1m30s\"".to_owned());
        }
        millis = millis.saturating_add(number.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(*factor));
        last = *factor;
        rest = tail;
    }
    Ok(Duration::from_millis(millis))
}

/// A duration as it is written, to the millisecond.
pub(super) fn show_span(value: Duration) -> String {
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

/// `64KiB`. What is larger than can be counted comes out as the largest that can.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = text.split_at(digits(text));
    if number.is_empty() {
        return Err("write a whole number and a unit, such as \"64KiB\"".to_owned());
    }
    let unit = unit.trim_start();
    if unit.is_empty() {
        return Err(format!("a size needs a unit: write \"{number}B\" or, say, \"64KiB\""));
    }
    let Some((_, factor)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(format!("`{}` is no unit of size: write B, KiB, MiB or GiB", quoted(unit)));
    };
    Ok(number.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(*factor))
}

/// A size as it is written, in the largest unit that keeps it whole.
pub(super) fn show_size(bytes: u64) -> String {
    let whole = SIZE_UNITS.iter().find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor));
    whole.map_or_else(|| "0B".to_owned(), |(unit, factor)| format!("{}{unit}", bytes / factor))
}

/// `1000/s` or `0.5/s`.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").map(str::trim_end);
    match number.and_then(plain) {
        Some(rate) => Ok(rate),
        None if plain(text).is_some() => Err(format!("a rate in quotes needs its unit: write \"{}/s\"", quoted(text))),
        None => Err("write how many a second, such as \"1000/s\"".to_owned()),
    }
}

/// `100/s for 10s` or `100/s to 1000/s for 30s`.
pub(super) fn step(text: &str) -> Result<Step, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (from, to, lasts) = match words[..] {
        [rate, "for", lasts] => (rate, rate, lasts),
        [from, "to", to, "for", lasts] => (from, to, lasts),
        _ => return Err("write a step as \"100/s for 10s\" or \"100/s to 1000/s for 30s\"".to_owned()),
    };
    let lasts = span(lasts)?;
    if lasts.is_zero() {
        return Err("a step lasts longer than nothing: write \"1ms\" or more".to_owned());
    }
    Ok(Step { from: rate(from)?, to: rate(to)?, lasts })
}

/// A number without sign, exponent or unit.
pub(super) fn plain(text: &str) -> Option<f64> {
    let is_plain =
        text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    is_plain.then(|| text.parse().ok()).flatten()
}

/// How many digits a text begins with.
fn digits(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len())
}

/// The name with the fewest typing mistakes from `text`; nothing only if there are no names.
pub(super) fn nearest<'a>(text: &str, names: impl IntoIterator<Item = &'a str>) -> &'a str {
    // Comparing takes the product of the lengths, and no name is as long as this.
    let text = clip(text, 64);
    names.into_iter().min_by_key(|name| strsim::damerau_levenshtein(text, name)).unwrap_or_default()
}

/// What somebody wrote, short and harmless enough for a message: its first line.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN_MAX: usize = 60;
    let shown = clip(text.lines().next().unwrap_or_default(), SHOWN_MAX);
    let more = if shown.len() < text.len() { "…" } else { "" };
    format!("{}{more}", Escaped(shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_and_shown() {
        for (text, millis) in [("10s", 10_000), ("1m30s", 90_000), ("500ms", 500), ("0", 0), ("1h", 3_600_000)] {
            assert_eq!(span(text), Ok(Duration::from_millis(millis)), "{text}");
            assert_eq!(span(&show_span(Duration::from_millis(millis))), Ok(Duration::from_millis(millis)));
        }
        for (text, bytes) in [("64KiB", 65_536), ("1 MiB", 1 << 20), ("7B", 7), ("0B", 0)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
            assert_eq!(size(&show_size(bytes)), Ok(bytes));
        }
        assert_eq!(span("99999999999999999999h"), Ok(Duration::from_millis(u64::MAX)));
        assert_eq!(size("99999999999999999999GiB"), Ok(u64::MAX));
    }

    #[test]
    fn rates_and_steps_are_read() {
        assert_eq!((rate("1000/s"), rate("0.5/s"), rate("0/s")), (Ok(1000.0), Ok(0.5), Ok(0.0)));
        let lasts = Duration::from_secs(10);
        assert_eq!(step("100/s for 10s"), Ok(Step { from: 100.0, to: 100.0, lasts }));
        assert_eq!(step(" 1/s  to 2.5/s for 10s"), Ok(Step { from: 1.0, to: 2.5, lasts }));
    }

    #[test]
    fn what_is_wrong_says_what_to_write() {
        for (text, says) in [
            ("10", "write \"10s\" or"),
            ("", "such as \"10s\""),
            ("-1s", "whole numbers"),
            ("1.5s", "\"1500ms\" instead"),
            ("10sec", "`sec` is no unit of time"),
            ("30s1m", "largest unit first"),
        ] {
            let told = span(text).unwrap_err();
            assert!(told.contains(says), "{text}: {told}");
        }
        for (text, says) in [("64", "write \"64B\""), ("64KB", "`KB` is no unit of size"), ("KiB", "a whole number")] {
            let told = size(text).unwrap_err();
            assert!(told.contains(says), "{text}: {told}");
        }
        for (text, says) in
            [("1000", "write \"1000/s\""), ("-1/s", "such as \"1000/s\""), ("1e9/s", "how many a second")]
        {
            let told = rate(text).unwrap_err();
            assert!(told.contains(says), "{text}: {told}");
        }
        for text in ["100/s", "100/s for", "100/s until 10s", "1/s to 2/s to 3/s for 1s", ""] {
            assert!(step(text).unwrap_err().contains("\"100/s for 10s\""), "{text}");
        }
    }
}
