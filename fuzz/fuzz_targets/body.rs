//! A client's body.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| stillhere_fuzz::body(bytes));
