//! Random passwords, well-formed.

use std::rc::Rc;
use std::time::Duration;

use rand::RngExt;
use rand::distr::Alphanumeric;
use rand::rngs::StdRng;
use serde_json::json;

use super::ground::Ground;
use super::{Against, Attack, Life};

pub(super) const ATTACK: Attack = Attack {
    name: "passwords",
    about: "Logs in with a random user and password in a well-formed frame, waits a second at most for the answer, and \
            closes. A sound server bounds how many passwords it checks at once, says `busy` to the rest, and keeps \
            nothing of who is gone.",
    against: Against::Any,
    size: 16,
    life: |ground, index| -> Life { Box::pin(attacker(ground, index)) },
};

/// Whoever guesses doesn't wait long for a slow answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest password: servers refuse longer ones unread.
const PASSWORD_MAX: u32 = 128;

async fn attacker(ground: Rc<Ground>, index: u32) {
    let mut rng = ground.rng(index);
    while ground.turn().await {
        let Some(mut link) = ground.connect().await else { continue };
        let frames = guess(&ground, &mut rng);
        if link.send(&frames).await {
            // One of ours answers the hello too.
            link.answered(if ground.is_ours() { 2 } else { 1 }, PATIENCE).await;
        }
    }
}

/// The frames of one guess; `size` characters of password.
fn guess(ground: &Ground, rng: &mut StdRng) -> Vec<u8> {
    let mut word = |length: usize| -> String { rng.sample_iter(Alphanumeric).take(length).map(char::from).collect() };
    let (user, password) = (word(8), word(ground.plan.size.min(PASSWORD_MAX) as usize));
    let mut frames = Vec::new();
    if ground.is_ours() {
        let interval_ms = ground.plan.interval.as_millis() as u64;
        let hello = json!({ "op": "hello", "v": 1, "client": "storm", "interval_ms": interval_ms });
        ground.framing.write(hello.to_string().as_bytes(), &mut frames);
    }
    let login = json!({ "op": "login", "user": user, "password": password, "id": 1 });
    ground.framing.write(login.to_string().as_bytes(), &mut frames);
    frames
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::stand::{self, Stand};
    use super::*;

    #[tokio::test]
    async fn each_guess_is_another_and_well_formed() {
        let stand = Stand::new(stand::record).await;
        let refused = |code| stand::frame(&json!({ "op": "error", "re": 1, "code": code }));
        stand.answers(vec![stand::frame(&json!({ "op": "welcome" })), refused(1105)]);
        stand.attack(ATTACK.name, 2, |counts| counts.answered >= 20).await;
        assert_eq!(stand.counts().errors.keys().collect::<Vec<_>>(), [&1105]);
        let guesses: Vec<_> = stand.bodies().into_iter().flatten().collect();
        let mut seen = BTreeSet::new();
        for guess in guesses {
            let guess: serde_json::Value = serde_json::from_slice(&guess).unwrap();
            match guess["op"].as_str() {
                Some("hello") => assert_eq!(guess["v"], 1),
                Some("login") => {
                    assert_eq!(guess["password"].as_str().unwrap().len(), ATTACK.size as usize);
                    assert!(seen.insert(guess.to_string()), "{guess} twice");
                }
                _ => panic!("{guess}"),
            }
        }
        assert!(seen.len() >= 10);
    }

    #[tokio::test]
    async fn somebody_elses_server_gets_the_password_alone_in_its_own_frame() {
        let mut stand = Stand::new(stand::record).await;
        stand.framing = stand::FOREIGN;
        stand.attack(ATTACK.name, 1, |counts| counts.sent_bytes > 20).await;
        stand.heard(|links| links.iter().any(|link| link.bytes.len() > 20)).await;
        let heard = stand.links().swap_remove(0).bytes;
        assert_eq!(usize::from(u16::from_le_bytes([heard[0], heard[1]])), heard.len());
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&heard[2..]).unwrap()["op"], "login");
    }
}
