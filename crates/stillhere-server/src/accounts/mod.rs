//! Accounts: who may be whom. Passwords, tokens, and the soft delays between guesses.
//!
//! The store hands over every [`Order::Enter`] and [`Order::Password`]; the answer goes back to it through [`Answers`].
//! Nobody waits here: what doesn't fit is answered `busy`.
//!
//! - `desk`: decides, one order after the other
//! - `pool`: the threads that hash
//! - `hash`, `password`, `token`: what is stored, what is good enough, how long it lives
//! - `people`: what all of it needs of the store; `shelf`: the store's answer to that
//! - `import`: lists of users from elsewhere
//!
//! Threads: `accounts`, which runs the desk and waits for the disk; and the pool's. They end with the process.

pub mod import;

mod desk;
pub(crate) mod hash;
#[cfg(test)]
pub(crate) mod memory;
pub(crate) mod password;
pub(crate) mod people;
mod pool;
pub(crate) mod shelf;
mod token;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use stillhere_core::ledger::{Order, OrderId, Refused};
use stillhere_core::name::Name;
use stillhere_core::wire::error::ErrorCode;

use crate::background::step_back;
use crate::clock::{Clock, wall_ms};
pub(crate) use desk::Policy;
use desk::{Answer, Asker, Desk, Now, Output};
use hash::Hasher;
use people::{Answers, People};
use pool::Worked;

/// Orders that may wait for the desk; what comes beyond them is thrown away and answered `busy`.
const ORDERS_MAX: usize = 8192;
/// When to come again if that isn't enough.
const ORDERS_RETRY: Duration = Duration::from_secs(1);

enum Input {
    Order(Asker, Order),
    /// An order that was thrown away, since too many wait.
    TooMany(Asker),
    Worked(u64, Worked, Duration),
    Unlock(Name),
    Configure(Policy),
}

/// The way to the accounts; cheap to clone.
#[derive(Clone)]
pub(crate) struct Accounts {
    sender: Sender<Input>,
    /// How many orders wait for the desk.
    waiting: Arc<AtomicUsize>,
    hasher: Arc<Hasher>,
    /// Held by an operator who hashes, so that all of them together take one core at most.
    operator: Arc<Mutex<()>>,
}

impl Accounts {
    /// Starts the threads.
    ///
    /// # Errors
    /// When there is no randomness, memory or thread to be had.
    pub(crate) fn start(
        policy: Policy,
        people: Arc<impl People + 'static>,
        answers: Arc<impl Answers + 'static>,
        clock: Clock,
    ) -> anyhow::Result<Accounts> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).context("the system gives no randomness")?;
        let hasher = Arc::new(Hasher::new()?);
        let (sender, inputs) = channel();
        let threads = pool::threads();
        let told = sender.clone();
        let pool = pool::start(threads, &hasher, move |ticket, worked, took| {
            // The desk is gone only when the process ends.
            let _ = told.send(Input::Worked(ticket, worked, took));
        })?;
        let desk = Desk::new(policy, people, threads, seed);
        let waiting = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&waiting);
        std::thread::Builder::new().name("accounts".to_owned()).spawn(move || {
            step_back("deciding of logins");
            run(desk, &inputs, &counted, &clock, &*answers, |ticket, work| pool.send((ticket, work)).is_ok());
        })?;
        Ok(Accounts { sender, waiting, hasher, operator: Arc::default() })
    }

    /// Takes an [`Order::Enter`] or [`Order::Password`] of a shard. Never waits, since the store's thread calls it; and
    /// never answers by itself, since the answers go through that thread's queue.
    pub(crate) fn order(&self, shard: usize, id: OrderId, order: Order) {
        let asker = Asker { shard, id };
        let input = if self.waiting.fetch_add(1, Ordering::Relaxed) < ORDERS_MAX {
            Input::Order(asker, order)
        } else {
            Input::TooMany(asker)
        };
        // The desk is gone only when the process ends.
        let _ = self.sender.send(input);
    }

    /// Ends a user's row of wrong passwords.
    pub(crate) fn unlock(&self, user: &Name) {
        // The desk is gone only when the process ends.
        let _ = self.sender.send(Input::Unlock(user.clone()));
    }

    /// Other rules from now on.
    pub(crate) fn configure(&self, policy: Policy) {
        // As above.
        let _ = self.sender.send(Input::Configure(policy));
    }

    /// What is kept of a password that an operator has set: its hash, or why it is refused. Takes a hash's time, and
    /// that of all operators before this one.
    pub(crate) fn hash(&self, user: &Name, password: &str) -> anyhow::Result<Result<String, String>> {
        if let Err(weak) = password::check(password, user) {
            return Ok(Err(weak.to_string()));
        }
        let _turn = self.operator.lock().unwrap_or_else(PoisonError::into_inner);
        self.hasher.hash(password).map(Ok)
    }

    /// What is kept of a password of which only the MD5 is known. Takes as long.
    pub(crate) fn wrap(&self, md5: &str) -> anyhow::Result<String> {
        let _turn = self.operator.lock().unwrap_or_else(PoisonError::into_inner);
        self.hasher.wrap(md5)
    }
}

fn run(
    mut desk: Desk,
    inputs: &Receiver<Input>,
    waiting: &AtomicUsize,
    clock: &Clock,
    answers: &dyn Answers,
    hash: impl Fn(u64, pool::Work) -> bool,
) {
    let mut out = Vec::new();
    while let Ok(input) = inputs.recv() {
        let now = Now { at: clock.now(), wall_ms: wall_ms() };
        match input {
            Input::Order(from, order) => {
                waiting.fetch_sub(1, Ordering::Relaxed);
                desk.order(now, from, order, &mut out);
            }
            Input::TooMany(from) => {
                waiting.fetch_sub(1, Ordering::Relaxed);
                let refusal = ErrorCode::BUSY.because("many are logging in at this moment; wait for retry_ms");
                let refused = Refused { refusal, retry: Some(ORDERS_RETRY), close: None };
                out.push(Output::Answer(from, Answer::Refuse(refused)));
            }
            Input::Worked(ticket, worked, took) => desk.worked(now, ticket, worked, took, &mut out),
            Input::Unlock(user) => desk.unlock(&user),
            Input::Configure(policy) => desk.configure(policy),
        }
        for output in out.drain(..) {
            match output {
                // The pool's threads end only with the process.
                Output::Hash(ticket, work) => drop(hash(ticket, work)),
                Output::Answer(Asker { shard, id }, answer) => match answer {
                    Answer::Admit(entry) => answers.admit(shard, id, entry),
                    Answer::Done => answers.done(shard, id),
                    Answer::Refuse(refused) => answers.refuse(shard, id, refused),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests;
