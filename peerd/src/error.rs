//! Why peerd does not start, or ends before its time; and the exit code of each.

use std::{error::Error as _, fmt::Write as _, io, time::Duration};

use registryd_proto::Code;

use crate::{
    config::ConfigError,
    control::SocketError,
    daemon::{DaemonError, StoreError},
    instance::InstanceError,
    keys::KeysError,
};

/// Why there is no daemon.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings are wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another peerd runs, or the data folder cannot be used.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The control socket cannot be opened.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The socket that systemd passed cannot be used.
    #[error("the socket passed by systemd cannot be used")]
    Passed(#[source] io::Error),
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database belongs to other keys: the identity would change in silence.
    #[error("the key file peer.key is not the one that the database belongs to: restore it")]
    ForeignKeys,
    /// The process cannot go to the background.
    #[error("cannot go to the background")]
    Daemonize(#[source] daemonize::Error),
    /// No pipe to the daemon.
    #[error("cannot make a pipe")]
    Pipe(#[source] io::Error),
    /// No threads.
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    /// The system gave no randomness.
    #[error("the system gave no randomness")]
    Randomness,
}

impl StartError {
    /// The word for it; the exit code follows from it.
    pub fn code(&self) -> Code {
        match self {
            StartError::Config(_) | StartError::Socket(SocketError::TooLong { .. }) => Code::Usage,
            StartError::Instance(InstanceError::InUse { .. })
            | StartError::Socket(SocketError::Live { .. }) => Code::StateInUse,
            StartError::Store(StoreError::Newer { .. }) => Code::VersionMismatch,
            StartError::Instance(
                InstanceError::Foreign { .. }
                | InstanceError::LockFile { .. }
                | InstanceError::Io { .. },
            )
            | StartError::Socket(
                SocketError::NoSocket { .. } | SocketError::Folder { .. } | SocketError::Io { .. },
            )
            | StartError::Passed(_)
            | StartError::Keys(_)
            | StartError::Store(_)
            | StartError::ForeignKeys
            | StartError::Daemonize(_)
            | StartError::Pipe(_)
            | StartError::Runtime(_)
            | StartError::Randomness => Code::Internal,
        }
    }

    /// The error with its causes, as one line.
    pub fn to_line(&self) -> String {
        let mut line = self.to_string();
        let mut cause = self.source();
        while let Some(inner) = cause {
            write!(line, ": {inner}").expect("writing to a String cannot fail");
            cause = inner.source();
        }
        line
    }
}

/// Why a daemon that ran ends with an exit code other than 0.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The state cannot be written.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// A task panicked; the log has where.
    #[error("a task panicked")]
    Panic,
    /// A task that runs for life has ended.
    #[error("the task {0} has ended")]
    TaskEnded(&'static str),
    /// The disk hangs. Nothing can wait for it, so peerd ends without.
    #[error("the disk has not answered for {0:?}: what was accepted before is kept")]
    Hung(Duration),
    /// Signals cannot be received.
    #[error("cannot receive signals")]
    Signals(#[source] io::Error),
}
