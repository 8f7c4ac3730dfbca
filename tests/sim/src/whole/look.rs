//! The last look at a world: what each device and the registry say, by commands and requests alone.

use std::collections::{BTreeMap, BTreeSet};

use peerd::core::{Answer, CommandId};
use peerd_proto::control::{
    Accept, Chat, Outbox, OutboxAnswer, Rooms, RoomsAnswer, Status, StatusAnswer,
};
use registryd_proto::{Reply, Request, Room, RoomName, UserView};

use super::{
    machine::Told,
    run::{ASK_MS, Run},
    shape::{self, name},
};

/// How long what an eavesdropper sends is under way.
const EAVESDROPPED_MS: u64 = 5;
/// How long the chat that is tried in the end rings.
const PROBE_RING_MS: u64 = 20_000;

/// What a device says of itself in the end.
#[derive(Debug)]
pub struct Look {
    /// Of `status`.
    pub status: StatusAnswer,
    /// Of `outbox`.
    pub outbox: OutboxAnswer,
    /// Of `rooms`.
    pub rooms: RoomsAnswer,
}

/// What the registry says in the end.
#[derive(Debug, Default)]
pub struct IndexLook {
    /// Of each user.
    pub users: BTreeMap<usize, UserView>,
    /// The rooms of each user who is online.
    pub rooms: BTreeMap<usize, BTreeSet<RoomName>>,
    /// Each room that somebody online is in.
    pub logs: BTreeMap<RoomName, Room>,
}

/// A chat that was tried: between whom, and what both were told.
pub type Probe = (usize, usize, Option<Told>, Option<Told>);

impl Run {
    pub(super) fn look(&mut self) {
        for node in 0..self.machine.devices.len() {
            let look = self.look_at(node);
            self.looks.push(look);
        }
        self.machine.replay_all();
        self.machine.run_until(self.machine.now_ms + EAVESDROPPED_MS);
        self.look_at_index();
        self.try_a_chat();
    }

    fn look_at(&mut self, node: usize) -> Option<Look> {
        let Ok(Answer::Status(status)) = self.told(node, "status", Status {}.into())? else {
            return None;
        };
        let Ok(Answer::Outbox(outbox)) = self.told(node, "outbox", Outbox {}.into())? else {
            return None;
        };
        let rooms = match self.told(node, "rooms", Rooms {}.into())? {
            Ok(Answer::Rooms(rooms)) => rooms,
            _ => RoomsAnswer { rooms: Vec::new() },
        };
        Some(Look { status: *status, outbox, rooms })
    }

    fn look_at_index(&mut self) {
        let registry = self.machine.index.key();
        for account in 0..self.users() {
            let Some(node) = self.online(account) else { continue };
            for username in (0..self.users()).map(name) {
                let asked = Request::Search { username: username.clone() };
                if let (Some(Reply::User(view)), Some(user)) =
                    (self.ask_index(node, asked), shape::named(&username))
                {
                    self.index.users.insert(user, view);
                }
            }
            let Some(Reply::Rooms { rooms }) = self.ask_index(node, Request::ListRooms) else {
                continue;
            };
            let names: BTreeSet<RoomName> = rooms.into_iter().map(|listing| listing.room).collect();
            for name in &names {
                let asked = Request::RoomMembers { room: name.clone(), after_epoch: 0 };
                if let Some(Reply::Room(view)) = self.ask_index(node, asked)
                    && let Ok(room) = Room::from_log(&view.log, &registry)
                {
                    self.index.logs.insert(name.clone(), room);
                }
            }
            self.index.rooms.insert(account, names);
        }
    }

    fn ask_index(&mut self, node: usize, request: Request) -> Option<Reply> {
        let (now, ip) = (self.machine.index_now(), self.machine.devices[node].ip);
        let key = self.machine.devices[node].keys.peer.public();
        match self.machine.index.request(&key, ip, request, now)? {
            registryd_proto::Answer::Ok(reply) => Some(reply),
            registryd_proto::Answer::Error(_) => None,
        }
    }

    /// Two who are in no chat begin one: their slots are free.
    fn try_a_chat(&mut self) {
        let free: Vec<(usize, usize)> = (0..self.users())
            .filter_map(|account| Some((account, self.online(account)?)))
            .filter(|(_, node)| {
                let look = self.looks[*node].as_ref();
                look.is_some_and(|look| look.status.chats.is_empty())
            })
            .collect();
        let [caller, callee, ..] = free[..] else { return };
        let mut probe = self.try_chat(caller, callee);
        // Who learns of a changed key only now, from the one that calls, is asked to trust it.
        let chats = matches!(probe, (_, _, Some(Ok(_)), Some(Ok(_))));
        if !chats && (self.trust_new_keys(caller.1) | self.trust_new_keys(callee.1)) {
            self.machine.run_until(self.machine.now_ms + 2 * ASK_MS);
            probe = self.try_chat(caller, callee);
        }
        self.probe = Some(probe);
    }

    /// One asks, the other accepts, each an account and its device; and what both were told.
    fn try_chat(&mut self, caller: (usize, usize), callee: (usize, usize)) -> Probe {
        let ((caller, from), (callee, to)) = (caller, callee);
        let chat = Chat { username: name(callee), ring_ms: u32::try_from(PROBE_RING_MS).ok() };
        let asked = self.command(from, "chat", chat.into());
        let mut accepted = None;
        for _ in 0..PROBE_RING_MS / ASK_MS - 1 {
            self.machine.run_until(self.machine.now_ms + ASK_MS);
            accepted = self.command(to, "accept", Accept { username: name(caller) }.into());
            self.machine.run_until(self.machine.now_ms + ASK_MS / 3);
            let told = accepted.and_then(|id| self.machine.told.get(&id)?.first());
            if matches!(told, Some(Ok(_)) | None) {
                break;
            }
        }
        self.machine.run_until(self.machine.now_ms + PROBE_RING_MS);
        let told = |id: Option<CommandId>| self.machine.told.get(&id?)?.first().cloned();
        (from, to, told(asked), told(accepted))
    }
}
