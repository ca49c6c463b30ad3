//! Ever new rooms.

use std::collections::VecDeque;
use std::rc::Rc;

use serde_json::json;

use super::ground::Ground;
use super::talk::{Tempo, enter};
use super::{Against, Attack, Life};

pub(super) const ATTACK: Attack = Attack {
    name: "join-flood",
    about: "Enters and joins one new room after the other, up to 100,000 of each attacker, and parts every second one \
            again. A sound server bounds the rooms of a session (1206), the pace (1203) and the rooms in all (1209), \
            and a room that was made costs it little. Needs registration or names that are claims: ten attackers \
            share an account. The rooms stay on the target's disk.",
    against: Against::Gateway,
    size: 1,
    life: |ground, index| -> Life { Box::pin(attacker(ground, index)) },
};

/// Names of rooms that one attacker makes up before it begins again.
const NAMES: u32 = 100_000;
/// Rooms that it remembers to part; a target that lets it into more than this sees no part of the first ones.
const MEMORY: usize = 1_000;

async fn attacker(ground: Rc<Ground>, index: u32) {
    let mut nth = 0;
    while ground.turn().await {
        let Some(mut talker) = enter(&ground, index).await else { continue };
        let mut tempo = Tempo::new(talker.frames_per_second, index);
        let mut joined = VecDeque::new();
        loop {
            tempo.wait().await;
            if !ground.turn().await {
                return;
            }
            let room = format!("storm-{:x}-{index}-{}", ground.seed & 0xffff_ffff, nth % NAMES);
            let Some(reply) = talker.link.ask(&json!({ "op": "join", "room": room, "id": nth })).await else { break };
            // A room that was refused for the pace may be had later.
            nth += u32::from(reply["code"] != 1203);
            let parts = match reply["op"] == "ok" {
                true => {
                    joined.push_back(room);
                    joined.len() > MEMORY || nth % 2 == 0
                }
                // So many rooms are enough for the target: one of them goes.
                false => reply["code"] == 1206,
            };
            if parts && let Some(room) = joined.pop_front() {
                tempo.wait().await;
                if talker.link.ask(&json!({ "op": "part", "room": room, "id": nth })).await.is_none() {
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::fake::{Fake, run, sound};
    use super::*;

    #[test]
    fn it_joins_rooms_that_it_hasnt_joined_and_parts_every_second() {
        run(async {
            let mut fake = Fake::start(|_, said| sound(said));
            let ground = fake.ground("join-flood");
            fake.attack(&ATTACK, &ground, &[1]);
            let mut rooms = BTreeSet::new();
            let mut parted = 0;
            while rooms.len() < 20 {
                let (_, said) = fake.any().await;
                let room = said["room"].as_str().unwrap_or_default().to_owned();
                match said["op"].as_str() {
                    Some("join") => assert!(rooms.insert(room), "{said}"),
                    Some("part") => {
                        assert!(rooms.contains(&room), "{said}");
                        parted += 1;
                    }
                    _ => {}
                }
            }
            assert!((8..=10).contains(&parted), "{parted}");
        });
    }

    #[test]
    fn a_full_session_parts_and_a_refused_room_is_asked_for_again() {
        run(async {
            let mut joins = 0;
            let mut fake = Fake::start(move |_, said| {
                joins += u32::from(said["op"] == "join");
                match (said["op"].as_str(), joins) {
                    (Some("join"), 2) => Some(vec![json!({ "op": "error", "code": 1203 })]),
                    (Some("join"), 3) => Some(vec![json!({ "op": "error", "code": 1206 })]),
                    _ => sound(said),
                }
            });
            let ground = fake.ground("join-flood");
            fake.attack(&ATTACK, &ground, &[1]);
            let mut said = Vec::new();
            for op in ["join", "join", "join", "part"] {
                let (_, request) = fake.any_of(&["join", "part"]).await;
                assert_eq!(request["op"], op);
                said.push(request["room"].clone());
            }
            assert_eq!((&said[1], &said[0]), (&said[2], &said[3]));
        });
    }
}
