//! Links to peers: who is at the other end, which of two links is kept, and where frames go.
//!
//! Invariant: nothing of a link counts before its `hello`, whose card must hold the key of the connection.
//! Invariant: of two links of one pair and kind that the two sides dialled, the one dialled by the lower
//! key is kept, by both sides alike. A newer link that the same side dialled, or that comes long after, or from a
//! peer that has started anew since, replaces the old one: that one is dead, whatever it looks like from here.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use peerd_proto::{
    control::{EventKind, Presence},
    wire::{Frame, Goodbye, Hello, PROTOCOL_VERSION, Standing},
};
use registryd_proto::{Digest, Endpoints, PublicKey, Username};

use super::{
    Core, Effect, LinkId, LinkKind,
    contact::{Seen, standing},
    durable::ProfileState,
    early::Early,
    input::Inbound,
};

/// The most links: a few full rooms, at about 116 kB of a connection.
const LINKS_MAX: usize = 1024;
/// The most links that are not in use yet: strangers can hold no more than these.
const FRESH_MAX: usize = 128;
/// How long a side may take to say who it is, and our room log to know it.
const HELLO_WITHIN_MS: u64 = 10_000;
/// How long after a link a second one may come that was dialled before anybody knew of the first: a dial and
/// its hello.
const CROSSED_MS: u64 = 10_000;
/// How often a room peer whom our log does not know makes us ask the registry what has changed.
const UNKNOWN_SYNC_MS: u64 = 2_000;

/// The other end of a link that is in use.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) username: Username,
    boot: Digest,
    since_ms: u64,
    /// What it lets us do, once told.
    pub(super) standing: Option<Standing>,
    /// How many messages we told it that wait for it.
    pub(super) told_waiting: u64,
}

#[derive(Debug)]
enum State {
    Fresh {
        until_ms: u64,
    },
    /// A room peer with a good card that our membership log does not know: it may have just joined.
    Unknown {
        until_ms: u64,
        peer: Peer,
    },
    Ready(Peer),
}

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) kind: LinkKind,
    pub(super) key: PublicKey,
    dialled: bool,
    remote: Option<SocketAddr>,
    state: State,
    early: Early,
}

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Links {
    all: BTreeMap<LinkId, Link>,
    ready: BTreeMap<(LinkKind, PublicKey), LinkId>,
    /// Contacts that the user was told are here.
    present: BTreeSet<Username>,
    /// When the registry was last asked for the sake of an unknown room peer.
    asked_ms: Option<u64>,
}

impl Links {
    /// The link in use with a key.
    pub(super) fn ready(&self, kind: LinkKind, key: &PublicKey) -> Option<LinkId> {
        self.ready.get(&(kind, *key)).copied()
    }

    /// The other end of a link in use.
    pub(super) fn peer(&self, link: LinkId) -> Option<&Peer> {
        match &self.all.get(&link)?.state {
            State::Ready(peer) => Some(peer),
            State::Fresh { .. } | State::Unknown { .. } => None,
        }
    }

    pub(super) fn peer_mut(&mut self, link: LinkId) -> Option<&mut Peer> {
        match &mut self.all.get_mut(&link)?.state {
            State::Ready(peer) => Some(peer),
            State::Fresh { .. } | State::Unknown { .. } => None,
        }
    }

    /// What a link told of rooms in which our logs do not know its other side.
    pub(super) fn early(&mut self, link: LinkId) -> Option<&mut Early> {
        Some(&mut self.all.get_mut(&link)?.early)
    }

    pub(super) fn get(&self, link: LinkId) -> Option<&Link> {
        self.all.get(&link)
    }

    /// Links in use of one kind, with the key at the other end.
    pub(super) fn ready_of(&self, kind: LinkKind) -> impl Iterator<Item = (LinkId, PublicKey)> {
        self.ready.iter().filter(move |((k, _), _)| *k == kind).map(|((_, key), id)| (*id, *key))
    }

    /// Whether any connection with the key is up, in use or not.
    pub(super) fn any(&self, kind: LinkKind, key: &PublicKey) -> bool {
        self.all.values().any(|l| l.kind == kind && l.key == *key)
    }

    pub(super) fn next_wake(&self) -> Option<u64> {
        self.all.values().filter_map(Link::until_ms).min()
    }
}

impl Link {
    fn until_ms(&self) -> Option<u64> {
        match &self.state {
            State::Fresh { until_ms } | State::Unknown { until_ms, .. } => Some(*until_ms),
            State::Ready(_) => None,
        }
    }
}

impl Core {
    pub(super) fn on_link_up(
        &mut self,
        link: LinkId,
        kind: LinkKind,
        key: PublicKey,
        dialled: bool,
        remote: Option<SocketAddr>,
    ) {
        let fresh = self.links.all.len() - self.links.ready.len();
        let full = self.links.all.len() >= LINKS_MAX || (!dialled && fresh >= FRESH_MAX);
        let profile = self.profile.as_ref().filter(|p| p.state == ProfileState::LoggedIn);
        let Some(hello) = profile.filter(|_| !full && !self.stopping).and_then(|p| {
            Some(Hello {
                version: PROTOCOL_VERSION,
                registry: p.registry.key?,
                username: p.username.clone(),
                card: p.card.clone(),
                boot: self.boot,
            })
        }) else {
            let goodbye = Goodbye::NotWelcome;
            self.dials.connected(kind, &key, 0);
            return self.out.effects.push(Effect::Close { link, goodbye });
        };
        let until_ms = self.now.mono_ms + HELLO_WITHIN_MS;
        self.dials.connected(kind, &key, until_ms);
        let state = State::Fresh { until_ms };
        self.links
            .all
            .insert(link, Link { kind, key, dialled, remote, state, early: Early::default() });
        self.send(link, Frame::Hello(hello));
    }

    pub(super) fn on_link_frame(&mut self, id: LinkId, frame: Inbound) {
        let Some(link) = self.links.all.get_mut(&id) else { return };
        let kind = link.kind;
        match (&mut link.state, frame) {
            (State::Fresh { .. }, Inbound::Other(Frame::Hello(hello))) => self.greet(id, hello),
            (_, Inbound::Other(Frame::Goodbye(goodbye))) => self.on_goodbye(id, goodbye),
            (State::Fresh { .. }, _) => self.close_link(id, Goodbye::NotWelcome),
            (_, Inbound::Other(Frame::Hello(_))) => self.close_link(id, Goodbye::NotWelcome),
            (State::Unknown { .. }, Inbound::Other(Frame::Membership { room, records })) => {
                self.take_records_of_a_member(room, &records);
            }
            (State::Unknown { .. }, Inbound::Other(Frame::Have(have))) => link.early.keep(&have),
            // Our whole vector, once we know it, makes it send its entries again.
            (State::Unknown { .. }, _) => {}
            (State::Ready(_), frame) => match kind {
                LinkKind::Peer => self.on_peer_frame(id, frame),
                LinkKind::Room => self.on_room_frame(id, frame),
            },
        }
    }

    /// Checks the first frame of the other side.
    fn greet(&mut self, id: LinkId, hello: Hello) {
        let Some(link) = self.links.all.get(&id) else { return };
        let (kind, key, remote) = (link.kind, link.key, link.remote.filter(|_| link.dialled));
        if hello.version != PROTOCOL_VERSION {
            return self.close_link(id, Goodbye::Version);
        }
        let ours = self.profile.as_ref().is_some_and(|p| p.username == hello.username);
        let card = self.open_card(&hello.card).filter(|c| {
            let held = match kind {
                LinkKind::Peer => c.binding.peer_key,
                LinkKind::Room => c.binding.room_key,
            };
            c.username == hello.username && held == key
        });
        if card.is_none() || ours || self.registry_key() != Some(hello.registry) {
            return self.close_link(id, Goodbye::NotWelcome);
        }
        let seen = self.see_card(&hello.username, &hello.card, None);
        if kind == LinkKind::Peer && seen != Seen::Pinned {
            return self.close_link(id, Goodbye::NotWelcome);
        }
        if let Some(remote) = remote {
            self.remember_address(kind, &hello.username, &key, remote);
        }
        let Hello { username, boot, .. } = hello;
        let since_ms = self.now.mono_ms;
        let peer = Peer { username, boot, since_ms, standing: None, told_waiting: 0 };
        if kind == LinkKind::Room && !self.rooms.knows(&key) {
            let until_ms = self.now.mono_ms + HELLO_WITHIN_MS;
            if let Some(link) = self.links.all.get_mut(&id) {
                link.state = State::Unknown { until_ms, peer };
            }
            return self.sync_for_unknown();
        }
        self.take_in(id, peer);
    }

    fn sync_for_unknown(&mut self) {
        let now_ms = self.now.mono_ms;
        if self.links.asked_ms.is_none_or(|at| at + UNKNOWN_SYNC_MS <= now_ms) {
            self.links.asked_ms = Some(now_ms);
            self.sync();
        }
    }

    /// Decides between this link and one that is in use already, and begins to use it.
    fn take_in(&mut self, id: LinkId, peer: Peer) {
        let Some(link) = self.links.all.get(&id) else { return };
        let (kind, key, dialled) = (link.kind, link.key, link.dialled);
        let held = self.links.ready(kind, &key);
        if let Some((old, link, old_peer)) =
            held.and_then(|old| Some((old, self.links.get(old)?, self.links.peer(old)?)))
        {
            let ours = match kind {
                LinkKind::Peer => self.keys.peer.public(),
                LinkKind::Room => self.keys.room.public(),
            };
            let by_lower = dialled == (ours < key);
            // Two dials that crossed come close to each other. Later, the other side dials because it has lost
            // the link that looks good from here.
            let crossed = old_peer.since_ms + CROSSED_MS > self.now.mono_ms;
            #[cfg(any(test, feature = "simulation"))]
            let by_lower = if self.planted.keeps_own_dial { dialled } else { by_lower };
            if link.dialled != dialled && old_peer.boot == peer.boot && crossed && !by_lower {
                return self.close_link(id, Goodbye::Duplicate);
            }
            self.close_link(old, Goodbye::Duplicate);
        }
        let username = peer.username.clone();
        if let Some(link) = self.links.all.get_mut(&id) {
            link.state = State::Ready(Peer { since_ms: self.now.mono_ms, ..peer });
        }
        self.links.ready.insert((kind, key), id);
        self.dials.reached(kind, &key, self.now.mono_ms);
        self.dirty = true;
        match kind {
            LinkKind::Peer => self.peer_link_ready(id, &username),
            LinkKind::Room => self.room_link_ready(id, &key),
        }
    }

    fn peer_link_ready(&mut self, id: LinkId, username: &Username) {
        let policy = self.contacts.policy(username);
        self.send(id, Frame::Standing(standing(policy)));
        let steps = self.chats.link_up(username);
        self.carry_out(username, steps);
        self.link_direct(id, username);
    }

    /// The peer has taken us in as well: it is here. A link alone may be thrown out again.
    pub(super) fn tell_present(&mut self, username: &Username) {
        if !self.links.present.contains(username) && self.may_cause_event(username) {
            self.links.present.insert(username.clone());
            self.event(EventKind::Presence { peer: username.clone(), presence: Presence::Online });
        }
    }

    /// Room peers that our log did not know may be members by now.
    pub(super) fn recheck_unknown(&mut self) {
        let known = |(_, link): &(&LinkId, &Link)| {
            matches!(link.state, State::Unknown { .. }) && self.rooms.knows(&link.key)
        };
        let found: Vec<LinkId> = self.links.all.iter().filter(known).map(|(id, _)| *id).collect();
        for id in found {
            let Some(link) = self.links.all.get_mut(&id) else { continue };
            let fresh = State::Fresh { until_ms: self.now.mono_ms + HELLO_WITHIN_MS };
            let State::Unknown { peer, .. } = std::mem::replace(&mut link.state, fresh) else {
                continue;
            };
            if link.early.is_lost() {
                self.close_link(id, Goodbye::Duplicate);
                continue;
            }
            let early = link.early.take_all();
            self.take_in(id, peer);
            for have in early {
                self.on_link_frame(id, Inbound::Other(Frame::Have(have)));
            }
        }
    }

    fn on_goodbye(&mut self, id: LinkId, goodbye: Goodbye) {
        let Some(link) = self.links.all.get(&id) else { return };
        match goodbye {
            Goodbye::NotWelcome | Goodbye::Version => {
                self.dials.unwelcome(link.kind, &link.key, self.now.mono_ms);
            }
            Goodbye::Stopping | Goodbye::LoggedOut | Goodbye::Duplicate => {}
        }
    }

    pub(super) fn on_link_down(&mut self, id: LinkId) {
        let Some(link) = self.links.all.remove(&id) else { return };
        self.dirty = true;
        let State::Ready(peer) = link.state else {
            if !self.links.any(link.kind, &link.key) {
                self.dials.lost(link.kind, &link.key);
            }
            return self.gone_for_good(link.kind, &link.key, None);
        };
        if self.links.ready(link.kind, &link.key) == Some(id) {
            self.links.ready.remove(&(link.kind, link.key));
        }
        self.dials.broke(link.kind, &link.key, peer.since_ms, self.now.mono_ms);
        self.unlink_replicas(id);
        self.gone_for_good(link.kind, &link.key, Some(&peer.username));
    }

    /// Unless another connection with the peer is up or coming up, it has vanished.
    fn gone_for_good(&mut self, kind: LinkKind, key: &PublicKey, username: Option<&Username>) {
        if kind == LinkKind::Room || self.links.any(kind, key) {
            return;
        }
        let known = username.cloned();
        let Some(username) =
            known.or_else(|| self.contacts.by_peer_key(key).map(|c| c.username.clone()))
        else {
            return;
        };
        let steps = self.chats.link_down(&username);
        self.carry_out(&username, steps);
        if self.links.present.remove(&username) {
            self.event(EventKind::Presence { peer: username, presence: Presence::Offline });
        }
    }

    /// Says goodbye to one side. Its link is gone from here on.
    pub(super) fn close_link(&mut self, id: LinkId, goodbye: Goodbye) {
        if self.links.all.contains_key(&id) {
            self.out.effects.push(Effect::Close { link: id, goodbye });
            self.on_link_down(id);
        }
    }

    pub(super) fn close_links_of(&mut self, kind: LinkKind, key: &PublicKey) {
        let of = |(_, l): &(&LinkId, &Link)| l.kind == kind && l.key == *key;
        let ids: Vec<LinkId> = self.links.all.iter().filter(of).map(|(id, _)| *id).collect();
        for id in ids {
            self.close_link(id, Goodbye::NotWelcome);
        }
    }

    pub(super) fn close_all_links(&mut self, goodbye: Goodbye) {
        let ids: Vec<LinkId> = self.links.all.keys().copied().collect();
        for id in ids {
            self.close_link(id, goodbye);
        }
    }

    pub(super) fn tick_links(&mut self) {
        let now_ms = self.now.mono_ms;
        let late = |(_, l): &(&LinkId, &Link)| l.until_ms().is_some_and(|at| at <= now_ms);
        let ids: Vec<LinkId> = self.links.all.iter().filter(late).map(|(id, _)| *id).collect();
        for id in ids {
            self.close_link(id, Goodbye::NotWelcome);
        }
    }

    pub(super) fn send(&mut self, link: LinkId, frame: Frame) {
        self.out.effects.push(Effect::Send { link, frame });
    }

    /// The peer link in use with a contact's pinned key.
    pub(super) fn link_to(&self, username: &Username) -> Option<LinkId> {
        self.links.ready(LinkKind::Peer, &self.contacts.get(username)?.peer_key)
    }

    /// Tells a contact what it may do, if it is there.
    pub(super) fn tell_standing(&mut self, username: &Username) {
        if let Some(link) = self.link_to(username) {
            let standing = standing(self.contacts.policy(username));
            self.send(link, Frame::Standing(standing));
        }
    }

    /// An address that led to the peer: the next dial begins with it.
    fn remember_address(
        &mut self,
        kind: LinkKind,
        username: &Username,
        key: &PublicKey,
        address: SocketAddr,
    ) {
        let Some(contact) = self.contacts.get(username) else { return };
        let mut contact = contact.clone();
        let Endpoints { peer, room } = &mut contact.endpoints;
        let (pinned, list) = match kind {
            LinkKind::Peer => (contact.peer_key, peer),
            LinkKind::Room => (contact.room_key, room),
        };
        if pinned == *key && list.first() != Some(&address) {
            list.retain(|a| *a != address);
            list.insert(0, address);
            list.truncate(registryd_proto::ADDRESSES_MAX);
            self.put_contact(contact);
        }
    }
}
