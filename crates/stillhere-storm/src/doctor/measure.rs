//! What this machine does on loopback with nothing else to do, measured in a moment.
//!
//! Threads: the other end of each measurement has some of its own; they end when their connections do, which is before
//! the measurement returns.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::sample::Spread;

/// Each measurement lasts so long.
const LASTS: Duration = Duration::from_millis(500);
/// No read or write waits longer: loopback answers in microseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// Connections that round trips go over.
const LINKS: usize = 4;
/// Bytes of a round trip: about a beat.
const BYTES: usize = 64;
/// How many connections are opened at most.
const CONNECTS_MAX: u32 = 20_000;

/// How late a timer of a millisecond is, of 99 in 100, in microseconds, on a runtime such as the crowd's.
pub(super) fn timer_lag() -> io::Result<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let spread = runtime.block_on(async {
        let (mut spread, began) = (Spread::default(), Instant::now());
        while began.elapsed() < LASTS {
            let due = tokio::time::Instant::now() + Duration::from_millis(1);
            tokio::time::sleep_until(due).await;
            spread.record(due.elapsed().as_micros() as u64);
        }
        spread
    });
    Ok(spread.quantile(0.99).unwrap_or_default())
}

/// Connections a second, one after the other, each accepted and ended by a reset, so that no port rests.
pub(super) fn connects() -> io::Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let accepting = thread::spawn(move || {
        // The last one says so by a byte.
        loop {
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(_) => return,
            };
            if stream.read(&mut [0]).is_ok_and(|count| count > 0) {
                return;
            }
        }
    });
    let (began, mut count) = (Instant::now(), 0);
    let connected = loop {
        if began.elapsed() >= LASTS || count >= CONNECTS_MAX {
            break Ok(());
        }
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => drop(socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))),
            Err(error) => break Err(error),
        }
        count += 1;
    };
    let took = began.elapsed();
    TcpStream::connect_timeout(&address, PATIENCE)?.write_all(&[1])?;
    // It only reads, so it doesn't panic.
    let _ = accepting.join();
    connected.map(|()| f64::from(count) / took.as_secs_f64())
}

/// Round trips a second over a few connections, one under way on each.
pub(super) fn round_trips() -> io::Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let mut links = Vec::new();
    for _ in 0..LINKS {
        let link = TcpStream::connect_timeout(&address, PATIENCE)?;
        link.set_nodelay(true)?;
        link.set_read_timeout(Some(PATIENCE))?;
        let (other, _) = listener.accept()?;
        other.set_nodelay(true)?;
        thread::spawn(move || echo(other));
        links.push(link);
    }
    let (began, mut count) = (Instant::now(), 0_u64);
    let mut bytes = [7; BYTES];
    while began.elapsed() < LASTS {
        for link in &mut links {
            link.write_all(&bytes)?;
        }
        for link in &mut links {
            link.read_exact(&mut bytes)?;
            count += 1;
        }
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

/// Until the other end closes.
fn echo(mut stream: TcpStream) {
    let mut bytes = [0; BYTES];
    while stream.read_exact(&mut bytes).is_ok() && stream.write_all(&bytes).is_ok() {}
}
