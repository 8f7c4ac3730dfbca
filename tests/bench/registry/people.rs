//! The accounts that are played: names, keys and session keys, all told by their number.
//!
//! Number 1 is the account that asks; the peers that say HELLO come after it. Session ids are account
//! numbers.

use registryd_proto::{
    Digest, KeyBinding, Keypair, PublicKey, Username,
    hello::{HelloKey, SessionKey},
};

/// The number of the account that asks.
pub(crate) const ASKER: u64 = 1;

/// The number of the first peer that says HELLO.
pub(crate) const FIRST: u64 = 2;

/// The epoch of every session.
pub(crate) const EPOCH: u64 = 1;

/// What every account's password is.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// The registry's context of session keys: what it derives, this must derive as well.
const SESSION_KEY_CONTEXT: &str = "p2pchat registry session key 1";

/// The name of an account.
pub(crate) fn name(number: u64) -> Username {
    format!("u{number:07}").parse().expect("a short name of letters and digits")
}

/// The peer key of an account, or of a stranger: `what` keeps them apart.
pub(crate) fn keys(what: &str, number: u64) -> Keypair {
    Keypair::from_secret(
        &Digest::derive("p2pchat bench key 1", &[&number.to_be_bytes(), what.as_bytes()]).0,
    )
}

/// The binding of an account's own keys.
pub(crate) fn binding(registry: &PublicKey, number: u64, peer: &Keypair) -> KeyBinding {
    KeyBinding::new(registry, &name(number), peer, &keys("room", number))
}

/// The salt of a session.
pub(crate) fn salt(number: u64) -> [u8; 16] {
    let hash = Digest::derive("p2pchat bench salt 1", &[&number.to_be_bytes()]);
    *hash.0.first_chunk().expect("16 of 32 bytes")
}

/// The key of a session, by the registry's formula.
fn session_key(secret: &[u8; 32], number: u64) -> SessionKey {
    let (account, epoch) = (number.to_be_bytes(), EPOCH.to_be_bytes());
    let parts: [&[u8]; 4] = [secret, &account, &epoch, &salt(number)];
    SessionKey::from_bytes(Digest::derive(SESSION_KEY_CONTEXT, &parts).0)
}

/// What a peer holds of its session.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Seals its HELLOs.
    pub(crate) key: HelloKey,
    /// Derives what opens the answers.
    pub(crate) session: SessionKey,
    /// The boot id seen last.
    pub(crate) boot: u64,
    /// Of the last HELLO.
    pub(crate) counter: u64,
    /// The interval in use.
    pub(crate) interval_ms: u32,
    /// The boot in which a HELLO with its boot id was answered; 0 before.
    pub(crate) heard_in: u64,
}

/// All peers, the first with the number [`FIRST`]; every interval is the least until an answer tells another.
pub(crate) fn peers(secret: &[u8; 32], count: u64) -> Vec<Peer> {
    (FIRST..FIRST + count)
        .map(|number| {
            let session = session_key(secret, number);
            Peer {
                key: HelloKey::peer(&session),
                session,
                boot: 0,
                counter: 0,
                interval_ms: 1000,
                heard_in: 0,
            }
        })
        .collect()
}

/// Visits `count` places in an order that is not the one in memory, each once a round.
#[derive(Debug)]
pub(crate) struct Stride {
    at: usize,
    step: usize,
    count: usize,
}

impl Stride {
    /// Over places below `count`, which is not 0.
    pub(crate) fn over(count: usize) -> Self {
        let golden = (count as u128 * 618 / 1000) as usize;
        let step = (golden.max(1)..).find(|step| coprime(*step, count)).unwrap_or(1);
        Self { at: 0, step, count }
    }
}

impl Iterator for Stride {
    type Item = usize;
    fn next(&mut self) -> Option<usize> {
        self.at = (self.at + self.step) % self.count;
        Some(self.at)
    }
}

fn coprime(mut a: usize, mut b: usize) -> bool {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stride_visits_every_place_once_a_round() {
        for count in [1, 2, 3, 10, 618, 1000, 4096] {
            let mut places: Vec<usize> = Stride::over(count).take(count).collect();
            places.sort_unstable();
            assert_eq!(places, (0..count).collect::<Vec<_>>(), "{count}");
        }
    }
}
