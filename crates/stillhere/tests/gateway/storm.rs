//! The gateway under every attack of the storm, at small scale: honest clients must not lose anything.
//!
//! Nothing here is about speed: how fast honest clients are served beside an attack is told by the benchmark, on a
//! machine that does nothing else.

use std::time::Duration;

use stillhere_storm::attack::ATTACKS;
use stillhere_storm::plan::{Crowd, Plan, Times, builtin, threshold};
use stillhere_storm::report::Summary;
use stillhere_storm::run::{self, Options};

use crate::gateway::Gateway;

/// What must hold in each run.
const PROMISE: [&str; 10] = [
    "sessions_lost = 0",
    "links_lost = 0",
    "false_leaves = 0",
    "missing = 0",
    "unanswered = 0",
    "messages_lost = 0",
    "messages_doubled = 0",
    "unsaid = 0",
    "newcomers_refused = 0",
    "tries > 0",
];
const ATTACKERS: u32 = 30;
const CLIENTS: u32 = 40;
const ROOMS: u32 = 4;

/// The storm's own plan of that name, for a gateway of a test.
fn plan(name: &str, gateway: &Gateway) -> Plan {
    let mut plan = builtin::named(name).expect("there is such an attack");
    plan.target.address = gateway.clients.to_string();
    plan.target.metrics = Some(format!("http://{}/metrics", gateway.admin));
    let during = match name {
        // It drops every five seconds, and should once.
        "herd" => 5500,
        // They need accounts first.
        "slow-reader" | "signal-flood" | "say-flood" | "join-flood" => 4000,
        _ => 2000,
    };
    let [ramp, before, during, after] = [500, 1000, during, 500].map(Duration::from_millis);
    plan.time = Times { ramp, before, during, after };
    plan.attacks.iter_mut().for_each(|attack| attack.count = ATTACKERS);
    let often = Some(Duration::from_secs(1));
    plan.crowd = plan.crowd.map(|crowd| Crowd {
        count: CLIENTS,
        rooms: ROOMS,
        say_every: often,
        signal_every: often,
        newcomers_per_second: 4.0,
        ..crowd
    });
    plan.thresholds = PROMISE.iter().map(|text| threshold::parse(text).expect("a threshold")).collect();
    plan
}

fn storm(name: &str, gateway: &Gateway) -> Summary {
    let options = Options::default();
    let recording = run::run(&plan(name, gateway), &options, &mut |_| {}).expect("it is carried out");
    let summary = Summary::of(&recording);
    assert!(summary.target.rss_peak.is_some(), "{name}: the gateway is seen");
    summary
}

/// One gateway under these attacks, one after the other.
fn withstands(attacks: &[&str]) {
    let gateway = Gateway::start(&[]);
    for name in attacks {
        let summary = storm(name, &gateway);
        let broken: Vec<_> = summary.judged.iter().filter(|judged| !judged.holds).collect();
        let crowd = &summary.whole;
        assert!(summary.passed, "{name}: {}: {broken:#?}\n{crowd:#?}\n{}", summary.verdict, gateway.log());
        assert!(crowd.said > 0 && crowd.messages > crowd.said && crowd.signals > 0, "{name}: {crowd:#?}");
        assert!(crowd.newcomers > 0 && crowd.answered >= u64::from(CLIENTS), "{name}: {crowd:#?}");
        // Ten attackers of chat share an account, and while the first makes it the others wait. If nobody but these
        // first ones has come, nobody gets in, and it is no attack.
        let attack = &summary.attacks[*name];
        assert!(attack.connected > u64::from(ATTACKERS / 10), "{name}: {attack:?}");
        // Those who attacked are gone, and all that was theirs.
        gateway.wait_until_calm(0);
    }
}

const BYTES: [&str; 5] = ["garbage", "passwords", "lengths", "half-frames", "glued"];
const LINKS: [&str; 5] = ["churn", "sit", "slowloris", "slow-reader", "silent-death"];
const WORDS: [&str; 5] = ["beat-flood", "brute-force", "signal-flood", "say-flood", "join-flood"];
const OTHERS: [&str; 5] = ["json-bombs", "herd", "tls-flood", "ws-abuse", "hello-drop"];

#[test]
fn honest_clients_lose_nothing_to_bytes_that_mean_nothing() {
    withstands(&BYTES);
}

#[test]
fn honest_clients_lose_nothing_to_links_that_do_nothing() {
    withstands(&LINKS);
}

#[test]
fn honest_clients_lose_nothing_to_words_without_measure() {
    withstands(&WORDS);
}

#[test]
fn honest_clients_lose_nothing_to_other_attacks() {
    withstands(&OTHERS);
}

#[test]
fn no_attack_is_left_out() {
    let mut here = [BYTES, LINKS, WORDS, OTHERS].concat();
    let mut all: Vec<&str> = ATTACKS.iter().map(|attack| attack.name).collect();
    here.sort_unstable();
    all.sort_unstable();
    assert_eq!(here, all);
}

#[test]
fn a_gateway_that_turns_honest_clients_away_has_not_withstood() {
    let gateway = Gateway::start(&[("limits.connections", "50")]);
    let summary = storm("sit", &gateway);
    assert!(!summary.passed, "{summary:#?}");
    let broken: Vec<&str> =
        summary.judged.iter().filter(|judged| !judged.holds).map(|judged| &*judged.threshold.figure).collect();
    assert!(broken.contains(&"newcomers_refused"), "{broken:?}");
}
