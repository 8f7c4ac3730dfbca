//! Rooms: the membership log that the registry signs, and the tables that follow it.
//!
//! Every change of a room appends one signed record in the transaction that changes the tables, so that
//! log and tables never disagree. Rules of roles are checked here, where the state is.
//!
//! Invariant: a live room has exactly one owner; record n of a room has epoch n and names the hash of
//! record n-1.

use registryd_proto::{
    Access, Digest, HistoryAccess, Keypair, Member, MembershipOp, MembershipRecord, Role, RoomId,
    RoomListing, RoomName, Signed, Username,
};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    AccountId, Bumped, Profile, Rule, Store, StoreError, account, bytes32, from_sql, random, to_sql,
};

/// Members of a room: the full mesh is measured up to here.
const MEMBERS_MAX: u32 = 200;
/// Rooms of an account.
const ROOMS_MAX: u32 = 500;
/// Open invitations of a room, and of an account.
const INVITES_MAX: u32 = 1_000;
/// Records in one reply: each is below 1 KiB, so they stay well below the limit of a reply.
const LOG_PAGE_RECORDS: i64 = 400;

/// What a new room begins with.
#[derive(Debug)]
pub(crate) struct NewRoom {
    /// The first owner.
    pub owner: AccountId,
    /// Its name.
    pub name: RoomName,
    /// Who may join.
    pub access: Access,
    /// What a joiner may read.
    pub history: HistoryAccess,
    /// PHC string; empty unless access is password.
    pub password_hash: String,
}

/// What a joiner has to show.
#[derive(Debug, Clone)]
pub(crate) struct RoomKey {
    /// Who may join.
    pub access: Access,
    /// PHC string; empty unless access is password.
    pub password_hash: String,
    /// The caller is a member already.
    pub joined: bool,
}

/// A room as a member sees it.
#[derive(Debug)]
pub(crate) struct RoomState {
    /// Its id.
    pub id: RoomId,
    /// Its name.
    pub name: RoomName,
    /// The newest epoch.
    pub epoch: u64,
    /// Records after the epoch asked for: one page.
    pub log: Vec<Signed<MembershipRecord>>,
    /// The members and their roles.
    pub members: Vec<(Profile, Role)>,
}

/// A change that one member asks for.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// Leave.
    Leave,
    /// Let a user join.
    Invite(Username),
    /// Remove a member.
    Kick(Username),
    /// Change a member's role.
    SetRole(Username, Role),
    /// Delete the room.
    Delete,
}

/// A row of `room`.
pub(super) struct RoomRow {
    row: i64,
    id: RoomId,
    name: RoomName,
    access: Access,
    epoch: u64,
    head: Digest,
}

impl Store {
    /// A new room.
    ///
    /// # Errors
    /// [`Rule::RoomTaken`], [`Rule::Full`].
    pub(crate) async fn create_room(
        &self,
        new: NewRoom,
        now_ms: u64,
    ) -> Result<RoomState, StoreError> {
        let keys = self.keys.clone();
        self.write(move |db| create(db, &keys, &new, now_ms)).await
    }

    /// What a joiner has to show.
    ///
    /// # Errors
    /// [`Rule::NoRoom`].
    pub(crate) async fn room_key(
        &self,
        name: &RoomName,
        caller: AccountId,
    ) -> Result<RoomKey, StoreError> {
        let name = name.clone();
        self.read(move |db| {
            let room = by_name(db, &name)?;
            let password_hash =
                db.query_row("SELECT password_hash FROM room WHERE id = ?1", [room.row], |row| {
                    row.get(0)
                })?;
            let joined = role_of(db, &room, caller)?.is_some();
            Ok(RoomKey { access: room.access, password_hash, joined })
        })
        .await
    }

    /// Makes the caller a member; the caller has checked a password. A member already gets the same.
    ///
    /// # Errors
    /// [`Rule::NoRoom`], [`Rule::NotInvited`], [`Rule::Full`].
    pub(crate) async fn join_room(
        &self,
        name: &RoomName,
        caller: AccountId,
        now_ms: u64,
    ) -> Result<(RoomState, Bumped), StoreError> {
        let (name, keys) = (name.clone(), self.keys.clone());
        self.write(move |db| {
            let room = by_name(db, &name)?;
            let mut bumped = Bumped::new();
            if role_of(db, &room, caller)?.is_none() {
                admit(db, &room, caller)?;
                let own = account::profile(db, caller)?;
                let op = MembershipOp::Join { member: member(&own, Role::Member) };
                bumped = change(db, &keys, &room, Some(caller), op, now_ms)?;
            }
            Ok((state(db, &by_name(db, &name)?, 0)?, bumped))
        })
        .await
    }

    /// The room as its members see it.
    ///
    /// # Errors
    /// [`Rule::NoRoom`], [`Rule::NoMember`].
    pub(crate) async fn room(
        &self,
        name: &RoomName,
        caller: AccountId,
        after_epoch: u64,
    ) -> Result<RoomState, StoreError> {
        let name = name.clone();
        self.read(move |db| {
            let room = by_name(db, &name)?;
            role_of(db, &room, caller)?.ok_or(Rule::NoMember)?;
            state(db, &room, after_epoch)
        })
        .await
    }

    /// Changes a room by a member's wish. Returns who has to know, the one concerned included.
    ///
    /// # Errors
    /// [`Rule`] for every reason why not.
    pub(crate) async fn change_room(
        &self,
        name: &RoomName,
        caller: AccountId,
        wish: Change,
        now_ms: u64,
    ) -> Result<Bumped, StoreError> {
        let (name, keys) = (name.clone(), self.keys.clone());
        self.write(move |db| {
            let room = by_name(db, &name)?;
            let stranger = match wish {
                Change::Leave => Rule::NoRoom,
                _ => Rule::NoMember,
            };
            let role = role_of(db, &room, caller)?.ok_or(stranger)?;
            let by = account::profile(db, caller)?.username;
            match wish {
                Change::Leave => {
                    let op = leave(db, &room, role, by)?;
                    change(db, &keys, &room, Some(caller), op, now_ms)
                }
                Change::Invite(username) => invite(db, &room, role, &username),
                Change::Kick(username) => {
                    let (target, theirs) = member_by_name(db, &room, &username)?;
                    if role < Role::Moderator || role <= theirs {
                        return Err(Rule::RoleTooLow.into());
                    }
                    let op = MembershipOp::Kick { username, by };
                    change(db, &keys, &room, Some(target), op, now_ms)
                }
                Change::SetRole(username, new) => {
                    if role != Role::Owner {
                        return Err(Rule::RoleTooLow.into());
                    }
                    let (target, theirs) = member_by_name(db, &room, &username)?;
                    match (target == caller, theirs == new) {
                        (_, true) => Ok(Bumped::new()),
                        (true, false) => Err(Rule::OwnerGivesAway.into()),
                        (false, false) => {
                            let op = MembershipOp::SetRole { username, role: new, by };
                            change(db, &keys, &room, Some(target), op, now_ms)
                        }
                    }
                }
                Change::Delete if role == Role::Owner => {
                    change(db, &keys, &room, None, MembershipOp::Delete { by }, now_ms)
                }
                Change::Delete => Err(Rule::RoleTooLow.into()),
            }
        })
        .await
    }

    /// The rooms of an account, by name, and the names of rooms that it is invited to.
    pub(crate) async fn rooms(
        &self,
        account: AccountId,
    ) -> Result<(Vec<RoomListing>, Vec<RoomName>), StoreError> {
        self.read(move |db| {
            let mut rooms = Vec::new();
            for (room, role) in of_account(db, account)? {
                let members = count(db, "SELECT count(*) FROM member WHERE room = ?1", room.row)?;
                let RoomRow { id, name, access, epoch, .. } = room;
                rooms.push(RoomListing { id, room: name, access, role, members, epoch });
            }
            let mut statement = db.prepare_cached(
                "SELECT room.name FROM invite JOIN room ON room.id = invite.room
                 WHERE invite.account = ?1 AND room.deleted = 0 ORDER BY room.name",
            )?;
            let names = statement.query_map([to_sql(account.0)], |row| row.get::<_, String>(0))?;
            let invited = names
                .map(|name| name?.parse().map_err(|_| StoreError::Format("room.name")))
                .collect::<Result<Vec<RoomName>, StoreError>>()?;
            Ok((rooms, invited))
        })
        .await
    }
}

fn create(
    db: &Connection,
    keys: &Keypair,
    new: &NewRoom,
    now_ms: u64,
) -> Result<RoomState, StoreError> {
    room_for_one_more(db, new.owner)?;
    let id = RoomId(Digest(random()?));
    let inserted = db.execute(
        "INSERT INTO room (room_id, name, access, history, password_hash, epoch, head, deleted)
         VALUES (?1, ?2, ?3, ?4, ?5, 0, zeroblob(32), 0)
         ON CONFLICT (name) WHERE deleted = 0 DO NOTHING",
        params![
            id.0.0,
            new.name.as_str(),
            word(&new.access)?,
            word(&new.history)?,
            new.password_hash
        ],
    )?;
    if inserted == 0 {
        return Err(Rule::RoomTaken.into());
    }
    let owner = account::profile(db, new.owner)?;
    let op = MembershipOp::Create {
        owner: member(&owner, Role::Owner),
        access: new.access,
        history: new.history,
    };
    let room = by_name(db, &new.name)?;
    change(db, keys, &room, Some(new.owner), op, now_ms)?;
    state(db, &by_name(db, &new.name)?, 0)
}

/// Checks the right to join of one who is no member; a password is checked before.
fn admit(db: &Connection, room: &RoomRow, caller: AccountId) -> Result<(), StoreError> {
    let invited = db.execute(
        "DELETE FROM invite WHERE room = ?1 AND account = ?2",
        params![room.row, to_sql(caller.0)],
    )?;
    if room.access == Access::Invite && invited == 0 {
        return Err(Rule::NotInvited.into());
    }
    if count(db, "SELECT count(*) FROM member WHERE room = ?1", room.row)? >= MEMBERS_MAX {
        return Err(Rule::Full.into());
    }
    room_for_one_more(db, caller)
}

fn room_for_one_more(db: &Connection, account: AccountId) -> Result<(), StoreError> {
    let held = count(db, "SELECT count(*) FROM member WHERE account = ?1", to_sql(account.0))?;
    if held < ROOMS_MAX { Ok(()) } else { Err(Rule::Full.into()) }
}

fn leave(
    db: &Connection,
    room: &RoomRow,
    role: Role,
    username: Username,
) -> Result<MembershipOp, StoreError> {
    let members = count(db, "SELECT count(*) FROM member WHERE room = ?1", room.row)?;
    match (role, members) {
        (Role::Owner, 1) => Ok(MembershipOp::Delete { by: username }),
        (Role::Owner, _) => Err(Rule::OwnerStays.into()),
        (Role::Member | Role::Moderator, _) => Ok(MembershipOp::Leave { username }),
    }
}

fn invite(
    db: &Connection,
    room: &RoomRow,
    role: Role,
    username: &Username,
) -> Result<Bumped, StoreError> {
    if role < Role::Moderator {
        return Err(Rule::RoleTooLow.into());
    }
    if room.access != Access::Invite {
        return Err(Rule::NoInvitationNeeded.into());
    }
    let guest = account::by_name(db, username)?.account;
    if role_of(db, room, guest)?.is_some() {
        return Ok(Bumped::new());
    }
    let here = count(db, "SELECT count(*) FROM invite WHERE room = ?1", room.row)?;
    let theirs = count(db, "SELECT count(*) FROM invite WHERE account = ?1", to_sql(guest.0))?;
    if here.max(theirs) >= INVITES_MAX {
        return Err(Rule::Full.into());
    }
    db.execute(
        "INSERT INTO invite (room, account) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        params![room.row, to_sql(guest.0)],
    )?;
    account::bump(db, &[guest])
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

fn by_name(db: &Connection, name: &RoomName) -> Result<RoomRow, StoreError> {
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

fn role_of(
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

fn member_by_name(
    db: &Connection,
    room: &RoomRow,
    username: &Username,
) -> Result<(AccountId, Role), StoreError> {
    let account = account::by_name(db, username)?.account;
    let role = role_of(db, room, account)?.ok_or(Rule::NoUser)?;
    Ok((account, role))
}

fn member_ids(db: &Connection, room: &RoomRow) -> Result<Vec<AccountId>, StoreError> {
    let mut statement =
        db.prepare_cached("SELECT account FROM member WHERE room = ?1 ORDER BY account")?;
    let ids = statement.query_map([room.row], |row| row.get::<_, i64>(0))?;
    ids.map(|id| Ok(AccountId(from_sql(id?, "member.account")?))).collect()
}

fn state(db: &Connection, room: &RoomRow, after_epoch: u64) -> Result<RoomState, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT signed FROM record WHERE room = ?1 AND epoch > ?2 ORDER BY epoch LIMIT ?3",
    )?;
    let records = statement
        .query_map(params![room.row, to_sql(after_epoch), LOG_PAGE_RECORDS], |row| {
            row.get::<_, String>(0)
        })?;
    let log = records
        .map(|signed| account::from_json(&signed?, "record.signed"))
        .collect::<Result<Vec<_>, StoreError>>()?;
    let mut members = Vec::new();
    for id in member_ids(db, room)? {
        let role = role_of(db, room, id)?.ok_or(StoreError::Format("member.role"))?;
        members.push((account::profile(db, id)?, role));
    }
    Ok(RoomState { id: room.id, name: room.name.clone(), epoch: room.epoch, log, members })
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

fn count(db: &Connection, query: &'static str, of: i64) -> Result<u32, StoreError> {
    Ok(db.prepare_cached(query)?.query_row([of], |row| row.get(0))?)
}

/// The word of a plain enum, as in JSON without the quotes.
fn word<T: Serialize>(value: &T) -> Result<String, StoreError> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => Ok(word),
        _ => Err(StoreError::Format("word")),
    }
}

fn from_word<T: DeserializeOwned>(word: String, place: &'static str) -> Result<T, StoreError> {
    serde_json::from_value(serde_json::Value::String(word)).map_err(|_| StoreError::Format(place))
}
