//! The file that keeps a token. It is a secret: only its owner may read it.

use std::io::Write;
use std::path::Path;

use anyhow::Context;

/// More than any token has.
const TOKEN_BYTES_MAX: u64 = 4096;

/// The token, if the file is there.
///
/// # Errors
/// When it is there and can't be read.
pub(crate) fn load(path: &Path) -> anyhow::Result<Option<String>> {
    let shown = path.display();
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Ok(found) if found.len() > TOKEN_BYTES_MAX => anyhow::bail!("{shown} is no file of a token: it is too long"),
        Ok(_) | Err(_) => {}
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("can't read the token in {shown}"))?;
    Ok(Some(text.trim().to_owned()).filter(|token| !token.is_empty()))
}

/// Keeps a token, in a file that nobody else can read from its first moment on.
///
/// # Errors
/// When it can't be written.
pub(crate) fn keep(path: &Path, token: &str) -> anyhow::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&beside).and_then(|mut file| writeln!(file, "{token}"));
    written
        .and_then(|()| std::fs::rename(&beside, path))
        .with_context(|| format!("can't keep the token in {}", path.display()))
}
