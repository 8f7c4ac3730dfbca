//! What a restart keeps, and what it says while it does not know yet who is there.

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
