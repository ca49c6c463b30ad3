//! A target that the storm starts and stops.
//!
//! It has a process group of its own: what a terminal sends to the storm's (ctrl-c) doesn't reach it, so that the storm
//! can end in good order and end it last, with all processes that it may have started itself.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use stillhere_core::text::Escaped;

use super::{Options, StormError};
use crate::plan::Target;

/// How often it is tried whether the target accepts.
const TRY_EVERY: Duration = Duration::from_millis(20);
/// How long a target may take to end after it was asked to; then it is killed.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// The processes that are started and not yet ended.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// A target's process, ended when this goes.
pub(super) struct Started(Child);

impl Started {
    /// Starts the target's command, if it has one, and waits until it accepts connections. What it writes goes to
    /// `target.log` in the folder of the options.
    pub(super) fn by(target: &Target, address: SocketAddr, options: &Options) -> Result<Option<Started>, StormError> {
        let out = options.out.as_deref();
        let Some((program, arguments)) = target.command.split_first() else { return Ok(None) };
        if TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok() {
            return Err(StormError::Unreachable(format!(
                "something listens at {address} already, so the plan's target can't be started there; stop it, or \
                 choose another port with --target"
            )));
        }
        let filled = |word: &String| word.replace("{port}", &address.port().to_string());
        let log = |name: &str| match out {
            Some(out) => File::create(out.join(name)).map_or_else(|_| Stdio::null(), Stdio::from),
            None => Stdio::null(),
        };
        if let Some(out) = out {
            // The samples' file, opened next, tells what is wrong with the folder.
            let _ = std::fs::create_dir_all(out);
        }
        let shown = Escaped(program);
        let mut command = Command::new(filled(program));
        command.args(arguments.iter().map(filled)).stdin(Stdio::null());
        command.stdout(log("target.log")).stderr(log("target.err"));
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut started = Started::spawn(&mut command)
            .map_err(|error| StormError::Unreachable(format!("can't start the target `{shown}`: {error}")))?;
        let patience = Instant::now() + target.ready;
        loop {
            if TcpStream::connect_timeout(&address, TRY_EVERY).is_ok() {
                return Ok(Some(started));
            }
            if let Some(status) = started.ended() {
                return Err(StormError::Unreachable(format!("the target `{shown}` ended at once: {status}")));
            }
            if let Some(why) = options.unwanted() {
                return Err(StormError::Unreachable(format!("the target `{shown}` wasn't ready yet: {why}")));
            }
            if Instant::now() > patience {
                let waited = target.ready;
                return Err(StormError::Unreachable(format!(
                    "the target `{shown}` doesn't accept connections at {address} within {waited:?}; has it the same \
                     port? `{{port}}` in the command becomes that of the address"
                )));
            }
            std::thread::sleep(TRY_EVERY);
        }
    }

    fn spawn(command: &mut Command) -> std::io::Result<Started> {
        // Whoever kills all waits until it is known.
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let child = command.spawn()?;
        running.push(child.id());
        Ok(Started(child))
    }

    /// The system's number for it.
    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// How it has ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().ok().flatten()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(group) = group(self.0.id()) {
            use rustix::process::{Signal, kill_process_group, test_kill_process_group};
            let patience = Instant::now() + END_TIMEOUT;
            // Who has ended already needs no asking.
            let _ = kill_process_group(group, Signal::TERM);
            while (self.ended().is_none() || test_kill_process_group(group).is_ok()) && Instant::now() < patience {
                std::thread::sleep(TRY_EVERY);
            }
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.0.kill();
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).retain(|pid| *pid != self.0.id());
        let _ = self.0.wait();
    }
}

/// Kills all that are running.
pub(super) fn kill_all() {
    let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    #[cfg(unix)]
    for group in running.iter().copied().filter_map(group) {
        // Who has ended by now needs no killing.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    #[cfg(not(unix))]
    drop(running);
}

/// A target's process group, which has the number of its first process.
#[cfg(unix)]
fn group(pid: u32) -> Option<rustix::process::Pid> {
    i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw)
}
