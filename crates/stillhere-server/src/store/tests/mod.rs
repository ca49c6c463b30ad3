//! The store as a shard meets it: orders in, outcomes and news out, on a real file.

mod chat;
mod faults;
mod files;
mod govern;
mod kill;
mod search;
mod speed;
mod talk;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use serde_json::Value;
use stillhere_core::ledger::{
    Draft, Mailbox, News, Order, OrderId, Outcome, Page, Place, Proof, Refused, Role, RoomState, StreamId,
};
use stillhere_core::name::Name;
use stillhere_core::secret::SessionId;

use super::{Doors, Rules, Store, Tell, Told, start};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn name(text: &str) -> Name {
    Name::of_store(text)
}

pub(super) fn draft(text: &str, mid: Option<&str>) -> Draft {
    Draft { mid: mid.map(Into::into), text: text.into(), data: None, by: SessionId([7; 16]) }
}

/// A directory that goes with the test.
pub(super) struct Dir(pub(super) PathBuf);

impl Dir {
    pub(super) fn new() -> Dir {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("stillhere-ledger-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Dir(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// One shard's way of looking at a store.
pub(super) struct Bed {
    pub(super) store: Store,
    told: Vec<Receiver<Vec<Told>>>,
    news: Vec<VecDeque<News>>,
    outcomes: VecDeque<(OrderId, Result<Outcome, Refused>)>,
    next: u64,
}

pub(super) fn tellers(shards: usize) -> (Tell, Vec<Receiver<Vec<Told>>>) {
    let (senders, told): (Vec<Sender<Vec<Told>>>, Vec<_>) = (0..shards).map(|_| channel()).unzip();
    // A test that has ended hears nothing more.
    let tell: Tell = Arc::new(move |shard, list| drop(senders[shard].send(list)));
    (tell, told)
}

impl Bed {
    pub(super) fn open(dir: &Path, rules: Rules) -> Bed {
        Bed::with_doors(dir, rules, Box::new(|_, _, _| {}))
    }

    pub(super) fn with_doors(dir: &Path, rules: Rules, doors: Doors) -> Bed {
        let shards = rules.shards;
        let (tell, told) = tellers(shards);
        let store = start(dir, Duration::from_secs(3600), rules, tell, doors).unwrap();
        Bed { store, told, news: vec![VecDeque::new(); shards], outcomes: VecDeque::new(), next: 0 }
    }

    /// Ends the store's threads.
    pub(super) fn close(self) {
        assert!(self.store.sessions.finish(PATIENCE), "everything is written");
    }

    pub(super) fn send(&mut self, shard: usize, order: Order) -> OrderId {
        self.next += 1;
        let id = OrderId(self.next);
        self.store.ledger.order(shard, id, order).unwrap();
        id
    }

    pub(super) fn wait(&mut self, shard: usize, id: OrderId) -> Result<Outcome, Refused> {
        loop {
            if let Some(at) = self.outcomes.iter().position(|(known, _)| *known == id) {
                return self.outcomes.remove(at).unwrap().1;
            }
            self.hear(shard);
        }
    }

    fn hear(&mut self, shard: usize) {
        for told in self.told[shard].recv_timeout(PATIENCE).expect("something is told") {
            match told {
                Told::Outcome(id, outcome) => self.outcomes.push_back((id, outcome)),
                Told::News(news) => self.news[shard].push_back(news),
            }
        }
    }

    pub(super) fn ask(&mut self, order: Order) -> Result<Outcome, Refused> {
        let id = self.send(0, order);
        self.wait(0, id)
    }

    /// The code of the refusal.
    pub(super) fn refused(&mut self, order: Order) -> u16 {
        let told = format!("{order:?}");
        match self.ask(order) {
            Err(refused) => refused.refusal.code,
            Ok(outcome) => panic!("{told} was carried out: {outcome:?}"),
        }
    }

    pub(super) fn enter(&mut self, user: &str) -> Mailbox {
        self.enter_on(0, user)
    }

    pub(super) fn enter_on(&mut self, shard: usize, user: &str) -> Mailbox {
        let id = self.send(shard, claim(user));
        match self.wait(shard, id) {
            Ok(Outcome::Entered { mailbox, .. }) => mailbox,
            other => panic!("{user} can't enter: {other:?}"),
        }
    }

    pub(super) fn join(&mut self, room: &str, user: &str) -> Joined {
        self.join_on(0, room, user)
    }

    pub(super) fn join_on(&mut self, shard: usize, room: &str, user: &str) -> Joined {
        let id = self.send(shard, Order::Join { room: name(room), user: name(user) });
        match self.wait(shard, id) {
            Ok(Outcome::Joined { stream, head, trimmed, role, muted, state }) => {
                Joined { stream, head, trimmed, role, muted, state }
            }
            other => panic!("{user} can't join {room}: {other:?}"),
        }
    }

    pub(super) fn say(&mut self, stream: StreamId, user: &str, text: &str, mid: Option<&str>) -> u64 {
        match self.ask(Order::Say { stream, user: name(user), draft: draft(text, mid) }) {
            Ok(Outcome::Posted { seq, .. }) => seq,
            other => panic!("{user} can't say it: {other:?}"),
        }
    }

    pub(super) fn tell(&mut self, user: &str, to: &str, text: &str, mid: Option<&str>) -> u64 {
        match self.ask(tell(user, to, text, mid)) {
            Ok(Outcome::Posted { seq, .. }) => seq,
            other => panic!("{user} can't tell {to}: {other:?}"),
        }
    }

    pub(super) fn page(&mut self, stream: StreamId, after: u64, limit: u32) -> Page {
        match self.ask(Order::Page { stream, after, limit }) {
            Ok(Outcome::Page(page)) => page,
            other => panic!("no page: {other:?}"),
        }
    }

    /// Seqs, texts and whether there are more.
    pub(super) fn history(&mut self, order: Order) -> (Vec<(u64, String)>, bool) {
        match self.ask(order) {
            Ok(Outcome::History { messages, more, .. }) => {
                let list: Vec<Value> = serde_json::from_str(&messages).unwrap();
                let read = |it: &Value| (it["seq"].as_u64().unwrap(), it["text"].as_str().unwrap().to_owned());
                (list.iter().map(read).collect(), more)
            }
            other => panic!("no history: {other:?}"),
        }
    }

    /// News that were told to a shard before now, and with the order that this makes, up to now.
    pub(super) fn news(&mut self, shard: usize) -> Vec<News> {
        let id = self.send(shard, Order::MaySee { by: name("nobody-asks"), users: vec![] });
        let _ = self.wait(shard, id);
        self.news[shard].drain(..).collect()
    }
}

#[derive(Debug, PartialEq)]
pub(super) struct Joined {
    pub(super) stream: StreamId,
    pub(super) head: u64,
    pub(super) trimmed: u64,
    pub(super) role: Role,
    pub(super) muted: Duration,
    pub(super) state: RoomState,
}

pub(super) fn claim(user: &str) -> Order {
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Order::Enter { user: Some(name(user)), proof: Proof::Claim, address, remember: false }
}

pub(super) fn tell(user: &str, to: &str, text: &str, mid: Option<&str>) -> Order {
    Order::Tell { user: name(user), to: name(to), draft: draft(text, mid) }
}

pub(super) fn history(user: &str, place: Place, query: Option<&str>) -> Order {
    Order::History { user: name(user), place, before: None, after: None, limit: 0, query: query.map(Into::into) }
}

pub(super) fn room(text: &str) -> Place {
    Place::Room(name(text))
}

/// The body of a frame.
pub(super) fn body(frame: &[u8]) -> Value {
    serde_json::from_slice(&frame[4..]).unwrap()
}
