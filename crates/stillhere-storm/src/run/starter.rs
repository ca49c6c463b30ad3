//! A target that the storm starts and stops.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use stillhere_core::text::Escaped;

use super::StormError;
use crate::plan::Target;

/// How often it is tried whether the target accepts.
const TRY_EVERY: Duration = Duration::from_millis(20);
/// How long a target may take to end after it was asked to; then it is killed.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// A target's process, ended when this goes.
pub(super) struct Started(Child);

impl Started {
    /// Starts the target's command, if it has one, and waits until it accepts connections. What it writes goes to
    /// `target.log` in `out`.
    pub(super) fn by(target: &Target, address: SocketAddr, out: Option<&Path>) -> Result<Option<Started>, StormError> {
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
        let child = Command::new(filled(program))
            .args(arguments.iter().map(filled))
            .stdin(Stdio::null())
            .stdout(log("target.log"))
            .stderr(log("target.err"))
            .spawn()
            .map_err(|error| StormError::Unreachable(format!("can't start the target `{shown}`: {error}")))?;
        let mut started = Started(child);
        let patience = Instant::now() + target.ready;
        loop {
            if TcpStream::connect_timeout(&address, TRY_EVERY).is_ok() {
                return Ok(Some(started));
            }
            if let Some(status) = started.ended() {
                return Err(StormError::Unreachable(format!("the target `{shown}` ended at once: {status}")));
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
        {
            use rustix::process::{Pid, Signal, kill_process};
            let patience = Instant::now() + END_TIMEOUT;
            if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
                // One that has ended already needs no asking.
                let _ = kill_process(pid, Signal::TERM);
            }
            while self.ended().is_none() && Instant::now() < patience {
                std::thread::sleep(TRY_EVERY);
            }
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
