//! Bodies that are hard on whoever reads JSON.

use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use super::ground::Ground;
use super::{Against, Attack, Life};

pub(super) const ATTACK: Attack = Attack {
    name: "json-bombs",
    about: "Sends bodies that are deep, wide, doubly named, encoded over and over, endless numbers, or no text at all; \
            every other attacker after a good hello. A sound server reads each in time that grows no faster than its \
            length, never by recursion without a bound, and refuses it or takes it.",
    against: Against::Any,
    size: 60 * 1024,
    life: |ground, index| -> Life { Box::pin(attacker(ground, index)) },
};

/// How long a bomb is waited upon.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest body: each is built, and what is quadratic shows long before.
const BODY_MAX: usize = 128 * 1024;
/// The deepest nesting: parsers that recurse give up or die far earlier.
const DEPTH: usize = 10_000;

/// A body of at most so many bytes. One that can't be as short is as short as it can be.
type Bomb = fn(usize) -> Vec<u8>;

/// By name.
const BOMBS: &[(&str, Bomb)] = &[
    ("deep arrays", |size| {
        let depth = DEPTH.min(size / 2);
        [b"[".repeat(depth), b"]".repeat(depth)].concat()
    }),
    ("deep objects, never closed", |size| br#"{"a":"#.repeat(DEPTH.min(size / 5))),
    ("depth inside an op", |size| {
        let depth = DEPTH.min(size.saturating_sub(40) / 2);
        [&br#"{"op":"say","room":"r","data":"#[..], &b"[".repeat(depth), &b"]".repeat(depth), b"}"].concat()
    }),
    ("as many keys as fit", |size| object(size, |text, nth| write!(text, "\"{nth:x}\":0"))),
    ("the same key again and again", |size| object(size, |text, _| write!(text, "\"op\":\"beat\""))),
    ("a number of endless digits", |size| filled(br#"{"op":"beat","t":"#, b'9', b"}", size)),
    ("a number of endless zeros after the point", |size| filled(br#"{"op":"beat","t":0."#, b'0', b"1}", size)),
    ("an exponent beyond all", |_| br#"{"op":"beat","t":1e999999999,"id":-1e-999999999}"#.to_vec()),
    ("integers at their bounds", |_| {
        br#"{"op":"hello","v":18446744073709551616,"interval_ms":-9223372036854775809}"#.to_vec()
    }),
    ("no UTF-8", |size| filled(br#"{"op":"beat","x":""#, 0xff, br#""}"#, size)),
    ("UTF-8 that is too long for its letters", |_| {
        b"{\"op\":\"beat\",\"x\":\"\xc0\xaf\xe0\x80\xaf\xf4\x90\x80\x80\"}".to_vec()
    }),
    ("half a letter at the end", |_| b"{\"op\":\"beat\",\"x\":\"\xe4\xbd".to_vec()),
    ("encoded twice", |_| encoded(1)),
    ("encoded three times", |_| encoded(2)),
    ("encoded again and again", |size| {
        let mut body = encoded(0);
        // Each time doubles the backslashes.
        loop {
            let next = quoted(&body);
            if next.len() > size {
                return body;
            }
            body = next;
        }
    }),
    ("a string of nothing but escapes", |size| {
        let fit = size.saturating_sub(2) / 6;
        [&b"\""[..], &br"\u0041".repeat(fit), b"\""].concat()
    }),
    ("lone surrogates", |_| br#"{"op":"hello","v":1,"user":"\ud800","client":"\udc00\ud800x"}"#.to_vec()),
    ("lone surrogates in a string of JSON", |_| br#""{\"ip\":\"\udfff\",\"status\":\"alive\"}""#.to_vec()),
    ("zero bytes", |size| vec![0; size]),
    ("zero bytes in an op", |_| b"{\"op\":\"hello\",\"v\":1,\"user\":\"a\0b\",\"client\":\"\\u0000\"}".to_vec()),
    ("a dict as Python prints it, of quotes", |size| filled(br#"{'ip': '"#, b'"', br#"', 'status': 'alive'}"#, size)),
    ("nothing but white space", |size| vec![b' '; size]),
    ("white space before a beat", |size| filled(b"", b' ', br#"{"op":"beat"}"#, size)),
];

async fn attacker(ground: Rc<Ground>, index: u32) {
    // Each begins elsewhere in the table.
    let mut bombs = BOMBS.iter().cycle().skip(index as usize / 2 % BOMBS.len());
    while ground.turn().await {
        let Some((_, bomb)) = bombs.next() else { return };
        let Some(mut link) = ground.connect().await else { continue };
        if index % 2 == 1 && ground.is_ours() && link.hello(None).await.is_none() {
            continue;
        }
        let next = link.answers() + 1;
        // Built when it is thrown: thousands of attackers together would own too much.
        if link.send_frame(&bomb(ground.body_size().min(BODY_MAX))).await {
            link.answered(next, PATIENCE).await;
        }
    }
}

/// An object of as many members as fit.
fn object(size: usize, member: impl Fn(&mut String, usize) -> std::fmt::Result) -> Vec<u8> {
    let mut text = String::from("{");
    for nth in 0.. {
        let kept = text.len();
        // Writing to a string can't fail.
        let _ = member(&mut text, nth);
        if text.len() + 1 > size {
            text.truncate(kept);
            break;
        }
        text.push(',');
    }
    text.truncate(text.trim_end_matches(',').len());
    text.push('}');
    text.into_bytes()
}

/// Something filled up to so many bytes.
fn filled(before: &[u8], with: u8, after: &[u8], size: usize) -> Vec<u8> {
    let mut body = before.to_vec();
    body.resize(size.saturating_sub(after.len()).max(before.len()), with);
    body.extend_from_slice(after);
    body
}

/// The tutorial's heartbeat as a JSON string that contains it, so many times over.
fn encoded(times: u32) -> Vec<u8> {
    let beat = br#"{"ip":"127.0.0.1","status":"alive","pid":1}"#.to_vec();
    (0..times).fold(beat, |body, _| quoted(&body))
}

/// The bytes as a JSON string.
fn quoted(body: &[u8]) -> Vec<u8> {
    let mut string = vec![b'"'];
    for &byte in body {
        if matches!(byte, b'"' | b'\\') {
            string.push(b'\\');
        }
        string.push(byte);
    }
    string.push(b'"');
    string
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::stand::{self, Stand};
    use super::*;

    fn bomb(name: &str) -> Vec<u8> {
        BOMBS.iter().find(|bomb| bomb.0 == name).unwrap().1(ATTACK.size as usize)
    }

    #[test]
    fn none_is_longer_than_it_may_be_and_all_differ() {
        let bodies: BTreeSet<_> = BOMBS
            .iter()
            .map(|(name, bomb)| {
                for size in [200, 1000, ATTACK.size as usize] {
                    assert!(bomb(size).len() <= size, "{name}: {} of {size}", bomb(size).len());
                }
                // However short it must be, it is made.
                bomb(0);
                bomb(1);
                bomb(ATTACK.size as usize)
            })
            .collect();
        assert_eq!(bodies.len(), BOMBS.len());
    }

    #[test]
    fn each_is_what_its_name_says() {
        let depth = |body: &[u8]| body.iter().filter(|byte| b"[{".contains(byte)).count();
        assert_eq!(depth(&bomb("deep arrays")), DEPTH);
        assert_eq!(depth(&bomb("deep objects, never closed")), DEPTH);
        assert_eq!(depth(&bomb("depth inside an op")), DEPTH + 1);
        let keys: serde_json::Value = serde_json::from_slice(&bomb("as many keys as fit")).unwrap();
        assert!(keys.as_object().unwrap().len() > 6_000);
        let twice: serde_json::Value = serde_json::from_slice(&bomb("the same key again and again")).unwrap();
        assert_eq!(twice, serde_json::json!({ "op": "beat" }));
        let inner = |body: &[u8]| serde_json::from_slice::<String>(body).unwrap().into_bytes();
        assert_eq!(inner(&inner(&bomb("encoded three times"))), encoded(0));
        assert!(inner(&bomb("encoded again and again")).starts_with(br#""\""#));
        for name in ["no UTF-8", "UTF-8 that is too long for its letters", "half a letter at the end"] {
            assert!(std::str::from_utf8(&bomb(name)).is_err(), "{name}");
        }
        for name in ["lone surrogates", "an exponent beyond all", "zero bytes in an op"] {
            let body = bomb(name);
            assert!(std::str::from_utf8(&body).is_ok(), "{name}");
            assert!(serde_json::from_slice::<serde_json::Value>(&body).is_err(), "{name}");
        }
        let beat = bomb("white space before a beat");
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&beat).unwrap()["op"], "beat");
    }

    #[tokio::test]
    async fn the_even_begin_with_a_bomb_and_the_odd_say_hello_first() {
        let mut stand = Stand::new(stand::speak_v1).await;
        stand.size = Some(1000);
        let says_hello = |bytes: &[u8]| bytes[..bytes.len().min(100)].windows(7).any(|part| part == b"\"storm\"");
        // Each kind has had the whole table when more have come than it is long.
        let all = stand.heard(|links| {
            let count =
                |hello| links.iter().filter(|link| says_hello(&link.bytes) == hello && link.over.is_some()).count();
            count(true) > BOMBS.len() && count(false) > BOMBS.len()
        });
        stand.attack_while(ATTACK.name, 2, all).await;
        let (with, without): (Vec<_>, Vec<_>) =
            stand.bodies().into_iter().partition(|bodies| bodies.first().is_some_and(|body| says_hello(body)));
        let sent = |links: Vec<Vec<Vec<u8>>>| -> BTreeSet<_> { links.into_iter().flatten().collect() };
        let (with, without) = (sent(with), sent(without));
        for (name, bomb) in BOMBS {
            assert!(with.contains(&bomb(1000)) && without.contains(&bomb(1000)), "{name}");
        }
    }
}
