//! `registryd backup FILE`: one private file with database and key, whole or not there.
//!
//! The copy is read from the database itself, not by way of the running registry: so it works as well when
//! none runs, and the file is written by who asks for it, to wherever he may write, not by a daemon that is
//! locked into its folder.

use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
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
struct Part {
    path: PathBuf,
    /// Holds the lock.
    file: File,
}

impl Part {
    /// A new one. What one that was killed left behind is written over.
    fn new(file: &Path) -> Result<Part, CommandError> {
        let path = beside(file, ".part");
        let io = |source| CommandError::Io { path: path.clone(), source };
        let handle = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .map_err(io)?;
        match handle.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(CommandError::Underway(file.to_owned())),
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        // A journal of a former one would be taken for its own.
        remove(&beside(&path, "-journal")).map_err(io)?;
        handle
            .set_len(0)
            .and_then(|()| handle.set_permissions(fs::Permissions::from_mode(0o600)))
            .map_err(io)?;
        Ok(Part { path, file: handle })
    }

    /// Lets it be on the disk, then gives it its name. Returns its size.
    fn finish(self, file: &Path, force: bool) -> Result<u64, CommandError> {
        let io = |source| CommandError::Io { path: file.to_owned(), source };
        self.file.sync_all().map_err(io)?;
        let bytes = self.file.metadata().map_err(io)?.len();
        if force {
            fs::rename(&self.path, file).map_err(io)?;
        } else {
            rename_new(&self.path, file)?;
        }
        let folder = file.parent().filter(|p| !p.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new("."))).and_then(|f| f.sync_all()).map_err(io)?;
        Ok(bytes)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Renamed away if it was finished; else only litter is left if this fails.
        let _ = remove(&beside(&self.path, "-journal")).and_then(|()| remove(&self.path));
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
