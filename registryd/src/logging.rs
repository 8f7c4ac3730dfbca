//! Where the log goes: stderr, or daily files in a folder. A folder that cannot be written does not stop
//! the daemon; the log goes to stderr then.

use std::{io, path::Path};

use tracing_appender::{
    non_blocking::WorkerGuard,
    rolling::{RollingFileAppender, Rotation},
};
use tracing_subscriber::EnvFilter;

/// What is logged unless the environment variable `P2P_LOG` says otherwise.
const DEFAULT_FILTER: &str = "info";

/// Days of log that are kept.
const FILES_MAX: usize = 14;

/// Starts logging. The guard writes what is buffered when it is dropped: keep it to the end.
pub(crate) fn start(folder: Option<&Path>) -> Option<WorkerGuard> {
    let filter = EnvFilter::try_from_env("P2P_LOG").unwrap_or_else(|_| DEFAULT_FILTER.into());
    // A line that cannot be written is lost. Told on standard error, it would be a panic where that is the
    // very place that takes no more.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    let failure = match folder.map(appender) {
        Some(Ok(files)) => {
            let (writer, guard) = tracing_appender::non_blocking(files);
            // Already set only in tests, which log as they like.
            let _ = builder.with_ansi(false).with_writer(writer).try_init();
            return Some(guard);
        }
        Some(Err(error)) => Some(error),
        None => None,
    };
    let _ = builder.with_ansi(false).with_writer(io::stderr).try_init();
    if let Some(error) = failure {
        tracing::warn!(%error, "the log folder cannot be used; logging to stderr");
    }
    None
}

fn appender(folder: &Path) -> Result<RollingFileAppender, tracing_appender::rolling::InitError> {
    RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("registryd")
        .filename_suffix("log")
        .max_log_files(FILES_MAX)
        .build(folder)
}
