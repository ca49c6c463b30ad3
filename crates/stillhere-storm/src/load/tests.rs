//! The load against small servers, good and bad ones.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio::time::interval;

use super::*;
use crate::frame::Decoder;
use crate::plan::{Exchange, Frame, Length, Target, Times};
use crate::sample::Spread;

const SOON: Duration = Duration::from_secs(30);
/// A step that lasts until nobody asks any more.
const REST: Duration = Duration::from_secs(3600);

fn plan(what: Asked, connections: u32, steps: &[(f64, f64, Duration)]) -> Plan {
    let steps = steps.iter().map(|&(from, to, lasts)| Step { from, to, lasts }).collect();
    let exchange = |payload: &str| Exchange { payload: payload.to_owned(), reply: Some("^re ".to_owned()) };
    let none = Duration::ZERO;
    Plan {
        name: "test".to_owned(),
        about: String::new(),
        target: Target { address: String::new(), metrics: None, pid: None, command: Vec::new(), ready: none },
        time: Times { ramp: none, before: none, during: none, after: none },
        crowd: None,
        attacks: Vec::new(),
        load: Some(plan::Load { what, connections, steps, closed: false }),
        search: None,
        frame: (what == Asked::Frame).then(|| Frame {
            length: Length::Line,
            includes_header: false,
            hello: vec![exchange("hello ${n}")],
            beat: exchange("${count}"),
            max: 1024,
        }),
        thresholds: Vec::new(),
        seed: 7,
    }
}

fn closed(mut plan: Plan) -> Plan {
    plan.load.as_mut().unwrap().closed = true;
    plan
}

/// A server of whatever `serve` does with a connection and its number.
async fn server<F: Future<Output = ()> + 'static>(serve: impl Fn(TcpStream, u32) -> F + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn_local(async move {
        for nth in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            spawn_local(serve(stream, nth));
        }
    });
    address
}

enum Does {
    Answers,
    Nothing,
    Closes,
}

/// Answers lines with `re` and the line, unless `decide` decides otherwise.
async fn echo(stream: TcpStream, mut decide: impl AsyncFnMut(&str) -> Does) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match decide(&line).await {
            Does::Answers if write.write_all(format!("re {line}\n").as_bytes()).await.is_ok() => {}
            Does::Nothing => {}
            Does::Answers | Does::Closes => return,
        }
    }
}

/// A gateway, as far as the load needs one: names need an account, every tenth `say` is too much, and the first beat is
/// answered with a question. It notes what it was told.
async fn gateway(mut stream: TcpStream, told: Rc<RefCell<Vec<Value>>>) {
    let (mut decoder, mut has_account, mut bytes) = (Decoder::new(v1::FRAMING), false, [0; 4096]);
    loop {
        let mut out = Vec::new();
        while let Some(body) = decoder.next_body().unwrap() {
            let asked = if body.is_empty() { Value::Null } else { serde_json::from_slice(body).unwrap() };
            told.borrow_mut().push(asked.clone());
            let (op, id) = (asked["op"].as_str().unwrap_or_default(), &asked["id"]);
            let say = |value: Value, out: &mut Vec<u8>| v1::FRAMING.write(value.to_string().as_bytes(), out);
            let refuse = |code: u16| json!({"op":"error","re":id,"code":code,"retry_ms":10});
            match op {
                "hello" => say(json!({"op":"welcome","re":id,"beat":{"interval_ms":1000}}), &mut out),
                "join" if !has_account => say(refuse(1103), &mut out),
                "register" => say(refuse(1106), &mut out),
                "say" if id.as_u64().unwrap() % 10 == 9 => say(refuse(1203), &mut out),
                "say" => {
                    say(json!({"op":"message","room":"r","seq":1,"text":"push"}), &mut out);
                    say(json!({"op":"ok","re":id,"seq":1}), &mut out);
                }
                "beat" if asked["t"].is_u64() => {
                    if asked["t"].as_u64().unwrap() < 4 {
                        say(json!({"op":"beat","id":17,"now":true}), &mut out);
                    }
                    say(json!({"op":"beat","t":asked["t"],"detect_ms":5000}), &mut out);
                }
                "bye" => return,
                _ if asked.is_null() => {}
                _ => {
                    has_account |= op == "login";
                    say(json!({"op":"ok","re":id}), &mut out);
                }
            }
        }
        stream.write_all(&out).await.unwrap();
        match stream.read(&mut bytes).await {
            Ok(count @ 1..) => decoder.feed(&bytes[..count]),
            _ => return,
        }
    }
}

async fn pause(time: Duration) {
    let _ = timeout(time, std::future::pending::<()>()).await;
}

struct Run {
    phase: watch::Sender<Option<Phase>>,
    tally: Arc<Mutex<Tally>>,
    load: tokio::task::JoinHandle<()>,
    began: Instant,
}

/// Begins a load, straight with the attack.
fn start(plan: Plan, target: SocketAddr) -> Run {
    let (phase, seen) = watch::channel(Some(Phase::During));
    let tally = Arc::new(Mutex::new(Tally::default()));
    let load = spawn_local(run(Arc::new(plan), target, seen, tally.clone()));
    Run { phase, tally, load, began: Instant::now() }
}

impl Run {
    fn seen(&self) -> LoadSecond {
        self.tally.lock().unwrap().load.clone().unwrap_or_default()
    }

    /// Waits until it counts so.
    async fn until(&self, wanted: impl Fn(&LoadSecond) -> bool) -> LoadSecond {
        let mut looks = interval(Duration::from_millis(2));
        let counted = timeout(SOON, async {
            while !wanted(&self.seen()) {
                looks.tick().await;
            }
        });
        assert!(counted.await.is_ok(), "{:?}", self.seen());
        self.seen()
    }

    /// Ends the attack, and the run when nothing more can come.
    async fn end(self) -> LoadSecond {
        self.phase.send(Some(Phase::After)).unwrap();
        pause(3 * LAST_SENDS).await;
        let settled = async {
            let mut looks = interval(Duration::from_millis(2));
            while self.seen().open > 0 {
                looks.tick().await;
            }
        };
        let _ = timeout(LAST_ANSWERS, settled).await;
        self.phase.send(None).unwrap();
        timeout(SOON, self.load).await.unwrap().unwrap();
        self.tally.lock().unwrap().load.take().unwrap()
    }
}

async fn local(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn what_is_due_keeps_to_the_schedule() {
    local(async {
        let steps =
            [(100.0, 500.0, Duration::from_millis(400)), (500.0, 500.0, Duration::from_secs(1)), (0.0, 0.0, REST)];
        let plan = plan(Asked::Frame, 7, &steps);
        let schedule = Schedule::new(plan.load.as_ref().unwrap().steps.clone());
        let run = start(plan, server(answers).await);
        let mut looks = interval(Duration::from_millis(10));
        while run.seen().due < 620 {
            looks.tick().await;
            let (due, elapsed) = (run.seen().due, run.began.elapsed());
            assert!(due <= schedule.count(elapsed) + 1, "{due} are due after {elapsed:?}");
            assert!(elapsed < SOON, "{due} are due");
        }
        run.until(|load| load.answered == 620).await;
        let load = run.end().await;
        assert_eq!((load.due, load.sent, load.open, load.failed), (620, 620, 0, 0));
        assert_eq!((load.latency_us.count(), load.losses.len()), (620, 0));
    })
    .await;
}

/// What a server did that answers nothing for half a second while a hundred a second are asked, for two seconds.
async fn stalled(closed_loop: bool) -> Spread {
    let steps = [(100.0, 100.0, Duration::from_secs(2)), (0.0, 0.0, REST)];
    let mut plan = plan(Asked::Frame, 1, &steps);
    if closed_loop {
        plan = closed(plan);
    }
    let target = server(|stream, _| {
        echo(stream, async |line| {
            if line == "51" {
                pause(Duration::from_millis(500)).await;
            }
            Does::Answers
        })
    });
    let run = start(plan, target.await);
    run.until(|load| load.answered == 200).await.latency_us
}

fn above(latencies: &Spread, least_us: u64) -> u64 {
    latencies.iter().filter(|(value, _)| *value >= least_us).map(|(_, count)| count).sum()
}

#[tokio::test]
async fn a_stall_is_seen_by_all_requests_that_were_due_in_it() {
    local(async {
        let latencies = stalled(false).await;
        // Fifty were due in it, evenly: of the latencies up to half a second some 40 are above 100 ms, 25 above 250.
        let longest = latencies.max().unwrap();
        assert!((495_000..700_000).contains(&longest), "{longest}");
        let counts = [100_000, 250_000, 400_000].map(|least| above(&latencies, least));
        for (count, wanted) in counts.into_iter().zip([40, 25, 10]) {
            assert!(count.abs_diff(wanted) <= 8, "{counts:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn closed_a_stall_is_seen_by_one() {
    local(async {
        let latencies = stalled(true).await;
        assert!((1..=3).contains(&above(&latencies, 100_000)), "{latencies:?}");
    })
    .await;
}

#[tokio::test]
async fn closed_a_connection_asks_one_thing_at_a_time() {
    local(async {
        let most = Rc::new(Cell::new(0));
        let seen = most.clone();
        let target = server(move |mut stream, _| {
            let seen = seen.clone();
            async move {
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                    let lines = bytes[..count].iter().filter(|&&byte| byte == b'\n').count();
                    seen.set(seen.get().max(lines));
                    pause(Duration::from_millis(5)).await;
                    stream.write_all(&b"re it\n".repeat(lines)).await.unwrap();
                }
            }
        });
        let run = start(closed(plan(Asked::Frame, 2, &[(5000.0, 5000.0, REST)])), target.await);
        run.until(|load| load.answered >= 50).await;
        assert_eq!(most.get(), 1);
    })
    .await;
}

#[tokio::test]
async fn what_the_storm_sends_late_counts_from_when_it_was_due() {
    local(async {
        let run = start(plan(Asked::Frame, 2, &[(100.0, 100.0, REST)]), server(answers).await);
        run.until(|load| load.answered >= 3).await;
        // Nothing runs on this thread for a while.
        let (_open, nothing) = std::sync::mpsc::channel::<()>();
        assert!(nothing.recv_timeout(Duration::from_millis(400)).is_err());
        let latencies = run.until(|load| load.answered >= 43).await.latency_us;
        assert!(latencies.max() >= Some(380_000) && above(&latencies, 200_000) >= 18, "{latencies:?}");
    })
    .await;
}

#[tokio::test]
async fn whoever_waits_for_a_free_connection_waits_since_it_was_due() {
    local(async {
        let target = server(async |stream, _| {
            let decide = async |_: &str| {
                pause(Duration::from_millis(100)).await;
                Does::Answers
            };
            echo(stream, decide).await;
        });
        // Two at a time take 100 ms each: of twenty that are due at once the last two wait for a second.
        let steps = [(2000.0, 2000.0, Duration::from_millis(10)), (0.0, 0.0, REST)];
        let greeted = Plan { frame: plan(Asked::Frame, 2, &steps).frame, ..plan(Asked::Connect, 2, &steps) };
        let load = start(greeted, target.await).until(|load| load.answered == 20).await;
        let (shortest, longest) = (load.latency_us.quantile(0.0), load.latency_us.max());
        assert!(shortest < Some(400_000) && longest >= Some(985_000), "{shortest:?} {longest:?}");
    })
    .await;
}

#[tokio::test]
async fn a_lost_connection_fails_what_was_under_way_and_is_opened_again() {
    local(async {
        // The first connection answers nothing, and is gone at the tenth line.
        let target = server(async |stream, nth| {
            let mut lines = 0;
            let decide = async |line: &str| {
                lines += 1;
                match lines {
                    _ if nth > 0 || line.starts_with("hello") => Does::Answers,
                    11 => Does::Closes,
                    _ => Does::Nothing,
                }
            };
            echo(stream, decide).await;
        });
        let steps = [(100.0, 100.0, Duration::from_millis(600)), (0.0, 0.0, REST)];
        let run = start(plan(Asked::Frame, 1, &steps), target.await);
        run.until(|load| load.due == 60 && load.open == 0).await;
        let load = run.end().await;
        assert_eq!((load.answered + load.failed, load.sent, load.open), (60, 60, 0));
        assert!(load.failed >= 10, "{load:?}");
        assert_eq!(load.losses, [("disconnected".to_owned(), 1)].into());
    })
    .await;
}

#[tokio::test]
async fn whoever_never_answers_gets_a_bounded_number_of_requests_and_the_rest_stay_open() {
    local(async {
        let target = server(async |stream, _| {
            let decide = async |line: &str| if line.starts_with("hello") { Does::Answers } else { Does::Nothing };
            echo(stream, decide).await;
        });
        let steps = [(5000.0, 5000.0, Duration::from_millis(500)), (0.0, 0.0, REST)];
        let run = start(plan(Asked::Frame, 2, &steps), target.await);
        run.until(|load| load.due == 2500).await;
        let load = run.end().await;
        assert_eq!((load.due, load.sent, load.answered, load.failed, load.open), (2500, 2000, 0, 0, 2500));
    })
    .await;
}

#[tokio::test]
async fn nothing_more_is_sent_when_the_attack_is_over() {
    local(async {
        let run = start(plan(Asked::Frame, 3, &[(1000.0, 1000.0, REST)]), server(answers).await);
        run.until(|load| load.answered >= 300).await;
        let load = run.end().await;
        assert!(load.due < 1000, "{load:?}");
        assert_eq!((load.sent, load.answered, load.open, load.failed), (load.due, load.due, 0, 0));
    })
    .await;
}

async fn answers(stream: TcpStream, _nth: u32) {
    echo(stream, async |_| Does::Answers).await;
}

/// What a gateway was told, and what was counted, after so many requests.
async fn asked(plan: Plan, count: u64) -> (Vec<Value>, LoadSecond) {
    let told = Rc::new(RefCell::new(Vec::new()));
    let notes = told.clone();
    let run = start(plan, server(move |stream, _| gateway(stream, notes.clone())).await);
    run.until(|load| load.answered + load.failed == count).await;
    let load = run.end().await;
    assert_eq!((load.due, load.sent, load.open), (count, count, 0), "{load:?}");
    (told.take(), load)
}

fn of<'a>(told: &'a [Value], op: &str) -> Vec<&'a Value> {
    told.iter().filter(|asked| asked["op"] == op).collect()
}

const THREE_HUNDRED: [(f64, f64, Duration); 2] = [(300.0, 300.0, Duration::from_secs(1)), (0.0, 0.0, REST)];

#[tokio::test]
async fn beats_are_told_apart_and_the_gateways_questions_answered() {
    local(async {
        let (told, load) = asked(plan(Asked::Beat, 4, &THREE_HUNDRED), 300).await;
        let mut numbers: Vec<_> = told.iter().filter_map(|asked| asked["t"].as_u64()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..300).collect::<Vec<_>>());
        assert_eq!(of(&told, "beat").iter().filter(|asked| asked["re"] == 17).count(), 4);
        assert_eq!((of(&told, "hello").len(), of(&told, "bye").len()), (4, 4));
        assert_eq!((load.answered, load.losses.len()), (300, 0));
    })
    .await;
}

#[tokio::test]
async fn messages_have_an_account_a_room_and_a_mid_and_refusals_count() {
    local(async {
        for plan in [plan(Asked::Say, 12, &THREE_HUNDRED), closed(plan(Asked::Say, 12, &THREE_HUNDRED))] {
            let (told, load) = asked(plan, 300).await;
            assert_eq!((load.answered, load.failed), (270, 30));
            assert_eq!(load.losses, [("error 1203".to_owned(), 30)].into());
            let set = |key: &str| of(&told, "say").iter().map(|asked| asked[key].to_string()).collect::<BTreeSet<_>>();
            assert_eq!((set("mid").len(), set("room").len()), (300, 10));
            assert!(of(&told, "say").iter().any(|asked| asked["ack"].as_u64() > Some(10)));
            let users: BTreeSet<_> = of(&told, "register").iter().map(|asked| asked["user"].to_string()).collect();
            assert_eq!((users.len(), of(&told, "join").len(), of(&told, "bye").len()), (12, 24, 12));
        }
    })
    .await;
}

#[tokio::test]
async fn each_request_for_a_welcome_is_a_connection_that_goes_again() {
    local(async {
        let (told, load) = asked(plan(Asked::Connect, 8, &THREE_HUNDRED), 300).await;
        assert_eq!((of(&told, "hello").len(), of(&told, "bye").len(), load.answered), (300, 300, 300));
    })
    .await;
}

#[tokio::test]
async fn whoever_asks_rarely_shows_that_it_lives() {
    local(async {
        let told = Rc::new(RefCell::new(Vec::new()));
        let notes = told.clone();
        let _run = start(
            plan(Asked::Beat, 1, &[(0.0, 0.0, REST)]),
            server(move |stream, _| gateway(stream, notes.clone())).await,
        );
        let lives = async {
            let mut looks = interval(Duration::from_millis(5));
            while !told.borrow().contains(&Value::Null) {
                looks.tick().await;
            }
        };
        timeout(SOON, lives).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_goodbye_of_the_gateway_is_told_by_its_code() {
    local(async {
        let target = server(async |mut stream, _| {
            let _ = stream.read(&mut [0; 512]).await;
            let mut out = Vec::new();
            v1::FRAMING.write(br#"{"op":"bye","code":4006,"reason":"too fast","retry_ms":10}"#, &mut out);
            let _ = stream.write_all(&out).await;
        });
        let run = start(plan(Asked::Beat, 1, &[(1.0, 1.0, REST)]), target.await);
        run.until(|load| load.losses.contains_key("closed 4006")).await;
    })
    .await;
}
