//! A search: the same plan again and again with another number, until the bound is found.
//!
//! Each trial is a run with a folder of its own; a target that the plan starts is started anew for each, so that no
//! trial suffers from what the one before has left behind.

use crate::pace::search::Search;
use crate::plan::{Plan, PlanError};
use crate::report::{SearchReport, Summary, Trial, VERSION};
use crate::run::{self, Options, Progress, StormError};
use crate::sample::Recording;

/// What came of a search.
#[derive(Clone, Debug)]
pub struct Found {
    /// The trials, and the bound as far as they show it.
    pub report: SearchReport,
    /// Whether it came to its end: the bound was found, or it lies beyond what the plan or this machine allows to try.
    /// A search that was interrupted, whose owner withdrew consent or whose target is gone didn't.
    pub whole: bool,
    /// Whether it ended because the storm itself failed.
    pub own_fault: bool,
}

/// Carries out the plan's search. Recordings and summaries of the trials are in folders `trial-01` and so on of
/// `options.out`. The target's address is resolved once, before the first.
///
/// # Errors
/// As [`run::run`], of the first trial; also when the plan has no search. A later trial that can't be run ends the
/// search with what was found.
pub fn run(plan: &Plan, options: &Options, watch: &mut dyn FnMut(Progress<'_>)) -> Result<Found, StormError> {
    let options = Options { target: Some(options.target(plan)?), ..options.clone() };
    carry_out(plan, &options, &mut |plan, options| run::run(plan, options, watch))
}

/// The search itself, whatever a trial is.
fn carry_out(
    plan: &Plan,
    options: &Options,
    try_out: &mut dyn FnMut(&Plan, &Options) -> Result<Recording, StormError>,
) -> Result<Found, StormError> {
    let Some(sought) = &plan.search else {
        return Err(PlanError(format!("the plan `{}` has no [search]", plan.name)).into());
    };
    let mut search = Search::new(sought);
    let mut trials: Vec<Trial> = Vec::new();
    let (mut cut, mut whole, mut gone, mut own_fault) = (None, true, false, false);
    while let Some(number) = search.next() {
        let nth = trials.len() as u32 + 1;
        let out = options.out.as_ref().map(|out| out.join(format!("trial-{nth:02}")));
        let trial = Options { out, trial: Some(nth), ..options.clone() };
        let recording = match try_out(&plan.trial(number), &trial) {
            Ok(recording) => recording,
            Err(error) if trials.is_empty() => return Err(error),
            Err(StormError::Plan(error)) => {
                // This machine hasn't the files for a larger trial: the bound is beyond what can be tried.
                cut = Some(format!("no larger trial is possible here: {error}"));
                break;
            }
            Err(error) => {
                whole = false;
                let unwanted = options.unwanted();
                // Whoever ended the search may have ended the target with it.
                gone = unwanted.is_none() && matches!(error, StormError::Unreachable(_));
                cut = unwanted.or_else(|| Some(format!("ended at trial {nth}: {error}")));
                break;
            }
        };
        let summary = Summary::of(&recording);
        let unwanted = options.unwanted();
        // A trial in which the storm failed tells nothing of the target.
        if unwanted.is_some() || summary.own_fault {
            own_fault = summary.own_fault;
            cut = summary.cut.clone().or(unwanted);
            whole = false;
            break;
        }
        search.tell(number, summary.passed);
        trials.push(Trial { number, held: summary.passed, summary });
    }
    let found = search.found();
    let (mut held, mut broke) = (found.held, found.broke);
    if gone && let Some(number) = count_last_as_broken(plan, &mut trials) {
        broke = Some(broke.map_or(number, |broke| broke.min(number)));
        let holds = trials.iter().filter(|trial| trial.held && trial.number < number);
        held = held.filter(|held| *held < number).or_else(|| holds.map(|trial| trial.number).max());
        cut = cut.map(|cut| format!("the target was gone after {number}, which counts as broken; {cut}"));
    }
    Ok(Found {
        report: SearchReport { version: VERSION, plan: plan.clone(), held, broke, cut, trials },
        whole,
        own_fault,
    })
}

/// When nobody answers any more: the number that the target didn't survive. A target that is started anew for each
/// trial isn't gone because of the one before, so it counts only if that broke, which would have been tried again.
fn count_last_as_broken(plan: &Plan, trials: &mut [Trial]) -> Option<u64> {
    let last = trials.last_mut()?;
    if last.held && !plan.target.command.is_empty() {
        return None;
    }
    last.held = false;
    Some(last.number)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::plan::{Search as Sought, Sought as What, resolve};
    use crate::report::synthetic;

    /// A search whose trials come to what is written: `h`eld, `b`roke, `f`ailed by the storm's own fault, `g`one,
    /// `p`lan too large, `i`nterrupted, `c`ut off without a recording while interrupted.
    fn search(script: &str, command: &[&str]) -> Found {
        let mut recording = synthetic::run(&synthetic::Shape::default());
        recording.run.plan.thresholds.clear();
        let mut plan = recording.run.plan.clone();
        plan.target.command = command.iter().map(|&word| word.to_owned()).collect();
        plan.search = Some(Sought { find: What::Attackers, from: 100, max: 400, precision: 0.1, trials: 20 });
        let options = Options { target: Some(SocketAddr::from(([127, 0, 0, 1], 1))), ..Options::default() };
        let mut script = script.chars();
        let trial = &mut |_: &Plan, options: &Options| {
            let cut = |cut: &str| {
                let mut recording = recording.clone();
                let (cut, own_fault) = (Some(cut.to_owned()), cut.contains("own thread"));
                recording.end = recording.end.take().map(|end| crate::sample::End { cut, own_fault, ..end });
                Ok(recording)
            };
            match script.next() {
                Some('h') => Ok(recording.clone()),
                Some('b') => cut("the target's process ended: 1"),
                Some('f') => cut("the storm's own thread `storm-crowd` failed; this is a bug, please report it"),
                Some('g') => Err(StormError::Unreachable("nobody answers".to_owned())),
                Some('p') => Err(PlanError("too few files".to_owned()).into()),
                Some(how) => {
                    options.interrupted.store(true, Ordering::Relaxed);
                    if how == 'i' { cut("interrupted") } else { Err(StormError::Unreachable("gone".to_owned())) }
                }
                None => panic!("no more trials were expected"),
            }
        };
        carry_out(&plan, &options, trial).unwrap()
    }

    fn bound(found: &Found) -> (Option<u64>, Option<u64>, bool) {
        (found.report.held, found.report.broke, found.whole)
    }

    #[test]
    fn a_target_that_is_gone_was_broken_by_the_last_trial() {
        // 100 held, 200 broke once and can't be tried again.
        let found = search("hbg", &[]);
        assert_eq!(bound(&found), (Some(100), Some(200), false));
        let cut = found.report.cut.unwrap();
        assert!(cut.contains("gone after 200, which counts as broken; ended at trial 3: nobody"), "{cut}");
        // 200 seemed to hold, and after it nobody was there.
        let found = search("hhg", &[]);
        assert_eq!(bound(&found), (Some(100), Some(200), false));
        assert!(!found.report.trials[1].held && found.report.found().contains("200 broke"));
        // The same with the first number.
        assert_eq!(bound(&search("hg", &[])), (None, Some(100), false));
        // Below a number that broke before.
        assert_eq!(bound(&search("hbbhg", &[])), (Some(100), Some(150), false));
    }

    #[test]
    fn a_target_that_does_not_start_again_is_broken_only_where_it_was_seen() {
        assert_eq!(bound(&search("hg", &["server"])), (Some(100), None, false));
        assert_eq!(bound(&search("hbg", &["server"])), (Some(100), Some(200), false));
    }

    #[test]
    fn what_ends_a_search_early_is_told_from_its_end() {
        assert_eq!(bound(&search("hhh", &[])), (Some(400), None, true));
        assert_eq!(bound(&search("hhp", &[])), (Some(200), None, true));
        for script in ["hi", "hc"] {
            let found = search(script, &[]);
            assert_eq!((bound(&found), &*found.report.cut.unwrap()), ((Some(100), None, false), "interrupted"));
        }
        // That trial says nothing of 200.
        let found = search("hf", &[]);
        assert_eq!((bound(&found), found.report.trials.len()), ((Some(100), None, false), 1));
        assert!(found.own_fault && found.report.cut.unwrap().contains("please report it"));
    }

    #[test]
    fn a_search_meets_whom_it_was_told_to_meet() {
        let mut plan = synthetic::run(&synthetic::Shape::default()).run.plan;
        plan.target.address = "nowhere.invalid:14000".to_owned();
        plan.search = Some(Sought { find: What::Attackers, from: 1, max: 2, precision: 0.1, trials: 2 });
        resolve(&plan.target.address).unwrap_err();
        let error = run(&plan, &Options::default(), &mut |_| {}).unwrap_err();
        assert!(matches!(error, StormError::Plan(_)), "{error}");
        // Nobody listens at port 1.
        let options = Options { target: Some(SocketAddr::from(([127, 0, 0, 1], 1))), ..Options::default() };
        let error = run(&plan, &options, &mut |_| {}).unwrap_err();
        assert!(matches!(error, StormError::Unreachable(_)), "{error}");
    }
}
