//! How values of a plan are written: durations, sizes, rates and steps, and what to say about those that aren't.
//!
//! An error here is a clause that says what to write instead; who reads a file or a flag adds the place.

use std::time::Duration;

use stillhere_core::amount::{self, AmountError};
use stillhere_core::text::{Escaped, clip};

use super::Step;

/// `10s`, `1m30s`, `500ms`. What is longer than can be counted comes out as the longest that can.
pub fn span(text: &str) -> Result<Duration, String> {
    match amount::span(text) {
        Err(AmountError::TooLarge) => Ok(Duration::from_millis(u64::MAX)),
        read => read.map_err(|error| error.to_string()),
    }
}

/// `64KiB`. What is larger than can be counted comes out as the largest that can.
pub(super) fn size(text: &str) -> Result<u64, String> {
    match amount::size(text) {
        Err(AmountError::TooLarge) => Ok(u64::MAX),
        read => read.map_err(|error| error.to_string()),
    }
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
    fn what_can_t_be_counted_is_the_most_that_can() {
        assert_eq!(span("99999999999999999999h"), Ok(Duration::from_millis(u64::MAX)));
        assert_eq!(size("99999999999999999999GiB"), Ok(u64::MAX));
        assert_eq!((span("1m30s"), size("64KiB")), (Ok(Duration::from_secs(90)), Ok(65_536)));
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
