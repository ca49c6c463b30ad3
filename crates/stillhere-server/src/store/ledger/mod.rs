//! The sequencer: decides each order by what it knows of streams, users and rooms, and notes what is to be told.
//!
//! It runs on the store's thread, inside a transaction that the caller begins and commits. What it keeps in memory is a
//! bounded copy of rows, read when it is first needed; when a transaction fails, [`Ledger::forget`] drops the copy, and
//! it is read again. What is to be told gathers in `told` and leaves only after the commit.
//!
//! Decisions that need no database stand apart: `verdict` here, `recent`, and `rights` in the core.

mod copies;
mod duties;
mod govern;
mod room;
mod talk;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use stillhere_core::close::CloseCode;
use stillhere_core::ledger::{
    Draft, Mailbox, News, Order, OrderId, Outcome, Page, Place, Proof, Refused, Relation, StreamId,
};
use stillhere_core::name::Name;
use stillhere_core::wire::error::ErrorCode;
use stillhere_core::wire::message::write_message;
use stillhere_core::wire::push;

use super::base::{Fault, Kept, Kind, Letters, Rows, Talk, User};
use super::recent::{Print, REMEMBERED_MS, Recent, Seen};
use super::{Rules, Told};
use copies::Copies;
use room::Room;

/// Copies of rows that are kept: users, rooms, mailboxes, conversations; of each kind so many, about 200 bytes a piece.
/// Those that were used longest ago go first.
const COPIES_MAX: usize = 32_768;
/// Messages whose mids are read when a stream is met for the first time. A client repeats what it isn't sure of at once
/// when it is back; who has seen more messages than this go by is late.
const TAIL_MAX: u32 = 1024;
/// What a page holds, in bytes.
const PAGE_BYTES_MAX: usize = 64 << 10;
/// What a page holds, in messages.
const PAGE_MESSAGES_MAX: u32 = 512;
/// Users that one user may have blocked or allowed.
const RELATIONS_MAX: u64 = 10_000;

/// Why there is no outcome.
pub(super) enum Stop {
    Refused(Refused),
    Fault(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Stop {
        Stop::Fault(fault)
    }
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Stop {
        Stop::Refused(refused)
    }
}

pub(super) type Decided<T> = Result<T, Stop>;

/// A refusal in the words of the table.
pub(super) fn refuse(code: ErrorCode) -> Refused {
    code.because(code.meaning).into()
}

/// The same, until a moment.
pub(super) fn refuse_until(code: ErrorCode, now_ms: u64, until_ms: u64) -> Refused {
    Refused { retry: Some(Duration::from_millis(until_ms.saturating_sub(now_ms))), ..refuse(code) }
}

pub(super) struct Ledger {
    rules: Rules,
    users: Copies<Name, User>,
    rooms: Copies<StreamId, Room>,
    room_names: HashMap<Name, StreamId>,
    boxes: Copies<StreamId, Letters>,
    talks: Copies<(i64, i64), (Talk, u64)>,
    recent: Recent,
    /// Which shards get a stream's news. Not a copy: it outlives failures.
    joined: HashMap<StreamId, Vec<(u16, u32)>>,
    /// Joins of this transaction, taken back if it fails.
    fresh: Vec<(StreamId, u16)>,
    /// What is to be told after the commit, by shard.
    told: Vec<Vec<Told>>,
    /// Streams with new messages or trimmed ones, for the index.
    touched: BTreeSet<StreamId>,
    /// Whether a message was deleted whose text the write-ahead log still has.
    erased: bool,
    handled: HashMap<StreamId, u64>,
    handled_since_ms: u64,
    /// Whether this transaction writes the marks.
    marks_written: bool,
    room_count: Option<u64>,
    trims: BTreeMap<StreamId, Kind>,
    sweep: Option<StreamId>,
    sweep_at_ms: u64,
    posted: u64,
    now_ms: u64,
    turn: u64,
    scratch: Vec<u8>,
}

impl Ledger {
    pub(super) fn new(rules: Rules) -> Ledger {
        Ledger {
            told: (0..rules.shards).map(|_| Vec::new()).collect(),
            rules,
            users: Copies::new(),
            rooms: Copies::new(),
            room_names: HashMap::new(),
            boxes: Copies::new(),
            talks: Copies::new(),
            recent: Recent::default(),
            joined: HashMap::new(),
            fresh: Vec::new(),
            erased: false,
            touched: BTreeSet::new(),
            handled: HashMap::new(),
            handled_since_ms: 0,
            marks_written: false,
            room_count: None,
            trims: BTreeMap::new(),
            sweep: None,
            sweep_at_ms: 0,
            posted: 0,
            now_ms: 0,
            turn: 0,
            scratch: Vec::new(),
        }
    }

    /// The time of what follows. A wall clock that was set back doesn't turn the order of messages round.
    pub(super) fn set_now(&mut self, wall_ms: u64) {
        self.now_ms = self.now_ms.max(wall_ms);
        self.turn += 1;
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    pub(super) fn set_rules(&mut self, rules: Rules) {
        let shards = self.rules.shards;
        self.rules = Rules { shards, ..rules };
    }

    /// Decides one order and notes its outcome. An error concerns the whole transaction.
    pub(super) fn decide(&mut self, rows: &mut dyn Rows, shard: usize, id: OrderId, order: &Order) -> Kept<()> {
        match self.outcome(rows, shard, order) {
            Ok(Some(outcome)) => self.tell(shard, Told::Outcome(id, Ok(outcome))),
            Ok(None) => {}
            Err(Stop::Refused(refused)) => self.tell(shard, Told::Outcome(id, Err(refused))),
            Err(Stop::Fault(fault)) => return Err(fault),
        }
        Ok(())
    }

    fn outcome(&mut self, rows: &mut dyn Rows, shard: usize, order: &Order) -> Decided<Option<Outcome>> {
        Ok(Some(match order {
            Order::Enter { user: Some(user), proof: Proof::Claim, address, .. } => {
                self.enter_by_claim(rows, shard, user, *address)?
            }
            // The thread has given these to the accounts.
            Order::Enter { .. } | Order::Password { .. } => return Err(refuse(ErrorCode::INTERNAL).into()),
            Order::Join { room, user } => self.join(rows, shard, room, user)?,
            Order::Release { stream } => {
                self.release(shard, *stream);
                Outcome::Done
            }
            Order::Say { stream, user, draft } => self.say(rows, *stream, user, draft)?,
            Order::Tell { user, to, draft } => self.tell_user(rows, user, to, draft)?,
            Order::Page { stream, after, limit } => Outcome::Page(self.page(rows, *stream, *after, *limit)?),
            Order::Handled { user, position } => {
                self.handle(rows, user, *position)?;
                Outcome::Done
            }
            // The thread gives it to the search after this commit.
            Order::History { .. } => return Ok(None),
            Order::Read { user, place, seq } => {
                self.read(rows, user, place, *seq)?;
                Outcome::Done
            }
            Order::Govern { by, room, act } => {
                self.govern(rows, by, room, act)?;
                Outcome::Done
            }
            Order::Unsay { by, user, seq } => {
                self.unsay(rows, by, user, *seq)?;
                Outcome::Done
            }
            Order::Relate { by, user, relation } => {
                self.relate(rows, by, user, *relation)?;
                Outcome::Done
            }
            Order::MaySee { by, users } => Outcome::MaySee(self.may_see(rows, by, users)?),
        }))
    }

    /// Completes an `Enter` that the accounts have decided.
    pub(super) fn admit(
        &mut self,
        rows: &mut dyn Rows,
        shard: usize,
        id: OrderId,
        user: &Name,
        verified: bool,
        token: Option<&str>,
    ) -> Kept<()> {
        let result = self.user(rows, user).and_then(|found| self.entered(rows, shard, user, found, verified, token));
        match result {
            Ok(outcome) => self.tell(shard, Told::Outcome(id, Ok(outcome))),
            Err(Stop::Refused(refused)) => self.tell(shard, Told::Outcome(id, Err(refused))),
            Err(Stop::Fault(fault)) => return Err(fault),
        }
        Ok(())
    }

    fn enter_by_claim(&mut self, rows: &mut dyn Rows, shard: usize, name: &Name, from: IpAddr) -> Decided<Outcome> {
        if let Some(until_ms) = rows.banned(name.as_str(), &from.to_string(), self.now_ms)? {
            let until = until_ms.map(|until_ms| Duration::from_millis(until_ms.saturating_sub(self.now_ms)));
            let refused = Refused { retry: until, close: Some(CloseCode::Banned), ..refuse(ErrorCode::BANNED) };
            return Err(refused.into());
        }
        let user = match self.find_user(rows, name)? {
            Some(user) => user,
            None => match rows.add_claim(name, self.now_ms)? {
                Some(user) => {
                    self.users.put(name.clone(), user, self.turn);
                    user
                }
                None => return Err(refuse(ErrorCode::NAME_TAKEN).into()),
            },
        };
        verdict(user)?;
        self.entered(rows, shard, name, user, user.account, None)
    }

    fn entered(
        &mut self,
        rows: &mut dyn Rows,
        shard: usize,
        name: &Name,
        user: User,
        verified: bool,
        token: Option<&str>,
    ) -> Decided<Outcome> {
        let letters = *self.letters(rows, user.mailbox)?;
        self.subscribe(shard, user.mailbox);
        let mailbox = Mailbox { stream: user.mailbox, head: letters.ends.head, handled: letters.handled };
        Ok(Outcome::Entered { user: name.clone(), verified, token: token.map(Into::into), mailbox })
    }

    /// A user who may act.
    fn user(&mut self, rows: &mut dyn Rows, name: &Name) -> Decided<User> {
        let user = self.find_user(rows, name)?.ok_or_else(|| refuse(ErrorCode::NO_SUCH_USER))?;
        verdict(user)?;
        Ok(user)
    }

    fn find_user(&mut self, rows: &mut dyn Rows, name: &Name) -> Decided<Option<User>> {
        if let Some(user) = self.users.get(name, self.turn) {
            return Ok(Some(*user));
        }
        let found = rows.user(name)?;
        if let Some(user) = found {
            self.users.put(name.clone(), user, self.turn);
        }
        Ok(found)
    }

    fn letters(&mut self, rows: &mut dyn Rows, mailbox: StreamId) -> Kept<&mut Letters> {
        if !self.boxes.has(&mailbox) {
            let mut letters = rows.letters(mailbox)?;
            if let Some(handled) = self.handled.get(&mailbox) {
                letters.handled = letters.handled.max(*handled);
                letters.waiting = rows.incoming(mailbox, letters.handled, letters.ends.head)?;
            }
            self.boxes.put(mailbox, letters, self.turn);
        }
        // It was just put there.
        self.boxes.get(&mailbox, self.turn).ok_or_else(|| Fault::new(super::base::FaultKind::Wrong, "no mailbox"))
    }

    /// Reads the mids of a stream's newest messages, when the stream is met.
    fn remember_tail(&mut self, rows: &mut dyn Rows, stream: StreamId) -> Kept<()> {
        let since_ms = self.now_ms.saturating_sub(REMEMBERED_MS);
        for row in rows.recent(stream, since_ms, TAIL_MAX)? {
            let print = self.recent.print(stream, row.sender, &row.mid, &row.text, row.data.as_deref());
            if !self.recent.knows(print) {
                self.recent.note(print, row.seq, row.time_ms);
            }
        }
        Ok(())
    }

    fn page(&mut self, rows: &mut dyn Rows, stream: StreamId, after: u64, limit: u32) -> Decided<Page> {
        let max = limit.clamp(1, PAGE_MESSAGES_MAX);
        let (mut messages, mut bytes) = (Vec::new(), 0);
        let mut frame = std::mem::take(&mut self.scratch);
        let mut each = |position: u64, message: &push::Message<'_>| {
            frame.clear();
            write_message(&mut frame, message);
            bytes += frame.len();
            messages.push((position, Bytes::copy_from_slice(&frame)));
            bytes < PAGE_BYTES_MAX
        };
        let room = match self.room(rows, stream) {
            Ok(room) => Some((room.name.clone(), room.ends.head)),
            Err(Stop::Refused(_)) => None,
            Err(fault) => return Err(fault),
        };
        let head = match room {
            Some((name, head)) => {
                rows.room_page(stream, &name, after, max, &mut each)?;
                head
            }
            None if rows.kind(stream)? == Some(Kind::Mailbox) => {
                rows.mailbox_page(stream, after, max, &mut each)?;
                self.letters(rows, stream)?.ends.head
            }
            None => return Err(refuse(ErrorCode::NO_SUCH_ROOM).into()),
        };
        self.scratch = frame;
        let is_cut = messages.len() as u32 >= max || bytes >= PAGE_BYTES_MAX;
        let last = messages.last().map(|(position, _)| *position);
        Ok(Page { upto: last.filter(|_| is_cut).unwrap_or(head), messages })
    }

    fn handle(&mut self, rows: &mut dyn Rows, user: &Name, position: u64) -> Decided<()> {
        let Some(user) = self.find_user(rows, user)? else { return Ok(()) };
        let before = *self.letters(rows, user.mailbox)?;
        let position = position.min(before.ends.head);
        if position <= before.handled {
            return Ok(());
        }
        let taken = rows.incoming(user.mailbox, before.handled, position)?;
        let letters = self.letters(rows, user.mailbox)?;
        letters.handled = position;
        letters.waiting = letters.waiting.saturating_sub(taken);
        if self.handled.is_empty() {
            self.handled_since_ms = self.now_ms;
        }
        self.handled.insert(user.mailbox, position);
        Ok(())
    }

    fn read(&mut self, rows: &mut dyn Rows, user: &Name, place: &Place, seq: u64) -> Decided<()> {
        let user = self.user(rows, user)?;
        let (stream, head) = match place {
            Place::Room(name) => {
                let room = self.room_by_name(rows, name)?;
                (room.stream, room.ends.head)
            }
            Place::User(other) => {
                let other = self.find_user(rows, other)?.ok_or_else(|| refuse(ErrorCode::NO_SUCH_USER))?;
                let (talk, head) =
                    self.find_talk(rows, user.id, other.id)?.ok_or_else(|| refuse(ErrorCode::NO_SUCH_USER))?;
                (talk.stream, head)
            }
        };
        Ok(rows.mark_read(stream, user.id, seq.min(head))?)
    }

    fn relate(&mut self, rows: &mut dyn Rows, by: &Name, other: &Name, relation: Relation) -> Decided<()> {
        let user = self.user(rows, by)?;
        let other = self.find_user(rows, other)?.ok_or_else(|| refuse(ErrorCode::NO_SUCH_USER))?;
        let present = rows.relation(user.id, other.id)?;
        let next = match (relation, present) {
            (Relation::Block, _) => Some(false),
            (Relation::Allow, _) => Some(true),
            // Taking back a block doesn't take back a leave, and the other way round.
            (Relation::Unblock, Some(false)) | (Relation::Disallow, Some(true)) => None,
            (Relation::Unblock | Relation::Disallow, _) => return Ok(()),
        };
        if present.is_none() && rows.relations(user.id)? >= RELATIONS_MAX {
            return Err(refuse(ErrorCode::TOO_MANY).into());
        }
        Ok(rows.set_relation(user.id, other.id, next)?)
    }

    fn may_see(&mut self, rows: &mut dyn Rows, by: &Name, users: &[Name]) -> Decided<Vec<Name>> {
        let by = self.user(rows, by)?;
        let mut allowed = Vec::new();
        for name in users {
            if let Some(user) = self.find_user(rows, name)?
                && rows.relation(user.id, by.id)? == Some(true)
            {
                allowed.push(name.clone());
            }
        }
        Ok(allowed)
    }

    /// From now on this shard gets the stream's news.
    fn subscribe(&mut self, shard: usize, stream: StreamId) {
        let shard = shard as u16;
        let shards = self.joined.entry(stream).or_default();
        match shards.iter_mut().find(|joined| joined.0 == shard) {
            Some((_, times)) => *times += 1,
            None => shards.push((shard, 1)),
        }
        self.fresh.push((stream, shard));
    }

    /// One of the shard's sessions has left; with the last of them the news end.
    pub(super) fn release(&mut self, shard: usize, stream: StreamId) {
        if let Some(shards) = self.joined.get_mut(&stream) {
            for (_, times) in shards.iter_mut().filter(|joined| usize::from(joined.0) == shard) {
                *times -= 1;
            }
            shards.retain(|(_, times)| *times > 0);
            if shards.is_empty() {
                self.joined.remove(&stream);
            }
        }
    }

    fn tell(&mut self, shard: usize, told: Told) {
        if let Some(list) = self.told.get_mut(shard) {
            list.push(told);
        }
    }

    /// Tells every shard that is in a stream.
    fn spread(&mut self, stream: StreamId, news: News) {
        let Some((last, others)) = self.joined.get(&stream).and_then(|shards| shards.split_last()) else { return };
        for (shard, _) in others {
            if let Some(list) = self.told.get_mut(usize::from(*shard)) {
                list.push(Told::News(news.clone()));
            }
        }
        if let Some(list) = self.told.get_mut(usize::from(last.0)) {
            list.push(Told::News(news));
        }
    }

    /// The index is to look at this stream.
    pub(super) fn touch(&mut self, stream: StreamId) {
        self.touched.insert(stream);
    }

    /// Tells every shard.
    pub(super) fn tell_all(&mut self, news: &News) {
        for list in &mut self.told {
            list.push(Told::News(news.clone()));
        }
    }

    fn frame(&mut self, message: &impl serde::Serialize) -> Bytes {
        self.scratch.clear();
        write_message(&mut self.scratch, message);
        Bytes::copy_from_slice(&self.scratch)
    }

    /// What a message with a mid is recognised by.
    fn print(&self, stream: StreamId, sender: i64, draft: &Draft) -> Option<Print> {
        let mid = draft.mid.as_deref()?;
        Some(self.recent.print(stream, sender, mid, &draft.text, draft.data.as_deref()))
    }

    /// Whether a mid was there before: the same message is answered as it was then.
    fn look(&self, print: Option<Print>) -> Decided<Option<Outcome>> {
        let Some(print) = print else { return Ok(None) };
        match self.recent.look(print, self.now_ms) {
            Seen::New => Ok(None),
            Seen::Same { seq, time_ms } => Ok(Some(Outcome::Posted { seq, time_ms })),
            Seen::Other => Err(refuse(ErrorCode::MID_REUSED).into()),
        }
    }

    fn note(&mut self, stream: StreamId, seq: u64, print: Option<Print>) {
        self.posted += 1;
        self.touched.insert(stream);
        if let Some(print) = print {
            self.recent.note(print, seq, self.now_ms);
        }
    }

    /// Whether a message was deleted since this was asked last: its text shall not stay in the write-ahead log.
    pub(super) fn has_erased(&mut self) -> bool {
        std::mem::take(&mut self.erased)
    }

    /// The transaction has been committed: everything that is to be told, by shard, and the streams that changed.
    pub(super) fn committed(&mut self) -> (Vec<Vec<Told>>, BTreeSet<StreamId>) {
        self.fresh.clear();
        // Not every transaction writes them: those of sessions and operators don't.
        if std::mem::take(&mut self.marks_written) {
            self.handled.clear();
        }
        self.users.shrink(COPIES_MAX);
        self.boxes.shrink(COPIES_MAX);
        self.talks.shrink(COPIES_MAX);
        self.rooms.shrink(COPIES_MAX);
        if self.room_names.len() > COPIES_MAX {
            self.room_names.retain(|_, stream| self.rooms.has(stream));
        }
        let empty = (0..self.told.len()).map(|_| Vec::new()).collect();
        (std::mem::replace(&mut self.told, empty), std::mem::take(&mut self.touched))
    }

    /// The transaction has failed: nothing of it has happened, and every copy may be wrong.
    pub(super) fn forget(&mut self) {
        for (stream, shard) in std::mem::take(&mut self.fresh) {
            self.release(usize::from(shard), stream);
        }
        for list in &mut self.told {
            list.clear();
        }
        self.marks_written = false;
        self.touched.clear();
        self.trims.clear();
        self.recent.clear();
        self.forget_people();
        self.forget_rooms();
    }

    /// Users have been changed behind the ledger's back.
    pub(super) fn forget_people(&mut self) {
        self.users.clear();
        self.boxes.clear();
        self.talks.clear();
    }

    /// Rooms have.
    pub(super) fn forget_rooms(&mut self) {
        self.rooms.clear();
        self.room_names.clear();
        self.room_count = None;
    }
}

/// Whether a user may act at all.
fn verdict(user: User) -> Result<(), Refused> {
    if user.disabled {
        return Err(Refused { close: Some(CloseCode::Disabled), ..refuse(ErrorCode::DISABLED) });
    }
    Ok(())
}
