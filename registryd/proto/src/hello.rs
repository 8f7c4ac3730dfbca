//! HELLO: liveness in one small sealed UDP datagram.
//!
//! A datagram has [`DATAGRAM_BYTES`] bytes in both directions, so an answer is never larger than its HELLO.
//! All numbers are big endian:
//!
//! | offset | bytes | in the clear, authenticated |
//! |---|---|---|
//! | 0 | 1 | version and type: 0x11 HELLO, 0x12 answer |
//! | 1 | 8 | session id |
//! | 9 | 8 | session epoch |
//! | 17 | 8 | boot id: in a HELLO the last one seen, in an answer the registry's own |
//! | 25 | 8 | counter of this direction; only grows |
//!
//! | offset | bytes | sealed in a HELLO | sealed in an answer |
//! |---|---|---|---|
//! | 33 | 23 | interval in use (u32, ms), 19 zero bytes | echoed counter (u64, 0: a nudge), interval from now on (u32, ms), account version (u64), 3 zero bytes |
//! | 56 | 16 | tag | tag |
//!
//! The seal is ChaCha20-Poly1305 with the first 33 bytes as associated data. The nonce is four zero bytes
//! and the counter.
//!
//! Invariant: no key meets a nonce twice. A peer's counter starts with its session key and only grows; the
//! registry's key depends on its boot id, and within one boot its counter only grows.
//!
//! Everything here is pure: no socket, no clock, no randomness.

mod client;

use std::fmt;

use data_encoding::BASE64;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use zeroize::{Zeroize, ZeroizeOnDrop};

pub use client::{HelloClient, Outcome, SILENT_AFTER};

/// The size of every datagram, both ways.
pub const DATAGRAM_BYTES: usize = 72;

const CLEAR_BYTES: usize = 33;
const SEALED_BYTES: usize = 23;
const TYPE_HELLO: u8 = 0x11;
const TYPE_ANSWER: u8 = 0x12;
const PEER_CONTEXT: &str = "p2pchat hello 1 from the peer";
const REGISTRY_CONTEXT: &str = "p2pchat hello 1 from the registry";

/// One datagram, ready to be sent.
pub type Datagram = [u8; DATAGRAM_BYTES];

/// The 256-bit key of a session. Debug shows nothing, memory is wiped on drop. Base64 in JSON.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SessionKey([u8; 32]);

impl SessionKey {
    /// Wraps the bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for deriving the keys of the two directions alone.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(…)")
    }
}

impl Serialize for SessionKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for SessionKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = BASE64
            .decode(String::deserialize(deserializer)?.as_bytes())
            .map_err(D::Error::custom)?;
        Ok(Self(bytes.try_into().map_err(|_| D::Error::custom("a session key has 32 bytes"))?))
    }
}

/// The key of one direction.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct HelloKey([u8; 32]);

impl HelloKey {
    /// Takes back what [`expose`](Self::expose) gave.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for keeping the key where it need not be derived again.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key that seals a peer's HELLOs.
    pub fn peer(session: &SessionKey) -> Self {
        Self(blake3::derive_key(PEER_CONTEXT, session.expose()))
    }

    /// The key that seals what the registry sends during the boot `boot`.
    pub fn registry(session: &SessionKey, boot: u64) -> Self {
        let mut material = [0; 40];
        material[..32].copy_from_slice(session.expose());
        material[32..].copy_from_slice(&boot.to_be_bytes());
        let key = Self(blake3::derive_key(REGISTRY_CONTEXT, &material));
        material.zeroize();
        key
    }

    fn seal(&self, clear: &Clear, body: [u8; SEALED_BYTES]) -> Datagram {
        let mut datagram = [0; DATAGRAM_BYTES];
        let (head, rest) = datagram.split_at_mut(CLEAR_BYTES);
        head.copy_from_slice(&clear.encode());
        let (sealed, tag) = rest.split_at_mut(SEALED_BYTES);
        sealed.copy_from_slice(&body);
        let made = self
            .cipher()
            .seal_in_place_separate_tag(nonce(clear.counter), Aad::from(&*head), sealed)
            .expect("23 bytes are far below the cipher's limit");
        tag.copy_from_slice(made.as_ref());
        datagram
    }

    fn open(&self, clear: &Clear, datagram: &[u8]) -> Option<[u8; SEALED_BYTES]> {
        let mut datagram: Datagram = datagram.try_into().ok()?;
        let (head, sealed) = datagram.split_at_mut(CLEAR_BYTES);
        let body =
            self.cipher().open_in_place(nonce(clear.counter), Aad::from(&*head), sealed).ok()?;
        (&*body).try_into().ok()
    }

    fn cipher(&self) -> LessSafeKey {
        let key = UnboundKey::new(&CHACHA20_POLY1305, &self.0).expect("a key of 32 bytes");
        LessSafeKey::new(key)
    }
}

impl fmt::Debug for HelloKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HelloKey(…)")
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// Who sent a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// A HELLO.
    Peer,
    /// An answer or a nudge.
    Registry,
}

/// What a datagram shows without a key. Believe none of it before the datagram opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clear {
    /// By its type byte.
    pub direction: Direction,
    /// The session.
    pub session: u64,
    /// The session's epoch.
    pub epoch: u64,
    /// The boot id.
    pub boot: u64,
    /// The counter of the direction.
    pub counter: u64,
}

impl Clear {
    fn encode(&self) -> [u8; CLEAR_BYTES] {
        let mut bytes = [0; CLEAR_BYTES];
        bytes[0] = match self.direction {
            Direction::Peer => TYPE_HELLO,
            Direction::Registry => TYPE_ANSWER,
        };
        let numbers = [self.session, self.epoch, self.boot, self.counter];
        for (place, number) in bytes[1..].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }
}

/// Reads what is in the clear: for finding the session and its key. `None` for a wrong size or type.
pub fn peek(datagram: &[u8]) -> Option<Clear> {
    let datagram: &Datagram = datagram.try_into().ok()?;
    let direction = match datagram[0] {
        TYPE_HELLO => Direction::Peer,
        TYPE_ANSWER => Direction::Registry,
        _ => return None,
    };
    let [session, epoch, boot, counter] = [1, 9, 17, 25].map(|at| u64_at(datagram, at));
    Some(Clear { direction, session, epoch, boot, counter })
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("a slice of 8"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("a slice of 4"))
}

/// What a peer says: I am here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The session.
    pub session: u64,
    /// The session's epoch.
    pub epoch: u64,
    /// The registry's boot id that the peer saw last.
    pub boot: u64,
    /// Grows with each HELLO of the session epoch; never 0.
    pub counter: u64,
    /// The interval in use: the next HELLO comes no later than this.
    pub interval_ms: u32,
}

impl Hello {
    /// Seals it with [`HelloKey::peer`]. The same counter must never be sealed twice with other content.
    pub fn seal(&self, key: &HelloKey) -> Datagram {
        let mut body = [0; SEALED_BYTES];
        body[..4].copy_from_slice(&self.interval_ms.to_be_bytes());
        let Hello { session, epoch, boot, counter, .. } = *self;
        key.seal(&Clear { direction: Direction::Peer, session, epoch, boot, counter }, body)
    }

    /// Opens a HELLO. `None` if it is none, or was not sealed by this key. Replays open: the caller
    /// compares the counter.
    pub fn open(datagram: &[u8], key: &HelloKey) -> Option<Hello> {
        let clear = peek(datagram).filter(|c| c.direction == Direction::Peer)?;
        let body = key.open(&clear, datagram)?;
        let Clear { session, epoch, boot, counter, .. } = clear;
        Some(Hello { session, epoch, boot, counter, interval_ms: u32_at(&body, 0) })
    }
}

/// What the registry says: the answer to a HELLO, or a nudge unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The session.
    pub session: u64,
    /// The session's epoch.
    pub epoch: u64,
    /// The registry's boot id.
    pub boot: u64,
    /// Grows with each datagram that the registry sends in a boot.
    pub counter: u64,
    /// The counter of the HELLO that is answered; 0 for a nudge.
    pub echo: u64,
    /// The interval to use from now on.
    pub interval_ms: u32,
    /// The account's version: a peer that is behind asks `sync`.
    pub version: u64,
}

impl Answer {
    /// Seals it with [`HelloKey::registry`] of its boot. The same counter must never be sealed twice.
    pub fn seal(&self, key: &HelloKey) -> Datagram {
        let mut body = [0; SEALED_BYTES];
        body[..8].copy_from_slice(&self.echo.to_be_bytes());
        body[8..12].copy_from_slice(&self.interval_ms.to_be_bytes());
        body[12..20].copy_from_slice(&self.version.to_be_bytes());
        let Answer { session, epoch, boot, counter, .. } = *self;
        key.seal(&Clear { direction: Direction::Registry, session, epoch, boot, counter }, body)
    }

    /// Opens an answer or nudge. `None` if it is none, or was not sealed by this key.
    pub fn open(datagram: &[u8], key: &HelloKey) -> Option<Answer> {
        let clear = peek(datagram).filter(|c| c.direction == Direction::Registry)?;
        let body = key.open(&clear, datagram)?;
        let Clear { session, epoch, boot, counter, .. } = clear;
        let (echo, interval_ms, version) = (u64_at(&body, 0), u32_at(&body, 8), u64_at(&body, 12));
        Some(Answer { session, epoch, boot, counter, echo, interval_ms, version })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn session(seed: u8) -> SessionKey {
        SessionKey::from_bytes([seed; 32])
    }

    proptest! {
        #[test]
        fn hello_and_answer_round_trip_under_their_key_alone(
            numbers: [u64; 6], interval_ms: u32, seed: u8, other: u8,
        ) {
            let [session_id, epoch, boot, counter, echo, version] = numbers;
            let hello = Hello { session: session_id, epoch, boot, counter, interval_ms };
            let peer = HelloKey::peer(&session(seed));
            let sealed = hello.seal(&peer);
            prop_assert_eq!(Hello::open(&sealed, &peer), Some(hello));
            prop_assert_eq!(Answer::open(&sealed, &peer), None);

            let answer =
                Answer { session: session_id, epoch, boot, counter, echo, interval_ms, version };
            let registry = HelloKey::registry(&session(seed), boot);
            let sealed = answer.seal(&registry);
            prop_assert_eq!(Answer::open(&sealed, &registry), Some(answer));
            prop_assert_eq!(Answer::open(&sealed, &peer), None, "the other direction's key");
            let later = HelloKey::registry(&session(seed), boot.wrapping_add(1));
            prop_assert_eq!(Answer::open(&sealed, &later), None, "another boot's key");
            if other != seed {
                let foreign = HelloKey::registry(&session(other), boot);
                prop_assert_eq!(Answer::open(&sealed, &foreign), None);
            }
        }

        #[test]
        fn a_changed_bit_anywhere_closes_it(bit in 0..DATAGRAM_BYTES * 8) {
            let key = HelloKey::peer(&session(1));
            let hello = Hello { session: 1, epoch: 2, boot: 3, counter: 4, interval_ms: 1000 };
            let mut sealed = hello.seal(&key);
            sealed[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Hello::open(&sealed, &key), None);
        }

        #[test]
        fn garbage_is_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let key = HelloKey::peer(&session(1));
            prop_assert_eq!(Hello::open(&bytes, &key), None);
            prop_assert_eq!(Answer::open(&bytes, &key), None);
            prop_assert!(peek(&bytes).is_none() || bytes.len() == DATAGRAM_BYTES);
        }
    }
}
