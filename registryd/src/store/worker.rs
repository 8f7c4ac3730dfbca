//! A thread that owns a connection and runs jobs on it, many to a commit.
//!
//! Each job runs in a savepoint, so that one that fails takes nothing of the others back; its answer
//! goes out only after the commit of the batch.
//!
//! A full disk takes a batch back whole: each caller is told so, nothing of it stays, and the next batch
//! tries anew.
//!
//! Invariant: a disk that failed a commit is not asked again. After a failed fsync nobody knows what is
//! on it, and the next one may say that all is well: the thread ends, and a start checks the file anew.

#[cfg(any(test, feature = "simulation"))]
use std::sync::{Mutex, PoisonError};
use std::{sync::Arc, thread, time::Instant};

use rusqlite::{Connection, ErrorCode, ffi};
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};

use super::StoreError;
use crate::stats::QueueStats;

/// Jobs that wait: some tenths of a second of work on a fair disk, more on a slow one. Whoever comes to a
/// full queue is told to come back later, so that those in it are answered in time.
pub(super) const QUEUE_JOBS_MAX: usize = 1024;

/// What may be [offered](Worker::offer) fills no more than half of the queue.
const OFFERS_MIN_FREE: usize = QUEUE_JOBS_MAX / 2;

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

/// What is wrong with the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// The commit failed, and the file is as it was.
    Other,
    /// It is full: nothing of the batch is in the file.
    Full,
    /// The file cannot be trusted after this.
    Fatal,
}

/// A job that ran, before its commit.
pub(super) struct Ran {
    /// What it met.
    fault: Option<Fault>,
    /// Tells the caller how it ended, given why the batch was not committed.
    finish: Box<dyn FnOnce(Option<Fault>) + Send>,
}

/// Runs in the transaction of its batch, or is told that there is none.
type Job = Box<dyn FnOnce(Result<&Connection, Fault>) -> Ran + Send>;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// A caller that can be told to come back when the queue is full.
    Refused,
    /// A task of the registry itself, of which there are few: it waits for its place.
    Waits,
}

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
        stats: Arc<QueueStats>,
    ) -> Result<Worker, std::io::Error> {
        let (jobs, queue) = mpsc::channel(QUEUE_JOBS_MAX);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || serve(&connection, queue, batch, &stats))?;
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
    ///
    /// # Errors
    /// [`StoreError::Overloaded`] before anything was done, where the queue is full and the caller is one
    /// that is refused then.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        patience: Patience,
        job: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (done, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| run_one(connection, job, done));
        match (self, patience) {
            (Self::Thread(jobs), Patience::Refused) => {
                jobs.try_send(job).map_err(|error| match error {
                    TrySendError::Full(_) => StoreError::Overloaded,
                    TrySendError::Closed(_) => StoreError::Stopped,
                })?;
            }
            (Self::Thread(jobs), Patience::Waits) => {
                jobs.send(job).await.map_err(|_| StoreError::Stopped)?;
            }
            #[cfg(any(test, feature = "simulation"))]
            (Self::Caller(connection), _) => {
                crate::simulation::pause().await;
                run_here(connection, job);
                crate::simulation::pause().await;
            }
        }
        answer.await.map_err(|_| StoreError::Stopped)?
    }

    /// Queues a job that nobody waits for, unless there is much to do: then it is dropped.
    pub(super) fn offer(
        &self,
        job: impl FnOnce(&Connection) -> Result<(), StoreError> + Send + 'static,
    ) {
        let job: Job = Box::new(move |connection| run_one(connection, job, oneshot::channel().0));
        match self {
            Self::Thread(jobs) if jobs.capacity() < OFFERS_MIN_FREE => {}
            Self::Thread(jobs) => {
                // Full or closed: it is dropped as well.
                let _ = jobs.try_send(job);
            }
            #[cfg(any(test, feature = "simulation"))]
            Self::Caller(connection) => run_here(connection, job),
        }
    }
}

fn run_one<T: Send + 'static>(
    connection: Result<&Connection, Fault>,
    job: impl FnOnce(&Connection) -> Result<T, StoreError>,
    done: oneshot::Sender<Result<T, StoreError>>,
) -> Ran {
    let result = match connection {
        Ok(connection) => in_savepoint(connection, job),
        Err(_) => Err(StoreError::NotCommitted),
    };
    let fault = match &result {
        Err(StoreError::Sqlite(error)) => fault(error),
        _ => None,
    };
    let finish = Box::new(move |failed| {
        let told = match (failed, result) {
            (None, result) if fault == Some(Fault::Full) => result.map_err(|_| StoreError::Full),
            (None, result) => result,
            (Some(Fault::Full), _) => Err(StoreError::Full),
            (Some(Fault::Other | Fault::Fatal), _) => Err(StoreError::NotCommitted),
        };
        // A caller that went away needs no answer.
        let _ = done.send(told);
    });
    Ran { fault, finish }
}

fn in_savepoint<T>(
    connection: &Connection,
    job: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    execute(connection, "SAVEPOINT job")?;
    let result = job(connection);
    match &result {
        Ok(_) => execute(connection, "RELEASE job")?,
        Err(_) => {
            // Fails where the fault took the whole transaction back: the commit fails as well then.
            let _ = execute(connection, "ROLLBACK TO job")
                .and_then(|()| execute(connection, "RELEASE job"));
        }
    }
    result
}

/// Runs a statement that is asked for again and again.
fn execute(connection: &Connection, statement: &'static str) -> Result<(), rusqlite::Error> {
    connection.prepare_cached(statement)?.execute([])?;
    Ok(())
}

fn serve(
    connection: &Connection,
    mut queue: mpsc::Receiver<Job>,
    batch: Batch,
    stats: &QueueStats,
) {
    while let Some(first) = queue.blocking_recv() {
        let (start, changes) = (Instant::now(), connection.total_changes());
        let mut jobs = 1;
        let mut others = (1..batch.jobs_max()).map_while(|_| queue.try_recv().ok());
        let ran = run_batch(connection, first, || others.next().inspect(|_| jobs += 1));
        stats.batch_ended(jobs, start, ran.is_ok());
        match ran {
            Err(Fault::Full) => stats.set_full(true),
            // One that changed nothing wrote nothing.
            Ok(()) if connection.total_changes() != changes => stats.set_full(false),
            _ => {}
        }
        if ran == Err(Fault::Fatal) {
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
) -> Result<(), Fault> {
    if let Err(error) = execute(connection, "BEGIN") {
        tracing::error!(%error, "the database takes no transaction");
        let fault = fault(&error).unwrap_or(Fault::Other);
        (first(Err(fault)).finish)(Some(fault));
        return Err(fault);
    }
    let mut ran = vec![first(Ok(connection))];
    // A fault can take the whole transaction back; what ran after it would commit by itself.
    while !connection.is_autocommit()
        && let Some(job) = next()
    {
        ran.push(job(Ok(connection)));
    }
    let met = ran.iter().filter_map(|job| job.fault).max();
    let failed = match (commit(connection), met) {
        (Ok(()), met) => met.filter(|met| *met == Fault::Fatal),
        // What a job met is the cause of it.
        (Err(error), met) => met.max(fault(&error)).or(Some(Fault::Other)),
    };
    for job in ran {
        (job.finish)(failed);
    }
    failed.map_or(Ok(()), Err)
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

/// What an error says of the disk; `None`: nothing, it is of the statement.
fn fault(error: &rusqlite::Error) -> Option<Fault> {
    // The shared memory of the write-ahead log is a file as well, and could not grow.
    let grow = error.sqlite_error().is_some_and(|e| e.extended_code == ffi::SQLITE_IOERR_SHMSIZE);
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Some(Fault::Full),
        _ if grow => Some(Fault::Full),
        Some(ErrorCode::SystemIoFailure | ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Some(Fault::Fatal)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_fsync_is_fatal_and_a_full_disk_is_not() {
        let of = |code| fault(&rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        for code in [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_CORRUPT] {
            assert_eq!(of(code), Some(Fault::Fatal), "{code}");
        }
        for code in [ffi::SQLITE_FULL, ffi::SQLITE_IOERR_SHMSIZE] {
            assert_eq!(of(code), Some(Fault::Full), "{code}");
        }
        assert_eq!(of(ffi::SQLITE_BUSY), None);
    }
}
