//! Invitations to the registry: create, list, revoke.

use super::{
    answer::{Invite, InviteState, Invites, Time},
    error::AdminError,
    request::Page,
};
use crate::{
    registry::Registry,
    store::{self, NewInvite},
};

/// More accounts than this registry is built for.
const USES_MAX: u32 = 1_000_000;
/// Ten years.
const EXPIRES_MS_MAX: u64 = 10 * 366 * 24 * 3600 * 1000;
/// A few lines.
const NOTE_BYTES_MAX: usize = 500;

pub(super) async fn create(
    registry: &Registry,
    uses: u32,
    expires_ms: u64,
    note: String,
) -> Result<Invite, AdminError> {
    if !(1..=USES_MAX).contains(&uses) {
        return Err(AdminError::Uses(USES_MAX));
    }
    if !(1..=EXPIRES_MS_MAX).contains(&expires_ms) {
        return Err(AdminError::Expiry);
    }
    if note.len() > NOTE_BYTES_MAX {
        return Err(AdminError::Note(NOTE_BYTES_MAX));
    }
    let now_ms = registry.unix_ms();
    let new = NewInvite { uses, expires_ms: now_ms + expires_ms, note };
    let (row, code) = registry.store.create_invite(new, now_ms).await?;
    tracing::info!(id = row.id, uses, "the operator made an invitation");
    Ok(Invite { code: Some(code), ..invite(row, now_ms) })
}

pub(super) async fn list(registry: &Registry, page: &Page<u64>) -> Result<Invites, AdminError> {
    let mut rows = registry.store.invites(page.after.unwrap_or(0), page.rows_max()).await?;
    let next = page.cut(&mut rows, |row| row.id);
    let now_ms = registry.unix_ms();
    Ok(Invites { invites: rows.into_iter().map(|row| invite(row, now_ms)).collect(), next })
}

pub(super) async fn revoke(registry: &Registry, id: u64) -> Result<Invite, AdminError> {
    let row = registry.store.revoke_invite(id).await?;
    tracing::info!(id, "the operator took an invitation back");
    Ok(invite(row, registry.unix_ms()))
}

fn invite(row: store::Invite, now_ms: u64) -> Invite {
    let state = match row {
        _ if row.revoked => InviteState::Revoked,
        _ if row.used >= row.uses => InviteState::UsedUp,
        _ if row.expires_ms <= now_ms => InviteState::Expired,
        _ => InviteState::Open,
    };
    Invite {
        id: row.id,
        code: None,
        state,
        uses: row.uses,
        used: row.used,
        created: Time(row.created_ms),
        expires: Time(row.expires_ms),
        note: row.note,
    }
}
