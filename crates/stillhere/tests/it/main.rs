//! The built binary as a user meets it.

mod admin;
mod commands;
mod ctl;
mod run;
