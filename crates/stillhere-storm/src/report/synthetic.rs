//! Runs that never happened, for tests: every number follows from the shape.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::plan::{Asked, Attack, Crowd, Is, Load, Mode, Plan, Search, Sought, Step, Target, Threshold, Times};
use crate::sample::{
    AttackSecond, CrowdSecond, End, LoadSecond, OwnSecond, Phase, Recording, Run, Second, Spread, TargetSecond, VERSION,
};

/// What a run is to look like.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) name: String,
    /// Seconds of each phase: ramp, before, during, after.
    pub(crate) times: [u64; 4],
    /// Round trips are this much slower during the attack.
    pub(crate) slower: f64,
    /// Honest links closed each second of the attack.
    pub(crate) closes: u64,
    pub(crate) attackers: u32,
    pub(crate) load: bool,
    pub(crate) seed: u64,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape {
            name: "garbage".to_owned(),
            times: [4, 10, 20, 10],
            slower: 1.6,
            closes: 0,
            attackers: 1_000,
            load: false,
            seed: 1,
        }
    }
}

/// A threshold of a plan.
pub(crate) fn threshold(text: &str, figure: &str, is: Is, bound: f64) -> Threshold {
    Threshold { text: text.to_owned(), figure: figure.to_owned(), is, bound }
}

pub(crate) fn plan(shape: &Shape) -> Plan {
    let [ramp, before, during, after] = shape.times.map(Duration::from_secs);
    let attack = |name: &str, count, rate| Attack {
        name: name.to_owned(),
        count,
        rate,
        size: 32 * 1024,
        interval: Duration::from_secs(5),
    };
    Plan {
        name: shape.name.clone(),
        about: "32 KB of garbage in a loop from each of 1,000 connections, while others come and go.".to_owned(),
        target: Target {
            address: "127.0.0.1:14000".to_owned(),
            metrics: Some("http://127.0.0.1:14001/metrics".to_owned()),
            pid: None,
            command: Vec::new(),
            ready: Duration::from_secs(10),
        },
        time: Times { ramp, before, during, after },
        crowd: Some(Crowd {
            count: 2_000,
            mode: Mode::V1,
            interval: Duration::from_secs(1),
            rooms: 100,
            say_every: Some(Duration::from_secs(10)),
            signal_every: Some(Duration::from_secs(30)),
            newcomers_per_second: 5.0,
        }),
        attacks: vec![attack("garbage", shape.attackers, None), attack("churn", 200, Some(800.0))],
        load: shape.load.then(|| Load {
            what: Asked::Beat,
            connections: 64,
            steps: vec![Step { from: 1_000.0, to: 9_000.0, lasts: during }],
            closed: false,
        }),
        search: None,
        frame: None,
        thresholds: vec![
            threshold("p99 < 5ms", "p99", Is::Below, 5_000.0),
            threshold("p99_ratio <= 2", "p99_ratio", Is::AtMost, 2.0),
            threshold("sessions_lost = 0", "sessions_lost", Is::Equal, 0.0),
            threshold("false_leaves = 0", "false_leaves", Is::Equal, 0.0),
            threshold("messages_lost = 0", "messages_lost", Is::Equal, 0.0),
            threshold("rss_growth < 50MiB", "rss_growth", Is::Below, 52_428_800.0),
            threshold("files_left <= 10", "files_left", Is::AtMost, 10.0),
            threshold("tries >= 500", "tries", Is::AtLeast, 500.0),
        ],
        seed: shape.seed,
    }
}

/// A plan that looks for a bound.
pub(crate) fn search_plan() -> Plan {
    let search = Search { find: Sought::Attackers, from: 100, max: 16_000, precision: 0.05, trials: 16 };
    Plan { name: "withstood".to_owned(), search: Some(search), ..plan(&Shape::default()) }
}

/// A whole run of that shape.
pub(crate) fn run(shape: &Shape) -> Recording {
    let plan = plan(shape);
    let mut rng = StdRng::seed_from_u64(shape.seed);
    let [ramp, before, during, after] = shape.times;
    let (mut own, mut target) = (OwnSecond::default(), TargetSecond::default());
    (target.rss, target.cpu_ms, target.false_leaves) = (Some(48 << 20), Some(1_000), Some(0));
    let mut seconds = Vec::new();
    for at in 0..ramp + before + during + after {
        let phase = match at {
            at if at < ramp => Phase::Ramp,
            at if at < ramp + before => Phase::Before,
            at if at < ramp + before + during => Phase::During,
            _ => Phase::After,
        };
        let attacked = phase == Phase::During;
        let is_in = if phase == Phase::Ramp { 2_000 * (at + 1) / ramp } else { 2_000 };
        let crowd = crowd(shape, &mut rng, attacked, is_in);
        let near = |rng: &mut StdRng, value: f64| (value * rng.random_range(0.93..1.07)) as u64;
        own.cpu_ms += near(&mut rng, if attacked { 900.0 } else { 180.0 });
        own.crowd_cpu_ms += near(&mut rng, 150.0);
        own.rss = 96 << 20;
        own.lag_us = near(&mut rng, if attacked { 700.0 } else { 300.0 });
        own.files = if attacked { 2_000 + u64::from(shape.attackers) + 250 } else { 2_020 };
        target.cpu_ms = target.cpu_ms.map(|cpu| cpu + near(&mut rng, if attacked { 850.0 } else { 90.0 }));
        target.rss = Some((48 << 20) + near(&mut rng, if attacked { 30e6 } else { 2e6 }));
        target.files = Some(if attacked { is_in + 1_100 } else { is_in + 40 });
        target.threads = Some(6);
        target.links = target.files;
        target.sessions = BTreeMap::from([("alive".to_owned(), is_in), ("leave".to_owned(), 0)]);
        seconds.push(Second {
            at_ms: (at + 1) * 1_000,
            for_ms: 1_000,
            phase,
            crowd,
            load: (attacked && shape.load).then(|| load(shape, &mut rng, at - ramp - before)),
            attacks: if attacked { attacks(shape, &mut rng) } else { BTreeMap::new() },
            target: Some(target.clone()),
            own: own.clone(),
        });
    }
    let end = End { at_ms: seconds.len() as u64 * 1_000, cut: None, own_fault: false };
    let started = "2026-03-01T12:00:00Z".parse().unwrap();
    let stillhere = "0.1.0".to_owned();
    let run = Run { version: VERSION, stillhere, plan, started, cores: 4, files: 20_000, trial: None };
    Recording { run, seconds, end: Some(end), torn: false }
}

fn crowd(shape: &Shape, rng: &mut StdRng, attacked: bool, is_in: u64) -> CrowdSecond {
    let mut crowd =
        CrowdSecond { sent: is_in, answered: is_in, said: is_in / 10, messages: is_in * 2, ..Default::default() };
    crowd.waiting = 2_000 - is_in;
    let factor = if attacked { shape.slower } else { 1.0 };
    // One drawn time stands for eight beats, and a few are alone.
    for nth in 0..is_in / 8 + 7 {
        crowd.rtt_us.add(round_trip(rng, 180.0 * factor), if nth < 8 { 1 } else { 8 });
    }
    for _ in 0..is_in / 40 {
        crowd.say_us.record(round_trip(rng, 420.0 * factor));
        crowd.enter_us.record(round_trip(rng, 900.0 * factor));
    }
    crowd.signals = is_in / 30;
    (0..crowd.signals).for_each(|_| crowd.signal_us.record(round_trip(rng, 380.0 * factor)));
    crowd.newcomers = 5;
    if attacked && shape.closes > 0 {
        crowd.closes = BTreeMap::from([(4005, shape.closes), (4004, 1 + shape.closes / 3)]);
        crowd.losses = BTreeMap::from([("reset by the target".to_owned(), shape.closes / 2 + 1)]);
        crowd.out = shape.closes * 4;
        crowd.leave = shape.closes * 2;
        crowd.sessions_lost = shape.closes / 2;
        crowd.false_leaves = shape.closes / 3;
        crowd.newcomers_refused = 1;
    }
    crowd.alive = is_in - crowd.out - crowd.leave;
    crowd
}

/// A time with a long tail around a median.
fn round_trip(rng: &mut impl Rng, median: f64) -> u64 {
    // The sum of three even ones is nearly normal, with a standard deviation of one half.
    let normal: f64 = (0..3).map(|_| 2.0 * rng.random_range(0.0..1.0_f64)).sum::<f64>() - 3.0;
    let tail = if rng.random_range(0..400) == 0 { rng.random_range(2.0..12.0) } else { 1.0 };
    (median * (normal * 0.35).exp() * tail) as u64
}

fn load(shape: &Shape, rng: &mut StdRng, at: u64) -> LoadSecond {
    let due = 1_000 + 8_000 * at / shape.times[2].max(1);
    let answered = due.min(7_000);
    let mut latency_us = Spread::default();
    let median = 200.0 * if due > 7_000 { 40.0 } else { 1.0 + due as f64 / 4_000.0 };
    (0..answered / 50).for_each(|_| latency_us.add(round_trip(rng, median), 50));
    LoadSecond { due, sent: due, answered, failed: 0, open: due - answered, latency_us, ..LoadSecond::default() }
}

fn attacks(shape: &Shape, rng: &mut StdRng) -> BTreeMap<String, AttackSecond> {
    let tries = rng.random_range(1_800..2_300);
    let garbage = AttackSecond {
        tries,
        connected: tries,
        open: u64::from(shape.attackers) - rng.random_range(0..u64::from(shape.attackers / 10).max(1)),
        ended: tries - 20,
        closes: BTreeMap::from([(4002, tries - 120), (4012, 80), (4011, 20)]),
        sent_bytes: tries * 32 * 1024,
        received_bytes: tries * 90,
        ..AttackSecond::default()
    };
    let churn = AttackSecond { tries: 800, connected: 796, refused: 4, open: 12, ..AttackSecond::default() };
    BTreeMap::from([("garbage".to_owned(), garbage), ("churn".to_owned(), churn)])
}
