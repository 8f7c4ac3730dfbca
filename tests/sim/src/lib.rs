//! The simulator: seeded schedules of loss, delay, duplication, reordering between links, partitions,
//! crashes and restored backups over pure nodes, in virtual time. The same seed gives the same run.
//!
//! [`world`] is the machine: nodes with disks, a network, one queue of what happens next. What a node *is*
//! comes through [`Host`]: [`mini`] drives replicas alone. Whole cores around the
//! real registry have a machine of their own: [`whole`].
//! [`schedule`] draws all that is done to a world from a seed, up front; [`script`] plays it; [`check`] holds
//! a finished run against the guarantees of the design (P1-P8); [`shrink`] makes a schedule that breaks one
//! small; [`campaign`] runs many seeds and sums them up.
//!
//! The simulator also plants faults, and its tests demand that each is found within a stated number of
//! seeds: a checker that cannot fail is worth nothing.

pub mod campaign;
pub mod check;
pub mod counts;
pub mod mini;
pub mod net;
pub mod node;
pub mod plan;
pub mod planted;
pub mod schedule;
pub mod script;
pub mod shrink;
pub mod timeline;
pub mod whole;
pub mod world;

#[cfg(test)]
mod tests;

use peerd::core::{
    durable::Snapshot,
    input::{Input, LinkKind, Now},
    memory::Gap,
    output::{Effect, Output},
};
use peerd_proto::wire::{MessageId, StreamId};
use registryd_proto::PublicKey;

/// A pure node of a simulated world.
pub trait Host: Sized {
    /// What all nodes and their environment share: who they are, and what an oracle knows.
    type Plan;
    /// Something that a user does at a node.
    type Act: std::fmt::Debug;

    /// Starts, or starts again, from what is on disk.
    fn start(
        plan: &Self::Plan,
        node: usize,
        snapshot: &Snapshot,
        seed: u64,
        now: Now,
    ) -> (Self, Output);
    /// Something happened.
    fn handle(&mut self, plan: &Self::Plan, now: Now, input: Input) -> Output;
    /// The user does something.
    fn act(&mut self, plan: &Self::Plan, now: Now, act: Self::Act) -> Output;
    /// When it wants a tick.
    fn next_wake(&self, now: Now) -> Option<u64>;

    /// The node behind a key.
    fn node_of(plan: &Self::Plan, kind: LinkKind, key: &PublicKey) -> Option<usize>;
    /// The key that a node shows.
    fn key_of(plan: &Self::Plan, kind: LinkKind, node: usize) -> PublicKey;
    /// What the environment makes of an effect that is none of network or disk: inputs, each for a node
    /// and after so many milliseconds.
    fn environment(
        plan: &mut Self::Plan,
        node: usize,
        effect: Effect,
        now: Now,
    ) -> Vec<(usize, u64, Input)>;
}

/// A guarantee that a run broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// A write left a gap on disk.
    Gap(Gap),
    /// P1: a message was queued, and somebody who should have it does not.
    Lost {
        /// By whom.
        author: usize,
        /// Not at.
        at: usize,
        /// Which.
        id: MessageId,
    },
    /// P2: a message was shown twice.
    ShownTwice {
        /// At.
        at: usize,
        /// Which.
        id: MessageId,
    },
    /// P3: a message was shown before an older one of its author.
    Order {
        /// At.
        at: usize,
        /// Which.
        id: MessageId,
    },
    /// P4: what was shown was never sent so.
    Forged {
        /// At.
        at: usize,
        /// Which.
        id: MessageId,
    },
    /// P5: it was told as delivered, and a recipient does not have it on disk.
    NotOnDisk {
        /// By whom it was told.
        author: usize,
        /// Where it is not.
        at: usize,
        /// Which.
        id: MessageId,
    },
    /// P6: still pending after all was healed.
    Pending {
        /// Whose.
        author: usize,
        /// Which.
        id: MessageId,
    },
    /// P7: somebody has a body from a time when it was no member.
    Leaked {
        /// Who.
        at: usize,
        /// Which.
        id: MessageId,
    },
    /// P8: connected members differ.
    Diverged {
        /// One.
        a: usize,
        /// Another.
        b: usize,
        /// In this stream.
        stream: StreamId,
    },
    /// A message told as given up was shown.
    GivenUpButShown {
        /// Where.
        at: usize,
        /// Which.
        id: MessageId,
    },
    /// A listener was told an event that the log does not hold so, or one twice.
    Told {
        /// Where.
        at: usize,
        /// The number of the event.
        n: u64,
    },
    /// An honest author is found to have used a number twice.
    Forked {
        /// By whom.
        at: usize,
    },
    /// An entry is no later, by its Lamport time, than one that its author held.
    Lamport {
        /// Whose.
        author: usize,
        /// Which.
        id: MessageId,
    },
    /// Nodes did not come to rest.
    Restless,
    /// A whole world broke something.
    Whole(Box<whole::check::Violation>),
    /// A core panicked.
    Panicked,
}
