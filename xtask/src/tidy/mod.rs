//! Rules about imports and shape that neither the compiler nor clippy knows, each a row with the reason a reader will ask for.
//!
//! The rules look at text and at `cargo metadata`; they do not parse Rust. That is enough for what they forbid, and a rule that
//! is wrong about an honest line should be made narrower rather than worked around.

mod imports;
mod markdown;
mod shape;
mod source;

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::workspace::Workspace;

/// What the rules look at.
pub(crate) struct Tree {
    /// Text files under version control or about to be, by path from the root.
    pub(crate) files: BTreeMap<String, String>,
    /// What Cargo says.
    pub(crate) workspace: Workspace,
}

/// A line that breaks a rule; the line is 0 where the whole file does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    text: String,
}

impl Finding {
    fn new(path: &str, line: usize, text: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, text: text.into() }
    }
}

struct Rule {
    name: &'static str,
    /// Why, in a sentence; it is shown with every finding.
    sentence: &'static str,
    check: fn(&Tree) -> Vec<Finding>,
}

const RULES: &[Rule] = &[
    Rule {
        name: "pure-core",
        sentence: "stillhere-core depends on none of ours, on no runtime, no socket, no log and no source of randomness: it is told everything.",
        check: imports::pure_core,
    },
    Rule {
        name: "outsiders",
        sentence: "The client, the interface and the storm meet the server only on the wire, so none depends on it, not even through another crate.",
        check: imports::outsiders,
    },
    Rule {
        name: "layers",
        sentence: "Inside the server listen → link → driver → core, and admin and web reach these only through control.",
        check: imports::layers,
    },
    Rule {
        name: "forbid-unsafe",
        sentence: "Every crate forbids unsafe code, by the workspace's lints or by its own attribute.",
        check: shape::forbid_unsafe,
    },
    Rule {
        name: "length",
        sentence: "A file of Rust has at most 600 lines unless it is listed with a reason: beyond that it holds more than one noun.",
        check: shape::length,
    },
    Rule {
        name: "unfinished",
        sentence: "No todo!, unimplemented!, dbg! or ignored test is committed.",
        check: shape::unfinished,
    },
    Rule {
        name: "no-sleep",
        sentence: "Tests do not sleep: they wait for what they wait for, or are told the time.",
        check: shape::no_sleep,
    },
    Rule {
        name: "readme-in-step",
        sentence: "README.md and README.zh-CN.md have as many headings and the same code blocks.",
        check: markdown::readme_in_step,
    },
    Rule {
        name: "links",
        sentence: "Relative links in Markdown lead to a file that is there.",
        check: markdown::links,
    },
    Rule {
        name: "no-home",
        sentence: "No committed text names a folder of the machine it was written on.",
        check: shape::no_home,
    },
];

/// Checks every rule and lists what breaks it.
pub(crate) fn run() -> Result<ExitCode> {
    let tree = Tree::read()?;
    let mut count = 0;
    for rule in RULES {
        let findings = (rule.check)(&tree);
        count += findings.len();
        for finding in &findings {
            eprintln!("{}:{}: {}: {}", finding.path, finding.line, rule.name, finding.text);
        }
        if !findings.is_empty() {
            eprintln!("  {}: {}\n", rule.name, rule.sentence);
        }
    }
    eprintln!("xtask tidy: {} rules, {} files, {count} findings", RULES.len(), tree.files.len());
    Ok(if count == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Tree {
    fn read() -> Result<Self> {
        let workspace = Workspace::find()?;
        let output = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(&workspace.root)
            .output()
            .context("cannot run git, which knows the files that count")?;
        ensure!(output.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        let mut files = BTreeMap::new();
        for path in String::from_utf8(output.stdout)?.split_terminator('\0') {
            // Deleted files are still listed, and pictures are no text: neither has anything to check.
            if let Ok(text) = std::fs::read_to_string(workspace.root.join(path)) {
                files.insert(path.to_owned(), text);
            }
        }
        Ok(Self { files, workspace })
    }

    /// The Rust files, each with its text.
    fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.with_suffix(".rs")
    }

    fn with_suffix(&self, suffix: &'static str) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .filter(move |(path, _)| path.ends_with(suffix))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }
}

#[cfg(test)]
impl Tree {
    /// A small tree for the tests of the rules.
    fn of(files: &[(&str, &str)], packages: Vec<crate::workspace::Package>) -> Self {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        let workspace = Workspace { root: "/r".into(), target: "/r/target".into(), packages };
        Self { files, workspace }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_have_names_of_their_own_and_whole_sentences() {
        let mut names: Vec<_> = RULES.iter().map(|rule| rule.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), RULES.len());
        assert!(RULES.iter().all(|rule| rule.sentence.ends_with('.')));
    }
}
