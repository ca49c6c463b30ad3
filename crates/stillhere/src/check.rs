//! `stillhere check`: whether `serve` would start with this configuration on this machine, and what it comes to.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use stillhere_core::amount::show_span;
use stillhere_server::certificate::Certificate;
use stillhere_server::config::{Config, ConfigError, OpenFiles};

use crate::config::SettingArgs;
use crate::output::{self, seconds, thousands};

/// Check a configuration and this machine, without starting anything.
///
/// Reports everything that is wrong at once, and exits with 1 if `serve` would not start.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  stillhere check --config stillhere.toml")]
pub(crate) struct Args {
    #[command(flatten)]
    settings: SettingArgs,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Default, Serialize)]
struct Report {
    ok: bool,
    errors: Vec<ConfigError>,
    /// What works, but perhaps not as intended.
    warnings: Vec<String>,
    /// What the configuration comes to; `None` when it can't be read.
    essentials: Option<Essentials>,
}

#[derive(Serialize)]
struct Essentials {
    clients: SocketAddr,
    admin: SocketAddr,
    data_dir: String,
    profile: &'static str,
    interval_ms: u128,
    leave_fresh_ms: u128,
    leave_healthy_ms: u128,
    leave_hold_ms: u128,
    shards: usize,
    /// The most links at a time, once `serve` has raised the soft limit of open files to the hard one.
    connections_max: usize,
    open_files_soft: u64,
    open_files_hard: u64,
}

/// Checks and prints.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let loaded = args.settings.load();
    let report = match &loaded {
        Ok(config) => inspect(config, OpenFiles::now()),
        Err(errors) => Report { errors: errors.0.clone(), ..Report::default() },
    };
    if args.json {
        output::print_json(&report)?;
    } else {
        output::print(page(&report, loaded.as_ref().ok()))?;
    }
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Looks at the machine.
fn inspect(config: &Config, files: OpenFiles) -> Report {
    let mut report = Report::default();
    check_ports(config, &mut report);
    check_certificate(config, &mut report);
    check_writable("server.data_dir", "data directory", &config.server.data_dir, &mut report);
    if let Some(directory) = config.log.file.as_deref().and_then(Path::parent) {
        check_writable("log.file", "log file's directory", directory, &mut report);
    }
    let connections_max = config.connections_max(files.raised());
    if connections_max == 0 {
        let message = format!("{} open files are too few to run; raise the limit with `ulimit -Hn`", files.hard);
        report.errors.push(error_of("limits.connections", message));
    } else if config.limits.connections > connections_max {
        report.warnings.push(format!(
            "[limits] connections = {} is more than the limit of {} open files allows: it will be {}; raise the limit \
             (`ulimit -Hn`, LimitNOFILE= in a systemd unit)",
            config.limits.connections, files.hard, connections_max
        ));
    }
    let profile = config.profile();
    report.essentials = Some(Essentials {
        clients: config.listen.clients,
        admin: config.listen.admin,
        data_dir: config.server.data_dir.display().to_string(),
        profile: profile.name,
        interval_ms: profile.interval.as_millis(),
        leave_fresh_ms: profile.bound_fresh().as_millis(),
        leave_healthy_ms: profile.bound_healthy().as_millis(),
        leave_hold_ms: profile.leave_hold.as_millis(),
        shards: config.shards(),
        connections_max,
        open_files_soft: files.soft,
        open_files_hard: files.hard,
    });
    report.ok = report.errors.is_empty();
    report
}

fn error_of(key: &str, message: String) -> ConfigError {
    ConfigError { place: None, key: Some(key.to_owned()), message }
}

/// Binds each port for an instant. A gateway that already runs here is no error: `check` is what one does before HUP.
fn check_ports(config: &Config, report: &mut Report) {
    let listen = &config.listen;
    let mut running = None;
    for (key, address) in [("listen.clients", listen.clients), ("listen.admin", listen.admin)] {
        let Err(error) = TcpListener::bind(address) else { continue };
        if error.kind() != io::ErrorKind::AddrInUse {
            report.errors.push(error_of(key, format!("can't listen on {address}: {error}")));
        } else if *running.get_or_insert_with(|| is_gateway(listen.admin)) {
            report.warnings.push(format!("{address} is in use by the gateway that runs here already"));
        } else {
            let message = format!("{address} is in use by another program; stop it or change [{}", in_brackets(key));
            report.errors.push(error_of(key, message));
        }
    }
}

/// `listen.admin` as `listen] admin`.
fn in_brackets(key: &str) -> String {
    key.replacen('.', "] ", 1)
}

/// Whether the admin API of a gateway answers there.
fn is_gateway(admin: SocketAddr) -> bool {
    let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(2))).proxy(None).build();
    ureq::Agent::new_with_config(config).get(format!("http://{admin}/healthz")).call().is_ok()
}

/// Reads the certificate as `serve` and a reload do.
fn check_certificate(config: &Config, report: &mut Report) {
    match Certificate::load(&config.listen) {
        Ok(certificate) => report.warnings.extend(certificate.and_then(|certificate| certificate.warning())),
        Err(error) => report.errors.push(error_of("listen.tls_cert", error.to_string())),
    }
}

/// Writes a file into the directory, or where it would be made, and removes it again.
fn check_writable(key: &'static str, what: &str, directory: &Path, report: &mut Report) {
    let existing = directory.ancestors().find(|ancestor| ancestor.as_os_str().is_empty() || ancestor.exists());
    let existing = existing.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let probe = existing.join(format!(".stillhere-check-{}", std::process::id()));
    let probed = fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe));
    if let Err(error) = probed {
        let message = format!(
            "can't write to the {what} {} ({}: {error}); change its owner or choose another [{}",
            directory.display(),
            existing.display(),
            in_brackets(key)
        );
        report.errors.push(error_of(key, message));
    }
}

fn page(report: &Report, config: Option<&Config>) -> String {
    let mut page = String::new();
    // Writing to a String can't fail.
    let _ = write_page(&mut page, report, config);
    page
}

fn write_page(page: &mut String, report: &Report, config: Option<&Config>) -> std::fmt::Result {
    match report.errors.len() {
        0 => writeln!(page, "OK: `stillhere serve` can start.")?,
        1 => writeln!(page, "One thing to change:")?,
        count => writeln!(page, "{count} things to change:")?,
    }
    for error in &report.errors {
        writeln!(page, "  {error}")?;
    }
    for warning in &report.warnings {
        writeln!(page, "  note: {warning}")?;
    }
    if let (Some(config), Some(essentials)) = (config, &report.essentials) {
        let profile = config.profile();
        writeln!(page, "\n  clients      {}", essentials.clients)?;
        writeln!(page, "  admin        {}", essentials.admin)?;
        writeln!(page, "  data         {}", essentials.data_dir)?;
        writeln!(
            page,
            "  profile      {}: on leave after {} (fresh) or {} (healthy) of silence, closed {} later",
            profile.name,
            seconds(profile.bound_fresh()),
            seconds(profile.bound_healthy()),
            show_span(profile.leave_hold)
        )?;
        writeln!(page, "  shards       {}", essentials.shards)?;
        writeln!(
            page,
            "  connections  {}, from {} open files (hard limit)",
            thousands(essentials.connections_max),
            thousands(essentials.open_files_hard)
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(data_dir: &str) -> Config {
        let mut config = Config::default();
        config.listen.clients = "127.0.0.1:0".parse().expect("an address");
        config.listen.admin = "127.0.0.1:0".parse().expect("an address");
        config.server.data_dir = data_dir.into();
        config
    }

    const FILES: OpenFiles = OpenFiles { soft: 1024, hard: 20_000 };

    #[test]
    fn a_good_machine_is_ok_and_its_connections_are_counted_from_the_hard_limit() {
        let directory = std::env::temp_dir().join("stillhere-check/not/there");
        let mut config = config(&directory.display().to_string());
        config.server.shards = 2;
        let report = inspect(&config, FILES);
        assert!(report.ok, "{:?}", report.errors);
        assert_eq!(report.essentials.expect("read").connections_max, 20_000 - 32 - 32 - 8);
        assert!(!directory.exists(), "check leaves nothing behind");
    }

    #[test]
    fn a_taken_port_and_closed_directories_are_reported_together() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut config = config("/proc/stillhere");
        config.listen.clients = taken.local_addr().expect("an address");
        config.log.file = Some("/proc/stillhere/s.log".into());
        let report = inspect(&config, FILES);
        let keys: Vec<_> = report.errors.iter().filter_map(|error| error.key.as_deref()).collect();
        assert_eq!(keys, ["listen.clients", "server.data_dir", "log.file"]);
        assert!(report.errors[0].message.contains("change [listen] clients"), "{:?}", report.errors);
        assert!(!report.ok);
    }

    #[test]
    fn a_certificate_that_cant_be_read_is_reported() {
        let mut config = config("/tmp");
        config.listen.tls_cert = Some("/proc/stillhere/cert.pem".into());
        config.listen.tls_key = Some("/proc/stillhere/key.pem".into());
        let report = inspect(&config, FILES);
        assert!(!report.ok && report.errors[0].message.contains("check `[listen] tls_cert`"), "{:?}", report.errors);
    }

    #[test]
    fn more_connections_than_files_is_a_note() {
        let mut config = config("/tmp");
        config.limits.connections = 50_000;
        let report = inspect(&config, FILES);
        assert!(report.ok && report.warnings[0].contains("50000 is more than"), "{:?}", report.warnings);
    }
}
