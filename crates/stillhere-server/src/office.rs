//! What operators do to users, bans and rooms, and the record of it. It knows nothing of HTTP, and every call may wait
//! for the disk or for a hash, so none is made on a shard's or the admin runtime's thread.
//!
//! Whatever changes something is one [`Change`]: the store carries it out and writes the line of the audit log in the
//! same transaction, so that there is no one without the other.

mod rows;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use stillhere_core::close::CloseCode;
use stillhere_core::ledger::Place;
use stillhere_core::name::Name;
use tokio::sync::oneshot;
use tracing::error;

use crate::accounts::Accounts;
use crate::accounts::import::Row;
use crate::accounts::people::People;
use crate::clock::wall_ms;
use crate::config::Network;
use rows::at;
pub(crate) use rows::*;

/// Rows of one list, at most.
pub(crate) const LIST_MAX: usize = 1000;
/// Rows of one import; each takes a hash of some 40 ms.
pub(crate) const IMPORT_MAX: usize = 100;
/// The longest reason, topic or notice, in bytes; it must fit in a frame.
pub(crate) const TEXT_BYTES_MAX: usize = 4096;

/// Whom a ban is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    User(Name),
    /// One address or a range.
    Address(Network),
}

/// A ban as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BanRecord {
    pub(crate) subject: Subject,
    /// In milliseconds since 1970; `None`: until it is taken back.
    pub(crate) until_ms: Option<u64>,
    pub(crate) reason: String,
    pub(crate) created_ms: u64,
}

/// A user as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserRecord {
    pub(crate) name: Name,
    /// As stored; never shown.
    pub(crate) password: Option<String>,
    pub(crate) disabled: bool,
    pub(crate) created_ms: u64,
}

/// A room as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RoomRecord {
    pub(crate) name: Name,
    pub(crate) topic: String,
    pub(crate) public: bool,
    pub(crate) owner: Option<Name>,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// A line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuditRecord {
    pub(crate) id: i64,
    pub(crate) time_ms: u64,
    pub(crate) actor: String,
    pub(crate) action: String,
    pub(crate) subject: String,
    pub(crate) detail: String,
}

/// Something that an operator does.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Makes an account; an existing one stays as it is.
    AddUser { name: Name, password: String },
    /// Gives a user another password, takes its tokens and ends its sessions.
    SetPassword { name: Name, password: String },
    /// Lets nobody be this user any more, or again. Disabling takes its tokens and ends its sessions.
    SetDisabled { name: Name, disabled: bool },
    /// Deletes an account with its tokens and ends its sessions.
    DeleteUser { name: Name, purge: bool },
    /// Bans; a user's sessions end.
    Ban(BanRecord),
    /// Takes a ban back.
    Unban(Subject),
    /// Makes a room.
    AddRoom { name: Name, owner: Option<Name>, topic: String, public: bool },
    /// Deletes a room with its messages.
    DeleteRoom { name: Name },
    /// Nothing in the store: something else was done, which is to stand in the log.
    Note,
}

/// What the log says of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Audit {
    /// Such as `users.disable`.
    pub(crate) action: &'static str,
    pub(crate) subject: String,
    pub(crate) detail: String,
}

/// What operators need of the store. What a call changed is on the disk when it returns; an error says that the disk
/// is to blame.
pub(crate) trait Books: People {
    /// Users whose names contain `part`, by name, after `after`; at most `limit`.
    fn users(&self, part: &str, after: Option<&Name>, limit: usize) -> anyhow::Result<Vec<UserRecord>>;

    /// Every ban in force, the newest first.
    fn bans(&self, now_ms: u64) -> anyhow::Result<Vec<BanRecord>>;

    /// Rooms by name, after `after`; at most `limit`.
    fn rooms(&self, after: Option<&Name>, limit: usize) -> anyhow::Result<Vec<RoomRecord>>;

    /// The audit log, the newest first, before `before`; at most `limit`.
    fn audit(&self, before: Option<i64>, limit: usize) -> anyhow::Result<Vec<AuditRecord>>;

    /// Carries a change out and writes it into the log, in one transaction. False, and no line, if there was nothing
    /// to change: no such user, ban or room, or one of that name already.
    fn change(&self, now_ms: u64, change: &Change, audit: &Audit) -> anyhow::Result<bool>;
}

/// Why an operator's wish isn't granted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OfficeError {
    /// The request is wrong; the message says how.
    #[error("{0}")]
    Bad(String),
    /// There is nothing of this name.
    #[error("{0}")]
    NotFound(String),
    /// There is something of this name.
    #[error("{0}")]
    Taken(String),
    /// The store can't be read or written.
    #[error("the store can't be read or written, and nothing was changed: {0:#}; is the disk full?")]
    Storage(anyhow::Error),
}

type Done<T> = Result<T, OfficeError>;

/// The operators' side of accounts and rooms.
pub(crate) struct Office {
    pub(crate) books: Arc<dyn Books>,
    pub(crate) accounts: Accounts,
}

type Errand = Box<dyn FnOnce(&Office) + Send>;

/// The way into the office, whose one thread, `office`, does one errand after the other until the process ends. No more
/// wait than there are connections of operators.
#[derive(Clone)]
pub(crate) struct OfficeDoor(Sender<Errand>);

impl OfficeDoor {
    /// Has something done, and waits for it; `None` if the office has broken down over it.
    pub(crate) async fn run<T: Send + 'static>(&self, act: impl FnOnce(&Office) -> T + Send + 'static) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        // Whoever asked may have gone away; then nobody is told.
        let errand: Errand = Box::new(move |office| drop(sender.send(act(office))));
        self.0.send(errand).ok()?;
        receiver.await.ok()
    }
}

impl Office {
    /// Starts its thread.
    pub(crate) fn open(self) -> std::io::Result<OfficeDoor> {
        let (sender, errands) = channel::<Errand>();
        std::thread::Builder::new().name("office".to_owned()).spawn(move || {
            for errand in errands {
                // Whoever sent it learns of a panic, and the others go on.
                if catch_unwind(AssertUnwindSafe(|| errand(&self))).is_err() {
                    error!("an operator's request has failed by a fault of the server");
                }
            }
        })?;
        Ok(OfficeDoor(sender))
    }

    /// Users, page by page.
    pub(crate) fn users(&self, query: &UsersQuery) -> Done<UserList> {
        let limit = limit(query.limit)?;
        let after = query.after.as_deref().map(user_name).transpose()?;
        let part = query.name.as_deref().unwrap_or_default().to_lowercase();
        let mut rows = storage(self.books.users(&part, after.as_ref(), limit + 1))?;
        let next = next(&mut rows, limit).map(|row: &UserRecord| row.name.to_string());
        Ok(UserList { users: rows.into_iter().map(UserRow::new).collect(), next })
    }

    /// Makes an account.
    pub(crate) fn add_user(&self, new: &NewUser) -> Done<Answer> {
        let name = user_name(&new.name)?;
        let password = self.hash(&name, &new.password)?;
        let taken = || OfficeError::Taken(format!("there is a user {name} already, or was one until lately"));
        self.change(Change::AddUser { name: name.clone(), password }, "users.add", &name, "", taken)?;
        Ok(Answer::new("added", &name))
    }

    /// Changes one thing of a user.
    pub(crate) fn change_user(&self, name: &str, change: &UserChange) -> Done<Answer> {
        let name = user_name(name)?;
        let missing = || no_user(&name);
        match change {
            UserChange::Password(password) => {
                let password = self.hash(&name, password)?;
                let change = Change::SetPassword { name: name.clone(), password };
                self.change(change, "users.passwd", &name, "", missing)?;
                self.accounts.unlock(&name);
                Ok(Answer::new("password set", &name))
            }
            UserChange::Disabled(disabled) => {
                let action = if *disabled { "users.disable" } else { "users.enable" };
                let change = Change::SetDisabled { name: name.clone(), disabled: *disabled };
                self.change(change, action, &name, "", missing)?;
                Ok(Answer::new(if *disabled { "disabled" } else { "enabled" }, &name))
            }
            UserChange::Unlock(Yes) => {
                // Guesses are counted for names without a user as well, so there is nothing to look for.
                self.note("users.unlock", name.to_string(), String::new())?;
                self.accounts.unlock(&name);
                Ok(Answer::new("unlocked", &name))
            }
        }
    }

    /// Deletes an account.
    pub(crate) fn delete_user(&self, name: &str, purge: bool) -> Done<Answer> {
        let name = user_name(name)?;
        let detail = if purge { "with its messages" } else { "" };
        let change = Change::DeleteUser { name: name.clone(), purge };
        self.change(change, "users.delete", &name, detail, || no_user(&name))?;
        self.accounts.unlock(&name);
        Ok(Answer::new("deleted", &name))
    }

    /// Takes over users of whose passwords only the MD5 is known.
    pub(crate) fn import(&self, import: &Import) -> Done<Imported> {
        if import.rows.len() > IMPORT_MAX {
            return Err(OfficeError::Bad(format!("at most {IMPORT_MAX} rows at once; send the rest after them")));
        }
        let rows = import.rows.iter().map(|row| self.import_row(row, import.replace));
        Ok(Imported { results: rows.collect::<Done<_>>()? })
    }

    fn import_row(&self, row: &ImportRow, replace: bool) -> Done<ImportResult> {
        let skipped = |why: String| ImportResult { name: row.name.clone(), done: "skipped", why: Some(why) };
        let Row { name, md5 } = match Row::new(&row.name, &row.md5) {
            Ok(row) => row,
            Err(why) => return Ok(skipped(why)),
        };
        let exists = storage(self.books.account(&name))?.is_some();
        if exists && !replace {
            return Ok(skipped("there is a user of this name; --replace overwrites its password".to_owned()));
        }
        let password = storage(self.accounts.wrap(&md5))?;
        let (change, done) = if exists {
            (Change::SetPassword { name: name.clone(), password }, "replaced")
        } else {
            (Change::AddUser { name: name.clone(), password }, "added")
        };
        let audit = Audit { action: "users.import", subject: name.to_string(), detail: done.to_owned() };
        if !storage(self.books.change(wall_ms(), &change, &audit))? {
            return Ok(skipped("the name is taken, or was until lately".to_owned()));
        }
        Ok(ImportResult { name: name.to_string(), done, why: None })
    }

    /// Every ban in force.
    pub(crate) fn bans(&self) -> Done<BanList> {
        let bans = storage(self.books.bans(wall_ms()))?;
        Ok(BanList { bans: bans.into_iter().map(BanRow::new).collect() })
    }

    /// Banned addresses, and until when, in milliseconds since 1970: what the gate goes by.
    pub(crate) fn banned_addresses(&self) -> Done<Vec<(Network, Option<u64>)>> {
        let bans = storage(self.books.bans(wall_ms()))?;
        let addresses = bans.into_iter().filter_map(|ban| match ban.subject {
            Subject::Address(network) => Some((network, ban.until_ms)),
            Subject::User(_) => None,
        });
        Ok(addresses.collect())
    }

    /// Bans a user or an address. Which of an address' sessions are to end is in the answer's subject.
    pub(crate) fn ban(&self, ban: &NewBan) -> Done<(Answer, Subject)> {
        let subject = subject(ban.user.as_deref(), ban.address.as_deref())?;
        let reason = short("reason", ban.reason.as_deref().unwrap_or_default())?.to_owned();
        let now_ms = wall_ms();
        let until_ms = ban.for_ms.map(|for_ms| now_ms.saturating_add(for_ms));
        let record = BanRecord { subject: subject.clone(), until_ms, reason: reason.clone(), created_ms: now_ms };
        let until = until_ms.map_or_else(|| "for good".to_owned(), |until_ms| format!("until {}", at(until_ms)));
        let detail = if reason.is_empty() { until } else { format!("{until}: {reason}") };
        self.change(Change::Ban(record), "bans.add", &subject, &detail, || nothing(&subject))?;
        Ok((Answer::new("banned", &subject), subject))
    }

    /// Takes a ban back.
    pub(crate) fn unban(&self, query: &BanQuery) -> Done<Answer> {
        let subject = subject(query.user.as_deref(), query.address.as_deref())?;
        let missing = || OfficeError::NotFound(format!("{subject} isn't banned; `stillhere ctl bans` lists who is"));
        self.change(Change::Unban(subject.clone()), "bans.remove", &subject, "", missing)?;
        Ok(Answer::new("unbanned", &subject))
    }

    /// Rooms, page by page.
    pub(crate) fn rooms(&self, query: &RoomsQuery) -> Done<RoomList> {
        let limit = limit(query.limit)?;
        let after = query.after.as_deref().map(room_name).transpose()?;
        let mut rows = storage(self.books.rooms(after.as_ref(), limit + 1))?;
        let next = next(&mut rows, limit).map(|row: &RoomRecord| row.name.to_string());
        Ok(RoomList { rooms: rows.into_iter().map(RoomRow::new).collect(), next })
    }

    /// Makes a room.
    pub(crate) fn add_room(&self, new: &NewRoom) -> Done<Answer> {
        let name = room_name(&new.name)?;
        let owner = new.owner.as_deref().map(user_name).transpose()?;
        if let Some(owner) = &owner
            && storage(self.books.account(owner))?.is_none()
        {
            return Err(no_user(owner));
        }
        let topic = short("topic", new.topic.as_deref().unwrap_or_default())?.to_owned();
        let detail = owner.as_ref().map_or_else(String::new, |owner| format!("owned by {owner}"));
        let change = Change::AddRoom { name: name.clone(), owner, topic, public: new.public.unwrap_or(true) };
        let taken = || OfficeError::Taken(format!("there is a room {name} already, or as many as there may be"));
        self.change(change, "rooms.create", &name, &detail, taken)?;
        Ok(Answer::new("created", &name))
    }

    /// Deletes a room with its messages.
    pub(crate) fn delete_room(&self, name: &str) -> Done<Answer> {
        let name = room_name(name)?;
        let missing = || OfficeError::NotFound(format!("there is no room {name}; `stillhere ctl rooms` lists them"));
        self.change(Change::DeleteRoom { name: name.clone() }, "rooms.delete", &name, "", missing)?;
        Ok(Answer::new("deleted", &name))
    }

    /// What operators did, page by page.
    pub(crate) fn audit(&self, query: &AuditQuery) -> Done<AuditList> {
        let limit = limit(query.limit)?;
        let before = query.after.as_deref().map(|after| {
            after
                .parse()
                .map_err(|_| OfficeError::Bad(format!("after={after}: take it from `next` of the page before")))
        });
        let mut rows = storage(self.books.audit(before.transpose()?, limit + 1))?;
        let next = next(&mut rows, limit).map(|row: &AuditRecord| row.id.to_string());
        Ok(AuditList { audit: rows.into_iter().map(AuditRow::new).collect(), next })
    }

    /// Writes down what was done elsewhere, such as a kick.
    pub(crate) fn note(&self, action: &'static str, subject: String, detail: String) -> Done<()> {
        storage(self.books.change(wall_ms(), &Change::Note, &Audit { action, subject, detail })).map(drop)
    }

    fn hash(&self, name: &Name, password: &str) -> Done<String> {
        storage(self.accounts.hash(name, password))?.map_err(OfficeError::Bad)
    }

    fn change(
        &self,
        change: Change,
        action: &'static str,
        subject: &impl ToString,
        detail: &str,
        otherwise: impl FnOnce() -> OfficeError,
    ) -> Done<()> {
        let audit = Audit { action, subject: subject.to_string(), detail: detail.to_owned() };
        if storage(self.books.change(wall_ms(), &change, &audit))? { Ok(()) } else { Err(otherwise()) }
    }
}

/// With which code a change ends its user's sessions, if it does.
pub(crate) fn ends_sessions(change: &Change) -> Option<(&Name, CloseCode)> {
    match change {
        // Whoever has a session may be why the password was changed.
        Change::SetPassword { name, .. } => Some((name, CloseCode::BadCredentials)),
        Change::SetDisabled { name, disabled: true } | Change::DeleteUser { name, .. } => {
            Some((name, CloseCode::Disabled))
        }
        Change::Ban(BanRecord { subject: Subject::User(name), .. }) => Some((name, CloseCode::Banned)),
        Change::AddUser { .. }
        | Change::SetDisabled { disabled: false, .. }
        | Change::Ban(_)
        | Change::Unban(_)
        | Change::AddRoom { .. }
        | Change::DeleteRoom { .. }
        | Change::Note => None,
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Subject::User(name) => name.fmt(f),
            Subject::Address(network) => network.fmt(f),
        }
    }
}

/// The place that a notice is for, or that is looked at.
pub(crate) fn place(room: Option<&str>, user: Option<&str>) -> Done<Option<Place>> {
    match (room, user) {
        (Some(_), Some(_)) => Err(OfficeError::Bad("name a room or a user, not both".to_owned())),
        (Some(room), None) => Ok(Some(Place::Room(room_name(room)?))),
        (None, Some(user)) => Ok(Some(Place::User(user_name(user)?))),
        (None, None) => Ok(None),
    }
}

/// A text that fits in a frame.
pub(crate) fn short<'a>(what: &str, text: &'a str) -> Done<&'a str> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(OfficeError::Bad(format!("the {what} has {} bytes; at most {TEXT_BYTES_MAX}", text.len())));
    }
    Ok(text)
}

fn subject(user: Option<&str>, address: Option<&str>) -> Done<Subject> {
    match (user, address) {
        (Some(user), None) => Ok(Subject::User(user_name(user)?)),
        (None, Some(address)) => match address.parse() {
            Ok(network) => Ok(Subject::Address(network)),
            Err(error) => Err(OfficeError::Bad(format!("address={address}: {error}"))),
        },
        _ => Err(OfficeError::Bad("name a `user` or an `address`, one of them".to_owned())),
    }
}

fn user_name(text: &str) -> Done<Name> {
    Name::user(text).map_err(|error| OfficeError::Bad(error.to_string()))
}

fn room_name(text: &str) -> Done<Name> {
    Name::room(text).map_err(|error| OfficeError::Bad(error.to_string()))
}

fn no_user(name: &Name) -> OfficeError {
    OfficeError::NotFound(format!("there is no user {name}; `stillhere ctl users list` lists them"))
}

fn nothing(subject: &Subject) -> OfficeError {
    OfficeError::NotFound(format!("{subject} can't be banned"))
}

fn limit(wanted: Option<usize>) -> Done<usize> {
    match wanted.unwrap_or(LIST_MAX - 1) {
        limit @ 1..LIST_MAX => Ok(limit),
        limit => Err(OfficeError::Bad(format!("limit={limit}: it must be from 1 to {}", LIST_MAX - 1))),
    }
}

/// Cuts a list that was fetched with one row too many; the last row if there are more.
fn next<T>(rows: &mut Vec<T>, limit: usize) -> Option<&T> {
    let more = rows.len() > limit;
    rows.truncate(limit);
    rows.last().filter(|_| more)
}

fn storage<T>(result: anyhow::Result<T>) -> Done<T> {
    result.map_err(OfficeError::Storage)
}
