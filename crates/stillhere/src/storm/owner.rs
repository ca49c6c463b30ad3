//! Whether the target's owner agrees: shown by a storm, given by `stillhere storm consent`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use stillhere_core::text::Escaped;
use stillhere_storm::consent::{
    self, Code, Consent, ConsentError, ConsentOptions, PORT, Told, Wants, by_admin, is_own, keep_to, renew,
};
use stillhere_storm::plan::Plan;

use super::{count, end_in_good_order, internal, time};
use crate::output::{self, print, spoken};

/// How a storm shows that the target's owner agrees. On this machine's own addresses nobody has to.
#[derive(clap::Args)]
pub(super) struct Proof {
    /// The code that `stillhere storm consent` shows on the target's host
    #[arg(long, value_name = "CODE", help_heading = "Beyond this machine")]
    consent: Option<String>,
    /// The port where it answers
    #[arg(long, value_name = "PORT", default_value_t = PORT, help_heading = "Beyond this machine")]
    consent_port: u16,
    /// Or the gateway's admin address, for example through a tunnel
    #[arg(long, value_name = "URL", requires = "admin_token", help_heading = "Beyond this machine")]
    admin: Option<String>,
    /// The file with its token
    #[arg(long, value_name = "FILE", requires = "admin", help_heading = "Beyond this machine")]
    admin_token: Option<PathBuf>,
}

/// A consent that is asked for again while this lives.
pub(super) struct Agreed {
    over: Arc<AtomicBool>,
}

impl Drop for Agreed {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

impl Proof {
    /// Makes sure that the plan may be turned on the target. `withdrawn` is set when that ends.
    ///
    /// # Errors
    /// When nobody agrees, or to less than the plan wants; what to do is said.
    pub(super) fn ask(&self, target: SocketAddr, plan: &Plan, withdrawn: Arc<AtomicBool>) -> anyhow::Result<Agreed> {
        let over = Arc::new(AtomicBool::new(false));
        if is_own(target) {
            return Ok(Agreed { over });
        }
        match (&self.consent, &self.admin, &self.admin_token) {
            (Some(code), None, None) => {
                let (code, wants) = (Code::read(code)?, Wants::of(plan, target.port()));
                consent::ask(target.ip(), self.consent_port, &code, &wants)?.admits(plan)?;
                let (host, port, ended) = (target.ip(), self.consent_port, over.clone());
                stop_without(move || renew(host, port, &code, &wants, &ended), withdrawn)?;
            }
            (None, Some(admin), Some(file)) => {
                let token = std::fs::read_to_string(file)
                    .with_context(|| format!("can't read {}", Escaped(&file.to_string_lossy())))?;
                let grant = by_admin(target, admin, token.trim())?;
                grant.admits(plan)?;
                let ended = over.clone();
                stop_without(move || keep_to(&grant, &ended), withdrawn)?;
            }
            (Some(_), Some(_), _) => bail!("give --consent or --admin, not both"),
            _ => bail!(
                "{target} isn't this machine, so its owner must agree: run `stillhere storm consent` there and give \
                 its code with --consent, or the gateway's own --admin URL and --admin-token FILE"
            ),
        }
        Ok(Agreed { over })
    }
}

/// Sets `withdrawn`, and says why, when the owner doesn't agree any more: when `agreed` ends with an error.
fn stop_without(
    agreed: impl FnOnce() -> Result<(), ConsentError> + Send + 'static,
    withdrawn: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let watching = move || {
        if let Err(error) = agreed() {
            withdrawn.store(true, Ordering::Relaxed);
            output::say(&format!("stillhere: {}", Escaped(&error.to_string())));
        }
    };
    std::thread::Builder::new().name("storm-consent".to_owned()).spawn(watching).context("can't start a thread")?;
    Ok(())
}

/// Run on a target's host: allow a storm from elsewhere to meet it, within limits, until it ends.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  stillhere storm consent --ports 14000 --attackers 1000 --for 30m\n\n\
                        It shows a code. Whoever has it can storm these ports of this host within the limits, until \
                        the time is over or this ends (ctrl-c), which stops a running storm within seconds.")]
pub(super) struct Args {
    /// The ports that a storm may meet
    #[arg(long, value_name = "PORT", value_delimiter = ',', required = true)]
    ports: Vec<u16>,
    /// The most attackers
    #[arg(long, value_name = "N", default_value = "1000")]
    attackers: String,
    /// The most connections at once, honest ones among them
    #[arg(long, value_name = "N", default_value = "5000")]
    connections: String,
    /// The most tries and requests a second; no limit if left out
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// For how long
    #[arg(long = "for", value_name = "TIME", default_value = "1h")]
    lasts: String,
    /// Where to answer
    #[arg(long, value_name = "IP:PORT", default_value_t = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT))]
    listen: SocketAddr,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let lasts = time("--for", &args.lasts)?;
    let consent = Consent::bind(ConsentOptions {
        listen: args.listen,
        ports: args.ports.clone(),
        attackers_max: count("--attackers", &args.attackers)?,
        connections_max: count("--connections", &args.connections)?,
        rate_max: args.rate,
        lasts,
    })?;
    let stop = Arc::new(AtomicBool::new(false));
    end_in_good_order(stop.clone());
    let ports: Vec<String> = args.ports.iter().map(u16::to_string).collect();
    print(format!(
        "whoever has this code may storm port {} of this host for {}, with up to {} attackers and {} connections:\n\n  \
         {}\n\n  stillhere storm garbage --target HOST:{} --consent CODE{}\n\nctrl-c withdraws it\n",
        ports.join(", "),
        spoken(lasts),
        args.attackers,
        args.connections,
        consent.code(),
        ports[0],
        if consent.address().port() == PORT {
            String::new()
        } else {
            format!(" --consent-port {}", consent.address().port())
        },
    ))
    .map_err(internal)?;
    let mut seen = std::collections::BTreeSet::new();
    let on_told = move |told: Told| match told {
        // A storm asks every few seconds; its owner wants to hear of it once.
        Told::Granted(from, wants) => {
            if seen.insert(from.ip()) {
                let (port, attackers) = (wants.port, wants.attackers);
                output::say(&format!("{} storms port {port} with {attackers} attackers", from.ip()));
            }
        }
        Told::Refused(from, why) => output::say(&format!("{} was refused: {}", from.ip(), Escaped(&why))),
        Told::WrongCode(from, nth) => output::say(&format!("{} has a wrong code ({nth})", from.ip())),
    };
    consent.run(on_told, &stop);
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use stillhere_storm::consent::Grant;

    use super::*;

    #[test]
    fn a_storm_is_told_when_its_grant_is_over() {
        let (over, withdrawn) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let until = Instant::now() + Duration::from_millis(50);
        let grant = Grant { attackers_max: 1, connections_max: 1, rate_max: None, until };
        stop_without(move || keep_to(&grant, &over), withdrawn.clone()).expect("a thread");
        let patience = Instant::now() + Duration::from_secs(10);
        while !withdrawn.load(Ordering::Relaxed) {
            assert!(Instant::now() < patience, "never told");
            std::thread::yield_now();
        }
    }
}
