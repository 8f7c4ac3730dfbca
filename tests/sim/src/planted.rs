//! The faults that are planted to test the checks, each with the number of seeds within which it must be
//! found. A check that cannot fail is worth nothing.

use peerd::core::{planted::Planted as PeersPlanted, replica::Faults};
use registryd::simulation::Planted as IndexPlanted;

use crate::{schedule::Schedule, script, shrink::play_caught, whole};

/// What is broken on purpose.
#[derive(Debug, Clone, Copy)]
enum Broken {
    /// In a world of replicas.
    Replicas(script::Planted),
    /// In a whole world.
    Whole(whole::planted::Planted),
}

/// A fault, and how soon it must be found.
#[derive(Debug, Clone, Copy)]
pub struct PlantedFault {
    /// What it is.
    pub name: &'static str,
    /// It must be found below this seed.
    pub limit: u64,
    broken: Broken,
}

impl PlantedFault {
    /// The first seed at which it is found.
    pub fn found_at(&self) -> Option<u64> {
        (0..self.limit).find(|seed| match self.broken {
            Broken::Replicas(planted) => {
                !play_caught(&Schedule::draw(*seed), planted).violations.is_empty()
            }
            Broken::Whole(planted) => !whole::run(*seed, planted).violations.is_empty(),
        })
    }
}

/// All of them.
pub fn all() -> Vec<PlantedFault> {
    let mut all = in_machines();
    all.extend(in_replicas());
    all.extend(in_peers());
    all.extend(in_index());
    all
}

/// In what carries out effects, and in what is between nodes.
fn in_machines() -> Vec<PlantedFault> {
    use script::Planted;

    let fault =
        |name, limit, planted| PlantedFault { name, limit, broken: Broken::Replicas(planted) };
    let none = Planted::default();
    let served = Faults { serve_anyone: true, ..Faults::default() };
    vec![
        fault("acknowledge before the commit", 500, Planted { effects_first: true, ..none }),
        fault("show before the commit", 100, Planted { shows_first: true, ..none }),
        fault(
            "link to and serve anyone",
            200,
            Planted { link_anyone: true, replica: served, ..none },
        ),
        fault(
            "pass on altered entries unchecked",
            300,
            Planted { alters: true, trusts: true, ..none },
        ),
        PlantedFault {
            name: "tell users before the commit",
            limit: 100,
            broken: Broken::Whole(whole::planted::Planted {
                effects_first: true,
                ..whole::planted::Planted::default()
            }),
        },
    ]
}

/// In a replica.
fn in_replicas() -> Vec<PlantedFault> {
    let fault = |name, limit, replica| PlantedFault {
        name,
        limit,
        broken: Broken::Replicas(script::Planted { replica, ..script::Planted::default() }),
    };
    let none = Faults::default();
    vec![
        fault("serve a body to a non-member", 500, Faults { serve_anyone: true, ..none }),
        fault("no dedup", 100, Faults { no_dedup: true, ..none }),
        fault("no catch-up after a connect", 20, Faults { no_catch_up: true, ..none }),
        fault("claim what is not held", 20, Faults { claim_more: true, ..none }),
        fault("hide exceptions", 200, Faults { hide_exceptions: true, ..none }),
        fault("drop a vector", 50, Faults { drop_vectors: true, ..none }),
        fault("forward nothing", 200, Faults { no_forward: true, ..none }),
        fault("reverse the order of a frame", 50, Faults { reverse_frames: true, ..none }),
        fault("skip a number", 50, Faults { skip_numbers: true, ..none }),
        fault("reuse numbers after a restore", 500, Faults { reuse_streams: true, ..none }),
        fault("a Lamport clock that hears nothing", 50, Faults { deaf_lamport: true, ..none }),
        fault("give up without asking", 300, Faults { give_up_at_once: true, ..none }),
        fault("take one confirmation for all", 100, Faults { one_is_all: true, ..none }),
    ]
}

/// In a whole peerd.
fn in_peers() -> Vec<PlantedFault> {
    let fault = |name, limit, peers| PlantedFault {
        name,
        limit,
        broken: Broken::Whole(whole::planted::Planted {
            peers,
            ..whole::planted::Planted::default()
        }),
    };
    let none = PeersPlanted::default();
    let replica = Faults { no_dedup: true, ..Faults::default() };
    vec![
        fault("show twice, in whole peers", 50, PeersPlanted { replica, ..none }),
        fault("keep the slot of an ended chat", 50, PeersPlanted { keeps_slot: true, ..none }),
        fault("stay deaf to the end of a chat", 200, PeersPlanted { deaf_to_end: true, ..none }),
        fault("go on though superseded", 200, PeersPlanted { never_superseded: true, ..none }),
        fault("wrong dial rule", 200, PeersPlanted { keeps_own_dial: true, ..none }),
    ]
}

/// In registryd.
fn in_index() -> Vec<PlantedFault> {
    let fault = |name, limit, index| PlantedFault {
        name,
        limit,
        broken: Broken::Whole(whole::planted::Planted {
            index,
            ..whole::planted::Planted::default()
        }),
    };
    let none = IndexPlanted::default();
    vec![
        fault("HELLO counter reset", 50, IndexPlanted { counter_reset: true, ..none }),
        fault("registry forgets sessions", 200, IndexPlanted { forgets_sessions: true, ..none }),
        fault(
            "registry answers before it commits",
            300,
            IndexPlanted { answers_before_commit: true, ..none },
        ),
    ]
}
