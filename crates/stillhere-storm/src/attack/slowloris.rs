//! Frames that come a byte at a time.

use std::rc::Rc;
use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;

use super::ground::{DUE, Ground, Link};
use super::{Against, Attack, Life};

pub(super) const ATTACK: Attack = Attack {
    name: "slowloris",
    about: "Sends about a byte a second: a third of the attackers from the header on, a third from the body on, a third \
            in a session after a good hello. A sound server wants a frame complete in time, counted from its first \
            byte and not from its last, and closes.",
    against: Against::Any,
    size: 1024,
    life: |ground, index| -> Life { Box::pin(attacker(ground, index)) },
};

/// Between two bytes, on average: often enough that a deadline which every byte moves on is never met.
const PAUSE: Duration = Duration::from_secs(1);

async fn attacker(ground: Rc<Ground>, index: u32) {
    let mut rng = ground.rng(index);
    while ground.turn().await {
        let Some(mut link) = ground.connect().await else { continue };
        if index % 3 == 2 && ground.is_ours() && link.hello(None).await.is_none() {
            continue;
        }
        let at_once = if index % 3 == 1 { ground.framing.header() } else { 0 };
        let pause = || PAUSE.mul_f64(rng.random_range(0.5..1.5));
        dribble(&mut link, &ground, at_once, pause, Instant::now() + DUE).await;
    }
}

/// Sends a frame, its first bytes at once and then one after each pause, until the target ends the connection.
async fn dribble(link: &mut Link, ground: &Ground, at_once: usize, mut pause: impl FnMut() -> Duration, due: Instant) {
    let mut header = Vec::new();
    let body = ground.body_size();
    ground.framing.write_length(ground.announced(body as u64), &mut header);
    let mut sent = at_once.min(header.len());
    if !link.send(&header[..sent]).await {
        return;
    }
    while sent < header.len() + body {
        // The body may be anything without a line feed: it is never complete in time.
        let byte = header.get(sent).copied().unwrap_or(b'{');
        if !link.send(&[byte]).await || link.wait_end(pause()).await {
            return;
        }
        if Instant::now() >= due {
            link.overdue();
        }
        sent += 1;
    }
    link.outlast(due).await;
}

#[cfg(test)]
mod tests {
    use super::super::stand::{self, Stand};
    use super::*;

    #[tokio::test]
    async fn the_frame_comes_in_single_bytes_and_is_overdue_in_time() {
        for at_once in [0, 4] {
            let mut stand = Stand::new(stand::record).await;
            stand.size = Some(6);
            let ground = stand.ground(ATTACK.name);
            let mut link = ground.connect().await.unwrap();
            let seat = tokio::task::LocalSet::new();
            let due = Instant::now() + Duration::from_millis(20);
            seat.spawn_local(async move {
                dribble(&mut link, &ground, at_once, || Duration::from_millis(5), due).await;
            });
            seat.run_until(stand.counted(|counts| counts.sent_bytes == 10 && counts.overdue == 1)).await;
            seat.run_until(stand.heard(|links| links.first().is_some_and(|link| link.bytes == b"\0\0\0\x06{{{{{{")))
                .await;
            // The byte after what comes at once may catch up with it.
            let first = stand.links()[0].reads[0];
            assert!((at_once.max(1)..=at_once + 1).contains(&first), "{first}");
            seat.run_until(async {
                stand.end_all();
                stand.counted(|counts| counts.ended == 1 && counts.overdue == 0 && counts.open == 0).await;
            })
            .await;
        }
    }

    #[tokio::test]
    async fn the_three_kinds_differ_in_what_comes_at_once() {
        let stand = Stand::new(stand::record).await;
        stand.answers(vec![stand::frame(&serde_json::json!({ "op": "welcome" }))]);
        let all = stand.heard(|links| {
            let has = |link: &stand::Heard, part: &[u8]| link.bytes.windows(part.len()).any(|bytes| bytes == part);
            let begins = |link: &stand::Heard, with| link.reads.first() == Some(&with) && !has(link, b"hello");
            links.iter().any(|link| begins(link, 1))
                && links.iter().any(|link| begins(link, 4) || begins(link, 5))
                && links.iter().any(|link| has(link, b"\"hello\"") && has(link, b"}\0"))
        });
        stand.attack_while(ATTACK.name, 3, all).await;
    }
}
