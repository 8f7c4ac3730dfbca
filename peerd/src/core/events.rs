//! The event log's pen: numbers without a gap, and what replicas tell in the words of events.
//!
//! Invariant: the number of an event is one more than that of the event before it, in the output that holds
//! both or across outputs; nothing else writes `Write::Event`.

use peerd_proto::control::{Event, EventKind, Timestamp};
use registryd_proto::{Code, PublicKey, Room, RoomName, Username};

use super::{
    Now, Output,
    durable::{Outgoing, Write},
    replica::{Events, Notice, Status},
};

/// The newest number.
#[derive(Debug)]
pub(super) struct EventLog {
    head: u64,
}

impl EventLog {
    /// Goes on behind `head`.
    pub(super) fn new(head: u64) -> Self {
        Self { head }
    }

    /// Writes an event and returns its number.
    pub(super) fn push(&mut self, now: Now, out: &mut Output, kind: EventKind) -> u64 {
        self.head += 1;
        let time = Timestamp::from_ms(now.wall_ms);
        out.writes.push(Write::Event(Event { n: self.head, time, kind }));
        self.head
    }

    /// The newest number.
    pub(super) fn head(&self) -> u64 {
        self.head
    }
}

/// Where a conversation takes place, to give its authors names.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    /// 1:1 with this user.
    Direct(&'a Username),
    /// A room.
    Room(&'a Room),
}

impl Place<'_> {
    fn recipient(&self) -> (Option<Username>, Option<RoomName>) {
        match self {
            Place::Direct(username) => (Some((*username).clone()), None),
            Place::Room(room) => (None, Some(room.name.clone())),
        }
    }

    fn author(&self, key: &PublicKey) -> Option<Username> {
        match self {
            Place::Direct(username) => Some((*username).clone()),
            Place::Room(room) => room.name_of(key).cloned(),
        }
    }
}

/// Tells what one replica has to tell, and keeps what has settled for the commands that wait.
pub(super) struct Teller<'a> {
    /// The log.
    pub(super) log: &'a mut EventLog,
    /// Where the replica's conversation takes place.
    pub(super) place: Place<'a>,
    /// Messages of ours that settled, and how their recipients stood then.
    pub(super) settled: &'a mut Vec<(Outgoing, Status)>,
}

impl Events for Teller<'_> {
    fn record(&mut self, now: Now, out: &mut Output, notice: Notice<'_>) -> u64 {
        let (to, room) = self.place.recipient();
        let kind = match notice {
            Notice::Message(entry) => {
                let header = entry.header();
                let Some(from) = self.place.author(&header.author) else { return self.log.head };
                EventKind::Message {
                    from,
                    room,
                    id: header.id.clone(),
                    body: entry.body().map(|b| b.text.clone()).unwrap_or_default(),
                    sent: Timestamp::from_ms(header.wall_ms),
                }
            }
            Notice::Delivered(message, status) => {
                self.settled.push((message.clone(), status));
                EventKind::Delivered { to, room, id: message.id.clone() }
            }
            Notice::Failed(message, status) => {
                self.settled.push((message.clone(), status));
                let code = message.reason.unwrap_or(Code::Internal);
                EventKind::Failed { to, room, id: message.id.clone(), code }
            }
            Notice::Fork { author } => {
                let Some(author) = self.place.author(&author) else { return self.log.head };
                EventKind::ForkFound { author, room }
            }
        };
        self.log.push(now, out, kind)
    }
}
