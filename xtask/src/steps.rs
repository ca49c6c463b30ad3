//! Chores that are a list of commands. A newcomer adds a row.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::workspace::{Workspace, cargo};

/// One command of a chore.
pub(crate) struct Step {
    name: &'static str,
    command: Program,
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
}

enum Program {
    Cargo,
    /// This binary, so that a chore can contain another one.
    Itself,
}

const fn cargo_step(name: &'static str, arguments: &'static [&'static str]) -> Step {
    Step { name, command: Program::Cargo, arguments, environment: &[] }
}

/// What `cargo xtask test` runs.
pub(crate) const TEST: &[Step] = &[
    cargo_step("tests", &["test", "--workspace", "--all-targets"]),
    cargo_step("doc tests", &["test", "--workspace", "--doc"]),
];

/// What `cargo xtask ci` runs.
pub(crate) const CI: &[Step] = &[
    cargo_step("fmt", &["fmt", "--all", "--check"]),
    cargo_step("clippy", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    Step { name: "tidy", command: Program::Itself, arguments: &["tidy"], environment: &[] },
    Step { name: "generated", command: Program::Itself, arguments: &["gen", "--check"], environment: &[] },
    Step { name: "test", command: Program::Itself, arguments: &["test"], environment: &[] },
    Step {
        name: "doc",
        command: Program::Cargo,
        arguments: &["doc", "--workspace", "--no-deps"],
        environment: &[("RUSTDOCFLAGS", "-D warnings")],
    },
];

/// Runs every step even after a failure, so that one run shows all that is broken; the exit code is the first failure's.
pub(crate) fn run(chore: &str, steps: &[Step]) -> Result<ExitCode> {
    let root = Workspace::find()?.root;
    let mut results = Vec::new();
    for step in steps {
        eprintln!("xtask {chore}: {}", step.name);
        let mut command = match step.command {
            Program::Cargo => cargo(),
            Program::Itself => Command::new(std::env::current_exe()?),
        };
        let started = Instant::now();
        let status = command
            .args(step.arguments)
            .envs(step.environment.iter().copied())
            .current_dir(&root)
            .status()
            .with_context(|| format!("cannot start the step {}", step.name))?;
        // A step ended by a signal has no code; 101 is what Cargo itself uses for a failed test.
        results.push((step.name, status.code().unwrap_or(101), started.elapsed()));
    }
    eprint!("{}", summary(chore, &results));
    let code = results.iter().map(|(_, code, _)| *code).find(|code| *code != 0).unwrap_or(0);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(101)))
}

fn summary(chore: &str, results: &[(&str, i32, Duration)]) -> String {
    let mut text = String::new();
    for (name, code, took) in results {
        let verdict = if *code == 0 { "passed".to_owned() } else { format!("FAILED (exit code {code})") };
        text += &format!("xtask {chore}: {name:<12} {verdict} in {:.1} s\n", took.as_secs_f64());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_names_every_step_and_what_became_of_it() {
        let text = summary("ci", &[("fmt", 0, Duration::ZERO), ("tidy", 1, Duration::ZERO)]);
        assert!(text.contains("fmt") && text.contains("passed"));
        assert!(text.contains("tidy") && text.contains("FAILED (exit code 1)"));
    }
}
