//! What the system knows of this process, for its metrics.
//!
//! It reads a few lines of `/proc`; what can't be read (at the limit of open files nothing can) is left out.

use std::fs;

/// The process as the system sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Process {
    /// Resident memory, in bytes.
    pub(crate) resident: Option<u64>,
    /// User and system time, in seconds.
    pub(crate) cpu_seconds: Option<f64>,
    /// Open files.
    pub(crate) files: Option<u64>,
    /// How many there may be.
    pub(crate) files_max: Option<u64>,
    /// Threads.
    pub(crate) threads: Option<u64>,
}

impl Process {
    /// As it is now.
    pub(crate) fn now() -> Process {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let usage = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Process {
            resident: field(&status, "VmRSS").map(|kib| kib * 1024),
            cpu_seconds: Some(usage.tv_sec as f64 + usage.tv_nsec as f64 / 1e9),
            // The folder itself is open while it is counted.
            files: fs::read_dir("/proc/self/fd").ok().map(|entries| (entries.count() as u64).saturating_sub(1)),
            files_max: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
            threads: field(&status, "Threads"),
        }
    }
}

/// The number behind `name:` in a status page.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_time_files_and_threads() {
        let now = Process::now();
        assert!(now.resident.is_some_and(|bytes| bytes > 100_000), "{now:?}");
        assert!(now.cpu_seconds.is_some_and(|seconds| seconds > 0.0), "{now:?}");
        assert!(now.files.zip(now.files_max).is_some_and(|(files, max)| (3..=max).contains(&files)), "{now:?}");
        assert!(now.threads.is_some_and(|threads| threads > 0), "{now:?}");
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        assert_eq!(field("VmRSSx:\t1 kB\nVmRSS:\t  12 kB\n", "VmRSS"), Some(12));
        assert_eq!(field("VmRSS:\tmuch\n", "VmRSS"), None);
    }
}
