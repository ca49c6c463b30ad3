//! A byte stream, cut into frames.
#![no_main]

libfuzzer_sys::fuzz_target!(|stream: &[u8]| stillhere_fuzz::frames(stream));
