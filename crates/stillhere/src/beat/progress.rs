//! How a run is going, on standard error: a line that moves on a terminal, a line now and then elsewhere.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::report::millis;
use super::tally::Tally;
use crate::output::{spoken, thousands};

/// How often a terminal's line is drawn.
const DRAW_PERIOD: Duration = Duration::from_millis(250);
/// How often a line is written where lines stay.
const LINE_PERIOD: Duration = Duration::from_secs(5);

pub(super) struct Progress {
    /// `None` where lines stay.
    bar: Option<ProgressBar>,
    duration: Option<Duration>,
}

impl Progress {
    pub(super) fn new(duration: Option<Duration>) -> Progress {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            // Only our own constant could be wrong, and then the default style is drawn.
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
                bar.set_style(style);
            }
            bar
        });
        Progress { bar, duration }
    }

    /// How often it wants to be shown.
    pub(super) fn period(&self) -> Duration {
        if self.bar.is_some() { DRAW_PERIOD } else { LINE_PERIOD }
    }

    pub(super) fn show(&mut self, elapsed: Duration, tally: &Tally) {
        match &self.bar {
            Some(bar) => {
                bar.set_message(line(elapsed, self.duration, tally));
                bar.tick();
            }
            // The first tick comes at once, when there is nothing to tell.
            None if elapsed < LINE_PERIOD / 2 => {}
            // Losing a progress line is no reason to stop.
            None => drop(writeln!(io::stderr(), "{}", line(elapsed, self.duration, tally))),
        }
    }

    pub(super) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line(elapsed: Duration, duration: Option<Duration>, tally: &Tally) -> String {
    let mut line = spoken(Duration::from_secs(elapsed.as_secs()));
    // Writing into a String can't fail.
    if let Some(duration) = duration {
        let _ = write!(line, " of {}", spoken(duration));
    }
    let (here, all) = (thousands(tally.here), thousands(tally.clients()));
    let _ = write!(line, " · {here} of {all} here · {} beats", thousands(tally.beats_sent));
    if !tally.rtt.is_empty() {
        let rtt = millis(tally.rtt.value_at_quantile(0.5));
        let _ = write!(line, ", {} answered, RTT {rtt}", thousands(tally.beats_answered));
    }
    if tally.reconnects > 0 {
        let _ = write!(line, " · {} reconnects", thousands(tally.reconnects));
    }
    if let Some(trouble) = &tally.last_trouble {
        let _ = write!(line, " · last trouble: {trouble}");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use stillhere_client::{Loss, PeerEvent as Event};

    #[test]
    fn a_line_tells_what_matters_and_no_more() {
        let mut tally = Tally::new(1500, true);
        for index in 0..1200 {
            tally.count(index, &Event::Linked { local: ([127, 0, 0, 1], 1).into(), nth: 1 });
            tally.count(index, &Event::BeatSent { late: Duration::ZERO });
        }
        let said = line(Duration::from_millis(5001), Some(Duration::from_secs(60)), &tally);
        assert_eq!(said, "5s of 60s · 1,200 of 1,500 here · 1,200 beats");
        tally.count(0, &Event::BeatAnswered { rtt: Duration::from_micros(1234), detect: None });
        tally.count(0, &Event::Lost(Loss::ConnectTimeout));
        let said = line(Duration::from_secs(5), None, &tally);
        let trouble = "last trouble: not reachable: no answer to connecting within 10 s";
        assert_eq!(said, format!("5s · 1,199 of 1,500 here · 1,200 beats, 1 answered, RTT 1.234 ms · {trouble}"));
    }
}
