//! What was sent and what became of it, as its author was told.

use std::collections::{HashMap, HashSet, hash_map::Entry};

use super::Key;
use crate::{
    record::{Body, Conversation, Count, Outcome, Record, State},
    violation::Violation,
};

/// A state that was told, and where in the history.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) state: State,
    pub(super) place: usize,
    at_ms: u64,
}

/// One message.
#[derive(Debug)]
pub(super) struct Message<'a> {
    /// The texts that calls gave which were not refused: one, unless callers or peerd err.
    pub(super) bodies: Vec<Body>,
    /// Where the first call stands.
    pub(super) invoked: usize,
    /// Where it was first told as queued or better.
    pub(super) accepted: Option<usize>,
    pub(super) end: Option<Told>,
    pub(super) most: Option<(Count, usize)>,
    pub(super) counts: Vec<Count>,
    pub(super) epoch: Option<u64>,
    pub(super) epoch_at_least: Option<u64>,
    /// Who was shown it, as final readings tell.
    pub(super) shown_to: Vec<&'a str>,
}

#[derive(Debug)]
struct Call<'a> {
    key: Key<'a>,
    body: Body,
    place: usize,
    told: bool,
}

/// All messages, and what is excused.
#[derive(Debug, Default)]
pub(super) struct Book<'a> {
    pub(super) messages: HashMap<Key<'a>, Message<'a>>,
    /// Where each user's last way back to a backup stands.
    pub(super) restored: HashMap<&'a str, usize>,
    may_wait: HashSet<Key<'a>>,
    all_may_wait: HashSet<(&'a str, &'a Conversation)>,
}

impl<'a> Book<'a> {
    /// Reads calls, answers and looks; finds answers without calls and states taken back.
    pub(super) fn of(records: &'a [Record], found: &mut Vec<Violation>) -> Self {
        let mut book = Self::default();
        let mut calls = HashMap::new();
        for (place, record) in records.iter().enumerate() {
            match record {
                Record::Invoked { op, .. } => {
                    let call = book.invoked(record, place);
                    if let (Some(call), Entry::Vacant(slot)) = (call, calls.entry(*op)) {
                        slot.insert(call);
                    } else {
                        found.push(Violation::NoSuchCall { op: *op });
                    }
                }
                Record::Told { op, outcome, epoch, at_ms } => match calls.get_mut(op) {
                    None => found.push(Violation::NoSuchCall { op: *op }),
                    Some(call) if call.told => found.push(Violation::ToldTwice { op: *op }),
                    Some(call) => {
                        call.told = true;
                        book.told(call, outcome, *epoch, (place, *at_ms), found);
                    }
                },
                Record::Looked { since_ms, at_ms, who, to, id, state } => {
                    let key = Key::new(who, to, id);
                    let since = |told: &Told| told.at_ms < *since_ms;
                    book.state(key, state, (place, *at_ms), since, found);
                }
                Record::Restored { who, .. } => {
                    book.restored.insert(who, place);
                }
                Record::MayWait { who, to, id: Some(id) } => {
                    book.may_wait.insert(Key::new(who, to, id));
                }
                Record::MayWait { who, to, id: None } => {
                    book.all_may_wait.insert((who, to));
                }
                _ => {}
            }
        }
        // A call without an answer may have happened.
        for call in calls.values().filter(|call| !call.told) {
            book.may_have_happened(call);
        }
        book
    }

    /// Whether a message may wait in the end.
    pub(super) fn may_wait(&self, key: &Key<'a>) -> bool {
        self.may_wait.contains(key) || self.all_may_wait.contains(&(key.author, key.conversation))
    }

    fn invoked(&mut self, record: &'a Record, place: usize) -> Option<Call<'a>> {
        let Record::Invoked { who, to, id, body, epoch_at_least, .. } = record else {
            return None;
        };
        let key = Key::new(who, to, id);
        self.messages.entry(key).or_insert_with(|| Message {
            bodies: Vec::new(),
            invoked: place,
            accepted: None,
            end: None,
            most: None,
            counts: Vec::new(),
            epoch: None,
            epoch_at_least: *epoch_at_least,
            shown_to: Vec::new(),
        });
        Some(Call { key, body: *body, place, told: false })
    }

    fn may_have_happened(&mut self, call: &Call<'a>) {
        if let Some(message) = self.messages.get_mut(&call.key)
            && !message.bodies.contains(&call.body)
        {
            message.bodies.push(call.body);
        }
    }

    fn told(
        &mut self,
        call: &Call<'a>,
        outcome: &Outcome,
        epoch: Option<u64>,
        now: (usize, u64),
        found: &mut Vec<Violation>,
    ) {
        if matches!(outcome, Outcome::Refused(_)) {
            return;
        }
        self.may_have_happened(call);
        let (state, count) = match outcome {
            Outcome::Queued(count) => (State::Queued, Some(*count)),
            Outcome::Delivered(count) => (State::Delivered, Some(*count)),
            Outcome::Expired => (State::Expired, None),
            Outcome::Rejected => (State::Rejected, None),
            Outcome::Failed(code) => (State::Failed(code.clone()), None),
            Outcome::Refused(_) | Outcome::TimedOut | Outcome::Crashed => return,
        };
        if let Some(message) = self.messages.get_mut(&call.key) {
            message.epoch = message.epoch.or(epoch);
            if let Some(count) = count {
                message.counted(&call.key, count, (call.place, now.0), found);
            }
        }
        self.state(call.key, &state, now, |told| told.place < call.place, found);
    }

    /// Notes a state; one that contradicts what was told before the call or look began is a violation, and
    /// so are two different final ones in any order.
    pub(super) fn state(
        &mut self,
        key: Key<'a>,
        state: &State,
        (place, at_ms): (usize, u64),
        told_before: impl Fn(&Told) -> bool,
        found: &mut Vec<Violation>,
    ) {
        let restored = self.restored.get(key.author).copied();
        let Some(message) = self.messages.get_mut(&key) else { return };
        if matches!(state, State::Queued | State::Delivered) {
            message.accepted.get_or_insert(place);
        }
        match &message.end {
            Some(end) if restored.is_some_and(|at| end.place < at) => {
                message.end = state.is_final().then(|| Told { state: state.clone(), place, at_ms });
            }
            Some(end) if end.state != *state && (state.is_final() || told_before(end)) => {
                found.push(Violation::Backwards {
                    message: key.owned(),
                    was: end.state.clone(),
                    is: state.clone(),
                });
            }
            Some(_) => {}
            None if state.is_final() => {
                message.end = Some(Told { state: state.clone(), place, at_ms });
            }
            None => {}
        }
    }
}

impl Message<'_> {
    /// Whether its author was told that all have it.
    pub(super) fn is_delivered(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.state == State::Delivered)
    }

    /// The final state in which it is given up.
    pub(super) fn given_up(&self) -> Option<&State> {
        self.end.as_ref().map(|end| &end.state).filter(|state| **state != State::Delivered)
    }

    fn counted(
        &mut self,
        key: &Key<'_>,
        is: Count,
        (invoked, place): (usize, usize),
        found: &mut Vec<Violation>,
    ) {
        if let Some((was, since)) = self.most
            && since < invoked
            && was.n == is.n
            && was.k > is.k
        {
            found.push(Violation::CountBackwards { message: key.owned(), was, is });
        }
        if self.most.is_none_or(|(was, _)| is.k > was.k) {
            self.most = Some((is, place));
        }
        // Only what differs needs to be judged, and callers see few counts of one message.
        if !self.counts.contains(&is) {
            self.counts.push(is);
        }
    }
}
