//! How many may come in: by number, by address, and by open files.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::bystanders::{Bystanders, LINKS};
use crate::gateway::{Gateway, Setup, sum};
use crate::peer::{AT_ONCE, Peer, TUTORIAL};

fn from(gateway: &Gateway, address: &str) -> Peer {
    Peer::from(gateway, format!("{address}:0").parse().expect("an address")).expect("the clients' port")
}

#[test]
fn above_the_limit_of_connections_the_rest_are_refused_and_counted() {
    let gateway = Gateway::start(&[("limits.connections", "10")]);
    let mut bystanders = Bystanders::join(&gateway);
    let mut inside: Vec<_> = (LINKS..10).map(|_| Peer::legacy(&gateway)).collect();
    for refused in 1..=20 {
        let mut peer = Peer::connect(&gateway);
        peer.expect_closed_within(AT_ONCE);
        gateway.wait_for_metric("refused_total", "\"connections\"", refused);
    }
    assert_eq!(gateway.metric("sockets_open", ""), 10);
    for peer in &mut inside {
        peer.expect_nothing_heard();
    }
    bystanders.expect_unharmed(&gateway);

    // Room again: the next one is let in.
    inside.pop().expect("one").reset();
    gateway.wait_for_metric("sockets_open", "", 9);
    inside.push(Peer::legacy(&gateway));
    drop(inside);
    gateway.wait_until_calm(LINKS);
    bystanders.expect_unharmed(&gateway);
}

#[test]
fn one_address_can_not_take_all_the_room() {
    let gateway = Gateway::start(&[("limits.connections_per_address", "3")]);
    let mut greedy: Vec<_> = (0..3).map(|_| from(&gateway, "127.0.0.2")).collect();
    gateway.wait_for_metric("sockets_open", "", 3);
    for refused in 1..=5 {
        from(&gateway, "127.0.0.2").expect_closed_within(AT_ONCE);
        gateway.wait_for_metric("refused_total", "\"connections_per_address\"", refused);
    }
    let mut modest = from(&gateway, "127.0.0.3");
    modest.send_frame(TUTORIAL);
    gateway.wait_for_session(modest.address, |session| session["beats"] == 1);

    greedy.pop().expect("one").reset();
    gateway.wait_for_metric("sockets_open", "", 3);
    let mut again = from(&gateway, "127.0.0.2");
    again.send_frame(TUTORIAL);
    gateway.wait_for_session(again.address, |session| session["beats"] == 1);
    drop((greedy, modest, again));
    gateway.wait_until_calm(0);
}

#[test]
fn without_file_descriptors_the_gateway_waits_and_goes_on_when_there_are_some() {
    let gateway = Setup::new().set("server.shards", "1").open_files(128).start();
    let mut operator = gateway.keeping();
    let mut bystanders = Bystanders::join(&gateway);
    let room = gateway.metric("connections_max", "") as usize;
    // Connections of operators aren't counted among the links, so they can take the reserve away.
    let hoard: Vec<_> = (0..70).map(|_| TcpStream::connect(gateway.admin).expect("the admin port")).collect();
    gateway.wait_until("70 connections of operators", || gateway.fds() > 70 + LINKS);
    let mut clients: Vec<_> = (LINKS..room).map(|_| Peer::connect(&gateway)).collect();
    for client in &mut clients {
        client.send_frame(TUTORIAL);
    }

    let mut exhausted = || sum(&operator.get("/metrics").body, "fds_exhausted_total", "");
    let began = Instant::now();
    while exhausted() == 0 {
        assert!(began.elapsed() < crate::gateway::PATIENCE, "{} fds are enough", gateway.fds());
    }
    let (began, before) = (Instant::now(), exhausted());
    clients[0].expect_silence(Duration::from_millis(500));
    let (times, span) = (exhausted() - before, began.elapsed());
    assert!(times <= 2 + span.as_millis() as u64 / 100, "it tried {times} times in {span:?}: it spins");
    bystanders.expect_unharmed_by(&gateway, |path| operator.get(path).json());

    drop(hoard);
    let last = clients.last().expect("some").address;
    let freed = Instant::now();
    gateway.wait_for_session(last, |session| session["beats"] == 1);
    assert!(freed.elapsed() < AT_ONCE, "it took {:?} to recover", freed.elapsed());
    assert_eq!(gateway.sessions().len(), room);
    for client in &mut clients {
        client.expect_nothing_heard();
    }
    bystanders.expect_unharmed(&gateway);
    drop((clients, operator));
    gateway.wait_until_calm(LINKS);
}

#[test]
fn retained_sessions_of_one_address_are_bounded() {
    let gateway = Gateway::start(&[("limits.retained_per_address", "2"), ("server.shards", "1")]);
    let welcomes: Vec<_> = (0..4)
        .map(|n| {
            let (mut peer, welcome) = Peer::v1(&gateway, json!({}));
            peer.beat(n);
            peer.reset();
            gateway.wait_for_metric("closes_total", "\"none\"", n + 1);
            welcome
        })
        .collect();
    assert_eq!(gateway.metric("sessions_retained", ""), 2);
    let resumed: Vec<_> = welcomes.iter().map(|welcome| Peer::resume(&gateway, welcome).1["resumed"].clone()).collect();
    assert_eq!(resumed, [true, true, false, false]);
}
