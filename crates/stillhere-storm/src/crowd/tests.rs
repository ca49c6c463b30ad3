//! Crowds against a small gateway with faults to order.

mod server;

use std::future::Future;

use serde_json::json;
use tokio::task::{LocalSet, yield_now};
use tokio::time::timeout;

use self::server::Server;
use super::*;
use crate::plan::{Crowd, Target, Times};
use crate::sample::CrowdSecond;

/// A test that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// So many members that beat and nothing else.
pub(super) fn crowd(count: u32) -> Crowd {
    let interval = Duration::from_secs(1);
    let (say_every, signal_every) = (None, None);
    Crowd { count, mode: Mode::V1, interval, rooms: 0, say_every, signal_every, newcomers_per_second: 0.0 }
}

pub(super) fn common(crowd: Crowd) -> Rc<Common> {
    Rc::new(Common::new(crowd, 1, ([127, 0, 0, 1], 1).into(), Arc::default()))
}

/// Members of one room who say something every 20 ms.
fn talkers(count: u32) -> Crowd {
    Crowd { rooms: 1, say_every: Some(Duration::from_millis(20)), ..crowd(count) }
}

/// A crowd under way, and what it has counted so far.
struct Run {
    phase: watch::Sender<Option<Phase>>,
    crowd: tokio::task::JoinHandle<()>,
    tally: Arc<Mutex<Tally>>,
}

impl Run {
    fn begin(crowd: Crowd, target: SocketAddr) -> Run {
        let (phase, seen) = watch::channel(Some(Phase::Before));
        let tally = Arc::<Mutex<Tally>>::default();
        let target_of = Target {
            address: target.to_string(),
            metrics: None,
            pid: None,
            command: Vec::new(),
            ready: Duration::ZERO,
        };
        let time =
            Times { ramp: Duration::ZERO, before: Duration::ZERO, during: Duration::ZERO, after: Duration::ZERO };
        let plan = Plan {
            name: "test".into(),
            about: "test".into(),
            target: target_of,
            time,
            crowd: Some(crowd),
            attacks: Vec::new(),
            load: None,
            search: None,
            frame: None,
            thresholds: Vec::new(),
            seed: 1,
        };
        let crowd = tokio::task::spawn_local(run(Arc::new(plan), target, seen, tally.clone()));
        Run { phase, crowd, tally }
    }

    /// Alive, on leave, out, waiting.
    fn gauges(&self) -> [u64; 4] {
        let gauges = self.tally.lock().unwrap().gauges;
        [gauges.alive, gauges.leave, gauges.out, gauges.waiting]
    }

    fn look<R>(&self, at: impl Fn(&CrowdSecond) -> R) -> R {
        at(&self.tally.lock().unwrap().crowd)
    }

    async fn until(&self, is_so: impl Fn(&CrowdSecond) -> bool) {
        while !self.look(&is_so) {
            yield_now().await;
        }
    }

    async fn until_gauges(&self, gauges: [u64; 4]) {
        while self.gauges() != gauges {
            yield_now().await;
        }
    }

    /// Ends it, and gives what was counted.
    async fn end(self) -> CrowdSecond {
        self.phase.send(None).unwrap();
        self.crowd.await.unwrap();
        self.tally.lock().unwrap().take().0
    }
}

fn check(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async { timeout(PATIENCE, test).await.expect("it doesn't hang") });
}

#[test]
fn the_gauges_follow_each_member() {
    check(async {
        let (server, target) = Server::open().await;
        server.is_mute.set(true);
        let run = Run::begin(crowd(3), target);
        run.until(|_| server.held() == 3).await;
        assert_eq!(run.gauges(), [0, 0, 0, 3]);
        // Who isn't let in is waiting, whatever becomes of its link.
        server.end("storm-1", None);
        run.until(|seen| seen.losses.get("disconnected") == Some(&1)).await;
        assert_eq!(run.gauges(), [0, 0, 0, 3]);
        server.go_on();
        run.until_gauges([3, 0, 0, 0]).await;
        run.until(|seen| seen.answered >= 3).await;
        server.is_mute.set(true);
        server.end("storm-1", None);
        run.until_gauges([2, 0, 1, 0]).await;
        server.go_on();
        run.until_gauges([3, 0, 0, 0]).await;
        let seen = run.end().await;
        assert_eq!((seen.alive, seen.waiting, seen.resumed, seen.sessions_lost), (3, 0, 1, 0), "{:?}", seen.losses);
        assert_eq!(server.goodbyes.get(), 3);
    });
}

#[test]
fn a_digest_shows_a_false_leave_once() {
    check(async {
        let (server, target) = Server::open().await;
        let run = Run::begin(Crowd { rooms: 1, ..crowd(2) }, target);
        run.until(|seen| seen.answered >= 2).await;
        let digest = json!({"op": "digest", "rooms": []});
        // Who only read too slowly gets one as well; the next beat shows that it is alive.
        server.push("storm-0", &digest);
        run.until(|seen| seen.answered >= 8).await;
        assert_eq!((run.gauges(), run.look(|seen| seen.false_leaves)), ([2, 0, 0, 0], 0));
        server.detect_ms.set(6500);
        server.push("storm-0", &digest);
        run.until_gauges([1, 1, 0, 0]).await;
        server.push("storm-0", &digest);
        server.push("storm-0", &digest);
        let answered = run.look(|seen| seen.answered);
        run.until(|seen| seen.answered >= answered + 4).await;
        assert_eq!((run.gauges(), run.look(|seen| seen.false_leaves)), ([1, 1, 0, 0], 1));
        let message =
            json!({"op": "message", "room": "storm-crowd-0", "seq": 1, "from": "x", "text": "t", "time_ms": 1});
        server.push("storm-0", &message);
        run.until_gauges([2, 0, 0, 0]).await;
        let seen = run.end().await;
        assert_eq!((seen.false_leaves, seen.leave, seen.messages), (1, 0, 1));
    });
}

#[test]
fn presence_shows_the_false_leave_of_another_unless_it_is_late_or_rightly_so() {
    check(async {
        let (server, target) = Server::open().await;
        let run = Run::begin(Crowd { rooms: 1, signal_every: Some(Duration::from_millis(50)), ..crowd(2) }, target);
        run.until(|seen| seen.signals >= 10).await;
        let leave = |cause: &str, ver: u32| {
            json!({"op": "presence", "room": "storm-crowd-0", "user": "storm-1", "status": "leave", "cause": cause,
                "since_ms": 1, "gen": 7, "ver": ver})
        };
        for (cause, ver, false_leaves) in [("dropped", 2, 0), ("silent", 3, 1), ("silent", 3, 1), ("lossy", 4, 2)] {
            // Signals show that it is alive again.
            run.until_gauges([2, 0, 0, 0]).await;
            server.push("storm-0", &leave(cause, ver));
            server.push(
                "storm-0",
                &json!({"op": "message", "room": "storm-crowd-0", "seq": ver, "from": "x", "text": "t", "time_ms": 1}),
            );
            let signals = run.look(|seen| seen.signals);
            run.until(|seen| seen.signals >= signals + 4).await;
            assert_eq!(run.look(|seen| seen.false_leaves), false_leaves, "{cause} {ver}");
        }
    });
}

#[test]
fn a_session_that_is_not_resumed_is_lost() {
    check(async {
        let (server, target) = Server::open().await;
        let run = Run::begin(crowd(3), target);
        run.until_gauges([3, 0, 0, 0]).await;
        server.broken.set(Some("unknown"));
        server.end("storm-0", None);
        run.until(|seen| seen.sessions_lost == 1).await;
        server.broken.set(Some("expired"));
        server.end("storm-1", Some(4001));
        run.until_gauges([2, 1, 0, 0]).await;
        // A beat's answer tells that it has earned to be alive.
        run.until_gauges([3, 0, 0, 0]).await;
        server.end("storm-2", Some(4501));
        run.until_gauges([2, 0, 1, 0]).await;
        let seen = run.end().await;
        assert_eq!((seen.sessions_lost, seen.resumed, seen.out), (3, 0, 1));
        assert_eq!(seen.closes.into_iter().collect::<Vec<_>>(), [(4001, 1), (4501, 1)]);
        assert_eq!(seen.losses.into_iter().collect::<Vec<_>>(), [("disconnected".to_owned(), 1)]);
    });
}

#[test]
fn a_message_that_one_member_does_not_get_is_lost_and_one_that_comes_twice_is_doubled() {
    for (loses, doubles) in [(None, None), (Some(20), Some(25))] {
        check(async {
            let (server, target) = Server::open().await;
            server.loses.set(loses);
            server.doubles.set(doubles);
            let run = Run::begin(talkers(4), target);
            run.until(|seen| seen.said >= 40).await;
            let seen = run.end().await;
            assert_eq!(
                (seen.messages_lost, seen.messages_doubled, seen.unsaid),
                (u64::from(loses.is_some()), u64::from(doubles.is_some()), 0)
            );
            assert!(seen.messages > 40 && seen.say_us.count() == seen.said, "{} of {}", seen.messages, seen.said);
        });
    }
}

#[test]
fn what_is_never_acknowledged_is_unsaid_and_not_lost() {
    check(async {
        let (server, target) = Server::open().await;
        server.forgets_to_answer.set(true);
        let run = Run::begin(talkers(3), target);
        run.until(|seen| seen.messages >= 20).await;
        let seen = run.end().await;
        assert!(seen.said == 0 && seen.unsaid >= 10, "{} unsaid", seen.unsaid);
        assert_eq!(seen.messages_lost, 0);
    });
}

#[test]
fn where_it_takes_accounts_a_few_are_made_and_shared() {
    check(async {
        let (server, target) = Server::open().await;
        server.wants_accounts.set(true);
        let run = Run::begin(Crowd { say_every: Some(Duration::from_millis(500)), ..talkers(12) }, target);
        run.until(|seen| seen.said >= 24).await;
        let seen = run.end().await;
        assert_eq!((server.accounts.get(), seen.unsaid, seen.messages_lost), (6, 0, 0), "two share one");
    });
}

#[test]
fn where_nobody_may_talk_everything_is_unsaid() {
    check(async {
        let (server, target) = Server::open().await;
        server.wants_accounts.set(true);
        server.refuses_accounts.set(true);
        let run = Run::begin(talkers(2), target);
        run.until(|seen| seen.unsaid >= 10).await;
        let seen = run.end().await;
        assert_eq!((seen.said, seen.messages, seen.alive), (0, 0, 2));
    });
}

#[test]
fn beats_that_are_due_while_the_target_stalls_count_with_their_waiting() {
    check(async {
        let (server, target) = Server::open().await;
        let run = Run::begin(crowd(100), target);
        run.until(|seen| seen.answered >= 150).await;
        drop(run.tally.lock().unwrap().take());
        let (before, stall) = (server.beats.get(), Instant::now());
        server.stalls.set(true);
        while stall.elapsed() < Duration::from_millis(300) {
            yield_now().await;
        }
        let due = u64::from(server.beats.get() - before);
        server.go_on();
        run.until(|seen| seen.answered >= due + 20).await;
        let waited = slower_than(&run, 100_000);
        assert!(due >= 15 && waited >= due / 3 && waited <= due, "{waited} of {due}");
    });
}

#[test]
fn beats_that_the_storm_itself_sends_late_count_from_when_they_were_due() {
    check(async {
        let (_server, target) = Server::open().await;
        let run = Run::begin(crowd(100), target);
        run.until(|seen| seen.answered >= 150).await;
        drop(run.tally.lock().unwrap().take());
        // The thread of the crowd, and of the server, does something else.
        let stall = Instant::now();
        while stall.elapsed() < Duration::from_millis(300) {
            std::hint::spin_loop();
        }
        run.until(|seen| seen.answered >= 40).await;
        let waited = slower_than(&run, 100_000);
        let lag_us = run.tally.lock().unwrap().lag_us;
        assert!(waited >= 8, "{waited} of some 20");
        assert!(lag_us >= 280_000, "{lag_us} µs");
    });
}

/// How many round trips took longer.
fn slower_than(run: &Run, micros: u64) -> u64 {
    run.look(|seen| seen.rtt_us.iter().filter(|(value, _)| *value > micros).map(|(_, count)| count).sum())
}

#[test]
fn newcomers_are_let_in_or_refused() {
    for refuses in [false, true] {
        check(async {
            let (server, target) = Server::open().await;
            server.refuses_newcomers.set(refuses);
            let run = Run::begin(Crowd { newcomers_per_second: 50.0, ..crowd(1) }, target);
            run.until(|seen| seen.newcomers + seen.newcomers_refused >= 5).await;
            let seen = run.end().await;
            assert_eq!((seen.newcomers == 0, seen.newcomers_refused == 0), (refuses, !refuses));
            assert_eq!(seen.enter_us.count(), seen.newcomers);
        });
    }
}

#[test]
fn legacy_members_are_alive_while_they_are_linked() {
    check(async {
        let (server, target) = Server::open().await;
        let legacy = Crowd { mode: Mode::Legacy, interval: Duration::from_millis(100), ..crowd(2) };
        let run = Run::begin(legacy, target);
        run.until(|seen| seen.sent >= 6).await;
        assert_eq!((run.gauges(), run.look(|seen| seen.unanswered)), ([2, 0, 0, 0], 0));
        // They have no label.
        server.end("", None);
        run.until(|seen| seen.sessions_lost == 2).await;
        run.until_gauges([2, 0, 0, 0]).await;
        let seen = run.end().await;
        assert_eq!((seen.answered, seen.unanswered, seen.losses.get("disconnected")), (0, 0, Some(&2)));
        assert!(server.beats.get() >= 6);
    });
}

#[test]
fn beats_under_way_when_a_link_is_lost_are_unanswered() {
    check(async {
        let (server, target) = Server::open().await;
        let run = Run::begin(crowd(1), target);
        server.stalls.set(true);
        run.until(|seen| seen.sent >= 2).await;
        server.end("storm-0", None);
        run.until(|seen| seen.losses.contains_key("disconnected")).await;
        assert!(run.look(|seen| seen.answered == 0 && seen.unanswered == seen.sent), "every beat was under way");
        // They waited in vain, the first for an interval at least, and a silent target must not look like a fast one.
        assert!(run.look(|seen| seen.rtt_us.count() == seen.sent && seen.rtt_us.max() >= Some(900_000)));
    });
}
