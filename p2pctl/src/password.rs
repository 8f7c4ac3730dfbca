//! Where passwords come from: never from arguments, never from the environment.
//!
//! In this order: `--password-stdin`, `--password-file FILE`, the systemd credential
//! `$CREDENTIALS_DIRECTORY/p2pchat-password`, a prompt if stdin is a terminal. A source of several
//! passwords (old and new) has one a line. Every buffer is wiped.

use std::{
    env,
    fs::File,
    io::{self, IsTerminal, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use registryd_proto::{Code, Password, PasswordLength};
use rustix::process::{Resource, Rlimit, geteuid, setrlimit};
use zeroize::Zeroizing;

/// The name of the systemd credential.
pub const CREDENTIAL: &str = "p2pchat-password";

/// More than two passwords of 256 bytes with their line ends.
const SOURCE_BYTES_MAX: u64 = 4096;

/// Where to take passwords from.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PasswordOptions {
    /// Read the password from stdin; passwd: the old one, then the new one, one a line
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
    #[error("expected {0} passwords, one a line")]
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
    /// The code of the table.
    pub fn code(&self) -> Code {
        Code::Usage
    }

    /// What helps.
    pub fn hint(&self) -> &'static str {
        match self {
            PasswordError::Exposed(_) => "chmod 600 FILE",
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
pub struct Prompt {
    /// What stands before the cursor.
    pub label: &'static str,
    /// Whether it is typed twice, for a typo would lock the user out.
    pub twice: bool,
}

impl PasswordOptions {
    /// Whether an option names a source.
    pub fn is_given(&self) -> bool {
        self.password_stdin || self.password_file.is_some()
    }

    /// Gets as many passwords as there are prompts, in their order. Blocks.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub fn read<const N: usize>(
        &self,
        prompts: [Prompt; N],
    ) -> Result<[Password; N], PasswordError> {
        self.read_from(prompts, true)
    }

    fn read_from<const N: usize>(
        &self,
        prompts: [Prompt; N],
        allow_credential: bool,
    ) -> Result<[Password; N], PasswordError> {
        forbid_core_dumps();
        if self.password_stdin {
            return parse(read_limited(io::stdin().lock())?);
        }
        if let Some(path) = &self.password_file {
            return parse(read_file(path)?);
        }
        if let Some(path) = credential().filter(|_| allow_credential) {
            // systemd keeps the folder; the modes inside follow its own rules.
            let failed = |source| PasswordError::File { path: path.clone(), source };
            return parse(File::open(&path).and_then(read_limited).map_err(failed)?);
        }
        if !io::stdin().is_terminal() {
            return Err(PasswordError::NoTerminal);
        }
        let passwords: Result<Vec<_>, _> = prompts.into_iter().map(ask).collect();
        passwords?.try_into().map_err(|_| PasswordError::Missing(N))
    }

    /// The usual case.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub fn one(&self, label: &'static str, twice: bool) -> Result<Password, PasswordError> {
        let [password] = self.read([Prompt { label, twice }])?;
        Ok(password)
    }

    /// The password of a room; the credential is the account's and does not count.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub fn of_room(&self, label: &'static str, twice: bool) -> Result<Password, PasswordError> {
        let [password] = self.read_from([Prompt { label, twice }], false)?;
        Ok(password)
    }
}

/// A crash must not leave the password on disk. Where the limit cannot be set, wiping has to do.
fn forbid_core_dumps() {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

fn credential() -> Option<PathBuf> {
    let folder = env::var_os("CREDENTIALS_DIRECTORY").filter(|folder| !folder.is_empty())?;
    Some(PathBuf::from(folder).join(CREDENTIAL)).filter(|path| path.exists())
}

fn ask(prompt: Prompt) -> Result<Password, PasswordError> {
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
fn parse<const N: usize>(bytes: Zeroizing<Vec<u8>>) -> Result<[Password; N], PasswordError> {
    let text = std::str::from_utf8(&bytes).map_err(|_| PasswordError::Utf8)?;
    let passwords: Result<Vec<_>, _> =
        text.lines().take(N).map(|line| Password::new(line.to_owned())).collect();
    passwords?.try_into().map_err(|_| PasswordError::Missing(N))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn bytes(text: &str) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(text.as_bytes().to_vec())
    }

    #[test]
    fn one_password_a_line_with_any_line_end() {
        for text in ["a secret", "a secret\n", "a secret\r\n", "a secret\nrest"] {
            let [password] = parse(bytes(text)).expect(text);
            assert_eq!(password.expose(), b"a secret");
        }
        let [old, new] = parse(bytes("old secret\nnew secret\n")).expect("two");
        assert_eq!((old.expose(), new.expose()), (&b"old secret"[..], &b"new secret"[..]));
        assert!(matches!(parse::<2>(bytes("old secret\n")), Err(PasswordError::Missing(2))));
        assert!(matches!(parse::<1>(bytes("short\n")), Err(PasswordError::Length(_))));
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("password");
        fs::write(&path, "a secret\n").expect("a file");
        for (mode, fine) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
            let options =
                PasswordOptions { password_file: Some(path.clone()), ..Default::default() };
            assert_eq!(options.one("Password", false).is_ok(), fine, "{mode:o}");
        }
    }
}
