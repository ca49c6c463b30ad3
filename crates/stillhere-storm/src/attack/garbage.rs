//! 32 KB of noise in a loop.

use std::rc::Rc;
use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;

use super::ground::{DUE, Ground, Link, rest};
use super::{Against, Attack, Life};

pub(super) const ATTACK: Attack = Attack {
    name: "garbage",
    about: "Sends random bytes in a loop and connects again when it is closed. A sound server closes at the first bad \
            byte and reads no more.",
    against: Against::Any,
    size: 32 * 1024,
    life: |ground, index| -> Life { Box::pin(attacker(ground, index)) },
};

/// A server that takes it all and never closes gets the next connection after this: long enough to be overdue first.
const LASTS: Duration = Duration::from_secs(30);

async fn attacker(ground: Rc<Ground>, index: u32) {
    let (noise, mut rng) = (ground.noise(), ground.rng(index));
    while ground.turn().await {
        let Some(mut link) = ground.connect().await else { continue };
        // Every connection begins elsewhere in it, so that every first byte has its turn: some choose a protocol.
        let from = rng.random_range(0..noise.len());
        let now = Instant::now();
        pelt(&mut link, &noise, from, now + DUE, now + LASTS).await;
    }
}

/// Sends noise until the target ends the connection or it is time.
async fn pelt(link: &mut Link, noise: &[u8], from: usize, due: Instant, until: Instant) {
    let mut piece = &noise[from..];
    while link.pour(piece, due).await {
        piece = noise;
        rest().await;
    }
    link.overdue();
    while link.pour(noise, until).await {
        rest().await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::stand::{self, Stand};
    use super::*;

    #[tokio::test]
    async fn a_target_that_takes_it_all_is_overdue_until_the_attacker_goes() {
        let stand = Stand::new(stand::discard).await;
        let ground = stand.ground(ATTACK.name);
        let mut link = ground.connect().await.unwrap();
        let (now, noise) = (Instant::now(), ground.noise());
        tokio::select! {
            () = pelt(&mut link, &noise, 5, now, now + LASTS) => panic!("it went before it was overdue"),
            () = stand.counted(|counts| counts.overdue == 1 && counts.sent_bytes > u64::from(ATTACK.size)) => {}
        }
        assert_eq!((stand.counts().open, stand.counts().ended), (1, 0));
        drop(link);
        assert_eq!((stand.counts().overdue, stand.counts().open, stand.counts().ended), (0, 0, 0));
    }

    #[tokio::test]
    async fn a_target_that_closes_is_never_overdue_and_met_again() {
        let stand = Stand::new(stand::close).await;
        stand.attack(ATTACK.name, 3, |counts| counts.ended >= 20).await;
        let counts = stand.counts();
        assert_eq!((counts.overdue, counts.open), (0, 0));
        assert!(counts.tries >= counts.connected && counts.connected >= counts.ended, "{counts:?}");
    }
}
