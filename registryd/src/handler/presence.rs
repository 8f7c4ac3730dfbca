//! Who is where: search, watch, sync.

use std::net::{IpAddr, SocketAddr};

use registryd_proto::{
    ADDRESSES_MAX, Endpoints, PresenceState, Reply, SyncReply, UserView, Username,
};

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
        endpoints: endpoints(caller, profile.account, profile.endpoints),
    }
}

/// Where a user can be dialled now. Whoever moves tells nobody but by its next HELLO, so where that came
/// from comes before what was true at the last login or resume, with the ports told there.
pub(super) fn endpoints(caller: Caller<'_>, account: AccountId, told: Endpoints) -> Endpoints {
    match caller.registry.presence().heard_at(account) {
        Some(ip) => Endpoints { peer: moved(told.peer, ip), room: moved(told.room, ip) },
        None => told,
    }
}

fn moved(told: Vec<SocketAddr>, heard_at: IpAddr) -> Vec<SocketAddr> {
    if told.iter().any(|address| address.ip() == heard_at) {
        return told;
    }
    let mut all: Vec<SocketAddr> = Vec::with_capacity(ADDRESSES_MAX);
    let new = told.iter().map(|address| SocketAddr::new(heard_at, address.port()));
    for address in new.chain(told.iter().copied()) {
        if !all.contains(&address) && all.len() < ADDRESSES_MAX {
            all.push(address);
        }
    }
    all
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

#[cfg(test)]
mod tests {
    use super::*;

    fn after_hello_from(ip: &str, told: &[&str]) -> Vec<String> {
        let told = told.iter().map(|a| a.parse().expect("address")).collect();
        moved(told, ip.parse().expect("address")).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn who_moved_is_dialled_where_it_is_heard_first() {
        let told = ["192.0.2.7:1", "[2001:db8::7]:1"];
        let expected = ["198.51.100.7:1", "192.0.2.7:1", "[2001:db8::7]:1"];
        assert_eq!(after_hello_from("198.51.100.7", &told), expected);
    }

    #[test]
    fn who_did_not_move_is_dialled_as_told() {
        let told = ["[2001:db8::7]:1", "192.0.2.7:1"];
        assert_eq!(after_hello_from("192.0.2.7", &told), told);
        assert!(after_hello_from("192.0.2.7", &[]).is_empty());
    }

    #[test]
    fn there_are_never_more_addresses_than_may_be_told() {
        let told: Vec<String> = (1..=ADDRESSES_MAX).map(|n| format!("192.0.2.{n}:1")).collect();
        let told: Vec<&str> = told.iter().map(String::as_str).collect();
        assert_eq!(after_hello_from("198.51.100.7", &told).len(), ADDRESSES_MAX);
    }
}
