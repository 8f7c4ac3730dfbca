//! Rooms: create, join, leave, list, members, and moderation. The rules of roles are the store's.

use registryd_proto::{
    Access, HistoryAccess, Password, Reply, Role, RoomMember, RoomName, RoomView, Username,
};

use super::{Caller, presence};
use crate::{
    error::{Invalid, RequestError},
    store::{self, AccountId, Change, NewRoom, RoomState},
};

pub(super) async fn create_room(
    caller: Caller<'_>,
    account: AccountId,
    name: RoomName,
    access: Access,
    password: Option<Password>,
    history: HistoryAccess,
) -> Result<Reply, RequestError> {
    let registry = caller.registry;
    registry.limits.room_change(account)?;
    let password_hash = match (access, password) {
        (Access::Password, Some(password)) => {
            registry.limits.own_password(account)?;
            registry.passwords.hash(password).await?
        }
        (Access::Password, None) => return Err(Invalid::RoomPasswordMissing.into()),
        (Access::Open | Access::Invite, Some(_)) => {
            return Err(Invalid::RoomPasswordUseless.into());
        }
        (Access::Open | Access::Invite, None) => String::new(),
    };
    let new = NewRoom { owner: account, name, access, history, password_hash };
    let (state, bumped) = registry.store.create_room(new, registry.unix_ms()).await?;
    registry.announce(&bumped);
    Ok(Reply::Room(view(caller, state)))
}

pub(super) async fn join_room(
    caller: Caller<'_>,
    account: AccountId,
    name: RoomName,
    password: Option<Password>,
) -> Result<Reply, RequestError> {
    let registry = caller.registry;
    let key = registry.store.room_key(&name, account).await?;
    if !key.joined {
        registry.limits.room_change(account)?;
    }
    if key.access == Access::Password && !key.joined {
        registry.limits.own_password(account)?;
        let password = password.ok_or(RequestError::WrongRoomPassword)?;
        if !registry.passwords.verify(Some(key.password_hash), password).await? {
            return Err(RequestError::WrongRoomPassword);
        }
    }
    let (state, bumped) =
        registry.store.join_room(&name, key.id, account, registry.unix_ms()).await?;
    registry.announce(&bumped);
    Ok(Reply::Room(view(caller, state)))
}

pub(super) async fn list_rooms(
    caller: Caller<'_>,
    account: AccountId,
) -> Result<Reply, RequestError> {
    let (rooms, _) = caller.registry.store.rooms(account).await?;
    Ok(Reply::Rooms { rooms })
}

pub(super) async fn room_members(
    caller: Caller<'_>,
    account: AccountId,
    name: RoomName,
    after_epoch: u64,
) -> Result<Reply, RequestError> {
    let state = caller.registry.store.room(&name, account, after_epoch).await?;
    Ok(Reply::Room(view(caller, state)))
}

pub(super) async fn leave_room(
    caller: Caller<'_>,
    account: AccountId,
    name: RoomName,
) -> Result<Reply, RequestError> {
    change(caller, account, name, Change::Leave).await
}

pub(super) async fn invite(
    caller: Caller<'_>,
    account: AccountId,
    name: RoomName,
    username: Username,
) -> Result<Reply, RequestError> {
    change(caller, account, name, Change::Invite(username)).await
}

pub(super) async fn kick(
    caller: Caller<'_>,
    account: AccountId,
    name: RoomName,
    username: Username,
) -> Result<Reply, RequestError> {
    change(caller, account, name, Change::Kick(username)).await
}

pub(super) async fn set_role(
    caller: Caller<'_>,
    account: AccountId,
    name: RoomName,
    username: Username,
    role: Role,
) -> Result<Reply, RequestError> {
    change(caller, account, name, Change::SetRole(username, role)).await
}

pub(super) async fn delete_room(
    caller: Caller<'_>,
    account: AccountId,
    name: RoomName,
) -> Result<Reply, RequestError> {
    change(caller, account, name, Change::Delete).await
}

async fn change(
    caller: Caller<'_>,
    account: AccountId,
    name: RoomName,
    wish: Change,
) -> Result<Reply, RequestError> {
    let registry = caller.registry;
    registry.limits.room_change(account)?;
    let bumped = registry.store.change_room(&name, account, wish, registry.unix_ms()).await?;
    registry.announce(&bumped);
    Ok(Reply::Done)
}

fn view(caller: Caller<'_>, state: RoomState) -> RoomView {
    let members = state.members.into_iter().map(|(profile, role)| RoomMember {
        member: store::member(&profile, role),
        presence: presence::told(presence::status(caller, profile.account)).0,
        addresses: presence::endpoints(caller, profile.account, profile.endpoints).room,
    });
    RoomView {
        members: members.collect(),
        id: state.id,
        room: state.name,
        epoch: state.epoch,
        log: state.log,
    }
}
