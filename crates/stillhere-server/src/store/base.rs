//! What the sequencer needs of a database: the seam behind which SQLite can be exchanged, and a test can put one that
//! fails.

use stillhere_core::ledger::{Draft, Role, RoomState, StreamId};
use stillhere_core::name::Name;
use stillhere_core::wire::push;

/// What went wrong with the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// There is no space. What was on the disk is as it was.
    Full,
    /// It can't be read or written, or a commit failed: what the kernel holds of the file may differ from the disk, so
    /// it must be opened again and checked.
    Broken,
    /// This one statement was refused: our fault, and it concerns nobody else.
    Wrong,
}

/// A failed access to the database.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{error}")]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    error: String,
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, error: impl Into<String>) -> Fault {
        Fault { kind, error: error.into() }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Fault {
        use rusqlite::ErrorCode as Code;
        let kind = match error.sqlite_error_code() {
            Some(Code::DiskFull) => FaultKind::Full,
            Some(
                Code::SystemIoFailure
                | Code::CannotOpen
                | Code::DatabaseCorrupt
                | Code::NotADatabase
                | Code::ReadOnly
                | Code::PermissionDenied
                | Code::DatabaseBusy
                | Code::DatabaseLocked
                | Code::OutOfMemory
                | Code::FileLockingProtocolFailed,
            ) => FaultKind::Broken,
            _ => FaultKind::Wrong,
        };
        Fault { kind, error: error.to_string() }
    }
}

pub(crate) type Kept<T> = Result<T, Fault>;

/// A database with one writer, who groups what it writes in transactions.
pub(crate) trait Base: Send {
    /// Begins a transaction.
    fn begin(&mut self) -> Kept<()>;
    /// Ends it: when this returns, all of it is on the disk.
    fn commit(&mut self) -> Kept<()>;
    /// Ends it: none of it was.
    fn rollback(&mut self);
    /// Opens the database again and checks it, after it was [`FaultKind::Broken`].
    fn recover(&mut self) -> anyhow::Result<()>;
    /// What a transaction can read and write.
    fn rows(&mut self) -> &mut dyn Rows;
    /// For `people`, which speaks SQL itself.
    fn connection(&self) -> &rusqlite::Connection;
}

/// A user as the sequencer needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) id: i64,
    /// Whether it has an account, rather than being a claim.
    pub(crate) account: bool,
    pub(crate) disabled: bool,
    pub(crate) mailbox: StreamId,
}

/// The ends of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    /// The newest position, 0 without any.
    pub(crate) head: u64,
    /// Nothing up to here is left.
    pub(crate) trimmed: u64,
}

/// A mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Letters {
    pub(crate) ends: Ends,
    pub(crate) handled: u64,
    /// How many of those after `handled` came from others.
    pub(crate) waiting: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct RoomRow {
    pub(crate) stream: StreamId,
    pub(crate) name: Name,
    pub(crate) state: RoomState,
}

/// What a room remembers of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) role: Role,
    pub(crate) muted_until_ms: u64,
    pub(crate) removed_until_ms: u64,
}

impl Member {
    pub(crate) const NONE: Member = Member { role: Role::Guest, muted_until_ms: 0, removed_until_ms: 0 };
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Talk {
    pub(crate) stream: StreamId,
    /// Bit 0: the user with the lower id has written, bit 1: the other.
    pub(crate) wrote: u8,
}

/// A message of the last minutes.
pub(crate) struct RecentRow {
    pub(crate) seq: u64,
    pub(crate) sender: i64,
    pub(crate) time_ms: u64,
    pub(crate) mid: String,
    pub(crate) text: String,
    pub(crate) data: Option<String>,
}

/// What a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Room,
    Conversation,
    Mailbox,
}

/// How much of a stream to delete.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trim {
    /// Everything up to this position, whatever its age.
    pub(crate) upto: u64,
    /// Everything committed before this moment.
    pub(crate) before_ms: u64,
    /// At most so many rows at a time.
    pub(crate) rows_max: u64,
}

/// Takes one position and message; says whether to go on.
pub(crate) type Each<'a> = &'a mut dyn FnMut(u64, &push::Message<'_>) -> bool;

/// Rows, in the words of the sequencer. What reads sees what the same transaction wrote.
pub(crate) trait Rows {
    fn user(&mut self, name: &Name) -> Kept<Option<User>>;
    /// A user that is only a claim; `None` if the name can't be had.
    fn add_claim(&mut self, name: &Name, now_ms: u64) -> Kept<Option<User>>;
    /// Until when one of these is banned: `Some(None)` for ever.
    fn banned(&mut self, user: &str, address: &str, now_ms: u64) -> Kept<Option<Option<u64>>>;

    fn kind(&mut self, stream: StreamId) -> Kept<Option<Kind>>;
    fn ends(&mut self, stream: StreamId) -> Kept<Ends>;
    fn letters(&mut self, mailbox: StreamId) -> Kept<Letters>;
    fn incoming(&mut self, mailbox: StreamId, after: u64, upto: u64) -> Kept<u64>;
    fn set_handled(&mut self, mailbox: StreamId, position: u64) -> Kept<()>;

    fn rooms(&mut self) -> Kept<u64>;
    fn room(&mut self, name: &Name) -> Kept<Option<RoomRow>>;
    fn room_of(&mut self, stream: StreamId) -> Kept<Option<RoomRow>>;
    fn add_room(&mut self, name: &Name, now_ms: u64) -> Kept<RoomRow>;
    fn set_room(&mut self, stream: StreamId, state: &RoomState) -> Kept<()>;
    fn member(&mut self, stream: StreamId, user: i64) -> Kept<Member>;
    /// Every user who may not speak or not be there, with both moments.
    fn barred(&mut self, stream: StreamId, now_ms: u64) -> Kept<Vec<(i64, Member)>>;
    fn set_member(&mut self, stream: StreamId, user: i64, member: Member) -> Kept<()>;
    fn owners(&mut self, stream: StreamId) -> Kept<u64>;
    /// Rooms that a user owns, perhaps with others.
    fn owned(&mut self, user: i64) -> Kept<u64>;
    fn members(&mut self, stream: StreamId) -> Kept<u64>;

    fn talk(&mut self, low: i64, high: i64) -> Kept<Option<Talk>>;
    fn add_talk(&mut self, low: i64, high: i64) -> Kept<Talk>;
    fn set_wrote(&mut self, stream: StreamId, wrote: u8) -> Kept<()>;
    /// Whether both are members of one room or more than that.
    fn share_room(&mut self, one: i64, other: i64) -> Kept<bool>;
    /// What the one has decided about the other: `Some(true)` allowed, `Some(false)` blocked.
    fn relation(&mut self, user: i64, other: i64) -> Kept<Option<bool>>;
    fn set_relation(&mut self, user: i64, other: i64, allowed: Option<bool>) -> Kept<()>;
    fn relations(&mut self, user: i64) -> Kept<u64>;

    fn post(&mut self, stream: StreamId, seq: u64, sender: i64, time_ms: u64, draft: &Draft) -> Kept<()>;
    /// The entry of a mailbox that refers to a message.
    fn mail(&mut self, mailbox: StreamId, position: u64, talk: StreamId, seq: u64, incoming: bool) -> Kept<()>;
    /// The sender of a message that isn't deleted.
    fn sender(&mut self, stream: StreamId, seq: u64) -> Kept<Option<i64>>;
    /// Overwrites a message; what it was can't be read from the file again.
    fn erase(&mut self, stream: StreamId, seq: u64) -> Kept<()>;
    fn recent(&mut self, stream: StreamId, since_ms: u64, max: u32) -> Kept<Vec<RecentRow>>;
    /// A room's messages after a position, ascending.
    fn room_page(&mut self, stream: StreamId, room: &Name, after: u64, max: u32, each: Each<'_>) -> Kept<()>;
    /// A mailbox's messages after a position, ascending.
    fn mailbox_page(&mut self, stream: StreamId, after: u64, max: u32, each: Each<'_>) -> Kept<()>;
    fn mark_read(&mut self, stream: StreamId, user: i64, seq: u64) -> Kept<()>;

    /// The next streams after this one, for the sweep by age.
    fn streams_after(&mut self, stream: StreamId, max: u32) -> Kept<Vec<(StreamId, Kind)>>;
    /// Deletes from a stream's beginning; how far nothing is left, and whether more is to be deleted.
    fn trim(&mut self, stream: StreamId, kind: Kind, trim: Trim) -> Kept<(u64, bool)>;
}
