//! Where the password of somebody's account comes from: never from arguments, never from the environment.
//!
//! In this order, as in p2pctl: `--password-stdin`, `--password-file FILE`, a prompt if stdin is a terminal.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use registryd_proto::{Password, PasswordLength};
use rustix::process::{Resource, Rlimit, geteuid, setrlimit};
use zeroize::Zeroizing;

/// More than the longest password with its line end.
const SOURCE_BYTES_MAX: u64 = 1024;

/// Where to take the password from.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct PasswordOptions {
    /// Read the password from stdin: its first line
    #[arg(long)]
    password_stdin: bool,
    /// Read the password from a file that nobody else can read
    #[arg(long, value_name = "FILE", conflicts_with = "password_stdin")]
    password_file: Option<PathBuf>,
}

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PasswordError {
    /// No option, and no terminal to ask on.
    #[error("no password given, and no terminal to ask on")]
    NoTerminal,
    /// The file cannot be read.
    #[error("cannot read the password from {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read the file, or it belongs to somebody else.
    #[error("{} can be read by others", .0.display())]
    Exposed(PathBuf),
    /// stdin or the terminal cannot be read.
    #[error("cannot read the password: {0}")]
    Read(#[from] io::Error),
    /// No UTF-8.
    #[error("the password is not UTF-8")]
    Utf8,
    /// Too short or too long.
    #[error(transparent)]
    Length(#[from] PasswordLength),
    /// Typed twice, not equal.
    #[error("the two passwords are not equal")]
    Unequal,
}

impl PasswordError {
    /// What helps.
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::Exposed(_) => "chmod 600 FILE",
            Self::Length(_) | Self::Unequal => "choose 8 to 256 bytes",
            Self::NoTerminal | Self::File { .. } | Self::Read(_) | Self::Utf8 => {
                "use --password-stdin or --password-file FILE"
            }
        }
    }
}

impl PasswordOptions {
    /// Gets the password; a prompt asks twice, for a typo would lock its owner out. Blocks.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub(super) fn read(&self, label: &str) -> Result<Password, PasswordError> {
        // A crash must not leave it on disk. Where the limit cannot be set, wiping has to do.
        let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
        if self.password_stdin {
            return first_line(&read_limited(io::stdin().lock())?);
        }
        if let Some(path) = &self.password_file {
            return first_line(&read_file(path)?);
        }
        if !io::stdin().is_terminal() {
            return Err(PasswordError::NoTerminal);
        }
        let first = Zeroizing::new(rpassword::prompt_password(format!("{label}: "))?);
        let again = Zeroizing::new(rpassword::prompt_password(format!("{label} again: "))?);
        if *first != *again {
            return Err(PasswordError::Unequal);
        }
        Ok(Password::new((*first).clone())?)
    }
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, PasswordError> {
    let failed = |source| PasswordError::File { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    // Of the open file, so that nobody changes it between check and use.
    let metadata = file.metadata().map_err(failed)?;
    let ours = [0, geteuid().as_raw()].contains(&metadata.uid());
    if metadata.is_file() && (metadata.mode() & 0o077 != 0 || !ours) {
        return Err(PasswordError::Exposed(path.to_owned()));
    }
    read_limited(file).map_err(failed)
}

fn read_limited(source: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // Full size at once: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SOURCE_BYTES_MAX as usize));
    source.take(SOURCE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn first_line(bytes: &[u8]) -> Result<Password, PasswordError> {
    let text = std::str::from_utf8(bytes).map_err(|_| PasswordError::Utf8)?;
    Ok(Password::new(text.lines().next().unwrap_or_default().to_owned())?)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn the_first_line_of_a_private_file_is_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("password");
        fs::write(&path, "a secret\r\nrest\n").expect("a file");
        let options =
            PasswordOptions { password_file: Some(path.clone()), ..PasswordOptions::default() };
        for (mode, fine) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
            let read = options.read("Password");
            assert_eq!(read.is_ok(), fine, "{mode:o}");
            assert!(read.is_err() || read.is_ok_and(|p| p.expose() == b"a secret"));
        }
    }
}
