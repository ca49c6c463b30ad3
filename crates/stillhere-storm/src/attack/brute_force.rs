//! Guessing passwords.

use std::rc::Rc;

use rand::RngExt;
use serde_json::json;

use super::ground::Ground;
use super::{Against, Attack, Life};

pub(super) const ATTACK: Attack = Attack {
    name: "brute-force",
    about: "Logs in as one of eight users (storm-victim-0 to -7) with random passwords, as fast as answers come, over \
            one link until it ends. A sound server makes each guess wait longer (1204), says early that it is busy \
            (1202), and hashes passwords where nobody else has to wait for it. Needs no account.",
    against: Against::Gateway,
    size: 12,
    life: |ground, index| -> Life { Box::pin(attacker(ground, index)) },
};

/// How many users are attacked: few, as an attacker has a few names that it is after.
const VICTIMS: u32 = 8;
/// Passwords are at least so long, or they would be refused unseen; and at most so long.
const PASSWORD: (u32, u32) = (8, 256);

async fn attacker(ground: Rc<Ground>, index: u32) {
    let mut rng = ground.rng(index);
    let length = ground.plan.size.clamp(PASSWORD.0, PASSWORD.1);
    let mut link = None;
    while ground.turn().await {
        let mut open = match link.take() {
            Some(open) => open,
            None => {
                let Some(mut open) = ground.connect().await else { continue };
                if open.hello(None).await.is_none() {
                    continue;
                }
                open
            }
        };
        let user = format!("storm-victim-{}", rng.random_range(0..VICTIMS));
        let password: String = (0..length).map(|_| char::from(rng.random_range(b'!'..=b'~'))).collect();
        let guess = json!({ "op": "login", "user": user, "password": password, "id": 1 });
        // A refusal is counted by its code where it is heard.
        link = open.ask(&guess).await.map(|_| open);
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, run, sound};
    use super::*;

    #[test]
    fn it_guesses_at_known_users_with_new_passwords_over_one_link_until_it_ends() {
        run(async {
            let mut guesses = 0;
            let mut fake = Fake::start(move |_, said| {
                if said["op"] != "login" {
                    return sound(said);
                }
                guesses += 1;
                (guesses != 3).then(|| vec![json!({ "op": "error", "code": if guesses == 1 { 1105 } else { 1202 } })])
            });
            let ground = fake.ground("brute-force");
            fake.attack(&ATTACK, &ground, &[0]);
            let mut passwords = Vec::new();
            for link in [0, 0, 0, 1] {
                let (heard, said) = fake.next("login").await;
                assert_eq!(heard, link);
                let user = said["user"].as_str().unwrap();
                assert!(user.strip_prefix("storm-victim-").unwrap().parse::<u32>().unwrap() < VICTIMS, "{user}");
                passwords.push(said["password"].as_str().unwrap().to_owned());
                assert_eq!(passwords.last().unwrap().len(), 12);
            }
            passwords.sort();
            passwords.dedup();
            assert_eq!(passwords.len(), 4);
            let counts = ground.count().clone();
            assert_eq!((counts.errors.get(&1105), counts.errors.get(&1202)), (Some(&1), Some(&1)));
            assert_eq!((counts.connected, counts.ended), (2, 1));
        });
    }
}
