//! What the operator sees and does: any account, session or room, by name and in pages.
//!
//! Unlike the rest of the store it knows accounts that nobody else does: disabled, deleted, and those that
//! the operator made and no device has logged in to yet.
//!
//! Invariant: a disabled account has no session, and gets none.

use registryd_proto::{
    Access, Endpoints, HistoryAccess, MembershipOp, PublicKey, Role, RoomId, RoomName, Username,
};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{
    AccountId, Bumped, Rule, Store, StoreError,
    account::{self, from_json, to_json},
    from_sql,
    membership::{self, from_word},
    to_sql,
};

/// Where an account stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AccountState {
    /// In use.
    Active,
    /// The operator made it, no device has logged in yet.
    New,
    /// The operator lets nobody in.
    Disabled,
    /// Only the name is kept.
    Deleted,
}

/// An account in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AccountRow {
    /// Its number.
    pub account: AccountId,
    /// Its name.
    pub username: Username,
    /// Where it stands.
    pub state: AccountState,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// When its session was opened, in milliseconds since 1970, if it has one.
    pub session_ms: Option<u64>,
    /// The invitation that made it.
    pub invited_by: Option<u64>,
    /// The key of its device, if one has logged in.
    pub key: Option<PublicKey>,
}

/// A session in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionRow {
    /// Whose.
    pub account: AccountId,
    /// The account's name.
    pub username: Username,
    /// Milliseconds since 1970.
    pub opened_ms: u64,
    /// Its epoch.
    pub epoch: u64,
}

/// A room in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoomSummary {
    /// Its name.
    pub name: RoomName,
    /// Who owns it.
    pub owner: Username,
    /// Who may join.
    pub access: Access,
    /// How many members it has.
    pub members: u32,
    /// The newest epoch of its log.
    pub epoch: u64,
}

/// A room with its members.
#[derive(Debug, Clone)]
pub(crate) struct RoomDetails {
    /// Its id.
    pub id: RoomId,
    /// As in a list.
    pub summary: RoomSummary,
    /// What a joiner may read.
    pub history: HistoryAccess,
    /// By name.
    pub members: Vec<(AccountId, Username, Role)>,
}

/// What became of an account's session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Whose.
    pub account: AccountId,
    /// The epoch up to which it is over.
    pub epoch: u64,
    /// Who is to be nudged: its own device, that finds itself logged out.
    pub bumped: Bumped,
    /// There was one.
    pub had_session: bool,
}

impl Store {
    /// A new account without a device: the first login with the password brings one.
    ///
    /// # Errors
    /// [`Rule::UsernameTaken`].
    pub(crate) async fn add_user(
        &self,
        username: &Username,
        password_hash: String,
        now_ms: u64,
    ) -> Result<AccountRow, StoreError> {
        let username = username.clone();
        self.write(move |db| {
            let inserted = db.execute(
                "INSERT INTO account
                     (username, password_hash, binding, endpoints, serial, epoch, version,
                      created_ms, deleted)
                 VALUES (?1, ?2, '', ?3, 0, 0, 1, ?4, 0)
                 ON CONFLICT (username) DO NOTHING",
                params![
                    username.as_str(),
                    password_hash,
                    to_json(&Endpoints::default(), "account.endpoints")?,
                    to_sql(now_ms),
                ],
            )?;
            if inserted == 0 {
                return Err(Rule::UsernameTaken.into());
            }
            by_name(db, &username)
        })
        .await
    }

    /// Any account by its exact name, also one that is deleted.
    ///
    /// # Errors
    /// [`Rule::NoUser`].
    pub(crate) async fn account_row(&self, username: &Username) -> Result<AccountRow, StoreError> {
        let username = username.clone();
        self.read(move |db| by_name(db, &username)).await
    }

    /// All accounts with names above `after`, by name, so many at most.
    pub(crate) async fn account_rows(
        &self,
        after: Option<&Username>,
        limit: u32,
    ) -> Result<Vec<AccountRow>, StoreError> {
        // No name is empty.
        let after = after.map_or_else(String::new, |name| name.as_str().to_owned());
        self.read(move |db| {
            let mut statement = db.prepare_cached(
                "SELECT account.id, username, deleted, disabled, binding, created_ms, opened_ms,
                        invited_by
                 FROM account LEFT JOIN session ON session.account = account.id
                 WHERE username > ?1 ORDER BY username LIMIT ?2",
            )?;
            let rows = statement.query_map(params![after, limit], account_row)?;
            rows.map(|row| row?).collect()
        })
        .await
    }

    /// Lets nobody in to an account from now on, and ends its session.
    ///
    /// # Errors
    /// [`Rule::NoUser`].
    pub(crate) async fn disable_user(&self, username: &Username) -> Result<Ended, StoreError> {
        let username = username.clone();
        self.write(move |db| {
            let account = live(db, &username)?.account;
            db.execute("UPDATE account SET disabled = 1 WHERE id = ?1", [to_sql(account.0)])?;
            end_session(db, account)
        })
        .await
    }

    /// Lets the owner of an account in again, by its password.
    ///
    /// # Errors
    /// [`Rule::NoUser`].
    pub(crate) async fn enable_user(&self, username: &Username) -> Result<(), StoreError> {
        let username = username.clone();
        self.write(move |db| {
            let id = to_sql(live(db, &username)?.account.0);
            db.execute("UPDATE account SET disabled = 0 WHERE id = ?1", [id])?;
            Ok(())
        })
        .await
    }

    /// Deletes an account as its owner can.
    ///
    /// # Errors
    /// [`Rule::NoUser`].
    pub(crate) async fn remove_user(
        &self,
        username: &Username,
        now_ms: u64,
    ) -> Result<(Ended, Bumped), StoreError> {
        let (username, keys) = (username.clone(), self.keys.clone());
        self.write(move |db| {
            let account = live(db, &username)?.account;
            let ended = end_session(db, account)?;
            let others = account::delete(db, &keys, account, &username, now_ms)?;
            Ok((ended, others))
        })
        .await
    }

    /// Sessions of accounts that were made after `after`, in that order, so many at most.
    ///
    /// # Errors
    /// [`Rule::NoUser`] if nobody has or had the name `after`.
    pub(crate) async fn session_rows(
        &self,
        after: Option<&Username>,
        limit: u32,
    ) -> Result<Vec<SessionRow>, StoreError> {
        let after = after.cloned();
        self.read(move |db| {
            let after = match after {
                Some(name) => by_name(db, &name)?.account.0,
                None => 0,
            };
            let mut statement = db.prepare_cached(
                "SELECT account.id, username, opened_ms, epoch
                 FROM session JOIN account ON account.id = session.account
                 WHERE session.account > ?1 ORDER BY session.account LIMIT ?2",
            )?;
            let mut rows = statement.query(params![to_sql(after), limit])?;
            let mut sessions = Vec::new();
            while let Some(row) = rows.next()? {
                sessions.push(SessionRow {
                    account: AccountId(from_sql(row.get(0)?, "account.id")?),
                    username: name(row.get(1)?)?,
                    opened_ms: from_sql(row.get(2)?, "session.opened_ms")?,
                    epoch: from_sql(row.get(3)?, "account.epoch")?,
                });
            }
            Ok(sessions)
        })
        .await
    }

    /// Ends the session of an account, as its logout does.
    ///
    /// # Errors
    /// [`Rule::NoUser`], [`Rule::NoSession`].
    pub(crate) async fn kick(&self, username: &Username) -> Result<Ended, StoreError> {
        let username = username.clone();
        self.write(move |db| {
            let ended = end_session(db, live(db, &username)?.account)?;
            if ended.had_session { Ok(ended) } else { Err(Rule::NoSession.into()) }
        })
        .await
    }

    /// Rooms with names above `after`, by name, so many at most.
    pub(crate) async fn room_summaries(
        &self,
        after: Option<&RoomName>,
        limit: u32,
    ) -> Result<Vec<RoomSummary>, StoreError> {
        let after = after.map_or_else(String::new, |name| name.as_str().to_owned());
        self.read(move |db| {
            let mut statement = db.prepare_cached(
                "SELECT name, (
                     SELECT username FROM member JOIN account ON account.id = member.account
                     WHERE member.room = room.id AND role = 'owner'
                 ), access, (SELECT count(*) FROM member WHERE member.room = room.id), epoch
                 FROM room WHERE deleted = 0 AND name > ?1 ORDER BY name LIMIT ?2",
            )?;
            let mut rows = statement.query(params![after, limit])?;
            let mut rooms = Vec::new();
            while let Some(row) = rows.next()? {
                let room: String = row.get(0)?;
                rooms.push(RoomSummary {
                    name: room.parse().map_err(|_| StoreError::Format("room.name"))?,
                    owner: name(row.get(1)?)?,
                    access: from_word(row.get(2)?, "room.access")?,
                    members: row.get(3)?,
                    epoch: from_sql(row.get(4)?, "room.epoch")?,
                });
            }
            Ok(rooms)
        })
        .await
    }

    /// A room with its members.
    ///
    /// # Errors
    /// [`Rule::NoRoom`].
    pub(crate) async fn room_details(&self, room: &RoomName) -> Result<RoomDetails, StoreError> {
        let room = room.clone();
        self.read(move |db| details(db, &room)).await
    }

    /// Deletes a room in its owner's place: members verify a delete by somebody, and the log has no other
    /// actor than users.
    ///
    /// # Errors
    /// [`Rule::NoRoom`].
    pub(crate) async fn remove_room(
        &self,
        room: &RoomName,
        now_ms: u64,
    ) -> Result<(RoomDetails, Bumped), StoreError> {
        let (name, keys) = (room.clone(), self.keys.clone());
        self.write(move |db| {
            let was = details(db, &name)?;
            let room = membership::by_name(db, &name)?;
            let op = MembershipOp::Delete { by: was.summary.owner.clone() };
            let bumped = membership::change(db, &keys, &room, None, op, now_ms)?;
            Ok((was, bumped))
        })
        .await
    }
}

/// Nobody gets in to an account that is disabled.
pub(super) fn refuse_disabled(db: &Connection, account: AccountId) -> Result<(), StoreError> {
    let disabled: Option<bool> = db
        .prepare_cached("SELECT disabled FROM account WHERE id = ?1")?
        .query_row([to_sql(account.0)], |row| row.get(0))
        .optional()?;
    if disabled == Some(true) { Err(Rule::Disabled.into()) } else { Ok(()) }
}

fn end_session(db: &Connection, account: AccountId) -> Result<Ended, StoreError> {
    let id = to_sql(account.0);
    let epoch: i64 =
        db.query_row("SELECT epoch FROM account WHERE id = ?1", [id], |row| row.get(0))?;
    let ended = db.execute("DELETE FROM session WHERE account = ?1", [id])?;
    Ok(Ended {
        account,
        epoch: from_sql(epoch, "account.epoch")?,
        // Its device asks what is new, and is told that it has no session.
        bumped: account::bump(db, &[account])?,
        had_session: ended > 0,
    })
}

/// An account that is not deleted.
fn live(db: &Connection, username: &Username) -> Result<AccountRow, StoreError> {
    let row = by_name(db, username)?;
    if row.state == AccountState::Deleted { Err(Rule::NoUser.into()) } else { Ok(row) }
}

fn by_name(db: &Connection, username: &Username) -> Result<AccountRow, StoreError> {
    db.prepare_cached(
        "SELECT account.id, username, deleted, disabled, binding, created_ms, opened_ms, invited_by
         FROM account LEFT JOIN session ON session.account = account.id WHERE username = ?1",
    )?
    .query_row([username.as_str()], account_row)
    .optional()?
    .ok_or(StoreError::Rule(Rule::NoUser))?
}

fn account_row(row: &Row<'_>) -> Result<Result<AccountRow, StoreError>, rusqlite::Error> {
    let (id, username): (i64, String) = (row.get(0)?, row.get(1)?);
    let (deleted, disabled): (bool, bool) = (row.get(2)?, row.get(3)?);
    let (binding, created): (String, i64) = (row.get(4)?, row.get(5)?);
    let (opened, invited_by): (Option<i64>, i64) = (row.get(6)?, row.get(7)?);
    Ok((|| {
        let state = match (deleted, disabled, binding.is_empty()) {
            (true, _, _) => AccountState::Deleted,
            (false, true, _) => AccountState::Disabled,
            (false, false, true) => AccountState::New,
            (false, false, false) => AccountState::Active,
        };
        let key = (!binding.is_empty())
            .then(|| from_json::<registryd_proto::KeyBinding>(&binding, "account.binding"))
            .transpose()?
            .map(|binding| binding.peer_key);
        Ok(AccountRow {
            account: AccountId(from_sql(id, "account.id")?),
            username: name(username)?,
            state,
            created_ms: from_sql(created, "account.created_ms")?,
            session_ms: opened.map(|ms| from_sql(ms, "session.opened_ms")).transpose()?,
            invited_by: Some(from_sql(invited_by, "account.invited_by")?).filter(|id| *id > 0),
            key,
        })
    })())
}

fn details(db: &Connection, name: &RoomName) -> Result<RoomDetails, StoreError> {
    let room = membership::by_name(db, name)?;
    let history: String =
        db.query_row("SELECT history FROM room WHERE id = ?1", [room.row], |row| row.get(0))?;
    let mut statement = db.prepare_cached(
        "SELECT account.id, username, role FROM member JOIN account ON account.id = member.account
         WHERE member.room = ?1 ORDER BY username",
    )?;
    let mut rows = statement.query([room.row])?;
    let mut members = Vec::new();
    while let Some(row) = rows.next()? {
        let account = AccountId(from_sql(row.get(0)?, "account.id")?);
        let role: Role = from_word(row.get(2)?, "member.role")?;
        members.push((account, self::name(row.get(1)?)?, role));
    }
    let owner = members.iter().find(|(_, _, role)| *role == Role::Owner);
    let summary = RoomSummary {
        owner: owner.ok_or(StoreError::Format("member.role"))?.1.clone(),
        name: room.name,
        access: room.access,
        members: u32::try_from(members.len()).unwrap_or(u32::MAX),
        epoch: room.epoch,
    };
    Ok(RoomDetails { id: room.id, summary, history: from_word(history, "room.history")?, members })
}

fn name(text: String) -> Result<Username, StoreError> {
    text.parse().map_err(|_| StoreError::Format("account.username"))
}
