//! Soft delays for guessed passwords, per account and per address.
//!
//! An attempt counts as a failure from the moment it is let through until its result is known, so guesses made at the
//! same time don't all pass, and one whose result is never told stays a failure. Accounts that don't exist are treated
//! as those that do, so nothing is learnt from a wait.
//!
//! Of an account, only failures in a row count; a success ends the row. An address may be the way out of many people:
//! it has more free attempts, a success gives back only its own, and one failure a minute is forgiven.
//!
//! Both tables are bounded and forget what was not tried for longest. To make the server forget an account someone has
//! to try [`ENTRIES_MAX`] others meanwhile. They aren't stored: after a restart all rows begin anew.
//!
//! Who calls it: whoever checks passwords, before the password is hashed and after.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::lru::Lru;
use crate::name::Name;
use crate::time::Time;

/// How many accounts and how many addresses are remembered: less than 20 MB together.
pub const ENTRIES_MAX: usize = 100_000;
/// Attempts at an account before it must wait: people mistype a password twice.
pub const ACCOUNT_FREE: u32 = 3;
/// Failures of an account in a row after which no password is accepted (NIST SP 800-63B allows 100).
pub const ACCOUNT_FAILURES_MAX: u32 = 100;
/// Attempts from an address before it must wait. Many people may come from one, and all of them at once after a
/// restart: so many passwords fit into the queue to be hashed.
pub const ADDRESS_FREE: u32 = 30;
/// One failure of an address is forgiven for each such span. At the longest wait two are added in the same time.
pub const ADDRESS_FORGIVES: Duration = Duration::from_secs(60);
/// Failures of an address are counted to here: the longest wait is reached, and ten quiet minutes end it.
const ADDRESS_FAILURES_MAX: u32 = ADDRESS_FREE + 10;
/// The first wait; each further failure doubles it.
pub const WAIT_FIRST: Duration = Duration::from_secs(1);
/// The longest wait: two attempts a minute find no password, and keep no owner out for long.
pub const WAIT_MAX: Duration = Duration::from_secs(30);

/// Why no password may be tried now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The next attempt may be made after this time.
    For(Duration),
    /// The account failed too often in a row: only an operator, or its owner with a token, can end that.
    Operator,
}

/// The failures of accounts and addresses.
#[derive(Debug)]
pub struct Throttle {
    accounts: Lru<Name, Tries>,
    addresses: Lru<IpAddr, Tries>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tries {
    /// Attempts that failed or are under way.
    failures: u32,
    /// Before this no further attempt.
    next_at: Time,
    /// Of an address: since when the failures wait to be forgiven.
    forgiven_at: Time,
}

impl Default for Throttle {
    fn default() -> Throttle {
        Throttle::new()
    }
}

impl Throttle {
    /// Nobody has failed yet. Memory comes with the failures.
    pub fn new() -> Throttle {
        Throttle::of(ENTRIES_MAX)
    }

    fn of(entries_max: usize) -> Throttle {
        Throttle { accounts: Lru::new(entries_max), addresses: Lru::new(entries_max) }
    }

    /// Lets an attempt through, or says how long to wait.
    ///
    /// One that was let through counts as a failure until [`Throttle::succeeded`] or [`Throttle::abandoned`] says
    /// otherwise; [`Throttle::failed`] lets the wait begin at the answer.
    pub fn check(&mut self, account: &Name, address: IpAddr, now: Time) -> Result<(), Wait> {
        let key = network(address);
        let of_account = self.accounts.get(account).map_or(Time::ZERO, |tries| tries.next_at);
        if self
            .accounts
            .peek(account)
            .is_some_and(|tries| tries.failures >= ACCOUNT_FAILURES_MAX && tries.next_at <= now)
        {
            return Err(Wait::Operator);
        }
        let of_address = self.addresses.get(&key).map_or(Time::ZERO, |tries| tries.next_at);
        let next_at = of_account.max(of_address);
        if now < next_at {
            return Err(Wait::For(next_at.since(now)));
        }
        self.accounts.get_or_default(account.clone()).begun(ACCOUNT_FREE, ACCOUNT_FAILURES_MAX, now);
        let tries = self.addresses.get_or_default(key);
        tries.forgive(now);
        tries.begun(ADDRESS_FREE, ADDRESS_FAILURES_MAX, now);
        Ok(())
    }

    /// The password was wrong, or there is no such account.
    pub fn failed(&mut self, account: &Name, address: IpAddr, now: Time) {
        self.accounts.get_or_default(account.clone()).failed(ACCOUNT_FREE, now);
        self.addresses.get_or_default(network(address)).failed(ADDRESS_FREE, now);
    }

    /// The password was right: the account's row of failures ends; the address gets this attempt back.
    pub fn succeeded(&mut self, account: &Name, address: IpAddr, now: Time) {
        self.accounts.remove(account);
        self.give_back(network(address), now);
    }

    /// The password was never looked at, since the server was busy or the peer left: the attempt doesn't count.
    pub fn abandoned(&mut self, account: &Name, address: IpAddr, now: Time) {
        if let Some(tries) = self.accounts.get(account) {
            tries.give_back(ACCOUNT_FREE, now);
            if tries.failures == 0 {
                self.accounts.remove(account);
            }
        }
        self.give_back(network(address), now);
    }

    /// An operator, or the owner's token, ends the account's row of failures.
    pub fn reset(&mut self, account: &Name) {
        self.accounts.remove(account);
    }

    /// The failures of an account in a row, with its attempts under way.
    pub fn failures(&self, account: &Name) -> u32 {
        self.accounts.peek(account).map_or(0, |tries| tries.failures)
    }

    fn give_back(&mut self, address: IpAddr, now: Time) {
        if let Some(tries) = self.addresses.get(&address) {
            tries.forgive(now);
            tries.give_back(ADDRESS_FREE, now);
            if tries.failures == 0 {
                self.addresses.remove(&address);
            }
        }
    }
}

impl Tries {
    fn begun(&mut self, free: u32, most: u32, now: Time) {
        if self.failures == 0 {
            self.forgiven_at = now;
        }
        self.failures = most.min(self.failures + 1);
        self.next_at = now + wait_after(self.failures, free);
    }

    fn failed(&mut self, free: u32, now: Time) {
        // It was counted when it began; if that is forgotten, it counts now.
        if self.failures == 0 {
            self.forgiven_at = now;
            self.failures = 1;
        }
        self.next_at = self.next_at.max(now + wait_after(self.failures, free));
    }

    fn give_back(&mut self, free: u32, now: Time) {
        self.failures = self.failures.saturating_sub(1);
        self.next_at = self.next_at.min(now + wait_after(self.failures, free));
    }

    fn forgive(&mut self, now: Time) {
        let spans = now.since(self.forgiven_at).as_micros() / ADDRESS_FORGIVES.as_micros();
        let spans = u32::try_from(spans).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_sub(spans);
        self.forgiven_at = self.forgiven_at + ADDRESS_FORGIVES.saturating_mul(spans);
    }
}

/// The wait after so many failures.
fn wait_after(failures: u32, free: u32) -> Duration {
    match failures.checked_sub(free) {
        None => Duration::ZERO,
        Some(doublings) => WAIT_FIRST.saturating_mul(2u32.saturating_pow(doublings)).min(WAIT_MAX),
    }
}

/// What an address counts as: a provider gives a household or a machine 64 bits of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> Name {
        Name::user(text).unwrap()
    }

    fn address(last: u32) -> IpAddr {
        IpAddr::from([127, 0, (last >> 8) as u8, last as u8])
    }

    fn secs(secs: u64) -> Time {
        Time::from_millis(secs * 1000)
    }

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// The moments, in milliseconds, at which an attacker who always tries as soon as it may gets a try.
    fn tries_until(end: Time, mut who: impl FnMut(u32) -> (Name, IpAddr)) -> Vec<u64> {
        let (mut throttle, mut now, mut tries) = (Throttle::new(), Time::ZERO, Vec::new());
        while now < end {
            let (account, address) = who(tries.len() as u32);
            match throttle.check(&account, address, now) {
                Ok(()) => {
                    tries.push(now.as_micros() / 1000);
                    throttle.failed(&account, address, now);
                }
                Err(Wait::For(wait)) => now = now + wait,
                Err(Wait::Operator) => break,
            }
        }
        tries
    }

    #[test]
    fn after_three_failures_the_waits_double_up_to_thirty_seconds() {
        let tries = tries_until(secs(150), |n| (name("alice"), address(n)));
        let expected = [0, 0, 0, 1, 3, 7, 15, 31, 61, 91, 121].map(|secs| secs * 1000);
        assert_eq!(tries, expected);
    }

    #[test]
    fn a_hundred_failures_in_a_row_need_an_operator_wherever_they_come_from() {
        let account = name("alice");
        let tries = tries_until(secs(100_000), |n| (account.clone(), address(n)));
        assert_eq!(tries.len(), ACCOUNT_FAILURES_MAX as usize);

        let mut throttle = Throttle::new();
        let mut now = Time::ZERO;
        for n in 0..ACCOUNT_FAILURES_MAX {
            now = now + WAIT_MAX;
            assert_eq!(throttle.check(&account, address(n), now), Ok(()));
            throttle.failed(&account, address(n), now);
        }
        assert_eq!(throttle.check(&account, HERE, now), Err(Wait::For(WAIT_MAX)));
        now = now + WAIT_MAX;
        assert_eq!(throttle.check(&account, HERE, now), Err(Wait::Operator));
        assert_eq!(throttle.check(&account, HERE, now + Duration::from_secs(1_000_000)), Err(Wait::Operator));
        assert_eq!(throttle.failures(&account), 100);
        throttle.reset(&account);
        assert_eq!(throttle.check(&account, HERE, now), Ok(()));
    }

    #[test]
    fn guesses_at_the_same_time_do_not_all_pass() {
        let mut throttle = Throttle::new();
        let account = name("alice");
        let passed = (0..1000).filter(|n| throttle.check(&account, address(*n), Time::ZERO).is_ok()).count();
        assert_eq!(passed, ACCOUNT_FREE as usize);
        let spread = (0..1000).filter(|n| throttle.check(&name(&format!("u{n}")), HERE, Time::ZERO).is_ok()).count();
        assert_eq!(spread, ADDRESS_FREE as usize - 1, "one of alice's came from here too");
    }

    #[test]
    fn a_success_ends_the_account_s_row_and_gives_the_address_back_its_own() {
        let mut throttle = Throttle::new();
        let (victim, own) = (name("victim"), name("own"));
        for n in 0..ADDRESS_FREE - 1 {
            let account = name(&format!("u{n}"));
            assert_eq!(throttle.check(&account, HERE, Time::ZERO), Ok(()));
            throttle.failed(&account, HERE, Time::ZERO);
        }
        for _ in 0..10 {
            assert_eq!(throttle.check(&own, HERE, Time::ZERO), Ok(()));
            assert_eq!(throttle.failures(&own), 1);
            throttle.succeeded(&own, HERE, Time::ZERO);
            assert_eq!(throttle.failures(&own), 0);
        }
        assert_eq!(throttle.check(&victim, HERE, Time::ZERO), Ok(()));
        throttle.failed(&victim, HERE, Time::ZERO);
        assert_eq!(throttle.check(&own, HERE, Time::ZERO), Err(Wait::For(WAIT_FIRST)));
        assert_eq!(throttle.check(&own, address(9), Time::ZERO), Ok(()));
    }

    #[test]
    fn what_was_never_looked_at_does_not_count() {
        let mut throttle = Throttle::new();
        let account = name("alice");
        for _ in 0..1000 {
            assert_eq!(throttle.check(&account, HERE, Time::ZERO), Ok(()));
            throttle.abandoned(&account, HERE, Time::ZERO);
        }
        assert!(throttle.accounts.is_empty() && throttle.addresses.is_empty());
        for _ in 0..2 {
            assert_eq!(throttle.check(&account, HERE, Time::ZERO), Ok(()));
            throttle.failed(&account, HERE, Time::ZERO);
        }
        assert_eq!(throttle.check(&account, HERE, Time::ZERO), Ok(()));
        assert_eq!(throttle.check(&account, HERE, Time::ZERO), Err(Wait::For(WAIT_FIRST)));
        throttle.abandoned(&account, HERE, Time::ZERO);
        assert_eq!(throttle.check(&account, HERE, Time::ZERO), Ok(()));
    }

    #[test]
    fn the_wait_begins_at_the_answer() {
        let mut throttle = Throttle::new();
        let account = name("alice");
        for _ in 0..3 {
            assert_eq!(throttle.check(&account, HERE, Time::ZERO), Ok(()));
        }
        throttle.failed(&account, HERE, secs(2));
        assert_eq!(throttle.check(&account, HERE, secs(2)), Err(Wait::For(WAIT_FIRST)));
    }

    #[test]
    fn an_address_is_forgiven_one_failure_a_minute() {
        let mut throttle = Throttle::new();
        let spray = |throttle: &mut Throttle, now, round: &str| {
            let mut passed = 0;
            while throttle.check(&name(&format!("{round}.{passed}")), HERE, now).is_ok() {
                passed += 1;
            }
            passed
        };
        assert_eq!(spray(&mut throttle, Time::ZERO, "a"), ADDRESS_FREE);
        assert_eq!(spray(&mut throttle, secs(599), "b"), 9);
        assert_eq!(spray(&mut throttle, secs(100_000), "c"), ADDRESS_FREE);
    }

    #[test]
    fn an_address_of_the_new_kind_is_its_network() {
        let network_of = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(network_of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network_of("::ffff:127.0.0.9"), "127.0.0.9");
        assert_eq!(network_of("127.0.0.9"), "127.0.0.9");
    }

    #[test]
    fn both_tables_are_bounded() {
        let mut throttle = Throttle::of(10);
        for n in 0..100 {
            let account = name(&format!("u{n}"));
            assert_eq!(throttle.check(&account, address(n), Time::ZERO), Ok(()));
            throttle.failed(&account, address(n), Time::ZERO);
        }
        assert_eq!((throttle.accounts.len(), throttle.addresses.len()), (10, 10));
        let forgotten = name("u0");
        throttle.failed(&forgotten, address(0), Time::ZERO);
        assert_eq!(throttle.failures(&forgotten), 1);
    }

    proptest! {
        /// Many addresses against one account, one address against many accounts, and anything between: tries that
        /// begin together, end late or never, and clients that come too early.
        #[test]
        fn no_account_and_no_address_gets_more_than_its_share(
            steps in prop::collection::vec((0u64..40_000, 0u8..3, 0u32..3, 0u8..4), 1..400),
        ) {
            let mut throttle = Throttle::new();
            let mut now = Time::ZERO;
            let mut passed: Vec<(Time, u8, u32)> = Vec::new();
            let mut under_way = Vec::new();
            for (millis, account, from, what) in steps {
                now = now + Duration::from_millis(if what == 0 { millis } else { millis / 1000 });
                let account_name = name(&format!("u{account}"));
                if throttle.check(&account_name, address(from), now).is_ok() {
                    passed.push((now, account, from));
                    under_way.push((account_name, from));
                }
                if what >= 2 && let Some((account, from)) = under_way.pop() {
                    throttle.failed(&account, address(from), now);
                }
            }
            for (first, (start, ..)) in passed.iter().enumerate() {
                for last in first..passed.len() {
                    let window = &passed[first..=last];
                    let minutes = passed[last].0.since(*start).as_secs() as usize / 30 + 1;
                    for who in 0..3 {
                        let of_account = window.iter().filter(|(_, account, _)| *account == who).count();
                        // Three are free, five waits are below the longest.
                        prop_assert!(of_account <= 3 + 5 + minutes, "{} in {} half minutes", of_account, minutes);
                        let from_address = window.iter().filter(|(.., from)| *from == u32::from(who)).count();
                        prop_assert!(from_address <= ADDRESS_FREE as usize + 5 + 2 * minutes);
                    }
                }
            }
        }
    }
}
