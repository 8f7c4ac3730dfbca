//! Opening the file: permissions, checks, migrations.
//!
//! Invariant: a database that cannot be used is refused with what to do, never replaced. Each migration is
//! one transaction, which also sets `user_version`: whenever it is cut short, the old version or the new one
//! is there. Before one changes a database that holds anything, that is copied.

use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt},
    path::Path,
    time::Duration,
};

use p2pchat_host::copy;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::error::StoreError;

/// Marks the file as peerd's: "p2pc".
const APPLICATION_ID: i64 = 0x7032_7063;
/// All migrations ever, in order: number N makes version N.
const MIGRATIONS: [&str; 4] = [
    include_str!("migrations/0001.sql"),
    include_str!("migrations/0002.sql"),
    include_str!("migrations/0003.sql"),
    include_str!("migrations/0004.sql"),
];
/// What a connection keeps of the database in memory, in KiB: it reads what is new or what it looks up by a
/// key, so more would only fill with pages that nobody asks for again.
const CACHE_KIB: i64 = 512;
/// Files up to this size are checked whole at each start; it takes about a second for the largest.
const CHECK_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How long a connection waits for a lock of ours; writers never compete, so only a checkpoint can hold it.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens the writer's connection; makes the database if `may_create`.
pub(super) fn open_writer(path: &Path, may_create: bool) -> Result<Connection, StoreError> {
    open_migrated(path, may_create, &MIGRATIONS)
}

fn open_migrated(
    path: &Path,
    may_create: bool,
    migrations: &[&str],
) -> Result<Connection, StoreError> {
    prepare_file(path, may_create)?;
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    (|| {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", 4000)
    })()
    .map_err(StoreError::from_sqlite)?;
    check_owner(&connection, path, migrations)?;
    check_pages(&connection, path)?;
    settle(&connection)?;
    migrate(&mut connection, path, migrations)?;
    Ok(connection)
}

/// Opens one more connection, for reading alone.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.pragma_update(None, "query_only", true).map_err(StoreError::from_sqlite)?;
    Ok(connection)
}

fn connect(path: &Path, mode: OpenFlags) -> Result<Connection, StoreError> {
    let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags).map_err(StoreError::from_sqlite)?;
    (|| {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.pragma_update(None, "cell_size_check", true)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)
    })()
    .map_err(StoreError::from_sqlite)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// The file is made with mode 0600 before SQLite sees it; its companions take over the mode.
fn prepare_file(path: &Path, may_create: bool) -> Result<(), StoreError> {
    let io = |source| StoreError::Open { path: path.to_owned(), source };
    match path.symlink_metadata() {
        Ok(meta) if meta.len() == 0 && !may_create => {
            Err(StoreError::Missing { path: path.to_owned() })
        }
        Ok(meta) if meta.permissions().mode() & 0o077 != 0 => {
            tracing::warn!("the database could be read by others; its mode is 0600 from here on");
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).map_err(io)
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && may_create => {
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(StoreError::Missing { path: path.to_owned() })
        }
        Err(error) => Err(io(error)),
    }
}

fn check_owner(
    connection: &Connection,
    path: &Path,
    migrations: &[&str],
) -> Result<(), StoreError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let tables = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))
        .map_err(StoreError::from_sqlite)?;
    let id = pragma("application_id").map_err(StoreError::from_sqlite)?;
    let found = pragma("user_version").map_err(StoreError::from_sqlite)?;
    if id != APPLICATION_ID && (id != 0 || tables != 0 || found != 0) {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    let known = migrations.len() as i64;
    if found > known { Err(StoreError::Newer { found, known }) } else { Ok(()) }
}

fn check_pages(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let bytes = path.metadata().map_or(0, |meta| meta.len());
    if bytes > CHECK_BYTES_MAX {
        return Ok(());
    }
    let finding = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))
        .map_err(StoreError::from_sqlite)?;
    if finding == "ok" { Ok(()) } else { Err(StoreError::Damaged { finding }) }
}

/// Writes anew, and syncs, what the log holds. Some of it may be in memory alone, as if it were on the disk:
/// after a sync that failed, the next one says that all is well. What is committed behind it would be lost
/// with it.
fn settle(connection: &Connection) -> Result<(), StoreError> {
    let settled = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    match settled.map_err(StoreError::from_sqlite) {
        Err(error) if error.is_full() => {
            tracing::warn!("the disk is full: the database's log stays as it is");
            Ok(())
        }
        settled => settled,
    }
}

fn migrate(
    connection: &mut Connection,
    path: &Path,
    migrations: &[&str],
) -> Result<(), StoreError> {
    let found = connection
        .pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))
        .map_err(StoreError::from_sqlite)?;
    if found > 0 && found < migrations.len() as i64 {
        copy::make(connection, path, found)?;
    }
    for (version, sql) in (1_i64..).zip(migrations) {
        if version <= found {
            continue;
        }
        let mut log = [0; 16];
        getrandom::fill(&mut log).map_err(|_| StoreError::Randomness)?;
        let log = data_encoding::HEXLOWER.encode(&log);
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(StoreError::from_sqlite)?;
        (|| {
            transaction.execute_batch(sql)?;
            if version == 1 {
                transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
                let insert = "INSERT INTO setting (name, json) VALUES ('event_log', ?1)";
                transaction.execute(insert, [format!("\"{log}\"")])?;
            }
            transaction.pragma_update(None, "user_version", version)?;
            transaction.commit()
        })()
        .map_err(StoreError::from_sqlite)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(folder: &tempfile::TempDir) -> std::path::PathBuf {
        folder.path().join("peerd.db")
    }

    #[test]
    fn the_schema_of_each_version_stays_what_it_was() {
        let golden = [
            include_str!("golden/schema_1.sql"),
            include_str!("golden/schema_2.sql"),
            include_str!("golden/schema_3.sql"),
            include_str!("golden/schema_4.sql"),
        ];
        for (count, golden) in (1..).zip(golden) {
            let folder = tempfile::tempdir().expect("a folder");
            let connection =
                open_migrated(&path(&folder), true, &MIGRATIONS[..count]).expect("new");
            assert_eq!(schema(&connection), golden);
        }
        assert_eq!(golden.len(), MIGRATIONS.len());
    }

    fn schema(connection: &Connection) -> String {
        let mut statement = connection
            .prepare("SELECT sql || ';' FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid")
            .expect("statement");
        let lines = statement
            .query_map([], |row| row.get::<_, String>(0))
            .expect("query")
            .collect::<Result<Vec<_>, _>>()
            .expect("rows");
        lines.join("\n") + "\n"
    }

    /// A database of version 1 with a row in it.
    fn old(folder: &tempfile::TempDir) -> Connection {
        let connection = open_migrated(&path(folder), true, &MIGRATIONS[..1]).expect("new");
        connection.execute_batch("INSERT INTO consumer VALUES ('bot', 7)").expect("a row");
        connection
    }

    fn state(connection: &Connection) -> (i64, i64) {
        let version = connection.pragma_query_value(None, "user_version", |row| row.get(0));
        let acked = connection.query_row("SELECT acked FROM consumer", [], |row| row.get(0));
        (version.expect("a version"), acked.expect("the row"))
    }

    #[test]
    fn a_copy_of_the_old_database_is_made_before_it_is_changed() {
        let folder = tempfile::tempdir().expect("a folder");
        // What it holds is in the log alone: nothing was closed.
        let _connection = old(&folder);
        let new = open_writer(&path(&folder), false).expect("migrated");
        assert_eq!(state(&new), (4, 7));
        let copy = folder.path().join("peerd.db.v1.backup");
        assert_eq!(copy.metadata().expect("a copy").permissions().mode() & 0o777, 0o600);
        assert!(!folder.path().join("peerd.db.backup.part").exists());
        std::fs::rename(copy, folder.path().join("restored.db")).expect("our own folder");
        let restored = folder.path().join("restored.db");
        let restored = open_migrated(&restored, false, &MIGRATIONS[..1]).expect("an old database");
        assert_eq!(state(&restored), (1, 7));
        let fresh = tempfile::tempdir().expect("a folder");
        drop(open_writer(&path(&fresh), true).expect("new"));
        assert!(!fresh.path().join("peerd.db.v1.backup").exists(), "nothing to copy");
    }

    #[test]
    fn no_copy_no_migration() {
        let folder = tempfile::tempdir().expect("a folder");
        drop(old(&folder));
        std::fs::create_dir(folder.path().join("peerd.db.v1.backup")).expect("in the way");
        let refused = open_writer(&path(&folder), false);
        assert!(matches!(refused, Err(StoreError::Copy(_))), "{refused:?}");
        let old = open_migrated(&path(&folder), false, &MIGRATIONS[..1]).expect("as it was");
        assert_eq!(state(&old), (1, 7));
    }

    #[test]
    fn a_migration_cut_short_anywhere_leaves_the_old_version_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut connection = old(&folder);
        for steps in 1.. {
            connection.progress_handler(steps, Some(|| true)).expect("set");
            let migrated = migrate(&mut connection, &path(&folder), &MIGRATIONS[..2]);
            connection.progress_handler(0, None::<fn() -> bool>).expect("unset");
            let migrated = migrated.is_ok();
            assert_eq!(
                state(&connection),
                (if migrated { 2 } else { 1 }, 7),
                "after {steps} steps"
            );
            assert_eq!(schema(&connection).contains("entry_shown"), migrated);
            if migrated {
                assert!(steps > 10, "it was cut short in many places");
                return;
            }
        }
    }

    #[test]
    fn a_start_reads_no_texts_to_know_what_was_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let connection = open_writer(&path(&folder), true).expect("new");
        let sql = "EXPLAIN QUERY PLAN SELECT stream, id FROM entry WHERE shown IS NOT NULL";
        let plan = connection.query_row(sql, [], |row| row.get::<_, String>(3)).expect("a plan");
        assert!(plan.contains("COVERING INDEX entry_shown"), "{plan}");
    }

    #[test]
    fn a_newer_database_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let connection = open_writer(&path(&folder), true).expect("new");
        connection.pragma_update(None, "user_version", 99).expect("pragma");
        drop(connection);
        let before = std::fs::read(path(&folder)).expect("file");
        let refused = open_writer(&path(&folder), false);
        assert!(matches!(refused, Err(StoreError::Newer { found: 99, known: 4 })), "{refused:?}");
        assert_eq!(before, std::fs::read(path(&folder)).expect("file"));
    }

    #[test]
    fn a_damaged_a_foreign_and_a_missing_database_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let missing = open_writer(&path(&folder), false);
        assert!(matches!(missing, Err(StoreError::Missing { .. })), "{missing:?}");

        drop(open_writer(&path(&folder), true).expect("new"));
        let mut bytes = std::fs::read(path(&folder)).expect("file");
        bytes[4096..].fill(0x5a);
        std::fs::write(path(&folder), &bytes).expect("write");
        let damaged = open_writer(&path(&folder), false);
        assert!(matches!(damaged, Err(StoreError::Damaged { .. })), "{damaged:?}");
        std::fs::write(path(&folder), b"this is no database, but long enough to look at")
            .expect("w");
        let damaged = open_writer(&path(&folder), true);
        assert!(matches!(damaged, Err(StoreError::Damaged { .. })), "{damaged:?}");

        std::fs::remove_file(path(&folder)).expect("remove");
        let other = Connection::open(path(&folder)).expect("open");
        other.execute_batch("CREATE TABLE t (a)").expect("create");
        drop(other);
        let foreign = open_writer(&path(&folder), true);
        assert!(matches!(foreign, Err(StoreError::Foreign { .. })), "{foreign:?}");
    }

    #[test]
    fn the_file_is_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let _connection = open_writer(&path(&folder), true).expect("new");
        for name in ["peerd.db", "peerd.db-wal", "peerd.db-shm"] {
            let meta = folder.path().join(name).metadata().expect(name);
            assert_eq!(meta.permissions().mode() & 0o777, 0o600, "{name}");
        }
    }
}
