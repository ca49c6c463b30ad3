//! What needs no gateway: `tune trace`, `config`, `check`, `version` and how usage errors end.

use crate::run::{Scratch, run, run_with};

#[test]
fn trace_prints_a_line_an_event_in_the_promised_key_order() {
    let line = r#"{"case":"x","params":{"start":3,"threshold":5,"strikes":3,"hold":180},"events":"HHMDR"}"#;
    let ended = run_with(&["tune", "trace"], &[], &format!("{line}\n"));
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(lines.len(), 5);
    assert_eq!(lines[0], r#"{"case":"x","tick":1,"ev":"H","cursor":2,"strikes":0,"status":"alive"}"#);
    assert_eq!(lines[4], r#"{"case":"x","tick":3,"ev":"R","cursor":3,"strikes":0,"status":"leave"}"#);
}

#[test]
fn trace_names_a_malformed_line_goes_on_and_exits_with_1() {
    let ended =
        run_with(&["tune", "trace"], &[], "{\"case\":\"a\",\"events\":\"H\"}\n{]\n\n{\"case\":\"b\",\"events\":\"M\"}");
    assert_eq!(ended.code, 1);
    assert_eq!(ended.out.lines().count(), 2, "{ended:?}");
    assert!(ended.err.starts_with("stillhere: line 2: "), "{ended:?}");
}

#[test]
fn the_default_configuration_checks_and_explains_as_the_seed_profile() {
    let scratch = Scratch::new();
    let default = run(&["config", "default"]);
    let file = scratch.file("default.toml", &default.out);
    let explained = run(&["config", "explain", "--json", "--config", &file]).json();
    let seed = &explained["profiles"][0];
    assert_eq!((seed["name"].as_str(), seed["effective"].as_bool()), (Some("seed"), Some(true)));
    assert_eq!((seed["leave_fresh_ms"].as_u64(), seed["leave_healthy_ms"].as_u64()), (Some(65_000), Some(95_000)));
    let text = run(&["config", "explain"]).out;
    assert!(text.contains("65s") && text.contains("95s") && text.contains("→  seed"), "{text}");
}

#[test]
fn explain_follows_the_environment() {
    let env = [("STILLHERE_DETECTOR__INTERVAL", "5s")];
    let explained = run_with(&["config", "explain", "--json"], &env, "").json();
    assert_eq!(explained["profiles"][0]["leave_fresh_ms"], 32_500);
    assert_eq!(explained["profiles"][0]["overridden"], true);
}

#[test]
fn env_lists_every_name_with_the_value_in_force() {
    let env = [("STILLHERE_LIMITS__FRAME", "32KiB")];
    let rows = run_with(&["config", "env", "--json"], &env, "").json();
    let rows = rows.as_array().expect("a list").clone();
    let frame = rows.iter().find(|row| row["name"] == "STILLHERE_LIMITS__FRAME").expect("listed");
    assert_eq!((frame["value"].as_str(), frame["set"].as_bool()), (Some("32KiB"), Some(true)));
    assert!(run(&["config", "env"]).out.contains("STILLHERE_LISTEN__CLIENTS"));
}

#[test]
fn check_names_unknown_keys_with_their_line_and_the_nearest() {
    let scratch = Scratch::new();
    let file = scratch.file("s.toml", "[detector]\nintervall = \"10s\"\nprofile = \"seeed\"\n[limit]\n");
    let ended = run(&["check", "--config", &file]);
    assert_eq!(ended.code, 1);
    for part in [
        "3 things to change:",
        "s.toml:2: `intervall` is no key of [detector]; did you mean `interval`?",
        "s.toml:4: there is no section [limit]; did you mean [limits]?",
        "did you mean \"seed\"?",
    ] {
        assert!(ended.out.contains(part), "{part} in {}", ended.out);
    }
    let report = run(&["check", "--json", "--config", &file]);
    assert_eq!(report.code, 1);
    assert_eq!(report.json()["ok"], false);
    assert_eq!(report.json()["errors"].as_array().map(Vec::len), Some(3));
}

#[test]
fn check_says_ok_with_the_essentials() {
    let scratch = Scratch::new();
    let data = scratch.path();
    let args = ["check", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir", &data];
    let ended = run(&args);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out.starts_with("OK: "), "{ended:?}");
    let report = run(&[&args[..], &["--json"]].concat()).json();
    assert_eq!(report["essentials"]["leave_fresh_ms"], 65_000);
    assert!(report["essentials"]["connections_max"].as_u64().is_some_and(|links| links > 0), "{report}");
}

#[test]
fn a_wrong_environment_stops_every_command_that_would_use_it() {
    let ended = run_with(&["config", "explain"], &[("STILLHERE_DETECTOR_PROFILE", "game")], "");
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("did you mean STILLHERE_DETECTOR__PROFILE?"), "{ended:?}");
}

#[test]
fn serve_refuses_a_wrong_configuration_before_it_starts() {
    let ended = run(&["serve", "--admin", "0.0.0.0:14080"]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.starts_with("stillhere: ") && ended.err.contains("loopback only"), "{ended:?}");
    let ended = run(&["serve", "--config", "/nowhere/s.toml"]);
    assert!(ended.code == 1 && ended.err.contains("/nowhere/s.toml"), "{ended:?}");
}

#[test]
fn usage_errors_exit_with_2_and_say_what_was_meant() {
    for args in
        [&["serv"][..], &["serve", "--lisen", "x"], &["ctl", "kick"], &["ctl", "sessions", "--status", "away"], &[]]
    {
        let ended = run(args);
        assert_eq!(ended.code, 2, "{ended:?}");
    }
    assert!(run(&["serv"]).err.contains("'serve'"));
}

#[test]
fn version_is_for_people_and_programs() {
    assert!(run(&["version"]).out.starts_with(concat!("stillhere ", env!("CARGO_PKG_VERSION"))));
    assert_eq!(run(&["version", "--json"]).json()["wire"], 1);
}
