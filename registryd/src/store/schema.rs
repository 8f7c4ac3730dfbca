//! The tables, their versions, and how the file is opened.
//!
//! Each migration is one transaction with the version it leads to, and before one changes a database that
//! holds anything, that is copied. A damaged, newer, lost or emptied file
//! is refused and left as it is (damage in the middle of a very large one ends the store a moment later): a registry that silently began anew would hand every name to whoever
//! comes first. So is one that others can read: it holds what session keys derive from.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use p2pchat_host::copy;
use registryd_proto::PublicKey;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _};

use super::{OpenError, in_transaction};
use crate::{instance::Begun, random::Random};

/// The version of the newest migration.
pub(crate) const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64;

/// One migration for each version, never changed once released.
const MIGRATIONS: [&str; 3] = ["
CREATE TABLE meta (
    name  TEXT NOT NULL PRIMARY KEY,  -- registry_key, hello_secret, interval_ms
    value BLOB NOT NULL               -- 32 bytes, 32 bytes, decimal text
) STRICT;

CREATE TABLE account (
    id            INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,  -- also the session id; never used again
    username      TEXT    NOT NULL UNIQUE,  -- taken for ever, deleted or not
    password_hash TEXT    NOT NULL,         -- PHC string; empty once deleted
    binding       TEXT    NOT NULL,         -- JSON of the key binding, with both signatures
    endpoints     TEXT    NOT NULL,         -- JSON of where the listeners were at the last login or resume
    serial        INTEGER NOT NULL,         -- of the card; grows with each binding
    epoch         INTEGER NOT NULL,         -- of the session; grows with each login and resume
    version       INTEGER NOT NULL,         -- grows when something changed that the account should sync
    created_ms    INTEGER NOT NULL,         -- since 1970
    deleted       INTEGER NOT NULL          -- 1: only the name is kept
) STRICT;

CREATE TABLE peer_key (
    key     BLOB    NOT NULL PRIMARY KEY,              -- 32 bytes
    account INTEGER NOT NULL REFERENCES account (id),  -- whose it is
    current INTEGER NOT NULL                           -- 0: another device took over
) STRICT, WITHOUT ROWID;
CREATE INDEX peer_key_account ON peer_key (account);

CREATE TABLE session (
    account   INTEGER NOT NULL PRIMARY KEY REFERENCES account (id),  -- no row: logged out
    salt      BLOB    NOT NULL,  -- 16 bytes, drawn at each login and resume; derives the session key
    attempt   BLOB    NOT NULL,  -- 32 bytes: the login or resume that opened it
    opened_ms INTEGER NOT NULL   -- since 1970
) STRICT;

CREATE TABLE room (
    id            INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    room_id       BLOB    NOT NULL UNIQUE,  -- 32 random bytes
    name          TEXT    NOT NULL,
    access        TEXT    NOT NULL,  -- open, password, invite
    history       TEXT    NOT NULL,  -- joined, all
    password_hash TEXT    NOT NULL,  -- PHC string; empty unless access is password
    epoch         INTEGER NOT NULL,  -- of the newest record
    head          BLOB    NOT NULL,  -- hash of the newest record
    deleted       INTEGER NOT NULL   -- 1: the log is kept, the name is free
) STRICT;
CREATE UNIQUE INDEX room_name ON room (name) WHERE deleted = 0;

CREATE TABLE member (
    room    INTEGER NOT NULL REFERENCES room (id),
    account INTEGER NOT NULL REFERENCES account (id),
    role    TEXT    NOT NULL,  -- member, moderator, owner
    PRIMARY KEY (room, account)
) STRICT, WITHOUT ROWID;
CREATE INDEX member_account ON member (account);

CREATE TABLE invite (
    room    INTEGER NOT NULL REFERENCES room (id),
    account INTEGER NOT NULL REFERENCES account (id),  -- who may join
    PRIMARY KEY (room, account)
) STRICT, WITHOUT ROWID;
CREATE INDEX invite_account ON invite (account);

CREATE TABLE record (
    room   INTEGER NOT NULL REFERENCES room (id),
    epoch  INTEGER NOT NULL,
    signed TEXT    NOT NULL,  -- JSON of the signed record: its bytes and the signature, verbatim
    PRIMARY KEY (room, epoch)
) STRICT, WITHOUT ROWID;
", "
CREATE TABLE registration_invite (
    id         INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    code_hash  BLOB    NOT NULL UNIQUE,  -- 32 bytes; the code itself is nowhere
    uses       INTEGER NOT NULL,         -- accounts that it makes in all
    used       INTEGER NOT NULL,         -- accounts that it has made
    created_ms INTEGER NOT NULL,         -- since 1970
    expires_ms INTEGER NOT NULL,         -- since 1970; void from then on
    revoked    INTEGER NOT NULL,         -- 1: the operator took it back
    note       TEXT    NOT NULL          -- for the operator
) STRICT;

-- 1: the operator lets nobody in; there is no session then.
ALTER TABLE account ADD COLUMN disabled INTEGER NOT NULL DEFAULT 0;
-- The number of the invitation that made it; 0: none did.
ALTER TABLE account ADD COLUMN invited_by INTEGER NOT NULL DEFAULT 0;
-- account.binding may be empty from here on: the operator made the account, no device has logged in yet.

-- Counted without reading the others.
CREATE INDEX account_deleted ON account (deleted) WHERE deleted = 1;

-- Of the account's card when it became the current key: the oldest are forgotten.
ALTER TABLE peer_key ADD COLUMN serial INTEGER NOT NULL DEFAULT 0;

-- JSON of the signed card, its bytes and the signature verbatim; of this serial and binding.
ALTER TABLE account ADD COLUMN card TEXT;
-- Since 1970; means nothing without a card.
ALTER TABLE account ADD COLUMN card_expires_ms INTEGER NOT NULL DEFAULT 0;
", "
-- What a start reads of each account that has a session: a fiftieth of the account's row.
CREATE INDEX account_presence ON account (id, epoch, version);
"];

/// Statements kept prepared: more than there are different ones.
const STATEMENTS_MAX: usize = 64;

/// Memory of the reader's pages: the inner pages of the trees of a million accounts, so that a look-up asks
/// the system for leaves alone.
const READER_CACHE_KIB: i64 = 16 * 1024;

/// A file up to this size is checked before the start: in a fraction of a second. That of a million accounts
/// takes seconds, in which nobody would be served; it is checked while it is used.
const CHECKED_FIRST_BYTES: i64 = 256 * 1024 * 1024;

/// Opens the file for writing, checks and migrates it.
pub(super) fn open(
    path: &Path,
    registry: &PublicKey,
    begun: Begun,
    random: &Random,
) -> Result<Connection, OpenError> {
    if begun == Begun::Anew {
        make_private(path)?;
    }
    check_private(path)?;
    open_migrated(path, registry, begun, random, &MIGRATIONS)
}

fn open_migrated(
    path: &Path,
    registry: &PublicKey,
    begun: Begun,
    random: &Random,
    migrations: &[&str],
) -> Result<Connection, OpenError> {
    let mut connection = Connection::open(path).map_err(|e| cause(path, e))?;
    let problem = |problem| match problem {
        Problem::Empty => OpenError::Missing { path: path.to_owned() },
        Problem::Sqlite(source) => cause(path, source),
        Problem::Damaged => OpenError::Damaged { path: path.to_owned() },
        Problem::Newer(found) => OpenError::Newer { path: path.to_owned(), found },
        Problem::OtherKey => OpenError::OtherKey { path: path.to_owned() },
        Problem::Randomness => OpenError::System(io::Error::other(super::StoreError::Randomness)),
    };
    let found = check(&connection, begun, migrations).map_err(problem)?;
    settle(&connection).map_err(|e| cause(path, e))?;
    if found > 0 && found < migrations.len() as i64 {
        copy::make(&connection, path, found)?;
    }
    migrate(&mut connection, found, migrations).map_err(|e| cause(path, e))?;
    own(&connection, registry, random).map_err(problem)?;
    Ok(connection)
}

/// Makes an empty file that its owner alone can read, if there is none: SQLite gives its own files beside
/// it the same mode.
fn make_private(path: &Path) -> Result<(), OpenError> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error.into()),
        _ => Ok(()),
    }
}

fn check_private(path: &Path) -> Result<(), OpenError> {
    let mode = match fs::metadata(path) {
        Ok(found) => found.permissions().mode(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(OpenError::Missing { path: path.to_owned() });
        }
        Err(error) => return Err(error.into()),
    };
    match mode & 0o077 {
        0 => Ok(()),
        _ => Err(OpenError::Exposed { path: path.to_owned() }),
    }
}

/// Opens the file a second time, for reading alone.
pub(super) fn open_reader(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|e| cause(path, e))?;
    connection.pragma_update(None, "cache_size", -READER_CACHE_KIB).map_err(|e| cause(path, e))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(connection)
}

/// Why a database cannot be used, but for its path.
#[derive(Debug)]
pub(super) enum Problem {
    Sqlite(rusqlite::Error),
    Empty,
    Damaged,
    Newer(i64),
    OtherKey,
    Randomness,
}

impl From<rusqlite::Error> for Problem {
    fn from(error: rusqlite::Error) -> Self {
        Problem::Sqlite(error)
    }
}

pub(super) fn cause(path: &Path, source: rusqlite::Error) -> OpenError {
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            OpenError::Damaged { path: path.to_owned() }
        }
        _ => OpenError::Sqlite { path: path.to_owned(), source },
    }
}

/// Checks and migrates a database.
#[cfg(any(test, feature = "simulation"))]
pub(super) fn prepare(
    connection: &mut Connection,
    registry: &PublicKey,
    begun: Begun,
    random: &Random,
) -> Result<(), Problem> {
    let found = check(connection, begun, &MIGRATIONS)?;
    migrate(connection, found, &MIGRATIONS)?;
    own(connection, registry, random)
}

/// The version of a database that can be used.
fn check(connection: &Connection, begun: Begun, migrations: &[&str]) -> Result<i64, Problem> {
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found == 0 && begun == Begun::Before {
        return Err(Problem::Empty);
    }
    if found > migrations.len() as i64 {
        return Err(Problem::Newer(found));
    }
    if is_small(connection)? && !is_sound(connection)? {
        return Err(Problem::Damaged);
    }
    Ok(found)
}

/// Whether all of it can be read before anybody is served.
pub(super) fn is_small(connection: &Connection) -> Result<bool, rusqlite::Error> {
    let pragma = |sql: &'static str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let bytes = pragma("PRAGMA page_count")?.saturating_mul(pragma("PRAGMA page_size")?);
    Ok(bytes <= CHECKED_FIRST_BYTES)
}

/// Whether the structure of the database is whole. Reads all of it.
pub(super) fn is_sound(connection: &Connection) -> Result<bool, rusqlite::Error> {
    match connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)) {
        Ok(verdict) => Ok(verdict == "ok"),
        Err(error) => match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Ok(false),
            _ => Err(error),
        },
    }
}

/// Writes anew, and syncs, what the log holds. Some of it may be in memory alone, as if it were on the disk:
/// after a sync that failed, the next one says that all is well. What is committed behind it would be lost
/// with it.
fn settle(connection: &Connection) -> Result<(), rusqlite::Error> {
    match connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
            tracing::warn!("the disk is full: the database's log stays as it is");
            Ok(())
        }
        settled => settled,
    }
}

fn migrate(
    connection: &mut Connection,
    found: i64,
    migrations: &[&str],
) -> Result<(), rusqlite::Error> {
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;",
    )?;
    for (at, migration) in migrations.iter().enumerate().skip(usize::try_from(found).unwrap_or(0)) {
        let version = at as i64 + 1;
        in_transaction(connection, |transaction| {
            transaction.execute_batch(migration)?;
            transaction.pragma_update(None, "user_version", version)
        })?;
    }
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(())
}

/// Binds the file to the registry key, and draws the HELLO secret of a new one.
fn own(connection: &Connection, registry: &PublicKey, random: &Random) -> Result<(), Problem> {
    match owner(connection)? {
        Some(held) if held == registry.as_bytes() => Ok(()),
        Some(_) => Err(Problem::OtherKey),
        None => {
            let secret: [u8; 32] = random.draw().map_err(|_| Problem::Randomness)?;
            connection.execute(
                "INSERT INTO meta (name, value) VALUES ('hello_secret', ?1), ('registry_key', ?2)",
                (secret, registry.as_bytes()),
            )?;
            Ok(())
        }
    }
}

/// The registry key that the file belongs to.
pub(super) fn owner(connection: &Connection) -> Result<Option<Vec<u8>>, rusqlite::Error> {
    connection
        .query_row("SELECT value FROM meta WHERE name = 'registry_key'", [], |row| row.get(0))
        .optional()
}

#[cfg(test)]
mod tests {
    use registryd_proto::Keypair;

    use super::*;

    fn open(path: &Path, registry: &PublicKey, begun: Begun) -> Result<Connection, OpenError> {
        super::open(path, registry, begun, &Random::System)
    }

    fn key(seed: u8) -> PublicKey {
        Keypair::from_secret(&[seed; 32]).public()
    }

    #[test]
    fn a_newer_schema_is_refused_with_a_hint() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("registry.db");
        let connection = open(&path, &key(1), Begun::Anew).expect("new");
        connection.pragma_update(None, "user_version", 99).expect("pragma");
        drop(connection);
        let error = open(&path, &key(1), Begun::Before).expect_err("newer");
        assert!(matches!(error, OpenError::Newer { found: 99, .. }));
        assert!(error.to_string().contains("newer registryd"));
    }

    /// A migration that comes after those that there are.
    const NEXT: &str = "CREATE TABLE next (a INTEGER NOT NULL) STRICT; \
                        UPDATE meta SET value = x'00' WHERE name = 'interval_ms'; \
                        CREATE INDEX next_a ON next (a);";

    fn interval(connection: &Connection) -> (i64, Vec<u8>) {
        let version = connection.query_row("PRAGMA user_version", [], |row| row.get(0));
        let sql = "SELECT value FROM meta WHERE name = 'interval_ms'";
        let value = connection.query_row(sql, [], |row| row.get(0));
        (version.expect("a version"), value.expect("the row"))
    }

    #[test]
    fn an_upgrade_copies_the_old_database_and_is_whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("registry.db");
        let mut connection = open(&path, &key(1), Begun::Anew).expect("new");
        let row = "INSERT INTO meta (name, value) VALUES ('interval_ms', x'07')";
        connection.execute_batch(row).expect("a row");
        let migrations = [&MIGRATIONS[..], &[NEXT]].concat();
        for steps in 1.. {
            connection.progress_handler(steps, Some(|| true)).expect("set");
            let migrated = migrate(&mut connection, SCHEMA_VERSION, &migrations).is_ok();
            connection.progress_handler(0, None::<fn() -> bool>).expect("unset");
            if migrated {
                assert!(steps > 10, "it was cut short in many places");
                break;
            }
            assert_eq!(interval(&connection), (SCHEMA_VERSION, vec![7]), "after {steps} steps");
        }
        assert_eq!(interval(&connection), (SCHEMA_VERSION + 1, vec![0]));
        drop(connection);

        let path = folder.path().join("second.db");
        drop(open(&path, &key(1), Begun::Anew).expect("new"));
        let connection = open(&path, &key(1), Begun::Before).expect("opened");
        connection.execute_batch(row).expect("a row");
        let random = Random::System;
        let new = open_migrated(&path, &key(1), Begun::Before, &random, &migrations);
        assert_eq!(interval(&new.expect("migrated")), (SCHEMA_VERSION + 1, vec![0]));
        let copy = folder.path().join(format!("second.db.v{SCHEMA_VERSION}.backup"));
        let copy = open(&copy, &key(1), Begun::Before).expect("private, and of the old version");
        assert_eq!(interval(&copy), (SCHEMA_VERSION, vec![7]));
    }

    #[test]
    fn a_damaged_file_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("registry.db");
        make_private(&path).expect("new");
        std::fs::write(&path, [b'x'; 8192]).expect("written");
        assert!(matches!(open(&path, &key(1), Begun::Before), Err(OpenError::Damaged { .. })));
        assert_eq!(std::fs::read(&path).expect("kept"), [b'x'; 8192]);
    }

    #[test]
    fn a_file_with_a_hole_in_the_middle_is_refused() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("registry.db");
        let connection = open(&path, &key(1), Begun::Anew).expect("new");
        connection.pragma_update(None, "journal_mode", "DELETE").expect("pragma");
        drop(connection);
        let mut bytes = std::fs::read(&path).expect("file");
        bytes[4096..8192].fill(0x5a);
        std::fs::write(&path, &bytes).expect("written");
        assert!(matches!(open(&path, &key(1), Begun::Before), Err(OpenError::Damaged { .. })));
    }

    #[test]
    fn another_registry_key_is_refused() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("registry.db");
        drop(open(&path, &key(1), Begun::Anew).expect("new"));
        assert!(matches!(open(&path, &key(2), Begun::Before), Err(OpenError::OtherKey { .. })));
        open(&path, &key(1), Begun::Before).expect("its own key");
    }
    #[test]
    fn one_that_was_there_and_is_lost_or_emptied_is_not_begun_anew() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("registry.db");
        let lost = open(&path, &key(1), Begun::Before);
        assert!(matches!(lost, Err(OpenError::Missing { .. })), "{lost:?}");
        assert!(!path.exists(), "nothing was made");
        make_private(&path).expect("new");
        let emptied = open(&path, &key(1), Begun::Before);
        assert!(matches!(emptied, Err(OpenError::Missing { .. })), "{emptied:?}");
        open(&path, &key(1), Begun::Anew).expect("a first start that was cut short goes on");
    }

    #[test]
    fn one_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("registry.db");
        drop(open(&path, &key(1), Begun::Anew).expect("new"));
        for mode in [0o640, 0o604, 0o666] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
            let verdict = open(&path, &key(1), Begun::Before);
            assert!(matches!(verdict, Err(OpenError::Exposed { .. })), "{mode:o}: {verdict:?}");
        }
    }
}
