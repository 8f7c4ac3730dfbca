//! One conversation as this peer holds it: replicated append-only logs, pure.
//!
//! A [`Replica`] knows the head of every author's streams, the messages of ours that are not settled yet,
//! and for each link how much the other side has. The core calls it with what happened and a [`Ctx`]; it
//! pushes writes and effects into the output. It holds no bodies but of a small bounded cache ([`recent`]),
//! reads no clock and draws randomness only from the `Ctx`.
//!
//! # How the core uses it
//!
//! - At a start: [`Replica::restore_all`], or [`Replica::new`] for a new conversation.
//! - A link is announced with [`Replica::link_up`] once its `hello` is accepted and, in a room, the member
//!   is known. Frames go to [`Replica::on_have`], [`Replica::on_entries`] and [`Replica::on_fork`]; what the
//!   store read to [`Replica::on_loaded`] (the replica is found by [`Loads::end`]).
//! - **After any of these calls, and before the output is handed out, [`Replica::flush`]** sends what became
//!   due: at most one `have` and the entries that the window lets through, for each link. Nothing else
//!   sends entries or vectors.
//! - [`Replica::next_deadline`] and [`Replica::tick`] for expiry and for forwarding that waits.
//! - A message of ours that settles is told by [`Events::record`], once.
//!
//! # Invariants
//!
//! Invariant: a stream is held without a gap: an entry is taken only if it is next, names the hash of the
//! one before, and the author's stream before it is held as far as the author held it.
//! Invariant: a vector is pushed into the same output as the writes that it covers, or a later one; outputs
//! take effect only after their writes, so nothing is acknowledged that is not on disk.
//! Invariant: a body goes only to whom [`Rules::may_read`] allows. To one who may read it, an entry goes
//! without its body only from its author or with the author's signature that it is void (then it is so for
//! good), or back to its author. So no member that lacks a body can make another one give it up, and what is
//! behind a message that ended does not wait for the author.

mod fork;
mod link;
mod outbox;
mod outgoing;
mod receive;
mod recent;
mod send;
mod streams;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use peerd_proto::{
    control::MessageState,
    wire::{ConversationId, ExceptionKind, Header, StreamId, VerifiedEntry},
};
use rand::rngs::StdRng;
use registryd_proto::{Code, Keypair, PublicKey};

use super::{
    durable::{Outgoing, Snapshot},
    input::{LinkId, LoadId, Now},
    output::{Effect, Output},
};
use fork::Inquiry;
use link::Link;
use outbox::Outbox;
use recent::Recent;
use streams::Streams;

pub use outbox::SETTLED_MAX;
pub use outgoing::{AppendError, Draft, Known, Receipt, Status, Waiting, text_hash};
pub use receive::{Breach, Received};

/// The most entries sent to one link and not yet acknowledged: more than a frame, so that the next one is
/// on its way while the first is committed.
pub const WINDOW_ENTRIES_MAX: usize = 512;
/// The most bytes sent to one link and not yet acknowledged.
pub const WINDOW_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The most messages of one conversation that wait; `append` refuses more.
pub const PENDING_MAX: usize = 10_000;
/// The most streams held of one author: each start of its peerd makes one.
pub const AUTHOR_STREAMS_MAX: usize = 65_536;
/// How long an entry of another author is held back from a member that may be getting it from elsewhere,
/// in milliseconds: long enough for the author's own push to be committed and announced.
pub const FORWARD_AFTER_MS: u64 = 400;
/// How long a change of our vector may wait before it is told to those who do not need it as an
/// acknowledgement. Shorter than [`FORWARD_AFTER_MS`], so that it spares the forwarding.
pub const ANNOUNCE_AFTER_MS: u64 = 100;

/// The most by which one entry of another author moves our Lamport clock: no honest one is ahead by as
/// much, and nobody can drive the clock to its end, where later is no more than earlier.
const LAMPORT_STEP_MAX: u64 = 1 << 32;

/// What a replica needs from the core in each call.
pub struct Ctx<'a> {
    /// The time of the input.
    pub now: Now,
    /// Our peer key.
    pub key: &'a Keypair,
    /// For stream ids and salts.
    pub rng: &'a mut StdRng,
    /// Where reads are numbered.
    pub loads: &'a mut Loads,
    /// What was shown, of all conversations.
    pub shown: &'a mut ShownIds,
    /// Where writes and effects go.
    pub out: &'a mut Output,
    /// Who may write and read here.
    pub rules: &'a dyn Rules,
    /// Who tells the user.
    pub events: &'a mut dyn Events,
}

/// Who may write and read in a conversation: answered from the contact's policy or the room's log.
pub trait Rules {
    /// What to do with an entry by its header. The same on all members with the same membership log.
    fn judge(&self, header: &Header) -> Verdict;
    /// Whether `member` may have the body: it was a member at the entry's epoch, or is one and the room's
    /// history is open to all; in a 1:1 conversation both may.
    fn may_read(&self, member: &PublicKey, header: &Header) -> bool;
    /// The peer keys of the members at `epoch` less ourselves; in a 1:1 conversation the other one.
    fn recipients(&self, epoch: u64) -> Vec<PublicKey>;
    /// Whether `member` belongs to the conversation by the newest epoch known. A message waits for no
    /// recipient who left.
    fn is_current(&self, member: &PublicKey) -> bool;
    /// The newest membership epoch held; 0 in a 1:1 conversation.
    fn epoch(&self) -> u64;
}

/// What is done with an entry that is next in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Taken and, if it is a message for us, shown.
    Take,
    /// Taken without its body and not shown; its author is told `refused` (its message fails: `blocked`).
    Refuse,
    /// Written at an epoch that we do not know. Not taken; reported in [`Received::unknown_epoch`].
    UnknownEpoch,
    /// Not taken: its author may not write here, or nothing is taken now (`ask`).
    Ignore,
}

/// What a replica tells the user through the core.
#[derive(Debug)]
pub enum Notice<'a> {
    /// A message came. Its body is there.
    Message(&'a VerifiedEntry),
    /// A message of ours is on the disks of all its recipients that are still there; how many, says its status.
    Delivered(&'a Outgoing, Status),
    /// A message of ours will not be delivered: see its state and reason.
    Failed(&'a Outgoing, Status),
    /// An author wrote two entries with one number.
    Fork {
        /// Who.
        author: PublicKey,
    },
}

/// The event log, as a replica sees it.
pub trait Events {
    /// Writes an event with the next number into `out` (`Write::Event`) and returns the number; answers
    /// commands that wait for it.
    fn record(&mut self, now: Now, out: &mut Output, notice: Notice<'_>) -> u64;
}

/// [`super::durable::shown_id_hash`] of every message that was shown.
#[derive(Debug, Default, Clone)]
pub struct ShownIds(std::collections::HashSet<u128>);

impl ShownIds {
    /// Those of a snapshot.
    pub fn restore(ids: &[u128]) -> Self {
        Self(ids.iter().copied().collect())
    }

    /// Adds one; false if it was there.
    pub fn insert(&mut self, id: u128) -> bool {
        self.0.insert(id)
    }
}

/// The reads under way for replicas: which conversation each belongs to.
#[derive(Debug, Default)]
pub struct Loads {
    last: u64,
    of: BTreeMap<LoadId, ConversationId>,
}

impl Loads {
    /// Numbers a read.
    pub fn begin(&mut self, conversation: ConversationId) -> LoadId {
        self.last += 1;
        let load = LoadId(self.last);
        self.of.insert(load, conversation);
        load
    }

    /// Nothing is read any more; numbers go on, so that what comes late is nobody's.
    pub fn forgotten(self) -> Self {
        Self { last: self.last, ..Self::default() }
    }

    /// The conversation whose replica wants what was read; `None` if nobody does.
    pub fn end(&mut self, load: LoadId) -> Option<ConversationId> {
        self.of.remove(&load)
    }
}

/// Whether entries may go to the other side of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Its standing toward us is `allow`, or it is a room.
    Open,
    /// Its standing is `ask`, `block` or not known yet: vectors are exchanged, entries wait.
    Closed,
}

/// One conversation.
#[derive(Debug)]
pub struct Replica {
    conversation: ConversationId,
    me: PublicKey,
    streams: Streams,
    /// The stream that this start of the core writes.
    current: Option<StreamId>,
    lamport: u64,
    links: BTreeMap<LinkId, Link>,
    /// Links that are up and went without this conversation for a while.
    parted: BTreeSet<LinkId>,
    recent: Recent,
    outgoing: Outbox,
    /// Entries that we hold without a body though we were entitled: told to their authors.
    exceptions: BTreeMap<(PublicKey, StreamId, u64), ExceptionKind>,
    forks: Vec<(VerifiedEntry, VerifiedEntry)>,
    inquiries: BTreeMap<LoadId, Inquiry>,
    probed: BTreeSet<(LinkId, PublicKey, StreamId)>,
    fork_told: BTreeSet<(LinkId, PublicKey, StreamId)>,
    #[cfg(any(test, feature = "simulation"))]
    faults: Faults,
}

/// Faults that the simulator plants to prove that its checks find them.
#[cfg(any(test, feature = "simulation"))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// Entries that are held already are taken and shown again.
    pub no_dedup: bool,
    /// Bodies are served to everybody.
    pub serve_anyone: bool,
    /// After a connect only what is new is sent, not what was missed.
    pub no_catch_up: bool,
    /// Vectors claim one entry more than is held.
    pub claim_more: bool,
    /// Vectors do not tell what is covered but not held.
    pub hide_exceptions: bool,
    /// Some changes of the vector are never told.
    pub drop_vectors: bool,
    /// Nobody sends entries of others.
    pub no_forward: bool,
    /// The entries of a frame go newest first.
    pub reverse_frames: bool,
    /// Each fourth number of a stream is left out.
    pub skip_numbers: bool,
    /// After a start the author goes on in its old stream.
    pub reuse_streams: bool,
    /// The Lamport clock does not see what comes from others.
    pub deaf_lamport: bool,
    /// What was offered is told as given up without asking those who may hold it.
    pub give_up_at_once: bool,
    /// A message counts as delivered once any member confirmed it.
    pub one_is_all: bool,
}

impl Replica {
    /// A conversation in which nothing was written yet. `me` is our peer key.
    pub fn new(conversation: ConversationId, me: PublicKey) -> Self {
        Self {
            conversation,
            me,
            streams: Streams::default(),
            current: None,
            lamport: 0,
            links: BTreeMap::new(),
            parted: BTreeSet::new(),
            recent: Recent::default(),
            outgoing: Outbox::default(),
            exceptions: BTreeMap::new(),
            forks: Vec::new(),
            inquiries: BTreeMap::new(),
            probed: BTreeSet::new(),
            fork_told: BTreeSet::new(),
            #[cfg(any(test, feature = "simulation"))]
            faults: Faults::default(),
        }
    }

    /// A replica for each conversation of a snapshot.
    pub fn restore_all(me: PublicKey, snapshot: &Snapshot) -> BTreeMap<ConversationId, Self> {
        let mut all: BTreeMap<ConversationId, Self> =
            snapshot.conversations.iter().map(|c| (c.id, Self::new(c.id, me))).collect();
        for head in &snapshot.streams {
            if let Some(replica) = all.get_mut(&head.conversation) {
                replica.see_lamport(head.lamport);
                replica.streams.restore(&head.position);
            }
        }
        for row in &snapshot.outgoing {
            if let Some(replica) = all.get_mut(&row.conversation) {
                replica.outgoing.restore(row.clone());
            }
        }
        for replica in all.values_mut() {
            replica.outgoing.forgets |= snapshot.forgets_ids;
        }
        for row in &snapshot.acked {
            if let Some(replica) = all.get_mut(&row.conversation) {
                replica.outgoing.restore_acked(row);
            }
        }
        for (conversation, holder, exception) in &snapshot.exceptions {
            let Some(replica) = all.get_mut(conversation) else { continue };
            if *holder == me {
                let key = (exception.author, exception.stream, exception.seq);
                replica.exceptions.insert(key, exception.kind);
            } else {
                replica.outgoing.restore_exception(*holder, exception);
            }
        }
        for (a, b) in &snapshot.forks {
            if let Some(replica) = all.get_mut(&a.header().conversation) {
                replica.freeze(a, b);
            }
        }
        all
    }

    /// Its id.
    pub fn conversation(&self) -> ConversationId {
        self.conversation
    }

    /// The links that were announced and are not down.
    pub fn links(&self) -> impl Iterator<Item = (LinkId, PublicKey)> + '_ {
        self.links.iter().map(|(id, link)| (*id, link.member))
    }

    /// The next time, by the monotonic clock, at which [`Replica::tick`] has something to do.
    pub fn next_deadline(&self, now: Now) -> Option<u64> {
        let links = self.links.values().filter_map(|link| link.next_deadline()).min();
        let expiry = self
            .outgoing
            .next_expiry()
            .map(|wall_ms| now.mono_ms.saturating_add(wall_ms.saturating_sub(now.wall_ms)));
        links.into_iter().chain(expiry).min()
    }

    /// Does what is due: messages whose time ran out expire. What links wait for follows in `flush`.
    pub fn tick(&mut self, cx: &mut Ctx<'_>) {
        while let Some(id) = self.outgoing.expired(cx.now.wall_ms) {
            self.give_up(cx, &id, MessageState::Expired, Some(Code::TimedOut));
        }
    }

    /// Moves the Lamport clock behind an entry that was seen.
    fn see_lamport(&mut self, lamport: u64) {
        let furthest = self.lamport.saturating_add(LAMPORT_STEP_MAX);
        self.lamport = self.lamport.max(lamport.min(furthest));
    }

    /// Moves the Lamport clock behind an entry that was taken.
    fn see_lamport_of(&mut self, header: &Header) {
        #[cfg(any(test, feature = "simulation"))]
        if self.faults.deaf_lamport {
            return;
        }
        self.see_lamport(header.lamport);
    }

    /// Plants faults.
    #[cfg(any(test, feature = "simulation"))]
    pub fn plant(&mut self, faults: Faults) {
        self.faults = faults;
    }
}
