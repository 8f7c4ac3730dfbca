//! Who is in a world of replicas, and what an oracle knows: keys, the one conversation, its epochs.

use std::{cell::Cell, collections::BTreeSet};

use peerd::core::replica::Faults;
use peerd_proto::{
    control::EventKind,
    wire::{ConversationId, MessageId},
};
use registryd_proto::{Digest, Keypair, PublicKey, RoomId, Username};

/// The shape of a world of replicas.
pub struct Plan {
    keys: Vec<Keypair>,
    public: Vec<PublicKey>,
    /// The conversation of all.
    pub conversation: ConversationId,
    /// The members at each epoch; epoch n is at n - 1. Empty: a 1:1 conversation of the nodes 0 and 1.
    pub epochs: Vec<BTreeSet<usize>>,
    /// The newest epoch that each node knows, as if on its disk.
    pub known: Vec<Cell<u64>>,
    /// Whether a joiner may read what was before.
    pub history_all: bool,
    /// Faults planted in every replica.
    pub faults: Faults,
    /// Plants a fault: nodes link to everybody, member or not.
    pub link_anyone: bool,
}

impl Plan {
    /// A 1:1 conversation.
    pub fn direct() -> Self {
        Self::with(2, Vec::new())
    }

    /// A room of `nodes`, all but the last a member at epoch 1 if `joiner`.
    pub fn room(nodes: usize, joiner: bool) -> Self {
        let first = if joiner { nodes - 1 } else { nodes };
        Self::with(nodes, vec![(0..first).collect()])
    }

    fn with(nodes: usize, epochs: Vec<BTreeSet<usize>>) -> Self {
        let keys: Vec<Keypair> =
            (0..nodes).map(|n| Keypair::from_secret(&[n as u8 + 1; 32])).collect();
        let public: Vec<PublicKey> = keys.iter().map(Keypair::public).collect();
        let registry = Keypair::from_secret(&[200; 32]).public();
        let conversation = match epochs.is_empty() {
            true => ConversationId::direct(&registry, &public[0], &public[1]),
            false => ConversationId::room(&registry, &RoomId(Digest([7; 32]))),
        };
        let faults = Faults::default();
        let known = (0..nodes).map(|_| Cell::new(u64::from(!epochs.is_empty()))).collect();
        Self {
            keys,
            public,
            conversation,
            epochs,
            known,
            history_all: false,
            faults,
            link_anyone: false,
        }
    }

    /// How many nodes there are.
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// Whether it is a 1:1 conversation.
    pub fn is_direct(&self) -> bool {
        self.epochs.is_empty()
    }

    /// The newest epoch.
    pub fn epoch(&self) -> u64 {
        self.epochs.len() as u64
    }

    /// A node's keys.
    pub fn key(&self, node: usize) -> &Keypair {
        &self.keys[node]
    }

    /// A node's public key.
    pub fn public(&self, node: usize) -> PublicKey {
        self.public[node]
    }

    /// The node of a key.
    pub fn node(&self, key: &PublicKey) -> Option<usize> {
        self.public.iter().position(|k| k == key)
    }

    /// Whether a node was a member at an epoch; both always are in a 1:1 conversation.
    pub fn was_member(&self, node: usize, epoch: u64) -> bool {
        if self.is_direct() {
            return true;
        }
        let at = epoch.checked_sub(1).and_then(|n| self.epochs.get(usize::try_from(n).ok()?));
        at.is_some_and(|members| members.contains(&node))
    }

    /// Whether a node may ever have a body of this epoch.
    pub fn may_have(&self, node: usize, epoch: u64) -> bool {
        self.was_member(node, epoch)
            || (self.history_all && (epoch..=self.epoch()).any(|e| self.was_member(node, e)))
    }

    /// A node's name.
    pub fn name(node: usize) -> Username {
        format!("n{node}").parse().expect("a short name")
    }

    /// The node of a name.
    pub fn named(name: &Username) -> Option<usize> {
        name.as_str().strip_prefix('n')?.parse().ok()
    }

    /// The id of the n-th message of a node.
    pub fn id(node: usize, n: u64) -> MessageId {
        format!("{node}-{n}").parse().expect("a short id")
    }

    /// The n of [`Plan::id`].
    pub fn number(id: &MessageId) -> Option<(usize, u64)> {
        let (node, n) = id.as_str().split_once('-')?;
        Some((node.parse().ok()?, n.parse().ok()?))
    }

    /// The message that an event shows: author, id, text.
    pub fn message(kind: &EventKind) -> Option<(usize, &MessageId, &str)> {
        match kind {
            EventKind::Message { from, id, body, .. } => Some((Self::named(from)?, id, body)),
            _ => None,
        }
    }
}
