//! A registry killed at every system call, while others chat.

use harness::{
    DEADLINE, Peer, Registry, eventually,
    preload::{ALL, Faults},
};

use crate::{people::friends, sweep::sweep};

/// What of a round was acknowledged; that is never asked again.
#[derive(Debug, Default)]
struct Round {
    number: u64,
    done: usize,
}

impl Round {
    const STEPS: usize = 6;

    /// Goes on until all is done or the registry does not answer; tells whether all is done.
    fn run(&mut self, alice: &Peer, new: &Peer, registry: &Registry) -> bool {
        let room = format!("room-{}", self.number);
        while self.done < Self::STEPS {
            let output = match self.done {
                0 => new.create_account(&registry.address()),
                // Where nobody told it that the account was made, its profile knows no registry.
                1 => new.login(&["--registry", &registry.address()]),
                2 => new.ctl(&["create-room", &room, "--access", "open"]),
                3 => alice.ctl(&["join-room", &room]),
                4 => new.ctl(&["search", "alice"]),
                _ => new.ctl(&["logout"]),
            };
            // What was done though nobody could be told is a conflict when it is asked again.
            let done_before = output.code == Some(13) && matches!(self.done, 0 | 2 | 3);
            if output.code != Some(0) && !done_before {
                return false;
            }
            self.done += 1;
        }
        true
    }
}

/// Row 3: kill -9 of registryd at any call that writes, syncs or sends, while an account is made, logs in,
/// makes a room, is joined, searches and logs out. Two others chat all the time.
#[test]
fn a_registry_killed_at_any_system_call_forgets_nothing_and_disturbs_no_chat() {
    let Some(counting) = Faults::new() else { return };
    let counting = counting.count(ALL);
    let (mut registry, [alice, bob]) = friends(["alice", "bob"]);
    alice.chat_with(&bob);
    one_round(Round::default(), (&alice, &bob), &mut registry, &counting);
    let mut rounds = 1;
    for (at, how) in sweep(counting.calls(), 15) {
        let faults = Faults::new().expect("built before").kill_at(at, ALL, how);
        let round = Round { number: at, ..Round::default() };
        one_round(round, (&alice, &bob), &mut registry, &faults);
        rounds += 1;
    }
    let told = bob.listen(&["--after", "0"]);
    told.wait_for("the last message", |e| e["type"] == "message");
    eventually("all messages", DEADLINE, || {
        told.events().iter().filter(|e| e["type"] == "message").count() == rounds
    });
    let interrupted = told.events().into_iter().find(|e| e["type"] == "chat_interrupted");
    assert_eq!(interrupted, None, "the chat did not notice");
}

/// One run with faults, and what is left of it without.
fn one_round(
    mut round: Round,
    (alice, bob): (&Peer, &Peer),
    registry: &mut Registry,
    faults: &Faults,
) {
    let new = Peer::start(&format!("user{}", round.number));
    let ready = registry.restart_in(&faults.environment());
    let done = ready && round.run(alice, &new, registry);
    alice.ctl(&["send", bob.name(), &format!("in round {}", round.number)]).ok();
    if !done {
        assert!(faults.killed(), "the registry ended by no fault of ours: {round:?}");
        registry.restart();
        eventually(&format!("the rest of {round:?}"), DEADLINE, || {
            round.run(alice, &new, registry)
        });
    }
    let room = format!("room-{}", round.number);
    eventually("alice is a member", DEADLINE, || {
        let members = alice.ctl(&["members", &room]).ok();
        let names = members["members"].as_array().expect("a list");
        names.len() == 2 && members["owner"] == new.name()
    });
    assert_eq!(new.status()["session"], "logged_out");
    for peer in [alice, bob] {
        eventually("they are online as before", DEADLINE, || peer.status()["session"] == "online");
    }
}
