//! A disk in memory: applies the core's writes as the store does, and gives them back at a start.
//!
//! A clone is a backup. What was not applied when a node crashes is lost. It checks what no store could
//! mend: entries without a gap, events without a gap.
//!
//! For tests and the simulator alone.

use std::collections::BTreeMap;

use peerd_proto::{
    control::{Event, MessageState, PolicyName},
    wire::{ConversationId, Exception, MessageId, Position, StreamId, VerifiedEntry},
};
use registryd_proto::{MembershipRecord, PublicKey, RoomId, Signed, Username};

use super::durable::{
    Acked, ChatRow, Contact, Conversation, Kept, Outgoing, Profile, RequestRow, RoomRow,
    SETTLED_READ_MAX, Snapshot, StreamHead, Write, shown_id_hash,
};

/// What no store could mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// The event log has a gap.
    Event {
        /// The number that does not follow.
        n: u64,
    },
    /// A stream has a gap, or an entry was written twice.
    Entry {
        /// What was held.
        held: u64,
        /// What was written.
        found: u64,
    },
}

/// One stream of one conversation.
pub type StreamRef = (ConversationId, PublicKey, StreamId);

/// An entry on disk.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The entry, perhaps without its body.
    pub entry: VerifiedEntry,
    /// The number of the event that showed it.
    pub shown: Option<u64>,
}

/// Everything that was committed.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    profile: Option<Profile>,
    contacts: BTreeMap<Username, Contact>,
    default_policy: Option<PolicyName>,
    conversations: Vec<Conversation>,
    /// In the order of first sight.
    order: Vec<StreamRef>,
    streams: BTreeMap<StreamRef, BTreeMap<u64, Stored>>,
    outgoing: BTreeMap<(ConversationId, StreamId, u64), Outgoing>,
    acked: BTreeMap<(ConversationId, PublicKey, StreamId), Acked>,
    exceptions: BTreeMap<(ConversationId, PublicKey, PublicKey, StreamId, u64), Exception>,
    forks: Vec<(VerifiedEntry, VerifiedEntry)>,
    chats: BTreeMap<Username, ChatRow>,
    requests: BTreeMap<Username, RequestRow>,
    rooms: BTreeMap<RoomId, RoomRow>,
    membership: BTreeMap<(RoomId, u64), Signed<MembershipRecord>>,
    shown: Vec<u128>,
    events: Vec<Event>,
}

impl Disk {
    /// Applies one write.
    ///
    /// # Errors
    /// [`Gap`] if the write leaves one.
    pub fn apply(&mut self, write: Write) -> Result<(), Gap> {
        match write {
            Write::Profile(row) => self.profile = Some(row),
            Write::ForgetProfile => self.profile = None,
            Write::Contact(row) => drop(self.contacts.insert(row.username.clone(), row)),
            Write::DefaultPolicy(policy) => self.default_policy = Some(policy),
            Write::Conversation(row) => self.put_conversation(row),
            Write::Entry { entry, shown, .. } => self.put_entry(*entry, shown)?,
            Write::DropBody { conversation, author, stream, seq, void } => {
                let stream = self.streams.get_mut(&(conversation, author, stream));
                if let Some(stored) = stream.and_then(|s| s.get_mut(&seq)) {
                    stored.entry = match void {
                        Some(signature) => stored.entry.void(signature),
                        None => stored.entry.withheld(),
                    };
                }
            }
            Write::Outgoing(row) => {
                self.outgoing.insert((row.conversation, row.stream, row.seq), row);
            }
            Write::Acked(row) => {
                self.acked.insert((row.conversation, row.member, row.stream), row);
            }
            Write::Exception { conversation, holder, exception: e } => {
                self.exceptions.insert((conversation, holder, e.author, e.stream, e.seq), e);
            }
            Write::Fork { a, b } => self.forks.push((*a, *b)),
            Write::Chat(row) => drop(self.chats.insert(row.peer.clone(), row)),
            Write::Request(row) => drop(self.requests.insert(row.from.clone(), row)),
            Write::ForgetRequest(from) => drop(self.requests.remove(&from)),
            Write::Room(row) => drop(self.rooms.insert(row.id, row)),
            Write::Membership { room, epoch, record } => {
                self.membership.insert((room, epoch), record);
            }
            Write::Event(event) => {
                if event.n != self.events.len() as u64 + 1 {
                    return Err(Gap::Event { n: event.n });
                }
                self.events.push(event);
            }
        }
        Ok(())
    }

    /// What a start reads.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            profile: self.profile.clone(),
            contacts: self.contacts.values().cloned().collect(),
            default_policy: self.default_policy,
            conversations: self.conversations.clone(),
            streams: self.order.iter().filter_map(|stream| self.head(stream)).collect(),
            outgoing: self.followed(),
            forgets_ids: true,
            acked: self.acked.values().copied().collect(),
            exceptions: self.exceptions.iter().map(|(k, e)| (k.0, k.1, *e)).collect(),
            forks: self.forks.clone(),
            chats: self.chats.values().cloned().collect(),
            requests: self.requests.values().cloned().collect(),
            rooms: self.rooms.values().cloned().collect(),
            membership: self.membership.iter().map(|((room, _), r)| (*room, r.clone())).collect(),
            shown_ids: self.shown.clone(),
            event_head: self.events.len() as u64,
        }
    }

    /// Reads entries behind `after_seq`.
    pub fn load(&self, stream: &StreamRef, after_seq: u64, limit: u32) -> Vec<VerifiedEntry> {
        let entries = self.streams.get(stream).into_iter();
        let behind = entries.flat_map(|entries| entries.range(after_seq + 1..));
        behind.take(limit as usize).map(|(_, stored)| stored.entry.clone()).collect()
    }

    /// All streams with their entries.
    pub fn streams(&self) -> impl Iterator<Item = (&StreamRef, &BTreeMap<u64, Stored>)> {
        self.streams.iter()
    }

    /// One entry.
    pub fn entry(&self, stream: &StreamRef, seq: u64) -> Option<&Stored> {
        self.streams.get(stream).and_then(|entries| entries.get(&seq))
    }

    /// How far a stream is held.
    pub fn held(&self, stream: &StreamRef) -> u64 {
        self.streams.get(stream).map_or(0, |entries| entries.len() as u64)
    }

    /// Our messages.
    pub fn outgoing(&self) -> impl Iterator<Item = &Outgoing> {
        self.outgoing.values()
    }

    /// The event log.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Our message by its caller's id; a settled one, if several have it.
    pub fn recall(&self, conversation: &ConversationId, id: &MessageId) -> Option<Kept> {
        let of = |row: &&Outgoing| row.conversation == *conversation && row.id == *id;
        let with_id = || self.outgoing.values().filter(of).filter(|row| row.caller_id);
        let message =
            with_id().find(|row| row.state != MessageState::Queued).or_else(|| with_id().next())?;
        let of = |e: &&Exception| e.stream == message.stream && e.seq == message.seq;
        let lacking = self.exceptions.iter().filter(|((of, ..), _)| of == conversation);
        let lacking = lacking.filter(|(_, e)| of(e)).map(|((_, holder, ..), e)| (*holder, e.kind));
        Some(Kept { message: message.clone(), lacking: lacking.collect() })
    }

    fn followed(&self) -> Vec<Outgoing> {
        let queued = |row: &&Outgoing| row.state == MessageState::Queued;
        let mut rows: Vec<Outgoing> = self.outgoing.values().filter(queued).cloned().collect();
        let settled = |row: &&Outgoing| row.caller_id && row.state != MessageState::Queued;
        let mut settled: Vec<Outgoing> = self.outgoing.values().filter(settled).cloned().collect();
        settled.sort_by_key(|row| row.queued_ms);
        rows.extend(settled.split_off(settled.len().saturating_sub(SETTLED_READ_MAX)));
        rows
    }

    fn head(&self, stream: &StreamRef) -> Option<StreamHead> {
        let (seq, stored) = self.streams.get(stream)?.last_key_value()?;
        let lamport = stored.entry.header().lamport;
        let (conversation, author, id) = *stream;
        let position = Position { author, stream: id, seq: *seq, hash: stored.entry.hash() };
        Some(StreamHead { conversation, position, lamport })
    }

    fn put_conversation(&mut self, row: Conversation) {
        match self.conversations.iter_mut().find(|old| old.id == row.id) {
            Some(old) => *old = row,
            None => self.conversations.push(row),
        }
    }

    fn put_entry(&mut self, entry: VerifiedEntry, shown: Option<u64>) -> Result<(), Gap> {
        let header = entry.header().clone();
        let key = (header.conversation, header.author, header.stream);
        if !self.streams.contains_key(&key) {
            self.order.push(key);
        }
        let entries = self.streams.entry(key).or_default();
        if entries.len() as u64 + 1 != header.seq {
            let held = entries.len() as u64;
            return Err(Gap::Entry { held, found: header.seq });
        }
        if shown.is_some() {
            self.shown.push(shown_id_hash(&header.conversation, &header.author, &header.id));
        }
        entries.insert(header.seq, Stored { entry, shown });
        Ok(())
    }
}
