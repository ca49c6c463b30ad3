//! What a peer has of each room and conversation, so that over links and sessions nothing is missed or shown twice.

use std::collections::BTreeMap;

use crate::name::Name;

/// Conversations that are remembered; the one untouched for longest is forgotten. A forgotten one may show a message
/// again after a new session. 1,024 × about 150 bytes.
const CONVERSATIONS_MAX: usize = 1024;
/// Runs of own messages that are ahead of what was pushed. Each needs another user's message in between that is still
/// on its way, so a few are many.
const AHEAD_MAX: usize = 64;

/// A room, or the conversation with a user, by its canonical name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Where {
    Room(Box<str>),
    User(Box<str>),
}

impl Where {
    pub(super) fn room(name: &str) -> Where {
        Where::Room(Name::room(name).map_or_else(|_| name.into(), |name| name.as_str().into()))
    }

    pub(super) fn user(name: &str) -> Where {
        Where::User(Name::user(name).map_or_else(|_| name.into(), |name| name.as_str().into()))
    }
}

/// Whether the session is in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Not in this session, or not known.
    Out,
    /// The peer's own `join` of this id is under way.
    Joining(i64),
    In,
}

/// What a pushed message is to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Novelty {
    /// It wasn't here before.
    New,
    /// It is an own one, or lies before the beginning that the application chose.
    Known,
    /// It was pushed before.
    Repeated,
}

#[derive(Debug)]
pub(super) struct Place {
    /// Everything up to here was received, said, or lies before the beginning.
    pub(super) have: u64,
    /// The greatest seq that was pushed.
    pushed: u64,
    /// Own messages above `have`, as runs (first, last) in order: those between are still to be pushed.
    ahead: Vec<(u64, u64)>,
    /// Whether the application joined it, so that a new session joins it again.
    pub(super) wanted: bool,
    pub(super) standing: Standing,
    /// Where in an area room.
    pub(super) at: Option<[f64; 2]>,
    /// When it was first joined or last touched, as a count.
    order: u64,
}

impl Place {
    fn new(order: u64) -> Place {
        Place { have: 0, pushed: 0, ahead: Vec::new(), wanted: false, standing: Standing::Out, at: None, order }
    }

    /// A pushed message; tells what it is. Pushes come in order, so all before it was pushed, is own, or is gone.
    fn pushed(&mut self, seq: u64) -> Novelty {
        let is_own = self.ahead.iter().any(|(first, last)| (*first..=*last).contains(&seq));
        let novelty = match seq {
            seq if seq > self.have && !is_own => Novelty::New,
            seq if seq <= self.pushed => Novelty::Repeated,
            _ => Novelty::Known,
        };
        self.pushed = self.pushed.max(seq);
        self.advance(seq);
        novelty
    }

    /// The place of an own message, as the reply told it. A reply may overtake pushes of before it.
    fn said(&mut self, seq: u64) {
        if seq <= self.have.saturating_add(1) {
            return self.advance(seq);
        }
        let after = self.ahead.partition_point(|(first, _)| *first <= seq);
        if let Some((_, last)) = self.ahead[..after].last_mut()
            && seq <= last.saturating_add(1)
        {
            *last = seq.max(*last);
        } else if self.ahead.len() < AHEAD_MAX {
            self.ahead.insert(after, (seq, seq));
        }
    }

    fn advance(&mut self, seq: u64) {
        self.have = self.have.max(seq);
        while let Some((first, last)) = self.ahead.first().copied() {
            if first > self.have.saturating_add(1) {
                break;
            }
            self.have = self.have.max(last);
            self.ahead.remove(0);
        }
    }

    /// The application wants what comes after this seq, although it may have had it.
    fn rewind(&mut self, after: u64) {
        self.have = after;
        self.pushed = self.pushed.min(after);
        self.ahead.clear();
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) rooms: BTreeMap<Box<str>, Place>,
    users: BTreeMap<Box<str>, Place>,
    count: u64,
}

impl Places {
    /// A pushed message; tells what it is.
    pub(super) fn pushed(&mut self, at: Where, seq: u64) -> Novelty {
        self.of(at).pushed(seq)
    }

    /// An own message was committed.
    pub(super) fn said(&mut self, at: Where, seq: u64) {
        self.of(at).said(seq);
    }

    /// The application asks to be in a room behind a seq. What it missed may come before the answer. Tells whether it
    /// is in there already.
    pub(super) fn begin(&mut self, room: &str, after: u64) -> bool {
        let place = self.of(Where::room(room));
        let is_in = place.standing == Standing::In;
        if !is_in {
            place.rewind(after);
        }
        is_in
    }

    /// The application is in a room now. `after` is what it asked for, `head` the room's newest; `again` if it was in
    /// there already and wants to hear once more what came after.
    pub(super) fn joined(&mut self, room: &str, after: Option<u64>, again: bool, head: u64, at: Option<[f64; 2]>) {
        let place = self.of(Where::room(room));
        match after {
            Some(after) if again => place.rewind(after),
            Some(after) => place.advance(after),
            None => place.advance(head),
        }
        (place.wanted, place.standing, place.at) = (true, Standing::In, at.or(place.at));
    }

    pub(super) fn parted(&mut self, room: &str) {
        if let Where::Room(room) = Where::room(room) {
            self.rooms.remove(&room);
        }
    }

    /// No room is known to be joined: there is a new session.
    pub(super) fn all_out(&mut self) {
        self.rooms.retain(|_, place| place.wanted);
        self.rooms.values_mut().for_each(|place| place.standing = Standing::Out);
    }

    /// The link is gone, and with it the replies to the peer's own joins.
    pub(super) fn unlink(&mut self) {
        for place in self.rooms.values_mut().filter(|place| matches!(place.standing, Standing::Joining(_))) {
            place.standing = Standing::Out;
        }
    }

    /// The room that was joined first of those that are to be joined again.
    pub(super) fn next_out(&mut self) -> Option<(&str, &mut Place)> {
        let out = self.rooms.iter_mut().filter(|(_, place)| place.wanted && place.standing == Standing::Out);
        out.min_by_key(|(_, place)| place.order).map(|(name, place)| (&**name, place))
    }

    /// The room whose joining has this id.
    pub(super) fn joining(&self, id: i64) -> Option<Box<str>> {
        self.rooms.iter().find(|(_, place)| place.standing == Standing::Joining(id)).map(|(name, _)| name.clone())
    }

    pub(super) fn is_joining(&self) -> bool {
        self.rooms.values().any(|place| matches!(place.standing, Standing::Joining(_)))
    }

    /// Whether what is for this room has to wait until the peer is in it again.
    pub(super) fn is_away_from(&self, at: &Where) -> bool {
        let Where::Room(room) = at else { return false };
        self.rooms.get(room).is_some_and(|place| place.wanted && place.standing != Standing::In)
    }

    fn of(&mut self, at: Where) -> &mut Place {
        self.count += 1;
        let count = self.count;
        match at {
            Where::Room(room) => self.rooms.entry(room).or_insert_with(|| Place::new(count)),
            Where::User(user) => {
                if self.users.len() >= CONVERSATIONS_MAX && !self.users.contains_key(&user) {
                    let oldest = self.users.iter().min_by_key(|(_, place)| place.order).map(|(name, _)| name.clone());
                    oldest.map(|name| self.users.remove(&name));
                }
                let place = self.users.entry(user).or_insert_with(|| Place::new(count));
                place.order = count;
                place
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_is_new_once_however_replies_and_pushes_overtake_each_other() {
        let mut place = Place::new(0);
        let is_new = [1, 2, 2, 1].map(|seq| place.pushed(seq));
        assert_eq!(is_new, [Novelty::New, Novelty::New, Novelty::Repeated, Novelty::Repeated]);
        for seq in [4, 5, 7] {
            place.said(seq);
        }
        assert_eq!((place.have, &place.ahead[..]), (2, &[(4, 5), (7, 7)][..]));
        assert_eq!(place.pushed(3), Novelty::New);
        assert_eq!((place.have, &place.ahead[..]), (5, &[(7, 7)][..]));
        assert_eq!(place.pushed(5), Novelty::Known, "an own message that catching up brings");
        assert_eq!([6, 7, 8].map(|seq| place.pushed(seq)), [Novelty::New, Novelty::Known, Novelty::New]);
        assert_eq!((place.have, place.ahead.len()), (8, 0));
    }

    #[test]
    fn conversations_and_runs_are_bounded() {
        let mut places = Places::default();
        for nth in 0..CONVERSATIONS_MAX as u64 + 10 {
            assert_eq!(places.pushed(Where::user(&format!("u{nth}")), 1), Novelty::New);
        }
        assert_eq!(places.users.len(), CONVERSATIONS_MAX);
        assert!(!places.users.contains_key("u0") && places.users.contains_key("u10"));
        let mut place = Place::new(0);
        (0..1000).for_each(|nth| place.said(10 + nth * 2));
        assert_eq!(place.ahead.len(), AHEAD_MAX);
    }
}
