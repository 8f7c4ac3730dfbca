//! Rooms: list, show, delete.

use registryd_proto::RoomName;

use super::{
    answer::{MemberItem, Room, RoomItem, RoomState, Rooms},
    error::AdminError,
    request::Page,
    users::seen,
};
use crate::{
    registry::Registry,
    store::{RoomDetails, RoomSummary},
};

pub(super) async fn list(registry: &Registry, page: &Page<RoomName>) -> Result<Rooms, AdminError> {
    let mut rows = registry.store.room_summaries(page.after.as_ref(), page.rows_max()).await?;
    let next = page.cut(&mut rows, |row| row.name.clone());
    Ok(Rooms { rooms: rows.into_iter().map(item).collect(), next })
}

pub(super) async fn show(registry: &Registry, name: &RoomName) -> Result<Room, AdminError> {
    let details = registry.store.room_details(name).await?;
    Ok(room(registry, details, RoomState::Active))
}

pub(super) async fn delete(registry: &Registry, name: &RoomName) -> Result<Room, AdminError> {
    let (was, bumped) = registry.store.remove_room(name, registry.unix_ms()).await?;
    registry.announce(&bumped);
    tracing::info!(room = %name, "the operator deleted a room");
    Ok(room(registry, was, RoomState::Deleted))
}

fn item(row: RoomSummary) -> RoomItem {
    RoomItem {
        room: row.name,
        owner: row.owner,
        access: row.access,
        member_count: row.members,
        epoch: row.epoch,
    }
}

fn room(registry: &Registry, details: RoomDetails, state: RoomState) -> Room {
    let members = details.members.into_iter().map(|(account, username, role)| MemberItem {
        username,
        role,
        presence: seen(registry, account).0,
    });
    Room {
        members: members.collect(),
        item: item(details.summary),
        state,
        id: details.id,
        history: details.history,
    }
}
