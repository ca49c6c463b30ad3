//! `ctl` against an admin API with canned answers, and against none.

use std::sync::mpsc::Receiver;

use serde_json::json;

use crate::admin::{Asked, serve};
use crate::run::{Ended, Scratch, run_with};

/// Runs `stillhere ctl ARGS` against these answers.
fn ctl(args: &[&str], answers: &'static [(u16, &'static str)]) -> (Ended, Receiver<Asked>) {
    let scratch = Scratch::new();
    scratch.file("admin.token", "secret-token\n");
    let (address, asked) = serve(answers);
    let (address, data_dir) = (address.to_string(), scratch.path());
    let place = ["ctl", "--admin", &address, "--data-dir", &data_dir];
    // A proxy of the environment must not see the token.
    let proxy = [
        ("http_proxy", "http://127.0.0.1:9"),
        ("HTTP_PROXY", "http://127.0.0.1:9"),
        ("ALL_PROXY", "http://127.0.0.1:9"),
    ];
    (run_with(&[&place[..], args].concat(), &proxy, ""), asked)
}

const TWO_PAGES: &[(u16, &str)] = &[
    (
        200,
        r#"{"sessions":[{"id":"127.0.0.1:1","peer":"127.0.0.1:1","mode":"legacy","transport":"tcp","status":"alive",
            "cause":null,"since":"2026-07-01T00:00:00Z","cursor":2,"strikes":0,"beats":1,"last_heard_ms":12,
            "interval_ms":10000,"rtt_ms":null,"detect_ms":65000,"leave_in_ms":64988,"new":true}],
            "total":2,"next":"a b"}"#,
    ),
    (200, r#"{"sessions":[{"id":"s2","status":"leave","cause":"silent"}],"total":2,"next":null}"#),
];

#[test]
fn sessions_are_shown_in_a_table_with_the_token_sent() {
    let (ended, asked) = ctl(&["sessions", "--status", "alive", "--user", "a&b"], TWO_PAGES);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out.contains("127.0.0.1:1") && ended.out.contains("65.0s"), "{}", ended.out);
    assert!(ended.out.ends_with("1 of 2 sessions; --all for all\n"), "{}", ended.out);
    assert!(!ended.out.contains('\u{1b}'), "no colours in a pipe");
    let request = asked.recv().expect("asked");
    assert_eq!(request.line, "GET /api/v1/sessions?status=alive&user=a%26b");
    assert_eq!(request.authorization, "Bearer secret-token");
}

#[test]
fn all_follows_the_pages_and_json_keeps_what_it_doesn_t_know() {
    let (ended, asked) = ctl(&["sessions", "--all", "--json"], TWO_PAGES);
    let list = ended.json();
    assert_eq!(list["sessions"].as_array().map(Vec::len), Some(2));
    assert_eq!((&list["total"], &list["next"]), (&2.into(), &serde_json::Value::Null));
    assert_eq!(list["sessions"][0]["new"], true);
    assert_eq!(asked.recv().expect("asked").line, "GET /api/v1/sessions?limit=20000");
    let second = asked.recv().expect("asked").line;
    assert!(
        second == "GET /api/v1/sessions?after=a%20b&limit=20000"
            || second == "GET /api/v1/sessions?after=a+b&limit=20000",
        "{second}"
    );
}

#[test]
fn a_limit_takes_as_many_pages_as_it_needs() {
    let (ended, asked) = ctl(&["sessions", "--limit", "2"], TWO_PAGES);
    assert!(ended.out.ends_with("2 sessions\n"), "{ended:?}");
    assert_eq!(asked.recv().expect("asked").line, "GET /api/v1/sessions?limit=2");
    assert!(asked.recv().expect("asked").line.ends_with("&limit=1"));
}

#[test]
fn kick_sends_whom_and_tells_how_many() {
    let (ended, asked) = ctl(&["kick", "127.0.0.1:1"], &[(200, r#"{"kicked":1}"#)]);
    assert_eq!((ended.code, ended.out.as_str()), (0, "kicked 1 session\n"));
    let request = asked.recv().expect("asked");
    assert_eq!(request.line, "POST /api/v1/kick");
    assert_eq!(request.json(), json!({ "peer": "127.0.0.1:1" }));

    let (_, asked) = ctl(&["kick", "s-1"], &[(200, r#"{"kicked":2}"#)]);
    assert_eq!(asked.recv().expect("asked").json(), json!({ "id": "s-1" }));

    let (ended, asked) = ctl(&["kick", "--user", "ada"], &[(200, r#"{"kicked":0}"#)]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("nobody was kicked"), "{ended:?}");
    assert_eq!(asked.recv().expect("asked").json(), json!({ "user": "ada" }));
}

#[test]
fn reload_tells_what_was_applied_and_what_was_not() {
    let answer = r#"{"applied":["detector.interval"],"needs_restart":["server.shards"],"errors":[]}"#;
    let answers: &[(u16, &str)] = Box::leak(Box::new([(200, answer)]));
    let (ended, _) = ctl(&["reload"], answers);
    assert_eq!(ended.code, 0);
    assert_eq!(ended.out, "applied: detector.interval\nonly after a restart: server.shards\n");

    let wrong = &[(422, r#"{"applied":[],"needs_restart":[],"errors":["s.toml:2: no"]}"#)];
    let (ended, _) = ctl(&["reload"], wrong);
    assert_eq!((ended.code, ended.out.as_str()), (1, "not reloaded: s.toml:2: no\n"));
}

#[test]
fn closed_stats_and_drain_are_shown() {
    let closed = &[(
        200,
        r#"{"closed":[{"peer":"127.0.0.1:9","mode":"unknown","transport":"tcp","code":4007,"name":"no_hello"}],
            "total":1,"next":null}"#,
    )];
    assert!(ctl(&["closed"], closed).0.out.contains("4007 no_hello"));
    let (ended, _) = ctl(&["stats"], &[(200, r#"{"beats_total":{"legacy":1200}}"#)]);
    assert!(ended.out.contains("beats_total.legacy  1,200"), "{ended:?}");
    let (ended, _) = ctl(&["drain"], &[(200, r#"{"draining":true,"links":3}"#)]);
    assert!(ended.out.starts_with("draining: 3 links"), "{ended:?}");
}

#[test]
fn the_api_s_own_words_are_passed_on_without_their_colours() {
    let (ended, _) = ctl(&["drain"], &[(409, r#"{"error":{"code":1500,"message":"already \u001b[31mdraining"}}"#)]);
    assert_eq!((ended.code, ended.err.as_str()), (1, "stillhere: already \\u{1b}[31mdraining\n"));
}

#[test]
fn a_wrong_token_and_a_stranger_are_told_apart() {
    let (ended, _) = ctl(&["stats"], &[(401, r#"{"error":{"code":"unauthorized","message":"no"}}"#)]);
    assert!(ended.err.contains("doesn't accept the token") && ended.err.contains("--data-dir"), "{ended:?}");
    let (ended, _) = ctl(&["stats"], &[(200, "<html>")]);
    assert!(ended.err.contains("is it a stillhere of another version?"), "{ended:?}");
}

#[test]
fn nobody_there_is_a_question_not_a_stack_trace() {
    let scratch = Scratch::new();
    let data_dir = scratch.path();
    let ended = run_with(&["ctl", "--data-dir", &data_dir, "sessions"], &[], "");
    assert_eq!(ended.code, 1);
    assert!(
        ended.err.contains("there is no admin token") && ended.err.contains("is `stillhere serve` running?"),
        "{ended:?}"
    );

    scratch.file("admin.token", "secret-token");
    let (address, _) = serve(&[]);
    let address = address.to_string();
    let refused = run_with(&["ctl", "--data-dir", &data_dir, "--admin", &address, "sessions"], &[], "");
    assert_eq!(refused.code, 1);
    let told = refused.err.contains("nothing listens on") || refused.err.contains("can't talk to");
    assert!(told, "{refused:?}");

    scratch.file("admin.token", "two\nlines");
    let odd = run_with(&["ctl", "--data-dir", &data_dir, "sessions"], &[], "");
    assert!(odd.err.contains("holds no admin token"), "{odd:?}");
}

/// The same with something on standard input.
fn ctl_with_input(args: &[&str], answers: &'static [(u16, &'static str)], input: &str) -> (Ended, Receiver<Asked>) {
    let scratch = Scratch::new();
    scratch.file("admin.token", "secret-token\n");
    let (address, asked) = serve(answers);
    let (address, data_dir) = (address.to_string(), scratch.path());
    let place = ["ctl", "--admin", &address, "--data-dir", &data_dir];
    (run_with(&[&place[..], args].concat(), &[], input), asked)
}

const ADDED: &[(u16, &str)] = &[(200, r#"{"done":"added","subject":"ada"}"#)];

#[test]
fn a_password_comes_from_standard_input_and_never_from_the_arguments() {
    let (ended, asked) = ctl_with_input(&["users", "add", "ada"], ADDED, "correct horse battery\n");
    assert_eq!((ended.code, ended.out.as_str()), (0, "user ada: added\n"));
    let request = asked.recv().expect("asked");
    assert_eq!(request.line, "POST /api/v1/users");
    assert_eq!(request.json(), json!({ "name": "ada", "password": "correct horse battery" }));

    let (ended, _) = ctl_with_input(&["users", "add", "ada"], ADDED, "");
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("standard input has no password"), "{ended:?}");
    let (ended, _) = ctl_with_input(&["users", "add", "ada", "correct horse battery"], ADDED, "");
    assert_eq!(ended.code, 2, "{ended:?}");
}

#[test]
fn users_are_changed_by_name_whatever_the_name() {
    const DONE: &[(u16, &str)] = &[(200, r#"{"done":"done","subject":"x"}"#)];
    let table: [(&[&str], &str, serde_json::Value); 4] = [
        (&["disable", "ada"], "PATCH /api/v1/users/ada", json!({ "disabled": true })),
        (&["enable", "你"], "PATCH /api/v1/users/%E4%BD%A0", json!({ "disabled": false })),
        (&["unlock", "../a?b"], "PATCH /api/v1/users/%2E%2E%2Fa%3Fb", json!({ "unlock": true })),
        (&["passwd", "ada"], "PATCH /api/v1/users/ada", json!({ "password": "a new one" })),
    ];
    for (args, line, body) in table {
        let (ended, asked) = ctl_with_input(&[&["users"], args].concat(), DONE, "a new one");
        assert_eq!(ended.code, 0, "{ended:?}");
        let request = asked.recv().expect("asked");
        assert_eq!((request.line.as_str(), request.json()), (line, body));
    }
    let (_, asked) = ctl(&["users", "delete", "ada", "--purge"], DONE);
    assert_eq!(asked.recv().expect("asked").line, "DELETE /api/v1/users/ada?purge=true");
    let (ended, _) = ctl(&["users", "list"], &[(200, r#"{"users":[{"name":"a\u001bb","disabled":true}],"next":"a"}"#)]);
    assert!(ended.out.contains("a\\u{1b}b  disabled") && ended.out.contains("there are more"), "{ended:?}");
}

#[test]
fn an_import_tells_what_became_of_each_row() {
    let scratch = Scratch::new();
    let md5 = "5d7845ac6ee7cfffafc5fe5f35cf666d";
    let file = scratch.file("users.json", &format!(r#"{{"ada": "{md5}", "bob": "{md5}", "eve": "secret"}}"#));
    const RESULTS: &[(u16, &str)] =
        &[(200, r#"{"results":[{"name":"ada","done":"added"},{"name":"bob","done":"skipped","why":"there is one"}]}"#)];
    let (ended, asked) = ctl(&["users", "import", &file], RESULTS);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out.contains("skipped eve: ") && ended.out.contains("skipped bob: there is one\n"), "{ended:?}");
    assert!(ended.out.ends_with("added 1, replaced 0, skipped 2\n"), "{ended:?}");
    let sent = asked.recv().expect("asked").json();
    assert_eq!(sent["rows"], json!([{ "name": "ada", "md5": md5 }, { "name": "bob", "md5": md5 }]));

    let (ended, _) = ctl(&["users", "import", &scratch.file("bad.json", "7")], &[]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("this is no list of users"), "{ended:?}");
}

#[test]
fn bans_rooms_notices_and_the_audit_log_are_asked_for_and_shown() {
    const DONE: &[(u16, &str)] = &[(200, r#"{"done":"banned","subject":"192.0.2.0/24"}"#)];
    let (ended, asked) = ctl(&["ban", "192.0.2.0/24", "--for", "1h", "--reason", "spam"], DONE);
    assert_eq!((ended.code, ended.out.as_str()), (0, "address 192.0.2.0/24: banned\n"));
    let body = json!({ "address": "192.0.2.0/24", "for_ms": 3_600_000, "reason": "spam" });
    assert_eq!(asked.recv().expect("asked").json(), body);
    let (_, asked) = ctl(&["unban", "eve"], DONE);
    assert_eq!(asked.recv().expect("asked").line, "DELETE /api/v1/bans?user=eve");
    let (ended, _) = ctl(&["bans"], &[(200, r#"{"bans":[{"user":"eve","until":null,"reason":"spam"}]}"#)]);
    assert!(ended.out.contains("eve  for good") && ended.out.ends_with("1 ban\n"), "{ended:?}");

    let rooms = &[(200, r#"{"rooms":[{"name":"den","public":true,"messages":1200,"bytes":5}],"next":null}"#)];
    assert!(ctl(&["rooms"], rooms).0.out.contains("1,200"));
    let (_, asked) = ctl(&["rooms", "create", "den", "--owner", "ada", "--private"], DONE);
    assert_eq!(asked.recv().expect("asked").json(), json!({ "name": "den", "public": false, "owner": "ada" }));

    let (ended, asked) = ctl(&["say", "--room", "den", "be", "kind"], &[(200, r#"{"sessions":2}"#)]);
    assert_eq!(ended.out, "shown to 2 sessions\n");
    assert_eq!(asked.recv().expect("asked").json(), json!({ "text": "be kind", "room": "den" }));
    let (ended, _) = ctl(&["say", "hello"], &[(200, r#"{"sessions":0}"#)]);
    assert_eq!((ended.code, ended.out.as_str()), (1, "nobody is there to read it\n"));
    let who = &[(200, r#"{"users":[{"user":"ada","verified":false,"status":"leave","cause":"idle","sessions":2}]}"#)];
    assert!(ctl(&["who", "den"], who).0.out.contains("ada (unverified)  leave   idle"));
    let audit = &[(200, r#"{"audit":[{"at":"2026-07-01T00:00:00.000Z","action":"users.add","subject":"ada"}]}"#)];
    assert!(ctl(&["audit", "--all"], audit).0.out.contains("2026-07-01T00:00:00Z"));
}
