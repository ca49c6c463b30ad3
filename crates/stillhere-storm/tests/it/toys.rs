//! Clients to be judged: ours, and some that are bad on purpose, each in a process of its own.

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use stillhere_client::Client;

/// Tells a child which client it is, and whom it connects to.
const TOY: &str = "STILLHERE_TOY";
/// What a toy prints before it begins.
const READY: &str = "ready";

/// A client's process; ended when it is dropped.
pub(crate) struct Toy(Child);

impl Toy {
    /// Starts this very program again, as a client of that kind.
    pub(crate) fn start(kind: &str, address: SocketAddr) -> Toy {
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "toys::a_child_is_the_client_that_it_is_told_to_be", "--nocapture"])
            .env(TOY, format!("{kind} {address}"))
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.unwrap();
        // A busy machine takes seconds to start a dozen, and what they do is judged by its time.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == READY), "the toy begins");
        // What it prints later may be lost, but mustn't end it.
        std::thread::spawn(move || lines.for_each(drop));
        Toy(child)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Toy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// In the test run itself this does nothing.
#[test]
fn a_child_is_the_client_that_it_is_told_to_be() {
    let Ok(told) = env::var(TOY) else { return };
    let (kind, address) = told.split_once(' ').unwrap();
    let address = address.parse().unwrap();
    // Below the test's name, which has its line to itself only behind this.
    println!("\n{READY}");
    match kind {
        "ours" => ours(address),
        "ours-legacy" => ours_legacy(address),
        "hasty" => hasty(address),
        "patient" => patient(address),
        "hoarder" => hoarder(address),
        "greedy" => greedy(address),
        "spinner" => spinner(address),
        "busy" => busy(address),
        "two-handed" => two_handed(address),
        "fragile" => fragile(address),
        other => panic!("no toy is called {other}"),
    }
}

fn ours(address: SocketAddr) {
    // A seed whose waits let it come to the last goodbye in time.
    run(Client::builder().interval(Duration::from_secs(1)).seed(7).start(address).unwrap());
}

fn ours_legacy(address: SocketAddr) {
    run(Client::builder().legacy().interval(Duration::from_millis(500)).start(address).unwrap());
}

/// Until it stops for good; then it waits to be ended, so that its process can still be looked at.
fn run(mut client: Client) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        while client.next_event().await.is_some() {}
        std::future::pending::<()>().await;
    });
}

/// Connects and says hello.
fn hello(address: SocketAddr) -> Option<TcpStream> {
    let mut link = TcpStream::connect(address).ok()?;
    let body = br#"{"op":"hello","v":1,"interval_ms":1000}"#;
    link.write_all(&(body.len() as u32).to_be_bytes()).ok()?;
    link.write_all(body).ok()?;
    Some(link)
}

/// Reads to the end and connects at once, whatever it was told.
fn hasty(address: SocketAddr) {
    while let Some(mut link) = hello(address) {
        let mut sink = [0; 4096];
        while link.read(&mut sink).is_ok_and(|count| count > 0) {}
    }
}

/// Waits for ever on a link that says nothing.
fn patient(address: SocketAddr) {
    hasty(address);
}

/// Keeps all that it reads, up to 256 MiB so that the machine lives.
fn hoarder(address: SocketAddr) {
    let mut kept = Vec::new();
    let Some(link) = hello(address) else { return };
    let _ = link.take(256 << 20).read_to_end(&mut kept);
    std::thread::park();
}

/// Believes a length and makes room for it, as far as 512 MiB.
fn greedy(address: SocketAddr) {
    while let Some(mut link) = hello(address) {
        let mut header = [0; 4];
        while link.read_exact(&mut header).is_ok() {
            let mut body = vec![1; (u32::from_be_bytes(header) as usize).min(512 << 20)];
            if link.read_exact(&mut body).is_err() {
                break;
            }
        }
    }
}

/// Asks again and again whether there is something to read.
fn spinner(address: SocketAddr) {
    let Some(mut link) = hello(address) else { return };
    link.set_nonblocking(true).unwrap();
    let mut sink = [0; 4096];
    loop {
        let _ = link.read(&mut sink);
    }
}

/// Reads a flood and has no time for beats.
fn busy(address: SocketAddr) {
    hasty(address);
}

/// Opens the next link and keeps the first.
fn two_handed(address: SocketAddr) {
    let links = [hello(address), hello(address)];
    std::thread::park();
    drop(links);
}

/// Ends at the first thing that it doesn't understand.
fn fragile(address: SocketAddr) {
    let Some(mut link) = hello(address) else { return };
    let mut header = [0; 4];
    for _ in 0..2 {
        link.read_exact(&mut header).unwrap();
        let mut body = vec![0; u32::from_be_bytes(header) as usize];
        link.read_exact(&mut body).unwrap();
    }
}
