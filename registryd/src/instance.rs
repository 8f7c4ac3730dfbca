//! The data folder: one registryd at a time, and the registry's key.
//!
//! The key is made at the first start and never again: a folder with a database but without its key is
//! refused, for a new key would be a hard stop for every peer.
//!
//! Invariant: the key has its final name only once the database is complete. So a key without a database
//! is a database that was lost, never a first start that was cut short.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use p2pchat_host::lock::{Lock, LockError};
use registryd_proto::{KeyError, Keypair};

use crate::{
    key_file::{self, KeyFileError},
    replace,
};

const LOCK_FILE: &str = "registryd.lock";
pub(crate) const KEY_FILE: &str = "registry.key";
/// The key before the database is complete.
pub(crate) const NEW_KEY_FILE: &str = "registry.new";
pub(crate) const DATABASE_FILE: &str = "registry.db";

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
    /// Something else has the name of the lock file: to write to it would change what is not ours.
    #[error("{path} is no regular file with one name: remove it")]
    LockFile {
        /// The lock file.
        path: PathBuf,
    },
    /// The key.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
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

/// When the database was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begun {
    /// By an earlier start: it must be there.
    Before,
    /// By this start, or by one that was cut short.
    Anew,
}

/// A data folder that is ours as long as this lives.
#[derive(Debug)]
pub(crate) struct Instance {
    folder: PathBuf,
    _lock: Lock,
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
        let lock = Lock::take(&path).map_err(|error| match error {
            LockError::Held { pid } => InstanceError::InUse { folder: folder.to_owned(), pid },
            LockError::Strange => InstanceError::LockFile { path: path.clone() },
            LockError::Io(source) => io(source),
        })?;
        if lock.is_new() {
            // Root may have been the first to look.
            replace::give_file_to_owner(folder, lock.file()).map_err(io)?;
        }
        let instance = Instance { folder: folder.to_owned(), _lock: lock };
        let finished = replace::finish(folder)
            .map_err(|source| InstanceError::Io { path: folder.to_owned(), source })?;
        if let Some(aside) = finished {
            tracing::info!(kept = %aside.display(), "a replacement that was cut short is finished");
        }
        Ok(instance)
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The database file.
    pub(crate) fn database(&self) -> PathBuf {
        self.folder.join(DATABASE_FILE)
    }

    /// The registry's key, and whether the database is still to be made; then
    /// [`complete`](Self::complete) follows. Made if folder and database are new.
    ///
    /// # Errors
    /// [`InstanceError`] for a key that others can read, that cannot be read, or that is missing.
    pub(crate) fn keys(&self) -> Result<(Keypair, Begun), InstanceError> {
        let path = self.folder.join(KEY_FILE);
        if let Some(keys) = key_file::read(&path)? {
            return Ok((keys, Begun::Before));
        }
        match key_file::read(&self.folder.join(NEW_KEY_FILE)) {
            Ok(Some(keys)) => return Ok((keys, Begun::Anew)),
            _ if self.database().exists() => return Err(InstanceError::KeyMissing { path }),
            // None, or half of one: nothing was ever bound to it.
            _ => {}
        }
        let keys = Keypair::generate()?;
        self.write_key(&keys).map_err(|source| InstanceError::Io { path, source })?;
        Ok((keys, Begun::Anew))
    }

    /// Gives a new key its name: the database is complete.
    ///
    /// # Errors
    /// [`InstanceError::Io`].
    pub(crate) fn complete(&self) -> Result<(), InstanceError> {
        let path = self.folder.join(KEY_FILE);
        fs::rename(self.folder.join(NEW_KEY_FILE), &path)
            .and_then(|()| File::open(&self.folder)?.sync_all())
            .map_err(|source| InstanceError::Io { path, source })
    }

    fn write_key(&self, keys: &Keypair) -> io::Result<()> {
        let path = self.folder.join(NEW_KEY_FILE);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        key_file::write_new(&path, keys)?;
        File::open(&self.folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};

    use super::*;

    #[test]
    fn the_key_is_made_once_and_private() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let instance = Instance::lock(folder.path()).expect("free");
        let (key, begun) = instance.keys().expect("made");
        assert_eq!(begun, Begun::Anew);
        let (again, begun) = instance.keys().expect("read");
        assert_eq!((again.public(), begun), (key.public(), Begun::Anew), "no database was made");
        instance.complete().expect("renamed");
        let (again, begun) = instance.keys().expect("read");
        assert_eq!((again.public(), begun), (key.public(), Begun::Before));
        let path = folder.path().join(KEY_FILE);
        let mode = fs::metadata(&path).expect("file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
        assert!(matches!(
            instance.keys(),
            Err(InstanceError::KeyFile(KeyFileError::Exposed { .. }))
        ));
    }

    #[test]
    fn a_broken_or_lost_key_is_told_never_replaced() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let instance = Instance::lock(folder.path()).expect("free");
        instance.keys().expect("made");
        instance.complete().expect("renamed");
        let path = folder.path().join(KEY_FILE);
        fs::write(&path, "garbage").expect("written");
        assert!(matches!(
            instance.keys(),
            Err(InstanceError::KeyFile(KeyFileError::Format { .. }))
        ));
        fs::remove_file(&path).expect("removed");
        fs::write(instance.database(), "x").expect("written");
        assert!(matches!(instance.keys(), Err(InstanceError::KeyMissing { .. })));
        assert!(!path.exists());
    }

    #[test]
    fn half_of_a_first_key_is_made_anew() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let instance = Instance::lock(folder.path()).expect("free");
        fs::write(folder.path().join(NEW_KEY_FILE), "AAAA").expect("written");
        let (key, begun) = instance.keys().expect("made");
        assert_eq!(begun, Begun::Anew);
        assert_eq!(instance.keys().expect("read").0.public(), key.public());
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

    #[test]
    fn what_a_link_leads_to_is_not_touched() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let (lock, other) = (folder.path().join(LOCK_FILE), folder.path().join("other"));
        fs::write(&other, "of somebody else").expect("written");
        symlink(&other, &lock).expect("linked");
        let error = Instance::lock(folder.path()).expect_err("a symbolic link");
        assert!(matches!(error, InstanceError::Io { .. }), "{error:?}");
        fs::remove_file(&lock).expect("removed");
        fs::hard_link(&other, &lock).expect("linked");
        let error = Instance::lock(folder.path()).expect_err("a second name");
        assert!(matches!(error, InstanceError::LockFile { .. }), "{error:?}");
        assert_eq!(fs::read_to_string(&other).expect("there"), "of somebody else");
        fs::remove_file(&lock).expect("removed");
        Instance::lock(folder.path()).expect("free");
    }

    #[test]
    fn root_leaves_the_lock_to_whom_the_folder_belongs() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().expect("temporary folder");
        chown(folder.path(), Some(65_534), Some(65_534)).expect("root may");
        let _held = Instance::lock(folder.path()).expect("free");
        let lock = fs::metadata(folder.path().join(LOCK_FILE)).expect("there");
        assert_eq!((lock.uid(), lock.gid()), (65_534, 65_534));
    }
}
