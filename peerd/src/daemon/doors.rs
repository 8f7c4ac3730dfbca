//! The doors' side of the daemon: how inputs come in, and how effects go out to links and registry.
//!
//! A door holds a [`Handle`] and one of the command receivers made by [`Doors::new`]. `daemon::release`
//! sends the commands, each only after the writes that it rests on are on disk.
//!
//! Invariant: the task that receives a door's commands never waits for [`Handle::send`]. The owner waits
//! for the doors, so both would wait for each other for ever; a task for each link, dial or call reports
//! instead. A command queue that is full holds the owner back, so a receiver does nothing slow itself: what
//! does not fit a link's own queue cuts that link.

use std::net::SocketAddr;

use peerd_proto::wire::{Frame, Goodbye};
use registryd_proto::{PublicKey, RegistryAddress, Request, SessionGrant};
use tokio::sync::mpsc;

use crate::core::{CallId, Input, LinkId, LinkKind};

/// How many inputs wait for the owner: some frames of each link of a large room. Full: doors wait, and so,
/// by QUIC's windows, do the peers.
const INPUTS_MAX: usize = 1024;
/// How many commands wait for the links' task: a broadcast to the largest room, twice.
const LINK_COMMANDS_MAX: usize = 1024;
/// How many commands wait for the registry's task; the core has few calls open at a time.
const REGISTRY_COMMANDS_MAX: usize = 64;

/// The owner has stopped: whoever reports to it may stop as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the daemon has stopped")]
pub struct Gone;

/// Reports to the owner. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    inputs: mpsc::Sender<Input>,
}

impl Handle {
    /// The handle and the owner's end.
    pub fn new() -> (Self, mpsc::Receiver<Input>) {
        let (inputs, receiver) = mpsc::channel(INPUTS_MAX);
        (Self { inputs }, receiver)
    }

    /// Hands an input over; waits while the owner is behind. Inputs of one task arrive in their order.
    /// Cancelled before it returns, nothing was handed over.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn send(&self, input: Input) -> Result<(), Gone> {
        self.inputs.send(input).await.map_err(|_| Gone)
    }

    /// Waits until one input can be handed over at once. Cancel safe.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn reserve(&self) -> Result<Permit<'_>, Gone> {
        self.inputs.reserve().await.map(Permit).map_err(|_| Gone)
    }

    /// Hands an input over if there is room for it: for what may as well be lost.
    pub fn offer(&self, input: Input) {
        if self.inputs.try_send(input).is_err() {
            tracing::debug!("the owner is behind, or has stopped");
        }
    }
}

/// Room for one input.
#[derive(Debug)]
pub struct Permit<'a>(mpsc::Permit<'a, Input>);

impl Permit<'_> {
    /// Hands the input over.
    pub fn send(self, input: Input) {
        self.0.send(input);
    }
}

/// What the links' task is told.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "moved once, from a queue to its reader: a box for each would cost more"
)]
pub enum LinksCommand {
    /// As `Effect::Send`. To a link that is down: nothing.
    Send {
        /// On which link.
        link: LinkId,
        /// What.
        frame: Frame,
    },
    /// As `Effect::Close`.
    Close {
        /// Which link.
        link: LinkId,
        /// What is said before it closes.
        goodbye: Goodbye,
    },
    /// As `Effect::Dial`: `LinkUp` or `DialFailed` follows.
    Dial {
        /// From which endpoint.
        kind: LinkKind,
        /// Whom.
        key: PublicKey,
        /// Where it may be.
        addresses: Vec<SocketAddr>,
        /// How long it may take.
        timeout_ms: u64,
    },
    /// As `Effect::Bind`: `Bound` follows.
    Bind {
        /// Of the peer listener.
        peer_port: u16,
        /// Of the room listener.
        room_port: u16,
    },
    /// As `Effect::Unbind`.
    Unbind,
}

/// What the registry's task is told.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "moved once, from a queue to its reader: a box for each would cost more"
)]
pub enum RegistryCommand {
    /// As `Effect::Call`: `Input::Registry` follows.
    Call {
        /// Which call.
        call: CallId,
        /// Where; with a key: no other is accepted.
        registry: RegistryAddress,
        /// What.
        request: Request,
    },
    /// As `Effect::Probe`: `Input::Probed` follows.
    Probe {
        /// Which call.
        call: CallId,
        /// Where.
        registry: RegistryAddress,
    },
    /// As `Effect::StartHello`.
    StartHello {
        /// Where.
        registry: RegistryAddress,
        /// The session.
        grant: Box<SessionGrant>,
    },
    /// As `Effect::StopHello`.
    StopHello,
}

/// Sends commands to the links' task.
#[derive(Debug, Clone)]
pub struct LinksHandle {
    commands: mpsc::Sender<LinksCommand>,
}

impl LinksHandle {
    /// Waits for room in the queue; a task that has ended takes nothing, in silence.
    pub async fn send(&self, command: LinksCommand) {
        if self.commands.send(command).await.is_err() {
            tracing::debug!("the links' task has ended");
        }
    }
}

/// Sends commands to the registry's task.
#[derive(Debug, Clone)]
pub struct RegistryHandle {
    commands: mpsc::Sender<RegistryCommand>,
}

impl RegistryHandle {
    /// Waits for room in the queue; a task that has ended takes nothing, in silence.
    pub async fn send(&self, command: RegistryCommand) {
        if self.commands.send(command).await.is_err() {
            tracing::debug!("the registry's task has ended");
        }
    }
}

/// Where effects go.
#[derive(Debug)]
pub struct Doors {
    /// Peer and room links.
    pub links: LinksHandle,
    /// Requests and HELLO.
    pub registry: RegistryHandle,
}

/// The doors' ends: one for the links' task, one for the registry's. Each ends when `Doors` is dropped.
#[derive(Debug)]
pub struct DoorReceivers {
    /// For the links' task.
    pub links: mpsc::Receiver<LinksCommand>,
    /// For the registry's task.
    pub registry: mpsc::Receiver<RegistryCommand>,
}

impl Doors {
    /// Both ends.
    pub fn new() -> (Self, DoorReceivers) {
        let (links, links_receiver) = mpsc::channel(LINK_COMMANDS_MAX);
        let (registry, registry_receiver) = mpsc::channel(REGISTRY_COMMANDS_MAX);
        let doors = Self {
            links: LinksHandle { commands: links },
            registry: RegistryHandle { commands: registry },
        };
        (doors, DoorReceivers { links: links_receiver, registry: registry_receiver })
    }
}
