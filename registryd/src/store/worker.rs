//! A thread that owns a connection and runs jobs on it, many to a commit.
//!
//! Each job runs in a savepoint, so that one that fails takes nothing of the others back; its answer
//! goes out only after the commit of the batch.

use std::thread;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::StoreError;

/// Jobs that wait. A full queue makes callers wait; the limits on connections bound how many can.
const QUEUE_JOBS_MAX: usize = 256;

/// Jobs in one commit: one fsync for all of them.
const BATCH_JOBS_MAX: usize = 64;

/// Tells the caller how its job ended, given whether the batch was committed.
type Finish = Box<dyn FnOnce(bool) + Send>;
type Job = Box<dyn FnOnce(&Connection) -> Finish + Send>;

/// The handle to the thread.
#[derive(Clone, Debug)]
pub(super) struct Worker {
    jobs: mpsc::Sender<Job>,
}

impl Worker {
    /// Starts the thread. It ends when the last handle is dropped and the queue is empty.
    pub(super) fn start(name: &str, connection: Connection) -> Result<Worker, std::io::Error> {
        let (jobs, queue) = mpsc::channel(QUEUE_JOBS_MAX);
        thread::Builder::new().name(name.to_owned()).spawn(move || serve(&connection, queue))?;
        Ok(Worker { jobs })
    }

    /// Runs a job and waits for its commit. Cancel safe in that a job once queued runs all the same.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (done, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let result = in_savepoint(connection, job);
            Box::new(move |committed| {
                // A caller that went away needs no answer.
                let _ = done.send(if committed { result } else { Err(StoreError::NotCommitted) });
            })
        });
        self.jobs.send(job).await.map_err(|_| StoreError::Stopped)?;
        answer.await.map_err(|_| StoreError::Stopped)?
    }
}

fn in_savepoint<T>(
    connection: &Connection,
    job: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    connection.execute_batch("SAVEPOINT job")?;
    let result = job(connection);
    let end = match &result {
        Ok(_) => "RELEASE job",
        Err(_) => "ROLLBACK TO job; RELEASE job",
    };
    connection.execute_batch(end)?;
    result
}

fn serve(connection: &Connection, mut queue: mpsc::Receiver<Job>) {
    while let Some(first) = queue.blocking_recv() {
        if let Err(error) = connection.execute_batch("BEGIN") {
            tracing::error!(%error, "the database takes no transaction");
            continue;
        }
        let mut finishes = vec![first(connection)];
        while finishes.len() < BATCH_JOBS_MAX {
            match queue.try_recv() {
                Ok(job) => finishes.push(job(connection)),
                Err(_) => break,
            }
        }
        let committed = commit(connection);
        for finish in finishes {
            finish(committed);
        }
    }
}

fn commit(connection: &Connection) -> bool {
    match connection.execute_batch("COMMIT") {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(%error, "a commit failed");
            if let Err(error) = connection.execute_batch("ROLLBACK") {
                tracing::error!(%error, "a rollback failed");
            }
            false
        }
    }
}
