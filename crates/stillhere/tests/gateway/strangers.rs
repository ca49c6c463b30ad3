//! Other protocols spoken to the clients' port: closed without a word, and counted by what they look like.

use std::time::Duration;

use crate::peer::AT_ONCE;
use crate::trial::Trial;

fn check(reason: &str, greeting: &[u8]) {
    let mut trial = Trial::begin(&[]);
    trial.offend(4002, (Duration::ZERO, AT_ONCE), |peer| peer.send(greeting));
    assert_eq!(trial.gateway.metric("refused_total", &format!("\"{reason}\"")), 1);
    assert_eq!(trial.gateway.metric("refused_total", ""), 1);
    trial.end();
}

#[test]
fn what_begins_like_a_get_but_is_none_is_turned_away() {
    check("protocol", b"GARBAGE\0\xff");
}

#[test]
fn an_http_post_with_a_large_body_is_turned_away() {
    let mut post = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 500000\r\n\r\n".to_vec();
    post.resize(500_000, b'x');
    check("http", &post);
}

#[test]
fn a_tls_client_hello_is_turned_away() {
    // A record of 512 bytes: handshake, client hello of TLS 1.2, and random.
    let mut hello = vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
    hello.resize(5 + 512, 0xa5);
    check("tls", &hello);
}

#[test]
fn an_mqtt_connect_is_turned_away() {
    check("protocol", b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04test");
}
