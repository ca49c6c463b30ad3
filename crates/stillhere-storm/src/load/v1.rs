//! What the load says to a gateway.

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::link::End;
use crate::frame::Framing;
use crate::frame::talk::{Lost, Wire};
use crate::plan::Asked;

/// The gateway's frames. Its own limit is for what it takes; a page of a room's messages may be longer.
pub(super) const FRAMING: Framing = Framing { max: 1 << 20, ..Framing::STILLHERE };
/// How long hello, an account and a room may take together. A gateway hashes the passwords of new accounts one or two
/// at a time, 40 ms each, and a load may have hundreds.
pub(super) const ENTERING: Duration = Duration::from_secs(30);
/// Messages are said in so many rooms.
const ROOMS: u32 = 10;
/// How long the gateway may take to end a connection after a goodbye.
const LEAVING: Duration = Duration::from_millis(400);
/// What can't be had now is asked for again after this, unless the gateway names a time.
const RETRY: Duration = Duration::from_millis(500);
/// What entering asks has this for an `id`; requests have their numbers.
const ENTER_ID: &str = "enter";

/// One connection's side of the protocol.
pub(super) struct V1 {
    what: Asked,
    user: String,
    password: String,
    room: String,
    /// What makes the `mid` of this run's messages its own.
    tag: String,
    /// How often to be heard.
    pub(super) interval: Duration,
    /// What the gateway pushed since the welcome; told with the next message, so that it keeps nothing for a resume.
    pushes: u64,
}

/// What a frame was to the load.
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    /// The answer to that request.
    Answer(u64),
    /// That request was refused, with this code.
    Refusal(u64, u16),
    /// The gateway ends the connection, with this code.
    Bye(u16),
    /// Something else.
    Aside,
}

#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow)]
    op: Cow<'a, str>,
    #[serde(borrow)]
    re: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    t: Option<u64>,
    code: Option<u16>,
    retry_ms: Option<u64>,
    beat: Option<Granted>,
}

#[derive(Deserialize)]
struct Granted {
    interval_ms: u64,
}

impl V1 {
    pub(super) fn new(what: Asked, tag: &str, index: u32) -> V1 {
        V1 {
            what,
            user: format!("storm-load-{tag}-{index}"),
            password: format!("{index} storms of {tag}"),
            room: format!("storm-load-{}", index % ROOMS),
            tag: tag.to_owned(),
            interval: Duration::from_secs(10),
            pushes: 0,
        }
    }

    /// Says hello; to say something, also becomes a user and joins the room. Where names are claims, or guests may
    /// talk, joining needs no account; elsewhere it registers one, or logs in to the one it had before.
    pub(super) async fn enter(&mut self, wire: &mut Wire) -> Result<(), End> {
        let hello = json!({ "op": "hello", "v": 1, "client": "storm", "user": self.user, "id": ENTER_ID });
        self.request(wire, &hello).await?.map_err(End::Refused)?;
        self.pushes = 0;
        if self.what != Asked::Say {
            return Ok(());
        }
        let join = json!({ "op": "join", "room": self.room, "id": ENTER_ID });
        match self.request(wire, &join).await? {
            Err(1103) => {}
            joined => return joined.map_err(End::Refused),
        }
        for op in ["register", "login"] {
            let account = json!({ "op": op, "user": self.user, "password": self.password, "id": ENTER_ID });
            match self.request(wire, &account).await? {
                Err(1106) => {}
                Err(code) => return Err(End::Refused(code)),
                Ok(()) => break,
            }
        }
        self.request(wire, &join).await?.map_err(End::Refused)
    }

    /// Appends a request's frame.
    pub(super) fn ask(&self, n: u64, out: &mut Vec<u8>) {
        let body = match self.what {
            Asked::Beat => format!(r#"{{"op":"beat","t":{n}}}"#),
            Asked::Say | Asked::Connect | Asked::Frame => {
                let V1 { room, tag, pushes, .. } = self;
                format!(r#"{{"op":"say","room":"{room}","text":"{n}","mid":"{tag}-{n}","id":{n},"ack":{pushes}}}"#)
            }
        };
        FRAMING.write(body.as_bytes(), out);
    }

    /// What a frame is. What has to be answered at once is appended to `reply`.
    pub(super) fn hear(&mut self, body: &[u8], reply: &mut Vec<u8>) -> Heard {
        let Ok(said) = serde_json::from_slice::<Said>(body) else {
            // An empty frame is a sign of life; whatever else it is, it was pushed.
            self.pushes += u64::from(!body.is_empty());
            return Heard::Aside;
        };
        let number = said.re.and_then(|re| re.get().parse().ok());
        match (&*said.op, said.t, number, said.code) {
            ("beat", Some(n), ..) => Heard::Answer(n),
            ("beat", None, ..) => {
                if let Some(id) = said.id {
                    FRAMING.write(format!(r#"{{"op":"beat","re":{id}}}"#).as_bytes(), reply);
                }
                Heard::Aside
            }
            ("ok", _, Some(n), _) => Heard::Answer(n),
            ("error", _, Some(n), Some(code)) => Heard::Refusal(n, code),
            ("bye", _, _, code) => Heard::Bye(code.unwrap_or(4000)),
            ("ok" | "error" | "welcome", ..) => Heard::Aside,
            _ => {
                self.pushes += 1;
                Heard::Aside
            }
        }
    }

    /// Says goodbye and waits until the gateway has ended the connection, so that nothing of the session is kept.
    pub(super) async fn leave(&mut self, wire: &mut Wire) {
        FRAMING.write(br#"{"op":"bye"}"#, wire.out());
        let gone = async { while wire.hear().await.is_ok() {} };
        // Who takes longer is left alone with it.
        let _ = timeout(LEAVING, gone).await;
    }

    /// Asks for something and waits for it, again while the gateway has too much to do; the code of a refusal.
    async fn request(&mut self, wire: &mut Wire, request: &Value) -> Result<Result<(), u16>, End> {
        FRAMING.write(request.to_string().as_bytes(), wire.out());
        loop {
            let body = wire.hear().await.map_err(|lost| match lost {
                Lost::Disconnected => Lost::HelloRefused,
                other => other,
            })?;
            let mut reply = Vec::new();
            if let Heard::Bye(code) = self.hear(&body, &mut reply) {
                return Err(End::Closed(code));
            }
            wire.out().append(&mut reply);
            let Ok(said) = serde_json::from_slice::<Said>(&body) else { continue };
            if said.re.is_none_or(|re| re.get().trim_matches('"') != ENTER_ID) {
                continue;
            }
            if let Some(granted) = said.beat {
                self.interval = Duration::from_millis(granted.interval_ms.max(1000));
            }
            match (&*said.op, said.code) {
                ("error", Some(1201..=1204)) => {
                    sleep(said.retry_ms.map_or(RETRY, Duration::from_millis)).await;
                    FRAMING.write(request.to_string().as_bytes(), wire.out());
                }
                ("error", code) => return Ok(Err(code.unwrap_or(1502))),
                _ => return Ok(Ok(())),
            }
        }
    }
}
