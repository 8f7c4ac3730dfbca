//! How many accounts and rooms there are, for whoever operates the registry.
//!
//! Counted by a thread and a connection of its own, so that neither a search nor a commit waits for it, and
//! not more often than every ten seconds: with a million accounts it reads some megabytes. Whoever asks
//! waits a moment at the most, and is told the last count where the disk hangs.

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use serde::Serialize;
use tokio::{sync::oneshot, time};

use super::{Store, StoreError, from_sql, schema};

/// A count is told for so long.
const KEPT: Duration = Duration::from_secs(10);

/// How long anybody waits for a count.
const PATIENCE: Duration = Duration::from_millis(500);

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
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<(Instant, Counts)>,
    /// A thread is at it.
    counting: bool,
}

impl Counted {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts, and keeps it.
    fn count(&self, path: &Path) {
        let counted = schema::open_reader(path)
            .map_err(CountError::from)
            .and_then(|connection| Ok(count(&connection)?));
        let mut state = self.state();
        state.counting = false;
        match counted {
            Ok(counts) => state.last = Some((Instant::now(), counts)),
            Err(error) => tracing::warn!(%error, "accounts and rooms cannot be counted"),
        }
    }
}

impl Store {
    /// Accounts and rooms, as they were within the last ten seconds; longer ago if they cannot be counted
    /// at once. `None` if they could not be counted yet, and for a database in memory.
    pub(crate) async fn counts(&self) -> Option<Counts> {
        let path = self.path.clone()?;
        let begin = {
            let mut state = self.counted.state();
            let fresh = state.last.is_some_and(|(at, _)| at.elapsed() < KEPT);
            let begin = !fresh && !state.counting;
            state.counting |= begin;
            begin
        };
        if begin {
            let (counted, (done, end)) = (self.counted.clone(), oneshot::channel::<()>());
            // No task of the runtime: that would have to wait for it at the end, while the disk hangs.
            let thread = thread::Builder::new().name("store-counter".to_owned()).spawn(move || {
                counted.count(&path);
                drop(done);
            });
            match thread {
                // Either way what is known is told.
                Ok(_) => drop(time::timeout(PATIENCE, end).await),
                Err(_) => self.counted.state().counting = false,
            }
        }
        self.counted.state().last.map(|(_, counts)| counts)
    }
}

#[derive(Debug, thiserror::Error)]
enum CountError {
    #[error(transparent)]
    Open(#[from] super::OpenError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Counts, by indexes alone.
pub(super) fn count(db: &Connection) -> Result<Counts, StoreError> {
    let number = |sql: &'static str| -> Result<u64, StoreError> {
        from_sql(db.query_row(sql, [], |row| row.get(0))?, "count")
    };
    // Each by an index alone.
    let names = number("SELECT COUNT(*) FROM account")?;
    let deleted = number("SELECT COUNT(*) FROM account WHERE deleted = 1")?;
    let rooms = number("SELECT COUNT(*) FROM room WHERE deleted = 0")?;
    Ok(Counts { accounts: names.saturating_sub(deleted), rooms })
}
