//! What a driver writes down: what users called, were told and saw, who was in which room, and the end.
//!
//! One record is one line of JSON, so that a failing run can be kept, read by people and checked again:
//!
//! ```text
//! {"record":"invoked","at_ms":5,"op":1,"who":"ann","to":{"direct":["ann","bob"]},"id":"m1","body":77,"wait":"delivered"}
//! {"record":"told","at_ms":9,"op":1,"outcome":{"delivered":{"k":1,"n":1}}}
//! {"record":"saw","at_ms":9,"who":"bob","reading":"final","n":1,"what":{"message":{"from":"ann","in":{"direct":["ann","bob"]},"id":"m1","body":77}}}
//! {"record":"healed","at_ms":20}
//! {"record":"stayed","who":"bob"}
//! ```
//!
//! Records stand in the order in which the driver made them. Of two records the one that stands first came
//! first; times are for people, and for [`Record::Looked`] alone. Fields are only ever added.

use serde::{Deserialize, Serialize};

/// A user's name.
pub type Name = String;

/// Where a message goes: what author and recipients share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conversation {
    /// Two users, the lower name first: see [`Conversation::between`].
    Direct(Name, Name),
    /// A room by name. A driver that deletes a room takes another name for the next.
    Room(Name),
}

impl Conversation {
    /// The 1:1 conversation of two users, whoever of them is named first.
    pub fn between(one: &str, other: &str) -> Self {
        let (low, high) = if one <= other { (one, other) } else { (other, one) };
        Self::Direct(low.to_owned(), high.to_owned())
    }

    /// A room.
    pub fn room(name: &str) -> Self {
        Self::Room(name.to_owned())
    }
}

impl std::fmt::Display for Conversation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Direct(low, high) => write!(f, "the chat of {low} and {high}"),
            Self::Room(name) => write!(f, "the room {name}"),
        }
    }
}

/// A text by its hash, so that histories stay small and hold no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Body(pub u64);

impl Body {
    /// FNV-1a with 64 bits: the same in every version, and good enough against accidents.
    pub fn of(text: &str) -> Self {
        let step =
            |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        Self(text.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step))
    }
}

/// How many recipients confirmed a message, of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Who confirmed it.
    pub k: u32,
    /// Who should: the members at the message's epoch less its author; 1 in a 1:1 conversation.
    pub n: u32,
}

/// What a call was told to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// Until the message is on the author's disk.
    Queued,
    /// Until all recipients have it on disk.
    Delivered,
}

/// How a call of `send` ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// On the author's disk, `k` of `n` have it. So ends a call that waited in vain for more, as well.
    Queued(Count),
    /// On the disks of all recipients.
    Delivered(Count),
    /// Its time had run out.
    Expired,
    /// The recipient had said no.
    Rejected,
    /// The message is given up, for this reason.
    Failed(String),
    /// The call itself was refused, for this reason (`conflict`, `rate_limited` …): by it nothing was sent.
    Refused(String),
    /// No answer within the caller's time: may or may not have happened.
    TimedOut,
    /// The connection broke: may or may not have happened.
    Crashed,
}

/// A state of a message, as its author sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// On the author's disk.
    Queued,
    /// On the disks of all recipients: final.
    Delivered,
    /// Its time ran out: final.
    Expired,
    /// A recipient said no: final.
    Rejected,
    /// Given up: final.
    Failed(String),
}

impl State {
    /// Whether it may never change again.
    pub fn is_final(&self) -> bool {
        *self != Self::Queued
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Queued => f.write_str("queued"),
            Self::Delivered => f.write_str("delivered"),
            Self::Expired => f.write_str("expired"),
            Self::Rejected => f.write_str("rejected"),
            Self::Failed(code) => write!(f, "failed ({code})"),
        }
    }
}

/// One reading of an event log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// While the run goes on: one unbroken subscription, numbered by the driver; begins anywhere.
    Live(u32),
    /// After healing, from the first event to the last.
    Final,
}

/// What one event of a log says. Every event is recorded: numbers have no gaps.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// A message came.
    Message {
        /// Its author.
        from: Name,
        /// Where.
        #[serde(rename = "in")]
        conversation: Conversation,
        /// Its id.
        id: String,
        /// Its text.
        body: Body,
    },
    /// A message of the reader's own is with all recipients.
    Delivered {
        /// Where.
        #[serde(rename = "in")]
        conversation: Conversation,
        /// Its id.
        id: String,
    },
    /// A message of the reader's own is given up.
    Failed {
        /// Where.
        #[serde(rename = "in")]
        conversation: Conversation,
        /// Its id.
        id: String,
        /// Why.
        code: String,
    },
    /// Anything else.
    Other,
}

/// One line of a history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// A user calls `send`. The same message may be sent by many calls with one id.
    Invoked {
        /// When.
        at_ms: u64,
        /// The call: unique in the history.
        op: u64,
        /// The author.
        who: Name,
        /// Where to.
        to: Conversation,
        /// The caller's id of the message: unique for author and conversation.
        id: String,
        /// The text.
        body: Body,
        /// What the call waits for.
        wait: Wait,
        /// In rooms: the membership epoch that the author's peerd is sure to know by now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        epoch_at_least: Option<u64>,
    },
    /// A call ended. Without this record it counts as [`Outcome::Crashed`].
    Told {
        /// When.
        at_ms: u64,
        /// The call.
        op: u64,
        /// How.
        outcome: Outcome,
        /// In rooms: the message's epoch, where the driver can see it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        epoch: Option<u64>,
    },
    /// The author looked at its outbox or history while the run went on.
    Looked {
        /// When the look began: what was told before this may not be taken back.
        since_ms: u64,
        /// When the answer was there.
        at_ms: u64,
        /// The author.
        who: Name,
        /// Where.
        to: Conversation,
        /// The message.
        id: String,
        /// Its state.
        state: State,
    },
    /// One event of a user's log.
    Saw {
        /// When it was read.
        at_ms: u64,
        /// Whose log.
        who: Name,
        /// Which reading.
        reading: Reading,
        /// Its number.
        n: u64,
        /// What it says.
        what: Seen,
    },
    /// The members of a room from one epoch on. Epochs of a room stand in order.
    Epoch {
        /// When.
        at_ms: u64,
        /// Which room.
        room: Name,
        /// Its number.
        epoch: u64,
        /// Everybody in it.
        members: Vec<Name>,
        /// Whether a joiner may read what was said before.
        #[serde(default)]
        history_for_all: bool,
    },
    /// A user's disk went back to a backup: what it alone knew since is nobody's fault.
    Restored {
        /// When.
        at_ms: u64,
        /// Whose.
        who: Name,
    },
    /// All faults are over; all that follows was read after the time that healing may take.
    Healed {
        /// When.
        at_ms: u64,
    },
    /// A user is up in the end: its event log was read to the end, and its outbox.
    Stayed {
        /// Who.
        who: Name,
        /// Whether the bodies on its disk were written down as well ([`Record::Holds`]).
        #[serde(default)]
        holdings_read: bool,
        /// The first event that retention has left.
        #[serde(default = "first_event")]
        events_from: u64,
    },
    /// A user has a body on disk in the end.
    Holds {
        /// Who.
        who: Name,
        /// Who wrote it.
        author: Name,
        /// Where.
        #[serde(rename = "in")]
        conversation: Conversation,
        /// The message.
        id: String,
    },
    /// How far a user has a stream of a conversation in the end (or any other text that members of a
    /// conversation must agree on, as the hash of its history).
    Head {
        /// Who.
        who: Name,
        /// Which conversation.
        #[serde(rename = "in")]
        conversation: Conversation,
        /// Which stream.
        stream: String,
        /// How far, for instance number and hash.
        head: String,
    },
    /// A message that still waits in its author's outbox in the end.
    Waits {
        /// The author.
        who: Name,
        /// Where to.
        to: Conversation,
        /// The message.
        id: String,
    },
    /// Messages that may wait in the end: held by `ask`, or by a key that nobody has trusted yet.
    MayWait {
        /// The author.
        who: Name,
        /// Where to.
        to: Conversation,
        /// Which message; none: all of this author there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
    },
}

fn first_event() -> u64 {
    1
}
