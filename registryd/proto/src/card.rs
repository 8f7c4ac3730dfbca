//! Contact cards: what the registry says of a user, and what the user's own keys say of themselves.

use serde::{Deserialize, Serialize};

use crate::{
    key::{KeyError, Keypair, PublicKey, Signature},
    name::Username,
    signed::{Document, Signed, SignedError},
};

const DOMAIN_PEER: &str = "p2pchat binding by the peer key 1";
const DOMAIN_ROOM: &str = "p2pchat binding by the room key 1";

/// How long a card is good for first contact, in milliseconds: 24 hours. A pinned key needs no fresh card.
pub const CARD_LIFETIME_MS: u64 = 24 * 60 * 60 * 1000;

/// A user's two keys, each signing (registry key, peer key, room key, username), so that nobody can bind
/// another's key to himself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyBinding {
    /// The user's identity: id of the peer endpoint, signer of entries, key of the registry connection.
    pub peer_key: PublicKey,
    /// Id of the room endpoint.
    pub room_key: PublicKey,
    peer_signature: Signature,
    room_signature: Signature,
}

impl KeyBinding {
    /// Binds both keys to `username` at the registry with key `registry`.
    pub fn new(registry: &PublicKey, username: &Username, peer: &Keypair, room: &Keypair) -> Self {
        let payload = payload(registry, username, &peer.public(), &room.public());
        Self {
            peer_key: peer.public(),
            room_key: room.public(),
            peer_signature: peer.sign(DOMAIN_PEER, &payload),
            room_signature: room.sign(DOMAIN_ROOM, &payload),
        }
    }

    /// Checks both signatures.
    ///
    /// # Errors
    /// [`KeyError::Signature`] if either key did not sign exactly this binding, or the keys are equal.
    pub fn verify(&self, registry: &PublicKey, username: &Username) -> Result<(), KeyError> {
        if self.peer_key == self.room_key {
            return Err(KeyError::Signature);
        }
        let payload = payload(registry, username, &self.peer_key, &self.room_key);
        self.peer_key.verify(DOMAIN_PEER, &payload, &self.peer_signature)?;
        self.room_key.verify(DOMAIN_ROOM, &payload, &self.room_signature)
    }
}

fn payload(
    registry: &PublicKey,
    username: &Username,
    peer: &PublicKey,
    room: &PublicKey,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(3 * 32 + username.as_str().len());
    for key in [registry, peer, room] {
        bytes.extend_from_slice(key.as_bytes());
    }
    bytes.extend_from_slice(username.as_str().as_bytes());
    bytes
}

/// A contact card, signed by the registry as [`Signed<Card>`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// Whose card it is.
    pub username: Username,
    /// The keys, by their own word.
    pub binding: KeyBinding,
    /// Grows with each binding of the account: peers keep the highest seen and refuse lower ones.
    pub serial: u64,
    /// When it was signed: registry time, milliseconds since 1970.
    pub issued_ms: u64,
    /// Until when it is good for first contact.
    pub expires_ms: u64,
}

impl Document for Card {
    const DOMAIN: &'static str = "p2pchat card 1";
}

impl Card {
    /// Opens a signed card: the registry's signature and both of the binding hold. Serial and expiry are
    /// for the caller to judge.
    ///
    /// # Errors
    /// [`SignedError`] if any of the three signatures does not hold.
    pub fn open(signed: &Signed<Card>, registry: &PublicKey) -> Result<Card, SignedError> {
        let card = signed.open(registry)?;
        card.binding.verify(registry, &card.username)?;
        Ok(card)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_opens_only_with_all_three_signatures() {
        let [registry, peer, room, other] = [1, 2, 3, 4].map(|s| Keypair::from_secret(&[s; 32]));
        let bob: Username = "bob".parse().expect("name");
        let eve: Username = "eve".parse().expect("name");
        let binding = KeyBinding::new(&registry.public(), &bob, &peer, &room);
        let card = |username: &Username, binding: &KeyBinding| Card {
            username: username.clone(),
            binding: binding.clone(),
            serial: 1,
            issued_ms: 0,
            expires_ms: CARD_LIFETIME_MS,
        };

        let good = Signed::seal(&card(&bob, &binding), &registry);
        assert_eq!(Card::open(&good, &registry.public()).expect("good"), card(&bob, &binding));
        assert!(Card::open(&good, &other.public()).is_err(), "another registry");
        let stolen = Signed::seal(&card(&eve, &binding), &registry);
        assert!(Card::open(&stolen, &registry.public()).is_err(), "bob's keys under eve's name");
        let mut forged = KeyBinding::new(&registry.public(), &bob, &other, &room);
        forged.peer_key = peer.public();
        let forged = Signed::seal(&card(&bob, &forged), &registry);
        assert!(Card::open(&forged, &registry.public()).is_err(), "a key that did not sign");
    }
}
