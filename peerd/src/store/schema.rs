//! Opening the file: permissions, checks, migrations.
//!
//! Invariant: a database that cannot be used is refused with what to do, never replaced. Each migration is
//! one transaction, which also sets `user_version`.

use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt},
    path::Path,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::error::StoreError;

/// Marks the file as peerd's: "p2pc".
const APPLICATION_ID: i64 = 0x7032_7063;
/// All migrations ever, in order: number N makes version N.
const MIGRATIONS: [&str; 1] = [include_str!("migrations/0001.sql")];
/// Files up to this size are checked whole at each start; it takes about a second for the largest.
const CHECK_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How long a connection waits for a lock of ours; writers never compete, so only a checkpoint can hold it.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens the writer's connection; makes the database if `may_create`.
pub(super) fn open_writer(path: &Path, may_create: bool) -> Result<Connection, StoreError> {
    prepare_file(path, may_create)?;
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    (|| {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", 4000)
    })()
    .map_err(StoreError::from_sqlite)?;
    check_owner(&connection, path)?;
    check_pages(&connection, path)?;
    migrate(&mut connection)?;
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
        connection.pragma_update(None, "cell_size_check", true)
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

fn check_owner(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let tables = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))
        .map_err(StoreError::from_sqlite)?;
    let id = pragma("application_id").map_err(StoreError::from_sqlite)?;
    let found = pragma("user_version").map_err(StoreError::from_sqlite)?;
    if id != APPLICATION_ID && (id != 0 || tables != 0 || found != 0) {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    let known = MIGRATIONS.len() as i64;
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

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let found = connection
        .pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))
        .map_err(StoreError::from_sqlite)?;
    for (version, sql) in (1_i64..).zip(MIGRATIONS) {
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
        let folder = tempfile::tempdir().expect("a folder");
        let connection = open_writer(&path(&folder), true).expect("new");
        let mut statement = connection
            .prepare("SELECT sql || ';' FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid")
            .expect("statement");
        let lines = statement
            .query_map([], |row| row.get::<_, String>(0))
            .expect("query")
            .collect::<Result<Vec<_>, _>>()
            .expect("rows");
        assert_eq!(lines.join("\n") + "\n", include_str!("golden/schema_1.sql"));
    }

    #[test]
    fn a_newer_database_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let connection = open_writer(&path(&folder), true).expect("new");
        connection.pragma_update(None, "user_version", 99).expect("pragma");
        drop(connection);
        let before = std::fs::read(path(&folder)).expect("file");
        let refused = open_writer(&path(&folder), false);
        assert!(matches!(refused, Err(StoreError::Newer { found: 99, known: 1 })), "{refused:?}");
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
