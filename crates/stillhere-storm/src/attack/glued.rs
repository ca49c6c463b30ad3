//! Good frames, glued together and torn apart.

use std::rc::Rc;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::ground::{Ground, Link};
use super::{Against, Attack, Life};

pub(super) const ATTACK: Attack = Attack {
    name: "glued",
    about: "Sends good frames, many in one write, then each torn in two at every position, then a byte at a time. A \
            sound server answers every one of them, since how bytes are cut into packets means nothing.",
    against: Against::Any,
    size: 8 * 1024,
    life: |ground, index| -> Life { Box::pin(attacker(ground, index)) },
};

/// How long answers to a write of many frames may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for somebody else's server, which perhaps doesn't answer at all.
const FOREIGN_PATIENCE: Duration = Duration::from_secs(1);
/// Between two pieces, so that they arrive as two.
const PIECE: Duration = Duration::from_millis(1);
/// Bytes of glued frames at most: they are built anew for each connection, and the patience is for so many answers.
const GLUE_MAX: u32 = 64 * 1024;

async fn attacker(ground: Rc<Ground>, index: u32) {
    // What ours answers whatever state the session is in; for others a frame as good as any.
    let body = json!({ "op": "beat", "t": index }).to_string();
    let mut frame = Vec::new();
    ground.framing.write(body.as_bytes(), &mut frame);
    while ground.turn().await {
        let Some(mut link) = ground.connect().await else { continue };
        if ground.is_ours() && link.hello(None).await.is_none() {
            continue;
        }
        if speak(&mut link, &ground, &frame).await && ground.is_ours() {
            // A session that says goodbye isn't kept.
            link.send_frame(br#"{"op":"bye"}"#).await;
            link.wait_end(FOREIGN_PATIENCE).await;
        }
    }
}

/// Glues and tears; false once the target has ended the connection or fails to answer.
async fn speak(link: &mut Link, ground: &Ground, frame: &[u8]) -> bool {
    let many = (ground.plan.size.min(GLUE_MAX) as usize / frame.len()).max(1);
    let all = link.answers() + many as u64;
    if !link.pour(&frame.repeat(many), Instant::now() + PATIENCE).await || !reply(link, ground, all).await {
        return false;
    }
    let in_two = (1..frame.len()).map(|at| frame.split_at(at)).map(|(first, rest)| vec![first, rest]);
    let in_bytes = std::iter::once(frame.chunks(1).collect());
    for pieces in in_two.chain(in_bytes) {
        let next = link.answers() + 1;
        for piece in pieces {
            if !link.send(piece).await {
                return false;
            }
            sleep(PIECE).await;
        }
        // Whether others answer isn't known, so they are asked once, at the beginning.
        if ground.is_ours() && !reply(link, ground, next).await {
            return false;
        }
    }
    true
}

/// Waits for so many answers in all. Others needn't answer, and only mustn't end the connection.
async fn reply(link: &mut Link, ground: &Ground, answers: u64) -> bool {
    if ground.is_ours() {
        link.answered(answers, PATIENCE).await
    } else {
        link.answered(answers, FOREIGN_PATIENCE).await || !link.has_ended()
    }
}

#[cfg(test)]
mod tests {
    use super::super::stand::{self, Stand};
    use super::*;

    #[tokio::test]
    async fn every_frame_is_good_and_answered_and_the_end_is_a_goodbye() {
        let stand = Stand::new(stand::speak_v1).await;
        let frame_bytes = 4 + json!({ "op": "beat", "t": 0 }).to_string().len();
        // The welcome, the glued ones, one for each place to tear at, and the one in bytes.
        let all = 1 + ATTACK.size as usize / frame_bytes + (frame_bytes - 1) + 1;
        stand.attack(ATTACK.name, 1, |counts| counts.ended >= 1).await;
        assert_eq!(stand.counts().answered, all as u64);
        let bodies = stand.bodies().swap_remove(0);
        assert_eq!((bodies.len(), &bodies[all][..]), (all + 1, &br#"{"op":"bye"}"#[..]));
        assert_eq!(stand.counts().closes.len(), 0);
        // Torn at each position: the reads show pieces of every length.
        let reads = &stand.links()[0].reads;
        assert!((1..frame_bytes).all(|length| reads.contains(&length)), "{reads:?}");
    }

    #[tokio::test]
    async fn a_target_that_leaves_one_unanswered_is_given_up() {
        let stand = Stand::new(stand::record).await;
        let ground = stand.ground(ATTACK.name);
        let mut link = ground.connect().await.unwrap();
        let expected = ATTACK.size as usize;
        let mut one = Vec::new();
        ground.framing.write(b"{}", &mut one);
        stand.answers(vec![stand::frame(&json!({ "op": "beat" }))]);
        tokio::select! {
            went_on = speak(&mut link, &ground, &one) => panic!("went on: {went_on}"),
            () = stand.heard(|links| links.first().is_some_and(|link| link.bytes.len() == expected / 6 * 6)) => {}
        }
        assert_eq!(stand.counts().sent_bytes, expected as u64 / 6 * 6);
    }

    #[tokio::test]
    async fn somebody_elses_server_that_says_nothing_gets_all_of_it() {
        let mut stand = Stand::new(stand::record).await;
        stand.framing = stand::FOREIGN;
        stand.size = Some(100);
        let ground = stand.ground(ATTACK.name);
        let mut link = ground.connect().await.unwrap();
        assert!(speak(&mut link, &ground, b"\x04\0{}").await);
        stand.heard(|links| links.first().is_some_and(|link| link.bytes == b"\x04\0{}".repeat(25 + 3 + 1))).await;
    }
}
