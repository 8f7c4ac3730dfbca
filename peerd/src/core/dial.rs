//! Whom to dial, when, and where: the schedule of dials and the look-ups that feed it.
//!
//! A peer is wanted while messages wait for it, a chat with it is open, or a room is shared with it. A
//! wanted peer is dialled until a link is up: at once, then ever slower; slower still while the registry
//! says that it is offline, for then the registry tells us when it comes (`watch`). Whoever was linked and
//! has just gone is mostly about to be back: it is tried at a steady pace for a while.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use registryd_proto::{PresenceState, PublicKey, Reply, Request, RoomName, UserView, Username};

use super::{
    Core, Effect, LinkKind, call::Purpose, contact::Seen, durable::ConversationKind,
    input::CallFailure,
};

const DELAY_FIRST_MS: u64 = 500;
const DELAY_MAX_MS: u64 = 5_000;
/// How long the first dial may take. A dead address shows only by silence; a short dial finds sooner whoever
/// is just starting, and a long one whoever is far away.
const TIMEOUT_FIRST_MS: u64 = 1_000;
const TIMEOUT_MAX_MS: u64 = 4_000;
/// How long a peer whose settled link broke is tried without ever longer pauses: as long as a restart or a
/// change of network takes.
const BRISK_MS: u64 = 15_000;
/// For peers that the registry calls offline.
const DELAY_OFFLINE_MS: u64 = 30_000;
/// For peers that do not want us: they may change their mind.
const DELAY_REFUSED_MS: u64 = 10_000;
/// A link that breaks sooner than this counts as a dial that failed: whoever takes us in and throws us out
/// again is not dialled in a loop.
const SETTLED_MS: u64 = 10_000;
/// How much later the higher key dials a room member: the lower one is at it already.
const HIGHER_KEY_MS: u64 = 1_000;
/// Dials of room members at once: a joiner of a full room floods nobody.
const ROOM_DIALS_MAX: usize = 16;
/// A user or room is asked for at the registry no more often than this.
const LOOK_UP_EVERY_MS: u64 = 5_000;

#[derive(Debug)]
struct Dial {
    in_flight: bool,
    next_ms: u64,
    /// While a connection with the peer is in its hello.
    hello_until_ms: u64,
    delay_ms: u64,
    timeout_ms: u64,
    slow: bool,
    /// The peer does not want us: no news of it makes us hurry.
    refused: bool,
    tried: Vec<SocketAddr>,
}

/// What is left of the dials that led to a link.
#[derive(Debug)]
struct Reached {
    at_ms: u64,
    delay_ms: u64,
    refused: bool,
}

/// The schedule.
#[derive(Debug, Default)]
pub(super) struct Dials {
    all: BTreeMap<(LinkKind, PublicKey), Dial>,
    asked: BTreeMap<Username, u64>,
    rooms_asked: BTreeMap<RoomName, u64>,
    reached: BTreeMap<(LinkKind, PublicKey), Reached>,
    /// Until when those whose settled links broke are tried at a steady pace.
    brisk: BTreeMap<(LinkKind, PublicKey), u64>,
}

/// Somebody to be linked with.
struct Wanted {
    kind: LinkKind,
    key: PublicKey,
    username: Username,
    room: Option<RoomName>,
    addresses: Vec<SocketAddr>,
}

impl Dials {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// A connection with the peer is up, whoever dialled. There is no other dial while it may become a link.
    pub(super) fn connected(&mut self, kind: LinkKind, key: &PublicKey, until_ms: u64) {
        if let Some(dial) = self.all.get_mut(&(kind, *key)) {
            dial.in_flight = false;
            dial.hello_until_ms = until_ms;
        }
    }

    /// A connection ended that had not become a link, and no other one is up. It counts as a dial that failed.
    pub(super) fn lost(&mut self, kind: LinkKind, key: &PublicKey) {
        if let Some(dial) = self.all.get_mut(&(kind, *key)) {
            dial.hello_until_ms = 0;
        }
    }

    /// A link is in use.
    pub(super) fn reached(&mut self, kind: LinkKind, key: &PublicKey, at_ms: u64) {
        let dial = self.all.remove(&(kind, *key));
        self.reached.retain(|_, reached| reached.at_ms + SETTLED_MS > at_ms);
        let before = self.reached.get(&(kind, *key)).map_or(DELAY_FIRST_MS, |r| r.delay_ms);
        let delay_ms = dial.map_or(before, |dial| dial.delay_ms.clamp(before, DELAY_MAX_MS));
        self.reached.insert((kind, *key), Reached { at_ms, delay_ms, refused: false });
    }

    /// A link that was in use since `since_ms` is gone.
    pub(super) fn broke(&mut self, kind: LinkKind, key: &PublicKey, since_ms: u64, now_ms: u64) {
        self.brisk.retain(|_, until_ms| *until_ms > now_ms);
        if since_ms + SETTLED_MS <= now_ms {
            self.brisk.insert((kind, *key), now_ms + BRISK_MS);
        }
    }

    fn is_brisk(&self, kind: LinkKind, key: &PublicKey, now_ms: u64) -> bool {
        self.brisk.get(&(kind, *key)).is_some_and(|until_ms| *until_ms > now_ms)
    }

    /// The peer does not want us: it is not asked again soon.
    pub(super) fn unwelcome(&mut self, kind: LinkKind, key: &PublicKey, now_ms: u64) {
        match self.all.get_mut(&(kind, *key)) {
            Some(dial) => dial.refused = true,
            None => {
                let (at_ms, delay_ms) = (now_ms, DELAY_MAX_MS);
                self.reached.insert((kind, *key), Reached { at_ms, delay_ms, refused: true });
            }
        }
    }

    /// Whether somebody is being dialled, now or later.
    pub(super) fn has(&self, kind: LinkKind, key: &PublicKey) -> bool {
        self.all.contains_key(&(kind, *key))
    }

    fn rooms_in_flight(&self) -> usize {
        self.all.iter().filter(|((kind, _), d)| *kind == LinkKind::Room && d.in_flight).count()
    }

    /// Everything that waits is tried now.
    pub(super) fn hurry_all(&mut self, now_ms: u64) {
        for dial in self.all.values_mut() {
            dial.refused = false;
            dial.hurry(now_ms);
        }
        self.reached.clear();
        self.asked.clear();
        self.rooms_asked.clear();
    }

    fn hurry(&mut self, kind: LinkKind, key: &PublicKey, now_ms: u64) {
        if let Some(dial) = self.all.get_mut(&(kind, *key)) {
            dial.hurry(now_ms);
        }
    }

    pub(super) fn next_wake(&self) -> Option<u64> {
        let full = self.rooms_in_flight() >= ROOM_DIALS_MAX;
        let waits = |kind: LinkKind| kind == LinkKind::Room && full;
        let due = self.all.iter().filter(|((kind, _), d)| !d.in_flight && !waits(*kind));
        due.map(|(_, d)| d.due_ms()).min()
    }
}

impl Dial {
    fn due_ms(&self) -> u64 {
        self.next_ms.max(self.hello_until_ms)
    }

    fn hurry(&mut self, now_ms: u64) {
        if self.refused {
            return;
        }
        self.next_ms = now_ms;
        self.delay_ms = DELAY_FIRST_MS;
        self.slow = false;
    }
}

impl Core {
    /// Contacts with whom a 1:1 link is wanted: a message waits, or a chat is open.
    fn wanted_users(&self) -> BTreeSet<&Username> {
        let pending = self.conversations.values().filter_map(|talk| match &talk.kind {
            ConversationKind::Direct { username, peer_key } => {
                talk.replica.pending().next()?;
                let pinned = self.contacts.get(username)?.peer_key;
                (pinned == *peer_key).then_some(username)
            }
            ConversationKind::Room { .. } => None,
        });
        pending.chain(self.chats.open().map(|(peer, _)| peer)).collect()
    }

    fn wanted(&self) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        let contacts = self.wanted_users().into_iter().filter_map(|name| self.contacts.get(name));
        for contact in contacts.filter(|c| c.untrusted.is_none()) {
            if self.links.ready(LinkKind::Peer, &contact.peer_key).is_none() {
                wanted.push(Wanted {
                    kind: LinkKind::Peer,
                    key: contact.peer_key,
                    username: contact.username.clone(),
                    room: None,
                    addresses: contact.endpoints.peer.clone(),
                });
            }
        }
        let mut members = BTreeSet::new();
        for (room, member) in self.rooms.members_but(&self.keys.peer.public()) {
            let key = member.room_key;
            if self.links.ready(LinkKind::Room, &key).is_some() || !members.insert(key) {
                continue;
            }
            let mut addresses = self.rooms.addresses(&key).to_vec();
            if let Some(contact) = self.contacts.get(&member.username) {
                let known = contact.endpoints.room.iter().filter(|_| contact.room_key == key);
                addresses.extend(known.filter(|a| !addresses.contains(a)).collect::<Vec<_>>());
            }
            wanted.push(Wanted {
                kind: LinkKind::Room,
                key,
                username: member.username.clone(),
                room: Some(room.clone()),
                addresses,
            });
        }
        wanted
    }

    /// Begins the dials that are due.
    pub(super) fn tick_dials(&mut self) {
        let due = self.dials.next_wake().is_some_and(|at| at <= self.now.mono_ms);
        if !(due || self.dirty) || self.session.listeners.is_none() || !self.session.is_wanted() {
            return;
        }
        let wanted = self.wanted();
        let keys: BTreeSet<_> = wanted.iter().map(|w| (w.kind, w.key)).collect();
        self.dials.all.retain(|key, _| keys.contains(key));
        let mut rooms_in_flight = self.dials.rooms_in_flight();
        for wanted in wanted {
            self.dial(wanted, &mut rooms_in_flight);
        }
    }

    fn begin_dial(&mut self, kind: LinkKind, key: PublicKey) {
        let now_ms = self.now.mono_ms;
        let later = kind == LinkKind::Room && key < self.keys.room.public();
        let mut dial = Dial {
            in_flight: false,
            hello_until_ms: 0,
            next_ms: if later { now_ms + HIGHER_KEY_MS } else { now_ms },
            delay_ms: DELAY_FIRST_MS,
            timeout_ms: TIMEOUT_FIRST_MS,
            slow: false,
            refused: false,
            tried: Vec::new(),
        };
        let reached = self.dials.reached.remove(&(kind, key));
        if let Some(reached) = reached.filter(|r| r.at_ms + SETTLED_MS > now_ms) {
            dial.refused = reached.refused;
            dial.delay_ms = reached.delay_ms;
            let wait_ms = if reached.refused { DELAY_REFUSED_MS } else { reached.delay_ms };
            dial.next_ms = now_ms + self.jitter(wait_ms);
        }
        self.dials.all.insert((kind, key), dial);
    }

    fn dial(&mut self, wanted: Wanted, rooms_in_flight: &mut usize) {
        let Wanted { kind, key, username, room, addresses } = wanted;
        let now_ms = self.now.mono_ms;
        let first = !self.dials.all.contains_key(&(kind, key));
        if first {
            self.begin_dial(kind, key);
        }
        if kind == LinkKind::Peer && (first || addresses.is_empty()) {
            self.look_up(&username);
        }
        if let Some(room) = room.filter(|_| addresses.is_empty()) {
            self.ask_addresses(&room);
        }
        let brisk = self.dials.is_brisk(kind, &key, now_ms);
        let Some(dial) = self.dials.all.get_mut(&(kind, key)) else { return };
        if dial.in_flight || dial.due_ms() > now_ms {
            return;
        }
        if kind == LinkKind::Room && *rooms_in_flight >= ROOM_DIALS_MAX {
            return;
        }
        let delay_ms = dial.delay_ms;
        let max_ms = match (brisk, dial.slow) {
            (true, _) => DELAY_FIRST_MS,
            (false, true) => DELAY_OFFLINE_MS,
            (false, false) => DELAY_MAX_MS,
        };
        dial.delay_ms = (delay_ms * 2).min(max_ms);
        dial.refused = false;
        if !addresses.is_empty() {
            *rooms_in_flight += usize::from(kind == LinkKind::Room);
            dial.in_flight = true;
            dial.tried = addresses.clone();
            let timeout_ms = dial.timeout_ms;
            dial.timeout_ms = (timeout_ms * 2).min(TIMEOUT_MAX_MS);
            self.out.effects.push(Effect::Dial { kind, key, addresses, timeout_ms });
        }
        let wait_ms = self.jitter(delay_ms);
        if let Some(dial) = self.dials.all.get_mut(&(kind, key)) {
            dial.next_ms = now_ms + wait_ms;
        }
    }

    pub(super) fn on_dial_failed(&mut self, kind: LinkKind, key: PublicKey) {
        let Some(dial) = self.dials.all.get_mut(&(kind, key)) else { return };
        dial.in_flight = false;
        let delay_ms = dial.delay_ms;
        let wait_ms = self.jitter(delay_ms);
        if let Some(dial) = self.dials.all.get_mut(&(kind, key)) {
            dial.next_ms = self.now.mono_ms + wait_ms;
        }
        self.dirty = true;
        match kind {
            LinkKind::Peer => {
                if let Some(name) = self.contacts.by_peer_key(&key).map(|c| c.username.clone()) {
                    self.look_up(&name);
                }
            }
            LinkKind::Room => {
                if let Some(room) = self.rooms.shared_with(&key) {
                    self.ask_addresses(&room);
                }
            }
        }
    }

    /// Asks the registry where a user is, and to tell when it comes.
    pub(super) fn look_up(&mut self, username: &Username) {
        let now_ms = self.now.mono_ms;
        let asked = self.dials.asked.get(username);
        let recent = asked.is_some_and(|at| *at + LOOK_UP_EVERY_MS > now_ms);
        if recent || !self.session.is_online() || self.calls.looks_up(username) {
            return;
        }
        self.dials.asked.insert(username.clone(), now_ms);
        self.ask_user(username);
    }

    /// The same without a limit of its own: for commands.
    pub(super) fn ask_user(&mut self, username: &Username) {
        if self.calls.looks_up(username) {
            return;
        }
        let watch = !self.session.watched.contains(username);
        let name = username.clone();
        let request = match watch {
            true => Request::Watch { username: name },
            false => Request::Search { username: name },
        };
        self.call(Purpose::LookUp { username: username.clone(), watch }, request);
    }

    /// Asks the registry again to tell when the peers that we wait for come: it started anew.
    pub(super) fn rewatch(&mut self) {
        let names: BTreeSet<Username> = self
            .wanted()
            .into_iter()
            .filter(|w| w.kind == LinkKind::Peer)
            .map(|w| w.username)
            .chain(self.commands.waits_for_peers())
            .collect();
        for name in names {
            self.ask_user(&name);
        }
    }

    /// Asks the registry for a room's log and addresses, but not too often.
    pub(super) fn ask_addresses(&mut self, room: &RoomName) {
        let now_ms = self.now.mono_ms;
        let asked = self.dials.rooms_asked.get(room);
        let recent = asked.is_some_and(|at| *at + LOOK_UP_EVERY_MS > now_ms);
        if !recent && self.session.is_online() {
            self.dials.rooms_asked.insert(room.clone(), now_ms);
            self.fetch_room(None, room, None);
        }
    }

    pub(super) fn looked_up(
        &mut self,
        username: &Username,
        watch: bool,
        result: Result<Reply, CallFailure>,
    ) {
        match result {
            Ok(Reply::User(view)) if view.username == *username => {
                if watch && view.presence == PresenceState::Offline {
                    self.session.watched.insert(username.clone());
                }
                let seen = self.take_user(view);
                self.resume_lookups(username, Ok(seen));
            }
            Ok(_) => self.resume_lookups(username, Ok(Seen::Refused)),
            Err(failure) => self.resume_lookups(username, Err(failure)),
        }
    }

    /// What the registry tells of a user: its card, its addresses, whether it is there.
    pub(super) fn take_user(&mut self, view: UserView) -> Seen {
        let seen = self.see_card(&view.username, &view.card, Some(&view.endpoints));
        let online = view.presence == PresenceState::Online;
        self.session.presence.insert(view.username.clone(), view.presence);
        if let Some((peer_key, room_key)) =
            self.contacts.get(&view.username).map(|c| (c.peer_key, c.room_key))
        {
            let now_ms = self.now.mono_ms;
            let dial = self.dials.all.get_mut(&(LinkKind::Peer, peer_key));
            if let Some(dial) = dial {
                let moved = dial.tried != view.endpoints.peer;
                dial.slow = !online;
                if online && (moved || !dial.in_flight) {
                    dial.in_flight = false;
                    dial.hurry(now_ms);
                }
            }
            if online {
                self.dials.hurry(LinkKind::Room, &room_key, now_ms);
            }
        }
        self.dirty = true;
        self.user_seen(&view, seen);
        seen
    }

    pub(super) fn dial_if_away(&mut self, peer: &Username) {
        let Some(key) = self.contacts.get(peer).map(|c| c.peer_key) else { return };
        if self.links.ready(LinkKind::Peer, &key).is_some() {
            return;
        }
        if !self.session.is_offline(peer) {
            self.dial_now(peer);
        } else if !self.dials.has(LinkKind::Peer, &key) {
            self.dirty = true;
        }
    }

    /// Dials a user now, if it is wanted.
    pub(super) fn dial_now(&mut self, username: &Username) {
        if let Some(key) = self.contacts.get(username).map(|c| c.peer_key) {
            self.dials.hurry(LinkKind::Peer, &key, self.now.mono_ms);
        }
        self.dirty = true;
    }
}
