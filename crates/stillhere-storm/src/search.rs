//! A search: the same plan again and again with another number, until the bound is found.
//!
//! Each trial is a run with a folder of its own; a target that the plan starts is started anew for each, so that no
//! trial suffers from what the one before has left behind.

use std::sync::atomic::Ordering;

use crate::pace::search::Search;
use crate::plan::{Plan, PlanError};
use crate::report::{SearchReport, Summary, Trial, VERSION};
use crate::run::{self, Options, Progress, StormError};

/// Carries out the plan's search. Recordings and summaries of the trials are in folders `trial-01` and so on of
/// `options.out`.
///
/// # Errors
/// As [`run::run`], of the first trial; also when the plan has no search. A later trial that can't be run ends the
/// search with what was found.
pub fn run(plan: &Plan, options: &Options, watch: &mut dyn FnMut(Progress<'_>)) -> Result<SearchReport, StormError> {
    let Some(sought) = &plan.search else {
        return Err(PlanError(format!("the plan `{}` has no [search]", plan.name)).into());
    };
    let mut search = Search::new(sought);
    let mut trials: Vec<Trial> = Vec::new();
    let mut cut = None;
    while let Some(number) = search.next() {
        let nth = trials.len() as u32 + 1;
        let out = options.out.as_ref().map(|out| out.join(format!("trial-{nth:02}")));
        let trial = Options { out, trial: Some(nth), ..options.clone() };
        let recording = match run::run(&plan.trial(number), &trial, watch) {
            Ok(recording) => recording,
            Err(error) if trials.is_empty() => return Err(error),
            Err(StormError::Plan(error)) => {
                // This machine hasn't the files for a larger trial: the bound is beyond what can be tried.
                cut = Some(format!("no larger trial is possible here: {error}"));
                break;
            }
            Err(error) => {
                // A target that can't be reached any more was broken by the trial before.
                cut = Some(format!("ended at trial {nth}: {error}"));
                break;
            }
        };
        let summary = Summary::of(&recording);
        if options.interrupted.load(Ordering::Relaxed) || options.withdrawn.load(Ordering::Relaxed) {
            cut = summary.cut.clone();
            break;
        }
        search.tell(number, summary.passed);
        trials.push(Trial { number, held: summary.passed, summary });
    }
    let found = search.found();
    Ok(SearchReport { version: VERSION, plan: plan.clone(), held: found.held, broke: found.broke, cut, trials })
}
