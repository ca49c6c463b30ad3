//! Rules about single files: length, safety, what is unfinished, what tests do, and what names the author's machine.

use super::{Finding, Tree, source};

const LINES_MAX: usize = 600;
/// Longer files, each with its reason.
const LONG: &[(&str, &str)] = &[];

/// Lines per Rust file.
pub(crate) fn length(tree: &Tree) -> Vec<Finding> {
    let too_long = |(path, text): (&str, &str)| {
        let lines = text.lines().count();
        let is_listed = LONG.iter().any(|(listed, _)| *listed == path);
        (lines > LINES_MAX && !is_listed).then(|| Finding::new(path, 0, format!("{lines} lines")))
    };
    tree.rust().filter_map(too_long).collect()
}

/// Each package inherits the workspace's lints, which forbid unsafe code, or says so at its roots.
pub(crate) fn forbid_unsafe(tree: &Tree) -> Vec<Finding> {
    let text = |path: &str| tree.files.get(path).map_or("", String::as_str);
    let workspace_forbids = has_setting(text("Cargo.toml"), "workspace.lints.rust", "unsafe_code", "\"forbid\"");
    let mut findings = Vec::new();
    for package in &tree.workspace.packages {
        for target in
            package.targets.iter().filter(|target| target.kind.iter().any(|kind| kind == "lib" || kind == "bin"))
        {
            let Ok(path) = target.path.strip_prefix(&tree.workspace.root) else { continue };
            let path = path.to_string_lossy();
            let manifest = path.split_once("/src/").map_or("", |(folder, _)| folder).to_owned() + "/Cargo.toml";
            let inherits = workspace_forbids && has_setting(text(&manifest), "lints", "workspace", "true");
            if !inherits && !source::code(text(&path)).contains("#![forbid(unsafe_code)]") {
                findings.push(Finding::new(&path, 0, format!("{} does not forbid unsafe code", package.name)));
            }
        }
    }
    findings
}

/// Whether a manifest has `key = value` in its table `[table]`.
fn has_setting(manifest: &str, table: &str, key: &str, value: &str) -> bool {
    let header = format!("[{table}]");
    let mut inside = false;
    manifest.lines().map(str::trim).any(|line| {
        if line.starts_with('[') {
            inside = line == header;
        }
        let setting = line.split_once('=').map(|(left, right)| (left.trim(), right.trim()));
        inside && setting == Some((key, value))
    })
}

const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "dbg!", "#[ignore"];

/// Words in code, not in comments or strings.
pub(crate) fn unfinished(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.rust() {
        for (number, line) in (1..).zip(source::code(text).lines()) {
            let found = UNFINISHED.iter().filter(|word| has_word(line, word));
            findings.extend(found.map(|word| Finding::new(path, number, format!("{word} is there"))));
        }
    }
    findings
}

/// Whether `word` stands in `line` and is not the end of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    let starts_alone = |at: usize| !line[..at].ends_with(|it: char| it.is_alphanumeric() || it == '_');
    line.match_indices(word).any(|(at, _)| starts_alone(at))
}

const SLEEPS: &[&str] = &["thread::sleep", "time::sleep"];

/// Sleeps in test folders, in files called `tests.rs` and in modules behind `#[cfg(test)]`.
pub(crate) fn no_sleep(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.rust() {
        let code = source::code(text);
        let is_test = path.split('/').any(|part| part == "tests" || part == "tests.rs");
        let modules = source::test_modules(&code);
        for (number, line) in (1..).zip(code.lines()) {
            let counts = is_test || modules.iter().any(|module| module.contains(&number));
            if counts && SLEEPS.iter().any(|sleep| line.contains(sleep)) {
                findings.push(Finding::new(path, number, "a test sleeps"));
            }
        }
    }
    findings
}

/// Folders that only the author has. The words are put together so that this file does not find itself.
const HOMES: &[&str] = &[concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/"), concat!("/wo", "rk/")];

/// Absolute paths in any text; a path inside a URL or a longer path is something else.
pub(crate) fn no_home(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in &tree.files {
        for (number, line) in (1..).zip(text.lines()) {
            let named = HOMES.iter().find(|home| {
                let is_absolute =
                    |at: usize| !line[..at].ends_with(|it: char| it.is_alphanumeric() || "._-/*}~".contains(it));
                line.match_indices(**home).any(|(at, _)| is_absolute(at))
            });
            findings.extend(named.map(|home| Finding::new(path, number, format!("a path in {home}"))));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{Package, Target};

    fn check(rule: fn(&Tree) -> Vec<Finding>, path: &str, text: &str, lines: &[usize]) {
        let found: Vec<usize> =
            rule(&Tree::of(&[(path, text)], Vec::new())).iter().map(|finding| finding.line).collect();
        assert_eq!(found, lines, "{path}: {text}");
    }

    #[test]
    fn a_long_file_is_found() {
        check(length, "a.rs", &"x\n".repeat(600), &[]);
        check(length, "a.rs", &"x\n".repeat(601), &[0]);
        check(length, "a.md", &"x\n".repeat(601), &[]);
    }

    #[test]
    fn what_is_unfinished_is_found_in_code_only() {
        check(unfinished, "a.rs", "fn a() {\n    todo!()\n}", &[2]);
        check(unfinished, "a.rs", "#[test]\n#[ignore = \"slow\"]\nfn a() {}", &[2]);
        check(unfinished, "a.rs", "// todo!() and \"dbg!\"\nlet a = \"unimplemented!\";", &[]);
        check(unfinished, "a.rs", "my_todo!()", &[]);
    }

    #[test]
    fn only_tests_may_not_sleep() {
        let sleep = "std::thread::sleep(a);";
        check(no_sleep, "src/a.rs", sleep, &[]);
        check(no_sleep, "tests/it/main.rs", sleep, &[1]);
        check(no_sleep, "src/a/tests.rs", sleep, &[1]);
        check(no_sleep, "src/a.rs", &format!("{sleep}\n#[cfg(test)]\nmod tests {{\n{sleep}\n}}\n{sleep}"), &[4]);
    }

    #[test]
    fn paths_of_the_authors_machine_are_found() {
        let home = HOMES[0];
        check(no_home, "a.md", &format!("see {home}me/x"), &[1]);
        check(no_home, "a.md", &format!("see https://example.org{home}page"), &[]);
        check(no_home, "a.md", "see ./home/x and ~/work", &[]);
    }

    #[test]
    fn a_crate_forbids_unsafe_code_itself_or_by_inheritance() {
        let findings = |workspace: &str, manifest: &str, lib: &str| {
            let target = Target { kind: vec!["lib".to_owned()], path: "/r/crates/a/src/lib.rs".into() };
            let package = Package { name: "a".to_owned(), dependencies: Vec::new(), targets: vec![target] };
            let files = [("Cargo.toml", workspace), ("crates/a/Cargo.toml", manifest), ("crates/a/src/lib.rs", lib)];
            forbid_unsafe(&Tree::of(&files, vec![package])).len()
        };
        let forbids = "[workspace.lints.rust]\nunsafe_code = \"forbid\"\n";
        let inherits = "[lints]\nworkspace = true\n";
        assert_eq!(findings(forbids, inherits, ""), 0);
        assert_eq!(findings(forbids, "[package]\nworkspace = true\n", ""), 1);
        assert_eq!(findings("", inherits, ""), 1);
        assert_eq!(findings("", "", "#![forbid(unsafe_code)]"), 0);
        assert_eq!(findings("", "", "// #![forbid(unsafe_code)]"), 1);
    }
}
