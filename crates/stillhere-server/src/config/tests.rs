use std::time::Duration;

use super::*;
use crate::config::keys::ENV_PREFIX;

/// The errors of a file, or an empty list.
fn errors_of(text: &str) -> Vec<String> {
    match Config::from_toml("t.toml", text) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.0.iter().map(ToString::to_string).collect(),
    }
}

fn env_of(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>().into_iter()
}

fn load_env(pairs: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    Config::load(&Flags::default(), env_of(pairs))
}

#[test]
fn the_defaults_are_the_seed_profile_and_the_core_s_limits() {
    let config = Config::default();
    assert_eq!(config.profile(), Profile::default());
    assert_eq!(config.core_limits(), CoreLimits::default());
    assert_eq!(config.listen.clients.to_string(), "127.0.0.1:14000");
    assert_eq!(config.listen.admin.to_string(), "127.0.0.1:14080");
    assert_eq!(load_env(&[]).as_ref(), Ok(&config));
}

#[test]
fn every_row_of_the_table_is_sound() {
    for key in KEYS {
        assert!(SECTIONS.iter().any(|(name, _)| *name == key.section), "{}", key.path());
        let ranged = matches!(key.kind, Kind::Count | Kind::Span | Kind::Size);
        assert_eq!(key.range.is_some(), ranged, "{} needs a range exactly when it is a number", key.path());
        assert_eq!(KEYS.iter().filter(|other| other.path() == key.path()).count(), 1, "{} stands once", key.path());
        // The bounds of a range are in it: each is accepted as a value.
        for bound in key.range.iter().flat_map(|(low, high)| [low, high]) {
            let wrong = match load_env(&[(&key.env(), bound)]) {
                Ok(_) => Vec::new(),
                Err(errors) => errors.0.into_iter().filter(|error| error.key == Some(key.path())).collect(),
            };
            assert_eq!(wrong, [], "{} = {bound}", key.path());
        }
    }
}

#[test]
fn all_errors_of_a_file_come_at_once_with_their_lines() {
    let text = "[detector]\ninterval = \"10\"\nstrike = 3\n\n[limit]\nframe = \"64KiB\"\n\
                [limits]\nframe = 65536\nclosed = \"7\"\n";
    assert_eq!(
        errors_of(text),
        [
            "t.toml:3: `strike` is no key of [detector]; did you mean `strikes`?",
            "t.toml:5: there is no section [limit]; did you mean [limits]?",
            "t.toml:9: `[limits] closed = \"7\"`: write the number without quotes",
            "t.toml:2: `[detector] interval = \"10\"`: a duration needs a unit: write \"10s\" or \"10ms\"",
            "t.toml:8: `[limits] frame = 65536`: a size needs a unit: write \"65536B\" or, say, \"64KiB\"",
        ]
    );
}

#[test]
fn a_line_that_is_no_toml_hides_no_other_error() {
    let text = "[detector]\ninterval = 10s\n[log]\nlevel = \"wran\"\n";
    assert_eq!(
        errors_of(text),
        [
            "t.toml:2: `interval = 10s`: this is not TOML: string values must be quoted",
            "t.toml:4: `[log] level = \"wran\"`: did you mean \"warn\"? It may be error, warn, info, debug, trace",
        ]
    );
    // A broken heading gives no false accusations of the keys below it.
    assert_eq!(errors_of("[listen]\n[detector\ninterval = \"10s\"\n").len(), 1);
}

#[test]
fn a_key_in_the_wrong_place_gets_its_section() {
    assert_eq!(
        errors_of("interval = \"10s\"\n"),
        ["t.toml:1: `interval` is no key outside of a section; did you mean `interval` of [detector]?"]
    );
    assert_eq!(
        errors_of("[server]\nretained = 5\n"),
        ["t.toml:2: `retained` is no key of [server]; did you mean `retained` of [limits]?"]
    );
    assert_eq!(
        errors_of("listen = \"127.0.0.1:1\"\n"),
        ["t.toml:1: `listen` is a section: write [listen] on a line of its own, then its keys"]
    );
}

#[test]
fn wrong_values_say_how_to_write_them() {
    for (text, clause) in [
        ("[detector]\ninterval = \"500ms\"", "this must be from 1s to 10m"),
        ("[detector]\ninterval = 10s", "this is not TOML"),
        ("[limits]\nframe = \"16MiB\"", "this must be from 64B to 16777215B"),
        ("[limits]\nclosed = 0", "this must be from 1 to 1000000"),
        ("[limits]\nclosed = -1", "this must be from 1 to 1000000"),
        ("[limits]\nclosed = 1.5", "must be a whole number"),
        ("[listen]\nlegacy = \"yes\"", "true or false without quotes"),
        ("[listen]\nclients = \"localhost\"", "an IP address and a port"),
        ("[listen]\nclients = 14000", "written in quotes"),
        ("[log]\nformat = \"jsno\"", "did you mean \"json\"?"),
        ("[detector]\nprofile = \"sead\"", "did you mean \"seed\"?"),
        ("[detector]\nthreshold = 3", "start (3) must be below threshold (3)"),
        ("[listen]\nadmin = \"0.0.0.0:14080\"", "listens on loopback only"),
        ("[listen]\nadmin = \"127.0.0.1:14000\"", "can't both be 127.0.0.1:14000"),
        ("[server]\ndata_dir = \"\"", "must name a directory"),
    ] {
        let errors = errors_of(text);
        assert_eq!(errors.len(), 1, "{text}: {errors:?}");
        assert!(errors[0].contains(clause), "{text}: {errors:?}");
    }
}

#[test]
fn what_an_attacker_named_cannot_colour_the_terminal() {
    let errors = errors_of("[limits]\n\"a\\u001b[31m\" = 1\n");
    assert!(!errors[0].contains('\u{1b}'), "{errors:?}");
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file() {
    let directory = std::env::temp_dir().join(format!("stillhere-config-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a temporary directory");
    let file = directory.join("precedence.toml");
    std::fs::write(&file, "[listen]\nclients = \"127.0.0.1:1\"\nadmin = \"127.0.0.1:2\"\n[limits]\nclosed = 3\n")
        .expect("written");
    let flags = Flags { config: Some(file), listen: Some("127.0.0.1:10".into()), ..Flags::default() };
    let env = [("STILLHERE_LISTEN__CLIENTS", "127.0.0.1:20"), ("STILLHERE_LISTEN__ADMIN", "127.0.0.1:21")];
    let config = Config::load(&flags, env_of(&env)).expect("right");
    std::fs::remove_dir_all(&directory).expect("removed");
    assert_eq!(config.listen.clients.port(), 10);
    assert_eq!(config.listen.admin.port(), 21);
    assert_eq!(config.limits.closed, 3);
    assert_eq!(config.limits.retained, 20_000);
}

#[test]
fn a_file_that_is_not_there_is_an_error_with_a_way_out() {
    let flags = Flags { config: Some("/nowhere/x.toml".into()), ..Flags::default() };
    let errors = Config::load(&flags, env_of(&[])).expect_err("refused").to_string();
    assert!(errors.contains("/nowhere/x.toml") && errors.contains("stillhere config default >"), "{errors}");
}

#[test]
fn unknown_names_in_the_environment_get_the_nearest() {
    let errors = load_env(&[("STILLHERE_DETECTOR_INTERVAL", "5s"), ("PATH", "/bin")]).expect_err("refused");
    let text = errors.to_string();
    assert!(text.contains("did you mean STILLHERE_DETECTOR__INTERVAL?"), "{text}");
    assert_eq!(errors.0.len(), 1);
    assert!(KEYS.iter().all(|key| key.env().starts_with(ENV_PREFIX)));
}

#[test]
fn wrong_flags_and_environment_name_themselves() {
    let flags = Flags { listen: Some("14000".into()), ..Flags::default() };
    let errors = Config::load(&flags, env_of(&[("STILLHERE_LOG__KEEP", "many")])).expect_err("refused");
    let texts: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
    assert!(texts[0].starts_with("`--listen 14000`: an address is"), "{texts:?}");
    assert!(texts[1].starts_with("`STILLHERE_LOG__KEEP=\"many\"`: this must be a whole number"), "{texts:?}");
}

#[test]
fn overriding_the_interval_carries_a_fixed_maximum_along() {
    let seed = load_env(&[("STILLHERE_DETECTOR__INTERVAL", "4s")]).expect("right").profile();
    assert_eq!((seed.interval, seed.interval_max), (Duration::from_secs(4), Duration::from_secs(4)));
    assert_eq!(seed.bound_fresh(), Duration::from_secs(26));

    let mobile = [("STILLHERE_DETECTOR__PROFILE", "mobile"), ("STILLHERE_DETECTOR__INTERVAL", "90s")];
    let mobile = load_env(&mobile).expect("right").profile();
    assert_eq!((mobile.interval, mobile.interval_max), (Duration::from_secs(90), Duration::from_secs(590)));
}

#[test]
fn a_reload_takes_over_what_it_can_and_names_the_rest() {
    let old = Config::default();
    let new = load_env(&[
        ("STILLHERE_DETECTOR__LEAVE_HOLD", "1m"),
        ("STILLHERE_LIMITS__SEND_BUFFER", "64KiB"),
        ("STILLHERE_LOG__LEVEL", "debug"),
        ("STILLHERE_SERVER__SHARDS", "3"),
    ])
    .expect("right");
    let changes: Vec<(String, bool)> =
        old.difference(&new).into_iter().map(|change| (change.key, change.reloadable)).collect();
    let expected =
        [("server.shards", false), ("detector.leave_hold", true), ("limits.send_buffer", false), ("log.level", true)];
    assert_eq!(changes, expected.map(|(key, reloadable)| (key.to_owned(), reloadable)));
    assert_eq!(old.difference(&new)[1].old, "the profile's own");

    let running = old.reloaded(&new);
    assert_eq!(running.detector.leave_hold, Some(Duration::from_secs(60)));
    assert_eq!(running.log.level, Level::Debug);
    assert_eq!(running.server.shards, 0);
    assert_eq!(running.limits.send_buffer, 128 * 1024);
}

#[test]
fn only_the_promised_settings_are_reloadable() {
    for key in KEYS {
        let promised = match key.section {
            "detector" => true,
            "limits" => !["outbox", "send_buffer", "receive_buffer", "closed"].contains(&key.name),
            "rooms" => true,
            "log" => key.name == "level",
            "listen" => ["insecure", "tls_cert", "tls_key", "origins", "proxy"].contains(&key.name),
            "auth" => key.name != "mode",
            _ => false,
        };
        assert_eq!(key.reloadable, promised, "{}", key.path());
    }
}

#[test]
fn connections_are_as_many_as_the_files_allow_unless_fewer_are_wanted() {
    let files = OpenFiles { soft: 1024, hard: 4096 };
    let mut config = Config::default();
    config.server.shards = 2;
    assert_eq!(config.connections_max(files), 952);
    config.limits.connections = 100;
    assert_eq!(config.connections_max(files), 100);
    config.limits.connections = 100_000;
    assert_eq!(config.connections_max(files), 952);
    assert_eq!(config.connections_max(files.raised()), 4024);
}
