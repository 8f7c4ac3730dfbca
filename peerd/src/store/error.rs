//! Why the store refuses or fails.

use std::{io, path::PathBuf};

use p2pchat_host::copy::CopyError;
use rusqlite::{ErrorCode, ffi};

/// In answer to a commit, any of it is fatal: the core's state has run ahead of the disk, so the daemon ends and
/// starts again from what is committed. [`StoreError::Full`] is such an answer only where peerd stops; else
/// the writer waits for space.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be made or opened.
    #[error("cannot open the database {}", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// SQLite failed.
    #[error("the database failed")]
    Sqlite(#[from] rusqlite::Error),
    /// No space is left for a commit.
    #[error("the disk is full")]
    Full(#[source] rusqlite::Error),
    /// The file is damaged, or no database.
    #[error("the database is damaged ({finding}): restore it from a backup, with peerd stopped")]
    Damaged {
        /// What SQLite says.
        finding: String,
    },
    /// Another program's database.
    #[error("the database {} is not one of peerd", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
    /// Keys are there, the database is not: a new one would forget all that was promised.
    #[error(
        "the database {} is missing though the profile's keys are there: restore it from a backup, \
         or remove the keys as well to begin anew",
        path.display()
    )]
    Missing {
        /// Which file.
        path: PathBuf,
    },
    /// Written by a newer peerd.
    #[error(
        "the database has version {found}, this peerd knows {known}: use the newer peerd, or restore the \
         backup that was made beside it before the upgrade"
    )]
    Newer {
        /// The version in the file.
        found: i64,
        /// The newest version known.
        known: i64,
    },
    /// No copy can be made before a migration, so there is no migration.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// A row does not read back.
    #[error("a row of the table {table} cannot be read: restore the database from a backup")]
    Row {
        /// Where.
        table: &'static str,
    },
    /// The writer has stopped.
    #[error("the store has stopped")]
    Stopped,
    /// The system gave no randomness.
    #[error("the system gave no randomness")]
    Randomness,
    /// A new consumer beyond the limit.
    #[error("there are {0} consumers already")]
    TooManyConsumers(usize),
    /// An acknowledgement of events that are not there.
    #[error("the newest event is {head}")]
    ConsumerAhead {
        /// Its number.
        head: u64,
    },
}

impl StoreError {
    /// Sorts what SQLite says.
    pub(super) fn from_sqlite(error: rusqlite::Error) -> Self {
        // The shared memory of the write-ahead log is a file as well.
        if let rusqlite::Error::SqliteFailure(ffi::Error { extended_code, .. }, _) = error
            && extended_code == ffi::SQLITE_IOERR_SHMSIZE
        {
            return StoreError::Full(error);
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                StoreError::Damaged { finding: error.to_string() }
            }
            Some(ErrorCode::DiskFull) => StoreError::Full(error),
            _ => StoreError::Sqlite(error),
        }
    }

    /// Whether the same may succeed once there is space. Nothing of it is on the disk.
    pub fn is_full(&self) -> bool {
        matches!(self, StoreError::Full(_))
    }
}
