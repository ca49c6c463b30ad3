//! Honest clients of somebody else's server, which speak what the plan's `[frame]` says.
//!
//! Such a server has no resume, so each link is a session of its own: when it breaks, the session is lost and the client
//! comes back as a stranger. Answers are matched to beats in their order, since nothing in them says whose they are: a
//! server that leaves one out makes all later ones look late by an interval, which is what its client would see too.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::common::micros;
use crate::frame::talk::{self, Lost, Speaker, Talk, Wire};
use crate::plan::Plan;
use crate::sample::{Gauges, Phase, Tally};

/// How long a client waits for a connection, for its hello, and for the answer to a beat.
const PATIENCE: Duration = Duration::from_secs(10);
/// A client that lost its link comes back after a random time below this, then twice this, four times …
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// … and no more than this.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// How long answers are waited for when the run ends.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// Beats of one client that are due or under way: those of [`PATIENCE`] at the shortest interval, and some.
const BEATS_MAX: usize = 128;
/// How long a newcomer waits to be let in.
const NEWCOMER_PATIENCE: Duration = Duration::from_secs(5);
/// Newcomers are numbered from here, beyond all clients and the load's connections.
const NEWCOMERS_FROM: u32 = 1_000_000;

/// One honest client, from its first connection until `phase` has become `None` or it is dropped. Whoever runs the crowd
/// has counted it in [`Gauges::waiting`] before, as all that haven't come yet; when it ends the gauges stay as they are.
pub(super) async fn member(
    index: u32,
    plan: Arc<Plan>,
    target: SocketAddr,
    phase: watch::Receiver<Option<Phase>>,
    tally: Arc<Mutex<Tally>>,
) {
    life(index, plan, target, phase, tally, PATIENCE).await;
}

async fn life(
    index: u32,
    plan: Arc<Plan>,
    target: SocketAddr,
    mut phase: watch::Receiver<Option<Phase>>,
    tally: Arc<Mutex<Tally>>,
    patience: Duration,
) {
    // A plan without them has no such clients, and one that can't be compiled was refused when it was read.
    let (Some(crowd), Some(talk)) = (&plan.crowd, compiled(&plan)) else { return };
    let rng = StdRng::seed_from_u64(plan.seed ^ u64::from(index) << 32);
    let speaker = Speaker { n: index, count: 0, rng };
    let mut member = Member { talk, interval: crowd.interval, patience, speaker, tally, place: Place::Waiting };
    let mut backoff = BACKOFF_FIRST;
    loop {
        let entered = tokio::select! {
            () = ended(&mut phase) => return,
            entered = member.enter(target) => entered,
        };
        match entered {
            Ok(wire) => {
                backoff = BACKOFF_FIRST;
                member.stand(Place::In);
                let Err(lost) = member.live(wire, &mut phase).await else { return };
                member.lose(lost, true);
            }
            Err(lost) => member.lose(lost, false),
        }
        let rest = backoff.mul_f64(member.speaker.rng.random_range(0.0..1.0));
        backoff = (backoff * 2).min(BACKOFF_MAX);
        tokio::select! {
            () = ended(&mut phase) => return,
            () = sleep(rest) => {}
        }
    }
}

/// A new client that comes, is let in, and goes again: how long it took, or why it wasn't.
pub(super) async fn newcomer(plan: Arc<Plan>, target: SocketAddr) -> Result<Duration, String> {
    static NEWCOMERS: AtomicU32 = AtomicU32::new(0);
    let Some(talk) = compiled(&plan) else { return Err("the plan has no [frame]".to_owned()) };
    let nth = NEWCOMERS.fetch_add(1, Ordering::Relaxed);
    let rng = StdRng::seed_from_u64(!plan.seed ^ u64::from(nth));
    let mut speaker = Speaker { n: NEWCOMERS_FROM.wrapping_add(nth), count: 0, rng };
    let began = Instant::now();
    let entering = async {
        let mut wire = Wire::new(talk::connect(target, NEWCOMER_PATIENCE).await?, talk.framing);
        talk.greet(&mut wire, &mut speaker).await?;
        if talk.hello.is_empty() {
            talk.exchange(&talk.beat, &mut wire, &mut speaker).await?;
        }
        Ok(())
    };
    let entered = timeout(NEWCOMER_PATIENCE, entering).await.unwrap_or(Err(Lost::Silent));
    entered.map(|()| began.elapsed()).map_err(|lost: Lost| lost.name().to_owned())
}

/// The plan's exchanges, compiled once for all clients of this thread: they are thousands, and a regular expression
/// takes more memory than a client may.
fn compiled(plan: &Arc<Plan>) -> Option<Arc<Talk>> {
    thread_local! {
        static LAST: RefCell<Option<(Weak<Plan>, Arc<Talk>)>> = const { RefCell::new(None) };
    }
    LAST.with_borrow_mut(|last| {
        if let Some((of, talk)) = last
            && std::ptr::eq(of.as_ptr(), Arc::as_ptr(plan))
        {
            return Some(talk.clone());
        }
        let talk = Arc::new(Talk::of(plan.frame.as_ref()?).ok()?);
        *last = Some((Arc::downgrade(plan), talk.clone()));
        Some(talk)
    })
}

/// Waits until the run is over.
async fn ended(phase: &mut watch::Receiver<Option<Phase>>) {
    // Whoever tells the phase being gone is the end too.
    let _ = phase.wait_for(Option::is_none).await;
}

/// Where a client stands, as the gauges count it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Waiting,
    In,
    Out,
}

struct Member {
    talk: Arc<Talk>,
    interval: Duration,
    patience: Duration,
    speaker: Speaker,
    tally: Arc<Mutex<Tally>>,
    place: Place,
}

/// A beat that is due or under way.
#[derive(Clone, Copy)]
struct Beat {
    due: Instant,
    /// When it was looked at first. Patience counts from here, so that a storm that was late accuses nobody.
    noticed: Instant,
}

impl Member {
    async fn enter(&mut self, target: SocketAddr) -> Result<Wire, Lost> {
        let mut wire = Wire::new(talk::connect(target, self.patience).await?, self.talk.framing);
        self.speaker.count = 0;
        let greeting = self.talk.greet(&mut wire, &mut self.speaker);
        timeout(self.patience, greeting).await.unwrap_or(Err(Lost::Silent))?;
        Ok(wire)
    }

    /// Beats until the run is over or the link is lost.
    async fn live(&mut self, wire: Wire, phase: &mut watch::Receiver<Option<Phase>>) -> Result<(), Lost> {
        let first = Instant::now() + self.interval.mul_f64(self.speaker.rng.random_range(0.0..1.0));
        let mut link = Link { wire, due: VecDeque::new(), sent: VecDeque::new(), next: first };
        let lived = self.beat(&mut link, phase).await;
        let sent = link.sent.iter().filter(|_| self.talk.beat.wants_reply());
        let waited: Vec<u64> = link.due.iter().chain(sent).map(|beat| micros(beat.due.elapsed())).collect();
        let mut tally = self.count();
        tally.crowd.unanswered += waited.len() as u64;
        if lived.is_err() && self.talk.beat.wants_reply() {
            // A round trip would have been longer still.
            waited.iter().for_each(|waited| tally.crowd.rtt_us.record(*waited));
        }
        drop(tally);
        lived
    }

    async fn beat(&mut self, link: &mut Link, phase: &mut watch::Receiver<Option<Phase>>) -> Result<(), Lost> {
        loop {
            self.fall_due(link);
            self.send(link)?;
            self.hear(link)?;
            let oldest = link.sent.front().into_iter().chain(link.due.front()).map(|beat| beat.noticed).min();
            let silent = oldest.map(|noticed| noticed + self.patience);
            if silent.is_some_and(|silent| silent <= Instant::now()) {
                return Err(Lost::Silent);
            }
            // No further beat is looked at while there are too many.
            let next = (link.due.len() + link.sent.len() < BEATS_MAX).then_some(link.next);
            let wake = next.into_iter().chain(silent).min().unwrap_or(link.next);
            tokio::select! {
                () = ended(phase) => break,
                () = link.wire.ready() => link.wire.read()?,
                () = sleep_until(wake) => {}
            }
        }
        self.say_no_more(link).await;
        Ok(())
    }

    /// Waits a moment for what is under way.
    async fn say_no_more(&mut self, link: &mut Link) {
        let end = Instant::now() + LAST_ANSWERS;
        while !link.sent.is_empty() && Instant::now() < end {
            tokio::select! {
                () = sleep_until(end) => {}
                () = link.wire.ready() => {
                    if link.wire.flush().and_then(|()| link.wire.read()).and_then(|()| self.hear(link)).is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn fall_due(&mut self, link: &mut Link) {
        let now = Instant::now();
        while link.next <= now && link.due.len() + link.sent.len() < BEATS_MAX {
            let late = now.duration_since(link.next).as_micros() as u64;
            link.due.push_back(Beat { due: link.next, noticed: now });
            link.next += self.interval.mul_f64(self.speaker.rng.random_range(0.9..=1.1));
            let mut tally = self.count();
            tally.lag_us = tally.lag_us.max(late);
        }
    }

    fn send(&mut self, link: &mut Link) -> Result<(), Lost> {
        link.wire.flush()?;
        // One at a time: what the target doesn't read isn't piled up here.
        while link.wire.unsent() == 0
            && let Some(beat) = link.due.pop_front()
        {
            self.talk.say(&self.talk.beat, &mut link.wire, &mut self.speaker);
            self.count().crowd.sent += 1;
            link.sent.push_back(beat);
            link.wire.flush()?;
        }
        if !self.talk.beat.wants_reply() && link.wire.unsent() == 0 {
            link.sent.clear();
        }
        Ok(())
    }

    fn hear(&mut self, link: &mut Link) -> Result<(), Lost> {
        let now = Instant::now();
        while let Some(body) = link.wire.next()? {
            if self.talk.beat.is_answered_by(body)
                && let Some(beat) = link.sent.pop_front()
            {
                let mut tally = self.count();
                tally.crowd.answered += 1;
                tally.crowd.rtt_us.record(now.saturating_duration_since(beat.due).as_micros() as u64);
            }
        }
        Ok(())
    }

    fn lose(&mut self, lost: Lost, was_in: bool) {
        let mut tally = self.count();
        *tally.crowd.losses.entry(lost.name().to_owned()).or_insert(0) += 1;
        tally.crowd.sessions_lost += u64::from(was_in);
        drop(tally);
        if was_in {
            self.stand(Place::Out);
        }
    }

    fn stand(&mut self, place: Place) {
        let before = std::mem::replace(&mut self.place, place);
        let mut tally = self.count();
        let gauge = |gauges: &mut Gauges, place, change: fn(&mut u64)| match place {
            Place::Waiting => change(&mut gauges.waiting),
            Place::In => change(&mut gauges.alive),
            Place::Out => change(&mut gauges.out),
        };
        gauge(&mut tally.gauges, before, |gauge| *gauge = gauge.saturating_sub(1));
        gauge(&mut tally.gauges, place, |gauge| *gauge += 1);
    }

    fn count(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Link {
    wire: Wire,
    /// Due and not sent yet, because the target doesn't read.
    due: VecDeque<Beat>,
    /// Sent and not answered yet.
    sent: VecDeque<Beat>,
    /// When the next beat is due.
    next: Instant,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;
    use tokio::time::interval;

    use super::*;
    use crate::plan::{Crowd, Exchange, Frame, Length, Mode, Target, Times};

    const SOON: Duration = Duration::from_secs(20);

    fn plan(hello: &[&str]) -> Arc<Plan> {
        let exchange = |payload: &str| Exchange { payload: payload.to_owned(), reply: Some("^re ".to_owned()) };
        let none = Duration::ZERO;
        Arc::new(Plan {
            name: "test".to_owned(),
            about: String::new(),
            target: Target { address: String::new(), metrics: None, pid: None, command: Vec::new(), ready: none },
            time: Times { ramp: none, before: none, during: none, after: none },
            crowd: Some(Crowd {
                count: 1,
                mode: Mode::Frame,
                interval: Duration::from_millis(100),
                rooms: 0,
                say_every: None,
                signal_every: None,
                newcomers_per_second: 0.0,
            }),
            attacks: Vec::new(),
            load: None,
            search: None,
            frame: Some(Frame {
                length: Length::Line,
                includes_header: false,
                hello: hello.iter().map(|payload| exchange(payload)).collect(),
                beat: exchange("beat ${n} ${count}"),
                max: 1024,
            }),
            thresholds: Vec::new(),
            seed: 7,
        })
    }

    /// What a server does with a line.
    #[derive(Clone, Copy)]
    enum Does {
        Answers,
        AnswersLate(Duration),
        Nothing,
        Closes,
    }

    type Decide = fn(connection: u32, line: &str) -> Does;

    /// A server of lines. What answers a line is `re` and the line, among other lines.
    async fn server(does: Decide) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for connection in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let (read, mut write) = stream.split();
                    let mut lines = BufReader::new(read).lines();
                    while let Ok(Some(line)) = lines.next_line().await {
                        match does(connection, &line) {
                            Does::Answers => {}
                            Does::AnswersLate(late) => pause(late).await,
                            Does::Nothing => continue,
                            Does::Closes => return,
                        }
                        let answer = format!("somebody says hi\r\nre {line}\n");
                        if write.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    async fn pause(time: Duration) {
        let _ = timeout(time, std::future::pending::<()>()).await;
    }

    struct Run {
        phase: watch::Sender<Option<Phase>>,
        tally: Arc<Mutex<Tally>>,
        life: JoinHandle<()>,
    }

    fn run(plan: Arc<Plan>, target: SocketAddr, patience: Duration) -> Run {
        let (phase, seen) = watch::channel(Some(Phase::Ramp));
        let gauges = Gauges { waiting: 1, ..Gauges::default() };
        let tally = Arc::new(Mutex::new(Tally { gauges, ..Tally::default() }));
        let life = tokio::spawn(life(3, plan, target, seen, tally.clone(), patience));
        Run { phase, tally, life }
    }

    impl Run {
        /// Waits until it counts so.
        async fn until(&self, wanted: impl Fn(&Tally) -> bool) {
            let mut looks = interval(Duration::from_millis(2));
            let counted = timeout(SOON, async {
                while !wanted(&self.tally.lock().unwrap()) {
                    looks.tick().await;
                }
            });
            assert!(counted.await.is_ok(), "{:?}", self.tally.lock().unwrap());
        }

        async fn end(self) -> Tally {
            self.phase.send(None).unwrap();
            timeout(SOON, self.life).await.unwrap().unwrap();
            std::mem::take(&mut *self.tally.lock().unwrap())
        }
    }

    fn losses(tally: &Tally) -> BTreeMap<&str, u64> {
        tally.crowd.losses.iter().map(|(name, count)| (name.as_str(), *count)).collect()
    }

    #[tokio::test]
    async fn whoever_is_answered_has_a_round_trip_for_each_beat() {
        let target = server(|_, line| match line.strip_prefix("beat 3 ").map(str::parse) {
            Some(Ok(2..=99)) => Does::Answers,
            None if line == "hi 3 1" => Does::Answers,
            _ => Does::Closes,
        });
        let run = run(plan(&["hi ${n} ${count}"]), target.await, SOON);
        run.until(|tally| tally.crowd.answered == 4).await;
        let tally = run.end().await;
        assert!(tally.crowd.answered >= 4 && tally.crowd.answered == tally.crowd.sent, "{tally:?}");
        assert_eq!((tally.crowd.rtt_us.count(), tally.crowd.unanswered), (tally.crowd.sent, 0));
        assert_eq!(tally.gauges, Gauges { alive: 1, ..Gauges::default() });
        assert!(tally.crowd.losses.is_empty() && tally.crowd.sessions_lost == 0);
    }

    #[tokio::test]
    async fn late_answers_make_no_beat_late() {
        let late = Duration::from_millis(600);
        let target = server(|_, _| Does::AnswersLate(Duration::from_millis(600))).await;
        let run = run(plan(&[]), target, SOON);
        run.until(|tally| tally.crowd.sent == 3).await;
        assert_eq!(run.tally.lock().unwrap().crowd.answered, 0);
        run.until(|tally| tally.crowd.answered == 3).await;
        let rtt = std::mem::take(&mut run.tally.lock().unwrap().crowd.rtt_us);
        // Its answers go out one after the other: the third is the sum of three waits, less two intervals.
        let (first, third) = (rtt.quantile(0.0).unwrap(), rtt.max().unwrap());
        assert!(first >= 599_000, "{first}");
        assert!(third >= (3 * late - Duration::from_millis(220)).as_micros() as u64, "{third}");
        run.phase.send(None).unwrap();
    }

    #[tokio::test]
    async fn a_beat_that_the_storm_sends_late_counts_from_when_it_was_due() {
        let run = run(plan(&[]), server(|_, _| Does::Answers).await, SOON);
        run.until(|tally| tally.crowd.answered == 1).await;
        // Nothing runs on this thread for a while, and four beats fall due.
        let (_open, nothing) = std::sync::mpsc::channel::<()>();
        assert!(nothing.recv_timeout(Duration::from_millis(450)).is_err());
        run.until(|tally| tally.crowd.answered == 5).await;
        let tally = run.end().await;
        let longest = tally.crowd.rtt_us.max().unwrap();
        assert!(longest >= 335_000, "{longest}");
        assert!(tally.lag_us >= 335_000, "{}", tally.lag_us);
    }

    #[tokio::test]
    async fn a_broken_link_is_a_lost_session_and_its_client_comes_back() {
        let target = server(|connection, line| match (connection, line) {
            (0, "beat 3 3") => Does::Closes,
            (0, "beat 3 2") => Does::Nothing,
            _ => Does::Answers,
        });
        let run = run(plan(&[]), target.await, SOON);
        run.until(|tally| tally.gauges.out == 1).await;
        let was = run.tally.lock().unwrap().gauges;
        assert_eq!(was, Gauges { out: 1, ..Gauges::default() });
        run.until(|tally| tally.crowd.answered == 2).await;
        let tally = run.end().await;
        assert_eq!(losses(&tally), BTreeMap::from([("disconnected", 1)]));
        assert_eq!((tally.crowd.sessions_lost, tally.crowd.unanswered, tally.gauges.alive), (1, 2, 1));
        assert_eq!(tally.crowd.sent, tally.crowd.answered + tally.crowd.unanswered);
    }

    #[tokio::test]
    async fn whoever_is_never_answered_finds_the_server_silent() {
        let run = run(plan(&[]), server(|_, _| Does::Nothing).await, Duration::from_millis(600));
        run.until(|tally| tally.crowd.losses.contains_key("silent")).await;
        let tally = run.end().await;
        assert!(tally.crowd.unanswered >= 5 && tally.crowd.unanswered == tally.crowd.sent, "{tally:?}");
        assert_eq!((tally.crowd.answered, tally.crowd.sessions_lost), (0, 1));
    }

    #[tokio::test]
    async fn whoever_isnt_let_in_waits_and_has_lost_no_session() {
        let cases: [(Decide, &str); 2] = [(|_, _| Does::Closes, "hello refused"), (|_, _| Does::Nothing, "silent")];
        for (does, name) in cases {
            let run = run(plan(&["hi"]), server(does).await, Duration::from_millis(200));
            run.until(|tally| tally.crowd.losses.contains_key(name)).await;
            let tally = run.end().await;
            assert_eq!((tally.gauges.waiting, tally.gauges.out, tally.crowd.sessions_lost), (1, 0, 0), "{name}");
        }
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let run = run(plan(&["hi"]), nobody, SOON);
        run.until(|tally| tally.crowd.losses.contains_key("unreachable")).await;
    }

    #[tokio::test]
    async fn answers_to_the_last_beats_are_waited_for() {
        let target = server(|_, _| Does::AnswersLate(Duration::from_millis(300))).await;
        let run = run(plan(&[]), target, SOON);
        run.until(|tally| tally.crowd.sent == 1).await;
        let tally = run.end().await;
        assert_eq!((tally.crowd.answered, tally.crowd.unanswered), (1, 0));
    }

    #[tokio::test]
    async fn a_newcomer_is_let_in_by_the_hello_or_by_a_first_beat() {
        for hello in [&["hi"][..], &[]] {
            let target = server(|_, _| Does::AnswersLate(Duration::from_millis(50))).await;
            let took = newcomer(plan(hello), target).await.unwrap();
            assert!(took >= Duration::from_millis(49), "{took:?}");
        }
        let refused = newcomer(plan(&["hi"]), server(|_, _| Does::Closes).await).await;
        assert_eq!(refused, Err("hello refused".to_owned()));
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert_eq!(newcomer(plan(&[]), nobody).await, Err("unreachable".to_owned()));
    }
}
