//! What must hold for any bytes. The fuzz targets call these with what a fuzzer thinks of, and a test of the core
//! (`crates/stillhere-core/tests/it`) with every file of the corpus, so that what was once found stays found.
//!
//! A minute of it, in `fuzz/`, with what is found on the way kept out of the repository:
//! `mkdir -p target/frames && cargo +nightly fuzz run frames target/frames corpus/frames -- -max_len=4096 -max_total_time=60`

use serde_json::Value;
use stillhere_core::limits::JSON_DEPTH_MAX;
use stillhere_core::wire::ask::Ask;
use stillhere_core::wire::body::{self, Body, BodyError, Op};
use stillhere_core::wire::frame::{Decoder, HEADER_BYTES};

/// However a stream is split, the decoder finds the bodies that a naive reading of the whole finds, and keeps no more
/// than has arrived of the one frame that is incomplete.
pub fn frames(stream: &[u8]) {
    for limit in [16, 1024, 64 * 1024] {
        let expected = read_naively(stream, limit);
        for cut in [Cut::Whole, Cut::Bytes, Cut::Halves, Cut::Odd] {
            assert_eq!(decode(stream, limit, cut), expected, "cut into {cut:?} with limit {limit}");
        }
    }
}

/// Any body is read the same whatever was read before it; what comes out is what a general JSON parser sees in it.
pub fn body(bytes: &[u8]) {
    let mut scratch = String::from("what was left of another body: \"\u{fe0f}");
    let again = format!("{:?}", body::parse(bytes, &mut scratch));
    let mut scratch = String::new();
    let read = body::parse(bytes, &mut scratch);
    assert_eq!(format!("{read:?}"), again);
    // A general parser refuses a number or an escape that stands for nothing; in a field that no op knows, ours doesn't
    // look at it.
    let json = serde_json::from_slice::<Value>(bytes).ok();
    let field = |name: &str| json.as_ref().and_then(|json| json.get(name));
    match read {
        Ok(Body::Empty) => assert!(bytes.is_empty()),
        Ok(Body::Legacy(beat)) => {
            assert!(field("op").is_none() && !beat.ip.is_empty());
            assert!(field("ip").is_none_or(|ip| ip == &*beat.ip));
        }
        Ok(Body::V1(request)) => {
            assert!(json.is_none() || field("op").is_some_and(Value::is_string));
            match request.op {
                Ok(Op::Hello(hello)) => {
                    assert!(field("v").is_none_or(|version| version == 1));
                    assert!(hello.user.is_none_or(|user| (1..=64).contains(&user.len())));
                }
                Ok(Op::Beat { .. }) => assert!(field("op").is_none_or(|op| op == "beat")),
                Ok(Op::Status(status)) => assert!(field("status").is_none_or(|shown| shown == status.name())),
                Ok(Op::Bye) => assert!(field("op").is_none_or(|op| op == "bye")),
                Ok(Op::Ask(ask)) => {
                    let users = matches!(*ask, Ask::Watch(_) | Ask::Unwatch(_));
                    assert!(!users || field("users").is_none_or(Value::is_array));
                }
                Err(refusal) => assert!((1000..2000).contains(&refusal.code)),
            }
        }
        Err(BodyError::NotUtf8) => assert!(std::str::from_utf8(bytes).is_err()),
        Err(BodyError::TooDeep) => assert!(bytes.len() > 2 * JSON_DEPTH_MAX),
        Err(BodyError::NotAnObject | BodyError::NeitherOpNorBeat) => {}
    }
}

/// What a stream comes to: its bodies, and either how many bytes are left of an incomplete frame or the length that
/// no frame may have.
type Reading = (Vec<Vec<u8>>, Result<usize, u32>);

/// How a stream arrives.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Whole,
    Bytes,
    Halves,
    /// In pieces whose lengths follow from the bytes themselves.
    Odd,
}

fn decode(stream: &[u8], limit: u32, cut: Cut) -> Reading {
    let mut decoder = Decoder::default();
    let mut bodies = Vec::new();
    let (mut rest, mut arrived) = (stream, 0);
    while !rest.is_empty() {
        let length = match cut {
            Cut::Whole => rest.len(),
            Cut::Bytes => 1,
            Cut::Halves => rest.len().div_ceil(2),
            Cut::Odd => usize::from(rest[0] ^ rest[rest.len() - 1]) + 1,
        };
        let (piece, later) = rest.split_at(length.min(rest.len()));
        (rest, arrived) = (later, arrived + piece.len());
        let mut input = piece;
        loop {
            match decoder.next(&mut input, limit) {
                Ok(Some(body)) => bodies.push(body.to_vec()),
                Ok(None) => break,
                Err(stillhere_core::wire::frame::FrameError::TooLong { length, .. }) => return (bodies, Err(length)),
            }
        }
        assert!(input.is_empty() && decoder.kept_bytes() <= arrived.min(HEADER_BYTES + limit as usize));
    }
    (bodies, Ok(decoder.kept_bytes()))
}

fn read_naively(stream: &[u8], limit: u32) -> Reading {
    let mut bodies = Vec::new();
    let mut rest = stream;
    while let Some((header, after)) = rest.split_first_chunk::<HEADER_BYTES>() {
        let length = u32::from_be_bytes(*header);
        if length > limit {
            return (bodies, Err(length));
        }
        let Some((body, later)) = after.split_at_checked(length as usize) else { break };
        bodies.push(body.to_vec());
        rest = later;
    }
    (bodies, Ok(rest.len()))
}
