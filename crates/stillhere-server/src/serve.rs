//! Putting the gateway together, and the main thread's watch over it.
//!
//! Threads: `shard-N`, each with its runtime and links; `admin`, which serves operators; `store`, which writes; and the
//! main thread, which waits for signals and for what operators ask of it. When the main thread returns, the process
//! ends, and with it all others.

use std::fs::{File, TryLockError};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustls::server::ProducesTickets;
use stillhere_core::event::{IdentityTerms, Terms};
use stillhere_core::profile::silence_until_miss;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use crate::accounts::shelf::Shelf;
use crate::accounts::{Accounts, Policy};
use crate::admin;
use crate::api::Reloaded;
use crate::certificate::Certificate;
use crate::clock::Clock;
use crate::config::{AuthMode, Config, ConfigErrors, OpenFiles, SessionsPolicy};
use crate::control::{Command, Control};
use crate::driver::{self, Parts};
use crate::gate::Gate;
use crate::hub::{Hub, Message};
use crate::link;
use crate::listen;
use crate::notes::{Events, Notes};
use crate::office::Office;
use crate::store::{self, LedgerWriter, Store};
use crate::token::Token;
use crate::transport::Rules;

/// Commands of operators that may wait.
const COMMANDS_MAX: usize = 16;
/// How long links may take to hear the goodbye.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long the last sessions may take to be written.
const LAST_WRITE: Duration = Duration::from_secs(10);
/// How far beyond the detector the kernel's own timers are set.
const PATIENCE_MARGIN: Duration = Duration::from_secs(60);

/// What an operator wants to know of a gateway that has just started.
#[derive(Debug)]
pub struct Ready {
    /// Where clients connect.
    pub clients: SocketAddr,
    /// Where operators do.
    pub admin: SocketAddr,
    /// The file with their token.
    pub token_file: PathBuf,
    /// How many shards there are.
    pub shards: usize,
    /// How many links may be open.
    pub connections_max: usize,
    /// How many sessions of the last run can be resumed.
    pub sessions_restored: usize,
}

/// Runs the gateway until it is told to end. `reload` reads the configuration again; `ready` is called once everything
/// listens.
///
/// # Errors
/// When something that is needed at the start can't be had: a port, the data dir, the database.
pub fn run(
    config: Config,
    reload: impl Fn() -> Result<Config, ConfigErrors>,
    ready: impl FnOnce(&Ready),
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before anything else: a signal in the first moments must not be lost.
        let signals = Signals::new()?;
        let (gateway, told) = start(&config)?;
        ready(&told);
        gateway.watch(config, reload, signals).await
    })
}

struct Gateway {
    control: Control,
    commands: mpsc::Receiver<Command>,
    /// The one in force.
    certificate: Option<Certificate>,
    ledger: LedgerWriter,
    ticketer: Arc<dyn ProducesTickets>,
    /// Held until the process ends.
    _lock: File,
}

fn start(config: &Config) -> anyhow::Result<(Gateway, Ready)> {
    // A link takes less than a kilobyte, a huge page two thousand of them: the allocator asks for huge pages, and with
    // them 14,000 idle links took 1,047 bytes each instead of 601.
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        warn!(%error, "can't do without huge pages; more memory is taken than is used");
    }
    let connections_max = connections_max(config)?;
    let shards = config.shards();
    let data_dir = &config.server.data_dir;
    make_private_dir(data_dir)?;
    let lock = lock_data_dir(data_dir)?;
    let (token, token_file) = Token::load(data_dir)?;
    let ticketer = rustls::crypto::ring::Ticketer::new().context("the system gives no randomness")?;
    let certificate = Certificate::load(&config.listen)?;
    let rules = rules(config, certificate.as_ref(), &ticketer, shards)?;
    let clock = Clock::new();
    let (hub, inboxes) = Hub::new(shards);
    let (Store { sessions: store, ledger, survivors }, office) = open_store(config, clock, &hub)?;
    let patience = patience(config);
    let buffers = listen::Buffers { send: config.limits.send_buffer, receive: config.limits.receive_buffer };
    let clients = listen::bind(config.listen.clients, buffers, patience)
        .with_context(|| format!("can't listen for clients on {}; is another server there?", config.listen.clients))?;
    let admin = TcpListener::bind(config.listen.admin)
        .with_context(|| format!("can't listen for operators on {}; is another server there?", config.listen.admin))?;
    admin.set_nonblocking(true)?;

    let told = Ready {
        clients: clients.local_addr()?,
        admin: admin.local_addr()?,
        token_file,
        shards,
        connections_max,
        sessions_restored: survivors.len(),
    };
    let gate = Gate::new(connections_max, config.limits.connections_per_address, rules);
    gate.set_bans(office.banned_addresses()?);
    let (sender, commands) = mpsc::channel(COMMANDS_MAX);
    let control = Control {
        hub: hub.clone(),
        gate,
        events: Events::new(),
        store: store.clone(),
        office: office.open()?,
        clock,
        commands: sender,
        draining: Arc::new(AtomicBool::new(false)),
        closed_max: config.limits.closed,
        closed_seq: Arc::new(AtomicU64::new(0)),
    };
    let mut clients = Some(clients);
    for (index, inbox) in inboxes.into_iter().enumerate() {
        let parts = Parts {
            index,
            clock,
            terms: terms(config, shards),
            seed: seed()?,
            hub: hub.clone(),
            inbox,
            store: store.clone(),
            ledger: ledger.clone(),
            notes: Notes {
                events: control.events.clone(),
                closed: Default::default(),
                closed_max: control.closed_max,
                closed_seq: Arc::clone(&control.closed_seq),
            },
            outbox_max: config.limits.outbox,
            open_link: link::open,
            gather: config.server.coalesce,
        };
        let listener = clients.take();
        let (gate, hub) = (Arc::clone(&control.gate), hub.clone());
        std::thread::Builder::new().name(format!("shard-{index}")).spawn(move || {
            let ran = driver::run(parts, |driver| {
                if let Some(listener) = listener {
                    tokio::task::spawn_local(listen::accept(listener, gate, hub, driver.clone()));
                }
            });
            if let Err(error) = ran {
                error!(%error, shard = index, "a shard can't run");
            }
        })?;
    }
    restore(&hub, survivors);
    serve_operators(admin, control.clone(), token)?;
    Ok((Gateway { control, commands, certificate, ledger, ticketer, _lock: lock }, told))
}

/// Opens the store, and the accounts on it. Each needs the other: the store's thread hands entries over to the accounts.
fn open_store(config: &Config, clock: Clock, hub: &Hub) -> anyhow::Result<(Store, Office)> {
    let door = Arc::new(OnceLock::<Accounts>::new());
    let doors = Arc::clone(&door);
    let hub = hub.clone();
    let store = store::start(
        &config.server.data_dir,
        config.detector.return_window,
        store::Rules::of(config),
        Arc::new(move |shard, told| hub.tell(shard, told)),
        Box::new(move |shard, id, order| {
            // No shard has an order before the accounts have begun.
            if let Some(accounts) = doors.get() {
                accounts.order(shard, id, order);
            }
        }),
    )?;
    let books = Arc::new(Shelf::open(&config.server.data_dir, store.ledger.clone())?);
    let accounts = Accounts::start(policy(config), Arc::clone(&books), Arc::new(store.ledger.clone()), clock)?;
    let accounts = door.get_or_init(|| accounts).clone();
    Ok((store, Office { books, accounts }))
}

fn policy(config: &Config) -> Policy {
    Policy { open: config.auth.mode == AuthMode::Open, register: config.auth.register }
}

/// Hands out what survived the last run: any shard will do, since they ask each other.
fn restore(hub: &Hub, mut survivors: Vec<stillhere_core::event::Keepsake>) {
    let each = survivors.len().div_ceil(hub.len());
    for shard in 0..hub.len() {
        let some = survivors.split_off(survivors.len().saturating_sub(each));
        if !some.is_empty() && hub.send(shard, Message::Restore(some)).is_err() {
            warn!(shard, "sessions of the last run can't be restored: the shard is gone");
        }
    }
}

fn serve_operators(listener: TcpListener, control: Control, token: Token) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new()
        .name("admin".to_owned())
        .spawn(move || runtime.block_on(admin::serve(listener, control, token)))?;
    Ok(())
}

/// The signals that mean something here, apart from each other since both are waited for at once.
struct Signals {
    reload: Signal,
    leave: LeaveSignals,
}

struct LeaveSignals {
    terminate: Signal,
    interrupt: Signal,
}

enum Event {
    Reload(Option<tokio::sync::oneshot::Sender<Reloaded>>),
    Leave,
    Reap,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        let leave =
            LeaveSignals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
        Ok(Signals { reload: signal(SignalKind::hangup())?, leave })
    }
}

impl LeaveSignals {
    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

impl Gateway {
    async fn watch(
        mut self,
        mut config: Config,
        reload: impl Fn() -> Result<Config, ConfigErrors>,
        mut signals: Signals,
    ) -> anyhow::Result<()> {
        info!(interval = ?config.log.reaper_interval, "reaper: reports what was cleared at this interval");
        let mut reaped_before = 0;
        loop {
            let reap = tokio::time::sleep(config.log.reaper_interval);
            let event = tokio::select! {
                _ = signals.reload.recv() => Event::Reload(None),
                () = signals.leave.recv() => Event::Leave,
                command = self.commands.recv() => match command {
                    Some(Command::Reload(sender)) => Event::Reload(Some(sender)),
                    Some(Command::Drain) | None => Event::Leave,
                },
                () = reap => Event::Reap,
            };
            match event {
                Event::Reload(asked) => {
                    let reloaded = self.reload(&mut config, &reload).await;
                    log_reload(&reloaded);
                    if let Some(sender) = asked {
                        // Whoever asked may have gone.
                        let _ = sender.send(reloaded);
                    }
                }
                Event::Reap => self.reap(&mut reaped_before, config.log.reaper_interval).await,
                Event::Leave => return self.leave(&config, &mut signals.leave).await,
            }
        }
    }

    async fn reap(&self, before: &mut u64, interval: Duration) {
        match self.control.stats().await {
            Ok(stats) => {
                let cleared = stats.closes.iter().sum::<u64>();
                Notes::reap(cleared - *before, stats.links_open(), interval);
                *before = cleared;
            }
            Err(error) => warn!(%error, "the reaper can't count"),
        }
    }

    /// Applies what can be applied of a configuration read again.
    async fn reload(&mut self, config: &mut Config, reload: impl Fn() -> Result<Config, ConfigErrors>) -> Reloaded {
        let new = match reload() {
            Ok(new) => new,
            Err(errors) => {
                let errors = errors.to_string().lines().map(str::to_owned).collect();
                return Reloaded { errors, ..Reloaded::default() };
            }
        };
        let certificate = match Certificate::load(&new.listen) {
            Ok(certificate) => certificate,
            Err(error) => return Reloaded { errors: vec![error.to_string()], ..Reloaded::default() },
        };
        let changes = config.difference(&new);
        let (applied, needs_restart): (Vec<_>, Vec<_>) = changes.into_iter().partition(|change| change.reloadable);
        let keys = |changes: Vec<crate::config::Change>| changes.into_iter().map(|change| change.key).collect();
        let mut reloaded = Reloaded { applied: keys(applied), needs_restart: keys(needs_restart), errors: Vec::new() };
        // The files may have changed under the same names.
        let renewed = match (&self.certificate, &certificate) {
            (Some(old), Some(new)) => !old.is_same(new),
            (old, new) => old.is_some() != new.is_some(),
        };
        let named = reloaded.applied.iter().any(|key| key == "listen.tls_cert");
        if renewed && !named {
            reloaded.applied.push("listen.tls_cert".to_owned());
        }
        if reloaded.applied.is_empty() {
            return reloaded;
        }
        let new = config.reloaded(&new);
        let shards = self.control.hub.len();
        let rules = match rules(&new, certificate.as_ref(), &self.ticketer, shards) {
            Ok(rules) => rules,
            Err(error) => return Reloaded { errors: vec![format!("{error:#}")], ..Reloaded::default() },
        };
        self.certificate = certificate;
        let connections_max = new.connections_max(OpenFiles::now());
        self.control.gate.configure(connections_max, new.limits.connections_per_address, rules);
        let policy = policy(&new);
        if self.control.office.run(move |office| office.accounts.configure(policy)).await.is_none() {
            reloaded.errors.push("the accounts have ended; restart the server".to_owned());
        }
        if !self.ledger.set_rules(store::Rules::of(&new)) {
            reloaded.errors.push("the store has ended; restart the server".to_owned());
        }
        if let Err(error) = self.control.configure(&terms(&new, shards)).await {
            reloaded.errors.push(error.to_string());
        }
        *config = new;
        reloaded
    }

    /// Says goodbye to everybody and ends; told so again, ends at once.
    async fn leave(self, config: &Config, signals: &mut LeaveSignals) -> anyhow::Result<()> {
        let links = self.control.gate.open();
        info!(links, "draining: nobody new is let in, and everybody is told goodbye; tell me again to end at once");
        self.control.draining.store(true, Ordering::Relaxed);
        self.control.gate.close();
        tokio::select! {
            () = self.farewell(config.server.drain) => {}
            () = signals.recv() => warn!("told to end again: ending at once"),
        }
        if !self.control.store.finish(LAST_WRITE) {
            error!("the last sessions could not be written; they can't be resumed after the next start");
        }
        info!("ended");
        Ok(())
    }

    async fn farewell(&self, spread: Duration) {
        if let Err(error) = self.control.say_goodbye(spread).await {
            return warn!(%error, "not everybody can be told goodbye");
        }
        let gone = async {
            while self.control.gate.open() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(FAREWELL, gone).await.is_err() {
            warn!(links = self.control.gate.open(), "some links took too long to hear the goodbye");
        }
    }
}

fn log_reload(reloaded: &Reloaded) {
    if !reloaded.errors.is_empty() {
        error!(errors = reloaded.errors.join("; "), "the configuration is wrong; the old one stays in force");
        return;
    }
    info!(
        applied = reloaded.applied.join(", "),
        needs_restart = reloaded.needs_restart.join(", "),
        "configuration reloaded"
    );
}

/// What shards work with. Bounds on all shards together are shared out evenly.
fn terms(config: &Config, shards: usize) -> Terms {
    let profile = config.profile();
    let mut limits = config.core_limits();
    limits.partial_bytes = limits.partial_bytes.div_ceil(shards);
    limits.retained = limits.retained.div_ceil(shards);
    limits.retained_per_address = limits.retained_per_address.div_ceil(shards);
    limits.remembered = limits.remembered.div_ceil(shards);
    Terms {
        legacy: config.listen.legacy,
        insecure: config.listen.insecure,
        limits,
        chat: config.chat_limits(),
        identity: IdentityTerms {
            open: config.auth.mode == AuthMode::Open,
            required: config.auth.required,
            guests: config.auth.guests,
            single: config.auth.sessions == SessionsPolicy::Single,
        },
        ..Terms::of(&profile)
    }
}

/// What holds for the clients' port.
fn rules(
    config: &Config,
    certificate: Option<&Certificate>,
    ticketer: &Arc<dyn ProducesTickets>,
    shards: usize,
) -> anyhow::Result<Rules> {
    if let Some(warning) = certificate.and_then(Certificate::warning) {
        warn!("{warning}");
    }
    let tls = certificate.map(|certificate| certificate.server_config(ticketer)).transpose();
    Ok(Rules {
        tls: tls.context("the certificate can't be used for TLS")?,
        origins: config.listen.origins.clone(),
        proxies: config.listen.proxy.clone(),
        first_frame: config.limits.first_frame,
        message_bytes_max: config.limits.frame as usize,
        held_bytes_max: config.limits.partial.div_ceil(shards),
    })
}

/// How long the kernel must leave the decision to the detector: twice the longest bound that any session can have.
fn patience(config: &Config) -> Duration {
    let profile = config.profile();
    let rule = profile.rule;
    let misses = u32::from(rule.threshold) * u32::from(rule.strikes);
    let longest = silence_until_miss(stillhere_core::limits::INTERVAL_MAX.max(profile.interval_max), misses) * 2;
    // The kernel counts it in milliseconds, in 31 bits.
    (longest + PATIENCE_MARGIN).min(Duration::from_millis(i32::MAX as u64))
}

fn seed() -> anyhow::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).context("the system gives no randomness")?;
    Ok(seed)
}

/// The data dir holds a token and secrets' hashes: nobody else has business there.
fn make_private_dir(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if dir.is_dir() {
        return Ok(());
    }
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("can't make the data dir {}; choose another with --data-dir", dir.display()))
}

/// Two gateways on one data dir would take each other's sessions.
fn lock_data_dir(dir: &Path) -> anyhow::Result<File> {
    let path = dir.join("lock");
    let lock =
        File::create(&path).with_context(|| format!("can't write {}; is the data dir writable?", path.display()))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            bail!("another gateway uses the data dir {}; give this one its own with --data-dir", dir.display())
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("can't lock {}", path.display())),
    }
}

/// Saves what can be read of a damaged store in `dir`, and keeps the damaged file. Refuses while a gateway uses `dir`.
pub fn repair(dir: &Path) -> anyhow::Result<store::salvage::Saved> {
    let _lock = lock_data_dir(dir)?;
    store::salvage::repair(dir)
}

/// Raises the limit of open files as far as this process may, and tells how many links fit.
fn connections_max(config: &Config) -> anyhow::Result<usize> {
    let files = OpenFiles::now().raised();
    let limit = Rlimit { current: Some(files.soft), maximum: Some(files.hard) };
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!(%error, "can't raise the limit of open files; fewer links fit");
    }
    match config.connections_max(OpenFiles::now()) {
        0 => bail!("the limit of open files ({}) leaves no room for links; raise it with ulimit -n", files.soft),
        links => Ok(links),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_gateways_cant_share_a_data_dir() {
        let dir = std::env::temp_dir().join(format!("stillhere-lock-{}", std::process::id()));
        make_private_dir(&dir).unwrap();
        let first = lock_data_dir(&dir).unwrap();
        let refused = lock_data_dir(&dir).map_err(|error| error.to_string()).unwrap_err();
        assert!(refused.contains("another gateway") && refused.contains("--data-dir"), "{refused}");
        drop(first);
        assert!(lock_data_dir(&dir).is_ok());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
