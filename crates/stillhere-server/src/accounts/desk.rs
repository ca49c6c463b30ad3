//! Who may be whom: decides about every attempt to enter. It has no thread, clock or lock; it is told the time, asks
//! [`People`], and leaves what is to be hashed and what is to be answered in `Output`s.
//!
//! What holds for every attempt:
//! 1. A name that doesn't exist costs what an existing one does, and gets the same answers until the password is right.
//! 2. The number of hashes that may wait is bounded by the time they take; beyond it the answer is `busy`, at once.
//! 3. A password that wasn't looked at counts for nothing; see [`stillhere_core::throttle`] for those that were.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use stillhere_core::close::CloseCode;
use stillhere_core::ledger::{Order, OrderId, Proof, Refused};
use stillhere_core::name::Name;
use stillhere_core::secret::Entropy;
use stillhere_core::throttle::{Throttle, Wait};
use stillhere_core::time::Time;
use stillhere_core::wire::error::{ErrorCode, Refusal};
use tracing::error;

use super::password;
use super::people::{Account, Ban, Entry, People};
use super::pool::{Work, Worked};
use super::token::{self, Standing};

/// How long an attempt may wait for its turn. Who waits longer has given up, and its hash would be computed for nobody.
const QUEUE_TIME: Duration = Duration::from_secs(2);
/// What a hash is taken to cost until one was measured.
const COST_FIRST: Duration = Duration::from_millis(40);
/// No hash is cheaper than that, whatever the clock says: it bounds the queue's length to some thousands.
const COST_MIN: Duration = Duration::from_millis(1);
/// How much of the known cost stays when a new one was measured: 7/8, so that one slow hash changes little.
const COST_MEMORY: u32 = 8;
/// What names of guests begin with, so that nobody can register one of them.
pub(crate) const GUEST_PREFIX: &str = "guest-";

/// What the operator has configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Whether names are claims, and there is nothing to register.
    pub(crate) open: bool,
    /// Whether whoever connects may register.
    pub(crate) register: bool,
}

/// One moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) at: Time,
    /// Milliseconds since 1970.
    pub(super) wall_ms: u64,
}

/// Where an order comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asker {
    pub(super) shard: usize,
    pub(super) id: OrderId,
}

/// What is to be done.
pub(super) enum Output {
    /// Give this to the pool.
    Hash(u64, Work),
    /// Answer that.
    Answer(Asker, Answer),
}

/// An answer to an order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Admit(Entry),
    Done,
    Refuse(Refused),
}

/// All that is under way.
pub(super) struct Desk {
    policy: Policy,
    people: Arc<dyn People>,
    throttle: Throttle,
    entropy: Entropy,
    /// How many pieces of work the pool takes at a time.
    threads: usize,
    /// What waits for the pool, in the order it came.
    queue: VecDeque<(u64, Work)>,
    /// Everything that waits or is being hashed.
    cases: HashMap<u64, Case>,
    /// Hashes in `queue`, and hashes that the pool has.
    waiting: u32,
    running: u32,
    /// Pieces of work that the pool has.
    busy: usize,
    /// The time of one hash, averaged.
    cost: Duration,
    next_ticket: u64,
}

/// Somebody whose password is being hashed.
struct Case {
    from: Asker,
    user: Name,
    address: IpAddr,
    hashes: u32,
    wish: Wish,
}

enum Wish {
    Register { remember: bool },
    Login { stored: Option<Box<str>>, remember: bool },
    Change { stored: Option<Box<str>> },
}

/// Why an attempt ends, and what it means for the next ones.
enum End {
    Refused(Refused),
    /// The store can't be read or written.
    Storage(anyhow::Error),
}

impl From<Refused> for End {
    fn from(refused: Refused) -> End {
        End::Refused(refused)
    }
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> End {
        End::Refused(refusal.into())
    }
}

fn storage<T>(result: anyhow::Result<T>) -> Result<T, End> {
    result.map_err(End::Storage)
}

impl Desk {
    pub(super) fn new(policy: Policy, people: Arc<dyn People>, threads: usize, seed: [u8; 32]) -> Desk {
        Desk {
            policy,
            people,
            throttle: Throttle::new(),
            entropy: Entropy::from_seed(seed),
            threads: threads.max(1),
            queue: VecDeque::new(),
            cases: HashMap::new(),
            waiting: 0,
            running: 0,
            busy: 0,
            cost: COST_FIRST,
            next_ticket: 0,
        }
    }

    /// Other rules from now on.
    pub(super) fn configure(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// An operator ends a user's row of wrong passwords.
    pub(super) fn unlock(&mut self, user: &Name) {
        self.throttle.reset(user);
    }

    /// Takes an order.
    pub(super) fn order(&mut self, now: Now, from: Asker, order: Order, out: &mut Vec<Output>) {
        let begun = match order {
            Order::Enter { user, proof, address, remember } => self.enter(now, from, user, proof, address, remember),
            Order::Password { user, old, new, address } => self.change(now, from, user, old, new, address),
            _ => Err(ErrorCode::INTERNAL.because("this order isn't for the accounts").into()),
        };
        match begun {
            Ok(Some(answer)) => out.push(Output::Answer(from, answer)),
            Ok(None) => {}
            Err(end) => out.push(Output::Answer(from, Answer::Refuse(refused(end)))),
        }
        self.give_work(out);
    }

    /// Takes what the pool has done.
    pub(super) fn worked(&mut self, now: Now, ticket: u64, worked: Worked, took: Duration, out: &mut Vec<Output>) {
        let Some(case) = self.cases.remove(&ticket) else { return };
        self.busy -= 1;
        self.running -= case.hashes;
        if !matches!(worked, Worked::Weak(_) | Worked::Failed) {
            let each = took / case.hashes;
            self.cost = (self.cost * (COST_MEMORY - 1) / COST_MEMORY + each / COST_MEMORY).max(COST_MIN);
        }
        let from = case.from;
        let answer = self.conclude(now, case, worked).unwrap_or_else(|end| Answer::Refuse(refused(end)));
        out.push(Output::Answer(from, answer));
        self.give_work(out);
    }

    fn enter(
        &mut self,
        now: Now,
        from: Asker,
        user: Option<Name>,
        proof: Proof,
        address: IpAddr,
        remember: bool,
    ) -> Result<Option<Answer>, End> {
        if self.policy.open {
            return Err(no_accounts().into());
        }
        if let Some(ban) = storage(self.people.ban(None, address, now.wall_ms))? {
            return Err(banned(ban, now).into());
        }
        match (proof, user) {
            (Proof::Token { token }, user) => self.token(now, user.as_ref(), &token, address).map(Some),
            (Proof::Register { password }, Some(user)) => {
                self.register(now, from, user, password, address, remember).map(|()| None)
            }
            (Proof::Login { password }, Some(user)) => {
                self.login(now, from, user, password, address, remember).map(|()| None)
            }
            (Proof::Register { .. } | Proof::Login { .. }, None) => {
                Err(ErrorCode::MISSING_FIELD.because("`user` is missing").into())
            }
            // Sessions whose secret has proven it don't come here.
            (Proof::Claim, _) => Err(ErrorCode::LOGIN_FIRST.because("a name alone proves nothing here; log in").into()),
        }
    }

    fn register(
        &mut self,
        now: Now,
        from: Asker,
        user: Name,
        password: Box<str>,
        address: IpAddr,
        remember: bool,
    ) -> Result<(), End> {
        if !self.policy.register {
            return Err(ErrorCode::REGISTER_CLOSED.because(ErrorCode::REGISTER_CLOSED.meaning).into());
        }
        if user.as_str().starts_with(GUEST_PREFIX) {
            let message = format!("names that begin with `{GUEST_PREFIX}` are for guests; choose another");
            return Err(ErrorCode::BAD_NAME.because(message).into());
        }
        password::check_length(&password).map_err(weak)?;
        self.may_try(now, &user, address)?;
        // Asking for names is guessing as well: a taken one counts as a failure.
        match self.people.account(&user) {
            Ok(None) => {}
            Ok(Some(_)) => {
                self.throttle.failed(&user, address, now.at);
                return Err(taken(&user).into());
            }
            Err(error) => {
                self.throttle.abandoned(&user, address, now.at);
                return Err(End::Storage(error));
            }
        }
        let work = Work::Make { user: user.clone(), password };
        self.enqueue(now, Case { from, user, address, hashes: work.hashes(), wish: Wish::Register { remember } }, work)
    }

    fn login(
        &mut self,
        now: Now,
        from: Asker,
        user: Name,
        password: Box<str>,
        address: IpAddr,
        remember: bool,
    ) -> Result<(), End> {
        self.may_try(now, &user, address)?;
        let stored = self.stored(now, &user, address)?;
        let work = Work::Verify { stored: stored.clone(), password };
        let wish = Wish::Login { stored, remember };
        self.enqueue(now, Case { from, user, address, hashes: work.hashes(), wish }, work)
    }

    fn change(
        &mut self,
        now: Now,
        from: Asker,
        user: Name,
        old: Box<str>,
        new: Box<str>,
        address: IpAddr,
    ) -> Result<Option<Answer>, End> {
        if self.policy.open {
            return Err(no_accounts().into());
        }
        password::check_length(&new).map_err(weak)?;
        self.may_try(now, &user, address)?;
        let stored = self.stored(now, &user, address)?;
        let work = Work::Change { user: user.clone(), stored: stored.clone(), old, new };
        let wish = Wish::Change { stored };
        self.enqueue(now, Case { from, user, address, hashes: work.hashes(), wish }, work).map(|()| None)
    }

    fn token(&mut self, now: Now, user: Option<&Name>, shown: &str, address: IpAddr) -> Result<Answer, End> {
        let hash = token::hash(shown).ok_or_else(bad_credentials)?;
        let (owner, expires_ms) = storage(self.people.token(&hash))?.ok_or_else(bad_credentials)?;
        let standing = token::standing(expires_ms, now.wall_ms);
        if standing == Standing::Expired || user.is_some_and(|user| *user != owner) {
            return Err(bad_credentials().into());
        }
        let account = storage(self.people.account(&owner))?.ok_or_else(bad_credentials)?;
        self.may_enter(now, &owner, &account, address)?;
        if let Standing::Refresh(until_ms) = standing {
            storage(self.people.refresh_token(&hash, until_ms))?;
        }
        self.throttle.reset(&owner);
        Ok(Answer::Admit(Entry { user: owner, token: None }))
    }

    /// What an attempt comes to, now that its password was hashed.
    fn conclude(&mut self, now: Now, case: Case, worked: Worked) -> Result<Answer, End> {
        let Case { user, address, wish, .. } = case;
        // The throttle first, so that whatever the store does afterwards, the attempt is accounted for.
        match worked {
            Worked::Wrong => self.throttle.failed(&user, address, now.at),
            Worked::Right(_) | Worked::Made(_) => self.throttle.succeeded(&user, address, now.at),
            Worked::Weak(_) if matches!(wish, Wish::Change { .. }) => self.throttle.succeeded(&user, address, now.at),
            Worked::Weak(_) | Worked::Failed => self.throttle.abandoned(&user, address, now.at),
        }
        match (wish, worked) {
            (_, Worked::Wrong) => Err(bad_credentials().into()),
            (_, Worked::Weak(reason)) => Err(weak(reason).into()),
            (Wish::Register { remember }, Worked::Made(hash)) => {
                // Somebody else may have been faster by the time of a hash.
                if !storage(self.people.add(&user, &hash, now.wall_ms))? {
                    return Err(taken(&user).into());
                }
                self.admit(now, user, remember)
            }
            (Wish::Login { stored, remember }, Worked::Right(fresh)) => {
                let account = self.unchanged(&user, stored.as_deref())?;
                self.may_enter(now, &user, &account, address)?;
                if let Some(fresh) = fresh {
                    storage(self.people.set_password(&user, &fresh, false))?;
                }
                self.admit(now, user, remember)
            }
            (Wish::Change { stored }, Worked::Right(Some(fresh))) => {
                let account = self.unchanged(&user, stored.as_deref())?;
                self.may_enter(now, &user, &account, address)?;
                storage(self.people.set_password(&user, &fresh, true))?;
                Ok(Answer::Done)
            }
            (_, Worked::Right(_) | Worked::Made(_) | Worked::Failed) => {
                Err(ErrorCode::INTERNAL.because("the password can't be hashed; the server's log says why").into())
            }
        }
    }

    fn admit(&mut self, now: Now, user: Name, remember: bool) -> Result<Answer, End> {
        let mut token = None;
        if remember {
            let secret = self.entropy.secret();
            let expires_ms = token::expiry(now.wall_ms);
            storage(self.people.add_token(&user, &secret.hash(), now.wall_ms, expires_ms))?;
            token = Some(secret.reveal().into());
        }
        Ok(Answer::Admit(Entry { user, token }))
    }

    /// The account, if its password is still the one that was compared; the operator may have been at work meanwhile.
    fn unchanged(&self, user: &Name, stored: Option<&str>) -> Result<Account, End> {
        let account = storage(self.people.account(user))?.ok_or_else(bad_credentials)?;
        if account.password.as_deref() != stored {
            return Err(bad_credentials().into());
        }
        Ok(account)
    }

    /// Whether a user that has proven itself may enter. Only now is it told what the operator has against it.
    fn may_enter(&self, now: Now, user: &Name, account: &Account, address: IpAddr) -> Result<(), End> {
        if account.disabled {
            let refusal = ErrorCode::DISABLED.because(ErrorCode::DISABLED.meaning);
            return Err(Refused { refusal, retry: None, close: Some(CloseCode::Disabled) }.into());
        }
        match storage(self.people.ban(Some(user), address, now.wall_ms))? {
            Some(ban) => Err(banned(ban, now).into()),
            None => Ok(()),
        }
    }

    /// Whether a password may be tried at all. One that may counts as wrong until its hash says otherwise.
    fn may_try(&mut self, now: Now, user: &Name, address: IpAddr) -> Result<(), Refused> {
        self.throttle.check(user, address, now.at).map_err(|wait| {
            let (retry, message) = match wait {
                Wait::For(span) => (Some(span), ErrorCode::LOGIN_DELAY.meaning),
                Wait::Operator => (
                    None,
                    "too many wrong passwords in a row; ask the operator to unlock the account, or log in with a token",
                ),
            };
            Refused { refusal: ErrorCode::LOGIN_DELAY.because(message), retry, close: None }
        })
    }

    fn stored(&mut self, now: Now, user: &Name, address: IpAddr) -> Result<Option<Box<str>>, End> {
        match self.people.account(user) {
            Ok(account) => Ok(account.and_then(|account| account.password)),
            Err(error) => {
                self.throttle.abandoned(user, address, now.at);
                Err(End::Storage(error))
            }
        }
    }

    /// Puts work into the queue, unless that is as long as anybody would wait.
    fn enqueue(&mut self, now: Now, case: Case, work: Work) -> Result<(), End> {
        let wait = self.cost * (self.waiting + self.running) / self.threads as u32;
        if wait > QUEUE_TIME {
            self.throttle.abandoned(&case.user, case.address, now.at);
            let refusal = ErrorCode::BUSY.because("many are logging in at this moment; wait for retry_ms");
            return Err(Refused { refusal, retry: Some(wait), close: None }.into());
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting += case.hashes;
        self.cases.insert(ticket, case);
        self.queue.push_back((ticket, work));
        Ok(())
    }

    fn give_work(&mut self, out: &mut Vec<Output>) {
        while self.busy < self.threads
            && let Some((ticket, work)) = self.queue.pop_front()
        {
            self.busy += 1;
            self.waiting -= work.hashes();
            self.running += work.hashes();
            out.push(Output::Hash(ticket, work));
        }
    }
}

fn refused(end: End) -> Refused {
    match end {
        End::Refused(refused) => refused,
        End::Storage(error) => {
            error!(error = format!("{error:#}"), "accounts can't be read or written; is the disk full?");
            ErrorCode::STORAGE.because(ErrorCode::STORAGE.meaning).into()
        }
    }
}

fn bad_credentials() -> Refusal {
    ErrorCode::BAD_CREDENTIALS.because(ErrorCode::BAD_CREDENTIALS.meaning)
}

fn no_accounts() -> Refusal {
    ErrorCode::NO_ACCOUNTS.because(ErrorCode::NO_ACCOUNTS.meaning)
}

fn taken(user: &Name) -> Refusal {
    ErrorCode::NAME_TAKEN.because(format!("there is a user {user}; log in, or choose another name"))
}

fn weak(reason: password::Weak) -> Refusal {
    ErrorCode::WEAK_PASSWORD.because(reason.to_string())
}

fn banned(ban: Ban, now: Now) -> Refused {
    let retry = ban.until_ms.map(|until_ms| Duration::from_millis(until_ms.saturating_sub(now.wall_ms)));
    let refusal = ErrorCode::BANNED.because(ErrorCode::BANNED.meaning);
    Refused { refusal, retry, close: Some(CloseCode::Banned) }
}

#[cfg(test)]
mod tests;
