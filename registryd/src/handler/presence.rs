//! Who is where: search, watch, sync.

use std::net::{IpAddr, SocketAddr};

use registryd_proto::{
    ADDRESSES_MAX, Endpoints, Failure, PresenceState, Reply, SyncReply, UserView, Username,
};
use serde::Serialize;
use serde_json::value::RawValue;

use super::Caller;
use crate::{
    error::RequestError,
    presence::Status,
    store::{AccountId, Contact, Rule, Standing, StoreError},
};

/// The reply to a search: [`Reply::User`] on the wire, with the card as it is kept.
#[derive(Debug, Serialize)]
#[serde(tag = "reply", rename = "user")]
pub(crate) struct FoundUser {
    username: Username,
    presence: PresenceState,
    last_hello_ms_ago: Option<u64>,
    #[serde(skip_serializing_if = "Clone::clone")]
    confirmed: bool,
    card: Box<RawValue>,
    endpoints: Endpoints,
}

/// Answers searches that came one behind the other, in their order, by one look into the store. The limits
/// come before it, so that one who is over them costs next to nothing; for them, `account` is whose the key
/// was when it was looked up last. Whether it has a session now is found with the rest.
pub(super) async fn search(
    caller: Caller<'_>,
    account: AccountId,
    usernames: Vec<Username>,
) -> Vec<Result<FoundUser, Failure>> {
    let limits = &caller.registry.limits;
    let admit = || limits.request(account).and_then(|()| limits.search(account));
    let (mut admitted, mut answers) = (Vec::new(), Vec::with_capacity(usernames.len()));
    for username in usernames {
        let refused = admit().err().map(|limited| RequestError::from(limited).failure());
        if refused.is_none() {
            admitted.push(username);
        }
        answers.push(refused);
    }
    let mut found = look_up(caller, admitted).await.into_iter();
    let answer = |refused: Option<Failure>| match refused {
        Some(failure) => Some(Err(failure)),
        None => found.next(),
    };
    answers.into_iter().filter_map(answer).collect()
}

/// One answer for each name.
async fn look_up(caller: Caller<'_>, usernames: Vec<Username>) -> Vec<Result<FoundUser, Failure>> {
    let asked = usernames.len();
    if asked == 0 {
        return Vec::new();
    }
    let registry = caller.registry;
    match registry.store.search(caller.key, usernames, registry.unix_ms()).await {
        Ok(found) if matches!(found.standing, Standing::Session(_)) => found
            .contacts
            .into_iter()
            .map(|contact| {
                let nobody = || RequestError::from(StoreError::Rule(Rule::NoUser)).failure();
                contact.map(|contact| found_user(caller, contact)).ok_or_else(nobody)
            })
            .collect(),
        Ok(found) => (0..asked).map(|_| Err(caller.turn_away(found.standing).failure())).collect(),
        Err(error) => {
            let failure = RequestError::from(error).failure();
            (0..asked).map(|_| Err(failure.clone())).collect()
        }
    }
}

fn found_user(caller: Caller<'_>, contact: Contact) -> FoundUser {
    let Contact { account, username, endpoints: told_at, card } = contact;
    let status = status(caller, account);
    let (presence, last_hello_ms_ago) = told(status);
    let confirmed = is_confirmed(status);
    let endpoints = endpoints(caller, account, told_at);
    FoundUser { username, presence, last_hello_ms_ago, confirmed, card, endpoints }
}

pub(super) async fn watch(
    caller: Caller<'_>,
    account: AccountId,
    username: Username,
) -> Result<Reply, RequestError> {
    let registry = caller.registry;
    registry.limits.search(account)?;
    let mut found = registry.store.search(caller.key, vec![username], registry.unix_ms()).await?;
    let contact = found.contacts.pop().flatten().ok_or(StoreError::Rule(Rule::NoUser))?;
    // One look for the watch and the answer: between two, the user could go unnoticed.
    let status = registry.presence().watch(account, contact.account, registry.now_ms())?;
    Ok(Reply::User(view(caller, contact, status)?))
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
    registry.presence().see_version(account, own.version);
    let mut online = Vec::new();
    if !arrived.users.is_empty() {
        for contact in registry.store.contacts(arrived.users, registry.unix_ms()).await? {
            let status = status(caller, contact.account);
            online.push(view(caller, contact, status)?);
        }
    }
    Ok(Reply::Sync(SyncReply { version, epoch: own.epoch, rooms, invited, online }))
}

/// What is told of a user.
fn view(caller: Caller<'_>, contact: Contact, status: Status) -> Result<UserView, RequestError> {
    let (presence, last_hello_ms_ago) = told(status);
    Ok(UserView {
        presence,
        last_hello_ms_ago,
        confirmed: is_confirmed(status),
        card: contact.signed_card()?,
        username: contact.username,
        endpoints: endpoints(caller, contact.account, contact.endpoints),
    })
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

/// Whether presence is known since the registry started.
fn is_confirmed(status: Status) -> bool {
    !matches!(status, Status::Unknown { .. })
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
    use registryd_proto::{Answer, Card, KeyBinding, Keypair, Signed};

    use super::*;
    use crate::handler::Said;

    fn after_hello_from(ip: &str, told: &[&str]) -> Vec<String> {
        let told = told.iter().map(|a| a.parse().expect("address")).collect();
        moved(told, ip.parse().expect("address")).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn who_is_found_is_told_as_every_user_is() {
        let [registry, peer, room] = [1, 2, 3].map(|s| Keypair::from_secret(&[s; 32]));
        let username: Username = "bob".parse().expect("name");
        let binding = KeyBinding::new(&registry.public(), &username, &peer, &room);
        let card =
            Card { username: username.clone(), binding, serial: 1, issued_ms: 2, expires_ms: 3 };
        let card = Signed::seal(&card, &registry);
        let kept = serde_json::to_string(&card).expect("plain");
        let endpoints = Endpoints {
            peer: vec![([192, 0, 2, 7], 1).into()],
            room: vec![([192, 0, 2, 7], 2).into()],
        };
        let (presence, last_hello_ms_ago) = (PresenceState::Online, Some(412));
        for confirmed in [true, false] {
            let found = FoundUser {
                username: username.clone(),
                presence,
                last_hello_ms_ago,
                confirmed,
                card: RawValue::from_string(kept.clone()).expect("JSON"),
                endpoints: endpoints.clone(),
            };
            let view = UserView {
                username: username.clone(),
                presence,
                last_hello_ms_ago,
                confirmed,
                card: card.clone(),
                endpoints: endpoints.clone(),
            };
            let told = serde_json::to_string(&Said::Found { ok: found }).expect("plain");
            let typed = serde_json::to_string(&Answer::Ok(Reply::User(view))).expect("plain");
            assert_eq!(told, typed);
        }
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
