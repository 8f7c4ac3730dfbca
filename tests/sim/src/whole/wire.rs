//! Connections between the devices of a whole world: dials to addresses, frames in order, goodbyes, breaks
//! and cuts.
//!
//! As in peerd's links: who dials has its link when the connection is up, the other side when the first
//! frame arrives on it; a goodbye arrives behind what was sent before it; two dials of one key at the same
//! time are one.

use std::{collections::btree_map::Entry, net::SocketAddr};

use peerd::core::{
    Input, LinkKind,
    input::{BindFailure, Inbound, Listeners},
};
use peerd_proto::wire::{Frame, Goodbye};
use rand::RngExt as _;
use registryd_proto::PublicKey;

use super::machine::{End, Event, Machine};
use crate::{counts::Fault, net::Passage};

/// How long a connection lives without hearing from the other side.
const IDLE_TIMEOUT_MS: u64 = 6_000;

/// A connection.
pub(super) struct Made {
    kind: LinkKind,
    dialler: End,
    callee: usize,
    /// The other side has heard of it.
    greeted: bool,
}

impl Machine {
    /// Breaks a connection: both ends notice at some time.
    pub fn break_off(&mut self, connection: u64) {
        let ends = self.forget(connection);
        for (node, link) in ends {
            self.devices[node].broken_ms = self.now_ms;
            let delay_ms = self.rng.random_range(0..IDLE_TIMEOUT_MS);
            self.later_input(node, delay_ms, Input::LinkDown { link });
        }
    }

    /// Cuts one direction; connections across it time out if it lasts.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cuts.insert((from, to));
        self.net.cut(from, to);
        for connection in self.net.all() {
            if self.net.is_cut(connection) {
                self.push(IDLE_TIMEOUT_MS, Event::TimeOut { connection });
            }
        }
    }

    /// Heals all cuts.
    pub fn heal(&mut self) {
        self.cuts.clear();
        let delay_ms = self.delay();
        for passage in self.net.heal(self.now_ms, delay_ms) {
            self.push_at(passage.at_ms, Event::Frame(Box::new(passage)));
        }
    }

    /// The device moves to another network: its connections break, its listeners stay open.
    pub fn move_to(&mut self, node: usize, ip: std::net::IpAddr) {
        self.devices[node].ip = ip;
        for connection in self.net.of_node(node) {
            self.break_off(connection);
        }
    }

    /// Opens the listeners. A port used last may be another program's by now.
    pub(super) fn bind(&mut self, node: usize, peer_port: u16, room_port: u16) {
        let asked = (peer_port, room_port);
        let open = self.devices[node].ports;
        let fits = |asked: u16, open: u16| asked == 0 || asked == open;
        let kept = open.filter(|open| fits(asked.0, open.0) && fits(asked.1, open.1));
        let taken = kept.is_none() && peer_port != 0 && self.rng.random_bool(0.3);
        if kept.is_none() {
            self.unbind(node);
        }
        let result = match kept {
            _ if taken => Err(BindFailure::Taken { kind: LinkKind::Peer, port: peer_port }),
            Some(ports) => Ok(ports),
            None => Ok((self.port(peer_port), self.port(room_port))),
        };
        self.devices[node].ports = result.as_ref().ok().copied();
        let at = |port| SocketAddr::from(([0, 0, 0, 0], port));
        let bound = result.map(|(peer, room)| Listeners { peer: at(peer), room: at(room) });
        self.later_input(node, 1, Input::Bound(bound));
    }

    fn port(&mut self, asked: u16) -> u16 {
        if asked != 0 {
            return asked;
        }
        self.next_port += 1;
        self.next_port
    }

    pub(super) fn unbind(&mut self, node: usize) {
        self.devices[node].ports = None;
        for connection in self.net.of_node(node) {
            if !self.closing.contains_key(&connection) {
                self.break_off(connection);
            }
        }
    }

    pub(super) fn dial(
        &mut self,
        from: usize,
        kind: LinkKind,
        key: PublicKey,
        at: Vec<SocketAddr>,
        timeout_ms: u64,
    ) {
        let dialling = &mut self.devices[from].dialling;
        if let Entry::Vacant(dial) = dialling.entry((kind, key)) {
            dial.insert(timeout_ms);
            let start = self.devices[from].starts;
            let delay_ms = self.delay();
            self.push(delay_ms, Event::Dialled { from, start, kind, key, at });
        }
    }

    /// Who answers at an address, with whatever key.
    fn listener(&self, kind: LinkKind, at: &SocketAddr) -> Option<usize> {
        self.devices.iter().position(|device| {
            let port = device.ports.map(|(peer, room)| match kind {
                LinkKind::Peer => peer,
                LinkKind::Room => room,
            });
            device.core.is_some() && device.ip == at.ip() && port == Some(at.port())
        })
    }

    pub(super) fn dialled(
        &mut self,
        from: usize,
        start: u64,
        kind: LinkKind,
        key: &PublicKey,
        at: &[SocketAddr],
    ) {
        if self.devices[from].starts != start || self.devices[from].core.is_none() {
            return;
        }
        let dial = self.devices[from].dialling.remove(&(kind, *key));
        let Some(timeout_ms) = dial else { return };
        let lost = self.is_lost();
        if lost {
            self.counts.count(Fault::LostDial);
        }
        let open = self.devices[from].ports.is_some();
        let reached = at.iter().find_map(|at| {
            let to = self.listener(kind, at)?;
            let right = self.devices[to].key(kind) == *key && to != from;
            (right && self.net.reaches(from, to)).then_some((to, *at))
        });
        let Some((to, remote)) = reached.filter(|_| !lost && open) else {
            let failed = Input::DialFailed { kind, key: *key };
            return self.later_input(from, timeout_ms, failed);
        };
        let same = |made: &Made| made.kind == kind && (made.dialler.0, made.callee) == (from, to);
        if self.made.values().any(same) {
            self.dialled_twice.insert((from.min(to), from.max(to)));
        }
        let (connection, ends) = self.net.connect(from, to);
        self.made.insert(connection, Made { kind, dialler: ends[0], callee: to, greeted: false });
        let link = ends[0].1;
        let up = Input::LinkUp { link, kind, key: *key, dialled: true, remote: Some(remote) };
        self.input(from, start, up);
    }

    pub(super) fn send(&mut self, from: End, frame: Frame) {
        let closed = self.net.connection_of(from).is_some_and(|c| self.closing.contains_key(&c));
        if closed {
            return;
        }
        let data = matches!(frame, Frame::Entries { .. } | Frame::Have(_));
        let twice = data && self.rng.random_range(0..100) < self.conditions.duplicates;
        if twice {
            self.counts.count(Fault::DoubledFrame);
        }
        for frame in std::iter::repeat_n(frame, 1 + usize::from(twice)) {
            let delay_ms = self.delay();
            if let Some(passage) = self.net.send(from, frame, self.now_ms, delay_ms) {
                self.push_at(passage.at_ms, Event::Frame(Box::new(passage)));
            }
        }
    }

    pub(super) fn close(&mut self, from: End, goodbye: Goodbye) {
        let Some(connection) = self.net.connection_of(from) else { return };
        self.send(from, Frame::Goodbye(goodbye));
        if goodbye == Goodbye::Duplicate {
            self.note_duplicate(connection, from.0);
        }
        self.closing.entry(connection).or_insert((from.0, goodbye));
    }

    /// Of two dials at once both sides keep the same one.
    fn note_duplicate(&mut self, connection: u64, by: usize) {
        let Some(made) = self.made.get(&connection) else { return };
        let (kind, ends) = (made.kind, [made.dialler.0, made.callee]);
        // Which of two starts is the newer one may be seen differently, and so may a connection that broke.
        let steady = |end: usize| {
            let device = &self.devices[end];
            let settled = device.broken_ms + 2 * IDLE_TIMEOUT_MS < self.now_ms;
            device.starts == 1 && device.stalled_until_ms == 0 && settled
        };
        // With a third connection, which two are compared is a matter of time.
        let pair = (ends[0].min(ends[1]), ends[0].max(ends[1]));
        if !ends.into_iter().all(steady) || self.dialled_twice.contains(&pair) {
            return;
        }
        let other = ends[usize::from(ends[0] == by)];
        let dropped = self.closing.iter().any(|(id, (closer, goodbye))| {
            let crossing = self.made.get(id).is_some_and(|second| {
                second.kind == kind && [second.callee, second.dialler.0] == ends
            });
            crossing && *id != connection && *closer == other && *goodbye == Goodbye::Duplicate
        });
        if dropped {
            self.both_dropped.push((by, other));
        }
    }

    pub(super) fn deliver(&mut self, passage: Passage) {
        let Passage { connection, to: (node, link), frame, .. } = passage;
        let closed_here = self.closing.get(&connection).is_some_and(|(by, _)| *by == node);
        if !self.net.is_up(connection) || closed_here {
            return;
        }
        let start = self.devices[node].starts;
        self.greet(connection, (node, link));
        let ends = matches!(frame, Frame::Goodbye(_));
        let Some(frame) = inbound(frame) else { return self.break_off(connection) };
        self.input(node, start, Input::LinkFrame { link, frame });
        if ends {
            for (node, link) in self.forget(connection) {
                self.later_input(node, 1, Input::LinkDown { link });
            }
        }
    }

    /// The other side of a dial has its link with the first frame.
    fn greet(&mut self, connection: u64, to: End) {
        let Some(made) = self.made.get_mut(&connection) else { return };
        let Made { kind, dialler: from, .. } = *made;
        if to == from || std::mem::replace(&mut made.greeted, true) {
            return;
        }
        let key = self.devices[from.0].key(kind);
        let remote = self.devices[from.0].ports.map(|(peer, room)| {
            let port = if kind == LinkKind::Peer { peer } else { room };
            SocketAddr::new(self.devices[from.0].ip, port)
        });
        let up = Input::LinkUp { link: to.1, kind, key, dialled: false, remote };
        let start = self.devices[to.0].starts;
        self.input(to.0, start, up);
    }

    fn forget(&mut self, connection: u64) -> Vec<End> {
        self.closing.remove(&connection);
        self.made.remove(&connection);
        self.net.break_off(connection).into_iter().flatten().collect()
    }
}

/// A frame as the link hands it to the core: entries are trusted, for a check of each signature costs most of
/// a run; worlds of replicas check them.
fn inbound(frame: Frame) -> Option<Inbound> {
    Some(match frame {
        Frame::Entries { conversation, entries } => {
            let entries = entries.into_iter().map(peerd_proto::wire::Entry::trust);
            Inbound::Entries { conversation, entries: entries.collect::<Result<_, _>>().ok()? }
        }
        Frame::Fork { a, b } => Inbound::Fork { a: a.trust().ok()?, b: b.trust().ok()? },
        other => Inbound::Other(other),
    })
}
