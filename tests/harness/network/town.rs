//! A registry and users, each on a host of its own in one network, and weather over them.

use std::{
    ops::{Deref, DerefMut},
    thread,
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{Host, Network, Quality};
use crate::{
    peer::{Peer, PeerOptions},
    registry::{LOG, Registry},
    wait::{DEADLINE, eventually},
};

/// The port of the registry.
const PORT: u16 = 4700;

/// Starts a registry on a host.
///
/// # Panics
/// If it does not get ready.
pub(crate) fn registry_at(hall: &Host, log_filter: &str) -> Registry {
    Registry::start_under(hall.prefix(), &format!("{}:{PORT}", hall.address()), log_filter)
}

/// A network with a registry in it. Keep it longer than the users. Dropped, it fails a test that passed if
/// a packet went to an address that no host has and nobody expected.
#[derive(Debug)]
pub struct Town {
    /// The registry.
    pub registry: Registry,
    /// Where the registry is.
    pub hall: Host,
    /// What is between all of them.
    pub net: Network,
}

/// A user on a host; mostly the [`Peer`].
#[derive(Debug)]
pub struct User {
    peer: Peer,
    /// Where the peer is.
    pub host: Host,
}

impl Town {
    /// A registry and nobody; `None` where there can be no network.
    ///
    /// # Panics
    /// If something does not start.
    pub fn empty(seed: u64) -> Option<Self> {
        let net = Network::new(seed)?;
        let hall = net.host();
        let registry = registry_at(&hall, LOG);
        Some(Self { registry, hall, net })
    }

    /// A registry and users who are online and let everybody write.
    ///
    /// # Panics
    /// If something does not start.
    pub fn of<const N: usize>(seed: u64, names: [&str; N]) -> Option<(Self, [User; N])> {
        let town = Self::empty(seed)?;
        let users = names.map(|name| town.settle(name));
        Some((town, users))
    }

    /// One more user who is online and lets everybody write, on a host that all reach.
    ///
    /// # Panics
    /// If anything fails.
    pub fn settle(&self, name: &str) -> User {
        let host = self.net.host();
        self.settle_at(name, host, &self.registry.address())
    }

    /// So many users, as [`Town::settle`] makes them: `user0`, `user1` and so on.
    ///
    /// # Panics
    /// If anything fails.
    pub fn crowd(&self, count: usize) -> Vec<User> {
        (0..count).map(|n| self.settle(&format!("user{n}"))).collect()
    }

    /// One on a host of the caller's, where the registry has this address.
    ///
    /// # Panics
    /// If anything fails.
    pub fn settle_at(&self, name: &str, host: Host, registry: &str) -> User {
        let options = PeerOptions { prefix: host.prefix(), ..PeerOptions::default() };
        let peer = Peer::start_with(name, options);
        peer.create_account(registry).ok();
        peer.login(&[]).ok();
        peer.ctl(&["policy", "--default", "allow"]).ok();
        User { peer, host }
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        let strangers = self.net.strangers();
        assert!(strangers.is_empty() || thread::panicking(), "packets to strangers: {strangers:?}");
    }
}

impl Deref for User {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        &self.peer
    }
}

impl DerefMut for User {
    fn deref_mut(&mut self) -> &mut Peer {
        &mut self.peer
    }
}

/// What happens to a network by chance: the same seed gives the same faults in the same order.
#[derive(Debug)]
pub struct Weather {
    luck: StdRng,
}

impl Weather {
    /// Weather of this seed.
    pub fn new(seed: u64) -> Self {
        Self { luck: StdRng::seed_from_u64(seed) }
    }

    /// Changes something between two of `hosts`, of which there must be two at least, or heals it, and tells
    /// what it was. When all is to end well, [`Network::heal_all`] is the last word.
    ///
    /// # Panics
    /// With fewer than two hosts.
    pub fn turn(&mut self, net: &Network, hosts: &[&Host]) -> String {
        let one = self.luck.random_range(0..hosts.len());
        let other = (one + self.luck.random_range(1..hosts.len())) % hosts.len();
        let (a, b) = (hosts[one], hosts[other]);
        let loss = [0.01, 0.1, 0.3][self.luck.random_range(0..3)];
        match self.luck.random_range(0..8) {
            0 => {
                net.cut(a, b);
                format!("{one} and {other} are cut off from each other")
            }
            1 => {
                net.set_one_way(a, b, Quality::CUT);
                format!("nothing gets from {one} to {other}")
            }
            2 | 3 => {
                net.set(a, b, Quality::bad(loss));
                format!("between {one} and {other} {loss} is lost")
            }
            4 => {
                for host in hosts {
                    net.cut(a, host);
                }
                format!("{one} is cut off from all")
            }
            5 => {
                net.heal_all();
                "all is healed".to_owned()
            }
            _ => {
                net.heal(a, b);
                format!("{one} and {other} are healed")
            }
        }
    }
}

/// Waits until each of `users` sees exactly these messages in its history of the room, in one order for all.
///
/// # Panics
/// If that does not happen.
#[track_caller]
pub fn converge(room: &str, users: &[&Peer], expected: usize) -> Vec<(String, String)> {
    eventually("all members have one history", 3 * DEADLINE, || {
        let first = users.first()?.history(&["--room", room]);
        let same = users.iter().all(|user| user.history(&["--room", room]) == first);
        (first.len() == expected && same).then_some(first)
    })
}
