//! From what went wrong inside to what is said outside.
//!
//! [`RequestError::failure`] is the one place: exhaustive, so that a new reason cannot be forgotten. What
//! is ours to fix is logged with its sources and answered as `internal`; the rest is plain text.

use std::time::Duration;

use registryd_proto::{Code, Failure, frame::FrameError};

use crate::{
    connections::NoPlace,
    limits::Limited,
    password::PasswordError,
    presence::TooManyWatches,
    store::{Rule, StoreError},
};

/// How long a client waits at least when a queue is full: it is about a second of work.
const OVERLOAD_RETRY: Duration = Duration::from_secs(1);

/// How long a client waits that met a full disk: until somebody may have made space.
const FULL_RETRY: Duration = Duration::from_secs(5);

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// The store, or a rule that it keeps.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A password that could not be checked.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// Too often.
    #[error(transparent)]
    Limited(#[from] Limited),
    /// No place for a connection.
    #[error(transparent)]
    NoPlace(#[from] NoPlace),
    /// Too many watches.
    #[error(transparent)]
    Watches(#[from] TooManyWatches),
    /// A frame that holds no request.
    #[error("not a request of this protocol version")]
    Frame(#[source] FrameError),
    /// A request that contradicts itself or breaks a bound.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Wrong name or password: which of them is not said.
    #[error("wrong user name or password")]
    BadCredentials,
    /// Wrong password of a room.
    #[error("wrong room password")]
    WrongRoomPassword,
    /// The key is not enrolled, or has no session.
    #[error("this key has no session: log in first")]
    NotLoggedIn,
    /// Another device may be online; it is known after the time given.
    #[error("the account may be online on another device; try again, or log in with takeover")]
    PresenceUnknown {
        /// When it is known.
        retry_after: Duration,
    },
    /// Registration is by invitation, and none was shown.
    #[error("this registry takes new accounts by invitation: give the code with --invite CODE")]
    InviteNeeded,
    /// Registration is closed.
    #[error("this registry takes no new accounts")]
    RegistrationClosed,
}

/// What is wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Invalid {
    /// The connection's key is not the one to be bound.
    #[error("the peer key of the request is not the key of the connection")]
    ForeignKey,
    /// A signature of the binding does not hold.
    #[error("the keys did not sign this binding of name and registry")]
    Binding,
    /// More addresses than allowed.
    #[error("at most 16 addresses for each listener")]
    Addresses,
    /// A serial or epoch that no honest peer reaches.
    #[error("the serial or epoch is out of range")]
    OutOfRange,
    /// Access by password without one.
    #[error("a room with access by password needs a password")]
    RoomPasswordMissing,
    /// A password without access by password.
    #[error("only a room with access by password has a password")]
    RoomPasswordUseless,
}

impl RequestError {
    /// What the client is told. Logs what is a fault of ours.
    pub(crate) fn failure(&self) -> Failure {
        let code = self.code();
        if code == Code::Internal {
            tracing::error!(error = %Chain(self), "a request failed");
            return Failure::new(code, "the registry failed; its log says why");
        }
        Failure { retry_after_ms: self.retry_after_ms(), ..Failure::new(code, self.to_string()) }
    }

    fn code(&self) -> Code {
        match self {
            Self::Store(StoreError::Rule(rule)) => rule_code(*rule),
            Self::Store(StoreError::Full | StoreError::Overloaded) => Code::RateLimited,
            Self::Store(
                StoreError::Sqlite(_)
                | StoreError::Format(_)
                | StoreError::NotCommitted
                | StoreError::Stopped
                | StoreError::Randomness,
            ) => Code::Internal,
            Self::Password(PasswordError::Overloaded) => Code::RateLimited,
            Self::Password(
                PasswordError::Stored(_)
                | PasswordError::Expensive
                | PasswordError::Hash(_)
                | PasswordError::Parameters(_)
                | PasswordError::Randomness
                | PasswordError::Thread(_)
                | PasswordError::Stopped,
            ) => Code::Internal,
            Self::Limited(_) | Self::NoPlace(_) => Code::RateLimited,
            Self::Watches(_) => Code::Conflict,
            Self::Frame(_) | Self::Invalid(_) => Code::Usage,
            Self::BadCredentials | Self::WrongRoomPassword => Code::BadCredentials,
            Self::NotLoggedIn => Code::NotLoggedIn,
            Self::PresenceUnknown { .. } => Code::AlreadyOnline,
            Self::InviteNeeded | Self::RegistrationClosed => Code::Blocked,
        }
    }

    fn retry_after_ms(&self) -> Option<u64> {
        let wait = match self {
            Self::Limited(limited) => limited.retry_after,
            Self::Password(PasswordError::Overloaded)
            | Self::Store(StoreError::Overloaded)
            | Self::NoPlace(_) => jittered(OVERLOAD_RETRY),
            Self::PresenceUnknown { retry_after } => *retry_after,
            Self::Store(StoreError::Full) => FULL_RETRY,
            _ => return None,
        };
        Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1))
    }
}

/// Up to twice as long: those that came together come back one by one.
fn jittered(wait: Duration) -> Duration {
    // Without randomness they come back together.
    let share = getrandom::u32().map_or(0.0, |drawn| f64::from(drawn) / f64::from(u32::MAX));
    wait + wait.mul_f64(share)
}

fn rule_code(rule: Rule) -> Code {
    match rule {
        Rule::UsernameTaken
        | Rule::KeyTaken
        | Rule::RoomTaken
        | Rule::OwnerStays
        | Rule::OwnerGivesAway
        | Rule::Full => Code::Conflict,
        Rule::OnlineElsewhere => Code::AlreadyOnline,
        Rule::Superseded => Code::Superseded,
        Rule::NoSession => Code::NotLoggedIn,
        Rule::NoUser | Rule::NoRoom | Rule::NoInvite => Code::NotFound,
        Rule::NoMember
        | Rule::NotInvited
        | Rule::RoleTooLow
        | Rule::Disabled
        | Rule::InviteInvalid => Code::Blocked,
        Rule::NoInvitationNeeded => Code::Usage,
    }
}

/// An error with its sources, for the log.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_ours_tells_nothing_of_the_inside() {
        let failure = RequestError::from(StoreError::Format("account.binding")).failure();
        assert_eq!(failure.code, Code::Internal);
        assert!(!failure.message.contains("account"), "{}", failure.message);
    }

    #[test]
    fn what_is_limited_says_when_to_come_back() {
        let limited = Limited { retry_after: Duration::from_micros(10) };
        let failure = RequestError::from(limited).failure();
        assert_eq!((failure.code, failure.retry_after_ms), (Code::RateLimited, Some(1)));
    }
}
