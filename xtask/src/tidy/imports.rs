//! Who may depend on whom, among crates and among the server's modules.

use std::collections::{BTreeMap, BTreeSet};

use super::{Finding, Tree, source};

/// Crates that would bring a clock, a socket, a thread, a log or randomness into the core.
const IMPURE: &[&str] = &[
    "async-std",
    "axum",
    "fastrand",
    "futures",
    "getrandom",
    "hyper",
    "hyper-util",
    "libc",
    "log",
    "mio",
    "nix",
    "polling",
    "quinn",
    "reqwest",
    "rusqlite",
    "rustix",
    "smol",
    "socket2",
    "tokio",
    "tracing",
    "ureq",
];
/// Families of the same.
const IMPURE_PREFIXES: &[&str] = &["async-", "tokio-", "tracing-"];

/// The core's dependencies; what its tests use is its own affair, as long as it is not ours.
pub(crate) fn pure_core(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in tree.workspace.packages.iter().filter(|package| package.name == "stillhere-core") {
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            let is_ours = name == "stillhere" || name.starts_with("stillhere-");
            let is_impure = IMPURE.contains(&name) || IMPURE_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
            if is_ours || (is_impure && dependency.kind.as_deref() != Some("dev")) {
                findings.push(Finding::new("crates/stillhere-core/Cargo.toml", 0, format!("it depends on {name}")));
            }
        }
    }
    findings
}

/// Crates that stay outside the server.
const OUTSIDERS: &[&str] = &["stillhere-client", "stillhere-tui", "stillhere-storm"];

/// Follows dependencies among our crates, tests included: a test of the client that starts the server belongs into `stillhere`.
pub(crate) fn outsiders(tree: &Tree) -> Vec<Finding> {
    let packages = &tree.workspace.packages;
    let direct: BTreeMap<&str, Vec<&str>> = packages
        .iter()
        .map(|package| (package.name.as_str(), package.dependencies.iter().map(|it| it.name.as_str()).collect()))
        .collect();
    let mut findings = Vec::new();
    for outsider in OUTSIDERS.iter().filter(|name| direct.contains_key(**name)) {
        let mut reached = BTreeSet::new();
        let mut open = vec![*outsider];
        while let Some(name) = open.pop() {
            for next in direct.get(name).into_iter().flatten() {
                if reached.insert(*next) {
                    open.push(next);
                }
            }
        }
        if reached.contains("stillhere-server") {
            let path = format!("crates/{outsider}/Cargo.toml");
            findings.push(Finding::new(&path, 0, "it reaches stillhere-server"));
        }
    }
    findings
}

/// Modules of the server and the sibling modules each must not name.
const LAYERS: &[(&str, &[&str])] = &[
    ("admin", &["driver", "link", "listen"]),
    ("web", &["driver", "link", "listen"]),
    ("driver", &["link", "listen", "admin", "web"]),
    ("link", &["listen", "admin", "web"]),
    ("listen", &["admin", "web"]),
];
const SERVER: &str = "crates/stillhere-server/src/";

/// Paths such as `crate::link::…`, `use crate::{link, …}` and `super::link` inside the server's modules.
pub(crate) fn layers(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.rust().filter(|(path, _)| path.starts_with(SERVER)) {
        let module = modules_of(&path[SERVER.len()..]);
        let Some((_, forbidden)) = LAYERS.iter().find(|(name, _)| module.first() == Some(name)) else { continue };
        for (line, name) in named_modules(&source::code(text), module.len()) {
            if forbidden.contains(&name.as_str()) {
                findings.push(Finding::new(path, line, format!("{} names {name}", module[0])));
            }
        }
    }
    findings
}

/// `admin/sessions.rs` is the module `admin::sessions`; `admin/mod.rs` and `admin.rs` are both `admin`.
fn modules_of(path: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
    if parts.last() == Some(&"mod") {
        parts.pop();
    }
    parts
}

/// The modules at the crate's top that blanked code names, with their lines; `depth` is how deep the code itself lies.
fn named_modules(code: &str, depth: usize) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    let climb = "super::".repeat(depth);
    for root in ["crate::", climb.as_str()] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|character| {
                character.is_alphanumeric() || character == '_' || character == ':' || character == '$'
            }) {
                continue;
            }
            let line = 1 + code[..at].matches('\n').count();
            let rest = code[at + root.len()..].trim_start();
            named.extend(first_names(rest).into_iter().map(|name| (line, name)));
        }
    }
    named
}

/// `a::b` names a; `{a::{b, c}, d}` names a and d.
fn first_names(rest: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|it| it.is_alphanumeric() || *it == '_').collect::<String>();
    let Some(group) = rest.strip_prefix('{') else { return vec![word(rest)] };
    let mut names = Vec::new();
    let mut depth = 0;
    let mut starts = true;
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => starts = true,
            _ if character.is_whitespace() => {}
            _ if starts => {
                names.push(word(&group[at..]));
                starts = false;
            }
            _ => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{Dependency, Package};

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        let dependency = |(name, kind): &(&str, Option<&str>)| Dependency {
            name: (*name).to_owned(),
            kind: kind.map(str::to_owned),
        };
        Package {
            name: name.to_owned(),
            dependencies: dependencies.iter().map(dependency).collect(),
            targets: Vec::new(),
        }
    }

    #[test]
    fn the_core_may_not_ask_for_a_runtime_or_for_one_of_ours() {
        let check = |dependency: &str, kind: Option<&str>, count: usize| {
            let tree = Tree::of(&[], vec![package("stillhere-core", &[("serde", None), (dependency, kind)])]);
            assert_eq!(pure_core(&tree).len(), count, "{dependency} {kind:?}");
        };
        check("rand", None, 0);
        check("tokio", None, 1);
        check("tokio-util", None, 1);
        check("tokio", Some("build"), 1);
        check("tokio", Some("dev"), 0);
        check("stillhere-client", Some("dev"), 1);
    }

    #[test]
    fn an_outsider_may_not_reach_the_server_through_another_crate() {
        let tree = |middle: &[(&str, Option<&str>)]| {
            let client = package("stillhere-client", &[("middle", None)]);
            Tree::of(&[], vec![client, package("middle", middle), package("stillhere-server", &[])])
        };
        assert_eq!(outsiders(&tree(&[])).len(), 0);
        assert_eq!(outsiders(&tree(&[("stillhere-server", None)])).len(), 1);
    }

    #[test]
    fn layers_are_seen_in_every_way_to_name_a_module() {
        let check = |path: &str, text: &str, count: usize| {
            let tree = Tree::of(&[(&format!("{SERVER}{path}"), text)], Vec::new());
            assert_eq!(layers(&tree).len(), count, "{path}: {text}");
        };
        check("admin.rs", "use crate::control::Control;", 0);
        check("admin.rs", "use crate::link::Link;", 1);
        check("admin/mod.rs", "use crate::{control, link::{Link, driver}};", 1);
        check("admin/mod.rs", "use super::link::Link;", 1);
        check("admin/page.rs", "use super::link::Link;", 0);
        check("admin/page.rs", "use super::super::driver;", 1);
        check("web/mod.rs", "fn f() { crate::listen::start() }", 1);
        check("web/mod.rs", "// crate::listen is not for us\nlet a = \"crate::link\";", 0);
        check("driver/mod.rs", "use crate::link;", 1);
        check("link.rs", "use crate::driver;", 0);
        check("link.rs", "use crate::listen;", 1);
        check("listen/tls.rs", "use crate::{link, driver};", 0);
        check("telemetry.rs", "use crate::link;", 0);
        check("link.rs", "use other_crate::listen;", 0);
    }
}
