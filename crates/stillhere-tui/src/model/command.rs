//! The commands that begin with `/`, in one table.

/// A command's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name, without the slash.
    pub name: &'static str,
    /// What follows it.
    pub args: &'static str,
    /// What it does.
    pub help: &'static str,
}

macro_rules! commands {
    ($($variant:ident $name:literal $args:literal $help:literal;)*) => {
        /// A command.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Command {
            $(#[doc = $help] $variant,)*
        }

        impl Command {
            /// Every command.
            pub const ALL: &[Command] = &[$(Command::$variant,)*];

            /// Its row in the table.
            pub const fn row(self) -> Row {
                match self { $(Command::$variant => Row { name: $name, args: $args, help: $help },)* }
            }
        }
    };
}

commands! {
    Help "help" "" "what can be typed here";
    Join "join" "ROOM" "enter a room, or make one";
    Part "part" "" "leave this room, or close this tab";
    Who "who" "[USER]" "who is here, how and since when";
    Tell "tell" "USER TEXT" "a message to one user, also if it isn't here";
    Me "me" "TEXT" "say what you do";
    Leave "leave" "" "be away: messages gather until /back";
    Back "back" "" "be here again";
    Search "search" "WORDS" "find messages of this tab";
    Topic "topic" "TEXT" "say what this room is about";
    Invite "invite" "USER" "let a user into this room";
    Mute "mute" "USER [10m]" "let a user only listen for a while";
    Remove "remove" "USER [10m]" "put a user out of this room";
    Delete "delete" "SEQ" "take a message back";
    Block "block" "USER" "take no more messages from a user";
    Unblock "unblock" "USER" "take them again";
    Quit "quit" "" "say goodbye and end";
}

impl Command {
    /// Splits what was typed after the slash. A beginning that only one command has is enough.
    pub fn parse(typed: &str) -> Result<(Command, &str), String> {
        let (name, rest) = typed.split_once(char::is_whitespace).unwrap_or((typed, ""));
        let exact = Command::ALL.iter().find(|command| command.row().name == name);
        let meant: Vec<&Command> = match exact {
            Some(command) => vec![command],
            None => Command::matching(name).collect(),
        };
        match meant[..] {
            [command] if !name.is_empty() => Ok((*command, rest.trim())),
            [] => Err(format!("there is no command /{name}; type /help to see them")),
            _ => Err(format!("/{name} could be several commands; type a letter more")),
        }
    }

    /// The commands that begin so.
    pub fn matching(beginning: &str) -> impl Iterator<Item = &'static Command> {
        Command::ALL.iter().filter(move |command| command.row().name.starts_with(beginning))
    }
}

/// Reads `10m`, `30s`, `2h`, `1d`, in milliseconds.
pub fn span_ms(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|char: char| char.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_enough_if_it_is_only_one_s() {
        assert_eq!(Command::parse("join  the lobby "), Ok((Command::Join, "the lobby")));
        assert_eq!(Command::parse("q"), Ok((Command::Quit, "")));
        assert_eq!(Command::parse("me waves"), Ok((Command::Me, "waves")));
        assert!(Command::parse("b").unwrap_err().contains("several"));
        assert!(Command::parse("xyz").unwrap_err().contains("/help"));
        assert!(Command::parse("").is_err());
    }

    #[test]
    fn spans_have_a_unit() {
        assert_eq!(
            ["30s", "10m", "2h", "1d", "5", "m", "99999999999999999999s"].map(span_ms),
            [Some(30_000), Some(600_000), Some(7_200_000), Some(86_400_000), None, None, None]
        );
    }
}
