//! One link: a socket, what couldn't be written to it yet, and the task that waits for both.
//!
//! An idle link owns no buffer. Its task reads into the thread's; writing is tried at once by whoever has something to
//! say, and only what the kernel doesn't take is queued here, bounded in bytes. The task ends when the peer or the
//! shard ends the link; a link that is told goodbye has another task for the moment until it has heard it. Dropping
//! them closes the socket.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use stillhere_core::event::{LinkEnd, LinkId, Manner, Peer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tracing::warn;

use crate::driver::{Driver, Socket, TooSlow};
use crate::gate::Admission;

/// Reads of one link in a row before the others get their turn.
const READS_MAX: usize = 4;
/// How long a link that was told goodbye may take to hear it.
const GENTLE_MAX: Duration = Duration::from_secs(1);

/// A link, shared by its task and the driver.
struct Link {
    stream: RefCell<TcpStream>,
    id: LinkId,
    /// Set when the shard has closed the link; the driver has forgotten it then.
    closing: Cell<Option<Manner>>,
    #[expect(clippy::box_collection, reason = "most links never queue anything, and there is one in every link")]
    outbox: RefCell<Option<Box<Vec<u8>>>>,
    /// The link's task, while it waits.
    waker: Cell<Option<Waker>>,
    /// Counted until the socket is closed.
    _admission: Admission,
}

/// Puts an accepted socket on this thread's shard.
pub(crate) fn open(driver: &Rc<Driver>, stream: std::net::TcpStream, peer: Peer, admission: Admission) {
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => return warn!(%peer, %error, "can't watch a new socket; it is closed"),
    };
    let link = driver.add(peer, |id| Link::new(stream, id, admission));
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
            Ending::Shard(Manner::AtOnce) => {}
            Ending::Shard(Manner::Abort) => self.link.abort(),
            Ending::Shard(Manner::Gently) => {
                let link = Rc::clone(&self.link);
                tokio::task::spawn_local(async move { link.part().await });
            }
        }
        Poll::Ready(())
    }
}

impl Socket for Link {
    // A broken connection is no error: the link's task will read of it.
    fn write(&self, mut bytes: &[u8], outbox_max: usize) -> Result<(), TooSlow> {
        let mut outbox = self.outbox.borrow_mut();
        if outbox.is_none() {
            match self.stream.borrow().try_write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Ok(()),
            }
            if bytes.is_empty() {
                return Ok(());
            }
        }
        let queued = outbox.get_or_insert_default();
        if queued.len() + bytes.len() > outbox_max {
            return Err(TooSlow);
        }
        queued.extend_from_slice(bytes);
        drop(outbox);
        self.wake();
        Ok(())
    }

    fn queued(&self) -> usize {
        self.outbox.borrow().as_deref().map_or(0, Vec::len)
    }

    fn close(&self, manner: Manner) {
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
            outbox: RefCell::new(None),
            waker: Cell::new(None),
            _admission: admission,
        })
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
        for _ in 0..READS_MAX {
            match ready!(self.poll_read(context, driver)) {
                Ok(0) => return Poll::Ready(Ending::Peer(LinkEnd::Eof)),
                Ok(_) => {}
                Err(_) => return Poll::Ready(Ending::Peer(LinkEnd::Reset)),
            }
            // What was read may have made the shard close this very link. Its number is free from then on, so nothing
            // more may be said of it.
            if let Some(manner) = self.closing.get() {
                return Poll::Ready(Ending::Shard(manner));
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads what there is into the thread's buffer and hands it to the shard.
    fn poll_read(&self, context: &mut Context<'_>, driver: &Rc<Driver>) -> Poll<io::Result<usize>> {
        driver.with_buffer(|buffer| {
            let mut read = ReadBuf::new(buffer);
            ready!(Pin::new(&mut *self.stream.borrow_mut()).poll_read(context, &mut read))?;
            if !read.filled().is_empty() {
                driver.received(self.id, read.filled());
            }
            Poll::Ready(Ok(read.filled().len()))
        })
    }

    /// Writes what is queued; `Ready(Ok)` when nothing is.
    fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outbox = self.outbox.borrow_mut();
        while let Some(queued) = outbox.as_deref_mut() {
            let written = ready!(Pin::new(&mut *self.stream.borrow_mut()).poll_write(context, queued))?;
            queued.drain(..written);
            if queued.is_empty() {
                *outbox = None;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Lets the goodbye go out before the socket is closed: what the peer still sends would turn the close into a reset
    /// that could overtake it.
    async fn part(&self) {
        let parting = async {
            poll_fn(|context| self.poll_flush(context)).await?;
            poll_fn(|context| Pin::new(&mut *self.stream.borrow_mut()).poll_shutdown(context)).await?;
            let mut rest = [0; 512];
            loop {
                let mut read = ReadBuf::new(&mut rest);
                poll_fn(|context| Pin::new(&mut *self.stream.borrow_mut()).poll_read(context, &mut read)).await?;
                if read.filled().is_empty() {
                    return io::Result::Ok(());
                }
            }
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

/// Who ended a link.
enum Ending {
    Peer(LinkEnd),
    Shard(Manner),
}
