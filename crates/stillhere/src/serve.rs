//! `stillhere serve`: loads the configuration, starts the log and runs the gateway until it is told to end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;

use stillhere_core::amount::show_span;
use stillhere_server::config::{Config, environment};
use stillhere_server::serve::Ready;
use stillhere_server::telemetry;

use crate::config::SettingArgs;
use crate::output::{self, seconds, thousands};

/// Run the gateway.
///
/// It needs no configuration and no other program. Logs go to standard error, as text on a terminal and as JSON
/// otherwise. HUP reloads the configuration, TERM (or Ctrl-C) says goodbye to all clients, and a second one ends at
/// once.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  stillhere serve\n  stillhere serve --config stillhere.toml\n  \
                  stillhere serve --listen 0.0.0.0:14000 --data-dir /var/lib/stillhere")]
pub(crate) struct Args {
    #[command(flatten)]
    settings: SettingArgs,
}

/// Runs the gateway.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = args.settings.load()?;
    let log = telemetry::init(&config.log)?;
    let reload = || {
        let new = Config::load(&args.settings.flags(), environment())?;
        // The log is ours, so its level is taken over here; everything else is the gateway's to apply.
        if let Err(error) = log.set_level(new.log.level) {
            tracing::warn!("{error:#}");
        }
        Ok(new)
    };
    let told = config.clone();
    let ready = |ready: &Ready| {
        // A card that nobody can see is no reason to stop.
        if let Err(error) = output::print(card(&told, ready, output::coloured())) {
            tracing::warn!("{error:#}");
        }
    };
    stillhere_server::serve::run(config, reload, ready)?;
    Ok(ExitCode::SUCCESS)
}

/// What an operator wants to know at the start, and what to try next.
fn card(config: &Config, ready: &Ready, coloured: bool) -> String {
    let paint = |code: &'static str| if coloured { code } else { "" };
    let (bold, dim, reset) = (paint("\u{1b}[1m"), paint("\u{1b}[2m"), paint("\u{1b}[0m"));
    let profile = config.profile();
    let spoken = if config.listen.legacy { "plain heartbeats and hello" } else { "hello only" };
    let restored = match ready.sessions_restored {
        0 => String::new(),
        sessions => format!(" ({} sessions restored)", thousands(sessions)),
    };
    let shards = if ready.shards == 1 { "1 shard".to_owned() } else { format!("{} shards", ready.shards) };
    let overridden =
        config.profile() != stillhere_core::profile::Profile::named(profile.name).copied().unwrap_or_default();
    let rows = [
        ("clients", format!("{}  {dim}{spoken}{reset}", ready.clients)),
        ("admin", format!("http://{}  {dim}/api/v1, /metrics, /healthz, /readyz{reset}", ready.admin)),
        (
            "profile",
            format!(
                "{}{}, a beat every {}",
                profile.name,
                if overridden { " with overrides" } else { "" },
                seconds(profile.interval)
            ),
        ),
        (
            "silent",
            format!(
                "on leave {} after the last frame when fresh, {} when healthy; closed {} later",
                seconds(profile.bound_fresh()),
                seconds(profile.bound_healthy()),
                show_span(profile.leave_hold)
            ),
        ),
        ("data", format!("{}{restored}", config.server.data_dir.display())),
        ("token", ready.token_file.display().to_string()),
        ("room", format!("{} connections on {shards}", thousands(ready.connections_max))),
    ];
    let mut card =
        format!("\n{bold}stillhere {}{reset}  {dim}who is still here?{reset}\n\n", env!("CARGO_PKG_VERSION"));
    for (name, value) in rows {
        card.push_str(&format!("  {dim}{name:<8}{reset} {value}\n"));
    }
    card.push_str(&format!("\n  {dim}try, in another terminal{reset}\n"));
    for command in next_steps(config, ready) {
        card.push_str(&format!("    {command}\n"));
    }
    card.push('\n');
    card
}

/// Commands that work as they are, with the flags that this gateway needs.
fn next_steps(config: &Config, ready: &Ready) -> [String; 3] {
    let defaults = Config::default();
    let mut ctl = String::from("stillhere ctl");
    if ready.admin != defaults.listen.admin {
        ctl.push_str(&format!(" --admin {}", ready.admin));
    }
    if config.server.data_dir != defaults.server.data_dir {
        ctl.push_str(&format!(" --data-dir {}", config.server.data_dir.display()));
    }
    let clients = reachable(ready.clients);
    [format!("stillhere beat {clients} --count 3"), format!("stillhere chat {clients}"), format!("{ctl} sessions")]
}

/// An address to connect to, for one to listen on: every interface has loopback.
fn reachable(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(clients: &str, admin: &str) -> Ready {
        Ready {
            clients: clients.parse().expect("an address"),
            admin: admin.parse().expect("an address"),
            token_file: "./stillhere-data/admin.token".into(),
            shards: 2,
            connections_max: 19_936,
            sessions_restored: 0,
        }
    }

    #[test]
    fn the_card_tells_the_exact_bounds_and_what_to_try() {
        let card = card(&Config::default(), &ready("127.0.0.1:14000", "127.0.0.1:14080"), false);
        for part in [
            "127.0.0.1:14000",
            "http://127.0.0.1:14080",
            "65s after the last frame when fresh, 95s when healthy; closed 30m later",
            "./stillhere-data/admin.token",
            "19,936 connections on 2 shards",
            "stillhere beat 127.0.0.1:14000 --count 3\n",
            "stillhere ctl sessions\n",
        ] {
            assert!(card.contains(part), "{part} in {card}");
        }
        assert!(!card.contains('\u{1b}'));
    }

    #[test]
    fn the_commands_to_try_have_the_flags_they_need() {
        let mut config = Config::default();
        config.server.data_dir = "/tmp/d".into();
        let card = card(&config, &ready("0.0.0.0:5", "127.0.0.1:6"), true);
        assert!(card.contains("stillhere beat 127.0.0.1:5 --count 3\n"), "{card}");
        assert!(card.contains("stillhere ctl --admin 127.0.0.1:6 --data-dir /tmp/d sessions\n"), "{card}");
    }
}
