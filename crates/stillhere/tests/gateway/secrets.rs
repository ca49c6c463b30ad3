//! Secrets that are old, wrong or lost on the way.

use serde_json::{Value, json};

use crate::gateway::{Gateway, Setup};
use crate::peer::{Peer, proof};

/// One shard and several: the session may be another's than the link's.
fn check(test: impl Fn(&Gateway)) {
    for shards in ["1", "3"] {
        test(&Setup::new().set("server.shards", shards).start());
    }
}

/// Shows a secret that isn't valid: a session of its own, and the real one doesn't notice.
fn expect_refused(gateway: &Gateway, shown: &Value, real: &mut Peer, beat: u64) {
    let (_thief, welcome) = Peer::resume(gateway, shown);
    assert_eq!((&welcome["resumed"], &welcome["reason"]), (&json!(false), &json!("refused")), "{welcome}");
    assert_ne!(welcome["session"], shown["session"]);
    real.beat(beat);
    let row = gateway.session(real.address).expect("listed");
    assert_eq!((&row["id"], &row["status"]), (&shown["session"], &json!("alive")), "{row}");
    assert_eq!(row["linked"], true, "{row}");
}

#[test]
fn a_secret_whose_successor_was_proven_is_refused_counted_and_alarmed() {
    check(|gateway| {
        let mut events = gateway.events();
        let (peer, first) = Peer::v1(gateway, json!({}));
        peer.reset();
        let (mut real, _) = Peer::resume(gateway, &first);
        real.beat(1);
        expect_refused(gateway, &first, &mut real, 2);
        assert_eq!(gateway.metric("refused_total", "\"stale_secret\""), 1);
        assert_eq!(gateway.metric("resumes_total", "\"refused\""), 1);
        let alarm = events.wait("alarm", |_| true);
        assert_eq!((&alarm["id"], &alarm["reason"]), (&first["session"], &json!("stale_secret")), "{alarm}");
        assert!(gateway.log().contains("somebody may have stolen it"), "{}", gateway.log());
        expect_refused(gateway, &first, &mut real, 3);
        assert_eq!(gateway.metric("refused_total", "\"stale_secret\""), 2);
    });
}

#[test]
fn a_secret_that_never_was_one_is_refused_and_counted() {
    check(|gateway| {
        let (mut real, welcome) = Peer::v1(gateway, json!({}));
        let (_other, stranger) = Peer::v1(gateway, json!({}));
        let mut guess = welcome.clone();
        guess["resume"]["secret"] = stranger["resume"]["secret"].clone();
        expect_refused(gateway, &guess, &mut real, 1);
        assert_eq!(gateway.metric("refused_total", "\"wrong_secret\""), 1);
        assert_eq!(gateway.metric("refused_total", "\"stale_secret\""), 0);
    });
}

#[test]
fn a_lost_welcome_locks_nobody_out() {
    check(|gateway| {
        let (peer, first) = Peer::v1(gateway, json!({}));
        peer.reset();
        // Twice a welcome is lost: the client knows only the first secret.
        for generation in [2, 3] {
            let (peer, welcome) = Peer::resume(gateway, &first);
            assert_eq!((&welcome["resumed"], &welcome["gen"]), (&json!(true), &json!(generation)), "{welcome}");
            peer.reset();
        }
        let (mut real, last) = Peer::resume(gateway, &first);
        assert_eq!((&last["resumed"], &last["gen"]), (&json!(true), &json!(4)), "{last}");
        // A frame proves that this one arrived.
        real.beat(1);
        expect_refused(gateway, &first, &mut real, 2);
        assert_eq!(gateway.metric("refused_total", "\"stale_secret\""), 1);
        real.reset();
        assert_eq!(Peer::resume(gateway, &last).1["resumed"], true);
    });
}

#[test]
fn the_new_secret_works_though_no_frame_followed_its_welcome() {
    check(|gateway| {
        let (peer, mut welcome) = Peer::v1(gateway, json!({}));
        peer.reset();
        for _ in 0..3 {
            let (peer, again) = Peer::resume(gateway, &welcome);
            assert_eq!((&again["resumed"], &again["session"]), (&json!(true), &welcome["session"]), "{again}");
            peer.reset();
            welcome = again;
        }
    });
}

#[test]
fn a_frame_of_length_0_proves_that_a_welcome_arrived() {
    check(|gateway| {
        let (peer, first) = Peer::v1(gateway, json!({}));
        peer.reset();
        let (mut real, _) = Peer::resume(gateway, &first);
        real.send_frame("");
        real.expect_quiet(std::time::Duration::from_millis(50));
        expect_refused(gateway, &first, &mut real, 1);
    });
}

#[test]
fn too_many_refused_resumes_make_an_address_wait_and_no_other() {
    // One shard, since each counts for itself.
    let gateway = Gateway::start(&[("server.shards", "1")]);
    let (mut real, welcome) = Peer::v1(&gateway, json!({}));
    let mut guess = welcome.clone();
    guess["resume"]["secret"] = json!("A".repeat(43));
    for _ in 0..10 {
        assert_eq!(Peer::resume(&gateway, &guess).1["reason"], "refused");
    }
    let mut thief = Peer::connect(&gateway);
    let mut hello = proof(&guess, 0);
    (hello["op"], hello["v"]) = (json!("hello"), json!(1));
    let error = thief.ask(hello);
    assert_eq!((&error["code"], &error["name"]), (&json!(1201), &json!("resume_busy")), "{error}");
    assert_eq!(error["temporary"], true);
    let retry_ms = error["retry_ms"].as_u64().expect("a number");
    assert!((30_000..=60_000).contains(&retry_ms), "{error}");
    let bye = thief.read_bye();
    assert_eq!(bye["code"], 4006, "{bye}");
    assert!(bye["retry_ms"].as_u64().is_some_and(|ms| (30_000..=60_000).contains(&ms)), "{bye}");
    assert_eq!(gateway.closed_row(thief.address)["code"], 4006);
    assert_eq!(gateway.metric("refused_total", "\"wrong_secret\""), 10);
    assert_eq!(gateway.metric("refused_total", "\"resume_busy\""), 1);

    // The session is as it was; a new one needs no proof; and another address may resume.
    real.beat(1);
    let (_new, _) = Peer::v1(&gateway, json!({}));
    real.reset();
    let mut elsewhere = Peer::from(&gateway, "127.0.0.9:0".parse().expect("an address")).expect("the clients' port");
    assert_eq!(elsewhere.hello(proof(&welcome, 0))["resumed"], true);
}
