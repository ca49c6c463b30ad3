//! Everything that can be wrong with a WebSocket.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngExt};
use tokio::io::Interest;
use tokio::time::{Instant, sleep};

use super::ground::{Ground, Link};
use super::talk::{Came, Overdue, read};
use super::{Against, Attack, Life};
use crate::sample::AttackSecond;

pub(super) const ATTACK: Attack = Attack {
    name: "ws-abuse",
    about: "Requests for a WebSocket at /ws that are wrong in a dozen ways, right ones that are followed by frames that \
            are wrong in another dozen, floods of pings, and (every fourth attacker) heads, fragments and silences \
            that never end. A sound server answers with an HTTP status (counted among the errors) or a close code, at \
            once, and holds nothing for those who dawdle: whoever isn't ended in 15 s is overdue.",
    against: Against::Gateway,
    size: 64 * 1024,
    life: |ground, index| -> Life { Box::pin(attacker(ground, index)) },
};

/// Every so manyth attacker dawdles; the others are quick.
const DAWDLERS: u32 = 4;
/// Whoever did something wrong, or nothing, is to be ended within this: ours gives a head and a first frame 10 s.
const DUE: Duration = Duration::from_secs(15);
/// No link lasts longer: then the next one begins.
const LASTS: Duration = Duration::from_secs(45);
/// How long a flood of pings goes on.
const FLOOD: Duration = Duration::from_secs(10);
/// A dawdler's pace.
const DRIP: Duration = Duration::from_millis(500);
/// The head that is right but for what is wrong with it.
const RIGHT: &[&str] = &[
    "Host: HOST",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];
/// The first message of somebody who is let in.
const HELLO: &[u8] = br#"{"op":"hello","v":1,"client":"storm"}"#;

/// What is wrong with a head: how it begins, the header that is left out (or replaced), what is there besides.
struct Head {
    begin: &'static str,
    without: &'static str,
    besides: &'static str,
}

const fn head(begin: &'static str, without: &'static str, besides: &'static str) -> Head {
    Head { begin, without, besides }
}

/// A request of which nothing is wrong.
const GOOD: Head = head("GET /ws HTTP/1.1", "", "");

/// `BYTES` becomes as many bytes as the plan says, `MANY` two hundred headers.
const HEADS: &[Head] = &[
    head("GET /ws HTTP/1.1", "", "Cookie: BYTES"),
    head("GET /ws HTTP/1.1", "", "MANY"),
    head("GET /BYTES HTTP/1.1", "", ""),
    head("GET /ws HTTP/1.1", "Sec-WebSocket-Key", ""),
    head("GET /ws HTTP/1.1", "Sec-WebSocket-Key", "Sec-WebSocket-Key: c2hvcnQ="),
    head("GET /ws HTTP/1.1", "Sec-WebSocket-Version", "Sec-WebSocket-Version: 8"),
    head("GET /ws HTTP/1.1", "Upgrade", ""),
    head("GET /ws HTTP/1.1", "Host", ""),
    head("GET /ws HTTP/1.1", "", "Host: elsewhere.example"),
    head("GET /ws HTTP/1.1", "", "Origin: https://elsewhere.example"),
    head("GET /ws HTTP/1.1", "", "Origin: null"),
    head("GET /../../etc/passwd HTTP/1.1", "", ""),
    head("GET /ws HTTP/1.0", "", ""),
    head("GET /ws HTTP/9.9", "", ""),
    head("GET http://elsewhere.example/ws HTTP/1.1", "", ""),
    head("GET /ws HTTP/1.1", "", "Folded: yes\r\n and no"),
    head("GET /ws HTTP/1.1", "", "Null\0: yes"),
    head("GET /ws HTTP/1.1", "", SMUGGLED),
    head("POST /ws HTTP/1.1", "", "Content-Length: 5\r\n\r\nhello"),
    head("G", "", ""),
];

/// A second request where the first one's body is, or isn't.
const SMUGGLED: &str = "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /ws HTTP/1.1\r\nHost: a";

/// Makes frames, masked with this randomness.
type Frames = fn(&mut StdRng) -> Vec<u8>;

/// Frames that no client may send. `true`: somebody who has said hello sends them.
const FRAMES: &[(bool, Frames)] = &[
    // Without a mask.
    (false, |_| vec![0x81, 0x02, b'{', b'}']),
    // Opcodes that are reserved, of data and of control.
    (true, |rng| frame(0x83, b"data", rng)),
    (true, |rng| frame(0x8b, b"", rng)),
    // Compressed, although nobody agreed on that; and the other reserved bits.
    (true, |rng| frame(0xc1, b"squeezed", rng)),
    (false, |rng| frame(0xb1, b"{}", rng)),
    // A ping in parts, and one that is too long.
    (true, |rng| frame(0x09, b"half a ping", rng)),
    (true, |rng| frame(0x89, &[b'p'; 126], rng)),
    // Lengths of 2^63, of all there is, and just above the limit.
    (true, |rng| longer(1 << 63, rng)),
    (false, |rng| longer(u64::MAX, rng)),
    (true, |rng| longer(65_537, rng)),
    // A continuation of nothing; and a beginning in the midst of another message.
    (false, |rng| frame(0x80, b"as I said", rng)),
    (true, |rng| [frame(0x01, b"{", rng), frame(0x01, b"{", rng)].concat()),
    // A close with a code that is never sent, with half a code, with a reason that is no text.
    (true, |rng| frame(0x88, &1005_u16.to_be_bytes(), rng)),
    (true, |rng| frame(0x88, &[3], rng)),
    (false, |rng| frame(0x88, &[0x03, 0xe8, 0xff, 0xfe], rng)),
    // Binary, no UTF-8, no JSON.
    (true, |rng| frame(0x82, HELLO, rng)),
    (true, |rng| frame(0x81, &[0xff, 0xfe], rng)),
    (false, |rng| frame(0x81, b"hello", rng)),
];

/// How a dawdler does it, when the head has been sent so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dawdle {
    /// A head that comes byte by byte.
    Head,
    /// A head without its last line, then nothing.
    Open,
    /// A message in fragments of a byte without end.
    Fragments,
    /// A message of which nothing but the beginning comes.
    Part,
    /// Let in, and silent.
    Silence,
}

const DAWDLES: [Dawdle; 5] = [Dawdle::Head, Dawdle::Open, Dawdle::Fragments, Dawdle::Part, Dawdle::Silence];

async fn attacker(ground: Rc<Ground>, index: u32) {
    let mut rng = ground.rng(index);
    // They begin at different places, so that a few attackers do all of it soon.
    let mut nth = index as usize;
    while ground.turn().await {
        let Some(link) = ground.connect().await else { continue };
        let mut talk = Talk { ground: ground.clone(), link, ear: Ear::default() };
        if index % DAWDLERS == DAWDLERS - 1 {
            talk.dawdle(DAWDLES[nth / DAWDLERS as usize % DAWDLES.len()], &mut rng).await;
        } else {
            talk.be_wrong(nth % (HEADS.len() + FRAMES.len() + 1), &mut rng).await;
        }
        nth += if index % DAWDLERS == DAWDLERS - 1 { DAWDLERS as usize } else { 1 };
    }
}

/// A head as bytes.
fn request(head: &Head, ground: &Ground) -> Vec<u8> {
    let host = ground.target.to_string();
    let mut lines = vec![head.begin.to_owned()];
    let left = RIGHT.iter().filter(|line| head.without.is_empty() || !line.starts_with(&format!("{}:", head.without)));
    lines.extend(left.map(|line| line.replace("HOST", &host)));
    if head.besides == "MANY" {
        lines.extend((0..200).map(|nth| format!("X-{nth}: {nth}")));
    } else if !head.besides.is_empty() {
        lines.push(head.besides.to_owned());
    }
    let bytes = || "b".repeat(ground.plan.size as usize);
    let text = lines.join("\r\n") + "\r\n\r\n";
    if text.contains("BYTES") { text.replace("BYTES", &bytes()).into_bytes() } else { text.into_bytes() }
}

/// A masked frame that begins with this byte.
fn frame(first: u8, payload: &[u8], rng: &mut StdRng) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        length @ ..126 => out.push(0x80 | length as u8),
        length => {
            out.push(0x80 | 126);
            // Nothing that is sent here is longer.
            out.extend((length as u16).to_be_bytes());
        }
    }
    let mut mask = [0; 4];
    rng.fill_bytes(&mut mask);
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

/// The beginning of a text that is said to be this long.
fn longer(length: u64, rng: &mut StdRng) -> Vec<u8> {
    let mut out = vec![0x81, 0x80 | 127];
    out.extend(length.to_be_bytes());
    out.extend(rng.random::<[u8; 4]>());
    out.extend(b"{\"op\":");
    out
}

/// One link, with what is heard on it.
struct Talk {
    ground: Rc<Ground>,
    link: Link,
    ear: Ear,
}

impl Talk {
    /// Does the wrong thing of this number and waits for the end.
    async fn be_wrong(&mut self, nth: usize, rng: &mut StdRng) {
        let said = if let Some(head) = HEADS.get(nth) {
            self.say(&request(head, &self.ground)).await
        } else if let Some((hello, wrong)) = FRAMES.get(nth - HEADS.len()) {
            let mut bytes = request(&GOOD, &self.ground);
            if *hello {
                bytes.extend(frame(0x81, HELLO, rng));
            }
            bytes.extend(wrong(rng));
            self.say(&bytes).await
        } else {
            self.flood(rng).await
        };
        if said {
            self.expect_end(None).await;
        }
    }

    /// Pings as fast as they go. Not ended by its own doing: an end would be the target's choice.
    async fn flood(&mut self, rng: &mut StdRng) -> bool {
        let mut bytes = request(&GOOD, &self.ground);
        bytes.extend(frame(0x81, HELLO, rng));
        let ping = frame(0x89, &[b'p'; 125], rng);
        let pings = ping.repeat((self.ground.plan.size as usize / ping.len()).max(1));
        let end = Instant::now() + FLOOD;
        let mut goes = self.say(&bytes).await;
        while goes && Instant::now() < end {
            goes = self.ground.turn().await && self.say(&pings).await;
        }
        false
    }

    async fn dawdle(&mut self, how: Dawdle, rng: &mut StdRng) {
        let whole = request(&GOOD, &self.ground);
        let mut let_in = whole.clone();
        let_in.extend(frame(0x81, HELLO, rng));
        match how {
            Dawdle::Head => self.expect_end(Some(&mut |nth| whole.get(nth).map(|byte| vec![*byte]))).await,
            Dawdle::Open => {
                if self.say(&whole[..whole.len() - 2]).await {
                    self.expect_end(None).await;
                }
            }
            Dawdle::Fragments => {
                if self.say(&let_in).await {
                    // The first fragment says that it is text, the others that they go on.
                    let mut drip = |nth| Some(frame(if nth == 0 { 0x01 } else { 0x00 }, b" ", rng));
                    self.expect_end(Some(&mut drip)).await;
                }
            }
            Dawdle::Part => {
                let begun = [let_in, longer(60_000, rng)].concat();
                if self.say(&begun).await {
                    self.expect_end(None).await;
                }
            }
            Dawdle::Silence => {
                if self.say(&whole).await {
                    self.expect_end(None).await;
                }
            }
        }
    }

    /// Sends all of it and hears what comes meanwhile; false once the target has ended the link.
    async fn say(&mut self, bytes: &[u8]) -> bool {
        let end = Instant::now() + LASTS;
        let mut rest = bytes;
        while !rest.is_empty() {
            let wait = self.link.stream().ready(Interest::READABLE | Interest::WRITABLE);
            let Ok(Ok(ready)) = tokio::time::timeout_at(end, wait).await else { return false };
            if ready.is_readable() && self.hear(Duration::ZERO).await == Came::Ended {
                return false;
            }
            if ready.is_writable() {
                match self.link.stream().try_write(rest) {
                    Ok(count) if count > 0 => {
                        self.ground.count().sent_bytes += count as u64;
                        rest = &rest[count..];
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Ok(_) | Err(_) => {
                        // What it had to say may lie there unread.
                        while let Came::Bytes(_) = self.hear(Duration::ZERO).await {}
                        self.link.end();
                        return false;
                    }
                }
            }
            if !rest.is_empty() {
                // As in `talk`: or a task that may read no more in this go would be told for ever that it could.
                tokio::task::yield_now().await;
            }
        }
        true
    }

    async fn hear(&mut self, within: Duration) -> Came {
        let mut bytes = [0; 4096];
        let came = read(&self.ground, &mut self.link, &mut bytes, within).await;
        if let Came::Bytes(count) = came {
            self.ear.hear(&bytes[..count], &mut self.ground.count());
        }
        came
    }

    /// Waits for the end, for a time; meanwhile sends what drips, if anything does.
    async fn expect_end(&mut self, mut drip: Option<&mut dyn FnMut(usize) -> Option<Vec<u8>>>) {
        let begin = Instant::now();
        let mut overdue = None;
        let mut nth = 0;
        while begin.elapsed() < LASTS {
            if let Some(bytes) = drip.as_mut().and_then(|drip| drip(nth)) {
                if !self.say(&bytes).await {
                    return;
                }
                nth += 1;
            }
            match self.hear(DRIP).await {
                Came::Ended => return,
                // A target that talks without end isn't listened to without a pause.
                Came::Bytes(_) => sleep(Duration::from_millis(1)).await,
                Came::Silence => {}
            }
            if begin.elapsed() >= DUE {
                overdue.get_or_insert_with(|| Overdue::new(&self.ground));
            }
        }
    }
}

/// Understands as much of a server's answer as is to be counted, and keeps no more than a head.
#[derive(Default)]
struct Ear {
    kept: Vec<u8>,
    /// The head was heard, and said 101.
    upgraded: bool,
    /// Bytes that are nothing to it.
    skip: u64,
}

/// No head of an answer is longer, nor is a control frame.
const KEPT_MAX: usize = 4096;

impl Ear {
    /// Counts a status as an answer or an error, and a close frame by its code.
    fn hear(&mut self, bytes: &[u8], counts: &mut AttackSecond) {
        self.kept.extend_from_slice(bytes);
        let mut rest = &self.kept[..];
        loop {
            let skipped = self.skip.min(rest.len() as u64);
            self.skip -= skipped;
            rest = &rest[skipped as usize..];
            let used = match (self.upgraded, rest) {
                (false, head) => {
                    let Some(end) = head.windows(4).position(|part| part == b"\r\n\r\n") else { break };
                    let status = head.get(9..12).and_then(|digits| str::from_utf8(digits).ok()?.parse::<u16>().ok());
                    match status {
                        Some(101) => {
                            counts.answered += 1;
                            self.upgraded = true;
                        }
                        other => {
                            *counts.errors.entry(other.unwrap_or(0)).or_insert(0) += 1;
                            // Its text isn't for attackers.
                            self.skip = u64::MAX;
                        }
                    }
                    end + 4
                }
                (true, [0x88, 2..126, high, low, ..]) => {
                    *counts.closes.entry(u16::from_be_bytes([*high, *low])).or_insert(0) += 1;
                    self.skip = u64::MAX;
                    4
                }
                (true, [0x88, 2..126] | [0x88, 2..126, _]) => break,
                (true, [_, length @ ..126, ..]) => {
                    self.skip = u64::from(*length);
                    2
                }
                (true, [_, 126, high, low, ..]) => {
                    self.skip = u64::from(u16::from_be_bytes([*high, *low]));
                    4
                }
                (true, [_, 127, a, b, c, d, e, f, g, h, ..]) => {
                    self.skip = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
                    10
                }
                (true, _) => break,
            };
            rest = &rest[used..];
        }
        let used = self.kept.len() - rest.len();
        self.kept.drain(..used);
        if self.kept.len() > KEPT_MAX {
            self.kept.clear();
            self.skip = u64::MAX;
        }
    }
}

#[cfg(test)]
mod tests;
