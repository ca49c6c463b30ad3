//! How a target frames what is said, and what is said to somebody else's server.

use crate::plan::Length;

/// How a frame looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// How it says how long it is.
    pub length: Length,
    /// Whether the length counts its own bytes too.
    pub includes_header: bool,
    /// The longest body that is taken, in bytes.
    pub max: u32,
}

impl Framing {
    /// Ours: four bytes, the high one first, and 64 KiB.
    pub const STILLHERE: Framing = Framing { length: Length::U32Be, includes_header: false, max: 64 * 1024 };

    /// How many bytes say the length.
    pub fn header(self) -> usize {
        match self.length {
            Length::U8 => 1,
            Length::U16Le | Length::U16Be => 2,
            Length::U32Le | Length::U32Be => 4,
            Length::Line | Length::Raw => 0,
        }
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
        let own = if self.includes_header { self.header() } else { 0 };
        self.write_length((body.len() + own) as u64, out);
        out.extend_from_slice(body);
        if self.length == Length::Line {
            out.push(b'\n');
        }
    }
}
