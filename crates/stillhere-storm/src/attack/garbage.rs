//! 32 KB of noise in a loop.

use std::rc::Rc;
use std::time::Duration;

use rand::Rng;

use super::ground::Ground;
use super::{Against, Attack, Life};

pub(super) const ATTACK: Attack = Attack {
    name: "garbage",
    about: "Sends random bytes in a loop and connects again when it is closed. A sound server closes at the first bad \
            byte and reads no more.",
    against: Against::Any,
    size: 32 * 1024,
    life: |ground, index| -> Life { Box::pin(attacker(ground, index)) },
};

/// A server that takes it all and never closes gets the next connection after this, as from the tutorial's attacker.
const LASTS: Duration = Duration::from_secs(10);

async fn attacker(ground: Rc<Ground>, index: u32) {
    let mut noise = vec![0; ground.plan.size as usize];
    ground.rng(index).fill_bytes(&mut noise);
    while ground.turn().await {
        let Some(mut link) = ground.connect().await else { continue };
        let end = tokio::time::Instant::now() + LASTS;
        while tokio::time::Instant::now() < end && link.send(&noise).await {}
    }
}
