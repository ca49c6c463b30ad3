//! What is sent, with places in it that differ from one exchange to the next.

use std::time::{SystemTime, UNIX_EPOCH};

use rand::distr::Alphanumeric;
use rand::{Rng, RngExt};
use stillhere_core::text::{Escaped, clip};

use crate::plan::PlanError;

/// The longest payload that a template may make, in bytes. Exchanges are what honest clients say, of which there may be
/// thousands; attacks make their megabytes themselves.
pub const PAYLOAD_MAX: usize = 1 << 20;
/// The most letters of one `${random:…}`.
const RANDOM_MAX: u64 = 64 * 1024;
/// Bytes of a user's text that an error repeats.
const SHOWN_MAX: usize = 40;

/// A payload with placeholders, compiled.
///
/// | written | becomes |
/// |---|---|
/// | `${n}` | the connection's number |
/// | `${count}` | the number of the exchange on this connection, from 1, those of the hello among them |
/// | `${random:8}` | so many random letters and digits, 1 to 65,536 |
/// | `${int:1-100}` | a random whole number from the first to the second |
/// | `${time}`, `${ms}` | the time in seconds, or milliseconds, since 1970 |
/// | `$$`, `${$}` | a dollar |
/// | `\x00` | the byte with these two hexadecimal digits |
///
/// All else stands for itself, a lone `$` and any other backslash too, so that JSON can be written as it is. What
/// follows `\x` has to be two hexadecimal digits; a backslash before an `x` is `\x5c`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Bytes(Vec<u8>),
    Number,
    Count,
    Random(usize),
    Int(u64, u64),
    Time,
    Ms,
}

/// A placeholder: what stands before the colon, an example, what it becomes without and with what follows the colon,
/// and the most bytes of it.
const PLACEHOLDERS: &[(&str, &str, Reader)] = &[
    ("n", "${n}", Reader::Alone(Piece::Number)),
    ("count", "${count}", Reader::Alone(Piece::Count)),
    ("random", "${random:8}", Reader::With(random)),
    ("int", "${int:1-100}", Reader::With(int)),
    ("time", "${time}", Reader::Alone(Piece::Time)),
    ("ms", "${ms}", Reader::Alone(Piece::Ms)),
];

enum Reader {
    Alone(Piece),
    With(fn(&str) -> Option<Piece>),
}

impl Template {
    /// Compiles it.
    ///
    /// # Errors
    /// In a sentence that says what to write instead.
    pub fn new(text: &str) -> Result<Template, PlanError> {
        let mut template = Template { pieces: Vec::new() };
        let mut rest = text;
        while let Some(at) = rest.find(['$', '\\']) {
            template.push_bytes(&rest.as_bytes()[..at]);
            rest = &rest[at..];
            rest = if let Some(inside) = rest.strip_prefix("${") {
                let Some((inside, rest)) = inside.split_once('}') else {
                    let shown = Escaped(clip(rest, SHOWN_MAX));
                    return Err(PlanError(format!(
                        "`{shown}` isn't closed; write `}}` behind it, or `$$` for a dollar"
                    )));
                };
                match inside {
                    "$" => template.push_bytes(b"$"),
                    _ => template.pieces.push(placeholder(inside)?),
                }
                rest
            } else if let Some(rest) = rest.strip_prefix("$$") {
                template.push_bytes(b"$");
                rest
            } else if let Some(digits) = rest.strip_prefix("\\x") {
                let byte = digits.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
                let Some(byte) = byte.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
                    let shown = Escaped(clip(digits, 2));
                    return Err(PlanError(format!(
                        "`\\x{shown}` is no byte; write two hexadecimal digits, as in \\x00, or \\x5c for a backslash"
                    )));
                };
                template.push_bytes(&[byte]);
                &digits[2..]
            } else {
                template.push_bytes(&rest.as_bytes()[..1]);
                &rest[1..]
            };
        }
        template.push_bytes(rest.as_bytes());
        match template.longest() {
            0..=PAYLOAD_MAX => Ok(template),
            longest => Err(PlanError(format!(
                "this payload may become {longest} bytes long; write one of at most {PAYLOAD_MAX}"
            ))),
        }
    }

    /// Whether it can be compiled.
    ///
    /// # Errors
    /// In a sentence that says what to write instead.
    pub fn check(text: &str) -> Result<(), PlanError> {
        Template::new(text).map(|_| ())
    }

    /// The most bytes that it makes. Counts are taken to stay below 10 billion.
    pub fn longest(&self) -> usize {
        let longest = |piece: &Piece| match piece {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Number | Piece::Count | Piece::Time => 10,
            Piece::Random(count) => *count,
            Piece::Int(_, high) => high.to_string().len(),
            Piece::Ms => 13,
        };
        self.pieces.iter().map(longest).sum()
    }

    /// Appends it, for connection `n` and its exchange number `count`.
    pub fn render(&self, n: u32, count: u64, rng: &mut impl Rng, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            let number = match piece {
                Piece::Bytes(bytes) => {
                    out.extend_from_slice(bytes);
                    continue;
                }
                Piece::Random(count) => {
                    out.extend(rng.sample_iter(Alphanumeric).take(*count));
                    continue;
                }
                Piece::Number => u64::from(n),
                Piece::Count => count,
                Piece::Int(low, high) => rng.random_range(*low..=*high),
                Piece::Time => now_ms() / 1000,
                Piece::Ms => now_ms(),
            };
            out.extend_from_slice(number.to_string().as_bytes());
        }
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        match self.pieces.last_mut() {
            _ if bytes.is_empty() => {}
            Some(Piece::Bytes(before)) => before.extend_from_slice(bytes),
            _ => self.pieces.push(Piece::Bytes(bytes.to_vec())),
        }
    }
}

/// The wall clock, to be sent and never counted with. Before 1970 it is 1970.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// What stands between `${` and `}`.
fn placeholder(inside: &str) -> Result<Piece, PlanError> {
    let (name, rest) = inside.split_once(':').map_or((inside, None), |(name, rest)| (name, Some(rest)));
    let shown = Escaped(clip(inside, SHOWN_MAX));
    let Some((_, example, reader)) = PLACEHOLDERS.iter().find(|(known, ..)| *known == name) else {
        let nearest = PLACEHOLDERS.iter().min_by_key(|(known, ..)| strsim::damerau_levenshtein(name, known));
        let example = nearest.map_or("${n}", |(_, example, _)| example);
        return Err(PlanError(format!("`${{{shown}}}` is no placeholder; write `{example}`, or `$$` for a dollar")));
    };
    let piece = match (reader, rest) {
        (Reader::Alone(piece), None) => Some(piece.clone()),
        (Reader::With(read), Some(rest)) => read(rest),
        (Reader::Alone(_), Some(_)) | (Reader::With(_), None) => None,
    };
    let hint = match name {
        "random" => ", a number of letters from 1 to 65536",
        "int" => ", two whole numbers, the smaller one first",
        _ => "",
    };
    piece.ok_or_else(|| PlanError(format!("`${{{shown}}}` can't be read; write it as `{example}`{hint}")))
}

fn random(rest: &str) -> Option<Piece> {
    let count = rest.parse().ok().filter(|count| (1..=RANDOM_MAX).contains(count))?;
    Some(Piece::Random(count as usize))
}

fn int(rest: &str) -> Option<Piece> {
    let (low, high) = rest.split_once('-')?;
    let (low, high) = (low.parse().ok()?, high.parse().ok()?);
    (low <= high).then_some(Piece::Int(low, high))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn render(text: &str, n: u32, count: u64) -> Vec<u8> {
        let mut out = Vec::new();
        Template::new(text).unwrap().render(n, count, &mut StdRng::seed_from_u64(1), &mut out);
        out
    }

    #[test]
    fn what_stands_for_itself_stays_and_what_counts_is_filled_in() {
        let cases: [(&str, &[u8]); 12] = [
            ("", b""),
            ("plain, \u{4f60}\u{597d}", "plain, \u{4f60}\u{597d}".as_bytes()),
            ("user${n} says ${count}", b"user7 says 42"),
            ("${n}${n}${count}", b"7742"),
            ("$", b"$"),
            ("5 $ or $5 or $(n)", b"5 $ or $5 or $(n)"),
            ("$${n}", b"${n}"),
            ("${$}{n} $$$$", b"${n} $$"),
            (r"\x00\x0A\xff\x5cx41", b"\x00\x0a\xff\\x41"),
            (r#"{"text":"a\nb \"c\" \\ \u0041"}"#, br#"{"text":"a\nb \"c\" \\ \u0041"}"#),
            ("${int:5-5}", b"5"),
            ("ends with \\", b"ends with \\"),
        ];
        for (text, wanted) in cases {
            assert_eq!(render(text, 7, 42), wanted, "{text}");
        }
    }

    #[test]
    fn random_places_have_their_length_and_stay_in_their_range() {
        let template = Template::new("${random:8} ${int:10-12} ${random:3000}").unwrap();
        let mut rng = StdRng::seed_from_u64(2);
        let mut ints = [0; 3];
        for _ in 0..200 {
            let mut out = Vec::new();
            template.render(0, 1, &mut rng, &mut out);
            let text = String::from_utf8(out).unwrap();
            let parts: Vec<_> = text.split(' ').collect();
            assert_eq!((parts.len(), parts[0].len(), parts[2].len()), (3, 8, 3000));
            assert!(text.chars().all(|c| c.is_ascii_alphanumeric() || c == ' '));
            ints[parts[1].parse::<usize>().unwrap() - 10] += 1;
            assert_eq!(text.len(), template.longest());
        }
        assert!(ints.iter().all(|&count| count > 30), "{ints:?}");
        assert_ne!(render("${random:20}", 0, 1), Template::new("${random:20}").map(|_| vec![b'a'; 20]).unwrap());
        assert_eq!(Template::new("${int:0-18446744073709551615}").unwrap().longest(), 20);
    }

    #[test]
    fn times_are_of_the_wall_clock() {
        let number = |text| String::from_utf8(render(text, 0, 0)).unwrap().parse::<u64>().unwrap();
        let (seconds, before, ms) = (number("${time}"), now_ms(), number("${ms}"));
        assert!(seconds <= before / 1000 && before / 1000 - seconds <= 1, "{seconds} {before}");
        assert!(ms >= before && ms - before < 1000, "{ms} {before}");
    }

    #[test]
    fn what_cant_be_read_is_refused_in_a_sentence_that_says_what_to_write() {
        let cases = [
            ("${numb}", "`${numb}` is no placeholder; write `${n}`, or `$$` for a dollar"),
            ("${cuont}", "`${cuont}` is no placeholder; write `${count}`, or `$$` for a dollar"),
            ("${rand:8}", "`${rand:8}` is no placeholder; write `${random:8}`, or `$$` for a dollar"),
            ("${}", "`${}` is no placeholder; write `${n}`, or `$$` for a dollar"),
            ("${times}", "`${times}` is no placeholder; write `${time}`, or `$$` for a dollar"),
            ("a ${n", "`${n` isn't closed; write `}` behind it, or `$$` for a dollar"),
            ("${n:1}", "`${n:1}` can't be read; write it as `${n}`"),
            ("${random}", "`${random}` can't be read; write it as `${random:8}`, a number of letters from 1 to 65536"),
            (
                "${random:0}",
                "`${random:0}` can't be read; write it as `${random:8}`, a number of letters from 1 to 65536",
            ),
            (
                "${random:65537}",
                "`${random:65537}` can't be read; write it as `${random:8}`, a number of letters from 1 to 65536",
            ),
            (
                "${int:9-1}",
                "`${int:9-1}` can't be read; write it as `${int:1-100}`, two whole numbers, the smaller one first",
            ),
            (
                "${int:-5-1}",
                "`${int:-5-1}` can't be read; write it as `${int:1-100}`, two whole numbers, the smaller one first",
            ),
            (r"\x4", r"`\x4` is no byte; write two hexadecimal digits, as in \x00, or \x5c for a backslash"),
            ("\\x\u{20ac}1", r"`\x` is no byte; write two hexadecimal digits, as in \x00, or \x5c for a backslash"),
            (r"\x+1", r"`\x+1` is no byte; write two hexadecimal digits, as in \x00, or \x5c for a backslash"),
            ("${n\u{1b}[2J}", r"`${n\u{1b}[2J}` is no placeholder; write `${n}`, or `$$` for a dollar"),
        ];
        for (text, wanted) in cases {
            assert_eq!(Template::check(text).unwrap_err().0, wanted, "{text}");
        }
    }

    #[test]
    fn a_payload_has_a_longest_length() {
        let most = "${random:65536}".repeat(16);
        assert_eq!(Template::new(&most).unwrap().longest(), PAYLOAD_MAX);
        let error = Template::check(&format!("{most}x")).unwrap_err();
        assert_eq!(error.0, "this payload may become 1048577 bytes long; write one of at most 1048576");
    }
}
