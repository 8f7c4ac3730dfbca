//! Where the log goes. Bodies and secrets are never logged, whatever the filter: their types show nothing.

use std::path::Path;

use tracing_appender::{
    non_blocking::WorkerGuard,
    rolling::{InitError, RollingFileAppender, Rotation},
};
use tracing_subscriber::EnvFilter;

/// How many files of a day each are kept.
const FILES_MAX: usize = 14;

/// Keeps the log's thread; lines that wait are written when it is dropped.
#[derive(Debug)]
pub struct LogGuard {
    _worker: Option<WorkerGuard>,
}

/// Begins to log: to a file a day in `folder`, else to standard error. A folder that cannot be written to
/// costs the log files, not the daemon. Called once, before anything is logged.
pub fn init(folder: Option<&Path>, filter: &str) -> LogGuard {
    let (filter, bad_filter) = match EnvFilter::try_new(filter) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let (appender, no_folder) = match folder.map(open).transpose() {
        Ok(appender) => (appender, None),
        Err(error) => (None, Some(error)),
    };
    // A line that cannot be written is lost. Told on standard error, it would end the daemon where that is
    // the very place that takes no more.
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .log_internal_errors(false);
    let worker = match appender {
        Some(appender) => {
            let (writer, worker) = tracing_appender::non_blocking(appender);
            lines.with_writer(writer).init();
            Some(worker)
        }
        None => {
            lines.with_writer(std::io::stderr).init();
            None
        }
    };
    if let Some(error) = no_folder {
        tracing::warn!(%error, "the log folder cannot be used");
    }
    if let Some(error) = bad_filter {
        tracing::warn!(%error, "the log filter cannot be read; it is info");
    }
    LogGuard { _worker: worker }
}

fn open(folder: &Path) -> Result<RollingFileAppender, InitError> {
    RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("peerd")
        .filename_suffix("log")
        .max_log_files(FILES_MAX)
        .build(folder)
}
