//! Users at the registry: `search`, and look-ups on behalf of other verbs.

use peerd_proto::control::{Presence, Search, UserAnswer};
use registryd_proto::{Card, Code, PresenceState, Reply, Request, UserView, Username};

use super::{DEADLINE_MS, Outcome, Round, Step, Waits, account::odd_reply};
use crate::core::{
    Answer, CommandFailure, CommandId, Core, call::Purpose, contact::Seen, durable::Contact,
    input::CallFailure,
};

impl Core {
    pub(super) fn search(&mut self, id: CommandId, params: Search) -> Outcome {
        self.require_session()?;
        let username = params.username;
        let request = Request::Search { username: username.clone() };
        self.call(Purpose::Search { command: id, username }, request);
        Ok(Step::Wait(Waits::Reply, DEADLINE_MS))
    }

    pub(in crate::core) fn searched(
        &mut self,
        command: CommandId,
        username: &Username,
        result: Result<Reply, CallFailure>,
    ) {
        let result = self.own_reply(result).and_then(|reply| match reply {
            Reply::User(view) if view.username == *username => {
                let answer = self.user_answer(&view)?;
                if self.contacts.get(username).is_some() {
                    self.take_user(view);
                }
                Ok(Answer::User(answer))
            }
            _ => Err(odd_reply()),
        });
        self.answer(command, result);
    }

    fn user_answer(&self, view: &UserView) -> Result<UserAnswer, CommandFailure> {
        let ours = |card: &Card| card.username == view.username;
        let card = self.open_card(&view.card).filter(ours).ok_or_else(odd_reply)?;
        Ok(UserAnswer {
            username: view.username.clone(),
            presence: match view.presence {
                PresenceState::Online => Presence::Online,
                PresenceState::Offline => Presence::Offline,
            },
            key: card.binding.peer_key,
            addresses: view.endpoints.peer.clone(),
            room_addresses: view.endpoints.room.clone(),
            last_hello_ms_ago: view.last_hello_ms_ago,
            presence_confirmed: view.confirmed,
        })
    }

    /// What a link or an earlier word of the registry tells of a contact.
    pub(super) fn contact_as_user(&self, contact: &Contact, presence: Presence) -> UserAnswer {
        UserAnswer {
            username: contact.username.clone(),
            presence,
            key: contact.peer_key,
            addresses: contact.endpoints.peer.clone(),
            room_addresses: contact.endpoints.room.clone(),
            last_hello_ms_ago: None,
            presence_confirmed: true,
        }
    }

    /// The contact that a verb names; an unknown user is looked up first. `Ok(None)`: wait.
    pub(super) fn resolve(
        &mut self,
        username: &Username,
        round: &Round,
    ) -> Result<Option<Contact>, CommandFailure> {
        self.require_session()?;
        if self.profile.as_ref().is_some_and(|p| p.username == *username) {
            return Err(super::usage("that is you"));
        }
        if let Some(contact) = self.contacts.get(username) {
            return Ok(Some(contact.clone()));
        }
        if round.looked_up {
            let message = "the registry shows no valid card of this user";
            return Err(CommandFailure::new(Code::UntrustedKey, message));
        }
        self.ask_user(username);
        Ok(None)
    }

    /// Fails for a contact whose key changed.
    pub(super) fn require_trust(&self, contact: &Contact) -> Result<(), CommandFailure> {
        let Some(shown) = self.untrusted_key(contact) else { return Ok(()) };
        let name = &contact.username;
        let details = serde_json::json!({
            "pinned": contact.peer_key.to_string(),
            "shown": shown.to_string(),
        });
        Err(CommandFailure::new(
            Code::UntrustedKey,
            format!("{name} shows another key than before"),
        )
        .hint(format!("ask {name} over another channel, then: p2pctl trust {name}"))
        .details(details))
    }

    /// Goes on with the commands that waited for a user.
    pub(in crate::core) fn resume_lookups(
        &mut self,
        username: &Username,
        result: Result<Seen, CallFailure>,
    ) {
        let waiting = self.commands.ids(|w| matches!(w, Waits::User(name, _) if name == username));
        for id in waiting {
            let Some(open) = self.commands.open.remove(&id) else { continue };
            let Waits::User(_, command) = open.waits else { continue };
            match &result {
                Ok(_) => {
                    let round = Round { looked_up: true, ..Round::default() };
                    self.perform(id, command, round, Some(open.until_ms));
                }
                Err(failure) => {
                    let failure = self.own_reply(Err(failure.clone())).err();
                    self.reply(id, Err(failure.unwrap_or_else(odd_reply)));
                }
            }
        }
        if let Err(failure) = result {
            self.lookup_failed(username, failure);
        }
    }
}
