//! The admin API: who may ask, and for what.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::admin::Request;
use crate::gateway::Gateway;
use crate::peer::{AT_ONCE, Peer};

const GUARDED: [(&str, &str); 21] = [
    ("GET", "/api/v1/sessions"),
    ("GET", "/api/v1/closed"),
    ("GET", "/api/v1/stats"),
    ("GET", "/api/v1/events"),
    ("POST", "/api/v1/kick"),
    ("POST", "/api/v1/reload"),
    ("POST", "/api/v1/drain"),
    ("GET", "/api/v1/users"),
    ("POST", "/api/v1/users"),
    ("PATCH", "/api/v1/users/{name}"),
    ("DELETE", "/api/v1/users/{name}"),
    ("POST", "/api/v1/import"),
    ("GET", "/api/v1/bans"),
    ("POST", "/api/v1/bans"),
    ("DELETE", "/api/v1/bans"),
    ("GET", "/api/v1/rooms"),
    ("POST", "/api/v1/rooms"),
    ("DELETE", "/api/v1/rooms/{name}"),
    ("POST", "/api/v1/notice"),
    ("GET", "/api/v1/who"),
    ("GET", "/api/v1/audit"),
];

fn request(method: &str, path: &str) -> Request {
    match method {
        "GET" => Request::get(path),
        _ => Request::with(method, path, r#"{"user":"nobody"}"#),
    }
}

#[test]
fn without_the_token_nothing_is_shown_and_nothing_is_done() {
    let gateway = Gateway::start(&[]);
    let almost = format!("{}x", &gateway.token[..gateway.token.len() - 1]);
    for (method, path) in GUARDED {
        let shown = [
            request(method, path),
            request(method, path).token(""),
            request(method, path).token(&almost),
            request(method, path).header(&format!("Authorization: Basic {}", gateway.token)),
            request(method, &format!("{path}?token={}", gateway.token)),
        ];
        for request in shown {
            let answer = request.send(gateway.admin);
            answer.error(401, "unauthorized");
            assert!(answer.head.contains("www-authenticate: Bearer"), "{answer:?}");
        }
    }
    assert_eq!(gateway.get("/api/v1/sessions").status, 200);
    assert_eq!(gateway.metric("draining", ""), 0);
}

#[test]
fn a_foreign_host_is_refused_everywhere_even_with_the_token() {
    let gateway = Gateway::start(&[]);
    let open = [("GET", "/"), ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics"), ("GET", "/nowhere")];
    for (method, path) in GUARDED.into_iter().chain(open) {
        for host in ["evil.example", "127.0.0.1.evil.example:14080", "localhost.evil.example", "10.0.0.1", ""] {
            let answer =
                request(method, path).token(&gateway.token).header(&format!("Host: {host}")).send(gateway.admin);
            answer.error(403, "wrong_host");
        }
    }
    for host in ["localhost", &format!("127.0.0.1:{}", gateway.admin.port()), "[::1]:14080"] {
        assert_eq!(Request::get("/healthz").header(&format!("Host: {host}")).send(gateway.admin).status, 200, "{host}");
    }
}

#[test]
fn health_readiness_and_metrics_need_no_token() {
    let gateway = Gateway::start(&[]);
    for (path, body) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
        let answer = Request::get(path).send(gateway.admin);
        assert_eq!((answer.status, answer.body.as_str()), (200, body));
    }
    let metrics = Request::get("/metrics").send(gateway.admin);
    assert!(metrics.head.contains("text/plain; version=0.0.4"), "{}", metrics.head);
    for name in ["links", "sessions", "beats_total", "misses_total", "closes_total", "resumes_total", "refused_total"] {
        assert!(metrics.body.contains(&format!("# TYPE stillhere_{name} ")), "{name}");
    }
    let page: Value = Request::get("/api/v1/openapi.json").send(gateway.admin).json();
    for (method, path) in GUARDED {
        assert!(page["paths"][path][method.to_lowercase()].is_object(), "{method} {path}");
    }
}

#[test]
fn what_is_not_there_is_an_error_in_json() {
    let gateway = Gateway::start(&[]);
    gateway.get("/api/v1/nothing").error(404, "not_found");
    gateway.get("/api/v1/kick").error(405, "method_not_allowed");
    gateway.post("/api/v1/sessions", &json!({})).error(405, "method_not_allowed");
}

#[test]
fn a_wrong_question_is_told_what_is_wrong_with_it() {
    let gateway = Gateway::start(&[]);
    let table = [
        ("sessions?limit=0", "limit"),
        ("sessions?limit=20001", "20000"),
        ("sessions?limit=many", "limit"),
        ("sessions?limit=-1", "limit"),
        ("sessions?status=dead", "status"),
        ("sessions?peer=nowhere", "peer"),
        ("sessions?peer=127.0.0.1:x", "peer"),
        ("sessions?after=nothing", "next"),
        ("sessions?after=127.0.0.1:1", "next"),
        ("sessions?color=blue", "color"),
        ("closed?limit=0", "limit"),
        ("closed?after=x", "next"),
        ("closed?status=alive", "status"),
    ];
    for (query, named) in table {
        let message = gateway.get(&format!("/api/v1/{query}")).error(400, "bad_request");
        assert!(message.contains(named), "{query}: {message}");
    }
    for body in [json!({"id": "no such name"}), json!({"peer": "nowhere"})] {
        gateway.post("/api/v1/kick", &body).error(400, "bad_request");
    }
    gateway.post("/api/v1/kick", &json!({"peer": "127.0.0.1:1"})).error(404, "not_found");
    for body in ["", "{", "[]", "{}", r#"{"id":1}"#, r#"{"color":"blue"}"#, r#"{"id":"a","user":"b"}"#] {
        let answer = Request::post("/api/v1/kick", body).token(&gateway.token).send(gateway.admin);
        assert!(answer.status == 400 || answer.status == 422, "{body}: {answer:?}");
        answer.error(answer.status, "bad_request");
    }
    let large = Request::post("/api/v1/kick", &format!(r#"{{"user":"{}"}}"#, "x".repeat(100_000)));
    large.token(&gateway.token).send(gateway.admin).error(413, "bad_request");
    assert_eq!(gateway.get("/healthz").status, 200);
}

/// All pages of a list, which must be as long as wanted but the last; each row by its key.
fn pages(gateway: &Gateway, path: &str, list: &str, key: &str, limit: usize) -> Vec<String> {
    let mut rows = Vec::new();
    let mut after = String::new();
    loop {
        let page = gateway.get(&format!("{path}limit={limit}{after}")).json();
        let here = page[list].as_array().expect("rows");
        rows.extend(here.iter().map(|row| row[key].as_str().expect("text").to_owned()));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
        assert_eq!(here.len(), limit, "{page}");
        assert!(rows.len() < 1_000, "no end");
    }
    rows
}

#[test]
fn sessions_are_paged_and_filtered() {
    let gateway = Gateway::start(&[("server.shards", "3")]);
    let mut all = BTreeSet::new();
    let mut peers = Vec::new();
    for n in 0..25 {
        let peer = match n % 5 {
            0 => Peer::v1(&gateway, json!({"user": "ann"})).0,
            _ => {
                let address: SocketAddr = format!("127.0.0.{}:0", 2 + n % 2).parse().expect("an address");
                let mut peer = Peer::from(&gateway, address).expect("the clients' port");
                let status = if n % 5 == 1 { "leave" } else { "alive" };
                peer.say(&json!({"ip": "127.0.0.1", "status": status}));
                peer
            }
        };
        all.insert(peer.address.to_string());
        peers.push(peer);
    }
    gateway.wait_until("25 sessions", || gateway.sessions().len() == 25);

    for limit in [1, 7, 10, 24, 25, 26] {
        let rows = pages(&gateway, "/api/v1/sessions?", "sessions", "peer", limit);
        assert_eq!((rows.len(), rows.into_iter().collect::<BTreeSet<_>>()), (25, all.clone()), "by {limit}");
    }
    let table = [("user=ann", 5), ("status=leave", 5), ("status=alive", 20), ("peer=127.0.0.1", 5)];
    for (filter, count) in table.into_iter().chain([("user=bob", 0), ("peer=127.0.0.99", 0), ("status=close", 0)]) {
        let page = gateway.get(&format!("/api/v1/sessions?{filter}&limit=3")).json();
        assert_eq!(
            (page["total"].as_u64(), page["sessions"].as_array().map(Vec::len)),
            (Some(count), Some(3.min(count as usize)))
        );
        let rows = pages(&gateway, &format!("/api/v1/sessions?{filter}&"), "sessions", "peer", 3);
        assert_eq!(rows.into_iter().collect::<BTreeSet<_>>().len() as u64, count, "{filter}");
    }
    let both = gateway.get("/api/v1/sessions?status=leave&peer=127.0.0.2").json();
    assert!(both["total"].as_u64() > Some(0) && both["total"].as_u64() < Some(5), "{both}");
    let one = gateway.get(&format!("/api/v1/sessions?peer={}", peers[3].address)).json();
    assert_eq!((&one["total"], &one["sessions"][0]["id"]), (&json!(1), &json!(peers[3].address.to_string())));

    // A listing may also go on after a session's id.
    let page = gateway.get("/api/v1/sessions?limit=10").json();
    let last = page["sessions"][9]["id"].as_str().expect("an id");
    let by_id = gateway.get(&format!("/api/v1/sessions?limit=5&after={last}")).json();
    let by_next =
        gateway.get(&format!("/api/v1/sessions?limit=5&after={}", page["next"].as_str().expect("more"))).json();
    assert_eq!(by_id["sessions"][0]["id"], by_next["sessions"][0]["id"]);
}

#[test]
fn the_closed_are_paged_newest_first_and_only_the_last_are_kept() {
    let gateway = Gateway::start(&[("server.shards", "3"), ("limits.closed", "20")]);
    let mut left = Vec::new();
    for n in 1..=30 {
        let peer = Peer::connect(&gateway);
        left.push(peer.address.to_string());
        peer.reset();
        gateway.wait_for_metric("closes_total", "\"none\"", n);
    }
    let newest: Vec<_> = left.iter().rev().take(20).cloned().collect();
    for limit in [3, 10, 20, 100] {
        assert_eq!(pages(&gateway, "/api/v1/closed?", "closed", "peer", limit), newest, "by {limit}");
    }
    assert_eq!(gateway.get("/api/v1/closed?limit=5").json()["total"], 20);
}

#[test]
fn a_row_of_the_closed_tells_the_whole_story() {
    let gateway = Gateway::start(&[]);
    let (mut peer, welcome) = Peer::v1(&gateway, json!({"user": "ann"}));
    for t in 0..3 {
        peer.beat(t);
    }
    peer.send_frame("{");
    assert_eq!(peer.read_bye()["code"], 4002);
    let row = gateway.closed_row(peer.address);
    let fields = ["id", "peer", "user", "mode", "transport", "code", "name", "cause", "beats"];
    let story: Vec<_> = fields.iter().map(|field| row[*field].clone()).collect();
    let peer = json!(peer.address.to_string());
    let name = welcome["session"].clone();
    let expected = [name, peer, json!("ann"), json!("v1"), json!("tcp"), json!(4002), json!("bad_frame")];
    assert_eq!(story[..7], expected);
    assert_eq!(story[7..], [json!("limit"), json!(3)]);
    assert!(row["bytes_in"].as_u64() > Some(100) && row["bytes_out"].as_u64() > Some(300), "{row}");
    assert!(row["opened"].as_str() <= row["closed"].as_str(), "{row}");
}

#[test]
fn the_stats_are_the_metrics_in_json() {
    let gateway = Gateway::start(&[]);
    let mut peer = Peer::legacy(&gateway);
    peer.send_frame("{");
    peer.expect_closed_within(AT_ONCE);
    gateway.wait_for_metric("closes_total", "", 1);
    let stats = gateway.get("/api/v1/stats").json();
    assert_eq!(stats["closes_total"]["4002,bad_frame"], 1, "{stats}");
    assert_eq!(stats["beats_total"], json!({"legacy": 1, "v1": 0}));
    assert_eq!(stats["transitions_total"], json!({"alive,close,limit": 1}));
    assert_eq!(stats["links_opened_total"], 1);
}
