//! How many accounts and rooms there are, for whoever operates the registry.
//!
//! Counted by a connection of its own, so that neither a search nor a commit waits for it, and not more
//! often than every ten seconds: with a million accounts it reads some megabytes.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rusqlite::Connection;
use serde::Serialize;
use tokio::{sync::Mutex, task};

use super::{Store, StoreError, from_sql, schema};

/// A count is told for so long.
const KEPT: Duration = Duration::from_secs(10);

/// What there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    /// Accounts that are not deleted.
    pub(crate) accounts: u64,
    /// Rooms that are not deleted.
    pub(crate) rooms: u64,
}

/// The last count.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// `None`: a database in memory, which is not counted.
    path: Option<PathBuf>,
    last: Mutex<Option<(Instant, Counts)>>,
}

impl Counted {
    /// Of the database in this file.
    pub(super) fn of(path: &Path) -> Self {
        Self { path: Some(path.to_owned()), last: Mutex::new(None) }
    }
}

impl Store {
    /// Accounts and rooms, as they were within the last ten seconds. `None` if they cannot be counted: the
    /// log says why.
    pub(crate) async fn counts(&self) -> Option<Counts> {
        let path = self.counted.path.clone()?;
        let mut last = self.counted.last.lock().await;
        if let Some((at, counts)) = *last
            && at.elapsed() < KEPT
        {
            return Some(counts);
        }
        let counting = task::spawn_blocking(move || {
            let connection = schema::open_reader(&path)?;
            Ok::<_, CountError>(count(&connection)?)
        });
        match counting.await {
            Ok(Ok(counts)) => {
                *last = Some((Instant::now(), counts));
                Some(counts)
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "accounts and rooms cannot be counted");
                None
            }
            // The registry stops.
            Err(_) => None,
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum CountError {
    #[error(transparent)]
    Open(#[from] super::OpenError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn count(db: &Connection) -> Result<Counts, StoreError> {
    let number = |sql: &'static str| -> Result<u64, StoreError> {
        from_sql(db.query_row(sql, [], |row| row.get(0))?, "count")
    };
    // Each by an index alone.
    let names = number("SELECT COUNT(*) FROM account")?;
    let deleted = number("SELECT COUNT(*) FROM account WHERE deleted = 1")?;
    let rooms = number("SELECT COUNT(*) FROM room WHERE deleted = 0")?;
    Ok(Counts { accounts: names.saturating_sub(deleted), rooms })
}
