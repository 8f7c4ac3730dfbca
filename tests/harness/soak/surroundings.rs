//! What is done to what lies around daemons: the ways between them, and their disks.

use super::faults::{Fault, some};
use crate::{
    network::Quality,
    users::{Chance, Ground, Users},
};

/// How long a cut lasts: now and then longer than links take to find the other end dead.
const CUT_MS: (u64, u64) = (200, 12_000);
/// How long ways are bad.
const BAD_MS: (u64, u64) = (2_000, 12_000);

/// The begin of a fault of the ways.
type Begin = fn(&Ground, &[usize], &mut Chance);

/// The faults of networks and disks, for users who are apart and have small disks.
pub fn surroundings() -> Vec<Box<dyn Fault>> {
    let ways = |name, lasts_ms, begin: Begin| -> Box<dyn Fault> {
        Box::new(Ways { name, lasts_ms, begin })
    };
    vec![
        ways("partitions of users", CUT_MS, cut_users),
        ways("partitions of the registry", CUT_MS, cut_registry),
        ways("rooms split in halves", CUT_MS, cut_in_halves),
        ways("loss, delay and reordering everywhere", BAD_MS, make_bad),
        Box::new(FullDisks::default()),
    ]
}

/// Something is wrong with the ways between hosts until all are perfect again.
#[derive(Debug)]
struct Ways {
    name: &'static str,
    lasts_ms: (u64, u64),
    /// Makes it so, for these users.
    begin: Begin,
}

impl Fault for Ways {
    fn name(&self) -> &'static str {
        self.name
    }

    fn lasts_ms(&self) -> (u64, u64) {
        self.lasts_ms
    }

    fn is_possible(&self, users: &Users) -> bool {
        users.ground.is_some()
    }

    fn begin(&mut self, users: &mut Users, chance: &mut Chance) {
        let some = some(users, chance);
        (self.begin)(ground(users), &some, chance);
    }

    fn end(&mut self, users: &mut Users) {
        ground(users).net.heal_all();
    }
}

fn ground(users: &Users) -> &Ground {
    users.ground.as_ref().expect("users who are not apart have no such fault")
}

/// Some users and all others do not hear each other, or one side does not hear the other.
fn cut_users(ground: &Ground, some: &[usize], chance: &mut Chance) {
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

/// Some users do not reach the registry.
fn cut_registry(ground: &Ground, some: &[usize], _: &mut Chance) {
    some.iter().for_each(|at| ground.net.cut(&ground.hosts[*at], &ground.hall));
}

/// Everybody is in one of two halves that do not hear each other.
fn cut_in_halves(ground: &Ground, _: &[usize], _: &mut Chance) {
    let (one, other) = ground.hosts.split_at(ground.hosts.len() / 2);
    one.iter().for_each(|a| other.iter().for_each(|b| ground.net.cut(a, b)));
}

/// All ways lose, double, delay and reorder.
fn make_bad(ground: &Ground, _: &[usize], chance: &mut Chance) {
    ground.net.set_all(Quality::bad(*chance.pick(&[0.01, 0.05, 0.2])));
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
