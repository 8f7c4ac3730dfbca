//! The membership log and the tables that follow it.
//!
//! [`change`] is the only way to change a room: it appends one signed record in the transaction that
//! changes the tables, so that log and tables never disagree.
//!
//! Invariant: record n of a room has epoch n and names the hash of record n-1.

use registryd_proto::{
    Access, Digest, Keypair, Member, MembershipOp, MembershipRecord, Role, RoomId, RoomName, Signed,
};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::{Serialize, de::DeserializeOwned};

use super::{AccountId, Bumped, Profile, Rule, StoreError, account, bytes32, from_sql, to_sql};

/// A row of `room`.
pub(super) struct RoomRow {
    pub(super) row: i64,
    pub(super) id: RoomId,
    pub(super) name: RoomName,
    pub(super) access: Access,
    pub(super) epoch: u64,
    head: Digest,
}

/// Appends a record, changes the tables by it, and raises the versions of all who were or became
/// members. `subject` is the account that the operation is about, where it is about one.
pub(super) fn change(
    db: &Connection,
    keys: &Keypair,
    room: &RoomRow,
    subject: Option<AccountId>,
    op: MembershipOp,
    now_ms: u64,
) -> Result<Bumped, StoreError> {
    let mut concerned = member_ids(db, room)?;
    if let Some(subject) = subject {
        apply(db, room, subject, &op)?;
        if !concerned.contains(&subject) {
            concerned.push(subject);
        }
    }
    if matches!(op, MembershipOp::Delete { .. }) {
        db.execute("UPDATE room SET deleted = 1, password_hash = '' WHERE id = ?1", [room.row])?;
        db.execute("DELETE FROM member WHERE room = ?1", [room.row])?;
        db.execute("DELETE FROM invite WHERE room = ?1", [room.row])?;
    }
    append(db, keys, room, op, now_ms)?;
    account::bump(db, &concerned)
}

fn apply(
    db: &Connection,
    room: &RoomRow,
    subject: AccountId,
    op: &MembershipOp,
) -> Result<(), StoreError> {
    let id = to_sql(subject.0);
    match op {
        MembershipOp::Create { .. } => set_role(db, room, id, Role::Owner),
        MembershipOp::Join { .. } => set_role(db, room, id, Role::Member),
        MembershipOp::SetRole { role, .. } => {
            if *role == Role::Owner {
                db.execute(
                    "UPDATE member SET role = ?2 WHERE room = ?1 AND role = ?3",
                    params![room.row, word(&Role::Moderator)?, word(&Role::Owner)?],
                )?;
            }
            set_role(db, room, id, *role)
        }
        MembershipOp::Leave { .. } | MembershipOp::Kick { .. } => {
            db.execute(
                "DELETE FROM member WHERE room = ?1 AND account = ?2",
                params![room.row, id],
            )?;
            Ok(())
        }
        MembershipOp::Rebind { .. } | MembershipOp::Delete { .. } => Ok(()),
    }
}

fn set_role(db: &Connection, room: &RoomRow, account: i64, role: Role) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO member (room, account, role) VALUES (?1, ?2, ?3)
         ON CONFLICT (room, account) DO UPDATE SET role = excluded.role",
        params![room.row, account, word(&role)?],
    )?;
    Ok(())
}

fn append(
    db: &Connection,
    keys: &Keypair,
    room: &RoomRow,
    op: MembershipOp,
    now_ms: u64,
) -> Result<(), StoreError> {
    let record = MembershipRecord {
        room: room.id,
        name: room.name.clone(),
        epoch: room.epoch + 1,
        previous: (room.epoch > 0).then_some(room.head),
        time_ms: now_ms,
        op,
    };
    let signed = Signed::seal(&record, keys);
    db.execute(
        "INSERT INTO record (room, epoch, signed) VALUES (?1, ?2, ?3)",
        params![room.row, to_sql(record.epoch), account::to_json(&signed, "record.signed")?],
    )?;
    db.execute(
        "UPDATE room SET epoch = ?2, head = ?3 WHERE id = ?1",
        params![room.row, to_sql(record.epoch), signed.hash()],
    )?;
    Ok(())
}

const ROOM_COLUMNS: usize = 6;

fn room_row(row: &Row<'_>) -> Result<RoomRow, StoreError> {
    let (id, head): (Vec<u8>, Vec<u8>) = (row.get(1)?, row.get(5)?);
    let (name, access): (String, String) = (row.get(2)?, row.get(3)?);
    Ok(RoomRow {
        row: row.get(0)?,
        id: RoomId(Digest(bytes32(&id, "room.room_id")?)),
        name: name.parse().map_err(|_| StoreError::Format("room.name"))?,
        access: from_word(access, "room.access")?,
        epoch: from_sql(row.get(4)?, "room.epoch")?,
        head: Digest(bytes32(&head, "room.head")?),
    })
}

pub(super) fn by_name(db: &Connection, name: &RoomName) -> Result<RoomRow, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT id, room_id, name, access, epoch, head FROM room WHERE name = ?1 AND deleted = 0",
    )?;
    let mut rows = statement.query([name.as_str()])?;
    let row = rows.next()?.ok_or(StoreError::Rule(Rule::NoRoom))?;
    room_row(row)
}

/// The rooms of an account with its roles, by name.
pub(super) fn of_account(
    db: &Connection,
    account: AccountId,
) -> Result<Vec<(RoomRow, Role)>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT room.id, room_id, name, access, epoch, head, member.role
         FROM member JOIN room ON room.id = member.room
         WHERE member.account = ?1 ORDER BY name",
    )?;
    let mut rows = statement.query([to_sql(account.0)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push((room_row(row)?, from_word(row.get(ROOM_COLUMNS)?, "member.role")?));
    }
    Ok(found)
}

pub(super) fn role_of(
    db: &Connection,
    room: &RoomRow,
    account: AccountId,
) -> Result<Option<Role>, StoreError> {
    let role: Option<String> = db
        .prepare_cached("SELECT role FROM member WHERE room = ?1 AND account = ?2")?
        .query_row(params![room.row, to_sql(account.0)], |row| row.get(0))
        .optional()?;
    role.map(|role| from_word(role, "member.role")).transpose()
}

pub(super) fn member_ids(db: &Connection, room: &RoomRow) -> Result<Vec<AccountId>, StoreError> {
    let mut statement =
        db.prepare_cached("SELECT account FROM member WHERE room = ?1 ORDER BY account")?;
    let ids = statement.query_map([room.row], |row| row.get::<_, i64>(0))?;
    ids.map(|id| Ok(AccountId(from_sql(id?, "member.account")?))).collect()
}

/// A member as the log names it.
pub(crate) fn member(profile: &Profile, role: Role) -> Member {
    Member {
        username: profile.username.clone(),
        peer_key: profile.binding.peer_key,
        room_key: profile.binding.room_key,
        role,
    }
}

/// The word of a plain enum, as in JSON without the quotes.
pub(super) fn word<T: Serialize>(value: &T) -> Result<String, StoreError> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => Ok(word),
        _ => Err(StoreError::Format("word")),
    }
}

pub(super) fn from_word<T: DeserializeOwned>(
    word: String,
    place: &'static str,
) -> Result<T, StoreError> {
    serde_json::from_value(serde_json::Value::String(word)).map_err(|_| StoreError::Format(place))
}
