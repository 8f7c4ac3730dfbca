//! Contacts: whose key is pinned, what a new card means for it, and who may write to us.
//!
//! Invariant: a pinned key changes only by `trust`. A card with a higher serial and another key is kept
//! beside it; until then nothing goes either way.

use std::collections::BTreeMap;

use peerd_proto::{
    control::{EventKind, PolicyName},
    wire::Standing,
};
use registryd_proto::{Card, Digest, Endpoints, PublicKey, Signed, Username};

use super::{
    Core, LinkKind,
    durable::{Contact, Write},
};

/// The most contacts; strangers who write make contacts as well.
const CONTACTS_MAX: usize = 10_000;
/// A newer card with the same serial is stored only if it is newer by this.
const CARD_REFRESH_MS: u64 = 60 * 60 * 1000;
/// How often a verify number's hash is iterated, to make a search for a look-alike dear.
const VERIFY_ROUNDS: u32 = 5_200;

/// What is known of users.
#[derive(Debug, Default)]
pub(super) struct Contacts {
    by_name: BTreeMap<Username, Contact>,
    /// For unknown users.
    pub(super) default_policy: Option<PolicyName>,
}

/// What a card turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// The key is pinned, by now or before.
    Pinned,
    /// Another key than the pinned one, with the registry's word for it.
    Untrusted,
    /// A signature does not hold, it is another user's, it is older than one we hold, or it has expired.
    Refused,
}

impl Contacts {
    pub(super) fn restore(contacts: Vec<Contact>, default_policy: Option<PolicyName>) -> Self {
        let by_name = contacts.into_iter().map(|c| (c.username.clone(), c)).collect();
        Self { by_name, default_policy }
    }

    pub(super) fn get(&self, username: &Username) -> Option<&Contact> {
        self.by_name.get(username)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Contact> {
        self.by_name.values()
    }

    pub(super) fn by_peer_key(&self, key: &PublicKey) -> Option<&Contact> {
        self.by_name.values().find(|c| c.peer_key == *key)
    }

    /// The policy that holds for a user, known or not.
    pub(super) fn policy(&self, username: &Username) -> PolicyName {
        let own = self.get(username).and_then(|c| c.policy);
        own.or(self.default_policy).unwrap_or(PolicyName::Ask)
    }
}

/// The standing that a policy gives.
pub(super) fn standing(policy: PolicyName) -> Standing {
    match policy {
        PolicyName::Allow => Standing::Allow,
        PolicyName::Ask => Standing::Ask,
        PolicyName::Block => Standing::Block,
    }
}

impl Core {
    /// Judges a card by what is pinned, and pins the key of a user whom we meet.
    pub(super) fn see_card(
        &mut self,
        username: &Username,
        signed: &Signed<Card>,
        endpoints: Option<&Endpoints>,
    ) -> Seen {
        let Some(card) = self.open_card(signed).filter(|c| c.username == *username) else {
            return Seen::Refused;
        };
        let Some(held) = self.contacts.get(username) else {
            let full = self.contacts.by_name.len() >= CONTACTS_MAX;
            // What the registry itself tells is fresh, whatever has become of its clock since it told the time.
            let fresh = endpoints.is_some() || card.expires_ms > self.registry_time_ms();
            if full || !fresh {
                return Seen::Refused;
            }
            self.put_contact(Contact {
                username: username.clone(),
                peer_key: card.binding.peer_key,
                room_key: card.binding.room_key,
                serial: card.serial,
                card: signed.clone(),
                untrusted: None,
                policy: None,
                verified: false,
                endpoints: endpoints.cloned().unwrap_or_default(),
            });
            return Seen::Pinned;
        };
        if card.serial < held.serial {
            return Seen::Refused;
        }
        if card.binding.peer_key != held.peer_key {
            let held = held.clone();
            return self.see_other_key(held, signed, &card);
        }
        let mut contact = held.clone();
        let pending = held.untrusted.as_ref().and_then(|c| self.open_card(c)).map(|c| c.serial);
        if pending.is_some_and(|serial| serial > card.serial) {
            return Seen::Untrusted;
        }
        let issued_ms = self.open_card(&held.card).map_or(0, |c| c.issued_ms);
        if card.serial > held.serial || card.issued_ms > issued_ms + CARD_REFRESH_MS {
            contact.serial = card.serial;
            contact.room_key = card.binding.room_key;
            contact.card = signed.clone();
            contact.untrusted = None;
        }
        if let Some(endpoints) = endpoints {
            contact.endpoints = endpoints.clone();
        }
        if self.contacts.get(username) != Some(&contact) {
            self.put_contact(contact);
        }
        Seen::Pinned
    }

    fn see_other_key(&mut self, mut held: Contact, signed: &Signed<Card>, card: &Card) -> Seen {
        let shown = held.untrusted.as_ref().and_then(|c| self.open_card(c));
        if shown.as_ref().is_some_and(|c| c.serial > card.serial) {
            return Seen::Refused;
        }
        if shown.is_none_or(|c| c.binding.peer_key != card.binding.peer_key) {
            self.event(EventKind::KeyChanged {
                peer: held.username.clone(),
                old_key: held.peer_key.to_string(),
                new_key: card.binding.peer_key.to_string(),
            });
            held.untrusted = Some(signed.clone());
            let old_key = held.peer_key;
            self.put_contact(held.clone());
            self.stop_sends_to(&held);
            self.close_links_of(LinkKind::Peer, &old_key);
        }
        Seen::Untrusted
    }

    /// Opens a card by our registry's key.
    pub(super) fn open_card(&self, signed: &Signed<Card>) -> Option<Card> {
        Card::open(signed, &self.registry_key()?).ok()
    }

    /// The key that a contact shows and nobody trusts yet.
    pub(super) fn untrusted_key(&self, contact: &Contact) -> Option<PublicKey> {
        let card = self.open_card(contact.untrusted.as_ref()?)?;
        Some(card.binding.peer_key)
    }

    /// Stores a contact.
    pub(super) fn put_contact(&mut self, contact: Contact) {
        self.out.writes.push(Write::Contact(contact.clone()));
        self.contacts.by_name.insert(contact.username.clone(), contact);
        self.dirty = true;
    }

    /// Sets a contact's policy and tells the other side its new standing.
    pub(super) fn set_policy(&mut self, username: &Username, policy: PolicyName) {
        let Some(mut contact) = self.contacts.get(username).cloned() else { return };
        if contact.policy == Some(policy) {
            return;
        }
        contact.policy = Some(policy);
        self.put_contact(contact);
        self.tell_standing(username);
    }

    /// Whom we write to may answer, unless the user said otherwise.
    pub(super) fn allow_implicitly(&mut self, username: &Username) {
        if self.contacts.get(username).is_some_and(|c| c.policy.is_none()) {
            self.set_policy(username, PolicyName::Allow);
        }
    }
}

/// 60 digits that both sides can compare, in groups of five: an iterated hash of both keys, sorted.
pub(super) fn verify_number(registry: &PublicKey, ours: &PublicKey, theirs: &PublicKey) -> String {
    let (low, high) = if ours <= theirs { (ours, theirs) } else { (theirs, ours) };
    let keys: [&[u8]; 3] = [registry.as_bytes(), low.as_bytes(), high.as_bytes()];
    let domain = "p2pchat 2026-11 verify number";
    let mut digest = Digest::derive(domain, &keys);
    for _ in 0..VERIFY_ROUNDS {
        digest = Digest::derive(domain, &[&digest.0, keys[1], keys[2]]);
    }
    let mut stream = blake3::Hasher::new().update(&digest.0).finalize_xof();
    let mut groups = Vec::with_capacity(12);
    for _ in 0..12 {
        let mut bytes = [0; 8];
        stream.fill(&mut bytes);
        groups.push(format!("{:05}", u64::from_le_bytes(bytes) % 100_000));
    }
    groups.join(" ")
}
