//! Disks on which a sync never returns.

use std::time::Duration;

use harness::preload::Faults;

use crate::people::friends;

/// What the daemons promise: a store that does not answer for a minute ends them. And some time to end.
const HUNG_WITHIN: Duration = Duration::from_secs(150);

/// Row 27: a sync of a peer never returns.
#[test]
fn a_peer_whose_disk_hangs_ends_by_itself() {
    let Some(faults) = Faults::new() else { return };
    let (_registry, [alice, mut bob]) = friends(["alice", "bob"]);
    assert!(bob.restart_in(&faults.environment()));
    bob.ctl(&["send", "alice", "before"]).ok();
    faults.set_hanging(true);
    let mut hanging =
        bob.ctl_with().args(&["send", "alice", "in the fault", "--id", "one"]).spawn();
    let status = bob.daemon().wait_for_end(HUNG_WITHIN);
    assert!(!status.success(), "{status}");
    hanging.kill();
    assert!(bob.restart_in(&[]));
    bob.ctl(&["send", "alice", "in the fault", "--id", "one"]).ok();
    let heard: Vec<String> = alice.history(&["bob"]).into_iter().map(|(_, body)| body).collect();
    assert_eq!(heard, ["before", "in the fault"]);
}

/// Row 27: a sync of the registry never returns.
#[test]
fn a_registry_whose_disk_hangs_ends_by_itself() {
    let Some(faults) = Faults::new() else { return };
    let (mut registry, [alice, _bob]) = friends(["alice", "bob"]);
    assert!(registry.restart_in(&faults.environment()));
    alice.ctl(&["create-room", "before"]).ok();
    faults.set_hanging(true);
    let mut hanging = alice.ctl_with().args(&["create-room", "in-the-fault"]).spawn();
    let status = registry.daemon().wait_for_end(HUNG_WITHIN);
    assert!(!status.success(), "{status}");
    hanging.kill();
    registry.restart();
    alice.wait_online();
    let rooms = alice.ctl(&["rooms"]).ok();
    assert!(rooms.to_string().contains("before"), "{rooms}");
}
