//! Presence with time as an input.

use proptest::prelude::*;
use registryd_proto::hello::{Direction, HelloKey};

use super::*;

const BOOT: u64 = 77;
const BOB: AccountId = AccountId(2);
const ANN: AccountId = AccountId(1);
const PACE: Pace = Pace { interval_min_ms: 1000, hello_per_second_max: 20_000 };

fn seat(account: AccountId, epoch: u64) -> Seat {
    Seat { account, epoch, salt: [3; 16], version: 5 }
}

fn presence() -> Presence {
    let mut presence = Presence::new(BOOT, PACE, None, 0);
    presence.open(seat(BOB, 1));
    let key = HelloKey::from_bytes([1; 32]);
    presence.learn(BOB, 1, &SessionKeys { peer: key.clone(), registry: key });
    presence
}

fn listens(presence: &Presence, account: AccountId, epoch: u64) -> bool {
    let clear =
        Clear { direction: Direction::Peer, session: account.0, epoch, boot: BOOT, counter: 1 };
    presence.look_up(&clear) != Lookup::Unknown
}

fn from() -> SocketAddr {
    ([192, 0, 2, 1], 9).into()
}

fn hello(counter: u64) -> Hello {
    Hello { session: BOB.0, epoch: 1, boot: BOOT, counter, interval_ms: 1000 }
}

fn online(presence: &Presence, now_ms: u64) -> bool {
    matches!(presence.status(BOB, now_ms), Status::Online { .. })
}

#[test]
fn online_from_the_first_hello_to_three_intervals_after_the_last() {
    let mut presence = presence();
    assert!(!online(&presence, 0), "login alone is no presence");
    let said = presence.on_hello(&hello(1), from(), 100).expect("answered");
    assert_eq!((said.answer.echo, said.answer.version, said.address), (1, 5, from()));
    assert!(online(&presence, 3_099));
    assert!(!online(&presence, 3_100));
    presence.tick(5_000);
    assert_eq!(presence.online(), 0);
    assert_eq!(presence.status(BOB, 5_000), Status::Offline { last_hello_ms_ago: Some(4_900) });
}

#[test]
fn a_replay_or_an_old_epoch_changes_nothing() {
    let mut presence = presence();
    presence.on_hello(&hello(5), from(), 0).expect("answered");
    let elsewhere = ([203, 0, 113, 9], 9).into();
    for counter in [5, 4] {
        assert_eq!(presence.on_hello(&hello(counter), elsewhere, 2_000), None);
    }
    let old = Hello { epoch: 0, ..hello(9) };
    assert_eq!(presence.on_hello(&old, elsewhere, 2_000), None);
    assert!(!online(&presence, 3_000));
    let nudge = presence.nudge(BOB, 6, 2_000).expect("online");
    assert_eq!(nudge.address, from(), "a replay moves no address");
}

#[test]
fn another_boot_id_is_challenged_and_changes_nothing() {
    let mut presence = presence();
    let old = Hello { boot: 76, ..hello(900) };
    let said = presence.on_hello(&old, from(), 10).expect("challenged");
    assert_eq!((said.answer.boot, said.answer.echo), (BOOT, 900));
    assert!(!online(&presence, 10));
    assert_eq!(presence.nudge(BOB, 6, 10), None, "it is not online");
    presence.on_hello(&hello(901), from(), 11).expect("answered");
    assert!(online(&presence, 11));
    presence.on_hello(&old, from(), 3_500).expect("challenged again");
    assert!(!online(&presence, 3_500), "an old datagram brings nobody back");
}

#[test]
fn the_time_out_follows_the_largest_interval_confirmed_or_offered() {
    let mut presence = presence();
    presence.on_hello(&Hello { interval_ms: 4_000, ..hello(1) }, from(), 0).expect("answered");
    assert!(online(&presence, 11_999));
    presence.set_interval(9_000);
    presence.on_hello(&hello(2), from(), 1_000).expect("answered");
    assert!(online(&presence, 27_999), "it may use the 9 s offered just then");
    let endless = Hello { interval_ms: u32::MAX, ..hello(3) };
    presence.on_hello(&endless, from(), 2_000).expect("answered");
    assert!(!online(&presence, 2_000 + 3 * 600_000), "no peer stays for ever by saying so");
}

#[test]
fn after_a_restart_a_session_is_unknown_until_the_grace_is_over() {
    let before = Some(Duration::from_secs(2));
    let mut presence = Presence::new(BOOT, PACE, before, 1_000);
    presence.open(seat(BOB, 1));
    assert_eq!(presence.status(BOB, 2_000), Status::Unknown { grace_ms: 5_000 });
    assert_eq!(presence.status(BOB, 7_000), Status::Offline { last_hello_ms_ago: None });
    assert_eq!(presence.status(ANN, 2_000), Status::Offline { last_hello_ms_ago: None });
    assert_eq!(presence.wanted_interval_ms(6_999), None, "few are back yet");
    assert_eq!(presence.wanted_interval_ms(7_000), Some(1_000));
}

#[test]
fn the_grace_lasts_as_long_as_a_peer_may_be_silent_at_the_interval_that_it_is_offered() {
    let slow = Pace { interval_min_ms: 30_000, ..PACE };
    let mut presence = Presence::new(BOOT, slow, Some(Duration::from_secs(1)), 1_000);
    presence.open(seat(BOB, 1));
    assert_eq!(presence.interval_ms(), 30_000);
    assert_eq!(presence.status(BOB, 31_000), Status::Unknown { grace_ms: 60_000 });
    let first = Presence::new(BOOT, slow, None, 1_000);
    assert_eq!(first.status(BOB, 1_000), Status::Offline { last_hello_ms_ago: None });
}

#[test]
fn a_version_only_grows_whatever_comes_first() {
    let mut presence = presence();
    presence.nudge(BOB, 9, 0);
    presence.open(seat(BOB, 2));
    let hello = Hello { epoch: 2, ..hello(1) };
    let key = HelloKey::from_bytes([1; 32]);
    presence.learn(BOB, 2, &SessionKeys { peer: key.clone(), registry: key });
    assert_eq!(presence.on_hello(&hello, from(), 0).expect("answered").answer.version, 9);
    presence.see_version(BOB, 12);
    let hello = Hello { counter: 2, ..hello };
    let said = presence.on_hello(&hello, from(), 0).expect("answered");
    assert_eq!(said.answer.version, 12, "a sync has told it");
}

#[test]
fn who_has_no_session_waits_for_nobody_and_nobody_waits_for_who_is_gone_for_good() {
    let mut presence = presence();
    presence.open(seat(ANN, 1));
    presence.watch(ANN, BOB, 0).expect("offline");
    presence.leave(ANN, 1);
    presence.on_hello(&hello(1), from(), 0).expect("answered");
    assert_eq!(presence.take_arrived(), []);
    presence.watch(BOB, ANN, 0).expect("offline");
    presence.leave(ANN, u64::MAX);
    assert!(presence.watches_nobody(), "what is left is kept for ever");
}

#[test]
fn who_is_online_is_not_waited_for() {
    let mut presence = presence();
    presence.watch(ANN, BOB, 0).expect("offline");
    presence.on_hello(&hello(1), from(), 0).expect("answered");
    assert_eq!(presence.take_arrived(), [Arrival { watcher: ANN, user: BOB }]);
    let status = presence.watch(ANN, BOB, 10).expect("online");
    assert_eq!(status, Status::Online { last_hello_ms_ago: 10 });
    presence.on_hello(&hello(2), from(), 60_000).expect("back again");
    assert_eq!(presence.take_arrived(), []);
}

#[test]
fn an_older_epoch_never_replaces_a_newer_one() {
    let mut presence = presence();
    presence.open(seat(BOB, 3));
    presence.open(seat(BOB, 2));
    assert!(listens(&presence, BOB, 3));
    assert!(!listens(&presence, BOB, 2));
}

#[test]
fn an_end_that_comes_late_ends_no_newer_session() {
    let mut presence = presence();
    presence.open(seat(BOB, 2));
    presence.leave(BOB, 1);
    assert!(listens(&presence, BOB, 2), "a logout of the session before");
}

#[test]
fn a_session_that_ended_is_not_opened_by_what_comes_late() {
    let mut presence = presence();
    presence.leave(BOB, 2);
    presence.open(seat(BOB, 2));
    assert!(!listens(&presence, BOB, 2), "its logout was told first");
    presence.open(seat(BOB, 3));
    assert!(listens(&presence, BOB, 3), "the next login");
}

#[test]
fn the_counters_of_what_is_sent_only_grow() {
    let mut presence = presence();
    let mut last = 0;
    for counter in 1..50 {
        let said = presence.on_hello(&hello(counter), from(), counter).expect("answered");
        let nudge = presence.nudge(BOB, counter, counter).expect("online");
        assert!(last < said.answer.counter && said.answer.counter < nudge.answer.counter);
        last = nudge.answer.counter;
    }
}

proptest! {
    /// Never offline while HELLOs come in time, whatever interval is offered in between; offline three
    /// intervals after the last; and the count follows.
    #[test]
    fn presence_is_what_the_hellos_say(
        steps in proptest::collection::vec((0_u32..=100, 1_000_u32..30_000, any::<bool>()), 1..60),
    ) {
        let mut presence = presence();
        let (mut now, mut using) = (0, 1_000);
        for (counter, (early, offered, lost)) in (1..).zip(steps) {
            let said = Hello { interval_ms: using, ..hello(counter) };
            let answer = presence.on_hello(&said, from(), now).expect("answered").answer;
            if !lost {
                using = answer.interval_ms;
            }
            presence.set_interval(offered);
            let next = now + u64::from(using) * u64::from(200 - early) / 100;
            for at in [now, now.midpoint(next), next] {
                presence.tick(at);
                prop_assert!(online(&presence, at), "at {at}, using {using}");
                prop_assert_eq!(presence.online(), 1);
            }
            now = next;
        }
        let end = now + 3 * 30_000;
        presence.tick(end + 1_000);
        prop_assert!(!online(&presence, end));
        prop_assert_eq!(presence.online(), 0);
    }
}
