//! Where passwords come from: never from arguments, never from the environment.
//!
//! In this order: `--password-stdin`, `--password-file FILE`, a credential of systemd if the caller has one, a
//! prompt if stdin is a terminal. A source of several passwords (old and new) has one a line. Every buffer
//! is wiped.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use registryd_proto::{Password, PasswordLength};
use rustix::process::geteuid;
use zeroize::Zeroizing;

use crate::process;

/// More than two passwords of 256 bytes with their line ends.
const SOURCE_BYTES_MAX: u64 = 4096;

/// Where to take passwords from.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PasswordOptions {
    /// Read the password from stdin: its first line
    #[arg(long)]
    pub password_stdin: bool,
    /// Read the password from a file that nobody else can read
    #[arg(long, value_name = "FILE", conflicts_with = "password_stdin")]
    pub password_file: Option<PathBuf>,
}

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
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
    /// Fewer lines than passwords are needed.
    #[error("too few passwords: {0} wanted, one a line")]
    Missing(usize),
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
    pub fn hint(&self) -> &'static str {
        match self {
            PasswordError::Exposed(_) => "chmod 600 FILE",
            PasswordError::Missing(1) => "the first line is the password",
            PasswordError::Missing(_) => "the old password first, then the new one",
            PasswordError::Length(_) | PasswordError::Unequal => "choose 8 to 256 bytes",
            PasswordError::NoTerminal
            | PasswordError::File { .. }
            | PasswordError::Read(_)
            | PasswordError::Utf8 => "use --password-stdin or --password-file FILE",
        }
    }
}

/// One password to ask for.
#[derive(Debug, Clone, Copy)]
pub struct Prompt<'a> {
    /// What stands before the cursor.
    pub label: &'a str,
    /// Whether it is typed twice, for a typo would lock its owner out.
    pub twice: bool,
}

impl PasswordOptions {
    /// Whether an option names a source.
    pub fn is_given(&self) -> bool {
        self.password_stdin || self.password_file.is_some()
    }

    /// Gets as many passwords as there are prompts, in their order; `credential` is the file of one that systemd
    /// passed, which guards it by its own rules. Blocks. Core dumps are forbidden from here on, where the
    /// system allows that: else wiping has to do.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub fn read<const N: usize>(
        &self,
        prompts: [Prompt<'_>; N],
        credential: Option<&Path>,
    ) -> Result<[Password; N], PasswordError> {
        // The same program may tell later that it could not: what is asked for goes on.
        let _ = process::no_core_dumps();
        if self.password_stdin {
            return parse(&read_limited(io::stdin().lock())?);
        }
        if let Some(path) = &self.password_file {
            return parse(&read_file(path)?);
        }
        if let Some(path) = credential {
            let failed = |source| PasswordError::File { path: path.to_owned(), source };
            return parse(&File::open(path).and_then(read_limited).map_err(failed)?);
        }
        if !io::stdin().is_terminal() {
            return Err(PasswordError::NoTerminal);
        }
        let passwords: Result<Vec<_>, _> = prompts.into_iter().map(ask).collect();
        passwords?.try_into().map_err(|_| PasswordError::Missing(N))
    }
}

fn ask(prompt: Prompt<'_>) -> Result<Password, PasswordError> {
    let first = Zeroizing::new(rpassword::prompt_password(format!("{}: ", prompt.label))?);
    if prompt.twice {
        let again = rpassword::prompt_password(format!("{} again: ", prompt.label))?;
        if *first != *Zeroizing::new(again) {
            return Err(PasswordError::Unequal);
        }
    }
    Ok(Password::new((*first).clone())?)
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

/// One password a line; what follows the last is left alone.
fn parse<const N: usize>(bytes: &[u8]) -> Result<[Password; N], PasswordError> {
    let text = std::str::from_utf8(bytes).map_err(|_| PasswordError::Utf8)?;
    let passwords: Result<Vec<_>, _> =
        text.lines().take(N).map(|line| Password::new(line.to_owned())).collect();
    passwords?.try_into().map_err(|_| PasswordError::Missing(N))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn one_password_a_line_with_any_line_end() {
        for text in ["a secret", "a secret\n", "a secret\r\n", "a secret\nrest"] {
            let [password] = parse(text.as_bytes()).expect(text);
            assert_eq!(password.expose(), b"a secret");
        }
        let [old, new] = parse(b"old secret\nnew secret\n").expect("two");
        assert_eq!((old.expose(), new.expose()), (&b"old secret"[..], &b"new secret"[..]));
        assert!(matches!(parse::<2>(b"old secret\n"), Err(PasswordError::Missing(2))));
        assert!(matches!(parse::<1>(b""), Err(PasswordError::Missing(1))));
        assert!(matches!(parse::<1>(b"short\n"), Err(PasswordError::Length(_))));
        assert!(matches!(parse::<1>(b"\xffa secret\n"), Err(PasswordError::Utf8)));
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_and_a_credential_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("password");
        fs::write(&path, "a secret\n").expect("a file");
        let prompt = [Prompt { label: "Password", twice: false }];
        for (mode, fine) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
            let options =
                PasswordOptions { password_file: Some(path.clone()), ..Default::default() };
            assert_eq!(options.read(prompt, None).is_ok(), fine, "{mode:o}");
            let [password] =
                PasswordOptions::default().read(prompt, Some(&path)).expect("systemd guards it");
            assert_eq!(password.expose(), b"a secret");
        }
    }
}
