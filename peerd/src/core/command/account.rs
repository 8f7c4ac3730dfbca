//! Accounts and sessions: `create_account`, `login`, `logout`, `passwd`, `delete_account`.
//!
//! Invariant: a profile belongs to one (registry key, username) for good; only `delete_account` frees it.

use peerd_proto::control::{
    AccountAnswer, CreateAccount, DeleteAccount, Login, Passwd, SessionAnswer, SessionState,
};
use registryd_proto::{
    Code, KeyBinding, PublicKey, RegistryAddress, Reply, Request, SessionGrant, Username,
};

use super::{DEADLINE_MS, Outcome, Round, Step, Waits, usage};
use crate::core::{
    Answer, CommandFailure, CommandId, Core,
    bind::BindFor,
    call::Purpose,
    durable::{Profile, ProfileState, Write},
    input::{BindFailure, CallFailure, Listeners},
    registry::Phase,
};

/// How long `logout` waits for the registry: we are logged out anyway.
const LOGOUT_MS: u64 = 3_000;

/// A login under way.
#[derive(Debug)]
pub(in crate::core) struct LoginAttempt {
    command: CommandId,
    params: Login,
    registry: RegistryAddress,
    key: PublicKey,
    newly_pinned: bool,
}

impl LoginAttempt {
    /// The command that waits for it.
    pub(in crate::core) fn command(&self) -> CommandId {
        self.command
    }
}

impl Core {
    pub(super) fn create_account(
        &mut self,
        id: CommandId,
        params: CreateAccount,
        round: Round,
    ) -> Outcome {
        self.check_belonging(&params.username, Some(&params.registry))?;
        let registry = self.pinned(&params.registry);
        let Some(key) = registry.key else {
            self.probe(id, &registry);
            return Ok(Step::Wait(Waits::Key(params.into()), DEADLINE_MS));
        };
        let CreateAccount { username, password, invite, .. } = params;
        let binding = KeyBinding::new(&key, &username, &self.keys.peer, &self.keys.room);
        let newly_pinned = round.newly_pinned;
        let purpose = Purpose::CreateAccount {
            command: id,
            username: username.clone(),
            registry: registry.clone(),
            newly_pinned,
        };
        let request = Request::CreateAccount { username, password, binding, invite };
        self.call_at(&registry, purpose, request);
        Ok(Step::Wait(Waits::Reply, DEADLINE_MS))
    }

    pub(in crate::core) fn account_created(
        &mut self,
        command: CommandId,
        username: Username,
        registry: &RegistryAddress,
        newly_pinned: bool,
        result: Result<Reply, CallFailure>,
    ) {
        let result = match result {
            Ok(Reply::Account(account)) if account.username == username => {
                self.take_account(registry, &username, &account.card).map(|()| {
                    let registry = registry.clone();
                    Answer::Account(AccountAnswer { username, registry, newly_pinned })
                })
            }
            Ok(_) => Err(odd_reply()),
            Err(failure) => Err(self.not_created(&username, self.refusal(registry, failure))),
        };
        self.answer(command, result);
    }

    /// Why there is no new account: it may be the one that this profile has.
    fn not_created(&self, username: &Username, refusal: CommandFailure) -> CommandFailure {
        if refusal.code != Code::Conflict {
            return refusal;
        }
        if self.profile.as_ref().is_none_or(|profile| profile.username != *username) {
            return refusal.hint(
                "take another name; or if this was asked before and not answered, it may be yours: \
                 p2pctl login USER --registry ADDRESS",
            );
        }
        let message = format!("this profile has the account {username} already");
        CommandFailure::new(Code::Conflict, message).hint("log in: p2pctl login USER")
    }

    fn take_account(
        &mut self,
        registry: &RegistryAddress,
        username: &Username,
        card: &registryd_proto::Signed<registryd_proto::Card>,
    ) -> Result<(), CommandFailure> {
        let key = registry.key.ok_or_else(odd_reply)?;
        let opened = registryd_proto::Card::open(card, &key).map_err(|_| odd_reply())?;
        if opened.username != *username || opened.binding.peer_key != self.keys.peer.public() {
            return Err(odd_reply());
        }
        self.check_belonging(username, Some(registry))?;
        if self.profile.is_none() {
            self.put_profile(Profile {
                registry: registry.clone(),
                username: username.clone(),
                state: ProfileState::LoggedOut,
                serial: opened.serial,
                epoch: 0,
                card: card.clone(),
                peer_port: 0,
                room_port: 0,
                version: 0,
            });
        }
        Ok(())
    }

    /// The address with the pinned key, if the profile has pinned one.
    fn pinned(&self, registry: &RegistryAddress) -> RegistryAddress {
        match registry.key.or(self.registry_key()) {
            Some(key) => registry.with_key(key),
            None => registry.clone(),
        }
    }

    fn check_belonging(
        &self,
        username: &Username,
        registry: Option<&RegistryAddress>,
    ) -> Result<(), CommandFailure> {
        let Some(profile) = &self.profile else { return Ok(()) };
        let other_key =
            registry.and_then(|r| r.key).is_some_and(|k| Some(k) != profile.registry.key);
        if profile.username == *username && !other_key {
            return Ok(());
        }
        let (name, at) = (&profile.username, &profile.registry);
        let message = format!("this profile belongs to {name} at {at}");
        Err(CommandFailure::new(Code::Conflict, message)
            .hint("use another profile: p2pctl --profile NAME"))
    }

    /// The key of the registry that a command named without one.
    pub(in crate::core) fn probed(
        &mut self,
        command: CommandId,
        result: Result<PublicKey, CallFailure>,
    ) {
        let Some(open) = self.commands.open.remove(&command) else { return };
        let Waits::Key(mut verb) = open.waits else { return };
        let registry = match &mut verb {
            peerd_proto::control::Command::CreateAccount(params) => Some(&mut params.registry),
            peerd_proto::control::Command::Login(params) => params.registry.as_mut(),
            _ => None,
        };
        let Some(registry) = registry else { return };
        match result {
            Ok(key) => {
                *registry = registry.with_key(key);
                let round = Round { newly_pinned: true, ..Round::default() };
                self.perform(command, verb, round, Some(open.until_ms));
            }
            Err(failure) => {
                let registry = registry.clone();
                let failure = self.refusal(&registry, failure);
                self.reply(command, Err(failure));
            }
        }
    }

    pub(super) fn login(&mut self, id: CommandId, params: Login, round: Round) -> Outcome {
        self.check_belonging(&params.username, params.registry.as_ref())?;
        if params.peer_port == params.room_port && params.peer_port.is_some_and(|port| port != 0) {
            return Err(usage("each listener has a port of its own: give two, or 0 for free ones"));
        }
        if self.login.is_some() {
            return Err(CommandFailure::new(Code::Conflict, "another login is under way"));
        }
        let own = self.profile.as_ref().map(|p| p.registry.clone());
        let Some(registry) = params.registry.as_ref().or(own.as_ref()) else {
            return Err(usage("name the registry: --registry KEY@HOST:PORT"));
        };
        let registry = self.pinned(registry);
        let Some(key) = registry.key else {
            self.probe(id, &registry);
            return Ok(Step::Wait(Waits::Key(params.into()), DEADLINE_MS));
        };
        let last = self.profile.as_ref().map_or((0, 0), |p| (p.peer_port, p.room_port));
        let ports = (params.peer_port.unwrap_or(last.0), params.room_port.unwrap_or(last.1));
        let newly_pinned = round.newly_pinned;
        self.login = Some(LoginAttempt { command: id, params, registry, key, newly_pinned });
        self.bind(BindFor::Login, ports.0, ports.1);
        Ok(Step::Wait(Waits::Reply, DEADLINE_MS))
    }

    /// The listeners are open, or a port is taken: told before the registry hears of anything.
    pub(in crate::core) fn login_bound(
        &mut self,
        result: Result<Listeners, BindFailure>,
        may_move: bool,
    ) {
        let Some(attempt) = &self.login else { return self.undo_bind() };
        let asked = (attempt.params.peer_port, attempt.params.room_port);
        match result {
            Ok(_) => {
                let binding = KeyBinding::new(
                    &attempt.key,
                    &attempt.params.username,
                    &self.keys.peer,
                    &self.keys.room,
                );
                let request = Request::Login {
                    username: attempt.params.username.clone(),
                    password: attempt.params.password.clone(),
                    binding,
                    attempt: registryd_proto::Digest(rand::RngExt::random(&mut self.rng)),
                    takeover: attempt.params.takeover,
                    endpoints: self.session.endpoints(),
                };
                let (registry, purpose) =
                    (attempt.registry.clone(), Purpose::Login(attempt.command));
                self.call_at(&registry, purpose, request);
            }
            Err(BindFailure::Taken { port, .. })
                if may_move && asked.0 != Some(port) && asked.1 != Some(port) =>
            {
                let (peer_port, room_port) = (asked.0.unwrap_or(0), asked.1.unwrap_or(0));
                self.bind(BindFor::LoginAnywhere, peer_port, room_port);
            }
            Err(BindFailure::Taken { kind, port }) => {
                let message = format!("UDP port {port} of the {} listener is taken", kind.name());
                let hint = "give another port, or 0 for any free one";
                self.login_failed(CommandFailure::new(Code::Conflict, message).hint(hint));
            }
            Err(BindFailure::Failed) => {
                let message = "the listeners could not be opened; the log says why";
                self.login_failed(CommandFailure::new(Code::Internal, message));
            }
        }
    }

    fn login_failed(&mut self, failure: CommandFailure) {
        if let Some(attempt) = self.login.take() {
            self.answer(attempt.command, Err(failure));
        }
        self.undo_bind();
    }

    /// Listeners that no session wants are closed; those of a session are opened again.
    pub(super) fn undo_bind(&mut self) {
        if self.session.phase == Phase::Closed {
            self.session.listeners = None;
            self.out.effects.push(crate::core::Effect::Unbind);
        } else {
            self.note_ports();
            self.retry_session();
        }
    }

    /// The registry has answered the login of a command. That of one that a logout cut short says nothing of
    /// the one under way: its session has other listeners.
    pub(in crate::core) fn login_answered(
        &mut self,
        command: CommandId,
        result: Result<Reply, CallFailure>,
    ) {
        let Some(attempt) = self.login.as_ref().filter(|a| a.command == command) else { return };
        match result {
            Ok(Reply::Session(grant)) if grant.username == attempt.params.username => {
                self.logged_in(&grant);
            }
            Ok(_) => self.login_failed(odd_reply()),
            Err(failure) => {
                let unknown = failure == CallFailure::Unreachable;
                let failure = self.refusal(&attempt.registry.clone(), failure);
                if unknown {
                    self.doubt_session();
                }
                self.login_failed(failure);
            }
        }
    }

    fn logged_in(&mut self, grant: &SessionGrant) {
        let Some(attempt) = self.login.take() else { return };
        let registry = attempt.registry.clone();
        if let Err(failure) = self.take_account(&registry, &attempt.params.username, &grant.card) {
            self.login = Some(attempt);
            return self.login_failed(failure);
        }
        if let Some(mut profile) = self.profile.clone() {
            profile.registry = registry;
            self.profile = Some(profile);
        }
        self.calls.forget_session();
        self.session.renew();
        let put_back = self.is_put_back(grant);
        if !self.adopt(grant) {
            self.login = Some(attempt);
            return self.login_failed(odd_reply());
        }
        if let Some(mut session) = self.session_answer() {
            session.newly_pinned = attempt.newly_pinned;
            self.answer(attempt.command, Ok(Answer::Session(session)));
        }
        match put_back {
            true => self.resume_now(),
            false => self.sync(),
        }
    }

    fn session_answer(&self) -> Option<SessionAnswer> {
        let profile = self.profile.as_ref()?;
        let listeners = self.session.listeners;
        Some(SessionAnswer {
            username: profile.username.clone(),
            state: self.session_state(),
            peer_port: listeners.map_or(0, |l| l.peer.port()),
            room_port: listeners.map_or(0, |l| l.room.port()),
            registry: profile.registry.clone(),
            hello_interval_ms: self.session.interval_ms,
            newly_pinned: false,
        })
    }

    pub(super) fn logout(&mut self, id: CommandId) -> Outcome {
        let Some(profile) = &self.profile else {
            return Err(CommandFailure::new(Code::NotLoggedIn, "not logged in"));
        };
        let told = profile.state == ProfileState::LoggedIn;
        if let Some(attempt) = self.login.take() {
            let failure = CommandFailure::new(Code::Conflict, "logged out meanwhile");
            self.answer(attempt.command, Err(failure));
            self.expect_late();
        }
        self.end_session(ProfileState::LoggedOut);
        if !told {
            return Ok(self
                .session_answer()
                .map_or(Step::Taken, |a| Step::Done(Answer::Session(a))));
        }
        self.call(Purpose::Logout(id), Request::Logout);
        Ok(Step::Wait(Waits::Reply, LOGOUT_MS))
    }

    /// The registry has heard of it, or cannot be reached: we are logged out either way.
    pub(in crate::core) fn logged_out(&mut self, command: CommandId) {
        if let Some(session) = self.session_answer() {
            self.answer(command, Ok(Answer::Session(session)));
        }
    }

    pub(super) fn passwd(&mut self, id: CommandId, params: Passwd) -> Outcome {
        self.require_session()?;
        let request = Request::ChangePassword { old: params.old, new: params.new };
        self.call(Purpose::Passwd(id), request);
        Ok(Step::Wait(Waits::Reply, DEADLINE_MS))
    }

    pub(in crate::core) fn password_changed(
        &mut self,
        command: CommandId,
        result: Result<Reply, CallFailure>,
    ) {
        let result = self.own_reply(result).and_then(|_| self.account_answer());
        self.answer(command, result);
    }

    pub(super) fn delete_account(&mut self, id: CommandId, params: DeleteAccount) -> Outcome {
        self.require_session()?;
        let request = Request::DeleteAccount { password: params.password };
        self.call(Purpose::DeleteAccount(id), request);
        Ok(Step::Wait(Waits::Reply, DEADLINE_MS))
    }

    pub(in crate::core) fn account_deleted(
        &mut self,
        command: CommandId,
        result: Result<Reply, CallFailure>,
    ) {
        let result = self.own_reply(result).and_then(|_| self.account_answer());
        let deleted = result.is_ok();
        self.answer(command, result);
        if deleted {
            self.refuse_all(&CommandFailure::new(Code::NotLoggedIn, "the account was deleted"));
            self.close_session();
            self.out.writes.push(Write::ForgetProfile);
            self.begin_anew();
        }
    }

    fn account_answer(&self) -> Result<Answer, CommandFailure> {
        let profile = self.profile.as_ref().ok_or_else(odd_reply)?;
        let (username, registry) = (profile.username.clone(), profile.registry.clone());
        Ok(Answer::Account(AccountAnswer { username, registry, newly_pinned: false }))
    }

    /// Fails commands that need a session when there is none.
    pub(in crate::core) fn require_session(&self) -> Result<(), CommandFailure> {
        match self.session_state() {
            SessionState::Online | SessionState::Offline => Ok(()),
            SessionState::LoggedOut => {
                Err(CommandFailure::new(Code::NotLoggedIn, "not logged in")
                    .hint("p2pctl login USER"))
            }
            SessionState::Superseded => Err(registryd_proto::Failure::new(
                Code::Superseded,
                "another device took over this account",
            )
            .into()),
        }
    }

    /// A reply of our own registry, or what its failure means.
    pub(in crate::core) fn own_reply(
        &self,
        result: Result<Reply, CallFailure>,
    ) -> Result<Reply, CommandFailure> {
        result.map_err(|failure| match &self.profile {
            Some(profile) => self.refusal(&profile.registry, failure),
            None => odd_reply(),
        })
    }
}

/// The registry answered something that does not fit the request, or does not hold.
pub(super) fn odd_reply() -> CommandFailure {
    CommandFailure::new(Code::Internal, "the registry's answer does not fit the request")
}
