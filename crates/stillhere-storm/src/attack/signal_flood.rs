//! Signals without end.

use std::rc::Rc;

use super::ground::Ground;
use super::talk::{flood, words};
use super::{Against, Attack, Life};

pub(super) const ATTACK: Attack = Attack {
    name: "signal-flood",
    about: "Enters, joins one of ten rooms (storm-0 to -9), and signals there: three in four attackers just below the \
            frames a second that the welcome allows, the fourth as fast as it can. All of them read. A sound server \
            refuses what is above a session's and a room's rate (1203), closes who sends too many frames (4006), and \
            lets nobody else wait. Needs registration or names that are claims: ten attackers share an account.",
    against: Against::Gateway,
    size: 256,
    life: |ground, index| -> Life { Box::pin(attacker(ground, index)) },
};

/// Senders use as many keys in turn: the target keeps the latest of each for who is on leave.
const KEYS: u64 = 8;

async fn attacker(ground: Rc<Ground>, index: u32) {
    let data = words(u64::from(index), (ground.plan.size as usize).saturating_sub(2).max(1));
    flood(ground, index, move |nth, room, body| {
        let key = nth % KEYS;
        let parts = [r#"{"op":"signal","room":""#, room, r#"","key":"k"#, &key.to_string(), r#"","data":""#, &data];
        parts.iter().for_each(|part| body.extend_from_slice(part.as_bytes()));
        body.extend_from_slice(b"\"}");
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, run, sound};
    use super::*;

    #[test]
    fn it_joins_its_room_and_signals_so_many_bytes_there() {
        run(async {
            let mut fake = Fake::start(|_, said| sound(said));
            let ground = fake.ground("signal-flood");
            fake.attack(&ATTACK, &ground, &[13]);
            let (_, join) = fake.next("join").await;
            assert_eq!(join["room"], "storm-3");
            for nth in 0..20 {
                let (_, signal) = fake.next("signal").await;
                assert_eq!(signal["room"], "storm-3");
                assert_eq!(signal["key"], format!("k{}", nth % KEYS));
                assert_eq!(signal["data"].to_string().len(), 256);
            }
        });
    }
}
