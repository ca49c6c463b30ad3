//! Pages that the binary writes itself, so that they cannot disagree with the code.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use crate::workspace::{Workspace, cargo};

/// One generated page.
struct Page {
    /// Its path from the root of the workspace.
    file: &'static str,
    /// What `stillhere` is asked for; its standard output is the page.
    arguments: &'static [&'static str],
}

const PAGES: &[Page] = &[
    Page { file: "docs/config.toml", arguments: &["config", "default"] },
    Page { file: "docs/errors.md", arguments: &["gen", "errors"] },
    Page { file: "docs/metrics.md", arguments: &["gen", "metrics"] },
];

/// Writes the pages, or with `check` compares them and fails when one is stale.
pub(crate) fn run(check: bool) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    let mut stale = 0;
    for page in PAGES {
        let fresh = produce(&workspace, page)?;
        let path = workspace.root.join(page.file);
        let old = std::fs::read_to_string(&path).unwrap_or_default();
        if old == fresh {
            eprintln!("xtask gen: {} is fresh", page.file);
        } else if check {
            stale += 1;
            eprintln!("xtask gen: {} is stale: {}", page.file, first_difference(&old, &fresh));
        } else {
            std::fs::write(&path, fresh).with_context(|| format!("cannot write {}", path.display()))?;
            eprintln!("xtask gen: {} written", page.file);
        }
    }
    if stale > 0 {
        eprintln!("xtask gen: run `cargo xtask gen` and commit what it writes");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn produce(workspace: &Workspace, page: &Page) -> Result<String> {
    let output = cargo()
        .args(["run", "--quiet", "--package", "stillhere", "--"])
        .args(page.arguments)
        .current_dir(&workspace.root)
        .output()
        .context("cannot run cargo")?;
    ensure!(
        output.status.success(),
        "`stillhere {}` failed, so {} cannot be written: {}",
        page.arguments.join(" "),
        page.file,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    ensure!(!output.stdout.is_empty(), "`stillhere {}` printed nothing", page.arguments.join(" "));
    String::from_utf8(output.stdout).with_context(|| format!("{} would not be UTF-8", page.file))
}

/// The first line that differs, as a hint of what changed.
fn first_difference(old: &str, fresh: &str) -> String {
    let mut old_lines = old.lines();
    let mut fresh_lines = fresh.lines();
    let mut number = 0;
    loop {
        number += 1;
        match (old_lines.next(), fresh_lines.next()) {
            (None, None) => return "only line endings differ".to_owned(),
            (left, right) if left == right => {}
            (left, right) => {
                return format!(
                    "line {number} is {:?} and should be {:?}",
                    left.unwrap_or("missing"),
                    right.unwrap_or("absent")
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_shows_the_first_line_that_differs() {
        let hint = first_difference("a\nb\nc\n", "a\nx\nc\n");
        assert_eq!(hint, r#"line 2 is "b" and should be "x""#);
        assert_eq!(first_difference("a\n", "a\nb\n"), r#"line 2 is "missing" and should be "b""#);
        assert_eq!(first_difference("a", "a\n"), "only line endings differ");
    }
}
