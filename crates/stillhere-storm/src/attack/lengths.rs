//! Headers that lie.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::ground::{DUE, Ground, Link};
use super::{Against, Attack, Life};

pub(super) const ATTACK: Attack = Attack {
    name: "lengths",
    about: "Announces lengths that lie: negative, zero, huge, just above the limit, one more or one less than what \
            follows; and now and then one that is true and just within the limit. A sound server sizes nothing by what \
            is announced, closes what is over its limit at once and the rest when its time is over, and takes the true \
            one.",
    against: Against::Any,
    size: 16 * 1024,
    life: |ground, index| -> Life { Box::pin(attacker(ground, index)) },
};

/// How long the one true frame is waited upon.
const PATIENCE: Duration = Duration::from_secs(1);

/// A kind of header.
struct Bomb {
    /// The length that is announced, cut to the header's bytes. Asked with how many bytes a good body
    /// would have.
    announced: fn(&Ground, u64) -> u64,
    /// How many bytes follow. Asked with the same.
    follows: fn(&Ground, u64) -> u64,
    /// Whether a sound server ends the connection.
    ends: bool,
}

/// By name.
const BOMBS: &[(&str, Bomb)] = &[
    ("minus one", Bomb { announced: |_, _| u64::MAX, follows: |_, body| body, ends: true }),
    (
        "the most negative",
        Bomb {
            announced: |ground, _| 1 << (8 * ground.framing.header()).saturating_sub(1),
            follows: |_, body| body,
            ends: true,
        },
    ),
    (
        "the most positive",
        Bomb {
            announced: |ground, _| (1 << (8 * ground.framing.header()).saturating_sub(1)) - 1,
            follows: |_, body| body,
            ends: true,
        },
    ),
    ("zero", Bomb { announced: |ground, _| ground.announced(0), follows: |_, _| 0, ends: true }),
    (
        "zero, and again",
        Bomb { announced: |_, _| 0, follows: |ground, _| 64 * ground.framing.header() as u64, ends: true },
    ),
    ("less than its own header", Bomb { announced: |_, _| 1, follows: |_, body| body, ends: true }),
    (
        "above the limit by one",
        Bomb {
            announced: |ground, _| ground.announced(u64::from(ground.framing.max) + 1),
            follows: |ground, _| u64::from(ground.framing.max) + 1,
            ends: true,
        },
    ),
    (
        "one more than follows",
        Bomb { announced: |ground, body| ground.announced(body + 1), follows: |_, body| body, ends: true },
    ),
    (
        "one less than follows",
        Bomb {
            announced: |ground, body| ground.announced(body.saturating_sub(1)),
            follows: |_, body| body,
            ends: true,
        },
    ),
    (
        "just within the limit",
        Bomb {
            announced: |ground, _| ground.announced(u64::from(ground.framing.max)),
            follows: |ground, _| u64::from(ground.framing.max),
            ends: false,
        },
    ),
];

async fn attacker(ground: Rc<Ground>, index: u32) {
    // Each begins elsewhere in the table.
    let mut bombs = BOMBS.iter().cycle().skip(index as usize % BOMBS.len());
    while ground.turn().await {
        let Some((_, bomb)) = bombs.next() else { return };
        let Some(mut link) = ground.connect().await else { continue };
        throw(&mut link, &ground, bomb).await;
    }
}

async fn throw(link: &mut Link, ground: &Ground, bomb: &Bomb) {
    let due = Instant::now() + DUE;
    let stretched = stretched(ground, bomb);
    // Whoever doesn't read it all is waited upon as one that reads it and says nothing.
    let all = async {
        link.send(&stretched.beginning).await && link.fill(stretched.fillers).await && link.send(stretched.end).await
    };
    if timeout_at(due, all).await == Ok(false) {
        return;
    }
    if bomb.ends {
        link.outlast(due).await;
    } else {
        link.answered(1, PATIENCE).await;
    }
}

/// What is sent.
struct Stretched {
    /// The header and the beginning of the body.
    beginning: Vec<u8>,
    /// How many fillers come then.
    fillers: usize,
    /// And what at last.
    end: &'static [u8],
}

/// The header, and a hello that is stretched to so many bytes (zeros, if it is shorter than a hello).
fn stretched(ground: &Ground, bomb: &Bomb) -> Stretched {
    const BEGINNING: &[u8] = br#"{"op":"hello","v":1,"client":"storm","pad":""#;
    const END: &[u8] = br#""}"#;
    // One byte stays free, so that "one more" is still within the limit.
    let body = ground.body_size().saturating_sub(1) as u64;
    let mut beginning = Vec::new();
    ground.framing.write_length((bomb.announced)(ground, body), &mut beginning);
    let follows = (bomb.follows)(ground, body) as usize;
    let Some(fillers) = follows.checked_sub(BEGINNING.len() + END.len()) else {
        beginning.resize(beginning.len() + follows, 0);
        return Stretched { beginning, fillers: 0, end: b"" };
    };
    beginning.extend_from_slice(BEGINNING);
    Stretched { beginning, fillers, end: END }
}

#[cfg(test)]
mod tests {
    use super::super::stand::{self, Stand};
    use super::*;

    fn frame(ground: &Ground, bomb: &Bomb) -> Vec<u8> {
        let Stretched { beginning, fillers, end } = stretched(ground, bomb);
        [&beginning[..], &b"x".repeat(fillers), end].concat()
    }

    #[tokio::test]
    async fn each_header_says_what_its_name_says() {
        let stand = Stand::new(stand::record).await;
        let ground = stand.ground(ATTACK.name);
        let size = ATTACK.size as usize;
        let limit = ground.framing.max as usize;
        let expected: &[(&str, u32, usize)] = &[
            ("minus one", 0xffff_ffff, size - 1),
            ("the most negative", 0x8000_0000, size - 1),
            ("the most positive", 0x7fff_ffff, size - 1),
            ("zero", 0, 0),
            ("zero, and again", 0, 256),
            ("less than its own header", 1, size - 1),
            ("above the limit by one", limit as u32 + 1, limit + 1),
            ("one more than follows", size as u32, size - 1),
            ("one less than follows", size as u32 - 2, size - 1),
            ("just within the limit", limit as u32, limit),
        ];
        let actual: Vec<_> = BOMBS
            .iter()
            .map(|(name, bomb)| {
                let frame = frame(&ground, bomb);
                (*name, u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]), frame.len() - 4)
            })
            .collect();
        assert_eq!(actual, expected);
    }

    #[tokio::test]
    async fn the_true_one_is_a_hello_as_long_as_may_be() {
        let stand = Stand::new(stand::record).await;
        let (_, bomb) = BOMBS.iter().find(|(_, bomb)| !bomb.ends).unwrap();
        let frame = frame(&stand.ground(ATTACK.name), bomb);
        let hello: serde_json::Value = serde_json::from_slice(&frame[4..]).unwrap();
        assert_eq!((&hello["op"], frame.len()), (&"hello".into(), 4 + 64 * 1024));
    }

    #[tokio::test]
    async fn lengths_that_count_themselves_lie_about_that_too() {
        let mut stand = Stand::new(stand::record).await;
        stand.framing = stand::FOREIGN;
        let ground = stand.ground(ATTACK.name);
        let says = |name: &str| {
            let (_, bomb) = BOMBS.iter().find(|bomb| bomb.0 == name).unwrap();
            let frame = frame(&ground, bomb);
            (u16::from_le_bytes([frame[0], frame[1]]), frame.len() - 2)
        };
        assert_eq!(says("zero"), (2, 0));
        assert_eq!(says("zero, and again"), (0, 128));
        assert_eq!(says("less than its own header"), (1, 999));
        assert_eq!(says("one more than follows"), (1002, 999));
        assert_eq!(says("the most positive"), (0x7fff, 999));
        assert_eq!(says("above the limit by one"), (1003, 1001));
    }

    #[tokio::test]
    async fn all_kinds_have_their_turn() {
        let stand = Stand::new(stand::close).await;
        stand.attack(ATTACK.name, 2, |counts| counts.ended >= 3 * BOMBS.len() as u64).await;
        assert_eq!(stand.counts().overdue, 0);
    }
}
