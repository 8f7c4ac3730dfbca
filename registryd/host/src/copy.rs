//! A copy of a database before a migration changes it.
//!
//! Invariant: a file with the copy's name is whole and on the disk. A copy that was cut short has another
//! name, and is made anew.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, MAIN_DB};

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
#[error("the database cannot be copied to {path} before its upgrade; it is as it was: {cause}")]
pub struct CopyError {
    /// Where to.
    pub path: PathBuf,
    /// Why.
    pub cause: io::Error,
}

/// Where the copy of version `version` lies: beside the database.
pub fn path_of(database: &Path, version: i64) -> PathBuf {
    beside(database, &format!(".v{version}.backup"))
}

/// Copies the database as `connection` sees it, what is still in its log included.
///
/// # Errors
/// [`CopyError`]; the database is unchanged.
pub fn make(connection: &Connection, database: &Path, version: i64) -> Result<(), CopyError> {
    let path = path_of(database, version);
    let unfinished = beside(database, ".backup.part");
    let copied = || {
        private(&unfinished)?;
        connection.backup(MAIN_DB, &unfinished, None::<fn(_)>).map_err(io::Error::other)?;
        File::open(&unfinished)?.sync_all()?;
        fs::rename(&unfinished, &path)?;
        File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
    };
    match copied() {
        Ok(()) => {
            tracing::info!(path = %path.display(), "the database was copied before its migration");
            Ok(())
        }
        Err(cause) => Err(CopyError { path, cause }),
    }
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_copy_is_whole_private_and_replaces_one_that_was_cut_short() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = folder.path().join("some.db");
        let connection = Connection::open(&database).expect("a database");
        let rows = "PRAGMA journal_mode = WAL; CREATE TABLE t (a); INSERT INTO t VALUES (7);";
        connection.execute_batch(rows).expect("a row, in the log");
        fs::write(beside(&database, ".backup.part"), "half").expect("cut short");
        make(&connection, &database, 3).expect("copied");
        let path = folder.path().join("some.db.v3.backup");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let copy = Connection::open(&path).expect("a database");
        let row = copy.query_row("SELECT a FROM t", [], |row| row.get::<_, i64>(0));
        assert_eq!(row, Ok(7));
    }

    #[test]
    fn a_copy_that_cannot_be_made_is_told_with_its_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = folder.path().join("gone").join("some.db");
        let connection = Connection::open_in_memory().expect("a database");
        let error = make(&connection, &database, 1).expect_err("no folder");
        assert_eq!(error.path, path_of(&database, 1));
        assert_eq!(error.cause.kind(), io::ErrorKind::NotFound);
    }
}
