//! A peer killed at every system call of a talk that has a bit of everything.

use harness::{
    DEADLINE, Peer, Running, eventually,
    preload::{ALL, Faults},
};

use crate::{
    people::{bodies, friends},
    sweep::sweep,
};

/// What of a round was acknowledged; that is never asked again.
#[derive(Debug, Default)]
struct Round {
    number: u64,
    queued: usize,
    sent: usize,
    in_room: bool,
    asking: Option<Running>,
    chatting: bool,
}

impl Round {
    const EACH: usize = 3;

    fn to_bob(&self, n: usize) -> String {
        format!("{} to bob {n}", self.number)
    }

    fn of_bob(&self, n: usize) -> String {
        format!("{} of bob {n}", self.number)
    }

    /// Goes on until all is done or bob's daemon is gone; tells whether all is done.
    fn run(&mut self, alice: &Peer, bob: &mut Peer) -> bool {
        while self.queued < Self::EACH {
            let (body, id) =
                (self.to_bob(self.queued), format!("a{}-{}", self.number, self.queued));
            alice.ctl(&["send", "bob", &body, "--id", &id, "--wait", "queued"]).ok();
            self.queued += 1;
        }
        eventually("bob has all, or is gone", DEADLINE, || {
            alice.outbox().is_empty() || !bob.daemon().is_running()
        });
        while self.sent < Self::EACH {
            let (body, id) = (self.of_bob(self.sent), format!("b{}-{}", self.number, self.sent));
            if bob.ctl(&["send", "alice", &body, "--id", &id]).code != Some(0) {
                return false;
            }
            self.sent += 1;
        }
        if !self.in_room {
            let (body, id) = (format!("{} in the room", self.number), format!("r{}", self.number));
            if bob.ctl(&["send", "--room", "den", &body, "--id", &id]).code != Some(0) {
                return false;
            }
            self.in_room = true;
        }
        eventually("the chat is on, or bob is gone", DEADLINE, || {
            self.chatting = self.chatting || self.asked(alice, bob);
            self.chatting || !bob.daemon().is_running()
        });
        self.chatting
    }

    /// Alice asks, bob accepts what he sees; tells whether alice's answer has come.
    fn asked(&mut self, alice: &Peer, bob: &Peer) -> bool {
        let ask = || alice.ctl_with().args(&["chat", "bob", "--request"]).spawn();
        if self.asking.get_or_insert_with(ask).is_running() {
            bob.ctl(&["accept", "alice"]);
            return false;
        }
        let answer = self.asking.take().expect("it has ended").wait();
        // While bob is away he is offline, for a chat; she asks again.
        assert!(matches!(answer.code, Some(0 | 7)), "{answer:?}");
        answer.code == Some(0)
    }
}

/// Row 2: kill -9 of peerd at any call that writes, syncs or sends, while it starts, comes online by its key,
/// receives, sends, talks in a room and accepts a chat.
#[test]
fn a_peer_killed_at_any_system_call_loses_doubles_and_reorders_nothing() {
    let Some(counting) = Faults::new() else { return };
    let counting = counting.count(ALL);
    let (_registry, [alice, mut bob]) = friends(["alice", "bob"]);
    alice.ctl(&["create-room", "den", "--access", "open"]).ok();
    bob.ctl(&["join-room", "den"]).ok();
    let mut rounds = vec![Round::default()];
    one_round(&mut rounds[0], &alice, &mut bob, &counting);
    assert!(!counting.killed());
    for (at, how) in sweep(counting.calls(), 24) {
        let faults = Faults::new().expect("built before").kill_at(at, ALL, how);
        let mut round = Round { number: at, ..Round::default() };
        one_round(&mut round, &alice, &mut bob, &faults);
        rounds.push(round);
    }

    assert!(bob.restart_in(&[]));
    check(&rounds, &alice, &bob);
}

/// Everything of all rounds is on both sides: once, in order, and nothing else.
fn check(rounds: &[Round], alice: &Peer, bob: &Peer) {
    let history = alice.history(&["bob"]);
    assert_eq!(history, bob.history(&["alice"]), "one order on both sides");
    let by = |author: &str| -> Vec<&str> {
        let of = history.iter().filter(|(from, _)| from == author);
        of.map(|(_, body)| body.as_str()).collect()
    };
    let expected = |of: fn(&Round, usize) -> String| -> Vec<String> {
        rounds.iter().flat_map(|r| (0..Round::EACH).map(move |n| of(r, n))).collect()
    };
    assert_eq!(by("alice"), expected(Round::to_bob), "alice's, in order");
    assert_eq!(by("bob"), expected(Round::of_bob), "bob's, in order");
    let in_room: Vec<String> = rounds.iter().map(|r| format!("{} in the room", r.number)).collect();
    for peer in [alice, bob] {
        assert_eq!(bodies(&peer.history(&["--room", "den"])), in_room);
    }
    for (peer, from, room) in [(bob, "alice", 0), (alice, "bob", rounds.len())] {
        let shown = peer.listen(&["--after", "0", "--type", "message", "--from", from]);
        let count = rounds.len() * Round::EACH + room;
        eventually("all were shown", DEADLINE, || shown.count() >= count);
        assert_eq!(shown.count(), count, "each was shown once");
    }
}

/// One run with faults, and what is left of it without.
fn one_round(round: &mut Round, alice: &Peer, bob: &mut Peer, faults: &Faults) {
    let done = bob.restart_in(&faults.environment()) && round.run(alice, bob);
    let when = format!("{round:?}, after {} calls", faults.calls());
    assert!(done || faults.killed(), "bob ended by no fault of ours: {when}");
    // Also after the last step, when a call that kills may still come.
    assert!(bob.restart_in(&[]), "bob starts after a kill: {when}");
    assert!(round.run(alice, bob), "{when}");
    bob.wait_online();
    // An acceptance that bob's user was never told of may be forgotten: then the chat is over, for both.
    eventually(&format!("both agree on the chat after {when}"), DEADLINE, || {
        let states = [alice, &*bob].map(chatting);
        states[0] == states[1] && matches!(states[0].as_deref(), None | Some("active"))
    });
    for peer in [alice, &*bob] {
        eventually("nothing waits", DEADLINE, || peer.outbox().is_empty());
    }
    let ended = bob.ctl(&["end", "alice"]);
    assert!(matches!(ended.code, Some(0 | 6)), "{ended:?}");
    eventually("the chat is over for both", DEADLINE, || {
        chatting(alice).is_none() && chatting(bob).is_none()
    });
    bob.stop();
}

/// The state of the chat, if there is one.
fn chatting(peer: &Peer) -> Option<String> {
    peer.status()["chats"][0]["state"].as_str().map(str::to_owned)
}
