//! Which core does what, and how processes are kept there.
//!
//! The server has one core and the load the other. A third process of the lowest scheduling class spins on the server's core so
//! that the core never halts: on a virtual machine a halted core has to be scheduled by the host before it can do anything,
//! and that delay, up to tens of milliseconds on a busy host, would be charged to whichever server happened to be waiting. The
//! kernel takes the core from the spinner the moment the server wakes up, so the server still pays for waking up.

use std::hint::black_box;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};
use rustix::thread::CpuSet;

use super::process::Guard;

/// The core of whatever is measured.
const SERVER_CORE: usize = 0;
/// The core of the load generator.
const LOAD_CORE: usize = 1;

/// Keeps this thread, and what it starts later, on the load's core.
pub(crate) fn pin_load() -> Result<()> {
    pin(LOAD_CORE).with_context(|| format!("cannot stay on core {LOAD_CORE}: server and load need one core each"))
}

/// Keeps this thread on the server's core, for a floor that is no process of its own.
pub(crate) fn pin_to_server_core() -> Result<()> {
    pin(SERVER_CORE).with_context(|| format!("cannot move to core {SERVER_CORE}"))
}

fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// A command that stays on the server's core and dies with us, whatever ends us.
///
/// The death signal follows the thread that starts the child, so children are only started from the main thread.
pub(crate) fn on_server_core() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "taskset", "--cpu-list", &SERVER_CORE.to_string()]);
    command
}

/// Keeps the server's core from halting for as long as the guard lives.
pub(crate) fn keep_awake() -> Result<Guard> {
    let mut command = on_server_core();
    command.args(["chrt", "--idle", "0"]).arg(std::env::current_exe()?).arg("spin");
    command.stdin(Stdio::null()).stdout(Stdio::null());
    Ok(Guard::new(command.spawn().context("cannot start setpriv, taskset and chrt (util-linux)")?))
}

/// What the third process does until it is killed.
pub(crate) fn spin() -> Result<ExitCode> {
    // No pause instruction: a hypervisor takes many of them for a guest that waits, and schedules something else.
    let mut count = 0_u64;
    loop {
        count = black_box(count.wrapping_add(1));
    }
}
