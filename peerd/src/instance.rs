//! One peerd for each data folder: a lock file, held for life.
//!
//! The lock is the kernel's, so it ends with the process however that ends; the pid inside is only told to
//! people. Everything that opens the profile's files comes after it.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, test_kill_process};

/// The name of the lock file.
const LOCK_FILE: &str = "lock";
/// How long the one that holds the lock may take to write its pid: it has just been started as well.
const NAMED_WITHIN: Duration = Duration::from_secs(1);
/// Until the next look for its pid.
const LOOK: Duration = Duration::from_millis(10);

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
    /// Folder or lock file cannot be made.
    #[error("cannot use the data folder {}", path.display())]
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
    _lock: File,
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
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(data_dir.join(LOCK_FILE))
            .map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(InstanceError::InUse {
                    pid: holder(&mut lock),
                    data_dir: data_dir.to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        lock.set_len(0).map_err(io)?;
        writeln!(lock, "{}", std::process::id()).map_err(io)?;
        Ok(Self { _lock: lock })
    }
}

/// Who holds the lock. Blocks while the file is empty, or still names one that is gone.
fn holder(lock: &mut File) -> String {
    let begun = Instant::now();
    loop {
        match named(lock) {
            Some(pid) if test_kill_process(pid) != Err(rustix::io::Errno::SRCH) => {
                return pid.to_string();
            }
            _ if begun.elapsed() > NAMED_WITHIN => return "unknown".to_owned(),
            _ => thread::sleep(LOOK),
        }
    }
}

fn named(lock: &mut File) -> Option<Pid> {
    let mut text = String::new();
    lock.rewind().ok()?;
    lock.take(32).read_to_string(&mut text).ok()?;
    let pid: u32 = text.trim().parse().ok()?;
    Pid::from_raw(i32::try_from(pid).ok()?)
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

    #[test]
    fn one_that_is_gone_is_not_told_for_the_holder() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = Instance::acquire(folder.path()).expect("first");
        // Above every pid that Linux gives.
        std::fs::write(folder.path().join(LOCK_FILE), "1073741824\n").expect("our own folder");
        let Err(InstanceError::InUse { pid, .. }) = Instance::acquire(folder.path()) else {
            panic!("two hold one lock");
        };
        assert_eq!(pid, "unknown");
        drop(first);
    }
}
