//! The daemon under test: started on ports and a data dir of its own, looked at through `/proc` and the admin API,
//! killed by its pid when the test ends.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::admin::{Answer, Events, Keeping, Request};

/// How long anything may take before a test gives up; far more than it should ever need, since the machine that runs
/// the tests may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// How long to wait for the gateway's next event before looking again.
const PAUSE: Duration = Duration::from_millis(15);

/// A directory of its own for a test, gone afterwards.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Rc<Scratch> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("stillhere-gateway-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a temporary directory");
        Rc::new(Scratch(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What can't be removed is in the temporary directory anyway.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// How to start a gateway.
pub(crate) struct Setup {
    settings: Vec<(String, String)>,
    scratch: Rc<Scratch>,
    config: Option<PathBuf>,
    open_files: Option<u32>,
}

impl Setup {
    pub(crate) fn new() -> Setup {
        Setup { settings: Vec::new(), scratch: Scratch::new(), config: None, open_files: None }
            .set("server.shards", "2")
    }

    /// A setting, named as in the file: `limits.first_frame`.
    pub(crate) fn set(mut self, key: &str, value: &str) -> Setup {
        self.settings.push((format!("STILLHERE_{}", key.replace('.', "__").to_uppercase()), value.to_owned()));
        self
    }

    pub(crate) fn set_all(self, settings: &[(&str, &str)]) -> Setup {
        settings.iter().fold(self, |setup, (key, value)| setup.set(key, value))
    }

    /// The data dir of another gateway, which must have ended.
    pub(crate) fn scratch(self, scratch: &Rc<Scratch>) -> Setup {
        Setup { scratch: Rc::clone(scratch), ..self }
    }

    pub(crate) fn config(self, path: PathBuf) -> Setup {
        Setup { config: Some(path), ..self }
    }

    /// The limit of open files, hard and soft.
    pub(crate) fn open_files(self, limit: u32) -> Setup {
        Setup { open_files: Some(limit), ..self }
    }

    pub(crate) fn start(self) -> Gateway {
        let program = env!("CARGO_BIN_EXE_stillhere");
        let mut command = match self.open_files {
            None => Command::new(program),
            Some(limit) => {
                // It replaces itself with the program, so the pid is the daemon's.
                let mut command = Command::new("prlimit");
                command.arg(format!("--nofile={limit}:{limit}")).arg(program);
                command
            }
        };
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("STILLHERE_") {
                command.env_remove(name);
            }
        }
        let data = self.scratch.path().join("data");
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir"]).arg(&data);
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        let log = File::options().create(true).append(true).open(self.scratch.path().join("log")).expect("a log");
        command.envs(self.settings).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let child = Dying(command.spawn().expect("the binary starts"));
        Gateway::watch(child, self.scratch, &data)
    }
}

/// A child that doesn't outlive its test.
struct Dying(Child);

impl Drop for Dying {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running gateway.
pub(crate) struct Gateway {
    child: Dying,
    pub(crate) scratch: Rc<Scratch>,
    pub(crate) clients: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) token: String,
    /// Woken by it, a waiting test looks again.
    pulse: RefCell<Events>,
    /// Open files and threads while there was no link, with `pulse` open.
    at_start: (usize, usize),
}

impl Gateway {
    /// A gateway with these settings changed.
    pub(crate) fn start(settings: &[(&str, &str)]) -> Gateway {
        Setup::new().set_all(settings).start()
    }

    fn watch(mut child: Dying, scratch: Rc<Scratch>, data: &Path) -> Gateway {
        let stdout = child.0.stdout.take().expect("piped");
        let (mut clients, mut admin) = (None, None);
        // The start-up card names the real ports and ends with the command for sessions.
        for line in BufReader::new(stdout).lines() {
            let line = line.expect("UTF-8");
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("clients"), Some(address)) => clients = address.parse().ok(),
                (Some("admin"), Some(address)) => admin = address.trim_start_matches("http://").parse().ok(),
                _ if line.ends_with(" sessions") => break,
                _ => {}
            }
        }
        let log = || fs::read_to_string(scratch.path().join("log")).unwrap_or_default();
        let (Some(clients), Some(admin)) = (clients, admin) else { panic!("no card; the log says: {}", log()) };
        let token = fs::read_to_string(data.join("admin.token")).expect("a token").trim().to_owned();
        let pulse = RefCell::new(Events::watch(admin, &token));
        let mut gateway = Gateway { child, scratch, clients, admin, token, pulse, at_start: (0, 0) };
        gateway.at_start = (gateway.fds(), gateway.threads());
        gateway
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child.0)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it runs");
    }

    /// Waits for the process to end by itself.
    pub(crate) fn ended_within(&mut self, limit: Duration) -> ExitStatus {
        let began = Instant::now();
        // Its end closes the stream of events, so there is something to block on.
        while began.elapsed() < limit {
            if let Some(status) = self.child.0.try_wait().expect("our own child") {
                return status;
            }
            self.pulse.borrow_mut().drain(PAUSE);
        }
        panic!("still there after {limit:?}; the log says: {}", self.log());
    }

    /// As `kill -9` does it; the data dir stays.
    pub(crate) fn kill(mut self) -> Rc<Scratch> {
        self.child.0.kill().expect("it runs");
        self.child.0.wait().expect("our own child");
        Rc::clone(&self.scratch)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.scratch.path().join("log")).expect("a log")
    }

    /// Open files of the daemon.
    pub(crate) fn fds(&self) -> usize {
        // The store opens files when it needs them; only sockets are links.
        let files = fs::read_dir(self.proc("fd")).expect("it runs").flatten();
        let links_to = files.filter_map(|file| fs::read_link(file.path()).ok());
        links_to.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
    }

    fn threads(&self) -> usize {
        fs::read_dir(self.proc("task")).expect("it runs").count()
    }

    /// Memory of the daemon that is resident, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(self.proc("status")).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    fn proc(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.child.0.id())
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        Request::get(path).token(&self.token).send(self.admin)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        Request::post(path, &body.to_string()).token(&self.token).send(self.admin)
    }

    /// A connection to the admin API that stays, for when no new one can be had.
    pub(crate) fn keeping(&self) -> Keeping {
        Keeping::connect(self.admin, &self.token)
    }

    /// The stream of events, from now on.
    pub(crate) fn events(&self) -> Events {
        Events::watch(self.admin, &self.token)
    }

    pub(crate) fn sessions(&self) -> Vec<Value> {
        rows(self.get("/api/v1/sessions?limit=20000").json(), "sessions")
    }

    /// The session whose link comes, or came, from `peer`.
    pub(crate) fn session(&self, peer: SocketAddr) -> Option<Value> {
        rows(self.get(&format!("/api/v1/sessions?peer={peer}")).json(), "sessions").pop()
    }

    pub(crate) fn closed(&self) -> Vec<Value> {
        rows(self.get("/api/v1/closed?limit=20000").json(), "closed")
    }

    /// The newest row of the closed for `peer`, once it is there.
    pub(crate) fn closed_row(&self, peer: SocketAddr) -> Value {
        let peer = peer.to_string();
        self.wait(&format!("{peer} among the closed"), || self.closed().into_iter().find(|row| row["peer"] == peer))
    }

    /// The sum of a metric's samples whose labels contain `label`, such as `"4002"`.
    pub(crate) fn metric(&self, name: &str, label: &str) -> u64 {
        sum(&Request::get("/metrics").send(self.admin).body, name, label)
    }

    /// Looks until there is an answer. Between two looks it waits for something to happen in the gateway.
    pub(crate) fn wait<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(answer) = look() {
                return answer;
            }
            assert!(began.elapsed() < PATIENCE, "waited in vain for {what}; the log says: {}", self.log());
            self.pulse.borrow_mut().drain(PAUSE);
        }
    }

    pub(crate) fn wait_until(&self, what: &str, look: impl Fn() -> bool) {
        self.wait(what, || look().then_some(()));
    }

    /// Waits for a metric to have exactly this value.
    pub(crate) fn wait_for_metric(&self, name: &str, label: &str, value: u64) {
        self.wait_until(&format!("{name} {label} {value}"), || self.metric(name, label) == value);
    }

    /// Waits until a session looks like that, and returns it.
    pub(crate) fn wait_for_session(&self, peer: SocketAddr, looks: impl Fn(&Value) -> bool) -> Value {
        self.wait(&format!("{peer} to change"), || self.session(peer).filter(&looks))
    }

    /// Waits until nothing is left of what tests did but these many open links.
    pub(crate) fn wait_until_calm(&self, links: usize) {
        self.wait_for_metric("sockets_open", "", links as u64);
        self.wait_for_metric("links", "transport", links as u64);
        self.wait_for_metric("links", "unknown", 0);
        self.wait_for_metric("partial_bytes", "", 0);
        // A connection to the admin API ends a moment after its answer.
        let (fds, threads) = self.at_start;
        self.wait_until("file descriptors to be closed", || self.fds() == fds + links);
        assert_eq!(self.threads(), threads, "threads are as they were");
    }
}

/// The sum of a metric's samples in Prometheus' text.
pub(crate) fn sum(text: &str, name: &str, label: &str) -> u64 {
    let samples = text.lines().filter_map(|line| line.strip_prefix("stillhere_")?.strip_prefix(name));
    let samples = samples.filter(|rest| rest.starts_with(['{', ' ']) && rest.contains(label));
    samples
        .map(|rest| rest.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).expect("a number") as u64)
        .sum()
}

fn rows(mut page: Value, name: &str) -> Vec<Value> {
    match page[name].take() {
        Value::Array(rows) => rows,
        _ => panic!("no {name} in {page}"),
    }
}
