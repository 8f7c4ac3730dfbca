//! How devices, chats, rooms and the registry stand in the end.

use std::collections::{BTreeMap, BTreeSet};

use peerd_proto::control::{ChatState, SessionState};
use registryd_proto::{PresenceState, Username};

use super::{Violation, forgotten};
use crate::whole::{registry::ELSEWHERE, run::Run};

pub(super) fn check(run: &Run, found: &mut Vec<Violation>) {
    sessions(run, found);
    presence(run, found);
    chats(run, found);
    probe(run, found);
    rooms(run, found);
}

/// A user who has a device that is up is online with one, and only one.
fn sessions(run: &Run, found: &mut Vec<Violation>) {
    // A registry that went back to a backup has forgotten sessions.
    let kept = run.machine.index.rollbacks == 0;
    // A second device was never logged in before its user did that.
    for (node, state) in run.states_healed.iter().enumerate().take(run.users()) {
        let user = run.machine.devices[node].account;
        let left_alone = kept && !run.moved_in_or_out.contains(&user);
        if left_alone && state.is_some_and(|state| state != SessionState::Online) {
            found.push(Violation::Session { user, states: format!("{state:?} by itself") });
        }
    }
    for user in 0..run.users() {
        let own = run.up().filter(|node| run.machine.devices[*node].account == user);
        let states: Vec<Option<SessionState>> =
            own.map(|node| run.looks[node].as_ref().map(|look| look.status.session)).collect();
        let online = states.iter().filter(|s| **s == Some(SessionState::Online)).count();
        let waits = states.contains(&Some(SessionState::Offline)) || states.contains(&None);
        if !states.is_empty() && (online != 1 || waits) {
            found.push(Violation::Session { user, states: format!("{states:?}") });
        }
    }
}

/// Who is here for the registry is who is up, and it is where it says itself.
fn presence(run: &Run, found: &mut Vec<Violation>) {
    for (user, view) in &run.index.users {
        let is_here = run.online(*user).is_some();
        if is_here != (view.presence == PresenceState::Online) {
            found.push(Violation::Presence { user: *user, is_here });
        }
        let told = view.endpoints.peer.iter().chain(&view.endpoints.room);
        if told.into_iter().any(|address| address.ip() == ELSEWHERE.ip()) {
            found.push(Violation::Address { user: *user });
        }
    }
}

fn chats(run: &Run, found: &mut Vec<Violation>) {
    let mut held: BTreeMap<(usize, usize), ChatState> = BTreeMap::new();
    let online: Vec<(usize, usize)> =
        (0..run.users()).filter_map(|user| Some((user, run.online(user)?))).collect();
    for (user, node) in &online {
        let Some(look) = run.looks[*node].as_ref() else { continue };
        for chat in &look.status.chats {
            if let Some(other) = crate::whole::shape::named(&chat.peer) {
                held.insert((*user, other), chat.state);
            }
        }
    }
    let active =
        |user: usize| held.iter().any(|((a, _), state)| *a == user && *state == ChatState::Active);
    for (a, _) in &online {
        for (b, _) in online.iter().filter(|(b, _)| b > a) {
            let states = (held.get(&(*a, *b)).copied(), held.get(&(*b, *a)).copied());
            let agrees = match states {
                (None, None) | (Some(ChatState::Active), Some(ChatState::Active)) => true,
                (Some(ChatState::Interrupted), Some(ChatState::Interrupted)) => {
                    active(*a) || active(*b)
                }
                _ => false,
            };
            if !agrees {
                let states = format!("{states:?}");
                found.push(Violation::ChatDiffers { a: *a, b: *b, states });
            }
        }
    }
}

fn probe(run: &Run, found: &mut Vec<Violation>) {
    let Some((from, to, asked, accepted)) = &run.probe else { return };
    if forgotten::takeover_between(run, *from, *to) {
        return;
    }
    if !matches!((asked, accepted), (Some(Ok(_)), Some(Ok(_)))) {
        let told = format!("{asked:?}, {accepted:?}");
        found.push(Violation::NoChat { from: *from, to: *to, told });
    }
}

/// Members hold the rooms and the lists of members that the registry holds.
fn rooms(run: &Run, found: &mut Vec<Violation>) {
    // A registry that went back to a backup has forgotten changes that members hold: they keep what they
    // have seen, and tell of the difference.
    if run.machine.index.rollbacks > 0 {
        return;
    }
    for (user, names) in &run.index.rooms {
        let Some(look) = run.online(*user).and_then(|node| run.looks[node].as_ref()) else {
            continue;
        };
        let held: BTreeSet<_> = look.rooms.rooms.iter().map(|room| room.room.clone()).collect();
        for room in held.symmetric_difference(names) {
            let differs = format!("held: {}", held.contains(room));
            found.push(Violation::Room { user: *user, room: room.clone(), differs });
        }
        for room in &look.rooms.rooms {
            let Some(truth) = run.index.logs.get(&room.room) else { continue };
            let members: BTreeSet<&Username> = room.members.iter().map(|m| &m.username).collect();
            let truth_members: BTreeSet<&Username> =
                truth.members().map(|member| &member.username).collect();
            if members != truth_members || room.epoch != truth.epoch {
                let differs = format!(
                    "epoch {} of {}, {members:?} of {truth_members:?}",
                    room.epoch, truth.epoch
                );
                found.push(Violation::Room { user: *user, room: room.room.clone(), differs });
            }
        }
    }
}
