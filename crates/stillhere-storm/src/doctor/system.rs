//! What the system says of itself. What it doesn't say is left out.

use std::fs;

use super::Facts;

/// Loopback addresses that the storm's attackers come from on Linux, see `attack/ground.rs`.
const SOURCES: u32 = if cfg!(target_os = "linux") { 200 } else { 1 };

/// Reads all that needs no measuring.
pub(super) fn read() -> Facts {
    let (files, files_hard) = files();
    Facts {
        files,
        files_hard,
        files_system: number("/proc/sys/fs/nr_open"),
        ports: text("/proc/sys/net/ipv4/ip_local_port_range").as_deref().and_then(ports),
        sources: SOURCES,
        cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
        quota: quota(),
        memory: memory(),
        somaxconn: number("/proc/sys/net/core/somaxconn"),
        tw_reuse: number("/proc/sys/net/ipv4/tcp_tw_reuse"),
        ..Facts::default()
    }
}

fn text(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn number(path: &str) -> Option<u64> {
    text(path)?.trim().parse().ok()
}

#[cfg(unix)]
fn files() -> (Option<u64>, Option<u64>) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    (limit.current, limit.maximum)
}

#[cfg(not(unix))]
fn files() -> (Option<u64>, Option<u64>) {
    (None, None)
}

/// How many there are from the first to the last, as in `32768 60999`.
fn ports(range: &str) -> Option<u64> {
    let mut ends = range.split_whitespace().map_while(|end| end.parse::<u64>().ok());
    let (first, last) = (ends.next()?, ends.next()?);
    (last + 1).checked_sub(first)
}

/// The folders of this process's control group: its own, and the root, which is its own inside a container.
fn groups() -> Vec<String> {
    let own = text("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::")).map(|path| format!("/sys/fs/cgroup{path}"));
    own.into_iter().chain(["/sys/fs/cgroup".to_owned()]).collect()
}

/// Cores that the control group allows, of either version.
fn quota() -> Option<f64> {
    let found = groups().into_iter().find_map(|group| cores(&text(&format!("{group}/cpu.max"))?));
    found.or_else(|| {
        let quota = text("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")?;
        let period = text("/sys/fs/cgroup/cpu/cpu.cfs_period_us")?;
        cores(&format!("{} {}", quota.trim(), period.trim()))
    })
}

/// How many there are in `150000 100000`; none in `max 100000` or `-1 100000`.
fn cores(quota: &str) -> Option<f64> {
    let mut parts = quota.split_whitespace().map_while(|part| part.parse::<f64>().ok());
    let (quota, period) = (parts.next()?, parts.next()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

/// What the machine has left, or the control group if that is less.
fn memory() -> Option<u64> {
    let left = groups().into_iter().filter_map(|group| {
        let most = number(&format!("{group}/memory.max"))?;
        Some(most.saturating_sub(number(&format!("{group}/memory.current"))?))
    });
    left.chain(text("/proc/meminfo").as_deref().and_then(available)).min()
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_writes_is_read() {
        assert_eq!((ports("32768\t60999\n"), ports("x"), ports("9 3")), (Some(28_232), None, None));
        assert_eq!((cores("150000 100000"), cores("max 100000"), cores("-1 100000")), (Some(1.5), None, None));
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:   2048 kB\n"), Some(2 << 20));
        assert_eq!(available("MemTotal: 9 kB\n"), None);
    }
}
