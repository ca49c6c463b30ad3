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
    NO_ACCOUNTS 1101 "no_accounts" false "this server keeps no accounts; say hello without a token";
    PLAINTEXT 1102 "plaintext" false "a plain link from beyond loopback would show secrets to others; use TLS, or start the server with --insecure";
    RESUME_BUSY 1201 "resume_busy" true "too many refused resumes from this address; wait for retry_ms";
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
