//! The other end, played by hand.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) struct Server(TcpListener);

impl Server {
    pub(crate) async fn open() -> Server {
        Server(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    pub(crate) async fn accept(&self) -> Link {
        Link(self.0.accept().await.unwrap().0)
    }
}

pub(crate) struct Link(TcpStream);

impl Link {
    /// The next body, or `None` at the end of the stream.
    pub(crate) async fn read_bytes(&mut self) -> Option<Vec<u8>> {
        let length = self.0.read_u32().await.ok()?;
        let mut body = vec![0; length as usize];
        self.0.read_exact(&mut body).await.ok()?;
        Some(body)
    }

    pub(crate) async fn read(&mut self) -> Option<Value> {
        Some(serde_json::from_slice(&self.read_bytes().await?).expect("a client sends JSON"))
    }

    pub(crate) async fn write(&mut self, body: Value) {
        let body = body.to_string();
        self.0.write_u32(body.len() as u32).await.unwrap();
        self.0.write_all(body.as_bytes()).await.unwrap();
    }

    /// Reads `hello`, checks its resume, and answers.
    pub(crate) async fn welcome(&mut self, resume: Value, resumed: bool, secret: &str) {
        let hello = self.read().await.expect("hello");
        assert_eq!((&hello["op"], &hello["v"], &hello["resume"]), (&json!("hello"), &json!(1), &resume), "{hello}");
        self.write(welcome(resumed, secret)).await;
    }

    /// Answers beats until the end of the stream or a goodbye, and tells whether that was said.
    pub(crate) async fn serve(mut self) -> bool {
        while let Some(said) = self.read().await {
            match said["op"].as_str() {
                Some("hello") => self.write(welcome(false, "s")).await,
                Some("beat") => self.write(json!({"op": "beat", "t": said["t"], "detect_ms": 65_000})).await,
                Some("bye") => return true,
                other => panic!("a client said {other:?}"),
            }
        }
        false
    }
}

fn welcome(resumed: bool, secret: &str) -> Value {
    json!({
        "op": "welcome", "session": "session", "gen": 1, "resumed": resumed,
        "beat": {"interval_ms": 1000, "min_ms": 1000, "detect_ms": 6500, "leave_hold_ms": 1_800_000},
        "resume": {"secret": secret, "window_ms": 120_000},
        "limits": {"frame_bytes": 65_536, "frames_per_second": 1000}, "node": "n", "time_ms": 1,
    })
}
