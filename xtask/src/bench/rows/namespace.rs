//! A network of its own for peers that are to vanish without a trace.
//!
//! The namespace has no name: it belongs to the process in it and the kernel removes it, with both ends of its cable, when that
//! process ends. The process dies with us, so nothing needs cleaning up, not even after `kill -9`.

use std::net::Ipv4Addr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::bench::Missing;
use crate::bench::process::Guard;

/// The addresses of the two ends. 198.18.0.0/15 is set aside for benchmarks (RFC 2544), so no real network has them.
pub(crate) const SERVER_IP: Ipv4Addr = Ipv4Addr::new(198, 18, 77, 1);
const PEERS_IP: Ipv4Addr = Ipv4Addr::new(198, 18, 77, 2);
const PREFIX: &str = "30";
/// The name of the peers' end, inside.
const INSIDE: &str = "peers";
const UNSHARE_WAIT: Duration = Duration::from_secs(5);

/// What has to be on the machine; each with what provides it.
const TOOLS: &[(&str, &str)] = &[
    ("ip", "apt-get install -y iproute2"),
    ("iptables", "apt-get install -y iptables"),
    ("unshare", "apt-get install -y util-linux"),
    ("nsenter", "apt-get install -y util-linux"),
];

/// A process in its own network, cabled to ours.
pub(crate) struct Namespace {
    process: Guard,
    outside: String,
}

impl Namespace {
    /// Starts `command` (arguments of this binary) in a new network; it should wait for a line on standard input.
    pub(crate) fn start(arguments: &[&str]) -> Result<(Self, ChildStdin, ChildStdout)> {
        check_machine()?;
        let mut command = Command::new("unshare");
        command.args(["--net", "--", "setpriv", "--pdeathsig", "KILL", "--"]).arg(std::env::current_exe()?);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Guard::new(command.spawn().context("cannot start unshare")?);
        let (stdin, stdout) = pipes(process.child())?;
        let namespace = Self { outside: format!("shb{}", process.pid()), process };
        namespace.wait_until_unshared()?;
        namespace.cable()?;
        Ok((namespace, stdin, stdout))
    }

    /// Drops every packet in both directions inside, so that neither side is told.
    pub(crate) fn cut(&self) -> Result<()> {
        for chain in ["OUTPUT", "INPUT"] {
            self.inside(&["iptables", "--wait", "--insert", chain, "--jump", "DROP"])?;
        }
        Ok(())
    }

    fn cable(&self) -> Result<()> {
        let pid = self.process.pid().to_string();
        let outside = self.outside.as_str();
        let address = |ip: Ipv4Addr| format!("{ip}/{PREFIX}");
        run(&["ip", "link", "add", outside, "type", "veth", "peer", "name", INSIDE, "netns", &pid])
            .map_err(|error| Missing(format!("this kernel gives us no veth pair: {error:#}")))?;
        run(&["ip", "address", "add", &address(SERVER_IP), "dev", outside])?;
        run(&["ip", "link", "set", outside, "up"])?;
        self.inside(&["ip", "address", "add", &address(PEERS_IP), "dev", INSIDE])?;
        self.inside(&["ip", "link", "set", INSIDE, "up"])?;
        self.inside(&["iptables", "--wait", "--list", "--numeric"])
            .map_err(|error| Missing(format!("iptables does not work here: {error:#}")).into())
    }

    fn inside(&self, command: &[&str]) -> Result<()> {
        let pid = self.process.pid().to_string();
        run(&[&["nsenter", "--target", &pid, "--net", "--"], command].concat())
    }

    /// `unshare` leaves our network a moment after it was started.
    fn wait_until_unshared(&self) -> Result<()> {
        let deadline = Instant::now() + UNSHARE_WAIT;
        let ours = std::fs::read_link("/proc/self/ns/net")?;
        let theirs = format!("/proc/{}/ns/net", self.process.pid());
        while std::fs::read_link(&theirs).map_or(true, |link| link == ours) {
            if Instant::now() > deadline {
                return Err(Missing("unshare --net gives us no network of our own".to_owned()).into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The kernel would remove the cable with the namespace, but only some time after; the next run wants its address.
        let _ = run(&["ip", "link", "delete", &self.outside]);
    }
}

fn pipes(child: &mut Child) -> Result<(ChildStdin, ChildStdout)> {
    let stdin = child.stdin.take().context("the process in the namespace has no standard input")?;
    let stdout = child.stdout.take().context("the process in the namespace has no standard output")?;
    Ok((stdin, stdout))
}

fn check_machine() -> Result<()> {
    let mut missing = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push("root (a network namespace, a veth pair and a DROP rule need it)".to_owned());
    }
    for (tool, hint) in TOOLS {
        if !is_installed(tool) {
            missing.push(format!("`{tool}` (`{hint}`)"));
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(Missing(format!("missing: {}", missing.join(", "))).into()) }
}

fn is_installed(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(tool).is_file())
}

fn run(command: &[&str]) -> Result<()> {
    let output = Command::new(command[0]).args(&command[1..]).stdin(Stdio::null()).output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{}` failed: {}", command.join(" "), complaint.trim());
    Ok(())
}
