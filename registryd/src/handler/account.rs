//! Accounts and sessions: create-account, login, resume, logout, change-password, delete-account.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use registryd_proto::{
    ADDRESSES_MAX, Account, Digest, Endpoints, KeyBinding, Password, Reply, SessionGrant, Username,
};

use super::Caller;
use crate::{
    cli::Registration,
    error::{Invalid, RequestError},
    presence::{Seat, Status},
    store::{
        AccountId, CodeHash, Credentials, Entry, LoginRequest, NewAccount, OpenedSession,
        ResumeRequest, Rule, StoreError,
    },
};

/// Serials and epochs grow by one; nobody honest comes near, and nothing overflows.
const GENERATION_MAX: u64 = 1 << 48;

/// A login as asked for.
pub(super) struct Login {
    pub(super) username: Username,
    pub(super) password: Password,
    pub(super) binding: KeyBinding,
    pub(super) attempt: Digest,
    pub(super) takeover: bool,
    pub(super) endpoints: Endpoints,
}

pub(super) async fn create_account(
    caller: Caller<'_>,
    username: Username,
    password: Password,
    binding: KeyBinding,
    invite: Option<String>,
) -> Result<Reply, RequestError> {
    let registry = caller.registry;
    registry.limits.stranger(caller.source())?;
    let invite = match (registry.config().registration, invite) {
        // A code is not used up where none is needed.
        (Registration::Open, _) => None,
        (Registration::Invite, Some(code)) => Some(CodeHash::of(&code)),
        (Registration::Invite, None) => return Err(RequestError::InviteNeeded),
        (Registration::Closed, _) => return Err(RequestError::RegistrationClosed),
    };
    check_binding(caller, &username, &binding)?;
    registry.limits.new_password(caller.source(), &username)?;
    if let Some(code) = invite {
        // Before a password is hashed or a name looked up for somebody who was not invited.
        if let Err(error) = registry.store.check_invite(code, registry.unix_ms()).await {
            return Err(uninvited(caller, &username, error).await?.into());
        }
    }
    let password_hash = registry.passwords.hash(password).await?;
    let new = NewAccount { username: username.clone(), password_hash, binding, invite };
    let (_, card) = registry.store.create_account(new, registry.unix_ms()).await?;
    tracing::info!(%username, "an account was created");
    Ok(Reply::Account(Account { username, card }))
}

/// Why an invitation does not hold. Whoever lost the answer to a request that made its account asks again
/// with a code that this request used up: it is told what it would be told without one. Only the key of the
/// account learns from it that there is one.
async fn uninvited(
    caller: Caller<'_>,
    username: &Username,
    error: StoreError,
) -> Result<StoreError, StoreError> {
    if !matches!(error, StoreError::Rule(Rule::InviteInvalid)) {
        return Ok(error);
    }
    let held = caller.registry.store.credentials(username, caller.key).await?;
    Ok(if is_own(held.as_ref()) { Rule::KeyTaken.into() } else { error })
}

pub(super) async fn login(caller: Caller<'_>, login: Login) -> Result<Reply, RequestError> {
    let registry = caller.registry;
    let held = registry.store.credentials(&login.username, caller.key).await?;
    if !is_own(held.as_ref()) {
        registry.limits.stranger(caller.source())?;
    }
    check_binding(caller, &login.username, &login.binding)?;
    let endpoints = caller.seen(login.endpoints)?;
    let account = prove(caller, &login.username, held, login.password).await?;
    let entry = match registry.presence().status(account, registry.now_ms()) {
        Status::Offline { .. } => Entry::Free,
        Status::Online { .. } | Status::Unknown { .. } if login.takeover => Entry::Free,
        Status::Online { .. } | Status::Unknown { .. } => Entry::Occupied,
    };
    // An account that the operator made has no keys before its first login.
    let own = registry.store.profile(account).await;
    // Who is refused as long as another device is there leaves no record.
    if matches!(entry, Entry::Free) && own.is_ok_and(|own| own.binding != login.binding) {
        registry.limits.rebind(account)?;
    }
    let request =
        LoginRequest { account, binding: login.binding, attempt: login.attempt, endpoints, entry };
    match registry.store.login(request, registry.unix_ms()).await {
        Ok(opened) => {
            tracing::info!(username = %login.username, epoch = opened.profile.epoch, "logged in");
            Ok(grant(caller, opened))
        }
        Err(StoreError::Rule(Rule::OnlineElsewhere)) => Err(occupied(caller, account)),
        Err(error) => Err(error.into()),
    }
}

/// During the grace after a restart `already_online` is a guess, and says when it will be known.
fn occupied(caller: Caller<'_>, account: AccountId) -> RequestError {
    match caller.registry.presence().status(account, caller.registry.now_ms()) {
        Status::Unknown { grace_ms } => {
            RequestError::PresenceUnknown { retry_after: Duration::from_millis(grace_ms) }
        }
        Status::Online { .. } | Status::Offline { .. } => {
            StoreError::Rule(Rule::OnlineElsewhere).into()
        }
    }
}

pub(super) async fn resume(
    caller: Caller<'_>,
    attempt: Digest,
    endpoints: Endpoints,
    serial: u64,
    epoch: u64,
) -> Result<Reply, RequestError> {
    if serial.max(epoch) > GENERATION_MAX {
        return Err(Invalid::OutOfRange.into());
    }
    let endpoints = caller.seen(endpoints)?;
    caller.account().await?;
    let request = ResumeRequest { key: caller.key, attempt, endpoints, serial, epoch };
    let opened = caller.registry.store.resume(request, caller.registry.unix_ms()).await?;
    Ok(grant(caller, opened))
}

pub(super) async fn logout(caller: Caller<'_>) -> Result<Reply, RequestError> {
    let ended = caller.registry.store.logout(caller.key).await?;
    caller.registry.presence().leave(ended.account, ended.epoch);
    Ok(Reply::Done)
}

pub(super) async fn change_password(
    caller: Caller<'_>,
    account: AccountId,
    old: Password,
    new: Password,
) -> Result<Reply, RequestError> {
    let registry = caller.registry;
    let username = registry.store.profile(account).await?.username;
    let held = registry.store.credentials(&username, caller.key).await?;
    let account = prove(caller, &username, held, old).await?;
    let hash = registry.passwords.hash(new).await?;
    registry.store.set_password(account, hash).await?;
    Ok(Reply::Done)
}

pub(super) async fn delete_account(
    caller: Caller<'_>,
    account: AccountId,
    password: Password,
) -> Result<Reply, RequestError> {
    let registry = caller.registry;
    let username = registry.store.profile(account).await?.username;
    let held = registry.store.credentials(&username, caller.key).await?;
    let account = prove(caller, &username, held, password).await?;
    let bumped = registry.store.delete_account(account, registry.unix_ms()).await?;
    registry.presence().leave(account, u64::MAX);
    registry.announce(&bumped);
    tracing::info!(%username, "an account was deleted");
    Ok(Reply::Done)
}

fn is_own(held: Option<&Credentials>) -> bool {
    held.is_some_and(|held| held.own_key)
}

/// Checks a password. An unknown user is answered the same, after the same work.
async fn prove(
    caller: Caller<'_>,
    username: &Username,
    held: Option<Credentials>,
    password: Password,
) -> Result<AccountId, RequestError> {
    let registry = caller.registry;
    match &held {
        Some(Credentials { account, own_key: true, .. }) => {
            registry.limits.own_password(*account)?;
        }
        _ => registry.limits.password(caller.source(), username)?,
    }
    let (account, stored) = held.map(|held| (held.account, held.password_hash)).unzip();
    let right = registry.passwords.verify(stored, password).await?;
    account.filter(|_| right).ok_or(RequestError::BadCredentials)
}

fn check_binding(
    caller: Caller<'_>,
    username: &Username,
    binding: &KeyBinding,
) -> Result<(), RequestError> {
    if binding.peer_key != caller.key {
        return Err(Invalid::ForeignKey.into());
    }
    binding
        .verify(&caller.registry.keys.public(), username)
        .map_err(|_| RequestError::Invalid(Invalid::Binding))
}

fn grant(caller: Caller<'_>, opened: OpenedSession) -> Reply {
    let registry = caller.registry;
    let OpenedSession { profile, card, salt, bumped } = opened;
    let (boot, interval_ms) = {
        let mut presence = registry.presence();
        presence.open(Seat {
            account: profile.account,
            epoch: profile.epoch,
            salt,
            version: profile.version,
        });
        (presence.boot(), presence.interval_ms())
    };
    registry.announce(&bumped);
    Reply::Session(SessionGrant {
        session: profile.account.0,
        epoch: profile.epoch,
        key: registry.session_key(profile.account, profile.epoch, &salt),
        hello_port: registry.port,
        interval_ms,
        boot,
        card,
        version: profile.version,
        server_time_ms: registry.unix_ms(),
        observed: caller.address,
        username: profile.username,
    })
}

/// The addresses of one listener, as others can dial them: in order, each once.
pub(super) fn addresses(
    given: Vec<SocketAddr>,
    observed: IpAddr,
) -> Result<Vec<SocketAddr>, RequestError> {
    if given.len() > ADDRESSES_MAX {
        return Err(Invalid::Addresses.into());
    }
    let mut kept = Vec::with_capacity(given.len());
    for address in given {
        let ip = address.ip().to_canonical();
        let ip = if ip.is_unspecified() { observed } else { ip };
        let address = SocketAddr::new(ip, address.port());
        if address.port() != 0 && !ip.is_multicast() && !kept.contains(&address) {
            kept.push(address);
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unspecified_addresses_become_the_observed_one() {
        let observed = IpAddr::from([192, 0, 2, 7]);
        let given = ["0.0.0.0:1", "[::]:1", "[::ffff:10.0.0.1]:2", "10.0.0.1:0", "224.0.0.1:9"];
        let given = given.map(|a| a.parse().expect("address")).to_vec();
        let kept = addresses(given, observed).expect("few");
        let expected = ["192.0.2.7:1", "10.0.0.1:2"].map(|a| a.parse().expect("address"));
        assert_eq!(kept, expected);
        let many = vec![([10, 0, 0, 1], 1).into(); 17];
        assert!(addresses(many, observed).is_err());
    }
}
