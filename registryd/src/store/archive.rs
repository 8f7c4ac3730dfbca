//! A backup: one SQLite file that holds a registry's database and its key.
//!
//! [`write()`] copies the database of a registry, running or not, as it is at one moment: one read transaction
//! over the whole copy, so that what is written meanwhile neither gets in nor makes it begin anew. It copies
//! a few pages at a time and rests as long as that took, so that the registry's own reads and writes wait for
//! no more than that. (The log of a database cannot be begun anew while somebody reads its past: it grows
//! while the copy is made.)
//!
//! The file is the copy with one table more, `backup`, and an application id. [`unpack`] makes the database
//! of a registry of it again. It holds the secret key: it is as secret as the data folder.

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use registryd_proto::{KeyError, Keypair, PublicKey};
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension as _,
    backup::{Backup, StepResult},
};
use zeroize::Zeroizing;

use super::{Counts, SCHEMA_VERSION, StoreError, counts, schema};
use crate::random::Random;

/// Marks a backup among SQLite files: `p2pB`.
const APPLICATION_ID: i32 = 0x7032_7042;

/// Pages copied at a time: a megabyte.
const PAGES: i32 = 256;

/// How long one rest is at the least, and at the most.
const REST_MIN: Duration = Duration::from_millis(1);
const REST_MAX: Duration = Duration::from_millis(50);

/// The table that a backup has and a database has not.
const TABLE: &str = "
CREATE TABLE backup (
    made_ms INTEGER NOT NULL,  -- since 1970
    secret  BLOB    NOT NULL   -- 32 bytes: the registry's key
) STRICT;
";

/// Leaves out all that belongs to one registry key.
const FORGET: &str = "
DELETE FROM record;
DELETE FROM invite;
DELETE FROM member;
DELETE FROM room;
DELETE FROM session;
DELETE FROM peer_key;
UPDATE account SET binding = '', endpoints = '{\"peer\":[],\"room\":[]}', serial = 0, card = NULL;
";

/// What is in a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Accounts that are not deleted.
    pub(crate) accounts: u64,
    /// Rooms that are not deleted.
    pub(crate) rooms: u64,
    /// The version of its schema.
    pub(crate) schema: i64,
    /// When the backup was made, in milliseconds since 1970.
    pub(crate) made_ms: u64,
}

/// Why a backup is not made, or cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// SQLite says so.
    #[error("{path}: {source}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// It has no table of a backup, or is no database at all.
    #[error("{path} is no backup of a registry")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Bytes of it are wrong or missing.
    #[error("{path} is damaged: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found first.
        what: String,
    },
    /// Made by a newer registryd.
    #[error(
        "{path} has schema {found}, this registryd knows up to {SCHEMA_VERSION}: use the newer one"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// Of an older registryd, where that matters.
    #[error("{path} has schema {found}: start registryd once, so that it brings it up to date")]
    Older {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// Database and key do not belong together.
    #[error("the database {path} belongs to another key than the one with it")]
    OtherKey {
        /// The file.
        path: PathBuf,
    },
    /// The key that is stored is none.
    #[error("{path} holds no usable key: {source}")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
}

/// What a rusqlite error says of a file.
fn fail(path: &Path) -> impl Fn(rusqlite::Error) -> ArchiveError + '_ {
    |source| match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => ArchiveError::Foreign { path: path.to_owned() },
        Some(ErrorCode::DatabaseCorrupt) => {
            ArchiveError::Damaged { path: path.to_owned(), what: source.to_string() }
        }
        _ => ArchiveError::Sqlite { path: path.to_owned(), source },
    }
}

/// What an error of the store says of a file.
pub(super) fn fail_store(path: &Path) -> impl Fn(StoreError) -> ArchiveError + '_ {
    |error| match error {
        StoreError::Sqlite(source) => fail(path)(source),
        other => ArchiveError::Damaged { path: path.to_owned(), what: other.to_string() },
    }
}

/// Copies the database of a registry with its key into an empty, private file. Blocking, for as long as it
/// takes. The file is not synced.
///
/// # Errors
/// [`ArchiveError`]; what was written then is nothing.
pub(crate) fn write(
    database: &Path,
    keys: &Keypair,
    made_ms: u64,
    file: &Path,
) -> Result<Contents, ArchiveError> {
    let source = open(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let fail_source = fail(database);
    source.execute_batch("BEGIN").map_err(&fail_source)?;
    known_version(&source, database)?;
    belongs(&source, &keys.public(), database)?;

    let fail_file = fail(file);
    let mut target = open(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    copy(&source, &mut target).map_err(&fail_file)?;
    drop(source);
    // One file, without a log beside it.
    target
        .execute_batch("PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL")
        .map_err(&fail_file)?;
    let secret = keys.secret();
    super::in_transaction(&mut target, |transaction| {
        transaction.execute_batch(TABLE)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        let made_ms = super::to_sql(made_ms);
        transaction.execute(
            "INSERT INTO backup (made_ms, secret) VALUES (?1, ?2)",
            (made_ms, secret.as_ref()),
        )
    })
    .map_err(&fail_file)?;
    sound(&target, file, "quick_check")?;
    contents(&target, file)
}

/// Copies page by page, and rests in between.
fn copy(source: &Connection, target: &mut Connection) -> Result<(), rusqlite::Error> {
    let backup = Backup::new(source, target)?;
    loop {
        let start = Instant::now();
        match backup.step(PAGES)? {
            StepResult::Done => return Ok(()),
            // Somebody has the file for a moment, while a log is begun anew.
            _ => thread::sleep(start.elapsed().clamp(REST_MIN, REST_MAX)),
        }
    }
}

/// Copies the database of a registry that does not run into an empty, private file, as that of a new one with
/// another key. What another key has signed, or what was signed for another key, is left out: sessions, keys of
/// users, rooms. Names, passwords and invitations stay: nobody can take a name of somebody else, and each
/// user's first login enrols a device, as in an account that the operator made. Blocking. The file is not
/// synced.
///
/// # Errors
/// [`ArchiveError`]; what was written then is nothing.
pub(crate) fn renew(
    database: &Path,
    old: &PublicKey,
    new: &PublicKey,
    file: &Path,
) -> Result<Counts, ArchiveError> {
    let source = open(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let version = known_version(&source, database)?;
    if version < SCHEMA_VERSION {
        return Err(ArchiveError::Older { path: database.to_owned(), found: version });
    }
    belongs(&source, old, database)?;
    sound(&source, database, "integrity_check")?;
    let fail_file = fail(file);
    let mut target = open(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    copy(&source, &mut target).map_err(&fail_file)?;
    target.execute_batch("PRAGMA journal_mode = DELETE").map_err(&fail_file)?;
    let secret: [u8; 32] = Random::System
        .draw()
        .map_err(|_| ArchiveError::Key { path: file.to_owned(), source: KeyError::Randomness })?;
    super::in_transaction(&mut target, |transaction| {
        transaction.execute_batch(FORGET)?;
        let meta = "UPDATE meta SET value = ?2 WHERE name = ?1";
        transaction.execute(meta, ("registry_key", new.as_bytes()))?;
        transaction.execute(meta, ("hello_secret", secret))
    })
    .map_err(&fail_file)?;
    sound(&target, file, "quick_check")?;
    counts::count(&target).map_err(fail_store(file))
}

/// What a backup holds, and whose it is. Reads all of it.
///
/// # Errors
/// [`ArchiveError`] for a file that could not be restored.
pub(crate) fn inspect(file: &Path) -> Result<(Contents, PublicKey), ArchiveError> {
    let backup = open(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let keys = checked(&backup, file)?;
    Ok((contents(&backup, file)?, keys.public()))
}

/// Makes the database of a registry of a copy of a backup, in its place, and returns the key. The file is
/// not synced.
///
/// # Errors
/// [`ArchiveError`] for a file that is no whole backup, or a newer one.
pub(crate) fn unpack(file: &Path) -> Result<(Contents, Keypair), ArchiveError> {
    let backup = open(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let keys = checked(&backup, file)?;
    let contents = contents(&backup, file)?;
    backup
        .execute_batch(
            "PRAGMA secure_delete = ON; BEGIN; DROP TABLE backup; PRAGMA application_id = 0; COMMIT",
        )
        .map_err(fail(file))?;
    Ok((contents, keys))
}

/// Opens a file that is there.
pub(super) fn open(path: &Path, flags: OpenFlags) -> Result<Connection, ArchiveError> {
    Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(fail(path))
}

/// The key of a backup that is whole and known.
fn checked(backup: &Connection, file: &Path) -> Result<Keypair, ArchiveError> {
    let foreign = || ArchiveError::Foreign { path: file.to_owned() };
    let marked: i32 =
        backup.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(fail(file))?;
    if marked != APPLICATION_ID {
        return Err(foreign());
    }
    known_version(backup, file)?;
    sound(backup, file, "integrity_check")?;
    let secret: Vec<u8> = backup
        .query_row("SELECT secret FROM backup", [], |row| row.get(0))
        .optional()
        .map_err(fail(file))?
        .ok_or_else(foreign)?;
    let secret = Zeroizing::new(secret);
    let keys = Keypair::from_secret(secret.as_slice().try_into().map_err(|_| foreign())?);
    belongs(backup, &keys.public(), file)?;
    Ok(keys)
}

fn known_version(connection: &Connection, path: &Path) -> Result<i64, ArchiveError> {
    let found =
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(fail(path))?;
    match found {
        0 => Err(ArchiveError::Foreign { path: path.to_owned() }),
        found if found > SCHEMA_VERSION => {
            Err(ArchiveError::Newer { path: path.to_owned(), found })
        }
        found => Ok(found),
    }
}

/// Whether SQLite finds nothing wrong with the file, and no row points nowhere.
fn sound(connection: &Connection, path: &Path, check: &'static str) -> Result<(), ArchiveError> {
    let damaged = |what| ArchiveError::Damaged { path: path.to_owned(), what };
    let verdict: String = connection
        .query_row(&format!("PRAGMA {check}(1)"), [], |row| row.get(0))
        .map_err(fail(path))?;
    if verdict != "ok" {
        return Err(damaged(verdict));
    }
    let lost: Option<String> = connection
        .query_row("PRAGMA foreign_key_check", [], |row| row.get(0))
        .optional()
        .map_err(fail(path))?;
    lost.map_or(Ok(()), |table| Err(damaged(format!("a row of {table} points nowhere"))))
}

fn belongs(connection: &Connection, key: &PublicKey, path: &Path) -> Result<(), ArchiveError> {
    match schema::owner(connection).map_err(fail(path))? {
        Some(held) if held == key.as_bytes() => Ok(()),
        _ => Err(ArchiveError::OtherKey { path: path.to_owned() }),
    }
}

fn contents(backup: &Connection, file: &Path) -> Result<Contents, ArchiveError> {
    let counts = counts::count(backup).map_err(fail_store(file))?;
    let made_ms: i64 =
        backup.query_row("SELECT made_ms FROM backup", [], |row| row.get(0)).map_err(fail(file))?;
    Ok(Contents {
        accounts: counts.accounts,
        rooms: counts.rooms,
        schema: known_version(backup, file)?,
        made_ms: u64::try_from(made_ms).unwrap_or(0),
    })
}
