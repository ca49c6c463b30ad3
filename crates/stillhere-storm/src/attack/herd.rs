//! Everybody drops at once, and everybody is back at once.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::ground::{Ground, Heard, Link};
use super::{Against, Attack, Life};

pub(super) const ATTACK: Attack = Attack {
    name: "herd",
    about: "v1 clients that beat as they should and drop their links all at the same moment, every fifth interval, by a \
            reset; they are back at once and without jitter, by turns with their session and as a new one. When the \
            target is restarted they do the same. A sound server lets them all in again while everybody else is \
            served, and keeps a bounded number of the sessions that nobody comes back to.",
    against: Against::Gateway,
    size: 1,
    life: |ground, index| -> Life { Box::pin(attacker(ground, index)) },
};

/// Intervals between two drops.
const PERIOD: u32 = 5;

async fn attacker(ground: Rc<Ground>, _index: u32) {
    let mut session = None;
    let mut resumes = false;
    while ground.turn().await {
        // A target that is being started again refuses; it is asked until it doesn't.
        let Some(mut link) = ground.connect().await else { continue };
        let proof = if resumes { session.take() } else { None };
        let Some(welcome) = link.ask(&hello(&ground, proof)).await.filter(|reply| reply["op"] == "welcome") else {
            continue;
        };
        session = Some(welcome);
        resumes = !resumes;
        graze(&ground, &mut link).await;
        link.reset();
    }
}

/// Hello, with the session of an earlier welcome if there is one.
fn hello(ground: &Ground, earlier: Option<Value>) -> Value {
    let mut hello = json!({ "op": "hello", "v": 1, "client": "storm", "interval_ms": millis(ground.plan.interval) });
    if let Some(welcome) = earlier {
        hello["resume"] = json!({ "session": welcome["session"], "secret": welcome["resume"]["secret"], "count": 0 });
    }
    hello
}

/// Beats until everybody drops, or the target has ended the link.
async fn graze(ground: &Ground, link: &mut Link) {
    let period = ground.plan.interval.saturating_mul(PERIOD);
    let end = Instant::now() + until_drop(SystemTime::now(), period);
    let mut next = Instant::now() + ground.plan.interval;
    loop {
        let now = Instant::now();
        if now >= end {
            return;
        }
        if now >= next {
            next += ground.plan.interval;
            if !link.send_frame(br#"{"op":"beat"}"#).await {
                return;
            }
        }
        match link.hear(next.min(end).saturating_duration_since(now)).await {
            Heard::Frame(_) => ground.count().answered += 1,
            Heard::Ended => return,
            Heard::Silence => {}
        }
    }
}

/// How long until the next drop. The wall clock tells it, the one thing that all of them see alike.
fn until_drop(now: SystemTime, period: Duration) -> Duration {
    let period = millis(period).max(1);
    let since = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, millis);
    Duration::from_millis(period - since % period)
}

fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Event, Fake, run, sound};
    use super::*;

    #[test]
    fn the_moment_of_the_drop_is_the_same_for_whoever_came_when() {
        let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        let period = Duration::from_secs(5);
        for came in [20_000, 20_001, 23_456, 24_999] {
            assert_eq!(at(came) + until_drop(at(came), period), at(25_000), "{came}");
        }
    }

    #[test]
    fn all_drop_by_a_reset_and_come_back_by_turns_with_their_session_and_without() {
        run(async {
            let mut fake = Fake::start(|_, said| sound(said));
            let ground = fake.ground("herd");
            fake.attack(&ATTACK, &ground, &[0, 1, 2]);
            let (mut hellos, mut resumes, mut resets, mut beats) = (0, 0, 0, 0);
            while hellos < 12 {
                match fake.event().await {
                    Event::Said { said, .. } if said["op"] == "hello" => {
                        hellos += 1;
                        if let Some(resume) = said.get("resume") {
                            assert_eq!(resume["secret"], format!("secret of {}", resume["session"].as_str().unwrap()));
                            resumes += 1;
                        }
                        assert!(hellos <= resets + 3);
                    }
                    Event::Said { said, .. } => beats += u32::from(said["op"] == "beat"),
                    Event::Ended { reset, .. } => resets += u32::from(reset),
                }
            }
            assert_eq!((resumes, resets), (6, 9), "every second one of each, and never by a plain close");
            assert!(beats > 0);
        });
    }

    #[test]
    fn a_target_that_refuses_is_asked_until_it_is_back() {
        run(async {
            let mut fake = Fake::start(|_, said| sound(said));
            let ground = fake.ground("herd");
            fake.attack(&ATTACK, &ground, &[0]);
            fake.next("hello").await;
            fake.close().await;
            fake.until(|| ground.count().refused >= 2).await;
            fake.open_again().await;
            assert!(fake.next("hello").await.1["resume"]["session"].is_string());
        });
    }
}
