//! Processes as `/proc` shows them. Elsewhere than on Linux there is nothing to see.

use std::fs;
use std::net::{IpAddr, SocketAddr};

/// The kernel tells user space of clock ticks in hundredths of a second wherever this runs.
const TICK_MS: u64 = 10;
/// Files that a search for a socket's process looks at, at most.
const LOOKED_AT_MAX: usize = 1_000_000;

/// A process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Resident bytes.
    pub(crate) rss: u64,
    /// User and system time so far, in milliseconds.
    pub(crate) cpu_ms: u64,
    /// Open files; `None` for a process of somebody else.
    pub(crate) files: Option<u64>,
    /// Threads.
    pub(crate) threads: u64,
}

impl Seen {
    /// That process now; `None` if there is none.
    pub(crate) fn of(pid: u32) -> Option<Seen> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Seen {
            rss: field(&status, "VmRSS")? * 1024,
            cpu_ms: cpu_ms(&stat)?,
            files: fs::read_dir(format!("/proc/{pid}/fd")).ok().map(|entries| entries.count() as u64),
            threads: field(&status, "Threads")?,
        })
    }
}

/// CPU time of a thread of this process, in milliseconds.
pub(crate) fn thread_cpu_ms(thread: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    let nanos: u64 = text.split_whitespace().next()?.parse().ok()?;
    Some(nanos / 1_000_000)
}

/// The process that listens there, if it is one of this machine that may be looked into.
pub(crate) fn listener(address: SocketAddr) -> Option<u32> {
    holder(listening_inode(address)?)
}

/// The process that has this socket open, if it may be looked into; the first found of several.
pub(crate) fn holder(inode: u64) -> Option<u32> {
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut looked_at = 0;
    for pid in processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for file in files.flatten() {
            looked_at += 1;
            if looked_at > LOOKED_AT_MAX {
                return None;
            }
            if fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str()) {
                return Some(pid);
            }
        }
    }
    None
}

fn listening_inode(address: SocketAddr) -> Option<u64> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines()).find_map(|line| inode(line, address))
}

/// The inode in a line of the kernel's table, if it listens on that port at that address, or at every one.
fn inode(line: &str, address: SocketAddr) -> Option<u64> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, port) = fields.get(1)?.split_once(':')?;
    let is_there = u16::from_str_radix(port, 16).ok()? == address.port() && *fields.get(3)? == LISTEN;
    let is_any = local.bytes().all(|digit| digit == b'0');
    let is_it = match address.ip() {
        // The kernel prints the address as the machine keeps it, the last byte first on those this runs on.
        IpAddr::V4(ip) => local.ends_with(&format!("{:08X}", u32::from_le_bytes(ip.octets()))),
        IpAddr::V6(_) => local.len() == 32,
    };
    (is_there && (is_any || is_it)).then(|| fields.get(9)?.parse().ok()).flatten()
}

/// User and system time from a `stat` line, whose second field may itself contain spaces and brackets.
fn cpu_ms(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * TICK_MS)
}

/// The number behind `name:` in a status page.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_process_that_listens_is_found_and_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(super::listener(address), Some(std::process::id()));
        let seen = Seen::of(std::process::id()).unwrap();
        assert!(seen.rss > 100_000 && seen.files.is_some_and(|files| files > 3) && seen.threads > 0, "{seen:?}");
        drop(listener);
        assert_eq!(super::listener(address), None);
    }

    #[test]
    fn a_line_of_the_table_counts_only_if_it_listens_on_that_port() {
        let at = |state: &str, local: &str| {
            let line = format!("0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 77 1");
            inode(&line, "127.0.0.1:14000".parse().unwrap())
        };
        assert_eq!(at("0A", "0100007F:36B0"), Some(77));
        assert_eq!(at("0A", "00000000:36B0"), Some(77));
        assert_eq!(at("0A", "00000000000000000000000000000000:36B0"), Some(77));
        assert_eq!(at("01", "0100007F:36B0"), None);
        assert_eq!(at("0A", "0100007F:36B1"), None);
        assert_eq!(at("0A", "0200007F:36B0"), None);
    }

    #[test]
    fn a_program_name_with_brackets_does_not_shift_the_fields() {
        let stat = "42 (a) b)) S 1 42 42 0 -1 4194304 100 0 0 0 7 3 0 0 20 0 1 0 1 1 1";
        assert_eq!(cpu_ms(stat), Some(100));
    }
}
