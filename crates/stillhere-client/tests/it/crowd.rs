//! Many clients.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use stillhere_client::{Client, Crowd, PeerEvent, Ramp};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::run;
use crate::server::Server;

/// How many goodbyes a crowd of `count` leaves when it is stopped after its last first answer.
async fn goodbyes(count: u32, ramp: Option<Ramp>) -> usize {
    let server = Server::open().await;
    let all_answered = Rc::new(Notify::new());
    let (answered, done) = (Cell::new(0), all_answered.clone());
    let crowd = Crowd::new(Client::builder(), server.address(), count, ramp).unwrap();
    let running = crowd.run(async move { all_answered.notified().await }, move |index, event| {
        assert!(index < count);
        if let PeerEvent::BeatAnswered { .. } = event {
            answered.set(answered.get() + 1);
            if answered.get() == count {
                done.notify_one();
            }
        }
    });
    let mut links = JoinSet::new();
    let serving = async {
        for _ in 0..count {
            links.spawn(server.accept().await.serve());
        }
    };
    tokio::join!(running, serving);
    links.join_all().await.into_iter().filter(|said_bye| *said_bye).count()
}

#[test]
fn a_crowd_is_welcomed_beats_and_says_goodbye() {
    run(async { assert_eq!(goodbyes(200, None).await, 200) });
}

#[test]
fn a_crowd_may_arrive_one_after_the_other() {
    run(async { assert_eq!(goodbyes(5, Some(Ramp { count: 100, per: Duration::from_secs(1) })).await, 5) });
}

#[test]
fn a_crowd_that_is_told_to_stay_away_is_over() {
    run(async {
        let server = Server::open().await;
        let crowd = Crowd::new(Client::builder(), server.address(), 3, None).unwrap();
        let serving = async {
            for _ in 0..3 {
                let bye = serde_json::json!({"op": "bye", "code": 4501, "reason": "banned"});
                server.accept().await.write(bye).await;
            }
        };
        tokio::join!(crowd.run(std::future::pending(), |_, _| {}), serving);
    });
}
