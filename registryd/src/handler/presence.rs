//! Who is where: search, watch, sync.

use registryd_proto::{PresenceState, Reply, SyncReply, UserView, Username};

use super::Caller;
use crate::{
    error::RequestError,
    presence::Status,
    store::{AccountId, Profile, Rule, StoreError},
};

pub(super) async fn search(
    caller: Caller<'_>,
    account: AccountId,
    username: Username,
) -> Result<Reply, RequestError> {
    caller.registry.limits.search(account)?;
    let profile = caller.registry.store.user(&username).await?;
    let status = status(caller, profile.account);
    Ok(Reply::User(view(caller, profile, status)))
}

pub(super) async fn watch(
    caller: Caller<'_>,
    account: AccountId,
    username: Username,
) -> Result<Reply, RequestError> {
    let registry = caller.registry;
    registry.limits.search(account)?;
    let profile = registry.store.user(&username).await?;
    // One look for the watch and the answer: between two, the user could go unnoticed.
    let status = registry.presence().watch(account, profile.account, registry.now_ms())?;
    Ok(Reply::User(view(caller, profile, status)))
}

pub(super) async fn sync(
    caller: Caller<'_>,
    account: AccountId,
    version: u64,
) -> Result<Reply, RequestError> {
    let registry = caller.registry;
    // The version first: what changes after it is told again, never left out.
    let own = registry.store.profile(account).await?;
    let (rooms, invited) = registry.store.rooms(account).await?;
    let arrived = registry.presence().arrivals(account, version);
    let version = arrived.up_to.map_or(own.version, |up_to| up_to.min(own.version));
    let mut online = Vec::with_capacity(arrived.users.len());
    for user in arrived.users {
        match registry.store.profile(user).await {
            Ok(profile) => {
                let status = status(caller, profile.account);
                online.push(view(caller, profile, status));
            }
            Err(StoreError::Rule(Rule::NoUser)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Reply::Sync(SyncReply { version, epoch: own.epoch, rooms, invited, online }))
}

/// What is told of a user.
fn view(caller: Caller<'_>, profile: Profile, status: Status) -> UserView {
    let (presence, last_hello_ms_ago) = told(status);
    UserView {
        presence,
        last_hello_ms_ago,
        card: caller.registry.store.card(&profile, caller.registry.unix_ms()),
        username: profile.username,
        endpoints: profile.endpoints,
    }
}

pub(super) fn status(caller: Caller<'_>, account: AccountId) -> Status {
    caller.registry.presence().status(account, caller.registry.now_ms())
}

/// Presence as it is told: who is unknown is not online.
pub(super) fn told(status: Status) -> (PresenceState, Option<u64>) {
    match status {
        Status::Online { last_hello_ms_ago } => (PresenceState::Online, Some(last_hello_ms_ago)),
        Status::Offline { last_hello_ms_ago } => (PresenceState::Offline, last_hello_ms_ago),
        Status::Unknown { .. } => (PresenceState::Offline, None),
    }
}
