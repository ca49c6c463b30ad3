//! Random histories: whatever happens, everybody gets every message once and in order, and the books are right.

use super::*;

const ROOMS: [&str; 3] = ["red", "green", "blue"];
/// Two sessions of ann, two of bob, and one of cid.
const USERS: [&str; 5] = ["ann", "ann", "bob", "bob", "cid"];

fn step(cluster: &mut Cluster, kind: u8, a: u8, b: u8) {
    let client = usize::from(a) % USERS.len();
    let room = ROOMS[usize::from(b) % ROOMS.len()];
    let shard = usize::from(b) % cluster.shards.len();
    match kind {
        0..=5 => cluster.store_step(),
        6..=9 => cluster.told(shard, usize::from(a) % 4 + 1),
        10..=12 => cluster.word(),
        13..=15 => cluster.read(client),
        16 => cluster.drop_link(client),
        17..=18 if cluster.clients[client].link.is_none() => cluster.connect(client, shard, None),
        // The old link still hangs.
        19 => cluster.connect(client, shard, None),
        // More than it can have.
        20 if a > 200 => cluster.connect(client, shard, Some(1_000_000)),
        21..=22 => cluster.join(client, room, None),
        23 => cluster.join(client, room, Some(0)),
        24 if b > 128 => cluster.part(client, room),
        25..=29 => drop(cluster.ask(client, json!({"op": "say", "room": room, "text": format!("{a} {b}")}))),
        30..=31 => {
            let to = USERS[usize::from(b) % USERS.len()];
            cluster.ask(client, json!({"op": "tell", "user": to, "text": format!("{a} {b}")}));
        }
        32 => drop(cluster.ask(client, json!({"op": "signal", "room": room, "data": b, "key": "k"}))),
        33 => drop(cluster.ask(client, json!({"op": "status", "status": "leave"}))),
        34 => drop(cluster.ask(client, json!({"op": "status", "status": "alive"}))),
        35 | 36 => {
            if let Some((shard, link)) = cluster.clients[client].link {
                let input = if kind == 35 { Input::Choked { link } } else { Input::Drained { link } };
                cluster.input(shard, input);
            }
        }
        37 => cluster.store.refuses += usize::from(b) % 3,
        38 => {
            let user = USERS[usize::from(b) % USERS.len()];
            cluster.ask(client, json!({"op": "remove", "room": room, "user": user}));
        }
        39 if b > 200 => {
            if let Some(session) = cluster.clients[client].session() {
                for shard in 0..cluster.shards.len() {
                    cluster.input(shard, Input::Kick { identity: Identity::V1(session) });
                }
            }
        }
        40..=43 => cluster.pass(Duration::from_millis(u64::from(b) * 8)),
        44 => drop(cluster.ask(client, json!({"op": "watch", "users": [USERS[usize::from(b) % USERS.len()]]}))),
        45 => drop(cluster.ask(client, json!({"op": "who", "room": room}))),
        _ => {}
    }
}

fn run(shards: usize, (replay_bytes, replay_unlinked): (usize, usize), steps: &[(u8, u8, u8)]) {
    let mut cluster = Cluster::new(shards, &USERS, |terms| {
        (terms.chat.replay_bytes, terms.chat.replay_unlinked) = (replay_bytes, replay_unlinked);
    });
    for client in 0..USERS.len() {
        cluster.connect(client, client % shards, None);
    }
    cluster.settle();
    for &(kind, a, b) in steps {
        step(&mut cluster, kind, a, b);
    }
    // Everybody comes back and can read.
    cluster.store.refuses = 0;
    cluster.settle();
    for client in 0..USERS.len() {
        if !cluster.clients[client].welcomed {
            cluster.connect(client, client % shards, None);
        }
        cluster.settle();
        if let Some((shard, link)) = cluster.clients[client].link {
            cluster.input(shard, Input::Drained { link });
        }
        cluster.ask(client, json!({"op": "status", "status": "alive"}));
    }
    for _ in 0..4 {
        cluster.settle();
        cluster.pass(Duration::from_millis(1100));
    }
    cluster.settle();
    for client in &cluster.clients {
        client.check_complete(&cluster.store);
    }
    for shard in 0..shards {
        let mut counted = cluster.shards[shard].subscriptions();
        counted.retain(|_, count| *count > 0);
        let at_store = cluster.store.subscriptions.iter().filter(|((at, _), count)| *at == shard && **count > 0);
        assert_eq!(at_store.map(|((_, stream), count)| (*stream, *count)).collect::<BTreeMap<_, _>>(), counted);
    }
    for client in 0..USERS.len() {
        let Some(session) = cluster.clients[client].session() else { continue };
        for shard in &cluster.shards {
            let session = shard.find(&Identity::V1(session)).and_then(|key| shard.sessions.get(key as usize));
            if let Some(v1) = session.and_then(|session| session.v1_part()) {
                assert_eq!(v1.pushes, cluster.clients[client].pushes, "both count the same");
            }
        }
    }
    // Who counts rightly has no gap while all of it is kept.
    if replay_bytes.min(replay_unlinked) > 1 << 16 && steps.iter().all(|(kind, ..)| ![20, 35].contains(kind)) {
        assert!(cluster.clients.iter().all(|client| client.reasons.iter().all(|reason| reason != "gap")));
    }
    // Everybody goes.
    for client in 0..USERS.len() {
        cluster.ask(client, json!({"op": "bye"}));
        cluster.settle();
    }
    cluster.pass(Duration::from_secs(200));
    cluster.settle();
    cluster.pass(Duration::from_secs(20));
    cluster.settle();
    for shard in &cluster.shards {
        shard.check_nobody();
    }
    assert!(cluster.store.subscriptions.values().all(|count| *count == 0), "{:?}", cluster.store.subscriptions);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn everybody_gets_everything_once_and_in_order(
        shards in 1usize..4,
        each in proptest::prelude::any::<bool>(),
        all in proptest::prelude::any::<bool>(),
        steps in proptest::collection::vec((0u8..46, proptest::prelude::any::<u8>(), proptest::prelude::any::<u8>()), 1..400),
    ) {
        let bound = |is_small| if is_small { 600 } else { 1 << 20 };
        run(shards, (bound(each), bound(all)), &steps);
    }
}
