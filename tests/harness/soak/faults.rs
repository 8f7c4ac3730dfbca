//! What is done to daemons in a soak: each fault begins, lasts a while, and ends.

use crate::users::{Chance, Users};

/// A fault. Partitions, full disks and the like are such as well: whoever can cause them passes them to
/// [`super::SoakOptions`].
pub trait Fault: std::fmt::Debug {
    /// Its name in the report.
    fn name(&self) -> &'static str;

    /// How long it lasts, in milliseconds: from, to.
    fn lasts_ms(&self) -> (u64, u64) {
        (0, 5_000)
    }

    /// Whether it can be done to these users.
    fn is_possible(&self, _users: &Users) -> bool {
        true
    }

    /// Begins it, for users by choice of `chance`.
    fn begin(&mut self, users: &mut Users, chance: &mut Chance);

    /// Ends it: when this returns, everything is there that is needed for healing.
    fn end(&mut self, users: &mut Users);
}

/// The faults that need nothing but signals.
pub fn signals() -> Vec<Box<dyn Fault>> {
    vec![
        Box::new(KillPeers::default()),
        Box::new(KillRegistry),
        Box::new(KillAll),
        Box::new(PausePeers::default()),
        Box::new(PauseRegistry),
    ]
}

/// One to three different users.
pub(super) fn some(users: &Users, chance: &mut Chance) -> Vec<usize> {
    let count = 1 + chance.below(3);
    let all: Vec<usize> = (0..users.peers.len()).collect();
    let mut some: Vec<usize> = (0..count).map(|_| *chance.pick(&all)).collect();
    some.sort_unstable();
    some.dedup();
    some
}

#[derive(Debug, Default)]
struct KillPeers(Vec<usize>);

impl Fault for KillPeers {
    fn name(&self) -> &'static str {
        "kill -9 of peerds"
    }

    fn begin(&mut self, users: &mut Users, chance: &mut Chance) {
        self.0 = some(users, chance);
        for at in &self.0 {
            users.peers[*at].kill();
        }
    }

    fn end(&mut self, users: &mut Users) {
        for at in self.0.drain(..) {
            users.peers[at].restart();
        }
    }
}

#[derive(Debug)]
struct KillRegistry;

impl Fault for KillRegistry {
    fn name(&self) -> &'static str {
        "kill -9 of registryd"
    }

    fn begin(&mut self, users: &mut Users, _: &mut Chance) {
        users.registry.kill();
    }

    fn end(&mut self, users: &mut Users) {
        users.registry.restart();
    }
}

#[derive(Debug)]
struct KillAll;

impl Fault for KillAll {
    fn name(&self) -> &'static str {
        "kill -9 of everything"
    }

    fn begin(&mut self, users: &mut Users, _: &mut Chance) {
        users.kill_all();
    }

    fn end(&mut self, users: &mut Users) {
        users.restart_all();
    }
}

#[derive(Debug, Default)]
struct PausePeers(Vec<usize>);

impl Fault for PausePeers {
    fn name(&self) -> &'static str {
        "pause of peerds"
    }

    /// Longer than links take to find the other end dead, now and then.
    fn lasts_ms(&self) -> (u64, u64) {
        (200, 12_000)
    }

    fn begin(&mut self, users: &mut Users, chance: &mut Chance) {
        self.0 = some(users, chance);
        for at in &self.0 {
            users.peers[*at].daemon().freeze();
        }
    }

    fn end(&mut self, users: &mut Users) {
        for at in self.0.drain(..) {
            users.peers[at].daemon().thaw();
        }
    }
}

#[derive(Debug)]
struct PauseRegistry;

impl Fault for PauseRegistry {
    fn name(&self) -> &'static str {
        "pause of registryd"
    }

    fn begin(&mut self, users: &mut Users, _: &mut Chance) {
        users.registry.daemon().freeze();
    }

    fn end(&mut self, users: &mut Users) {
        users.registry.daemon().thaw();
    }
}
