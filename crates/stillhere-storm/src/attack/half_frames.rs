//! Frames that stop in the middle.

use std::rc::Rc;

use tokio::time::Instant;

use super::ground::{DUE, Ground};
use super::{Against, Attack, Life};

pub(super) const ATTACK: Attack = Attack {
    name: "half-frames",
    about: "Announces a frame, sends half of it and falls silent: half a body, half a header, or half a body in a \
            session after a good hello. A sound server bounds what it keeps of incomplete frames, and closes when one \
            isn't complete in time.",
    against: Against::Any,
    size: 64 * 1024,
    life: |ground, index| -> Life { Box::pin(attacker(ground, index)) },
};

async fn attacker(ground: Rc<Ground>, index: u32) {
    while ground.turn().await {
        let Some(mut link) = ground.connect().await else { continue };
        if index % 3 == 2 && ground.is_ours() && link.hello(None).await.is_none() {
            continue;
        }
        if link.send(&half(&ground, index % 3 == 1)).await {
            link.outlast(Instant::now() + DUE).await;
        }
    }
}

/// Half a frame, or half a header if there is one. The beginning of the body is a good one.
fn half(ground: &Ground, only_header: bool) -> Vec<u8> {
    const BEGINNING: &[u8] = br#"{"op":"hello","v":1,"client":""#;
    let mut body = BEGINNING.to_vec();
    body.resize(ground.body_size(), b'x');
    let mut frame = Vec::new();
    ground.framing.write(&body, &mut frame);
    let header = ground.framing.header();
    frame.truncate(if only_header && header > 1 { header / 2 } else { header + body.len() / 2 });
    frame
}

#[cfg(test)]
mod tests {
    use super::super::stand::{self, Stand};
    use super::*;

    #[tokio::test]
    async fn exactly_half_is_sent() {
        let stand = Stand::new(stand::record).await;
        stand.answers(vec![stand::frame(&serde_json::json!({ "op": "welcome" }))]);
        let body = ATTACK.size as usize / 2;
        stand
            .attack_while(
                ATTACK.name,
                3,
                stand.heard(|links| {
                    let lengths: Vec<_> = links.iter().map(|link| link.bytes.len()).collect();
                    let hello = links.iter().any(|link| link.bytes.len() > 4 + body && link.bytes.ends_with(b"xx"));
                    lengths.contains(&2) && lengths.contains(&(4 + body)) && hello
                }),
            )
            .await;
        assert_eq!(stand.counts().overdue, 0);
    }

    #[tokio::test]
    async fn a_target_that_has_no_long_frames_gets_half_a_short_one() {
        let mut stand = Stand::new(stand::record).await;
        stand.framing = stand::FOREIGN;
        let half = half(&stand.ground(ATTACK.name), false);
        assert_eq!((half.len(), &half[..2]), (2 + 500, &1002_u16.to_le_bytes()[..]));
    }
}
