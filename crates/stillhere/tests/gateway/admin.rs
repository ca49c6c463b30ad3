//! The admin API from an operator's side: plain HTTP/1.1 over a socket, so that a test can send what no library would.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::gateway::PATIENCE;

/// One request on a connection of its own.
pub(crate) struct Request {
    line: String,
    headers: Vec<String>,
    body: String,
}

impl Request {
    pub(crate) fn get(path: &str) -> Request {
        Request { line: format!("GET {path} HTTP/1.1"), headers: Vec::new(), body: String::new() }
    }

    pub(crate) fn post(path: &str, body: &str) -> Request {
        Request::with("POST", path, body)
    }

    pub(crate) fn with(method: &str, path: &str, body: &str) -> Request {
        let headers = vec!["Content-Type: application/json".to_owned()];
        Request { line: format!("{method} {path} HTTP/1.1"), headers, body: body.to_owned() }
    }

    pub(crate) fn header(mut self, line: &str) -> Request {
        self.headers.push(line.to_owned());
        self
    }

    pub(crate) fn token(self, token: &str) -> Request {
        self.header(&format!("Authorization: Bearer {token}"))
    }

    fn write(&self, stream: &mut TcpStream, connection: &str) {
        let Request { line, headers, body } = self;
        let mut text = format!("{line}\r\nConnection: {connection}\r\nContent-Length: {}\r\n", body.len());
        if !headers.iter().any(|header| header.starts_with("Host:")) {
            text += "Host: 127.0.0.1\r\n";
        }
        for header in headers {
            text += &format!("{header}\r\n");
        }
        stream.write_all(format!("{text}\r\n{body}").as_bytes()).expect("written");
    }

    pub(crate) fn send(&self, admin: SocketAddr) -> Answer {
        let mut stream = connect(admin);
        self.write(&mut stream, "close");
        Answer::read(&mut BufReader::new(stream))
    }
}

fn connect(admin: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(admin).expect("the admin port");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.set_nodelay(true).expect("no delay");
    stream
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    fn read(reader: &mut impl BufRead) -> Answer {
        let head = read_head(reader);
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or_else(|| panic!("no length in {head}"))];
        reader.read_exact(&mut body).expect("a body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Answer { status, head, body: String::from_utf8(body).expect("UTF-8") }
    }

    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// The message of an error in JSON with this status.
    pub(crate) fn error(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "{self:?}");
        let body: Value = serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        assert_eq!(body["error"]["code"], code, "{self:?}");
        body["error"]["message"].as_str().expect("a message").to_owned()
    }
}

fn read_head(reader: &mut impl BufRead) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).expect("a head") > 0, "cut off: {head}");
    }
    head
}

/// A connection that serves many requests.
pub(crate) struct Keeping {
    reader: BufReader<TcpStream>,
    token: String,
}

impl Keeping {
    pub(crate) fn connect(admin: SocketAddr, token: &str) -> Keeping {
        let mut keeping = Keeping { reader: BufReader::new(connect(admin)), token: token.to_owned() };
        // An answer proves that the connection was accepted, and this one that all shards have begun.
        assert_eq!(keeping.get("/healthz").status, 200);
        keeping
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        Request::get(path).token(&self.token).write(self.reader.get_mut(), "keep-alive");
        Answer::read(&mut self.reader)
    }
}

/// The stream of events.
pub(crate) struct Events {
    stream: TcpStream,
    /// What has come of lines that aren't whole.
    kept: Vec<u8>,
    name: String,
}

impl Events {
    pub(crate) fn watch(admin: SocketAddr, token: &str) -> Events {
        Events::try_watch(admin, token).expect("a place among those who watch")
    }

    /// `None` if too many watch already.
    pub(crate) fn try_watch(admin: SocketAddr, token: &str) -> Option<Events> {
        let mut stream = Keeping::connect(admin, token).reader.into_inner();
        Request::get("/api/v1/events").token(token).write(&mut stream, "keep-alive");
        // Byte by byte, so that no event is lost in a buffer.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a head");
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).expect("UTF-8");
        if head.starts_with("HTTP/1.1 503") {
            return None;
        }
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"), "{head}");
        Some(Events { stream, kept: Vec::new(), name: String::new() })
    }

    /// The next event of this name that looks like that.
    pub(crate) fn wait(&mut self, name: &str, looks: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            while let Some((event, data)) = self.next_kept() {
                if event == name && looks(&data) {
                    return data;
                }
            }
            self.read(PATIENCE);
        }
        panic!("no such event: {name}");
    }

    /// Blocks until something has happened, at most so long, and forgets it.
    pub(crate) fn drain(&mut self, at_most: Duration) {
        self.read(at_most);
        self.kept.clear();
    }

    fn read(&mut self, at_most: Duration) {
        self.stream.set_read_timeout(Some(at_most)).expect("a time-out");
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(count) => self.kept.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            // The gateway has ended, which may be what the test waits for.
            Err(_) => {}
        }
    }

    fn next_kept(&mut self) -> Option<(String, Value)> {
        // The sizes of HTTP's chunks stand on lines of their own, and an event is a chunk, so lines are enough.
        while let Some(end) = self.kept.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.kept.drain(..=end).collect();
            let line = String::from_utf8(line).expect("UTF-8");
            if let Some(name) = line.strip_prefix("event: ") {
                name.trim_end().clone_into(&mut self.name);
            } else if let Some(data) = line.strip_prefix("data: ") {
                let data = serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {line}"));
                return Some((std::mem::take(&mut self.name), data));
            }
        }
        None
    }
}
