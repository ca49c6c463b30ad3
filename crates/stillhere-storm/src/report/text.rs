//! The summary for a terminal.

use std::fmt::Write;

use stillhere_core::text::Escaped;

use super::search::SearchReport;
use super::summary::{CrowdSummary, Judged, Latency, Summary, total};
use super::units;
use crate::plan::figure::{self, Unit};
use crate::sample::Phase;

/// Columns that a line may have.
const COLUMNS: usize = 100;
/// Attacks and codes that are listed; a report page has more of them.
const LISTED_MAX: usize = 12;

/// How it looks where it is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Whether the terminal knows ANSI colours. They only repeat what the words and signs say.
    pub colour: bool,
}

/// A run in a screenful: verdict, thresholds, the crowd before, during and after, attacks, target, warnings, and where
/// the report lies (`place`, if there is one).
pub fn summary(summary: &Summary, place: Option<&str>, style: Style) -> String {
    let mut text = Text { out: String::new(), style };
    text.head(summary);
    text.thresholds(&summary.judged);
    text.crowd(summary);
    text.attacks(summary);
    text.target(summary);
    for warning in &summary.warnings {
        text.wrapped("  ! ", warning, Paint::Doubt);
    }
    if let Some(place) = place {
        text.line(&format!("  report  {}", Escaped(place)));
    }
    text.out
}

/// A search as a table: the tutorial's, made exact. `place` is where the report lies.
pub fn search(found: &SearchReport, place: &str) -> String {
    let mut text = format!("{}\n\n", found.found());
    if let Some(cut) = &found.cut {
        let _ = writeln!(text, "{}\n", units::shown(cut));
    }
    let _ = writeln!(
        text,
        "{:>9}  {:<8} {:>10}  {:>12}  {:>12}  broken",
        "number", "verdict", "tries/s", "p99", "not let in"
    );
    for trial in &found.trials {
        let figure = |names: &[&str], show: fn(f64) -> String| {
            names.iter().find_map(|name| trial.summary.figure(name)).map_or("–".to_owned(), show)
        };
        let broken = trial.summary.judged.iter().filter(|judged| !judged.holds);
        let broken: Vec<String> = broken.map(|judged| units::shown(&judged.threshold.text)).collect();
        let _ = writeln!(
            text,
            "{:>9}  {:<8} {:>10}  {:>12}  {:>12}  {}",
            units::count(trial.number),
            if trial.held { "held" } else { "broken" },
            figure(&["tries"], |tries| units::number(tries.round())),
            figure(&["p99", "load_p99"], units::time),
            figure(&["newcomers_refused"], units::number),
            broken.join(", ")
        );
    }
    let _ = writeln!(text, "\nreport  {}", Escaped(place));
    text
}

#[derive(Clone, Copy, PartialEq)]
enum Paint {
    Good,
    Bad,
    Doubt,
    Quiet,
    None,
}

struct Text {
    out: String,
    style: Style,
}

impl Text {
    fn head(&mut self, summary: &Summary) {
        let (sign, paint) = if summary.passed { ("✓", Paint::Good) } else { ("✗", Paint::Bad) };
        let verdict = format!("{sign} {}", summary.verdict);
        self.painted(&verdict, paint);
        self.out.push('\n');
        let mut about = format!("{} against {}", units::shown(&summary.plan), units::shown(&summary.target_address));
        if let Some(trial) = summary.trial {
            let _ = write!(about, ", trial {trial}");
        }
        let _ = write!(about, ", {}", units::time(summary.took_ms as f64 * 1e3));
        self.wrapped("  ", &about, Paint::Quiet);
    }

    fn thresholds(&mut self, judged: &[Judged]) {
        if judged.is_empty() {
            return;
        }
        self.out.push('\n');
        let width = judged.iter().map(|judged| units::shown(&judged.threshold.text).chars().count()).max().unwrap_or(0);
        for judged in judged {
            let (sign, paint) = if judged.holds { ("✓", Paint::Good) } else { ("✗", Paint::Bad) };
            self.out.push_str("  ");
            self.painted(sign, paint);
            let text = units::shown(&judged.threshold.text);
            self.line(&format!(" {text:<width$}  {}", measured(judged)));
        }
    }

    /// The crowd's table, one row for each part that lasted.
    fn crowd(&mut self, summary: &Summary) {
        if summary.clients == 0 {
            return;
        }
        self.out.push('\n');
        let clients = units::plural(summary.clients, "honest client");
        self.line(&format!(
            "  {clients:<20} {:>10} {:>9} {:>9} {:>9} {:>9} {:>11} {:>13}",
            "beats", "p50", "p99", "p99.9", "max", "links lost", "sessions lost"
        ));
        for (name, part) in parts(summary) {
            if part.seconds == 0.0 {
                continue;
            }
            let rtt = |of: fn(&Latency) -> u64| {
                part.rtt_us.as_ref().map_or("–".to_owned(), |rtt| units::time(of(rtt) as f64))
            };
            let name = format!("{name}, {}", units::time(part.seconds * 1e6));
            self.line(&format!(
                "  {name:<20} {:>10} {:>9} {:>9} {:>9} {:>9} {:>11} {:>13}",
                units::count(part.sent),
                rtt(|rtt| rtt.p50),
                rtt(|rtt| rtt.p99),
                rtt(|rtt| rtt.p999),
                rtt(|rtt| rtt.max),
                units::count(part.links_lost),
                units::count(part.sessions_lost),
            ));
        }
        let whole = &summary.whole;
        let mut seen = Vec::new();
        if let Some(false_leaves) = summary.figure("false_leaves") {
            seen.push(format!("{} false leaves", units::number(false_leaves)));
        }
        if whole.said > 0 {
            let lost = units::count(whole.messages_lost);
            let doubled = units::count(whole.messages_doubled);
            seen.push(format!("{} messages said, {lost} lost, {doubled} doubled", units::count(whole.said)));
        }
        if whole.newcomers > 0 || whole.newcomers_refused > 0 {
            let refused = units::count(whole.newcomers_refused);
            seen.push(format!("{} newcomers let in, {refused} refused", units::count(whole.newcomers)));
        }
        if !seen.is_empty() {
            self.wrapped("  ", &seen.join("; "), Paint::None);
        }
        if whole.links_lost > 0 {
            let closes = whole.closes.iter().map(|(code, count)| (super::charts::code_name(*code), *count));
            let losses = whole.losses.iter().map(|(what, count)| (units::shown(what), *count));
            self.wrapped("  honest links lost: ", &listed(closes.chain(losses)), Paint::Bad);
        }
    }

    fn attacks(&mut self, summary: &Summary) {
        if summary.attacks.is_empty() {
            return;
        }
        self.out.push('\n');
        self.line(&format!(
            "  {:<20} {:>10} {:>9} {:>9} {:>9} {:>9} {:>11} {:>13}",
            "attacks", "attackers", "tries/s", "opened", "refused", "ended", "open (max)", "overdue"
        ));
        for (name, attack) in summary.attacks.iter().take(LISTED_MAX) {
            let name = units::shown(name);
            self.line(&format!(
                "  {name:<20} {:>10} {:>9} {:>9} {:>9} {:>9} {:>11} {:>13}",
                units::count(attack.attackers),
                units::number(attack.tries_per_second),
                units::count(attack.connected),
                units::count(attack.refused),
                units::count(attack.ended),
                units::count(attack.open_max),
                units::count(attack.overdue),
            ));
        }
        let closes = total_closes(summary);
        if !closes.is_empty() {
            let codes = closes.into_iter().map(|(code, count)| (super::charts::code_name(code), count));
            self.wrapped("  attackers closed: ", &listed(codes), Paint::None);
        }
    }

    fn target(&mut self, summary: &Summary) {
        self.out.push('\n');
        if let Some(load) = &summary.load {
            let latency = load.latency_us.as_ref().map_or("none answered".to_owned(), |latency| {
                format!("p50 {}, p99 {}", units::time(latency.p50 as f64), units::time(latency.p99 as f64))
            });
            let text = format!(
                "{} answered a second, {latency}; {} failed, {} still open",
                units::number(load.rate),
                units::count(load.failed),
                units::count(load.open)
            );
            self.wrapped("  load    ", &text, Paint::None);
        }
        let target = &summary.target;
        let mut seen = Vec::new();
        if let (Some(before), Some(peak), Some(end)) = (target.rss_before, target.rss_peak, target.rss_end) {
            let [before, peak, end] = [before, peak, end].map(|rss| units::bytes(rss as f64));
            seen.push(format!("memory {before} before, {peak} at most, {end} at the end"));
        }
        if let Some(cpu) = target.cpu_during {
            seen.push(format!("{} cores during the attack", units::number(round(cpu))));
        }
        if let (Some(before), Some(left)) = (target.files_before, target.files_left) {
            seen.push(format!("files {} before, {} after it", units::count(before), units::count(left)));
        }
        let seen = if seen.is_empty() { "couldn't be seen".to_owned() } else { seen.join("; ") };
        self.wrapped("  target  ", &seen, Paint::None);
        let own = &summary.own;
        let mut text = format!(
            "{} of {} during the attack",
            own.cpu_during.map_or("?".to_owned(), |cpu| units::number(round(cpu))),
            units::plural(own.cores.into(), "core")
        );
        if let Some(lag) = own.lag_us_p99 {
            let _ = write!(text, "; its timers up to {} late", units::time(lag as f64));
        }
        self.wrapped("  storm   ", &text, Paint::None);
    }

    fn painted(&mut self, text: &str, paint: Paint) {
        let code = match paint {
            _ if !self.style.colour => "",
            Paint::Good => "\x1b[32m",
            Paint::Bad => "\x1b[31m",
            Paint::Doubt => "\x1b[33m",
            Paint::Quiet => "\x1b[2m",
            Paint::None => "",
        };
        self.out.push_str(code);
        self.out.push_str(text);
        self.out.push_str(if code.is_empty() { "" } else { "\x1b[0m" });
    }

    /// A line of a table, clipped.
    fn line(&mut self, line: &str) {
        self.out.extend(line.trim_end().chars().take(COLUMNS));
        self.out.push('\n');
    }

    /// Words over as many lines as they need, below one another behind a lead.
    fn wrapped(&mut self, lead: &str, words: &str, paint: Paint) {
        let indent = lead.chars().count();
        let mut line = lead.to_owned();
        let mut used = indent;
        for word in words.split(' ') {
            let length = word.chars().count();
            if used > indent && used + 1 + length > COLUMNS {
                self.painted(&line, paint);
                self.out.push('\n');
                (line, used) = (" ".repeat(indent), indent);
            }
            if used > indent {
                line.push(' ');
                used += 1;
            }
            line.extend(word.chars().take(COLUMNS - indent));
            used += length;
        }
        self.painted(&line, paint);
        self.out.push('\n');
    }
}

/// The parts of a run that have a name for people.
pub(super) fn parts(summary: &Summary) -> [(&'static str, &CrowdSummary); 3] {
    [(Phase::Before, &summary.before), (Phase::During, &summary.during), (Phase::After, &summary.after)]
        .map(|(phase, part)| (phase.name(), part))
}

/// What was measured, in its unit.
pub(super) fn measured(judged: &Judged) -> String {
    let unit = figure::find(&judged.threshold.figure).map_or(Unit::Number, |figure| figure.unit);
    judged.value.map_or("not measured".to_owned(), |value| units::value(unit, value))
}

/// All attackers' codes, added up.
pub(super) fn total_closes(summary: &Summary) -> std::collections::BTreeMap<u16, u64> {
    let mut all = std::collections::BTreeMap::new();
    for (&code, &count) in summary.attacks.values().flat_map(|attack| &attack.closes) {
        let sum: &mut u64 = all.entry(code).or_default();
        *sum = sum.saturating_add(count);
    }
    all
}

/// Cores, to a hundredth.
fn round(cores: f64) -> f64 {
    (cores * 100.0).round() / 100.0
}

fn listed(counts: impl Iterator<Item = (String, u64)>) -> String {
    let mut counts: std::collections::BTreeMap<String, u64> = counts.collect();
    let mut list = Vec::new();
    while list.len() < LISTED_MAX {
        let Some(name) = counts.iter().max_by_key(|(_, count)| **count).map(|(name, _)| name.clone()) else { break };
        let count = counts.remove(&name).unwrap_or(0);
        list.push(format!("{name} {}", units::count(count)));
    }
    if !counts.is_empty() {
        list.push(format!("others {}", units::count(total(&counts))));
    }
    list.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::synthetic::{self, Shape};

    fn shown(shape: &Shape, style: Style) -> String {
        summary(&Summary::of(&synthetic::run(shape)), Some("/tmp/storm/report.html"), style)
    }

    #[test]
    fn it_says_the_verdict_first_and_fits_the_terminal() {
        let mut shape = Shape { closes: 9, load: true, ..Shape::default() };
        let text = shown(&shape, Style::default());
        assert!(text.starts_with("✗ failed: 2 of 8 thresholds broken\n"), "{text}");
        for wanted in [
            "✗ sessions_lost = 0   80",
            "✓ p99 < 5ms",
            "2,000 honest clients",
            "slow_consumer 180",
            "report  /tmp/storm/report.html",
            "garbage",
        ] {
            assert!(text.contains(wanted), "no `{wanted}` in:\n{text}");
        }
        shape.name = "a very long name ".repeat(20);
        let text = shown(&shape, Style::default());
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn colour_only_repeats_what_is_said_without_it() {
        let coloured = shown(&Shape::default(), Style { colour: true });
        assert!(coloured.starts_with("\u{1b}[32m✓ passed"), "{coloured}");
        let mut plain = coloured;
        for code in ["\u{1b}[32m", "\u{1b}[31m", "\u{1b}[33m", "\u{1b}[2m", "\u{1b}[0m"] {
            plain = plain.replace(code, "");
        }
        assert_eq!(plain, shown(&Shape::default(), Style::default()));
    }

    #[test]
    fn a_hostile_name_stays_on_its_line() {
        let shape = Shape { name: "x\n✓ passed\u{1b}[2J".to_owned(), ..Shape::default() };
        let text = shown(&shape, Style::default());
        assert!(text.contains(r"x\u{a}✓ passed\u{1b}[2J"), "{text}");
    }
}
