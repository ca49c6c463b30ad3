//! What operators send and get, as it is written in JSON.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use stillhere_core::detector::Status;
use stillhere_core::shard::UserView;

use super::{AuditRecord, BanRecord, RoomRecord, Subject, UserRecord};
use crate::accounts::hash::is_wrapped;
use crate::clock::rfc3339;

/// What `GET /api/v1/users` takes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UsersQuery {
    pub(crate) limit: Option<usize>,
    pub(crate) after: Option<String>,
    /// Only names that contain this.
    pub(crate) name: Option<String>,
}

/// What `POST /api/v1/users` takes.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewUser {
    pub(crate) name: String,
    pub(crate) password: String,
}

/// What `PATCH /api/v1/users/{name}` takes: one of them.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub(crate) enum UserChange {
    Password(String),
    Disabled(bool),
    Unlock(Yes),
}

/// `true`, and nothing else.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "bool")]
pub(crate) struct Yes;

impl TryFrom<bool> for Yes {
    type Error = &'static str;

    fn try_from(yes: bool) -> Result<Yes, &'static str> {
        if yes { Ok(Yes) } else { Err("it can only be true: only too many wrong passwords lock an account") }
    }
}

/// What `DELETE /api/v1/users/{name}` takes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeleteQuery {
    /// Whether the user's messages go as well.
    #[serde(default)]
    pub(crate) purge: bool,
}

/// What `POST /api/v1/import` takes.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Import {
    pub(crate) rows: Vec<ImportRow>,
    /// Whether users that exist get the imported password.
    #[serde(default)]
    pub(crate) replace: bool,
}

/// A row as a program sends it; whether it is one is looked at for each.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImportRow {
    pub(crate) name: String,
    pub(crate) md5: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct Imported {
    pub(crate) results: Vec<ImportResult>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ImportResult {
    pub(crate) name: String,
    /// `added`, `replaced` or `skipped`.
    pub(crate) done: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
}

/// What `POST /api/v1/bans` takes: a user or an address.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewBan {
    pub(crate) user: Option<String>,
    pub(crate) address: Option<String>,
    /// Without it the ban holds until it is taken back.
    pub(crate) for_ms: Option<u64>,
    pub(crate) reason: Option<String>,
}

/// What `DELETE /api/v1/bans` takes: a user or an address.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BanQuery {
    pub(crate) user: Option<String>,
    pub(crate) address: Option<String>,
}

/// What `GET /api/v1/rooms` takes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoomsQuery {
    pub(crate) limit: Option<usize>,
    pub(crate) after: Option<String>,
}

/// What `POST /api/v1/rooms` takes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewRoom {
    pub(crate) name: String,
    pub(crate) owner: Option<String>,
    pub(crate) topic: Option<String>,
    pub(crate) public: Option<bool>,
}

/// What `GET /api/v1/audit` takes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditQuery {
    pub(crate) limit: Option<usize>,
    pub(crate) after: Option<String>,
}

/// What `POST /api/v1/notice` takes: to a room, a user, or all.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewNotice {
    pub(crate) text: String,
    pub(crate) room: Option<String>,
    pub(crate) user: Option<String>,
}

/// What `GET /api/v1/who` takes: a room, a user, or nobody in particular.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WhoQuery {
    pub(crate) room: Option<String>,
    pub(crate) user: Option<String>,
}

/// What was done, to whom or what.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Answer {
    pub(crate) done: &'static str,
    pub(crate) subject: String,
}

impl Answer {
    pub(crate) fn new(done: &'static str, subject: &impl ToString) -> Answer {
        Answer { done, subject: subject.to_string() }
    }
}

/// How many sessions a notice was sent to.
#[derive(Debug, Serialize)]
pub(crate) struct Noticed {
    pub(crate) sessions: usize,
}

#[derive(Debug, Serialize)]
pub(crate) struct UserList {
    pub(crate) users: Vec<UserRow>,
    pub(crate) next: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct UserRow {
    pub(crate) name: String,
    pub(crate) disabled: bool,
    /// How the password is kept: `argon2id`, `md5` until the first login after an import, `none` for a claim.
    pub(crate) password: &'static str,
    pub(crate) created: String,
}

impl UserRow {
    pub(super) fn new(user: UserRecord) -> UserRow {
        let password = match user.password.as_deref() {
            None => "none",
            Some(stored) if is_wrapped(stored) => "md5",
            Some(_) => "argon2id",
        };
        UserRow { name: user.name.to_string(), disabled: user.disabled, password, created: at(user.created_ms) }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct BanList {
    pub(crate) bans: Vec<BanRow>,
}

#[derive(Debug, Serialize)]
pub(crate) struct BanRow {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<String>,
    pub(crate) until: Option<String>,
    pub(crate) reason: String,
    pub(crate) created: String,
}

impl BanRow {
    pub(super) fn new(ban: BanRecord) -> BanRow {
        let (user, address) = match ban.subject {
            Subject::User(name) => (Some(name.to_string()), None),
            Subject::Address(network) => (None, Some(network.to_string())),
        };
        BanRow { user, address, until: ban.until_ms.map(at), reason: ban.reason, created: at(ban.created_ms) }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct RoomList {
    pub(crate) rooms: Vec<RoomRow>,
    pub(crate) next: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct RoomRow {
    pub(crate) name: String,
    pub(crate) topic: String,
    pub(crate) public: bool,
    pub(crate) owner: Option<String>,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl RoomRow {
    pub(super) fn new(room: RoomRecord) -> RoomRow {
        let RoomRecord { name, topic, public, owner, messages, bytes } = room;
        RoomRow { name: name.to_string(), topic, public, owner: owner.map(|owner| owner.to_string()), messages, bytes }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct AuditList {
    pub(crate) audit: Vec<AuditRow>,
    pub(crate) next: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct AuditRow {
    pub(crate) id: i64,
    pub(crate) at: String,
    pub(crate) actor: String,
    pub(crate) action: String,
    pub(crate) subject: String,
    pub(crate) detail: String,
}

impl AuditRow {
    pub(super) fn new(line: AuditRecord) -> AuditRow {
        let AuditRecord { id, time_ms, actor, action, subject, detail } = line;
        AuditRow { id, at: at(time_ms), actor, action, subject, detail }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Roster {
    pub(crate) users: Vec<WhoRow>,
}

/// Somebody who is here.
#[derive(Debug, Serialize)]
pub(crate) struct WhoRow {
    pub(crate) user: String,
    pub(crate) verified: bool,
    pub(crate) status: Status,
    pub(crate) cause: Option<stillhere_core::close::Cause>,
    pub(crate) since: String,
    pub(crate) sessions: usize,
}

impl WhoRow {
    pub(crate) fn new(view: UserView) -> WhoRow {
        let UserView { user, verified, status, cause, since_ms, sessions } = view;
        WhoRow { user: user.to_string(), verified, status, cause, since: at(since_ms), sessions }
    }
}

/// A moment in milliseconds since 1970, as the API writes it.
pub(in crate::office) fn at(ms: u64) -> String {
    rfc3339(Timestamp::from_millisecond(i64::try_from(ms).unwrap_or(i64::MAX)).unwrap_or_default())
}
