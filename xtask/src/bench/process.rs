//! What the kernel tells of another process, and a guard that ends it.

use std::collections::BTreeMap;
use std::fs;
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, Signal};

/// The kernel reports clock ticks to user space in hundredths of a second on every platform this runs on.
const TICK_NS: u64 = 10_000_000;

/// A child process that is killed by its pid, and waited for, when the guard goes.
pub(crate) struct Guard(Child);

impl Guard {
    /// Takes the child over.
    pub(crate) fn new(child: Child) -> Self {
        Self(child)
    }

    /// The child itself, for its pipes.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// The child's pid.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Sends a signal to the child.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).context("no such pid")?;
        rustix::process::kill_process(pid, signal).context("cannot send a signal to the child")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail only when the child has ended already, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The CPU time of each thread of a process at one moment, in nanoseconds.
pub(crate) struct Cpu(BTreeMap<u32, u64>);

impl Cpu {
    /// Reads `/proc/PID/task/*/schedstat`, or the coarser `stat` where the kernel lacks it.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task")).context("the measured process is gone")? {
            let entry = entry?;
            let Some(thread) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let time = match fs::read_to_string(entry.path().join("schedstat")) {
                Ok(text) => text.split_whitespace().next().and_then(|word| word.parse().ok()),
                Err(_) => fs::read_to_string(entry.path().join("stat")).ok().and_then(|text| stat_ns(&text)),
            };
            // A thread that ended while we looked has nothing to add.
            if let Some(time) = time {
                threads.insert(thread, time);
            }
        }
        Ok(Self(threads))
    }

    /// What was used since `earlier`. Threads that ended in between are left out: the sum never runs backwards.
    pub(crate) fn since(&self, earlier: &Self) -> Duration {
        let used = |(thread, time): (&u32, &u64)| time.saturating_sub(earlier.0.get(thread).copied().unwrap_or(0));
        Duration::from_nanos(self.0.iter().map(used).sum())
    }
}

/// User and system time from a `stat` line, whose second field may itself contain spaces and brackets.
fn stat_ns(line: &str) -> Option<u64> {
    let mut fields = line.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * TICK_NS)
}

/// Ticks of a process and of its children that have ended, from its `stat` line.
pub(crate) fn family_ticks(line: &str) -> Option<u64> {
    let fields = line.rsplit_once(')')?.1.split_whitespace().skip(11);
    fields.take(4).map(|word| word.parse::<u64>().ok()).sum()
}

/// Memory of a process in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// `VmRSS`: what `top` calls resident, shared pages included.
    pub(crate) resident: u64,
    /// `Private_Dirty`: what only this process holds and has written.
    pub(crate) private: u64,
}

impl Memory {
    /// Reads `status` and `smaps_rollup`.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let field = |file: &str, name: &str| -> Result<u64> {
            let text = fs::read_to_string(format!("/proc/{pid}/{file}")).context("the measured process is gone")?;
            kib_field(&text, name).map(|kib| kib * 1024).ok_or_else(|| anyhow!("/proc/{pid}/{file} has no {name}"))
        };
        Ok(Self { resident: field("status", "VmRSS")?, private: field("smaps_rollup", "Private_Dirty")? })
    }
}

fn kib_field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_brackets_does_not_shift_the_fields() {
        let line = "42 (a) b)) S 1 42 42 0 -1 4194304 100 0 0 0 7 3 0 0 20 0 1 0 1 1 1";
        assert_eq!(stat_ns(line), Some(100_000_000));
        assert_eq!(family_ticks(line), Some(10));
    }

    #[test]
    fn a_field_of_status_is_found_by_its_whole_name() {
        let text = "VmRSSother:\t1 kB\nVmRSS:\t    1234 kB\n";
        assert_eq!(kib_field(text, "VmRSS"), Some(1234));
        assert_eq!(kib_field(text, "Vm"), None);
    }

    #[test]
    fn cpu_time_counts_new_threads_and_forgets_ended_ones() {
        let earlier = Cpu(BTreeMap::from([(1, 100), (2, 50)]));
        let later = Cpu(BTreeMap::from([(1, 150), (3, 7)]));
        assert_eq!(later.since(&earlier), Duration::from_nanos(57));
    }
}
