//! Sessions that nobody comes back to.

use std::rc::Rc;

use super::ground::Ground;
use super::{Against, Attack, Life};

pub(super) const ATTACK: Attack = Attack {
    name: "hello-drop",
    about: "Says hello, waits for the welcome and drops the link by a reset, again and again: each leaves a session \
            behind that could be resumed. A sound server keeps a bounded number of these, for each address and in all, \
            and has its memory back when their time is over.",
    against: Against::Gateway,
    size: 1,
    life: |ground, index| -> Life { Box::pin(attacker(ground, index)) },
};

async fn attacker(ground: Rc<Ground>, _index: u32) {
    while ground.turn().await {
        let Some(mut link) = ground.connect().await else { continue };
        if link.hello(None).await.is_some() {
            link.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Event, Fake, run, sound};
    use super::*;

    #[test]
    fn each_link_says_hello_as_a_new_session_and_is_reset() {
        run(async {
            let mut fake = Fake::start(|_, said| sound(said));
            let ground = fake.ground("hello-drop");
            fake.attack(&ATTACK, &ground, &[0]);
            for link in 0..3 {
                let (heard, hello) = fake.next("hello").await;
                assert_eq!((heard, hello.get("resume")), (link, None));
                assert_eq!(fake.end().await, Event::Ended { link, reset: true });
            }
            assert!(ground.count().answered >= 3);
        });
    }
}
