//! The storm: attackers and honest clients against one server, and a verdict from what the honest ones saw.
//!
//! It attacks from outside: it knows the server's wire, never its code, so it can be turned on any server that speaks
//! frames with a length. A run is a pipeline, and each step knows only the one before:
//!
//! 1. a [`plan`] says what is to happen, with bounds for all of it;
//! 2. the `crowd` (honest clients), the `attack`s and the `load` do it, each on a thread of its own, and count;
//! 3. once a second what they counted becomes one [`sample::Second`], a line of `samples.jsonl`;
//! 4. the [`report`] is made of these lines alone, so it can be made again from the file at any time.
//!
//! Nothing here ends in a promise about the target that wasn't measured: a threshold about something that no sample
//! tells is broken, not passed.

#![forbid(unsafe_code)]

pub mod attack;
pub mod consent;
mod crowd;
pub mod doctor;
mod fault;
pub mod frame;
pub mod hostile;
mod load;
pub mod pace;
pub mod plan;
mod probe;
pub mod report;
pub mod run;
pub mod sample;
pub mod search;
