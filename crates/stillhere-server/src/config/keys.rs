//! The one table of settings. The typed [`Config`], the TOML file, the environment, the flags, `config default`,
//! `config env` and the answer to a reload all follow from its rows; a new setting is a new row.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::network::Network;
use super::source::Reader;
use super::value::{
    Address, Codec, Count, Directory, Kind, Networks, Optional, OptionalFile, Origins, Size, Span, Switch,
};
use super::word::{AuthMode, Choice, Format, Level, ProfileName, RoomsBy, Rotate, SessionsPolicy, Strangers};

/// One setting: where it is found, what it may be and what it means.
#[derive(Debug)]
pub struct Key {
    /// The TOML section, such as `detector`.
    pub section: &'static str,
    /// The key within its section, such as `interval`.
    pub name: &'static str,
    /// How its value is written.
    pub kind: Kind,
    /// The value it has when nobody sets it, as text; `None` when the profile has it.
    pub default: Option<&'static str>,
    /// The least and the greatest value, both allowed.
    pub range: Option<(&'static str, &'static str)>,
    /// The flag of `stillhere serve` that sets it.
    pub flag: Option<&'static str>,
    /// Whether a reload (HUP, `ctl reload`) applies it to the running process.
    pub reloadable: bool,
    /// What it means and why the default is what it is.
    pub doc: &'static str,
}

impl Key {
    /// Its name in lists and messages, such as `detector.interval`.
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// Its name in the environment, such as `STILLHERE_DETECTOR__INTERVAL`.
    pub fn env(&self) -> String {
        format!("{ENV_PREFIX}{}__{}", self.section.to_uppercase(), self.name.to_uppercase())
    }

    /// The place of `section.name` in [`KEYS`].
    pub(super) fn position(section: &str, name: &str) -> Option<usize> {
        KEYS.iter().position(|key| key.section == section && key.name == name)
    }
}

/// What every setting's name in the environment begins with.
pub const ENV_PREFIX: &str = "STILLHERE_";

macro_rules! optional {
    () => {
        None
    };
    ($value:expr) => {
        Some($value)
    };
}

macro_rules! reloadable {
    (live) => {
        true
    };
    (restart) => {
        false
    };
}

macro_rules! sections {
    ($(
        $section:ident $Section:ident $about:literal {
            $(
                $key:ident : $type:ty [$codec:ty]
                $(= $default:literal)?
                $(in $low:literal to $high:literal)?
                $(flag $flag:literal)?,
                $reload:ident,
                $doc:literal;
            )*
        }
    )*) => {
        $(
            #[doc = $about]
            #[derive(Clone, Debug, PartialEq)]
            pub struct $Section {
                $(#[doc = $doc] pub $key: $type,)*
            }
        )*

        /// Everything that can be set, typed and checked. Made by [`Config::load`].
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            $(#[doc = $about] pub $section: $Section,)*
        }

        /// Every section with what it is about, in the order of `config default`.
        pub const SECTIONS: &[(&str, &str)] = &[$((stringify!($section), $about),)*];

        /// Every setting, section by section.
        pub const KEYS: &[Key] = &[$($(
            Key {
                section: stringify!($section),
                name: stringify!($key),
                kind: <$codec as Codec<$type>>::KIND,
                default: optional!($($default)?),
                range: optional!($(($low, $high))?),
                flag: optional!($($flag)?),
                reloadable: reloadable!($reload),
                doc: $doc,
            },
        )*)*];

        impl Config {
            /// Reads every setting; what is wrong ends up in the reader's errors, and the default takes its place.
            pub(super) fn read(reader: &mut Reader<'_>) -> Config {
                Config {
                    $($section: $Section {
                        $($key: reader.read::<$codec, $type>(stringify!($section), stringify!($key)),)*
                    },)*
                }
            }

            /// The values as text, in the order of [`KEYS`]; `None` for an override that isn't set.
            pub fn texts(&self) -> Vec<Option<String>> {
                vec![$($(<$codec as Codec<$type>>::show(&self.$section.$key),)*)*]
            }

            /// This configuration with the reloadable settings of `new`: what a running process has after a reload.
            pub fn reloaded(&self, new: &Config) -> Config {
                Config {
                    $($section: $Section {
                        $($key: if reloadable!($reload) { &new.$section.$key } else { &self.$section.$key }.clone(),)*
                    },)*
                }
            }
        }
    };
}

sections! {
    listen Listen "What listens where." {
        clients: SocketAddr [Address] = "127.0.0.1:14000" flag "--listen", restart,
            "The address and port for clients. Loopback by default, so that nothing is exposed unasked; `0.0.0.0:14000` or `[::]:14000` for every interface.";
        admin: SocketAddr [Address] = "127.0.0.1:14080" flag "--admin", restart,
            "The address and port of the HTTP API, metrics and health checks. It must be on loopback: this version has no TLS for it.";
        legacy: bool [Switch] = "true", restart,
            "Whether clients may send plain heartbeats without `hello`, as the tutorial's do. They are never written to.";
        insecure: bool [Switch] = "false" flag "--insecure", live,
            "Whether clients beyond loopback may say `hello` over plain TCP, where others can read the secret that resumes their session. Give the gateway a certificate instead (`tls_cert`), or accept the risk in a network of your own.";
        tls_cert: Option<PathBuf> [OptionalFile] = "", live,
            "A PEM file with the certificate for clients and the chain behind it; empty for no TLS. TLS, WebSocket and plain frames share the one port. Read again at every reload, also under the same name; open links stay. `stillhere certs dev` makes one to try.";
        tls_key: Option<PathBuf> [OptionalFile] = "", live,
            "The PEM file with the certificate's private key. Only its owner should be able to read it.";
        origins: Vec<String> [Origins] = "", live,
            "The origins whose pages may open a WebSocket, such as `https://example.com`. Pages of the host that is connected to always may; programs that are no browsers send no origin and always may.";
        proxy: Vec<Network> [Networks] = "", live,
            "The networks in which a proxy stands that speaks the PROXY protocol (version 1 or 2), such as \"10.0.0.0/8\". From there every connection must begin with its header, which gives the client's address for limits, logs and lists; from elsewhere none may.";
    }
    server Server "The process itself." {
        data_dir: PathBuf [Directory] = "./stillhere-data" flag "--data-dir", restart,
            "The directory of the store and of `admin.token`. It is made when it doesn't exist.";
        shards: usize [Count] = "0" in "0" to "1024", restart,
            "How many threads serve clients, each with its own sessions; 0 for one per available core.";
        coalesce: Duration [Span] = "1ms" in "0s" to "100ms", restart,
            "The longest time a busy shard lets input gather before it looks at it all: the latency paid for much less CPU a beat. An idle shard never waits; 0 disables it.";
        drain: Duration [Span] = "10s" in "0s" to "1h", restart,
            "Over how long clients spread their return after a drain (TERM, `ctl drain`): each goodbye carries a random delay up to this.";
    }
    detector Detector "How long silence is tolerated. `stillhere config explain` shows what follows from it." {
        profile: &'static str [ProfileName] = "seed", live,
            "The named detector to start from: seed, seed-demo, deadline, game or mobile. `interval`, `start`, `threshold`, `strikes` and `leave_hold` override its numbers.";
        interval: Option<Duration> [Optional<Span>] in "1s" to "10m", live,
            "The time between beats of a client that asks for no other, and of every legacy client.";
        start: Option<u8> [Optional<Count>] in "0" to "254", live,
            "Where a session's cursor begins and returns to after a strike; below `threshold`.";
        threshold: Option<u8> [Optional<Count>] in "1" to "255", live,
            "The cursor that makes a strike: a beat moves it down, a missed interval up.";
        strikes: Option<u8> [Optional<Count>] in "1" to "255", live,
            "How many strikes put a session on leave.";
        leave_hold: Option<Duration> [Optional<Span>] in "1s" to "168h", live,
            "How long a session may stay on leave before it is closed; beats don't restart it.";
        idle_after: Duration [Span] = "30m" in "1s" to "168h", live,
            "How long after its last act (anything but a beat) a session that ever acted counts as idle and is on leave.";
        drop_grace: Duration [Span] = "3s" in "0s" to "10m", live,
            "How long a v1 session whose link dropped keeps its status, in case the client is back at once.";
        dropped_hold: Duration [Span] = "2m" in "1s" to "24h", live,
            "How long a dropped v1 session can be resumed as if nothing had happened; then it is closed.";
        dropped_hold_anonymous: Duration [Span] = "60s" in "1s" to "24h", live,
            "The same for a session without a user. Shorter, because strangers can make as many as they like.";
        return_window: Duration [Span] = "24h" in "1s" to "720h", live,
            "How long a closed session's identity is remembered, so that who returns is on leave and earns alive.";
    }
    auth Auth "Who may be whom." {
        mode: AuthMode [Choice] = "accounts", restart,
            "accounts or open. With accounts a user proves its name with a password or a token; with open a name is a claim, marked unverified, and there is nothing to register or log in to.";
        register: bool [Switch] = "true", live,
            "Whether whoever connects may register. If not, only the operator makes accounts (`stillhere ctl users add`).";
        required: bool [Switch] = "false", live,
            "Whether a session needs a user even to beat. Clients that only send plain heartbeats have no way to log in.";
        sessions: SessionsPolicy [Choice] = "multi", live,
            "multi or single: whether a user may have several sessions, or a newer one ends the older with 4508.";
        guests: bool [Switch] = "false", live,
            "Whether who hasn't logged in may join public rooms and talk there, under a made-up name that begins with `guest-` and is marked unverified.";
    }
    limits Limits "The bounds that keep one peer from hurting another." {
        connections: usize [Count] = "0" in "0" to "10000000", live,
            "The most links at a time; 0 for as many as the limit of open files allows, less 32 kept in reserve and what the process itself needs. `stillhere check` prints what it comes to.";
        connections_per_address: usize [Count] = "0" in "0" to "10000000", live,
            "The most links from one address; 0 for no limit of its own, since whole offices and proxies share an address.";
        frame: u32 [Size] = "64KiB" in "64B" to "16777215B", live,
            "The largest frame. Below 16 MiB, because the first byte of a length must stay 0x00.";
        first_frame: Duration [Span] = "10s" in "100ms" to "10m", live,
            "The time from accept to the first complete frame; who says nothing is closed then.";
        frame_time: Duration [Span] = "10s" in "100ms" to "10m", live,
            "The time from a frame's first byte to its last, against peers that dribble.";
        frames_per_second: u32 [Count] = "1000" in "0" to "10000000", live,
            "How many frames a second one link may send on average; 0 for no limit. Beating too early is never a kick by itself.";
        frames_burst: u32 [Count] = "2000" in "1" to "10000000", live,
            "How many frames one link may send at once on top of that average.";
        partial: usize [Size] = "32MiB" in "64KiB" to "64GiB", live,
            "What the incomplete frames of all links may occupy together; the link that asks for more is closed with 4006.";
        outbox: usize [Size] = "256KiB" in "4KiB" to "1GiB", restart,
            "What may queue for one slow reader before its link is closed with 4005.";
        send_buffer: usize [Size] = "128KiB" in "4KiB" to "64MiB", restart,
            "The kernel's send buffer of a link (SO_SNDBUF), so that a peer that doesn't read can't hold much memory there.";
        receive_buffer: usize [Size] = "32KiB" in "4KiB" to "64MiB", restart,
            "The kernel's receive buffer of a link (SO_RCVBUF), so that a peer that floods can't pile up work there; the kernel adds as much again for itself.";
        retained: usize [Count] = "20000" in "0" to "100000000", live,
            "How many v1 sessions without a link are kept for a resume; while there are so many, one that loses its link is closed. Those that only said hello get a quarter of it.";
        retained_per_address: usize [Count] = "10000" in "0" to "100000000", live,
            "The same for the sessions of one address.";
        remembered: usize [Count] = "100000" in "0" to "100000000", live,
            "How many closed identities are remembered for `return_window`; the oldest is forgotten first.";
        mailbox: u64 [Count] = "10000" in "1" to "10000000", live,
            "How many messages from others may wait for a user until one of its clients handles them; who writes then gets 1208.";
        text: usize [Size] = "8KiB" in "1B" to "1MiB", live,
            "The longest text of a message or topic.";
        data: usize [Size] = "8KiB" in "1B" to "1MiB", live,
            "The longest `data` of a message or signal, as JSON.";
        rooms_per_session: usize [Count] = "100" in "1" to "10000", live,
            "In how many rooms one session may be.";
        members: usize [Count] = "100000" in "1" to "10000000", live,
            "How many sessions of one shard may be in a room.";
        roster: usize [Count] = "200" in "0" to "100000", live,
            "Up to how many users a room lists who is in it and tells each change of presence; larger rooms give counts. A room of n members costs n pushes for each change.";
        messages_per_second: u32 [Count] = "20" in "0" to "1000000", live,
            "How many messages a user may send a second on average, to rooms and users; 0 for no limit. Like all rates of chat it is counted by each shard.";
        messages_burst: u32 [Count] = "40" in "1" to "1000000", live,
            "How many messages a user may send at once on top of that average.";
        address_messages_per_second: u32 [Count] = "1000" in "0" to "10000000", live,
            "The same for all users of one address: offices and proxies share theirs.";
        address_messages_burst: u32 [Count] = "2000" in "1" to "10000000", live,
            "The same for all users of one address, at once.";
        room_per_second: u32 [Count] = "2000" in "0" to "10000000", live,
            "How many messages and signals one room takes a second on average; 0 for no limit. Each is written to every member.";
        room_burst: u32 [Count] = "4000" in "1" to "10000000", live,
            "How many messages and signals one room takes at once on top of that.";
        signals_per_second: u32 [Count] = "100" in "0" to "1000000", live,
            "How many signals a session may send a second on average; 0 for no limit.";
        signals_burst: u32 [Count] = "200" in "1" to "1000000", live,
            "How many signals a session may send at once on top of that.";
        joins_per_second: u32 [Count] = "10" in "0" to "1000000", live,
            "How many rooms a session may join a second on average; 0 for no limit.";
        joins_burst: u32 [Count] = "100" in "1" to "1000000", live,
            "How many rooms a session may join at once on top of that.";
        requests_per_second: u32 [Count] = "20" in "0" to "1000000", live,
            "How many other requests of chat (history, who, watch, read and changes of rooms) a session may make a second on average; 0 for no limit.";
        requests_burst: u32 [Count] = "100" in "1" to "1000000", live,
            "How many of them it may make at once on top of that.";
        links_per_minute: u32 [Count] = "60" in "0" to "1000000", live,
            "How many links a user may open a minute; more is flapping, and closed with 4012 for half a minute. 0 for no limit.";
        dry_run: bool [Switch] = "false", live,
            "Only count what the rates of chat would refuse, in `stillhere_would_refuse_total`: for finding the right numbers.";
        replay: usize [Size] = "32KiB" in "0B" to "64MiB", live,
            "How many bytes of pushes that a client hasn't acknowledged are kept for its resume. Sessions in a room share them. Nothing is kept while the kernel doesn't take what is written to it, so more than `send_buffer` is of little use.";
        replay_unlinked: usize [Size] = "8MiB" in "0B" to "64GiB", live,
            "What all sessions of a thread that have lost their links may keep of it together; beyond that those that dropped first lose theirs, and catch up from the store when they are back.";
        slow_time: Duration [Span] = "10s" in "100ms" to "10m", live,
            "How long a slow reader may take for what is queued before its link is closed with 4005. Nothing more of rooms is queued meanwhile.";
        digest: Duration [Span] = "5s" in "100ms" to "1h", live,
            "How often a session on leave is told what happened in its rooms.";
        closed: usize [Count] = "10000" in "1" to "1000000", restart,
            "How many closed links `stillhere ctl closed` can show; about 200 bytes each.";
    }
    rooms Rooms "Rooms, and what is kept of what people say." {
        create: RoomsBy [Choice] = "users", live,
            "Who makes rooms: users, by joining one that isn't there, or operators alone.";
        max: u64 [Count] = "10000" in "1" to "10000000", live,
            "How many rooms there may be.";
        max_per_user: u64 [Count] = "100" in "1" to "10000000", live,
            "How many rooms a user may own and still make another one by joining it, so that one user can't make them all.";
        strangers: Strangers [Choice] = "allow", live,
            "Whether users may write to those they share nothing with: allow, or refuse. With refuse they need to have been allowed or written to, or to be invited to a room with them.";
        keep_messages: u64 [Count] = "100000" in "0" to "1000000000", live,
            "How many messages are kept of each room, conversation and mailbox; the oldest are deleted. 0 for all, and a disk that fills.";
        keep_for: Duration [Span] = "8760h" in "0s" to "876000h", live,
            "How long messages are kept; 0 for ever.";
    }
    log Log "What the process says of itself, on standard error and in a file." {
        format: Format [Choice] = "auto", restart,
            "auto, text or json; auto is text on a terminal and JSON otherwise (a file is no terminal).";
        level: Level [Choice] = "info", live,
            "error, warn, info, debug or trace: what is less severe isn't logged. Libraries say no more than warn.";
        file: Option<PathBuf> [OptionalFile] = "", restart,
            "A file to log to as well; empty for none. Rotated files get the day (and hour) they began as a suffix.";
        rotate: Rotate [Choice] = "daily", restart,
            "daily, hourly or never: when a new file begins, in UTC.";
        keep: usize [Count] = "7" in "1" to "10000", restart,
            "How many rotated files to keep besides the current one; the oldest is removed.";
        lines_per_second: u32 [Count] = "20" in "0" to "1000000", restart,
            "How many lines a second of one kind are written; the rest are counted and summed up in one line. 0 for no limit.";
        reaper_interval: Duration [Span] = "20s" in "1s" to "1h", restart,
            "How often the log says how many links were cleared and how many remain.";
    }
}
