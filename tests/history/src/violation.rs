//! What can be wrong with a history, in words that a newcomer understands.

use serde::Serialize;

use crate::record::{Conversation, Count, Name, State};

/// A message: who wrote it, where, and its id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct MessageRef {
    /// Who.
    pub author: Name,
    /// Where.
    pub conversation: Conversation,
    /// Its id.
    pub id: String,
}

impl std::fmt::Display for MessageRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "message {} of {} in {}", self.id, self.author, self.conversation)
    }
}

/// A guarantee that was not kept, or a history that cannot be judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "violation", rename_all = "snake_case")]
pub enum Violation {
    /// P1.
    #[error("lost: {message} was accepted, and {recipient} has not got it after healing")]
    Lost {
        /// Which.
        message: MessageRef,
        /// Who lacks it.
        recipient: Name,
    },
    /// P5.
    #[error("false delivered: {message} was told as delivered, and {recipient} has not got it")]
    FalseDelivered {
        /// Which.
        message: MessageRef,
        /// Who lacks it.
        recipient: Name,
    },
    /// A room heard a message in part.
    #[error("half sent: {message} reached {has}, who stayed, but not {lacks}, who stayed as well")]
    HalfSent {
        /// Which.
        message: MessageRef,
        /// A member who has it.
        has: Name,
        /// A member who has not.
        lacks: Name,
    },
    /// P2.
    #[error(
        "duplicated: {reader} was shown {message} as event {first} and again as event {second}"
    )]
    Duplicated {
        /// Which.
        message: MessageRef,
        /// To whom.
        reader: Name,
        /// The first event.
        first: u64,
        /// The other.
        second: u64,
    },
    /// P4.
    #[error("invented: {reader} was shown {message}, which nobody sent")]
    Invented {
        /// Which.
        message: MessageRef,
        /// To whom.
        reader: Name,
    },
    /// P4.
    #[error("altered: {reader} was shown {message} with a text that its author did not send")]
    Altered {
        /// Which.
        message: MessageRef,
        /// To whom.
        reader: Name,
    },
    /// A call said no, and yet it happened.
    #[error("refused and yet shown: every call to send {message} was refused, and {reader} has it")]
    RefusedButShown {
        /// Which.
        message: MessageRef,
        /// To whom.
        reader: Name,
    },
    /// A message was given up, and yet it arrived.
    #[error("given up and yet shown: {message} is {state} at its author, and {reader} has it")]
    GivenUpButShown {
        /// Which.
        message: MessageRef,
        /// What its author sees.
        state: State,
        /// To whom.
        reader: Name,
    },
    /// P3.
    #[error(
        "out of order: {reader} was shown {message} after message {later}, \
         though its author sent that one later"
    )]
    OutOfOrder {
        /// The one that came late.
        message: MessageRef,
        /// The id of the one that was shown before it.
        later: String,
        /// To whom.
        reader: Name,
    },
    /// P3: calls at the same time may take any order, but one for all.
    #[error(
        "two orders: {reader} was shown {message} at another place among its author's than {other}"
    )]
    TwoOrders {
        /// Which.
        message: MessageRef,
        /// Who saw it out of place.
        reader: Name,
        /// As seen by whom.
        other: Name,
    },
    /// A state was taken back.
    #[error("backwards: {message} was {was}, and later {is}")]
    Backwards {
        /// Which.
        message: MessageRef,
        /// What its author was told first.
        was: State,
        /// And then.
        is: State,
    },
    /// The count of recipients was taken back.
    #[error("backwards: {message} was with {} of {}, and later with {} of {}", .was.k, .was.n, .is.k, .is.n)]
    CountBackwards {
        /// Which.
        message: MessageRef,
        /// What its author was told first.
        was: Count,
        /// And then.
        is: Count,
    },
    /// The end of a message was told more than once.
    #[error(
        "told again: {reader}'s log tells the end of {message} in event {first} and in event {second}"
    )]
    EndToldAgain {
        /// Which.
        message: MessageRef,
        /// The author.
        reader: Name,
        /// The first event.
        first: u64,
        /// The other.
        second: u64,
    },
    /// P7.
    #[error("leaked: {holder} has {message}, and was no member then")]
    Leaked {
        /// Which.
        message: MessageRef,
        /// Who.
        holder: Name,
    },
    /// P8.
    #[error("diverged: in {conversation} {one} and {other} differ on {stream}")]
    Diverged {
        /// Where.
        conversation: Conversation,
        /// A member.
        one: Name,
        /// Another one.
        other: Name,
        /// On what.
        stream: String,
    },
    /// P9, the k.
    #[error("false count: {message} was told to be with {}, and at most {holders} have it", .told.k)]
    FalseCount {
        /// Which.
        message: MessageRef,
        /// What was told.
        told: Count,
        /// Who can have it at most.
        holders: u32,
    },
    /// P9, the n.
    #[error("false total: {message} was told to be for {}, and at no possible epoch were there so many", .told.n)]
    FalseTotal {
        /// Which.
        message: MessageRef,
        /// What was told.
        told: Count,
    },
    /// P6.
    #[error("pending: {message} still waits after healing, though all its recipients are up")]
    Pending {
        /// Which.
        message: MessageRef,
    },
    /// Event numbers skip.
    #[error("gap: {reader}'s log goes from event {after} to event {next}")]
    Gap {
        /// Whose log.
        reader: Name,
        /// The number before.
        after: u64,
        /// The number that follows.
        next: u64,
    },
    /// Event numbers go back.
    #[error("numbers go back: {reader}'s log goes from event {after} to event {next}")]
    NumberBack {
        /// Whose log.
        reader: Name,
        /// The number before.
        after: u64,
        /// The number that follows.
        next: u64,
    },
    /// An event that was read once is another one, or gone.
    #[error("rewritten: event {n} of {reader} was read once, and reads otherwise or is gone later")]
    Rewritten {
        /// Whose log.
        reader: Name,
        /// Which event.
        n: u64,
    },
    /// One call, two answers.
    #[error("answered twice: call {op} was told its outcome again")]
    ToldTwice {
        /// Which call.
        op: u64,
    },
    /// An answer without a call, or two calls with one number: the driver is wrong.
    #[error("no such call: {op} was told an outcome but never invoked, or invoked twice")]
    NoSuchCall {
        /// Which.
        op: u64,
    },
    /// Epochs of a room that do not grow: the driver is wrong, or the registry.
    #[error("epochs go back: the room {room} has epoch {epoch} after a higher one or again")]
    EpochBack {
        /// Which room.
        room: Name,
        /// The epoch.
        epoch: u64,
    },
    /// A room without members: nothing can be said of it.
    #[error("no members: the history tells nothing of who is in the room {room}")]
    NoMembers {
        /// Which room.
        room: Name,
    },
}
