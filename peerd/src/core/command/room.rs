//! Rooms: `create_room`, `join_room`, `leave_room`, `rooms`, `members`, `invite`, `kick`, `set_role`,
//! `delete_room`.

use peerd_proto::control::{
    CreateRoom, DeleteRoom, Invite, JoinRoom, Kick, LeaveRoom, Members, RoomAnswer, RoomsAnswer,
    SetRole,
};
use registryd_proto::{Access, HistoryAccess, Reply, Request, RoomId, RoomName};

use super::{DEADLINE_MS, Outcome, Step, Waits, account::odd_reply, send::not_in_room};
use crate::core::{
    Answer, CommandFailure, CommandId, Core,
    call::{Purpose, RoomVerb},
    input::CallFailure,
};

impl Core {
    fn ask_room(
        &mut self,
        command: CommandId,
        room: RoomName,
        verb: RoomVerb,
        request: Request,
    ) -> Outcome {
        self.require_session()?;
        self.call(Purpose::Room { command, room, verb }, request);
        Ok(Step::Wait(Waits::Reply, DEADLINE_MS))
    }

    pub(super) fn create_room(&mut self, id: CommandId, params: CreateRoom) -> Outcome {
        let CreateRoom { room, access, history, password } = params;
        let request = Request::CreateRoom { room: room.clone(), access, password, history };
        self.ask_room(id, room, RoomVerb::Enter, request)
    }

    pub(super) fn join_room(&mut self, id: CommandId, params: JoinRoom) -> Outcome {
        let JoinRoom { room, password } = params;
        let request = Request::JoinRoom { room: room.clone(), password };
        self.ask_room(id, room, RoomVerb::Enter, request)
    }

    pub(super) fn leave_room_command(&mut self, id: CommandId, params: LeaveRoom) -> Outcome {
        let room = params.room;
        let request = Request::LeaveRoom { room: room.clone() };
        self.ask_room(id, room, RoomVerb::Leave, request)
    }

    pub(super) fn delete_room(&mut self, id: CommandId, params: DeleteRoom) -> Outcome {
        let room = params.room;
        let request = Request::DeleteRoom { room: room.clone() };
        self.ask_room(id, room, RoomVerb::Delete, request)
    }

    pub(super) fn invite(&mut self, id: CommandId, params: Invite) -> Outcome {
        let Invite { room, username } = params;
        let request = Request::Invite { room: room.clone(), username };
        self.ask_room(id, room, RoomVerb::Invite, request)
    }

    pub(super) fn kick(&mut self, id: CommandId, params: Kick) -> Outcome {
        let Kick { room, username } = params;
        let request = Request::Kick { room: room.clone(), username };
        self.ask_room(id, room, RoomVerb::Change, request)
    }

    pub(super) fn set_role(&mut self, id: CommandId, params: SetRole) -> Outcome {
        let SetRole { room, username, role } = params;
        let request = Request::SetRole { room: room.clone(), username, role };
        self.ask_room(id, room, RoomVerb::Change, request)
    }

    pub(super) fn rooms_command(&self) -> Answer {
        let names = self.rooms.names();
        let rooms = names.iter().filter_map(|name| self.rooms.by_name(name));
        let rooms = rooms.map(|room| self.room_answer(room)).collect();
        Answer::Rooms(RoomsAnswer { rooms })
    }

    pub(super) fn members(&self, params: &Members) -> Result<Answer, CommandFailure> {
        self.room_now(&params.room)
    }

    fn room_now(&self, name: &RoomName) -> Result<Answer, CommandFailure> {
        let room = self.rooms.by_name(name).ok_or_else(|| not_in_room(name.as_str()))?;
        Ok(Answer::Room(self.room_answer(room)))
    }

    pub(in crate::core) fn room_answered(
        &mut self,
        command: CommandId,
        name: RoomName,
        verb: RoomVerb,
        result: Result<Reply, CallFailure>,
    ) {
        let reply = match self.own_reply(result) {
            Ok(reply) => reply,
            Err(failure) => return self.answer(command, Err(failure)),
        };
        let result = match (verb, reply) {
            (RoomVerb::Enter, Reply::Room(view)) if view.room == name => {
                if !self.take_room(&view) {
                    return self.fetch_room(Some(command), &name, Some(view.id));
                }
                self.room_now(&name)
            }
            (RoomVerb::Leave, Reply::Done) if self.rooms.by_name(&name).is_none() => {
                Ok(self.declined(name))
            }
            (RoomVerb::Leave | RoomVerb::Delete, Reply::Done) => {
                let answer = self.room_now(&name);
                if let Some(id) = self.rooms.by_name(&name).map(|room| room.id) {
                    self.leave_room(id);
                }
                answer
            }
            (RoomVerb::Change, Reply::Done) => return self.fetch_room(Some(command), &name, None),
            (RoomVerb::Invite, Reply::Done) => self.room_now(&name),
            _ => Err(odd_reply()),
        };
        self.answer(command, result);
    }

    /// We were invited and no member: nothing is known of the room but that.
    fn declined(&mut self, room: RoomName) -> Answer {
        self.session.invited.retain(|invited| *invited != room);
        let (access, history) = (Access::Invite, HistoryAccess::Joined);
        Answer::Room(RoomAnswer { room, owner: None, access, history, epoch: 0, members: vec![] })
    }

    /// Asks for what our log of a room lacks, and for its members' addresses. `id` names a room that we may not
    /// be in; else it is the one of that name that we are in.
    pub(in crate::core) fn fetch_room(
        &mut self,
        command: Option<CommandId>,
        name: &RoomName,
        id: Option<RoomId>,
    ) {
        if command.is_none() && self.calls.asks_room(name) {
            self.calls.ask_room_again(name);
            return;
        }
        let id = id.or_else(|| self.rooms.by_name(name).map(|room| room.id));
        let after_epoch = id.map_or(0, |id| self.rooms.held_epoch(&id));
        let room = name.clone();
        let request = Request::RoomMembers { room: room.clone(), after_epoch };
        self.call(Purpose::RoomMembers { command, room, id, after_epoch }, request);
    }

    pub(in crate::core) fn room_fetched(
        &mut self,
        command: Option<CommandId>,
        name: &RoomName,
        (id, after_epoch): (Option<RoomId>, u64),
        result: Result<Reply, CallFailure>,
    ) {
        let result = self.own_reply(result).and_then(|reply| match reply {
            Reply::Room(view) if view.room == *name => {
                let before = self.rooms.held_epoch(&view.id);
                let whole = self.take_room(&view);
                let moved = self.rooms.held_epoch(&view.id) > before;
                // Another room has the name by now: its log was asked for from where the former one ended.
                let other = id != Some(view.id) && after_epoch > 0;
                // It was asked by one who held more already: it was restored from a backup.
                if !other && view.epoch < after_epoch {
                    self.room_diverged(view.id);
                }
                Ok((!whole && (moved || other)).then_some(view.id))
            }
            _ => Err(odd_reply()),
        });
        // A sync was told of what this was to fetch, and will not be told again: so it asks again by itself.
        if let Err(failure) = &result
            && failure.code.retryable()
        {
            self.sync_again(failure.retry_after_ms);
        }
        match (result, command) {
            (Ok(more @ Some(_)), _) => self.fetch_room(command, name, more),
            (Ok(None), Some(command)) => {
                let answer = self.room_now(name);
                self.answer(command, answer);
            }
            (Err(failure), Some(command)) => self.answer(command, Err(failure)),
            (Ok(None) | Err(_), None) => {}
        }
    }
}
