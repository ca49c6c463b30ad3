//! The other proof: whoever has the admin token of the gateway that is the target.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use stillhere_core::text::{Escaped, clip};
use stillhere_core::wire::frame::{Decoder, write_frame};
use ureq::Agent;

use super::{ANSWER_TIME, ConsentError, Grant};

/// Attackers that an admin token allows: what one process can be anyway.
pub const ADMIN_ATTACKERS_MAX: u32 = crate::plan::ATTACKERS_MAX;
/// Connections at once that it allows.
pub const ADMIN_CONNECTIONS_MAX: u32 = crate::plan::SOCKETS_MAX;
/// For how long it does: then it is asked again.
pub const ADMIN_LASTS: Duration = Duration::from_secs(6 * 3600);
/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 8 << 20;
/// Pages of sessions that are looked through, of a thousand each, where the target sees us under another address.
const PAGES_MAX: u32 = 64;
/// The largest frame that is taken from the target.
const FRAME_MAX: u32 = 64 * 1024;

/// Whether the gateway that has this admin API is the one at `target`: a session opened there must turn up in its
/// list, under a name that nobody could have guessed. The API is asked on this machine's loopback alone, where it
/// listens, or a tunnel to it does: the token is sent in plain.
///
/// # Errors
/// When the API or the target don't answer, the token is wrong, or the session doesn't turn up: then it is another
/// gateway's.
pub fn by_admin(target: SocketAddr, admin_url: &str, token: &str) -> Result<Grant, ConsentError> {
    let base = check_url(admin_url)?;
    if token.is_empty() || token.len() > 4096 || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(bad("this is no admin token: the gateway keeps it in admin.token of its data directory"));
    }
    let label = format!("storm-{}", super::wire::nonce()?);
    let began = Instant::now();
    let link = open(target, &label)?;
    let own = link.local_addr().map_err(|error| refused(format!("the link to {target} broke: {error}")))?;
    let api = Api { agent: agent(), base, token };
    // Mostly the gateway sees us as we do. If not, all have to be looked through.
    let found = api.has(&label, &format!("limit=10&peer={own}"))?.0 || api.search(&label)?;
    drop(link);
    if !found {
        return Err(refused(format!(
            "the gateway with the admin API at {} has no link from here to {target}: it is another one. Give the token \
             and the API of the target itself",
            Escaped(admin_url)
        )));
    }
    Ok(Grant {
        attackers_max: ADMIN_ATTACKERS_MAX,
        connections_max: ADMIN_CONNECTIONS_MAX,
        rate_max: None,
        until: began + ADMIN_LASTS,
    })
}

fn bad(what: &str) -> ConsentError {
    ConsentError::Bad(what.to_owned())
}

fn refused(what: String) -> ConsentError {
    ConsentError::Refused(what)
}

/// `http://127.0.0.1:14080`, without anything behind it.
fn check_url(url: &str) -> Result<String, ConsentError> {
    let wrong = || {
        bad("the admin API is asked on this machine: write http://127.0.0.1:14080, and for another machine's make a \
             tunnel, ssh -L 14080:127.0.0.1:14080 HOST")
    };
    let authority = url.strip_prefix("http://").ok_or_else(wrong)?.trim_end_matches('/');
    let authority = authority.replace("localhost", "127.0.0.1");
    let address: SocketAddr = authority.parse().map_err(|_| wrong())?;
    if address.ip().is_loopback() { Ok(format!("http://{address}")) } else { Err(wrong()) }
}

fn agent() -> Agent {
    // No proxy and no redirects: the token goes nowhere else, whatever the environment says.
    let config = Agent::config_builder()
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .timeout_global(Some(ANSWER_TIME))
        .build();
    Agent::new_with_config(config)
}

/// Opens a session with this label and keeps its link.
fn open(target: SocketAddr, label: &str) -> Result<TcpStream, ConsentError> {
    let silent = |why: String| ConsentError::Silent { address: target, why };
    let end = Instant::now() + ANSWER_TIME;
    let mut link = TcpStream::connect_timeout(&target, ANSWER_TIME)
        .map_err(|error| refused(format!("can't connect to the target {target}: {error}")))?;
    let mut hello = Vec::new();
    let body = json!({ "op": "hello", "v": 1, "client": label });
    write_frame(&mut hello, |out| out.extend_from_slice(body.to_string().as_bytes()));
    link.write_all(&hello).map_err(|error| silent(error.to_string()))?;
    let (mut decoder, mut buffer) = (Decoder::default(), [0; 4096]);
    loop {
        let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        link.set_read_timeout(Some(left)).map_err(|error| silent(error.to_string()))?;
        let count = link.read(&mut buffer).map_err(|error| silent(error.to_string()))?;
        if count == 0 {
            return Err(refused(format!("{target} doesn't speak v1, so no admin token can speak for it")));
        }
        let mut rest = &buffer[..count];
        while let Some(body) = decoder.next(&mut rest, FRAME_MAX).map_err(|error| silent(error.to_string()))? {
            let said: Value = serde_json::from_slice(body).unwrap_or_default();
            match said["op"].as_str() {
                Some("welcome") => return Ok(link),
                Some("error" | "bye") => {
                    let why = said["message"].as_str().or(said["reason"].as_str()).unwrap_or("without saying why");
                    return Err(refused(format!("{target} refuses: {}", Escaped(clip(why, 300)))));
                }
                Some(_) | None => {}
            }
        }
    }
}

struct Api<'a> {
    agent: Agent,
    base: String,
    token: &'a str,
}

#[derive(Deserialize)]
struct Sessions {
    sessions: Vec<Session>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct Session {
    client: Option<String>,
}

impl Api<'_> {
    /// Whether a session of that label is on this page, and which page is next.
    fn has(&self, label: &str, query: &str) -> Result<(bool, Option<String>), ConsentError> {
        let url = format!("{}/api/v1/sessions?{query}", self.base);
        let broken =
            |why: &dyn std::fmt::Display| refused(format!("the admin API at {} doesn't answer: {why}", self.base));
        let request = self.agent.get(url).header("authorization", format!("Bearer {}", self.token));
        let mut response = request.call().map_err(|error| broken(&error))?;
        let status = response.status().as_u16();
        match status {
            200 => {}
            401 => return Err(refused(format!("the admin API at {} doesn't accept this token", self.base))),
            status => return Err(broken(&format_args!("status {status}"))),
        }
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        let body = body.map_err(|error| broken(&error))?;
        let page: Sessions = serde_json::from_str(&body).map_err(|error| broken(&error))?;
        Ok((page.sessions.iter().any(|session| session.client.as_deref() == Some(label)), page.next))
    }

    fn search(&self, label: &str) -> Result<bool, ConsentError> {
        let mut query = "limit=1000".to_owned();
        for _ in 0..PAGES_MAX {
            let (found, next) = self.has(label, &query)?;
            if found {
                return Ok(true);
            }
            let is_plain =
                |next: &String| next.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte));
            let Some(next) = next.filter(is_plain) else { return Ok(false) };
            query = format!("limit=1000&after={next}");
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    #[test]
    fn the_admin_api_is_asked_on_this_machine_alone() {
        for (url, base) in [
            ("http://127.0.0.1:14080", "http://127.0.0.1:14080"),
            ("http://localhost:1/", "http://127.0.0.1:1"),
            ("http://[::1]:14080", "http://[::1]:14080"),
        ] {
            assert_eq!(check_url(url).unwrap(), base);
        }
        for url in ["", "127.0.0.1:14080", "https://127.0.0.1:1", "http://10.0.0.1:1", "http://localhost.example:1"] {
            assert!(check_url(url).unwrap_err().to_string().contains("ssh -L"), "{url}");
        }
    }

    /// Plays a gateway that welcomes, and an API that knows of the session what `client` makes of its label.
    fn play(status: &'static str, client: impl Fn(&str) -> String + Send + 'static) -> Result<Grant, ConsentError> {
        let gateway = TcpListener::bind("127.0.0.1:0").unwrap();
        let api = TcpListener::bind("127.0.0.1:0").unwrap();
        let (target, admin) = (gateway.local_addr().unwrap(), format!("http://{}", api.local_addr().unwrap()));
        thread::spawn(move || {
            let (mut link, _) = gateway.accept().unwrap();
            let mut header = [0; 4];
            link.read_exact(&mut header).unwrap();
            let mut body = vec![0; u32::from_be_bytes(header) as usize];
            link.read_exact(&mut body).unwrap();
            let hello: Value = serde_json::from_slice(&body).unwrap();
            let mut welcome = Vec::new();
            write_frame(&mut welcome, |out| out.extend_from_slice(br#"{"op":"welcome"}"#));
            link.write_all(&welcome).unwrap();
            let client = client(hello["client"].as_str().unwrap());
            let answer = json!({ "sessions": [{ "client": client }], "total": 1, "next": null }).to_string();
            for stream in api.incoming() {
                let mut stream = stream.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    request.push(byte[0]);
                }
                assert!(String::from_utf8_lossy(&request).to_lowercase().contains("authorization: bearer secret"));
                let head =
                    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
                stream.write_all(format!("{head}{answer}").as_bytes()).unwrap();
            }
        });
        by_admin(target, &admin, "secret")
    }

    #[test]
    fn a_session_that_turns_up_proves_it_and_another_one_does_not() {
        let grant = play("200 OK", str::to_owned).unwrap();
        assert_eq!((grant.attackers_max, grant.connections_max), (ADMIN_ATTACKERS_MAX, ADMIN_CONNECTIONS_MAX));
        let says = |result: Result<Grant, ConsentError>| result.unwrap_err().to_string();
        assert!(says(play("200 OK", |_| "storm-0".to_owned())).contains("it is another one"));
        assert!(says(play("401 Unauthorized", str::to_owned)).contains("doesn't accept this token"));
        assert!(
            says(by_admin(SocketAddr::from(([127, 0, 0, 1], 1)), "http://127.0.0.1:1", "a b")).contains("admin.token")
        );
    }
}
