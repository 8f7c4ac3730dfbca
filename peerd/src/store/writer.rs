//! The writer: one thread owns the only connection that writes.
//!
//! It takes every job that waits, commits them all in one transaction (one fsync), then answers each. A
//! commit that fails is fatal: every job of it is told so, and the thread ends.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use tokio::sync::{mpsc, oneshot};

use super::{
    apply::{self, Memory, int},
    error::StoreError,
};
use crate::core::durable::Write;

/// How many jobs one commit takes at most: the latency of the first of them is bounded.
const JOBS_PER_COMMIT: usize = 64;
/// How many named consumers a profile may have.
const CONSUMERS_MAX: usize = 256;

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
}

/// What is told after the commit.
enum Told {
    Batch(oneshot::Sender<Result<(), Arc<StoreError>>>),
    Consumer(oneshot::Sender<Result<u64, Arc<StoreError>>>, Result<u64, Arc<StoreError>>),
}

/// Runs until every sender is gone or a commit fails.
pub(super) fn run(mut connection: Connection, mut jobs: mpsc::Receiver<Job>) {
    let mut memory = Memory::default();
    while let Some(first) = jobs.blocking_recv() {
        let mut told = Vec::new();
        let mut group = vec![first];
        while group.len() < JOBS_PER_COMMIT
            && let Ok(job) = jobs.try_recv()
        {
            group.push(job);
        }
        let result = commit(&mut connection, &mut memory, group, &mut told);
        let failed = result.as_ref().err().cloned();
        for one in told {
            // A receiver that is gone wants no answer.
            let _gone = match (one, &failed) {
                (Told::Batch(done), None) => done.send(Ok(())).is_err(),
                (Told::Batch(done), Some(error)) => done.send(Err(Arc::clone(error))).is_err(),
                (Told::Consumer(done, outcome), None) => done.send(outcome).is_err(),
                (Told::Consumer(done, _), Some(error)) => {
                    done.send(Err(Arc::clone(error))).is_err()
                }
            };
        }
        if let Some(error) = failed {
            tracing::error!(error = &*error as &dyn std::error::Error, "a commit failed");
            return;
        }
    }
    if let Err((_, error)) = connection.close() {
        tracing::warn!(error = &error as &dyn std::error::Error, "closing the database failed");
    }
}

fn commit(
    connection: &mut Connection,
    memory: &mut Memory,
    group: Vec<Job>,
    told: &mut Vec<Told>,
) -> Result<(), Arc<StoreError>> {
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(|error| Arc::new(StoreError::from_sqlite(error)));
    let mut failed = transaction.as_ref().err().cloned();
    for job in group {
        match job {
            Job::Batch { writes, done } => {
                told.push(Told::Batch(done));
                if let (Ok(transaction), None) = (&transaction, &failed) {
                    failed = apply::apply(transaction, memory, writes).map_err(Arc::new).err();
                }
            }
            Job::Consumer { name, acked, done } => {
                let Ok(transaction) = &transaction else { continue };
                let outcome = consumer(transaction, &name, acked).map_err(Arc::new);
                told.push(Told::Consumer(done, outcome));
            }
        }
    }
    match (failed, transaction) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => Err(error),
        (None, Ok(transaction)) => {
            transaction.commit().map_err(|error| Arc::new(StoreError::from_sqlite(error)))
        }
    }
}

fn consumer(connection: &Connection, name: &str, acked: Option<u64>) -> Result<u64, StoreError> {
    let number = |sql: &str| {
        let mut statement = connection.prepare_cached(sql)?;
        statement.query_row([], |row| row.get::<_, i64>(0))
    };
    let head = number("SELECT coalesce(max(n), 0) FROM event").map_err(StoreError::from_sqlite)?;
    if let Some(acked) = acked
        && int(acked) > head
    {
        return Err(StoreError::ConsumerAhead { head: head.cast_unsigned() });
    }
    (|| {
        let held = connection
            .prepare_cached("SELECT acked FROM consumer WHERE name = ?1")?
            .query_row([name], |row| row.get::<_, i64>(0))
            .optional()?;
        let count = number("SELECT count(*) FROM consumer")?;
        if held.is_none() && count.cast_unsigned() >= CONSUMERS_MAX as u64 {
            return Ok(None);
        }
        let after = match (held, acked.map(int)) {
            (None, None) => head,
            (None, Some(acked)) => acked,
            (Some(held), acked) => held.max(acked.unwrap_or(0)),
        };
        connection
            .prepare_cached("INSERT OR REPLACE INTO consumer (name, acked) VALUES (?1, ?2)")?
            .execute(params![name, after])?;
        Ok(Some(after.cast_unsigned()))
    })()
    .map_err(StoreError::from_sqlite)?
    .ok_or(StoreError::TooManyConsumers(CONSUMERS_MAX))
}
