//! Who may do what in a room: one function, no state.
//!
//! The store asks it before it changes anything. What depends on more than two roles (an author deletes their own
//! message, a room keeps its last owner) the store adds itself.

use crate::ledger::Role;

/// What is done to a room, without its particulars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Change its settings.
    Set,
    /// Give a user, who has one role, another one.
    Role {
        /// What the user is.
        from: Role,
        /// What it is to be.
        to: Role,
    },
    /// Make a guest a member.
    Invite,
    /// Let a user of this role only listen, or speak again.
    Mute(Role),
    /// Put a user of this role out, or let it in again.
    Remove(Role),
    /// Delete somebody else's message, whoever wrote it.
    Delete,
}

/// Whether someone of this role may do it.
///
/// Owners do everything but mute or remove each other: to do that, one first gives the other a lower role. Moderators
/// mute and remove those below them, invite, and delete messages. Members and guests do none of it.
pub const fn may(actor: Role, deed: Deed) -> bool {
    match deed {
        Deed::Set | Deed::Role { .. } => matches!(actor, Role::Owner),
        Deed::Invite | Deed::Delete => rank(actor) >= rank(Role::Moderator),
        Deed::Mute(target) | Deed::Remove(target) => rank(actor) >= rank(Role::Moderator) && rank(target) < rank(actor),
    }
}

const fn rank(role: Role) -> u8 {
    match role {
        Role::Guest => 0,
        Role::Member => 1,
        Role::Moderator => 2,
        Role::Owner => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Role::{Guest, Member, Moderator, Owner};

    #[test]
    fn every_role_may_do_exactly_what_the_table_says() {
        // Actor, then: set, invite, delete; mute and remove a guest, member, moderator, owner.
        let table = [
            (Guest, [false, false, false], [false, false, false, false]),
            (Member, [false, false, false], [false, false, false, false]),
            (Moderator, [false, true, true], [true, true, false, false]),
            (Owner, [true, true, true], [true, true, true, false]),
        ];
        for (actor, [set, invite, delete], over) in table {
            let check = |deed, expected| assert_eq!(may(actor, deed), expected, "{actor:?} {deed:?}");
            check(Deed::Set, set);
            check(Deed::Invite, invite);
            check(Deed::Delete, delete);
            for (target, allowed) in Role::ALL.into_iter().zip(over) {
                check(Deed::Mute(target), allowed);
                check(Deed::Remove(target), allowed);
            }
        }
    }

    #[test]
    fn only_owners_give_roles_and_they_give_all() {
        for actor in Role::ALL {
            for from in Role::ALL {
                for to in Role::ALL {
                    assert_eq!(may(actor, Deed::Role { from, to }), actor == Owner, "{actor:?}: {from:?} to {to:?}");
                }
            }
        }
    }

    #[test]
    fn ranks_order_as_the_roles_do() {
        for pair in Role::ALL.windows(2) {
            assert!(rank(pair[0]) < rank(pair[1]) && pair[0] < pair[1]);
        }
    }
}
