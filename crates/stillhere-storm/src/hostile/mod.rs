//! A server that is bad to the clients that connect, and a verdict on the client.
//!
//! It listens on this machine alone. Each [`Behaviour`] is bad in one way; what a client does about it is written down
//! as the server sees it, connection by connection, and judged at the end: does it leave a dead link, come back, pause
//! before it does, do as it is told, and stay small meanwhile. One client at a time is judged.
//!
//! What it doesn't do: it proves nothing about what a client makes of what it reads, only that it lives through it.
//!
//! Tasks, all on the caller's thread: one that accepts for each port, one for each connection. They are dropped when
//! the run ends, and with them all links.

mod behaviour;
mod guest;
mod judge;
mod process;
mod verdict;
mod visit;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stillhere_core::text::Escaped;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep, timeout_at};

pub use self::behaviour::{BEHAVIOURS, Behaviour, find};
use self::guest::Guest;
use self::judge::Evidence;
use self::process::Process;
pub use self::verdict::{Criterion, GAPS_MAX, Outcome, Row, Seen, Verdict};
use self::visit::{Book, VISITS_MAX, Visit};
use crate::frame::Framing;
use crate::plan;

/// No run is longer: it ends by itself.
pub const LASTS_MAX: Duration = Duration::from_secs(3600);
/// Connections that a port has open at once; further ones wait to be accepted. A sound client has one.
const OPEN_MAX: usize = 64;
/// How often processes are looked at, and whether the run is to end.
const LOOK: Duration = Duration::from_millis(200);
/// Looks between two calls of the caller.
const LOOKS_PER_PROGRESS: u32 = 5;
/// Between two searches for a client's process: each goes through all of `/proc`.
const SEARCH_REST: Duration = Duration::from_secs(1);
/// After an accept that failed; most likely this process has no more files.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// In a rotation a behaviour without an end lasts so long.
const TURN: Duration = Duration::from_secs(10);
/// Links may live a little longer than the run: the last look must see them as they were.
const AFTER: Duration = Duration::from_secs(60);

/// What a server is to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Where: an address of this machine alone. With port 0 the system chooses; with a port of their own for each
    /// behaviour, any other is that of the first, and the rest follow it.
    pub listen: SocketAddr,
    /// Names of [`BEHAVIOURS`]; none for all.
    pub behaviours: Vec<String>,
    /// How they share ports.
    pub arrangement: Arrangement,
    /// For how long; up to [`LASTS_MAX`].
    pub lasts: Duration,
    /// The client's process; `None` to look for whoever holds the other end.
    pub pid: Option<u32>,
    /// How to speak with somebody else's client; `None` for ours, v1 and legacy.
    pub frame: Option<plan::Frame>,
}

/// How behaviours share ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrangement {
    /// Each has a port of its own.
    Ports,
    /// All have one port: the client's nth connection meets the nth behaviour, then they begin anew.
    Rotation,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum HostileError {
    /// The caller's fault: what to write instead is said.
    #[error("{0}")]
    Bad(String),
    /// The system won't have it.
    #[error("can't listen on {address}: {error}; choose another port, or 0 for any that is free")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The system gives no runtime.
    #[error("can't run: {0}")]
    Runtime(io::Error),
}

/// A port, and what was seen at it.
struct Post {
    address: SocketAddr,
    behaviours: Vec<&'static Behaviour>,
    book: Book,
    process: Cell<Result<Process, &'static str>>,
    searched: Cell<Option<Instant>>,
}

/// A server that listens. Clients may connect; nothing is done to them until it runs.
pub struct Hostile {
    runtime: tokio::runtime::Runtime,
    listeners: Vec<TcpListener>,
    posts: Vec<Rc<Post>>,
    options: Options,
}

impl Hostile {
    /// Checks the options and listens.
    ///
    /// # Errors
    /// When the options can't be done, or the ports can't be had.
    pub fn bind(options: Options) -> Result<Hostile, HostileError> {
        let chosen = choose(&options)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(HostileError::Runtime)?;
        let groups: Vec<Vec<&'static Behaviour>> = match options.arrangement {
            Arrangement::Ports => chosen.into_iter().map(|behaviour| vec![behaviour]).collect(),
            Arrangement::Rotation => vec![chosen],
        };
        let (mut listeners, mut posts) = (Vec::new(), Vec::new());
        for (nth, behaviours) in (0_u16..).zip(groups) {
            let mut address = options.listen;
            if address.port() != 0 {
                let port = address.port().checked_add(nth);
                address
                    .set_port(port.ok_or_else(|| bad("there are too few ports above that one: choose a lower one"))?);
            }
            let listener = runtime.block_on(TcpListener::bind(address));
            let listener = listener.map_err(|error| HostileError::Listen { address, error })?;
            let address = listener.local_addr().map_err(|error| HostileError::Listen { address, error })?;
            posts.push(Rc::new(Post {
                address,
                behaviours,
                book: Rc::new(RefCell::new(Vec::new())),
                process: Cell::new(Err("Its process isn't known; say which with --pid.")),
                searched: Cell::new(None),
            }));
            listeners.push(listener);
        }
        Ok(Hostile { runtime, listeners, posts, options })
    }

    /// Where each behaviour is.
    pub fn addresses(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> + '_ {
        self.posts.iter().flat_map(|post| post.behaviours.iter().map(|behaviour| (behaviour.name, post.address)))
    }

    /// Is bad to whoever connects, until its time is over or `stop` is set. `on_progress` gets the verdict as it
    /// stands: at once, and every second.
    pub fn run(self, mut on_progress: impl FnMut(&Verdict), stop: &AtomicBool) -> Verdict {
        let Hostile { runtime, listeners, posts, options } = self;
        let local = LocalSet::new();
        local.block_on(&runtime, async {
            let began = Instant::now();
            let until = began + options.lasts;
            for (listener, post) in listeners.into_iter().zip(&posts) {
                spawn_local(accept(listener, post.clone(), options.clone(), began));
            }
            for looks in 0.. {
                let now = began.elapsed();
                for post in &posts {
                    post.look(options.pid, now);
                }
                let is_over = now >= options.lasts || stop.load(Ordering::Relaxed);
                if is_over || looks % LOOKS_PER_PROGRESS == 0 {
                    let verdict = verdict(&posts, now);
                    on_progress(&verdict);
                    if is_over {
                        return verdict;
                    }
                }
                let _ = timeout_at(until, sleep(LOOK)).await;
            }
            verdict(&posts, began.elapsed())
        })
    }
}

fn bad(what: impl Into<String>) -> HostileError {
    HostileError::Bad(what.into())
}

/// The behaviours that are wanted, if everything else is in order as well.
fn choose(options: &Options) -> Result<Vec<&'static Behaviour>, HostileError> {
    if !options.listen.ip().is_loopback() {
        let (host, port) = (IpAddr::V4(Ipv4Addr::LOCALHOST), options.listen.port());
        return Err(bad(format!(
            "{} can be reached from other machines, and this server is a danger to clients: write {}",
            options.listen,
            SocketAddr::new(host, port)
        )));
    }
    if options.lasts.is_zero() || options.lasts > LASTS_MAX {
        return Err(bad("it may last from a moment to an hour: write for example --for 60s"));
    }
    let framing = options.frame.as_ref().map(Framing::of);
    if options.behaviours.is_empty() {
        return Ok(BEHAVIOURS.iter().filter(|behaviour| behaviour::suits(behaviour, framing)).collect());
    }
    let named = options.behaviours.iter().map(|name| {
        let behaviour = find(name).ok_or_else(|| {
            let names: Vec<_> = BEHAVIOURS.iter().map(|behaviour| behaviour.name).collect();
            bad(format!("there is no behaviour `{}`; there are {}", Escaped(name), names.join(", ")))
        })?;
        if behaviour::suits(behaviour, framing) {
            return Ok(behaviour);
        }
        Err(bad(format!("`{name}` needs the words of v1, which a client with a [frame] doesn't know: leave it out")))
    });
    named.collect()
}

impl Post {
    /// Looks at the client's process, if it is known.
    fn look(&self, pid: Option<u32>, now: Duration) {
        let process = match (self.process.get(), pid) {
            (Ok(mut process), _) => {
                process.look(now);
                Ok(process)
            }
            // The memory that it has before anything is done to it is what growth is counted from.
            (Err(_), Some(pid)) => Process::find(pid, now).ok_or("The process of --pid can't be seen."),
            (Err(why), None) => Err(why),
        };
        self.process.set(process);
    }

    /// Looks for the process at the other end of a connection, now and then.
    fn search(&self, stream: &TcpStream, now: Duration) {
        let is_known = self.process.get().is_ok_and(|process| !process.is_gone);
        let rests = self.searched.get().is_some_and(|at| at.elapsed() < SEARCH_REST);
        let (false, false, Ok(peer)) = (is_known, rests, stream.peer_addr()) else { return };
        self.searched.set(Some(Instant::now()));
        match process::owner(peer, self.address) {
            Some(pid) if pid == std::process::id() => {
                self.process.set(Err("It runs in the server's own process, so its memory can't be told apart."));
            }
            Some(pid) => {
                if let Some(process) = Process::find(pid, now) {
                    self.process.set(Ok(process));
                }
            }
            None => {}
        }
    }
}

/// Accepts at one port, and hands each connection to its behaviour.
async fn accept(listener: TcpListener, post: Rc<Post>, options: Options, began: Instant) {
    let places = Arc::new(Semaphore::new(OPEN_MAX));
    let framing = options.frame.as_ref().map(Framing::of);
    let turn = (post.behaviours.len() > 1).then_some(TURN);
    let until = began + options.lasts + AFTER;
    loop {
        let index = post.book.borrow().len();
        if index >= VISITS_MAX {
            return;
        }
        // The semaphore is never closed.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_REST).await;
            continue;
        };
        let now = began.elapsed();
        if options.pid.is_none() {
            post.search(&stream, now);
        }
        // A matter of latency only.
        let _ = stream.set_nodelay(true);
        let which = index % post.behaviours.len();
        let behaviour = post.behaviours[which];
        post.book.borrow_mut().push(Visit::new(which, now));
        let nth = (index / post.behaviours.len()) as u32;
        let mut guest = Guest::new(stream, (post.book.clone(), index), (began, until), turn, framing);
        spawn_local(async move {
            (behaviour.act)(&mut guest, nth).await;
            drop((guest, place));
        });
    }
}

/// The verdict as things stand.
fn verdict(posts: &[Rc<Post>], now: Duration) -> Verdict {
    let mut rows = Vec::new();
    for post in posts {
        let visits = post.book.borrow();
        let process = post.process.get();
        for (index, behaviour) in post.behaviours.iter().enumerate() {
            let process = process.as_ref().map_err(|why| *why);
            let evidence = Evidence { visits: &visits, behaviour: index, process, now };
            rows.push(Row {
                behaviour: behaviour.name.to_owned(),
                about: behaviour.about.to_owned(),
                address: post.address,
                seen: judge::seen(&evidence),
                criteria: judge::judge(behaviour.judged, &evidence),
            });
        }
    }
    Verdict { lasted_ms: now.as_millis() as u64, rows }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            behaviours: Vec::new(),
            arrangement: Arrangement::Ports,
            lasts: Duration::from_secs(1),
            pid: None,
            frame: None,
        }
    }

    fn refused(options: Options, says: &str) {
        let error = Hostile::bind(options).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(says), "{error:?} doesn't say {says:?}");
    }

    #[test]
    fn what_can_not_be_done_is_refused_with_what_to_write() {
        refused(Options { listen: SocketAddr::from(([0, 0, 0, 0], 14_001)), ..options() }, "write 127.0.0.1:14001");
        refused(Options { lasts: Duration::ZERO, ..options() }, "--for 60s");
        refused(Options { lasts: LASTS_MAX * 2, ..options() }, "--for 60s");
        refused(Options { behaviours: vec!["flod\n".to_owned()], ..options() }, "there are flood, stall");
        refused(Options { listen: SocketAddr::from(([127, 0, 0, 1], 65_535)), ..options() }, "choose");
    }

    #[test]
    fn each_has_a_port_or_all_have_one() {
        let ports = Hostile::bind(options()).unwrap();
        let mut addresses: Vec<_> = ports.addresses().map(|(_, address)| address).collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), BEHAVIOURS.len());
        let rotation = Hostile::bind(Options { arrangement: Arrangement::Rotation, ..options() }).unwrap();
        let names: Vec<_> = rotation.addresses().map(|(name, _)| name).collect();
        assert_eq!((names.len(), names.last(), rotation.posts.len()), (BEHAVIOURS.len(), Some(&"refuse"), 1));
    }

    #[test]
    fn somebody_elses_client_is_not_told_the_words_of_v1() {
        let exchange = plan::Exchange { payload: String::new(), reply: None };
        let frame = plan::Frame {
            length: plan::Length::U16Le,
            includes_header: false,
            hello: Vec::new(),
            beat: exchange,
            max: 1000,
        };
        let others = Options { frame: Some(frame), ..options() };
        let names: Vec<_> = Hostile::bind(others.clone()).unwrap().addresses().map(|(name, _)| name).collect();
        assert!(names.contains(&"flood") && names.contains(&"lengths") && !names.contains(&"refuse"), "{names:?}");
        refused(Options { behaviours: vec!["refuse".to_owned()], ..others }, "leave it out");
    }

    #[test]
    fn nobody_comes_and_nothing_is_decided() {
        let mut calls = 0;
        let lasts = Duration::from_millis(1);
        let hostile = Hostile::bind(Options { lasts, ..options() }).unwrap();
        let verdict = hostile.run(|_| calls += 1, &AtomicBool::new(false));
        assert_eq!((verdict.outcome(), verdict.rows.len()), (Outcome::Undecided, BEHAVIOURS.len()));
        assert!(calls >= 1);
    }
}
