//! What samples mean: a summary with a verdict, and a page to look at.
//!
//! Everything here is made of a [`Recording`](crate::sample::Recording) alone: nothing looks at the target, the clock
//! or the machine, so a report can be made again years later on another one.
//!
//! 1. [`Summary`] adds the seconds up, judges the thresholds and says what makes the numbers doubtful;
//! 2. [`text`](text::summary) is it for a terminal, [`page`] for a browser;
//! 3. several runs make one page to compare them, the trials of a search another ([`SearchReport`]).

mod charts;
mod compare;
mod figures;
mod html;
mod plot;
mod search;
mod summary;
#[cfg(test)]
pub(crate) mod synthetic;
#[cfg(test)]
mod tests;
pub mod text;
pub mod units;
mod warnings;

pub use self::html::page;
pub use self::search::{SearchReport, Trial, search_page};
pub use self::summary::{
    AttackSummary, CrowdSummary, Judged, Latency, LoadSummary, OwnSummary, Summary, TargetSummary, VERSION,
};
