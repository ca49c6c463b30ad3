//! How consent is asked for and given: three frames, the last two of which prove that their sender has the code.
//!
//! ```text
//! host  > {"v":1,"nonce":"…"}
//! storm > proof, {"v":1,"nonce":"…","wants":{…}}
//! host  > proof, {"granted":{…}} or {"refused":{…}}
//! ```
//!
//! A frame is a length in four bytes, the high one first, then 32 bytes of proof (zero in the first), then JSON. A proof
//! is an HMAC-SHA-256 with the code as its key, over a word for its direction, the nonces so far, and the JSON.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{ANSWER_TIME, ConsentError, Wants};

/// The version of the exchange.
pub(super) const VERSION: u32 = 1;
/// The largest frame, in bytes; ours have some 200.
pub(super) const FRAME_MAX: usize = 2048;
/// Bytes of a proof.
pub(super) const PROOF_BYTES: usize = 32;
/// Characters of a code, five bits each: 100 bits, so that nobody guesses it.
const CODE_CHARS: usize = 20;
/// Letters and digits that aren't taken for one another.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// What the owner of a target tells whoever may storm it.
#[derive(Clone, PartialEq, Eq)]
pub struct Code(String);

impl Code {
    /// A new one, from the system's randomness.
    ///
    /// # Errors
    /// When the system has none to give.
    pub fn random() -> Result<Code, ConsentError> {
        let mut bytes = [0; CODE_CHARS];
        fill(&mut bytes)?;
        Ok(Code(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect()))
    }

    /// Reads one as it was shown or typed: dashes, spaces and capitals don't matter.
    ///
    /// # Errors
    /// When it can't be one.
    pub fn read(text: &str) -> Result<Code, ConsentError> {
        let code: String = text.chars().filter(|c| !matches!(c, '-' | ' ')).map(|c| c.to_ascii_lowercase()).collect();
        if code.len() == CODE_CHARS && code.bytes().all(|byte| ALPHABET.contains(&byte)) {
            return Ok(Code(code));
        }
        Err(ConsentError::Bad(format!(
            "a code has {CODE_CHARS} letters and digits, as `stillhere storm consent` shows it: xxxxx-xxxxx-xxxxx-xxxxx"
        )))
    }

    /// What whoever has the code says of these parts. HMAC, so that a proof can't be stretched to more.
    pub(super) fn prove(&self, parts: &[&[u8]]) -> [u8; PROOF_BYTES] {
        const BLOCK: usize = 64;
        let mut key = [0; BLOCK];
        key[..CODE_CHARS].copy_from_slice(self.0.as_bytes());
        let pad = |with: u8| key.map(|byte| byte ^ with);
        let mut inner = Sha256::new_with_prefix(pad(0x36));
        for part in parts {
            // Each part with its length: what is in one can't pass for what is in the next.
            inner.update((part.len() as u64).to_be_bytes());
            inner.update(part);
        }
        Sha256::new_with_prefix(pad(0x5c)).chain_update(inner.finalize()).finalize().into()
    }

    /// Whether a proof is that of these parts, in a time that doesn't depend on where it differs.
    pub(super) fn proves(&self, parts: &[&[u8]], proof: &[u8]) -> bool {
        self.prove(parts)[..].ct_eq(proof).into()
    }
}

/// In groups of five, to be read out.
impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, c) in self.0.chars().enumerate() {
            if nth > 0 && nth % 5 == 0 {
                f.write_str("-")?;
            }
            write!(f, "{c}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(…)")
    }
}

/// The host's first word.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Greeting {
    pub(super) v: u32,
    pub(super) nonce: String,
}

/// The storm's question.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Question {
    pub(super) v: u32,
    pub(super) nonce: String,
    pub(super) wants: Wants,
}

/// The host's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Answer {
    /// So much.
    Granted { attackers_max: u32, connections_max: u32, rate_max: Option<f64>, remaining_ms: u64 },
    /// Nothing.
    Refused { why: String },
}

/// What proofs are made of, by direction.
pub(super) fn parts<'a>(word: &'a str, own: &'a str, other: &'a str, json: &'a [u8]) -> [&'a [u8]; 4] {
    [word.as_bytes(), own.as_bytes(), other.as_bytes(), json]
}

/// A number that was never used.
pub(super) fn nonce() -> Result<String, ConsentError> {
    let mut bytes = [0; 16];
    fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn fill(bytes: &mut [u8]) -> Result<(), ConsentError> {
    let filled = getrandom::fill(bytes);
    filled
        .map_err(|error| ConsentError::System { what: "no randomness from the system".to_owned(), error: error.into() })
}

/// A frame of a proof and JSON.
pub(super) fn frame(proof: &[u8; PROOF_BYTES], json: &[u8]) -> Vec<u8> {
    let mut frame = ((PROOF_BYTES + json.len()) as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(proof);
    frame.extend_from_slice(json);
    frame
}

/// The body of a frame, split; `None` if it has no proof.
pub(super) fn split(body: &[u8]) -> Option<(&[u8], &[u8])> {
    body.split_at_checked(PROOF_BYTES)
}

/// Asks, with all of it done within [`ANSWER_TIME`].
pub(super) fn ask_on(address: SocketAddr, code: &Code, wants: &Wants) -> Result<Answer, ConsentError> {
    let end = Instant::now() + ANSWER_TIME;
    let silent = |why: &dyn fmt::Display| ConsentError::Silent { address, why: why.to_string() };
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_TIME).map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => ConsentError::Nobody(address),
        _ => silent(&error),
    })?;
    // A name that was redirected on this machine would be asked in another's place.
    if stream.peer_addr().ok() != Some(address) {
        return Err(silent(&"another address answered"));
    }
    let greeting = read(&mut stream, end).map_err(|error| silent(&error))?;
    let greeting: Greeting = split(&greeting)
        .and_then(|(_, json)| serde_json::from_slice(json).ok())
        .ok_or_else(|| silent(&"its greeting can't be read"))?;
    if greeting.v != VERSION {
        return Err(silent(&format_args!("it speaks version {}, and this is {VERSION}", greeting.v)));
    }
    let own = nonce()?;
    let question = Question { v: VERSION, nonce: own.clone(), wants: wants.clone() };
    let json = serde_json::to_vec(&question).map_err(|error| silent(&error))?;
    let proof = code.prove(&parts("ask", &greeting.nonce, &own, &json));
    stream.write_all(&frame(&proof, &json)).map_err(|error| silent(&error))?;
    // Who has another code closes without a word, whatever is wrong with it.
    let body = read(&mut stream, end).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => ConsentError::WrongCode(address),
        _ => silent(&error),
    })?;
    let (proof, json) = split(&body).ok_or_else(|| silent(&"its answer can't be read"))?;
    if !code.proves(&parts("answer", &greeting.nonce, &own, json), proof) {
        return Err(ConsentError::WrongCode(address));
    }
    serde_json::from_slice(json).map_err(|error| silent(&error))
}

/// Reads one frame.
fn read(stream: &mut TcpStream, end: Instant) -> io::Result<Vec<u8>> {
    let mut header = [0; 4];
    read_exact(stream, &mut header, end)?;
    let length = u32::from_be_bytes(header) as usize;
    if length > FRAME_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame that is too long"));
    }
    let mut body = vec![0; length];
    read_exact(stream, &mut body, end)?;
    Ok(body)
}

/// As the standard one, but for all of it there is one end.
fn read_exact(stream: &mut TcpStream, mut rest: &mut [u8], end: Instant) -> io::Result<()> {
    while !rest.is_empty() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time"));
        }
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match stream.read(rest) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => rest = &mut rest[count..],
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_long_enough_and_read_as_it_is_shown() {
        let (code, other) = (Code::random().unwrap(), Code::random().unwrap());
        assert!(code != other);
        let shown = code.to_string();
        assert_eq!(shown.len(), 23);
        for typed in [shown.clone(), shown.to_uppercase(), shown.replace('-', " "), shown.replace('-', "")] {
            assert!(Code::read(&typed).unwrap() == code, "{typed}");
        }
        for typed in ["", "abc", &shown[1..], "iiiii-iiiii-iiiii-iiiii", "ääääääääää"] {
            assert!(Code::read(typed).unwrap_err().to_string().contains("xxxxx-xxxxx"), "{typed}");
        }
        assert_eq!(format!("{code:?}"), "Code(…)");
    }

    #[test]
    fn a_proof_is_an_hmac_and_of_its_parts_alone() {
        let code = Code::read("00000000000000000000").unwrap();
        // Made with Python: hmac.new(b"0" * 20, (3).to_bytes(8, "big") + b"abc", "sha256").hexdigest()
        let proof: String = code.prove(&[b"abc"]).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(proof, EXPECTED);
        let proof = code.prove(&parts("ask", "a", "b", b"{}"));
        assert!(code.proves(&parts("ask", "a", "b", b"{}"), &proof));
        for other in [parts("answer", "a", "b", b"{}"), parts("ask", "ab", "", b"{}"), parts("ask", "a", "b", b"{ }")] {
            assert!(!code.proves(&other, &proof), "{other:?}");
        }
        assert!(!code.proves(&parts("ask", "a", "b", b"{}"), &proof[..31]));
        assert!(!Code::random().unwrap().proves(&parts("ask", "a", "b", b"{}"), &proof));
    }

    const EXPECTED: &str = "ae2c71e4932f474d7a4bc9ebf10e2c57a020ec75b5e498e6899004e32fa31f2c";
}
