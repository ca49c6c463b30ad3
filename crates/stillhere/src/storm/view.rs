//! How a storm is going, on standard error: a few lines that move on a terminal, a line now and then elsewhere.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use stillhere_core::text::Escaped;
use stillhere_storm::plan::{Plan, Times};
use stillhere_storm::report::units;
use stillhere_storm::run::Progress;
use stillhere_storm::sample::{Phase, Run, Second};

use crate::output::{spoken, thousands};

/// Seconds that a sparkline shows, at most; narrower terminals cut it.
const SPARK_MAX: usize = 60;
/// Where lines stay, one is written for so many seconds.
const SECONDS_A_LINE: u64 = 5;
/// The lines of a terminal's view, by what they are about.
const LINES: [&str; 5] = ["crowd", "p99", "attack", "target", "storm"];

/// Shows a run, or one trial of a search after the other.
pub(super) struct View {
    screen: Option<Screen>,
    times: Times,
    /// The p99 of each second, in microseconds.
    p99: VecDeque<u64>,
    /// Tries of each second.
    tries: VecDeque<u64>,
    /// The target's memory, in bytes.
    rss: VecDeque<u64>,
    before: Option<u64>,
    last_cpu: Option<(u64, u64, u64)>,
    seconds: u64,
}

/// What moves on a terminal.
struct Screen {
    all: MultiProgress,
    head: ProgressBar,
    lines: Vec<ProgressBar>,
}

impl View {
    /// A view of that plan: what moves on a terminal, lines elsewhere.
    pub(super) fn new(plan: &Plan) -> View {
        let screen = io::stderr().is_terminal().then(Screen::new);
        View {
            screen,
            times: plan.time,
            p99: VecDeque::new(),
            tries: VecDeque::new(),
            rss: VecDeque::new(),
            before: None,
            last_cpu: None,
            seconds: 0,
        }
    }

    pub(super) fn show(&mut self, progress: Progress<'_>) {
        match progress {
            Progress::Began(run) => self.begin(run),
            Progress::Second(second) => self.second(second),
            Progress::Trouble(trouble) => self.say(&format!("stillhere: {}", Escaped(trouble))),
        }
    }

    /// A line above what moves, or just a line.
    pub(super) fn say(&self, line: &str) {
        // A line that can't be shown is no reason to stop.
        let _ = match &self.screen {
            Some(screen) => screen.all.println(line),
            None => writeln!(io::stderr(), "{line}"),
        };
    }

    /// Takes what moves away.
    pub(super) fn finish(self) {
        if let Some(screen) = self.screen {
            let _ = screen.all.clear();
        }
    }

    fn begin(&mut self, run: &Run) {
        let plan = &run.plan;
        (self.times, self.before, self.last_cpu, self.seconds) = (plan.time, None, None, 0);
        for values in [&mut self.p99, &mut self.tries, &mut self.rss] {
            values.clear();
        }
        let Times { ramp, before, during, after } = plan.time;
        let all = ramp + before + during + after;
        let mut line = format!("storm `{}` against {}", Escaped(&plan.name), Escaped(&plan.target.address));
        // Writing into a String can't fail.
        if let Some(trial) = run.trial {
            let _ = write!(line, ", trial {trial}");
        }
        if let Some(crowd) = &plan.crowd {
            let _ = write!(line, ": {} honest clients", thousands(crowd.count));
        }
        for attack in &plan.attacks {
            let _ = write!(line, ", {} attackers ({})", thousands(attack.count), Escaped(&attack.name));
        }
        let _ = write!(line, ", {} in all; ctrl-c ends it in good order", spoken(all));
        self.say(&line);
        if let Some(screen) = &self.screen {
            screen.head.set_length(all.as_millis() as u64);
            screen.head.set_position(0);
        }
    }

    fn second(&mut self, second: &Second) {
        self.seconds += 1;
        let p99 = second.crowd.rtt_us.quantile(0.99);
        let tries = second.attacks.values().map(|attack| attack.tries).sum::<u64>();
        let rss = second.target.as_ref().and_then(|target| target.rss).unwrap_or(0);
        for (values, value) in [(&mut self.p99, p99.unwrap_or(0)), (&mut self.tries, tries), (&mut self.rss, rss)] {
            values.push_back(value);
            if values.len() > SPARK_MAX {
                values.pop_front();
            }
        }
        if second.phase == Phase::Before {
            self.before = p99.max(self.before);
        }
        let lines = self.lines(second);
        let cpu_now = second.target.as_ref().and_then(|target| target.cpu_ms).unwrap_or(0);
        self.last_cpu = Some((second.at_ms, cpu_now, second.own.cpu_ms));
        match &self.screen {
            Some(screen) => {
                screen.head.set_position(second.at_ms);
                screen.head.set_message(second.phase.name());
                for (bar, line) in screen.lines.iter().zip(lines) {
                    bar.set_message(line);
                }
            }
            None if self.seconds.is_multiple_of(SECONDS_A_LINE) => {
                let at = spoken(Duration::from_secs(second.at_ms.div_ceil(1000)));
                let [crowd, p99, attack, ..] = lines;
                let attack = if second.attacks.is_empty() { String::new() } else { format!(" · {attack}") };
                self.say(&format!("{at} · {} · {crowd} · {p99}{attack}", second.phase.name()));
            }
            None => {}
        }
    }

    /// What [`LINES`] say now. Sparklines only where they move.
    fn lines(&self, second: &Second) -> [String; 5] {
        let spark = |values: &VecDeque<u64>| if self.screen.is_some() { sparkline(values) } else { String::new() };
        let crowd = &second.crowd;
        let mut who = format!("{} in", thousands(crowd.alive + crowd.leave));
        let _ = write!(who, ", {} on leave, {} out", thousands(crowd.leave), thousands(crowd.out));
        if crowd.waiting > 0 {
            let _ = write!(who, ", {} not yet in", thousands(crowd.waiting));
        }
        if crowd.newcomers + crowd.newcomers_refused > 0 {
            let _ = write!(who, " · newcomers {} in, {} refused", crowd.newcomers, crowd.newcomers_refused);
        }
        let mut p99 = match crowd.rtt_us.quantile(0.99) {
            Some(now) => format!("p99 {}", units::time(now as f64)),
            None => "no round trips".to_owned(),
        };
        if let Some(before) = self.before.filter(|_| second.phase >= Phase::During) {
            let _ = write!(p99, " (before the attack at most {})", units::time(before as f64));
        }
        let _ = write!(p99, " {}", spark(&self.p99));
        let sum = |of: fn(&stillhere_storm::sample::AttackSecond) -> u64| second.attacks.values().map(of).sum::<u64>();
        let per_second = |count: u64| thousands(count * 1000 / second.for_ms.max(1));
        let attack = match second.attacks.is_empty() {
            true => "none".to_owned(),
            false => format!(
                "{} tries/s, {} open, {} ended by the target {}",
                per_second(sum(|attack| attack.tries)),
                thousands(sum(|attack| attack.open)),
                thousands(sum(|attack| attack.ended)),
                spark(&self.tries)
            ),
        };
        let target = match &second.target {
            None => "can't be seen: give --metrics URL, or run the storm beside it".to_owned(),
            Some(target) => {
                let rss = target.rss.map_or("unknown".to_owned(), |rss| units::bytes(rss as f64));
                let cores = self.cores(second.at_ms, target.cpu_ms.unwrap_or(0), |(_, target, _)| target);
                let files = target.files.map_or(String::new(), |files| format!(", {} files", thousands(files)));
                format!("{rss}, {cores} cores{files} {}", spark(&self.rss))
            }
        };
        let cores = self.cores(second.at_ms, second.own.cpu_ms, |(_, _, own)| own);
        let (rss, lag) = (units::bytes(second.own.rss as f64), units::time(second.own.lag_us as f64));
        let own = format!("{rss}, {cores} cores, timers {lag} late");
        [who, p99, attack, target, own]
    }

    /// CPU time since the last sample, in cores.
    fn cores(&self, at_ms: u64, cpu_ms: u64, earlier: fn((u64, u64, u64)) -> u64) -> String {
        match self.last_cpu {
            Some(last) if at_ms > last.0 => {
                let used = cpu_ms.saturating_sub(earlier(last)) as f64;
                format!("{:.2}", used / (at_ms - last.0) as f64)
            }
            _ => "?".to_owned(),
        }
    }
}

/// Only our own templates could be wrong, and then the default style is drawn.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Screen {
    fn new() -> Screen {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let head = all.add(ProgressBar::new(1).with_style(style("{msg:<8} {wide_bar:.cyan/dim} {percent}%")));
        let line = |name: &str| {
            let template = format!("{name:<8} {{wide_msg}}");
            all.add(ProgressBar::new(1).with_style(style(&template)))
        };
        let lines = LINES.map(line).into();
        Screen { all, head, lines }
    }
}

/// Blocks as high as the values, the highest eight eighths.
fn sparkline(values: &VecDeque<u64>) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let highest = values.iter().copied().max().unwrap_or(0).max(1);
    let block = |value: &u64| BLOCKS[(u128::from(*value) * 7).div_ceil(u128::from(highest)).min(7) as usize];
    values.iter().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_reaches_from_the_floor_to_the_top() {
        assert_eq!(sparkline(&VecDeque::from([0, 1, 50, 100])), "▁▂▅█");
        assert_eq!(sparkline(&VecDeque::from([0, 0])), "▁▁");
        assert_eq!(sparkline(&VecDeque::from([u64::MAX, 1])), "█▂");
        assert_eq!(sparkline(&VecDeque::new()), "");
    }
}
