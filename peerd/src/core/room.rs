//! Rooms: their membership logs, and the mesh of room links.
//!
//! Invariant: a log is only ever continued. A record that contradicts the one held changes nothing and is
//! told to the user once.
//! Invariant: a room link is kept only with a member, by the newest epoch known.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use peerd_proto::{
    control::{EventKind, LinkState, MemberAnswer, RoomAnswer},
    wire::{ConversationId, Frame, Goodbye, Have},
};
use registryd_proto::{
    Member, MembershipError, MembershipOp, MembershipRecord, PublicKey, Role, Room, RoomId,
    RoomListing, RoomName, RoomView, Signed, Username,
};

use super::{
    Core, LinkId, LinkKind,
    durable::{ConversationKind, RoomRow, Write},
    input::Inbound,
    replica::Gate,
};

/// The most records in one frame: below its size.
const RECORDS_MAX: usize = 512;
/// How many records a new link begins with: the other side may have missed the newest.
const RECORDS_FIRST: usize = 8;

/// One room.
#[derive(Debug)]
struct State {
    row: RoomRow,
    room: Room,
    log: Vec<Signed<MembershipRecord>>,
    diverged: bool,
}

/// All rooms that we are or were in.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    all: BTreeMap<RoomId, State>,
    addresses: BTreeMap<PublicKey, Vec<SocketAddr>>,
}

impl Rooms {
    pub(super) fn restore(
        rows: Vec<RoomRow>,
        membership: Vec<(RoomId, Signed<MembershipRecord>)>,
        registry: Option<PublicKey>,
    ) -> Self {
        let mut logs: BTreeMap<RoomId, Vec<Signed<MembershipRecord>>> = BTreeMap::new();
        for (room, record) in membership {
            logs.entry(room).or_default().push(record);
        }
        let mut all = BTreeMap::new();
        for row in rows {
            let log = logs.remove(&row.id).unwrap_or_default();
            let room = registry.and_then(|key| Room::from_log(&log, &key).ok());
            if let Some(room) = room {
                all.insert(row.id, State { row, room, log, diverged: false });
            }
        }
        Self { all, addresses: BTreeMap::new() }
    }

    /// The log of a room, folded.
    pub(super) fn folded(&self, id: &RoomId) -> Option<&Room> {
        self.all.get(id).map(|state| &state.room)
    }

    /// The rooms that we were in.
    pub(super) fn left(&self) -> Vec<RoomId> {
        self.all.values().filter(|s| !s.row.joined).map(|s| s.row.id).collect()
    }

    fn joined(&self) -> impl Iterator<Item = &State> {
        self.all.values().filter(|state| state.row.joined)
    }

    /// The room of that name that we are in.
    pub(super) fn by_name(&self, name: &RoomName) -> Option<&Room> {
        self.joined().find(|s| s.row.name == *name).map(|s| &s.room)
    }

    /// The newest epoch held of a room, also of one that we are not in; 0 of one of which we hold nothing.
    pub(super) fn held_epoch(&self, id: &RoomId) -> u64 {
        self.folded(id).map_or(0, |room| room.epoch)
    }

    /// The rooms that we are in.
    pub(super) fn names(&self) -> Vec<RoomName> {
        let names: BTreeSet<RoomName> = self.joined().map(|s| s.row.name.clone()).collect();
        names.into_iter().collect()
    }

    /// Whether a room key belongs to a member of one of our rooms.
    pub(super) fn knows(&self, room_key: &PublicKey) -> bool {
        self.joined().any(|s| s.room.member_by_room_key(room_key).is_some())
    }

    /// The name of a room shared with a room key.
    pub(super) fn shared_with(&self, room_key: &PublicKey) -> Option<RoomName> {
        let shared = |s: &&State| s.room.member_by_room_key(room_key).is_some();
        self.joined().find(shared).map(|s| s.row.name.clone())
    }

    /// All members of our rooms but the owner of `me`.
    pub(super) fn members_but(&self, me: &PublicKey) -> impl Iterator<Item = (&RoomName, &Member)> {
        self.joined()
            .flat_map(|s| s.room.members().map(|m| (&s.row.name, m)))
            .filter(move |(_, m)| m.peer_key != *me)
    }

    /// Where the registry last saw a room endpoint.
    pub(super) fn addresses(&self, room_key: &PublicKey) -> &[SocketAddr] {
        self.addresses.get(room_key).map_or(&[], Vec::as_slice)
    }
}

impl Core {
    /// The id of a room's conversation.
    pub(super) fn room_conversation(&self, room: &RoomId) -> Option<ConversationId> {
        Some(ConversationId::room(&self.registry_key()?, room))
    }

    /// The registry's view of a room: its log and where its members are. True if our log holds all of it.
    pub(super) fn take_room(&mut self, view: &RoomView) -> bool {
        for member in &view.members {
            let addresses = member.addresses.iter().take(registryd_proto::ADDRESSES_MAX);
            self.rooms.addresses.insert(member.member.room_key, addresses.copied().collect());
        }
        self.dirty = true;
        match self.rooms.all.contains_key(&view.id) {
            true => self.take_records(view.id, &view.log),
            false => self.begin_room(view),
        }
        let me = self.keys.peer.public();
        let back = |s: &State| {
            !s.row.joined
                && !s.diverged
                && s.room.epoch == view.epoch
                && s.room.member_by_peer_key(&me).is_some()
        };
        // A listing that lacked it made us leave, and its log has not moved since.
        if self.rooms.all.get(&view.id).is_some_and(back) {
            self.room_changed(view.id, &[]);
        }
        self.rooms.folded(&view.id).is_some_and(|room| room.epoch >= view.epoch)
    }

    /// Records that a member, or who may be one, has sent. Only the registry brings us into a room: others may
    /// not have heard yet that it is deleted, or that we left.
    pub(super) fn take_records_of_a_member(
        &mut self,
        id: RoomId,
        records: &[Signed<MembershipRecord>],
    ) {
        if self.rooms.joined().any(|state| state.row.id == id) {
            self.take_records(id, records);
        }
    }

    /// Records of a room's log: signed by the registry, so it does not matter who sent them.
    fn take_records(&mut self, id: RoomId, records: &[Signed<MembershipRecord>]) {
        let Some(registry) = self.registry_key() else { return };
        let Some(state) = self.rooms.all.get_mut(&id) else { return };
        let before = state.room.epoch;
        let mut ops = Vec::new();
        let mut failure = None;
        for record in records {
            match state.room.apply(record, &registry) {
                Ok(true) => {
                    state.log.push(record.clone());
                    let (room, epoch, record) = (id, state.room.epoch, record.clone());
                    ops.extend(record.open(&registry).map(|r| r.op).ok());
                    self.out.writes.push(Write::Membership { room, epoch, record });
                }
                Ok(false) => {}
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        let name = state.row.name.clone();
        let changed = state.room.epoch > before;
        match failure {
            Some(MembershipError::Gap { .. }) => self.ask_addresses(&name),
            Some(MembershipError::Diverged { .. } | MembershipError::Contradiction { .. }) => {
                self.room_diverged(id);
            }
            Some(MembershipError::Signed(_)) | None => {}
        }
        if changed {
            self.room_changed(id, &ops);
        }
    }

    /// Another log than ours, or a shorter one, was shown for a room: told once.
    pub(super) fn room_diverged(&mut self, id: RoomId) {
        let Some(state) = self.rooms.all.get_mut(&id) else { return };
        if !std::mem::replace(&mut state.diverged, true) {
            let room = state.row.name.clone();
            self.event(EventKind::RoomDiverged { room });
        }
    }

    /// A room that we had nothing of. Kept only if we are a member, or its log is longer than what has come.
    fn begin_room(&mut self, view: &RoomView) {
        let (id, records, me) = (view.id, &view.log, self.keys.peer.public());
        let Some(registry) = self.registry_key() else { return };
        let Ok(room) = Room::from_log(records, &registry) else { return };
        let more = room.epoch < view.epoch;
        if room.id != id || !(more || room.member_by_peer_key(&me).is_some()) {
            return;
        }
        for (record, epoch) in records.iter().zip(1..) {
            let record = record.clone();
            self.out.writes.push(Write::Membership { room: id, epoch, record });
        }
        let row = RoomRow { id, name: room.name.clone(), joined: false };
        self.out.writes.push(Write::Room(row.clone()));
        let state = State { row, room, log: records.to_vec(), diverged: false };
        self.rooms.all.insert(id, state);
        self.room_changed(id, &[]);
    }

    /// The log has grown: tells who came and went, and makes it so.
    fn room_changed(&mut self, id: RoomId, ops: &[MembershipOp]) {
        let me = self.keys.peer.public();
        let Some(state) = self.rooms.all.get(&id) else { return };
        let name = state.row.name.clone();
        let (was, is) = (state.row.joined, state.room.member_by_peer_key(&me).is_some());
        if is && !was {
            self.enter_room(id);
        } else if was && !is {
            self.leave_room(id);
        } else if is {
            let us = self.profile.as_ref().map(|p| p.username.clone());
            for op in ops {
                let room = name.clone();
                let kind = match op {
                    MembershipOp::Join { member } => {
                        EventKind::MemberJoined { room, member: member.username.clone() }
                    }
                    MembershipOp::Leave { username } | MembershipOp::Kick { username, .. } => {
                        EventKind::MemberLeft { room, member: username.clone() }
                    }
                    _ => continue,
                };
                if kind.user() != us.as_ref() {
                    self.event(kind);
                }
            }
        }
        self.drop_strangers();
        self.relink_room(id);
        self.recheck_unknown();
        self.dirty = true;
    }

    fn enter_room(&mut self, id: RoomId) {
        // A room made anew takes the place of the one that had its name.
        let name = self.rooms.all.get(&id).map(|s| &s.row.name);
        let former = self.rooms.joined().find(|s| Some(&s.row.name) == name).map(|s| s.row.id);
        if let Some(former) = former.filter(|former| *former != id) {
            self.leave_room(former);
        }
        let Some(state) = self.rooms.all.get_mut(&id) else { return };
        state.row.joined = true;
        let (row, name) = (state.row.clone(), state.row.name.clone());
        self.out.writes.push(Write::Room(row));
        self.session.invited.retain(|invited| *invited != name);
        let Some(conversation) = self.room_conversation(&id) else { return };
        if !self.conversations.contains_key(&conversation) {
            let kind = ConversationKind::Room { room: id, name: name.clone() };
            self.begin_conversation(conversation, kind);
        }
        self.event(EventKind::RoomJoined { room: name });
    }

    /// We are no member any more.
    pub(super) fn leave_room(&mut self, id: RoomId) {
        let Some(state) = self.rooms.all.get_mut(&id).filter(|s| s.row.joined) else { return };
        state.row.joined = false;
        let row = state.row.clone();
        let room = row.name.clone();
        self.out.writes.push(Write::Room(row));
        self.event(EventKind::RoomLeft { room });
        let conversation = self.room_conversation(&id);
        if let Some(talk) = conversation.and_then(|id| self.conversations.get_mut(&id)) {
            let links: Vec<LinkId> = talk.replica.links().map(|(link, _)| link).collect();
            for link in links {
                talk.replica.part(link);
            }
        }
        self.end_what_waits_in(id);
        self.drop_strangers();
    }

    /// Closes room links with those who share no room with us.
    fn drop_strangers(&mut self) {
        let strangers: Vec<LinkId> = self
            .links
            .ready_of(LinkKind::Room)
            .filter(|(_, key)| !self.rooms.knows(key))
            .map(|(link, _)| link)
            .collect();
        for link in strangers {
            self.close_link(link, Goodbye::NotWelcome);
        }
    }

    /// Joins a room's replica with the links of its members, and parts it from those who left.
    fn relink_room(&mut self, id: RoomId) {
        let Some(conversation) = self.room_conversation(&id) else { return };
        let Some(state) = self.rooms.all.get(&id).filter(|s| s.row.joined) else { return };
        let links: Vec<(LinkId, PublicKey)> = self
            .links
            .ready_of(LinkKind::Room)
            .filter_map(|(link, key)| Some((link, state.room.member_by_room_key(&key)?.peer_key)))
            .collect();
        let Some(talk) = self.conversations.get_mut(&conversation) else { return };
        let missed = std::mem::take(&mut talk.missed_epoch);
        let held: BTreeMap<LinkId, PublicKey> = talk.replica.links().collect();
        let new: Vec<LinkId> =
            links.iter().map(|(link, _)| *link).filter(|link| !held.contains_key(link)).collect();
        self.with_replica(&conversation, |replica, cx| {
            for gone in held.keys().filter(|held| links.iter().all(|(link, _)| link != *held)) {
                replica.part(*gone);
            }
            for (link, member) in links.iter().filter(|(link, _)| !held.contains_key(link)) {
                replica.link_up(*link, *member, Gate::Open);
            }
            replica.on_membership(cx);
            if missed {
                replica.announce_full();
            }
        });
        self.take_early(&new, &conversation);
    }

    /// A room link is in use: every shared room goes over it.
    pub(super) fn room_link_ready(&mut self, link: LinkId, key: &PublicKey) {
        let shared: Vec<RoomId> = self
            .rooms
            .joined()
            .filter(|s| s.room.member_by_room_key(key).is_some())
            .map(|s| s.row.id)
            .collect();
        for id in shared {
            let Some(state) = self.rooms.all.get(&id) else { continue };
            let from = state.log.len().saturating_sub(RECORDS_FIRST);
            let records = state.log[from..].to_vec();
            let member = state.room.member_by_room_key(key).map(|m| m.peer_key);
            self.send(link, Frame::Membership { room: id, records });
            let (Some(member), Some(conversation)) = (member, self.room_conversation(&id)) else {
                continue;
            };
            self.with_replica(&conversation, |replica, _| {
                replica.link_up(link, member, Gate::Open);
            });
        }
    }

    /// A frame on a room link in use.
    pub(super) fn on_room_frame(&mut self, link: LinkId, frame: Inbound) {
        match frame {
            Inbound::Entries { conversation, entries } => {
                let received = self.take_entries(link, conversation, entries);
                if received.is_some_and(|r| r.unknown_epoch.is_some()) {
                    self.miss_epoch(link, &conversation);
                }
            }
            Inbound::Fork { a, b } => {
                let conversation = a.header().conversation;
                self.take_fork(&conversation, &a, &b);
            }
            Inbound::Other(Frame::Have(have)) if have.is_question() => {
                self.with_replica(&have.conversation, |replica, _| replica.owe_full(link));
            }
            Inbound::Other(Frame::Have(have)) => {
                self.send_records_after(link, &have.conversation, have.epoch);
                self.ask_records(link, &have.conversation, have.epoch);
                let talk = self.conversations.get(&have.conversation);
                if talk.is_some_and(|talk| talk.replica.links().any(|(held, _)| held == link)) {
                    self.take_have(link, &have);
                } else if let Some(early) = self.links.early(link) {
                    early.keep(&have);
                }
            }
            Inbound::Other(Frame::Membership { room, records }) => {
                self.take_records_of_a_member(room, &records);
            }
            _ => self.close_link(link, Goodbye::NotWelcome),
        }
    }

    fn room_of(&self, conversation: &ConversationId) -> Option<&State> {
        match &self.conversations.get(conversation)?.kind {
            ConversationKind::Room { room, .. } => self.rooms.all.get(room),
            ConversationKind::Direct { .. } => None,
        }
    }

    /// Gives the other side the records that it lacks, if it is a member.
    fn send_records_after(&mut self, link: LinkId, conversation: &ConversationId, epoch: u64) {
        let Some(state) = self.room_of(conversation).filter(|s| s.row.joined) else { return };
        let Some(key) = self.links.get(link).map(|l| l.key) else { return };
        let after = usize::try_from(epoch).unwrap_or(usize::MAX);
        if after >= state.log.len() || state.room.member_by_room_key(&key).is_none() {
            return;
        }
        let records = state.log[after..].iter().take(RECORDS_MAX).cloned().collect();
        let room = state.row.id;
        self.send(link, Frame::Membership { room, records });
    }

    /// The other side has records that we lack: telling it our epoch makes it send them. So a room goes on
    /// while the registry is away.
    fn ask_records(&mut self, link: LinkId, conversation: &ConversationId, epoch: u64) {
        let Some(state) = self.room_of(conversation).filter(|s| s.row.joined) else { return };
        let ours = state.room.epoch;
        if epoch > ours {
            self.send(
                link,
                Frame::Have(Have {
                    conversation: *conversation,
                    epoch: ours,
                    full: false,
                    positions: Vec::new(),
                    exceptions: Vec::new(),
                }),
            );
        }
    }

    /// An entry is of an epoch that we do not know: its sender may have the records, and so may the
    /// registry, which is not asked more often because a member writes nonsense.
    fn miss_epoch(&mut self, link: LinkId, conversation: &ConversationId) {
        if let Some(talk) = self.conversations.get_mut(conversation) {
            talk.missed_epoch = true;
        }
        self.ask_records(link, conversation, u64::MAX);
        if let Some(name) = self.room_of(conversation).map(|s| s.row.name.clone()) {
            self.ask_addresses(&name);
        }
    }

    /// What a sync tells of our rooms.
    pub(super) fn sync_rooms(&mut self, listings: &[RoomListing]) {
        let listed: BTreeSet<RoomId> = listings.iter().map(|l| l.id).collect();
        let gone: Vec<RoomId> =
            self.rooms.joined().map(|s| s.row.id).filter(|id| !listed.contains(id)).collect();
        for id in gone {
            self.leave_room(id);
        }
        for listing in listings {
            let held = self.rooms.all.get(&listing.id).filter(|s| s.row.joined);
            // A listing may be older than what we have heard since it was asked for; a room is asked for anew.
            let behind = |s: &State| !s.diverged && s.room.epoch > listing.epoch;
            if held.is_none_or(|s| s.room.epoch < listing.epoch || behind(s)) {
                self.fetch_room(None, &listing.room, Some(listing.id));
            }
        }
    }

    /// A room as commands tell it.
    pub(super) fn room_answer(&self, room: &Room) -> RoomAnswer {
        let owner = room.members().find(|m| m.role == Role::Owner);
        RoomAnswer {
            room: room.name.clone(),
            owner: owner.map(|m| m.username.clone()),
            access: room.access,
            history: room.history,
            epoch: room.epoch,
            members: room.members().map(|m| self.member_answer(m)).collect(),
        }
    }

    pub(super) fn member_answer(&self, member: &Member) -> MemberAnswer {
        let ours = member.peer_key == self.keys.peer.public();
        let linked = self.links.ready(LinkKind::Room, &member.room_key).is_some();
        let link = if ours || linked { LinkState::Connected } else { LinkState::Absent };
        MemberAnswer { username: member.username.clone(), role: member.role, link }
    }

    /// A member of a room that we are in.
    pub(super) fn member(&self, room: &RoomName, username: &Username) -> Option<&Member> {
        self.rooms.by_name(room)?.member(username)
    }
}
