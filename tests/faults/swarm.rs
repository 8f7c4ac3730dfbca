//! A registry that comes back to many sessions.

use std::time::{Duration, Instant};

use harness::{DEADLINE, Peer, Proxy, Registry, Swarm, eventually};

/// A debug build on a busy machine of two cores answers so many with ease. A million is for the benchmark.
const SESSIONS: usize = 2000;

/// A machine that runs other tests takes longer than a HELLO needs.
const SLACK: Duration = Duration::from_secs(3);

/// Row 9: all are online again within one interval, by HELLO alone: no connection, no password.
#[test]
fn thousands_of_sessions_are_online_again_within_one_interval_of_a_restart() {
    let mut registry = Registry::start_with(&[], "info");
    let swarm = Swarm::start(&mut registry, SESSIONS);
    let proxy = Proxy::start(&registry);
    let alice = Peer::start("alice");
    alice.create_account(proxy.address()).ok();
    let session = alice.login(&[]).ok();
    let interval = session["hello_interval_ms"].as_u64().map(Duration::from_millis);
    let interval = interval.expect("an interval");
    eventually("all are online", DEADLINE, || swarm.online() == SESSIONS);
    let last = swarm.names().last().expect("there are some").to_string();
    eventually("the registry says so", DEADLINE, || alice.presence_of(&last) == "online");

    registry.kill();
    let (connections, logins) = (proxy.connections(), logins(&mut registry));
    registry.restart();
    let begun = Instant::now();
    eventually("each was told of the restart, and answered since", interval + SLACK, || {
        swarm.reboots() >= SESSIONS && swarm.online() == SESSIONS
    });
    alice.wait_online();
    assert!(begun.elapsed() < interval + 2 * SLACK, "{:?}", begun.elapsed());
    assert_eq!(proxy.connections(), connections, "a real peer comes back without a connection");
    assert_eq!(alice.presence_of(&last), "online");
    assert_eq!(self::logins(&mut registry), logins, "no password was asked for");
}

fn logins(registry: &mut Registry) -> usize {
    registry.daemon().log().matches("logged in").count()
}
