//! The table of errors that a server answers with, shared by the wire and the docs.

use serde::{Deserialize, Serialize};

/// One row of the table: a number that stays, a name, and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode {
    /// 10xx protocol, 11xx identity, 12xx limits, 13xx rooms and rights, 14xx not found, 15xx server.
    pub number: u16,
    /// A name for programs.
    pub name: &'static str,
    /// Whether the same request may succeed later.
    pub temporary: bool,
    /// What happened and what to do about it.
    pub meaning: &'static str,
}

macro_rules! error_codes {
    ($($constant:ident $number:literal $name:literal $temporary:literal $meaning:literal;)*) => {
        impl ErrorCode {
            $(#[doc = $meaning]
            pub const $constant: ErrorCode =
                ErrorCode { number: $number, name: $name, temporary: $temporary, meaning: $meaning };)*

            /// Every row, in order.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$constant,)*];
        }
    };
}

error_codes! {
    UNKNOWN_OP 1001 "unknown_op" false "the server doesn't know this op; see the list in the docs";
    MISSING_FIELD 1002 "missing_field" false "a required field is missing";
    MISTYPED_FIELD 1003 "mistyped_field" false "a field has the wrong type or is out of range";
    HELLO_FIRST 1004 "hello_first" false "say hello before anything else";
    HELLO_TWICE 1005 "hello_twice" false "this link has said hello already; open another link for another session";
    VERSION 1006 "version" false "this version of the protocol isn't spoken here; say hello with v:1";
    NO_ACCOUNTS 1101 "no_accounts" false "names are claims on this server (auth.mode = open): say hello with a user, there is nothing to register or log in to";
    PLAINTEXT 1102 "plaintext" false "a plain link from beyond loopback would show secrets to others; use TLS or a tunnel, or start the server with --insecure";
    LOGIN_FIRST 1103 "login_first" false "this needs a user; log in or register first (where names are claims: say hello with a user)";
    BAD_NAME 1104 "bad_name" false "this can't be a name; use letters, digits, and inside also _ - .";
    BAD_CREDENTIALS 1105 "bad_credentials" false "no such user with this password or token; which of the two is wrong isn't told";
    NAME_TAKEN 1106 "name_taken" false "there is a user of this name; log in, or choose another name";
    WEAK_PASSWORD 1107 "weak_password" false "the password is too short, or one of those that everybody tries first";
    LOGGED_IN 1108 "logged_in" false "this session is a user already; open another link to be another";
    REGISTER_CLOSED 1109 "register_closed" false "accounts are made by the operator here (auth.register = false)";
    DISABLED 1110 "disabled" false "the operator has disabled this account";
    BANNED 1111 "banned" false "this user or address is banned; retry_ms says until when, if it ends";
    RESUME_BUSY 1201 "resume_busy" true "too many refused resumes from this address; wait for retry_ms";
    BUSY 1202 "busy" true "the server has too much to do at this moment; wait for retry_ms";
    SLOW_DOWN 1203 "slow_down" true "more than the allowed rate; wait for retry_ms";
    LOGIN_DELAY 1204 "login_delay" true "too many wrong passwords; wait for retry_ms";
    TOO_LONG 1205 "too_long" false "text, data or another field is longer than the server's limit";
    TOO_MANY 1206 "too_many" false "this session, or its user, has reached a limit of its own: rooms, watched users or requests under way";
    ROOM_FULL 1207 "room_full" true "the room has as many sessions as it may have";
    MAILBOX_FULL 1208 "mailbox_full" true "the user has too many messages that no client of it has taken yet";
    ROOMS_FULL 1209 "rooms_full" false "the server has as many rooms as it may have";
    NOT_IN_ROOM 1301 "not_in_room" false "join the room first";
    NOT_ALLOWED 1302 "not_allowed" false "your role doesn't allow this";
    MUTED 1303 "muted" true "you may only listen here; retry_ms says for how long";
    REMOVED 1304 "removed" true "you were put out of this room; retry_ms says for how long";
    INVITED_ONLY 1305 "invited_only" false "the room is by invitation; ask its owner or a moderator";
    BLOCKED 1306 "blocked" false "this user doesn't take messages from you";
    STRANGER 1307 "stranger" false "this user takes messages only from those who share a room with it or were allowed";
    MID_REUSED 1308 "mid_reused" false "this mid was used for another message in the last ten minutes; make a new one";
    ROOMS_CLOSED 1309 "rooms_closed" false "rooms are made by the operator here (rooms.create = operators)";
    NO_SUCH_USER 1401 "no_such_user" false "there is no user of this name, or none that you may know of";
    NO_SUCH_ROOM 1402 "no_such_room" false "there is no room of this name, or none that you may know of";
    NO_SUCH_MESSAGE 1403 "no_such_message" false "there is no message of this seq, or it was deleted";
    STORAGE 1501 "storage" true "the server can't write to its disk at this moment, and nothing was kept; presence and signals go on";
    INTERNAL 1502 "internal" true "the server's fault, and in its log";
}

/// A request that can't be served: the row of the table, and which field is to blame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The number of an [`ErrorCode`].
    pub code: u16,
    /// What is wrong with this request, in a sentence.
    pub message: String,
}

impl ErrorCode {
    /// A refusal with this code that says what is wrong here.
    pub fn because(self, message: impl Into<String>) -> Refusal {
        Refusal { code: self.number, message: message.into() }
    }

    /// The row of that number.
    pub fn from_number(number: u16) -> Option<ErrorCode> {
        ErrorCode::ALL.iter().copied().find(|row| row.number == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_in_order() {
        for pair in ErrorCode::ALL.windows(2) {
            assert!(pair[0].number < pair[1].number, "{} before {}", pair[0].name, pair[1].name);
            assert_ne!(pair[0].name, pair[1].name);
        }
    }
}
