//! The one HTTP request that is answered here: for a WebSocket at `/ws`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use httparse::{EMPTY_HEADER, Header, Request, Status};
use sha1::{Digest, Sha1};
use stillhere_core::stats::Refused;

/// The longest head of a request, in bytes. Browsers send less than 1 KiB, cookies apart.
pub(super) const HEAD_BYTES_MAX: usize = 8 * 1024;
/// The most headers of a request; browsers send about 15.
const HEADERS_MAX: usize = 64;
/// Where the WebSocket is.
const PATH: &str = "/ws";
/// RFC 6455, section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a request comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its head isn't complete.
    Incomplete,
    /// It becomes a WebSocket.
    Accepted {
        /// How many bytes the head has; what follows are the WebSocket's.
        used: usize,
        /// The answer.
        response: String,
    },
    /// It doesn't.
    Refused {
        /// What it is counted as.
        reason: Refused,
        /// The answer.
        response: String,
    },
}

/// How every request that is read begins; whoever begins otherwise gets no answer.
const GET: &[u8] = b"GET ";

/// Reads the head of a request. `origins` are those that are allowed besides the host's own, in lower case.
pub(super) fn judge(head: &[u8], origins: &[String]) -> Verdict {
    if !head.iter().zip(GET).all(|(one, other)| one == other) {
        return Verdict::Refused { reason: Refused::Protocol, response: String::new() };
    }
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    let result = match request.parse(head) {
        Ok(Status::Complete(used)) if used <= HEAD_BYTES_MAX => accept(&request, origins).map(|accept| (used, accept)),
        Ok(Status::Partial) if head.len() < HEAD_BYTES_MAX => return Verdict::Incomplete,
        Ok(Status::Complete(_) | Status::Partial) => Err(TOO_LARGE),
        Err(httparse::Error::TooManyHeaders) => Err(TOO_LARGE),
        Err(_) => Err(MALFORMED),
    };
    match result {
        Ok((used, accept)) => Verdict::Accepted {
            used,
            response: format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n\r\n"
            ),
        },
        Err(Refusal { status, headers, sentence, reason }) => Verdict::Refused {
            reason,
            response: format!(
                "HTTP/1.1 {status}\r\n{headers}Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n{sentence}\n",
                sentence.len() + 1
            ),
        },
    }
}

struct Refusal {
    status: &'static str,
    headers: &'static str,
    sentence: &'static str,
    reason: Refused,
}

const TOO_LARGE: Refusal = Refusal {
    status: "431 Request Header Fields Too Large",
    headers: "",
    sentence: "The head of the request is too large.",
    reason: Refused::Http,
};
const MALFORMED: Refusal =
    Refusal { status: "400 Bad Request", headers: "", sentence: "This is no HTTP/1.1.", reason: Refused::Http };
const NOT_FOUND: Refusal = Refusal {
    status: "404 Not Found",
    headers: "",
    sentence: "There is only a WebSocket here, at /ws. The HTTP API listens on another port.",
    reason: Refused::Path,
};
const NOT_ALLOWED: Refusal = Refusal {
    status: "403 Forbidden",
    headers: "",
    sentence: "Pages of this origin may not connect; the operator can allow it with [listen] origins.",
    reason: Refused::Origin,
};
const NO_UPGRADE: Refusal = Refusal {
    status: "426 Upgrade Required",
    headers: "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    sentence: "This is a WebSocket of version 13; ask for the upgrade.",
    reason: Refused::Upgrade,
};
const BAD_KEY: Refusal = Refusal {
    status: "400 Bad Request",
    headers: "",
    sentence: "Sec-WebSocket-Key must be there once, 16 bytes in base64.",
    reason: Refused::Upgrade,
};

/// The value of `Sec-WebSocket-Accept` for a request that may become a WebSocket.
fn accept(request: &Request<'_, '_>, origins: &[String]) -> Result<String, Refusal> {
    let (Some("GET"), Some(1), Some(path)) = (request.method, request.version, request.path) else {
        return Err(MALFORMED);
    };
    let host = only(request.headers, "host").ok_or(MALFORMED)?;
    if path.split('?').next() != Some(PATH) {
        return Err(NOT_FOUND);
    }
    let upgrade = has_token(request.headers, "upgrade", "websocket");
    let connection = has_token(request.headers, "connection", "upgrade");
    if !upgrade || !connection || only(request.headers, "sec-websocket-version") != Some("13") {
        return Err(NO_UPGRADE);
    }
    if !may_connect(request.headers, host, origins) {
        return Err(NOT_ALLOWED);
    }
    let key = only(request.headers, "sec-websocket-key").ok_or(BAD_KEY)?;
    if STANDARD.decode(key).map_or(0, |bytes| bytes.len()) != 16 {
        return Err(BAD_KEY);
    }
    Ok(accept_of(key))
}

fn accept_of(key: &str) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// Whether the page that asks, if it is one, is of the host itself or on the list.
fn may_connect(headers: &[Header<'_>], host: &str, origins: &[String]) -> bool {
    if named(headers, "origin").next().is_none() {
        return true;
    }
    let Some(origin) = only(headers, "origin") else { return false };
    // An opaque origin (`null`) is nobody's in particular, so it has no host.
    let Some((_, authority)) = origin.split_once("://") else { return false };
    host_of(authority).eq_ignore_ascii_case(host_of(host)) || origins.contains(&origin.to_ascii_lowercase())
}

/// A host without its port.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        Some(_) | None => authority,
    }
}

/// The value of a header that is there exactly once.
fn only<'a>(headers: &'a [Header<'_>], name: &'a str) -> Option<&'a str> {
    let mut values = named(headers, name);
    let value = values.next().filter(|_| values.next().is_none())?;
    std::str::from_utf8(value).ok().map(str::trim)
}

fn has_token(headers: &[Header<'_>], name: &str, token: &str) -> bool {
    let values = named(headers, name).filter_map(|value| std::str::from_utf8(value).ok());
    values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(token))
}

fn named<'a>(headers: &'a [Header<'_>], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    /// A browser's request with some headers replaced (or, with an empty value, left out) or added.
    fn request(line: &str, changes: &[(&str, &str)]) -> String {
        let mut headers = vec![
            ("Host", "play.example:14000"),
            ("Upgrade", "websocket"),
            ("Connection", "keep-alive, Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", KEY),
            ("Origin", "https://play.example"),
        ];
        for (name, value) in changes {
            headers.retain(|(known, _)| known != name);
            headers.push((name, value));
        }
        let lines = headers.iter().filter(|(_, value)| !value.is_empty());
        lines.fold(format!("{line}\r\n"), |text, (name, value)| format!("{text}{name}: {value}\r\n")) + "\r\n"
    }

    fn reason(line: &str, changes: &[(&str, &str)]) -> Option<(Refused, u16)> {
        let allowed = ["https://friend.example".to_owned()];
        match judge(request(line, changes).as_bytes(), &allowed) {
            Verdict::Refused { reason, response } => Some((reason, response[9..12].parse().unwrap())),
            Verdict::Accepted { .. } => None,
            Verdict::Incomplete => panic!("it is complete"),
        }
    }

    #[test]
    fn a_browsers_request_is_accepted_with_the_specified_answer() {
        let text = request("GET /ws HTTP/1.1", &[]) + "next";
        let Verdict::Accepted { used, response } = judge(text.as_bytes(), &[]) else { panic!("accepted") };
        assert_eq!(used, text.len() - 4);
        assert!(response.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{response}");
    }

    #[test]
    fn every_shorter_head_is_incomplete() {
        let text = request("GET /ws HTTP/1.1", &[]);
        for end in 0..text.len() {
            assert_eq!(judge(&text.as_bytes()[..end], &[]), Verdict::Incomplete, "{end}");
        }
    }

    #[test]
    fn each_wrong_request_is_refused_for_its_reason() {
        const WS: &str = "GET /ws HTTP/1.1";
        /// The first line, what is changed in the headers, and what follows.
        type Case = (&'static str, &'static [(&'static str, &'static str)], Option<(Refused, u16)>);
        let cases: [Case; 23] = [
            ("GET /ws?x=1 HTTP/1.1", &[], None),
            ("GET / HTTP/1.1", &[], Some((Refused::Path, 404))),
            ("GET /wss HTTP/1.1", &[], Some((Refused::Path, 404))),
            ("GET /ws HTTP/1.0", &[], Some((Refused::Http, 400))),
            ("GET  /ws HTTP/1.1", &[], Some((Refused::Http, 400))),
            ("GET /ws", &[], Some((Refused::Http, 400))),
            (WS, &[("Host", "")], Some((Refused::Http, 400))),
            (WS, &[("Upgrade", "")], Some((Refused::Upgrade, 426))),
            (WS, &[("Upgrade", "h2c")], Some((Refused::Upgrade, 426))),
            (WS, &[("Connection", "keep-alive")], Some((Refused::Upgrade, 426))),
            (WS, &[("Sec-WebSocket-Version", "8")], Some((Refused::Upgrade, 426))),
            (WS, &[("Sec-WebSocket-Key", "")], Some((Refused::Upgrade, 400))),
            (WS, &[("Sec-WebSocket-Key", "c2hvcnQ=")], Some((Refused::Upgrade, 400))),
            (WS, &[("sec-websocket-key", KEY)], Some((Refused::Upgrade, 400))),
            (WS, &[("Origin", "")], None),
            (WS, &[("Origin", "http://PLAY.example:8080")], None),
            (WS, &[("Origin", "https://Friend.example")], None),
            (WS, &[("Origin", "http://friend.example")], Some((Refused::Origin, 403))),
            (WS, &[("Origin", "https://play.example.evil.example")], Some((Refused::Origin, 403))),
            (WS, &[("Origin", "null")], Some((Refused::Origin, 403))),
            (WS, &[("origin", "https://play.example")], Some((Refused::Origin, 403))),
            (WS, &[("Host", "[::1]:14000"), ("Origin", "http://[::1]")], None),
            (WS, &[("Host", "[::1]"), ("Origin", "http://[::2]:1")], Some((Refused::Origin, 403))),
        ];
        for (line, changes, expected) in cases {
            assert_eq!(reason(line, changes), expected, "{line} {changes:?}");
        }
    }

    #[test]
    fn what_only_begins_like_a_request_gets_no_answer() {
        for text in ["GO", "GETS /ws HTTP/1.1\r\n", "G\0"] {
            let silence = Verdict::Refused { reason: Refused::Protocol, response: String::new() };
            assert_eq!(judge(text.as_bytes(), &[]), silence, "{text}");
        }
    }

    #[test]
    fn a_long_head_is_refused_when_it_is_long_not_when_it_ends() {
        let cookie = "x".repeat(HEAD_BYTES_MAX);
        let text = request("GET /ws HTTP/1.1", &[("Cookie", &cookie)]);
        let first = &text.as_bytes()[..HEAD_BYTES_MAX];
        assert!(matches!(judge(first, &[]), Verdict::Refused { reason: Refused::Http, .. }));
        assert_eq!(judge(&first[..HEAD_BYTES_MAX - 1], &[]), Verdict::Incomplete);
        assert!(matches!(judge(text.as_bytes(), &[]), Verdict::Refused { .. }));
    }
}
