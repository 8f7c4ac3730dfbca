//! What a registry that went back to a backup has forgotten, and users remember: README says what is expected
//! then.

use std::collections::BTreeSet;

use registryd_proto::{Card, RoomId, RoomName};

use crate::whole::{run::Run, shape};

/// Whether the registry went back to a backup and has forgotten records of a room that somebody online keeps:
/// who is a member is not agreed on then, and the room has to be made anew. Who is merely behind the registry
/// keeps nothing that it has forgotten, and is expected to catch up.
pub(super) fn room(run: &Run, name: &RoomName) -> bool {
    if run.machine.index.rollbacks == 0 {
        return false;
    }
    let registry = run.machine.index.key();
    let known = run.index.logs.get(name);
    (0..run.users()).filter_map(|user| run.online(user)).any(|node| {
        let kept = run.machine.devices[node].disk.snapshot();
        // Who has left it may be a member again for the registry.
        let is_known = |id| known.is_some_and(|room| room.id == id);
        let held = kept.rooms.iter().filter(|row| row.name == *name);
        let held = held.filter(|row| row.joined || is_known(row.id));
        let ids: BTreeSet<RoomId> = held.map(|row| row.id).collect();
        let mut records = kept.membership.iter().filter(|(id, _)| ids.contains(id));
        records.any(|(_, record)| {
            // A record that it has as well changes nothing.
            known.is_none_or(|room| !matches!(room.clone().apply(record, &registry), Ok(false)))
        })
    })
}

/// Whether one of two devices has seen a newer card of the other's user than the other has ever had: another
/// device took over, the registry has forgotten it, and the first one never heard of it. It is refused until
/// its user logs in at the other device, and then there again.
pub(super) fn takeover_between(run: &Run, a: usize, b: usize) -> bool {
    run.machine.index.rollbacks > 0 && (is_behind(run, a, b) || is_behind(run, b, a))
}

/// Whether `seer` has seen a newer card of the user of `node` than `node` has.
fn is_behind(run: &Run, seer: usize, node: usize) -> bool {
    let devices = &run.machine.devices;
    let registry = run.machine.index.key();
    let name = shape::name(devices[node].account);
    let own = devices[node].disk.snapshot().profile.map_or(0, |profile| profile.serial);
    let seen = devices[seer].disk.snapshot().contacts.into_iter().filter(|c| c.username == name);
    // A registry that knows the takeover has forgotten nothing.
    let view = run.index.users.get(&devices[node].account);
    let known =
        view.and_then(|view| Card::open(&view.card, &registry).ok()).map_or(0, |c| c.serial);
    seen.flat_map(|contact| {
        let shown = contact.untrusted.and_then(|card| Card::open(&card, &registry).ok());
        [Some(contact.serial), shown.map(|card| card.serial)]
    })
    .flatten()
    .any(|serial| serial > own && serial > known)
}
