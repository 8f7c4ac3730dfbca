//! One peerd for each data folder, which is private. Everything that opens the profile's files comes after it.

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt},
    path::{Path, PathBuf},
};

use p2pchat_host::lock::{Lock, LockError};

/// The name of the lock file.
const LOCK_FILE: &str = "lock";

/// Why this process may not run the profile.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Another peerd does.
    #[error("another peerd (pid {pid}) holds {}", data_dir.display())]
    InUse {
        /// Its pid, as far as it can be read.
        pid: String,
        /// The data folder.
        data_dir: PathBuf,
    },
    /// The data folder belongs to somebody else.
    #[error("the data folder {} must be a real folder of this user", path.display())]
    Foreign {
        /// Which.
        path: PathBuf,
    },
    /// Something else has the name of the lock file.
    #[error("{} is no regular file: remove it", path.display())]
    LockFile {
        /// The lock file.
        path: PathBuf,
    },
    /// Folder or lock file cannot be made.
    #[error("cannot use {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The right to run a profile, until it is dropped.
#[derive(Debug)]
pub struct Instance {
    _lock: Lock,
}

impl Instance {
    /// Makes the data folder if needed (mode 0700), and takes its lock.
    ///
    /// # Errors
    /// [`InstanceError`].
    pub fn acquire(data_dir: &Path) -> Result<Self, InstanceError> {
        let io = |source| InstanceError::Io { path: data_dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(io)?;
        let meta = data_dir.metadata().map_err(io)?;
        if meta.uid() != rustix::process::geteuid().as_raw() {
            return Err(InstanceError::Foreign { path: data_dir.to_owned() });
        }
        if meta.mode() & 0o077 != 0 {
            std::fs::set_permissions(data_dir, PermissionsExt::from_mode(0o700)).map_err(io)?;
        }
        let path = data_dir.join(LOCK_FILE);
        let lock = Lock::take_in_own_folder(&path).map_err(|error| match error {
            LockError::Held { pid } => {
                let pid = pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
                InstanceError::InUse { pid, data_dir: data_dir.to_owned() }
            }
            LockError::Strange => InstanceError::LockFile { path: path.clone() },
            LockError::Io(source) => InstanceError::Io { path: path.clone(), source },
        })?;
        Ok(Self { _lock: lock })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_is_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("p2pchat").join("default");
        let first = Instance::acquire(&data).expect("first");
        assert_eq!(data.metadata().expect("folder").mode() & 0o777, 0o700);
        let Err(InstanceError::InUse { pid, .. }) = Instance::acquire(&data) else {
            panic!("two hold one lock");
        };
        assert_eq!(pid, std::process::id().to_string());
        drop(first);
        Instance::acquire(&data).expect("free again");
    }
}
