//! The ops of chat, for writing: what [`super::ask`] reads. Only the fields that are given appear on the wire.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::ledger::Role;

/// An op of chat as a client says it. It borrows everything, so building one costs nothing.
///
/// `history`, `who`, `read` and `delete` are about a room or about the conversation with a user: give one of the two.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Request<'a> {
    /// Make an account and be its user.
    Register {
        /// The name.
        user: &'a str,
        /// At least 8 characters, not a common one.
        password: &'a str,
        /// Ask for a token that logs in the next time.
        #[serde(skip_serializing_if = "is_false")]
        remember: bool,
    },
    /// Be the user of an account.
    Login {
        /// The name.
        user: &'a str,
        /// The password.
        password: &'a str,
        /// Ask for a token that logs in the next time.
        #[serde(skip_serializing_if = "is_false")]
        remember: bool,
    },
    /// Be the user that an earlier login's token stands for.
    Token {
        /// The token.
        token: &'a str,
    },
    /// Change the password.
    Password {
        /// The present one.
        password: &'a str,
        /// The next one.
        new: &'a str,
    },
    /// Be in a room.
    Join {
        /// Which.
        room: &'a str,
        /// Push what came after this seq first; only what comes from now on if left out.
        #[serde(skip_serializing_if = "Option::is_none")]
        after: Option<u64>,
        /// Where in an area room.
        #[serde(skip_serializing_if = "Option::is_none")]
        at: Option<[f64; 2]>,
    },
    /// Be in it no longer.
    Part {
        /// Which.
        room: &'a str,
    },
    /// A message to a room.
    Say {
        /// Which.
        room: &'a str,
        /// For people.
        text: &'a str,
        /// For programs.
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<&'a RawValue>,
        /// The sender's id for it, at most 64 bytes: the same one again within 10 min is the same message.
        #[serde(skip_serializing_if = "Option::is_none")]
        mid: Option<&'a str>,
    },
    /// A message to a user.
    Tell {
        /// Whom.
        user: &'a str,
        /// For people.
        text: &'a str,
        /// For programs.
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<&'a RawValue>,
        /// As in `say`.
        #[serde(skip_serializing_if = "Option::is_none")]
        mid: Option<&'a str>,
    },
    /// Volatile data to a room. It is never answered.
    Signal {
        /// Which.
        room: &'a str,
        /// The data.
        data: &'a RawValue,
        /// It supersedes the sender's earlier signal of this key, at most 64 bytes.
        #[serde(skip_serializing_if = "Option::is_none")]
        key: Option<&'a str>,
        /// Where the sender is now, in an area room.
        #[serde(skip_serializing_if = "Option::is_none")]
        at: Option<[f64; 2]>,
    },
    /// Old messages.
    History {
        /// Of this room.
        #[serde(skip_serializing_if = "Option::is_none")]
        room: Option<&'a str>,
        /// Of the conversation with this user.
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<&'a str>,
        /// Only below this seq.
        #[serde(skip_serializing_if = "Option::is_none")]
        before: Option<u64>,
        /// Only above this seq.
        #[serde(skip_serializing_if = "Option::is_none")]
        after: Option<u64>,
        /// At most so many; the server has a limit of its own.
        #[serde(skip_serializing_if = "Option::is_none")]
        limit: Option<u64>,
        /// Only what contains this.
        #[serde(skip_serializing_if = "Option::is_none")]
        query: Option<&'a str>,
    },
    /// Who is here: in a room, one user, or (without either) the server's say on oneself.
    Who {
        /// In this room.
        #[serde(skip_serializing_if = "Option::is_none")]
        room: Option<&'a str>,
        /// This user.
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<&'a str>,
    },
    /// Presence of these from now on.
    Watch {
        /// At most 100.
        users: &'a [&'a str],
    },
    /// No longer.
    Unwatch {
        /// At most 100.
        users: &'a [&'a str],
    },
    /// How far one has read.
    Read {
        /// In this room.
        #[serde(skip_serializing_if = "Option::is_none")]
        room: Option<&'a str>,
        /// In the conversation with this user.
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<&'a str>,
        /// The last seq read.
        seq: u64,
    },
    /// Change a room's settings.
    Room {
        /// Which.
        room: &'a str,
        /// What it is about.
        #[serde(skip_serializing_if = "Option::is_none")]
        topic: Option<&'a str>,
        /// Whether anyone may join.
        #[serde(skip_serializing_if = "Option::is_none")]
        public: Option<bool>,
        /// How far a signal reaches; 0 for a room that is no area.
        #[serde(skip_serializing_if = "Option::is_none")]
        radius: Option<f64>,
    },
    /// Give a role in a room.
    Role {
        /// Which room.
        room: &'a str,
        /// Whom.
        user: &'a str,
        /// Which role.
        role: Role,
    },
    /// Let a user into a room by invitation.
    Invite {
        /// Which room.
        room: &'a str,
        /// Whom.
        user: &'a str,
    },
    /// Let a user only listen.
    Mute {
        /// In which room.
        room: &'a str,
        /// Whom.
        user: &'a str,
        /// For how long, in milliseconds; 0 ends it.
        for_ms: u64,
    },
    /// Put a user out of a room.
    Remove {
        /// Which room.
        room: &'a str,
        /// Whom.
        user: &'a str,
        /// For how long, in milliseconds; 0: it may come back at once.
        for_ms: u64,
    },
    /// Delete a message; a tombstone stays.
    Delete {
        /// In this room.
        #[serde(skip_serializing_if = "Option::is_none")]
        room: Option<&'a str>,
        /// In the conversation with this user.
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<&'a str>,
        /// Which.
        seq: u64,
    },
    /// Take no messages from a user, and show it no presence.
    Block {
        /// Whom.
        user: &'a str,
    },
    /// No longer.
    Unblock {
        /// Whom.
        user: &'a str,
    },
    /// Let a user see one's presence and write although a stranger.
    Allow {
        /// Whom.
        user: &'a str,
    },
    /// No longer.
    Disallow {
        /// Whom.
        user: &'a str,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// A request with the id that its reply will carry.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Envelope<'a> {
    /// What is asked.
    #[serde(flatten)]
    pub request: &'a Request<'a>,
    /// Echoed as `re`; without one there is no reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::body;

    /// What the server's reader makes of a request, and what it looks like on the wire.
    fn check(request: &Request<'_>, wire: &str) {
        let written = serde_json::to_string(&Envelope { request, id: Some(7) }).unwrap();
        assert_eq!(written, wire);
        let mut scratch = String::new();
        let parsed = body::parse(written.as_bytes(), &mut scratch);
        let Ok(body::Body::V1(read)) = parsed else { panic!("{wire}: {parsed:?}") };
        assert!(matches!(read.op, Ok(body::Op::Ask(_))), "{wire}: {:?}", read.op);
    }

    #[test]
    fn every_op_is_written_as_the_server_reads_it() {
        let data: &RawValue = serde_json::from_str(r#"{"x": 1}"#).unwrap();
        let (room, user) = ("lobby", "ada");
        for (request, wire) in [
            (
                Request::Register { user, password: "p", remember: true },
                r#"{"op":"register","user":"ada","password":"p","remember":true,"id":7}"#,
            ),
            (
                Request::Login { user, password: "p", remember: false },
                r#"{"op":"login","user":"ada","password":"p","id":7}"#,
            ),
            (Request::Token { token: "t" }, r#"{"op":"token","token":"t","id":7}"#),
            (Request::Password { password: "p", new: "n" }, r#"{"op":"password","password":"p","new":"n","id":7}"#),
            (
                Request::Join { room, after: Some(5), at: Some([1.0, -2.5]) },
                r#"{"op":"join","room":"lobby","after":5,"at":[1.0,-2.5],"id":7}"#,
            ),
            (Request::Part { room }, r#"{"op":"part","room":"lobby","id":7}"#),
            (
                Request::Say { room, text: "你好\n", data: Some(data), mid: Some("m") },
                r#"{"op":"say","room":"lobby","text":"你好\n","data":{"x": 1},"mid":"m","id":7}"#,
            ),
            (
                Request::Tell { user, text: "t", data: None, mid: None },
                r#"{"op":"tell","user":"ada","text":"t","id":7}"#,
            ),
            (
                Request::Signal { room, data, key: Some("k"), at: None },
                r#"{"op":"signal","room":"lobby","data":{"x": 1},"key":"k","id":7}"#,
            ),
            (
                Request::History {
                    room: Some(room),
                    user: None,
                    before: Some(9),
                    after: None,
                    limit: Some(50),
                    query: Some("q"),
                },
                r#"{"op":"history","room":"lobby","before":9,"limit":50,"query":"q","id":7}"#,
            ),
            (Request::Who { room: None, user: Some(user) }, r#"{"op":"who","user":"ada","id":7}"#),
            (Request::Who { room: None, user: None }, r#"{"op":"who","id":7}"#),
            (Request::Watch { users: &["ada", "bob"] }, r#"{"op":"watch","users":["ada","bob"],"id":7}"#),
            (Request::Unwatch { users: &[] }, r#"{"op":"unwatch","users":[],"id":7}"#),
            (Request::Read { room: None, user: Some(user), seq: 3 }, r#"{"op":"read","user":"ada","seq":3,"id":7}"#),
            (
                Request::Room { room, topic: Some("t"), public: Some(false), radius: Some(10.0) },
                r#"{"op":"room","room":"lobby","topic":"t","public":false,"radius":10.0,"id":7}"#,
            ),
            (
                Request::Role { room, user, role: Role::Moderator },
                r#"{"op":"role","room":"lobby","user":"ada","role":"moderator","id":7}"#,
            ),
            (Request::Invite { room, user }, r#"{"op":"invite","room":"lobby","user":"ada","id":7}"#),
            (
                Request::Mute { room, user, for_ms: 1000 },
                r#"{"op":"mute","room":"lobby","user":"ada","for_ms":1000,"id":7}"#,
            ),
            (
                Request::Remove { room, user, for_ms: 0 },
                r#"{"op":"remove","room":"lobby","user":"ada","for_ms":0,"id":7}"#,
            ),
            (
                Request::Delete { room: Some(room), user: None, seq: 4 },
                r#"{"op":"delete","room":"lobby","seq":4,"id":7}"#,
            ),
            (Request::Block { user }, r#"{"op":"block","user":"ada","id":7}"#),
            (Request::Unblock { user }, r#"{"op":"unblock","user":"ada","id":7}"#),
            (Request::Allow { user }, r#"{"op":"allow","user":"ada","id":7}"#),
            (Request::Disallow { user }, r#"{"op":"disallow","user":"ada","id":7}"#),
        ] {
            check(&request, wire);
        }
    }
}
