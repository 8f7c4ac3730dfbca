//! Accounts: who exists, with which keys, and at which version.

use registryd_proto::{
    Card, Endpoints, KeyBinding, Keypair, MembershipOp, PublicKey, Role, Signed, Username,
};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{
    AccountId, Bumped, Rule, Store, StoreError, card, from_sql,
    invite::{self, CodeHash},
    membership, to_sql,
};

/// Keys of an account, the current one among them. Those that were replaced are kept to be told so; one that
/// so many others came after is a stranger's again.
const KEYS_MAX: u32 = 32;

/// What a new account begins with.
#[derive(Debug, Clone)]
pub(crate) struct NewAccount {
    /// The name wanted.
    pub username: Username,
    /// PHC string.
    pub password_hash: String,
    /// The keys.
    pub binding: KeyBinding,
    /// The code of an invitation, of which a use is taken; `None`: it needs none.
    pub invite: Option<CodeHash>,
}

/// What a password is checked against.
pub(crate) struct Credentials {
    /// Whose.
    pub account: AccountId,
    /// PHC string.
    pub password_hash: String,
    /// The key that asks is the current one of the account.
    pub own_key: bool,
}

/// What a key is to the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The current key of an account with a session.
    Session(AccountId),
    /// The current key of an account without one.
    LoggedOut,
    /// The key of a device that another one replaced.
    Superseded,
    /// Not enrolled, or its account was deleted.
    Unknown,
}

/// What is told of an account.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    /// Its number.
    pub account: AccountId,
    /// Its name.
    pub username: Username,
    /// Its keys.
    pub binding: KeyBinding,
    /// Of the card.
    pub serial: u64,
    /// Of the session.
    pub epoch: u64,
    /// What it should have synced.
    pub version: u64,
    /// Where its listeners were.
    pub endpoints: Endpoints,
}

impl Profile {
    fn from_row(row: &Row<'_>) -> Result<Result<Profile, StoreError>, rusqlite::Error> {
        let (id, name): (i64, String) = (row.get(0)?, row.get(1)?);
        let (binding, endpoints): (String, String) = (row.get(2)?, row.get(3)?);
        let numbers: [i64; 3] = [row.get(4)?, row.get(5)?, row.get(6)?];
        Ok((|| {
            let [serial, epoch, version] = numbers;
            Ok(Profile {
                account: AccountId(from_sql(id, "account.id")?),
                username: name.parse().map_err(|_| StoreError::Format("account.username"))?,
                binding: from_json(&binding, "account.binding")?,
                endpoints: from_json(&endpoints, "account.endpoints")?,
                serial: from_sql(serial, "account.serial")?,
                epoch: from_sql(epoch, "account.epoch")?,
                version: from_sql(version, "account.version")?,
            })
        })())
    }
}

pub(super) fn to_json<T: serde::Serialize>(
    value: &T,
    place: &'static str,
) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|_| StoreError::Format(place))
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(
    text: &str,
    place: &'static str,
) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::Format(place))
}

impl Store {
    /// A new account without a session. Returns it with its first card.
    ///
    /// # Errors
    /// [`Rule::UsernameTaken`], [`Rule::KeyTaken`], [`Rule::InviteInvalid`].
    pub(crate) async fn create_account(
        &self,
        new: NewAccount,
        now_ms: u64,
    ) -> Result<(Profile, Signed<Card>), StoreError> {
        let keys = self.keys.clone();
        self.write(move |db| create(db, &keys, &new, now_ms)).await
    }

    /// What the password of a name is checked against, for one who asks with `key`; `None` for a name
    /// that nobody has or had.
    pub(crate) async fn credentials(
        &self,
        username: &Username,
        key: PublicKey,
    ) -> Result<Option<Credentials>, StoreError> {
        let username = username.clone();
        self.read(move |db| {
            let row: Option<(i64, String, bool)> = db
                .prepare_cached(
                    "SELECT id, password_hash, EXISTS (
                         SELECT 1 FROM peer_key
                         WHERE key = ?2 AND peer_key.account = account.id AND current = 1
                     )
                     FROM account WHERE username = ?1 AND deleted = 0",
                )?
                .query_row(params![username.as_str(), key.as_bytes()], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                })
                .optional()?;
            row.map(|(id, password_hash, own_key)| {
                let account = AccountId(from_sql(id, "account.id")?);
                Ok(Credentials { account, password_hash, own_key })
            })
            .transpose()
        })
        .await
    }

    /// Who the key of a connection is.
    pub(crate) async fn standing(&self, key: &PublicKey) -> Result<Standing, StoreError> {
        let key = *key;
        self.read(move |db| standing(db, &key)).await
    }

    /// An account by its number.
    ///
    /// # Errors
    /// [`Rule::NoUser`].
    pub(crate) async fn profile(&self, account: AccountId) -> Result<Profile, StoreError> {
        self.read(move |db| profile(db, account)).await
    }

    /// Replaces the password.
    pub(crate) async fn set_password(
        &self,
        account: AccountId,
        hash: String,
    ) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute(
                "UPDATE account SET password_hash = ?2 WHERE id = ?1 AND deleted = 0",
                params![to_sql(account.0), hash],
            )?;
            Ok(())
        })
        .await
    }

    /// Raises the versions of accounts, and returns the new ones.
    pub(crate) async fn bump(&self, accounts: Vec<AccountId>) -> Result<Bumped, StoreError> {
        self.write_in_line(move |db| bump(db, &accounts)).await
    }

    /// Deletes an account: it leaves its rooms, its own rooms are deleted, the name stays taken.
    pub(crate) async fn delete_account(
        &self,
        account: AccountId,
        now_ms: u64,
    ) -> Result<Bumped, StoreError> {
        let keys = self.keys.clone();
        self.write(move |db| {
            let own = profile(db, account)?;
            delete(db, &keys, account, &own.username, now_ms)
        })
        .await
    }
}

/// Deletes an account that is there, with or without a device.
pub(super) fn delete(
    db: &Connection,
    keys: &Keypair,
    account: AccountId,
    username: &Username,
    now_ms: u64,
) -> Result<Bumped, StoreError> {
    let mut bumped = Bumped::new();
    for (room, role) in membership::of_account(db, account)? {
        let op = match role {
            Role::Owner => MembershipOp::Delete { by: username.clone() },
            Role::Member | Role::Moderator => MembershipOp::Leave { username: username.clone() },
        };
        bumped.extend(membership::change(db, keys, &room, Some(account), op, now_ms)?);
    }
    let id = to_sql(account.0);
    db.execute("DELETE FROM session WHERE account = ?1", [id])?;
    db.execute("DELETE FROM invite WHERE account = ?1", [id])?;
    db.execute(
        "UPDATE account SET deleted = 1, password_hash = '', endpoints = ?2, card = NULL
         WHERE id = ?1",
        params![id, to_json(&Endpoints::default(), "account.endpoints")?],
    )?;
    bumped.retain(|(other, _)| *other != account);
    Ok(bumped)
}

fn create(
    db: &Connection,
    keys: &Keypair,
    new: &NewAccount,
    now_ms: u64,
) -> Result<(Profile, Signed<Card>), StoreError> {
    if key_owner(db, &new.binding.peer_key)?.is_some() {
        return Err(Rule::KeyTaken.into());
    }
    let inserted = db.execute(
        "INSERT INTO account
             (username, password_hash, binding, endpoints, serial, epoch, version, created_ms, deleted)
         VALUES (?1, ?2, ?3, ?4, 1, 0, 1, ?5, 0)
         ON CONFLICT (username) DO NOTHING",
        params![
            new.username.as_str(),
            new.password_hash,
            to_json(&new.binding, "account.binding")?,
            to_json(&Endpoints::default(), "account.endpoints")?,
            to_sql(now_ms),
        ],
    )?;
    if inserted == 0 {
        return Err(Rule::UsernameTaken.into());
    }
    let account = AccountId(from_sql(db.last_insert_rowid(), "account.id")?);
    enrol(db, account, &new.binding.peer_key, 1)?;
    if let Some(code) = new.invite {
        let invite = invite::redeem(db, code, now_ms)?;
        db.execute(
            "UPDATE account SET invited_by = ?2 WHERE id = ?1",
            params![to_sql(account.0), invite],
        )?;
    }
    let profile = profile(db, account)?;
    let card = card::current(db, keys, &profile, now_ms)?;
    Ok((profile, card))
}

/// Gives an account that the operator made its first keys. The caller has checked that they belong to no
/// other. Nothing happens to one that has keys.
pub(super) fn begin(
    db: &Connection,
    account: AccountId,
    binding: &KeyBinding,
) -> Result<(), StoreError> {
    let begun = db
        .prepare_cached(
            "UPDATE account SET binding = ?2, serial = 1, card = NULL
             WHERE id = ?1 AND binding = '' AND deleted = 0",
        )?
        .execute(params![to_sql(account.0), to_json(binding, "account.binding")?])?;
    if begun == 1 { enrol(db, account, &binding.peer_key, 1) } else { Ok(()) }
}

/// Makes a key the current one of its account, from this serial on. The caller has checked that it belongs
/// to no other.
pub(super) fn enrol(
    db: &Connection,
    account: AccountId,
    key: &PublicKey,
    serial: u64,
) -> Result<(), StoreError> {
    let id = to_sql(account.0);
    db.execute("UPDATE peer_key SET current = 0 WHERE account = ?1", [id])?;
    db.execute(
        "INSERT INTO peer_key (key, account, current, serial) VALUES (?1, ?2, 1, ?3)
         ON CONFLICT (key) DO UPDATE SET current = 1, serial = excluded.serial",
        params![key.as_bytes(), id, to_sql(serial)],
    )?;
    db.execute(
        "DELETE FROM peer_key WHERE account = ?1 AND current = 0 AND key NOT IN (
             SELECT key FROM peer_key WHERE account = ?1 ORDER BY serial DESC LIMIT ?2
         )",
        params![id, KEYS_MAX],
    )?;
    Ok(())
}

/// Whose a key is or was.
pub(super) fn key_owner(db: &Connection, key: &PublicKey) -> Result<Option<AccountId>, StoreError> {
    let owner: Option<i64> = db
        .prepare_cached("SELECT account FROM peer_key WHERE key = ?1")?
        .query_row([key.as_bytes()], |row| row.get(0))
        .optional()?;
    owner.map(|id| Ok(AccountId(from_sql(id, "peer_key.account")?))).transpose()
}

pub(super) fn standing(db: &Connection, key: &PublicKey) -> Result<Standing, StoreError> {
    let row: Option<(i64, bool, bool, bool)> = db
        .prepare_cached(
            "SELECT account.id, peer_key.current, account.deleted, session.account IS NOT NULL
             FROM peer_key
             JOIN account ON account.id = peer_key.account
             LEFT JOIN session ON session.account = account.id
             WHERE peer_key.key = ?1",
        )?
        .query_row([key.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .optional()?;
    Ok(match row {
        None | Some((_, _, true, _)) => Standing::Unknown,
        Some((_, false, _, _)) => Standing::Superseded,
        Some((_, _, _, false)) => Standing::LoggedOut,
        Some((id, _, _, true)) => Standing::Session(AccountId(from_sql(id, "account.id")?)),
    })
}

const NO_USER: StoreError = StoreError::Rule(Rule::NoUser);

pub(super) fn profile(db: &Connection, account: AccountId) -> Result<Profile, StoreError> {
    db.prepare_cached(
        "SELECT id, username, binding, endpoints, serial, epoch, version
         FROM account WHERE id = ?1 AND deleted = 0 AND binding <> ''",
    )?
    .query_row([to_sql(account.0)], Profile::from_row)
    .optional()?
    .ok_or(NO_USER)?
}

pub(super) fn by_name(db: &Connection, username: &Username) -> Result<Profile, StoreError> {
    db.prepare_cached(
        "SELECT id, username, binding, endpoints, serial, epoch, version
         FROM account WHERE username = ?1 AND deleted = 0 AND binding <> ''",
    )?
    .query_row([username.as_str()], Profile::from_row)
    .optional()?
    .ok_or(NO_USER)?
}

pub(super) fn bump(db: &Connection, accounts: &[AccountId]) -> Result<Bumped, StoreError> {
    let mut statement = db.prepare_cached(
        "UPDATE account SET version = version + 1 WHERE id = ?1 AND deleted = 0 RETURNING version",
    )?;
    let mut bumped = Bumped::with_capacity(accounts.len());
    for account in accounts {
        let version: Option<i64> =
            statement.query_row([to_sql(account.0)], |row| row.get(0)).optional()?;
        if let Some(version) = version {
            bumped.push((*account, from_sql(version, "account.version")?));
        }
    }
    Ok(bumped)
}
