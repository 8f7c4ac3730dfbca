//! Who was in which room when.

use std::collections::{HashMap, HashSet};

use super::Key;
use crate::{
    record::{Conversation, Record},
    violation::Violation,
};

/// The epochs at which a message may have been written: from the first to the last, as places in a room's
/// list of epochs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    first: usize,
    last: usize,
}

#[derive(Debug)]
struct Epoch<'a> {
    number: u64,
    members: HashSet<&'a str>,
    /// Who is in this epoch and in all that follow.
    staying: Vec<&'a str>,
}

#[derive(Debug, Default)]
struct Room<'a> {
    epochs: Vec<Epoch<'a>>,
    history_for_all: bool,
    last_epoch_of: HashMap<&'a str, usize>,
    last_epoch_with: HashMap<usize, usize>,
}

/// All rooms of a history.
#[derive(Debug, Default)]
pub(super) struct Rooms<'a> {
    rooms: HashMap<&'a str, Room<'a>>,
}

impl<'a> Rooms<'a> {
    /// Reads the membership; finds epochs that go back, and rooms of which nothing is told.
    pub(super) fn of(records: &'a [Record], found: &mut Vec<Violation>) -> Self {
        let mut rooms = Self::default();
        for record in records {
            let Record::Epoch { room, epoch, members, history_for_all, .. } = record else {
                continue;
            };
            let known = rooms.rooms.entry(room).or_default();
            if known.epochs.last().is_some_and(|last| last.number >= *epoch) {
                found.push(Violation::EpochBack { room: room.clone(), epoch: *epoch });
                continue;
            }
            known.add(*epoch, members, *history_for_all);
        }
        rooms.rooms.values_mut().for_each(Room::find_who_stays);
        rooms.find_nameless(records, found);
        rooms
    }

    fn find_nameless(&self, records: &[Record], found: &mut Vec<Violation>) {
        let mut told = HashSet::new();
        for record in records {
            let Record::Invoked { to: Conversation::Room(room), .. } = record else { continue };
            if !self.rooms.contains_key(room.as_str()) && told.insert(room) {
                found.push(Violation::NoMembers { room: room.clone() });
            }
        }
    }

    /// The epochs that a message may have: the known one, or all from `at_least` on. `None` in a 1:1
    /// conversation, and in a room of which nothing is told.
    pub(super) fn span(
        &self,
        conversation: &Conversation,
        known: Option<u64>,
        at_least: Option<u64>,
    ) -> Option<Span> {
        let Conversation::Room(name) = conversation else { return None };
        let epochs = &self.rooms.get(name.as_str())?.epochs;
        let end = epochs.len() - 1;
        // Of an epoch that no record tells, the one before it is the best guess.
        let place = |number: u64| epochs.partition_point(|e| e.number <= number).saturating_sub(1);
        match known {
            Some(number) => Some(Span { first: place(number), last: place(number) }),
            None => Some(Span { first: at_least.map_or(0, place), last: end }),
        }
    }

    /// Who has to have a message in the end, if it is up: who was a recipient at every epoch that it may
    /// have, and never left.
    pub(super) fn recipients(&self, key: &Key<'a>, span: Option<Span>) -> Vec<&'a str> {
        match key.conversation {
            Conversation::Direct(low, high) => {
                let both = [low.as_str(), high.as_str()];
                both.into_iter().filter(|name| *name != key.author).collect()
            }
            Conversation::Room(name) => {
                let room = span.and_then(|s| Some((s, self.rooms.get(name.as_str())?)));
                room.map_or_else(Vec::new, |(span, room)| {
                    let staying = &room.epochs[span.first].staying;
                    staying.iter().copied().filter(|name| *name != key.author).collect()
                })
            }
        }
    }

    /// Who may have a message: at most so many besides its author, for `k`.
    pub(super) fn recipients_at_most(&self, key: &Key<'a>, span: Option<Span>) -> Vec<&'a str> {
        let (Conversation::Room(name), Some(span)) = (key.conversation, span) else {
            return self.recipients(key, span);
        };
        let Some(room) = self.rooms.get(name.as_str()) else { return Vec::new() };
        if span.first == span.last {
            let members = room.epochs[span.first].members.iter().copied();
            return members.filter(|name| *name != key.author).collect();
        }
        let late_enough = room.last_epoch_of.iter().filter(|(_, last)| **last >= span.first);
        late_enough.map(|(name, _)| *name).filter(|name| *name != key.author).collect()
    }

    /// Whether `n` recipients is a number that the message can have.
    pub(super) fn total_is_possible(&self, key: &Key<'_>, span: Option<Span>, n: u32) -> bool {
        let Conversation::Room(name) = key.conversation else { return n == 1 };
        let (Some(span), Some(room)) = (span, self.rooms.get(name.as_str())) else { return true };
        let members = n as usize + 1;
        if span.first == span.last {
            return room.epochs[span.first].members.len() == members;
        }
        room.last_epoch_with.get(&members).is_some_and(|last| *last >= span.first)
    }

    /// Whether somebody may have the message's body, or may have written it.
    pub(super) fn may_have(&self, key: &Key<'_>, span: Option<Span>, who: &str) -> bool {
        match key.conversation {
            Conversation::Direct(low, high) => who == low || who == high,
            Conversation::Room(name) => {
                let (Some(span), Some(room)) = (span, self.rooms.get(name.as_str())) else {
                    return true;
                };
                if span.first == span.last && !room.history_for_all {
                    return room.epochs[span.first].members.contains(who);
                }
                room.last_epoch_of.get(who).is_some_and(|last| *last >= span.first)
            }
        }
    }

    /// Who is in a conversation in the end.
    pub(super) fn members_now(&self, conversation: &'a Conversation) -> Vec<&'a str> {
        match conversation {
            Conversation::Direct(low, high) => vec![low, high],
            Conversation::Room(name) => {
                let epoch = self.rooms.get(name.as_str()).and_then(|room| room.epochs.last());
                epoch.map_or_else(Vec::new, |epoch| epoch.staying.clone())
            }
        }
    }
}

impl<'a> Room<'a> {
    fn add(&mut self, number: u64, members: &'a [String], history_for_all: bool) {
        let at = self.epochs.len();
        let members: HashSet<&str> = members.iter().map(String::as_str).collect();
        for name in &members {
            self.last_epoch_of.insert(name, at);
        }
        self.last_epoch_with.insert(members.len(), at);
        self.history_for_all |= history_for_all;
        self.epochs.push(Epoch { number, members, staying: Vec::new() });
    }

    fn find_who_stays(&mut self) {
        let mut stay: Option<HashSet<&str>> = None;
        for epoch in self.epochs.iter_mut().rev() {
            let staying: HashSet<&str> = match &stay {
                Some(later) => epoch.members.intersection(later).copied().collect(),
                None => epoch.members.clone(),
            };
            epoch.staying = staying.iter().copied().collect();
            epoch.staying.sort_unstable();
            stay = Some(staying);
        }
    }
}
