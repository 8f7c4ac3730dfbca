//! Rooms: who may join, leave, and moderate. Rules of roles are checked here, where the state is.
//!
//! Invariant: a live room has exactly one owner.

use registryd_proto::{
    Access, Digest, HistoryAccess, Keypair, MembershipOp, MembershipRecord, Role, RoomId,
    RoomListing, RoomName, Signed, Username,
};
use rusqlite::{Connection, params};

use super::{
    AccountId, Bumped, Profile, Rule, Store, StoreError, account, draw, from_sql,
    membership::{RoomRow, by_name, change, member, member_ids, of_account, role_of, word},
    to_sql,
};
use crate::random::Random;

/// Members of a room: the full mesh is measured up to here.
const MEMBERS_MAX: u32 = 200;
/// Rooms of an account.
const ROOMS_MAX: u32 = 500;
/// Open invitations of a room, and of a guest: sixty-three owners at the least have to fill the latter.
const INVITES_MAX: u32 = 1_000;
/// Open invitations of one guest to all rooms of one owner, so that no account takes all places of a guest.
const INVITES_PER_OWNER_MAX: u32 = 16;
/// Records in one reply: each is below 1 KiB, so they stay well below the limit of a reply.
const LOG_PAGE_RECORDS: i64 = 400;

/// What a new room begins with.
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
pub(crate) struct RoomKey {
    /// Of the room that it opens.
    pub id: RoomId,
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
    /// Leave. Of one who is no member but invited: decline.
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

impl Store {
    /// A new room.
    ///
    /// # Errors
    /// [`Rule::RoomTaken`], [`Rule::Full`].
    pub(crate) async fn create_room(
        &self,
        new: NewRoom,
        now_ms: u64,
    ) -> Result<(RoomState, Bumped), StoreError> {
        let (keys, random) = (self.keys.clone(), self.random.clone());
        self.write(move |db| create(db, &keys, &random, &new, now_ms)).await
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
            Ok(RoomKey { id: room.id, access: room.access, password_hash, joined })
        })
        .await
    }

    /// Makes the caller a member; the caller has checked a password. A member already gets the same.
    /// `id` is the room that was checked: its name may stand for another one since.
    ///
    /// # Errors
    /// [`Rule::NoRoom`], [`Rule::NotInvited`], [`Rule::Full`].
    pub(crate) async fn join_room(
        &self,
        name: &RoomName,
        id: RoomId,
        caller: AccountId,
        now_ms: u64,
    ) -> Result<(RoomState, Bumped), StoreError> {
        let (name, keys) = (name.clone(), self.keys.clone());
        self.write(move |db| {
            let room = by_name(db, &name)?;
            if room.id != id {
                return Err(Rule::NoRoom.into());
            }
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
            let Some(role) = role_of(db, &room, caller)? else {
                return match wish {
                    Change::Leave => decline(db, &room, caller),
                    _ => Err(Rule::NoMember.into()),
                };
            };
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
                            let mut bumped = change(db, &keys, &room, Some(target), op, now_ms)?;
                            if new == Role::Owner {
                                bumped.extend(take_over_invitations(db, &room, target)?);
                            }
                            Ok(bumped)
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
    random: &Random,
    new: &NewRoom,
    now_ms: u64,
) -> Result<(RoomState, Bumped), StoreError> {
    room_for_one_more(db, new.owner)?;
    let id = RoomId(Digest(draw(random)?));
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
    let bumped = change(db, keys, &room, Some(new.owner), op, now_ms)?;
    Ok((state(db, &by_name(db, &new.name)?, 0)?, bumped))
}

/// Checks the right to join of one who is no member; a password is checked before.
fn admit(db: &Connection, room: &RoomRow, caller: AccountId) -> Result<(), StoreError> {
    let invited = uninvite(db, room, caller)?;
    if room.access == Access::Invite && !invited {
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
    let inserted = db.execute(
        "INSERT INTO invite (room, account) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        params![room.row, to_sql(guest.0)],
    )?;
    if inserted == 0 {
        return Ok(Bumped::new());
    }
    let here = count(db, "SELECT count(*) FROM invite WHERE room = ?1", room.row)?;
    let theirs = count(db, "SELECT count(*) FROM invite WHERE account = ?1", to_sql(guest.0))?;
    if here.max(theirs) > INVITES_MAX || of_one_owner(db, room, guest)? > INVITES_PER_OWNER_MAX {
        return Err(Rule::Full.into());
    }
    account::bump(db, &[guest])
}

/// A guest's open invitations to the rooms of this room's owner.
fn of_one_owner(db: &Connection, room: &RoomRow, guest: AccountId) -> Result<u32, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT count(*) FROM invite WHERE account = ?1 AND room IN (
             SELECT theirs.room FROM member AS here
             JOIN member AS theirs ON theirs.account = here.account AND theirs.role = here.role
             WHERE here.room = ?2 AND here.role = ?3)",
    )?;
    let found = params![to_sql(guest.0), room.row, word(&Role::Owner)?];
    Ok(statement.query_row(found, |row| row.get(0))?)
}

/// A room is its new owner's: where a guest has too many invitations of that one by it, the one to this room
/// ends. Else two accounts that pass rooms on would fill all places of a guest.
fn take_over_invitations(
    db: &Connection,
    room: &RoomRow,
    owner: AccountId,
) -> Result<Bumped, StoreError> {
    // By way of the owner's rooms: a guest may have many more invitations than they have.
    let mut statement = db.prepare_cached(
        "SELECT invite.account FROM member CROSS JOIN invite ON invite.room = member.room
         WHERE member.account = ?1 AND member.role = ?2
           AND EXISTS (SELECT 1 FROM invite AS here
                       WHERE here.room = ?3 AND here.account = invite.account)
         GROUP BY invite.account HAVING count(*) > ?4",
    )?;
    let found = params![to_sql(owner.0), word(&Role::Owner)?, room.row, INVITES_PER_OWNER_MAX];
    let over = statement
        .query_map(found, |row| row.get::<_, i64>(0))?
        .map(|id| Ok(AccountId(from_sql(id?, "invite.account")?)))
        .collect::<Result<Vec<_>, StoreError>>()?;
    for guest in &over {
        uninvite(db, room, *guest)?;
    }
    account::bump(db, &over)
}

/// Takes back what invites an account. `false`: nothing did.
fn uninvite(db: &Connection, room: &RoomRow, guest: AccountId) -> Result<bool, StoreError> {
    let deleted = db.execute(
        "DELETE FROM invite WHERE room = ?1 AND account = ?2",
        params![room.row, to_sql(guest.0)],
    )?;
    Ok(deleted > 0)
}

/// One who is no member does not want to be one. Nobody is told, and whoever is not invited learns nothing.
fn decline(db: &Connection, room: &RoomRow, guest: AccountId) -> Result<Bumped, StoreError> {
    if !uninvite(db, room, guest)? {
        return Err(Rule::NoRoom.into());
    }
    account::bump(db, &[guest])
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

fn count(db: &Connection, query: &'static str, of: i64) -> Result<u32, StoreError> {
    Ok(db.prepare_cached(query)?.query_row([of], |row| row.get(0))?)
}
