//! Looking for a bound: doubling, then bisecting.
//!
//! Pure: it says which number to try next and is told what came of it. The answer of a trial is what a machine did in
//! half a minute, so it isn't the same each time, nor is it sure that what holds with 400 holds with 300. Two rules
//! follow. **A break must happen twice in a row** to count: on a shared machine a neighbour can make a sound target look
//! bad for a while, but nothing makes an overloaded one look good. And what was found is what was *seen*: the largest
//! number that held below the smallest that broke, with all trials beside it.

use serde::{Deserialize, Serialize};

use crate::plan;

/// One search.
#[derive(Clone, Debug)]
pub struct Search {
    from: u64,
    max: u64,
    precision: f64,
    /// No more trials than this.
    allowed: usize,
    held: Option<u64>,
    broke: Option<u64>,
    /// Broke once, and is tried again.
    doubted: Option<u64>,
    trials: Vec<Trial>,
}

/// What came of one trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The number that was tried.
    pub number: u64,
    /// Whether all thresholds held.
    pub held: bool,
}

/// What a search has found so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The largest number that held; `None` if none did.
    pub held: Option<u64>,
    /// The smallest number above it that broke; `None` if none did.
    pub broke: Option<u64>,
    /// Why there is no next trial.
    pub ended: Ended,
    /// All trials, in order.
    pub trials: Vec<Trial>,
}

/// Why a search has no next trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// It has one.
    Not,
    /// What held and what broke are as close as the plan asks.
    Close,
    /// The largest number that the plan allows held: the bound is above it.
    Max,
    /// Not even 1 held.
    Nothing,
    /// The plan allows no more trials: the bound is somewhere between what held and what broke.
    Trials,
}

impl Search {
    /// What the plan says, before the first trial.
    pub fn new(plan: &plan::Search) -> Search {
        Search {
            from: plan.from.clamp(1, plan.max.max(1)),
            max: plan.max.max(1),
            precision: plan.precision,
            allowed: plan.trials as usize,
            held: None,
            broke: None,
            doubted: None,
            trials: Vec::new(),
        }
    }

    /// The number of the next trial; `None` at the end.
    pub fn next(&self) -> Option<u64> {
        self.step().ok()
    }

    /// What came of the trial that [`Search::next`] asked for. Another number is not asked for and changes nothing.
    pub fn tell(&mut self, number: u64, held: bool) {
        if self.next() != Some(number) {
            return;
        }
        self.trials.push(Trial { number, held });
        let is_doubted = self.doubted.take().is_some();
        let is_last = self.trials.len() >= self.allowed;
        if held {
            self.held = Some(number);
        } else if is_doubted || is_last {
            self.broke = Some(number);
        } else {
            self.doubted = Some(number);
        }
    }

    /// What was found so far.
    pub fn found(&self) -> Found {
        let ended = self.step().err().unwrap_or(Ended::Not);
        Found { held: self.held, broke: self.broke, ended, trials: self.trials.clone() }
    }

    /// The next number, which is always above what held and below what broke; or why there is none.
    fn step(&self) -> Result<u64, Ended> {
        let number = match (self.held, self.broke) {
            (None, None) => self.from,
            (Some(held), None) if held >= self.max => return Err(Ended::Max),
            (Some(held), None) => held.saturating_mul(2).min(self.max),
            (None, Some(..=1)) => return Err(Ended::Nothing),
            (None, Some(broke)) => broke / 2,
            (Some(held), Some(broke)) => {
                let apart = broke.saturating_sub(held);
                if apart <= 1 || apart as f64 <= held as f64 * self.precision {
                    return Err(Ended::Close);
                }
                held + apart / 2
            }
        };
        if self.trials.len() >= self.allowed {
            return Err(Ended::Trials);
        }
        Ok(self.doubted.unwrap_or(number))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::Sought;

    fn search(from: u64, max: u64, precision: f64, trials: u32) -> Search {
        Search::new(&plan::Search { find: Sought::Attackers, from, max, precision, trials })
    }

    /// Lets it look for what `truth` says of a number and of how many trials there were.
    fn run(mut search: Search, truth: impl Fn(u64, usize) -> bool) -> Found {
        while let Some(number) = search.next() {
            let held = truth(number, search.trials.len());
            search.tell(number, held);
        }
        search.found()
    }

    fn numbers(found: &Found) -> Vec<u64> {
        found.trials.iter().map(|trial| trial.number).collect()
    }

    #[test]
    fn it_doubles_then_bisects_and_tries_each_break_twice() {
        let found = run(search(100, 10_000, 0.1, 30), |number, _| number <= 700);
        assert_eq!(numbers(&found), [100, 200, 400, 800, 800, 600, 700, 750, 750]);
        assert_eq!((found.held, found.broke, found.ended), (Some(700), Some(750), Ended::Close));
    }

    #[test]
    fn it_halves_when_the_first_breaks() {
        let found = run(search(100, 10_000, 0.5, 30), |number, _| number <= 20);
        assert_eq!(numbers(&found), [100, 100, 50, 50, 25, 25, 12, 18]);
        assert_eq!((found.held, found.broke, found.ended), (Some(18), Some(25), Ended::Close));
        let found = run(search(3, 10, 0.1, 30), |_, _| false);
        assert_eq!((numbers(&found), found.held, found.ended), (vec![3, 3, 1, 1], None, Ended::Nothing));
    }

    #[test]
    fn it_says_when_the_bound_is_beyond_what_it_may_try() {
        let found = run(search(100, 350, 0.1, 30), |_, _| true);
        assert_eq!((numbers(&found), found.ended), (vec![100, 200, 350], Ended::Max));
        let found = run(search(100, 10_000, 0.1, 4), |number, _| number <= 700);
        assert_eq!((found.held, found.broke, found.ended), (Some(400), Some(800), Ended::Trials));
        assert_eq!(search(1, 10, 0.1, 3).found().ended, Ended::Not);
    }

    #[test]
    fn a_break_that_does_not_happen_again_is_noise() {
        let found = run(search(100, 800, 0.1, 30), |_, before| before != 1);
        assert_eq!(numbers(&found), [100, 200, 200, 400, 800]);
        assert_eq!((found.held, found.broke), (Some(800), None));
    }

    #[test]
    fn what_was_not_asked_for_changes_nothing() {
        let mut search = search(100, 800, 0.1, 30);
        search.tell(5, true);
        assert_eq!((search.next(), search.found().held, search.found().trials.len()), (Some(100), None, 0));
    }

    proptest! {
        #[test]
        fn it_finds_any_bound_within_its_precision(
            bound in 0_u64..1_200_000, from in 1_u64..1_000_000, precision in 0.01_f64..1.0,
        ) {
            let max = 1_000_000;
            let found = run(search(from, max, precision, 64), |number, _| number <= bound);
            prop_assert_ne!(found.ended, Ended::Trials);
            if bound >= max {
                prop_assert_eq!((found.held, found.broke), (Some(max), None));
            } else if bound == 0 {
                prop_assert_eq!((found.held, found.broke), (None, Some(1)));
            } else {
                let (held, broke) = (found.held.unwrap(), found.broke.unwrap());
                prop_assert!(held <= bound && bound < broke, "{held} {bound} {broke}");
                prop_assert!(broke - held <= 1 || (broke - held) as f64 <= held as f64 * precision, "{held} {broke}");
            }
        }

        #[test]
        fn it_ends_whatever_it_is_told(
            answers in proptest::collection::vec(any::<bool>(), 64),
            from in 1_u64..u64::MAX, more in any::<u64>(), precision in 0.01_f64..1.0, trials in 1_u32..65,
        ) {
            let max = from.saturating_add(more);
            let found = run(search(from, max, precision, trials), |_, before| answers[before]);
            prop_assert!(found.trials.len() <= trials as usize);
            let tried = numbers(&found);
            prop_assert!(tried.iter().all(|number| (1..=max).contains(number)), "{tried:?}");
            // Nothing is tried more than twice: once, and once more if it broke.
            let most = tried.iter().map(|number| tried.iter().filter(|other| *other == number).count()).max();
            prop_assert!(most <= Some(2), "{tried:?}");
            if let (Some(held), Some(broke)) = (found.held, found.broke) {
                prop_assert!(held < broke, "{held} {broke}");
            }
            prop_assert_eq!(found.ended == Ended::Not, false);
        }
    }
}
