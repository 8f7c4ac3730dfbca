//! Accounts: add, disable, enable, passwd, delete, list, show.

use registryd_proto::{Password, Username};

use super::{
    answer::{Presence, Time, User, UserItem, UserRoom, UserState, Users},
    error::AdminError,
    request::Page,
};
use crate::{
    error::RequestError,
    presence::Status,
    registry::Registry,
    store::{AccountId, AccountRow, AccountState, Ended, Rule, StoreError},
};

pub(super) async fn add(
    registry: &Registry,
    username: Username,
    password: Password,
) -> Result<User, AdminError> {
    let hash = registry.passwords.hash(password).await.map_err(RequestError::from)?;
    let row = registry.store.add_user(&username, hash, registry.unix_ms()).await?;
    tracing::info!(%username, "the operator added an account");
    user(registry, row).await
}

pub(super) async fn disable(registry: &Registry, username: Username) -> Result<User, AdminError> {
    let ended = registry.store.disable_user(&username).await?;
    end(registry, &ended);
    tracing::info!(%username, "the operator disabled an account");
    show(registry, &username).await
}

pub(super) async fn enable(registry: &Registry, username: Username) -> Result<User, AdminError> {
    registry.store.enable_user(&username).await?;
    tracing::info!(%username, "the operator enabled an account");
    show(registry, &username).await
}

pub(super) async fn passwd(
    registry: &Registry,
    username: Username,
    password: Password,
) -> Result<User, AdminError> {
    let row = registry.store.account_row(&username).await?;
    if row.state == AccountState::Deleted {
        return Err(StoreError::Rule(Rule::NoUser).into());
    }
    let hash = registry.passwords.hash(password).await.map_err(RequestError::from)?;
    registry.store.set_password(row.account, hash).await?;
    tracing::info!(%username, "the operator replaced a password");
    show(registry, &username).await
}

pub(super) async fn delete(registry: &Registry, username: Username) -> Result<User, AdminError> {
    let (ended, others) = registry.store.remove_user(&username, registry.unix_ms()).await?;
    registry.announce(&ended.bumped);
    registry.presence().leave(ended.account, u64::MAX);
    registry.announce(&others);
    tracing::info!(%username, "the operator deleted an account");
    show(registry, &username).await
}

pub(super) async fn list(registry: &Registry, page: &Page<Username>) -> Result<Users, AdminError> {
    let mut rows = registry.store.account_rows(page.after.as_ref(), page.rows_max()).await?;
    let next = page.cut(&mut rows, |row| row.username.clone());
    let users = rows.into_iter().map(|row| item(registry, row)).collect();
    Ok(Users { users, next })
}

pub(super) async fn show(registry: &Registry, username: &Username) -> Result<User, AdminError> {
    let row = registry.store.account_row(username).await?;
    user(registry, row).await
}

async fn user(registry: &Registry, row: AccountRow) -> Result<User, AdminError> {
    let (account, key, invited_by) = (row.account, row.key, row.invited_by);
    let (rooms, _) = registry.store.rooms(account).await?;
    let rooms = rooms.into_iter().map(|r| UserRoom { room: r.room, role: r.role }).collect();
    let (_, last_hello_ms_ago) = seen(registry, account);
    let address = registry.presence().heard_at(account);
    let item = item(registry, row);
    Ok(User { item, last_hello_ms_ago, address, key, invited_by, rooms })
}

fn item(registry: &Registry, row: AccountRow) -> UserItem {
    let state = match row.state {
        AccountState::Active => UserState::Active,
        AccountState::New => UserState::New,
        AccountState::Disabled => UserState::Disabled,
        AccountState::Deleted => UserState::Deleted,
    };
    UserItem {
        state,
        presence: seen(registry, row.account).0,
        created: Time(row.created_ms),
        session: row.session_ms.map(Time),
        username: row.username,
    }
}

/// Whether a device is there, and when it was last heard.
pub(super) fn seen(registry: &Registry, account: AccountId) -> (Presence, Option<u64>) {
    match registry.presence().status(account, registry.now_ms()) {
        Status::Online { last_hello_ms_ago } => (Presence::Online, Some(last_hello_ms_ago)),
        Status::Offline { last_hello_ms_ago } => (Presence::Offline, last_hello_ms_ago),
        Status::Unknown { .. } => (Presence::Unknown, None),
    }
}

/// Takes a session that the store ended out of presence. Its device is nudged first: it asks what is new,
/// and finds itself logged out. One that the nudge does not reach finds out when its HELLOs stay unanswered.
pub(super) fn end(registry: &Registry, ended: &Ended) {
    registry.announce(&ended.bumped);
    registry.presence().leave(ended.account, ended.epoch);
}
