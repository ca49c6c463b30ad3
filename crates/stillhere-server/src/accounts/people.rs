//! What accounts and operators need of the store. Every call may wait for the disk; none is made on a shard's thread.

use std::net::IpAddr;

use stillhere_core::ledger::{OrderId, Refused};
use stillhere_core::name::Name;
use stillhere_core::secret::SecretHash;

/// What a login needs to know of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    /// The password as [`super::hash`] makes it; `None` for a name that was only ever a claim.
    pub(crate) password: Option<Box<str>>,
    /// Whether the operator has disabled it.
    pub(crate) disabled: bool,
}

/// A ban that is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ban {
    /// Until when, in milliseconds since 1970; `None`: until it is taken back.
    pub(crate) until_ms: Option<u64>,
}

/// Users, tokens and bans, as logins need them. What a call changed is on the disk when it returns. An error says that
/// the disk, not the caller, is to blame.
pub(crate) trait People: Send + Sync {
    /// The user of this name.
    fn account(&self, name: &Name) -> anyhow::Result<Option<Account>>;

    /// Makes a user; false if the name is taken.
    fn add(&self, name: &Name, password: &str, now_ms: u64) -> anyhow::Result<bool>;

    /// Gives a user another password and, if it is to, takes its tokens away; false if there is no such user.
    fn set_password(&self, name: &Name, password: &str, revoke_tokens: bool) -> anyhow::Result<bool>;

    /// Keeps a token of a user; of too many the oldest go.
    fn add_token(&self, name: &Name, hash: &SecretHash, now_ms: u64, expires_ms: u64) -> anyhow::Result<()>;

    /// Whose token it is, and until when, in milliseconds since 1970.
    fn token(&self, hash: &SecretHash) -> anyhow::Result<Option<(Name, u64)>>;

    /// Lets a token live until then.
    fn refresh_token(&self, hash: &SecretHash, expires_ms: u64) -> anyhow::Result<()>;

    /// A ban of the user, or of the address, that is in force at `now_ms`; the longest if there are several.
    fn ban(&self, user: Option<&Name>, address: IpAddr, now_ms: u64) -> anyhow::Result<Option<Ban>>;
}

/// Where the answers to orders go: the store's thread, which passes them on to the shard.
pub(crate) trait Answers: Send + Sync {
    /// The order's sender is this user.
    fn admit(&self, shard: usize, id: OrderId, entry: Entry);

    /// The order was carried out.
    fn done(&self, shard: usize, id: OrderId);

    /// The order isn't carried out.
    fn refuse(&self, shard: usize, id: OrderId, refused: Refused);
}

/// Somebody who has proven to be a user.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Who.
    pub(crate) user: Name,
    /// A token for the next time, if one was wanted.
    pub(crate) token: Option<Box<str>>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("user", &self.user).field("token", &self.token.is_some()).finish()
    }
}
