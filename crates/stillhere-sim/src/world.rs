//! The world: shards, clients, the links between them, and the one queue of what happens next.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use stillhere_core::event::{
    Answer, Change, Identity, Input, LinkEnd, LinkId, Note, Output, Outputs, Peer as Address, Terms, Ticket,
};
use stillhere_core::peer::{LinkRequest, Peer, PeerCommand, PeerConfig, PeerEvent, PeerInput, PeerOutputs};
use stillhere_core::shard::{Filter, SessionView, Shard};
use stillhere_core::stats::Stats;
use stillhere_core::time::Time;

use crate::network::{Dice, Weather};

/// One change of a session's status, as the shards told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departure {
    /// Whose.
    pub identity: Identity,
    /// What and when.
    pub change: Change,
}

/// Everything there is. Made from a seed; runs when told to.
pub struct World {
    now: Time,
    weather: Weather,
    dice: Dice,
    shards: Vec<Server>,
    clients: Vec<Client>,
    links: Vec<Wire>,
    queue: BinaryHeap<Reverse<(Time, u64)>>,
    events: Vec<Option<Event>>,
    /// The server doesn't run before this moment.
    stalled_until: Time,
    changes: Vec<Departure>,
    events_of_clients: Vec<(usize, PeerEvent)>,
}

struct Server {
    shard: Shard,
    free: VecDeque<u32>,
    /// The wire of each link number in use.
    wires: Vec<Option<usize>>,
    /// What arrived while the server stood still.
    inbox: Vec<(usize, Arrival)>,
}

struct Client {
    peer: Peer,
    wire: Option<usize>,
    out: PeerOutputs,
    next_port: u16,
}

/// A connection.
struct Wire {
    client: usize,
    shard: usize,
    link: LinkId,
    /// Bytes go nowhere, and neither end hears of it.
    black_hole: bool,
    client_open: bool,
    server_open: bool,
    last_to_server: Time,
    last_to_client: Time,
}

enum Event {
    Opens(usize),
    ToServer(usize, Arrival),
    ToClient(usize, Vec<u8>),
    ClientHearsEnd(usize),
}

enum Arrival {
    Opened(Address),
    Bytes(Vec<u8>),
    End,
}

impl World {
    /// A world with this many shards and clients, none of them connected yet.
    pub fn new(seed: u64, terms: &Terms, shards: usize, clients: usize, config: PeerConfig) -> World {
        let mut shard_seed = [0; 32];
        shard_seed[..8].copy_from_slice(&seed.to_le_bytes());
        let server = |index: usize| {
            let mut seed = shard_seed;
            seed[31] = index as u8;
            Server {
                shard: Shard::new(terms.clone(), seed, shards == 1, Time::ZERO),
                free: VecDeque::new(),
                wires: Vec::new(),
                inbox: Vec::new(),
            }
        };
        let config = std::sync::Arc::new(config);
        let client = |index: usize| Client {
            peer: Peer::new(config.clone(), seed.wrapping_mul(1_000_003).wrapping_add(index as u64)),
            wire: None,
            out: PeerOutputs::default(),
            next_port: 1,
        };
        World {
            now: Time::ZERO,
            weather: Weather::FAIR,
            dice: Dice::new(seed),
            shards: (0..shards).map(server).collect(),
            clients: (0..clients).map(client).collect(),
            links: Vec::new(),
            queue: BinaryHeap::new(),
            events: Vec::new(),
            stalled_until: Time::ZERO,
            changes: Vec::new(),
            events_of_clients: Vec::new(),
        }
    }

    /// The network from now on.
    pub fn weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// Now.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Lets time pass.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let server_at = self.server_deadline();
            let client_at = self.clients.iter().map(|client| client.peer.next_deadline()).min().unwrap_or(Time::NEVER);
            let queue_at = self.queue.peek().map_or(Time::NEVER, |Reverse((at, _))| *at);
            let at = server_at.min(client_at).min(queue_at);
            if at > end {
                self.now = end;
                return;
            }
            self.now = at.max(self.now);
            if queue_at <= self.now {
                self.happen();
            } else if client_at <= self.now {
                self.wake_clients();
            } else {
                self.wake_shards();
            }
        }
    }

    /// The server stands still for so long; the network and the clients don't.
    pub fn stall(&mut self, span: Duration) {
        self.stalled_until = self.now + span;
    }

    /// The client's present connection becomes a black hole.
    pub fn black_hole(&mut self, client: usize) {
        if let Some(wire) = self.clients[client].wire {
            self.links[wire].black_hole = true;
        }
    }

    /// The client's present connection is reset, and both ends hear of it.
    pub fn reset(&mut self, client: usize) {
        if let Some(wire) = self.clients[client].wire {
            self.links[wire].client_open = false;
            self.post(self.now, Event::ToServer(wire, Arrival::End));
            self.clients[client].wire = None;
            self.feed(client, PeerInput::Disconnected("reset"));
        }
    }

    /// Tells a client to do something.
    pub fn command(&mut self, client: usize, command: PeerCommand) {
        self.feed(client, PeerInput::Command(command));
    }

    /// The changes of status since the last call.
    pub fn changes(&mut self) -> Vec<Departure> {
        std::mem::take(&mut self.changes)
    }

    /// What happened to clients since the last call, by client.
    pub fn client_events(&mut self) -> Vec<(usize, PeerEvent)> {
        std::mem::take(&mut self.events_of_clients)
    }

    /// All sessions of all shards.
    pub fn sessions(&self) -> Vec<SessionView> {
        let all = |server: &Server| server.shard.page(&Filter::default(), 0, usize::MAX, usize::MAX).sessions;
        self.shards.iter().flat_map(all).collect()
    }

    /// The name of a client's session, if it has had one.
    pub fn session_of(&self, client: usize) -> Option<String> {
        self.clients[client].peer.resume().map(|resume| resume.session.clone())
    }

    /// All shards' numbers added up.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for server in &self.shards {
            stats.add(&server.shard.stats());
        }
        stats
    }

    fn server_deadline(&self) -> Time {
        let wanted = self.shards.iter().map(|server| server.shard.next_deadline()).min().unwrap_or(Time::NEVER);
        wanted.max(self.stalled_until)
    }

    fn post(&mut self, at: Time, event: Event) {
        self.queue.push(Reverse((at, self.events.len() as u64)));
        self.events.push(Some(event));
    }

    fn happen(&mut self) {
        let Some(Reverse((_, number))) = self.queue.pop() else { return };
        match self.events[number as usize].take() {
            Some(Event::Opens(wire)) => self.open(wire),
            Some(Event::ToServer(wire, arrival)) => self.arrive(wire, arrival),
            Some(Event::ToClient(wire, bytes)) => {
                let client = self.links[wire].client;
                if self.links[wire].client_open && !self.links[wire].black_hole {
                    self.feed(client, PeerInput::Received(&bytes));
                }
            }
            Some(Event::ClientHearsEnd(wire)) => {
                let client = self.links[wire].client;
                if self.links[wire].client_open && !self.links[wire].black_hole {
                    self.links[wire].client_open = false;
                    self.clients[client].wire = None;
                    self.feed(client, PeerInput::Disconnected("the server ended the link"));
                }
            }
            None => {}
        }
    }

    /// A connection is there for both ends.
    fn open(&mut self, wire: usize) {
        let client = self.links[wire].client;
        let port = self.clients[client].next_port;
        self.clients[client].next_port = port.wrapping_add(1).max(1);
        let [high, low] = (client as u16).to_be_bytes();
        let address = SocketAddr::from(([10, 0, high, low], port));
        // The kernel accepts whether the server runs or not.
        self.arrive(wire, Arrival::Opened(Address::from(address)));
        if self.links[wire].client_open {
            self.feed(client, PeerInput::Connected { local: address });
        }
    }

    fn accept(&mut self, wire: usize, peer: Address) {
        let shard = self.links[wire].shard;
        let server = &mut self.shards[shard];
        let link = LinkId(server.free.pop_front().unwrap_or(server.wires.len() as u32));
        if server.wires.len() <= link.0 as usize {
            server.wires.push(None);
        }
        server.wires[link.0 as usize] = Some(wire);
        self.links[wire].link = link;
        self.links[wire].server_open = true;
        self.serve(shard, Input::Opened { link, peer });
    }

    fn arrive(&mut self, wire: usize, arrival: Arrival) {
        let shard = self.links[wire].shard;
        if self.now < self.stalled_until {
            self.shards[shard].inbox.push((wire, arrival));
        } else {
            self.deliver(wire, arrival);
        }
    }

    fn deliver(&mut self, wire: usize, arrival: Arrival) {
        let Wire { link, shard, server_open, black_hole, .. } = self.links[wire];
        if black_hole || (!server_open && !matches!(arrival, Arrival::Opened(_))) {
            return;
        }
        match arrival {
            Arrival::Opened(peer) => self.accept(wire, peer),
            Arrival::Bytes(bytes) => self.serve(shard, Input::Received { link, bytes: &bytes }),
            Arrival::End => {
                self.forget(wire);
                self.serve(shard, Input::Ended { link, end: LinkEnd::Eof });
            }
        }
    }

    fn forget(&mut self, wire: usize) {
        let Wire { link, shard, .. } = self.links[wire];
        self.links[wire].server_open = false;
        self.shards[shard].wires[link.0 as usize] = None;
        self.shards[shard].free.push_back(link.0);
    }

    fn wake_shards(&mut self) {
        for shard in 0..self.shards.len() {
            if self.shards[shard].shard.next_deadline() <= self.now {
                // After a stall the timer comes first, as it does in a real process.
                self.serve(shard, Input::Tick { wall_ms: 0 });
            }
            for (wire, arrival) in std::mem::take(&mut self.shards[shard].inbox) {
                self.deliver(wire, arrival);
            }
        }
    }

    fn serve(&mut self, shard: usize, input: Input<'_>) {
        let mut out = Outputs::default();
        self.shards[shard].shard.handle(self.now, input, &mut out);
        let Outputs { bytes, list } = out;
        for output in list {
            match output {
                Output::Write { link, range } => self.send_to_client(shard, link, bytes[range].to_vec()),
                Output::Close { link, .. } => {
                    if let Some(wire) = self.shards[shard].wires[link.0 as usize] {
                        let at = self.links[wire].last_to_client.max(self.now) + Duration::from_millis(1);
                        self.forget(wire);
                        self.post(at, Event::ClientHearsEnd(wire));
                    }
                }
                Output::Claim { link, claim } => {
                    let answer = self.ask_others(shard, claim);
                    self.serve(shard, Input::Answered { link, answer });
                }
                Output::Note(Note::Changed { identity, change, .. }) => {
                    self.changes.push(Departure { identity, change });
                }
                // Links here are plain TCP, which is never pinged.
                Output::Ping { .. } => {}
                Output::Answer { .. } | Output::Keep(_) | Output::Forget(_) | Output::Note(_) => {}
            }
        }
    }

    fn ask_others(&mut self, asker: usize, claim: stillhere_core::event::Claim) -> Answer {
        for shard in (0..self.shards.len()).filter(|shard| *shard != asker) {
            let mut out = Outputs::default();
            self.shards[shard].shard.handle(self.now, Input::Claimed { ticket: Ticket(0), claim }, &mut out);
            let mut found = Answer::Unknown;
            let Outputs { bytes, list } = out;
            for output in list {
                match output {
                    Output::Answer { answer, .. } => found = answer,
                    Output::Write { link, range } => self.send_to_client(shard, link, bytes[range].to_vec()),
                    Output::Close { link, .. } => {
                        if let Some(wire) = self.shards[shard].wires[link.0 as usize] {
                            self.forget(wire);
                            self.post(self.now + Duration::from_millis(1), Event::ClientHearsEnd(wire));
                        }
                    }
                    _ => {}
                }
            }
            if !matches!(found, Answer::Unknown) {
                return found;
            }
        }
        Answer::Unknown
    }

    fn send_to_client(&mut self, shard: usize, link: LinkId, bytes: Vec<u8>) {
        let Some(wire) = self.shards[shard].wires[link.0 as usize] else { return };
        let at = self.dice.arrival(&self.weather, self.now, self.links[wire].last_to_client);
        self.links[wire].last_to_client = at;
        self.post(at, Event::ToClient(wire, bytes));
    }

    fn wake_clients(&mut self) {
        for client in 0..self.clients.len() {
            if self.clients[client].peer.next_deadline() <= self.now {
                self.feed(client, PeerInput::Tick);
            }
        }
    }

    fn feed(&mut self, index: usize, input: PeerInput<'_>) {
        let client = &mut self.clients[index];
        client.peer.handle(self.now, input, &mut client.out);
        let sent = std::mem::take(&mut client.out.send);
        let request = client.out.link.take();
        let events = std::mem::take(&mut client.out.events);
        let wire = client.wire;
        self.events_of_clients.extend(events.into_iter().map(|event| (index, event)));
        if let Some(wire) = wire.filter(|_| !sent.is_empty()) {
            self.send_to_server(wire, Arrival::Bytes(sent));
        }
        match request {
            Some(LinkRequest::Connect) => self.connect(index),
            Some(LinkRequest::Finish | LinkRequest::Drop) => {
                if let Some(wire) = self.clients[index].wire.take() {
                    self.links[wire].client_open = false;
                    self.send_to_server(wire, Arrival::End);
                }
            }
            None => {}
        }
    }

    fn send_to_server(&mut self, wire: usize, arrival: Arrival) {
        let at = self.dice.arrival(&self.weather, self.now, self.links[wire].last_to_server);
        self.links[wire].last_to_server = at;
        self.post(at, Event::ToServer(wire, arrival));
    }

    fn connect(&mut self, client: usize) {
        let wire = self.links.len();
        let at = self.dice.arrival(&self.weather, self.now, self.now);
        self.links.push(Wire {
            client,
            shard: wire % self.shards.len(),
            link: LinkId::NONE,
            black_hole: false,
            client_open: true,
            server_open: false,
            last_to_server: at,
            last_to_client: at,
        });
        self.clients[client].wire = Some(wire);
        self.post(at, Event::Opens(wire));
    }
}
