//! The built binary as a user meets it.

mod admin;
mod beat;
mod chat;
mod commands;
mod ctl;
mod run;
mod serve;
mod storm;
