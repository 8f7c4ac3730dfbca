//! One process for each folder: a lock file, held for life.
//!
//! The lock is the kernel's, so it ends with the process however that ends; the pid inside is only told to
//! people. Everything that opens the folder's files comes after it.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::OFlags,
    process::{Pid, test_kill_process},
};

/// How long the one that holds the lock may take to write its pid: it has just been started as well.
const NAMED_WITHIN: Duration = Duration::from_secs(1);
/// Until the next look for its pid.
const LOOK: Duration = Duration::from_millis(10);

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("another process holds it")]
    Held {
        /// Which, if the file says.
        pid: Option<u32>,
    },
    /// Something else has the name of the lock file: to write to it would change what is not ours.
    #[error("it is no regular file with one name: remove it")]
    Strange,
    /// The file cannot be used.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The right to use a folder, until it is dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
    is_new: bool,
}

impl Lock {
    /// Takes the lock of a file, which is made if needed (mode 0600). Never follows a link, and writes to no file
    /// that has another name as well: the folder may be somebody else's. Blocks for a second at the most while
    /// another process holds it and has not said which it is.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn take(path: &Path) -> Result<Lock, LockError> {
        Self::take_with(path, 1)
    }

    /// The same in a folder that is the caller's alone, where a second name is a copy by hard links.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn take_in_own_folder(path: &Path) -> Result<Lock, LockError> {
        Self::take_with(path, u64::MAX)
    }

    fn take_with(path: &Path, names_max: u64) -> Result<Lock, LockError> {
        let (mut file, is_new) = open(path)?;
        // First: nobody is told to remove a lock that is held.
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Held { pid: holder(&mut file) });
            }
            Err(TryLockError::Error(source)) => return Err(source.into()),
        }
        let found = file.metadata()?;
        if !found.is_file() || found.nlink() > names_max {
            return Err(LockError::Strange);
        }
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Lock { file, is_new })
    }

    /// Whether this made the file.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// The lock file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

fn open(path: &Path) -> io::Result<(File, bool)> {
    let open = |new: bool| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(new)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)
    };
    match open(true) {
        Ok(file) => Ok((file, true)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok((open(false)?, false)),
        Err(error) => Err(error),
    }
}

/// Who holds the lock. Blocks while the file is empty, or still names one that is gone.
fn holder(lock: &mut File) -> Option<u32> {
    let begun = Instant::now();
    loop {
        match named(lock) {
            Some(pid) if test_kill_process(pid) != Err(rustix::io::Errno::SRCH) => {
                return u32::try_from(pid.as_raw_nonzero().get()).ok();
            }
            _ if begun.elapsed() > NAMED_WITHIN => return None,
            _ => thread::sleep(LOOK),
        }
    }
}

fn named(lock: &mut File) -> Option<Pid> {
    let mut text = String::new();
    lock.rewind().ok()?;
    lock.take(20).read_to_string(&mut text).ok()?;
    let pid: u32 = text.trim().parse().ok()?;
    Pid::from_raw(i32::try_from(pid).ok()?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_second_is_told_who_is_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let first = Lock::take(&path).expect("free");
        assert!(first.is_new());
        let second = Lock::take(&path);
        let own = std::process::id();
        assert!(matches!(second, Err(LockError::Held { pid: Some(pid) }) if pid == own));
        drop(first);
        assert!(!Lock::take(&path).expect("free again").is_new());
    }

    #[test]
    fn one_that_is_gone_is_not_told_for_the_holder() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let _first = Lock::take(&path).expect("free");
        // Above every pid that Linux gives.
        fs::write(&path, "1073741824\n").expect("our own folder");
        assert!(matches!(Lock::take(&path), Err(LockError::Held { pid: None })));
    }

    #[test]
    fn what_has_another_name_as_well_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let [path, other] = ["lock", "other"].map(|name| folder.path().join(name));
        fs::write(&other, "precious").expect("a file");
        fs::hard_link(&other, &path).expect("a link");
        assert!(matches!(Lock::take(&path), Err(LockError::Strange)));
        fs::remove_file(&path).expect("the link");
        let held = Lock::take(&path).expect("free");
        let copy = folder.path().join("copy");
        fs::hard_link(&path, &copy).expect("a copy of the folder");
        assert!(
            matches!(Lock::take(&path), Err(LockError::Held { pid: Some(_) })),
            "not: remove it"
        );
        drop(held);
        drop(Lock::take_in_own_folder(&path).expect("the copy is no reason to stay away"));
        fs::remove_file(&path).expect("the lock");
        std::os::unix::fs::symlink(&other, &path).expect("a link");
        assert!(matches!(Lock::take(&path), Err(LockError::Io(_))));
        assert_eq!(fs::read_to_string(&other).expect("there"), "precious");
    }
}
