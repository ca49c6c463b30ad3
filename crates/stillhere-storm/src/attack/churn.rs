//! Connections that are closed at once.

use std::rc::Rc;

use super::ground::Ground;
use super::{Against, Attack, Life};

pub(super) const ATTACK: Attack = Attack {
    name: "churn",
    about: "Connects and closes at once, every other attacker by a reset, as often as it can. A sound server accepts, \
            forgets, and keeps accepting others: no file, thread or session stays behind.",
    against: Against::Any,
    size: 1,
    life: |ground, index| -> Life { Box::pin(attacker(ground, index)) },
};

async fn attacker(ground: Rc<Ground>, index: u32) {
    while ground.turn().await {
        let Some(link) = ground.connect().await else { continue };
        if index % 2 == 1 {
            link.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stand::{self, Stand};
    use super::*;

    #[tokio::test]
    async fn it_closes_what_it_opens_and_says_nothing() {
        let stand = Stand::new(stand::record).await;
        // One attacker ends with a goodbye of TCP, the other without.
        let both = stand.heard(|links| {
            [false, true].iter().all(|reset| links.iter().filter(|link| link.over == Some(*reset)).count() >= 5)
        });
        stand.attack_while(ATTACK.name, 2, both).await;
        let counts = stand.counts();
        assert_eq!((counts.sent_bytes, counts.open, counts.ended, counts.refused), (0, 0, 0, 0));
    }

    #[tokio::test]
    async fn with_a_rate_the_turns_are_as_many_as_it_says() {
        let mut stand = Stand::new(stand::discard).await;
        stand.rate = Some(100.0);
        let began = std::time::Instant::now();
        stand.attack(ATTACK.name, 10, |counts| counts.tries >= 31).await;
        // 31 turns at 100 a second: the last is due after 300 ms.
        assert!(began.elapsed().as_millis() >= 295, "{:?}", began.elapsed());
    }
}
