//! The session at the registry: bind, resume, HELLO, sync, and what ends it.
//!
//! Invariant: only a login and a start of the core take a new session epoch, and the resumes of `resume`.
//! While the registry is away nothing of ours stops.
//! Trap: calls that belong to a session are forgotten with it, so that a late reply changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use peerd_proto::control::{EventKind, SessionState};
use registryd_proto::{
    Code, Digest, Endpoints, PresenceState, PublicKey, RegistryAddress, Reply, Request, RoomName,
    SessionGrant, SyncReply, Username,
};

use super::{
    CallId, CommandFailure, Core, Effect,
    backoff::Backoff,
    bind::BindFor,
    call::Purpose,
    durable::{Profile, ProfileState, Write},
    input::{CallFailure, HelloInput, Listeners},
};

/// How often a resume is tried while TLS answers and HELLO does not.
const SILENT_RESUME_MS: u64 = 60_000;

/// Where the session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// None is wanted.
    Closed,
    /// Resume has not succeeded yet.
    Resuming,
    /// HELLOs are answered.
    Online,
    /// HELLOs are not answered; `synced` tells whether TLS was, since then or since the last resume. A resume
    /// comes only after it: who finds its epoch old then has been superseded.
    Silent { synced: bool },
}

/// The session and what belongs to it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) phase: Phase,
    pub(super) listeners: Option<Listeners>,
    pub(super) binding: Option<BindFor>,
    /// Binds without an answer: only the last one's answer tells where the listeners are.
    pub(super) binds: u32,
    /// Another key than the pinned one was shown: nothing is tried by itself until a call succeeds.
    pub(super) wrong_key: Option<PublicKey>,
    pub(super) interval_ms: u32,
    pub(super) invited: Vec<RoomName>,
    /// Users whom the registry tells us about when they come online.
    pub(super) watched: BTreeSet<Username>,
    pub(super) presence: BTreeMap<Username, PresenceState>,
    pub(super) attempt: Digest,
    pub(super) call: Option<CallId>,
    retry_ms: Option<u64>,
    /// What a sync told of could not be fetched: another one is owed, whatever becomes of the plan to retry, for
    /// nobody tells again of a version that we have taken note of. Not so for a sync that failed: while our
    /// version is the registry's we have missed nothing, and after an outage nobody comes for nothing.
    owes_sync: bool,
    /// When our card is renewed: strangers take only one that has not expired.
    pub(super) card_ms: Option<u64>,
    backoff: Backoff,
    told_down: bool,
    /// A resume was sent within the session: the registry's epoch may be ahead of ours by our own doing.
    pub(super) resuming_anew: bool,
    /// A resume comes before anything else.
    pub(super) must_resume: bool,
    /// Until when a request of before may be carried out yet.
    pub(super) late_until_ms: Option<u64>,
    /// The account version that the registry told last.
    wanted_version: u64,
    /// Registry time and our monotonic time at one moment.
    clock: Option<(u64, u64)>,
}

impl Session {
    pub(super) fn closed() -> Self {
        Self {
            phase: Phase::Closed,
            listeners: None,
            binding: None,
            binds: 0,
            wrong_key: None,
            interval_ms: 0,
            invited: Vec::new(),
            watched: BTreeSet::new(),
            presence: BTreeMap::new(),
            attempt: Digest::default(),
            call: None,
            retry_ms: None,
            owes_sync: false,
            card_ms: None,
            backoff: Backoff::default(),
            told_down: false,
            resuming_anew: false,
            must_resume: false,
            late_until_ms: None,
            wanted_version: 0,
            clock: None,
        }
    }

    pub(super) fn next_wake(&self) -> Option<u64> {
        self.retry_ms.into_iter().chain(self.card_ms).min()
    }

    pub(super) fn is_online(&self) -> bool {
        self.phase == Phase::Online
    }

    /// Whether peers are to be linked.
    pub(super) fn is_wanted(&self) -> bool {
        self.phase != Phase::Closed
    }

    /// The registry said that a user is offline, and has not said otherwise.
    pub(super) fn is_offline(&self, username: &Username) -> bool {
        self.presence.get(username) == Some(&PresenceState::Offline)
    }

    /// Begins anew for a login, with the listeners that it has opened.
    pub(super) fn renew(&mut self) {
        let Self { listeners, binds, told_down, late_until_ms, .. } = *self;
        *self = Self { listeners, binds, told_down, late_until_ms, ..Self::closed() };
    }

    /// Whether a call has a chance.
    pub(super) fn may_call(&self) -> bool {
        self.phase != Phase::Closed && self.wrong_key.is_none()
    }

    /// Where the listeners are, for the registry: it fills in the address that it sees.
    pub(super) fn endpoints(&self) -> Endpoints {
        let Some(listeners) = self.listeners else { return Endpoints::default() };
        Endpoints { peer: vec![listeners.peer], room: vec![listeners.room] }
    }
}

impl Core {
    /// A start: a profile that was logged in comes back by itself.
    pub(super) fn start_session(&mut self) {
        let Some(profile) = &self.profile else { return };
        if profile.state == ProfileState::LoggedIn {
            let (peer_port, room_port) = (profile.peer_port, profile.room_port);
            self.session.phase = Phase::Resuming;
            self.session.attempt = self.draw_digest();
            self.expect_late();
            self.bind(BindFor::Start, peer_port, room_port);
        }
    }

    /// Does what the session needs next: listeners, a resume, or a sync.
    pub(super) fn retry_session(&mut self) {
        self.session.retry_ms = None;
        let waits = self.session.call.is_some() || self.session.binding.is_some();
        if waits || !self.session.may_call() || self.login.is_some() {
            return;
        }
        let Some(profile) = &self.profile else { return };
        if self.session.listeners.is_none() {
            let ports = (profile.peer_port, profile.room_port);
            return self.bind(BindFor::Start, ports.0, ports.1);
        }
        let resume = Request::Resume {
            attempt: self.session.attempt,
            endpoints: self.session.endpoints(),
            serial: profile.serial,
            epoch: profile.epoch,
        };
        match self.session.phase {
            Phase::Closed => return,
            Phase::Resuming => {}
            Phase::Online if self.session.must_resume => self.session.resuming_anew = true,
            Phase::Silent { synced: true } => self.session.resuming_anew = true,
            Phase::Online | Phase::Silent { synced: false } => return self.sync(),
        }
        self.session.call = Some(self.call(Purpose::Resume, resume));
    }

    /// Does what time has made due.
    pub(super) fn tick_session(&mut self) {
        let now_ms = self.now.mono_ms;
        if self.session.retry_ms.is_some_and(|at| at <= now_ms) {
            self.retry_session();
        }
        self.tick_card();
    }

    /// Asks what has changed, unless a question is under way.
    pub(super) fn sync(&mut self) {
        let Some(profile) = &self.profile else { return };
        if self.session.call.is_none() && self.session.may_call() {
            let request = Request::Sync { version: profile.version };
            self.session.call = Some(self.call(Purpose::Sync, request));
        }
    }

    pub(super) fn retry_later(&mut self) {
        self.retry_after(None);
    }

    /// Syncs again because what a sync told of could not be fetched: what the session waits for stays as it is.
    pub(super) fn sync_again(&mut self, retry_after_ms: Option<u64>) {
        self.session.owes_sync = true;
        if self.session.retry_ms.is_none() {
            self.retry_after(retry_after_ms);
        }
    }

    fn retry_after(&mut self, retry_after_ms: Option<u64>) {
        let interval_ms = self.session.interval_ms;
        let (spread_ms, certain_ms) = self.session.backoff.next(interval_ms, retry_after_ms);
        self.session.retry_ms = Some(self.now.mono_ms + certain_ms + self.jitter(spread_ms));
    }

    /// Takes a session. False if the registry's answer does not hold.
    pub(super) fn adopt(&mut self, grant: &SessionGrant) -> bool {
        let Some(profile) = &self.profile else { return false };
        let Some(card) = self.own_card(&grant.card) else { return false };
        let mut profile = profile.clone();
        profile.state = ProfileState::LoggedIn;
        profile.serial = profile.serial.max(card.serial);
        profile.epoch = profile.epoch.max(grant.epoch);
        profile.card = grant.card.clone();
        if let Some(listeners) = self.session.listeners {
            profile.peer_port = listeners.peer.port();
            profile.room_port = listeners.room.port();
        }
        let registry = profile.registry.clone();
        self.put_profile(profile);
        self.session.clock = Some((grant.server_time_ms, self.now.mono_ms));
        self.renew_card_before(&card);
        self.session.interval_ms = grant.interval_ms;
        self.session.wrong_key = None;
        self.session.resuming_anew = false;
        self.session.must_resume = false;
        self.session.attempt = self.draw_digest();
        self.session.watched.clear();
        self.out.effects.push(Effect::StartHello { registry, grant: Box::new(grant.clone()) });
        match self.session.phase {
            Phase::Silent { .. } => {
                self.session.phase = Phase::Silent { synced: false };
                self.session.retry_ms = Some(self.now.mono_ms + self.jitter(SILENT_RESUME_MS));
            }
            Phase::Closed | Phase::Resuming | Phase::Online => self.registry_is_up(),
        }
        true
    }

    fn registry_is_up(&mut self) {
        self.session.phase = Phase::Online;
        self.session.retry_ms = None;
        self.session.backoff.reset();
        let owes = self.session.owes_sync || self.session.must_resume;
        if owes || self.session.listeners.is_none() {
            self.retry_later();
        }
        self.dirty = true;
        if std::mem::take(&mut self.session.told_down) {
            self.event(EventKind::RegistryUp {});
        }
    }

    fn registry_is_down(&mut self) {
        if !std::mem::replace(&mut self.session.told_down, true) {
            self.event(EventKind::RegistryDown {});
        }
    }

    /// A call of the session failed.
    pub(super) fn session_failed(&mut self, failure: &CallFailure) {
        match failure {
            CallFailure::Unreachable => {
                self.registry_is_down();
                self.retry_later();
            }
            CallFailure::WrongKey { shown } => {
                self.session.wrong_key = Some(*shown);
                self.session.retry_ms = None;
                self.registry_is_down();
            }
            CallFailure::Failed(failure) => match failure.code {
                Code::Superseded => {
                    self.count_bindings();
                    self.end_session(ProfileState::Superseded);
                }
                Code::NotLoggedIn => {
                    if self.profile.as_ref().is_some_and(|p| p.state == ProfileState::LoggedIn) {
                        self.event(EventKind::LoggedOut {});
                    }
                    self.end_session(ProfileState::LoggedOut);
                }
                _ => self.retry_after(failure.retry_after_ms),
            },
        }
    }

    /// What HELLO tells.
    pub(super) fn on_hello(&mut self, input: HelloInput) {
        if self.session.phase == Phase::Closed {
            return;
        }
        match input {
            HelloInput::Answered { version, interval_ms } => {
                self.session.interval_ms = interval_ms;
                if matches!(self.session.phase, Phase::Silent { .. }) {
                    self.registry_is_up();
                }
                self.end_lost_resume();
                self.sync_if_behind(version);
            }
            HelloInput::Nudged { version } => self.sync_if_behind(version),
            HelloInput::Rebooted => {
                self.session.watched.clear();
                self.dirty = true;
                self.rewatch();
            }
            HelloInput::Silent => {
                if self.session.phase == Phase::Online {
                    self.session.phase = Phase::Silent { synced: false };
                    self.registry_is_down();
                    self.retry_later();
                }
            }
        }
    }

    /// A registry that was restored from a backup has a lower version than we hold.
    fn sync_if_behind(&mut self, version: u64) {
        if self.profile.as_ref().is_some_and(|p| version != p.version) {
            self.session.wanted_version = version;
            self.sync();
        }
    }

    /// The reply to a sync.
    pub(super) fn on_synced(&mut self, result: Result<Reply, CallFailure>) {
        self.session.call = None;
        match result {
            Ok(Reply::Sync(reply)) => {
                match self.session.phase {
                    Phase::Silent { synced: false } if self.session.retry_ms.is_none() => {
                        self.session.phase = Phase::Silent { synced: true };
                        self.retry_later();
                    }
                    Phase::Online => self.session.backoff.reset(),
                    // The plan to resume has waited for this, and was dropped.
                    Phase::Silent { synced: true } | Phase::Resuming
                        if self.session.retry_ms.is_none() =>
                    {
                        self.retry_later();
                    }
                    // When the next question is due has been said, by a resume just before.
                    Phase::Silent { .. } | Phase::Resuming | Phase::Closed => {}
                }
                self.session.owes_sync = false;
                self.take_sync(reply);
            }
            Ok(_) => self.retry_later(),
            Err(failure) => self.session_failed(&failure),
        }
    }

    fn take_sync(&mut self, reply: SyncReply) {
        let Some(mut profile) = self.profile.clone() else { return };
        if reply.epoch > profile.epoch && !self.is_own_doing() {
            return self.end_session(ProfileState::Superseded);
        }
        if profile.version != reply.version {
            profile.version = reply.version;
            self.put_profile(profile);
        }
        for room in &reply.invited {
            if !self.session.invited.contains(room) {
                self.event(EventKind::RoomInvited { room: room.clone() });
            }
        }
        self.session.invited = reply.invited;
        self.sync_rooms(&reply.rooms);
        for view in reply.online {
            self.session.watched.remove(&view.username);
            self.take_user(view);
        }
        self.watch_awaited();
        if self.session.must_resume {
            self.retry_session();
        } else if self.session.wanted_version > reply.version && self.session.is_online() {
            self.session.wanted_version = 0;
            self.sync();
        }
    }

    /// Ends the session here, for good until a login.
    pub(super) fn end_session(&mut self, state: ProfileState) {
        #[cfg(any(test, feature = "simulation"))]
        if self.planted.never_superseded && state == ProfileState::Superseded {
            return self.retry_later();
        }
        self.close_session();
        let Some(mut profile) = self.profile.clone() else { return };
        if profile.state != state {
            if state == ProfileState::Superseded {
                self.event(EventKind::Superseded {});
            }
            profile.state = state;
            self.put_profile(profile);
        }
    }

    /// Takes down what a session holds: chats, links, listeners, HELLO, calls. A login under way keeps the
    /// listeners that it opened, or is about to: what it replaces may well end first.
    pub(super) fn close_session(&mut self) {
        self.end_all_chats();
        self.close_all_links(peerd_proto::wire::Goodbye::LoggedOut);
        self.calls.forget_session();
        let Session { clock, binds, listeners, binding, late_until_ms, .. } =
            std::mem::replace(&mut self.session, Session::closed());
        self.session = Session { clock, binds, late_until_ms, ..Session::closed() };
        self.dials.clear();
        self.out.effects.push(Effect::StopHello);
        if self.login.is_some() {
            (self.session.listeners, self.session.binding) = (listeners, binding);
        } else {
            self.out.effects.push(Effect::Unbind);
        }
    }

    pub(super) fn put_profile(&mut self, profile: Profile) {
        self.out.writes.push(Write::Profile(profile.clone()));
        self.profile = Some(profile);
    }

    /// The pinned key of our registry.
    pub(super) fn registry_key(&self) -> Option<PublicKey> {
        self.profile.as_ref()?.registry.key
    }

    /// Registry time by its last word and our monotonic clock; before that word, by our wall clock.
    pub(super) fn registry_time_ms(&self) -> u64 {
        match self.session.clock {
            Some((server_ms, mono_ms)) => server_ms + self.now.mono_ms.saturating_sub(mono_ms),
            None => self.now.wall_ms,
        }
    }

    pub(super) fn session_state(&self) -> SessionState {
        match self.profile.as_ref().map(|p| p.state) {
            None | Some(ProfileState::LoggedOut) => SessionState::LoggedOut,
            Some(ProfileState::Superseded) => SessionState::Superseded,
            Some(ProfileState::LoggedIn) if self.session.is_online() => SessionState::Online,
            Some(ProfileState::LoggedIn) => SessionState::Offline,
        }
    }

    /// What a failed call means to whoever asked.
    pub(super) fn refusal(
        &self,
        registry: &RegistryAddress,
        failure: CallFailure,
    ) -> CommandFailure {
        match failure {
            CallFailure::Unreachable => {
                let message = format!("the registry at {} does not answer", registry.host_port());
                let failure = CommandFailure::new(Code::RegistryUnreachable, message);
                match self.session.phase {
                    // Nothing is tried again then.
                    Phase::Closed => failure.hint("is that its address, and does registryd run?"),
                    _ => failure,
                }
            }
            CallFailure::WrongKey { shown } => {
                let pinned = registry.key.map(|k| k.to_string());
                let shown = shown.to_string();
                CommandFailure::new(
                    Code::UntrustedKey,
                    "the registry shows another key than the pinned one",
                )
                .hint("somebody may be in the way; ask whoever runs the registry for its key")
                .details(serde_json::json!({ "pinned": pinned, "shown": shown }))
            }
            CallFailure::Failed(failure) => failure.into(),
        }
    }
}
