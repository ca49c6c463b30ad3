//! The admin API's client: where it is, the token, and what to say when it doesn't answer.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use stillhere_core::text::{Escaped, clip};
use stillhere_server::config::{Config, Flags, environment};
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

/// Longer than any answer takes; a drain or a full page of sessions is a matter of milliseconds.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// The largest answer we read, in bytes: 20,000 sessions with their history.
const ANSWER_BYTES_MAX: u64 = 256 << 20;
/// The largest token file we read, in bytes; a token is 43 characters.
const TOKEN_BYTES_MAX: usize = 4096;

/// What the command line says about where the gateway is.
pub(super) struct Target {
    pub(super) admin: Option<String>,
    pub(super) data_dir: Option<String>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) config: Option<PathBuf>,
}

/// A gateway to talk to.
pub(super) struct Admin {
    agent: Agent,
    address: SocketAddr,
    token_file: PathBuf,
    token: String,
}

impl Admin {
    /// Finds the gateway as `serve` would have been told of it: flags, environment, file, defaults.
    ///
    /// # Errors
    /// When the configuration is wrong or the token can't be read.
    pub(super) fn find(target: Target) -> anyhow::Result<Admin> {
        let Target { admin, data_dir, token_file, config } = target;
        let flags = Flags { config, admin, data_dir, ..Flags::default() };
        let config = Config::load(&flags, environment())?;
        let token_file = token_file.unwrap_or_else(|| config.server.data_dir.join("admin.token"));
        let token = read_token(&token_file)?;
        // No proxy: the token must not leave this machine, whatever the environment says.
        let agent = Agent::config_builder()
            .proxy(None)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIME_MAX))
            .timeout_global(Some(ANSWER_TIME_MAX))
            .max_redirects(0)
            .build();
        Ok(Admin { agent: Agent::new_with_config(agent), address: config.listen.admin, token_file, token })
    }

    /// Asks for something.
    ///
    /// # Errors
    /// When nobody answers, or the answer is an error or not what was asked for.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<T> {
        let pairs = query.iter().map(|(name, value)| (*name, value.as_str()));
        let request = self.agent.get(self.url(path)).header("authorization", self.bearer()).query_pairs(pairs);
        self.read(request.call())
    }

    /// Tells it to do something.
    ///
    /// # Errors
    /// As [`Admin::get`].
    pub(super) fn post<T: DeserializeOwned>(&self, path: &str, body: &serde_json::Value) -> anyhow::Result<T> {
        let request = self.agent.post(self.url(path)).header("authorization", self.bearer());
        self.read(request.send_json(body))
    }

    /// Tells it to change something.
    ///
    /// # Errors
    /// As [`Admin::get`].
    pub(super) fn patch<T: DeserializeOwned>(&self, path: &str, body: &serde_json::Value) -> anyhow::Result<T> {
        let request = self.agent.patch(self.url(path)).header("authorization", self.bearer());
        self.read(request.send_json(body))
    }

    /// Tells it to take something away.
    ///
    /// # Errors
    /// As [`Admin::get`].
    pub(super) fn delete<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<T> {
        let pairs = query.iter().map(|(name, value)| (*name, value.as_str()));
        let request = self.agent.delete(self.url(path)).header("authorization", self.bearer()).query_pairs(pairs);
        self.read(request.call())
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    fn read<T: DeserializeOwned>(&self, answer: Result<Response<Body>, ureq::Error>) -> anyhow::Result<T> {
        let mut response = answer.map_err(|error| self.no_answer(&error))?;
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        let body = body.with_context(|| format!("the answer of {} broke off", self.address))?;
        let status = response.status();
        // An answer may tell of a failure in its own form, as a reload that finds a mistake does.
        if !status.is_success() && status != StatusCode::UNPROCESSABLE_ENTITY {
            bail!(self.refusal(status, &body));
        }
        serde_json::from_str(&body).with_context(|| {
            format!(
                "{} gave an answer that this version doesn't understand; is it a stillhere of another version?",
                self.address
            )
        })
    }

    fn no_answer(&self, error: &ureq::Error) -> anyhow::Error {
        let address = self.address;
        match error {
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => anyhow!(
                "nothing listens on {address}: is `stillhere serve` running? If its admin API is elsewhere, say so \
                 with --admin ADDR"
            ),
            ureq::Error::Timeout(_) => anyhow!("{address} doesn't answer; is it overloaded, stopped, or no stillhere?"),
            error => anyhow!("can't talk to {address}: {error}"),
        }
    }

    fn refusal(&self, status: StatusCode, body: &str) -> String {
        #[derive(Deserialize)]
        struct Refusal {
            error: Inner,
        }
        #[derive(Deserialize)]
        struct Inner {
            message: String,
        }
        if status == StatusCode::UNAUTHORIZED {
            return format!(
                "{} doesn't accept the token in {}: is it another gateway's? Name the right one with --data-dir DIR \
                 or --token-file FILE",
                self.address,
                self.token_file.display()
            );
        }
        match serde_json::from_str::<Refusal>(body) {
            Ok(Refusal { error }) => Escaped(clip(&error.message, 500)).to_string(),
            Err(_) => format!("{} answered {status}; is it a stillhere of another version?", self.address),
        }
    }
}

/// A name as a part of a path: what isn't a letter or digit of ASCII as `%XX`.
pub(super) fn path_part(name: &str) -> String {
    let mut part = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => part.push(char::from(byte)),
            _ => part.push_str(&format!("%{byte:02X}")),
        }
    }
    part
}

fn read_token(path: &PathBuf) -> anyhow::Result<String> {
    let shown = path.display();
    let text = fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => anyhow!(
            "there is no admin token at {shown}: is `stillhere serve` running? It keeps the token in its data \
             directory; name that with --data-dir DIR, or the file with --token-file FILE"
        ),
        io::ErrorKind::PermissionDenied => {
            anyhow!("may not read the admin token {shown}: run this as the user who runs `stillhere serve`")
        }
        _ => anyhow!("can't read the admin token {shown}: {error}"),
    })?;
    let token = text.trim();
    // What can't stand in a header would end as an obscure error, or as another header.
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        bail!("{shown} holds no admin token; `stillhere serve` writes one named admin.token into its data directory");
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leaves_its_place_in_the_path() {
        assert_eq!(path_part("ada-1_x"), "ada-1_x");
        assert_eq!(path_part("../x?y#z"), "%2E%2E%2Fx%3Fy%23z");
        assert_eq!(path_part("你"), "%E4%BD%A0");
    }
}
