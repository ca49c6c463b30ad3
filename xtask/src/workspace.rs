//! Where the workspace lies and what its packages depend on, as Cargo itself tells it.
//!
//! It never parses a `Cargo.toml` for dependencies: `cargo metadata` already has, renames included.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// What `cargo metadata --no-deps` says of this workspace.
#[derive(Deserialize)]
pub(crate) struct Workspace {
    /// The folder of the top `Cargo.toml`.
    #[serde(rename = "workspace_root")]
    pub(crate) root: PathBuf,
    /// Where builds go; it follows `CARGO_TARGET_DIR`.
    #[serde(rename = "target_directory")]
    pub(crate) target: PathBuf,
    /// The members.
    pub(crate) packages: Vec<Package>,
}

/// One member of the workspace.
#[derive(Deserialize)]
pub(crate) struct Package {
    /// The package's name.
    pub(crate) name: String,
    /// What it asks for directly.
    pub(crate) dependencies: Vec<Dependency>,
    /// What Cargo builds from it.
    pub(crate) targets: Vec<Target>,
}

/// One line of a package's dependency tables.
#[derive(Deserialize)]
pub(crate) struct Dependency {
    /// The real name, also when the package renames it.
    pub(crate) name: String,
    /// `None` for a normal dependency, else `dev` or `build`.
    pub(crate) kind: Option<String>,
}

/// One library, binary or test of a package.
#[derive(Deserialize)]
pub(crate) struct Target {
    /// `lib`, `bin`, `test` and so on.
    pub(crate) kind: Vec<String>,
    /// The root file.
    #[serde(rename = "src_path")]
    pub(crate) path: PathBuf,
}

impl Workspace {
    /// Asks Cargo; works from any folder inside the workspace.
    pub(crate) fn find() -> Result<Self> {
        let output = cargo()
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .output()
            .context("cannot run cargo metadata")?;
        ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        serde_json::from_slice(&output.stdout).context("cargo metadata printed what we cannot read")
    }
}

/// The Cargo that runs us, so that a toolchain chosen by the caller stays chosen.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
