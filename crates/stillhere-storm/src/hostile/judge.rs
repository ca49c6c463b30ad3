//! What is asked of a client, and whether it holds. Pure: it sees only the book.

use std::time::Duration;

use super::process::Process;
use super::verdict::{Criterion, GAPS_MAX, Seen};
use super::visit::{By, SLACK, Speaks, Told, Visit};

/// Something that is asked of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// It leaves a link on which it hears nothing.
    GivesUp,
    /// It connects again.
    ComesBack,
    /// It keeps its link, or connects again: it hasn't died of what it read.
    StillHere,
    /// It doesn't connect again and again without a pause.
    Pauses,
    /// Its pauses grow.
    BacksOff,
    /// Its pauses are drawn, so that a crowd of it doesn't come all at once.
    Jitters,
    /// It waits for as long as it was told.
    WaitsAsTold,
    /// It doesn't come back when it was told so.
    StaysAway,
    /// It beats while it is busy.
    BeatsOn,
    /// It closes a link before it opens the next.
    OneLink,
    /// Its memory is bounded.
    Memory,
    /// It doesn't spin.
    Calm,
}

/// More connections than this in [`BURST_TIME`] are too many. With full jitter from 1 s they didn't happen once in 60,000
/// simulated runs; a client without a pause makes thousands.
const BURST_MAX: usize = 10;
/// See [`BURST_MAX`].
const BURST_TIME: Duration = Duration::from_secs(10);
/// Nobody waits longer than the cap of 30 s.
const COMES_BACK_WITHIN: Duration = Duration::from_secs(35);
/// Who was told never to come back and hasn't for so long is believed.
const STAYS_AWAY_FOR: Duration = Duration::from_secs(5);
/// Pauses that it takes to tell whether they grow.
const PAUSES_MIN: usize = 8;
/// Later pauses are longer than earlier ones by this factor: under full jitter mostly by four to ten, and less than
/// this by bad luck once in two thousand runs.
const GROWTH_MIN: f64 = 1.2;
/// Nor does more than this, in seconds, need to grow: it is no storm.
const LATE_ENOUGH: f64 = 5.0;
/// Ratios of pauses that it takes to tell whether they are drawn.
const RATIOS_MIN: usize = 4;
/// Pauses by a formula have all the same ratio, up to the lateness of timers.
const RATIO_SPREAD: f64 = 0.05;
/// What a client's memory may grow by, in bytes.
pub(super) const RSS_GROWTH_MAX: u64 = 64 << 20;
/// For how much of the time a client that isn't flooded may run or want to, all threads together.
const CORES_MAX: f64 = 0.5;
/// For so long its process must have been seen.
const WATCHED_MIN: Duration = Duration::from_secs(2);
/// Two links may overlap so long: the end of the old one may be on its way.
const OVERLAP_MAX: Duration = Duration::from_secs(1);

/// What there is to judge by.
#[derive(Clone, Copy)]
pub(super) struct Evidence<'a> {
    /// All connections of the port, in order.
    pub(super) visits: &'a [Visit],
    /// Which behaviour is judged.
    pub(super) behaviour: usize,
    /// The client's process.
    pub(super) process: Result<&'a Process, &'a str>,
    /// Until when was looked.
    pub(super) now: Duration,
}

/// A finding, and why.
type Finding = (Option<bool>, String);

impl Judged {
    /// Its name in a verdict.
    pub(super) fn name(self) -> &'static str {
        match self {
            Judged::GivesUp => "gives-up",
            Judged::ComesBack => "comes-back",
            Judged::StillHere => "still-here",
            Judged::Pauses => "pauses",
            Judged::BacksOff => "backs-off",
            Judged::Jitters => "jitters",
            Judged::WaitsAsTold => "waits-as-told",
            Judged::StaysAway => "stays-away",
            Judged::BeatsOn => "beats-on",
            Judged::OneLink => "one-link",
            Judged::Memory => "memory",
            Judged::Calm => "calm",
        }
    }

    /// Whether it can be asked of a client that speaks this: only v1 knows goodbyes, and the tutorial's clients hear
    /// nothing, so that silence tells them nothing.
    fn applies(self, speaks: Option<Speaks>) -> bool {
        match self {
            Judged::GivesUp => speaks != Some(Speaks::Legacy),
            Judged::WaitsAsTold | Judged::StaysAway => !matches!(speaks, Some(Speaks::Legacy | Speaks::Other)),
            Judged::BeatsOn => speaks != Some(Speaks::Other),
            Judged::ComesBack
            | Judged::StillHere
            | Judged::Pauses
            | Judged::BacksOff
            | Judged::Jitters
            | Judged::OneLink
            | Judged::Memory
            | Judged::Calm => true,
        }
    }

    fn find(self, evidence: &Evidence<'_>) -> Finding {
        match self {
            Judged::GivesUp => evidence.gives_up(),
            Judged::ComesBack => evidence.comes_back(),
            Judged::StillHere => evidence.still_here(),
            Judged::Pauses => evidence.pauses(),
            Judged::BacksOff => evidence.backs_off(),
            Judged::Jitters => evidence.jitters(),
            Judged::WaitsAsTold => evidence.waits_as_told(),
            Judged::StaysAway => evidence.stays_away(),
            Judged::BeatsOn => evidence.beats_on(),
            Judged::OneLink => evidence.one_link(),
            Judged::Memory => evidence.memory(),
            Judged::Calm => evidence.calm(),
        }
    }
}

/// All that is asked, in the given order, without what can't be asked of this client.
pub(super) fn judge(judged: &[Judged], evidence: &Evidence<'_>) -> Vec<Criterion> {
    let speaks = evidence.own().find_map(|(_, visit)| visit.speaks);
    let asked = judged.iter().filter(|judged| judged.applies(speaks));
    let criterion = |judged: &Judged| {
        let (holds, says) = match evidence.own().next() {
            Some(_) => judged.find(evidence),
            None => (None, "Nobody has come.".to_owned()),
        };
        Criterion { name: judged.name().to_owned(), holds, says }
    };
    asked.map(criterion).collect()
}

/// What was seen, in numbers.
pub(super) fn seen(evidence: &Evidence<'_>) -> Seen {
    let sum = |of: fn(&Visit) -> u64| evidence.own().map(|(_, visit)| of(visit)).sum();
    let silent = evidence.own().filter(|(_, visit)| visit.fed.is_some() || visit.speaks.is_some());
    let silent = silent.map(|(_, visit)| visit.ended.unwrap_or(evidence.now).saturating_sub(visit.silent_since()));
    let process = evidence.process.ok();
    Seen {
        connections: evidence.own().count() as u64,
        gaps_ms: evidence.gaps().take(GAPS_MAX).map(|(_, gap)| gap.as_millis() as u64).collect(),
        silent_ms: silent.max().map(|silent| silent.as_millis() as u64),
        frames: sum(|visit| visit.frames),
        bytes_in: sum(|visit| visit.bytes_in),
        bytes_out: sum(|visit| visit.bytes_out),
        pid: process.map(|process| process.pid),
        rss: process.map(|process| process.rss),
        rss_growth: process.map(|process| process.rss_max - process.rss),
        cores: process.and_then(cores),
    }
}

fn cores(process: &Process) -> Option<f64> {
    (process.watched >= WATCHED_MIN).then(|| process.busy.as_secs_f64() / process.watched.as_secs_f64())
}

fn mean(gaps: &[Duration]) -> f64 {
    gaps.iter().map(Duration::as_secs_f64).sum::<f64>() / gaps.len().max(1) as f64
}

impl<'a> Evidence<'a> {
    /// The connections that met the behaviour, with their places in the book.
    fn own(&self) -> impl Iterator<Item = (usize, &'a Visit)> + use<'a> {
        let behaviour = self.behaviour;
        self.visits.iter().enumerate().filter(move |(_, visit)| visit.behaviour == behaviour)
    }

    /// The connections that ended and were followed by one, with the wait between.
    fn gaps(&self) -> impl Iterator<Item = (&'a Visit, Duration)> + use<'a> {
        let visits = self.visits;
        self.own().filter_map(move |(at, visit)| {
            let next = visits.get(at + 1)?;
            Some((visit, next.opened.saturating_sub(visit.ended?)))
        })
    }

    /// The waits after links that had proved nothing: those that are to grow. A link that lasted begins them anew.
    fn pauses_in_a_row(&self) -> Vec<Duration> {
        let (mut longest, mut row) = (Vec::new(), Vec::new());
        for (visit, gap) in self.gaps() {
            if visit.is_proven() || visit.told.is_some() {
                row.clear();
                continue;
            }
            row.push(gap);
            if row.len() > longest.len() {
                longest.clone_from(&row);
            }
        }
        longest
    }

    fn gives_up(&self) -> Finding {
        let (mut longest, mut undecided) = (None, false);
        for (_, visit) in self.own() {
            let held = visit.ended.unwrap_or(self.now).saturating_sub(visit.silent_since());
            let patience = visit.patience();
            if held > patience {
                let (held, patience) = (held.as_secs_f64(), patience.as_secs_f64());
                return (
                    Some(false),
                    format!("It held a link on which it heard nothing for {held:.1} s; at most {patience:.1} s."),
                );
            }
            match visit.by {
                Some(By::Client) => longest = longest.max(Some(held)),
                Some(By::Server) | None => undecided = true,
            }
        }
        match longest {
            Some(held) => (Some(true), format!("It left after at most {:.1} s of silence.", held.as_secs_f64())),
            None if undecided => (None, "It wasn't watched for long enough.".to_owned()),
            None => (None, "It had nothing to give up.".to_owned()),
        }
    }

    fn comes_back(&self) -> Finding {
        let back = self.gaps().count();
        if let Some(last) = self.visits.last()
            && let Some(ended) = last.ended
            && !matches!(last.told, Some((_, Told::Never)))
        {
            if self.process.is_ok_and(|process| process.is_gone) {
                return (Some(false), "Its process has ended.".to_owned());
            }
            let away = self.now.saturating_sub(ended);
            if last.behaviour == self.behaviour && away > COMES_BACK_WITHIN {
                return (Some(false), format!("It has been away for {:.0} s.", away.as_secs_f64()));
            }
        }
        match back {
            0 => (None, "It hasn't come back yet; it may wait for up to 30 s.".to_owned()),
            back => (Some(true), format!("It came back {}.", times(back))),
        }
    }

    fn still_here(&self) -> Finding {
        let stayed = self.own().filter(|(_, visit)| {
            let until = visit.ended.unwrap_or(self.now);
            visit.by != Some(By::Client)
                && until.saturating_sub(visit.opened) >= visit.interval.unwrap_or_default() * 2
                && visit.frames > 1
                && !self.is_silent(visit)
        });
        let stayed = stayed.count();
        match self.comes_back() {
            (None, _) if stayed > 0 => (Some(true), "It kept its link and beat on.".to_owned()),
            finding => finding,
        }
    }

    fn pauses(&self) -> Finding {
        let opened: Vec<Duration> = self.visits.iter().map(|visit| visit.opened).collect();
        let burst = |from: &Duration| opened.iter().filter(|at| *at >= from && **at - *from < BURST_TIME).count();
        let worst = self.own().map(|(_, visit)| burst(&visit.opened)).max().unwrap_or(0);
        let seconds = BURST_TIME.as_secs();
        if worst > BURST_MAX {
            return (
                Some(false),
                format!("It connected {worst} times within {seconds} s; at most {BURST_MAX} are sound."),
            );
        }
        let ended = self.own().any(|(_, visit)| visit.ended.is_some());
        (ended.then_some(true), format!("It connected {} within {seconds} s.", times(worst)))
    }

    fn backs_off(&self) -> Finding {
        let pauses = self.pauses_in_a_row();
        if pauses.len() < PAUSES_MIN {
            return (None, too_few(pauses.len(), PAUSES_MIN));
        }
        let (early, late) = pauses.split_at(pauses.len() / 2);
        let (early, late) = (mean(early), mean(late));
        // Nor does anything grow at the cap.
        let grows = late >= early * GROWTH_MIN || late >= LATE_ENOUGH;
        (Some(grows), format!("Its pauses went from {early:.2} s to {late:.2} s on average."))
    }

    fn jitters(&self) -> Finding {
        let pauses = self.pauses_in_a_row();
        let mut ratios: Vec<f64> = pauses
            .windows(2)
            .filter(|pair| !pair[0].is_zero())
            .map(|pair| pair[1].as_secs_f64() / pair[0].as_secs_f64())
            .collect();
        if ratios.len() < RATIOS_MIN {
            return (None, too_few(pauses.len(), RATIOS_MIN + 1));
        }
        ratios.sort_by(f64::total_cmp);
        let median = ratios[ratios.len() / 2];
        let alike = ratios.iter().filter(|ratio| (**ratio - median).abs() <= median * RATIO_SPREAD).count();
        let drawn = alike * 4 < ratios.len() * 3;
        let says =
            if drawn { "Its pauses are drawn." } else { "Its pauses follow a formula: a crowd of it comes at once." };
        (Some(drawn), says.to_owned())
    }

    fn waits_as_told(&self) -> Finding {
        let mut waited = None;
        for (at, visit) in self.own() {
            let Some((told_at, Told::After(least))) =
                visit.told.filter(|(_, told)| *told != Told::After(Duration::ZERO))
            else {
                continue;
            };
            let Some(next) = self.visits.get(at + 1) else { continue };
            let wait = next.opened.saturating_sub(told_at);
            if wait < least {
                let (wait, least) = (wait.as_secs_f64(), least.as_secs_f64());
                return (Some(false), format!("Told to wait for {least:.1} s it came back after {wait:.2} s."));
            }
            waited = waited.max(Some(wait));
        }
        match waited {
            Some(wait) => (Some(true), format!("It waited, at most {:.1} s.", wait.as_secs_f64())),
            None => (None, "It hasn't come back since it was told to wait.".to_owned()),
        }
    }

    fn stays_away(&self) -> Finding {
        let told = self.own().find_map(|(at, visit)| match visit.told {
            Some((told_at, Told::Never)) => Some((at, told_at)),
            Some((_, Told::After(_))) | None => None,
        });
        let Some((at, told_at)) = told else { return (None, "It hasn't come to the last goodbye yet.".to_owned()) };
        if at + 1 < self.visits.len() {
            return (Some(false), "It came back although it was told never to (4503).".to_owned());
        }
        let away = self.now.saturating_sub(told_at);
        ((away >= STAYS_AWAY_FOR).then_some(true), format!("It has stayed away for {:.1} s.", away.as_secs_f64()))
    }

    /// Whether a client that beats was silent for longer than beats allow: they come at the interval ± 10 %.
    fn is_silent(&self, visit: &Visit) -> bool {
        let Some(interval) = visit.interval.or(visit.first_gap) else { return false };
        visit.silence(self.now) > interval * 3 / 2 + SLACK
    }

    fn beats_on(&self) -> Finding {
        let worst = self.own().map(|(_, visit)| visit.silence(self.now)).max().unwrap_or_default().as_secs_f64();
        if self.own().any(|(_, visit)| self.is_silent(visit)) {
            return (Some(false), format!("It was silent for {worst:.1} s."));
        }
        let long = self.own().any(|(_, visit)| {
            let until = visit.ended.unwrap_or(self.now);
            let interval = visit.interval.or(visit.first_gap);
            interval.is_some_and(|interval| until.saturating_sub(visit.opened) >= interval * 3)
        });
        match long {
            true => (Some(true), format!("It was never silent for more than {worst:.1} s.")),
            false => (None, "It wasn't watched for three intervals.".to_owned()),
        }
    }

    fn one_link(&self) -> Finding {
        for (at, visit) in self.own() {
            let end = visit.ended.unwrap_or(self.now);
            let later = self.visits[at + 1..].iter();
            let overlaps = later.filter(|next| {
                let both = end.min(next.ended.unwrap_or(self.now)).saturating_sub(next.opened);
                both > OVERLAP_MAX
            });
            if overlaps.count() > 0 {
                let says = "It held two links at once. If these are several clients: test one at a time.";
                return (Some(false), says.to_owned());
            }
        }
        (Some(true), "It never held two links at once.".to_owned())
    }

    fn memory(&self) -> Finding {
        let process = match self.process {
            Ok(process) => process,
            Err(why) => return (None, why.to_owned()),
        };
        let growth = process.rss_max - process.rss;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let says = format!("It grew by {:.1} MiB from {:.1} MiB.", mib(growth), mib(process.rss));
        if growth > RSS_GROWTH_MAX {
            return (Some(false), says);
        }
        ((process.watched >= WATCHED_MIN).then_some(true), says)
    }

    fn calm(&self) -> Finding {
        match self.process.map(cores) {
            Err(why) => (None, why.to_owned()),
            Ok(None) => (None, "Its process wasn't seen for long enough.".to_owned()),
            Ok(Some(cores)) => {
                (Some(cores <= CORES_MAX), format!("It was busy for {cores:.2} of the time; at most {CORES_MAX}."))
            }
        }
    }
}

fn times(count: usize) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

fn too_few(have: usize, needed: usize) -> String {
    format!("{have} pauses in a row are too few to tell; {needed} are needed, so let it last longer.")
}

#[cfg(test)]
mod tests;
