//! The PROXY protocol: who really connects, as told by those who may tell.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::bystanders::{Bystanders, LINKS};
use crate::carrier::{Carrier, Certs, Over, connect, connect_from, read_to_end};
use crate::gateway::{Gateway, Setup};
use crate::peer::{TUTORIAL, frame};
use crate::trial::Trial;

/// Where the proxy stands.
const PROXY: [u8; 4] = [127, 0, 0, 9];
const SETTING: (&str, &str) = ("listen.proxy", "127.0.0.9");
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A connection from the proxy that begins with these bytes.
fn proxied(gateway: &Gateway, header: &[u8]) -> TcpStream {
    let (mut socket, _) = connect_from(gateway, PROXY);
    socket.write_all(header).expect("open");
    socket
}

fn version_2(client: SocketAddr) -> Vec<u8> {
    let SocketAddr::V4(client) = client else { panic!("IPv4") };
    let mut header = [SIGNATURE, &[0x21, 0x11, 0, 12]].concat();
    header.extend(client.ip().octets());
    header.extend([127, 0, 0, 1]);
    header.extend(client.port().to_be_bytes());
    header.extend(14000u16.to_be_bytes());
    header
}

fn version_1(client: SocketAddr) -> Vec<u8> {
    format!("PROXY TCP4 {} 127.0.0.1 {} 14000\r\n", client.ip(), client.port()).into_bytes()
}

#[test]
fn the_clients_address_is_what_the_proxy_says_in_both_versions_and_over_every_transport() {
    let certs = Certs::make();
    let setup = certs.settings().iter().fold(Setup::new(), |setup, (key, value)| setup.set(key, value));
    let gateway = setup.set(SETTING.0, SETTING.1).set("listen.insecure", "true").start();
    let mut bystanders = Bystanders::join(&gateway);
    let mut links = Vec::new();
    for (port, over) in Over::ALL.into_iter().enumerate() {
        let client = SocketAddr::from(([192, 0, 2, 7], 5000 + port as u16));
        for header in [version_1(client), version_2(client)] {
            let socket = proxied(&gateway, &header);
            let mut link = Carrier::on(socket, client, over, &certs.client());
            link.hello(json!({}));
            link.beat(1);
            let row = gateway.session(client).expect("listed by the client's address");
            assert_eq!(row["transport"], over.name(), "{row}");
            links.push(link);
        }
    }
    let of_client = gateway.get("/api/v1/sessions?peer=192.0.2.7").json();
    assert_eq!(of_client["total"], 8);
    bystanders.expect_unharmed(&gateway);
}

#[test]
fn a_hello_from_afar_needs_tls_behind_a_proxy_too() {
    let certs = Certs::make();
    let setup = certs.settings().iter().fold(Setup::new(), |setup, (key, value)| setup.set(key, value));
    let gateway = setup.set(SETTING.0, SETTING.1).start();
    let client = SocketAddr::from(([192, 0, 2, 7], 5000));
    for (over, secret) in [(Over::Tcp, false), (Over::Ws, false), (Over::Tls, true), (Over::Wss, true)] {
        let socket = proxied(&gateway, &version_2(client));
        let mut link = Carrier::on(socket, client, over, &certs.client());
        let answer = link.hello(json!({}));
        let expected = if secret { "welcome" } else { "error" };
        assert_eq!(answer["op"], expected, "{over:?}: {answer}");
        assert!(secret || answer["code"] == 1102, "{answer}");
    }
}

#[test]
fn a_proxys_own_connections_have_its_own_address() {
    let gateway = Gateway::start(&[SETTING]);
    for header in [&b"PROXY UNKNOWN\r\n"[..], &[SIGNATURE, &[0x20, 0, 0, 0]].concat()] {
        let (mut socket, address) = connect_from(&gateway, PROXY);
        socket.write_all(header).expect("open");
        socket.write_all(&frame(TUTORIAL)).expect("open");
        gateway.wait_for_session(address, |row| row["mode"] == "legacy");
    }
}

#[test]
fn a_header_byte_by_byte_takes_nothing_of_what_follows() {
    let gateway = Gateway::start(&[SETTING]);
    for (port, make) in [(1, version_1 as fn(SocketAddr) -> Vec<u8>), (2, version_2)] {
        let client = SocketAddr::from(([192, 0, 2, 7], port));
        let (mut socket, _) = connect_from(&gateway, PROXY);
        for byte in [make(client), frame(TUTORIAL)].concat() {
            socket.write_all(&[byte]).expect("open");
        }
        gateway.wait_for_session(client, |row| row["beats"] == 1);
    }
}

#[test]
fn from_a_proxy_without_a_right_header_nothing_is_let_in() {
    let gateway = Gateway::start(&[SETTING, ("limits.first_frame", "500ms")]);
    let mut bystanders = Bystanders::join(&gateway);
    let tutorial = frame(TUTORIAL);
    let headers: [&[u8]; 9] = [
        &tutorial,
        b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PROXY TCP4 192.0.2.1 127.0.0.1 5000\r\n",
        b"PROXY TCP4 2001:db8::1 ::1 5000 14000\r\n",
        b"PROXY TCP4 192.0.2.1 127.0.0.1 5000 14000                                                                    ",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x04\xc0\x00\x02\x01",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\x00\x00",
        b"\r\n\r\n\0\r\nQUIT\n",
    ];
    for (refused, header) in headers.iter().enumerate() {
        assert_eq!(read_to_end(&mut proxied(&gateway, header)), b"", "{header:?}");
        gateway.wait_for_metric("refused_total", "\"proxy_header\"", refused as u64 + 1);
    }
    let began = Instant::now();
    assert_eq!(read_to_end(&mut proxied(&gateway, b"PROX")), b"");
    assert!(began.elapsed() > Duration::from_millis(450), "{:?}", began.elapsed());
    assert!(gateway.log().contains("listen.proxy"), "{}", gateway.log());
    gateway.wait_until_calm(LINKS);
    bystanders.expect_unharmed(&gateway);
}

#[test]
fn from_elsewhere_a_header_is_a_strangers_greeting() {
    let mut trial = Trial::begin(&[SETTING]);
    let client = SocketAddr::from(([192, 0, 2, 7], 5000));
    for header in [version_1(client), version_2(client)] {
        let (mut socket, address) = connect(&trial.gateway);
        socket.write_all(&[header, frame(TUTORIAL)].concat()).expect("open");
        assert_eq!(read_to_end(&mut socket), b"");
        drop(socket);
        trial.expect_closed_at(address, Some(4002));
    }
    assert_eq!(trial.gateway.metric("refused_total", "\"proxy\""), 2);
    trial.end();
}

#[test]
fn limits_count_clients_and_not_their_proxy() {
    let gateway = Gateway::start(&[SETTING, ("limits.connections_per_address", "2")]);
    let mut links = Vec::new();
    for port in 1..=6 {
        let client = SocketAddr::from(([192, 0, 2, port as u8 / 3], port));
        let mut socket = proxied(&gateway, &version_2(client));
        socket.write_all(&frame(TUTORIAL)).expect("open");
        match port {
            // The third of 192.0.2.1.
            5 => assert_eq!(read_to_end(&mut socket), b""),
            _ => drop(gateway.wait_for_session(client, |row| row["beats"] == 1)),
        }
        links.push(socket);
    }
    assert_eq!(gateway.metric("refused_total", "\"connections_per_address\""), 1);
}

#[test]
fn a_reload_changes_where_proxies_stand() {
    let scratch = crate::gateway::Scratch::new();
    let config = scratch.path().join("stillhere.toml");
    std::fs::write(&config, "").expect("written");
    let gateway = Setup::new().scratch(&scratch).config(config.clone()).start();
    std::fs::write(&config, "[listen]\nproxy = [\"10.0.0.0/8\", \"127.0.0.9\"]\n").expect("written");
    assert_eq!(gateway.post("/api/v1/reload", &json!({})).json()["applied"], json!(["listen.proxy"]));
    let client = SocketAddr::from(([192, 0, 2, 7], 5000));
    let mut socket = proxied(&gateway, &[version_1(client), frame(TUTORIAL)].concat());
    gateway.wait_for_session(client, |row| row["beats"] == 1);
    socket.flush().expect("open");
}
