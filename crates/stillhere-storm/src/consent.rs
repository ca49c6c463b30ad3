//! Whom a storm may be turned on.
//!
//! Without a word only this machine: [`is_own`]. Anything beyond needs the consent of whoever owns the target, in one
//! of two forms, and has the caps that come with it:
//!
//! - [`Consent`] runs on the target's own host and prints a code; the storm shows that it knows the code ([`ask`]), again
//!   and again while it runs ([`renew`]), and stops when nobody answers any more;
//! - [`by_admin`]: the storm has the admin token of the gateway that is the target, and stops when the grant's time is
//!   over ([`keep_to`]).
//!
//! What is proven is that the *address* consents: the question goes by TCP to the very address that the storm is going
//! to meet, never to another that speaks for it. An answer from there needs a listener at that address, and a
//! handshake with it can't be forged from elsewhere. Names are resolved once, before, and asked and met as the same
//! number. Who can listen at a port of a host can consent for it; behind an address that many hosts share, whoever has
//! the port consents for all, so the ports that may be met are named.
//!
//! The code itself never crosses the wire: both ends prove by HMAC over fresh numbers that they have it, so neither
//! somebody who listens in nor a stranger's service at that port can grant or be granted anything.

mod admin;
mod host;
mod wire;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use self::admin::{ADMIN_ATTACKERS_MAX, ADMIN_CONNECTIONS_MAX, ADMIN_LASTS, by_admin};
pub use self::host::{Consent, ConsentOptions, Told};
pub use self::wire::Code;
use self::wire::{Answer, ask_on};
use crate::plan::Plan;

/// Where consent is given unless it is told otherwise.
pub const PORT: u16 = 14_099;
/// How long an answer may take.
pub const ANSWER_TIME: Duration = Duration::from_secs(5);
/// How often a storm asks again while it runs.
pub const RENEW_EVERY: Duration = Duration::from_secs(5);
/// A target under storm may be too busy to answer once; after so many silent questions in a row the storm stops.
const SILENCES_MAX: u32 = 2;
/// How often somebody who waits looks whether it is over.
const GLANCE: Duration = Duration::from_millis(50);

/// What a storm wants to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wants {
    /// The target's port.
    pub port: u16,
    /// Attackers, all together.
    pub attackers: u32,
    /// Connections at once: attackers, honest clients, newcomers and the load's.
    pub connections: u32,
    /// Tries and requests a second, all together; `None` for as fast as it goes.
    pub rate: Option<f64>,
    /// How long.
    pub lasts_ms: u64,
}

/// What a storm may do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grant {
    /// Attackers, all together.
    pub attackers_max: u32,
    /// Connections at once.
    pub connections_max: u32,
    /// Tries and requests a second, all together; `None` for no cap.
    pub rate_max: Option<f64>,
    /// Until when.
    pub until: Instant,
}

/// Why there is no consent, in a sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConsentError {
    /// Nobody there gives consent.
    #[error(
        "nobody at {0} gives consent: run `stillhere storm consent` on the target's host, or give the gateway's admin \
         token"
    )]
    Nobody(SocketAddr),
    /// It was asked and there was no answer in time, or none that makes sense.
    #[error(
        "{address} doesn't answer as `stillhere storm consent` does ({why}); is it running there, and this port its \
         own? After five wrong codes it says nothing for a minute"
    )]
    Silent {
        /// Who.
        address: SocketAddr,
        /// What happened.
        why: String,
    },
    /// The code is wrong, or a stranger answers who has none.
    #[error("{0} doesn't have this code: type it as `stillhere storm consent` shows it there, and mind the address")]
    WrongCode(SocketAddr),
    /// It knows the code and says no.
    #[error("{0}")]
    Refused(String),
    /// The plan is over what is granted.
    #[error("{0}")]
    TooMuch(String),
    /// The caller's fault: what to write instead is said.
    #[error("{0}")]
    Bad(String),
    /// This machine's fault.
    #[error("{what}: {error}")]
    System {
        /// What couldn't be done.
        what: String,
        /// Why.
        error: io::Error,
    },
}

/// Whether an address is this machine's own, which needs nobody's consent.
pub fn is_own(addr: SocketAddr) -> bool {
    addr.ip().to_canonical().is_loopback()
}

impl Wants {
    /// What a plan wants of a target's port. Of a search that is its largest trial.
    pub fn of(plan: &Plan, port: u16) -> Wants {
        let largest = plan.search.as_ref().map(|search| plan.trial(search.max));
        let plan = largest.as_ref().unwrap_or(plan);
        let clamp = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let steps = plan.load.iter().flat_map(|load| &load.steps).map(|step| step.from.max(step.to));
        let loaded = steps.fold(0.0, f64::max);
        let tries: Option<f64> = plan.attacks.iter().map(|attack| attack.rate).sum();
        let time = plan.time;
        let lasts = time.ramp + time.before + time.during + time.after;
        Wants {
            port,
            attackers: clamp(plan.attacks.iter().map(|attack| u64::from(attack.count)).sum()),
            connections: clamp(plan.sockets()),
            rate: tries.map(|tries| tries + loaded),
            lasts_ms: lasts.as_millis() as u64,
        }
    }
}

impl Grant {
    /// Whether a plan stays within it.
    ///
    /// # Errors
    /// [`ConsentError::TooMuch`], with what to change.
    pub fn admits(&self, plan: &Plan) -> Result<(), ConsentError> {
        let wants = Wants::of(plan, 0);
        let left = self.until.saturating_duration_since(Instant::now());
        let too_much = |what: String| Err(ConsentError::TooMuch(what));
        if wants.attackers > self.attackers_max {
            let (wanted, most) = (wants.attackers, self.attackers_max);
            return too_much(format!(
                "the plan has {wanted} attackers, and {most} are allowed: lower `count` or `max`"
            ));
        }
        if wants.connections > self.connections_max {
            let (wanted, most) = (wants.connections, self.connections_max);
            return too_much(format!(
                "the plan has {wanted} connections at once, and {most} are allowed: lower the counts of crowd, attacks \
                 and load"
            ));
        }
        if let Some(most) = self.rate_max
            && wants.rate.is_none_or(|rate| rate > most)
        {
            return too_much(format!(
                "{most} tries and requests a second are allowed: give each attack a `rate`, and all of them together \
                 at most that"
            ));
        }
        if Duration::from_millis(wants.lasts_ms) > left {
            let (wanted, left) = (wants.lasts_ms / 1000, left.as_secs());
            return too_much(format!("the plan lasts {wanted} s, and the consent ends in {left} s: make it shorter"));
        }
        Ok(())
    }
}

/// Asks the host at `host` for consent to meet it, and proves to have the code.
///
/// # Errors
/// When nobody answers there, the code is wrong, or less is allowed than is wanted.
pub fn ask(host: IpAddr, port: u16, code: &Code, wants: &Wants) -> Result<Grant, ConsentError> {
    let address = SocketAddr::new(host, port);
    match ask_on(address, code, wants)? {
        Answer::Granted { attackers_max, connections_max, rate_max, remaining_ms } => {
            // Counted from before the answer came, so that it never lasts longer here than there.
            let until = Instant::now().checked_add(Duration::from_millis(remaining_ms)).unwrap_or_else(Instant::now);
            Ok(Grant { attackers_max, connections_max, rate_max, until })
        }
        Answer::Refused { why } => Err(ConsentError::Refused(stillhere_core::text::Escaped(&why).to_string())),
    }
}

/// Asks again every [`RENEW_EVERY`] until `over` is set; for a thread beside the run.
///
/// # Errors
/// As soon as consent is withdrawn, has ended, or nobody has answered twice in a row: the storm must stop then.
pub fn renew(host: IpAddr, port: u16, code: &Code, wants: &Wants, over: &AtomicBool) -> Result<(), ConsentError> {
    renew_every(RENEW_EVERY, over, || ask(host, port, code, wants))
}

/// Waits until a grant is over, or `over` is set; for a thread beside the run, where nobody is asked again.
///
/// # Errors
/// [`ConsentError::Refused`] when the grant has ended: the storm must stop then.
pub fn keep_to(grant: &Grant, over: &AtomicBool) -> Result<(), ConsentError> {
    while !over.load(Ordering::Relaxed) {
        let left = grant.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ConsentError::Refused("the time for which consent was given is over".to_owned()));
        }
        std::thread::sleep(GLANCE.min(left));
    }
    Ok(())
}

fn renew_every(
    every: Duration,
    over: &AtomicBool,
    mut ask: impl FnMut() -> Result<Grant, ConsentError>,
) -> Result<(), ConsentError> {
    let mut silences = 0;
    loop {
        let next = Instant::now() + every;
        while Instant::now() < next {
            if over.load(Ordering::Relaxed) {
                return Ok(());
            }
            std::thread::sleep(GLANCE.min(every));
        }
        match ask() {
            Ok(_) => silences = 0,
            Err(error @ ConsentError::Silent { .. }) => {
                silences += 1;
                if silences >= SILENCES_MAX {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
