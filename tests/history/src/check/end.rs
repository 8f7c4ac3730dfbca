//! The end: after healing everything is where it should be, and nowhere else.

use std::collections::{HashMap, HashSet};

use super::{
    Key,
    book::{Book, Message},
    rooms::{Rooms, Span},
};
use crate::{
    record::{Conversation, Record},
    violation::Violation,
};

/// Judges what is held, counted, agreed upon and still waiting.
pub(super) fn check<'a>(
    records: &'a [Record],
    rooms: &Rooms<'a>,
    book: &Book<'a>,
    found: &mut Vec<Violation>,
) {
    let end = End::of(records, rooms, book, found);
    let mut messages: Vec<_> = book.messages.iter().collect();
    messages.sort_unstable_by_key(|(_, message)| message.invoked);
    for (key, message) in messages {
        let span = rooms.span(key.conversation, message.epoch, message.epoch_at_least);
        let impossible = message.counts.iter().find(|c| !rooms.total_is_possible(key, span, c.n));
        if let Some(told) = impossible {
            found.push(Violation::FalseTotal { message: key.owned(), told: *told });
        }
        if end.healed {
            end.arrived(key, message, span, found);
            end.counted(key, message, span, found);
        }
    }
    if end.healed {
        end.waiting(records, found);
        end.agreed(records, found);
    }
}

#[derive(Debug)]
struct End<'a, 'r> {
    rooms: &'r Rooms<'a>,
    book: &'r Book<'a>,
    healed: bool,
    /// Who is up, and whether what it holds was written down.
    stayed: HashMap<&'a str, bool>,
    held: HashSet<(&'a str, Key<'a>)>,
}

impl<'a, 'r> End<'a, 'r> {
    /// Reads the end; finds bodies at strangers, and bodies that nobody wrote.
    fn of(
        records: &'a [Record],
        rooms: &'r Rooms<'a>,
        book: &'r Book<'a>,
        found: &mut Vec<Violation>,
    ) -> Self {
        let (stayed, held) = (HashMap::new(), HashSet::new());
        let mut end = Self { rooms, book, healed: false, stayed, held };
        for record in records {
            match record {
                Record::Healed { .. } => end.healed = true,
                Record::Stayed { who, holdings_read, .. } => {
                    end.stayed.insert(who, *holdings_read);
                }
                Record::Holds { who, author, conversation, id } => {
                    let key = Key::new(author, conversation, id);
                    end.held.insert((who, key));
                    found.extend(end.wrongly_held(who, &key));
                }
                _ => {}
            }
        }
        end
    }

    fn wrongly_held(&self, who: &str, key: &Key<'a>) -> Option<Violation> {
        let (message, holder) = (key.owned(), who.to_owned());
        let Some(sent) = self.book.messages.get(key) else {
            return Some(Violation::Invented { message, reader: holder });
        };
        // To whom it was shown was judged when it was shown.
        let span = self.rooms.span(key.conversation, sent.epoch, sent.epoch_at_least);
        let leaked = !self.rooms.may_have(key, span, who) && !sent.shown_to.contains(&who);
        leaked.then_some(Violation::Leaked { message, holder })
    }

    /// P1, P5, and all or nothing in rooms.
    fn arrived(
        &self,
        key: &Key<'a>,
        message: &Message<'a>,
        span: Option<Span>,
        found: &mut Vec<Violation>,
    ) {
        if let Some(state) = message.given_up() {
            if let (Conversation::Direct(..), Some(reader)) =
                (key.conversation, message.shown_to.first())
            {
                let (state, reader) = (state.clone(), (*reader).to_owned());
                found.push(Violation::GivenUpButShown { message: key.owned(), state, reader });
            }
            return;
        }
        let author_has_it = self.stayed.contains_key(key.author)
            && self.book.restored.get(key.author).is_none_or(|at| *at < message.invoked);
        let due = self.rooms.recipients(key, span).into_iter().filter(|who| {
            self.stayed.contains_key(who)
                && (author_has_it || !self.book.restored.contains_key(who))
        });
        let has: HashSet<&str> = self.who_has(key, message);
        let (having, lacking): (Vec<&str>, Vec<&str>) = due.partition(|who| has.contains(who));
        if self.book.may_wait(key) && !message.is_delivered() {
            return;
        }
        let one_who_has = having.first().copied().or_else(|| {
            let author_holds = self.held.contains(&(key.author, *key));
            (author_holds && self.stayed.contains_key(key.author)).then_some(key.author)
        });
        for who in lacking {
            let (recipient, message_ref) = (who.to_owned(), key.owned());
            if message.is_delivered() {
                found.push(Violation::FalseDelivered { message: message_ref, recipient });
            } else if message.accepted.is_some() && author_has_it {
                found.push(Violation::Lost { message: message_ref, recipient });
            } else if let Some(has) = one_who_has {
                let (has, lacks) = (has.to_owned(), recipient);
                found.push(Violation::HalfSent { message: message_ref, has, lacks });
            }
        }
    }

    /// Who was shown a message, less those who have not the body that they should have.
    fn who_has(&self, key: &Key<'a>, message: &Message<'a>) -> HashSet<&'a str> {
        let shown = message.shown_to.iter().copied();
        let holds = |who: &&str| {
            self.stayed.get(who).is_none_or(|read| !read || self.held.contains(&(*who, *key)))
        };
        shown.filter(holds).collect()
    }

    /// P9: k. Who is not up in the end may have it; who went back to a backup may have had it.
    fn counted(
        &self,
        key: &Key<'a>,
        message: &Message<'a>,
        span: Option<Span>,
        found: &mut Vec<Violation>,
    ) {
        let Some(told) = message.counts.iter().max_by_key(|count| count.k) else { return };
        if told.k == 0 {
            return;
        }
        let has = self.who_has(key, message);
        let possible = |who: &&str| {
            has.contains(who)
                || !self.stayed.contains_key(who)
                || self.book.restored.contains_key(who)
        };
        let all = self.rooms.recipients_at_most(key, span);
        let unknown_room = matches!(key.conversation, Conversation::Room(_)) && span.is_none();
        let holders = all.iter().filter(|who| possible(who)).count();
        let holders = u32::try_from(holders).unwrap_or(u32::MAX);
        if told.k > holders && !unknown_room {
            found.push(Violation::FalseCount { message: key.owned(), told: *told, holders });
        }
    }

    /// P6.
    fn waiting(&self, records: &'a [Record], found: &mut Vec<Violation>) {
        for record in records {
            let Record::Waits { who, to, id } = record else { continue };
            let key = Key::new(who, to, id);
            let up = |who: &&str| self.stayed.contains_key(who);
            if !self.book.may_wait(&key) && self.rooms.members_now(to).iter().all(up) {
                found.push(Violation::Pending { message: key.owned() });
            }
        }
    }

    /// P8: each stream is equally far at all members who are up.
    fn agreed(&self, records: &'a [Record], found: &mut Vec<Violation>) {
        let mut members: HashMap<&Conversation, HashSet<&str>> = HashMap::new();
        let mut heads: HashMap<(&Conversation, &str), Vec<(&str, &str)>> = HashMap::new();
        for record in records {
            let Record::Head { who, conversation, stream, head } = record else { continue };
            let members = members.entry(conversation).or_insert_with(|| {
                let now = self.rooms.members_now(conversation).into_iter();
                now.filter(|who| self.stayed.contains_key(who)).collect()
            });
            if members.contains(who.as_str()) {
                heads.entry((conversation, stream)).or_default().push((who, head));
            }
        }
        let mut heads: Vec<_> = heads.into_iter().collect();
        heads.sort_unstable();
        for ((conversation, stream), at) in heads {
            let (one, head) = at[0];
            let unlike = at.iter().find(|(_, other)| *other != head).map(|(who, _)| *who);
            let other = unlike.or_else(|| {
                let told: HashSet<&str> = at.iter().map(|(who, _)| *who).collect();
                members[conversation].difference(&told).min().copied()
            });
            if let Some(other) = other {
                found.push(Violation::Diverged {
                    conversation: conversation.clone(),
                    one: one.to_owned(),
                    other: other.to_owned(),
                    stream: stream.to_owned(),
                });
            }
        }
    }
}
