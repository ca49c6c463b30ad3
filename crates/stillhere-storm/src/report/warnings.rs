//! What makes a run's numbers doubtful, in sentences for whoever reads them.
//!
//! A warning never changes the verdict: it stands beside it. A threshold that broke on a machine that was itself too
//! slow stays broken, since nothing was shown.

use super::summary::Summary;
use super::units;
use crate::plan::Mode;
use crate::sample::{Phase, Recording};

/// The runtime's timers have steps of a millisecond, and a kernel adds some more: below this no advice helps.
const LAG_US_NOTED: f64 = 2_000.0;
/// Later than this, the storm is a part of what it measures, whatever that is.
const LAG_US_MAX: f64 = 5_000.0;
/// The storm's share of a measured latency, above which it can't be told from the target's.
const LAG_SHARE_MAX: f64 = 0.2;
/// Of the cores (for the crowd: of its one), above which there was nothing left.
const CPU_SHARE_MAX: f64 = 0.9;
/// Of the connections that attackers asked for.
const REFUSED_SHARE_MAX: f64 = 0.1;
/// Of the connections of attackers that need to be users.
const TURNED_AWAY_SHARE_MAX: f64 = 0.5;
/// Of the tries that the plan asks for, below which it wasn't carried out.
const TRIES_SHARE_MIN: f64 = 0.8;
/// The same of the load's requests, which the storm can send at its own will.
const SENT_SHARE_MIN: f64 = 0.95;
/// Of the files that the storm may open.
const FILES_SHARE_MAX: f64 = 0.95;
/// Ten values lie above a quantile then; below that it is one or two clients' luck.
const SAMPLES_P99: u64 = 1_000;
const SAMPLES_P999: u64 = 10_000;
/// A sample that took longer than this was held up.
const SECOND_MS_MAX: u64 = 2_000;

/// All of them.
pub(super) fn of(recording: &Recording, summary: &Summary) -> Vec<String> {
    let mut warnings = Vec::new();
    whole(recording, summary, &mut warnings);
    own_machine(recording, summary, &mut warnings);
    carried_out(recording, summary, &mut warnings);
    seen(summary, &mut warnings);
    warnings
}

/// Was it a whole run?
fn whole(recording: &Recording, summary: &Summary, warnings: &mut Vec<String>) {
    if let Some(cut) = &summary.cut {
        warnings.push(format!("The run was cut ({}): its numbers are of a part.", units::shown(cut)));
    }
    if recording.torn {
        warnings.push("The last line of the samples was cut and is left out.".to_owned());
    }
    let Some(crowd) = &recording.run.plan.crowd else {
        warnings.push("The plan has no honest clients: nobody saw what the attack did to them.".to_owned());
        return;
    };
    let before = recording.seconds.iter().take_while(|second| second.phase < Phase::During).last();
    let is_in = before.map_or(0, |before| before.crowd.alive.saturating_add(before.crowd.leave));
    if is_in < u64::from(crowd.count) && summary.during.seconds > 0.0 {
        warnings.push(format!(
            "Only {} of {} honest clients were in when the attack began; a longer `ramp` lets all in.",
            units::count(is_in),
            units::count(crowd.count.into())
        ));
    }
    if crowd.mode == Mode::Legacy && summary.target.false_leaves.is_none() {
        warnings.push(
            "Legacy clients are never answered and the target's metrics weren't seen: all that was seen is that links \
             stayed open, which a kernel does for a dead target too."
                .to_owned(),
        );
    }
    if summary.before.seconds == 0.0 && summary.during.seconds > 0.0 {
        warnings.push("There is no time before the attack, so nothing to compare with; give `before` some.".to_owned());
    }
}

/// Was the storm's own machine the bottleneck?
fn own_machine(recording: &Recording, summary: &Summary, warnings: &mut Vec<String>) {
    if let Some(lag) = summary.figure("own_lag").filter(|&lag| lag > LAG_US_NOTED) {
        let share = summary.figure("p99").map_or(0.0, |p99| lag / p99.max(1.0));
        if lag > LAG_US_MAX || share > LAG_SHARE_MAX {
            warnings.push(format!(
                "The storm's own timers were up to {} late during the attack: shorter times can't be told from its own \
                 lateness. Use a machine with more cores, or fewer clients.",
                units::time(lag)
            ));
        }
    }
    let own = &summary.own;
    let (cpu, cores) = (own.cpu_during.unwrap_or(0.0), f64::from(own.cores.max(1)));
    if cpu >= CPU_SHARE_MAX * cores {
        warnings.push(format!(
            "The storm itself used {} of the {} that it may use: its own machine was the bottleneck, and latencies are \
             partly its own. Run it on another machine than the target, or ask for less.",
            units::number(cpu),
            units::plural(own.cores.into(), "core")
        ));
    }
    if let Some(crowd) = own.crowd_cpu_during.filter(|&crowd| crowd >= CPU_SHARE_MAX) {
        warnings.push(format!(
            "The honest clients' thread used {} of its one core: it was a bottleneck; use fewer clients or a longer \
             interval.",
            units::number(crowd)
        ));
    }
    if recording.run.files > 0 && own.files_peak as f64 >= FILES_SHARE_MAX * recording.run.files as f64 {
        warnings.push(format!(
            "The storm had {} of the {} files open that it may have: connections may have failed for that reason. \
             Raise the limit (ulimit -n).",
            units::count(own.files_peak),
            units::count(recording.run.files)
        ));
    }
    let held_up = recording.seconds.iter().map(|second| second.for_ms).filter(|&for_ms| for_ms > SECOND_MS_MAX);
    if let Some(longest) = held_up.clone().max() {
        warnings.push(format!(
            "{} of the samples took longer than two seconds, the longest {}: the machine was overloaded or asleep.",
            units::count(held_up.count() as u64),
            units::time(longest as f64 * 1e3)
        ));
    }
}

/// Was the attack, and the load, carried out as planned?
fn carried_out(recording: &Recording, summary: &Summary, warnings: &mut Vec<String>) {
    if summary.during.seconds == 0.0 {
        return;
    }
    for (name, attack) in &summary.attacks {
        let name = units::shown(name);
        if attack.tries == 0 {
            warnings.push(format!("The attack `{name}` wasn't carried out: it has not one try."));
            continue;
        }
        if attack.turned_away as f64 > TURNED_AWAY_SHARE_MAX * attack.connected as f64 {
            warnings.push(format!(
                "{} times attackers of `{name}` were connected and not let in as users, of {} connections: most of it \
                 wasn't what it should be. The target needs registration, or names that are claims.",
                units::count(attack.turned_away),
                units::count(attack.connected)
            ));
        }
        if attack.refused as f64 > REFUSED_SHARE_MAX * (attack.connected.saturating_add(attack.refused)) as f64 {
            warnings.push(format!(
                "{} of the {} connections that `{name}` asked for didn't open: the target took no more, or this machine \
                 ran out of ports or files (`stillhere storm doctor` tells how many it has).",
                units::count(attack.refused),
                units::count(attack.connected.saturating_add(attack.refused))
            ));
        }
        if let Some(rate) = attack.rate.filter(|rate| attack.tries_per_second < TRIES_SHARE_MIN * rate) {
            warnings.push(format!(
                "`{name}` made {} tries a second of the {} that the plan asks for: it was a weaker attack than planned.",
                units::number(attack.tries_per_second),
                units::number(rate)
            ));
        }
    }
    let planned = recording.run.plan.load.as_ref();
    match (&summary.load, planned) {
        (Some(load), Some(plan)) if !plan.closed && (load.sent as f64) < SENT_SHARE_MIN * load.due as f64 => {
            warnings.push(format!(
                "Of {} requests of the load that were due only {} were sent: the pace wasn't kept.",
                units::count(load.due),
                units::count(load.sent)
            ));
        }
        (Some(_), Some(plan)) if plan.closed => warnings.push(
            "The load waited for answers (`closed`): while the target was slow nothing was asked, so its latencies \
             flatter."
                .to_owned(),
        ),
        (None, Some(_)) => warnings.push("The load wasn't carried out.".to_owned()),
        _ => {}
    }
}

/// Could enough be seen?
fn seen(summary: &Summary, warnings: &mut Vec<String>) {
    if summary.during.seconds > 0.0 && summary.target.rss_peak.is_none() {
        warnings.push(
            "The target's memory couldn't be seen: run the storm where the target runs (perhaps with its `pid`), or \
             give its metrics."
                .to_owned(),
        );
    }
    let parts = [("before", &summary.before), ("during", &summary.during), ("after", &summary.after)];
    for (quantile, least) in [("p99", SAMPLES_P99), ("p99.9", SAMPLES_P999)] {
        let few = parts.iter().filter_map(|(name, part)| {
            let count = part.rtt_us.as_ref()?.count;
            (count < least).then(|| format!("{} {name} the attack", units::count(count)))
        });
        let few: Vec<String> = few.collect();
        if !few.is_empty() {
            warnings.push(format!(
                "Few round trips were measured ({}): {quantile} is the luck of a handful of beats there. A longer run or \
                 more clients give it {}.",
                few.join(", "),
                units::count(least)
            ));
            break;
        }
    }
}
