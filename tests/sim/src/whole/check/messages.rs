//! What becomes of messages: P1 to P7.

use std::collections::{BTreeMap, BTreeSet};

use peerd::core::{Answer, durable::Outgoing};
use peerd_proto::{
    control::{EventKind, MessageState},
    wire::{Context, MessageId},
};
use registryd_proto::{Code, HistoryAccess, PublicKey, Room};

use super::{Violation, forgotten};
use crate::whole::{
    run::{Place, Run, Said},
    shape::named,
};

/// Where messages were shown: device and id.
type Shown = BTreeSet<(usize, MessageId)>;

pub(super) fn check(run: &Run, found: &mut Vec<Violation>) {
    let by_id: BTreeMap<&MessageId, &Said> = run.said.iter().map(|said| (&said.id, said)).collect();
    let mut shown = Shown::new();
    for at in 0..run.machine.devices.len() {
        read_log(run, at, &by_id, &mut shown, found);
    }
    for said in &run.said {
        match &said.to {
            Place::User(user) => direct(run, said, *user, &shown, found),
            Place::Room(_) => in_room(run, said, &shown, found),
        }
    }
    pending(run, &by_id, found);
}

/// How many messages were accepted, and how many shown in all.
pub(super) fn count(run: &Run) -> (u64, u64) {
    let accepted = run.said.iter().filter(|said| was_accepted(run, said)).count();
    let events = run.machine.devices.iter().flat_map(|device| device.disk.events());
    let shown = events.filter(|event| matches!(event.kind, EventKind::Message { .. })).count();
    (accepted as u64, shown as u64)
}

/// P2, P3, P4 by one device's event log.
fn read_log(
    run: &Run,
    at: usize,
    by_id: &BTreeMap<&MessageId, &Said>,
    shown: &mut Shown,
    found: &mut Vec<Violation>,
) {
    let device = &run.machine.devices[at];
    let mut newest: BTreeMap<(usize, Option<String>), u64> = BTreeMap::new();
    for event in device.disk.events() {
        let EventKind::Message { from, room, id, body, .. } = &event.kind else { continue };
        let said = by_id.get(id).filter(|said| {
            let author = run.machine.devices[said.author].account;
            let to = match &said.to {
                Place::User(user) => room.is_none() && *user == device.account,
                Place::Room(name) => room.as_ref() == Some(name),
            };
            said.text == *body && to && named(from) == Some(author)
        });
        let Some(said) = said else {
            found.push(Violation::Forged { at, id: id.clone() });
            continue;
        };
        if !shown.insert((at, id.clone())) {
            found.push(Violation::ShownTwice { at, id: id.clone() });
        }
        let place = (said.author, room.as_ref().map(ToString::to_string));
        let number = number(id);
        let newest = newest.entry(place).or_insert(0);
        let last = *newest;
        if said.commands.len() == 1 {
            *newest = number;
        }
        // A call that was refused, and then repeated, counts from when it was repeated.
        let once = said.commands.len() == 1;
        if once && number < last && run.machine.devices[said.author].rollbacks == 0 {
            found.push(Violation::Order { at, id: id.clone() });
        }
    }
}

/// Ids grow with each message of a run.
fn number(id: &MessageId) -> u64 {
    id.as_str().split_once('-').and_then(|(_, n)| n.parse::<u64>().ok()).map_or(0, |n| n + 1)
}

/// What a message's author says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// No row: never accepted, or lost with the disk.
    Unknown,
    Queued,
    Delivered,
    /// Given up.
    Over,
}

fn fate(run: &Run, said: &Said) -> Fate {
    let rows = run.machine.devices[said.author].disk.outgoing();
    let rows: Vec<&Outgoing> = rows.filter(|row| row.id == said.id).collect();
    let any = |state| rows.iter().any(|row| row.state == state);
    match () {
        () if rows.is_empty() => Fate::Unknown,
        () if any(MessageState::Delivered) => Fate::Delivered,
        () if any(MessageState::Queued) => Fate::Queued,
        () => Fate::Over,
    }
}

/// Whether a call said that the message is on its author's disk.
fn was_accepted(run: &Run, said: &Said) -> bool {
    said.commands.iter().filter_map(|command| run.machine.told.get(command)?.first()).any(|told| {
        match told {
            Ok(_) => true,
            Err(failure) => failure.details.as_ref().is_some_and(|d| d["state"] == "queued"),
        }
    })
}

fn was_told_delivered(run: &Run, said: &Said) -> bool {
    said.commands
        .iter()
        .filter_map(|command| run.machine.told.get(command)?.first())
        .any(|told| matches!(told, Ok(Answer::Sent(sent)) if sent.state == MessageState::Delivered))
}

/// Whether every call said no before anything was written.
fn was_refused(run: &Run, said: &Said) -> bool {
    said.commands.iter().all(|command| {
        let told = run.machine.told.get(command).and_then(|told| told.first());
        told.is_some_and(|told| match told {
            Ok(_) => false,
            Err(failure) => {
                let waited = matches!(failure.code, Code::TimedOut | Code::Partial);
                failure.details.is_none() && !waited
            }
        })
    })
}

fn direct(run: &Run, said: &Said, user: usize, shown: &Shown, found: &mut Vec<Violation>) {
    let (author, id) = (said.author, &said.id);
    let devices = &run.machine.devices;
    let own = |at: &usize| devices[*at].account == user;
    let at: Vec<usize> = (0..devices.len()).filter(own).collect();
    let holder = at.iter().copied().find(|at| shown.contains(&(*at, id.clone())));
    // What a disk that went back held is not known.
    let lost_disk = at.iter().any(|at| devices[*at].rollbacks > 0);
    let fate = fate(run, said);
    if let (Some(at), true) = (holder, was_refused(run, said)) {
        found.push(Violation::GivenUpButShown { at, id: id.clone() });
    }
    match (fate, holder) {
        (Fate::Over, Some(at)) if devices[author].rollbacks == 0 => {
            found.push(Violation::GivenUpButShown { at, id: id.clone() });
        }
        (Fate::Delivered, None) if !lost_disk => {
            let id = id.clone();
            found.push(Violation::FalseDelivered { author, user, id });
        }
        (Fate::Unknown, None) if was_accepted(run, said) && devices[author].rollbacks == 0 => {
            let id = id.clone();
            found.push(Violation::Lost { author, user, id });
        }
        _ => {}
    }
    if was_told_delivered(run, said) && holder.is_none() && !lost_disk {
        let id = id.clone();
        found.push(Violation::FalseDelivered { author, user, id });
    }
}

/// P6: what waits at the user's device in the end waits for somebody who is not here.
fn pending(run: &Run, by_id: &BTreeMap<&MessageId, &Said>, found: &mut Vec<Violation>) {
    for account in 0..run.users() {
        let Some(author) = run.online(account) else { continue };
        let Some(look) = run.looks[author].as_ref() else { continue };
        let queued = look.outbox.messages.iter().filter(|m| m.state == MessageState::Queued);
        for message in queued {
            let all_here = match by_id.get(&message.id).map(|said| &said.to) {
                Some(Place::User(user)) => run
                    .online(*user)
                    .is_some_and(|other| !forgotten::takeover_between(run, author, other)),
                // In a room that its author has left, nothing waits.
                Some(Place::Room(room)) if !look.status.rooms.contains(room) => true,
                Some(Place::Room(room)) if forgotten::room(run, room) => false,
                Some(Place::Room(_)) => (0..run.users()).all(|user| run.online(user).is_some()),
                None => true,
            };
            if all_here {
                found.push(Violation::Pending { author, id: message.id.clone() });
            }
        }
    }
}

/// The epoch of a room message, by any disk that has it.
fn epoch(run: &Run, said: &Said) -> Option<(PublicKey, u64)> {
    let entries = run.machine.devices.iter().flat_map(|device| device.disk.streams());
    entries
        .flat_map(|(_, entries)| entries.values())
        .map(|stored| stored.entry.header())
        .find(|header| header.id == said.id)
        .and_then(|header| match header.context {
            Context::Room { epoch } => Some((header.author, epoch)),
            Context::Direct { .. } => None,
        })
}

fn in_room(run: &Run, said: &Said, shown: &Shown, found: &mut Vec<Violation>) {
    let Place::Room(name) = &said.to else { return };
    // A room that was deleted, or made anew under its name, has no log to judge by.
    if run.rooms_made || run.machine.index.rollbacks > 0 {
        return;
    }
    let Some(room) = run.index.logs.get(name) else { return };
    let Some((author_key, epoch)) = epoch(run, said) else {
        if was_accepted(run, said) && run.machine.devices[said.author].rollbacks == 0 {
            let (author, user, id) = (said.author, said.author, said.id.clone());
            found.push(Violation::Lost { author, user, id });
        }
        return;
    };
    let author_stayed = stayed(room, &author_key, epoch)
        && run.online(run.machine.devices[said.author].account) == Some(said.author)
        && run.machine.devices[said.author].rollbacks == 0;
    let mut has = None;
    let mut lacks = Vec::new();
    for user in (0..run.users()).filter(|u| *u != run.machine.devices[said.author].account) {
        let Some(at) = run.online(user) else { continue };
        let key = run.machine.devices[at].keys.peer.public();
        let is_shown = shown.contains(&(at, said.id.clone()));
        if is_shown && !room.was_member(&key, epoch) && room.history != HistoryAccess::All {
            found.push(Violation::Leaked { at, id: said.id.clone() });
        }
        if is_shown && stayed(room, &key, epoch) {
            has = Some(user);
        } else if !is_shown && stayed(room, &key, epoch) {
            lacks.push((user, run.machine.devices[at].rollbacks));
        }
    }
    let told = was_told_delivered(run, said);
    for (user, rollbacks) in lacks {
        let (author, id) = (said.author, said.id.clone());
        match has {
            // While a member is gone, nobody knows yet that a cancelled message is over.
            _ if said.cancelled && run.gone.is_some() => {}
            _ if author_stayed && fate(run, said) != Fate::Over => {
                found.push(Violation::Lost { author, user, id });
            }
            // What was cancelled goes to nobody more.
            Some(_) if said.cancelled => {}
            Some(has) => found.push(Violation::HalfSent { has, lacks: user, id }),
            None if told && rollbacks == 0 => {
                found.push(Violation::FalseDelivered { author, user, id });
            }
            None => {}
        }
    }
}

/// A member from an epoch on to the newest.
fn stayed(room: &Room, key: &PublicKey, epoch: u64) -> bool {
    (epoch..=room.epoch).all(|epoch| room.was_member(key, epoch))
}
