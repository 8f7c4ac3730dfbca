//! The store: what must not be lost, in one SQLite file. The only place that names rusqlite.
//!
//! One thread owns the connection that writes: WAL, `synchronous = FULL`, every batch that waits in one
//! commit. Reads have connections of their own and never wait for it. Called by `daemon` alone.
//!
//! Invariant: when [`Store::commit`] says yes, the batch and all before it survive a power loss.
//!
//! A commit that finds no space waits for it ([`Disk`]): nothing was told to anybody that is not on disk, so
//! nothing has to be taken back. One that fails otherwise is fatal: the core has already gone on from the
//! state that it wanted written, so peerd says why, ends with exit code 1, and the next start goes on from
//! what is committed. Damage is refused with a hint; a database is never replaced in silence.
//!
//! JSON holds what is read whole and seldom written; columns hold what is written for each message. Headers
//! and documents are stored byte for byte as they were signed.

mod apply;
mod error;
mod progress;
mod read;
mod schema;
mod snapshot;
mod writer;

use std::{path::Path, sync::Arc, thread};

use peerd_proto::wire::{ConversationId, MessageId, StreamId, VerifiedEntry};
use registryd_proto::PublicKey;
use tokio::sync::{mpsc, oneshot, watch};

pub use error::StoreError;
use progress::Progress;
pub use progress::Watch;
pub use read::{EventsRead, HistoryQuery, HistoryRead};
pub use writer::Disk;
use writer::{Job, Writer};

use crate::core::durable::{Kept, Snapshot, Write};

/// How many jobs wait for the writer; then the owner waits as well.
const JOBS_MAX: usize = 64;
/// Connections for the core's reads.
const LOADERS: usize = 2;
/// Connections for the reads of local clients.
const QUERIES: usize = 4;

/// What [`open`] gives.
#[derive(Debug)]
pub struct Opened {
    /// Writes and reads.
    pub store: Store,
    /// The state to start from.
    pub snapshot: Snapshot,
    /// The writer: ends when every [`Store`] is dropped or a commit fails.
    pub writer: thread::JoinHandle<()>,
}

/// Writes and reads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
    loaders: read::Pool,
    queries: read::Pool,
    log: Arc<str>,
    disk: watch::Receiver<Disk>,
    progress: Arc<Progress>,
}

/// The answer to a batch: waits for its commit. Dropped, the batch is committed all the same.
#[derive(Debug)]
pub struct Committing(oneshot::Receiver<Result<(), Arc<StoreError>>>);

impl Committing {
    /// Waits for the commit.
    ///
    /// # Errors
    /// Any is fatal.
    pub async fn done(self) -> Result<(), Arc<StoreError>> {
        self.0.await.unwrap_or_else(|_| Err(Arc::new(StoreError::Stopped)))
    }
}

/// Opens the database and reads the state; makes a new one if `may_create`. Blocks.
///
/// # Errors
/// [`StoreError`]; the file is unchanged then.
pub fn open(path: &Path, may_create: bool) -> Result<Opened, StoreError> {
    let connection = schema::open_writer(path, may_create)?;
    let snapshot = snapshot::load(&connection)?;
    let log = connection
        .query_row("SELECT json ->> '$' FROM setting WHERE name = 'event_log'", [], |row| {
            row.get::<_, String>(0)
        })
        .map_err(StoreError::from_sqlite)?;
    let (jobs, receiver) = mpsc::channel(JOBS_MAX);
    let (state, disk) = watch::channel(Disk::Ready);
    let progress = Arc::new(Progress::default());
    let writer =
        Writer { connection, jobs: receiver, disk: state, progress: Arc::clone(&progress) };
    let writer = thread::Builder::new()
        .name("store".to_owned())
        .spawn(move || writer.run())
        .map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
    let store = Store {
        jobs,
        loaders: read::Pool::new(path, LOADERS),
        queries: read::Pool::new(path, QUERIES),
        log: log.into(),
        disk,
        progress,
    };
    Ok(Opened { store, snapshot, writer })
}

impl Store {
    /// Queues a batch behind those before it; waits only while the queue is full.
    ///
    /// # Errors
    /// [`StoreError::Stopped`], which is fatal.
    pub async fn commit(&self, writes: Vec<Write>) -> Result<Committing, StoreError> {
        let (done, receiver) = oneshot::channel();
        let job = Job::Batch { writes, done };
        self.jobs.send(job).await.map_err(|_| StoreError::Stopped)?;
        Ok(Committing(receiver))
    }

    /// Consecutive entries of one stream behind `after_seq`, as many as are there and fit a frame.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn entries(
        &self,
        conversation: ConversationId,
        author: PublicKey,
        stream: StreamId,
        after_seq: u64,
        limit: u32,
    ) -> Result<Vec<VerifiedEntry>, StoreError> {
        let read = move |connection: &_| {
            read::entries(connection, &conversation, &author, &stream, after_seq, limit)
        };
        self.loaders.run(read).await
    }

    /// Our message by the id that its caller gave; a settled one, if several have it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn recall(
        &self,
        conversation: ConversationId,
        id: MessageId,
    ) -> Result<Option<Kept>, StoreError> {
        self.loaders.run(move |connection| read::recall(connection, &conversation, &id)).await
    }

    /// Some events behind `after`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn events(&self, after: u64) -> Result<EventsRead, StoreError> {
        self.queries.run(move |connection| read::events(connection, after)).await
    }

    /// The newest messages of a conversation, oldest first; `None` if the target is not known.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn history(&self, query: HistoryQuery) -> Result<Option<HistoryRead>, StoreError> {
        self.queries.run(move |connection| read::history(connection, &query)).await
    }

    /// The position of a named consumer, moved forward to `acked`; a new one is made, at the newest event.
    ///
    /// # Errors
    /// [`StoreError::ConsumerAhead`], [`StoreError::TooManyConsumers`], or any fatal one.
    pub async fn consumer(&self, name: String, acked: Option<u64>) -> Result<u64, Arc<StoreError>> {
        let (done, receiver) = oneshot::channel();
        let stopped = || Arc::new(StoreError::Stopped);
        self.jobs.send(Job::Consumer { name, acked, done }).await.map_err(|_| stopped())?;
        receiver.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Whether commits find space, now and whenever that changes.
    pub fn disk(&self) -> watch::Receiver<Disk> {
        self.disk.clone()
    }

    /// From here on the file may grow to so many pages: a disk that fills, and is freed.
    #[cfg(test)]
    pub(crate) async fn set_space(&self, pages: u32) {
        self.jobs.send(Job::Space { pages }).await.expect("the writer runs");
    }

    /// How many looks of `watch` in a row have found the writer at work at one and the same thing.
    pub fn looks_at_work(&self, watch: &mut Watch) -> u32 {
        watch.look(&self.progress)
    }

    /// The ids of our messages that wait, as they are on the disk.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn queued(&self) -> Result<Vec<MessageId>, StoreError> {
        self.queries.run(read::queued).await
    }

    /// The id of the event log, drawn when the database was made.
    pub fn log(&self) -> &str {
        &self.log
    }
}

#[cfg(test)]
mod tests;
