//! Where one talks.

/// A room, or the conversation with a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place<'a> {
    /// A room.
    Room(&'a str),
    /// The conversation with this user.
    User(&'a str),
}

impl<'a> Place<'a> {
    /// The fields `room` and `user` of a request about it.
    pub fn parts(self) -> (Option<&'a str>, Option<&'a str>) {
        match self {
            Place::Room(room) => (Some(room), None),
            Place::User(user) => (None, Some(user)),
        }
    }
}
