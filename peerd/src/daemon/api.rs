//! What local clients may do: give commands to the core, and read what is committed.
//!
//! Reads go to the store directly and wait for nobody; commands go through the owner like every input.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use peerd_proto::control::Command;
use registryd_proto::Code;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::doors::Handle;
use crate::{
    core::{Answer, CommandFailure, CommandId, Input},
    store::{EventsRead, HistoryQuery, HistoryRead, Store, StoreError},
};

type Outcome = Result<Answer, CommandFailure>;

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
        let hint = match **failure {
            StoreError::Full(_) => "make space, then start peerd: what was accepted is kept",
            _ => "see the log of peerd: what was accepted is kept",
        };
        told.hint = Some(hint.to_owned());
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
}

impl Api {
    /// Gives a command and waits for its only answer. `None`: `gone` was cancelled first, and the core
    /// has been told that nobody waits any more.
    pub async fn command(&self, command: Command, gone: &CancellationToken) -> Option<Outcome> {
        let id = CommandId(self.next.fetch_add(1, Ordering::Relaxed));
        let reply = self.replies.expect(id);
        if self.handle.send(Input::Command { id, command }).await.is_err() {
            self.replies.forget(id);
            return Some(Err(self.replies.stopping()));
        }
        tokio::select! {
            outcome = reply => Some(outcome.unwrap_or_else(|_| Err(self.replies.stopping()))),
            () = gone.cancelled() => {
                if self.replies.forget(id) {
                    // An owner that has stopped has given up all commands.
                    let _stopped = self.handle.send(Input::Abandoned { id }).await.is_err();
                }
                None
            }
        }
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
