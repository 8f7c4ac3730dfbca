//! Whether a database is sound: its structure, its references, and what is signed in it.
//!
//! Works on a database that a registry is using as well as on one at rest: it only reads, a little at a time,
//! each piece as it is at one moment.

use std::path::Path;

use registryd_proto::{KeyBinding, MembershipRecord, PublicKey, Room, Signed, Username};
use rusqlite::{Connection, OpenFlags, params};
use serde::Serialize;

use super::{
    Counts, SCHEMA_VERSION, StoreError,
    account::from_json,
    archive::{self, ArchiveError},
    counts, membership, schema,
};

/// Findings that are told; the rest is only counted. A page that is damaged can be thousands of them.
const FINDINGS_MAX: usize = 100;

/// Accounts read at a time.
const PAGE: i64 = 1000;

/// What a finding is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Aspect {
    /// Who may read a file.
    Permissions,
    /// The registry's key.
    Key,
    /// The version of the database.
    Schema,
    /// Pages, rows and indexes.
    Structure,
    /// Rows that name rows of other tables.
    References,
    /// A room: its signed log, and the tables that follow it.
    Rooms,
    /// An account: the binding that its keys signed.
    Accounts,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) check: Aspect,
    pub(crate) what: String,
}

/// All that is wrong, and what was looked at.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Findings {
    pub(crate) findings: Vec<Finding>,
    /// Those that are not told.
    pub(crate) more: u64,
}

impl Findings {
    /// One more.
    pub(crate) fn add(&mut self, check: Aspect, what: impl Into<String>) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { check, what: what.into() });
        } else {
            self.more += 1;
        }
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }
}

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Depth {
    /// Each page, and each reference.
    Quick,
    /// Indexes against their tables, and each signature as well.
    Full,
}

/// Checks a database. Blocking, for as long as it takes. Returns how many accounts and rooms there are, if
/// it got so far.
///
/// # Errors
/// [`ArchiveError`] if it cannot be read at all; damage is a finding.
pub(crate) fn check(
    database: &Path,
    registry: &PublicKey,
    depth: Depth,
    findings: &mut Findings,
) -> Result<Option<Counts>, ArchiveError> {
    let looked = archive::open(database, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .and_then(|db| look(&db, registry, depth, findings).map_err(archive::fail_store(database)));
    match looked {
        Ok(counts) => Ok(counts),
        // So damaged that the look came to an end.
        Err(ArchiveError::Damaged { what, .. }) => {
            findings.add(Aspect::Structure, what);
            Ok(None)
        }
        Err(ArchiveError::Foreign { .. }) => {
            findings.add(Aspect::Structure, "it is no database");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn look(
    db: &Connection,
    registry: &PublicKey,
    depth: Depth,
    findings: &mut Findings,
) -> Result<Option<Counts>, StoreError> {
    let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if !(1..=SCHEMA_VERSION).contains(&version) {
        findings.add(
            Aspect::Schema,
            format!(
                "the database has schema {version}, this registryd knows 1 to {SCHEMA_VERSION}"
            ),
        );
        return Ok(None);
    }
    structure(db, depth, findings)?;
    references(db, findings)?;
    if schema::owner(db)?.is_none_or(|held| held != registry.as_bytes()) {
        findings.add(Aspect::Key, "the database belongs to another key than the one with it");
    }
    if depth == Depth::Full {
        accounts(db, registry, findings)?;
        rooms(db, registry, findings)?;
    }
    Ok(Some(counts::count(db)?))
}

fn structure(db: &Connection, depth: Depth, findings: &mut Findings) -> Result<(), StoreError> {
    let check = match depth {
        Depth::Quick => "PRAGMA quick_check",
        Depth::Full => "PRAGMA integrity_check",
    };
    let mut statement = db.prepare(check)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let verdict: String = row.get(0)?;
        if verdict != "ok" {
            findings.add(Aspect::Structure, verdict);
        }
    }
    Ok(())
}

fn references(db: &Connection, findings: &mut Findings) -> Result<(), StoreError> {
    let mut statement = db.prepare("PRAGMA foreign_key_check")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (table, parent): (String, String) = (row.get(0)?, row.get(2)?);
        findings.add(Aspect::References, format!("a row of {table} names none of {parent}"));
    }
    Ok(())
}

/// Every account that is not deleted, some at a time.
fn accounts(
    db: &Connection,
    registry: &PublicKey,
    findings: &mut Findings,
) -> Result<(), StoreError> {
    let mut statement = db.prepare(
        "SELECT id, username, binding,
                (SELECT key FROM peer_key WHERE account = account.id AND current = 1)
         FROM account WHERE id > ?1 AND deleted = 0 ORDER BY id LIMIT ?2",
    )?;
    let mut last = 0;
    loop {
        let mut rows = statement.query(params![last, PAGE])?;
        let mut read = 0;
        while let Some(row) = rows.next()? {
            read += 1;
            last = row.get(0)?;
            let (username, binding): (String, String) = (row.get(1)?, row.get(2)?);
            if let Err(what) = account_is_sound(registry, &username, &binding, row.get(3)?) {
                findings.add(Aspect::Accounts, format!("{username:?}: {what}"));
            }
        }
        if read < PAGE {
            return Ok(());
        }
    }
}

fn account_is_sound(
    registry: &PublicKey,
    username: &str,
    binding: &str,
    current: Option<Vec<u8>>,
) -> Result<(), &'static str> {
    let username: Username = username.parse().map_err(|_| "the name is none")?;
    // Made by the operator: no device has logged in yet.
    if binding.is_empty() && current.is_none() {
        return Ok(());
    }
    let binding: KeyBinding =
        from_json(binding, "account.binding").map_err(|_| "the binding cannot be read")?;
    binding.verify(registry, &username).map_err(|_| "its keys did not sign the binding")?;
    match current {
        Some(key) if key == binding.peer_key.as_bytes() => Ok(()),
        _ => Err("its current key is not the one of the binding"),
    }
}

/// Every room, each with its log at one moment.
fn rooms(db: &Connection, registry: &PublicKey, findings: &mut Findings) -> Result<(), StoreError> {
    let mut statement = db.prepare("SELECT id FROM room ORDER BY id")?;
    let ids = statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
    for id in ids {
        let moment = db.unchecked_transaction()?;
        if let Err(what) = room_is_sound(&moment, id, registry)? {
            findings.add(Aspect::Rooms, format!("room {id}: {what}"));
        }
    }
    Ok(())
}

/// What the table says of a room.
type RoomRow = (Vec<u8>, String, i64, Vec<u8>, bool);

fn room_is_sound(
    db: &Connection,
    id: i64,
    registry: &PublicKey,
) -> Result<Result<(), String>, StoreError> {
    let row: RoomRow = db
        .prepare_cached("SELECT room_id, name, epoch, head, deleted FROM room WHERE id = ?1")?
        .query_row([id], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })?;
    let log = match log_of(db, id)? {
        Ok(log) => log,
        Err(what) => return Ok(Err(what.to_owned())),
    };
    let room = match Room::from_log(&log, registry) {
        Ok(room) => room,
        Err(error) => return Ok(Err(format!("its log does not hold: {error}"))),
    };
    let (room_id, name, epoch, head, deleted) = row;
    let told = [
        (room_id == room.id.0.0, "id"),
        (name == room.name.as_str(), "name"),
        (u64::try_from(epoch) == Ok(room.epoch), "epoch"),
        (head == room.head().0, "head"),
        (deleted == room.deleted, "end"),
    ];
    if let Some((_, what)) = told.iter().find(|(same, _)| !same) {
        return Ok(Err(format!("its {what} is not the one of its log")));
    }
    let mut of_log: Vec<(String, String)> = Vec::new();
    for member in room.members().filter(|_| !room.deleted) {
        of_log.push((member.username.to_string(), membership::word(&member.role)?));
    }
    of_log.sort();
    let same = of_log == members_of(db, id)?;
    Ok(if same { Ok(()) } else { Err("its members are not those of its log".to_owned()) })
}

fn log_of(
    db: &Connection,
    room: i64,
) -> Result<Result<Vec<Signed<MembershipRecord>>, &'static str>, StoreError> {
    let mut statement =
        db.prepare_cached("SELECT signed FROM record WHERE room = ?1 ORDER BY epoch")?;
    let texts = statement.query_map([room], |row| row.get::<_, String>(0))?;
    let texts = texts.collect::<Result<Vec<String>, _>>()?;
    let read = texts.iter().map(|text| from_json(text, "record.signed"));
    Ok(read.collect::<Result<_, _>>().map_err(|_| "a record of its log cannot be read"))
}

fn members_of(db: &Connection, room: i64) -> Result<Vec<(String, String)>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT account.username, member.role FROM member JOIN account ON account.id = member.account
         WHERE member.room = ?1",
    )?;
    let members = statement.query_map([room], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut members = members.collect::<Result<Vec<_>, _>>()?;
    members.sort();
    Ok(members)
}
