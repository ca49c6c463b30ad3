//! How much of a bare group-commit loop's speed is left. As a test it only runs through; with `STILLHERE_SAYS=300000` (and
//! optimised) it measures: `cargo test --release -p stillhere-server --lib store::tests::speed -- --nocapture`.

use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Instant;

use super::super::base::Base;
use super::super::sqlite::Database;
use super::*;

const PUBLISHERS: u64 = 256;
/// Messages a second when their delay is measured.
const PACE: u64 = 5000;

fn says() -> u64 {
    std::env::var("STILLHERE_SAYS").ok().and_then(|says| says.parse().ok()).unwrap_or(3000)
}

fn saying(publisher: u64, number: u64) -> Draft {
    let text =
        format!("{number:08} {}", "what people say has about a hundred bytes, more or less, and some have a mid");
    draft(&text, Some(&format!("{publisher:04}-{number:010}")))
}

/// Something that takes messages and acknowledges them later, by number.
trait Loop {
    fn post(&self, number: u64, draft: Draft);
    fn acknowledged(&self, patience: Duration) -> Vec<u64>;
}

/// One after the other for each publisher, as fast as it goes; messages a second.
fn closed(it: &dyn Loop, count: u64) -> f64 {
    let began = Instant::now();
    let (mut sent, mut done) = (0, 0);
    while sent < PUBLISHERS.min(count) {
        it.post(sent, saying(sent % PUBLISHERS, sent));
        sent += 1;
    }
    while done < count {
        for _ in it.acknowledged(PATIENCE) {
            done += 1;
            if sent < count {
                it.post(sent, saying(sent % PUBLISHERS, sent));
                sent += 1;
            }
        }
    }
    count as f64 / began.elapsed().as_secs_f64()
}

/// At a pace; the 50th and 99th percentile of the delay, in microseconds.
fn paced(it: &dyn Loop, count: u64) -> (u64, u64) {
    let began = Instant::now();
    let due = |number: u64| began + Duration::from_secs_f64(number as f64 / PACE as f64);
    let mut delays = Vec::with_capacity(count as usize);
    let mut sent = 0;
    while (delays.len() as u64) < count {
        while sent < count && due(sent) <= Instant::now() {
            it.post(sent, saying(sent % PUBLISHERS, sent));
            sent += 1;
        }
        let patience = if sent < count { due(sent).saturating_duration_since(Instant::now()) } else { PATIENCE };
        let now_acknowledged = it.acknowledged(patience);
        let now = Instant::now();
        delays.extend(now_acknowledged.iter().map(|number| now.duration_since(due(*number)).as_micros() as u64));
    }
    delays.sort_unstable();
    (delays[delays.len() / 2], delays[delays.len() * 99 / 100])
}

fn take<T>(told: &Receiver<T>, patience: Duration) -> Option<T> {
    match told.recv_timeout(patience) {
        Ok(list) => Some(list),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => panic!("the loop has ended"),
    }
}

struct Ours {
    store: Store,
    told: Receiver<Vec<Told>>,
    stream: StreamId,
    users: Vec<Name>,
}

impl Loop for Ours {
    fn post(&self, number: u64, draft: Draft) {
        let user = self.users[(number % PUBLISHERS) as usize].clone();
        let order = Order::Say { stream: self.stream, user, draft };
        self.store.ledger.order(0, OrderId(number), order).unwrap();
    }

    fn acknowledged(&self, patience: Duration) -> Vec<u64> {
        let Some(list) = take(&self.told, patience) else { return Vec::new() };
        list.into_iter()
            .filter_map(|told| match told {
                Told::Outcome(id, Ok(Outcome::Posted { .. })) => Some(id.0),
                Told::Outcome(_, other) => panic!("{other:?}"),
                Told::News(_) => None,
            })
            .collect()
    }
}

struct Raw {
    sender: SyncSender<(u64, Draft)>,
    told: Receiver<Vec<u64>>,
}

impl Loop for Raw {
    fn post(&self, number: u64, draft: Draft) {
        self.sender.try_send((number, draft)).unwrap();
    }

    fn acknowledged(&self, patience: Duration) -> Vec<u64> {
        take(&self.told, patience).unwrap_or_default()
    }
}

/// The bare loop: the same table and settings, and nothing decided, looked up, remembered or encoded.
fn raw(dir: &Dir) -> Raw {
    let mut database = Database::open(&dir.0.join("stillhere.db")).unwrap();
    let (sender, received) = sync_channel::<(u64, Draft)>(16_384);
    let (teller, told) = channel();
    std::thread::spawn(move || {
        let mut seq = 0;
        while let Ok(first) = received.recv() {
            let mut batch = vec![first];
            while batch.len() < 1024
                && let Ok(next) = received.try_recv()
            {
                batch.push(next);
            }
            database.begin().unwrap();
            {
                let mut insert = Base::connection(&database)
                    .prepare_cached(
                        "INSERT INTO message (stream, seq, sender, time_ms, mid, text, data)
                         VALUES (1, ?1, ?2, ?3, ?4, ?5, NULL)",
                    )
                    .unwrap();
                for (number, draft) in &batch {
                    seq += 1;
                    let sender = (number % PUBLISHERS) as i64;
                    insert.execute((seq, sender, 1_700_000_000_000_i64, draft.mid.as_deref(), &*draft.text)).unwrap();
                }
            }
            database.commit().unwrap();
            if teller.send(batch.iter().map(|(number, _)| *number).collect()).is_err() {
                return;
            }
        }
    });
    Raw { sender, told }
}

fn ours(dir: &Dir) -> Ours {
    let mut bed = Bed::open(&dir.0, Rules { keep_messages: 0, ..Rules::default() });
    let users: Vec<Name> = (0..PUBLISHERS).map(|number| name(&format!("user{number}"))).collect();
    for user in &users {
        bed.enter(user.as_str());
    }
    let stream = bed.join("lobby", "user0").stream;
    let Bed { store, mut told, .. } = bed;
    Ours { store, told: told.remove(0), stream, users }
}

#[test]
fn says_against_a_bare_loop() {
    let count = says();
    for round in 0..3 {
        let (raw_dir, our_dir) = (Dir::new(), Dir::new());
        let bare = raw(&raw_dir);
        let bare_speed = closed(&bare, count);
        let bare_delay = paced(&bare, count / 10);
        drop(bare);
        let ours = ours(&our_dir);
        let our_speed = closed(&ours, count);
        let our_delay = paced(&ours, count / 10);
        println!(
            "round {round}: bare {bare_speed:.0}/s, ours {our_speed:.0}/s, ratio {:.2}; at {PACE}/s p50, p99 in us: bare {bare_delay:?}, ours {our_delay:?}",
            our_speed / bare_speed
        );
        assert!(ours.store.sessions.finish(PATIENCE));
        // What the same data takes to open.
        let began = Instant::now();
        drop(Database::open(&our_dir.0.join("stillhere.db")).unwrap());
        println!("opened {count} messages in {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(10), "opening is bounded");
        if count <= 3000 {
            break;
        }
    }
}
