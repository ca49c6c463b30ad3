//! A member that reads nothing while its room is spoken to at full rate: what it holds, and what it costs the others.

use std::cell::RefCell;
use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::fan::{HALL, WARM_UP};
use super::hall::Hall;
use super::load::{self, Kind};
use super::lone::{Carrier, Lone};
use crate::bench::Bench;
use crate::bench::row::{Figure, Goal, Row, median};
use crate::bench::target::{Target, Work};

const IN_FLIGHT: usize = 16;
/// Far above the index of any member of the room.
const SLOW_INDEX: usize = 90_000;
/// Memory is looked at this often: at full rate a room is sent some 10 KB meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const PAGE_BYTES: u64 = 4_096;

/// The same gateway without and with the slow member, in turns.
pub(crate) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let span = bench.span(8, 3);
    let memory = RefCell::new(Vec::new());
    let [most] = bench.each_pair(|| {
        let mut target = bench.server(Work::Fan)?;
        let mut hall = Hall::open(&mut target, HALL)?;
        let p99 = |hall: &mut Hall| -> Result<f64> {
            Ok(load::micros(&load::closed(hall, Kind::Signal, IN_FLIGHT, span)?.delivery, 0.99))
        };
        load::closed(&mut hall, Kind::Signal, IN_FLIGHT, WARM_UP)?;
        let without = p99(&mut hall)?;
        let slow = enter(&mut hall, &target, 0)?;
        let with = p99(&mut hall)?;
        drop(slow);
        hall.settle()?;
        // Looking at memory takes time from the generator, so it has runs of its own.
        let (before, _) = watched(&target, 0, || p99(&mut hall))?;
        let slow = enter(&mut hall, &target, 1)?;
        let (after, queue) = watched(&target, slow.port, || p99(&mut hall))?;
        memory.borrow_mut().push((after.saturating_sub(before) as f64, queue as f64));
        Ok(([with], [without]))
    })?;
    let memory = memory.into_inner();
    let note = format!(
        "the most of RSS plus the kernel's send queue, less the most RSS without it; the send queue reached {:.0} bytes",
        median(memory.iter().map(|(_, queue)| *queue))
    );
    let held = Figure::alone(median(memory.iter().map(|(held, _)| held / 1_024.0)));
    Ok(vec![
        Row::new("slow", "memory for one that reads nothing in a room of 1,000, 16 in flight", held, "KiB")
            .must(Goal::AtMost(512.0))
            .note(note),
        Row::new("slow", "the others' p99 with it, beside the same without it", most, "µs")
            .must(Goal::RatioAtMost(1.2)),
    ])
}

/// A member that joins and never reads again.
fn enter(hall: &mut Hall, target: &Target, index: usize) -> Result<Lone> {
    let mut slow = Lone::connect(target.address(), index, &Carrier::Native)?;
    slow.join(target.dialect(), SLOW_INDEX + index, 0)?;
    hall.settle()?;
    Ok(slow)
}

/// The most that the server holds while `run` goes on: resident memory and what waits in the kernel for the peer on `port`,
/// and the most of the latter alone.
fn watched(target: &Target, port: u16, run: impl FnOnce() -> Result<f64>) -> Result<(u64, u64)> {
    let (pid, server) = (target.pid(), target.address());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| -> Result<(u64, u64)> {
            let mut most = (0, 0);
            while !stop.load(Ordering::Relaxed) {
                let queue = if port == 0 { 0 } else { send_queue(server, port)? };
                most = (most.0.max(resident(pid)? + queue), most.1.max(queue));
                std::thread::sleep(LOOK_EVERY);
            }
            Ok(most)
        });
        let result = run();
        stop.store(true, Ordering::Relaxed);
        match looking.join() {
            Ok(most) => result.and(most),
            Err(_) => bail!("looking at memory failed"),
        }
    })
}

/// The second number of `statm`: cheaper than `status`, and as exact.
fn resident(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).context("the measured process is gone")?;
    let pages: u64 = text.split(' ').nth(1).and_then(|word| word.parse().ok()).context("statm cannot be read")?;
    Ok(pages * PAGE_BYTES)
}

/// Bytes in the server's send queue to the peer on `port`; 0 once the server has closed.
fn send_queue(server: SocketAddr, port: u16) -> Result<u64> {
    let table = fs::read_to_string("/proc/net/tcp").context("cannot read the kernel's table of sockets")?;
    Ok(queue_in(&table, server.port(), port).unwrap_or(0))
}

/// The third field of a line is the peer, the second the socket itself, the fifth its queues, all in hexadecimal.
fn queue_in(table: &str, local: u16, remote: u16) -> Option<u64> {
    let (local, remote) = (format!(":{local:04X}"), format!(":{remote:04X}"));
    let line = table.lines().find(|line| {
        let mut words = line.split_whitespace().skip(1);
        words.next().is_some_and(|word| word.ends_with(&local))
            && words.next().is_some_and(|word| word.ends_with(&remote))
    })?;
    let queues = line.split_whitespace().nth(4)?;
    u64::from_str_radix(queues.split(':').next()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_send_queue_is_that_of_the_servers_end() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
             0: 0100007F:C350 0100007F:36B0 01 00000007:00000001 00:00000000\n\
             1: 0100007F:36B0 0100007F:C350 01 00020000:00000000 00:00000000\n";
        assert_eq!(queue_in(table, 14_000, 50_000), Some(131_072));
        assert_eq!(queue_in(table, 14_000, 50_001), None);
    }
}
