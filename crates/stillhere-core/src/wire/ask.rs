//! The ops of chat: what a v1 client asks for beyond its own life.

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::body::{Field, mistyped};
use super::error::{ErrorCode, Refusal};
use crate::area::Point;
use crate::ledger::{Place, Relation, Role};
use crate::limits::{KEY_BYTES_MAX, MID_BYTES_MAX, PASSWORD_BYTES_MAX, TOKEN_BYTES_MAX, WATCH_MAX};
use crate::name::Name;

/// An op of chat.
#[derive(Debug)]
pub enum Ask<'a> {
    /// Become a user.
    Enter {
        /// By which op.
        by: Door,
        /// Who; none with a token.
        user: Option<Name>,
        /// The password or token.
        secret: Cow<'a, str>,
        /// Whether a token is wanted for the next time.
        remember: bool,
    },
    /// Change the password.
    Password {
        /// The present one.
        old: Cow<'a, str>,
        /// The next one.
        new: Cow<'a, str>,
    },
    /// Be in a room.
    Join {
        /// Which.
        room: Name,
        /// Push what came after this seq first.
        after: Option<u64>,
        /// Where in an area room.
        at: Option<Point>,
    },
    /// Be in it no longer.
    Part {
        /// Which.
        room: Cow<'a, str>,
    },
    /// A message to a room.
    Say {
        /// Which.
        room: Cow<'a, str>,
        /// The message.
        words: Words<'a>,
    },
    /// A message to a user.
    Tell {
        /// Whom.
        user: Name,
        /// The message.
        words: Words<'a>,
    },
    /// Volatile data to a room.
    Signal {
        /// Which.
        room: Cow<'a, str>,
        /// The data: JSON as it came.
        data: &'a RawValue,
        /// Coalesced by this; one signal's key supersedes the same key's of before.
        key: Option<Cow<'a, str>>,
        /// Where the sender is now.
        at: Option<Point>,
    },
    /// Old messages.
    History {
        /// Where.
        place: Place,
        /// Only below this seq.
        before: Option<u64>,
        /// Only above this seq.
        after: Option<u64>,
        /// At most so many.
        limit: Option<u64>,
        /// Only what contains this.
        query: Option<Cow<'a, str>>,
    },
    /// Who is here.
    Who(Option<Place>),
    /// Presence of these from now on.
    Watch(Vec<Name>),
    /// No longer.
    Unwatch(Vec<Name>),
    /// How far somebody has read.
    Read {
        /// Where.
        place: Place,
        /// The last seq read.
        seq: u64,
    },
    /// Change a room.
    Govern {
        /// Which.
        room: Name,
        /// How.
        act: crate::ledger::Act,
    },
    /// Take back a message to a user.
    Unsay {
        /// Whom it was to.
        user: Name,
        /// Which.
        seq: u64,
    },
    /// Decide about another user.
    Relate {
        /// Whom.
        user: Name,
        /// What.
        relation: Relation,
    },
}

/// The ops by which one becomes a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// A new account.
    Register,
    /// A password.
    Login,
    /// A token.
    Token,
}

/// What is said.
#[derive(Debug)]
pub struct Words<'a> {
    /// For people.
    pub text: Cow<'a, str>,
    /// For programs: JSON as it came.
    pub data: Option<&'a RawValue>,
    /// The sender's id for it.
    pub mid: Option<Cow<'a, str>>,
}

/// Fields that only ops of chat know. Apart from the others, so that a beat doesn't pay for them.
#[derive(Debug, Default)]
pub(super) struct AskFields<'a> {
    password: Field<'a>,
    new: Field<'a>,
    remember: Field<'a>,
    room: Field<'a>,
    after: Field<'a>,
    before: Field<'a>,
    limit: Field<'a>,
    query: Field<'a>,
    text: Field<'a>,
    mid: Field<'a>,
    key: Field<'a>,
    seq: Field<'a>,
    topic: Field<'a>,
    public: Field<'a>,
    radius: Field<'a>,
    role: Field<'a>,
    for_ms: Field<'a>,
    data: Option<&'a RawValue>,
    at: Option<&'a RawValue>,
    users: Option<&'a RawValue>,
}

/// Where a field's value goes.
pub(super) enum Slot<'s, 'a> {
    Field(&'s mut Field<'a>),
    Raw(&'s mut Option<&'a RawValue>),
}

impl<'a> AskFields<'a> {
    /// Every key that some op of chat knows.
    const KEYS: [&'static str; 20] = [
        "password", "new", "remember", "room", "after", "before", "limit", "query", "text", "mid", "key", "seq",
        "topic", "public", "radius", "role", "for_ms", "data", "at", "users",
    ];

    /// Whether some op of chat knows this key.
    pub(super) fn knows(key: &str) -> bool {
        AskFields::KEYS.contains(&key)
    }

    pub(super) fn slot(&mut self, key: &str) -> Option<Slot<'_, 'a>> {
        Some(Slot::Field(match key {
            "password" => &mut self.password,
            "new" => &mut self.new,
            "remember" => &mut self.remember,
            "room" => &mut self.room,
            "after" => &mut self.after,
            "before" => &mut self.before,
            "limit" => &mut self.limit,
            "query" => &mut self.query,
            "text" => &mut self.text,
            "mid" => &mut self.mid,
            "key" => &mut self.key,
            "seq" => &mut self.seq,
            "topic" => &mut self.topic,
            "public" => &mut self.public,
            "radius" => &mut self.radius,
            "role" => &mut self.role,
            "for_ms" => &mut self.for_ms,
            "data" => return Some(Slot::Raw(&mut self.data)),
            "at" => return Some(Slot::Raw(&mut self.at)),
            "users" => return Some(Slot::Raw(&mut self.users)),
            _ => return None,
        }))
    }
}

/// Reads an op of chat; `None` if there is none of this name. `user` and `token` are fields of other ops too.
pub(super) fn ask<'a>(
    name: &str,
    user: Field<'a>,
    token: Field<'a>,
    fields: Option<Box<AskFields<'a>>>,
) -> Option<Result<Ask<'a>, Refusal>> {
    let reader = Reader { user, token, fields: fields.map_or_else(AskFields::default, |fields| *fields) };
    Some(match name {
        "register" => reader.enter(Door::Register),
        "login" => reader.enter(Door::Login),
        "token" => reader.token(),
        "password" => reader.change_password(),
        "join" => reader.join(),
        "part" => reader.room_text().map(|(room, _)| Ask::Part { room }),
        "say" => reader.say(),
        "tell" => reader.tell(),
        "signal" => reader.signal(),
        "history" => reader.history(),
        "who" => reader.who(),
        "watch" => reader.names().map(Ask::Watch),
        "unwatch" => reader.names().map(Ask::Unwatch),
        "read" => reader.read(),
        "room" => reader.set(),
        "role" => reader.role(),
        "invite" => reader.invite(),
        "mute" => reader.mute(),
        "remove" => reader.remove(),
        "delete" => reader.delete(),
        "block" => reader.relate(Relation::Block),
        "unblock" => reader.relate(Relation::Unblock),
        "allow" => reader.relate(Relation::Allow),
        "disallow" => reader.relate(Relation::Disallow),
        _ => return None,
    })
}

struct Reader<'a> {
    user: Field<'a>,
    token: Field<'a>,
    fields: AskFields<'a>,
}

impl<'a> Reader<'a> {
    fn enter(mut self, by: Door) -> Result<Ask<'a>, Refusal> {
        let user = self.user()?;
        let secret = password(self.fields.password, "password")?;
        let remember = self.fields.remember.truth("remember")?.unwrap_or(false);
        Ok(Ask::Enter { by, user: Some(user), secret, remember })
    }

    fn token(self) -> Result<Ask<'a>, Refusal> {
        let secret = required(self.token.bounded("token", TOKEN_BYTES_MAX)?, "token")?;
        Ok(Ask::Enter { by: Door::Token, user: None, secret, remember: false })
    }

    fn change_password(self) -> Result<Ask<'a>, Refusal> {
        Ok(Ask::Password { old: password(self.fields.password, "password")?, new: password(self.fields.new, "new")? })
    }

    fn join(mut self) -> Result<Ask<'a>, Refusal> {
        let room = self.room()?;
        Ok(Ask::Join { room, after: self.fields.after.whole("after")?, at: point(self.fields.at)? })
    }

    fn say(self) -> Result<Ask<'a>, Refusal> {
        let (room, fields) = self.room_text()?;
        Ok(Ask::Say { room, words: words(fields)? })
    }

    fn tell(mut self) -> Result<Ask<'a>, Refusal> {
        let user = self.user()?;
        Ok(Ask::Tell { user, words: words(self.fields)? })
    }

    fn signal(self) -> Result<Ask<'a>, Refusal> {
        let (room, fields) = self.room_text()?;
        Ok(Ask::Signal {
            room,
            data: required(fields.data, "data")?,
            key: fields.key.bounded("key", KEY_BYTES_MAX)?,
            at: point(fields.at)?,
        })
    }

    fn history(mut self) -> Result<Ask<'a>, Refusal> {
        let place = required(self.place()?, "room` or `user")?;
        Ok(Ask::History {
            place,
            before: self.fields.before.whole("before")?,
            after: self.fields.after.whole("after")?,
            limit: self.fields.limit.whole("limit")?,
            query: self.fields.query.text("query")?,
        })
    }

    fn who(mut self) -> Result<Ask<'a>, Refusal> {
        Ok(Ask::Who(self.place()?))
    }

    fn read(mut self) -> Result<Ask<'a>, Refusal> {
        let place = required(self.place()?, "room` or `user")?;
        Ok(Ask::Read { place, seq: required(self.fields.seq.whole("seq")?, "seq")? })
    }

    fn set(mut self) -> Result<Ask<'a>, Refusal> {
        let room = self.room()?;
        let topic = self.fields.topic.text("topic")?.map(Into::into);
        let public = self.fields.public.truth("public")?;
        let radius = match self.fields.radius.float("radius")? {
            Some(radius) if !(0.0..=1e9).contains(&radius) => {
                return Err(mistyped("radius", "a number from 0 (no area) to 1e9"));
            }
            radius => radius,
        };
        Ok(Ask::Govern { room, act: crate::ledger::Act::Set { topic, public, radius } })
    }

    fn role(mut self) -> Result<Ask<'a>, Refusal> {
        let (room, user) = (self.room()?, self.user()?);
        let role = required(self.fields.role.text("role")?, "role")?;
        let role = Role::parse(&role).ok_or_else(|| mistyped("role", "guest, member, moderator or owner"))?;
        Ok(Ask::Govern { room, act: crate::ledger::Act::Role { user, role } })
    }

    fn invite(mut self) -> Result<Ask<'a>, Refusal> {
        let (room, user) = (self.room()?, self.user()?);
        Ok(Ask::Govern { room, act: crate::ledger::Act::Invite { user } })
    }

    fn mute(mut self) -> Result<Ask<'a>, Refusal> {
        let (room, user) = (self.room()?, self.user()?);
        let span = required(self.fields.for_ms.whole("for_ms")?, "for_ms")?;
        Ok(Ask::Govern { room, act: crate::ledger::Act::Mute { user, span: Duration::from_millis(span) } })
    }

    fn remove(mut self) -> Result<Ask<'a>, Refusal> {
        let (room, user) = (self.room()?, self.user()?);
        let span = self.fields.for_ms.whole("for_ms")?.unwrap_or(0);
        Ok(Ask::Govern { room, act: crate::ledger::Act::Remove { user, span: Duration::from_millis(span) } })
    }

    fn delete(mut self) -> Result<Ask<'a>, Refusal> {
        let place = required(self.place()?, "room` or `user")?;
        let seq = required(self.fields.seq.whole("seq")?, "seq")?;
        Ok(match place {
            Place::Room(room) => Ask::Govern { room, act: crate::ledger::Act::Delete { seq } },
            Place::User(user) => Ask::Unsay { user, seq },
        })
    }

    fn relate(mut self, relation: Relation) -> Result<Ask<'a>, Refusal> {
        Ok(Ask::Relate { user: self.user()?, relation })
    }

    fn names(self) -> Result<Vec<Name>, Refusal> {
        let wanted = || mistyped("users", "an array of names");
        let raw = required(self.fields.users, "users")?;
        let texts = Vec::<Text<'_>>::deserialize(raw).map_err(|_| wanted())?;
        if texts.len() > WATCH_MAX {
            return Err(mistyped("users", &format!("an array of at most {WATCH_MAX} names")));
        }
        texts.iter().map(|text| user_name(&text.0)).collect()
    }

    fn place(&mut self) -> Result<Option<Place>, Refusal> {
        let room = std::mem::take(&mut self.fields.room).text("room")?;
        let user = std::mem::take(&mut self.user).text("user")?;
        match (room, user) {
            (Some(room), None) => Ok(Some(Place::Room(room_name(&room)?))),
            (None, Some(user)) => Ok(Some(Place::User(user_name(&user)?))),
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(mistyped("room", "absent when there is a `user`: one of the two")),
        }
    }

    fn user(&mut self) -> Result<Name, Refusal> {
        user_name(&required(std::mem::take(&mut self.user).text("user")?, "user")?)
    }

    fn room(&mut self) -> Result<Name, Refusal> {
        room_name(&required(std::mem::take(&mut self.fields.room).text("room")?, "room")?)
    }

    /// The room as it came, for ops of those who are in it: looked up, not made into a name.
    fn room_text(mut self) -> Result<(Cow<'a, str>, AskFields<'a>), Refusal> {
        let room = required(std::mem::take(&mut self.fields.room).text("room")?, "room")?;
        if Name::is_canonical(&room) {
            return Ok((room, self.fields));
        }
        let name = room_name(&room)?;
        Ok((Cow::Owned(name.as_str().to_owned()), self.fields))
    }
}

/// A string of an array, borrowed unless it has escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn words(fields: AskFields<'_>) -> Result<Words<'_>, Refusal> {
    Ok(Words {
        text: required(fields.text.text("text")?, "text")?,
        data: fields.data,
        mid: fields.mid.bounded("mid", MID_BYTES_MAX)?,
    })
}

fn password<'a>(field: Field<'a>, name: &str) -> Result<Cow<'a, str>, Refusal> {
    required(field.bounded(name, PASSWORD_BYTES_MAX)?, name)
}

fn required<T>(value: Option<T>, name: &str) -> Result<T, Refusal> {
    value.ok_or_else(|| ErrorCode::MISSING_FIELD.because(format!("`{name}` is missing")))
}

fn point(raw: Option<&RawValue>) -> Result<Option<Point>, Refusal> {
    let Some(raw) = raw.filter(|raw| raw.get() != "null") else { return Ok(None) };
    let [x, y] = <[f64; 2]>::deserialize(raw).map_err(|_| mistyped("at", "two numbers: [x, y]"))?;
    Point::new(x, y).map(Some).ok_or_else(|| mistyped("at", "two numbers within ±1e9"))
}

fn user_name(text: &str) -> Result<Name, Refusal> {
    Name::user(text).map_err(|error| ErrorCode::BAD_NAME.because(error.to_string()))
}

fn room_name(text: &str) -> Result<Name, Refusal> {
    Name::room(text).map_err(|error| ErrorCode::BAD_NAME.because(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_key_has_its_slot() {
        let mut fields = AskFields::default();
        for key in AskFields::KEYS {
            assert!(fields.slot(key).is_some(), "{key}");
        }
    }
}
