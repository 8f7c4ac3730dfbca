//! The frames of a chat: consent and session in one.
//!
//! ```text
//! caller                       callee
//!   request ─────────────────▶   rings
//!                            ◀─── accept (its slot is reserved)
//!   confirm ─────────────────▶   active at both      (or: withdraw, the slot is free again)
//!                            ◀─── reject | busy       instead of accept
//!   end ◀────────────────────▶   from either
//! ```
//! After each connect both sides send `state` of the chat that they hold with the other: ended beats
//! active beats pending.

use serde::{Deserialize, Serialize};

use super::id::ChatId;

/// One step of a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChatFrame {
    /// The caller asks.
    Request {
        /// The chat wanted.
        chat: ChatId,
        /// How long it rings, in milliseconds.
        ring_ms: u32,
    },
    /// The callee's yes.
    Accept {
        /// The chat.
        chat: ChatId,
    },
    /// The caller still wants it: active.
    Confirm {
        /// The chat.
        chat: ChatId,
    },
    /// The caller wants it no more.
    Withdraw {
        /// The chat.
        chat: ChatId,
    },
    /// The callee's no.
    Reject {
        /// The chat.
        chat: ChatId,
    },
    /// The callee is in another chat: answered by its peerd.
    Busy {
        /// The chat.
        chat: ChatId,
        /// Why.
        reason: BusyReason,
    },
    /// Either side ends an active chat.
    End {
        /// The chat.
        chat: ChatId,
    },
    /// After a connect: what I hold of our chat.
    State {
        /// The chat.
        chat: ChatId,
        /// Its phase here.
        phase: ChatPhase,
    },
}

/// Why a callee answers `busy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BusyReason {
    /// All its chat slots are taken.
    InChat,
}

/// The phase of a chat as one side holds it. Ordered: the later one wins when two sides differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ChatPhase {
    /// Asked, not answered.
    Pending,
    /// Consent on both sides.
    Active,
    /// Over.
    Ended,
}
