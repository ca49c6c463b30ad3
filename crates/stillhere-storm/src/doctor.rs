//! What this machine can generate.
