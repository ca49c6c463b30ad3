//! Requests and their answers over real sockets.

use serde_json::{Value, json};
use stillhere_client::{CallError, Client, EVENTS_KEPT_MAX, Event, Failed, Place, Range, Request};

use crate::run;
use crate::server::{Link, Server};

async fn pair(server: &Server) -> (Client, Link) {
    let serving = async {
        let mut link = server.accept().await;
        link.welcome(Value::Null, false, "secret1").await;
        link
    };
    let (client, link) = tokio::join!(Client::builder().connect(server.address()), serving);
    (client.unwrap(), link)
}

impl Link {
    /// The next op that isn't a beat.
    async fn op(&mut self) -> Value {
        loop {
            let said = self.read().await.expect("an op");
            if said["op"] != "beat" {
                return said;
            }
        }
    }
}

#[test]
fn a_call_waits_for_its_own_answer_and_keeps_what_comes_meanwhile() {
    run(async {
        let server = Server::open().await;
        let (mut client, mut link) = pair(&server).await;
        let serving = async {
            let said = link.op().await;
            let wanted = json!({"op": "login", "user": "ada", "password": "pw", "remember": true, "id": said["id"]});
            assert_eq!(said, wanted);
            link.write(json!({"op": "notice", "kind": "text", "text": "early"})).await;
            link.write(json!({"op": "ok", "re": said["id"], "user": "ada", "token": "t"})).await;
            let said = link.op().await;
            assert_eq!((&said["op"], &said["query"], &said["limit"]), (&json!("history"), &json!("你"), &json!(5)));
            let message = json!({"seq": 3, "from": "bob", "text": "你好", "time_ms": 1, "data": {"x": [1]}});
            let body = json!({"op": "ok", "re": said["id"], "messages": [message], "more": true, "read": {"bob": 3}});
            link.write(body).await;
            let said = link.op().await;
            let no = json!({"op": "error", "re": said["id"], "code": 1302, "name": "not_allowed", "message": "no", "temporary": false});
            link.write(no).await;
        };
        let calling = async {
            let answer = client.login("ada", "pw", true).await.unwrap();
            assert_eq!((answer.user.as_deref(), answer.token.as_deref()), (Some("ada"), Some("t")));
            let range = Range { query: Some("你"), limit: Some(5), ..Range::default() };
            let found = client.history(Place::Room("lobby"), range).await.unwrap();
            assert_eq!((&*found.messages[0].text, found.more, found.read["bob"]), ("你好", Some(true), 3));
            let refused = client.invite("lobby", "bob").await.unwrap_err();
            assert!(matches!(&refused, CallError::Failed(why) if matches!(**why, Failed::Refused(_))), "{refused}");
            loop {
                match client.next_event().await.unwrap() {
                    Event::Notice(notice) => break assert_eq!(notice.text.as_deref(), Some("early")),
                    Event::Replied { .. } => panic!("a call's answer is no event"),
                    _ => {}
                }
            }
        };
        tokio::join!(serving, calling);
    });
}

#[test]
fn what_is_said_is_answered_by_an_event_also_over_a_new_link() {
    run(async {
        let server = Server::open().await;
        let (mut client, mut link) = pair(&server).await;
        let ticket = client.say("lobby", "hello");
        let serving = async {
            let said = link.op().await;
            drop(link);
            let mut link = server.accept().await;
            let resume = json!({"session": "session", "secret": "secret1", "count": 0});
            link.welcome(resume, true, "secret2").await;
            assert_eq!(link.op().await, said, "the same mid, the same id");
            link.write(json!({"op": "ok", "re": said["id"], "seq": 9, "time_ms": 1})).await;
            link
        };
        let listening = async {
            loop {
                if let Event::Replied { ticket: answered, result } = client.next_event().await.unwrap() {
                    assert_eq!((answered, result.unwrap().seq), (ticket, Some(9)));
                    return;
                }
            }
        };
        tokio::join!(serving, listening);
        let second = client.say("lobby", "hello");
        assert_ne!(ticket, second);
    });
}

#[test]
fn a_call_behind_a_flood_gives_up_waiting_and_its_answer_becomes_an_event() {
    run(async {
        let server = Server::open().await;
        let (mut client, mut link) = pair(&server).await;
        let serving = async {
            let said = link.op().await;
            for _ in 0..=EVENTS_KEPT_MAX + 1000 {
                link.write(json!({"op": "notice", "kind": "text"})).await;
            }
            link.write(json!({"op": "ok", "re": said["id"]})).await;
            link
        };
        let calling = async {
            let behind = client.call(&Request::Who { room: None, user: None }).await.unwrap_err();
            let CallError::Behind(ticket) = behind else { panic!("{behind}") };
            loop {
                if let Event::Replied { ticket: answered, .. } = client.next_event().await.unwrap() {
                    return assert_eq!(answered, ticket);
                }
            }
        };
        tokio::select! {
            () = calling => {}
            () = async { let _link = serving.await; std::future::pending().await } => {}
        }
    });
}
