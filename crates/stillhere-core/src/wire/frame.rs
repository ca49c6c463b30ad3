//! Frames: a 4-byte big-endian length, then that many bytes of body.

use std::mem;

/// The bytes of a frame's length.
pub const HEADER_BYTES: usize = 4;

/// What makes the rest of a byte stream unreadable. The peer's fault; the link must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is over the limit, or was negative in the sender's eyes. Nothing was buffered for it.
    #[error("a frame of {length} bytes is over the limit of {limit}")]
    TooLong {
        /// What the header said.
        length: u32,
        /// What is allowed.
        limit: u32,
    },
}

/// Cuts a byte stream into bodies, however the stream was split or glued.
///
/// It owns no memory while no frame is incomplete, and never more than has arrived of the one frame that is: the
/// length in a header is checked, but nothing is sized by it.
#[derive(Debug, Default)]
pub struct Decoder {
    // Boxed although it is a vector: an idle link pays 8 bytes instead of 24.
    #[expect(clippy::box_collection, reason = "most decoders hold nothing, and there is one in every link")]
    partial: Option<Box<Vec<u8>>>,
}

impl Decoder {
    /// The next body, taken from what is kept and then from the front of `input`; `None` when `input` is used up.
    ///
    /// Call it until it returns `None` before passing new input, or bytes are lost.
    pub fn next<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8], limit: u32) -> Result<Option<&'a [u8]>, FrameError> {
        if self.partial.as_deref().is_some_and(|kept| body_length(kept).is_some_and(|n| kept.len() == HEADER_BYTES + n))
        {
            self.partial = None;
        }
        if self.partial.is_some() {
            return self.next_from_partial(input, limit);
        }
        let Some(length) = body_length(input) else {
            self.keep(input);
            return Ok(None);
        };
        check(length, limit)?;
        if input.len() < HEADER_BYTES + length {
            self.keep(input);
            return Ok(None);
        }
        let (frame, rest) = input.split_at(HEADER_BYTES + length);
        *input = rest;
        Ok(Some(&frame[HEADER_BYTES..]))
    }

    /// How many bytes of an incomplete frame are kept.
    pub fn kept_bytes(&self) -> usize {
        self.partial.as_deref().map_or(0, Vec::len)
    }

    fn next_from_partial<'a>(&'a mut self, input: &mut &[u8], limit: u32) -> Result<Option<&'a [u8]>, FrameError> {
        let Some(kept) = self.partial.as_deref_mut() else { return Ok(None) };
        take(kept, HEADER_BYTES, input);
        let Some(length) = body_length(kept) else { return Ok(None) };
        check(length, limit)?;
        take(kept, HEADER_BYTES + length, input);
        if kept.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        Ok(Some(&kept[HEADER_BYTES..]))
    }

    fn keep(&mut self, input: &mut &[u8]) {
        let rest = mem::take(input);
        if !rest.is_empty() {
            self.partial = Some(Box::new(rest.to_vec()));
        }
    }
}

/// Moves bytes from the front of `input` until `kept` has `wanted`.
fn take(kept: &mut Vec<u8>, wanted: usize, input: &mut &[u8]) {
    let count = wanted.saturating_sub(kept.len()).min(input.len());
    let (now, rest) = input.split_at(count);
    kept.extend_from_slice(now);
    *input = rest;
}

fn body_length(bytes: &[u8]) -> Option<usize> {
    let header = bytes.first_chunk::<HEADER_BYTES>()?;
    Some(u32::from_be_bytes(*header) as usize)
}

fn check(length: usize, limit: u32) -> Result<(), FrameError> {
    let length = length as u32;
    if length > limit { Err(FrameError::TooLong { length, limit }) } else { Ok(()) }
}

/// Appends a frame whose body `write` appends. The body must stay below 16 MiB; ours stay far below the frame limit.
pub fn write_frame(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    write(out);
    let length = (out.len() - start - HEADER_BYTES) as u32;
    out[start..start + HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(pieces: &[&[u8]], limit: u32) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut decoder = Decoder::default();
        let mut bodies = Vec::new();
        for piece in pieces {
            let mut input = *piece;
            while let Some(body) = decoder.next(&mut input, limit)? {
                bodies.push(body.to_vec());
            }
            assert!(input.is_empty(), "all input is used up");
        }
        Ok(bodies)
    }

    fn encode(bodies: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for body in bodies {
            write_frame(&mut out, |out| out.extend_from_slice(body));
        }
        out
    }

    #[test]
    fn an_idle_decoder_is_eight_bytes_and_owns_nothing() {
        assert_eq!(size_of::<Decoder>(), 8);
        let mut decoder = Decoder::default();
        let mut input: &[u8] = b"\0\0\0\x02{}\0\0\0\x01";
        while decoder.next(&mut input, 64).unwrap().is_some() {}
        assert_eq!(decoder.kept_bytes(), 4);
        let mut input: &[u8] = b"x";
        assert_eq!(decoder.next(&mut input, 64).unwrap(), Some(&b"x"[..]));
        assert_eq!(decoder.next(&mut input, 64).unwrap(), None);
        assert!(decoder.partial.is_none());
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_anything_is_kept() {
        for header in [[0x00, 0x01, 0x00, 0x01], [0x7f, 0xff, 0xff, 0xff], [0xff, 0xff, 0xff, 0xff], [0x80, 0, 0, 0]] {
            let mut decoder = Decoder::default();
            let mut input = &header[..];
            let length = u32::from_be_bytes(header);
            assert_eq!(decoder.next(&mut input, 65536), Err(FrameError::TooLong { length, limit: 65536 }));
            assert_eq!(decoder.kept_bytes(), 0);
        }
    }

    #[test]
    fn a_dribbled_length_over_the_limit_is_refused_at_its_fourth_byte() {
        assert_eq!(decode(&[&[0], &[1], &[0]], 65536), Ok(vec![]));
        assert_eq!(decode(&[&[0], &[1], &[0], &[1]], 65536), Err(FrameError::TooLong { length: 65537, limit: 65536 }));
    }

    #[test]
    fn an_empty_body_is_a_frame_even_when_its_header_was_split() {
        assert_eq!(decode(&[&[0, 0], &[0, 0, 0], &[0, 0, 0]], 64), Ok(vec![vec![], vec![]]));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_bodies(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8),
            cuts in prop::collection::vec(0usize..2000, 0..12),
        ) {
            let stream = encode(&bodies);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            prop_assert_eq!(decode(&pieces, 200), Ok(bodies));
        }
    }
}
