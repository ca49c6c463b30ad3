//! Frames as the benchmark writes and reads them, kept apart from the project's own codec: who measures should not share the
//! bugs of what is measured.

use anyhow::{Result, ensure};

/// The tutorial's client encodes twice: a JSON string that contains the object.
pub(crate) const LEGACY_BODY: &[u8] = br#""{\"ip\": \"127.0.0.1\", \"status\": \"alive\", \"pid\": 21243}""#;
const _: () = assert!(LEGACY_BODY.len() == 64);

/// No answer of a benchmark comes near this; a longer length means that the stream is broken.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Appends one frame.
pub(crate) fn push(out: &mut Vec<u8>, body: &[u8]) {
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(body);
}

/// Hands out each complete body and returns how many bytes they took; what remains is the start of a frame.
pub(crate) fn split(bytes: &[u8], mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<usize> {
    let mut used = 0;
    while let Some((header, rest)) = bytes[used..].split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*header) as usize;
        ensure!(length <= BODY_BYTES_MAX, "a frame of {length} bytes was announced");
        let Some(body) = rest.get(..length) else { break };
        each(body)?;
        used += 4 + length;
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_legacy_frame_is_the_tutorials() {
        let mut out = Vec::new();
        push(&mut out, LEGACY_BODY);
        assert_eq!(out[..5], [0, 0, 0, 0x40, b'"']);
        assert_eq!(out.len(), 68);
    }

    #[test]
    fn split_stops_before_what_is_not_complete() {
        let mut out = Vec::new();
        push(&mut out, b"one");
        push(&mut out, b"");
        push(&mut out, b"three");
        let mut bodies = Vec::new();
        let used = split(&out[..out.len() - 1], |body| {
            bodies.push(body.to_vec());
            Ok(())
        });
        assert_eq!(used.unwrap(), 11);
        assert_eq!(bodies, [b"one".to_vec(), b"".to_vec()]);
    }

    #[test]
    fn a_length_beyond_reason_is_an_error() {
        assert!(split(&[0x7f, 0xff, 0xff, 0xff], |_| Ok(())).is_err());
    }
}
