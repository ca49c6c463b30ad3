//! Who may be whom: accounts, tokens, claims, guests, and what operators do to them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::admin::Request;
use crate::gateway::Gateway;
use crate::peer::{AT_ONCE, Peer};
use crate::talker::{OPEN, PASSWORD, Talker, on_one_and_two_shards};

fn login(user: &str, password: &str) -> Value {
    json!({"op": "login", "user": user, "password": password})
}

fn change_user(gateway: &Gateway, user: &str, change: &Value) {
    let request = Request::with("PATCH", &format!("/api/v1/users/{user}"), &change.to_string());
    assert_eq!(request.token(&gateway.token).send(gateway.admin).status, 200);
}

#[test]
fn who_registers_can_log_in_by_password_and_by_token() {
    on_one_and_two_shards(&[], |gateway| {
        let mut first = Talker::hello(gateway, json!({}));
        let register = json!({"op": "register", "user": "Ada", "password": PASSWORD, "remember": true});
        let entered = first.ok(register.clone());
        assert_eq!(entered["user"], "ada", "names have one form");
        let token = entered["token"].as_str().expect("asked for").to_owned();
        first.refused(login("ada", PASSWORD), 1108);
        first.join("lobby");

        let mut second = Talker::hello(gateway, json!({}));
        second.refused(register, 1106);
        let entered = second.ok(login("ADA", PASSWORD));
        assert_eq!((&entered["user"], &entered["token"]), (&json!("ada"), &Value::Null));

        let mut third = Talker::hello(gateway, json!({}));
        third.refused(json!({"op": "token", "token": "nonsense"}), 1105);
        third.refused(json!({"op": "token", "token": token.replace(&token[3..5], "..")}), 1105);
        assert_eq!(third.ok(json!({"op": "token", "token": token}))["user"], "ada");

        let mut fourth = Talker::hello(gateway, json!({"token": token}));
        assert_eq!(fourth.welcome["user"], "ada");
        for talker in [&mut second, &mut third, &mut fourth] {
            talker.join("lobby");
        }
        first.say("lobby", "from one of four");
        for talker in [&mut second, &mut third, &mut fourth] {
            assert_eq!(talker.next("message")["from"], "ada");
        }
        let here = gateway.get("/api/v1/who?user=ada").json();
        assert_eq!((&here["users"][0]["sessions"], &here["users"][0]["verified"]), (&json!(4), &json!(true)), "{here}");
    });
}

#[test]
fn a_hello_with_a_wrong_token_is_refused_and_the_link_lives() {
    let gateway = Gateway::start(&[]);
    let mut peer = Peer::connect(&gateway);
    for token in ["t", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        let error = peer.ask(json!({"op": "hello", "v": 1, "token": token}));
        assert_eq!(error["code"], 1105, "{error}");
    }
    peer.hello(json!({}));
    peer.beat(1);
}

#[test]
fn weak_passwords_and_wrong_names_are_no_account() {
    let gateway = Gateway::start(&[]);
    let mut talker = Talker::hello(&gateway, json!({}));
    for (user, password, code) in [
        ("ada", "short", 1107),
        ("ada", "password1", 1107),
        ("ada", "123456789", 1107),
        ("", PASSWORD, 1104),
        ("a b", PASSWORD, 1104),
        ("guest-1", PASSWORD, 1104),
        ("\u{202e}ada", PASSWORD, 1104),
        ("\u{1b}[31mada", PASSWORD, 1104),
        ("<b>ada</b>", PASSWORD, 1104),
    ] {
        talker.refused(json!({"op": "register", "user": user, "password": password}), code);
    }
    assert_eq!(gateway.get("/api/v1/users").json()["users"], json!([]));
}

#[test]
fn who_changes_the_password_ends_the_tokens() {
    on_one_and_two_shards(&[], |gateway| {
        let mut talker = Talker::hello(gateway, json!({}));
        let register = json!({"op": "register", "user": "ada", "password": PASSWORD, "remember": true});
        let token = talker.ok(register)["token"].clone();
        let change = |old: &str, new: &str| json!({"op": "password", "password": old, "new": new});
        talker.refused(change("a wrong old one", "another long sentence"), 1105);
        talker.refused(change(PASSWORD, "password1"), 1107);
        talker.ok(change(PASSWORD, "another long sentence"));
        talker.join("lobby");
        let mut other = Talker::hello(gateway, json!({}));
        other.refused(json!({"op": "token", "token": token}), 1105);
        other.refused(login("ada", PASSWORD), 1105);
        other.ok(login("ada", "another long sentence"));
    });
}

#[test]
fn a_name_that_nobody_has_gets_the_answers_of_one_that_somebody_has() {
    let gateway = Gateway::start(&[]);
    Talker::register(&gateway, "ada");
    let mut talker = Talker::hello(&gateway, json!({}));
    // The fourth is the right one, and has to wait as well.
    let passwords = ["a wrong password", "a wrong password", "a wrong password", PASSWORD];
    let mut attempts = |user: &str| passwords.map(|password| talker.ask(login(user, password)));
    let mut answers = [attempts("ada"), attempts("nobody")];
    for answer in answers.iter_mut().flatten() {
        answer["re"].take();
        let wait = answer["retry_ms"].take();
        assert!(wait.is_null() || (1..=1000).contains(&wait.as_u64().expect("a number")), "{answer}: {wait}");
    }
    let codes: Vec<_> = answers[0].iter().map(|answer| (answer["code"].clone(), answer["temporary"].clone())).collect();
    let (wrong, wait) = ((json!(1105), json!(false)), (json!(1204), json!(true)));
    assert_eq!(codes, [wrong.clone(), wrong.clone(), wrong, wait]);
    assert_eq!(answers[0], answers[1]);
    change_user(&gateway, "ada", &json!({"unlock": true}));
    gateway.wait_until("the delay to be over", || talker_may_enter(&gateway));
}

fn talker_may_enter(gateway: &Gateway) -> bool {
    Talker::hello(gateway, json!({})).ask(login("ada", PASSWORD))["op"] == "ok"
}

#[test]
fn a_disabled_account_ends_and_stays_out() {
    on_one_and_two_shards(&[], |gateway| {
        let sessions = [Talker::register(gateway, "ada"), Talker::login(gateway, "ada")];
        change_user(gateway, "ada", &json!({"disabled": true}));
        for session in sessions {
            session.bye(4507);
        }
        let mut talker = Talker::hello(gateway, json!({}));
        talker.refused(login("ada", "a wrong password"), 1105);
        talker.refused(login("ada", PASSWORD), 1110);
        talker.bye(4507);
        change_user(gateway, "ada", &json!({"disabled": false}));
        Talker::login(gateway, "ada").join("lobby");
    });
}

#[test]
fn a_deleted_account_ends_and_its_messages_lose_their_name() {
    let gateway = Gateway::start(&[]);
    let (mut ada, mut bob) = (Talker::register(&gateway, "ada"), Talker::register(&gateway, "bob"));
    bob.join("lobby");
    ada.join("lobby");
    ada.say("lobby", "a last word");
    let request = Request::with("DELETE", "/api/v1/users/ada", "{}").token(&gateway.token).send(gateway.admin);
    assert_eq!(request.status, 200);
    ada.bye(4507);
    let old = bob.ok(json!({"op": "history", "room": "lobby"}));
    assert_eq!((&old["messages"][0]["from"], &old["messages"][0]["text"]), (&json!("deleted"), &json!("a last word")));
    let mut other = Talker::hello(&gateway, json!({}));
    other.refused(json!({"op": "register", "user": "ada", "password": PASSWORD}), 1106);
    other.refused(login("ada", PASSWORD), 1105);
}

#[test]
fn where_only_operators_make_accounts_nobody_registers() {
    let gateway = Gateway::start(&[("auth.register", "false")]);
    let mut talker = Talker::hello(&gateway, json!({}));
    talker.refused(json!({"op": "register", "user": "ada", "password": PASSWORD}), 1109);
    gateway.post("/api/v1/users", &json!({"name": "ada", "password": PASSWORD})).json();
    talker.ok(login("ada", PASSWORD));
}

#[test]
fn the_tutorials_hash_lets_in_once_and_is_replaced() {
    let gateway = Gateway::start(&[]);
    // Of `tutorial-pass`.
    let rows = json!([{"name": "ada", "md5": "68b2a5f038c799ee4f9c59988082ac97"}]);
    let imported = gateway.post("/api/v1/import", &json!({"rows": rows})).json();
    assert_eq!(imported["results"][0]["done"], "added");
    let kind = || gateway.get("/api/v1/users").json()["users"][0]["password"].clone();
    assert_eq!(kind(), "md5");
    let mut talker = Talker::hello(&gateway, json!({}));
    talker.refused(login("ada", "another-pass"), 1105);
    talker.ok(login("ada", "tutorial-pass"));
    assert_eq!(kind(), "argon2id");
    Talker::hello(&gateway, json!({})).ok(login("ada", "tutorial-pass"));
}

#[test]
fn where_names_are_claims_there_is_nothing_to_log_in_to() {
    on_one_and_two_shards(&[OPEN], |gateway| {
        let mut talker = Talker::open(gateway, "Ada");
        assert_eq!(talker.welcome["user"], "ada");
        talker.refused(json!({"op": "register", "user": "ada", "password": PASSWORD}), 1101);
        talker.refused(login("ada", PASSWORD), 1101);
        talker.refused(json!({"op": "token", "token": "t"}), 1101);
        talker.refused(json!({"op": "password", "password": PASSWORD, "new": PASSWORD}), 1101);
        talker.join("lobby");
        let here = gateway.get("/api/v1/who").json();
        assert_eq!(
            (&here["users"][0]["user"], &here["users"][0]["verified"]),
            (&json!("ada"), &json!(false)),
            "{here}"
        );
        let mut peer = Peer::connect(gateway);
        assert_eq!(peer.ask(json!({"op": "hello", "v": 1, "token": "t"}))["code"], 1101);
        for user in ["\u{202e}ada", "a\u{7}b", "<script>"] {
            assert_eq!(peer.ask(json!({"op": "hello", "v": 1, "user": user}))["code"], 1104, "{user:?}");
        }
        peer.hello(json!({}));
        assert_eq!(peer.ask(json!({"op": "join", "room": "lobby"}))["code"], 1103);
    });
}

#[test]
fn where_a_login_is_required_who_has_none_may_not_even_beat() {
    let settings = [("auth.required", "true"), ("limits.first_frame", "5s")];
    on_one_and_two_shards(&settings, |gateway| {
        let mut user = Talker::register(gateway, "ada");
        let mut nobody = Talker::hello(gateway, json!({}));
        nobody.refused(json!({"op": "beat", "t": 1}), 1103);
        nobody.refused(json!({"op": "status", "status": "leave"}), 1103);
        nobody.bye(4007);
        user.peer.beat(1);
        gateway.wait_for_metric("closes_total", "\"4007\"", 1);
        user.join("lobby");
    });
}

#[test]
fn a_guest_talks_under_a_made_up_name_until_it_logs_in() {
    on_one_and_two_shards(&[("auth.guests", "true")], |gateway| {
        let mut ada = Talker::register(gateway, "ada");
        ada.join("lobby");
        ada.join("den");
        ada.ok(json!({"op": "room", "room": "den", "public": false}));
        let mut guest = Talker::hello(gateway, json!({"user": "ada"}));
        let name = guest.welcome["user"].as_str().expect("made up").to_owned();
        assert!(name.starts_with("guest-"), "{name}");
        guest.refused(json!({"op": "join", "room": "den"}), 1305);
        guest.join("lobby");
        guest.say("lobby", "hello from nobody");
        assert_eq!(ada.next("message")["from"], name);
        let here = gateway.get(&format!("/api/v1/who?user={name}")).json();
        assert_eq!(here["users"][0]["verified"], false, "{here}");
        guest.ok(json!({"op": "register", "user": "bob", "password": PASSWORD}));
        let parted = ada.next_where("presence", |told| told["user"] == name && told["status"] == "close");
        assert_eq!(parted["room"], "lobby");
        guest.refused(json!({"op": "say", "room": "lobby", "text": "still in?"}), 1301);
        guest.join("lobby");
        guest.say("lobby", "hello from bob");
        assert_eq!(ada.next("message")["from"], "bob");
    });
}

#[test]
fn a_newer_session_replaces_an_older_one_where_only_one_is_allowed() {
    on_one_and_two_shards(&[("auth.sessions", "single")], |gateway| {
        let mut last = Talker::register(gateway, "ada");
        let mut bystander = Talker::register(gateway, "bob");
        for _ in 0..4 {
            let next = Talker::login(gateway, "ada");
            last.bye(4508);
            last = next;
        }
        last.join("lobby");
        bystander.join("lobby");
        bystander.say("lobby", "who is left?");
        assert_eq!(last.next("message")["text"], "who is left?");
        let here = gateway.get("/api/v1/who?user=ada").json();
        assert_eq!(here["users"][0]["sessions"], 1, "{here}");
    });
}

#[test]
fn hashes_that_would_wait_too_long_are_refused_at_once_and_beats_go_on() {
    let gateway = Gateway::start(&[]);
    let mut beating = Talker::hello(&gateway, json!({}));
    let mut peer = Peer::connect(&gateway);
    peer.hello(json!({}));
    // Other names and other addresses, or the delays would come first.
    let mut crowd: Vec<Peer> = (0..40)
        .map(|n| {
            let from = format!("127.0.{}.7:0", n + 2).parse().expect("an address");
            let mut peer = Peer::from(&gateway, from).expect("the clients' port");
            peer.hello(json!({}));
            for k in 0..8 {
                peer.say(&json!({"op": "login", "user": format!("u{n}-{k}"), "password": PASSWORD, "id": k}));
            }
            peer
        })
        .collect();
    beating.peer.beat(1);
    let mut codes = std::collections::BTreeMap::new();
    for peer in &mut crowd {
        for _ in 0..8 {
            let answer = peer.answer();
            *codes.entry(answer["code"].as_u64()).or_insert(0) += 1;
            if answer["code"] == 1202 {
                assert!(answer["temporary"] == true && answer["retry_ms"].as_u64() > Some(0), "{answer}");
            }
        }
    }
    assert!(codes.keys().all(|code| matches!(code, Some(1105 | 1202))), "{codes:?}");
    assert!(codes.contains_key(&Some(1105)) && codes.contains_key(&Some(1202)), "{codes:?}");
}

#[test]
fn a_banned_user_is_cut_off_and_refused_until_the_ban_ends() {
    on_one_and_two_shards(&[], |gateway| {
        let ada = Talker::register(gateway, "ada");
        let ban = json!({"user": "ada", "for_ms": 2_500, "reason": "noise"});
        gateway.post("/api/v1/bans", &ban).json();
        ada.bye(4501);
        let mut talker = Talker::hello(gateway, json!({}));
        let error = talker.refused(login("ada", PASSWORD), 1111);
        assert!((1..=2_500).contains(&error["retry_ms"].as_u64().expect("it ends")), "{error}");
        talker.bye(4501);
        gateway.wait_until("the ban to end", || talker_may_enter(gateway));
    });
}

#[test]
fn a_banned_address_is_refused_at_hello_until_it_is_let_in_again() {
    let gateway = Gateway::start(&[]);
    let from = |address: &str| Peer::from(&gateway, address.parse().expect("an address")).expect("the clients' port");
    let ban = json!({"address": "127.0.7.0/24", "reason": "noise"});
    gateway.post("/api/v1/bans", &ban).json();
    let mut banned = from("127.0.7.9:0");
    banned.say(&json!({"op": "hello", "v": 1, "id": 1}));
    let error = banned.answer();
    assert_eq!((&error["re"], &error["code"]), (&json!(1), &json!(1111)), "{error}");
    assert_eq!(banned.read_bye()["code"], 4501);
    let mut legacy = from("127.0.7.10:0");
    legacy.send_frame(crate::peer::TUTORIAL);
    legacy.expect_closed_within(AT_ONCE);
    assert_eq!(gateway.closed_row(legacy.address)["code"], 4501);
    assert_eq!(gateway.sessions().len(), 0);
    from("127.0.8.9:0").hello(json!({}));
    let scratch = gateway.kill();
    let gateway = crate::gateway::Setup::new().scratch(&scratch).start();
    let from = |address: &str| Peer::from(&gateway, address.parse().expect("an address")).expect("the clients' port");
    let mut banned = from("127.0.7.9:0");
    assert_eq!(banned.ask(json!({"op": "hello", "v": 1}))["code"], 1111, "a ban survives a restart");
    let unban = Request::with("DELETE", "/api/v1/bans?address=127.0.7.0/24", "{}").token(&gateway.token);
    assert_eq!(unban.send(gateway.admin).status, 200);
    from("127.0.7.9:0").hello(json!({}));
    let for_a_moment = json!({"address": "127.0.7.0/24", "for_ms": 500});
    gateway.post("/api/v1/bans", &for_a_moment).json();
    gateway.wait_until("the ban to end", || from("127.0.7.9:0").ask(json!({"op": "hello", "v": 1}))["op"] == "welcome");
}

#[test]
fn a_flapping_user_is_kept_out_for_half_a_minute() {
    on_one_and_two_shards(&[OPEN, ("limits.links_per_minute", "3")], |gateway| {
        let mut ends = 0;
        for _ in 0..8 {
            let mut peer = Peer::connect(gateway);
            peer.say(&json!({"op": "hello", "v": 1, "user": "moth"}));
            let answer = peer.answer();
            if answer["op"] == "bye" {
                assert_eq!((&answer["code"], &answer["retry_ms"]), (&json!(4012), &json!(30_000)), "{answer}");
                ends += 1;
            }
        }
        assert!(ends >= 2, "{ends}");
        Talker::open(gateway, "calm").join("lobby");
        gateway.wait_for_metric("closes_total", "\"4012\"", ends);
    });
}

#[test]
fn three_links_a_minute_are_not_one_a_second() {
    let gateway = Gateway::start(&[OPEN, ("limits.links_per_minute", "3"), ("server.shards", "1")]);
    let mut last = Talker::open(&gateway, "moth");
    for _ in 0..2 {
        last = Talker::open(&gateway, "moth");
    }
    last.peer.expect_quiet(Duration::from_millis(1100));
    let mut peer = Peer::connect(&gateway);
    peer.say(&json!({"op": "hello", "v": 1, "user": "moth"}));
    assert_eq!(peer.read_bye()["code"], 4012);
}

#[test]
fn a_login_waits_for_nobody_else() {
    let gateway = Gateway::start(&[]);
    let mut talker = Talker::hello(&gateway, json!({}));
    talker.peer.say(&json!({"op": "register", "user": "ada", "password": PASSWORD, "id": "r"}));
    let mut other = Talker::hello(&gateway, json!({}));
    other.peer.expect_quiet(Duration::from_millis(1));
    other.peer.beat(1);
    assert_eq!(talker.peer.answer()["user"], "ada");
}
