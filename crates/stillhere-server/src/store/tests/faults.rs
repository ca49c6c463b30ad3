//! When the disk fails: nothing is promised that wasn't kept, and it goes on by itself.

use std::sync::Mutex;

use super::super::base::{Base, Fault, FaultKind, Kept, Rows};
use super::super::sqlite::Database;
use super::super::thread::Worker;
use super::*;

/// What a failing database does next.
#[derive(Clone, Copy, PartialEq)]
enum Next {
    Work,
    /// Commits fail like this, without anything being written.
    Refuse(FaultKind),
    /// A commit is on the disk and fails all the same.
    WriteAndFail,
}

struct Failing {
    inner: Database,
    next: Arc<Mutex<Next>>,
    recovered: Arc<AtomicU64>,
}

impl Base for Failing {
    fn begin(&mut self) -> Kept<()> {
        self.inner.begin()
    }

    fn commit(&mut self) -> Kept<()> {
        match *self.next.lock().unwrap() {
            Next::Work => self.inner.commit(),
            Next::Refuse(kind) => Err(Fault::new(kind, "a test wants it")),
            Next::WriteAndFail => {
                self.inner.commit()?;
                Err(Fault::new(FaultKind::Broken, "a test wants it"))
            }
        }
    }

    fn rollback(&mut self) {
        self.inner.rollback();
    }

    fn recover(&mut self) -> anyhow::Result<()> {
        if *self.next.lock().unwrap() != Next::Work {
            anyhow::bail!("still broken");
        }
        self.recovered.fetch_add(1, Ordering::Relaxed);
        self.inner.recover()
    }

    fn rows(&mut self) -> &mut dyn Rows {
        self.inner.rows()
    }

    fn connection(&self) -> &rusqlite::Connection {
        Base::connection(&self.inner)
    }
}

struct Trial {
    worker: Worker<Failing>,
    told: Vec<Receiver<Vec<Told>>>,
    next: Arc<Mutex<Next>>,
    recovered: Arc<AtomicU64>,
    stream: StreamId,
}

impl Trial {
    fn new(dir: &Dir) -> Trial {
        let (tell, told) = tellers(1);
        let (next, recovered) = (Arc::new(Mutex::new(Next::Work)), Arc::<AtomicU64>::default());
        let inner = Database::open(&dir.0.join("stillhere.db")).unwrap();
        let base = Failing { inner, next: Arc::clone(&next), recovered: Arc::clone(&recovered) };
        let worker = Worker::for_test(base, Rules::default(), tell);
        let mut trial = Trial { worker, told, next, recovered, stream: StreamId(0) };
        let told = trial.run(vec![claim("ann"), Order::Join { room: name("lobby"), user: name("ann") }]);
        let Told::Outcome(_, Ok(Outcome::Joined { stream, .. })) = &told[1] else { panic!("{told:?}") };
        trial.stream = *stream;
        trial
    }

    fn run(&mut self, orders: Vec<Order>) -> Vec<Told> {
        let batch = orders.into_iter().zip(1..).map(|(order, id)| (0, OrderId(id), order)).collect();
        self.worker.carry_out(batch);
        self.told[0].try_iter().flatten().collect()
    }

    fn say(&self, text: &str, mid: &str) -> Order {
        Order::Say { stream: self.stream, user: name("ann"), draft: draft(text, Some(mid)) }
    }

    /// Tries again until the pause between two attempts to open the database is over.
    fn until_it_works(&mut self, text: &str, mid: &str) -> Vec<Told> {
        let began = std::time::Instant::now();
        loop {
            let told = self.run(vec![self.say(text, mid)]);
            if !matches!(told[..], [Told::Outcome(_, Err(_))]) {
                return told;
            }
            assert!(began.elapsed() < PATIENCE, "it never works again: {told:?}");
            std::thread::yield_now();
        }
    }
}

fn codes(told: &[Told]) -> Vec<u16> {
    let code = |told: &Told| match told {
        Told::Outcome(_, Err(refused)) => refused.refusal.code,
        Told::Outcome(_, Ok(_)) => 0,
        Told::News(_) => 1,
    };
    told.iter().map(code).collect()
}

#[test]
fn nothing_of_a_batch_that_cannot_be_committed_is_told_or_stays() {
    for kind in [FaultKind::Full, FaultKind::Broken] {
        let dir = Dir::new();
        let mut trial = Trial::new(&dir);
        let told = trial.run(vec![trial.say("one", "1")]);
        assert_eq!(codes(&told), [1, 0], "news and outcome");
        *trial.next.lock().unwrap() = Next::Refuse(kind);
        for _ in 0..3 {
            let batch = vec![trial.say("two", "2"), claim("bob"), Order::Join { room: name("new"), user: name("ann") }];
            let told = trial.run(batch);
            assert_eq!(codes(&told), [1501, 1501, 1501], "{kind:?}");
            let Told::Outcome(_, Err(refused)) = &told[0] else { panic!() };
            assert_eq!(refused.retry, Some(Duration::from_secs(1)));
        }
        *trial.next.lock().unwrap() = Next::Work;
        let told = trial.until_it_works("three", "3");
        // Still joined, and the next seq is the next.
        let [Told::News(News::Message { position: 2, .. }), Told::Outcome(_, Ok(Outcome::Posted { seq: 2, .. }))] =
            &told[..]
        else {
            panic!("{told:?}")
        };
        assert_eq!(trial.recovered.load(Ordering::Relaxed), u64::from(kind == FaultKind::Broken), "{kind:?}");
        let told = trial.run(vec![trial.say("one", "1")]);
        assert!(matches!(told[..], [Told::Outcome(_, Ok(Outcome::Posted { seq: 1, .. }))]), "{told:?}");
    }
}

#[test]
fn a_commit_that_failed_after_it_was_written_is_the_same_message_for_who_repeats_it() {
    let dir = Dir::new();
    let mut trial = Trial::new(&dir);
    *trial.next.lock().unwrap() = Next::WriteAndFail;
    assert_eq!(codes(&trial.run(vec![trial.say("two", "2")])), [1501]);
    *trial.next.lock().unwrap() = Next::Work;
    let told = trial.until_it_works("two", "2");
    assert!(matches!(told.last(), Some(Told::Outcome(_, Ok(Outcome::Posted { seq: 1, .. })))), "{told:?}");
}

#[test]
fn a_full_disk_is_survived_without_a_lie_and_without_help() {
    let dir = Dir::new();
    let mut trial = Trial::new(&dir);
    let db = Base::connection(&trial.worker.base);
    let pages: i64 = db.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    db.query_row(&format!("PRAGMA max_page_count = {}", pages + 50), [], |_| Ok(())).unwrap();
    let text = "x".repeat(4000);
    let (mut kept, mut refused) = (0, 0);
    for number in 0..200 {
        match &trial.run(vec![trial.say(&text, &number.to_string())])[..] {
            [Told::News(_), Told::Outcome(_, Ok(Outcome::Posted { seq, .. }))] => {
                kept += 1;
                assert_eq!(*seq, kept);
            }
            [Told::Outcome(_, Err(told))] => {
                assert_eq!(told.refusal.code, 1501);
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(kept > 10 && refused > 10, "{kept} kept, {refused} refused");
    let db = Base::connection(&trial.worker.base);
    db.query_row("PRAGMA max_page_count = 1000000", [], |_| Ok(())).unwrap();
    let told = trial.run(vec![trial.say("space again", "again")]);
    assert!(
        matches!(&told[..], [_, Told::Outcome(_, Ok(Outcome::Posted { seq, .. }))] if *seq == kept + 1),
        "{told:?}"
    );
    let rows: i64 =
        Base::connection(&trial.worker.base).query_row("SELECT count(*) FROM message", [], |row| row.get(0)).unwrap();
    assert_eq!(rows as u64, kept + 1, "what was refused isn't there");
    assert_eq!(trial.recovered.load(Ordering::Relaxed), 0, "a full disk needs no opening again");
}

#[test]
fn one_order_that_is_our_fault_harms_no_other() {
    let dir = Dir::new();
    let mut trial = Trial::new(&dir);
    Base::connection(&trial.worker.base)
        .execute_batch(
            "CREATE TRIGGER bad BEFORE INSERT ON message WHEN new.text = 'bad' BEGIN SELECT raise(ABORT, 'bad'); END",
        )
        .unwrap();
    let batch = vec![trial.say("good", "1"), trial.say("bad", "2"), trial.say("better", "3")];
    let told = trial.run(batch);
    assert_eq!(codes(&told), [1, 0, 1502, 1, 0]);
    let Told::Outcome(OrderId(3), Ok(Outcome::Posted { seq: 2, .. })) = &told[4] else { panic!("{told:?}") };
}
