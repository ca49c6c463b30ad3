//! People for tests: a map.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard};

use anyhow::bail;
use stillhere_core::name::Name;
use stillhere_core::secret::SecretHash;

use super::people::{Account, Ban, People};
use crate::store::people::TOKENS_PER_USER_MAX;

/// Everything, open to tests.
#[derive(Default)]
pub(crate) struct Memory(Mutex<Tables>);

#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) accounts: BTreeMap<Name, Account>,
    /// Owner, hash, made, expires; oldest first.
    pub(crate) tokens: Vec<(Name, SecretHash, u64, u64)>,
    pub(crate) banned: BTreeMap<String, Ban>,
    /// How many times something was written.
    pub(crate) writes: usize,
    /// The disk is broken.
    pub(crate) broken: bool,
}

impl Memory {
    pub(crate) fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap()
    }

    fn read(&self) -> anyhow::Result<MutexGuard<'_, Tables>> {
        let tables = self.tables();
        if tables.broken {
            bail!("broken for the test");
        }
        Ok(tables)
    }

    fn write(&self) -> anyhow::Result<MutexGuard<'_, Tables>> {
        let mut tables = self.read()?;
        tables.writes += 1;
        Ok(tables)
    }
}

impl People for Memory {
    fn account(&self, name: &Name) -> anyhow::Result<Option<Account>> {
        Ok(self.read()?.accounts.get(name).cloned())
    }

    fn add(&self, name: &Name, password: &str, _: u64) -> anyhow::Result<bool> {
        let mut tables = self.write()?;
        if tables.accounts.contains_key(name) {
            return Ok(false);
        }
        tables.accounts.insert(name.clone(), Account { password: Some(password.into()), disabled: false });
        Ok(true)
    }

    fn set_password(&self, name: &Name, password: &str, revoke_tokens: bool) -> anyhow::Result<bool> {
        let mut tables = self.write()?;
        if revoke_tokens {
            tables.tokens.retain(|(owner, ..)| owner != name);
        }
        Ok(tables.accounts.get_mut(name).map(|account| account.password = Some(password.into())).is_some())
    }

    fn add_token(&self, name: &Name, hash: &SecretHash, now_ms: u64, expires_ms: u64) -> anyhow::Result<()> {
        let mut tables = self.write()?;
        tables.tokens.push((name.clone(), *hash, now_ms, expires_ms));
        while tables.tokens.iter().filter(|(owner, ..)| owner == name).count() as u64 > TOKENS_PER_USER_MAX {
            let oldest = tables.tokens.iter().position(|(owner, ..)| owner == name).unwrap();
            tables.tokens.remove(oldest);
        }
        Ok(())
    }

    fn token(&self, hash: &SecretHash) -> anyhow::Result<Option<(Name, u64)>> {
        let tables = self.read()?;
        let found = tables.tokens.iter().find(|(_, kept, ..)| kept.matches(hash));
        Ok(found.map(|(owner, _, _, expires_ms)| (owner.clone(), *expires_ms)))
    }

    fn refresh_token(&self, hash: &SecretHash, expires_ms: u64) -> anyhow::Result<()> {
        let mut tables = self.write()?;
        tables.tokens.iter_mut().filter(|(_, kept, ..)| kept.matches(hash)).for_each(|token| token.3 = expires_ms);
        Ok(())
    }

    fn ban(&self, user: Option<&Name>, address: IpAddr, now_ms: u64) -> anyhow::Result<Option<Ban>> {
        let tables = self.read()?;
        let bans = user.map(Name::to_string).into_iter().chain([address.to_string()]);
        let mut bans = bans.filter_map(|subject| tables.banned.get(&subject).copied());
        Ok(bans.find(|ban| ban.until_ms.is_none_or(|until_ms| until_ms > now_ms)))
    }
}
