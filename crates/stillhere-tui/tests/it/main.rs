//! The screen without a terminal or a network: keys and events go in, rendered text and requests come out.

mod flood;
mod keys;
mod screens;
mod stage;
