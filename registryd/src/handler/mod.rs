//! Requests: who asks is the key of the connection, what is asked has one function here.
//!
//! Each request of an enrolled key is looked up anew, so that a logout or a takeover holds from the next
//! request on, on connections that are open as well. Searches that arrived one behind the other are one
//! look: all of them came before it.

mod account;
mod presence;
mod room;

use std::{
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use registryd_proto::{
    Answer, Code, Endpoints, Failure, PublicKey, Reply, Request, Username, frame::FrameError,
};
use serde::Serialize;

use self::presence::FoundUser;

use crate::{
    error::RequestError,
    limits::Source,
    registry::Registry,
    store::{AccountId, Rule, Standing, StoreError},
};

/// Who asks: a connection.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) registry: &'a Registry,
    /// Proved by the handshake.
    pub(crate) key: PublicKey,
    /// As the registry sees it; never a mapped IPv4 address.
    pub(crate) address: IpAddr,
    /// Whose the key was when it was looked up last: for the limits alone, not for what it may do.
    pub(crate) owner: &'a Owner,
}

/// The account that a connection's requests are counted for before its key is looked up: the one that it had
/// a session of at the last look. A device that lost its session uses up nothing of the account's.
#[derive(Debug, Default)]
pub(crate) struct Owner(Mutex<Option<AccountId>>);

impl Owner {
    fn get(&self) -> Option<AccountId> {
        *self.held()
    }

    fn set(&self, owner: Option<AccountId>) {
        *self.held() = owner;
    }

    fn held(&self) -> MutexGuard<'_, Option<AccountId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer, as it goes out: always an [`Answer`] on the wire.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Said {
    /// The value of a search.
    Found {
        /// Whom it found.
        ok: FoundUser,
    },
    /// Any other.
    Answer(Answer),
}

impl Said {
    /// Why not, if it is no value.
    pub(crate) fn code(&self) -> Option<Code> {
        match self {
            Self::Found { .. } | Self::Answer(Answer::Ok(_)) => None,
            Self::Answer(Answer::Error(failure)) => Some(failure.code),
        }
    }

    /// As a client reads it.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn read(&self) -> Answer {
        let json = serde_json::to_vec(self).expect("an answer is plain JSON");
        serde_json::from_slice(&json).expect("an answer of this protocol")
    }
}

impl From<Failure> for Said {
    fn from(failure: Failure) -> Self {
        Self::Answer(Answer::Error(failure))
    }
}

/// Answers a frame that holds no request. `Err`: this source sends too many, and is to be cut.
pub(crate) fn refuse(caller: Caller<'_>, error: FrameError) -> Result<Failure, Failure> {
    let refused = RequestError::Frame(error).failure();
    match caller.registry.limits.stranger(caller.source()) {
        Ok(()) => Ok(refused),
        Err(limited) => Err(RequestError::from(limited).failure()),
    }
}

/// Answers one request.
pub(crate) async fn answer(caller: Caller<'_>, request: Request) -> Said {
    match handle(caller, request).await {
        Ok(reply) => Said::Answer(Answer::Ok(reply)),
        Err(error) => error.failure().into(),
    }
}

/// Answers searches that came one behind the other: as many answers, in their order.
pub(crate) async fn answer_searches(caller: Caller<'_>, usernames: Vec<Username>) -> Vec<Said> {
    let found = match caller.owner().await {
        Ok(account) => presence::search(caller, account, usernames).await,
        Err(error) => {
            let failure = error.failure();
            usernames.iter().map(|_| Err(failure.clone())).collect()
        }
    };
    found.into_iter().map(|found| found.map_or_else(Said::from, |ok| Said::Found { ok })).collect()
}

async fn handle(caller: Caller<'_>, request: Request) -> Result<Reply, RequestError> {
    match request {
        Request::CreateAccount { username, password, binding, invite } => {
            account::create_account(caller, username, password, binding, invite).await
        }
        Request::Login { username, password, binding, attempt, takeover, endpoints } => {
            let login =
                account::Login { username, password, binding, attempt, takeover, endpoints };
            account::login(caller, login).await
        }
        Request::Resume { attempt, endpoints, serial, epoch } => {
            account::resume(caller, attempt, endpoints, serial, epoch).await
        }
        enrolled => {
            let account = caller.account().await?;
            handle_enrolled(caller, account, enrolled).await
        }
    }
}

async fn handle_enrolled(
    caller: Caller<'_>,
    account: AccountId,
    request: Request,
) -> Result<Reply, RequestError> {
    match request {
        Request::CreateAccount { .. }
        | Request::Login { .. }
        | Request::Resume { .. }
        | Request::Search { .. } => Err(RequestError::NotLoggedIn),
        Request::Logout => account::logout(caller).await,
        Request::ChangePassword { old, new } => {
            account::change_password(caller, account, old, new).await
        }
        Request::DeleteAccount { password } => {
            account::delete_account(caller, account, password).await
        }
        Request::Watch { username } => presence::watch(caller, account, username).await,
        Request::Sync { version } => presence::sync(caller, account, version).await,
        Request::CreateRoom { room, access, password, history } => {
            room::create_room(caller, account, room, access, password, history).await
        }
        Request::JoinRoom { room, password } => {
            room::join_room(caller, account, room, password).await
        }
        Request::ListRooms => room::list_rooms(caller, account).await,
        Request::RoomMembers { room, after_epoch } => {
            room::room_members(caller, account, room, after_epoch).await
        }
        Request::LeaveRoom { room } => room::leave_room(caller, account, room).await,
        Request::Invite { room, username } => room::invite(caller, account, room, username).await,
        Request::Kick { room, username } => room::kick(caller, account, room, username).await,
        Request::SetRole { room, username, role } => {
            room::set_role(caller, account, room, username, role).await
        }
        Request::DeleteRoom { room } => room::delete_room(caller, account, room).await,
    }
}

impl Caller<'_> {
    fn source(&self) -> Source {
        Source::from(self.address)
    }

    /// The account of the connection's key, if it has a session. Counts as one request.
    async fn account(&self) -> Result<AccountId, RequestError> {
        // One who is over the limit does not even get a look.
        let owner = self.owner.get();
        if let Some(owner) = owner {
            self.registry.limits.request(owner)?;
        }
        match self.registry.store.standing(&self.key).await? {
            Standing::Session(account) => {
                if owner != Some(account) {
                    self.owner.set(Some(account));
                    self.registry.limits.request(account)?;
                }
                Ok(account)
            }
            standing => Err(self.turn_away(standing)),
        }
    }

    /// Whose the connection's key is; it had a session at the last look.
    async fn owner(&self) -> Result<AccountId, RequestError> {
        match self.owner.get() {
            Some(owner) => Ok(owner),
            None => self.account().await,
        }
    }

    /// Why a key without a session is answered nothing else. Counts as one request of a stranger, which the
    /// connection is from here on.
    fn turn_away(&self, standing: Standing) -> RequestError {
        self.owner.set(None);
        if let Err(limited) = self.registry.limits.stranger(self.source()) {
            return limited.into();
        }
        match standing {
            Standing::Superseded => StoreError::Rule(Rule::Superseded).into(),
            Standing::Session(_) | Standing::LoggedOut | Standing::Unknown => {
                RequestError::NotLoggedIn
            }
        }
    }

    /// Puts what the registry sees in the place of unspecified addresses, and drops what nobody can dial.
    fn seen(&self, endpoints: Endpoints) -> Result<Endpoints, RequestError> {
        Ok(Endpoints {
            peer: account::addresses(endpoints.peer, self.address)?,
            room: account::addresses(endpoints.room, self.address)?,
        })
    }
}
