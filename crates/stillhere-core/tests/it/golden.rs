//! Golden frames: bytes as they stand on the wire, and what they mean. A row never changes its meaning; a new form of
//! a frame is a new row.

use stillhere_core::wire::body::{Body, BodyError, Op, Request, parse};
use stillhere_core::wire::error::Refusal;
use stillhere_core::wire::frame::{Decoder, FrameError};
use stillhere_core::wire::legacy::{LegacyBeat, LegacyPid};
use stillhere_core::wire::message::{Number, RequestId};

/// One row: the name of its file in `fuzz/corpus/frames`, its bytes, and what they mean, frame by frame.
pub(crate) struct Golden {
    pub(crate) name: &'static str,
    pub(crate) stream: Vec<u8>,
    meaning: &'static str,
}

fn row(name: &'static str, stream: impl Into<Vec<u8>>, meaning: &'static str) -> Golden {
    Golden { name, stream: stream.into(), meaning }
}

/// A body behind its length.
fn framed(name: &'static str, body: impl AsRef<[u8]>, meaning: &'static str) -> Golden {
    let body = body.as_ref();
    let length = (body.len() as u32).to_be_bytes();
    row(name, [&length[..], body].concat(), meaning)
}

/// A heartbeat with something nested so deep in it.
fn nested(depth: usize) -> String {
    format!(r#"{{"ip":"a","status":"alive","x":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1))
}

pub(crate) fn table() -> Vec<Golden> {
    let beat = br#"{"ip":"127.0.0.1","status":"alive","pid":21243}"#;
    vec![
        // The tutorial's client, in every form that it was seen in.
        row(
            "legacy-tutorial",
            br#"___@"{\"ip\": \"127.0.0.1\", \"status\": \"alive\", \"pid\": 21243}""#.map(zero),
            "legacy alive 127.0.0.1 pid 21243",
        ),
        row(
            "legacy-object",
            br#"___4{"ip": "127.0.0.1", "status": "alive", "pid": 21243}"#.map(zero),
            "legacy alive 127.0.0.1 pid 21243",
        ),
        row(
            "legacy-python",
            br#"___4{'ip': '127.0.0.1', 'status': 'alive', 'pid': 21243}"#.map(zero),
            "legacy alive 127.0.0.1 pid 21243",
        ),
        framed(
            "legacy-python-in-string",
            br#""{'ip': '127.0.0.1', 'status': 'alive', 'pid': 21243}""#,
            "legacy alive 127.0.0.1 pid 21243",
        ),
        framed("legacy-leave", br#"{"status":"leave","ip":"h","pid":"7a"}"#, "legacy leave h pid \"7a\""),
        framed("legacy-close", br#"{"ip":"h","status":"close"}"#, "legacy close h"),
        framed("legacy-other-words", br#"{"ip":"h","status":"busy","pid":null,"x":[1,{"y":2}]}"#, "legacy alive h"),
        framed("legacy-escapes", br#""{\u0022ip\u0022:\"a\\u00e9\",\"status\":\"alive\"}""#, "legacy alive aé"),
        row("legacy-sticky", [&[0, 0, 0, 47][..], beat].concat().repeat(3), THREE_BEATS),
        row("legacy-cut", [&[0, 0, 0, 47][..], &beat[..20]].concat(), "24 bytes of more"),
        framed("legacy-deep", nested(32), "legacy alive a"),
        // v1.
        row("beat-of-length-0", [0; 12], "beat; beat; beat"),
        framed("v1-hello", br#"{"op":"hello","v":1}"#, "hello"),
        framed(
            "v1-hello-whole",
            br#"{"op":"hello","v":1,"id":"a1","ack":9,"client":"c/1","user":"ann","interval_ms":5000}"#,
            "id \"a1\" ack 9 hello client c/1 user ann interval 5000",
        ),
        framed(
            "v1-hello-resume",
            br#"{"op":"hello","v":1,"resume":{"session":"s","secret":"x","count":3,"more":{}}}"#,
            "hello resume s x 3",
        ),
        framed("v1-beat", br#"{"op":"beat","t":12}"#, "beat t 12"),
        framed("v1-beat-answer", br#"{"op":"beat","t":1.5,"re":7,"id":-1}"#, "id -1 beat t 1.5 re 7"),
        framed("v1-beat-large", br#"{"op":"beat","t":18446744073709551615}"#, "beat t 18446744073709551615"),
        framed("v1-status", br#"{"op":"status","status":"leave","id":1}"#, "id 1 status leave"),
        framed("v1-bye", br#"{"op":"bye"}"#, "bye"),
        framed("v1-unknown-field-huge", br#"{"op":"beat","m":1e616}"#, "beat"),
        framed("v1-unknown-op", br#"{"op":"dance","id":1}"#, "id 1 error 1001"),
        framed("v1-no-version", br#"{"op":"hello"}"#, "error 1002"),
        framed("v1-mistyped", br#"{"op":"hello","v":1,"interval_ms":-1}"#, "error 1003"),
        framed("v1-other-version", br#"{"op":"hello","v":2}"#, "error 1006"),
        framed("v1-token", br#"{"op":"hello","v":1,"token":"t"}"#, "hello"),
        // Lengths that no frame has.
        row("bad-length-negative", (-1i32).to_be_bytes(), "too long: 4294967295"),
        row("bad-length-2-gib", (2u32 << 30).to_be_bytes(), "too long: 2147483648"),
        row("bad-length-64-kib-and-1", (64u32 * 1024 + 1).to_be_bytes(), "too long: 65537"),
        row("bad-header-only", [0, 0, 0, 64], "4 bytes of more"),
        row("bad-half-a-header", [0, 0], "2 bytes of more"),
        row("bad-after-good", [&[0, 0, 0, 47][..], beat, b"\x7f\xff\xff\xff"].concat(), BEAT_THEN_TOO_LONG),
        // Other protocols: as lengths they are all too long.
        row("bad-http", *b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "too long: 1195725856"),
        row("bad-tls", *b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "too long: 369295618"),
        row("bad-mqtt", *b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04test", "too long: 269484036"),
        // Bodies that can't be read.
        framed("bad-json", b"{\"ip\"", "not an object"),
        framed("bad-json-nothing", b"   ", "not an object"),
        framed("bad-utf8", b"{\"ip\":\"\xff\",\"status\":\"alive\"}", "not UTF-8"),
        framed("bad-depth-33", nested(33), "too deep"),
        framed("bad-depth-30000", nested(30_000), "too deep"),
        framed("bad-depth-in-string", format!("{:?}", nested(33)), "too deep"),
        framed("bad-array", b"[{\"ip\":\"a\",\"status\":\"alive\"}]", "not an object"),
        framed("bad-number", b"-1.5e300", "not an object"),
        framed("bad-number-huge", [&b"1"[..], &[b'0'; 400]].concat(), "not an object"),
        framed("bad-encoded-thrice", br#""\"{\\\"ip\\\":\\\"a\\\",\\\"status\\\":\\\"b\\\"}\"""#, "not an object"),
        framed("bad-key-twice", br#"{"ip":"a","ip":"b","status":"alive"}"#, "not an object"),
        framed("bad-missing", br#"{"ip":"127.0.0.1"}"#, "neither op nor beat"),
        framed("bad-mistyped", br#"{"ip":1,"status":"alive"}"#, "neither op nor beat"),
        framed("bad-empty-text", br#"{"ip":"","status":"alive"}"#, "neither op nor beat"),
        framed("bad-op-number", br#"{"op":1}"#, "neither op nor beat"),
        framed("bad-op-in-string", br#""{\"op\":\"hello\",\"v\":1}""#, "neither op nor beat"),
        framed("bad-noise", noise(512), "not UTF-8"),
        row("bad-noise-unframed", noise(512), "too long: 193413626"),
    ]
}

const THREE_BEATS: &str =
    "legacy alive 127.0.0.1 pid 21243; legacy alive 127.0.0.1 pid 21243; legacy alive 127.0.0.1 pid 21243";
const BEAT_THEN_TOO_LONG: &str = "legacy alive 127.0.0.1 pid 21243; too long: 2147483647";

/// An underscore stands for a zero byte, so that a length can be written in front of its body.
fn zero(byte: u8) -> u8 {
    if byte == b'_' { 0 } else { byte }
}

/// Bytes without any pattern, always the same.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn every_golden_frame_means_what_it_always_meant() {
    for Golden { name, stream, meaning } in table() {
        assert_eq!(read(&stream), meaning, "{name}");
    }
}

/// What a stream means, frame by frame.
fn read(stream: &[u8]) -> String {
    let mut decoder = Decoder::default();
    let mut meanings = Vec::new();
    let mut input = stream;
    loop {
        match decoder.next(&mut input, 64 * 1024) {
            Ok(Some(body)) => meanings.push(match parse(body, &mut String::new()) {
                Ok(body) => meaning(&body),
                Err(error) => error_name(error).to_owned(),
            }),
            Ok(None) => break,
            Err(FrameError::TooLong { length, .. }) => {
                meanings.push(format!("too long: {length}"));
                return meanings.join("; ");
            }
        }
    }
    if decoder.kept_bytes() > 0 {
        meanings.push(format!("{} bytes of more", decoder.kept_bytes()));
    }
    meanings.join("; ")
}

fn error_name(error: BodyError) -> &'static str {
    match error {
        BodyError::NotUtf8 => "not UTF-8",
        BodyError::TooDeep => "too deep",
        BodyError::NotAnObject => "not an object",
        BodyError::NeitherOpNorBeat => "neither op nor beat",
    }
}

fn meaning(body: &Body<'_>) -> String {
    match body {
        Body::Empty => "beat".to_owned(),
        Body::Legacy(LegacyBeat { ip, status, pid }) => {
            let status = format!("{status:?}").to_lowercase();
            match pid {
                None => format!("legacy {status} {ip}"),
                Some(LegacyPid::Number(pid)) => format!("legacy {status} {ip} pid {pid}"),
                Some(LegacyPid::Text(pid)) => format!("legacy {status} {ip} pid {pid:?}"),
            }
        }
        Body::V1(Request { id, ack, op }) => {
            let id = id.as_ref().map(|id| match id {
                RequestId::Number(id) => format!("id {id}"),
                RequestId::Text(id) => format!("id {id:?}"),
            });
            let ack = ack.map(|ack| format!("ack {ack}"));
            let op = match op {
                Ok(op) => op_meaning(op),
                Err(Refusal { code, .. }) => format!("error {code}"),
            };
            [id, ack, Some(op)].into_iter().flatten().collect::<Vec<_>>().join(" ")
        }
    }
}

fn op_meaning(op: &Op<'_>) -> String {
    match op {
        Op::Beat { t, re } => {
            let t = t.map(|t| match t {
                Number::Int(t) => format!(" t {t}"),
                Number::UInt(t) => format!(" t {t}"),
                Number::Float(t) => format!(" t {t}"),
            });
            format!("beat{}{}", t.unwrap_or_default(), re.map(|re| format!(" re {re}")).unwrap_or_default())
        }
        Op::Status(status) => format!("status {}", status.name()),
        Op::Bye => "bye".to_owned(),
        Op::Ask(ask) => format!("ask {ask:?}"),
        Op::Hello(hello) => {
            let client = hello.client.as_ref().map(|client| format!(" client {client}"));
            let user = hello.user.as_ref().map(|user| format!(" user {user}"));
            let interval = hello.interval_ms.map(|interval| format!(" interval {interval}"));
            let resume = hello.resume.as_ref();
            let resume = resume.map(|claim| format!(" resume {} {} {}", claim.session, claim.secret, claim.count));
            let fields: String = [client, user, interval, resume].into_iter().flatten().collect();
            format!("hello{fields}")
        }
    }
}
