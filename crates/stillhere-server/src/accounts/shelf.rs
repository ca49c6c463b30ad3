//! Users, bans, rooms and the audit log in the embedded store.
//!
//! It reads through a connection of its own, so that a herd that logs in doesn't stand in the way of messages, and has
//! the store's thread write. Both see what was committed.

use std::net::IpAddr;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, anyhow};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use stillhere_core::ledger::{OrderId, Outcome, Refused};
use stillhere_core::name::Name;
use stillhere_core::secret::SecretHash;

use super::people::{Account, Answers, Ban, Entry, People};
use crate::config::Network;
use crate::office::{Audit, AuditRecord, BanRecord, Books, Change, RoomRecord, Subject, UserRecord, ends_sessions};
use crate::store::people::{self, BanKind};
use crate::store::{Desk, LedgerWriter};

/// Who did what stands in the audit log: whoever has the token.
const ACTOR: &str = "operator";

/// The embedded store, as accounts and operators see it.
pub(crate) struct Shelf {
    ledger: LedgerWriter,
    /// Locked for each look.
    reader: Mutex<Connection>,
}

impl Shelf {
    /// On the store that runs in `dir`.
    pub(crate) fn open(dir: &Path, ledger: LedgerWriter) -> anyhow::Result<Shelf> {
        let path = dir.join("stillhere.db");
        let reader = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .with_context(|| format!("can't read {}", path.display()))?;
        Ok(Shelf { ledger, reader: Mutex::new(reader) })
    }

    fn read<T, E>(&self, look: impl FnOnce(&Connection) -> Result<T, E>) -> anyhow::Result<T>
    where
        anyhow::Error: From<E>,
    {
        Ok(look(&self.reader.lock().unwrap_or_else(PoisonError::into_inner))?)
    }

    /// Has the store's thread do something, and waits until it is committed.
    fn write<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Desk<'_>) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let (sender, receiver) = sync_channel(1);
        self.ledger.ask(Box::new(move |desk| match act(desk) {
            // The one who asked waits for it, so telling can't fail.
            Ok(done) => desk.then(move |committed| drop(sender.send(committed.then_some(done)))),
            Err(error) => {
                desk.abandon(&error.to_string());
                drop(sender);
            }
        }));
        match receiver.recv() {
            Ok(Some(done)) => Ok(done),
            Ok(None) | Err(_) => Err(anyhow!("the change could not be committed")),
        }
    }
}

impl People for Shelf {
    fn account(&self, name: &Name) -> anyhow::Result<Option<Account>> {
        let user = self.read(|db| people::get_user(db, name))?;
        Ok(user.map(|user| Account { password: user.password.map(Into::into), disabled: user.disabled }))
    }

    fn add(&self, name: &Name, password: &str, now_ms: u64) -> anyhow::Result<bool> {
        let (name, password) = (name.clone(), password.to_owned());
        self.write(move |desk| {
            Ok(desk.change_people(|db| people::add_user(db, &name, Some(&password), None, now_ms))?.is_some())
        })
    }

    fn set_password(&self, name: &Name, password: &str, revoke_tokens: bool) -> anyhow::Result<bool> {
        let (name, password) = (name.clone(), password.to_owned());
        self.write(move |desk| set_password(desk, &name, &password, revoke_tokens))
    }

    fn add_token(&self, name: &Name, hash: &SecretHash, now_ms: u64, expires_ms: u64) -> anyhow::Result<()> {
        let (name, hash) = (name.clone(), *hash);
        self.write(move |desk| {
            Ok(desk.people(|db| match people::get_user(db, &name)? {
                Some(user) => people::add_token(db, &hash.0, user.id, now_ms, expires_ms),
                None => Ok(()),
            })?)
        })
    }

    fn token(&self, hash: &SecretHash) -> anyhow::Result<Option<(Name, u64)>> {
        self.read(|db| {
            let mut select = db.prepare_cached(
                "SELECT u.name, t.expires_ms FROM token t JOIN user u ON u.id = t.user
                 WHERE t.hash = ?1 AND u.name IS NOT NULL",
            )?;
            let found = select.query_row([&hash.0[..]], |row| {
                Ok((Name::of_store(row.get_ref(0)?.as_str()?), row.get::<_, i64>(1)?.unsigned_abs()))
            });
            found.optional()
        })
    }

    fn refresh_token(&self, hash: &SecretHash, expires_ms: u64) -> anyhow::Result<()> {
        let hash = *hash;
        self.write(move |desk| {
            Ok(desk.people(|db| {
                db.execute(
                    "UPDATE token SET expires_ms = ?2 WHERE hash = ?1",
                    params![&hash.0[..], expires_ms as i64],
                )?;
                Ok(())
            })?)
        })
    }

    fn ban(&self, user: Option<&Name>, address: IpAddr, now_ms: u64) -> anyhow::Result<Option<Ban>> {
        self.read(|db| {
            let by_name = match user {
                Some(user) => people::banned(db, Some(user.as_str()), None, now_ms)?,
                None => None,
            };
            let mut select = db.prepare_cached(
                "SELECT subject, until_ms FROM ban
                 WHERE kind = 'address' AND (until_ms IS NULL OR until_ms > ?1)",
            )?;
            let mut bans: Vec<Ban> = by_name.map(|until_ms| Ban { until_ms }).into_iter().collect();
            let mut rows = select.query([now_ms as i64])?;
            while let Some(row) = rows.next()? {
                let network = row.get_ref(0)?.as_str().ok().and_then(|text| text.parse::<Network>().ok());
                if network.is_some_and(|network| network.contains(address)) {
                    bans.push(Ban { until_ms: row.get::<_, Option<i64>>(1)?.map(i64::unsigned_abs) });
                }
            }
            anyhow::Ok(bans.into_iter().max_by_key(|ban| ban.until_ms.unwrap_or(u64::MAX)))
        })
    }
}

impl Books for Shelf {
    fn users(&self, part: &str, after: Option<&Name>, limit: usize) -> anyhow::Result<Vec<UserRecord>> {
        let rows = self.read(|db| people::list_users(db, part, after, limit as u32))?;
        let record = |user: people::UserRow| UserRecord {
            name: user.name,
            password: user.password,
            disabled: user.disabled,
            created_ms: user.created_ms,
        };
        Ok(rows.into_iter().map(record).collect())
    }

    fn bans(&self, now_ms: u64) -> anyhow::Result<Vec<BanRecord>> {
        // It deletes those that have ended, so it isn't a look.
        let bans = self.write(move |desk| Ok(desk.people(|db| people::list_bans(db, now_ms))?))?;
        let record = |ban: people::Ban| {
            let subject = match ban.kind {
                BanKind::User => Subject::User(Name::of_store(ban.subject)),
                BanKind::Address => Subject::Address(ban.subject.parse()?),
            };
            Ok(BanRecord { subject, until_ms: ban.until_ms, reason: ban.reason, created_ms: ban.created_ms })
        };
        bans.into_iter().map(record).collect()
    }

    fn rooms(&self, after: Option<&Name>, limit: usize) -> anyhow::Result<Vec<RoomRecord>> {
        let after = after.cloned();
        let rooms = self.write(move |desk| Ok(desk.rooms(after.as_ref(), limit as u32)?))?;
        let record = |room: crate::store::RoomInfo| RoomRecord {
            name: room.name,
            topic: room.topic,
            public: room.public,
            owner: room.owner,
            messages: room.messages,
            bytes: room.bytes,
        };
        Ok(rooms.into_iter().map(record).collect())
    }

    fn audit(&self, before: Option<i64>, limit: usize) -> anyhow::Result<Vec<AuditRecord>> {
        let lines = self.read(|db| people::list_audit(db, before, limit as u32))?;
        let record = |line: people::AuditRow| {
            let people::AuditRow { id, time_ms, actor, action, subject, detail } = line;
            AuditRecord { id, time_ms, actor, action, subject, detail }
        };
        Ok(lines.into_iter().map(record).collect())
    }

    fn change(&self, now_ms: u64, change: &Change, audit: &Audit) -> anyhow::Result<bool> {
        let (change, audit) = (change.clone(), audit.clone());
        self.write(move |desk| {
            let done = carry_out(desk, &change, now_ms)?;
            if done {
                let Audit { action, subject, detail } = &audit;
                desk.people(|db| people::audit(db, now_ms, ACTOR, action, subject, detail))?;
            }
            Ok(done)
        })
    }
}

fn carry_out(desk: &mut Desk<'_>, change: &Change, now_ms: u64) -> anyhow::Result<bool> {
    Ok(match change {
        Change::AddUser { name, password } => {
            desk.change_people(|db| people::add_user(db, name, Some(password), None, now_ms))?.is_some()
        }
        Change::SetPassword { name, password } => {
            let done = set_password(desk, name, password, true)?;
            if let Some((name, code)) = ends_sessions(change).filter(|_| done) {
                desk.end_sessions(name, code);
            }
            done
        }
        // These end sessions by themselves.
        Change::SetDisabled { name, disabled } => desk.set_disabled(name, *disabled)?,
        Change::DeleteUser { name, purge } => desk.delete_user(name, *purge)?,
        Change::Ban(ban) => {
            let (kind, subject) = kept(&ban.subject);
            let BanRecord { until_ms, reason, created_ms, .. } = ban.clone();
            desk.ban(&people::Ban { kind, subject, until_ms, reason, created_ms })?;
            true
        }
        Change::Unban(subject) => {
            let (kind, subject) = kept(subject);
            desk.people(|db| people::remove_ban(db, kind, &subject))?
        }
        Change::AddRoom { name, owner, topic, public } => {
            let made = desk.make_room(name, owner.as_ref())?;
            if made && !(topic.is_empty() && *public) {
                desk.describe_room(name, topic, *public)?;
            }
            made
        }
        Change::DeleteRoom { name } => desk.delete_room(name)?,
        Change::Note => true,
    })
}

fn set_password(desk: &mut Desk<'_>, name: &Name, password: &str, end_tokens: bool) -> anyhow::Result<bool> {
    Ok(desk.change_people(|db| match people::get_user(db, name)? {
        Some(user) => people::set_password(db, user.id, password, end_tokens).map(|()| true),
        None => Ok(false),
    })?)
}

/// As the store keeps it: a single address without its bits.
fn kept(subject: &Subject) -> (BanKind, String) {
    match subject {
        Subject::User(name) => (BanKind::User, name.to_string()),
        Subject::Address(network) => {
            let text = network.to_string();
            let single = text.split_once('/').filter(|(address, bits)| *bits == whole(address));
            (BanKind::Address, single.map_or_else(|| text.clone(), |(address, _)| address.to_owned()))
        }
    }
}

fn whole(address: &str) -> &'static str {
    if address.contains(':') { "128" } else { "32" }
}

impl Answers for LedgerWriter {
    fn admit(&self, shard: usize, id: OrderId, entry: Entry) {
        LedgerWriter::admit(self, shard, id, entry.user, true, entry.token);
    }

    fn done(&self, shard: usize, id: OrderId) {
        self.answer(shard, id, Ok(Outcome::Done));
    }

    fn refuse(&self, shard: usize, id: OrderId, refused: Refused) {
        self.answer(shard, id, Err(refused));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::sync::{Arc, OnceLock};
    use std::time::Duration;

    use stillhere_core::ledger::{News, Order, Proof};
    use stillhere_core::wire::error::ErrorCode;

    use super::super::{Accounts, Policy};
    use super::*;
    use crate::clock::Clock;
    use crate::store::{self, Rules, Told};

    const PASSWORD: &str = "correct horse battery";

    fn enter(user: Option<&str>, proof: Proof, remember: bool) -> Order {
        let address = IpAddr::from([127, 0, 0, 1]);
        Order::Enter { user: user.map(|user| Name::user(user).unwrap()), proof, address, remember }
    }

    #[test]
    fn entries_go_through_the_store_s_thread_to_the_accounts_and_back() {
        let dir = std::env::temp_dir().join(format!("stillhere-shelf-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (sender, told) = channel();
        let door = Arc::new(OnceLock::<Accounts>::new());
        let doors = Arc::clone(&door);
        let store = store::start(
            &dir,
            Duration::from_secs(60),
            Rules::default(),
            Arc::new(move |_, all| all.into_iter().for_each(|one| sender.send(one).unwrap())),
            Box::new(move |shard, id, order| doors.get().unwrap().order(shard, id, order)),
        )
        .unwrap();
        let ledger = store.ledger.clone();
        let shelf = Arc::new(Shelf::open(&dir, ledger.clone()).unwrap());
        let policy = Policy { open: false, register: true };
        let accounts = Accounts::start(policy, Arc::clone(&shelf), Arc::new(ledger.clone()), Clock::new()).unwrap();
        assert!(door.set(accounts).is_ok());
        let ask = |order| {
            ledger.order(0, OrderId(1), order).unwrap();
            match told.recv().unwrap() {
                Told::Outcome(OrderId(1), answer) => answer,
                other => panic!("{other:?}"),
            }
        };
        let change = |change: Change| {
            let audit = Audit { action: "test", subject: String::new(), detail: String::new() };
            assert!(shelf.change(1, &change, &audit).unwrap());
        };
        let login = |remember| enter(Some("ada"), Proof::Login { password: PASSWORD.into() }, remember);
        let name = Name::user("ada").unwrap();

        let registered = ask(enter(Some("ada"), Proof::Register { password: PASSWORD.into() }, false)).unwrap();
        assert!(matches!(registered, Outcome::Entered { verified: true, token: None, .. }), "{registered:?}");
        let Ok(Outcome::Entered { token: Some(token), .. }) = ask(login(true)) else { panic!("no token") };
        let by_token = || enter(None, Proof::Token { token: token.clone() }, false);
        assert!(matches!(ask(by_token()).unwrap(), Outcome::Entered { user, .. } if user == name));

        let network = Subject::Address("127.0.0.0/24".parse().unwrap());
        let reason = String::new();
        change(Change::Ban(BanRecord { subject: network.clone(), until_ms: None, reason, created_ms: 0 }));
        assert_eq!(ask(by_token()).unwrap_err().refusal.code, ErrorCode::BANNED.number);
        change(Change::Unban(network));
        let single = Subject::Address("127.0.0.1".parse().unwrap());
        assert_eq!(kept(&single), (BanKind::Address, "127.0.0.1".to_owned()));

        let password = "staple of another kind";
        let order = Order::Password {
            user: name.clone(),
            old: PASSWORD.into(),
            new: password.into(),
            address: IpAddr::from([127, 0, 0, 1]),
        };
        assert!(matches!(ask(order).unwrap(), Outcome::Done));
        for old in [by_token(), login(false)] {
            assert_eq!(ask(old).unwrap_err().refusal.code, ErrorCode::BAD_CREDENTIALS.number);
        }
        let Ok(Outcome::Entered { token: Some(token), .. }) =
            ask(enter(Some("ada"), Proof::Login { password: password.into() }, true))
        else {
            panic!("no token")
        };
        change(Change::SetDisabled { name: name.clone(), disabled: true });
        assert!(matches!(told.recv().unwrap(), Told::News(News::Ended { user, .. }) if user == name));
        let refused = ask(enter(None, Proof::Token { token }, false)).unwrap_err();
        assert_eq!(refused.refusal.code, ErrorCode::BAD_CREDENTIALS.number, "disabling takes the tokens");
        assert_eq!(shelf.audit(None, 10).unwrap().len(), 3);
        assert!(store.sessions.finish(Duration::from_secs(20)));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
