//! The client's process, seen through `/proc`: its memory and its CPU time. Elsewhere than on Linux nothing is found.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::time::Duration;

use crate::probe::process::{Seen, holder};

/// Threads of a process that are looked at.
const THREADS_MAX: usize = 1_000;

/// What was seen of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Process {
    /// Which.
    pub(super) pid: u32,
    /// Resident memory when it was first seen, in bytes.
    pub(super) rss: u64,
    /// The most since.
    pub(super) rss_max: u64,
    /// For so long its threads have run, or waited for a core that others had: a process that spins does so all the
    /// time, even on a machine that is too busy to let it.
    pub(super) busy: Duration,
    /// For so long it has been seen.
    pub(super) watched: Duration,
    /// Whether it has ended.
    pub(super) is_gone: bool,
    /// What `busy` counts from, and since when.
    pub(super) busy_at_first: Duration,
    pub(super) first: Duration,
}

impl Process {
    /// Begins to watch it; `None` if there is nothing to see.
    pub(super) fn find(pid: u32, now: Duration) -> Option<Process> {
        let (rss, busy) = look(pid)?;
        Some(Process { pid, rss, rss_max: rss, busy_at_first: busy, first: now, ..Process::default() })
    }

    /// Looks again.
    pub(super) fn look(&mut self, now: Duration) {
        if self.is_gone {
            return;
        }
        let Some((rss, busy)) = look(self.pid) else {
            self.is_gone = true;
            return;
        };
        self.rss_max = self.rss_max.max(rss);
        self.busy = busy.saturating_sub(self.busy_at_first);
        self.watched = now.saturating_sub(self.first);
    }
}

/// Resident memory in bytes of a process that lives, and for how long it has been busy.
fn look(pid: u32) -> Option<(u64, Duration)> {
    let seen = Seen::of(pid)?;
    Some((seen.rss, busy(pid).unwrap_or(Duration::from_millis(seen.cpu_ms))))
}

/// What the scheduler says of each thread: for how long it ran, and waited to run, in nanoseconds.
fn busy(pid: u32) -> Option<Duration> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten().take(THREADS_MAX);
    let times = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let mut fields = text.split_whitespace().map_while(|field| field.parse::<u64>().ok());
        Some(fields.next()? + fields.next()?)
    });
    // A kernel that doesn't count this says nothing, or zero.
    let nanos: u64 = times.sum();
    (nanos > 0).then(|| Duration::from_nanos(nanos))
}

/// The process on this machine whose socket goes from `peer` to `own`.
pub(super) fn owner(peer: SocketAddr, own: SocketAddr) -> Option<u32> {
    if !peer.ip().is_loopback() {
        return None;
    }
    let table = if peer.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    let reader = BufReader::new(fs::File::open(table).ok()?);
    let socket = reader.lines().skip(1).map_while(Result::ok).find_map(|line| inode(&line, peer, own))?;
    holder(socket)
}

/// The socket of a line of the kernel's table, if it is the one.
fn inode(line: &str, local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let is = |field: Option<&&str>, address: SocketAddr| field.is_some_and(|field| *field == in_table(address));
    if !is(fields.get(1), local) || !is(fields.get(2), remote) {
        return None;
    }
    fields.get(9)?.parse().ok()
}

/// An address as the kernel writes it: words of four bytes in the machine's own order.
fn in_table(address: SocketAddr) -> String {
    let octets = match address.ip() {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let words = octets.as_chunks::<4>().0.iter().map(|word| format!("{:08X}", u32::from_ne_bytes(*word)));
    format!("{}:{:04X}", words.collect::<String>(), address.port())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_socket_leads_to_its_process() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let own = listener.local_addr().unwrap();
            let stream = TcpStream::connect(own).unwrap();
            let peer = stream.local_addr().unwrap();
            assert_eq!(owner(peer, own), Some(std::process::id()));
            drop(stream);
            assert_eq!(owner(SocketAddr::from(([127, 0, 0, 1], 1)), own), None);
        }
    }

    #[test]
    fn what_a_process_takes_is_seen_and_its_end_too() {
        let mut own = Process::find(std::process::id(), Duration::ZERO).unwrap();
        assert!(own.rss > 1 << 20, "{own:?}");
        // Touched, or the kernel gives nothing.
        let block = vec![1u8; 32 << 20];
        own.look(Duration::from_secs(1));
        assert!(own.rss_max - own.rss > 24 << 20, "{own:?}");
        assert_eq!((block[block.len() - 1], own.watched, own.is_gone), (1, Duration::from_secs(1), false));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let mut gone = Process { pid: child.id(), ..own };
        child.wait().unwrap();
        gone.look(Duration::from_secs(2));
        assert!(gone.is_gone);
    }
}
