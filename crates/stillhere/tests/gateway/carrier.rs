//! A client's end of a link over any transport, made by other people's TLS and WebSocket.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned, SupportedProtocolVersion};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::{Message, WebSocket};

use crate::gateway::{Gateway, PATIENCE, Scratch};
use crate::peer::frame;

/// What carries a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Tcp,
    Tls,
    Ws,
    Wss,
}

impl Over {
    pub(crate) const ALL: [Over; 4] = [Over::Tcp, Over::Tls, Over::Ws, Over::Wss];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Over::Tcp => "tcp",
            Over::Tls => "tls",
            Over::Ws => "ws",
            Over::Wss => "wss",
        }
    }

    fn is_tls(self) -> bool {
        matches!(self, Over::Tls | Over::Wss)
    }
}

/// A development certificate in a directory of its own, and clients that trust it.
pub(crate) struct Certs {
    scratch: Rc<Scratch>,
}

impl Certs {
    pub(crate) fn make() -> Certs {
        let certs = Certs { scratch: Scratch::new() };
        certs.renew();
        certs
    }

    /// Another certificate under the same names.
    pub(crate) fn renew(&self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stillhere"));
        command.args(["certs", "dev", "--force", "--dir"]).arg(self.scratch.path());
        let output = command.output().expect("the binary runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn cert(&self) -> PathBuf {
        self.scratch.path().join("cert.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.scratch.path().join("key.pem")
    }

    /// The settings that name them.
    pub(crate) fn settings(&self) -> [(String, String); 2] {
        let text = |path: PathBuf| path.display().to_string();
        [("listen.tls_cert".to_owned(), text(self.cert())), ("listen.tls_key".to_owned(), text(self.key()))]
    }

    /// A client's configuration that trusts only the present certificate.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        self.client_of(rustls::ALL_VERSIONS)
    }

    pub(crate) fn client_of(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.cert()).expect("a certificate")).expect("it can be trusted");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).expect("versions");
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    }
}

/// Connects from an address; the gateway lists the link by the second value.
pub(crate) fn connect_from(gateway: &Gateway, ip: [u8; 4]) -> (TcpStream, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((ip, 0)).into()).expect("a port");
    socket.connect(&gateway.clients.into()).expect("the clients' port");
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true).expect("a socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
    let address = stream.local_addr().expect("bound");
    (stream, address)
}

pub(crate) fn connect(gateway: &Gateway) -> (TcpStream, SocketAddr) {
    connect_from(gateway, [127, 0, 0, 1])
}

/// Everything until the link ends.
pub(crate) fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("still open: {error}; it said {:?}", String::from_utf8_lossy(&bytes)),
    }
    bytes
}

pub(crate) trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

/// TLS around a socket; the handshake is made by the first use.
pub(crate) fn tls(stream: TcpStream, config: &Arc<ClientConfig>) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from("localhost").expect("a name");
    StreamOwned::new(ClientConnection::new(Arc::clone(config), name).expect("a configuration"), stream)
}

/// A link over any transport.
pub(crate) struct Carrier {
    /// For time-outs, and to send what the transport wouldn't.
    pub(crate) socket: TcpStream,
    /// This end, by which the gateway lists it.
    pub(crate) address: SocketAddr,
    end: End,
}

enum End {
    Native(Box<dyn Stream>, Vec<u8>),
    Web(Box<WebSocket<Box<dyn Stream>>>),
}

impl Carrier {
    pub(crate) fn open(gateway: &Gateway, over: Over, config: &Arc<ClientConfig>) -> Carrier {
        let (socket, address) = connect(gateway);
        Carrier::on(socket, address, over, config)
    }

    /// A WebSocket on plain TCP.
    pub(crate) fn web(gateway: &Gateway) -> Carrier {
        let (socket, address) = connect(gateway);
        let stream: Box<dyn Stream> = Box::new(socket.try_clone().expect("a socket"));
        Carrier { socket, address, end: web(stream) }
    }

    /// On a socket that is there already.
    pub(crate) fn on(socket: TcpStream, address: SocketAddr, over: Over, config: &Arc<ClientConfig>) -> Carrier {
        let plain = socket.try_clone().expect("a socket");
        let stream: Box<dyn Stream> = if over.is_tls() { Box::new(tls(plain, config)) } else { Box::new(plain) };
        let end = match over {
            Over::Tcp | Over::Tls => End::Native(stream, Vec::new()),
            Over::Ws | Over::Wss => web(stream),
        };
        Carrier { socket, address, end }
    }

    pub(crate) fn send(&mut self, body: &str) {
        match &mut self.end {
            End::Native(stream, _) => stream.write_all(&frame(body)).and_then(|()| stream.flush()).expect("open"),
            End::Web(socket) => socket.send(Message::text(body)).expect("open"),
        }
    }

    /// A WebSocket's message of any kind; the gateway may have closed already.
    pub(crate) fn send_message(&mut self, message: Message) {
        let End::Web(socket) = &mut self.end else { panic!("no WebSocket") };
        // What came of it is for the test to see.
        let _ = socket.send(message);
    }

    pub(crate) fn say(&mut self, message: &Value) {
        self.send(&message.to_string());
    }

    /// The next thing that the gateway says, whatever it is. Pings are answered on the way.
    pub(crate) fn read(&mut self) -> Value {
        match &mut self.end {
            End::Native(stream, kept) => loop {
                if let Some(header) = kept.first_chunk::<4>() {
                    let end = 4 + u32::from_be_bytes(*header) as usize;
                    if kept.len() >= end {
                        let frame: Vec<u8> = kept.drain(..end).collect();
                        return serde_json::from_slice(&frame[4..]).expect("JSON");
                    }
                }
                let mut buffer = [0; 4096];
                let count = stream.read(&mut buffer).expect("a message in time");
                assert!(count > 0, "closed with {:?} of a message", String::from_utf8_lossy(kept));
                kept.extend_from_slice(&buffer[..count]);
            },
            End::Web(socket) => loop {
                match socket.read().expect("a message in time") {
                    Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                    Message::Ping(_) | Message::Pong(_) => {}
                    other => panic!("{other:?}"),
                }
            },
        }
    }

    /// The next message that answers something: not the gateway's own wish for a beat.
    pub(crate) fn answer(&mut self) -> Value {
        loop {
            let message = self.read();
            if message["now"] != true {
                return message;
            }
        }
    }

    pub(crate) fn hello(&mut self, mut fields: Value) -> Value {
        fields["op"] = json!("hello");
        fields["v"] = json!(1);
        self.say(&fields);
        self.answer()
    }

    pub(crate) fn beat(&mut self, t: u64) {
        self.say(&json!({"op": "beat", "t": t}));
        let answer = self.answer();
        assert_eq!((&answer["op"], &answer["t"]), (&json!("beat"), &json!(t)), "{answer}");
    }

    /// Answers pings, and nothing else happens, for so long; tells how many pings came.
    pub(crate) fn rest(&mut self, span: Duration) -> usize {
        let began = Instant::now();
        let mut pings = 0;
        let End::Web(socket) = &mut self.end else { panic!("no WebSocket") };
        while let Some(left) = span.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) {
            self.socket.set_read_timeout(Some(left)).expect("a time-out");
            match socket.read() {
                Ok(Message::Ping(_)) => {
                    pings += 1;
                    socket.flush().expect("open");
                }
                Ok(Message::Text(text)) if text.contains("\"now\":true") => {}
                Ok(other) => panic!("{other:?}"),
                Err(tungstenite::Error::Io(error))
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => panic!("{error}"),
            }
        }
        self.socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        pings
    }

    /// The close frame, after everything else that comes, and the end of the link after it.
    pub(crate) fn read_close(&mut self) -> Option<CloseFrame> {
        let End::Web(socket) = &mut self.end else { panic!("no WebSocket") };
        let close = loop {
            if let Message::Close(close) = socket.read().expect("a close frame") {
                break close;
            }
        };
        loop {
            match socket.read() {
                Ok(_) => {}
                Err(tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed) => return close,
                Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::ConnectionReset => return close,
                Err(error) => panic!("no end after the close frame: {error}"),
            }
        }
    }

    /// The number in the close frame.
    pub(crate) fn read_close_code(&mut self) -> u16 {
        self.read_close().map_or(0, |close| close.code.into())
    }

    /// The end of the link.
    pub(crate) fn expect_end(&mut self) {
        let End::Native(stream, kept) = &mut self.end else { panic!("a WebSocket ends with a close frame") };
        match stream.read_to_end(kept) {
            Ok(_) => assert!(kept.is_empty(), "{:?}", String::from_utf8_lossy(kept)),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn web(stream: Box<dyn Stream>) -> End {
    let upgraded = tungstenite::client("ws://localhost/ws", stream);
    let (socket, response) = upgraded.map_err(|error| error.to_string()).expect("a WebSocket");
    assert_eq!(response.status(), 101);
    End::Web(Box::new(socket))
}

/// How a TLS client's handshake went.
pub(crate) fn handshake(gateway: &Gateway, config: &Arc<ClientConfig>) -> Result<HandshakeKind, String> {
    let (socket, _) = connect(gateway);
    let mut stream = tls(socket, config);
    // The welcome comes after the ticket, so with it a later handshake can resume this one.
    let hello = frame(r#"{"op":"hello","v":1}"#);
    stream.write_all(&hello).map_err(|error| error.to_string())?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).map_err(|error| error.to_string())?;
    stream.conn.handshake_kind().ok_or_else(|| "no handshake".to_owned())
}
