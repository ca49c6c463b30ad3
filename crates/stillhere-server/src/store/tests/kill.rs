//! Killed again and again while everybody talks, the store loses, doubles and reorders nothing that it acknowledged.
//!
//! The parent starts this very program as a child that runs the store on a directory, with producers who number what they
//! send. The child reports each acknowledgement the moment it is told. It is killed by SIGKILL, by the parent or by
//! itself at a point of the commit, and started again on the same directory; producers then go on from the first message
//! that wasn't acknowledged, with the same mids. In the end the file is read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;

use rusqlite::Connection;

use super::super::base::FaultKind;
use super::super::fail;
use super::*;

const ROUNDS: u32 = 300;
const PRODUCERS: u64 = 4;
/// Orders that a producer has under way.
const WINDOW: u64 = 8;
/// Where a child may end; or the parent ends it, at a number of acknowledgements.
const POINTS: [&str; 5] = ["", "before-commit", "in-commit", "after-commit", "before-told"];
/// Instead of a point: commits fail as if the kernel had returned EIO, and so do attempts to open the file again.
const FAILING: &str = "failing";
/// As [`FAILING`], but it is somebody outside who makes the calls fail, by hand with strace.
const WAITING: &str = "waiting";

const DIR: &str = "STILLHERE_KILL_DIR";
const POINT: &str = "STILLHERE_KILL_POINT";
const AFTER: &str = "STILLHERE_KILL_AFTER";
const BEGIN: &str = "STILLHERE_KILL_BEGIN";

/// A sequence of numbers that looks random and repeats itself in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn end_process() -> ! {
    let me = rustix::process::getpid();
    let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
    // The signal is on its way.
    loop {
        std::thread::park();
    }
}

/// Spins for some commits' time: the kill falls anywhere in it.
fn end_process_within(micros: u64) {
    std::thread::spawn(move || {
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_micros(micros) {
            std::hint::spin_loop();
        }
        end_process();
    });
}

/// Not a test by itself: what the child does. Without a directory it is nothing.
#[test]
fn child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let begin: Vec<u64> = std::env::var(BEGIN).unwrap().split(',').map(|n| n.parse().unwrap()).collect();
    let after: u32 = std::env::var(AFTER).unwrap().parse().unwrap();
    let point = std::env::var(POINT).unwrap();
    let (senders, heard): (Vec<_>, Vec<_>) = (0..PRODUCERS).map(|_| channel()).unzip();
    let report = Mutex::new(std::io::stdout());
    let tell: Tell = Arc::new(move |_, list| {
        for told in list {
            if let Told::Outcome(OrderId(id), outcome) = told {
                let (producer, number) = (id >> 32, id & u64::from(u32::MAX));
                if let Ok(Outcome::Posted { seq, .. }) = &outcome {
                    let line = format!("\nack {producer} {number} {seq}\n");
                    report.lock().unwrap().write_all(line.as_bytes()).unwrap();
                }
                let _ = senders[producer as usize].send(outcome);
            }
        }
    });
    let rules = Rules { mailbox_max: u64::MAX, keep_messages: 0, ..Rules::default() };
    let store = start(Path::new(&dir), PATIENCE, rules, tell, Box::new(|_, _, _| {})).unwrap();
    let order = |producer: u64, number: u64, order| {
        store.ledger.order(0, OrderId(producer << 32 | number), order).unwrap();
    };
    let mut stream = StreamId(0);
    for (producer, heard) in (0..PRODUCERS).zip(&heard) {
        order(producer, 0, claim(&format!("p{producer}")));
        assert!(heard.recv().unwrap().is_ok());
        order(producer, 0, Order::Join { room: name("lobby"), user: name(&format!("p{producer}")) });
        let Ok(Outcome::Joined { stream: lobby, .. }) = heard.recv().unwrap() else { panic!("no room") };
        stream = lobby;
    }
    let passed = AtomicU32::new(0);
    let is_failing = point == FAILING || point == WAITING;
    if point == FAILING {
        let dice = Mutex::new(Dice(u64::from(after)));
        fail::set("in-commit", move || (dice.lock().unwrap().below(4) == 0).then_some(FaultKind::Broken));
        fail::set("recover", move || {
            (passed.fetch_add(1, Ordering::Relaxed).is_multiple_of(3)).then_some(FaultKind::Broken)
        });
    } else if !point.is_empty() && point != WAITING {
        fail::set(&point.clone(), move || {
            if passed.fetch_add(1, Ordering::Relaxed) == after {
                if point == "in-commit" { end_process_within(u64::from(after % 7) * 150) } else { end_process() }
            }
            None
        });
    }
    std::thread::scope(|scope| {
        for (producer, heard) in (0..PRODUCERS).zip(heard) {
            let order = &order;
            let begin = begin[producer as usize];
            scope.spawn(move || {
                for number in begin.. {
                    if !is_failing && number >= begin + WINDOW {
                        assert!(heard.recv().unwrap().is_ok());
                    }
                    order(producer, number, speech(stream, producer, number));
                    // Where the disk fails, each waits for its message and repeats it, so that the order stays.
                    while is_failing && heard.recv().unwrap().is_err_and(|refused| refused.refusal.code == 1501) {
                        order(producer, number, speech(stream, producer, number));
                    }
                }
            });
        }
    });
}

/// What a producer says: by turns to the room and to the next producer.
fn speech(stream: StreamId, producer: u64, number: u64) -> Order {
    let (user, to) = (format!("p{producer}"), format!("p{}", (producer + 1) % PRODUCERS));
    let text = format!("number {number} of {producer}");
    let mid = format!("{producer}-{number}");
    if number.is_multiple_of(2) {
        Order::Say { stream, user: name(&user), draft: draft(&text, Some(&mid)) }
    } else {
        tell(&user, &to, &text, Some(&mid))
    }
}

#[test]
fn nothing_acknowledged_is_lost_doubled_or_reordered_by_kills() {
    kill_again_and_again(ROUNDS, |round| POINTS[round as usize % POINTS.len()], 300);
}

#[test]
fn nothing_acknowledged_is_lost_doubled_or_reordered_by_a_disk_that_fails() {
    kill_again_and_again(3, |_| FAILING, 60);
}

fn kill_again_and_again(rounds: u32, point_of: impl Fn(u32) -> &'static str, lines_max: u64) {
    let dir = Dir::new();
    let mut dice = Dice(0x5eed);
    let mut acknowledged: HashMap<(u64, u64), u64> = HashMap::new();
    let mut next = vec![1; PRODUCERS as usize];
    let mut killed = 0;
    for round in 0..rounds {
        let point = point_of(round);
        let begin = next.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["store::tests::kill::child", "--exact", "--nocapture"])
            .env(DIR, &dir.0)
            .env(POINT, point)
            .env(AFTER, dice.below(20).to_string())
            .env(BEGIN, begin)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let until = 1 + dice.below(lines_max);
        let mut lines = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let Some(ack) = line.strip_prefix("ack ") else { continue };
            let ack: Vec<u64> = ack.split(' ').map(|n| n.parse().unwrap()).collect();
            let [producer, number, seq] = ack[..] else { panic!("{line}") };
            assert_eq!(number, next[producer as usize], "acknowledgements come in order");
            next[producer as usize] = number + 1;
            acknowledged.insert((producer, number), seq);
            lines += 1;
            if matches!(point, "" | FAILING) && lines == until {
                child.kill().unwrap();
            }
        }
        killed += u32::from(!child.wait().unwrap().success());
        if round % 50 == 49 || round + 1 == rounds {
            check(&dir.0, &acknowledged, round);
        }
    }
    assert_eq!(killed, rounds, "every child was killed");
    assert!(acknowledged.len() as u32 > rounds, "something was said: {}", acknowledged.len());
    println!("{} acknowledged in {rounds} rounds", acknowledged.len());
}

/// Reads everything there is.
fn check(dir: &Path, acknowledged: &HashMap<(u64, u64), u64>, round: u32) {
    let db = Connection::open(dir.join("stillhere.db")).unwrap();
    let damage: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(damage, "ok");
    let mut seen: HashMap<(u64, u64), u64> = HashMap::new();
    let mut heads: BTreeMap<i64, u64> = BTreeMap::new();
    let mut newest: HashMap<(i64, u64), u64> = HashMap::new();
    let mut select = db.prepare("SELECT stream, seq, mid FROM message ORDER BY stream, seq").unwrap();
    let mut rows = select.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let (stream, seq): (i64, u64) = (row.get(0).unwrap(), row.get::<_, i64>(1).unwrap() as u64);
        let mid: String = row.get(2).unwrap();
        let head = heads.entry(stream).or_default();
        *head += 1;
        assert_eq!(seq, *head, "no seq is missing in stream {stream}");
        let (producer, number) = mid.split_once('-').unwrap();
        let key: (u64, u64) = (producer.parse().unwrap(), number.parse().unwrap());
        assert_eq!(seen.insert(key, seq), None, "{mid} is there twice");
        let before = newest.insert((stream, key.0), key.1);
        assert!(before < Some(key.1), "{mid} comes after {before:?}");
    }
    for (key, seq) in acknowledged {
        assert_eq!(seen.get(key), Some(seq), "round {round}: {key:?} was acknowledged as {seq}");
    }
    // Each message to a user lies once in both mailboxes, without a gap.
    let mut select = db.prepare("SELECT stream, position, conversation, seq FROM mail ORDER BY 1, 2").unwrap();
    let mut rows = select.query([]).unwrap();
    let (mut ends, mut letters) = (BTreeMap::<i64, i64>::new(), HashSet::new());
    let mut count = 0;
    while let Some(row) = rows.next().unwrap() {
        let [stream, position, conversation, seq]: [i64; 4] = std::array::from_fn(|at| row.get(at).unwrap());
        let end = ends.entry(stream).or_default();
        *end += 1;
        assert_eq!(position, *end, "no position is missing in mailbox {stream}");
        assert!(letters.insert((stream, conversation, seq)), "a letter is there twice");
        count += 1;
    }
    let tells = seen.keys().filter(|(_, number)| !number.is_multiple_of(2)).count();
    assert_eq!(count, 2 * tells);
}
