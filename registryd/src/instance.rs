//! The data folder: one registryd at a time, and the registry's key.
//!
//! The lock is held for life by the open file; the number of the process in it is for people only. The
//! key is made at the first start and never again: a folder with a database but without its key is
//! refused, for a new key would be a hard stop for every peer.
//!
//! Invariant: the key has its final name only once the database is complete. So a key without a database
//! is a database that was lost, never a first start that was cut short.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use registryd_proto::{KeyError, Keypair};
use rustix::{
    fs::OFlags,
    process::{Pid, test_kill_process},
};

use crate::{
    key_file::{self, KeyFileError},
    replace,
};

const LOCK_FILE: &str = "registryd.lock";
pub(crate) const KEY_FILE: &str = "registry.key";
/// The key before the database is complete.
pub(crate) const NEW_KEY_FILE: &str = "registry.new";
pub(crate) const DATABASE_FILE: &str = "registry.db";

/// How long the one that holds the lock may take to write its pid: it has just been started as well.
const NAMED_WITHIN: Duration = Duration::from_secs(1);
/// Until the next look for its pid.
const LOOK: Duration = Duration::from_millis(10);

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
        let mut file = open_lock(folder, &path).map_err(io)?;
        if !is_own_file(&file).map_err(io)? {
            return Err(InstanceError::LockFile { path });
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = holder(&mut file);
                return Err(InstanceError::InUse { folder: folder.to_owned(), pid });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        let instance = Instance { folder: folder.to_owned(), _lock: file };
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

/// Opens the lock file, never what a link leads to. A new one belongs to whom the folder belongs.
fn open_lock(folder: &Path, path: &Path) -> io::Result<File> {
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
        Ok(file) => {
            replace::give_file_to_owner(folder, &file)?;
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open(false),
        Err(error) => Err(error),
    }
}

/// Whether writing to this file changes nothing that has another name as well.
fn is_own_file(file: &File) -> io::Result<bool> {
    let held = file.metadata()?;
    Ok(held.is_file() && held.nlink() == 1)
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
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

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
    fn one_that_is_gone_is_not_told_for_the_holder() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let first = Instance::lock(folder.path()).expect("free");
        // Above every pid that Linux gives.
        fs::write(folder.path().join(LOCK_FILE), "1073741824\n").expect("written");
        let error = Instance::lock(folder.path()).expect_err("held");
        assert!(matches!(error, InstanceError::InUse { pid: None, .. }), "{error:?}");
        drop(first);
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
