//! Ed25519 keys and signatures.
//!
//! Every signature is made under a domain, a constant text that names what is signed, so that bytes
//! signed for one purpose never pass for another: the signed message is the domain, a zero byte, and the
//! payload. Public keys are written as 52 characters of base32 (RFC 4648, lower case, no padding).

use std::{fmt, str::FromStr};

use data_encoding::{BASE32_NOPAD, BASE64};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use zeroize::Zeroizing;

use crate::octets;

/// Why bytes or a text are no key or signature, or a signature does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not 52 characters of lower-case base32.
    #[error("a key is 52 characters of base32")]
    Text,
    /// 32 bytes that are no point of the curve, or a point of small order.
    #[error("not an Ed25519 public key")]
    Point,
    /// Not 64 bytes.
    #[error("a signature has 64 bytes")]
    SignatureLength,
    /// The signature was not made by this key over these bytes in this domain.
    #[error("the signature does not hold")]
    Signature,
    /// The system gave no randomness.
    #[error("the system gave no randomness")]
    Randomness,
}

/// An Ed25519 public key.
///
/// One made by [`PublicKey::from_bytes`], from text, or of a [`Keypair`] is a point of the curve that is not of
/// small order. One read in a binary format is 32 bytes and nothing more: a vector names hundreds of keys, and
/// checking a point costs as much as a tenth of a signature. Invariant: no signature holds under a key that is
/// no point or of small order, for [`PublicKey::verify`] refuses it each time; so such a key is a name that
/// nobody bears. TLS and QUIC check the keys that connections show by themselves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Checks the bytes and wraps them.
    ///
    /// # Errors
    /// [`KeyError::Point`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        match VerifyingKey::from_bytes(bytes) {
            Ok(key) if !key.is_weak() => Ok(Self(*bytes)),
            _ => Err(KeyError::Point),
        }
    }

    /// The 32 bytes of RFC 8032.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Checks `signature` over `payload` in `domain`, strictly (RFC 8032 with no malleability, and under no key
    /// of small order, for which anybody can make signatures).
    ///
    /// # Errors
    /// [`KeyError::Point`] for bytes that are no point, else [`KeyError::Signature`].
    pub fn verify(
        &self,
        domain: &str,
        payload: &[u8],
        signature: &Signature,
    ) -> Result<(), KeyError> {
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_| KeyError::Point)?;
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        key.verify_strict(&domain_message(domain, payload), &signature)
            .map_err(|_| KeyError::Signature)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_string();
        f.write_str(&text[..10])
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text.len() != 52 || text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(KeyError::Text);
        }
        let bytes = BASE32_NOPAD
            .decode(text.to_ascii_uppercase().as_bytes())
            .map_err(|_| KeyError::Text)?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| KeyError::Text)?;
        Self::from_bytes(&bytes)
    }
}

/// Text in formats for people (JSON), 32 bytes in the others.
impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
        } else {
            Ok(Self(octets::deserialize(deserializer)?))
        }
    }
}

/// An Ed25519 signature: 64 bytes, checked only by [`PublicKey::verify`]. Base64 in JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 64]);

impl Signature {
    /// Wraps the bytes; whether they hold is for [`PublicKey::verify`] to say.
    pub fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The 64 bytes of RFC 8032.
    pub fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({}…)", BASE64.encode(&self.0[..6]))
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&BASE64.encode(&self.0))
        } else {
            let (a, b) = self.0.split_at(32);
            (as_half(a), as_half(b)).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut bytes = [0; 64];
        if deserializer.is_human_readable() {
            let decoded = BASE64
                .decode(String::deserialize(deserializer)?.as_bytes())
                .map_err(D::Error::custom)?;
            if decoded.len() != bytes.len() {
                return Err(D::Error::custom(KeyError::SignatureLength));
            }
            bytes.copy_from_slice(&decoded);
        } else {
            let (Half(a), Half(b)) = Deserialize::deserialize(deserializer)?;
            bytes[..32].copy_from_slice(&a);
            bytes[32..].copy_from_slice(&b);
        }
        Ok(Self(bytes))
    }
}

/// Half a signature in a binary format.
struct Half([u8; 32]);

impl<'de> Deserialize<'de> for Half {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        octets::deserialize(deserializer).map(Self)
    }
}

fn as_half(half: &[u8]) -> [u8; 32] {
    half.try_into().expect("split_at(32) of 64 bytes gives two halves of 32")
}

/// A private key with its public key. Debug shows the public half only; the secret is wiped on drop.
#[derive(Clone)]
pub struct Keypair {
    signing: SigningKey,
    public: PublicKey,
}

impl Keypair {
    /// Draws a new key from the system's randomness.
    ///
    /// # Errors
    /// [`KeyError::Randomness`].
    pub fn generate() -> Result<Self, KeyError> {
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(secret.as_mut()).map_err(|_| KeyError::Randomness)?;
        Ok(Self::from_secret(&secret))
    }

    /// The key of a 32-byte secret (the RFC 8032 seed), as a key file holds it.
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        let signing = SigningKey::from_bytes(secret);
        let public = PublicKey(signing.verifying_key().to_bytes());
        Self { signing, public }
    }

    /// The 32-byte secret, for a key file of mode 0600 and for the TLS and QUIC stacks.
    pub fn secret(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.signing.to_bytes())
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// Signs `payload` in `domain`. Deterministic (RFC 8032).
    pub fn sign(&self, domain: &str, payload: &[u8]) -> Signature {
        Signature(self.signing.sign(&domain_message(domain, payload)).to_bytes())
    }
}

impl fmt::Debug for Keypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keypair({:?})", self.public)
    }
}

fn domain_message(domain: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(domain.len() + 1 + payload.len());
    message.extend_from_slice(domain.as_bytes());
    message.push(0);
    message.extend_from_slice(payload);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> Keypair {
        Keypair::from_secret(&[seed; 32])
    }

    #[test]
    fn a_signature_holds_for_its_domain_payload_and_key_only() {
        let signature = key(1).sign("card", b"payload");
        assert_eq!(key(1).public().verify("card", b"payload", &signature), Ok(()));
        for (who, domain, payload) in
            [(1, "other", &b"payload"[..]), (1, "card", b"paylaod"), (2, "card", b"payload")]
        {
            let verdict = key(who).public().verify(domain, payload, &signature);
            assert_eq!(verdict, Err(KeyError::Signature));
        }
    }

    #[test]
    fn text_round_trips_and_rejects_what_is_no_key() {
        let public = key(3).public();
        assert_eq!(public.to_string().parse(), Ok(public));
        assert_eq!("abc".parse::<PublicKey>(), Err(KeyError::Text));
        assert_eq!(public.to_string().to_uppercase().parse::<PublicKey>(), Err(KeyError::Text));
        // The identity point is of small order: any signature would hold for it.
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(PublicKey::from_bytes(&identity), Err(KeyError::Point));
    }

    #[test]
    fn a_key_read_as_bytes_may_be_weak_and_verifies_nothing() {
        let read = |bytes: [u8; 32]| {
            let bytes = serde::de::value::SeqDeserializer::<_, serde::de::value::Error>::new(
                bytes.into_iter(),
            );
            PublicKey(octets::deserialize(bytes).expect("32 bytes"))
        };
        assert_eq!(read(*key(1).public().as_bytes()), key(1).public());
        let mut identity = [0; 32];
        identity[0] = 1;
        // With R = A = the identity and s = 0 the equation of a signature holds for every payload.
        let mut forged = [0; 64];
        forged[0] = 1;
        let verdict = read(identity).verify("card", b"payload", &Signature::from_bytes(forged));
        assert_eq!(verdict, Err(KeyError::Signature));
        let no_point = (0..=255_u8)
            .map(|n| [n; 32])
            .find(|bytes| VerifyingKey::from_bytes(bytes).is_err())
            .expect("half of all numbers are no point");
        let verdict = read(no_point).verify("card", b"payload", &Signature::from_bytes(forged));
        assert_eq!(verdict, Err(KeyError::Point));
    }

    #[test]
    fn debug_of_a_keypair_hides_the_secret() {
        let pair = key(7);
        let shown = format!("{pair:?}");
        assert!(shown.len() < 30, "{shown}");
        assert!(!shown.contains("7, 7"));
    }
}
