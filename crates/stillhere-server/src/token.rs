//! The operators' token: made at the first start, kept in a file that only the owner can read.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What requests are compared with.
#[derive(Clone)]
pub(crate) struct Token {
    hash: [u8; 32],
}

impl Token {
    /// Reads `admin.token` in `dir`, or makes it.
    pub(crate) fn load(dir: &Path) -> anyhow::Result<(Token, PathBuf)> {
        let path = dir.join("admin.token");
        let text = match fs::read_to_string(&path) {
            Ok(text) if text.trim().len() >= 32 => text,
            Ok(_) => {
                anyhow::bail!("{} holds no token of at least 32 characters; delete it and start again", path.display())
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => make(&path)?,
            Err(error) => return Err(error).with_context(|| format!("can't read {}", path.display())),
        };
        Ok((Token { hash: Sha256::digest(text.trim()).into() }, path))
    }

    /// Whether `shown` is the token, in a time that doesn't depend on where it differs.
    pub(crate) fn matches(&self, shown: &str) -> bool {
        let shown: [u8; 32] = Sha256::digest(shown).into();
        self.hash.ct_eq(&shown).into()
    }
}

fn make(path: &Path) -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).context("the system gives no randomness")?;
    let text = URL_SAFE_NO_PAD.encode(bytes);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| writeln!(file, "{text}"))
        .with_context(|| format!("can't write {}", path.display()))?;
    Ok(text)
}
