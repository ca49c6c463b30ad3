//! One link: a socket, what couldn't be written to it yet, and the task that waits for both.
//!
//! The first byte decides what lies between the socket and the frames: nothing for native ones, else a `Wrap`
//! (`transport`). An idle link owns no buffer. Its task reads into the thread's; writing is tried at once by whoever has something to
//! say, and only what the kernel doesn't take is queued here, bounded in bytes. The task ends when the peer or the
//! shard ends the link; a link that is told goodbye has another task for the moment until it has heard it. Dropping
//! them closes the socket.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use stillhere_core::close::CloseCode;
use stillhere_core::event::{Input, LinkEnd, LinkId, Manner, Peer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tracing::warn;

use crate::driver::{Driver, Socket, TooSlow};
use crate::gate::Admission;
use crate::outbox::Outbox;
use crate::transport::{Rules, Step, Work, Wrap};
use crate::turns::Leave;

/// Reads of one link in a row before the others get their turn.
const READS_MAX: usize = 4;
/// While so many bytes are queued, pings get no pong: the peer doesn't read, and RFC 6455 asks for the last one only.
const PONGS_MAX: usize = 4 * 1024;
/// Reads of [`TURN_BYTES`](crate::turns::TURN_BYTES) from a link that was told goodbye: half a megabyte is what was
/// under way.
const LINGER_READS_MAX: usize = 32;
/// How long a link that was told goodbye may take to hear it.
const GENTLE_MAX: Duration = Duration::from_secs(1);

/// A link, shared by its task and the driver.
struct Link {
    stream: RefCell<TcpStream>,
    id: LinkId,
    /// Set when the shard has closed the link; the driver has forgotten it then.
    closing: Cell<Option<Manner>>,
    /// Whether nothing has been read yet.
    fresh: Cell<bool>,
    /// Whether the driver knows that something is queued.
    choked: Cell<bool>,
    /// Apart, since most links never queue anything, and there is one in every link.
    outbox: RefCell<Option<Box<Outbox>>>,
    /// What lies between the socket and the frames. Never borrowed while the driver is called, since that writes.
    wrap: RefCell<Option<Box<Wrapped>>>,
    /// The link's task, while it waits.
    waker: Cell<Option<Waker>>,
    /// Counted until the socket is closed.
    admission: Admission,
}

/// A wrap with its clock.
struct Wrapped {
    wrap: Wrap,
    /// Those in force when the link began: asking for the present ones would be a lock in the way of each beat.
    rules: Arc<Rules>,
    /// When the present stage must be over, with how long it was given.
    due: Option<(Duration, Pin<Box<Sleep>>)>,
}

/// Puts an accepted socket on this thread's shard.
pub(crate) fn open(driver: &Rc<Driver>, stream: std::net::TcpStream, peer: Peer, admission: Admission) {
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => return warn!(%peer, %error, "can't watch a new socket; it is closed"),
    };
    let ban = admission.ban(peer.ip());
    let link = driver.add(peer, |id| Link::new(stream, id, admission));
    if let Some(wait) = ban {
        driver.banned(link.id, wait);
    }
    tokio::task::spawn_local(Carrier { link, driver: Rc::clone(driver) });
}

/// A link's task: carries bytes to the driver until the link ends. Dropping it closes the socket.
///
/// Written out, and of two words: with what the runtime adds it fills 128 bytes, and one word more would double that.
struct Carrier {
    link: Rc<Link>,
    driver: Rc<Driver>,
}

impl Future for Carrier {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match ready!(self.link.poll(context, &self.driver)) {
            Ending::Peer(end) => self.driver.link_ended(self.link.id, end),
            Ending::Leave => {
                self.driver.link_ended(self.link.id, LinkEnd::Eof);
                self.link.part(None);
                self.part();
            }
            Ending::Shard(Manner::AtOnce) => {}
            Ending::Shard(Manner::Abort) => self.link.abort(),
            Ending::Shard(Manner::Gently) => self.part(),
        }
        Poll::Ready(())
    }
}

impl Carrier {
    /// Leaves the rest to a task that isn't counted with the links any more.
    fn part(&self) {
        let (link, driver) = (Rc::clone(&self.link), Rc::clone(&self.driver));
        tokio::task::spawn_local(async move { link.linger(&driver).await });
    }
}

impl Socket for Link {
    // A broken connection is no error: the link's task will read of it.
    fn write(&self, bytes: &[u8], outbox_max: usize) -> Result<(), TooSlow> {
        if self.put(bytes, None) > outbox_max { Err(TooSlow) } else { Ok(()) }
    }

    fn write_shared(&self, frames: &Bytes, outbox_max: usize) -> Result<(), TooSlow> {
        if self.put(frames, Some(frames)) > outbox_max { Err(TooSlow) } else { Ok(()) }
    }

    fn queued(&self) -> usize {
        self.outbox.borrow().as_deref().map_or(0, Outbox::len)
    }

    fn chokes(&self) -> bool {
        self.outbox.borrow().is_some() && !self.choked.replace(true)
    }

    fn ping(&self) {
        // Who doesn't read what was sent before wouldn't read this either.
        if self.queued() == 0
            && let Some(wrapped) = &mut *self.wrap.borrow_mut()
        {
            wrapped.wrap.ping(|bytes| self.send(bytes));
        }
    }

    fn close(&self, manner: Manner, code: Option<CloseCode>) {
        let manner = match manner {
            // What lies in between has a goodbye of its own, and the peer shall be able to read it.
            Manner::AtOnce | Manner::Gently if self.part(code) => Manner::Gently,
            manner => manner,
        };
        self.closing.set(Some(manner));
        self.wake();
    }
}

impl Link {
    fn new(stream: TcpStream, id: LinkId, admission: Admission) -> Rc<Link> {
        Rc::new(Link {
            stream: RefCell::new(stream),
            id,
            closing: Cell::new(None),
            fresh: Cell::new(true),
            choked: Cell::new(false),
            outbox: RefCell::new(None),
            wrap: RefCell::new(None),
            waker: Cell::new(None),
            admission,
        })
    }

    /// Puts whole native frames on the wire, wrapped as this link's are; tells how many bytes are queued then. `shared`
    /// are the same frames, if others have them as well.
    fn put(&self, frames: &[u8], shared: Option<&Bytes>) -> usize {
        match &mut *self.wrap.borrow_mut() {
            None => self.send_or_share(frames, shared),
            Some(wrapped) => wrapped.wrap.pack(frames, |bytes| self.send(bytes)),
        }
    }

    /// Takes leave of the peer in the way of what lies in between; false if nothing does.
    fn part(&self, code: Option<CloseCode>) -> bool {
        match &mut *self.wrap.borrow_mut() {
            None => false,
            Some(wrapped) => {
                wrapped.wrap.part(code, |bytes| self.send(bytes));
                true
            }
        }
    }

    /// Writes bytes as they are, or queues what can't be written now; tells how many are queued then.
    fn send(&self, bytes: &[u8]) -> usize {
        self.send_or_share(bytes, None)
    }

    fn send_or_share(&self, bytes: &[u8], shared: Option<&Bytes>) -> usize {
        let mut outbox = self.outbox.borrow_mut();
        let mut written = 0;
        if outbox.is_none() && !bytes.is_empty() {
            match self.stream.borrow().try_write(bytes) {
                Ok(count) => written = count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return 0,
            }
        }
        if written < bytes.len() {
            let outbox = outbox.get_or_insert_default();
            match shared {
                Some(shared) => outbox.push_shared(shared.slice(written..)),
                None => outbox.push(&bytes[written..]),
            }
            self.wake();
        }
        outbox.as_deref().map_or(0, Outbox::len)
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn poll(&self, context: &mut Context<'_>, driver: &Rc<Driver>) -> Poll<Ending> {
        let waker = self.waker.take().filter(|waker| waker.will_wake(context.waker()));
        self.waker.set(Some(waker.unwrap_or_else(|| context.waker().clone())));
        if let Some(manner) = self.closing.get() {
            return Poll::Ready(Ending::Shard(manner));
        }
        if let Poll::Ready(Err(_)) = self.poll_flush(context) {
            return Poll::Ready(Ending::Peer(LinkEnd::Reset));
        }
        if self.choked.get() && self.outbox.borrow().is_none() {
            self.choked.set(false);
            driver.drained(self.id);
            if let Some(manner) = self.closing.get() {
                return Poll::Ready(Ending::Shard(manner));
            }
        }
        for _ in 0..READS_MAX {
            match self.poll_read(context, driver) {
                Poll::Pending => return self.poll_due(context, driver),
                Poll::Ready(Ok(Read::End)) => return Poll::Ready(Ending::Peer(LinkEnd::Eof)),
                Poll::Ready(Ok(Read::Leave)) => return Poll::Ready(Ending::Leave),
                Poll::Ready(Ok(Read::Some)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Ending::Peer(LinkEnd::Reset)),
            }
            // What was read may have made the shard close this very link. Its number is free from then on, so nothing
            // more may be said of it.
            if let Some(manner) = self.closing.get() {
                return Poll::Ready(Ending::Shard(manner));
            }
        }
        // After the others, and not before the sockets were looked at again: a socket that is always ready would
        // otherwise have all turns until the next look to itself.
        let _ = pin!(tokio::task::yield_now()).poll(context);
        Poll::Pending
    }

    /// How many bytes may be read now: its allowance at once, and what fits into a turn when its turn has come.
    fn poll_turn(&self, context: &mut Context<'_>, driver: &Rc<Driver>) -> Poll<io::Result<usize>> {
        match driver.turns().may_read(self.id, driver.now()) {
            Leave::Now(most) => return Poll::Ready(Ok(most)),
            Leave::Queued => return Poll::Pending,
            Leave::InTurn => {}
        }
        ready!(self.stream.borrow().poll_read_ready(context))?;
        driver.turns().queue(self.id, context.waker().clone());
        Poll::Pending
    }

    /// Reads what there is into the thread's buffer and hands it to the shard.
    fn poll_read(&self, context: &mut Context<'_>, driver: &Rc<Driver>) -> Poll<io::Result<Read>> {
        let most = ready!(self.poll_turn(context, driver))?;
        driver.with_buffer(|buffer| {
            let most = most.min(buffer.len());
            let mut read = ReadBuf::new(&mut buffer[..most]);
            ready!(Pin::new(&mut *self.stream.borrow_mut()).poll_read(context, &mut read))?;
            let bytes = read.filled_mut();
            driver.turns().spend(self.id, bytes.len());
            let Some(&first) = bytes.first() else { return Poll::Ready(Ok(Read::End)) };
            if self.fresh.replace(false) && first != 0 {
                let rules = self.admission.rules();
                let wrap = Wrap::for_first(first, &rules);
                *self.wrap.borrow_mut() = wrap.map(|wrap| Box::new(Wrapped { wrap, rules, due: None }));
            }
            if self.wrap.borrow().is_some() {
                return Poll::Ready(Ok(self.unwrap(bytes, driver)));
            }
            driver.received(self.id, bytes);
            Poll::Ready(Ok(Read::Some))
        })
    }

    /// Takes bytes out of what they are wrapped in, and gives them to the shard.
    fn unwrap(&self, bytes: &mut [u8], driver: &Rc<Driver>) -> Read {
        Work::lend(|work| {
            let mut step = self.with_wrap(|wrap, rules| wrap.open(bytes, work, rules));
            loop {
                self.send(&work.wire);
                work.wire.clear();
                if !work.frames.is_empty() {
                    driver.received(self.id, &work.frames);
                    work.frames.clear();
                }
                if self.closing.get().is_some() {
                    return Read::Some;
                }
                if step == Step::Heard && self.queued() > PONGS_MAX {
                    work.drop_answer();
                } else if step != Step::Heard
                    && let Some(wrapped) = &mut *self.wrap.borrow_mut()
                {
                    // A pong waits for the end of what was read: of several the last is enough.
                    wrapped.wrap.answer(work);
                }
                self.send(&work.wire);
                work.wire.clear();
                let link = self.id;
                match step {
                    Step::Wait => return Read::Some,
                    Step::Ended => return Read::Leave,
                    Step::Upgraded(transport) => driver.tell(Input::Upgraded { link, transport }),
                    Step::Heard => driver.tell(Input::Heard { link }),
                    Step::Garbled => driver.tell(Input::Garbled { link }),
                    Step::TurnedAway(code, reason) => driver.tell(Input::TurnedAway { link, code, reason }),
                }
                if self.closing.get().is_some() {
                    return Read::Some;
                }
                step = self.with_wrap(|wrap, rules| wrap.step(work, rules));
            }
        })
    }

    fn with_wrap(&self, step: impl FnOnce(&mut Wrap, &Rules) -> Step) -> Step {
        // Nothing takes a wrap away from a link.
        self.wrap.borrow_mut().as_mut().map_or(Step::Wait, |wrapped| step(&mut wrapped.wrap, &wrapped.rules))
    }

    /// Whether the present stage of a wrap has taken too long.
    fn poll_due(&self, context: &mut Context<'_>, driver: &Rc<Driver>) -> Poll<Ending> {
        let reason = {
            let mut wrapped = self.wrap.borrow_mut();
            let Some(wrapped) = wrapped.as_deref_mut() else { return Poll::Pending };
            let Some(patience) = wrapped.wrap.patience() else {
                wrapped.due = None;
                return Poll::Pending;
            };
            let due = wrapped.due.take().filter(|(given, _)| *given == patience);
            let mut due = due.unwrap_or_else(|| (patience, Box::pin(tokio::time::sleep(patience))));
            let over = due.1.as_mut().poll(context);
            wrapped.due = Some(due);
            ready!(over);
            wrapped.wrap.overdue()
        };
        driver.tell(Input::TurnedAway { link: self.id, code: CloseCode::NoHello, reason });
        match self.closing.get() {
            Some(manner) => Poll::Ready(Ending::Shard(manner)),
            None => Poll::Pending,
        }
    }

    /// Writes what is queued; `Ready(Ok)` when nothing is.
    fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outbox = self.outbox.borrow_mut();
        while let Some(queued) = outbox.as_deref_mut() {
            let written = ready!(Pin::new(&mut *self.stream.borrow_mut()).poll_write(context, queued.first()))?;
            queued.written(written);
            if queued.len() == 0 {
                *outbox = None;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Lets the goodbye go out before the socket is closed: what the peer still sends would turn the close into a reset
    /// that could overtake it.
    async fn linger(&self, driver: &Driver) {
        let parting = async {
            poll_fn(|context| self.poll_flush(context)).await?;
            poll_fn(|context| Pin::new(&mut *self.stream.borrow_mut()).poll_shutdown(context)).await?;
            // Who still floods isn't listened to for long.
            for _ in 0..LINGER_READS_MAX {
                let rest = |context: &mut Context<'_>| {
                    driver.with_buffer(|buffer| {
                        let mut read = ReadBuf::new(buffer);
                        ready!(Pin::new(&mut *self.stream.borrow_mut()).poll_read(context, &mut read))?;
                        Poll::Ready(io::Result::Ok(read.filled().len()))
                    })
                };
                if poll_fn(rest).await? == 0 {
                    break;
                }
                // Those who are still here come first.
                tokio::task::yield_now().await;
            }
            io::Result::Ok(())
        };
        // However it ends, the socket is closed next.
        let _ = tokio::time::timeout(GENTLE_MAX, pin!(parting)).await;
    }

    /// Closing shall reset the connection: the kernel would otherwise wait for a peer that the detector has given up.
    fn abort(&self) {
        // If it fails, the connection is broken already.
        let _ = self.stream.borrow().set_zero_linger();
    }
}

/// What a read came to.
enum Read {
    Some,
    End,
    /// The peer said that it ends, and was answered.
    Leave,
}

/// Who ended a link.
enum Ending {
    Peer(LinkEnd),
    /// The peer, with a goodbye that has an answer.
    Leave,
    Shard(Manner),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_fits_the_allocators_place_of_128_bytes() {
        // With the two counts of its `Rc`.
        assert!(size_of::<Link>() + 2 * size_of::<usize>() <= 128);
    }
}
