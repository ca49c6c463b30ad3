//! `stillhere storm`, against a small server played here.

mod started;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;
use stillhere_storm::plan::{Sought, file};

use crate::run::{Ended, Scratch, run};

/// The attacks, as they were promised.
const ATTACKS: [&str; 20] = [
    "garbage",
    "passwords",
    "churn",
    "sit",
    "slowloris",
    "lengths",
    "half-frames",
    "glued",
    "json-bombs",
    "beat-flood",
    "brute-force",
    "signal-flood",
    "say-flood",
    "join-flood",
    "slow-reader",
    "silent-death",
    "herd",
    "tls-flood",
    "ws-abuse",
    "hello-drop",
];

/// Sends every line back, on a thread for each link, until the test process ends.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let serve = |link: TcpStream| {
        let mut answers = link.try_clone().expect("a second handle");
        let mut lines = BufReader::new(link).split(b'\n').map_while(Result::ok);
        while let Some(line) = lines.next()
            && answers.write_all(&[&line[..], b"\n"].concat()).is_ok()
        {}
    };
    thread::spawn(move || listener.incoming().flatten().for_each(|link| drop(thread::spawn(move || serve(link)))));
    address
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

/// A plan of three seconds for whoever sends lines back.
fn plan(target: SocketAddr, thresholds: &str) -> String {
    format!(
        "thresholds = [{thresholds}]\n[target]\naddress = \"{target}\"\n[time]\nramp = \"300ms\"\nbefore = \"700ms\"\n\
         during = \"1500ms\"\nafter = \"500ms\"\n[crowd]\ncount = 5\ninterval = \"100ms\"\n[frame]\nlength = \"line\"\n\
         beat = {{ payload = 'ping ${{count}}', reply = '^ping' }}\n[[attack]]\nname = \"churn\"\ncount = 3\n"
    )
}

/// What holds on a machine that is too busy for attackers.
const CALM: &str = "\"links_lost = 0\"";
const HOLD: &str = "\"tries > 0\", \"missing = 0\", \"links_lost = 0\"";

/// Runs that plan; its folder is `out` in the scratch directory.
fn storm(scratch: &Scratch, out: &str, thresholds: &str) -> (Ended, String) {
    let file = scratch.file("echo.toml", &plan(echo(), thresholds));
    let out = format!("{}/{out}", scratch.path());
    (run(&["storm", &file, "--out", &out]), out)
}

fn text(folder: &str, name: &str) -> String {
    fs::read_to_string(Path::new(folder).join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn json(folder: &str, name: &str) -> Value {
    serde_json::from_str(&text(folder, name)).expect("JSON")
}

/// A running `stillhere storm`; killed when a test fails.
struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
    err: BufReader<ChildStderr>,
}

impl Running {
    fn start(args: &[&str]) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stillhere"));
        command.arg("storm").args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // As a shell on a terminal does it.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().expect("the binary starts");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let err = BufReader::new(child.stderr.take().expect("piped"));
        Running { child, out, err }
    }

    /// As ctrl-c does it.
    fn interrupt(&self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("it runs");
    }

    /// As a terminal does it, to all that run in it.
    fn signal_all(&self, signal: Signal) {
        kill_process_group(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Waits for its end.
    fn end(mut self) -> Ended {
        let (mut out, mut err) = (String::new(), String::new());
        self.out.read_to_string(&mut out).expect("UTF-8");
        self.err.read_to_string(&mut err).expect("UTF-8");
        Ended { code: self.child.wait().expect("ended").code().expect("not killed"), out, err }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already unless a test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `stillhere` with these arguments and that standard output.
fn run_into(out: impl Into<Stdio>, args: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stillhere"));
    let child = command.args(args).stdin(Stdio::null()).stdout(out).stderr(Stdio::piped()).spawn();
    // What is piped to nobody is closed here.
    drop(command);
    let ended = child.expect("the binary starts").wait_with_output().expect("it ends");
    let err = String::from_utf8(ended.stderr).expect("UTF-8");
    Ended { code: ended.status.code().expect("not killed"), out: String::new(), err }
}

/// A pipe whose reader has seen enough.
fn unread() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

/// Reads lines until one is as wanted.
fn line(from: &mut impl BufRead, wanted: impl Fn(&str) -> bool) -> String {
    let mut seen = Vec::new();
    for line in from.lines() {
        let line = line.expect("UTF-8");
        if wanted(&line) {
            return line;
        }
        seen.push(line);
    }
    panic!("never came: {seen:?}");
}

#[test]
fn the_list_has_all_attacks_and_says_what_each_does() {
    let list = run(&["storm", "--list", "--json"]).json();
    let attacks = list["attacks"].as_array().expect("a list");
    let names: Vec<&str> = attacks.iter().map(|attack| attack["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ATTACKS);
    assert!(attacks.iter().all(|attack| attack["about"].as_str().is_some_and(|about| about.contains("sound server"))));
    assert_eq!((&attacks[0]["any_server"], &attacks[9]["any_server"]), (&true.into(), &false.into()));
    let plans: BTreeSet<&str> =
        list["plans"].as_array().expect("a list").iter().filter_map(|plan| plan["name"].as_str()).collect();
    assert!(ATTACKS.iter().chain(&["calm", "chat", "mix", "rate", "withstand"]).all(|name| plans.contains(name)));

    let page = run(&["storm", "--list"]);
    assert_eq!(page.code, 0);
    for name in plans {
        assert!(page.out.lines().any(|line| line.trim().trim_end_matches('*') == name), "{name} in {}", page.out);
    }
}

#[test]
fn what_is_written_wrong_ends_with_1_and_what_to_write() {
    let scratch = Scratch::new();
    let bad = scratch.file("bad.toml", "seed = 1\n[crowd]\ncont = 5\ninterval = \"1\"\n");
    let odd = scratch.file("odd.toml", "[[attack]]\nname = \"grabage\"\n");
    let broken = scratch.file("broken.toml", "seed = 1\n[crowd\n");
    let full = scratch.path();
    let nobody = nobody().to_string();
    for (args, says) in [
        (&["grabage"][..], &["no plan `grabage`; did you mean `garbage`?", "--list"][..]),
        (&[&bad], &["bad.toml:3: `cont` is no key of [crowd]; did you mean `count`?", "bad.toml:4: `interval"]),
        (&[&odd], &["odd.toml:2: ", "did you mean \"garbage\"?"]),
        (&[&broken], &["broken.toml:2: `[crowd`: this is not TOML"]),
        (&["/nowhere/plan.toml"], &["/nowhere/plan.toml", "--list"]),
        (&[], &["which storm?", "stillhere storm calm"]),
        (&["garbage", "--for", "soon"], &["--for `soon`", "write whole numbers with units"]),
        (&["garbage", "--for", "2h"], &["--for 2h", "\"1h\""]),
        (&["garbage", "--count", "0"], &["--count `0`", "1 or more"]),
        (&["garbage", "--target", "here"], &["--target here", "HOST:PORT"]),
        (&["garbage", "--target", &nobody, "--out", &full], &["isn't empty", "--out"]),
    ] {
        let ended = run(&[&["storm"], args].concat());
        assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{ended:?}");
        for part in says {
            assert!(ended.err.contains(part), "{part}: {ended:?}");
        }
    }
}

#[test]
fn a_target_that_is_not_there_ends_with_2_and_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let (target, out) = (nobody().to_string(), format!("{}/out", scratch.path()));
    let ended = run(&["storm", "garbage", "--target", &target, "--out", &out]);
    assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{ended:?}");
    assert!(ended.err.contains(&format!("nobody answers at {target}")) && ended.err.contains("--target"), "{ended:?}");
    assert!(!Path::new(&out).exists(), "an empty folder is nothing to report");
}

#[test]
fn nobody_else_is_met_without_the_owners_consent() {
    let scratch = Scratch::new();
    let out = format!("{}/out", scratch.path());
    // An address for documentation: nobody is there, and nothing is sent to it.
    let far = |more: &[&str]| {
        let ended = run(&[&["storm", "garbage", "--target", "192.0.2.1:14000", "--out", &out], more].concat());
        assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{ended:?}");
        assert!(!Path::new(&out).exists());
        ended.err
    };
    let told = far(&[]);
    for part in ["192.0.2.1:14000 isn't this machine", "`stillhere storm consent`", "--consent", "--admin-token"] {
        assert!(told.contains(part), "{part} in {told}");
    }
    assert!(far(&["--consent", "guess"]).contains("as `stillhere storm consent` shows it"));
}

#[test]
fn doctor_tells_what_this_machine_can_do() {
    let seen = run(&["storm", "doctor", "--json"]).json();
    let (facts, conclusions) = (&seen["facts"], &seen["conclusions"]);
    assert!(facts["cores"].as_u64().is_some_and(|cores| cores >= 1), "{seen}");
    assert!(facts["connects_per_second"].as_f64().is_some_and(|rate| rate > 0.0), "{seen}");
    assert!(conclusions["attackers_max"].as_u64().is_some_and(|most| (1..=19_000).contains(&most)), "{seen}");
    assert!(conclusions["says"].as_array().is_some_and(|says| !says.is_empty()), "{seen}");
}

#[test]
fn a_run_leaves_files_that_report_makes_again() {
    let scratch = Scratch::new();
    let (ended, first) = storm(&scratch, "first", HOLD);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out.contains("passed") && ended.out.contains("first/report.html"), "{}", ended.out);
    assert!(ended.err.contains("storm `echo` against 127.0.0.1:"), "{}", ended.err);
    let summary = json(&first, "summary.json");
    assert_eq!((&summary["passed"], &summary["cut"], &summary["clients"]), (&true.into(), &Value::Null, &5.into()));
    assert!(summary["attacks"]["churn"]["tries"].as_u64().is_some_and(|tries| tries > 0), "{summary}");
    let kinds: Vec<String> = text(&first, "samples.jsonl")
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["kind"].as_str().expect("a kind").to_owned())
        .collect();
    assert_eq!((&*kinds[0], &*kinds[kinds.len() - 1]), ("run", "end"));
    assert!(kinds[1..kinds.len() - 1].iter().all(|kind| kind == "second"), "{kinds:?}");

    let page = text(&first, "report.html");
    fs::remove_file(Path::new(&first).join("report.html")).expect("removed");
    let again = run(&["storm", "report", &first, "--json"]);
    assert_eq!((again.code, &again.json()[0]), (0, &summary), "{}", again.err);
    assert_eq!(text(&first, "report.html"), page);

    // The file that a run has written means its folder.
    fs::remove_file(Path::new(&first).join("report.html")).expect("removed");
    for name in ["samples.jsonl", "summary.json"] {
        let again = run(&["storm", "report", &format!("{first}/{name}"), "--json"]);
        assert_eq!((again.code, &again.json()[0]), (0, &summary), "{}", again.err);
        assert_eq!(text(&first, "report.html"), page);
    }

    let (ended, second) = storm(&scratch, "second", "\"tries < 0.001\"");
    assert_eq!(ended.code, 3, "a threshold is broken: {ended:?}");
    assert!(ended.out.contains("tries < 0.001"), "{}", ended.out);
    let ended = run(&["storm", "report", &first, &second]);
    assert_eq!(ended.code, 0, "a report judges nobody: {ended:?}");
    assert!(ended.out.contains("first/comparison.html"), "{}", ended.out);
    let comparison = text(&first, "comparison.html");
    assert!(comparison.contains("first") && comparison.contains("second"));
    assert_eq!(text(&first, "report.html"), page, "a comparison leaves it alone");
}

#[test]
fn a_run_that_was_killed_is_reported_and_what_is_no_run_is_told() {
    let scratch = Scratch::new();
    let (_, out) = storm(&scratch, "out", HOLD);
    let samples = text(&out, "samples.jsonl");
    let whole: Vec<&str> = samples.lines().collect();
    // Killed in the middle of its last second.
    let torn = format!("{}\n{}", whole[..whole.len() - 2].join("\n"), &whole[whole.len() - 2][..50]);
    fs::write(Path::new(&out).join("samples.jsonl"), torn).expect("written");
    let ended = run(&["storm", "report", &out, "--json"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.err.contains("the last line in ") && ended.err.contains("was cut off"), "{}", ended.err);
    let summary = &ended.json()[0];
    assert_eq!((&summary["passed"], &summary["cut"]), (&false.into(), &"killed, or still under way".into()));

    let damaged = samples.replacen("\"kind\":\"second\"", "\"kind\":\"minute\"", 1);
    fs::write(Path::new(&out).join("samples.jsonl"), damaged).expect("written");
    let ended = run(&["storm", "report", &out]);
    assert!(ended.code == 1 && ended.err.contains("samples.jsonl: line 2"), "{ended:?}");
    let ended = run(&["storm", "report", &scratch.path()]);
    assert!(ended.code == 1 && ended.err.contains("name the folder that a run was written to"), "{ended:?}");
}

#[test]
fn ctrl_c_ends_a_run_in_good_order() {
    let scratch = Scratch::new();
    let file = scratch.file("echo.toml", &plan(echo(), HOLD));
    let out = format!("{}/out", scratch.path());
    let mut storm = Running::start(&[&file, "--for", "10m", "--out", &out]);
    line(&mut storm.err, |line| line.contains(" · during · "));
    storm.interrupt();
    let ended = storm.end();
    assert_eq!(ended.code, 3, "what was cut has not passed: {ended:?}");
    assert!(ended.err.contains("ending in good order"), "{}", ended.err);
    let summary = json(&out, "summary.json");
    assert_eq!((&summary["passed"], &summary["cut"]), (&false.into(), &"interrupted".into()));
    assert!(ended.out.contains("interrupted"), "{}", ended.out);
    assert!(text(&out, "report.html").ends_with("</html>"), "it is whole");
    let samples = text(&out, "samples.jsonl");
    assert!(samples.ends_with('\n') && samples.lines().last().is_some_and(|last| last.contains("\"kind\":\"end\"")));
}

#[test]
fn consent_shows_a_code_and_ends_when_it_is_withdrawn() {
    let listen = nobody().to_string();
    let port = listen.rsplit(':').next().expect("a port").to_owned();
    let mut consent = Running::start(&["consent", "--ports", "14000,14001", "--listen", &listen, "--for", "10m"]);
    let code = line(&mut consent.out, |line| line.starts_with("  ") && line.trim().len() == 23);
    assert!(code.trim().split('-').all(|part| part.len() == 5), "{code}");
    let how = line(&mut consent.out, |line| line.contains("--consent CODE"));
    assert!(how.ends_with(&format!("--target HOST:14000 --consent CODE --consent-port {port}")), "{how}");
    TcpStream::connect(&listen).expect("it listens");
    consent.interrupt();
    assert_eq!(consent.end().code, 0);
    TcpStream::connect(&listen).expect_err("nobody consents any more");

    let ended = run(&["storm", "consent", "--ports", "14000", "--listen", &listen, "--for", "30d"]);
    assert!(ended.code == 1 && ended.out.is_empty(), "{ended:?}");
}

#[test]
fn hostile_servers_are_listed_and_say_so_when_nobody_comes() {
    let list = run(&["storm", "serve-hostile", "--list"]);
    assert_eq!(list.code, 0);
    for name in ["flood", "stall", "half-answer", "lengths", "mute", "cut"] {
        assert!(list.out.lines().any(|line| line.split_whitespace().next() == Some(name)), "{name}: {}", list.out);
    }
    let ended = run(&["storm", "serve-hostile", "--do", "stall", "--for", "100ms", "--listen", "127.0.0.1:0"]);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.out.contains("stall") && ended.out.contains("obody"), "{}", ended.out);
    let ended = run(&["storm", "serve-hostile", "--do", "stal", "--listen", "127.0.0.1:0"]);
    assert!(ended.code == 1 && ended.err.contains("no behaviour `stal`; there are flood, stall"), "{ended:?}");
    let ended = run(&["storm", "serve-hostile", "--listen", "0.0.0.0:14100"]);
    assert!(ended.code == 1 && ended.err.contains("write 127.0.0.1:14100"), "{ended:?}");
}

#[test]
fn our_own_client_stands_a_server_that_says_nothing() {
    let args = ["serve-hostile", "--do", "mute", "--for", "4s", "--listen", "127.0.0.1:0", "--json"];
    let mut hostile = Running::start(&args);
    let row = line(&mut hostile.err, |line| line.ends_with(" mute"));
    let target = row.split_whitespace().next().expect("an address");
    let mut client = Command::new(env!("CARGO_BIN_EXE_stillhere"))
        .args(["beat", target, "--for", "10m"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let ended = hostile.end();
    let (pid, _) = (client.id(), (client.kill().expect("ours"), client.wait().expect("ours")));
    // Its patience is longer than that server's four seconds, so whether it gives up can't be told; all else holds.
    assert_eq!(ended.code, 2, "{ended:?}");
    let row = &ended.json()["rows"][0];
    assert_eq!((&row["behaviour"], &row["seen"]["pid"]), (&"mute".into(), &pid.into()), "{row}");
    assert_eq!(row["seen"]["connections"], 1, "{row}");
    let criteria = row["criteria"].as_array().expect("a list");
    assert!(criteria.iter().all(|criterion| criterion["holds"] != false), "{row}");
    for name in ["memory", "calm", "one-link"] {
        assert!(criteria.iter().any(|criterion| criterion["name"] == name && criterion["holds"] == true), "{row}");
    }
}

#[test]
fn a_target_that_the_storm_starts_is_told_of_when_it_cannot_be() {
    let scratch = Scratch::new();
    let started = |target: SocketAddr, command: &str| {
        let text = plan(target, HOLD).replace("[time]", &format!("command = [{command}]\nready = \"200ms\"\n[time]"));
        let out = format!("{}/out-{}", scratch.path(), target.port());
        let ended = run(&["storm", &scratch.file("started.toml", &text), "--out", &out]);
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{ended:?}");
        ended.err
    };
    assert!(started(echo(), "\"false\"").contains("something listens at 127.0.0.1:"));
    assert!(started(nobody(), "\"false\"").contains("the target `false` ended at once"));
    assert!(started(nobody(), "\"/nowhere/server\"").contains("can't start the target `/nowhere/server`"));
    let told = started(nobody(), "\"sleep\", \"60\"");
    assert!(told.contains("doesn't accept connections") && told.contains("{port}"), "{told}");
}

#[test]
fn the_tutorials_search_finds_how_many_attackers_its_server_withstands() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let path = format!("{root}/examples/tutorial/withstood.toml");
    let plan = file::read(Path::new(&path)).expect("a plan");
    let search = plan.search.as_ref().expect("a search");
    assert_eq!((&*plan.name, search.find, search.from, search.max), ("withstood", Sought::Attackers, 25, 3200));
    assert_eq!(plan.target.command[1..], ["examples/tutorial/chat_server.py", "--port", "{port}"]);

    if Command::new("python3").arg("--version").stdout(Stdio::null()).status().is_err() {
        return eprintln!("no python3: nothing more was tested");
    }
    // The same in a few seconds, and nothing about speed.
    let mut text = text(root, "examples/tutorial/withstood.toml");
    for (written, instead) in [
        ("    \"p99 < 500ms\",\n", ""),
        ("127.0.0.1:14100", &*nobody().to_string()),
        ("examples/tutorial/", &format!("{root}/examples/tutorial/")),
        (
            "ramp = \"5s\"\nbefore = \"5s\"\nduring = \"15s\"\nafter = \"5s\"",
            "ramp = \"500ms\"\nbefore = \"500ms\"\nduring = \"1500ms\"\nafter = \"500ms\"",
        ),
        ("count = 50", "count = 5"),
        ("count = 25", "count = 2"),
        ("from = 25\nmax = 3200", "from = 2\nmax = 4"),
    ] {
        assert_eq!(text.matches(written).count(), 1 + usize::from(written.starts_with("examples")), "{written}");
        text = text.replace(written, instead);
    }
    let scratch = Scratch::new();
    let out = format!("{}/out", scratch.path());
    let ended = run(&["storm", &scratch.file("withstood.toml", &text), "--out", &out, "--json"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let found = ended.json();
    assert_eq!((&found["held"], &found["broke"], &found["cut"]), (&4.into(), &Value::Null, &Value::Null), "{found}");
    let numbers: Vec<_> = found["trials"].as_array().expect("a list").iter().map(|trial| &trial["number"]).collect();
    assert_eq!(numbers, [2, 4]);
    assert_eq!(json(&out, "search.json"), found);
    for trial in ["trial-01", "trial-02"] {
        let folder = format!("{out}/{trial}");
        assert_eq!(json(&folder, "summary.json")["passed"], true);
        assert!(self::text(&folder, "target.log").starts_with("listening "), "the server was started for {trial}");
        assert_eq!(run(&["storm", "report", &folder]).code, 0);
    }
    let page = self::text(&out, "report.html");
    fs::remove_file(Path::new(&out).join("report.html")).expect("removed");
    let ended = run(&["storm", "report", &out]);
    assert_eq!((ended.code, self::text(&out, "report.html")), (0, page), "{ended:?}");
    assert_eq!(ended.out.lines().filter(|line| line.contains(" held ")).count(), 2, "{}", ended.out);
}

#[test]
fn arguments_that_make_no_sense_end_with_1_and_only_of_a_storm() {
    for args in [&["storm", "--nonsense"][..], &["storm", "doctor", "--nonsense"], &["storm", "report"]] {
        let ended = run(args);
        assert!(ended.code == 1 && ended.err.contains("Usage: stillhere storm"), "2 is for targets: {ended:?}");
    }
    for args in [&["storm", "--help"][..], &["storm", "report", "--help"], &["help", "storm"], &["--version"]] {
        let ended = run(args);
        assert!(ended.code == 0 && !ended.out.is_empty(), "{ended:?}");
    }
    assert_eq!(run(&["beat", "--nonsense"]).code, 2);
}

#[test]
fn a_verdict_does_not_depend_on_who_reads_it() {
    let scratch = Scratch::new();
    let args = |target: SocketAddr, thresholds: &str, out: &str| {
        let file = scratch.file(&format!("{out}.toml"), &plan(target, thresholds));
        ["storm", &file, "--out", &format!("{}/{out}", scratch.path())].map(str::to_owned)
    };
    let with = |out: Stdio, args: &[String]| run_into(out, &args.iter().map(String::as_str).collect::<Vec<_>>());
    let ended = with(unread(), &args(echo(), "\"links_lost > 1000\"", "broken"));
    assert_eq!(ended.code, 3, "{ended:?}");
    let ended = with(unread(), &args(echo(), CALM, "held"));
    assert_eq!(ended.code, 0, "{ended:?}");
    let hostile = ["storm", "serve-hostile", "--do", "mute", "--for", "100ms", "--listen", "127.0.0.1:0"];
    assert_eq!(run_into(unread(), &hostile).code, 2, "nobody came");

    if let Ok(full) = fs::File::options().write(true).open("/dev/full") {
        let ended = with(full.try_clone().expect("a handle").into(), &args(echo(), CALM, "full"));
        assert!(ended.code == 4 && ended.err.contains("can't write to standard output"), "{ended:?}");
        assert_eq!(run_into(full, &hostile).code, 4);
    }
}

#[test]
fn a_verdict_is_told_even_if_its_files_can_not_be_written() {
    let scratch = Scratch::new();
    let file = scratch.file("echo.toml", &plan(echo(), CALM));
    let out = format!("{}/out", scratch.path());
    let mut storm = Running::start(&[&file, "--out", &out]);
    line(&mut storm.err, |line| line.contains("storm `echo` against"));
    // Nothing can be written under this name any more.
    fs::create_dir(Path::new(&out).join("summary.json")).expect("made");
    let ended = storm.end();
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(ended.err.contains("can't write ") && ended.err.contains("out/summary.json"), "{}", ended.err);
    assert!(ended.out.contains("✓ links_lost = 0"), "{}", ended.out);
    assert!(!ended.out.contains("report.html") && text(&out, "report.html").ends_with("</html>"), "{}", ended.out);
}

#[test]
fn what_can_not_be_recorded_at_all_is_not_begun() {
    let scratch = Scratch::new();
    let file = scratch.file("echo.toml", &plan(echo(), HOLD));
    let out = format!("{}/out", scratch.path());
    // No byte of any file may be written, and whoever tries is told so.
    let script = "trap '' XFSZ; ulimit -f 0; exec \"$@\"";
    let ended = Command::new("sh")
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_stillhere"), "storm", &file, "--out", &out])
        .stdin(Stdio::null())
        .output()
        .expect("sh starts");
    let err = String::from_utf8(ended.stderr).expect("UTF-8");
    assert_eq!(ended.status.code(), Some(4), "{err}");
    assert!(err.contains("the run wasn't begun") && err.contains("samples.jsonl"), "{err}");
    assert!(!err.contains("goes on") && !err.contains("storm `echo` against"), "{err}");
    assert!(!Path::new(&out).exists(), "it can be tried again with the same --out");
}

#[test]
fn a_search_that_was_ended_early_has_not_passed() {
    let scratch = Scratch::new();
    let search = "[search]\nfind = \"attackers\"\nfrom = 1\nmax = 64\n";
    let file = scratch.file("echo.toml", &(plan(echo(), CALM) + search));
    let out = format!("{}/out", scratch.path());
    let mut storm = Running::start(&[&file, "--out", &out]);
    line(&mut storm.err, |line| line.contains(", trial 2"));
    storm.interrupt();
    let ended = storm.end();
    assert_eq!(ended.code, 3, "{ended:?}");
    let found = json(&out, "search.json");
    assert_eq!((&found["held"], &found["cut"]), (&1.into(), &"interrupted".into()), "{found}");
}
