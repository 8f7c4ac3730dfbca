//! Daemons killed all at once, again and again, and authors killed while they send.

use std::{env, thread, time::Duration};

use harness::{Chance, TALKS_WITHIN, Users, UsersOptions};
use p2pchat_history::{Outcome, Wait};

/// How many times all are killed, unless `P2P_FAULT_ROUNDS` says otherwise. The campaign runs 200.
const ROUNDS: u64 = 40;

/// How often an author dies, unless `P2P_FAULT_ROUNDS` says otherwise.
const DEATHS: u64 = 8;

/// Between two messages of a script: fast enough that something is always under way.
const EVERY: Duration = Duration::from_millis(15);

/// P6 says 2 HELLO intervals and 10 s; a machine that runs other tests takes longer.
const HEALS_WITHIN: Duration = Duration::from_secs(60);

fn rounds(default: u64) -> u64 {
    let told = env::var("P2P_FAULT_ROUNDS").ok();
    told.map_or(default, |n| n.parse().expect("P2P_FAULT_ROUNDS is a number"))
}

/// A failing run tells its seed, and runs again with it.
fn seed() -> u64 {
    let told = env::var("P2P_FAULT_SEED").ok();
    told.map_or(4, |n| n.parse().expect("P2P_FAULT_SEED is a number"))
}

/// Row 4: registryd and all peerds get kill -9 at the same moment, many times, while everybody writes to
/// everybody and to a room.
#[test]
fn all_daemons_killed_at_once_again_and_again_lose_and_double_nothing() {
    let seed = seed();
    let options = UsersOptions::new(&["ann", "ben", "cem"]).room("den", &[0, 1, 2]);
    let mut users = Users::start(&options);
    users.talk(EVERY, seed);
    users.kill_all_rounds(rounds(ROUNDS), seed, |_| ());
    users.finish();
    let judged = users.judge(&[0, 1, 2], HEALS_WITHIN);
    judged.assert_clean(&format!("seed {seed}"));
    assert!(judged.summary.accepted > 0 && judged.summary.shown > 0, "{:?}", judged.summary);
}

/// Row 12: the author gets kill -9 while it sends to a room of which some members are suspended at that
/// moment, and stays dead until the others agree.
#[test]
fn a_room_hears_all_or_nothing_of_an_author_who_dies_in_mid_send() {
    const MEMBERS: usize = 4;
    let seed = seed();
    let mut chance = Chance::of(seed);
    let options = UsersOptions::new(&["ann", "ben", "cem", "dan"]).room("den", &[0, 1, 2, 3]);
    let mut users = Users::start(&options);
    let (mut heard, mut calls) = (0, 0);
    for round in 0..rounds(DEATHS) {
        let suspended: Vec<usize> = (1..MEMBERS).filter(|_| chance.below(2) == 0).collect();
        for at in &suspended {
            users.peers[*at].daemon().freeze();
        }
        let dies_at = users.recorder().calls() + 1 + chance.below(12);
        die_in_mid_send(&mut users, round, dies_at);
        for at in &suspended {
            users.peers[*at].daemon().thaw();
        }
        let judged = users.judge(&[1, 2, 3], HEALS_WITHIN);
        judged.assert_clean(&format!("seed {seed}, round {round}, {suspended:?} suspended"));
        (heard, calls) = (judged.summary.shown, judged.summary.calls);
        users.peers[0].restart();
    }
    let judged = users.judge(&[0, 1, 2, 3], HEALS_WITHIN);
    judged.assert_clean(&format!("seed {seed}, everybody is back"));
    assert!(heard > 0 && calls > 0, "the author was heard before it died");
}

/// Ann writes to the room from three scripts at once until she is killed in the call with this number.
fn die_in_mid_send(users: &mut Users, round: u64, dies_at: u64) {
    thread::scope(|scope| {
        let ann = users.peers[0].daemon().pid();
        let users = &*users;
        for script in 0..3 {
            scope.spawn(move || {
                for n in 0u64.. {
                    let id = format!("{round}-{script}-{n}");
                    let outcome = users.say_once(0, &id, Wait::Queued);
                    if matches!(outcome, None | Some(Outcome::Crashed | Outcome::TimedOut)) {
                        return;
                    }
                }
            });
        }
        let sent = users.recorder().wait_for_calls(dies_at, TALKS_WITHIN);
        harness::kill_9(ann);
        assert!(sent, "ann could not send");
    });
    users.peers[0].kill();
}
