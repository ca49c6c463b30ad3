//! A gateway of a hundred lines for the generator's own tests: it speaks the wire, keeps nothing and is as slow as it likes.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::hall::Hall;
use super::load::{self, Kind};
use super::lone::{Carrier, Lone};
use super::shape::Shape;
use super::wire::Dialect;
use crate::bench::crowd::frame;

struct Seat {
    user: String,
    away: bool,
    stream: TcpStream,
}

type Rooms = Arc<Mutex<HashMap<String, Vec<Seat>>>>;

/// Serves until the test's process ends; it keeps the signal with the number `lost` to itself.
fn start(lost: Option<&'static str>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let rooms = Rooms::default();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, rooms) = (stream.unwrap(), rooms.clone());
            std::thread::spawn(move || serve(stream, &rooms, lost));
        }
    });
    address
}

fn serve(mut stream: TcpStream, rooms: &Rooms, lost: Option<&str>) {
    stream.set_nodelay(true).unwrap();
    let mut user = String::new();
    loop {
        let mut header = [0; 4];
        if stream.read_exact(&mut header).is_err() {
            return;
        }
        let mut body = vec![0; u32::from_be_bytes(header) as usize];
        stream.read_exact(&mut body).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let room = body["room"].as_str().unwrap_or_default().to_owned();
        // One lock around everything: what is pushed keeps the order in which it was said.
        let mut rooms = rooms.lock().unwrap();
        match body["op"].as_str().unwrap() {
            "hello" => {
                user = body["user"].as_str().unwrap().to_owned();
                send(&mut stream, &json!({"op": "welcome", "session": "s", "gen": 1}));
            }
            "beat" => send(&mut stream, &json!({"op": "beat", "detect_ms": 65_000})),
            "join" => {
                let seats = rooms.entry(room.clone()).or_default();
                push(seats, &user, &json!({"op": "presence", "room": room, "user": user}));
                seats.push(Seat { user: user.clone(), away: false, stream: stream.try_clone().unwrap() });
                send(&mut stream, &json!({"op": "ok", "re": body["id"], "members": seats.len(), "head": 0}));
            }
            "status" => {
                for seat in rooms.values_mut().flatten().filter(|seat| seat.user == user) {
                    seat.away = true;
                }
                send(&mut stream, &json!({"op": "ok", "re": body["id"]}));
            }
            "signal" if lost.is_some_and(|lost| body["data"].as_str().unwrap().starts_with(lost)) => {}
            "signal" => {
                let signal = json!({"op": "signal", "room": room, "from": user, "data": body["data"]});
                push(rooms.get_mut(&room).unwrap(), &user, &signal);
            }
            "say" => {
                send(&mut stream, &json!({"op": "ok", "re": body["id"], "seq": 1, "time_ms": 1}));
                let message = json!({"op": "message", "room": room, "seq": 1, "from": user, "text": body["text"]});
                push(rooms.get_mut(&room).unwrap(), &user, &message);
            }
            other => panic!("the generator said {other}"),
        }
    }
}

fn push(seats: &mut [Seat], from: &str, body: &Value) {
    for seat in seats.iter_mut().filter(|seat| seat.user != from) {
        if seat.away {
            send(&mut seat.stream, &json!({"op": "digest", "rooms": []}));
        } else {
            send(&mut seat.stream, body);
        }
    }
}

fn send(stream: &mut TcpStream, body: &Value) {
    let mut out = Vec::new();
    frame::push(&mut out, body.to_string().as_bytes());
    stream.write_all(&out).unwrap();
}

const SMALL: Shape = Shape { rooms: 2, receivers: 3 };

#[test]
fn signals_reach_every_receiver_once() {
    let mut hall = Hall::open_at(Dialect::Gateway, start(None), SMALL).unwrap();
    let tally = load::closed(&mut hall, Kind::Signal, 4, Duration::from_millis(50)).unwrap();
    assert!(tally.published >= 8, "{}", tally.published);
    assert_eq!(tally.deliveries, tally.published * 3);
    assert_eq!(tally.acknowledgement.len(), 0);
    let tally = load::paced(&mut hall, Kind::Signal, 10_000.0, 101).unwrap();
    assert_eq!((tally.published, tally.deliveries), (101, 303));
}

#[test]
fn messages_are_acknowledged_and_delivered() {
    let mut hall = Hall::open_at(Dialect::Gateway, start(None), SMALL).unwrap();
    let tally = load::closed(&mut hall, Kind::Say, 1, Duration::ZERO).unwrap();
    assert_eq!((tally.published, tally.deliveries, tally.acknowledgement.len()), (2, 6, 2));
    let tally = load::paced(&mut hall, Kind::Say, 10_000.0, 51).unwrap();
    assert_eq!((tally.deliveries, tally.acknowledgement.len()), (153, 51));
}

#[test]
fn a_lost_signal_is_a_fault() {
    let mut hall = Hall::open_at(Dialect::Gateway, start(Some("0000000003")), SMALL).unwrap();
    let error = load::paced(&mut hall, Kind::Signal, 10_000.0, 100).err().unwrap();
    assert!(format!("{error:#}").ends_with("4 came where 3 was due"), "{error:#}");
}

#[test]
fn members_on_leave_are_not_waited_for_and_their_bytes_are_counted_apart() {
    let room = Shape { rooms: 1, receivers: 4 };
    let mut hall = Hall::open_at(Dialect::Gateway, start(None), room).unwrap();
    let away = hall.receivers(0).start..hall.receivers(0).start + 2;
    let alive = away.end..hall.receivers(0).end;
    hall.send_away(away.clone()).unwrap();
    let before = (hall.push_bytes(away.clone()), hall.push_bytes(alive.clone()));
    let tally = load::paced(&mut hall, Kind::Signal, 10_000.0, 10).unwrap();
    assert_eq!((tally.deliveries, hall.stray), (20, 0));
    hall.settle().unwrap();
    assert_eq!(hall.digests, 20);
    let digest = 4 + json!({"op": "digest", "rooms": []}).to_string().len() as u64;
    assert_eq!(hall.push_bytes(away) - before.0, 20 * digest);
    assert!(hall.push_bytes(alive) - before.1 > 20 * 128);
}

#[test]
fn a_lone_member_takes_its_seat() {
    let address = start(None);
    let mut hall = Hall::open_at(Dialect::Gateway, address, Shape { rooms: 1, receivers: 1 }).unwrap();
    let mut lone = Lone::connect(address, 7, &Carrier::Native).unwrap();
    lone.join(Dialect::Gateway, 7, 0).unwrap();
    lone.beat().unwrap();
    let tally = load::paced(&mut hall, Kind::Signal, 10_000.0, 10).unwrap();
    assert_eq!(tally.deliveries, 10);
}
