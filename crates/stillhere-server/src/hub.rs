//! What carries between shards, and from operators to shards.
//!
//! A message is small and rare: nothing on the path of a beat comes through here. The queues are bounded; a shard that
//! doesn't empty its own is overloaded or dead, and whoever asks it hears so instead of waiting.

use std::net::TcpStream;

use stillhere_core::event::{Answer, Claim, Keepsake, Outputs, Peer, Ticket};
use stillhere_core::ledger::Told;
use stillhere_core::shard::{Shard, Word};
use stillhere_core::time::Time;
use tokio::sync::{mpsc, oneshot};

use crate::gate::Admission;
use crate::notes::ClosedRow;

/// Messages that may wait for a shard; a burst of accepted sockets fits.
const QUEUE_MAX: usize = 4096;

/// What can be sent to a shard.
pub(crate) enum Message {
    /// A new link.
    Link { stream: TcpStream, peer: Peer, admission: Admission },
    /// Another shard looks for a session.
    Claim { ticket: Ticket, claim: Claim },
    /// The answer of one of the others.
    Answer { ticket: Ticket, answer: Answer },
    /// Another shard says something.
    Word { from: u16, word: Word },
    /// The store tells what was committed, in order.
    Told(Vec<Told>),
    /// Identities that survived a restart.
    Restore(Vec<Keepsake>),
    /// A look at, or a change of, the shard's state by an operator.
    Visit(Visit),
}

/// Something that runs on a shard's thread, between two inputs. It must be short.
pub(crate) type Visit = Box<dyn FnOnce(&mut Room<'_>) + Send>;

/// What a visitor finds.
pub(crate) struct Room<'a> {
    pub(crate) shard: &'a mut Shard,
    /// The caller's time, for [`Shard::handle`].
    pub(crate) now: Time,
    /// Carried out after the visit.
    pub(crate) out: &'a mut Outputs,
    /// The list of the closed, oldest first.
    pub(crate) closed: &'a std::collections::VecDeque<ClosedRow>,
    /// Adds up what is queued for slow readers.
    pub(crate) outbox_bytes: &'a dyn Fn() -> usize,
}

/// The way to all shards; cheap to clone.
#[derive(Clone)]
pub(crate) struct Hub {
    shards: std::sync::Arc<[mpsc::Sender<Message>]>,
}

/// One end of the hub: what arrives for a shard.
pub(crate) type Inbox = mpsc::Receiver<Message>;

impl Hub {
    /// A hub for `shards` shards, with the inbox of each.
    pub(crate) fn new(shards: usize) -> (Hub, Vec<Inbox>) {
        let (senders, inboxes): (Vec<_>, Vec<_>) = (0..shards).map(|_| mpsc::channel(QUEUE_MAX)).unzip();
        (Hub { shards: senders.into() }, inboxes)
    }

    /// How many shards there are.
    pub(crate) fn len(&self) -> usize {
        self.shards.len()
    }

    /// Sends without waiting; gives the message back if the shard's queue is full.
    pub(crate) fn send(&self, shard: usize, message: Message) -> Result<(), Message> {
        self.shards[shard].try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(message) | mpsc::error::TrySendError::Closed(message) => message,
        })
    }

    /// Hands over what the store tells. Nothing of it may be lost, so the store's thread waits if the shard's queue is
    /// full; the shard never waits for the store.
    pub(crate) fn tell(&self, shard: usize, told: Vec<Told>) {
        // A shard's inbox closes only with the process.
        let _ = self.shards[shard].blocking_send(Message::Told(told));
    }

    /// Sends what may be lost: not while the queue is more than half full.
    pub(crate) fn send_volatile(&self, shard: usize, message: Message) -> bool {
        self.shards[shard].capacity() > QUEUE_MAX / 2 && self.send(shard, message).is_ok()
    }

    /// Runs `visit` on a shard's thread and waits for what it returns; `None` if the shard is overloaded or gone.
    pub(crate) async fn visit<R: Send + 'static>(
        &self,
        shard: usize,
        visit: impl FnOnce(&mut Room<'_>) -> R + Send + 'static,
    ) -> Option<R> {
        let (sender, receiver) = oneshot::channel();
        let visit: Visit = Box::new(move |room| {
            // Whoever asked may have gone away; then nobody is told.
            let _ = sender.send(visit(room));
        });
        self.send(shard, Message::Visit(visit)).ok()?;
        receiver.await.ok()
    }
}
