//! WebSocket on the clients' port: what browsers do, and what they would never do.

use std::io::Write;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame};
use tungstenite::{Message, Utf8Bytes};

use crate::bystanders::Bystanders;
use crate::carrier::{Carrier, Certs, Over, connect, read_to_end};
use crate::gateway::{Gateway, Setup};
use crate::peer::{AT_ONCE, TUTORIAL};
use crate::trial::Trial;

/// A browser's request with one line replaced or left out (`""`).
fn request(line: &str, by: &str) -> String {
    let lines = [
        "GET /ws HTTP/1.1",
        "Host: 127.0.0.1:14000",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Origin: http://127.0.0.1:8080",
    ];
    let lines = lines.iter().map(|known| if known.starts_with(line) { by } else { known });
    lines.filter(|line| !line.is_empty()).map(|line| format!("{line}\r\n")).collect::<String>() + "\r\n"
}

/// A client's frame with a mask of its own, whatever its first byte says.
fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut frame = vec![first];
    match body.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(body.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

#[test]
fn beats_pass_over_websockets_with_and_without_tls() {
    let certs = Certs::make();
    let gateway = certs.settings().iter().fold(Setup::new(), |setup, (key, value)| setup.set(key, value)).start();
    let mut bystanders = Bystanders::join(&gateway);
    for (count, over) in [Over::Ws, Over::Wss].into_iter().enumerate() {
        let mut link = Carrier::open(&gateway, over, &certs.client());
        assert_eq!(link.hello(json!({"client": "browser"}))["op"], "welcome");
        for t in 0..50 {
            link.beat(t);
        }
        let row = gateway.session(link.address).expect("listed");
        assert_eq!((&row["transport"], &row["beats"]), (&json!(over.name()), &json!(50)), "{row}");
        assert_eq!(gateway.metric("links", &format!("\"{}\"", over.name())), 1);
        link.say(&json!({"op": "bye"}));
        assert_eq!(link.read_close_code(), 1000);
        gateway.wait_for_metric("closes_total", "\"none\"", count as u64 + 1);
    }
    bystanders.expect_unharmed(&gateway);
}

#[test]
fn the_tutorials_client_may_use_a_websocket_and_hears_nothing_but_its_own_frames() {
    let gateway = Gateway::start(&[]);
    let mut link = Carrier::web(&gateway);
    link.send(TUTORIAL);
    let row = gateway.wait_for_session(link.address, |row| row["mode"] == "legacy");
    assert_eq!((&row["transport"], &row["bytes_out"]), (&json!("ws"), &json!(0)), "{row}");
    gateway.post("/api/v1/kick", &json!({"peer": link.address.to_string()}));
    assert_eq!(link.read_close_code(), 4504);
}

#[test]
fn each_wrong_request_gets_its_status_and_is_counted() {
    let mut trial = Trial::begin(&[("listen.origins", "https://friend.example")]);
    let cookie = format!("Cookie: {}", "x".repeat(9 * 1024));
    let cases = [
        (request("GET", "GET / HTTP/1.1"), "404", "path"),
        (request("GET", "GET /ws HTTP/1.0"), "400", "http"),
        (request("Host", ""), "400", "http"),
        (request("Host", "Host"), "400", "http"),
        (request("Upgrade", ""), "426", "upgrade"),
        (request("Sec-WebSocket-Version", "Sec-WebSocket-Version: 7"), "426", "upgrade"),
        (request("Sec-WebSocket-Key", ""), "400", "upgrade"),
        (request("Origin", "Origin: https://evil.example"), "403", "origin"),
        (request("Origin", "Origin: null"), "403", "origin"),
        (request("Origin", &cookie), "431", "http"),
    ];
    for (request, status, reason) in cases {
        let before = trial.gateway.metric("refused_total", &format!("\"{reason}\""));
        let (mut socket, address) = connect(&trial.gateway);
        socket.write_all(request.as_bytes()).expect("open");
        let answer = String::from_utf8(read_to_end(&mut socket)).expect("text");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        drop(socket);
        let row = trial.expect_closed_at(address, Some(4002));
        assert_eq!((&row["mode"], &row["id"]), (&json!("unknown"), &Value::Null), "{row}");
        let reason = format!("\"{reason}\"");
        assert_eq!(trial.gateway.metric("refused_total", &reason), before + 1, "{request}");
    }
    trial.end();
}

#[test]
fn origins_that_may_connect_do() {
    let gateway = Gateway::start(&[("listen.origins", "https://friend.example")]);
    for origin in ["Origin: https://friend.example", "Origin: http://127.0.0.1", ""] {
        let (mut socket, _) = connect(&gateway);
        socket.write_all(request("Origin", origin).as_bytes()).expect("open");
        socket.write_all(&frame(0x88, b"\x03\xe8")).expect("open");
        let answer = read_to_end(&mut socket);
        assert!(answer.starts_with(b"HTTP/1.1 101 ") && answer.ends_with(b"\r\n\r\n\x88\x02\x03\xe8"), "{origin}");
    }
    assert_eq!(gateway.metric("refused_total", ""), 0);
}

#[test]
fn a_slow_head_is_closed_when_the_first_frame_is_due() {
    let mut trial = Trial::begin(&[("limits.first_frame", "500ms")]);
    for bytes in ["G", "GET /ws HTTP/1.1\r\nHost: x\r\n"] {
        let (mut socket, address) = connect(&trial.gateway);
        let began = Instant::now();
        socket.write_all(bytes.as_bytes()).expect("open");
        assert_eq!(read_to_end(&mut socket), b"", "nobody is told anything");
        assert!((450..450 + AT_ONCE.as_millis()).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
        drop(socket);
        trial.expect_closed_at(address, Some(4007));
    }
    trial.end();
}

#[test]
fn a_head_may_take_ten_seconds_whatever_the_first_frame_may() {
    let mut trial = Trial::begin(&[("limits.first_frame", "1m")]);
    let (mut socket, address) = connect(&trial.gateway);
    let began = Instant::now();
    socket.write_all(b"GET /ws HTTP/1.1\r\n").expect("open");
    read_to_end(&mut socket);
    assert!(began.elapsed() > Duration::from_millis(9900), "{:?}", began.elapsed());
    drop(socket);
    trial.expect_closed_at(address, Some(4007));
    trial.end();
}

#[test]
fn a_websocket_that_says_nothing_is_closed_with_4007() {
    let mut trial = Trial::begin(&[("limits.first_frame", "500ms")]);
    let mut link = Carrier::web(&trial.gateway);
    assert_eq!(link.read_close_code(), 4007);
    trial.expect_closed_at(link.address, Some(4007));
    drop(link);
    trial.end();
}

#[test]
fn a_head_and_its_first_message_may_come_together_or_byte_by_byte() {
    let gateway = Gateway::start(&[]);
    let bytes = [request("Origin", "").as_bytes(), &frame(0x81, br#"{"op":"bye"}"#), &frame(0x88, b"")].concat();
    for size in [1, bytes.len()] {
        let (mut socket, _) = connect(&gateway);
        for piece in bytes.chunks(size) {
            socket.write_all(piece).expect("open");
        }
        let answer = read_to_end(&mut socket);
        let text = String::from_utf8_lossy(&answer);
        assert!(text.contains("hello_first") && answer.ends_with(&[0x88, 0]), "{text}");
    }
}

#[test]
fn what_makes_no_message_ends_the_link_with_4002_and_keeps_the_session() {
    let mut trial = Trial::begin(&[]);
    let large = frame(0x81, &vec![b' '; 64 * 1024 + 1]);
    let fragments = [frame(0x01, &vec![b' '; 64 * 1024]), frame(0x80, b" ")].concat();
    let cases: [(&str, Vec<u8>); 9] = [
        ("binary", frame(0x82, b"{}")),
        ("64 KiB and one", large),
        ("64 KiB and one in fragments", fragments),
        ("a length beyond all", [&[0x81, 0xff][..], &[0x7f; 8], &[0; 4]].concat()),
        ("not masked", b"\x81\x02{}".to_vec()),
        ("compressed", frame(0xc1, b"{}")),
        ("nothing to go on with", frame(0x80, b"{}")),
        ("a long ping", frame(0x89, &[b'x'; 126])),
        ("bad UTF-8", frame(0x81, b"{\"op\":\"beat\",\"x\":\"\xff\"}")),
    ];
    for (what, bytes) in cases {
        let mut link = Carrier::web(&trial.gateway);
        let welcome = link.hello(json!({}));
        link.socket.write_all(&bytes).expect("open");
        let bye = link.answer();
        assert_eq!((&bye["op"], &bye["code"]), (&json!("bye"), &json!(4002)), "{what}: {bye}");
        assert_eq!(link.read_close_code(), 4002, "{what}");
        trial.expect_closed_at(link.address, Some(4002));
        drop(link);
        let mut back = Carrier::web(&trial.gateway);
        assert_eq!(back.hello(crate::peer::proof(&welcome, 0))["resumed"], true, "{what}");
        back.say(&json!({"op": "bye"}));
        assert_eq!(back.read_close_code(), 1000);
        trial.expect_closed_at(back.address, None);
    }
    trial.end();
}

#[test]
fn a_message_of_64_kib_and_one_in_fragments_with_pings_between_are_understood() {
    let gateway = Gateway::start(&[]);
    let mut link = Carrier::web(&gateway);
    link.hello(json!({}));
    let mut large = r#"{"op":"beat","t":1,"x":""#.to_owned();
    large.push_str(&"y".repeat(64 * 1024 - large.len() - 2));
    large.push_str("\"}");
    assert_eq!(large.len(), 64 * 1024);
    link.send(&large);
    assert_eq!(link.answer()["t"], 1);
    let piece = |text: &'static str, code, fin| Message::Frame(Frame::message(text, OpCode::Data(code), fin));
    link.send_message(piece(r#"{"op":"#, Data::Text, false));
    link.send_message(Message::Ping("between".into()));
    link.send_message(piece(r#""beat","#, Data::Continue, false));
    link.send_message(piece(r#""t":2}"#, Data::Continue, true));
    assert_eq!(link.answer()["t"], 2);
}

#[test]
fn a_message_that_is_never_completed_is_closed_when_its_time_is_over() {
    let mut trial = Trial::begin(&[("limits.frame_time", "400ms")]);
    for bytes in [&frame(0x81, b"{\"op\":\"beat\"}")[..9], &frame(0x01, b"{\"op\"")] {
        let mut link = Carrier::web(&trial.gateway);
        link.hello(json!({}));
        link.socket.write_all(bytes).expect("open");
        // A ping in the midst of it would be no frame, so only the fragments get one: life, but no completion.
        if bytes[0] == 0x01 {
            link.send_message(Message::Ping("still here".into()));
        }
        assert_eq!(link.answer()["code"], 4002);
        assert_eq!(link.read_close_code(), 4002);
        trial.expect_closed_at(link.address, Some(4002));
    }
    trial.end();
}

#[test]
fn fragments_that_are_never_completed_cant_take_more_memory_than_is_allowed() {
    let mut trial = Trial::begin(&[("limits.partial", "64KiB"), ("server.shards", "1")]);
    let mut holding = Carrier::web(&trial.gateway);
    holding.hello(json!({}));
    holding.socket.write_all(&frame(0x01, &[b' '; 60_000])).expect("open");
    holding.send_message(Message::Ping("there?".into()));
    trial.gateway.wait_for_session(holding.address, |row| row["beats"] == 1);
    let mut link = Carrier::web(&trial.gateway);
    link.hello(json!({}));
    link.socket.write_all(&frame(0x01, &[b' '; 6_000])).expect("open");
    assert_eq!(link.read_close_code(), 4006);
    trial.expect_closed_at(link.address, Some(4006));
    assert_eq!(trial.gateway.metric("refused_total", "\"memory\""), 1);
    drop(link);
    drop(holding);
    trial.count(None, 1);
    trial.end();
}

#[test]
fn a_flood_of_pings_is_answered_up_to_the_rate_and_then_ends() {
    let mut trial = Trial::begin(&[("limits.frames_per_second", "100"), ("limits.frames_burst", "100")]);
    let mut link = Carrier::web(&trial.gateway);
    link.hello(json!({}));
    let flood = frame(0x89, b"ping").repeat(2000);
    link.socket.write_all(&flood).expect("the kernel takes it");
    assert_eq!(link.answer()["code"], 4006);
    assert_eq!(link.read_close_code(), 4006);
    trial.expect_closed_at(link.address, Some(4006));
    drop(link);
    trial.end();
}

#[test]
fn a_pinger_that_never_reads_gets_no_more_memory_than_a_few_pongs_take() {
    let mut trial = Trial::begin(&[("limits.frames_per_second", "0"), ("limits.send_buffer", "4KiB")]);
    let mut link = Carrier::web(&trial.gateway);
    link.hello(json!({}));
    let flood = frame(0x89, &[b'x'; 125]).repeat(1000);
    // 12 MB of pongs: far more than both kernels' buffers take.
    for _ in 0..100 {
        link.socket.write_all(&flood).expect("it goes on reading");
    }
    trial.gateway.wait_for_session(link.address, |row| row["beats"] == 100_000);
    let queued = trial.gateway.metric("outbox_bytes", "");
    // How much the kernels took first depends on the machine.
    assert!(queued < 5 * 1024, "{queued}");
    drop(link);
    trial.count(None, 1);
    trial.end();
}

#[test]
fn a_hidden_page_that_only_answers_pings_stays_alive_and_one_that_doesnt_is_found_out() {
    let detector = [("detector.interval", "1s"), ("detector.threshold", "1"), ("detector.strikes", "1")];
    let gateway = Gateway::start(&[&detector[..], &[("detector.start", "0")]].concat());
    let mut quiet = Carrier::web(&gateway);
    quiet.hello(json!({}));
    let mut dead = Carrier::web(&gateway);
    dead.hello(json!({}));
    let pings = quiet.rest(Duration::from_millis(5500));
    assert!((4..=5).contains(&pings), "{pings}");
    let row = gateway.session(quiet.address).expect("listed");
    assert_eq!((&row["status"], &row["history"]), (&json!("alive"), &json!([])), "{row}");
    let row = gateway.session(dead.address).map(|row| row["status"].clone());
    assert_ne!(row, Some(json!("alive")), "who doesn't read answers no ping");
}

#[test]
fn a_page_that_pings_stays_alive() {
    let gateway = Gateway::start(&[]);
    let mut link = Carrier::web(&gateway);
    link.hello(json!({}));
    for beats in 1..=3 {
        link.send_message(Message::Ping("mine".into()));
        gateway.wait_for_session(link.address, |row| row["beats"] == beats);
    }
    link.send_message(Message::Pong("unasked".into()));
    gateway.wait_for_session(link.address, |row| row["beats"] == 4);
}

#[test]
fn the_close_code_arrives_in_the_close_frame() {
    let certs = Certs::make();
    let settings = certs.settings();
    for over in [Over::Ws, Over::Wss] {
        let setup = settings.iter().fold(Setup::new(), |setup, (key, value)| setup.set(key, value));
        let gateway = setup.start();
        let mut kicked = Carrier::open(&gateway, over, &certs.client());
        kicked.hello(json!({"user": "ann"}));
        let mut drained = Carrier::open(&gateway, over, &certs.client());
        drained.hello(json!({}));
        let mut wrong = Carrier::open(&gateway, over, &certs.client());
        wrong.say(&json!({"op": "hello", "v": 2}));
        assert_eq!(wrong.read_close_code(), 4502);
        gateway.post("/api/v1/kick", &json!({"user": "ann"}));
        assert_eq!(kicked.answer()["code"], 4504);
        let close = kicked.read_close().expect("a code");
        assert_eq!((u16::from(close.code), close.reason.as_str()), (4504, "removed by an operator"));
        gateway.post("/api/v1/drain", &json!({}));
        assert_eq!(drained.answer()["code"], 4001);
        assert_eq!(drained.read_close_code(), 4001);
    }
}

#[test]
fn a_peers_close_frame_is_answered_and_is_an_end() {
    let mut trial = Trial::begin(&[]);
    let mut link = Carrier::web(&trial.gateway);
    let welcome = link.hello(json!({}));
    let close = CloseFrame { code: 1001.into(), reason: Utf8Bytes::from_static("the page goes") };
    link.send_message(Message::Close(Some(close)));
    assert_eq!(link.read_close_code(), 1001);
    trial.expect_closed_at(link.address, None);
    let mut back = Carrier::web(&trial.gateway);
    assert_eq!(back.hello(crate::peer::proof(&welcome, 0))["resumed"], true);
    // One that goes without a word is no worse off.
    back.socket.shutdown(Shutdown::Both).expect("open");
    trial.expect_closed_at(back.address, None);
    drop((link, back));
    trial.end();
}
