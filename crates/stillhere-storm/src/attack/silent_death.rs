//! Clients that are gone without a word.

use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use super::ground::{Ground, Link};
use super::talk::outstay;
use super::{Against, Attack, Life};

pub(super) const ATTACK: Attack = Attack {
    name: "silent-death",
    about: "Says hello with the plan's interval, beats twice and is silent from then on: it never reads, writes or \
            closes, like a machine without power. A sound server cuts it after twice the bound that its last answer \
            told (4004); who isn't cut 5 s after that is overdue, so `during` should be longer (an interval of 1 s: \
            25 s).",
    against: Against::Gateway,
    size: 1,
    life: |ground, index| -> Life { Box::pin(attacker(ground, index)) },
};

/// Beats before the end.
const BEATS: u32 = 2;
/// What a target is given beyond its bound.
const ALLOWANCE: Duration = Duration::from_secs(5);
/// No bound is longer, whatever the target says: no phase is.
const DUE_MAX: Duration = Duration::from_secs(3600);
/// How often the dead look whether they were cut: each look costs a little, and nothing else here does.
const LOOK: Duration = Duration::from_secs(1);

async fn attacker(ground: Rc<Ground>, _index: u32) {
    while ground.turn().await {
        let Some(mut link) = ground.connect().await else { continue };
        let Some(detect) = live(&ground, &mut link).await else { continue };
        outstay(&ground, &mut link, due(detect), LOOK, |_, _| true).await;
    }
}

/// Says hello and beats; after how long without a sign of life the target would notice, in milliseconds.
async fn live(ground: &Ground, link: &mut Link) -> Option<u64> {
    let welcome = link.hello(None).await?;
    let mut detect = detect_of(&welcome["beat"])?;
    let wanted = ground.plan.interval.as_millis() as u64;
    let interval = Duration::from_millis(welcome["beat"]["interval_ms"].as_u64().unwrap_or(wanted));
    for _ in 0..BEATS {
        sleep(interval.min(DUE_MAX)).await;
        let reply = link.ask(&serde_json::json!({ "op": "beat" })).await?;
        detect = detect_of(&reply).unwrap_or(detect);
    }
    Some(detect)
}

fn detect_of(said: &Value) -> Option<u64> {
    said["detect_ms"].as_u64()
}

/// When a link that is silent from now on should be gone.
fn due(detect_ms: u64) -> Duration {
    (Duration::from_millis(detect_ms.saturating_mul(2)) + ALLOWANCE).min(DUE_MAX)
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, run, sound};
    use super::*;
    use serde_json::json;

    #[test]
    fn it_beats_twice_and_says_nothing_more() {
        run(async {
            let mut fake = Fake::start(|_, said| sound(said));
            let ground = fake.ground("silent-death");
            fake.attack(&ATTACK, &ground, &[0, 1]);
            let mut said = Vec::new();
            while said.len() < 6 {
                said.push(fake.any().await.1["op"].clone());
            }
            assert_eq!(said.iter().filter(|op| **op == "hello").count(), 2, "{said:?}");
            assert_eq!(said.iter().filter(|op| **op == "beat").count(), 4, "{said:?}");
            // Ten intervals later neither has said anything more: what a third one says is heard first.
            let mut third = ground.connect().await.unwrap();
            assert!(third.hello(None).await.is_some());
            for _ in 0..10 {
                assert_eq!(fake.any().await.0, 2);
                sleep(ground.plan.interval).await;
                assert!(third.ask(&json!({ "op": "beat" })).await.is_some());
            }
            let counts = ground.count().clone();
            assert_eq!((counts.open, counts.ended), (3, 0));
        });
    }

    #[test]
    fn being_cut_is_noticed_with_its_code_although_nothing_is_read() {
        run(async {
            // The goodbye lies before the end, unread.
            let mut fake = Fake::start(|_, said| match said["op"].as_str() {
                Some("cut") => Some(vec![json!({ "op": "bye", "code": 4004 }), Value::Null]),
                _ => sound(said),
            });
            let ground = fake.ground("silent-death");
            let mut link = ground.connect().await.unwrap();
            assert_eq!(live(&ground, &mut link).await, Some(77), "as the last beat's reply says");
            assert!(link.send_frame(br#"{"op":"cut"}"#).await);
            outstay(&ground, &mut link, Duration::from_secs(30), Duration::from_millis(2), |_, _| true).await;
            let counts = ground.count().clone();
            assert_eq!((counts.ended, counts.closes.get(&4004), counts.overdue), (1, Some(&1), 0));
            fake.next("cut").await;
        });
    }

    #[test]
    fn the_bound_is_twice_what_was_told_and_a_little() {
        assert_eq!(due(6_500), Duration::from_secs(18));
        assert_eq!(due(u64::MAX), DUE_MAX);
    }
}
