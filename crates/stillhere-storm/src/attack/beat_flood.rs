//! Beats without a pause.

use std::rc::Rc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::ground::{Ground, rest};
use super::{Against, Attack, Life};

pub(super) const ATTACK: Attack = Attack {
    name: "beat-flood",
    about: "Opens a good session and beats as fast as the link carries, every other attacker as a legacy client. A \
            sound server counts frames and closes with 4006 (a legacy link without a word) what is far above its rate; \
            early beats are no crime in themselves.",
    against: Against::Gateway,
    size: 4 * 1024,
    life: |ground, index| -> Life { Box::pin(attacker(ground, index)) },
};

/// A target that takes nothing for so long gets the next connection.
const STUCK: Duration = Duration::from_secs(30);
/// Bytes of beats in one write at most.
const WRITE_MAX: u32 = 64 * 1024;

async fn attacker(ground: Rc<Ground>, index: u32) {
    let is_legacy = index % 2 == 1;
    let beats = beats(&ground, index, is_legacy);
    while ground.turn().await {
        let Some(mut link) = ground.connect().await else { continue };
        if !is_legacy && link.hello(None).await.is_none() {
            continue;
        }
        while link.pour(&beats, Instant::now() + STUCK).await {
            rest().await;
        }
    }
}

/// As many beats as fit in `size`, and one at least.
fn beats(ground: &Ground, index: u32, is_legacy: bool) -> Vec<u8> {
    let beat = if is_legacy {
        json!({ "ip": "127.0.0.1", "status": "alive", "pid": index })
    } else {
        json!({ "op": "beat", "t": index })
    };
    let mut frame = Vec::new();
    ground.framing.write(beat.to_string().as_bytes(), &mut frame);
    frame.repeat((ground.plan.size.min(WRITE_MAX) as usize / frame.len()).max(1))
}

#[cfg(test)]
mod tests {
    use super::super::stand::{self, Stand};
    use super::*;

    #[tokio::test]
    async fn a_session_beats_without_a_pause_and_reads_the_answers() {
        let stand = Stand::new(stand::speak_v1).await;
        stand.attack(ATTACK.name, 1, |counts| counts.answered > 5_000).await;
        assert_eq!(stand.counts().connected, 1);
        let bodies = stand.bodies().swap_remove(0);
        assert!(
            bodies[0].starts_with(br#"{"client":"storm""#) || bodies[0].windows(7).any(|part| part == b"\"hello\"")
        );
        assert!(bodies[1..].iter().all(|body| body == br#"{"op":"beat","t":0}"#), "{:?}", bodies[1]);
    }

    #[tokio::test]
    async fn the_odd_are_legacy_clients() {
        let stand = Stand::new(stand::record).await;
        stand
            .attack_while(
                ATTACK.name,
                2,
                stand.heard(|links| {
                    links
                        .iter()
                        .any(|link| link.bytes.len() > 20_000 && link.bytes.windows(5).any(|part| part == b"\"ip\":"))
                }),
            )
            .await;
        let legacy = stand.bodies().into_iter().max_by_key(Vec::len).unwrap();
        let whole = serde_json::to_vec(&json!({ "ip": "127.0.0.1", "status": "alive", "pid": 1 })).unwrap();
        assert!(legacy.iter().all(|body| *body == whole));
    }

    #[tokio::test]
    async fn a_target_that_closes_is_met_again() {
        let stand = Stand::new(stand::close).await;
        stand.attack(ATTACK.name, 2, |counts| counts.ended >= 20).await;
        assert!(stand.counts().connected >= 20);
    }
}
