//! The daemon: one task owns the core, and everything else reports to it or is told by it.
//!
//! ```text
//! doors ──Handle──▶ owner ──writes──▶ store
//!   ▲                 └──effects──▶ release ◀──commit done──┘
//!   └────────Doors, Replies────────────┘
//! ```
//!
//! Doors (`peer`, `room`, `registry`) hold a [`Handle`] and receive commands from [`Doors`]; `control` holds an
//! [`Api`]. Every queue is bounded.
//!
//! Invariant: no effect is done before all that was written before it is on disk (`release`).
//!
//! A full disk stops nothing but the flow: batches wait in the store, effects behind them, the owner takes no
//! inputs, and all goes on from there once there is space.

mod api;
mod clock;
mod doors;
mod owner;
mod release;
#[cfg(test)]
mod tests;

use std::sync::{Arc, atomic::AtomicU64};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

pub use api::{Api, not_done};
pub use clock::now;
pub use doors::{
    DoorReceivers, Doors, Gone, Handle, LinksCommand, LinksHandle, Permit, RegistryCommand,
    RegistryHandle,
};
pub use owner::{Machine, Owner};
pub use release::{DaemonError, Release};

pub use crate::store::{Disk, EventsRead, HistoryQuery, HistoryRead, StoreError, Watch};
use crate::{
    core::{Input, Output},
    store::Store,
};

/// The parts of a daemon, ready to run: each of the first two as a task of its own.
#[derive(Debug)]
pub struct Daemon<M> {
    /// Holds the machine.
    pub owner: Owner<M>,
    /// Does the effects; ends first.
    pub release: Release,
    /// For local clients.
    pub api: Api,
}

impl<M: Machine> Daemon<M> {
    /// Puts the parts together. The machine comes with what it wants first; `head` is the newest event in
    /// the store.
    pub fn new(
        (machine, first): (M, Output),
        head: u64,
        store: Store,
        doors: Doors,
        (handle, inputs): (Handle, mpsc::Receiver<Input>),
    ) -> Self {
        let (batches, batches_receiver) = mpsc::channel(owner::BATCHES_MAX);
        let (head, head_receiver) = watch::channel(head);
        let (looks, looks_receiver) = mpsc::channel(owner::LOOKS_MAX);
        let replies = api::Replies::default();
        let api = Api {
            handle: handle.clone(),
            replies: replies.clone(),
            next: Arc::new(AtomicU64::new(1)),
            store: store.clone(),
            head: head_receiver,
            looks,
        };
        let inputs = owner::Inputs { inputs, looks: looks_receiver, disk: store.disk() };
        let owner = Owner::new(machine, first, inputs, store.clone(), batches, replies.clone());
        let release = Release {
            batches: batches_receiver,
            store,
            doors,
            replies,
            head,
            handle,
            loads: JoinSet::new(),
        };
        Self { owner, release, api }
    }
}
