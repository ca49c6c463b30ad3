//! A small server that speaks v1 well enough for honest clients, and can be made bad on purpose.
//!
//! It runs on a thread of its own and ends with the test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// One beat in a thousand is answered more than a second late.
    Stalls,
    /// Each beat is answered 80 ms late from the moment on that attackers come.
    Late,
    /// One beat in five hundred ends its connection, and the session is forgotten.
    Drops,
    /// One beat in five hundred is answered with a digest first: the session is on leave, although it beats.
    PutsOnLeave,
    /// Who is silent is never ended.
    KeepsTheDead,
    /// While attackers are connected nobody new gets in.
    ShutsTheDoor,
    /// Each attacker costs a mebibyte for ever.
    Leaks,
}

/// Silent links are ended after so many intervals, if the server is sound.
const INTERVALS_MAX: u32 = 2;
/// Attackers come from other addresses of this machine than honest clients.
const HONEST: [u8; 4] = [127, 0, 0, 1];

/// After how long a silent session is on leave that has just begun, or is on leave; one that beats has twice that.
const FRESH_DETECT_MS: u64 = 300;

/// A running server.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: String,
    // Its end is the end of the server.
    _running: mpsc::Sender<()>,
}

#[derive(Default)]
struct Shared {
    beats: AtomicU64,
    attackers: AtomicU64,
    attackers_ever: AtomicU64,
}

impl Target {
    /// Starts it.
    pub(crate) fn start(fault: Fault) -> Target {
        let (told, addresses) = std::sync::mpsc::channel();
        let (running, mut end) = mpsc::channel(1);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let operators = TcpListener::bind("127.0.0.1:0").await.unwrap();
                told.send((listener.local_addr().unwrap(), operators.local_addr().unwrap())).unwrap();
                let shared = Arc::new(Shared::default());
                loop {
                    tokio::select! {
                        _ = end.recv() => break,
                        accepted = listener.accept() => {
                            let (stream, peer) = accepted.unwrap();
                            tokio::spawn(link(stream, peer, fault, shared.clone()));
                        }
                        accepted = operators.accept() => {
                            tokio::spawn(operator(accepted.unwrap().0, fault, shared.clone()));
                        }
                    }
                }
            });
        });
        let (address, operators) = addresses.recv().unwrap();
        Target { address, metrics: format!("http://{operators}/metrics"), _running: running }
    }
}

async fn link(stream: TcpStream, peer: SocketAddr, fault: Fault, shared: Arc<Shared>) {
    let is_attacker = peer.ip() != std::net::IpAddr::from(HONEST);
    if is_attacker {
        shared.attackers.fetch_add(1, Ordering::Relaxed);
        shared.attackers_ever.fetch_add(1, Ordering::Relaxed);
    }
    // However it ends, it has ended.
    let _ = serve(stream, fault, &shared, is_attacker).await;
    if is_attacker {
        shared.attackers.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn serve(mut stream: TcpStream, fault: Fault, shared: &Shared, is_attacker: bool) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut patience = Duration::from_secs(2);
    let mut detect_ms = 2 * FRESH_DETECT_MS;
    loop {
        let said = match timeout(patience, read(&mut stream)).await {
            Ok(said) => said?,
            Err(_) if fault == Fault::KeepsTheDead => std::future::pending().await,
            Err(_) => return Ok(()),
        };
        match said["op"].as_str() {
            Some("hello") => {
                if fault == Fault::ShutsTheDoor && !is_attacker && shared.attackers.load(Ordering::Relaxed) > 0 {
                    return Ok(());
                }
                let interval_ms = said["interval_ms"].as_u64().unwrap_or(1000);
                patience = Duration::from_millis(interval_ms) * INTERVALS_MAX;
                write(&mut stream, welcome(interval_ms)).await?;
            }
            Some("beat") => {
                let due = Instant::now();
                let nth = if is_attacker { 1 } else { shared.beats.fetch_add(1, Ordering::Relaxed) + 1 };
                match fault {
                    Fault::Stalls if nth.is_multiple_of(1000) => pause(due, 1100).await,
                    Fault::Late if shared.attackers.load(Ordering::Relaxed) > 0 => pause(due, 80).await,
                    Fault::Drops if nth.is_multiple_of(500) => return Ok(()),
                    Fault::PutsOnLeave if nth.is_multiple_of(500) => {
                        write(&mut stream, json!({"op": "digest", "rooms": []})).await?;
                        detect_ms = FRESH_DETECT_MS;
                    }
                    _ => {}
                }
                write(&mut stream, json!({"op": "beat", "t": said["t"], "detect_ms": detect_ms})).await?;
            }
            _ => return Ok(()),
        }
    }
}

/// Lets that many milliseconds pass: being late is what this server is for.
async fn pause(since: Instant, millis: u64) {
    let late = since + Duration::from_millis(millis);
    assert!(tokio::time::timeout_at(late, std::future::pending::<()>()).await.is_err());
}

async fn read(stream: &mut TcpStream) -> std::io::Result<Value> {
    let length = stream.read_u32().await?;
    if length > 65_536 {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).await?;
    Ok(serde_json::from_slice(&body)?)
}

async fn write(stream: &mut TcpStream, body: Value) -> std::io::Result<()> {
    let body = body.to_string();
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(body.as_bytes());
    stream.write_all(&frame).await
}

fn welcome(interval_ms: u64) -> Value {
    json!({
        "op": "welcome", "session": "session", "gen": 1, "resumed": false,
        "beat": {"interval_ms": interval_ms, "min_ms": 1000, "detect_ms": FRESH_DETECT_MS, "leave_hold_ms": 1_800_000},
        "resume": {"secret": "secret", "window_ms": 120_000},
        "limits": {"frame_bytes": 65_536, "frames_per_second": 1000}, "node": "n", "time_ms": 1,
    })
}

/// Metrics: a memory of 10 MiB, and what attackers have cost.
async fn operator(mut stream: TcpStream, fault: Fault, shared: Arc<Shared>) {
    let mut request = [0; 4096];
    // Whoever asks gets the page; whoever hangs up doesn't.
    let _ = stream.read(&mut request).await;
    let leaked = if fault == Fault::Leaks { shared.attackers_ever.load(Ordering::Relaxed) } else { 0 };
    // It doesn't know of false leaves, as a server with that fault wouldn't: its clients do.
    let page = format!(
        "process_resident_memory_bytes {}\nprocess_open_fds 10\nstillhere_false_leaves_total 0\n",
        (10 + leaked) << 20
    );
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}", page.len());
    let _ = stream.write_all(answer.as_bytes()).await;
}
