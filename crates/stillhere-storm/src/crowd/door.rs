//! How members become users who may talk.
//!
//! Where whoever connects may talk (names are claims, or guests may), there is nothing to do. Where it takes accounts,
//! registering costs the target some 40 ms of hashing, so the crowd makes a few accounts and shares them: a session
//! then becomes a user by a token, which costs next to nothing. The accounts stay in the target's store.
//!
//! [`open`] is a task of its own: it finds out which it is, and makes the accounts while the crowd comes in.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use stillhere_client::{CallError, Client, Failed};
use stillhere_core::wire::error::ErrorCode;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::common::Common;
use super::talk::room_name;
use crate::plan::Crowd;

/// Sessions that share an account. A user may open 60 links a minute by default; with so few, a crowd may lose all of
/// its links twice in a minute and isn't called flapping because it shares.
const SESSIONS_MAX: u32 = 20;
/// What a user may say at once by default. Those who share an account shall say no more in five seconds than half of
/// it: after a stall or a lost link all of that comes at once, and some of it twice.
const SAID_AT_ONCE: f64 = 40.0 / 2.0 / 5.0;
/// Accounts that are made at once: the target hashes on half of its cores.
const MAKERS: usize = 4;
/// How long one try to connect or to be answered may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries.
const REST: Duration = Duration::from_secs(1);

/// What a member may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// It isn't known yet: ask again.
    Wait,
    /// Join a room.
    Free,
    /// Become the user that this token stands for, then join.
    Token(Rc<str>),
    /// Nothing: the target lets no stranger talk.
    Shut,
}

/// Who may talk as whom.
pub(super) struct Door {
    /// What holds for all while it isn't about accounts.
    pass: RefCell<Pass>,
    /// By account, once it takes accounts.
    accounts: RefCell<Vec<Pass>>,
    /// How many members share an account.
    sharers: u32,
    members: u32,
    next: Cell<u32>,
    /// Who is which user; the newest presence of each that was believed.
    users: RefCell<HashMap<Box<str>, User>>,
}

struct User {
    members: Range<u32>,
    newest: (u64, u64),
}

impl Door {
    /// Nothing is known yet.
    pub(super) fn new(crowd: &Crowd) -> Door {
        let sharers = sharers(crowd.say_every);
        Door {
            pass: RefCell::new(Pass::Wait),
            accounts: RefCell::new(Vec::new()),
            sharers,
            members: crowd.count,
            next: Cell::new(0),
            users: RefCell::new(HashMap::new()),
        }
    }

    /// What a member may do.
    pub(super) fn pass(&self, member: u32) -> Pass {
        let accounts = self.accounts.borrow();
        accounts.get((member / self.sharers) as usize).cloned().unwrap_or_else(|| self.pass.borrow().clone())
    }

    /// These members are this user.
    fn note(&self, user: &str, members: Range<u32>) {
        self.users.borrow_mut().insert(user.into(), User { members, newest: (0, 0) });
    }

    /// A member was welcomed as this user, where names are claims. With accounts it is only a label.
    pub(super) fn claimed(&self, user: &str, member: u32) {
        if *self.pass.borrow() == Pass::Free {
            self.note(user, member..member + 1);
        }
    }

    /// Whom a presence is about, unless it is late: then nobody.
    pub(super) fn members_of(&self, user: &str, version: (u64, u64)) -> Range<u32> {
        let mut users = self.users.borrow_mut();
        let Some(user) = users.get_mut(user).filter(|user| user.newest < version) else { return 0..0 };
        user.newest = version;
        user.members.clone()
    }

    fn members_with(&self, account: u32) -> Range<u32> {
        account * self.sharers..((account + 1) * self.sharers).min(self.members)
    }
}

/// How many sessions share an account, so that together they say far less than a user may.
fn sharers(say_every: Option<Duration>) -> u32 {
    let fitting = say_every.map_or(f64::INFINITY, |every| every.as_secs_f64() * SAID_AT_ONCE);
    (fitting.min(f64::from(SESSIONS_MAX)) as u32).max(1)
}

/// What it takes to talk.
enum Takes {
    /// Nothing, or nothing helps.
    Only(Pass),
    /// An account.
    Account,
}

/// Finds out how members may talk, and makes the accounts if it takes them. Ends when all is known.
pub(super) async fn open(common: Rc<Common>) {
    let takes = loop {
        match try_without_account(&common).await {
            Some(takes) => break takes,
            None => sleep(REST).await,
        }
    };
    let door = &common.door;
    if let Takes::Only(pass) = takes {
        *door.pass.borrow_mut() = pass;
        return;
    }
    *door.accounts.borrow_mut() = vec![Pass::Wait; door.members.div_ceil(door.sharers) as usize];
    let mut makers = JoinSet::new();
    for _ in 0..MAKERS {
        makers.spawn_local(make_accounts(common.clone()));
    }
    while makers.join_next().await.is_some() {}
}

/// Tries to join a room as nobody; `None` if that can't be told now.
async fn try_without_account(common: &Common) -> Option<Takes> {
    let builder = Client::builder().name("storm").user("storm-door");
    let mut client = timeout(PATIENCE, builder.connect(common.target)).await.ok()?.ok()?;
    let joined = timeout(PATIENCE, client.join(&room_name(0), None)).await;
    client.bye().await;
    match joined.ok()? {
        Ok(_) => Some(Takes::Only(Pass::Free)),
        Err(CallError::Failed(failed)) => match *failed {
            Failed::Refused(refused) if refused.code == ErrorCode::LOGIN_FIRST.number => Some(Takes::Account),
            Failed::Refused(refused) if !refused.temporary => Some(Takes::Only(Pass::Shut)),
            _ => None,
        },
        Err(CallError::Behind(_)) => None,
    }
}

/// Makes one account after the other until there are enough.
async fn make_accounts(common: Rc<Common>) {
    let door = &common.door;
    loop {
        let account = door.next.replace(door.next.get() + 1);
        if account as usize >= door.accounts.borrow().len() {
            return;
        }
        let pass = loop {
            match register(&common, account).await {
                Pass::Wait => sleep(REST).await,
                known => break known,
            }
        };
        if let Some(place) = door.accounts.borrow_mut().get_mut(account as usize) {
            *place = pass;
        }
    }
}

async fn register(common: &Common, account: u32) -> Pass {
    // Another name at each try: an answer that didn't come may have been a yes.
    let (Ok(name), Ok(secret)) = (getrandom::u64(), getrandom::u64()) else { return Pass::Shut };
    let (door, name, password) = (&common.door, format!("storm-{name:016x}"), format!("storm {secret:016x}"));
    let builder = Client::builder().name("storm");
    let Ok(Ok(mut client)) = timeout(PATIENCE, builder.connect(common.target)).await else { return Pass::Wait };
    let registered = timeout(PATIENCE, client.register(&name, &password, true)).await;
    let pass = match registered {
        Ok(Ok(answer)) => match (answer.user, answer.token) {
            (Some(user), Some(token)) => {
                door.note(&user, door.members_with(account));
                Pass::Token(token.into())
            }
            _ => Pass::Shut,
        },
        Ok(Err(CallError::Failed(failed))) => match *failed {
            Failed::Refused(refused) if !refused.temporary => Pass::Shut,
            _ => Pass::Wait,
        },
        Ok(Err(CallError::Behind(_))) | Err(_) => Pass::Wait,
    };
    client.bye().await;
    pass
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_share_an_account_say_far_less_than_a_user_may() {
        let millis = |millis| Some(Duration::from_millis(millis));
        let shared = [None, millis(60_000), millis(2000), millis(1000), millis(500), millis(100), millis(1)];
        assert_eq!(shared.map(sharers), [20, 20, 8, 4, 2, 1, 1]);
    }
}
