//! What a crowd is sent against: the daemon, or the floor next to it.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::chat::Dialect;
use super::core::on_server_core;
use super::crowd::Speech;
use super::daemon::Daemon;
use super::process::{Cpu, Guard, Memory};

/// How long the last beats may take to be counted.
const COUNT_WAIT: Duration = Duration::from_secs(5);

/// A server under load.
pub(crate) enum Target {
    /// The gateway.
    Daemon(Daemon),
    /// What the kernel alone costs.
    Floor(Floor),
}

impl Target {
    /// Where peers connect.
    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Daemon(daemon) => daemon.address(),
            Self::Floor(floor) => floor.address,
        }
    }

    /// v1 for the daemon, and for the floor the same bytes with the floor's answers expected.
    pub(crate) fn v1(&self) -> Speech {
        match self {
            Self::Daemon(_) => Speech::V1 { interval_ms: 10_000 },
            Self::Floor(_) => Speech::V1ToFloor,
        }
    }

    /// What chat's members speak to it.
    pub(crate) fn dialect(&self) -> Dialect {
        match self {
            Self::Daemon(_) => Dialect::Gateway,
            Self::Floor(_) => Dialect::Floor,
        }
    }

    /// CPU time used so far.
    pub(crate) fn cpu(&self) -> Result<Cpu> {
        Cpu::of(self.pid())
    }

    /// Memory held now.
    pub(crate) fn memory(&self) -> Result<Memory> {
        Memory::of(self.pid())
    }

    /// Waits until the server has counted exactly `beats`: a beat that was lost or counted twice fails the benchmark.
    pub(crate) fn expect_beats(&mut self, beats: u64) -> Result<()> {
        let deadline = Instant::now() + COUNT_WAIT;
        loop {
            let counted = match self {
                Self::Daemon(daemon) => daemon.beats()?,
                Self::Floor(floor) => floor.frames()?,
            };
            if counted == beats {
                return Ok(());
            }
            ensure!(counted < beats && Instant::now() < deadline, "the server counted {counted} of {beats} beats");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The server's pid.
    pub(crate) fn pid(&self) -> u32 {
        match self {
            Self::Daemon(daemon) => daemon.pid(),
            Self::Floor(floor) => floor.guard.pid(),
        }
    }
}

/// What a floor does with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Counts it.
    Count,
    /// Answers it.
    Reply,
    /// Passes it on to the sender's room.
    Fan,
}

impl Work {
    fn flag(self) -> Option<&'static str> {
        match self {
            Self::Count => None,
            Self::Reply => Some("--reply"),
            Self::Fan => Some("--fan"),
        }
    }
}

/// A running floor.
pub(crate) struct Floor {
    guard: Guard,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Floor {
    /// Starts it.
    pub(crate) fn start(work: Work) -> Result<Self> {
        let mut command = on_server_core();
        command.arg(std::env::current_exe()?).arg("floor").args(work.flag());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut guard = Guard::new(command.spawn().context("cannot start setpriv and taskset (util-linux)")?);
        let questions = guard.child().stdin.take().context("the floor has no standard input")?;
        let stdout = guard.child().stdout.take().context("the floor has no standard output")?;
        let mut floor =
            Self { guard, questions, answers: BufReader::new(stdout), address: (Ipv4Addr::LOCALHOST, 0).into() };
        let port = u16::try_from(floor.number()?).context("the floor's port is no port")?;
        floor.address.set_port(port);
        Ok(floor)
    }

    /// Frames received so far, hellos included.
    fn frames(&mut self) -> Result<u64> {
        self.questions.write_all(b"\n")?;
        self.number()
    }

    fn number(&mut self) -> Result<u64> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        line.trim().parse().with_context(|| format!("the floor said {line:?}"))
    }
}
