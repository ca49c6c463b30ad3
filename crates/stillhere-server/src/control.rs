//! What an operator can see and do, whether by HTTP or by signal. It knows nothing of HTTP.
//!
//! Everything goes through the hub in small steps: a list of 20,000 sessions is put together from visits that each
//! take a shard well under a millisecond.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use stillhere_core::event::{Identity, Input, Peer, Terms};
use stillhere_core::ledger::Place as Target;
use stillhere_core::name::Name;
use stillhere_core::shard::{Filter, UserView};
use stillhere_core::stats::Stats;
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use crate::api::{
    ClosedEntry, ClosedList, ClosedQuery, KickTarget, LIMIT_DEFAULT, LIMIT_MAX, Reloaded, SessionRow, Sessions,
    SessionsQuery,
};
use crate::clock::{Clock, Moment};
use crate::gate::Gate;
use crate::hub::Hub;
use crate::metrics::Snapshot;
use crate::notes::{Events, Watcher};
use crate::office::{Noticed, Office, OfficeDoor, OfficeError, Roster, Subject, WhoRow};
use crate::process::Process;
use crate::store::StoreWriter;

/// Places of a shard that one visit looks at.
const LOOK: usize = 8192;
/// Sessions, or closed ones, that one visit copies.
const COPY: usize = 512;
/// Watchers of events at once; each may hold a few thousand events back.
const WATCHERS_MAX: usize = 64;
/// How long a shard may take to answer before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the main thread is asked to do.
pub(crate) enum Command {
    /// Say goodbye and end.
    Drain,
    /// Read the configuration again.
    Reload(oneshot::Sender<Reloaded>),
}

/// Why a request can't be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    /// The request is wrong; the message says how.
    #[error("{0}")]
    Bad(String),
    /// There is nothing of this name.
    #[error("{0}")]
    NotFound(String),
    /// A shard doesn't answer.
    #[error("a shard doesn't answer; the server is overloaded or stuck")]
    Stuck,
    /// The server is on its way out, or too many ask for the same.
    #[error("{0}")]
    Busy(&'static str),
    /// What the office answers to a wrong or vain wish.
    #[error("{0}")]
    Office(#[from] OfficeError),
}

/// The handle of everything; cheap to clone.
#[derive(Clone)]
pub(crate) struct Control {
    pub(crate) hub: Hub,
    pub(crate) gate: Arc<Gate>,
    pub(crate) events: Events,
    pub(crate) store: StoreWriter,
    /// Accounts, bans and rooms.
    pub(crate) office: OfficeDoor,
    pub(crate) clock: Clock,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) draining: Arc<AtomicBool>,
    /// How many rows of the closed there are to see.
    pub(crate) closed_max: usize,
    pub(crate) closed_seq: Arc<AtomicU64>,
}

impl Control {
    /// A page of the sessions.
    pub(crate) async fn sessions(&self, query: SessionsQuery) -> Result<Sessions, ControlError> {
        let limit = limit(query.limit)?;
        let filter = Arc::new(filter(&query)?);
        let mut place = match query.after.as_deref() {
            Some(after) => self.place_after(after).await?,
            None => Place::default(),
        };
        let total = self.count(&filter).await?;
        let mut sessions = Vec::new();
        // One more than wanted tells whether there is a next page.
        while place.shard < self.hub.len() && sessions.len() <= limit {
            let copy = COPY.min(limit + 1 - sessions.len());
            let (filter, from) = (Arc::clone(&filter), place.key);
            let visit = self.hub.visit(place.shard, move |room| {
                (room.shard.page(&filter, from, LOOK, copy), Moment::now(room.shard.time_at(room.now)))
            });
            let (page, moment) = patiently(visit).await?;
            for view in page.sessions {
                let here = Place { shard: place.shard, key: view.key };
                sessions.push((here, SessionRow::new(view, moment)));
            }
            place = match page.next {
                Some(key) => Place { key, ..place },
                None => Place { shard: place.shard + 1, key: 0 },
            };
        }
        let more = sessions.len() > limit;
        sessions.truncate(limit);
        let next = sessions.last().filter(|_| more).map(|(here, _)| here.to_string());
        Ok(Sessions { sessions: sessions.into_iter().map(|(_, row)| row).collect(), total, next })
    }

    /// Where a listing goes on: after the place that `next` named, or after the session with this id.
    async fn place_after(&self, after: &str) -> Result<Place, ControlError> {
        if let Some(place) = Place::parse(after) {
            return Ok(Place { key: place.key.saturating_add(1), ..place });
        }
        let missing = || ControlError::Bad(format!("after={after}: take it from `next` of the page before"));
        let identity = Identity::parse(after).ok_or_else(missing)?;
        for shard in 0..self.hub.len() {
            let visit = self.hub.visit(shard, move |room| room.shard.place(&identity));
            if let Some(key) = patiently(visit).await? {
                return Ok(Place { shard, key: key + 1 });
            }
        }
        Err(missing())
    }

    async fn count(&self, filter: &Arc<Filter>) -> Result<usize, ControlError> {
        if filter.peer.is_none() && filter.user.is_none() {
            let stats = self.stats().await?;
            let sessions = match filter.status {
                Some(status) => stats.sessions[status as usize],
                None => stats.sessions.iter().sum(),
            };
            return Ok(sessions as usize);
        }
        let mut total = 0;
        for shard in 0..self.hub.len() {
            let mut from = Some(0);
            while let Some(key) = from {
                let filter = Arc::clone(filter);
                let page = patiently(self.hub.visit(shard, move |room| room.shard.page(&filter, key, LOOK, 0))).await?;
                total += page.matching;
                from = page.next;
            }
        }
        Ok(total)
    }

    /// The last links and sessions that ended, newest first.
    pub(crate) async fn closed(&self, query: ClosedQuery) -> Result<ClosedList, ControlError> {
        let limit = limit(query.limit)?;
        let newest = self.closed_seq.load(Ordering::Relaxed);
        let oldest = newest.saturating_sub(self.closed_max as u64);
        let before = match query.after.as_deref() {
            Some(after) => after
                .parse()
                .map_err(|_| ControlError::Bad(format!("after={after}: take it from `next` of the page before")))?,
            None => u64::MAX,
        };
        let mut rows = Vec::new();
        for shard in 0..self.hub.len() {
            let (mut before, mut found) = (before, 0);
            while found <= limit {
                let visit = self.hub.visit(shard, move |room| {
                    let end = room.closed.partition_point(|row| row.seq < before);
                    room.closed.range(..end).rev().take(COPY).cloned().collect::<Vec<_>>()
                });
                let step = patiently(visit).await?;
                let Some(last) = step.last() else { break };
                before = last.seq;
                found += step.len();
                rows.extend(step.into_iter().filter(|row| row.seq > oldest));
                if before <= oldest {
                    break;
                }
            }
        }
        rows.sort_unstable_by_key(|row| std::cmp::Reverse(row.seq));
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|row| row.seq.to_string());
        let total = (newest - oldest) as usize;
        Ok(ClosedList { closed: rows.into_iter().map(ClosedEntry::new).collect(), total, next })
    }

    /// Removes sessions; tells how many.
    pub(crate) async fn kick(&self, target: KickTarget) -> Result<usize, ControlError> {
        let identities = match target {
            KickTarget::Id(id) => vec![Identity::parse(&id).ok_or_else(|| {
                ControlError::Bad(format!("\"{id}\" is no session id; take it from `stillhere ctl sessions`"))
            })?],
            KickTarget::User(user) => self.identities(Filter { user: Some(user.into()), ..Filter::default() }).await?,
            KickTarget::Peer(peer) => {
                self.identities(Filter { peer: Some(address(&peer)?), ..Filter::default() }).await?
            }
        };
        match self.kick_all(&identities).await? {
            0 => Err(ControlError::NotFound("no such session is here".to_owned())),
            kicked => Ok(kicked),
        }
    }

    async fn kick_all(&self, identities: &[Identity]) -> Result<usize, ControlError> {
        let mut kicked = 0;
        for shard in 0..self.hub.len() {
            for some in identities.chunks(COPY) {
                let some = some.to_vec();
                let visit = self.hub.visit(shard, move |room| {
                    let here: Vec<_> = some.into_iter().filter(|id| room.shard.place(id).is_some()).collect();
                    for &identity in &here {
                        room.shard.handle(room.now, Input::Kick { identity }, room.out);
                    }
                    here.len()
                });
                kicked += patiently(visit).await?;
            }
        }
        Ok(kicked)
    }

    /// Lets the office do something, on its own thread, which may wait.
    pub(crate) async fn office<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Office) -> Result<T, OfficeError> + Send + 'static,
    ) -> Result<T, ControlError> {
        self.office.run(act).await.ok_or(ControlError::Stuck)?.map_err(ControlError::Office)
    }

    /// Writes down what an operator did. A kick or a drain doesn't wait for an office that has much to do.
    pub(crate) async fn note(&self, action: &'static str, subject: String, detail: String) {
        let noted = self.office(move |office| office.note(action, subject, detail));
        match tokio::time::timeout(PATIENCE, noted).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => error!(%error, action, "an operator's action can't be written into the audit log"),
            Err(_) => error!(action, "an operator's action waits to be written into the audit log"),
        }
    }

    /// Has the gate go by the bans as they are now.
    pub(crate) async fn refresh_bans(&self) -> Result<(), ControlError> {
        let bans = self.office(Office::banned_addresses).await?;
        self.gate.set_bans(bans);
        Ok(())
    }

    /// Ends the sessions that a new ban of an address concerns; those of a user are the store's to end.
    pub(crate) async fn enforce(&self, subject: Subject) -> Result<(), ControlError> {
        let Subject::Address(network) = subject else { return Ok(()) };
        let identities = self.identities_of(Filter::default(), move |peer| network.contains(peer.ip())).await?;
        self.kick_all(&identities).await.map(drop)
    }

    /// Shows a notice of kind `text` to a room, to a user, or to all; tells how many sessions get it.
    pub(crate) async fn notice(&self, to: Option<Target>, text: String) -> Result<Noticed, ControlError> {
        let mut sessions = 0;
        for shard in 0..self.hub.len() {
            let (place, text) = (to.clone(), text.clone());
            let visit = self.hub.visit(shard, move |room| {
                let before = room.out.targets.len();
                room.shard.handle(room.now, Input::Announce { place, text: &text }, room.out);
                room.out.targets.len() - before
            });
            sessions += patiently(visit).await?;
        }
        Ok(Noticed { sessions })
    }

    /// Who is in a room, or the user, or everybody who is here.
    pub(crate) async fn who(&self, place: Option<Target>) -> Result<Roster, ControlError> {
        let mut users: BTreeMap<Name, UserView> = BTreeMap::new();
        for shard in 0..self.hub.len() {
            let place = place.clone();
            let visit = self.hub.visit(shard, move |room| room.shard.users_here(place.as_ref()));
            for view in patiently(visit).await? {
                match users.get_mut(view.user.as_str()) {
                    Some(known) => {
                        let sessions = known.sessions + view.sessions;
                        let verified = known.verified || view.verified;
                        if view.status < known.status {
                            *known = view;
                        }
                        (known.sessions, known.verified) = (sessions, verified);
                    }
                    None => drop(users.insert(view.user.clone(), view)),
                }
            }
        }
        Ok(Roster { users: users.into_values().map(WhoRow::new).collect() })
    }

    async fn identities(&self, filter: Filter) -> Result<Vec<Identity>, ControlError> {
        self.identities_of(filter, |_| true).await
    }

    async fn identities_of(
        &self,
        filter: Filter,
        is_meant: impl Fn(Peer) -> bool,
    ) -> Result<Vec<Identity>, ControlError> {
        let filter = Arc::new(filter);
        let mut identities = Vec::new();
        for shard in 0..self.hub.len() {
            let mut from = Some(0);
            while let Some(key) = from {
                let filter = Arc::clone(&filter);
                let page =
                    patiently(self.hub.visit(shard, move |room| room.shard.page(&filter, key, LOOK, COPY))).await?;
                let meant = page.sessions.iter().filter(|view| is_meant(view.peer));
                identities.extend(meant.map(|view| view.identity));
                from = page.next;
            }
        }
        Ok(identities)
    }

    /// All shards' numbers added up.
    pub(crate) async fn stats(&self) -> Result<Stats, ControlError> {
        let mut stats = Stats::default();
        for shard in 0..self.hub.len() {
            stats.add(&patiently(self.hub.visit(shard, |room| room.shard.stats())).await?);
        }
        Ok(stats)
    }

    /// Everything that can be measured.
    pub(crate) async fn snapshot(&self) -> Result<Snapshot, ControlError> {
        let stats = self.stats().await?;
        let mut outbox_bytes = 0;
        for shard in 0..self.hub.len() {
            outbox_bytes += patiently(self.hub.visit(shard, |room| (room.outbox_bytes)())).await?;
        }
        let (gate, store) = (&self.gate, self.store.counters());
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Ok(Snapshot {
            stats,
            outbox_bytes,
            open: gate.open(),
            connections_max: gate.max(),
            refused_full: read(&gate.refused_full),
            refused_address: read(&gate.refused_address),
            refused_busy: read(&gate.refused_busy),
            refused_proxy: read(&gate.refused_proxy),
            exhausted: read(&gate.exhausted),
            store_commit: store.commit_times(),
            store_failed: read(&store.failed),
            store_dropped: read(&store.dropped),
            uptime_seconds: self.clock.now().as_micros() as f64 / 1e6,
            draining: self.is_draining(),
            process: Process::now(),
        })
    }

    /// Whether the server says goodbye.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Watches events from now on.
    pub(crate) fn watch(&self) -> Result<Watcher, ControlError> {
        self.events.watch(WATCHERS_MAX).ok_or(ControlError::Busy("too many watch already; close another stream first"))
    }

    /// Asks the main thread to say goodbye and end; tells how many links there are.
    pub(crate) async fn drain(&self) -> Result<usize, ControlError> {
        let links = self.gate.open();
        self.commands.send(Command::Drain).await.map_err(|_| ControlError::Busy("the server is ending already"))?;
        Ok(links)
    }

    /// Asks the main thread to read the configuration again.
    pub(crate) async fn reload(&self) -> Result<Reloaded, ControlError> {
        let ending = ControlError::Busy("the server is ending");
        let (sender, receiver) = oneshot::channel();
        if self.commands.send(Command::Reload(sender)).await.is_err() {
            return Err(ending);
        }
        receiver.await.map_err(|_| ending)
    }

    /// Gives all shards new numbers.
    pub(crate) async fn configure(&self, terms: &Terms) -> Result<(), ControlError> {
        for shard in 0..self.hub.len() {
            let terms = Box::new(terms.clone());
            let visit =
                self.hub.visit(shard, move |room| room.shard.handle(room.now, Input::Configure(terms), room.out));
            patiently(visit).await?;
        }
        Ok(())
    }

    /// Has all shards say goodbye.
    pub(crate) async fn say_goodbye(&self, spread: Duration) -> Result<(), ControlError> {
        for shard in 0..self.hub.len() {
            let visit =
                self.hub.visit(shard, move |room| room.shard.handle(room.now, Input::Drain { spread }, room.out));
            patiently(visit).await?;
        }
        Ok(())
    }
}

async fn patiently<T>(visit: impl Future<Output = Option<T>>) -> Result<T, ControlError> {
    tokio::time::timeout(PATIENCE, visit).await.ok().flatten().ok_or(ControlError::Stuck)
}

fn limit(wanted: Option<usize>) -> Result<usize, ControlError> {
    match wanted.unwrap_or(LIMIT_DEFAULT) {
        limit @ 1..=LIMIT_MAX => Ok(limit),
        limit => Err(ControlError::Bad(format!("limit={limit}: it must be from 1 to {LIMIT_MAX}"))),
    }
}

fn filter(query: &SessionsQuery) -> Result<Filter, ControlError> {
    Ok(Filter {
        status: query.status,
        peer: query.peer.as_deref().map(address).transpose()?,
        user: query.user.as_deref().map(Into::into),
    })
}

/// An address, or an address and port; port 0 stands for any.
fn address(text: &str) -> Result<(IpAddr, u16), ControlError> {
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return Ok((socket.ip(), socket.port()));
    }
    let ip = text.parse().map_err(|_| ControlError::Bad(format!("peer={text}: write 127.0.0.1 or 127.0.0.1:4000")))?;
    Ok((ip, 0))
}

/// A place in the listing of all sessions, as text in `next`.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    shard: usize,
    key: usize,
}

impl Place {
    fn parse(text: &str) -> Option<Place> {
        let (shard, key) = text.split_once('-')?;
        Some(Place { shard: shard.parse().ok()?, key: key.parse().ok()? })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.shard, self.key)
    }
}
