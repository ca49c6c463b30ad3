//! What must hold: `p99 < 50ms`, `false_leaves = 0`, `rss_growth < 50MiB`.
//!
//! A figure of [`figure::FIGURES`], a comparison, a bound in the figure's unit. It doesn't know where a figure's value
//! comes from; a value that nobody measured holds nothing.

use std::fmt;

use super::figure::{self, FIGURES, Figure, Unit};
use super::value::{nearest, plain, quoted, size, span};
use super::{Is, Mode, Plan, PlanError, Threshold, check};

/// How comparisons are written; the first of each is how they are shown. Longer ones come before their beginnings.
const COMPARISONS: [(&str, Is); 8] = [
    ("<=", Is::AtMost),
    (">=", Is::AtLeast),
    ("==", Is::Equal),
    ("≤", Is::AtMost),
    ("≥", Is::AtLeast),
    ("<", Is::Below),
    (">", Is::Above),
    ("=", Is::Equal),
];

/// Reads a threshold.
///
/// # Errors
/// When there is no such figure, no comparison, or the bound isn't in the figure's unit.
pub fn parse(text: &str) -> Result<Threshold, PlanError> {
    read(text.trim()).map_err(|says| PlanError(format!("`{}`: {says}", quoted(text.trim()))))
}

/// The same, with a clause for an error.
fn read(text: &str) -> Result<Threshold, String> {
    const FORM: &str = "write a figure, a comparison and a bound, such as `p99 < 50ms`";
    let at = text.find(['<', '>', '=', '≤', '≥', '!', '≠']).ok_or(FORM)?;
    let (name, rest) = (text[..at].trim_end(), &text[at..]);
    let found =
        COMPARISONS.iter().find_map(|(sign, is)| rest.strip_prefix(sign).map(|bound| (*is, bound.trim_start())));
    let (is, bound) = found.ok_or("compare with `<`, `<=`, `=`, `>=` or `>`")?;
    if name.is_empty() || bound.is_empty() {
        return Err(FORM.to_owned());
    }
    let Some(figure) = figure::find(name) else {
        let nearest = nearest(name, FIGURES.iter().map(|figure| figure.name));
        return Err(format!("there is no figure `{}`; did you mean `{nearest}`?", quoted(name)));
    };
    let bound = read_bound(figure, bound)?;
    Ok(Threshold { text: text.to_owned(), figure: name.to_owned(), is, bound })
}

/// The bound in the figure's base unit.
fn read_bound(figure: &Figure, text: &str) -> Result<f64, String> {
    let name = figure.name;
    match figure.unit {
        Unit::Time => time(text).ok_or_else(|| match plain(text) {
            Some(_) => format!("`{name}` is a time and needs a unit: write {text}ms"),
            None => format!("`{name}` is a time: write it as 50ms, 1.5s or 800us"),
        }),
        Unit::Bytes => bytes(text).ok_or_else(|| match plain(text) {
            Some(_) => format!("`{name}` is counted in bytes and needs a unit: write {text}MiB"),
            None => format!("`{name}` is counted in bytes: write it as 50MiB, 64KiB or 0B"),
        }),
        Unit::Number => {
            // Ratios are often said with an x, and what is counted a second with its /s.
            let suffix = match name {
                "rate" | "tries" => "/s",
                name if name.ends_with("_ratio") => "x",
                _ => "",
            };
            let number = text.strip_suffix(suffix).unwrap_or(text).trim_end();
            plain(number).ok_or_else(|| format!("`{name}` is a number: write it as 0 or 2.5, without a unit"))
        }
    }
}

/// Microseconds: one number with a unit, decimals allowed, or what a duration looks like elsewhere in a plan.
fn time(text: &str) -> Option<f64> {
    const UNITS: [(&str, f64); 6] = [("us", 1.0), ("µs", 1.0), ("μs", 1.0), ("ms", 1e3), ("s", 1e6), ("m", 60e6)];
    let one = UNITS.iter().find_map(|(unit, factor)| Some(plain(text.strip_suffix(unit)?.trim_end())? * factor));
    one.or_else(|| span(text).ok().map(|span| span.as_secs_f64() * 1e6))
}

/// Bytes: the same with the units of sizes.
fn bytes(text: &str) -> Option<f64> {
    const UNITS: [(&str, f64); 3] = [("GiB", 1_073_741_824.0), ("MiB", 1_048_576.0), ("KiB", 1024.0)];
    let one = UNITS.iter().find_map(|(unit, factor)| Some(plain(text.strip_suffix(unit)?.trim_end())? * factor));
    one.or_else(|| size(text).ok().map(|bytes| bytes as f64)).or((text == "0").then_some(0.0))
}

/// What must hold if a plan doesn't say: the promise to honest clients, as far as the plan lets it be measured.
///
/// Nobody loses a session, goes missing, is never answered, is put on leave although it beats, or stands before a closed
/// door; no message
/// that was acknowledged is lost or comes twice; and under attack the round trip of 99 in 100 beats is at most twice
/// what it was before. An attack must be carried out, and a load be answered. It says nothing of the target's memory,
/// which can't be seen of every target.
pub fn promise(plan: &Plan) -> Vec<Threshold> {
    let mut texts: Vec<&str> = Vec::new();
    if let Some(crowd) = &plan.crowd {
        texts.extend(["missing = 0", "sessions_lost = 0", "unanswered = 0"]);
        if crowd.mode == Mode::V1 {
            texts.extend(["false_leaves = 0", "messages_lost = 0", "messages_doubled = 0"]);
        }
        texts.push("newcomers_refused = 0");
    }
    if !plan.attacks.is_empty() {
        // Beside a load the crowd's round trips are the load's doing, and it has figures of its own.
        if plan.load.is_none() {
            texts.push("p99_ratio <= 2");
        }
        texts.push("tries > 0");
    }
    if plan.load.is_some() {
        texts.extend(["load_failed = 0", "load_open = 0"]);
    }
    let all = texts.into_iter().filter_map(|text| parse(text).ok());
    all.filter(|threshold| check::lacks(plan, &threshold.figure).is_none()).collect()
}

impl Is {
    /// How it is written.
    pub fn sign(self) -> &'static str {
        match self {
            Is::Below => "<",
            Is::AtMost => "<=",
            Is::Equal => "=",
            Is::AtLeast => ">=",
            Is::Above => ">",
        }
    }
}

impl Threshold {
    /// Whether it holds for this value, in the figure's base unit. What wasn't measured (`None`) doesn't hold.
    pub fn holds(&self, value: Option<f64>) -> bool {
        let Some(value) = value else { return false };
        match self.is {
            Is::Below => value < self.bound,
            Is::AtMost => value <= self.bound,
            Is::Equal => value == self.bound,
            Is::AtLeast => value >= self.bound,
            Is::Above => value > self.bound,
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read_in_their_figures_unit() {
        for (text, figure, is, bound) in [
            ("p99 < 50ms", "p99", Is::Below, 50_000.0),
            (" p99.9<=1.5ms ", "p99.9", Is::AtMost, 1500.0),
            ("max ≤ 800us", "max", Is::AtMost, 800.0),
            ("max < 800 µs", "max", Is::Below, 800.0),
            ("enter_p99 < 1m30s", "enter_p99", Is::Below, 90e6),
            ("say_p99 < 2s", "say_p99", Is::Below, 2e6),
            ("rss_growth < 50MiB", "rss_growth", Is::Below, 52_428_800.0),
            ("rss_left <= 1.5KiB", "rss_left", Is::AtMost, 1536.0),
            ("rss_left < 512B", "rss_left", Is::Below, 512.0),
            ("rss_left = 0", "rss_left", Is::Equal, 0.0),
            ("false_leaves == 0", "false_leaves", Is::Equal, 0.0),
            ("p99_ratio <= 2x", "p99_ratio", Is::AtMost, 2.0),
            ("rate >= 1000/s", "rate", Is::AtLeast, 1000.0),
            ("tries ≥ 0.5", "tries", Is::AtLeast, 0.5),
            ("cpu > 1", "cpu", Is::Above, 1.0),
        ] {
            let expected = Threshold { text: text.trim().to_owned(), figure: figure.to_owned(), is, bound };
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_wrong_threshold_says_what_to_write() {
        for (text, says) in [
            ("p99 < 50", "`p99` is a time and needs a unit: write 50ms"),
            ("p99 < -1ms", "`p99` is a time: write it as 50ms"),
            ("p99 < 50min", "`p99` is a time"),
            ("p9 < 50ms", "there is no figure `p9`; did you mean `p90`?"),
            ("fales_leaves = 0", "did you mean `false_leaves`?"),
            ("rss_growth < 50", "needs a unit: write 50MiB"),
            ("rss_growth < 50MB", "write it as 50MiB"),
            ("false_leaves = 0ms", "`false_leaves` is a number"),
            ("false_leaves = -1", "`false_leaves` is a number"),
            ("missing = 2x", "`missing` is a number"),
            ("missing = 1e3", "`missing` is a number"),
            ("missing = inf", "`missing` is a number"),
            ("missing != 0", "compare with `<`"),
            ("p99", "write a figure, a comparison and a bound"),
            ("p99 <", "write a figure, a comparison and a bound"),
            ("< 5ms", "write a figure, a comparison and a bound"),
            ("", "write a figure, a comparison and a bound"),
        ] {
            let told = parse(text).unwrap_err().0;
            assert!(told.starts_with(&format!("`{text}`: ")) && told.contains(says), "{text}: {told}");
        }
        let hostile = parse("p99\u{1b}[2J\n < 5ms").unwrap_err().0;
        assert!(!hostile.contains('\u{1b}') && !hostile.contains('\n'), "{hostile}");
    }

    #[test]
    fn it_holds_on_the_right_side_and_never_without_a_value() {
        for (sign, below, equal, above) in [
            ("<", true, false, false),
            ("<=", true, true, false),
            ("=", false, true, false),
            (">=", false, true, true),
            (">", false, false, true),
        ] {
            let threshold = parse(&format!("missing {sign} 5")).unwrap();
            let holds = [4.0, 5.0, 6.0].map(|value| threshold.holds(Some(value)));
            assert_eq!(holds, [below, equal, above], "{threshold}");
            assert!(!threshold.holds(None) && !threshold.holds(Some(f64::NAN)), "{threshold}");
            assert_eq!(threshold.is.sign(), sign);
        }
    }
}
