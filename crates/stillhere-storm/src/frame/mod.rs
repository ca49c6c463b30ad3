//! How a target frames what is said, and what is said to somebody else's server.
//!
//! A [`Framing`] writes frames and a [`Decoder`] cuts them out of a stream; a [`Template`] makes what is inside of one,
//! and `talk` is a connection on which a plan's exchanges are made. None of it knows what the bytes mean, and none of
//! it ever waits: who waits, for how long and what it counts are matters of the crowd, the load and the attacks.

pub(crate) mod talk;
mod template;

pub use self::template::{PAYLOAD_MAX, Template};
use crate::plan::{self, Length, PlanError};

/// How a frame looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// How it says how long it is.
    pub length: Length,
    /// Whether the length counts its own bytes too.
    pub includes_header: bool,
    /// The longest body that is taken, in bytes.
    pub max: u32,
    /// Whether what is in the frames is our v1. The same frames may carry anything.
    pub speaks_v1: bool,
}

impl Framing {
    /// Ours: four bytes, the high one first, and 64 KiB.
    pub const STILLHERE: Framing =
        Framing { length: Length::U32Be, includes_header: false, max: 64 * 1024, speaks_v1: true };

    /// What a plan says of somebody else's.
    pub fn of(frame: &plan::Frame) -> Framing {
        Framing { length: frame.length, includes_header: frame.includes_header, max: frame.max, speaks_v1: false }
    }

    /// How many bytes say the length.
    pub fn header(self) -> usize {
        match self.length {
            Length::U8 => 1,
            Length::U16Le | Length::U16Be => 2,
            Length::U32Le | Length::U32Be => 4,
            Length::Line | Length::Raw => 0,
        }
    }

    /// The longest body whose length can be said at all, in bytes.
    pub fn body_max(self) -> u64 {
        let sayable = match self.length {
            Length::U8 => u64::from(u8::MAX),
            Length::U16Le | Length::U16Be => u64::from(u16::MAX),
            Length::U32Le | Length::U32Be => u64::from(u32::MAX),
            Length::Line | Length::Raw => u64::MAX,
        };
        sayable - self.own()
    }

    /// Appends a header that says this length, true or not: what doesn't fit is cut to its low bytes.
    pub fn write_length(self, length: u64, out: &mut Vec<u8>) {
        match self.length {
            Length::U8 => out.push(length as u8),
            Length::U16Le => out.extend((length as u16).to_le_bytes()),
            Length::U16Be => out.extend((length as u16).to_be_bytes()),
            Length::U32Le => out.extend((length as u32).to_le_bytes()),
            Length::U32Be => out.extend((length as u32).to_be_bytes()),
            Length::Line | Length::Raw => {}
        }
    }

    /// Appends a frame with this body.
    pub fn write(self, body: &[u8], out: &mut Vec<u8>) {
        self.write_length(body.len() as u64 + self.own(), out);
        out.extend_from_slice(body);
        if self.length == Length::Line {
            out.push(b'\n');
        }
    }

    /// How many of its own bytes a length counts.
    fn own(self) -> u64 {
        if self.includes_header { self.header() as u64 } else { 0 }
    }

    /// The length of the body behind this header.
    fn read_length(self, header: &[u8]) -> Result<usize, FrameError> {
        let byte = |at: usize| u64::from(header.get(at).copied().unwrap_or(0));
        let low_first = |count: usize| (0..count).rev().fold(0, |length, at| length << 8 | byte(at));
        let high_first = |count: usize| (0..count).fold(0, |length, at| length << 8 | byte(at));
        let said = match self.length {
            Length::U8 => byte(0),
            Length::U16Le | Length::U32Le => low_first(self.header()),
            Length::U16Be | Length::U32Be => high_first(self.header()),
            Length::Line | Length::Raw => 0,
        };
        let body = said.checked_sub(self.own()).ok_or(FrameError::TooShort { length: said })?;
        self.check(body)
    }

    fn check(self, body: u64) -> Result<usize, FrameError> {
        let limit = self.max;
        if body > u64::from(limit) { Err(FrameError::TooLong { length: body, limit }) } else { Ok(body as usize) }
    }
}

/// What makes the rest of a stream unreadable: the target's fault, or the plan's `[frame]` isn't what it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A body is longer than is taken. Nothing was kept for a length that only says so.
    #[error("a frame of {length} bytes is over the limit of {limit}")]
    TooLong {
        /// Bytes of the body, or of as much of a line as has come.
        length: u64,
        /// What is taken.
        limit: u32,
    },
    /// A length that counts its own bytes says fewer than these.
    #[error("a length of {length} doesn't even count its own bytes")]
    TooShort {
        /// What the header said.
        length: u64,
    },
}

/// Cuts a stream into bodies, however the stream was split or glued.
///
/// It keeps what was [`feed`](Decoder::feed) and not yet taken, so take until there is `None` before feeding more: then
/// it never keeps more than one incomplete frame, and an idle one keeps nothing.
#[derive(Debug)]
pub struct Decoder {
    framing: Framing,
    kept: Vec<u8>,
    /// Bytes of `kept` that were taken already.
    taken: usize,
    /// Bytes behind `taken` that hold no line feed.
    searched: usize,
}

/// A buffer that had to grow beyond this is given back when it is empty: one long frame mustn't cost a client of
/// thousands its memory for ever.
const CAPACITY_KEPT: usize = 1024;

impl Decoder {
    /// For a stream of such frames.
    pub fn new(framing: Framing) -> Decoder {
        Decoder { framing, kept: Vec::new(), taken: 0, searched: 0 }
    }

    /// Appends what was read.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.forget_taken();
        self.kept.extend_from_slice(bytes);
    }

    /// The next body, or `None` when it isn't whole yet. A line comes without its line feed and without a carriage
    /// return before it.
    ///
    /// # Errors
    /// When a length is impossible or over the limit; then and from then on.
    pub fn next_body(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let Some((skipped, body, ending)) = self.measure()? else {
            self.forget_taken();
            return Ok(None);
        };
        let from = self.taken + skipped;
        self.taken = from + body + ending;
        self.searched = 0;
        let body = &self.kept[from..from + body];
        Ok(Some(if self.framing.length == Length::Line { body.strip_suffix(b"\r").unwrap_or(body) } else { body }))
    }

    /// How many bytes are kept.
    pub fn kept_bytes(&self) -> usize {
        self.kept.len() - self.taken
    }

    /// Bytes before, of, and behind the next body, if it is whole.
    fn measure(&mut self) -> Result<Option<(usize, usize, usize)>, FrameError> {
        let rest = &self.kept[self.taken..];
        match self.framing.length {
            Length::Raw if rest.is_empty() => Ok(None),
            Length::Raw => Ok(Some((0, self.framing.check(rest.len() as u64)?, 0))),
            Length::Line => {
                let found = rest[self.searched..].iter().position(|&byte| byte == b'\n');
                let line = found.map_or(rest.len(), |at| self.searched + at);
                self.searched = line;
                let line = self.framing.check(line as u64)?;
                Ok(found.map(|_| (0, line, 1)))
            }
            Length::U8 | Length::U16Le | Length::U16Be | Length::U32Le | Length::U32Be => {
                let header = self.framing.header();
                let Some(said) = rest.get(..header) else { return Ok(None) };
                let body = self.framing.read_length(said)?;
                Ok((rest.len() >= header + body).then_some((header, body, 0)))
            }
        }
    }

    fn forget_taken(&mut self) {
        if self.taken == self.kept.len() {
            self.kept.clear();
            self.kept.shrink_to(CAPACITY_KEPT);
        } else if self.taken > 0 {
            self.kept.drain(..self.taken);
        }
        self.taken = 0;
    }
}

/// Checks all that a plan's `[frame]` says: templates, regular expressions, and that each payload's length can be said.
///
/// # Errors
/// In a sentence that says what to write instead.
pub fn check(frame: &plan::Frame) -> Result<(), PlanError> {
    talk::Talk::of(frame).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: [Length; 7] =
        [Length::U8, Length::U16Le, Length::U16Be, Length::U32Le, Length::U32Be, Length::Line, Length::Raw];

    fn framing(length: Length, includes_header: bool, max: u32) -> Framing {
        Framing { length, includes_header, max, speaks_v1: false }
    }

    fn decode(decoder: &mut Decoder, bytes: &[u8]) -> Result<Vec<Vec<u8>>, FrameError> {
        decoder.feed(bytes);
        let mut bodies = Vec::new();
        while let Some(body) = decoder.next_body()? {
            bodies.push(body.to_vec());
        }
        Ok(bodies)
    }

    #[test]
    fn frames_of_every_length_come_whole_however_they_were_split() {
        let bodies = [&b"first"[..], b"", b"a much longer one, with \x00 and \xff in it", b"x"];
        for length in LENGTHS.into_iter().filter(|length| *length != Length::Raw) {
            for includes_header in [false, true] {
                let framing = framing(length, includes_header, 64);
                let mut stream = Vec::new();
                bodies.iter().for_each(|body| framing.write(body, &mut stream));
                for at in 0..=stream.len() {
                    let mut decoder = Decoder::new(framing);
                    let mut found = decode(&mut decoder, &stream[..at]).unwrap();
                    found.extend(decode(&mut decoder, &stream[at..]).unwrap());
                    assert_eq!(found, bodies, "{length:?}, {includes_header}, split at {at}");
                    assert_eq!(decoder.kept_bytes(), 0);
                }
                let mut decoder = Decoder::new(framing);
                let found: Vec<_> = stream.iter().flat_map(|byte| decode(&mut decoder, &[*byte]).unwrap()).collect();
                assert_eq!(found, bodies, "{length:?}, {includes_header}, byte by byte");
            }
        }
    }

    #[test]
    fn without_frames_whatever_comes_is_one() {
        let mut decoder = Decoder::new(framing(Length::Raw, false, 8));
        assert_eq!(decode(&mut decoder, b"").unwrap(), [b""; 0]);
        assert_eq!(decode(&mut decoder, b"any\nthing").unwrap_err(), FrameError::TooLong { length: 9, limit: 8 });
        let mut decoder = Decoder::new(framing(Length::Raw, false, 8));
        assert_eq!(decode(&mut decoder, b"any\nthin").unwrap(), [b"any\nthin"]);
    }

    #[test]
    fn a_length_over_the_limit_is_an_error_before_its_bytes_come() {
        let cases: [(Length, &[u8], u64); 7] = [
            (Length::U8, b"\x09", 9),
            (Length::U16Le, b"\x09\x00", 9),
            (Length::U16Be, b"\x01\x00", 256),
            (Length::U32Le, b"\x00\x00\x00\x80", 1 << 31),
            (Length::U32Be, b"\xff\xff\xff\xff", u64::from(u32::MAX)),
            (Length::Line, b"nine long", 9),
            (Length::Raw, b"nine long", 9),
        ];
        for (length, bytes, said) in cases {
            let mut decoder = Decoder::new(framing(length, false, 8));
            for _ in 0..2 {
                let error = decode(&mut decoder, bytes).unwrap_err();
                if length != Length::Line && length != Length::Raw {
                    assert_eq!(error, FrameError::TooLong { length: said, limit: 8 }, "{length:?}");
                } else {
                    assert!(matches!(error, FrameError::TooLong { .. }), "{length:?}");
                }
            }
        }
        let mut longest = Vec::new();
        framing(Length::Line, false, 8).write(b"eight it", &mut longest);
        assert_eq!(decode(&mut Decoder::new(framing(Length::Line, false, 8)), &longest).unwrap(), [b"eight it"]);
    }

    #[test]
    fn a_length_that_counts_itself_cant_be_smaller_than_itself() {
        let cases: [(Length, &[u8]); 5] = [
            (Length::U8, b"\x00"),
            (Length::U16Le, b"\x01\x00"),
            (Length::U16Be, b"\x00\x01"),
            (Length::U32Le, b"\x03\x00\x00\x00"),
            (Length::U32Be, b"\x00\x00\x00\x03"),
        ];
        for (length, bytes) in cases {
            let error = decode(&mut Decoder::new(framing(length, true, 64)), bytes).unwrap_err();
            assert!(matches!(error, FrameError::TooShort { .. }), "{length:?}: {error}");
            let mut smallest = Vec::new();
            framing(length, true, 64).write(b"", &mut smallest);
            assert_eq!(decode(&mut Decoder::new(framing(length, true, 64)), &smallest).unwrap(), [b""]);
        }
    }

    #[test]
    fn a_line_loses_its_carriage_return_and_is_searched_once() {
        let mut decoder = Decoder::new(framing(Length::Line, false, 1 << 20));
        assert_eq!(decode(&mut decoder, b"one\r\ntwo\n\r\nthr").unwrap(), [&b"one"[..], b"two", b""]);
        assert_eq!(decoder.searched, 3);
        assert_eq!(decode(&mut decoder, b"ee\n").unwrap(), [b"three"]);
    }

    #[test]
    fn the_memory_of_a_long_frame_is_given_back() {
        let framing = framing(Length::U32Be, false, 1 << 20);
        let (mut long, mut decoder) = (Vec::new(), Decoder::new(framing));
        framing.write(&[7; 1 << 20], &mut long);
        assert_eq!(decode(&mut decoder, &long).unwrap().len(), 1);
        assert!(decoder.kept.capacity() <= CAPACITY_KEPT, "{}", decoder.kept.capacity());
    }
}
