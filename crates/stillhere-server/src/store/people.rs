//! Users, tokens, bans and the audit log as SQL: plain functions on a connection, inside the caller's transaction.
//!
//! Who calls it: the accounts and the operators' commands, through `LedgerWriter::ask`. What to hash, and whom to
//! believe, is theirs. Names are canonical (`Name`), moments milliseconds since 1970.
//!
//! **Deleting an account** removes its credentials, tokens, relations, roles, read marks and mailbox. Its messages in
//! rooms and conversations stay, under the name `deleted`; with `purge` they become tombstones. Nobody can take the
//! name for [`NAME_REST_MS`], so that nobody slips into the place of somebody who was known.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};
use stillhere_core::name::Name;

use super::base::Kept;
use super::messages::DELETED_NAME;

/// How long a deleted user's name rests: 30 days.
pub(crate) const NAME_REST_MS: u64 = Duration::from_hours(30 * 24).as_millis() as u64;
/// Tokens of one user; the oldest goes for the next. Each device that remembers its login has one.
pub(crate) const TOKENS_PER_USER_MAX: u64 = 16;
/// Lines of the audit log that are kept; the oldest go.
pub(crate) const AUDIT_MAX: i64 = 100_000;
/// The most rows that a list gives at once.
pub(crate) const LIST_MAX: u32 = 1000;

/// A user with everything the accounts decide by.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct UserRow {
    pub(crate) id: i64,
    pub(crate) name: Name,
    /// Whether it has an account; otherwise it is a claim of `auth.mode = open`.
    pub(crate) account: bool,
    /// A PHC string.
    pub(crate) password: Option<String>,
    /// The tutorial's hash, until the first login.
    pub(crate) legacy_md5: Option<String>,
    pub(crate) disabled: bool,
    pub(crate) created_ms: u64,
}

/// Shows no hash.
impl std::fmt::Debug for UserRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let UserRow { id, name, account, disabled, created_ms, .. } = self;
        f.debug_struct("UserRow")
            .field("id", id)
            .field("name", name)
            .field("account", account)
            .field("disabled", disabled)
            .field("created_ms", created_ms)
            .finish_non_exhaustive()
    }
}

/// Whom a ban is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BanKind {
    User,
    Address,
}

impl BanKind {
    /// The word in the database and on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            BanKind::User => "user",
            BanKind::Address => "address",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ban {
    pub(crate) kind: BanKind,
    /// A user's name or an address.
    pub(crate) subject: String,
    /// `None`: until it is taken back.
    pub(crate) until_ms: Option<u64>,
    pub(crate) reason: String,
    pub(crate) created_ms: u64,
}

/// A line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuditRow {
    pub(crate) id: i64,
    pub(crate) time_ms: u64,
    pub(crate) actor: String,
    pub(crate) action: String,
    pub(crate) subject: String,
    pub(crate) detail: String,
}

const USER: &str = "SELECT id, name, kind, password, legacy_md5, disabled, created_ms FROM user";

fn user_row(row: &Row<'_>) -> rusqlite::Result<UserRow> {
    Ok(UserRow {
        id: row.get(0)?,
        name: Name::of_store(row.get_ref(1)?.as_str()?),
        account: row.get(2)?,
        password: row.get(3)?,
        legacy_md5: row.get(4)?,
        disabled: row.get(5)?,
        created_ms: row.get::<_, i64>(6)? as u64,
    })
}

/// The user of that name.
pub(crate) fn get_user(db: &Connection, name: &Name) -> Kept<Option<UserRow>> {
    let mut select = db.prepare_cached(&format!("{USER} WHERE name = ?1"))?;
    Ok(select.query_row([name.as_str()], user_row).optional()?)
}

/// The user of that number.
pub(crate) fn get_user_by_id(db: &Connection, id: i64) -> Kept<Option<UserRow>> {
    let mut select = db.prepare_cached(&format!("{USER} WHERE id = ?1 AND name IS NOT NULL"))?;
    Ok(select.query_row([id], user_row).optional()?)
}

/// Whether a new user can have this name: nobody has it, had it within [`NAME_REST_MS`], or could be mistaken for what
/// deleted users stand under.
pub(crate) fn name_is_free(db: &Connection, name: &Name, now_ms: u64) -> Kept<bool> {
    if name.as_str() == DELETED_NAME {
        return Ok(false);
    }
    let mut select = db.prepare_cached(
        "SELECT NOT EXISTS (SELECT 1 FROM user WHERE name = ?1)
         AND NOT EXISTS (SELECT 1 FROM gone WHERE name = ?1 AND until_ms > ?2)",
    )?;
    Ok(select.query_row(params![name.as_str(), now_ms as i64], |row| row.get(0))?)
}

/// A new row; the caller has asked [`name_is_free`].
pub(super) fn add_row(db: &Connection, name: &Name, account: bool, now_ms: u64) -> Kept<i64> {
    db.prepare_cached("INSERT INTO stream (kind) VALUES (2)")?.execute([])?;
    let mailbox = db.last_insert_rowid();
    db.prepare_cached("INSERT INTO user (name, kind, created_ms, mailbox) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![name.as_str(), account, now_ms as i64, mailbox])?;
    let id = db.last_insert_rowid();
    db.prepare_cached("DELETE FROM gone WHERE name = ?1")?.execute([name.as_str()])?;
    Ok(id)
}

/// Makes an account and returns its number; `None` if the name is taken (by an account or a claim) or rests.
pub(crate) fn add_user(
    db: &Connection,
    name: &Name,
    password: Option<&str>,
    legacy_md5: Option<&str>,
    now_ms: u64,
) -> Kept<Option<i64>> {
    if !name_is_free(db, name, now_ms)? {
        return Ok(None);
    }
    let id = add_row(db, name, true, now_ms)?;
    db.prepare_cached("UPDATE user SET password = ?2, legacy_md5 = ?3 WHERE id = ?1")?
        .execute(params![id, password, legacy_md5])?;
    Ok(Some(id))
}

/// Makes an account of a claim, or gives an account its next password; an imported hash is gone then. Ends every token
/// if `end_tokens`.
pub(crate) fn set_password(db: &Connection, id: i64, password: &str, end_tokens: bool) -> Kept<()> {
    db.prepare_cached("UPDATE user SET password = ?2, legacy_md5 = NULL, kind = 1 WHERE id = ?1")?
        .execute(params![id, password])?;
    if end_tokens {
        expire_tokens_of(db, id)?;
    }
    Ok(())
}

/// Disables or enables; disabling ends every token. Whether there is such a user.
pub(crate) fn set_disabled(db: &Connection, name: &Name, disabled: bool) -> Kept<bool> {
    let Some(user) = get_user(db, name)? else { return Ok(false) };
    db.prepare_cached("UPDATE user SET disabled = ?2 WHERE id = ?1")?.execute(params![user.id, disabled])?;
    if disabled {
        expire_tokens_of(db, user.id)?;
    }
    Ok(true)
}

/// Deletes an account as the module says. Whether there was one.
pub(crate) fn delete_user(db: &Connection, name: &Name, purge: bool, now_ms: u64) -> Kept<bool> {
    let Some(user) = get_user(db, name)? else { return Ok(false) };
    db.execute(
        "UPDATE user SET name = NULL, password = NULL, legacy_md5 = NULL, disabled = 1 WHERE id = ?1",
        [user.id],
    )?;
    let until_ms = now_ms.saturating_add(NAME_REST_MS) as i64;
    db.execute("INSERT OR REPLACE INTO gone (name, until_ms) VALUES (?1, ?2)", params![name.as_str(), until_ms])?;
    db.execute("DELETE FROM gone WHERE until_ms <= ?1", [now_ms as i64])?;
    for table in ["token", "member", "read_mark"] {
        db.execute(&format!("DELETE FROM {table} WHERE user = ?1"), [user.id])?;
    }
    db.execute("DELETE FROM relation WHERE user = ?1 OR other = ?1", [user.id])?;
    db.execute("DELETE FROM mail WHERE stream = (SELECT mailbox FROM user WHERE id = ?1)", [user.id])?;
    if purge {
        db.pragma_update(None, "secure_delete", "ON")?;
        let purged = db
            .execute(
                "INSERT OR IGNORE INTO unindex (stream, seq)
                 SELECT stream, seq FROM message WHERE sender = ?1 AND NOT deleted",
                [user.id],
            )
            .and_then(|_| {
                db.execute(
                    "UPDATE message SET text = '', data = NULL, deleted = 1 WHERE sender = ?1 AND NOT deleted",
                    [user.id],
                )
            });
        db.pragma_update(None, "secure_delete", "FAST")?;
        purged?;
    }
    Ok(true)
}

/// Users by name, those after `after` whose name contains `part`; at most [`LIST_MAX`].
pub(crate) fn list_users(db: &Connection, part: &str, after: Option<&Name>, limit: u32) -> Kept<Vec<UserRow>> {
    let mut select =
        db.prepare_cached(&format!("{USER} WHERE name > ?1 AND (?2 = '' OR instr(name, ?2)) ORDER BY name LIMIT ?3"))?;
    let rows = select.query_map(params![after.map_or("", Name::as_str), part, limit.min(LIST_MAX)], user_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Adds a token by its hash; a user's oldest ones go beyond [`TOKENS_PER_USER_MAX`].
pub(crate) fn add_token(db: &Connection, hash: &[u8], user: i64, now_ms: u64, expires_ms: u64) -> Kept<()> {
    db.prepare_cached("INSERT INTO token (hash, user, created_ms, expires_ms) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![hash, user, now_ms as i64, expires_ms as i64])?;
    db.prepare_cached(
        "DELETE FROM token WHERE user = ?1 AND hash NOT IN
         (SELECT hash FROM token WHERE user = ?1 ORDER BY created_ms DESC LIMIT ?2)",
    )?
    .execute(params![user, TOKENS_PER_USER_MAX as i64])?;
    Ok(())
}

/// The user of a token that hasn't expired.
pub(crate) fn find_token(db: &Connection, hash: &[u8], now_ms: u64) -> Kept<Option<UserRow>> {
    let mut select = db.prepare_cached("SELECT user FROM token WHERE hash = ?1 AND expires_ms > ?2")?;
    match select.query_row(params![hash, now_ms as i64], |row| row.get(0)).optional()? {
        Some(id) => get_user_by_id(db, id),
        None => Ok(None),
    }
}

/// Ends a user's tokens.
pub(crate) fn expire_tokens_of(db: &Connection, user: i64) -> Kept<()> {
    db.prepare_cached("DELETE FROM token WHERE user = ?1")?.execute([user])?;
    Ok(())
}

/// Deletes tokens that have expired; how many.
pub(crate) fn expire_tokens(db: &Connection, now_ms: u64) -> Kept<usize> {
    Ok(db.execute("DELETE FROM token WHERE expires_ms <= ?1", [now_ms as i64])?)
}

/// Adds a ban, in place of one of the same subject.
pub(crate) fn add_ban(db: &Connection, ban: &Ban) -> Kept<()> {
    db.execute(
        "INSERT OR REPLACE INTO ban (kind, subject, until_ms, reason, created_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            ban.kind.name(),
            ban.subject,
            ban.until_ms.map(|until_ms| until_ms as i64),
            ban.reason,
            ban.created_ms as i64
        ],
    )?;
    Ok(())
}

/// Takes a ban back; whether there was one.
pub(crate) fn remove_ban(db: &Connection, kind: BanKind, subject: &str) -> Kept<bool> {
    Ok(db.execute("DELETE FROM ban WHERE kind = ?1 AND subject = ?2", [kind.name(), subject])? > 0)
}

/// Every ban that holds, the newest first; at most [`LIST_MAX`]. Those that have ended are deleted.
pub(crate) fn list_bans(db: &Connection, now_ms: u64) -> Kept<Vec<Ban>> {
    db.execute("DELETE FROM ban WHERE until_ms <= ?1", [now_ms as i64])?;
    let mut select = db.prepare_cached(
        "SELECT kind, subject, until_ms, reason, created_ms FROM ban ORDER BY created_ms DESC LIMIT ?1",
    )?;
    let rows = select.query_map([LIST_MAX], |row| {
        let kind = if row.get_ref(0)?.as_str()? == "user" { BanKind::User } else { BanKind::Address };
        Ok(Ban {
            kind,
            subject: row.get(1)?,
            until_ms: row.get::<_, Option<i64>>(2)?.map(|ms| ms as u64),
            reason: row.get(3)?,
            created_ms: row.get::<_, i64>(4)? as u64,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Until when this user or this address is banned: `Some(None)` until it is taken back, `None` if it isn't.
pub(crate) fn banned(
    db: &Connection,
    user: Option<&str>,
    address: Option<&str>,
    now_ms: u64,
) -> Kept<Option<Option<u64>>> {
    let mut select = db.prepare_cached(
        "SELECT until_ms FROM ban
         WHERE ((kind = 'user' AND subject = ?1) OR (kind = 'address' AND subject = ?2))
         AND (until_ms IS NULL OR until_ms > ?3)
         ORDER BY until_ms IS NULL DESC, until_ms DESC LIMIT 1",
    )?;
    let until: Option<Option<i64>> =
        select.query_row(params![user, address, now_ms as i64], |row| row.get(0)).optional()?;
    Ok(until.map(|until| until.map(|ms| ms as u64)))
}

/// Adds a line to the audit log; the oldest go beyond [`AUDIT_MAX`].
pub(crate) fn audit(db: &Connection, now_ms: u64, actor: &str, action: &str, subject: &str, detail: &str) -> Kept<()> {
    db.prepare_cached("INSERT INTO audit (time_ms, actor, action, subject, detail) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![now_ms as i64, actor, action, subject, detail])?;
    db.prepare_cached("DELETE FROM audit WHERE id <= ?1")?.execute([db.last_insert_rowid() - AUDIT_MAX])?;
    Ok(())
}

/// Lines of the audit log, the newest first, those before `before`; at most [`LIST_MAX`].
pub(crate) fn list_audit(db: &Connection, before: Option<i64>, limit: u32) -> Kept<Vec<AuditRow>> {
    let mut select = db.prepare_cached(
        "SELECT id, time_ms, actor, action, subject, detail FROM audit WHERE id < ?1 ORDER BY id DESC LIMIT ?2",
    )?;
    let rows = select.query_map(params![before.unwrap_or(i64::MAX), limit.min(LIST_MAX)], |row| {
        Ok(AuditRow {
            id: row.get(0)?,
            time_ms: row.get::<_, i64>(1)? as u64,
            actor: row.get(2)?,
            action: row.get(3)?,
            subject: row.get(4)?,
            detail: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
