//! TLS on the clients' port.

use std::fs;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustls::HandshakeKind;
use serde_json::json;
use stillhere_client::{Client, Event, Tls};

use crate::bystanders::Bystanders;
use crate::carrier::{Carrier, Certs, Over, connect, handshake, read_to_end, tls};
use crate::gateway::{Gateway, PATIENCE, Scratch, Setup};
use crate::peer::{TUTORIAL, frame, proof};
use crate::trial::Trial;

/// A gateway with a certificate.
fn start(certs: &Certs) -> Gateway {
    certs.settings().iter().fold(Setup::new(), |setup, (key, value)| setup.set(key, value)).start()
}

fn trial(certs: &Certs, more: &[(&str, &str)]) -> Trial {
    let settings = certs.settings();
    let settings = settings.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    Trial::begin(&settings.chain(more.iter().copied()).collect::<Vec<_>>())
}

#[test]
fn beats_pass_over_both_versions_of_tls_and_are_counted_there() {
    let certs = Certs::make();
    let gateway = start(&certs);
    let mut bystanders = Bystanders::join(&gateway);
    let mut links = Vec::new();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = certs.client_of(&[version]);
        let mut link = Carrier::open(&gateway, Over::Tls, &config);
        assert_eq!(link.hello(json!({}))["op"], "welcome");
        for t in 0..50 {
            link.beat(t);
        }
        let row = gateway.session(link.address).expect("listed");
        assert_eq!((&row["transport"], &row["beats"]), (&json!("tls"), &json!(50)), "{row}");
        links.push(link);
    }
    assert_eq!(gateway.metric("links", "\"tls\""), 2);
    let mut legacy = Carrier::open(&gateway, Over::Tls, &certs.client());
    legacy.send(TUTORIAL);
    gateway.wait_for_session(legacy.address, |row| row["mode"] == "legacy" && row["transport"] == "tls");
    bystanders.expect_unharmed(&gateway);
}

#[test]
fn a_session_goes_on_over_any_transport() {
    let certs = Certs::make();
    let gateway = start(&certs);
    let mut bystanders = Bystanders::join(&gateway);
    let config = certs.client();
    let mut first = Carrier::open(&gateway, Over::Wss, &config);
    let mut welcome = first.hello(json!({"user": "ann"}));
    drop(first);
    for over in Over::ALL {
        let mut link = Carrier::open(&gateway, over, &config);
        let again = link.hello(proof(&welcome, 0));
        assert_eq!((&again["resumed"], &again["session"]), (&json!(true), &welcome["session"]), "{over:?}: {again}");
        link.beat(1);
        let row = gateway.session(link.address).expect("listed");
        assert_eq!(row["transport"], over.name(), "{row}");
        welcome = again;
    }
    bystanders.expect_unharmed(&gateway);
}

/// Runs the client crate's own side of a test.
fn run<T>(side: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, side).await }).expect("in time")
}

#[test]
fn our_own_client_speaks_tls_resumes_and_says_goodbye() {
    let certs = Certs::make();
    let mut trial = trial(&certs, &[]);
    let target = format!("tls://localhost:{}", trial.gateway.clients.port());
    let tls = Tls::trusting(certs.cert()).expect("certificates");
    let builder = || Client::builder().user("ann").interval(Duration::from_secs(1)).tls(tls.clone());
    let (resume, session) = run(async {
        let mut client = builder().connect(target.as_str()).await.expect("a welcome");
        let mut session = String::new();
        // The welcome and a few beats; the first proves the secret.
        for _ in 0..8 {
            match client.next_event().await {
                Some(Event::Welcomed(welcomed)) => session = welcomed.session.to_string(),
                Some(Event::Lost(loss)) => panic!("{loss}"),
                Some(_) => {}
                None => panic!("it stopped"),
            }
        }
        let resume = client.resume().cloned().expect("a secret");
        client.hang_up().await;
        (resume, session)
    });
    trial.gateway.wait_for_metric("closes_total", "\"none\"", 1);
    run(async {
        let client = builder().resume(resume).connect(target.as_str()).await.expect("a welcome");
        let row = trial.gateway.wait("the session", || {
            trial.gateway.sessions().into_iter().find(|row| row["id"] == session && row["linked"] == true)
        });
        assert_eq!((&row["transport"], &row["gen"]), (&json!("tls"), &json!(2)), "{row}");
        client.bye().await;
    });
    trial.gateway.wait_until("the goodbye", || trial.gateway.sessions().iter().all(|row| row["id"] != session));
    trial.count(None, 2);
    trial.end();
}

#[test]
fn our_own_client_trusts_nobody_else() {
    let (certs, others) = (Certs::make(), Certs::make());
    let gateway = start(&certs);
    let target = format!("localhost:{}", gateway.clients.port());
    for tls in [Tls::trusting(others.cert()).expect("certificates"), Tls::public()] {
        let refused = run(async { Client::builder().tls(tls).connect(target.as_str()).await.map(drop) });
        let error = refused.expect_err("nobody it trusts").to_string();
        assert!(error.contains("certificate"), "{error}");
    }
    // Without a word about TLS it is a plain link to the same port.
    assert!(run(async { Client::builder().connect(target.as_str()).await.map(drop) }).is_ok());
}

#[test]
fn a_large_frame_and_many_small_ones_pass_in_whatever_pieces() {
    let certs = Certs::make();
    let gateway = start(&certs);
    let (socket, _) = connect(&gateway);
    let mut stream = tls(socket, &certs.client());
    let large = format!("{{\"op\":\"hello\",\"v\":1,\"note\":\"{}\"}}", "x".repeat(60_000));
    let mut bytes = frame(large);
    for t in 0..100 {
        bytes.extend(frame(format!("{{\"op\":\"beat\",\"t\":{t}}}")));
    }
    for piece in bytes.chunks(777) {
        stream.write_all(piece).expect("open");
    }
    stream.flush().expect("open");
    let mut answers = Vec::new();
    let last = b"\"t\":99,";
    while !answers.windows(last.len()).any(|part| part == last) {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).expect("answers in time");
        assert!(count > 0);
        answers.extend_from_slice(&buffer[..count]);
    }
}

#[test]
fn a_record_in_single_bytes_is_understood() {
    let certs = Certs::make();
    let gateway = start(&certs);
    let (socket, _) = connect(&gateway);
    let mut raw = socket.try_clone().expect("a socket");
    let mut stream = tls(socket, &certs.client());
    stream.write_all(&frame(r#"{"op":"hello","v":1}"#)).and_then(|()| stream.flush()).expect("open");
    let mut header = [0; 4];
    stream.read_exact(&mut header).expect("a welcome");
    let mut welcome = vec![0; u32::from_be_bytes(header) as usize];
    stream.read_exact(&mut welcome).expect("a welcome");
    // The server's first wish for a beat comes with the first beat, so the next answer is the echo.
    stream.conn.writer().write_all(&frame(r#"{"op":"beat","t":7}"#)).expect("a buffer");
    let mut record = Vec::new();
    stream.conn.write_tls(&mut record).expect("a buffer");
    for byte in record {
        raw.write_all(&[byte]).expect("open");
    }
    stream.read_exact(&mut header).expect("an echo");
    let mut echo = vec![0; u32::from_be_bytes(header) as usize];
    stream.read_exact(&mut echo).expect("an echo");
    assert!(String::from_utf8_lossy(&echo).contains("\"t\":7"));
}

#[test]
fn a_second_handshake_is_a_short_one() {
    let certs = Certs::make();
    let gateway = start(&certs);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = certs.client_of(&[version]);
        assert_eq!(handshake(&gateway, &config), Ok(HandshakeKind::Full));
        assert_eq!(handshake(&gateway, &config), Ok(HandshakeKind::Resumed));
    }
}

#[test]
fn what_only_begins_like_tls_is_closed_with_an_alert_and_counted() {
    let certs = Certs::make();
    let mut trial = trial(&certs, &[]);
    let greetings: [&[u8]; 3] = [
        b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
        b"\x16\x03\x01\x00\x05hello",
        b"\x16\x03\x03\xff\xff\x01\x00\x00\x00\x00",
    ];
    for greeting in greetings {
        let (mut socket, address) = connect(&trial.gateway);
        socket.write_all(greeting).expect("open");
        let said = read_to_end(&mut socket);
        assert!(said.is_empty() || said[0] == 0x15, "an alert at most: {said:?}");
        drop(socket);
        let row = trial.expect_closed_at(address, Some(4002));
        assert_eq!((&row["mode"], &row["bytes_out"]), (&json!("unknown"), &json!(0)), "{row}");
    }
    assert_eq!(trial.gateway.metric("refused_total", "\"tls\""), 3);
    trial.end();
}

#[test]
fn half_a_client_hello_and_then_silence_is_closed_when_the_first_frame_is_due() {
    let certs = Certs::make();
    let mut trial = trial(&certs, &[("limits.first_frame", "500ms")]);
    for sent in [1, 3, 5, 40] {
        let (mut socket, address) = connect(&trial.gateway);
        let began = Instant::now();
        let mut hello = Vec::from(*b"\x16\x03\x01\x00\xf8\x01\x00\x00\xf4\x03\x03");
        hello.resize(sent.max(hello.len()), 0xa5);
        socket.write_all(&hello[..sent]).expect("open");
        read_to_end(&mut socket);
        assert!(began.elapsed() > Duration::from_millis(450), "{:?}", began.elapsed());
        drop(socket);
        trial.expect_closed_at(address, Some(4007));
    }
    trial.end();
}

#[test]
fn a_handshake_may_take_five_seconds_whatever_the_first_frame_may() {
    let certs = Certs::make();
    let mut trial = trial(&certs, &[("limits.first_frame", "1m")]);
    let (mut socket, address) = connect(&trial.gateway);
    let began = Instant::now();
    socket.write_all(b"\x16\x03\x01\x00\xf8\x01").expect("open");
    read_to_end(&mut socket);
    assert!(began.elapsed() > Duration::from_millis(4900), "{:?}", began.elapsed());
    drop(socket);
    trial.expect_closed_at(address, Some(4007));
    assert_eq!(trial.gateway.metric("refused_total", "\"tls\""), 1);
    trial.end();
}

#[test]
fn strangers_inside_tls_are_strangers() {
    let certs = Certs::make();
    let mut trial = trial(&certs, &[]);
    let cases: [(&[u8], &str); 3] =
        [(b"POST / HTTP/1.1\r\n\r\n", "http"), (b"\x16\x03\x01\x00\x05hello", "tls"), (b"\x10\x10", "protocol")];
    for (greeting, reason) in cases {
        let (socket, address) = connect(&trial.gateway);
        let mut stream = tls(socket, &certs.client());
        stream.write_all(greeting).and_then(|()| stream.flush()).expect("open");
        let mut said = Vec::new();
        stream.read_to_end(&mut said).expect("TLS ends as it should");
        assert!(said.is_empty(), "{said:?}");
        drop(stream);
        trial.expect_closed_at(address, Some(4002));
        assert_eq!(trial.gateway.metric("refused_total", &format!("\"{reason}\"")), 1, "{reason}");
    }
    trial.end();
}

#[test]
fn a_forged_record_ends_the_link_and_keeps_the_session() {
    let certs = Certs::make();
    let mut trial = trial(&certs, &[]);
    let mut link = Carrier::open(&trial.gateway, Over::Tls, &certs.client());
    let welcome = link.hello(json!({}));
    let mut forged = vec![0x17, 0x03, 0x03, 0x00, 0x40];
    forged.resize(5 + 0x40, 0x5a);
    link.socket.write_all(&forged).expect("open");
    // Nothing can be said to this peer any more, but in an encrypted alert that it is over.
    let said = read_to_end(&mut link.socket);
    assert_eq!(said.first(), Some(&0x17), "{said:?}");
    trial.expect_closed_at(link.address, Some(4002));
    drop(link);
    let mut back = Carrier::open(&trial.gateway, Over::Tls, &certs.client());
    assert_eq!(back.hello(proof(&welcome, 0))["resumed"], true);
    back.say(&json!({"op": "bye"}));
    back.expect_end();
    trial.expect_closed_at(back.address, None);
    drop(back);
    trial.end();
}

#[test]
fn a_client_that_closes_tls_without_closing_the_socket_has_left() {
    let certs = Certs::make();
    let mut trial = trial(&certs, &[]);
    let (socket, address) = connect(&trial.gateway);
    let mut stream = tls(socket, &certs.client());
    stream.write_all(&frame(TUTORIAL)).and_then(|()| stream.flush()).expect("open");
    trial.gateway.wait_for_session(address, |row| row["transport"] == "tls");
    stream.conn.send_close_notify();
    stream.flush().expect("open");
    let mut said = Vec::new();
    stream.read_to_end(&mut said).expect("TLS ends as it should");
    assert!(said.is_empty(), "nothing is ever said to a legacy client: {said:?}");
    trial.expect_closed_at(address, None);
    drop(stream);
    trial.end();
}

#[test]
fn a_renewed_certificate_serves_new_handshakes_and_a_bad_one_changes_nothing() {
    let certs = Certs::make();
    let gateway = start(&certs);
    let mut bystanders = Bystanders::join(&gateway);
    let old = certs.client();
    let mut link = Carrier::open(&gateway, Over::Wss, &old);
    link.hello(json!({}));

    let reload = || gateway.post("/api/v1/reload", &json!({}));
    assert_eq!(reload().json()["applied"], json!([]), "nothing has changed");
    certs.renew();
    let new = certs.client();
    assert!(handshake(&gateway, &new).is_err(), "not before the reload");
    assert_eq!(reload().json()["applied"], json!(["listen.tls_cert"]));
    assert_eq!(handshake(&gateway, &new), Ok(HandshakeKind::Full));
    let untrusting = certs.client();
    assert_eq!(handshake(&gateway, &untrusting), Ok(HandshakeKind::Full));
    link.beat(1);

    let other = Certs::make();
    for (path, bad, said) in [
        (certs.cert(), "no certificate".to_owned(), "holds no certificate"),
        (certs.key(), String::new(), "holds no private key"),
        (certs.cert(), fs::read_to_string(other.cert()).expect("PEM"), "doesn't belong to"),
    ] {
        let good = fs::read_to_string(&path).expect("PEM");
        fs::write(&path, bad).expect("written");
        let answer = reload();
        assert_eq!(answer.status, 422, "{answer:?}");
        assert!(answer.body.contains(said), "{said}: {}", answer.body);
        fs::write(&path, good).expect("written");
        assert!(handshake(&gateway, &new).is_ok(), "the old one is in force");
    }
    let told = || gateway.log().matches("the old one stays in force").count();
    let before = told();
    fs::remove_file(certs.key()).expect("removed");
    gateway.signal(Signal::HUP);
    gateway.wait_until("a line in the log", || told() > before);
    assert!(handshake(&gateway, &new).is_ok());
    link.beat(2);
    bystanders.expect_unharmed(&gateway);
}

#[test]
fn a_reload_brings_tls_and_takes_it_away() {
    let certs = Certs::make();
    let scratch = Scratch::new();
    let config = scratch.path().join("stillhere.toml");
    let with = format!("[listen]\ntls_cert = {:?}\ntls_key = {:?}\n", certs.cert(), certs.key());
    fs::write(&config, "").expect("written");
    let gateway = Setup::new().scratch(&scratch).config(config.clone()).start();
    assert!(handshake(&gateway, &certs.client()).is_err());
    fs::write(&config, &with).expect("written");
    let applied = gateway.post("/api/v1/reload", &json!({})).json();
    assert_eq!(applied["applied"], json!(["listen.tls_cert", "listen.tls_key"]));
    assert_eq!(handshake(&gateway, &certs.client()), Ok(HandshakeKind::Full));
    let mut link = Carrier::open(&gateway, Over::Tls, &certs.client());
    link.hello(json!({}));
    fs::write(&config, "").expect("written");
    gateway.post("/api/v1/reload", &json!({}));
    assert!(handshake(&gateway, &certs.client()).is_err());
    link.beat(1);
}

#[test]
fn a_key_that_others_may_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let certs = Certs::make();
    assert!(!start(&certs).log().contains("private key"));
    fs::set_permissions(certs.key(), fs::Permissions::from_mode(0o644)).expect("changed");
    let gateway = start(&certs);
    assert!(gateway.log().contains("may read the private key"), "{}", gateway.log());
}
