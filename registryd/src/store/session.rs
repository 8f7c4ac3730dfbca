//! Sessions: what login, resume and logout write, and what a restart reads.
//!
//! Invariant: a session's epoch is above every epoch that the account had before, and its salt is new;
//! so no session key is ever issued twice, not even by a registry restored from a backup.

use std::{cmp::Ordering, time::Duration};

use registryd_proto::{Card, Digest, Endpoints, KeyBinding, MembershipOp, PublicKey, Signed};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    AccountId, Bumped, Profile, Rule, Standing, Store, StoreError,
    account::{self, to_json},
    admin, card, draw, from_sql, membership, to_sql,
};
use crate::random::Random;

/// A login whose password held.
#[derive(Debug)]
pub(crate) struct LoginRequest {
    /// Whose.
    pub account: AccountId,
    /// The keys of the device.
    pub binding: KeyBinding,
    /// The attempt id.
    pub attempt: Digest,
    /// Where its listeners are.
    pub endpoints: Endpoints,
    /// Whether presence, or the caller's takeover, lets another device in.
    pub entry: Entry,
}

/// Whether another key than the current one may log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Yes: nobody is online, or the caller takes over.
    Free,
    /// Not while the account has a session: it is online.
    Occupied,
}

/// A resume by key.
#[derive(Debug)]
pub(crate) struct ResumeRequest {
    /// The key of the connection.
    pub key: PublicKey,
    /// The attempt id.
    pub attempt: Digest,
    /// Where its listeners are.
    pub endpoints: Endpoints,
    /// The highest card serial that the peer holds.
    pub serial: u64,
    /// The highest session epoch that the peer holds.
    pub epoch: u64,
}

/// A session that was opened, or opened before by the same attempt.
#[derive(Debug, Clone)]
pub(crate) struct OpenedSession {
    /// The account after it.
    pub profile: Profile,
    /// Its card.
    pub card: Signed<Card>,
    /// Derives the key.
    pub salt: [u8; 16],
    /// Members of the account's rooms, if its keys changed.
    pub bumped: Bumped,
}

/// A session as a restart finds it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ActiveSession {
    /// Whose.
    pub account: AccountId,
    /// Its epoch.
    pub epoch: u64,
    /// Derives the key.
    pub salt: [u8; 16],
    /// The account's version.
    pub version: u64,
}

impl Store {
    /// Opens a session, and binds the keys if they are new.
    ///
    /// # Errors
    /// [`Rule::KeyTaken`], [`Rule::OnlineElsewhere`], [`Rule::Disabled`].
    pub(crate) async fn login(
        &self,
        request: LoginRequest,
        now_ms: u64,
    ) -> Result<OpenedSession, StoreError> {
        let (keys, random) = (self.keys.clone(), self.random.clone());
        self.write(move |db| {
            admin::refuse_disabled(db, request.account)?;
            if account::key_owner(db, &request.binding.peer_key)?
                .is_some_and(|owner| owner != request.account)
            {
                return Err(Rule::KeyTaken.into());
            }
            account::begin(db, request.account, &request.binding)?;
            let mut profile = account::profile(db, request.account)?;
            let same_device = request.binding.peer_key == profile.binding.peer_key;
            let held = held(db, profile.account)?;
            if let Some((salt, attempt)) = held {
                if same_device && attempt == request.attempt {
                    let card = card::current(db, &keys, &profile, now_ms)?;
                    return Ok(OpenedSession { profile, card, salt, bumped: Bumped::new() });
                }
                if !same_device && request.entry == Entry::Occupied {
                    return Err(Rule::OnlineElsewhere.into());
                }
            }
            let mut bumped = Bumped::new();
            if request.binding != profile.binding {
                let op = MembershipOp::Rebind {
                    username: profile.username.clone(),
                    peer_key: request.binding.peer_key,
                    room_key: request.binding.room_key,
                };
                bind(db, &mut profile, request.binding)?;
                for (room, _) in membership::of_account(db, profile.account)? {
                    bumped.extend(membership::change(db, &keys, &room, None, op.clone(), now_ms)?);
                }
            }
            profile.endpoints = request.endpoints;
            let salt = open(db, &mut profile, request.attempt, &random, now_ms)?;
            let card = card::current(db, &keys, &profile, now_ms)?;
            Ok(OpenedSession { profile, card, salt, bumped })
        })
        .await
    }

    /// Opens a session by the key alone.
    ///
    /// # Errors
    /// [`Rule::Superseded`], or [`Rule::NoSession`] for a key that is logged out or not enrolled.
    pub(crate) async fn resume(
        &self,
        request: ResumeRequest,
        now_ms: u64,
    ) -> Result<OpenedSession, StoreError> {
        let (keys, random) = (self.keys.clone(), self.random.clone());
        self.write(move |db| {
            let id = session_of(db, &request.key)?;
            let mut profile = account::profile(db, id)?;
            if let Some((salt, attempt)) = held(db, id)?
                && attempt == request.attempt
            {
                let card = card::current(db, &keys, &profile, now_ms)?;
                return Ok(OpenedSession { profile, card, salt, bumped: Bumped::new() });
            }
            profile.serial = profile.serial.max(request.serial);
            profile.epoch = profile.epoch.max(request.epoch);
            profile.endpoints = request.endpoints;
            let salt = open(db, &mut profile, request.attempt, &random, now_ms)?;
            let card = card::current(db, &keys, &profile, now_ms)?;
            Ok(OpenedSession { profile, card, salt, bumped: Bumped::new() })
        })
        .await
    }

    /// Ends the session of a key, and returns the account with the epoch that ended. By key, not by
    /// account: another device may have taken over since the caller was looked up.
    ///
    /// # Errors
    /// [`Rule::Superseded`], [`Rule::NoSession`].
    pub(crate) async fn logout(&self, key: PublicKey) -> Result<Profile, StoreError> {
        self.write(move |db| {
            let profile = account::profile(db, session_of(db, &key)?)?;
            db.execute("DELETE FROM session WHERE account = ?1", [to_sql(profile.account.0)])?;
            Ok(profile)
        })
        .await
    }

    /// Up to `limit` sessions of the accounts after one, in order: for presence to begin with, without all
    /// of them in memory twice.
    pub(crate) async fn sessions(
        &self,
        after: AccountId,
        limit: u32,
    ) -> Result<Vec<ActiveSession>, StoreError> {
        self.read(move |db| {
            let mut sessions = db.prepare_cached(
                "SELECT account, salt FROM session WHERE account > ?1 ORDER BY account LIMIT ?2",
            )?;
            let mut accounts = db.prepare_cached(
                "SELECT id, epoch, version FROM account INDEXED BY account_presence
                 WHERE id > ?1 ORDER BY id",
            )?;
            let mut sessions = sessions.query(params![to_sql(after.0), limit])?;
            // Side by side in one order, so that no account is looked for.
            let mut accounts = accounts.query([to_sql(after.0)])?;
            let mut found = Vec::with_capacity(limit as usize);
            while let Some(session) = sessions.next()? {
                let id: i64 = session.get(0)?;
                let account = loop {
                    let row = accounts.next()?.ok_or(StoreError::Format("session.account"))?;
                    match row.get::<_, i64>(0)?.cmp(&id) {
                        Ordering::Less => {}
                        Ordering::Equal => break row,
                        Ordering::Greater => return Err(StoreError::Format("session.account")),
                    }
                };
                let salt = session.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
                found.push(ActiveSession {
                    account: AccountId(from_sql(id, "session.account")?),
                    epoch: from_sql(account.get(1)?, "account.epoch")?,
                    salt: salt.try_into().map_err(|_| StoreError::Format("session.salt"))?,
                    version: from_sql(account.get(2)?, "account.version")?,
                });
            }
            Ok(found)
        })
        .await
    }

    /// The secret from which all session keys derive.
    pub(crate) async fn hello_secret(&self) -> Result<[u8; 32], StoreError> {
        self.read(|db| {
            let secret: Vec<u8> =
                db.query_row("SELECT value FROM meta WHERE name = 'hello_secret'", [], |row| {
                    row.get(0)
                })?;
            super::bytes32(&secret, "meta.hello_secret")
        })
        .await
    }

    /// The HELLO interval in force when the registry last ran.
    pub(crate) async fn interval(&self) -> Result<Option<Duration>, StoreError> {
        self.read(|db| {
            let millis: Option<i64> = db
                .query_row(
                    "SELECT CAST(CAST(value AS TEXT) AS INTEGER) FROM meta WHERE name = 'interval_ms'",
                    [],
                    |row| row.get(0),
                )
                .optional()?;
            millis.map(|ms| Ok(Duration::from_millis(from_sql(ms, "meta.interval_ms")?))).transpose()
        })
        .await
    }

    /// Keeps the HELLO interval, before it is offered to anybody.
    pub(crate) async fn set_interval(&self, interval: Duration) -> Result<(), StoreError> {
        let millis = interval.as_millis().to_string();
        self.write_in_line(move |db| {
            db.execute(
                "INSERT INTO meta (name, value) VALUES ('interval_ms', ?1)
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                [millis.as_bytes()],
            )?;
            Ok(())
        })
        .await
    }
}

fn session_of(db: &Connection, key: &PublicKey) -> Result<AccountId, StoreError> {
    match account::standing(db, key)? {
        Standing::Session(id) => Ok(id),
        Standing::Superseded => Err(Rule::Superseded.into()),
        Standing::LoggedOut | Standing::Unknown => Err(Rule::NoSession.into()),
    }
}

type Held = ([u8; 16], Digest);

fn held(db: &Connection, account: AccountId) -> Result<Option<Held>, StoreError> {
    let row: Option<(Vec<u8>, Vec<u8>)> = db
        .prepare_cached("SELECT salt, attempt FROM session WHERE account = ?1")?
        .query_row([to_sql(account.0)], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    row.map(|(salt, attempt)| {
        let salt = salt.try_into().map_err(|_| StoreError::Format("session.salt"))?;
        Ok((salt, Digest(super::bytes32(&attempt, "session.attempt")?)))
    })
    .transpose()
}

fn bind(db: &Connection, profile: &mut Profile, binding: KeyBinding) -> Result<(), StoreError> {
    profile.serial += 1;
    profile.binding = binding;
    account::enrol(db, profile.account, &profile.binding.peer_key, profile.serial)?;
    db.execute(
        "UPDATE account SET binding = ?2 WHERE id = ?1",
        params![to_sql(profile.account.0), to_json(&profile.binding, "account.binding")?],
    )?;
    Ok(())
}

fn open(
    db: &Connection,
    profile: &mut Profile,
    attempt: Digest,
    random: &Random,
    now_ms: u64,
) -> Result<[u8; 16], StoreError> {
    profile.epoch += 1;
    let salt = draw(random)?;
    let id = to_sql(profile.account.0);
    db.execute(
        "UPDATE account
         SET epoch = ?2, serial = ?3, endpoints = ?4, card = CASE WHEN serial = ?3 THEN card END
         WHERE id = ?1",
        params![
            id,
            to_sql(profile.epoch),
            to_sql(profile.serial),
            to_json(&profile.endpoints, "account.endpoints")?
        ],
    )?;
    db.execute(
        "INSERT INTO session (account, salt, attempt, opened_ms) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (account) DO UPDATE
         SET salt = excluded.salt, attempt = excluded.attempt, opened_ms = excluded.opened_ms",
        params![id, salt, attempt.0, to_sql(now_ms)],
    )?;
    // A rebind of the account's own rooms raised its version as well.
    profile.version = account::profile(db, profile.account)?.version;
    Ok(salt)
}
