//! Who is in a world of replicas, and what an oracle knows: keys, conversations, their epochs.

use std::{
    cell::Cell,
    collections::{BTreeSet, HashMap},
    ops::Range,
};

use peerd::core::replica::Faults;
use peerd_proto::{
    control::EventKind,
    wire::{ConversationId, MessageId},
};
use registryd_proto::{Digest, Keypair, PublicKey, RoomId, Username};

/// One conversation and its nodes. No node is in two.
#[derive(Debug)]
pub struct Group {
    /// Its id.
    pub conversation: ConversationId,
    /// Who may ever be in it.
    pub nodes: Range<usize>,
    /// The members at each epoch; epoch n is at n - 1. Empty: a 1:1 conversation.
    pub epochs: Vec<BTreeSet<usize>>,
}

/// The shape of a world of replicas.
pub struct Plan {
    keys: Vec<Keypair>,
    public: Vec<PublicKey>,
    nodes: HashMap<PublicKey, usize>,
    /// The conversations.
    pub groups: Vec<Group>,
    of: Vec<usize>,
    /// The newest epoch that each node knows, as if on its disk.
    pub known: Vec<Cell<u64>>,
    /// Whether a joiner may read what was before.
    pub history_all: bool,
    /// Faults planted in every replica.
    pub faults: Faults,
    /// Plants a fault: nodes link to everybody, member or not.
    pub link_anyone: bool,
    /// Of two nodes one dials, not both.
    pub one_dials: bool,
}

impl Plan {
    /// A 1:1 conversation.
    pub fn direct() -> Self {
        let mut plan = Self::of_nobody();
        plan.add(2, false, false);
        plan
    }

    /// A room of `nodes`, all but the last a member at epoch 1 if `joiner`.
    pub fn room(nodes: usize, joiner: bool) -> Self {
        let mut plan = Self::of_nobody();
        plan.add(nodes, true, joiner);
        plan
    }

    /// So many nodes in conversations of the given sizes, round and round; one of two is 1:1.
    pub fn town(nodes: usize, sizes: &[usize]) -> Self {
        let mut plan = Self::of_nobody();
        for size in sizes.iter().cycle() {
            match nodes - plan.count() {
                0 => break,
                1 => plan.add(1, true, false),
                2 => plan.add(2, false, false),
                left => plan.add(left.min(*size), *size > 2, false),
            }
        }
        plan
    }

    fn of_nobody() -> Self {
        Self {
            keys: Vec::new(),
            public: Vec::new(),
            nodes: HashMap::new(),
            groups: Vec::new(),
            of: Vec::new(),
            known: Vec::new(),
            history_all: false,
            faults: Faults::default(),
            link_anyone: false,
            one_dials: false,
        }
    }

    fn add(&mut self, count: usize, room: bool, joiner: bool) {
        let first = self.count();
        for node in first..first + count {
            let mut secret = [1; 32];
            secret[..8].copy_from_slice(&(node as u64 + 1).to_le_bytes());
            let key = Keypair::from_secret(&secret);
            self.nodes.insert(key.public(), node);
            self.public.push(key.public());
            self.keys.push(key);
            self.of.push(self.groups.len());
            self.known.push(Cell::new(u64::from(room)));
        }
        let registry = Keypair::from_secret(&[200; 32]).public();
        let mut id = [7; 32];
        id[..8].copy_from_slice(&(self.groups.len() as u64).to_le_bytes());
        let conversation = match room {
            true => ConversationId::room(&registry, &RoomId(Digest(id))),
            false => {
                ConversationId::direct(&registry, &self.public[first], &self.public[first + 1])
            }
        };
        let nodes = first..first + count;
        let members = first..first + count - usize::from(joiner);
        let epochs = if room { vec![members.collect()] } else { Vec::new() };
        self.groups.push(Group { conversation, nodes, epochs });
    }

    /// How many nodes there are.
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// The conversation of a node.
    pub fn group(&self, node: usize) -> &Group {
        &self.groups[self.of[node]]
    }

    /// The members of the conversation of a node by its newest epoch; `None` in a 1:1 conversation.
    pub fn members(&self, node: usize) -> Option<&BTreeSet<usize>> {
        self.group(node).epochs.last()
    }

    /// A new epoch of the conversation of a node.
    pub fn change(&mut self, node: usize, members: BTreeSet<usize>) {
        self.groups[self.of[node]].epochs.push(members);
    }

    /// Whether a node's conversation is 1:1.
    pub fn is_direct(&self, node: usize) -> bool {
        self.group(node).epochs.is_empty()
    }

    /// The other one in a 1:1 conversation.
    pub fn other(&self, node: usize) -> usize {
        let nodes = &self.group(node).nodes;
        nodes.start + nodes.end - 1 - node
    }

    /// The newest epoch of a node's conversation.
    pub fn epoch(&self, node: usize) -> u64 {
        self.group(node).epochs.len() as u64
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
        self.nodes.get(key).copied()
    }

    /// Whether a node was a member at an epoch; both always are in a 1:1 conversation.
    pub fn was_member(&self, node: usize, epoch: u64) -> bool {
        if self.is_direct(node) {
            return true;
        }
        let at = epoch.checked_sub(1).and_then(|n| usize::try_from(n).ok());
        let members = at.and_then(|at| self.group(node).epochs.get(at));
        members.is_some_and(|members| members.contains(&node))
    }

    /// Whether a node is a member by the newest epoch.
    pub fn is_member(&self, node: usize) -> bool {
        self.was_member(node, self.epoch(node))
    }

    /// Whether a node may ever have a body of this epoch.
    pub fn may_have(&self, node: usize, epoch: u64) -> bool {
        self.was_member(node, epoch)
            || (self.history_all && (epoch..=self.epoch(node)).any(|e| self.was_member(node, e)))
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
