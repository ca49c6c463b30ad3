//! `stillhere certs`: certificates for trying TLS out.

use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use rcgen::{CertificateParams, DnType, KeyPair};
use serde::Serialize;

use crate::output;

/// Make certificates.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Dev(DevArgs),
}

/// Make a self-signed certificate for development: cert.pem and key.pem.
///
/// No authority stands behind it, so each client must be told to trust this one file. For the public use one from a
/// real authority.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  stillhere certs dev --dir certs --host play.test")]
struct DevArgs {
    /// The directory for both files; made if it doesn't exist.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// A further name or address that clients connect to, besides localhost, 127.0.0.1 and ::1.
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// Overwrite files that are there already.
    #[arg(long)]
    force: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// What every development certificate is for.
const HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// How long it is good, in days: some systems refuse more than 825, browsers more than 398.
const DAYS: i64 = 397;

/// What was made.
#[derive(Serialize)]
struct Made {
    cert: PathBuf,
    key: PathBuf,
    hosts: Vec<String>,
    /// The last day on which it is good.
    until: String,
}

/// Makes what was asked for and tells how to use it.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Command::Dev(args) = args.command;
    let made = make(&args)?;
    if args.json {
        output::print_json(&made)?;
    } else {
        output::print(page(&made))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn make(args: &DevArgs) -> anyhow::Result<Made> {
    let dir = &args.dir;
    fs::create_dir_all(dir).with_context(|| format!("can't make {}; choose another --dir", dir.display()))?;
    let dir = dir.canonicalize().with_context(|| format!("can't find {} again", dir.display()))?;
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    if let Some(there) = [&cert, &key].into_iter().find(|path| path.exists() && !args.force) {
        bail!("{} is there already; choose another --dir, or overwrite it with --force", there.display());
    }
    let mut hosts: Vec<String> = HOSTS.map(str::to_owned).to_vec();
    for host in &args.host {
        if host.is_empty() || !host.chars().all(|c| c.is_ascii_alphanumeric() || "-._:*".contains(c)) {
            bail!("\"{}\" is no host name or address; write --host play.test", stillhere_core::text::Escaped(host));
        }
        if !hosts.contains(host) {
            hosts.push(host.clone());
        }
    }
    let today = jiff::Timestamp::now();
    let until = today.checked_add(jiff::SignedDuration::from_hours(24 * DAYS))?;
    let (cert_pem, key_pem) = self_signed(&hosts, today, until)?;
    // The key first: a certificate without its key is of no use to anybody.
    write(&key, &key_pem, 0o600)?;
    write(&cert, &cert_pem, 0o644)?;
    Ok(Made { cert, key, hosts, until: until.strftime("%Y-%m-%d").to_string() })
}

fn self_signed(hosts: &[String], from: jiff::Timestamp, until: jiff::Timestamp) -> anyhow::Result<(String, String)> {
    let mut params = CertificateParams::new(hosts.to_vec()).context("a --host can't stand in a certificate")?;
    params.distinguished_name.push(DnType::CommonName, "stillhere development");
    let date = |at: jiff::Timestamp| {
        let date = at.to_zoned(jiff::tz::TimeZone::UTC).date();
        rcgen::date_time_ymd(date.year().into(), date.month() as u8, date.day() as u8)
    };
    // A day earlier, for clients whose clock is late or elsewhere.
    params.not_before = date(from.checked_sub(jiff::SignedDuration::from_hours(24))?);
    params.not_after = date(until);
    let key = KeyPair::generate().context("can't make a key")?;
    let cert = params.self_signed(&key).context("can't sign the certificate")?;
    Ok((cert.pem(), key.serialize_pem()))
}

/// Writes a file that is new: an old one's mode would stay.
fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let write = || {
        if path.exists() {
            fs::remove_file(path)?;
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())
    };
    write().with_context(|| format!("can't write {}; choose another --dir", path.display()))
}

fn page(made: &Made) -> String {
    let Made { cert, key, hosts, until } = made;
    let (cert, key, port) = (cert.display(), key.display(), 14000);
    let named = hosts.iter().rfind(|host| host.parse::<IpAddr>().is_err());
    let host = named.map_or("localhost", String::as_str);
    format!(
        "Made {cert} and {key}, good until {until} for {}.\n\n\
         In the gateway's configuration, then HUP or `stillhere ctl reload`:\n  \
         [listen]\n  tls_cert = \"{cert}\"\n  tls_key = \"{key}\"\n\n\
         A client must trust this one file:\n  \
         openssl s_client -connect {host}:{port} -CAfile {cert}\n  \
         curl --cacert {cert} https://{host}:{port}/ws      answers 426: a WebSocket is there\n  \
         browsers     import it as an authority; wss://{host}:{port}/ws then works\n  \
         Rust         Client::builder().tls(Tls::trusting(\"{cert}\")?).connect(\"{host}:{port}\")\n",
        hosts.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn args(dir: &Path) -> DevArgs {
        DevArgs { dir: dir.to_owned(), host: vec!["play.test".to_owned()], force: false, json: false }
    }

    #[test]
    fn a_pair_is_made_once_and_its_key_is_private() {
        let dir = std::env::temp_dir().join(format!("stillhere-certs-{}", std::process::id()));
        let made = make(&args(&dir)).expect("made");
        assert_eq!(made.hosts, ["localhost", "127.0.0.1", "::1", "play.test"]);
        let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
        assert_eq!((mode(&made.key), mode(&made.cert) & 0o600), (0o600, 0o600));
        let key = fs::read_to_string(&made.key).expect("a key");

        let refused = make(&args(&dir)).err().expect("refused").to_string();
        assert!(refused.contains("there already") && refused.contains("--force"), "{refused}");
        fs::set_permissions(&made.key, fs::Permissions::from_mode(0o644)).expect("changed");
        let again = make(&DevArgs { force: true, ..args(&dir) }).expect("made again");
        assert_ne!(fs::read_to_string(&again.key).expect("a key"), key);
        assert_eq!(mode(&again.key), 0o600, "an old file's mode doesn't stay");
        fs::remove_dir_all(&dir).expect("removed");
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for host in ["", "a b", "https://play.test", "a\u{1b}[31m"] {
            let refused = make(&DevArgs { host: vec![host.to_owned()], force: true, ..args(&std::env::temp_dir()) });
            assert!(refused.err().expect("refused").to_string().contains("--host play.test"), "{host}");
        }
    }
}
