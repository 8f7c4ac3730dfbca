//! The file of the registry's key: the secret in base64, one line, mode 0600.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use data_encoding::BASE64;
use registryd_proto::Keypair;
use zeroize::Zeroizing;

/// More than a key takes.
const BYTES_MAX: u64 = 100;

/// Why a key cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The system says so.
    #[error("cannot use {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read it.
    #[error("{path} can be read by others: make it private (chmod 600) and consider the key known")]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// It holds no key.
    #[error("{path} holds no key: restore it from a backup")]
    Format {
        /// The file.
        path: PathBuf,
    },
}

/// The key in a file; `None` if there is no file.
///
/// # Errors
/// [`KeyFileError`].
pub(crate) fn read(path: &Path) -> Result<Option<Keypair>, KeyFileError> {
    let io = |source| KeyFileError::Io { path: path.to_owned(), source };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    if file.metadata().map_err(io)?.permissions().mode() & 0o077 != 0 {
        return Err(KeyFileError::Exposed { path: path.to_owned() });
    }
    let format = || KeyFileError::Format { path: path.to_owned() };
    let mut text = Zeroizing::new(String::new());
    (&mut file).take(BYTES_MAX).read_to_string(&mut text).map_err(|_| format())?;
    let bytes = Zeroizing::new(BASE64.decode(text.trim().as_bytes()).map_err(|_| format())?);
    let secret = bytes.as_slice().try_into().map_err(|_| format())?;
    Ok(Some(Keypair::from_secret(secret)))
}

/// Writes a key to a new file, mode 0600, and to the disk. The folder is not synced.
///
/// # Errors
/// Whatever the system says; `AlreadyExists` if there is a file.
pub(crate) fn write_new(path: &Path, keys: &Keypair) -> io::Result<()> {
    let text = Zeroizing::new(BASE64.encode(keys.secret().as_ref()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}
