//! `stillhere beat`, against the tutorial's own server and against one played here.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;

use serde_json::{Value, json};

use crate::run::run;

/// A Python script of the tutorial's folder; `None` without python3.
fn tutorial(script: &str, args: &[&str]) -> Option<Child> {
    let path = format!("{}/tests/tutorial/{script}", env!("CARGO_MANIFEST_DIR"));
    Command::new("python3").arg(path).args(args).stdout(Stdio::piped()).spawn().ok()
}

/// The tutorial's server, running until it is dropped.
struct TutorialServer {
    process: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    port: String,
}

impl TutorialServer {
    fn start() -> Option<TutorialServer> {
        let mut process = tutorial("server.py", &[])?;
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let first = lines.next().expect("it says where it listens").expect("text");
        let port = first.strip_prefix("listening ").expect("its first line").to_owned();
        Some(TutorialServer { process, lines, port })
    }

    /// What it prints until `links` clients are gone.
    fn lines_until_gone(&mut self, links: usize) -> Vec<String> {
        let (mut lines, mut gone) = (vec![], 0);
        while gone < links {
            let line = self.lines.next().expect("the server goes on").expect("text");
            gone += usize::from(line.starts_with("gone "));
            lines.push(line);
        }
        lines
    }
}

impl Drop for TutorialServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn legacy_beats_are_understood_by_the_tutorials_own_server() {
    let Some(mut server) = TutorialServer::start() else { return eprintln!("no python3: nothing was tested") };
    let target = format!("127.0.0.1:{}", server.port);
    let ended = run(&["beat", &target, "--legacy", "--count", "2", "--interval", "500ms", "--for", "2s", "--json"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let report = ended.json();
    let lines = server.lines_until_gone(2);
    let beats: Vec<&String> = lines.iter().filter(|line| line.starts_with("beat ")).collect();
    assert_eq!(report["beats"], json!({"sent": beats.len(), "answered": 0}), "{lines:?}");
    assert!((8..=10).contains(&beats.len()), "at 0, 0.5, 1, 1.5 and perhaps 2 s: {lines:?}");
    assert!(beats.iter().all(|beat| beat.contains(r#"{"ip": "127.0.0.1", "status": "alive", "pid": "#)), "{lines:?}");
    assert!(!lines.iter().any(|line| line.starts_with("error ")), "{lines:?}");
    assert_eq!(
        (&report["mode"], &report["links"]["opened"], &report["rtt_us"]),
        (&json!("legacy"), &json!(2), &Value::Null)
    );
}

#[test]
fn the_tutorials_client_sends_the_bytes_that_we_call_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port().to_string();
    let Some(mut client) = tutorial("client.py", &["127.0.0.1", &port, "0.01", "3"]) else {
        return eprintln!("no python3: nothing was tested");
    };
    let mut sent = Vec::new();
    listener.accept().expect("it connects").0.read_to_end(&mut sent).expect("it closes");
    client.wait().expect("it ends");
    let body = format!(r#""{{\"ip\": \"127.0.0.1\", \"status\": \"alive\", \"pid\": {}}}""#, client.id());
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(body.as_bytes());
    assert_eq!(sent, frame.repeat(3));
}

/// A gateway played by one thread a link, which answers each op with what `answer` says.
fn gateway(answer: fn(&Value) -> Value) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    // It ends with the test process.
    thread::spawn(move || {
        for link in listener.incoming().flatten() {
            thread::spawn(move || serve(link, answer));
        }
    });
    address
}

fn serve(mut link: TcpStream, answer: fn(&Value) -> Value) {
    let mut header = [0; 4];
    while link.read_exact(&mut header).is_ok() {
        let mut body = vec![0; u32::from_be_bytes(header) as usize];
        link.read_exact(&mut body).expect("a whole frame");
        let said: Value = serde_json::from_slice(&body).expect("JSON");
        if said["op"] == "bye" {
            return;
        }
        let answer = answer(&said).to_string();
        let mut frame = (answer.len() as u32).to_be_bytes().to_vec();
        frame.extend_from_slice(answer.as_bytes());
        if link.write_all(&frame).is_err() {
            return;
        }
    }
}

fn honest(said: &Value) -> Value {
    if said["op"] == "beat" {
        return json!({"op": "beat", "t": said["t"], "detect_ms": 6500});
    }
    assert_eq!((&said["op"], &said["user"], &said["interval_ms"]), (&json!("hello"), &json!("ada"), &json!(1000)));
    json!({
        "op": "welcome", "session": "s", "gen": 1, "resumed": false, "node": "n", "time_ms": 1,
        "beat": {"interval_ms": 1000, "min_ms": 1000, "detect_ms": 6500, "leave_hold_ms": 1_800_000},
        "resume": {"secret": "x", "window_ms": 120_000}, "limits": {"frame_bytes": 65_536, "frames_per_second": 0},
    })
}

#[test]
fn clients_arrive_at_their_ramp_and_the_summary_adds_up() {
    let target = gateway(honest).to_string();
    let args = ["--count", "5", "--ramp", "10/1s", "--interval", "1s", "--for", "2500ms", "--user", "ada"];
    let ended = run(&[&["beat", &target][..], &args, &["--json"]].concat());
    assert_eq!(ended.code, 0, "{ended:?}");
    let report = ended.json();
    let whole = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("a number in {report}"));
    assert_eq!(report["links"], json!({"opened": 5, "reconnects": 0, "zombies": 0}));
    // Each has at least 2.1 s: a first beat within 1 s, and the next after 1.1 s at most.
    let (sent, answered) = (whole(&report["beats"]["sent"]), whole(&report["beats"]["answered"]));
    assert!((5..=15).contains(&answered) && sent >= answered, "{report}");
    assert!(whole(&report["rtt_us"]["p50"]) <= whole(&report["rtt_us"]["max"]), "{report}");
    assert_eq!((&report["closes"], &report["errors"]), (&json!([]), &json!([])));
}

#[test]
fn people_get_the_summary_as_text() {
    let target = gateway(honest).to_string();
    let ended = run(&["beat", &target, "--interval", "1s", "--for", "1500ms", "--user", "ada"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    for part in ["1 v1 client at 127.0.0.1:", "1 opened, 0 reconnects, 0 zombies", "answered", "p50", "p99.9"] {
        assert!(ended.out.contains(part), "{part}: {}", ended.out);
    }
}

#[test]
fn a_target_that_is_not_there_ends_the_run_with_2_and_advice() {
    let port = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").port();
    let target = format!("127.0.0.1:{port}");
    for mode in [&["--legacy"][..], &[]] {
        let ended = run(&[&["beat", &target][..], mode].concat());
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.err.contains("refused") && ended.err.contains("stillhere serve"), "{ended:?}");
    }
    let ended = run(&["beat", "no-such-host.invalid:14000"]);
    assert_eq!((ended.code, ended.err.contains("check its name")), (2, true), "{ended:?}");
}

#[test]
fn a_gateway_that_turns_everyone_away_is_told_apart_from_none() {
    let target = gateway(|_| json!({"op": "bye", "code": 4501, "reason": "banned"})).to_string();
    let ended = run(&["beat", &target, "--count", "2", "--json"]);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.err.contains("turned every client away (closed with 4501: banned)"), "{ended:?}");
    let close = json!([{"code": 4501, "name": "banned", "reason": "banned", "count": 2}]);
    assert_eq!(ended.json()["closes"], close);
}

#[test]
fn bad_arguments_end_with_1_and_say_what_to_write() {
    for (args, says) in [
        (&["localhost"][..], "write HOST:PORT"),
        (&["127.0.0.1:1", "--ramp", "1 per 10"], "1/10s (one client every ten seconds)"),
        (&["127.0.0.1:1", "--for", "soon"], "write a number and a unit"),
        (&["127.0.0.1:1", "--interval", "1ms"], "1s to 10m"),
        (&["127.0.0.1:1", "--count", "many"], "1 or more"),
        (&["127.0.0.1:1", "--count", "4294967295"], "use at most"),
    ] {
        let ended = run(&[&["beat"], args].concat());
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(ended.err.contains(says) && ended.out.is_empty(), "{ended:?}");
    }
}
