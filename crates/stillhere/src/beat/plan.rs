//! The arguments, checked: each mistake gets a sentence that says what to write instead.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use stillhere_client::{Builder, Client, Ramp};
use stillhere_core::limits::{INTERVAL_MAX, INTERVAL_MIN, LABEL_BYTES_MAX};
use stillhere_core::peer::LEGACY_INTERVAL_MIN;
use stillhere_core::text::Escaped;

use super::BeatArgs;

/// What is to be done.
#[derive(Debug)]
pub(super) struct Plan {
    /// As the user wrote it.
    pub(super) target: String,
    pub(super) count: u32,
    pub(super) ramp: Option<Ramp>,
    pub(super) interval: Duration,
    pub(super) legacy: bool,
    pub(super) duration: Option<Duration>,
    user: Option<String>,
}

impl Plan {
    /// # Errors
    /// When an argument makes no sense: what to write instead.
    pub(super) fn new(args: &BeatArgs) -> anyhow::Result<Plan> {
        let interval = time("--interval", &args.interval)?;
        let shortest = if args.legacy { LEGACY_INTERVAL_MIN } else { INTERVAL_MIN };
        if interval < shortest || interval > INTERVAL_MAX {
            let range = if args.legacy { "with --legacy it can be 10ms to 10m" } else { "a gateway grants 1s to 10m" };
            bail!("--interval `{}` is out of range: {range}", Escaped(&args.interval));
        }
        ensure!(args.user.is_none() || !args.legacy, "--user says nothing with --legacy: leave one of them out");
        let user_bytes = args.user.as_ref().map_or(1, String::len);
        let fits = (1..=LABEL_BYTES_MAX).contains(&user_bytes);
        ensure!(fits, "--user must have 1 to {LABEL_BYTES_MAX} bytes, this has {user_bytes}");
        check_target(&args.target)?;
        Ok(Plan {
            target: args.target.clone(),
            count: count(&args.count)?,
            ramp: args.ramp.as_deref().map(ramp).transpose()?,
            interval,
            legacy: args.legacy,
            duration: args.duration.as_deref().map(|text| time("--for", text)).transpose()?,
            user: args.user.clone(),
        })
    }

    /// Where to connect to; looked up once, so that thousands of clients don't ask again.
    ///
    /// # Errors
    /// When the host isn't found.
    pub(super) fn addresses(&self) -> anyhow::Result<Vec<SocketAddr>> {
        let shown = Escaped(&self.target);
        let found = self.target.to_socket_addrs();
        let addresses: Vec<SocketAddr> =
            found.with_context(|| format!("can't find the host of `{shown}`; check its name"))?.collect();
        ensure!(!addresses.is_empty(), "the host of `{shown}` has no address; check its name");
        Ok(addresses)
    }

    /// What each client is to be.
    pub(super) fn client(&self) -> Builder {
        let mut client =
            Client::builder().name(concat!("stillhere-beat/", env!("CARGO_PKG_VERSION"))).interval(self.interval);
        if let Some(user) = &self.user {
            client = client.user(user);
        }
        if self.legacy { client.legacy() } else { client }
    }

    /// The protocol's name.
    pub(super) fn mode(&self) -> &'static str {
        if self.legacy { "legacy" } else { "v1" }
    }
}

fn check_target(target: &str) -> anyhow::Result<()> {
    let port = target.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    let is_good = matches!(port, Some(Ok(1..)));
    ensure!(is_good, "`{}` is no target: write HOST:PORT, for example 127.0.0.1:14000", Escaped(target));
    Ok(())
}

fn count(text: &str) -> anyhow::Result<u32> {
    match text.parse() {
        Ok(count @ 1..) => Ok(count),
        _ => bail!("--count `{}` is no number of clients: write 1 or more", Escaped(text)),
    }
}

fn ramp(text: &str) -> anyhow::Result<Ramp> {
    let parsed = text.split_once('/').and_then(|(count, per)| Some((count.trim().parse().ok()?, span(per)?)));
    match parsed {
        Some((count @ 1.., per)) => Ok(Ramp { count, per }),
        Some((0, _)) | None => bail!(
            "`{}` is no ramp: write COUNT/TIME, for example 1/10s (one client every ten seconds) or 500/1s",
            Escaped(text)
        ),
    }
}

fn time(flag: &str, text: &str) -> anyhow::Result<Duration> {
    span(text).with_context(|| {
        format!("{flag} `{}` is no time: write a number and a unit, for example 500ms, 10s or 5m", Escaped(text))
    })
}

/// A time such as `10s`, `500ms` or `1h30m`; not zero, not negative.
fn span(text: &str) -> Option<Duration> {
    let span: jiff::SignedDuration = text.trim().parse().ok()?;
    Duration::try_from(span).ok().filter(|span| !span.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> BeatArgs {
        BeatArgs {
            target: "127.0.0.1:14000".to_owned(),
            count: "1".to_owned(),
            ramp: None,
            interval: "10s".to_owned(),
            legacy: false,
            duration: None,
            user: None,
            json: false,
        }
    }

    #[track_caller]
    fn check_refused(change: impl FnOnce(&mut BeatArgs), says: &str) {
        let mut args = args();
        change(&mut args);
        let said = Plan::new(&args).unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
    }

    #[test]
    fn good_arguments_become_a_plan() {
        let plan = Plan::new(&BeatArgs {
            ramp: Some("1/10s".to_owned()),
            interval: "250ms".to_owned(),
            legacy: true,
            duration: Some("1m30s".to_owned()),
            ..args()
        })
        .unwrap();
        assert_eq!(plan.ramp, Some(Ramp { count: 1, per: Duration::from_secs(10) }));
        assert_eq!(plan.interval, Duration::from_millis(250));
        assert_eq!(plan.duration, Some(Duration::from_secs(90)));
        assert_eq!((plan.mode(), &*plan.addresses().unwrap()), ("legacy", &["127.0.0.1:14000".parse().unwrap()][..]));
    }

    #[test]
    fn each_mistake_gets_a_sentence_that_says_what_to_write() {
        for target in ["", "localhost", ":14000", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:70000", "http://x/"] {
            check_refused(|args| args.target = target.to_owned(), "write HOST:PORT");
        }
        for ramp in ["1 per 10", "1/10", "0/1s", "/1s", "-1/1s", "1/-1s", "1/0s", "x/1s", "5000000000/1s"] {
            check_refused(|args| args.ramp = Some(ramp.to_owned()), "write COUNT/TIME");
        }
        for time in ["10", "", "soon", "-10s", "0s", "10s10"] {
            check_refused(|args| args.interval = time.to_owned(), "write a number and a unit");
            check_refused(|args| args.duration = Some(time.to_owned()), "--for");
        }
        check_refused(|args| args.interval = "200ms".to_owned(), "1s to 10m");
        check_refused(|args| (args.legacy, args.interval) = (true, "1ms".to_owned()), "10ms to 10m");
        check_refused(|args| args.interval = "11m".to_owned(), "1s to 10m");
        for count in ["0", "-1", "x", "", "5000000000"] {
            check_refused(|args| args.count = count.to_owned(), "write 1 or more");
        }
        check_refused(|args| (args.legacy, args.user) = (true, Some("ada".to_owned())), "leave one of them out");
        check_refused(|args| args.user = Some("u".repeat(65)), "1 to 64 bytes, this has 65");
    }

    #[test]
    fn what_the_user_typed_is_escaped_when_it_is_quoted() {
        check_refused(|args| args.target = "\u{1b}[31mx".to_owned(), r"\u{1b}[31mx");
    }
}
