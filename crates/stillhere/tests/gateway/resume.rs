//! A session goes on with another link.

use serde_json::{Value, json};

use crate::gateway::{Gateway, Setup};
use crate::peer::{AT_ONCE, Peer, frame, proof};

/// With one shard a session stays where it is; with more it moves to the link's.
fn check(settings: &[(&str, &str)], test: impl Fn(&Gateway)) {
    for shards in ["1", "3"] {
        test(&Setup::new().set("server.shards", shards).set_all(settings).start());
    }
}

fn expect_resumed(before: &Value, after: &Value) {
    assert_eq!((&after["resumed"], &after["reason"]), (&json!(true), &Value::Null), "{after}");
    assert_eq!(after["session"], before["session"]);
    assert_eq!(after["gen"].as_u64(), before["gen"].as_u64().map(|gen_before| gen_before + 1));
    assert_ne!(after["resume"]["secret"], before["resume"]["secret"], "the secret is rotated at every welcome");
}

#[test]
fn a_session_is_resumed_though_nothing_was_ever_sent_on_it() {
    check(&[], |gateway| {
        let (peer, welcome) = Peer::v1(gateway, json!({"user": "ann", "interval_ms": 2000}));
        peer.reset();
        let (mut back, again) = Peer::resume(gateway, &welcome);
        expect_resumed(&welcome, &again);
        assert_eq!((&again["user"], &again["beat"]["interval_ms"]), (&json!("ann"), &json!(2000)), "{again}");
        back.beat(1);
        let rows = gateway.sessions();
        assert_eq!((rows.len(), &rows[0]["id"], &rows[0]["status"]), (1, &welcome["session"], &json!("alive")));
        assert_eq!((&rows[0]["gen"], &rows[0]["peer"]), (&json!(2), &json!(back.address.to_string())), "{rows:?}");
        assert_eq!(gateway.metric("resumes_total", "\"resumed\""), 1);
        assert_eq!(gateway.metric("sessions_retained", ""), 0);
    });
}

#[test]
fn a_resume_restores_what_the_session_was() {
    check(&[("detector.drop_grace", "0s")], |gateway| {
        let (mut peer, welcome) = Peer::v1(gateway, json!({}));
        for t in 0..5 {
            peer.beat(t);
        }
        let address = peer.address;
        peer.reset();
        let row = gateway.wait_for_session(address, |session| session["status"] == "leave");
        assert_eq!((&row["cause"], &row["linked"]), (&json!("dropped"), &json!(false)), "{row}");
        assert_eq!(row["leave_in_ms"], Value::Null);
        let (mut back, again) = Peer::resume(gateway, &welcome);
        expect_resumed(&welcome, &again);
        back.beat(5);
        let row = gateway.session(back.address).expect("listed");
        assert_eq!(
            (&row["status"], &row["cause"], &row["beats"]),
            (&json!("alive"), &json!("resumed"), &json!(6)),
            "{row}"
        );
        assert_eq!((&row["cursor"], &row["strikes"]), (&json!(3), &json!(0)), "{row}");
    });
}

#[test]
fn a_declared_leave_survives_a_resume() {
    check(&[], |gateway| {
        let (mut peer, welcome) = Peer::v1(gateway, json!({}));
        peer.ask(json!({"op": "status", "status": "leave"}));
        peer.reset();
        let (back, again) = Peer::resume(gateway, &welcome);
        expect_resumed(&welcome, &again);
        let row = gateway.session(back.address).expect("listed");
        assert_eq!((&row["status"], &row["cause"]), (&json!("leave"), &json!("declared")), "{row}");
    });
}

#[test]
fn within_the_grace_a_drop_changes_nothing() {
    check(&[("detector.drop_grace", "10m")], |gateway| {
        let (peer, mut welcome) = Peer::v1(gateway, json!({}));
        peer.reset();
        for _ in 0..3 {
            let (peer, again) = Peer::resume(gateway, &welcome);
            expect_resumed(&welcome, &again);
            peer.reset();
            welcome = again;
        }
        gateway.wait_for_metric("sessions_retained", "", 1);
        assert_eq!(gateway.metric("transitions_total", ""), 0);
        assert_eq!(gateway.sessions()[0]["history"], json!([]));
    });
}

#[test]
fn an_old_link_that_still_hangs_is_told_and_can_end_nothing() {
    check(&[], |gateway| {
        let (mut old, welcome) = Peer::v1(gateway, json!({}));
        old.beat(1);
        let (mut new, again) = Peer::resume(gateway, &welcome);
        expect_resumed(&welcome, &again);
        // What the old one says from now on is nobody's.
        old.say(&json!({"op": "bye"}));
        let bye = loop {
            let message = old.answer();
            if message["op"] == "bye" {
                break message;
            }
        };
        assert_eq!(bye["code"], 4509, "{bye}");
        old.expect_closed_within(AT_ONCE);
        let row = gateway.closed_row(old.address);
        assert_eq!((&row["code"], &row["id"], &row["cause"]), (&json!(4509), &welcome["session"], &json!("replaced")));
        new.beat(2);
        let row = gateway.session(new.address).expect("listed");
        assert_eq!((&row["status"], &row["beats"], &row["history"]), (&json!("alive"), &json!(2), &json!([])), "{row}");
        assert_eq!(gateway.metric("closes_total", "\"4509\""), 1);
        gateway.wait_until_calm(1);
    });
}

#[test]
fn a_count_that_is_wrong_is_a_gap_and_says_so() {
    check(&[], |gateway| {
        let (peer, welcome) = Peer::v1(gateway, json!({}));
        peer.reset();
        let (mut back, again) = Peer::v1(gateway, proof(&welcome, 5));
        assert_eq!((&again["resumed"], &again["reason"]), (&json!(false), &json!("gap")), "{again}");
        assert_eq!((&again["session"], &again["gen"]), (&welcome["session"], &json!(2)), "{again}");
        assert_eq!(gateway.metric("resumes_total", "\"gap\""), 1);
        back.beat(1);
    });
}

#[test]
fn many_sessions_move_between_shards_whole() {
    let gateway = Gateway::start(&[("server.shards", "4")]);
    let mut sessions: Vec<_> = (0..40)
        .map(|n| {
            let (mut peer, welcome) = Peer::v1(&gateway, json!({"user": format!("user-{n}")}));
            peer.beat(1);
            (peer, welcome)
        })
        .collect();
    for round in 2..=4 {
        // One more link before each round, so that every session lands on the next shard.
        Peer::connect(&gateway).reset();
        for (peer, welcome) in &mut sessions {
            let (mut back, again) = Peer::resume(&gateway, welcome);
            expect_resumed(welcome, &again);
            back.beat(round);
            *welcome = again;
            // Every second old link hung until now.
            std::mem::replace(peer, back).reset();
        }
    }
    let rows = gateway.sessions();
    assert_eq!(rows.len(), 40);
    for row in &rows {
        assert_eq!((&row["beats"], &row["gen"], &row["linked"]), (&json!(4), &json!(4), &json!(true)), "{row}");
        assert_eq!((&row["status"], &row["history"]), (&json!("alive"), &json!([])), "{row}");
    }
    assert_eq!(gateway.metric("resumes_total", "\"resumed\""), 120);
    assert_eq!(gateway.metric("sessions", ""), 40);
    assert_eq!(gateway.metric("sessions_retained", ""), 0);
    gateway.wait_until_calm(40);
}

/// A hello that resumes, as bytes.
fn hello(welcome: &Value) -> Vec<u8> {
    let mut hello = proof(welcome, 0);
    (hello["op"], hello["v"], hello["id"]) = (json!("hello"), json!(1), json!(0));
    frame(hello.to_string())
}

#[test]
fn who_leaves_while_the_session_moves_can_still_come_back() {
    check(&[], |gateway| {
        for _ in 0..30 {
            let (peer, welcome) = Peer::v1(gateway, json!({}));
            peer.reset();
            let mut hasty = Peer::connect(gateway);
            hasty.send(&hello(&welcome));
            hasty.reset();
            // The session may be on its way to where the hasty link was.
            let (_back, again) = Peer::resume(gateway, &welcome);
            assert_eq!((&again["resumed"], &again["session"]), (&json!(true), &welcome["session"]), "{again}");
            let rows = gateway.sessions();
            assert_eq!(rows.iter().filter(|row| row["id"] == welcome["session"]).count(), 1, "{rows:?}");
        }
        gateway.wait_until_calm(0);
    });
}

#[test]
fn of_two_links_that_resume_at_once_one_has_the_session() {
    check(&[], |gateway| {
        for _ in 0..20 {
            let (peer, welcome) = Peer::v1(gateway, json!({}));
            peer.reset();
            let mut rivals = [Peer::connect(gateway), Peer::connect(gateway)];
            rivals.iter_mut().for_each(|peer| peer.send(&hello(&welcome)));
            let answers = rivals.each_mut().map(Peer::answer);
            let won = answers.iter().filter(|answer| answer["session"] == welcome["session"]).count();
            assert!(won >= 1 && answers.iter().any(|answer| answer["resumed"] == true), "{answers:?}");
            let rows = gateway.sessions();
            let held = rows.iter().filter(|row| row["id"] == welcome["session"]).count();
            assert_eq!(held, 1, "{rows:?}");
        }
    });
}

#[test]
fn frames_that_follow_a_hello_at_once_wait_for_the_session() {
    check(&[], |gateway| {
        let (peer, welcome) = Peer::v1(gateway, json!({}));
        peer.reset();
        let mut back = Peer::connect(gateway);
        let beats = (1..=20).flat_map(|t| frame(json!({"op": "beat", "t": t, "id": t}).to_string()));
        back.send(&hello(&welcome).into_iter().chain(beats).collect::<Vec<u8>>());
        expect_resumed(&welcome, &back.answer());
        for t in 1..=20 {
            assert_eq!(back.answer()["re"], t);
        }
    });
}

#[test]
fn after_the_hold_the_session_returns_on_leave_and_earns_alive() {
    let settings = [
        ("detector.drop_grace", "0s"),
        ("detector.dropped_hold", "1s"),
        ("detector.interval", "1s"),
        ("detector.start", "2"),
        ("detector.threshold", "3"),
    ];
    check(&settings, |gateway| {
        let (peer, welcome) = Peer::v1(gateway, json!({"user": "ann"}));
        let mut events = gateway.events();
        peer.reset();
        let closed = events.wait("closed", |row| row["id"] == welcome["session"] && row["code"] == 4008);
        assert_eq!(closed["cause"], "expired", "{closed}");
        assert_eq!((gateway.sessions().len(), gateway.metric("closes_total", "\"4008\"")), (0, 1));

        let (mut back, again) = Peer::resume(gateway, &welcome);
        assert_eq!((&again["resumed"], &again["reason"]), (&json!(false), &json!("expired")), "{again}");
        assert_eq!((&again["session"], &again["user"]), (&welcome["session"], &json!("ann")), "{again}");
        let row = gateway.session(back.address).expect("listed");
        assert_eq!((&row["status"], &row["cause"]), (&json!("leave"), &json!("returned")), "{row}");
        for (beats, status) in [(1, "leave"), (2, "alive")] {
            // Half an interval: sooner a beat moves no cursor.
            back.expect_quiet(std::time::Duration::from_millis(500));
            back.beat(beats);
            let row = gateway.session(back.address).expect("listed");
            assert_eq!((&row["status"], &row["beats"]), (&json!(status), &json!(beats)), "{row}");
        }
        assert_eq!(gateway.session(back.address).expect("listed")["cause"], "stable");
    });
}
