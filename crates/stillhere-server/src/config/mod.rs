//! The configuration: one table of settings ([`keys`]), read from flags, environment, file and defaults, in this
//! order of precedence.
//!
//! It deliberately has no includes, profiles of its own or substitutions; what the detector's named profiles are
//! stands in [`stillhere_core::profile`]. `stillhere serve` loads it at the start and on HUP; the commands that talk
//! to a running gateway read it to find it.

mod error;
mod files;
pub mod keys;
mod network;
mod source;
mod template;
mod value;
mod word;

use std::path::PathBuf;

use stillhere_core::limits::Limits as CoreLimits;
use stillhere_core::profile::Profile;
use stillhere_core::rate::Rate;

pub use error::{ConfigError, ConfigErrors};
pub use files::{FDS_RESERVED, OpenFiles};
pub use keys::{Auth, Config, Detector, KEYS, Key, Limits, Listen, Log, Rooms, SECTIONS, Server};
pub use network::{Network, ParseNetworkError};
pub use template::{EnvRow, default_toml, env_rows};
pub use value::Kind;
pub use word::{AuthMode, Format, Level, RoomsBy, Rotate, SessionsPolicy, Strangers};

use source::{Reader, Settings};

/// What the command line says. Everything is text, so that a wrong value is reported like one from the file.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--config FILE`: the file to read; without it there is none.
    pub config: Option<PathBuf>,
    /// `--listen ADDR`.
    pub listen: Option<String>,
    /// `--admin ADDR`.
    pub admin: Option<String>,
    /// `--data-dir DIR`.
    pub data_dir: Option<String>,
    /// `--insecure`.
    pub insecure: bool,
}

/// A setting that differs between two configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The setting, such as `detector.interval`.
    pub key: String,
    /// Whether a running process can take it over.
    pub reloadable: bool,
    /// What it was, as it would be written.
    pub old: String,
    /// What it is to be.
    pub new: String,
}

impl Config {
    /// Reads everything: flag > environment > file > default.
    ///
    /// # Errors
    /// Everything that is wrong with any source, in the order file, environment, flags, and then what doesn't fit
    /// together.
    pub fn load(flags: &Flags, env: impl Iterator<Item = (String, String)>) -> Result<Config, ConfigErrors> {
        let mut settings = Settings::new();
        if let Some(path) = &flags.config {
            settings.add_file(path);
        }
        settings.add_env(env);
        settings.add_flag("--listen", flags.listen.as_deref());
        settings.add_flag("--admin", flags.admin.as_deref());
        settings.add_flag("--data-dir", flags.data_dir.as_deref());
        settings.add_flag("--insecure", flags.insecure.then_some("true"));
        Config::from_settings(settings)
    }

    /// Reads the text of a file called `name`, and nothing else.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_toml(name: &str, text: &str) -> Result<Config, ConfigErrors> {
        let mut settings = Settings::new();
        settings.add_toml(name, text);
        Config::from_settings(settings)
    }

    fn from_settings(settings: Settings) -> Result<Config, ConfigErrors> {
        let mut reader = Reader::new(&settings);
        let config = Config::read(&mut reader);
        let mut errors = reader.errors;
        // What doesn't fit together is only worth saying when the parts are right.
        if errors.is_empty() {
            config.check_whole(&mut errors);
        }
        let errors: Vec<ConfigError> = settings.errors.into_iter().chain(errors).collect();
        if errors.is_empty() { Ok(config) } else { Err(ConfigErrors(errors)) }
    }

    fn check_whole(&self, errors: &mut Vec<ConfigError>) {
        let mut refuse = |key: &str, message: String| {
            errors.push(ConfigError { place: None, key: Some(key.to_owned()), message });
        };
        let Listen { clients, admin, .. } = self.listen;
        if self.listen.tls_cert.is_some() != self.listen.tls_key.is_some() {
            let (set, missing) =
                if self.listen.tls_cert.is_some() { ("tls_cert", "tls_key") } else { ("tls_key", "tls_cert") };
            refuse(
                &format!("listen.{missing}"),
                format!("[listen] {set} is set and {missing} isn't; TLS needs both, or neither"),
            );
        }
        if !admin.ip().to_canonical().is_loopback() {
            refuse(
                "listen.admin",
                format!(
                    "`[listen] admin = \"{admin}\"`: the admin API listens on loopback only, since this version has no \
                     TLS for it; use 127.0.0.1:{} and reach it through an SSH tunnel",
                    admin.port()
                ),
            );
        }
        if clients == admin && clients.port() != 0 {
            refuse(
                "listen.admin",
                format!("[listen] clients and admin can't both be {clients}; give one another port"),
            );
        }
        if let Err(error) = self.profile().rule.check() {
            refuse("detector", format!("[detector] with profile \"{}\": {error}", self.detector.profile));
        }
    }

    /// The named profile with the overrides of `[detector]`: what the gateway works with.
    pub fn profile(&self) -> Profile {
        let detector = &self.detector;
        let mut profile = Profile::named(detector.profile).copied().unwrap_or_default();
        if let Some(interval) = detector.interval {
            let fixed = profile.interval_max == profile.interval;
            profile.interval = interval;
            profile.interval_max = if fixed { interval } else { profile.interval_max.max(interval) };
        }
        profile.rule.start = detector.start.unwrap_or(profile.rule.start);
        profile.rule.threshold = detector.threshold.unwrap_or(profile.rule.threshold);
        profile.rule.strikes = detector.strikes.unwrap_or(profile.rule.strikes);
        profile.leave_hold = detector.leave_hold.unwrap_or(profile.leave_hold);
        profile
    }

    /// The bounds of chat.
    pub(crate) fn chat_limits(&self) -> stillhere_core::limits::ChatLimits {
        let limits = &self.limits;
        let rate = |per_second, burst| Rate { per_second, burst };
        stillhere_core::limits::ChatLimits {
            text_bytes: limits.text,
            data_bytes: limits.data,
            rooms: limits.rooms_per_session,
            members: limits.members,
            roster: limits.roster,
            messages: rate(limits.messages_per_second, limits.messages_burst),
            address_messages: rate(limits.address_messages_per_second, limits.address_messages_burst),
            room_traffic: rate(limits.room_per_second, limits.room_burst),
            signals: rate(limits.signals_per_second, limits.signals_burst),
            joins: rate(limits.joins_per_second, limits.joins_burst),
            requests: rate(limits.requests_per_second, limits.requests_burst),
            links_per_minute: limits.links_per_minute,
            dry_run: limits.dry_run,
            replay_bytes: limits.replay,
            replay_unlinked: limits.replay_unlinked,
            slow_time: limits.slow_time,
            digest: limits.digest,
        }
    }

    /// The bounds that the core enforces.
    pub fn core_limits(&self) -> CoreLimits {
        let (limits, detector) = (&self.limits, &self.detector);
        CoreLimits {
            frame_bytes: limits.frame,
            first_frame: limits.first_frame,
            frame_time: limits.frame_time,
            frames_per_second: limits.frames_per_second,
            frames_burst: limits.frames_burst,
            partial_bytes: limits.partial,
            retained: limits.retained,
            retained_per_address: limits.retained_per_address,
            remembered: limits.remembered,
            drop_grace: detector.drop_grace,
            dropped_hold: detector.dropped_hold,
            dropped_hold_anonymous: detector.dropped_hold_anonymous,
            return_window: detector.return_window,
            idle_after: detector.idle_after,
        }
    }

    /// How many shards there are: as configured, or one per core this process may use.
    pub fn shards(&self) -> usize {
        match self.server.shards {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            shards => shards,
        }
    }

    /// How many links may be open at a time under these limits of open files: as configured, or as many as fit; 0 when
    /// none does.
    pub fn connections_max(&self, files: OpenFiles) -> usize {
        let room = files.links(self.shards());
        match self.limits.connections {
            0 => room,
            connections => connections.min(room),
        }
    }

    /// What `new` would change, in the order of the table.
    pub fn difference(&self, new: &Config) -> Vec<Change> {
        let texts = KEYS.iter().zip(self.texts().into_iter().zip(new.texts()));
        let changed = texts.filter(|(_, (old, new))| old != new);
        let shown = |text: Option<String>| text.unwrap_or_else(|| "the profile's own".to_owned());
        changed
            .map(|(key, (old, new))| Change {
                key: key.path(),
                reloadable: key.reloadable,
                old: shown(old),
                new: shown(new),
            })
            .collect()
    }
}

impl Default for Config {
    /// What a gateway runs with that is told nothing.
    fn default() -> Config {
        Config::read(&mut Reader::new(&Settings::new()))
    }
}

/// The process's environment as [`Config::load`] takes it. What isn't UTF-8 is kept readable rather than dropped, so
/// that a broken setting is reported.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

#[cfg(test)]
mod tests;
