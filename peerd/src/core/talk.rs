//! Conversations as the core holds them: who may write and read in each, and how frames reach its replica.
//!
//! Invariant: entries of a 1:1 conversation count only from the contact's pinned key and under the policy
//! `allow`; those of a room by its membership log alone.

use peerd_proto::{
    control::{EventKind, MessageState, PolicyName},
    wire::{ConversationId, Frame, Goodbye, Have, Header, Standing, StreamId, VerifiedEntry},
};
use registryd_proto::{Code, HistoryAccess, PublicKey, Room, Username};

use super::{
    Core, LinkId, LoadId,
    durable::{Conversation, ConversationKind, Kept, Outgoing, RequestRow, Write},
    events::{Place, Teller},
    input::Inbound,
    replica::{Breach, Ctx, Gate, Received, Replica, Rules, Status, Verdict},
};

/// The most rows of `requests`: strangers fill no disk.
const REQUESTS_MAX: usize = 256;

/// One conversation.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) kind: ConversationKind,
    pub(super) replica: Replica,
    /// Entries of a membership epoch that we lacked were not taken: they are to be sent again.
    pub(super) missed_epoch: bool,
}

struct DirectRules {
    me: PublicKey,
    peer: PublicKey,
    policy: PolicyName,
}

impl Rules for DirectRules {
    fn judge(&self, header: &Header) -> Verdict {
        if header.author == self.me {
            return Verdict::Take;
        }
        match self.policy {
            _ if header.author != self.peer => Verdict::Ignore,
            PolicyName::Allow => Verdict::Take,
            PolicyName::Ask => Verdict::Ignore,
            PolicyName::Block => Verdict::Refuse,
        }
    }

    fn may_read(&self, member: &PublicKey, _: &Header) -> bool {
        *member == self.me || *member == self.peer
    }

    fn recipients(&self, _: u64) -> Vec<PublicKey> {
        vec![self.peer]
    }

    fn is_current(&self, member: &PublicKey) -> bool {
        *member == self.peer
    }

    fn epoch(&self) -> u64 {
        0
    }
}

struct RoomRules<'a> {
    me: PublicKey,
    room: &'a Room,
}

impl Rules for RoomRules<'_> {
    fn judge(&self, header: &Header) -> Verdict {
        match header.context {
            peerd_proto::wire::Context::Room { epoch } if epoch > self.room.epoch => {
                Verdict::UnknownEpoch
            }
            peerd_proto::wire::Context::Room { epoch }
                if self.room.was_member(&header.author, epoch) =>
            {
                Verdict::Take
            }
            _ => Verdict::Ignore,
        }
    }

    fn may_read(&self, member: &PublicKey, header: &Header) -> bool {
        let peerd_proto::wire::Context::Room { epoch } = header.context else { return false };
        let open = self.room.history == HistoryAccess::All && self.is_current(member);
        open || self.room.was_member(member, epoch)
    }

    fn recipients(&self, epoch: u64) -> Vec<PublicKey> {
        self.room.members_at(epoch).map(|(_, key)| *key).filter(|key| *key != self.me).collect()
    }

    fn is_current(&self, member: &PublicKey) -> bool {
        self.room.member_by_peer_key(member).is_some()
    }

    fn epoch(&self) -> u64 {
        self.room.epoch
    }
}

impl Core {
    /// Works on one replica, sends what became due, and answers commands about what settled.
    pub(super) fn with_replica<R>(
        &mut self,
        id: &ConversationId,
        work: impl FnOnce(&mut Replica, &mut Ctx<'_>) -> R,
    ) -> Option<R> {
        let talk = self.conversations.get_mut(id)?;
        let me = self.keys.peer.public();
        let mut settled: Vec<(Outgoing, Status)> = Vec::new();
        let (direct, room): (DirectRules, RoomRules<'_>);
        let (rules, place): (&dyn Rules, Place<'_>) = match &talk.kind {
            ConversationKind::Direct { username, peer_key } => {
                let policy = self.contacts.policy(username);
                direct = DirectRules { me, peer: *peer_key, policy };
                (&direct, Place::Direct(username))
            }
            ConversationKind::Room { room: id, .. } => {
                room = RoomRules { me, room: self.rooms.folded(id)? };
                (&room, Place::Room(room.room))
            }
        };
        let mut teller = Teller { log: &mut self.events, place, settled: &mut settled };
        let mut cx = Ctx {
            now: self.now,
            key: &self.keys.peer,
            rng: &mut self.rng,
            loads: &mut self.loads,
            shown: &mut self.shown,
            out: &mut self.out,
            rules,
            events: &mut teller,
        };
        let result = work(&mut talk.replica, &mut cx);
        talk.replica.flush(&mut cx);
        for (message, status) in settled {
            self.message_settled(&message, status);
        }
        Some(result)
    }

    /// How a message of ours stands in its conversation.
    pub(super) fn message_status(
        &self,
        id: &ConversationId,
        message: &peerd_proto::wire::MessageId,
    ) -> Option<Status> {
        self.ask_replica(id, |replica, rules| replica.status(rules, message))
    }

    /// How a settled message stands that its replica has forgotten.
    pub(super) fn kept_status(&self, kept: &Kept) -> Option<Status> {
        let id = &kept.message.conversation;
        self.ask_replica(id, |replica, rules| Some(replica.status_of(rules, kept)))
    }

    fn ask_replica<R>(
        &self,
        id: &ConversationId,
        ask: impl FnOnce(&Replica, &dyn Rules) -> Option<R>,
    ) -> Option<R> {
        let talk = self.conversations.get(id)?;
        let me = self.keys.peer.public();
        match &talk.kind {
            ConversationKind::Direct { username, peer_key } => {
                let policy = self.contacts.policy(username);
                ask(&talk.replica, &DirectRules { me, peer: *peer_key, policy })
            }
            ConversationKind::Room { room, .. } => {
                ask(&talk.replica, &RoomRules { me, room: self.rooms.folded(room)? })
            }
        }
    }

    /// How many messages of ours are held in memory.
    #[cfg(any(test, feature = "simulation"))]
    pub fn messages_in_memory(&self) -> usize {
        self.conversations.values().map(|talk| talk.replica.messages_in_memory()).sum()
    }

    /// The conversation with a contact's pinned key.
    pub(super) fn direct_id(&self, username: &Username) -> Option<ConversationId> {
        let peer_key = self.contacts.get(username)?.peer_key;
        Some(ConversationId::direct(&self.registry_key()?, &self.keys.peer.public(), &peer_key))
    }

    /// The same, begun if it is new.
    pub(super) fn ensure_direct(&mut self, username: &Username) -> Option<ConversationId> {
        let id = self.direct_id(username)?;
        let peer_key = self.contacts.get(username)?.peer_key;
        if !self.conversations.contains_key(&id) {
            let kind = ConversationKind::Direct { username: username.clone(), peer_key };
            self.begin_conversation(id, kind);
            if let Some(link) = self.link_to(username) {
                self.link_direct(link, username);
            }
        }
        Some(id)
    }

    pub(super) fn begin_conversation(&mut self, id: ConversationId, kind: ConversationKind) {
        self.out.writes.push(Write::Conversation(Conversation { id, kind: kind.clone() }));
        let replica = Replica::new(id, self.keys.peer.public());
        #[cfg(any(test, feature = "simulation"))]
        let replica = {
            let mut replica = replica;
            replica.plant(self.planted.replica);
            replica
        };
        self.conversations.insert(id, Talk { kind, replica, missed_epoch: false });
    }

    /// A peer link is in use: the conversation of the pair goes over it.
    pub(super) fn link_direct(&mut self, link: LinkId, username: &Username) {
        let Some(id) = self.ensure_direct(username) else { return };
        let Some(peer_key) = self.contacts.get(username).map(|c| c.peer_key) else { return };
        let standing = self.links.peer(link).and_then(|p| p.standing);
        let gate = gate(standing);
        self.with_replica(&id, |replica, _| {
            if replica.links().all(|(known, _)| known != link) {
                replica.link_up(link, peer_key, gate);
            }
        });
    }

    pub(super) fn unlink_replicas(&mut self, link: LinkId) {
        for talk in self.conversations.values_mut() {
            talk.replica.link_down(link);
        }
    }

    /// A frame on a peer link in use.
    pub(super) fn on_peer_frame(&mut self, link: LinkId, frame: Inbound) {
        let Some(username) = self.links.peer(link).map(|p| p.username.clone()) else { return };
        let Some(own) = self.direct_id(&username) else { return };
        match frame {
            Inbound::Entries { conversation, entries } if conversation == own => {
                self.take_entries(link, own, entries);
            }
            Inbound::Fork { a, b } => self.take_fork(&own, &a, &b),
            Inbound::Other(Frame::Have(have)) if have.conversation == own => {
                self.take_have(link, &have);
            }
            Inbound::Other(Frame::Standing(standing)) => {
                self.take_standing(link, &username, standing);
            }
            Inbound::Other(Frame::Waiting { messages, through }) => {
                self.take_waiting(link, &username, messages, through);
            }
            Inbound::Other(Frame::Decline { through }) => {
                self.with_replica(&own, |replica, cx| replica.decline(cx, through));
                self.heed_standing(&username);
            }
            Inbound::Other(Frame::Chat(frame)) => self.take_chat(&username, frame),
            _ => self.close_link(link, Goodbye::NotWelcome),
        }
    }

    pub(super) fn take_have(&mut self, link: LinkId, have: &Have) {
        let id = have.conversation;
        let result = self.with_replica(&id, |replica, cx| replica.on_have(cx, link, have));
        self.check_breach(link, result);
    }

    /// Gives entries to their replica; in a room, tells whether an epoch is missing here.
    pub(super) fn take_entries(
        &mut self,
        link: LinkId,
        id: ConversationId,
        entries: Vec<VerifiedEntry>,
    ) -> Option<Received> {
        let result = self.with_replica(&id, |replica, cx| replica.on_entries(cx, link, entries));
        self.check_breach(link, result)
    }

    pub(super) fn take_fork(&mut self, id: &ConversationId, a: &VerifiedEntry, b: &VerifiedEntry) {
        self.with_replica(id, |replica, cx| replica.on_fork(cx, a, b));
    }

    fn check_breach<T>(&mut self, link: LinkId, result: Option<Result<T, Breach>>) -> Option<T> {
        match result? {
            Ok(value) => Some(value),
            Err(_) => {
                self.close_link(link, Goodbye::NotWelcome);
                None
            }
        }
    }

    /// The other side says what it lets us do.
    fn take_standing(&mut self, link: LinkId, username: &Username, standing: Standing) {
        let Some(peer) = self.links.peer_mut(link) else { return };
        peer.standing = Some(standing);
        peer.told_waiting = 0;
        self.tell_present(username);
        let Some(id) = self.direct_id(username) else { return };
        self.with_replica(&id, |replica, _| replica.set_gate(link, gate(Some(standing))));
        self.heed_standing(username);
    }

    /// What the other side's standing means for what waits: nothing of it is taken, or it is told how much.
    pub(super) fn heed_standing(&mut self, username: &Username) {
        let peer = self.link_to(username).and_then(|link| self.links.peer(link));
        let standing = peer.and_then(|p| p.standing);
        let Some(id) = self.direct_id(username) else { return };
        if standing == Some(Standing::Block) {
            self.with_replica(&id, |replica, cx| {
                let ids: Vec<_> = replica.pending().map(|row| row.id.clone()).collect();
                for id in ids {
                    replica.give_up(cx, &id, MessageState::Failed, Some(Code::Blocked));
                }
            });
        }
        self.tell_waiting(username);
    }

    /// Under `ask`: tells how much waits here, when it has changed.
    fn tell_waiting(&mut self, username: &Username) {
        let Some(link) = self.link_to(username) else { return };
        if self.links.peer(link).is_none_or(|peer| peer.standing != Some(Standing::Ask)) {
            return;
        }
        let Some(key) = self.links.get(link).map(|l| l.key) else { return };
        let waiting = self
            .direct_id(username)
            .and_then(|id| self.conversations.get(&id)?.replica.waiting_for(&key));
        let Some(peer) = self.links.peer_mut(link) else { return };
        let messages = waiting.map_or(0, |w| w.messages);
        if peer.told_waiting == messages {
            return;
        }
        peer.told_waiting = messages;
        if let Some(waiting) = waiting {
            let through = waiting.through;
            self.send(link, Frame::Waiting { messages, through });
        }
    }

    /// A sender tells how much waits for our yes.
    fn take_waiting(
        &mut self,
        link: LinkId,
        username: &Username,
        messages: u64,
        through: (StreamId, u64),
    ) {
        let policy = self.contacts.policy(username);
        if policy != PolicyName::Ask {
            let standing = super::contact::standing(policy);
            return self.send(link, Frame::Standing(standing));
        }
        let held = self.requests.get(username).cloned();
        let news = held.as_ref().is_none_or(|r| r.messages_waiting == 0);
        if held.is_none() && self.requests.len() >= REQUESTS_MAX {
            return;
        }
        let row = RequestRow {
            messages_waiting: messages,
            through: Some(through),
            ..held.unwrap_or_else(|| self.new_request(username))
        };
        if news && self.may_cause_event(username) {
            let (from, chat) = (username.clone(), None);
            self.event(EventKind::ChatRequest { from, chat, messages_waiting: messages });
        }
        self.put_request(row);
    }

    /// The same at the end of this input: the command that wrote is open by then.
    pub(super) fn heed_later(&mut self, username: &Username) {
        self.to_heed.insert(username.clone());
    }

    pub(super) fn new_request(&self, username: &Username) -> RequestRow {
        RequestRow {
            from: username.clone(),
            since_ms: self.now.wall_ms,
            messages_waiting: 0,
            through: None,
            chat: None,
        }
    }

    pub(super) fn put_request(&mut self, row: RequestRow) {
        self.out.writes.push(Write::Request(row.clone()));
        self.requests.insert(row.from.clone(), row);
    }

    pub(super) fn forget_request(&mut self, username: &Username) {
        if self.requests.remove(username).is_some() {
            self.out.writes.push(Write::ForgetRequest(username.clone()));
        }
    }

    pub(super) fn on_loaded(&mut self, load: LoadId, entries: Vec<VerifiedEntry>) {
        let Some(id) = self.loads.end(load) else { return };
        if let Some((username, first)) = self.moves.end(load) {
            return self.go_on_moving(&username, first, entries);
        }
        self.with_replica(&id, |replica, cx| replica.on_loaded(cx, load, entries));
    }

    pub(super) fn replicas_next_wake(&self) -> Option<u64> {
        self.conversations.values().filter_map(|t| t.replica.next_deadline(self.now)).min()
    }

    pub(super) fn tick_replicas(&mut self) {
        let now = self.now;
        let due = |talk: &Talk| talk.replica.next_deadline(now).is_some_and(|at| at <= now.mono_ms);
        let ids: Vec<ConversationId> =
            self.conversations.iter().filter(|(_, t)| due(t)).map(|(id, _)| *id).collect();
        for id in ids {
            self.with_replica(&id, |replica, cx| replica.tick(cx));
        }
    }

    /// Ends what waits in a room that we left.
    pub(super) fn end_what_waits_in(&mut self, room: registryd_proto::RoomId) {
        if let Some(id) = self.room_conversation(&room) {
            self.with_replica(&id, |replica, cx| replica.abandon_all(cx));
        }
    }

    /// The same for all rooms that were left, at a start: the peerd before may have let it wait.
    pub(super) fn end_what_waits_in_left_rooms(&mut self) {
        for room in self.rooms.left() {
            self.end_what_waits_in(room);
        }
    }

    /// Whether a conversation belongs to a key that its contact has no more.
    pub(super) fn is_stale(&self, id: &ConversationId) -> bool {
        let Some(ConversationKind::Direct { username, peer_key }) =
            self.conversations.get(id).map(|t| &t.kind)
        else {
            return false;
        };
        self.contacts.get(username).is_some_and(|c| c.peer_key != *peer_key)
    }
}

fn gate(standing: Option<Standing>) -> Gate {
    match standing {
        Some(Standing::Allow) => Gate::Open,
        Some(Standing::Ask | Standing::Block) | None => Gate::Closed,
    }
}
