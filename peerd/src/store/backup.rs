//! A copy of the database before a migration changes it.
//!
//! Invariant: a file with the backup's name is whole and on the disk. A copy that was cut short has another
//! name, and is made anew.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, MAIN_DB};

use super::error::StoreError;

/// Where the copy of version `version` lies: beside the database.
pub(super) fn path_of(database: &Path, version: i64) -> PathBuf {
    beside(database, &format!(".v{version}.backup"))
}

/// Copies the database as `connection` sees it, what is still in its log included.
///
/// # Errors
/// [`StoreError::Backup`]; the database is unchanged.
pub(super) fn make(
    connection: &Connection,
    database: &Path,
    version: i64,
) -> Result<(), StoreError> {
    let path = path_of(database, version);
    let unfinished = beside(database, ".backup.part");
    let fail = |source| StoreError::Backup { path: path.clone(), source };
    private(&unfinished).map_err(fail)?;
    connection
        .backup(MAIN_DB, &unfinished, None::<fn(_)>)
        .map_err(|error| fail(io::Error::other(error)))?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(&unfinished)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(&unfinished, &path))
        .and_then(|()| File::open(folder)?.sync_all())
        .map_err(fail)?;
    tracing::info!(path = %path.display(), "the database was copied before its migration");
    Ok(())
}

fn beside(database: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(database);
    name.push(ending);
    PathBuf::from(name)
}

/// A new, empty file that its owner alone can read.
fn private(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map(drop)
}
