//! Figures for people: three digits and a unit.

use stillhere_core::amount;
use stillhere_core::text::{Escaped, clip};

use crate::plan::figure::Unit;

/// Characters of a name that a report shows. Names come from files, and a page has only so much room.
const SHOWN_MAX: usize = 160;

/// A value in its unit: microseconds, bytes or a number.
pub(super) fn value(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Time => time(value),
        Unit::Bytes => bytes(value),
        Unit::Number => number(value),
    }
}

/// Microseconds, as `830 µs`, `12.3 ms`, `1.25 s`.
pub fn time(us: f64) -> String {
    match us.abs() {
        0.0 => "0 µs".to_owned(),
        ..999.5 => format!("{} µs", digits(us)),
        ..999_500.0 => format!("{} ms", digits(us / 1e3)),
        ..119_500_000.0 => format!("{} s", digits(us / 1e6)),
        _ => format!("{} min", digits(us / 6e7)),
    }
}

/// Bytes, as `512 B`, `50.1 MiB`.
pub fn bytes(bytes: f64) -> String {
    let (mut value, mut unit) = (bytes, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value.abs() < 999.5 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    if unit == "B" { format!("{value:.0} B") } else { format!("{} {unit}", digits(value)) }
}

/// A number: whole ones with their thousands apart, others with three digits.
pub(super) fn number(value: f64) -> String {
    if value.fract() == 0.0 || value.abs() >= 999.5 { thousands(value) } else { digits(value) }
}

/// A count.
pub(super) fn count(value: u64) -> String {
    thousands(value as f64)
}

/// A value on an axis: as short as it goes.
pub(super) fn short(text: &str) -> String {
    let (digits, unit) = text.split_once(' ').unwrap_or((text, ""));
    let digits = if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits };
    if unit.is_empty() { digits.to_owned() } else { format!("{digits} {unit}") }
}

/// How a value compares with another: `2.1×`.
pub(super) fn ratio(value: f64) -> String {
    format!("{}×", if value.abs() < 999.5 { digits(value) } else { thousands(value) })
}

/// A count and its noun: `1 warning`, `2 warnings`.
pub(super) fn plural(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", self::count(count), if count == 1 { "" } else { "s" })
}

/// What a file says, safe to show on one line and not too long.
pub(super) fn shown(text: &str) -> String {
    let clipped = clip(text, SHOWN_MAX);
    format!("{}{}", Escaped(clipped), if clipped.len() < text.len() { "…" } else { "" })
}

/// Three digits, as many after the point as there is room for.
fn digits(value: f64) -> String {
    let (sign, value) = (if value < 0.0 { "−" } else { "" }, value.abs());
    match value {
        ..9.995 => format!("{sign}{value:.2}"),
        ..99.95 => format!("{sign}{value:.1}"),
        _ => format!("{sign}{value:.0}"),
    }
}

fn thousands(value: f64) -> String {
    let sign = if value <= -0.5 { "−" } else { "" };
    format!("{sign}{}", amount::thousands(format_args!("{:.0}", value.abs())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        for (got, wanted) in [
            (time(0.0), "0 µs"),
            (time(12.0), "12.0 µs"),
            (time(999.7), "1.00 ms"),
            (time(12_345.0), "12.3 ms"),
            (time(1_250_000.0), "1.25 s"),
            (time(180e6), "3.00 min"),
            (bytes(512.0), "512 B"),
            (bytes(2048.0), "2.00 KiB"),
            (bytes(52_533_658.0), "50.1 MiB"),
            (bytes(-2_097_152.0), "−2.00 MiB"),
            (number(1_234_567.0), "1,234,567"),
            (number(-1000.0), "−1,000"),
            (number(0.123), "0.12"),
            (number(12.34), "12.3"),
            (short("2.00 KiB"), "2 KiB"),
            (short("2.50 ms"), "2.5 ms"),
            (short("100 ms"), "100 ms"),
            (short("1,000"), "1,000"),
            (plural(1, "warning"), "1 warning"),
            (plural(2_000, "client"), "2,000 clients"),
            (shown("a\u{1b}[31m"), r"a\u{1b}[31m"),
        ] {
            assert_eq!(got, wanted);
        }
    }
}
