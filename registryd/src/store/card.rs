//! Contact cards, signed once and kept: what a search tells of a user.
//!
//! A card is signed at create-account, at login and resume if it is past the half of its life, and by the
//! first search after that. So however many search for a user, one signature in twelve hours is all that
//! it costs. The exact bytes are kept, never a re-encoding.
//!
//! Invariant: a card that is handed out has at least half of its life before it, and the account's serial.

use registryd_proto::{CARD_LIFETIME_MS, Card, Endpoints, Keypair, PublicKey, Signed, Username};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde_json::value::RawValue;

use super::{
    AccountId, Profile, Rule, Standing, Store, StoreError,
    account::{self, from_json, to_json},
    from_sql, to_sql,
};

/// What a search tells of a user, but for presence.
#[derive(Debug)]
pub(crate) struct Contact {
    /// Whose.
    pub account: AccountId,
    /// The name.
    pub username: Username,
    /// Where its listeners were.
    pub endpoints: Endpoints,
    /// A `Signed<Card>`, as JSON.
    pub card: Box<RawValue>,
}

impl Contact {
    /// The card, read.
    ///
    /// # Errors
    /// [`StoreError::Format`].
    pub(crate) fn signed_card(&self) -> Result<Signed<Card>, StoreError> {
        from_json(self.card.get(), "account.card")
    }
}

/// What one look into the store found for a key that searches.
#[derive(Debug)]
pub(crate) struct Found {
    /// Who searches, at that moment.
    pub standing: Standing,
    /// For each name in its order; `None`: nobody has it.
    pub contacts: Vec<Option<Contact>>,
}

/// A card that a look-up signed anew, to be kept.
struct Renewed {
    account: AccountId,
    serial: u64,
    expires_ms: u64,
    json: String,
}

impl Store {
    /// Looks up accounts by their exact names, all at one moment after the call, together with the standing
    /// of the key that asks at that moment. `now_ms` is registry time.
    pub(crate) async fn search(
        &self,
        key: PublicKey,
        usernames: Vec<Username>,
        now_ms: u64,
    ) -> Result<Found, StoreError> {
        let keys = self.keys.clone();
        let (found, renewed) = self
            .read(move |db| {
                let standing = account::standing(db, &key)?;
                let mut renewed = Vec::new();
                let contacts = usernames
                    .into_iter()
                    .map(|username| by_name(db, &keys, username, now_ms, &mut renewed))
                    .collect::<Result<_, StoreError>>()?;
                Ok((Found { standing, contacts }, renewed))
            })
            .await?;
        self.keep(renewed);
        Ok(found)
    }

    /// Looks up accounts by their numbers; those that are deleted are left out.
    pub(crate) async fn contacts(
        &self,
        accounts: Vec<AccountId>,
        now_ms: u64,
    ) -> Result<Vec<Contact>, StoreError> {
        let keys = self.keys.clone();
        let (contacts, renewed) = self
            .read(move |db| {
                let (mut contacts, mut renewed) = (Vec::new(), Vec::new());
                for account in accounts {
                    match account::profile(db, account) {
                        Ok(Profile { username, .. }) => {
                            contacts.extend(by_name(db, &keys, username, now_ms, &mut renewed)?);
                        }
                        Err(StoreError::Rule(Rule::NoUser)) => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok((contacts, renewed))
            })
            .await?;
        self.keep(renewed);
        Ok(contacts)
    }

    /// Keeps cards that were signed on the way. Nobody waits for it: if it comes to nothing, the next search
    /// signs again.
    fn keep(&self, renewed: Vec<Renewed>) {
        if !renewed.is_empty() {
            self.writer.offer(move |db| renewed.iter().try_for_each(|card| write(db, card)));
        }
    }
}

/// The account's card for one who has proved to own it: signed anew, and kept, if it is past its half.
pub(super) fn current(
    db: &Connection,
    keys: &Keypair,
    profile: &Profile,
    now_ms: u64,
) -> Result<Signed<Card>, StoreError> {
    let held: (Option<String>, i64) = db
        .prepare_cached("SELECT card, card_expires_ms FROM account WHERE id = ?1 AND serial = ?2")?
        .query_row(params![to_sql(profile.account.0), to_sql(profile.serial)], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    if let (Some(json), expires_ms) = held
        && is_fresh(expires_ms, now_ms)
    {
        return from_json(&json, "account.card");
    }
    let (card, renewed) = sign(keys, profile, now_ms)?;
    write(db, &renewed)?;
    Ok(card)
}

fn by_name(
    db: &Connection,
    keys: &Keypair,
    username: Username,
    now_ms: u64,
    renewed: &mut Vec<Renewed>,
) -> Result<Option<Contact>, StoreError> {
    let read = |row: &Row<'_>| {
        let expires_ms: i64 = row.get(3)?;
        // A stale card is not worth the copy.
        let card = if is_fresh(expires_ms, now_ms) { row.get(2)? } else { None };
        Ok((row.get(0)?, from_json(row.get_ref(1)?.as_str()?, "account.endpoints"), card))
    };
    let row: Option<(i64, Result<Endpoints, StoreError>, Option<String>)> = db
        .prepare_cached(
            "SELECT id, endpoints, card, card_expires_ms FROM account
             WHERE username = ?1 AND deleted = 0 AND binding <> ''",
        )?
        .query_row([username.as_str()], read)
        .optional()?;
    let Some((id, endpoints, card)) = row else { return Ok(None) };
    let account = AccountId(from_sql(id, "account.id")?);
    let card = match card {
        Some(json) => json,
        None => {
            let (_, fresh) = sign(keys, &account::profile(db, account)?, now_ms)?;
            let json = fresh.json.clone();
            renewed.push(fresh);
            json
        }
    };
    let card = RawValue::from_string(card).map_err(|_| StoreError::Format("account.card"))?;
    Ok(Some(Contact { account, username, endpoints: endpoints?, card }))
}

/// At least half of its life is left; and not more than all, which a clock that was set back would give.
fn is_fresh(expires_ms: i64, now_ms: u64) -> bool {
    let left_ms = u64::try_from(expires_ms).unwrap_or(0).saturating_sub(now_ms);
    (CARD_LIFETIME_MS / 2..=CARD_LIFETIME_MS).contains(&left_ms)
}

fn sign(
    keys: &Keypair,
    profile: &Profile,
    now_ms: u64,
) -> Result<(Signed<Card>, Renewed), StoreError> {
    let card = Card {
        username: profile.username.clone(),
        binding: profile.binding.clone(),
        serial: profile.serial,
        issued_ms: now_ms,
        expires_ms: now_ms + CARD_LIFETIME_MS,
    };
    let signed = Signed::seal(&card, keys);
    let renewed = Renewed {
        account: profile.account,
        serial: profile.serial,
        expires_ms: card.expires_ms,
        json: to_json(&signed, "account.card")?,
    };
    Ok((signed, renewed))
}

/// Nothing happens if the account is another one since: it was bound anew, or deleted.
fn write(db: &Connection, card: &Renewed) -> Result<(), StoreError> {
    db.prepare_cached(
        "UPDATE account SET card = ?3, card_expires_ms = ?4
         WHERE id = ?1 AND serial = ?2 AND deleted = 0",
    )?
    .execute(params![
        to_sql(card.account.0),
        to_sql(card.serial),
        card.json,
        to_sql(card.expires_ms)
    ])?;
    Ok(())
}
