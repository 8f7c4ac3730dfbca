//! Event logs: numbers, what was shown, to whom, and in which order.

use std::collections::{HashMap, hash_map::Entry};

use super::{Key, book::Book, rooms::Rooms};
use crate::{
    record::{Body, Conversation, Reading, Record, Seen, State},
    violation::Violation,
};

/// An author's messages in one conversation.
type Stream<'a> = (&'a str, &'a Conversation);

/// Judges all readings, and notes in the book who was shown what in the end.
pub(super) fn check<'a>(
    records: &'a [Record],
    rooms: &Rooms<'a>,
    book: &mut Book<'a>,
    found: &mut Vec<Violation>,
) {
    numbers(records, book, found);
    let ranks = ranks(records);
    let mut shown = Shown { rooms, ranks, events: HashMap::new(), newest: HashMap::new() };
    for (place, record) in records.iter().enumerate() {
        let Record::Saw { at_ms, who, reading, n, what } = record else { continue };
        let event = Event { who, reading: *reading, n: *n, place };
        match what {
            Seen::Message { from, conversation, id, body } => {
                shown.message(event, Key::new(from, conversation, id), *body, book, found);
            }
            Seen::Delivered { conversation, id } => {
                let key = Key::new(who, conversation, id);
                shown.end(event, key, *at_ms, &State::Delivered, book, found);
            }
            Seen::Failed { conversation, id, code } => {
                let key = Key::new(who, conversation, id);
                shown.end(event, key, *at_ms, &State::Failed(code.clone()), book, found);
            }
            Seen::Other => {}
        }
    }
}

/// Numbers without gaps in each reading; the same number says the same in each.
fn numbers<'a>(records: &'a [Record], book: &Book<'a>, found: &mut Vec<Violation>) {
    let mut begins = HashMap::new();
    for record in records {
        if let Record::Stayed { who, events_from, .. } = record {
            begins.insert(who.as_str(), *events_from);
        }
    }
    let mut last: HashMap<(&str, Reading), u64> = HashMap::new();
    let mut texts: HashMap<(&str, u64), (&Seen, usize)> = HashMap::new();
    let mut read_live: HashMap<&str, u64> = HashMap::new();
    for (place, record) in records.iter().enumerate() {
        let Record::Saw { who, reading, n, what, .. } = record else { continue };
        let who = who.as_str();
        let after = match (last.insert((who, *reading), *n), reading) {
            (Some(after), _) => Some(after),
            (None, Reading::Final) => Some(begins.get(who).map_or(0, |n| n.saturating_sub(1))),
            (None, Reading::Live(_)) => None,
        };
        if let Some(after) = after.filter(|after| after + 1 != *n) {
            let (reader, next) = (who.to_owned(), *n);
            found.push(if *n <= after {
                Violation::NumberBack { reader, after, next }
            } else {
                Violation::Gap { reader, after, next }
            });
        }
        let restored = book.restored.get(who).copied().unwrap_or(0);
        if *reading != Reading::Final && place >= restored {
            let highest = read_live.entry(who).or_default();
            *highest = (*highest).max(*n);
        }
        match texts.entry((who, *n)) {
            Entry::Vacant(slot) => {
                slot.insert((what, place));
            }
            Entry::Occupied(mut slot) => {
                let (was, since) = *slot.get();
                if was != what && since >= restored {
                    found.push(Violation::Rewritten { reader: who.to_owned(), n: *n });
                }
                slot.insert((what, place));
            }
        }
    }
    for (who, highest) in read_live {
        let head = last.get(&(who, Reading::Final)).copied().unwrap_or(0);
        if begins.contains_key(who) && head < highest {
            found.push(Violation::Rewritten { reader: who.to_owned(), n: head + 1 });
        }
    }
}

/// The place of each message among its author's in a conversation, as the first reader saw them.
fn ranks(records: &[Record]) -> HashMap<Key<'_>, (usize, &str)> {
    let mut readers: HashMap<Stream<'_>, &str> = HashMap::new();
    let mut ranks = HashMap::new();
    for (place, record) in records.iter().enumerate() {
        if let Record::Saw { who, reading: Reading::Final, what, .. } = record
            && let Seen::Message { from, conversation, id, .. } = what
            && *readers.entry((from, conversation)).or_insert(who) == who.as_str()
        {
            ranks.entry(Key::new(from, conversation, id)).or_insert((place, who.as_str()));
        }
    }
    ranks
}

#[derive(Debug, Clone, Copy)]
struct Event<'a> {
    who: &'a str,
    reading: Reading,
    n: u64,
    place: usize,
}

/// How far a reader has come in an author's messages.
#[derive(Debug, Default)]
struct Newest<'a> {
    /// Where the last call stands of those whose messages were shown, and that message.
    invoked: Option<(usize, &'a str)>,
    rank: usize,
}

/// What is the same message, or the end of one, to one reader.
#[derive(Debug, PartialEq, Eq, Hash)]
enum About<'a> {
    Message(&'a str, Key<'a>),
    End(Key<'a>),
}

#[derive(Debug)]
struct Shown<'a, 'r> {
    rooms: &'r Rooms<'a>,
    ranks: HashMap<Key<'a>, (usize, &'a str)>,
    events: HashMap<About<'a>, (u64, usize)>,
    newest: HashMap<(&'a str, Reading, Stream<'a>), Newest<'a>>,
}

impl<'a> Shown<'a, '_> {
    fn message(
        &mut self,
        event: Event<'a>,
        key: Key<'a>,
        body: Body,
        book: &mut Book<'a>,
        found: &mut Vec<Violation>,
    ) {
        let Event { who, reading, n, place } = event;
        let reader = || who.to_owned();
        let restored = book.restored.get(who).copied().unwrap_or(0);
        let known = self.events.insert(About::Message(who, key), (n, place));
        if let Some((first, since)) = known {
            if first != n && since >= restored {
                let message = key.owned();
                found.push(Violation::Duplicated { message, reader: reader(), first, second: n });
                return;
            }
        } else {
            found.extend(self.unlike_what_was_sent(who, &key, body, book));
        }
        self.order(event, key, book, found);
        if reading == Reading::Final
            && let Some(message) = book.messages.get_mut(&key)
        {
            message.shown_to.push(who);
        }
    }

    fn unlike_what_was_sent(
        &self,
        who: &str,
        key: &Key<'a>,
        body: Body,
        book: &Book<'a>,
    ) -> Option<Violation> {
        let (message, reader) = (key.owned(), who.to_owned());
        let Some(sent) = book.messages.get(key) else {
            return Some(Violation::Invented { message, reader });
        };
        if sent.bodies.is_empty() {
            return Some(Violation::RefusedButShown { message, reader });
        }
        if !sent.bodies.contains(&body) {
            return Some(Violation::Altered { message, reader });
        }
        let span = self.rooms.span(key.conversation, sent.epoch, sent.epoch_at_least);
        let leaked = !self.rooms.may_have(key, span, who);
        leaked.then_some(Violation::Leaked { message, holder: reader })
    }

    /// P3. A message may be shown after another one only if its author had not been told of it before
    /// sending that one; what was sent at the same time has one order for all. Of authors who went back to
    /// a backup, only what they sent since is judged.
    fn order(
        &mut self,
        event: Event<'a>,
        key: Key<'a>,
        book: &Book<'a>,
        found: &mut Vec<Violation>,
    ) {
        let Some(message) = book.messages.get(&key) else { return };
        if book.restored.get(key.author).is_some_and(|at| message.invoked < *at) {
            return;
        }
        let stream = (key.author, key.conversation);
        let newest = self.newest.entry((event.who, event.reading, stream)).or_default();
        match (newest.invoked, message.accepted) {
            (Some((invoked, later)), Some(accepted)) if accepted < invoked => {
                found.push(Violation::OutOfOrder {
                    message: key.owned(),
                    later: later.to_owned(),
                    reader: event.who.to_owned(),
                });
                return;
            }
            _ => {}
        }
        if newest.invoked.is_none_or(|(invoked, _)| message.invoked > invoked) {
            newest.invoked = Some((message.invoked, key.id));
        }
        let Some((rank, other)) = self.ranks.get(&key) else { return };
        if *rank < newest.rank {
            let (reader, other) = (event.who.to_owned(), (*other).to_owned());
            found.push(Violation::TwoOrders { message: key.owned(), reader, other });
        }
        newest.rank = newest.rank.max(*rank);
    }

    fn end(
        &mut self,
        event: Event<'a>,
        key: Key<'a>,
        at_ms: u64,
        state: &State,
        book: &mut Book<'a>,
        found: &mut Vec<Violation>,
    ) {
        let reader = event.who.to_owned();
        let restored = book.restored.get(event.who).copied().unwrap_or(0);
        match self.events.insert(About::End(key), (event.n, event.place)) {
            Some((first, since)) if first != event.n && since >= restored => {
                let (message, second) = (key.owned(), event.n);
                found.push(Violation::EndToldAgain { message, reader, first, second });
            }
            Some(_) => {}
            None => match book.messages.get(&key).map(|message| message.bodies.is_empty()) {
                None => found.push(Violation::Invented { message: key.owned(), reader }),
                Some(true) => {
                    found.push(Violation::RefusedButShown { message: key.owned(), reader });
                }
                Some(false) => {}
            },
        }
        book.state(key, state, (event.place, at_ms), |_| false, found);
    }
}
