//! A client's end of a link, with nothing between the test and the bytes.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::{Domain, SockRef, Socket, Type};

use crate::gateway::{Gateway, PATIENCE};

/// The tutorial's own 64 bytes: a JSON string that contains an object.
pub(crate) const TUTORIAL: &str = r#""{\"ip\": \"127.0.0.1\", \"status\": \"alive\", \"pid\": 21243}""#;
/// What a gateway may take on a busy machine for what it does at once.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(3);

/// The gateway counts the time of a frame in whole milliseconds.
pub(crate) const GRAIN: Duration = Duration::from_millis(2);

/// A frame around a body.
pub(crate) fn frame(body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

/// A link.
pub(crate) struct Peer {
    stream: TcpStream,
    /// This end, by which the gateway lists it.
    pub(crate) address: SocketAddr,
    connected_at: Instant,
    kept: Vec<u8>,
}

impl Peer {
    pub(crate) fn connect(gateway: &Gateway) -> Peer {
        Peer::from(gateway, "127.0.0.1:0".parse().expect("an address")).expect("the clients' port")
    }

    /// Connects from an address, and a port unless that is 0.
    pub(crate) fn from(gateway: &Gateway, address: SocketAddr) -> std::io::Result<Peer> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        let connected_at = Instant::now();
        socket.connect(&gateway.clients.into())?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let address = stream.local_addr()?;
        Ok(Peer { stream, address, connected_at, kept: Vec::new() })
    }

    /// A client of the tutorial that has sent one beat and is listed.
    pub(crate) fn legacy(gateway: &Gateway) -> Peer {
        let mut peer = Peer::connect(gateway);
        peer.send_frame(TUTORIAL);
        gateway.wait_for_session(peer.address, |session| session["mode"] == "legacy");
        peer
    }

    /// A v1 client that was welcomed, with its welcome.
    pub(crate) fn v1(gateway: &Gateway, hello: Value) -> (Peer, Value) {
        let mut peer = Peer::connect(gateway);
        let welcome = peer.hello(hello);
        (peer, welcome)
    }

    /// Says hello with these fields besides `op` and `v`; returns the welcome.
    pub(crate) fn hello(&mut self, mut fields: Value) -> Value {
        fields["op"] = json!("hello");
        fields["v"] = json!(1);
        self.say(&fields);
        let welcome = self.read_frame();
        assert_eq!(welcome["op"], "welcome", "{welcome}");
        welcome
    }

    /// A new link that takes up the session of `welcome`, with its welcome.
    pub(crate) fn resume(gateway: &Gateway, welcome: &Value) -> (Peer, Value) {
        Peer::v1(gateway, proof(welcome, 0))
    }

    /// Sends bytes as they are. The gateway may close in the middle of them.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        // Whether the link was closed is for the test to see.
        self.send_some(bytes);
    }

    /// The same; whether the link still took them.
    pub(crate) fn send_some(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    pub(crate) fn send_frame(&mut self, body: impl AsRef<[u8]>) {
        self.send(&frame(body));
    }

    pub(crate) fn say(&mut self, message: &Value) {
        self.send_frame(message.to_string());
    }

    /// The next message, whatever it is.
    pub(crate) fn read_frame(&mut self) -> Value {
        let began = Instant::now();
        loop {
            if let Some(header) = self.kept.first_chunk::<4>() {
                let end = 4 + u32::from_be_bytes(*header) as usize;
                if self.kept.len() >= end {
                    let frame: Vec<u8> = self.kept.drain(..end).collect();
                    return serde_json::from_slice(&frame[4..]).expect("JSON");
                }
            }
            let left = PATIENCE.checked_sub(began.elapsed()).expect("a message in time");
            let read = self.read(left);
            assert_ne!(read, Some(0), "closed, with {:?} of a message", String::from_utf8_lossy(&self.kept));
        }
    }

    /// The next message that answers something: not the gateway's own wish for a beat.
    pub(crate) fn answer(&mut self) -> Value {
        loop {
            let message = self.read_frame();
            if message["now"] != true {
                return message;
            }
        }
    }

    /// Asks and gets the answer, which must belong to it.
    pub(crate) fn ask(&mut self, mut request: Value) -> Value {
        request["id"] = json!("q");
        self.say(&request);
        let answer = self.answer();
        assert_eq!(answer["re"], "q", "{answer}");
        answer
    }

    /// A beat and its echo.
    pub(crate) fn beat(&mut self, t: u64) -> Value {
        self.say(&json!({"op": "beat", "t": t}));
        let answer = self.answer();
        assert_eq!((&answer["op"], &answer["t"]), (&json!("beat"), &json!(t)), "{answer}");
        answer
    }

    /// The goodbye that comes next, and the end of the link after it.
    pub(crate) fn read_bye(&mut self) -> Value {
        let bye = self.read_bye_and_linger();
        self.expect_closed_within(AT_ONCE);
        bye
    }

    /// The goodbye that comes next; this side stays open, so that the gateway must wait for it or lose patience.
    pub(crate) fn read_bye_and_linger(&mut self) -> Value {
        let bye = self.answer();
        assert_eq!(bye["op"], "bye", "{bye}");
        bye
    }

    /// Blocks for so long; nothing may come, not even the end.
    pub(crate) fn expect_silence(&mut self, span: Duration) {
        let began = Instant::now();
        while let Some(left) = span.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) {
            let read = self.read(left);
            assert_eq!(read, None, "{:?} of {}", self.kept, self.address);
        }
    }

    /// The same for a v1 client, whom the gateway may ask for a beat.
    pub(crate) fn expect_quiet(&mut self, span: Duration) {
        let began = Instant::now();
        while let Some(left) = span.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) {
            assert_ne!(self.read(left), Some(0), "{} was closed", self.address);
        }
        while !self.kept.is_empty() {
            let message = self.read_frame();
            assert_eq!(message["now"], true, "{message}");
        }
    }

    /// Nothing has come so far, and the link is open.
    pub(crate) fn expect_nothing_heard(&mut self) {
        assert_eq!(self.read(Duration::from_micros(1)), None, "{:?} of {}", self.kept, self.address);
    }

    /// Waits for the end of the link, without a byte before it, and ends this side too.
    pub(crate) fn expect_closed_within(&mut self, limit: Duration) {
        self.expect_closed_between(Duration::ZERO, limit);
    }

    /// The same, and not before so long after the connect.
    pub(crate) fn expect_closed_between(&mut self, earliest: Duration, limit: Duration) {
        let began = Instant::now();
        while let Some(left) = limit.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) {
            match self.read(left) {
                Some(0) => {
                    let after = self.connected_at.elapsed();
                    // It may have been reset.
                    let _ = self.stream.shutdown(std::net::Shutdown::Both);
                    return assert!(after + GRAIN >= earliest, "closed {after:?} after the connect already");
                }
                Some(_) => panic!("{} heard {:?}", self.address, String::from_utf8_lossy(&self.kept)),
                None => {}
            }
        }
        panic!("{} is still open after {limit:?}", self.address);
    }

    /// Sends one byte, waits, sends the next, until the link is closed without a word; tells after how long it was.
    pub(crate) fn dribble(&mut self, bytes: &[u8], step: Duration) -> Duration {
        let began = Instant::now();
        for byte in bytes {
            self.send(&[*byte]);
            match self.read(step) {
                None => {}
                Some(0) => return began.elapsed(),
                Some(_) => panic!("{} heard {:?}", self.address, String::from_utf8_lossy(&self.kept)),
            }
        }
        panic!("{} is still open after {:?}", self.address, began.elapsed());
    }

    /// Says no more, but would still listen.
    pub(crate) fn half_close(&mut self) {
        self.stream.shutdown(std::net::Shutdown::Write).expect("open");
    }

    /// Ends the link with a reset.
    pub(crate) fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a lingering time");
    }

    /// How many bytes came: 0 for the end of the link, `None` if nothing did.
    fn read(&mut self, at_most: Duration) -> Option<usize> {
        self.stream.set_read_timeout(Some(at_most)).expect("a time-out");
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(count) => {
                self.kept.extend_from_slice(&buffer[..count]);
                Some(count)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => Some(0),
            Err(error) => panic!("{error}"),
        }
    }
}

/// What a hello shows to take up the session of `welcome`.
pub(crate) fn proof(welcome: &Value, count: u64) -> Value {
    json!({"resume": {"session": welcome["session"], "secret": welcome["resume"]["secret"], "count": count}})
}
