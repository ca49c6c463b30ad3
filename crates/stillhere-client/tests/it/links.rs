//! One client: its links and sessions.

use std::time::Duration;

use serde_json::{Value, json};
use stillhere_client::{Builder, Client, ConnectError, Continuity, Event, Stop};

use crate::run;
use crate::server::{Link, Server};

/// A welcomed client and its link, seen from the server.
async fn pair(builder: Builder, server: &Server) -> (Client, Link) {
    let serving = async {
        let mut link = server.accept().await;
        link.welcome(Value::Null, false, "secret1").await;
        link
    };
    let (client, link) = tokio::join!(builder.connect(server.address()), serving);
    (client.unwrap(), link)
}

/// Lets the client run until an event for which `pick` has an answer.
async fn until<R>(client: &mut Client, pick: impl Fn(&Event) -> Option<R>) -> R {
    loop {
        let event = client.next_event().await.expect("the client goes on");
        if let Some(picked) = pick(&event) {
            return picked;
        }
    }
}

/// Lets the client run in the background of what the server does.
async fn beside<R>(client: &mut Client, server: impl Future<Output = R>) -> R {
    tokio::pin!(server);
    loop {
        tokio::select! {
            done = &mut server => return done,
            event = client.next_event() => assert!(event.is_some()),
        }
    }
}

#[test]
fn a_client_is_welcomed_and_its_beats_are_answered() {
    run(async {
        let server = Server::open().await;
        let (mut client, mut link) = pair(Client::builder().user("ada"), &server).await;
        assert!(matches!(client.next_event().await, Some(Event::Linked { nth: 1, .. })));
        let Some(Event::Welcomed(welcomed)) = client.next_event().await else { panic!("welcomed") };
        assert_eq!((&*welcomed.session, welcomed.interval), ("session", Duration::from_secs(1)));
        link.write(json!({"op": "beat", "now": true, "id": 9})).await;
        let beat = beside(&mut client, link.read()).await.unwrap();
        assert_eq!((&beat["op"], &beat["re"]), (&json!("beat"), &json!(9)));
        link.write(json!({"op": "beat", "t": beat["t"], "detect_ms": 6500})).await;
        let rtt = until(&mut client, |event| match event {
            Event::BeatAnswered { rtt, .. } => Some(*rtt),
            _ => None,
        });
        assert!(rtt.await < Duration::from_secs(1));
        client.leave();
        let said = beside(&mut client, link.read()).await.unwrap();
        assert_eq!(said, json!({"op": "status", "status": "leave"}));
        client.back();
        let said = beside(&mut client, link.read()).await.unwrap();
        assert_eq!(said, json!({"op": "status", "status": "alive"}));
    });
}

#[test]
fn a_cut_link_is_replaced_and_the_session_resumed() {
    run(async {
        let server = Server::open().await;
        let (mut client, mut link) = pair(Client::builder(), &server).await;
        link.write(json!({"op": "message", "text": "hi"})).await;
        let body = until(&mut client, |event| match event {
            Event::Unknown { body } => Some(body.to_string()),
            _ => None,
        });
        assert_eq!(body.await, r#"{"op":"message","text":"hi"}"#);
        drop(link);
        let mut link = beside(&mut client, server.accept()).await;
        let resume = json!({"session": "session", "secret": "secret1", "count": 1});
        beside(&mut client, link.welcome(resume, true, "secret2")).await;
        until(&mut client, |event| match event {
            Event::Welcomed(welcomed) => (welcomed.continuity == Continuity::Resumed).then_some(()),
            _ => None,
        })
        .await;
        assert_eq!(client.resume().unwrap().secret, "secret2");
    });
}

#[test]
fn a_session_survives_its_client() {
    run(async {
        let server = Server::open().await;
        let (client, mut link) = pair(Client::builder(), &server).await;
        let kept = client.resume().unwrap().clone();
        let (_, end) = tokio::join!(client.hang_up(), async { (link.read().await, drop(link)).0 });
        assert_eq!(end, None, "no goodbye");
        let mut client = Client::builder().resume(kept).start(server.address()).unwrap();
        let mut link = beside(&mut client, server.accept()).await;
        let resume = json!({"session": "session", "secret": "secret1", "count": 0});
        beside(&mut client, link.welcome(resume, true, "secret2")).await;
    });
}

#[test]
fn a_silent_link_is_dropped_after_two_and_a_half_intervals() {
    run(async {
        let server = Server::open().await;
        let (mut client, mut link) = pair(Client::builder(), &server).await;
        let started = tokio::time::Instant::now();
        let mut again = beside(&mut client, server.accept()).await;
        let silence = started.elapsed();
        assert!(silence > Duration::from_millis(2400) && silence < Duration::from_secs(10), "{silence:?}");
        while let Some(said) = link.read().await {
            assert_eq!(said["op"], "beat");
        }
        beside(&mut client, again.read()).await.expect("hello on the new link");
    });
}

#[test]
fn a_client_that_is_told_to_stay_away_stops() {
    run(async {
        let server = Server::open().await;
        let (mut client, mut link) = pair(Client::builder(), &server).await;
        link.write(json!({"op": "bye", "code": 4504, "reason": "kicked"})).await;
        until(&mut client, |event| matches!(event, Event::Stopped(Stop::Told(4504))).then_some(())).await;
        assert!(client.next_event().await.is_none());
        assert_eq!(link.read().await, None);
    });
}

#[test]
fn a_goodbye_arrives_even_when_the_client_has_not_read_everything() {
    run(async {
        let server = Server::open().await;
        let (client, mut link) = pair(Client::builder(), &server).await;
        link.write(json!({"op": "message", "text": "x".repeat(10_000)})).await;
        let goodbye = async {
            let said = link.read().await;
            let end = link.read().await;
            drop(link);
            (said, end)
        };
        let ((), heard) = tokio::join!(client.bye(), goodbye);
        assert_eq!(heard, (Some(json!({"op": "bye"})), None));
    });
}

#[test]
fn the_first_attempt_tells_why_it_failed() {
    run(async {
        let nobody = Server::open().await.address();
        let error = Client::builder().connect(nobody).await.unwrap_err();
        assert!(error.to_string().contains("refused"), "{error}");
        let error = Client::builder().connect("no-port").await.unwrap_err();
        assert!(matches!(error, ConnectError::Lost(_)), "{error}");
        let error = Client::builder().user("").connect(nobody).await.unwrap_err();
        assert!(matches!(error, ConnectError::BadLabel { what: "user", bytes: 0 }), "{error}");

        let server = Server::open().await;
        for (answer, said) in [
            (json!({"op": "bye", "code": 4011, "reason": "full"}), "the server closed the link: full (4011)"),
            (
                json!({"op": "error", "code": 1006, "name": "version", "message": "v2 only", "temporary": false}),
                "the server refused: v2 only (1006)",
            ),
            (json!([]), "the server sent a malformed frame"),
        ] {
            let serving = async { server.accept().await.write(answer).await };
            let (client, ()) = tokio::join!(Client::builder().connect(server.address()), serving);
            let error = client.unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    });
}

#[test]
fn a_legacy_client_sends_the_tutorials_bytes() {
    run(async {
        let server = Server::open().await;
        let builder = Client::builder().legacy().interval(Duration::from_millis(20));
        let (client, mut link) = tokio::join!(builder.connect(server.address()), server.accept());
        let mut client = client.unwrap();
        let beat = format!(r#""{{\"ip\": \"127.0.0.1\", \"status\": \"alive\", \"pid\": {}}}""#, std::process::id());
        for _ in 0..3 {
            let body = beside(&mut client, link.read_bytes()).await.unwrap();
            assert_eq!(String::from_utf8(body).unwrap(), beat);
        }
    });
}
