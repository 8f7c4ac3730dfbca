//! Contacts: `contacts`, `policy`, `verify`, `trust`.

use peerd_proto::control::{
    ContactAnswer, ContactsAnswer, LinkState, Policy, PolicyName, Trust, Verify, VerifyAnswer,
};
use registryd_proto::{Code, Username};

use super::{DEADLINE_MS, Outcome, Round, Step, Waits};
use crate::core::{
    Answer, CommandFailure, Core, LinkKind,
    contact::verify_number,
    durable::{Contact, Write},
};

impl Core {
    pub(super) fn contacts_command(&self) -> Answer {
        let contacts = self.contacts.iter().map(|c| self.contact_answer(c)).collect();
        let default_policy = self.default_policy();
        Answer::Contacts(ContactsAnswer { default_policy, contacts })
    }

    fn default_policy(&self) -> PolicyName {
        self.contacts.default_policy.unwrap_or(PolicyName::Ask)
    }

    fn contact_answer(&self, contact: &Contact) -> ContactAnswer {
        let linked = self.links.ready(LinkKind::Peer, &contact.peer_key).is_some();
        ContactAnswer {
            username: Some(contact.username.clone()),
            key: Some(contact.peer_key),
            policy: self.contacts.policy(&contact.username),
            verified: contact.verified,
            untrusted_key: self.untrusted_key(contact),
            link: if linked { LinkState::Connected } else { LinkState::Absent },
        }
    }

    fn contact_done(&self, username: &Username) -> Outcome {
        let contact = self.contacts.get(username).ok_or_else(|| unknown(username))?;
        Ok(Step::Done(Answer::Contact(self.contact_answer(contact))))
    }

    pub(super) fn policy(&mut self, params: Policy, round: Round) -> Outcome {
        let Some(username) = params.username.clone() else {
            if let Some(policy) = params.policy {
                self.contacts.default_policy = Some(policy);
                self.out.writes.push(Write::DefaultPolicy(policy));
                self.tell_default_standing();
            }
            return Ok(Step::Done(Answer::Contact(ContactAnswer {
                username: None,
                key: None,
                policy: self.default_policy(),
                verified: false,
                untrusted_key: None,
                link: LinkState::Absent,
            })));
        };
        let Some(policy) = params.policy else { return self.contact_done(&username) };
        if self.contacts.get(&username).is_none() && self.resolve(&username, &round)?.is_none() {
            return Ok(Step::Wait(Waits::User(username, params.into()), DEADLINE_MS));
        }
        self.set_policy(&username, policy);
        if policy != PolicyName::Ask {
            self.drop_request(&username);
        }
        self.contact_done(&username)
    }

    /// The request of a user whose policy says it all. A chat that rings goes on to ring if allowed.
    fn drop_request(&mut self, username: &Username) {
        if self.contacts.policy(username) == PolicyName::Block {
            if let Ok(steps) = self.chats.end(username) {
                self.carry_out(username, steps);
            }
            return self.forget_request(username);
        }
        if self.requests.get(username).is_some_and(|r| r.chat.is_none()) {
            self.forget_request(username);
        }
    }

    fn tell_default_standing(&mut self) {
        let open = |c: &&Contact| c.policy.is_none();
        let names: Vec<Username> =
            self.contacts.iter().filter(open).map(|c| c.username.clone()).collect();
        for name in names {
            self.tell_standing(&name);
        }
    }

    pub(super) fn verify(&mut self, params: Verify, round: Round) -> Outcome {
        let username = params.username.clone();
        let known = self.contacts.get(&username).cloned();
        let contact = match known {
            Some(contact) => contact,
            None => match self.resolve(&username, &round)? {
                Some(contact) => contact,
                None => return Ok(Step::Wait(Waits::User(username, params.into()), DEADLINE_MS)),
            },
        };
        let registry = self.registry_key().ok_or_else(|| unknown(&username))?;
        if params.confirm && !contact.verified {
            self.put_contact(Contact { verified: true, ..contact.clone() });
        }
        let our_key = self.keys.peer.public();
        let their_key = contact.peer_key;
        Ok(Step::Done(Answer::Verify(VerifyAnswer {
            number: verify_number(&registry, &our_key, &their_key),
            verified: contact.verified || params.confirm,
            username,
            our_key,
            their_key,
        })))
    }

    pub(super) fn trust(&mut self, params: Trust) -> Outcome {
        let username = params.username;
        let contact = self.contacts.get(&username).cloned().ok_or_else(|| unknown(&username))?;
        let shown = contact.untrusted.as_ref().and_then(|c| Some((c.clone(), self.open_card(c)?)));
        let Some((signed, card)) = shown else {
            let trusted = params.key.is_none_or(|key| key == contact.peer_key);
            if trusted {
                return self.contact_done(&username);
            }
            let message = format!("{username} does not show this key");
            return Err(CommandFailure::new(Code::Conflict, message));
        };
        if params.key.is_some_and(|key| key != card.binding.peer_key) {
            let message = format!("{username} shows another key than the one given");
            return Err(CommandFailure::new(Code::Conflict, message));
        }
        if let Ok(steps) = self.chats.end(&username) {
            self.carry_out(&username, steps);
        }
        self.put_contact(Contact {
            peer_key: card.binding.peer_key,
            room_key: card.binding.room_key,
            serial: card.serial,
            card: signed,
            untrusted: None,
            verified: false,
            ..contact
        });
        self.ensure_direct(&username);
        self.move_undelivered();
        self.look_up(&username);
        self.contact_done(&username)
    }
}

fn unknown(username: &Username) -> CommandFailure {
    CommandFailure::new(Code::NotFound, format!("{username} is no contact"))
}
