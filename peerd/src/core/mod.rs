//! The pure core of peerd: every decision, and no IO.
//!
//! `Core::handle(input, now)` takes one thing that happened and says what is to be written and then done.
//! It has no clock, no socket, no file, no task; its randomness comes from a seed. So the simulator can
//! run thousands of peers with seeded faults in a second, and replay any of them.
//!
//! This file only dispatches. Each file below holds one idea: its state, and the `impl Core` that moves it.

mod backoff;
mod bind;
mod call;
mod card;
mod chat;
mod command;
mod contact;
mod dial;
pub mod durable;
mod early;
mod events;
mod flood;
pub mod input;
mod link;
#[cfg(any(test, feature = "simulation"))]
pub mod memory;
mod moving;
pub mod output;
#[cfg(any(test, feature = "simulation"))]
pub mod planted;
mod registry;
pub mod replica;
mod resume;
mod room;
mod talk;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use peerd_proto::{
    control::EventKind,
    wire::{ConversationId, Goodbye},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use registryd_proto::{Code, Digest, Username};

use crate::keys::Keys;
use call::Calls;
use chat::ChatBook;
use command::{Commands, LoginAttempt};
use contact::Contacts;
use dial::Dials;
use durable::{Profile, RequestRow, Snapshot};
use events::EventLog;
pub use input::{CallId, CommandId, Input, LinkId, LinkKind, LoadId, Now, Recalled};
use link::Links;
pub use output::{Answer, CommandFailure, Effect, Output};
use registry::Session;
use replica::{Loads, Replica, ShownIds};
use room::Rooms;

/// What the user may set.
#[derive(Debug, Clone)]
pub struct Config {
    /// How many chats may be active at once.
    pub max_active_chats: usize,
    /// peerd's version, for `status`.
    pub version: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_active_chats: 1, version: env!("CARGO_PKG_VERSION").to_owned() }
    }
}

/// One user's peer.
pub struct Core {
    keys: Keys,
    config: Config,
    rng: StdRng,
    now: Now,
    out: Output,
    /// Drawn at this start: tells a reconnect from a restart.
    boot: Digest,
    stopping: bool,
    /// Something changed that dials or waiting commands may depend on.
    dirty: bool,
    /// Contacts for whom something was written in this input.
    to_heed: BTreeSet<Username>,
    events: EventLog,
    profile: Option<Profile>,
    session: Session,
    login: Option<LoginAttempt>,
    calls: Calls,
    commands: Commands,
    contacts: Contacts,
    links: Links,
    dials: Dials,
    chats: ChatBook,
    requests: BTreeMap<Username, RequestRow>,
    rooms: Rooms,
    conversations: BTreeMap<ConversationId, talk::Talk>,
    loads: Loads,
    moves: moving::Moves,
    flood: flood::Flood,
    shown: ShownIds,
    #[cfg(any(test, feature = "simulation"))]
    planted: planted::Planted,
}

impl Core {
    /// Goes on from what the store holds. The output is what a start does first.
    pub fn new(
        keys: Keys,
        config: Config,
        snapshot: Snapshot,
        seed: [u8; 32],
        now: Now,
    ) -> (Self, Output) {
        let me = keys.peer.public();
        let mut replicas = Replica::restore_all(me, &snapshot);
        let registry = snapshot.profile.as_ref().and_then(|p| p.registry.key);
        let conversations = snapshot.conversations.into_iter().filter_map(|row| {
            let replica = replicas.remove(&row.id)?;
            Some((row.id, talk::Talk { kind: row.kind, replica, missed_epoch: false }))
        });
        let mut core = Self {
            chats: ChatBook::restore(config.max_active_chats, snapshot.chats),
            rng: StdRng::from_seed(seed),
            now,
            out: Output::default(),
            boot: Digest::default(),
            stopping: false,
            dirty: true,
            to_heed: BTreeSet::new(),
            events: EventLog::new(snapshot.event_head),
            session: Session::closed(),
            login: None,
            calls: Calls::default(),
            commands: Commands::default(),
            contacts: Contacts::restore(snapshot.contacts, snapshot.default_policy),
            links: Links::default(),
            dials: Dials::default(),
            requests: snapshot.requests.into_iter().map(|r| (r.from.clone(), r)).collect(),
            rooms: Rooms::restore(snapshot.rooms, snapshot.membership, registry),
            conversations: conversations.collect(),
            loads: Loads::default(),
            moves: moving::Moves::default(),
            flood: flood::Flood::default(),
            shown: ShownIds::restore(&snapshot.shown_ids),
            #[cfg(any(test, feature = "simulation"))]
            planted: planted::Planted::default(),
            profile: snapshot.profile,
            keys,
            config,
        };
        core.boot = core.draw_digest();
        core.forget_rings();
        core.move_undelivered();
        core.end_what_waits_in_left_rooms();
        core.start_session();
        core.settle();
        let output = std::mem::take(&mut core.out);
        (core, output)
    }

    /// Goes on as after a start with an empty store; what is still under way is answered to nobody.
    fn begin_anew(&mut self) {
        let snapshot = Snapshot { event_head: self.events.head(), ..Snapshot::default() };
        let (keys, config, seed) = (self.keys.clone(), self.config.clone(), self.rng.random());
        let (fresh, output) = Self::new(keys, config, snapshot, seed, self.now);
        let old = std::mem::replace(self, fresh);
        self.stopping = old.stopping;
        self.calls = old.calls.forgotten();
        self.loads = old.loads.forgotten();
        #[cfg(any(test, feature = "simulation"))]
        self.plant(old.planted);
        self.out = old.out;
        self.out.writes.extend(output.writes);
        self.out.effects.extend(output.effects);
    }

    /// Takes one thing that happened.
    pub fn handle(&mut self, input: Input, now: Now) -> Output {
        self.now = now;
        match input {
            Input::Command { id, command } => self.on_command(id, command),
            Input::Abandoned { id } => self.on_abandoned(id),
            Input::LinkUp { link, kind, key, dialled, remote } => {
                self.on_link_up(link, kind, key, dialled, remote);
            }
            Input::LinkFrame { link, frame } => self.on_link_frame(link, frame),
            Input::LinkDown { link } => self.on_link_down(link),
            Input::DialFailed { kind, key } => self.on_dial_failed(kind, key),
            Input::Bound(result) => self.on_bound(result),
            Input::Probed { call, result } => self.on_probed(call, result),
            Input::Registry { call, result } => self.on_reply(call, result),
            Input::Hello(hello) => self.on_hello(hello),
            Input::Loaded { load, entries } => self.on_loaded(load, entries),
            Input::Recalled { load, found } => self.on_recalled(load, found),
            Input::Tick => {}
            Input::Stop => self.stop(),
        }
        self.settle();
        std::mem::take(&mut self.out)
    }

    /// When `Input::Tick` is wanted next, by the monotonic clock.
    pub fn next_wake(&self) -> Option<u64> {
        [
            self.session.next_wake(),
            self.chats.next_wake(),
            self.commands.next_wake(),
            self.links.next_wake(),
            // Without listeners nobody is dialled.
            self.session.listeners.and_then(|_| self.dials.next_wake()),
            self.replicas_next_wake(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what time and change have made due.
    fn settle(&mut self) {
        if self.stopping {
            return;
        }
        self.tick_session();
        for username in std::mem::take(&mut self.to_heed) {
            self.heed_standing(&username);
        }
        self.tick_chats();
        self.tick_replicas();
        self.tick_links();
        self.tick_dials();
        self.tick_commands();
    }

    fn stop(&mut self) {
        self.stopping = true;
        self.refuse_all(&CommandFailure::new(Code::PeerdNotRunning, "peerd stops"));
        self.close_all_links(Goodbye::Stopping);
        self.out.effects.push(Effect::StopHello);
        self.out.effects.push(Effect::Stopped);
    }

    fn event(&mut self, kind: EventKind) {
        self.events.push(self.now, &mut self.out, kind);
        self.dirty = true;
    }

    fn draw_digest(&mut self) -> Digest {
        Digest(self.rng.random())
    }

    fn draw_uuid(&mut self) -> uuid::Uuid {
        uuid::Builder::from_random_bytes(self.rng.random()).into_uuid()
    }

    /// Between one half and one and a half of `ms`, so that many peers do not come at once.
    fn jitter(&mut self, ms: u64) -> u64 {
        ms / 2 + self.rng.random_range(0..=ms)
    }
}
