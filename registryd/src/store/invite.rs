//! Invitations to the registry: codes with which an account may be made where registration is by invite.
//!
//! Invariant: a code is known to nobody but who was given it: the store has its hash. A use is taken in the
//! transaction that makes the account, so that both happen or neither, and of two who race for the last
//! use one wins.

use data_encoding::BASE32_NOPAD;
use registryd_proto::Digest;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{Rule, Store, StoreError, draw, from_sql, to_sql};

const HASH_DOMAIN: &str = "p2pchat registry invitation code 1";

/// 128 bits, so that nobody guesses one.
const CODE_BYTES: usize = 16;

/// What an invitation begins with.
#[derive(Debug, Clone)]
pub(crate) struct NewInvite {
    /// How many accounts it makes; at least 1.
    pub uses: u32,
    /// Milliseconds since 1970 from which on it is void.
    pub expires_ms: u64,
    /// For the operator.
    pub note: String,
}

/// An invitation as the operator sees it: never the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invite {
    /// Its number.
    pub id: u64,
    /// How many accounts it makes in all.
    pub uses: u32,
    /// How many it has made.
    pub used: u32,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// Milliseconds since 1970.
    pub expires_ms: u64,
    /// The operator took it back.
    pub revoked: bool,
    /// For the operator.
    pub note: String,
}

/// A code as somebody typed it, hashed: the text itself is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CodeHash(Digest);

impl CodeHash {
    /// Of any text: one that is no code is the hash of none.
    pub(crate) fn of(text: &str) -> Self {
        let code = text.trim().to_ascii_lowercase();
        Self(Digest::derive(HASH_DOMAIN, &[code.as_bytes()]))
    }
}

impl Store {
    /// A new invitation, and its code, which cannot be had again.
    pub(crate) async fn create_invite(
        &self,
        new: NewInvite,
        now_ms: u64,
    ) -> Result<(Invite, String), StoreError> {
        let code = BASE32_NOPAD.encode(&draw::<CODE_BYTES>(&self.random)?).to_ascii_lowercase();
        let hash = CodeHash::of(&code);
        let invite = self
            .write(move |db| {
                db.execute(
                    "INSERT INTO registration_invite
                         (code_hash, uses, used, created_ms, expires_ms, revoked, note)
                     VALUES (?1, ?2, 0, ?3, ?4, 0, ?5)",
                    params![hash.0.0, new.uses, to_sql(now_ms), to_sql(new.expires_ms), new.note],
                )?;
                by_id(db, db.last_insert_rowid())
            })
            .await?;
        Ok((invite, code))
    }

    /// Invitations with numbers above `after`, in their order, so many at most.
    pub(crate) async fn invites(&self, after: u64, limit: u32) -> Result<Vec<Invite>, StoreError> {
        self.read(move |db| {
            let mut statement = db.prepare_cached(
                "SELECT id, uses, used, created_ms, expires_ms, revoked, note
                 FROM registration_invite WHERE id > ?1 ORDER BY id LIMIT ?2",
            )?;
            let rows = statement.query_map(params![to_sql(after), limit], from_row)?;
            rows.map(|row| row?).collect()
        })
        .await
    }

    /// Takes an invitation back; the accounts that it made stay. One that is taken back already stays so.
    ///
    /// # Errors
    /// [`Rule::NoInvite`].
    pub(crate) async fn revoke_invite(&self, id: u64) -> Result<Invite, StoreError> {
        self.write(move |db| {
            let id = to_sql(id);
            db.execute("UPDATE registration_invite SET revoked = 1 WHERE id = ?1", [id])?;
            by_id(db, id)
        })
        .await
    }

    /// Whether a code would make an account now: asked before the work of hashing a password.
    ///
    /// # Errors
    /// [`Rule::InviteInvalid`], whatever the reason.
    pub(crate) async fn check_invite(&self, code: CodeHash, now_ms: u64) -> Result<(), StoreError> {
        self.read(move |db| {
            let holds: bool = db
                .prepare_cached(
                    "SELECT EXISTS (
                         SELECT 1 FROM registration_invite
                         WHERE code_hash = ?1 AND used < uses AND revoked = 0 AND expires_ms > ?2
                     )",
                )?
                .query_row(params![code.0.0, to_sql(now_ms)], |row| row.get(0))?;
            if holds { Ok(()) } else { Err(Rule::InviteInvalid.into()) }
        })
        .await
    }
}

/// Takes one use, in the transaction of the account that it makes. Returns the invitation's number.
pub(super) fn redeem(db: &Connection, code: CodeHash, now_ms: u64) -> Result<i64, StoreError> {
    let id: Option<i64> = db
        .prepare_cached(
            "UPDATE registration_invite SET used = used + 1
             WHERE code_hash = ?1 AND used < uses AND revoked = 0 AND expires_ms > ?2
             RETURNING id",
        )?
        .query_row(params![code.0.0, to_sql(now_ms)], |row| row.get(0))
        .optional()?;
    id.ok_or(Rule::InviteInvalid.into())
}

fn by_id(db: &Connection, id: i64) -> Result<Invite, StoreError> {
    db.prepare_cached(
        "SELECT id, uses, used, created_ms, expires_ms, revoked, note
         FROM registration_invite WHERE id = ?1",
    )?
    .query_row([id], from_row)
    .optional()?
    .ok_or(StoreError::Rule(Rule::NoInvite))?
}

fn from_row(row: &Row<'_>) -> Result<Result<Invite, StoreError>, rusqlite::Error> {
    let (id, created, expires): (i64, i64, i64) = (row.get(0)?, row.get(3)?, row.get(4)?);
    let (uses, used): (u32, u32) = (row.get(1)?, row.get(2)?);
    let (revoked, note): (bool, String) = (row.get(5)?, row.get(6)?);
    Ok((|| {
        Ok(Invite {
            id: from_sql(id, "registration_invite.id")?,
            uses,
            used,
            created_ms: from_sql(created, "registration_invite.created_ms")?,
            expires_ms: from_sql(expires, "registration_invite.expires_ms")?,
            revoked,
            note,
        })
    })())
}
