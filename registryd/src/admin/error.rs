//! Why an operator's request failed, and what is said of it.

use registryd_proto::{Code, Failure};

use super::{answer::Refusal, request::LINE_BYTES_MAX};
use crate::{error::RequestError, store::StoreError};

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdminError {
    /// As for a peer's request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The line is longer than any request.
    #[error("a line has more than {LINE_BYTES_MAX} bytes")]
    TooLong,
    /// The line is no request.
    #[error("not a request: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// There is nothing to end.
    #[error("the user has no session")]
    NoSession,
    /// An invitation for nobody, or for more than a registry holds.
    #[error("an invitation has 1 to {0} uses")]
    Uses(u32),
    /// An invitation that never held, or as good as for ever.
    #[error("an invitation holds for at least a millisecond and at most ten years")]
    Expiry,
    /// A note that is too long.
    #[error("a note has at most {0} bytes")]
    Note(usize),
    /// The registry did not come to an end in time.
    #[error("the registry did not answer in time; what was asked may still be done")]
    TimedOut,
    /// Another user connected.
    #[error("only the user as whom registryd runs, and root, may do this")]
    Foreign,
    /// Too many clients.
    #[error("too many operators are connected")]
    TooMany,
}

impl From<StoreError> for AdminError {
    fn from(error: StoreError) -> Self {
        Self::Request(error.into())
    }
}

impl AdminError {
    /// What the client is told. Logs what is a fault of ours.
    pub(super) fn refusal(&self) -> Refusal {
        let code = match self {
            Self::Request(error) => {
                let Failure { code, message, retry_after_ms } = error.failure();
                let retryable = code.retryable();
                return Refusal { code, message, hint: None, retryable, retry_after_ms };
            }
            Self::TooLong | Self::Unreadable(_) | Self::Uses(_) | Self::Expiry | Self::Note(_) => {
                Code::Usage
            }
            Self::NoSession => Code::NotLoggedIn,
            Self::TimedOut => Code::TimedOut,
            Self::Foreign => Code::Blocked,
            Self::TooMany => Code::RateLimited,
        };
        let message = self.to_string();
        Refusal { code, message, hint: None, retryable: code.retryable(), retry_after_ms: None }
    }
}
