//! The release: does the effects of each batch after its commit, in order.
//!
//! Invariant: an effect is done only after the writes of its batch, and of all batches before, are on disk.
//! A batch without writes rides behind those before it. A commit that fails ends the daemon, and no effect
//! behind it is ever done.
//!
//! It waits for the doors (see `doors` for why that cannot lock up), and never for the owner: what reports
//! back does so from a task of its own.

use std::sync::Arc;

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tracing::Instrument as _;

use super::{
    api::Replies,
    doors::{Doors, Handle, LinksCommand, RegistryCommand},
};
use crate::{
    core::{Effect, Input, Recalled},
    store::{Committing, Store, StoreError},
};

/// Why the daemon ends before its time.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A commit failed; the next start goes on from what is committed.
    #[error("the state cannot be written; nothing was told to anybody that is not on disk")]
    Store(#[from] Arc<StoreError>),
    /// The owner's task ended by itself.
    #[error("the owner of the state has ended")]
    OwnerGone,
}

/// Effects with the commit that they wait for.
#[derive(Debug)]
pub(super) struct Batch {
    /// `None`: no writes.
    pub(super) commit: Option<Result<Committing, StoreError>>,
    /// The newest event in the writes.
    pub(super) head: Option<u64>,
    pub(super) effects: Vec<Effect>,
}

/// Does the effects.
#[derive(Debug)]
pub struct Release {
    pub(super) batches: mpsc::Receiver<Batch>,
    pub(super) store: Store,
    pub(super) doors: Doors,
    pub(super) replies: Replies,
    pub(super) head: watch::Sender<u64>,
    pub(super) handle: Handle,
    pub(super) loads: JoinSet<()>,
}

/// Whether to go on.
enum Next {
    Continue,
    Stopped,
}

impl Release {
    /// Runs until `Effect::Stopped`, or until a commit fails. The doors' queues are closed afterwards.
    ///
    /// # Errors
    /// [`DaemonError`]: the process has to end.
    pub async fn run(mut self) -> Result<(), DaemonError> {
        let result = self.release_all().await;
        let failure = match &result {
            Err(DaemonError::Store(failure)) => Some(Arc::clone(failure)),
            Err(DaemonError::OwnerGone) | Ok(()) => None,
        };
        self.replies.close(failure);
        result
    }

    async fn release_all(&mut self) -> Result<(), DaemonError> {
        while let Some(batch) = self.batches.recv().await {
            if let Some(commit) = batch.commit {
                commit.map_err(Arc::new)?.done().await?;
            }
            if let Some(head) = batch.head {
                self.head.send_replace(head);
            }
            for effect in batch.effects {
                if let Next::Stopped = self.effect(effect).await {
                    return Ok(());
                }
            }
            while self.loads.try_join_next().is_some() {}
        }
        Err(DaemonError::OwnerGone)
    }

    async fn effect(&mut self, effect: Effect) -> Next {
        let links = &self.doors.links;
        let registry = &self.doors.registry;
        match effect {
            Effect::Reply { id, result } => self.replies.answer(id, result),
            Effect::Send { link, frame } => links.send(LinksCommand::Send { link, frame }).await,
            Effect::Close { link, goodbye } => {
                links.send(LinksCommand::Close { link, goodbye }).await;
            }
            Effect::Dial { kind, key, addresses, timeout_ms } => {
                links.send(LinksCommand::Dial { kind, key, addresses, timeout_ms }).await;
            }
            Effect::Bind { peer_port, room_port } => {
                links.send(LinksCommand::Bind { peer_port, room_port }).await;
            }
            Effect::Unbind => links.send(LinksCommand::Unbind).await,
            Effect::Call { call, registry: address, request } => {
                let command = RegistryCommand::Call { call, registry: address, request };
                registry.send(command).await;
            }
            Effect::Probe { call, registry: address } => {
                registry.send(RegistryCommand::Probe { call, registry: address }).await;
            }
            Effect::StartHello { registry: address, grant } => {
                registry.send(RegistryCommand::StartHello { registry: address, grant }).await;
            }
            Effect::StopHello => registry.send(RegistryCommand::StopHello).await,
            Effect::Load { load, conversation, author, stream, after_seq, limit } => {
                let (store, handle) = (self.store.clone(), self.handle.clone());
                let read = async move {
                    let found = store.entries(conversation, author, stream, after_seq, limit).await;
                    let entries = found.unwrap_or_else(|error| {
                        let error = &error as &dyn std::error::Error;
                        tracing::error!(error, "entries cannot be read");
                        Vec::new()
                    });
                    // An owner that has stopped needs no entries.
                    let _gone = handle.send(Input::Loaded { load, entries }).await.is_err();
                };
                self.loads.spawn(read.instrument(tracing::debug_span!("load", load = load.0)));
            }
            Effect::Recall { load, conversation, id } => {
                let (store, handle) = (self.store.clone(), self.handle.clone());
                let read = async move {
                    let found = match store.recall(conversation, id).await {
                        Ok(None) => Recalled::New,
                        Ok(Some(kept)) => Recalled::Kept(Box::new(kept)),
                        Err(error) => {
                            let error = &error as &dyn std::error::Error;
                            tracing::error!(error, "our messages cannot be read");
                            Recalled::Failed
                        }
                    };
                    // An owner that has stopped sends nothing.
                    let _gone = handle.send(Input::Recalled { load, found }).await.is_err();
                };
                self.loads.spawn(read.instrument(tracing::debug_span!("recall", load = load.0)));
            }
            Effect::Stopped => return Next::Stopped,
        }
        Next::Continue
    }
}
