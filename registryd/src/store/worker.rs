//! A thread that owns a connection and runs jobs on it, many to a commit.
//!
//! Each job runs in a savepoint, so that one that fails takes nothing of the others back; its answer
//! goes out only after the commit of the batch.
//!
//! Invariant: a disk that failed a commit is not asked again. After a failed fsync nobody knows what is
//! on it, and the next one may say that all is well: the thread ends, and a start checks the file anew.

#[cfg(any(test, feature = "simulation"))]
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot};

use super::StoreError;

/// Jobs that wait. A full queue makes callers wait; the limits on connections bound how many can.
const QUEUE_JOBS_MAX: usize = 256;

/// How many jobs share a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Batch {
    /// For writing: one fsync for all that wait.
    Shared,
    /// For reading: each job sees all that was committed before it began. In a shared transaction it
    /// would see the state of the first job, and deny a caller what it was just told.
    Single,
}

impl Batch {
    fn jobs_max(self) -> usize {
        match self {
            Self::Shared => 64,
            Self::Single => 1,
        }
    }
}

/// Tells the caller how its job ended, given whether the batch was committed.
type Finish = Box<dyn FnOnce(bool) + Send>;
type Job = Box<dyn FnOnce(&Connection) -> Finish + Send>;

/// The handle to the connection.
#[derive(Clone, Debug)]
pub(super) enum Worker {
    /// By way of its thread.
    Thread(mpsc::Sender<Job>),
    /// Each job at once, by the caller, for a simulator.
    #[cfg(any(test, feature = "simulation"))]
    Caller(Arc<Mutex<Connection>>),
}

impl Worker {
    /// Starts the thread. It ends when the last handle is dropped and the queue is empty, and when the
    /// disk failed.
    pub(super) fn start(
        name: &str,
        connection: Connection,
        batch: Batch,
    ) -> Result<Worker, std::io::Error> {
        let (jobs, queue) = mpsc::channel(QUEUE_JOBS_MAX);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || serve(&connection, queue, batch))?;
        Ok(Worker::Thread(jobs))
    }

    /// Ends when the thread has ended, which it does only by a fault as long as there are handles.
    pub(super) async fn failed(&self) {
        match self {
            Self::Thread(jobs) => jobs.closed().await,
            #[cfg(any(test, feature = "simulation"))]
            Self::Caller(_) => std::future::pending().await,
        }
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
        match self {
            Self::Thread(jobs) => jobs.send(job).await.map_err(|_| StoreError::Stopped)?,
            #[cfg(any(test, feature = "simulation"))]
            Self::Caller(connection) => {
                crate::simulation::pause().await;
                run_here(connection, job);
                crate::simulation::pause().await;
            }
        }
        answer.await.map_err(|_| StoreError::Stopped)?
    }
}

fn in_savepoint<T>(
    connection: &Connection,
    job: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    execute(connection, "SAVEPOINT job")?;
    let result = job(connection);
    if result.is_err() {
        execute(connection, "ROLLBACK TO job")?;
    }
    execute(connection, "RELEASE job")?;
    result
}

/// Runs a statement that is asked for again and again.
fn execute(connection: &Connection, statement: &'static str) -> Result<(), rusqlite::Error> {
    connection.prepare_cached(statement)?.execute([])?;
    Ok(())
}

fn serve(connection: &Connection, mut queue: mpsc::Receiver<Job>, batch: Batch) {
    while let Some(first) = queue.blocking_recv() {
        let mut others = (1..batch.jobs_max()).map_while(|_| queue.try_recv().ok());
        if run_batch(connection, first, || others.next()).is_err_and(|error| is_fatal(&error)) {
            tracing::error!(
                "the disk failed: the store ends, so that a start checks the file anew"
            );
            return;
        }
    }
}

#[cfg(any(test, feature = "simulation"))]
fn run_here(connection: &Mutex<Connection>, job: Job) {
    let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
    // The answer tells the caller of a fault.
    let _ = run_batch(&connection, job, || None);
}

/// Runs jobs in one transaction, and tells their callers once it is committed or not.
///
/// # Errors
/// Why it was not committed.
fn run_batch(
    connection: &Connection,
    first: Job,
    mut next: impl FnMut() -> Option<Job>,
) -> Result<(), rusqlite::Error> {
    if let Err(error) = execute(connection, "BEGIN") {
        tracing::error!(%error, "the database takes no transaction");
        return Err(error);
    }
    let mut finishes = vec![first(connection)];
    // A fault can take the whole transaction back; what ran after it would commit by itself.
    while !connection.is_autocommit()
        && let Some(job) = next()
    {
        finishes.push(job(connection));
    }
    let committed = commit(connection);
    for finish in finishes {
        finish(committed.is_ok());
    }
    committed
}

fn commit(connection: &Connection) -> Result<(), rusqlite::Error> {
    let committed = execute(connection, "COMMIT");
    if let Err(error) = &committed {
        tracing::error!(%error, "a commit failed");
        if !connection.is_autocommit()
            && let Err(error) = connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a rollback failed");
        }
    }
    committed
}

/// Whether the file cannot be trusted after this. A full disk can: nothing of the commit is in it.
fn is_fatal(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::SystemIoFailure | ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn a_failed_fsync_is_fatal_and_a_full_disk_is_not() {
        let fatal = |code| is_fatal(&rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        assert!(fatal(ffi::SQLITE_IOERR_FSYNC));
        assert!(fatal(ffi::SQLITE_IOERR_WRITE));
        assert!(fatal(ffi::SQLITE_CORRUPT));
        assert!(!fatal(ffi::SQLITE_FULL));
        assert!(!fatal(ffi::SQLITE_BUSY));
    }
}
