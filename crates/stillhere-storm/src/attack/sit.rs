//! Connections that never say a byte.

use std::rc::Rc;

use tokio::time::Instant;

use super::ground::{DUE, Ground};
use super::{Against, Attack, Life};

pub(super) const ATTACK: Attack = Attack {
    name: "sit",
    about: "Connects and says nothing, for as long as it is let. A sound server has a deadline for the first frame and \
            closes then; meanwhile such a connection costs it next to nothing.",
    against: Against::Any,
    size: 1,
    life: |ground, _| -> Life { Box::pin(attacker(ground)) },
};

async fn attacker(ground: Rc<Ground>) {
    while ground.turn().await {
        let Some(mut link) = ground.connect().await else { continue };
        link.outlast(Instant::now() + DUE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::stand::{self, Stand};
    use super::*;

    #[tokio::test]
    async fn it_says_nothing_and_comes_back_when_it_is_closed() {
        let stand = Stand::new(stand::close).await;
        stand.attack(ATTACK.name, 2, |counts| counts.ended >= 10).await;
        assert_eq!((stand.counts().sent_bytes, stand.counts().overdue), (0, 0));
    }

    #[tokio::test]
    async fn what_is_never_ended_is_overdue_until_it_is() {
        let stand = Stand::new(stand::discard).await;
        let ground = stand.ground(ATTACK.name);
        let mut link = ground.connect().await.unwrap();
        let seat = tokio::task::LocalSet::new();
        seat.spawn_local(async move { link.outlast(Instant::now()).await });
        seat.run_until(stand.counted(|counts| counts.overdue == 1)).await;
        seat.run_until(async {
            stand.end_all();
            stand.counted(|counts| counts.ended == 1 && counts.overdue == 0).await;
        })
        .await;
    }
}
