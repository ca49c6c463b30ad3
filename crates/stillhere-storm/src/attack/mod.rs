//! The attacks, one file each, in one table.
//!
//! An attack is what *one* attacker does until it is dropped: an asynchronous function over its [`ground`], which lends
//! it connections, frames and its turns, counts everything, and bounds it. All attackers of a plan live on one thread,
//! which runs at a lower priority than the crowd's, so that a busy attacker doesn't make the target look slow.
//!
//! To add one: write its file, add its row, and say in `about` what a sound server does about it.

mod brute_force;
#[cfg(test)]
mod fake;
mod garbage;
pub(crate) mod ground;
mod hello_drop;
mod herd;
mod join_flood;
mod say_flood;
mod signal_flood;
mod silent_death;
mod slow_reader;
mod talk;
mod tls_flood;
mod ws_abuse;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use self::ground::Ground;

/// One attacker's life. It ends by being dropped, at any point, or by itself when there is nothing more to do.
pub(crate) type Life = Pin<Box<dyn Future<Output = ()>>>;

/// A kind of attack.
#[derive(Clone, Copy)]
pub struct Attack {
    /// What plans call it.
    pub name: &'static str,
    /// What it does, and what a sound server does about it, in a sentence or two.
    pub about: &'static str,
    /// Whether it makes sense against any server with frames, or only against one that speaks v1.
    pub against: Against,
    /// Bytes of what is sent at once, if the plan doesn't say.
    pub size: u32,
    /// What an attacker does; its number is from 0.
    pub(crate) life: fn(Rc<Ground>, u32) -> Life,
}

/// Whom an attack can be turned on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// Any server that listens on TCP.
    Any,
    /// A server that speaks stillhere's v1.
    Gateway,
}

/// All of them, in the order in which they are listed.
pub const ATTACKS: &[Attack] = &[
    garbage::ATTACK,
    brute_force::ATTACK,
    signal_flood::ATTACK,
    say_flood::ATTACK,
    join_flood::ATTACK,
    slow_reader::ATTACK,
    silent_death::ATTACK,
    herd::ATTACK,
    tls_flood::ATTACK,
    ws_abuse::ATTACK,
    hello_drop::ATTACK,
];

/// The attack of that name.
pub fn find(name: &str) -> Option<&'static Attack> {
    ATTACKS.iter().find(|attack| attack.name == name)
}
