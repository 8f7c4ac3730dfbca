//! How things are, and when they change: `status` and `wait`.

use peerd_proto::control::{ChatAnswer, LinkState, Presence, StatusAnswer, Wait, WaitFor};
use registryd_proto::{Code, PresenceState, UserView, Username};

use super::{DEADLINE_MS, Outcome, Round, Step, Waits, send::not_in_room};
use crate::core::{Answer, CommandFailure, Core, contact::Seen, input::CallFailure};

impl Core {
    pub(super) fn status(&self) -> StatusAnswer {
        let chats = self.chats.open();
        let chats = chats.map(|(peer, state)| ChatAnswer { peer: peer.clone(), state }).collect();
        let listeners = self.session.listeners;
        StatusAnswer {
            username: self.profile.as_ref().map(|p| p.username.clone()),
            session: self.session_state(),
            registry: self.profile.as_ref().map(|p| p.registry.clone()),
            peer_listener: listeners.map(|l| l.peer),
            room_listener: listeners.map(|l| l.room),
            chats,
            rooms: self.rooms.names(),
            outbox: self.outbox_count(),
            version: self.config.version.clone(),
            hello_interval_ms: self.session.interval_ms,
            head: self.events.head(),
            invited: self.session.invited.clone(),
            disk_full: false,
        }
    }

    pub(super) fn wait(&mut self, params: Wait, round: Round) -> Outcome {
        self.require_session()?;
        let within_ms = params.timeout_ms.unwrap_or(DEADLINE_MS);
        if let Some(answer) = self.has_come(&params.what) {
            return Ok(Step::Done(answer));
        }
        match &params.what {
            WaitFor::Online => {}
            WaitFor::Peer { username } => {
                let username = username.clone();
                if self.resolve(&username, &round)?.is_none() {
                    return Ok(Step::Wait(Waits::User(username, params.into()), within_ms));
                }
                self.ask_user(&username);
            }
            WaitFor::Member { room, username } => {
                let held = self.rooms.by_name(room).ok_or_else(|| not_in_room(room.as_str()))?;
                if held.member(username).is_none() && self.session.is_online() {
                    self.fetch_room(None, room, None);
                }
            }
        }
        Ok(Step::Wait(Waits::Come(params.what), within_ms))
    }

    /// What `wait` answers if it has come true.
    fn has_come(&self, what: &WaitFor) -> Option<Answer> {
        match what {
            WaitFor::Online => {
                self.session.is_online().then(|| Answer::Status(Box::new(self.status())))
            }
            WaitFor::Peer { username } => {
                let contact = self.contacts.get(username)?;
                let linked = self.link_to(username).is_some();
                let here =
                    linked.then(|| Answer::User(self.contact_as_user(contact, Presence::Online)));
                here.filter(|_| contact.untrusted.is_none())
            }
            WaitFor::Member { room, username } => {
                let member = self.member_answer(self.member(room, username)?);
                (member.link == LinkState::Connected).then_some(Answer::Member(member))
            }
        }
    }

    /// Answers the commands whose condition has come true.
    pub(super) fn check_waits(&mut self) {
        for id in self.commands.ids(|w| matches!(w, Waits::Come(_))) {
            let Some(open) = self.commands.open.get(&id) else { continue };
            let Waits::Come(what) = &open.waits else { continue };
            if let Some(answer) = self.has_come(what) {
                self.answer(id, Ok(answer));
            }
        }
    }

    /// The registry told of a user: those who wait for it hear it.
    pub(in crate::core) fn user_seen(&mut self, view: &UserView, seen: Seen) {
        let name = &view.username;
        self.chat_presence(name, view.presence);
        if view.presence != PresenceState::Online {
            return;
        }
        let of =
            |w: &Waits| matches!(w, Waits::Come(WaitFor::Peer { username }) if username == name);
        for id in self.commands.ids(of) {
            let Some(contact) = self.contacts.get(name) else { continue };
            let result = match seen {
                Seen::Pinned => {
                    let mut user = self.contact_as_user(contact, Presence::Online);
                    user.last_hello_ms_ago = view.last_hello_ms_ago;
                    Ok(Answer::User(user))
                }
                Seen::Untrusted | Seen::Refused => match self.require_trust(contact) {
                    Err(failure) => Err(failure),
                    Ok(()) => continue,
                },
            };
            self.answer(id, result);
        }
    }

    /// A look-up failed: those who wait for the user hear it if there is no such user; else it is done again
    /// behind the next sync.
    pub(super) fn lookup_failed(&mut self, username: &Username, failure: CallFailure) {
        let of = |w: &Waits| matches!(w, Waits::Come(WaitFor::Peer { username: name }) if name == username);
        let waiting = self.commands.ids(of);
        match failure {
            _ if waiting.is_empty() => {}
            CallFailure::Failed(failure) if failure.code == Code::NotFound => {
                for id in waiting {
                    self.answer(id, Err(CommandFailure::from(failure.clone())));
                }
            }
            CallFailure::Failed(failure) => self.sync_again(failure.retry_after_ms),
            CallFailure::Unreachable | CallFailure::WrongKey { .. } => self.sync_again(None),
        }
    }

    /// Asks for the users whom commands wait for and the registry does not watch for us.
    pub(in crate::core) fn watch_awaited(&mut self) {
        for username in self.commands.waits_for_peers() {
            if !self.session.watched.contains(&username) {
                self.ask_user(&username);
            }
        }
    }
}
