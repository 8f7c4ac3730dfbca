//! What local clients may do: give commands to the core, and read what is committed.
//!
//! Reads go to the store directly and wait for nobody; commands go through the owner like every input.
//!
//! While the disk is full, commands that only look are answered, and all others refused at once: not done.
//! Those that were under way are told that the outcome is not known, and that the same `--id` again is safe.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use peerd_proto::{
    control::{Command, OutboxAnswer, StatusAnswer},
    wire::MessageId,
};
use registryd_proto::Code;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{doors::Handle, owner::Look};
use crate::{
    core::{Answer, CommandFailure, CommandId, Input},
    store::{Disk, EventsRead, HistoryQuery, HistoryRead, Store, StoreError, Watch},
};

type Outcome = Result<Answer, CommandFailure>;

/// When a client that met a full disk may try again.
const FULL_RETRY_MS: u64 = 5000;

/// Who waits for which command.
#[derive(Debug, Clone, Default)]
pub(super) struct Replies {
    waiting: Arc<Mutex<HashMap<CommandId, oneshot::Sender<Outcome>>>>,
    /// Why the daemon ends, if a commit failed.
    failure: Arc<OnceLock<Arc<StoreError>>>,
}

impl Replies {
    fn expect(&self, id: CommandId) -> oneshot::Receiver<Outcome> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
        receiver
    }

    fn forget(&self, id: CommandId) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id).is_some()
    }

    /// Whether anybody waits for it still.
    pub(super) fn awaits(&self, id: CommandId) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&id)
    }

    pub(super) fn answer(&self, id: CommandId, outcome: Outcome) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if waiting.is_none_or(|sender| sender.send(outcome).is_err()) {
            tracing::debug!(command = id.0, "the client is gone");
        }
    }

    /// Tells all who wait, by dropping their senders, that no answer will come; and from here on why.
    pub(super) fn close(&self, failure: Option<Arc<StoreError>>) {
        if let Some(failure) = failure {
            // The first one is the cause.
            let _later = self.failure.set(failure).is_err();
        }
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Replies {
    /// The outcome of a command that the daemon did not live to answer.
    fn stopping(&self) -> CommandFailure {
        let Some(failure) = self.failure.get() else {
            return CommandFailure::new(Code::PeerdNotRunning, "peerd is stopping");
        };
        let message = format!("peerd stops, for its state cannot be written: {failure}");
        let mut told = CommandFailure::new(Code::PeerdNotRunning, message);
        told.hint = Some("see the log of peerd: what was accepted is kept".to_owned());
        told
    }
}

/// For the control socket. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Api {
    pub(super) handle: Handle,
    pub(super) replies: Replies,
    pub(super) next: Arc<AtomicU64>,
    pub(super) store: Store,
    pub(super) head: watch::Receiver<u64>,
    pub(super) looks: mpsc::Sender<Look>,
}

impl Api {
    /// Gives a command and waits for its only answer. `None`: `gone` was cancelled first, and the core
    /// has been told that nobody waits any more.
    pub async fn command(&self, command: Command, gone: &CancellationToken) -> Option<Outcome> {
        let mut disk = self.store.disk();
        if *disk.borrow() == Disk::Full {
            return tokio::select! {
                outcome = self.look(command) => Some(outcome.unwrap_or_else(|| Err(not_done()))),
                () = gone.cancelled() => None,
            };
        }
        let look = looks(&command).then(|| command.clone());
        let id = CommandId(self.next.fetch_add(1, Ordering::Relaxed));
        let reply = self.replies.expect(id);
        let full = async {
            if disk.wait_for(|disk| *disk == Disk::Full).await.is_err() {
                // The writer has ended: `reply` says so.
                std::future::pending().await
            }
        };
        tokio::pin!(full);
        let sent = tokio::select! {
            biased;
            sent = self.handle.send(Input::Command { id, command }) => sent,
            () = &mut full => {
                self.replies.forget(id);
                return Some(Err(not_done()));
            }
        };
        if sent.is_err() {
            self.replies.forget(id);
            return Some(Err(self.replies.stopping()));
        }
        tokio::select! {
            biased;
            outcome = reply => Some(outcome.unwrap_or_else(|_| Err(self.replies.stopping()))),
            () = gone.cancelled() => {
                if self.replies.forget(id) {
                    // An owner that has stopped has given up all commands.
                    let _stopped = self.handle.send(Input::Abandoned { id }).await.is_err();
                }
                None
            }
            () = &mut full => {
                self.replies.forget(id);
                // The owner takes nothing now; what it has no room for ends by its own deadline.
                self.handle.offer(Input::Abandoned { id });
                let outcome = match look {
                    Some(look) => self.look(look).await,
                    None => None,
                };
                Some(outcome.unwrap_or_else(|| Err(unknown())))
            }
        }
    }

    /// The answer to a command that only looks, while the disk is full: of messages, only what is on it. `None`
    /// for any other.
    async fn look(&self, command: Command) -> Option<Outcome> {
        let (answer, answered) = oneshot::channel();
        if self.looks.send(Look { command, answer }).await.is_err() {
            return Some(Err(self.replies.stopping()));
        }
        let Ok(found) = answered.await else { return Some(Err(self.replies.stopping())) };
        match found? {
            Ok(answer) => Some(self.as_on_disk(answer).await),
            Err(failure) => Some(Err(failure)),
        }
    }

    async fn as_on_disk(&self, answer: Answer) -> Outcome {
        match answer {
            Answer::Status(status) => {
                let outbox = self.queued().await?.len() as u64;
                let head = *self.head.borrow();
                Ok(Answer::Status(Box::new(StatusAnswer {
                    disk_full: true,
                    head,
                    outbox,
                    ..*status
                })))
            }
            Answer::Outbox(OutboxAnswer { mut messages }) => {
                let queued = self.queued().await?;
                messages.retain(|message| queued.contains(&message.id));
                Ok(Answer::Outbox(OutboxAnswer { messages }))
            }
            answer => Ok(answer),
        }
    }

    async fn queued(&self) -> Result<Vec<MessageId>, CommandFailure> {
        self.store.queued().await.map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "the outbox cannot be read");
            CommandFailure::new(Code::Internal, "the outbox cannot be read")
        })
    }

    /// Whether commits find space, now and whenever that changes.
    pub fn disk(&self) -> watch::Receiver<Disk> {
        self.store.disk()
    }

    /// How many looks of `watch` in a row have found the store's writer at work at one and the same thing.
    pub fn looks_at_work(&self, watch: &mut Watch) -> u32 {
        self.store.looks_at_work(watch)
    }

    /// The number of the newest committed event, now and whenever it grows.
    pub fn head(&self) -> watch::Receiver<u64> {
        self.head.clone()
    }

    /// Some events behind `after`, in order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn events(&self, after: u64) -> Result<EventsRead, StoreError> {
        self.store.events(after).await
    }

    /// The newest messages of a conversation, oldest first; `None` if the target is not known.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn history(&self, query: HistoryQuery) -> Result<Option<HistoryRead>, StoreError> {
        self.store.history(query).await
    }

    /// The position of a named consumer, moved forward to `acked`; a new one begins at the newest event.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn consumer(&self, name: String, acked: Option<u64>) -> Result<u64, Arc<StoreError>> {
        self.store.consumer(name, acked).await
    }

    /// The id of the event log.
    pub fn log(&self) -> &str {
        self.store.log()
    }
}

/// Whether a command may be one that only looks; it is asked for again then.
fn looks(command: &Command) -> bool {
    matches!(
        command,
        Command::Status(_)
            | Command::Requests(_)
            | Command::Rooms(_)
            | Command::Members(_)
            | Command::Contacts(_)
            | Command::Outbox(_)
    )
}

/// What a command is told that is not begun while the disk is full.
pub fn not_done() -> CommandFailure {
    full(Code::RateLimited, "peerd's disk is full: this was not done")
        .hint("make space; peerd goes on by itself then. Reading works meanwhile")
}

/// Not the code of what was not done: who sends that again without an id would send it twice.
fn unknown() -> CommandFailure {
    full(Code::TimedOut, "peerd's disk is full: it is not known whether this was done")
        .hint("make space; peerd goes on by itself then. A send with the same --id is safe")
}

fn full(code: Code, message: &str) -> CommandFailure {
    let failure = CommandFailure::new(code, message);
    CommandFailure { retry_after_ms: Some(FULL_RETRY_MS), ..failure }
}
