//! The one table of error codes and exit codes.
//!
//! A code is for ever: scripts compare it, and the exit codes of p2pctl follow from it. The text that goes
//! with an error is for people and may change.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What went wrong, in the words that `error.code` and the exit code share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// A fault of ours; the log of the daemon has it.
    Internal,
    /// The request cannot be understood or breaks a limit.
    Usage,
    /// No peerd answers on the local socket.
    PeerdNotRunning,
    /// The profile has no session: log in first.
    NotLoggedIn,
    /// The registry does not answer.
    RegistryUnreachable,
    /// No such user, room, message or request.
    NotFound,
    /// The peer cannot be reached now.
    PeerOffline,
    /// The peer said no.
    Rejected,
    /// The peer is in another chat.
    Busy,
    /// Nobody answered in time; a message is still queued.
    TimedOut,
    /// A key changed, and nobody has said that the new one is right.
    UntrustedKey,
    /// A policy forbids it (ours or the peer's), or a right is missing.
    Blocked,
    /// It exists already, or something else stands in its way.
    Conflict,
    /// The account is online elsewhere.
    AlreadyOnline,
    /// Too many requests: try again after the time given.
    RateLimited,
    /// Some of the recipients have it, not all.
    Partial,
    /// Another device took over this account.
    Superseded,
    /// Wrong user name or password.
    BadCredentials,
    /// Another process holds this state.
    StateInUse,
    /// The two sides speak versions that do not fit.
    VersionMismatch,
}

impl Code {
    /// Every code, in the order of the exit codes.
    pub const ALL: [Code; 20] = [
        Code::Internal,
        Code::Usage,
        Code::PeerdNotRunning,
        Code::NotLoggedIn,
        Code::RegistryUnreachable,
        Code::NotFound,
        Code::PeerOffline,
        Code::Rejected,
        Code::Busy,
        Code::TimedOut,
        Code::UntrustedKey,
        Code::Blocked,
        Code::Conflict,
        Code::AlreadyOnline,
        Code::RateLimited,
        Code::Partial,
        Code::Superseded,
        Code::BadCredentials,
        Code::StateInUse,
        Code::VersionMismatch,
    ];

    /// The exit code of p2pctl for this error. 0 is success and has no code.
    pub fn exit_code(self) -> u8 {
        match self {
            Code::Internal => 1,
            Code::Usage => 2,
            Code::PeerdNotRunning => 3,
            Code::NotLoggedIn => 4,
            Code::RegistryUnreachable => 5,
            Code::NotFound => 6,
            Code::PeerOffline => 7,
            Code::Rejected => 8,
            Code::Busy => 9,
            Code::TimedOut => 10,
            Code::UntrustedKey => 11,
            Code::Blocked => 12,
            Code::Conflict | Code::AlreadyOnline => 13,
            Code::RateLimited => 14,
            Code::Partial => 15,
            Code::Superseded => 16,
            Code::BadCredentials => 17,
            Code::StateInUse => 18,
            Code::VersionMismatch => 19,
        }
    }

    /// Whether the same command may succeed later without anybody changing anything.
    pub fn retryable(self) -> bool {
        match self {
            Code::PeerdNotRunning
            | Code::RegistryUnreachable
            | Code::PeerOffline
            | Code::Busy
            | Code::TimedOut
            | Code::AlreadyOnline
            | Code::RateLimited
            | Code::Partial
            | Code::StateInUse => true,
            Code::Internal
            | Code::Usage
            | Code::NotLoggedIn
            | Code::NotFound
            | Code::Rejected
            | Code::UntrustedKey
            | Code::Blocked
            | Code::Conflict
            | Code::Superseded
            | Code::BadCredentials
            | Code::VersionMismatch => false,
        }
    }

    /// The word of the code, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::Internal => "internal",
            Code::Usage => "usage",
            Code::PeerdNotRunning => "peerd_not_running",
            Code::NotLoggedIn => "not_logged_in",
            Code::RegistryUnreachable => "registry_unreachable",
            Code::NotFound => "not_found",
            Code::PeerOffline => "peer_offline",
            Code::Rejected => "rejected",
            Code::Busy => "busy",
            Code::TimedOut => "timed_out",
            Code::UntrustedKey => "untrusted_key",
            Code::Blocked => "blocked",
            Code::Conflict => "conflict",
            Code::AlreadyOnline => "already_online",
            Code::RateLimited => "rate_limited",
            Code::Partial => "partial",
            Code::Superseded => "superseded",
            Code::BadCredentials => "bad_credentials",
            Code::StateInUse => "state_in_use",
            Code::VersionMismatch => "version_mismatch",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_is_the_json_and_exit_codes_cover_1_to_19() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).expect("plain"), code.as_str());
            seen.insert(code.exit_code());
        }
        assert_eq!(seen, (1..=19).collect());
    }
}
