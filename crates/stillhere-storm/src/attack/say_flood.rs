//! Messages without end.

use std::rc::Rc;

use super::ground::Ground;
use super::talk::{flood, words};
use super::{Against, Attack, Life};

pub(super) const ATTACK: Attack = Attack {
    name: "say-flood",
    about: "Enters, joins one of ten rooms (storm-0 to -9), and says ever new words there: three in four attackers \
            just below the frames a second that the welcome allows, the fourth as fast as it can. All of them read. A \
            sound server refuses what is above a user's and a room's rate (1203), closes who sends too many frames \
            (4006), and its disk keeps up. Needs registration or names that are claims: ten attackers share an \
            account.",
    against: Against::Gateway,
    size: 256,
    life: |ground, index| -> Life { Box::pin(attacker(ground, index)) },
};

async fn attacker(ground: Rc<Ground>, index: u32) {
    let (size, seed) = (ground.plan.size as usize, ground.seed);
    flood(ground, index, move |nth, room, body| {
        let text = words(seed ^ (u64::from(index) << 40) ^ nth, size);
        // With an id each is answered, and can be counted.
        let parts = [r#"{"op":"say","room":""#, room, r#"","id":"#, &nth.to_string(), r#","text":""#, &text, "\"}"];
        parts.iter().for_each(|part| body.extend_from_slice(part.as_bytes()));
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::fake::{Fake, run, sound};
    use super::*;

    #[test]
    fn it_joins_its_room_and_says_what_it_hasnt_said_before() {
        run(async {
            let mut fake = Fake::start(|_, said| sound(said));
            let ground = fake.ground("say-flood");
            fake.attack(&ATTACK, &ground, &[7]);
            assert_eq!(fake.next("join").await.1["room"], "storm-7");
            let mut texts = BTreeSet::new();
            for _ in 0..20 {
                let (_, said) = fake.next("say").await;
                assert_eq!(said["room"], "storm-7");
                texts.insert(said["text"].as_str().unwrap().to_owned());
            }
            assert_eq!(texts.len(), 20);
            assert!(texts.iter().all(|text| text.len() == 256), "{texts:?}");
            fake.until(|| ground.count().answered > 10).await;
        });
    }
}
