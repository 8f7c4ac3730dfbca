//! What is done to what lies around daemons: the ways between them, and their disks.

use super::faults::{Fault, some};
use crate::{
    network::{Host, Quality},
    users::{Chance, Ground, Users},
};

/// The faults of networks and disks, for users who are apart and have small disks.
pub fn surroundings() -> Vec<Box<dyn Fault>> {
    vec![
        Box::new(CutPeers),
        Box::new(CutRegistry),
        Box::new(Halves),
        Box::new(BadWays),
        Box::new(FullDisks::default()),
    ]
}

fn ground(users: &Users) -> &Ground {
    users.ground.as_ref().expect("users who are not apart have no such fault")
}

fn heal(users: &mut Users) {
    ground(users).net.heal_all();
}

/// Some users and all others do not hear each other, or one side does not hear the other.
#[derive(Debug)]
struct CutPeers;

impl Fault for CutPeers {
    fn name(&self) -> &'static str {
        "partitions of users"
    }

    /// Longer than links take to find the other end dead, now and then.
    fn lasts_ms(&self) -> (u64, u64) {
        (200, 12_000)
    }

    fn is_possible(&self, users: &Users) -> bool {
        users.ground.is_some()
    }

    fn begin(&mut self, users: &mut Users, chance: &mut Chance) {
        let (some, ground) = (some(users, chance), ground(users));
        let way = chance.below(3);
        for one in some.iter().map(|at| &ground.hosts[*at]) {
            for other in ground.hosts.iter().filter(|other| other.address() != one.address()) {
                match way {
                    0 => ground.net.cut(one, other),
                    1 => ground.net.set_one_way(one, other, Quality::CUT),
                    _ => ground.net.set_one_way(other, one, Quality::CUT),
                }
            }
        }
    }

    fn end(&mut self, users: &mut Users) {
        heal(users);
    }
}

/// Some users do not reach the registry.
#[derive(Debug)]
struct CutRegistry;

impl Fault for CutRegistry {
    fn name(&self) -> &'static str {
        "partitions of the registry"
    }

    fn lasts_ms(&self) -> (u64, u64) {
        (200, 12_000)
    }

    fn is_possible(&self, users: &Users) -> bool {
        users.ground.is_some()
    }

    fn begin(&mut self, users: &mut Users, chance: &mut Chance) {
        let (some, ground) = (some(users, chance), ground(users));
        some.iter().for_each(|at| ground.net.cut(&ground.hosts[*at], &ground.hall));
    }

    fn end(&mut self, users: &mut Users) {
        heal(users);
    }
}

/// Everybody is in one of two halves that do not hear each other.
#[derive(Debug)]
struct Halves;

impl Fault for Halves {
    fn name(&self) -> &'static str {
        "rooms split in halves"
    }

    fn lasts_ms(&self) -> (u64, u64) {
        (200, 12_000)
    }

    fn is_possible(&self, users: &Users) -> bool {
        users.ground.is_some()
    }

    fn begin(&mut self, users: &mut Users, _: &mut Chance) {
        let ground = ground(users);
        let (one, other) = ground.hosts.split_at(ground.hosts.len() / 2);
        let cut = |a: &Host| other.iter().for_each(|b| ground.net.cut(a, b));
        one.iter().for_each(cut);
    }

    fn end(&mut self, users: &mut Users) {
        heal(users);
    }
}

/// All ways lose, double, delay and reorder.
#[derive(Debug)]
struct BadWays;

impl Fault for BadWays {
    fn name(&self) -> &'static str {
        "loss, delay and reordering everywhere"
    }

    fn lasts_ms(&self) -> (u64, u64) {
        (2_000, 12_000)
    }

    fn is_possible(&self, users: &Users) -> bool {
        users.ground.is_some()
    }

    fn begin(&mut self, users: &mut Users, chance: &mut Chance) {
        let loss = *chance.pick(&[0.01, 0.05, 0.2]);
        ground(users).net.set_all(Quality::bad(loss));
    }

    fn end(&mut self, users: &mut Users) {
        heal(users);
    }
}

/// The disks of some users are full.
#[derive(Debug, Default)]
struct FullDisks(Vec<usize>);

impl Fault for FullDisks {
    fn name(&self) -> &'static str {
        "full disks of users"
    }

    fn lasts_ms(&self) -> (u64, u64) {
        (1_000, 8_000)
    }

    fn is_possible(&self, users: &Users) -> bool {
        users.peers.iter().all(|peer| peer.disk().is_some())
    }

    fn begin(&mut self, users: &mut Users, chance: &mut Chance) {
        self.0 = some(users, chance);
        self.0.iter().filter_map(|at| users.peers[*at].disk()).for_each(|disk| disk.fill());
    }

    fn end(&mut self, users: &mut Users) {
        let full: Vec<usize> = self.0.drain(..).collect();
        full.iter().filter_map(|at| users.peers[*at].disk()).for_each(|disk| disk.free());
    }
}
