//! `stillhere chat --plain`, against a small server played here: it knows register, login, join, say, history and who.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

use crate::run::{Scratch, run_with};

/// What the server keeps; its only room is whichever one names.
#[derive(Default)]
struct Kept {
    passwords: HashMap<String, String>,
    said: Vec<Value>,
}

fn serve(kept: &Mutex<Kept>, mut link: TcpStream) {
    let mut me = String::new();
    while let Some(said) = read(&mut link) {
        let mut kept = kept.lock().unwrap();
        let (op, id) = (said["op"].as_str().unwrap(), &said["id"]);
        let text = |field: &str| said[field].as_str().unwrap_or_default().to_owned();
        let refuse = |code: u16| json!({"op": "error", "re": id, "code": code, "name": "n", "message": "no\u{1b}", "temporary": false});
        let answer = match op {
            "hello" => json!({
                "op": "welcome", "session": "s", "gen": 1, "resumed": false,
                "beat": {"interval_ms": 10_000, "min_ms": 1000, "detect_ms": 65_000, "leave_hold_ms": 1_800_000},
                "resume": {"secret": "x", "window_ms": 120_000},
                "limits": {"frame_bytes": 65_536, "frames_per_second": 1000}, "node": "n", "time_ms": 1,
            }),
            "beat" => json!({"op": "beat", "t": said["t"], "detect_ms": 65_000}),
            "register" => {
                me = text("user");
                kept.passwords.insert(me.clone(), text("password"));
                json!({"op": "ok", "re": id, "user": me, "token": format!("token-of-{me}")})
            }
            "login" if kept.passwords.get(&text("user")) != Some(&text("password")) => refuse(1105),
            "login" => {
                me = text("user");
                json!({"op": "ok", "re": id, "user": me})
            }
            "token" => {
                me = text("token").strip_prefix("token-of-").unwrap().to_owned();
                json!({"op": "ok", "re": id, "user": me})
            }
            "join" => json!({"op": "ok", "re": id, "room": said["room"], "head": kept.said.len(), "members": 1}),
            "say" => {
                let seq = kept.said.len() + 1;
                let message = json!({"room": said["room"], "seq": seq, "from": me, "text": said["text"], "time_ms": 1});
                kept.said.push(message);
                json!({"op": "ok", "re": id, "seq": seq, "time_ms": 1})
            }
            "history" => {
                let mut messages = kept.said.clone();
                messages.iter_mut().for_each(|message| drop(message.as_object_mut().unwrap().remove("room")));
                json!({"op": "ok", "re": id, "messages": messages})
            }
            "bye" => return,
            _ => refuse(1001),
        };
        drop(kept);
        write(&mut link, &answer);
    }
}

fn read(link: &mut TcpStream) -> Option<Value> {
    let mut length = [0; 4];
    link.read_exact(&mut length).ok()?;
    let mut body = vec![0; u32::from_be_bytes(length) as usize];
    link.read_exact(&mut body).ok()?;
    Some(serde_json::from_slice(&body).expect("JSON"))
}

fn write(link: &mut TcpStream, body: &Value) {
    let body = body.to_string();
    link.write_all(&(body.len() as u32).to_be_bytes()).and_then(|()| link.write_all(body.as_bytes())).expect("written");
}

/// A server that runs as long as the test.
fn server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let kept = Arc::new(Mutex::new(Kept::default()));
    thread::spawn(move || {
        for link in listener.incoming() {
            let kept = kept.clone();
            thread::spawn(move || serve(&kept, link.expect("a link")));
        }
    });
    address
}

const PASSWORD: &[(&str, &str)] = &[("STILLHERE_PASSWORD", "correct horse")];

#[test]
fn what_is_piped_in_is_said_and_the_next_run_finds_it() {
    let (server, scratch) = (server(), Scratch::new());
    let token = format!("{}/token", scratch.path());
    let chat = ["chat", &server, "--plain", "--room", "builds"];
    let first = [&chat[..], &["--user", "bot", "--register", "--token-file", &token]].concat();
    let ended = run_with(&first, PASSWORD, "build is green\nan \u{1b}[31mescape\n");
    assert_eq!((ended.code, &*ended.err), (0, ""), "{ended:?}");
    assert!(ended.out.ends_with("builds <*> joined, 1 here\n"), "{ended:?}");

    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&token).expect("a token is kept").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let second = [&chat[..], &["--token-file", &token]].concat();
    let ended = run_with(&second, &[], "/search green\n/quit\nnever said\n");
    assert_eq!(ended.code, 0, "{ended:?}");
    let lines: Vec<&str> = ended.out.lines().map(|line| line.split_once(' ').expect("a time").1).collect();
    assert_eq!(lines[1..], ["builds <bot> build is green", r"builds <bot> an \u{1b}[31mescape"]);
}

#[test]
fn the_exit_code_says_what_happened() {
    let server = server();
    let nobody =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").to_string();
    let login = ["chat", &server, "--plain", "--user", "ada"];
    let register = [&login[..], &["--register"]].concat();
    let unreached = ["chat", &nobody, "--plain", "--user", "ada"];
    for (args, env, input, code, said) in [
        (&login[..], PASSWORD, "", 3, r"not logged in: no\u{1b} (1105)"),
        (&register, PASSWORD, "/who\n", 4, "1001"),
        (&unreached, PASSWORD, "", 2, "stillhere serve --listen"),
        (&login, &[], "", 1, "STILLHERE_PASSWORD"),
        (&["chat", &server, "--plain"], PASSWORD, "", 1, "--user NAME"),
        (&["chat", &server], PASSWORD, "", 1, "--plain"),
    ] {
        let ended = run_with(args, env, input);
        assert_eq!(ended.code, code, "{args:?}: {ended:?}");
        assert!(ended.err.contains(said) && !ended.err.contains('\u{1b}'), "{args:?}: {ended:?}");
    }
}
