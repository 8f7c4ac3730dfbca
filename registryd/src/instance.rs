//! The data folder: one registryd at a time, and the registry's key.
//!
//! The lock is held for life by the open file; the number of the process in it is for people only. The
//! key is made at the first start and never again: a folder with a database but without its key is
//! refused, for a new key would be a hard stop for every peer.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use data_encoding::BASE64;
use registryd_proto::{KeyError, Keypair};
use zeroize::Zeroizing;

const LOCK_FILE: &str = "registryd.lock";
const KEY_FILE: &str = "registry.key";
const DATABASE_FILE: &str = "registry.db";

/// Why the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// A file or the folder cannot be used.
    #[error("cannot use {path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process holds the folder.
    #[error("another registryd{} holds {folder}", .pid.map(|p| format!(" (process {p})")).unwrap_or_default())]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// Its process, if the lock file says.
        pid: Option<u32>,
    },
    /// Others can read the key.
    #[error("{path} can be read by others: make it private (chmod 600) and consider the key known")]
    KeyExposed {
        /// The key file.
        path: PathBuf,
    },
    /// The key file holds no key.
    #[error("{path} holds no key: restore it from a backup")]
    KeyFormat {
        /// The key file.
        path: PathBuf,
    },
    /// A database without its key.
    #[error("{path} is missing, but there is a database: restore the key from a backup")]
    KeyMissing {
        /// The key file.
        path: PathBuf,
    },
    /// No new key could be drawn.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// A data folder that is ours as long as this lives.
#[derive(Debug)]
pub(crate) struct Instance {
    folder: PathBuf,
    _lock: File,
}

impl Instance {
    /// Makes the folder if needed, mode 0700, and takes its lock.
    ///
    /// # Errors
    /// [`InstanceError::InUse`] if another process has it.
    pub(crate) fn lock(folder: &Path) -> Result<Instance, InstanceError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|source| InstanceError::Io { path: folder.to_owned(), source })?;
        let path = folder.join(LOCK_FILE);
        let io = |source| InstanceError::Io { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Who it is helps, but is not needed.
                let _ = (&mut file).take(20).read_to_string(&mut text);
                let pid = text.trim().parse().ok();
                return Err(InstanceError::InUse { folder: folder.to_owned(), pid });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Instance { folder: folder.to_owned(), _lock: file })
    }

    /// The database file.
    pub(crate) fn database(&self) -> PathBuf {
        self.folder.join(DATABASE_FILE)
    }

    /// The registry's key; made if folder and database are new.
    ///
    /// # Errors
    /// [`InstanceError`] for a key that others can read, that cannot be read, or that is missing.
    pub(crate) fn keys(&self) -> Result<Keypair, InstanceError> {
        let path = self.folder.join(KEY_FILE);
        match File::open(&path) {
            Ok(file) => read_key(file, &path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.database().exists() {
                    return Err(InstanceError::KeyMissing { path });
                }
                let keys = Keypair::generate()?;
                self.write_key(&keys, &path)
                    .map_err(|source| InstanceError::Io { path, source })?;
                Ok(keys)
            }
            Err(source) => Err(InstanceError::Io { path, source }),
        }
    }

    /// Writes beside and renames, so that a crash leaves no half key.
    fn write_key(&self, keys: &Keypair, path: &Path) -> io::Result<()> {
        let beside = path.with_extension("new");
        if let Err(error) = fs::remove_file(&beside)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let text = Zeroizing::new(BASE64.encode(keys.secret().as_ref()));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        File::open(&self.folder)?.sync_all()
    }
}

fn read_key(mut file: File, path: &Path) -> Result<Keypair, InstanceError> {
    let io = |source| InstanceError::Io { path: path.to_owned(), source };
    if file.metadata().map_err(io)?.permissions().mode() & 0o077 != 0 {
        return Err(InstanceError::KeyExposed { path: path.to_owned() });
    }
    let format = || InstanceError::KeyFormat { path: path.to_owned() };
    let mut text = Zeroizing::new(String::new());
    (&mut file).take(100).read_to_string(&mut text).map_err(|_| format())?;
    let bytes = Zeroizing::new(BASE64.decode(text.trim().as_bytes()).map_err(|_| format())?);
    let secret = bytes.as_slice().try_into().map_err(|_| format())?;
    Ok(Keypair::from_secret(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_private() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let instance = Instance::lock(folder.path()).expect("free");
        let key = instance.keys().expect("made").public();
        assert_eq!(instance.keys().expect("read").public(), key);
        let path = folder.path().join(KEY_FILE);
        let mode = fs::metadata(&path).expect("file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
        assert!(matches!(instance.keys(), Err(InstanceError::KeyExposed { .. })));
    }

    #[test]
    fn a_broken_or_lost_key_is_told_never_replaced() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let instance = Instance::lock(folder.path()).expect("free");
        instance.keys().expect("made");
        let path = folder.path().join(KEY_FILE);
        fs::write(&path, "garbage").expect("written");
        assert!(matches!(instance.keys(), Err(InstanceError::KeyFormat { .. })));
        fs::remove_file(&path).expect("removed");
        fs::write(instance.database(), "x").expect("written");
        assert!(matches!(instance.keys(), Err(InstanceError::KeyMissing { .. })));
        assert!(!path.exists());
    }

    #[test]
    fn a_second_one_is_told_who_holds_the_folder() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let first = Instance::lock(folder.path()).expect("free");
        let error = Instance::lock(folder.path()).expect_err("held");
        let me = std::process::id();
        assert!(matches!(error, InstanceError::InUse { pid: Some(pid), .. } if pid == me));
        assert!(error.to_string().contains(&me.to_string()), "{error}");
        drop(first);
        Instance::lock(folder.path()).expect("free again");
    }
}
