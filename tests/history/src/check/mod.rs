//! The check: a pass over the calls, one over what was seen, one over the end.

mod book;
mod end;
mod logs;
mod rooms;

use crate::{history::History, record::Conversation, violation::MessageRef, violation::Violation};

/// Decides whether a history keeps the guarantees; empty if it does.
///
/// Takes time and memory in proportion to the records and, in rooms, to the messages that each member should
/// have. A history without [`crate::Record::Healed`] is judged by what may never happen alone.
pub fn check(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    let records = history.records();
    let rooms = rooms::Rooms::of(records, &mut found);
    let mut book = book::Book::of(records, &mut found);
    logs::check(records, &rooms, &mut book, &mut found);
    end::check(records, &rooms, &book, &mut found);
    found
}

/// A message, borrowed from the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key<'a> {
    author: &'a str,
    conversation: &'a Conversation,
    id: &'a str,
}

impl<'a> Key<'a> {
    fn new(author: &'a str, conversation: &'a Conversation, id: &'a str) -> Self {
        Self { author, conversation, id }
    }

    fn owned(&self) -> MessageRef {
        MessageRef {
            author: self.author.to_owned(),
            conversation: self.conversation.clone(),
            id: self.id.to_owned(),
        }
    }
}
