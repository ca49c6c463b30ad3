//! Where and how the figures were taken, without which they mean nothing.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::process;

/// The machine, the moment and the command.
#[derive(Serialize)]
pub(crate) struct Machine {
    /// The command line.
    pub(crate) command: String,
    /// UTC, to the minute.
    pub(crate) date: String,
    /// The processor and how many cores of it.
    pub(crate) cpu: String,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// Memory in GiB.
    pub(crate) memory: String,
    /// The load average of the last minute when the benchmark began; above about 0.3 something else was running.
    pub(crate) load: String,
    /// What else used the cores while the benchmark ran; more than a few percent spoils the figures.
    pub(crate) others: String,
    #[serde(skip)]
    start: Usage,
}

impl Machine {
    /// Looks at this machine; what it does not tell is called unknown.
    pub(crate) fn look() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
        let model = value(&cpuinfo, "model name").unwrap_or("unknown");
        let memory_kib: Option<f64> = value(&meminfo, "MemTotal").and_then(|text| text.split(' ').next()?.parse().ok());
        let first_word = |path: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            text.split_whitespace().next().unwrap_or("unknown").to_owned()
        };
        Self {
            command: std::iter::once("cargo xtask".to_owned())
                .chain(std::env::args().skip(1))
                .collect::<Vec<_>>()
                .join(" "),
            date: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            cpu: format!("{cores} × {model}"),
            kernel: first_word("/proc/sys/kernel/osrelease"),
            memory: memory_kib.map_or("unknown".to_owned(), |kib| format!("{:.1} GiB", kib / 1_048_576.0)),
            load: first_word("/proc/loadavg"),
            others: String::new(),
            start: Usage::now(),
        }
    }

    /// Notes what other processes, and other guests of the same host, have used since `look`.
    pub(crate) fn finish(&mut self) {
        let used = Usage::now().since(&self.start);
        let percent = |ticks: u64| ticks as f64 * 100.0 / used.all.max(1) as f64;
        let others = used.busy.saturating_sub(used.own);
        self.others =
            format!("other processes {:.1} % of the cores, stolen {:.1} %", percent(others), percent(used.stolen));
    }
}

/// The kind of file system that holds `path`, and its device.
pub(crate) fn filesystem(path: &Path) -> Result<(String, String)> {
    let path = path.canonicalize().with_context(|| format!("there is no {}", path.display()))?;
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read the list of file systems")?;
    let (device, kind) = mount_of(&mounts, &path).with_context(|| format!("nothing holds {}", path.display()))?;
    Ok((kind.to_owned(), device.to_owned()))
}

/// Device and kind of the longest mount point that `path` lies under; of equal ones the last, which covers the others.
fn mount_of<'a>(mounts: &'a str, path: &Path) -> Option<(&'a str, &'a str)> {
    let fields = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        Some((words.next()?, words.next()?, words.next()?))
    });
    let holding = fields.filter(|(_, point, _)| path.starts_with(point));
    holding.max_by_key(|(_, point, _)| point.len()).map(|(device, _, kind)| (device, kind))
}

/// Clock ticks since the system, or we, began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Usage {
    all: u64,
    /// By any process.
    busy: u64,
    /// Taken by the host for something else.
    stolen: u64,
    /// By us and by the children that have ended.
    own: u64,
}

impl Usage {
    fn now() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/stat").ok().and_then(|line| process::family_ticks(&line)).unwrap_or(0);
        Self { own, ..Self::of_all(&stat) }
    }

    /// The line `cpu` has user, nice, system, idle, iowait, irq, softirq and steal.
    fn of_all(stat: &str) -> Self {
        let fields = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
        let ticks: Vec<u64> = fields.take(8).filter_map(|word| word.parse().ok()).collect();
        let sum = |places: &[usize]| places.iter().filter_map(|place| ticks.get(*place)).sum();
        Self { all: ticks.iter().sum(), busy: sum(&[0, 1, 2, 5, 6]), stolen: sum(&[7]), own: 0 }
    }

    fn since(self, earlier: &Self) -> Self {
        Self {
            all: self.all.saturating_sub(earlier.all),
            busy: self.busy.saturating_sub(earlier.busy),
            stolen: self.stolen.saturating_sub(earlier.stolen),
            own: self.own.saturating_sub(earlier.own),
        }
    }
}

fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_not_busy_and_steal_is_kept_apart() {
        let usage = Usage::of_all("cpu  1 2 4 8 16 32 64 128 256 512\ncpu0 1 1 1 1\n");
        assert_eq!(usage, Usage { all: 255, busy: 1 + 2 + 4 + 32 + 64, stolen: 128, own: 0 });
    }

    #[test]
    fn a_path_lies_on_its_longest_mount_point() {
        let mounts = "/dev/a / ext4 rw 0 0\nnone /tmp tmpfs rw 0 0\n/dev/b /tm ext4 rw 0 0\n";
        assert_eq!(mount_of(mounts, Path::new("/tmp/x")), Some(("none", "tmpfs")));
        assert_eq!(mount_of(mounts, Path::new("/tmpx")), Some(("/dev/a", "ext4")));
    }

    #[test]
    fn the_value_after_the_colon_is_taken() {
        assert_eq!(value("a\t: 1\nmodel name\t: Some CPU\n", "model name"), Some("Some CPU"));
        assert_eq!(value("", "model name"), None);
    }
}
