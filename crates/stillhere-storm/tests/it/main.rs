//! The storm on real sockets.

mod hostile;
mod toys;
