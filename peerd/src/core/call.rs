//! Calls to the registry: what each is for, and who takes its reply.

use std::collections::{BTreeMap, BTreeSet};

use registryd_proto::{
    Code, PublicKey, RegistryAddress, Reply, Request, RoomId, RoomName, Username,
};

use super::{CallId, CommandId, Core, Effect, input::CallFailure};

/// What a call is for.
#[derive(Debug, Clone)]
pub(super) enum Purpose {
    /// The key of a registry that a command names without one.
    Probe(CommandId),
    /// The verb of the same name.
    CreateAccount {
        command: CommandId,
        username: Username,
        registry: RegistryAddress,
        newly_pinned: bool,
    },
    /// The verb of the same name; `Core::login` has the rest.
    Login(CommandId),
    /// The verb of the same name.
    Logout(CommandId),
    /// A start comes back.
    Resume,
    /// What changed.
    Sync,
    /// A fresh card of ours.
    OwnCard,
    /// The verb of the same name.
    Search { command: CommandId, username: Username },
    /// A user whom a command or a dial wants.
    LookUp { username: Username, watch: bool },
    /// A verb that changes a room.
    Room { command: CommandId, room: RoomName, verb: RoomVerb },
    /// The log behind `after_epoch` and the addresses of a room, for a command that waits or none.
    RoomMembers {
        command: Option<CommandId>,
        room: RoomName,
        /// The room that it was when this was asked, if one was known.
        id: Option<RoomId>,
        after_epoch: u64,
    },
    /// `passwd`.
    Passwd(CommandId),
    /// The verb of the same name.
    DeleteAccount(CommandId),
}

/// How a room verb goes on after its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RoomVerb {
    /// The reply is the room.
    Enter,
    /// We are no member any more, or not invited any more.
    Leave,
    /// There is no such room any more.
    Delete,
    /// The log has changed.
    Change,
    /// A right was given; the log stays.
    Invite,
}

/// The open calls.
#[derive(Debug, Default)]
pub(super) struct Calls {
    last: u64,
    open: BTreeMap<CallId, Purpose>,
    /// Rooms that changed again while they were being asked for.
    again: BTreeSet<RoomName>,
}

impl Calls {
    fn begin(&mut self, purpose: Purpose) -> CallId {
        self.last += 1;
        let call = CallId(self.last);
        self.open.insert(call, purpose);
        call
    }

    /// Nothing is open any more; numbers go on, so that a late reply is nobody's.
    pub(super) fn forgotten(self) -> Self {
        Self { last: self.last, ..Self::default() }
    }

    /// Forgets calls that mean nothing without the session in which they were made.
    pub(super) fn forget_session(&mut self) {
        self.open.retain(|_, purpose| {
            !matches!(
                purpose,
                Purpose::Resume | Purpose::Sync | Purpose::OwnCard | Purpose::LookUp { .. }
            )
        });
    }

    /// Whether a user is being looked up.
    pub(super) fn looks_up(&self, user: &Username) -> bool {
        self.open
            .values()
            .any(|p| matches!(p, Purpose::LookUp { username, .. } if username == user))
    }

    /// A room is to be asked for again when the call under way is answered.
    pub(super) fn ask_room_again(&mut self, name: &RoomName) {
        self.again.insert(name.clone());
    }

    /// Whether a room's log is being asked for.
    pub(super) fn asks_room(&self, name: &RoomName) -> bool {
        self.open.values().any(|p| matches!(p, Purpose::RoomMembers { room, .. } if room == name))
    }
}

impl Core {
    /// Calls the registry of the profile.
    pub(super) fn call(&mut self, purpose: Purpose, request: Request) -> CallId {
        let call = self.calls.begin(purpose);
        match &self.profile {
            Some(profile) => {
                let registry = profile.registry.clone();
                self.out.effects.push(Effect::Call { call, registry, request });
            }
            None => debug_assert!(false, "calls are made by a profile"),
        }
        call
    }

    /// Calls a registry that the profile may not belong to yet.
    pub(super) fn call_at(
        &mut self,
        registry: &RegistryAddress,
        purpose: Purpose,
        request: Request,
    ) {
        let call = self.calls.begin(purpose);
        self.out.effects.push(Effect::Call { call, registry: registry.clone(), request });
    }

    /// Asks a registry for its key.
    pub(super) fn probe(&mut self, command: CommandId, registry: &RegistryAddress) {
        let call = self.calls.begin(Purpose::Probe(command));
        self.out.effects.push(Effect::Probe { call, registry: registry.clone() });
    }

    pub(super) fn on_probed(&mut self, call: CallId, result: Result<PublicKey, CallFailure>) {
        if let Some(Purpose::Probe(command)) = self.calls.open.remove(&call) {
            self.probed(command, result);
        }
    }

    pub(super) fn on_reply(
        &mut self,
        call: CallId,
        result: Result<(PublicKey, Reply), CallFailure>,
    ) {
        let Some(purpose) = self.calls.open.remove(&call) else { return };
        let result = result.map(|(_, reply)| reply);
        self.note_outcome(&purpose, &result);
        match purpose {
            Purpose::Probe(_) => {}
            Purpose::CreateAccount { command, username, registry, newly_pinned } => {
                self.account_created(command, username, &registry, newly_pinned, result);
            }
            Purpose::Login(command) => self.login_answered(command, result),
            Purpose::Logout(command) => self.logged_out(command),
            Purpose::Resume => self.on_resumed(result),
            Purpose::Sync => self.on_synced(result),
            Purpose::OwnCard => self.own_card_answered(result),
            Purpose::Search { command, username } => self.searched(command, &username, result),
            Purpose::LookUp { username, watch } => self.looked_up(&username, watch, result),
            Purpose::Room { command, room, verb } => {
                self.room_answered(command, room, verb, result)
            }
            Purpose::RoomMembers { command, room, id, after_epoch } => {
                let reached = !matches!(result, Err(CallFailure::Unreachable));
                self.room_fetched(command, &room, (id, after_epoch), result);
                if self.calls.again.remove(&room) && reached {
                    self.fetch_room(None, &room, id);
                }
            }
            Purpose::Passwd(command) => self.password_changed(command, result),
            Purpose::DeleteAccount(command) => self.account_deleted(command, result),
        }
    }

    /// What any reply tells about the session: a wrong key stops it, a right one lets it go on, and an old
    /// key of the account ends it.
    fn note_outcome(&mut self, purpose: &Purpose, result: &Result<Reply, CallFailure>) {
        let outside = matches!(purpose, Purpose::CreateAccount { .. } | Purpose::Login(_));
        let own = matches!(purpose, Purpose::Resume | Purpose::Sync | Purpose::Logout(_));
        if outside || own {
            return;
        }
        match result {
            Ok(_) if self.session.wrong_key.take().is_some() => self.retry_session(),
            Err(failure @ CallFailure::WrongKey { .. }) => self.session_failed(failure),
            Err(CallFailure::Failed(inner))
                if matches!(inner.code, Code::Superseded | Code::NotLoggedIn) =>
            {
                self.session_failed(&CallFailure::Failed(inner.clone()));
            }
            _ => {}
        }
    }
}
