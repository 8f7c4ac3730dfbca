//! `registryd backup FILE`: one private file with database and key, whole or not there.
//!
//! The copy is read from the database itself, not by way of the running registry: so it works as well when
//! none runs, and the file is written by who asks for it, to wherever he may write, not by a daemon that is
//! locked into its folder.

use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, OFlags, RenameFlags, renameat_with},
    io::Errno,
    process::nice,
};
use serde::Serialize;

use super::{Answer, CommandError, Folder, mebibytes, now_ms, time_of};
use crate::{cli::BackupArgs, config::Config, replace::beside, store::archive};

/// Below what serves: a backup has time.
const NICE: i32 = 10;

#[derive(Debug, Serialize)]
pub(super) struct Backup {
    file: PathBuf,
    bytes: u64,
    accounts: u64,
    rooms: u64,
    /// Of the registry's key, the public half.
    key: String,
    made: String,
}

impl Answer for Backup {
    const SCHEMA: &'static str = "registryd.backup/1";
}

impl fmt::Display for Backup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.file.display(), mebibytes(self.bytes))?;
        writeln!(f, "accounts  {}", self.accounts)?;
        writeln!(f, "rooms     {}", self.rooms)?;
        writeln!(f, "registry  {}", self.key)?;
        write!(f, "It holds the secret key of the registry: keep it private.")
    }
}

pub(super) fn backup(config: &Config, args: &BackupArgs) -> Result<Backup, CommandError> {
    let folder = Folder::open(&config.data_dir)?;
    let file = &args.file;
    if !args.force && fs::symlink_metadata(file).is_ok() {
        return Err(CommandError::Exists(file.clone()));
    }
    // Only to be kinder: where it is not allowed, it goes on as it is.
    let _ = nice(NICE);
    let part = Part::new(file)?;
    let made_ms = now_ms();
    let contents = archive::write(&folder.database, &folder.keys, made_ms, &part.path)?;
    let bytes = part.finish(file, args.force)?;
    Ok(Backup {
        file: file.clone(),
        bytes,
        accounts: contents.accounts,
        rooms: contents.rooms,
        key: folder.keys.public().to_string(),
        made: time_of(made_ms),
    })
}

/// The file under another name, as long as it is not whole. Removed unless it is finished.
///
/// Invariant: the file is one that this process made, never one that somebody else put there before, and only
/// who holds the lock of the file with this name removes it.
struct Part {
    path: PathBuf,
    /// Holds the lock.
    file: File,
    /// It has its name.
    finished: bool,
}

impl Part {
    /// A new one, in the place of one that was killed.
    fn new(file: &Path) -> Result<Part, CommandError> {
        let path = beside(file, ".part");
        let io = |source| CommandError::Io { path: path.clone(), source };
        remove_left_behind(&path, file)?;
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path);
        let handle = match opened {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(CommandError::Underway(file.to_owned()));
            }
            opened => opened.map_err(io)?,
        };
        lock(&handle, &path, file)?;
        // The umask may have made it less.
        handle.set_permissions(fs::Permissions::from_mode(0o600)).map_err(io)?;
        let part = Part { path: path.clone(), file: handle, finished: false };
        // A journal of a former one would be taken for its own.
        remove(&beside(&path, "-journal")).map_err(io)?;
        Ok(part)
    }

    /// Lets it be on the disk, then gives it its name. Returns its size.
    fn finish(mut self, file: &Path, force: bool) -> Result<u64, CommandError> {
        let io = |source| CommandError::Io { path: file.to_owned(), source };
        self.file.sync_all().map_err(io)?;
        let bytes = self.file.metadata().map_err(io)?.len();
        if force {
            fs::rename(&self.path, file).map_err(io)?;
        } else {
            rename_new(&self.path, file)?;
        }
        self.finished = true;
        let folder = file.parent().filter(|p| !p.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new("."))).and_then(|f| f.sync_all()).map_err(io)?;
        Ok(bytes)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Once it has its name, the former one may be that of the next backup.
        if !self.finished && is_at(&self.file, &self.path).unwrap_or(false) {
            // Only litter is left if this fails.
            let _ = remove(&beside(&self.path, "-journal")).and_then(|()| remove(&self.path));
        }
    }
}

/// Removes what has the name of a part, unless another backup is at it.
fn remove_left_behind(path: &Path, file: &Path) -> Result<(), CommandError> {
    let io = |source| CommandError::Io { path: path.to_owned(), source };
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path);
    // Its lock is held until the name is free.
    let _held = match opened {
        Ok(left) => {
            lock(&left, path, file)?;
            Some(left)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        // A link is no backup that is under way.
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => None,
        Err(error) => return Err(io(error)),
    };
    remove(path).map_err(io)
}

/// Locks a file that has this name, and has it still.
fn lock(handle: &File, path: &Path, file: &Path) -> Result<(), CommandError> {
    let io = |source| CommandError::Io { path: path.to_owned(), source };
    match handle.try_lock() {
        Ok(()) if is_at(handle, path).map_err(io)? => Ok(()),
        Ok(()) | Err(TryLockError::WouldBlock) => Err(CommandError::Underway(file.to_owned())),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

/// Whether an open file has this name.
fn is_at(handle: &File, path: &Path) -> io::Result<bool> {
    let held = handle.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (held.dev(), held.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Renames, if nothing has the new name.
fn rename_new(from: &Path, to: &Path) -> Result<(), CommandError> {
    let io = |source| CommandError::Io { path: to.to_owned(), source };
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(CommandError::Exists(to.to_owned())),
        // A file system that cannot do it in one step: it was looked for a moment ago.
        Err(Errno::INVAL | Errno::NOSYS) if fs::symlink_metadata(to).is_err() => {
            fs::rename(from, to).map_err(io)
        }
        Err(Errno::INVAL | Errno::NOSYS) => Err(CommandError::Exists(to.to_owned())),
        Err(error) => Err(io(error.into())),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_has_the_name_of_the_part_is_not_written_to() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let [file, path, other] = ["b", "b.part", "other"].map(|name| folder.path().join(name));
        // Whoever put it there has it open, and would read what is written to it.
        fs::write(&other, "of somebody else").expect("written");
        for link in [fs::hard_link::<&Path, &Path>, symlink::<&Path, &Path>] {
            link(&other, &path).expect("linked");
            let part = Part::new(&file).expect("in its place");
            fs::write(&part.path, "secret").expect("written");
            assert_eq!(part.finish(&file, true).expect("finished"), 6);
            assert_eq!(fs::read_to_string(&other).expect("there"), "of somebody else");
            assert!(fs::symlink_metadata(&path).is_err(), "renamed");
        }
    }

    #[test]
    fn of_two_at_once_one_is_told() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let [file, path] = ["b", "b.part"].map(|name| folder.path().join(name));
        let first = Part::new(&file).expect("free");
        let second = Part::new(&file).err();
        assert!(matches!(second, Some(CommandError::Underway(_))), "{second:?}");
        assert!(is_at(&first.file, &path).expect("a folder"), "the first one's is untouched");
        // One that lost its name takes nobody else's away.
        fs::remove_file(&path).expect("removed");
        let third = Part::new(&file).expect("the name is free");
        drop(first);
        assert!(is_at(&third.file, &path).expect("a folder"));
        drop(third);
        assert!(!path.exists());
    }
}
