//! Passwords from the terminal or a pipe. Never from the command line, where every user of the machine could read them.

use std::io::{self, BufRead, IsTerminal};

use anyhow::{Context, bail};

/// More than a password may have, so that the gateway is the one who says it is too long.
const LINE_BYTES_MAX: u64 = 1024;

/// Asks twice on a terminal, without showing what is typed; elsewhere takes the first line of standard input.
///
/// # Errors
/// When nothing comes, or the two differ.
pub(super) fn read(user: &str) -> anyhow::Result<String> {
    if io::stdin().is_terminal() {
        let ask = |what: &str| rpassword::prompt_password(what).context("can't read a password from the terminal");
        let first = ask(&format!("Password for {user}: "))?;
        if first != ask("The same again: ")? {
            bail!("these were two different passwords; try again");
        }
        return Ok(first);
    }
    first_line(io::stdin().lock())
}

fn first_line(input: impl BufRead) -> anyhow::Result<String> {
    let mut line = String::new();
    input.take(LINE_BYTES_MAX).read_line(&mut line).context("can't read a password from standard input")?;
    let password = line.strip_suffix('\n').map_or(&*line, |line| line.strip_suffix('\r').unwrap_or(line));
    if password.is_empty() {
        bail!("standard input has no password; pipe one line into this, or run it in a terminal to be asked");
    }
    Ok(password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_s_first_line_is_the_password_with_all_its_spaces() {
        for (input, password) in [(" a b \nrest\n", " a b "), ("x\r\n", "x"), ("no end", "no end")] {
            assert_eq!(first_line(input.as_bytes()).expect("a password"), password);
        }
        assert!(first_line("\nx\n".as_bytes()).is_err() && first_line("".as_bytes()).is_err());
    }
}
