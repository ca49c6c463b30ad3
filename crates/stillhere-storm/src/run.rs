//! A run: its phases, its threads, its samples.
