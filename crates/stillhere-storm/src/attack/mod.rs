//! The attacks, one file each, in one table.
//!
//! An attack is what *one* attacker does until it is dropped: an asynchronous function over its `ground`, which lends
//! it connections, frames and its turns, counts everything, and bounds it. All attackers of a plan live on one thread,
//! which runs at a lower priority than the crowd's, so that a busy attacker doesn't make the target look slow.
//!
//! To add one: write its file, add its row, and say in `about` what a sound server does about it.

mod beat_flood;
mod brute_force;
mod churn;
#[cfg(test)]
mod fake;
mod garbage;
mod glued;
pub(crate) mod ground;
mod half_frames;
mod hello_drop;
mod herd;
mod join_flood;
mod json_bombs;
mod lengths;
mod passwords;
mod say_flood;
mod signal_flood;
mod silent_death;
mod sit;
mod slow_reader;
mod slowloris;
#[cfg(test)]
mod stand;
mod talk;
mod tls_flood;
mod ws_abuse;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use self::ground::Ground;
use crate::fault;
use crate::frame::Framing;
use crate::plan;
use crate::sample::AttackSecond;

/// Attackers without a rate begin evenly over this time: that all of them begin at once is not what is tested.
const SPREAD: Duration = Duration::from_secs(1);

/// One attacker's life. It ends by being dropped, at any point, or by itself when there is nothing more to do.
pub(crate) type Life = Pin<Box<dyn Future<Output = ()>>>;

/// A kind of attack.
#[derive(Clone, Copy)]
pub struct Attack {
    /// What plans call it.
    pub name: &'static str,
    /// What it does, and what a sound server does about it, in a sentence or two.
    pub about: &'static str,
    /// Whether it makes sense against any server with frames, or only against one that speaks v1.
    pub against: Against,
    /// Bytes of what is sent at once, if the plan doesn't say.
    pub size: u32,
    /// What an attacker does; its number is from 0.
    pub(crate) life: fn(Rc<Ground>, u32) -> Life,
}

/// Whom an attack can be turned on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// Any server that listens on TCP.
    Any,
    /// A server that speaks stillhere's v1.
    Gateway,
}

/// All of them, in the order in which they are listed.
pub const ATTACKS: &[Attack] = &[
    garbage::ATTACK,
    passwords::ATTACK,
    churn::ATTACK,
    sit::ATTACK,
    slowloris::ATTACK,
    lengths::ATTACK,
    half_frames::ATTACK,
    glued::ATTACK,
    json_bombs::ATTACK,
    beat_flood::ATTACK,
    brute_force::ATTACK,
    signal_flood::ATTACK,
    say_flood::ATTACK,
    join_flood::ATTACK,
    slow_reader::ATTACK,
    silent_death::ATTACK,
    herd::ATTACK,
    tls_flood::ATTACK,
    ws_abuse::ATTACK,
    hello_drop::ATTACK,
];

/// The attack of that name.
pub fn find(name: &str) -> Option<&'static Attack> {
    ATTACKS.iter().find(|attack| attack.name == name)
}

/// Carries out all these attacks on this thread's `LocalSet` until it is dropped, and all attackers with it. What each
/// attack does is added to the counts at its place. A name that isn't in the table attacks nobody: plans are checked.
pub(crate) async fn run(
    attacks: &[plan::Attack],
    target: SocketAddr,
    framing: Framing,
    seed: u64,
    counts: &[Arc<Mutex<AttackSecond>>],
) {
    let (mut attackers, desks) = (JoinSet::new(), Rc::default());
    for (plan, counts) in attacks.iter().zip(counts) {
        let Some(attack) = find(&plan.name) else { continue };
        let ground = Ground::new(target, plan.clone(), framing, seed, counts.clone(), Rc::clone(&desks));
        for index in 0..plan.count {
            let ground = ground.clone();
            attackers.spawn_local(async move {
                if ground.plan.rate.is_none() {
                    sleep(SPREAD.mul_f64(f64::from(index) / f64::from(ground.plan.count))).await;
                }
                (attack.life)(ground, index).await;
            });
        }
    }
    while let Some(ended) = attackers.join_next().await {
        fault::resume(ended);
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::stand::{self, Stand};
    use super::*;

    #[test]
    fn every_attack_is_found_by_a_name_of_its_own_and_says_what_it_does() {
        let names: BTreeSet<_> = ATTACKS.iter().map(|attack| attack.name).collect();
        assert_eq!(names.len(), ATTACKS.len());
        for attack in ATTACKS {
            let found = find(attack.name).unwrap();
            assert_eq!((found.name, found.about), (attack.name, attack.about));
            assert!(attack.about.ends_with('.') && attack.about.contains("sound server"), "{}", attack.name);
            assert!((1..=16 << 20).contains(&attack.size), "{}", attack.name);
            assert!(!attack.about.contains("  "), "{}: {}", attack.name, attack.about);
        }
        assert!(find("no such").is_none() && find("").is_none());
    }

    #[tokio::test]
    async fn dropped_it_drops_all_attackers_and_their_connections() {
        for attack in ATTACKS {
            let stand = Stand::new(stand::speak_v1).await;
            stand.attack(attack.name, 4, |counts| counts.connected >= 1).await;
            let counts = stand.counts();
            assert_eq!((counts.open, counts.overdue), (0, 0), "{}", attack.name);
            stand.heard(|links| links.iter().all(|link| link.over.is_some())).await;
        }
    }

    #[tokio::test]
    async fn every_attack_comes_back_to_a_target_that_closes_and_rests_before_one_that_refuses() {
        for attack in ATTACKS {
            let stand = Stand::new(stand::close).await;
            stand.attack(attack.name, 2, |counts| counts.connected >= 10).await;

            let nobody = Stand::nobody();
            let began = std::time::Instant::now();
            nobody.attack(attack.name, 1, |counts| counts.refused >= 5).await;
            assert!(began.elapsed() >= Duration::from_millis(80), "{}: {:?}", attack.name, began.elapsed());
            let counts = nobody.counts();
            assert_eq!((counts.connected, counts.open, counts.ended), (0, 0, 0), "{}", attack.name);
        }
    }

    #[tokio::test]
    async fn attacks_on_any_server_send_something_in_any_framing() {
        use plan::Length::{Line, Raw, U8, U16Be, U16Le, U32Be, U32Le};
        let silent = ["churn", "sit"];
        let any = ATTACKS.iter().filter(|attack| attack.against == Against::Any && !silent.contains(&attack.name));
        for attack in any {
            for length in [U8, U16Le, U16Be, U32Le, U32Be, Line, Raw] {
                let mut stand = Stand::new(stand::record).await;
                stand.framing = Framing { length, includes_header: true, max: 200, speaks_v1: false };
                let name = attack.name;
                stand.attack(name, 1, |counts| counts.sent_bytes >= 1).await;
            }
        }
    }
}
