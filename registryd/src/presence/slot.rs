//! What presence keeps of one session: 128 bytes, two cache lines, whatever the peer does.
//!
//! Used by `presence` alone. It knows no other slot and no clock.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use registryd_proto::hello::{Hello, HelloKey};
use zeroize::{Zeroize as _, ZeroizeOnDrop};

use super::pace::INTERVAL_MS_MAX;

/// Missed intervals after which a peer is offline.
pub(super) const MISSED_INTERVALS: u32 = 3;

/// Stands for no HELLO at all: the clock does not come so far.
const NEVER: u64 = u64::MAX;

/// The keys of both directions of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionKeys {
    /// Opens what the peer sends.
    pub peer: HelloKey,
    /// Seals what goes to it.
    pub registry: HelloKey,
}

/// What opens and seals the datagrams of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Secret {
    /// The keys are still to be derived from this.
    Salt([u8; 16]),
    /// The keys, derived once, when the first datagram of the boot opened.
    Keys(SessionKeys),
}

/// What the peer has shown in its session since the boot. Decides what else in the slot means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// Nothing: the secret is a salt.
    Nothing,
    /// That it has the key: the secret is the keys.
    Key,
    /// As well that it is there, from an address of IPv4.
    AliveV4,
    /// As well that it is there, from an address of IPv6.
    AliveV6,
}

/// Where a slot stands with the wheel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Not in it.
    Out,
    /// In it, and counted as online until it comes out.
    Counted,
    /// In it, not counted.
    Uncounted,
    /// In it, and nobody's: free when it comes out.
    Left,
}

/// One session.
#[derive(Debug, Clone)]
#[repr(align(64))]
pub(super) struct Slot {
    /// A salt of 16 bytes, or two keys.
    secret: [u8; 64],
    pub(super) epoch: u64,
    pub(super) version: u64,
    /// Of the last HELLO that counted; 0 before the first.
    pub(super) counter: u64,
    last_hello_ms: u64,
    /// Of the last HELLO that counted; an IPv4 address as IPv6 maps it.
    ip: [u8; 16],
    /// The next in a bucket of the wheel, or in the list of what is free.
    pub(super) next: u32,
    /// How long after the last HELLO the peer counts as online; 0 before the first of the epoch.
    patience_ms: u32,
    /// Offered in the last answer.
    offered_ms: u32,
    port: u16,
    shown: Shown,
    pub(super) turn: Turn,
}

const _: () = assert!(size_of::<Slot>() == 128);

impl Slot {
    /// Nobody's.
    pub(super) const EMPTY: Slot = Slot {
        secret: [0; 64],
        epoch: 0,
        version: 0,
        counter: 0,
        last_hello_ms: NEVER,
        ip: [0; 16],
        next: 0,
        patience_ms: 0,
        offered_ms: 0,
        port: 0,
        shown: Shown::Nothing,
        turn: Turn::Out,
    };

    /// Begins an epoch: offline until its first HELLO. When the account was last heard, where it stands with
    /// the wheel, and a version that is newer stay.
    pub(super) fn begin(&mut self, epoch: u64, salt: &[u8; 16], version: u64, offer_ms: u32) {
        self.secret.zeroize();
        self.secret[..16].copy_from_slice(salt);
        self.shown = Shown::Nothing;
        (self.epoch, self.version) = (epoch, self.version.max(version));
        (self.counter, self.patience_ms, self.offered_ms) = (0, 0, offer_ms);
    }

    /// Wipes the keys, and forgets whose it was. Where it stands with the wheel stays.
    pub(super) fn wipe(&mut self) {
        self.secret.zeroize();
        *self = Slot { next: self.next, turn: self.turn, ..Slot::EMPTY };
    }

    pub(super) fn secret(&self) -> Secret {
        let (first, second) = self.secret.split_at(32);
        let key = |half: &[u8]| {
            let mut bytes = [0; 32];
            bytes.copy_from_slice(half);
            HelloKey::from_bytes(bytes)
        };
        match self.shown {
            Shown::Nothing => {
                let mut salt = [0; 16];
                salt.copy_from_slice(&first[..16]);
                Secret::Salt(salt)
            }
            Shown::Key | Shown::AliveV4 | Shown::AliveV6 => {
                Secret::Keys(SessionKeys { peer: key(first), registry: key(second) })
            }
        }
    }

    /// Keeps the keys in place of the salt: they opened a datagram.
    pub(super) fn learn(&mut self, keys: &SessionKeys) {
        if self.shown == Shown::Nothing {
            self.secret[..32].copy_from_slice(keys.peer.expose());
            self.secret[32..].copy_from_slice(keys.registry.expose());
            self.shown = Shown::Key;
        }
    }

    /// Takes a HELLO that counts.
    pub(super) fn hear(&mut self, hello: &Hello, from: SocketAddr, offer_ms: u32, now_ms: u64) {
        self.counter = hello.counter;
        self.last_hello_ms = now_ms;
        // The peer uses what it says, or what it was offered in the answer before or is offered in this one.
        let longest = hello.interval_ms.min(INTERVAL_MS_MAX).max(self.offered_ms).max(offer_ms);
        self.offered_ms = offer_ms;
        self.patience_ms = longest.saturating_mul(MISSED_INTERVALS);
        if self.shown != Shown::Nothing {
            (self.ip, self.port, self.shown) = pack(from);
        }
    }

    /// The longest interval that the peer may be using.
    pub(super) fn interval_ms(&self) -> u32 {
        self.patience_ms / MISSED_INTERVALS
    }

    /// Offline from here on.
    pub(super) fn deadline_ms(&self) -> u64 {
        match self.last_hello_ms {
            NEVER => 0,
            at => at.saturating_add(u64::from(self.patience_ms)),
        }
    }

    pub(super) fn is_online(&self, now_ms: u64) -> bool {
        now_ms < self.deadline_ms()
    }

    pub(super) fn last_hello_ms(&self) -> Option<u64> {
        (self.last_hello_ms != NEVER).then_some(self.last_hello_ms)
    }

    /// Where the last HELLO that counted came from, in this epoch.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        let v6 = Ipv6Addr::from(self.ip);
        match self.shown {
            Shown::Nothing | Shown::Key => None,
            Shown::AliveV4 => {
                Some(SocketAddr::new(v6.to_ipv4_mapped().map_or(v6.into(), IpAddr::V4), self.port))
            }
            Shown::AliveV6 => Some(unpack_v6(v6, self.port)),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl ZeroizeOnDrop for Slot {}

fn pack(from: SocketAddr) -> ([u8; 16], u16, Shown) {
    match from {
        SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped().octets(), v4.port(), Shown::AliveV4),
        SocketAddr::V6(v6) => {
            let mut octets = v6.ip().octets();
            if v6.ip().is_unicast_link_local() {
                // Says nothing without its interface, whose number stands where RFC 4291 (2.5.6) has zeros.
                octets[4..8].copy_from_slice(&v6.scope_id().to_be_bytes());
            }
            (octets, v6.port(), Shown::AliveV6)
        }
    }
}

fn unpack_v6(ip: Ipv6Addr, port: u16) -> SocketAddr {
    if !ip.is_unicast_link_local() {
        return SocketAddr::new(ip.into(), port);
    }
    let mut octets = ip.octets();
    let scope = u32::from_be_bytes([octets[4], octets[5], octets[6], octets[7]]);
    octets[4..8].fill(0);
    SocketAddrV6::new(octets.into(), port, 0, scope).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(from: SocketAddr) -> Option<SocketAddr> {
        let mut slot = Slot::EMPTY;
        slot.begin(1, &[3; 16], 0, 1000);
        let key = HelloKey::from_bytes([1; 32]);
        slot.learn(&SessionKeys { peer: key.clone(), registry: key });
        let hello = Hello { session: 2, epoch: 1, boot: 7, counter: 1, interval_ms: 1000 };
        slot.hear(&hello, from, 1000, 5);
        slot.address()
    }

    #[test]
    fn an_address_comes_back_as_it_was() {
        for text in [
            "192.0.2.1:9",
            "[::ffff:192.0.2.1]:9",
            "[2001:db8::1]:65535",
            "[fe80::1%7]:1",
            "[::1]:2",
        ] {
            let from = text.parse().expect("an address");
            assert_eq!(heard(from), Some(from), "{text}");
        }
    }

    #[test]
    fn a_secret_is_a_salt_until_its_keys_are_known_and_gone_at_the_end() {
        let mut slot = Slot::EMPTY;
        slot.begin(1, &[3; 16], 0, 1000);
        assert_eq!(slot.secret(), Secret::Salt([3; 16]));
        let [peer, registry] = [1, 2].map(|seed| HelloKey::from_bytes([seed; 32]));
        let keys = SessionKeys { peer, registry };
        slot.learn(&keys);
        assert_eq!(slot.secret(), Secret::Keys(keys));
        slot.begin(2, &[4; 16], 0, 1000);
        assert_eq!(slot.secret(), Secret::Salt([4; 16]));
        slot.wipe();
        assert_eq!(slot.secret, [0; 64]);
    }
}
