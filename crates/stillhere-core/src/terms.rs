//! The numbers and rules that a shard works with.

use std::time::Duration;

use crate::detector::Rule;
use crate::limits::{ChatLimits, Limits};
use crate::profile::Profile;

/// The numbers a shard works with; an operator may change them while it runs.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The detector's numbers.
    pub rule: Rule,
    /// The interval of sessions that ask for none.
    pub interval: Duration,
    /// The interval up to which a healthy v1 session's is stretched.
    pub interval_max: Duration,
    /// How long a session may be on leave.
    pub leave_hold: Duration,
    /// After how many misses a v1 client is asked for a beat.
    pub ask_at: Option<u32>,
    /// Whether the tutorial's clients are served.
    pub legacy: bool,
    /// Whether clients beyond loopback may say hello over a plain link, where their secrets can be read.
    pub insecure: bool,
    /// Who counts as a user.
    pub identity: IdentityTerms,
    /// The bounds.
    pub limits: Limits,
    /// The bounds of chat.
    pub chat: ChatLimits,
    /// The server's name, for `welcome`.
    pub node: Box<str>,
}

/// Who counts as a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdentityTerms {
    /// A name is a claim: `hello` with a user is enough, and nothing is proven.
    pub open: bool,
    /// Without a user, nothing but hello and the ops of logging in is served, and it must come in time.
    pub required: bool,
    /// A session that hasn't logged in is a user of a made-up name.
    pub guests: bool,
    /// A user has one session; the newer replaces the older.
    pub single: bool,
}

impl Terms {
    /// A profile's numbers with the default bounds: the tutorial's clients are served, and secrets stay off plain links.
    pub fn of(profile: &Profile) -> Terms {
        Terms {
            rule: profile.rule,
            interval: profile.interval,
            interval_max: profile.interval_max,
            leave_hold: profile.leave_hold,
            ask_at: profile.ask_at,
            legacy: true,
            insecure: false,
            identity: IdentityTerms::default(),
            limits: Limits::default(),
            chat: ChatLimits::default(),
            node: "stillhere".into(),
        }
    }
}
