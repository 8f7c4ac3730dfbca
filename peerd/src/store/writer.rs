//! The writer: one thread owns the only connection that writes.
//!
//! It takes every job that waits, commits them all in one transaction (one fsync), then answers each.
//!
//! A full disk takes a transaction back whole, and nothing of it was told to anybody: so the writer keeps
//! the batches, says so by [`Disk`], and tries again until there is space. What it keeps is bounded, for the
//! owner takes no input meanwhile. Any other commit that fails is fatal: after a failed fsync nobody knows
//! what is on the disk, and the next one may say that all is well. Every job is told so, and the thread ends.

use std::{sync::Arc, thread, time::Duration};

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use tokio::sync::{
    mpsc::{self, error::TryRecvError},
    oneshot, watch,
};

use super::{
    apply::{self, Memory, int},
    error::StoreError,
    progress::Progress,
};
use crate::core::durable::Write;

/// How many jobs one commit takes at most: the latency of the first of them is bounded.
const JOBS_PER_COMMIT: usize = 64;
/// How many named consumers a profile may have.
const CONSUMERS_MAX: usize = 256;
/// How long a full disk is left alone between two tries.
const RETRY: Duration = Duration::from_millis(500);

/// Whether commits find space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// They do, as far as is known.
    Ready,
    /// A commit waits for space.
    Full,
}

/// One thing to write.
#[derive(Debug)]
pub(super) enum Job {
    /// Of the core.
    Batch { writes: Vec<Write>, done: oneshot::Sender<Result<(), Arc<StoreError>>> },
    /// A consumer is made if it is new, at the newest event, and moved forward to `acked`.
    Consumer {
        name: String,
        acked: Option<u64>,
        done: oneshot::Sender<Result<u64, Arc<StoreError>>>,
    },
    /// The file may grow to so many pages: a disk that fills and is freed.
    #[cfg(test)]
    Space { pages: u32 },
}

/// Nobody can hand over anything any more.
struct Deserted;

/// Owns the connection.
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) jobs: mpsc::Receiver<Job>,
    pub(super) disk: watch::Sender<Disk>,
    pub(super) progress: Arc<Progress>,
}

impl Writer {
    /// Runs until every sender is gone or a commit fails for good.
    pub(super) fn run(mut self) {
        let mut memory = Memory::default();
        while let Some(first) = self.jobs.blocking_recv() {
            let mut group = vec![first];
            while group.len() < JOBS_PER_COMMIT
                && let Ok(job) = self.jobs.try_recv()
            {
                group.push(job);
            }
            if let Err(error) = self.write(&mut memory, group) {
                let error = &*error as &dyn std::error::Error;
                tracing::error!(error, "a commit failed");
                return;
            }
        }
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!(error = &error as &dyn std::error::Error, "closing the database failed");
        }
    }

    /// Commits a group, however long that takes on a full disk.
    fn write(&mut self, memory: &mut Memory, mut group: Vec<Job>) -> Result<(), Arc<StoreError>> {
        loop {
            self.progress.begin();
            let committed = commit(&mut self.connection, memory, &group);
            self.progress.end();
            let error = match committed {
                Ok(outcomes) => {
                    if self.disk.send_replace(Disk::Ready) == Disk::Full {
                        tracing::info!("there is space again: all that waited is written");
                    }
                    tell(group, outcomes);
                    return Ok(());
                }
                Err(error) => Arc::new(error),
            };
            *memory = Memory::default();
            if !error.is_full() {
                group.into_iter().for_each(|job| refuse(job, &error));
                return Err(error);
            }
            group = self.kept(group, &error);
            if group.is_empty() {
                return Ok(());
            }
            if self.disk.send_replace(Disk::Full) == Disk::Ready {
                tracing::error!("the disk is full: nothing is taken until there is space again");
            }
            if let Err(Deserted) = self.wait(&mut group, &error) {
                tracing::warn!("peerd stops while the disk is full: what was not told is not kept");
                group.into_iter().for_each(|job| refuse(job, &error));
                return Ok(());
            }
        }
    }

    /// Waits until the next try, and takes what came meanwhile: the readers among it want to know.
    fn wait(&mut self, group: &mut Vec<Job>, error: &Arc<StoreError>) -> Result<(), Deserted> {
        thread::sleep(RETRY);
        loop {
            match self.jobs.try_recv() {
                #[cfg(test)]
                Ok(Job::Space { pages }) => space(&self.connection, pages),
                Ok(job) => group.extend(self.kept(vec![job], error)),
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err(Deserted),
            }
        }
    }

    /// The core's batches of a group whose commit found no space. Of the others, those with nothing to write
    /// are answered, for a known reader goes on though the disk is full; the rest are refused.
    fn kept(&self, group: Vec<Job>, error: &Arc<StoreError>) -> Vec<Job> {
        let (kept, others): (Vec<_>, Vec<_>) =
            group.into_iter().partition(|job| matches!(job, Job::Batch { .. }));
        for job in others {
            let Job::Consumer { name, acked, done } = job else {
                refuse(job, error);
                continue;
            };
            let told = match Consumer::find(&self.connection, &name, acked) {
                Ok(found) if found.is_written() => Ok(found.after.cast_unsigned()),
                Err(ahead @ StoreError::ConsumerAhead { .. }) => Err(Arc::new(ahead)),
                Ok(_) | Err(_) => Err(Arc::clone(error)),
            };
            // A receiver that is gone wants no answer.
            let _gone = done.send(told).is_err();
        }
        kept
    }
}

fn refuse(job: Job, error: &Arc<StoreError>) {
    // A receiver that is gone wants no answer.
    let _gone = match job {
        Job::Batch { done, .. } => done.send(Err(Arc::clone(error))).is_err(),
        Job::Consumer { done, .. } => done.send(Err(Arc::clone(error))).is_err(),
        #[cfg(test)]
        Job::Space { .. } => false,
    };
}

/// What a job of a committed group is told.
enum Outcome {
    Written,
    Consumer(Result<u64, Arc<StoreError>>),
}

fn tell(group: Vec<Job>, outcomes: Vec<Outcome>) {
    for (job, outcome) in group.into_iter().zip(outcomes) {
        // A receiver that is gone wants no answer.
        let _gone = match (job, outcome) {
            (Job::Batch { done, .. }, _) => done.send(Ok(())).is_err(),
            (Job::Consumer { done, .. }, Outcome::Consumer(outcome)) => done.send(outcome).is_err(),
            (_, Outcome::Written) => false,
            #[cfg(test)]
            (Job::Space { .. }, _) => false,
        };
    }
}

fn commit(
    connection: &mut Connection,
    memory: &mut Memory,
    group: &[Job],
) -> Result<Vec<Outcome>, StoreError> {
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(StoreError::from_sqlite)?;
    let mut outcomes = Vec::with_capacity(group.len());
    for job in group {
        outcomes.push(match job {
            Job::Batch { writes, .. } => {
                apply::apply(&transaction, memory, writes)?;
                Outcome::Written
            }
            Job::Consumer { name, acked, .. } => match consumer(&transaction, name, *acked) {
                Err(
                    refused @ (StoreError::ConsumerAhead { .. } | StoreError::TooManyConsumers(_)),
                ) => Outcome::Consumer(Err(Arc::new(refused))),
                // It may have taken the whole transaction back.
                Err(failed) => return Err(failed),
                Ok(position) => Outcome::Consumer(Ok(position)),
            },
            #[cfg(test)]
            Job::Space { pages } => {
                space(&transaction, *pages);
                Outcome::Written
            }
        });
    }
    transaction.commit().map_err(StoreError::from_sqlite)?;
    Ok(outcomes)
}

/// Where a consumer is, and where it is to be.
struct Consumer {
    held: Option<i64>,
    after: i64,
}

impl Consumer {
    /// Reads it.
    fn find(connection: &Connection, name: &str, acked: Option<u64>) -> Result<Self, StoreError> {
        let head = number(connection, "SELECT coalesce(max(n), 0) FROM event")?;
        if let Some(acked) = acked
            && int(acked) > head
        {
            return Err(StoreError::ConsumerAhead { head: head.cast_unsigned() });
        }
        let held = (|| {
            connection
                .prepare_cached("SELECT acked FROM consumer WHERE name = ?1")?
                .query_row([name], |row| row.get::<_, i64>(0))
                .optional()
        })()
        .map_err(StoreError::from_sqlite)?;
        let after = match (held, acked.map(int)) {
            (None, None) => head,
            (None, Some(acked)) => acked,
            (Some(held), acked) => held.max(acked.unwrap_or(0)),
        };
        Ok(Self { held, after })
    }

    fn is_written(&self) -> bool {
        self.held == Some(self.after)
    }
}

fn number(connection: &Connection, sql: &str) -> Result<i64, StoreError> {
    (|| connection.prepare_cached(sql)?.query_row([], |row| row.get(0)))()
        .map_err(StoreError::from_sqlite)
}

fn consumer(connection: &Connection, name: &str, acked: Option<u64>) -> Result<u64, StoreError> {
    let found = Consumer::find(connection, name, acked)?;
    if !found.is_written() {
        let count = number(connection, "SELECT count(*) FROM consumer")?;
        if found.held.is_none() && count.cast_unsigned() >= CONSUMERS_MAX as u64 {
            return Err(StoreError::TooManyConsumers(CONSUMERS_MAX));
        }
        (|| {
            connection
                .prepare_cached("INSERT OR REPLACE INTO consumer (name, acked) VALUES (?1, ?2)")?
                .execute(params![name, found.after])
        })()
        .map_err(StoreError::from_sqlite)?;
    }
    Ok(found.after.cast_unsigned())
}

#[cfg(test)]
fn space(connection: &Connection, pages: u32) {
    let set = format!("PRAGMA max_page_count = {pages}");
    connection.query_row(&set, [], |row| row.get::<_, i64>(0)).expect("a pragma");
}
