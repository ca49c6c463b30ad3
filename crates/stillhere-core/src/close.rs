//! Why a link was closed and why a status changed: the two tables that wire, logs, metrics and lists share.

use serde::{Deserialize, Serialize};

/// One row of the table of close codes.
struct Row {
    code: CloseCode,
    number: u16,
    name: &'static str,
    reason: &'static str,
}

macro_rules! close_codes {
    ($($variant:ident $number:literal $name:literal $reason:literal;)*) => {
        /// Why the server closed a link. From 4000 to 4499 the client should reconnect (after `retry_ms`), from 4500 to
        /// 4999 it should not.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum CloseCode {
            $(#[doc = $reason] $variant = $number,)*
        }

        const TABLE: &[Row] = &[
            $(Row { code: CloseCode::$variant, number: $number, name: $name, reason: $reason },)*
        ];
    };
}

close_codes! {
    Unknown 4000 "unknown" "closed for a reason that has no code";
    Drain 4001 "drain" "the server is leaving; reconnect";
    BadFrame 4002 "bad_frame" "a frame was malformed";
    ServerError 4003 "server_error" "the server failed at this session";
    Silent 4004 "silent" "nothing was heard for twice the detector's bound";
    SlowConsumer 4005 "slow_consumer" "the peer read too slowly";
    RateLimited 4006 "rate_limited" "too much in too short a time";
    NoHello 4007 "no_hello" "no first frame, hello or login in time";
    ResumeOver 4008 "resume_over" "the resume window is over";
    GoElsewhere 4010 "go_elsewhere" "connect to another node";
    TooManyConnections 4011 "too_many_connections" "too many connections";
    Flapping 4012 "flapping" "connected and dropped too often";
    BadCredentials 4500 "bad_credentials" "the credentials are wrong";
    Banned 4501 "banned" "banned";
    Version 4502 "version" "this version of the protocol isn't spoken here";
    Malformed 4503 "malformed" "malformed frames, repeatedly";
    Kicked 4504 "kicked" "removed by an operator";
    Disabled 4507 "disabled" "the account is disabled";
    LoggedInElsewhere 4508 "logged_in_elsewhere" "logged in elsewhere";
    Replaced 4509 "replaced" "replaced by a newer link of this session";
}

impl CloseCode {
    /// Every code, in order.
    pub fn all() -> impl Iterator<Item = CloseCode> {
        TABLE.iter().map(|row| row.code)
    }

    /// The number on the wire.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The code of that number.
    pub fn from_number(number: u16) -> Option<CloseCode> {
        TABLE.iter().find(|row| row.number == number).map(|row| row.code)
    }

    /// A short name for logs and lists.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The reason in words, as sent in `bye`.
    pub fn reason(self) -> &'static str {
        self.row().reason
    }

    /// Whether the client should come back.
    pub const fn reconnect(self) -> bool {
        self.number() < 4500
    }

    /// Its place in the table; metrics count by it.
    pub fn index(self) -> usize {
        TABLE.iter().position(|row| row.code == self).unwrap_or(0)
    }

    /// How many codes there are.
    pub const COUNT: usize = TABLE.len();

    fn row(self) -> &'static Row {
        &TABLE[self.index()]
    }
}

macro_rules! causes {
    ($($variant:ident $name:literal $meaning:literal;)*) => {
        /// Why a status changed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum Cause {
            $(#[doc = $meaning] $variant,)*
        }

        impl Cause {
            /// Every cause, in the contract's order.
            pub const ALL: &[Cause] = &[$(Cause::$variant,)*];

            /// The word on the wire, in the API and in metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Cause::$variant => $name,)* }
            }

            /// What it means, in a sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(Cause::$variant => $meaning,)* }
            }
        }
    };
}

causes! {
    Silent "silent" "no beat since the first strike that counts";
    Lossy "lossy" "some beats came, but too few";
    Idle "idle" "nothing but beats for a long time, or an act that ended this";
    Declared "declared" "the client said so";
    Dropped "dropped" "the link ended without a goodbye";
    Resumed "resumed" "a new link took the session up again";
    Returned "returned" "a closed session's identity came back";
    Stable "stable" "the cursor went all the way down without touching the threshold";
    Goodbye "goodbye" "the client took its leave";
    Expired "expired" "a hold or window was over";
    Replaced "replaced" "a newer link or session took its place";
    Kicked "kicked" "an operator removed it";
    Limit "limit" "a limit was broken";
    Drain "drain" "the server is leaving";
    Joined "joined" "the user came into the room";
    Parted "parted" "the user left the room; its sessions may go on";
}
