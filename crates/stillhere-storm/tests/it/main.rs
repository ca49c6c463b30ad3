//! The storm on real sockets.

mod hostile;
mod target;
mod toys;
mod verdicts;
