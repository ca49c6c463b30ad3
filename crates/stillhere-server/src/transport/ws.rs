//! WebSocket frames on one link, without a buffer of its own: each text message becomes one native frame while it
//! arrives, so that the shard's own bounds on size, memory and time hold for it as for any other.
//!
//! Of a message in one piece, as browsers send them, nothing is kept here. One in fragments has no length before its
//! end, so it is kept until then; the first byte of its native frame (always 0) is passed on at its beginning, which
//! starts the shard's clock for it.

use stillhere_core::close::CloseCode;
use stillhere_core::wire::frame::HEADER_BYTES;

use super::held::Held;

/// The longest head of a frame: two bytes, the long form of the length, the mask.
const HEAD_BYTES_MAX: usize = 14;
/// The longest body of a control frame; RFC 6455, section 5.5.
const CONTROL_BYTES_MAX: u64 = 125;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
const LENGTH_OF_2_BYTES: u8 = 126;
const LENGTH_OF_8_BYTES: u8 = 127;

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The peer broke the protocol; RFC 6455, section 7.4.1.
const PROTOCOL_ERROR: u16 = 1002;
/// Going away without a fault; RFC 6455, section 7.4.1.
const NORMAL: u16 = 1000;

/// What is being read of one link.
#[derive(Debug, Default)]
pub(super) struct WebSocket {
    head: [u8; HEAD_BYTES_MAX],
    head_bytes: u8,
    /// What the present frame is; `None` while its head is being read.
    kind: Option<Kind>,
    /// Bytes of the present frame that are still to come.
    left: u64,
    mask: [u8; 4],
    fin: bool,
    /// Whether a message in fragments is being read.
    fragmented: bool,
    /// What has come of a message in fragments, or of a control frame. Never of both: the fragments wait meanwhile in
    /// `fragments`.
    control: Held,
    fragments: Held,
    parted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A message in one piece.
    Whole,
    Fragment,
    Ping,
    Pong,
    Close,
}

/// What the next bytes come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// They are used up.
    Nothing,
    /// A ping or a pong; a ping's answer is written already.
    Life,
    /// The peer takes its leave; the answer is written already.
    Leave,
    /// This is no WebSocket, or more than a message may be.
    Garbage,
    /// No memory for fragments.
    Full,
}

impl WebSocket {
    /// Reads from the front of `input` until something else than a message was read, or to its end. Frames for the
    /// shard are added to `frames`, answers for the peer to `reply`.
    pub(super) fn read(
        &mut self,
        input: &mut &[u8],
        message_bytes_max: usize,
        held_max: usize,
        frames: &mut Vec<u8>,
        reply: &mut Vec<u8>,
    ) -> Heard {
        while !self.parted {
            let Some(kind) = self.kind else {
                match self.read_head(input, frames) {
                    Some(true) => continue,
                    Some(false) => return Heard::Nothing,
                    None => return Heard::Garbage,
                }
            };
            let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
            let (now, rest) = input.split_at(count);
            *input = rest;
            self.left -= count as u64;
            let kept = match kind {
                Kind::Whole => {
                    let start = frames.len();
                    frames.extend_from_slice(now);
                    unmask(&mut frames[start..], self.mask);
                    Ok(())
                }
                Kind::Fragment if self.fragments.bytes().len() + count > message_bytes_max => return Heard::Garbage,
                Kind::Fragment => keep(&mut self.fragments, now, self.mask, held_max),
                Kind::Ping | Kind::Pong | Kind::Close => keep(&mut self.control, now, self.mask, held_max),
            };
            if kept.is_err() {
                return Heard::Full;
            }
            if self.left > 0 {
                self.mask.rotate_left(count % 4);
                return Heard::Nothing;
            }
            self.kind = None;
            match self.frame_ended(kind, frames, reply) {
                Heard::Nothing => {}
                heard => return heard,
            }
        }
        Heard::Nothing
    }

    /// `Some(true)` once a frame has begun, `Some(false)` if more bytes are needed, `None` if there can't be one.
    fn read_head(&mut self, input: &mut &[u8], frames: &mut Vec<u8>) -> Option<bool> {
        loop {
            let known = usize::from(self.head_bytes);
            let wanted = head_length(&self.head[..known]);
            if known == wanted {
                break;
            }
            let count = (wanted - known).min(input.len());
            if count == 0 {
                return Some(false);
            }
            let (now, rest) = input.split_at(count);
            self.head[known..known + count].copy_from_slice(now);
            self.head_bytes += count as u8;
            *input = rest;
        }
        self.begin(frames).then_some(true)
    }

    /// Begins the frame whose head is complete; false if that isn't allowed.
    fn begin(&mut self, frames: &mut Vec<u8>) -> bool {
        let head = &self.head[..usize::from(self.head_bytes)];
        let (first, second) = (head[0], head[1]);
        let (lengths, mask) = head[2..].split_at(head.len() - 2 - 4);
        let length = match *lengths {
            [high, low] => u64::from(u16::from_be_bytes([high, low])),
            [a, b, c, d, e, f, g, h] => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            _ => u64::from(second & !MASKED),
        };
        let shortest = match lengths.len() {
            2 => length >= u64::from(LENGTH_OF_2_BYTES),
            8 => length > u64::from(u16::MAX),
            _ => true,
        };
        let fin = first & FIN != 0;
        let kind = match (first & 0x0f, fin, self.fragmented) {
            (TEXT, true, false) => Kind::Whole,
            (TEXT, false, false) | (0, _, true) => Kind::Fragment,
            (PING, true, _) => Kind::Ping,
            (PONG, true, _) => Kind::Pong,
            (CLOSE, true, _) => Kind::Close,
            _ => return false,
        };
        let control = !matches!(kind, Kind::Whole | Kind::Fragment);
        if first & RESERVED != 0 || second & MASKED == 0 || !shortest || (control && length > CONTROL_BYTES_MAX) {
            return false;
        }
        match kind {
            // What is longer than the header can say is longer than any limit, too.
            Kind::Whole => frames.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()),
            Kind::Fragment if !self.fragmented => frames.push(0),
            Kind::Fragment | Kind::Ping | Kind::Pong | Kind::Close => {}
        }
        self.mask.copy_from_slice(mask);
        self.kind = Some(kind);
        self.left = length;
        self.fin = fin;
        self.fragmented |= kind == Kind::Fragment;
        self.head_bytes = 0;
        true
    }

    fn frame_ended(&mut self, kind: Kind, frames: &mut Vec<u8>, reply: &mut Vec<u8>) -> Heard {
        match kind {
            Kind::Whole => Heard::Nothing,
            Kind::Fragment => {
                if self.fin {
                    // The first byte of the length has been passed on already.
                    frames.extend_from_slice(&(self.fragments.bytes().len() as u32).to_be_bytes()[1..]);
                    frames.extend_from_slice(self.fragments.bytes());
                    self.fragments.clear();
                    self.fragmented = false;
                }
                Heard::Nothing
            }
            Kind::Ping => {
                // Of several that wait the last is answered (RFC 6455, 5.5.3), or a flood of pings would cost as many
                // writes as pings.
                reply.clear();
                write_frame(reply, PONG, self.control.bytes());
                self.control.clear();
                Heard::Life
            }
            Kind::Pong => {
                self.control.clear();
                Heard::Life
            }
            Kind::Close => {
                // The same code comes back, without the reason, unless it is none that may be sent.
                let code = match self.control.bytes() {
                    [] => &[][..],
                    [high, low, reason @ ..] if may_be_sent(*high, *low) && std::str::from_utf8(reason).is_ok() => {
                        &[*high, *low]
                    }
                    _ => &PROTOCOL_ERROR.to_be_bytes()[..],
                };
                write_frame(reply, CLOSE, code);
                self.control.clear();
                self.parted = true;
                Heard::Leave
            }
        }
    }

    /// Takes leave of the peer.
    pub(super) fn part(&mut self, code: Option<CloseCode>, out: &mut Vec<u8>) {
        if self.parted {
            return;
        }
        self.parted = true;
        let number = code.map_or(NORMAL, CloseCode::number);
        let reason = code.map_or("", CloseCode::reason);
        write_frame(out, CLOSE, &[&number.to_be_bytes(), reason.as_bytes()].concat());
    }
}

/// Whether a close frame may carry this code (RFC 6455, 7.4).
fn may_be_sent(high: u8, low: u8) -> bool {
    matches!(u16::from_be_bytes([high, low]), 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Writes native frames, which must be whole, as one text message each.
pub(super) fn write_messages(frames: &[u8], out: &mut Vec<u8>) {
    let mut rest = frames;
    while let Some((header, after)) = rest.split_first_chunk::<HEADER_BYTES>() {
        let length = (u32::from_be_bytes(*header) as usize).min(after.len());
        let (body, next) = after.split_at(length);
        write_frame(out, TEXT, body);
        rest = next;
    }
}

/// Asks the peer for a sign of life.
pub(super) fn write_ping(out: &mut Vec<u8>) {
    write_frame(out, PING, b"");
}

/// A server's frame: in one piece and not masked.
fn write_frame(out: &mut Vec<u8>, opcode: u8, body: &[u8]) {
    out.push(FIN | opcode);
    match body.len() {
        length @ 0..126 => out.push(length as u8),
        length @ 126..=0xffff => {
            out.push(LENGTH_OF_2_BYTES);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(LENGTH_OF_8_BYTES);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(body);
}

/// How many bytes the head of a frame has, as far as it is known.
fn head_length(head: &[u8]) -> usize {
    let Some(second) = head.get(1) else { return 2 };
    let lengths = match second & !MASKED {
        LENGTH_OF_2_BYTES => 2,
        LENGTH_OF_8_BYTES => 8,
        _ => 0,
    };
    // Without a mask the frame is refused; the four bytes are read all the same.
    2 + lengths + 4
}

fn keep(held: &mut Held, bytes: &[u8], mask: [u8; 4], held_max: usize) -> Result<(), super::held::Full> {
    let start = held.bytes().len();
    held.extend(bytes, held_max)?;
    unmask(&mut held.bytes_mut()[start..], mask);
    Ok(())
}

/// Takes the mask off; its first byte belongs to the first of `bytes`.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let wide = u32::from_ne_bytes(mask);
    let (words, rest) = bytes.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: usize = 1 << 16;

    /// A client's frame.
    fn masked(first: u8, body: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        write_frame(&mut frame, 0, body);
        let mask = [0x5a, 0x01, 0xff, 0x80];
        let head = frame.len() - body.len();
        frame[0] = first;
        frame[1] |= MASKED;
        unmask(&mut frame[head..], mask);
        frame.splice(head..head, mask);
        frame
    }

    /// Feeds pieces; returns the frames for the shard, the replies, and everything heard.
    fn feed(pieces: &[&[u8]]) -> (Vec<u8>, Vec<u8>, Vec<Heard>) {
        let (mut socket, mut frames, mut reply, mut heard) = (WebSocket::default(), Vec::new(), Vec::new(), Vec::new());
        for piece in pieces {
            let mut input = *piece;
            loop {
                match socket.read(&mut input, MAX, 1 << 20, &mut frames, &mut reply) {
                    Heard::Nothing => break,
                    end @ (Heard::Garbage | Heard::Full) => {
                        heard.push(end);
                        return (frames, reply, heard);
                    }
                    other => heard.push(other),
                }
            }
        }
        (frames, reply, heard)
    }

    fn native(body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32).to_be_bytes(), body].concat()
    }

    #[test]
    fn a_text_message_is_passed_on_before_it_is_whole() {
        let message = masked(FIN | TEXT, b"0123456789");
        let (frames, ..) = feed(&[&message[..9]]);
        assert_eq!(frames, b"\0\0\0\x0a012");
        assert_eq!(feed(&[&message]).0, native(b"0123456789"));
        assert_eq!(feed(&[&masked(FIN | TEXT, b"")]).0, native(b""));
    }

    #[test]
    fn fragments_become_one_frame_whose_first_byte_comes_first_and_pings_may_stand_between() {
        let (one, two) = (masked(TEXT, b"he"), masked(FIN, b"llo"));
        assert_eq!(feed(&[&one]).0, [0]);
        let (frames, reply, heard) = feed(&[&one, &masked(FIN | PING, b"p"), &masked(0, b""), &two]);
        assert_eq!((frames, reply, heard), (native(b"hello"), b"\x8a\x01p".to_vec(), vec![Heard::Life]));
    }

    #[test]
    fn a_close_is_answered_with_its_code_and_nothing_after_it_is_read() {
        let bytes = [masked(FIN | CLOSE, b"\x03\xe8bye"), masked(FIN | TEXT, b"x")].concat();
        assert_eq!(feed(&[&bytes]), (vec![], b"\x88\x02\x03\xe8".to_vec(), vec![Heard::Leave]));
        assert_eq!(feed(&[&masked(FIN | CLOSE, b"")]).1, b"\x88\0");
        // What may not be sent isn't sent back: half a code, one that only stands for its absence, a garbled reason.
        for body in [&b"\x03"[..], b"\x03\xed", b"\x00\x00", b"\x03\xe8\xff"] {
            let (_, reply, heard) = feed(&[&masked(FIN | CLOSE, body)]);
            assert_eq!((&reply[..], &heard[..]), (&b"\x88\x02\x03\xea"[..], &[Heard::Leave][..]), "{body:?}");
        }
    }

    #[test]
    fn of_several_pings_the_last_is_answered() {
        let pings = [masked(FIN | PING, b"a"), masked(FIN | PING, b"b")].concat();
        assert_eq!(feed(&[&pings]).1, b"\x8a\x01b");
    }

    #[test]
    fn what_the_standard_forbids_is_garbage() {
        let unmasked = [FIN | TEXT, 4, b't', b'e', b's', b't'];
        let too_long = [&[FIN | PING, MASKED | LENGTH_OF_2_BYTES, 0, 126][..], &[0; 130]].concat();
        let roundabout = [&[FIN | TEXT, MASKED | LENGTH_OF_2_BYTES, 0, 5][..], &[0; 9]].concat();
        for bytes in [
            masked(FIN | 2, b"binary"),
            masked(FIN, b"nothing to go on with"),
            [masked(TEXT, b"a"), masked(FIN | TEXT, b"b")].concat(),
            masked(FIN | 0x40 | TEXT, b"compressed"),
            masked(PING, b"in pieces"),
            masked(FIN | 3, b"unknown"),
            masked(FIN | 11, b"unknown"),
            unmasked.to_vec(),
            too_long,
            roundabout,
            [masked(TEXT, &[b'x'; MAX]), masked(0, b"x")].concat(),
        ] {
            assert_eq!(feed(&[&bytes]).2, [Heard::Garbage], "{:?}", &bytes[..bytes.len().min(20)]);
        }
    }

    #[test]
    fn a_message_longer_than_any_limit_says_so_in_its_header() {
        let head = [&[FIN | TEXT, MASKED | LENGTH_OF_8_BYTES][..], &(1u64 << 40).to_be_bytes(), &[0; 4]].concat();
        assert_eq!(feed(&[&head]).0, [0xff; 4]);
    }

    #[test]
    fn frames_go_out_as_one_message_each() {
        let mut out = Vec::new();
        write_messages(&[native(b"a"), native(&[b'b'; 200]), native(&[b'c'; 70_000])].concat(), &mut out);
        assert_eq!(out[..6], [0x81, 1, b'a', 0x81, 126, 0]);
        assert_eq!(out.len(), 3 + 4 + 200 + 10 + 70_000);
    }

    #[test]
    fn the_shards_code_stands_in_the_close_frame_once() {
        let (mut socket, mut out) = (WebSocket::default(), Vec::new());
        socket.part(Some(CloseCode::Kicked), &mut out);
        socket.part(None, &mut out);
        assert_eq!(out[..4], [0x88, out.len() as u8 - 2, 0x11, 0x98]);
        assert!(CloseCode::all().all(|code| code.reason().len() as u64 + 2 <= CONTROL_BYTES_MAX));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_frames(
            bodies in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), 0usize..4), 0..8),
            cuts in prop::collection::vec(0usize..3000, 0..12),
        ) {
            let (mut stream, mut expected) = (Vec::new(), Vec::new());
            for (body, fragments) in &bodies {
                let pieces: Vec<&[u8]> = body.chunks(body.len() / (fragments + 1) + 1).collect();
                for (index, piece) in pieces.iter().enumerate() {
                    let opcode = if index == 0 { TEXT } else { 0 };
                    let fin = if index + 1 == pieces.len() { FIN } else { 0 };
                    stream.extend(masked(fin | opcode, piece));
                }
                if !pieces.is_empty() {
                    expected.extend(native(body));
                }
            }
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            prop_assert_eq!(feed(&pieces), (expected, vec![], vec![]));
        }

        #[test]
        fn whatever_comes_nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            feed(&[&bytes]);
        }
    }
}
