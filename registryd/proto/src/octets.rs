//! Reading a fixed number of bytes from a binary format: as serde reads an array, but quick.
//!
//! Serde's own array is built of one local for each element, behind as many branches: for keys and hashes,
//! of which a vector holds hundreds, that was a seventh of the time of a peer under load. The bytes on the
//! wire are the same.

use std::fmt;

use serde::{
    Deserializer,
    de::{Error, SeqAccess, Visitor},
};

/// Reads what serializing `[u8; N]` wrote.
pub(crate) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
    deserializer: D,
) -> Result<[u8; N], D::Error> {
    deserializer.deserialize_tuple(N, Octets::<N>)
}

struct Octets<const N: usize>;

impl<'de, const N: usize> Visitor<'de> for Octets<N> {
    type Value = [u8; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{N} bytes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<[u8; N], A::Error> {
        let mut bytes = [0; N];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = seq.next_element()?.ok_or_else(|| A::Error::invalid_length(at, &self))?;
        }
        Ok(bytes)
    }
}
