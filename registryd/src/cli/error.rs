//! Why a subcommand failed: its exit code, and what goes to stderr.
//!
//! The exit codes are those of the table in `registryd_proto::Code`, as for p2pctl; 3 is a daemon that does
//! not run, here registryd.

use std::{io, path::PathBuf};

use p2pchat_host::password::PasswordError;
use registryd_proto::{Code, Username};
use serde::{Serialize, Serializer};

use crate::{admin::answer::Refusal, command::CommandError, config::ConfigError};

/// Why a subcommand failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The command line, as clap says it.
    #[error("{0}")]
    Usage(String),
    /// The configuration, which says where the data is.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What a command did not do.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The password that was to be given.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// Nobody listens.
    #[error("registryd is not running: nobody answers at {}", path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// The folder of the data that it would hold.
        data_dir: PathBuf,
    },
    /// The folder or the socket belongs to somebody else.
    #[error("not allowed to use {}", path.display())]
    Denied {
        /// The socket.
        path: PathBuf,
    },
    /// Somebody listens who has no business there.
    #[error("at {} a process of user id {theirs} answers, whose folder it is not", path.display())]
    Foreign {
        /// The socket.
        path: PathBuf,
        /// The user who listens.
        theirs: u32,
    },
    /// The system allows only short paths for sockets.
    #[error("the path {} is too long for a socket: the most is about 107 bytes", path.display())]
    TooLong {
        /// The socket.
        path: PathBuf,
    },
    /// The socket fails.
    #[error("cannot use {}: {source}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It hung up without an answer.
    #[error("registryd closed the connection at {} without an answer", path.display())]
    Closed {
        /// The socket.
        path: PathBuf,
    },
    /// No answer came.
    #[error("registryd did not answer in time at {}", path.display())]
    TimedOut {
        /// The socket.
        path: PathBuf,
    },
    /// The answer cannot be read: another version wrote it.
    #[error("the answer of registryd cannot be read: {0}")]
    Answer(#[source] serde_json::Error),
    /// registryd said no.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// Nobody is renamed.
    #[error("{username} cannot become {new}: a name stays with its account for ever")]
    Rename {
        /// The account's name.
        username: Username,
        /// The name wanted.
        new: Username,
    },
    /// stdout cannot be written.
    #[error("cannot write the answer: {0}")]
    Stdout(#[source] io::Error),
}

/// The word of an error: one of the table, or the one that only registryd's own subcommands have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// Of the table.
    Code(Code),
    /// No registryd answers on the local socket.
    RegistrydNotRunning,
}

impl Word {
    fn as_str(self) -> &'static str {
        match self {
            Self::Code(code) => code.as_str(),
            Self::RegistrydNotRunning => "registryd_not_running",
        }
    }

    /// The exit code.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Code(code) => code.exit_code(),
            Self::RegistrydNotRunning => Code::PeerdNotRunning.exit_code(),
        }
    }

    fn retryable(self) -> bool {
        match self {
            Self::Code(code) => code.retryable(),
            Self::RegistrydNotRunning => true,
        }
    }
}

impl Serialize for Word {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What is told of a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    /// Always `registryd.error/1`.
    pub(crate) schema: &'static str,
    /// The word of the failure.
    pub(crate) code: Word,
    /// For people.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: String,
    /// Whether the same command may succeed later.
    pub(crate) retryable: bool,
    /// When trying again makes sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after_ms: Option<u64>,
}

impl CliError {
    /// All that is told of it.
    pub(crate) fn report(&self) -> Report {
        let code = self.code();
        let (hint, retryable, retry_after_ms) = match self {
            Self::Refused(refusal) => {
                let hint = refusal.hint.clone().unwrap_or_else(|| self.hint());
                (hint, refusal.retryable, refusal.retry_after_ms)
            }
            _ => (self.hint(), code.retryable(), None),
        };
        let schema = "registryd.error/1";
        Report { schema, code, message: self.to_string(), hint, retryable, retry_after_ms }
    }

    fn code(&self) -> Word {
        Word::Code(match self {
            Self::NotRunning { .. } => return Word::RegistrydNotRunning,
            Self::Usage(_) | Self::Config(_) | Self::Password(_) | Self::TooLong { .. } => {
                Code::Usage
            }
            Self::Denied { .. } | Self::Foreign { .. } | Self::Rename { .. } => Code::Blocked,
            Self::Socket { .. } | Self::Closed { .. } | Self::Stdout(_) => Code::Internal,
            Self::TimedOut { .. } => Code::TimedOut,
            Self::Answer(_) => Code::VersionMismatch,
            Self::Refused(refusal) => refusal.code,
            Self::Command(error) => error.code(),
        })
    }

    fn hint(&self) -> String {
        match self {
            Self::NotRunning { data_dir, .. } => {
                let data_dir = data_dir.display();
                return format!(
                    "start it: systemctl start registryd, or registryd --data-dir {data_dir}; \
                     or name its folder by --data-dir or --config"
                );
            }
            Self::Password(error) => error.hint(),
            Self::Command(error) => error.hint(),
            Self::Usage(_) => "see registryd help",
            Self::Config(_) => "mend the file, or name the folder by --data-dir",
            Self::Denied { .. } => "be root, or the user as whom registryd runs",
            Self::Foreign { .. } => "somebody else took the place of registryd: nothing was sent",
            Self::TooLong { .. } => "use a data folder with a shorter path",
            Self::Socket { .. } | Self::Closed { .. } | Self::TimedOut { .. } => {
                "see the log of registryd"
            }
            Self::Answer(_) => "restart registryd after an upgrade: it is of another version",
            Self::Stdout(_) => "what was asked for is done: only its answer is missing",
            Self::Rename { .. } => {
                "keys, rooms and the contacts of others bind to it: make another account"
            }
            Self::Refused(refusal) => refused(refusal.code),
        }
        .to_owned()
    }
}

/// What helps in most cases of a code.
fn refused(code: Code) -> &'static str {
    match code {
        Code::NotFound => "names are exact: see the list",
        Code::Conflict => "a name is taken for ever, even by an account that was deleted",
        Code::RateLimited | Code::TimedOut => "try again later",
        Code::Blocked => "be root, or the user as whom registryd runs",
        Code::Usage => "see registryd admin help",
        Code::NotLoggedIn => "see registryd admin sessions list",
        _ => "see the log of registryd",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_does_not_run_is_told_how_to_start_it() {
        let (path, data_dir) = ("here/admin.sock".into(), "here".into());
        let report = CliError::NotRunning { path, data_dir }.report();
        assert_eq!((report.code.exit_code(), report.retryable), (3, true));
        assert!(report.message.starts_with("registryd is not running"), "{}", report.message);
        assert!(report.hint.contains("registryd --data-dir here"), "{}", report.hint);
        let json = serde_json::to_value(&report).expect("plain");
        assert_eq!(json["code"], "registryd_not_running");
    }
}
