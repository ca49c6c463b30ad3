//! v1 sessions on their links.

use super::*;

#[test]
fn a_welcome_tells_the_terms() {
    let mut world = World::new();
    let (_, welcome) = world.hello(1, json!({"id": 7, "interval_ms": 20_000, "user": "ann"}));
    assert_eq!(welcome["re"], 7);
    assert_eq!(welcome["gen"], 1);
    assert_eq!(welcome["user"], "ann");
    assert_eq!(welcome["resumed"], false);
    assert_eq!(welcome["reason"], Value::Null);
    let beat = json!({"interval_ms": 20_000, "min_ms": 1000, "detect_ms": 130_000, "leave_hold_ms": 1_800_000});
    assert_eq!(welcome["beat"], beat);
    assert_eq!(welcome["resume"]["window_ms"], 120_000);
    assert_eq!(welcome["resume"]["secret"].as_str().map(str::len), Some(43));
}

#[test]
fn a_wished_interval_is_clamped() {
    for (wished, granted) in [(1, 1000), (1000, 1000), (600_000, 600_000), (u64::MAX, 600_000)] {
        let (_, welcome) = World::new().hello(1, json!({"interval_ms": wished}));
        assert_eq!(welcome["beat"]["interval_ms"], granted);
    }
}

#[test]
fn a_beat_is_echoed_with_the_bound_as_it_stands() {
    let mut world = World::new();
    let (link, _) = world.hello(1, json!({}));
    let mut bounds = Vec::new();
    for n in 1..=4 {
        world.pass(SECOND * 10);
        world.send(link, &json!({"op": "beat", "t": n, "id": "x"}).to_string());
        let reply = world.said(link).remove(0);
        assert_eq!((&reply["op"], &reply["t"], &reply["re"]), (&json!("beat"), &json!(n), &json!("x")));
        bounds.push(reply["detect_ms"].as_u64().unwrap());
    }
    assert_eq!(bounds, [75_000, 85_000, 95_000, 95_000]);
}

#[test]
fn the_server_measures_the_round_trip_by_asking() {
    let mut world = World::new();
    let (link, _) = world.hello(1, json!({}));
    world.send(link, r#"{"op":"beat"}"#);
    let said = world.said(link);
    let ask = &said[1];
    assert_eq!((&ask["now"], said.len()), (&json!(true), 2));
    world.pass(Duration::from_millis(25));
    world.send(link, &json!({"op": "beat", "re": ask["id"]}).to_string());
    assert_eq!(world.only().rtt_us, Some(25_000));
    assert_eq!(world.stats().beat_rtt.count(), 1);
}

#[test]
fn without_an_id_there_is_no_reply_but_to_beats() {
    let mut world = World::new();
    let (link, _) = world.hello(1, json!({}));
    world.send(link, r#"{"op":"status","status":"leave"}"#);
    assert_eq!(world.said(link), [] as [Value; 0]);
    world.send(link, r#"{"op":"status","status":"alive","id":1}"#);
    assert_eq!(world.answer(link), json!({"op": "ok", "re": 1}));
    world.send_bytes(link, &[0, 0, 0, 0]);
    assert_eq!(world.said(link), [] as [Value; 0]);
    assert_eq!(world.only().beats, 1, "a frame of length 0 is a beat");
}

#[test]
fn a_wrong_request_gets_its_error_and_the_link_lives() {
    let mut world = World::new();
    let (link, _) = world.hello(1, json!({}));
    for (body, code) in [
        (r#"{"op":"dance","id":1}"#, 1001),
        (r#"{"op":"status","id":1}"#, 1002),
        (r#"{"op":"status","status":7,"id":1}"#, 1003),
        (r#"{"op":"hello","v":1,"id":1}"#, 1005),
    ] {
        world.send(link, body);
        let error = world.answer(link);
        assert_eq!((&error["op"], &error["code"], &error["re"]), (&json!("error"), &json!(code), &json!(1)), "{body}");
    }
    assert!(world.closes.is_empty());
}

#[test]
fn who_says_no_hello_is_told_so_and_closed_after_ten_seconds() {
    let mut world = World::new();
    let link = world.open(1);
    world.send(link, r#"{"op":"beat","id":1}"#);
    assert_eq!(world.answer(link)["code"], 1004);
    world.pass(SECOND * 10 + LOOK_LATE_MAX);
    let bye = world.answer(link);
    assert_eq!((&bye["op"], &bye["code"]), (&json!("bye"), &json!(4007)));
}

#[test]
fn another_version_is_refused_for_good() {
    let mut world = World::new();
    let link = world.open(1);
    world.send(link, r#"{"op":"hello","v":2,"id":1}"#);
    let said = world.said(link);
    assert_eq!((&said[0]["code"], &said[1]["code"]), (&json!(1006), &json!(4502)));
}

#[test]
fn declared_leave_and_back() {
    let mut world = World::new();
    let (link, _) = world.hello(1, json!({}));
    world.send(link, r#"{"op":"status","status":"leave"}"#);
    world.pass(SECOND);
    world.send(link, r#"{"op":"status","status":"alive"}"#);
    assert_eq!(world.turns(), [(0.0, Status::Leave, Cause::Declared), (1.0, Status::Alive, Cause::Declared)]);
}

#[test]
fn only_who_ever_acted_becomes_idle_and_an_act_ends_it() {
    let mut world = World::new();
    let (actor, _) = world.hello(1, json!({}));
    let (quiet, _) = world.hello(2, json!({}));
    world.send(actor, r#"{"op":"status","status":"alive"}"#);
    for _ in 0..185 {
        world.pass(SECOND * 10);
        world.send(actor, r#"{"op":"beat"}"#);
        world.send(quiet, r#"{"op":"beat"}"#);
    }
    assert_eq!(world.turns(), [(1800.0, Status::Leave, Cause::Idle)]);
    world.send(actor, r#"{"op":"status","status":"alive"}"#);
    assert_eq!(world.turns(), [(1850.0, Status::Alive, Cause::Idle)]);
}

#[test]
fn a_silent_link_is_cut_at_twice_its_bound_and_the_session_stays_for_its_window() {
    let mut world = World::new();
    let (link, _) = world.hello(1, json!({"user": "ann"}));
    world.pass_until(129.99);
    assert!(world.closes.is_empty());
    world.pass_until(130.1);
    assert_eq!(world.closes[&link], Manner::Abort);
    assert_eq!(world.answer(link)["code"], 4004);
    assert_eq!(world.only().status, Status::Leave);
    world.pass_until(250.1);
    assert_eq!(world.turns(), [(65.0, Status::Leave, Cause::Silent), (250.0, Status::Close, Cause::Expired)]);
    assert_eq!(world.shard.session_count(), 0);
}

#[test]
fn the_worst_of_three_decides_and_each_reason_ends_by_itself() {
    let mut world = World::new();
    let (link, _) = world.hello(1, json!({"user": "ann"}));
    world.send(link, r#"{"op":"status","status":"leave"}"#);
    world.pass_until(66.0);
    assert_eq!((world.only().status, world.only().cause), (Status::Leave, Some(Cause::Silent)));
    for second in [70.0, 80.0, 90.0] {
        world.pass_until(second);
        world.send(link, r#"{"op":"beat"}"#);
    }
    assert_eq!((world.only().status, world.only().cause), (Status::Leave, Some(Cause::Declared)));
    world.send(link, r#"{"op":"status","status":"alive"}"#);
    assert_eq!(world.turns(), [(0.0, Status::Leave, Cause::Declared), (90.0, Status::Alive, Cause::Declared)]);
}

#[test]
fn a_deadline_profile_asks_for_a_beat_before_it_decides() {
    let mut world = World::with(terms("deadline"));
    let (link, _) = world.hello(1, json!({}));
    world.pass_until(25.1);
    assert_eq!(world.answer(link)["now"], true);
    world.pass_until(65.1);
    assert_eq!(world.turns(), [(65.0, Status::Leave, Cause::Silent)]);
    world.send(link, r#"{"op":"beat"}"#);
    assert_eq!(world.turns().len(), 1, "one beat is enough there");
}

#[test]
fn a_mobile_session_beats_less_and_less_often_while_that_works() {
    let mut world = World::with(terms("mobile"));
    let (link, welcome) = world.hello(1, json!({"user": "ann"}));
    assert_eq!(welcome["beat"]["interval_ms"], 60_000);
    let mut interval = 60_000;
    let mut granted = Vec::new();
    for _ in 0..60 {
        world.pass(Duration::from_millis(interval));
        world.send(link, r#"{"op":"beat"}"#);
        if let Some(new) = world.said(link)[0]["interval_ms"].as_u64() {
            interval = new;
            granted.push(new / 1000);
        }
    }
    assert_eq!(world.stats().misses, 0);
    assert_eq!(granted, [120, 180, 240, 300, 360, 420, 480, 540, 590]);
    assert_eq!(world.turns(), []);
    world.end(link);
    let (_, welcome) = world.hello(2, resume(&welcome, 0));
    assert_eq!(welcome["beat"]["interval_ms"], 530_000);
}

#[test]
fn bye_ends_the_session_for_good() {
    let mut world = World::new();
    let (link, welcome) = world.hello(1, json!({}));
    world.send(link, r#"{"op":"bye","id":1}"#);
    assert_eq!(world.answer(link), json!({"op": "ok", "re": 1}));
    assert_eq!(world.closes[&link], Manner::Gently);
    assert_eq!(world.turns(), [(0.0, Status::Close, Cause::Goodbye)]);
    let (_, again) = world.hello(2, resume(&welcome, 0));
    assert_eq!((&again["resumed"], &again["reason"]), (&json!(false), &json!("unknown")));
    assert_ne!(again["session"], welcome["session"]);
}

#[test]
fn a_kicked_session_is_told_and_gone() {
    let mut world = World::new();
    let (link, welcome) = world.hello(1, json!({}));
    let identity = Identity::parse(welcome["session"].as_str().unwrap()).unwrap();
    world.input(Input::Kick { identity });
    let bye = world.answer(link);
    assert_eq!((&bye["code"], bye.get("retry_ms")), (&json!(4504), None));
    assert_eq!(world.turns(), [(0.0, Status::Close, Cause::Kicked)]);
    assert_eq!(world.closed()[0].code, Some(CloseCode::Kicked));
    let (_, again) = world.hello(2, resume(&welcome, 0));
    assert_ne!(again["session"], welcome["session"]);
}

#[test]
fn a_drain_tells_everybody_when_to_come_back() {
    let mut world = World::new();
    let links: Vec<_> = (0..600).map(|port| world.hello(port, json!({})).0).collect();
    let legacy = world.open(9000);
    world.send(legacy, BEAT);
    world.input(Input::Drain { spread: SECOND * 10 });
    world.pass(SECOND);
    let mut delays: Vec<_> = Vec::new();
    for link in links {
        let bye = world.answer(link);
        assert_eq!(bye["code"], 4001);
        delays.push(bye["retry_ms"].as_u64().unwrap());
    }
    assert!(delays.iter().all(|delay| *delay <= 10_000));
    let mean = delays.iter().sum::<u64>() / delays.len() as u64;
    assert!((4_000..6_000).contains(&mean), "{mean}");
    assert_eq!(world.closes[&legacy], Manner::AtOnce);
    let late = world.open(9001);
    world.send(late, r#"{"op":"hello","v":1}"#);
    assert_eq!(world.answer(late)["code"], 4001);
}

#[test]
fn three_malformed_frames_are_enough_for_one_session() {
    let mut world = World::new();
    let (mut link, mut welcome) = world.hello(1, json!({}));
    let mut codes = Vec::new();
    for port in 2..5 {
        world.send(link, "{");
        codes.push(world.answer(link)["code"].as_u64().unwrap());
        (link, welcome) = world.hello(port, resume(&welcome, 0));
        assert_eq!(welcome["resumed"], codes.len() < 3, "the third ends the session");
    }
    assert_eq!(codes, [4002, 4002, 4503]);
}

#[test]
fn secrets_are_not_shown_on_plain_links_from_afar_unless_that_was_accepted() {
    for (insecure, first_op) in [(false, "error"), (true, "welcome")] {
        let mut world = World::with(Terms { insecure, ..terms("seed") });
        let link = LinkId(0);
        let afar = SocketAddr::from(([192, 0, 2, 1], 4000)).into();
        world.input(Input::Opened { link, peer: afar });
        world.send(link, r#"{"op":"hello","v":1}"#);
        assert_eq!(world.answer(link)["op"], first_op);
    }
}

#[test]
fn a_flood_of_beats_stretches_no_interval() {
    let mut world = World::with(terms("mobile"));
    let (link, _) = world.hello(1, json!({}));
    world.pass(SECOND * 60);
    world.send_bytes(link, &frame(r#"{"op":"beat"}"#).repeat(100));
    assert!(world.said(link).iter().all(|said| said.get("interval_ms").is_none()));
    assert_eq!(world.only().interval, SECOND * 60);
}
