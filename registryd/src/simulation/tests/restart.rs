//! What a restart keeps, and what it says while it does not know yet who is there; what a stop of the whole
//! process changes.

use super::*;

#[test]
fn a_restart_keeps_the_sessions_and_challenges() {
    let mut registry = fresh();
    let (ann, bob) = (user("ann", 1), user("bob", 2));
    ann.enrol(&mut registry, 0);
    let mut client = HelloClient::new(&bob.enrol(&mut registry, 0), 0);
    bob.hello(&mut registry, &mut client, 100);
    let mut registry = Registry::restart(&registry.disk(), 2, now(200));
    assert_eq!(ann.sees(&mut registry, &bob, 200), PresenceState::Offline, "nobody is known");
    assert_eq!(bob.hello(&mut registry, &mut client, 210), Outcome::Rebooted);
    assert_eq!(ann.sees(&mut registry, &bob, 220), PresenceState::Offline, "challenged only");
    let outcome = bob.hello(&mut registry, &mut client, 230);
    assert!(matches!(outcome, Outcome::Answered { .. }), "{outcome:?}");
    assert_eq!(ann.sees(&mut registry, &bob, 240), PresenceState::Online);
}

#[test]
fn after_a_restart_presence_is_unconfirmed_until_a_hello_or_the_end_of_the_grace() {
    let mut registry = fresh();
    let (ann, bob, cat) = (user("ann", 1), user("bob", 2), user("cat", 3));
    let mut client = HelloClient::new(&bob.enrol(&mut registry, 0), 0);
    for (user, at) in [(&ann, 0), (&cat, 10)] {
        user.enrol(&mut registry, at);
    }
    bob.hello(&mut registry, &mut client, 100);
    assert!(ann.view(&mut registry, &cat, 150).confirmed, "nobody was forgotten");
    let mut registry = Registry::restart(&registry.disk(), 2, now(200));
    let known = |registry: &mut Registry, at| {
        [&bob, &cat].map(|user| {
            let view = ann.view(registry, user, at);
            (view.presence, view.confirmed)
        })
    };
    let unknown = (PresenceState::Offline, false);
    assert_eq!(known(&mut registry, 200), [unknown, unknown]);
    bob.hello(&mut registry, &mut client, 210);
    assert_eq!(known(&mut registry, 220), [unknown, unknown], "challenged only");
    bob.hello(&mut registry, &mut client, 230);
    assert_eq!(known(&mut registry, 240), [(PresenceState::Online, true), unknown]);
    assert_eq!(
        known(&mut registry, 200 + 3_000),
        [(PresenceState::Online, true), (PresenceState::Offline, true)]
    );
}

#[test]
fn after_a_restart_another_device_waits_for_the_grace() {
    let second = user("bob", 3);
    for (no_grace, expected) in [(false, true), (true, false)] {
        let mut registry = broken(Planted { no_grace, ..Planted::default() });
        let bob = user("bob", 2);
        let mut client = HelloClient::new(&bob.enrol(&mut registry, 0), 0);
        bob.hello(&mut registry, &mut client, 100);
        let mut registry = Registry::restart(&registry.disk(), 2, now(200));
        let reply = second.login(&mut registry, 9, 300);
        assert_eq!(reply.is_err(), expected, "without grace: {no_grace}");
    }
}

/// Ann and bob, who say HELLO each second, and a registry that stands still from 10,000 to `until`.
fn stood_still(until: u64) -> (Registry, [User; 2], [HelloClient; 2]) {
    let mut registry = fresh();
    let users = [user("ann", 1), user("bob", 2)];
    let mut clients = [0, 1].map(|n| HelloClient::new(&users[n].enrol(&mut registry, 0), 0));
    for second in 1..=10 {
        for (user, client) in users.iter().zip(&mut clients) {
            user.hello(&mut registry, client, second * 1_000);
        }
        registry.tick(now(second * 1_000));
    }
    registry.stand_still(now(until));
    (registry, users, clients)
}

#[test]
fn who_was_here_when_the_registry_stopped_is_here_when_it_goes_on() {
    for until in [13_000, 20_000, 3_600_000] {
        let (mut registry, [ann, bob], [_, mut client]) = stood_still(until);
        assert_eq!(ann.sees(&mut registry, &bob, until), PresenceState::Online);
        let second = user("bob", 3);
        let refused = second.login(&mut registry, 9, until + 10).expect_err("bob is online");
        assert_eq!(refused.code, Code::AlreadyOnline);
        registry.tick(now(until + 20));
        assert_eq!(registry.inner.presence().online(), 2, "nobody was counted out");
        bob.hello(&mut registry, &mut client, until + 1_000);
        assert_eq!(ann.sees(&mut registry, &bob, until + 3_900), PresenceState::Online);
        assert_eq!(ann.sees(&mut registry, &bob, until + 4_000), PresenceState::Offline);
    }
}

#[test]
fn who_is_gone_when_the_registry_goes_on_has_the_rest_of_its_time_and_no_more() {
    let (mut registry, [ann, bob], _) = stood_still(60_000);
    assert_eq!(ann.sees(&mut registry, &bob, 60_000), PresenceState::Online);
    // Of its three seconds the stop took half of one.
    assert_eq!(ann.sees(&mut registry, &bob, 62_499), PresenceState::Online);
    assert_eq!(ann.sees(&mut registry, &bob, 62_500), PresenceState::Offline);
    user("bob", 3).login(&mut registry, 9, 62_600).expect("nobody is there");
    // Standing still again and again keeps nobody for ever.
    let (mut registry, [ann, bob], _) = stood_still(60_000);
    for stop in 1..=6 {
        registry.stand_still(now(60_000 + stop * 60_000));
        registry.tick(now(60_000 + stop * 60_000));
    }
    assert_eq!(ann.sees(&mut registry, &bob, 420_000), PresenceState::Offline);
}

#[test]
fn a_stop_within_the_grace_after_a_restart_makes_it_longer() {
    let (registry, [ann, bob], _) = stood_still(10_000);
    let mut registry = Registry::restart(&registry.disk(), 2, now(20_000));
    registry.stand_still(now(90_000));
    let confirmed = |registry: &mut Registry, at| ann.view(registry, &bob, at).confirmed;
    assert!([90_000, 92_499].iter().all(|at| !confirmed(&mut registry, *at)));
    assert!(confirmed(&mut registry, 92_500));
}
