//! The fuzzers' corpus, replayed: every golden frame is in it, and nothing in it breaks what must always hold.

use std::fs;
use std::path::PathBuf;

use crate::checks;
use crate::golden::{Golden, table};

fn corpus(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target)
}

fn replay(target: &str, check: fn(&[u8])) {
    for entry in fs::read_dir(corpus(target)).expect("a corpus") {
        let path = entry.expect("readable").path();
        let bytes = fs::read(&path).expect("a file");
        assert!(std::panic::catch_unwind(|| check(&bytes)).is_ok(), "{}", path.display());
    }
}

#[test]
fn the_corpus_of_frames_breaks_nothing() {
    replay("frames", checks::frames);
}

#[test]
fn the_corpus_of_bodies_breaks_nothing() {
    replay("body", checks::body);
}

/// With `STILLHERE_BLESS=1` in the environment the files are written instead.
#[test]
fn every_golden_frame_is_in_the_corpus() {
    for Golden { name, stream, .. } in table() {
        expect_file("frames", name, &stream);
        // A frame that is whole has a body of its own.
        if let Some((header, body)) = stream.split_first_chunk::<4>()
            && u32::from_be_bytes(*header) as usize == body.len()
        {
            expect_file("body", name, body);
        }
    }
}

fn expect_file(target: &str, name: &str, bytes: &[u8]) {
    let path = corpus(target).join(name);
    if std::env::var_os("STILLHERE_BLESS").is_some() {
        return fs::write(&path, bytes).expect("written");
    }
    let there = fs::read(&path).unwrap_or_else(|error| panic!("{error}: {}", path.display()));
    assert!(there == bytes, "{} isn't what the table says", path.display());
}
