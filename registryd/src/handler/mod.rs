//! Requests: who asks is the key of the connection, what is asked has one function here.
//!
//! Each request of an enrolled key is looked up anew, so that a logout or a takeover holds from the next
//! request on, on connections that are open as well.

mod account;
mod presence;
mod room;

use std::net::IpAddr;

use registryd_proto::{Answer, Endpoints, Failure, PublicKey, Reply, Request, frame::FrameError};

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
}

/// Answers a frame that holds no request. `Err`: this source sends too many, and is to be cut.
pub(crate) fn refuse(caller: Caller<'_>, error: FrameError) -> Result<Answer, Failure> {
    let refused = Answer::Error(RequestError::Frame(error).failure());
    match caller.registry.limits.stranger(caller.source()) {
        Ok(()) => Ok(refused),
        Err(limited) => Err(RequestError::from(limited).failure()),
    }
}

/// Answers one request.
pub(crate) async fn answer(caller: Caller<'_>, request: Request) -> Answer {
    match handle(caller, request).await {
        Ok(reply) => Answer::Ok(reply),
        Err(error) => Answer::Error(error.failure()),
    }
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
        Request::CreateAccount { .. } | Request::Login { .. } | Request::Resume { .. } => {
            Err(RequestError::NotLoggedIn)
        }
        Request::Logout => account::logout(caller).await,
        Request::ChangePassword { old, new } => {
            account::change_password(caller, account, old, new).await
        }
        Request::DeleteAccount { password } => {
            account::delete_account(caller, account, password).await
        }
        Request::Search { username } => presence::search(caller, account, username).await,
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

    /// The account of the connection's key, if it has a session.
    async fn account(&self) -> Result<AccountId, RequestError> {
        let refusal = match self.registry.store.standing(&self.key).await? {
            Standing::Session(account) => {
                self.registry.limits.request(account)?;
                return Ok(account);
            }
            Standing::Superseded => StoreError::Rule(Rule::Superseded).into(),
            Standing::LoggedOut | Standing::Unknown => RequestError::NotLoggedIn,
        };
        self.registry.limits.stranger(self.source())?;
        Err(refusal)
    }

    /// Puts what the registry sees in the place of unspecified addresses, and drops what nobody can dial.
    fn seen(&self, endpoints: Endpoints) -> Result<Endpoints, RequestError> {
        Ok(Endpoints {
            peer: account::addresses(endpoints.peer, self.address)?,
            room: account::addresses(endpoints.room, self.address)?,
        })
    }
}
