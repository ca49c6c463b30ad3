//! A small v1 server in the test's own thread, which answers as it is told and tells what it heard.

use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, LocalSet, spawn_local};
use tokio::time::timeout;

use super::Attack;
use super::ground::Ground;
use super::stand::frame;
use crate::frame::Framing;
use crate::plan;

/// Whoever waits longer for something waits in vain.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a fake heard.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event {
    /// A frame on the link of this number, from 0 on.
    Said {
        /// Which link.
        link: usize,
        /// The frame.
        said: Value,
    },
    /// The link's end.
    Ended {
        /// Which link.
        link: usize,
        /// By a reset.
        reset: bool,
    },
}

type Answer = Box<dyn FnMut(usize, &Value) -> Option<Vec<Value>>>;

/// The server.
pub(super) struct Fake {
    address: SocketAddr,
    answer: Rc<RefCell<Answer>>,
    sender: mpsc::UnboundedSender<Event>,
    events: mpsc::UnboundedReceiver<Event>,
    tasks: Rc<RefCell<Vec<AbortHandle>>>,
    links: Rc<RefCell<usize>>,
}

/// Runs a test on one thread, as attackers are run.
pub(super) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let test = async { timeout(PATIENCE * 2, test).await.expect("the test comes to its end") };
    runtime.block_on(LocalSet::new().run_until(test));
}

/// What a sound server answers.
pub(super) fn sound(said: &Value) -> Option<Vec<Value>> {
    let re = said.get("id").cloned();
    Some(match said["op"].as_str() {
        Some("hello") => {
            let session = said["resume"]["session"].as_str().unwrap_or("s1");
            vec![json!({
                "op": "welcome", "session": session, "beat": { "interval_ms": said["interval_ms"], "detect_ms": 65 },
                "resume": { "secret": format!("secret of {session}") }, "limits": { "frames_per_second": 1000 },
            })]
        }
        Some("beat") => vec![json!({ "op": "beat", "detect_ms": 77 })],
        // Nobody is told that a request without an `id` was done.
        _ if re.is_none() => Vec::new(),
        Some("register") => vec![json!({ "op": "ok", "re": re, "token": "a token" })],
        Some("signal") => Vec::new(),
        _ => vec![json!({ "op": "ok", "re": re })],
    })
}

impl Fake {
    /// Listens, and answers what this says, to a link of that number; a null and nothing at all close the link.
    pub(super) fn start(answer: impl FnMut(usize, &Value) -> Option<Vec<Value>> + 'static) -> Fake {
        let (sender, events) = mpsc::unbounded_channel();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let answer: Answer = Box::new(answer);
        let fake = Fake {
            address,
            answer: Rc::new(RefCell::new(answer)),
            sender,
            events,
            tasks: Rc::default(),
            links: Rc::default(),
        };
        fake.listen(TcpListener::from_std(listener).unwrap());
        fake
    }

    fn listen(&self, listener: TcpListener) {
        let (answer, sender) = (self.answer.clone(), self.sender.clone());
        let (tasks, links) = (self.tasks.clone(), self.links.clone());
        let task = spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let link = links.replace_with(|count| *count + 1);
                let task = spawn_local(serve(stream, link, answer.clone(), sender.clone()));
                tasks.borrow_mut().push(task.abort_handle());
            }
        });
        self.tasks.borrow_mut().push(task.abort_handle());
    }

    /// Ends all links and listens no more.
    pub(super) async fn close(&mut self) {
        for task in self.tasks.borrow_mut().drain(..) {
            task.abort();
        }
        // What was aborted is gone when the others had their turn.
        tokio::task::yield_now().await;
        while self.events.try_recv().is_ok() {}
    }

    /// Listens at the same place again.
    pub(super) async fn open_again(&self) {
        self.listen(TcpListener::bind(self.address).await.unwrap());
    }

    /// The ground of an attack on it: an interval of 20 ms, and the attack's own size.
    pub(super) fn ground(&self, name: &str) -> Rc<Ground> {
        let size = super::find(name).unwrap().size;
        let interval = Duration::from_millis(20);
        let plan = plan::Attack { name: name.to_owned(), count: 1, rate: None, size, interval };
        Ground::new(self.address, plan, Framing::STILLHERE, 7, Arc::new(Mutex::default()), Rc::default())
    }

    /// Lets the attackers of these numbers live until the test's end.
    pub(super) fn attack(&self, attack: &Attack, ground: &Rc<Ground>, numbers: &[u32]) {
        for number in numbers {
            spawn_local((attack.life)(ground.clone(), *number));
        }
    }

    /// Whether nothing has happened that wasn't looked at.
    pub(super) fn empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The next thing that happens.
    pub(super) async fn event(&mut self) -> Event {
        timeout(PATIENCE, self.events.recv()).await.expect("something happens").expect("it is there")
    }

    /// The next frame and the number of its link.
    pub(super) async fn any(&mut self) -> (usize, Value) {
        loop {
            if let Event::Said { link, said } = self.event().await {
                return (link, said);
            }
        }
    }

    /// The next frame with one of these ops.
    pub(super) async fn any_of(&mut self, ops: &[&str]) -> (usize, Value) {
        loop {
            let (link, said) = self.any().await;
            if said["op"].as_str().is_some_and(|op| ops.contains(&op)) {
                return (link, said);
            }
        }
    }

    /// The next frame with this op.
    pub(super) async fn next(&mut self, op: &str) -> (usize, Value) {
        self.any_of(&[op]).await
    }

    /// The next end of a link.
    pub(super) async fn end(&mut self) -> Event {
        loop {
            let event = self.event().await;
            if matches!(event, Event::Ended { .. }) {
                return event;
            }
        }
    }

    /// Waits until something holds.
    pub(super) async fn until(&self, holds: impl Fn() -> bool) {
        let held = async {
            while !holds() {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, held).await.expect("it comes to hold");
    }
}

async fn serve(mut stream: TcpStream, link: usize, answer: Rc<RefCell<Answer>>, sender: mpsc::UnboundedSender<Event>) {
    let mut reset = false;
    loop {
        match read_body(&mut stream).await {
            Ok(Some(body)) => {
                let said: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
                // A test that has heard enough has gone.
                let _ = sender.send(Event::Said { link, said: said.clone() });
                let Some(answers) = (answer.borrow_mut())(link, &said) else { break };
                let mut frames = Vec::new();
                let stays = answers.iter().all(|answer| !answer.is_null());
                for answer in answers.iter().filter(|answer| !answer.is_null()) {
                    frames.extend(frame(answer));
                }
                // What isn't read mustn't keep what is said from being heard.
                if stays && frames.len() > 1 << 20 {
                    let _ = stream.try_write(&frames);
                } else if stream.write_all(&frames).await.is_err() || !stays {
                    break;
                }
            }
            Ok(None) => break,
            Err(error) => {
                reset = error.kind() == std::io::ErrorKind::ConnectionReset;
                break;
            }
        }
    }
    let _ = sender.send(Event::Ended { link, reset });
}

async fn read_body(stream: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut header = [0; 4];
    match stream.read_exact(&mut header).await {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let mut body = vec![0; u32::from_be_bytes(header) as usize];
    stream.read_exact(&mut body).await?;
    Ok(Some(body))
}
