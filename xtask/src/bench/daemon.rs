//! The measured daemon: started with a data folder of its own, on one core, and ended by its pid.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde::Deserialize;

use super::core::on_server_core;
use super::http;
use super::process::Guard;

/// A daemon that is not ready by then never will be.
const READY_WAIT: Duration = Duration::from_secs(15);

/// What every benchmark sets: more connections than the largest crowd has.
const SETTINGS: &[(&str, &str)] = &[("STILLHERE_LIMITS__CONNECTIONS", "19000")];

/// How a daemon is started.
pub(crate) struct Recipe<'a> {
    /// The binary.
    pub(crate) binary: &'a Path,
    /// The address on which peers meet it.
    pub(crate) listen: IpAddr,
    /// Configuration by environment, after what every benchmark sets.
    pub(crate) settings: Vec<(String, String)>,
}

/// A running daemon.
pub(crate) struct Daemon {
    // Fields are dropped in order: the process must be gone before its folder.
    guard: Guard,
    _folder: Folder,
    clients: SocketAddr,
    admin: SocketAddr,
    token: String,
}

impl Daemon {
    /// Starts it and waits until `/readyz` answers.
    pub(crate) fn start(recipe: &Recipe<'_>) -> Result<Self> {
        let folder = Folder::new()?;
        let log = folder.0.join("bench.log");
        let data = folder.0.join("data");
        let clients = free_port(recipe.listen)?;
        let admin = free_port(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
        let mut command = on_server_core();
        command.arg(recipe.binary).arg("serve");
        command.arg("--listen").arg(clients.to_string());
        command.arg("--admin").arg(admin.to_string());
        command.arg("--data-dir").arg(&data);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("STILLHERE_")) {
            command.env_remove(name);
        }
        command.envs(SETTINGS.iter().copied()).envs(recipe.settings.iter().map(|(name, value)| (name, value)));
        command.current_dir(&folder.0).stdin(Stdio::null());
        command.stdout(File::create(&log)?).stderr(File::options().append(true).open(&log)?);
        let mut guard = Guard::new(command.spawn().context("cannot start taskset (util-linux)")?);
        wait_until_ready(&mut guard, admin, &log)?;
        let token = fs::read_to_string(data.join("admin.token")).context("the daemon wrote no admin.token")?;
        Ok(Self { guard, _folder: folder, clients, admin, token: token.trim().to_owned() })
    }

    /// Where peers connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.clients
    }

    /// Where operators connect.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> u32 {
        self.guard.pid()
    }

    /// Stops or continues it.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        self.guard.signal(signal)
    }

    /// The sum of a metric over the samples whose labels contain all of `labels`.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> Result<f64> {
        let text = http::get(self.admin, "/metrics", None)?;
        http::metric(&text, name, labels).with_context(|| format!("/metrics has no {name}"))
    }

    /// Valid beats received since the start.
    pub(crate) fn beats(&self) -> Result<u64> {
        Ok(self.metric("stillhere_beats_total", &[])? as u64)
    }

    /// All sessions, in one page.
    pub(crate) fn sessions(&self) -> Result<Vec<Session>> {
        let text = http::get(self.admin, "/api/v1/sessions?limit=20000", Some(&self.token))?;
        let page: Page = serde_json::from_str(&text).context("the API's list of sessions cannot be read")?;
        ensure!(
            page.sessions.len() == page.total,
            "{} of {} sessions came in one page",
            page.sessions.len(),
            page.total
        );
        Ok(page.sessions)
    }
}

#[derive(Deserialize)]
struct Page {
    sessions: Vec<Session>,
    total: usize,
}

/// What the API says of one session, as far as benchmarks ask.
#[derive(Clone, Deserialize)]
pub(crate) struct Session {
    /// `ip:port` of the peer.
    pub(crate) peer: String,
    /// `alive`, `leave` or `close`.
    pub(crate) status: String,
    /// Milliseconds from the last frame until `leave`, as the daemon itself promises.
    pub(crate) detect_ms: Option<u64>,
    /// When the status last changed, RFC 3339.
    pub(crate) since: Option<String>,
    /// When the last frame came, RFC 3339.
    pub(crate) last_beat: Option<String>,
}

/// A port that was free a moment ago; the daemon binds it again before anything else is likely to.
fn free_port(ip: IpAddr) -> Result<SocketAddr> {
    Ok(TcpListener::bind((ip, 0)).with_context(|| format!("cannot listen on {ip}"))?.local_addr()?)
}

fn wait_until_ready(guard: &mut Guard, admin: SocketAddr, log: &Path) -> Result<()> {
    let deadline = Instant::now() + READY_WAIT;
    loop {
        if let Some(status) = guard.child().try_wait()? {
            bail!("the daemon ended with {status}: {}", tail(log));
        }
        let Err(error) = http::get(admin, "/readyz", None) else { return Ok(()) };
        if Instant::now() > deadline {
            return Err(error.context(format!("the daemon was not ready in {READY_WAIT:?}: {}", tail(log))));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The end of the daemon's output, which usually says what is wrong.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

/// A temporary folder that goes with its owner.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes one where the system keeps its temporary files.
    pub(crate) fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("stillhere-bench-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays behind is in the system's temporary folder, where it is cleaned up anyway.
        let _ = fs::remove_dir_all(&self.0);
    }
}
